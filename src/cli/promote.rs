//! `quorate promote`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use jiff::SignedDuration;

use super::verify::{outputs, refusal};
use super::{Finished, Global, Judgement};
use crate::edge::output::Printer;
use crate::edge::registry::Access;
use crate::edge::tags::CandidateTag;
use crate::error::Error;
use crate::oci::reference::ReferenceError;
use crate::oci::{Digest, Reference, Tag};
use crate::ops::promote::{Request, run};
use crate::policy::moves::{Allowances, Old};
use crate::policy::{Policy, Purpose};
use crate::reason::Reason;
use crate::report::html;
use crate::report::promote::{self as report, Outcome, Report};
use crate::report::style::Style;

/// Seconds of a look at the image, and of the writing.
const LOOK: u64 = 60;

/// Move tags to a release that a quorum of builders agrees on
///
/// Judges the image as `verify` does. Only if the quorum is met for every platform, the tags are
/// written: the very bytes that were judged, read back afterwards. `latest` moves forward only,
/// version tags never move, unless the policy's `[[image.tag]]` rules say otherwise.
#[derive(Args)]
#[command(after_help = "\
Example:
  quorate promote ghcr.io/acme/app:git-0123abc --policy quorate.toml \\
      --trusted-root trusted_root.json --quorum 2 --tag latest --tag 1.4.2 --wait 30m")]
pub(super) struct Arguments {
    /// The image: `host/repository:tag` or `host/repository@digest`; a tag is resolved once
    image: Reference,
    /// A tag that shall name the image; may be repeated
    #[arg(long = "tag", value_name = "TAG", required = true, value_delimiter = ',', env = "QUORATE_TAG")]
    tags: Vec<Tag>,
    #[command(flatten)]
    judgement: Judgement,
    /// What a tag must name until now, or `absent`; may be repeated. A tag that names the image
    /// already is right in any case
    #[arg(
        long,
        value_name = "TAG=DIGEST",
        value_parser = expectation,
        value_delimiter = ',',
        env = "QUORATE_EXPECT_OLD"
    )]
    expect_old: Vec<(Tag, Old)>,
    /// Let a forward-only tag move back to an older release
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_ALLOW_ROLLBACK")]
    allow_rollback: bool,
    /// Let a forward-only tag move away from this image, which the policy does not verify
    #[arg(long, value_name = "OLD_DIGEST", env = "QUORATE_ADOPT")]
    adopt: Option<Digest>,
    /// Wait for missing votes, for this long at most: `30m`, `1h 30m`. Only a quorum that is short
    /// is waited for. `--timeout` is then for each look
    #[arg(long, value_name = "TIME", value_parser = time, env = "QUORATE_WAIT")]
    wait: Option<Duration>,
    /// Once the tags are right, remove this tag of a single image; may be repeated. It must name
    /// an image of the release, which stays; left alone where a registry cannot remove a tag alone
    #[arg(long, value_name = "TAG", value_delimiter = ',', env = "QUORATE_UNTAG")]
    untag: Vec<Tag>,
    /// Judge and plan, but write nothing
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_DRY_RUN")]
    dry_run: bool,
    /// Write a report as one HTML file, whatever the answer is
    #[arg(long, value_name = "FILE", env = "QUORATE_REPORT")]
    pub(super) report: Option<PathBuf>,
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global, printer: Printer) -> Result<Finished, Error> {
        let policy = self.judgement.policy()?;
        let registry = global.registry(LOOK)?;
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
            old: self.old()?,
            allow: Allowances { rollback: self.allow_rollback, adopt: self.adopt },
            wait: self.wait,
            look: Duration::from_secs(global.timeout.unwrap_or(LOOK)),
            untag: self.untag(&policy)?,
            dry_run: self.dry_run,
        };
        let trusts = self.judgement.trust.load_for(&policy, &registry, global, printer).await?;
        let tell = |lacking: &str| printer.talk(&format!("waiting: {lacking}"));
        let mut report = run(&registry, &policy, &trusts, &request, &tell).await?;
        let style = Style { color: printer.colors() };
        let (text, json) = (report::text(&report, style), report::json(&report));
        let outcome = report.outcome();
        let (summary, page) = (report::markdown(&report), html::promote(&report));
        let mut outputs = outputs(&report.verdict);
        if !outcome.is_yes() {
            // The image is not handed on before its tags are right.
            outputs.retain(|(name, _)| *name == "verdict");
        }
        outputs.push(("outcome", outcome.as_str().to_owned()));
        let error = match outcome {
            Outcome::Moved | Outcome::Unchanged => {
                return Ok(Finished { outputs, summary, page, ..Finished::yes(text, json) });
            }
            Outcome::Undecided => report.unfinished.take(),
            Outcome::Refused => refusal(&report.verdict).or_else(|| tags_refused(&report)),
        };
        Ok(Finished { text, json, error, outputs, summary, page, ..Finished::default() })
    }

    fn old(&self) -> Result<BTreeMap<Tag, Old>, Error> {
        let mut olds = BTreeMap::new();
        for (tag, old) in &self.expect_old {
            match olds.entry(tag.clone()) {
                Entry::Vacant(entry) => entry.insert(*old),
                Entry::Occupied(entry) if entry.get() == old => continue,
                Entry::Occupied(_) => {
                    return Err(Error::request(format!("`--expect-old` says two things of `{tag}`"))
                        .hint("name what the tag names now, once"));
                }
            };
        }
        Ok(olds)
    }

    fn untag(&self, policy: &Policy) -> Result<Vec<CandidateTag>, Error> {
        let rule = policy.image(&self.image.repository);
        let mut tags: Vec<&Tag> = self.untag.iter().collect();
        tags.sort();
        tags.dedup();
        tags.into_iter()
            .map(|tag| {
                CandidateTag::new(tag.clone(), rule).map_err(|error| {
                    Error::request(format!("`--untag` does not remove the tag `{tag}`"))
                        .because(error)
                        .hint("name tags of single images, such as `git-<commit>-amd64`")
                })
            })
            .collect()
    }
}

fn expectation(text: &str) -> Result<(Tag, Old), String> {
    let (tag, old) = text.split_once('=').ok_or("write TAG=DIGEST or TAG=absent")?;
    let tag = tag.parse().map_err(|error: ReferenceError| error.to_string())?;
    let old = match old {
        "absent" => Old::Absent,
        digest => Old::Is(digest.parse().map_err(|error| format!("{error}; or write TAG=absent"))?),
    };
    Ok((tag, old))
}

/// The longest that can be waited.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn time(text: &str) -> Result<Duration, String> {
    let time = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    time.filter(|time| !time.is_zero() && *time <= DAY)
        .ok_or_else(|| "write a time of up to a day, such as `90s`, `30m` or `1h 30m`".to_owned())
}

fn tags_refused(report: &Report) -> Option<Error> {
    let refused =
        report.tags.iter().find_map(|tag| tag.refusal.as_ref().map(|(reason, _)| (&tag.tag, *reason)))?;
    let (tag, reason) = refused;
    let hint = match reason {
        Reason::TagBackwards => "`--allow-rollback` lets the tag move back",
        Reason::TagUnverified => {
            "look at what the tag names; `--adopt OLD_DIGEST` lets it move away from that image"
        }
        Reason::TagUnexpected => "somebody promoted or moved it before: look at what it names now",
        _ => "an immutable tag names one release for ever: choose a new version",
    };
    Some(Error::no(format!("the tag `{tag}` must not move ({reason}); no tag was written")).hint(hint))
}
