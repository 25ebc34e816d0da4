//! Rekor v2: a signature is logged as `hashedrekord` 0.0.2 over the envelope's PAE.

use sigstore_crypto::sha256;
use sigstore_rekor::entry::{HashedRekordV2, RekorV2KeyDetails};
use sigstore_types::{DerPublicKey, SignatureBytes, TransparencyLogEntry};
use url::Url;

use super::service::{Body, Service, refused};
use crate::attestation::PublicKey;
use crate::error::Error;

/// Logs `signature` by `key` over `message`; the entry comes back with its inclusion proof.
/// `None` if the log has the entry already, which Rekor v2 says without giving it: a request
/// whose answer was lost had arrived. Then a new signature makes a new entry.
///
/// The entry is not verified here: the finished bundle is, before it is used.
///
/// # Errors
/// When the log cannot be reached, refuses the entry, or answers something else.
pub async fn submit(
    service: &Service,
    base: &Url,
    key: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> Result<Option<TransparencyLogEntry>, Error> {
    let url = below(base, "api/v2/log/entries")?;
    let request = HashedRekordV2::new_with_public_key(
        &sha256(message),
        &SignatureBytes::from_bytes(signature),
        &DerPublicKey::new(key.to_der()),
        RekorV2KeyDetails::PkixEcdsaP256Sha256,
    );
    let bytes = serde_json::to_vec(&request)
        .map_err(|error| Error::undecided("cannot write the log request").because(error))?;
    let body = Body { content_type: "application/json", accept: "application/json", bytes };
    let answer = service.post(&url, &body).await?;
    match answer.status {
        200 | 201 => {}
        409 => return Ok(None),
        status => return Err(refused(&url, status, &answer.bytes)),
    }
    serde_json::from_slice(&answer.bytes)
        .map(Some)
        .map_err(|error| refused(&url, answer.status, &answer.bytes).because(error))
}

/// `path` below `base`, whether or not `base` ends with a slash.
fn below(base: &Url, path: &str) -> Result<Url, Error> {
    format!("{}/{path}", base.as_str().trim_end_matches('/')).parse().map_err(|error: url::ParseError| {
        Error::request(format!("`{base}` is not the URL of a log")).because(error)
    })
}
