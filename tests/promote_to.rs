//! `promote --to`: a release goes to another repository, with what builders said of it, and is
//! judged again there before a tag names it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs;
use std::time::{Duration, SystemTime};

use quorate::attestation::{Bundle, envelope};
use quorate::edge::registry::Options;
use quorate::edge::service::Service;
use quorate::edge::signer::{KeyPair, KeySource};
use quorate::edge::{log, tsa};
use quorate::oci::{Digest, Manifest};
use quorate_bed::{Auth, Fault, Registry, RegistryOptions, client, image};
use shop::{AMD64, Release, Run, Shop};

const SLSA: &str = "https://slsa.dev/provenance/v1";
const SOURCE: &str = "git+https://git.example/app";

/// A policy whose rule is for `to`, and takes statements about the repository of the shop.
fn rule_for(shop: &Shop, to: &str) {
    let (ours, theirs) = (
        format!("repository = \"{}\"", shop.repository()),
        format!("repository = \"{to}\"\nnames = [\"{}\"]", shop.repository()),
    );
    shop.write("quorate.toml", shop.policy(2).replacen(&ours, &theirs, 1));
}

fn promote(shop: &Shop, release: &Release, to: &str, more: &[&str]) -> Run {
    shop.bed.registry.clear_log();
    let arguments = ["promote", &release.reference, "--to", to, "--tag", "latest,1.0.0", "-o", "json"];
    shop.quorate(&[&arguments[..], more].concat())
}

fn named(host: &str, repository: &str, tag: &str) -> Option<String> {
    let answer = client::manifest(host, repository, tag).unwrap();
    (answer.status == 200).then(|| image::digest(&answer.body))
}

/// Writes to a repository.
fn writes(registry: &Registry, repository: &str) -> Vec<String> {
    let path = format!("/v2/{repository}/");
    let writes = registry.writes().into_iter().filter(|r| r.path.starts_with(&path));
    writes.map(|r| format!("{} {}", r.method, &r.path[path.len()..])).collect()
}

#[test]
fn to_a_neighbouring_repository_blobs_are_mounted() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let to = format!("{}/acme/production", shop.host());
    rule_for(&shop, &to);
    let planned = promote(&shop, &release, &to, &["--dry-run"]).exits(0).json();
    assert_eq!((&planned["outcome"], &planned["tags"][0]["action"]), (&"moved".into(), &"created".into()));
    assert_eq!(shop.bed.registry.writes().len(), 0);

    let report = promote(&shop, &release, &to, &[]).exits(0).json();
    assert_eq!((&report["outcome"], &report["verdict"]), (&"moved".into(), &"met".into()));
    assert_eq!(report["image"]["repository"], to.as_str());
    assert_eq!(report["copied"]["from"], shop.repository());
    assert_eq!((&report["copied"]["images"], &report["copied"]["attestations"]), (&2.into(), &4.into()));
    let written = writes(&shop.bed.registry, "acme/production");
    let uploads = shop.bed.registry.log().into_iter().filter(|r| r.path.contains("/blobs/uploads/"));
    let mounts = uploads.filter(|r| r.query.as_deref().is_some_and(|q| q.starts_with("mount="))).count();
    assert_eq!(mounts, 4, "two configurations, two layers");
    let put =
        |what: &str| written.iter().position(|write| write == &format!("PUT manifests/{what}")).unwrap();
    let first_tag = put("latest").min(put("1.0.0"));
    for digest in [&release.digest, &release.images[0].manifest_digest, &release.images[1].manifest_digest] {
        assert!(put(digest) < first_tag, "{written:?}");
    }
    for tag in ["latest", "1.0.0"] {
        assert_eq!(named(&shop.host(), "acme/production", tag).as_ref(), Some(&release.digest));
    }
    assert_eq!(writes(&shop.bed.registry, "acme/app"), Vec::<String>::new());
    assert_eq!(shop.named("latest"), None, "where it came from, nothing is named");
    shop.quorate(&["verify", &format!("{to}:1.0.0")]).exits(0);

    let again = promote(&shop, &release, &to, &[]).exits(0).json();
    assert_eq!(again["outcome"], "unchanged");
    assert_eq!((&again["copied"]["images"], &again["copied"]["attestations"]), (&0.into(), &0.into()));
    assert_eq!(shop.bed.registry.writes().len(), 0, "nothing is copied twice");
    // Another vote is brought over, and no image with it.
    shop.attest_all(&release, &["basement"]);
    let more = promote(&shop, &release, &to, &[]).exits(0).json();
    assert_eq!((&more["copied"]["images"], &more["copied"]["attestations"]), (&0.into(), &2.into()));
    assert_eq!(shop::cell(&more, "linux/arm64", "basement"), "counted");
}

