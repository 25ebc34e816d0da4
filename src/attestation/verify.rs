//! From a well-formed bundle to a proven attestation.

use std::borrow::Cow;
use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sigstore_crypto::KeyAlgorithm;
use sigstore_types::{DerCertificate, DerPublicKey, KindVersion, Sha256Hash, TransparencyLogEntry};
use sigstore_verify::{
    CertificateError, Error, Policy, PublicKeyVerificationPolicy, TimestampError, TransparencyLogError,
    VerificationPolicy, VerificationResult, Verifier,
};

use super::bundle::Holder;
use super::signer::Likeness;
use super::trust::Transparency;
use super::{Bundle, Identity, MaySign, Provenance, PublicKey, Sealed, Signer, Statement, Trust, Witnesses};
use crate::oci::Digest;
use crate::reason::Reason;
use crate::text::shortened;

/// A statement whose signature, certificate, log proof and time all hold under a trust.
///
/// Only [`verify`] makes one, and [`verify_provenance`] one of another type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation<S = Statement> {
    statement: S,
    signer: Signer,
    times: Vec<Timestamp>,
    payload: Digest,
    bundle: Digest,
}

/// What is proven of a bundle, whatever its payload says: who signed, and when that was seen.
///
/// Only [`prove`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    signer: Signer,
    /// Sorted. Empty only where the trust wants no time.
    times: Vec<Timestamp>,
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
    /// Whose signature it bears, where that much holds: a certificate that is not proven names
    /// nobody.
    pub signer: Option<Signer>,
    /// The manifest it is about, where it could be read.
    pub manifest: Option<Digest>,
}

impl Proven {
    /// Who signed.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// When trusted authorities saw the signature, in order.
    pub fn times(&self) -> &[Timestamp] {
        &self.times
    }
}

impl<S> Attestation<S> {
    /// What was signed.
    pub fn statement(&self) -> &S {
        &self.statement
    }

    /// Who signed it.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The earliest verified time: when a trusted authority first saw the signature. There is none
    /// only under a trust that wants none.
    pub fn earliest(&self) -> Option<Timestamp> {
        self.times.iter().min().copied()
    }

    /// The latest verified time.
    pub fn latest(&self) -> Option<Timestamp> {
        self.times.iter().max().copied()
    }

    /// The SHA-256 of the statement's bytes as they were signed: the same in every bundle.
    pub fn payload(&self) -> Digest {
        self.payload
    }

    /// The digest of the bundle that carried it.
    pub fn bundle(&self) -> Digest {
        self.bundle
    }

    /// The verified times.
    #[cfg(test)]
    pub(crate) fn times(&self) -> &[Timestamp] {
        &self.times
    }
}

#[cfg(test)]
impl Attestation<super::Provenance> {
    /// The same of another type, by its payload.
    pub(crate) fn unproven_provenance(
        payload: &[u8],
        signer: Signer,
        times: Vec<Timestamp>,
        bundle: Digest,
    ) -> Self {
        let statement = super::Provenance::parse(payload).unwrap();
        Self { statement, signer, times, payload: Digest::of(payload), bundle }
    }
}

#[cfg(test)]
impl Attestation {
    /// An attestation that was never signed, for tests of the decision alone.
    pub(crate) fn unproven(
        statement: Statement,
        signer: Signer,
        times: Vec<Timestamp>,
        bundle: Digest,
    ) -> Self {
        let payload = Digest::of(&statement.to_payload().unwrap_or_default());
        Self { statement, signer, times, payload, bundle }
    }
}

impl Rejection {
    /// One of a bundle with this digest, of which no manifest is known.
    pub(super) fn new(bundle: Digest, (reason, detail): Refused, signer: Option<Signer>) -> Self {
        Self { bundle, reason, detail: shortened(detail), signer, manifest: None }
    }

    /// A rejection of bytes that are no bundle of ours.
    pub fn of_bytes(bytes: &[u8], why: (Reason, String)) -> Self {
        Self::new(Digest::of(bytes), why, None)
    }
}

/// Verifies one bundle against those who may have signed it, each under its own trust.
///
/// # Errors
/// Every failure is a [`Rejection`] with its reason.
pub fn verify<'a>(
    bundle: &Bundle,
    may_sign: impl IntoIterator<Item = (&'a MaySign, &'a Trust)>,
) -> Result<Attestation, Box<Rejection>> {
    let statement = bundle.statement();
    match prove(&bundle.sealed, may_sign) {
        Ok(Proven { signer, times }) => Ok(Attestation {
            statement: statement.clone(),
            signer,
            times,
            payload: bundle.payload(),
            bundle: bundle.digest(),
        }),
        Err(rejection) => Err(Box::new(Rejection { manifest: Some(statement.manifest()), ..*rejection })),
    }
}

