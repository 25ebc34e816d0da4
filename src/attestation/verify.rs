//! From a well-formed bundle to a proven attestation.

use jiff::Timestamp;
use sigstore_types::{DerPublicKey, KindVersion, LogId, Sha256Hash};
use sigstore_verify::{Error, PublicKeyVerificationPolicy, TransparencyLogError};

use super::statement::Payload;
use super::{Bundle, PublicKey, Statement, Trust};
use crate::oci::Digest;
use crate::reason::Reason;

/// A statement whose signature, log proof and time all hold under a trust.
///
/// Only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation<P = Statement> {
    statement: P,
    signer: PublicKey,
    times: Vec<Timestamp>,
    payload: Digest,
    bundle: Digest,
}

/// A bundle that proves nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The digest of the bundle's bytes.
    pub bundle: Digest,
    /// Why it does not count.
    pub reason: Reason,
    /// The same in words, with what was found.
    pub detail: String,
    /// Whose signature it bears, where that much holds.
    pub signer: Option<PublicKey>,
    /// The manifest it is about, where it could be read.
    pub manifest: Option<Digest>,
}

impl<P> Attestation<P> {
    /// What was signed.
    pub fn statement(&self) -> &P {
        &self.statement
    }

    /// Whose key signed it.
    pub fn signer(&self) -> &PublicKey {
        &self.signer
    }

    /// The earliest verified time: when a trusted authority first saw the signature.
    pub fn earliest(&self) -> Timestamp {
        self.times.iter().min().copied().unwrap_or(Timestamp::MAX)
    }

    /// The latest verified time.
    pub fn latest(&self) -> Timestamp {
        self.times.iter().max().copied().unwrap_or(Timestamp::MAX)
    }

    /// The SHA-256 of the statement's bytes as they were signed: the same in every bundle.
    pub fn payload(&self) -> Digest {
        self.payload
    }

    /// The digest of the bundle that carried it.
    pub fn bundle(&self) -> Digest {
        self.bundle
    }
}

#[cfg(test)]
impl Attestation {
    /// An attestation that was never signed, for tests of the decision alone.
    pub(crate) fn unproven(
        statement: Statement,
        signer: PublicKey,
        times: Vec<Timestamp>,
        bundle: Digest,
    ) -> Self {
        let payload = Digest::of(format!("{statement:?}").as_bytes());
        Self { statement, signer, times, payload, bundle }
    }

    /// The verified times.
    pub(crate) fn times(&self) -> &[Timestamp] {
        &self.times
    }
}

impl Rejection {
    /// A rejection of bytes that are no bundle of ours.
    pub fn of_bytes(bytes: &[u8], (reason, detail): (Reason, String)) -> Self {
        Self { bundle: Digest::of(bytes), reason, detail, signer: None, manifest: None }
    }
}

/// Verifies one bundle against the keys that may have signed it, each under its own trust.
///
/// Checked: the signature over the PAE; each log entry's inclusion proof and checkpoint, under
/// the key and origin of the very log that the entry names, and that the entry's body is this
/// signature, payload and key; each timestamp; that at least one time is verified, and each lies
/// in the validity of the log's key.
///
/// # Errors
/// Every failure is a [`Rejection`] with its reason.
pub fn verify<'a, P: Payload>(
    bundle: &Bundle<P>,
    keys: impl IntoIterator<Item = (&'a PublicKey, &'a Trust)>,
) -> Result<Attestation<P>, Box<Rejection>> {
    let reject = |signer: Option<&PublicKey>, reason: Reason, detail: String| {
        Box::new(Rejection {
            bundle: bundle.digest(),
            reason,
            detail,
            signer: signer.cloned(),
            manifest: Some(bundle.statement().manifest()),
        })
    };
    if !bundle.is_keyed() {
        return Err(reject(None, Reason::SignerKind, "the bundle carries a certificate".to_owned()));
    }
    // The hint is not authenticated; the signature is.
    let (key, trust) = keys
        .into_iter()
        .find(|(key, _)| bundle.signed_by(key))
        .ok_or_else(|| reject(None, Reason::SignerUnknown, "no known key made the signature".to_owned()))?;
    let reject = |reason, detail| reject(Some(key), reason, detail);
    let times = prove(bundle, key, trust).map_err(|(reason, detail)| reject(reason, detail))?;
    if times.is_empty() {
        return Err(reject(Reason::NoVerifiedTime, "the bundle has no verified timestamp".to_owned()));
    }
    Ok(Attestation {
        statement: bundle.statement().clone(),
        signer: key.clone(),
        times,
        payload: bundle.payload(),
        bundle: bundle.digest(),
    })
}

