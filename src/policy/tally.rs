//! One group of votes, counted for every platform.

use std::collections::{BTreeMap, BTreeSet};

use super::builder::{Builder, Domains};
use super::candidate::Image;
use super::verdict::Status;
use super::voices;
use super::vote::{Backing, UNBOUND, Vote};
use crate::attestation::summary::Input;
use crate::attestation::{Claim, Content};
use crate::nix::NarHash;
use crate::oci::{Digest, Platform, System};
use crate::reason::Reason;

/// What one builder comes to in one group for one platform.
pub(super) struct Finding {
    pub status: Status,
    pub reason: Option<Reason>,
    pub detail: Option<String>,
    pub content: Option<Content>,
    /// Whether it is what a full statement came to.
    full: bool,
}

impl Finding {
    /// Whether the builder disagrees, with others or with itself.
    pub(super) fn contradicts(&self) -> bool {
        matches!(self.status, Status::Dissent | Status::Equivocation)
    }
}

/// A statement that counts.
pub(super) struct Ballot<'a> {
    pub builder: &'a Builder,
    /// Whether it states the sequence.
    pub ordered: bool,
    pub git_ref: Option<&'a str>,
    pub input: Input,
}

/// A builder's findings, and how many voices agree, for one platform.
#[derive(Default)]
pub(super) struct Tally<'a> {
    pub findings: BTreeMap<&'a str, Finding>,
    /// Of each builder, the SHA-256 of all that it said here, and the content that it said there,
    /// if any.
    pub statements: BTreeMap<&'a str, BTreeMap<Digest, Option<Content>>>,
    /// What counts, of the builders that are found to agree.
    pub ballots: Vec<Ballot<'a>>,
    pub have: usize,
}

impl<'a> Ballot<'a> {
    fn full(vote: &Vote<'a>) -> Self {
        let (manifest, git_ref) = (vote.statement.manifest(), vote.statement.build.git_ref.as_deref());
        let input = Input { manifest, builder: vote.builder.name.clone(), statement: vote.payload };
        Self { builder: vote.builder, ordered: true, git_ref, input }
    }

    fn added(backing: &Backing<'a>) -> Self {
        let (manifest, git_ref) = (backing.statement.manifest, backing.statement.git_ref.as_deref());
        let input = Input { manifest, builder: backing.builder.name.clone(), statement: backing.payload };
        Self { builder: backing.builder, ordered: false, git_ref, input }
    }
}

impl<'a> Tally<'a> {
    /// Takes in what one statement of a builder comes to.
    fn keep(&mut self, builder: &'a Builder, statement: Digest, finding: Finding) {
        self.statements.entry(&builder.name).or_default().insert(statement, finding.content);
        let kept = self.findings.get(builder.name.as_str());
        if kept.is_none_or(|kept| weight(kept) < weight(&finding)) {
            self.findings.insert(&builder.name, finding);
        }
    }

    /// How many voices agree, of those whose ballots are kept.
    pub(super) fn voices(&self, distinct_by: &Domains, keep: &dyn Fn(&Ballot<'_>) -> bool) -> usize {
        // The policy was read only if every builder has the domain; one without would not count.
        let kept = self.ballots.iter().filter(|ballot| keep(ballot)).map(|ballot| ballot.builder);
        voices::most(kept, distinct_by)
    }
}

/// One group, judged: a tally for each platform of the index, and for each other platform that
/// a builder of the group spoke of.
pub(super) struct Judged<'a> {
    pub rank: Rank,
    pub tallies: BTreeMap<Platform, Tally<'a>>,
}

impl Judged<'_> {
    /// What counts, of the platforms that the index has.
    pub(super) fn ballots(&self, images: &BTreeMap<Platform, Image>) -> impl Iterator<Item = &Ballot<'_>> {
        let there = |platform: &&Platform| images.contains_key(*platform);
        self.tallies.iter().filter(move |(platform, _)| there(platform)).flat_map(|(_, tally)| &tally.ballots)
    }

    /// Whether the ballots that are kept are of n voices, for every platform of the index.
    pub(super) fn all(
        &self,
        images: &BTreeMap<Platform, Image>,
        need: usize,
        distinct_by: &Domains,
        keep: &dyn Fn(&Ballot<'_>) -> bool,
    ) -> bool {
        images.keys().all(|platform| {
            self.tallies.get(platform).is_some_and(|tally| tally.voices(distinct_by, keep) >= need)
        })
    }

    /// How many voices agree, of all platforms together; of what is met, it does not matter.
    pub(super) fn agreeing(&self) -> usize {
        if self.rank == Rank::Met { 0 } else { self.tallies.values().map(|tally| tally.have).sum() }
    }
}

/// What a group comes to; greater is reported before smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Short,
    Dissent,
    Equivocation,
    /// A release of its sequence has a platform that the index lacks.
    Lacking,
    Met,
}

