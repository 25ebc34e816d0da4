//! RFC 3161: a timestamp authority witnesses when a signature existed.

use url::Url;

use super::service::{Body, Service, refused};
use crate::error::Error;
use crate::oci::Digest;

/// A `TimeStampReq` (RFC 3161, section 2.4.1) up to the hash: version 1, SHA-256, 32 bytes.
const REQUEST: [u8; 24] = [
    0x30, 0x39, 0x02, 0x01, 0x01, 0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
    0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
];
/// What follows the hash: `certReq TRUE`. A nonce would add nothing, for the signature is new and
/// random, so that no answer to an earlier request can fit.
const CERT_REQ: [u8; 3] = [0x01, 0x01, 0xff];

/// A `TimeStampResp` over `signature`, in DER.
///
/// The token is not verified here: the finished bundle is, before it is used.
///
/// # Errors
/// When the authority cannot be reached or answers something else.
pub async fn stamp(service: &Service, url: &Url, signature: &[u8]) -> Result<Vec<u8>, Error> {
    let bytes = [&REQUEST[..], &Digest::of(signature).as_bytes()[..], &CERT_REQ[..]].concat();
    let body =
        Body { content_type: "application/timestamp-query", accept: "application/timestamp-reply", bytes };
    let answer = service.post(url, &body).await?;
    if !matches!(answer.status, 200 | 201) {
        return Err(refused(url, answer.status, &answer.bytes));
    }
    Ok(answer.bytes)
}
