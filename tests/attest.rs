//! What is attested, and where it goes: digests computed from the builder's own build.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use quorate_bed::image::Image;
use quorate_bed::{Fault, Log, RegistryOptions, Tsa, trusted_root};
use serde_json::{Value, json};
use shop::{AMD64, ARM64, COMMIT, NAR_HASH, OTHER_COMMIT, Run, Shop};

const BUILD: [&str; 8] =
    ["--builder", "github", "--key", "github.key", "--commit", COMMIT, "--sequence", "1763700000"];

/// `attest` without a word on the configuration.
fn attest(shop: &Shop, image: &str, system: &str, more: &[&str]) -> Run {
    let mut arguments = vec!["attest", image, "--system", system, "-o", "json"];
    arguments.extend(BUILD);
    arguments.extend(more);
    shop.quorate(&arguments)
}

fn predicate(shop: &Shop, system: &str, more: &[&str]) -> Run {
    let mut arguments = vec!["predicate", "--builder", "github", "--system", system];
    arguments.extend(["--commit", COMMIT, "--sequence", "1763700000"]);
    arguments.extend(more);
    shop.quorate(&arguments)
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What nix2container leaves for an image, and the image that it pushes: Go's escapes and order.
fn nix2container(architecture: &str) -> (String, Image) {
    let image = shop::build(architecture, "hello");
    let diff_id = &image.diff_id;
    let result = json!({
        "version": 1,
        "image-config": {"Env": ["A=<b>&c"], "Entrypoint": ["/bin/app"]},
        "layers": [{
            "digest": diff_id, "size": image.layer.len(), "diff_ids": diff_id,
            "paths": [{"path": "/nix/store/9myj8xyjqspbvgni5khi94my7d88ajda-app"}],
            "mediatype": "application/vnd.oci.image.layer.v1.tar",
            "History": {"created_by": "nix2container"},
        }],
        "arch": architecture,
        "created": "0001-01-01T00:00:00Z",
    });
    let config = format!(
        r#"{{"created":"0001-01-01T00:00:00Z","architecture":"{architecture}","os":"linux","config":{{"Env":["A=\u003cb\u003e\u0026c"],"Entrypoint":["/bin/app"]}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}},"history":[{{"created_by":"nix2container"}}]}}"#
    );
    let image = image.with_config(config.into_bytes());
    (serde_json::to_string_pretty(&result).unwrap(), image)
}

fn push(shop: &Shop, image: &Image, tag: &str) -> String {
    image.push(&shop.host(), "acme/app", tag).unwrap();
    shop.at(tag)
}

#[test]
fn the_configuration_digest_is_computed_from_what_nix_built() {
    let shop = Shop::open();
    let (result, image) = nix2container("arm64");
    shop.write("image.json", result);
    let reference = push(&shop, &image, "nix2container");
    let attested = attest(&shop, &reference, ARM64.1, &["--result", "image.json"]).exits(0).json();
    assert_eq!(attested["configDigest"], image.config_digest.as_str());
    assert_eq!(attested["outcome"], "attested");

    let image = shop.push("docker-tools", "amd64", "hello");
    shop.write("plain.tar", image.docker_archive());
    shop.write("image.tar.gz", gzip(&image.docker_archive()));
    shop.write("image.tar.zst", zstd(&image.docker_archive()));
    shop.write("stream", "#!/bin/sh\nexec print-an-image\n");
    shop.quorate(&["assemble", "oci:layout:app", &shop.at("docker-tools")]).exits(0);
    for more in [
        vec!["--result", "plain.tar"],
        vec!["--result", "image.tar.gz"],
        vec!["--result", "image.tar.zst"],
        vec!["--result", "layout"],
        vec!["--result", "stream", "--built-image", "plain.tar"],
        vec!["--nar-hash", NAR_HASH, "--built-image", "oci:layout:app"],
        // Nothing to compare with: any path has a narHash.
        vec!["--result", "stream", "--config-digest", &image.config_digest],
        vec!["--result", "plain.tar", "--config-digest", &image.config_digest],
    ] {
        let printed = predicate(&shop, AMD64.1, &more).exits(0).json();
        assert_eq!(printed["configDigest"], image.config_digest.as_str(), "{more:?}");
    }
    let attested =
        attest(&shop, &shop.at("docker-tools"), AMD64.1, &["--result", "image.tar.gz"]).exits(0).json();
    assert_eq!(attested["configDigest"], image.config_digest.as_str());
}

#[test]
fn a_digest_that_is_not_that_of_the_build_is_refused() {
    let shop = Shop::open();
    let image = shop.push("app", "amd64", "hello");
    let other = shop::build("amd64", "something else");
    shop.write("image.tar", image.docker_archive());
    shop.bed.registry.clear_log();
    let refused = attest(
        &shop,
        &shop.at("app"),
        AMD64.1,
        &["--result", "image.tar", "--config-digest", &other.config_digest],
    )
    .exits(2)
    .says("`--config-digest` is ");
    assert!(refused.stderr.contains(&image.config_digest) && refused.stderr.contains(&other.config_digest));
    assert!(shop.bed.registry.log().is_empty(), "nothing is asked");

    // Another build than what was pushed, and the same.
    shop.write("other.tar", other.docker_archive());
    let differs = attest(&shop, &shop.at("app"), AMD64.1, &["--result", "other.tar"]).exits(1).json();
    assert_eq!(differs["reason"], "config-differs");
    assert!(shop.bed.registry.writes().is_empty());
    attest(&shop, &shop.at("app"), AMD64.1, &["--result", "image.tar"]).exits(0);
}

#[test]
fn a_build_that_cannot_be_read_is_refused_with_its_reason() {
    let shop = Shop::open();
    let image = shop.push("app", "amd64", "hello");
    let (json, _) = nix2container("amd64");
    shop.write("good.json", &json);
    shop.write("unknown.json", json.replacen("\"version\"", "\"os\": \"linux\",\n  \"version\"", 1));
    shop.write("twice.json", json.replacen("\"version\"", "\"version\": 2,\n  \"version\"", 1));
    shop.write("stream", "#!/bin/sh\n");
    shop.write("text", "hello\n");
    let tar = image.docker_archive();
    shop.write("good.tar.gz", gzip(&tar));
    shop.write("cut.tar", &tar[..1000]);
    shop.write("cut.tar.gz", &gzip(&tar)[..500]);
    shop.write("tail.tar.gz", [gzip(&tar), gzip(b"more")].concat());
    // Of the program `zstd`: at its default, at level 19, and looking back 128 MiB.
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zstd");
    for name in ["made.tar.zst", "made-19.tar.zst", "made-long.tar.zst"] {
        shop.write(name, fs::read(made.join(name)).unwrap());
    }
    let made = fs::read(made.join("made.tar.zst")).unwrap();
    shop.write("cut.tar.zst", &made[..made.len() / 2]);
    shop.write("tail.tar.zst", [made, zstd(b"more")].concat());
    shop.write("other.tar.zst", zstd(b"no archive"));
    fs::create_dir(shop.path("folder")).unwrap();
    for (path, says) in [
        ("good.json", ""),
        ("good.tar.gz", ""),
        ("made.tar.zst", ""),
        ("made-19.tar.zst", ""),
        ("unknown.json", "unknown key `os`"),
        ("twice.json", "duplicate key `version`"),
        ("stream", "run it into a file and name that with `--built-image`"),
        ("text", "holds no image"),
        ("folder", "holds no image"),
        ("absent", "No such file"),
        ("cut.tar", "cut short"),
        ("cut.tar.gz", "cannot be used"),
        ("tail.tar.gz", "more follows"),
        ("made-long.tar.zst", "window"),
        ("cut.tar.zst", "cannot be used"),
        ("tail.tar.zst", "more follows"),
        ("other.tar.zst", "not a tar archive"),
    ] {
        let run = predicate(&shop, AMD64.1, &["--result", path]);
        if says.is_empty() {
            run.exits(0)
        } else {
            run.exits(2).says(says)
        };
    }
    predicate(&shop, ARM64.1, &["--result", "good.json"]).exits(2).says("is for linux/amd64");
    predicate(&shop, AMD64.1, &["--nar-hash", NAR_HASH]).exits(2).says("nothing says which configuration");
    predicate(&shop, AMD64.1, &["--nar-hash", NAR_HASH, "--built-image", "text"])
        .exits(2)
        .says("holds no image");
}

#[test]
fn layers_of_a_layout_are_those_of_its_configuration() {
    let shop = Shop::open();
    shop.push("app", "amd64", "hello");
    shop.quorate(&["assemble", "oci:layout", &shop.at("app")]).exits(0);
    predicate(&shop, AMD64.1, &["--result", "layout"]).exits(0);
    predicate(&shop, ARM64.1, &["--result", "layout"]).exits(2).says("the index has no linux/arm64");
    // The index now names an image whose layer is not the one that its configuration names.
    let index: Value = serde_json::from_slice(&fs::read(shop.path("layout/index.json")).unwrap()).unwrap();
    let image = shop::build("amd64", "hello");
    let foreign = shop::build("amd64", "other").with_config(image.config.clone());
    let mut changed = index.clone();
    changed["manifests"][0] = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": foreign.manifest_digest,
        "size": foreign.manifest.len(),
    });
    shop.write("layout/index.json", changed.to_string());
    for (digest, bytes) in
        [(&foreign.manifest_digest, &foreign.manifest), (&foreign.layer_digest, &foreign.layer)]
    {
        shop.write(&format!("layout/blobs/sha256/{}", &digest["sha256:".len()..]), bytes);
    }
    predicate(&shop, AMD64.1, &["--result", "layout"]).exits(2).says("layer-differs");
}

