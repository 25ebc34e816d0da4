//! Bad input gets a clear error and changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use quorate_bed::{Answer, Fault, FaultAction};
use shop::{AMD64, ARM64, Shop};

/// Runs, expects the exit code and the words, and that nothing was written.
#[track_caller]
fn refused(shop: &Shop, arguments: &[&str], code: i32, says: &str) {
    shop.bed.registry.clear_log();
    let logged = shop.bed.log.size();
    shop.quorate(arguments).exits(code).says(says);
    assert!(shop.bed.registry.writes().is_empty(), "something was written");
    assert_eq!(shop.bed.log.size(), logged, "something was logged");
}

#[test]
fn malformed_references() {
    let shop = Shop::open();
    for (bad, says) in [
        ("nginx:1", "names no registry host"),
        ("r.example/app", "no tag or digest"),
        ("r.example/App:1", "not a repository name"),
        ("r.example/app:a b", "not a tag"),
        ("r.example/app@md5:aa", "not a digest"),
        ("r.example/app@sha256:../../x", "not a digest"),
        ("https://r.example/app:1", "host"),
        ("r.example/app:latest\n", "not a tag"),
    ] {
        refused(&shop, &["verify", bad], 2, says);
        refused(&shop, &["promote", bad, "--tag", "latest"], 2, says);
    }
    assert!(shop.bed.registry.log().is_empty(), "nothing is asked for a reference that is none");
}

#[test]
fn malformed_options() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let image = release.reference.as_str();
    for (arguments, says) in [
        (vec!["promote", image], "--tag"),
        (vec!["promote", image, "--tag=-x"], "not a tag"),
        (vec!["promote", image, "--tag", "a b"], "not a tag"),
        (vec!["promote", image, "--tag", "latest", "--quorum", "0"], "--quorum"),
        (vec!["promote", image, "--tag", "latest", "--quorum=-1"], "--quorum"),
        (vec!["promote", image, "--tag", "latest", "--quorum", "1"], "lower than the policy's 2"),
        (vec!["promote", image, "--tag", "latest", "--quorum", "4"], "3 operators"),
        (vec!["promote", image, "--tag", "stable"], "no rule for the tag `stable`"),
        (vec!["promote", image, "--tag", "latest", "--adopt", "sha256:aa"], "not a digest"),
        (vec!["verify", image, "--expect-commit", "main"], "not a commit"),
        (vec!["verify", image, "--timeout", "18446744073709551615"], "0..=86400"),
        // What a CI job meant to fill in.
        (vec!["verify", image, "--expect-commit="], "--expect-commit"),
        (vec!["verify", image, "--policy-digest="], "--policy-digest"),
        (vec!["verify", image, "--quorum="], "--quorum"),
        (vec!["verify", image, "--policy-digest", &release.digest], "not the pinned"),
        (vec!["verify", &shop.at("absent")], "there is no image"),
    ] {
        refused(&shop, &arguments, 2, says);
    }
    // The positive twin of the pin.
    let digest = shop.quorate(&["verify", image, "-o", "json"]).json()["policy"]["digest"].to_string();
    shop.quorate(&["verify", image, "--policy-digest", digest.trim_matches('"')])
        .exits(1)
        .says("quorum is not met");
    // That of nothing: it is said aloud.
    let any = ["verify", image, "--policy-digest", "any", "--expect-commit", "any", "--quorum", "any"];
    shop.quorate(&any).exits(1).says("quorum is not met");
    let empty = [("QUORATE_POLICY_DIGEST", "")];
    shop.quorate_with(&["verify", image], &empty).exits(2).says("--policy-digest");
}

#[test]
fn missing_services_have_no_public_default() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let key = shop.path("github.key").display().to_string();
    let mut all =
        vec!["attest", &release.reference, "--builder", "github", "--key", &key, "--system", AMD64.1];
    all.extend(["--commit", shop::COMMIT, "--sequence", "1", "--nar-hash", shop::NAR_HASH]);
    all.extend(["--config-digest", &release.images[0].config_digest]);
    for missing in ["QUORATE_REKOR_URL", "QUORATE_TSA_URL"] {
        let output = shop.command(&all).env_remove(missing).output().unwrap();
        let option = format!("--{}", missing.trim_start_matches("QUORATE_").to_lowercase().replace('_', "-"));
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(&option), "{option} is not named");
    }
    let plain = shop.quorate_with(&all, &[("QUORATE_REKOR_URL", "http://rekor.example")]);
    plain.exits(2).says("is not https");
    shop.quorate(&all).exits(0);
}

