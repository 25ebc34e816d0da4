//! `quorate promote`.

use clap::Args;
use clap::builder::BoolishValueParser;

use super::verify::{outputs, refusal};
use super::{Finished, Global, Judgement};
use crate::edge::output::Printer;
use crate::edge::registry::Access;
use crate::error::Error;
use crate::oci::{Digest, Reference, Tag};
use crate::ops::promote::{Request, run};
use crate::policy::Purpose;
use crate::policy::moves::Allowances;
use crate::report::promote::{self as report, Outcome, Report};
use crate::report::style::Style;

/// Move tags to a release that a quorum of builders agrees on
///
/// Judges the image as `verify` does. Only if the quorum is met for every platform, the tags are
/// written: the very bytes that were judged, read back afterwards. `latest` moves forward only,
/// version tags never move, unless the policy's `[[image.tag]]` rules say otherwise.
#[derive(Args)]
#[command(after_help = "\
Example:
  quorate promote ghcr.io/acme/app:git-0123abc --policy quorate.toml \\
      --trusted-root trusted_root.json --quorum 2 --tag latest --tag 1.4.2")]
pub(super) struct Arguments {
    /// The image: `host/repository:tag` or `host/repository@digest`; a tag is resolved once
    image: Reference,
    /// A tag that shall name the image; may be repeated
    #[arg(long = "tag", value_name = "TAG", required = true, value_delimiter = ',', env = "QUORATE_TAG")]
    tags: Vec<Tag>,
    #[command(flatten)]
    judgement: Judgement,
    /// Let a forward-only tag move back to an older release
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_ALLOW_ROLLBACK")]
    allow_rollback: bool,
    /// Let a forward-only tag move away from this image, which the policy does not verify
    #[arg(long, value_name = "OLD_DIGEST", env = "QUORATE_ADOPT")]
    adopt: Option<Digest>,
    /// Judge and plan, but write nothing
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_DRY_RUN")]
    dry_run: bool,
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global, printer: Printer) -> Result<Finished, Error> {
        let (policy, trust) = self.judgement.load()?;
        let registry = global.registry(60)?;
        let access = if self.dry_run { Access::Pull } else { Access::Push };
        registry.announce(&self.image.repository, access)?;
        let request = Request {
            image: self.image.clone(),
            tags: self.tags.clone(),
            quorum: self.judgement.quorum(
                &policy,
                &self.image.repository,
                &Purpose::Promote(self.tags.clone()),
            )?,
            commit: self.judgement.expect_commit.clone(),
            allow: Allowances { rollback: self.allow_rollback, adopt: self.adopt },
            dry_run: self.dry_run,
        };
        let mut report = run(&registry, &policy, &trust, &request).await?;
        let style = Style { color: printer.colors() };
        let (text, json) = (report::text(&report, style), report::json(&report));
        let outcome = report.outcome();
        let summary = report::markdown(&report);
        let mut outputs = outputs(&report.verdict);
        outputs.push(("outcome", outcome.as_str().to_owned()));
        let error = match outcome {
            Outcome::Moved | Outcome::Unchanged => {
                return Ok(Finished { outputs, summary, ..Finished::yes(text, json) });
            }
            Outcome::Undecided => report.unfinished.take(),
            Outcome::Refused => refusal(&report.verdict).or_else(|| tags_refused(&report)),
        };
        Ok(Finished { text, json, error, outputs, summary, ..Finished::default() })
    }
}

fn tags_refused(report: &Report) -> Option<Error> {
    let refused =
        report.tags.iter().find_map(|tag| tag.refusal.as_ref().map(|(reason, _)| (&tag.tag, *reason)))?;
    let (tag, reason) = refused;
    let hint = match reason {
        crate::reason::Reason::TagBackwards => "`--allow-rollback` lets the tag move back",
        crate::reason::Reason::TagUnverified => {
            "look at what the tag names; `--adopt OLD_DIGEST` lets it move away from that image"
        }
        _ => "an immutable tag names one release for ever: choose a new version",
    };
    Some(Error::no(format!("the tag `{tag}` must not move ({reason}); no tag was written")).hint(hint))
}
