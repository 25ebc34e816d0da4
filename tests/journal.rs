//! `promote --journal`: what a run that was cut short leaves behind, and what the next one makes
//! of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use quorate_bed::{Fault, FaultAction};
use serde_json::Value;
use shop::{AMD64, Release, Run, Shop};

const TAGS: [&str; 4] = ["--tag", "f1,f2,v2", "--journal", "journal.jsonl"];

fn promote(shop: &Shop, release: &Release, more: &[&str]) -> Run {
    shop.bed.registry.clear_log();
    shop.quorate(&[&["promote", &release.reference, "-o", "json", "--timeout", "5"], more].concat())
}

/// Promotes, and ends the process when `f1` is written and the write of `f2` hangs.
fn cut_short(shop: &Shop, release: &Release, more: &[&str]) {
    shop.bed.registry.clear_log();
    shop.bed.registry.fault(Fault::new(FaultAction::Hang).method("PUT").path("manifests/f2"));
    let arguments = [&["promote", &release.reference, "--timeout", "60"], more].concat();
    let mut child = shop.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(20);
    let arrived = |tag: &str| shop.bed.registry.writes().iter().any(|r| r.path.ends_with(tag));
    while shop.named("f1").as_ref() != Some(&release.digest) || !arrived("manifests/f2") {
        assert!(Instant::now() < patience && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    shop.bed.registry.clear_faults();
}

fn steps(shop: &Shop) -> Vec<Value> {
    let text = fs::read_to_string(shop.path("journal.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(steps: &[Value]) -> Vec<&str> {
    steps.iter().map(|step| step["step"].as_str().unwrap()).collect()
}

fn tag(report: &Value, name: &str) -> [Option<String>; 3] {
    let tag = report["tags"].as_array().unwrap().iter().find(|tag| tag["tag"] == name).unwrap();
    ["action", "before", "after"].map(|field| tag[field].as_str().map(str::to_owned))
}

#[test]
fn each_step_is_noted() {
    let (shop, first, second) = Shop::with_forward_tags(&[]);
    promote(&shop, &second, &TAGS).exits(0);
    let noted = steps(&shop);
    let all = ["begin", "judged", "planned", "writing", "writing", "written", "end"];
    assert_eq!(names(&noted), all);
    assert_eq!(noted[0]["image"]["digest"], second.digest.as_str());
    assert_eq!(noted[3]["tags"], serde_json::json!([{ "tag": "v2", "before": null }]));
    assert_eq!(noted[4]["tags"][0], serde_json::json!({ "tag": "f1", "before": first.digest }));
    assert_eq!(noted[6]["outcome"], "moved");
    // Run again, nothing is to be written, and a run that ended well has nothing to tell.
    let again = promote(&shop, &second, &TAGS).exits(0);
    assert!(!again.stderr.contains("cut short"), "{}", again.stderr);
    assert_eq!(again.json()["outcome"], "unchanged");
    assert_eq!(names(&steps(&shop)[7..]), ["begin", "judged", "planned", "written", "end"]);
    // A dry run leaves no trace.
    promote(&shop, &second, &["--tag", "f1", "--journal", "dry", "--dry-run"]).exits(0);
    assert!(!shop.path("dry").exists());
}

#[test]
fn the_next_run_says_what_tags_named_and_goes_on() {
    let (shop, first, second) = Shop::with_forward_tags(&[]);
    cut_short(&shop, &second, &TAGS);
    assert_eq!(names(&steps(&shop)).last(), Some(&"writing"));
    let run = promote(&shop, &second, &TAGS).exits(0);
    assert!(run.stderr.contains("cut short"), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("`f1` named {}", first.digest)), "{}", run.stderr);
    let report = run.json();
    assert_eq!(report["outcome"], "moved");
    let now = Some(second.digest.clone());
    assert_eq!(tag(&report, "f1"), [Some("unchanged".to_owned()), now.clone(), now.clone()]);
    assert_eq!(tag(&report, "f2"), [Some("moved".to_owned()), Some(first.digest.clone()), now.clone()]);
    assert_eq!(tag(&report, "v2"), [Some("unchanged".to_owned()), now.clone(), now]);
    let written: Vec<_> = shop.bed.registry.writes().into_iter().map(|r| r.path).collect();
    assert_eq!(written, ["/v2/acme/app/manifests/f2"], "what is right is not written again");
}

#[test]
fn tags_are_put_back_to_what_the_run_itself_read() {
    let (shop, first, second) = Shop::with_forward_tags(&[]);
    shop.quorate(&["promote", &first.reference, "--tag", "f3"]).exits(0);
    let older = shop.agreed("git-0", "0");
    let tags = ["--tag", "f1,f2,f3", "--journal", "journal.jsonl"];
    shop.bed.registry.fault(Fault::new(FaultAction::Hang).method("PUT").path("manifests/f3"));
    cut_short(&shop, &second, &tags);
    let honest = fs::read_to_string(shop.path("journal.jsonl")).unwrap();
    // Somebody writes an older release into the journal, which the policy verifies.
    for journal in [honest.replace(&first.digest, &older.digest), honest] {
        shop.write("journal.jsonl", journal);
        shop.bed.registry.fault(Fault::status(403).method("PUT").path("manifests/f3"));
        let run = promote(&shop, &second, &tags).exits(3);
        assert!(run.stderr.contains("registry-denied"), "{}", run.stderr);
        let report = run.json();
        let actions = ["f1", "f2", "f3"].map(|name| tag(&report, name)[0].clone().unwrap());
        assert_eq!(actions, ["unchanged", "restored", "skipped"]);
        let named = ["f1", "f2", "f3"].map(|name| shop.named(name).unwrap());
        assert_eq!(named, [&second.digest, &first.digest, &first.digest].map(String::as_str));
        shop.bed.registry.clear_faults();
    }
    promote(&shop, &second, &tags).exits(0);
    assert_eq!(shop.named("f3"), Some(second.digest));
}

#[test]
fn a_refusal_writes_nothing_whatever_the_journal_says() {
    let (shop, first, second) = Shop::with_forward_tags(&[]);
    cut_short(&shop, &second, &TAGS);
    let other = shop::build("amd64", "something else");
    shop.attest_as(
        &second.reference,
        "basement",
        AMD64.1,
        &other.config_digest,
        &["--record-dissent", "--sequence", "2", "--commit", shop::OTHER_COMMIT],
    )
    .exits(0);
    let report = promote(&shop, &second, &TAGS).exits(1).json();
    assert_eq!(report["verdict"], "dissent");
    assert_eq!(shop.bed.registry.writes().len(), 0);
    // The knowledge is kept.
    assert_eq!(shop.named("f1").as_ref(), Some(&second.digest));
    assert_eq!(shop.named("f2").as_ref(), Some(&first.digest));
    let run = promote(&shop, &second, &TAGS).exits(1);
    assert!(run.stderr.contains("cut short"), "{}", run.stderr);
}

#[test]
fn a_journal_is_for_one_release_and_one_policy() {
    let (shop, first, second) = Shop::with_forward_tags(&[]);
    promote(&shop, &second, &TAGS).exits(0);
    let before = fs::read(shop.path("journal.jsonl")).unwrap();
    promote(&shop, &first, &TAGS).exits(2).says("journal-other");
    shop.write("quorate.toml", fs::read_to_string(shop.path("quorate.toml")).unwrap() + "\n# another\n");
    promote(&shop, &second, &TAGS).exits(2).says("journal-other");
    for file in ["root.json", "github.key"] {
        let text = fs::read(shop.path(file)).unwrap();
        promote(&shop, &second, &["--tag", "f1", "--journal", file]).exits(2).says("journal-malformed");
        assert_eq!(fs::read(shop.path(file)).unwrap(), text, "it is left alone");
    }
    promote(&shop, &second, &["--tag", "f1", "--journal", "no/such/folder"]).exits(2).says("journal");
    assert_eq!(shop.bed.registry.writes().len(), 0);
    assert_eq!(fs::read(shop.path("journal.jsonl")).unwrap(), before);
}
