//! Clients of registries that nobody here wrote, with no settings of this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::peers::Peer;
use crate::project::{Project, succeed};
use crate::registries::Registry;

/// The clients that put an index together.
pub(crate) const ASSEMBLERS: [Peer; 7] =
    [Peer::Crane, Peer::Regctl, Peer::Oras, Peer::ManifestTool, Peer::Buildah, Peer::Buildx, Peer::Docker];
/// The clients that copy a release with all its platforms.
pub(crate) const COPIERS: [Peer; 5] = [Peer::Crane, Peer::Regctl, Peer::Oras, Peer::Skopeo, Peer::Buildah];

/// Where an image is, or is to be.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// `host/repository:tag`.
    Registry(&'a str),
    /// Under the name `app` in an OCI layout, where the client gives names.
    Layout(&'a Path),
}

/// A client, for registries that speak plain http unless it is told otherwise.
pub(crate) struct Client {
    peer: Peer,
    program: PathBuf,
    home: PathBuf,
    tls: bool,
}

impl Client {
    /// The client keeps what it keeps in the folder `home`, where the login is, in `config.json`.
    pub(crate) fn new(peer: Peer, program: &Path, home: &Path) -> Self {
        Self { peer, program: program.to_owned(), home: home.to_owned(), tls: false }
    }

    /// The same for registries that speak TLS. Whom to trust is for the environment to say.
    #[allow(dead_code, reason = "the benchmark uses it")]
    pub(crate) fn over_tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// What skopeo and buildah are told.
    fn verify(&self, which: &str) -> String {
        format!("--{which}tls-verify={}", self.tls)
    }

    /// What oras is told.
    fn plain(&self, which: &str) -> String {
        format!("--{which}plain-http={}", !self.tls)
    }

    /// Runs that end with an index of `images` at `target`. An image is a platform
    /// (`linux/arm/v7`) and a reference whose tag ends in its architecture and variant (`-armv7`).
    pub(crate) fn assemble(&self, target: &str, images: &[(&str, &str)]) -> Vec<Command> {
        let sources = images.iter().map(|(_, source)| *source);
        let Some((repository, tag)) = target.rsplit_once(':') else { return Vec::new() };
        let mut command = self.command(&[repository]);
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
                command.args(["manifest", "index", "create", &self.plain(""), target]);
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
                let sources: Vec<_> = sources.map(|source| format!("docker://{source}")).collect();
                return self.through_the_store(tag, &sources, &format!("docker://{target}"));
            }
            Peer::Docker => {
                let insecure = (!self.tls).then_some("--insecure");
                let mut push = self.command(&[repository]);
                push.args(["manifest", "push"]).args(insecure).arg(target);
                command.args(["manifest", "create", "--amend"]).args(insecure).arg(target).args(sources);
                return vec![command, push];
            }
            _ => return Vec::new(),
        }
        vec![command]
    }

    /// Runs that end with the image or index of one place at another.
    pub(crate) fn copy(&self, from: Place, to: Place) -> Vec<Command> {
        let both = [from, to];
        let registries = both.iter().filter_map(|place| match place {
            Place::Registry(reference) => Some(*reference),
            Place::Layout(_) => None,
        });
        let mut command = self.command(&registries.collect::<Vec<_>>());
        // As containers/image writes them.
        let [source, target] = both.map(|place| match place {
            Place::Registry(reference) => format!("docker://{reference}"),
            Place::Layout(folder) => format!("oci:{}:app", folder.display()),
        });
        match (self.peer, from, to) {
            (Peer::Crane, Place::Registry(from), Place::Registry(to)) => command.args(["copy", from, to]),
            (Peer::Crane, Place::Registry(from), Place::Layout(to)) => {
                command.args(["pull", "--format", "oci", from]).arg(to)
            }
            (Peer::Crane, Place::Layout(from), Place::Registry(to)) => command.arg("push").arg(from).arg(to),
            (Peer::Regctl, ..) => command.args(["image", "copy"]).args(both.map(|place| match place {
                Place::Registry(reference) => reference.to_owned(),
                Place::Layout(folder) => format!("ocidir://{}:app", folder.display()),
            })),
            (Peer::Oras, ..) => {
                command.arg("cp");
                for (end, place) in ["from", "to"].into_iter().zip(both) {
                    match place {
                        Place::Registry(reference) => {
                            command.args([&self.plain(&format!("{end}-")), reference]);
                        }
                        Place::Layout(folder) => {
                            command
                                .args([format!("--{end}-oci-layout"), format!("{}:app", folder.display())]);
                        }
                    }
                }
                &mut command
            }
            (Peer::Skopeo, ..) => command
                .args(["copy", "--all", "--preserve-digests", &self.verify("src-"), &self.verify("dest-")])
                .args([source, target]),
            (Peer::Buildah, ..) => return self.through_the_store("copied", &[source], &target),
            _ => return Vec::new(),
        };
        vec![command]
    }

    /// Runs of buildah that make an index of images, or of those in an index, and push it with
    /// them.
    fn through_the_store(&self, name: &str, sources: &[String], target: &str) -> Vec<Command> {
        let run = |arguments: &[&str]| {
            let mut command = self.command(&[]);
            command.arg("manifest").args(arguments);
            command
        };
        let verify = self.verify("");
        let add = |source: &String| run(&["add", "--all", &verify, name, source]);
        let push = run(&["push", "--all", &verify, name, target]);
        [run(&["create", name])].into_iter().chain(sources.iter().map(add)).chain([push]).collect()
    }

    /// A run that prints the bytes of a manifest or index, perhaps with space after them.
    pub(crate) fn read(&self, place: Place) -> Option<Command> {
        let reference = match place {
            Place::Registry(reference) => reference,
            Place::Layout(folder) => return self.read_layout(&folder.display().to_string()),
        };
        let mut command = self.command(&[reference]);
        match self.peer {
            Peer::Crane => command.args(["manifest", reference]),
            Peer::Regctl => command.args(["manifest", "get", "--format", "raw-body", reference]),
            Peer::Oras => command.args(["manifest", "fetch", &self.plain(""), reference]),
            Peer::Buildx => command.args(["imagetools", "inspect", "--raw", reference]),
            Peer::Skopeo => {
                command.args(["inspect", "--raw", &self.verify(""), &format!("docker://{reference}")])
            }
            _ => return None,
        };
        Some(command)
    }

    fn read_layout(&self, folder: &str) -> Option<Command> {
        let mut command = self.command(&[]);
        match self.peer {
            Peer::Regctl => {
                command.args(["manifest", "get", "--format", "raw-body", &format!("ocidir://{folder}:app")])
            }
            Peer::Oras => command.args(["manifest", "fetch", "--oci-layout", &format!("{folder}:app")]),
            Peer::Skopeo => command.args(["inspect", "--raw", &format!("oci:{folder}:app")]),
            _ => return None,
        };
        Some(command)
    }

    /// Runs that end with each of the tags at what a reference by digest names, whatever it is.
    #[allow(dead_code, reason = "the benchmark uses it")]
    pub(crate) fn tag(&self, reference: &str, tags: &[&str]) -> Vec<Command> {
        let Some((repository, _)) = reference.split_once('@') else { return Vec::new() };
        let targets: Vec<_> = tags.iter().map(|tag| format!("{repository}:{tag}")).collect();
        match self.peer {
            Peer::Crane => {
                let run = |tag: &&str| {
                    let mut command = self.command(&[repository]);
                    command.args(["tag", reference, tag]);
                    command
                };
                tags.iter().map(run).collect()
            }
            Peer::Oras => {
                let mut command = self.command(&[repository]);
                command.args(["tag", &self.plain(""), reference]).args(tags);
                vec![command]
            }
            Peer::Buildx => {
                let mut command = self.command(&[repository]);
                command.args(["imagetools", "create"]);
                command.args(targets.iter().flat_map(|target| ["--tag", target])).arg(reference);
                vec![command]
            }
            Peer::Regctl | Peer::Skopeo => {
                let from = Place::Registry(reference);
                targets.iter().flat_map(|target| self.copy(from, Place::Registry(target))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A run that prints the referrers of a manifest, each with its digest, as JSON.
    pub(crate) fn discover(&self, reference: &str) -> Option<Command> {
        let mut command = self.command(&[reference]);
        match self.peer {
            Peer::Regctl => command.args(["artifact", "list", "--format", "{{json .}}", reference]),
            Peer::Oras => command.args(["discover", &self.plain(""), "--format", "json", reference]),
            _ => return None,
        };
        Some(command)
    }

    /// The program, and what comes before its verbs where they are about these repositories.
    fn command(&self, references: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .stdin(Stdio::null())
            .env("HOME", &self.home)
            .env("DOCKER_CONFIG", &self.home)
            .env("BUILDX_CONFIG", &self.home)
            .env("REGISTRY_AUTH_FILE", self.home.join("config.json"))
            .env_remove("XDG_RUNTIME_DIR");
        let hosts = references.iter().filter_map(|reference| reference.split('/').next());
        match self.peer {
            Peer::Regctl => {
                let tls = if self.tls { "enabled" } else { "disabled" };
                command.args(hosts.flat_map(|host| ["--host".to_owned(), format!("reg={host},tls={tls}")]))
            }
            Peer::ManifestTool => {
                command.args((!self.tls).then_some("--plain-http")).arg("--docker-cfg").arg(&self.home)
            }
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
