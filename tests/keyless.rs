//! Builders without keys: CI jobs whose identity tokens get certificates from Fulcio.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use quorate_bed::issuer::{github_job, gitlab_job};
use quorate_bed::{
    Answer, Fault, FaultAction, Fulcio, Issuer, Misissue, RegistryOptions, RekorV1, client, keyless_root,
};
use serde_json::{Value, json};
use shop::{
    AMD64, ARM64, COMMIT, GITHUB, GITLAB, MAIN, NAR_HASH, OTHER_COMMIT, Release, Run, SOURCE, Shop, cell,
};

/// A shop with the services that keyless signing needs.
struct Works {
    shop: Shop,
    github: Issuer,
    gitlab: Issuer,
    fulcio: Fulcio,
    rekor: RekorV1,
}

/// Which log is used.
#[derive(Clone, Copy, PartialEq)]
enum Log {
    /// Rekor v1, and no timestamp authority: the log's time counts.
    V1,
    /// Rekor v2 with a timestamp authority.
    V2,
}

impl Works {
    fn new(options: RegistryOptions) -> Self {
        let shop = Shop::new(options);
        let (github, gitlab) = (Issuer::start(GITHUB), Issuer::start(GITLAB));
        let fulcio = Fulcio::start(&[&github, &gitlab]);
        let rekor = RekorV1::start();
        let root = keyless_root(&[&shop.bed.log], &[&rekor], &[&shop.bed.tsa], &[&fulcio]);
        shop.write("root.json", root.to_string());
        let works = Self { shop, github, gitlab, fulcio, rekor };
        works.policy(3);
        works
    }