#[test]
fn malformed_policies() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let verify = ["verify", &release.reference, "--policy", "bad.toml"];
    let good = shop.policy(2);
    shop.write("bad.toml", &good);
    shop.quorate(&verify).exits(1).says("quorum is not met");
    // Of zeros, which are no point.
    let of_zeros = format!("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE{}A==", "A".repeat(85));
    shop.write("zeros.pub", format!("-----BEGIN PUBLIC KEY-----\n{of_zeros}\n-----END PUBLIC KEY-----\n"));
    for (bad, says) in [
        (String::new(), "version"),
        ("version = ".to_owned(), "TOML"),
        (good.replace("quorum = 2", "quorom = 2"), "quorom"),
        (good.replace("quorum = 2", "quorum = 0"), "quorum"),
        (good.replace("quorum = 2", "quorum = 4"), "3 operators"),
        (good.replace("garnix.key.pub", "github.key.pub"), "also that of"),
        (good.replace("garnix.key.pub", "garnix.key"), "private key"),
        (good.replace("garnix.key.pub", "absent.pub"), "absent.pub"),
        (good.replace("garnix.key.pub", "zeros.pub"), "not on the curve"),
        (good.replace("linux/arm64", "linux/mips"), "linux/mips"),
    ] {
        shop.write("bad.toml", bad);
        refused(&shop, &verify, 2, says);
    }
    refused(&shop, &["verify", &release.reference, "--policy", "absent.toml"], 2, "cannot read the policy");
    // A policy that is fine, and not for this image.
    shop.write("bad.toml", good.replace("acme/app", "acme/other"));
    let no_rule = shop.quorate(&[&verify[..], &["-o", "json"]].concat()).exits(1).json();
    assert_eq!(no_rule["refusals"][0]["reason"], "no-rule");
}

#[test]
fn malformed_predicates() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    for (option, value, says) in [
        ("--commit", "HEAD", "not a commit"),
        ("--commit", "5F1C2D9E8B7A6F5E4D3C2B1A09F8E7D6C5B4A392", "not a commit"),
        ("--sequence", "-1", "--sequence"),
        ("--sequence", "soon", "--sequence"),
        ("--nar-hash", "sha256-AAAA", "not a narHash"),
        ("--nar-hash", "sha512-AAAA", "not a narHash"),
        ("--target", "packages.x86_64-linux.image", "names a system"),
    ] {
        shop.bed.registry.clear_log();
        shop.attest(&release, "github", AMD64.1, &[option, value]).exits(2).says(says);
        assert!(shop.bed.registry.log().is_empty(), "{option} {value} was asked about");
    }
    let attest =
        |system: &str, config: &str| shop.attest_as(&release.reference, "github", system, config, &[]);
    attest("x86_64-darwin", &release.images[0].config_digest).exits(2).says("not a system");
    attest(AMD64.1, "sha256:aa").exits(2).says("not a digest");
    attest("riscv64-linux", &release.images[0].config_digest).exits(2).says("the index has no linux/riscv64");
    // The configuration of the other platform.
    shop.bed.registry.clear_log();
    attest(AMD64.1, &release.images[1].config_digest).exits(1).says("config-differs");
    assert!(shop.bed.registry.writes().is_empty());
    // A narHash that is not that of the path beside it.
    shop.attest(&release, "github", AMD64.1, &["--result", "quorate.toml"])
        .exits(2)
        .says("but `--result` has");
}