/// The same for a statement of another type.
///
/// # Errors
/// Every failure is a [`Rejection`] with its reason.
pub fn verify_provenance<'a>(
    sealed: &Sealed,
    may_sign: impl IntoIterator<Item = (&'a MaySign, &'a Trust)>,
) -> Result<Attestation<Provenance>, Box<Rejection>> {
    let statement = Provenance::parse(sealed.payload())
        .map_err(|why| Box::new(Rejection::new(sealed.digest(), why, None)))?;
    let manifest = Some(statement.manifest);
    let Proven { signer, times } =
        prove(sealed, may_sign).map_err(|rejection| Box::new(Rejection { manifest, ..*rejection }))?;
    Ok(Attestation {
        statement,
        signer,
        times,
        payload: Digest::of(sealed.payload()),
        bundle: sealed.digest(),
    })
}

/// Proves a bundle, whatever its payload says.
///
/// Checked: the signature over the PAE; of a certificate, that it leads to an authority of the
/// very trust that its holder stands under, was transparent, and was valid, with all above it, at
/// each verified time; each log entry's inclusion proof and checkpoint, under the key and name of
/// the very log that the entry names, and that the entry's body is this signature, payload and
/// key; where the trust wants witnesses, their cosignatures; each timestamp; that at least one time
/// is verified, and each lies in the validity of the log's key.
///
/// # Errors
/// Every failure is a [`Rejection`] with its reason.
pub fn prove<'a>(
    sealed: &Sealed,
    may_sign: impl IntoIterator<Item = (&'a MaySign, &'a Trust)>,
) -> Result<Proven, Box<Rejection>> {
    let reject = |signer: Option<&Signer>, why: Refused| {
        Box::new(Rejection::new(sealed.digest(), why, signer.cloned()))
    };
    let (signer, trust) = match sealed.holder() {
        Holder::Key => {
            let keys: Vec<_> = may_sign
                .into_iter()
                .filter_map(|(may, trust)| match may {
                    MaySign::Key(key) => Some((key, trust)),
                    MaySign::Certificate(_) => None,
                })
                .collect();
            // The hint proves nothing. Where it is right, what follows checks the signature of that key,
            // and so it is not checked here as well; but anybody can give a hint, so not if that comes
            // after many timestamps.
            let stamps = &sealed.inner.verification_material.timestamp_verification_data.rfc3161_timestamps;
            let hinted = keys.iter().find(|(key, trust)| {
                stamps.len() <= 1 && trust.transparency != Transparency::None && sealed.hints_at(key)
            });
            if let Some((key, trust)) = hinted {
                let signer = Signer::Key((*key).clone());
                if let Ok(times) = times(sealed, &signer, trust) {
                    return Ok(Proven { signer, times });
                }
            }
            let signed = keys.into_iter().find(|(key, _)| sealed.signed_by(key));
            let (key, trust) = signed.ok_or_else(|| {
                reject(None, (Reason::SignerUnknown, "no known key made the signature".to_owned()))
            })?;
            (Signer::Key(key.clone()), trust)
        }
        Holder::Certificate(identity) => {
            let trust = trust_of(identity, may_sign.into_iter()).map_err(|why| reject(None, why))?;
            (Signer::Certificate(Box::new(identity.clone())), trust)
        }
    };
    let known = matches!(signer, Signer::Key(_)).then_some(&signer);
    let times = times(sealed, &signer, trust).map_err(|(reason, detail)| {
        let detail =
            if known.is_some() { detail } else { format!("{detail}; the certificate names {signer}") };
        reject(known, (reason, detail))
    })?;
    Ok(Proven { signer, times })
}

type Refused = (Reason, String);

