//! Bundles that `attest` made, verified by two implementations of Sigstore that nobody here wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libtest_mimic::Trial;
use quorate_bed::{Fulcio, Registry, RegistryOptions, RekorV1, client, keyless_root};
use serde_json::{Value, json};

use crate::keyless::{ISSUER, SAN};
use crate::peers::{Peer, Peers};
use crate::project::{ARCHITECTURES, Build, Project, REPOSITORY, succeed};

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let of = |rekor: u8| {
        [
            peers.trial(
                &format!("bundles_hold_for_sigstore_js_from_rekor_v{rekor}"),
                [Peer::Node, Peer::NodeSigstore],
                move |[node, modules]| {
                    let verifier = |root: &Path, key: &Path, bundles: &[PathBuf]| {
                        let mut command = Command::new(node);
                        command.arg(script("verify.cjs")).arg(modules).args([root, key]).args(bundles);
                        command
                    };
                    judged_by(rekor, verifier, if rekor == 1 { &JS_V1 } else { &JS_V2 });
                },
            ),
            // Its verifier takes certificates only: all but that is asked of its parts.
            peers.trial(
                &format!("parts_of_bundles_hold_for_sigstore_python_from_rekor_v{rekor}"),
                [Peer::PythonSigstore],
                move |[python]| {
                    let verifier = |root: &Path, key: &Path, bundles: &[PathBuf]| {
                        let mut command = Command::new(python);
                        command.args(["-I", "-W", "ignore"]).arg(script("verify.py"));
                        command.args([root, key]).args(bundles);
                        command
                    };
                    judged_by(rekor, verifier, if rekor == 1 { &PYTHON_V1 } else { &PYTHON_V2 });
                },
            ),
        ]
    };
    let mut trials: Vec<_> = [1, 2].into_iter().flat_map(of).collect();
    trials.push(peers.trial(
        "sigstore_python_takes_no_bundle_with_a_key",
        [Peer::PythonSigstore],
        |[python]| takes_no_key(python),
    ));
    trials
}

/// Why its parts are asked one by one.
fn takes_no_key(python: &Path) {
    for rekor in [1, 2] {
        let Made { project, bundles, .. } = made(rekor);
        // A trusted root without a certificate authority would be refused before any bundle.
        let root = keyless_root(&[&project.log], &[], &[], &[&Fulcio::start(&[])]);
        let root = save(&project, "root.json", &root);
        let mut command = Command::new(python);
        command.args(["-I", "-W", "ignore"]).arg(script("keyless.py")).arg("verify");
        command.arg(root).args([SAN, ISSUER]);
        let said = succeed(command.arg(save(&project, "bundle.json", &bundles[0])));
        assert_eq!(String::from_utf8(said).unwrap(), "InvalidBundle: expected certificate in bundle\n");
    }
}

/// What a verifier calls its refusals.
struct Codes {
    /// The payload is not what was signed.
    payload: &'static str,
    /// The signature is of another bundle.
    signature: &'static str,
    /// The time is: that of the authority, or in Rekor v1 that of the log.
    time: &'static str,
    /// The log entry is.
    entry: &'static str,
    /// The body of the log entry alone is.
    body: &'static str,
    /// The log entry is not proven to be in the log.
    proof: &'static str,
    /// The key is not the one that signed.
    another_key: &'static str,
    /// Nothing in the trusted root is known to the bundle.
    another_root: &'static str,
}