#[test]
fn malformed_keys() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let good = std::fs::read_to_string(shop.path("github.key")).unwrap();
    for (content, says) in [
        (String::new(), "no `PRIVATE KEY` block"),
        ("\u{fffd}".to_owned(), "no `PRIVATE KEY` block"),
        (good.replace("PRIVATE", "ENCRYPTED PRIVATE"), "encrypted"),
        (good.replace("PRIVATE", "EC PRIVATE"), "SEC 1"),
        (std::fs::read_to_string(shop.path("github.key.pub")).unwrap(), "public key"),
        (good.replace("MIGH", "MIGI"), "neither an ECDSA P-256 key"),
        (good.replace("MIGH", "!!!!"), "base64"),
    ] {
        assert_ne!(content, good);
        shop.write("bad.key", content);
        shop.bed.registry.clear_log();
        shop.attest(&release, "bad", AMD64.1, &[]).exits(2).says(says);
        assert!(shop.bed.registry.log().is_empty());
        shop.quorate(&["key", "public", "bad.key"]).exits(2).says(says);
    }
    shop.quorate(&["key", "generate", "github.key"]).exits(2).says("exists already");
    assert_eq!(std::fs::read_to_string(shop.path("github.key")).unwrap(), good, "the key was left alone");
    let public = shop.quorate(&["key", "public", "github.key"]).exits(0);
    assert_eq!(public.stdout, std::fs::read_to_string(shop.path("github.key.pub")).unwrap());
}

#[test]
fn a_trusted_root_that_is_none_or_of_others() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let verify = ["verify", &release.reference, "--trusted-root", "bad.json", "-o", "json"];
    refused(
        &shop,
        &["verify", &release.reference, "--trusted-root", "absent.json"],
        3,
        "cannot read the trusted root",
    );
    for bad in ["", "{}", "[]", "{\"mediaType\":\"x\",\"tlogs\":[]}"] {
        shop.write("bad.json", bad);
        refused(&shop, &verify, 3, "trusted root");
    }
    // The root of another instance: nothing that was signed here counts.
    let other = Shop::open();
    shop.write("bad.json", other.bed.trusted_root().to_string());
    let verdict = shop.quorate(&verify).exits(1).json();
    assert_eq!(verdict["verdict"], "short");
    assert_eq!(shop::cell(&verdict, "linux/amd64", "github"), "rejected log-unknown");
    // An attestation that would not verify is not attached.
    shop.bed.registry.clear_log();
    shop.attest(&release, "basement", AMD64.1, &["--trusted-root", "bad.json"])
        .exits(3)
        .says("does not verify");
    assert!(shop.bed.registry.writes().is_empty());
}

#[test]
fn malformed_bundles_are_ignored_with_a_reason() {
    for referrers in [true, false] {
        let shop = Shop::new(quorate_bed::RegistryOptions { referrers, ..Default::default() });
        let release = shop.release("git-1", "hello");
        let attached = shop.attest(&release, "github", AMD64.1, &["-o", "json"]).exits(0).json();
        let carrier = attached["attached"]["manifest"].as_str().unwrap();
        let manifest = quorate_bed::client::manifest(&shop.host(), "acme/app", carrier).unwrap().body;
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let bundle = manifest["layers"][0]["data"].as_str().unwrap();
        let bundle = String::from_utf8(decode(bundle)).unwrap();
        for (n, (from, to, reason)) in [
            ("v0.3", "v0.2", "bundle-version"),
            ("\"tlogEntries\"", "\"TlogEntries\"", "bundle-malformed"),
            ("\"dsseEnvelope\"", "\"x\":1,\"dsseEnvelope\"", "bundle-malformed"),
            ("application/vnd.in-toto+json", "application/json", "payload-type"),
            ("\"signatures\":[", "\"signatures\":[],\"x\":[", "bundle-malformed"),
        ]
        .into_iter()
        .enumerate()
        {
            let bad = bundle.replacen(from, to, 1);
            assert_ne!(bad, bundle, "{from} is not in the bundle");
            attach(&shop, &manifest, bad.as_bytes(), n);
            let verdict = shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(1).json();
            let reasons: Vec<&str> = verdict["ignored"]
                .as_array()
                .unwrap()
                .iter()
                .map(|i| i["reason"].as_str().unwrap())
                .collect();
            assert!(reasons.contains(&reason), "{from} → {to}: {reasons:?}");
            assert_eq!(shop::cell(&verdict, "linux/amd64", "github"), "counted", "the good one still counts");
        }
    }
}

