//! Many builders that attest one image in the same moment, on a registry without the referrers
//! API: where others keep one list that all of them rewrite.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Stdio;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::peers::{Peer, Peers};
use crate::project::{Build, Project, REPOSITORY, said};
use crate::registries::{Access, Registry};

const VOTERS: usize = 16;

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    vec![
        peers.trial("sixteen_votes_at_once_are_all_found", [Peer::DockerRegistry], |[program]| {
            all_votes_are_found(&Registry::distribution(program, &Access::Open), 20);
        }),
        peers.trial("sixteen_votes_at_once_are_all_found_on_gitea", [Peer::Gitea], |[program]| {
            all_votes_are_found(&Registry::gitea(program), 5);
        }),
    ]
}

fn all_votes_are_found(registry: &Registry, rounds: usize) {
    let project = Project::at(registry);
    let voters: Vec<_> = (0..VOTERS).map(|number| format!("voter-{number}")).collect();
    // The quorum is everybody: one vote less, and it is short.
    let mut policy = format!(
        "version = 1\n\n[[image]]\nrepository = \"{}\"\nplatforms = [\"linux/amd64\"]\nquorum = {VOTERS}\n",
        project.image()
    );
    for voter in &voters {
        project.run(0, &["key", "generate", &format!("{voter}.key")]);
        let _ = write!(
            policy,
            "\n[[builder]]\nname = \"{voter}\"\noperator = \"{voter}\"\nkey = \"{voter}.key.pub\"\n"
        );
    }
    fs::write(project.path("quorate.toml"), policy).unwrap();
    let everybody: BTreeSet<_> = voters.iter().map(String::as_str).collect();
    let authorization = registry.authorization();
    for round in 0..rounds {
        let build = Build::new(&project.path(""), "amd64", &format!("round-{round}"));
        let image = format!("{}:round-{round}", project.image());
        let tag = format!("round-{round}-amd64");
        build.image.push_as(authorization.as_deref(), registry.host(), REPOSITORY, &tag).unwrap();
        project.json(0, &["assemble", &image, &format!("{image}-amd64")]);
        let before = project.json(1, &["verify", &image]);
        assert_eq!((before["verdict"].as_str(), counted(&before).len()), (Some("short"), 0));

        let attest = |voter| project.attesting(&image, voter, "x86_64-linux", &build);
        let running: Vec<_> = voters
            .iter()
            .map(|voter| attest(voter).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
            .collect();
        for attesting in running {
            let output = attesting.wait_with_output().unwrap();
            assert!(output.status.success(), "round {round}: {}", said(&output));
        }
        let after = project.json(0, &["verify", &image]);
        assert_eq!(after["verdict"], "met", "round {round}");
        assert_eq!(counted(&after), everybody, "round {round}");
    }
}

/// The builders whose votes count.
fn counted(verdict: &Value) -> BTreeSet<&str> {
    let cells = verdict["platforms"][0]["cells"].as_array().unwrap().iter();
    cells.filter(|cell| cell["status"] == "counted").map(|cell| cell["builder"].as_str().unwrap()).collect()
}
