//! The main job through the real binary, on the embedded servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use quorate_bed::{Fault, FaultAction, RegistryOptions, client};
use shop::{AMD64, ARM64, COMMIT, OTHER_COMMIT, Release, Shop, cell};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry with the referrers API, and one without.
fn registries() -> [RegistryOptions; 2] {
    [
        RegistryOptions::default(),
        RegistryOptions { referrers: false, strict_accept: true, ..Default::default() },
    ]
}

#[test]
fn a_release_goes_through_on_either_kind_of_registry() {
    for options in registries() {
        let shop = Shop::new(options);
        let release = shop.release("git-1", "hello");
        let promote = ["promote", &release.reference, "--tag", "latest", "--tag", "1.0.0", "-o", "json"];

        shop.attest_all(&release, &["github"]);
        shop.bed.registry.clear_log();
        let short = shop.quorate(&promote).exits(1).says("the quorum is not met").json();
        assert_eq!((&short["verdict"], &short["outcome"]), (&"short".into(), &"refused".into()));
        for platform in ["linux/amd64", "linux/arm64"] {
            assert_eq!(cell(&short, platform, "github"), "counted");
            assert_eq!(cell(&short, platform, "garnix"), "missing");
        }
        assert!(shop.bed.registry.writes().is_empty(), "a refusal writes nothing");
        assert_eq!(shop.named("latest"), None);

        shop.attest_all(&release, &["garnix"]);
        let met = shop.quorate(&promote).exits(0).json();
        assert_eq!((&met["verdict"], &met["outcome"]), (&"met".into(), &"moved".into()));
        for tag in ["latest", "1.0.0"] {
            assert_eq!(shop.named(tag).as_deref(), Some(release.digest.as_str()));
        }
        let again = shop.quorate(&promote).exits(0).json();
        assert_eq!(again["outcome"], "unchanged", "a second run moves nothing");
        let verified = shop.quorate(&["verify", &shop.at("latest"), "-o", "json"]).exits(0).json();
        assert_eq!(verified["verdict"], "met");
        assert_eq!(verified["image"]["digest"], release.digest.as_str());
    }
}

#[test]
fn a_dissent_blocks_and_is_named() {
    for options in registries() {
        let shop = Shop::new(options);
        let release = shop.release("git-1", "hello");
        shop.attest_all(&release, &["github", "garnix"]);
        shop.quorate(&["verify", &release.reference]).exits(0);

        let other = shop::build("amd64", "something else");
        let dissent = |more: &[&str]| {
            shop.attest_as(&release.reference, "basement", AMD64.1, &other.config_digest, more)
        };
        let differs = dissent(&["-o", "json"]).exits(1).says("not what was pushed").json();
        assert_eq!(differs["reason"], "config-differs");
        let detail = differs["detail"].as_str().unwrap();
        assert!(detail.contains(&other.config_digest) && detail.contains(&release.images[0].config_digest));
        shop.quorate(&["verify", &release.reference]).exits(0);

        let recorded = dissent(&["--record-dissent", "-o", "json"]).exits(0).json();
        assert_eq!(recorded["predicateType"], "https://quorate.dev/predicates/dissent/v1");
        let refused = shop
            .quorate(&["promote", &release.reference, "--tag", "latest", "-o", "json"])
            .exits(1)
            .says("a builder disagrees (basement)")
            .json();
        assert_eq!(refused["verdict"], "dissent");
        assert_eq!(cell(&refused, "linux/amd64", "basement"), "dissent signed-dissent");
        assert_eq!(shop.named("latest"), None);
    }
}

#[test]
fn there_is_nothing_to_dissent_from_where_builds_agree() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.bed.registry.clear_log();
    shop.attest(&release, "github", AMD64.1, &["--record-dissent"]).exits(2).says("nothing to dissent from");
    assert!(shop.bed.registry.writes().is_empty());
}

#[test]
fn a_statement_that_says_nothing_new_is_not_attached_again() {
    for options in registries() {
        let shop = Shop::new(options);
        let release = shop.release("git-1", "hello");
        shop.attest(&release, "github", AMD64.1, &[]).exits(0);
        let logged = shop.bed.log.size();
        shop.bed.registry.clear_log();
        let again = shop.attest(&release, "github", AMD64.1, &["-o", "json"]).exits(0).json();
        assert_eq!(again["outcome"], "already");
        assert!(shop.bed.registry.writes().is_empty());
        assert_eq!(shop.bed.log.size(), logged, "nothing more is logged");
    }
}

#[test]
fn a_builder_does_not_contradict_itself_unwarned() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest(&release, "github", AMD64.1, &[]).exits(0);
    shop.bed.registry.clear_log();
    let other = "sha256-5Kmxn6K2Of3Vf0mOI/23MKpcECZAhY2JlgKBj6vwylw=";
    let refused =
        shop.attest(&release, "github", AMD64.1, &["--nar-hash", other, "-o", "json"]).exits(1).json();
    assert_eq!(refused["reason"], "equivocation");
    assert!(shop.bed.registry.writes().is_empty());
    // Another commit may give the same image, or another: that is no contradiction.
    shop.attest(&release, "github", AMD64.1, &["--nar-hash", other, "--commit", OTHER_COMMIT]).exits(0);
}

