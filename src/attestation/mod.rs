//! Signed evidence: parsed (`Bundle`), then proven (`Attestation`).
//!
//! A bundle that came from anywhere is bytes; [`Bundle::parse`] makes it a well-formed claim,
//! [`verify::verify`] a proven one. There is no other way to an [`Attestation`].

pub mod bundle;
pub mod envelope;
pub mod key;
pub mod predicate;
pub mod provider;
pub mod statement;
pub mod summary;
pub mod trust;
pub mod verify;

pub use bundle::Bundle;
pub use key::PublicKey;
pub use predicate::{Build, Commit, Content};
pub use statement::{Claim, Payload, Statement};
pub use summary::{Summary, Verifier};
pub use trust::Trust;
pub use verify::{Attestation, Rejection};
