//! `attest`: a builder signs what it built, after comparing it with what was pushed.

use std::path::PathBuf;

use futures_util::future::try_join;
use sigstore_types::TransparencyLogEntry;
use url::Url;

use super::gather::{PREDICATE_TYPES, resolve};
use crate::attestation::bundle::Bundle;
use crate::attestation::envelope::{pae, seal};
use crate::attestation::verify::verify;
use crate::attestation::{Attestation, Build, Claim, Content, MaySign, Statement, Trust};
use crate::edge::registry::{Place, Registry};
use crate::edge::service::Service;
use crate::edge::signer::Signer;
use crate::edge::{files, layers, log, tsa};
use crate::error::Error;
use crate::oci::{
    Config, Descriptor, Digest, ImageIndex, Manifest, Platform, Reference, Repository, Slot, Store, System,
    Tag, media_type,
};
use crate::reason::Reason;
use crate::report::attest::{Attached, Attested, Difference, Report};

/// How many signatures are made, if the log loses its answers.
const SIGNATURES: usize = 3;

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
    /// The Rekor v2 log.
    pub rekor: Url,
    /// The timestamp authority.
    pub tsa: Url,
}

/// What is asked of a bundle that was signed elsewhere.
pub struct Signed {
    /// As in [`Request`].
    pub image: Reference,
    /// The bundle.
    pub bundle: Vec<u8>,
    /// Who may have signed it, with the slot that the policy has for that builder.
    pub may_sign: Vec<(MaySign, Option<Slot>)>,
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
    service: &Service,
    signer: &Signer,
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
    match earlier(registry, &signer.public().clone().into(), trust, &statement, &subject, &request.slot)
        .await?
    {
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
    let (attestation, log_index, json) = sign(service, signer, trust, request, &statement).await?;
    keep(request, &json)?;
    let attached = if request.attach {
        Some(attach(registry, &attestation, &subject, &request.slot, &json).await?)
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
    let attestation = verify(&bundle, request.may_sign.iter().map(|(may_sign, _)| (may_sign, trust)))
        .map_err(|rejection| refused(rejection.reason, rejection.detail))?;
    let statement = attestation.statement();
    let repository = &request.image.repository;
    if statement.name != *repository {
        let detail = format!("it speaks of `{}`, not of `{repository}`", statement.name);
        return Err(refused(Reason::NameMismatch, detail));
    }
    let signer = request.may_sign.iter().find(|(may_sign, _)| may_sign.is(attestation.signer()));
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
    match earlier(registry, &attestation.signer().into(), trust, statement, &subject, &slot).await? {
        Earlier::Nothing { first: true } => legacy(registry, repository, subject.digest, warn).await?,
        Earlier::Nothing { first: false } => {}
        Earlier::Same(attested, _) => return Ok(Report::Already(*attested)),
        Earlier::Contradicts(before, content) => {
            return Ok(Report::Differs(contradiction(statement, subject.digest, before, content)));
        }
    }
    let put = attach(registry, &attestation, &subject, &slot, &request.bundle).await?;
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

/// Warns of signatures in cosign's older form, which nobody looks at once a bundle is there.
async fn legacy(
    registry: &Registry,
    repository: &Repository,
    subject: Digest,
    warn: impl Fn(&str),
) -> Result<(), Error> {
    let tag = |suffix: &str| format!("sha256-{}.{suffix}", subject.hex()).parse::<Tag>();
    for tag in [tag("sig"), tag("att")].into_iter().flatten() {
        if registry.has(&repository.at_tag(tag.clone())).await? {
            warn(&format!(
                "the tag `{tag}` holds signatures in cosign's older form: where an image has a bundle, \
                 cosign, Kyverno and Flux look at bundles alone, so a policy that asked for those \
                 signatures may refuse it from now on"
            ));
        }
    }
    Ok(())
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
    signer: &MaySign,
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

/// Signs; the attestation, its place in the log, and the bundle that proves it.
async fn sign(
    service: &Service,
    signer: &Signer,
    trust: &Trust,
    request: &Request,
    statement: &Statement,
) -> Result<(Attestation, Option<u64>, Vec<u8>), Error> {
    let payload = statement
        .to_payload()
        .map_err(|error| Error::undecided("cannot write the statement").because(error))?;
    let message = pae(&payload);
    let (signature, entry, timestamp) = witnessed(service, signer, request, &message).await?;
    let log_index = entry.log_index.get();
    let bundle = Bundle::keyed(seal(payload, signature), signer.public(), entry, timestamp);
    let json =
        bundle.to_json().map_err(|error| Error::undecided("cannot write the bundle").because(error))?;
    // What a log or an authority sent back is believed when the whole holds, as a verifier sees it.
    let attestation = Bundle::parse(json.as_bytes())
        .and_then(|bundle| {
            verify(&bundle, [(&signer.public().clone().into(), trust)]).map_err(|r| (r.reason, r.detail))
        })
        .map_err(|(reason, detail)| {
            Error::undecided(format!("the new attestation does not verify ({reason}): {detail}"))
                .hint("the log or the timestamp authority is not the one that the trusted root names")
        })?;
    Ok((attestation, Some(log_index), json.into_bytes()))
}

/// Attaches a bundle to the manifest that it is about.
async fn attach(
    registry: &Registry,
    attestation: &Attestation,
    subject: &Descriptor,
    slot: &Slot,
    bundle: &[u8],
) -> Result<Attached, Error> {
    let statement = attestation.statement();
    let annotations = [
        ("dev.sigstore.bundle.content".to_owned(), "dsse-envelope".to_owned()),
        ("dev.sigstore.bundle.predicateType".to_owned(), statement.predicate_type().to_owned()),
    ]
    .into_iter()
    .chain(attestation.earliest().map(|time| {
        let time = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        ("org.opencontainers.image.created".to_owned(), time)
    }));
    let attached = registry.attach(&statement.name, subject, slot, bundle, annotations.collect()).await?;
    Ok(Attached {
        manifest: attached.manifest,
        place: match attached.place {
            Place::Referrers => "referrers".to_owned(),
            Place::Tag(tag) => tag.to_string(),
        },
        notes: attached.notes,
    })
}

/// Signs, and has the signature logged and timestamped.
async fn witnessed(
    service: &Service,
    signer: &Signer,
    request: &Request,
    message: &[u8],
) -> Result<(Vec<u8>, TransparencyLogEntry, Vec<u8>), Error> {
    for _ in 0..SIGNATURES {
        let signature = signer.sign(message)?;
        // Neither witness needs the other's answer.
        let (entry, timestamp) = try_join(
            log::submit(service, &request.rekor, signer.public(), message, &signature),
            tsa::stamp(service, &request.tsa, &signature),
        )
        .await?;
        if let Some(entry) = entry {
            return Ok((signature, entry, timestamp));
        }
    }
    Err(Error::undecided(format!("{} says that it has every new signature already", request.rekor)))
}
