//! Images that are elsewhere: other repositories, other registries, layouts on disk; and what
//! `--check-content` reads in them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs;
use std::time::Duration;

use quorate_bed::image::{self, Image};
use quorate_bed::{Answer, Fault, FaultAction, Registry, RegistryOptions, client};
use shop::{AMD64, ARM64, Run, Shop};

const ARCHITECTURES: [&str; 2] = [AMD64.0, ARM64.0];

/// Pushes both architectures to another repository, as `git-1-<architecture>`.
fn push(host: &str, repository: &str) -> [Image; 2] {
    ARCHITECTURES.map(|architecture| {
        let image = shop::build(architecture, "hello");
        image.push(host, repository, &format!("git-1-{architecture}")).unwrap();
        image
    })
}

fn sources(store: &str) -> [String; 2] {
    ARCHITECTURES.map(|architecture| format!("{store}:git-1-{architecture}"))
}

fn assemble(shop: &Shop, target: &str, sources: &[String], more: &[&str]) -> Run {
    let mut arguments = vec!["assemble", target, "-o", "json"];
    arguments.extend(sources.iter().map(String::as_str));
    arguments.extend(more);
    shop.quorate(&arguments)
}

/// The digest of the index, once everything that it names is in the shop's repository.
#[track_caller]
fn complete(shop: &Shop, run: Run, images: &[Image]) -> String {
    let document = run.exits(0).json();
    let digest = document["image"]["digest"].as_str().unwrap().to_owned();
    for image in images {
        let manifest = client::manifest(&shop.host(), "acme/app", &image.manifest_digest).unwrap();
        assert_eq!((manifest.status, manifest.body), (200, image.manifest.clone()));
        for (digest, content) in [(&image.config_digest, &image.config), (&image.layer_digest, &image.layer)]
        {
            let blob = client::get(&shop.host(), &format!("/v2/acme/app/blobs/{digest}"), None).unwrap();
            assert_eq!((blob.status, &blob.body), (200, content));
        }
    }
    digest
}

fn reads_of_blobs(registry: &Registry) -> usize {
    registry.log().iter().filter(|r| r.method == "GET" && r.path.contains("/blobs/")).count()
}

#[test]
fn the_same_images_make_the_same_index_wherever_they_come_from() {
    let shop = Shop::open();
    let images = push(&shop.host(), "acme/app");
    let here = assemble(&shop, &shop.at("here"), &sources(&shop.repository()), &[]);
    let expected = complete(&shop, here, &images);

    // Another registry.
    let (shop, other) = (Shop::open(), Registry::start(RegistryOptions::default()));
    push(&other.host(), "builds/app");
    let there = sources(&format!("{}/builds/app", other.host()));
    other.clear_log();
    assert_eq!(complete(&shop, assemble(&shop, &shop.at("c"), &there, &[]), &images), expected);
    assert!(other.writes().is_empty(), "a source is only read");
    assert_eq!(shop.named("c").as_deref(), Some(expected.as_str()));
    // What is there is not fetched again: the configurations alone are read.
    other.clear_log();
    assert_eq!(complete(&shop, assemble(&shop, &shop.at("d"), &there, &[]), &images), expected);
    assert_eq!(reads_of_blobs(&other), 2);

    // A layout, written and read.
    let shop = Shop::open();
    let layout = |name: &str| format!("oci:{}", shop.path(name).display());
    let run = assemble(&shop, &format!("{}:candidate", layout("disk")), &there, &[]).exits(0);
    assert_eq!(run.json()["image"]["digest"], expected.as_str());
    let named = [format!("{}:candidate", layout("disk"))];
    assert_eq!(complete(&shop, assemble(&shop, &shop.at("c"), &named, &[]), &images), expected);
    let again = assemble(&shop, &layout("disk"), &there, &[]).exits(0);
    assert_eq!(again.json()["image"]["digest"], expected.as_str());
    // From one layout to another, by digest.
    let by_digest = [format!("{}@{expected}", layout("disk"))];
    let run = assemble(&shop, &layout("second"), &by_digest, &[]).exits(0);
    assert_eq!(run.json()["image"]["digest"], expected.as_str());
    let layer = images[0].layer_digest.strip_prefix("sha256:").unwrap();
    assert_eq!(fs::read(shop.path("second").join("blobs/sha256").join(layer)).unwrap(), images[0].layer);
}

