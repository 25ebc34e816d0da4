//! One file a verb: gather, call the pure part, act, return a report; and what verbs share.

pub mod assemble;
pub mod attest;
mod copy;
mod explain;
mod gather;
pub mod inspect;
mod moving;
pub mod pack;
pub mod promote;
pub mod push;
pub mod record;
pub mod sign;
pub mod verify;

pub(crate) use gather::resolve;
