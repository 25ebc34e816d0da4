//! `quorate verify`.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use futures_util::stream::{self, StreamExt as _};

use super::{Finished, Global, Judgement};
use crate::edge::files::{self, Bundles};
use crate::edge::output::Printer;
use crate::edge::registry::{Access, Registry};
use crate::error::Error;
use crate::oci::{Platform, Reference, Repository};
use crate::ops::verify::{Request, Source, run};
use crate::policy::{Outcome, Policy, Purpose, Verdict};
use crate::report::style::Style;
use crate::report::{html, markdown, verdict as report};

/// Images that are looked at at the same time.
const AT_ONCE: usize = 8;

/// Judge images as a cluster does: trust neither the registry nor the tag
///
/// Fetches the index, its images and everything attached to them, verifies each signature, log
/// proof and timestamp, and decides by the policy. Exit code 0 means that the quorum is met, for
/// every platform of every image. Of several images the gravest answer counts: a "no" before a
/// wrong request, that before what could not be decided.
#[derive(Args)]
#[command(after_help = "\
Examples:
  quorate verify ghcr.io/acme/app:1.4.2 --policy quorate.toml --trusted-root trusted_root.json
  quorate verify ghcr.io/acme/app@sha256:… --platform linux/amd64 --evidence pack
  quorate verify ghcr.io/acme/app@sha256:… --pack app.pack.json
  quorate verify ghcr.io/acme/app:1.4.2 --layout ./app --bundle ./bundles")]
pub(super) struct Arguments {
    /// The images: `host/repository:tag` or `host/repository@digest`; a tag is resolved once
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<Reference>,
    #[command(flatten)]
    judgement: Judgement,
    /// A platform that needs the quorum; without this, every platform of the index does. A
    /// contradiction over another platform still refuses
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',', env = "QUORATE_PLATFORM")]
    platform: Vec<Platform>,
    /// Where the evidence is read
    #[arg(
        long, value_enum, default_value_t, value_name = "WHERE", conflicts_with_all = ["pack", "layout"],
        env = "QUORATE_EVIDENCE"
    )]
    evidence: Evidence,
    /// A proof pack that `quorate pack` made: image and evidence in one file. No network is used
    #[arg(
        long, value_name = "FILE", conflicts_with_all = ["layout", "evidence_from"], env = "QUORATE_PACK"
    )]
    pack: Option<PathBuf>,
    /// An OCI image layout that holds the image, without its evidence. No network is used
    #[arg(long, value_name = "FOLDER", conflicts_with = "evidence_from", env = "QUORATE_LAYOUT")]
    layout: Option<PathBuf>,
    /// A bundle to hear besides, or a folder of them (`*.json`)
    #[arg(long, value_name = "FILE|FOLDER", value_delimiter = ',', env = "QUORATE_BUNDLE")]
    bundle: Vec<PathBuf>,
    /// Where a builder got another image: fetch both, as far as the registry has them, and say which
    /// field, layer or file differs. The verdict stays what it is
    #[arg(
        long, value_parser = BoolishValueParser::new(), conflicts_with_all = ["pack", "layout"],
        env = "QUORATE_EXPLAIN_SPLIT"
    )]
    explain_split: bool,
    /// Write a report as one HTML file, whatever the answer is
    #[arg(long, value_name = "FILE", env = "QUORATE_REPORT")]
    pub(super) report: Option<PathBuf>,
}

