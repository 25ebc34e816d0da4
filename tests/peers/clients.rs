//! Clients of registries that nobody here wrote, with no settings of this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::peers::Peer;
use crate::project::{Project, succeed};
use crate::registries::Registry;

/// The clients that put an index together.
pub(crate) const ASSEMBLERS: [Peer; 6] =
    [Peer::Crane, Peer::Regctl, Peer::Oras, Peer::ManifestTool, Peer::Buildah, Peer::Buildx];

/// A client, for the repositories of one registry that speaks plain http.
pub(crate) struct Client {
    peer: Peer,
    program: PathBuf,
    home: PathBuf,
}

impl Client {
    /// The client keeps what it keeps in the folder `home`, where the login is, in `config.json`.
    pub(crate) fn new(peer: Peer, program: &Path, home: &Path) -> Self {
        Self { peer, program: program.to_owned(), home: home.to_owned() }
    }

    /// Runs that end with an index of `images` at `target`. An image is a platform
    /// (`linux/arm/v7`) and a reference whose tag ends in its architecture and variant (`-armv7`).
    pub(crate) fn assemble(&self, target: &str, images: &[(&str, &str)]) -> Vec<Command> {
        let sources = images.iter().map(|(_, source)| *source);
        let Some((repository, tag)) = target.rsplit_once(':') else { return Vec::new() };
        let mut command = self.command(repository);
        match self.peer {
            Peer::Crane => {
                command.args(["index", "append", "--tag", target]);
                command.args(sources.flat_map(|source| ["--manifest", source]));
            }
            Peer::Regctl => {
                command.args(["index", "create", target]);
                command.args(sources.flat_map(|source| ["--ref", source]));
            }
            Peer::Oras => {
                command.args(["manifest", "index", "create", "--plain-http", target]);
                command.args(sources.filter_map(|source| Some(source.rsplit_once(':')?.1)));
            }
            Peer::ManifestTool => {
                let platforms: Vec<_> = images.iter().map(|(platform, _)| *platform).collect();
                command.args(["push", "--type", "oci", "from-args", "--target", target]);
                let stem = images.first().and_then(|(_, source)| source.rsplit_once('-'));
                command.args(["--template", &format!("{}-ARCHVARIANT", stem.unwrap_or_default().0)]);
                command.args(["--platforms", &platforms.join(",")]);
            }
            Peer::Buildx => {
                command.args(["imagetools", "create", "--tag", target]).args(sources);
            }
            Peer::Buildah => {
                let run = |arguments: &[&str]| {
                    let mut command = self.command(repository);
                    command.arg("manifest").args(arguments);
                    command
                };
                let add = |source| run(&["add", "--tls-verify=false", tag, &format!("docker://{source}")]);
                let to = format!("docker://{target}");
                let push = run(&["push", "--all", "--tls-verify=false", tag, &to]);
                return [run(&["create", tag])].into_iter().chain(sources.map(add)).chain([push]).collect();
            }
            _ => return Vec::new(),
        }
        vec![command]
    }

    /// A run that prints the bytes of a manifest or index, perhaps with space after them.
    pub(crate) fn read(&self, reference: &str) -> Option<Command> {
        let mut command = self.command(reference);
        match self.peer {
            Peer::Crane => command.args(["manifest", reference]),
            Peer::Regctl => command.args(["manifest", "get", "--format", "raw-body", reference]),
            Peer::Oras => command.args(["manifest", "fetch", "--plain-http", reference]),
            Peer::Buildx => command.args(["imagetools", "inspect", "--raw", reference]),
            Peer::Skopeo => {
                command.args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")])
            }
            _ => return None,
        };
        Some(command)
    }

    /// A run that prints the referrers of a manifest, each with its digest, as JSON.
    pub(crate) fn discover(&self, reference: &str) -> Option<Command> {
        let mut command = self.command(reference);
        match self.peer {
            Peer::Regctl => command.args(["artifact", "list", "--format", "{{json .}}", reference]),
            Peer::Oras => command.args(["discover", "--plain-http", "--format", "json", reference]),
            _ => return None,
        };
        Some(command)
    }

    /// The program, and what comes before its verbs.
    fn command(&self, reference: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .stdin(Stdio::null())
            .env("HOME", &self.home)
            .env("DOCKER_CONFIG", &self.home)
            .env("BUILDX_CONFIG", &self.home)
            .env("REGISTRY_AUTH_FILE", self.home.join("config.json"))
            .env_remove("XDG_RUNTIME_DIR");
        let host = reference.split('/').next().unwrap_or_default();
        match self.peer {
            Peer::Regctl => command.args(["--host", &format!("reg={host},tls=disabled")]),
            Peer::ManifestTool => command.arg("--plain-http").arg("--docker-cfg").arg(&self.home),
            Peer::Skopeo => command.arg("--insecure-policy"),
            Peer::Buildah => {
                let store = self.home.join("store");
                command.args(["--storage-driver", "vfs"]);
                command.args(["--root".as_ref(), store.join("root").as_os_str()]);
                command.args(["--runroot".as_ref(), store.join("run").as_os_str()])
            }
            _ => &mut command,
        };
        command
    }
}

/// The client that images are pushed with, and that sees what a registry holds.
pub(crate) struct Skopeo {
    program: PathBuf,
    auth: PathBuf,
    trusted: Option<PathBuf>,
    proxy: Option<String>,
}

impl Skopeo {
    /// The client as the project has it on that registry.
    pub(crate) fn new(program: &Path, registry: &Registry, project: &Project) -> Self {
        Self {
            program: program.to_owned(),
            auth: project.login(),
            trusted: registry.trusted(),
            proxy: registry.proxy.clone(),
        }
    }

    fn command(&self, verb: &str, which: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--insecure-policy", verb]).env("REGISTRY_AUTH_FILE", &self.auth);
        command.envs(self.proxy.iter().map(|proxy| ("HTTPS_PROXY", proxy))).arg(match &self.trusted {
            None => format!("--{which}tls-verify=false"),
            Some(folder) => format!("--{which}cert-dir={}", folder.display()),
        });
        command
    }

    /// Pushes the image or index named `app` of an OCI layout.
    pub(crate) fn push(&self, how: &[&str], layout: &Path, target: &str) {
        let mut command = self.command("copy", "dest-");
        let source = format!("oci:{}:app", layout.display());
        succeed(command.args(how).args([source, format!("docker://{target}")]));
    }

    /// Copies a release with all its platforms to an OCI layout, checking every digest.
    pub(crate) fn pull(&self, source: &str, layout: &Path) {
        let mut command = self.command("copy", "src-");
        command.args(["--all", "--preserve-digests"]);
        succeed(command.args([format!("docker://{source}"), format!("oci:{}:app", layout.display())]));
    }

    /// The bytes of a manifest or index.
    pub(crate) fn raw(&self, reference: &str) -> Vec<u8> {
        succeed(self.command("inspect", "").args(["--raw", &format!("docker://{reference}")]))
    }

    /// All tags of a repository, sorted.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let listed = succeed(self.command("list-tags", "").arg(format!("docker://{repository}")));
        let list: Value = serde_json::from_slice(&listed).unwrap();
        let tags = list["Tags"].as_array().unwrap().iter();
        let mut tags: Vec<_> = tags.map(|tag| tag.as_str().unwrap().to_owned()).collect();
        tags.sort();
        tags
    }
}
