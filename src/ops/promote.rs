//! `promote`: moves tags to a release that a quorum agrees on.
//!
//! Plan → verify → read what each tag names now → write → read back → report. Immutable tags go
//! first, forward-only ones last.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::gather::{all, gather, resolve};
use super::verify::expected;
use crate::attestation::{Commit, Trust};
use crate::edge::clock;
use crate::edge::registry::{RawManifest, Registry};
use crate::edge::tags::{self, Restore, Restored};
use crate::error::Error;
use crate::oci::{Digest, ImageIndex, Reference, Tag};
use crate::policy::moves::{self, Allowances, Before, Move};
use crate::policy::{Approval, Expected, Policy, Purpose, TagKind, decide};
use crate::reason::Reason;
use crate::report::promote::{Action, Report, TagReport};

/// How long to wait between reads of a tag that was written and does not show it: 6 s in all.
const READ_BACK: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_millis(1500), Duration::from_secs(3)];

/// What is asked.
#[derive(Debug)]
pub struct Request {
    /// The image; a tag is resolved once.
    pub image: Reference,
    /// The tags that shall name it.
    pub tags: Vec<Tag>,
    /// A higher quorum than the policy's.
    pub quorum: Option<NonZeroU32>,
    /// The commit that the image must be of.
    pub commit: Option<Commit>,
    /// What is allowed beyond the tag rules.
    pub allow: Allowances,
    /// Whether to write nothing.
    pub dry_run: bool,
}

/// A tag, what may become of it, and how to undo it.
struct Planned {
    tag: Tag,
    kind: TagKind,
    raw: Option<RawManifest>,
    plan: Result<Move, (Reason, String)>,
}

/// Promotes the image.
///
/// # Errors
/// When nothing was decided. What failed after the decision is in the report.
pub async fn run(
    registry: &Registry,
    policy: &Policy,
    trust: &Trust,
    request: &Request,
) -> Result<Report, Error> {
    let kinds = kinds(policy, request)?;
    let purpose = Purpose::Promote(request.tags.clone());
    let expected = expected(policy, &request.image, request.quorum, request.commit.clone(), purpose)?;
    let repository = &request.image.repository;
    let image = resolve(registry, &request.image).await?;
    let gathered = gather(registry, repository, image, policy, trust).await?;
    let verdict = decide(policy, &gathered.candidate, &gathered.evidence, clock::now(), &expected);
    let mut report = Report { verdict, tags: Vec::new(), dry_run: request.dry_run, unfinished: None };
    let (Some(approval), Some(index)) = (report.verdict.approval(), gathered.candidate.index()) else {
        return Ok(report);
    };
    let planned = try_join_all(
        kinds
            .into_iter()
            .map(|(tag, kind)| plan(registry, policy, trust, approval, tag, kind, &request.allow)),
    )
    .await?;
    report.tags = planned.iter().map(|planned| TagReport::planned(planned, approval.digest())).collect();
    if request.dry_run || planned.iter().any(|planned| planned.plan.is_err()) {
        for tag in &mut report.tags {
            if matches!(tag.action, Action::Created | Action::Moved) && !request.dry_run {
                tag.action = Action::Skipped;
            }
            if tag.action != Action::Unchanged {
                tag.after = tag.before;
            }
        }
        return Ok(report);
    }
    report.unfinished = write(registry, approval, index, &planned, &mut report.tags).await.err();
    Ok(report)
}

/// The tags and how each may move, before anything is asked of a registry.
fn kinds(policy: &Policy, request: &Request) -> Result<Vec<(Tag, TagKind)>, Error> {
    let mut kinds: Vec<(Tag, TagKind)> = Vec::new();
    // An image without a rule is refused by the decision, not here.
    let Some(rule) = policy.image(&request.image.repository) else { return Ok(kinds) };
    for tag in &request.tags {
        let kind = rule.tag(tag).ok_or_else(|| {
            Error::request(format!(
                "the policy has no rule for the tag `{tag}` of `{}`",
                request.image.repository
            ))
            .hint(format!(
                "add `[[image.tag]]` with `name = \"{tag}\"` and `rule = \"forward\"` or `\"immutable\"`"
            ))
        })?;
        if !kinds.iter().any(|(known, _)| known == tag) {
            kinds.push((tag.clone(), kind));
        }
    }
    Ok(kinds)
}

async fn plan(
    registry: &Registry,
    policy: &Policy,
    trust: &Trust,
    approval: &Approval,
    tag: Tag,
    kind: TagKind,
    allow: &Allowances,
) -> Result<Planned, Error> {
    let repository = approval.repository();
    let raw = registry.manifest_now(&repository.at_tag(tag.clone())).await?;
    let before = match &raw {
        None => Before::Absent,
        Some(raw) if raw.digest == approval.digest() => Before::Same,
        Some(raw) if kind == TagKind::Immutable => Before::Other { digest: raw.digest },
        Some(raw) => {
            let old = gather(registry, repository, raw.clone(), policy, trust).await?;
            let leaving = Expected { purpose: Purpose::Leave(tag.clone()), ..Expected::default() };
            let verdict = decide(policy, &old.candidate, &old.evidence, clock::now(), &leaving);
            match verdict.approval() {
                Some(old) => Before::Release {
                    digest: raw.digest,
                    sequence: old.sequence(),
                    commit: old.commit().clone(),
                },
                None => Before::Other { digest: raw.digest },
            }
        }
    };
    let plan = moves::plan(approval, &tag, kind, &before, allow);
    Ok(Planned { tag, kind, raw, plan })
}

