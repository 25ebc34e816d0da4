//! Whom to believe: the authorities of a Sigstore trusted root, and what they must vouch for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroUsize;

use jiff::Timestamp;
use sigstore_trust_root::{CertificateAuthority, TimeRange, TrustedRoot};
use sigstore_types::{DerCertificate, LogId};
use sigstore_verify::Verifier;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::{Witness, Witnesses};

/// A trusted root, ready for verification.
pub struct Trust {
    pub(super) transparency: Transparency,
    pub(super) logs: Vec<Log>,
    /// Whether certificates must bear the promise of a certificate transparency log.
    pub(super) wants_sct: bool,
    /// Knows no log: for what is believed without one.
    pub(super) logless: Verifier,
}

/// What must vouch for a signature, besides its own key or certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transparency {
    /// Entries in logs, proven, and a verified time.
    Rekor {
        /// In how many logs, of which no two have one key.
        logs: NonZeroUsize,
        /// Who must have cosigned the checkpoint of every entry.
        witnesses: Witnesses,
    },
    /// A verified timestamp. Log entries are not looked at.
    Timestamp,
    /// Nothing. Log entries and timestamps are not looked at, and there is no verified time.
    None,
}

impl Default for Transparency {
    fn default() -> Self {
        Self::Rekor { logs: NonZeroUsize::MIN, witnesses: Witnesses::default() }
    }
}

/// Trust by name, as a policy gives its builders theirs.
#[derive(Debug, Default)]
pub struct Trusts(BTreeMap<String, Trust>);

/// One trusted log. Its verifier knows this log alone, so that an entry of one log is never
/// proven by the key of another.
pub(super) struct Log {
    pub(super) id: LogId,
    /// Its key, without what kind of key it is: a log may have several ids, and one key is one log.
    pub(super) key: Vec<u8>,
    /// What the log calls itself: its base URL without the scheme.
    name: String,
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
    /// A log would be its own witness.
    #[error("the witness `{0}` has the key of a log")]
    Witness(String),
}

impl Trusts {
    /// What a builder stands under whose policy names nothing else.
    pub const DEFAULT: &'static str = "default";

    /// The default alone.
    pub fn only(trust: Trust) -> Self {
        Self(BTreeMap::from([(Self::DEFAULT.to_owned(), trust)]))
    }

    /// The trust of that name.
    pub fn get(&self, name: &str) -> Option<&Trust> {
        self.0.get(name)
    }
}

impl FromIterator<(String, Trust)> for Trusts {
    fn from_iter<T: IntoIterator<Item = (String, Trust)>>(named: T) -> Self {
        Self(named.into_iter().collect())
    }
}