#[test]
fn a_neighbouring_repository_is_mounted_where_the_registry_can() {
    let shop = Shop::open();
    let images = push(&shop.host(), "builds/app");
    let there = sources(&format!("{}/builds/app", shop.host()));
    shop.bed.registry.clear_log();
    let run = assemble(&shop, &shop.at("c"), &there, &[]);
    let mounts = |shop: &Shop| {
        let log = shop.bed.registry.log();
        log.iter().filter(|r| r.query.as_deref().is_some_and(|query| query.contains("mount="))).count()
    };
    assert_eq!(mounts(&shop), 4);
    let read = reads_of_blobs(&shop.bed.registry);
    complete(&shop, run, &images);
    assert_eq!(read, 2, "nothing is read but the configurations");
}

#[test]
fn a_dry_run_brings_nothing() {
    let (shop, other) = (Shop::open(), Registry::start(RegistryOptions::default()));
    push(&other.host(), "builds/app");
    let there = sources(&format!("{}/builds/app", other.host()));
    assemble(&shop, &shop.at("c"), &there, &["--dry-run"]).exits(0);
    assert!(shop.bed.registry.log().is_empty());
    let target = format!("oci:{}", shop.path("disk").display());
    assemble(&shop, &target, &there, &["--dry-run"]).exits(0);
    assert!(!shop.path("disk").exists());
}

#[test]
fn what_comes_over_is_what_its_digest_says_or_nothing_is_named() {
    let images = ARCHITECTURES.map(|architecture| shop::build(architecture, "hello"));
    let mut longer = images[1].layer.clone();
    longer.push(0);
    let mut other_bytes = images[1].layer.clone();
    other_bytes[0] ^= 1;
    let bytes = |bytes: &[u8]| Answer::status(200).body("application/octet-stream", bytes);
    for (answer, code, says) in [
        (bytes(&other_bytes), 3, "registry-digest-mismatch"),
        (bytes(&images[1].layer[1..]), 3, "registry-digest-mismatch"),
        (bytes(&longer), 3, "registry-too-large"),
        (Answer::status(404), 2, "does not have the blob"),
        (Answer::status(403), 3, "registry-denied"),
        (Answer::status(500), 3, "registry-server-error"),
    ] {
        let (shop, other) = (Shop::open(), Registry::start(RegistryOptions::default()));
        push(&other.host(), "builds/app");
        let there = sources(&format!("{}/builds/app", other.host()));
        other.fault(Fault::new(FaultAction::Status(answer.clone())).path(&images[1].layer_digest));
        assemble(&shop, &shop.at("c"), &there, &[]).exits(code).says(says);
        assert_eq!(shop.named("c"), None);
        let named = client::manifest(&shop.host(), "acme/app", &images[1].manifest_digest).unwrap();
        assert_eq!(named.status, 404, "{answer:?}");
        let uploads = shop.bed.registry.log().into_iter().filter(|r| {
            r.method == "PUT"
                && r.query.as_ref().is_some_and(|query| query.contains(&images[1].layer_digest[7..]))
        });
        for upload in uploads {
            assert_eq!(upload.status, None, "{answer:?}: no blob was sent to its end");
        }
        other.clear_faults();
        complete(&shop, assemble(&shop, &shop.at("c"), &there, &[]), &images);
    }
}

/// How often a blob was read, and how often it was sent to its end.
fn passed(from: &Registry, to: &Registry, digest: &str) -> (usize, usize) {
    let reads = from.log().into_iter().filter(|r| r.method == "GET" && r.path.ends_with(digest));
    let uploads = to.log().into_iter().filter(|r| {
        r.method == "PUT"
            && r.status == Some(201)
            && r.query.as_ref().is_some_and(|q| q.contains(&digest[7..]))
    });
    (reads.count(), uploads.count())
}

