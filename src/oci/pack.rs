//! Proof packs: an image and the evidence about it as one OCI manifest, everything inlined.
//!
//! The subject of the manifest is the image; its layers are the image's index, the manifests and
//! configurations of its children, and the bundles, each as `data` beside its digest. A pack says
//! nothing by itself: its parts are believed by their digests, and judged as those that a registry
//! answers are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::manifest::ManifestError;
use super::media_type::{BUNDLE, PACK};
use super::{Descriptor, Digest, Manifest};

/// The most bytes of a pack: 4 MiB, as of any manifest.
pub const MAX_BYTES: usize = 4 << 20;
/// The most parts of a pack.
const MAX_PARTS: usize = 1_000;

/// An image and what was found about it: bytes, believed by their digests alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The image: its index, or its one manifest.
    pub root: Part,
    /// The manifests and configurations of its children.
    pub children: BTreeMap<Digest, Part>,
    /// The bundles. Nothing in them is verified.
    pub bundles: BTreeMap<Digest, Arc<[u8]>>,
}

/// Content and its media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The media type that is stated for it.
    pub media_type: String,
    /// The bytes, unchanged.
    pub bytes: Vec<u8>,
}

/// Why bytes are no pack, or parts cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Not a strict manifest, or inlined data that is not what its digest and size say.
    #[error("the pack is malformed")]
    Malformed(#[from] ManifestError),
    /// A manifest of something else.
    #[error("its artifact type is not `{PACK}`")]
    OtherType,
    /// More than 4 MiB.
    #[error("it has {0} bytes, and a pack at most {MAX_BYTES}")]
    TooLarge(usize),
    /// More parts than any release has.
    #[error("it has {0} parts, and a pack at most {MAX_PARTS}")]
    TooMany(usize),
    /// A part is only named.
    #[error("its part {0} is named, and not in it")]
    NotInlined(Digest),
    /// It does not say which image it is of, or does not hold it.
    #[error("it does not hold the image that it is of")]
    NoImage,
    /// It stands where the pack of one image belongs, and is of another.
    #[error("it is of another image, {0}")]
    OtherImage(Digest),
}

impl PackError {
    /// The stable reason code.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "pack-malformed",
            Self::OtherType => "pack-type",
            Self::TooLarge(_) | Self::TooMany(_) => "pack-too-large",
            Self::NotInlined(_) | Self::NoImage | Self::OtherImage(_) => "pack-incomplete",
        }
    }
}

impl Parts {
    /// The image alone.
    pub fn of(media_type: &str, bytes: Vec<u8>) -> Self {
        let root = Part { media_type: media_type.to_owned(), bytes };
        Self { root, children: BTreeMap::new(), bundles: BTreeMap::new() }
    }

