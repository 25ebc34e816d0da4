//! `push`: sends an image that a build left to registries, without a daemon.

use crate::edge::built::Built;
use crate::edge::outgoing::{How, Outgoing};
use crate::edge::registry::Registry;
use crate::edge::tags::{self, CandidateTag};
use crate::error::Error;
use crate::oci::reference::ReferenceError;
use crate::oci::release::{Fault, Refusal};
use crate::oci::{Config, Repository, System, Tag};
use crate::policy::Policy;
use crate::report::push::{Pushed, Report, Target};

/// What is asked.
pub struct Request {
    /// The image.
    pub source: Built,
    /// Where it goes: each repository once, with the tags that it gets there.
    pub targets: Vec<(Repository, Vec<Tag>)>,
    /// What is put after each tag and a dash.
    pub suffix: Option<Suffix>,
    /// The system that it was built for, if that was said.
    pub system: Option<System>,
    /// How it is read.
    pub how: How,
    /// The policy whose tags are not written.
    pub policy: Option<Policy>,
    /// Whether nothing is sent.
    pub dry_run: bool,
}

/// How a tag says what an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suffix {
    /// `amd64`.
    Architecture,
    /// `x86_64-linux`.
    System,
}

/// Sends the image to every target; all are tried.
///
/// # Errors
/// When there is no image, or a tag is not for candidates.
pub async fn run(registry: &Registry, request: &Request) -> Result<Report, Error> {
    let outgoing = Outgoing::of(registry, &request.source, &request.how).await?;
    let config = outgoing.config.clone();
    let system = match system(&config, request.system) {
        Ok(system) => system,
        Err(refusal) => return Ok(Report::Refused(refusal)),
    };
    let mut named = Vec::new();
    for (repository, tags) in &request.targets {
        let rule = request.policy.as_ref().and_then(|policy| policy.image(repository));
        let mut candidates = Vec::new();
        for tag in tags {
            let tag = match suffixed(tag, request.suffix, system, &config)? {
                Ok(tag) => tag,
                Err(refusal) => return Ok(Report::Refused(refusal)),
            };
            candidates.push(CandidateTag::new(tag, rule)?);
        }
        named.push((repository, candidates));
    }
    let mut targets: Vec<Target> = Vec::new();
    for (repository, tags) in named {
        let held: Vec<Repository> = targets
            .iter()
            .filter(|target| target.sent.is_ok())
            .map(|target| target.repository.clone())
            .collect();
        let sent =
            if request.dry_run { Ok(()) } else { send(registry, &outgoing, repository, &tags, &held).await };
        let tags = tags.iter().map(|tag| tag.tag().clone()).collect();
        targets.push(Target { repository: repository.clone(), tags, sent });
    }
    let manifest = outgoing.manifest;
    Ok(Report::Pushed(Box::new(Pushed { manifest, config, system, targets, dry_run: request.dry_run })))
}

async fn send(
    registry: &Registry,
    outgoing: &Outgoing,
    repository: &Repository,
    tags: &[CandidateTag],
    held: &[Repository],
) -> Result<(), Error> {
    outgoing.send_blobs(registry, repository, held).await?;
    let manifest = &outgoing.manifest;
    if tags.is_empty() {
        registry.push_manifest(repository, &manifest.media_type, manifest.bytes()).await?;
    }
    let written =
        tags::write_candidates(registry, repository, tags, &manifest.media_type, manifest.bytes()).await;
    written.into_iter().collect()
}

/// The system of the image. What the configuration leaves open, `stated` says.
fn system(config: &Config, stated: Option<System>) -> Result<Option<System>, Refusal> {
    match stated {
        Some(system) if config.fits(&system.platform()) => Ok(Some(system)),
        Some(system) => Err(Refusal {
            fault: Fault::PlatformMismatch,
            detail: format!(
                "the image is for {}, and `--system {system}` is {}",
                config.platform,
                system.platform()
            ),
        }),
        // Without a variant, arm may be any.
        None if config.platform.architecture() == "arm" && !config.has_variant => Ok(None),
        None => Ok(System::for_platform(&config.platform)),
    }
}

/// The tag with its suffix, unless it ends in that already.
fn suffixed(
    tag: &Tag,
    suffix: Option<Suffix>,
    system: Option<System>,
    config: &Config,
) -> Result<Result<Tag, Refusal>, Error> {
    let said = System::from_tag_suffix(tag.as_str());
    if let Some(said) = said
        && !system.map_or_else(|| config.fits(&said.platform()), |system| system == said)
    {
        let detail =
            format!("the tag `{tag}` is for {}, and the image for {}", said.platform(), config.platform);
        return Ok(Err(Refusal { fault: Fault::SuffixMismatch, detail }));
    }
    let Some(suffix) = suffix.filter(|_| said.is_none()) else { return Ok(Ok(tag.clone())) };
    let Some(system) = system else {
        let detail = format!("the image says `{}` of itself; `--system` says which it is", config.platform);
        return Ok(Err(Refusal { fault: Fault::PlatformUnknown, detail }));
    };
    let end = match suffix {
        Suffix::Architecture => system.suffix(),
        Suffix::System => system.as_str(),
    };
    let named = format!("{tag}-{end}").parse().map_err(|error: ReferenceError| {
        Error::request(format!("`{tag}` and its suffix make no tag")).because(error)
    })?;
    Ok(Ok(named))
}
