//! The decision rule.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use jiff::Timestamp;

use super::builder::Domains;
use super::candidate::{Candidate, Image, Refusal};
use super::file::{ImageRule, Policy};
use super::hearing::Hearing;
use super::platforms::Wanted;
use super::tag::{Bar, TagRule};
use super::tally::{Judged, Rank, judge};
use super::verdict::{Approval, Outcome, PlatformRow, Verdict};
use super::vote::{Backing, Group, Vote};
use crate::attestation::{Attestation, Commit, Provenance, Rejection};
use crate::oci::{Platform, Tag};
use crate::reason::Reason;

/// All evidence that was found, proven or not.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What was proven.
    pub attestations: Vec<Attestation>,
    /// The same of other types than ours.
    pub provenances: Vec<Attestation<Provenance>>,
    /// What was not, and why.
    pub rejections: Vec<Rejection>,
}

/// What the caller expects of the release.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The commit it must be of.
    pub commit: Option<Commit>,
    /// A higher quorum than the policy's; a lower one changes nothing.
    pub quorum: Option<NonZeroU32>,
    /// The environment whose quorum that is, where it is one's.
    pub environment: Option<String>,
    /// What the verdict is for.
    pub purpose: Purpose,
    /// The only platforms that need the quorum; empty: all of the index. What is met for some alone
    /// permits no tag to move, and a contradiction over another stands.
    pub platforms: BTreeSet<Platform>,
}

impl Expected {
    pub(super) fn asks(&self, platform: &Platform) -> bool {
        self.platforms.is_empty() || self.platforms.contains(platform)
    }
}

/// What a verdict is for: which quorum and which rules on time hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Running the image: `verify_max_age`.
    #[default]
    Verify,
    /// Moving these tags to it: `max_age`, and the quorum of the strictest of them.
    Promote(Vec<Tag>),
    /// Learning the sequence of what this tag names, before it moves away. No rule on age holds:
    /// what was released stays released, however long ago.
    Leave(Tag),
}

/// Judges `candidate` under `policy`.
///
/// `now` bounds the verified times from above; it is an argument, so that the same input always
/// gives the same verdict.
pub fn decide(
    policy: &Policy,
    candidate: &Candidate,
    evidence: &Evidence,
    now: Timestamp,
    expected: &Expected,
) -> Verdict {
    let rule = policy.image(candidate.repository());
    let (images, mut refusals) = candidate.images(rule);
    let Some(rule) = rule else {
        let detail = format!("the policy has no rule for `{}`", candidate.repository());
        refusals.insert(0, Refusal { reason: Reason::NoRule, detail });
        return verdict(policy, candidate, Outcome::Refused, refusals);
    };
    let platforms = Wanted::new(rule, candidate, &images, expected);
    refusals.extend(platforms.refusals(&images));
    let bar = rule.bar(&expected.purpose);
    let quorum = expected.quorum.map_or(bar.quorum, |raised| raised.max(bar.quorum));
    let need = quorum.get() as usize;
    // Where its quorum is that of the tags, it is theirs that counts.
    let named = expected.environment.as_ref();
    let named = named.filter(|_| quorum > bar.quorum || expected.purpose == Purpose::Verify);
    let environment = named.or(bar.environment.as_ref());

    let mut hearing = Hearing::new(policy, rule, candidate, &images);
    for attestation in &evidence.attestations {
        hearing.hear(attestation, now, &expected.purpose);
    }
    for attestation in &evidence.provenances {
        hearing.hear_provenance(attestation, now, &expected.purpose);
    }
    for rejection in &evidence.rejections {
        hearing.hear_rejection(rejection);
    }
    hearing.settle();

    let wanted = |commit: &Commit| expected.commit.as_ref().is_none_or(|expected| expected == commit);
    let judged = best(&hearing, &images, &platforms, need, expected, &wanted);
    if let Some((group, _)) = judged.as_ref().filter(|(_, judged)| judged.rank == Rank::Lacking) {
        refusals.extend(platforms.lacks(group.sequence));
    }
    let outcome = match &judged {
        _ if !refusals.is_empty() => Outcome::Refused,
        Some((group, judged)) => match judged.rank {
            Rank::Equivocation => Outcome::Equivocation,
            Rank::Dissent => Outcome::Dissent,
            Rank::Short => Outcome::Short,
            Rank::Lacking => Outcome::Refused,
            Rank::Met => Outcome::Met(Approval {
                repository: candidate.repository().clone(),
                digest: candidate.digest(),
                policy: policy.digest(),
                commit: group.commit.clone(),
                sequence: group.sequence,
                ordered: judged.all(&images, need, &rule.distinct_by, &|ballot| ballot.ordered),
                bar: Bar { quorum, environment: environment.cloned() },
                tags: if platforms.is_whole() { tags(rule, judged, &images, need) } else { Vec::new() },
                counted: judged.ballots(&images).map(|ballot| ballot.input.clone()).collect(),
            }),
        },
        None => Outcome::Short,
    };

    let mut verdict = verdict(policy, candidate, outcome, refusals);
    verdict.environment = environment.cloned();
    verdict.distinct_by = rule.distinct_by.clone();
    verdict.group = judged.as_ref().map(|(group, _)| group.clone());
    let unspoken = BTreeMap::new();
    let tallies = judged.as_ref().map_or(&unspoken, |(_, judged)| &judged.tallies);
    let sequence = verdict.group.as_ref().map(|group| group.sequence);
    for (platform, system) in platforms.rows(&images, tallies, sequence) {
        let image = images.get(&platform);
        let tally = tallies.get(&platform);
        let cells = policy
            .builders()
            .iter()
            .map(|builder| {
                let silent = judged
                    .as_ref()
                    .zip(system)
                    .is_some_and(|((group, judged), system)| hearing.silent(builder, system, group, judged));
                hearing.cell(builder, image, system, tally, silent, &wanted)
            })
            .collect();
        verdict.platforms.push(PlatformRow {
            platform,
            system,
            digest: image.map(|image| image.digest),
            have: tally.map_or(0, |tally| tally.have),
            need,
            cells,
        });
    }
    hearing.pass_over(verdict.group.as_ref());
    (verdict.waived, verdict.ignored) = hearing.rest();
    verdict
}

