//! `quorate assemble`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::{Finished, Global};
use crate::edge::files;
use crate::edge::registry::Access;
use crate::edge::tags::CandidateTag;
use crate::error::Error;
use crate::oci::{Reference, Repository, Tag, Target, reference::ReferenceError};
use crate::ops::assemble::{Request, run};
use crate::report::assemble::{self as report, Report};

/// Put per-architecture images together into one image index
///
/// Each image's platform is learnt from its configuration. A tag that ends in an architecture
/// (`-arm64`) or a Nix system (`-aarch64-linux`) must hold an image of it. The same images give
/// the same index, byte for byte, in whatever order they are named.
///
/// The index is written to a candidate tag, or by digest where TARGET is a repository alone;
/// never to `latest`, nor to a tag that the policy governs. The first line printed is the
/// reference of the index by digest.
#[derive(Args)]
#[command(after_help = "\
Example:
  quorate assemble ghcr.io/acme/app:git-0123abc \\
      ghcr.io/acme/app:git-0123abc-amd64 ghcr.io/acme/app:git-0123abc-arm64")]
pub(super) struct Arguments {
    /// `host/repository:tag`, or `host/repository` to write by digest alone
    #[arg(value_name = "TARGET", value_parser = target)]
    target: Destination,
    /// The images: `host/repository:tag` or `host/repository@digest`
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<Reference>,
    /// The policy whose tags are not to be written
    #[arg(long, value_name = "FILE", env = "QUORATE_POLICY")]
    policy: Option<PathBuf>,
    /// An annotation of the index; may be repeated (in the environment: one a line)
    #[arg(
        long = "annotation",
        value_name = "KEY=VALUE",
        value_parser = annotation,
        value_delimiter = '\n',
        env = "QUORATE_ANNOTATION"
    )]
    annotations: Vec<(String, String)>,
    /// Check everything and print the result, but write nothing
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_DRY_RUN")]
    dry_run: bool,
}

#[derive(Clone)]
struct Destination {
    repository: Repository,
    tag: Option<Tag>,
}

fn target(text: &str) -> Result<Destination, String> {
    match text.parse::<Reference>() {
        Ok(Reference { repository, target: Target::Tag(tag) }) => {
            Ok(Destination { repository, tag: Some(tag) })
        }
        Ok(Reference { target: Target::Digest(_), .. }) => {
            Err("the digest of an index follows from what is in it; name a repository or a tag".to_owned())
        }
        Err(ReferenceError::NoTarget(_)) => {
            let repository = text.parse().map_err(|error: ReferenceError| error.to_string())?;
            Ok(Destination { repository, tag: None })
        }
        Err(error) => Err(error.to_string()),
    }
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global) -> Result<Finished, Error> {
        let policy = self.policy.as_deref().map(files::policy).transpose()?;
        let rule = policy.as_ref().and_then(|policy| policy.image(&self.target.repository));
        let tag = self.target.tag.clone().map(|tag| CandidateTag::new(tag, rule)).transpose()?;
        let mut annotations = BTreeMap::new();
        for (key, value) in &self.annotations {
            if annotations.insert(key.clone(), value.clone()).is_some() {
                return Err(Error::request(format!("the annotation `{key}` is given twice")));
            }
        }
        let registry = global.registry(60)?;
        let access = if self.dry_run { Access::Pull } else { Access::Push };
        registry.announce(&self.target.repository, access)?;
        let report = run(
            &registry,
            Request {
                repository: self.target.repository.clone(),
                tag,
                sources: self.sources.clone(),
                annotations,
                dry_run: self.dry_run,
            },
        )
        .await?;
        let (text, json) = (report::text(&report), report::json(&report));
        Ok(match &report {
            Report::Assembled(_) => Finished::yes(text, json),
            Report::Refused(refused) => {
                let error = Error::no(format!("the images do not make a release ({})", refused.reason))
                    .because(refused.detail.clone());
                Finished::no(text, json, error)
            }
        })
    }
}
