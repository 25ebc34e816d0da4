//! One file a verb: gather, call the pure part, act, return a report.

pub mod assemble;
pub mod attest;
mod gather;
pub mod inspect;
pub mod promote;
pub mod push;
pub mod verify;

pub(crate) use gather::resolve;
