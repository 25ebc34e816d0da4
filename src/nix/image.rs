//! The image JSON of nix2container (`types/types.go` there), and the configuration it makes of it.
//!
//! `nix build` leaves one file that names the layers; the configuration comes into being when the
//! image is pushed. It is a function of that file, so a builder that never pushes can compute it:
//! Go's `json.Marshal` of the image-spec's `Image`, to the byte.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::oci::json::{self, JsonError, Shape};
use crate::oci::{Config, Digest, manifest::ManifestError};

/// What enters the configuration is closed: an unknown key could belong there.
const SHAPE: Shape = Shape::Closed(&[
    ("version", Shape::Any),
    ("image-config", Shape::Any),
    ("layers", Shape::List(&LAYER)),
    ("arch", Shape::Any),
    ("created", Shape::Any),
]);
const LAYER: Shape = Shape::Open(&[("diff_ids", Shape::Any), ("History", Shape::Any)]);

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
    /// What it makes cannot be read as a configuration.
    #[error(transparent)]
    Config(#[from] ManifestError),
}

/// The image JSON, as far as it enters the configuration.
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
    diff_ids: Digest,
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
struct Image {
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
    Ok(Config::parse(blob(bytes)?.as_bytes())?)
}

/// The configuration's bytes.
fn blob(bytes: &[u8]) -> Result<String, ImageError> {
    let malformed = |error: serde_json::Error| ImageError::Malformed(error.to_string());
    let wire: Wire = serde_json::from_value(json::parse(bytes, &SHAPE)?).map_err(malformed)?;
    if wire.version != 1 {
        return Err(ImageError::Version(wire.version));
    }
    if wire.layers.is_empty() {
        return Err(ImageError::Empty);
    }
    let (diff_ids, history) = wire.layers.into_iter().map(|layer| (layer.diff_ids, layer.history)).unzip();
    let image = Image {
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

    fn image(config: &str) -> String {
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
            blob(image(given).as_bytes()).unwrap(),
            format!(
                r#"{{"created":"0001-01-01T00:00:00Z","architecture":"arm64","os":"linux","config":{{"ExposedPorts":{{"80/tcp":{{}}}},"Env":["A=x\u0026y\u2028"],"Labels":{{"a":"\u003c1\u003e","b":"2"}}}},"rootfs":{{"type":"layers","diff_ids":["{DIFF_ID}"]}},"history":[{{"created_by":"nix2container"}}]}}"#
            )
        );
        let read = config(image("{}").as_bytes()).unwrap();
        assert_eq!(read.platform.to_string(), "linux/arm64");
        assert_eq!(read.diff_ids.len(), 1);
    }

    #[test]
    fn what_could_enter_the_configuration_unseen_is_refused() {
        let good = image(r#"{"User":"me"}"#);
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
