//! A promotion under fire: every request fails in every way, alone and in pairs, and the process
//! is killed at every request. A tag names what it named before or the release that was judged,
//! never anything else; the report says which; and the same command, run again, finishes.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quorate_bed::{Answer, Bed, Fault, FaultAction, Log, Registry, RegistryOptions, Tsa, client};
use serde_json::Value;

use crate::shop::{self, AMD64, ARM64, Shop};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OTHER: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
/// How many registries are under fire at a time.
const RANGES: usize = 6;
/// Seconds of a run that something hangs in, and of one that nothing does.
const HURRIED: &str = "2";
const PATIENT: &str = "60";
/// Pairs of faults.
const PAIRS: usize = 60;

/// What can happen to a request.
fn actions() -> Vec<FaultAction> {
    let of = |code: u16| FaultAction::Status(Answer::status(code));
    let other = format!("sha256:{}", "0".repeat(64));
    vec![
        of(500),
        of(429),
        of(403),
        of(404),
        FaultAction::Hang,
        FaultAction::Reset,
        FaultAction::Truncate,
        FaultAction::Replace(OTHER.into()),
        // It was done, and the answer says that it was not, or that it was something else.
        FaultAction::AfterWriteStatus(Answer::status(500)),
        FaultAction::AfterWriteStatus(Answer::status(201).header("Docker-Content-Digest", &other)),
    ]
}

/// A registry, an old release that `f…` tags name, and a new one to be promoted.
struct Range {
    shop: Shop,
    referrers: bool,
    old: String,
    old_bytes: Vec<u8>,
    new: shop::Release,
}

impl Range {
    fn open(registry: Registry, referrers: bool) -> Self {
        let shop = Shop::on(Bed { registry, log: Log::start(), tsa: Tsa::start() });
        let rules = "[[image.tag]]\nname = \"f*\"\nrule = \"forward\"\n\n\
                     [[image.tag]]\nname = \"v*\"\nrule = \"immutable\"\n\n[[builder]]";
        shop.write("quorate.toml", shop.policy(2).replacen("[[builder]]", rules, 1));
        let release = |name: &str, sequence: &str| {
            let release = shop.release(name, name);
            for builder in ["github", "garnix"] {
                for (_, system) in [AMD64, ARM64] {
                    shop.attest(&release, builder, system, &["--sequence", sequence]).exits(0);
                }
            }
            release
        };
        let (old, new) = (release("git-1", "1"), release("git-2", "2"));
        let old_bytes = client::manifest(&shop.host(), "acme/app", &old.digest).unwrap().body;
        Self { referrers, old: old.digest, old_bytes, new, shop }
    }

    /// Tags of its own for each case: an immutable one, a forward-only one, both absent, and a
    /// forward-only one that names the old release.
    fn tags(&self, case: usize) -> [String; 3] {
        let tags = [format!("v{case}"), format!("fresh-{case}"), format!("f{case}")];
        client::put_manifest(&self.shop.host(), "acme/app", &tags[2], INDEX, &self.old_bytes).unwrap();
        self.shop.bed.registry.clear_log();
        tags
    }

    /// A promotion that gives up after so many seconds.
    fn arguments<'a>(&'a self, tags: &'a str, seconds: &'a str) -> [&'a str; 8] {
        ["promote", &self.new.reference, "--tag", tags, "-o", "json", "--timeout", seconds]
    }

    /// How many requests an undisturbed promotion takes.
    fn requests(&self) -> usize {
        let tags = self.tags(0);
        self.shop.quorate(&self.arguments(&tags.join(","), PATIENT)).exits(0);
        let requests = self.shop.bed.registry.log().len();
        self.right(&tags);
        requests
    }

    #[track_caller]
    fn right(&self, tags: &[String]) {
        for tag in tags {
            assert_eq!(self.shop.named(tag).as_deref(), Some(self.new.digest.as_str()), "{tag}");
        }
    }

    /// Asserts that each tag is old or new, and says which.
    #[track_caller]
    fn old_or_new(&self, tags: &[String; 3], what: &str) -> [Option<String>; 3] {
        let olds = [None, None, Some(&self.old)];
        let mut at = 0;
        [(); 3].map(|()| {
            let now = self.shop.named(&tags[at]);
            let whole = now.as_ref() == olds[at] || now.as_ref() == Some(&self.new.digest);
            assert!(whole, "{what}: `{}` names {now:?}", tags[at]);
            at += 1;
            now
        })
    }

    /// Promotes while these requests fail, then again undisturbed.
    fn fires(&self, case: usize, faults: &[(usize, FaultAction)]) {
        let what = format!("case {case}: {faults:?}");
        let tags = self.tags(case);
        for (position, action) in faults {
            self.shop.bed.registry.fault(Fault::new(action.clone()).skip(*position).times(1));
        }
        let run = self.shop.quorate(&self.arguments(&tags.join(","), HURRIED));
        self.shop.bed.registry.clear_faults();
        let writes = self.shop.bed.registry.writes().len();
        let now = self.old_or_new(&tags, &what);
        assert!((0..=3).contains(&run.code), "{what}: exit code {}\n{}", run.code, run.stderr);
        assert!(run.code == 0 || run.stderr.starts_with("error: "), "{what}: {}", run.stderr);
        assert!(run.code == 0 || run.code == 3 || writes == 0, "{what}: a refusal wrote");
        let report = run.json();
        // A registry that says 404 of what is there tells a lie that nobody can know for one.
        let lies = |action: &FaultAction| matches!(action, FaultAction::Status(a) if a.code == 404);
        if !faults.iter().any(|(_, action)| lies(action)) {
            told(&report, &now, &what);
        }
        if run.code == 0 {
            self.right(&tags);
            return;
        }
        let again = self.shop.quorate(&self.arguments(&tags.join(","), PATIENT));
        assert_eq!(again.code, 0, "{what}: again: {}{}", again.stdout, again.stderr);
        self.right(&tags);
    }

    /// Kills the process when its request at `position` has arrived, then runs it again.
    fn kills(&self, case: usize, position: usize) {
        let what = format!("killed at {position}");
        let tags = self.tags(case);
        self.shop.bed.registry.fault(Fault::new(FaultAction::Hang).skip(position).times(1));
        let joined = tags.join(",");
        let mut command = self.shop.command(&self.arguments(&joined, PATIENT));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let patience = Instant::now() + Duration::from_secs(20);
        while self.shop.bed.registry.log().len() <= position && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < patience, "{what}: the request never came");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "{what}");
        self.shop.bed.registry.clear_faults();
        self.old_or_new(&tags, &what);
        let again = self.shop.quorate(&self.arguments(&joined, PATIENT));
        assert_eq!(again.code, 0, "{what}: again: {}{}", again.stdout, again.stderr);
        self.right(&tags);
    }
}

