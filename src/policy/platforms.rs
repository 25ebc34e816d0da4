//! Which platforms a release must have, may have, and has.

use std::collections::{BTreeMap, BTreeSet};

use super::candidate::{Candidate, Image, Refusal};
use super::decide::{Expected, Purpose};
use super::file::ImageRule;
use super::tally::{Finding, Tally};
use crate::oci::{Platform, System};
use crate::reason::Reason;

/// The platforms of a candidate, beside those that the rule and the caller want.
pub(super) struct Wanted<'a> {
    rule: &'a ImageRule,
    expected: &'a Expected,
    /// Those that the image has, in good order or not.
    standing: BTreeSet<Platform>,
    scope: Scope,
}

/// What a verdict is on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// A release: it must have every platform that the rule requires.
    Whole,
    /// One image without an index, to be run: a release of its own platform alone.
    Alone,
    /// No image at all. Nothing is missing that could be there.
    Nothing,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(
        rule: &'a ImageRule,
        candidate: &Candidate,
        images: &BTreeMap<Platform, Image>,
        expected: &'a Expected,
    ) -> Self {
        let stated = candidate.manifests().iter().filter_map(|child| child.platform.as_ref());
        let standing = stated.chain(images.keys()).cloned().collect();
        let scope = match (candidate.is_index(), images.is_empty(), &expected.purpose) {
            (true, ..) | (false, false, Purpose::Promote(_) | Purpose::Leave(_)) => Scope::Whole,
            (false, false, Purpose::Verify) => Scope::Alone,
            (false, true, _) => Scope::Nothing,
        };
        Self { rule, expected, standing, scope }
    }

    /// Whether the verdict is on all that a release must have.
    pub(super) fn is_whole(&self) -> bool {
        self.scope == Scope::Whole && self.expected.platforms.is_empty()
    }

    /// Required platforms that are missing, platforms that nobody named, and those that the caller
    /// asks for in vain.
    pub(super) fn refusals(&self, images: &BTreeMap<Platform, Image>) -> Vec<Refusal> {
        let rule = self.rule;
        let named = |platform: &&Platform| {
            rule.required.contains_key(*platform) || rule.optional.contains_key(*platform)
        };
        let whole = self.scope == Scope::Whole;
        let missing = rule.required.keys().filter(|platform| whole && !self.standing.contains(*platform));
        let missing = missing.map(|platform| {
            refusal(
                Reason::PlatformMissing,
                format!("the policy requires {platform}, and the image does not have it"),
            )
        });
        let extra = images.keys().filter(|platform| !named(platform));
        let extra = extra.map(|platform| {
            refusal(
                Reason::PlatformExtra,
                format!("the image has {platform}, and the policy does not name it"),
            )
        });
        let asked = self.expected.platforms.difference(&self.standing);
        let asked = asked.map(|platform| {
            refusal(
                Reason::PlatformMissing,
                format!("{platform} is asked for, and the image does not have it"),
            )
        });
        missing.chain(extra).chain(asked).collect()
    }

    /// What a release of this sequence must have besides, and the image has not; with the sequence
    /// from which on.
    pub(super) fn lacking(&self, sequence: u64) -> impl Iterator<Item = (&Platform, u64)> {
        let since = self.rule.since.iter().map(|(platform, since)| (platform, *since));
        since.filter(move |(platform, since)| {
            self.scope == Scope::Whole && *since <= sequence && !self.standing.contains(*platform)
        })
    }

    /// The same in words.
    pub(super) fn lacks(&self, sequence: u64) -> impl Iterator<Item = Refusal> {
        self.lacking(sequence).map(move |(platform, since)| {
            refusal(
                Reason::PlatformMissing,
                format!("the policy requires {platform} from the sequence {since} on, this release has {sequence}, and the image does not have it"),
            )
        })
    }

    /// The platforms of the matrix: all that are required of a release of this sequence, all others
    /// that the image has, and those over which builders differ though the image does not have them.
    pub(super) fn rows(
        &self,
        images: &BTreeMap<Platform, Image>,
        tallies: &BTreeMap<Platform, Tally<'_>>,
        sequence: Option<u64>,
    ) -> BTreeMap<Platform, Option<System>> {
        let disputed = tallies
            .iter()
            .filter(|(_, tally)| tally.findings.values().any(Finding::contradicts))
            .map(|(platform, _)| platform);
        let lacking =
            sequence.into_iter().flat_map(|sequence| self.lacking(sequence)).map(|(platform, _)| platform);
        let alone = self.scope == Scope::Alone;
        let required = self.rule.required.keys().filter(|_| !alone);
        required
            .chain(lacking)
            .chain(images.keys())
            .filter(|platform| self.expected.asks(platform))
            .chain(disputed)
            .map(|platform| (platform.clone(), System::for_platform(platform)))
            .collect()
    }
}

fn refusal(reason: Reason, detail: String) -> Refusal {
    Refusal { reason, detail }
}
