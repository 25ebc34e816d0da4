//! `verify` of one image or many, on all platforms or some, and without a network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use quorate_bed::image::{self, Image};
use quorate_bed::{Fault, client};
use serde_json::json;
use shop::{AMD64, ARM64, Release, Shop, cell};

const BOTH: [&str; 2] = ["github", "garnix"];

fn by_digest(shop: &Shop, release: &Release) -> String {
    format!("{}@{}", shop.repository(), release.digest)
}

#[test]
fn a_tag_is_resolved_once_and_named() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &BOTH);
    let run = shop.quorate(&["verify", &release.reference]).exits(0);
    let headline = run.stdout.lines().next().unwrap();
    assert_eq!(headline, format!("✓ met  {} (tag git-1)", by_digest(&shop, &release)));
    let document = shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(0).json();
    assert_eq!((&document["tag"], &document["notes"]), (&"git-1".into(), &serde_json::json!([])));
    shop.bed.registry.clear_log();
    let document = shop.quorate(&["verify", &by_digest(&shop, &release), "-o", "json"]).exits(0).json();
    assert!(document["tag"].is_null());
    assert!(shop.bed.registry.log().iter().all(|request| !request.path.contains("git-1")));
}

#[test]
fn of_several_images_the_gravest_answer_counts() {
    let shop = Shop::open();
    let (good, short) = (shop.release("git-1", "hello"), shop.release("git-2", "other"));
    shop.attest_all(&good, &BOTH);
    let (good, short) = (good.reference, short.reference);
    let (absent, elsewhere) = (shop.at("absent"), "localhost:1/acme/app:1".to_owned());
    let run = |images: &[&str], code: i32| {
        let arguments = [&["verify", "--timeout", "5", "-o", "json"], images].concat();
        shop.quorate(&arguments).exits(code).json()
    };
    let met = run(&[&good, &good], 0);
    assert_eq!(met["verdict"], "met");
    assert_eq!(met["images"][1]["reference"], good.as_str());
    assert_eq!(met["images"][1]["result"], shop.quorate(&["verify", &good, "-o", "json"]).json());
    // A "no" weighs most: nothing that is tried again mends it.
    for (images, code, verdict) in [
        (vec![&good, &short], 1, Some("short")),
        (vec![&short, &absent, &elsewhere, &good], 1, Some("short")),
        (vec![&good, &elsewhere, &absent], 2, None),
        (vec![&elsewhere, &good], 3, None),
    ] {
        let images: Vec<&str> = images.into_iter().map(String::as_str).collect();
        let document = run(&images, code);
        assert_eq!(document["verdict"].as_str(), verdict, "{images:?}");
        assert_eq!(document["images"].as_array().unwrap().len(), images.len());
        for (at, image) in images.iter().enumerate() {
            let one = &document["images"][at];
            assert_eq!(
                (one["reference"].as_str(), one["result"]["verdict"] == "met"),
                (Some(*image), *image == good)
            );
        }
    }
    let text =
        shop.quorate(&["verify", &good, &short, &absent]).exits(1).says("the quorum is not met").stdout;
    assert!(text.contains("✓ met") && text.contains("✗ short") && text.contains("✗ undecided"), "{text}");
}

#[test]
fn only_the_platforms_asked_for_need_the_quorum() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    for builder in BOTH {
        shop.attest(&release, builder, AMD64.1, &[]).exits(0);
    }
    let verify = |platform: &str, code: i32| {
        shop.quorate(&["verify", &release.reference, "--platform", platform, "-o", "json"]).exits(code).json()
    };
    shop.quorate(&["verify", &release.reference]).exits(1);
    let met = verify("linux/amd64", 0);
    assert_eq!(met["platforms"].as_array().unwrap().len(), 1);
    assert_eq!(met["platforms"][0]["platform"], "linux/amd64");
    assert_eq!(verify("linux/arm64", 1)["verdict"], "short");
    assert_eq!(verify("linux/amd64,linux/arm64", 1)["verdict"], "short");
    let absent = verify("linux/riscv64", 1);
    assert_eq!(absent["refusals"][0]["reason"], "platform-missing");

    // Who disagrees over one platform disagrees with the release.
    let other = shop::build("arm64", "something else");
    shop.attest_as(&release.reference, "basement", ARM64.1, &other.config_digest, &["--record-dissent"])
        .exits(0);
    let refused = verify("linux/amd64", 1);
    assert_eq!(refused["verdict"], "dissent");
    assert_eq!(cell(&refused, "linux/arm64", "basement"), "dissent signed-dissent");
    // What is met for some platforms moves no tag: `promote` has no such option.
    shop.quorate(&["promote", &release.reference, "--tag", "latest", "--platform", "linux/amd64"]).exits(2);
}

