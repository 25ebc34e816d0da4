//! Whom to believe, fetched from a TUF repository: what is asked, what is kept, what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use quorate_bed::{Bed, Fault, FaultAction, RegistryOptions, Tuf};
use shop::{Release, Run, Shop, cell};

const PAST: &str = "2020-01-01T00:00:00Z";

/// A release that two builders voted for, and a repository that publishes whom to believe.
struct World {
    shop: Shop,
    tuf: Tuf,
    release: Release,
}

impl World {
    fn new() -> Self {
        let shop = Shop::open();
        let release = shop.release("git-1", "hello");
        shop.attest_all(&release, &["github", "garnix"]);
        let tuf = Tuf::start(&shop.bed.trusted_root());
        shop.write("tuf-root.json", tuf.first_root());
        Self { shop, tuf, release }
    }

    /// Runs quorate with the repository in its environment, in the place of the trusted root.
    fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(
            arguments,
            &[("QUORATE_TUF_URL", &self.tuf.url()), ("QUORATE_TUF_ROOT", "tuf-root.json")],
        )
    }

    fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        let mut command = self.shop.command(arguments);
        command.env_remove("QUORATE_TRUSTED_ROOT").envs(environment.iter().copied());
        let output = command.stdin(Stdio::null()).output().unwrap();
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn verify(&self) -> Run {
        self.run(&["verify", &self.release.reference])
    }

    fn verify_offline(&self) -> Run {
        self.run(&["verify", &self.release.reference, "--offline"])
    }

    /// What the repository was asked for since the last time.
    fn asked(&self) -> Vec<String> {
        let asked = self.tuf.requests().into_iter().map(|request| request.path).collect();
        self.tuf.clear_requests();
        asked
    }

    /// A file of the cache.
    fn kept(&self, name: &str) -> PathBuf {
        let folders: Vec<_> = fs::read_dir(self.shop.path(".cache/quorate/tuf")).unwrap().collect();
        assert_eq!(folders.len(), 1, "one folder for one repository");
        folders[0].as_ref().unwrap().path().join(name)
    }
}

#[test]
fn every_verb_believes_whom_the_repository_says() {
    let world = World::new();
    let reference = &world.release.reference;
    world.run(&["verify", reference]).exits(0);
    world.run(&["promote", reference, "--tag", "1.0.0"]).exits(0);
    let tree = world.run(&["inspect", reference]).exits(0);
    assert!(!tree.stderr.contains("as they claim"), "{}", tree.stderr);
    let config = &world.release.images[0].config_digest;
    let attest = [
        "attest",
        reference,
        "--builder",
        "basement",
        "--key",
        "basement.key",
        "--system",
        "x86_64-linux",
        "--config-digest",
        config,
        "--commit",
        shop::COMMIT,
        "--sequence",
        "1763700000",
        "--nar-hash",
        shop::NAR_HASH,
    ];
    world.run(&attest).exits(0);

    // Another instance's: nothing proves the votes any more, and nothing is signed with it.
    let others = Bed::start(RegistryOptions::default());
    world.tuf.publish(&others.trusted_root());
    let run = world.run(&["verify", reference, "-o", "json"]).exits(1);
    assert_eq!(cell(&run.json(), "linux/amd64", "github"), "rejected log-unknown");
    let run = world.run(&["promote", reference, "--tag", "1.1.0"]).exits(1);
    assert!(run.stderr.contains("the quorum is not met"), "{}", run.stderr);
    assert_eq!(world.shop.named("1.1.0"), None);
}

#[test]
fn a_builder_stands_under_the_trust_that_the_policy_names() {
    let world = World::new();
    let own = |trust: &str| {
        let policy = world.shop.policy(2).replace("name = \"garnix\"", "name = \"garnix\"\ntrust = \"own\"");
        world.shop.write("own.toml", format!("{policy}\n[trust.own]\n{trust}\n"));
        world.run_with(
            &[
                "verify",
                &world.release.reference,
                "--policy",
                "own.toml",
                "--trusted-root",
                "root.json",
                "-o",
                "json",
            ],
            &[],
        )
    };
    let tuf = format!("tuf = \"{}\"\ntuf_root = \"tuf-root.json\"", world.tuf.url());
    own(&tuf).exits(0);
    assert_eq!(world.asked().len(), 5);
    own("trusted_root = \"root.json\"").exits(0);
    // The option speaks for the others alone.
    let others = Bed::start(RegistryOptions::default());
    world.tuf.publish(&others.trusted_root());
    let run = own(&tuf).exits(1).json();
    assert_eq!(cell(&run, "linux/amd64", "garnix"), "rejected log-unknown");
    assert_eq!(cell(&run, "linux/amd64", "github"), "counted");
    world.shop.write("none.json", "{}");
    own("trusted_root = \"none.json\"").exits(3).says("the trusted root of the policy cannot be used");
    let plain = own("tuf = \"http://tuf.example/\"\ntuf_root = \"tuf-root.json\"").exits(2);
    assert!(plain.stderr.contains("is not https"), "{}", plain.stderr);
}

