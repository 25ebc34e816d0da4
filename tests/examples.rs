//! The examples do what their pages say, as far as that can be without a CI service.

#![cfg(all(feature = "cli", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use quorate_bed::issuer::github_job;
use quorate_bed::{Fulcio, Issuer, keyless_root};
use shop::{AMD64, ARM64, COMMIT, Release, Run, Shop, build, cell};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// Runs git in a folder, as somebody without settings.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@r.example"])
        .args(arguments)
        .current_dir(folder)
        .env("HOME", folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_COMMITTER_DATE", "1763700000 +0100")
        .stdin(Stdio::null())
        .output()
        .expect("run git");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What `rebuild.env` sets.
fn settings() -> BTreeMap<String, String> {
    let text = fs::read_to_string(example("rebuilder/rebuild.env")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once('=').unwrap()).map(|(name, value)| (name.into(), value.into())).collect()
}

/// A rebuilder, beside a project whose candidates are in the shop. A stand-in for `nix` leaves the
/// build that it is told of; everything else is real.
struct Rebuilder {
    shop: Shop,
}

impl Rebuilder {
    fn new() -> Self {
        let shop = Shop::open();
        fs::create_dir(shop.path("project")).unwrap();
        git(&shop.path("project"), &["init", "--quiet", "--initial-branch", "main"]);
        fs::create_dir(shop.path("bin")).unwrap();
        let nix = "#!/bin/sh\nset -eu\necho \"$*\" >> \"$HOME/nix.log\"\n\
                   [ \"$3 $5\" = 'build --out-link' ]\ncp \"$HOME/built\" \"$6\"\n";
        shop.write("bin/nix", nix);
        fs::set_permissions(shop.path("bin/nix"), Permissions::from_mode(0o755)).unwrap();
        Self { shop }
    }

    /// A commit of the project, which is `version`.
    fn commit(&self, version: &str) -> String {
        let project = self.shop.path("project");
        fs::write(project.join("flake.nix"), format!("{{ }} # {version}\n")).unwrap();
        git(&project, &["add", "flake.nix"]);
        git(&project, &["commit", "--quiet", "--message", version]);
        git(&project, &["tag", "--annotate", "--message", version, version]);
        git(&project, &["rev-parse", "HEAD"])
    }

    /// The candidate of a commit.
    fn candidate(&self, commit: &str) -> Release {
        self.shop.release(&format!("git-{commit}"), commit)
    }

    /// What `nix build` leaves from now on.
    fn builds(&self, message: &str) {
        self.shop.write("built", build("amd64", message).docker_archive());
    }

    fn rebuild(&self, words: &[&str]) -> Run {
        let mut command = self.shop.script(&example("rebuilder/rebuild"), words);
        let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_owned();
        let path = [self.shop.path("bin")].into_iter().chain(std::env::split_paths(&path));
        command
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("STATE_DIRECTORY", self.shop.path("state"))
            .envs(settings())
            .env("SOURCE", self.shop.path("project"))
            .env("IMAGE", self.shop.repository())
            .env("QUORATE_KEY", self.shop.path("basement.key"))
            .env("QUORATE_TRUSTED_ROOT", self.shop.path("root.json"))
            .env_remove("QUORATE_POLICY");
        Run::of(&mut command)
    }

    /// How the vote of this builder stands with those who judge.
    fn vote(&self, release: &Release) -> String {
        let run = self.shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(1);
        cell(&run.json(), "linux/amd64", "basement")
    }

    fn asked_of_nix(&self) -> Vec<String> {
        let log = fs::read_to_string(self.shop.path("nix.log")).unwrap_or_default();
        log.lines().map(Into::into).collect()
    }
}

#[test]
fn a_rebuilder_votes_for_what_it_got_as_well_and_says_it_once() {
    let rebuilder = Rebuilder::new();
    let shop = &rebuilder.shop;
    let commit = rebuilder.commit("v1.0.0");
    let release = rebuilder.candidate(&commit);
    rebuilder.builds(&commit);
    let run = rebuilder.rebuild(&["refs/heads/main", AMD64.1]).exits(0);
    assert!(run.stdout.contains(&format!("commit        {commit}, sequence 1763700000")), "{}", run.stdout);
    assert_eq!(rebuilder.vote(&release), "counted");
    assert_eq!(
        rebuilder.asked_of_nix(),
        ["--extra-experimental-features nix-command flakes build .#packages.x86_64-linux.app-image \
          --out-link ../result --no-update-lock-file --option accept-flake-config false"]
    );
    // An hour later.
    shop.bed.registry.clear_log();
    rebuilder.rebuild(&["refs/heads/main", AMD64.1]).exits(0);
    assert!(shop.bed.registry.writes().is_empty(), "{:?}", shop.bed.registry.writes());
    // With a job that says the same, one platform has its quorum: that of images.yml as the page has it.
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/github-actions.md");
    let page = fs::read_to_string(page).unwrap();
    let target = page.lines().find_map(|line| line.trim().strip_prefix("package-name: ")).unwrap();
    let (target, _) = target.split_once(" #").unwrap();
    let hash = shop.quorate(&["nar-hash", "built"]).exits(0).stdout;
    for (_, system) in [AMD64, ARM64] {
        let said = ["--commit", &commit, "--sequence", "1763700000", "--nar-hash", hash.trim()];
        let said = [&said[..], &["--target", target]].concat();
        shop.attest(&release, "github", system, &said).exits(0);
    }
    let judged = shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(1).json();
    let have: Vec<_> =
        judged["platforms"].as_array().unwrap().iter().map(|row| row["have"].clone()).collect();
    assert_eq!(have, [2, 1], "the rebuilder built for amd64 alone");
}

#[test]
fn a_rebuilder_that_got_something_else_signs_nothing_unless_it_is_told_to() {
    let rebuilder = Rebuilder::new();
    let shop = &rebuilder.shop;
    let commit = rebuilder.commit("v1.0.0");
    let release = rebuilder.candidate(&commit);
    rebuilder.builds("something else");
    shop.bed.registry.clear_log();
    let run = rebuilder.rebuild(&["refs/tags/v*", AMD64.1]).exits(1);
    assert!(run.stderr.contains("(config-differs)"), "{}", run.stderr);
    assert!(shop.bed.registry.writes().is_empty(), "{:?}", shop.bed.registry.writes());
    assert_eq!(rebuilder.vote(&release), "missing");
    rebuilder.rebuild(&["refs/tags/v*", AMD64.1, "--record-dissent"]).exits(0);
    assert_eq!(rebuilder.vote(&release), "dissent signed-dissent");
}

#[test]
fn a_rebuilder_takes_the_newest_version_and_builds_nothing_before_there_is_a_candidate() {
    let rebuilder = Rebuilder::new();
    let old = rebuilder.commit("v1.9.0");
    let new = rebuilder.commit("v1.10.0");
    rebuilder.candidate(&old);
    rebuilder.builds(&new);
    let absent = rebuilder.rebuild(&["refs/tags/v*", AMD64.1]).exits(2);
    assert!(absent.stderr.contains(&format!("git-{new}")), "{}", absent.stderr);
    assert_eq!(rebuilder.asked_of_nix(), Vec::<String>::new());
    let release = rebuilder.candidate(&new);
    rebuilder.rebuild(&["refs/tags/v*", AMD64.1]).exits(0);
    assert_eq!(rebuilder.vote(&release), "counted");
    // A version comes after what was a candidate for it, and before what is one for the next.
    for version in ["v2.0.0-rc.1", "v2.0.0", "v2.1.0-rc.1"] {
        let commit = rebuilder.commit(version);
        let next = rebuilder.rebuild(&["refs/tags/v*", AMD64.1]).exits(2);
        assert!(next.stderr.contains(&format!("git-{commit}")), "{version}: {}", next.stderr);
    }

    // What cannot be found out is no answer.
    rebuilder.shop.bed.registry.clear_log();
    assert_eq!(rebuilder.rebuild(&["refs/tags/w*", AMD64.1]).code, 3);
    fs::rename(rebuilder.shop.path("project"), rebuilder.shop.path("moved")).unwrap();
    assert_eq!(rebuilder.rebuild(&["refs/tags/v*", AMD64.1]).code, 3);
    assert!(rebuilder.rebuild(&["refs/heads/main", AMD64.1]).code > 2);
    assert!(rebuilder.shop.bed.registry.log().is_empty());
}

/// The lines of an example that are neither empty nor a comment.
fn lines(file: &Path) -> usize {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).count()
}

