//! Evidence as it is heard: votes, and what is to be said of the rest.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::builder::Builder;
use super::candidate::{Candidate, Image};
use super::decide::{Expected, Purpose};
use super::file::{ImageRule, Policy};
use super::tally::{Judged, Tally};
use super::verdict::{Cell, Ignored, Status, Waived};
use super::vote::{Backing, Group, NoVote, Vote};
use crate::attestation::{Attestation, Claim, Commit, Provenance, Rejection};
use crate::oci::{Digest, Platform, Repository, System};
use crate::reason::Reason;
use crate::text::shortened;

/// Evidence as it is heard: votes, and what is to be said of the rest.
pub(super) struct Hearing<'a> {
    policy: &'a Policy,
    pub(super) rule: &'a ImageRule,
    candidate: &'a Candidate,
    images: &'a BTreeMap<Platform, Image>,
    pub(super) votes: Vec<Vote<'a>>,
    pub(super) backings: Vec<Backing<'a>>,
    /// By builder and manifest: evidence of a known signer that does not count.
    rejected: BTreeMap<(&'a str, Digest), (Reason, String)>,
    /// What is waived, with the group and system that it is of, where it says so.
    waived: Vec<(Option<(Group, System)>, Waived)>,
    ignored: Vec<Ignored>,
}

impl<'a> Hearing<'a> {
    pub(super) fn new(
        policy: &'a Policy,
        rule: &'a ImageRule,
        candidate: &'a Candidate,
        images: &'a BTreeMap<Platform, Image>,
    ) -> Self {
        let (votes, backings, rejected, waived, ignored) = Default::default();
        Self { policy, rule, candidate, images, votes, backings, rejected, waived, ignored }
    }

    fn in_index(&self, manifest: Digest) -> bool {
        self.images.values().any(|image| image.digest == manifest)
    }

    pub(super) fn hear(&mut self, attestation: &'a Attestation, now: Timestamp, purpose: &Purpose) {
        let repository = self.candidate.repository();
        let vote = Vote::new(attestation, self.policy, self.rule, repository, now, purpose);
        match vote {
            Ok(mut vote) => {
                // It does not count, and is heard all the same: it may disagree.
                let manifest = vote.statement.manifest();
                if let Some(detail) = self.misplaced(manifest, Some(vote.statement.build.system)) {
                    let manifest = Some(manifest);
                    let reason = Reason::SystemMismatch;
                    self.reject(Some(vote.builder), vote.bundle, manifest, reason, detail.clone());
                    vote.barred.get_or_insert((reason, detail));
                }
                self.votes.push(vote);
            }
            Err(no) => {
                let statement = attestation.statement();
                let of = (Group::of(statement), statement.build.system);
                self.pass(no, attestation, statement.manifest(), Some(of));
            }
        }
    }

    /// The same of a statement of another type.
    pub(super) fn hear_provenance(
        &mut self,
        attestation: &'a Attestation<Provenance>,
        now: Timestamp,
        purpose: &Purpose,
    ) {
        let repository = self.candidate.repository();
        let Provenance { manifest, system, .. } = attestation.statement();
        match Backing::new(attestation, self.policy, self.rule, repository, now, purpose) {
            Ok(mut backing) => {
                if let Some(detail) = self.misplaced(*manifest, *system) {
                    let reason = Reason::SystemMismatch;
                    self.reject(
                        Some(backing.builder),
                        backing.bundle,
                        Some(*manifest),
                        reason,
                        detail.clone(),
                    );
                    backing.barred.get_or_insert((reason, detail));
                }
                self.backings.push(backing);
            }
            Err(no) => self.pass(no, attestation, *manifest, None),
        }
    }

    /// Once all is heard: a backing of which nothing says for certain what it speaks of does not count.
    /// One builder could else choose by its own statement what another vouches for.
    pub(super) fn settle(&mut self) {
        let mut builds: BTreeMap<(&Repository, &Commit), BTreeSet<&Group>> = BTreeMap::new();
        let groups: Vec<Group> = self.votes.iter().map(Vote::group).collect();
        for group in &groups {
            builds.entry((&group.name, &group.commit)).or_default().insert(group);
        }
        for backing in &mut self.backings {
            let Provenance { name, commit, manifest, system, .. } = backing.statement;
            let builds = builds.get(&(name, commit));
            let first_and_last =
                builds.filter(|all| all.len() > 1).and_then(|all| all.first().zip(all.last()));
            let places = self.images.values().filter(|image| image.digest == *manifest).count();
            let detail = match first_and_last {
                Some((one, other)) => format!("it could be of {one} or of {other}"),
                None if system.is_none() && places > 1 => {
                    format!("it names no system, and the manifest stands for {places} platforms")
                }
                None => continue,
            };
            backing.barred.get_or_insert((Reason::UnboundAmbiguous, detail));
        }
    }

