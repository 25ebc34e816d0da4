//! `quorate promote`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use jiff::SignedDuration;

use super::signing::SigningArguments;
use super::verify::{outputs, refusal};
use super::{Finished, Global, Judgement, PASSPHRASE};
use crate::attestation::{Trust, Verifier};
use crate::edge::interrupt::Interrupt;
use crate::edge::output::Printer;
use crate::edge::registry::Access;
use crate::edge::service::Service;
use crate::edge::signer::KeySource;
use crate::edge::signing_config::Services;
use crate::edge::tags::CandidateTag;
use crate::error::Error;
use crate::oci::reference::ReferenceError;
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::ops::promote::{Request, run};
use crate::ops::record::{Recording, gate};
use crate::ops::sign::{Hand, Signing};
use crate::policy::moves::{Allowances, Old};
use crate::policy::{Policy, Purpose};
use crate::reason::Reason;
use crate::report::html;
use crate::report::promote::{self as report, Outcome, Report};
use crate::report::style::Style;

/// Seconds of a look at the image, and of the writing.
const LOOK: u64 = 60;
/// Seconds of bringing an image over.
const COPYING: u64 = 600;

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
    #[arg(
        long = "tag",
        value_name = "TAG",
        required = true,
        value_delimiter = ',',
        env = "QUORATE_PROMOTE_TAG"
    )]
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
    #[arg(long, value_name = "TAG", value_delimiter = ',', env = "QUORATE_UNTAG", conflicts_with = "to")]
    untag: Vec<Tag>,
    /// Bring the image to this repository, with what builders said of it, and move the tags there.
    /// It is judged by the rule of that repository, whose `names` must have the one it comes from
    #[arg(long, value_name = "REPOSITORY", env = "QUORATE_TO")]
    to: Option<Repository>,
    /// Sign a record of the promotion (SLSA verification summary) and attach it to the index before
    /// any tag moves: for tools that can check one signature only
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_RECORD")]
    record: bool,
    /// With `--record`: the URI of the verifier that the record names
    #[arg(long, value_name = "URI", env = "QUORATE_VERIFIER_ID", default_value_t)]
    verifier_id: Verifier,
    /// With `--record`: the private key that signs it (PKCS#8 PEM, may be encrypted): a file, or
    /// `env:NAME`. It must be no builder's key. Without, the CI job's identity signs
    #[arg(long, value_name = "FILE|env:NAME", env = "QUORATE_PROMOTE_KEY", hide_env_values = true)]
    key: Option<KeySource>,
    /// The environment variable that holds the passphrase of an encrypted key
    #[arg(long, value_name = "NAME", env = "QUORATE_KEY_PASSPHRASE_ENV", default_value = PASSPHRASE)]
    key_passphrase_env: String,
    /// Note each step in this file. A run that was cut short is explained by it; the same command,
    /// run again, judges anew, and knows what tags named before
    #[arg(long, value_name = "FILE", env = "QUORATE_JOURNAL")]
    journal: Option<PathBuf>,
    /// Judge and plan, but write nothing
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_DRY_RUN")]
    dry_run: bool,
    /// Write a report as one HTML file, whatever the answer is
    #[arg(long, value_name = "FILE", env = "QUORATE_REPORT")]
    pub(super) report: Option<PathBuf>,
    #[command(flatten)]
    signing: SigningArguments,
}

impl Arguments {
    pub(super) async fn run(
        &self,
        global: &Global,
        printer: Printer,
        interrupt: &Interrupt,
    ) -> Result<Finished, Error> {
        let policy = self.judgement.policy()?;
        let registry = global.registry(LOOK)?;
        let access = if self.dry_run { Access::Pull } else { Access::Push };
        let place = self.to.as_ref().unwrap_or(&self.image.repository);
        if *place != self.image.repository {
            registry.announce(&self.image.repository, Access::Pull)?;
        }
        registry.announce(place, access)?;
        let evidence_from = self.judgement.evidence_from(&registry)?;
        let raised = self.judgement.raised(&policy, place, &Purpose::Promote(self.tags.clone()))?;
        let (old, untag) = (self.old()?, self.untag(&policy)?);
        let options = &self.judgement.trust;
        let services =
            self.record.then(|| self.signing.services(options.instance(), &global.plain_http)).transpose()?;
        let trusts = options.load_for(&policy, &registry, global, printer).await?;
        let service = Service::new(&registry);
        let given;
        let recording = match &services {
            None => None,
            Some(services) => {
                given = options.load(&registry, global, printer).await?;
                Some(self.recording(&policy, services, &service, &given)?)
            }
        };
        let request = Request {
            image: self.image.clone(),
            evidence_from,
            to: self.to.clone(),
            tags: self.tags.clone(),
            raised,
            commit: self.judgement.expect_commit.0.clone(),
            old,
            allow: Allowances { rollback: self.allow_rollback, adopt: self.adopt },
            wait: self.wait,
            look: Duration::from_secs(global.timeout.unwrap_or(LOOK)),
            copying: Duration::from_secs(global.timeout.unwrap_or(COPYING)),
            recording,
            journal: self.journal.clone(),
            untag,
            dry_run: self.dry_run,
            interrupt,
        };
        let tell = |text: &str| printer.talk(text);
        let mut report = run(&registry, &policy, &trusts, &request, &tell).await?;
        let style = Style { color: printer.colors() };
        let (text, json) = (report::text(&report, style), report::json(&report));
        let outcome = report.outcome();
        let (summary, page) = (report::markdown(&report), html::promote(&report));
        let mut outputs = outputs(&report.verdict);
        if !outcome.is_yes() || self.dry_run {
            // The image is not handed on before its tags are right.
            outputs.retain(|(name, _)| *name == "verdict");
        }
        outputs.push(("outcome", outcome.as_str().to_owned()));
        let error = match outcome {
            Outcome::Moved | Outcome::Unchanged => {
                let notes = report.record.map(|record| record.notes().to_vec()).unwrap_or_default();
                return Ok(Finished { notes, outputs, summary, page, ..Finished::yes(text, json) });
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

    /// Who signs the record. Of a key it is known before anything is asked whether it is a builder's.
    fn recording<'a>(
        &self,
        policy: &Policy,
        services: &'a Services,
        service: &'a Service,
        trust: &'a Trust,
    ) -> Result<Recording<'a>, Error> {
        let hand = self.signing.hand(self.key.as_ref(), &self.key_passphrase_env, services)?;
        if let Hand::Key(pair) = &hand {
            gate(policy, &pair.public().clone().into())?;
        }
        let signing = Signing { hand, services, service, trust };
        Ok(Recording { signing, verifier: self.verifier_id.clone() })
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
        Reason::TagUnordered => {
            "let as many builders as the quorum asks attest with `quorate attest`; or, if it is meant, \
             `--allow-rollback`"
        }
        Reason::TagFeed => {
            "promote a release of such a ref, or correct `refs` and `versions` of the tag in the policy"
        }
        Reason::TagUnverified => {
            "look at what the tag names; `--adopt OLD_DIGEST` lets it move away from that image"
        }
        Reason::TagUnexpected => "somebody promoted or moved it before: look at what it names now",
        _ => "an immutable tag names one release for ever: choose a new version",
    };
    Some(Error::no(format!("the tag `{tag}` must not move ({reason}); no tag was written")).hint(hint))
}
