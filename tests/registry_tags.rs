//! Naming, listing and removing: what may be done to tags, and blobs that come from next door.

#![allow(clippy::unwrap_used, clippy::panic)]

mod plane;

use std::time::Duration;

use quorate::edge::registry::{Error, Untagged};
use quorate::edge::tags::{CandidateTag, remove_candidate, write_candidates};
use quorate::oci::{Digest, ImageIndex, Repository, Tag, media_type};
use quorate_bed::{Answer, Fault, FaultAction, Registry as Bed, RegistryOptions, client};

use plane::*;

fn bed_with(change: impl FnOnce(&mut RegistryOptions)) -> Bed {
    let mut options = RegistryOptions::default();
    change(&mut options);
    Bed::start(options)
}

fn candidate(name: &str) -> CandidateTag {
    CandidateTag::new(name.parse().unwrap(), None).unwrap()
}

/// An index that a registry takes without anything else.
fn index() -> ImageIndex {
    let text = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::INDEX);
    ImageIndex::parse(text.into_bytes()).unwrap()
}

/// The digest that a tag names, asked behind the plane's back.
fn named(bed: &Bed, tag: &str) -> Option<String> {
    let answer = client::manifest(&bed.host(), "acme/app", tag).unwrap();
    (answer.status == 200).then(|| Digest::of(&answer.body).to_string())
}

fn writes(bed: &Bed) -> Vec<String> {
    let shown = |r: &quorate_bed::Request| match &r.query {
        Some(query) => format!("{} {}?{query}", r.method, r.path),
        None => format!("{} {}", r.method, r.path),
    };
    bed.writes().iter().map(shown).collect()
}

/// Writes all tags; the first failure.
async fn write(bed: &Bed, tags: &[CandidateTag], index: &ImageIndex) -> Result<(), quorate::error::Error> {
    let written =
        write_candidates(&anonymous(), &repository(bed), tags, media_type::INDEX, index.bytes()).await;
    assert_eq!(written.len(), tags.len());
    written.into_iter().collect()
}

// ---- several tags at once

#[tokio::test]
async fn several_tags_are_one_request_where_the_registry_can() {
    let bed = bed_with(|options| options.tag_parameters = true);
    let (index, names) = (index(), ["one", "two", "three"]);
    let tags = names.map(candidate);
    write(&bed, &tags, &index).await.unwrap();
    let digest = index.digest();
    let put = format!("PUT /v2/acme/app/manifests/{digest}?tag=one&tag=two&tag=three");
    assert_eq!(writes(&bed), [put]);
    for name in names {
        assert_eq!(named(&bed, name), Some(digest.to_string()), "{name}");
    }
}

#[tokio::test]
async fn a_tag_that_was_not_confirmed_is_written_by_itself() {
    let index = index();
    let digest = index.digest();
    let with_header = |value: &str| Answer::status(201).header("OCI-Tag", value);
    // What the registry answers to the push of both, and which of the two is left to do.
    for (answer, left) in [
        (Answer::status(201), vec!["one", "two"]),
        (with_header("one"), vec!["two"]),
        (with_header("one, two"), vec![]),
        (with_header("two").header("OCI-Tag", "one"), vec![]),
        (with_header("three"), vec!["one", "two"]),
        (with_header("../x"), vec!["one", "two"]),
        (Answer::status(400), vec!["one", "two"]),
        (Answer::status(414), vec!["one", "two"]),
        (Answer::status(500), vec!["one", "two"]),
    ] {
        let bed = open(true);
        bed.fault(Fault::new(FaultAction::Status(answer.clone())).path("?tag="));
        let tags = ["one", "two"].map(candidate);
        write(&bed, &tags, &index).await.unwrap();
        let mut alone: Vec<_> = writes(&bed).into_iter().filter(|w| !w.contains('?')).collect();
        alone.sort();
        let expected: Vec<_> = left.iter().map(|t| format!("PUT /v2/acme/app/manifests/{t}")).collect();
        assert_eq!(alone, expected, "{answer:?}");
        for tag in left {
            assert_eq!(named(&bed, tag), Some(digest.to_string()));
        }
    }
}

