//! `quorate resolve`.

use clap::Args;
use serde_json::json;

use super::{Finished, Global};
use crate::edge::registry::Access;
use crate::error::Error;
use crate::oci::Reference;
use crate::ops::resolve;

/// Print the digest that a reference names
///
/// The digest is computed from what the registry sends, never taken from its word. It says what
/// is there, not that it may run: that is for `quorate verify`.
#[derive(Args)]
#[command(after_help = "Example:\n  quorate resolve ghcr.io/acme/app:1.4.2")]
pub(super) struct Arguments {
    /// The image: `host/repository:tag` or `host/repository@digest`
    image: Reference,
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global) -> Result<Finished, Error> {
        let registry = global.registry(60)?;
        registry.announce(&self.image.repository, Access::Pull)?;
        let found = resolve(&registry, &self.image).await?;
        let document = json!({
            "mediaType": "application/vnd.quorate.resolve.v1+json",
            "image": { "repository": self.image.repository.to_string(), "digest": found.digest },
            "descriptor": {
                "mediaType": found.media_type,
                "digest": found.digest,
                "size": found.bytes.len(),
            },
        });
        Ok(Finished::yes(found.digest.to_string(), document))
    }
}