const JS_V2: Codes = Codes {
    payload: "TLOG_BODY_ERROR",
    signature: "TIMESTAMP_ERROR",
    time: "TIMESTAMP_ERROR",
    entry: "TLOG_BODY_ERROR",
    body: "TLOG_INCLUSION_PROOF_ERROR",
    proof: "TLOG_INCLUSION_PROOF_ERROR",
    another_key: "PUBLIC_KEY_ERROR",
    another_root: "TIMESTAMP_ERROR",
};
const JS_V1: Codes = Codes {
    signature: "TLOG_BODY_ERROR",
    time: "TLOG_INCLUSION_PROMISE_ERROR",
    body: "TLOG_INCLUSION_PROMISE_ERROR",
    another_root: "TLOG_INCLUSION_PROMISE_ERROR",
    ..JS_V2
};
const PYTHON_V2: Codes = Codes {
    payload: "signature",
    signature: "timestamp",
    time: "timestamp",
    entry: "body",
    body: "log",
    proof: "log",
    another_key: "signature",
    another_root: "timestamp",
};
const PYTHON_V1: Codes = Codes { signature: "signature", time: "log", another_root: "log", ..PYTHON_V2 };

/// A verifier, run on a trusted root, a public key and bundles, prints a line for each bundle.
/// All of quorate's must hold; with any part changed or exchanged, none.
fn judged_by(rekor: u8, verifier: impl Fn(&Path, &Path, &[PathBuf]) -> Command, codes: &Codes) {
    let Made { registry, project, bundles } = made(rekor);
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
    let time = match rekor {
        1 => "/verificationMaterial/tlogEntries/0/inclusionPromise",
        _ => "/verificationMaterial/timestampVerificationData",
    };
    let twins = [
        ("/dsseEnvelope/payload", other_commit(last), codes.payload),
        ("/dsseEnvelope/signatures/0/sig", taken(other, "/dsseEnvelope/signatures/0/sig"), codes.signature),
        (time, taken(other, time), codes.time),
        (entry, taken(other, entry), codes.entry),
        (
            &format!("{entry}/canonicalizedBody"),
            taken(other, &format!("{entry}/canonicalizedBody")),
            codes.body,
        ),
        (&proof, taken(other, &proof), codes.proof),
        (&format!("{proof}/hashes/0"), json!(STANDARD.encode([7; 32])), codes.proof),
        (
            &format!("{proof}/checkpoint/envelope"),
            unsigned(last, &format!("{proof}/checkpoint/envelope")),
            codes.proof,
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
    assert!(another_root[0].starts_with(&format!("{}: ", codes.another_root)), "{another_root:?}");
}

/// Bundles that one builder made, and where.
pub(crate) struct Made {
    pub(crate) registry: Registry,
    pub(crate) project: Project,
    pub(crate) bundles: Vec<Value>,
}

/// Six bundles, signed with a key: logged to Rekor v1, whose time counts, or logged to Rekor v2 and
/// stamped. The log grows from one to the next: the proof of the first is empty.
pub(crate) fn made(rekor: u8) -> Made {
    let registry = Registry::start(RegistryOptions::default());
    let mut project = Project::new(&registry.host());
    let older = RekorV1::start();
    if rekor == 1 {
        let root = keyless_root(&[], &[&older], &[], &[]);
        fs::write(project.path("trusted_root.json"), root.to_string()).unwrap();
        let version = ("QUORATE_REKOR_VERSION", "1".into());
        project.environment.extend([("QUORATE_REKOR_URL", older.url().into()), version]);
    }
    let mut bundles = Vec::new();
    for round in 0..3 {
        for (architecture, system) in ARCHITECTURES {
            bundles.push(attested(&project, &registry.host(), rekor, round, architecture, system));
        }
    }
    Made { registry, project, bundles }
}

/// Pushes an image, attests it, and returns the bundle as the registry holds it.
fn attested(project: &Project, host: &str, rekor: u8, round: u32, architecture: &str, system: &str) -> Value {
    let build = Build::new(&project.path(""), architecture, &format!("hello-{round}"));
    let image = build.image.push(host, REPOSITORY, &build.image.manifest_digest).unwrap();
    let image = format!("{}@{image}", project.image());
    let mut attest = project.attesting(&image, "github", system, &build);
    if rekor == 1 {
        attest.env_remove("QUORATE_TSA_URL");
    }
    let report: Value = serde_json::from_slice(&succeed(attest.args(["-o", "json"]))).unwrap();
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
