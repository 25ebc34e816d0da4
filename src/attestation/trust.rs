//! Whom to believe: logs and timestamp authorities of a Sigstore trusted root.

use std::fmt;

use jiff::Timestamp;
use sigstore_trust_root::{TimeRange, TrustedRoot};
use sigstore_types::LogId;
use sigstore_verify::Verifier;

/// A trusted root, ready for verification.
pub struct Trust {
    logs: Vec<Log>,
}

/// One trusted log. Its verifier knows this log alone, so that an entry of one log is never
/// proven by the key of another.
pub(super) struct Log {
    id: LogId,
    /// The name that the log's checkpoints begin with: its base URL without the scheme.
    pub(super) origin: String,
    valid_for: Option<TimeRange>,
    pub(super) verifier: Verifier,
}

/// Why a trusted root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Not the JSON of a trusted root.
    #[error("not a Sigstore trusted root: {0}")]
    Malformed(String),
    /// Keys, windows or chains in it are refused.
    #[error("the trusted root cannot be used: {0}")]
    Refused(#[from] sigstore_verify::Error),
    /// There is nothing in it to prove a log entry or a time with.
    #[error("the trusted root names no {0}")]
    Empty(&'static str),
}

impl Trust {
    /// Reads a trusted root (`trustedroot` v0.1 or v0.2 JSON, sigstore/protobuf-specs).
    pub fn from_json(bytes: &[u8]) -> Result<Self, TrustError> {
        let text = std::str::from_utf8(bytes).map_err(|e| TrustError::Malformed(e.to_string()))?;
        let root = TrustedRoot::from_json(text).map_err(|e| TrustError::Malformed(e.to_string()))?;
        // The whole of it must stand, not just what each log's verifier is made of.
        Verifier::new(&root)?;
        if root.timestamp_authorities.is_empty() {
            return Err(TrustError::Empty("timestamp authority"));
        }
        let logs = root
            .tlogs
            .iter()
            .map(|log| {
                let mut alone = root.clone();
                alone.tlogs = vec![log.clone()];
                Ok(Log {
                    id: log.log_id.clone(),
                    origin: origin(&log.base_url).to_owned(),
                    valid_for: log.public_key.valid_for,
                    verifier: Verifier::new(&alone)?,
                })
            })
            .collect::<Result<Vec<_>, TrustError>>()?;
        if logs.is_empty() {
            return Err(TrustError::Empty("transparency log"));
        }
        Ok(Self { logs })
    }

    /// The log with this id.
    pub(super) fn log(&self, id: &LogId) -> Option<&Log> {
        self.logs.iter().find(|log| log.id == *id)
    }
}

impl Log {
    /// Whether the log's key was valid at `time`.
    pub(super) fn valid_at(&self, time: Timestamp) -> bool {
        self.valid_for.is_none_or(|window| window.contains(time))
    }
}

fn origin(base_url: &str) -> &str {
    base_url.split_once("://").map_or(base_url, |(_, rest)| rest).trim_end_matches('/')
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("logs", &self.logs.len()).finish()
    }
}
