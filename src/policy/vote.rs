//! From a proven attestation to a vote: matched to a builder, held to the rule.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::builder::{Builder, Claims, Credential, Revocation};
use super::decide::Purpose;
use super::file::{Field, ImageRule, Policy};
use crate::attestation::{Attestation, CertificateClaim, Commit, Provenance, Remarks, Signer, Statement};
use crate::oci::{Digest, Repository, System};
use crate::reason::Reason;
use crate::text::shortened;

/// How far a sequence may lie ahead of the verified time, both in seconds since 1970.
const SEQUENCE_AHEAD: SignedDuration = SignedDuration::from_mins(10);

/// How far ahead of this machine's clock a verified time may lie.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(1);

/// Of a counted vote whose certificate names the workflow and not what it built.
const OWN_WORD: &str = "the commit rests on the statement alone";

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
    pub(super) fn of(statement: &Statement) -> Self {
        Self {
            sequence: statement.build.sequence,
            commit: statement.build.commit.clone(),
            name: statement.name.clone(),
            source: statement.build.source_uri.clone(),
            target: statement.build.target.clone(),
        }
    }

    /// Whether a statement speaks of this build.
    pub fn is_of(&self, statement: &Statement) -> bool {
        *self == Self::of(statement)
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
pub(super) struct Heard<'a, S> {
    pub builder: &'a Builder,
    pub statement: &'a S,
    pub bundle: Digest,
    /// The SHA-256 of the statement.
    pub payload: Digest,
    /// Why it does not count, if it does not.
    pub barred: Option<(Reason, String)>,
    /// What to know where it counts.
    pub note: Option<&'static str>,
}

/// A full statement.
pub(super) type Vote<'a> = Heard<'a, Statement>;

/// A statement of another type than ours, on the same terms. It names a manifest and a commit and no
/// content, so it only ever adds to what full statements agree on.
pub(super) type Backing<'a> = Heard<'a, Provenance>;

/// What to know of a backing that counts, before its own note.
pub(super) const UNBOUND: &str = "unbound: it vouches for the manifest and the commit alone";

impl Backing<'_> {
    /// Whether what is stated is all of this build. What is left open is not vouched for: where the
    /// rule asks for it, the statement is no vote.
    pub(super) fn joins(&self, group: &Group) -> bool {
        let Provenance { name, commit, source_uri, .. } = self.statement;
        (name, commit) == (&group.name, &group.commit)
            && (source_uri.is_none() || *source_uri == group.source)
    }

    /// Whether it speaks of this system, for which the index has `manifest`. A statement that names
    /// no system is about that of its manifest.
    pub(super) fn is_of(&self, system: System, manifest: Option<Digest>) -> bool {
        self.statement.system.map_or(manifest == Some(self.statement.manifest), |own| own == system)
    }

    /// Why it does not count for a system, if it does not.
    pub(super) fn unfit(&self, system: System) -> Option<(Reason, String)> {
        let eligible = self.builder.builds(system);
        let not_allowed = || (Reason::SystemNotAllowed, format!("the manifest is for {system}"));
        self.barred.clone().or_else(|| (!eligible).then(not_allowed))
    }

    /// Whether it counts for the manifest that the index has for a system.
    pub(super) fn approves(&self, system: System, manifest: Option<Digest>) -> bool {
        manifest == Some(self.statement.manifest) && self.unfit(system).is_none()
    }
}

impl fmt::Display for Backing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit {}", self.statement.commit)?;
        self.statement.source_uri.as_ref().map_or(Ok(()), |source| write!(f, ", {source}"))
    }
}

/// What a statement of any type says that the policy can hold it to.
pub(super) struct Terms<'a> {
    /// Its predicate type, where that is not ours: the rule has to accept it.
    other_type: Option<&'a str>,
    name: &'a Repository,
    commit: &'a Commit,
    system: Option<System>,
    sequence: Option<u64>,
    source: Option<&'a str>,
    /// Whether statements of its type name their source.
    sourced: bool,
    git_ref: Option<&'a str>,
    target: Option<&'a str>,
    remarks: Option<&'a Remarks>,
    builder: &'a str,
}

