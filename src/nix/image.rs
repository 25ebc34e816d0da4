//! The image JSON of nix2container (`types/types.go` there), and the configuration it makes of it.
//!
//! `nix build` leaves one file that names the layers; the configuration comes into being when the
//! image is pushed. It is a function of that file, so a builder that never pushes can compute it:
//! Go's `json.Marshal` of the image-spec's `Image`, to the byte.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::layer::{LayerError, StorePath, WirePath};
use crate::oci::json::{self, JsonError, Shape};
use crate::oci::{Config, Digest, manifest::ManifestError, media_type};

/// What enters the configuration is closed: an unknown key could belong there.
const SHAPE: Shape = Shape::Closed(&[
    ("version", Shape::Any),
    ("image-config", Shape::Any),
    ("layers", Shape::List(&LAYER)),
    ("arch", Shape::Any),
    ("created", Shape::Any),
]);
const LAYER: Shape = Shape::Open(&[
    ("digest", Shape::Any),
    ("size", Shape::Any),
    ("diff_ids", Shape::Any),
    ("paths", Shape::Any),
    ("mediatype", Shape::Any),
    ("layer-path", Shape::Any),
    ("History", Shape::Any),
]);

/// Why bytes are not an image JSON of nix2container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Not strict JSON, or a key that it does not have.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A field is missing or has the wrong type.
    #[error("not an image of nix2container: {0}")]
    Malformed(String),
    /// The layout of another time.
    #[error("the image JSON has version {0}, not 1")]
    Version(u64),
    /// There is nothing to be run.
    #[error("the image has no layers")]
    Empty,
    /// Where a layer comes from is not known.
    #[error("the layer {0} has neither `paths` nor a `layer-path`")]
    Layer(Digest),
    /// A layer that is not compressed has a digest of its own.
    #[error("the layer {0} has the diff_id {1}")]
    DiffId(Digest, Digest),
    /// The store paths of a layer cannot be used.
    #[error(transparent)]
    Paths(#[from] LayerError),
    /// What it makes cannot be read as a configuration.
    #[error(transparent)]
    Config(#[from] ManifestError),
}

/// An image as its JSON describes it.
#[derive(Debug, Clone)]
pub struct Image {
    /// The configuration that nix2container makes of it.
    pub config: Config,
    /// The bytes of that.
    pub config_bytes: Vec<u8>,
    /// The layers, base first.
    pub layers: Vec<Layer>,
}

/// A layer of such an image.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The digest that it must have.
    pub digest: Digest,
    /// The bytes that it must have, if that was written down.
    pub size: Option<u64>,
    /// What it is (image-spec, `layer.md`).
    pub media_type: String,
    /// Where its bytes come from.
    pub content: LayerContent,
}

/// Where the bytes of a layer come from.
#[derive(Debug, Clone)]
pub enum LayerContent {
    /// This file holds them.
    File(String),
    /// They are the archive of these store paths.
    Paths(Vec<StorePath>),
}

/// The image JSON.
#[derive(Deserialize)]
struct Wire {
    version: u64,
    #[serde(rename = "image-config")]
    config: WireConfig,
    layers: Vec<WireLayer>,
    arch: String,
    #[serde(default)]
    created: Option<String>,
}

#[derive(Deserialize)]
struct WireLayer {
    digest: Option<Digest>,
    #[serde(default)]
    size: u64,
    diff_ids: Digest,
    paths: Option<Vec<Value>>,
    #[serde(default)]
    mediatype: String,
    #[serde(rename = "layer-path", default)]
    layer_path: String,
    #[serde(rename = "History")]
    history: History,
}

/// Go's zero values are not written.
fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `ImageConfig` of the image-spec's `config.go`, in its order.
#[allow(clippy::zero_sized_map_values, reason = "sets are written as maps to `{}` there")]
#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
struct WireConfig {
    #[serde(skip_serializing_if = "is_zero")]
    user: String,
    #[serde(skip_serializing_if = "is_zero")]
    exposed_ports: BTreeMap<String, Nothing>,
    #[serde(skip_serializing_if = "is_zero")]
    env: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    cmd: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    volumes: BTreeMap<String, Nothing>,
    #[serde(skip_serializing_if = "is_zero")]
    working_dir: String,
    #[serde(skip_serializing_if = "is_zero")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_zero")]
    stop_signal: String,
    #[serde(skip_serializing_if = "is_zero")]
    args_escaped: bool,
}

/// An empty object.
#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// `History` of the image-spec's `config.go`, in its order.
#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct History {
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    created_by: String,
    #[serde(skip_serializing_if = "is_zero")]
    author: String,
    #[serde(skip_serializing_if = "is_zero")]
    comment: String,
    #[serde(skip_serializing_if = "is_zero")]
    empty_layer: bool,
}

/// `Image` of the image-spec's `config.go`, in its order.
#[derive(Serialize)]
struct WireImage {
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    architecture: String,
    os: &'static str,
    config: WireConfig,
    rootfs: RootFs,
    history: Vec<History>,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: Vec<Digest>,
}

/// The image configuration that nix2container makes of an image JSON.
///
/// # Errors
/// See [`ImageError`]. Whatever else an image JSON may hold, such as the paths of layers, does not
/// enter the configuration and is not looked at.
pub fn config(bytes: &[u8]) -> Result<Config, ImageError> {
    Ok(Config::parse(blob(parse(bytes)?)?.as_bytes())?)
}

