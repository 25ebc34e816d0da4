//! Each way to misbehave, as a client sees it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use quorate_bed::client::{get, put_manifest, send};
use quorate_bed::image::{Image, MANIFEST, minimal_elf};
use quorate_bed::{Answer, Fault, FaultAction, Registry, RegistryOptions};

const PATH: &str = "/v2/app/manifests/v1";

fn registry() -> (Registry, Image) {
    let registry = Registry::start(RegistryOptions::default());
    let app = minimal_elf("amd64");
    let image = Image::build("linux", "amd64", None, &[("app", &app, 0o755)]);
    image.push(&registry.host(), "app", "v1").expect("pushed");
    registry.clear_log();
    (registry, image)
}

fn raw(host: &str, patience: Duration) -> (Vec<u8>, Option<ErrorKind>) {
    let mut stream = TcpStream::connect(host).expect("connected");
    stream.set_read_timeout(Some(patience)).expect("an option");
    let head = format!("GET {PATH} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut received = Vec::new();
    let error = stream.read_to_end(&mut received).err();
    (received, error.map(|error| error.kind()))
}

#[test]
fn a_status_is_answered_with_its_headers_and_nothing_is_done() {
    let (registry, image) = registry();
    let host = registry.host();
    let answer = Answer::status(429)
        .header("Retry-After", "3")
        .body("application/json", r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#);
    registry.fault(Fault::new(FaultAction::Status(answer)).method("PUT"));
    let headers = [("Content-Type", MANIFEST)];
    let path = "/v2/app/manifests/v2";
    let response = send(&host, "PUT", path, &headers, &image.manifest).expect("an answer");
    assert_eq!(response.status, 429);
    assert_eq!(response.header("retry-after"), Some("3"));
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert!(response.body.starts_with(b"{\"errors\""));
    assert_eq!(get(&host, path, None).expect("an answer").status, 404);
    assert_eq!(registry.writes()[0].status, Some(429));
}

#[test]
fn rules_count_what_they_match() {
    let (registry, _) = registry();
    let host = registry.host();
    registry.fault(Fault::status(500).method("GET").path("/manifests/v1").skip(1).times(2));
    let status = |path| get(&host, path, None).expect("an answer").status;
    assert_eq!(status("/v2/"), 200);
    assert_eq!(status(PATH), 200);
    assert_eq!(status("/v2/app/tags/list"), 200);
    assert_eq!(status(PATH), 500);
    let head = send(&host, "HEAD", PATH, &[], &[]).expect("an answer");
    assert_eq!(head.status, 200, "another method");
    assert_eq!(status(PATH), 500);
    assert_eq!(status(PATH), 200);

    registry.fault(Fault::status(502));
    registry.fault(Fault::status(503));
    assert_eq!(status(PATH), 502, "the first rule counts");
    registry.clear_faults();
    assert_eq!(status(PATH), 200);
}

#[test]
fn half_a_body_breaks_off() {
    let (registry, image) = registry();
    registry.fault(Fault::new(FaultAction::HalfBody));
    let (received, _) = raw(&registry.host(), Duration::from_secs(5));
    let text = String::from_utf8(received).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"));
    let length = format!("content-length: {}", image.manifest.len());
    assert!(head.contains(&length), "{head}");
    assert_eq!(body.as_bytes(), &image.manifest[..image.manifest.len() / 2]);
    let error = get(&registry.host(), PATH, None).expect_err("too short");
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset));
}

#[test]
fn a_truncated_body_looks_whole() {
    let (registry, image) = registry();
    registry.fault(Fault::new(FaultAction::Truncate).path("/manifests/"));
    let response = get(&registry.host(), PATH, None).expect("an answer");
    assert_eq!(response.status, 200);
    assert_eq!(response.body, &image.manifest[..image.manifest.len() / 2]);
    let length = response.body.len().to_string();
    assert_eq!(response.header("content-length"), Some(&*length));
    assert_eq!(response.header("docker-content-digest"), Some(&*image.manifest_digest));
}

#[test]
fn a_replaced_body_keeps_its_headers() {
    let (registry, image) = registry();
    registry.fault(Fault::new(FaultAction::Replace(b"{}".to_vec())));
    let response = get(&registry.host(), PATH, None).expect("an answer");
    assert_eq!(response.status, 200);
    assert_eq!(response.body, b"{}");
    assert_eq!(response.header("content-type"), Some(MANIFEST));
    assert_eq!(response.header("docker-content-digest"), Some(&*image.manifest_digest));
}

#[test]
fn a_hanging_request_ends_with_its_client() {
    let (registry, _) = registry();
    registry.fault(Fault::new(FaultAction::Hang).times(1));
    let (received, error) = raw(&registry.host(), Duration::from_millis(200));
    assert!(received.is_empty());
    assert!(matches!(error, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut)));
    let response = get(&registry.host(), PATH, None).expect("an answer");
    assert_eq!(response.status, 200);
    let deadline = Instant::now() + Duration::from_secs(5);
    while registry.log()[0].ended.is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let hung = &registry.log()[0];
    assert_eq!(hung.status, None);
    assert!(hung.ended.is_some(), "the client is gone");
}

#[test]
fn a_reset_is_a_reset() {
    let (registry, _) = registry();
    registry.fault(Fault::new(FaultAction::Reset).times(1));
    let (received, error) = raw(&registry.host(), Duration::from_secs(5));
    assert!(received.is_empty());
    assert_eq!(error, Some(ErrorKind::ConnectionReset));
    assert_eq!(registry.log()[0].status, None);
    let response = get(&registry.host(), PATH, None).expect("an answer");
    assert_eq!(response.status, 200);
}

#[test]
fn a_delay_only_delays() {
    let (registry, image) = registry();
    let delay = Duration::from_millis(150);
    registry.fault(Fault::new(FaultAction::Delay(delay)));
    let start = Instant::now();
    let response = get(&registry.host(), PATH, None).expect("an answer");
    assert!(start.elapsed() >= delay);
    assert_eq!(response.body, image.manifest);
}

#[test]
fn a_write_can_succeed_and_look_failed() {
    let (registry, image) = registry();
    let host = registry.host();
    registry.fault(Fault::new(FaultAction::AfterWriteStatus(Answer::status(500))).method("PUT").times(1));
    let status = put_manifest(&host, "app", "v2", MANIFEST, &image.manifest);
    assert_eq!(status.expect("an answer"), 500);
    let response = get(&host, "/v2/app/manifests/v2", None).expect("an answer");
    assert_eq!(response.body, image.manifest);
}

#[test]
fn a_page_of_html_says_all_is_well() {
    let (registry, _) = registry();
    registry.fault(Fault::new(FaultAction::Html));
    let response = get(&registry.host(), PATH, None).expect("an answer");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(response.body.starts_with(b"<!DOCTYPE html>"));
}