    /// One builder is the project's own job; the others build its source elsewhere.
    fn policy(&self, quorum: u32) {
        let workflow =
            |repository: &str| format!("https://github.com/{repository}/.github/workflows/build.yml@{MAIN}");
        let builder = |name: &str, operator: &str, issuer: &str, san: &str, more: &str| {
            format!(
                "\n[[builder]]\nname = \"{name}\"\noperator = \"{operator}\"\nissuer = \"{issuer}\"\nsan = \"{san}\"\n{more}"
            )
        };
        let rebuilder = "claims = \"workflow\"\n";
        let pipeline = format!("https://gitlab.com/acme/app//.gitlab-ci.yml@{MAIN}");
        self.shop.write(
            "quorate.toml",
            format!(
                "version = 1\n\n[[image]]\nrepository = \"{}\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
                 quorum = {quorum}\nsources = [\"{SOURCE}\"]\n{}{}{}",
                self.shop.repository(),
                builder("own", "Acme", GITHUB, &workflow("acme/app"), ""),
                builder("gitlab", "GitLab", GITLAB, &pipeline, rebuilder),
                builder("rebuild", "Rebuilders", GITHUB, &workflow("rebuilders/acme"), rebuilder),
            ),
        );
    }

    fn environment(&self, log: Log) -> Vec<(String, String)> {
        let mut environment = vec![("QUORATE_FULCIO_URL".to_owned(), self.fulcio.url())];
        if log == Log::V1 {
            environment.push(("QUORATE_REKOR_URL".to_owned(), self.rekor.url()));
            environment.push(("QUORATE_REKOR_VERSION".to_owned(), "1".to_owned()));
        }
        environment
    }

    /// Runs the binary with these services, and with what more is in its environment.
    fn run(&self, log: Log, arguments: &[&str], more: &[(&str, &str)]) -> Run {
        let mut command = self.shop.command(arguments);
        command.envs(self.environment(log)).envs(more.iter().copied()).stdin(Stdio::null());
        if log == Log::V1 {
            command.env_remove("QUORATE_TSA_URL");
        }
        let output = command.output().unwrap();
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// `attest` of both platforms, with a token in a variable.
    fn attest(&self, log: Log, release: &Release, builder: &str, token: &str, more: &[&str]) -> Run {
        let token_at = ["--identity-token", "env:JOB_TOKEN"];
        let arguments = [&both(release, builder)[..], &token_at.map(str::to_owned)].concat();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let run = self.run(log, &arguments, &[("JOB_TOKEN", token)]);
        hides(&run, token);
        run
    }

    /// A token of the project's own job.
    fn own(&self) -> String {
        self.github.token(&own_job())
    }
}

fn own_job() -> Value {
    github_job("acme/app", "build.yml", MAIN, COMMIT)
}

/// Arguments of `attest` for the builds of both platforms.
fn both(release: &Release, builder: &str) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["attest", &release.reference, "--builder", builder].map(str::to_owned).to_vec();
    for ((_, system), image) in [AMD64, ARM64].iter().zip(&release.images) {
        arguments.extend(["--config-digest".to_owned(), format!("{system}={}", image.config_digest)]);
        arguments.extend(["--nar-hash".to_owned(), format!("{system}={NAR_HASH}")]);
    }
    let rest = ["--commit", COMMIT, "--sequence", "1", "--source-uri", SOURCE, "--ref", MAIN, "--no-infer"];
    arguments.extend(rest.map(str::to_owned));
    arguments
}

/// Asserts that nothing of a token was printed.
#[track_caller]
fn hides(run: &Run, token: &str) {
    for part in token.split('.').filter(|part| part.len() > 20) {
        assert!(!run.stdout.contains(part) && !run.stderr.contains(part), "{}{}", run.stdout, run.stderr);
    }
}

/// The errors without what differs from run to run.
fn first_line(run: &Run) -> &str {
    run.stderr.lines().next().unwrap_or_default()
}

#[test]
fn three_jobs_release_without_a_key() {
    for (log, referrers) in [(Log::V1, true), (Log::V2, false)] {
        let works = Works::new(RegistryOptions { referrers, ..Default::default() });
        let release = works.shop.release("git-1", "hello");

        // The project's own job asks the runner for its token.
        works.github.set_job(own_job());
        let arguments = [both(&release, "own"), vec!["-o".to_owned(), "json".to_owned()]].concat();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let url = works.github.request_url();
        let runner = [
            ("GITHUB_ACTIONS", "true"),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", Issuer::REQUEST_TOKEN),
        ];
        let run = works.run(log, &arguments, &runner).exits(0);
        hides(&run, Issuer::REQUEST_TOKEN);
        let report = run.json();
        assert_eq!(report["outcome"], "attested");
        let builds = report["builds"].as_array().unwrap();
        assert_eq!(builds.len(), 2);
        for (build, (_, system)) in builds.iter().zip([AMD64, ARM64]) {
            assert_eq!(build["system"], system);
            assert_eq!(build["signer"]["issuer"], GITHUB);
            assert_eq!(
                build["signer"]["san"],
                format!("https://github.com/acme/app/.github/workflows/build.yml@{MAIN}")
            );
            assert!(build["time"].is_string(), "{build}");
        }
        // One token and one certificate for both.
        assert_eq!((works.github.requests().len(), works.fulcio.request_count()), (1, 1));

        // A pipeline is given its token; a rebuilder's is in a file.
        let arguments = both(&release, "gitlab");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let token = works.gitlab.token(&gitlab_job("acme/app", "main", COMMIT));
        let run = works.run(log, &arguments, &[("GITLAB_CI", "true"), ("SIGSTORE_ID_TOKEN", &token)]);
        hides(&run, &token);
        run.exits(0);
        let pack = format!("{}@{}", works.shop.repository(), release.digest);
        works.shop.quorate(&["verify", &pack]).exits(1);
        let token = works.github.token(&github_job("rebuilders/acme", "build.yml", MAIN, OTHER_COMMIT));
        works.shop.write("token", format!("{token}\n"));
        let arguments = [both(&release, "rebuild"), vec!["--identity-token".into(), "token".into()]].concat();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let run = works.run(log, &arguments, &[]);
        hides(&run, &token);
        run.exits(0);

        let verdict = works.shop.quorate(&["verify", &pack, "-o", "json"]).exits(0).json();
        for platform in ["linux/amd64", "linux/arm64"] {
            for builder in ["own", "gitlab", "rebuild"] {
                assert_eq!(cell(&verdict, platform, builder), "counted", "{platform} {builder}");
            }
        }
        // A builder is no gate.
        let promote = ["promote", &pack, "--tag", "v1", "--record", "--identity-token", "env:JOB_TOKEN"];
        let run = works.run(log, &promote, &[("JOB_TOKEN", &works.own())]);
        hides(&run, &works.own());
        run.exits(2).says("the record would be signed as the builder `own`");
        assert_eq!(works.shop.named("v1"), None);
        // The gate is a job, too, and signs what it found.
        let gate = works.github.token(&github_job("acme/gate", "promote.yml", MAIN, OTHER_COMMIT));
        let run = works.run(log, &[&promote[..], &["-o", "json"]].concat(), &[("JOB_TOKEN", &gate)]);
        hides(&run, &gate);
        assert_eq!(run.exits(0).json()["record"]["action"], "attached");
        assert_eq!(works.shop.named("v1").as_deref(), Some(release.digest.as_str()));
        let size = if log == Log::V1 { works.rekor.size() } else { works.shop.bed.log.size() };
        assert_eq!(size, 7);
        assert_eq!(works.shop.bed.tsa.request_count(), if log == Log::V1 { 0 } else { 7 });
    }
}

#[test]
fn a_key_votes_through_rekor_v1_as_well() {
    let works = Works::new(RegistryOptions::default());
    works.shop.write("quorate.toml", works.shop.policy(1));
    let release = works.shop.release("git-1", "hello");
    let arguments = [both(&release, "garnix"), vec!["--key".into(), "garnix.key".into()]].concat();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    works.run(Log::V1, &arguments, &[]).exits(0);
    assert_eq!((works.rekor.size(), works.fulcio.request_count()), (2, 0));
    works.shop.quorate(&["verify", &release.reference]).exits(0);
}

#[test]
fn an_ed25519_key_votes_through_rekor_v1_alone() {
    let works = Works::new(RegistryOptions::default());
    let shop = &works.shop;
    for name in ["ed25519.key", "ed25519-encrypted.key", "ed25519.pub"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name);
        shop.write(name, fs::read(file).unwrap());
    }
    shop.write("quorate.toml", shop.policy(1).replace("garnix.key.pub", "ed25519.pub"));
    let release = shop.release("git-1", "hello");
    let attest = |log: Log, key: &str| {
        let arguments = [both(&release, "garnix"), vec!["--key".into(), key.into()]].concat();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        works.run(log, &arguments, &[("QUORATE_KEY_PASSPHRASE", "correct horse")])
    };
    shop.bed.registry.clear_log();
    for key in ["ed25519.key", "ed25519-encrypted.key"] {
        let refused = attest(Log::V2, key).exits(2).says("is Ed25519, and the log");
        assert!(refused.stderr.contains("--rekor-version 1"), "{}", refused.stderr);
    }
    assert!(shop.bed.registry.log().is_empty(), "nothing is asked");
    assert_eq!((shop.bed.log.request_count(), shop.bed.tsa.request_count()), (0, 0));
    attest(Log::V1, "ed25519-encrypted.key").exits(0);
    assert_eq!(works.rekor.size(), 2);
    let verified = shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(0).json();
    assert_eq!(cell(&verified, "linux/amd64", "garnix"), "counted");
    // The same key out of another file is the same builder, which said it before.
    let again = attest(Log::V1, "ed25519.key").exits(0);
    assert!(again.stdout.contains("already"), "{}", again.stdout);
    assert_eq!(works.rekor.size(), 2);