#[test]
fn what_is_missing_is_named_at_once() {
    let shop = Shop::open();
    shop.quorate(&["predicate", "--builder", "github"]).exits(2).says("`--system` must be given");
    shop.quorate(&["predicate"]).exits(2).says("`--builder` and `--system` must be given");
    let known = ["predicate", "--builder", "github", "--system", AMD64.1];
    shop.quorate(&known).exits(2).says("`--commit` must be given");
    shop.quorate(&[&known[..], &["--commit", COMMIT]].concat()).exits(2).says("`--sequence` must be given");
}

/// Keys that OpenSSL encrypted: `tests/keys/README.md`.
fn key(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)).unwrap()
}

#[test]
fn encrypted_keys_are_opened_with_the_passphrase_of_a_variable() {
    let shop = Shop::open();
    let plain = fs::read_to_string(shop.path("github.key")).unwrap();
    for name in ["pbkdf2.key", "scrypt.key", "costly.key", "pbes1.key"] {
        shop.write(name, key(name));
    }
    let public = |key: &str, more: &[&str], environment: &[(&str, &str)]| {
        shop.quorate_with(&[&["key", "public", key], more].concat(), environment)
    };
    let passphrase = [("QUORATE_KEY_PASSPHRASE", "correct horse")];
    for name in ["pbkdf2.key", "scrypt.key"] {
        assert_eq!(public(name, &[], &passphrase).exits(0).stdout, key("builder.pub"), "{name}");
        let named = ["--key-passphrase-env", "OF_THE_BUILDER"];
        let run = public(name, &named, &[("OF_THE_BUILDER", "correct horse")]).exits(0);
        assert_eq!(run.stdout, key("builder.pub"), "{name}");
        public(name, &named, &passphrase).exits(2).says("`OF_THE_BUILDER` is not set");
        public(name, &[], &[("QUORATE_KEY_PASSPHRASE", "")]).exits(2).says("is encrypted");
        let wrong = public(name, &[], &[("QUORATE_KEY_PASSPHRASE", "wrong horse")]).exits(2);
        assert!(!wrong.says("does not open it").stderr.contains("wrong horse"), "a passphrase is not shown");
    }
    for name in ["ed25519.key", "ed25519-encrypted.key"] {
        shop.write(name, key(name));
        assert_eq!(public(name, &[], &passphrase).exits(0).stdout, key("ed25519.pub"), "{name}");
    }
    public("costly.key", &[], &passphrase).exits(2).says("too much time or memory");
    public("pbes1.key", &[], &passphrase).exits(2).says("PBES2 is");

    // The key itself from a variable, as CI secrets come.
    let whole = key("pbkdf2.key");
    let environment = [("BUILDER_KEY", whole.as_str()), passphrase[0]];
    assert_eq!(public("env:BUILDER_KEY", &[], &environment).exits(0).stdout, key("builder.pub"));
    let own = public("env:BUILDER_KEY", &[], &[("BUILDER_KEY", &plain)]).exits(0).stdout;
    assert_eq!(own, fs::read_to_string(shop.path("github.key.pub")).unwrap());
    public("env:BUILDER_KEY", &[], &[]).exits(2).says("the variable `BUILDER_KEY` is not set");
    let bad = public("env:BUILDER_KEY", &[], &[("BUILDER_KEY", "hunter2")]).exits(2);
    assert!(!bad.says("no `PRIVATE KEY` block").stderr.contains("hunter2"), "a key is not shown");
}

