//! `assemble`: puts the per-architecture images of a release together into one index.

use futures_util::future::try_join_all;

use crate::edge::layout::Layout;
use crate::edge::registry::Registry;
use crate::edge::tags::{self, CandidateTag};
use crate::edge::{images, layers};
use crate::error::Error;
use crate::oci::handover::{Source, Stated};
use crate::oci::release::{self, Expected, Fault, Image, Refusal};
use crate::oci::{Annotations, Config, Descriptor, Digest, Place, Store, media_type};
use crate::report::assemble::{Assembled, Report};

/// The most images that are read. A release has at most one for each known system.
const MAX_IMAGES: usize = 64;

/// The most candidate tags that are written.
const MAX_TAGS: usize = 100;

/// What is asked.
#[derive(Debug)]
pub struct Request {
    /// Where the index goes.
    pub store: Store,
    /// What names it; without any it is written by digest alone.
    pub tags: Vec<CandidateTag>,
    /// The images; those that are elsewhere are brought over.
    pub sources: Vec<Source>,
    /// What the release must be.
    pub expected: Expected,
    /// Annotations of the index and its descriptors.
    pub annotations: Annotations,
    /// Whether to read the layers as well.
    pub check_content: bool,
    /// Whether to write nothing.
    pub dry_run: bool,
}

/// What one source came to: images, and attestations that are left out.
#[derive(Default)]
struct Taken {
    images: Vec<Image>,
    left_out: Vec<Digest>,
}

/// Assembles the index.
///
/// # Errors
/// When the sources could not be read or the index not be written.
pub async fn run(registry: &Registry, request: Request) -> Result<Report, Error> {
    if request.sources.len() > MAX_IMAGES {
        return Err(Error::request(format!("{} sources, and at most {MAX_IMAGES}", request.sources.len()))
            .hint("a release has one image for each platform"));
    }
    if request.tags.len() > MAX_TAGS {
        return Err(Error::request(format!("{} tags, and at most {MAX_TAGS}", request.tags.len()))
            .hint("one candidate tag is enough to attest and promote an index"));
    }
    let taken = try_join_all(request.sources.iter().map(|source| take(registry, source))).await?;
    let taken = match taken.into_iter().collect::<Result<Vec<Taken>, Refusal>>() {
        Ok(taken) => taken,
        Err(refusal) => return Ok(Report::Refused(refusal)),
    };
    let (images, left_out): (Vec<_>, Vec<_>) =
        taken.into_iter().map(|taken| (taken.images, taken.left_out)).unzip();
    let images = images.concat();
    let (index, sources) = match release::assemble(&images, &request.expected, &request.annotations) {
        Ok(assembled) => assembled,
        Err(refusal) => return Ok(Report::Refused(refusal)),
    };
    if request.check_content {
        let read = try_join_all(images.iter().map(|image| content(registry, image))).await?;
        if let Some(refusal) = read.into_iter().find_map(Result::err) {
            return Ok(Report::Refused(refusal));
        }
    }
    let done = Assembled {
        tags: request.tags.iter().map(|tag| tag.tag().clone()).collect(),
        store: request.store,
        index,
        sources,
        left_out: left_out.concat(),
        dry_run: request.dry_run,
    };
    if !request.dry_run {
        let elsewhere: Vec<_> = images
            .iter()
            .map(|image| (image.place.store(), &image.manifest))
            .filter(|(store, _)| *store != done.store)
            .collect();
        images::bring(registry, &elsewhere, &done.store).await?;
        write(registry, &done, &request.tags).await?;
    }
    Ok(Report::Assembled(done))
}

/// Reads the layers of an image, and holds them to its configuration and platform.
async fn content(registry: &Registry, image: &Image) -> Result<Result<(), Refusal>, Error> {
    let store = image.place.store();
    let read = layers::bind(registry, &store, &image.manifest, &image.config, layers::Depth::Read).await?;
    Ok(match read {
        Ok(programs) => image.runs(&programs),
        Err(unbound) => Err(Refusal {
            fault: Fault::Content,
            detail: format!("`{}`: {}: {}", image.place, unbound.reason, unbound.detail),
        }),
    })
}

