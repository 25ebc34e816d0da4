//! Properties of the decision, on generated policies, indexes and evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::num::NonZeroU32;

use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::vectors::{Foreign, Pushed, commit, descriptor, index, key, nar_hash, platform};
use super::{Candidate, Evidence, Expected, Outcome, Policy, PolicyError, Status, Verdict, decide};
use crate::attestation::{Attestation, Build, Claim, Content, Provenance, Rejection, Remarks, Statement};
use crate::oci::{Digest, System, media_type};
use crate::reason::Reason;

const REPOSITORY: &str = "ghcr.io/acme/app";
const SOURCE: &str = "https://git.example/app";
/// The platforms that a release may have; the last only ever stands where no rule names it.
const PLATFORMS: [&str; 4] = ["linux/amd64", "linux/arm64", "linux/riscv64", "linux/s390x"];
/// Between old statements and others: five minutes after the beginning of 1970.
const EPOCH: &str = "1970-01-01T00:05:00Z";
const OLD: i64 = 100;
const NEW: i64 = 400;
/// In a list of builders: nobody of the policy.
const STRANGER: usize = 9;

/// A policy, an index and evidence, as plain numbers.
#[derive(Debug, Clone)]
struct World {
    /// The operator of each builder.
    operators: Vec<usize>,
    /// How many platforms the policy requires.
    platforms: usize,
    need: u32,
    fault: Fault,
    expected: Option<char>,
    said: Vec<Said>,
    unproven: Vec<Unproven>,
}

/// What is wrong with the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    PlatformMissing,
    PlatformExtra,
    ConfigAbsent,
    NotAnIndex,
}

/// A signed statement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    signer: usize,
    /// The platform that it says it is for, and the one whose manifest it is about.
    system: usize,
    about: usize,
    push: u32,
    dissent: bool,
    /// Which narHash and which configuration; 0 is what the manifest holds.
    nar: u8,
    config: u8,
    commit: char,
    sequence: u64,
    /// Whether it names its own builder, and this repository.
    own_id: bool,
    own_name: bool,
    /// When it was signed: before [`EPOCH`] or after.
    at: i64,
}

/// Evidence that proves nothing.
#[derive(Debug, Clone)]
struct Unproven {
    signer: Option<usize>,
    about: usize,
    reason: Reason,
}

/// A signed statement of another type: a manifest, a commit, and perhaps a narHash.
#[derive(Debug, Clone)]
struct Backed {
    signer: usize,
    about: usize,
    push: u32,
    commit: char,
    /// As of [`Said`]; where there is none, no system is named either.
    nar: Option<u8>,
    own_id: bool,
}

fn backed() -> impl Strategy<Value = Backed> {
    let signer = prop_oneof![4 => 0..5_usize, 1 => Just(STRANGER)];
    let push = prop_oneof![5 => Just(1), 1 => Just(2_u32)];
    let commit = prop_oneof![4 => Just('a'), 1 => Just('b')];
    let nar = prop_oneof![5 => Just(None), 2 => Just(Some(0)), 1 => Just(Some(1))];
    (signer, 0..3_usize, push, commit, nar, prop::bool::weighted(0.9)).prop_map(
        |(signer, about, push, commit, nar, own_id)| Backed { signer, about, push, commit, nar, own_id },
    )
}

impl Backed {
    fn attestation(&self) -> Attestation<Provenance> {
        let platform: crate::oci::Platform = PLATFORMS[self.about].parse().unwrap();
        let payload = Foreign {
            kind: Provenance::TYPES[usize::from(self.nar.is_some())],
            name: REPOSITORY,
            manifest: image(self.about, self.push).digest().hex(),
            commit: commit(self.commit).to_string(),
            source: SOURCE,
            git_ref: "refs/heads/main",
            system: System::for_platform(&platform).unwrap().as_str(),
            nar_hash: nar_hash(&format!("{} of {}", self.nar.unwrap_or_default(), self.about)).to_string(),
            builder: &if self.own_id { name_of(self.signer) } else { "somebody".to_owned() },
        }
        .payload();
        let bundle = Digest::of(format!("{self:?}").as_bytes());
        Attestation::unproven_provenance(
            payload.as_bytes(),
            key(&name_of(self.signer)).into(),
            vec![time(NEW)],
            bundle,
        )
    }
}