#[test]
fn another_image_under_the_tag_is_refused() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    shop.quorate(&["promote", &release.reference, "--tag", "latest"]).exits(0);
    let foreign = shop.release("git-2", "mine now");
    let bytes = client::manifest(&shop.host(), "acme/app", "git-2").unwrap().body;
    client::put_manifest(
        &shop.host(),
        "acme/app",
        "latest",
        "application/vnd.oci.image.index.v1+json",
        &bytes,
    )
    .unwrap();
    let refused = shop.quorate(&["verify", &shop.at("latest"), "-o", "json"]).exits(1).json();
    assert_eq!(refused["verdict"], "short");
    assert_eq!(refused["image"]["digest"], foreign.digest.as_str());
    // And a single image, which is no index at all.
    shop.push("latest", "amd64", "mine alone");
    let refused = shop.quorate(&["verify", &shop.at("latest"), "-o", "json"]).exits(1).json();
    assert_eq!(refused["verdict"], "refused");
    assert_eq!(refused["refusals"][0]["reason"], "not-an-index");
}

#[test]
fn latest_moves_forward_and_versions_stay() {
    let shop = Shop::open();
    let release = |name: &str, commit: &str, sequence: &str| {
        let release = shop.release(name, name);
        for builder in ["github", "garnix"] {
            for (_, system) in [AMD64, ARM64] {
                shop.attest(&release, builder, system, &["--commit", commit, "--sequence", sequence])
                    .exits(0);
            }
        }
        release
    };
    let (first, second) = (release("git-1", COMMIT, "10"), release("git-2", OTHER_COMMIT, "20"));
    let promote = |release: &shop::Release, more: &[&str]| {
        let mut arguments = vec!["promote", &release.reference, "-o", "json"];
        arguments.extend(more);
        shop.bed.registry.clear_log();
        shop.quorate(&arguments)
    };
    promote(&first, &["--tag", "latest,1.0.0"]).exits(0);

    let refused =
        promote(&second, &["--tag", "1.0.0", "--tag", "latest"]).exits(1).says("tag-immutable").json();
    assert_eq!((&refused["verdict"], &refused["outcome"]), (&"met".into(), &"refused".into()));
    assert_eq!(refused["tags"][1]["action"], "skipped");
    assert!(shop.bed.registry.writes().is_empty(), "one refused tag stops all");

    let moved = promote(&second, &["--tag", "latest,2.0.0"]).exits(0).json();
    assert_eq!(moved["tags"][0]["before"], first.digest.as_str());
    assert_eq!(shop.named("latest").as_deref(), Some(second.digest.as_str()));

    promote(&first, &["--tag", "latest"]).exits(1).says("tag-backwards");
    assert!(shop.bed.registry.writes().is_empty());
    let planned = promote(&first, &["--tag", "latest", "--allow-rollback", "--dry-run"]).exits(0).json();
    assert_eq!(planned["tags"][0]["after"], second.digest.as_str(), "a dry run changes nothing");
    assert!(shop.bed.registry.writes().is_empty());
    let back = promote(&first, &["--tag", "latest", "--allow-rollback"]).exits(0).json();
    assert_eq!(back["tags"][0]["allowed"], "rollback");
    assert_eq!(shop.named("latest").as_deref(), Some(first.digest.as_str()));
    let recorded = shop.quorate(&["promote", &second.reference, "--tag", "latest", "-o", "json"]).exits(0);
    assert!(recorded.json()["tags"][0]["allowed"].is_null(), "forward needs no leave");

    // Something that nobody attested stands under the tag.
    shop.push("latest", "amd64", "from before quorate");
    let old = shop.named("latest").unwrap();
    promote(&second, &["--tag", "latest"]).exits(1).says("tag-unverified");
    promote(&second, &["--tag", "latest", "--adopt", &first.digest]).exits(1).says("tag-unverified");
    let adopted = promote(&second, &["--tag", "latest", "--adopt", &old]).exits(0).json();
    assert_eq!(adopted["tags"][0]["allowed"], "adopt");
    assert_eq!(shop.named("latest").as_deref(), Some(second.digest.as_str()));
}

#[test]
fn the_commit_that_is_expected_must_be_the_one() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let verify =
        |commit: &str| shop.quorate(&["verify", &release.reference, "--expect-commit", commit, "-o", "json"]);
    assert_eq!(verify(COMMIT).exits(0).json()["verdict"], "met");
    let other = verify(OTHER_COMMIT).exits(1).json();
    assert_eq!(other["verdict"], "short");
    assert_eq!(cell(&other, "linux/amd64", "github"), "rejected commit-unexpected");
}