#[tokio::test]
async fn one_tag_is_written_as_ever_and_a_denial_is_one() {
    let bed = bed_with(|options| options.tag_parameters = true);
    write(&bed, &[candidate("one")], &index()).await.unwrap();
    assert_eq!(writes(&bed), ["PUT /v2/acme/app/manifests/one"]);
    bed.fault(Fault::new(say(403)).method("PUT"));
    let tags = ["two", "three"].map(candidate);
    let error = write(&bed, &tags, &index()).await.unwrap_err();
    assert!(error.to_string().contains("registry-denied"), "{error}");
    assert_eq!((named(&bed, "two"), named(&bed, "three")), (None, None));
}

#[test]
fn release_tags_are_no_candidates() {
    assert!(CandidateTag::new("latest".parse().unwrap(), None).is_err());
    assert!(CandidateTag::new("git-0123abc".parse().unwrap(), None).is_ok());
}

// ---- lists of tags

async fn listed(host: &str) -> Result<Option<Vec<String>>, Error> {
    let repository: Repository = format!("{host}/acme/app").parse().unwrap();
    let tags = anonymous().tags(&repository).await?;
    Ok(tags.map(|tags| tags.iter().map(Tag::to_string).collect()))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_of_tags_are_read() {
    let bed = open(true);
    assert!(listed(&bed.host()).await.unwrap().unwrap_or_default().is_empty());
    let names: Vec<String> = (0..1005).map(|n| format!("t{n:04}")).collect();
    let index = index();
    for name in &names {
        let status =
            client::put_manifest(&bed.host(), "acme/app", name, media_type::INDEX, index.bytes()).unwrap();
        assert_eq!(status, 201);
    }
    bed.clear_log();
    assert_eq!(listed(&bed.host()).await.unwrap().unwrap(), names);
    assert_eq!(bed.log().len(), 2);
    // A page that cannot be had is no end of the list, nor is it an absence.
    for (action, expected) in [
        (say(404), "registry-refused"),
        (say(500), "registry-server-error"),
        (say(401), "registry-denied"),
        (FaultAction::Html, "registry-malformed"),
        (FaultAction::Reset, "registry-unreachable"),
    ] {
        bed.fault(Fault::new(action).path("last="));
        assert_eq!(reason(listed(&bed.host()).await), expected);
        bed.clear_faults();
    }
    assert!(bed.writes().is_empty());
}

#[tokio::test]
async fn a_list_of_tags_is_a_list_of_tags() {
    let bed = open(true);
    let list = |text: &str| Answer::status(200).body("application/json", text);
    let next = |link: &str| list(r#"{"name":"acme/app","tags":["a"]}"#).header("Link", link);
    let path = "/v2/acme/app/tags/list";
    let stranger = open(true);
    let elsewhere = format!("<http://{}{path}?last=a>; rel=\"next\"", stranger.host());
    for (answer, expected) in [
        (list(r#"{"name":"acme/app","tags":["a","b"]}"#), Ok(Some(vec!["a", "b"]))),
        (list(r#"{"name":"acme/app","tags":null}"#), Ok(Some(vec![]))),
        (Answer::status(404), Ok(None)),
        (list(r#"{"tags":["a","a"]}"#), Err("registry-malformed")),
        (list(r#"{"tags":["../a"]}"#), Err("registry-malformed")),
        (list(r#"{"tags":"a"}"#), Err("registry-malformed")),
        (list("[]"), Err("registry-malformed")),
        (list(""), Err("registry-malformed")),
        (next("</v2/acme/app/tags/list?n=1000>; rel=next"), Err("registry-malformed")),
        (next("<?n=1&last=a>; rel=next"), Err("registry-malformed")),
        (next("</v2/acme/other/tags/list>; rel=next"), Err("registry-redirect")),
        (next(&elsewhere), Err("registry-redirect")),
        (Answer::status(302).header("Location", &elsewhere[1..30]), Err("registry-redirect")),
        (Answer::status(403), Err("registry-denied")),
        (Answer::status(418), Err("registry-refused")),
    ] {
        bed.fault(Fault::new(FaultAction::Status(answer.clone())));
        let found = listed(&bed.host()).await.map_err(|error| error.reason());
        let expected = expected.map(|tags| tags.map(|tags| tags.into_iter().map(str::to_owned).collect()));
        assert_eq!(found, expected, "{answer:?}");
        bed.clear_faults();
    }
    assert!(stranger.log().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_tags_end() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    // Each page new and pointing on: (tags on a page, pages asked for, reason).
    for (size, pages, expected) in [(1, 20, "registry-too-many"), (2_000, 6, "registry-too-many")] {
        let asked = std::sync::Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let (host, _) = raw(move |out| {
            let page = count.fetch_add(1, Ordering::Relaxed);
            let tags: Vec<_> = (0..size).map(|n| format!("\"t{page}-{n}\"")).collect();
            let body = format!(r#"{{"tags":[{}]}}"#, tags.join(","));
            write!(
                out,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n\
                 Link: <?last=t{page}>; rel=\"next\"\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        });
        assert_eq!(reason(listed(&host).await), expected);
        assert_eq!(asked.load(Ordering::Relaxed), pages);
    }
}

// ---- removing a tag

#[tokio::test]
async fn a_tag_goes_and_its_manifest_stays() {
    let bed = bed_with(|options| {
        options.tag_deletion = true;
        options.auth = bearer_auth(Duration::from_secs(300));
    });
    let subject = subject_in(&bed);
    let (registry, repository) = (known(&bed), repository(&bed));
    let tag = candidate("v1");
    let other = Digest::of(b"other");
    let found = remove_candidate(&registry, &repository, &tag, other).await.unwrap();
    assert_eq!(found, Untagged::Elsewhere(subject.digest));
    assert!(bed.writes().is_empty());
    let found = remove_candidate(&registry, &repository, &tag, subject.digest).await.unwrap();
    assert_eq!(found, Untagged::Done);
    // The manifest is there under its digest, too, before a name of it goes.
    let held = format!("PUT /v2/acme/app/manifests/{}", subject.digest);
    assert_eq!(writes(&bed), [&held, "DELETE /v2/acme/app/manifests/v1"]);
    assert_eq!(registry.manifest(&repository.at_tag("v1".parse().unwrap())).await.unwrap(), None);
    assert!(registry.manifest(&repository.at_digest(subject.digest)).await.unwrap().is_some());
    assert!(!registry.tags(&repository).await.unwrap().unwrap().contains(tag.tag()));
    // The token was asked for once, and covered the removal.
    assert_eq!(statuses(&bed, "GET", "/token"), [200]);
    bed.clear_log();
    let found = remove_candidate(&registry, &repository, &tag, subject.digest).await.unwrap();
    assert_eq!(found, Untagged::Absent);
    assert!(bed.writes().is_empty());
}

#[tokio::test]
async fn a_registry_that_cannot_remove_tags_says_so() {
    let bed = open(true);
    let subject = subject_in(&bed);
    let remove =
        async || remove_candidate(&anonymous(), &repository(&bed), &candidate("v1"), subject.digest).await;
    let Untagged::Cannot(reply) = remove().await.unwrap() else {
        panic!("the registry cannot");
    };
    assert_eq!(reply.status, 405);
    for (code, expected) in [
        (400, None),
        (404, None),
        (501, None),
        (403, Some("registry-denied")),
        (500, Some("registry-server-error")),
    ] {
        bed.clear_log();
        bed.fault(Fault::new(say(code)).method("DELETE"));
        match (remove().await, expected) {
            (Ok(Untagged::Cannot(reply)), None) => assert_eq!(reply.status, code),
            (Err(error), Some(reason)) => assert!(error.to_string().contains(reason), "{error}"),
            other => panic!("{code}: {other:?}"),
        }
        // Asked once, by the name of the tag, and never by digest.
        assert_eq!(writes(&bed)[1..], ["DELETE /v2/acme/app/manifests/v1"]);
        bed.clear_faults();
    }
    assert_eq!(named(&bed, "v1"), Some(subject.digest.to_string()));
}

#[tokio::test]
async fn what_a_removal_did_is_looked_at() {
    for (fault, says) in [
        // It says yes and does nothing; it takes the manifest along.
        (Fault::new(say(202)).method("DELETE"), "it still stands"),
        (Fault::new(say(404)).method("GET").path("/manifests/sha256:"), "removed the manifest with its tag"),
    ] {
        let bed = bed_with(|options| options.tag_deletion = true);
        let subject = subject_in(&bed);
        bed.fault(fault);
        let error = remove_candidate(&anonymous(), &repository(&bed), &candidate("v1"), subject.digest)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("registry-malformed"), "{error}");
        assert!(error.causes()[0].contains(says), "{:?}", error.causes());
    }
}

// ---- blobs from next door

#[tokio::test]
async fn a_blob_is_mounted_where_the_registry_can() {
    for mount in [true, false] {
        let bed = bed_with(|options| {
            options.mount = mount;
            options.auth = bearer_auth(Duration::from_secs(300));
        });
        let registry = known(&bed);
        let from: Repository = format!("{}/acme/base", bed.host()).parse().unwrap();
        let into = repository(&bed);
        let digest = registry.push_blob(&from, b"content".to_vec()).await.unwrap();
        bed.clear_log();
        assert_eq!(registry.mount_blob(&into, &from, digest).await.unwrap(), mount);
        // The push covers the first repository; the token for the mount covers both.
        assert_eq!(statuses(&bed, "GET", "/token"), [200]);
        let asked = format!("POST /v2/acme/app/blobs/uploads/?mount={digest}&from=acme/base");
        assert_eq!(*writes(&bed).last().unwrap(), asked);
        if mount {
            assert_eq!(registry.blob(&into, digest, Some(7), 7).await.unwrap().unwrap(), b"content");
        } else {
            assert_eq!(registry.push_blob(&into, b"content".to_vec()).await.unwrap(), digest);
        }
    }
}

#[tokio::test]
async fn whether_a_blob_was_mounted_is_known_or_not_known() {
    let bed = open(true);
    let digest = Digest::of(b"content");
    let lie = Answer::status(201).header("Docker-Content-Digest", &Digest::of(b"other").to_string());
    let other: Repository = "other.example/acme/base".parse().unwrap();
    let near: Repository = format!("{}/acme/base", bed.host()).parse().unwrap();
    for (answer, from, expected) in [
        (Answer::status(201), &near, Ok(true)),
        (Answer::status(202), &near, Ok(false)),
        (Answer::status(403), &near, Ok(false)),
        (Answer::status(405), &near, Ok(false)),
        (Answer::status(201), &other, Ok(false)),
        (lie, &near, Err("registry-digest-mismatch")),
        (Answer::status(500), &near, Err("registry-server-error")),
        (Answer::status(302).header("Location", "/"), &near, Err("registry-redirect")),
    ] {
        bed.clear_log();
        bed.fault(Fault::new(FaultAction::Status(answer.clone())));
        let found = anonymous().mount_blob(&repository(&bed), from, digest).await;
        assert_eq!(found.map_err(|error| error.reason()), expected, "{answer:?}");
        if from == &other {
            assert!(bed.log().is_empty(), "another host has nothing to mount from");
        }
        bed.clear_faults();
    }
}
