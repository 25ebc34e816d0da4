//! The policy, and the decision under it.
//!
//! [`decide()`] is a pure function: no I/O, no clock of its own, no dependence on the order of
//! evidence, and no way out but a [`Verdict`]. Only a verdict of `met` holds an [`Approval`],
//! and only an approval moves a tag.

pub mod builder;
pub mod candidate;
pub mod decide;
pub mod file;
mod hearing;
mod moment;
pub mod moves;
mod platforms;
pub mod tag;
mod tally;
pub mod verdict;
mod voices;
pub mod vote;
pub mod weak;

#[cfg(test)]
mod model;
#[cfg(test)]
mod props;
#[cfg(test)]
mod vectors;

pub use builder::{Builder, Domain, Domains};
pub use candidate::{Candidate, Refusal};
pub use decide::{Evidence, Expected, Purpose, decide};
pub use file::{ImageRule, Policy, PolicyError, TrustRule, TrustSource, Waiver};
pub use tag::{Bar, Feed, Glob, TagKind, TagRule};
pub use verdict::{Approval, Cell, Outcome, PlatformRow, Status, Verdict};
pub use weak::{WeakSpot, weak_spots};