#[test]
fn what_did_not_change_is_not_fetched_again() {
    let world = World::new();
    world.verify().exits(0);
    let first = world.asked();
    assert_eq!(first[..4], ["/2.root.json", "/timestamp.json", "/1.snapshot.json", "/1.targets.json"]);
    assert!(first[4].ends_with(".trusted_root.json") && first.len() == 5, "{first:?}");
    world.verify().exits(0);
    assert_eq!(world.asked(), ["/2.root.json", "/timestamp.json"]);
}

#[test]
fn offline_asks_nobody() {
    let world = World::new();
    let run = world.verify_offline().exits(3).says("was fetched before");
    assert!(run.stderr.contains("hint: run it once without `--offline`"), "{}", run.stderr);
    assert!(world.asked().is_empty());
    world.verify().exits(0);
    world.asked();
    world.verify_offline().exits(0);
    assert!(world.asked().is_empty());
    // A root that the user did not give leads to no cache.
    let other = Tuf::start(&world.shop.bed.trusted_root());
    world.shop.write("tuf-root.json", other.first_root());
    world.verify_offline().exits(3).says("was fetched before");
}

#[test]
fn offline_believes_what_is_built_in_and_says_so() {
    let world = World::new();
    // Whatever leaves this machine has to pass here.
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let passed = Arc::new(AtomicUsize::new(0));
    let counter = passed.clone();
    std::thread::spawn(move || {
        for stream in proxy.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    let proxied = [("HTTPS_PROXY", address.as_str()), ("HTTP_PROXY", &address), ("NO_PROXY", "")];
    for instance in [&[][..], &["--trust", "public-good"], &["--trust", "staging"]] {
        let verify = |more: &[&str]| {
            let arguments = [&["verify", &world.release.reference, "-o", "json"], instance, more].concat();
            world.run_with(&arguments, &proxied)
        };
        let run = verify(&["--offline"]).exits(1);
        assert_eq!(cell(&run.json(), "linux/amd64", "github"), "rejected log-unknown");
        assert!(
            run.stderr.contains("note: nothing of the TUF repository was fetched before"),
            "{}",
            run.stderr
        );
        assert_eq!(passed.swap(0, Ordering::SeqCst), 0, "something left this machine");
        // The twin: without the option, it is asked, and what is built in does not stand in.
        let run = verify(&[]).exits(3).says("cannot get the trusted root from https://tuf-repo-cdn.");
        assert!(run.json()["verdict"].is_null(), "{}", run.stdout);
        assert_ne!(passed.swap(0, Ordering::SeqCst), 0);
    }
}

#[test]
fn roots_are_followed_where_the_one_before_signs() {
    let world = World::new();
    world.verify().exits(0);
    world.tuf.rotate();
    world.tuf.rotate();
    world.asked();
    world.verify().exits(0);
    assert_eq!(world.asked()[..4], ["/2.root.json", "/3.root.json", "/4.root.json", "/timestamp.json"]);
    // The next time it begins where it ended.
    world.verify().exits(0);
    assert_eq!(world.asked(), ["/4.root.json", "/timestamp.json"]);
    world.verify_offline().exits(0);

    world.tuf.usurp();
    world.verify().exits(3).says("signature threshold not met for role root");
    // What it tried to teach was not learnt.
    world.verify_offline().exits(0);
}

#[test]
fn what_is_out_of_date_is_refused() {
    for role in ["timestamp", "snapshot", "targets"] {
        let world = World::new();
        world.tuf.expire(role, PAST);
        world.verify().exits(3).says(&format!("{role} metadata expired"));
        world.tuf.expire(role, "2049-01-01T00:00:00Z");
        world.verify().exits(0);
    }
    let world = World::new();
    world.tuf.expire("root", PAST);
    world.verify().exits(0);
    world.tuf.rotate();
    world.verify().exits(3).says("root metadata expired");
}

#[test]
fn what_was_fetched_is_believed_until_it_expires() {
    let world = World::new();
    let soon = SystemTime::now() + Duration::from_secs(4);
    let seconds = i64::try_from(soon.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let expiry = jiff::Timestamp::from_second(seconds).unwrap().to_string();
    world.tuf.expire("timestamp", &expiry);
    world.verify().exits(0);
    world.verify_offline().exits(0);
    std::thread::sleep(soon.duration_since(SystemTime::now()).unwrap_or_default() + Duration::from_secs(1));
    world.verify_offline().exits(3).says("timestamp metadata expired");
    world.tuf.expire("timestamp", "2049-01-01T00:00:00Z");
    world.verify().exits(0);
    world.verify_offline().exits(0);
}

#[test]
fn files_that_are_not_those_signed_for_are_refused() {
    let world = World::new();
    let honest = world.tuf.files();
    for name in [".trusted_root.json", ".snapshot.json", ".targets.json", "timestamp.json"] {
        let mut files = honest.clone();
        let (_, bytes) = files.iter_mut().find(|(path, _)| path.ends_with(name)).unwrap();
        // The same length, another hash; nothing the JSON parser minds.
        let text = String::from_utf8(bytes.clone()).unwrap();
        let changed =
            text.replacen("2049", "2048", 1).replacen("timestampAuthorities", "timestampAuthoritiez", 1);
        assert_ne!(changed, text, "{name}");
        *bytes = changed.into_bytes();
        world.tuf.serve(files);
        fs::remove_dir_all(world.shop.path(".cache")).unwrap_or_default();
        let says = match name {
            "timestamp.json" => "signature threshold not met for role timestamp",
            _ => "integrity check failed",
        };
        world.verify().exits(3).says(says);
    }
    world.tuf.serve(honest);
    world.verify().exits(0);
}

#[test]
fn an_older_state_is_refused_once_a_newer_one_was_seen() {
    let world = World::new();
    let old = world.tuf.files();
    world.verify().exits(0);
    world.tuf.publish(&world.shop.bed.trusted_root());
    let new = world.tuf.files();
    world.verify().exits(0);
    world.tuf.serve(old);
    world.verify().exits(3).says("rollback detected");
    world.tuf.serve(new);
    world.verify().exits(0);
}

#[test]
fn a_repository_that_fails_is_no_repository_that_has_nothing() {
    let world = World::new();
    world.verify().exits(0);
    let faults = [
        (Fault::status(500), "answered 500 (service-server-error)"),
        (Fault::new(FaultAction::Reset), "root.json (service-unreachable)"),
        (Fault::new(FaultAction::Html), "failed to parse JSON"),
        (Fault::new(FaultAction::HalfBody).path("timestamp"), "broke off"),
        (
            Fault::new(FaultAction::Replace(vec![b' '; 20_000])).path("timestamp"),
            "larger than 16384 bytes (service-too-large)",
        ),
        (Fault::status(302).path("timestamp"), "answered 302 (service-refused)"),
        (Fault::status(404).path("timestamp"), "timestamp.json not found"),
    ];
    for (fault, says) in faults {
        world.tuf.fault(fault);
        // What was fetched before is not put in its place unasked.
        let run = world.verify().exits(3).says(says);
        assert!(run.stderr.contains("hint: `--offline` uses what was fetched last"), "{}", run.stderr);
        world.tuf.clear_faults();
        world.verify().exits(0);
    }
    // One answer that is lost is asked for again.
    world.tuf.fault(Fault::new(FaultAction::Reset).times(1));
    world.verify().exits(0);
}

#[test]
fn an_answer_without_end_ends() {
    let world = World::new();
    let endless = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", endless.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in endless.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while stream.write_all(b"400\r\n").and_then(|()| stream.write_all(&[b' '; 0x400])).is_ok()
                && stream.write_all(b"\r\n").is_ok()
            {}
        }
    });
    let begin = Instant::now();
    let environment = [("QUORATE_TUF_URL", url.as_str()), ("QUORATE_TUF_ROOT", "tuf-root.json")];
    let run = world.run_with(&["verify", &world.release.reference], &environment).exits(3);
    assert!(run.stderr.contains("larger than 512000 bytes"), "{}", run.stderr);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
fn a_repository_that_hangs_is_given_up_with_the_run() {
    let world = World::new();
    world.tuf.fault(Fault::new(FaultAction::Hang));
    let begin = Instant::now();
    world
        .run(&["verify", &world.release.reference, "--timeout", "2"])
        .exits(3)
        .says("the time of the run is over (service-timeout)");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn a_cache_that_was_tampered_with_is_refused() {
    let world = World::new();
    world.verify().exits(0);
    let others = Tuf::start(&Bed::start(RegistryOptions::default()).trusted_root());
    let theirs = others.files();
    let target = theirs.iter().find(|(path, _)| path.ends_with("trusted_root.json")).unwrap().1;
    let changes: [&[(&str, &[u8])]; 5] = [
        &[("targets/trusted_root.json", target)],
        &[("timestamp.json", &theirs["timestamp.json"])],
        &[("snapshot.json", b"{}")],
        &[("targets.json", &[])],
        // Another repository, whole and valid in itself.
        &[
            ("root.json", &theirs["1.root.json"]),
            ("root_history/1.root.json", &theirs["1.root.json"]),
            ("timestamp.json", &theirs["timestamp.json"]),
            ("snapshot.json", &theirs["1.snapshot.json"]),
            ("targets.json", &theirs["1.targets.json"]),
            ("targets/trusted_root.json", target),
        ],
    ];
    for change in changes {
        for (name, bytes) in change {
            fs::write(world.kept(name), bytes).unwrap();
        }
        let run = world.verify_offline().exits(3).says("what was fetched before does not hold");
        assert!(run.stderr.contains("hint: "), "{}", run.stderr);
        // The repository's own word mends it.
        world.verify().exits(0);
        world.verify_offline().exits(0);
    }
    // What lacks a part is not the same as nothing.
    for name in ["timestamp.json", "snapshot.json", "targets.json", "targets/trusted_root.json"] {
        fs::remove_file(world.kept(name)).unwrap();
        world.verify_offline().exits(3).says("what was fetched before does not hold");
        world.verify().exits(0);
        world.verify_offline().exits(0);
    }
    // A file that fills the memory is not read.
    fs::File::create(world.kept("targets.json")).unwrap().set_len(1 << 36).unwrap();
    world.verify_offline().exits(3).says("what was fetched before does not hold");
}

#[test]
fn without_a_place_to_keep_it_everything_is_fetched() {
    let world = World::new();
    let environment =
        [("QUORATE_TUF_URL", world.tuf.url()), ("QUORATE_TUF_ROOT", "tuf-root.json".to_owned())];
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for place in ["/proc/nowhere", "relative"] {
        let environment = [&environment[..], &[("XDG_CACHE_HOME", place), ("HOME", "")]].concat();
        world.run_with(&["verify", &world.release.reference], &environment).exits(0);
        assert_eq!(world.asked().len(), 5, "{place}");
    }
    assert!(!world.shop.path("relative").exists());
}

#[test]
fn one_source_of_trust_is_named() {
    let world = World::new();
    let verify = |more: &[&str]| {
        world.run_with(&[&["verify", &world.release.reference], more].concat(), &[]).exits(2).stderr
    };
    assert!(verify(&["--trust", "staging", "--trusted-root", "root.json"]).contains("cannot be used with"));
    assert!(verify(&["--tuf-url", &world.tuf.url()]).contains("--tuf-root"));
    assert!(verify(&["--tuf-root", "tuf-root.json"]).contains("--tuf-url"));
    let both = ["--tuf-url", &world.tuf.url(), "--tuf-root", "tuf-root.json", "--trusted-root", "root.json"];
    assert!(verify(&both).contains("cannot be used with"));
    assert!(verify(&["--trust", "github"]).contains("public-good"));
    let plain = verify(&["--tuf-url", "http://tuf.example/", "--tuf-root", "tuf-root.json"]);
    assert!(plain.contains("is not https") && plain.contains("--plain-http tuf.example"), "{plain}");
    assert!(world.asked().is_empty());

    let absent =
        ["verify", &world.release.reference, "--tuf-url", &world.tuf.url(), "--tuf-root", "none.json"];
    world.run_with(&absent, &[]).exits(2).says("cannot read the TUF root `none.json`");
    assert!(world.asked().is_empty());
    let file = ["verify", &world.release.reference, "--trusted-root", "root.json", "--offline"];
    world.run_with(&file, &[]).exits(0);
}