/// The whole image, to be pushed.
///
/// # Errors
/// See [`ImageError`].
pub fn image(bytes: &[u8]) -> Result<Image, ImageError> {
    let mut wire = parse(bytes)?;
    let layers = wire.layers.iter_mut().map(layer).collect::<Result<_, _>>()?;
    let config_bytes = blob(wire)?.into_bytes();
    Ok(Image { config: Config::parse(&config_bytes)?, config_bytes, layers })
}

fn parse(bytes: &[u8]) -> Result<Wire, ImageError> {
    let wire: Wire = serde_json::from_value(json::parse(bytes, &SHAPE)?).map_err(malformed)?;
    if wire.version != 1 {
        return Err(ImageError::Version(wire.version));
    }
    if wire.layers.is_empty() {
        return Err(ImageError::Empty);
    }
    Ok(wire)
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` passes it")]
fn malformed(error: serde_json::Error) -> ImageError {
    ImageError::Malformed(error.to_string())
}

fn layer(wire: &mut WireLayer) -> Result<Layer, ImageError> {
    let digest = wire.digest.unwrap_or(wire.diff_ids);
    let media_type = std::mem::take(&mut wire.mediatype);
    if !media_type.starts_with(media_type::LAYER) {
        return Err(ImageError::Malformed(format!("the layer {digest} has the media type `{media_type}`")));
    }
    if media_type == media_type::LAYER && digest != wire.diff_ids {
        return Err(ImageError::DiffId(digest, wire.diff_ids));
    }
    let content = match (wire.layer_path.as_str(), wire.paths.take()) {
        ("", Some(paths)) if media_type == media_type::LAYER => {
            let paths = paths.into_iter().map(|path| {
                let path: WirePath = serde_json::from_value(path).map_err(malformed)?;
                Ok(StorePath::try_from(path)?)
            });
            LayerContent::Paths(paths.collect::<Result<_, ImageError>>()?)
        }
        ("", _) => return Err(ImageError::Layer(digest)),
        (file, _) => LayerContent::File(file.to_owned()),
    };
    // Go writes no size as zero, and no layer is so short.
    let size = (wire.size > 0).then_some(wire.size);
    Ok(Layer { digest, size, media_type, content })
}

/// The configuration's bytes.
fn blob(wire: Wire) -> Result<String, ImageError> {
    let (diff_ids, history) = wire.layers.into_iter().map(|layer| (layer.diff_ids, layer.history)).unzip();
    let image = WireImage {
        created: wire.created,
        architecture: wire.arch,
        os: "linux",
        config: wire.config,
        rootfs: RootFs { kind: "layers", diff_ids },
        history,
    };
    Ok(escape(&serde_json::to_string(&image).map_err(malformed)?))
}

/// Escapes what Go escapes and `serde_json` does not; it can only stand in strings.
fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF_ID: &str = "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";

    fn json(config: &str) -> String {
        format!(
            r#"{{"version":1,"image-config":{config},"layers":[{{"digest":"{DIFF_ID}","size":1,"diff_ids":"{DIFF_ID}","paths":[{{"path":"/nix/store/x"}}],"mediatype":"application/vnd.oci.image.layer.v1.tar","History":{{"created_by":"nix2container"}}}}],"arch":"arm64","created":"0001-01-01T00:00:00Z"}}"#
        )
    }

    #[test]
    fn the_configuration_is_written_as_go_writes_it() {
        // Keys in Go's order whatever that of the file, maps sorted, zero values left out.
        let given =
            r#"{"Labels":{"b":"2","a":"<1>"},"Env":["A=x&y\u2028"],"User":"","ExposedPorts":{"80/tcp":{}}}"#;
        assert_eq!(
            blob(parse(json(given).as_bytes()).unwrap()).unwrap(),
            format!(
                r#"{{"created":"0001-01-01T00:00:00Z","architecture":"arm64","os":"linux","config":{{"ExposedPorts":{{"80/tcp":{{}}}},"Env":["A=x\u0026y\u2028"],"Labels":{{"a":"\u003c1\u003e","b":"2"}}}},"rootfs":{{"type":"layers","diff_ids":["{DIFF_ID}"]}},"history":[{{"created_by":"nix2container"}}]}}"#
            )
        );
        let read = config(json("{}").as_bytes()).unwrap();
        assert_eq!(read.platform.to_string(), "linux/arm64");
        assert_eq!(read.diff_ids.len(), 1);
    }

    #[test]
    fn what_could_enter_the_configuration_unseen_is_refused() {
        let good = json(r#"{"User":"me"}"#);
        assert!(config(good.as_bytes()).is_ok());
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"version\":1,", ""),
            ("\"arch\":", "\"variant\":\"v8\",\"arch\":"),
            ("\"arch\":", "\"Arch\":\"x\",\"arch\":"),
            ("\"arch\":\"arm64\"", "\"arch\":\"\""),
            ("\"User\"", "\"Healthcheck\""),
            ("\"User\"", "\"user\""),
            ("\"User\":\"me\"", "\"User\":\"me\",\"User\":\"me\""),
            ("\"User\":\"me\"", "\"ExposedPorts\":{\"80\":{\"x\":1}}"),
            ("\"History\":{", "\"History\":{\"more\":1,"),
            ("\"diff_ids\":\"sha256:", "\"diff_ids\":\"md5:"),
            ("\"diff_ids\"", "\"diffIDs\""),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert!(config(bad.as_bytes()).is_err(), "{from} -> {to}");
        }
        let empty = r#"{"version":1,"image-config":{},"layers":[],"arch":"arm64","created":null}"#;
        assert_eq!(config(empty.as_bytes()), Err(ImageError::Empty));
    }
}
