//! Options of `promote`, and what comes of it when somebody else is at the same tags.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use quorate_bed::{Fault, FaultAction, RegistryOptions, client};
use serde_json::Value;
use shop::{AMD64, ARM64, COMMIT, OTHER_COMMIT, Release, Run, Shop};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn promote(shop: &Shop, release: &Release, more: &[&str]) -> Run {
    let mut arguments = vec!["promote", &release.reference, "-o", "json"];
    arguments.extend(more);
    shop.bed.registry.clear_log();
    shop.quorate(&arguments)
}

/// The same, started and not waited for.
fn started(shop: &Shop, release: &Release, more: &[&str]) -> Child {
    let mut arguments = vec!["promote", &release.reference, "-o", "json"];
    arguments.extend(more);
    let mut command = shop.command(&arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until the registry has answered such a request.
#[track_caller]
fn answered(shop: &Shop, method: &str, path: &str) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !shop
        .bed
        .registry
        .log()
        .iter()
        .any(|r| r.method == method && r.path.ends_with(path) && r.ended.is_some())
    {
        assert!(Instant::now() < patience, "no {method} {path}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Moves a tag to an index that is there, by hand.
fn move_by_hand(shop: &Shop, tag: &str, digest: &str) {
    let bytes = client::manifest(&shop.host(), "acme/app", digest).unwrap().body;
    client::put_manifest(&shop.host(), "acme/app", tag, INDEX, &bytes).unwrap();
}

fn tag<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["tags"].as_array().unwrap().iter().find(|tag| tag["tag"] == name).unwrap()
}

fn writes(shop: &Shop) -> Vec<String> {
    shop.bed.registry.writes().into_iter().map(|r| format!("{} {}", r.method, r.path)).collect()
}

#[test]
fn a_tag_moves_only_away_from_what_is_expected() {
    let shop = Shop::open();
    let (first, second) = (shop.agreed("git-1", "1"), shop.agreed("git-2", "2"));
    let expecting = |release: &Release, old: &str| {
        promote(&shop, release, &["--tag", "latest", "--expect-old", &format!("latest={old}")])
    };
    let refused = expecting(&first, &second.digest).exits(1).says("tag-unexpected").json();
    assert_eq!(tag(&refused, "latest")["reason"], "tag-unexpected");
    assert!(writes(&shop).is_empty());
    expecting(&first, "absent").exits(0);

    expecting(&second, "absent").exits(1).says("tag-unexpected");
    assert!(writes(&shop).is_empty());
    expecting(&second, &first.digest).exits(0);
    assert_eq!(shop.named("latest").as_deref(), Some(second.digest.as_str()));
    // What is right already stays, so the same command can be run again.
    let again = expecting(&second, &first.digest).exits(0).json();
    assert_eq!(again["outcome"], "unchanged");
    assert!(writes(&shop).is_empty());

    for (expectation, says) in [
        ("stable=absent", "which is not to be moved"),
        ("latest=absent,latest=sha256:0", "sha256"),
        ("latest", "TAG=absent"),
    ] {
        let run = promote(&shop, &second, &["--tag", "latest", "--expect-old", expectation]).exits(2);
        assert!(run.stderr.contains(says), "{}", run.stderr);
    }
    let twice = format!("latest=absent,latest={}", first.digest);
    promote(&shop, &second, &["--tag", "latest", "--expect-old", &twice]).exits(2).says("two things");
    assert!(shop.bed.registry.log().is_empty(), "a wrong request is not asked about");
}

#[test]
fn a_tag_without_a_rule_is_not_moved() {
    let shop = Shop::open();
    let release = shop.agreed("git-1", "1");
    let refused = promote(&shop, &release, &["--tag", "latest", "--tag", "lates"]).exits(2);
    // A first rule would leave `latest` without one: who adds it must know.
    refused.says("no rule for the tag `lates`").says("replaces those for `latest`");
    assert!(shop.bed.registry.log().is_empty(), "nothing was asked");
    promote(&shop, &release, &["--tag", "latest"]).exits(0);
}

#[test]
fn a_tag_of_evidence_is_no_tag_of_a_release() {
    let shop = Shop::open();
    let tags = "quorum = 2\n[[image.tag]]\nname = \"*\"\nrule = \"forward\"\n";
    shop.write("quorate.toml", shop.policy(2).replacen("quorum = 2\n", tags, 1));
    let release = shop.release_unruled("git-1");
    shop.attest_all(&release, &["github", "garnix"]);
    let image = release.images[0].manifest_digest.replace(':', "-");
    for tag in [image.clone(), format!("{image}.q-basement.0"), format!("{image}.q-pack")] {
        promote(&shop, &release, &["--tag", &tag]).exits(2).says("evidence is kept under such tags");
        assert!(shop.bed.registry.writes().is_empty());
    }
    promote(&shop, &release, &["--tag", "edge"]).exits(0);
}

#[test]
fn the_release_must_be_of_the_commit_that_is_expected() {
    let shop = Shop::open();
    let release = shop.agreed("git-1", "1");
    let of = |commit: &str| promote(&shop, &release, &["--tag", "latest", "--expect-commit", commit]);
    let other = of(OTHER_COMMIT).exits(1).json();
    assert_eq!((&other["verdict"], &other["outcome"]), (&"short".into(), &"refused".into()));
    assert_eq!(shop::cell(&other, "linux/amd64", "github"), "rejected commit-unexpected");
    assert!(writes(&shop).is_empty());
    of(COMMIT).exits(0);
    assert_eq!(shop.named("latest").as_deref(), Some(release.digest.as_str()));
}

#[test]
fn missing_votes_are_waited_for() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github"]);
    shop.bed.registry.clear_log();
    let waiting = started(&shop, &release, &["--tag", "latest", "--wait", "60s"]);
    // It has looked, and found too little.
    let evidence = format!("/referrers/{}", release.images[1].manifest_digest);
    answered(&shop, "GET", &evidence);
    shop.attest_all(&release, &["garnix"]);
    let run = Run::finished(waiting).exits(0);
    assert!(run.stderr.contains("waiting: linux/amd64 needs 1 more operator: garnix"), "{}", run.stderr);
    assert_eq!(run.json()["outcome"], "moved");
    assert_eq!(shop.named("latest").as_deref(), Some(release.digest.as_str()));
}

#[test]
fn the_waiting_ends() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github"]);
    let wait = |time: &str| promote(&shop, &release, &["--tag", "latest", "--wait", time]);
    let run = wait("2s").exits(1);
    assert!(run.stderr.contains("\nerror: the quorum is not met"), "{}", run.stderr);
    let short = run.json();
    assert_eq!((&short["verdict"], &short["outcome"]), (&"short".into(), &"refused".into()));
    let evidence = format!("/referrers/{}", release.images[0].manifest_digest);
    let looks = shop.bed.registry.log().iter().filter(|r| r.path.ends_with(&evidence)).count();
    assert!((2..=4).contains(&looks), "{looks} looks in two seconds");
    assert!(writes(&shop).is_empty());
    for time in ["0s", "-1m", "30", "25h", "soon"] {
        let option = format!("--wait={time}");
        promote(&shop, &release, &["--tag", "latest", &option]).exits(2).says("30m");
    }
    // What cannot be found out is no missing vote.
    shop.bed.registry.fault(Fault::status(403).path("/referrers/"));
    let begin = Instant::now();
    wait("10m").exits(3).says("registry-denied");
    shop.bed.registry.clear_faults();
    // Nor is a builder that disagrees, even where votes are missing besides.
    let other = shop::build("amd64", "something else");
    let more = ["--record-dissent"];
    shop.attest_as(&release.reference, "basement", AMD64.1, &other.config_digest, &more).exits(0);
    let dissent = wait("10m").exits(1).says("a builder disagrees").json();
    assert_eq!(dissent["verdict"], "dissent");
    assert!(writes(&shop).is_empty());
    assert!(begin.elapsed() < Duration::from_secs(60), "neither was waited for");
}

#[test]
fn tags_of_single_images_are_removed_once_the_release_is_named() {
    let shop = Shop::new(RegistryOptions { tag_deletion: true, ..Default::default() });
    let release = shop.release("git-1", "hello");
    let names = ["git-1-amd64", "git-1-arm64"];
    let with = ["--tag", "latest", "--untag", "git-1-amd64,git-1-arm64,git-1,gone"];
    shop.attest_all(&release, &["github"]);
    promote(&shop, &release, &with).exits(1);
    assert!(writes(&shop).is_empty(), "nothing is removed for a release that is refused");

    shop.attest_all(&release, &["garnix"]);
    let untagged = |report: &Value| -> Vec<String> {
        let untagged = report["untagged"].as_array().unwrap().iter();
        untagged
            .map(|u| format!("{} {}", u["tag"].as_str().unwrap(), u["action"].as_str().unwrap()))
            .collect()
    };
    let planned = promote(&shop, &release, &[&with[..], &["--dry-run"]].concat()).exits(0).json();
    let only = "only what names a single image of the release";
    let expected = ["git-1 kept", "git-1-amd64 planned", "git-1-arm64 planned", "gone absent"];
    assert_eq!(untagged(&planned), expected, "{only}");
    assert!(writes(&shop).is_empty());

    // What fails afterwards is said, and leaves the release where it is.
    shop.bed.registry.fault(Fault::status(403).method("DELETE").path("git-1-arm64"));
    let report = promote(&shop, &release, &with).exits(3).says("registry-denied").json();
    assert_eq!(untagged(&report), ["git-1 kept", "git-1-amd64 removed", "gone absent"]);
    assert_eq!(tag(&report, "latest")["action"], "created");
    shop.bed.registry.clear_faults();

    let report = promote(&shop, &release, &with).exits(0).json();
    let expected = ["git-1 kept", "git-1-amd64 absent", "git-1-arm64 removed", "gone absent"];
    assert_eq!(untagged(&report), expected, "{only}");
    for (name, image) in names.iter().zip(&release.images) {
        assert_eq!(shop.named(name), None);
        assert_eq!(shop.named(&image.manifest_digest).as_ref(), Some(&image.manifest_digest));
    }
    shop.quorate(&["verify", &shop.at("latest")]).exits(0);
    shop.quorate(&["verify", &shop.at("git-1")]).exits(0);
    promote(&shop, &release, &["--tag", "latest", "--untag", "latest"]).exits(2).says("--untag");
}

#[test]
fn a_registry_that_cannot_remove_a_tag_alone_keeps_it() {
    let shop = Shop::open();
    let release = shop.agreed("git-1", "1");
    let report = promote(&shop, &release, &["--tag", "latest", "--untag", "git-1-amd64"]).exits(0).json();
    assert_eq!(report["untagged"][0]["action"], "kept");
    assert_eq!(shop.named("git-1-amd64").as_ref(), Some(&release.images[0].manifest_digest));
}

#[test]
fn a_tag_that_somebody_moves_after_the_reading_is_not_written() {
    let shop = Shop::open();
    let (first, second) = (shop.agreed("git-1", "1"), shop.agreed("git-2", "2"));
    let hand = shop.release("git-3", "by hand");
    promote(&shop, &first, &["--tag", "latest"]).exits(0);
    shop.bed.registry.clear_log();
    // The judgement takes its time.
    shop.bed.registry.fault(Fault::new(FaultAction::Delay(Duration::from_secs(2))).path("/blobs/"));
    let running = started(&shop, &second, &["--tag", "latest,2.0.0"]);
    answered(&shop, "GET", "/manifests/latest");
    move_by_hand(&shop, "latest", &hand.digest);
    let report = Run::finished(running).exits(3).says("tag-raced").json();
    let latest = tag(&report, "latest");
    assert_eq!((&latest["action"], &latest["reason"]), (&"elsewhere".into(), &"tag-raced".into()));
    assert_eq!(latest["before"], first.digest.as_str());
    assert_eq!(latest["after"], hand.digest.as_str());
    assert_eq!(tag(&report, "2.0.0")["action"], "created", "what was written meanwhile is named");
    let written = writes(&shop).iter().filter(|write| write.ends_with("/manifests/latest")).count();
    assert_eq!(written, 1, "by hand alone");
    assert_eq!(shop.named("latest").as_deref(), Some(hand.digest.as_str()));
    // The hand's image is no release: it is not overwritten without a word.
    shop.bed.registry.clear_faults();
    promote(&shop, &second, &["--tag", "latest,2.0.0"]).exits(1).says("tag-unverified");
    let adopt = ["--tag", "latest,2.0.0", "--adopt", &hand.digest];
    assert_eq!(promote(&shop, &second, &adopt).exits(0).json()["outcome"], "moved");
}

#[test]
fn a_tag_that_somebody_moves_after_the_writing_is_named() {
    let shop = Shop::open();
    let (first, second) = (shop.agreed("git-1", "1"), shop.agreed("git-2", "2"));
    let hand = shop.release("git-3", "by hand");
    promote(&shop, &first, &["--tag", "latest"]).exits(0);
    shop.bed.registry.clear_log();
    // It is read, read again, written, and the third reading is slow.
    let slow = Fault::new(FaultAction::Delay(Duration::from_secs(2)));
    shop.bed.registry.fault(slow.method("GET").path("/manifests/latest").skip(2).times(1));
    let running = started(&shop, &second, &["--tag", "latest"]);
    answered(&shop, "PUT", "/manifests/latest");
    move_by_hand(&shop, "latest", &hand.digest);
    let report = Run::finished(running).exits(3).says("tag-raced").json();
    assert_eq!(tag(&report, "latest")["action"], "elsewhere");
    assert_eq!(tag(&report, "latest")["after"], hand.digest.as_str());
    assert_eq!(shop.named("latest").as_deref(), Some(hand.digest.as_str()), "it is not put back");
}

#[test]
fn a_write_that_failed_is_not_repeated_over_what_somebody_else_wrote() {
    let shop = Shop::open();
    let (first, second) = (shop.agreed("git-1", "1"), shop.agreed("git-2", "2"));
    let hand = shop.release("git-3", "by hand");
    promote(&shop, &first, &["--tag", "latest"]).exits(0);
    // Undisturbed, it is repeated.
    let fail = || Fault::status(503).method("PUT").path("/manifests/latest").times(1);
    shop.bed.registry.fault(fail());
    promote(&shop, &second, &["--tag", "latest"]).exits(0);
    promote(&shop, &first, &["--tag", "latest", "--allow-rollback"]).exits(0);

    shop.bed.registry.clear_log();
    shop.bed.registry.fault(fail());
    // The look after the failure comes late enough for a hand in between.
    let slow = Fault::new(FaultAction::Delay(Duration::from_secs(1)));
    shop.bed.registry.fault(slow.method("GET").path("/manifests/latest").skip(2).times(1));
    let running = started(&shop, &second, &["--tag", "latest"]);
    answered(&shop, "PUT", "/manifests/latest");
    move_by_hand(&shop, "latest", &hand.digest);
    let report = Run::finished(running).exits(3).json();
    assert_eq!(tag(&report, "latest")["reason"], "tag-raced");
    assert_eq!(tag(&report, "latest")["after"], hand.digest.as_str());
    assert_eq!(shop.named("latest").as_deref(), Some(hand.digest.as_str()));
}

#[test]
fn an_index_that_is_replaced_under_its_tag_is_not_what_is_written() {
    let shop = Shop::open();
    let release = shop.agreed("git-1", "1");
    let other = shop.release("git-2", "another");
    shop.bed.registry.clear_log();
    shop.bed.registry.fault(Fault::new(FaultAction::Delay(Duration::from_secs(2))).path("/blobs/"));
    let running = started(&shop, &release, &["--tag", "latest"]);
    answered(&shop, "GET", "/manifests/git-1");
    move_by_hand(&shop, "git-1", &other.digest);
    let report = Run::finished(running).exits(0).json();
    assert_eq!(report["image"]["digest"], release.digest.as_str());
    assert_eq!(shop.named("latest").as_deref(), Some(release.digest.as_str()), "what was judged");
    shop.bed.registry.clear_faults();
    promote(&shop, &release, &["--tag", "latest"]).exits(1).says("the quorum is not met");
}

#[test]
fn two_promotions_at_once_leave_one_of_the_two() {
    let shop = Shop::new(RegistryOptions { latency: Duration::from_millis(20), ..Default::default() });
    let (first, second) = (shop.agreed("git-1", "1"), shop.agreed("git-2", "2"));
    for round in 0..6 {
        let version = format!("1.{round}");
        let tags = ["--tag", "latest", "--tag", &version];
        let releases = if round % 2 == 0 { [&first, &second] } else { [&second, &first] };
        let running = releases.map(|release| started(&shop, release, &tags));
        for (run, release) in running.map(Run::finished).into_iter().zip(releases) {
            assert!([0, 1, 3].contains(&run.code), "{}", run.stderr);
            let report = run.json();
            for tag in report["tags"].as_array().unwrap() {
                let reasons = ["tag-raced", "tag-backwards", "tag-immutable"];
                let named = tag["reason"].as_str().is_none_or(|reason| reasons.contains(&reason));
                assert!(named, "{report}");
                if run.code == 0 {
                    assert_eq!(tag["after"], release.digest.as_str(), "{report}");
                }
            }
        }
        for tag in ["latest", &version] {
            let now = shop.named(tag);
            assert!(now.as_ref() == Some(&first.digest) || now.as_ref() == Some(&second.digest), "{now:?}");
        }
    }
    promote(&shop, &second, &["--tag", "latest"]).exits(0);
    assert_eq!(shop.named("latest").as_deref(), Some(second.digest.as_str()));
    promote(&shop, &first, &["--tag", "latest"]).exits(1).says("tag-backwards");
}

#[test]
fn a_version_that_somebody_takes_while_the_record_is_signed_stays_theirs() {
    let shop = Shop::open();
    shop.quorate(&["key", "generate", "gate.key"]).exits(0);
    let release = shop.agreed("git-1", "1");
    let slow = Fault::new(FaultAction::Delay(Duration::from_secs(2)));
    for taken in [true, false] {
        let version = format!("1.{}", u8::from(taken));
        shop.bed.log.fault(slow.clone());
        let asked = shop.bed.log.request_count();
        let identity = format!("https://acme.example/gates/{version}");
        let record = ["--tag", &version, "--record", "--key", "gate.key", "--verifier-id", &identity];
        let running = started(&shop, &release, &record);
        let patience = Instant::now() + Duration::from_secs(20);
        while shop.bed.log.request_count() == asked {
            assert!(Instant::now() < patience, "the log is asked");
            std::thread::sleep(Duration::from_millis(20));
        }
        let theirs = taken.then(|| shop.push(&version, "amd64", "theirs").manifest_digest);
        let run = Run::finished(running);
        shop.bed.log.clear_faults();
        if let Some(theirs) = theirs {
            run.exits(3).says("tag-raced");
            assert_eq!(shop.named(&version), Some(theirs));
        } else {
            run.exits(0);
            assert_eq!(shop.named(&version).as_ref(), Some(&release.digest));
        }
    }
}

#[test]
fn tags_are_put_back_even_when_the_time_is_up() {
    let shop = Shop::open();
    let rule = "[[image.tag]]\nname = \"s-*\"\nrule = \"forward\"\n\n[[builder]]";
    shop.write("quorate.toml", shop.policy(2).replacen("[[builder]]", rule, 1));
    let (first, second) = (shop.agreed("git-1", "1"), shop.agreed("git-2", "2"));
    promote(&shop, &first, &["--tag", "s-one,s-two"]).exits(0);
    shop.bed.registry.fault(Fault::new(FaultAction::Hang).method("PUT").path("/manifests/s-two"));
    let tags = ["--tag", "s-one,s-two", "--timeout", "3"];
    let report = promote(&shop, &second, &tags).exits(3).says("registry-timeout").json();
    assert_eq!(tag(&report, "s-one")["action"], "restored");
    assert_eq!(tag(&report, "s-two")["action"], "skipped");
    for name in ["s-one", "s-two"] {
        assert_eq!(shop.named(name).as_deref(), Some(first.digest.as_str()), "{name}");
    }
    shop.bed.registry.clear_faults();
    assert_eq!(promote(&shop, &second, &tags).exits(0).json()["outcome"], "moved");
}

#[test]
fn an_image_whose_tags_are_refused_is_not_handed_on() {
    let shop = Shop::open();
    let (first, second) = (shop.agreed("git-1", "1"), shop.agreed("git-2", "2"));
    promote(&shop, &first, &["--tag", "1.0.0"]).exits(0);
    let outputs = |release: &Release, version: &str, code: i32| {
        shop.write("outputs", "");
        let (file, summary) = (shop.path("outputs"), shop.path("summary"));
        let environment = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_OUTPUT", file.to_str().unwrap()),
            ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap()),
        ];
        shop.quorate_with(&["promote", &release.reference, "--tag", version], &environment).exits(code);
        std::fs::read_to_string(file).unwrap()
    };
    let refused = outputs(&second, "1.0.0", 1);
    assert!(refused.contains("outcome") && refused.contains("verdict"), "{refused}");
    let names = |text: &str, name: &str| {
        text.lines().any(|l| l.starts_with(&format!("{name}=")) || l.starts_with(&format!("{name}<<")))
    };
    assert!(!names(&refused, "image") && !names(&refused, "digest"), "{refused}");
    let moved = outputs(&second, "2.0.0", 0);
    assert!(names(&moved, "image") && names(&moved, "digest"), "{moved}");
}

