//! `quorate assemble`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr as _;

use clap::builder::BoolishValueParser;
use clap::{ArgGroup, Args};
use jiff::Timestamp;

use super::{Finished, Global, Output};
use crate::attestation::Commit;
use crate::edge::registry::Access;
use crate::edge::tags::CandidateTag;
use crate::edge::{files, handover};
use crate::error::Error;
use crate::oci::handover::Source;
use crate::oci::place::{Entry, LAYOUT_SCHEME, LayoutReference};
use crate::oci::release::{Expected, Platforms};
use crate::oci::{
    Annotations, Place, Platform, Reference, Repository, Store, System, Tag, Target,
    reference::ReferenceError,
};
use crate::ops::assemble::{Request, run};
use crate::policy::ImageRule;
use crate::report::assemble::{self as report, Assembled, Report};

/// When the image was created, for people (image-spec, `annotations.md`).
const CREATED: &str = "org.opencontainers.image.created";
const LATEST_OF_THE_ACTION: &str = "docker/metadata-action adds it by itself: set its \
     `flavor: latest=false`; `quorate promote` moves `latest`";

/// Put per-architecture images together into one image index
///
/// Each image's platform is learnt from its configuration. A tag that ends in an architecture
/// (`-arm64`) or a Nix system (`-aarch64-linux`) must hold an image of it; what a plan or a file
/// says of an image must be so. The same images give the same index, byte for byte, in whatever
/// order they are named. An index among the sources stands for the images in it; BuildKit's
/// attestations are left out.
///
/// The index is written to candidate tags, or by digest where there are none; never to `latest`,
/// nor to a tag that the policy governs. The first line printed is the reference of the index by
/// digest.
#[derive(Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[command(
    override_usage = "quorate assemble [OPTIONS] <TARGET> <SOURCE>...\n       \
        quorate assemble [OPTIONS] <TARGET> --from-tags <TAG> --arch <ARCH>\n       \
        quorate assemble [OPTIONS] <TARGET> --digests <DIR> | --descriptor <PATH> | --plan <FILE>",
    group = ArgGroup::new("images").required(true).multiple(true)
        .args(["sources", "from_tags", "digests", "descriptors", "plan"]),
    after_help = "\
Files:
  --digests DIR      what docker's multi-platform example makes: an empty file for each image,
                     named by the 64 hex digits of its digest
  --descriptor PATH  *.json: an OCI descriptor, or a metadata file of buildx;
                     *.env: lines IMAGE_NAME=app, IMAGE_DIGEST=sha256:…, RUN_ATTR=#app.copyTo;
                     or a folder of such files, of which the .env files of other images are
                     passed over
  --plan FILE        {\"version\": 1, \"repository\": \"ghcr.io/acme/app\", \"images\": [
                       {\"system\": \"x86_64-linux\", \"suffix\": \"amd64\"},
                       {\"system\": \"aarch64-linux\", \"digest\": \"sha256:…\"}],
                      \"annotations\": {\"org.opencontainers.image.title\": \"app\"}}
                     An image has a suffix of TARGET's tag, a tag, or a digest.

Examples:
  quorate assemble ghcr.io/acme/app:git-0123abc \\
      ghcr.io/acme/app:git-0123abc-amd64 ghcr.io/acme/app:git-0123abc-arm64
  quorate assemble ghcr.io/acme/app:git-0123abc \\
      --from-tags ghcr.io/acme/app:git-0123abc --arch amd64,arm64
  quorate assemble ghcr.io/acme/app --digests /tmp/digests --docker-metadata \\
      --platforms linux/amd64,linux/arm64"
)]
pub(super) struct Arguments {
    /// `host/repository:tag`, or `host/repository` to write by digest, or to `--tag` alone; or an
    /// OCI layout on disk, `oci:PATH` or `oci:PATH:tag`
    #[arg(value_name = "TARGET", value_parser = target)]
    target: Destination,
    /// The images: `host/repository:tag`, `host/repository@digest`, or in a layout `oci:PATH`,
    /// `oci:PATH:name`, `oci:PATH@digest`. Those that are elsewhere than TARGET are copied there
    #[arg(value_name = "SOURCE", value_parser = Place::from_str)]
    sources: Vec<Place>,
    /// Take `host/repository:tag-ARCH` for each of `--arch`
    #[arg(long, value_name = "TAG", requires = "arch", env = "QUORATE_FROM_TAGS")]
    from_tags: Option<Reference>,
    /// How those tags end: architectures (`amd64`) or Nix systems (`x86_64-linux`)
    #[arg(
        long,
        value_name = "ARCH",
        value_parser = arch,
        value_delimiter = ',',
        requires = "from_tags",
        env = "QUORATE_ARCH"
    )]
    arch: Vec<String>,
    /// A folder of files that are named by digests in TARGET's repository
    #[arg(long, value_name = "DIR", env = "QUORATE_DIGESTS")]
    digests: Option<PathBuf>,
    /// A file that names an image in TARGET's repository, or a folder of such files; may be
    /// repeated (in the environment: one a line)
    #[arg(long = "descriptor", value_name = "PATH", value_delimiter = '\n', env = "QUORATE_DESCRIPTOR")]
    descriptors: Vec<PathBuf>,
    /// A plan: which images the index is made of, and for which systems
    #[arg(long, value_name = "FILE", env = "QUORATE_PLAN")]
    plan: Option<PathBuf>,
    /// A further candidate tag; may be repeated
    #[arg(long = "tag", value_name = "TAG", value_delimiter = ',', env = "QUORATE_ASSEMBLE_TAG")]
    tags: Vec<Tag>,
    /// Take candidate tags and annotations from `DOCKER_METADATA_OUTPUT_JSON`, the output of
    /// docker/metadata-action. A `latest` in it is refused like any other: set its
    /// `flavor: latest=false`. Annotations that are given here go before those in it
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_DOCKER_METADATA")]
    docker_metadata: bool,
    /// The platforms that there must be, and no others [default: those of the policy's rule]
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',', env = "QUORATE_PLATFORMS")]
    platforms: Vec<Platform>,
    /// The commit that every image must say it was built from (label or annotation
    /// `org.opencontainers.image.revision`)
    #[arg(long, value_name = "COMMIT", env = "QUORATE_ASSEMBLE_COMMIT")]
    commit: Option<Commit>,
    /// The policy whose tags are not to be written, and whose platforms there must be
    #[arg(long, value_name = "FILE", env = "QUORATE_POLICY")]
    policy: Option<PathBuf>,
    /// An annotation of the index, or `manifest-descriptor:KEY=VALUE` of each entry, or
    /// `manifest-descriptor[linux/amd64]:KEY=VALUE` of one; may be repeated (in the environment:
    /// one a line)
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_delimiter = '\n', env = "QUORATE_ANNOTATION")]
    annotations: Vec<String>,
    /// Annotate the index as created at this time, in seconds since 1970: that of the commit, such
    /// as `$SOURCE_DATE_EPOCH`
    #[arg(long, value_name = "SECONDS", value_parser = seconds, env = "QUORATE_COMMIT_TIME")]
    commit_time: Option<Timestamp>,
    /// Read every layer: hold it to the configuration, and the programs in it to the platform
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_CHECK_CONTENT")]
    check_content: bool,
    /// Check everything and print the result, but write nothing, files included
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_DRY_RUN")]
    dry_run: bool,
    /// Print the very bytes of the index
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_RAW")]
    raw: bool,
    /// Write the digest of the index to a file
    #[arg(long, value_name = "FILE", env = "QUORATE_DIGEST_FILE")]
    digest_file: Option<PathBuf>,
    /// Write the descriptor of the index and its names to a file, with the keys of buildx
    #[arg(long, value_name = "FILE", env = "QUORATE_METADATA_FILE")]
    metadata_file: Option<PathBuf>,
}