#[test]
fn a_size_that_is_not_true_refuses_the_image() {
    let shop = Shop::open();
    let release = shop.agreed("git-1", "1");
    let body = |digest: &str| -> serde_json::Value {
        let found = quorate_bed::client::manifest(&shop.host(), "acme/app", digest).unwrap().body;
        serde_json::from_slice(&found).unwrap()
    };
    let put = |reference: &str, kind: &str, bytes: &[u8]| {
        let put = quorate_bed::client::put_manifest(&shop.host(), "acme/app", reference, kind, bytes);
        assert_eq!(put.unwrap(), 201);
    };
    let (mut index, mut image) = (body(&release.digest), body(&release.images[0].manifest_digest));
    image["config"]["size"] = (release.images[0].config.len() + 1).into();
    let image = image.to_string().into_bytes();
    let digest = quorate_bed::image::digest(&image);
    put(&digest, "application/vnd.oci.image.manifest.v1+json", &image);
    index["manifests"][0]["digest"] = digest.into();
    index["manifests"][0]["size"] = image.len().into();
    let index = index.to_string().into_bytes();
    put("untrue", "application/vnd.oci.image.index.v1+json", &index);
    let verdict = shop.quorate(&["verify", &shop.at("untrue"), "-o", "json"]).exits(1).json();
    assert_eq!(verdict["refusals"][0]["reason"], "child-malformed");
    assert_eq!(verdict["verdict"], "refused");
}

#[test]
fn what_others_wrote_is_not_repeated_at_length() {
    let shop = Shop::open();
    let release = shop.agreed("git-1", "1");
    let long = "x".repeat(900_000);
    shop.write("bundle.json", serde_json::json!({ "mediaType": long }).to_string());
    let verdict = shop
        .quorate(&["verify", &release.reference, "--bundle", "bundle.json", "-o", "json"])
        .exits(0)
        .json();
    let ignored = &verdict["ignored"][0];
    assert_eq!(ignored["reason"], "bundle-version");
    let detail = ignored["detail"].as_str().unwrap();
    assert!(detail.starts_with("`mediaType` is \"xxx") && detail.len() < 1_100, "{} bytes", detail.len());

    let index = quorate_bed::client::manifest(&shop.host(), "acme/app", &release.digest).unwrap().body;
    let mut index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    index["manifests"][0]["mediaType"] = long.into();
    let bytes = index.to_string().into_bytes();
    let kind = "application/vnd.oci.image.index.v1+json";
    quorate_bed::client::put_manifest(&shop.host(), "acme/app", "long", kind, &bytes).unwrap();
    let verdict = shop.quorate(&["verify", &shop.at("long"), "-o", "json"]).exits(1).json();
    let refusal = &verdict["refusals"][0];
    assert_eq!(refusal["reason"], "index-nested");
    assert!(refusal["detail"].as_str().unwrap().len() < 1_100);
}

fn decode(base64: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(base64).unwrap()
}

/// Attaches other bytes in the way of a good bundle: as a referrer, and under the next tag.
fn attach(shop: &Shop, like: &serde_json::Value, bundle: &[u8], n: usize) {
    use base64::Engine as _;
    let digest = quorate_bed::image::digest(bundle);
    let host = shop.host();
    let upload = quorate_bed::client::send(
        &host,
        "POST",
        &format!("/v2/acme/app/blobs/uploads/?digest={digest}"),
        &[],
        bundle,
    );
    assert!(upload.is_ok());
    let mut manifest = like.clone();
    manifest["layers"][0]["digest"] = digest.into();
    manifest["layers"][0]["size"] = bundle.len().into();
    manifest["layers"][0]["data"] = base64::engine::general_purpose::STANDARD.encode(bundle).into();
    let bytes = manifest.to_string().into_bytes();
    let subject = like["subject"]["digest"].as_str().unwrap().replace(':', "-");
    for reference in [quorate_bed::image::digest(&bytes), format!("{subject}.q-garnix.{n}")] {
        let put = quorate_bed::client::put_manifest(
            &host,
            "acme/app",
            &reference,
            "application/vnd.oci.image.manifest.v1+json",
            &bytes,
        );
        assert_eq!(put.unwrap(), 201);
    }
}

