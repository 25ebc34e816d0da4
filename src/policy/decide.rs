//! The decision rule.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use jiff::Timestamp;

use super::candidate::{Candidate, Image, Refusal};
use super::file::{Builder, ImageRule, Policy};
use super::verdict::{Approval, Cell, Ignored, Outcome, PlatformRow, Status, Verdict};
use super::vote::{Group, Vote};
use crate::attestation::{Attestation, Claim, Commit, Content, Rejection, Statement};
use crate::oci::{Digest, Platform, System};
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
}

/// What one builder comes to in one group for one platform.
struct Finding {
    status: Status,
    reason: Option<Reason>,
    content: Option<Content>,
}

/// A builder's findings, and how many operators agree, for one platform.
struct Tally<'a> {
    findings: BTreeMap<&'a str, Finding>,
    have: usize,
}

/// One group, judged.
struct Judged<'a> {
    rank: Rank,
    tallies: BTreeMap<&'a Platform, Tally<'a>>,
}

/// What a group comes to; greater is reported before smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Short,
    Dissent,
    Equivocation,
    Met,
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
    let (images, mut refusals) = candidate.images();
    let Some(rule) = policy.image(candidate.repository()) else {
        let detail = format!("the policy has no rule for `{}`", candidate.repository());
        refusals.insert(0, Refusal { reason: Reason::NoRule, detail });
        return verdict(policy, candidate, Outcome::Refused, refusals);
    };
    refusals.extend(against_platforms(rule, &images, candidate));
    let need = expected.quorum.map_or(rule.quorum, |raised| raised.max(rule.quorum)).get() as usize;

    let mut hearing = Hearing::default();
    for attestation in &evidence.attestations {
        hearing.hear(attestation, policy, rule, candidate, &images, now);
    }
    for rejection in &evidence.rejections {
        hearing.hear_rejection(rejection, policy, &images);
    }

    let mut groups: BTreeMap<&Group, Vec<&Vote<'_>>> = BTreeMap::new();
    for vote in &hearing.votes {
        groups.entry(&vote.group).or_default().push(vote);
    }
    let wanted = |group: &Group| expected.commit.as_ref().is_none_or(|commit| *commit == group.commit);
    let judged = groups
        .iter()
        .filter(|(group, _)| wanted(group))
        .map(|(group, votes)| (*group, judge(votes, &images, need)))
        // Groups sort by sequence: of several of one rank, the newest is reported.
        .max_by(|(a, x), (b, y)| (x.rank, *a).cmp(&(y.rank, *b)));

    let outcome = match &judged {
        _ if !refusals.is_empty() => Outcome::Refused,
        Some((group, judged)) => match judged.rank {
            Rank::Equivocation => Outcome::Equivocation,
            Rank::Dissent => Outcome::Dissent,
            Rank::Short => Outcome::Short,
            Rank::Met => Outcome::Met(Approval {
                repository: candidate.repository().clone(),
                digest: candidate.digest(),
                policy: policy.digest(),
                commit: group.commit.clone(),
                sequence: group.sequence,
                tags: rule.tag_rules().to_vec(),
            }),
        },
        None => Outcome::Short,
    };

    let mut verdict = verdict(policy, candidate, outcome, refusals);
    verdict.group = judged.as_ref().map(|(group, _)| (*group).clone());
    let chosen = judged.as_ref().map(|(_, judged)| judged);
    for (platform, system) in rows(rule, &images) {
        let image = images.get(&platform);
        let tally = chosen.and_then(|judged| judged.tallies.get(&platform));
        let cells =
            policy.builders().iter().map(|builder| hearing.cell(builder, image, tally, &wanted)).collect();
        verdict.platforms.push(PlatformRow {
            platform,
            system,
            digest: image.map(|image| image.digest),
            have: tally.map_or(0, |tally| tally.have),
            need,
            cells,
        });
    }
    hearing.ignored.sort_by(|a, b| (a.bundle, a.reason).cmp(&(b.bundle, b.reason)));
    hearing.ignored.dedup();
    verdict.ignored = hearing.ignored;
    verdict
}

fn verdict(policy: &Policy, candidate: &Candidate, outcome: Outcome, refusals: Vec<Refusal>) -> Verdict {
    Verdict {
        repository: candidate.repository().clone(),
        digest: candidate.digest(),
        policy: policy.digest(),
        outcome,
        refusals,
        group: None,
        platforms: Vec::new(),
        ignored: Vec::new(),
    }
}

/// Required platforms that are missing, and platforms that nobody named.
fn against_platforms(
    rule: &ImageRule,
    images: &BTreeMap<Platform, Image>,
    candidate: &Candidate,
) -> Vec<Refusal> {
    // Of what is no index, nothing is missing that could be there.
    if candidate.index().is_none() {
        return Vec::new();
    }
    let stands = |platform: &Platform| {
        candidate.manifests().iter().any(|descriptor| descriptor.platform.as_ref() == Some(platform))
    };
    let missing = rule.required.keys().filter(|platform| !stands(platform)).map(|platform| Refusal {
        reason: Reason::PlatformMissing,
        detail: format!("the policy requires {platform}, and the index does not have it"),
    });
    let extra = images
        .keys()
        .filter(|platform| !rule.required.contains_key(*platform) && !rule.optional.contains_key(*platform))
        .map(|platform| Refusal {
            reason: Reason::PlatformExtra,
            detail: format!("the index has {platform}, and the policy does not name it"),
        });
    missing.chain(extra).collect()
}

