//! `hashedrekord` entries, version 0.0.2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use der::{Decode, Encode};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;

const KEY_DETAILS: &str = "PKIX_ECDSA_P256_SHA_256";

#[derive(Deserialize)]
struct CreateEntryRequest {
    #[serde(rename = "hashedRekordRequestV002")]
    hashed_rekord: Option<HashedRekordRequest>,
}

#[derive(Deserialize)]
struct HashedRekordRequest {
    digest: String,
    signature: Signed,
}

// The fields of all that is written stand in the order of their names: that, with no space and
// nothing to escape, is the canonical form of RFC 8785.

#[derive(Serialize)]
struct Body {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    spec: Spec,
}

#[derive(Serialize)]
struct Spec {
    #[serde(rename = "hashedRekordV002")]
    hashed_rekord: HashedRekord,
}

#[derive(Serialize)]
struct HashedRekord {
    data: Data,
    signature: Signed,
}

#[derive(Serialize)]
struct Data {
    algorithm: &'static str,
    digest: String,
}

#[derive(Deserialize, Serialize)]
struct Signed {
    content: String,
    verifier: Verifier,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verifier {
    key_details: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<Raw>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x509_certificate: Option<Raw>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    raw_bytes: String,
}

/// What the log keeps of a request to create an entry; an error is why it does not.
pub(super) fn canonical_body(request: &[u8], credulous: bool) -> Result<String, String> {
    let request: CreateEntryRequest =
        serde_json::from_slice(request).map_err(|error| format!("invalid request: {error}"))?;
    let Some(request) = request.hashed_rekord else {
        return Err("invalid type, must be hashedrekord".to_owned());
    };
    if !credulous {
        check(&request).map_err(|reason| format!("invalid hashedrekord request: {reason}"))?;
    }
    let body = Body {
        api_version: "0.0.2",
        kind: "hashedrekord",
        spec: Spec {
            hashed_rekord: HashedRekord {
                data: Data { algorithm: "SHA2_256", digest: request.digest },
                signature: request.signature,
            },
        },
    };
    Ok(serde_json::to_string(&body).expect("strings have a JSON form"))
}

fn check(request: &HashedRekordRequest) -> Result<(), &'static str> {
    let digest = bytes(&request.digest)?;
    if digest.len() != 32 {
        return Err("the digest is not a SHA-256 digest");
    }
    let verifier = &request.signature.verifier;
    if verifier.key_details != KEY_DETAILS {
        return Err("unsupported key details");
    }
    let key = match (&verifier.public_key, &verifier.x509_certificate) {
        (Some(key), None) => bytes(&key.raw_bytes)?,
        (None, Some(certificate)) => Certificate::from_der(&bytes(&certificate.raw_bytes)?)
            .and_then(|c| c.tbs_certificate().subject_public_key_info().to_der())
            .map_err(|_| "the certificate is not an X.509 certificate")?,
        _ => return Err("exactly one of public key and certificate is needed"),
    };
    let key = VerifyingKey::from_public_key_der(&key).map_err(|_| "the key is not a P-256 key")?;
    let signature = Signature::from_der(&bytes(&request.signature.content)?)
        .map_err(|_| "the signature is not an ECDSA signature")?;
    key.verify_prehash(&digest, &signature).map_err(|_| "the signature does not verify")
}

fn bytes(base64: &str) -> Result<Vec<u8>, &'static str> {
    STANDARD.decode(base64).map_err(|_| "not base64")
}
