//! Images that are elsewhere: layouts that other clients write and read, other registries, other
//! repositories of a registry.

use std::path::Path;

use libtest_mimic::Trial;
use quorate_bed::client;
use quorate_bed::image::{self, Image, minimal_elf};
use serde_json::Value;

use crate::assemblers::{REGISTRIES, Start, assemble, pushed};
use crate::clients::{COPIERS, Client, Place, Skopeo};
use crate::peers::{Peer, Peers};
use crate::project::{ARCHITECTURES, Build, Project, REPOSITORY, candidate_tag, layout, said, succeed};
use crate::registries::{Access, Registry};

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let mut trials = Vec::new();
    for peer in COPIERS {
        let needs = [Peer::DockerRegistry, peer];
        let name = format!("a_layout_is_a_source_as_written_by::{}", peer.name());
        trials.push(peers.trial(&name, needs, move |[registry, program]| {
            their_layout_is_a_source(registry, peer, program);
        }));
        let name = format!("our_layout_is_pushed_by::{}", peer.name());
        trials.push(peers.trial(&name, needs, move |[registry, program]| {
            our_layout_is_pushed(registry, peer, program);
        }));
    }
    for (from, start_from) in REGISTRIES {
        for (to, start_to) in REGISTRIES {
            let name = format!("a_release_comes_over_from::{}_to_{}", from.name(), to.name());
            trials.push(peers.trial(&name, [from, to], move |[from, to]| {
                comes_over(&start_from(from), &start_to(to));
            }));
        }
        let name = format!("blobs_are_mounted_between_repositories_of::{}", from.name());
        trials.push(peers.trial(&name, [from], move |[program]| mounted(program, start_from)));
    }
    let needs = [Peer::DockerRegistry, Peer::Skopeo];
    trials.push(peers.trial(
        "the_content_of_layers_compressed_by_skopeo_is_checked",
        needs,
        |[registry, skopeo]| content_is_checked(&Registry::distribution(registry, &Access::Open), skopeo),
    ));
    trials
}

/// A repository that no policy speaks of.
fn elsewhere(registry: &Registry) -> String {
    format!("{}/mirror/app", registry.host())
}

/// `assemble` of sources that the policy says nothing of; the digest of the index.
fn assemble_at(project: &Project, target: &str, source: &str) -> String {
    let mut command = project.command(&["assemble", target, source, "-o", "json"]);
    let report: Value = serde_json::from_slice(&succeed(command.env_remove("QUORATE_POLICY"))).unwrap();
    report["image"]["digest"].as_str().unwrap().to_owned()
}

/// A tag, its images and all of their blobs are in the repository `mirror/app`, to the byte.
fn complete(registry: &Registry, tag: &str, index: &[u8], builds: &[Build]) {
    let get = |path: &str| {
        let answer = client::get(registry.host(), &format!("/v2/mirror/app/{path}"), None).unwrap();
        assert_eq!(answer.status, 200, "{path}");
        answer.body
    };
    let read = |reference: &str| {
        let answer = client::manifest(registry.host(), "mirror/app", reference).unwrap();
        assert_eq!(answer.status, 200, "{reference}");
        answer.body
    };
    assert_eq!(read(tag), index);
    for Build { image, .. } in builds {
        assert_eq!(read(&image.manifest_digest), image.manifest);
        assert_eq!(get(&format!("blobs/{}", image.config_digest)), image.config);
        assert_eq!(get(&format!("blobs/{}", image.layer_digest)), image.layer);
    }
}

/// The candidate of a project, assembled: its digest and bytes.
fn candidate(project: &Project, registry: &Registry) -> (String, Vec<u8>) {
    let report = assemble(project, &project.candidate());
    let digest = report["image"]["digest"].as_str().unwrap().to_owned();
    let index = client::manifest(registry.host(), REPOSITORY, &digest).unwrap().body;
    assert_eq!(image::digest(&index), digest);
    (digest, index)
}

/// The image of each architecture under the candidate's name, its layers compressed: buildah
/// leaves no others as they are.
fn compressed(project: &Project, registry: &Registry) -> Vec<Build> {
    let mut builds = pushed(project, registry);
    for (Build { image, .. }, (architecture, _)) in builds.iter_mut().zip(ARCHITECTURES) {
        *image = image.gzip(6);
        image.push(registry.host(), REPOSITORY, &format!("{}-{architecture}", candidate_tag())).unwrap();
    }
    builds
}

/// What a client writes as a layout makes the index that it was made of, in another registry.
fn their_layout_is_a_source(registry: &Path, peer: Peer, program: &Path) {
    let [here, there] = [(); 2].map(|()| Registry::distribution(registry, &Access::Open));
    let project = Project::at(&here);
    let builds = compressed(&project, &here);
    let (digest, index) = candidate(&project, &here);
    let folder = project.path("theirs");
    let client = Client::new(peer, program, &project.path(""));
    for mut command in client.copy(Place::Registry(&project.candidate()), Place::Layout(&folder)) {
        succeed(&mut command);
    }
    let layout = format!("oci:{}", folder.display());
    // oras lists the images of the index beside it, crane gives no name, buildah makes another index.
    let sources = [
        ("only", layout.clone(), peer != Peer::Oras),
        ("named", format!("{layout}:app"), peer != Peer::Crane),
        ("digest", format!("{layout}@{digest}"), peer != Peer::Buildah),
    ];
    for (tag, source, _) in sources.into_iter().filter(|(.., there)| *there) {
        let target = format!("{}:{tag}", elsewhere(&there));
        assert_eq!(assemble_at(&project, &target, &source), digest, "{source}");
        complete(&there, tag, &index, &builds);
    }
}

