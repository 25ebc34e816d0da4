//! The way to a registry: TLS and whom it trusts, HTTP/2, proxies, plain http.
//!
//! What is not on this machine is asked for over TLS, so a proxy stands for the internet here: it
//! leads every name to the registry of the test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use quorate_bed::image::Image;
use quorate_bed::{Answer, Auth, Fault, FaultAction, Registry, RegistryOptions};
use shop::{AMD64, COMMIT, NAR_HASH, Run, Shop};

/// A proxy, and the first line of each connection to it.
struct Proxy {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// `CONNECT` leads to `tunnel`, whatever it names, and everything else to `plain`.
    fn start(tunnel: SocketAddr, plain: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let lines = asked.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let lines = lines.clone();
                thread::spawn(move || lead(client.unwrap(), tunnel, plain, &lines));
            }
        });
        Self { url, asked }
    }

    /// What was asked of it since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn lead(mut client: TcpStream, tunnel: SocketAddr, plain: SocketAddr, lines: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let connect = line.starts_with("CONNECT ");
    lines.lock().unwrap().push(line);
    let mut server = TcpStream::connect(if connect { tunnel } else { plain }).unwrap();
    if connect {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    } else {
        server.write_all(&head).unwrap();
    }
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        std::io::copy(&mut from_client, &mut to_server).ok();
        to_server.shutdown(Shutdown::Write).ok();
    });
    std::io::copy(&mut server, &mut client).ok();
    client.shutdown(Shutdown::Write).ok();
}

fn shop() -> Shop {
    let shop = Shop::open();
    for architecture in ["amd64", "arm64"] {
        shop.push(architecture, architecture, "hello");
    }
    shop.bed.registry.clear_log();
    shop
}

fn plain(shop: &Shop) -> SocketAddr {
    shop.host().parse().unwrap()
}

/// Reads both images of `host`.
fn read(shop: &Shop, host: &str, more: &[&str], environment: &[(&str, &str)]) -> Run {
    let [target, amd64, arm64] = ["all", "amd64", "arm64"].map(|tag| format!("{host}/acme/app:{tag}"));
    run(shop, &[&["assemble", "--dry-run", &target, &amd64, &arm64], more].concat(), environment)
}

/// Runs it with `environment` in the place of every proxy and TLS root that the environment of the
/// test names.
fn run(shop: &Shop, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut command = shop.command(arguments);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    let output = command.envs(environment.iter().copied()).stdin(Stdio::null()).output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn one_http2_connection_serves_a_run() {
    let shop = shop();
    let (tls, ca) = shop.bed.registry.listen_tls("registry.example", true);
    shop.write("ca.pem", ca);
    let proxy = Proxy::start(tls, plain(&shop));
    let environment = [("HTTPS_PROXY", proxy.url.as_str())];
    read(&shop, "registry.example", &["--ca-file", "ca.pem"], &environment).exits(0);
    assert_eq!(proxy.asked(), ["CONNECT registry.example:443 HTTP/1.1"]);
    // Two manifests and their configurations.
    let log = shop.bed.registry.log();
    assert_eq!(log.len(), 4);
    assert!(log.iter().all(|r| r.http2));
}

#[test]
fn what_is_sent_while_it_is_read_ends_over_http2_as_well() {
    let (shop, other) = (Shop::open(), Registry::start(RegistryOptions::default()));
    let image = Image::build("linux", "amd64", None, &[("message", b"hello", 0o644)]);
    image.push(&other.host(), "builds/app", "git-1-amd64").unwrap();
    let (tls, ca) = shop.bed.registry.listen_tls("registry.example", true);
    shop.write("ca.pem", ca);
    let proxy = Proxy::start(tls, plain(&shop));
    let source = format!("{}/builds/app:git-1-amd64", other.host());
    let options = ["--platforms", "linux/amd64", "--ca-file", "ca.pem", "--timeout", "30"];
    let arguments = [&["assemble", "registry.example/acme/app:git-1", &source], &options[..]].concat();
    run(&shop, &arguments, &[("HTTPS_PROXY", &proxy.url)]).exits(0);
    // A layer and a configuration, each read and sent once.
    let sent = shop.bed.registry.log();
    let sent: Vec<_> = sent.iter().filter(|r| r.method == "PUT" && r.path.contains("/blobs/")).collect();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|r| r.http2));
    assert_eq!(other.log().iter().filter(|r| r.path.ends_with(&image.layer_digest)).count(), 1);
}

