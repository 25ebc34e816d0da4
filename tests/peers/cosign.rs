//! cosign, with a Rekor and a timestamp authority of the Sigstore project: it takes what `attest`
//! made, its attestations are votes, and what it refuses is refused.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libtest_mimic::Trial;
use quorate_bed::{client, image, trusted_root};
use serde_json::{Value, json};

use crate::assemblers::{REGISTRIES, assemble, pushed};
use crate::bundles::{other_commit, unsigned};
use crate::peers::{Peer, Peers};
use crate::project::{ARCHITECTURES, Build, COMMIT, Project, REPOSITORY, SEQUENCE, said, succeed};
use crate::registries::Registry;
use crate::services::{Services, cosign_in};

pub(crate) const BUILD: &str = "https://quorate.dev/predicates/build/v1";
const DISSENT: &str = "https://quorate.dev/predicates/dissent/v1";
const SUMMARY: &str = "https://slsa.dev/verification_summary/v1";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let services = [Peer::RekorServer, Peer::TimestampServer, Peer::Cosign];
    let [rekor, tsa, cosign] = services;
    let mut trials = Vec::new();
    for (registry, start) in REGISTRIES {
        let needs = [registry, rekor, tsa, cosign];
        let on = registry.name();
        trials.push(peers.trial(
            &format!("attestations_hold_for::cosign_on_{on}"),
            needs,
            move |[registry, rekor, tsa, cosign]| {
                attestations_hold(&start(registry), &Services::start(rekor, tsa, cosign), cosign);
            },
        ));
        trials.push(peers.trial(
            &format!("attestations_are_votes_of::cosign_on_{on}"),
            needs,
            move |[registry, rekor, tsa, cosign]| {
                attestations_are_votes(&start(registry), &Services::start(rekor, tsa, cosign), cosign);
            },
        ));
        trials.push(peers.trial(
            &format!("a_record_of_a_promotion_holds_for::cosign_on_{on}"),
            needs,
            move |[registry, rekor, tsa, cosign]| {
                record_holds(&start(registry), &Services::start(rekor, tsa, cosign), cosign);
            },
        ));
    }
    trials.push(peers.trial(
        "what_cosign_refuses_is_refused",
        [Peer::Olareg, rekor, tsa, cosign],
        |[registry, rekor, tsa, cosign]| {
            let registry = Registry::olareg(registry);
            bundles_are_judged(&registry, &Services::start(rekor, tsa, cosign), cosign);
        },
    ));
    for (registry, start) in REGISTRIES {
        trials.push(peers.trial(
            &format!("a_log_that_is_not_trusted_is_refused_as_by::cosign_on_{}", registry.name()),
            [registry, rekor, tsa, cosign],
            move |[registry, rekor, tsa, cosign]| {
                logs_are_judged(&start(registry), &Services::start(rekor, tsa, cosign), cosign);
            },
        ));
    }
    trials
}

/// A run of `cosign verify-attestation` on a manifest.
pub(crate) fn verify(
    cosign: &Path,
    project: &Project,
    root: &Path,
    key: &str,
    kind: &str,
    image: &str,
) -> Command {
    let mut command = cosign_in(cosign, &project.path(""));
    command.args(["verify-attestation", "--allow-http-registry", "--type", kind, "--key", key]);
    command.arg("--trusted-root").arg(root).arg(image);
    command
}

