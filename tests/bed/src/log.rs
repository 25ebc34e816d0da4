//! A Rekor v2 transparency log.

pub(crate) mod checkpoint;
mod entry;
pub(crate) mod merkle;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::json;

use crate::base64;
use crate::server::answer;
use crate::service::{self, Serve, Service};

use checkpoint::Signer;
use merkle::Tree;

/// A transparency log in memory that behaves as `rekor-tiles` 2.3 does: a real Merkle tree, a
/// checkpoint signed for each entry, and no time.
///
/// It takes `hashedrekord` entries signed with P-256 only, and checks the signature first. An
/// entry it already has is refused with 409 and the header `x-log-index`. Unlike the real one it
/// also serves its checkpoint itself, at `/api/v2/checkpoint`.
pub type Log = Service<State>;

pub struct State {
    signer: Signer,
    tree: Mutex<Tree>,
    credulous: AtomicBool,
    witnesses: Mutex<Vec<Signer>>,
}

impl Log {
    /// Starts an empty log with a key and a name of its own.
    pub fn start() -> Log {
        Service::run(State {
            signer: Signer::generate(service::name("log")),
            tree: Mutex::default(),
            credulous: AtomicBool::default(),
            witnesses: Mutex::default(),
        })
    }

    /// The name in the first line of every checkpoint.
    pub fn origin(&self) -> &str {
        self.state.signer.origin()
    }

    /// How many entries it holds.
    pub fn size(&self) -> u64 {
        self.state.tree().size()
    }

    /// The signed checkpoint of the tree as it is now.
    pub fn checkpoint(&self) -> String {
        let tree = self.state.tree();
        self.state.checkpoint(&tree)
    }

    /// Logs from now on what it is given, whatever key and signature that has.
    pub fn believe_everything(&self) {
        self.state.credulous.store(true, Ordering::Relaxed);
    }

    /// Has every checkpoint cosigned by one more witness from now on; its verifier key.
    pub fn add_witness(&self, name: &str) -> String {
        let witness = Signer::generate(name.to_owned());
        let key = witness.witness_key();
        self.state.witnesses.lock().expect("no witness panics").push(witness);
        key
    }

    /// The log's own key as that of a witness.
    pub fn self_witness(&self) -> String {
        self.state.signer.witness_key()
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.state.signer
    }
}

impl Serve for State {
    fn serve(&self, request: &http::Request<Bytes>) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/api/v2/log/entries") => self.create_entry(request.body()),
            (&Method::GET, "/api/v2/checkpoint") => {
                let tree = self.tree();
                answer(StatusCode::OK, "text/plain; charset=utf-8", self.checkpoint(&tree))
            }
            _ => error(StatusCode::NOT_FOUND, 5, "Not Found"),
        }
    }
}

impl State {
    fn tree(&self) -> std::sync::MutexGuard<'_, Tree> {
        self.tree.lock().expect("no entry panics")
    }

    /// The checkpoint of the tree, signed by the log and every witness.
    fn checkpoint(&self, tree: &Tree) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
        let witnesses = self.witnesses.lock().expect("no witness panics");
        let signed = self.signer.sign(tree.size(), &tree.root());
        witnesses.iter().fold(signed, |note, witness| witness.cosign(&note, now))
    }

    fn create_entry(&self, request: &[u8]) -> Response<Bytes> {
        let body = match entry::canonical_body(request, self.credulous.load(Ordering::Relaxed)) {
            Ok(body) => body,
            Err(message) => return error(StatusCode::BAD_REQUEST, 3, &message),
        };
        let leaf = merkle::leaf_hash(body.as_bytes());
        let mut tree = self.tree();
        if let Some(index) = tree.find(&leaf) {
            let message =
                format!("an equivalent entry already exists in the transparency log with index {index}");
            let mut response = error(StatusCode::CONFLICT, 6, &message);
            response.headers_mut().insert("x-log-index", HeaderValue::from(index));
            return response;
        }
        let index = tree.add(leaf);
        let hashes: Vec<String> = tree.inclusion_proof(index).iter().map(base64).collect();
        // 64-bit numbers are strings, and zero and empty are printed: a client in Python rejects
        // an entry without them.
        let entry = json!({
            "logIndex": index.to_string(),
            "logId": {"keyId": base64(self.signer.key_id())},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "integratedTime": "0",
            "inclusionPromise": null,
            "inclusionProof": {
                "logIndex": index.to_string(),
                "rootHash": base64(tree.root()),
                "treeSize": tree.size().to_string(),
                "hashes": hashes,
                "checkpoint": {"envelope": self.checkpoint(&tree)},
            },
            "canonicalizedBody": base64(body),
        });
        answer(StatusCode::CREATED, "application/json", entry.to_string())
    }
}

/// An error as a gRPC gateway writes it.
fn error(status: StatusCode, code: u8, message: &str) -> Response<Bytes> {
    let body = json!({"code": code, "message": message, "details": []});
    answer(status, "application/json", body.to_string())
}