    // The policy is told of what it can never hear.
    let checked = shop.quorate(&["policy", "check", "quorate.toml", "-o", "json"]).exits(0).json();
    let weak = checked["images"][0]["weak"].as_array().unwrap();
    assert!(weak.iter().any(|spot| spot["code"] == "rekor-v1-only"), "{weak:?}");
    shop.write("p256.toml", shop.policy(1));
    let checked = shop.quorate(&["policy", "check", "p256.toml", "-o", "json"]).exits(0).json();
    let weak = checked["images"][0]["weak"].as_array().unwrap();
    assert!(!weak.iter().any(|spot| spot["code"] == "rekor-v1-only"), "{weak:?}");
}

#[test]
fn the_certificate_must_be_what_the_token_says() {
    let works = Works::new(RegistryOptions::default());
    works.policy(1);
    let release = works.shop.release("git-1", "hello");
    works.shop.bed.registry.clear_log();
    // What can be seen before anything is signed is not logged; the rest is not attached.
    for (misissue, says, logged) in [
        (Misissue::OtherKey, "it is for another key", false),
        (Misissue::OtherIdentity, "not the bearer of the token", false),
        (Misissue::OtherIssuer, "not the bearer of the token", false),
        (Misissue::Expired, "it is valid from", false),
        (Misissue::OtherAuthority, "(certificate-untrusted)", true),
        (Misissue::OtherUse, "(certificate-untrusted)", true),
        (Misissue::OtherLog, "(certificate-sct)", true),
        (Misissue::NoTimestamp, "(certificate-sct)", true),
    ] {
        works.fulcio.misissue(Some(misissue));
        let before = works.shop.bed.log.size();
        let run = works.attest(Log::V2, &release, "own", &works.own(), &[]).exits(3).says(says);
        assert_eq!(works.shop.bed.log.size() > before, logged, "{misissue:?}: {}", first_line(&run));
    }
    assert!(works.shop.bed.registry.writes().is_empty());
    works.fulcio.misissue(None);
    works.attest(Log::V2, &release, "own", &works.own(), &[]).exits(0);
    works.shop.quorate(&["verify", &release.reference]).exits(0);
}