/// Lines of a rule.
const UNBOUND: &str = "types = [\"https://slsa.dev/provenance/v1\", \"nix-seed/provenance\"]\nunbound = true\nsources = [\"git+https://git.example/app\"]";

fn honest(signer: usize, platform: usize, commit: char, sequence: u64) -> Said {
    Said {
        signer,
        system: platform,
        about: platform,
        push: 1,
        dissent: false,
        nar: 0,
        config: 0,
        commit,
        sequence,
        own_id: true,
        own_name: true,
        at: NEW,
    }
}

/// A statement of anybody about anything.
fn noise() -> impl Strategy<Value = Said> {
    let signer = prop_oneof![3 => 0..5_usize, 1 => Just(STRANGER)];
    let place = prop_oneof![4 => (0..3_usize).prop_map(|p| (p, p)), 1 => (0..4_usize, 0..4_usize)];
    let content = prop_oneof![1 => Just((0, 0)), 1 => (0..3_u8, 0..2_u8)];
    let group = prop_oneof![4 => Just(('a', 1)), 2 => Just(('b', 2)), 1 => Just(('a', 2))];
    (
        (signer, place, content, group),
        (prop_oneof![4 => Just(1), 1 => Just(2_u32)], prop::bool::weighted(0.15)),
        (prop::bool::weighted(0.9), prop::bool::weighted(0.9), prop_oneof![1 => Just(OLD), 2 => Just(NEW)]),
    )
        .prop_map(|(what, (push, dissent), (own_id, own_name, at))| {
            let (signer, (system, about), (nar, config), (commit, sequence)) = what;
            Said { signer, system, about, push, dissent, nar, config, commit, sequence, own_id, own_name, at }
        })
}

fn unproven() -> impl Strategy<Value = Unproven> {
    const REASONS: &[Reason] = &[Reason::LogProof, Reason::TimestampInvalid, Reason::BundleMalformed];
    (prop::option::of(0..6_usize), 0..4_usize, prop::sample::select(REASONS)).prop_map(
        |(signer, about, reason)| Unproven {
            signer: signer.map(|s| if s == 5 { STRANGER } else { s }),
            about,
            reason,
        },
    )
}

/// Mostly honest worlds, with some noise: all builders agree, or one of them does not.
fn world() -> impl Strategy<Value = World> {
    let fault = prop_oneof![
        12 => Just(Fault::None),
        1 => Just(Fault::PlatformMissing),
        1 => Just(Fault::PlatformExtra),
        1 => Just(Fault::ConfigAbsent),
        1 => Just(Fault::NotAnIndex),
    ];
    let votes = || vec(prop::bool::weighted(0.75), 15);
    (
        (vec(0..4_usize, 2..=5), 1..=3_usize, 1..=4_u32, fault),
        (prop_oneof![4 => Just(None), 1 => Just(Some('a')), 1 => Just(Some('b'))]),
        (votes(), prop::option::weighted(0.3, votes())),
        (vec(noise(), 0..6), vec(unproven(), 0..3)),
    )
        .prop_map(
            |((operators, platforms, need, fault), expected, (first, second), (noise, unproven))| {
                let mut said = Vec::new();
                let groups = [(Some(first), 'a', 1), (second, 'b', 2)];
                for (votes, commit, sequence) in
                    groups.iter().filter_map(|(v, c, s)| Some((v.as_ref()?, *c, *s)))
                {
                    for (at, _) in votes.iter().enumerate().filter(|(_, voted)| **voted) {
                        let (signer, platform) = (at / 3, at % 3);
                        if signer < operators.len() && platform < platforms {
                            said.push(honest(signer, platform, commit, sequence));
                        }
                    }
                }
                said.extend(noise);
                let distinct = operators.iter().collect::<BTreeSet<_>>().len();
                let need = need.min(u32::try_from(distinct).unwrap());
                World { operators, platforms, need, fault, expected, said, unproven }
            },
        )
}

impl World {
    fn knows(&self, signer: usize) -> bool {
        signer < self.operators.len()
    }

    fn policy(&self) -> Policy {
        self.policy_with("", None, "").unwrap()
    }

