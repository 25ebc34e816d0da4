//! What images may stand together in the index of a release: the guards of `assemble`.

use std::collections::{BTreeMap, BTreeSet};

use super::handover::Stated;
use super::index::IndexError;
use super::layer::Machine;
use super::place::{Entry, LayoutReference};
use super::{
    Annotations, Config, Descriptor, Digest, ImageIndex, Manifest, Place, Platform, Reference, System,
    Target, media_type,
};
use crate::reason::codes;

/// Where an image says which commit it was built from: a label, or an annotation of its manifest
/// (image-spec, `annotations.md`).
const REVISION: &str = "org.opencontainers.image.revision";
/// What BuildKit writes on entries of an index that are no images.
const BUILDKIT_REFERENCE: &str = "vnd.docker.reference.type";

codes! {
    /// Why images do not make a release.
    Fault;
    /// What to do about it.
    hint;

    /// A source is an artifact.
    NotAnImage = "source-not-an-image", "name the image, not something that is attached to it";
    /// A manifest, index or configuration is malformed or absent, or sends readers elsewhere.
    Malformed = "source-malformed", "push the image again";
    /// A source is an index that holds an index.
    Nested = "source-nested", "name the images, or the index that holds them";
    /// A tag ends in another architecture or system than the image is for.
    SuffixMismatch = "suffix-mismatch", "find out which build pushed under the wrong tag";
    /// A plan, a descriptor or an index states another platform than the image is for.
    PlatformMismatch = "platform-mismatch", "find out which build handed over the wrong image";
    /// A descriptor states another media type or size than the manifest has.
    DescriptorMismatch = "descriptor-mismatch", "make the descriptor anew, from the manifest as it was pushed";
    /// No Nix system builds for the platform.
    PlatformUnknown = "platform-unknown", "docs/policy.md lists the platforms";
    /// Two images have one platform.
    DuplicatePlatform = "duplicate-platform", "leave one of them out";
    /// One image is given twice.
    DuplicateDigest = "duplicate-digest", "leave one of them out; if one was to be another, find out which build handed over the wrong one";
    /// A platform that the release must have is not there.
    PlatformMissing = "platform-missing", "add the image, or say with `--platforms` which there are to be";
    /// A platform that the release must not have is there.
    PlatformExtra = "platform-extra", "leave the image out, or say with `--platforms` which there are to be";
    /// An image does not say which commit it was built from.
    RevisionMissing = "revision-missing", "build it with the label `org.opencontainers.image.revision`, or leave out `--commit`";
    /// An image was built from another commit than the one expected.
    RevisionMismatch = "revision-mismatch", "assemble the images of one commit";
    /// The images were built from different commits.
    RevisionsDiffer = "revisions-differ", "assemble the images of one commit";
    /// A layer is not what the configuration says, or cannot be read strictly.
    Content = "content-mismatch", "push the image again, from the build";
    /// The programs in an image are for another machine than the image.
    Programs = "programs-mismatch", "find out which build made it: the image would not run";
    /// An annotation is for a platform that is not there.
    AnnotationPlatform = "annotation-platform", "add the image, or leave the annotation out";
}

/// The images do not make a release: why, naming the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind, with its code and hint.
    pub fault: Fault,
    /// The reason in words.
    pub detail: String,
}

/// An image whose manifest and configuration have been read.
#[derive(Debug, Clone)]
pub struct Image {
    /// The source that it was named by, or that holds it.
    pub place: Place,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: Config,
    descriptor: Descriptor,
    platform: Platform,
    revisions: BTreeSet<String>,
}

/// What the release must be.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The platforms that it must have, and those that it may have besides.
    pub platforms: Option<Platforms>,
    /// The commit that every image must say it was built from.
    pub commit: Option<String>,
}

/// Platforms of a release.
#[derive(Debug, Clone)]
pub struct Platforms {
    /// Those that must be there.
    pub required: BTreeSet<Platform>,
    /// Those that may be there.
    pub optional: BTreeSet<Platform>,
    /// Who says so: `--platforms`, or the policy.
    pub by: &'static str,
}

/// What the children of a source that is an index are taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flattened {
    /// Images.
    pub images: Vec<Descriptor>,
    /// BuildKit's attestations, which are left out.
    pub attestations: Vec<Descriptor>,
}

fn refuse<T>(fault: Fault, place: &Place, why: impl std::fmt::Display) -> Result<T, Refusal> {
    Err(Refusal { fault, detail: format!("`{place}` {why}") })
}

/// The refusal of an image that lacks a part.
pub fn absent(place: &Place, part: Digest) -> Refusal {
    Refusal { fault: Fault::Malformed, detail: format!("`{place}` names {part}, which is absent") }
}

