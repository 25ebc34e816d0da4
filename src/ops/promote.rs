//! `promote`: moves tags to a release that a quorum agrees on.
//!
//! Plan → verify, and read what each tag names → record → write → read back → report. A release
//! that is elsewhere is judged there, brought over, and judged again where its tags are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use backon::{BackoffBuilder as _, ConstantBuilder};
use futures_util::future::join;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::copy;
use super::gather::{Gathered, all, gather_for, resolve};
use super::moving::{Rules, Step, find, interrupted, write};
use super::record::{Recording, record};
use super::verify::expected;
use crate::attestation::{Commit, Trusts};
use crate::edge::clock;
use crate::edge::interrupt::Interrupt;
use crate::edge::journal::{About, Earlier, Journal};
use crate::edge::registry::{RawManifest, Registry, Untagged};
use crate::edge::tags::{self, CandidateTag};
use crate::error::Error;
use crate::oci::{Reference, Repository, Tag};
use crate::policy::moves::{Allowances, Old};
use crate::policy::{Bar, Candidate, Expected, Outcome, Policy, Purpose, TagKind, Verdict, decide};
use crate::report::promote::{Action, Removal, Report, UntagReport};
use crate::report::verdict::lacking;

/// What is asked.
pub struct Request<'a> {
    /// The image; a tag is resolved once.
    pub image: Reference,
    /// Repositories in which evidence is read, besides its own.
    pub evidence_from: Vec<Repository>,
    /// Where it is brought, and where its tags are, if not in its own repository.
    pub to: Option<Repository>,
    /// The tags that shall name it.
    pub tags: Vec<Tag>,
    /// A higher bar than the policy's.
    pub raised: Option<Bar>,
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
    /// The time for bringing the image over.
    pub copying: Duration,
    /// Who signs a record of the promotion, if anybody.
    pub recording: Option<Recording<'a>>,
    /// Where each step is noted, if anywhere.
    pub journal: Option<PathBuf>,
    /// Tags of single images of the release, to be removed once the release tags are right.
    pub untag: Vec<CandidateTag>,
    /// Whether to write nothing.
    pub dry_run: bool,
    /// Whether to end before all is done.
    pub interrupt: &'a Interrupt,
}

impl Request<'_> {
    /// Where the tags are.
    fn place(&self) -> &Repository {
        self.to.as_ref().unwrap_or(&self.image.repository)
    }
}

/// Promotes the image. `tell` hears what is waited for, and what to know besides.
///
/// # Errors
/// When nothing was decided. What failed after the decision is in the report.
pub async fn run(
    registry: &Registry,
    policy: &Policy,
    trusts: &Trusts,
    request: &Request<'_>,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Report, Error> {
    let place = request.place();
    let kinds = kinds(policy, request)?;
    let purpose = Purpose::Promote(request.tags.clone());
    let expected = expected(policy, place, request.raised.as_ref(), request.commit.clone(), purpose)?;
    let look =
        Look { rules: Rules { policy, trusts, also: &request.evidence_from }, place, expected: &expected };
    let image = resolve(&registry.with_deadline(request.look), &request.image).await?;
    let about = About { repository: place, digest: image.digest, policy: policy.digest() };
    let (mut journal, earlier) = match &request.journal {
        Some(path) if !request.dry_run => Journal::open(path, about)?,
        _ => Default::default(),
    };
    if !earlier.is_empty() {
        tell(&format!("an earlier run was cut short, by its journal; {}", named(&earlier)));
    }
    let work = promote(registry, &look, request, image, kinds, &mut journal, tell);
    let mut report = Box::pin(work).await?;
    if let Err(error) = journal.note("end", json!({ "outcome": report.outcome().as_str() })) {
        report.unfinished = report.unfinished.or(Some(error));
    }
    Ok(report)
}