/// The one trust under which a certificate with this identity is to be proven.
fn trust_of<'a>(
    identity: &Identity,
    may_sign: impl Iterator<Item = (&'a MaySign, &'a Trust)>,
) -> Result<&'a Trust, Refused> {
    let (mut whole, mut but, mut any) = (Vec::new(), None, false);
    for (may, trust) in may_sign {
        let MaySign::Certificate(matcher) = may else { continue };
        any = true;
        match matcher.likeness(identity) {
            Likeness::Whole => whole.push(trust),
            Likeness::But(claim) => but = but.or(Some((matcher, claim))),
            Likeness::None => {}
        }
    }
    match (&whole[..], but) {
        ([trust], _) => Ok(*trust),
        ([], _) if !any => Err((Reason::SignerKind, format!("the certificate names {identity}"))),
        ([], None) => Err((Reason::SignerUnknown, format!("the certificate names {identity}"))),
        ([], Some((matcher, claim))) => {
            let (name, wanted) = (claim.as_str(), matcher.claims.get(&claim));
            let found = identity.claim(claim).map_or("absent".to_owned(), |value| format!("{value:?}"));
            Err((
                Reason::CertificateClaims,
                format!(
                    "`{name}` is {found}, not {:?}; the certificate names {identity}",
                    wanted.map_or("", String::as_str)
                ),
            ))
        }
        _ => Err((Reason::SignerAmbiguous, format!("several may be {identity}"))),
    }
}

/// Proves what the trust wants; the verified times, sorted.
fn times(sealed: &Sealed, signer: &Signer, trust: &Trust) -> Result<Vec<Timestamp>, Refused> {
    let material = &sealed.inner.verification_material;
    let mut times = Vec::new();
    match &trust.transparency {
        Transparency::Rekor { logs: wanted, witnesses } => {
            if material.tlog_entries.is_empty() {
                return Err((Reason::LogMissing, "the bundle has no log entry".to_owned()));
            }
            // Of several entries, each is proven with one timestamp, and all timestamps once: not each
            // timestamp with each entry.
            let stamps = &material.timestamp_verification_data.rfc3161_timestamps;
            if material.tlog_entries.len() > 1 && stamps.len() > 1 {
                let all = Alone { entry: None, stamps: usize::MAX };
                times.extend(verified(sealed, signer, trust, &trust.logless, all)?.verified_timestamps());
            }
            let (stamped, mut logs) = (times.clone(), BTreeSet::new());
            for entry in &material.tlog_entries {
                times.extend(logged(sealed, signer, trust, witnesses, entry, &stamped)?);
                logs.extend(trust.log(&entry.log_id).map(|log| &log.key));
            }
            if logs.len() < wanted.get() {
                let (found, s) = (logs.len(), if logs.len() == 1 { "" } else { "s" });
                return Err((
                    Reason::LogTooFew,
                    format!("the entries are of {found} log{s}, not of {wanted}"),
                ));
            }
        }
        Transparency::Timestamp => {
            if material.timestamp_verification_data.rfc3161_timestamps.is_empty() {
                return Err(timeless());
            }
            let all = Alone { entry: None, stamps: usize::MAX };
            times.extend(verified(sealed, signer, trust, &trust.logless, all)?.verified_timestamps());
        }
        // A certificate stands for the minutes of its validity: without a time it says nothing.
        Transparency::None if matches!(signer, Signer::Certificate(_)) => return Err(timeless()),
        // The key's signature was checked when it was found.
        Transparency::None => return Ok(Vec::new()),
    }
    times.sort();
    times.dedup();
    if times.is_empty() { Err(timeless()) } else { Ok(times) }
}

fn timeless() -> Refused {
    (Reason::NoVerifiedTime, "the bundle has no verified timestamp".to_owned())
}

