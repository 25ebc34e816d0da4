//! `quorate attest`.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::BoolishValueParser;

use super::build::BuildArguments;
use super::signing::SigningArguments;
use super::trust::TrustArguments;
use super::{Finished, Global, PASSPHRASE, shown};
use crate::attestation::{MaySign, PublicKey, Trusts};
use crate::edge::files;
use crate::edge::output::Printer;
use crate::edge::registry::{Access, Registry};
use crate::edge::service::Service;
use crate::edge::signer::KeySource;
use crate::error::Error;
use crate::oci::{Reference, Repository, Slot};
use crate::ops::attest::{Request, Signed, attach_signed, run, slot_of};
use crate::ops::sign::Signing;
use crate::report::attest::{self as report, Report};

/// Sign what a builder built, log it, and attach it to the image
///
/// The build is compared with what was pushed first: the configuration must be the builder's
/// own, and every layer must be what the configuration names. Then the statement is signed,
/// logged to Rekor, timestamped, verified, and attached to the manifest of its platform.
///
/// With `--key` the builder is known by its key. Without, it is known by its CI job: the job's
/// identity token gets a certificate from Fulcio for a key that this run makes and forgets.
///
/// A builder whose build differs gets exit code 1 and both sides; `--record-dissent` signs the
/// disagreement, which blocks the release.
#[derive(Args)]
#[command(after_help = "\
Examples:
  quorate attest ghcr.io/acme/app:git-0123abc --builder garnix --key garnix.key \\
      --system x86_64-linux --result ./result \\
      --rekor-url https://rekor.example \\
      --tsa-url https://tsa.example/api/v1/timestamp --trusted-root trusted_root.json
  quorate attest ghcr.io/acme/app:git-0123abc --builder github \\
      --result x86_64-linux=./amd64 --result aarch64-linux=./arm64")]
