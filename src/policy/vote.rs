//! From a proven attestation to a vote: matched to a builder, held to the rule.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::file::{Builder, ImageRule, Policy};
use crate::attestation::{Attestation, Commit, Statement};
use crate::oci::{Digest, Repository};
use crate::reason::Reason;

/// How far a sequence may lie ahead of the verified time, both in seconds since 1970.
const SEQUENCE_AHEAD: SignedDuration = SignedDuration::from_mins(10);

/// How far ahead of this machine's clock a verified time may lie.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(1);

/// Statements that speak of one build: the same repository, source, target, commit and sequence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The release order; first, so that groups sort by it.
    pub sequence: u64,
    /// The commit.
    pub commit: Commit,
    /// The repository.
    pub name: Repository,
    /// The source, where it was stated.
    pub source: Option<String>,
    /// The flake attribute, where it was stated.
    pub target: Option<String>,
}

impl Group {
    fn of(statement: &Statement) -> Self {
        Self {
            sequence: statement.build.sequence,
            commit: statement.build.commit.clone(),
            name: statement.name.clone(),
            source: statement.build.source_uri.clone(),
            target: statement.build.target.clone(),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit {}, sequence {}", self.commit, self.sequence)?;
        if let Some(source) = &self.source {
            write!(f, ", {source}")?;
        }
        if let Some(target) = &self.target {
            write!(f, "#{target}")?;
        }
        Ok(())
    }
}

/// A statement by a builder of the policy about the image that its rule is for.
///
/// All of them are heard: a contradiction stands, whatever else is wrong with it. Only those
/// that nothing bars are counted.
#[derive(Debug, Clone)]
pub(super) struct Vote<'a> {
    pub builder: &'a Builder,
    pub statement: &'a Statement,
    pub bundle: Digest,
    pub group: Group,
    /// Why it does not count, if it does not.
    pub barred: Option<(Reason, String)>,
}

/// Why an attestation is no vote: whose it is, if a builder's, and the reason.
pub(super) struct NoVote<'a> {
    pub builder: Option<&'a Builder>,
    pub reason: Reason,
    pub detail: String,
}

impl<'a> Vote<'a> {
    pub(super) fn new(
        attestation: &'a Attestation,
        policy: &'a Policy,
        rule: &ImageRule,
        repository: &Repository,
        now: Timestamp,
    ) -> Result<Self, NoVote<'a>> {
        let Some(builder) = policy.builder(attestation.signer()) else {
            let detail = format!("signed with {:?}", attestation.signer());
            return Err(NoVote { builder: None, reason: Reason::SignerUnknown, detail });
        };
        let statement = attestation.statement();
        about(statement, rule, repository).map_err(|(reason, detail)| NoVote {
            builder: Some(builder),
            reason,
            detail,
        })?;
        let group = Group::of(statement);
        let barred = countable(attestation, builder, now).err();
        Ok(Self { builder, statement, bundle: attestation.bundle(), group, barred })
    }
}

/// Whether a statement is about the image and a source that the rule allows.
fn about(statement: &Statement, rule: &ImageRule, repository: &Repository) -> Result<(), (Reason, String)> {
    if !rule.speaks_of(&statement.name, repository) {
        return Err((Reason::NameMismatch, format!("the statement is about `{}`", statement.name)));
    }
    match &statement.build.source_uri {
        _ if rule.sources.is_empty() => Ok(()),
        None => Err((Reason::SourceMissing, "the statement has no `sourceUri`".to_owned())),
        Some(source) if !rule.sources.contains(source) => {
            Err((Reason::SourceNotAllowed, format!("`sourceUri` is {source:?}")))
        }
        Some(_) => Ok(()),
    }
}

/// Whether a statement may be counted for its builder at this time.
fn countable(attestation: &Attestation, builder: &Builder, now: Timestamp) -> Result<(), (Reason, String)> {
    let build = &attestation.statement().build;
    if !builder.goes_by(&build.builder) {
        return Err((
            Reason::BuilderClaim,
            format!("the statement says `builder.id` is {:?}", build.builder),
        ));
    }
    // Either the clock is wrong or the time is, and nothing tells which.
    let latest = attestation.latest();
    if latest.duration_since(now) > CLOCK_SKEW {
        return Err((
            Reason::TimeInFuture,
            format!("the verified time is {latest}, this machine's is {now}"),
        ));
    }
    // A sequence that is no time (a plain counter) lies far behind every clock, and passes.
    let time = attestation.earliest().as_second();
    let bound = time.saturating_add(SEQUENCE_AHEAD.as_secs());
    if i64::try_from(build.sequence).map_or(true, |sequence| sequence > bound) {
        let sequence = build.sequence;
        return Err((Reason::SequenceAhead, format!("the sequence is {sequence}, the verified time {time}")));
    }
    Ok(())
}