/// Judges one group: every statement in it, for every platform of the index and every other that
/// was spoken of. A platform that was left out, or is not `asked` for, can still be disputed.
pub(super) fn judge<'a>(
    votes: &[&'a Vote<'a>],
    backings: &[&'a Backing<'a>],
    images: &BTreeMap<Platform, Image>,
    need: usize,
    distinct_by: &Domains,
    asked: &dyn Fn(&Platform) -> bool,
) -> Judged<'a> {
    let spoken = votes.iter().map(|vote| vote.statement.build.system.platform());
    let named = backings.iter().filter_map(|backing| Some(backing.statement.system?.platform()));
    let platforms: BTreeSet<Platform> = images.keys().cloned().chain(spoken).chain(named).collect();
    let mut tallies = BTreeMap::new();
    let mut rank = if images.is_empty() { Rank::Short } else { Rank::Met };
    for platform in platforms {
        let image = images.get(&platform);
        let tally = match System::for_platform(&platform) {
            Some(system) => tally(votes, backings, system, images, distinct_by),
            None => Tally::default(),
        };
        let found = |status| tally.findings.values().any(|finding| finding.status == status);
        let here = if found(Status::Equivocation) {
            Rank::Equivocation
        } else if found(Status::Dissent) {
            Rank::Dissent
        } else if image.is_some() && asked(&platform) && tally.have < need {
            Rank::Short
        } else {
            Rank::Met
        };
        // Of what is not met, the graver stands.
        rank = match (rank, here) {
            (Rank::Met, other) | (other, Rank::Met) => other,
            (one, other) => one.max(other),
        };
        tallies.insert(platform, tally);
    }
    Judged { rank, tallies }
}

/// What each builder of a group comes to for one system.
fn tally<'a>(
    votes: &[&'a Vote<'a>],
    backings: &[&'a Backing<'a>],
    system: System,
    images: &BTreeMap<Platform, Image>,
    distinct_by: &Domains,
) -> Tally<'a> {
    let image = images.get(&system.platform());
    let disputes = |vote: &Vote<'_>| match vote.statement.claim {
        // Over a platform that the index does not have, a dispute stands unless it is about another
        // manifest of the index.
        Claim::Dissent { disputes } => match image {
            Some(image) => image.digest == disputes,
            None => images.values().all(|image| image.digest != disputes),
        },
        Claim::Build => false,
    };
    let ours = |vote: &Vote<'_>| vote.statement.build.system == system;
    // Who disputes the manifest is heard on it, whatever system was built instead.
    let elsewhere = |vote: &&Vote<'_>| image.is_some() && !ours(vote) && disputes(vote);
    let foreign: Vec<&Vote<'a>> = votes.iter().copied().filter(elsewhere).collect();
    let here: Vec<&Vote<'a>> = votes.iter().copied().filter(|vote| ours(vote)).collect();
    let manifest = image.map(|image| image.digest);
    let backings: Vec<&Backing<'a>> =
        backings.iter().copied().filter(|backing| backing.is_of(system, manifest)).collect();
    let mut said: BTreeMap<&str, Said> = BTreeMap::new();
    for vote in &here {
        let content = vote.statement.build.content;
        let said = said.entry(&vote.builder.name).or_default();
        said.contents.insert(content);
        let about = manifest.unwrap_or_else(|| vote.statement.manifest());
        said.nar_hashes.entry(about).or_default().insert(content.nar_hash);
    }
    for backing in &backings {
        let said = said.entry(&backing.builder.name).or_default();
        said.nar_hashes.entry(backing.statement.manifest).or_default().extend(backing.statement.nar_hash);
    }
    let equivocates = |builder: &Builder| said.get(builder.name.as_str()).is_some_and(Said::twice);
    let both = |builder: &Builder| said.get(builder.name.as_str()).and_then(Said::both);
    let agreed = agreed(&here, image, &equivocates);
    let honest: BTreeSet<Content> = here
        .iter()
        .filter(|vote| !equivocates(vote.builder))
        .map(|vote| vote.statement.build.content)
        .collect();

    let mistaken = here.iter().any(|vote| {
        approves(vote, image) && !equivocates(vote.builder) && !holds(image, vote.statement.build.content)
    });

    let mut tally = Tally::default();
    for vote in here.iter().chain(&foreign) {
        let content = vote.statement.build.content;
        let differs = match agreed {
            Some(agreed) => content != agreed,
            // Nothing is agreed: contents that differ are a dissent by themselves, and so is one
            // that a builder approves the manifest for, though it holds something else.
            None => honest.len() > 1 || (mistaken && !holds(image, content)),
        };
        let (status, reason, detail) = if equivocates(vote.builder) {
            (Status::Equivocation, Some(Reason::Equivocation), both(vote.builder))
        } else if disputes(vote) {
            (Status::Dissent, Some(Reason::SignedDissent), None)
        } else if differs {
            (Status::Dissent, Some(Reason::ContentDiffers), None)
        } else if let Some((reason, detail)) = &vote.barred {
            (Status::Rejected, Some(*reason), Some(detail.clone()))
        } else if approves(vote, image) {
            (Status::Counted, None, vote.note.map(str::to_owned))
        } else {
            (Status::Rejected, Some(Reason::OtherManifest), None)
        };
        let finding = Finding { status, reason, detail, content: Some(content), full: true };
        tally.keep(vote.builder, vote.payload, finding);
    }
    for backing in &backings {
        let finding = if equivocates(backing.builder) {
            let (status, reason) = (Status::Equivocation, Some(Reason::Equivocation));
            Finding { status, reason, detail: both(backing.builder), content: None, full: false }
        } else {
            found(backing, system, manifest, agreed, &honest)
        };
        tally.keep(backing.builder, backing.payload, finding);
    }
    let counted = |builder: &Builder| {
        tally.findings.get(builder.name.as_str()).is_some_and(|found| found.status == Status::Counted)
    };
    let full =
        here.iter().filter(|vote| vote.barred.is_none() && approves(vote, image) && counted(vote.builder));
    let added = backings
        .iter()
        .filter(|backing| agreed.is_some() && backing.approves(system, manifest) && counted(backing.builder));
    tally.ballots = full.map(|vote| Ballot::full(vote)).chain(added.map(|one| Ballot::added(one))).collect();
    tally.have = tally.voices(distinct_by, &|_| true);
    tally
}

