//! The scripts that release quorate itself, run as `.github/workflows/publish.yml` runs them, against
//! servers on loopback. What is released are the smallest programs of both architectures.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use quorate_bed::image::minimal_elf;
use quorate_bed::issuer::github_job;
use quorate_bed::{Fulcio, Issuer, keyless_root};

use crate::peers::{Peer, Peers};
use crate::project::succeed;
use crate::shop::{AMD64, ARM64, Run, Shop, cell};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const PROJECT: &str = "Acme/quorate";

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    vec![
        peers.trial("publish::an_image_releases_itself", [Peer::Bash], |_| release()),
        peers.trial("publish::the_image_follows_from_the_program", [Peer::Bash], |_| deterministic()),
        peers.trial("publish::archives_are_where_binstall_looks", [Peer::Bash], |_| binstall()),
    ]
}

/// Makes the images of both architectures, below `folder`.
fn images(folder: &Path) {
    for (architecture, _) in [AMD64, ARM64] {
        let program = folder.join(format!("program-{architecture}"));
        fs::write(&program, minimal_elf(architecture)).unwrap();
        let image = folder.join(format!("image-{architecture}"));
        succeed(dist().arg("image").args([&program, Path::new(architecture), &image]));
    }
}

fn dist() -> Command {
    Command::new(format!("{ROOT}/.ci/dist"))
}

fn release() {
    let shop = Shop::open();
    let issuer = Issuer::start("https://token.actions.githubusercontent.com");
    let fulcio = Fulcio::start(&[&issuer]);
    let root = keyless_root(&[&shop.bed.log], &[], &[&shop.bed.tsa], &[&fulcio]);
    shop.write("root.json", root.to_string());
    images(shop.folder());
    let head = succeed(Command::new("git").args(["-C", ROOT, "rev-parse", "HEAD"]));
    let commit = String::from_utf8(head).unwrap().trim().to_owned();
    let image = format!("{}/acme/quorate", shop.host());
    let tag = format!("v{VERSION}");

    // What a job of the tag `git_tag` does.
    let publish = |git_tag: &str, words: &[&str]| {
        let git_ref = format!("refs/tags/{git_tag}");
        let job = github_job(PROJECT, "publish.yml", &git_ref, &commit);
        shop.write("job.token", issuer.token(&job));
        let mut command = shop.script(Path::new(ROOT).join(".ci/publish").as_path(), words);
        command
            .env("IMAGE", &image)
            .env("GITHUB_REPOSITORY", PROJECT)
            .env("GITHUB_REF_NAME", git_tag)
            .env("GITHUB_SHA", &commit)
            .env("QUORATE_IDENTITY_TOKEN", shop.path("job.token"))
            .env("QUORATE_FULCIO_URL", fulcio.url())
            // In a job, the checkout and the runner say these.
            .env("QUORATE_NO_INFER", "true")
            .env("QUORATE_COMMIT", &commit)
            .env("QUORATE_SEQUENCE", "1763700000")
            .env("QUORATE_SOURCE_URI", format!("git+https://github.com/{PROJECT}"))
            .env("QUORATE_REF", git_ref);
        Run::of(&mut command)
    };
    let named = |tag: &str| {
        let run = shop.quorate(&["resolve", &format!("{image}:{tag}")]);
        (run.code == 0).then(|| run.stdout.trim().to_owned())
    };

    // A tag that is not the version: nothing is asked of anybody.
    let run = publish("v99.0.0", &["candidate", "."]).exits(2);
    assert!(run.stderr.contains(&format!("the tag is v99.0.0, and Cargo.toml has version {VERSION}")));
    assert!(shop.bed.registry.log().is_empty());

    // A candidate is no release.
    let run = publish(&tag, &["candidate", "."]).exits(0);
    assert!(run.stdout.contains("quorum-below-two"), "the policy is named weak: {}", run.stdout);
    let candidate = named(&format!("git-{commit}")).unwrap();
    assert_eq!((named("latest"), named(VERSION)), (None, None));

    publish(&tag, &["promote"]).exits(0);
    assert_eq!((named("latest"), named(VERSION)), (Some(candidate.clone()), Some(candidate)));

    // Once more: the tags of the candidate are written again, and nothing else; no vote is signed anew.
    shop.bed.registry.clear_log();
    publish(&tag, &["candidate", "."]).exits(0);
    let (candidate, logged) = (format!("/manifests/git-{commit}"), shop.bed.registry.writes());
    assert!(logged.iter().all(|write| write.path.contains(&candidate)), "{logged:?}");
    shop.bed.registry.clear_log();
    publish(&tag, &["promote"]).exits(0);
    assert!(shop.bed.registry.writes().is_empty(), "{:?}", shop.bed.registry.writes());

    // Whoever votes as another workflow of the same project has no say.
    let policy = fs::read_to_string(format!("{ROOT}/.ci/release.toml")).unwrap();
    let policy = policy.replace("@IMAGE@", &image).replace("@REPOSITORY@", PROJECT);
    shop.write("quorate.toml", policy.replace("publish.yml", "other.yml"));
    let verified = shop.quorate(&["verify", &format!("{image}:{VERSION}"), "-o", "json"]).exits(1).json();
    assert_eq!(
        (verified["verdict"].as_str(), cell(&verified, "linux/amd64", "github").as_str()),
        (Some("short"), "missing")
    );
    shop.write("quorate.toml", policy);
    let verified = shop.quorate(&["verify", &format!("{image}:{VERSION}"), "-o", "json"]).exits(0).json();
    assert_eq!(cell(&verified, "linux/arm64", "github"), "counted");
}

