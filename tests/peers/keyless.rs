//! Bundles that `attest` made without a key, before two verifiers that nobody here wrote; and one
//! that another signer made without a key, as a vote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use quorate_bed::issuer::github_job;
use quorate_bed::{Fulcio, Issuer, Registry, RegistryOptions, RekorV1, Tsa, keyless_root};
use serde_json::{Value, json};

use crate::bundles::{Made, other_commit, save, script, taken, unsigned};
use crate::peers::{Peer, Peers};
use crate::project::{ARCHITECTURES, Build, COMMIT, Project, SEQUENCE, succeed};

pub(crate) const ISSUER: &str = "https://token.actions.githubusercontent.com";
pub(crate) const SAN: &str = "https://github.com/acme/app/.github/workflows/build.yml@refs/heads/main";
const SOURCE: &str = "git+https://github.com/acme/app";
const MAIN: &str = "refs/heads/main";

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let mut trials = Vec::new();
    for version in [1, 2] {
        trials.push(peers.trial(
            &format!("keyless_bundles_hold_for::sigstore_js_from_rekor_v{version}"),
            [Peer::Node, Peer::NodeSigstore],
            move |[node, modules]| {
                judged_by(version, |root, san, issuer, bundles| {
                    let mut command = Command::new(node);
                    command.arg(script("verify.cjs")).arg(modules).arg(root);
                    command.arg(format!("{san},{issuer}")).args(bundles);
                    command
                });
            },
        ));
        trials.push(peers.trial(
            &format!("keyless_bundles_hold_for::sigstore_python_from_rekor_v{version}"),
            [Peer::PythonSigstore],
            move |[python]| {
                judged_by(version, |root, san, issuer, bundles| {
                    let mut command = Command::new(python);
                    command.args(["-I", "-W", "ignore"]).arg(script("keyless.py")).arg("verify");
                    command.arg(root).args([san, issuer]).args(bundles);
                    command
                });
            },
        ));
    }
    for version in [1, 2] {
        let name = format!("a_bundle_of_sigstore_python_is_a_vote_from_rekor_v{version}");
        trials.push(peers.trial(&name, [Peer::PythonSigstore], move |[python]| {
            signed_elsewhere(python, version);
        }));
    }
    trials
}

/// A project whose one builder is its own CI job.
struct Works {
    registry: Registry,
    project: Project,
    issuer: Issuer,
    fulcio: Fulcio,
    rekor: RekorV1,
    tsa: Tsa,
}

impl Works {
    fn new() -> Self {
        let registry = Registry::start(RegistryOptions::default());
        let project = Project::new(&registry.host());
        let issuer = Issuer::start(ISSUER);
        let (fulcio, rekor, tsa) = (Fulcio::start(&[&issuer]), RekorV1::start(), Tsa::start());
        let works = Self { registry, project, issuer, fulcio, rekor, tsa };
        fs::write(works.project.path("trusted_root.json"), works.root().to_string()).unwrap();
        let policy = format!(
            "version = 1\n\n[[image]]\nrepository = \"{}\"\nplatforms = [\"linux/amd64\"]\nquorum = 1\n\n\
             [[builder]]\nname = \"github\"\noperator = \"GitHub\"\nissuer = \"{ISSUER}\"\nsan = \"{SAN}\"\n",
            works.project.image()
        );
        fs::write(works.project.path("quorate.toml"), policy).unwrap();
        works
    }

    fn root(&self) -> Value {
        keyless_root(&[&self.project.log], &[&self.rekor], &[&self.tsa], &[&self.fulcio])
    }

    fn rekor_url(&self, version: u8) -> String {
        if version == 1 { self.rekor.url() } else { self.project.log.url() }
    }

    /// A token of the job, in a file.
    fn token(&self) -> PathBuf {
        let file = self.project.path("token");
        fs::write(&file, self.issuer.token(&github_job("acme/app", "build.yml", MAIN, COMMIT))).unwrap();
        file
    }

    /// The bundle that the job attaches, logged to that version of Rekor.
    fn attest(&self, version: u8, name: &str) -> Value {
        let (build, image) = self.project.pushed(name);
        let rekor = self.rekor_url(version);
        let mut command = self.project.command(&["attest", &image, "--builder", "github", "--no-infer"]);
        command.arg("--identity-token").arg(self.token()).args(["--fulcio-url", &self.fulcio.url()]);
        command.args(["--rekor-url", &rekor, "--rekor-version", &version.to_string()]);
        command.args(["--tsa-url", &self.tsa.url(), "--bundle-out", "bundle.json"]);
        succeed(command.args(said_of(&build)).arg("--result").arg(&build.result));
        serde_json::from_slice(&fs::read(self.project.path("bundle.json")).unwrap()).unwrap()
    }
}

/// Six bundles of the job, logged to that version of Rekor.
pub(crate) fn made(version: u8) -> Made {
    let works = Works::new();
    let bundles = (0..6).map(|number| works.attest(version, &format!("hello-{number}"))).collect();
    Made { registry: works.registry, project: works.project, bundles }
}

