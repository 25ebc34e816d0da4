//! Where credentials come from, how tokens are asked for with them, and that nobody else sees them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod shop;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use quorate_bed::{Answer, Auth, Fault, FaultAction, RegistryOptions};
use shop::{Run, Shop};

const USER: &str = "builder";
const PASSWORD: &str = "correct-horse-battery";

fn shop(auth: Auth) -> Shop {
    let shop = Shop::new(RegistryOptions { auth, ..RegistryOptions::default() });
    for architecture in ["amd64", "arm64"] {
        shop.push(architecture, architecture, "hello");
    }
    shop.bed.registry.clear_log();
    shop
}

fn bearer(anonymous_pull: bool) -> Auth {
    Auth::Bearer {
        user: USER.to_owned(),
        password: PASSWORD.to_owned(),
        lifetime: Duration::from_secs(300),
        anonymous_pull,
    }
}

/// Reads both images and writes an index, with all that is said about it.
fn assemble(shop: &Shop, more: &[&str], environment: &[(&str, &str)]) -> Run {
    let [target, amd64, arm64] = ["all", "amd64", "arm64"].map(|tag| shop.at(tag));
    let arguments = [&["assemble", &target, &amd64, &arm64, "--verbose"], more].concat();
    shop.quorate_with(&arguments, environment)
}