#[test]
fn to_another_registry_everything_is_brought() {
    // With the referrers API and without it, in either direction.
    for (here, there) in [(true, true), (true, false), (false, true)] {
        let shop = Shop::new(RegistryOptions { referrers: here, ..Default::default() });
        let other = Registry::start(RegistryOptions { referrers: there, ..Default::default() });
        let release = shop.release("git-1", "hello");
        shop.attest_all(&release, &["github", "garnix"]);
        let to = format!("{}/acme/production", other.host());
        rule_for(&shop, &to);
        let report = promote(&shop, &release, &to, &[]).exits(0).json();
        assert_eq!((&report["copied"]["images"], &report["copied"]["attestations"]), (&2.into(), &4.into()));
        assert_eq!(named(&other.host(), "acme/production", "latest").as_ref(), Some(&release.digest));
        for image in &release.images {
            let blobs = [&image.config_digest];
            for digest in blobs {
                let path = format!("/v2/acme/production/blobs/{digest}");
                assert_eq!(client::get(&other.host(), &path, None).unwrap().status, 200);
            }
        }
        assert_eq!(shop.bed.registry.writes().len(), 0);
        // What the new place holds stands by itself.
        shop.bed.registry.fault(Fault::status(503));
        shop.quorate(&["verify", &format!("{to}:latest")]).exits(0);
        shop.bed.registry.clear_faults();
        other.clear_log();
        promote(&shop, &release, &to, &[]).exits(0);
        assert_eq!(other.writes().len(), 0, "nothing is copied twice");
    }
}

#[test]
fn what_is_not_met_is_not_copied() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github"]);
    let to = format!("{}/acme/production", shop.host());
    rule_for(&shop, &to);
    let report = promote(&shop, &release, &to, &[]).exits(1).json();
    assert_eq!((&report["verdict"], &report["copied"]), (&"short".into(), &serde_json::Value::Null));
    assert_eq!(shop.bed.registry.writes().len(), 0);
    shop.attest_all(&release, &["garnix"]);
    // Statements are about the names that the policy declares for the target.
    let undeclared = shop.policy(2).replace(&shop.repository(), &to);
    shop.write("quorate.toml", undeclared);
    let report = promote(&shop, &release, &to, &[]).exits(1).json();
    assert_eq!(shop::cell(&report, "linux/amd64", "github"), "rejected name-mismatch");
    shop.write("quorate.toml", shop.policy(2));
    promote(&shop, &release, &to, &[]).exits(1);
    assert_eq!(shop.bed.registry.writes().len(), 0);
    rule_for(&shop, &to);
    promote(&shop, &release, &to, &["--untag", "git-1-amd64"]).exits(2);
    promote(&shop, &release, &to, &[]).exits(0);
}

