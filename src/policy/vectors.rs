//! Runs the cases of `tests/vectors`: a folder a case, a table of what must come out.
//!
//! Besides its own outcome, every case must give one verdict whatever the order of evidence,
//! however often it is repeated, and whatever strangers add to it.

use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;

use super::{Candidate, Evidence, Expected, Policy, Purpose, Verdict, decide};
use crate::attestation::{
    Attestation, Build, Commit, Content, Provenance, PublicKey, Rejection, Remarks, Statement,
};
use crate::nix::NarHash;
use crate::oci::{Digest, System, media_type};
use crate::reason::Reason;
pub(super) use case::Foreign;
use case::{Absent, Case, Claim, Expect, Kind};

#[path = "../../tests/vectors/case.rs"]
mod case;

/// Fewer folders than this, and some were lost.
const AT_LEAST: usize = 200;

#[test]
fn every_case_comes_out_as_its_file_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut folders: Vec<_> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    let mut failures = String::new();
    for folder in &folders {
        if let Err(why) = run(folder) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let _ = writeln!(failures, "\n--- {name}\n{}", why.trim_end());
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(folders.len() >= AT_LEAST, "only {} folders in {}", folders.len(), root.display());
}

fn run(folder: &Path) -> Result<(), String> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).map_err(|e| format!("{name}: {e}"));
    let case: Case = toml::from_str(&read("case.toml")?).map_err(|e| e.to_string())?;
    if case.why.trim().is_empty() {
        return Err("`why` is empty".to_owned());
    }
    // `sha256:statement-N` in a policy is the SHA-256 of the case's statement N, from 0.
    let mut text = read(&case.policy)?;
    for (number, statement) in case.statement.iter().enumerate() {
        let payload = match statement.kind {
            Some(kind) => backing(&case, statement, kind).payload(),
            None => attestation(&case, statement).payload(),
        };
        let payload = payload.to_string();
        text = text.replace(&format!("sha256:statement-{number}"), &payload);
    }
    let policy = Policy::parse(&text, |path| {
        let nickname = path.strip_suffix(".pub").ok_or("a key is written NICKNAME.pub")?;
        Ok(key(nickname).to_pem().into_bytes())
    })
    .map_err(|e| format!("{}: {e}", case.policy))?;
    let candidate = candidate(&case);
    let evidence = evidence(&case);
    let expected = Expected {
        commit: case.expect_commit.map(commit),
        quorum: case.quorum.map(|n| n.try_into().expect("`quorum` is at least 1")),
        purpose: match (case.purpose, &case.tags) {
            (case::Purpose::Verify, _) => Purpose::Verify,
            (case::Purpose::Promote, tags) => {
                Purpose::Promote(tags.iter().map(|tag| tag.parse().expect("a tag")).collect())
            }
            (case::Purpose::Leave, tags) => {
                Purpose::Leave(tags.first().map_or("latest", String::as_str).parse().expect("a tag"))
            }
        },
        platforms: case.platforms.iter().map(|platform| platform.parse().expect("a platform")).collect(),
        ..Expected::default()
    };
    let now: Timestamp = case.now.parse().expect("`now` is a time");
    let judge = |evidence: &Evidence| decide(&policy, &candidate, evidence, now, &expected);

    let verdict = judge(&evidence);
    let (want, got) = (wanted(&case.expect), told(&verdict) + &permitted(&case, &verdict));
    if want != got {
        return Err(format!("{}\nexpected:\n{want}got:\n{got}", case.why));
    }
    for (what, other) in orders(&evidence) {
        same(&format!("with the evidence {what}"), &verdict, &judge(&other))?;
    }
    let twice = Evidence {
        attestations: [&evidence.attestations[..], &evidence.attestations[..]].concat(),
        provenances: [&evidence.provenances[..], &evidence.provenances[..]].concat(),
        rejections: [&evidence.rejections[..], &evidence.rejections[..]].concat(),
    };
    same("with all evidence twice", &verdict, &judge(&twice))?;
    let mut strangers = evidence.clone();
    strangers.attestations.extend(evidence.attestations.iter().map(by_a_stranger));
    strangers.provenances.extend(case.statement.iter().filter_map(|statement| {
        let kind = statement.kind?;
        Some(backing(
            &case,
            &case::Statement { signer: "nobody at all".to_owned(), ..statement.clone() },
            kind,
        ))
    }));
    let told = told(&judge(&strangers));
    let matrix = |text: &str| {
        text.lines()
            .filter(|l| !l.starts_with("ignored") && !l.starts_with("permits"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    if matrix(&told) != matrix(&got) {
        return Err(format!("a stranger who repeats all statements changes it to:\n{told}from:\n{got}"));
    }
    Ok(())
}

/// Equal in every field, words and contents included.
fn same(when: &str, one: &Verdict, other: &Verdict) -> Result<(), String> {
    let (one, other) = (format!("{one:#?}"), format!("{other:#?}"));
    if one == other {
        return Ok(());
    }
    let differing: Vec<String> = one
        .lines()
        .zip(other.lines())
        .filter(|(a, b)| a != b)
        .map(|(a, b)| format!("  {} -> {}", a.trim(), b.trim()))
        .collect();
    Err(format!("{when} the verdict is another:\n{}", differing.join("\n")))
}

/// The evidence turned round, and each rotation of it.
fn orders(evidence: &Evidence) -> Vec<(String, Evidence)> {
    let mut orders = Vec::new();
    let mut reversed = evidence.clone();
    reversed.attestations.reverse();
    reversed.provenances.reverse();
    reversed.rejections.reverse();
    orders.push(("reversed".to_owned(), reversed));
    let most = evidence.attestations.len().max(evidence.rejections.len()).max(evidence.provenances.len());
    for by in 1..most {
        let mut rotated = evidence.clone();
        rotated.provenances.rotate_left(by % evidence.provenances.len().max(1));
        rotated.attestations.rotate_left(by % evidence.attestations.len().max(1));
        rotated.rejections.rotate_left(by % evidence.rejections.len().max(1));
        orders.push((format!("rotated by {by}"), rotated));
    }
    orders
}

/// The same statement under a key that no policy has.
fn by_a_stranger(attestation: &Attestation) -> Attestation {
    let bundle = Digest::of(format!("a stranger's {}", attestation.bundle()).as_bytes());
    Attestation::unproven(
        attestation.statement().clone(),
        key("nobody at all").into(),
        attestation.times().to_vec(),
        bundle,
    )
}

/// What the file expects, as [`told`] tells what came out.
fn wanted(expect: &Expect) -> String {
    let mut text = format!("verdict {}\n", expect.verdict);
    list(&mut text, "refusals", expect.refusals.clone());
    if let (Some(letter), Some(sequence)) = (expect.commit, expect.sequence) {
        let _ = writeln!(text, "group {} {sequence}", commit(letter));
    }
    for (platform, row) in &expect.platform {
        let _ = writeln!(text, "{platform}: {}", row.votes);
        for (builder, cell) in &row.cells {
            let _ = writeln!(text, "  {builder}: {cell}");
        }
    }
    list(&mut text, "waived", expect.waived.clone());
    list(&mut text, "ignored", expect.ignored.clone());
    if let Some(tags) = &expect.permits {
        let _ = writeln!(text, "permits {}", tags.join(" "));
    }
    text
}

/// The tags that may move, where the case says which.
fn permitted(case: &Case, verdict: &Verdict) -> String {
    if case.expect.permits.is_none() {
        return String::new();
    }
    let approval = verdict.approval();
    let may =
        |tag: &&String| approval.is_some_and(|approval| approval.permits(&tag.parse().unwrap()).is_some());
    let tags: Vec<&str> = case.tags.iter().filter(may).map(String::as_str).collect();
    format!("permits {}\n", tags.join(" "))
}

fn told(verdict: &Verdict) -> String {
    let mut text = format!("verdict {}\n", verdict.outcome.as_str());
    list(&mut text, "refusals", verdict.refusals.iter().map(|r| r.reason.to_string()).collect());
    if let Some(group) = &verdict.group {
        let _ = writeln!(text, "group {} {}", group.commit, group.sequence);
    }
    let mut rows: Vec<_> = verdict.platforms.iter().collect();
    rows.sort_by_key(|row| row.platform.to_string());
    for row in rows {
        let _ = writeln!(text, "{}: {} of {}", row.platform, row.have, row.need);
        let mut cells: Vec<_> = row
            .cells
            .iter()
            .map(|cell| {
                let reason = cell.reason.map(|reason| format!(" {reason}")).unwrap_or_default();
                format!("  {}: {}{reason}\n", cell.builder, cell.status.as_str())
            })
            .collect();
        cells.sort();
        text.extend(cells);
    }
    list(&mut text, "waived", verdict.waived.iter().map(|waived| waived.builder.clone()).collect());
    list(&mut text, "ignored", verdict.ignored.iter().map(|i| i.reason.to_string()).collect());
    text
}

fn list(text: &mut String, name: &str, mut codes: Vec<String>) {
    if !codes.is_empty() {
        codes.sort();
        let _ = writeln!(text, "{name} {}", codes.join(" "));
    }
}

/// A key for a nickname: well-formed, of nobody, always the same.
pub(super) fn key(nickname: &str) -> PublicKey {
    PublicKey::from_ed25519(Digest::of(nickname.as_bytes()).as_bytes()).unwrap()
}

/// A commit of one digit.
pub(super) fn commit(digit: char) -> Commit {
    digit.to_string().repeat(40).parse().unwrap()
}

/// A narHash with a made-up name.
pub(super) fn nar_hash(name: &str) -> NarHash {
    NarHash::from_bytes(*Digest::of(format!("narHash {name}").as_bytes()).as_bytes())
}

/// The bytes of an image: its configuration, and the manifest that one push of it made.
pub(super) struct Pushed {
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
}

impl Pushed {
    /// The image `name`, whose configuration states `platform` (`os/architecture[/variant]`).
    pub(super) fn new(name: &str, push: u32, platform: &str) -> Self {
        let mut parts = platform.splitn(3, '/');
        let (os, architecture, variant) = (parts.next(), parts.next(), parts.next());
        let mut config = serde_json::json!({
            "architecture": architecture,
            "os": os,
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(name.as_bytes())] },
        });
        if let Some(variant) = variant {
            config["variant"] = variant.into();
        }
        let config = serde_json::to_vec(&config).unwrap();
        let layer = format!("push {push} of {name}");
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "config": descriptor(media_type::CONFIG, &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer.as_bytes())],
        });
        Self { config, manifest: serde_json::to_vec(&manifest).unwrap() }
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    pub(super) fn config_digest(&self) -> Digest {
        Digest::of(&self.config)
    }
}