impl<'a> From<&'a Statement> for Terms<'a> {
    fn from(statement: &'a Statement) -> Self {
        let build = &statement.build;
        Self {
            other_type: None,
            name: &statement.name,
            commit: &build.commit,
            system: Some(build.system),
            sequence: Some(build.sequence),
            source: build.source_uri.as_deref(),
            sourced: true,
            git_ref: build.git_ref.as_deref(),
            target: build.target.as_deref(),
            remarks: Some(&build.remarks),
            builder: &build.builder,
        }
    }
}

impl<'a> From<&'a Provenance> for Terms<'a> {
    fn from(said: &'a Provenance) -> Self {
        Self {
            other_type: Some(said.predicate_type),
            name: &said.name,
            commit: &said.commit,
            system: said.system,
            sequence: None,
            source: said.source_uri.as_deref(),
            sourced: Provenance::names_source(said.predicate_type),
            git_ref: said.git_ref.as_deref(),
            target: None,
            remarks: None,
            builder: &said.builder,
        }
    }
}

/// Why an attestation is no vote: whose it is, if a builder's, and the reason.
pub(super) struct NoVote<'a> {
    pub builder: Option<&'a Builder>,
    pub reason: Reason,
    pub detail: String,
}

impl Vote<'_> {
    pub(super) fn group(&self) -> Group {
        Group::of(self.statement)
    }
}

impl<'a, S> Heard<'a, S>
where
    Terms<'a>: From<&'a S>,
{
    pub(super) fn new(
        attestation: &'a Attestation<S>,
        policy: &'a Policy,
        rule: &ImageRule,
        repository: &Repository,
        now: Timestamp,
        purpose: &Purpose,
    ) -> Result<Self, NoVote<'a>> {
        let statement = attestation.statement();
        let terms = &Terms::from(statement);
        if let Some(other) = terms.other_type.filter(|other| !rule.types.contains(other)) {
            let detail = format!("the rule does not accept `{other}`");
            return Err(NoVote { builder: None, reason: Reason::PredicateType, detail });
        }
        let signer = attestation.signer();
        let found = policy.builder(signer).and_then(|builder| Some((builder, builder.credential(signer)?)));
        let Some((builder, credential)) = found else {
            let detail = format!("signed with {signer}");
            return Err(NoVote { builder: None, reason: Reason::SignerUnknown, detail });
        };
        about(terms, rule, repository)
            .and_then(|()| silenced(attestation.earliest(), credential))
            .and_then(|()| issued_for(terms, signer, credential.claims))
            .and_then(|()| match policy.waiver(attestation.payload(), now) {
                Some(waiver) => Err((Reason::Waived, format!("until {}: {}", waiver.until, waiver.reason))),
                None => Ok(()),
            })
            .map_err(|(reason, detail)| NoVote { builder: Some(builder), reason, detail })?;
        let times = attestation.earliest().zip(attestation.latest());
        let barred = countable(times, terms, builder, credential, now)
            .and_then(|()| fits(terms, rule))
            .and_then(|()| fresh(attestation.earliest(), terms, rule, now, purpose))
            .err()
            .map(|(reason, detail)| (reason, shortened(detail)));
        let note = match (signer, credential.claims) {
            (Signer::Certificate(_), Claims::Workflow) => Some(OWN_WORD),
            _ => None,
        };
        let (bundle, payload) = (attestation.bundle(), attestation.payload());
        Ok(Self { builder, statement, bundle, payload, barred, note })
    }
}

type Checked = Result<(), (Reason, String)>;

