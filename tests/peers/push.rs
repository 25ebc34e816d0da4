//! `quorate push` of golden data of nix2container to a registry, and what other clients make of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use quorate_bed::{client, image};
use serde_json::Value;

use crate::clients::Skopeo;
use crate::peers::{Peer, Peers};
use crate::project::{ARCHITECTURES, Project, REPOSITORY, succeed};
use crate::registries::{Access, Registry};

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let needs = [Peer::Vectors, Peer::DockerRegistry, Peer::Skopeo, Peer::Buildah];
    let pushed = peers.trial("push::golden_images", needs, |[vectors, registry, skopeo, buildah]| {
        let golden = vectors.join("nix2container");
        golden_images(&golden, &Registry::distribution(registry, &Access::Open), skopeo, buildah);
    });
    let needs = [Peer::Vectors, Peer::DockerRegistry];
    let guarded = peers.trial("push::over_tls_with_a_password", needs, |[vectors, registry]| {
        logged_in(&vectors.join("nix2container"), &Registry::distribution(registry, &Access::TlsPassword));
    });
    let forge = peers.trial("push::to_gitea", [Peer::Vectors, Peer::Gitea], |[vectors, registry]| {
        logged_in(&vectors.join("nix2container"), &Registry::gitea(registry));
    });
    vec![pushed, guarded, forge]
}

/// As it is and compressed, to a registry that asks who is there.
fn logged_in(golden: &Path, registry: &Registry) {
    let project = Project::at(registry);
    let store = Store::new(golden, &project);
    for options in [&[][..], &["--compress", "gzip"]] {
        let pushed = store.push(&project, "amd64", options);
        let name = format!("{}@{}", project.image(), pushed["image"]["digest"].as_str().unwrap());
        project.run(0, &["resolve", &name]);
    }
}

/// The golden store paths, below a folder of the project.
struct Store<'a> {
    golden: &'a Path,
    root: std::path::PathBuf,
}

impl<'a> Store<'a> {
    fn new(golden: &'a Path, project: &Project) -> Self {
        let root = project.path("root");
        fs::create_dir_all(root.join("nix/store")).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-xpf").arg(golden.join("store.tar")).arg("-C").arg(root.join("nix/store"));
        succeed(&mut tar);
        Self { golden, root }
    }

    fn push(&self, project: &Project, architecture: &str, options: &[&str]) -> Value {
        let target = format!("{}:git-1", project.image());
        let mut command = project.command(&["push"]);
        command.arg(self.golden.join(architecture).join("image.json")).args([&target, "--suffix", "arch"]);
        command.arg("--store-root").arg(&self.root).args(options).args(["-o", "json"]);
        serde_json::from_slice(&succeed(&mut command)).unwrap()
    }
}

impl Drop for Store<'_> {
    /// Store paths are read-only, which only root can remove as it is.
    fn drop(&mut self) {
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(&self.root).status();
    }
}

/// Configuration and layers are the golden ones to the byte; skopeo and buildah take the image.
fn golden_images(golden: &Path, registry: &Registry, skopeo: &Path, buildah: &Path) {
    let project = Project::at(registry);
    let store = Store::new(golden, &project);
    for (architecture, _) in ARCHITECTURES {
        let foretold = store.push(&project, architecture, &["--dry-run"])["image"]["digest"].clone();
        let pushed = store.push(&project, architecture, &[]);
        assert_eq!(pushed["image"]["digest"], foretold);
        let blob = |digest: &Value| {
            let path = format!("/v2/{REPOSITORY}/blobs/{}", digest.as_str().unwrap());
            let answer = client::get(registry.host(), &path, None).unwrap();
            assert_eq!(answer.status, 200, "{path}");
            answer.body
        };
        let config = fs::read(golden.join(architecture).join("config.json")).unwrap();
        assert_eq!(blob(&pushed["configDigest"]), config);
        for layer in pushed["layers"].as_array().unwrap() {
            let hex = layer["digest"].as_str().unwrap().trim_start_matches("sha256:");
            let tar = fs::read(golden.join(format!("layers/{hex}.tar"))).unwrap();
            assert_eq!(blob(&layer["digest"]), tar, "{hex}");
        }

        let reference = format!("{}:git-1-{architecture}", project.image());
        let client = Skopeo::new(skopeo, registry, &project);
        assert_eq!(image::digest(&client.raw(&reference)), foretold.as_str().unwrap());
        let mut inspect = Command::new(skopeo);
        inspect.args(["--insecure-policy", "inspect", "--tls-verify=false", "--override-os", "linux"]);
        inspect.args(["--override-arch", architecture]).arg(format!("docker://{reference}"));
        let inspected: Value = serde_json::from_slice(&succeed(&mut inspect)).unwrap();
        assert_eq!(inspected["Digest"], foretold);
        assert_eq!(inspected["Architecture"], architecture);
        assert_eq!(inspected["Layers"].as_array().unwrap().len(), 2);

        let mut pull = Command::new(buildah);
        pull.arg("--root").arg(project.path("storage")).arg("--runroot").arg(project.path("run"));
        pull.args(["--storage-driver", "vfs", "pull", "--tls-verify=false", "--policy", "always"]);
        pull.args(["--arch", architecture, &reference]).env("HOME", project.path(""));
        pull.env("REGISTRY_AUTH_FILE", project.login());
        let id = String::from_utf8(succeed(&mut pull)).unwrap();
        assert_eq!(format!("sha256:{}", id.trim()), pushed["configDigest"].as_str().unwrap());
    }
}