impl Trust {
    /// Reads a trusted root (`trustedroot` v0.1 or v0.2 JSON, sigstore/protobuf-specs) that wants
    /// one log entry.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TrustError> {
        Self::new(bytes, Transparency::default())
    }

    /// Reads a trusted root that wants what `transparency` says.
    pub fn new(bytes: &[u8], transparency: Transparency) -> Result<Self, TrustError> {
        let text = std::str::from_utf8(bytes).map_err(|e| TrustError::Malformed(e.to_string()))?;
        let mut root = TrustedRoot::from_json(text).map_err(|e| TrustError::Malformed(e.to_string()))?;
        for authority in &mut root.certificate_authorities {
            narrow(authority)?;
        }
        // The whole of it must stand, not just what each log's verifier is made of.
        Verifier::new(&root)?;
        let alone = |logs: &[_]| {
            let mut alone = root.clone();
            alone.tlogs = logs.to_vec();
            Verifier::new(&alone)
        };
        let logs = root
            .tlogs
            .iter()
            .map(|log| {
                let key = SubjectPublicKeyInfoRef::try_from(log.public_key.raw_bytes.as_bytes())
                    .map_err(|error| TrustError::Malformed(format!("a log's key: {error}")))?;
                Ok(Log {
                    id: log.log_id.clone(),
                    key: key.subject_public_key.raw_bytes().to_vec(),
                    name: without_scheme(&log.base_url).to_owned(),
                    valid_for: log.public_key.valid_for,
                    verifier: alone(std::slice::from_ref(log))?,
                })
            })
            .collect::<Result<Vec<_>, TrustError>>()?;
        let keys: BTreeSet<_> = logs.iter().map(|log| &log.key).collect();
        match &transparency {
            Transparency::Rekor { logs: wanted, .. } if keys.len() < wanted.get() => {
                return Err(TrustError::Empty(if logs.is_empty() {
                    "transparency log"
                } else {
                    "so many transparency logs as are asked for"
                }));
            }
            Transparency::Rekor { witnesses, .. } => {
                let is_log = |witness: &&Witness| {
                    let key = witness.key().to_der();
                    keys.iter().any(|log| key.ends_with(log))
                };
                if let Some(log) = witnesses.known().iter().find(is_log) {
                    return Err(TrustError::Witness(log.to_string()));
                }
            }
            Transparency::Timestamp if root.timestamp_authorities.is_empty() => {
                return Err(TrustError::Empty("timestamp authority"));
            }
            _ => {}
        }
        // A private authority may do without certificate transparency, as it may without a log.
        let wants_sct = matches!(transparency, Transparency::Rekor { .. }) || !root.ctlogs.is_empty();
        Ok(Self { transparency, logs, wants_sct, logless: alone(&[])? })
    }

    /// The log with this id.
    pub(super) fn log(&self, id: &LogId) -> Option<&Log> {
        self.logs.iter().find(|log| log.id == *id)
    }
}

/// Narrows an authority's window to where each of its certificates is valid: the verifier takes all
/// of them for roots, whose own validity nobody checks.
fn narrow(authority: &mut CertificateAuthority) -> Result<(), TrustError> {
    for certificate in &authority.cert_chain.certificates {
        let own = validity(&certificate.raw_bytes).map_err(TrustError::Malformed)?;
        let window = authority.valid_for.unwrap_or(own);
        let end = match (window.end, own.end) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        authority.valid_for = Some(TimeRange::new(window.start.max(own.start), end));
    }
    Ok(())
}

fn validity(certificate: &DerCertificate) -> Result<TimeRange, String> {
    let read = Certificate::from_der(certificate.as_bytes()).map_err(|error| error.to_string())?;
    let validity = read.tbs_certificate.validity;
    let time = |time: x509_cert::time::Time| {
        i64::try_from(time.to_unix_duration().as_secs())
            .map_err(|error| error.to_string())
            // RFC 5280, section 4.1.2.5: the end of the year 9999 says that there is none.
            .map(|seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
    };
    Ok(TimeRange::new(time(validity.not_before)?, Some(time(validity.not_after)?)))
}

impl Log {
    /// Whether the log's key was valid at `time`.
    pub(super) fn valid_at(&self, time: Timestamp) -> bool {
        self.valid_for.is_none_or(|window| window.contains(time))
    }

    /// Whether a checkpoint that begins with `origin` is this log's.
    ///
    /// A Rekor v2 log is called by its name. A Rekor v1 adds the id of one of its trees, which no
    /// trusted root names and each rotation changes: that it is a number is all that can be held.
    /// The log's key, which the entry names and the checkpoint is signed with, is the same for all.
    pub(super) fn is_called(&self, origin: &str, is_v2: bool) -> bool {
        if is_v2 {
            return origin == self.name;
        }
        origin
            .strip_prefix(self.name.as_str())
            .and_then(|rest| rest.strip_prefix(" - "))
            .is_some_and(|tree| !tree.is_empty() && tree.bytes().all(|b| b.is_ascii_digit()))
    }

    /// What the log calls itself.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

fn without_scheme(base_url: &str) -> &str {
    base_url.split_once("://").map_or(base_url, |(_, rest)| rest).trim_end_matches('/')
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("logs", &self.logs.len()).finish_non_exhaustive()
    }
}