/// A descriptor as JSON.
pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() })
}

/// The index of some children: JSON of each, the image, and the platform as the index has it.
pub(super) fn index(children: &[serde_json::Value]) -> Vec<u8> {
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::INDEX,
        "manifests": children,
    });
    serde_json::to_vec(&index).unwrap()
}

/// `platform` as a descriptor has it.
pub(super) fn platform(text: &str) -> serde_json::Value {
    let mut parts = text.splitn(3, '/');
    let mut platform = serde_json::json!({ "os": parts.next(), "architecture": parts.next() });
    if let Some(variant) = parts.next() {
        platform["variant"] = variant.into();
    }
    platform
}

fn pushed(case: &Case, image: &str, push: u32, system: &str) -> Pushed {
    let child = case.child.iter().find(|child| child.image == image);
    let platform = match child.and_then(|c| c.config_platform.as_ref().or(c.platform.as_ref())) {
        Some(platform) => platform.clone(),
        // An image that the index does not have is one of the statement's system.
        None => system.parse::<System>().unwrap().platform().to_string(),
    };
    Pushed::new(image, push, &platform)
}

fn candidate(case: &Case) -> Candidate {
    const ANY: &str = "x86_64-linux";
    let mut entries = Vec::new();
    let mut contents = Vec::new();
    for child in &case.child {
        let pushed = pushed(case, &child.image, child.push, ANY);
        let media_type = child.media_type.as_deref().unwrap_or(media_type::MANIFEST);
        let mut entry = descriptor(media_type, &pushed.manifest);
        if let Some(text) = &child.platform {
            entry["platform"] = platform(text);
        }
        entries.push(entry);
        contents.push((child, pushed));
    }
    let bytes = match (&case.bytes, contents.first()) {
        (Some(bytes), _) => bytes.clone().into_bytes(),
        (None, Some((_, one))) if media_type::is_manifest(&case.media_type) => one.manifest.clone(),
        (None, _) => index(&entries),
    };
    let mut candidate = Candidate::read(case.repository.parse().unwrap(), &case.media_type, bytes);
    for descriptor in candidate.manifests().to_vec() {
        let Some((child, pushed)) = contents.iter().find(|(_, p)| p.digest() == descriptor.digest) else {
            continue;
        };
        let manifest = (child.absent != Some(Absent::Manifest)).then(|| pushed.manifest.clone());
        if candidate.add_manifest(&descriptor, manifest).is_some() {
            let config = (child.absent != Some(Absent::Config)).then_some(&pushed.config[..]);
            candidate.add_config(&descriptor, config);
        }
    }
    candidate
}