/// Proves one log entry and the timestamps, or one of them where all were `stamped` before; the
/// verified times.
fn logged(
    sealed: &Sealed,
    signer: &Signer,
    trust: &Trust,
    witnesses: &Witnesses,
    entry: &TransparencyLogEntry,
    stamped: &[Timestamp],
) -> Result<Vec<Timestamp>, Refused> {
    let kind = entry.kind_version;
    let is_v2 = kind == KindVersion::HashedRekordV002;
    // A `hashedrekord` of Rekor v1 is about a message; nothing says how it stands for an envelope.
    if !is_v2 && !matches!(kind, KindVersion::DsseV001 | KindVersion::IntotoV002) {
        return Err((Reason::LogEntry, format!("the entry is `{} {}`", kind.kind(), kind.version())));
    }
    let log = trust
        .log(&entry.log_id)
        .ok_or_else(|| (Reason::LogUnknown, format!("the entry is of the log `{}`", entry.log_id.key_id)))?;
    // An inclusion promise alone says what the log meant to do.
    let Some(proof) = &entry.inclusion_proof else {
        return Err((Reason::LogProof, "the entry has no inclusion proof".to_owned()));
    };
    let checkpoint = proof.checkpoint.checkpoint();
    let origin = checkpoint.map_or("nothing", sigstore_types::Checkpoint::origin);
    if !log.is_called(origin, is_v2) {
        let name = log.name();
        return Err((Reason::LogProof, format!("the checkpoint is of {origin:?}, the log is `{name}`")));
    }
    // Verifiers differ in which of these numbers they use: all must be the same. In Rekor v1 the
    // entry's index counts through all shards of the log, and the proof's through one.
    let alike = checkpoint.is_some_and(|checkpoint| {
        (checkpoint.tree_size(), checkpoint.root_hash()) == (proof.tree_size, &proof.root_hash)
    });
    if !alike || is_v2 && proof.log_index != entry.log_index {
        return Err((
            Reason::LogProof,
            "the proof is of another index, size or root than the entry and the checkpoint".to_owned(),
        ));
    }
    let stamps = if stamped.is_empty() { usize::MAX } else { 1 };
    let result = verified(sealed, signer, trust, &log.verifier, Alone { entry: Some(entry), stamps })?;
    // In Rekor v1, the verifier may take a key for a certificate that has it, and the other way round:
    // whoever watches the log for a name or a key must find it there.
    if !is_v2 && !is_under(entry, kind, signer, sealed.inner.signing_certificate()) {
        return Err((
            Reason::LogEntry,
            "the entry is not under the certificate or key of the bundle".to_owned(),
        ));
    }
    if !result.tlog_verified() {
        return Err((Reason::LogProof, "the log entry was not verified".to_owned()));
    }
    if let Some(why) = witnesses.lacking(checkpoint) {
        let (name, wanted, known) = (log.name(), witnesses.wanted(), witnesses.known().len());
        return Err((
            Reason::LogUnwitnessed,
            format!("{wanted} of {known} witnesses must have cosigned the checkpoint of `{name}`; {why}"),
        ));
    }
    // The body of such an entry claims a P-256 key, and the verifier does not compare.
    let algorithm = match signer {
        Signer::Key(key) => Some(key.algorithm()),
        Signer::Certificate(_) => result.certificate().map(|certificate| certificate.key_algorithm),
    };
    if is_v2 && algorithm != Some(KeyAlgorithm::EcdsaP256) {
        return Err((Reason::LogEntry, "the entry claims a P-256 key, and the signer's is none".to_owned()));
    }
    let times = result.verified_timestamps();
    match times.iter().chain(stamped).find(|time| !log.valid_at(**time)) {
        Some(time) => Err((Reason::LogTime, format!("the log's key was not valid at {time}"))),
        None => Ok(times.to_vec()),
    }
}

/// What the verifier is shown of a bundle.
#[derive(Clone, Copy)]
struct Alone<'a> {
    /// The one log entry, or none.
    entry: Option<&'a TransparencyLogEntry>,
    /// The most timestamps, the first of them.
    stamps: usize,
}

/// Runs the verifier of the `sigstore-*` crates over a part of the bundle.
fn verified(
    sealed: &Sealed,
    signer: &Signer,
    trust: &Trust,
    verifier: &Verifier,
    Alone { entry, stamps }: Alone<'_>,
) -> Result<VerificationResult, Refused> {
    let material = &sealed.inner.verification_material;
    let all_stamps = &material.timestamp_verification_data.rfc3161_timestamps;
    let alone = if material.tlog_entries.iter().eq(entry) && all_stamps.len() <= stamps {
        Cow::Borrowed(&sealed.inner)
    } else {
        let mut alone = sealed.inner.clone();
        alone.verification_material.tlog_entries = entry.into_iter().cloned().collect();
        alone.verification_material.timestamp_verification_data.rfc3161_timestamps.truncate(stamps);
        Cow::Owned(alone)
    };
    let subject = subject(sealed.payload())?;
    let run = |policy: &dyn Policy| {
        verifier.verify(subject, &alone, policy).map_err(|error| (reason(&error), error.to_string()))
    };
    match signer {
        Signer::Key(key) => {
            let policy = PublicKeyVerificationPolicy::new(DerPublicKey::new(key.to_der()));
            run(&if entry.is_some() { policy } else { policy.skip_tlog_unsafe() })
        }
        Signer::Certificate(_) => {
            // Who it is was matched before, and is proven by this.
            let mut policy = VerificationPolicy::any_identity();
            if entry.is_none() {
                policy = policy.skip_tlog_unsafe();
            }
            if !trust.wants_sct {
                policy = policy.skip_sct();
            }
            let result = run(&policy)?;
            if !result.certificate_verified() {
                return Err((Reason::CertificateUntrusted, "the certificate was not verified".to_owned()));
            }
            if trust.wants_sct && !result.sct_verified() {
                return Err((Reason::CertificateSct, "the certificate's SCT was not verified".to_owned()));
            }
            Ok(result)
        }
    }
}

