//! From a proven attestation to a vote: matched to a builder, held to the rule.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::file::{Builder, ImageRule, Policy};
use crate::attestation::{Attestation, Commit, Statement};
use crate::oci::Repository;
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

/// A statement by a builder of the policy that the image's rule admits.
#[derive(Debug, Clone)]
pub(super) struct Vote<'a> {
    pub builder: &'a Builder,
    pub statement: &'a Statement,
    pub group: Group,
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
        in_time(attestation, now)
            .and_then(|()| admit(statement, attestation.earliest(), builder, rule, repository))
            .map_err(|(reason, detail)| NoVote { builder: Some(builder), reason, detail })?;
        Ok(Self { builder, statement, group: Group::of(statement) })
    }
}

/// No verified time may lie ahead of the clock: either is wrong, and nothing tells which.
fn in_time(attestation: &Attestation, now: Timestamp) -> Result<(), (Reason, String)> {
    let latest = attestation.latest();
    if latest.duration_since(now) > CLOCK_SKEW {
        return Err((
            Reason::TimeInFuture,
            format!("the verified time is {latest}, this machine's is {now}"),
        ));
    }
    Ok(())
}

fn admit(
    statement: &Statement,
    time: Timestamp,
    builder: &Builder,
    rule: &ImageRule,
    repository: &Repository,
) -> Result<(), (Reason, String)> {
    let build = &statement.build;
    if !builder.goes_by(&build.builder) {
        return Err((
            Reason::BuilderClaim,
            format!("the statement says `builder.id` is {:?}", build.builder),
        ));
    }
    if !rule.speaks_of(&statement.name, repository) {
        return Err((Reason::NameMismatch, format!("the statement is about `{}`", statement.name)));
    }
    if !rule.sources.is_empty() {
        match &build.source_uri {
            None => return Err((Reason::SourceMissing, "the statement has no `sourceUri`".to_owned())),
            Some(source) if !rule.sources.contains(source) => {
                return Err((Reason::SourceNotAllowed, format!("`sourceUri` is {source:?}")));
            }
            Some(_) => {}
        }
    }
    // A sequence that is no time (a plain counter) lies far behind every clock, and passes.
    let latest = time.as_second().saturating_add(SEQUENCE_AHEAD.as_secs());
    if i64::try_from(build.sequence).map_or(true, |sequence| sequence > latest) {
        let (sequence, time) = (build.sequence, time.as_second());
        return Err((Reason::SequenceAhead, format!("the sequence is {sequence}, the verified time {time}")));
    }
    Ok(())
}