fn evidence(case: &Case) -> Evidence {
    let ours = case.statement.iter().filter(|statement| statement.kind.is_none());
    let attestations = ours.map(|statement| attestation(case, statement)).collect();
    let provenances =
        case.statement.iter().filter_map(|said| Some(backing(case, said, said.kind?))).collect();
    let rejections = case
        .rejected
        .iter()
        .map(|rejected| {
            let reason = Reason::ALL.iter().find(|reason| reason.code() == rejected.reason);
            let reason = *reason.expect("`reason` is a reason code");
            let image = rejected.image.as_ref();
            Rejection {
                bundle: Digest::of(format!("{rejected:?}").as_bytes()),
                reason,
                detail: reason.text().to_owned(),
                signer: rejected.signer.as_deref().map(|signer| key(signer).into()),
                manifest: image.map(|image| pushed(case, image, 1, "x86_64-linux").digest()),
            }
        })
        .collect();
    Evidence { attestations, provenances, rejections }
}

fn backing(case: &Case, said: &case::Statement, kind: Kind) -> Attestation<Provenance> {
    let about = pushed(case, &said.image, said.push, &said.system);
    let foreign = Foreign {
        kind: kind.as_str(),
        name: said.name.as_ref().unwrap_or(&case.repository),
        manifest: about.digest().hex(),
        commit: commit(said.commit).to_string(),
        source: said.source.as_deref().unwrap_or("https://git.example/app"),
        git_ref: said.git_ref.as_deref().unwrap_or("refs/heads/main"),
        system: &said.system,
        nar_hash: nar_hash(said.nar_hash.as_ref().unwrap_or(&said.image)).to_string(),
        builder: said.builder.as_ref().unwrap_or(&said.signer),
    };
    let bundle = Digest::of(format!("{said:?}").as_bytes());
    let times = std::iter::once(&said.signed_at).chain(&said.and_at);
    let times = times.map(|time| time.parse().expect("`signed_at` and `and_at` are times")).collect();
    Attestation::unproven_provenance(foreign.payload().as_bytes(), key(&said.signer).into(), times, bundle)
}