/// A client reads the layout that we write, and pushes what is in it.
fn our_layout_is_pushed(registry: &Path, peer: Peer, program: &Path) {
    let [here, there] = [(); 2].map(|()| Registry::distribution(registry, &Access::Open));
    let project = Project::at(&here);
    let builds = compressed(&project, &here);
    let (digest, index) = candidate(&project, &here);
    let folder = project.path("ours");
    let ours = format!("oci:{}:app", folder.display());
    assert_eq!(assemble_at(&project, &ours, &project.candidate()), digest);
    let client = Client::new(peer, program, &project.path(""));
    if let Some(mut command) = client.read(Place::Layout(&folder)) {
        let read = succeed(&mut command);
        assert_eq!(image::digest(read.trim_ascii_end()), digest, "{}", String::from_utf8_lossy(&read));
    }
    let target = format!("{}:pushed", elsewhere(&there));
    for mut command in client.copy(Place::Layout(&folder), Place::Registry(&target)) {
        succeed(&mut command);
    }
    if peer == Peer::Buildah {
        // Of the same images, with bytes of its own.
        let digest = assemble_at(&project, &format!("{}:ours", elsewhere(&there)), &target);
        assert_eq!(digest, image::digest(&index));
        complete(&there, "ours", &index, &builds);
    } else {
        complete(&there, "pushed", &index, &builds);
    }
}

/// From one registry to another, the images of a release make the same index.
fn comes_over(from: &Registry, to: &Registry) {
    let project = Project::at(from);
    let builds = pushed(&project, from);
    let (digest, index) = candidate(&project, from);
    let target = format!("{}:c", elsewhere(to));
    for source in [project.candidate(), format!("{}@{digest}", project.image())] {
        assert_eq!(assemble_at(&project, &target, &source), digest);
        complete(to, "c", &index, &builds);
    }
}

/// The registry gives one repository the blobs of another; none of them passes through here.
fn mounted(program: &Path, start: Start) {
    let registry = start(program);
    let project = Project::at(&registry);
    let builds = pushed(&project, &registry);
    let (digest, index) = candidate(&project, &registry);
    let target = format!("{}:c", elsewhere(&registry));
    let mut command = project.command(&["--verbose", "assemble", &target, &project.candidate()]);
    let output = command.env_remove("QUORATE_POLICY").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let said = said(&output);
    assert!(said.contains(&digest), "{said}");
    complete(&registry, "c", &index, &builds);
    let lines = |all: &[&str]| said.lines().filter(|line| all.iter().all(|part| line.contains(part))).count();
    // Each image has a configuration and a layer. 201: it is there; 202 would ask for its bytes.
    assert_eq!(lines(&["method=POST", "/v2/mirror/app/blobs/uploads/", "status=201"]), 4, "{said}");
    assert_eq!(lines(&["method=POST"]), 4, "{said}");
    assert_eq!(lines(&["method=PUT", "/blobs/"]), 0, "{said}");
    for Build { image, .. } in &builds {
        assert_eq!(lines(&["method=GET", &image.layer_digest]), 0, "{said}");
    }
}

/// Layers that skopeo compresses are read: programs of another machine are found in them.
fn content_is_checked(registry: &Registry, skopeo: &Path) {
    let project = Project::at(registry);
    let skopeo = Skopeo::new(skopeo, registry, &project);
    let push = |image: &Image, tag: &str, format: &str| {
        let folder = project.path(tag);
        layout(&folder, &[&image.layer, &image.config, &image.manifest], image::MANIFEST, &image.manifest);
        let target = format!("{}:{tag}", project.image());
        skopeo.push(&["--dest-compress-format", format], &folder, &target);
        let manifest: Value = serde_json::from_slice(&skopeo.raw(&target)).unwrap();
        let media_type = manifest["layers"][0]["mediaType"].as_str().unwrap();
        assert!(media_type.ends_with(&format!("+{format}")), "{media_type}");
        target
    };
    let [amd64, arm64] = [("amd64", "gzip"), ("arm64", "zstd")].map(|(architecture, format)| {
        let image = Build::new(&project.path(""), architecture, "hello").image;
        push(&image, &format!("git-1-{architecture}"), format)
    });
    let target = format!("{}:checked", project.image());
    for format in ["gzip", "zstd"] {
        // Other content, for skopeo pushes no layer again that it compressed otherwise before.
        let files: [(&str, &[u8], u32); 2] =
            [("bin/app", &minimal_elf("amd64"), 0o755), ("format", format.as_bytes(), 0o644)];
        let image = Image::build("linux", "arm64", None, &files);
        let wrong = push(&image, &format!("wrong-{format}-arm64"), format);
        let before = skopeo.tags(&project.image());
        let refused = project.json(1, &["assemble", &target, &amd64, &wrong, "--check-content"]);
        assert_eq!(refused["reason"], "programs-mismatch", "{refused:#}");
        assert_eq!(skopeo.tags(&project.image()), before, "nothing was written");
    }
    let checked = project.json(0, &["assemble", &target, &amd64, &arm64, "--check-content"]);
    assert_eq!(checked["outcome"], "assembled");
    assert_eq!(image::digest(&skopeo.raw(&target)), checked["image"]["digest"].as_str().unwrap());
}