pub(super) struct Arguments {
    /// An index, of which each system picks its image, or the image of one platform
    image: Reference,
    /// The builder's private key (PKCS#8 PEM, may be encrypted): a file, or `env:NAME` for the
    /// environment variable that holds it
    #[arg(long, value_name = "FILE|env:NAME", env = "QUORATE_KEY", hide_env_values = true)]
    key: Option<KeySource>,
    /// The environment variable that holds the passphrase of an encrypted key
    #[arg(long, value_name = "NAME", env = "QUORATE_KEY_PASSPHRASE_ENV", default_value = PASSPHRASE)]
    key_passphrase_env: String,
    /// The name under which a registry without the referrers API keeps the evidence; the
    /// builder's slot in the policy [default: the builder's name]
    #[arg(long, value_name = "SLOT", env = "QUORATE_SLOT")]
    slot: Option<Slot>,
    /// Sign that the build differs from what was pushed
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_RECORD_DISSENT")]
    record_dissent: bool,
    /// Sign even what this signer has attested before, or with `--bundle` attach it: a policy that
    /// wants young votes counts by the time of the youngest
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_AGAIN")]
    again: bool,
    /// Write the bundle to this file, too
    #[arg(long, value_name = "FILE", env = "QUORATE_BUNDLE_OUT")]
    bundle_out: Option<PathBuf>,
    /// Sign and log, and attach nothing: the bundle goes to `--bundle-out` alone
    #[arg(long, value_parser = BoolishValueParser::new(), requires = "bundle_out", env = "QUORATE_NO_ATTACH")]
    no_attach: bool,
    /// Attach to this repository, not to that of the image, of which the statement speaks all the
    /// same; `verify`, `promote` and `pack` look there with `--evidence-from`
    #[arg(long, value_name = "REPOSITORY", env = "QUORATE_ATTACH_TO", conflicts_with = "no_attach")]
    attach_to: Option<Repository>,
    /// Attach this bundle, which was signed elsewhere, after verifying it and comparing what it
    /// says with the image. Needs `--public-key` or `--policy`; nothing is signed, and the options
    /// on what was built and on signing are not looked at
    #[arg(long, value_name = "FILE", env = "QUORATE_ATTEST_BUNDLE", conflicts_with_all = ["bundle_out", "no_attach", "record_dissent"])]
    bundle: Option<PathBuf>,
    /// With `--bundle`: whose signature it must have
    #[arg(long, value_name = "FILE", env = "QUORATE_PUBLIC_KEY")]
    public_key: Option<PathBuf>,
    /// With `--bundle`: the policy, one of whose builders must have signed it
    #[arg(long, value_name = "FILE", env = "QUORATE_POLICY")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArguments,
    #[command(flatten)]
    signing: SigningArguments,
    #[command(flatten)]
    build: BuildArguments,
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global, printer: Printer) -> Result<Finished, Error> {
        let registry = global.registry(600)?;
        let store = self.attach_to.as_ref().unwrap_or(&self.image.repository);
        let reports = if let Some(path) = &self.bundle {
            vec![Box::pin(self.attach_signed(path, &registry, store, global, printer)).await?]
        } else {
            self.bundle_out.as_deref().map_or(Ok(()), writable)?;
            let trust = self.trust.load(&registry, global, printer).await?;
            let services = self.signing.services(self.trust.instance(), &global.plain_http)?;
            let hand = self.signing.hand(self.key.as_ref(), &self.key_passphrase_env, &services)?;
            let builds = self.build.builds(&registry, printer).await?;
            let several = builds.len() > 1;
            if several && (self.record_dissent || self.bundle_out.is_some()) {
                return Err(Error::request(
                    "`--record-dissent` and `--bundle-out` are for the build of one system",
                ));
            }
            let builder = self.build.builder.as_deref().unwrap_or_default();
            let request = Request {
                image: self.image.clone(),
                builds,
                store: store.clone(),
                slot: self.slot.clone().map_or_else(|| slot_of(builder), Ok)?,
                record_dissent: self.record_dissent,
                again: self.again,
                attach: !self.no_attach,
                bundle_out: self.bundle_out.clone(),
            };
            self.announce(&registry, store)?;
            let service = Service::new(&registry);
            let signing = Signing { hand, services: &services, service: &service, trust: &trust };
            run(&registry, &signing, &request, |text| warn(printer, text)).await?
        };
        let (text, json) = (report::text(&reports), report::json(&reports));
        let outputs = outputs(&reports);
        let (mut notes, mut error) = (Vec::new(), None);
        for report in reports {
            match report {
                Report::Attested(attested) => {
                    notes.extend(attested.attached.into_iter().flat_map(|attached| attached.notes));
                }
                Report::Already(_) => {}
                Report::Differs(difference) => {
                    let why = format!("the build is not what was pushed ({})", difference.reason);
                    error = Some(Error::no(why).hint(difference.hint));
                }
            }
        }
        Ok(match error {
            None => Finished { notes, outputs, ..Finished::yes(text, json) },
            Some(error) => Finished::no(text, json, error),
        })
    }

    /// Attaches a bundle that was signed elsewhere, each signer's under the trust that the policy names
    /// for it.
    async fn attach_signed(
        &self,
        path: &Path,
        registry: &Registry,
        store: &Repository,
        global: &Global,
        printer: Printer,
    ) -> Result<Report, Error> {
        let bundle = read(path)?;
        let key = self.public_key.as_deref().map(public_key).transpose()?;
        let policy = self.policy.as_deref().map(files::policy).transpose()?;
        if key.is_none() && policy.is_none() {
            return Err(Error::request("nothing says who may have signed the bundle")
                .hint("give `--public-key` or `--policy`"));
        }
        // A policy that does not know the key says nothing of it.
        let policy =
            policy.filter(|p| key.as_ref().is_none_or(|key| p.builder(&key.clone().into()).is_some()));
        self.announce(registry, store)?;
        let trusts = match &policy {
            Some(policy) => self.trust.load_for(policy, registry, global, printer).await?,
            None => Trusts::only(self.trust.load(registry, global, printer).await?),
        };
        let key = key.map(MaySign::Key);
        let may_sign = match (&policy, &key) {
            (Some(policy), key) => policy
                .may_sign(&trusts)
                .filter(|(may, _)| key.as_ref().is_none_or(|key| *may == key))
                .collect(),
            (None, key) => key.iter().zip(trusts.get(Trusts::DEFAULT)).collect(),
        };
        let request = Signed {
            image: self.image.clone(),
            bundle,
            again: self.again,
            store: store.clone(),
            may_sign,
            policy: policy.as_ref(),
            slot: self.slot.clone(),
        };
        attach_signed(registry, &request, |text| warn(printer, text)).await
    }

    /// Says what is read, and where is written.
    fn announce(&self, registry: &Registry, store: &Repository) -> Result<(), Error> {
        if *store != self.image.repository {
            registry.announce(&self.image.repository, Access::Pull)?;
        }
        registry.announce(store, if self.no_attach { Access::Pull } else { Access::Push })?;
        Ok(())
    }
}

fn warn(printer: Printer, text: &str) {
    printer.talk(&format!("warning: {text}"));
}

/// Whether there can be such a file, as far as can be told before there is something to write.
fn writable(path: &Path) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if path.is_dir() || folder.is_some_and(|folder| !folder.is_dir()) {
        return Err(Error::request(format!("the bundle cannot be written to `{}`", shown(path)))
            .hint("`--bundle-out` names a file, in a folder that is there"));
    }
    Ok(())
}

fn public_key(path: &Path) -> Result<PublicKey, Error> {
    PublicKey::from_pem(&String::from_utf8_lossy(&read(path)?))
        .map_err(|error| Error::request(format!("`{}` is not a public key", shown(path))).because(error))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    files::read(path).map_err(|error| Error::request(format!("cannot read `{}`", shown(path))).because(error))
}

/// Step outputs of a CI job; of several builds, a line each.
fn outputs(reports: &[Report]) -> Vec<(&'static str, String)> {
    let (mut manifests, mut bundles) = (Vec::new(), Vec::new());
    for report in reports {
        if let Report::Attested(attested) | Report::Already(attested) = report {
            manifests.push(attested.statement.manifest().to_string());
            bundles.push(attested.bundle.to_string());
        }
    }
    if manifests.is_empty() {
        return Vec::new();
    }
    vec![("manifest", manifests.join("\n")), ("bundle", bundles.join("\n"))]
}
