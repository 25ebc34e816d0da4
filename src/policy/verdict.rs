//! The verdict: one value, of which text, JSON, Markdown and exit codes are views.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::attestation::summary::Input;
use crate::attestation::{Commit, Content, Summary, Verifier};
use crate::oci::{Digest, Platform, Repository, System, Tag};
use crate::reason::Reason;

use super::builder::Domains;
use super::candidate::Refusal;
use super::tag::{Bar, Feed, TagKind, TagRule};
use super::vote::Group;

/// What was decided, and why, cell by cell.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The image that was judged.
    pub repository: Repository,
    /// The digest of its index.
    pub digest: Digest,
    /// The policy's digest.
    pub policy: Digest,
    /// The answer.
    pub outcome: Outcome,
    /// What refuses the image itself, if the outcome is `Refused`.
    pub refusals: Vec<Refusal>,
    /// The group of statements that was judged, if there is one.
    pub group: Option<Group>,
    /// The environment whose quorum is asked for, where the rule has any.
    pub environment: Option<String>,
    /// In what voices must differ, besides the operator.
    pub distinct_by: Domains,
    /// A row for each platform that the policy or the index names.
    pub platforms: Vec<PlatformRow>,
    /// Statements of builders that the policy waives.
    pub waived: Vec<Waived>,
    /// Evidence that is nobody's vote.
    pub ignored: Vec<Ignored>,
}

/// A statement that the policy waives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waived {
    /// The SHA-256 of the statement's bytes as they were signed.
    pub statement: Digest,
    /// Whose statement it is.
    pub builder: String,
    /// The manifest it is about.
    pub manifest: Digest,
    /// Until when it is waived, and the policy's reason.
    pub detail: String,
}

/// The answer, in order of precedence from the worst.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The image is broken or against the policy; no vote can mend it.
    Refused,
    /// A builder signed two contents for one build.
    Equivocation,
    /// A builder disagrees.
    Dissent,
    /// Too few builders have agreed so far.
    Short,
    /// The quorum is there. The value permits moving tags.
    Met(Approval),
}

/// Permission to name one digest by the tags that the policy governs. Only the decision makes it.
#[derive(Debug, Clone)]
pub struct Approval {
    pub(super) repository: Repository,
    pub(super) digest: Digest,
    pub(super) policy: Digest,
    pub(super) commit: Commit,
    pub(super) sequence: u64,
    /// Whether n voices state the sequence, for every platform.
    pub(super) ordered: bool,
    pub(super) bar: Bar,
    /// The rules of its tags, each with whether the release is of a ref that feeds it.
    pub(super) tags: Vec<(TagRule, bool)>,
    /// The statements that were counted.
    pub(super) counted: BTreeSet<Input>,
}

/// One platform of the matrix.
#[derive(Debug, Clone)]
pub struct PlatformRow {
    /// The platform.
    pub platform: Platform,
    /// Its Nix system, if there is one.
    pub system: Option<System>,
    /// The manifest that the index has for it.
    pub digest: Option<Digest>,
    /// How many voices agree: operators, and distinct in what `distinct_by` says besides.
    pub have: usize,
    /// How many must.
    pub need: usize,
    /// A cell for each builder of the policy, in its order.
    pub cells: Vec<Cell>,
}

/// What one builder says of one platform.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The builder's name.
    pub builder: String,
    /// Its operator.
    pub operator: String,
    /// How it counts.
    pub status: Status,
    /// Why it does not, if it does not.
    pub reason: Option<Reason>,
    /// The reason in words.
    pub detail: Option<String>,
    /// What the builder says it got, where it said so.
    pub content: Option<Content>,
    /// The SHA-256 of each of its statements in the group that was judged, and the content that
    /// it says, if any.
    pub statements: BTreeMap<Digest, Option<Content>>,
    /// Whether a further statement by it could count here.
    pub able: bool,
}

/// How a builder counts for a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Agrees.
    Counted,
    /// Said nothing.
    Missing,
    /// Said something that does not count.
    Rejected,
    /// Said something that the policy waives.
    Waived,
    /// Disagrees.
    Dissent,
    /// Contradicts itself.
    Equivocation,
}

/// Evidence that is nobody's vote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ignored {
    /// The digest of the bundle, or of what carried it.
    pub bundle: Digest,
    /// The manifest it is about, where that could be read.
    pub manifest: Option<Digest>,
    /// Why it is ignored.
    pub reason: Reason,
    /// The reason in words.
    pub detail: String,
}

impl Outcome {
    /// The answer in one word, as in output and JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Equivocation => "equivocation",
            Self::Dissent => "dissent",
            Self::Short => "short",
            Self::Met(_) => "met",
        }
    }
}

impl Status {
    /// The status in one word, as in output and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Missing => "missing",
            Self::Rejected => "rejected",
            Self::Waived => "waived",
            Self::Dissent => "dissent",
            Self::Equivocation => "equivocation",
        }
    }
}

impl Verdict {
    /// The permission, if the quorum is met.
    pub fn approval(&self) -> Option<&Approval> {
        match &self.outcome {
            Outcome::Met(approval) => Some(approval),
            _ => None,
        }
    }
}

impl Approval {
    /// The repository whose tags may move.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The digest that they may name.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The policy under which.
    pub fn policy(&self) -> Digest {
        self.policy
    }

    /// The commit that was built.
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    /// The release order of the build.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether the quorum vouches for that order. Statements of other types than ours state none.
    pub fn is_ordered(&self) -> bool {
        self.ordered
    }

    /// The environment whose quorum was met, where the policy has any.
    pub fn environment(&self) -> Option<&str> {
        self.bar.environment.as_deref()
    }

    /// What was found, for who can check one signature only. There is no summary of a verdict that
    /// is not met.
    pub fn summary(&self, verifier: &Verifier, time: Timestamp) -> Summary {
        Summary {
            name: self.repository.clone(),
            index: self.digest,
            verifier: verifier.clone(),
            time,
            policy: self.policy,
            quorum: self.bar.quorum.get(),
            inputs: self.counted.clone(),
        }
    }

    /// How `tag` may move; `None` if it may not be moved at all, or needs a higher quorum.
    pub fn permits(&self, tag: &Tag) -> Option<TagKind> {
        let (rule, fed) = self.rule(tag)?;
        (*fed && rule.bar.quorum <= self.bar.quorum).then_some(rule.kind)
    }

    /// What `tag` takes, if the release is nothing of that.
    pub fn is_not_fed(&self, tag: &Tag) -> Option<&Feed> {
        self.rule(tag).filter(|(_, fed)| !fed).map(|(rule, _)| &rule.feed)
    }

    fn rule(&self, tag: &Tag) -> Option<&(TagRule, bool)> {
        self.tags.iter().find(|(rule, _)| rule.matches(tag))
    }
}