/// Whether a statement is about the image, and a source and target that the rule allows. Another
/// source or target is another build: what is said of it is no vote, and no dissent.
fn about(terms: &Terms<'_>, rule: &ImageRule, repository: &Repository) -> Checked {
    if !rule.speaks_of(terms.name, repository) {
        return Err((Reason::NameMismatch, format!("the statement is about `{}`", terms.name)));
    }
    match terms.source {
        _ if rule.sources.is_empty() => {}
        // It joins the full statements of its commit, and these name a source that is allowed.
        None if !terms.sourced => {}
        None => return Err((Reason::SourceMissing, "the statement has no `sourceUri`".to_owned())),
        Some(source) if !rule.sources.contains(source) => {
            return Err((Reason::SourceNotAllowed, format!("`sourceUri` is {source:?}")));
        }
        Some(_) => {}
    }
    match terms.target {
        _ if rule.targets.is_empty() => Ok(()),
        None => Err((Reason::TargetMissing, "the statement has no `target`".to_owned())),
        Some(target) if !rule.targets.contains(target) => {
            Err((Reason::TargetNotAllowed, format!("`target` is {target:?}")))
        }
        Some(_) => Ok(()),
    }
}

/// Whether a statement is heard at all: it is not, if every verified time lies in the time of the
/// credential's revocation. One that was also seen before may still disagree, and does not count.
fn silenced(earliest: Option<Timestamp>, credential: &Credential) -> Checked {
    match credential.revoked {
        Revocation::Compromised => Err((Reason::KeyCompromised, Reason::KeyCompromised.text().to_owned())),
        Revocation::From(from) if earliest.is_none_or(|earliest| earliest >= from) => {
            Err((Reason::KeyRevoked, format!("revoked from {from}, and {}", seen(earliest))))
        }
        _ => Ok(()),
    }
}

/// Whether a statement may be counted for its builder, by who signed it and when.
fn countable(
    times: Option<(Timestamp, Timestamp)>,
    terms: &Terms<'_>,
    builder: &Builder,
    credential: &Credential,
    now: Timestamp,
) -> Checked {
    if !builder.goes_by(terms.builder) {
        return Err((
            Reason::BuilderClaim,
            format!("the statement says `builder.id` is {:?}", terms.builder),
        ));
    }
    if let Some(system) = terms.system.filter(|system| !builder.builds(*system)) {
        return Err((Reason::SystemNotAllowed, format!("the statement is for {system}")));
    }
    if let Some((earliest, latest)) = times {
        // Either the clock is wrong or the time is, and nothing tells which.
        if latest.duration_since(now) > CLOCK_SKEW {
            return Err((
                Reason::TimeInFuture,
                format!("the verified time is {latest}, this machine's is {now}"),
            ));
        }
        // Of several verified times, each must do.
        if !credential.window.holds(earliest, latest) {
            return Err((Reason::KeyOutsideWindow, seen(Some(earliest))));
        }
        if credential.revoked.covers(latest) {
            return Err((Reason::KeyRevoked, format!("the last verified time is {latest}")));
        }
    } else if credential.is_timed() {
        return Err(timeless());
    }
    // A sequence that is no time (a plain counter) lies far behind every clock, and passes. Where
    // nothing vouches for a time, the statement is at least not from the future.
    let time = times.map_or(now, |(earliest, _)| earliest).as_second();
    let bound = time.saturating_add(SEQUENCE_AHEAD.as_secs());
    let ahead = |sequence: &u64| i64::try_from(*sequence).map_or(true, |sequence| sequence > bound);
    if let Some(sequence) = terms.sequence.filter(ahead) {
        return Err((Reason::SequenceAhead, format!("the sequence is {sequence}, the verified time {time}")));
    }
    Ok(())
}

