//! What the services beside the registry share: each is a state that answers requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;

use crate::fault::Fault;
use crate::server::Server;
use crate::traffic::Request;

/// A service on a loopback port of its own; it ends when dropped.
pub struct Service<S> {
    server: Server,
    pub(crate) state: Arc<S>,
}

/// What a [`Service`] answers.
pub trait Serve: Send + Sync + 'static {
    /// Where on the server it is asked.
    const PATH: &'static str = "";

    /// The answer to a request.
    fn serve(&self, request: &http::Request<Bytes>) -> Response<Bytes>;
}

impl<S: Serve> Service<S> {
    pub(crate) fn run(state: S) -> Self {
        Self::run_at(|_| state)
    }

    /// Starts what has to know its address.
    pub(crate) fn run_at(state: impl FnOnce(SocketAddr) -> S) -> Self {
        let mut shared = None;
        let server = Server::start(Duration::ZERO, |address| {
            let state = shared.insert(Arc::new(state(address))).clone();
            move |request: http::Request<Bytes>| {
                let state = state.clone();
                // Not before it is waited for: a fault may come first, or in its place.
                async move { state.serve(&request) }
            }
        });
        Self { server, state: shared.expect("the handler was made") }
    }

    /// Where it is asked.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.server.address(), S::PATH)
    }

    /// Adds a rule by which it misbehaves.
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

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.server.clear_requests();
    }
}

/// A name that no other service of the process has.
pub(crate) fn name(kind: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{kind}-{}.bed.test", COUNT.fetch_add(1, Ordering::Relaxed))
}
