//! What `quorate` knows of Nix, without Nix: hashes of store paths, and the images that builds
//! leave.

pub mod archive;
pub mod base32;
pub mod hash;
pub mod header;
pub mod image;
pub mod layer;
pub mod nar;

pub use hash::NarHash;