#[test]
fn assemble_refuses_what_is_no_release() {
    let shop = Shop::open();
    shop.push("git-1-amd64", "amd64", "hello");
    shop.push("git-1-arm64", "amd64", "mislabelled");
    shop.push("git-1-aarch64-linux", "amd64", "mislabelled");
    shop.push("plain", "arm64", "hello");
    shop.push("twin", "arm64", "other");
    shop.push("mips", "mips64le", "hello");
    let (amd64, target) = (shop.at("git-1-amd64"), shop.at("git-1"));
    for (sources, reason) in [
        (vec![shop.at("git-1-arm64")], "suffix-mismatch"),
        (vec![shop.at("git-1-aarch64-linux")], "suffix-mismatch"),
        (vec![shop.at("plain"), shop.at("twin")], "duplicate-platform"),
        (vec![amd64.clone(), amd64.clone()], "duplicate-digest"),
        (vec![shop.at("mips")], "platform-unknown"),
    ] {
        let mut arguments = vec!["assemble", &target];
        arguments.extend(sources.iter().map(String::as_str));
        refused(&shop, &arguments, 1, reason);
        arguments.extend(["-o", "json"]);
        assert_eq!(shop.quorate(&arguments).exits(1).json()["reason"], reason);
    }
    refused(&shop, &["assemble", &target, &shop.at("absent")], 2, "there is no image");
    refused(&shop, &["assemble", &target], 2, "SOURCE");
    assert_eq!(shop.named("git-1"), None);
    let arm64 = shop.at("plain");
    shop.quorate(&["assemble", &target, &amd64, &arm64]).exits(0);
    assert!(shop.named("git-1").is_some());
}

#[test]
fn assemble_does_not_write_the_tags_of_releases() {
    let shop = Shop::open();
    shop.push("git-1-amd64", "amd64", "hello");
    let source = shop.at("git-1-amd64");
    for tag in ["latest", "1.0.0", "v2"] {
        refused(&shop, &["assemble", &shop.at(tag), &source], 2, "does not write the tag");
        assert_eq!(shop.named(tag), None);
    }
    // Without a policy nothing governs versions; `latest` is never written.
    let run = |tag: &str| {
        let target = shop.at(tag);
        let output =
            shop.command(&["assemble", &target, &source]).env_remove("QUORATE_POLICY").output().unwrap();
        output.status.code()
    };
    assert_eq!(run("latest"), Some(2));
    assert_eq!(run("candidate"), Some(0));
}

#[test]
fn the_same_images_give_the_same_index() {
    let shop = Shop::open();
    shop.push("git-1-amd64", "amd64", "hello");
    shop.push("git-1-arm64", "arm64", "hello");
    let (amd64, arm64) = (shop.at("git-1-amd64"), shop.at("git-1-arm64"));
    let digest = |sources: [&str; 2]| {
        let arguments = [
            "assemble",
            &shop.repository(),
            sources[0],
            sources[1],
            "--annotation",
            "b=2",
            "--annotation",
            "a=1",
        ];
        let run = shop.quorate(&arguments).exits(0);
        run.stdout.lines().next().unwrap().to_owned()
    };
    let first = digest([&amd64, &arm64]);
    for _ in 0..5 {
        assert_eq!(digest([&arm64, &amd64]), first);
    }
}

#[test]
fn a_registry_that_is_down() {
    let shop = Shop::open();
    let nobody = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().to_string()
    };
    let image = format!("{nobody}/acme/app:1");
    shop.write("quorate.toml", shop.policy(2).replace(&shop.host(), &nobody));
    let run = shop
        .quorate(&["verify", &image, "--timeout", "5", "-o", "json"])
        .exits(3)
        .says("registry-unreachable");
    assert_eq!(run.json()["verdict"], serde_json::Value::Null);
    shop.quorate(&["promote", &image, "--tag", "latest", "--timeout", "5"])
        .exits(3)
        .says("registry-unreachable");
}

