//! What the tests of the registry plane share: registries, runs against them, and evidence.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod at_once;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate::edge::registry::{Credentials, Error, Options, Place, Referrers, Registry, Secret, Source};
use quorate::oci::{Descriptor, Reference, Repository, Slot, media_type};
use quorate_bed::image::Image;
use quorate_bed::{Answer, Auth, FaultAction, Registry as Bed, RegistryOptions};

pub const TYPE: &str = "https://quorate.dev/predicates/build/v1";
pub const USER: &str = "builder";
pub const PASSWORD: &str = "correct-horse-battery";

pub fn options() -> Options {
    rustls::crypto::ring::default_provider().install_default().ok();
    Options {
        deadline: Duration::from_secs(20),
        request_timeout: Duration::from_secs(5),
        ..Options::default()
    }
}

/// A run without credentials.
pub fn anonymous() -> Registry {
    Registry::new(options()).unwrap()
}

/// A run with the credentials of `bed`.
pub fn known(bed: &Bed) -> Registry {
    Registry::new(Options {
        credentials: Credentials::none().with_source(Source::login(&bed.host(), USER, Secret::new(PASSWORD))),
        ..options()
    })
    .unwrap()
}

pub fn open(referrers: bool) -> Bed {
    Bed::start(RegistryOptions { referrers, ..RegistryOptions::default() })
}

pub fn bearer(lifetime: Duration, latency: Duration) -> Bed {
    Bed::start(RegistryOptions { latency, auth: bearer_auth(lifetime), ..RegistryOptions::default() })
}

pub fn bearer_auth(lifetime: Duration) -> Auth {
    Auth::Bearer { user: USER.to_owned(), password: PASSWORD.to_owned(), lifetime, anonymous_pull: false }
}

pub fn repository(bed: &Bed) -> Repository {
    format!("{}/acme/app", bed.host()).parse().unwrap()
}

/// An image in the registry, and its descriptor.
pub fn subject_in(bed: &Bed) -> Descriptor {
    let image = Image::build("linux", "amd64", None, &[("app", b"hello", 0o755)]);
    image.push_as(bed.authorization().as_deref(), &bed.host(), "acme/app", "v1").unwrap();
    bed.clear_log();
    Descriptor::of(media_type::MANIFEST, &image.manifest)
}

pub fn tag(bed: &Bed, tag: &str) -> Reference {
    repository(bed).at_tag(tag.parse().unwrap())
}

pub fn slot(name: &str) -> Slot {
    name.parse().unwrap()
}

pub fn bundle(name: &str) -> Vec<u8> {
    format!(r#"{{"bundle":"{name}"}}"#).into_bytes()
}

pub fn annotations(predicate_type: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("dev.sigstore.bundle.predicateType".to_owned(), predicate_type.to_owned())])
}

pub fn statuses(bed: &Bed, method: &str, part: &str) -> Vec<u16> {
    bed.log()
        .iter()
        .filter(|r| r.method == method && r.path.contains(part))
        .filter_map(|r| r.status)
        .collect()
}

pub fn reason<T: std::fmt::Debug>(result: Result<T, Error>) -> &'static str {
    result.unwrap_err().reason()
}

pub fn say(code: u16) -> FaultAction {
    FaultAction::Status(Answer::status(code))
}

/// Whether the registry has the referrers API.
pub async fn by_api(registry: &Registry, repository: &Repository, subject: &Descriptor) -> bool {
    matches!(registry.referrers(repository, subject.digest).await.unwrap(), Referrers::Listed(_))
}

pub async fn attach(registry: &Registry, bed: &Bed, subject: &Descriptor, name: &str) -> Place {
    let by_api = by_api(registry, &repository(bed), subject).await;
    let attached = registry
        .attach(by_api, &repository(bed), subject, &slot(name), &bundle(name), annotations(TYPE))
        .await
        .unwrap();
    attached.place
}

pub async fn collected(
    registry: &Registry,
    bed: &Bed,
    subject: &Descriptor,
    slots: &[&str],
) -> Result<Vec<String>, Error> {
    let slots: Vec<Slot> = slots.iter().map(|s| slot(s)).collect();
    let found = registry.collect(&repository(bed), subject.digest, &slots, &[TYPE]).await?;
    let mut names: Vec<String> = found
        .bundles
        .iter()
        .map(|b| {
            let value: serde_json::Value = serde_json::from_slice(b).unwrap();
            value["bundle"].as_str().unwrap().to_owned()
        })
        .chain(found.skipped.iter().map(|s| format!("!{}", s.reason)))
        .collect();
    names.sort();
    Ok(names)
}

/// A server that answers every connection with what `answer` writes, and counts what it wrote.
pub fn raw(
    answer: impl Fn(&mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
) -> (String, Arc<AtomicU64>) {
    raw_for(move |_, out| answer(out))
}

/// The same, told the path and query that were asked for.
pub fn raw_for(
    answer: impl Fn(&str, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
) -> (String, Arc<AtomicU64>) {
    struct Counted(std::net::TcpStream, Arc<AtomicU64>);
    impl Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let n = self.0.write(bytes)?;
            self.1.fetch_add(n as u64, Ordering::Relaxed);
            Ok(n)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let written = Arc::new(AtomicU64::new(0));
    let (count, answer) = (written.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (count, answer) = (count.clone(), answer.clone());
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head);
                let target = head.split(' ').nth(1).unwrap_or_default();
                answer(target, &mut Counted(stream, count)).ok();
            });
        }
    });
    (host, written)
}

pub fn at(host: &str) -> Reference {
    format!("{host}/acme/app:v1").parse().unwrap()
}