#[test]
fn a_blob_is_sent_while_it_is_read() {
    let latency = Duration::from_millis(60);
    let shop = Shop::new(RegistryOptions { latency, ..RegistryOptions::default() });
    let other = Registry::start(RegistryOptions { latency, ..RegistryOptions::default() });
    // More than is read at once.
    let files: [(&str, &[u8], u32); 1] = [("data", &vec![7; 8 << 20], 0o644)];
    let image = Image::build("linux", "amd64", None, &files);
    image.push(&other.host(), "builds/app", "git-1-amd64").unwrap();
    let there = [format!("{}/builds/app:git-1-amd64", other.host())];
    shop.bed.registry.clear_log();
    other.clear_log();
    // It does not lie anywhere in between.
    let run = |target: &str| {
        let arguments = ["assemble", target, &there[0], "--platforms", "linux/amd64", "-o", "json"];
        shop.quorate_with(&arguments, &[("TMPDIR", "absent")])
    };
    complete(&shop, run(&shop.at("c")), std::slice::from_ref(&image));
    assert_eq!(passed(&other, &shop.bed.registry, &image.layer_digest), (1, 1));
    // The upload is begun before the blob is answered.
    let (read, sent) = (other.log(), shop.bed.registry.log());
    let read = read.iter().find(|r| r.path.ends_with(&image.layer_digest)).unwrap();
    let begun: Vec<_> = sent.iter().filter(|r| r.method == "POST").collect();
    assert_eq!(begun.len(), 2);
    assert!(
        begun.iter().any(|post| post.started < read.ended.unwrap() && read.started < post.ended.unwrap())
    );
}

#[test]
fn what_fails_on_the_way_is_read_whole_and_sent_again() {
    let status = |code| FaultAction::Status(Answer::status(code));
    // Where it fails, how, how often the layer is then read, and what is said if it fails for good.
    for (at_source, method, action, reads, says) in [
        (true, "GET", FaultAction::HalfBody, 2, "registry-unreachable"),
        (true, "GET", FaultAction::Reset, 2, "registry-unreachable"),
        (true, "GET", status(503), 2, "registry-server-error"),
        (false, "PUT", FaultAction::Reset, 2, "registry-unreachable"),
        (false, "PUT", status(503), 2, "registry-server-error"),
        (false, "PUT", status(401), 2, "registry-denied"),
        (false, "PUT", status(403), 2, "registry-denied"),
    ] {
        let (shop, other) = (Shop::open(), Registry::start(RegistryOptions::default()));
        let images = push(&other.host(), "builds/app");
        let there = sources(&format!("{}/builds/app", other.host()));
        let layer = &images[1].layer_digest;
        let fault = Fault::new(action.clone()).method(method).path(&layer[7..]);
        let faulty = if at_source { &other } else { &shop.bed.registry };
        faulty.fault(fault.clone());
        assemble(&shop, &shop.at("c"), &there, &["--timeout", "20"]).exits(3).says(says);
        assert_eq!(shop.named("c"), None, "{method} {action:?}");
        assert_eq!(passed(&other, &shop.bed.registry, layer).1, 0, "{method} {action:?}");
        faulty.clear_faults();
        faulty.fault(fault.times(1));
        other.clear_log();
        complete(&shop, assemble(&shop, &shop.at("c"), &there, &[]), &images);
        assert_eq!(passed(&other, &shop.bed.registry, layer), (reads, 1), "{method} {action:?}");
    }
}

