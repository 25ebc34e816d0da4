//! What a registry does wrong while a release is promoted: nothing is decided, nothing is written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use quorate_bed::{Answer, Fault, FaultAction, RegistryOptions};
use shop::Shop;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const NO_ENTRIES: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

fn status(code: u16) -> FaultAction {
    FaultAction::Status(Answer::status(code))
}

fn says(code: u16, name: &str, value: &str) -> FaultAction {
    FaultAction::Status(Answer::status(code).header(name, value))
}

fn list(link: &str) -> FaultAction {
    FaultAction::Status(Answer::status(200).body(INDEX, NO_ENTRIES).header("Link", link))
}

/// Promotes under each fault: (which requests, what happens to them, reason).
fn undecided(shop: &Shop, reference: &str, cases: &[(&str, FaultAction, &str)]) {
    let promote = ["promote", reference, "--tag", "latest,1.4.2", "--timeout", "20"];
    for (path, action, reason) in cases {
        shop.bed.registry.clear_log();
        shop.bed.registry.fault(Fault::new(action.clone()).path(path));
        let run = shop.quorate(&promote).exits(3);
        assert!(run.stderr.contains(&format!("({reason})")), "{path} {action:?}: {}", run.stderr);
        assert!(shop.bed.registry.writes().is_empty(), "{path} {action:?}");
        // Asked again a few times at most.
        assert!(shop.bed.registry.log().len() < 60, "{path} {action:?}");
        shop.bed.registry.clear_faults();
    }
    assert_eq!((shop.named("latest"), shop.named("1.4.2")), (None, None));
    shop.quorate(&promote).exits(0);
    assert!(shop.named("latest").is_some() && shop.named("latest") == shop.named("1.4.2"));
}

#[test]
fn a_registry_with_the_referrers_api() {
    let shop = Shop::open();
    let release = shop.release("candidate", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let (child, config) = (&release.images[0].manifest_digest, &release.images[0].config_digest);
    let stranger = "http://localhost:9/v2/";
    let realm =
        |realm: &str| says(401, "WWW-Authenticate", &format!("Bearer realm=\"{realm}\",service=\"s\""));
    let elsewhere = format!("<{stranger}acme/app/referrers/x>; rel=\"next\"");
    let itself = format!("</v2/acme/app/referrers/{child}>; rel=\"next\"");
    // Both are asked for at once: a fault is told which of them it is for.
    let (manifest, referrers) = (format!("/manifests/{child}"), format!("/referrers/{child}"));
    undecided(
        &shop,
        &release.reference,
        &[
            // Who is to be told who we are.
            ("", realm("http://localhost:9/token"), "registry-credentials"),
            ("", realm("http://127.0.0.1.example/token"), "registry-credentials"),
            ("", realm("http://169.254.169.254/token"), "registry-credentials"),
            ("", realm("file:///etc/passwd"), "registry-credentials"),
            // The image.
            ("/manifests/candidate", FaultAction::Html, "registry-malformed"),
            ("/manifests/candidate", FaultAction::Truncate, "registry-digest-mismatch"),
            ("/manifests/candidate", says(302, "Location", stranger), "registry-redirect"),
            ("/manifests/candidate", status(403), "registry-denied"),
            ("/manifests/candidate", says(429, "Retry-After", "9999"), "registry-throttled"),
            (&manifest, FaultAction::Replace(b"{}".to_vec()), "registry-digest-mismatch"),
            (&manifest, FaultAction::Reset, "registry-unreachable"),
            (config, FaultAction::Replace(b"{}".to_vec()), "registry-digest-mismatch"),
            (config, FaultAction::HalfBody, "registry-unreachable"),
            (config, says(307, "Location", "http://169.254.169.254/"), "registry-redirect"),
            (config, says(200, "Content-Encoding", "gzip"), "registry-malformed"),
            // What is attached to it.
            (&referrers, status(403), "registry-denied"),
            (&referrers, says(429, "Retry-After", "Mon, 21 Oct 2199 07:28:00 GMT"), "registry-throttled"),
            (&referrers, status(500), "registry-server-error"),
            (&referrers, FaultAction::Truncate, "registry-malformed"),
            (&referrers, says(302, "Location", stranger), "registry-redirect"),
            (&referrers, list(&elsewhere), "registry-redirect"),
            (&referrers, list(&itself), "registry-malformed"),
            (&referrers, list("next"), "registry-malformed"),
            // What the tags name now.
            ("/manifests/latest", status(500), "registry-server-error"),
            ("/manifests/1.4.2", FaultAction::Html, "registry-malformed"),
        ],
    );
}

#[test]
fn a_registry_without_it() {
    let shop = Shop::new(RegistryOptions { referrers: false, ..RegistryOptions::default() });
    let release = shop.release("candidate", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let shared =
        format!("/manifests/sha256-{}", release.images[0].manifest_digest.split_once(':').unwrap().1);
    let derived = format!("{shared}.q-garnix.0");
    let mut cases = Vec::new();
    for path in [shared.as_str(), &derived] {
        cases.extend([
            (path, status(403), "registry-denied"),
            (path, says(429, "Retry-After", "9999"), "registry-throttled"),
            (path, status(500), "registry-server-error"),
            (path, FaultAction::Html, "registry-malformed"),
            (path, FaultAction::Reset, "registry-unreachable"),
        ]);
    }
    undecided(&shop, &release.reference, &cases);
}
