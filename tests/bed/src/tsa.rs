//! An RFC 3161 timestamp authority.

mod certificate;
mod token;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, Response, StatusCode};

use crate::server::answer;
use crate::service::{self, Serve, Service};

use certificate::Chain;
pub(crate) use certificate::{VALID_FROM, VALID_UNTIL, distinguished_name, key_identifier};

/// A timestamp authority with a root of its own.
pub type Tsa = Service<State>;

pub struct State {
    name: String,
    chain: Chain,
    time: Mutex<Option<SystemTime>>,
    serial: AtomicU64,
}

impl Tsa {
    /// Starts an authority with keys and a name of its own.
    pub fn start() -> Tsa {
        let name = service::name("tsa");
        Service::run(State {
            chain: Chain::generate(&name),
            name,
            time: Mutex::default(),
            serial: AtomicU64::new(1),
        })
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

    pub(crate) fn name(&self) -> &str {
        &self.state.name
    }
}

impl Serve for State {
    const PATH: &'static str = "/api/v1/timestamp";

    fn serve(&self, request: &http::Request<Bytes>) -> Response<Bytes> {
        if (request.method(), request.uri().path()) != (&Method::POST, Self::PATH) {
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
