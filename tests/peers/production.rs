//! A release goes from one registry to another that nobody here wrote, with what builders said of
//! it, and as a proof pack.

use std::fs;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::assemblers::{OPEN, Start, assemble, pushed};
use crate::peers::{Peer, Peers};
use crate::project::{ARCHITECTURES, Project, REPOSITORY};
use crate::registries::Registry;

/// Each is the source of a release once, and once where it goes.
const WAYS: [(Peer, Start, Peer, Start); 4] = [
    (Peer::DockerRegistry, OPEN, Peer::Gitea, Registry::gitea),
    (Peer::Gitea, Registry::gitea, Peer::Distribution, OPEN),
    (Peer::Distribution, OPEN, Peer::Olareg, Registry::olareg),
    (Peer::Olareg, Registry::olareg, Peer::DockerRegistry, OPEN),
];

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let way = |(from, start_from, to, start_to): (Peer, Start, Peer, Start)| {
        let name = format!("a_release_is_promoted_from::{}_to_{}", from.name(), to.name());
        peers.trial(&name, [from, to], move |[from, to]| promoted(&start_from(from), &start_to(to)))
    };
    WAYS.into_iter().map(way).collect()
}

fn promoted(from: &Registry, to: &Registry) {
    let project = Project::at(from);
    let builds = pushed(&project, from);
    let candidate = project.candidate();
    let digest = assemble(&project, &candidate)["image"]["digest"].clone();
    for builder in ["github", "garnix"] {
        for (build, (_, system)) in builds.iter().zip(ARCHITECTURES) {
            project.attest(0, &candidate, builder, system, build, &[]);
        }
    }
    let login = |registry: &Registry| serde_json::from_str::<Value>(&registry.login()).unwrap();
    let mut logins = login(from);
    logins["auths"].as_object_mut().unwrap().extend(login(to)["auths"].as_object().unwrap().clone());
    fs::write(project.login(), logins.to_string()).unwrap();
    let target = format!("{}/{REPOSITORY}", to.host());
    let policy = fs::read_to_string(project.path("quorate.toml")).unwrap();
    let theirs = format!("repository = \"{target}\"\nnames = [\"{}\"]", project.image());
    let policy = policy.replacen(&format!("repository = \"{}\"", project.image()), &theirs, 1);
    fs::write(project.path("quorate.toml"), policy).unwrap();

    let promote = ["promote", &candidate, "--to", &target, "--tag", "latest,1.0.0"];
    let report = project.json(0, &promote);
    assert_eq!((&report["verdict"], &report["outcome"]), (&json!("met"), &json!("moved")));
    assert_eq!(report["image"], json!({"repository": target, "digest": digest}));
    assert_eq!((&report["copied"]["images"], &report["copied"]["attestations"]), (&json!(2), &json!(4)));
    let again = project.json(0, &promote);
    assert_eq!(again["outcome"], "unchanged");
    assert_eq!((&again["copied"]["images"], &again["copied"]["attestations"]), (&json!(0), &json!(0)));

    let image = format!("{target}:1.0.0");
    let online = project.json(0, &["verify", &image]);
    assert_eq!((&online["verdict"], &online["image"]["digest"]), (&json!("met"), &digest));
    let packed = project.json(0, &["pack", &image, "--out", "pack.json", "--attach"]);
    assert_eq!((&packed["outcome"], &packed["pack"]["bundles"]), (&json!("packed"), &json!(4)));
    let image = format!("{target}@{}", digest.as_str().unwrap());
    let online = project.json(0, &["verify", &image]);
    for from_pack in [["--evidence", "pack"], ["--pack", "pack.json"]] {
        let mut offline = project.json(0, &[&["verify", &image], &from_pack[..]].concat());
        assert_eq!(offline["notes"].as_array_mut().unwrap().remove(0)["code"], "pack-alone");
        assert_eq!(offline, online, "{from_pack:?}");
    }
}
