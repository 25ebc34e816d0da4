//! `quorate attest`.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::BoolishValueParser;
use url::Url;

use super::build::BuildArguments;
use super::{Finished, Global, PASSPHRASE, shown};
use crate::attestation::PublicKey;
use crate::edge::files;
use crate::edge::output::Printer;
use crate::edge::registry::Access;
use crate::edge::service::Service;
use crate::edge::signer::{KeySource, Signer};
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
/// A builder whose build differs gets exit code 1 and both sides; `--record-dissent` signs the
/// disagreement, which blocks the release.
#[derive(Args)]
#[command(after_help = "\
Example:
  quorate attest ghcr.io/acme/app:git-0123abc --builder garnix --key garnix.key \\
      --system x86_64-linux --result ./result \\
      --rekor-url https://rekor.example \\
      --tsa-url https://tsa.example/api/v1/timestamp --trusted-root trusted_root.json")]
pub(super) struct Arguments {
    /// An index, of which `--system` picks the image, or the image of one platform
    image: Reference,
    /// The builder's private key (PKCS#8 PEM, may be encrypted): a file, or `env:NAME` for the
    /// environment variable that holds it
    #[arg(long, value_name = "FILE|env:NAME", env = "QUORATE_KEY", required_unless_present = "bundle")]
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
    /// Write the bundle to this file, too
    #[arg(long, value_name = "FILE", env = "QUORATE_BUNDLE_OUT")]
    bundle_out: Option<PathBuf>,
    /// Sign and log, and attach nothing: the bundle goes to `--bundle-out` alone
    #[arg(long, value_parser = BoolishValueParser::new(), requires = "bundle_out", env = "QUORATE_NO_ATTACH")]
    no_attach: bool,
    /// Attach this bundle, which was signed elsewhere, after verifying it and comparing what it
    /// says with the image. Needs `--public-key` or `--policy`; nothing is signed, and the options
    /// on what was built and on signing are not looked at
    #[arg(long, value_name = "FILE", env = "QUORATE_BUNDLE", conflicts_with_all = ["bundle_out", "no_attach", "record_dissent"])]
    bundle: Option<PathBuf>,
    /// With `--bundle`: whose signature it must have
    #[arg(long, value_name = "FILE", env = "QUORATE_PUBLIC_KEY")]
    public_key: Option<PathBuf>,
    /// With `--bundle`: the policy, one of whose builders must have signed it
    #[arg(long, value_name = "FILE", env = "QUORATE_POLICY")]
    policy: Option<PathBuf>,
    /// The Rekor v2 log
    #[arg(long, value_name = "URL", env = "QUORATE_REKOR_URL", required_unless_present = "bundle")]
    rekor_url: Option<Url>,
    /// The RFC 3161 timestamp authority
    #[arg(long, value_name = "URL", env = "QUORATE_TSA_URL", required_unless_present = "bundle")]
    tsa_url: Option<Url>,
    /// The Sigstore trusted root: the log and the authority are held to it
    #[arg(long, value_name = "FILE", env = "QUORATE_TRUSTED_ROOT")]
    trusted_root: PathBuf,
    #[command(flatten)]
    build: BuildArguments,
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global, printer: Printer) -> Result<Finished, Error> {
        let trust = files::trust(&self.trusted_root)?;
        let registry = global.registry(600)?;
        let warn = |text: &str| printer.talk(&format!("warning: {text}"));
        let report = if let Some(path) = &self.bundle {
            let request = self.signed(path)?;
            registry.announce(&self.image.repository, Access::Push)?;
            attach_signed(&registry, &trust, &request, warn).await?
        } else {
            // clap requires the three.
            let (Some(key), Some(rekor), Some(tsa)) = (&self.key, &self.rekor_url, &self.tsa_url) else {
                return Err(Error::request("`--key`, `--rekor-url` and `--tsa-url` must be given"));
            };
            let signer = Signer::load(key, &self.key_passphrase_env)?;
            for (option, url) in [("--rekor-url", rekor), ("--tsa-url", tsa)] {
                secure(option, url, &global.plain_http)?;
            }
            let build = self.build.build(&registry, printer).await?;
            let slot = self.slot.clone().map_or_else(|| slot_of(&build.builder), Ok)?;
            let request = Request {
                image: self.image.clone(),
                build,
                slot,
                record_dissent: self.record_dissent,
                attach: !self.no_attach,
                bundle_out: self.bundle_out.clone(),
            };
            let service = Service::new(&registry);
            let signing = Signing { service, signer, rekor: rekor.clone(), tsa: tsa.clone() };
            let access = if self.no_attach { Access::Pull } else { Access::Push };
            registry.announce(&self.image.repository, access)?;
            run(&registry, &signing, &trust, &request, warn).await?
        };
        let (text, json) = (report::text(&report), report::json(&report));
        let outputs = outputs(&report);
        Ok(match report {
            Report::Attested(attested) => {
                let notes = attested.attached.map(|attached| attached.notes).unwrap_or_default();
                Finished { notes, outputs, ..Finished::yes(text, json) }
            }
            Report::Already(_) => Finished { outputs, ..Finished::yes(text, json) },
            Report::Differs(difference) => {
                let error = Error::no(format!("the build is not what was pushed ({})", difference.reason))
                    .hint(difference.hint);
                Finished::no(text, json, error)
            }
        })
    }

    /// The bundle, whose it may be, and where it is kept.
    fn signed(&self, path: &Path) -> Result<Signed, Error> {
        let read = |path: &Path| {
            files::read(path)
                .map_err(|error| Error::request(format!("cannot read `{}`", shown(path))).because(error))
        };
        let policy = self.policy.as_deref().map(files::policy).transpose()?;
        let slot = |key: &PublicKey| policy.as_ref()?.builder(key)?.slots.first().cloned();
        let keys = match (&self.public_key, &policy) {
            (Some(path), _) => {
                let text = String::from_utf8_lossy(&read(path)?).into_owned();
                let key = PublicKey::from_pem(&text).map_err(|error| {
                    Error::request(format!("`{}` is not a public key", shown(path))).because(error)
                })?;
                vec![(key.clone(), slot(&key))]
            }
            (None, Some(policy)) => policy.keys().map(|key| (key.clone(), slot(key))).collect(),
            (None, None) => {
                return Err(Error::request("nothing says who may have signed the bundle")
                    .hint("give `--public-key` or `--policy`"));
            }
        };
        Ok(Signed { image: self.image.clone(), bundle: read(path)?, keys, slot: self.slot.clone() })
    }
}

/// Step outputs of a CI job.
fn outputs(report: &Report) -> Vec<(&'static str, String)> {
    match report {
        Report::Attested(attested) | Report::Already(attested) => vec![
            ("manifest", attested.statement.manifest().to_string()),
            ("bundle", attested.bundle.to_string()),
        ],
        Report::Differs(_) => Vec::new(),
    }
}

/// https, or http to this machine or a host that the user named.
pub(super) fn secure(option: &str, url: &Url, plain_http: &[String]) -> Result<(), Error> {
    let host = url.host_str().unwrap_or_default();
    let named = || {
        let with_port = url.port().map(|port| format!("{host}:{port}"));
        plain_http.iter().any(|plain| plain == host || Some(plain) == with_port.as_ref())
    };
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if local || named() => Ok(()),
        _ => Err(Error::request(format!("`{option} {url}` is not https"))
            .hint(format!("`--plain-http {host}` allows plain http to that host"))),
    }
}
