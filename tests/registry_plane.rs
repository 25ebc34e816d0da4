//! The registry plane against registries that behave, misbehave, and lie.
//!
//! Every refusal is asserted by its reason code and stands beside the case that passes.

#![allow(clippy::unwrap_used, clippy::panic)]

mod plane;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use quorate::edge::registry::{
    Access, Credentials, Error, Options, Place, Referrers, Registry, Secret, Source,
};
use quorate::oci::{Descriptor, Digest, Manifest, Repository, media_type};
use quorate_bed::{Answer, Auth, Fault, FaultAction, Registry as Bed, RegistryOptions};

use plane::*;

// ---- authentication

#[tokio::test(flavor = "multi_thread")]
async fn an_open_registry_is_asked_once_each() {
    let bed = open(true);
    let subject = subject_in(&bed);
    let found = anonymous().manifest(&tag(&bed, "v1")).await.unwrap().unwrap();
    assert_eq!(found.digest, subject.digest);
    assert_eq!(found.bytes.len() as u64, subject.size);
    assert_eq!(bed.log().len(), 1);
    let accept = &bed.log()[0].accept;
    assert_eq!(accept.len(), 1);
    assert_eq!(accept[0].split(',').count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_is_what_the_registry_says_and_nothing_else() {
    let bed = open(true);
    subject_in(&bed);
    let registry = anonymous();
    assert_eq!(registry.manifest(&tag(&bed, "v2")).await.unwrap(), None);
    let absent = repository(&bed).at_digest(Digest::of(b"absent"));
    assert_eq!(registry.manifest(&absent).await.unwrap(), None);
    let repository = repository(&bed);
    let blob = registry.blob(&repository, Digest::of(b"absent"), Some(6), 10);
    assert_eq!(blob.await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_cold_requests_cost_one_401_and_one_token() {
    let bed = bearer(Duration::from_secs(300), Duration::from_millis(30));
    subject_in(&bed);
    let registry = known(&bed);
    let reference = tag(&bed, "v1");
    for found in join_all((0..12).map(|_| registry.manifest(&reference))).await {
        assert!(found.unwrap().is_some());
    }
    let manifests = statuses(&bed, "GET", "/manifests/");
    assert_eq!(manifests.iter().filter(|s| **s == 401).count(), 1);
    assert_eq!(manifests.len(), 13);
    assert_eq!(statuses(&bed, "GET", "/token"), [200]);
    assert_eq!(bed.depth(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_covers_all_that_is_expected() {
    let bed = bearer(Duration::from_secs(300), Duration::ZERO);
    let subject = subject_in(&bed);
    let registry = known(&bed);
    let other: Repository = format!("{}/acme/other", bed.host()).parse().unwrap();
    registry.announce(&repository(&bed), Access::Push).unwrap();
    registry.announce(&other, Access::Pull).unwrap();
    registry.manifest(&tag(&bed, "v1")).await.unwrap();
    registry.manifest(&other.at_tag("v1".parse().unwrap())).await.unwrap();
    attach(&registry, &bed, &subject, "a").await;
    assert_eq!(statuses(&bed, "GET", "/token"), [200]);
    assert_eq!(bed.log().iter().filter(|r| r.status == Some(401)).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_runs_out_is_renewed_once() {
    let bed = bearer(Duration::from_secs(300), Duration::ZERO);
    subject_in(&bed);
    let registry = known(&bed);
    let reference = tag(&bed, "v1");
    registry.manifest(&reference).await.unwrap();
    bed.expire_tokens();
    for found in join_all((0..8).map(|_| registry.manifest(&reference))).await {
        assert!(found.unwrap().is_some());
    }
    assert_eq!(statuses(&bed, "GET", "/token"), [200, 200]);
    // Blobs go up with a token that was good a moment ago.
    bed.expire_tokens();
    let repository = repository(&bed);
    registry.push_blob(&repository, b"late".to_vec()).await.unwrap();
    // A token with a short life is not sent when it is over.
    let bed = bearer(Duration::from_secs(1), Duration::ZERO);
    subject_in(&bed);
    let registry = known(&bed);
    registry.manifest(&tag(&bed, "v1")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    registry.manifest(&tag(&bed, "v1")).await.unwrap();
    let refused = bed.log().iter().filter(|r| r.status == Some(401)).count();
    assert_eq!(refused, 1);
    assert_eq!(statuses(&bed, "GET", "/token"), [200, 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_credentials_are_sent_when_asked_for() {
    let bed = Bed::start(RegistryOptions {
        auth: Auth::Basic { user: USER.to_owned(), password: PASSWORD.to_owned() },
        ..RegistryOptions::default()
    });
    let subject = subject_in(&bed);
    let registry = known(&bed);
    let reference = tag(&bed, "v1");
    for found in join_all((0..6).map(|_| registry.manifest(&reference))).await {
        assert!(found.unwrap().is_some());
    }
    assert_eq!(statuses(&bed, "GET", "/manifests/").len(), 7);
    assert!(!bed.log()[0].authorization);
    assert_eq!(attach(&registry, &bed, &subject, "a").await, Place::Referrers);

    let error = anonymous().manifest(&reference).await.unwrap_err();
    assert_eq!(error.reason(), "registry-denied");
    assert_eq!(error.hint(), format!("docker login {}", bed.host()));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_denied_and_never_shown() {
    let bed = bearer(Duration::from_secs(300), Duration::ZERO);
    subject_in(&bed);
    let secret = "hunter2-and-more";
    let credentials = Credentials::none().with_source(Source::login(&bed.host(), USER, Secret::new(secret)));
    let options = Options { credentials, ..options() };
    assert!(!format!("{options:?}").contains(secret));
    let registry = Registry::new(options).unwrap();
    let error = registry.manifest(&tag(&bed, "v1")).await.unwrap_err();
    assert_eq!(error.reason(), "registry-denied");
    assert!(!format!("{error} {error:?} {registry:?}").contains(secret));
    // A registry that repeats what it was sent.
    let echo = Answer::status(403).body("text/plain", format!("no: {secret}\u{1b}[2J"));
    bed.fault(Fault::new(FaultAction::Status(echo)).path("/token"));
    let error = registry.manifest(&tag(&bed, "v1")).await.unwrap_err();
    assert!(error.to_string().contains("no: ***"), "{error}");
    assert!(!error.to_string().contains('\u{1b}'), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_token_service_gets_nothing() {
    for anonymous_run in [false, true] {
        let (bed, stranger) = (open(true), open(true));
        subject_in(&bed);
        let port = stranger.host().rsplit_once(':').unwrap().1.to_owned();
        // Another name than the registry's, though it leads to the same machine.
        let challenge = format!(r#"Bearer realm="http://localhost:{port}/token",service="x""#);
        let answer = Answer::status(401).header("WWW-Authenticate", &challenge);
        bed.fault(Fault::new(FaultAction::Status(answer)));
        let registry = if anonymous_run { anonymous() } else { known(&bed) };
        let error = registry.manifest(&tag(&bed, "v1")).await.unwrap_err();
        assert_eq!(error.reason(), "registry-credentials");
        assert!(stranger.log().is_empty());
        assert!(bed.log().iter().all(|r| !r.authorization));
        bed.clear_faults();
        assert!(anonymous().manifest(&tag(&bed, "v1")).await.unwrap().is_some());
    }
}

// ---- what is believed

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_than_the_digest_names_are_refused() {
    let bed = open(true);
    let subject = subject_in(&bed);
    let registry = anonymous();
    let by_digest = repository(&bed).at_digest(subject.digest);
    assert!(registry.manifest(&by_digest).await.unwrap().is_some());
    for action in [FaultAction::Replace(b"{}".to_vec()), FaultAction::Truncate, FaultAction::Html] {
        bed.fault(Fault::new(action));
        assert_eq!(reason(registry.manifest(&by_digest).await), "registry-digest-mismatch");
        bed.clear_faults();
    }
    // By tag, the registry's own header gives it away.
    bed.fault(Fault::new(FaultAction::Truncate));
    assert_eq!(reason(registry.manifest(&tag(&bed, "v1")).await), "registry-digest-mismatch");
    assert!(bed.writes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_manifest_is_refused() {
    let bed = open(true);
    subject_in(&bed);
    let registry = anonymous();
    let manifest = registry.manifest(&tag(&bed, "v1")).await.unwrap().unwrap();
    let ok = |media_type: &str, body: &[u8]| Answer::status(200).body(media_type, body);
    let truth = &manifest.bytes;
    let cases = [
        ok("text/html", b"<html>"),
        ok("application/json", truth),
        ok(media_type::INDEX, truth),
        ok(media_type::DOCKER_MANIFEST, truth),
        ok(media_type::MANIFEST, br#"{"schemaVersion":2}"#),
        ok(media_type::MANIFEST, b"[]"),
        ok(media_type::MANIFEST, b""),
        ok(media_type::MANIFEST, truth).header("Docker-Content-Digest", "sha512:aa"),
        ok(media_type::MANIFEST, truth).header("Docker-Content-Digest", "sha256:../../x"),
        ok(media_type::MANIFEST, truth).header("Content-Encoding", "gzip"),
        ok(media_type::MANIFEST, format!("[{}", "[],".repeat(400_000)).as_bytes()),
    ];
    for answer in cases {
        bed.clear_faults();
        bed.fault(Fault::new(FaultAction::Status(answer.clone())));
        let result = registry.manifest(&tag(&bed, "v1")).await;
        assert_eq!(reason(result), "registry-malformed", "{:?}", answer.headers);
    }
    bed.clear_faults();
    let parameters = format!("{}; charset=utf-8", media_type::MANIFEST);
    bed.fault(Fault::new(FaultAction::Status(ok(&parameters, truth))));
    assert!(registry.manifest(&tag(&bed, "v1")).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_checked_for_size_and_digest() {
    let bed = open(true);
    let registry = anonymous();
    let repository = repository(&bed);
    let digest = registry.push_blob(&repository, b"content".to_vec()).await.unwrap();
    let get = async |size, limit| registry.blob(&repository, digest, Some(size), limit).await;
    assert_eq!(get(7, 7).await.unwrap().unwrap(), b"content");
    assert_eq!(reason(get(8, 100).await), "registry-digest-mismatch");
    assert_eq!(reason(get(6, 6).await), "registry-too-large");
    bed.clear_log();
    assert_eq!(reason(get(8, 7).await), "registry-too-large");
    assert!(bed.log().is_empty(), "it was asked for all the same");
    bed.fault(Fault::new(FaultAction::Replace(b"CONTENT".to_vec())));
    assert_eq!(reason(get(7, 7).await), "registry-digest-mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_cut_off_at_their_limit() {
    // No length, and no end.
    let endless = |head: &'static str| {
        move |out: &mut dyn Write| {
            write!(out, "{head}\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 65536], b"\r\n"].concat();
            loop {
                out.write_all(&chunk)?;
            }
        }
    };
    let (host, written) =
        raw(endless("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json"));
    assert_eq!(reason(anonymous().manifest(&at(&host)).await), "registry-too-large");
    assert!(written.load(Ordering::Relaxed) < 16 * 1024 * 1024);
    let (host, written) = raw(endless("HTTP/1.1 418 No"));
    assert_eq!(reason(anonymous().manifest(&at(&host)).await), "registry-refused");
    assert!(written.load(Ordering::Relaxed) < 12 * 1024 * 1024);
    // A length that is a threat.
    let (host, _) = raw(|out| {
        write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: 629145600\r\n\r\n"
        )
    });
    assert_eq!(reason(anonymous().manifest(&at(&host)).await), "registry-too-large");
}

// ---- time and failure

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_trickle_end_in_time() {
    let quick =
        || Registry::new(Options { request_timeout: Duration::from_millis(300), ..options() }).unwrap();
    let bed = open(true);
    subject_in(&bed);
    bed.fault(Fault::new(FaultAction::Hang));
    let started = Instant::now();
    assert_eq!(reason(quick().manifest(&tag(&bed, "v1")).await), "registry-timeout");
    let (host, _) = raw(|out| {
        write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
        loop {
            out.write_all(b" ")?;
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(reason(quick().manifest(&at(&host)).await), "registry-timeout");
    assert!(started.elapsed() < Duration::from_secs(10));
    // The whole run has an end as well, however patient a request may be.
    let registry = Registry::new(Options { deadline: Duration::from_millis(300), ..options() }).unwrap();
    let started = Instant::now();
    assert_eq!(reason(registry.manifest(&tag(&bed, "v1")).await), "registry-timeout");
    assert!(started.elapsed() < Duration::from_secs(10));
    bed.clear_faults();
    let again = registry.with_deadline(Duration::from_secs(5));
    assert!(again.manifest(&tag(&bed, "v1")).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_pass_is_asked_again() {
    let bed = open(true);
    subject_in(&bed);
    for action in [
        say(429),
        say(502),
        say(408),
        FaultAction::Reset,
        FaultAction::HalfBody,
        FaultAction::Status(Answer::status(429).header("Retry-After", "1")),
        FaultAction::Status(Answer::status(503).header("Retry-After", "garbage")),
        FaultAction::Status(Answer::status(429).header("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT")),
    ] {
        bed.clear_log();
        bed.fault(Fault::new(action.clone()).times(2));
        let found = anonymous().manifest(&tag(&bed, "v1")).await;
        assert!(found.unwrap().is_some(), "{action:?}");
        assert_eq!(bed.log().len(), 3, "{action:?}");
        bed.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_is_given_up() {
    let bed = open(true);
    subject_in(&bed);
    for (action, expected, requests) in [
        (say(429), "registry-throttled", 4),
        (say(500), "registry-server-error", 4),
        (FaultAction::HalfBody, "registry-unreachable", 4),
        (FaultAction::Status(Answer::status(429).header("Retry-After", "9999")), "registry-throttled", 1),
        // The most seconds that 64 bits hold, of which no clock knows.
        (
            FaultAction::Status(Answer::status(429).header("Retry-After", "18446744073709551615")),
            "registry-throttled",
            1,
        ),
        (
            FaultAction::Status(Answer::status(503).header("Retry-After", "Mon, 21 Oct 2199 07:28:00 GMT")),
            "registry-server-error",
            1,
        ),
        (say(400), "registry-refused", 1),
        (say(403), "registry-denied", 1),
        (say(418), "registry-refused", 1),
    ] {
        bed.clear_log();
        bed.fault(Fault::new(action.clone()));
        let error = anonymous().manifest(&tag(&bed, "v1")).await.unwrap_err();
        assert_eq!(error.reason(), expected);
        assert_eq!(bed.log().len(), requests, "{action:?}");
        bed.clear_faults();
    }
    let gone = {
        let bed = open(true);
        tag(&bed, "v1")
    };
    assert_eq!(reason(anonymous().manifest(&gone).await), "registry-unreachable");
}

// ---- redirects

fn redirect(code: u16, to: &str) -> Fault {
    Fault::new(FaultAction::Status(Answer::status(code).header("Location", to)))
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_stay_where_they_belong() {
    let (bed, stranger) = (bearer(Duration::from_secs(300), Duration::ZERO), open(true));
    let subject = subject_in(&bed);
    let registry = known(&bed);
    let repository = repository(&bed);
    let digest = registry.push_blob(&repository, b"content".to_vec()).await.unwrap();
    let outside = format!("{}/acme/app", stranger.host()).parse().unwrap();
    anonymous().push_blob(&outside, b"content".to_vec()).await.unwrap();
    stranger.clear_log();
    let there = format!("http://{}/v2/acme/app/blobs/{digest}", stranger.host());

    // A blob may come from another host, which learns nothing of us.
    bed.fault(redirect(307, &there).path("/blobs/"));
    let blob = registry.blob(&repository, digest, Some(7), 7).await;
    assert_eq!(blob.unwrap().unwrap(), b"content");
    assert_eq!(stranger.log().len(), 1);
    assert!(!stranger.log()[0].authorization);
    bed.clear_faults();
    stranger.clear_log();

    // A manifest may not, nor may a list, nor anything that is written.
    let elsewhere = format!("http://{}/v2/", stranger.host());
    bed.fault(redirect(307, &elsewhere));
    let fetched = registry.manifest(&tag(&bed, "v1")).await;
    assert_eq!(reason(fetched), "registry-redirect");
    let listed = registry.referrers(&repository, subject.digest).await;
    assert_eq!(reason(listed), "registry-redirect");
    let pushed = registry.push_manifest(&repository, media_type::MANIFEST, b"{}");
    assert_eq!(reason(pushed.await), "registry-redirect");
    assert!(stranger.log().is_empty());
    bed.clear_faults();

    // In circles, to no address of a registry, to nothing.
    for to in [
        format!("/v2/acme/app/blobs/{digest}"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://10.0.0.1/".to_owned(),
        "file:///etc/passwd".to_owned(),
        format!("http://user:pass@{}/", stranger.host()),
    ] {
        bed.clear_log();
        bed.fault(redirect(302, &to).path("/blobs/"));
        let blob = registry.blob(&repository, digest, Some(7), 7).await;
        assert_eq!(reason(blob), "registry-redirect", "{to}");
        assert!(bed.log().len() <= 4, "{to}");
        bed.clear_faults();
    }
    assert!(stranger.log().is_empty());
    bed.fault(Fault::new(say(302)).path("/blobs/"));
    let blob = registry.blob(&repository, digest, Some(7), 7).await;
    assert_eq!(reason(blob), "registry-malformed");
}

// ---- writing

#[tokio::test(flavor = "multi_thread")]
async fn a_push_by_digest_is_tried_again() {
    let bed = open(true);
    subject_in(&bed);
    let registry = anonymous();
    let manifest = registry.manifest(&tag(&bed, "v1")).await.unwrap().unwrap();
    bed.clear_log();
    bed.fault(Fault::new(say(503)).method("PUT").times(1));
    let pushed = registry.push_manifest(&repository(&bed), &manifest.media_type, &manifest.bytes).await;
    assert_eq!(pushed.unwrap(), manifest.digest);
    assert_eq!(statuses(&bed, "PUT", "/manifests/"), [503, 201]);
    // An answer without Location (as of ECR) is fine; one that names other content is not.
    bed.fault(Fault::new(say(201)).method("PUT").times(1));
    let push = || registry.push_manifest_of(&bed, &manifest.bytes);
    assert!(push().await.is_ok());
    let other = Digest::of(b"other").to_string();
    let lie = Answer::status(201).header("Docker-Content-Digest", &other);
    bed.fault(Fault::new(FaultAction::Status(lie)).method("PUT"));
    assert_eq!(reason(push().await), "registry-digest-mismatch");
}

trait PushOf {
    async fn push_manifest_of(&self, bed: &Bed, bytes: &[u8]) -> Result<Digest, Error>;
}

impl PushOf for Registry {
    async fn push_manifest_of(&self, bed: &Bed, bytes: &[u8]) -> Result<Digest, Error> {
        self.push_manifest(&repository(bed), media_type::MANIFEST, bytes).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_tried_again_and_their_failures_named() {
    let bed = open(true);
    let registry = anonymous();
    let repository = repository(&bed);
    let push = |bytes: &'static [u8]| registry.push_blob(&repository, bytes.to_vec());
    bed.fault(Fault::new(say(503)).method("POST").times(1));
    bed.fault(Fault::new(say(502)).method("PUT").times(1));
    assert_eq!(push(b"one").await.unwrap(), Digest::of(b"one"));
    let writes = bed.writes().len();
    assert_eq!(push(b"one").await.unwrap(), Digest::of(b"one"));
    assert_eq!(bed.writes().len(), writes, "it was there already");
    for (answer, expected) in [
        (Answer::status(202).header("Location", "http://["), "registry-malformed"),
        (Answer::status(202), "registry-malformed"),
        (Answer::status(403), "registry-denied"),
        (Answer::status(400), "registry-refused"),
        (Answer::status(500), "registry-server-error"),
        (
            Answer::status(429)
                .body("application/json", r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow"}]}"#),
            "registry-throttled",
        ),
    ] {
        bed.fault(Fault::new(FaultAction::Status(answer)).method("POST"));
        assert_eq!(reason(push(b"two").await), expected);
        bed.clear_faults();
    }
    assert_eq!(push(b"two").await.unwrap(), Digest::of(b"two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_everybody_may_read_is_written_with_credentials() {
    let bed = open(true);
    let answer = Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    bed.fault(Fault::new(FaultAction::Status(answer)).method("POST").times(1));
    let repository = repository(&bed);
    let pushed = known(&bed).push_blob(&repository, b"x".to_vec()).await;
    assert_eq!(pushed.unwrap(), Digest::of(b"x"));
    let sent: Vec<bool> = bed.writes().iter().map(|r| r.authorization).collect();
    assert_eq!(sent, [false, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_elsewhere_is_not_authenticated() {
    let (bed, stranger) = (bearer(Duration::from_secs(300), Duration::ZERO), open(true));
    subject_in(&bed);
    let there = format!("http://{}/v2/acme/app/blobs/uploads/x", stranger.host());
    let answer = Answer::status(202).header("Location", &there);
    bed.fault(Fault::new(FaultAction::Status(answer)).method("POST"));
    let repository = repository(&bed);
    let pushed = known(&bed).push_blob(&repository, b"x".to_vec()).await;
    assert!(pushed.is_err());
    assert!(stranger.log().iter().all(|r| !r.authorization));
}

// ---- referrers

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_of_referrers_are_read() {
    let bed = Bed::start(RegistryOptions { referrers_page: Some(2), ..RegistryOptions::default() });
    let subject = subject_in(&bed);
    let registry = anonymous();
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        attach(&registry, &bed, &subject, name).await;
    }
    bed.clear_log();
    let Referrers::Listed(listed) = registry.referrers(&repository(&bed), subject.digest).await.unwrap()
    else {
        panic!("the API is there");
    };
    assert_eq!(listed.len(), 5);
    assert_eq!(bed.log().len(), 3);
    assert_eq!(collected(&registry, &bed, &subject, &[]).await.unwrap(), names);
    // A page that cannot be had is no end of the list.
    bed.fault(Fault::new(say(404)).path("start="));
    assert_eq!(reason(collected(&registry, &bed, &subject, &[]).await), "registry-refused");
    bed.clear_faults();
    assert!(matches!(registry.referrers(&repository(&bed), subject.digest).await, Ok(Referrers::Listed(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_page_is_found_among_other_links() {
    let bed = open(true);
    let subject = subject_in(&bed);
    let path = format!("/v2/acme/app/referrers/{}", subject.digest);
    let page = |entries: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{entries}]}}"#
        )
    };
    let entry = format!(r#"{{"mediaType":"a/b","digest":"{}","size":1}}"#, subject.digest);
    let first = Answer::status(200).body(media_type::INDEX, page("")).header(
        "Link",
        &format!("<{path}?n=9>; rel=\"last\", <{path}?n=1>; rel=\"first\", <{path}?n=2>; rel=\"next\""),
    );
    bed.fault(Fault::new(FaultAction::Status(first)).times(1));
    let second = Answer::status(200).body(media_type::INDEX, page(&entry));
    bed.fault(Fault::new(FaultAction::Status(second)).path("n=2"));
    bed.clear_log();
    let listed = anonymous().referrers(&repository(&bed), subject.digest).await.unwrap();
    let queries: Vec<_> = bed.log().into_iter().map(|request| request.query.unwrap_or_default()).collect();
    assert_eq!(queries, ["", "n=2"]);
    assert!(matches!(listed, Referrers::Listed(listed) if listed.len() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_without_end_and_pages_elsewhere_are_refused() {
    let (bed, stranger) = (open(true), open(true));
    let subject = subject_in(&bed);
    let registry = anonymous();
    let empty =
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let path = format!("/v2/acme/app/referrers/{}", subject.digest);
    let there = format!("http://{}{path}?n=1", stranger.host());
    for (link, expected, requests) in [
        // Back to itself.
        (format!("<{path}?n=1>; rel=\"next\""), "registry-malformed", 2),
        (format!("<{there}>; rel=\"next\""), "registry-redirect", 1),
        ("</v2/acme/app/tags/list>; rel=next".to_owned(), "registry-redirect", 1),
        ("rel=next".to_owned(), "registry-malformed", 1),
    ] {
        bed.clear_log();
        let answer = Answer::status(200).body(media_type::INDEX, empty).header("Link", &link);
        bed.fault(Fault::new(FaultAction::Status(answer)));
        let listed = registry.referrers(&repository(&bed), subject.digest).await;
        assert_eq!(reason(listed), expected, "{link}");
        assert_eq!(bed.log().len(), requests, "{link}");
        bed.clear_faults();
    }
    assert!(stranger.log().is_empty());
    // Each page new and pointing on.
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let (host, _) = raw(move |out| {
        let page = count.fetch_add(1, Ordering::Relaxed);
        let length = empty.len();
        write!(out, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {}\r\n", media_type::INDEX)?;
        write!(out, "Link: <?n={page}>; rel=\"next\"\r\nContent-Length: {length}\r\n\r\n")?;
        out.write_all(empty)
    });
    let listed = registry.referrers(&at(&host).repository, subject.digest).await;
    assert_eq!(reason(listed), "registry-too-many");
    assert_eq!(asked.load(Ordering::Relaxed), 20);
    let entry = format!(r#"{{"mediaType":"a/b","digest":"{}","size":1}}"#, subject.digest);
    let many = |n: usize| {
        let entries = vec![entry.as_str(); n].join(",");
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{entries}]}}"#
        )
    };
    for (n, fits) in [(1000, true), (1001, false)] {
        let answer = Answer::status(200).body(media_type::INDEX, many(n));
        bed.fault(Fault::new(FaultAction::Status(answer)));
        let listed = registry.referrers(&repository(&bed), subject.digest).await;
        match listed {
            Ok(Referrers::Listed(listed)) => assert!(fits && listed.len() == n),
            other => assert!(!fits && reason(other) == "registry-too-many"),
        }
        bed.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_supported_and_not_known_are_two_things() {
    let bed = open(true);
    let subject = subject_in(&bed);
    let repository = repository(&bed);
    for code in [303, 400, 404, 405, 501] {
        bed.fault(Fault::new(say(code)).path("/referrers/"));
        let listed = anonymous().referrers(&repository, subject.digest).await;
        assert_eq!(listed.unwrap(), Referrers::Unsupported, "{code}");
        bed.clear_faults();
    }
    bed.fault(Fault::new(FaultAction::Html).path("/referrers/"));
    let listed = anonymous().referrers(&repository, subject.digest).await;
    assert_eq!(listed.unwrap(), Referrers::Unsupported);
    bed.clear_faults();
    for (action, expected) in [
        (say(403), "registry-denied"),
        (say(429), "registry-throttled"),
        (say(500), "registry-server-error"),
        (say(418), "registry-refused"),
        (FaultAction::Replace(b"{}".to_vec()), "registry-malformed"),
        (FaultAction::Truncate, "registry-malformed"),
        (FaultAction::HalfBody, "registry-unreachable"),
    ] {
        bed.fault(Fault::new(action).path("/referrers/"));
        let result = collected(&anonymous(), &bed, &subject, &["a"]).await;
        assert_eq!(reason(result), expected);
        bed.clear_faults();
    }
    assert!(bed.writes().is_empty());
    assert!(collected(&anonymous(), &bed, &subject, &["a"]).await.unwrap().is_empty());
}

// ---- evidence

#[tokio::test(flavor = "multi_thread")]
async fn what_is_attached_is_collected() {
    for referrers in [true, false] {
        let bed = open(referrers);
        let subject = subject_in(&bed);
        let registry = anonymous();
        for name in ["a", "b"] {
            let place = attach(&registry, &bed, &subject, name).await;
            assert_eq!(place == Place::Referrers, referrers);
        }
        bed.clear_log();
        let found = collected(&anonymous(), &bed, &subject, &["a", "b"]).await;
        assert_eq!(found.unwrap(), ["a", "b"]);
        // Inlined in their manifests, bundles cost no request of their own, and those under a
        // derived tag are not read again for the sake of the shared one.
        let expected = if referrers { 1 + 2 } else { 1 + 4 + 1 };
        assert_eq!(bed.log().len(), expected, "{:?}", bed.log());
        assert!(bed.writes().is_empty());
        // The same again adds nothing.
        let again = attach(&registry, &bed, &subject, "a").await;
        assert_eq!(again == Place::Referrers, referrers);
        let found = collected(&anonymous(), &bed, &subject, &["a", "b"]).await;
        assert_eq!(found.unwrap(), ["a", "b"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_bundle_takes_the_next_tag() {
    let bed = open(false);
    let subject = subject_in(&bed);
    let registry = anonymous();
    for k in 0..4 {
        let attached = registry
            .attach(
                false,
                &repository(&bed),
                &subject,
                &slot("a"),
                &bundle(&k.to_string()),
                annotations(TYPE),
            )
            .await
            .unwrap();
        let Place::Tag(tag) = attached.place else {
            panic!("there is no referrers API");
        };
        assert_eq!(tag.as_str(), format!("sha256-{}.q-a.{k}", subject.digest.hex()));
        assert!(attached.notes.is_empty(), "{:?}", attached.notes);
    }
    let found = collected(&anonymous(), &bed, &subject, &["a"]).await;
    assert_eq!(found.unwrap(), ["0", "1", "2", "3"]);
    // Without the slot, the shared tag still names them all.
    let found = collected(&anonymous(), &bed, &subject, &[]).await;
    assert_eq!(found.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_builders_at_once_lose_nothing() {
    let bed = open(false);
    plane::at_once::nothing_is_lost(&bed.host(), 20).await;
    // Each wrote a tag of its own, once.
    let derived = bed.writes().iter().filter(|r| r.path.contains(".q-b")).count();
    assert_eq!(derived, 20 * 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_every_place_must_answer() {
    let bed = open(false);
    let subject = subject_in(&bed);
    attach(&anonymous(), &bed, &subject, "a").await;
    let shared = format!("sha256-{}", subject.digest.hex());
    bed.clear_log();
    // The path of the shared tag is the beginning of all the others.
    let parts = [".q-a.0", ".q-b.1", ""].map(|end| format!("{shared}{end}"));
    let actions = [
        (say(500), "registry-server-error"),
        (say(429), "registry-throttled"),
        (say(403), "registry-denied"),
        (FaultAction::Html, "registry-malformed"),
        (FaultAction::Reset, "registry-unreachable"),
    ];
    let cases = parts.iter().flat_map(|part| actions.iter().map(move |action| (part, action)));
    join_all(cases.map(async |(part, (action, expected))| {
        let bed = open(false);
        subject_in(&bed);
        attach(&anonymous(), &bed, &subject, "a").await;
        bed.clear_log();
        bed.fault(Fault::new(action.clone()).path(part));
        let found = reason(collected(&anonymous(), &bed, &subject, &["a", "b"]).await);
        assert_eq!(found, *expected, "{part} {action:?}");
        assert!(bed.writes().is_empty());
    }))
    .await;
    assert!(bed.writes().is_empty());
    let found = collected(&anonymous(), &bed, &subject, &["a", "b"]).await;
    assert_eq!(found.unwrap(), ["a"]);
}

/// Pushes `bytes` under `tag` with the bed's own client.
fn put(bed: &Bed, tag: &str, media_type: &str, bytes: &[u8]) {
    let status = quorate_bed::client::put_manifest(&bed.host(), "acme/app", tag, media_type, bytes).unwrap();
    assert_eq!(status, 201);
}

fn index(entries: &[serde_json::Value]) -> Vec<u8> {
    serde_json::json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": entries})
        .to_string()
        .into_bytes()
}

fn entry(manifest: &Manifest) -> serde_json::Value {
    serde_json::json!({
        "mediaType": media_type::MANIFEST,
        "digest": manifest.digest().to_string(),
        "size": manifest.bytes().len(),
    })
}

fn carrier(subject: &Descriptor, name: &str) -> Manifest {
    let content = bundle(name);
    let mut layer = Descriptor::of(media_type::BUNDLE, &content);
    layer.data = Some(content);
    Manifest::artifact(media_type::BUNDLE, layer, subject, BTreeMap::new()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shared_tag_gives_hints_only() {
    let bed = open(false);
    let subject = subject_in(&bed);
    let registry = anonymous();
    let repository = repository(&bed);
    registry.push_blob(&repository, b"{}".to_vec()).await.unwrap();
    let shared = format!("sha256-{}", subject.digest.hex());
    let other = Descriptor::of(media_type::MANIFEST, b"other");
    let (good, astray) = (carrier(&subject, "good"), carrier(&other, "astray"));
    for (manifest, name) in [(&good, "good"), (&astray, "astray")] {
        registry.push_blob(&repository, bundle(name)).await.unwrap();
        registry.push_manifest(&repository, media_type::MANIFEST, manifest.bytes()).await.unwrap();
    }
    // Entries without a type are looked into; their own subject decides.
    let image = serde_json::json!({"mediaType": media_type::MANIFEST, "digest": subject.digest.to_string(), "size": subject.size});
    put(&bed, &shared, media_type::INDEX, &index(&[entry(&good), entry(&astray), image]));
    let found = collected(&anonymous(), &bed, &subject, &["a"]).await;
    assert_eq!(found.unwrap(), ["!bundle-manifest", "good"]);

    // Entries that say they are something else are not fetched.
    let mut sbom = entry(&good);
    sbom["artifactType"] = "application/spdx+json".into();
    let mut foreign = entry(&astray);
    foreign["annotations"] =
        serde_json::json!({"dev.sigstore.bundle.predicateType": "https://slsa.dev/provenance/v1"});
    put(&bed, &shared, media_type::INDEX, &index(&[sbom, foreign]));
    bed.clear_log();
    let found = collected(&anonymous(), &bed, &subject, &["a"]).await;
    assert!(found.unwrap().is_empty());
    assert_eq!(bed.log().len(), 1 + 2 + 1);

    // The image under another name (GitLab) says nothing; another image there is a contradiction.
    let raw = registry.manifest(&tag(&bed, "v1")).await.unwrap().unwrap();
    put(&bed, &shared, media_type::MANIFEST, &raw.bytes);
    let found = collected(&anonymous(), &bed, &subject, &["a"]).await;
    assert!(found.unwrap().is_empty());
    let attached = anonymous()
        .attach(false, &repository, &subject, &slot("a"), &bundle("a"), annotations(TYPE))
        .await
        .unwrap();
    assert_eq!(attached.notes.len(), 1, "the shared tag is left alone");
    put(&bed, &shared, media_type::MANIFEST, good.bytes());
    assert_eq!(reason(collected(&anonymous(), &bed, &subject, &["a"]).await), "registry-malformed");
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_beside_evidence_is_reported_and_harmless() {
    let bed = open(true);
    let subject = subject_in(&bed);
    let registry = anonymous();
    let repository = repository(&bed);
    attach(&registry, &bed, &subject, "good").await;
    // A bundle over the limit, named but not inlined.
    let big = vec![b' '; 1024 * 1024 + 1];
    let layer = Descriptor::of(media_type::BUNDLE, &big);
    registry.push_blob(&repository, big).await.unwrap();
    let big = Manifest::artifact(media_type::BUNDLE, layer, &subject, BTreeMap::new()).unwrap();
    // Two layers, and a bundle that is only named and is there.
    let text = String::from_utf8(carrier(&subject, "twice").bytes().to_vec()).unwrap();
    let layers = text.find("\"layers\":[").unwrap() + 10;
    let end = layers + text[layers..].find("}]").unwrap() + 1;
    let twice = format!("{},{}", &text[..end], &text[layers..]);
    registry.push_blob(&repository, bundle("twice")).await.unwrap();
    registry.push_blob(&repository, bundle("named")).await.unwrap();
    let named = Manifest::artifact(
        media_type::BUNDLE,
        Descriptor::of(media_type::BUNDLE, &bundle("named")),
        &subject,
        BTreeMap::new(),
    )
    .unwrap();
    for bytes in [big.bytes(), twice.as_bytes(), named.bytes()] {
        registry.push_manifest(&repository, media_type::MANIFEST, bytes).await.unwrap();
    }
    let found = collected(&anonymous(), &bed, &subject, &[]).await.unwrap();
    assert_eq!(found, ["!bundle-manifest", "!bundle-too-large", "good", "named"]);
    assert_eq!(
        reason(
            registry
                .attach(
                    true,
                    &repository,
                    &subject,
                    &slot("a"),
                    &vec![b' '; 1024 * 1024 + 1],
                    BTreeMap::new()
                )
                .await
        ),
        "registry-too-large"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_attach_overlaps_what_it_can() {
    let bed = bearer(Duration::from_secs(300), Duration::from_millis(40));
    let (subject, repository) = (subject_in(&bed), repository(&bed));
    let cold = async |name: &str| {
        bed.clear_log();
        let (slot, bundle) = (slot(name), bundle(name));
        known(&bed).attach(true, &repository, &subject, &slot, &bundle, annotations(TYPE)).await.unwrap();
        assert_eq!(statuses(&bed, "GET", "/token"), [200]);
        (bed.log().len(), bed.depth())
    };
    let first = cold("a").await;
    assert!(first.0 <= 9 && first.1 <= 7, "{first:?}");
    // The empty configuration is there already: 401, token, (is the configuration there, begin
    // upload), end of upload, manifest, list.
    assert_eq!(cold("b").await, (7, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_collect_takes_four_round_trips() {
    let bed = bearer(Duration::from_secs(300), Duration::from_millis(40));
    let subject = subject_in(&bed);
    for name in ["a", "b"] {
        attach(&known(&bed), &bed, &subject, name).await;
    }
    bed.clear_log();
    let found = collected(&known(&bed), &bed, &subject, &["a", "b"]).await;
    assert_eq!(found.unwrap(), ["a", "b"]);
    // 401, token, list, two manifests at once.
    assert_eq!((bed.log().len(), bed.depth()), (5, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_docker_login_is_read() {
    let bed = bearer(Duration::from_secs(300), Duration::ZERO);
    subject_in(&bed);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    let encoded = data_encoding::BASE64.encode(format!("{USER}:{PASSWORD}").as_bytes());
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"{encoded}"}}}}}}"#, bed.host());
    std::fs::write(&file, config).unwrap();
    let with = |file: &std::path::Path| {
        Registry::new(Options { credentials: Credentials::none().with_file(file), ..options() }).unwrap()
    };
    let reference = tag(&bed, "v1");
    assert!(with(&file).manifest(&reference).await.unwrap().is_some());
    // A file that cannot be read is named when the registry says no, and not before.
    std::fs::write(&file, "{").unwrap();
    let error = with(&file).manifest(&reference).await.unwrap_err();
    assert_eq!(error.reason(), "registry-denied");
    let open = open(true);
    subject_in(&open);
    assert!(with(&file).manifest(&tag(&open, "v1")).await.unwrap().is_some());
}