    /// Keeps why a statement is no vote.
    fn pass<S>(
        &mut self,
        no: NoVote<'a>,
        attestation: &Attestation<S>,
        manifest: Digest,
        of: Option<(Group, System)>,
    ) {
        if let (Reason::Waived, Some(builder)) = (no.reason, no.builder) {
            let waived = Waived {
                statement: attestation.payload(),
                builder: builder.name.clone(),
                manifest,
                detail: no.detail.clone(),
            };
            self.waived.push((of, waived));
        }
        self.reject(no.builder, attestation.bundle(), Some(manifest), no.reason, no.detail);
    }

    /// Whether the rule asks for nobody more than has spoken, for every platform of the index.
    pub(super) fn all_heard(&self, group: &Group, judged: &Judged<'_>, expected: &Expected) -> bool {
        self.images.keys().filter(|platform| expected.asks(platform)).all(|platform| {
            let system = System::for_platform(platform);
            let silent = |builder| system.is_none_or(|system| self.silent(builder, system, group, judged));
            !self.policy.builders().iter().any(silent)
        })
    }

    /// Whether a builder must be heard on a system, and was not: it may vote there, has a key that
    /// is believed at some time, and none of its statements in the group are known. One that is
    /// waived was heard; one that a revocation silences was not.
    pub(super) fn silent(
        &self,
        builder: &Builder,
        system: System,
        group: &Group,
        judged: &Judged<'_>,
    ) -> bool {
        let spoke = judged
            .tallies
            .get(&system.platform())
            .is_some_and(|tally| tally.findings.contains_key(builder.name.as_str()));
        let waived = || {
            self.waived.iter().any(|(of, waived)| {
                of.as_ref().is_some_and(|(of, on)| of == group && *on == system)
                    && waived.builder == builder.name
            })
        };
        self.rule.hear_all && builder.has_voice() && builder.builds(system) && !spoke && !waived()
    }

    /// Whether a statement is about a manifest of the index, but of another system than its own.
    fn misplaced(&self, manifest: Digest, system: Option<System>) -> Option<String> {
        let system = system?;
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
    pub(super) fn pass_over(&mut self, shown: Option<&Group>) {
        let others = self.votes.iter().filter(|vote| shown != Some(&vote.group()));
        let others = others.filter(|vote| !self.in_index(vote.statement.manifest()));
        let ignored: Vec<_> = others
            .map(|vote| Ignored {
                bundle: vote.bundle,
                manifest: Some(vote.statement.manifest()),
                reason: Reason::OtherManifest,
                detail: vote.group().to_string(),
            })
            .collect();
        self.ignored.extend(ignored);
        let elsewhere = self.backings.iter().filter(|backing| !self.in_index(backing.statement.manifest));
        let ignored: Vec<_> = elsewhere
            .map(|backing| Ignored {
                bundle: backing.bundle,
                manifest: Some(backing.statement.manifest),
                reason: Reason::OtherManifest,
                detail: backing.to_string(),
            })
            .collect();
        self.ignored.extend(ignored);
    }

    /// What was waived, and what is ignored, each once and in one order.
    pub(super) fn rest(self) -> (Vec<Waived>, Vec<Ignored>) {
        let mut waived: Vec<Waived> = self.waived.into_iter().map(|(_, waived)| waived).collect();
        waived.sort();
        waived.dedup();
        let mut ignored = self.ignored;
        ignored.sort();
        ignored.dedup();
        (waived, ignored)
    }

    /// Unproven evidence is shown where its signature says it belongs, and counts nowhere.
    pub(super) fn hear_rejection(&mut self, rejection: &Rejection) {
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
        let detail = shortened(detail);
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

    pub(super) fn cell(
        &self,
        builder: &Builder,
        image: Option<&Image>,
        system: Option<System>,
        tally: Option<&Tally<'_>>,
        silent: bool,
        wanted: &dyn Fn(&Commit) -> bool,
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
            elsewhere.map(|v| (v.group(), v.statement.claim != Claim::Build)).max()
        {
            let reason = if wanted(&group.commit) { Reason::OtherGroup } else { Reason::CommitUnexpected };
            let said = if disputes { "disputes this manifest, of " } else { "" };
            let all = if silent { ", and of this build nothing, which the policy wants heard" } else { "" };
            return cell(Status::Rejected, Some(reason), Some(format!("{said}{group}{all}")));
        }
        // A backing of what was not judged. It is full statements that are missing, if none was.
        let elsewhere = self.backings.iter().filter(|backing| {
            backing.builder.name == builder.name
                && backing.statement.manifest == image.digest
                && backing.statement.system.is_none_or(|own| Some(own) == system)
        });
        if let Some((said, commit)) = elsewhere.map(|one| (one.to_string(), &one.statement.commit)).max() {
            let reason = match tally {
                _ if !wanted(commit) => Reason::CommitUnexpected,
                Some(_) => Reason::OtherGroup,
                None => Reason::UnboundAlone,
            };
            return cell(Status::Rejected, Some(reason), Some(said));
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