#[test]
fn a_token_is_asked_for_on_the_same_connection() {
    let auth = Auth::Bearer {
        user: "ci".to_owned(),
        password: "secret".to_owned(),
        lifetime: Duration::from_secs(300),
        anonymous_pull: false,
    };
    let shop = Shop::new(RegistryOptions { auth, ..RegistryOptions::default() });
    for architecture in ["amd64", "arm64"] {
        shop.push(architecture, architecture, "hello");
    }
    let (tls, ca) = shop.bed.registry.listen_tls("registry.example", true);
    shop.write("ca.pem", ca);
    let proxy = Proxy::start(tls, plain(&shop));
    let environment = [("HTTPS_PROXY", proxy.url.as_str())];
    shop.bed.registry.clear_log();
    let run = read(&shop, "registry.example", &["--ca-file", "ca.pem"], &environment);
    run.exits(3).says("registry-denied");
    assert!(shop.bed.registry.writes().is_empty());
    // "ci:secret" in base64.
    shop.write("config.json", r#"{"auths":{"registry.example":{"auth":"Y2k6c2VjcmV0"}}}"#);
    proxy.asked();
    shop.bed.registry.clear_log();
    read(&shop, "registry.example", &["--ca-file", "ca.pem"], &environment).exits(0);
    assert_eq!(proxy.asked(), ["CONNECT registry.example:443 HTTP/1.1"]);
    // The challenge, the token, two manifests and their configurations.
    let log = shop.bed.registry.log();
    assert_eq!(log.len(), 6);
    assert!(log.iter().all(|r| r.http2));
    assert_eq!(log.iter().filter(|r| r.path == "/token").count(), 1);
}

#[test]
fn a_registry_without_http2_is_as_good() {
    let shop = shop();
    let (tls, ca) = shop.bed.registry.listen_tls("registry.example", false);
    shop.write("ca.pem", ca);
    let proxy = Proxy::start(tls, plain(&shop));
    let environment = [("HTTPS_PROXY", proxy.url.as_str())];
    read(&shop, "registry.example", &["--ca-file", "ca.pem"], &environment).exits(0);
    assert!(proxy.asked().iter().all(|line| line.starts_with("CONNECT registry.example:443 ")));
    let log = shop.bed.registry.log();
    assert_eq!(log.len(), 4);
    assert!(log.iter().all(|r| !r.http2));
}

#[test]
fn only_certificates_that_are_trusted_are_taken() {
    let shop = shop();
    let (tls, ca) = shop.bed.registry.listen_tls("registry.example", true);
    let (_, other) = shop.bed.registry.listen_tls("registry.example", true);
    shop.write("ca.pem", ca);
    shop.write("other.pem", other);
    shop.write("none.pem", "nothing\n");
    let proxy = Proxy::start(tls, plain(&shop));
    let absolute = |name: &str| shop.path(name).display().to_string();
    let (ca, other) = (absolute("ca.pem"), absolute("other.pem"));
    // Host, option, SSL_CERT_FILE, and the reason, if it is to fail.
    for (host, option, variable, expected) in [
        ("registry.example", Some("ca.pem"), None, None),
        ("registry.example", None, Some(&ca), None),
        ("registry.example", Some("ca.pem"), Some(&other), None),
        ("registry.example", None, None, Some("registry-unreachable")),
        ("registry.example", None, Some(&other), Some("registry-unreachable")),
        ("registry.example", Some("other.pem"), None, Some("registry-unreachable")),
        ("another.example", Some("ca.pem"), None, Some("registry-unreachable")),
        ("registry.example", Some("none.pem"), None, Some("registry-setup")),
        ("registry.example", Some("absent.pem"), None, Some("registry-setup")),
        ("registry.example", None, Some(&absolute("absent.pem")), Some("registry-setup")),
    ] {
        shop.bed.registry.clear_log();
        let more: Vec<&str> = option.map_or(vec![], |file| vec!["--ca-file", file]);
        let mut environment = vec![("HTTPS_PROXY", proxy.url.as_str())];
        environment.extend(variable.map(|file| ("SSL_CERT_FILE", file.as_str())));
        let run = read(&shop, host, &more, &environment);
        match expected {
            None => assert_eq!(run.code, 0, "{host} {option:?} {variable:?}: {}", run.stderr),
            Some(reason) => {
                assert!(run.stderr.contains(reason), "{host} {option:?} {variable:?}: {}", run.stderr);
                // Where the name is another, no authority mends it.
                let hint = if host == "another.example" { "check the name" } else { "--ca-file" };
                assert!(run.stderr.contains(hint), "{host} {option:?} {variable:?}: {}", run.stderr);
                run.exits(3);
                assert!(shop.bed.registry.log().is_empty(), "nothing was said to a stranger");
            }
        }
    }
}

#[test]
fn a_log_with_a_certificate_that_is_not_trusted_is_told_from_one_that_is_down() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let (tls, ca) = shop.bed.registry.listen_tls("rekor.example", true);
    shop.write("ca.pem", ca);
    let proxy = Proxy::start(tls, plain(&shop));
    let attest = |more: &[&str]| {
        let config = release.images[0].config_digest.as_str();
        let built = ["--system", AMD64.1, "--config-digest", config, "--nar-hash", NAR_HASH];
        let of = ["--builder", "github", "--key", "github.key", "--commit", COMMIT, "--sequence", "1"];
        let arguments = [&["attest", &release.reference], &built[..], &of[..], more].concat();
        run(&shop, &arguments, &[("HTTPS_PROXY", &proxy.url)])
    };
    let there = ["--rekor-url", "https://rekor.example"];
    attest(&there).exits(3).says("(service-unreachable)").says("--ca-file");
    // Trusted, it is no log.
    let answered = attest(&[&there[..], &["--ca-file", "ca.pem"]].concat()).exits(3).says("(service-");
    assert!(!answered.stderr.contains("--ca-file"), "{}", answered.stderr);
    let down = attest(&["--rekor-url", "http://127.0.0.1:1"]).exits(3).says("(service-unreachable)");
    assert!(!down.stderr.contains("--ca-file"), "{}", down.stderr);
    attest(&[]).exits(0);
}

