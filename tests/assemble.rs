//! `assemble`: where images come from, what may not stand together, and what is written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs;

use quorate_bed::image::{self, Image, MANIFEST};
use quorate_bed::{Answer, Fault, FaultAction, client};
use serde_json::{Value, json};
use shop::{COMMIT, OTHER_COMMIT, Run, Shop};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const REVISION: &str = "org.opencontainers.image.revision";

/// Runs, expects exit code and words, a hint, and that nothing was written.
#[track_caller]
fn refused(shop: &Shop, arguments: &[&str], code: i32, says: &str) {
    shop.bed.registry.clear_log();
    let run = shop.quorate(arguments).exits(code).says(says);
    assert!(run.stderr.contains("hint: "), "no hint: {}", run.stderr);
    assert!(shop.bed.registry.writes().is_empty(), "something was written");
}

/// Runs twice, as text and as JSON: exit code 1, this reason, and nothing written.
#[track_caller]
fn no_release(shop: &Shop, arguments: &[&str], reason: &str) {
    refused(shop, arguments, 1, reason);
    let json = shop.quorate(&[arguments, &["-o", "json"]].concat()).exits(1).json();
    assert_eq!((&json["outcome"], &json["reason"]), (&json!("refused"), &json!(reason)));
    assert!(json["hint"].is_string());
}

/// A shop whose policy is of no account, with an image for each of two architectures.
fn shop() -> Shop {
    let shop = Shop::open();
    shop.push("git-1-amd64", "amd64", "hello");
    shop.push("git-1-arm64", "arm64", "hello");
    shop
}

/// The digest of the index of `shop`'s two images.
fn expected(shop: &Shop) -> String {
    let run = assemble(shop, &shop.repository(), &["git-1-amd64", "git-1-arm64"], &["--dry-run"]);
    run.exits(0).json()["image"]["digest"].as_str().unwrap().to_owned()
}

fn assemble(shop: &Shop, target: &str, sources: &[&str], more: &[&str]) -> Run {
    let sources: Vec<String> = sources.iter().map(|tag| shop.at(tag)).collect();
    let mut arguments = vec!["assemble", target, "-o", "json"];
    arguments.extend(sources.iter().map(String::as_str));
    arguments.extend(more);
    shop.quorate(&arguments)
}

fn children(document: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let children = document["manifests"].as_array().unwrap();
    children.iter().map(|child| (text(&child["platform"]), text(&child["digest"]))).collect()
}

/// An image with another configuration and manifest, made by `change` from those it has.
fn changed(architecture: &str, change: impl Fn(&mut Value, &mut Value)) -> Image {
    let image = shop::build(architecture, "hello");
    let mut config: Value = serde_json::from_slice(&image.config).unwrap();
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    change(&mut config, &mut manifest);
    let config = config.to_string().into_bytes();
    manifest["config"]["digest"] = image::digest(&config).into();
    manifest["config"]["size"] = config.len().into();
    let manifest = manifest.to_string().into_bytes();
    Image {
        config_digest: image::digest(&config),
        config,
        manifest_digest: image::digest(&manifest),
        manifest,
        ..image
    }
}

fn push(shop: &Shop, image: &Image, tag: &str) {
    image.push(&shop.host(), "acme/app", tag).unwrap();
}

fn put(shop: &Shop, reference: &str, media_type: &str, document: &Value) -> String {
    let bytes = document.to_string().into_bytes();
    let status = client::put_manifest(&shop.host(), "acme/app", reference, media_type, &bytes).unwrap();
    assert_eq!(status, 201, "{reference}");
    image::digest(&bytes)
}

/// Answers with a document that a registry which checks what it is given would not have.
fn serve(shop: &Shop, tag: &str, content_type: &str, document: &Value) {
    let answer = Answer::status(200).body(content_type, document.to_string());
    let fault = Fault::new(FaultAction::Status(answer));
    shop.bed.registry.fault(fault.path(&format!("manifests/{tag}")));
}

