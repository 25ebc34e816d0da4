//! Which peers are on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use libtest_mimic::Trial;

/// A program, or a set of files, that the tests of this layer need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// The registry of the distribution project, 2.8: no referrers API.
    DockerRegistry,
    /// The same of today, 3: neither.
    Distribution,
    /// A forge with a registry: no referrers API.
    Gitea,
    /// A registry with the referrers API.
    Olareg,
    /// Clients of registries.
    Skopeo,
    /// That of go-containerregistry.
    Crane,
    /// That of regclient.
    Regctl,
    /// That of the ORAS project.
    Oras,
    /// A client that does nothing but indexes.
    ManifestTool,
    /// A builder of images, with indexes in a store of its own.
    Buildah,
    /// The plugin of docker, without docker.
    Buildx,
    /// The client of docker, without its daemon.
    Docker,
    /// Nix 2.8 or later.
    Nix,
    /// The command runner whose recipes the flake module writes.
    Just,
    /// A client of Sigstore: signs and verifies attestations.
    Cosign,
    /// The certificate authority of the Sigstore project.
    Fulcio,
    /// A certificate transparency log, from `ct-log`.
    CtLog,
    /// The Rekor v2 log of the Sigstore project.
    RekorServer,
    /// Its RFC 3161 timestamp authority.
    TimestampServer,
    /// A witness of logs (C2SP `tlog-witness`).
    AicsWitness,
    /// A verifier of what logs and witnesses sign.
    AicsTlog,
    /// The Go toolchain, and the module proxy or a module cache.
    Go,
    /// A Python that has the packages of `sigstore/requirements.txt`.
    PythonSigstore,
    /// A `node_modules` folder that has the packages of `sigstore/package.json`.
    NodeSigstore,
    /// Node.js.
    Node,
    /// Python 3.11 or later.
    Python,
    /// The shell that most completions are for.
    Bash,
    /// A formatter of manual pages that says what is wrong with them.
    Mandoc,
    /// Runs workflows of GitHub Actions here.
    Act,
    /// Looks for weak places in workflows.
    Zizmor,
    /// Has the schemas of CI files.
    CheckJsonschema,
    /// The golden data made by real tools.
    Vectors,
}

impl Peer {
    const ALL: [Self; 32] = [
        Self::DockerRegistry,
        Self::Distribution,
        Self::Gitea,
        Self::Olareg,
        Self::Skopeo,
        Self::Crane,
        Self::Regctl,
        Self::Oras,
        Self::ManifestTool,
        Self::Buildah,
        Self::Buildx,
        Self::Docker,
        Self::Nix,
        Self::Just,
        Self::Cosign,
        Self::Fulcio,
        Self::CtLog,
        Self::RekorServer,
        Self::TimestampServer,
        Self::AicsWitness,
        Self::AicsTlog,
        Self::Go,
        Self::PythonSigstore,
        Self::NodeSigstore,
        Self::Node,
        Self::Python,
        Self::Bash,
        Self::Mandoc,
        Self::Act,
        Self::Zizmor,
        Self::CheckJsonschema,
        Self::Vectors,
    ];

    /// The name in `QUORATE_BED_REQUIRE`, and in the file of `QUORATE_BED` with `_` for `-`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DockerRegistry => "docker-registry",
            Self::Distribution => "distribution",
            Self::Gitea => "gitea",
            Self::Olareg => "olareg",
            Self::Skopeo => "skopeo",
            Self::Crane => "crane",
            Self::Regctl => "regctl",
            Self::Oras => "oras",
            Self::ManifestTool => "manifest-tool",
            Self::Buildah => "buildah",
            Self::Buildx => "buildx",
            Self::Docker => "docker",
            Self::Nix => "nix",
            Self::Just => "just",
            Self::Cosign => "cosign",
            Self::Fulcio => "fulcio",
            Self::CtLog => "ct-log",
            Self::RekorServer => "rekor-server",
            Self::TimestampServer => "timestamp-server",
            Self::AicsWitness => "aics-witness",
            Self::AicsTlog => "aics-tlog",
            Self::Go => "go",
            Self::PythonSigstore => "python-sigstore",
            Self::NodeSigstore => "node-sigstore",
            Self::Node => "node",
            Self::Python => "python3",
            Self::Bash => "bash",
            Self::Mandoc => "mandoc",
            Self::Act => "act",
            Self::Zizmor => "zizmor",
            Self::CheckJsonschema => "check-jsonschema",
            Self::Vectors => "vectors",
        }
    }

    /// Where it comes from: 2 if it takes a Go toolchain, else 1.
    fn layer(self) -> u8 {
        match self {
            Self::Go
            | Self::Distribution
            | Self::Gitea
            | Self::Olareg
            | Self::Crane
            | Self::Regctl
            | Self::Oras
            | Self::ManifestTool
            | Self::Buildx
            | Self::Cosign
            | Self::Fulcio
            | Self::CtLog
            | Self::RekorServer
            | Self::TimestampServer => 2,
            _ => 1,
        }
    }

    /// Whether finding the program on `PATH` is enough. The others need packages from a registry,
    /// which no test fetches unasked.
    fn stands_alone(self) -> bool {
        !matches!(
            self,
            Self::Go | Self::PythonSigstore | Self::NodeSigstore | Self::Node | Self::Python | Self::Vectors
        )
    }
}

