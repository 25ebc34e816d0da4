//! Running the `quorate` binary as a project would, with its keys, its policy and its builds.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use quorate_bed::image::{self, Image};
use quorate_bed::{Log, Tsa, trusted_root};
use serde_json::Value;
use tempfile::TempDir;

use crate::registries::Registry;

/// The commit that is released.
pub(crate) const COMMIT: &str = "5f1c2d9e8b7a6f5e4d3c2b1a09f8e7d6c5b4a392";
/// The committer time of that commit.
pub(crate) const SEQUENCE: &str = "1763700000";
/// Whose images they are.
pub(crate) const OWNER: &str = "acme";
/// The repository within the registry.
pub(crate) const REPOSITORY: &str = "acme/app";
/// The architectures of the release and the Nix systems they are built on.
pub(crate) const ARCHITECTURES: [(&str, &str); 2] = [("amd64", "x86_64-linux"), ("arm64", "aarch64-linux")];
/// The builders of the policy and their operators.
pub(crate) const BUILDERS: [(&str, &str); 3] =
    [("github", "GitHub"), ("garnix", "Garnix"), ("basement", "Acme")];

/// A project in a scratch folder, with a log and a timestamp authority of its own.
pub(crate) struct Project {
    folder: TempDir,
    registry: String,
    /// What `quorate` is told beyond what holds for every project.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// Its log.
    pub(crate) log: Log,
    /// Its timestamp authority.
    pub(crate) tsa: Tsa,
}

impl Project {
    /// A project whose images lie in the registry at `host`, with keys for all builders and a
    /// policy that wants two of them.
    pub(crate) fn new(host: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = Self {
            folder,
            registry: host.to_owned(),
            environment: Vec::new(),
            log: Log::start(),
            tsa: Tsa::start(),
        };
        let root = trusted_root(&[&project.log], &[&project.tsa]);
        fs::write(project.path("trusted_root.json"), root.to_string()).unwrap();
        let mut policy = format!(
            "version = 1\n\n[[image]]\nrepository = \"{}\"\n\
             platforms = [\"linux/amd64\", \"linux/arm64\"]\nquorum = 2\n",
            project.image()
        );
        for (name, operator) in BUILDERS {
            project.run(0, &["key", "generate", &format!("{name}.key")]);
            let _ = write!(
                policy,
                "\n[[builder]]\nname = \"{name}\"\noperator = \"{operator}\"\nkey = \"{name}.key.pub\"\n"
            );
        }
        fs::write(project.path("quorate.toml"), policy).unwrap();
        project
    }

    /// The same, logged in to that registry, and trusting its certificate.
    pub(crate) fn at(registry: &Registry) -> Self {
        let mut project = Self::new(registry.host());
        fs::write(project.login(), registry.login()).unwrap();
        let ca_file = registry.trusted().map(|folder| ("QUORATE_CA_FILE", folder.join("ca.crt").into()));
        let proxy = registry.proxy.as_ref().map(|proxy| ("HTTPS_PROXY", proxy.into()));
        project.environment = ca_file.into_iter().chain(proxy).collect();
        project
    }

    /// The file of `docker login`.
    pub(crate) fn login(&self) -> PathBuf {
        self.path("config.json")
    }

    /// `HOST/acme/app`.
    pub(crate) fn image(&self) -> String {
        format!("{}/{REPOSITORY}", self.registry)
    }

    /// `HOST/acme/app:git-COMMIT`, the candidate of the release.
    pub(crate) fn candidate(&self) -> String {
        format!("{}:{}", self.image(), candidate_tag())
    }

    /// Pushes an image of one architecture under `name`, and an index around it; what was built, and
    /// the name of the index.
    pub(crate) fn pushed(&self, name: &str) -> (Build, String) {
        let (architecture, _) = ARCHITECTURES[0];
        let build = Build::new(&self.path(""), architecture, name);
        let image = format!("{}:{name}", self.image());
        build.image.push(&self.registry, REPOSITORY, &format!("{name}-{architecture}")).unwrap();
        self.json(0, &["assemble", &image, &format!("{image}-{architecture}")]);
        (build, image)
    }

    /// A file of the project.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `quorate -o json`, checks the exit code, and returns the document.
    pub(crate) fn json(&self, code: i32, arguments: &[&str]) -> Value {
        document(&expect(code, self.command(arguments).args(["-o", "json"])))
    }

