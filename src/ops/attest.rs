//! `attest`: a builder signs what it built, after comparing it with what was pushed.

use std::path::PathBuf;

use super::gather::{PREDICATE_TYPES, resolve};
use super::sign::{Signing, attach, legacy, sign};
use crate::attestation::bundle::Bundle;
use crate::attestation::verify::verify;
use crate::attestation::{Attestation, Build, Claim, Content, PublicKey, Statement, Trust};
use crate::edge::registry::Registry;
use crate::edge::{files, layers};
use crate::error::Error;
use crate::oci::{
    Config, Descriptor, Digest, ImageIndex, Manifest, Platform, Reference, Repository, Slot, Store, System,
    media_type,
};
use crate::reason::Reason;
use crate::report::attest::{Attached, Attested, Difference, Report};

/// What is asked.
pub struct Request {
    /// An index, of which the build's system picks a child, or the manifest of one platform.
    pub image: Reference,
    /// What was built.
    pub build: Build,
    /// Under which the evidence is kept on registries without the referrers API.
    pub slot: Slot,
    /// Whether to sign a disagreement, where there is one.
    pub record_dissent: bool,
    /// Whether to attach what was signed.
    pub attach: bool,
    /// Where to keep the bundle, besides.
    pub bundle_out: Option<PathBuf>,
}

/// What is asked of a bundle that was signed elsewhere.
pub struct Signed {
    /// As in [`Request`].
    pub image: Reference,
    /// The bundle.
    pub bundle: Vec<u8>,
    /// Who may have signed it, with the slot that the policy has for that builder.
    pub keys: Vec<(PublicKey, Option<Slot>)>,
    /// Under which it is kept on registries without the referrers API, if not that slot, or else
    /// the builder's name.
    pub slot: Option<Slot>,
}

/// Attests the build. `warn` is told what to know before evidence is attached.
///
/// # Errors
/// When the image, the log, the authority or the registry failed, or the request was wrong.
pub async fn run(
    registry: &Registry,
    signing: &Signing,
    trust: &Trust,
    request: &Request,
    warn: impl Fn(&str),
) -> Result<Report, Error> {
    let (subject, manifest) = child(registry, &request.image, request.build.system).await?;
    let claim = match (
        compare(registry, &request.image.repository, &request.build, &manifest).await?,
        request.record_dissent,
    ) {
        (None, false) => Claim::Build,
        (Some(difference), false) => return Ok(Report::Differs(difference)),
        (Some(_), true) => Claim::Dissent { disputes: subject.digest },
        (None, true) => {
            return Err(Error::request("there is nothing to dissent from: the image is what was built")
                .hint("leave out `--record-dissent` to attest it"));
        }
    };
    let statement = Statement {
        name: request.image.repository.clone(),
        subject: match claim {
            Claim::Build => subject.digest,
            Claim::Dissent { .. } => request.build.content.config_digest,
        },
        claim,
        build: request.build.clone(),
    };
    match earlier(registry, signing.signer.public(), trust, &statement, &subject, &request.slot).await? {
        Earlier::Nothing { first } => {
            if first && request.attach {
                legacy(registry, &statement.name, subject.digest, warn).await?;
            }
        }
        Earlier::Same(attested, bundle) => {
            keep(request, &bundle)?;
            return Ok(Report::Already(*attested));
        }
        Earlier::Contradicts(bundle, content) => {
            return Ok(Report::Differs(contradiction(&statement, subject.digest, bundle, content)));
        }
    }
    let (attestation, log_index, json) = sign(signing, trust, &statement).await?;
    keep(request, &json)?;
    let attached = if request.attach {
        Some(attach(registry, &statement.name, &attestation, &subject, &request.slot, &json).await?)
    } else {
        None
    };
    Ok(Report::Attested(attested(&attestation, log_index, attached)))
}

