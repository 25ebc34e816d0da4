//! Image manifests and configurations (image-spec, `manifest.md` and `config.md`).

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use super::descriptor::{self, DescriptorError, Wire};
use super::json::{self, JsonError, Shape};
use super::media_type;
use super::platform::PlatformError;
use super::{Descriptor, Digest, Platform};

const SHAPE: Shape = Shape::Closed(&[
    ("schemaVersion", Shape::Any),
    ("mediaType", Shape::Any),
    ("artifactType", Shape::Any),
    ("config", descriptor::SHAPE),
    ("layers", Shape::List(&descriptor::SHAPE)),
    ("subject", descriptor::SHAPE),
    ("annotations", Shape::Any),
]);

// Docker writes further keys into configurations; they say nothing that is judged here.
const CONFIG_SHAPE: Shape = Shape::Open(&[
    ("architecture", Shape::Any),
    ("os", Shape::Any),
    ("os.version", Shape::Any),
    ("os.features", Shape::Any),
    ("variant", Shape::Any),
    ("created", Shape::Any),
    ("author", Shape::Any),
    ("config", Shape::Any),
    ("rootfs", Shape::Open(&[("type", Shape::Any), ("diff_ids", Shape::Any)])),
    ("history", Shape::Any),
]);

/// The manifest of one image or artifact, and the bytes it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    bytes: Vec<u8>,
    digest: Digest,
    /// The media type that the manifest states for itself.
    pub media_type: String,
    /// What kind of artifact it is, if it is not an image.
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    pub subject: Option<Descriptor>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// What is judged of an image configuration, and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The digest of the configuration's bytes.
    pub digest: Digest,
    /// The platform the configuration states.
    pub platform: Platform,
    /// Whether the configuration states a variant itself; nix2container writes none.
    pub has_variant: bool,
    /// The digests of the uncompressed layers, base first.
    pub diff_ids: Vec<Digest>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
}

/// Why bytes are not the manifest or configuration of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not strict JSON, or a key that no manifest has.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A field is missing or has the wrong type.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// `manifest` or `configuration`.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
    /// `schemaVersion` is not 2.
    #[error("the manifest has schema version {0}, not 2")]
    SchemaVersion(u64),
    /// `mediaType` is missing or is not that of a manifest.
    #[error("the manifest states the media type `{0}`")]
    MediaType(String),
    /// A descriptor in it is refused.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// The configuration's platform is not one.
    #[error(transparent)]
    Platform(#[from] PlatformError),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireManifest {
    schema_version: u64,
    #[serde(default)]
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: Wire,
    layers: Vec<Wire>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Wire>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Reads a manifest strictly and keeps its bytes.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ManifestError> {
        let value = json::parse(&bytes, &SHAPE)?;
        let wire: WireManifest = serde_json::from_value(value)
            .map_err(|error| ManifestError::Malformed { what: "manifest", why: error.to_string() })?;
        if wire.schema_version != 2 {
            return Err(ManifestError::SchemaVersion(wire.schema_version));
        }
        if !media_type::is_manifest(&wire.media_type) {
            return Err(ManifestError::MediaType(wire.media_type));
        }
        Ok(Self {
            digest: Digest::of(&bytes),
            bytes,
            media_type: wire.media_type,
            artifact_type: wire.artifact_type,
            config: wire.config.try_into()?,
            layers: wire.layers.into_iter().map(Descriptor::try_from).collect::<Result<_, _>>()?,
            subject: wire.subject.map(Descriptor::try_from).transpose()?,
            annotations: wire.annotations,
        })
    }

    /// The manifest of an image. The same image gives the same bytes.
    pub fn image(config: Descriptor, layers: Vec<Descriptor>) -> Result<Self, ManifestError> {
        let wire = WireManifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            artifact_type: None,
            config: Wire::from(&config),
            layers: layers.iter().map(Wire::from).collect(),
            subject: None,
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&wire)
            .map_err(|error| ManifestError::Malformed { what: "manifest", why: error.to_string() })?;
        Ok(Self {
            digest: Digest::of(&bytes),
            bytes,
            media_type: wire.media_type,
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: wire.annotations,
        })
    }

    /// The manifest of an artifact about `subject`: one layer, the empty configuration.
    pub fn artifact(
        artifact_type: &str,
        layer: Descriptor,
        subject: &Descriptor,
        annotations: BTreeMap<String, String>,
    ) -> Result<Self, ManifestError> {
        Self::artifact_of(artifact_type, vec![layer], subject, annotations)
    }

    /// The same of several layers.
    pub fn artifact_of(
        artifact_type: &str,
        layers: Vec<Descriptor>,
        subject: &Descriptor,
        annotations: BTreeMap<String, String>,
    ) -> Result<Self, ManifestError> {
        let mut config = Descriptor::of(media_type::EMPTY, b"{}");
        config.data = Some(b"{}".to_vec());
        let subject = subject.bare();
        let wire = WireManifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            artifact_type: Some(artifact_type.to_owned()),
            config: Wire::from(&config),
            layers: layers.iter().map(Wire::from).collect(),
            subject: Some(Wire::from(&subject)),
            annotations: annotations.clone(),
        };
        let bytes = serde_json::to_vec(&wire)
            .map_err(|error| ManifestError::Malformed { what: "manifest", why: error.to_string() })?;
        Ok(Self {
            digest: Digest::of(&bytes),
            bytes,
            media_type: media_type::MANIFEST.to_owned(),
            artifact_type: Some(artifact_type.to_owned()),
            config,
            layers,
            subject: Some(subject),
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

    /// A descriptor of this manifest, as it stands in a `subject`.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(&self.media_type, &self.bytes)
    }
}

