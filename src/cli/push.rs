//! `quorate push`.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::{Finished, Global};
use crate::attestation::Commit;
use crate::edge::built::Built;
use crate::edge::files;
use crate::edge::outgoing::How;
use crate::edge::registry::Access;
use crate::error::Error;
use crate::oci::reference::ReferenceError;
use crate::oci::{Reference, Repository, System, Tag, Target};
use crate::ops::push::{Request, Suffix, run};
use crate::report::push::{self as report, Pushed, Report};

/// Push the image that a build left, without a daemon
///
/// Layers are sent as they are, so that the digest of the manifest follows from the build: every
/// builder can tell it beforehand, with `--dry-run`. What a registry has is not sent again. Each
/// layer is read whole and held against the digest that the image names before it is sent.
///
/// The image is written under candidate tags, or by digest where there are none; never under
/// `latest`, nor under a tag that the policy governs. The first line printed is the image by
/// digest.
#[derive(Args)]
#[command(after_help = "\
SOURCE is what `nix build` left:
  the image JSON of nix2container, whose layers are made of the store paths it names;
  a docker-archive of dockerTools, plain, gzip or zstd;
  a program that prints one (`streamLayeredImage`), with `--run`;
  an OCI layout with one image, also as oci:PATH, oci:PATH:NAME or oci:PATH@DIGEST.

Examples:
  quorate push ./result ghcr.io/acme/app:git-0123abc --suffix arch
  quorate push ./result ghcr.io/acme/app --digests-dir /tmp/digests
  quorate push ./result ghcr.io/acme/app quay.io/acme/app \\
      --tag-commit \"$GITHUB_SHA\" --suffix arch --descriptor images/")]