fn deterministic() {
    let shop = Shop::open();
    let digests = ["one", "two"].map(|name| {
        let folder = shop.path(name);
        fs::create_dir(&folder).unwrap();
        images(&folder);
        [AMD64, ARM64].map(|(architecture, _)| {
            let image = folder.join(format!("image-{architecture}"));
            let pushed = shop.quorate(&[
                "push",
                image.to_str().unwrap(),
                "r.example/quorate",
                "--dry-run",
                "-o",
                "json",
            ]);
            let pushed = pushed.exits(0).json();
            assert_eq!(pushed["descriptor"]["platform"]["architecture"], architecture);
            pushed["image"]["digest"].as_str().unwrap().to_owned()
        })
    });
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0][0], digests[0][1]);
    assert!(shop.bed.registry.log().is_empty());
}

/// The archive of each target that the workflow builds has the name and the folder in it that
/// `cargo binstall` is told of.
fn binstall() {
    let manifest: toml::Table = fs::read_to_string(format!("{ROOT}/Cargo.toml")).unwrap().parse().unwrap();
    let told = &manifest["package"]["metadata"]["binstall"];
    let workflow = fs::read_to_string(format!("{ROOT}/.github/workflows/publish.yml")).unwrap();
    let targets: Vec<&str> =
        workflow.lines().filter_map(|line| line.trim().strip_prefix("target: ")).collect();
    assert_eq!(targets, ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"]);
    assert!(workflow.contains("gh release create \"$GITHUB_REF_NAME\" dist/*.tar.gz dist/*.sha256"));
    for target in targets {
        let fill = |field: &str| {
            let values = BTreeMap::from([
                ("repo", "https://github.com/acme/quorate"),
                ("name", env!("CARGO_PKG_NAME")),
                ("version", VERSION),
                ("target", target),
                ("bin", "quorate"),
                ("binary-ext", ""),
            ]);
            let text = told[field].as_str().unwrap().to_owned();
            values.iter().fold(text, |text, (key, value)| text.replace(&format!("{{ {key} }}"), value))
        };
        let name = String::from_utf8(succeed(dist().args(["name", target]))).unwrap();
        let name = name.trim();
        assert_eq!(
            fill("pkg-url"),
            format!("https://github.com/acme/quorate/releases/download/v{VERSION}/{name}.tar.gz")
        );
        assert_eq!(fill("bin-dir"), format!("{name}/quorate"));
        assert_eq!(told["pkg-fmt"].as_str(), Some("tgz"));
    }
}
