//! What was built, as `attest` and `predicate` are told of it.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::BoolishValueParser;
use jiff::Timestamp;

use super::shown;
use crate::attestation::{Build, Commit, Content, Remarks};
use crate::edge::built::Built;
use crate::edge::files;
use crate::edge::origin::{self, Given, Origin};
use crate::edge::output::Printer;
use crate::edge::registry::Registry;
use crate::edge::tree;
use crate::error::Error;
use crate::nix::NarHash;
use crate::oci::{Digest, System};

/// Options that say what was built.
#[derive(Args)]
#[command(next_help_heading = "What was built")]
pub(super) struct BuildArguments {
    /// The builder's name in the policy
    #[arg(long, value_name = "ID", env = "QUORATE_BUILDER")]
    pub(super) builder: Option<String>,
    /// The Nix system that was built for, such as `x86_64-linux`. For several at once, write
    /// `SYSTEM=` before the values below
    #[arg(long, value_name = "SYSTEM", env = "QUORATE_SYSTEM")]
    pub(super) system: Option<System>,
    /// The commit that was built: 40 or 64 lower-case hex digits [default: that of the CI job and
    /// of the checkout around the current folder, if they are one and nothing in it is changed]
    #[arg(long, value_name = "COMMIT", env = "QUORATE_COMMIT")]
    pub(super) commit: Option<Commit>,
    /// The release order [default: the committer time of the commit, from git]
    #[arg(long, value_name = "N", allow_negative_numbers = true, env = "QUORATE_SEQUENCE")]
    pub(super) sequence: Option<u64>,
    /// The narHash of the built image's store path, in any form that Nix prints
    #[arg(long, value_name = "[SYSTEM=]HASH", env = "QUORATE_NAR_HASH")]
    pub(super) nar_hash: Vec<Of<NarHash>>,
    /// The built image's store path, or a link to it; its narHash is computed, and if it is an
    /// image JSON of nix2container, a docker-archive (plain, gzip, zstd) or an OCI layout, the digest
    /// of its configuration
    #[arg(long, value_name = "[SYSTEM=]PATH", env = "QUORATE_RESULT")]
    pub(super) result: Vec<Of<PathBuf>>,
    /// The image that was built, where `--result` is something else: what the program that
    /// `streamLayeredImage` makes has printed, or `oci:PATH:NAME` in an OCI layout
    #[arg(long, value_name = "[SYSTEM=]PATH", env = "QUORATE_BUILT_IMAGE")]
    pub(super) built_image: Vec<Of<Built>>,
    /// The digest of the image configuration that the builder computed from its own build
    /// [default: that of the built image]
    #[arg(long, value_name = "[SYSTEM=]DIGEST", env = "QUORATE_CONFIG_DIGEST")]
    pub(super) config_digest: Vec<Of<Digest>>,
    /// The repository that was built, such as `git+https://github.com/acme/app` [default: that of
    /// the CI job, or else the remote `origin`, where it is at the commit]
    #[arg(long, value_name = "URI", env = "QUORATE_SOURCE_URI")]
    pub(super) source_uri: Option<String>,
    /// The git ref that was built, such as `refs/heads/main` [default: that of the CI job, or else
    /// of the checkout, where it is at the commit]
    #[arg(long = "ref", value_name = "REF", env = "QUORATE_REF")]
    pub(super) git_ref: Option<String>,
    /// What was built, by a name that is the same for all systems: `image`, not
    /// `packages.x86_64-linux.image`
    #[arg(long, value_name = "ATTRIBUTE", env = "QUORATE_TARGET")]
    pub(super) target: Option<String>,
    /// When the build ended, RFC 3339. The time that counts is that of the timestamp or the log
    #[arg(long, value_name = "TIME", env = "QUORATE_BUILT_AT")]
    built_at: Option<Timestamp>,
    /// The `flake.lock` of the build; its digest is stated
    #[arg(long, value_name = "FILE", env = "QUORATE_FLAKE_LOCK")]
    flake_lock: Option<PathBuf>,
    /// A list of the closure that was built, in a form of your own; its digest is stated
    #[arg(long, value_name = "[SYSTEM=]FILE", env = "QUORATE_CLOSURE_MANIFEST")]
    closure_manifest: Vec<Of<PathBuf>>,
    /// The binary caches that the build could take from, as `nix config show substituters` prints
    /// them; empty: none
    // Not from the environment: a variable that is empty by mistake would claim that there were none.
    #[arg(long, value_name = "URLS")]
    substituters: Option<String>,
    /// The run of the builder, such as the address of the CI job
    #[arg(long, value_name = "URI", env = "QUORATE_INVOCATION")]
    invocation: Option<String>,
    /// Take nothing from the variables of the CI job, or from git
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_NO_INFER")]
    pub(super) no_infer: bool,
}

