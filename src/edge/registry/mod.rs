//! The registry plane: everything the gate knows of a registry comes through here.
//!
//! ```text
//! manifest, blob, upload, tags, referrers   what is asked (distribution-spec)
//! evidence, relay                      bundles, attached and collected; blobs, passed on
//!        │ Call
//! transport ─ retry                    limits, redirects, asking again
//!   ├─ host ─ auth ─ challenge, realm, credentials ─ source, program
//!   └─ clients ─ address               TLS, proxies, names
//! ```
//!
//! Three answers are kept apart everywhere: `Ok(Some)` is there, `Ok(None)` is what the registry
//! itself says is absent, and `Err` means that it could not be found out. Nothing turns the third
//! into the second.

mod address;
mod auth;
mod blob;
mod challenge;
mod clients;
mod credentials;
mod error;
mod evidence;
mod fallback;
mod host;
mod manifest;
mod outcome;
mod pack;
mod pages;
pub(in crate::edge) mod program;
mod realm;
mod referrers;
mod relay;
mod retry;
mod secret;
mod source;
mod tags;
mod transport;
mod upload;
mod witness;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::oci::Repository;

use clients::Clients;
use host::Host;

pub use credentials::Credentials;
pub(in crate::edge) use error::OWN_AUTHORITY;
pub use error::{Asked, Error, Reply};
pub use evidence::{Attached, Collected, Place, Skipped};
pub use host::Access;
pub use manifest::{Held, RawManifest};
pub use referrers::Referrers;
pub use secret::Secret;
pub use source::Source;
pub use tags::Untagged;
pub(in crate::edge) use transport::{Sink, is_distrusted};

/// Bytes of manifests, lists and blobs in one look at an image, so that memory stays bounded
/// however many of them there are.
const MAX_KEPT: u64 = 16 * 1024 * 1024;

/// How a run talks to registries.
#[derive(Debug, Clone)]
pub struct Options {
    /// Hosts (`host` or `host:port`) that are asked over plain http, as this machine is.
    pub plain_http: Vec<String>,
    /// Hosts (`host` or `host:port`) that are asked over TLS all the same.
    pub tls: Vec<String>,
    /// Token services (`host` or `host:port`) that the user trusts besides those of the
    /// registry's own site.
    pub token_realms: Vec<String>,
    /// Who we are.
    pub credentials: Credentials,
    /// For the whole run, from [`Registry::new`] on.
    pub deadline: Duration,
    /// For one request and its answer.
    pub request_timeout: Duration,
    /// Certificates (PEM) trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            plain_http: Vec::new(),
            tls: Vec::new(),
            token_realms: Vec::new(),
            credentials: Credentials::none(),
            deadline: Duration::from_secs(60),
            request_timeout: Duration::from_secs(30),
            ca_file: None,
        }
    }
}

/// All registries of one run: connections, tokens, what is known of each host. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
    deadline: Instant,
    kept: Arc<Kept>,
}

/// Bytes of manifests, lists and blobs handed out so far: a caller may keep them all.
struct Kept {
    bytes: AtomicU64,
    most: u64,
}

impl Kept {
    fn at_most(most: u64) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicU64::default(), most })
    }
}

struct Shared {
    clients: Clients,
    credentials: Credentials,
    plain_http: Vec<String>,
    tls: Vec<String>,
    token_realms: Vec<String>,
    request_timeout: Duration,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    /// A permit for each MiB of body that may be on its way.
    memory: Semaphore,
}

impl Registry {
    /// Prepares a run; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::Setup`] when the CA file cannot be read.
    pub fn new(options: Options) -> Result<Self, Error> {
        let connect_timeout = options.request_timeout.min(Duration::from_secs(10));
        Ok(Self {
            deadline: Instant::now() + options.deadline,
            kept: Kept::at_most(MAX_KEPT),
            shared: Arc::new(Shared {
                clients: Clients::new(options.ca_file.as_deref(), connect_timeout)?,
                credentials: options.credentials,
                plain_http: options.plain_http,
                tls: options.tls,
                token_realms: options.token_realms,
                request_timeout: options.request_timeout,
                hosts: Mutex::default(),
                memory: Semaphore::new(transport::MEMORY_MIB),
            }),
        })
    }

    /// The same registries, connections and tokens with a deadline and a share of memory of its
    /// own, for a run that waits and looks again.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self {
            shared: self.shared.clone(),
            deadline: Instant::now() + deadline,
            kept: Kept::at_most(MAX_KEPT),
        }
    }

    /// The same with memory of its own: one part in `parts` of what a run may take, where so many
    /// images are looked at at the same time.
    #[must_use]
    pub fn share(&self, parts: usize) -> Self {
        Self { kept: Kept::at_most(MAX_KEPT / parts.max(1) as u64), ..self.clone() }
    }

    /// Whether more was sent than may be kept.
    pub fn is_used_up(&self) -> bool {
        self.kept.bytes.load(Ordering::Relaxed) > self.kept.most
    }

    /// Counts bytes that the caller may keep.
    fn keep(&self, bytes: &[u8]) -> Result<(), Error> {
        let length = bytes.len() as u64;
        if self.kept.bytes.fetch_add(length, Ordering::Relaxed) + length > self.kept.most {
            // Not `TooLarge`, which a caller may take for one thing that can be left out.
            let what = "bytes of manifests and evidence at once".to_owned();
            let limit = usize::try_from(self.kept.most).unwrap_or(usize::MAX);
            return Err(Error::TooMany { what, limit });
        }
        Ok(())
    }

    /// Says what this run will do to a repository, so that the first token already covers it. To
    /// be said of all repositories before anything is asked: credentials that name no registry are
    /// used only where there is but one.
    ///
    /// # Errors
    /// [`Error::Setup`] when the host makes no URL.
    pub fn announce(&self, repository: &Repository, access: Access) -> Result<(), Error> {
        self.host(repository)?.announce(repository.path(), access);
        Ok(())
    }

    fn host(&self, repository: &Repository) -> Result<Arc<Host>, Error> {
        let name = repository.host();
        let mut hosts = self.shared.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(name) {
            return Ok(host.clone());
        }
        let host = Arc::new(Host::new(name, &self.shared.tls, &self.shared.plain_http)?);
        hosts.insert(name.to_owned(), host.clone());
        Ok(host)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}
