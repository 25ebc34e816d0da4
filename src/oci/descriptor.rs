//! Content descriptors (image-spec, `descriptor.md`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::json::Shape;
use super::platform::PlatformError;
use super::{Digest, Platform};

/// The keys of `platform` in a descriptor.
pub(super) const PLATFORM_SHAPE: Shape = Shape::Closed(&[
    ("architecture", Shape::Any),
    ("os", Shape::Any),
    ("os.version", Shape::Any),
    ("os.features", Shape::Any),
    ("variant", Shape::Any),
    ("features", Shape::Any),
]);

/// The keys of a descriptor.
pub(super) const SHAPE: Shape = Shape::Closed(&[
    ("mediaType", Shape::Any),
    ("digest", Shape::Any),
    ("size", Shape::Any),
    ("urls", Shape::Any),
    ("annotations", Shape::Any),
    ("data", Shape::Any),
    ("artifactType", Shape::Any),
    ("platform", PLATFORM_SHAPE),
]);

/// A descriptor: what content is, how long it is, and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The media type of the content.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content in bytes.
    pub size: u64,
    /// The platform, on children of an index.
    pub platform: Option<Platform>,
    /// The artifact type, on entries of a referrers list.
    pub artifact_type: Option<String>,
    /// Annotations, sorted by key.
    pub annotations: BTreeMap<String, String>,
    /// The content itself where it was inlined; equal in size and digest to what it claims.
    pub data: Option<Vec<u8>>,
    /// Whether it sends readers to other addresses (`urls`).
    pub has_urls: bool,
}

/// Why a descriptor is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// A field is missing or has the wrong type.
    #[error("malformed descriptor: {0}")]
    Malformed(String),
    /// The platform is not one.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// `data` is not the content that `size` and `digest` name.
    #[error("the inlined data of {0} is not the content that its digest and size name")]
    Data(Digest),
}

/// A descriptor as it is written; keys in the order of the specification.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<WirePlatform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// A platform as it is written in a descriptor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WirePlatform {
    pub architecture: String,
    pub os: String,
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

impl From<&Platform> for WirePlatform {
    fn from(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture().to_owned(),
            os: platform.os().to_owned(),
            os_version: None,
            os_features: Vec::new(),
            variant: platform.variant().map(str::to_owned),
            features: Vec::new(),
        }
    }
}

impl TryFrom<Wire> for Descriptor {
    type Error = DescriptorError;

    fn try_from(wire: Wire) -> Result<Self, DescriptorError> {
        let data = wire
            .data
            .map(|text| {
                let data = STANDARD.decode(text).map_err(|_| DescriptorError::Data(wire.digest))?;
                if data.len() as u64 == wire.size && Digest::of(&data) == wire.digest {
                    Ok(data)
                } else {
                    Err(DescriptorError::Data(wire.digest))
                }
            })
            .transpose()?;
        let platform =
            wire.platform.map(|p| Platform::new(&p.os, &p.architecture, p.variant.as_deref())).transpose()?;
        Ok(Self {
            media_type: wire.media_type,
            digest: wire.digest,
            size: wire.size,
            platform,
            artifact_type: wire.artifact_type,
            annotations: wire.annotations,
            data,
            has_urls: wire.urls.is_some_and(|urls| !urls.is_empty()),
        })
    }
}

impl From<&Descriptor> for Wire {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            urls: None,
            artifact_type: descriptor.artifact_type.clone(),
            platform: descriptor.platform.as_ref().map(WirePlatform::from),
            annotations: descriptor.annotations.clone(),
            data: descriptor.data.as_ref().map(|data| STANDARD.encode(data)),
        }
    }
}

impl Descriptor {
    /// A descriptor of `bytes`, without platform, annotations or inlined data.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
            data: None,
            has_urls: false,
        }
    }

    /// Whether `bytes` are the content this descriptor names: same length, same digest.
    pub fn names(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.size && Digest::of(bytes) == self.digest
    }

    /// The same content, named without platform, annotations, artifact type or inlined data, as
    /// it stands in a `subject`.
    pub fn bare(&self) -> Self {
        Self {
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
            data: None,
            has_urls: false,
            ..self.clone()
        }
    }
}
