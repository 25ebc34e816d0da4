//! Container images, made from nothing and the same every time.

mod elf;
mod tar;

use std::io::{self, Error, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::client::send;
use crate::sha256;

pub use elf::minimal_elf;
pub use tar::archive;

/// The media type of the manifests made here.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image of one layer for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The layer as it is pushed.
    pub layer: Vec<u8>,
    /// The digest of [`Image::layer`].
    pub layer_digest: String,
    /// The media type of [`Image::layer`].
    pub layer_media_type: &'static str,
    /// The digest of the layer's tar archive, compressed or not.
    pub diff_id: String,
    /// The image configuration.
    pub config: Vec<u8>,
    /// The digest of [`Image::config`].
    pub config_digest: String,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The digest of [`Image::manifest`].
    pub manifest_digest: String,
}

impl Image {
    /// An image of these files: path, content, mode. The first that is executable is the
    /// entrypoint. The platform is named as in the image specification: `linux`, `arm64`.
    pub fn build(os: &str, architecture: &str, variant: Option<&str>, files: &[(&str, &[u8], u32)]) -> Image {
        let layer = tar::archive(files);
        let diff_id = digest(&layer);
        let entrypoint: Vec<String> = files
            .iter()
            .find(|(_, _, mode)| mode & 0o111 != 0)
            .map(|(path, _, _)| format!("/{}", path.trim_start_matches('/')))
            .into_iter()
            .collect();
        let mut config = json!({
            "created": "1970-01-01T00:00:01Z",
            "architecture": architecture,
            "os": os,
            "config": {"Entrypoint": entrypoint},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": "1970-01-01T00:00:01Z", "created_by": "quorate-bed"}],
        });
        if let Some(variant) = variant {
            config["variant"] = variant.into();
        }
        Image::assemble(layer, LAYER, diff_id, config.to_string().into_bytes())
    }

    /// The same image with its layer compressed: another manifest, the same configuration.
    ///
    /// To be called on an image that is not compressed.
    pub fn gzip(&self, level: u32) -> Image {
        assert_eq!(self.layer_media_type, LAYER, "the layer is a plain archive");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(&self.layer).expect("memory takes it all");
        let layer = encoder.finish().expect("memory takes it all");
        Image::assemble(layer, LAYER_GZIP, self.diff_id.clone(), self.config.clone())
    }

    /// The same configuration over other bytes, said to be the same layer.
    pub fn with_layer(&self, layer: Vec<u8>, media_type: &'static str) -> Image {
        Image::assemble(layer, media_type, self.diff_id.clone(), self.config.clone())
    }

    /// The same layer under another configuration.
    pub fn with_config(&self, config: Vec<u8>) -> Image {
        Image::assemble(self.layer.clone(), self.layer_media_type, self.diff_id.clone(), config)
    }

    /// The image as dockerTools writes it and `docker load` reads it.
    ///
    /// To be called on an image that is not compressed.
    pub fn docker_archive(&self) -> Vec<u8> {
        assert_eq!(self.layer_media_type, LAYER, "the layer is a plain archive");
        let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
        let config = format!("{}.json", hex(&self.config_digest));
        let layer = format!("{}/layer.tar", hex(&self.diff_id));
        let manifest = json!([{"Config": config, "RepoTags": ["app:latest"], "Layers": [layer]}]).to_string();
        tar::archive(&[
            (&layer, &self.layer, 0o644),
            (&config, &self.config, 0o644),
            ("manifest.json", manifest.as_bytes(), 0o644),
        ])
    }

    fn assemble(layer: Vec<u8>, layer_media_type: &'static str, diff_id: String, config: Vec<u8>) -> Image {
        let (layer_digest, config_digest) = (digest(&layer), digest(&config));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": CONFIG,
                "digest": config_digest,
                "size": config.len(),
            },
            "layers": [{
                "mediaType": layer_media_type,
                "digest": layer_digest,
                "size": layer.len(),
            }],
        })
        .to_string()
        .into_bytes();
        Image {
            manifest_digest: digest(&manifest),
            manifest,
            layer,
            layer_digest,
            layer_media_type,
            diff_id,
            config,
            config_digest,
        }
    }

    /// Pushes the image to an open registry and returns the digest of its manifest.
    pub fn push(&self, host: &str, repository: &str, reference: &str) -> io::Result<String> {
        self.push_as(None, host, repository, reference)
    }

    /// Pushes the image with this `Authorization` value.
    pub fn push_as(
        &self,
        authorization: Option<&str>,
        host: &str,
        repository: &str,
        reference: &str,
    ) -> io::Result<String> {
        let ask = |method: &str, path: &str, media_type: &str, bytes: &[u8], expected: u16| {
            let mut headers = vec![("Content-Type", media_type)];
            headers.extend(authorization.map(|value| ("Authorization", value)));
            let answer = send(host, method, path, &headers, bytes)?;
            if answer.status == expected {
                return Ok(answer);
            }
            Err(Error::other(format!(
                "{method} {path} was answered with {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )))
        };
        const BYTES: &str = "application/octet-stream";
        for (digest, bytes) in [(&self.layer_digest, &self.layer), (&self.config_digest, &self.config)] {
            let start = format!("/v2/{repository}/blobs/uploads/");
            let start = ask("POST", &start, BYTES, &[], 202)?;
            let location = start
                .header("location")
                .ok_or_else(|| Error::other("the registry does not say where to upload"))?;
            let path = location.trim_start_matches(&format!("http://{host}"));
            let separator = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{separator}digest={digest}");
            ask("PUT", &path, BYTES, bytes, 201)?;
        }
        let path = format!("/v2/{repository}/manifests/{reference}");
        ask("PUT", &path, MANIFEST, &self.manifest, 201)?;
        Ok(self.manifest_digest.clone())
    }
}

/// The digest of some bytes, as OCI writes it.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = sha256(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}
