//! What quorate writes to a registry, held to the JSON schemas of the image specification.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use quorate_bed::{Registry, RegistryOptions, client, image};
use serde_json::{Value, json};

use crate::peers::{Peer, Peers};
use crate::project::{ARCHITECTURES, Build, Project, REPOSITORY, said};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    vec![peers.trial("manifests_are_valid_by_the_image_spec", [Peer::Go], |[go]| valid_by_the_image_spec(go))]
}

/// The index of `assemble` and the bundle manifest and fallback index of `attest` are valid; the
/// same with one thing broken are not.
fn valid_by_the_image_spec(go: &Path) {
    let registry = Registry::start(RegistryOptions { referrers: false, ..RegistryOptions::default() });
    let host = registry.host();
    let project = Project::new(&host);
    let candidate = project.candidate();
    let mut sources = Vec::new();
    let mut attested = None;
    for (architecture, system) in ARCHITECTURES {
        let build = Build::new(&project.path(""), architecture, "hello");
        let source = format!("{candidate}-{architecture}");
        let tag = source.rsplit(':').next().unwrap();
        build.image.push(&host, REPOSITORY, tag).unwrap();
        sources.push(source);
        attested = Some((system, build));
    }
    let assembled = project
        .json(0, &["assemble", &candidate, &sources[0], &sources[1], "--annotation", "org.example.a=b"]);
    let (system, build) = attested.unwrap();
    let attached = project.attest(0, &candidate, "github", system, &build, &[]);
    let fetch = |reference: &str| {
        let answer = client::manifest(&host, REPOSITORY, reference).unwrap();
        assert_eq!(answer.status, 200, "{reference}");
        answer.body
    };
    let index = fetch(assembled["image"]["digest"].as_str().unwrap());
    let carrier = fetch(attached["attached"]["manifest"].as_str().unwrap());
    let fallback = fetch(&build.image.manifest_digest.replace(':', "-"));

    let broken = |bytes: &[u8], pointer: &str, value: Value| {
        let mut document: Value = serde_json::from_slice(bytes).unwrap();
        *document.pointer_mut(pointer).unwrap() = value;
        document.to_string().into_bytes()
    };
    let judged = validate(
        go,
        &project.path("image-spec"),
        &[
            (INDEX, &index),
            (image::MANIFEST, &carrier),
            (INDEX, &fallback),
            (INDEX, &broken(&index, "/manifests/0/digest", json!("no-algorithm"))),
            (INDEX, &broken(&index, "/manifests/1/platform", json!({"os": "linux"}))),
            (image::MANIFEST, &broken(&carrier, "/subject", json!({"digest": build.image.manifest_digest}))),
            (INDEX, &broken(&fallback, "/schemaVersion", json!(3))),
        ],
    );
    assert_eq!(judged[..3], ["valid"; 3]);
    for (line, place) in
        judged[3..].iter().zip(["/manifests/0/digest", "/manifests/1/platform", "/subject", "/schemaVersion"])
    {
        assert!(line.starts_with("invalid: ") && line.contains(&format!("'{place}'")), "{place}: {line}");
    }
}

/// What the schemas say of each document, a line each.
fn validate(go: &Path, folder: &Path, documents: &[(&str, &[u8])]) -> Vec<String> {
    fs::create_dir(folder).unwrap();
    let mut command = Command::new(go);
    command
        .args(["run", "-mod=readonly", "."])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/image-spec"))
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .stdin(Stdio::null());
    for (position, (media_type, bytes)) in documents.iter().enumerate() {
        let file = folder.join(position.to_string());
        fs::write(&file, bytes).unwrap();
        command.arg(media_type).arg(file);
    }
    let output = command.output().unwrap();
    let lines: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), documents.len(), "a line for each document\n{}", said(&output));
    lines
}