#[test]
fn lines_are_counted_as_the_page_says() {
    let page = fs::read_to_string(example("README.md")).unwrap();
    let mut rows = 0;
    for row in page.lines().filter(|line| line.starts_with("| [")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells[1].split(['[', ']']).nth(1).unwrap();
        let files: Vec<&str> = cells[4].split('`').skip(1).step_by(2).collect();
        let counted: usize = files.iter().map(|file| lines(&example(name).join(file))).sum();
        assert_eq!(cells[3].parse(), Ok(counted), "{row}");
        rows += 1;
    }
    assert_eq!(rows, 5);
}

/// The values under `with:` of the step or job that uses something.
fn with(workflow: &str, uses: &str) -> BTreeMap<String, String> {
    let mut lines = workflow.lines().skip_while(|line| !(line.contains("uses: ") && line.contains(uses)));
    lines.next().unwrap_or_else(|| panic!("nothing uses {uses}"));
    let head = lines.next().unwrap();
    assert_eq!(head.trim(), "with:", "{uses}");
    let depth = |line: &str| line.len() - line.trim_start().len();
    let values = lines.take_while(|line| depth(line) > depth(head));
    let pair = |line: &str| line.trim().split_once(": ").map(|(name, value)| (name.into(), value.into()));
    values.map(|line| pair(line).unwrap()).collect()
}

