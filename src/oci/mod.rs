//! The nouns of the OCI image and distribution specifications, parsed once and strictly.
//!
//! Nothing here does I/O. Digests and references are narrower than the specifications allow
//! (SHA-256 only, host written out, nothing defaulted); bytes are kept as they were received,
//! so that what was judged is what is written.

pub mod annotations;
pub mod descriptor;
pub mod difference;
pub mod digest;
pub mod handover;
pub mod index;
pub mod json;
pub mod layer;
pub mod manifest;
pub mod media_type;
pub mod pack;
pub mod place;
pub mod platform;
pub mod reference;
pub mod release;
pub mod slot;
pub mod tar;

pub use annotations::Annotations;
pub use descriptor::Descriptor;
pub use digest::Digest;
pub use index::ImageIndex;
pub use manifest::{Config, Manifest};
pub use place::{Place, Store};
pub use platform::{Platform, System};
pub use reference::{Reference, Repository, Tag, Target};
pub use slot::Slot;
