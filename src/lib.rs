//! `quorate`
pub mod oci;