/// What one builder signed for one system.
#[derive(Default)]
struct Said {
    /// Of full statements, on whatever manifests.
    contents: BTreeSet<Content>,
    /// Of all statements, by manifest. Those of full statements stand with what the index has, if it
    /// has something.
    nar_hashes: BTreeMap<Digest, BTreeSet<NarHash>>,
}

impl Said {
    /// Whether it is two things. Who says two things counts for neither.
    fn twice(&self) -> bool {
        self.contents.len() > 1 || self.nar_hashes.values().any(|several| several.len() > 1)
    }

    /// The narHashes that differ, where full statements do not show them.
    fn both(&self) -> Option<String> {
        let several = self.nar_hashes.values().find(|several| several.len() > 1)?;
        let (one, other) = several.first().zip(several.last()).filter(|_| self.contents.len() < 2)?;
        Some(format!("it got the narHashes {one} and {other}"))
    }
}

/// What a backing comes to for one system, beside what full statements agree on.
fn found(
    backing: &Backing<'_>,
    system: System,
    manifest: Option<Digest>,
    agreed: Option<Content>,
    honest: &BTreeSet<Content>,
) -> Finding {
    // Another manifest may be of another image of the commit, and its content another.
    let here = manifest == Some(backing.statement.manifest);
    let other = backing.statement.nar_hash.filter(|_| here).filter(|own| match agreed {
        Some(agreed) => *own != agreed.nar_hash,
        None => honest.iter().any(|content| content.nar_hash != *own),
    });
    let (status, reason, detail) = if let Some(own) = other {
        (Status::Dissent, Some(Reason::ContentDiffers), Some(format!("it got the narHash {own}")))
    } else if let Some((reason, detail)) = backing.unfit(system) {
        (Status::Rejected, Some(reason), Some(detail))
    } else if !backing.approves(system, manifest) {
        (Status::Rejected, Some(Reason::OtherManifest), None)
    } else if agreed.is_none() {
        (Status::Rejected, Some(Reason::UnboundAlone), None)
    } else {
        let also = backing.note.map(|note| format!("{UNBOUND}; {note}"));
        (Status::Counted, None, Some(also.unwrap_or_else(|| UNBOUND.to_owned())))
    };
    Finding { status, reason, detail, content: None, full: false }
}

fn approves(vote: &Vote<'_>, image: Option<&Image>) -> bool {
    vote.statement.claim == Claim::Build && image.is_some_and(|image| image.digest == vote.statement.subject)
}

fn holds(image: Option<&Image>, content: Content) -> bool {
    image.is_some_and(|image| image.config_digest == content.config_digest)
}

/// The content that most builders approve, of those that are what the manifest holds. Nothing is
/// agreed where nobody approves it, or two camps are equal.
fn agreed(
    here: &[&Vote<'_>],
    image: Option<&Image>,
    equivocates: &dyn Fn(&Builder) -> bool,
) -> Option<Content> {
    let image = image?;
    let mut camps: BTreeMap<Content, BTreeSet<&str>> = BTreeMap::new();
    for vote in here {
        let content = vote.statement.build.content;
        if approves(vote, Some(image))
            && vote.barred.is_none()
            && !equivocates(vote.builder)
            && holds(Some(image), content)
        {
            camps.entry(content).or_default().insert(&vote.builder.name);
        }
    }
    let largest = camps.values().map(BTreeSet::len).max()?;
    let mut leading = camps.iter().filter(|(_, camp)| camp.len() == largest);
    match (leading.next(), leading.next()) {
        (Some((content, _)), None) => Some(*content),
        _ => None,
    }
}

/// Of several findings on one builder the heaviest stands; of equal ones the same, whatever the
/// order they came in.
fn weight(finding: &Finding) -> (u8, bool, Option<Reason>, Option<&str>, Option<Content>) {
    let status = match finding.status {
        Status::Missing | Status::Rejected | Status::Waived => 0,
        Status::Counted => 1,
        Status::Dissent => 2,
        Status::Equivocation => 3,
    };
    // Of two that weigh the same, what a full statement came to says more.
    (status, finding.full, finding.reason, finding.detail.as_deref(), finding.content)
}