/// Attaches a bundle that was signed elsewhere, after verifying it and comparing what it says with
/// what was pushed. `warn` is told what to know before.
///
/// # Errors
/// When the bundle does not verify, or is about another image; when the registry failed.
pub async fn attach_signed(
    registry: &Registry,
    trust: &Trust,
    request: &Signed,
    warn: impl Fn(&str),
) -> Result<Report, Error> {
    let refused = |reason: Reason, detail: String| {
        Error::no(format!("the bundle is not attached ({}): {detail}", reason.code()))
    };
    let bundle = Bundle::parse(&request.bundle).map_err(|(reason, detail)| refused(reason, detail))?;
    let attestation = verify(&bundle, request.keys.iter().map(|(key, _)| (key, trust)))
        .map_err(|rejection| refused(rejection.reason, rejection.detail))?;
    let statement = attestation.statement();
    let repository = &request.image.repository;
    if statement.name != *repository {
        let detail = format!("it speaks of `{}`, not of `{repository}`", statement.name);
        return Err(refused(Reason::NameMismatch, detail));
    }
    let signer = request.keys.iter().find(|(key, _)| key == attestation.signer());
    let slot = match request.slot.as_ref().or(signer.and_then(|(_, slot)| slot.as_ref())) {
        Some(slot) => slot.clone(),
        None => slot_of(&statement.build.builder)?,
    };
    let (subject, manifest) = child(registry, &request.image, statement.build.system).await?;
    if statement.manifest() != subject.digest {
        let (about, system) = (statement.manifest(), statement.build.system);
        let detail =
            format!("it is about {about}, and `{}` has {} for {system}", request.image, subject.digest);
        return Err(refused(Reason::OtherManifest, detail));
    }
    let difference = compare(registry, repository, &statement.build, &manifest).await?;
    match (difference, &statement.claim) {
        (None, Claim::Build) | (Some(_), Claim::Dissent { .. }) => {}
        (Some(difference), Claim::Build) => return Ok(Report::Differs(difference)),
        (None, Claim::Dissent { .. }) => {
            return Err(Error::no("the bundle disputes an image that is what it says was built"));
        }
    }
    match earlier(registry, attestation.signer(), trust, statement, &subject, &slot).await? {
        Earlier::Nothing { first: true } => legacy(registry, repository, subject.digest, warn).await?,
        Earlier::Nothing { first: false } => {}
        Earlier::Same(attested, _) => return Ok(Report::Already(*attested)),
        Earlier::Contradicts(before, content) => {
            return Ok(Report::Differs(contradiction(statement, subject.digest, before, content)));
        }
    }
    let put = attach(registry, repository, &attestation, &subject, &slot, &request.bundle).await?;
    Ok(Report::Attested(attested(&attestation, bundle.log_index(), Some(put))))
}

/// The slot that goes by the builder's name.
///
/// # Errors
/// When the name cannot be one.
pub fn slot_of(builder: &str) -> Result<Slot, Error> {
    builder.parse().map_err(|error: crate::oci::slot::SlotError| {
        Error::request(format!("the builder's name `{builder}` cannot be a slot"))
            .because(error)
            .hint("name the slot that the policy has for the builder: `--slot SLOT`")
    })
}

/// Writes the bundle where it was asked for.
fn keep(request: &Request, bundle: &[u8]) -> Result<(), Error> {
    let Some(path) = &request.bundle_out else { return Ok(()) };
    files::write(path, bundle).map_err(|error| {
        Error::undecided(format!("cannot write the bundle to `{}`", path.display())).because(error)
    })
}

/// The manifest of the platform that the system builds for.
async fn child(
    registry: &Registry,
    image: &Reference,
    system: System,
) -> Result<(Descriptor, Manifest), Error> {
    let raw = resolve(registry, image).await?;
    let malformed =
        |error: &dyn std::fmt::Display| Error::request(format!("`{image}` cannot be attested: {error}"));
    let raw = if media_type::is_index(&raw.media_type) {
        let index = ImageIndex::parse(raw.bytes).map_err(|error| malformed(&error))?;
        let child = index.child(&system.platform()).map_err(|error| malformed(&error))?.digest;
        resolve(registry, &image.repository.at_digest(child)).await?
    } else {
        raw
    };
    if !media_type::is_manifest(&raw.media_type) {
        return Err(malformed(&format!("it is of type `{}`", raw.media_type)));
    }
    let manifest = Manifest::parse(raw.bytes).map_err(|error| malformed(&error))?;
    Ok((manifest.descriptor(), manifest))
}

