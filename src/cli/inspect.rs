//! `quorate inspect`.

use std::path::PathBuf;

use clap::Args;

use super::{Finished, Global};
use crate::attestation::Trusts;
use crate::edge::files;
use crate::edge::registry::Access;
use crate::error::Error;
use crate::oci::Reference;
use crate::ops::inspect::{Request, run};
use crate::report::inspect as report;

/// Show an image as a tree: platforms, revisions, what is attached
///
/// With `--policy` and `--trusted-root` each statement of a builder is verified; without them it
/// is shown as it claims to be, and nothing about it is believed. Only `quorate verify` says
/// whether a release may run.
#[derive(Args)]
#[command(after_help = "\
Example:
  quorate inspect ghcr.io/acme/app:1.4.2 --policy quorate.toml --trusted-root trusted_root.json")]
pub(super) struct Arguments {
    /// The image: `host/repository:tag` or `host/repository@digest`
    image: Reference,
    /// The policy (TOML) that says who the builders are
    #[arg(long, value_name = "FILE", env = "QUORATE_POLICY")]
    policy: Option<PathBuf>,
    /// The Sigstore trusted root: the logs and timestamp authorities to believe
    #[arg(long, value_name = "FILE", env = "QUORATE_TRUSTED_ROOT")]
    trusted_root: Option<PathBuf>,
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global) -> Result<Finished, Error> {
        let policy = self.policy.as_deref().map(files::policy).transpose()?;
        let trusts = self.trusted_root.as_deref().map(files::trust).transpose()?.map(Trusts::only);
        let verified = policy.is_some() && trusts.is_some();
        let registry = global.registry(60)?;
        registry.announce(&self.image.repository, Access::Pull)?;
        let found = run(&registry, &Request { image: self.image.clone(), policy, trusts }).await?;
        let mut finished = Finished::yes(report::text(&found), report::json(&found));
        if !verified {
            let note =
                "statements are shown as they claim; with --policy and --trusted-root they are verified";
            finished.notes.push(note.to_owned());
        }
        Ok(finished)
    }
}
