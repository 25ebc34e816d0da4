//! Signed evidence: parsed (`Bundle`), then proven (`Attestation`).
//!
//! A bundle that came from anywhere is bytes; [`Bundle::parse`] makes it a well-formed claim,
//! [`verify::verify`] a proven one. There is no other way to an [`Attestation`].

pub mod bundle;
mod curve;
pub mod envelope;
pub mod identity;
pub mod key;
pub mod predicate;
pub mod provenance;
pub mod provider;
pub mod signer;
pub mod statement;
pub mod summary;
pub mod trust;
pub mod verify;
pub mod witness;

pub use bundle::{Bundle, Sealed};
pub use identity::{CertificateClaim, Identity, San};
pub use key::PublicKey;
pub use predicate::{Build, Commit, Content, Remarks};
pub use provenance::Provenance;
pub use signer::{Matcher, MaySign, Signer};
pub use statement::{Claim, Statement};
pub use summary::{Summary, Verifier};
pub use trust::{Transparency, Trust, Trusts};
pub use verify::{Attestation, Rejection};
pub use witness::{Witness, Witnesses};