/// A layout with the release in it, and a folder with the bundles of these builders.
fn on_disk(shop: &Shop, builders: &[&str]) -> (Release, String) {
    let release = shop.release("git-1", "hello");
    fs::create_dir(shop.path("bundles")).unwrap();
    for builder in builders {
        for (architecture, system) in [AMD64, ARM64] {
            let file = format!("bundles/{builder}-{architecture}.json");
            shop.attest(&release, builder, system, &["--bundle-out", &file, "--no-attach"]).exits(0);
        }
    }
    let [amd64, arm64] = ["amd64", "arm64"].map(|name| shop.at(&format!("git-1-{name}")));
    shop.quorate(&["assemble", "oci:layout:git-1", &amd64, &arm64]).exits(0);
    let reference = by_digest(shop, &release);
    (release, reference)
}

#[test]
fn a_layout_and_bundles_are_judged_without_a_network() {
    let shop = Shop::open();
    let (release, image) = on_disk(&shop, &BOTH);
    shop.bed.registry.clear_log();
    let offline = ["--layout", "layout", "-o", "json"];
    let run = |image: &str, more: &[&str]| shop.quorate(&[&["verify", image], &offline[..], more].concat());
    let met = run(&image, &["--bundle", "bundles"]).exits(0).json();
    assert_eq!((&met["verdict"], &met["notes"][0]["code"]), (&"met".into(), &"files-alone".into()));
    assert_eq!(run(&release.reference, &["--bundle", "bundles"]).exits(0).json()["tag"], "git-1");
    // One platform of each builder: it is short, whatever else is given twice.
    let some = "bundles/github-amd64.json,bundles/garnix-amd64.json,bundles/github-arm64.json,bundles/github-arm64.json";
    assert_eq!(run(&image, &["--bundle", some]).exits(1).json()["verdict"], "short");
    assert_eq!(run(&image, &[]).exits(1).json()["verdict"], "short");
    run(&shop.at("absent"), &["--bundle", "bundles"]).exits(2).says("there is no image");
    assert!(shop.bed.registry.log().is_empty(), "the registry was not asked");
    shop.quorate(&["verify", &image, "--layout", "bundles"]).exits(2).says("not an OCI image layout");
}

#[test]
fn bundles_from_files_are_heard_beside_those_of_the_registry() {
    let shop = Shop::open();
    let (release, image) = on_disk(&shop, &["garnix"]);
    shop.attest_all(&release, &["github"]);
    let run = |more: &[&str]| shop.quorate(&[&["verify", &image, "-o", "json"], more].concat());
    assert_eq!(run(&[]).exits(1).json()["verdict"], "short");
    let met = run(&["--bundle", "bundles"]).exits(0).json();
    assert_eq!((&met["verdict"], &met["notes"]), (&"met".into(), &serde_json::json!([])));
    // A file that is no bundle counts for nothing, and says so.
    shop.write("junk.json", "{}");
    let junk = run(&["--bundle", "junk.json"]).exits(1).json();
    assert_eq!(junk["ignored"][0]["reason"], "bundle-version");
    // What it says stands in no line of its own.
    for forged in [r#"{"x\n✓ met  forged":1}"#, r#"{"mediaType":"x\n✓ met  forged"}"#] {
        shop.write("forged.json", forged);
        let told = shop.quorate(&["verify", &image, "--bundle", "forged.json"]).exits(1).stdout;
        assert!(told.contains("ignored") && !told.contains("\n✓"), "{told}");
    }
    fs::create_dir(shop.path("empty")).unwrap();
    run(&["--bundle", "empty"]).exits(2).says("has no bundle");
    run(&["--bundle", "absent.json"]).exits(2).says("cannot read");
    // A registry that fails is not made good by files.
    shop.bed.registry.fault(Fault::status(500).method("GET").path("/referrers/"));
    run(&["--bundle", "bundles", "--timeout", "3"]).exits(3);
}

