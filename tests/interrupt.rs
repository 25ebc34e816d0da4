//! SIGINT and SIGTERM: what a run that somebody ends leaves behind.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quorate_bed::{Fault, FaultAction};
use serde_json::Value;
use shop::{Release, Run, Shop};

/// The report is of the first release.
fn open() -> (Shop, Release, Release) {
    let (shop, first, second) = Shop::with_forward_tags(&["--report", "report.html"]);
    assert!(page(&shop).contains("✓ met"));
    (shop, first, second)
}

fn page(shop: &Shop) -> String {
    fs::read_to_string(shop.path("report.html")).unwrap()
}

/// Starts to move three tags.
fn started(shop: &Shop, release: &Release) -> Child {
    let arguments = ["--tag", "f1,f2,v2", "--journal", "journal.jsonl", "--report", "report.html"];
    let arguments = [&["promote", &release.reference, "-o", "json"], &arguments[..]].concat();
    shop.bed.registry.clear_log();
    begun(shop, &arguments)
}

/// Waits until the registry was asked for this.
#[track_caller]
fn asked(shop: &Shop, method: &str, path: &str, times: usize) {
    let patience = Instant::now() + Duration::from_secs(20);
    let matching = |r: &quorate_bed::Request| r.method == method && r.path.contains(path);
    while shop.bed.registry.log().iter().filter(|r| matching(r)).count() < times {
        assert!(Instant::now() < patience, "no {method} {path}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[track_caller]
fn named(shop: &Shop, tag: &str, release: &Release) {
    let patience = Instant::now() + Duration::from_secs(20);
    while shop.named(tag).as_ref() != Some(&release.digest) {
        assert!(Instant::now() < patience, "{tag}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A signal that is ready to be sent: a shell that waits for a line. Starting one takes its time.
struct Signal(Child);

impl Signal {
    fn ready(child: &Child, signal: &str) -> Self {
        let pid = child.id().to_string();
        let arguments = ["-c", "read line; kill -s $1 $2", "sh", signal, &pid];
        Self(Command::new("sh").args(arguments).stdin(Stdio::piped()).spawn().unwrap())
    }

    fn send(mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

fn action(report: &Value, tag: &str) -> String {
    let tags = report["tags"].as_array().unwrap();
    tags.iter().find(|t| t["tag"] == tag).unwrap()["action"].as_str().unwrap().to_owned()
}

fn steps(shop: &Shop) -> Vec<Value> {
    let text = fs::read_to_string(shop.path("journal.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn step(step: &Value) -> &str {
    step["step"].as_str().unwrap()
}

fn hang() -> Fault {
    Fault::new(FaultAction::Hang).method("PUT").path("manifests/f2")
}

fn slow(millis: u64) -> Fault {
    Fault::new(FaultAction::Delay(Duration::from_millis(millis)))
}

/// Ends well, and finds nothing left over.
fn goes_well(shop: &Shop, release: &Release) {
    shop.bed.registry.clear_faults();
    let run = Run::finished(started(shop, release)).exits(0);
    assert_eq!(run.json()["outcome"], "moved");
    for tag in ["f1", "f2", "v2"] {
        assert_eq!(shop.named(tag).as_ref(), Some(&release.digest), "{tag}");
    }
    assert!(page(shop).contains("✓ met"));
}

#[test]
fn tags_are_put_back_before_it_ends() {
    for signal in ["INT", "TERM"] {
        let (shop, first, second) = open();
        shop.bed.registry.fault(hang());
        let child = started(&shop, &second);
        let ready = Signal::ready(&child, signal);
        asked(&shop, "PUT", "manifests/f2", 1);
        named(&shop, "f1", &second);
        let sent = Instant::now();
        ready.send();
        let run = Run::finished(child).exits(130).says("interrupted while tags were written");
        assert!(sent.elapsed() < Duration::from_secs(7), "a runner waits 7.5 s: {:?}", sent.elapsed());
        let report = run.json();
        assert_eq!(report["outcome"], "undecided");
        let actions = ["f1", "f2", "v2"].map(|tag| action(&report, tag));
        assert_eq!(actions, ["restored", "skipped", "created"], "{signal}");
        for tag in ["f1", "f2"] {
            assert_eq!(shop.named(tag).as_ref(), Some(&first.digest), "{tag}");
        }
        assert_eq!(shop.named("v2").as_ref(), Some(&second.digest));
        assert!(page(&shop).contains("interrupted while tags were written"));
        let noted = steps(&shop);
        assert_eq!((step(&noted[5]), &noted[5]["right"]), ("written", &false.into()));
        assert_eq!((step(&noted[6]), &noted[6]["outcome"]), ("end", &"undecided".into()));
        assert_eq!(noted[5]["tags"], report["tags"]);
        goes_well(&shop, &second);
    }
}

#[test]
fn what_is_being_written_or_read_back_is_put_back_too() {
    // A write that ends a moment later; and a reading back that would take five.
    for (method, skip, millis, times) in [("PUT", 0, 1500, 1), ("GET", 2, 5000, 3)] {
        let (shop, first, second) = open();
        shop.bed.registry.fault(slow(millis).method(method).path("manifests/f2").skip(skip).times(1));
        let child = started(&shop, &second);
        let signal = Signal::ready(&child, "INT");
        asked(&shop, method, "manifests/f2", times);
        signal.send();
        let report = Run::finished(child).exits(130).json();
        for tag in ["f1", "f2"] {
            assert_eq!(action(&report, tag), "restored", "{method}");
            assert_eq!(shop.named(tag).as_ref(), Some(&first.digest), "{tag}");
        }
        goes_well(&shop, &second);
    }
}

#[test]
fn no_tag_is_begun_after_an_interrupt() {
    let (shop, first, second) = open();
    shop.bed.registry.fault(slow(1500).method("PUT").path("manifests/v2"));
    let child = started(&shop, &second);
    let signal = Signal::ready(&child, "INT");
    asked(&shop, "PUT", "manifests/v2", 1);
    signal.send();
    let report = Run::finished(child).exits(130).json();
    let actions = ["f1", "f2", "v2"].map(|tag| action(&report, tag));
    assert_eq!(actions, ["skipped", "skipped", "created"]);
    let written: Vec<_> = shop.bed.registry.writes().into_iter().map(|r| r.path).collect();
    assert_eq!(written, ["/v2/acme/app/manifests/v2"]);
    assert_eq!(shop.named("f1").as_ref(), Some(&first.digest));
    goes_well(&shop, &second);
}

#[test]
fn a_version_is_not_written_after_an_interrupt() {
    let (shop, _, second) = open();
    shop.quorate(&["key", "generate", "gate.key"]).exits(0);
    let record = ["promote", &second.reference, "--tag", "v2", "--record", "--key", "gate.key", "-o", "json"];
    for interrupted in [true, false] {
        shop.bed.registry.clear_log();
        // The first reading is before the record, the second right before the write.
        let read_again = slow(1000).method("GET").path("manifests/v2").skip(1).times(1);
        shop.bed.registry.fault(read_again);
        let child = begun(&shop, &record);
        let signal = interrupted.then(|| Signal::ready(&child, "INT"));
        asked(&shop, "GET", "manifests/v2", 2);
        if let Some(signal) = signal {
            signal.send();
            let run = Run::finished(child).exits(130).says("interrupted while tags were written");
            assert_eq!(action(&run.json(), "v2"), "skipped");
            assert!(shop.bed.registry.writes().iter().all(|r| !r.path.ends_with("manifests/v2")));
            assert_eq!(shop.named("v2"), None);
        } else {
            assert_eq!(action(&Run::finished(child).exits(0).json(), "v2"), "created");
            assert_eq!(shop.named("v2").as_ref(), Some(&second.digest));
        }
    }
}

#[test]
fn a_write_that_failed_is_not_tried_again_after_an_interrupt() {
    let (shop, first, second) = open();
    for interrupted in [true, false] {
        shop.bed.registry.fault(Fault::status(503).method("PUT").path("manifests/f2").times(1));
        // Read when it is planned, right before it is written, and after it failed.
        shop.bed.registry.fault(slow(1000).method("GET").path("manifests/f2").skip(2).times(1));
        let child = started(&shop, &second);
        let signal = interrupted.then(|| Signal::ready(&child, "INT"));
        asked(&shop, "GET", "manifests/f2", 3);
        let writes =
            || shop.bed.registry.writes().iter().filter(|r| r.path.ends_with("manifests/f2")).count();
        if let Some(signal) = signal {
            signal.send();
            let run = Run::finished(child).exits(130).says("interrupted while tags were written");
            let report = run.json();
            assert_eq!(
                ["f1", "f2", "v2"].map(|tag| action(&report, tag)),
                ["restored", "skipped", "created"]
            );
            assert_eq!(writes(), 1);
            assert_eq!(shop.named("f2").as_ref(), Some(&first.digest));
        } else {
            Run::finished(child).exits(0);
            assert_eq!(writes(), 2);
            assert_eq!(shop.named("f2").as_ref(), Some(&second.digest));
        }
    }
}

#[test]
fn the_second_interrupt_ends_it_at_once() {
    let (shop, first, second) = open();
    shop.bed.registry.fault(hang());
    let child = started(&shop, &second);
    let [first_signal, second_signal] = ["INT", "TERM"].map(|signal| Signal::ready(&child, signal));
    asked(&shop, "PUT", "manifests/f2", 1);
    named(&shop, "f1", &second);
    first_signal.send();
    // Two signals of one kind at a time may arrive as one.
    std::thread::sleep(Duration::from_millis(300));
    let sent = Instant::now();
    second_signal.send();
    let run = Run::finished(child).exits(130).says("a tag may have moved");
    assert!(sent.elapsed() < Duration::from_secs(5), "{:?}", sent.elapsed());
    assert_eq!(run.json()["verdict"], Value::Null);
    assert_eq!(shop.named("f1").as_ref(), Some(&second.digest), "nothing is put back");
    assert!(page(&shop).contains("✗ undecided") && !page(&shop).contains("✓"));
    // The journal says how far it came, and what to put back by hand.
    assert_eq!(step(steps(&shop).last().unwrap()), "writing");
    shop.bed.registry.clear_faults();
    let next = Run::finished(started(&shop, &second)).exits(0);
    assert!(next.stderr.contains(&format!("`f1` named {}", first.digest)), "{}", next.stderr);
}

#[test]
fn before_a_tag_is_written_it_ends_at_once() {
    for signal in ["INT", "TERM"] {
        let (shop, first, second) = open();
        shop.bed.registry.fault(slow(20_000).path("/blobs/"));
        let child = started(&shop, &second);
        let ready = Signal::ready(&child, signal);
        asked(&shop, "GET", "/blobs/", 1);
        // Already now the report is no longer that of the first run.
        assert!(page(&shop).contains("has not ended") && !page(&shop).contains("✓"));
        let sent = Instant::now();
        ready.send();
        let run = Run::finished(child).exits(130).says("error: interrupted\n");
        assert!(sent.elapsed() < Duration::from_secs(5), "{:?}", sent.elapsed());
        assert_eq!(run.json()["outcome"], "undecided");
        assert!(shop.bed.registry.writes().is_empty());
        assert_eq!(shop.named("f1").as_ref(), Some(&first.digest));
        assert!(page(&shop).contains("interrupted") && !page(&shop).contains("✓"));
        goes_well(&shop, &second);
    }
}

/// Starts a command that is not to be waited for.
fn begun(shop: &Shop, arguments: &[&str]) -> Child {
    let mut command = shop.command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sends it a signal, which must end it soon.
#[track_caller]
fn ends(child: Child, signal: &str) {
    let sent = Instant::now();
    Signal::ready(&child, signal).send();
    let run = Run::finished(child);
    assert_eq!((run.code, run.stdout.as_str()), (130, ""), "{}", run.stderr);
    assert!(run.stderr.starts_with("error: interrupted\n"), "{}", run.stderr);
    assert!(sent.elapsed() < Duration::from_secs(10), "{:?}", sent.elapsed());
}

#[test]
fn what_waits_for_a_file_ends() {
    let shop = Shop::open();
    let policy = shop.policy(2);
    assert!(Command::new("mkfifo").arg(shop.path("pipe.toml")).status().unwrap().success());
    for signal in ["INT", "TERM"] {
        let child = begun(&shop, &["policy", "check", "pipe.toml"]);
        // It opens the pipe, as this does, and waits for what is never written.
        let pipe = fs::File::options().write(true).open(shop.path("pipe.toml")).unwrap();
        ends(child, signal);
        drop(pipe);
    }
    let child = begun(&shop, &["policy", "check", "pipe.toml"]);
    fs::write(shop.path("pipe.toml"), policy).unwrap();
    Run::finished(child).exits(0);
}

#[test]
fn what_is_busy_ends() {
    let shop = Shop::open();
    // A file with nothing on the disk, and hours to read.
    fs::File::create(shop.path("large")).unwrap().set_len(8 << 40).unwrap();
    for signal in ["INT", "TERM"] {
        let child = begun(&shop, &["nar-hash", "large"]);
        std::thread::sleep(Duration::from_millis(500));
        ends(child, signal);
    }
    shop.write("small", "content");
    shop.quorate(&["nar-hash", "small"]).exits(0);
}

#[test]
fn a_program_that_prints_an_image_ends_with_the_run() {
    let shop = Shop::open();
    shop.write("image.tar", shop::build("amd64", "hello").docker_archive());
    // It prints nothing, or has printed everything, and goes on.
    for (name, start) in [("silent", ""), ("lasting", "cat image.tar; exec >&-")] {
        let program =
            format!("#!/bin/sh\nexec 2>/dev/null\n{start}\n: > {name}-began\nsleep 6\n: > survived\n");
        shop.write(name, program);
        executable(&shop, name);
        let child = begun(&shop, &["push", name, &shop.at("x"), "--run"]);
        let patience = Instant::now() + Duration::from_secs(20);
        while !shop.path(&format!("{name}-began")).exists() {
            assert!(Instant::now() < patience, "it runs");
            std::thread::sleep(Duration::from_millis(2));
        }
        ends(child, "TERM");
        assert!(shop.bed.registry.writes().is_empty());
    }
    std::thread::sleep(Duration::from_secs(7));
    assert!(!shop.path("survived").exists());
    shop.write("brief", "#!/bin/sh\ncat image.tar\n: > survived\n");
    executable(&shop, "brief");
    Run::finished(begun(&shop, &["push", "brief", &shop.at("x"), "--run"])).exits(0);
    assert!(shop.path("survived").exists());
}

fn executable(shop: &Shop, name: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(shop.path(name), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_run_that_is_killed_leaves_no_report_of_an_earlier_one() {
    let (shop, _, second) = open();
    shop.bed.registry.fault(hang());
    let mut child = started(&shop, &second);
    asked(&shop, "PUT", "manifests/f2", 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(page(&shop).contains("✗ undecided") && page(&shop).contains("was killed"));
}