#[derive(Clone)]
struct Destination {
    store: Store,
    tag: Option<Tag>,
}

impl Destination {
    /// Its repository, for what speaks of images there.
    fn repository(&self) -> Result<&Repository, Error> {
        match &self.store {
            Store::Repository(repository) => Ok(repository),
            Store::Layout(_) => {
                Err(Error::request(format!("`{}` is a layout, and has no repository", self.store))
                    .hint("name the images as SOURCE, or a repository as TARGET"))
            }
        }
    }
}

fn target(text: &str) -> Result<Destination, String> {
    const NO_DIGEST: &str = "the digest of an index follows from what is in it; name a repository or a tag";
    if text.starts_with(LAYOUT_SCHEME) {
        let LayoutReference { path, entry } = text.parse()?;
        let tag = match entry {
            Entry::Only => None,
            Entry::Named(tag) => Some(tag),
            Entry::Digest(_) => return Err(NO_DIGEST.to_owned()),
        };
        return Ok(Destination { store: Store::Layout(path), tag });
    }
    match text.parse::<Reference>() {
        Ok(Reference { repository, target: Target::Tag(tag) }) => {
            Ok(Destination { store: Store::Repository(repository), tag: Some(tag) })
        }
        Ok(Reference { target: Target::Digest(_), .. }) => Err(NO_DIGEST.to_owned()),
        Err(ReferenceError::NoTarget(_)) => {
            let repository = text.parse().map_err(|error: ReferenceError| error.to_string())?;
            Ok(Destination { store: Store::Repository(repository), tag: None })
        }
        Err(error) => Err(error.to_string()),
    }
}