/// The peers that were found.
///
/// `QUORATE_BED` names a JSON file `{"skopeo": "/usr/bin/skopeo", …}`, and then only what it names
/// is there; without it, the programs that need nothing more are looked for on `PATH`.
/// `QUORATE_VECTORS` names the folder of golden data. `QUORATE_BED_REQUIRE=nix,vectors,…` makes
/// the absence of those a failure.
pub(crate) struct Peers {
    found: BTreeMap<Peer, PathBuf>,
    required: Vec<Peer>,
}

impl Peers {
    /// Looks for all of them.
    pub(crate) fn find() -> Self {
        let bed = env::var_os("QUORATE_BED").map(|file| {
            let text = fs::read(&file).expect("the file that QUORATE_BED names is there");
            serde_json::from_slice::<BTreeMap<String, PathBuf>>(&text).expect("QUORATE_BED names a JSON file")
        });
        let mut found = BTreeMap::new();
        for peer in Peer::ALL {
            let place = match &bed {
                _ if peer == Peer::Vectors => env::var_os("QUORATE_VECTORS").map(PathBuf::from),
                Some(bed) => bed.get(&peer.name().replace('-', "_")).cloned(),
                None if peer.stands_alone() => on_path(peer.name()),
                None => None,
            };
            // Tests change into folders of their own.
            if let Some(place) = place.and_then(|place| std::path::absolute(place).ok())
                && place.exists()
            {
                found.insert(peer, place);
            }
        }
        let required = env::var("QUORATE_BED_REQUIRE").unwrap_or_default();
        let required = required
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(|name| {
                let known = Peer::ALL.into_iter().find(|peer| peer.name() == name);
                known.unwrap_or_else(|| panic!("QUORATE_BED_REQUIRE names `{name}`, which is no peer"))
            })
            .collect();
        Self { found, required }
    }

    /// Where a peer is, if it is there.
    #[allow(dead_code, reason = "the benchmark uses it")]
    pub(crate) fn get(&self, peer: Peer) -> Option<&Path> {
        self.found.get(&peer).map(PathBuf::as_path)
    }

    /// A trial that needs some peers: their paths are given to it in the same order. Without them
    /// it is ignored, or fails where they are required. The name gets the layer in front.
    pub(crate) fn trial<const N: usize>(
        &self,
        name: &str,
        needs: [Peer; N],
        test: impl FnOnce([&Path; N]) + Send + 'static,
    ) -> Trial {
        let layer = needs.iter().map(|peer| peer.layer()).max().unwrap_or(1);
        let name = format!("layer_{layer}::{name}");
        let absent: Vec<Peer> = needs.into_iter().filter(|peer| !self.found.contains_key(peer)).collect();
        if absent.is_empty() {
            let paths = needs.map(|peer| self.found[&peer].clone());
            return Trial::test(name, move || {
                test(std::array::from_fn(|position| paths[position].as_path()));
                Ok(())
            });
        }
        let names: Vec<_> = absent.iter().map(|peer| peer.name()).collect();
        let reason = format!("no {}", names.join(", no "));
        let required = absent.iter().any(|peer| self.required.contains(peer));
        let failure = format!("{reason}, and QUORATE_BED_REQUIRE wants it");
        Trial::test(name, move || Err(failure.into())).with_kind(reason).with_ignored_flag(!required)
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