/// The verifier wants something that the payload is about. It is any one of its subjects: which
/// subjects there may be is for the reader of the statement.
fn subject(payload: &[u8]) -> Result<Sha256Hash, Refused> {
    let ambiguous = |why: String| (Reason::SubjectAmbiguous, why);
    let payload: serde_json::Value =
        serde_json::from_slice(payload).map_err(|error| (Reason::StatementMalformed, error.to_string()))?;
    let digest = payload.pointer("/subject/0/digest/sha256").and_then(serde_json::Value::as_str);
    let digest = digest.ok_or_else(|| ambiguous("the first subject has no SHA-256".to_owned()))?;
    Sha256Hash::from_hex(digest).map_err(|error| ambiguous(error.to_string()))
}

/// Whether an entry of Rekor v1 is under this very certificate, or else key: base64 of its PEM.
fn is_under(
    entry: &TransparencyLogEntry,
    kind: KindVersion,
    signer: &Signer,
    certificate: Option<&DerCertificate>,
) -> bool {
    let (list, verifier) = match kind {
        KindVersion::IntotoV002 => ("/spec/content/envelope/signatures", "publicKey"),
        _ => ("/spec/signatures", "verifier"),
    };
    let body: Option<serde_json::Value> = serde_json::from_slice(entry.canonicalized_body.as_bytes()).ok();
    let listed = body.as_ref().and_then(|body| body.pointer(list)?.as_array());
    let Some([one]) = listed.map(Vec::as_slice) else { return false };
    let pem = one[verifier].as_str().and_then(|text| String::from_utf8(STANDARD.decode(text).ok()?).ok());
    pem.is_some_and(|pem| match signer {
        Signer::Key(key) => PublicKey::from_pem(&pem).as_ref() == Ok(key),
        Signer::Certificate(_) => {
            certificate.is_some() && DerCertificate::from_pem(&pem).ok().as_ref() == certificate
        }
    })
}

/// The reason code for what the verifier found.
fn reason(error: &Error) -> Reason {
    match error {
        Error::SignatureInvalid(_) => Reason::SignatureInvalid,
        Error::Certificate(error) => match error {
            CertificateError::NoValidAuthority { .. }
            | CertificateError::NotYetValid { .. }
            | CertificateError::Expired { .. } => Reason::CertificateTime,
            // The verifier says in words alone why a chain does not hold.
            CertificateError::ChainInvalid(why)
                if why.contains("CertNotValidYet") || why.contains("CertExpired") =>
            {
                Reason::CertificateTime
            }
            CertificateError::Sct(_) => Reason::CertificateSct,
            CertificateError::Malformed(_) => Reason::CertificateMalformed,
            _ => Reason::CertificateUntrusted,
        },
        // All that was found wrong with the root when it was read is gone: it names no such log.
        Error::InvalidTrustRoot(_) => Reason::CertificateSct,
        Error::TransparencyLog(TransparencyLogError::UnknownLog { .. }) => Reason::LogUnknown,
        Error::TransparencyLog(
            TransparencyLogError::EntryMismatch(_) | TransparencyLogError::MalformedEntry(_),
        )
        | Error::ArtifactMismatch(_)
        | Error::UnsupportedBundle(_) => Reason::LogEntry,
        // The verifier asks the clock by itself.
        Error::TransparencyLog(TransparencyLogError::IntegratedTime(_)) => Reason::TimeInFuture,
        // The verifier's structural checks on proofs come as errors of the bundle.
        Error::TransparencyLog(_) | Error::Bundle(_) => Reason::LogProof,
        Error::Timestamp(TimestampError::NoVerifiedTimestamp(_)) => Reason::NoVerifiedTime,
        Error::Timestamp(_) => Reason::TimestampInvalid,
        _ => Reason::BundleMalformed,
    }
}
