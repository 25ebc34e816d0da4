//! One file a verb: gather, call the pure part, act, return a report.

pub mod assemble;
pub mod attest;
mod explain;
mod gather;
pub mod inspect;
pub mod pack;
pub mod promote;
pub mod push;
pub mod verify;

pub(crate) use gather::resolve;