async fn promote(
    registry: &Registry,
    look: &Look<'_>,
    request: &Request<'_>,
    mut image: RawManifest,
    kinds: Vec<(Tag, TagKind)>,
    journal: &mut Journal,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Report, Error> {
    let Look { rules, place, .. } = *look;
    let digest = image.digest;
    let mut here = &request.image.repository;
    let mut copied = None;
    if request.wait.is_some() || here != place {
        let (gathered, verdict) = look.until_met(registry, here, &image, request, tell).await?;
        if verdict.approval().is_none() {
            return Ok(Report::new(verdict, request.dry_run));
        }
        if here != place && !request.dry_run {
            journal.note("copying", json!({ "from": here.to_string() }))?;
            let registry = &registry.with_deadline(request.copying);
            copied = Some(copy::bring(registry, rules, here, place, &gathered).await?);
            here = place;
            image = resolve(registry, &here.at_digest(digest)).await?;
        }
    }
    let registry = &registry.with_deadline(request.look);
    let (judged, found) =
        join(look.at(registry, here, image.clone()), find(registry, rules, place, image, kinds)).await;
    let (gathered, verdict) = judged?;
    journal.note("judged", json!({ "verdict": verdict.outcome.as_str() }))?;
    let mut report = Report { copied, ..Report::new(verdict, request.dry_run) };
    let Some(approval) = report.verdict.approval() else { return Ok(report) };
    let release = &gathered.candidate;
    let mut steps: Vec<Step> = found?.into_iter().map(|found| Step::plan(found, approval, request)).collect();
    journal.note("planned", json!({ "tags": noted(&steps) }))?;
    let refused = steps.iter().any(|step| step.report.action == Action::Refused);
    if let Some(recording) = request.recording.as_ref().filter(|_| !refused) {
        let recorded =
            record(registry, approval, release, rules.policy, recording, request.dry_run, tell).await;
        match recorded.and_then(|record| Ok((journal.note("recorded", record.to_json())?, record).1)) {
            Ok(record) => report.record = Some(record),
            Err(error) => report.unfinished = Some(error),
        }
    }
    if request.dry_run || refused || report.unfinished.is_some() {
        for step in &mut steps {
            step.leave(request.dry_run);
        }
    } else {
        let registry = &registry.with_deadline(request.look);
        let (recorded, interrupt) = (report.record.is_some(), request.interrupt);
        report.unfinished =
            write(registry, approval, release, &mut steps, journal, recorded, interrupt).await.err();
        let right = report.unfinished.is_none();
        if let Err(error) = journal.note("written", json!({ "tags": noted(&steps), "right": right })) {
            report.unfinished = report.unfinished.or(Some(error));
        }
    }
    report.tags = steps.into_iter().map(|step| step.report).collect();
    if report.outcome().is_yes() && !request.interrupt.came() {
        let removals =
            request.interrupt.within(Duration::ZERO, untag(registry, place, release, request)).await;
        for (tag, removal) in request.untag.iter().zip(removals.unwrap_or_default()) {
            match removal {
                Ok(removal) => report.untagged.push(UntagReport { tag: tag.tag().clone(), removal }),
                Err(error) => report.unfinished = Some(error),
            }
        }
    }
    if request.interrupt.came() && report.unfinished.is_none() {
        report.unfinished = Some(interrupted());
    }
    Ok(report)
}

/// What tags named before a run that was cut short, in words.
fn named(earlier: &Earlier) -> String {
    let mut text = "before it,".to_owned();
    for (tag, before) in earlier {
        let before = before.map_or("nothing".to_owned(), |before| before.to_string());
        let _ = write!(text, " `{tag}` named {before}");
    }
    text
}

/// The tags as the journal has them.
fn noted(steps: &[Step]) -> Vec<Value> {
    steps.iter().map(|step| step.report.to_json()).collect()
}

/// How the image is judged: by whose rules, as one of which repository.
struct Look<'a> {
    rules: Rules<'a>,
    place: &'a Repository,
    expected: &'a Expected,
}