/// The inputs that a workflow or an action of this repository has, and whether each must be given.
fn inputs(file: &str) -> BTreeMap<String, bool> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let mut lines = text.lines().skip_while(|line| line.trim() != "inputs:");
    let depth = |line: &str| line.len() - line.trim_start().len();
    let head = depth(lines.next().unwrap());
    let mut inputs: Vec<(String, bool)> = Vec::new();
    for line in lines.filter(|line| !line.is_empty()).take_while(|line| depth(line) > head) {
        if depth(line) == head + 2 {
            inputs.push((line.trim().trim_end_matches(':').to_owned(), false));
        } else if line.trim() == "required: true" {
            inputs.last_mut().unwrap().1 = true;
        }
    }
    assert!(inputs.len() > 5, "{file}: {inputs:?}");
    inputs.into_iter().collect()
}

#[test]
fn examples_give_the_inputs_that_are_asked_for() {
    for (page, uses, file) in [
        ("web-portfolio/main.yml", "images.yml", ".github/workflows/images.yml"),
        ("web-portfolio/main.yml", "release.yml", ".github/workflows/release.yml"),
        ("toolbox/nix.yml", "images.yml", ".github/workflows/images.yml"),
        ("toolbox/nix.yml", "release.yml", ".github/workflows/release.yml"),
        ("forgejo/build.yml", ".forgejo/actions/image", ".forgejo/actions/image/action.yml"),
    ] {
        let given = with(&fs::read_to_string(example(page)).unwrap(), uses);
        let known = inputs(file);
        for name in given.keys() {
            assert!(known.contains_key(name), "{page}: {file} has no input `{name}`");
        }
        for (name, required) in known {
            assert!(!required || given.contains_key(&name), "{page}: {file} wants `{name}`");
        }
    }
}

/// A project whose releases are those of an example, on loopback.
struct Project {
    shop: Shop,
    github: Issuer,
    fulcio: Fulcio,
    policy: String,
}

impl Project {
    /// The policy of the example, with the registry of the shop in the place of `registry`; each
    /// builder that has a key gets one that the shop made.
    fn new(name: &str, registry: &str) -> Self {
        let shop = Shop::open();
        let github = Issuer::start("https://token.actions.githubusercontent.com");
        let fulcio = Fulcio::start(&[&github]);
        let root = keyless_root(&[&shop.bed.log], &[], &[&shop.bed.tsa], &[&fulcio]);
        shop.write("root.json", root.to_string());
        let policy = fs::read_to_string(example(name).join("quorate.toml")).unwrap();
        for key in policy.lines().filter_map(|line| line.strip_prefix("key = \"")?.strip_suffix(".pub\"")) {
            if !shop.path(&format!("{key}.key")).exists() {
                shop.quorate(&["key", "generate", &format!("{key}.key")]).exits(0);
            }
            fs::copy(shop.path(&format!("{key}.key.pub")), shop.path(&format!("{key}.pub"))).unwrap();
        }
        let policy = policy.replace(registry, &shop.host());
        shop.write("quorate.toml", &policy);
        shop.quorate(&["policy", "check", "quorate.toml"]).exits(0);
        Self { shop, github, fulcio, policy }
    }

    /// What the policy says of its sources.
    fn source(&self) -> &str {
        let line = self.policy.lines().find(|line| line.starts_with("sources = ")).unwrap();
        line.split('"').nth(1).unwrap()
    }

