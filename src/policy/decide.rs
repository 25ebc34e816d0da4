//! The decision rule.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use jiff::Timestamp;

use super::builder::{Builder, Domain};
use super::candidate::{Candidate, Image, Refusal};
use super::file::{ImageRule, Policy};
use super::platforms::Wanted;
use super::tag::{Bar, TagRule};
use super::tally::{Judged, Rank, Tally, judge};
use super::verdict::{Approval, Cell, Ignored, Outcome, PlatformRow, Status, Verdict, Waived};
use super::vote::{Group, Vote};
use crate::attestation::{Attestation, Claim, Commit, Rejection, Statement};
use crate::oci::{Digest, Platform, System, Tag};
use crate::reason::Reason;

/// All evidence that was found, proven or not.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What was proven.
    pub attestations: Vec<Attestation>,
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

    let mut hearing = Hearing::new(policy, rule, candidate, &images);
    for attestation in &evidence.attestations {
        hearing.hear(attestation, now, &expected.purpose);
    }
    for rejection in &evidence.rejections {
        hearing.hear_rejection(rejection);
    }

    let mut groups: BTreeMap<&Group, Vec<&Vote<'_>>> = BTreeMap::new();
    for vote in &hearing.votes {
        groups.entry(&vote.group).or_default().push(vote);
    }
    let wanted = |group: &Group| expected.commit.as_ref().is_none_or(|commit| *commit == group.commit);
    let judged = groups
        .iter()
        .filter(|(group, _)| wanted(group))
        .map(|(group, votes)| {
            let mut judged =
                judge(votes, &images, need, rule.distinct_by, &|platform| expected.asks(platform));
            if judged.rank == Rank::Met && !hearing.all_heard(group, &judged, expected) {
                judged.rank = Rank::Short;
            }
            if platforms.lacking(group.sequence).next().is_some() {
                judged.rank = Rank::Lacking;
            }
            (*group, judged)
        })
        // Of several that are met the newest is reported, for groups sort by sequence; of others the
        // one that is nearest to it.
        .max_by_key(|(group, judged)| (judged.rank, judged.agreeing(), *group));

    if let Some((group, _)) = judged.as_ref().filter(|(_, judged)| judged.rank == Rank::Lacking) {
        refusals.extend(platforms.lacks(group.sequence));
    }
    let outcome = match &judged {
        _ if !refusals.is_empty() => Outcome::Refused,
        Some((group, judged)) => match judged.rank {
            Rank::Equivocation => Outcome::Equivocation,
            Rank::Dissent => Outcome::Dissent,
            Rank::Short | Rank::Lacking => Outcome::Short,
            Rank::Met => Outcome::Met(Approval {
                repository: candidate.repository().clone(),
                digest: candidate.digest(),
                policy: policy.digest(),
                commit: group.commit.clone(),
                sequence: group.sequence,
                bar: Bar { quorum, environment: bar.environment.clone() },
                tags: if platforms.is_whole() { tags(rule, judged, &images, need) } else { Vec::new() },
                counted: judged.ballots(&images).map(|ballot| ballot.input.clone()).collect(),
            }),
        },
        None => Outcome::Short,
    };

    let mut verdict = verdict(policy, candidate, outcome, refusals);
    verdict.environment.clone_from(&bar.environment);
    verdict.distinct_by = rule.distinct_by;
    verdict.group = judged.as_ref().map(|(group, _)| (*group).clone());
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
    verdict.waived = hearing.waived.into_iter().map(|(_, _, waived)| waived).collect();
    verdict.waived.sort();
    verdict.waived.dedup();
    hearing.ignored.sort();
    hearing.ignored.dedup();
    verdict.ignored = hearing.ignored;
    verdict
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
            || judged.all(images, need, rule.distinct_by, &|ballot| tag.feed.takes(ballot.git_ref))
    };
    rule.tag_rules().iter().map(|tag| (tag.clone(), fed(tag))).collect()
}

fn verdict(policy: &Policy, candidate: &Candidate, outcome: Outcome, refusals: Vec<Refusal>) -> Verdict {
    Verdict {
        repository: candidate.repository().clone(),
        digest: candidate.digest(),
        policy: policy.digest(),
        outcome,
        refusals,
        group: None,
        environment: None,
        distinct_by: Domain::default(),
        waived: Vec::new(),
        platforms: Vec::new(),
        ignored: Vec::new(),
    }
}

