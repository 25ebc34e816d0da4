//! A TUF repository (The Update Framework, specification 1.0) with one target, the trusted root.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use http::{Response, StatusCode};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::EncodePublicKey;
use serde_json::{Value, json};

use crate::server::answer;
use crate::service::{Serve, Service};
use crate::{base64, sha256};

/// The files of a repository by their paths.
pub type Files = BTreeMap<String, Vec<u8>>;

const ONLINE: [&str; 3] = ["timestamp", "snapshot", "targets"];
const FAR: &str = "2049-12-31T23:59:59Z";

/// A TUF repository with consistent snapshots. One key signs the root, another all else.
pub type Tuf = Service<State>;

pub struct State {
    files: Mutex<Files>,
    publisher: Mutex<Publisher>,
}

struct Publisher {
    root_key: SigningKey,
    online_key: SigningKey,
    root_version: u64,
    /// Of the timestamp, the snapshot and the targets.
    version: u64,
    expires: BTreeMap<&'static str, String>,
    target: Vec<u8>,
}

impl Tuf {
    /// Starts a repository that publishes this trusted root.
    pub fn start(trusted_root: &Value) -> Tuf {
        let expires = ["root", "timestamp", "snapshot", "targets"].map(|role| (role, FAR.to_owned()));
        let publisher = Publisher {
            root_key: SigningKey::generate(),
            online_key: SigningKey::generate(),
            root_version: 1,
            version: 0,
            expires: expires.into(),
            target: Vec::new(),
        };
        let tuf = Service::run(State { files: Mutex::default(), publisher: Mutex::new(publisher) });
        tuf.change(|publisher, files| {
            let root = publisher.root();
            files.insert("1.root.json".to_owned(), signed(&root, &[&publisher.root_key]));
        });
        tuf.publish(trusted_root);
        tuf
    }

    /// Its first root, from which a client's trust begins.
    pub fn first_root(&self) -> Vec<u8> {
        self.files()["1.root.json"].clone()
    }

    /// Publishes another trusted root: targets, snapshot and timestamp, each a version higher.
    pub fn publish(&self, trusted_root: &Value) {
        self.change(|publisher, files| {
            publisher.target = trusted_root.to_string().into_bytes();
            publisher.publish(files);
        });
    }

    /// Publishes the same again, with another expiry of one role (RFC 3339); that of the root
    /// comes with its next version.
    pub fn expire(&self, role: &'static str, time: &str) {
        self.change(|publisher, files| {
            publisher.expires.insert(role, time.to_owned());
            publisher.publish(files);
        });
    }

    /// Replaces all keys by new ones: the next root is signed by the old key and the new one, all
    /// else by a new one alone.
    pub fn rotate(&self) {
        self.next_root(true);
    }

    /// The same as somebody does it who lacks the old key.
    pub fn usurp(&self) {
        self.next_root(false);
    }

    fn next_root(&self, with_old: bool) {
        self.change(|publisher, files| {
            let old = std::mem::replace(&mut publisher.root_key, SigningKey::generate());
            publisher.online_key = SigningKey::generate();
            publisher.root_version += 1;
            let (root, new) = (publisher.root(), &publisher.root_key);
            let bytes = if with_old { signed(&root, &[&old, new]) } else { signed(&root, &[new]) };
            files.insert(format!("{}.root.json", publisher.root_version), bytes);
            publisher.publish(files);
        });
    }

    /// What it serves.
    pub fn files(&self) -> Files {
        self.state.files().clone()
    }

    /// Serves these files from now on, until something is published.
    pub fn serve(&self, files: Files) {
        *self.state.files() = files;
    }

    fn change(&self, change: impl FnOnce(&mut Publisher, &mut Files)) {
        let mut publisher = self.state.publisher.lock().expect("changing never panics");
        change(&mut publisher, &mut self.state.files());
    }
}

impl State {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().expect("serving never panics")
    }
}

impl Serve for State {
    const PATH: &'static str = "/";

    fn serve(&self, request: &http::Request<Bytes>) -> Response<Bytes> {
        match self.files().get(request.uri().path().trim_start_matches('/')) {
            Some(bytes) => answer(StatusCode::OK, "application/json", bytes.clone()),
            None => answer(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n"),
        }
    }
}

impl Publisher {
    fn root(&self) -> Value {
        let role = |key: &SigningKey| json!({"keyids": [id(key)], "threshold": 1});
        let mut roles: BTreeMap<_, _> = ONLINE.map(|name| (name, role(&self.online_key))).into();
        roles.insert("root", role(&self.root_key));
        json!({
            "_type": "root",
            "spec_version": "1.0.31",
            "version": self.root_version,
            "expires": self.expires["root"],
            "consistent_snapshot": true,
            "keys": {
                id(&self.root_key): public(&self.root_key),
                id(&self.online_key): public(&self.online_key),
            },
            "roles": roles,
        })
    }

    fn publish(&mut self, files: &mut Files) {
        self.version += 1;
        let version = self.version;
        let role = |name: &str, fields: Value| {
            let mut role = fields;
            role["_type"] = name.into();
            role["spec_version"] = "1.0.31".into();
            role["version"] = version.into();
            role["expires"] = self.expires[name].clone().into();
            signed(&role, &[&self.online_key])
        };
        let described = |bytes: &[u8]| json!({"length": bytes.len(), "hashes": {"sha256": hex(bytes)}});
        let versioned = |bytes: &[u8]| {
            let mut described = described(bytes);
            described["version"] = version.into();
            described
        };
        let targets = role("targets", json!({"targets": {"trusted_root.json": described(&self.target)}}));
        let snapshot = role("snapshot", json!({"meta": {"targets.json": versioned(&targets)}}));
        let timestamp = role("timestamp", json!({"meta": {"snapshot.json": versioned(&snapshot)}}));
        files.insert(format!("targets/{}.trusted_root.json", hex(&self.target)), self.target.clone());
        files.insert(format!("{version}.targets.json"), targets);
        files.insert(format!("{version}.snapshot.json"), snapshot);
        files.insert("timestamp.json".to_owned(), timestamp);
    }
}

fn public(key: &SigningKey) -> Value {
    let der = key.verifying_key().to_public_key_der().expect("a public key has an encoding");
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", base64(&der));
    json!({"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": pem}})
}

fn id(key: &SigningKey) -> String {
    hex(canonical(&public(key)).as_bytes())
}

fn signed(role: &Value, keys: &[&SigningKey]) -> Vec<u8> {
    let message = canonical(role);
    let signatures: Vec<Value> = keys
        .iter()
        .map(|key| {
            let signature: Signature = key.sign(message.as_bytes());
            json!({"keyid": id(key), "sig": digits(signature.to_der().as_bytes())})
        })
        .collect();
    json!({"signed": role, "signatures": signatures}).to_string().into_bytes()
}

/// Canonical JSON as TUF signs it (OLPC): sorted keys, no spaces, nothing escaped in strings but
/// quotes and backslashes.
fn canonical(value: &Value) -> String {
    let text = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    match value {
        Value::String(string) => text(string),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            let members: Vec<_> =
                sorted.iter().map(|(name, value)| format!("{}:{}", text(name), canonical(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

fn hex(bytes: &[u8]) -> String {
    digits(&sha256(bytes))
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
