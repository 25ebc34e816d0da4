//! A whole release without a key: three workflows attest through the services of the Sigstore
//! project, others' verifiers take what they signed, and what cosign signs is a vote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use quorate_bed::client;
use serde_json::{Value, json};

use crate::assemblers::REGISTRIES;
use crate::bundles::script;
use crate::fulcio::{Keyless, SERVICES, builders, everyone, policy, said_of, san};
use crate::peers::{Peer, Peers};
use crate::project::{ARCHITECTURES, Build, COMMIT, Project, REPOSITORY, said, succeed};
use crate::registries::Registry;
use crate::services::cosign_in;

const BUILD: &str = "https://quorate.dev/predicates/build/v1";

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let [fulcio, ct_log, rekor, tsa, cosign] = SERVICES;
    let on = |(registry, start): (Peer, fn(&Path) -> Registry)| {
        let name = format!("keyless_release_on_{}", registry.name());
        let needs = [registry, Peer::PythonSigstore, fulcio, ct_log, rekor, tsa, cosign];
        peers.trial(&name, needs, move |[registry, python, services @ ..]| {
            let [.., cosign] = services;
            release(&start(registry), &Keyless::start(services), python, cosign);
        })
    };
    REGISTRIES.into_iter().map(on).collect()
}

/// From pushed images to a promoted release, and its end by a dissent.
fn release(registry: &Registry, keyless: &Keyless, python: &Path, cosign: &Path) {
    let project = keyless.project(registry);
    let (image, builds) = candidate(&project, registry, "one");
    let promote = ["promote", &image, "--tag", "1.0.0"];
    let refused = project.json(1, &promote);
    assert_eq!((&refused["verdict"], &refused["outcome"]), (&json!("short"), &json!("refused")));
    assert!(!exists(registry, "1.0.0"), "nothing was promoted");

    // All of them at once, each in a process of its own.
    let attesting = everyone().map(|(at, system, builder)| {
        let mut command = keyless.attesting(&project, &image, builder, system, &builds[at]);
        command.arg("--bundle-out").arg(bundle(&project, builder, system));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for attesting in attesting.collect::<Vec<Child>>() {
        let output = attesting.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["outcome"], "attested");
    }
    let met = project.json(0, &promote);
    assert_eq!((&met["verdict"], &met["outcome"]), (&json!("met"), &json!("moved")));
    assert!(exists(registry, "1.0.0"));
    let released = format!("{}:1.0.0", project.image());
    let verified = project.json(0, &["verify", &released, "--expect-commit", COMMIT]);
    assert_eq!(verified["verdict"], "met");
    assert_eq!(cells(&verified), [["counted"; 3]; 2]);
    assert_eq!(verified["ignored"], json!([]));

    others_take_them(keyless, &project, &builds, python, cosign);
    strangers_do_not_count(keyless, &project, &released);
    let image = cosign_votes(registry, keyless, &project, cosign);

    let (_, system) = ARCHITECTURES[0];
    let other = Build::new(&project.path(""), ARCHITECTURES[0].0, "other");
    let mut dissent = keyless.attesting(&project, &image, "basement", system, &other);
    let dissent: Value = serde_json::from_slice(&succeed(dissent.arg("--record-dissent"))).unwrap();
    assert_eq!(dissent["predicateType"], "https://quorate.dev/predicates/dissent/v1");
    let blocked = project.json(1, &["promote", &image, "--tag", "1.0.1"]);
    assert_eq!((&blocked["verdict"], &blocked["outcome"]), (&json!("dissent"), &json!("refused")));
    assert_eq!(cells(&blocked), [["counted", "counted", "dissent"], ["counted", "counted", "missing"]]);
    assert!(!exists(registry, "1.0.1"), "nothing was promoted");
}

/// Pushes and assembles images with a message in them.
fn candidate(project: &Project, registry: &Registry, message: &str) -> (String, Vec<Build>) {
    let image = format!("{}:{message}", project.image());
    let builds = ARCHITECTURES.map(|(architecture, _)| {
        let build = Build::new(&project.path(""), architecture, message);
        build.image.push(registry.host(), REPOSITORY, &format!("{message}-{architecture}")).unwrap();
        build
    });
    let sources = ARCHITECTURES.map(|(architecture, _)| format!("{image}-{architecture}"));
    project.json(0, &["assemble", &image, &sources[0], &sources[1]]);
    (image, builds.into())
}

/// Where the bundle of a builder is kept.
fn bundle(project: &Project, builder: &str, system: &str) -> PathBuf {
    project.path(&format!("{builder}-{system}.json"))
}

/// cosign and sigstore-python take every attestation, by its identity and issuer and no other.
fn others_take_them(keyless: &Keyless, project: &Project, builds: &[Build], python: &Path, cosign: &Path) {
    let root = keyless.services.trusted_root();
    let issuer = keyless.issuer.name();
    let by_cosign = |san: &str, issuer: &str, build: &Build| {
        let mut verify = cosign_in(cosign, &project.path(""));
        verify.args(["verify-attestation", "--allow-http-registry", "--type", BUILD]);
        verify.args(["--certificate-identity", san, "--certificate-oidc-issuer", issuer]);
        verify.arg("--trusted-root").arg(&root);
        verify.arg(format!("{}@{}", project.image(), build.image.manifest_digest)).output().unwrap()
    };
    let by_python = |san: &str, issuer: &str, bundles: &[PathBuf]| {
        let mut verify = Command::new(python);
        verify.args(["-I", "-W", "ignore"]).arg(script("keyless.py")).arg("verify");
        let said = succeed(verify.arg(&root).args([san, issuer]).args(bundles));
        String::from_utf8(said).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for (at, system, builder) in everyone() {
        let held = by_cosign(&san(builder), issuer, &builds[at]);
        assert!(held.status.success(), "{builder} {system}: {}", said(&held));
        assert_eq!(String::from_utf8(held.stdout).unwrap().lines().count(), 1, "one by {builder}");
    }
    let bundles = |builder| ARCHITECTURES.map(|(_, system)| bundle(project, builder, system));
    for builder in builders() {
        assert_eq!(by_python(&san(builder), issuer, &bundles(builder)), ["holds"; 2], "{builder}");
    }
    for (san, issuer, why) in [
        (&san("github").replace("build.yml", "test.yml"), issuer, "another workflow"),
        (&san("github").replace("main", "side"), issuer, "another branch"),
        (&san("github"), "https://token.actions.githubusercontent.com", "another issuer"),
    ] {
        let refused = by_cosign(san, issuer, &builds[0]);
        assert!(!refused.status.success(), "{why}: {}", said(&refused));
        let refused = by_python(san, issuer, &bundles("github"));
        assert!(refused.iter().all(|said| said.starts_with("VerificationError")), "{why}: {refused:?}");
    }
}

/// Workflows of another name, and tokens of another issuer, are nobody's votes.
fn strangers_do_not_count(keyless: &Keyless, project: &Project, released: &str) {
    let other: fn(&str) -> String = |builder| san(builder).replace("build.yml", "test.yml");
    for (what, san, issuer) in [
        ("workflows", other, keyless.issuer.name()),
        ("issuer", san, "https://token.actions.githubusercontent.com"),
    ] {
        let file = project.path(&format!("other-{what}.toml"));
        fs::write(&file, policy(project, san, issuer)).unwrap();
        let refused = project.json(1, &["verify", released, "--policy", file.to_str().unwrap()]);
        assert_eq!(refused["verdict"], "short", "{what}");
        assert_eq!(cells(&refused), [["missing"; 3]; 2], "{what}");
        let ignored = refused["ignored"].as_array().unwrap();
        assert_eq!(ignored.len(), everyone().count(), "{what}");
        assert!(ignored.iter().all(|one| one["reason"] == "signer-unknown"), "{what}: {ignored:#?}");
    }
}

/// What `cosign attest` signs with the token of a job, of our predicate, makes the quorum of another
/// release, which is returned.
fn cosign_votes(registry: &Registry, keyless: &Keyless, project: &Project, cosign: &Path) -> String {
    let (image, builds) = candidate(project, registry, "two");
    for (build, (_, system)) in builds.iter().zip(ARCHITECTURES) {
        succeed(&mut keyless.attesting(project, &image, "github", system, build));
    }
    assert_eq!(project.json(1, &["verify", &image])["verdict"], "short");
    for (build, (_, system)) in builds.iter().zip(ARCHITECTURES) {
        let mut predicate = project.command(&["predicate", "--builder", "garnix"]);
        predicate.args(said_of(build, system)).arg("--result").arg(&build.result);
        fs::write(project.path("predicate.json"), succeed(&mut predicate)).unwrap();
        let mut attest = cosign_in(cosign, &project.path(""));
        attest.args(["attest", "--yes", "--predicate", "predicate.json", "--type", BUILD]);
        attest.args(["--allow-http-registry", "--identity-token"]).arg(keyless.token(project, "garnix"));
        attest.arg("--signing-config").arg(keyless.services.signing_config());
        attest.arg("--trusted-root").arg(keyless.services.trusted_root());
        succeed(attest.arg(format!("{}@{}", project.image(), build.image.manifest_digest)));
    }
    let met = project.json(0, &["verify", &image, "--expect-commit", COMMIT]);
    assert_eq!(met["verdict"], "met");
    assert_eq!(cells(&met), [["counted", "counted", "missing"]; 2]);
    assert_eq!(met["ignored"], json!([]));
    image
}

fn exists(registry: &Registry, tag: &str) -> bool {
    client::manifest(registry.host(), REPOSITORY, tag).unwrap().status == 200
}

/// The status of each builder, for each platform.
fn cells(verdict: &Value) -> Vec<Vec<&str>> {
    let rows = verdict["platforms"].as_array().unwrap().iter();
    rows.map(|row| {
        let cells = row["cells"].as_array().unwrap().iter();
        cells.map(|cell| cell["status"].as_str().unwrap()).collect()
    })
    .collect()
}