#[test]
fn a_log_that_is_not_the_trusted_one_is_not_believed() {
    let works = Works::new(RegistryOptions::default());
    let release = works.shop.release("git-1", "hello");
    works.shop.bed.registry.clear_log();
    let stranger = RekorV1::start();
    let url = stranger.url();
    let elsewhere = ["--rekor-url", url.as_str(), "--rekor-version", "1"];
    let run = works.attest(Log::V1, &release, "own", &works.own(), &elsewhere);
    run.exits(3).says("(log-unknown)");
    for (fault, says) in [
        (FaultAction::Replace(b"{}".to_vec()), "answered 201: {} (service-malformed)"),
        (FaultAction::Replace(b"not JSON".to_vec()), "answered 201: not JSON (service-malformed)"),
        (FaultAction::Truncate, " (service-malformed)"),
        (
            FaultAction::Status(Answer::status(400).body("text/plain", "no")),
            "answered 400: no (service-refused)",
        ),
        (FaultAction::Status(Answer::status(409)), "answered 409 (service-refused)"),
        (
            FaultAction::Status(Answer::status(409).header("Location", "http://evil.test/x")),
            "answered 409 (service-refused)",
        ),
        (FaultAction::Status(Answer::status(500)), "answered 500 (service-server-error)"),
        (FaultAction::Reset, " (service-unreachable)"),
        (FaultAction::Html, "continue.</p> (service-malformed)"),
    ] {
        works.rekor.fault(Fault::new(fault));
        works.attest(Log::V1, &release, "own", &works.own(), &[]).exits(3).says(says);
        works.rekor.clear_faults();
    }
    // Such as with a clock that is slow here.
    works.rekor.set_time(Some(SystemTime::now() + Duration::from_secs(30)));
    let run = works.attest(Log::V1, &release, "own", &works.own(), &[]).exits(3).says("(time-in-future)");
    assert!(run.stderr.contains("hint: set the clock of this machine"), "{}", run.stderr);
    works.rekor.set_time(None);
    assert!(works.shop.bed.registry.writes().is_empty());
    works.attest(Log::V1, &release, "own", &works.own(), &[]).exits(0);
}

#[test]
fn a_token_that_cannot_be_used_is_refused_before_it_is_sent() {
    let works = Works::new(RegistryOptions::default());
    let release = works.shop.release("git-1", "hello");
    let with = |name: &str, value: Value| {
        let mut job = own_job();
        job[name] = value;
        works.github.token(&job)
    };
    for (token, says) in [
        (with("exp", json!(1_700_000_000)), "it ends at 2023-11-14"),
        (with("aud", json!("acme")), "not for `sigstore`"),
        (with("sub", json!("")), "it names no subject"),
        ("a-password-rather-than-a-token".to_owned(), "not a signed JSON web token"),
        ("x".repeat(20_000), "more than 16384 bytes"),
    ] {
        let run = works.attest(Log::V2, &release, "own", &token, &[]).exits(2).says(says);
        assert!(run.stderr.contains("`--key FILE` signs with a key"), "{}", run.stderr);
    }
    assert_eq!(works.fulcio.request_count(), 0);

    // In the arguments it would be seen by others; it is not repeated.
    let token = works.own();
    let arguments = [both(&release, "own"), vec!["--identity-token".into(), token.clone()]].concat();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = works.run(Log::V2, &arguments, &[]);
    hides(&run, &token);
    run.exits(2).says("was given the token itself");
    let run = works.run(Log::V2, &["attest", "--help"], &[("QUORATE_IDENTITY_TOKEN", &token)]);
    hides(&run, &token);

    // A Fulcio that does not know the issuer, and one that repeats what it was sent.
    let forgejo = Issuer::start("https://git.example/api/actions");
    let run = works.attest(Log::V2, &release, "own", &forgejo.token(&own_job()), &[]).exits(3);
    let run = run.says("unsupported issuer: https://git.example");
    assert!(run.stderr.contains("`--key FILE` signs with a key"), "{}", run.stderr);
    for code in [400, 500] {
        let echo = Answer::status(code).body("text/plain", token.as_bytes());
        works.fulcio.fault(Fault::new(FaultAction::Status(echo)));
        works.attest(Log::V2, &release, "own", &token, &[]).exits(3).says("its words are not shown");
        works.fulcio.clear_faults();
    }
    works.attest(Log::V2, &release, "own", &token, &["--verbose"]).exits(0);
}

