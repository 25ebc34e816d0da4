//! A Rekor v1 transparency log.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ed25519_dalek::VerifyingKey as Ed25519Key;
use http::{HeaderValue, Method, Response, StatusCode};
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{DerSignature, Signature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::{DecodePublicKey, EncodePublicKey};
use serde_json::{Value, json};

use crate::fulcio::key_of;
use crate::log::merkle::{Hash, Tree, leaf_hash};
use crate::server::answer;
use crate::service::{self, Serve, Service};
use crate::{base64, sha256};

const ENTRIES: &str = "/api/v1/log/entries";
/// The entries of the shards before this one: an index in the log is not one in the tree.
const EARLIER: u64 = 1000;
const TREE_ID: u64 = 0x0123_4567_89ab_cdef;

/// A transparency log in memory that behaves as `rekor` 1.5 does for entries `dsse` 0.0.1 and
/// `intoto` 0.0.2, signed with P-256 or Ed25519: a real Merkle tree, a signed checkpoint, and a
/// signed promise with the time.
pub type RekorV1 = Service<State>;

pub struct State {
    name: String,
    key: SigningKey,
    time: Mutex<Option<SystemTime>>,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    tree: Tree,
    /// Body and time of each.
    kept: Vec<(String, u64)>,
}

impl RekorV1 {
    /// Starts an empty log with a key and a name of its own.
    pub fn start() -> RekorV1 {
        Service::run(State {
            name: service::name("rekor"),
            key: SigningKey::generate(),
            time: Mutex::default(),
            entries: Mutex::default(),
        })
    }

    /// The name that checkpoints begin with, before the number of the tree.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// How many entries it holds.
    pub fn size(&self) -> u64 {
        self.state.entries.lock().expect("no entry panics").tree.size()
    }

    /// Promises this time from now on; the real one again when `None`.
    pub fn set_time(&self, time: Option<SystemTime>) {
        *self.state.time.lock().expect("no entry panics") = time;
    }

    /// The public key as a DER `SubjectPublicKeyInfo`.
    pub(crate) fn public_key(&self) -> Vec<u8> {
        self.state.public_key()
    }
}

impl Serve for State {
    fn serve(&self, request: &http::Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path();
        match (request.method(), path.strip_prefix(ENTRIES)) {
            (&Method::POST, Some("")) => self.create_entry(request.body()),
            (&Method::GET, Some("")) => {
                let query = request.uri().query().unwrap_or_default();
                let index = query.strip_prefix("logIndex=").and_then(|index| index.parse::<u64>().ok());
                self.found(index.and_then(|index| index.checked_sub(EARLIER)))
            }
            (&Method::GET, Some(uuid)) => {
                // With the number of the tree before it, or without.
                let leaf = uuid.trim_start_matches('/');
                let leaf = leaf.get(leaf.len().saturating_sub(64)..).unwrap_or_default();
                let kept = self.entries.lock().expect("no entry panics");
                let index = kept.kept.iter().position(|(body, _)| hex(&leaf_hash(body.as_bytes())) == leaf);
                drop(kept);
                self.found(index.map(|index| index as u64))
            }
            _ => error(StatusCode::NOT_FOUND, "path was not found"),
        }
    }
}

impl State {
    fn public_key(&self) -> Vec<u8> {
        self.key.verifying_key().to_public_key_der().expect("a P-256 key has a DER form").into_vec()
    }

    fn found(&self, index: Option<u64>) -> Response<Bytes> {
        let entries = self.entries.lock().expect("no entry panics");
        match index.filter(|index| *index < entries.tree.size()) {
            Some(index) => {
                let (_, entry) = self.entry(&entries, index);
                answer(StatusCode::OK, "application/json", entry.to_string())
            }
            None => error(StatusCode::NOT_FOUND, "no such entry"),
        }
    }

    fn create_entry(&self, request: &[u8]) -> Response<Bytes> {
        let body = match body(request) {
            Ok(body) => body,
            Err(why) => return error(StatusCode::BAD_REQUEST, &format!("error processing entry: {why}")),
        };
        let leaf = leaf_hash(body.as_bytes());
        let mut entries = self.entries.lock().expect("no entry panics");
        if entries.tree.find(&leaf).is_some() {
            let uuid = uuid(&leaf);
            let mut response = error(
                StatusCode::CONFLICT,
                &format!("an equivalent entry already exists in the transparency log with UUID {uuid}"),
            );
            let location = HeaderValue::try_from(format!("{ENTRIES}/{uuid}")).expect("hex in a path");
            response.headers_mut().insert(http::header::LOCATION, location);
            return response;
        }
        let time = self.time.lock().expect("no entry panics").unwrap_or_else(SystemTime::now);
        let time = time.duration_since(UNIX_EPOCH).expect("it is past 1970").as_secs();
        let index = entries.tree.add(leaf);
        entries.kept.push((body, time));
        let (uuid, entry) = self.entry(&entries, index);
        let mut response = answer(StatusCode::CREATED, "application/json", entry.to_string());
        let location = HeaderValue::try_from(format!("{ENTRIES}/{uuid}")).expect("hex in a path");
        response.headers_mut().insert(http::header::LOCATION, location);
        response
    }

    /// The uuid of an entry, and what the log answers about it.
    fn entry(&self, entries: &Entries, index: u64) -> (String, Value) {
        let (body, time) = &entries.kept[usize::try_from(index).expect("entries in memory")];
        let uuid = uuid(&leaf_hash(body.as_bytes()));
        let body = base64(body);
        let log_id = hex(&sha256(&self.public_key()));
        let root = entries.tree.root();
        let hashes: Vec<String> = entries.tree.inclusion_proof(index).iter().map(|hash| hex(hash)).collect();
        let log_index = index + EARLIER;
        // Its fields stand in the order of their names: that is the canonical form (RFC 8785).
        let promised = format!(
            r#"{{"body":"{body}","integratedTime":{time},"logID":"{log_id}","logIndex":{log_index}}}"#
        );
        let promise: DerSignature = self.key.sign(promised.as_bytes());
        let entry = json!({uuid.clone(): {
            "body": body,
            "integratedTime": time,
            "logID": log_id,
            "logIndex": log_index,
            "verification": {
                "inclusionProof": {
                    "checkpoint": self.checkpoint(entries.tree.size(), &root),
                    "hashes": hashes,
                    "logIndex": index,
                    "rootHash": hex(&root),
                    "treeSize": entries.tree.size(),
                },
                "signedEntryTimestamp": base64(promise.as_bytes()),
            },
        }});
        (uuid, entry)
    }

    /// The signed note of a tree of this size with this root.
    fn checkpoint(&self, size: u64, root: &Hash) -> String {
        let body = format!("{} - {TREE_ID}\n{size}\n{}\n", self.name, base64(root));
        let signature: DerSignature = self.key.sign(body.as_bytes());
        let signature = base64([&sha256(&self.public_key())[..4], signature.as_bytes()].concat());
        format!("{body}\n\u{2014} {} {signature}\n", self.name)
    }
}

/// What the log keeps of a request to create an entry; an error is why it does not.
fn body(request: &[u8]) -> Result<String, String> {
    let request: Value = serde_json::from_slice(request).map_err(|error| error.to_string())?;
    let (kind, version, spec) = (&request["kind"], &request["apiVersion"], &request["spec"]);
    let spec = match (kind.as_str(), version.as_str()) {
        (Some("dsse"), Some("0.0.1")) => dsse(&spec["proposedContent"])?,
        (Some("intoto"), Some("0.0.2")) => intoto(&spec["content"])?,
        _ => return Err("only dsse 0.0.1 and intoto 0.0.2 are taken here".to_owned()),
    };
    // `serde_json` without `preserve_order` writes fields in the order of their names.
    Ok(json!({"apiVersion": version, "kind": kind, "spec": spec}).to_string())
}

fn dsse(proposed: &Value) -> Result<Value, String> {
    let envelope_text = proposed["envelope"].as_str().ok_or("no envelope")?;
    let envelope: Value = serde_json::from_str(envelope_text).map_err(|error| error.to_string())?;
    let payload = decode(&envelope["payload"])?;
    let pae = pae(&envelope["payloadType"], &payload);
    let verifiers = proposed["verifiers"].as_array().ok_or("no verifiers")?;
    let signatures = envelope["signatures"].as_array().ok_or("no signatures")?;
    let mut kept = Vec::new();
    for signature in signatures {
        let bytes = decode(&signature["sig"])?;
        let verifier = verifiers.iter().find(|verifier| holds(verifier, &pae, &bytes));
        let verifier = verifier.ok_or("no verifier holds for a signature")?;
        kept.push(json!({"signature": signature["sig"], "verifier": verifier}));
    }
    Ok(json!({
        "envelopeHash": {"algorithm": "sha256", "value": hex(&sha256(envelope_text.as_bytes()))},
        "payloadHash": {"algorithm": "sha256", "value": hex(&sha256(&payload))},
        "signatures": kept,
    }))
}

/// Payload and signatures are in base64 once more than in the envelope, and the payload is not kept.
fn intoto(content: &Value) -> Result<Value, String> {
    let envelope = &content["envelope"];
    let twice = |text: &Value| {
        let once = decode(text)?;
        STANDARD.decode(once).map_err(|_| "not base64".to_owned())
    };
    let payload = twice(&envelope["payload"])?;
    let pae = pae(&envelope["payloadType"], &payload);
    let mut kept = Vec::new();
    for signature in envelope["signatures"].as_array().ok_or("no signatures")? {
        if !holds(&signature["publicKey"], &pae, &twice(&signature["sig"])?) {
            return Err("a signature does not hold".to_owned());
        }
        kept.push(json!({"publicKey": signature["publicKey"], "sig": signature["sig"]}));
    }
    Ok(json!({"content": {
        "envelope": {"payloadType": envelope["payloadType"], "signatures": kept},
        "hash": {"algorithm": "sha256", "value": hex(&sha256(envelope.to_string().as_bytes()))},
        "payloadHash": {"algorithm": "sha256", "value": hex(&sha256(&payload))},
    }}))
}

fn decode(text: &Value) -> Result<Vec<u8>, String> {
    STANDARD.decode(text.as_str().unwrap_or_default()).map_err(|_| "not base64".to_owned())
}

fn pae(payload_type: &Value, payload: &[u8]) -> Vec<u8> {
    let payload_type = payload_type.as_str().unwrap_or_default();
    [format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).as_bytes(), payload].concat()
}

/// Whether the signature is by this verifier: base64 of the PEM of a key or certificate.
fn holds(verifier: &Value, message: &[u8], signature: &[u8]) -> bool {
    let pem = decode(verifier).ok().and_then(|pem| String::from_utf8(pem).ok()).unwrap_or_default();
    if let (Ok(key), Ok(signature)) =
        (Ed25519Key::from_public_key_pem(&pem), ed25519_dalek::Signature::from_slice(signature))
    {
        return key.verify(message, &signature).is_ok();
    }
    let key = key_of(&pem).zip(Signature::from_der(signature).ok());
    key.is_some_and(|(key, signature)| key.verify(message, &signature).is_ok())
}

fn uuid(leaf: &Hash) -> String {
    format!("{TREE_ID:016x}{}", hex(leaf))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn error(status: StatusCode, message: &str) -> Response<Bytes> {
    let body = json!({"code": status.as_u16(), "message": message});
    answer(status, "application/json", body.to_string())
}
