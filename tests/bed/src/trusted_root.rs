use serde_json::{Value, json};

use crate::tsa::VALID_FROM;
use crate::{Log, Tsa, base64};

/// The Sigstore trusted root that vouches for these logs and authorities, and for no certificate
/// authority.
pub fn trusted_root(logs: &[&Log], tsas: &[&Tsa]) -> Value {
    let logs: Vec<Value> = logs.iter().map(|log| transparency_log(log)).collect();
    let tsas: Vec<Value> = tsas.iter().map(|tsa| timestamp_authority(tsa)).collect();
    json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": logs,
        "certificateAuthorities": [],
        "ctlogs": [],
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

fn timestamp_authority(tsa: &Tsa) -> Value {
    let chain: Vec<Value> =
        tsa.chain().iter().map(|certificate| json!({"rawBytes": base64(certificate)})).collect();
    json!({
        "subject": {"organization": "quorate-bed", "commonName": tsa.name()},
        "uri": tsa.url(),
        "certChain": {"certificates": chain},
        "validFor": {"start": VALID_FROM},
    })
}
