//! `quorate nar-hash`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Finished, shown};
use crate::edge::tree;
use crate::error::Error;

/// Print the narHash of a path
///
/// The SHA-256 of the path's NAR serialisation, as `nix hash path` prints it. Symbolic links are
/// hashed as links: for the `result` of `nix build`, give the store path it points to.
#[derive(Args)]
#[command(after_help = "Example:\n  quorate nar-hash \"$(readlink -f result)\"")]
pub(super) struct Arguments {
    /// A file, directory or symbolic link
    path: PathBuf,
}

impl Arguments {
    pub(super) fn run(&self) -> Result<Finished, Error> {
        let hash = tree::nar_hash(&self.path)
            .map_err(|error| Error::request(format!("cannot hash `{}`", shown(&self.path))).because(error))?;
        let document = json!({
            "mediaType": "application/vnd.quorate.nar-hash.v1+json",
            "path": shown(&self.path),
            "narHash": hash,
            "base32": hash.to_base32(),
        });
        Ok(Finished::yes(hash.to_string(), document))
    }
}