/// Proves every log entry and timestamp; the verified times, sorted.
fn prove<P: Payload>(
    bundle: &Bundle<P>,
    key: &PublicKey,
    trust: &Trust,
) -> Result<Vec<Timestamp>, (Reason, String)> {
    let entries = &bundle.inner.verification_material.tlog_entries;
    if entries.is_empty() {
        return Err((Reason::LogMissing, "the bundle has no log entry".to_owned()));
    }
    let policy = PublicKeyVerificationPolicy::new(DerPublicKey::new(key.to_der()));
    let subject = Sha256Hash::from_hex(&bundle.statement().subject().hex())
        .map_err(|error| (Reason::SubjectAmbiguous, error.to_string()))?;
    let mut times = Vec::new();
    for entry in entries {
        if entry.kind_version != KindVersion::HashedRekordV002 {
            let kind = entry.kind_version;
            return Err((Reason::LogEntry, format!("the entry is `{} {}`", kind.kind(), kind.version())));
        }
        let log = trust.log(&entry.log_id).ok_or_else(|| (Reason::LogUnknown, unknown_log(&entry.log_id)))?;
        let origin = entry
            .inclusion_proof
            .as_ref()
            .and_then(|proof| proof.checkpoint.checkpoint())
            .map(sigstore_types::Checkpoint::origin);
        if origin != Some(log.origin.as_str()) {
            return Err((
                Reason::LogProof,
                format!(
                    "the checkpoint is of {:?}, the log is `{}`",
                    origin.unwrap_or("nothing"),
                    log.origin
                ),
            ));
        }
        let mut alone = bundle.inner.clone();
        alone.verification_material.tlog_entries = vec![entry.clone()];
        let result = log
            .verifier
            .verify(subject, &alone, &policy)
            .map_err(|error| (reason(&error), error.to_string()))?;
        if !result.tlog_verified() {
            return Err((Reason::LogProof, "the log entry was not verified".to_owned()));
        }
        for time in result.verified_timestamps() {
            if !log.valid_at(*time) {
                return Err((Reason::LogTime, format!("the log's key was not valid at {time}")));
            }
            times.push(*time);
        }
    }
    times.sort();
    times.dedup();
    Ok(times)
}

fn unknown_log(id: &LogId) -> String {
    format!("the entry is of the log `{}`", id.key_id)
}

/// The reason code for what the verifier found.
fn reason(error: &Error) -> Reason {
    match error {
        Error::SignatureInvalid(_) => Reason::SignatureInvalid,
        Error::TransparencyLog(TransparencyLogError::UnknownLog { .. }) => Reason::LogUnknown,
        Error::TransparencyLog(
            TransparencyLogError::EntryMismatch(_) | TransparencyLogError::MalformedEntry(_),
        )
        | Error::ArtifactMismatch(_) => Reason::LogEntry,
        // The verifier's structural checks on proofs come as errors of the bundle.
        Error::TransparencyLog(_) | Error::Bundle(_) => Reason::LogProof,
        Error::Timestamp(_) => Reason::TimestampInvalid,
        _ => Reason::BundleMalformed,
    }
}
