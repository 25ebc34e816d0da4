//! Everything that touches the world: registries, logs, files, clock, terminal.

pub mod built;
pub mod ci;
pub mod clock;
pub mod contents;
pub mod files;
pub mod fulcio;
pub mod git;
pub mod handover;
pub mod images;
pub mod interrupt;
pub mod journal;
pub mod layers;
pub mod layout;
pub mod log;
pub mod oidc;
pub mod origin;
pub mod outgoing;
pub mod output;
pub mod registry;
pub mod service;
pub mod signer;
pub mod signing_config;
mod store_layer;
pub mod tags;
pub mod tree;
pub mod trust;
pub mod tsa;
