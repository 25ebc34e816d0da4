//! The public suite sigstore-conformance, each case by path and by digest, run by the client in
//! `examples/sigstore_conformance.rs`: what the crates below quorate make of it, on ring.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::Trial;
use quorate_bed::image;

use crate::peers::{Peer, Peers};

/// The subcommand by which this program becomes the client.
pub(crate) const COMMAND: &str = "verify-bundle";

const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    vec![peers.trial("sigstore_conformance::verify_bundle", [Peer::Vectors], |[vectors]| {
        suite(&vectors.join("sigstore-conformance"));
    })]
}

fn suite(suite: &Path) {
    let (mut right, mut wrong) = (0, Vec::new());
    let mut cases: Vec<_> = fs::read_dir(suite).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    for case in &cases {
        let name = case.file_name().unwrap().to_str().unwrap();
        let own = case.join("artifact");
        let artifact = if own.exists() { own } else { suite.join("a.txt") };
        let path = artifact.to_str().unwrap().to_owned();
        for artifact in [path, image::digest(&fs::read(&artifact).unwrap())] {
            let output = client(case, &artifact);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // What could not be judged is no refusal.
            let judged =
                !said.contains("Unsupported") && !said.contains("Usage:") && !said.contains("panicked");
            let holds = match output.status.code() {
                Some(0) => true,
                Some(1) => false,
                other => panic!("{name}: {other:?}: {said}"),
            };
            if judged && holds != name.ends_with("_fail") {
                right += 1;
            } else {
                wrong.push(format!("{name} {artifact}: {said}"));
            }
        }
    }
    eprintln!("sigstore-conformance: {right} of {} as the suite says", 2 * cases.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!((right, cases.len()), (140, 70));
}

/// Runs the client as the suite's protocol says.
fn client(case: &Path, artifact: &str) -> Output {
    let text = |name: &str, default: &str| fs::read_to_string(case.join(name)).unwrap_or(default.to_owned());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(COMMAND).arg("--bundle").arg(case.join("bundle.sigstore.json"));
    if case.join("key.pub").exists() {
        command.arg("--key").arg(case.join("key.pub"));
    } else {
        command.arg("--certificate-identity").arg(text("identity", IDENTITY).trim());
        command.arg("--certificate-oidc-issuer").arg(text("issuer", ISSUER).trim());
    }
    if case.join("trusted_root.json").exists() {
        command.arg("--trusted-root").arg(case.join("trusted_root.json"));
    }
    command.arg(artifact).output().unwrap()
}
