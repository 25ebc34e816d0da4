//! Random cases and their verdicts, written as JSON lines for a second model of the decision, in
//! another language: `tests/peers/model`. Its README has the form of a line.
//!
//! `QUORATE_MODEL_CASES` names the file to write, `QUORATE_MODEL_COUNT` says how many, and
//! `QUORATE_MODEL_SEED` which.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::vectors::{Foreign, Pushed, commit, descriptor, index, key, nar_hash, platform};
use super::{Candidate, Evidence, Expected, Policy, Purpose, Verdict, decide};
use crate::attestation::{Attestation, Build, Claim, Content, Provenance, Rejection, Remarks, Statement};
use crate::oci::{Digest, Platform, System, media_type};
use crate::reason::Reason;

const REPOSITORY: &str = "ghcr.io/acme/app";
const MIRROR: &str = "registry.acme.example/mirror/app";
const PLATFORMS: [&str; 4] = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/riscv64"];
/// When the first statement was signed.
const BEGIN: i64 = 1_767_225_600;
/// When all is judged.
const NOW: i64 = BEGIN + 86_400;

#[test]
fn random_cases_are_judged_and_written() {
    let count: usize = std::env::var("QUORATE_MODEL_COUNT").map_or(1_000, |n| n.parse().unwrap());
    let mut out: Box<dyn std::io::Write> = match std::env::var("QUORATE_MODEL_CASES") {
        Ok(path) => Box::new(BufWriter::new(std::fs::File::create(path).unwrap())),
        Err(_) => Box::new(std::io::sink()),
    };
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut dice = Dice(std::env::var("QUORATE_MODEL_SEED").map_or(0, |n| n.parse().unwrap()));
    let mut written = 0;
    while written < count {
        // A policy that is refused at load judges nothing.
        let Some((case, verdict)) = case(&mut dice) else { continue };
        *seen.entry(verdict.outcome.as_str()).or_default() += 1;
        writeln!(out, "{case}").unwrap();
        written += 1;
    }
    out.flush().unwrap();
    for word in ["refused", "equivocation", "dissent", "short", "met"] {
        let times = seen.get(word).copied().unwrap_or_default();
        assert!(times * 25 > count, "`{word}` is the verdict of {times} of {count} cases");
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }

    /// Whether something of this likelihood comes about.
    fn percent(&mut self, likely: usize) -> bool {
        self.below(100) < likely
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// A statement, and who signed it when.
struct Signed {
    signer: String,
    statement: Statement,
    times: Vec<Timestamp>,
    bundle: Digest,
}

/// A statement of another type than ours.
struct Backing {
    signer: String,
    payload: String,
    times: Vec<Timestamp>,
}

impl Backing {
    fn bundle(&self) -> Digest {
        Digest::of(format!("{} {:?} {}", self.signer, self.times, self.payload).as_bytes())
    }

    fn attestation(&self) -> Attestation<Provenance> {
        let signer = key(&self.signer).into();
        let (payload, times) = (self.payload.as_bytes(), self.times.clone());
        Attestation::unproven_provenance(payload, signer, times, self.bundle())
    }
}

/// Lines of a rule that accepts other types. One of them names no source.
const OTHER_TYPES: [&str; 2] = [
    "types = [\"https://slsa.dev/provenance/v1\", \"nix-seed/provenance\"]\nunbound = true\nsources = [\"git+https://git.example/s0\"]\n",
    "types = [\"https://slsa.dev/provenance/v1\"]\nunbound = true\n",
];

/// Mostly about what the index has, in the words of the honest.
fn backing(dice: &mut Dice, builders: usize, images: &[Child]) -> Backing {
    let stranger = usize::from(dice.percent(10));
    let builder = dice.below(builders + stranger);
    let image = &images[dice.below(images.len())];
    let git = "https://git.example/";
    let (nar, system) =
        (if dice.percent(8) { "other" } else { image.system.as_str() }, image.system.as_str());
    let payload = Foreign {
        kind: match dice.below(20) {
            0 => Provenance::TYPES[2],
            n if n % 2 == 0 => Provenance::TYPES[0],
            _ => Provenance::TYPES[1],
        },
        name: if dice.percent(4) { MIRROR } else { REPOSITORY },
        manifest: if dice.percent(8) { Digest::of(b"another push") } else { image.pushed.digest() }.hex(),
        commit: commit(if dice.percent(85) { 'a' } else { 'b' }).to_string(),
        source: &format!("{git}s{}", usize::from(dice.percent(10))),
        git_ref: if dice.percent(80) { "refs/heads/r0" } else { "refs/heads/r1" },
        system: if dice.percent(4) { "s390x-linux" } else { system },
        nar_hash: nar_hash(nar).to_string(),
        builder: &format!("{}b{builder}", if dice.percent(6) { "was-" } else { "" }),
    }
    .payload();
    let at =
        if dice.percent(10) { BEGIN - 1_500 } else { BEGIN + 100 * i64::try_from(dice.below(9)).unwrap() };
    let second_key = if dice.percent(10) { "-second" } else { "" };
    Backing { signer: format!("b{builder}{second_key}"), payload, times: vec![second(at)] }
}

fn case(dice: &mut Dice) -> Option<(Value, Verdict)> {
    let builders = 2 + dice.below(4);
    let required = 1 + dice.below(3);
    let optional = usize::from(dice.percent(30));
    let images = children(dice, required, optional);
    let signed = signed(dice, builders, &images);
    let unbound = dice.percent(30);
    let backings: Vec<Backing> =
        (0..if unbound { 1 + dice.below(2 * builders) } else { usize::from(dice.percent(3)) })
            .map(|_| backing(dice, builders, &images))
            .collect();
    let since = optional > 0 && dice.percent(50);
    let single = dice.percent(12);
    let more = if unbound { OTHER_TYPES[usize::from(dice.percent(40))] } else { "" };
    let (text, keys) = policy(dice, builders, (required, optional, since, single), more, &signed);
    let parsed = Policy::parse(&text, |path| {
        keys.get(path).map(|name| key(name).to_pem().into_bytes()).ok_or("no such key".into())
    })
    .ok()?;

    let repository = if dice.percent(2) { MIRROR } else { REPOSITORY };
    let entries: Vec<Value> = images.iter().map(|image| image.entry.clone()).collect();
    let mut bytes = index(&entries);
    let mut stated = media_type::INDEX;
    if single && dice.percent(70) {
        (bytes, stated) = (images[0].pushed.manifest.clone(), media_type::MANIFEST);
    }
    match dice.below(60) {
        0 => stated = media_type::MANIFEST,
        1 => bytes = altered(&bytes, "{", "{\"more\":1,"),
        2 => bytes = altered(&bytes, "\"schemaVersion\":2", "\"schemaVersion\":1"),
        3 => bytes = altered(&bytes, "\"schemaVersion\":2", "\"schemaVersion\":2,\"schemaVersion\":2"),
        4 => bytes = altered(&bytes, "{", "{\"annotations\":{\"any\":\"thing\"},"),
        _ => {}
    }
    let mut candidate = Candidate::read(repository.parse().unwrap(), stated, bytes.clone());
    let (mut manifests, mut configs) = (serde_json::Map::new(), serde_json::Map::new());
    for descriptor in candidate.manifests().to_vec() {
        let Some(image) = images.iter().find(|image| image.pushed.digest() == descriptor.digest) else {
            continue;
        };
        let manifest = (!image.manifest_absent).then(|| image.pushed.manifest.clone());
        if let Some(bytes) = &manifest {
            manifests.insert(descriptor.digest.to_string(), text_of(bytes).into());
        }
        if candidate.add_manifest(&descriptor, manifest).is_some() {
            let config = (!image.config_absent).then_some(&image.pushed.config[..]);
            candidate.add_config(&descriptor, config);
            if let Some(bytes) = config {
                configs.insert(image.pushed.config_digest().to_string(), text_of(bytes).into());
            }
        }
    }

    let rejections: Vec<(Option<String>, Rejection)> = (0..if dice.percent(20) { 2 } else { 0 })
        .map(|_| {
            let about = &images[dice.below(images.len())];
            rejection(dice.percent(80).then(|| format!("b{}", dice.below(builders))), about.pushed.digest())
        })
        .collect();
    let expected = expected(dice);
    let evidence = Evidence {
        attestations: signed
            .iter()
            .map(|s| {
                Attestation::unproven(s.statement.clone(), key(&s.signer).into(), s.times.clone(), s.bundle)
            })
            .collect(),
        provenances: backings.iter().map(Backing::attestation).collect(),
        rejections: rejections.iter().map(|(_, rejection)| rejection.clone()).collect(),
    };
    let verdict = decide(&parsed, &candidate, &evidence, second(NOW), &expected.0);
    let case = json!({
        "policy": text,
        "keys": keys,
        "repository": repository,
        "image": { "mediaType": stated, "bytes": text_of(&bytes) },
        "manifests": manifests,
        "configs": configs,
        "statements": signed.iter().map(|s| json!({
            "signer": s.signer,
            "payload": text_of(&s.statement.to_payload().unwrap()),
            "times": s.times.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "bundle": s.bundle,
        })).chain(backings.iter().map(|b| json!({
            "signer": b.signer,
            "payload": b.payload,
            "times": b.times.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "bundle": b.bundle(),
        }))).collect::<Vec<_>>(),
        "rejected": rejections.iter().map(|(signer, rejection)| json!({
            "signer": signer, "manifest": rejection.manifest,
        })).collect::<Vec<_>>(),
        "now": second(NOW).to_string(),
        "expect": expected.1,
        "verdict": told(&verdict),
    });
    Some((case, verdict))
}

/// A child of the index.
struct Child {
    system: System,
    pushed: Pushed,
    entry: Value,
    manifest_absent: bool,
    config_absent: bool,
}

fn children(dice: &mut Dice, required: usize, optional: usize) -> Vec<Child> {
    let mut children = Vec::new();
    for (at, stated) in PLATFORMS.iter().enumerate() {
        let there = match at {
            at if at < required => 98,
            at if at < required + optional => 50,
            _ => 1,
        };
        if !dice.percent(there) {
            continue;
        }
        let says = if dice.percent(2) { dice.one(&PLATFORMS) } else { *stated };
        let pushed = Pushed::new(&format!("app-{at}"), 1, says);
        let kind = if dice.percent(1) { media_type::INDEX } else { media_type::MANIFEST };
        let mut entry = descriptor(kind, &pushed.manifest);
        if !dice.percent(1) {
            entry["platform"] = platform(if dice.percent(10) { arm(stated) } else { stated });
        }
        children.push(Child {
            system: System::for_platform(&stated.parse::<Platform>().unwrap()).unwrap(),
            pushed,
            entry,
            manifest_absent: dice.percent(1),
            config_absent: dice.percent(1),
        });
        if dice.percent(1) {
            let pushed = Pushed::new(&format!("app-{at}"), 2, stated);
            let mut entry = descriptor(media_type::MANIFEST, &pushed.manifest);
            entry["platform"] = platform(stated);
            let system = System::for_platform(&stated.parse::<Platform>().unwrap()).unwrap();
            let (manifest_absent, config_absent) = (false, false);
            children.push(Child { system, pushed, entry, manifest_absent, config_absent });
        }
    }
    if children.is_empty() { self::children(dice, required, optional) } else { children }
}

/// The same platform, written in another way.
fn arm(stated: &str) -> &str {
    match stated {
        "linux/arm64" => "linux/arm64/v8",
        "linux/amd64" => "linux/amd64/v1",
        "linux/arm/v7" => "linux/arm",
        other => other,
    }
}

/// Mostly honest builders that agree, and a few that do not.
fn signed(dice: &mut Dice, builders: usize, images: &[Child]) -> Vec<Signed> {
    let mut signed = Vec::new();
    let groups = 1 + usize::from(dice.percent(25));
    let careful = dice.percent(50);
    for group in 0..groups {
        for builder in 0..builders {
            for image in images {
                if dice.percent(80) {
                    signed.push(one(dice, builder, image, group, careful));
                }
            }
        }
    }
    for _ in 0..dice.below(if careful { 1 } else { 3 }) {
        let (builder, image) = (dice.below(builders + 1), &images[dice.below(images.len())]);
        let group = dice.below(2);
        signed.push(one(dice, builder, image, group, false));
    }
    if !signed.is_empty() && dice.percent(12) {
        signed.push(again(dice, &signed));
    }
    signed
}

/// A builder that says of the same build something else, or the same once more.
fn again(dice: &mut Dice, signed: &[Signed]) -> Signed {
    let first = &signed[dice.below(signed.len())];
    let mut statement = first.statement.clone();
    if dice.percent(80) {
        statement.build.content.nar_hash = nar_hash("yet another");
    }
    let bundle = Digest::of(format!("again {}", first.bundle).as_bytes());
    Signed { signer: first.signer.clone(), statement, times: first.times.clone(), bundle }
}

fn one(dice: &mut Dice, builder: usize, image: &Child, group: usize, careful: bool) -> Signed {
    let mut odd = |likely| !careful && dice.percent(likely);
    let content = Content {
        nar_hash: nar_hash(if odd(3) { "other" } else { image.system.as_str() }),
        config_digest: if odd(3) { Digest::of(b"other") } else { image.pushed.config_digest() },
    };
    let other_manifest = odd(3);
    let manifest = if other_manifest { Digest::of(b"another push") } else { image.pushed.digest() };
    let dissent = odd(3);
    let system = if odd(2) { "s390x-linux".parse().unwrap() } else { image.system };
    let (key_of_two, own_id, own_name, later) = (odd(10), !odd(3), !odd(3), odd(10));
    let (source, git_ref, target, built_at) = (!odd(5), !odd(5), !odd(5), !odd(20));
    let (ahead, second_time, future, before) = (odd(2), odd(8), odd(2), odd(10));
    let sequence = match (group, ahead) {
        (_, true) => u64::try_from(NOW + 700).unwrap(),
        (group, _) => 5 + group as u64,
    };
    let at = match (future, before) {
        (true, _) => NOW + 30 + 60 * i64::try_from(dice.below(2)).unwrap(),
        (_, true) => BEGIN - 1_000 - i64::try_from(dice.below(2_000)).unwrap(),
        _ => BEGIN + 100 * i64::try_from(dice.below(9)).unwrap(),
    };
    let mut times = vec![second(at)];
    if second_time {
        times.push(second(at + 3_000 * i64::try_from(dice.below(3)).unwrap()));
        times.sort();
    }
    let (claim, subject) = if dissent {
        (Claim::Dissent { disputes: manifest }, content.config_digest)
    } else {
        (Claim::Build, manifest)
    };
    let named = |there: bool, prefix: &str, other: usize| {
        there.then(|| if other == 0 { format!("{prefix}1") } else { format!("{prefix}0") })
    };
    let remarked = [(); 4].map(|()| careful || dice.percent(80));
    let which = [(); 3].map(|()| if careful { 1 } else { dice.below(15) });
    let statement = Statement {
        name: if own_name { REPOSITORY } else { MIRROR }.parse().unwrap(),
        subject,
        claim,
        build: Build {
            commit: commit(if group == 0 || dice.percent(20) { 'a' } else { 'b' }),
            system,
            content,
            builder: if own_id { format!("b{builder}") } else { format!("was-b{builder}") },
            sequence,
            source_uri: named(source, "git+https://git.example/s", which[0]),
            git_ref: named(git_ref, "refs/heads/r", which[1]),
            target: named(target, "t", which[2]),
            remarks: Remarks {
                built_at: built_at.then(|| second(at - 5)),
                flake_lock_hash: remarked[0].then(|| "sha256:0".to_owned()),
                closure_manifest: remarked[1].then(|| "sha256:1".to_owned()),
                substituters: remarked[2].then(Vec::new),
                invocation: remarked[3].then(|| "run".to_owned()),
            },
        },
    };
    let signer = format!("b{builder}{}", if key_of_two { "-second" } else { "" });
    let bundle = Digest::of(
        format!("{signer} {later} {times:?} {}", text_of(&statement.to_payload().unwrap())).as_bytes(),
    );
    Signed { signer, statement, times, bundle }
}

/// In what votes may have to differ.
const DISTINCT_BY: [&str; 4] = [
    "distinct_by = \"jurisdiction\"",
    "distinct_by = [\"infrastructure\"]",
    "distinct_by = [\"jurisdiction\", \"infrastructure\"]",
    "distinct_by = [\"operator\", \"infrastructure\", \"issuer\", \"jurisdiction\"]",
];

/// What a vote may have to state.
const REQUIRED_FIELDS: [&str; 5] = [
    "required_fields = [\"builtAt\", \"ref\"]",
    "required_fields = [\"flakeLockHash\"]",
    "required_fields = [\"closureManifest\"]",
    "required_fields = [\"substituters\", \"sourceUri\"]",
    "required_fields = [\"invocation\", \"target\"]",
];

/// A policy with a few of the fields there are, and whose key each of its files holds.
fn policy(
    dice: &mut Dice,
    builders: usize,
    (required, optional, since, single): (usize, usize, bool, bool),
    more: &str,
    signed: &[Signed],
) -> (String, BTreeMap<String, String>) {
    let plain = dice.percent(35);
    let (from, fields) = (5 + dice.below(3), dice.below(REQUIRED_FIELDS.len()));
    let distinct = dice.below(DISTINCT_BY.len());
    let mut now_and_then = |likely| !plain && dice.percent(likely);
    let mut text = format!(
        "version = 1\n[[image]]\nrepository = \"{}\"\nplatforms = {:?}\n",
        if now_and_then(10) { "ghcr.io/acme/*" } else { REPOSITORY },
        &PLATFORMS[..required]
    );
    let further = &PLATFORMS[required..required + optional];
    if since {
        let since: Vec<String> = further.iter().map(|platform| format!("{platform:?} = {from}")).collect();
        let _ = writeln!(text, "since = {{ {} }}", since.join(", "));
    } else if optional > 0 {
        let _ = writeln!(text, "optional = {further:?}");
    }
    if single {
        text.push_str("single = true\n");
    }
    text.push_str(more);
    let environments = now_and_then(15);
    for (likely, line) in [
        (12, DISTINCT_BY[distinct]),
        (12, "hear_all = true"),
        (15, "sources = [\"git+https://git.example/s0\"]"),
        (10, "targets = [\"t0\", \"t2\"]"),
        (10, "refs = [\"refs/heads/r0\"]"),
        (10, REQUIRED_FIELDS[fields]),
        (10, "max_age = \"86000s\""),
        (10, "verify_max_age = \"1d\""),
        (10, "epoch = 2026-01-01T00:00:00Z"),
        (10, "min_sequence = 6"),
    ] {
        if now_and_then(likely) {
            let _ = writeln!(text, "{line}");
        }
    }
    if !text.contains("/*") && now_and_then(15) {
        let _ = writeln!(text, "names = [{REPOSITORY:?}, {MIRROR:?}]");
    }
    if environments {
        let _ = writeln!(
            text,
            "environments = {{ staging = {}, production = {} }}",
            1 + dice.below(2),
            1 + dice.below(3)
        );
        if dice.percent(30) {
            text.push_str("verify = \"staging\"\n");
        }
        text.push_str("[[image.tag]]\nname = \"edge\"\nrule = \"forward\"\nenvironment = \"staging\"\n");
        text.push_str("[[image.tag]]\nname = \"v*\"\nrule = \"immutable\"\n");
    } else {
        let _ = writeln!(text, "quorum = {}", 1 + dice.below(3));
    }
    let mut keys = BTreeMap::new();
    for builder in 0..builders {
        let _ = writeln!(
            text,
            "[[builder]]\nname = \"b{builder}\"\noperator = \"o{}\"\njurisdiction = \"j{}\"\ninfrastructure = \"i{}\"",
            if dice.percent(80) { builder } else { 0 },
            if dice.percent(70) { builder } else { 0 },
            if dice.percent(70) { builder } else { 0 },
        );
        let mut now_and_then = |likely| !plain && dice.percent(likely);
        let first = format!("keys/b{builder}.pub");
        let second = format!("keys/b{builder}-second.pub");
        keys.insert(first.clone(), format!("b{builder}"));
        if now_and_then(25) {
            keys.insert(second.clone(), format!("b{builder}-second"));
            let (until, from) = (now_and_then(40), now_and_then(40));
            let until = if until { ", until = 2026-01-01T00:05:00Z" } else { "" };
            let from = if from { ", from = 2025-12-31T23:30:00Z" } else { "" };
            let lost = if now_and_then(20) { ", revoked = \"compromised\"" } else { "" };
            let _ =
                writeln!(text, "keys = [{{ key = {first:?}{until} }}, {{ key = {second:?}{from}{lost} }}]");
        } else {
            let _ = writeln!(text, "key = {first:?}");
        }
        if now_and_then(8) {
            let lost = ["\"compromised\"", "{ from = 2026-01-01T00:06:00Z }"];
            let _ = writeln!(text, "revoked = {}", lost[usize::from(now_and_then(70))]);
        }
        if now_and_then(8) {
            text.push_str("systems = [\"x86_64-linux\", \"aarch64-linux\"]\n");
        }
        if now_and_then(15) {
            let _ = writeln!(text, "ids = [\"was-b{builder}\"]");
        }
    }
    if !plain && !signed.is_empty() && dice.percent(25) {
        let odd =
            signed.iter().filter(|s| matches!(s.statement.claim, Claim::Dissent { .. })).collect::<Vec<_>>();
        let waived =
            if odd.is_empty() { &signed[dice.below(signed.len())] } else { odd[dice.below(odd.len())] };
        let payload = Digest::of(&waived.statement.to_payload().unwrap());
        let until = dice.one(&["2026-01-01T12:00:00Z", "2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z"]);
        let _ =
            write!(text, "[[waive]]\nstatement = \"{payload}\"\nreason = \"looked at\"\nuntil = {until}\n");
    }
    (text, keys)
}

fn rejection(signer: Option<String>, manifest: Digest) -> (Option<String>, Rejection) {
    let reason = Reason::LogProof;
    let rejection = Rejection {
        bundle: Digest::of(format!("{signer:?} {manifest}").as_bytes()),
        reason,
        detail: reason.text().to_owned(),
        signer: signer.as_deref().map(|name| key(name).into()),
        manifest: Some(manifest),
    };
    (signer, rejection)
}

fn expected(dice: &mut Dice) -> (Expected, Value) {
    let commit = match dice.below(8) {
        0 => Some(commit('a')),
        1 => Some(commit('b')),
        _ => None,
    };
    let quorum = dice.percent(10).then(|| 1 + u32::try_from(dice.below(3)).unwrap());
    let tags: Vec<&str> = match dice.below(4) {
        0 => vec!["v1"],
        1 => vec!["edge"],
        2 => vec!["v1", "edge"],
        _ => vec![],
    };
    let json = json!({
        "commit": commit.as_ref().map(ToString::to_string),
        "quorum": quorum,
        "purpose": if tags.is_empty() { "verify" } else { "promote" },
        "tags": tags,
    });
    let purpose = match &tags[..] {
        [] => Purpose::Verify,
        tags => Purpose::Promote(tags.iter().map(|tag| tag.parse().unwrap()).collect()),
    };
    (
        Expected { commit, quorum: quorum.and_then(|n| n.try_into().ok()), purpose, ..Expected::default() },
        json,
    )
}

fn told(verdict: &Verdict) -> Value {
    let rows = verdict.platforms.iter().map(|row| {
        let cells: serde_json::Map<_, _> =
            row.cells.iter().map(|cell| (cell.builder.clone(), cell.status.as_str().into())).collect();
        (row.platform.to_string(), json!({ "have": row.have, "need": row.need, "cells": cells }))
    });
    json!({
        "verdict": verdict.outcome.as_str(),
        "group": verdict.group.as_ref().map(|group| json!({
            "commit": group.commit.to_string(), "sequence": group.sequence,
        })),
        "platforms": rows.collect::<serde_json::Map<_, _>>(),
    })
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn altered(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    text_of(bytes).replacen(from, to, 1).into_bytes()
}