#[test]
fn tags_of_a_large_index_are_read_back_as_those_of_a_small_one() {
    const TAGS: [&str; 2] = ["--tag", "s-1,s-2,s-3,s-4,s-5"];
    // Five times as much is more than a run keeps of what it reads.
    let large = "x".repeat(3_500_000);
    let shop = Shop::open();
    let rule = "[[image.tag]]\nname = \"s-*\"\nrule = \"forward\"\n\n[[builder]]";
    shop.write("quorate.toml", shop.policy(2).replacen("[[builder]]", rule, 1));
    for (name, sequence) in [("git-1", "1"), ("git-2", "2")] {
        let small = shop.agreed(name, sequence);
        let index = client::manifest(&shop.host(), "acme/app", &small.digest).unwrap().body;
        let mut index: Value = serde_json::from_slice(&index).unwrap();
        index["annotations"]["org.acme.notes"] = large.clone().into();
        let status =
            client::put_manifest(&shop.host(), "acme/app", name, INDEX, index.to_string().as_bytes());
        assert_eq!(status.unwrap(), 201);
        let digest = shop.named(name).unwrap();
        // The tags are absent, then name the first release, and at last are right already.
        for outcome in ["moved", "unchanged"] {
            let report = promote(&shop, &small, &TAGS).exits(0).json();
            assert_eq!(
                (&report["outcome"], &report["image"]["digest"]),
                (&outcome.into(), &digest.clone().into())
            );
            assert_eq!(shop.named("s-5").as_ref(), Some(&digest));
        }
    }
}

