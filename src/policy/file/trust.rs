//! `[trust.NAME]`: whom to believe, by name.

use std::num::NonZeroUsize;

use serde::Deserialize;

use super::{PolicyError, rule};
use crate::attestation::{Transparency, Witness, Witnesses};

/// The most logs that entries can be asked of.
const MAX_LOGS: usize = 8;

/// Whom to believe, and what they must vouch for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustRule {
    /// Where the trusted root is.
    pub source: TrustSource,
    /// What must vouch for a signature.
    pub transparency: Transparency,
}

/// Where a trusted root is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TrustSource {
    /// What the command was given.
    #[default]
    Given,
    /// The public-good instance of Sigstore.
    PublicGood,
    /// The staging instance of Sigstore.
    Staging,
    /// The contents of a file that the policy names, pinned by its digest.
    Json(Vec<u8>),
    /// A TUF repository.
    Tuf {
        /// Its address.
        url: String,
        /// The `root.json` to begin with, pinned by the policy's digest.
        root: Vec<u8>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileTrust {
    trusted_root: Option<String>,
    tuf: Option<String>,
    tuf_root: Option<String>,
    #[serde(default)]
    transparency: FileTransparency,
    logs: Option<NonZeroUsize>,
    witnesses: Option<NonZeroUsize>,
    witness_keys: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileTransparency {
    #[default]
    Rekor,
    Timestamp,
    None,
}

impl FileTrust {
    /// `read` gets the contents of a file that the policy names.
    pub(super) fn read(
        self,
        place: &str,
        mut read: impl FnMut(&str) -> Result<Vec<u8>, String>,
    ) -> Result<TrustRule, PolicyError> {
        let mut file = |path: &str| read(path).map_err(|why| rule(place, why));
        let source = match (self.trusted_root, self.tuf.as_deref(), self.tuf_root) {
            (None, None, None) => TrustSource::Given,
            (Some(path), None, None) => TrustSource::Json(file(&path)?),
            (None, Some("public-good"), None) => TrustSource::PublicGood,
            (None, Some("staging"), None) => TrustSource::Staging,
            (None, Some(url), Some(path)) if url.starts_with("https://") || url.starts_with("http://") => {
                TrustSource::Tuf { url: url.to_owned(), root: file(&path)? }
            }
            _ => {
                return Err(rule(
                    place,
                    "there must be `trusted_root` alone, or `tuf = \"public-good\"` or `\"staging\"`, or `tuf` \
                     with an address and `tuf_root`, or none of them",
                ));
            }
        };
        let keys = self.witness_keys.as_deref();
        let asks_witnesses = self.witnesses.is_some() || keys.is_some();
        let asks = self.logs.map(|_| "logs").or(asks_witnesses.then_some("witnesses"));
        let transparency = match (self.transparency, asks) {
            (FileTransparency::Rekor, _) => {
                let logs = self.logs.unwrap_or(NonZeroUsize::MIN);
                if logs.get() > MAX_LOGS {
                    return Err(rule(place, format!("logs: a bundle has at most {MAX_LOGS} log entries")));
                }
                let witnesses = witnesses(self.witnesses, keys).map_err(|why| rule(place, why))?;
                Transparency::Rekor { logs, witnesses }
            }
            (_, Some(asks)) => {
                return Err(rule(place, format!("{asks}: only `transparency = \"rekor\"` asks for any")));
            }
            (FileTransparency::Timestamp, None) => Transparency::Timestamp,
            (FileTransparency::None, None) => Transparency::None,
        };
        Ok(TrustRule { source, transparency })
    }
}

fn witnesses(wanted: Option<NonZeroUsize>, keys: Option<&[String]>) -> Result<Witnesses, String> {
    match (wanted, keys) {
        (None, None) => Ok(Witnesses::default()),
        (None, _) | (_, None) => {
            Err("`witnesses` says how many of those in `witness_keys`: both, or none".to_owned())
        }
        (Some(wanted), Some(keys)) => {
            let known = keys.iter().map(|key| key.parse::<Witness>());
            let known = known.collect::<Result<_, _>>().map_err(|error| format!("witness_keys: {error}"))?;
            Witnesses::new(wanted, known).map_err(|error| format!("witnesses: {error}"))
        }
    }
}