/// Compares the build with the manifest: configuration, platform, and every layer.
async fn compare(
    registry: &Registry,
    repository: &Repository,
    build: &Build,
    manifest: &Manifest,
) -> Result<Option<Difference>, Error> {
    let Content { config_digest, .. } = build.content;
    let differs = |reason, detail| {
        Ok(Some(Difference {
            reason,
            manifest: manifest.digest(),
            detail,
            hint: "find out why the builds differ; `--record-dissent` signs the disagreement and blocks the release",
        }))
    };
    if manifest.artifact_type.is_some() || !media_type::is_config(&manifest.config.media_type) {
        return differs("not-an-image", "the manifest is that of an artifact, not of an image".to_owned());
    }
    if manifest.config.digest != config_digest {
        let theirs = manifest.config.digest;
        return differs(
            "config-differs",
            format!("configuration digest\n  built:  {config_digest}\n  pushed: {theirs}"),
        );
    }
    let size = manifest.config.size;
    let Some(bytes) = registry.blob(repository, config_digest, size, Config::MAX_BYTES).await? else {
        return differs(
            "config-absent",
            format!("the registry does not have the configuration {config_digest}"),
        );
    };
    let config = match Config::parse(&bytes) {
        Ok(config) => config,
        Err(error) => {
            return differs("config-malformed", format!("the configuration {config_digest}: {error}"));
        }
    };
    let platform: Platform = build.system.platform();
    if !config.fits(&platform) {
        let (system, states) = (build.system, &config.platform);
        return differs(
            "platform-differs",
            format!("platform\n  built:  {platform} ({system})\n  pushed: {states}"),
        );
    }
    let bound = layers::bind(
        registry,
        &Store::Repository(repository.clone()),
        manifest,
        &config,
        layers::Depth::Bind,
    )
    .await?;
    Ok(bound.err().map(|unbound| Difference {
        reason: unbound.reason,
        manifest: manifest.digest(),
        detail: unbound.detail,
        hint: "the layers that were pushed are not those of the configuration: do not release this image",
    }))
}

/// What this key said of this manifest before.
enum Earlier {
    /// Nothing; `first` if nobody else attached a bundle either.
    Nothing { first: bool },
    /// The same, in this bundle.
    Same(Box<Attested>, Vec<u8>),
    /// Other content for the same build.
    Contradicts(Digest, Content),
}

async fn earlier(
    registry: &Registry,
    signer: &PublicKey,
    trust: &Trust,
    statement: &Statement,
    subject: &Descriptor,
    slot: &Slot,
) -> Result<Earlier, Error> {
    let collected = registry
        .collect(&statement.name, subject.digest, std::slice::from_ref(slot), &PREDICATE_TYPES)
        .await?;
    let timeless = |statement: &Statement| {
        let mut statement = statement.clone();
        statement.build.built_at = None;
        statement
    };
    let is_bundle = |found: &Descriptor| found.artifact_type.as_deref() == Some(media_type::BUNDLE);
    let mut contradicts =
        Earlier::Nothing { first: collected.bundles.is_empty() && !collected.others.iter().any(is_bundle) };
    for bytes in &collected.bundles {
        let Ok(bundle) = Bundle::parse(bytes) else { continue };
        let Ok(attestation) = verify(&bundle, [(signer, trust)]) else { continue };
        let said = attestation.statement();
        if timeless(said) == timeless(statement) {
            let same = attested(&attestation, bundle.log_index(), None);
            return Ok(Earlier::Same(Box::new(same), bytes.clone()));
        }
        let build = |s: &Statement| {
            let mut build = s.build.clone();
            build.built_at = None;
            build.content = statement.build.content;
            (s.name.clone(), build)
        };
        if said.build.content != statement.build.content && build(said) == build(statement) {
            contradicts = Earlier::Contradicts(attestation.bundle(), said.build.content);
        }
    }
    Ok(contradicts)
}

fn contradiction(statement: &Statement, manifest: Digest, bundle: Digest, before: Content) -> Difference {
    let now = statement.build.content;
    Difference {
        reason: "equivocation",
        manifest,
        detail: format!(
            "this key signed another content for this build (bundle {bundle})\n  \
             then: narHash {}, configuration {}\n  now:  narHash {}, configuration {}",
            before.nar_hash, before.config_digest, now.nar_hash, now.config_digest
        ),
        hint: "the build is not reproducible on this builder; signing both would block the release as equivocation",
    }
}

fn attested(attestation: &Attestation, log_index: Option<u64>, attached: Option<Attached>) -> Attested {
    Attested {
        statement: attestation.statement().clone(),
        bundle: attestation.bundle(),
        log_index,
        time: attestation.earliest(),
        attached,
    }
}