/// Every attestation that three builders made of two platforms holds, for its key and type and
/// under its trusted root; for no other.
fn attestations_hold(registry: &Registry, services: &Services, cosign: &Path) {
    let project = services.project(registry);
    let builds = pushed(&project, registry);
    assemble(&project, &project.candidate());
    let root = services.trusted_root();
    let builders = ["github", "garnix", "basement"];
    for (build, (_, system)) in builds.iter().zip(ARCHITECTURES) {
        let manifest = format!("{}@{}", project.image(), build.image.manifest_digest);
        let judged = |key: &str, kind: &str, root: &Path| {
            let key = format!("{key}.key.pub");
            verify(cosign, &project, root, &key, kind, &manifest).output().unwrap()
        };
        let nothing = judged("github", BUILD, &root);
        assert!(!nothing.status.success(), "nobody has attested yet: {}", said(&nothing));
        for builder in builders {
            project.attest(0, &project.candidate(), builder, system, build, &[]);
        }
        for builder in builders {
            let held = judged(builder, BUILD, &root);
            assert!(held.status.success(), "{builder}: {}", said(&held));
            let held = String::from_utf8(held.stdout).unwrap();
            let [envelope] = &held.lines().collect::<Vec<_>>()[..] else {
                panic!("one by {builder}: {held}")
            };
            let envelope: Value = serde_json::from_str(envelope).unwrap();
            let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
            let statement: Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(statement["predicate"]["builder"]["id"], builder);
            assert_eq!(statement["predicate"]["configDigest"], build.image.config_digest);
        }
        project.run(0, &["key", "generate", &format!("{system}.key")]);
        // The embedded log and authority.
        let strangers = project.path("trusted_root.json");
        for (key, kind, root, why) in [
            (system, BUILD, &root, "a key that signed nothing"),
            ("github", DISSENT, &root, "another type"),
            ("github", BUILD, &strangers, "another trusted root"),
        ] {
            let refused = judged(key, kind, root);
            assert!(!refused.status.success(), "{why}: {}", said(&refused));
        }
    }
    let tree = shown(cosign, &project, &builds[0]);
    assert_eq!(tree.matches(BUILD).count(), builders.len(), "{tree}");
}

/// What `cosign tree` shows of an image.
fn shown(cosign: &Path, project: &Project, build: &Build) -> String {
    let mut tree = cosign_in(cosign, &project.path(""));
    tree.args(["tree", "--allow-http-registry"]);
    tree.arg(format!("{}@{}", project.image(), build.image.manifest_digest));
    String::from_utf8(succeed(&mut tree)).unwrap()
}

/// What `cosign attest` signs, of our predicate, with a key of cosign, is a vote; the first vote
/// beside it makes the quorum.
fn attestations_are_votes(registry: &Registry, services: &Services, cosign: &Path) {
    let project = services.project(registry);
    let builds = pushed(&project, registry);
    let candidate = project.candidate();
    assemble(&project, &candidate);
    succeed(cosign_in(cosign, &project.path("")).arg("generate-key-pair"));
    // cosign keeps its private keys in a form of its own.
    fs::rename(project.path("cosign.pub"), project.path("garnix.key.pub")).unwrap();
    let promote = ["promote", &candidate, "--tag", "1.0.0"];
    for (build, (_, system)) in builds.iter().zip(ARCHITECTURES) {
        project.attest(0, &candidate, "github", system, build, &[]);
    }
    let refused = project.json(1, &promote);
    assert_eq!((&refused["verdict"], &refused["outcome"]), (&json!("short"), &json!("refused")));
    for (build, (_, system)) in builds.iter().zip(ARCHITECTURES) {
        let mut predicate = project.command(&["predicate", "--builder", "garnix", "--system", system]);
        predicate.args(["--commit", COMMIT, "--sequence", SEQUENCE, "--result"]).arg(&build.result);
        predicate.args(["--config-digest", &build.image.config_digest]);
        fs::write(project.path("predicate.json"), succeed(&mut predicate)).unwrap();
        let mut attest = cosign_in(cosign, &project.path(""));
        attest.args(["attest", "--yes", "--key", "cosign.key", "--predicate", "predicate.json"]);
        attest.args(["--type", BUILD, "--allow-http-registry", "--signing-config"]);
        attest.arg(services.signing_config()).arg("--trusted-root").arg(services.trusted_root());
        succeed(attest.arg(format!("{}@{}", project.image(), build.image.manifest_digest)));
    }
    let met = project.json(0, &promote);
    assert_eq!((&met["verdict"], &met["outcome"]), (&json!("met"), &json!("moved")));
    let verified =
        project.json(0, &["verify", &format!("{}:1.0.0", project.image()), "--expect-commit", COMMIT]);
    assert_eq!(verified["verdict"], "met");
    for row in verified["platforms"].as_array().unwrap() {
        let cells: Vec<_> = row["cells"].as_array().unwrap().iter().map(|cell| &cell["status"]).collect();
        assert_eq!(cells, ["counted", "counted", "missing"]);
    }
    assert_eq!(verified["ignored"], json!([]));
}