#[test]
fn the_target_is_judged_by_what_it_holds() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let other = Registry::start(RegistryOptions::default());
    let to = format!("{}/acme/production", other.host());
    rule_for(&shop, &to);
    // The target says that it took the votes, and does not show them when it is asked again.
    let none = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    promote(&shop, &release, &to, &[]).exits(0);
    let list = format!("/referrers/{}", release.images[0].manifest_digest);
    let looks = other.log().iter().filter(|r| r.path.ends_with(&list)).count();
    let second = shop.release("git-2", "second");
    shop.attest_all(&second, &["github", "garnix"]);
    promote(&shop, &second, &to, &["--tag", "2.0.0", "--dry-run"]).exits(1).says("tag-immutable");
    let arguments = ["promote", &second.reference, "--to", &to, "--tag", "2.0.0", "-o", "json"];
    // The last look of a run is the one that judges.
    other.fault(
        Fault::new(quorate_bed::FaultAction::Replace(none.into()))
            .path(&format!("referrers/{}", second.images[0].manifest_digest))
            .skip(looks - 1),
    );
    let report = shop.quorate(&arguments).exits(1).json();
    assert_eq!((&report["verdict"], &report["outcome"]), (&"short".into(), &"refused".into()));
    assert_eq!(named(&other.host(), "acme/production", "2.0.0"), None);
    other.clear_faults();
    shop.quorate(&arguments).exits(0);
    assert_eq!(named(&other.host(), "acme/production", "2.0.0"), Some(second.digest));
}

#[test]
fn what_fails_on_the_way_names_nothing_and_the_next_run_goes_on() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let other = Registry::start(RegistryOptions::default());
    let to = format!("{}/acme/production", other.host());
    rule_for(&shop, &to);
    for path in ["/blobs/uploads/", &release.images[1].manifest_digest, &release.digest] {
        other.fault(Fault::status(403).path(path));
        let run = promote(&shop, &release, &to, &[]).exits(3).says("registry-denied");
        assert_eq!(run.json()["verdict"], serde_json::Value::Null);
        for tag in ["latest", "1.0.0"] {
            assert_eq!(named(&other.host(), "acme/production", tag), None);
        }
        other.clear_faults();
    }
    promote(&shop, &release, &to, &[]).exits(0);
    assert_eq!(named(&other.host(), "acme/production", "latest"), Some(release.digest));
}

#[test]
fn a_dissent_goes_with_the_release() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let to = format!("{}/acme/production", shop.host());
    rule_for(&shop, &to);
    promote(&shop, &release, &to, &[]).exits(0);
    let other = shop::build("amd64", "something else");
    let more = ["--record-dissent"];
    shop.attest_as(&release.reference, "basement", AMD64.1, &other.config_digest, &more).exits(0);
    // It stands against the release where it was made, so nothing more is copied or named.
    let report = promote(&shop, &release, &to, &["--tag", "1.0.1"]).exits(1).json();
    assert_eq!(report["verdict"], "dissent");
    assert_eq!(shop.bed.registry.writes().len(), 0);
    // Waived, it stands against nothing, and is brought along all the same.
    let cells = report["platforms"][0]["cells"].as_array().unwrap();
    let statement = cells.iter().find(|cell| cell["builder"] == "basement").unwrap()["statements"][0].clone();
    let policy = fs::read_to_string(shop.path("quorate.toml")).unwrap();
    let waiver = format!(
        "\n[[waive]]\nstatement = {statement}\nreason = \"a broken disk\"\nuntil = 2999-01-01T00:00:00Z\n"
    );
    shop.write("quorate.toml", policy + &waiver);
    let report = promote(&shop, &release, &to, &["--tag", "1.0.1"]).exits(0).json();
    assert_eq!(report["copied"]["attestations"], 1);
    assert_eq!(shop::cell(&report, "linux/amd64", "basement"), "waived waived");
}

