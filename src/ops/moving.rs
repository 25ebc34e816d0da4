//! Tags on their way: read, planned, written, read back, and put back where writing failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, try_join_all};

use super::gather::{Gathered, all, gather};
use super::promote::Request;
use crate::attestation::Trusts;
use crate::edge::clock;
use crate::edge::interrupt::Interrupt;
use crate::edge::journal::Journal;
use crate::edge::registry::{Held, RawManifest, Registry};
use crate::edge::tags::{self, Restore, Restored};
use crate::error::{Error, Kind};
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::policy::moves::{self, Before, Move};
use crate::policy::{Approval, Candidate, Expected, Policy, Purpose, TagKind, decide};
use crate::reason::Reason;
use crate::report::promote::{Action, TagReport};

/// How long to wait between reads of a tag that was written and does not show it: 6 s in all.
const READ_BACK: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_millis(1500), Duration::from_secs(3)];

/// For reading back, and again for putting back, however little time the run has left: what was
/// written is not left unlooked at because the time was up.
const SETTLE: Duration = Duration::from_secs(15);

/// After an interrupt, writes on their way may end.
const IN_HAND: Duration = Duration::from_secs(2);
/// And [`SETTLE`] is this. All of it is less than the 7.5 s after which a GitHub runner asks again.
const SETTLE_SOON: Duration = Duration::from_millis(2500);

/// A tag on its way.
pub(super) struct Step {
    kind: TagKind,
    /// What it named before.
    raw: Option<Arc<RawManifest>>,
    written: Written,
    pub(super) report: TagReport,
}

/// How far the write of a tag came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    No,
    /// It was tried. What a failed write left behind is not known until it is read.
    Tried,
    /// The registry confirmed it. A read that shows what was there before may be an old answer.
    Confirmed,
}

/// A tag as it was found.
pub(super) struct Found {
    tag: Tag,
    kind: TagKind,
    /// What it named before.
    raw: Option<Arc<RawManifest>>,
    before: Before,
}

/// A policy and whom to believe.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) policy: &'a Policy,
    pub(super) trusts: &'a Trusts,
    /// Where evidence is read besides.
    pub(super) also: &'a [Repository],
}