    fn run(&self, words: &[&str], more: &[(&str, &str)]) -> Run {
        let mut command = self.shop.command(words);
        command
            .env("QUORATE_FULCIO_URL", self.fulcio.url())
            .env("QUORATE_NO_INFER", "true")
            .env("QUORATE_SEQUENCE", "1763700000")
            .env("QUORATE_SOURCE_URI", self.source())
            .env("QUORATE_REF", "refs/heads/main")
            .envs(more.iter().copied());
        if words[0] == "attest" {
            command.args(["--commit", COMMIT]);
        }
        Run::of(&mut command)
    }

    /// What a build for both systems leaves.
    fn build(&self) {
        for (architecture, system) in [AMD64, ARM64] {
            let built = build(architecture, "hello").docker_archive();
            self.shop.write(&format!("result-{system}"), built);
        }
    }

    fn named(&self, reference: &str) -> Option<String> {
        let run = self.shop.quorate(&["resolve", reference]);
        (run.code == 0).then(|| run.stdout.trim().to_owned())
    }

    /// What `images.yml` and `release.yml` do for a caller of theirs, with what the caller gives
    /// them, until the second builder has voted as well.
    fn releases(&self, images: &BTreeMap<String, String>, release: &BTreeMap<String, String>, other: &str) {
        let repository = format!("{}/{}/{}", self.shop.host(), images["namespace"], images["image-name"]);
        assert_eq!(
            (&images["namespace"], &images["image-name"]),
            (&release["namespace"], &release["image-name"])
        );
        self.build();
        let project = self.source().strip_prefix("git+https://github.com/").unwrap();
        let mut job = github_job(project, "main.yml", "refs/heads/main", COMMIT);
        job["job_workflow_ref"] = "OWNER/quorate/.github/workflows/images.yml@COMMIT".into();
        let candidate = format!("{repository}:git-{COMMIT}");
        let policy = images["policy"].as_str();
        let descriptors = format!("descriptors-{}", images["image-name"]);
        let target = images["package-name"].as_str();
        for (_, system) in [AMD64, ARM64] {
            let result = format!("result-{system}");
            let words = ["push", &result, &repository, "--tag-commit", COMMIT, "--suffix", "arch"];
            let more = ["--policy", policy, "--descriptor", &descriptors, "-o", "json"];
            let pushed = self.run(&[&words[..], &more].concat(), &[]).exits(0).json();
            let pushed = format!("{repository}@{}", pushed["image"]["digest"].as_str().unwrap());
            let token = self.github.token(&job);
            let words = ["attest", &pushed, "--builder", &images["builder"], "--identity-token", "env:TOKEN"];
            let more = ["--result", &result, "--system", system, "--target", target];
            self.run(&[&words[..], &more].concat(), &[("TOKEN", &token)]).exits(0);
        }
        let words = ["assemble", &candidate, "--descriptor", &descriptors, "--policy", policy];
        self.run(&words, &[]).exits(0);
        let index = self.named(&candidate).unwrap();
        let promote = ["promote", &candidate, "--tag", &release["tags"], "--expect-commit", COMMIT];

        // One party is not enough, however many platforms it built.
        self.shop.bed.registry.clear_log();
        self.run(&promote, &[]).exits(1).says("the quorum is not met");
        assert!(self.shop.bed.registry.writes().is_empty());
        assert_eq!(self.named(&format!("{repository}:{}", release["tags"])), None);

        for (_, system) in [AMD64, ARM64] {
            let (key, result) = (format!("{other}.key"), format!("result-{system}"));
            let words = ["attest", &candidate, "--builder", other, "--key", &key];
            let more = ["--result", &result, "--system", system, "--target", target];
            self.run(&[&words[..], &more].concat(), &[]).exits(0);
        }
        self.run(&promote, &[]).exits(0);
        assert_eq!(self.named(&format!("{repository}:{}", release["tags"])), Some(index));
    }
}

#[test]
fn web_portfolio_is_released_when_a_machine_at_home_got_the_same() {
    let workflow = fs::read_to_string(example("web-portfolio/main.yml")).unwrap();
    let project = Project::new("web-portfolio", "ghcr.io");
    project.releases(&with(&workflow, "images.yml"), &with(&workflow, "release.yml"), "home");
}

#[test]
fn each_image_of_toolbox_is_released_by_itself() {
    let workflow = fs::read_to_string(example("toolbox/nix.yml")).unwrap();
    assert_eq!(workflow.matches("image: [zeus, ci]").count(), 2, "what is built is released");
    let project = Project::new("toolbox", "ghcr.io");
    for image in ["zeus", "ci"] {
        let workflow = workflow.replace("${{ matrix.image }}", image);
        let images = with(&workflow, "images.yml");
        assert_eq!(images["package-name"], format!("{image}-image"));
        project.releases(&images, &with(&workflow, "release.yml"), "office");
    }
}