#[test]
fn a_job_without_a_token_is_told_how_to_get_one() {
    let works = Works::new(RegistryOptions::default());
    let release = works.shop.release("git-1", "hello");
    let arguments = both(&release, "own");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    for (environment, says) in [
        (&[][..], "neither a key nor an identity token"),
        (&[("GITHUB_ACTIONS", "true")], "id-token: write"),
        (&[("GITHUB_ACTIONS", "true"), ("FORGEJO_ACTIONS", "true")], "few Fulcios know the issuer"),
        (&[("GITLAB_CI", "true")], "id_tokens: {SIGSTORE_ID_TOKEN"),
    ] {
        let run = works.run(Log::V2, &arguments, environment).exits(2).says(says);
        assert!(run.stderr.contains("`--key FILE` signs with a key"), "{}", run.stderr);
    }
    // A runner that refuses, and one that would have the secret in the clear.
    let url = works.github.request_url();
    let runner = |url| {
        [("ACTIONS_ID_TOKEN_REQUEST_URL", url), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", Issuer::REQUEST_TOKEN)]
    };
    works.run(Log::V2, &arguments, &runner(&url)).exits(3).says("answered 401 (service-refused)");
    let clear = "http://runner.example/token";
    works.run(Log::V2, &arguments, &runner(clear)).exits(2).says("is not https");
    works.github.set_job(own_job());
    works.run(Log::V2, &arguments, &runner(&url)).exits(0);
}

#[test]
#[cfg(unix)]
fn agents_of_other_ci_systems_are_asked() {
    use std::os::unix::fs::PermissionsExt;
    let works = Works::new(RegistryOptions::default());
    let release = works.shop.release("git-1", "hello");
    let token = works.own();
    works.shop.write("token", &token);
    for (program, arguments) in [
        ("buildkite-agent", "oidc request-token --audience sigstore"),
        ("circleci", r#"run oidc get --claims {"aud":"sigstore"}"#),
    ] {
        let script = format!("#!/bin/sh\n[ \"$*\" = '{arguments}' ] && cat \"$HOME/token\"\n");
        works.shop.write(program, script);
        std::fs::set_permissions(works.shop.path(program), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", works.shop.folder().display());
    let arguments = [both(&release, "own"), vec!["--again".to_owned()]].concat();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut for_others = own_job();
    for_others["aud"] = json!("an-organisation");
    let for_others = works.github.token(&for_others);
    for environment in [
        &[("PATH", path.as_str()), ("BUILDKITE", "true")][..],
        &[("PATH", path.as_str()), ("CIRCLE_OIDC_TOKEN_V2", for_others.as_str())],
        &[("CIRCLE_OIDC_TOKEN_V2", token.as_str())],
    ] {
        let run = works.run(Log::V2, &arguments, environment).exits(0);
        hides(&run, &token);
    }
    assert_eq!(works.shop.bed.log.size(), 6);
    let run = works.run(Log::V2, &arguments, &[("PATH", "/nowhere"), ("BUILDKITE", "true")]);
    run.exits(3).says("this job got no identity token");
}

#[test]
fn services_that_fail_are_asked_again_and_not_for_ever() {
    let works = Works::new(RegistryOptions::default());
    works.policy(1);
    let release = works.shop.release("git-1", "hello");
    works.shop.bed.registry.clear_log();
    works.fulcio.fault(Fault::status(503));
    works.attest(Log::V1, &release, "own", &works.own(), &[]).exits(3).says("answered 503");
    assert_eq!(works.fulcio.request_count(), 3);
    assert!(works.shop.bed.registry.writes().is_empty());
    works.fulcio.clear_faults();

    // Two requests are answered with 503; and two whose answers were lost had arrived.
    works.fulcio.fault(Fault::status(503).times(2));
    let lost = || Fault::new(FaultAction::AfterWriteStatus(Answer::status(502))).times(2);
    works.rekor.fault(lost());
    works.attest(Log::V1, &release, "own", &works.own(), &[]).exits(0);
    // Rekor v1 gives the entry that it has, so there is one of each statement.
    assert_eq!(works.rekor.size(), 2);
    works.shop.bed.log.fault(lost());
    works.attest(Log::V2, &release, "own", &works.own(), &["--again"]).exits(0);
    works.shop.quorate(&["verify", &release.reference]).exits(0);
}

#[test]
fn a_certificate_that_ends_on_the_way_is_replaced() {
    let works = Works::new(RegistryOptions::default());
    works.policy(1);
    let release = works.shop.release("git-1", "hello");
    works.fulcio.set_lifetime(Duration::from_secs(3));
    works.rekor.fault(Fault::new(FaultAction::Delay(Duration::from_secs(5))).times(1));
    works.attest(Log::V1, &release, "own", &works.own(), &[]).exits(0);
    assert_eq!(works.rekor.size(), 3);
    works.shop.quorate(&["verify", &release.reference]).exits(0);
    // One that ends every time is given up.
    let other = works.shop.release("git-2", "other");
    works.rekor.fault(Fault::new(FaultAction::Delay(Duration::from_secs(5))));
    works.attest(Log::V1, &other, "own", &works.own(), &[]).exits(3).says("(certificate-time)");
}

#[test]
fn what_was_said_is_said_again_only_if_asked() {
    let works = Works::new(RegistryOptions::default());
    let release = works.shop.release("git-1", "hello");
    let outcome = |more: &[&str]| {
        let more = [more, &["-o", "json"]].concat();
        let run = works.attest(Log::V2, &release, "own", &works.own(), &more).exits(0);
        run.json()["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(outcome(&[]), "attested");
    works.shop.bed.registry.clear_log();
    assert_eq!(outcome(&[]), "already");
    assert!(works.shop.bed.registry.writes().is_empty());
    assert_eq!(works.shop.bed.log.size(), 2);
    assert_eq!(outcome(&["--again"]), "attested");
    assert_eq!(works.shop.bed.log.size(), 4);
    assert!(!works.shop.bed.registry.writes().is_empty());
}

#[test]
fn one_build_that_differs_keeps_all_from_being_signed() {
    let works = Works::new(RegistryOptions::default());
    let mut release = works.shop.release("git-1", "hello");
    let [right, wrong] = [1, 0].map(|n: usize| release.images[n].config_digest.clone());
    release.images[1].config_digest = wrong;
    works.shop.bed.registry.clear_log();
    works.attest(Log::V2, &release, "own", &works.own(), &[]).exits(1).says("(config-differs)");
    assert_eq!(works.shop.bed.log.size(), 0);
    assert!(works.shop.bed.registry.writes().is_empty());
    for more in [&["--record-dissent"][..], &["--bundle-out", "bundle.json"]] {
        works.attest(Log::V2, &release, "own", &works.own(), more).exits(2).says("of one system");
    }
    release.images[1].config_digest = right;
    works.attest(Log::V2, &release, "own", &works.own(), &[]).exits(0);
    assert_eq!(works.shop.bed.log.size(), 2);
}

#[test]
fn services_come_from_one_place() {
    let works = Works::new(RegistryOptions::default());
    works.policy(1);
    let release = works.shop.release("git-1", "hello");
    let service = |url: String, version: u32| json!([{"url": url, "majorApiVersion": version, "validFor": {"start": "2020-01-01T00:00:00Z"}, "operator": "bed"}]);
    let config = json!({
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": service(works.fulcio.url(), 1),
        "oidcUrls": [],
        "rekorTlogUrls": service(works.rekor.url(), 1),
        "tsaUrls": service(works.shop.bed.tsa.url(), 1),
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaConfig": {"selector": "EXACT", "count": 1},
    });
    works.shop.write("signing.json", config.to_string());
    let token = works.own();
    let attest = |more: &[&str], forget: &[&str]| {
        let arguments = both(&release, "own");
        let mut command = works.shop.command(&[]);
        command
            .args(&arguments)
            .args(["--identity-token", "env:JOB_TOKEN"])
            .args(more)
            .env("JOB_TOKEN", &token);
        for name in forget {
            command.env_remove(name);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        Run {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    };
    let urls = ["QUORATE_REKOR_URL", "QUORATE_TSA_URL"];
    attest(&["--signing-config", "signing.json"], &[]).exits(2).says("names all services");
    // A trusted root of one's own is not for the public log.
    attest(&[], &urls).exits(2).says("nothing says which services sign");
    attest(&[], &["QUORATE_TSA_URL"]).exits(2).says("nobody would say when");
    attest(&[], &["QUORATE_REKOR_URL"]).exits(2).says("no transparency log");
    attest(&[], &[]).exits(2).says("neither a key nor a certificate authority");
    attest(&["--fulcio-url", "http://fulcio.example"], &[]).exits(2).says("is not https");
    attest(&["--signing-config", "signing.json"], &urls).exits(0);
    assert_eq!((works.rekor.size(), works.shop.bed.tsa.request_count()), (2, 2));
    works.shop.quorate(&["verify", &release.reference]).exits(0);
    // Two operators: an entry in the log of each.
    let mut several = config;
    several["rekorTlogConfig"] = json!({"selector": "EXACT", "count": 2});
    let mut other = service(works.shop.bed.log.url(), 2)[0].clone();
    other["operator"] = json!("another");
    several["rekorTlogUrls"].as_array_mut().unwrap().push(other);
    works.shop.write("several.json", several.to_string());
    attest(&["--signing-config", "several.json", "--again"], &urls).exits(0);
    assert_eq!((works.rekor.size(), works.shop.bed.log.size()), (4, 2));
    works.shop.quorate(&["verify", &release.reference]).exits(0);
}

/// Who is asked in the course of a run.
#[derive(Clone, Copy, Debug)]
enum Server {
    Registry,
    Fulcio,
    Log,
    Tsa,
}

impl Server {
    const ALL: [Self; 4] = [Self::Registry, Self::Fulcio, Self::Log, Self::Tsa];

    fn fault(self, works: &Works, log: Log, fault: Fault) {
        match (self, log) {
            (Self::Registry, _) => works.shop.bed.registry.fault(fault),
            (Self::Fulcio, _) => works.fulcio.fault(fault),
            (Self::Log, Log::V1) => works.rekor.fault(fault),
            (Self::Log, Log::V2) => works.shop.bed.log.fault(fault),
            (Self::Tsa, _) => works.shop.bed.tsa.fault(fault),
        }
    }

    fn behave(self, works: &Works, log: Log) {
        match (self, log) {
            (Self::Registry, _) => works.shop.bed.registry.clear_faults(),
            (Self::Fulcio, _) => works.fulcio.clear_faults(),
            (Self::Log, Log::V1) => works.rekor.clear_faults(),
            (Self::Log, Log::V2) => works.shop.bed.log.clear_faults(),
            (Self::Tsa, _) => works.shop.bed.tsa.clear_faults(),
        }
    }

    fn requests(self, works: &Works, log: Log) -> usize {
        match (self, log) {
            (Self::Registry, _) => works.shop.bed.registry.log().len(),
            (Self::Fulcio, _) => works.fulcio.request_count(),
            (Self::Log, Log::V1) => works.rekor.request_count(),
            (Self::Log, Log::V2) => works.shop.bed.log.request_count(),
            (Self::Tsa, _) => works.shop.bed.tsa.request_count(),
        }
    }
}

impl Works {
    /// A release of one platform, for which one vote is enough: its name, and the arguments of
    /// `attest` for it.
    fn single(&self, name: &str) -> (String, Vec<String>) {
        let policy = format!(
            "version = 1\n\n[[image]]\nrepository = \"{}\"\nplatforms = [\"linux/amd64\"]\nquorum = 1\n\n\
             [[builder]]\nname = \"own\"\noperator = \"Acme\"\nissuer = \"{GITHUB}\"\n\
             san = \"https://github.com/acme/app/.github/workflows/build.yml@{MAIN}\"\n",
            self.shop.repository()
        );
        self.shop.write("quorate.toml", policy);
        let (reference, pushed) = (self.shop.at(name), format!("{name}-amd64"));
        let image = self.shop.push(&pushed, AMD64.0, name);
        self.shop.quorate(&["assemble", &reference, &self.shop.at(&pushed)]).exits(0);
        let config = image.config_digest.as_str();
        let arguments = ["attest", &reference, "--builder", "own", "--system", AMD64.1];
        let said = ["--config-digest", config, "--nar-hash", NAR_HASH, "--commit", COMMIT, "--sequence", "1"];
        let source = ["--source-uri", SOURCE, "--ref", MAIN, "--no-infer", "-o", "json"];
        let arguments = [&arguments[..], &said, &source, &["--identity-token", "env:JOB_TOKEN"]].concat();
        (reference.clone(), arguments.into_iter().map(str::to_owned).collect())
    }

    fn single_attest(&self, log: Log, arguments: &[String], more: &[&str]) -> Run {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.run(log, &arguments, &[("JOB_TOKEN", &self.own())])
    }

    /// How many bundles are attached to the image of that release, asked behind the binary's back.
    fn attached(&self, reference: &str, referrers: bool) -> usize {
        let (_, tag) = reference.rsplit_once(':').unwrap();
        let digest = self.shop.named(&format!("{tag}-amd64")).unwrap();
        if !referrers {
            let tag = |k: usize| format!("{}.q-own.{k}", digest.replace(':', "-"));
            return (0..9).filter(|k| self.shop.named(&tag(*k)).is_some()).count();
        }
        let path = format!("/v2/acme/app/referrers/{digest}");
        let listed: Value =
            serde_json::from_slice(&client::get(&self.shop.host(), &path, None).unwrap().body).unwrap();
        listed["manifests"].as_array().unwrap().len()
    }

    fn spawn(&self, log: Log, arguments: &[String]) -> Child {
        let mut command = self.shop.command(&[]);
        command.args(arguments).env("JOB_TOKEN", self.own()).envs(self.environment(log));
        if log == Log::V1 {
            command.env_remove("QUORATE_TSA_URL");
        }
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Kills a run when its request at `position` has arrived there; whether there was such a
    /// request.
    fn kills(&self, log: Log, server: Server, arguments: &[String], position: usize) -> bool {
        let before = server.requests(self, log);
        server.fault(self, log, Fault::new(FaultAction::Hang).skip(position).times(1));
        let mut child = self.spawn(log, arguments);
        let patience = Instant::now() + Duration::from_secs(60);
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if server.requests(self, log) - before > position {
                break None;
            }
            assert!(Instant::now() < patience, "request {position} never came");
            std::thread::sleep(Duration::from_millis(2));
        };
        let _ = child.kill();
        child.wait().unwrap();
        server.behave(self, log);
        assert!(ended.is_none_or(|status| status.success()), "a run that was not killed failed");
        ended.is_none()
    }

    /// Asserts that the next run makes one vote of what a killed one left, and the one after it
    /// finds that.
    #[track_caller]
    fn made_good(&self, log: Log, referrers: bool, reference: &str, arguments: &[String], what: &str) {
        self.single_attest(log, arguments, &[]).exits(0);
        let again = self.single_attest(log, arguments, &[]).exits(0).json();
        assert_eq!(again["outcome"], "already", "{what}");
        assert_eq!(self.attached(reference, referrers), 1, "{what}");
        let verdict = self.shop.quorate(&["verify", reference, "-o", "json"]).exits(0).json();
        assert_eq!(verdict["platforms"][0]["have"], 1, "{what}");
        assert_eq!(verdict["ignored"], json!([]), "{what}");
    }
}

/// What there is in a run: the log, whether the registry has the referrers API, and the least
/// number of requests to each of [`Server::ALL`].
const RUNS: [(Log, bool, [usize; 4]); 2] = [(Log::V1, true, [10, 1, 1, 0]), (Log::V2, false, [15, 1, 1, 1])];

#[test]
fn a_run_that_is_killed_anywhere_is_made_good_by_the_next() {
    for (log, referrers, requests) in RUNS {
        let works = Works::new(RegistryOptions { referrers, ..Default::default() });
        for (server, requests) in Server::ALL.into_iter().zip(requests) {
            for position in 0.. {
                let what = format!("{server:?}, {position}");
                let name = format!("git-{server:?}-{position}").to_lowercase();
                let (reference, arguments) = works.single(&name);
                if !works.kills(log, server, &arguments, position) {
                    assert!(position >= requests, "{what}: there were but {position} requests");
                    break;
                }
                works.made_good(log, referrers, &reference, &arguments, &what);
            }
        }
    }
}

#[test]
fn a_run_that_is_killed_when_the_log_has_its_entry_is_made_good_by_the_next() {
    for (log, referrers, _) in RUNS {
        let works = Works::new(RegistryOptions { referrers, ..Default::default() });
        let (reference, arguments) = works.single("git-1");
        let size = || if log == Log::V1 { works.rekor.size() } else { works.shop.bed.log.size() };
        // The entry is there, and the answer that says so never comes.
        let server = Server::Log;
        server.fault(&works, log, Fault::new(FaultAction::AfterWriteHang));
        let mut child = works.spawn(log, &arguments);
        let patience = Instant::now() + Duration::from_secs(60);
        while size() == 0 {
            assert!(Instant::now() < patience, "the entry never came");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        server.behave(&works, log);
        assert_eq!(works.attached(&reference, referrers), 0);
        works.made_good(log, referrers, &reference, &arguments, "killed after the log");
        // Another key, another signature: the first entry is of no bundle.
        assert_eq!(size(), 2);
    }
}

#[test]
fn an_outage_of_any_server_ends_or_is_reported() {
    for (log, referrers, requests) in RUNS {
        let works = Works::new(RegistryOptions { referrers, ..Default::default() });
        for (server, requests) in Server::ALL.into_iter().zip(requests) {
            if requests == 0 {
                continue;
            }
            let (reference, arguments) = works.single(&format!("git-{server:?}").to_lowercase());
            let attached = || works.attached(&reference, referrers);
            let registry = matches!(server, Server::Registry);
            for (action, seconds, says, of_registry) in [
                (FaultAction::Status(Answer::status(503)), "60", "answered 503", "registry-server-error"),
                (FaultAction::Reset, "60", "error sending request", "registry-unreachable"),
                (FaultAction::Hang, "2", "the time of the run is over", "registry-timeout"),
            ] {
                let what = format!("{server:?} {action:?}");
                server.fault(&works, log, Fault::new(action));
                works.shop.bed.registry.clear_log();
                let run = works.single_attest(log, &arguments, &["--timeout", seconds]);
                let written = works.shop.bed.registry.writes();
                server.behave(&works, log);
                assert!(run.code == 3, "{what}: exit code {}\n{}", run.code, run.stderr);
                run.says(if registry { of_registry } else { says });
                assert!(written.is_empty(), "{what}: {written:?}");
                assert_eq!(attached(), 0, "{what}");
            }
            // Once: it is asked again.
            server.fault(&works, log, Fault::status(503).times(1));
            let run = works.single_attest(log, &arguments, &[]);
            server.behave(&works, log);
            assert_eq!(run.exits(0).json()["outcome"], "attested", "{server:?}");
            works.made_good(log, referrers, &reference, &arguments, "after an outage");
        }
    }
}
