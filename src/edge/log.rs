//! Rekor: the log of signatures.
//!
//! Version 2 has a signature as `hashedrekord` 0.0.2 over the envelope's PAE; version 1 has the
//! envelope as `dsse` 0.0.1, and says when it came.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sigstore_crypto::sha256;
use sigstore_rekor::entry::{HashedRekordV2, LogEntry, RekorV2KeyDetails};
use sigstore_types::{
    DerCertificate, DerPublicKey, DsseEnvelope, KindVersion, SignatureBytes, TransparencyLogEntry,
};
use url::Url;

use super::service::{Answer, Body, Service, below, refused};
use crate::attestation::PublicKey;
use crate::error::Error;

/// A log, and how to speak with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Below which its API lies.
    pub url: Url,
    /// The version of that API.
    pub version: Version,
}

/// The versions of Rekor's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Version {
    /// Entries come with a signed time
    #[value(name = "1")]
    V1,
    /// Entries have no time: a timestamp authority is needed besides
    #[value(name = "2")]
    V2,
}

/// What proves a signature, as an entry has it.
#[derive(Debug, Clone, Copy)]
pub enum By<'a> {
    /// A public key.
    Key(&'a PublicKey),
    /// A certificate, in DER.
    Certificate(&'a [u8]),
}

/// Logs an envelope; the entry comes back with its inclusion proof.
///
/// `None` if the log has the entry already and does not give it, as Rekor v2 does: a request whose
/// answer was lost had arrived. Then a new signature makes a new entry. Rekor v1 gives it.
///
/// The entry is not verified here: the finished bundle is, before it is used.
///
/// # Errors
/// When the log cannot be reached, refuses the entry, or answers something else.
pub async fn submit(
    service: &Service,
    log: &Log,
    by: By<'_>,
    envelope: &DsseEnvelope,
) -> Result<Option<TransparencyLogEntry>, Error> {
    match log.version {
        Version::V1 => dsse(service, &log.url, by, envelope).await.map(Some),
        Version::V2 => {
            hashedrekord(service, &log.url, by, &envelope.pae(), envelope.signature.sig.as_bytes()).await
        }
    }
}

/// Logs a signature over `message` in a Rekor v2, as [`submit`] does.
///
/// # Errors
/// Those of [`submit`].
pub async fn hashedrekord(
    service: &Service,
    base: &Url,
    by: By<'_>,
    message: &[u8],
    signature: &[u8],
) -> Result<Option<TransparencyLogEntry>, Error> {
    let url = below(base, "api/v2/log/entries")?;
    let (digest, details) = (sha256(message), RekorV2KeyDetails::PkixEcdsaP256Sha256);
    let signature = &SignatureBytes::from_bytes(signature);
    let request = match by {
        By::Key(key) => {
            HashedRekordV2::new_with_public_key(&digest, signature, &DerPublicKey::new(key.to_der()), details)
        }
        By::Certificate(der) => {
            let certificate = DerCertificate::new(der.to_vec());
            HashedRekordV2::new_with_certificate(&digest, signature, &certificate, details)
        }
    };
    let answer = post(service, &url, &request).await?;
    match answer.status {
        200 | 201 => {}
        409 => return Ok(None),
        status => return Err(refused(&url, status, &answer.bytes)),
    }
    serde_json::from_slice(&answer.bytes)
        .map(Some)
        .map_err(|error| refused(&url, answer.status, &answer.bytes).because(error))
}

async fn dsse(
    service: &Service,
    base: &Url,
    by: By<'_>,
    envelope: &DsseEnvelope,
) -> Result<TransparencyLogEntry, Error> {
    let url = below(base, "api/v1/log/entries")?;
    let verifier = match by {
        By::Key(key) => key.to_pem(),
        By::Certificate(der) => DerCertificate::new(der.to_vec()).to_pem(),
    };
    let unwritten = |error| Error::undecided("cannot write the log request").because(error);
    let request = json!({
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {"proposedContent": {
            "envelope": serde_json::to_string(envelope).map_err(unwritten)?,
            "verifiers": [STANDARD.encode(verifier)],
        }},
    });
    let mut answer = post(service, &url, &request).await?;
    if answer.status == 409 {
        // Only the name of the entry is taken from it: it is asked for here and nowhere else.
        let name = answer.location.as_deref().and_then(|location| location.rsplit('/').next());
        let name =
            name.filter(|name| matches!(name.len(), 64 | 80) && name.bytes().all(|b| b.is_ascii_hexdigit()));
        let name = name.ok_or_else(|| refused(&url, answer.status, &answer.bytes))?;
        answer = service.get(&below(&url, name)?, None).await?;
    }
    let odd = || refused(&url, answer.status, &answer.bytes);
    if !matches!(answer.status, 200 | 201) {
        return Err(odd());
    }
    // One entry under its name.
    let entries: HashMap<String, LogEntry> =
        serde_json::from_slice(&answer.bytes).map_err(|error| odd().because(error))?;
    let mut entries = entries.into_values();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => {
            entry.to_bundle_entry(KindVersion::DsseV001).map_err(|error| odd().because(error))
        }
        _ => Err(odd()),
    }
}

async fn post(service: &Service, url: &Url, request: &impl serde::Serialize) -> Result<Answer, Error> {
    let bytes = serde_json::to_vec(request)
        .map_err(|error| Error::undecided("cannot write the log request").because(error))?;
    service.post(url, &Body { content_type: "application/json", accept: "application/json", bytes }).await
}
