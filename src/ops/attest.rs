//! `attest`: a builder signs what it built, after comparing it with what was pushed.

use futures_util::future::try_join;
use sigstore_types::TransparencyLogEntry;
use url::Url;

use super::gather::{PREDICATE_TYPES, resolve};
use crate::attestation::bundle::Bundle;
use crate::attestation::envelope::{pae, seal};
use crate::attestation::verify::verify;
use crate::attestation::{Build, Claim, Content, Statement, Trust};
use crate::edge::registry::{Place, Registry};
use crate::edge::service::Service;
use crate::edge::signer::Signer;
use crate::edge::{layers, log, tsa};
use crate::error::Error;
use crate::oci::{
    Config, Descriptor, Digest, ImageIndex, Manifest, Platform, Reference, Slot, Store, System, media_type,
};
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
    /// The Rekor v2 log.
    pub rekor: Url,
    /// The timestamp authority.
    pub tsa: Url,
}

/// Attests the build.
///
/// # Errors
/// When the image, the log, the authority or the registry failed, or the request was wrong.
pub async fn run(
    registry: &Registry,
    service: &Service,
    signer: &Signer,
    trust: &Trust,
    request: &Request,
) -> Result<Report, Error> {
    let (subject, manifest) = child(registry, &request.image, request.build.system).await?;
    let claim = match (compare(registry, request, &manifest).await?, request.record_dissent) {
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
    match earlier(registry, signer, trust, &statement, &subject, &request.slot).await? {
        Earlier::Nothing => {}
        Earlier::Same(attested) => return Ok(Report::Already(*attested)),
        Earlier::Contradicts(bundle, content) => {
            return Ok(Report::Differs(contradiction(&statement, subject.digest, bundle, content)));
        }
    }
    let attested = sign_and_attach(registry, service, signer, trust, request, statement, &subject).await?;
    Ok(Report::Attested(attested))
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
    request: &Request,
    manifest: &Manifest,
) -> Result<Option<Difference>, Error> {
    let repository = &request.image.repository;
    let Content { config_digest, .. } = request.build.content;
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
    let platform: Platform = request.build.system.platform();
    if !config.fits(&platform) {
        let (system, states) = (request.build.system, &config.platform);
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
    Nothing,
    Same(Box<Attested>),
    /// Other content for the same build.
    Contradicts(Digest, Content),
}

async fn earlier(
    registry: &Registry,
    signer: &Signer,
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
    let mut contradicts = Earlier::Nothing;
    for bytes in &collected.bundles {
        let Ok(bundle) = Bundle::parse(bytes) else { continue };
        let Ok(attestation) = verify(&bundle, [(signer.public(), trust)]) else { continue };
        let said = attestation.statement();
        if timeless(said) == timeless(statement) {
            return Ok(Earlier::Same(Box::new(Attested {
                statement: said.clone(),
                bundle: attestation.bundle(),
                log_index: bundle.log_index(),
                time: attestation.earliest(),
                attached: None,
            })));
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

async fn sign_and_attach(
    registry: &Registry,
    service: &Service,
    signer: &Signer,
    trust: &Trust,
    request: &Request,
    statement: Statement,
    subject: &Descriptor,
) -> Result<Attested, Error> {
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
        .and_then(|bundle| verify(&bundle, [(signer.public(), trust)]).map_err(|r| (r.reason, r.detail)))
        .map_err(|(reason, detail)| {
            Error::undecided(format!("the new attestation does not verify ({reason}): {detail}"))
                .hint("the log or the timestamp authority is not the one that the trusted root names")
        })?;
    let annotations = [
        ("dev.sigstore.bundle.content".to_owned(), "dsse-envelope".to_owned()),
        ("dev.sigstore.bundle.predicateType".to_owned(), statement.predicate_type().to_owned()),
        (
            "org.opencontainers.image.created".to_owned(),
            attestation.earliest().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        ),
    ];
    let attached =
        registry.attach(&statement.name, subject, &request.slot, json.as_bytes(), annotations.into()).await?;
    Ok(Attested {
        statement,
        bundle: attestation.bundle(),
        log_index: Some(log_index),
        time: attestation.earliest(),
        attached: Some(Attached {
            manifest: attached.manifest,
            place: match attached.place {
                Place::Referrers => "referrers".to_owned(),
                Place::Tag(tag) => tag.to_string(),
            },
            notes: attached.notes,
        }),
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