#[test]
fn both_sides_may_want_credentials() {
    let auth = || Auth::Bearer {
        user: "ci".to_owned(),
        password: "secret".to_owned(),
        lifetime: Duration::from_secs(300),
        anonymous_pull: false,
    };
    let options =
        || RegistryOptions { auth: auth(), latency: Duration::from_millis(60), ..Default::default() };
    let shop = Shop::new(options());
    let other = Registry::start(options());
    // "ci:secret" in base64.
    let login = |host: &str| format!(r#""{host}":{{"auth":"Y2k6c2VjcmV0"}}"#);
    let logins = format!(r#"{{"auths":{{{},{}}}}}"#, login(&shop.host()), login(&other.host()));
    shop.write("config.json", logins);
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let (near, far) = (format!("{}/acme/near", shop.host()), format!("{}/acme/far", other.host()));
    let by_digest = Release { reference: format!("{}@{}", shop.repository(), release.digest), ..release };
    // Judged, brought, judged again, two tags written; and once more, when all is there.
    for (to, first, again) in [(&near, (63, 24), (35, 13)), (&far, (77, 28), (37, 15))] {
        rule_for(&shop, to);
        for (requests, depth) in [first, again] {
            other.clear_log();
            promote(&shop, &by_digest, to, &[]).exits(0);
            let all = [shop.bed.registry.log(), other.log()].concat();
            let deep = quorate_bed::depth(&all);
            assert!(all.len() <= requests, "{to}: {} requests, not {requests}", all.len());
            assert!(deep <= depth, "{to}: depth {deep}, not {depth}");
        }
    }
}

#[test]
fn what_was_signed_again_is_brought_beside_what_was_signed_before() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let to = format!("{}/acme/production", shop.host());
    rule_for(&shop, &to);
    let policy = fs::read_to_string(shop.path("quorate.toml")).unwrap();
    let fresh = policy.replacen("quorum = 2", "quorum = 2\nmax_age = \"1h\"", 1);
    shop.bed.tsa.set_time(Some(SystemTime::now() - Duration::from_secs(7200)));
    shop.attest_all(&release, &["github", "garnix"]);
    shop.bed.tsa.set_time(None);
    promote(&shop, &release, &to, &[]).exits(0);
    shop.write("quorate.toml", &fresh);
    let refused = promote(&shop, &release, &to, &[]).exits(1).json();
    assert_eq!(shop::cell(&refused, "linux/amd64", "github"), "rejected too-old");

    for builder in ["github", "garnix"] {
        for system in [AMD64.1, shop::ARM64.1] {
            shop.attest(&release, builder, system, &["--again"]).exits(0);
        }
    }
    let report = promote(&shop, &release, &to, &[]).exits(0).json();
    assert_eq!((&report["outcome"], &report["verdict"]), (&"unchanged".into(), &"met".into()));
    assert_eq!(report["copied"]["attestations"], 4);
    let report = promote(&shop, &release, &to, &[]).exits(0).json();
    assert_eq!(report["copied"]["attestations"], 0, "nothing twice");
}

/// Provenance of a builder on one image of a release, attached as GitHub's action does.
fn provenance(shop: &Shop, image: &image::Image, builder: &str, by_api: bool) {
    let digest: Digest = image.manifest_digest.parse().unwrap();
    let payload = serde_json::json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": shop.repository(), "digest": { "sha256": digest.hex() } }],
        "predicateType": SLSA,
        "predicate": {
            "buildDefinition": {
                "buildType": "https://actions.github.io/buildtypes/workflow/v1",
                "externalParameters": { "workflow": { "ref": "refs/heads/main", "repository": "https://git.example/app" } },
                "resolvedDependencies": [{
                    "uri": "git+https://git.example/app@refs/heads/main",
                    "digest": { "gitCommit": shop::COMMIT },
                }],
            },
            "runDetails": { "builder": { "id": builder } },
        },
    });
    let payload = payload.to_string().into_bytes();
    let key = KeySource::File(shop.path(&format!("{builder}.key")));
    let signer = KeyPair::load(&key, "").unwrap();
    let service = Service::new(&quorate::edge::registry::Registry::new(Options::default()).unwrap());
    let (rekor, stamps) = (shop.bed.log.url().parse().unwrap(), shop.bed.tsa.url().parse().unwrap());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let message = envelope::pae(&payload);
        let signature = signer.sign(&message).unwrap();
        let by = log::By::Key(signer.public());
        let entry = log::hashedrekord(&service, &rekor, by, &message, &signature).await.unwrap().unwrap();
        let stamp = tsa::stamp(&service, &stamps, &signature).await.unwrap();
        let sealed = envelope::seal(payload, signature);
        let bundle = Bundle::keyed(sealed, signer.public(), vec![entry], vec![stamp]).to_json().unwrap();
        let registry = quorate::edge::registry::Registry::new(Options::default()).unwrap();
        let subject = Manifest::parse(image.manifest.clone()).unwrap().descriptor();
        let kind = [("dev.sigstore.bundle.predicateType".to_owned(), SLSA.to_owned())].into();
        let (repository, slot) = (shop.repository().parse().unwrap(), builder.parse().unwrap());
        registry.attach(by_api, &repository, &subject, &slot, bundle.as_bytes(), kind).await.unwrap();
    });
}