impl Look<'_> {
    /// Judges the image as it is in `here`.
    async fn at(
        &self,
        registry: &Registry,
        here: &Repository,
        image: RawManifest,
    ) -> Result<(Gathered, Verdict), Error> {
        let Rules { policy, trusts, also } = self.rules;
        let gathered = gather_for(registry, here, self.place, image, policy, trusts, also).await?;
        let verdict = decide(policy, &gathered.candidate, &gathered.evidence, clock::now(), self.expected);
        Ok((gathered, verdict))
    }

    /// Looks again until nothing is missing that votes could mend, or the time to wait is over.
    /// Each look is a fresh one; what cannot be found out ends the waiting.
    async fn until_met(
        &self,
        registry: &Registry,
        here: &Repository,
        image: &RawManifest,
        request: &Request<'_>,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<(Gathered, Verdict), Error> {
        let wait = request.wait.unwrap_or_default();
        let end = Instant::now() + wait;
        // Between 1 s and 15 s, and up to as much again, so that many who wait do not come as one.
        let pause = (wait / 40).clamp(Duration::from_secs(1), Duration::from_secs(15));
        let mut pauses = ConstantBuilder::new().with_delay(pause).with_jitter().without_max_times().build();
        let mut told = String::new();
        loop {
            let registry = registry.with_deadline(request.look);
            let (gathered, verdict) = self.at(&registry, here, image.clone()).await?;
            let left = end.saturating_duration_since(Instant::now());
            if !matches!(verdict.outcome, Outcome::Short) || left.is_zero() {
                return Ok((gathered, verdict));
            }
            let lacking = lacking(&verdict);
            if lacking != told {
                tell(&format!("waiting: {lacking}"));
                told = lacking;
            }
            tokio::time::sleep(pauses.next().unwrap_or(pause).min(left)).await;
        }
    }
}

/// The tags and how each may move, before anything is asked of a registry.
fn kinds(policy: &Policy, request: &Request<'_>) -> Result<Vec<(Tag, TagKind)>, Error> {
    if let Some(tag) = request.old.keys().find(|tag| !request.tags.contains(tag)) {
        return Err(Error::request(format!("`--expect-old` speaks of `{tag}`, which is not to be moved"))
            .hint(format!("add `--tag {tag}`, or leave the expectation out")));
    }
    let mut kinds: Vec<(Tag, TagKind)> = Vec::new();
    // An image without a rule is refused by the decision, not here.
    let Some(rule) = policy.image(request.place()) else { return Ok(kinds) };
    for tag in &request.tags {
        if tags::is_of_evidence(tag) {
            return Err(Error::request(format!(
                "`{tag}` is no tag of a release: evidence is kept under such tags"
            ))
            .hint("name the release by a tag that does not begin with `sha256-`"));
        }
        let kind = rule.tag(tag).ok_or_else(|| {
            Error::request(format!("the policy has no rule for the tag `{tag}` of `{}`", request.place()))
                .hint(format!(
                    "is it the tag that you mean? If so, add `[[image.tag]]` with `name = \"{tag}\"`; the \
                     first such rule replaces those for `latest` and versions: docs/policy.md, \"Tags\""
                ))
        })?;
        if !kinds.iter().any(|(known, _)| known == tag) {
            kinds.push((tag.clone(), kind));
        }
    }
    Ok(kinds)
}

/// Removes tags of single images, where each names one of the release, which has its tags by then.
async fn untag(
    registry: &Registry,
    repository: &Repository,
    release: &Candidate,
    request: &Request<'_>,
) -> Vec<Result<Removal, Error>> {
    all(request.untag.iter().map(|tag| async {
        let named = registry.manifest_now(&repository.at_tag(tag.tag().clone())).await?;
        Ok(match named.map(|raw| raw.digest) {
            None => Removal::Absent,
            Some(digest) if release.manifests().iter().all(|child| child.digest != digest) => {
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