#[test]
fn an_encrypted_key_votes() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.write("github.key", key("pbkdf2.key"));
    shop.write("github.key.pub", key("builder.pub"));
    shop.attest_all(&release, &["garnix"]);
    shop.bed.registry.clear_log();
    shop.attest(&release, "github", AMD64.1, &[]).exits(2).says("is encrypted");
    assert!(shop.bed.registry.log().is_empty(), "nothing is asked");
    for (image, (_, system)) in release.images.iter().zip([AMD64, ARM64]) {
        let mut arguments = vec!["attest", &release.reference, "--system", system, "--nar-hash", NAR_HASH];
        arguments.extend(["--config-digest", &image.config_digest]);
        arguments.extend(BUILD);
        shop.quorate_with(&arguments, &[("QUORATE_KEY_PASSPHRASE", "correct horse")]).exits(0);
    }
    let verified = shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(0).json();
    assert_eq!(shop::cell(&verified, "linux/amd64", "github"), "counted");
}

/// What `git` prints, in the shop's folder.
fn git(shop: &Shop, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@r.example", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .current_dir(shop.folder())
        .env("HOME", shop.folder())
        .env("GIT_COMMITTER_DATE", "1763700000 +0100")
        .output()
        .expect("run git");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A checkout of one commit in the shop's folder; its commit.
fn checkout(shop: &Shop) -> String {
    let git = |arguments: &[&str]| git(shop, arguments);
    shop.write("flake.nix", "{ }");
    git(&["init", "--quiet", "--initial-branch", "main"]);
    git(&["add", "flake.nix"]);
    git(&["commit", "--quiet", "--message", "one"]);
    git(&["remote", "add", "origin", "https://user:hunter2@github.com/acme/app.git"]);
    git(&["rev-parse", "HEAD"])
}

/// `predicate` without a word on where the build comes from.
fn inferred(shop: &Shop, more: &[&str], environment: &[(&str, &str)]) -> Run {
    let build = ["predicate", "--builder", "github", "--system", AMD64.1, "--nar-hash", NAR_HASH];
    let config = shop::build("amd64", "hello").config_digest;
    shop.quorate_with(&[&build[..], &["--config-digest", &config], more].concat(), environment)
}

#[test]
fn commit_sequence_source_and_ref_come_from_the_checkout() {
    let shop = Shop::open();
    inferred(&shop, &[], &[]).exits(2).says("`--commit` must be given");
    let commit = checkout(&shop);
    let run = inferred(&shop, &[], &[]).exits(0);
    let printed = run.json();
    assert_eq!(printed["commit"], commit.as_str());
    assert_eq!(printed["sequence"], 1_763_700_000);
    assert_eq!(printed["sourceUri"], "git+https://github.com/acme/app");
    assert_eq!(printed["ref"], "refs/heads/main");
    assert!(run.stderr.contains(&format!("note: commit {commit}, from the checkout")), "{}", run.stderr);
    assert!(!run.stderr.contains("hunter2") && !run.stdout.contains("hunter2"), "a password is not shown");

    // What is given wins, and another commit takes nothing from this checkout.
    let given = inferred(&shop, &["--ref", "refs/tags/v1", "--sequence", "7"], &[]).exits(0).json();
    assert_eq!((&given["ref"], &given["sequence"]), (&"refs/tags/v1".into(), &7.into()));
    let other = inferred(&shop, &["--commit", COMMIT, "--sequence", "7"], &[]).exits(0).json();
    assert_eq!((other.get("sourceUri"), other.get("ref")), (None, None));
    inferred(&shop, &["--commit", COMMIT], &[]).exits(2).says("`--sequence` must be given");
    inferred(&shop, &["--no-infer"], &[]).exits(2).says("`--commit` must be given");

    // Untracked files are none of the commit's; changed ones are.
    shop.write("notes.txt", "mine");
    inferred(&shop, &[], &[]).exits(0);
    shop.write("flake.nix", "{ changed = true; }");
    inferred(&shop, &[], &[]).exits(2).says("has changes that are not in");
    let said = inferred(&shop, &["--commit", &commit], &[]).exits(0);
    assert!(said.stderr.contains("were they built?"), "{}", said.stderr);
}

#[cfg(unix)]
#[test]
fn links_are_followed_to_the_store_path_and_no_further() {
    use std::os::unix::fs::symlink;
    let shop = Shop::open();
    fs::create_dir_all(shop.path("nix/store")).unwrap();
    let stored = |name: &str| format!("nix/store/0123456789abcdfghijklmnpqrsvwxyz-{name}");
    let (image, link) = (stored("image"), stored("link"));
    shop.write(&image, "of some kind");
    shop.write("image", "elsewhere");
    for (target, link) in [
        ("../../image", &*link),
        (&link, "result"),
        // A folder of that name that is no store.
        (&image.replace("nix/store", "."), "nix/store/result"),
        ("result", "result-2"),
        ("image", "outside"),
        ("loop", "loop"),
    ] {
        symlink(target, shop.path(link)).unwrap();
    }
    let hash = |path: &str| shop.quorate(&["nar-hash", path]).exits(0).stdout.trim().to_owned();
    let of = |result: &str| {
        let build = ["predicate", "--builder", "github", "--system", AMD64.1, "--result", result];
        let config = shop::build("amd64", "hello").config_digest;
        let more = ["--config-digest", &config, "--commit", COMMIT, "--sequence", "7", "--no-infer"];
        shop.quorate(&[&build[..], &more].concat())
    };
    for (result, path) in [
        ("result", &*link),
        ("result-2", &link),
        (&link, &link),
        (&image, &image),
        ("nix/store/result", &image),
        ("outside", "image"),
        ("./nix/../outside", "image"),
    ] {
        assert_eq!(of(result).exits(0).json()["narHash"], hash(path).as_str(), "{result}");
    }
    assert_ne!(hash(&link), hash(&image));
    of("loop").exits(2);
    of("absent").exits(2);
}

#[test]
fn submodules_are_looked_at_as_the_checkout_is() {
    let shop = Shop::open();
    checkout(&shop);
    let own = shop.folder().display().to_string();
    git(&shop, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &own, "part"]);
    git(&shop, &["commit", "--quiet", "--message", "two"]);
    inferred(&shop, &[], &[]).exits(0);
    shop.write("part/notes.txt", "mine");
    inferred(&shop, &[], &[]).exits(0);
    shop.write("part/flake.nix", "{ changed = true; }");
    inferred(&shop, &[], &[]).exits(2).says("has changes that are not in");
}

