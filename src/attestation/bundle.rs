//! Sigstore bundles, version 0.3 (sigstore/protobuf-specs, `sigstore_bundle.proto`).

use sigstore_types::bundle::{
    CertificateContent, PublicKeyIdentifier, Rfc3161Timestamp, TimestampVerificationData,
    VerificationMaterialContent,
};
use sigstore_types::{
    DerCertificate, DsseEnvelope, MediaType, SignatureContent, TimestampToken, TransparencyLogEntry,
    bundle::VerificationMaterial,
};

use super::identity::Identity;
use super::key::PublicKey;
use super::statement::{PAYLOAD_TYPE, Statement};
use crate::oci::Digest;
use crate::oci::json::{self, Shape};
use crate::oci::media_type::BUNDLE;
use crate::reason::Reason;

/// The most bytes a bundle may have: 1 MiB. Real ones have 4 to 16 KiB.
pub const MAX_BYTES: usize = 1 << 20;
/// The most log entries a bundle may have.
const MAX_ENTRIES: usize = 8;
/// The most lines the checkpoint of a log entry may have: a tree head and its signatures.
const MAX_CHECKPOINT_LINES: usize = 100;
/// The most timestamps a bundle may have.
const MAX_TIMESTAMPS: usize = 32;

const RAW: Shape = Shape::Closed(&[("rawBytes", Shape::Any)]);
const ENTRY: Shape = Shape::Closed(&[
    ("logIndex", Shape::Any),
    ("logId", Shape::Closed(&[("keyId", Shape::Any)])),
    ("kindVersion", Shape::Closed(&[("kind", Shape::Any), ("version", Shape::Any)])),
    ("integratedTime", Shape::Any),
    ("inclusionPromise", Shape::Closed(&[("signedEntryTimestamp", Shape::Any)])),
    (
        "inclusionProof",
        Shape::Closed(&[
            ("logIndex", Shape::Any),
            ("rootHash", Shape::Any),
            ("treeSize", Shape::Any),
            ("hashes", Shape::Any),
            ("checkpoint", Shape::Closed(&[("envelope", Shape::Any)])),
        ]),
    ),
    ("canonicalizedBody", Shape::Any),
]);
const SIGNATURE: Shape = Shape::Closed(&[("sig", Shape::Any), ("keyid", Shape::Any)]);
const SHAPE: Shape = Shape::Closed(&[
    ("mediaType", Shape::Any),
    (
        "verificationMaterial",
        Shape::Closed(&[
            ("certificate", RAW),
            ("publicKey", Shape::Closed(&[("hint", Shape::Any)])),
            ("x509CertificateChain", Shape::Any),
            ("tlogEntries", Shape::List(&ENTRY)),
            (
                "timestampVerificationData",
                Shape::Closed(&[(
                    "rfc3161Timestamps",
                    Shape::List(&Shape::Closed(&[("signedTimestamp", Shape::Any)])),
                )]),
            ),
        ]),
    ),
    (
        "dsseEnvelope",
        Shape::Closed(&[
            ("payload", Shape::Any),
            ("payloadType", Shape::Any),
            ("signatures", Shape::List(&SIGNATURE)),
        ]),
    ),
    ("messageSignature", Shape::Any),
]);

/// A well-formed bundle around one in-toto payload, which is not read. Nothing in it is proven yet.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// As the verifier of the `sigstore-*` crates reads it.
    pub(super) inner: sigstore_types::Bundle,
    envelope: DsseEnvelope,
    holder: Holder,
    digest: Digest,
}

/// Who is said to have signed.
#[derive(Debug, Clone)]
pub(super) enum Holder {
    /// Whoever has a key, of which the bundle has a hint that proves nothing.
    Key,
    /// Whom this certificate names.
    Certificate(Identity),
}

/// A well-formed bundle that carries a statement of ours. Nothing in it is proven yet.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub(super) sealed: Sealed,
    statement: Statement,
}

