//! A scratch folder with keys and a policy, servers on loopback, and the binary.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod schema;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use quorate_bed::image::{self, Image};
use quorate_bed::{Bed, RegistryOptions, client};
use serde_json::Value;

pub const COMMIT: &str = "5f1c2d9e8b7a6f5e4d3c2b1a09f8e7d6c5b4a392";
pub const OTHER_COMMIT: &str = "00aa2d9e8b7a6f5e4d3c2b1a09f8e7d6c5b4a392";
/// The issuers of CI jobs, as certificates name them.
pub const GITHUB: &str = "https://token.actions.githubusercontent.com";
pub const GITLAB: &str = "https://gitlab.com";
/// Where jobs build from.
pub const SOURCE: &str = "git+https://github.com/acme/app";
pub const MAIN: &str = "refs/heads/main";
pub const AMD64: (&str, &str) = ("amd64", "x86_64-linux");
pub const ARM64: (&str, &str) = ("arm64", "aarch64-linux");
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub const NAR_HASH: &str = "sha256-pQpattmS9VmO3ZIQUFn66az8GSmB4IvYhTTCFn6SUmo=";

/// What a run of the binary came to.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Runs a command to its end.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        Self::from(command.stdin(Stdio::null()).output().expect("it runs"))
    }

    /// Waits for the end of what was started; both of its outputs are pipes.
    #[track_caller]
    pub fn finished(child: Child) -> Self {
        Self::from(child.wait_with_output().unwrap())
    }

    /// The JSON that was printed; it must be as its published schema says.
    #[track_caller]
    pub fn json(&self) -> Value {
        let document = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}\nstdout: {}\nstderr: {}", self.stdout, self.stderr));
        if let Err(why) = schema::check(&schema::file_of(&document), &document) {
            panic!("{why}\nstdout: {}", self.stdout);
        }
        document
    }

    /// Asserts the exit code; shows everything where it differs.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts that stderr has `error:` first, and `text` somewhere.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.starts_with("error: "), "no `error:` first: {}", self.stderr);
        assert!(self.stderr.contains(text), "{text:?} is not in: {}", self.stderr);
        self
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub struct Shop {
    pub bed: Bed,
    folder: tempfile::TempDir,
}

impl Shop {
    /// Servers, a trusted root, keys of three builders, and a policy that wants two of them.
    pub fn new(options: RegistryOptions) -> Self {
        Self::on(Bed::start(options))
    }

    /// The same with servers of one's own.
    pub fn on(bed: Bed) -> Self {
        let shop = Self { bed, folder: tempfile::tempdir().unwrap() };
        shop.write("root.json", shop.bed.trusted_root().to_string());
        for builder in ["github", "garnix", "basement"] {
            shop.quorate(&["key", "generate", &format!("{builder}.key")]).exits(0);
        }
        shop.write("quorate.toml", shop.policy(2));
        shop
    }

    pub fn open() -> Self {
        Self::new(RegistryOptions::default())
    }

    /// A shop with forward-only tags `f*` and immutable `v*`: `f1` and `f2` name the first release,
    /// and there is a second one. `more` are options of the promotion.
    pub fn with_forward_tags(more: &[&str]) -> (Self, Release, Release) {
        let shop = Self::open();
        let rules = "[[image.tag]]\nname = \"f*\"\nrule = \"forward\"\n\n\
                     [[image.tag]]\nname = \"v*\"\nrule = \"immutable\"\n\n[[builder]]";
        shop.write("quorate.toml", shop.policy(2).replacen("[[builder]]", rules, 1));
        let (first, second) = (shop.agreed("git-1", "1"), shop.agreed("git-2", "2"));
        shop.quorate(&[&["promote", &first.reference, "--tag", "f1,f2"], more].concat()).exits(0);
        (shop, first, second)
    }

    pub fn host(&self) -> String {
        self.bed.registry.host()
    }