    /// The digest of the image.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.root.bytes)
    }

    /// Takes over a manifest or configuration.
    pub fn add_child(&mut self, part: Part) {
        let digest = Digest::of(&part.bytes);
        if digest != self.digest() {
            self.children.insert(digest, part);
        }
    }

    /// Takes over a bundle.
    pub fn add_bundle(&mut self, bytes: impl Into<Arc<[u8]>>) {
        let bytes = bytes.into();
        self.bundles.insert(Digest::of(&bytes), bytes);
    }

    /// The bytes of a manifest or configuration, if they are there. One image without an index is
    /// its own child.
    pub fn child(&self, digest: Digest) -> Option<&[u8]> {
        let itself = || (digest == self.digest()).then_some(self.root.bytes.as_slice());
        self.children.get(&digest).map(|part| part.bytes.as_slice()).or_else(itself)
    }

    /// The parts as one manifest; the same parts always give the same bytes.
    ///
    /// # Errors
    /// [`PackError::TooLarge`], [`PackError::TooMany`].
    pub fn pack(&self) -> Result<Manifest, PackError> {
        let inlined = |media_type: &str, bytes: &[u8]| Descriptor {
            data: Some(bytes.to_vec()),
            ..Descriptor::of(media_type, bytes)
        };
        let root = inlined(&self.root.media_type, &self.root.bytes);
        let subject = root.bare();
        let children = self.children.values().map(|part| inlined(&part.media_type, &part.bytes));
        let bundles = self.bundles.values().map(|bytes| inlined(BUNDLE, bytes));
        let layers: Vec<Descriptor> = [root].into_iter().chain(children).chain(bundles).collect();
        if layers.len() > MAX_PARTS {
            return Err(PackError::TooMany(layers.len()));
        }
        let manifest = Manifest::artifact_of(PACK, layers, &subject, BTreeMap::new())?;
        match manifest.bytes().len() {
            length if length > MAX_BYTES => Err(PackError::TooLarge(length)),
            _ => Ok(manifest),
        }
    }

    /// Reads a pack. Parts that belong to no image in it change nothing.
    ///
    /// # Errors
    /// See [`PackError`]. What is missing of the image is for the decision to say.
    pub fn unpack(bytes: Vec<u8>) -> Result<Self, PackError> {
        if bytes.len() > MAX_BYTES {
            return Err(PackError::TooLarge(bytes.len()));
        }
        let manifest = Manifest::parse(bytes)?;
        if manifest.artifact_type.as_deref() != Some(PACK) {
            return Err(PackError::OtherType);
        }
        if manifest.layers.len() > MAX_PARTS {
            return Err(PackError::TooMany(manifest.layers.len()));
        }
        let image = manifest.subject.ok_or(PackError::NoImage)?.digest;
        let mut root = None;
        let (mut children, mut bundles) = (BTreeMap::new(), BTreeMap::new());
        for layer in manifest.layers {
            let bytes = layer.data.ok_or(PackError::NotInlined(layer.digest))?;
            if layer.digest == image {
                root = Some(Part { media_type: layer.media_type, bytes });
            } else if layer.media_type == BUNDLE {
                bundles.insert(layer.digest, bytes.into());
            } else {
                children.insert(layer.digest, Part { media_type: layer.media_type, bytes });
            }
        }
        Ok(Self { root: root.ok_or(PackError::NoImage)?, children, bundles })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::media_type::{CONFIG, INDEX, MANIFEST};

    fn parts() -> Parts {
        let mut parts = Parts::of(INDEX, b"index".to_vec());
        for (media_type, bytes) in [(MANIFEST, "manifest"), (CONFIG, "configuration")] {
            let media_type = media_type.to_owned();
            parts.add_child(Part { media_type, bytes: bytes.as_bytes().to_vec() });
        }
        parts.add_bundle(b"bundle".to_vec());
        parts
    }

    #[test]
    fn a_pack_reads_back_and_is_always_the_same() {
        let packed = parts().pack().unwrap();
        assert_eq!(packed.bytes(), parts().pack().unwrap().bytes());
        assert_eq!(Parts::unpack(packed.bytes().to_vec()), Ok(parts()));
        assert_eq!(packed.subject.unwrap().digest, Digest::of(b"index"));
    }

    #[test]
    fn what_is_no_pack_is_refused_with_its_reason() {
        let good = String::from_utf8(parts().pack().unwrap().bytes().to_vec()).unwrap();
        let inlined = |bytes: &[u8]| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(bytes)
        };
        let (of, index) = (inlined(b"bundle"), Digest::of(b"index").to_string());
        let last = good.rfind(&index).unwrap();
        for (bad, reason) in [
            (good.replacen(&of, &inlined(b"bundel"), 1), "pack-malformed"),
            (good.replacen(&Digest::of(b"bundle").to_string(), &index, 1), "pack-malformed"),
            (good.replacen("\"size\":6", "\"size\":7", 1), "pack-malformed"),
            (good.replacen("\"layers\"", "\"layers\":[],\"layers\"", 1), "pack-malformed"),
            (good.replacen("\"layers\"", "\"Layers\"", 1), "pack-malformed"),
            (good.replacen(PACK, BUNDLE, 1), "pack-type"),
            (good.replacen(&format!(",\"data\":\"{of}\""), "", 1), "pack-incomplete"),
            (good.replacen("\"subject\"", "\"annotations\":{},\"subject\"", 1), ""),
            (
                format!("{}{}{}", &good[..last], Digest::of(b"x"), &good[last + index.len()..]),
                "pack-incomplete",
            ),
            (format!("{}{}", &good[..good.find(",\"subject\"").unwrap()], "}"), "pack-incomplete"),
            (format!("{good}{}", " ".repeat(MAX_BYTES)), "pack-too-large"),
        ] {
            assert_ne!(bad, good);
            let read = Parts::unpack(bad.clone().into_bytes()).map_or_else(|error| error.reason(), |_| "");
            assert_eq!(read, reason, "{bad:.400}");
        }
    }

    #[test]
    fn too_much_does_not_become_a_pack() {
        let mut large = parts();
        large.add_bundle(vec![b'x'; MAX_BYTES * 3 / 4]);
        assert_eq!(large.pack().unwrap_err().reason(), "pack-too-large");
        let mut many = parts();
        (0..MAX_PARTS).for_each(|n| many.add_bundle(n.to_string().into_bytes()));
        assert_eq!(many.pack().unwrap_err().reason(), "pack-too-large");
    }
}