#[test]
fn a_ci_job_and_its_checkout_must_be_one() {
    let shop = Shop::open();
    let job = |commit: &'static str| {
        [
            ("GITLAB_CI", "true"),
            ("CI_COMMIT_SHA", commit),
            ("CI_PROJECT_URL", "https://gitlab.example/acme/app"),
            ("CI_COMMIT_TAG", "v1"),
        ]
    };
    // Without a checkout, the job knows all but the sequence.
    inferred(&shop, &[], &job(COMMIT)).exits(2).says("`--sequence` must be given");
    let printed = inferred(&shop, &["--sequence", "7"], &job(COMMIT)).exits(0).json();
    assert_eq!((&printed["commit"], &printed["ref"]), (&COMMIT.into(), &"refs/tags/v1".into()));
    assert_eq!(printed["sourceUri"], "git+https://gitlab.example/acme/app");
    // A rebuilder's job does not lend another repository's commit its own source.
    let more = ["--sequence", "7", "--commit", OTHER_COMMIT];
    let rebuilt = inferred(&shop, &more, &job(COMMIT)).exits(0).json();
    assert_eq!((rebuilt.get("sourceUri"), rebuilt.get("ref")), (None, None));

    let commit: &'static str = checkout(&shop).leak();
    let run = inferred(&shop, &[], &job(COMMIT)).exits(2).says("GitLab CI says that this job is for");
    assert!(run.stderr.contains(COMMIT) && run.stderr.contains(commit), "{}", run.stderr);
    let printed = inferred(&shop, &[], &job(commit)).exits(0).json();
    assert_eq!((&printed["commit"], &printed["ref"]), (&commit.into(), &"refs/tags/v1".into()));
    assert_eq!(printed["sequence"], 1_763_700_000);
    shop.write("flake.nix", "{ changed = true; }");
    inferred(&shop, &[], &job(commit)).exits(2).says("has changes that are not in");
}