/// The platforms of the matrix: all that are required, and all others that the index has.
fn rows(rule: &ImageRule, images: &BTreeMap<Platform, Image>) -> BTreeMap<Platform, Option<System>> {
    let required = rule.required.iter().map(|(platform, system)| (platform.clone(), Some(*system)));
    let present = images.keys().map(|platform| (platform.clone(), System::for_platform(platform)));
    required.chain(present).collect()
}

/// Evidence as it is heard: votes, and what is to be said of the rest.
#[derive(Default)]
struct Hearing<'a> {
    votes: Vec<Vote<'a>>,
    /// By builder and manifest: evidence of a known signer that does not count.
    rejected: BTreeMap<(&'a str, Digest), (Reason, String)>,
    ignored: Vec<Ignored>,
}

impl<'a> Hearing<'a> {
    fn hear(
        &mut self,
        attestation: &'a Attestation,
        policy: &'a Policy,
        rule: &ImageRule,
        candidate: &Candidate,
        images: &BTreeMap<Platform, Image>,
        now: Timestamp,
    ) {
        match Vote::new(attestation, policy, rule, candidate.repository(), now) {
            Ok(vote) => match misplaced(vote.statement, images) {
                None => self.votes.push(vote),
                Some(detail) => {
                    let manifest = vote.statement.manifest();
                    self.reject(vote.builder, manifest, Reason::SystemMismatch, detail);
                }
            },
            Err(no) => {
                let manifest = attestation.statement().manifest();
                match no.builder {
                    Some(builder) => self.reject(builder, manifest, no.reason, no.detail),
                    None => self.ignored.push(Ignored {
                        bundle: attestation.bundle(),
                        manifest: Some(manifest),
                        reason: no.reason,
                        detail: no.detail,
                    }),
                }
            }
        }
    }

    /// Unproven evidence is shown where its signature says it belongs, and counts nowhere.
    fn hear_rejection(
        &mut self,
        rejection: &Rejection,
        policy: &'a Policy,
        images: &BTreeMap<Platform, Image>,
    ) {
        let builder = rejection.signer.as_ref().and_then(|signer| policy.builder(signer));
        let manifest = rejection.manifest.filter(|m| images.values().any(|image| image.digest == *m));
        match (builder, manifest) {
            (Some(builder), Some(manifest)) => {
                self.reject(builder, manifest, rejection.reason, rejection.detail.clone());
            }
            _ => self.ignored.push(Ignored {
                bundle: rejection.bundle,
                manifest: rejection.manifest,
                reason: rejection.reason,
                detail: rejection.detail.clone(),
            }),
        }
    }

    /// Keeps one reason for each builder and manifest, whatever the order of evidence.
    fn reject(&mut self, builder: &'a Builder, manifest: Digest, reason: Reason, detail: String) {
        let new = (reason, detail);
        let kept = self.rejected.entry((builder.name.as_str(), manifest)).or_insert_with(|| new.clone());
        if new < *kept {
            *kept = new;
        }
    }

    fn cell(
        &self,
        builder: &Builder,
        image: Option<&Image>,
        tally: Option<&Tally<'_>>,
        wanted: &dyn Fn(&Group) -> bool,
    ) -> Cell {
        let cell = |status, reason: Option<Reason>, detail: Option<String>| Cell {
            builder: builder.name.clone(),
            operator: builder.operator.clone(),
            status,
            detail: detail.or_else(|| reason.map(|reason| reason.text().to_owned())),
            reason,
            content: None,
        };
        if let Some(finding) = tally.and_then(|tally| tally.findings.get(builder.name.as_str())) {
            return Cell { content: finding.content, ..cell(finding.status, finding.reason, None) };
        }
        let Some(image) = image else {
            return cell(Status::Missing, None, None);
        };
        let about =
            |vote: &&Vote<'_>| vote.builder.name == builder.name && vote.statement.manifest() == image.digest;
        let mut elsewhere = self.votes.iter().filter(about).peekable();
        if let Some(vote) = elsewhere.peek() {
            let reason = if wanted(&vote.group) { Reason::OtherGroup } else { Reason::CommitUnexpected };
            // The newest of several, so that the order of evidence does not show.
            let newest = elsewhere.max_by(|a, b| a.group.cmp(&b.group)).map(|vote| vote.group.to_string());
            return cell(Status::Rejected, Some(reason), newest);
        }
        match self.rejected.get(&(builder.name.as_str(), image.digest)) {
            Some((reason, detail)) => cell(Status::Rejected, Some(*reason), Some(detail.clone())),
            None => cell(Status::Missing, None, None),
        }
    }
}

