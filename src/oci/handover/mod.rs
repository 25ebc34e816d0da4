//! What build jobs hand over to the job that assembles: the files of docker's multi-platform
//! example, of buildx and of `docker/metadata-action`, `.env` descriptors, and plans.
//!
//! All of it comes out of other jobs and is read as data, strictly; none of it is believed: what
//! a file says of an image is held against the image.

mod descriptor;
mod digest_name;
mod docker_metadata;
mod env;
mod plan;

use std::collections::BTreeMap;
use std::fmt;

use super::{Descriptor, Digest, Place, Platform, Repository};

pub use descriptor::descriptor;
pub use digest_name::digest_name;
pub use docker_metadata::DockerMetadata;
pub use env::{EnvFile, env};
pub use plan::Plan;

/// An image that shall go into an index, and what was said of it beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub place: Place,
    /// What it is said to be.
    pub stated: Stated,
}

/// What a file, a plan or an index says of an image. What is not said is not checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stated {
    /// Its platform.
    pub platform: Option<Platform>,
    /// The media type of its manifest.
    pub media_type: Option<String>,
    /// The size of its manifest in bytes.
    pub size: Option<u64>,
    /// Annotations that its descriptor shall have.
    pub annotations: BTreeMap<String, String>,
}

/// A file of a build job is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HandoverError(String);

impl HandoverError {
    fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl From<Place> for Source {
    fn from(place: Place) -> Self {
        Self { place, stated: Stated::default() }
    }
}

impl Source {
    /// The image that a file names by its digest.
    fn in_repository(repository: &Repository, digest: Digest, stated: Stated) -> Self {
        Self { place: Place::Registry(repository.at_digest(digest)), stated }
    }
}

impl From<&Descriptor> for Stated {
    /// All but the annotations, which stay with the index or file they were written in.
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            platform: descriptor.platform.clone(),
            media_type: Some(descriptor.media_type.clone()),
            size: Some(descriptor.size),
            annotations: BTreeMap::new(),
        }
    }
}