    /// The policy with a line more in its rule, one builder compromised, and tables at its end.
    fn policy_with(
        &self,
        rule: &str,
        compromised: Option<usize>,
        tables: &str,
    ) -> Result<Policy, PolicyError> {
        let mut text = format!(
            "version = 1\n[[image]]\nrepository = {REPOSITORY:?}\nplatforms = {:?}\nquorum = {}\n{rule}\n",
            &PLATFORMS[..self.platforms],
            self.need
        );
        for (builder, operator) in self.operators.iter().enumerate() {
            let _ = write!(
                text,
                "[[builder]]\nname = \"b{builder}\"\noperator = \"o{operator}\"\nkey = \"b{builder}.pub\"\n"
            );
            if compromised == Some(builder) {
                text.push_str("revoked = \"compromised\"\n");
            }
        }
        text.push_str(tables);
        Policy::parse(&text, |path| {
            Ok(key(path.strip_suffix(".pub").unwrap_or_default()).to_pem().into_bytes())
        })
    }

    /// The platforms that the index has.
    fn present(&self) -> Vec<usize> {
        match self.fault {
            Fault::PlatformMissing => (1..self.platforms).collect(),
            Fault::PlatformExtra => (0..self.platforms).chain([PLATFORMS.len() - 1]).collect(),
            _ => (0..self.platforms).collect(),
        }
    }

    fn candidate(&self) -> Candidate {
        let images: Vec<_> = self.present().iter().map(|p| (PLATFORMS[*p], image(*p, 1))).collect();
        let entries: Vec<_> = images
            .iter()
            .map(|(stated, image)| {
                let mut entry = descriptor(media_type::MANIFEST, &image.manifest);
                entry["platform"] = platform(stated);
                entry
            })
            .collect();
        let stated = if self.fault == Fault::NotAnIndex { media_type::MANIFEST } else { media_type::INDEX };
        let mut candidate = Candidate::read(REPOSITORY.parse().unwrap(), stated, index(&entries));
        for (at, descriptor) in candidate.manifests().to_vec().into_iter().enumerate() {
            let image = &images[at].1;
            candidate.add_manifest(&descriptor, Some(image.manifest.clone()));
            let absent = at == 0 && self.fault == Fault::ConfigAbsent;
            candidate.add_config(&descriptor, (!absent).then_some(&image.config[..]));
        }
        candidate
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            attestations: self.said.iter().map(|said| said.attestation(0)).collect(),
            rejections: self.unproven.iter().map(Unproven::rejection).collect(),
            ..Evidence::default()
        }
    }

    fn decide(&self, evidence: &Evidence) -> Verdict {
        self.decide_with(evidence, None)
    }

    fn decide_under(&self, policy: &Policy, evidence: &Evidence) -> Verdict {
        let expected = Expected { commit: self.expected.map(commit), ..Expected::default() };
        decide(policy, &self.candidate(), evidence, time(1_000), &expected)
    }

    fn decide_with(&self, evidence: &Evidence, quorum: Option<u32>) -> Verdict {
        let quorum = quorum.and_then(NonZeroU32::new);
        let expected = Expected { commit: self.expected.map(commit), quorum, ..Expected::default() };
        decide(&self.policy(), &self.candidate(), evidence, time(1_000), &expected)
    }

    /// Whether the quorum is there, counted from what was said, without the code under test.
    fn quorate(&self) -> bool {
        let groups: BTreeSet<_> = self.said.iter().map(|said| (said.commit, said.sequence)).collect();
        self.fault == Fault::None
            && groups
                .into_iter()
                .filter(|(commit, _)| self.expected.is_none_or(|expected| expected == *commit))
                .any(|group| self.agrees(group))
    }

    fn agrees(&self, group: (char, u64)) -> bool {
        let present = self.present();
        let votes: Vec<&Said> = self
            .said
            .iter()
            .filter(|s| self.knows(s.signer) && s.own_name && (s.commit, s.sequence) == group)
            .collect();
        let mut contents: BTreeMap<(usize, usize), BTreeSet<_>> = BTreeMap::new();
        for vote in &votes {
            contents.entry((vote.signer, vote.system)).or_default().insert(vote.content());
        }
        let equivocates = contents.values().any(|contents| contents.len() > 1);
        !equivocates
            && present.iter().all(|platform| {
                let here: Vec<_> = votes.iter().filter(|vote| vote.system == *platform).collect();
                let operators: BTreeSet<_> = here
                    .iter()
                    .filter(|vote| vote.own_id && vote.about == *platform && vote.push == 1)
                    .map(|vote| self.operators[vote.signer])
                    .collect();
                // Whoever disputes another manifest, and got the same, does not dispute this one.
                let right =
                    |vote: &&&Said| vote.content().config_digest == image(*platform, 1).config_digest();
                let disputed =
                    votes.iter().any(|vote| vote.dissent && vote.about == *platform && vote.push == 1);
                let content: BTreeSet<_> = here.iter().map(|vote| vote.content()).collect();
                operators.len() >= self.need as usize
                    && content.len() == 1
                    && here.iter().all(right)
                    && !disputed
            })
    }
}