/// Whether a statement is about a manifest of the index, but of another system than its own.
fn misplaced(statement: &Statement, images: &BTreeMap<Platform, Image>) -> Option<String> {
    let manifest = statement.manifest();
    let image = images.values().find(|image| image.digest == manifest)?;
    let system = statement.build.system;
    (System::for_platform(&image.platform) != Some(system))
        .then(|| format!("the statement is for {system}, the manifest for {}", image.platform))
}

/// Judges one group: every statement in it, for every platform of the index.
fn judge<'a>(votes: &[&'a Vote<'a>], images: &'a BTreeMap<Platform, Image>, need: usize) -> Judged<'a> {
    // What each builder says it got, for each system, on whatever manifest.
    let mut said: BTreeMap<(System, &str), BTreeSet<Content>> = BTreeMap::new();
    for vote in votes {
        let build = &vote.statement.build;
        said.entry((build.system, vote.builder.name.as_str())).or_default().insert(build.content);
    }
    let equivocates =
        |system: System, builder: &str| said.get(&(system, builder)).is_some_and(|c| c.len() > 1);

    let mut rank = Rank::Met;
    let lower = |rank: &mut Rank, to: Rank| {
        // Among what is not met, the graver finding stands.
        *rank = if *rank == Rank::Met { to } else { (*rank).max(to) };
    };
    if said.values().any(|contents| contents.len() > 1) {
        lower(&mut rank, Rank::Equivocation);
    }
    let mut tallies = BTreeMap::new();
    for (platform, image) in images {
        let tally = match System::for_platform(platform) {
            Some(system) => tally(votes, system, image, &|builder| equivocates(system, builder)),
            None => Tally { findings: BTreeMap::new(), have: 0 },
        };
        if tally.findings.values().any(|finding| finding.status == Status::Dissent) {
            lower(&mut rank, Rank::Dissent);
        }
        if tally.have < need {
            lower(&mut rank, Rank::Short);
        }
        tallies.insert(platform, tally);
    }
    if images.is_empty() {
        lower(&mut rank, Rank::Short);
    }
    Judged { rank, tallies }
}

/// What each builder of a group comes to for one image.
fn tally<'a>(
    votes: &[&'a Vote<'a>],
    system: System,
    image: &Image,
    equivocates: &dyn Fn(&str) -> bool,
) -> Tally<'a> {
    let here: Vec<_> = votes.iter().filter(|vote| vote.statement.build.system == system).collect();
    let approves =
        |vote: &Vote<'_>| vote.statement.claim == Claim::Build && vote.statement.subject == image.digest;
    let content = |vote: &Vote<'_>| vote.statement.build.content;
    let honest = |vote: &&&&Vote<'_>| !equivocates(&vote.builder.name);

    // The content that most builders approve, of those that are what the manifest holds.
    let mut camps: BTreeMap<Content, BTreeSet<&str>> = BTreeMap::new();
    for vote in here.iter().filter(honest) {
        if approves(vote) && content(vote).config_digest == image.config_digest {
            camps.entry(content(vote)).or_default().insert(&vote.builder.name);
        }
    }
    let largest = camps.values().map(BTreeSet::len).max();
    let mut leading =
        camps.iter().filter(|(_, camp)| Some(camp.len()) == largest).map(|(content, _)| *content);
    let agreed = match (leading.next(), leading.next()) {
        (Some(content), None) => Some(content),
        // Nobody approves it, or two camps are equal: nothing is agreed.
        _ => None,
    };

    let mut findings: BTreeMap<&str, Finding> = BTreeMap::new();
    let mut operators = BTreeSet::new();
    for vote in &here {
        let (status, reason) = if equivocates(&vote.builder.name) {
            (Status::Equivocation, Some(Reason::Equivocation))
        } else if matches!(vote.statement.claim, Claim::Dissent { .. }) {
            (Status::Dissent, Some(Reason::SignedDissent))
        } else if agreed.is_some_and(|agreed| agreed != content(vote)) || (agreed.is_none() && approves(vote))
        {
            (Status::Dissent, Some(Reason::ContentDiffers))
        } else if approves(vote) {
            (Status::Counted, None)
        } else {
            (Status::Rejected, Some(Reason::OtherManifest))
        };
        let finding = Finding { status, reason, content: Some(content(vote)) };
        // One builder, several statements: the gravest stands, but a vote outweighs its copies
        // on other manifests.
        let weight = |status: Status| match status {
            Status::Missing | Status::Rejected => 0,
            Status::Counted => 1,
            Status::Dissent => 2,
            Status::Equivocation => 3,
        };
        match findings.get(vote.builder.name.as_str()) {
            Some(kept) if (weight(kept.status), kept.reason) >= (weight(finding.status), finding.reason) => {}
            _ => {
                findings.insert(&vote.builder.name, finding);
            }
        }
    }
    for vote in &here {
        if findings.get(vote.builder.name.as_str()).is_some_and(|finding| finding.status == Status::Counted) {
            operators.insert(vote.builder.operator.as_str());
        }
    }
    Tally { findings, have: operators.len() }
}
