//! `inspect` and `resolve`: what is there, and what of it is proven.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use quorate_bed::{Fault, RegistryOptions, client, image};
use serde_json::{Value, json};
use shop::{AMD64, COMMIT, Shop};

/// Attaches a manifest of another kind to an image, as other tools do.
fn attach_foreign(shop: &Shop, subject: &[u8]) -> String {
    let empty = b"{}";
    let begun = client::send(&shop.host(), "POST", "/v2/acme/app/blobs/uploads/", &[], &[]).unwrap();
    let location = begun.header("location").unwrap().to_owned();
    let between = if location.contains('?') { '&' } else { '?' };
    let path = format!("{location}{between}digest={}", image::digest(empty));
    assert_eq!(client::send(&shop.host(), "PUT", &path, &[], empty).unwrap().status, 201);
    let config = json!({
        "mediaType": "application/vnd.oci.empty.v1+json", "digest": image::digest(empty), "size": 2,
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": image::MANIFEST,
        "artifactType": "application/vnd.cyclonedx+json",
        "config": config,
        "layers": [config],
        "subject": {
            "mediaType": image::MANIFEST, "digest": image::digest(subject), "size": subject.len(),
        },
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = image::digest(&bytes);
    let put = client::put_manifest(&shop.host(), "acme/app", &digest, image::MANIFEST, &bytes);
    assert_eq!(put.unwrap(), 201);
    digest
}

fn platform<'a>(document: &'a Value, name: &str) -> &'a Value {
    let children = document["root"]["manifests"].as_array().unwrap();
    children.iter().find(|child| child["platform"] == name).unwrap()
}

#[test]
fn the_tree_shows_platforms_and_what_is_proven() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github"]);
    let sbom = attach_foreign(&shop, &release.images[0].manifest);
    shop.bed.registry.clear_log();

    let run = shop.quorate(&["inspect", &release.reference]).exits(0);
    assert_eq!(run.stderr, "");
    let shown: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(shown[0], format!("{}@{}", shop.repository(), release.digest));
    assert!(shown.iter().any(|line| line.starts_with("├─ linux/amd64  sha256:")), "{}", run.stdout);
    let vote = format!("✓ built by \"github\": commit {COMMIT}, sequence 1763700000, narHash sha256-");
    assert_eq!(run.stdout.matches(&vote).count(), 2, "{}", run.stdout);
    assert!(run.stdout.contains(&format!("│  └─ application/vnd.cyclonedx+json  {sbom}")), "{}", run.stdout);
    assert!(shop.bed.registry.writes().is_empty());

    let document = shop.quorate(&["inspect", &release.reference, "-o", "json"]).exits(0).json();
    assert_eq!(document["mediaType"], "application/vnd.quorate.inspect.v1+json");
    assert_eq!(document["image"]["digest"], release.digest.as_str());
    let amd64 = platform(&document, "linux/amd64");
    assert_eq!(amd64["digest"], release.images[0].manifest_digest.as_str());
    assert_eq!(amd64["image"]["configDigest"], release.images[0].config_digest.as_str());
    assert_eq!(amd64["evidence"].as_array().unwrap().len(), 1);
    assert_eq!(amd64["evidence"][0]["standing"], "proven");
    assert_eq!(amd64["evidence"][0]["builder"], "github");
    assert_eq!(amd64["evidence"][0]["statement"]["commit"], COMMIT);
    assert_eq!(amd64["referrers"][0]["digest"], sbom.as_str());
    let arm64 = platform(&document, "linux/arm64");
    assert_eq!((&arm64["referrers"], arm64["evidence"].as_array().unwrap().len()), (&json!([]), 1));
}

#[test]
fn nothing_is_believed_without_a_policy() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest(&release, "github", AMD64.1, &[]).exits(0);
    let mut command = shop.command(&["inspect", &release.reference, "-o", "json"]);
    let output = command.env_remove("QUORATE_POLICY").env_remove("QUORATE_TRUSTED_ROOT").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("note: statements are shown as they claim"), "{said}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let seen = &platform(&document, "linux/amd64")["evidence"][0];
    assert_eq!((&seen["standing"], &seen["builder"]), (&json!("unverified"), &Value::Null));
    assert_eq!(seen["statement"]["builder"], "github");
}

