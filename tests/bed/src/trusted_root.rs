use serde_json::{Value, json};

use crate::tsa::VALID_FROM;
use crate::{Fulcio, Log, RekorV1, Tsa, base64, sha256};

/// The Sigstore trusted root that vouches for these logs and authorities, and for no certificate
/// authority.
pub fn trusted_root(logs: &[&Log], tsas: &[&Tsa]) -> Value {
    keyless_root(logs, &[], tsas, &[])
}

/// The Sigstore trusted root that vouches for all of these.
pub fn keyless_root(logs: &[&Log], older: &[&RekorV1], tsas: &[&Tsa], fulcios: &[&Fulcio]) -> Value {
    let logs: Vec<Value> = logs
        .iter()
        .map(|log| transparency_log(log))
        .chain(older.iter().map(|log| ecdsa_log(&format!("https://{}", log.name()), &log.public_key())))
        .collect();
    let authorities: Vec<Value> = fulcios.iter().map(|fulcio| certificate_authority(fulcio)).collect();
    let certificate_logs: Vec<Value> = fulcios
        .iter()
        .map(|fulcio| ecdsa_log(&format!("https://ct.{}", fulcio.name()), &fulcio.authority().ct_key()))
        .collect();
    let tsas: Vec<Value> = tsas.iter().map(|tsa| timestamp_authority(tsa)).collect();
    json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": logs,
        "certificateAuthorities": authorities,
        "ctlogs": certificate_logs,
        "timestampAuthorities": tsas,
    })
}

fn transparency_log(log: &Log) -> Value {
    json!({
        // The name of a Rekor v2 log, not the place to reach it.
        "baseUrl": format!("http://{}", log.origin()),
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": base64(log.signer().public_key()),
            "keyDetails": "PKIX_ED25519",
            "validFor": {"start": VALID_FROM},
        },
        "logId": {"keyId": base64(log.signer().key_id())},
    })
}

/// A log that is named by the hash of its key alone: Rekor v1, and those of certificates.
fn ecdsa_log(url: &str, key: &[u8]) -> Value {
    json!({
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": base64(key),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": {"start": VALID_FROM},
        },
        "logId": {"keyId": base64(sha256(key))},
    })
}

fn timestamp_authority(tsa: &Tsa) -> Value {
    authority(tsa.name(), &tsa.url(), &tsa.chain())
}

fn certificate_authority(fulcio: &Fulcio) -> Value {
    authority(fulcio.name(), &fulcio.url(), &fulcio.authority().chain())
}

fn authority(name: &str, url: &str, chain: &[Vec<u8>]) -> Value {
    let chain: Vec<Value> =
        chain.iter().map(|certificate| json!({"rawBytes": base64(certificate)})).collect();
    json!({
        "subject": {"organization": "quorate-bed", "commonName": name},
        "uri": url,
        "certChain": {"certificates": chain},
        "validFor": {"start": VALID_FROM},
    })
}