#[cfg(unix)]
#[test]
fn a_git_that_fails_is_not_the_absence_of_a_checkout() {
    use std::os::unix::fs::PermissionsExt as _;
    let shop = Shop::open();
    fs::create_dir(shop.path("bin")).unwrap();
    let git = |script: &str| {
        shop.write("bin/git", format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(shop.path("bin/git"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let path = format!("{}:/usr/bin:/bin", shop.path("bin").display());
    let environment = [("PATH", path.as_str())];
    git("echo 'fatal: not a git repository' >&2; exit 128");
    inferred(&shop, &[], &environment).exits(2).says("`--commit` must be given");
    git("echo 'fatal: detected dubious ownership' >&2; exit 128");
    inferred(&shop, &[], &environment).exits(3).says("dubious ownership");
    let given = ["--commit", COMMIT, "--sequence", "7"];
    let run = inferred(&shop, &given, &environment).exits(0);
    assert!(run.stderr.contains("nothing was taken from the checkout"), "{}", run.stderr);
}

const VOTE: [&str; 6] = ["--nar-hash", NAR_HASH, "--commit", COMMIT, "--sequence", "1763700000"];

/// The votes of one builder, signed and not attached: `<builder>-<system>.json`.
fn sign_apart(shop: &Shop, release: &shop::Release, builder: &str) {
    for (image, (_, system)) in release.images.iter().zip([AMD64, ARM64]) {
        let (key, file) = (format!("{builder}.key"), format!("{builder}-{system}.json"));
        let mut arguments = vec!["attest", &release.reference, "--system", system, "--key", &key];
        arguments.extend(["--builder", builder, "--config-digest", &image.config_digest]);
        arguments.extend(["--no-attach", "--bundle-out", &file]);
        arguments.extend(VOTE);
        let run = shop.quorate(&arguments).exits(0);
        assert!(run.stdout.contains("signed, not attached"), "{}", run.stdout);
    }
}

#[test]
fn a_bundle_signed_apart_is_attached_after_it_is_verified() {
    for referrers in [true, false] {
        let shop = Shop::new(RegistryOptions { referrers, ..Default::default() });
        let release = shop.release("git-1", "hello");
        shop.attest_all(&release, &["garnix"]);
        shop.bed.registry.clear_log();
        sign_apart(&shop, &release, "github");
        assert!(shop.bed.registry.writes().is_empty(), "nothing is attached");
        shop.quorate(&["verify", &release.reference]).exits(1);

        // The policy knows the key; a builder that it does not know is given by name.
        let amd64 = ["attest", &release.reference, "--bundle", "github-x86_64-linux.json", "-o", "json"];
        let attached = shop.quorate(&amd64).exits(0).json();
        assert_eq!(attached["builder"], "github");
        assert!(attached["attached"]["manifest"].is_string());
        let arm64 = ["attest", &release.reference, "--bundle", "github-aarch64-linux.json"];
        shop.quorate(&[&arm64[..], &["--public-key", "github.key.pub"]].concat()).exits(0);
        shop.quorate(&["verify", &release.reference]).exits(0);
        shop.bed.registry.clear_log();
        assert_eq!(shop.quorate(&amd64).exits(0).json()["outcome"], "already");
        assert!(shop.bed.registry.writes().is_empty(), "the same is not attached twice");
    }
}

#[test]
fn a_bundle_signed_apart_is_held_to_the_trust_of_its_builder() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    sign_apart(&shop, &release, "github");
    // The command line believes another log; the policy, for one builder, that of the bundle.
    fs::rename(shop.path("root.json"), shop.path("own.json")).unwrap();
    shop.write("root.json", trusted_root(&[&Log::start()], &[&Tsa::start()]).to_string());
    let policy = |trusted: &str| {
        let builder = format!("name = \"{trusted}\"\n");
        let policy = shop.policy(1).replace(&builder, &format!("{builder}trust = \"own\"\n"));
        shop.write("quorate.toml", policy + "\n[trust.own]\ntrusted_root = \"own.json\"\n");
    };
    let attest = |more: &[&str]| {
        let bundle = ["attest", &release.reference, "--bundle", "github-x86_64-linux.json", "-o", "json"];
        shop.quorate(&[&bundle[..], more].concat())
    };
    shop.bed.registry.clear_log();
    // Another builder's authorities do not speak for this one.
    policy("garnix");
    attest(&[]).exits(1).says("(log-unknown)");
    attest(&["--public-key", "github.key.pub"]).exits(1).says("(log-unknown)");
    assert!(shop.bed.registry.writes().is_empty());
    policy("github");
    attest(&["--public-key", "garnix.key.pub"]).exits(1).says("(signer-unknown)");
    assert!(shop.bed.registry.writes().is_empty());
    assert_eq!(attest(&[]).exits(0).json()["outcome"], "attested");
    // What is there is read under the same trust.
    assert_eq!(attest(&["--public-key", "github.key.pub"]).exits(0).json()["outcome"], "already");
    let verified = shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(1).json();
    assert_eq!(shop::cell(&verified, "linux/amd64", "github"), "counted");
}

#[test]
fn a_bundle_that_proves_nothing_here_is_not_attached() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let other = shop.release("git-2", "other");
    sign_apart(&shop, &release, "github");
    let bundle = fs::read_to_string(shop.path("github-x86_64-linux.json")).unwrap();
    let mut changed: Value = serde_json::from_str(&bundle).unwrap();
    changed["verificationMaterial"]["tlogEntries"][0]["logIndex"] = "7".into();
    shop.write("changed.json", changed.to_string());
    shop.write("none.json", "{}");
    let attest = |image: &str, bundle: &str, more: &[&str]| {
        shop.quorate(&[&["attest", image, "--bundle", bundle], more].concat())
    };
    shop.bed.registry.clear_log();
    let file = "github-x86_64-linux.json";
    attest(&release.reference, "none.json", &[]).exits(1).says("(bundle-version)");
    attest(&release.reference, "changed.json", &[]).exits(1).says("(log-proof)");
    attest(&release.reference, file, &["--public-key", "garnix.key.pub"]).exits(1).says("(signer-unknown)");
    attest(&release.reference, "absent.json", &[]).exits(2).says("cannot read");
    attest(&other.reference, file, &[])
        .exits(1)
        .says("(other-manifest): it is about sha256:")
        .says("hint: attach it to `");
    let elsewhere = release.reference.replace("/acme/app", "/acme/other");
    attest(&elsewhere, file, &[]).exits(1).says("(name-mismatch): it speaks of");
    attest(&release.reference, file, &["--record-dissent"]).exits(2).says("cannot be used with");
    let arguments = ["attest", &release.reference, "--bundle", file];
    shop.quorate_with(&arguments, &[("QUORATE_POLICY", "")]).exits(2);
    assert!(shop.bed.registry.writes().is_empty());
    attest(&release.reference, file, &[]).exits(0);
}

#[test]
fn a_dissent_signed_apart_is_attached_to_what_it_disputes_alone() {
    let shop = Shop::open();
    let image = shop.push("app", "amd64", "hello");
    shop.push("lie", "amd64", "other");
    let mut arguments = vec!["attest", "", "--system", AMD64.1, "--key", "github.key", "--builder", "github"];
    let reference = shop.at("lie");
    arguments[1] = &reference;
    arguments.extend(["--config-digest", &image.config_digest, "--record-dissent"]);
    arguments.extend(["--no-attach", "--bundle-out", "dissent.json"]);
    arguments.extend(VOTE);
    shop.quorate(&arguments).exits(0);
    shop.bed.registry.clear_log();
    let attach = |image: &str| shop.quorate(&["attest", image, "--bundle", "dissent.json"]);
    attach(&shop.at("app")).exits(1).says("(other-manifest): it is about");
    assert!(shop.bed.registry.writes().is_empty());
    attach(&reference).exits(0);
    // What was missing then is there now: nothing is left to dispute.
    let whole = shop.at("app");
    arguments[1] = &whole;
    shop.bed.registry.fault(Fault::status(404).method("GET").path("/blobs/"));
    shop.quorate(&arguments).exits(0);
    shop.bed.registry.clear_faults();
    shop.bed.registry.clear_log();
    shop.quorate(&["attest", &whole, "--bundle", "dissent.json"]).exits(1).says("(nothing-disputed)");
    assert!(shop.bed.registry.writes().is_empty());
}

#[test]
fn a_bundle_is_kept_beside_what_is_attached() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let kept = ["--bundle-out", "kept.json", "-o", "json"];
    let attested = shop.attest(&release, "github", AMD64.1, &kept).exits(0).json();
    let bundle = fs::read(shop.path("kept.json")).unwrap();
    assert_eq!(quorate_bed::image::digest(&bundle), attested["bundle"].as_str().unwrap());
    // It is the log's first entry: what is zero or empty is written, for some readers ask for it.
    let written: Value = serde_json::from_slice(&bundle).unwrap();
    let entry = &written["verificationMaterial"]["tlogEntries"][0];
    assert_eq!((&entry["logIndex"], &entry["inclusionProof"]["logIndex"]), (&json!("0"), &json!("0")));
    assert_eq!(entry["inclusionProof"]["hashes"], json!([]));
    // What was there already is kept as well, and a registry that fails does not lose it.
    fs::remove_file(shop.path("kept.json")).unwrap();
    shop.attest(&release, "github", AMD64.1, &kept).exits(0);
    assert_eq!(fs::read(shop.path("kept.json")).unwrap(), bundle);
    shop.bed.registry.fault(Fault::status(403).method("PUT"));
    shop.attest(&release, "garnix", AMD64.1, &["--bundle-out", "lost.json"]).exits(3);
    shop.bed.registry.clear_faults();
    shop.quorate(&["attest", &release.reference, "--bundle", "lost.json"]).exits(0);
    shop.quorate(&["attest", &release.reference, "--no-attach"]).exits(2).says("--bundle-out");
}

#[test]
fn a_file_that_cannot_be_written_loses_no_signature() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.bed.registry.clear_log();
    for path in [".", "absent/bundle.json"] {
        let run = shop.attest(&release, "github", AMD64.1, &["--bundle-out", path]).exits(2);
        assert!(run.says("cannot be written").stderr.contains("hint: `--bundle-out`"), "{path}");
    }
    assert_eq!((shop.bed.log.size(), shop.bed.registry.log().len()), (0, 0), "nothing is asked");
    // Where the disk is full, that shows too late.
    if Path::new("/dev/full").exists() {
        shop.attest(&release, "github", AMD64.1, &["--bundle-out", "/dev/full"])
            .exits(3)
            .says("cannot write the bundle to `/dev/full`");
    } else {
        shop.attest(&release, "github", AMD64.1, &[]).exits(0);
    }
    shop.attest(&release, "github", AMD64.1, &["--bundle-out", "kept.json"]).exits(0);
    assert_eq!(shop.bed.log.size(), 1, "it was attached, and found there");
    let report = shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(1).json();
    assert_eq!(shop::cell(&report, "linux/amd64", "github"), "counted");
    let kept = shop.quorate(&["attest", &release.reference, "--bundle", "kept.json", "-o", "json"]);
    assert_eq!(kept.exits(0).json()["outcome"], "already");
    // Neither place takes it: the error is that of the one, and names the other.
    if Path::new("/dev/full").exists() {
        shop.bed.registry.fault(Fault::status(403).method("PUT"));
        let lost = shop.attest(&release, "garnix", AMD64.1, &["--bundle-out", "/dev/full"]).exits(3);
        let lost = lost.says("the bundle is not attached nor written to `/dev/full`");
        assert!(lost.stderr.contains("registry-denied") && lost.stderr.contains("signs and logs anew"));
        shop.bed.registry.clear_faults();
        shop.attest(&release, "garnix", AMD64.1, &[]).exits(0);
    }
}