/// Where evidence is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Evidence {
    /// In the registry: everything that is attached to the image
    #[default]
    Registry,
    /// In the proof pack that is attached to the image (`quorate pack --attach`), and nowhere else:
    /// the fewest requests
    Pack,
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global, printer: Printer) -> Result<Finished, Error> {
        let policy = self.judgement.policy()?;
        let source = self.source()?;
        let bundles = files::bundles(&self.bundle)?;
        let registry = global.registry(60)?;
        let evidence_from = self.judgement.evidence_from(&registry)?;
        let trust = &self.judgement.trust;
        let trusts = if matches!(source, Source::Registry | Source::AttachedPack) {
            for image in &self.images {
                registry.announce(&image.repository, Access::Pull)?;
            }
            trust.load_for(&policy, &registry, global, printer).await?
        } else {
            // What is judged from disk is judged without a network.
            trust.unconnected().load_for(&policy, &registry, global, printer).await?
        };
        let look = async |image: &Reference, part: &Registry| {
            let request = self.request(image, &policy, &source, &evidence_from, &bundles)?;
            run(part, &policy, &trusts, &request).await
        };
        let at_once = AT_ONCE.min(self.images.len());
        let asked = self.images.iter().map(|image| async {
            let part = registry.share(at_once);
            (look(image, &part).await, part.is_used_up())
        });
        let looks: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        let mut all: Vec<report::Asked> = Vec::new();
        for (image, (result, used_up)) in self.images.iter().zip(looks) {
            // What takes more than its part of the memory is looked at again, one after another.
            let again = used_up && at_once > 1;
            all.push((image.clone(), if again { look(image, &registry.share(1)).await } else { result }));
        }
        let style = Style { color: printer.colors() };
        let page = html::verify(&all);
        if let [_] = all.as_slice()
            && let Some((_, result)) = all.pop()
        {
            let verified = result?;
            let (text, json) = (report::verified(&verified, style), report::json(&verified));
            let finished = match refusal(&verified.verdict) {
                None => Finished::yes(text, json),
                Some(error) => Finished::no(text, json, error),
            };
            let summary = report::markdown(&verified.verdict);
            let mut outputs = outputs(&verified.verdict);
            if !self.platform.is_empty() {
                // The image as a whole was not judged, and is not handed on.
                outputs.retain(|(name, _)| *name == "verdict");
            }
            return Ok(Finished { outputs, summary, page, ..finished });
        }
        let (text, json) = (report::list(&all, style), report::list_json(&all));
        let summary = all.iter().map(|(_, result)| match result {
            Ok(verified) => report::markdown(&verified.verdict),
            Err(error) => markdown::error(error),
        });
        let summary = summary.collect::<Vec<_>>().join("\n");
        let verdict = json["verdict"].as_str().unwrap_or("undecided").to_owned();
        let outputs = vec![("verdict", verdict)];
        let finished = match gravest(all) {
            None => Finished::yes(text, json),
            Some(error) => Finished::no(text, json, error),
        };
        Ok(Finished { outputs, summary, page, ..finished })
    }

    pub(super) fn media_type(&self) -> &'static str {
        if self.images.len() > 1 { report::LIST_MEDIA_TYPE } else { report::MEDIA_TYPE }
    }

    fn source(&self) -> Result<Source, Error> {
        Ok(match (&self.pack, &self.layout) {
            (Some(_), _) if self.images.len() > 1 => {
                return Err(Error::request("a proof pack is of one image, and several are asked for")
                    .hint("verify each with its own pack"));
            }
            (Some(pack), _) => Source::Pack(files::pack(pack)?),
            (None, Some(layout)) => Source::Layout(layout.clone()),
            (None, None) if self.evidence == Evidence::Pack => {
                if !self.judgement.evidence_from.is_empty() {
                    return Err(Error::request(
                        "`--evidence pack` reads the pack alone, and `--evidence-from` names a repository",
                    )
                    .hint("leave one of them out"));
                }
                Source::AttachedPack
            }
            (None, None) => Source::Registry,
        })
    }

    fn request(
        &self,
        image: &Reference,
        policy: &Policy,
        source: &Source,
        evidence_from: &[Repository],
        bundles: &Bundles,
    ) -> Result<Request, Error> {
        Ok(Request {
            image: image.clone(),
            source: source.clone(),
            evidence_from: evidence_from.to_vec(),
            bundles: bundles.clone(),
            platforms: self.platform.iter().cloned().collect(),
            raised: self.judgement.raised(policy, &image.repository, &Purpose::Verify)?,
            commit: self.judgement.expect_commit.0.clone(),
            explain: self.explain_split,
        })
    }
}

/// The error of the gravest of several answers; `None` if all are yes.
fn gravest(mut all: Vec<report::Asked>) -> Option<Error> {
    let at =
        all.iter().position(|one| report::gravest(&all).is_some_and(|worst| std::ptr::eq(worst, one)))?;
    match all.swap_remove(at).1 {
        Ok(verified) => refusal(&verified.verdict),
        Err(error) => Some(error),
    }
}

/// Step outputs of a CI job. An image that is not to be run is not handed on.
pub(super) fn outputs(verdict: &Verdict) -> Vec<(&'static str, String)> {
    let mut outputs = vec![("verdict", verdict.outcome.as_str().to_owned())];
    if matches!(verdict.outcome, Outcome::Met(_)) {
        outputs.push(("image", format!("{}@{}", verdict.repository, verdict.digest)));
        outputs.push(("digest", verdict.digest.to_string()));
    }
    outputs
}

/// What to say of a verdict that is not met; `None` if it is.
pub(super) fn refusal(verdict: &Verdict) -> Option<Error> {
    let (what, hint) = report::next(verdict)?;
    let why = report::why(verdict).map(|why| format!(" ({why})")).unwrap_or_default();
    Some(Error::no(format!("{what}{why}: `{}@{}`", verdict.repository, verdict.digest)).hint(hint))
}