fn attestation(case: &Case, said: &case::Statement) -> Attestation {
    let about = pushed(case, &said.image, said.push, &said.system);
    let built = said.built.as_ref().unwrap_or(&said.image);
    let config_digest = match &said.config {
        Some(name) => Digest::of(format!("configuration {name}").as_bytes()),
        None => pushed(case, built, 1, &said.system).config_digest(),
    };
    let content = Content { nar_hash: nar_hash(said.nar_hash.as_ref().unwrap_or(built)), config_digest };
    let (claim, subject) = match said.claim {
        Claim::Build => (crate::attestation::Claim::Build, about.digest()),
        Claim::Dissent => (crate::attestation::Claim::Dissent { disputes: about.digest() }, config_digest),
    };
    let statement = Statement {
        name: said.name.as_ref().unwrap_or(&case.repository).parse().unwrap(),
        subject,
        claim,
        build: Build {
            commit: commit(said.commit),
            system: said.system.parse().unwrap(),
            content,
            builder: said.builder.as_ref().unwrap_or(&said.signer).clone(),
            sequence: said.sequence,
            source_uri: said.source.clone(),
            git_ref: said.git_ref.clone(),
            target: said.target.clone(),
            remarks: Remarks {
                built_at: said.says("builtAt").map(|_| said.signed_at.parse().unwrap()),
                flake_lock_hash: said.says("flakeLockHash"),
                closure_manifest: said.says("closureManifest"),
                substituters: said.says("substituters").map(|cache| vec![cache]),
                invocation: said.says("invocation"),
            },
        },
    };
    let bundle = Digest::of(format!("{said:?}").as_bytes());
    let times = std::iter::once(&said.signed_at).chain(&said.and_at);
    let times = times.map(|time| time.parse().expect("`signed_at` and `and_at` are times")).collect();
    Attestation::unproven(statement, key(&said.signer).into(), times, bundle)
}
