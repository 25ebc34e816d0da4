//! `verify --explain-split`: what the images of builders that disagree differ in, as far as the
//! registry has them. It explains the verdict, and never changes it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use quorate_bed::Fault;
use quorate_bed::image::{Image, minimal_elf};
use serde_json::Value;
use shop::{AMD64, Release, Shop};

/// A release that two builders agree on.
fn agreed() -> (Shop, Release) {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    (shop, release)
}

/// `basement` got `other` for amd64, pushes it if `push`, and signs that it disagrees.
fn dissents(shop: &Shop, release: &Release, other: &Image, push: bool) {
    if push {
        other.push(&shop.host(), "acme/app", "rebuild").unwrap();
    }
    shop.attest_as(&release.reference, "basement", AMD64.1, &other.config_digest, &["--record-dissent"])
        .exits(0);
}

fn explained(shop: &Shop, release: &Release, more: &[&str]) -> Value {
    let arguments = [&["verify", &release.reference, "--explain-split", "-o", "json"], more].concat();
    let run = shop.quorate(&arguments);
    let document = run.json();
    assert_eq!(run.code == 0, document["verdict"] == "met");
    document
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// The cause of the one split, and each difference: its cause, and where.
fn the_split(document: &Value) -> (&str, Vec<(&str, &str)>) {
    let splits = document["split"].as_array().unwrap();
    assert_eq!(splits.len(), 1, "{splits:?}");
    let differences = splits[0]["differences"].as_array().unwrap();
    let found = differences.iter().map(|one| (text(&one["cause"]), text(&one["at"])));
    (text(&splits[0]["cause"]), found.collect())
}

#[test]
fn the_first_file_that_differs_is_named() {
    let (shop, release) = agreed();
    assert_eq!(explained(&shop, &release, &[])["split"], serde_json::json!([]));
    let other = shop::build("amd64", "something else");
    dissents(&shop, &release, &other, true);
    let document = explained(&shop, &release, &[]);
    assert_eq!(document["verdict"], "dissent");
    let (cause, found) = the_split(&document);
    assert_eq!(cause, "split-files");
    assert_eq!(found, [("split-files", "layer 1 of 1"), ("split-files", "layer 1 of 1: message")]);
    let split = &document["split"][0];
    assert_eq!(split["builders"], serde_json::json!(["basement"]));
    assert_eq!(split["configDigest"]["theirs"], other.config_digest.as_str());
    assert!(split["differences"][1]["ours"].as_str().unwrap().starts_with("5 bytes, sha256:"));
    let said = shop.quorate(&["verify", &release.reference, "--explain-split"]).exits(1).stdout;
    assert!(said.contains("split linux/amd64 basement: split-files: A file holds something else"), "{said}");
    // Without being asked, nothing more is fetched, and nothing is said.
    let plain = shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(1).json();
    assert!(plain["split"].is_null());
}

#[test]
fn causes_that_are_matters_of_form_are_told_apart() {
    let image = |files: &[(&str, &[u8], u32)]| Image::build("linux", "amd64", None, files);
    let program = minimal_elf("amd64");
    let same = shop::build("amd64", "hello");
    let mut later: Value = serde_json::from_slice(&same.config).unwrap();
    later["created"] = "2026-01-01T00:00:00Z".into();
    let mut run_as: Value = serde_json::from_slice(&same.config).unwrap();
    run_as["config"]["User"] = "root\u{1b}[31m".into();
    let cases = [
        (same.with_config(later.to_string().into_bytes()), "split-timestamps", "config/created"),
        (same.with_config(run_as.to_string().into_bytes()), "split-fields", "config/config/User"),
        (image(&[("message", b"hello", 0o644), ("bin/app", &program, 0o755)]), "split-order", "layer 1 of 1"),
        (
            image(&[("bin/app", &program, 0o755), ("message", b"hello", 0o600)]),
            "split-permissions",
            "layer 1 of 1",
        ),
        (image(&[("bin/app", &program, 0o755)]), "split-files", "layer 1 of 1"),
    ];
    for (other, cause, at) in cases {
        let (shop, release) = agreed();
        dissents(&shop, &release, &other, true);
        let document = explained(&shop, &release, &[]);
        let (found, differences) = the_split(&document);
        assert_eq!(found, cause);
        assert_eq!(differences[0], (cause, at));
        let said = shop.quorate(&["verify", &release.reference, "--explain-split"]).exits(1).stdout;
        assert!(!said.contains('\u{1b}'), "{said}");
    }
}

#[test]
fn the_same_layers_compressed_in_another_way() {
    for compress in [|image: &Image| image.gzip(6), shop::zstd] {
        let (shop, release) = agreed();
        let packed = compress(&release.images[0]);
        packed.push(&shop.host(), "acme/app", "packed").unwrap();
        let arguments = ["--bundle-out", "basement.json", "--no-attach"];
        shop.attest_as(&shop.at("packed"), "basement", AMD64.1, &packed.config_digest, &arguments).exits(0);
        let document = explained(&shop, &release, &["--bundle", "basement.json"]);
        assert_eq!(document["verdict"], "met", "another manifest of the same content disturbs nobody");
        assert_eq!(the_split(&document), ("split-compression", vec![("split-compression", "layer 1 of 1")]));
    }
}

#[test]
fn what_the_registry_does_not_have_is_unknown() {
    let (shop, release) = agreed();
    let other = shop::build("amd64", "something else");
    dissents(&shop, &release, &other, false);
    let document = explained(&shop, &release, &[]);
    assert_eq!(document["verdict"], "dissent");
    assert_eq!(the_split(&document), ("split-unknown", vec![("split-unknown", "configuration")]));
    let theirs = document["split"][0]["differences"][0]["theirs"].as_str().unwrap();
    assert!(theirs.contains(&other.config_digest) && theirs.contains("let the builder push"), "{theirs}");

    // A registry that fails explains nothing, and takes nothing back.
    other.push(&shop.host(), "acme/app", "rebuild").unwrap();
    assert_eq!(the_split(&explained(&shop, &release, &[])).0, "split-files");
    shop.bed.registry.fault(Fault::status(403).method("GET").path(&other.layer_digest));
    let document = explained(&shop, &release, &[]);
    assert_eq!((document["verdict"].as_str(), the_split(&document).0), (Some("dissent"), "split-unknown"));
    let arguments = ["verify", &release.reference, "--explain-split", "--pack", "absent.json"];
    shop.quorate(&arguments).exits(2).says("cannot be used with");
}