fn arch(text: &str) -> Result<String, String> {
    System::from_suffix(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn seconds(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .ok()
        .filter(|seconds| *seconds >= 0)
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .ok_or_else(|| "write the seconds since 1970, as `git show -s --format=%ct` does".to_owned())
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global) -> Result<Finished, Error> {
        if self.raw && global.output == Output::Json {
            return Err(Error::request("`--raw` and `--output json` ask for two results on one stdout")
                .hint("leave one of them out; `-o json` lists every image of the index"));
        }
        let policy = self.policy.as_deref().map(files::policy).transpose()?;
        let rule = policy.as_ref().zip(self.target.repository().ok());
        let rule = rule.and_then(|(policy, repository)| policy.image(repository));
        let (request, notes) = self.request(rule)?;
        let stores = || request.sources.iter().map(|source| source.place.store());
        // Layers may be large.
        let reads_layers = self.check_content || stores().any(|store| store != self.target.store);
        let registry = global.registry(if reads_layers { 600 } else { 60 })?;
        for store in stores() {
            if let Store::Repository(repository) = store {
                registry.announce(&repository, Access::Pull)?;
            }
        }
        if let Store::Repository(repository) = &self.target.store {
            registry.announce(repository, if self.dry_run { Access::Pull } else { Access::Push })?;
        }
        let report = run(&registry, request).await?;
        let (text, json, summary) = (report::text(&report), report::json(&report), report::markdown(&report));
        Ok(match &report {
            Report::Assembled(done) => {
                let raw = self.raw.then(|| done.index.bytes().to_vec());
                let finished = Finished { notes, raw, summary, ..Finished::yes(text, json) };
                if self.dry_run {
                    return Ok(finished);
                }
                match self.write_files(done) {
                    Ok(()) => Finished { outputs: outputs(done), ..finished },
                    Err(error) => Finished { yes: false, error: Some(error), ..finished },
                }
            }
            Report::Refused(refusal) => {
                let error = Error::no(format!("the images do not make a release ({})", refusal.fault.code()))
                    .because(refusal.detail.clone())
                    .hint(refusal.fault.hint());
                Finished { notes, summary, ..Finished::no(text, json, error) }
            }
        })
    }

    /// What is asked, and notes on what was left out of it.
    fn request(&self, rule: Option<&ImageRule>) -> Result<(Request, Vec<String>), Error> {
        let repository = || self.target.repository();
        let wrong = |error| Error::request("an annotation cannot be set").because(error);
        let mut annotations = Annotations::default();
        for annotation in &self.annotations {
            annotations.add(annotation).map_err(|error| {
                Error::request(format!("the annotation `{annotation}` cannot be set")).because(error)
            })?;
        }
        if let Some(time) = self.commit_time {
            annotations.add_to_index(CREATED, time.to_string()).map_err(wrong)?;
        }
        let mut sources: Vec<Source> = self.sources.iter().cloned().map(Source::from).collect();
        sources.extend(self.suffixed()?);
        if let Some(folder) = &self.digests {
            sources.extend(handover::digests(folder, repository()?)?);
        }
        for path in &self.descriptors {
            sources.extend(handover::descriptors(path, repository()?)?);
        }
        if let Some(path) = &self.plan {
            let plan = handover::plan(path, repository()?, self.target.tag.as_ref())?;
            sources.extend(plan.sources);
            let mut planned = Annotations::default();
            for (key, value) in plan.annotations {
                planned.add_to_index(&key, value).map_err(wrong)?;
            }
            annotations.fill(planned);
        }
        let mut tags = Vec::new();
        for tag in self.target.tag.iter().chain(&self.tags) {
            tags.push(CandidateTag::new(tag.clone(), rule)?);
        }
        let mut notes = Vec::new();
        if self.docker_metadata {
            let metadata = handover::docker_metadata(repository()?)?;
            for tag in metadata.tags {
                let latest = tag.as_str() == "latest";
                tags.push(
                    CandidateTag::new(tag, rule)
                        .map_err(|error| if latest { error.hint(LATEST_OF_THE_ACTION) } else { error })?,
                );
            }
            annotations.fill(metadata.annotations);
            notes = metadata.notes;
        }
        let mut seen = BTreeSet::new();
        tags.retain(|tag| seen.insert(tag.tag().clone()));
        let request = Request {
            store: self.target.store.clone(),
            tags,
            sources,
            expected: Expected {
                platforms: self.platforms(rule),
                commit: self.commit.as_ref().map(ToString::to_string),
            },
            annotations,
            check_content: self.check_content,
            dry_run: self.dry_run,
        };
        Ok((request, notes))
    }

    /// The tags of `--from-tags`.
    fn suffixed(&self) -> Result<Vec<Source>, Error> {
        let Some(base) = &self.from_tags else { return Ok(Vec::new()) };
        let Target::Tag(tag) = &base.target else {
            return Err(Error::request(format!("`{base}` is not a tag, and `--from-tags` takes one"))
                .hint("digests need no architecture: name them as SOURCE"));
        };
        self.arch
            .iter()
            .map(|arch| {
                let tag = format!("{tag}-{arch}").parse().map_err(|error: ReferenceError| {
                    Error::request("`--from-tags` and `--arch` make no tag").because(error)
                })?;
                Ok(Place::Registry(base.repository.at_tag(tag)).into())
            })
            .collect()
    }

    /// The platforms that there must be: those that were asked for, else those of the policy.
    fn platforms(&self, rule: Option<&ImageRule>) -> Option<Platforms> {
        if !self.platforms.is_empty() {
            let required = self.platforms.iter().cloned().collect();
            return Some(Platforms { required, optional: BTreeSet::new(), by: "`--platforms`" });
        }
        rule.map(|rule| Platforms {
            required: rule.required.keys().cloned().collect(),
            optional: rule.optional.keys().cloned().collect(),
            by: "the policy",
        })
    }

    /// The files that were asked for. The index is written by then.
    fn write_files(&self, done: &Assembled) -> Result<(), Error> {
        let digest = done.index.digest().to_string();
        let metadata = super::pretty(&report::metadata(done));
        for (path, text) in [(&self.digest_file, digest), (&self.metadata_file, metadata)] {
            if let Some(path) = path {
                files::write(path, text.as_bytes()).map_err(|error| {
                    Error::undecided(format!("{} is written, but not `{}`", done.image(), path.display()))
                        .because(error)
                })?;
            }
        }
        Ok(())
    }
}

/// Step outputs of a CI job.
fn outputs(done: &Assembled) -> Vec<(&'static str, String)> {
    let tags: Vec<&str> = done.tags.iter().map(Tag::as_str).collect();
    vec![("image", done.image()), ("digest", done.index.digest().to_string()), ("tags", tags.join("\n"))]
}
