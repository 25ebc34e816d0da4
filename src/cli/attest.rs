//! `quorate attest`.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::BoolishValueParser;

use super::build::BuildArguments;
use super::signing::SigningArguments;
use super::trust::TrustArguments;
use super::{Finished, Global, PASSPHRASE, shown};
use crate::attestation::PublicKey;
use crate::edge::files;
use crate::edge::output::Printer;
use crate::edge::registry::Access;
use crate::edge::service::Service;
use crate::edge::signer::KeySource;
use crate::error::Error;
use crate::oci::{Reference, Slot};
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
    /// Sign even what this signer has attested before: a policy that wants young votes counts by
    /// the time of the youngest
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_AGAIN")]
    again: bool,
    /// Write the bundle to this file, too
    #[arg(long, value_name = "FILE", env = "QUORATE_BUNDLE_OUT")]
    bundle_out: Option<PathBuf>,
    /// Sign and log, and attach nothing: the bundle goes to `--bundle-out` alone
    #[arg(long, value_parser = BoolishValueParser::new(), requires = "bundle_out", env = "QUORATE_NO_ATTACH")]
    no_attach: bool,
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
        let trust = self.trust.load(&registry, global, printer).await?;
        let warn = |text: &str| printer.talk(&format!("warning: {text}"));
        let reports = if let Some(path) = &self.bundle {
            let request = self.signed(path)?;
            registry.announce(&self.image.repository, Access::Push)?;
            vec![attach_signed(&registry, &trust, &request, warn).await?]
        } else {
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
                slot: self.slot.clone().map_or_else(|| slot_of(builder), Ok)?,
                record_dissent: self.record_dissent,
                again: self.again,
                attach: !self.no_attach,
                bundle_out: self.bundle_out.clone(),
            };
            let access = if self.no_attach { Access::Pull } else { Access::Push };
            registry.announce(&self.image.repository, access)?;
            let service = Service::new(&registry);
            let signing = Signing { hand, services: &services, service: &service, trust: &trust };
            run(&registry, &signing, &request, warn).await?
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

    /// The bundle, whose it may be, and where it is kept.
    fn signed(&self, path: &Path) -> Result<Signed, Error> {
        let policy = self.policy.as_deref().map(files::policy).transpose()?;
        let may_sign = match (&self.public_key, &policy) {
            (Some(path), _) => {
                let text = String::from_utf8_lossy(&read(path)?).into_owned();
                let key = PublicKey::from_pem(&text).map_err(|error| {
                    Error::request(format!("`{}` is not a public key", shown(path))).because(error)
                })?;
                let builder = policy.as_ref().and_then(|policy| policy.builder(&key.clone().into()));
                vec![(key.into(), builder.and_then(|builder| builder.slots.first().cloned()))]
            }
            (None, Some(policy)) => policy
                .builders()
                .iter()
                .flat_map(|builder| {
                    let slot = builder.slots.first();
                    builder.credentials.iter().map(move |c| (c.may_sign.clone(), slot.cloned()))
                })
                .collect(),
            (None, None) => {
                return Err(Error::request("nothing says who may have signed the bundle")
                    .hint("give `--public-key` or `--policy`"));
            }
        };
        Ok(Signed { image: self.image.clone(), bundle: read(path)?, may_sign, slot: self.slot.clone() })
    }
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