#[test]
fn plain_http_is_for_hosts_that_are_named() {
    let shop = shop();
    let proxy = Proxy::start(plain(&shop), plain(&shop));
    let environment = [("HTTP_PROXY", proxy.url.as_str()), ("HTTPS_PROXY", &proxy.url)];
    let host = "plain.example:5000";
    let refused = read(&shop, host, &[], &environment).exits(3).says("registry-unreachable");
    assert!(refused.stderr.contains("--plain-http plain.example:5000"), "{}", refused.stderr);
    assert!(proxy.asked().iter().all(|line| line.starts_with("CONNECT plain.example:5000 ")));
    assert!(shop.bed.registry.log().iter().all(|r| !r.path.starts_with("/v2/")));
    for other in ["plain.example", "example:5000"] {
        read(&shop, host, &["--plain-http", other], &environment).exits(3).says("registry-unreachable");
    }
    proxy.asked();
    read(&shop, host, &["--plain-http", host], &environment).exits(0);
    let asked = proxy.asked();
    assert!(asked.iter().all(|line| line.starts_with("GET http://plain.example:5000/v2/")), "{asked:?}");
}

#[test]
fn this_machine_is_never_asked_through_a_proxy() {
    let shop = shop();
    let proxy = Proxy::start(plain(&shop), plain(&shop));
    let everywhere =
        ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"].map(|name| (name, proxy.url.as_str()));
    let port = plain(&shop).port();
    for host in [shop.host(), format!("localhost:{port}")] {
        read(&shop, &host, &[], &everywhere).exits(0);
    }
    assert!(proxy.asked().is_empty());
    read(&shop, "plain.example", &["--plain-http", "plain.example"], &everywhere).exits(0);
    assert!(!proxy.asked().is_empty(), "others are");
}

/// What Go's `net/http`, in which most registries are written, says to plain http at a TLS port.
const WANTS_TLS: &str = "Client sent an HTTP request to an HTTPS server.\n";

#[test]
fn this_machine_is_asked_over_tls_where_that_is_wished() {
    let shop = shop();
    let (tls, ca) = shop.bed.registry.listen_tls("localhost", true);
    shop.write("ca.pem", ca);
    let host = format!("localhost:{}", tls.port());
    let wished = ["--ca-file", "ca.pem", "--tls", &host];
    read(&shop, &host, &wished, &[]).exits(0);
    // Through no proxy, and before `--plain-http`.
    let proxy = Proxy::start(tls, tls);
    read(&shop, &host, &wished, &[("HTTPS_PROXY", &proxy.url), ("QUORATE_PLAIN_HTTP", &host)]).exits(0);
    assert!(proxy.asked().is_empty());
    assert!(shop.bed.registry.log().iter().all(|r| r.http2));
    shop.bed.registry.clear_log();
    for more in [&wished[2..], &["--ca-file", "ca.pem", "--tls", "localhost"], &wished[..2]] {
        read(&shop, &host, more, &[]).exits(3).says("registry-unreachable");
    }
    assert!(shop.bed.registry.log().is_empty(), "no request came through");
}

#[test]
fn a_server_that_wants_tls_is_known_by_what_it_says() {
    let shop = shop();
    let answer = Answer::status(400).body("text/plain; charset=utf-8", WANTS_TLS);
    shop.bed.registry.fault(Fault::new(FaultAction::Status(answer)));
    let host = shop.host();
    let run = read(&shop, &host, &[], &[]).exits(3).says("registry-refused");
    assert!(run.stderr.contains(&format!("hint: the server wants TLS: --tls {host}")), "{}", run.stderr);
    shop.bed.registry.clear_faults();
    let run = read(&shop, &host, &["--tls", &host], &[]).exits(3).says("registry-unreachable");
    assert!(run.stderr.contains(&format!("leave out --tls {host}")), "{}", run.stderr);
    read(&shop, &host, &[], &[]).exits(0);
}
