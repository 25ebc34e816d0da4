//! `promote`: moves tags to a release that a quorum agrees on.
//!
//! Plan → verify, and read what each tag names → write → read back → report. Immutable tags go
//! first, forward-only ones last; the latter are read once more right before they are written.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use backon::{BackoffBuilder as _, ConstantBuilder};
use futures_util::future::{join, try_join_all};
use tokio::time::Instant;

use super::gather::{Gathered, all, gather, resolve};
use super::verify::expected;
use crate::attestation::{Commit, Trusts};
use crate::edge::clock;
use crate::edge::registry::{RawManifest, Registry, Untagged};
use crate::edge::tags::{self, CandidateTag, Restore, Restored};
use crate::error::Error;
use crate::oci::{Digest, ImageIndex, Reference, Repository, Tag};
use crate::policy::moves::{self, Allowances, Before, Move, Old};
use crate::policy::{Approval, Expected, Outcome, Policy, Purpose, TagKind, Verdict, decide};
use crate::reason::Reason;
use crate::report::promote::{Action, Removal, Report, TagReport, UntagReport};
use crate::report::verdict::lacking;

/// How long to wait between reads of a tag that was written and does not show it: 6 s in all.
const READ_BACK: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_millis(1500), Duration::from_secs(3)];

/// For reading back, and again for putting back, however little time the run has left: what was
/// written is not left unlooked at because the time was up.
const SETTLE: Duration = Duration::from_secs(15);

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
    /// What tags must name until now, where the caller says so.
    pub old: BTreeMap<Tag, Old>,
    /// What is allowed beyond the tag rules.
    pub allow: Allowances,
    /// How long to wait for votes that are missing.
    pub wait: Option<Duration>,
    /// The time for one look at the image, and for the writing.
    pub look: Duration,
    /// Tags of single images of the release, to be removed once the release tags are right.
    pub untag: Vec<CandidateTag>,
    /// Whether to write nothing.
    pub dry_run: bool,
}

/// A tag on its way.
struct Step {
    kind: TagKind,
    /// What it named when it was read.
    raw: Option<RawManifest>,
    /// Whether a write was tried. What a failed write left behind is not known until it is read.
    touched: bool,
    report: TagReport,
}

/// A tag as it was found.
struct Found {
    tag: Tag,
    kind: TagKind,
    raw: Option<RawManifest>,
    before: Before,
}

/// A policy and whom to believe.
#[derive(Clone, Copy)]
struct Rules<'a> {
    policy: &'a Policy,
    trusts: &'a Trusts,
}