pub(super) struct Arguments {
    /// The image
    #[arg(value_name = "SOURCE", value_parser = Built::from_str)]
    source: Built,
    /// Where it goes: `host/repository:tag`, or `host/repository` to write by digest, or under the
    /// tags below. All are tried
    #[arg(value_name = "TARGET", required = true, value_parser = target)]
    targets: Vec<(Repository, Option<Tag>)>,
    /// A further tag in every target; may be repeated
    #[arg(long = "tag", value_name = "TAG", value_delimiter = ',', env = "QUORATE_PUSH_TAG")]
    tags: Vec<Tag>,
    /// Tag with the commit: `git-<commit>`
    #[arg(long, value_name = "COMMIT", env = "QUORATE_TAG_COMMIT")]
    tag_commit: Option<Commit>,
    /// What stands before the commit in the tag
    #[arg(long, value_name = "TEXT", default_value = "git-", env = "QUORATE_COMMIT_PREFIX")]
    commit_prefix: String,
    /// How many digits of the commit stand in the tag, 7 at least [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(7..=64), env = "QUORATE_COMMIT_LENGTH")]
    commit_length: Option<u8>,
    /// Tag with the number of a pull request: `pr-<n>`
    #[arg(long, value_name = "N", env = "QUORATE_TAG_PR")]
    tag_pr: Option<u64>,
    /// What stands before the number in the tag
    #[arg(long, value_name = "TEXT", default_value = "pr-", env = "QUORATE_PR_PREFIX")]
    pr_prefix: String,
    /// End each tag in what the image is for; it is read from the image
    #[arg(long, value_enum, value_name = "FORM", env = "QUORATE_SUFFIX")]
    suffix: Option<Form>,
    /// The Nix system that the image was built for: it must fit the image, and decides between
    /// variants of arm, which nix2container does not write down
    #[arg(long, value_name = "SYSTEM", env = "QUORATE_SYSTEM")]
    system: Option<System>,
    /// Compress layers that are not compressed. The same image gives the same bytes, as long as
    /// the compressor in quorate is the same
    #[arg(long, value_enum, value_name = "HOW", env = "QUORATE_COMPRESS")]
    compress: Option<Compress>,
    /// Run SOURCE, if it is a program, and take the docker-archive that it prints. It is told PATH,
    /// HOME and TMPDIR, and no other variable
    #[arg(long = "run", value_parser = BoolishValueParser::new(), env = "QUORATE_RUN")]
    run: bool,
    /// The folder that `/nix/store` lies in, where it is not that of the system
    #[arg(long, value_name = "DIR", default_value = "/", env = "QUORATE_STORE_ROOT")]
    store_root: PathBuf,
    /// The policy whose tags are not to be written
    #[arg(long, value_name = "FILE", env = "QUORATE_POLICY")]
    policy: Option<PathBuf>,
    /// Print what would be sent, and send nothing. No registry is asked; the layers of an image
    /// JSON are not read, unless they are to be compressed
    #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_DRY_RUN")]
    dry_run: bool,
    /// Write the digest of the manifest to a file
    #[arg(long, value_name = "FILE", env = "QUORATE_DIGEST_FILE")]
    digest_file: Option<PathBuf>,
    /// Put an empty file that is named by the digest into a folder, for `assemble --digests`
    #[arg(long, value_name = "DIR", env = "QUORATE_DIGESTS_DIR")]
    digests_dir: Option<PathBuf>,
    /// Put the descriptor of the image into a folder, for `assemble --descriptor`
    #[arg(long, value_name = "DIR", env = "QUORATE_DESCRIPTOR")]
    descriptor: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// `-amd64`
    Arch,
    /// `-x86_64-linux`
    System,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compress {
    /// gzip, always the same way
    Gzip,
}

fn target(text: &str) -> Result<(Repository, Option<Tag>), String> {
    match text.parse::<Reference>() {
        Ok(Reference { repository, target: Target::Tag(tag) }) => Ok((repository, Some(tag))),
        Ok(Reference { target: Target::Digest(_), .. }) => {
            Err("the digest follows from the image; name a repository or a tag".to_owned())
        }
        Err(ReferenceError::NoTarget(_)) => text
            .parse()
            .map(|repository| (repository, None))
            .map_err(|error: ReferenceError| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global) -> Result<Finished, Error> {
        let request = Request {
            source: self.source.clone(),
            targets: self.targets()?,
            suffix: self.suffix.map(|form| match form {
                Form::Arch => Suffix::Architecture,
                Form::System => Suffix::System,
            }),
            system: self.system,
            how: How { store_root: self.store_root.clone(), gzip: self.compress.is_some(), run: self.run },
            policy: self.policy.as_deref().map(files::policy).transpose()?,
            dry_run: self.dry_run,
        };
        let registry = global.registry(600)?;
        if !self.dry_run {
            for (repository, _) in &request.targets {
                registry.announce(repository, Access::Push)?;
            }
        }
        let report = run(&registry, &request).await?;
        let (text, json, summary) = (report::text(&report), report::json(&report), report::markdown(&report));
        Ok(match &report {
            Report::Refused(refusal) => {
                let error = Error::no(format!("the image is not pushed ({})", refusal.fault.code()))
                    .because(refusal.detail.clone())
                    .hint(refusal.fault.hint());
                Finished { summary, ..Finished::no(text, json, error) }
            }
            Report::Pushed(pushed) => {
                let failed = failure(pushed)
                    .or_else(|| if self.dry_run { None } else { self.write_files(pushed).err() });
                match failed {
                    Some(error) => Finished { summary, ..Finished::no(text, json, error) },
                    None if self.dry_run => Finished { summary, ..Finished::yes(text, json) },
                    None => Finished { summary, outputs: outputs(pushed), ..Finished::yes(text, json) },
                }
            }
        })
    }

    /// Every repository once, with its tags.
    fn targets(&self) -> Result<Vec<(Repository, Vec<Tag>)>, Error> {
        let mut common = self.tags.clone();
        if let Some(commit) = &self.tag_commit {
            let digits = commit.to_string();
            let digits = self.commit_length.and_then(|length| digits.get(..length.into())).unwrap_or(&digits);
            common.push(tag(&self.commit_prefix, digits)?);
        }
        if let Some(number) = self.tag_pr {
            common.push(tag(&self.pr_prefix, &number.to_string())?);
        }
        let mut targets: Vec<(Repository, Vec<Tag>)> = Vec::new();
        for (repository, own) in &self.targets {
            let at = targets.iter().position(|(known, _)| known == repository).unwrap_or_else(|| {
                targets.push((repository.clone(), Vec::new()));
                targets.len() - 1
            });
            if let Some((_, tags)) = targets.get_mut(at) {
                for tag in own.iter().chain(&common) {
                    if !tags.contains(tag) {
                        tags.push(tag.clone());
                    }
                }
            }
        }
        Ok(targets)
    }

    /// The files that were asked for. The image is everywhere by then.
    fn write_files(&self, pushed: &Pushed) -> Result<(), Error> {
        let write = |path: &Path, bytes: &[u8]| {
            path.parent()
                .map_or(Ok(()), std::fs::create_dir_all)
                .and_then(|()| files::write(path, bytes))
                .map_err(|error| {
                    Error::undecided(format!(
                        "{} is pushed, but `{}` is not written",
                        pushed.image(),
                        path.display()
                    ))
                    .because(error)
                })
        };
        let digest = pushed.manifest.digest();
        if let Some(path) = &self.digest_file {
            write(path, digest.to_string().as_bytes())?;
        }
        if let Some(folder) = &self.digests_dir {
            write(&folder.join(digest.hex()), b"")?;
        }
        if let Some(folder) = &self.descriptor {
            let descriptor = super::pretty(&report::descriptor(pushed));
            let end = pushed.system.map_or_else(|| digest.hex(), |system| system.suffix().to_owned());
            for target in &pushed.targets {
                let name = target.repository.path().rsplit('/').next().unwrap_or_default();
                write(&folder.join(format!("{name}-{end}.json")), descriptor.as_bytes())?;
            }
        }
        Ok(())
    }
}

fn tag(prefix: &str, rest: &str) -> Result<Tag, Error> {
    format!("{prefix}{rest}").parse().map_err(|error: ReferenceError| {
        Error::request(format!("`{prefix}` and `{rest}` make no tag")).because(error)
    })
}

/// What kept the image from a target, if anything did.
fn failure(pushed: &Pushed) -> Option<Error> {
    let failed: Vec<&Error> = pushed.targets.iter().filter_map(|target| target.sent.as_ref().err()).collect();
    let first = *failed.first()?;
    let message = format!("{} of {} targets do not have the image", failed.len(), pushed.targets.len());
    let error = Error::new(first.kind(), message);
    let causes = [vec![first.to_string()], first.causes()].concat().join(": ");
    let hint = first.next().unwrap_or("run the same command again: what was sent is not sent again");
    Some(error.because(causes).hint(hint))
}

/// Step outputs of a CI job.
fn outputs(pushed: &Pushed) -> Vec<(&'static str, String)> {
    let tags = pushed
        .targets
        .iter()
        .flat_map(|target| target.tags.iter().map(|tag| target.repository.at_tag(tag.clone()).to_string()));
    let mut outputs = vec![
        ("image", pushed.image()),
        ("digest", pushed.manifest.digest().to_string()),
        ("tags", tags.collect::<Vec<_>>().join("\n")),
    ];
    if let Some(system) = pushed.system {
        outputs.push(("system", system.to_string()));
    }
    outputs
}