    /// The repository that the policy is for.
    pub fn repository(&self) -> String {
        format!("{}/acme/app", self.host())
    }

    /// A reference in that repository.
    pub fn at(&self, tag: &str) -> String {
        format!("{}:{tag}", self.repository())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub fn policy(&self, quorum: u32) -> String {
        let builder = |name: &str, operator: &str| {
            format!("\n[[builder]]\nname = \"{name}\"\noperator = \"{operator}\"\nkey = \"{name}.key.pub\"\n")
        };
        format!(
            "version = 1\n\n[[image]]\nrepository = \"{}\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
             quorum = {quorum}\n{}{}{}",
            self.repository(),
            builder("github", "GitHub"),
            builder("garnix", "Garnix"),
            builder("basement", "Acme")
        )
    }

    /// Runs the binary in the scratch folder, with the servers in its environment.
    pub fn quorate(&self, arguments: &[&str]) -> Run {
        self.quorate_with(arguments, &[])
    }

    pub fn quorate_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        Run::of(self.command(arguments).envs(environment.iter().copied()))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_quorate").as_ref(), arguments)
    }

    /// Another program in the same place: a script, which finds `quorate` on its `PATH`.
    pub fn script(&self, script: &Path, arguments: &[&str]) -> Command {
        let mut command = self.program(script, arguments);
        let ours = Path::new(env!("CARGO_BIN_EXE_quorate")).parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = [ours].into_iter().chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(all).unwrap());
        command
    }

    fn program(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORATE_") {
                command.env_remove(name);
            }
        }
        command
            .env("QUORATE_POLICY", "quorate.toml")
            .env("QUORATE_TRUSTED_ROOT", "root.json")
            .env("QUORATE_REKOR_URL", self.bed.log.url())
            .env("QUORATE_TSA_URL", self.bed.tsa.url())
            // The credentials of whoever runs the tests are no part of them.
            .env("DOCKER_CONFIG", self.folder.path())
            .env("HOME", self.folder.path())
            .env_remove("XDG_CACHE_HOME")
            .env_remove("GITHUB_TOKEN")
            // A CI job that runs the tests is not told of what they do.
            .env_remove("GITHUB_ACTIONS")
            .env_remove("GITLAB_CI")
            .env_remove("BUILDKITE")
            .env_remove("CIRCLECI")
            .env_remove("FORGEJO_ACTIONS")
            .env_remove("GITEA_ACTIONS")
            .env_remove("ACTIONS_ID_TOKEN_REQUEST_URL")
            .env_remove("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
            .env_remove("SIGSTORE_ID_TOKEN")
            .env_remove("CIRCLE_OIDC_TOKEN_V2")
            .env_remove("DOCKER_METADATA_OUTPUT_JSON");
        command
    }

    /// Pushes the image of one architecture; `message` makes its content.
    pub fn push(&self, tag: &str, architecture: &str, message: &str) -> Image {
        let image = build(architecture, message);
        image.push_as(self.bed.registry.authorization().as_deref(), &self.host(), "acme/app", tag).unwrap();
        image
    }

    /// Pushes both architectures under `candidate-…` tags and assembles them.
    pub fn release(&self, candidate: &str, message: &str) -> Release {
        let images = [AMD64, ARM64].map(|(architecture, _)| {
            self.push(&format!("{candidate}-{architecture}"), architecture, message)
        });
        let [amd64, arm64] =
            [AMD64, ARM64].map(|(architecture, _)| self.at(&format!("{candidate}-{architecture}")));
        let run = self.quorate(&["assemble", &self.at(candidate), &amd64, &arm64, "-o", "json"]).exits(0);
        let digest = run.json()["image"]["digest"].as_str().unwrap().to_owned();
        Release { reference: self.at(candidate), digest, images }
    }

    /// The same where the policy governs every tag: the index goes by digest alone.
    pub fn release_unruled(&self, name: &str) -> Release {
        let images = [AMD64, ARM64]
            .map(|(architecture, _)| self.push(&format!("{name}-{architecture}"), architecture, name));
        let [amd64, arm64] =
            [AMD64, ARM64].map(|(architecture, _)| self.at(&format!("{name}-{architecture}")));
        let run = self.quorate(&["assemble", &self.repository(), &amd64, &arm64, "-o", "json"]).exits(0);
        let digest = run.json()["image"]["digest"].as_str().unwrap().to_owned();
        Release { reference: format!("{}@{digest}", self.repository()), digest, images }
    }

    /// `attest` as one builder does for one platform, with whatever more is given.
    pub fn attest(&self, release: &Release, builder: &str, system: &str, more: &[&str]) -> Run {
        let image = &release.images[usize::from(system == ARM64.1)];
        self.attest_as(&release.reference, builder, system, &image.config_digest, more)
    }

    pub fn attest_as(&self, image: &str, builder: &str, system: &str, config: &str, more: &[&str]) -> Run {
        let key = format!("{builder}.key");
        let mut arguments = vec![
            "attest",
            image,
            "--builder",
            builder,
            "--key",
            &key,
            "--system",
            system,
            "--config-digest",
            config,
        ];
        for (name, value) in [("--commit", COMMIT), ("--sequence", "1763700000"), ("--nar-hash", NAR_HASH)] {
            if !more.contains(&name) {
                arguments.extend([name, value]);
            }
        }
        arguments.extend(more);
        self.quorate(&arguments)
    }

    /// Both platforms, attested by each builder.
    pub fn attest_all(&self, release: &Release, builders: &[&str]) {
        for builder in builders {
            for (_, system) in [AMD64, ARM64] {
                self.attest(release, builder, system, &[]).exits(0);
            }
        }
    }

    /// A release that two builders agree on; that of sequence 1 is of another commit than the others.
    pub fn agreed(&self, name: &str, sequence: &str) -> Release {
        let release = self.release(name, name);
        let commit = if sequence == "1" { COMMIT } else { OTHER_COMMIT };
        for builder in ["github", "garnix"] {
            for (_, system) in [AMD64, ARM64] {
                self.attest(&release, builder, system, &["--sequence", sequence, "--commit", commit])
                    .exits(0);
            }
        }
        release
    }

    /// The digest that a tag names, asked behind the binary's back.
    pub fn named(&self, tag: &str) -> Option<String> {
        let answer = client::manifest(&self.host(), "acme/app", tag).unwrap();
        (answer.status == 200).then(|| image::digest(&answer.body))
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// An index that was assembled, and the images in it.
pub struct Release {
    pub reference: String,
    pub digest: String,
    /// amd64, arm64.
    pub images: [Image; 2],
}

/// The same image with its layer compressed with zstd.
pub fn zstd(image: &Image) -> Image {
    let fastest = ruzstd::encoding::CompressionLevel::Fastest;
    image.with_layer(ruzstd::encoding::compress_to_vec(&image.layer[..], fastest), LAYER_ZSTD)
}

pub fn build(architecture: &str, message: &str) -> Image {
    // For an architecture without a program of its own, any will do: nothing runs it.
    let program = image::minimal_elf(if architecture == "arm64" { "arm64" } else { "amd64" });
    Image::build(
        "linux",
        architecture,
        None,
        &[("bin/app", &program, 0o755), ("message", message.as_bytes(), 0o644)],
    )
}

/// The status and reason of one cell of a verdict's JSON.
pub fn cell(document: &Value, platform: &str, builder: &str) -> String {
    let row =
        document["platforms"].as_array().unwrap().iter().find(|row| row["platform"] == platform).unwrap();
    let cell = row["cells"].as_array().unwrap().iter().find(|cell| cell["builder"] == builder).unwrap();
    match cell["reason"].as_str() {
        Some(reason) => format!("{} {reason}", cell["status"].as_str().unwrap()),
        None => cell["status"].as_str().unwrap().to_owned(),
    }
}