/// Promotes the image. `tell` hears what is waited for.
///
/// # Errors
/// When nothing was decided. What failed after the decision is in the report.
pub async fn run(
    registry: &Registry,
    policy: &Policy,
    trusts: &Trusts,
    request: &Request,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Report, Error> {
    let kinds = kinds(policy, request)?;
    let purpose = Purpose::Promote(request.tags.clone());
    let expected = expected(policy, &request.image, request.quorum, request.commit.clone(), purpose)?;
    let repository = &request.image.repository;
    let rules = Rules { policy, trusts };
    let image = resolve(&registry.with_deadline(request.look), &request.image).await?;
    if let Some(wait) = request.wait {
        let end = Instant::now() + wait;
        let verdict = waited(registry, rules, repository, &image, &expected, request.look, end, tell).await?;
        if verdict.approval().is_none() {
            return Ok(Report::new(verdict, request.dry_run));
        }
    }
    let registry = &registry.with_deadline(request.look);
    let digest = image.digest;
    let (gathered, found) = join(
        gather(registry, repository, image, policy, trusts),
        find(registry, rules, repository, digest, kinds),
    )
    .await;
    let gathered = gathered?;
    let verdict = decide(policy, &gathered.candidate, &gathered.evidence, clock::now(), &expected);
    let mut report = Report::new(verdict, request.dry_run);
    let (Some(approval), Some(index)) = (report.verdict.approval(), gathered.candidate.index()) else {
        return Ok(report);
    };
    let mut steps: Vec<Step> = found?.into_iter().map(|found| Step::plan(found, approval, request)).collect();
    if request.dry_run || steps.iter().any(|step| step.report.action == Action::Refused) {
        for tag in steps.iter_mut().map(|step| &mut step.report) {
            if matches!(tag.action, Action::Created | Action::Moved) && !request.dry_run {
                tag.action = Action::Skipped;
            }
            if tag.action != Action::Unchanged {
                tag.after = tag.before;
            }
        }
    } else {
        report.unfinished = write(registry, approval, index, &mut steps).await.err();
    }
    report.tags = steps.into_iter().map(|step| step.report).collect();
    if report.outcome().is_yes() {
        for (tag, removal) in request.untag.iter().zip(untag(registry, repository, index, request).await) {
            match removal {
                Ok(removal) => report.untagged.push(UntagReport { tag: tag.tag().clone(), removal }),
                Err(error) => report.unfinished = Some(error),
            }
        }
    }
    Ok(report)
}

/// Looks again until nothing is missing that votes could mend, or until `end`. Each look is a
/// fresh one; what cannot be found out ends the waiting.
#[allow(clippy::too_many_arguments, reason = "what a look needs, and when it ends")]
async fn waited(
    registry: &Registry,
    rules: Rules<'_>,
    repository: &Repository,
    image: &RawManifest,
    expected: &Expected,
    look: Duration,
    end: Instant,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Verdict, Error> {
    let Rules { policy, trusts } = rules;
    // Between 1 s and 15 s, and up to as much again, so that many who wait do not come as one.
    let pause = ((end - Instant::now()) / 40).clamp(Duration::from_secs(1), Duration::from_secs(15));
    let mut pauses = ConstantBuilder::new().with_delay(pause).with_jitter().without_max_times().build();
    let mut told = String::new();
    loop {
        let registry = registry.with_deadline(look);
        let gathered = gather(&registry, repository, image.clone(), policy, trusts).await?;
        let verdict = decide(policy, &gathered.candidate, &gathered.evidence, clock::now(), expected);
        let left = end.saturating_duration_since(Instant::now());
        if !matches!(verdict.outcome, Outcome::Short) || left.is_zero() {
            return Ok(verdict);
        }
        let lacking = lacking(&verdict);
        if lacking != told {
            tell(&lacking);
            told = lacking;
        }
        tokio::time::sleep(pauses.next().unwrap_or(pause).min(left)).await;
    }
}

/// The tags and how each may move, before anything is asked of a registry.
fn kinds(policy: &Policy, request: &Request) -> Result<Vec<(Tag, TagKind)>, Error> {
    if let Some(tag) = request.old.keys().find(|tag| !request.tags.contains(tag)) {
        return Err(Error::request(format!("`--expect-old` speaks of `{tag}`, which is not to be moved"))
            .hint(format!("add `--tag {tag}`, or leave the expectation out")));
    }
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

/// What the tags name now. A release that several of them name is judged once.
async fn find(
    registry: &Registry,
    rules: Rules<'_>,
    repository: &Repository,
    digest: Digest,
    kinds: Vec<(Tag, TagKind)>,
) -> Result<Vec<Found>, Error> {
    let raws = try_join_all(
        kinds.iter().map(|(tag, _)| async { registry.manifest_now(&repository.at_tag(tag.clone())).await }),
    )
    .await?;
    let olds: BTreeMap<Digest, &RawManifest> = kinds
        .iter()
        .zip(&raws)
        .filter_map(|((_, kind), raw)| raw.as_ref().filter(|_| *kind == TagKind::Forward))
        .filter(|raw| raw.digest != digest)
        .map(|raw| (raw.digest, raw))
        .collect();
    let gathered = try_join_all(olds.into_values().map(|raw| async {
        Ok::<_, Error>((
            raw.digest,
            gather(registry, repository, raw.clone(), rules.policy, rules.trusts).await?,
        ))
    }));
    let gathered: BTreeMap<Digest, Gathered> = gathered.await?.into_iter().collect();
    let found = kinds.into_iter().zip(raws).map(|((tag, kind), raw)| {
        let before = match &raw {
            None => Before::Absent,
            Some(raw) if raw.digest == digest => Before::Same,
            Some(raw) => match gathered.get(&raw.digest) {
                Some(old) if kind == TagKind::Forward => left(rules.policy, raw.digest, old, &tag),
                _ => Before::Other { digest: raw.digest },
            },
        };
        Found { tag, kind, raw, before }
    });
    Ok(found.collect())
}

/// Judges what a tag names, as the release that it is to leave.
fn left(policy: &Policy, digest: Digest, old: &Gathered, tag: &Tag) -> Before {
    let leaving = Expected { purpose: Purpose::Leave(tag.clone()), ..Expected::default() };
    let verdict = decide(policy, &old.candidate, &old.evidence, clock::now(), &leaving);
    verdict.approval().map_or(Before::Other { digest }, |old| Before::Release {
        digest,
        sequence: old.sequence(),
        commit: old.commit().clone(),
    })
}

/// Writes the tags and reads them back. On a failure, mutable tags that existed before are put
/// back; what else moved stays, and the steps say so.
async fn write(
    registry: &Registry,
    approval: &Approval,
    index: &ImageIndex,
    steps: &mut [Step],
) -> Result<(), Error> {
    let due = steps.iter_mut().filter(|step| step.is_due());
    let (mut immutable, mut forward): (Vec<_>, Vec<_>) =
        due.partition(|step| step.kind == TagKind::Immutable);
    let (written, seen) = join(
        all(immutable.iter_mut().map(|step| step.write(registry, approval, index))),
        all(forward.iter_mut().map(|step| step.look_again(registry, approval))),
    )
    .await;
    let mut failure = written.into_iter().chain(seen).find_map(Result::err);
    forward.retain(|step| step.is_due());
    if failure.is_none() {
        let written = all(forward.iter_mut().map(|step| step.write(registry, approval, index))).await;
        failure = written.into_iter().find_map(Result::err);
    } else {
        for step in forward {
            step.report.action = Action::Skipped;
            step.report.after = step.report.before;
        }
    }
    let settle = registry.with_deadline(SETTLE);
    let failed = failure.is_some();
    let touched = steps.iter_mut().filter(|step| step.touched);
    let read = all(touched.map(|step| step.read_back(&settle, approval, failed))).await;
    let Some(failure) = failure.or_else(|| read.into_iter().find_map(Result::err)) else {
        return Ok(());
    };
    let settle = registry.with_deadline(SETTLE);
    all(steps.iter_mut().map(|step| step.put_back(&settle, approval))).await;
    Err(failure)
}

impl Step {
    fn plan(found: Found, approval: &Approval, request: &Request) -> Self {
        let Found { tag, kind, raw, before } = found;
        let expected = request.old.get(&tag).copied().unwrap_or_default();
        let plan = moves::plan(approval, &tag, kind, &before, expected, &request.allow);
        let allowed = plan.as_ref().ok().and_then(|plan| plan.allowed());
        let (action, refusal) = match plan {
            Ok(Move::Create) => (Action::Created, None),
            Ok(Move::Replace | Move::Rollback | Move::Adopt) => (Action::Moved, None),
            Ok(Move::Keep) => (Action::Unchanged, None),
            Err(refusal) => (Action::Refused, Some(refusal)),
        };
        let report = TagReport {
            tag,
            before: raw.as_ref().map(|raw| raw.digest),
            after: Some(approval.digest()),
            action,
            allowed,
            refusal,
        };
        Self { kind, raw, touched: false, report }
    }

    fn is_due(&self) -> bool {
        matches!(self.report.action, Action::Created | Action::Moved)
    }

    fn reference(&self, approval: &Approval) -> Reference {
        approval.repository().at_tag(self.report.tag.clone())
    }

    /// Notes that the tag is in other hands.
    fn raced(&mut self, now: Option<Digest>, when: &str) -> Error {
        let shown = now.map_or("nothing".to_owned(), |now| now.to_string());
        let detail = format!("`{}` names {shown} {when}", self.report.tag);
        self.report.action = Action::Elsewhere;
        self.report.after = now;
        self.report.refusal = Some((Reason::TagRaced, detail.clone()));
        Error::undecided(format!("{detail} ({})", Reason::TagRaced)).hint(
            "somebody else moves the tag, or the registry answers from a cache; find out, then promote again",
        )
    }

    /// Looks whether the tag still names what it named when it was read.
    async fn look_again(&mut self, registry: &Registry, approval: &Approval) -> Result<(), Error> {
        let now = registry.manifest_now(&self.reference(approval)).await?.map(|raw| raw.digest);
        if now == self.report.before {
            Ok(())
        } else if now == Some(approval.digest()) {
            // Somebody else promotes the same release.
            self.report.action = Action::Unchanged;
            Ok(())
        } else {
            Err(self.raced(now, "now, and named another image a moment ago; it was not written"))
        }
    }

    async fn write(
        &mut self,
        registry: &Registry,
        approval: &Approval,
        index: &ImageIndex,
    ) -> Result<(), Error> {
        self.touched = true;
        tags::write_approved(registry, approval, &self.report.tag, self.report.before, index).await
    }

    /// Reads what the tag names after it was written. Some registries answer reads from a cache
    /// for a while: unless something `failed`, a tag that still names what it named before is
    /// asked again a few times.
    async fn read_back(
        &mut self,
        registry: &Registry,
        approval: &Approval,
        failed: bool,
    ) -> Result<(), Error> {
        let reference = self.reference(approval);
        let mut delays = READ_BACK.iter();
        let now = loop {
            match registry.manifest_now(&reference).await {
                Ok(now) => {
                    let now = now.map(|raw| raw.digest);
                    match delays.next() {
                        Some(delay) if now == self.report.before && !failed => {
                            tokio::time::sleep(*delay).await;
                        }
                        _ => break now,
                    }
                }
                Err(error) => {
                    self.report.action = Action::Unknown;
                    self.report.after = None;
                    return Err(error.into());
                }
            }
        };
        self.report.after = now;
        if now == Some(approval.digest()) {
            Ok(())
        } else if now == self.report.before && failed {
            self.report.action = Action::Skipped;
            Ok(())
        } else {
            Err(self.raced(now, &format!("after it was written as {}", approval.digest())))
        }
    }

    /// Puts a forward-only tag back that existed before and may name what we wrote.
    async fn put_back(&mut self, registry: &Registry, approval: &Approval) {
        let (TagKind::Forward, true, Some(raw)) = (self.kind, self.touched, &self.raw) else { return };
        if !matches!(self.report.action, Action::Moved | Action::Unknown) {
            return;
        }
        let restore = Restore::new(approval.repository(), &self.report.tag, raw.clone(), approval.digest());
        let Ok(restored) = restore.put_back(registry).await else {
            self.report.action = Action::Unknown;
            self.report.after = None;
            return;
        };
        let (action, now) = match restored {
            Restored::Back => (Action::Restored, self.report.before),
            Restored::Elsewhere(now) if now == Some(approval.digest()) => (Action::Moved, now),
            // What seemed to be written was not.
            Restored::Elsewhere(now) if now == self.report.before => (Action::Skipped, now),
            Restored::Elsewhere(now) => {
                self.raced(now, "and was to be put back");
                return;
            }
        };
        self.report.action = action;
        self.report.after = now;
    }
}

/// Removes tags of single images, where each names one of the release: the index, which has its
/// tags by then, holds it.
async fn untag(
    registry: &Registry,
    repository: &Repository,
    index: &ImageIndex,
    request: &Request,
) -> Vec<Result<Removal, Error>> {
    all(request.untag.iter().map(|tag| async {
        let named = registry.manifest_now(&repository.at_tag(tag.tag().clone())).await?;
        Ok(match named.map(|raw| raw.digest) {
            None => Removal::Absent,
            Some(digest) if index.manifests.iter().all(|child| child.digest != digest) => {
                Removal::Kept(format!("it names {digest}, which is no image of this release"))
            }
            Some(_) if request.dry_run => Removal::Planned,
            Some(digest) => match tags::remove_candidate(registry, repository, tag, digest).await? {
                Untagged::Done => Removal::Done,
                Untagged::Absent => Removal::Absent,
                Untagged::Elsewhere(now) => Removal::Kept(format!("somebody else moved it to {now}")),
                Untagged::Cannot(reply) => {
                    Removal::Kept(format!("this registry does not remove a tag alone: {reply}"))
                }
            },
        })
    }))
    .await
}