/// Holds the manifest or index that was fetched to what was said of it.
pub fn as_stated(place: &Place, stated: &Stated, media_type: &str, size: usize) -> Result<(), Refusal> {
    if let Some(said) = stated.media_type.as_deref().filter(|said| *said != media_type) {
        return refuse(
            Fault::DescriptorMismatch,
            place,
            format_args!("is of type `{media_type}`, and its descriptor says `{said}`"),
        );
    }
    match stated.size.filter(|said| *said != size as u64) {
        Some(said) => refuse(
            Fault::DescriptorMismatch,
            place,
            format_args!("has {size} bytes, and its descriptor says {said}"),
        ),
        None => Ok(()),
    }
}

/// Divides the children of an index into images and BuildKit's attestations.
pub fn flatten(place: &Place, bytes: Vec<u8>) -> Result<Flattened, Refusal> {
    let index = match ImageIndex::parse(bytes) {
        Ok(index) => index,
        Err(error) => return refuse(Fault::Malformed, place, format_args!("is malformed: {error}")),
    };
    // Both marks together: neither alone can make an image disappear.
    let (attestations, images): (Vec<_>, Vec<_>) = index.manifests.into_iter().partition(|child| {
        let unknown =
            child.platform.as_ref().is_some_and(|p| (p.os(), p.architecture()) == ("unknown", "unknown"));
        unknown && child.annotations.contains_key(BUILDKIT_REFERENCE)
    });
    if let Some(other) = images.iter().find(|child| !media_type::is_manifest(&child.media_type)) {
        let fault = if media_type::is_index(&other.media_type) { Fault::Nested } else { Fault::NotAnImage };
        let why = format_args!("is an index that holds {} of type `{}`", other.digest, other.media_type);
        return refuse(fault, place, why);
    }
    if images.is_empty() {
        return refuse(Fault::NotAnImage, place, "is an index without images");
    }
    Ok(Flattened { images, attestations })
}

/// Reads the manifest of an image.
pub fn manifest(place: &Place, bytes: Vec<u8>) -> Result<Manifest, Refusal> {
    let manifest = match Manifest::parse(bytes) {
        Ok(manifest) => manifest,
        Err(error) => return refuse(Fault::Malformed, place, format_args!("is malformed: {error}")),
    };
    if manifest.artifact_type.is_some() || !media_type::is_config(&manifest.config.media_type) {
        return refuse(Fault::NotAnImage, place, "is an artifact, not an image");
    }
    if let Some(layer) = manifest.layers.iter().find(|layer| layer.has_urls) {
        return refuse(Fault::Malformed, place, format_args!("has the layer {} with `urls`", layer.digest));
    }
    Ok(manifest)
}

impl Image {
    /// An image of this manifest and configuration, its platform held to the tag's suffix and to
    /// what was said of it.
    ///
    /// # Errors
    /// When one of them is for another platform, or no system builds for it.
    pub fn new(
        place: &Place,
        stated: &[&Stated],
        manifest: Manifest,
        config: Option<&[u8]>,
    ) -> Result<Self, Refusal> {
        let Some(config) = config else { return Err(absent(place, manifest.config.digest)) };
        let config = match Config::parse(config) {
            Ok(config) => config,
            Err(error) => {
                return refuse(
                    Fault::Malformed,
                    place,
                    format_args!("has a malformed configuration: {error}"),
                );
            }
        };
        let platform = platform(place, stated, &config)?;
        let revision = |of: &BTreeMap<String, String>| of.get(REVISION).cloned();
        Ok(Self {
            place: place.clone(),
            descriptor: Descriptor {
                annotations: stated.iter().flat_map(|stated| stated.annotations.clone()).collect(),
                ..manifest.descriptor()
            },
            platform,
            revisions: [revision(&config.labels), revision(&manifest.annotations)]
                .into_iter()
                .flatten()
                .collect(),
            manifest,
            config,
        })
    }
}

impl Image {
    /// Holds the machines of the programs that were found in the layers, each with the name of one
    /// program, to the platform. Programs for other machines are not amiss beside those for the
    /// right one: an image may carry firmware, or test data.
    ///
    /// # Errors
    /// When there are programs, and none for the platform.
    pub fn runs(&self, programs: &BTreeMap<Machine, String>) -> Result<(), Refusal> {
        let machine = System::for_platform(&self.platform).map(System::machine);
        match programs.first_key_value() {
            Some((other, program)) if machine.is_none_or(|machine| !programs.contains_key(&machine)) => {
                refuse(
                    Fault::Programs,
                    &self.place,
                    format_args!("is an image for {}, but its `{program}` is for {other}", self.platform),
                )
            }
            _ => Ok(()),
        }
    }
}

