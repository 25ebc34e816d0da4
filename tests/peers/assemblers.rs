//! The index of `assemble` beside those of other clients, and what these make of ours.

use std::path::Path;

use libtest_mimic::Trial;
use quorate_bed::image;
use serde_json::Value;

use crate::clients::{ASSEMBLERS, Client, Place};
use crate::peers::{Peer, Peers};
use crate::project::{ARCHITECTURES, Build, Project, REPOSITORY, succeed};
use crate::registries::{Access, Registry};

/// Starts a registry.
pub(crate) type Start = fn(&Path) -> Registry;

/// A registry of the distribution project that anyone may write to.
pub(crate) const OPEN: Start = |program| Registry::distribution(program, &Access::Open);

pub(crate) const REGISTRIES: [(Peer, Start); 2] =
    [(Peer::DockerRegistry, OPEN), (Peer::Olareg, Registry::olareg)];

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (registry, start) in REGISTRIES {
        for client in ASSEMBLERS {
            let name = format!("index_equals_that_of::{}_on_{}", client.name(), registry.name());
            trials.push(peers.trial(&name, [registry, client], move |[registry, program]| {
                same_index(&start(registry), client, program);
            }));
        }
        for client in [Peer::Crane, Peer::Regctl, Peer::Oras, Peer::Buildx, Peer::Skopeo] {
            let name = format!("index_is_read_by::{}_on_{}", client.name(), registry.name());
            trials.push(peers.trial(&name, [registry, client], move |[registry, program]| {
                index_is_read(&start(registry), client, program);
            }));
        }
        for client in [Peer::Regctl, Peer::Oras] {
            let name = format!("bundles_are_found_by::{}_on_{}", client.name(), registry.name());
            trials.push(peers.trial(&name, [registry, client], move |[registry, program]| {
                bundles_are_found(&start(registry), client, program);
            }));
        }
    }
    trials
}

/// Pushes the image of each architecture under the candidate's name and the architecture.
pub(crate) fn pushed(project: &Project, registry: &Registry) -> Vec<Build> {
    let push = |(architecture, _): (&str, &str)| {
        let build = Build::new(&project.path(""), architecture, "hello");
        let tag = format!("{}-{architecture}", tag(&project.candidate()));
        let authorization = registry.authorization();
        build.image.push_as(authorization.as_deref(), registry.host(), REPOSITORY, &tag).unwrap();
        build
    };
    ARCHITECTURES.map(push).into()
}

fn tag(reference: &str) -> &str {
    reference.rsplit_once(':').unwrap().1
}

/// Assembles those images.
pub(crate) fn assemble(project: &Project, target: &str) -> Value {
    let sources = ARCHITECTURES.map(|(architecture, _)| format!("{}-{architecture}", project.candidate()));
    project.json(0, &["assemble", target, &sources[0], &sources[1]])
}

/// What an index says of each child: its digest, size, media type and platform.
fn children(index: &[u8]) -> Vec<[Value; 4]> {
    let index: Value = serde_json::from_slice(index).unwrap();
    let children = index["manifests"].as_array().unwrap_or_else(|| panic!("{index:#}")).iter();
    children.map(|child| ["digest", "size", "mediaType", "platform"].map(|key| child[key].clone())).collect()
}

/// A client makes of the same images an index of the same children and platforms.
fn same_index(registry: &Registry, client: Peer, program: &Path) {
    let project = Project::at(registry);
    pushed(&project, registry);
    let client = Client::new(client, program, &project.path(""));
    let theirs = project.candidate();
    let sources = ARCHITECTURES
        .map(|(architecture, _)| (format!("linux/{architecture}"), format!("{theirs}-{architecture}")));
    let sources: Vec<_> = sources.iter().map(|(platform, source)| (&**platform, &**source)).collect();
    for mut command in client.assemble(&theirs, &sources) {
        succeed(&mut command);
    }
    let ours = format!("{}:ours", project.image());
    assemble(&project, &ours);
    let [theirs, ours] = [theirs, ours].map(|reference| {
        let answer = quorate_bed::client::manifest(registry.host(), REPOSITORY, tag(&reference)).unwrap();
        assert_eq!(answer.status, 200, "{reference}");
        answer.body
    });
    assert_eq!(children(&ours).len(), ARCHITECTURES.len());
    assert_eq!(children(&ours), children(&theirs));
}

/// A client prints our index byte for byte, by tag and by digest.
fn index_is_read(registry: &Registry, client: Peer, program: &Path) {
    let project = Project::at(registry);
    pushed(&project, registry);
    let candidate = project.candidate();
    let assembled = assemble(&project, &candidate);
    let digest = assembled["image"]["digest"].as_str().unwrap();
    let client = Client::new(client, program, &project.path(""));
    for reference in [candidate, format!("{}@{digest}", project.image())] {
        let read = succeed(&mut client.read(Place::Registry(&reference)).unwrap());
        assert_eq!(image::digest(read.trim_ascii_end()), digest, "{}", String::from_utf8_lossy(&read));
    }
}

/// A client finds the bundles of two builders, and nothing on the image that nobody attested.
fn bundles_are_found(registry: &Registry, client: Peer, program: &Path) {
    let project = Project::at(registry);
    let builds = pushed(&project, registry);
    let candidate = project.candidate();
    assemble(&project, &candidate);
    let (_, system) = ARCHITECTURES[0];
    let client = Client::new(client, program, &project.path(""));
    let found = |build: &Build| {
        let subject = format!("{}@{}", project.image(), build.image.manifest_digest);
        let printed = succeed(&mut client.discover(&subject).unwrap());
        let listed: Value = serde_json::from_slice(&printed).unwrap();
        // oras and regctl each have their own name for the list.
        let listed = [&listed["referrers"], &listed["descriptors"]].into_iter().find_map(Value::as_array);
        let listed = listed.map(Vec::as_slice).unwrap_or_default().iter();
        let mut digests: Vec<_> = listed.map(|entry| entry["digest"].clone()).collect();
        digests.sort_by_key(Value::to_string);
        digests
    };
    let mut attached = Vec::new();
    for builder in ["github", "garnix"] {
        let report = project.attest(0, &candidate, builder, system, &builds[0], &[]);
        attached.push(report["attached"]["manifest"].clone());
    }
    attached.sort_by_key(Value::to_string);
    assert_eq!(found(&builds[0]), attached);
    assert_eq!(found(&builds[1]), Vec::<Value>::new());
}
