//! What `quorate` knows of Nix, without Nix: hashes of store paths.

pub mod base32;
pub mod hash;
pub mod nar;

pub use hash::NarHash;
