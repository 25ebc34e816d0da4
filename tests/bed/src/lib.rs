//! The servers that quorate is tested against, in the process of the test.
//!
//! | server | stands for |
//! |---|---|
//! | [`Registry`] | an OCI 1.1 registry, with or without the referrers API, open or behind credentials |
//! | [`Log`] | a Rekor v2 transparency log |
//! | [`RekorV1`] | a Rekor v1 transparency log, with times of its own |
//! | [`Tsa`] | an RFC 3161 timestamp authority |
//! | [`Issuer`] | the OpenID Connect issuer of a CI system |
//! | [`Fulcio`] | Fulcio and its certificate transparency log |
//! | [`Tuf`] | a TUF repository, as Sigstore instances publish their trusted root |
//! | [`TokenService`] | the token service of a registry that has none of its own |
//!
//! Each listens on a free loopback port until it is dropped, can be told to misbehave by a
//! [`Fault`], and remembers what was asked of it. [`trusted_root`] is what a verifier must be
//! given to trust the log and the authority, [`keyless_root`] the same for certificates; [`image`] makes images worth releasing.
//!
//! Nothing here depends on the code under test, and the cryptography is another implementation
//! than the one the product uses: were they shared, a mistake would cancel itself out.

mod authority;
mod bed;
pub mod client;
mod fault;
mod fulcio;
pub mod image;
pub mod issuer;
mod log;
mod registry;
mod rekor_v1;
mod runtime;
mod server;
mod service;
mod tls;
mod token_service;
mod traffic;
mod trusted_root;
mod tsa;
mod tuf;

pub use authority::Authority;
pub use bed::Bed;
pub use fault::{Answer, Fault, FaultAction};
pub use fulcio::{Fulcio, Misissue, fulcio_authority};
pub use issuer::Issuer;
pub use log::Log;
pub use registry::{Auth, Registry, RegistryOptions};
pub use rekor_v1::RekorV1;
pub use service::{Serve, Service};
pub use token_service::{TokenOptions, TokenService};
pub use traffic::{Request, depth};
pub use trusted_root::{keyless_root, trusted_root};
pub use tsa::Tsa;
pub use tuf::{Files, Tuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// The `Authorization` value of a user.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}")))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
