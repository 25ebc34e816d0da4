//! `promote --record`: a signed summary of what was found, attached to the index before tags move.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_bed::{Fault, RegistryOptions, client, image};
use serde_json::{Value, json};
use shop::{Release, Run, Shop};

const SUMMARY: &str = "https://slsa.dev/verification_summary/v1";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A release that two builders agree on, and a key for the gate.
fn open(referrers: bool) -> (Shop, Release) {
    let shop = Shop::new(RegistryOptions { referrers, ..Default::default() });
    shop.quorate(&["key", "generate", "gate.key"]).exits(0);
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    (shop, release)
}

fn promote(shop: &Shop, release: &Release, more: &[&str]) -> Run {
    shop.bed.registry.clear_log();
    let arguments = ["promote", &release.reference, "--tag", "latest", "-o", "json"];
    shop.quorate(&[&arguments[..], more].concat())
}

const RECORD: [&str; 3] = ["--record", "--key", "gate.key"];

/// What is attached to the index: manifests of bundles, wherever the registry keeps them.
fn attached(shop: &Shop, release: &Release) -> Vec<Value> {
    let fallback = release.digest.replace(':', "-");
    let listed =
        client::get(&shop.host(), &format!("/v2/acme/app/referrers/{}", release.digest), None).unwrap();
    let listed = match listed.status {
        200 => listed,
        _ => client::manifest(&shop.host(), "acme/app", &fallback).unwrap(),
    };
    if listed.status != 200 {
        return Vec::new();
    }
    let listed: Value = serde_json::from_slice(&listed.body).unwrap();
    let manifest = |entry: &Value| {
        let digest = entry["digest"].as_str().unwrap();
        serde_json::from_slice(&client::manifest(&shop.host(), "acme/app", digest).unwrap().body).unwrap()
    };
    listed["manifests"].as_array().unwrap().iter().map(manifest).collect()
}

/// The statement in a manifest of a bundle.
fn statement(manifest: &Value) -> Value {
    let decode = |text: &Value| -> Value {
        serde_json::from_slice(&STANDARD.decode(text.as_str().unwrap()).unwrap()).unwrap()
    };
    let bundle = decode(&manifest["layers"][0]["data"]);
    decode(&bundle["dsseEnvelope"]["payload"])
}

fn writes(shop: &Shop) -> Vec<String> {
    shop.bed.registry.writes().into_iter().map(|r| format!("{} {}", r.method, r.path)).collect()
}