#[test]
fn a_registry_that_answers_nonsense() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let child = format!("/manifests/{}", release.images[0].manifest_digest);
    let config = format!("/blobs/{}", release.images[0].config_digest);
    let always = |action: FaultAction, path: &str| Fault::new(action).method("GET").path(path);
    for path in ["/manifests/git-1", child.as_str(), config.as_str(), "/referrers/"] {
        for (name, action) in [
            ("500", FaultAction::Status(Answer::status(500))),
            ("503", FaultAction::Status(Answer::status(503).header("retry-after", "1"))),
            ("429", FaultAction::Status(Answer::status(429))),
            ("403", FaultAction::Status(Answer::status(403))),
            ("half a body", FaultAction::HalfBody),
            ("truncated", FaultAction::Truncate),
            ("other bytes", FaultAction::Replace(b"{\"schemaVersion\":2}".to_vec())),
            ("reset", FaultAction::Reset),
        ] {
            shop.bed.registry.clear_faults();
            shop.bed.registry.clear_log();
            shop.bed.registry.fault(always(action, path));
            let run = shop.quorate(&[
                "promote",
                &release.reference,
                "--tag",
                "latest",
                "--timeout",
                "4",
                "-o",
                "json",
            ]);
            assert!(matches!(run.code, 1 | 3), "{path} {name}: exit {}: {}", run.code, run.stderr);
            assert_ne!(run.json()["verdict"], "met", "{path} {name}");
            assert!(shop.bed.registry.writes().is_empty(), "{path} {name}: something was written");
            assert_eq!(shop.named("latest"), None);
            // Only an answer of the registry itself that is wrong for good is a "no".
            if run.code == 1 {
                assert_eq!((path, name), ("/manifests/git-1", "other bytes"), "{}", run.stdout);
            }
        }
    }
    shop.bed.registry.clear_faults();
    shop.quorate(&["promote", &release.reference, "--tag", "latest"]).exits(0);
}

#[test]
fn html_instead_of_a_registry() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    shop.bed.registry.fault(Fault::new(FaultAction::Html).method("GET").path("/manifests/"));
    let run = shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(3).says("registry-malformed");
    assert_eq!(run.json()["verdict"], serde_json::Value::Null);
    shop.bed.registry.clear_faults();
    shop.quorate(&["verify", &release.reference]).exits(0);
}

#[test]
fn services_that_fail_leave_nothing_half_done() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let attest = || {
        shop.bed.registry.clear_log();
        shop.attest(&release, "github", ARM64.1, &["-o", "json"])
    };
    for fault in [Fault::status(500), Fault::status(400), Fault::new(FaultAction::Html)] {
        shop.bed.log.fault(fault);
        attest().exits(3);
        assert!(shop.bed.registry.writes().is_empty());
        shop.bed.log.clear_faults();
    }
    for fault in [Fault::status(500), Fault::status(400), Fault::new(FaultAction::Html)] {
        shop.bed.tsa.fault(fault);
        attest().exits(3);
        assert!(shop.bed.registry.writes().is_empty());
        shop.bed.tsa.clear_faults();
    }
    // The entry arrives and the answer is lost: a new signature makes a new entry.
    shop.bed.log.fault(Fault::new(FaultAction::AfterWriteStatus(Answer::status(502))).times(1));
    let logged = shop.bed.log.size();
    attest().exits(0);
    assert_eq!(shop.bed.log.size(), logged + 2);
}

#[test]
fn a_secret_in_the_place_of_its_file_is_not_repeated() {
    let shop = Shop::open();
    let image = shop.push("git-1-amd64", "amd64", "hello");
    let secret = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMG\n-----END PRIVATE KEY-----\n";
    let arguments = [
        "--system",
        "x86_64-linux",
        "--config-digest",
        &image.config_digest,
        "--nar-hash",
        shop::NAR_HASH,
        "--commit",
        shop::COMMIT,
        "--sequence",
        "1",
    ];
    let reference = shop.at("git-1-amd64");
    let arguments = [&["attest", &reference, "--builder", "github"][..], &arguments].concat();
    let run = shop.quorate_with(&arguments, &[("QUORATE_KEY", secret)]);
    assert!(!run.stderr.contains("MIGHAg"), "{}", run.stderr);
    run.exits(2).says("`--key` was given the key itself");
    let help = shop.quorate_with(&["attest", "--help"], &[("QUORATE_KEY", secret)]).exits(0);
    assert!(!help.stdout.contains("MIGHAg"), "{}", help.stdout);
    let service = ["--key", "github.key", "--rekor-url", "https://user:hidden@rekor.example"];
    let run = shop.quorate(&[&arguments[..], &service].concat());
    assert!(!run.stderr.contains("hidden"), "{}", run.stderr);
    run.exits(2).says("has a login in it");
}