#[test]
fn the_forge_moves_a_tag_when_a_friend_agrees() {
    let project = Project::new("forgejo", "git.toph.so");
    let workflow = fs::read_to_string(example("forgejo/build.yml")).unwrap();
    let workflow = workflow.replace("git.toph.so", &project.shop.host()).replace("${{ github.sha }}", COMMIT);
    let image = with(&workflow, ".forgejo/actions/image");
    let repository = format!("{}/{}", project.shop.host(), image["image-name"]);
    // What the action does.
    project.build();
    let words = [
        "push",
        "result-x86_64-linux",
        &repository,
        "--tag",
        &image["image-tag"],
        "--suffix",
        &image["suffix"],
    ];
    project.run(&words, &[]).exits(0);
    let candidate = format!("{repository}:{}", image["image-tag"]);
    let attest = |builder: &str| {
        let (key, image) = (format!("{builder}.key"), format!("{candidate}-amd64"));
        let words = ["attest", &image, "--builder", builder, "--key", &key, "--system", AMD64.1];
        project.run(&[&words[..], &["--result", "result-x86_64-linux"]].concat(), &[]).exits(0);
    };
    attest(&image["builder"]);
    // What stands under `run:`.
    let lines: Vec<&str> = workflow.lines().filter_map(|line| line.trim().strip_prefix("- run: ")).collect();
    let [assemble, promote] = lines[..] else { panic!("{lines:?}") };
    let shell = |line: &str| {
        let mut command = project.shop.script("/bin/sh".as_ref(), &["-euc", line]);
        command.env("CANDIDATE", &candidate).env("COMMIT", COMMIT);
        Run::of(&mut command)
    };
    shell(assemble).exits(0);
    let at_once = promote.strip_suffix(" --wait 1h").unwrap();
    shell(at_once).exits(1).says("the quorum is not met");
    assert_eq!(project.named(&format!("{repository}:main")), None);
    attest("friend");
    shell(promote).exits(0);
    assert_eq!(project.named(&format!("{repository}:main")), project.named(&candidate));
}

#[test]
fn nix_seed_wants_two_jurisdictions() {
    let project = Project::new("nix-seed", "ghcr.io");
    let image = format!("{}/0compute/nix-seed", project.shop.host());
    project.build();
    let script = |name: &str, words: &[&str], builder: &str| {
        let mut command = project.shop.script(&example("nix-seed").join(name), words);
        command
            .env("REGISTRY_USER", "user")
            .env("REGISTRY_PASS", "password")
            .env("DEADLINE", "1s")
            .env("QUORATE_NO_INFER", "true")
            .env("QUORATE_SEQUENCE", "1763700000")
            .env("QUORATE_SOURCE_URI", project.source())
            .env("QUORATE_BUILDER", builder)
            .env("QUORATE_KEY", format!("{builder}.key"))
            .env_remove("QUORATE_POLICY");
        Run::of(&mut command)
    };
    let publish = |builder: &str| {
        for (_, system) in [AMD64, ARM64] {
            fs::copy(project.shop.path(&format!("result-{system}")), project.shop.path("result")).unwrap();
            script("publish", &[&image, COMMIT, system], builder).exits(0);
        }
    };
    publish("github");
    publish("gitlab");
    let run = script("promote", &[&image, COMMIT], "").exits(1);
    assert!(run.stderr.contains("each of another jurisdiction: scaleway can"), "{}", run.stderr);
    assert_eq!(project.named(&format!("{image}:latest")), None);
    publish("scaleway");
    script("promote", &[&image, COMMIT], "").exits(0);
    assert_eq!(project.named(&format!("{image}:latest")), project.named(&format!("{image}:git-{COMMIT}")));
}

/// Its flake is evaluated in `tests/peers/nix.rs`.
#[test]
fn the_policy_of_jackpkgs_loads() {
    assert_eq!(
        Project::new("jackpkgs", "us-east1-docker.pkg.dev").source(),
        "git+https://github.com/addendalabs/yard"
    );
}

#[test]
fn links_of_the_pages_lead_somewhere() {
    for page in ["", "web-portfolio", "toolbox", "jackpkgs", "nix-seed", "forgejo"] {
        let folder = example(page);
        let text = fs::read_to_string(folder.join("README.md")).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let links: Vec<&str> = links.collect();
        assert!(!links.is_empty(), "{page}");
        for link in links {
            assert!(folder.join(link).exists(), "{page}: {link}");
        }
    }
}