/// Writes the index under all tags, or by digest where there are none.
async fn write(registry: &Registry, done: &Assembled, tags: &[CandidateTag]) -> Result<(), Error> {
    let repository = match &done.store {
        Store::Repository(repository) => repository,
        Store::Layout(path) => {
            let layout = Layout::create(path)?;
            layout.write_blob(done.index.bytes())?;
            if tags.is_empty() {
                layout.list(&done.index.descriptor(), None)?;
            }
            return tags.iter().try_for_each(|tag| layout.list(&done.index.descriptor(), Some(tag.tag())));
        }
    };
    if tags.is_empty() {
        registry.push_manifest(repository, media_type::INDEX, done.index.bytes()).await?;
    }
    let written =
        tags::write_candidates(registry, repository, tags, media_type::INDEX, done.index.bytes()).await;
    let named = |wrote: bool| {
        let tags = tags.iter().zip(&written).filter(|(_, written)| written.is_ok() == wrote);
        tags.map(|(tag, _)| tag.tag().as_str()).collect::<Vec<_>>().join(", ")
    };
    let (yes, no) = (named(true), named(false));
    match written.into_iter().find_map(Result::err) {
        None => Ok(()),
        Some(error) if yes.is_empty() => Err(error),
        Some(error) => Err(Error::undecided(format!(
            "{} is named {yes}; whether it is named {no} is not known",
            done.image()
        ))
        .because(error)
        .hint("run the same command again: the same images give the same index")),
    }
}

/// Reads a source: one image, or the images of an index.
async fn take(registry: &Registry, source: &Source) -> Result<Result<Taken, Refusal>, Error> {
    let Source { place, stated } = source;
    let raw = images::find(registry, place).await?;
    if let Err(refusal) = release::as_stated(place, stated, &raw.media_type, raw.bytes.len()) {
        return Ok(Err(refusal));
    }
    if !media_type::is_index(&raw.media_type) {
        let image = image(registry, place, &[stated], raw.bytes).await?;
        return Ok(image.map(|image| Taken { images: vec![image], left_out: Vec::new() }));
    }
    let children = match release::flatten(place, raw.bytes) {
        Ok(children) => children,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if children.images.len() > MAX_IMAGES {
        return Err(Error::request(format!(
            "`{place}` is an index of {} images, and at most {MAX_IMAGES} are read",
            children.images.len()
        ))
        .hint("name the images that you mean"));
    }
    let images = try_join_all(children.images.iter().map(|child| flattened(registry, source, child))).await?;
    let images = match images.into_iter().collect::<Result<Vec<Image>, Refusal>>() {
        Ok(images) => images,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let left_out = children.attestations.iter().map(|child| child.digest).collect();
    Ok(Ok(Taken { images, left_out }))
}

/// Reads a child of a source that is an index.
async fn flattened(
    registry: &Registry,
    source: &Source,
    child: &Descriptor,
) -> Result<Result<Image, Refusal>, Error> {
    let Some(raw) = images::manifest(registry, &source.place.store(), child.digest).await? else {
        return Ok(Err(release::absent(&source.place, child.digest)));
    };
    let said = Stated::from(child);
    match release::as_stated(&source.place, &said, &raw.media_type, raw.bytes.len()) {
        Ok(()) => image(registry, &source.place, &[&source.stated, &said], raw.bytes).await,
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Reads an image whose manifest was fetched from `place`.
async fn image(
    registry: &Registry,
    place: &Place,
    stated: &[&Stated],
    bytes: Vec<u8>,
) -> Result<Result<Image, Refusal>, Error> {
    let manifest = match release::manifest(place, bytes) {
        Ok(manifest) => manifest,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let config = images::blob(registry, &place.store(), &manifest.config, Config::MAX_BYTES).await?;
    Ok(Image::new(place, stated, manifest, config.as_deref()))
}