/// The record of a promotion holds for the gate's key, on the index and on nothing else; what a
/// builder signed does not hold as one.
fn record_holds(registry: &Registry, services: &Services, cosign: &Path) {
    let project = services.project(registry);
    let builds = pushed(&project, registry);
    let candidate = project.candidate();
    let index = assemble(&project, &candidate)["image"]["digest"].as_str().unwrap().to_owned();
    for (build, (_, system)) in builds.iter().zip(ARCHITECTURES) {
        for builder in ["github", "garnix"] {
            project.attest(0, &candidate, builder, system, build, &[]);
        }
    }
    project.run(0, &["key", "generate", "gate.key"]);
    let root = services.trusted_root();
    let judged = |key: &str, kind: &str, digest: &str| {
        let image = format!("{}@{digest}", project.image());
        verify(cosign, &project, &root, &format!("{key}.key.pub"), kind, &image).output().unwrap()
    };
    assert!(!judged("gate", SUMMARY, &index).status.success(), "nothing is promoted yet");
    let record = ["--record", "--key", "gate.key"];
    let promoted = project.json(0, &[&["promote", &candidate, "--tag", "1.0.0"][..], &record].concat());
    assert_eq!(promoted["record"]["action"], "attached");
    let held = judged("gate", SUMMARY, &index);
    assert!(held.status.success(), "{}", said(&held));
    let envelope: Value = serde_json::from_slice(&held.stdout).unwrap();
    let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(statement["predicate"]["verificationResult"], "PASSED");
    assert_eq!(statement["predicate"]["resourceUri"], format!("{}@{index}", project.image()));
    for (key, kind, digest, why) in [
        ("github", SUMMARY, &index, "the key of a builder"),
        ("gate", BUILD, &index, "another type"),
        ("gate", SUMMARY, &builds[0].image.manifest_digest, "an image of the release"),
    ] {
        let refused = judged(key, kind, digest);
        assert!(!refused.status.success(), "{why}: {}", said(&refused));
    }
}

/// A change of a bundle, given another one by the same builder.
type Change = fn(&mut Value, &Value);

const ENTRY: &str = "/verificationMaterial/tlogEntries/0";
const CHECKPOINT: &str = "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope";
const STAMPS: &str = "/verificationMaterial/timestampVerificationData";

/// What is done to a bundle, whether cosign takes it nevertheless, and what quorate says. cosign
/// makes the log entry anew from the envelope and the key, takes size and root from the checkpoint,
/// and asks for no timestamp of a key.
#[rustfmt::skip]
const JUDGED: [(&str, Change, bool, &str); 24] = [
    ("nothing", |_, _| {}, true, "holds"),
    ("another hint", |b, _| put(b, "/verificationMaterial/publicKey/hint", "other"), true, "holds"),
    ("another commit in the payload", |b, _| *b.pointer_mut("/dsseEnvelope/payload").unwrap() = other_commit(b), false, "signer-unknown"),
    ("another payload type", |b, _| put(b, "/dsseEnvelope/payloadType", "application/json"), false, "payload-type"),
    ("the signature of another bundle", |b, o| take(b, o, "/dsseEnvelope/signatures/0/sig"), false, "signer-unknown"),
    ("the signature twice", |b, _| twice(b, "/dsseEnvelope/signatures"), false, "bundle-content"),
    ("the envelope of another bundle", |b, o| take(b, o, "/dsseEnvelope"), false, "timestamp-invalid"),
    ("all of another bundle", |b, o| *b = o.clone(), false, "other-manifest"),
    ("the log entry of another bundle", |b, o| take(b, o, ENTRY), false, "log-entry"),
    ("the log entry twice", |b, _| twice(b, "/verificationMaterial/tlogEntries"), false, "holds"),
    ("no log entry", |b, _| remove(b, "/verificationMaterial", "tlogEntries"), false, "log-missing"),
    ("the entry's body of another bundle", |b, o| take(b, o, &format!("{ENTRY}/canonicalizedBody")), true, "log-proof"),
    ("another index in the log", |b, _| put(b, &format!("{ENTRY}/logIndex"), "4711"), false, "log-proof"),
    ("another log", |b, _| put(b, &format!("{ENTRY}/logId/keyId"), &STANDARD.encode([7; 32])), false, "log-unknown"),
    ("another version of the entry", |b, _| put(b, &format!("{ENTRY}/kindVersion/version"), "0.0.1"), true, "log-entry"),
    ("the proof of another bundle", |b, o| take(b, o, &format!("{ENTRY}/inclusionProof")), false, "log-proof"),
    ("no inclusion proof", |b, _| remove(b, ENTRY, "inclusionProof"), false, "log-proof"),
    ("another hash in the proof", |b, _| put(b, &format!("{ENTRY}/inclusionProof/hashes/0"), &STANDARD.encode([7; 32])), false, "log-proof"),
    ("another root hash", |b, _| put(b, &format!("{ENTRY}/inclusionProof/rootHash"), &STANDARD.encode([7; 32])), true, "log-proof"),
    ("another tree size", |b, _| put(b, &format!("{ENTRY}/inclusionProof/treeSize"), "4711"), true, "log-proof"),
    ("another checkpoint signature", |b, _| *b.pointer_mut(CHECKPOINT).unwrap() = unsigned(b, CHECKPOINT), false, "log-proof"),
    ("the timestamp of another bundle", |b, o| take(b, o, STAMPS), true, "timestamp-invalid"),
    ("no timestamp", |b, _| remove(b, "/verificationMaterial", "timestampVerificationData"), true, "no-verified-time"),
    ("a member that nobody knows", |b, _| b["extra"] = true.into(), false, "bundle-malformed"),
];