/// The image of a platform.
fn image(platform: usize, push: u32) -> Pushed {
    Pushed::new(&format!("app-{platform}"), push, PLATFORMS[platform])
}

fn name_of(signer: usize) -> String {
    format!("b{signer}")
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

impl Said {
    fn content(&self) -> Content {
        let nar_hash = nar_hash(&format!("{} of {}", self.nar, self.system));
        let config_digest = match self.config {
            0 => image(self.system, 1).config_digest(),
            other => Digest::of(format!("configuration {other} of {}", self.system).as_bytes()),
        };
        Content { nar_hash, config_digest }
    }

    /// The statement, signed `run` seconds later and in another bundle than at first.
    fn attestation(&self, run: i64) -> Attestation {
        let about = image(self.about, self.push).digest();
        let content = self.content();
        let system: System =
            PLATFORMS[self.system].parse().map(|p| System::for_platform(&p).unwrap()).unwrap();
        let (claim, subject) = if self.dissent {
            (Claim::Dissent { disputes: about }, content.config_digest)
        } else {
            (Claim::Build, about)
        };
        let statement = Statement {
            name: if self.own_name { REPOSITORY } else { "ghcr.io/acme/other" }.parse().unwrap(),
            subject,
            claim,
            build: Build {
                commit: commit(self.commit),
                system,
                content,
                builder: if self.own_id { name_of(self.signer) } else { "somebody".to_owned() },
                sequence: self.sequence,
                source_uri: Some(format!("git+{SOURCE}")),
                git_ref: None,
                target: None,
                remarks: Remarks::default(),
            },
        };
        let at = time(self.at) + SignedDuration::from_secs(run);
        let bundle = Digest::of(format!("{run} {self:?}").as_bytes());
        Attestation::unproven(statement, key(&name_of(self.signer)).into(), vec![at], bundle)
    }
}

impl Unproven {
    fn rejection(&self) -> Rejection {
        Rejection {
            bundle: Digest::of(format!("{self:?}").as_bytes()),
            reason: self.reason,
            detail: self.reason.text().to_owned(),
            signer: self.signer.map(|signer| key(&name_of(signer)).into()),
            manifest: Some(image(self.about, 1).digest()),
        }
    }
}

fn shown(verdict: &Verdict) -> String {
    format!("{verdict:#?}")
}

fn met(verdict: &Verdict) -> bool {
    matches!(verdict.outcome, Outcome::Met(_))
}

/// The outcome and, of each platform, how many agree.
fn sum(verdict: &Verdict) -> (&'static str, Vec<usize>) {
    (verdict.outcome.as_str(), verdict.platforms.iter().map(|row| row.have).collect())
}

/// The rows of the matrix, cells and all.
fn matrix(verdict: &Verdict) -> String {
    format!("{:#?}", verdict.platforms)
}

/// What a world holds of the group that was judged, by operators that count for its first
/// platform, if they are as many as it takes and not one more.
fn exact(world: &World, verdict: &Verdict) -> Option<(World, usize)> {
    let group = verdict.group.as_ref().filter(|_| met(verdict))?;
    let row = verdict.platforms.first().filter(|row| row.have == row.need)?;
    let counted = row.cells.iter().position(|cell| cell.status == Status::Counted)?;
    let mut alone = world.clone();
    alone.said.retain(|said| commit(said.commit) == group.commit && said.sequence == group.sequence);
    Some((alone, world.operators[counted]))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_never_matters(
        (world, said, unproven) in world().prop_flat_map(|world| {
            let said = Just(world.said.clone()).prop_shuffle();
            let unproven = Just(world.unproven.clone()).prop_shuffle();
            (Just(world), said, unproven)
        })
    ) {
        let shuffled = World { said, unproven, ..world.clone() };
        prop_assert_eq!(
            shown(&world.decide(&world.evidence())),
            shown(&shuffled.decide(&shuffled.evidence()))
        );
    }

    #[test]
    fn junk_changes_no_answer(world in world()) {
        let mut clean = world.clone();
        clean.said.retain(|said| world.knows(said.signer));
        clean.unproven.clear();
        prop_assert_eq!(
            sum(&world.decide(&world.evidence())),
            sum(&clean.decide(&clean.evidence()))
        );
    }

    #[test]
    fn met_is_what_a_recount_says(world in world()) {
        let verdict = world.decide(&world.evidence());
        prop_assert!(world.quorate() || !met(&verdict), "{}", shown(&verdict));
        // Who disagrees over a platform that the index lacks can take a quorum away.
        let left_out = world.said.iter().any(|said| said.system >= world.platforms);
        prop_assert!(met(&verdict) || !world.quorate() || left_out, "{}", shown(&verdict));
        if let Outcome::Met(approval) = &verdict.outcome {
            let judged = world.said.iter().find(|s| {
                commit(s.commit) == *approval.commit() && s.sequence == approval.sequence()
            });
            prop_assert!(judged.is_some_and(|s| world.agrees((s.commit, s.sequence))));
            prop_assert_eq!(approval.digest(), world.candidate().digest());
            for row in &verdict.platforms {
                let operators: BTreeSet<_> = row
                    .cells
                    .iter()
                    .filter(|cell| cell.status == Status::Counted)
                    .map(|cell| &cell.operator)
                    .collect();
                prop_assert!(operators.len() >= world.need as usize);
                prop_assert_eq!(operators.len(), row.have);
            }
        }
    }

    #[test]
    fn an_exact_quorum_less_one_operator_is_short(world in world()) {
        if let Some((mut alone, operator)) = exact(&world, &world.decide(&world.evidence())) {
            prop_assert!(met(&alone.decide(&alone.evidence())));
            let operators = alone.operators.clone();
            let leaves = |s: &Said| operators.get(s.signer) == Some(&operator) && s.system == 0;
            alone.said.retain(|said| !leaves(said));
            prop_assert_eq!(alone.decide(&alone.evidence()).outcome.as_str(), "short");
        }
    }

    #[test]
    fn a_raised_quorum_never_helps(world in world(), quorum in 1..6_u32) {
        let evidence = world.evidence();
        let (one, raised) = (world.decide(&evidence), world.decide_with(&evidence, Some(quorum)));
        prop_assert!(met(&one) || !met(&raised));
        let enough = one.platforms.iter().all(|row| row.have >= quorum as usize);
        if met(&one) && enough {
            prop_assert!(met(&raised));
        }
        prop_assert!(raised.platforms.iter().all(|row| row.need == quorum.max(world.need) as usize));
    }

    #[test]
    fn rules_on_time_only_take_away(world in world()) {
        let evidence = world.evidence();
        let plain = world.decide(&evidence);
        for rule in [format!("epoch = {EPOCH}"), "verify_max_age = \"700s\"".to_owned()] {
            let policy = world.policy_with(&rule, None, "").unwrap();
            let ruled = world.decide_under(&policy, &evidence);
            // What they bar still disagrees: without the bar it would be met, too.
            prop_assert!(met(&plain) || !met(&ruled), "{}", shown(&ruled));
            let mut young = world.clone();
            young.said.retain(|said| said.at == NEW);
            prop_assert!(young.quorate() || !met(&ruled), "{}", shown(&ruled));
            if world.said.iter().all(|said| said.at == NEW) {
                prop_assert_eq!(sum(&plain), sum(&ruled));
            }
        }
    }

    #[test]
    fn hearing_all_only_takes_away(world in world()) {
        let evidence = world.evidence();
        let plain = world.decide(&evidence);
        let all = world.decide_under(&world.policy_with("hear_all = true", None, "").unwrap(), &evidence);
        prop_assert!(met(&plain) || !met(&all));
        if let Some(group) = all.group.as_ref().filter(|_| met(&all)) {
            for builder in 0..world.operators.len() {
                let spoke = |platform: usize| world.said.iter().any(|said| {
                    said.signer == builder && said.system == platform && said.own_name
                        && commit(said.commit) == group.commit && said.sequence == group.sequence
                });
                prop_assert!((0..world.platforms).all(spoke), "b{} is silent", builder);
            }
        }
    }

    #[test]
    fn compromised_is_as_if_it_had_said_nothing(world in world(), builder in 0..5_usize) {
        // Where the others cannot make the quorum, the policy is refused.
        if let Ok(policy) = world.policy_with("", Some(builder), "") {
            let mut without = world.clone();
            without.said.retain(|said| said.signer != builder);
            let verdict = world.decide_under(&policy, &world.evidence());
            prop_assert_eq!(sum(&verdict), sum(&without.decide(&without.evidence())));
            prop_assert!(without.quorate() || !met(&verdict));
        }
    }

    #[test]
    fn waived_is_as_if_it_had_not_been_said(world in world(), which in any::<prop::sample::Index>()) {
        if !world.said.is_empty() {
            let statement = which.get(&world.said).attestation(0).payload();
            let waiver = |until: &str| {
                let tables =
                    format!("[[waive]]\nstatement = \"{statement}\"\nreason = \"r\"\nuntil = {until}\n");
                world.policy_with("", None, &tables).unwrap()
            };
            let mut without = world.clone();
            without.said.retain(|said| said.attestation(0).payload() != statement);
            let verdict = world.decide_under(&waiver("2000-01-01T00:00:00Z"), &world.evidence());
            prop_assert_eq!(sum(&verdict), sum(&without.decide(&without.evidence())));
            prop_assert!(without.quorate() || !met(&verdict));
            let over = world.decide_under(&waiver(EPOCH), &world.evidence());
            prop_assert_eq!(sum(&over), sum(&world.decide(&world.evidence())));
        }
    }

    #[test]
    fn repetition_changes_nothing(world in world()) {
        let evidence = world.evidence();
        let once = world.decide(&evidence);
        let mut twice = evidence.clone();
        twice.attestations.extend(evidence.attestations.clone());
        twice.rejections.extend(evidence.rejections.clone());
        prop_assert_eq!(shown(&once), shown(&world.decide(&twice)));
        // A new run: the same said again, at another time and in another bundle.
        let mut again = evidence;
        again.attestations.extend(world.said.iter().map(|said| said.attestation(60)));
        let again = world.decide(&again);
        prop_assert_eq!(sum(&once), sum(&again));
        prop_assert_eq!(matrix(&once), matrix(&again));
    }

    #[test]
    fn backings_add_to_full_votes_and_hide_nothing(
        (world, backed, shuffled) in (world(), vec(backed(), 0..12))
            .prop_flat_map(|(world, backed)| (Just(world), Just(backed.clone()), Just(backed).prop_shuffle()))
    ) {
        let with = |backed: &[Backed]| {
            let provenances = backed.iter().map(Backed::attestation).collect();
            Evidence { provenances, ..world.evidence() }
        };
        let policy = world.policy_with(UNBOUND, None, "").unwrap();
        let plain = world.decide(&world.evidence());
        // Nothing counts that the policy does not name.
        prop_assert_eq!(sum(&plain), sum(&world.decide(&with(&backed))));
        let verdict = world.decide_under(&policy, &with(&backed));
        prop_assert_eq!(shown(&verdict), shown(&world.decide_under(&policy, &with(&shuffled))));
        let known: Vec<Backed> = backed.iter().filter(|one| world.knows(one.signer)).cloned().collect();
        prop_assert_eq!(sum(&verdict), sum(&world.decide_under(&policy, &with(&known))));
        if let Some(group) = verdict.group.as_ref().filter(|_| met(&verdict)) {
            let of = |said: &&Said| commit(said.commit) == group.commit && said.sequence == group.sequence;
            // Every platform has a full vote, and whoever disagrees without them still does.
            for platform in 0..world.platforms {
                let full = world.said.iter().filter(of).any(|said| {
                    world.knows(said.signer) && said.about == platform && said.push == 1 && !said.dissent
                });
                prop_assert!(full, "{}", shown(&verdict));
            }
            let mut alone = world.clone();
            alone.said.retain(|said| of(&said));
            let word = alone.decide(&alone.evidence()).outcome.as_str();
            prop_assert!(matches!(word, "met" | "short"), "{}", word);
            // The order of the release is vouched for where full votes make the quorum.
            let ordered = verdict.approval().is_some_and(super::Approval::is_ordered);
            prop_assert!(!ordered || word == "met");
            for row in &verdict.platforms {
                let operators: BTreeSet<_> = row
                    .cells
                    .iter()
                    .filter(|cell| cell.status == Status::Counted)
                    .map(|cell| &cell.operator)
                    .collect();
                prop_assert_eq!(operators.len(), row.have);
                prop_assert!(row.have >= world.need as usize);
            }
        }
    }

    #[test]
    fn backings_take_nothing_from_what_full_votes_meet(
        world in world(), backed in vec(backed(), 0..12), voter in 0..5_usize, again in any::<bool>()
    ) {
        let policy = world.policy_with(UNBOUND, None, "").unwrap();
        let plain = world.decide_under(&policy, &world.evidence());
        let mut more = world.clone();
        // Of a newer build, of the same commit or of another one; alone it meets no quorum.
        let commit = if again { 'a' } else { 'c' };
        more.said.extend((0..world.platforms).map(|platform| honest(voter, platform, commit, 9)));
        let agreeing = backed.iter().filter(|one| one.nar.is_none()).cloned();
        let of_that = agreeing.clone().map(|one| Backed { commit, ..one });
        let provenances = agreeing.chain(of_that).map(|one| one.attestation()).collect();
        let verdict = world.decide_under(&policy, &Evidence { provenances, ..more.evidence() });
        if met(&plain) && world.need > 1 {
            prop_assert_eq!(&plain.group, &verdict.group, "{}", shown(&verdict));
            prop_assert!(verdict.approval().is_some_and(super::Approval::is_ordered));
        }
    }

    #[test]
    fn one_builder_chooses_nothing_for_backings(world in world(), backed in vec(backed(), 1..12)) {
        // Where full statements of a commit are of several builds, backings of it never count.
        let policy = world.policy_with(UNBOUND, None, "").unwrap();
        let mut more = world.clone();
        more.said.extend(['a', 'b'].map(|commit| honest(0, 0, commit, 8)));
        more.said.extend(['a', 'b'].map(|commit| honest(0, 0, commit, 9)));
        let agreeing = backed.iter().filter(|one| one.nar.is_none());
        let provenances = agreeing.map(Backed::attestation).collect();
        let verdict = world.decide_under(&policy, &Evidence { provenances, ..more.evidence() });
        let alone = world.decide_under(&policy, &more.evidence());
        prop_assert_eq!(sum(&alone), sum(&verdict));
    }

    #[test]
    fn every_cell_tells_its_reason(world in world()) {
        let verdict = world.decide(&world.evidence());
        for row in &verdict.platforms {
            prop_assert_eq!(row.cells.len(), world.operators.len());
            for cell in &row.cells {
                let silent = matches!(cell.status, Status::Counted | Status::Missing);
                prop_assert_eq!(cell.reason.is_none(), silent, "{:?}", cell);
                prop_assert_eq!(cell.detail.is_none(), silent, "{:?}", cell);
            }
        }
        let refused = verdict.outcome.as_str() == "refused";
        prop_assert_eq!(refused, !verdict.refusals.is_empty());
        prop_assert_eq!(refused, world.fault != Fault::None);
    }
}

/// No property above is empty: the worlds come to every outcome, and to exact quorums.
#[test]
fn the_generator_reaches_every_outcome() {
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..1_000 {
        let world = world().new_tree(&mut runner).unwrap().current();
        let verdict = world.decide(&world.evidence());
        *seen.entry(verdict.outcome.as_str()).or_default() += 1;
        if exact(&world, &verdict).is_some() {
            *seen.entry("met exactly").or_default() += 1;
        }
        if verdict.group.is_some() && world.said.iter().any(|said| said.commit == 'b') && met(&verdict) {
            *seen.entry("met among several groups").or_default() += 1;
        }
    }
    let all =
        ["met", "met exactly", "met among several groups", "short", "dissent", "equivocation", "refused"];
    for outcome in all {
        assert!(seen.get(outcome).is_some_and(|n| *n >= 20), "{outcome} is rare: {seen:?}");
    }
}

/// The same bytes can be rejected for several details; which comes first must not show.
#[test]
fn what_is_ignored_has_one_order() {
    let world = World {
        operators: vec![0, 1],
        platforms: 1,
        need: 1,
        fault: Fault::None,
        expected: None,
        said: vec![],
        unproven: vec![],
    };
    let rejection = |detail: &str| Rejection {
        bundle: Digest::of(b"bundle"),
        reason: Reason::BundleManifest,
        detail: detail.to_owned(),
        signer: None,
        manifest: None,
    };
    let judge = |details: [&str; 3]| {
        let rejections = details.map(rejection).to_vec();
        shown(&world.decide(&Evidence { rejections, ..Evidence::default() }))
    };
    assert_eq!(judge(["one", "other", "one"]), judge(["other", "one", "one"]));
}