#[test]
fn a_stranger_is_shown_as_one() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.quorate(&["key", "generate", "stranger.key"]).exits(0);
    // The stranger says that it is a builder of the policy.
    let digest = &release.images[0].config_digest;
    let arguments = ["--builder", "github", "--key", "stranger.key", "--system", AMD64.1];
    let build =
        ["--config-digest", digest, "--commit", COMMIT, "--sequence", "1", "--nar-hash", shop::NAR_HASH];
    let all = [&["attest", &release.reference][..], &arguments, &build].concat();
    shop.quorate(&all).exits(0);
    let document = shop.quorate(&["inspect", &release.reference, "-o", "json"]).exits(0).json();
    let seen = &platform(&document, "linux/amd64")["evidence"][0];
    assert_eq!((&seen["standing"], &seen["reason"]), (&json!("rejected"), &json!("signer-unknown")));
}

#[test]
fn derived_tags_are_found_with_the_policy_and_without() {
    let shop = Shop::new(RegistryOptions { referrers: false, ..RegistryOptions::default() });
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let document = shop.quorate(&["inspect", &release.reference, "-o", "json"]).exits(0).json();
    for name in ["linux/amd64", "linux/arm64"] {
        let evidence = platform(&document, name)["evidence"].as_array().unwrap();
        let mut builders: Vec<_> = evidence.iter().map(|seen| seen["builder"].as_str().unwrap()).collect();
        builders.sort_unstable();
        assert_eq!(builders, ["garnix", "github"]);
    }
    // Another tool emptied the shared referrers tags: only the list of all tags tells.
    let index = "application/vnd.oci.image.index.v1+json";
    let empty = json!({ "schemaVersion": 2, "mediaType": index, "manifests": [] }).to_string();
    for image in &release.images {
        let tag = image.manifest_digest.replace(':', "-");
        let put = client::put_manifest(&shop.host(), "acme/app", &tag, index, empty.as_bytes());
        assert_eq!(put.unwrap(), 201);
    }
    let mut command = shop.command(&["inspect", &release.reference, "-o", "json"]);
    let output = command.env_remove("QUORATE_POLICY").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    for name in ["linux/amd64", "linux/arm64"] {
        assert_eq!(platform(&document, name)["evidence"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn one_image_is_a_tree_of_one() {
    let shop = Shop::open();
    let image = shop.push("git-1-amd64", "amd64", "hello");
    let document = shop.quorate(&["inspect", &shop.at("git-1-amd64"), "-o", "json"]).exits(0).json();
    assert_eq!(document["root"]["digest"], image.manifest_digest.as_str());
    assert_eq!(document["root"]["image"]["platform"], "linux/amd64");
    assert_eq!(document["root"]["manifests"], json!([]));
}

#[test]
fn a_registry_that_fails_is_not_one_without_evidence() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.bed.registry.fault(Fault::status(500).method("GET").path("/referrers/"));
    let run = shop.quorate(&["inspect", &release.reference, "-o", "json"]).exits(3);
    let run = run.says("registry-server-error");
    assert_eq!(run.json()["root"], Value::Null);
    shop.bed.registry.clear_faults();
    shop.quorate(&["inspect", &release.reference]).exits(0);
}

#[test]
fn resolve_prints_the_digest_that_was_computed() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let run = shop.quorate(&["resolve", &release.reference]).exits(0);
    assert_eq!(run.stdout, format!("{}\n", release.digest));
    let document = shop.quorate(&["resolve", &release.reference, "-o", "json"]).exits(0).json();
    assert_eq!(document["image"]["digest"], release.digest.as_str());
    assert_eq!(document["descriptor"]["mediaType"], "application/vnd.oci.image.index.v1+json");
    shop.quorate(&["resolve", &shop.at("absent")]).exits(2).says("there is no image");
}
