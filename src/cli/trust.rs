//! Whom to believe: options of every command that verifies.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use url::Url;

use super::Global;
use super::attest::secure;
use crate::attestation::Trust;
use crate::edge::output::Printer;
use crate::edge::registry::Registry;
use crate::edge::trust::{Instance, Roots, TrustSource};
use crate::error::Error;

/// Whose logs and timestamp authorities are believed.
#[derive(Args)]
pub(super) struct TrustArguments {
    /// The instance of Sigstore whose logs and timestamp authorities to believe; what they are is
    /// fetched from its TUF repository [default: public-good]
    #[arg(long, value_enum, value_name = "INSTANCE", env = "QUORATE_TRUST")]
    trust: Option<Known>,
    /// The Sigstore trusted root: the logs and timestamp authorities to believe, in the place of
    /// those of an instance
    #[arg(
        long,
        value_name = "FILE",
        env = "QUORATE_TRUSTED_ROOT",
        conflicts_with_all = ["trust", "tuf_url", "tuf_root"]
    )]
    trusted_root: Option<PathBuf>,
    /// A TUF repository to fetch the trusted root from; its target is `trusted_root.json`
    #[arg(
        long,
        value_name = "URL",
        env = "QUORATE_TUF_URL",
        requires = "tuf_root",
        conflicts_with = "trust"
    )]
    tuf_url: Option<Url>,
    /// A root of that repository (`root.json`), from which trust in it begins
    #[arg(long, value_name = "FILE", env = "QUORATE_TUF_ROOT", requires = "tuf_url")]
    tuf_root: Option<PathBuf>,
    /// Ask no TUF repository: believe what was fetched last, as long as it is valid, or else what
    /// is built in. The registry is asked all the same
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_OFFLINE")]
    offline: bool,
}

/// Instances of Sigstore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Known {
    /// The public-good instance
    PublicGood,
    /// The staging instance, for tries
    Staging,
}

impl TrustArguments {
    fn source(&self, global: &Global) -> Result<TrustSource, Error> {
        Ok(match (&self.trusted_root, &self.tuf_url, &self.tuf_root) {
            (Some(path), ..) => TrustSource::File(path.clone()),
            (_, Some(url), Some(root)) => {
                secure(url, &global.plain_http)?;
                TrustSource::Tuf { url: url.clone(), root: root.clone() }
            }
            _ => TrustSource::Instance(self.chosen()),
        })
    }

    /// The instance, where no other trusted root is named.
    pub(super) fn instance(&self) -> Option<Instance> {
        (self.trusted_root.is_none() && self.tuf_url.is_none()).then(|| self.chosen())
    }

    fn chosen(&self) -> Instance {
        match self.trust {
            None | Some(Known::PublicGood) => Instance::PublicGood,
            Some(Known::Staging) => Instance::Staging,
        }
    }

    /// The trust that the options ask for.
    pub(super) async fn load(
        &self,
        registry: &Registry,
        global: &Global,
        printer: Printer,
    ) -> Result<Trust, Error> {
        let note = |text: &str| printer.talk(&format!("note: {text}"));
        Roots::new(registry, self.offline).load(&self.source(global)?, note).await
    }
}
