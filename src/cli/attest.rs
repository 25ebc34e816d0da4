//! `quorate attest`.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgGroup, Args};
use url::Url;

use super::{Finished, Global, shown};
use crate::attestation::{Build, Commit, Content};
use crate::edge::registry::Access;
use crate::edge::service::Service;
use crate::edge::signer::Signer;
use crate::edge::{files, tree};
use crate::error::Error;
use crate::nix::NarHash;
use crate::oci::{Digest, Reference, Slot, System};
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
#[command(
    group = ArgGroup::new("hash").required(true).multiple(true).args(["nar_hash", "result"]),
    after_help = "\
Example:
  quorate attest ghcr.io/acme/app:git-0123abc --builder garnix --key garnix.key \\
      --system x86_64-linux --commit \"$(git rev-parse HEAD)\" \\
      --sequence \"$(git show -s --format=%ct HEAD)\" --result ./result \\
      --config-digest sha256:9f86… --rekor-url https://rekor.example \\
      --tsa-url https://tsa.example/api/v1/timestamp --trusted-root trusted_root.json"
)]
pub(super) struct Arguments {
    /// An index, of which `--system` picks the image, or the image of one platform
    image: Reference,
    /// The builder's name in the policy
    #[arg(long, value_name = "ID", env = "QUORATE_BUILDER")]
    builder: String,
    /// The builder's private key (PKCS#8 PEM)
    #[arg(long, value_name = "FILE", env = "QUORATE_KEY")]
    key: PathBuf,
    /// The Nix system that was built for, such as `x86_64-linux`
    #[arg(long, value_name = "SYSTEM", env = "QUORATE_SYSTEM")]
    system: System,
    /// The commit that was built: 40 or 64 lower-case hex digits
    #[arg(long, value_name = "COMMIT", env = "QUORATE_COMMIT")]
    commit: Commit,
    /// The release order; by custom the committer time of the commit
    #[arg(long, value_name = "N", env = "QUORATE_SEQUENCE")]
    sequence: u64,
    /// The narHash of the built image's store path, in any form that Nix prints
    #[arg(long, value_name = "HASH", env = "QUORATE_NAR_HASH")]
    nar_hash: Option<NarHash>,
    /// The built image's store path, or a link to it; its narHash is computed
    #[arg(long, value_name = "PATH", env = "QUORATE_RESULT")]
    result: Option<PathBuf>,
    /// The digest of the image configuration that the builder computed from its own build
    #[arg(long, value_name = "DIGEST", env = "QUORATE_CONFIG_DIGEST")]
    config_digest: Digest,
    /// The repository that was built, such as `git+https://github.com/acme/app`
    #[arg(long, value_name = "URI", env = "QUORATE_SOURCE_URI")]
    source_uri: Option<String>,
    /// The git ref that was built, such as `refs/heads/main`
    #[arg(long = "ref", value_name = "REF", env = "QUORATE_REF")]
    git_ref: Option<String>,
    /// What was built, by a name that is the same for all systems: `image`, not
    /// `packages.x86_64-linux.image`
    #[arg(long, value_name = "ATTRIBUTE", env = "QUORATE_TARGET")]
    target: Option<String>,
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
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global) -> Result<Finished, Error> {
        let signer = Signer::from_file(&self.key)?;
        let trust = files::trust(&self.trusted_root)?;
        let slot = match &self.slot {
            Some(slot) => slot.clone(),
            None => self.builder.parse().map_err(|error: crate::oci::slot::SlotError| {
                Error::request(format!("the builder's name `{}` cannot be a slot", self.builder))
                    .because(error)
                    .hint("name the slot that the policy has for the builder: `--slot SLOT`")
            })?,
        };
        for (option, url) in [("--rekor-url", &self.rekor_url), ("--tsa-url", &self.tsa_url)] {
            secure(option, url, &global.plain_http)?;
        }
        if let Some(target) = self.target.as_ref().filter(|target| System::named_in(target)) {
            return Err(Error::request(format!("`--target {target}` names a system")).hint(
                "votes on all platforms of a release must name one target: leave the system out of it",
            ));
        }
        let build = Build {
            commit: self.commit.clone(),
            system: self.system,
            content: Content { nar_hash: self.nar_hash()?, config_digest: self.config_digest },
            builder: self.builder.clone(),
            sequence: self.sequence,
            source_uri: self.source_uri.clone(),
            git_ref: self.git_ref.clone(),
            target: self.target.clone(),
            built_at: None,
        };
        let registry = global.registry(600)?;
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

    /// The narHash as given, as computed, or both if they are one.
    fn nar_hash(&self) -> Result<NarHash, Error> {
        let computed = self.result.as_ref().map(|path| {
            let failed = |error| Error::request(format!("cannot hash `{}`", shown(path))).because(error);
            let real = std::fs::canonicalize(path).map_err(failed)?;
            tree::nar_hash(&real).map_err(failed)
        });
        match (self.nar_hash, computed.transpose()?) {
            (Some(given), Some(computed)) if given != computed => {
                Err(Error::request(format!("`--nar-hash` is {given}, but `--result` has {computed}")))
            }
            (_, Some(hash)) | (Some(hash), None) => Ok(hash),
            // clap requires one of the two.
            (None, None) => Err(Error::request("one of `--nar-hash` and `--result` must be given")),
        }
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