/// Whether a certificate was issued to a job on what the statement says was built. Where either
/// leaves something open, it was not: absent never equals absent. If not, the statement is not
/// heard: the builder's own certificate disproves it, and a job of another branch has no say.
fn issued_for(terms: &Terms<'_>, signer: &Signer, claims: Claims) -> Checked {
    let (Signer::Certificate(identity), Claims::Source) = (signer, claims) else { return Ok(()) };
    // A statement names the repository as Nix does, the certificate by its web address.
    let source = terms.source.map(|uri| uri.strip_prefix("git+").unwrap_or(uri));
    for (what, stated, claim) in [
        ("sourceUri", source, CertificateClaim::SourceRepositoryUri),
        ("commit", Some(terms.commit.as_str()), CertificateClaim::SourceRepositoryDigest),
        ("ref", terms.git_ref, CertificateClaim::SourceRepositoryRef),
    ] {
        let claimed = identity.claim(claim);
        if stated.is_none() || stated != claimed {
            let told = |of: &str, name: &str, text: Option<&str>| match text {
                Some(text) => format!("the {of}'s `{name}` is {text:?}"),
                None => format!("the {of} has no `{name}`"),
            };
            let (stated, claimed) =
                (told("statement", what, stated), told("certificate", claim.as_str(), claimed));
            return Err((Reason::CertificateSource, format!("{stated}, {claimed}")));
        }
    }
    Ok(())
}

fn seen(time: Option<Timestamp>) -> String {
    time.map_or("there is no verified time".to_owned(), |time| format!("the verified time is {time}"))
}

/// A rule on time wants a time.
fn timeless() -> (Reason, String) {
    (Reason::NoVerifiedTime, Reason::NoVerifiedTime.text().to_owned())
}

/// Whether a statement says what the rule asks of every vote.
fn fits(terms: &Terms<'_>, rule: &ImageRule) -> Checked {
    if !rule.refs.is_empty() && !terms.git_ref.is_some_and(|git_ref| rule.refs.contains(git_ref)) {
        let shown = terms.git_ref.map_or("absent".to_owned(), |text| format!("{text:?}"));
        return Err((Reason::RefNotAllowed, format!("`ref` is {shown}")));
    }
    // A statement of another type has none of them.
    let remarked = |of: fn(&Remarks) -> bool| terms.remarks.is_some_and(of);
    for field in &rule.required_fields {
        let stated = match field {
            Field::SourceUri => terms.source.is_some(),
            Field::Ref => terms.git_ref.is_some(),
            Field::Target => terms.target.is_some(),
            Field::BuiltAt => remarked(|said| said.built_at.is_some()),
            Field::FlakeLockHash => remarked(|said| said.flake_lock_hash.is_some()),
            Field::ClosureManifest => remarked(|said| said.closure_manifest.is_some()),
            Field::Substituters => remarked(|said| said.substituters.is_some()),
            Field::Invocation => remarked(|said| said.invocation.is_some()),
        };
        if !stated {
            return Err((Reason::FieldMissing, format!("the statement has no `{}`", field.as_str())));
        }
    }
    Ok(())
}

