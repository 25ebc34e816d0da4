//! `quorate push`: what is sent, what is not sent again, and what is refused before anything is.

#![cfg(all(feature = "cli", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod shop;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use quorate_bed::image::{self, Image};
use quorate_bed::{Fault, client};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};
use shop::{AMD64, ARM64, COMMIT, Shop, build};

/// A store path, and the layer that nix2container made of it: this digest was printed there.
const STORE_PATH: &str = "/nix/store/adsqalsl9zr9d29a0pzzbshib0hv9nbl-root";
const LAYER: &str = "sha256:ffe521ae04a0f5b88ce85b2232414b6fca18c02a266571be888e05883e0e4fad";
const LAYER_SIZE: u64 = 3072;
/// The manifest of the image below: it follows from its JSON.
const MANIFEST: &str = "sha256:fab65e82017ea140075f8ca9e5d931de649be8973621519f02daac8290555913";
/// The layer as it is compressed here. Another compressor would give another one: then say so in
/// the notes of the release.
const COMPRESSED: &str = "sha256:ec421eab2d93a047f940f9dbcb43d244c2f17d41ac6dfd88490ea437328a8591";

/// The store path, in a store below a folder.
struct Store<'a>(&'a Shop);

impl<'a> Store<'a> {
    fn new(shop: &'a Shop) -> Self {
        let store = Self(shop);
        let path = store.path();
        fs::create_dir_all(path.join("bin")).unwrap();
        fs::create_dir(path.join("tmp")).unwrap();
        symlink("/nix/store/wawf1mrkrycr69y1818vdazwkrpkcizr-app/bin/app", path.join("bin/app")).unwrap();
        store.mode(0o555);
        store
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path("root").join(STORE_PATH.trim_start_matches('/'))
    }

    fn mode(&self, bits: u32) {
        for folder in ["bin", "tmp", ""] {
            let _ = fs::set_permissions(self.path().join(folder), Permissions::from_mode(bits));
        }
    }
}

impl Drop for Store<'_> {
    /// So that the folder can be removed.
    fn drop(&mut self) {
        self.mode(0o755);
    }
}

/// What nix2container leaves, for one architecture.
fn image_json(architecture: &str) -> Value {
    json!({
        "version": 1,
        "image-config": {"Entrypoint": ["/bin/app"]},
        "layers": [{
            "digest": LAYER, "size": LAYER_SIZE, "diff_ids": LAYER,
            "paths": [{"path": STORE_PATH, "options": {
                "rewrite": {"regex": format!("^{STORE_PATH}"), "repl": ""},
                "perms": [{"regex": ".*/tmp", "mode": "1777", "uid": 7, "gid": 0, "uname": "", "gname": "g"}],
            }}],
            "mediatype": "application/vnd.oci.image.layer.v1.tar",
            "History": {"created_by": "nix2container"},
        }],
        "arch": architecture,
        "created": "0001-01-01T00:00:00Z",
    })
}

/// Something that is done to a store.
type Step<'a> = &'a dyn Fn();