/// Evidence as it is heard: votes, and what is to be said of the rest.
struct Hearing<'a> {
    policy: &'a Policy,
    rule: &'a ImageRule,
    candidate: &'a Candidate,
    images: &'a BTreeMap<Platform, Image>,
    votes: Vec<Vote<'a>>,
    /// By builder and manifest: evidence of a known signer that does not count.
    rejected: BTreeMap<(&'a str, Digest), (Reason, String)>,
    /// What is waived, with the group and system that it is of.
    waived: Vec<(Group, System, Waived)>,
    ignored: Vec<Ignored>,
}

impl<'a> Hearing<'a> {
    fn new(
        policy: &'a Policy,
        rule: &'a ImageRule,
        candidate: &'a Candidate,
        images: &'a BTreeMap<Platform, Image>,
    ) -> Self {
        let (votes, rejected, waived, ignored) = Default::default();
        Self { policy, rule, candidate, images, votes, rejected, waived, ignored }
    }

    fn in_index(&self, manifest: Digest) -> bool {
        self.images.values().any(|image| image.digest == manifest)
    }

    fn hear(&mut self, attestation: &'a Attestation, now: Timestamp, purpose: &Purpose) {
        let repository = self.candidate.repository();
        let vote = Vote::new(attestation, self.policy, self.rule, repository, now, purpose);
        match vote {
            Ok(mut vote) => {
                // It does not count, and is heard all the same: it may disagree.
                if let Some(detail) = self.misplaced(vote.statement) {
                    let manifest = Some(vote.statement.manifest());
                    let reason = Reason::SystemMismatch;
                    self.reject(Some(vote.builder), vote.bundle, manifest, reason, detail.clone());
                    vote.barred.get_or_insert((reason, detail));
                }
                self.votes.push(vote);
            }
            Err(no) => {
                let statement = attestation.statement();
                if let (Reason::Waived, Some(builder)) = (no.reason, no.builder) {
                    let waived = Waived {
                        statement: attestation.payload(),
                        builder: builder.name.clone(),
                        manifest: statement.manifest(),
                        detail: no.detail.clone(),
                    };
                    self.waived.push((Group::of(statement), statement.build.system, waived));
                }
                let manifest = Some(statement.manifest());
                self.reject(no.builder, attestation.bundle(), manifest, no.reason, no.detail);
            }
        }
    }

    /// Whether the rule asks for nobody more than has spoken, for every platform of the index.
    fn all_heard(&self, group: &Group, judged: &Judged<'_>, expected: &Expected) -> bool {
        self.images.keys().filter(|platform| expected.asks(platform)).all(|platform| {
            let system = System::for_platform(platform);
            let silent = |builder| system.is_none_or(|system| self.silent(builder, system, group, judged));
            !self.policy.builders().iter().any(silent)
        })
    }

    /// Whether a builder must be heard on a system, and was not: it may vote there, has a key that
    /// is believed at some time, and none of its statements in the group are known. One that is
    /// waived was heard; one that a revocation silences was not.
    fn silent(&self, builder: &Builder, system: System, group: &Group, judged: &Judged<'_>) -> bool {
        let spoke = judged
            .tallies
            .get(&system.platform())
            .is_some_and(|tally| tally.findings.contains_key(builder.name.as_str()));
        let waived = || {
            self.waived
                .iter()
                .any(|(of, on, waived)| of == group && *on == system && waived.builder == builder.name)
        };
        self.rule.hear_all && builder.has_voice() && builder.builds(system) && !spoke && !waived()
    }

    /// Whether a statement is about a manifest of the index, but of another system than its own.
    fn misplaced(&self, statement: &Statement) -> Option<String> {
        let manifest = statement.manifest();
        let system = statement.build.system;
        // One manifest may stand for two variants that its configuration leaves open.
        let platforms: Vec<&Platform> = self
            .images
            .values()
            .filter(|image| image.digest == manifest)
            .map(|image| &image.platform)
            .collect();
        let first = platforms.first()?;
        let fits = platforms.iter().any(|platform| **platform == system.platform());
        (!fits).then(|| format!("the statement is for {system}, the manifest for {first}"))
    }