#[test]
fn a_layout_that_was_changed_is_refused() {
    let shop = Shop::open();
    let images = push(&shop.host(), "acme/app");
    let layout = format!("oci:{}:candidate", shop.path("disk").display());
    let at = |digest: &str| shop.path("disk/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    for (digest, content, says) in [
        (&images[0].layer_digest, &images[0].layer, "of digest"),
        (&images[0].config_digest, &images[0].config, "holds other bytes"),
        (&images[0].manifest_digest, &images[0].manifest, "holds other bytes"),
    ] {
        let _ = fs::remove_dir_all(shop.path("disk"));
        assemble(&shop, &layout, &sources(&shop.repository()), &[]).exits(0);
        let mut changed = content.clone();
        changed[0] ^= 1;
        fs::write(at(digest), changed).unwrap();
        let other = Registry::start(RegistryOptions::default());
        let run =
            assemble(&shop, &format!("{}/acme/app:c", other.host()), std::slice::from_ref(&layout), &[]);
        assert!(run.code == 2 || run.code == 3, "{}", run.stderr);
        run.says(says);
        let written = other.writes();
        assert!(!written.iter().any(|r| r.path.ends_with("/manifests/c")), "{written:?}");
    }
    fs::write(at(&images[0].manifest_digest), &images[0].manifest).unwrap();
    fs::remove_file(at(&images[0].layer_digest)).unwrap();
    let other = Registry::start(RegistryOptions::default());
    let target = format!("{}/acme/app:c", other.host());
    assemble(&shop, &target, &[layout], &[]).exits(2).says("does not have the blob");
    fs::write(shop.path("empty"), "").unwrap();
    let none = format!("oci:{}", shop.path("empty").display());
    assemble(&shop, &target, &[none], &[]).exits(2).says("is not an OCI image layout");
}

#[test]
fn the_content_is_checked_when_asked_for() {
    let shop = Shop::open();
    let check = |tags: [&str; 2]| {
        let sources = tags.map(|tag| shop.at(tag));
        shop.bed.registry.clear_log();
        assemble(&shop, &shop.at("c"), &sources, &["--check-content"])
    };
    shop.push("git-1-amd64", "amd64", "hello");
    let arm64 = shop.push("git-1-arm64", "arm64", "hello");
    check(["git-1-amd64", "git-1-arm64"]).exits(0);
    arm64.gzip(6).push(&shop.host(), "acme/app", "gzip-arm64").unwrap();
    check(["git-1-amd64", "gzip-arm64"]).exits(0);
    shop::zstd(&arm64).push(&shop.host(), "acme/app", "zstd-arm64").unwrap();
    check(["git-1-amd64", "zstd-arm64"]).exits(0);

    // The configuration says arm64, the program is for amd64.
    let program = image::minimal_elf("amd64");
    let wrong = Image::build("linux", "arm64", None, &[("bin/app", &program, 0o755)]);
    wrong.push(&shop.host(), "acme/app", "wrong-arm64").unwrap();
    let refused = check(["git-1-amd64", "wrong-arm64"]).exits(1).says("programs-mismatch").json();
    assert_eq!(refused["reason"], "programs-mismatch");
    assert!(refused["detail"].as_str().unwrap().contains("`bin/app` is for x86-64 (64 bits)"), "{refused}");
    assert!(shop.bed.registry.writes().is_empty());
    shop::zstd(&wrong).push(&shop.host(), "acme/app", "wrong-zstd-arm64").unwrap();
    let refused = check(["git-1-amd64", "wrong-zstd-arm64"]).exits(1).json();
    assert_eq!(refused["reason"], "programs-mismatch");
    assert!(shop.bed.registry.writes().is_empty());
    // Nobody looked.
    assemble(&shop, &shop.at("c"), &[shop.at("git-1-amd64"), shop.at("wrong-arm64")], &[]).exits(0);

    // Programs of other machines beside the right one are data.
    let right = image::minimal_elf("arm64");
    let files: [(&str, &[u8], u32); 2] = [("bin/app", &right, 0o755), ("firmware", &program, 0o755)];
    Image::build("linux", "arm64", None, &files).push(&shop.host(), "acme/app", "both-arm64").unwrap();
    check(["git-1-amd64", "both-arm64"]).exits(0);
    let scripts: [(&str, &[u8], u32); 1] = [("bin/app", b"#!/bin/sh\n", 0o755)];
    Image::build("linux", "arm64", None, &scripts).push(&shop.host(), "acme/app", "script-arm64").unwrap();
    check(["git-1-amd64", "script-arm64"]).exits(0);

    // The blob is gone from the registry.
    shop.bed.registry.fault(Fault::new(FaultAction::Status(Answer::status(404))).path(&arm64.layer_digest));
    let refused = check(["git-1-amd64", "git-1-arm64"]).exits(1).json();
    assert_eq!(refused["reason"], "content-mismatch");
    assert!(refused["detail"].as_str().unwrap().contains("layer-absent"), "{refused}");
    assert!(shop.bed.registry.writes().is_empty());
}