fn push(more: &[&str]) -> Vec<String> {
    let base = ["push", "result", "--store-root", "root", "-o", "json"];
    base.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

fn run(shop: &Shop, more: &[&str]) -> shop::Run {
    let words = push(more);
    shop.quorate(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn digest(document: &Value) -> String {
    document["image"]["digest"].as_str().unwrap().to_owned()
}

/// A blob of the repository.
fn blob(shop: &Shop, repository: &str, digest: &str) -> Option<Vec<u8>> {
    let answer = client::get(&shop.host(), &format!("/v2/{repository}/blobs/{digest}"), None).unwrap();
    (answer.status == 200).then_some(answer.body)
}

fn count(shop: &Shop, method: &str, part: &str) -> usize {
    let log = shop.bed.registry.log();
    log.iter()
        .filter(|request| {
            let all = format!("{}?{}", request.path, request.query.as_deref().unwrap_or_default());
            request.method == method && all.contains(part)
        })
        .count()
}

#[test]
fn a_build_is_pushed_assembled_and_attested() {
    let shop = Shop::open();
    let _store = Store::new(&shop);
    for (architecture, system) in [AMD64, ARM64] {
        shop.write("result", image_json(architecture).to_string());
        let foretold = run(&shop, &["--dry-run", &shop.at("git-1"), "--suffix", "arch"]).exits(0).json();
        assert_eq!(foretold["outcome"], "dry-run");
        assert!(shop.named(&format!("git-1-{architecture}")).is_none());
        let pushed = run(&shop, &[&shop.at("git-1"), "--suffix", "arch"]).exits(0).json();
        assert_eq!(pushed["outcome"], "pushed");
        assert_eq!(pushed["system"], system);
        assert_eq!(digest(&pushed), digest(&foretold));
        assert_eq!(shop.named(&format!("git-1-{architecture}")), Some(digest(&pushed)));
        let layer = blob(&shop, "acme/app", LAYER).unwrap();
        assert_eq!((image::digest(&layer), layer.len() as u64), (LAYER.to_owned(), LAYER_SIZE));
        fs::copy(shop.path("result"), shop.path(&format!("result-{system}"))).unwrap();
    }
    let from = shop.at("git-1");
    shop.quorate(&["assemble", &from, "--from-tags", &from, "--arch", "amd64,arm64", "--check-content"])
        .exits(0);
    for (_, system) in [AMD64, ARM64] {
        let result = format!("result-{system}");
        let key = ["--builder", "github", "--key", "github.key", "--commit", COMMIT, "--sequence", "1"];
        let arguments = ["attest", &from, "--system", system, "--result", &result];
        shop.quorate(&[&arguments[..], &key].concat()).exits(0);
    }
}

#[test]
fn the_digest_follows_from_the_build() {
    let shop = Shop::open();
    shop.write("result", image_json("amd64").to_string());
    // Without its store paths, and without a registry.
    let run = run(&shop, &["--dry-run", "r.example/app"]).exits(0).json();
    assert_eq!(digest(&run), MANIFEST);
    assert!(shop.bed.registry.log().is_empty());
}

#[test]
fn what_is_there_is_not_sent_again() {
    let shop = Shop::open();
    let store = Store::new(&shop);
    shop.write("result", image_json("amd64").to_string());
    run(&shop, &[&shop.at("git-1-amd64")]).exits(0);
    shop.bed.registry.clear_log();
    // Not even read.
    fs::rename(store.path(), shop.path("away")).unwrap();
    run(&shop, &[&shop.at("git-2-amd64")]).exits(0);
    fs::rename(shop.path("away"), store.path()).unwrap();
    assert_eq!(count(&shop, "POST", "blobs/uploads"), 0);
    let writes = shop.bed.registry.writes();
    assert_eq!(
        writes.iter().map(|w| w.path.as_str()).collect::<Vec<_>>(),
        ["/v2/acme/app/manifests/git-2-amd64"]
    );
}

#[test]
fn a_second_repository_takes_the_blobs_from_the_first() {
    let shop = Shop::open();
    let _store = Store::new(&shop);
    shop.write("result", image_json("amd64").to_string());
    let mirror = format!("{}/mirror/app", shop.host());
    let document = run(&shop, &[&shop.repository(), &mirror]).exits(0).json();
    assert_eq!(count(&shop, "POST", "mirror/app/blobs/uploads/?mount="), 2);
    assert_eq!(count(&shop, "PUT", "mirror/app/blobs"), 0);
    assert!(blob(&shop, "mirror/app", LAYER).is_some());
    let manifest = client::manifest(&shop.host(), "mirror/app", &digest(&document)).unwrap();
    assert_eq!(manifest.status, 200);
}

#[test]
fn store_paths_that_are_not_those_of_the_build_are_refused() {
    let shop = Shop::open();
    let store = Store::new(&shop);
    shop.write("result", image_json("amd64").to_string());
    let away = |shop: &Shop| {
        shop.bed.registry.clear_log();
        run(shop, &[&shop.at("git-1-amd64")])
    };
    let path = store.path().join("tmp");
    let changes: [(&str, Step, Step); 3] = [
        ("a file more", &|| fs::write(path.join("new"), "x").unwrap(), &|| {
            fs::remove_file(path.join("new")).unwrap();
        }),
        (
            "other rights",
            &|| fs::set_permissions(store.path().join("bin"), Permissions::from_mode(0o755)).unwrap(),
            &|| fs::set_permissions(store.path().join("bin"), Permissions::from_mode(0o555)).unwrap(),
        ),
        ("nothing there", &|| fs::rename(&path, shop.path("away")).unwrap(), &|| {
            fs::rename(shop.path("away"), &path).unwrap();
        }),
    ];
    // Nothing of it may hang on who runs the test.
    store.mode(0o755);
    fs::set_permissions(store.path(), Permissions::from_mode(0o755)).unwrap();
    for (what, change, back) in changes {
        store.mode(0o755);
        change();
        let failed = away(&shop).exits(1).says("layer-differs");
        assert!(!failed.stderr.contains("panic"), "{what}");
        assert_eq!(failed.json()["outcome"], "failed", "{what}");
        assert_eq!(count(&shop, "PUT", "manifests"), 0, "{what}");
        assert!(blob(&shop, "acme/app", LAYER).is_none(), "{what}");
        store.mode(0o755);
        back();
    }
    // A store path that is not there at all is no other content.
    fs::rename(store.path(), shop.path("gone")).unwrap();
    away(&shop).exits(2).says("cannot be read");
    assert_eq!(count(&shop, "PUT", "manifests"), 0);
    fs::rename(shop.path("gone"), store.path()).unwrap();
    store.mode(0o555);
    away(&shop).exits(0);
}

#[test]
fn archives_and_layouts_are_pushed_alike() {
    let shop = Shop::open();
    let image = build("arm64", "hello");
    let archive = image.docker_archive();
    shop.write("image.tar", &archive);
    shop.write("image.tar.gz", gzip(&archive));
    shop.write("image.tar.zst", compress_to_vec(archive.as_slice(), CompressionLevel::Fastest));
    shop.write("stream", "#!/bin/sh\nexec cat image.tar\n");
    fs::set_permissions(shop.path("stream"), Permissions::from_mode(0o755)).unwrap();
    layout(&shop.path("layout"), &image);
    let layout = shop.quorate(&["push", "layout", &shop.at("layout"), "-o", "json"]).exits(0).json();
    // A layout has its manifest already.
    assert_eq!(digest(&layout), image.manifest_digest);
    let mut digests = Vec::new();
    for source in ["image.tar", "image.tar.gz", "image.tar.zst", "stream"] {
        let fresh = Shop::open();
        let target = format!("{}/app", fresh.host());
        let document = shop.quorate(&["push", source, &target, "--run", "-o", "json"]).exits(0).json();
        assert_eq!(document["configDigest"], image.config_digest, "{source}");
        assert_eq!(blob(&fresh, "app", &image.layer_digest).unwrap(), image.layer, "{source}");
        assert_eq!(blob(&fresh, "app", &image.config_digest).unwrap(), image.config, "{source}");
        digests.push(digest(&document));
        let named = shop.quorate(&["push", "oci:layout", &target, "-o", "json"]).exits(0).json();
        assert_eq!(digest(&named), image.manifest_digest);
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn a_program_is_run_on_request_and_told_no_secrets() {
    let shop = Shop::open();
    let image = build("arm64", "hello");
    shop.write("image.tar", image.docker_archive());
    shop.write("stream", "#!/bin/sh\nenv > told\nexec cat image.tar\n");
    fs::set_permissions(shop.path("stream"), Permissions::from_mode(0o755)).unwrap();
    let secret = [("GITHUB_TOKEN", "secret")];
    shop.quorate_with(&["push", "stream", &shop.at("x")], &secret).exits(2).says("is a program");
    assert!(!shop.path("told").exists() && shop.bed.registry.writes().is_empty());
    shop.quorate_with(&["push", "stream", &shop.at("x"), "--run"], &secret).exits(0);
    let told = fs::read_to_string(shop.path("told")).unwrap();
    assert!(told.contains("PATH=") && !told.contains("TOKEN"), "{told}");
}

#[test]
fn compressed_layers_are_the_same_each_time() {
    let shop = Shop::open();
    let _store = Store::new(&shop);
    shop.write("result", image_json("amd64").to_string());
    let gzip = |more: &[&str]| run(&shop, &[&["--compress", "gzip"], more].concat()).exits(0).json();
    let foretold = gzip(&["--dry-run", "r.example/app"]);
    assert!(shop.bed.registry.log().is_empty());
    let pushed = gzip(&[&shop.at("git-1-amd64")]);
    assert_eq!(digest(&pushed), digest(&foretold));
    let layer = &pushed["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(layer["digest"], COMPRESSED);
    // The configuration is that of the image as it was, and so is what is in the layer.
    assert_eq!(pushed["configDigest"], run(&shop, &["--dry-run", "r.example/app"]).json()["configDigest"]);
    let amd64 = shop.at("git-1-amd64");
    let platforms = ["--platforms", "linux/amd64", "--check-content"];
    shop.quorate(&[&["assemble", &shop.at("git-1"), &amd64], &platforms[..]].concat()).exits(0);
    layout(&shop.path("layout"), &build("amd64", "hello"));
    let refused = shop.quorate(&["push", "layout", &shop.at("x"), "--compress", "gzip"]);
    refused.exits(2).says("is sent as it is");
}

#[test]
fn tags_say_what_the_image_is_for() {
    let shop = Shop::open();
    shop.write("image.tar", build("arm64", "hello").docker_archive());
    let tags = |more: &[&str]| {
        let run = shop.quorate(&[&["push", "image.tar", "--dry-run", "-o", "json"], more].concat()).exits(0);
        let tags = run.json()["targets"][0]["tags"].clone();
        tags.as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let repository = shop.repository();
    for (more, expected) in [
        (vec![repository.as_str()], vec![]),
        (vec![&shop.at("a")], vec!["a".to_owned()]),
        (vec![&shop.at("a"), "--suffix", "arch"], vec!["a-arm64".to_owned()]),
        (vec![&shop.at("a"), "--suffix", "system"], vec!["a-aarch64-linux".to_owned()]),
        (vec![&shop.at("a-arm64"), "--suffix", "arch"], vec!["a-arm64".to_owned()]),
        (vec![&repository, "--tag-commit", COMMIT], vec![format!("git-{COMMIT}")]),
        (
            vec![&repository, "--tag-commit", COMMIT, "--commit-length", "7", "--suffix", "arch"],
            vec![format!("git-{}-arm64", &COMMIT[..7])],
        ),
        (vec![&repository, "--tag-commit", COMMIT, "--commit-prefix", "sha-"], vec![format!("sha-{COMMIT}")]),
        (vec![&repository, "--tag-pr", "7", "--tag", "b"], vec!["b".to_owned(), "pr-7".to_owned()]),
        (vec![&repository, "--tag-pr", "7", "--pr-prefix", "mr-"], vec!["mr-7".to_owned()]),
        (vec![&shop.at("a"), &shop.at("b")], vec!["a".to_owned(), "b".to_owned()]),
    ] {
        assert_eq!(tags(&more), expected, "{more:?}");
    }
}

#[test]
fn tags_of_releases_and_of_other_platforms_are_refused() {
    let shop = Shop::open();
    shop.write("image.tar", build("arm64", "hello").docker_archive());
    let push = |more: &[&str]| shop.quorate(&[&["push", "image.tar"], more].concat());
    for tag in ["latest", "1.4.2", "sha256-0123"] {
        push(&[&shop.at(tag)]).exits(2).says("does not write the tag");
        push(&[&shop.repository(), "--tag", tag]).exits(2).says("does not write the tag");
    }
    for tag in ["git-1-amd64", "git-1-x86_64-linux"] {
        push(&[&shop.at(tag)]).exits(1).says("suffix-mismatch");
        push(&[&shop.at(tag), "--suffix", "arch"]).exits(1).says("suffix-mismatch");
    }
    push(&[&shop.at("git-1"), "--system", "x86_64-linux"]).exits(1).says("platform-mismatch");
    push(&[&format!("{}@sha256:{}", shop.repository(), "0".repeat(64))]).exits(2);
    assert!(shop.bed.registry.writes().is_empty());
    push(&[&shop.at("git-1-arm64"), "--system", "aarch64-linux"]).exits(0);
}

#[test]
fn a_variant_that_the_image_leaves_open_is_never_guessed() {
    let shop = Shop::open();
    shop.write("image.tar", build("arm", "hello").docker_archive());
    let push = |more: &[&str]| shop.quorate(&[&["push", "image.tar", "-o", "json"], more].concat());
    push(&[&shop.at("git-1"), "--suffix", "arch"]).exits(1).says("platform-unknown");
    assert!(shop.bed.registry.writes().is_empty());
    let pushed = push(&[&shop.at("git-1"), "--suffix", "arch", "--system", "armv6l-linux"]).exits(0).json();
    assert_eq!(pushed["targets"][0]["tags"], json!(["git-1-armv6"]));
    assert_eq!(
        pushed["descriptor"]["platform"],
        json!({"os": "linux", "architecture": "arm", "variant": "v6"})
    );
    assert!(push(&[&shop.at("git-2")]).exits(0).json()["descriptor"]["platform"].is_null());
    push(&[&shop.at("git-1-armv7"), "--system", "armv6l-linux"]).exits(1).says("suffix-mismatch");
}

#[test]
fn all_targets_are_tried() {
    let shop = Shop::open();
    shop.write("image.tar", build("arm64", "hello").docker_archive());
    shop.bed.registry.fault(Fault::status(403).method("POST").path("/v2/acme/app/"));
    let mirror = format!("{}/mirror/app", shop.host());
    let files = ["--digest-file", "digest", "--digests-dir", "digests", "--descriptor", "images"];
    let targets = [shop.at("git-1"), format!("{mirror}:git-1")];
    let arguments = [&["push", "image.tar", &targets[0], &targets[1], "-o", "json"], &files[..]].concat();
    let failed = shop.quorate(&arguments).exits(3).says("1 of 2 targets");
    let document = failed.json();
    assert_eq!(document["outcome"], "failed");
    assert!(document["targets"][0]["error"]["message"].is_string());
    assert!(document["targets"][1]["error"].is_null());
    assert_eq!(client::manifest(&shop.host(), "mirror/app", "git-1").unwrap().status, 200);
    assert!(shop.named("git-1").is_none());
    for file in ["digest", "digests", "images"] {
        assert!(!shop.path(file).exists(), "{file} is handed over, and a target does not have the image");
    }

    shop.bed.registry.clear_faults();
    shop.quorate(&arguments).exits(0);
    assert_eq!(shop.named("git-1").as_deref(), document["image"]["digest"].as_str());
}

#[test]
fn what_is_handed_over_is_what_assemble_reads() {
    let shop = Shop::open();
    let mut digests = Vec::new();
    for (architecture, _) in [AMD64, ARM64] {
        shop.write("image.tar", build(architecture, "hello").docker_archive());
        let files = ["--digest-file", "digest", "--digests-dir", "digests", "--descriptor", "images"];
        let document =
            shop.quorate(&[&["push", "image.tar", &shop.repository(), "-o", "json"], &files[..]].concat());
        digests.push(digest(&document.exits(0).json()));
        assert_eq!(fs::read_to_string(shop.path("digest")).unwrap(), *digests.last().unwrap());
    }
    let mut handed: Vec<_> =
        fs::read_dir(shop.path("images")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    handed.sort();
    assert_eq!(handed, ["app-amd64.json", "app-arm64.json"]);
    let assembled = |option: &str, folder: &str| {
        let run = shop.quorate(&["assemble", &shop.at("git-1"), option, folder, "-o", "json"]).exits(0);
        run.json()["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|child| child["digest"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(assembled("--digests", "digests"), digests);
    assert_eq!(assembled("--descriptor", "images"), digests);
}

#[test]
fn what_is_no_image_is_refused() {
    let shop = Shop::open();
    let _store = Store::new(&shop);
    let good = image_json("amd64");
    let with = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed.to_string()
    };
    let options = "/layers/0/paths/0/options";
    let archive = build("amd64", "hello").docker_archive();
    for (what, content, says) in [
        ("no paths", with("/layers/0/paths", Value::Null), "neither `paths` nor a `layer-path`"),
        ("another digest", with("/layers/0/digest", json!(format!("sha256:{}", "0".repeat(64)))), "diff_id"),
        ("no media type", with("/layers/0/mediatype", json!("")), "has the media type ``"),
        ("no size", with("/layers/0/size", json!(0)), "has no size"),
        (
            "an option that is not known",
            with(options, json!({"ignoreDestination": "x"})),
            "unknown field `ignoreDestination`",
        ),
        (
            "no regular expression",
            with(&format!("{options}/rewrite/regex"), json!("(")),
            "no regular expression",
        ),
        ("a mode", with(&format!("{options}/perms/0/mode"), json!("9")), "the mode `9`"),
        ("a path", with("/layers/0/paths/0/path", json!("relative")), "not absolute"),
        ("a script that fails", "#!/bin/sh\ncat image.tar\nexit 1\n".to_owned(), "the program failed"),
        ("a script that prints no image", "#!/bin/sh\necho hello\n".to_owned(), "not a tar archive"),
        ("text", "hello".to_owned(), "holds no image"),
    ] {
        shop.write("image.tar", &archive);
        shop.write("result", content);
        fs::set_permissions(shop.path("result"), Permissions::from_mode(0o755)).unwrap();
        let refused = run(&shop, &[&shop.at("x"), "--run"]).exits(2);
        assert!(refused.stderr.contains(says), "{what}: {}", refused.stderr);
        // That is an option of `attest`.
        assert!(!refused.stderr.contains("--built-image"), "{what}: {}", refused.stderr);
    }
    shop.write("result", &archive[..archive.len() / 2]);
    run(&shop, &[&shop.at("x")]).exits(2).says("cut short");
    let mut tail = gzip(&archive);
    tail.extend(b"tail");
    shop.write("result", tail);
    run(&shop, &[&shop.at("x")]).exits(2).says("more follows");
    let release = shop.release("git-1", "hello");
    shop.quorate(&["assemble", "oci:index", &release.reference]).exits(0);
    shop.bed.registry.clear_log();
    shop.quorate(&["push", "index", &shop.at("x")]).exits(2).says("it is an index");
    assert!(shop.bed.registry.writes().is_empty());
    shop.write("result", good.to_string());
    run(&shop, &[&shop.at("x")]).exits(0);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes a layout of one image.
fn layout(folder: &Path, image: &Image) {
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    for bytes in [&image.layer, &image.config, &image.manifest] {
        let name = image::digest(bytes);
        fs::write(folder.join("blobs/sha256").join(name.trim_start_matches("sha256:")), bytes).unwrap();
    }
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": image::MANIFEST, "digest": image.manifest_digest, "size": image.manifest.len(),
    }]});
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
}
