//! Bundles that `attest` made, verified by two implementations of Sigstore that nobody here wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libtest_mimic::Trial;
use quorate_bed::{Registry, RegistryOptions, client};
use serde_json::{Value, json};

use crate::peers::{Peer, Peers};
use crate::project::{ARCHITECTURES, Build, Project, REPOSITORY, succeed};

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    vec![
        peers.trial("bundles_hold_for_sigstore_js", [Peer::Node, Peer::NodeSigstore], |[node, modules]| {
            judged_by(
                |root, key, bundles| {
                    let mut command = Command::new(node);
                    command.arg(script("verify.cjs")).arg(modules).args([root, key]).args(bundles);
                    command
                },
                &Codes {
                    timestamp: "TIMESTAMP_ERROR",
                    log: "TLOG_INCLUSION_PROOF_ERROR",
                    body: "TLOG_BODY_ERROR",
                    payload: "TLOG_BODY_ERROR",
                    another_key: "PUBLIC_KEY_ERROR",
                },
            );
        }),
        // Its verifier takes certificates only: all but that is asked of its parts.
        peers.trial("parts_of_bundles_hold_for_sigstore_python", [Peer::PythonSigstore], |[python]| {
            judged_by(
                |root, key, bundles| {
                    let mut command = Command::new(python);
                    command
                        .args(["-I", "-W", "ignore"])
                        .arg(script("verify.py"))
                        .args([root, key])
                        .args(bundles);
                    command
                },
                &Codes {
                    timestamp: "timestamp",
                    log: "log",
                    body: "body",
                    payload: "signature",
                    another_key: "signature",
                },
            );
        }),
    ]
}

/// What a verifier calls its refusals.
struct Codes {
    /// The timestamp is of another signature, or of an authority that is not trusted.
    timestamp: &'static str,
    /// The log entry is not proven to be in the log.
    log: &'static str,
    /// The log entry is about another signature.
    body: &'static str,
    /// The payload is not what was signed.
    payload: &'static str,
    /// The key is not the one that signed.
    another_key: &'static str,
}

/// A verifier, run on a trusted root, a public key and bundles, prints a line for each bundle.
/// All of quorate's must hold; with any part changed or exchanged, none.
fn judged_by(verifier: impl Fn(&Path, &Path, &[PathBuf]) -> Command, codes: &Codes) {
    let Made { registry, project, bundles } = made();
    let files: Vec<_> = bundles
        .iter()
        .enumerate()
        .map(|(position, bundle)| save(&project, &format!("bundle-{position}.json"), bundle))
        .collect();
    let (root, key) = (project.path("trusted_root.json"), project.path("github.key.pub"));
    let judge = |root: &Path, key: &Path, bundles: &[PathBuf]| {
        let lines = String::from_utf8(succeed(&mut verifier(root, key, bundles))).unwrap();
        let lines: Vec<_> = lines.lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), bundles.len(), "a line for each bundle: {lines:#?}");
        lines
    };
    assert_eq!(judge(&root, &key, &files), vec!["holds"; files.len()]);

    let (last, other) = (&bundles[5], &bundles[4]);
    let entry = "/verificationMaterial/tlogEntries/0";
    let proof = format!("{entry}/inclusionProof");
    let twins = [
        ("/dsseEnvelope/payload", other_commit(last), codes.payload),
        ("/dsseEnvelope/signatures/0/sig", taken(other, "/dsseEnvelope/signatures/0/sig"), codes.timestamp),
        (
            "/verificationMaterial/timestampVerificationData",
            taken(other, "/verificationMaterial/timestampVerificationData"),
            codes.timestamp,
        ),
        (entry, taken(other, entry), codes.body),
        (
            &format!("{entry}/canonicalizedBody"),
            taken(other, &format!("{entry}/canonicalizedBody")),
            codes.log,
        ),
        (&proof, taken(other, &proof), codes.log),
        (&format!("{proof}/hashes/0"), json!(STANDARD.encode([7; 32])), codes.log),
        (
            &format!("{proof}/checkpoint/envelope"),
            unsigned(last, &format!("{proof}/checkpoint/envelope")),
            codes.log,
        ),
    ];
    let mut broken = Vec::new();
    for (position, (pointer, value, _)) in twins.iter().enumerate() {
        let mut bundle = last.clone();
        assert_ne!(bundle.pointer(pointer), Some(value), "{pointer} changes");
        *bundle.pointer_mut(pointer).unwrap() = value.clone();
        broken.push(save(&project, &format!("broken-{position}.json"), &bundle));
    }
    for (line, (pointer, _, code)) in judge(&root, &key, &broken).iter().zip(&twins) {
        assert!(line.starts_with(&format!("{code}: ")), "{pointer}: {line}");
    }
    let another_key = judge(&root, &project.path("garnix.key.pub"), &files[..1]);
    assert!(another_key[0].starts_with(&format!("{}: ", codes.another_key)), "{another_key:?}");
    let stranger = Project::new(&registry.host());
    let another_root = judge(&stranger.path("trusted_root.json"), &key, &files[..1]);
    assert!(another_root[0].starts_with(&format!("{}: ", codes.timestamp)), "{another_root:?}");
}