/// A value about one system, `SYSTEM=VALUE`, or about that of `--system`.
#[derive(Debug, Clone)]
pub(super) struct Of<T> {
    system: Option<System>,
    value: T,
}

impl<T: FromStr> FromStr for Of<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        let named = text.split_once('=').and_then(|(system, value)| Some((system.parse().ok()?, value)));
        Ok(match named {
            Some((system, value)) => Self { system: Some(system), value: value.parse()? },
            None => Self { system: None, value: text.parse()? },
        })
    }
}

/// What is said of one system's build.
struct Said<'a> {
    system: System,
    nar_hash: Option<NarHash>,
    result: Option<&'a PathBuf>,
    built_image: Option<&'a Built>,
    config_digest: Option<Digest>,
}

impl BuildArguments {
    /// The one build, with what was not given computed.
    pub(super) async fn build(&self, registry: &Registry, printer: Printer) -> Result<Build, Error> {
        let mut builds = self.builds(registry, printer).await?;
        match (builds.pop(), builds.is_empty()) {
            (Some(build), true) => Ok(build),
            _ => Err(Error::request("builds of several systems are given, where one is wanted")),
        }
    }

    /// The builds, one of each system, with what was not given computed.
    pub(super) async fn builds(&self, registry: &Registry, printer: Printer) -> Result<Vec<Build>, Error> {
        let systems = self.systems();
        let (Some(builder), false) = (self.builder.clone(), systems.is_empty()) else {
            let options = [("`--builder`", self.builder.is_none()), ("`--system`", systems.is_empty())];
            let missing: Vec<_> = options.iter().filter(|(_, is)| *is).map(|(option, _)| *option).collect();
            return Err(Error::request(format!("{} must be given", missing.join(" and "))).hint(
                "`--builder` is the name in the policy; `--result x86_64-linux=PATH` names a system as well",
            ));
        };
        if let Some(target) = self.target.as_ref().filter(|target| System::named_in(target)) {
            return Err(Error::request(format!("`--target {target}` names a system")).hint(
                "votes on all platforms of a release must name one target: leave the system out of it",
            ));
        }
        let given = Given {
            commit: self.commit.clone(),
            sequence: self.sequence,
            source_uri: self.source_uri.clone(),
            git_ref: self.git_ref.clone(),
        };
        let Origin { commit, sequence, source_uri, git_ref, notes } =
            origin::complete(given, !self.no_infer).await?;
        for note in notes {
            printer.talk(&format!("note: {note}"));
        }
        let mut builds = Vec::new();
        for system in systems {
            let said = self.said(system)?;
            let content =
                Content { config_digest: said.config_digest(registry).await?, nar_hash: said.nar_hash()? };
            let build = Build {
                commit: commit.clone(),
                system,
                content,
                builder: builder.clone(),
                sequence,
                source_uri: source_uri.clone(),
                git_ref: git_ref.clone(),
                target: self.target.clone(),
                remarks: self.remarks(system)?,
            };
            // What no verifier would read is found out before it is signed.
            let readable = build.to_predicate();
            readable.map_err(|why| Error::request(format!("these values make no statement: {why}")))?;
            builds.push(build);
        }
        Ok(builds)
    }

    /// The systems that anything is said of, each once.
    fn systems(&self) -> Vec<System> {
        let mut systems: Vec<System> = Vec::new();
        let named = self
            .system
            .into_iter()
            .chain(self.result.iter().filter_map(|of| of.system))
            .chain(self.built_image.iter().filter_map(|of| of.system))
            .chain(self.config_digest.iter().filter_map(|of| of.system))
            .chain(self.nar_hash.iter().filter_map(|of| of.system))
            .chain(self.closure_manifest.iter().filter_map(|of| of.system));
        for system in named {
            if !systems.contains(&system) {
                systems.push(system);
            }
        }
        systems
    }