#[test]
fn a_timestamp_that_cannot_be_read_points_to_what_can() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.bed.registry.clear_log();
    let stranger = Tsa::start();
    let run = shop.attest(&release, "github", AMD64.1, &["--tsa-url", &stranger.url()]).exits(3);
    let run = run.says("(timestamp-invalid)");
    assert!(run.stderr.contains("hint: ") && run.stderr.contains("docs/trust.md"), "{}", run.stderr);
    assert!(shop.bed.registry.writes().is_empty());
    shop.attest(&release, "github", AMD64.1, &[]).exits(0);
}

#[test]
fn the_first_bundle_beside_older_signatures_is_warned_of() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let [amd64, arm64] = &release.images;
    let older = format!("{}.sig", amd64.manifest_digest.replace(':', "-"));
    arm64.push(&shop.host(), "acme/app", &older).unwrap();
    let warned = shop.attest(&release, "github", AMD64.1, &[]).exits(0);
    assert!(warned.stderr.contains(&format!("warning: the tag `{older}`")), "{}", warned.stderr);
    // Once a bundle is there, it is too late; where there are no such tags, there is no reason.
    for (builder, system) in [("garnix", AMD64.1), ("github", ARM64.1)] {
        let run = shop.attest(&release, builder, system, &[]).exits(0);
        assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    }
    // What could not be found out is not the absence of signatures.
    let second = shop.release("git-2", "other");
    shop.bed.registry.fault(Fault::status(403).path(".sig"));
    shop.bed.registry.clear_log();
    shop.attest(&second, "github", AMD64.1, &[]).exits(3).says("registry-denied");
    assert!(shop.bed.registry.writes().is_empty());
}

