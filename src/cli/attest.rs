//! `quorate attest`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use url::Url;

use super::build::BuildArguments;
use super::{Finished, Global, PASSPHRASE};
use crate::edge::files;
use crate::edge::output::Printer;
use crate::edge::registry::Access;
use crate::edge::service::Service;
use crate::edge::signer::{KeySource, Signer};
use crate::error::Error;
use crate::oci::{Reference, Slot};
use crate::ops::attest::{Request, run};
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
    #[arg(long, value_name = "FILE|env:NAME", env = "QUORATE_KEY")]
    key: KeySource,
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
    /// The Rekor v2 log
    #[arg(long, value_name = "URL", env = "QUORATE_REKOR_URL")]
    rekor_url: Url,
    /// The RFC 3161 timestamp authority
    #[arg(long, value_name = "URL", env = "QUORATE_TSA_URL")]
    tsa_url: Url,
    /// The Sigstore trusted root: the log and the authority are held to it
    #[arg(long, value_name = "FILE", env = "QUORATE_TRUSTED_ROOT")]
    trusted_root: PathBuf,
    #[command(flatten)]
    build: BuildArguments,
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global, printer: Printer) -> Result<Finished, Error> {
        let signer = Signer::load(&self.key, &self.key_passphrase_env)?;
        let trust = files::trust(&self.trusted_root)?;
        for (option, url) in [("--rekor-url", &self.rekor_url), ("--tsa-url", &self.tsa_url)] {
            secure(option, url, &global.plain_http)?;
        }
        let registry = global.registry(600)?;
        let build = self.build.build(&registry, printer).await?;
        let slot = match &self.slot {
            Some(slot) => slot.clone(),
            None => build.builder.parse().map_err(|error: crate::oci::slot::SlotError| {
                Error::request(format!("the builder's name `{}` cannot be a slot", build.builder))
                    .because(error)
                    .hint("name the slot that the policy has for the builder: `--slot SLOT`")
            })?,
        };
        registry.announce(&self.image.repository, Access::Push)?;
        let request = Request {
            image: self.image.clone(),
            build,
            slot,
            record_dissent: self.record_dissent,
            rekor: self.rekor_url.clone(),
            tsa: self.tsa_url.clone(),
        };
        let report = run(&registry, &Service::new(&registry), &signer, &trust, &request).await?;
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
fn secure(option: &str, url: &Url, plain_http: &[String]) -> Result<(), Error> {
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