impl TagReport {
    fn planned(planned: &Planned, digest: Digest) -> Self {
        let (action, refusal) = match &planned.plan {
            Ok(Move::Create) => (Action::Created, None),
            Ok(Move::Replace) => (Action::Moved, None),
            Ok(Move::Keep) => (Action::Unchanged, None),
            Err(refusal) => (Action::Refused, Some(refusal.clone())),
        };
        Self {
            tag: planned.tag.clone(),
            before: planned.raw.as_ref().map(|raw| raw.digest),
            after: Some(digest),
            action,
            refusal,
        }
    }
}

/// Writes the tags and reads them back. On a failure, mutable tags that existed before are put
/// back; what else moved stays, and `reports` says so.
async fn write(
    registry: &Registry,
    approval: &Approval,
    index: &ImageIndex,
    planned: &[Planned],
    reports: &mut [TagReport],
) -> Result<(), Error> {
    let digest = approval.digest();
    let mut failure: Option<Error> = None;
    // What a failed write left behind is not known until it is read.
    let mut touched: Vec<usize> = Vec::new();
    for kind in [TagKind::Immutable, TagKind::Forward] {
        let due: Vec<usize> = planned
            .iter()
            .enumerate()
            .filter(|(_, p)| p.kind == kind && matches!(p.plan, Ok(Move::Create | Move::Replace)))
            .map(|(at, _)| at)
            .collect();
        if failure.is_some() {
            for at in due {
                reports[at].action = Action::Skipped;
                reports[at].after = reports[at].before;
            }
            continue;
        }
        let written =
            all(due.iter().map(|at| tags::write_approved(registry, approval, &planned[*at].tag, index)))
                .await;
        touched.extend(&due);
        failure = written.into_iter().find_map(Result::err);
    }
    let repository = approval.repository();
    let read = all(touched.iter().map(|at| {
        let before = planned[*at].raw.as_ref().map(|raw| raw.digest);
        settled(registry, repository.at_tag(planned[*at].tag.clone()), before, digest, failure.is_none())
    }))
    .await;
    for (at, now) in touched.iter().zip(read) {
        let report = &mut reports[*at];
        match now {
            Ok(now) => {
                report.after = now;
                if now == report.before && now != Some(digest) && failure.is_some() {
                    report.action = Action::Skipped;
                } else if now != Some(digest) {
                    report.action = Action::Unknown;
                    let shown = now.map_or("nothing".to_owned(), |now: Digest| now.to_string());
                    failure.get_or_insert_with(|| {
                        Error::undecided(format!("`{}` names {shown} after it was written as {digest}", report.tag))
                            .hint("somebody else moved the tag, or the registry answers from a cache; promote again")
                    });
                }
            }
            Err(error) => {
                report.action = Action::Unknown;
                report.after = None;
                failure.get_or_insert(error);
            }
        }
    }
    let Some(failure) = failure else { return Ok(()) };
    for at in touched {
        put_back(registry, approval, &planned[at], &mut reports[at]).await;
    }
    Err(failure)
}

/// What a tag names after it was written. Some registries answer reads from a cache for a while:
/// as long as it still names what it named `before`, it is asked again a few times.
async fn settled(
    registry: &Registry,
    reference: Reference,
    before: Option<Digest>,
    digest: Digest,
    written: bool,
) -> Result<Option<Digest>, Error> {
    let mut delays = READ_BACK.iter();
    loop {
        let now = registry.manifest_now(&reference).await?.map(|raw| raw.digest);
        let stale = written && now == before && now != Some(digest);
        match delays.next() {
            Some(delay) if stale => tokio::time::sleep(*delay).await,
            _ => return Ok(now),
        }
    }
}

/// Puts a forward-only tag back that existed before and names what we wrote.
async fn put_back(registry: &Registry, approval: &Approval, planned: &Planned, report: &mut TagReport) {
    let (TagKind::Forward, Some(raw), Action::Moved) = (planned.kind, &planned.raw, report.action) else {
        return;
    };
    let restore = Restore::new(approval.repository(), &planned.tag, raw.clone(), approval.digest());
    match restore.put_back(registry).await {
        Ok(Restored::Back) => {
            report.action = Action::Restored;
            report.after = Some(raw.digest);
        }
        Ok(Restored::Elsewhere) | Err(_) => {
            report.action = Action::Unknown;
            report.after = None;
        }
    }
}
