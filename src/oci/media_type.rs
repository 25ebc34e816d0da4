//! Media types that `quorate` writes or reads.

/// OCI image index (image-spec, `image-index.md`).
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest (image-spec, `manifest.md`).
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image configuration (image-spec, `config.md`).
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The empty descriptor's media type (image-spec, "Guidance for an Empty Descriptor").
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// A layer that is not compressed (image-spec, `layer.md`).
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A layer compressed with gzip (image-spec, `layer.md`).
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A layer compressed with zstd (image-spec, `layer.md`).
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker manifest list, schema 2.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Sigstore bundle, version 0.3.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Proof pack: an image and the evidence about it in one manifest.
pub const PACK: &str = "application/vnd.quorate.pack.v1+json";

/// Whether `media_type` names an index (OCI, or Docker's manifest list).
pub fn is_index(media_type: &str) -> bool {
    media_type == INDEX || media_type == DOCKER_INDEX
}

/// Whether `media_type` names the manifest of one image (OCI or Docker).
pub fn is_manifest(media_type: &str) -> bool {
    media_type == MANIFEST || media_type == DOCKER_MANIFEST
}

/// Whether `media_type` names an image configuration (OCI or Docker).
pub fn is_config(media_type: &str) -> bool {
    media_type == CONFIG || media_type == DOCKER_CONFIG
}