#[test]
fn a_tag_that_moves_between_write_and_read_is_reported() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    // The write is lost: 201, and the tag names nothing.
    shop.bed.registry.fault(
        Fault::new(FaultAction::Status(quorate_bed::Answer::status(201)))
            .method("PUT")
            .path("/manifests/latest"),
    );
    let unfinished =
        shop.quorate(&["promote", &release.reference, "--tag", "latest", "-o", "json"]).exits(3).json();
    assert_eq!(unfinished["outcome"], "undecided");
    let tag = &unfinished["tags"][0];
    assert_eq!((&tag["action"], &tag["reason"]), (&"elsewhere".into(), &"tag-raced".into()));
    assert!(tag["after"].is_null(), "it names nothing");
}

#[test]
fn a_registry_that_shows_old_answers_for_a_while_is_waited_for() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    // The first read is before the write; the second and third come from a cache.
    shop.bed.registry.fault(Fault::status(404).method("GET").path("/manifests/latest").skip(1).times(2));
    let moved =
        shop.quorate(&["promote", &release.reference, "--tag", "latest", "-o", "json"]).exits(0).json();
    assert_eq!(moved["tags"][0]["action"], "created");
    assert_eq!(shop.named("latest").as_deref(), Some(release.digest.as_str()));
}

/// A release under the tags `stable` and `edge`, which only move forward, and the next one.
fn two_releases() -> (Shop, Release, Release) {
    let shop = Shop::open();
    let tags = "[[image.tag]]\nname = \"*\"\nrule = \"forward\"\n\n[[builder]]";
    shop.write("quorate.toml", shop.policy(2).replacen("[[builder]]", tags, 1));
    let release = |name: &str, sequence: &str| {
        let release = shop.release_unruled(name);
        for builder in ["github", "garnix"] {
            for (_, system) in [AMD64, ARM64] {
                shop.attest(&release, builder, system, &["--sequence", sequence]).exits(0);
            }
        }
        release
    };
    let first = release("git-1", "1");
    shop.quorate(&["promote", &first.reference, "--tag", "stable,edge"]).exits(0);
    let second = release("git-2", "2");
    (shop, first, second)
}

#[test]
fn old_answers_do_not_hide_what_is_to_be_put_back() {
    let (shop, first, second) = two_releases();
    let old = client::manifest(&shop.host(), "acme/app", &first.digest).unwrap();
    let promote = ["promote", &second.reference, "--tag", "stable,edge", "-o", "json"];
    // `stable` is written, `edge` is not. How many reads of `stable` after that come from a cache
    // that has the old release, and what becomes of it then.
    for (stale, action, now) in
        [(0, "restored", &first), (2, "restored", &first), (usize::MAX, "unknown", &second)]
    {
        shop.bed.registry.clear_faults();
        shop.bed.registry.fault(Fault::status(403).method("PUT").path("/manifests/edge"));
        let answer = quorate_bed::Answer::status(200).body(INDEX, old.body.clone());
        let cached = Fault::new(FaultAction::Status(answer)).method("GET").path("/manifests/stable");
        // It is read when it is planned, and right before it is written.
        shop.bed.registry.fault(cached.skip(2).times(stale));
        let report = shop.quorate(&promote).exits(3).says("registry-denied").json();
        let tag = |name: &str| {
            let tags = report["tags"].as_array().unwrap();
            tags.iter().find(|tag| tag["tag"] == name).unwrap()["action"].clone()
        };
        assert_eq!((tag("stable"), tag("edge")), (action.into(), "skipped".into()), "{stale}");
        shop.bed.registry.clear_faults();
        assert_eq!(shop.named("stable").as_ref(), Some(&now.digest), "{stale}");
    }
    assert_eq!(shop.quorate(&promote).exits(0).json()["outcome"], "moved");
}

#[test]
fn a_tag_is_put_back_when_its_promotion_cannot_be_finished() {
    let (shop, first, second) = two_releases();
    shop.bed.registry.fault(Fault::status(403).method("PUT").path("/manifests/edge"));
    let promote = ["promote", &second.reference, "--tag", "stable", "--tag", "edge", "-o", "json"];
    let unfinished = shop.quorate(&promote).exits(3).says("registry-denied").json();
    assert_eq!(unfinished["tags"][0]["action"], "restored");
    assert_eq!(unfinished["tags"][1]["action"], "skipped");
    for tag in ["stable", "edge"] {
        assert_eq!(shop.named(tag).as_deref(), Some(first.digest.as_str()), "{tag}");
    }
    // The same command converges once the registry lets it.
    shop.bed.registry.clear_faults();
    assert_eq!(shop.quorate(&promote).exits(0).json()["outcome"], "moved");
    for tag in ["stable", "edge"] {
        assert_eq!(shop.named(tag).as_deref(), Some(second.digest.as_str()), "{tag}");
    }
}