#[test]
fn what_was_seen_before_a_revocation_counts_and_what_came_after_does_not() {
    let shop = Shop::open();
    let (before, after) = (shop.release("git-1", "hello"), shop.release("git-2", "later"));
    let hour = Duration::from_secs(3600);
    shop.bed.tsa.set_time(Some(SystemTime::now() - 2 * hour));
    shop.attest_all(&before, &["basement"]);
    shop.bed.tsa.set_time(None);
    shop.attest_all(&after, &["basement"]);
    for release in [&before, &after] {
        shop.attest_all(release, &["github"]);
    }
    let judged = |release: &Release, code: i32| {
        let document = shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(code).json();
        cell(&document, "linux/amd64", "basement")
    };
    for release in [&before, &after] {
        assert_eq!(judged(release, 0), "counted");
    }
    let from = Timestamp::try_from(SystemTime::now() - hour).unwrap().strftime("%Y-%m-%dT%H:%M:%SZ");
    let revoked = format!("operator = \"Acme\"\nrevoked = {{ from = {from} }}\n");
    shop.write("quorate.toml", shop.policy(2).replace("operator = \"Acme\"\n", &revoked));
    assert_eq!(judged(&before, 0), "counted");
    assert_eq!(judged(&after, 1), "rejected key-revoked");
    // Whoever has the key now repeats the earlier word: that adds nothing, and takes nothing away.
    for (_, system) in [AMD64, ARM64] {
        shop.attest(&before, "basement", system, &["--again"]).exits(0);
    }
    assert_eq!(judged(&before, 0), "counted");
}

/// Attaches a megabyte that is no bundle, where a bundle would be.
fn attach_junk(shop: &Shop, subject: &Image, n: usize) {
    let junk = format!("{n:02}").into_bytes().repeat(500_000);
    let blob = |bytes: &[u8], media_type: &str| {
        let digest = image::digest(bytes);
        let upload = format!("/v2/acme/app/blobs/uploads/?digest={digest}");
        assert_eq!(client::send(&shop.host(), "POST", &upload, &[], bytes).unwrap().status, 201);
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let mut layer = blob(&junk, bundle);
    layer["data"] = STANDARD.encode(&junk).into();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": image::MANIFEST, "artifactType": bundle,
        "config": blob(b"{}", "application/vnd.oci.empty.v1+json"), "layers": [layer],
        "subject": { "mediaType": image::MANIFEST, "digest": subject.manifest_digest, "size": subject.manifest.len() },
    });
    let manifest = manifest.to_string().into_bytes();
    let put =
        client::put_manifest(&shop.host(), "acme/app", &image::digest(&manifest), image::MANIFEST, &manifest);
    assert_eq!(put.unwrap(), 201);
}

#[test]
fn what_hangs_on_one_image_takes_no_room_from_another() {
    let shop = Shop::open();
    let full = [("git-1", "1"), ("git-2", "2"), ("git-3", "3")].map(|(name, sequence)| {
        let release = shop.agreed(name, sequence);
        (0..9).for_each(|n| attach_junk(&shop, &release.images[0], n));
        by_digest(&shop, &release)
    });
    for image in &full {
        shop.quorate(&["verify", image]).exits(0);
    }
    let small = by_digest(&shop, &shop.agreed("git-4", "4"));
    let mut all = vec!["verify", "-o", "json"];
    all.extend(full.iter().chain([&small]).map(String::as_str));
    let document = shop.quorate(&all).exits(0).json();
    assert_eq!(document["verdict"], "met");
}