    /// What is stated of one system's build besides.
    fn remarks(&self, system: System) -> Result<Remarks, Error> {
        let digest = |path: &PathBuf| match files::read(path) {
            Ok(bytes) => Ok(Digest::of(&bytes).to_string()),
            Err(error) => Err(Error::request(format!("cannot read `{}`", shown(path))).because(error)),
        };
        let closure = self.of("--closure-manifest", &self.closure_manifest, system)?;
        let caches = |list: &String| list.split_whitespace().map(str::to_owned).collect();
        Ok(Remarks {
            built_at: self.built_at,
            flake_lock_hash: self.flake_lock.as_ref().map(digest).transpose()?,
            closure_manifest: closure.map(digest).transpose()?,
            substituters: self.substituters.as_ref().map(caches),
            invocation: self.invocation.clone(),
        })
    }

    fn said(&self, system: System) -> Result<Said<'_>, Error> {
        Ok(Said {
            system,
            nar_hash: self.of("--nar-hash", &self.nar_hash, system)?.copied(),
            result: self.of("--result", &self.result, system)?,
            built_image: self.of("--built-image", &self.built_image, system)?,
            config_digest: self.of("--config-digest", &self.config_digest, system)?.copied(),
        })
    }

    /// What an option says of a system.
    fn of<'a, T>(&self, option: &str, values: &'a [Of<T>], system: System) -> Result<Option<&'a T>, Error> {
        if self.system.is_none() && values.iter().any(|of| of.system.is_none()) {
            return Err(Error::request(format!("`{option}` does not say of which system it is"))
                .hint(format!("write `{option} SYSTEM=…`, or give `--system`")));
        }
        let mut about = values.iter().filter(|of| of.system.or(self.system) == Some(system));
        match (about.next(), about.next()) {
            (found, None) => Ok(found.map(|of| &of.value)),
            _ => Err(Error::request(format!("`{option}` is given twice for {system}"))),
        }
    }
}

impl Said<'_> {
    /// The narHash as given, as computed, or both if they are one.
    fn nar_hash(&self) -> Result<NarHash, Error> {
        let computed = self.result.map(|path| {
            let failed = |error| Error::request(format!("cannot hash `{}`", shown(path))).because(error);
            tree::store_path(path).and_then(|path| tree::nar_hash(&path)).map_err(failed)
        });
        match (self.nar_hash, computed.transpose()?) {
            (Some(given), Some(computed)) if given != computed => {
                Err(Error::request(format!("`--nar-hash` is {given}, but `--result` has {computed}")))
            }
            (_, Some(hash)) | (Some(hash), None) => Ok(hash),
            (None, None) => Err(Error::request("one of `--nar-hash` and `--result` must be given")),
        }
    }

    /// The configuration digest as given, as computed, or both if they are one.
    async fn config_digest(&self, registry: &Registry) -> Result<Digest, Error> {
        let (given, system) = (self.config_digest, self.system);
        let (option, built) = match (self.built_image, self.result) {
            (Some(built), _) => ("--built-image", built.clone()),
            (None, Some(path)) => ("--result", Built::Path(path.clone())),
            (None, None) => {
                return given.ok_or_else(|| {
                    Error::request("nothing says which configuration was built")
                        .hint("give one of `--result`, `--built-image` and `--config-digest`")
                });
            }
        };
        match (given, built.config_digest(registry, system).await?) {
            (Some(given), Some(computed)) if given != computed => {
                Err(Error::request(format!("`--config-digest` is {given}, but `{option}` has {computed}"))
                    .hint("leave out `--config-digest`; a digest read from the registry is not your own"))
            }
            (_, Some(digest)) => Ok(digest),
            // Any path has a narHash, not every one holds an image.
            (Some(given), None) if self.built_image.is_none() => Ok(given),
            (_, None) => Err(built.unknown()),
        }
    }
}