/// What the tags name now. A release that several of them name is judged once.
pub(super) async fn find(
    registry: &Registry,
    rules: Rules<'_>,
    repository: &Repository,
    image: RawManifest,
    kinds: Vec<(Tag, TagKind)>,
) -> Result<Vec<Found>, Error> {
    let digest = image.digest;
    let held = Held::new(BTreeMap::from([(digest, Arc::new(image))]));
    let held = &held;
    let named = kinds.into_iter().map(|(tag, kind)| async move {
        let raw = registry.manifest_once(&repository.at_tag(tag.clone()), held).await?;
        Ok::<_, Error>((tag, kind, raw))
    });
    let named = try_join_all(named).await?;
    let olds: BTreeMap<Digest, &RawManifest> = named
        .iter()
        .filter_map(|(_, kind, raw)| raw.as_deref().filter(|_| *kind == TagKind::Forward))
        .filter(|raw| raw.digest != digest)
        .map(|raw| (raw.digest, raw))
        .collect();
    let gathered = try_join_all(olds.into_values().map(|raw| async {
        Ok::<_, Error>((
            raw.digest,
            gather(registry, repository, raw.clone(), rules.policy, rules.trusts, rules.also).await?,
        ))
    }));
    let gathered: BTreeMap<Digest, Gathered> = gathered.await?.into_iter().collect();
    let found = named.into_iter().map(|(tag, kind, raw)| {
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
    let ordered = verdict.approval().filter(|old| old.is_ordered());
    ordered.map_or(Before::Other { digest }, |old| Before::Release {
        digest,
        sequence: old.sequence(),
        commit: old.commit().clone(),
    })
}

/// Writes the tags and reads them back. On a failure or an interrupt, mutable tags that existed
/// before are put back; what else moved stays, and the steps say so.
pub(super) async fn write(
    registry: &Registry,
    approval: &Approval,
    release: &Candidate,
    steps: &mut [Step],
    journal: &mut Journal,
    time_has_passed: bool,
    interrupt: &Interrupt,
) -> Result<(), Error> {
    interrupt.hold();
    let work = advance(registry, approval, release, steps, journal, time_has_passed, interrupt);
    let written = interrupt.within(IN_HAND, work).await;
    steps.iter_mut().filter(|step| step.is_due() && step.written == Written::No).for_each(Step::skip);
    let mut read = None;
    // Whoever interrupts while tags are written wants them back, also where all writes came to an end.
    if matches!(written, Some(Ok(()))) && !interrupt.came() {
        let work = read_back(registry.with_deadline(SETTLE), approval, steps, false);
        read = interrupt.within(Duration::ZERO, work).await;
    }
    if let Some(Ok(())) = read {
        return Ok(());
    }
    let settle = || registry.with_deadline(if interrupt.came() { SETTLE_SOON } else { SETTLE });
    if read.is_none() {
        // What failed is known; this is for the steps.
        let _ = read_back(settle(), approval, steps, true).await;
    }
    let settle = settle();
    all(steps.iter_mut().map(|step| step.put_back(&settle, approval))).await;
    let failed = [written, read].into_iter().flatten().find_map(Result::err);
    Err(match failed {
        Some(error) if error.kind() != Kind::Interrupted && interrupt.came() => interrupted().because(error),
        Some(error) => error,
        None => interrupted(),
    })
}

/// That somebody ended the run when it had begun to write.
pub(super) fn interrupted() -> Error {
    Error::interrupted("interrupted while tags were written")
        .hint("the report says what became of each tag; the same command, run again, goes on from there")
}

/// Writes the tags that are due; the journal hears of each before it is written. Where time has
/// passed since they were read, immutable tags are looked at again, too.
async fn advance(
    registry: &Registry,
    approval: &Approval,
    release: &Candidate,
    steps: &mut [Step],
    journal: &mut Journal,
    time_has_passed: bool,
    interrupt: &Interrupt,
) -> Result<(), Error> {
    if time_has_passed {
        let fresh = steps.iter_mut().filter(|step| step.is_due() && step.kind == TagKind::Immutable);
        let seen = all(fresh.map(|step| step.look_again(registry, approval))).await;
        seen.into_iter().collect::<Result<(), _>>()?;
    }
    let due = steps.iter_mut().filter(|step| step.is_due());
    let (mut immutable, mut forward): (Vec<_>, Vec<_>) =
        due.partition(|step| step.kind == TagKind::Immutable);
    going_on(interrupt)?;
    journal.writing(immutable.iter().map(|step| step.named()))?;
    let (written, seen) = join(
        all(immutable.iter_mut().map(|step| step.write(registry, approval, release, interrupt))),
        all(forward.iter_mut().map(|step| step.look_again(registry, approval))),
    )
    .await;
    written.into_iter().chain(seen).collect::<Result<(), _>>()?;
    going_on(interrupt)?;
    forward.retain(|step| step.is_due());
    journal.writing(forward.iter().map(|step| step.named()))?;
    let written =
        all(forward.iter_mut().map(|step| step.write(registry, approval, release, interrupt))).await;
    written.into_iter().collect()
}

/// No write begins after an interrupt.
fn going_on(interrupt: &Interrupt) -> Result<(), Error> {
    if interrupt.came() { Err(interrupted()) } else { Ok(()) }
}

/// Reads back what was written, or may have been.
async fn read_back(
    registry: Registry,
    approval: &Approval,
    steps: &mut [Step],
    failed: bool,
) -> Result<(), Error> {
    let touched = steps.iter_mut().filter(|step| step.written != Written::No);
    let read = all(touched.map(|step| step.read_back(&registry, approval, failed))).await;
    read.into_iter().collect()
}

impl Step {
    /// What is to be done with a tag.
    pub(super) fn plan(found: Found, approval: &Approval, request: &Request<'_>) -> Self {
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
            before: match action {
                Action::Unchanged => Some(approval.digest()),
                _ => raw.as_ref().map(|raw| raw.digest),
            },
            after: Some(approval.digest()),
            action,
            allowed,
            refusal,
        };
        Self { kind, raw, written: Written::No, report }
    }

    fn is_due(&self) -> bool {
        matches!(self.report.action, Action::Created | Action::Moved)
    }

    fn skip(&mut self) {
        self.report.action = Action::Skipped;
        self.report.after = self.report.before;
    }

    /// Leaves the tag as it is: nothing is to be written.
    pub(super) fn leave(&mut self, dry_run: bool) {
        let report = &mut self.report;
        if matches!(report.action, Action::Created | Action::Moved) && !dry_run {
            report.action = Action::Skipped;
        }
        if report.action != Action::Unchanged {
            report.after = report.before;
        }
    }

    /// The tag, and what it named before.
    fn named(&self) -> (&Tag, Option<Digest>) {
        (&self.report.tag, self.report.before)
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
        let now = registry.digest_now(&self.reference(approval)).await?;
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
        release: &Candidate,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        going_on(interrupt)?;
        self.written = Written::Tried;
        let (tag, before) = (&self.report.tag, self.report.before);
        tags::write_approved(registry, approval, tag, before, release, interrupt).await?;
        self.written = Written::Confirmed;
        Ok(())
    }

    /// Reads what the tag names after it was written. Some registries answer reads from a cache
    /// for a while: a tag whose write was confirmed, and that still names what it named before, is
    /// asked again a few times. Where something `failed`, its end is an error already.
    async fn read_back(
        &mut self,
        registry: &Registry,
        approval: &Approval,
        failed: bool,
    ) -> Result<(), Error> {
        let reference = self.reference(approval);
        let mut delays = READ_BACK.iter();
        let confirmed = self.written == Written::Confirmed;
        let now = loop {
            match registry.digest_now(&reference).await {
                Ok(now) => match delays.next() {
                    Some(delay)
                        if confirmed && now == self.report.before && *delay < registry.time_left() =>
                    {
                        tokio::time::sleep(*delay).await;
                    }
                    _ => break now,
                },
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
            self.report.action = if confirmed { Action::Unknown } else { Action::Skipped };
            Ok(())
        } else {
            Err(self.raced(now, &format!("after it was written as {}", approval.digest())))
        }
    }

    /// Puts a forward-only tag back that existed before and may name what we wrote.
    async fn put_back(&mut self, registry: &Registry, approval: &Approval) {
        let (TagKind::Forward, Some(raw)) = (self.kind, &self.raw) else { return };
        let may_be_ours = match (self.written, self.report.action) {
            (Written::No, _) => false,
            (_, Action::Moved | Action::Unknown) => true,
            (Written::Confirmed, Action::Elsewhere) => self.report.after == self.report.before,
            _ => false,
        };
        if !may_be_ours {
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
            Restored::Elsewhere(now) if now == self.report.before => match self.written {
                // This may be an old answer again; what is said of it stands.
                Written::Confirmed => return,
                _ => (Action::Skipped, now),
            },
            Restored::Elsewhere(now) => {
                self.raced(now, "and was to be put back");
                return;
            }
        };
        self.report.action = action;
        self.report.after = now;
    }
}
