//! A Rekor v2 transparency log.

pub(crate) mod checkpoint;
mod entry;
pub(crate) mod merkle;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::json;

use crate::base64;
use crate::fault::Fault;
use crate::server::{Server, answer};
use crate::traffic::Request;

use checkpoint::Signer;
use merkle::Tree;

/// A transparency log in memory that behaves as `rekor-tiles` 2.3 does: a real Merkle tree, a
/// checkpoint signed for each entry, and no time.
///
/// It takes `hashedrekord` entries signed with P-256 only, and checks the signature first. An
/// entry it already has is refused with 409 and the header `x-log-index`. Unlike the real one it
/// also serves its checkpoint itself, at `/api/v2/checkpoint`.
pub struct Log {
    server: Server,
    state: Arc<State>,
}

struct State {
    signer: Signer,
    tree: Mutex<Tree>,
    credulous: AtomicBool,
}

impl Log {
    /// Starts an empty log with a key and a name of its own.
    pub fn start() -> Log {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(State {
            signer: Signer::generate(format!("log-{number}.bed.test")),
            tree: Mutex::default(),
            credulous: AtomicBool::default(),
        });
        let server = Server::start(Duration::ZERO, |_| {
            let state = state.clone();
            move |request: http::Request<Bytes>| {
                let state = state.clone();
                async move { state.serve(&request) }
            }
        });
        Log { server, state }
    }

    /// The base URL to write to.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
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
        self.state.signer.sign(tree.size(), &tree.root())
    }

    /// Logs from now on what it is given, whatever key and signature that has.
    pub fn believe_everything(&self) {
        self.state.credulous.store(true, Ordering::Relaxed);
    }

    /// Adds a rule by which the log misbehaves.
    pub fn fault(&self, fault: Fault) {
        self.server.fault(fault);
    }

    /// Behaves again.
    pub fn clear_faults(&self) {
        self.server.clear_faults();
    }

    /// Every request, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }

    /// How many requests have come in.
    pub fn request_count(&self) -> usize {
        self.server.requests().len()
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.state.signer
    }
}

impl State {
    fn tree(&self) -> std::sync::MutexGuard<'_, Tree> {
        self.tree.lock().expect("no entry panics")
    }

    fn serve(&self, request: &http::Request<Bytes>) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/api/v2/log/entries") => self.create_entry(request.body()),
            (&Method::GET, "/api/v2/checkpoint") => {
                let tree = self.tree();
                let note = self.signer.sign(tree.size(), &tree.root());
                answer(StatusCode::OK, "text/plain; charset=utf-8", note)
            }
            _ => error(StatusCode::NOT_FOUND, 5, "Not Found"),
        }
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
        let root = tree.root();
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
                "rootHash": base64(root),
                "treeSize": tree.size().to_string(),
                "hashes": hashes,
                "checkpoint": {"envelope": self.signer.sign(tree.size(), &root)},
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