/// The group that is reported: each is judged by itself.
fn best<'a>(
    hearing: &'a Hearing<'_>,
    images: &BTreeMap<Platform, Image>,
    platforms: &Wanted<'_>,
    need: usize,
    expected: &Expected,
    wanted: &dyn Fn(&Commit) -> bool,
) -> Option<(Group, Judged<'a>)> {
    let mut groups: BTreeMap<Group, Vec<&Vote<'_>>> = BTreeMap::new();
    for vote in &hearing.votes {
        groups.entry(vote.group()).or_default().push(vote);
    }
    let mut backings: BTreeMap<&Commit, Vec<&Backing<'_>>> = BTreeMap::new();
    for backing in &hearing.backings {
        backings.entry(&backing.statement.commit).or_default().push(backing);
    }
    let distinct_by = &hearing.rule.distinct_by;
    let nearness = |judged: &Judged<'_>| {
        let met = judged.rank == Rank::Met;
        let ordered = met && judged.all(images, need, distinct_by, &|ballot| ballot.ordered);
        (judged.rank, ordered, judged.agreeing())
    };
    groups
        .into_iter()
        .filter(|(group, _)| wanted(&group.commit))
        .map(|(group, votes)| {
            let backings = backings.get(&group.commit).into_iter().flatten().copied();
            let backings: Vec<&Backing<'_>> = backings.filter(|backing| backing.joins(&group)).collect();
            let asked = |platform: &Platform| expected.asks(platform);
            let mut judged = judge(&votes, &backings, images, need, distinct_by, &asked);
            if judged.rank == Rank::Met && !hearing.all_heard(&group, &judged, expected) {
                judged.rank = Rank::Short;
            }
            // Only a quorum says which release this is: one voice could name any sequence.
            if judged.rank == Rank::Met && platforms.lacking(group.sequence).next().is_some() {
                judged.rank = Rank::Lacking;
            }
            (group, judged)
        })
        // Of several that are met the newest is reported, for groups sort by sequence, and one that full
        // statements meet before one that others complete; of those that are not, the nearest to it.
        .map(|(group, judged)| (nearness(&judged), group, judged))
        .max_by(|(one, group, _), (other, next, _)| (one, group).cmp(&(other, next)))
        .map(|(_, group, judged)| (group, judged))
}

/// The rules of the tags, each with whether n voices state a ref that feeds it, for every platform.
fn tags(
    rule: &ImageRule,
    judged: &Judged<'_>,
    images: &BTreeMap<Platform, Image>,
    need: usize,
) -> Vec<(TagRule, bool)> {
    let fed = |tag: &TagRule| {
        tag.feed.is_open()
            || judged.all(images, need, &rule.distinct_by, &|ballot| tag.feed.takes(ballot.git_ref))
    };
    rule.tag_rules().iter().map(|tag| (tag.clone(), fed(tag))).collect()
}

fn verdict(policy: &Policy, candidate: &Candidate, outcome: Outcome, refusals: Vec<Refusal>) -> Verdict {
    Verdict {
        repository: candidate.repository().clone(),
        digest: candidate.digest(),
        policy: policy.digest(),
        outcome,
        refusals: refusals.into_iter().map(Refusal::shortened).collect(),
        group: None,
        environment: None,
        distinct_by: Domains::default(),
        waived: Vec::new(),
        platforms: Vec::new(),
        ignored: Vec::new(),
    }
}
