//! Whom to believe: options of every command that verifies.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use url::Url;

use super::Global;
use super::signing::secure;
use crate::attestation::{Transparency, Trust, Trusts};
use crate::edge::files;
use crate::edge::output::Printer;
use crate::edge::registry::Registry;
use crate::edge::trust::{Instance, Roots, TrustSource};
use crate::error::Error;
use crate::policy::{self, Policy};

/// Whose logs and timestamp authorities are believed.
#[derive(Args, Clone)]
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
        value_parser = super::signing::address,
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
    /// The instance that is trusted, if it is one.
    pub(super) fn instance(&self) -> Option<Instance> {
        match (&self.trusted_root, &self.tuf_url, self.trust) {
            (None, None, None | Some(Known::PublicGood)) => Some(Instance::PublicGood),
            (None, None, Some(Known::Staging)) => Some(Instance::Staging),
            _ => None,
        }
    }

    /// The same, without asking any TUF repository.
    pub(super) fn unconnected(&self) -> Self {
        Self { offline: true, ..self.clone() }
    }

    fn source(&self, global: &Global) -> Result<TrustSource, Error> {
        Ok(match (&self.trusted_root, &self.tuf_url, &self.tuf_root) {
            (Some(path), ..) => TrustSource::File(path.clone()),
            (_, Some(url), Some(root)) => {
                secure(url, &global.plain_http)?;
                let root = files::read(root).map_err(|error| {
                    Error::request(format!("cannot read the TUF root `{}`", root.display())).because(error)
                })?;
                TrustSource::Tuf { url: url.clone(), root }
            }
            _ => TrustSource::Instance(self.instance().unwrap_or(Instance::PublicGood)),
        })
    }

    /// Every trust of the policy: those that it says itself, and for the others what the options
    /// ask for.
    pub(super) async fn load_for(
        &self,
        policy: &Policy,
        registry: &Registry,
        global: &Global,
        printer: Printer,
    ) -> Result<Trusts, Error> {
        let note = |text: &str| printer.talk(&format!("note: {text}"));
        let mut named = Vec::new();
        for (name, rule) in policy.trusts() {
            let source = match &rule.source {
                policy::TrustSource::Given => self.source(global)?,
                policy::TrustSource::PublicGood => TrustSource::Instance(Instance::PublicGood),
                policy::TrustSource::Staging => TrustSource::Instance(Instance::Staging),
                policy::TrustSource::Json(bytes) => TrustSource::Json(bytes.clone()),
                policy::TrustSource::Tuf { url, root } => {
                    let url: Url = url.parse().map_err(|error| {
                        Error::request(format!("the policy's [trust.{name}] has no URL: `{url}`"))
                            .because(error)
                    })?;
                    secure(&url, &global.plain_http)?;
                    TrustSource::Tuf { url, root: root.clone() }
                }
            };
            let trust =
                Roots::new(registry, self.offline).load(&source, rule.transparency.clone(), note).await;
            named.push((name.clone(), trust?));
        }
        Ok(named.into_iter().collect())
    }

    /// The trust that the options ask for.
    pub(super) async fn load(
        &self,
        registry: &Registry,
        global: &Global,
        printer: Printer,
    ) -> Result<Trust, Error> {
        let note = |text: &str| printer.talk(&format!("note: {text}"));
        Roots::new(registry, self.offline).load(&self.source(global)?, Transparency::default(), note).await
    }
}