    /// One builder attests what it built for one system.
    pub(crate) fn attest(
        &self,
        code: i32,
        image: &str,
        builder: &str,
        system: &str,
        built: &Build,
        more: &[&str],
    ) -> Value {
        let mut command = self.attesting(image, builder, system, built);
        document(&expect(code, command.args(more).args(["-o", "json"])))
    }

    /// The command of that.
    pub(crate) fn attesting(&self, image: &str, builder: &str, system: &str, built: &Build) -> Command {
        let mut command = self.command(&["attest", image, "--builder", builder]);
        command
            .args(["--key", &format!("{builder}.key"), "--config-digest", &built.image.config_digest])
            .args(["--system", system, "--commit", COMMIT, "--sequence", SEQUENCE, "--result"])
            .arg(&built.result);
        command
    }

    /// Runs `quorate`, checks the exit code, and returns what it printed.
    pub(crate) fn run(&self, code: i32, arguments: &[&str]) -> Vec<u8> {
        expect(code, &mut self.command(arguments))
    }

    /// `quorate` with the settings of this project.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = quorate();
        command
            .args(arguments)
            .current_dir(self.folder.path())
            // The credentials of whoever runs the tests are no part of them.
            .env("DOCKER_CONFIG", self.folder.path())
            .env("HOME", self.folder.path())
            .env_remove("GITHUB_TOKEN")
            .env("QUORATE_POLICY", self.path("quorate.toml"))
            .env("QUORATE_TRUSTED_ROOT", self.path("trusted_root.json"))
            .env("QUORATE_REKOR_URL", self.log.url())
            .env("QUORATE_TSA_URL", self.tsa.url())
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Runs a command, checks the exit code, and returns what it printed.
fn expect(code: i32, command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "the exit code of {command:?}\n{}", said(&output));
    output.stdout
}

fn document(stdout: &[u8]) -> Value {
    serde_json::from_slice(stdout).unwrap_or_else(|error| panic!("no JSON: {error}\n{}", text(stdout)))
}

/// The tag of the candidate.
pub(crate) fn candidate_tag() -> String {
    format!("git-{}", &COMMIT[..12])
}

/// The binary, with nothing of this process's settings.
pub(crate) fn quorate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("QUORATE_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a peer that must succeed, and returns what it printed.
pub(crate) fn succeed(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", said(&output));
    output.stdout
}

/// Everything a program said.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a builder has after a build: the image, and the store path it came from.
pub(crate) struct Build {
    /// The image.
    pub(crate) image: Image,
    /// The path whose narHash is attested.
    pub(crate) result: PathBuf,
}

impl Build {
    /// Builds the program for one architecture, with a message in it, below `folder`.
    pub(crate) fn new(folder: &Path, architecture: &str, message: &str) -> Self {
        let program = image::minimal_elf(architecture);
        let result = folder.join(format!("result-{message}-{architecture}"));
        fs::create_dir_all(result.join("bin")).unwrap();
        fs::write(result.join("bin/app"), &program).unwrap();
        fs::write(result.join("message"), message).unwrap();
        let files: [(&str, &[u8], u32); 2] =
            [("bin/app", &program, 0o755), ("message", message.as_bytes(), 0o644)];
        Self { image: Image::build("linux", architecture, None, &files), result }
    }

    /// Writes the image as an OCI image layout, with `app` as its name in there.
    pub(crate) fn layout(&self, folder: &Path) {
        let Image { layer, config, manifest, .. } = &self.image;
        layout(folder, &[layer, config, manifest], image::MANIFEST, manifest);
    }
}

/// Writes an OCI image layout of these blobs, one of which gets the name `app`.
pub(crate) fn layout(folder: &Path, blobs: &[&[u8]], media_type: &str, named: &[u8]) {
    let place = folder.join("blobs/sha256");
    fs::create_dir_all(&place).unwrap();
    for bytes in blobs {
        fs::write(place.join(image::digest(bytes).trim_start_matches("sha256:")), bytes).unwrap();
    }
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": media_type,
            "digest": image::digest(named),
            "size": named.len(),
            "annotations": {"org.opencontainers.image.ref.name": "app"},
        }],
    });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
}