/// The platform of an image: what its configuration states, or where that leaves the variant
/// open, what its tag or descriptor names.
fn platform(place: &Place, stated: &[&Stated], config: &Config) -> Result<Platform, Refusal> {
    let tag = match place {
        Place::Registry(Reference { target: Target::Tag(tag), .. })
        | Place::Layout(LayoutReference { entry: Entry::Named(tag), .. }) => Some(tag),
        _ => None,
    };
    let suffix = tag.and_then(|tag| System::from_tag_suffix(tag.as_str())).map(|system| system.platform());
    if let Some(suffix) = suffix.as_ref().filter(|suffix| !config.fits(suffix)) {
        return refuse(
            Fault::SuffixMismatch,
            place,
            format_args!("is named for {suffix}, but is an image for {}", config.platform),
        );
    }
    let mut named = suffix;
    for said in stated.iter().filter_map(|stated| stated.platform.as_ref()) {
        let is = named.as_ref().unwrap_or(&config.platform);
        // What fits an open variant must still agree with what was named before.
        if !config.fits(said) || named.as_ref().is_some_and(|named| named != said) {
            return refuse(
                Fault::PlatformMismatch,
                place,
                format_args!("is handed over for {said}, but is an image for {is}"),
            );
        }
        named = Some(said.clone());
    }
    known(place, named.unwrap_or_else(|| config.platform.clone()))
}

fn known(place: &Place, platform: Platform) -> Result<Platform, Refusal> {
    if System::for_platform(&platform).is_none() {
        return refuse(
            Fault::PlatformUnknown,
            place,
            format_args!("is an image for {platform}, which no Nix system builds for"),
        );
    }
    Ok(platform)
}

/// Puts images together into one index. Returns it with the source of each child, in its order.
///
/// # Errors
/// When they do not make the release that is expected.
pub fn assemble(
    images: &[Image],
    expected: &Expected,
    annotations: &Annotations,
) -> Result<(ImageIndex, Vec<Place>), Refusal> {
    let mut by_digest = BTreeMap::new();
    for image in images {
        if let Some(other) = by_digest.insert(image.descriptor.digest, image) {
            return refuse(
                Fault::DuplicateDigest,
                &image.place,
                format_args!("and `{}` are one image, {}", other.place, image.descriptor.digest),
            );
        }
    }
    let mut by_platform = BTreeMap::new();
    for image in images {
        if let Some(other) = by_platform.insert(&image.platform, image) {
            return refuse(
                Fault::DuplicatePlatform,
                &image.place,
                format_args!("and `{}` are both for {}", other.place, image.platform),
            );
        }
    }
    if let Some(wanted) = &expected.platforms {
        complete(wanted, &by_platform)?;
    }
    same_commit(images, expected.commit.as_deref())?;
    if let Some(absent) = annotations.platforms().find(|platform| !by_platform.contains_key(platform)) {
        return Err(Refusal {
            fault: Fault::AnnotationPlatform,
            detail: format!("an annotation is for {absent}, and no image is"),
        });
    }
    let children = by_platform
        .iter()
        .map(|(platform, image)| {
            let mut child = Descriptor { platform: Some((*platform).clone()), ..image.descriptor.clone() };
            child.annotations.extend(annotations.descriptor(platform));
            child
        })
        .collect();
    let index = ImageIndex::assemble(children, annotations.index().clone())
        .map_err(|error: IndexError| Refusal { fault: Fault::Malformed, detail: error.to_string() })?;
    let places = index
        .manifests
        .iter()
        .filter_map(|child| by_digest.get(&child.digest).map(|image| image.place.clone()))
        .collect();
    Ok((index, places))
}

fn complete(wanted: &Platforms, there: &BTreeMap<&Platform, &Image>) -> Result<(), Refusal> {
    if let Some(missing) = wanted.required.iter().find(|platform| !there.contains_key(platform)) {
        return Err(Refusal {
            fault: Fault::PlatformMissing,
            detail: format!("there is no image for {missing}, which {} asks for", wanted.by),
        });
    }
    let allowed =
        |platform: &Platform| wanted.required.contains(platform) || wanted.optional.contains(platform);
    match there.iter().find(|(platform, _)| !allowed(platform)) {
        Some((extra, image)) => refuse(
            Fault::PlatformExtra,
            &image.place,
            format_args!("is an image for {extra}, which {} does not ask for", wanted.by),
        ),
        None => Ok(()),
    }
}

/// An image that does not say its commit contradicts nobody; where one is expected, it must say.
fn same_commit(images: &[Image], commit: Option<&str>) -> Result<(), Refusal> {
    let shown = |revision: &str| revision.chars().take(100).collect::<String>();
    if let Some(commit) = commit {
        for image in images {
            if image.revisions.is_empty() {
                let why = format_args!("does not say which commit it was built from (`{REVISION}`)");
                return refuse(Fault::RevisionMissing, &image.place, why);
            }
            if let Some(other) = image.revisions.iter().find(|revision| *revision != commit) {
                let why = format_args!("was built from {}, not from {commit}", shown(other));
                return refuse(Fault::RevisionMismatch, &image.place, why);
            }
        }
    }
    let mut said = images.iter().flat_map(|image| image.revisions.iter().map(move |r| (image, r)));
    let Some((first, revision)) = said.next() else { return Ok(()) };
    match said.find(|(_, other)| *other != revision) {
        Some((image, other)) => refuse(
            Fault::RevisionsDiffer,
            &image.place,
            format_args!(
                "says that it was built from {}, and `{}` from {}",
                shown(other),
                first.place,
                shown(revision)
            ),
        ),
        None => Ok(()),
    }
}
