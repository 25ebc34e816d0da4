//! `verify`: judges an image as a cluster does, trusting neither registry nor tag.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::explain::explain;
use super::gather::{assess, fetch, fetch_content, resolve};
use crate::attestation::{Commit, Trusts};
use crate::edge::files::Bundles;
use crate::edge::images::{self, absent};
use crate::edge::{clock, registry::Registry};
use crate::error::Error;
use crate::oci::pack::{PackError, Parts};
use crate::oci::place::{Entry, LayoutReference};
use crate::oci::{Digest, Place, Platform, Reference, Repository, Store, Target};
use crate::policy::{Bar, Expected, Policy, Purpose, decide};
use crate::report::verdict::{Note, Verified};

/// What is asked.
#[derive(Debug)]
pub struct Request {
    /// The image; a tag is resolved once.
    pub image: Reference,
    /// Where it and its evidence are read.
    pub source: Source,
    /// Repositories in which evidence is read besides, where the source is the registry.
    pub evidence_from: Vec<Repository>,
    /// Bundles from files, heard beside what the source has.
    pub bundles: Bundles,
    /// The only platforms that need the quorum; empty: all.
    pub platforms: BTreeSet<Platform>,
    /// A higher bar than the policy's.
    pub raised: Option<Bar>,
    /// The commit that the image must be of.
    pub commit: Option<Commit>,
    /// Whether to find out what the images of builders that disagree differ in.
    pub explain: bool,
}

/// Where an image and the evidence about it are read.
#[derive(Debug, Clone)]
pub enum Source {
    /// In its registry, and all that hangs on it there.
    Registry,
    /// In the proof pack that is attached to it, and nowhere else.
    AttachedPack,
    /// In a proof pack that the caller has. No network is used.
    Pack(Parts),
    /// In an OCI image layout on disk, which has no evidence. No network is used.
    Layout(PathBuf),
}

/// Judges the image.
///
/// # Errors
/// When it could not be found out what the answer is. "No" is a verdict.
pub async fn run(
    registry: &Registry,
    policy: &Policy,
    trusts: &Trusts,
    request: &Request,
) -> Result<Verified, Error> {
    let Request { image, platforms, .. } = request;
    let repository = &image.repository;
    let expected =
        expected(policy, repository, request.raised.as_ref(), request.commit.clone(), Purpose::Verify)?;
    let expected = Expected { platforms: platforms.clone(), ..expected };
    let (mut parts, mut skipped, mut notes) = match &request.source {
        Source::Registry => {
            let raw = resolve(registry, image).await?;
            let (parts, skipped) =
                fetch(registry, repository, repository, raw, policy, &request.evidence_from).await?;
            (parts, skipped, Vec::new())
        }
        Source::AttachedPack => (attached(registry, image).await?, Vec::new(), vec![Note::PackAlone]),
        Source::Pack(parts) => (of(parts.clone(), image)?, Vec::new(), vec![Note::PackAlone]),
        Source::Layout(path) => {
            let entry = match &image.target {
                Target::Digest(digest) => Entry::Digest(*digest),
                Target::Tag(tag) => Entry::Named(tag.clone()),
            };
            let place = Place::Layout(LayoutReference { path: path.clone(), entry });
            let raw = images::find(registry, &place).await?;
            let parts =
                fetch_content(registry, &Store::Layout(path.clone()), repository, raw, policy).await?;
            (parts, Vec::new(), vec![Note::FilesAlone])
        }
    };
    if !platforms.is_empty() {
        notes.push(Note::SomePlatforms);
    }
    for bundle in &request.bundles.bundles {
        parts.add_bundle(bundle.clone());
    }
    skipped.extend(request.bundles.skipped.iter().cloned());
    let gathered = assess(repository, &parts, skipped, policy, trusts);
    let verdict = decide(policy, &gathered.candidate, &gathered.evidence, clock::now(), &expected);
    if gathered.candidate.is_single() {
        notes.push(Note::Single);
    }
    let tag = match &image.target {
        Target::Tag(tag) => Some(tag.clone()),
        Target::Digest(_) => None,
    };
    let split = if request.explain {
        Some(explain(registry, repository, policy, &parts, &gathered.evidence, &verdict).await)
    } else {
        None
    };
    Ok(Verified { verdict, tag, notes, split })
}

/// The pack that is attached to an image.
async fn attached(registry: &Registry, image: &Reference) -> Result<Parts, Error> {
    let digest = match &image.target {
        Target::Digest(digest) => *digest,
        Target::Tag(_) => registry.manifest(image).await?.ok_or_else(|| absent(image))?.digest,
    };
    let image = image.repository.at_digest(digest);
    let bytes = registry.pack(&image.repository, digest).await?.ok_or_else(|| {
        Error::request(format!("no proof pack is attached to `{image}`")).hint(
            "`quorate pack --attach` attaches one; without `--evidence pack` the attestations are read one by one",
        )
    })?;
    let unusable = |error: PackError| {
        let reason = error.reason();
        Error::undecided(format!("the proof pack attached to `{image}` cannot be used ({reason})"))
            .because(error)
            .hint("somebody damaged it; attach it anew, or verify without `--evidence pack`")
    };
    let parts = Parts::unpack(bytes).map_err(unusable)?;
    let found = parts.digest();
    if found == digest { Ok(parts) } else { Err(unusable(PackError::OtherImage(found))) }
}

/// The parts, if they are those of the image.
fn of(parts: Parts, image: &Reference) -> Result<Parts, Error> {
    let found: Digest = parts.digest();
    let whole = image.repository.at_digest(found);
    match &image.target {
        Target::Digest(digest) if *digest == found => Ok(parts),
        Target::Digest(_) => Err(Error::request(format!("the pack is of `{whole}`, not of `{image}`"))
            .hint("give the image that the pack is of, or the pack of the image")),
        Target::Tag(tag) => {
            Err(Error::request(format!("what the tag `{tag}` names now is not known without a network"))
                .hint(format!("ask for the digest; the pack is of `{whole}`")))
        }
    }
}

/// Holds a raised quorum to the policy: never lower, and never more than there are operators.
pub(super) fn expected(
    policy: &Policy,
    repository: &Repository,
    raised: Option<&Bar>,
    commit: Option<Commit>,
    purpose: Purpose,
) -> Result<Expected, Error> {
    let quorum = raised.map(|bar| bar.quorum);
    if let (Some(wanted), Some(rule)) = (quorum, policy.image(repository)) {
        let least = rule.bar(&purpose).quorum;
        if wanted < least {
            return Err(Error::request(format!(
                "`--quorum {wanted}` is lower than the policy's {least} for `{repository}`"
            ))
            .hint("the option can raise the quorum, never lower it"));
        }
        if wanted.get() as usize > rule.voices {
            return Err(Error::request(format!(
                "`--quorum {wanted}` can never be met: the policy's builders have {} operators",
                rule.voices
            ))
            .hint("ask for fewer, or add builders of other operators to the policy"));
        }
    }
    let environment = raised.and_then(|bar| bar.environment.clone());
    Ok(Expected { commit, quorum, environment, purpose, platforms: BTreeSet::new() })
}