#[test]
fn provenance_that_counts_goes_with_the_release() {
    quorate::init().unwrap();
    for (here, there) in [(true, true), (true, false), (false, true)] {
        let shop = Shop::new(RegistryOptions { referrers: here, ..Default::default() });
        let other = Registry::start(RegistryOptions { referrers: there, ..Default::default() });
        let to = format!("{}/acme/production", other.host());
        rule_for(&shop, &to);
        let policy = fs::read_to_string(shop.path("quorate.toml")).unwrap();
        let types = format!("quorum = 2\ntypes = [\"{SLSA}\"]\nunbound = true\nsources = [\"{SOURCE}\"]\n");
        shop.write("quorate.toml", policy.replacen("quorum = 2\n", &types, 1));
        let release = shop.release("git-1", "hello");
        for system in [AMD64.1, shop::ARM64.1] {
            shop.attest(&release, "github", system, &["--source-uri", SOURCE]).exits(0);
        }
        promote(&shop, &release, &to, &[]).exits(1).says("the quorum is not met");
        assert_eq!(other.writes().len(), 0, "nothing is written");
        for image in &release.images {
            provenance(&shop, image, "garnix", here);
        }
        let report = promote(&shop, &release, &to, &[]).exits(0).json();
        assert_eq!((&report["outcome"], &report["copied"]["attestations"]), (&"moved".into(), &4.into()));
        assert_eq!(shop::cell(&report, "linux/arm64", "garnix"), "counted");
        assert_eq!(named(&other.host(), "acme/production", "latest").as_ref(), Some(&release.digest));
        // What the new place holds stands by itself, and nothing is brought twice.
        shop.bed.registry.fault(Fault::status(503));
        shop.quorate(&["verify", &format!("{to}:latest")]).exits(0);
        let tree = shop.quorate(&["inspect", &format!("{to}:latest")]).exits(0).stdout;
        assert_eq!(tree.matches("(signed by garnix, ").count(), 2, "{tree}");
        shop.bed.registry.clear_faults();
        let again = promote(&shop, &release, &to, &[]).exits(0).json();
        assert_eq!((&again["outcome"], &again["copied"]["attestations"]), (&"unchanged".into(), &0.into()));

        // It does not say which release is newer: this one is not left for another, nor does it leave one.
        let next = shop.release("git-2", "next");
        for builder in ["github", "garnix"] {
            for system in [AMD64.1, shop::ARM64.1] {
                let newer =
                    ["--source-uri", SOURCE, "--commit", shop::OTHER_COMMIT, "--sequence", "1763700001"];
                shop.attest(&next, builder, system, &newer).exits(0);
            }
        }
        let arguments = ["promote", &next.reference, "--to", &to, "--tag", "latest", "-o", "json"];
        let refused = shop.quorate(&arguments).exits(1).json();
        assert_eq!(refused["tags"][0]["reason"], "tag-unverified");
        assert_eq!(named(&other.host(), "acme/production", "latest").as_ref(), Some(&release.digest));
        shop.quorate(&[&arguments[..], &["--adopt", &release.digest]].concat()).exits(0);
        assert_eq!(named(&other.host(), "acme/production", "latest"), Some(next.digest));
    }
}