/// Asserts that the report says of each tag what it names, or that this is not known.
fn told(report: &Value, now: &[Option<String>; 3], what: &str) {
    let Some(tags) = report["tags"].as_array() else {
        assert!(report["verdict"].is_null(), "{what}: {report}");
        return;
    };
    for (tag, now) in tags.iter().zip(now) {
        let action = tag["action"].as_str().unwrap();
        if !matches!(action, "unknown" | "elsewhere") {
            assert_eq!(tag["after"].as_str(), now.as_deref(), "{what}: {report}");
        }
    }
}

/// The embedded registry, with the referrers API and without it.
pub(crate) fn embedded(range: usize) -> (Registry, bool) {
    let referrers = range.is_multiple_of(2);
    (Registry::start(RegistryOptions { referrers, ..Default::default() }), referrers)
}

/// Runs the cases on several registries at a time; `open` makes each, and says whether it has the
/// referrers API.
fn everywhere(
    open: &(dyn Fn(usize) -> (Registry, bool) + Sync),
    cases: impl Fn(&Range, &mut dyn FnMut() -> usize, usize) + Sync,
) {
    let next = [AtomicUsize::new(0), AtomicUsize::new(0)];
    std::thread::scope(|scope| {
        for range in 0..RANGES {
            let (next, cases) = (&next, &cases);
            scope.spawn(move || {
                let (registry, referrers) = open(range);
                let range = Range::open(registry, referrers);
                let requests = range.requests();
                // Registries of one kind share their cases.
                let next = &next[usize::from(referrers)];
                cases(&range, &mut || next.fetch_add(1, Ordering::Relaxed), requests);
            });
        }
    });
}

/// Every request fails in every way, alone.
pub(crate) fn every_request_fails_in_every_way(open: &(dyn Fn(usize) -> (Registry, bool) + Sync)) {
    let actions = actions();
    everywhere(open, |range, next, requests| {
        let mut cases = Vec::new();
        for position in 0..requests {
            // Where there is no referrers API there are many requests more, all of them to read.
            let every = if range.referrers { 1 } else { 3 };
            let due = |(at, _): &(usize, _)| (at + position) % every == 0;
            let due = actions.iter().enumerate().filter(due);
            cases.extend(due.map(|(_, action)| (position, action.clone())));
        }
        while let Some(case) = Some(next()).filter(|case| *case < cases.len()) {
            range.fires(case + 1, &cases[case..=case]);
        }
    });
}

/// Requests fail in pairs.
pub(crate) fn requests_fail_in_pairs(open: &(dyn Fn(usize) -> (Registry, bool) + Sync)) {
    let actions = actions();
    everywhere(open, |range, next, requests| {
        while let Some(case) = Some(next()).filter(|case| *case < PAIRS / 2) {
            // The same pairs in every run.
            let mut seed = case as u64 + 1;
            let mut any = |below: usize| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(seed >> 33).unwrap() % below
            };
            let pair = [any(requests), any(requests)].map(|at| (at, actions[any(actions.len())].clone()));
            range.fires(case + 1, &pair);
        }
    });
}

/// The process is killed at every request.
pub(crate) fn the_process_is_killed_at_every_request(open: &(dyn Fn(usize) -> (Registry, bool) + Sync)) {
    everywhere(open, |range, next, requests| {
        while let Some(position) = Some(next()).filter(|position| *position < requests) {
            range.kills(position + 1, position);
        }
    });
}
