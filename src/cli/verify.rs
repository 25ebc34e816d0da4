//! `quorate verify`.

use clap::Args;

use super::{Finished, Global, Judgement};
use crate::edge::output::Printer;
use crate::edge::registry::Access;
use crate::error::Error;
use crate::oci::Reference;
use crate::ops::verify::{Request, run};
use crate::policy::{Outcome, Purpose, Verdict};
use crate::report::style::Style;
use crate::report::verdict as report;

/// Judge an image as a cluster does: trust neither the registry nor the tag
///
/// Fetches the index, its images and everything attached to them, verifies each signature, log
/// proof and timestamp, and decides by the policy. Exit code 0 means that the quorum is met, for
/// every platform.
#[derive(Args)]
#[command(after_help = "\
Example:
  quorate verify ghcr.io/acme/app:1.4.2 --policy quorate.toml --trusted-root trusted_root.json")]
pub(super) struct Arguments {
    /// The image: `host/repository:tag` or `host/repository@digest`; a tag is resolved once
    image: Reference,
    #[command(flatten)]
    judgement: Judgement,
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global, printer: Printer) -> Result<Finished, Error> {
        let (policy, trusts) = self.judgement.load()?;
        let registry = global.registry(60)?;
        registry.announce(&self.image.repository, Access::Pull)?;
        let request = Request {
            image: self.image.clone(),
            quorum: self.judgement.quorum(&policy, &self.image.repository, &Purpose::Verify)?,
            commit: self.judgement.expect_commit.clone(),
        };
        let verdict = run(&registry, &policy, &trusts, &request).await?;
        let style = Style { color: printer.colors() };
        let (text, json) = (report::text(&verdict, style), report::json(&verdict));
        let finished = match refusal(&verdict) {
            None => Finished::yes(text, json),
            Some(error) => Finished::no(text, json, error),
        };
        Ok(Finished { outputs: outputs(&verdict), summary: report::markdown(&verdict), ..finished })
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
    let image = format!("`{}@{}`", verdict.repository, verdict.digest);
    let (what, hint) = match verdict.outcome {
        Outcome::Met(_) => return None,
        Outcome::Refused => {
            ("refused", "no vote can mend it; the lines above say what is wrong with the image")
        }
        Outcome::Equivocation => (
            "a builder contradicts itself",
            "find out why one builder signed two contents for one build, before anybody trusts it again",
        ),
        Outcome::Dissent => {
            ("a builder disagrees", "compare the builds: one of them is not what the commit says it is")
        }
        Outcome::Short if verdict.group.is_none() => (
            "the quorum is not met",
            "nobody whom the policy names attested this image: is it the one you mean?",
        ),
        Outcome::Short => {
            ("the quorum is not met", "let more builders attest the platforms that are short, then try again")
        }
    };
    Some(Error::no(format!("{what}: {image}")).hint(hint))
}
