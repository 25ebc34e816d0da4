//! Whether the layers that were pushed are those that the configuration names.

use super::registry::Registry;
use crate::error::Error;
use crate::oci::{Config, Manifest, Repository};

/// A layer that is not what the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbound {
    /// The stable reason code.
    pub reason: &'static str,
    /// Which layer, and both sides.
    pub detail: String,
}

/// Binds every layer of `manifest` to the `diff_ids` of `config`; the first that does not hold.
pub async fn unbound(
    registry: &Registry,
    repository: &Repository,
    manifest: &Manifest,
    config: &Config,
) -> Result<Option<Unbound>, Error> {
    let _ = (registry, repository);
    for (layer, diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
        if layer.digest != *diff_id {
            return Ok(Some(Unbound { reason: "layer-differs", detail: format!("{}", layer.digest) }));
        }
    }
    Ok(None)
}