fn entry(digest: &str, size: usize, platform: &str) -> Value {
    let (os, architecture) = platform.split_once('/').unwrap();
    json!({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": {"os": os, "architecture": architecture}})
}

fn index(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
}

/// What BuildKit pushes for one platform: an index of the image and its provenance.
fn push_with_provenance(shop: &Shop, tag: &str, architecture: &str) -> (Image, Image) {
    let image = shop.push(&format!("{tag}-bare"), architecture, "hello");
    let provenance = changed("amd64", |config, _| {
        config["os"] = "unknown".into();
        config["architecture"] = "unknown".into();
    });
    push(shop, &provenance, &provenance.manifest_digest);
    let mut attestation = entry(&provenance.manifest_digest, provenance.manifest.len(), "unknown/unknown");
    attestation["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image.manifest_digest,
    });
    let platform = format!("linux/{architecture}");
    put(
        shop,
        tag,
        INDEX,
        &index(&[entry(&image.manifest_digest, image.manifest.len(), &platform), attestation]),
    );
    (image, provenance)
}

#[test]
fn every_kind_of_source_gives_the_same_index() {
    let shop = shop();
    let digest = expected(&shop);
    let images = [shop::build("amd64", "hello"), shop::build("arm64", "hello")];
    fs::create_dir(shop.path("digests")).unwrap();
    fs::create_dir(shop.path("handed-over")).unwrap();
    for (image, system) in images.iter().zip(["x86_64-linux", "aarch64-linux"]) {
        push(&shop, image, &format!("git-1-{system}"));
        let hex = image.manifest_digest.strip_prefix("sha256:").unwrap();
        shop.write(&format!("digests/{hex}"), "");
    }
    shop.write(
        "handed-over/image-amd64.env",
        format!(
            "RUN_ATTR=#packages.x86_64-linux.app-image.passthru.copyTo\nIMAGE_NAME=app\nIMAGE_DIGEST={}\n",
            images[0].manifest_digest
        ),
    );
    shop.write("handed-over/image-other.env", "RUN_ATTR=#other\nIMAGE_NAME=other\n");
    let descriptor = entry(&images[1].manifest_digest, images[1].manifest.len(), "linux/arm64");
    shop.write("handed-over/arm64.json", descriptor.to_string());
    shop.write(
        "buildx.json",
        json!({"containerimage.digest": images[0].manifest_digest, "image.name": shop.repository()})
            .to_string(),
    );
    let plan = |arm64: Value| {
        json!({"version": 1, "repository": shop.repository(), "images": [
            {"system": "x86_64-linux", "suffix": "amd64"}, arm64,
        ]})
        .to_string()
    };
    shop.write("plan.json", plan(json!({"system": "aarch64-linux", "suffix": "aarch64-linux"})));
    shop.write(
        "plan-digest.json",
        plan(json!({"system": "aarch64-linux", "digest": images[1].manifest_digest})),
    );
    let (target, arm64) = (shop.at("git-1"), shop.at("git-1-arm64"));
    for (number, sources) in [
        vec!["--from-tags", &target, "--arch", "amd64,arm64"],
        vec!["--from-tags", &target, "--arch", "aarch64-linux,x86_64-linux"],
        vec!["--digests", "digests"],
        vec!["--descriptor", "handed-over"],
        vec!["--descriptor", "buildx.json", "--descriptor", "handed-over/arm64.json"],
        vec!["--descriptor", "buildx.json", &arm64],
        vec!["--plan", "plan.json"],
        vec!["--plan", "plan-digest.json"],
    ]
    .iter()
    .enumerate()
    {
        let document =
            shop.quorate(&[&["assemble", &target, "-o", "json"], &sources[..]].concat()).exits(0).json();
        assert_eq!(document["image"]["digest"], digest.as_str(), "source {number}");
    }
    assert_eq!(shop.named("git-1"), Some(digest.clone()));
    // Options can come from the environment, and then need no SOURCE either.
    for environment in [
        &[("QUORATE_DIGESTS", "digests")][..],
        &[("QUORATE_FROM_TAGS", target.as_str()), ("QUORATE_ARCH", "amd64,arm64")],
        &[("QUORATE_DESCRIPTOR", "buildx.json\nhanded-over/arm64.json")],
    ] {
        let run = shop.quorate_with(&["assemble", &target, "-o", "json"], environment);
        assert_eq!(run.exits(0).json()["image"]["digest"], digest.as_str());
    }
}

#[test]
fn counts_are_bounded() {
    let shop = shop();
    let (target, amd64) = (shop.at("git-1"), shop.at("git-1-amd64"));
    let tags: Vec<String> = (0..101).map(|number| format!("pr-{number}")).collect();
    refused(&shop, &["assemble", &target, &amd64, "--tag", &tags.join(",")], 2, "at most 100");
    let many = [&["assemble", target.as_str()], &[amd64.as_str(); 65][..]].concat();
    refused(&shop, &many, 2, "65 sources");
    let image = shop::build("amd64", "hello");
    let entries = vec![entry(&image.manifest_digest, image.manifest.len(), "linux/amd64"); 65];
    serve(&shop, "crowd", INDEX, &index(&entries));
    refused(&shop, &["assemble", &target, &shop.at("crowd")], 2, "an index of 65 images");
    fs::create_dir(shop.path("crowd")).unwrap();
    for number in 0..1001 {
        shop.write(&format!("crowd/{number:064x}"), "");
    }
    refused(&shop, &["assemble", &target, "--digests", "crowd"], 2, "more than 1000 files");
}

#[test]
fn an_index_among_the_sources_stands_for_its_images() {
    let shop = shop();
    let plain = expected(&shop);
    let (amd64, provenance) = push_with_provenance(&shop, "git-2-amd64", "amd64");
    push_with_provenance(&shop, "git-2-arm64", "arm64");
    let document = assemble(&shop, &shop.at("git-2"), &["git-2-amd64", "git-2-arm64"], &[]).exits(0).json();
    assert_eq!(document["image"]["digest"], plain.as_str(), "nothing of the attestations is left");
    assert_eq!(document["manifests"][0]["source"], shop.at("git-2-amd64"));
    assert_eq!(document["leftOut"].as_array().unwrap().len(), 2);
    assert_eq!(document["leftOut"][0], provenance.manifest_digest.as_str());
    // The index of a release, again.
    let again = assemble(&shop, &shop.at("git-3"), &["git-2"], &[]).exits(0).json();
    assert_eq!(again["image"]["digest"], plain.as_str());

    // One mark alone does not make an image disappear.
    let image = entry(&amd64.manifest_digest, amd64.manifest.len(), "linux/amd64");
    let mut marked = image.clone();
    marked["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    put(&shop, "marked", INDEX, &index(&[marked]));
    let document = assemble(&shop, &shop.repository(), &["marked", "git-1-arm64"], &[]).exits(0).json();
    assert_eq!(document["image"]["digest"], plain.as_str(), "and the mark is not taken over");
    let nameless = entry(&provenance.manifest_digest, provenance.manifest.len(), "unknown/unknown");
    put(&shop, "nameless", INDEX, &index(&[nameless]));
    no_release(&shop, &["assemble", &shop.at("x"), &shop.at("nameless")], "platform-unknown");
}

#[test]
fn an_index_that_is_no_set_of_images_is_refused() {
    let shop = shop();
    let amd64 = shop::build("amd64", "hello");
    let size = amd64.manifest.len();
    let good = entry(&amd64.manifest_digest, size, "linux/amd64");
    let inner = index(std::slice::from_ref(&good));
    let inner_digest = put(&shop, "inner", INDEX, &inner);
    let with = |key: &str, value: Value| {
        let mut entry = good.clone();
        entry[key] = value;
        entry
    };
    let absent = format!("sha256:{}", "0".repeat(64));
    let mut nested = entry(&inner_digest, inner.to_string().len(), "linux/amd64");
    nested["mediaType"] = INDEX.into();
    for (name, entry, reason) in [
        ("nested", nested, "source-nested"),
        (
            "schema1",
            with("mediaType", json!("application/vnd.docker.distribution.manifest.v1+json")),
            "source-not-an-image",
        ),
        ("arch", with("platform", json!({"os": "linux", "architecture": "arm64"})), "platform-mismatch"),
        (
            "variant",
            with("platform", json!({"os": "linux", "architecture": "arm", "variant": "v7"})),
            "platform-mismatch",
        ),
        ("size", with("size", json!(size + 1)), "descriptor-mismatch"),
        (
            "type",
            with("mediaType", json!("application/vnd.docker.distribution.manifest.v2+json")),
            "descriptor-mismatch",
        ),
        ("data", with("data", json!("YQ==")), "source-malformed"),
        ("absent", with("digest", json!(absent)), "source-malformed"),
    ] {
        serve(&shop, &format!("bad-{name}"), INDEX, &index(&[entry]));
        let source = shop.at(&format!("bad-{name}"));
        no_release(&shop, &["assemble", &shop.at("x"), &source, "--platforms", "linux/amd64"], reason);
    }
    put(&shop, "empty", INDEX, &index(&[]));
    no_release(&shop, &["assemble", &shop.at("x"), &shop.at("empty")], "source-not-an-image");
    let named = shop.at("inner");
    shop.quorate(&["assemble", &shop.at("x"), &named, "--platforms", "linux/amd64"]).exits(0);
}

#[test]
fn what_is_handed_over_is_held_against_the_image() {
    let shop = shop();
    let [amd64, arm64] = ["amd64", "arm64"].map(|architecture| shop::build(architecture, "hello"));
    let (target, source) = (shop.at("x"), shop.at("git-1-arm64"));
    let env = |system: &str| {
        format!("IMAGE_NAME=app\nRUN_ATTR=#packages.{system}.app\nIMAGE_DIGEST={}\n", amd64.manifest_digest)
    };
    let descriptor = entry(&amd64.manifest_digest, amd64.manifest.len(), "linux/amd64");
    let other = |key: &str, value: Value| {
        let mut other = descriptor.clone();
        other[key] = value;
        other.to_string()
    };
    let plan = |system: &str| {
        json!({"version": 1, "repository": shop.repository(), "images": [
            {"system": system, "tag": "git-1-amd64"},
        ]})
        .to_string()
    };
    for (file, good, bad, reason) in [
        ("a.env", env("x86_64-linux"), env("riscv64-linux"), "platform-mismatch"),
        ("a.json", descriptor.to_string(), other("size", json!(1)), "descriptor-mismatch"),
        (
            "b.json",
            descriptor.to_string(),
            other("platform", json!({"os": "linux", "architecture": "386"})),
            "platform-mismatch",
        ),
        ("plan.json", plan("x86_64-linux"), plan("aarch64-linux"), "platform-mismatch"),
    ] {
        let option = if file == "plan.json" { "--plan" } else { "--descriptor" };
        let arguments = ["assemble", &target, &source, option, file];
        shop.write(file, bad);
        no_release(&shop, &arguments, reason);
        shop.write(file, good);
        let document = shop.quorate(&[&arguments[..], &["-o", "json"]].concat()).exits(0).json();
        let platforms = [("linux/amd64", &amd64), ("linux/arm64", &arm64)];
        assert_eq!(children(&document), platforms.map(|(p, i)| (p.to_owned(), i.manifest_digest.clone())));
    }
}

#[test]
fn malformed_files_are_refused_before_anything_is_asked() {
    let shop = shop();
    let target = shop.at("x");
    let hex = "0123456789abcdef".repeat(4);
    let folder = |name: &str, files: &[(&str, &str)]| {
        fs::create_dir(shop.path(name)).unwrap();
        for (file, content) in files {
            shop.write(&format!("{name}/{file}"), content);
        }
    };
    folder("none", &[]);
    folder("upper", &[(&hex.to_uppercase(), "")]);
    folder("short", &[(&hex, ""), (&hex[1..], "")]);
    folder("full", &[(&hex, "content")]);
    folder("hidden", &[(&hex, ""), (".DS_Store", "")]);
    folder("unmerged", &[]);
    fs::create_dir(shop.path("unmerged/digests-linux-amd64")).unwrap();
    folder("text", &[("a.txt", "")]);
    folder("others", &[("image-other.env", "IMAGE_NAME=other\n")]);
    folder("shell", &[("image-app.env", "IMAGE_NAME=$(touch pwned)\n")]);
    folder("bare", &[("image-app.env", "IMAGE_NAME=app\nRUN_ATTR=#app.copyTo\n")]);
    folder("twice", &[("a.json", &format!(r#"{{"digest":"sha256:{hex}","digest":"sha256:{hex}"}}"#))]);
    shop.write("plan.json", r#"{"version":1,"repository":"r.example/app","images":[]}"#);
    shop.bed.registry.clear_log();
    for (option, path, says) in [
        ("--digests", "absent", "cannot read the folder"),
        ("--digests", "none", "is empty"),
        ("--digests", "upper", "64 lower-case hex digits"),
        ("--digests", "short", "64 lower-case hex digits"),
        ("--digests", "full", "7 bytes"),
        ("--digests", "hidden", "64 lower-case hex digits"),
        ("--digests", "unmerged", "merge-multiple"),
        ("--descriptor", "none", "is empty"),
        ("--descriptor", "text", "neither `.json` nor `.env`"),
        ("--descriptor", "others", "names no image"),
        ("--descriptor", "shell", "no shell reads it"),
        ("--descriptor", "bare", "IMAGE_DIGEST is missing"),
        ("--descriptor", "twice", "duplicate key"),
        ("--plan", "plan.json", "not for"),
    ] {
        shop.quorate(&["assemble", &target, option, path]).exits(2).says(says);
    }
    let digest = format!("{}@sha256:{hex}", shop.repository());
    shop.quorate(&["assemble", &target, "--from-tags", &digest, "--arch", "amd64"])
        .exits(2)
        .says("is not a tag");
    for (arguments, says) in [
        (vec!["--from-tags", &target], "--arch"),
        (vec!["--from-tags", &target, "--arch", "x86"], "not an architecture"),
        (vec!["--arch", "amd64"], "--from-tags"),
        (vec![], "SOURCE"),
    ] {
        shop.quorate(&[&["assemble", &target], &arguments[..]].concat()).exits(2).says(says);
    }
    assert!(shop.bed.registry.log().is_empty(), "nothing is asked");
    assert!(!shop.path("pwned").exists());
    // A digest of another repository, or of nothing.
    fs::remove_file(shop.path("hidden/.DS_Store")).unwrap();
    refused(&shop, &["assemble", &target, "--digests", "hidden"], 2, "there is no image");
}

#[test]
fn the_platforms_are_those_that_were_asked_for() {
    let shop = shop();
    shop.push("git-1-riscv64", "riscv64", "hello");
    let (amd64, arm64, riscv64) = (shop.at("git-1-amd64"), shop.at("git-1-arm64"), shop.at("git-1-riscv64"));
    let target = shop.at("git-1");
    let policy = shop.policy(2);
    let rule = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    shop.write("optional.toml", policy.replace(rule, &format!("{rule}optional = [\"linux/riscv64\"]\n")));
    let two = ["assemble", &target, &amd64, &arm64];
    let three = ["assemble", &target, &amd64, &arm64, &riscv64];
    for (arguments, reason) in [
        (vec!["assemble", &target, &amd64], "platform-missing"),
        (three.to_vec(), "platform-extra"),
        ([&two[..], &["--platforms", "linux/amd64"]].concat(), "platform-extra"),
        ([&two[..], &["--platforms", "linux/amd64,linux/arm64,linux/riscv64"]].concat(), "platform-missing"),
        (vec!["assemble", &target, &arm64, &riscv64, "--policy", "optional.toml"], "platform-missing"),
    ] {
        no_release(&shop, &arguments, reason);
    }
    for arguments in [
        two.to_vec(),
        [&two[..], &["--platforms", "linux/arm64/v8,linux/amd64"]].concat(),
        [&two[..], &["--policy", "optional.toml"]].concat(),
        [&three[..], &["--policy", "optional.toml"]].concat(),
        vec!["assemble", &target, &amd64, "--platforms", "linux/amd64"],
    ] {
        shop.quorate(&arguments).exits(0);
    }
}

#[test]
fn the_images_are_of_one_commit() {
    let shop = shop();
    let labelled = |architecture: &str, label: Option<&str>, annotation: Option<&str>| {
        changed(architecture, |config, manifest| {
            if let Some(revision) = label {
                config["config"]["Labels"] = json!({ REVISION: revision });
            }
            if let Some(revision) = annotation {
                manifest["annotations"] = json!({ REVISION: revision });
            }
        })
    };
    let dirty = format!("{COMMIT}-dirty");
    for (tag, architecture, label, annotation) in [
        ("good-amd64", "amd64", Some(COMMIT), None),
        ("good-arm64", "arm64", None, Some(COMMIT)),
        ("both-arm64", "arm64", Some(COMMIT), Some(COMMIT)),
        ("other-arm64", "arm64", Some(OTHER_COMMIT), None),
        ("torn-arm64", "arm64", Some(COMMIT), Some(OTHER_COMMIT)),
        ("dirty-arm64", "arm64", Some(dirty.as_str()), None),
    ] {
        push(&shop, &labelled(architecture, label, annotation), tag);
    }
    let target = shop.at("x");
    let (good, silent) = (shop.at("good-amd64"), shop.at("git-1-arm64"));
    for (second, plain, with_commit) in [
        ("good-arm64", None, None),
        ("both-arm64", None, None),
        ("git-1-arm64", None, Some("revision-missing")),
        ("other-arm64", Some("revisions-differ"), Some("revision-mismatch")),
        ("torn-arm64", Some("revisions-differ"), Some("revision-mismatch")),
        ("dirty-arm64", Some("revisions-differ"), Some("revision-mismatch")),
    ] {
        let second = shop.at(second);
        let without = ["assemble", &target, &good, &second];
        let with = ["assemble", &target, &good, &second, "--commit", COMMIT];
        for (arguments, reason) in [(&without[..], plain), (&with[..], with_commit)] {
            match reason {
                Some(reason) => no_release(&shop, arguments, reason),
                None => drop(shop.quorate(arguments).exits(0)),
            }
        }
    }
    no_release(&shop, &["assemble", &target, &good, &silent, "--commit", OTHER_COMMIT], "revision-mismatch");
    refused_option(&shop, &["assemble", &target, &good, &silent, "--commit", "main"], "not a commit");
}

#[track_caller]
fn refused_option(shop: &Shop, arguments: &[&str], says: &str) {
    shop.bed.registry.clear_log();
    shop.quorate(arguments).exits(2).says(says);
    assert!(shop.bed.registry.log().is_empty(), "something was asked");
}

#[test]
fn ambiguous_manifests_are_refused() {
    let shop = shop();
    let target = shop.at("x");
    let good = shop::build("amd64", "hello");
    let manifest: Value = serde_json::from_slice(&good.manifest).unwrap();
    let with = |key: &str, value: Value| {
        let mut manifest = manifest.clone();
        manifest[key] = value;
        manifest
    };
    let mut foreign = manifest.clone();
    foreign["layers"][0]["urls"] = json!(["https://elsewhere.example/layer"]);
    let mut inlined = manifest.clone();
    inlined["layers"][0]["data"] = json!("YQ==");
    let no_type = {
        let mut manifest = manifest.clone();
        manifest.as_object_mut().unwrap().remove("mediaType");
        manifest
    };
    for (name, document, content_type, code, says) in [
        ("both", with("manifests", json!([])), MANIFEST, 1, "source-malformed"),
        ("version", with("schemaVersion", json!(1)), MANIFEST, 1, "source-malformed"),
        ("urls", foreign, MANIFEST, 1, "source-malformed"),
        ("data", inlined, MANIFEST, 1, "source-malformed"),
        ("artifact", with("artifactType", json!("application/x")), MANIFEST, 1, "source-not-an-image"),
        ("header", manifest.clone(), INDEX, 3, "registry-malformed"),
        ("no-type", no_type, MANIFEST, 3, "registry-malformed"),
        (
            "schema1",
            json!({"schemaVersion": 1, "fsLayers": []}),
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            3,
            "registry-malformed",
        ),
    ] {
        serve(&shop, &format!("bad-{name}"), content_type, &document);
        shop.bed.registry.clear_log();
        let source = shop.at(&format!("bad-{name}"));
        shop.quorate(&["assemble", &target, &source, "--platforms", "linux/amd64"]).exits(code).says(says);
        assert!(shop.bed.registry.writes().is_empty(), "{name}");
    }
    shop.quorate(&["assemble", &target, &shop.at("git-1-amd64"), "--platforms", "linux/amd64"]).exits(0);
}

#[test]
fn the_index_is_named_by_every_candidate_tag() {
    let shop = shop();
    let digest = expected(&shop);
    let images = ["git-1-amd64", "git-1-arm64"];
    let document = assemble(&shop, &shop.at("git-1"), &images, &["--tag", "pr-7", "--tag", "branch,git-1"]);
    assert_eq!(document.exits(0).json()["tags"], json!(["git-1", "pr-7", "branch"]));
    for tag in ["git-1", "pr-7", "branch"] {
        assert_eq!(shop.named(tag).as_ref(), Some(&digest));
    }
    let document = assemble(&shop, &shop.repository(), &images, &["--tag", "only"]).exits(0).json();
    assert_eq!((&document["tags"], shop.named("only")), (&json!(["only"]), Some(digest.clone())));

    // By digest alone: one write, and no tag.
    shop.bed.registry.clear_log();
    assert_eq!(assemble(&shop, &shop.repository(), &images, &[]).exits(0).json()["tags"], json!([]));
    let writes: Vec<String> = shop.bed.registry.writes().iter().map(|write| write.path.clone()).collect();
    assert_eq!(writes, [format!("/v2/acme/app/manifests/{digest}")]);

    let (target, source) = (shop.at("git-1"), shop.at("git-1-amd64"));
    let evidence = format!("sha256-{}.q-github.0", "0".repeat(64));
    for tag in ["latest", "1.0.0", &evidence] {
        refused(&shop, &["assemble", &target, &source, "--tag", tag], 2, "does not write the tag");
    }
}

#[test]
fn a_tag_that_could_not_be_written_is_named() {
    let shop = shop();
    let refuse = Fault::status(403).method("PUT").path("manifests/pr-7");
    shop.bed.registry.fault(refuse);
    let run = assemble(&shop, &shop.at("git-1"), &["git-1-amd64", "git-1-arm64"], &["--tag", "pr-7"]);
    let run = run.exits(3).says("is named git-1; whether it is named pr-7 is not known");
    assert!(run.stderr.contains("registry-denied"));
    assert!(shop.named("git-1").is_some() && shop.named("pr-7").is_none());
}

#[test]
fn annotations_go_where_buildx_puts_them() {
    let shop = shop();
    let images = ["git-1-amd64", "git-1-arm64"];
    let more = [
        "--annotation=a=index",
        "--annotation=index:b:c=too",
        "--annotation=manifest-descriptor:d=each",
        "--annotation=manifest-descriptor[linux/arm64/v8]:d=arm64",
        "--commit-time=1763700000",
    ];
    let document = assemble(&shop, &shop.at("git-1"), &images, &more).exits(0).json();
    let written: Value =
        serde_json::from_slice(&client::manifest(&shop.host(), "acme/app", "git-1").unwrap().body).unwrap();
    let index =
        json!({"a": "index", "b:c": "too", "org.opencontainers.image.created": "2025-11-21T04:40:00Z"});
    assert_eq!(written["annotations"], index);
    assert_eq!(document["annotations"], index);
    let of = |document: &Value| {
        document["manifests"].as_array().unwrap().iter().map(|m| m["annotations"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of(&written), [json!({"d": "each"}), json!({"d": "arm64"})]);
    assert_eq!(of(&document), of(&written));
    let again = assemble(&shop, &shop.at("git-1"), &["git-1-arm64", "git-1-amd64"], &more).exits(0).json();
    assert_eq!(again["image"], document["image"], "the same bytes, whenever they are made");

    let (target, amd64, arm64) = (shop.at("x"), shop.at("git-1-amd64"), shop.at("git-1-arm64"));
    let two = ["assemble", &target, &amd64, &arm64];
    no_release(
        &shop,
        &[&two[..], &["--annotation=manifest-descriptor[linux/386]:a=b"]].concat(),
        "annotation-platform",
    );
    for (option, says) in [
        ("--annotation=a", "KEY=VALUE"),
        ("--annotation=manifest:a=b", "level `manifest`"),
        ("--annotation=com:a=b", "`com` is not a level"),
        ("--annotation=manifest-descriptor[arm64]:a=b", "not a platform"),
        ("--commit-time=2026-01-01", "seconds since 1970"),
        ("--commit-time=-1", "seconds since 1970"),
    ] {
        refused_option(&shop, &[&two[..], &[option]].concat(), says);
    }
    let twice = ["--commit-time=1", "--annotation=org.opencontainers.image.created=now"];
    refused_option(&shop, &[&two[..], &twice].concat(), "given twice");
}

#[test]
fn annotations_of_a_descriptor_file_go_into_the_index() {
    let shop = shop();
    let amd64 = shop::build("amd64", "hello");
    let mut descriptor = entry(&amd64.manifest_digest, amd64.manifest.len(), "linux/amd64");
    descriptor["annotations"] = json!({"a": "file", "b": "file"});
    shop.write("amd64.json", descriptor.to_string());
    let more = ["--descriptor", "amd64.json", "--annotation", "manifest-descriptor:b=given"];
    let document = assemble(&shop, &shop.repository(), &["git-1-arm64"], &more).exits(0).json();
    assert_eq!(document["manifests"][0]["annotations"], json!({"a": "file", "b": "given"}));
    assert_eq!(document["manifests"][1]["annotations"], json!({"b": "given"}));
}

#[test]
fn the_bytes_of_the_index_can_be_had() {
    let shop = shop();
    let digest = expected(&shop);
    let (amd64, arm64, target) = (shop.at("git-1-amd64"), shop.at("git-1-arm64"), shop.at("git-1"));
    let dry = ["assemble", &target, &amd64, &arm64, "--raw", "--dry-run"];
    shop.bed.registry.clear_log();
    let run = shop.quorate(&dry).exits(0);
    assert!(shop.bed.registry.writes().is_empty());
    assert_eq!(image::digest(run.stdout.as_bytes()), digest, "to the byte, without an end of line");
    refused(&shop, &[&dry[..], &["-o", "json"]].concat(), 2, "two results");
    let run = shop.quorate(&dry[..5]).exits(0);
    assert_eq!(run.stdout.as_bytes(), client::manifest(&shop.host(), "acme/app", "git-1").unwrap().body);
}

#[test]
fn files_name_what_was_written() {
    let shop = shop();
    let digest = expected(&shop);
    let images = ["git-1-amd64", "git-1-arm64"];
    let files = ["--digest-file", "digest", "--metadata-file", "metadata.json"];
    let more = [&files[..], &["--tag", "pr-7", "--dry-run"]].concat();
    assemble(&shop, &shop.at("git-1"), &images, &more).exits(0);
    assert!(
        !shop.path("digest").exists() && !shop.path("metadata.json").exists(),
        "a dry run writes nothing"
    );
    let document = assemble(&shop, &shop.at("git-1"), &images, &more[..6]).exits(0).json();
    assert_eq!(fs::read_to_string(shop.path("digest")).unwrap(), digest);
    let metadata: Value = serde_json::from_slice(&fs::read(shop.path("metadata.json")).unwrap()).unwrap();
    assert_eq!(
        metadata,
        json!({
            "containerimage.descriptor": {"mediaType": INDEX, "digest": digest, "size": document["size"]},
            "containerimage.digest": digest,
            "image.name": format!("{},{}", shop.at("git-1"), shop.at("pr-7")),
        })
    );
    // It can be handed over again.
    let again = shop.quorate(&["assemble", &shop.at("x"), "--descriptor", "metadata.json", "-o", "json"]);
    assert_eq!(again.exits(0).json()["image"]["digest"], digest.as_str());

    // The index is written, and the file is not.
    let more = ["--digest-file", "absent/digest"];
    assemble(&shop, &shop.at("git-1"), &images, &more).exits(3).says("is written, but not `absent/digest`");
    no_release(
        &shop,
        &["assemble", &shop.at("x"), &shop.at("git-1-amd64"), "--digest-file", "none"],
        "platform-missing",
    );
    assert!(!shop.path("none").exists());
}

#[test]
fn tags_and_annotations_come_from_docker_metadata_action() {
    let shop = shop();
    let (amd64, arm64, repository) = (shop.at("git-1-amd64"), shop.at("git-1-arm64"), shop.repository());
    let run = |tags: &[&str], more: &[&str]| {
        let tags: Vec<String> =
            tags.iter().map(|tag| shop.at(tag)).chain(["acme/app:sha-1".to_owned()]).collect();
        let output = json!({
            "tags": tags,
            "labels": {"org.opencontainers.image.created": "2026-01-01T00:00:00.000Z"},
            "annotations": [
                "index:org.opencontainers.image.title=app",
                "index:org.opencontainers.image.created=2026-01-01T00:00:00.000Z",
                "manifest:org.opencontainers.image.title=app",
            ],
        })
        .to_string();
        let arguments =
            [&["assemble", &repository, &amd64, &arm64, "--docker-metadata", "-o", "json"], more].concat();
        shop.bed.registry.clear_log();
        shop.quorate_with(&arguments, &[("DOCKER_METADATA_OUTPUT_JSON", &output)])
    };
    let done = run(&["sha-1", "pr-7"], &[]).exits(0);
    let title = json!({"org.opencontainers.image.title": "app"});
    assert_eq!((&done.json()["tags"], &done.json()["annotations"]), (&json!(["sha-1", "pr-7"]), &title));
    for note in ["tags of other repositories", "annotations of manifests", "is the time of its run"] {
        assert!(done.stderr.contains(note), "{note}: {}", done.stderr);
    }
    let mine = run(&["sha-1"], &["--annotation", "org.opencontainers.image.title=mine"]).exits(0).json();
    assert_eq!(mine["annotations"]["org.opencontainers.image.title"], "mine");
    for (tags, says) in [
        (&["sha-1", "latest"][..], "does not write the tag `latest`"),
        (&["1.0.0"], "does not write the tag `1.0.0`"),
        (&[], "no tag in"),
    ] {
        let refused = run(tags, &[]).exits(2).says(says);
        assert!(refused.stderr.contains("hint: "), "{}", refused.stderr);
        assert_eq!(says.contains("`latest`"), refused.stderr.contains("flavor: latest=false"));
        assert!(shop.bed.registry.log().is_empty(), "{says}");
    }
    // It is not read unless that is asked for.
    shop.quorate(&["assemble", &repository, &amd64, &arm64, "--docker-metadata"])
        .exits(2)
        .says("cannot read DOCKER");
    let output = json!({"tags": [shop.at("latest")]}).to_string();
    let unasked = shop.quorate_with(
        &["assemble", &repository, &amd64, &arm64, "-o", "json"],
        &[("DOCKER_METADATA_OUTPUT_JSON", &output)],
    );
    assert_eq!(unasked.exits(0).json()["tags"], json!([]));
}
