//! `quorate`
pub mod attestation;
pub mod nix;
pub mod oci;
pub mod policy;
pub mod reason;