/// Puts a program into the scratch folder, where `PATH` of [`path`] finds it first.
fn program(shop: &Shop, name: &str, script: &str) {
    shop.write(name, format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(shop.path(name), fs::Permissions::from_mode(0o755)).unwrap();
}

fn path(shop: &Shop) -> String {
    format!("{}:{}", shop.folder().display(), std::env::var("PATH").unwrap())
}

fn config(shop: &Shop, content: &serde_json::Value) {
    shop.write("config.json", content.to_string());
}

/// Method and status of each request for a token.
fn tokens(shop: &Shop) -> Vec<String> {
    let log = shop.bed.registry.log();
    log.iter()
        .filter(|r| r.path == "/token")
        .map(|r| format!("{} {}", r.method, r.status.unwrap_or(0)))
        .collect()
}

trait Denied {
    fn denied(self) -> Self;
}

impl Denied for Run {
    #[track_caller]
    fn denied(self) -> Self {
        assert!(
            self.stderr.contains("error: the registry could not be asked (registry-denied)"),
            "{}",
            self.stderr
        );
        self.exits(3)
    }
}

#[track_caller]
fn shows_none_of(run: &Run, secrets: &[&str]) {
    for secret in secrets {
        assert!(
            !run.stdout.contains(secret) && !run.stderr.contains(secret),
            "it shows `{secret}`: {}",
            run.stderr
        );
    }
}

#[test]
fn every_source_serves() {
    let encoded = data_encoding::BASE64.encode(format!("{USER}:{PASSWORD}").as_bytes());
    let shop = shop(bearer(false));
    let host = shop.host();
    let identity = shop.bed.registry.identity_token().to_owned();
    let login = format!("{USER}:{PASSWORD}");
    let token = format!(":{identity}");
    let at_host = format!("{host}=LOGIN");
    let gcp = format!("{host}=gcp");
    let mut op = format!("{host}=op://vault/item");
    program(
        &shop,
        "gcloud",
        &format!("echo \"$@\" >>argv; [ \"$*\" = 'auth print-access-token' ] && echo {PASSWORD}"),
    );
    program(
        &shop,
        "op",
        &format!(
            "echo \"$@\" >>argv\ncase \"$*\" in 'read op://vault/item/username') echo {USER};; \
             'read op://vault/item/password') echo {PASSWORD};; *) exit 1;; esac"
        ),
    );
    let stored = |user: &str, secret: &str| {
        format!("echo \"$@\" >>argv; cat >asked; echo '{{\"Username\":\"{user}\",\"Secret\":\"{secret}\"}}'")
    };
    program(&shop, "docker-credential-password", &stored(USER, PASSWORD));
    program(&shop, "docker-credential-identity", &stored("<token>", &identity));
    let path = path(&shop);

    let (get, post) = ("GET 200", "POST 200");
    let empty = serde_json::json!({});
    let file = |auths: serde_json::Value| serde_json::json!({ "auths": { &host: auths } });
    let cases: &[(&str, serde_json::Value, &[&str], &str)] = &[
        ("a user and password in a file", file(serde_json::json!({ "auth": encoded })), &[], get),
        ("an identity token in a file", file(serde_json::json!({ "identitytoken": identity })), &[], post),
        ("a helper", serde_json::json!({"credHelpers": { &host: "password" }}), &[], get),
        (
            "a helper with an identity token",
            serde_json::json!({"credHelpers": { &host: "identity" }}),
            &[],
            post,
        ),
        (
            "a store, with an entry that is empty",
            serde_json::json!({"auths": { &host: {} }, "credsStore": "password"}),
            &[],
            get,
        ),
        ("a variable", empty.clone(), &["--creds-env", "LOGIN"], get),
        ("a variable for this host", empty.clone(), &["--creds-env", &at_host], get),
        ("a variable with an identity token", empty.clone(), &["--creds-env", "TOKEN"], post),
        ("1Password", empty.clone(), &["--creds", "op://vault/item"], get),
        ("1Password for this host", empty.clone(), &["--creds", &op], get),
    ];
    for (name, content, arguments, expected) in cases {
        config(&shop, content);
        shop.bed.registry.clear_log();
        let environment = [("LOGIN", login.as_str()), ("TOKEN", &token), ("PATH", &path)];
        let run = assemble(&shop, arguments, &environment);
        assert_eq!(run.code, 0, "{name}: {}", run.stderr);
        // Two images, their configurations, and a write: one token.
        assert_eq!(tokens(&shop), [*expected], "{name}");
        shows_none_of(&run, &[PASSWORD, &identity, &encoded]);
    }
    // gcloud's user is its own.
    op = format!("{host}=op://vault/item/username,op://vault/item/password");
    config(&shop, &empty);
    assemble(&shop, &["--creds", &op], &[("PATH", &path)]).exits(0);
    assemble(&shop, &["--creds", &gcp], &[("PATH", &path)]).denied();
    // No secret was an argument of anything that was started, nor told to a helper.
    let argv = fs::read_to_string(shop.path("argv")).unwrap();
    assert!(argv.contains("get\n") && argv.contains("auth print-access-token\n"), "{argv}");
    assert!(!argv.contains(PASSWORD) && !argv.contains(&identity), "{argv}");
    assert_eq!(fs::read_to_string(shop.path("asked")).unwrap(), host);
}

#[test]
fn the_token_of_gcloud_is_a_password() {
    let shop = shop(Auth::Basic { user: "oauth2accesstoken".to_owned(), password: "ya29.token".to_owned() });
    program(&shop, "gcloud", "echo ya29.token");
    let path = path(&shop);
    let gcp = format!("{}=gcp", shop.host());
    let run = assemble(&shop, &["--creds", &gcp], &[("PATH", &path)]).exits(0);
    shows_none_of(&run, &["ya29.token"]);
    // It is Google's: without a host it goes to Google's registries only.
    shop.bed.registry.clear_log();
    assemble(&shop, &["--creds", "gcp"], &[("PATH", &path)]).denied();
    assert!(shop.bed.registry.log().iter().all(|r| !r.authorization));
    assert!(shop.bed.registry.writes().is_empty());
}

#[test]
fn a_source_that_fails_is_named() {
    let shop = shop(bearer(false));
    let path = path(&shop);
    let host = shop.host();
    let here = |rest: &str| format!("{host}={rest}");
    program(&shop, "gcloud", "echo s3cret >&2; exit 1");
    program(&shop, "op", "echo s3cret; echo s3cret");
    program(&shop, "docker-credential-broken", "echo s3cret; echo s3cret >&2; exit 1");
    program(&shop, "docker-credential-talks", "echo s3cret");
    program(&shop, "docker-credential-none", "echo credentials not found in native keychain; exit 1");
    program(&shop, "docker-credential-flood", "yes s3cret");
    let helper = |name: &str| serde_json::json!({"credHelpers": { &host: name }});
    for (content, mode, says) in [
        (None, here("gcp"), "`gcloud auth print-access-token` failed; run it by hand"),
        (None, here("op://vault/item"), "`op read op://vault/item/username` did not print one line"),
        (Some(helper("broken")), String::new(), "`docker-credential-broken` failed"),
        (Some(helper("talks")), String::new(), "`docker-credential-talks` gave a malformed answer"),
        (Some(helper("flood")), String::new(), "`docker-credential-flood` failed"),
        (Some(helper("absent")), String::new(), "`docker-credential-absent` could not be started"),
        (Some(helper("none")), String::new(), "asked without credentials"),
    ] {
        config(&shop, &content.unwrap_or_else(|| serde_json::json!({})));
        shop.bed.registry.clear_log();
        let more: Vec<&str> = if mode.is_empty() { vec![] } else { vec!["--creds", &mode] };
        let run = assemble(&shop, &more, &[("PATH", &path)]).exits(3);
        assert!(
            run.stderr.contains("registry-denied") && run.stderr.contains(says),
            "{says}: {}",
            run.stderr
        );
        shows_none_of(&run, &["s3cret"]);
        assert!(shop.bed.registry.writes().is_empty());
    }
}

#[test]
fn a_program_that_hangs_is_ended_with_the_run() {
    let shop = shop(bearer(false));
    // It leaves its process number behind, and then does nothing.
    program(&shop, "docker-credential-hangs", "echo $$ >pid; exec sleep 600");
    config(&shop, &serde_json::json!({"credHelpers": { shop.host(): "hangs" }}));
    let started = Instant::now();
    let run = assemble(&shop, &["--timeout", "2"], &[("PATH", &path(&shop))]);
    run.exits(3);
    assert!(started.elapsed() < Duration::from_secs(10));
    let pid = fs::read_to_string(shop.path("pid")).unwrap();
    let gone = || {
        // Ended, or ended and waiting to be asked for its exit code.
        fs::read_to_string(format!("/proc/{}/stat", pid.trim())).map_or(true, |stat| stat.contains(") Z "))
    };
    while !gone() {
        assert!(started.elapsed() < Duration::from_secs(20), "the helper lives on");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(shop.bed.registry.writes().is_empty());
}

#[test]
fn malformed_sources_are_refused_before_anything_is_asked() {
    let shop = shop(bearer(false));
    for (arguments, says) in [
        (["--creds-env", "NOT_SET"], "the variable `NOT_SET` is not set"),
        (["--creds-env", "BARE"], "the variable `BARE` holds neither `user:password` nor `:TOKEN`"),
        (["--creds-env", "EMPTY"], "the variable `EMPTY` holds neither"),
        (["--creds-env", "a b=LOGIN"], "`a b` is no registry host"),
        (["--creds", "s3cret"], "it is `gcp`, `op://VAULT/ITEM`, or `op://USER,op://PASSWORD`"),
    ] {
        let environment = [("BARE", "s3cret-in-bare"), ("EMPTY", "user:"), ("LOGIN", "u:p")];
        let run = assemble(&shop, &arguments, &environment).exits(2);
        assert!(run.stderr.contains(says), "{says}: {}", run.stderr);
        shows_none_of(&run, &["s3cret-in-bare"]);
    }
    assert!(shop.bed.registry.log().is_empty());
}

#[test]
fn credentials_of_one_registry_do_not_go_to_another() {
    let shop = shop(bearer(false));
    let login = format!("{USER}:{PASSWORD}");
    let environment = [("LOGIN", login.as_str())];
    assemble(&shop, &["--creds-env", "other.example=LOGIN"], &environment).denied();
    assert!(shop.bed.registry.log().iter().all(|r| !r.authorization));
    assert!(shop.bed.registry.writes().is_empty());
    // Nor does GITHUB_TOKEN, which is for ghcr.io.
    let github = [("GITHUB_TOKEN", PASSWORD), ("GITHUB_ACTOR", USER)];
    assemble(&shop, &[], &github).denied();
    assert!(shop.bed.registry.log().iter().all(|r| !r.authorization));
    assemble(&shop, &["--creds-env", "LOGIN"], &environment).exits(0);
}

#[test]
fn tokens_are_asked_for_as_the_registry_wants_it() {
    // Nobody may read, and only a login may write.
    let shop = shop(bearer(true));
    let [amd64, arm64] = ["amd64", "arm64"].map(|tag| shop.at(tag));
    shop.quorate(&["assemble", &shop.at("all"), &amd64, &arm64, "--dry-run"]).exits(0);
    assert_eq!(tokens(&shop), ["GET 200"]);
    assemble(&shop, &[], &[]).denied();
    assert_eq!(shop.named("all"), None);
    let login = format!("{USER}:{PASSWORD}");
    let environment = [("LOGIN", login.as_str())];

    // Several challenges, in several headers, with some that nobody knows.
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"{}\"", shop.host(), shop.host());
    for challenges in [
        vec!["Negotiate", "Basic realm=\"x\"", &realm],
        vec!["Basic realm=\"x\"", &realm],
        vec![&*realm, "Basic realm=\"x\"", "Digest nonce=\"y\""],
    ] {
        let answer = challenges.iter().fold(Answer::status(401), |a, c| a.header("WWW-Authenticate", c));
        shop.bed.registry.fault(Fault::new(FaultAction::Status(answer)).path("/v2/").times(1));
        shop.bed.registry.clear_log();
        assemble(&shop, &["--creds-env", "LOGIN"], &environment).exits(0);
        assert_eq!(tokens(&shop), ["GET 200"], "{challenges:?}");
        shop.bed.registry.clear_faults();
    }

    // A service that does not grant what may be wanted later still grants what is wanted now.
    let deny = Fault::new(FaultAction::Status(Answer::status(403))).path("/token").times(1);
    shop.bed.registry.fault(deny);
    shop.bed.registry.clear_log();
    assemble(&shop, &["--creds-env", "LOGIN"], &environment).exits(0);
    assert_eq!(tokens(&shop).len(), 3);
}

#[test]
fn an_identity_token_is_renewed_and_refused() {
    let shop = shop(bearer(false));
    let token = format!(":{}", shop.bed.registry.identity_token());
    let environment = [("TOKEN", token.as_str()), ("WRONG", ":not-the-token")];
    // The token runs out in mid-run, once.
    let expired = Answer::status(401).header(
        "WWW-Authenticate",
        &format!("Bearer realm=\"http://{}/token\",service=\"s\",error=\"invalid_token\"", shop.host()),
    );
    shop.bed.registry.fault(Fault::new(FaultAction::Status(expired)).path("/blobs/").times(1));
    assemble(&shop, &["--creds-env", "TOKEN"], &environment).exits(0);
    assert_eq!(tokens(&shop), ["POST 200", "POST 200"]);
    shop.bed.registry.clear_faults();
    shop.bed.registry.clear_log();
    let run = assemble(&shop, &["--creds-env", "WRONG"], &environment).denied();
    shows_none_of(&run, &["not-the-token"]);
    assert!(run.stderr.contains("these credentials were not taken"), "{}", run.stderr);
    assert!(shop.bed.registry.writes().iter().all(|r| r.path == "/token"));
}
