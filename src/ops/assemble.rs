//! `assemble`: puts the per-architecture images of a release together into one index.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use super::gather::resolve;
use crate::edge::registry::Registry;
use crate::edge::tags::{self, CandidateTag};
use crate::error::Error;
use crate::oci::{
    Config, Descriptor, Digest, ImageIndex, Manifest, Platform, Reference, Repository, System, Target,
    media_type,
};
use crate::report::assemble::{Assembled, Refused, Report};

/// What is asked.
#[derive(Debug)]
pub struct Request {
    /// Where the index goes.
    pub repository: Repository,
    /// What names it; without one it is written by digest alone.
    pub tag: Option<CandidateTag>,
    /// The images, all in that repository.
    pub sources: Vec<Reference>,
    /// Annotations of the index.
    pub annotations: BTreeMap<String, String>,
    /// Whether to write nothing.
    pub dry_run: bool,
}

/// Assembles the index.
///
/// # Errors
/// When the sources could not be read or the index not be written.
pub async fn run(registry: &Registry, request: Request) -> Result<Report, Error> {
    if let Some(other) = request.sources.iter().find(|source| source.repository != request.repository) {
        return Err(Error::request(format!("`{other}` is not in `{}`", request.repository))
            .hint("an index can only name manifests of its own repository: push the image there first"));
    }
    let fetched = try_join_all(request.sources.iter().map(|source| child(registry, source))).await?;
    let children = match fetched.into_iter().collect::<Result<Vec<_>, Refused>>() {
        Ok(children) => children,
        Err(refused) => return Ok(Report::Refused(refused)),
    };
    let by_digest: BTreeMap<Digest, Reference> =
        children.iter().map(|child| child.digest).zip(request.sources.iter().cloned()).collect();
    let index = match ImageIndex::assemble(children, request.annotations) {
        Ok(index) => index,
        Err(error) => return Ok(Report::Refused(twins(&error))),
    };
    if !request.dry_run {
        match &request.tag {
            Some(tag) => tags::write_candidate(registry, &request.repository, tag, &index).await?,
            None => {
                registry.push_manifest(&request.repository, media_type::INDEX, index.bytes()).await?;
            }
        }
    }
    let sources = index.manifests.iter().filter_map(|child| by_digest.get(&child.digest).cloned()).collect();
    Ok(Report::Assembled(Assembled {
        repository: request.repository,
        tag: request.tag.map(|tag| tag.tag().clone()),
        index,
        sources,
        dry_run: request.dry_run,
    }))
}

fn twins(error: &crate::oci::index::IndexError) -> Refused {
    use crate::oci::index::IndexError;
    let reason = match error {
        IndexError::DuplicatePlatform(_) => "duplicate-platform",
        IndexError::DuplicateDigest(_) => "duplicate-digest",
        _ => "source-malformed",
    };
    Refused { reason, detail: error.to_string() }
}

/// The descriptor that stands for one source in the index, its platform learnt from its
/// configuration and held to the suffix of its tag.
async fn child(registry: &Registry, source: &Reference) -> Result<Result<Descriptor, Refused>, Error> {
    let refuse = |reason, why: String| Ok(Err(Refused { reason, detail: format!("`{source}` {why}") }));
    let raw = resolve(registry, source).await?;
    if !media_type::is_manifest(&raw.media_type) {
        return refuse(
            "source-not-an-image",
            format!("is of type `{}`, not the manifest of one image", raw.media_type),
        );
    }
    let manifest = match Manifest::parse(raw.bytes) {
        Ok(manifest) => manifest,
        Err(error) => return refuse("source-malformed", format!("is malformed: {error}")),
    };
    if manifest.artifact_type.is_some() || !media_type::is_config(&manifest.config.media_type) {
        return refuse("source-not-an-image", "is an artifact, not an image".to_owned());
    }
    if let Some(layer) = manifest.layers.iter().find(|layer| layer.has_urls) {
        return refuse("source-malformed", format!("has the layer {} with `urls`", layer.digest));
    }
    let config = &manifest.config;
    let Some(bytes) =
        registry.blob(&source.repository, config.digest, config.size, Config::MAX_BYTES).await?
    else {
        return refuse(
            "source-malformed",
            format!("names the configuration {}, which is absent", config.digest),
        );
    };
    let config = match Config::parse(&bytes) {
        Ok(config) => config,
        Err(error) => return refuse("source-malformed", format!("has a malformed configuration: {error}")),
    };
    let platform = match platform(source, &config) {
        Ok(platform) => platform,
        Err((reason, why)) => return refuse(reason, why),
    };
    Ok(Ok(Descriptor { platform: Some(platform), ..manifest.descriptor() }))
}

/// The platform of an image: what its configuration states, or the system that its tag names
/// where the configuration leaves the variant open.
fn platform(source: &Reference, config: &Config) -> Result<Platform, (&'static str, String)> {
    let named = match &source.target {
        Target::Tag(tag) => System::from_tag_suffix(tag.as_str()).map(|system| system.platform()),
        Target::Digest(_) => None,
    };
    let platform = match named {
        Some(named) if config.fits(&named) => named,
        Some(named) => {
            return Err((
                "suffix-mismatch",
                format!("is named for {named}, but is an image for {}", config.platform),
            ));
        }
        None => config.platform.clone(),
    };
    if System::for_platform(&platform).is_none() {
        return Err((
            "platform-unknown",
            format!("is an image for {platform}, which no Nix system builds for"),
        ));
    }
    Ok(platform)
}
