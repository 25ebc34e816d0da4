//! Sixteen builders attest one image at the same moment, on any registry without the referrers
//! API.

use std::collections::BTreeMap;

use futures_util::future::{join_all, try_join_all};
use quorate::edge::registry::{Options, Place, Registry};
use quorate::oci::{Descriptor, Repository, Slot, media_type};
use quorate_bed::image::Image;

const TYPE: &str = "https://quorate.dev/predicates/build/v1";

/// Each with its own connections, as sixteen jobs would; then one reader. How many of the sixteen
/// bundles it found, and how many builders were told that other tools may not find theirs.
pub async fn sixteen_at_once(host: &str, name: &str) -> (usize, usize) {
    rustls::crypto::ring::default_provider().install_default().ok();
    let image = Image::build("linux", "amd64", None, &[("app", name.as_bytes(), 0o755)]);
    let pushed = image.clone();
    let (at, path) = (host.to_owned(), name.to_owned());
    tokio::task::spawn_blocking(move || pushed.push_as(None, &at, &path, "v1")).await.unwrap().unwrap();
    let subject = Descriptor::of(media_type::MANIFEST, &image.manifest);
    let repository: Repository = format!("{host}/{name}").parse().unwrap();
    let slots: Vec<Slot> = (0..16).map(|n| format!("b{n:02}").parse().unwrap()).collect();
    let attached = try_join_all(slots.iter().map(async |slot| {
        let registry = Registry::new(Options::default())?;
        let bundle = format!(r#"{{"bundle":"{slot}"}}"#).into_bytes();
        let kind = ("dev.sigstore.bundle.predicateType".to_owned(), TYPE.to_owned());
        registry.attach(false, &repository, &subject, slot, &bundle, BTreeMap::from([kind])).await
    }));
    let attached = attached.await.unwrap();
    assert!(attached.iter().all(|one| matches!(one.place, Place::Tag(_))), "there is no referrers API");
    let reader = Registry::new(Options::default()).unwrap();
    let found = reader.collect(&repository, subject.digest, &slots, &[TYPE]).await.unwrap();
    assert!(found.skipped.is_empty(), "{:?}", found.skipped);
    (found.bundles.len(), attached.iter().filter(|one| !one.notes.is_empty()).count())
}

/// The same this many times, each in a repository of its own: sixteen of sixteen, every time.
pub async fn nothing_is_lost(host: &str, runs: usize) {
    // Few at a time, so that it is the sixteen that meet, and not the runs that wait.
    for few in (0..runs).collect::<Vec<_>>().chunks(4) {
        let found = join_all(few.iter().map(async |run| {
            let name = format!("acme/run-{run}");
            sixteen_at_once(host, &name).await.0
        }));
        assert_eq!(found.await, vec![16; few.len()], "runs {few:?}");
    }
}