/// Whether a statement is new enough. Its age is counted from the earliest time: a second
/// timestamp makes nothing younger.
fn fresh(
    time: Option<Timestamp>,
    terms: &Terms<'_>,
    rule: &ImageRule,
    now: Timestamp,
    purpose: &Purpose,
) -> Checked {
    let max_age = match purpose {
        Purpose::Verify => rule.verify_max_age,
        Purpose::Promote(_) => rule.max_age,
        Purpose::Leave(_) => return Ok(()),
    };
    if (rule.epoch.is_some() || max_age.is_some()) && time.is_none() {
        return Err(timeless());
    }
    if let Some((time, epoch)) = time.zip(rule.epoch).filter(|(time, epoch)| time < epoch) {
        return Err((Reason::BeforeEpoch, format!("the verified time is {time}, the epoch {epoch}")));
    }
    if let Some((time, _)) = time.zip(max_age).filter(|(time, max_age)| now.duration_since(*time) > *max_age)
    {
        return Err((Reason::TooOld, format!("the verified time is {time}, this machine's is {now}")));
    }
    // A statement without a sequence is of no release that a rule on it could mean.
    let sequence = terms.sequence.unwrap_or_default();
    if sequence < rule.min_sequence {
        let least = rule.min_sequence;
        return Err((Reason::SequenceTooLow, format!("the sequence is {sequence}, the lowest {least}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{Foreign, Pushed, commit, descriptor, index, key, nar_hash, platform};
    use super::super::{Candidate, Evidence, Expected, decide};
    use super::*;
    use crate::attestation::{Build, Claim, Content, Identity, San};
    use crate::oci::media_type;

    #[test]
    fn a_backing_on_its_own_word_says_so() {
        const JOB: &str = "https://git.example/ci/.ci/build.yml@refs/heads/main";
        let text = format!(
            "version = 1\n[[image]]\nrepository = \"ghcr.io/acme/app\"\nplatforms = [\"linux/amd64\"]\nquorum = 2\n\
             types = [\"https://slsa.dev/provenance/v1\"]\nunbound = true\n\
             [[builder]]\nname = \"ci\"\noperator = \"CI\"\nissuer = \"https://ci.example\"\nsan = \"{JOB}\"\n\
             claims = \"workflow\"\n[[builder]]\nname = \"garnix\"\noperator = \"Garnix\"\nkey = \"garnix.pub\"\n"
        );
        let policy = Policy::parse(&text, |_| Ok(key("garnix").to_pem().into_bytes())).unwrap();
        let image = Pushed::new("app", 1, "linux/amd64");
        let mut entry = descriptor(media_type::MANIFEST, &image.manifest);
        entry["platform"] = platform("linux/amd64");
        let mut candidate =
            Candidate::read("ghcr.io/acme/app".parse().unwrap(), media_type::INDEX, index(&[entry]));
        let descriptor = candidate.manifests()[0].clone();
        candidate.add_manifest(&descriptor, Some(image.manifest.clone()));
        candidate.add_config(&descriptor, Some(&image.config));
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();

        let statement = Statement {
            name: "ghcr.io/acme/app".parse().unwrap(),
            subject: image.digest(),
            claim: Claim::Build,
            build: Build {
                commit: commit('a'),
                system: "x86_64-linux".parse().unwrap(),
                content: Content { nar_hash: nar_hash("app"), config_digest: image.config_digest() },
                builder: "garnix".to_owned(),
                sequence: 1,
                source_uri: Some("git+https://git.example/app".to_owned()),
                git_ref: None,
                target: None,
                remarks: Remarks::default(),
            },
        };
        let payload = Foreign {
            kind: "https://slsa.dev/provenance/v1",
            name: "ghcr.io/acme/app",
            manifest: image.digest().hex(),
            commit: commit('a').to_string(),
            source: "https://git.example/app",
            git_ref: "refs/heads/main",
            system: "x86_64-linux",
            nar_hash: nar_hash("app").to_string(),
            builder: "ci",
        }
        .payload();
        let job = Signer::Certificate(Box::new(Identity {
            issuer: "https://ci.example".to_owned(),
            san: San::Uri(JOB.to_owned()),
            claims: [].into(),
        }));
        let bundle = Digest::of(b"bundle");
        let evidence = Evidence {
            attestations: vec![Attestation::unproven(statement, key("garnix").into(), vec![now], bundle)],
            provenances: vec![Attestation::unproven_provenance(payload.as_bytes(), job, vec![now], bundle)],
            ..Evidence::default()
        };
        let verdict = decide(&policy, &candidate, &evidence, now, &Expected::default());
        assert_eq!(verdict.outcome.as_str(), "met");
        let details = verdict.platforms[0].cells.iter().map(|cell| cell.detail.clone()).collect::<Vec<_>>();
        assert_eq!(details, [Some(format!("{UNBOUND}; {OWN_WORD}")), None]);
    }
}
