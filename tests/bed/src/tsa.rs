//! An RFC 3161 timestamp authority.

mod certificate;
mod token;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Response, StatusCode};

use crate::fault::Fault;
use crate::server::{Server, answer};
use crate::traffic::Request;

use certificate::Chain;
pub(crate) use certificate::{VALID_FROM, VALID_UNTIL, distinguished_name, key_identifier};

const PATH: &str = "/api/v1/timestamp";

/// A timestamp authority with a root of its own.
pub struct Tsa {
    server: Server,
    state: Arc<State>,
}

struct State {
    name: String,
    chain: Chain,
    time: Mutex<Option<SystemTime>>,
    serial: AtomicU64,
}

impl Tsa {
    /// Starts an authority with keys and a name of its own.
    pub fn start() -> Tsa {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tsa-{}.bed.test", COUNT.fetch_add(1, Ordering::Relaxed));
        let state = Arc::new(State {
            chain: Chain::generate(&name),
            name,
            time: Mutex::default(),
            serial: AtomicU64::new(1),
        });
        let server = Server::start(Duration::ZERO, |_| {
            let state = state.clone();
            move |request: http::Request<Bytes>| {
                let state = state.clone();
                async move { state.serve(&request) }
            }
        });
        Tsa { server, state }
    }

    /// Where to ask for a timestamp.
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.server.address())
    }

    /// Certifies this time from now on; the real one again when `None`. The certificates are
    /// valid from 2020 to 2049.
    pub fn set_time(&self, time: Option<SystemTime>) {
        *self.state.time.lock().expect("no token panics") = time;
    }

    /// The signing certificate and the root above it, in DER.
    pub fn chain(&self) -> [Vec<u8>; 2] {
        self.state.chain.der()
    }

    /// Adds a rule by which the authority misbehaves.
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

    pub(crate) fn name(&self) -> &str {
        &self.state.name
    }
}

impl State {
    fn serve(&self, request: &http::Request<Bytes>) -> Response<Bytes> {
        if (request.method(), request.uri().path()) != (&Method::POST, PATH) {
            return plain(StatusCode::NOT_FOUND, "404 page not found\n".to_owned());
        }
        let time = *self.time.lock().expect("no token panics");
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let time = time.unwrap_or_else(SystemTime::now);
        match token::respond(request.body(), &self.chain, serial, time) {
            Ok(reply) => answer(StatusCode::CREATED, "application/timestamp-reply", reply),
            Err(reason) => plain(StatusCode::BAD_REQUEST, format!("{reason}\n")),
        }
    }
}

fn plain(status: StatusCode, text: String) -> Response<Bytes> {
    answer(status, "text/plain; charset=utf-8", text)
}