    /// Votes of other groups than the one that is `shown`, on images that the index does not have.
    fn pass_over(&mut self, shown: Option<&Group>) {
        let others = self.votes.iter().filter(|vote| shown != Some(&vote.group));
        let others = others.filter(|vote| !self.in_index(vote.statement.manifest()));
        let ignored: Vec<_> = others
            .map(|vote| Ignored {
                bundle: vote.bundle,
                manifest: Some(vote.statement.manifest()),
                reason: Reason::OtherManifest,
                detail: vote.group.to_string(),
            })
            .collect();
        self.ignored.extend(ignored);
    }

    /// Unproven evidence is shown where its signature says it belongs, and counts nowhere.
    fn hear_rejection(&mut self, rejection: &Rejection) {
        let builder = rejection.signer.as_ref().and_then(|signer| self.policy.builder(signer));
        let Rejection { bundle, manifest, reason, detail, .. } = rejection.clone();
        self.reject(builder, bundle, manifest, reason, detail);
    }

    /// Keeps one reason for each builder and manifest, whatever the order of evidence; what has
    /// no such place is ignored, and shown as that.
    fn reject(
        &mut self,
        builder: Option<&'a Builder>,
        bundle: Digest,
        manifest: Option<Digest>,
        reason: Reason,
        detail: String,
    ) {
        match (builder, manifest) {
            (Some(builder), Some(manifest)) if self.in_index(manifest) => {
                let new = (reason, detail);
                let place = (builder.name.as_str(), manifest);
                let kept = self.rejected.entry(place).or_insert_with(|| new.clone());
                if new < *kept {
                    *kept = new;
                }
            }
            _ => self.ignored.push(Ignored { bundle, manifest, reason, detail }),
        }
    }

    fn cell(
        &self,
        builder: &Builder,
        image: Option<&Image>,
        system: Option<System>,
        tally: Option<&Tally<'_>>,
        silent: bool,
        wanted: &dyn Fn(&Group) -> bool,
    ) -> Cell {
        let cell = |status, reason: Option<Reason>, detail: Option<String>| Cell {
            builder: builder.name.clone(),
            operator: builder.operator.clone(),
            status,
            detail: detail.or_else(|| reason.map(|reason| reason.text().to_owned())),
            reason,
            content: None,
            statements: BTreeMap::new(),
            able: builder.has_voice() && system.is_none_or(|system| builder.builds(system)),
        };
        let finding = tally.and_then(|tally| tally.findings.get(builder.name.as_str()));
        // Of a platform that the index does not have, only a contradiction says anything.
        if let Some(finding) = finding.filter(|finding| image.is_some() || finding.contradicts()) {
            let detail = finding.detail.clone();
            let statements = tally.and_then(|tally| tally.statements.get(builder.name.as_str()));
            return Cell {
                content: finding.content,
                statements: statements.cloned().unwrap_or_default(),
                ..cell(finding.status, finding.reason, detail)
            };
        }
        let Some(image) = image else {
            return cell(Status::Missing, None, None);
        };
        let elsewhere = self.votes.iter().filter(|vote| {
            vote.builder.name == builder.name
                && vote.statement.manifest() == image.digest
                && Some(vote.statement.build.system) == system
        });
        // The newest of several, so that the order of evidence does not show.
        if let Some((group, disputes)) =
            elsewhere.map(|v| (&v.group, v.statement.claim != Claim::Build)).max()
        {
            let reason = if wanted(group) { Reason::OtherGroup } else { Reason::CommitUnexpected };
            let said = if disputes { "disputes this manifest, of " } else { "" };
            let all = if silent { ", and of this build nothing, which the policy wants heard" } else { "" };
            return cell(Status::Rejected, Some(reason), Some(format!("{said}{group}{all}")));
        }
        match self.rejected.get(&(builder.name.as_str(), image.digest)) {
            Some((Reason::Waived, detail)) => {
                cell(Status::Waived, Some(Reason::Waived), Some(detail.clone()))
            }
            Some((reason, detail)) => cell(Status::Rejected, Some(*reason), Some(detail.clone())),
            None if silent => cell(Status::Missing, Some(Reason::BuilderSilent), None),
            None => cell(Status::Missing, None, None),
        }
    }
}
