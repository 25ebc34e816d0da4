//! The examples do what their pages say, as far as that can be without a CI service.

#![cfg(all(feature = "cli", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use shop::{AMD64, ARM64, Release, Run, Shop, build, cell};

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
                   [ \"$1 $3\" = 'build --out-link' ]\ncp \"$HOME/built\" \"$4\"\n";
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
            .env("SOURCE", self.shop.path("project"))
            .env("IMAGE", self.shop.repository())
            .env("ATTRIBUTE", "imagesBySystem.SYSTEM.app")
            .env("QUORATE_BUILDER", "basement")
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
        ["build .#imagesBySystem.x86_64-linux.app --out-link ../result --no-update-lock-file --option \
          accept-flake-config false"]
    );
    // An hour later.
    shop.bed.registry.clear_log();
    rebuilder.rebuild(&["refs/heads/main", AMD64.1]).exits(0);
    assert!(shop.bed.registry.writes().is_empty(), "{:?}", shop.bed.registry.writes());
    // With another builder that says the same, one platform has its quorum.
    let hash = shop.quorate(&["nar-hash", "built"]).exits(0).stdout;
    for (_, system) in [AMD64, ARM64] {
        let said = ["--commit", &commit, "--sequence", "1763700000", "--nar-hash", hash.trim()];
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

    // What cannot be found out is no answer.
    rebuilder.shop.bed.registry.clear_log();
    assert_eq!(rebuilder.rebuild(&["refs/tags/w*", AMD64.1]).code, 3);
    fs::rename(rebuilder.shop.path("project"), rebuilder.shop.path("moved")).unwrap();
    assert_eq!(rebuilder.rebuild(&["refs/tags/v*", AMD64.1]).code, 3);
    assert!(rebuilder.rebuild(&["refs/heads/main", AMD64.1]).code > 2);
    assert!(rebuilder.shop.bed.registry.log().is_empty());
}