/// What the builder says, but for the result.
fn said_of(build: &Build) -> [&str; 12] {
    let (_, system) = ARCHITECTURES[0];
    let config = &build.image.config_digest;
    [
        "--system",
        system,
        "--commit",
        COMMIT,
        "--sequence",
        SEQUENCE,
        "--config-digest",
        config,
        "--source-uri",
        SOURCE,
        "--ref",
        MAIN,
    ]
}

/// A verifier, run on a trusted root, a SAN, an issuer and bundles, prints a line for each bundle.
fn judged_by(version: u8, verifier: impl Fn(&Path, &str, &str, &[PathBuf]) -> Command) {
    let works = Works::new();
    let project = &works.project;
    let bundles = [works.attest(version, "one"), works.attest(version, "two")];
    let files = [0, 1].map(|number| save(project, &format!("bundle-{number}.json"), &bundles[number]));
    let root = project.path("trusted_root.json");
    let judge = |root: &Path, san: &str, issuer: &str, bundles: &[PathBuf]| {
        let lines = String::from_utf8(succeed(&mut verifier(root, san, issuer, bundles))).unwrap();
        let lines: Vec<_> = lines.lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), bundles.len(), "a line for each bundle: {lines:#?}");
        lines
    };
    assert_eq!(judge(&root, SAN, ISSUER, &files), ["holds", "holds"]);

    let other_root = project.path("other_root.json");
    fs::write(&other_root, Works::new().root().to_string()).unwrap();
    for (root, san, issuer) in [
        (&root, SAN, "https://gitlab.com"),
        (&root, &SAN.replace("main", "side"), ISSUER),
        (&other_root, SAN, ISSUER),
    ] {
        let refused = judge(root, san, issuer, &files[..1]);
        assert_ne!(refused, ["holds"], "{} {san} {issuer}", root.display());
    }
    let entry = "/verificationMaterial/tlogEntries/0";
    let checkpoint = format!("{entry}/inclusionProof/checkpoint/envelope");
    let [other, bundle] = &bundles;
    let twins = [
        ("/dsseEnvelope/payload", other_commit(bundle)),
        ("/dsseEnvelope/signatures/0/sig", taken(other, "/dsseEnvelope/signatures/0/sig")),
        ("/verificationMaterial/certificate", taken(other, "/verificationMaterial/certificate")),
        (entry, taken(other, entry)),
        (&checkpoint, unsigned(bundle, &checkpoint)),
    ];
    for (pointer, value) in twins {
        let mut bundle = bundle.clone();
        *bundle.pointer_mut(pointer).unwrap() = value;
        let refused = judge(&root, SAN, ISSUER, &[save(project, "broken.json", &bundle)]);
        assert_ne!(refused, ["holds"], "{pointer}");
    }
}

/// sigstore-python signs what `quorate predicate` says, with the token of the job.
fn signed_elsewhere(python: &Path, version: u8) {
    let works = Works::new();
    let project = &works.project;
    let (build, image) = works.project.pushed("one");
    let mut predicate = project.command(&["predicate", "--builder", "github", "--no-infer"]);
    predicate.args(said_of(&build)).arg("--result").arg(&build.result);
    let predicate: Value = serde_json::from_slice(&succeed(&mut predicate)).unwrap();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{
            "name": project.image(),
            "digest": {"sha256": build.image.manifest_digest.trim_start_matches("sha256:")},
        }],
        "predicateType": "https://quorate.dev/predicates/build/v1",
        "predicate": predicate,
    });
    let service = |url: String, version: u8| {
        let valid = json!({"start": "2025-01-01T00:00:00Z"});
        json!([{"url": url, "majorApiVersion": version, "validFor": valid, "operator": "test"}])
    };
    let config = json!({
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": works.root(),
        "signingConfig": {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service(works.fulcio.url(), 1),
            "oidcUrls": service(works.issuer.url(), 1),
            "rekorTlogUrls": service(works.rekor_url(version), version),
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": service(works.tsa.url(), 1),
            "tsaConfig": {"selector": "ANY"},
        },
    });
    let [config, statement] = [("config.json", config), ("statement.json", statement)]
        .map(|(name, content)| save(project, name, &content));
    let mut sign = Command::new(python);
    sign.args(["-I", "-W", "ignore"]).arg(script("keyless.py")).arg("sign");
    let bundle = succeed(sign.arg(config).arg(works.token()).arg(statement));
    fs::write(project.path("bundle.json"), bundle).unwrap();

    let entries = if version == 1 { works.rekor.size() } else { project.log.size() };
    assert_eq!(entries, 1);
    let before = project.json(1, &["verify", &image]);
    assert_eq!(before["verdict"], "short");
    let attached = project.json(0, &["attest", &image, "--bundle", "bundle.json"]);
    assert_eq!(attached["outcome"], "attested");
    let after = project.json(0, &["verify", &image, "--expect-commit", COMMIT]);
    assert_eq!(after["verdict"], "met");
    assert_eq!(after["platforms"][0]["cells"][0]["status"], "counted");
}