impl Config {
    /// The most bytes a configuration may have: 4 MiB.
    pub const MAX_BYTES: u64 = 4 << 20;

    /// Reads an image configuration strictly.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let malformed = |why: String| ManifestError::Malformed { what: "configuration", why };
        let value = json::parse(bytes, &CONFIG_SHAPE)?;
        let config: ImageConfiguration =
            serde_json::from_value(value).map_err(|error| malformed(error.to_string()))?;
        let variant = config.variant().as_deref().filter(|v| !v.is_empty());
        let platform = Platform::new(&config.os().to_string(), &config.architecture().to_string(), variant)?;
        let diff_ids = config
            .rootfs()
            .diff_ids()
            .iter()
            .map(|id| id.parse().map_err(|error: super::digest::DigestError| malformed(error.to_string())))
            .collect::<Result<_, _>>()?;
        let labels = config
            .config()
            .as_ref()
            .and_then(|c| c.labels().as_ref())
            .map(|labels| labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
            .unwrap_or_default();
        Ok(Self { digest: Digest::of(bytes), platform, has_variant: variant.is_some(), diff_ids, labels })
    }

    /// Whether an image with this configuration may stand under `platform` in an index: the same
    /// platform, or the same but for a variant that the configuration leaves open.
    pub fn fits(&self, platform: &Platform) -> bool {
        self.platform == *platform
            || (!self.has_variant
                && self.platform.os() == platform.os()
                && self.platform.architecture() == platform.architecture())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"architecture":"arm64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"]}}"#;

    #[test]
    fn an_artifact_manifest_reads_back() {
        let subject = Descriptor::of(media_type::MANIFEST, b"subject");
        let mut layer = Descriptor::of(media_type::BUNDLE, b"{}");
        layer.data = Some(b"{}".to_vec());
        let manifest = Manifest::artifact(media_type::BUNDLE, layer, &subject, BTreeMap::new()).unwrap();
        assert_eq!(Manifest::parse(manifest.bytes().to_vec()).unwrap(), manifest);
        assert_eq!(
            manifest.config.digest.hex(),
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
    }

    #[test]
    fn ambiguous_manifests_are_refused() {
        let good = Manifest::artifact(
            "a/b",
            Descriptor::of("x/y", b"l"),
            &Descriptor::of(media_type::MANIFEST, b"s"),
            BTreeMap::new(),
        )
        .unwrap();
        let good = String::from_utf8(good.bytes().to_vec()).unwrap();
        for (from, to) in [
            ("\"layers\":[", "\"manifests\":[],\"layers\":["),
            ("\"layers\":[", "\"fsLayers\":[],\"layers\":["),
            ("\"schemaVersion\":2", "\"schemaVersion\":1"),
            ("image.manifest.v1", "image.index.v1"),
            ("\"config\":", "\"Config\":"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert!(Manifest::parse(bad.clone().into_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_configuration_without_variant_fits_what_the_system_decides() {
        let arm = |variant: &str| {
            Config::parse(CONFIG.replace("\"arm64\"", &format!("\"arm\"{variant}")).as_bytes()).unwrap()
        };
        let v6: Platform = "linux/arm/v6".parse().unwrap();
        let v7: Platform = "linux/arm/v7".parse().unwrap();
        assert!(arm("").fits(&v6) && arm("").fits(&v7));
        assert!(arm(r#","variant":"v6""#).fits(&v6) && !arm(r#","variant":"v6""#).fits(&v7));
        let arm64 = Config::parse(CONFIG.as_bytes()).unwrap();
        assert!(arm64.fits(&"linux/arm64/v8".parse().unwrap()));
        assert!(!arm64.fits(&"linux/amd64".parse().unwrap()));
        assert!(!arm64.fits(&"windows/arm64".parse().unwrap()));
    }

    #[test]
    fn malformed_configurations_are_refused() {
        assert!(Config::parse(CONFIG.as_bytes()).is_ok());
        for (from, to) in [
            ("\"os\":\"linux\",", ""),
            ("\"os\":\"linux\"", "\"OS\":\"linux\""),
            ("\"os\":\"linux\"", "\"os\":\"linux\",\"Os\":\"linux\""),
            ("\"os\":\"linux\"", "\"os\":\"\""),
            ("sha256:", "md5:"),
            ("\"rootfs\"", "\"rootFS\""),
        ] {
            let bad = CONFIG.replacen(from, to, 1);
            assert_ne!(bad, CONFIG);
            assert!(Config::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