/// Every bundle is attached to an image of its own, and judged there by both.
fn bundles_are_judged(registry: &Registry, services: &Services, cosign: &Path) {
    let project = services.project(registry);
    let policy = fs::read_to_string(project.path("quorate.toml")).unwrap();
    let policy = policy.replace(", \"linux/arm64\"]\nquorum = 2", "]\nquorum = 1");
    fs::write(project.path("quorate.toml"), policy).unwrap();
    let (architecture, system) = ARCHITECTURES[0];
    let made = |name: &str| {
        let build = Build::new(&project.path(""), architecture, name);
        let image = format!("{}:{name}", project.image());
        build.image.push(registry.host(), REPOSITORY, &format!("{name}-{architecture}")).unwrap();
        project.json(0, &["assemble", &image, &format!("{image}-{architecture}")]);
        project.attest(0, &image, "github", system, &build, &["--no-attach", "--bundle-out", "bundle.json"]);
        let bundle = fs::read(project.path("bundle.json")).unwrap();
        (build, image, serde_json::from_slice::<Value>(&bundle).unwrap())
    };
    let (_, _, other) = made("other");
    let mut differs = Vec::new();
    for (number, (what, change, cosign_takes_it, expected)) in JUDGED.iter().enumerate() {
        let (build, image, genuine) = made(&format!("case-{number}"));
        let mut bundle = genuine.clone();
        change(&mut bundle, &other);
        assert_eq!(bundle == genuine, *what == "nothing", "{what}");
        attach(registry.host(), &build, bundle.to_string().as_bytes());
        let manifest = format!("{}@{}", project.image(), build.image.manifest_digest);
        let root = services.trusted_root();
        let theirs = verify(cosign, &project, &root, "github.key.pub", BUILD, &manifest).output().unwrap();
        let ours = project.json(i32::from(*expected != "holds"), &["verify", &image]);
        let cell = &ours["platforms"][0]["cells"][0];
        let said = match (&ours["ignored"][0]["reason"], &cell["reason"]) {
            (Value::String(reason), _) | (_, Value::String(reason)) => reason,
            _ if cell["status"] == "counted" => "holds",
            _ => "missing",
        };
        if (theirs.status.success(), said) != (*cosign_takes_it, *expected) {
            differs.push(format!("{what}: quorate: {said}, cosign: {}", self::said(&theirs)));
        }
    }
    assert!(differs.is_empty(), "{}", differs.join("\n\n"));
}

