//! What `quorate` knows of Nix, without Nix: hashes of store paths.

pub mod base32;
pub mod nar;