/// Bundles that one builder made, and where.
pub(crate) struct Made {
    pub(crate) registry: Registry,
    pub(crate) project: Project,
    pub(crate) bundles: Vec<Value>,
}

/// Six bundles. The log grows from one to the next: the proof of the first is empty.
pub(crate) fn made() -> Made {
    let registry = Registry::start(RegistryOptions::default());
    let project = Project::new(&registry.host());
    let mut bundles = Vec::new();
    for round in 0..3 {
        for (architecture, system) in ARCHITECTURES {
            bundles.push(attested(&project, &registry.host(), round, architecture, system));
        }
    }
    Made { registry, project, bundles }
}

/// Pushes an image, attests it, and returns the bundle as the registry holds it.
fn attested(project: &Project, host: &str, round: u32, architecture: &str, system: &str) -> Value {
    let build = Build::new(&project.path(""), architecture, &format!("hello-{round}"));
    let image = build.image.push(host, REPOSITORY, &build.image.manifest_digest).unwrap();
    let report = project.attest(0, &format!("{}@{image}", project.image()), "github", system, &build, &[]);
    let carrier = report["attached"]["manifest"].as_str().unwrap();
    let carrier: Value =
        serde_json::from_slice(&client::manifest(host, REPOSITORY, carrier).unwrap().body).unwrap();
    let layer = carrier["layers"][0]["digest"].as_str().unwrap();
    assert_eq!(layer, report["bundle"]);
    let blob = client::get(host, &format!("/v2/{REPOSITORY}/blobs/{layer}"), None).unwrap();
    serde_json::from_slice(&blob.body).unwrap()
}

/// The payload of a bundle, with another commit in it.
pub(crate) fn other_commit(bundle: &Value) -> Value {
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let mut statement: Value = serde_json::from_slice(&payload).unwrap();
    statement["predicate"]["commit"] = "0".repeat(40).into();
    STANDARD.encode(statement.to_string()).into()
}

/// A checkpoint with another signature of the right length.
pub(crate) fn unsigned(bundle: &Value, pointer: &str) -> Value {
    let note = taken(bundle, pointer);
    let (text, signature) = note.as_str().unwrap().trim_end().rsplit_once(' ').unwrap();
    let mut bytes = STANDARD.decode(signature).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    format!("{text} {}\n", STANDARD.encode(bytes)).into()
}

pub(crate) fn taken(bundle: &Value, pointer: &str) -> Value {
    bundle.pointer(pointer).unwrap().clone()
}

pub(crate) fn save(project: &Project, name: &str, bundle: &Value) -> PathBuf {
    let file = project.path(name);
    fs::write(&file, bundle.to_string()).unwrap();
    file
}

/// One of the programs that ask another verifier.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/sigstore").join(name)
}
