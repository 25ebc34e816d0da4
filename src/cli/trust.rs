//! Whom to believe: options of every command that verifies.

use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use futures_util::future::try_join_all;
use url::Url;

use super::attest::secure;
use super::{Global, shown};
use crate::attestation::{Trust, Trusts};
use crate::edge::files;
use crate::edge::output::Printer;
use crate::edge::registry::Registry;
use crate::edge::trust::Roots;
use crate::error::Error;
use crate::policy::{Policy, TrustRule, TrustSource};

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
    /// Whether nothing else was asked for than the public-good instance.
    pub(super) fn is_public_good(&self) -> bool {
        let own = self.trusted_root.is_some() || self.tuf_url.is_some();
        !own && matches!(self.trust, None | Some(Known::PublicGood))
    }

    /// What the options say, or the public-good instance where they say nothing.
    fn source(&self) -> Result<TrustSource, Error> {
        let read = |path: &Path, what: &str| {
            files::read(path).map_err(|error| {
                Error::undecided(format!("cannot read the {what} `{}`", shown(path))).because(error)
            })
        };
        Ok(match (&self.trusted_root, &self.tuf_url, &self.tuf_root) {
            (Some(path), ..) => TrustSource::Json(read(path, "trusted root")?),
            (_, Some(url), Some(root)) => {
                TrustSource::Tuf { url: url.to_string(), root: read(root, "TUF root")? }
            }
            _ => match self.trust {
                None | Some(Known::PublicGood) => TrustSource::PublicGood,
                Some(Known::Staging) => TrustSource::Staging,
            },
        })
    }

    /// The trust that the options ask for.
    pub(super) async fn given(
        &self,
        registry: &Registry,
        global: &Global,
        printer: Printer,
    ) -> Result<Trust, Error> {
        self.one(&TrustRule::default(), registry, global, printer).await
    }

    /// Every trust that a builder of the policy stands under.
    pub(super) async fn load(
        &self,
        policy: &Policy,
        registry: &Registry,
        global: &Global,
        printer: Printer,
    ) -> Result<Trusts, Error> {
        let loaded = policy.trusts().iter().map(|(name, rule)| async move {
            Ok::<_, Error>((name.clone(), self.one(rule, registry, global, printer).await?))
        });
        Ok(try_join_all(loaded).await?.into_iter().collect())
    }

    async fn one(
        &self,
        rule: &TrustRule,
        registry: &Registry,
        global: &Global,
        printer: Printer,
    ) -> Result<Trust, Error> {
        let given;
        let (source, what) = match &rule.source {
            TrustSource::Given => {
                given = self.source()?;
                (
                    &given,
                    self.trusted_root
                        .as_deref()
                        .map_or_else(String::new, |path| format!(" `{}`", shown(path))),
                )
            }
            source => (source, " of the policy".to_owned()),
        };
        if let TrustSource::Tuf { url, .. } = source {
            let url = Url::parse(url)
                .map_err(|error| Error::request(format!("`{url}` is not a URL")).because(error))?;
            secure(&url, &global.plain_http)?;
        }
        let note = |text: &str| printer.talk(&format!("note: {text}"));
        let bytes = Roots::new(registry, self.offline).load(source, note).await?;
        Trust::new(&bytes, rule.transparency).map_err(|error| {
            Error::undecided(format!("the trusted root{what} cannot be used")).because(error)
        })
    }
}