#[test]
fn the_record_says_what_was_found_and_is_made_once() {
    for referrers in [true, false] {
        let (shop, release) = open(referrers);
        let run = promote(&shop, &release, &RECORD).exits(0).json();
        assert_eq!((&run["outcome"], &run["record"]["action"]), (&"moved".into(), &"attached".into()));
        // It stands before any tag is written.
        let written = writes(&shop);
        let tag = written.iter().position(|write| write.ends_with("/manifests/latest")).unwrap();
        let record = format!("/manifests/{}", run["record"]["manifest"].as_str().unwrap());
        assert!(written[..tag].iter().any(|write| write.ends_with(&record)), "{written:?}");
        assert_eq!(tag, written.len() - 1);

        let [manifest] = &attached(&shop, &release)[..] else { panic!("one record") };
        assert_eq!(manifest["artifactType"], BUNDLE);
        assert_eq!(manifest["subject"]["digest"], release.digest.as_str());
        assert_eq!(manifest["annotations"]["dev.sigstore.bundle.predicateType"], SUMMARY);
        let said = statement(manifest);
        let name = shop.repository();
        assert_eq!(said["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(said["predicateType"], SUMMARY);
        let hex = |digest: &str| digest.strip_prefix("sha256:").unwrap().to_owned();
        assert_eq!(said["subject"], json!([{ "name": name, "digest": { "sha256": hex(&release.digest) } }]));
        let predicate = &said["predicate"];
        assert_eq!(predicate["verificationResult"], "PASSED");
        assert_eq!(predicate["verifiedLevels"], json!(["QUORATE_QUORUM_2"]));
        assert_eq!(predicate["resourceUri"], format!("{name}@{}", release.digest));
        assert_eq!(predicate["verifier"]["id"], "https://quorate.dev/promote");
        let policy = run["policy"]["digest"].as_str().unwrap();
        assert_eq!(predicate["policy"]["digest"]["sha256"], hex(policy));
        // Every statement that was counted, and no other.
        let mut counted: Vec<(String, String)> = Vec::new();
        for row in run["platforms"].as_array().unwrap() {
            for cell in row["cells"].as_array().unwrap().iter().filter(|cell| cell["status"] == "counted") {
                let uri = format!("{name}@{}", row["digest"].as_str().unwrap());
                counted.push((uri, cell["builder"].as_str().unwrap().to_owned()));
            }
        }
        let inputs = predicate["inputAttestations"].as_array().unwrap();
        let mut listed: Vec<(String, String)> = inputs
            .iter()
            .map(|i| (i["uri"].as_str().unwrap().to_owned(), i["name"].as_str().unwrap().to_owned()))
            .collect();
        counted.sort();
        listed.sort();
        assert_eq!(counted.len(), 4);
        assert_eq!(listed, counted);

        let again = promote(&shop, &release, &RECORD).exits(0).json();
        assert_eq!((&again["outcome"], &again["record"]["action"]), (&"unchanged".into(), &"already".into()));
        assert_eq!(writes(&shop), Vec::<String>::new());
        // One more vote is something new, and so is another verifier.
        shop.attest_all(&release, &["basement"]);
        let more = promote(&shop, &release, &RECORD).exits(0).json();
        assert_eq!(more["record"]["action"], "attached");
        let other = ["--verifier-id", "https://example.org/gate"];
        let other = promote(&shop, &release, &[&RECORD[..], &other].concat()).exits(0).json();
        assert_eq!(other["record"]["action"], "attached");
        assert_eq!(attached(&shop, &release).len(), 3);
    }
}

#[test]
fn a_record_is_never_a_vote() {
    let (shop, release) = open(true);
    promote(&shop, &release, &RECORD).exits(0);
    shop.bed.registry.clear_log();
    shop.quorate(&["verify", &release.reference]).exits(0);
    let asked = format!("/referrers/{}", release.digest);
    assert!(!shop.bed.registry.log().iter().any(|r| r.path.ends_with(&asked)), "nobody asks for it");
    // Moved to where votes are, and signed by a key that the policy names, it is none either.
    let bundle = attached(&shop, &release).remove(0);
    let bytes = STANDARD.decode(bundle["layers"][0]["data"].as_str().unwrap()).unwrap();
    shop.write("record.json", &bytes);
    let run = shop.quorate(&[
        "attest",
        &release.reference,
        "--bundle",
        "record.json",
        "--public-key",
        "gate.key.pub",
    ]);
    run.exits(1).says("predicate-type");
    let gate = "\n[[builder]]\nname = \"gate\"\noperator = \"Gate\"\nkey = \"gate.key.pub\"\n";
    shop.write("quorate.toml", shop.policy(3) + gate);
    let amd64 = &release.images[0].manifest_digest;
    let mut moved = bundle.clone();
    moved["subject"]["digest"] = json!(amd64);
    let size = client::manifest(&shop.host(), "acme/app", amd64).unwrap().body.len();
    moved["subject"]["size"] = json!(size);
    moved["subject"]["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
    moved["annotations"].as_object_mut().unwrap().remove("dev.sigstore.bundle.predicateType");
    let moved = moved.to_string();
    let digest = image::digest(moved.as_bytes());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    client::put_manifest(&shop.host(), "acme/app", &digest, kind, moved.as_bytes()).unwrap();
    let verdict = shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(1).json();
    assert_eq!(verdict["verdict"], "short");
    assert_eq!(shop::cell(&verdict, "linux/amd64", "gate"), "missing");
    assert_eq!(verdict["ignored"][0]["reason"], "predicate-type");
}

#[test]
fn what_is_not_met_is_not_recorded() {
    let shop = Shop::open();
    shop.quorate(&["key", "generate", "gate.key"]).exits(0);
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github"]);
    let report = promote(&shop, &release, &RECORD).exits(1).json();
    assert_eq!((&report["verdict"], &report["record"]), (&"short".into(), &Value::Null));
    assert_eq!(writes(&shop), Vec::<String>::new());
    shop.attest_all(&release, &["garnix"]);
    // Nor is a plan.
    let planned = promote(&shop, &release, &[&RECORD[..], &["--dry-run"]].concat()).exits(0).json();
    assert_eq!(planned["record"]["action"], "planned");
    assert_eq!(writes(&shop), Vec::<String>::new());
    assert_eq!(attached(&shop, &release).len(), 0);
    let report = promote(&shop, &release, &RECORD).exits(0).json();
    assert_eq!(report["record"]["action"], "attached");
    // Nor is a release that a tag rule refuses.
    let other = shop.release("git-2", "other");
    shop.attest_all(&other, &["github", "garnix"]);
    promote(&shop, &other, &["--tag", "1.0.0"]).exits(0);
    let refused = promote(&shop, &release, &[&RECORD[..], &["--tag", "1.0.0"]].concat()).exits(1);
    assert_eq!(refused.says("tag-immutable").json()["record"], Value::Null);
    assert_eq!(writes(&shop), Vec::<String>::new());
}

#[test]
fn without_its_record_no_tag_moves() {
    let (shop, release) = open(true);
    let unmoved = |run: Run, says: &str| {
        let run = run.exits(3).says("could not be recorded, so no tag was moved").says(says);
        let report = run.json();
        assert_eq!((&report["outcome"], &report["record"]), (&"undecided".into(), &Value::Null));
        assert_eq!(report["tags"][0]["action"], "skipped");
        assert_eq!(shop.named("latest"), None);
    };
    shop.bed.log.fault(Fault::status(503));
    unmoved(promote(&shop, &release, &RECORD), "503");
    shop.bed.log.clear_faults();
    // A log that answers nonsense is no witness.
    shop.bed.tsa.fault(Fault::new(quorate_bed::FaultAction::Truncate));
    unmoved(promote(&shop, &release, &RECORD), "caused by");
    shop.bed.tsa.clear_faults();
    assert_eq!(writes(&shop), Vec::<String>::new());
    shop.bed.registry.fault(Fault::status(403).method("PUT").path("manifests/sha256"));
    unmoved(promote(&shop, &release, &RECORD), "registry-denied");
    shop.bed.registry.clear_faults();
    promote(&shop, &release, &RECORD).exits(0);
    assert_eq!(shop.named("latest").as_ref(), Some(&release.digest));
}

#[test]
fn the_key_of_the_record_is_nobody_elses() {
    let (shop, release) = open(true);
    promote(&shop, &release, &["--record", "--key", "github.key"]).exits(2).says("builder `github`");
    promote(&shop, &release, &["--record"]).exits(2).says("--key");
    let bad = ["--record", "--key", "gate.key", "--verifier-id", "gate"];
    promote(&shop, &release, &bad).exits(2).says("absolute URI");
    assert!(shop.bed.registry.log().is_empty(), "a wrong request is not asked about");
    // Somebody else's record is not ours.
    promote(&shop, &release, &RECORD).exits(0);
    shop.quorate(&["key", "generate", "other.key"]).exits(0);
    let other = promote(&shop, &release, &["--record", "--key", "other.key"]).exits(0).json();
    assert_eq!(other["record"]["action"], "attached");
    assert_eq!(attached(&shop, &release).len(), 2);
}
