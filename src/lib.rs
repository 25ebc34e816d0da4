//! `quorate`: container releases promoted by a quorum of independent builders.
//!
//! ```text
//! argv/env → cli → ops::{assemble, attest, promote, verify}
//!                   │ gather            │ verify, decide (pure)             │ act             │ tell
//!                   ▼                   ▼                                   ▼                 ▼
//!             edge::{registry,    bytes → Bundle → Attestation → Vote   edge::tags        report → edge::output
//!               log, tsa, …}      policy::decide → Met(Approval)        (needs Approval)  stdout, stderr, exit code
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`oci`] | digests, references, platforms, indexes, manifests: the nouns of the OCI specifications |
//! | [`nix`] | narHashes, and the images that Nix builds leave |
//! | [`attestation`] | signed evidence, parsed and proven |
//! | [`policy`] | the policy file, and the decision under it |
//! | [`reason`] | the stable codes that say why |
//! | [`report`] | results as text and JSON |
//! | [`edge`] | everything that touches the world |
//! | [`ops`] | one verb, one file: gather, decide, act |
//! | [`cli`] | arguments to requests, reports to exit codes |
//!
//! A *builder* is a named entry of the policy with an identity; an *operator* is the party behind
//! it. An *attestation* is a statement whose signature, log proof and time hold; a *vote* is an
//! attestation that the policy admits; a *group* is all votes on one build; the *quorum* is there
//! when n operators of one group agree, for every platform.

pub mod attestation;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod edge;
pub mod error;
mod glob;
pub mod nix;
pub mod oci;
#[cfg(feature = "cli")]
pub mod ops;
pub mod policy;
pub mod reason;
pub mod report;
mod text;

/// Installs ring as the one source of cryptography: for TLS, and for the verifier. To be called
/// once before anything else; further calls do nothing.
///
/// # Errors
/// When something else in the process was installed in its place.
pub fn init() -> Result<(), error::Error> {
    use std::sync::OnceLock;
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        #[cfg(feature = "cli")]
        let tls = rustls::crypto::ring::default_provider().install_default().is_ok();
        #[cfg(not(feature = "cli"))]
        let tls = true;
        let hashes = sigstore_crypto::install_default_provider(&attestation::provider::RING).is_ok();
        tls && hashes
    });
    if *installed {
        Ok(())
    } else {
        Err(error::Error::undecided("another cryptographic provider is installed in this process"))
    }
}