#[test]
fn the_environment_of_a_job_serves_each_command_its_own() {
    let shop = Shop::open();
    let job = [
        ("QUORATE_PROMOTE_TAG", "latest"),
        ("QUORATE_ASSEMBLE_TAG", "git-2"),
        ("QUORATE_COMMIT", COMMIT),
        ("QUORATE_BUNDLE", "bundles"),
    ];
    let release = shop.release("git-1", "hello");
    let (repository, images) = (shop.repository(), ["git-1-amd64", "git-1-arm64"].map(|tag| shop.at(tag)));
    // The images do not say which commit they are of, and `latest` is not for `assemble` to write.
    shop.quorate_with(&["assemble", &repository, &images[0], &images[1]], &job).exits(0);
    assert_eq!((shop.named("git-2").as_ref(), shop.named("latest")), (Some(&release.digest), None));
    let refused = [("QUORATE_ASSEMBLE_TAG", "latest")];
    let assemble = ["assemble", &repository, &images[0], &images[1]];
    shop.quorate_with(&assemble, &refused).exits(2).says("does not write the tag `latest`");
    for (builder, key) in [("github", "github.key"), ("garnix", "garnix.key")] {
        for ((_, system), image) in [AMD64, ARM64].iter().zip(&release.images) {
            let arguments = ["attest", &release.reference, "--builder", builder, "--key", key];
            let build = ["--system", system, "--config-digest", &image.config_digest];
            let more = ["--sequence", "1", "--nar-hash", shop::NAR_HASH, "--no-infer"];
            shop.quorate_with(&[&arguments[..], &build, &more].concat(), &job).exits(0);
        }
    }
    shop.quorate_with(&["promote", &release.reference], &job).exits(0);
    assert_eq!(shop.named("latest"), Some(release.digest));
}
