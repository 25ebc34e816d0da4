//! An OCI 1.1 registry, and the ways in which real ones differ from it.

mod access;
mod extras;
mod front;
mod quirks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferro_blob_store::InMemoryBlobStore;
use ferro_oci_server::{AppState, InMemoryRegistryMeta, router};
use http::Response;

use crate::fault::Fault;
use crate::server::Server;
use crate::traffic::Request;

use access::Access;
pub use access::Auth;
use extras::Extras;

/// A registry in memory.
pub struct Registry {
    server: Server,
    access: Arc<Access>,
}

/// In which ways a [`Registry`] differs from an open one that follows the specification.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Whether the referrers API exists. Without it the answer is the plain-text 404 of
    /// distribution 2.8.2, and a manifest with a subject is stored without `OCI-Subject`.
    pub referrers: bool,
    /// How long every answer takes at least.
    pub latency: Duration,
    /// Who may do what.
    pub auth: Auth,
    /// Whether an OCI manifest or index exists only for a client whose `Accept` names its very
    /// media type, as in distribution 2.8.2.
    pub strict_accept: bool,
    /// How many referrers a page holds; all when `None`.
    pub referrers_page: Option<usize>,
    /// Whether a blob can be mounted from another repository.
    pub mount: bool,
    /// Whether `?tag=` on a push by digest sets tags, confirmed in `OCI-Tag`.
    pub tag_parameters: bool,
    /// Whether a tag can be removed by its name. Without it the answer is 405.
    pub tag_deletion: bool,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        RegistryOptions {
            referrers: true,
            latency: Duration::ZERO,
            auth: Auth::None,
            strict_accept: false,
            referrers_page: None,
            mount: true,
            tag_parameters: false,
            tag_deletion: false,
        }
    }
}

impl Registry {
    /// Starts an empty registry on a free loopback port.
    pub fn start(options: RegistryOptions) -> Registry {
        let state = AppState::new(Arc::new(InMemoryBlobStore::new()), Arc::new(InMemoryRegistryMeta::new()));
        let router = router(state);
        let latency = options.latency;
        let access = Arc::new(Access::new(options.auth.clone()));
        let handler_access = access.clone();
        let server = Server::start(latency, move |address| {
            let extras = Extras::default();
            let context = Arc::new((router, options, handler_access, extras, address.to_string()));
            move |request: http::Request<Bytes>| {
                let context = context.clone();
                async move {
                    let (router, options, access, extras, host) = &*context;
                    serve(router, options, access, extras, host, request).await
                }
            }
        });
        Registry { server, access }
    }

    /// Stands before a registry that runs elsewhere, over plain http at `host`: what is asked is
    /// passed on, and can be made to fail as here.
    pub fn before(host: &str) -> Registry {
        let access = Arc::new(Access::new(Auth::None));
        let to = Arc::new(host.to_owned());
        let server = Server::start(Duration::ZERO, move |address| {
            let front = Arc::new(address.to_string());
            move |request: http::Request<Bytes>| front::pass(to.clone(), front.clone(), request)
        });
        Registry { server, access }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// Answers on one more port, over TLS as `name`: where, and the certificate (PEM) to trust.
    /// Offers HTTP/2 if `http2`, else HTTP/1.1 alone.
    pub fn listen_tls(&self, name: &str, http2: bool) -> (SocketAddr, String) {
        self.server.listen_tls(name, http2)
    }

    /// Every request, in order of arrival.
    pub fn log(&self) -> Vec<Request> {
        self.server.requests()
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.server.clear_requests();
    }

    /// The requests that asked for a change, whatever became of them.
    pub fn writes(&self) -> Vec<Request> {
        self.log().into_iter().filter(Request::is_write).collect()
    }

    /// The longest chain of requests that did not overlap: round trips a user waits for.
    pub fn depth(&self) -> usize {
        self.server.depth()
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// Adds a rule by which the registry misbehaves.
    pub fn fault(&self, fault: Fault) {
        self.server.fault(fault);
    }

    /// Behaves again.
    pub fn clear_faults(&self) {
        self.server.clear_faults();
    }

    /// An `Authorization` value that may do everything, for a test to prepare what it needs;
    /// `None` where no credentials are asked for.
    pub fn authorization(&self) -> Option<String> {
        self.access.full()
    }

    /// The identity (refresh) token that `/token` takes by POST in the place of the user's password.
    pub fn identity_token(&self) -> &str {
        self.access.identity()
    }

    /// Makes every bearer token given out so far invalid, whatever its lifetime.
    pub fn expire_tokens(&self) {
        self.access.expire();
    }
}

async fn serve(
    router: &axum::Router,
    options: &RegistryOptions,
    access: &Access,
    extras: &Extras,
    host: &str,
    request: http::Request<Bytes>,
) -> Response<Bytes> {
    if request.uri().path() == "/token" {
        return access.token(&request);
    }
    if let Some(refusal) = access.refuse(&request, host) {
        return refusal;
    }
    if let Some(absent) = quirks::before(&request, options) {
        return absent;
    }
    let asked = request.clone().map(|_| ());
    let response = extras.answer(router, options, request).await;
    quirks::after(&asked, response, options)
}
