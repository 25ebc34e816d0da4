//! Image indexes (image-spec, `image-index.md`): reading them strictly, writing them byte-stable.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::descriptor::{self, DescriptorError, Wire};
use super::json::{self, JsonError, Shape};
use super::media_type;
use super::{Descriptor, Digest, Platform};

const SHAPE: Shape = Shape::Closed(&[
    ("schemaVersion", Shape::Any),
    ("mediaType", Shape::Any),
    ("artifactType", Shape::Any),
    ("manifests", Shape::List(&descriptor::SHAPE)),
    ("subject", descriptor::SHAPE),
    ("annotations", Shape::Any),
]);

/// An image index and the very bytes it was read from or will be written as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIndex {
    bytes: Vec<u8>,
    digest: Digest,
    /// The media type that the index states for itself.
    pub media_type: String,
    /// The children in the order of the document.
    pub manifests: Vec<Descriptor>,
    /// Annotations of the index.
    pub annotations: BTreeMap<String, String>,
}

/// Why bytes are not an image index, or children cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Not strict JSON, or a key that no index has.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A field is missing or has the wrong type.
    #[error("malformed index: {0}")]
    Malformed(String),
    /// `schemaVersion` is not 2.
    #[error("the index has schema version {0}, not 2")]
    SchemaVersion(u64),
    /// `mediaType` is missing or is not that of an index.
    #[error("the index states the media type `{0}`")]
    MediaType(String),
    /// A child's descriptor is refused.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// Two children have one platform.
    #[error("two images have the platform {0}")]
    DuplicatePlatform(Platform),
    /// Two children are one manifest.
    #[error("the manifest {0} is given twice")]
    DuplicateDigest(Digest),
    /// A child without a platform cannot stand in a release index.
    #[error("the manifest {0} has no platform")]
    NoPlatform(Digest),
    /// An index of nothing.
    #[error("no images were given")]
    Empty,
    /// No child for a platform.
    #[error("the index has no {0}")]
    Absent(Platform),
    /// Several children for a platform.
    #[error("the index has {0} twice")]
    Ambiguous(Platform),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireIndex {
    schema_version: u64,
    #[serde(default)]
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    manifests: Vec<Wire>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Wire>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl ImageIndex {
    /// The one child for `platform`.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn child(&self, platform: &Platform) -> Result<&Descriptor, IndexError> {
        let mut fits = self.manifests.iter().filter(|child| child.platform.as_ref() == Some(platform));
        match (fits.next(), fits.next()) {
            (Some(child), None) => Ok(child),
            (None, _) => Err(IndexError::Absent(platform.clone())),
            (Some(_), Some(_)) => Err(IndexError::Ambiguous(platform.clone())),
        }
    }

    /// Reads an index strictly and keeps its bytes.
    ///
    /// Whether the children make a release is for the policy to say; here nothing is refused
    /// but what is not a well-formed index.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, IndexError> {
        let value = json::parse(&bytes, &SHAPE)?;
        let wire: WireIndex =
            serde_json::from_value(value).map_err(|error| IndexError::Malformed(error.to_string()))?;
        if wire.schema_version != 2 {
            return Err(IndexError::SchemaVersion(wire.schema_version));
        }
        if !media_type::is_index(&wire.media_type) {
            return Err(IndexError::MediaType(wire.media_type));
        }
        let manifests = wire.manifests.into_iter().map(Descriptor::try_from).collect::<Result<_, _>>()?;
        Ok(Self {
            digest: Digest::of(&bytes),
            bytes,
            media_type: wire.media_type,
            manifests,
            annotations: wire.annotations,
        })
    }

    /// Puts per-platform manifests together into one OCI index.
    ///
    /// The bytes depend on the children and annotations alone, not on their order: children are
    /// sorted by platform, annotations by key, and JSON is written without white space.
    ///
    /// # Errors
    /// When there are no children, or two share a platform or a digest, or one has no platform.
    pub fn assemble(
        mut children: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Result<Self, IndexError> {
        if children.is_empty() {
            return Err(IndexError::Empty);
        }
        children.sort_by(|a, b| (&a.platform, a.digest).cmp(&(&b.platform, b.digest)));
        let mut platforms = BTreeSet::new();
        let mut digests = BTreeSet::new();
        for child in &children {
            let platform = child.platform.clone().ok_or(IndexError::NoPlatform(child.digest))?;
            if !digests.insert(child.digest) {
                return Err(IndexError::DuplicateDigest(child.digest));
            }
            if !platforms.insert(platform.clone()) {
                return Err(IndexError::DuplicatePlatform(platform));
            }
        }
        let wire = WireIndex {
            schema_version: 2,
            media_type: media_type::INDEX.to_owned(),
            artifact_type: None,
            manifests: children.iter().map(Wire::from).collect(),
            subject: None,
            annotations: annotations.clone(),
        };
        let bytes = serde_json::to_vec(&wire).map_err(|error| IndexError::Malformed(error.to_string()))?;
        Ok(Self {
            digest: Digest::of(&bytes),
            bytes,
            media_type: media_type::INDEX.to_owned(),
            manifests: children,
            annotations,
        })
    }

    /// The bytes, exactly as they were read or will be written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// A descriptor of this index, as it stands in a `subject`.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(&self.media_type, &self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(content: &str, platform: &str) -> Descriptor {
        Descriptor {
            platform: Some(platform.parse().unwrap()),
            ..Descriptor::of(media_type::MANIFEST, content.as_bytes())
        }
    }

    fn annotations() -> BTreeMap<String, String> {
        [("b", "2"), ("a", "1"), ("c", "3")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn the_same_children_give_the_same_bytes_in_any_order() {
        let (a, b) = (child("a", "linux/amd64"), child("b", "linux/arm64"));
        let one = ImageIndex::assemble(vec![a.clone(), b.clone()], annotations()).unwrap();
        let two = ImageIndex::assemble(vec![b, a], annotations()).unwrap();
        assert_eq!(one.bytes(), two.bytes());
        assert_eq!(
            String::from_utf8(one.bytes().to_vec()).unwrap(),
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","size":1,"platform":{"architecture":"amd64","os":"linux"}},{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d","size":1,"platform":{"architecture":"arm64","os":"linux"}}],"annotations":{"a":"1","b":"2","c":"3"}}"#
        );
    }

    #[test]
    fn what_was_assembled_reads_back() {
        let index =
            ImageIndex::assemble(vec![child("a", "linux/amd64"), child("b", "linux/arm/v6")], annotations())
                .unwrap();
        assert_eq!(ImageIndex::parse(index.bytes().to_vec()).unwrap(), index);
    }

    #[test]
    fn twins_and_nameless_children_are_refused() {
        let a = child("a", "linux/arm64");
        let assemble = |children| ImageIndex::assemble(children, BTreeMap::new());
        assert_eq!(assemble(vec![]), Err(IndexError::Empty));
        assert_eq!(
            assemble(vec![a.clone(), child("b", "linux/arm64/v8")]),
            Err(IndexError::DuplicatePlatform("linux/arm64".parse().unwrap()))
        );
        assert_eq!(
            assemble(vec![
                a.clone(),
                Descriptor { platform: Some("linux/amd64".parse().unwrap()), ..a.clone() }
            ]),
            Err(IndexError::DuplicateDigest(a.digest))
        );
        assert_eq!(assemble(vec![a.bare()]), Err(IndexError::NoPlatform(a.digest)));
    }

    #[test]
    fn malformed_indexes_are_refused() {
        let good = ImageIndex::assemble(vec![child("a", "linux/amd64")], BTreeMap::new()).unwrap();
        let good = String::from_utf8(good.bytes().to_vec()).unwrap();
        assert!(ImageIndex::parse(good.clone().into_bytes()).is_ok());
        for (from, to) in [
            ("\"schemaVersion\":2", "\"schemaVersion\":1"),
            ("\"schemaVersion\":2,", ""),
            ("index.v1", "manifest.v1"),
            ("\"mediaType\":\"application/vnd.oci.image.index.v1+json\",", ""),
            ("\"size\":1", "\"size\":-1"),
            ("\"size\":1", "\"size\":1e0"),
            ("\"size\":1", "\"size\":9223372036854775808000"),
            ("\"size\":1", "\"size\":1,\"layers\":[]"),
            ("\"size\":1", "\"size\":1,\"Digest\":\"x\""),
            ("\"size\":1", "\"size\":1,\"data\":\"Yg==\""),
            ("\"size\":1", "\"size\":1,\"data\":\"!\""),
            ("sha256:", "sha512:"),
            ("\"manifests\":[", "\"layers\":[],\"manifests\":["),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from} is not in the sample");
            assert!(ImageIndex::parse(bad.clone().into_bytes()).is_err(), "{bad}");
        }
        let inlined = good.replace("\"size\":1", "\"size\":1,\"data\":\"YQ==\"");
        assert_eq!(ImageIndex::parse(inlined.into_bytes()).unwrap().manifests[0].data, Some(b"a".to_vec()));
    }
}
