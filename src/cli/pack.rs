//! `quorate pack`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::verify::refusal;
use super::{Finished, Global, Judgement, shown};
use crate::edge::files;
use crate::edge::output::Printer;
use crate::edge::registry::Access;
use crate::error::Error;
use crate::oci::Reference;
use crate::ops::pack::{Request, run};
use crate::policy::Purpose;
use crate::report::pack as report;
use crate::report::style::Style;

/// Make a proof pack: an image and the votes that release it, as one file
///
/// The pack holds the index, the manifests and configurations of its images, and every bundle that
/// a builder of the policy signed, and no layer. `quorate verify --pack` judges it without a
/// network, as it would judge the same in the registry. It is only made where the quorum is met.
#[derive(Args)]
#[command(after_help = "\
Examples:
  quorate pack ghcr.io/acme/app:1.4.2 --out app.pack.json
  quorate pack ghcr.io/acme/app:1.4.2 --attach")]
pub(super) struct Arguments {
    /// The image: `host/repository:tag` or `host/repository@digest`; a tag is resolved once
    image: Reference,
    #[command(flatten)]
    judgement: Judgement,
    /// Where the pack goes
    #[arg(long, value_name = "FILE", env = "QUORATE_OUT", required_unless_present = "attach")]
    out: Option<PathBuf>,
    /// Attach the pack to the image, under the tag `sha256-<digest>.q-pack`, in the place of an older
    /// one
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_ATTACH")]
    attach: bool,
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global, printer: Printer) -> Result<Finished, Error> {
        let policy = self.judgement.policy()?;
        let registry = global.registry(60)?;
        let repository = &self.image.repository;
        registry.announce(repository, if self.attach { Access::Push } else { Access::Pull })?;
        let request = Request {
            image: self.image.clone(),
            evidence_from: self.judgement.evidence_from(&registry)?,
            raised: self.judgement.raised(&policy, repository, &Purpose::Verify)?,
            commit: self.judgement.expect_commit.0.clone(),
            attach: self.attach,
        };
        let keep = |bytes: &[u8]| match &self.out {
            Some(path) => files::write(path, bytes).map_err(|error| {
                Error::undecided(format!("cannot write the pack `{}`", shown(path))).because(error)
            }),
            None => Ok(()),
        };
        let trusts = self.judgement.trust.load_for(&policy, &registry, global, printer).await?;
        let report = run(&registry, &policy, &trusts, &request, keep).await?;
        let style = Style { color: printer.colors() };
        let (text, json) = (report::text(&report, style), report::json(&report));
        Ok(match refusal(&report.verdict) {
            None => Finished::yes(text, json),
            Some(error) => Finished::no(text, json, error),
        })
    }
}