/// One bundle, logged to a second log: it holds where the trusted root names that log as well, and
/// not where it names the first alone.
fn logs_are_judged(registry: &Registry, services: &Services, cosign: &Path) {
    let mut project = services.project(registry);
    let policy = fs::read_to_string(project.path("quorate.toml")).unwrap();
    fs::write(project.path("quorate.toml"), policy.replace("quorum = 2", "quorum = 1")).unwrap();
    let first = services.trusted_root();
    let both = project.path("both_logs.json");
    let mut root: Value = serde_json::from_slice(&fs::read(&first).unwrap()).unwrap();
    let second = trusted_root(&[&project.log], &[])["tlogs"][0].clone();
    root["tlogs"].as_array_mut().unwrap().push(second);
    fs::write(&both, root.to_string()).unwrap();
    let log = ("QUORATE_REKOR_URL", project.log.url().into());
    project.environment.extend([log, ("QUORATE_TRUSTED_ROOT", both.clone().into())]);

    let builds = pushed(&project, registry);
    let candidate = project.candidate();
    assemble(&project, &candidate);
    for (build, (_, system)) in builds.iter().zip(ARCHITECTURES) {
        project.attest(0, &candidate, "github", system, build, &[]);
    }
    assert_eq!(project.log.size(), 2);
    for (root, holds) in [(&both, true), (&first, false)] {
        for build in &builds {
            let manifest = format!("{}@{}", project.image(), build.image.manifest_digest);
            let theirs = verify(cosign, &project, root, "github.key.pub", BUILD, &manifest).output().unwrap();
            assert_eq!(theirs.status.success(), holds, "{}", said(&theirs));
        }
        project.environment.push(("QUORATE_TRUSTED_ROOT", root.into()));
        let ours = project.json(i32::from(!holds), &["verify", &candidate]);
        for platform in ours["platforms"].as_array().unwrap() {
            let cell = &platform["cells"][0];
            let expected = if holds {
                (json!("counted"), Value::Null)
            } else {
                ("rejected".into(), "log-unknown".into())
            };
            assert_eq!((&cell["status"], &cell["reason"]), (&expected.0, &expected.1), "{ours:#}");
        }
    }
}

fn put(bundle: &mut Value, pointer: &str, value: &str) {
    *bundle.pointer_mut(pointer).unwrap() = value.into();
}

fn take(bundle: &mut Value, other: &Value, pointer: &str) {
    *bundle.pointer_mut(pointer).unwrap() = other.pointer(pointer).unwrap().clone();
}

fn remove(bundle: &mut Value, parent: &str, name: &str) {
    bundle.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
}

fn twice(bundle: &mut Value, list: &str) {
    let list = bundle.pointer_mut(list).unwrap().as_array_mut().unwrap();
    list.push(list[0].clone());
}

/// Attaches a bundle to the image as cosign and quorate do, on a registry with the referrers API.
fn attach(host: &str, build: &Build, bundle: &[u8]) {
    let blob = |bytes: &[u8]| {
        let digest = image::digest(bytes);
        let started =
            client::send(host, "POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[], b"").unwrap();
        let place =
            started.header("location").unwrap().trim_start_matches(&format!("http://{host}")).to_owned();
        let sign = if place.contains('?') { '&' } else { '?' };
        let kind = [("Content-Type", "application/octet-stream")];
        let sent = client::send(host, "PUT", &format!("{place}{sign}digest={digest}"), &kind, bytes).unwrap();
        assert_eq!(sent.status, 201);
        json!({"digest": digest, "size": bytes.len()})
    };
    let (mut config, mut layer) = (blob(b"{}"), blob(bundle));
    config["mediaType"] = json!("application/vnd.oci.empty.v1+json");
    layer["mediaType"] = json!(BUNDLE);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": image::MANIFEST,
        "artifactType": BUNDLE,
        "config": config,
        "layers": [layer],
        "subject": {
            "mediaType": image::MANIFEST,
            "digest": build.image.manifest_digest,
            "size": build.image.manifest.len(),
        },
        "annotations": {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": BUILD,
        },
    })
    .to_string();
    let digest = image::digest(manifest.as_bytes());
    let put = client::put_manifest(host, REPOSITORY, &digest, image::MANIFEST, manifest.as_bytes());
    assert_eq!(put.unwrap(), 201);
}
