//! Sigstore bundles, version 0.3 (sigstore/protobuf-specs, `sigstore_bundle.proto`).

use sigstore_types::bundle::{
    PublicKeyIdentifier, Rfc3161Timestamp, TimestampVerificationData, VerificationMaterialContent,
};
use sigstore_types::{
    DsseEnvelope, MediaType, SignatureContent, TimestampToken, TransparencyLogEntry,
    bundle::VerificationMaterial,
};

use super::PublicKey;
use super::statement::{PAYLOAD_TYPE, Payload, Statement};
use crate::oci::Digest;
use crate::oci::json::{self, Shape};
use crate::oci::media_type::BUNDLE;
use crate::reason::Reason;

/// The most bytes a bundle may have: 1 MiB. Real ones have 4 to 16 KiB.
pub const MAX_BYTES: usize = 1 << 20;
/// The most log entries a bundle may have.
const MAX_ENTRIES: usize = 8;
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

/// A well-formed bundle that carries a statement of ours. Nothing in it is proven yet. What it
/// says is part of its type, so that nothing but a [`Statement`] can become a vote.
#[derive(Debug, Clone)]
pub struct Bundle<P = Statement> {
    /// As the verifier of the `sigstore-*` crates reads it.
    pub(super) inner: sigstore_types::Bundle,
    pub(super) envelope: DsseEnvelope,
    statement: P,
    digest: Digest,
}

impl Bundle {
    /// Reads a bundle strictly that carries a statement of a builder.
    ///
    /// # Errors
    /// A reason code and the detail.
    pub fn parse(bytes: &[u8]) -> Result<Self, (Reason, String)> {
        Self::read(bytes)
    }

    /// A bundle signed with `key`, with one log entry and one timestamp.
    pub fn keyed(
        envelope: DsseEnvelope,
        key: &PublicKey,
        entry: TransparencyLogEntry,
        timestamp: Vec<u8>,
    ) -> sigstore_types::Bundle {
        let hint = PublicKeyIdentifier::new(key.fingerprint().hex());
        let timestamps = vec![Rfc3161Timestamp::new(TimestampToken::new(timestamp))];
        sigstore_types::Bundle::new(
            MediaType::Bundle0_3,
            VerificationMaterial::new(VerificationMaterialContent::PublicKey(hint))
                .with_tlog_entries(vec![entry])
                .with_timestamp_verification_data(TimestampVerificationData::new(timestamps)),
            SignatureContent::DsseEnvelope(envelope),
        )
    }
}

impl<P: Payload> Bundle<P> {
    /// Reads a bundle strictly.
    ///
    /// # Errors
    /// A reason code and the detail.
    pub fn read(bytes: &[u8]) -> Result<Self, (Reason, String)> {
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
        if value["mediaType"] != BUNDLE {
            return Err((Reason::BundleVersion, format!("`mediaType` is {}", value["mediaType"])));
        }
        if value.get("messageSignature").is_some() || value.get("dsseEnvelope").is_none() {
            return Err(content("there must be a DSSE envelope, and no message signature"));
        }
        if count(&value["dsseEnvelope"]["signatures"]) != 1 {
            return Err(content("the envelope must have exactly one signature"));
        }
        let kinds = ["certificate", "publicKey", "x509CertificateChain"];
        if kinds.iter().filter(|kind| material.get(**kind).is_some()).count() != 1 {
            return Err(malformed("there must be exactly one of certificate and public key".to_owned()));
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
        let statement = P::parse(envelope.payload.as_bytes())?;
        Ok(Self { inner, envelope, statement, digest: Digest::of(bytes) })
    }

    /// The statement, as claimed.
    pub fn statement(&self) -> &P {
        &self.statement
    }

    /// The digest of the bundle's bytes, by which it is named in output.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The SHA-256 of the statement's bytes.
    pub fn payload(&self) -> Digest {
        Digest::of(self.envelope.payload.as_bytes())
    }

    /// Where the first log entry stands in its log, as claimed.
    pub fn log_index(&self) -> Option<u64> {
        self.inner.verification_material.tlog_entries.first().map(|entry| entry.log_index.get())
    }

    /// Whether `key` made the one signature.
    pub(super) fn signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(&self.envelope.pae(), self.envelope.signature.sig.as_bytes())
    }

    /// Whether the bundle names a public key, not a certificate.
    pub(super) fn is_keyed(&self) -> bool {
        matches!(self.inner.verification_material.content, VerificationMaterialContent::PublicKey(_))
    }
}