#[test]
fn an_aged_vote_is_renewed_if_asked() {
    let shop = Shop::open();
    let aged = shop.policy(1).replacen("quorum = 1\n", "quorum = 1\nmax_age = \"1h\"\n", 1);
    shop.write("quorate.toml", aged);
    let release = shop.release("git-1", "hello");
    let by_digest = format!("{}@{}", shop.repository(), release.digest);
    let promote = ["promote", &by_digest, "--tag", "1.0.0", "-o", "json"];
    let two_hours_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    shop.bed.tsa.set_time(Some(two_hours_ago));
    shop.attest_all(&release, &["github"]);
    shop.bed.tsa.set_time(None);
    let report = shop.quorate(&promote).exits(1).json();
    assert_eq!(shop::cell(&report, "linux/amd64", "github"), "rejected too-old");
    // The same again is nothing new, unless it is asked for.
    shop.attest_all(&release, &["github"]);
    assert_eq!(shop.bed.log.size(), 2);
    shop.quorate(&promote).exits(1);
    for (_, system) in [AMD64, ARM64] {
        shop.attest(&release, "github", system, &["--again"]).exits(0);
    }
    assert_eq!(shop.bed.log.size(), 4);
    let report = shop.quorate(&promote).exits(0).json();
    assert_eq!(shop::cell(&report, "linux/amd64", "github"), "counted");
}

#[test]
fn a_bundle_signed_again_elsewhere_is_attached_where_it_is_asked_for() {
    for referrers in [true, false] {
        let shop = Shop::new(RegistryOptions { referrers, ..Default::default() });
        let release = shop.release("git-1", "hello");
        sign_apart(&shop, &release, "github");
        shop.attest_all(&release, &["github"]);
        let attach = |more: &[&str]| {
            shop.bed.registry.clear_log();
            let bundle = ["attest", &release.reference, "--bundle", "github-x86_64-linux.json", "-o", "json"];
            let outcome = shop.quorate(&[&bundle[..], more].concat()).exits(0).json()["outcome"].clone();
            (outcome, shop.bed.registry.writes().is_empty())
        };
        assert_eq!(attach(&[]), ("already".into(), true));
        assert_eq!(attach(&["--again"]), ("attested".into(), false));
        assert_eq!(attach(&[]), ("already".into(), true));
    }
}