impl Sealed {
    /// Reads a bundle strictly.
    ///
    /// # Errors
    /// A reason code and the detail.
    pub fn parse(bytes: &[u8]) -> Result<Self, (Reason, String)> {
        if bytes.len() > MAX_BYTES {
            return Err((Reason::BundleTooLarge, format!("the bundle has {} bytes", bytes.len())));
        }
        let malformed = |why: String| (Reason::BundleMalformed, why);
        let content = |why: &str| (Reason::BundleContent, why.to_owned());
        let value = json::parse(bytes, &SHAPE).map_err(|e| malformed(e.to_string()))?;
        // Before the typed parser decodes any of them.
        let material = &value["verificationMaterial"];
        let count = |list: &serde_json::Value| list.as_array().map_or(0, Vec::len);
        let (entries, timestamps) = (
            count(&material["tlogEntries"]),
            count(&material["timestampVerificationData"]["rfc3161Timestamps"]),
        );
        if entries > MAX_ENTRIES {
            return Err((Reason::LogTooMany, format!("the bundle has {entries} log entries")));
        }
        if timestamps > MAX_TIMESTAMPS {
            return Err((Reason::TimestampTooMany, format!("the bundle has {timestamps} timestamps")));
        }
        let lines = |entry: &serde_json::Value| {
            entry["inclusionProof"]["checkpoint"]["envelope"].as_str().map_or(0, |note| note.lines().count())
        };
        let longest = material["tlogEntries"].as_array().and_then(|all| all.iter().map(lines).max());
        if longest.is_some_and(|longest| longest > MAX_CHECKPOINT_LINES) {
            return Err((
                Reason::LogProof,
                format!("a checkpoint has more than {MAX_CHECKPOINT_LINES} lines"),
            ));
        }
        if value["mediaType"] != BUNDLE {
            return Err((Reason::BundleVersion, format!("`mediaType` is {}", value["mediaType"])));
        }
        if value.get("messageSignature").is_some() || value.get("dsseEnvelope").is_none() {
            return Err(content("there must be a DSSE envelope, and no message signature"));
        }
        if count(&value["dsseEnvelope"]["signatures"]) != 1 {
            return Err(content("the envelope must have exactly one signature"));
        }
        // A chain belongs to older versions: in this one, what is above comes from the trusted root.
        let kinds = ["certificate", "publicKey", "x509CertificateChain"];
        let kinds: Vec<&str> = kinds.into_iter().filter(|kind| material.get(*kind).is_some()).collect();
        if !matches!(kinds[..], ["certificate" | "publicKey"]) {
            let found = if kinds.is_empty() { "neither".to_owned() } else { kinds.join(" and ") };
            return Err(malformed(format!("there must be one certificate or one public key, not {found}")));
        }
        let inner: sigstore_types::Bundle =
            serde_json::from_value(value).map_err(|e| malformed(e.to_string()))?;
        let SignatureContent::DsseEnvelope(envelope) = &inner.content else {
            return Err(content("there must be a DSSE envelope"));
        };
        let envelope = envelope.clone();
        if envelope.payload_type != PAYLOAD_TYPE {
            let shown: String = envelope.payload_type.chars().take(100).collect();
            return Err((Reason::PayloadType, format!("`payloadType` is {shown:?}")));
        }
        let holder = match inner.signing_certificate() {
            Some(certificate) => Holder::Certificate(Identity::from_der(certificate.as_bytes())?),
            None => Holder::Key,
        };
        Ok(Self { inner, envelope, holder, digest: Digest::of(bytes) })
    }

    /// The digest of the bundle's bytes, by which it is named in output.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The bytes that were signed, as what they are claimed to be.
    pub fn payload(&self) -> &[u8] {
        self.envelope.payload.as_bytes()
    }

    /// Where the first log entry stands in its log, as claimed.
    pub fn log_index(&self) -> Option<u64> {
        self.inner.verification_material.tlog_entries.first().map(|entry| entry.log_index.get())
    }

    /// Who is said to have signed.
    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Whether the bundle says that `key` signed, as ours do.
    pub(super) fn hints_at(&self, key: &PublicKey) -> bool {
        match &self.inner.verification_material.content {
            VerificationMaterialContent::PublicKey(named) => named.hint == key.fingerprint().hex(),
            _ => false,
        }
    }

    /// Whether `key` made the one signature.
    pub(super) fn signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(&self.envelope.pae(), self.envelope.signature.sig.as_bytes())
    }
}

impl Bundle {
    /// Reads a bundle and its statement strictly.
    ///
    /// # Errors
    /// A reason code and the detail.
    pub fn parse(bytes: &[u8]) -> Result<Self, (Reason, String)> {
        let sealed = Sealed::parse(bytes)?;
        let statement = Statement::parse(sealed.payload())?;
        Ok(Self { sealed, statement })
    }

    /// A bundle signed with `key`, with its log entries and timestamps (DER of RFC 3161 responses).
    pub fn keyed(
        envelope: DsseEnvelope,
        key: &PublicKey,
        entries: Vec<TransparencyLogEntry>,
        timestamps: Vec<Vec<u8>>,
    ) -> sigstore_types::Bundle {
        let hint = PublicKeyIdentifier::new(key.fingerprint().hex());
        let by = VerificationMaterialContent::PublicKey(hint);
        sealed(envelope, by, entries, timestamps)
    }

    /// A bundle signed with the key of `certificate` (DER), with the same.
    pub fn certified(
        envelope: DsseEnvelope,
        certificate: Vec<u8>,
        entries: Vec<TransparencyLogEntry>,
        timestamps: Vec<Vec<u8>>,
    ) -> sigstore_types::Bundle {
        let certificate = CertificateContent::new(DerCertificate::new(certificate));
        let by = VerificationMaterialContent::Certificate(certificate);
        sealed(envelope, by, entries, timestamps)
    }

    /// The statement, as claimed.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The digest of the bundle's bytes, by which it is named in output.
    pub fn digest(&self) -> Digest {
        self.sealed.digest
    }

    /// The SHA-256 of the statement's bytes.
    pub fn payload(&self) -> Digest {
        Digest::of(self.sealed.payload())
    }

    /// Where the first log entry stands in its log, as claimed.
    pub fn log_index(&self) -> Option<u64> {
        self.sealed.log_index()
    }
}

fn sealed(
    envelope: DsseEnvelope,
    by: VerificationMaterialContent,
    entries: Vec<TransparencyLogEntry>,
    timestamps: Vec<Vec<u8>>,
) -> sigstore_types::Bundle {
    let timestamps =
        timestamps.into_iter().map(|token| Rfc3161Timestamp::new(TimestampToken::new(token))).collect();
    sigstore_types::Bundle::new(
        MediaType::Bundle0_3,
        VerificationMaterial::new(by)
            .with_tlog_entries(entries)
            .with_timestamp_verification_data(TimestampVerificationData::new(timestamps)),
        SignatureContent::DsseEnvelope(envelope),
    )
}
