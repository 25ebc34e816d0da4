//! `attest`: a builder signs what it built, after comparing it with what was pushed.

use std::path::PathBuf;

use futures_util::future::{join, join_all, try_join};

use super::gather::{PREDICATE_TYPES, resolve};
use super::sign::{Signing, attach, legacy};
use crate::attestation::bundle::Bundle;
use crate::attestation::verify::verify;
use crate::attestation::{Attestation, Build, Claim, Content, MaySign, Remarks, Statement, Trust};
use crate::edge::registry::{Collected, RawManifest, Registry};
use crate::edge::{files, layers};
use crate::error::Error;
use crate::oci::{
    Config, Descriptor, Digest, ImageIndex, Manifest, Platform, Reference, Repository, Slot, Store, System,
    media_type,
};
use crate::policy::Policy;
use crate::reason::Reason;
use crate::report::attest::{Attached, Attested, Difference, Report};

/// What is asked.
pub struct Request {
    /// An index, of which each build's system picks a child, or the manifest of one platform.
    pub image: Reference,
    /// What was built, once for each system.
    pub builds: Vec<Build>,
    /// Where the evidence goes: the image's repository, or another.
    pub store: Repository,
    /// Under which the evidence is kept on registries without the referrers API.
    pub slot: Slot,
    /// Whether to sign a disagreement, where there is one.
    pub record_dissent: bool,
    /// Whether to sign what this signer said before.
    pub again: bool,
    /// Whether to attach what was signed.
    pub attach: bool,
    /// Where to keep the bundle, besides.
    pub bundle_out: Option<PathBuf>,
}

/// What is asked of a bundle that was signed elsewhere.
pub struct Signed<'a> {
    /// As in [`Request`].
    pub image: Reference,
    /// The bundle.
    pub bundle: Vec<u8>,
    /// Whether to attach what this signer said before, in another bundle.
    pub again: bool,
    /// As in [`Request`].
    pub store: Repository,
    /// Who may have signed it, each under its own trust.
    pub may_sign: Vec<(&'a MaySign, &'a Trust)>,
    /// What says in which slot the builder's evidence is kept.
    pub policy: Option<&'a Policy>,
    /// Under which it is kept on registries without the referrers API, if not the policy's slot, or
    /// else the builder's name.
    pub slot: Option<Slot>,
}

/// A statement that may be signed, and what is known of its manifest.
struct Ready {
    statement: Statement,
    subject: Descriptor,
    found: Collected,
}

/// Attests the builds, all at once, if all of them are what was pushed. `warn` is told what to know
/// before evidence is attached.
///
/// # Errors
/// When the image, a signing service or the registry failed, or the request was wrong.
pub async fn run(
    registry: &Registry,
    signing: &Signing<'_>,
    request: &Request,
    warn: impl Fn(&str),
) -> Result<Vec<Report>, Error> {
    let image = resolve(registry, &request.image).await?;
    let compared = request.builds.iter().map(|build| ready(registry, &image, request, build));
    // The signer must be known before what it said before is looked for.
    let (compared, pen) = join(join_all(compared), signing.pen(None)).await;
    let (mut readies, mut differences) = (Vec::new(), Vec::new());
    for compared in compared {
        match compared? {
            Ok(ready) => readies.push(ready),
            Err(difference) => differences.push(Report::Differs(difference)),
        }
    }
    if !differences.is_empty() {
        return Ok(differences);
    }
    let may_sign = pen?.may_sign();
    let mut to_sign = Vec::new();
    let mut reports = Vec::new();
    for ready in readies {
        match earlier(&ready.found, &[(&may_sign, signing.trust)], &ready.statement) {
            Earlier::Nothing { first } => to_sign.push((first, ready)),
            Earlier::Same(..) if request.again => to_sign.push((false, ready)),
            Earlier::Same(attested, bundle) => {
                keep(request, &bundle)?;
                reports.push(Report::Already(*attested));
            }
            Earlier::Contradicts(bundle, content) => differences.push(Report::Differs(contradiction(
                &ready.statement,
                ready.subject.digest,
                bundle,
                content,
            ))),
        }
    }
    if !differences.is_empty() {
        return Ok(differences);
    }
    let warn = &warn;
    let signed = to_sign.iter().map(async |(first, ready)| {
        let warned = async {
            if *first && request.attach {
                legacy(registry, &request.store, ready.subject.digest, warn).await?;
            }
            Ok(())
        };
        let signed = signing.sign(ready.statement.to_payload(), proven);
        let ((attestation, log_index), json) = try_join(signed, warned).await?.0;
        let kept = keep(request, &json);
        // What is logged is not lost with the file.
        let attached = if request.attach {
            let attached = ready.attach(registry, &attestation, &request.store, &request.slot, &json).await;
            Some(attached.map_err(|error| if kept.is_err() { lost(request, error) } else { error })?)
        } else {
            None
        };
        kept?;
        Ok::<_, Error>(Report::Attested(attested(&attestation, log_index, attached)))
    });
    // All come to an end, so that one failure leaves no other half done.
    for report in join_all(signed).await {
        reports.push(report?);
    }
    Ok(reports)
}

/// The statement on one build, compared with what was pushed; what was found at its manifest.
async fn ready(
    registry: &Registry,
    image: &RawManifest,
    request: &Request,
    build: &Build,
) -> Result<Result<Ready, Difference>, Error> {
    let repository = &request.image.repository;
    let (subject, manifest) = child(registry, &request.image, image, build.system).await?;
    let (compared, found) = join(
        compare(registry, repository, build, &manifest),
        registry.collect(
            &request.store,
            subject.digest,
            std::slice::from_ref(&request.slot),
            &PREDICATE_TYPES,
        ),
    )
    .await;
    let claim = match (compared?, request.record_dissent) {
        (None, false) => Claim::Build,
        (Some(difference), false) => return Ok(Err(difference)),
        (Some(_), true) => Claim::Dissent { disputes: subject.digest },
        (None, true) => {
            return Err(Error::request("there is nothing to dissent from: the image is what was built")
                .hint("leave out `--record-dissent` to attest it"));
        }
    };
    let statement = Statement {
        name: repository.clone(),
        subject: match claim {
            Claim::Build => subject.digest,
            Claim::Dissent { .. } => build.content.config_digest,
        },
        claim,
        build: build.clone(),
    };
    Ok(Ok(Ready { statement, subject, found: found? }))
}

/// Attaches a bundle that was signed elsewhere, after verifying it and comparing what it says with
/// what was pushed. `warn` is told what to know before.
///
/// # Errors
/// When the bundle does not verify, or is about another image; when the registry failed.
pub async fn attach_signed(
    registry: &Registry,
    request: &Signed<'_>,
    warn: impl Fn(&str),
) -> Result<Report, Error> {
    let refused = |reason: Reason, detail: String| {
        Error::no(format!("the bundle is not attached ({reason}): {detail}"))
            .hint(format!("`docs/reasons.md` says what `{reason}` comes from, and what to do"))
    };
    let bundle = Bundle::parse(&request.bundle).map_err(|(reason, detail)| refused(reason, detail))?;
    let attestation = verify(&bundle, request.may_sign.iter().copied())
        .map_err(|rejection| refused(rejection.reason, rejection.detail))?;
    let (statement, signer) = (attestation.statement(), attestation.signer());
    let (repository, store) = (&request.image.repository, &request.store);
    if statement.name != *repository {
        let detail = format!("it speaks of `{}`, not of `{repository}`", statement.name);
        return Err(refused(Reason::NameMismatch, detail)
            .hint("name the image as the statement does; `--attach-to` puts the bundle elsewhere"));
    }
    let builder = request.policy.and_then(|policy| policy.builder(signer));
    let slot = match request.slot.as_ref().or(builder.and_then(|builder| builder.slots.first())) {
        Some(slot) => slot.clone(),
        None => slot_of(&statement.build.builder)?,
    };
    let image = resolve(registry, &request.image).await?;
    let (subject, manifest) = child(registry, &request.image, &image, statement.build.system).await?;
    if statement.manifest() != subject.digest {
        let (about, system) = (statement.manifest(), statement.build.system);
        let detail =
            format!("it is about {about}, and `{}` has {} for {system}", request.image, subject.digest);
        return Err(refused(Reason::OtherManifest, detail)
            .hint(format!("attach it to `{repository}@{about}`, or attest the image that is there")));
    }
    let difference = compare(registry, repository, &statement.build, &manifest).await?;
    match (difference, &statement.claim) {
        (None, Claim::Build) | (Some(_), Claim::Dissent { .. }) => {}
        (Some(difference), Claim::Build) => return Ok(Report::Differs(difference)),
        (None, Claim::Dissent { .. }) => {
            let detail = "it disputes an image that is what it says was built".to_owned();
            return Err(refused(Reason::NothingDisputed, detail)
                .hint("sign a statement that approves the image: `quorate attest`"));
        }
    }
    let found =
        registry.collect(store, subject.digest, std::slice::from_ref(&slot), &PREDICATE_TYPES).await?;
    let same = MaySign::from(signer);
    let own = request.may_sign.iter().filter(|(may_sign, _)| may_sign.is(signer));
    let own: Vec<_> = own.map(|(_, trust)| (&same, *trust)).collect();
    match earlier(&found, &own, statement) {
        Earlier::Nothing { first: true } => legacy(registry, store, subject.digest, &warn).await?,
        Earlier::Nothing { first: false } => {}
        Earlier::Same(..) if request.again && !found.bundles.contains(&request.bundle) => {}
        Earlier::Same(attested, _) => return Ok(Report::Already(*attested)),
        Earlier::Contradicts(before, content) => {
            return Ok(Report::Differs(contradiction(statement, subject.digest, before, content)));
        }
    }
    let ready = Ready { statement: statement.clone(), subject, found };
    let put = ready.attach(registry, &attestation, store, &slot, &request.bundle).await?;
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

impl Ready {
    /// Attaches a bundle to the manifest.
    async fn attach(
        &self,
        registry: &Registry,
        attestation: &Attestation,
        store: &Repository,
        slot: &Slot,
        bundle: &[u8],
    ) -> Result<Attached, Error> {
        let listed = self.found.by_api;
        let (kind, time) = (attestation.statement().predicate_type(), attestation.earliest());
        attach(registry, store, &self.subject, listed, slot, bundle, kind, time).await
    }
}

/// The attestation in a bundle, and where the log has it.
fn proven(
    bundle: &[u8],
    signer: &MaySign,
    trust: &Trust,
) -> Result<(Attestation, Option<u64>), (Reason, String)> {
    let bundle = Bundle::parse(bundle)?;
    let attestation = verify(&bundle, [(signer, trust)]).map_err(|r| (r.reason, r.detail))?;
    Ok((attestation, bundle.log_index()))
}

/// Writes the bundle where it was asked for.
fn keep(request: &Request, bundle: &[u8]) -> Result<(), Error> {
    let Some(path) = &request.bundle_out else { return Ok(()) };
    files::write(path, bundle).map_err(|error| {
        let hint = if request.attach {
            "run the same again once the file can be written: what is attached is not signed anew"
        } else {
            "run the same again once the file can be written: it signs and logs anew"
        };
        Error::undecided(format!("cannot write the bundle to `{}`", path.display())).because(error).hint(hint)
    })
}

/// That a bundle is neither attached nor in its file.
fn lost(request: &Request, error: Error) -> Error {
    let path = request.bundle_out.as_ref().map(|path| format!(" nor written to `{}`", path.display()));
    let path = path.unwrap_or_default();
    Error::undecided(format!("the bundle is not attached{path}"))
        .because(error)
        .hint("run the same again once one of them can be: it signs and logs anew")
}

/// The manifest of the platform that the system builds for.
async fn child(
    registry: &Registry,
    image: &Reference,
    raw: &RawManifest,
    system: System,
) -> Result<(Descriptor, Manifest), Error> {
    let malformed =
        |error: &dyn std::fmt::Display| Error::request(format!("`{image}` cannot be attested: {error}"));
    let raw = if media_type::is_index(&raw.media_type) {
        let index = ImageIndex::parse(raw.bytes.clone()).map_err(|error| malformed(&error))?;
        let child = index.child(&system.platform()).map_err(|error| malformed(&error))?.digest;
        resolve(registry, &image.repository.at_digest(child)).await?
    } else {
        raw.clone()
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
    let Some(bytes) = registry.blob(repository, config_digest, Some(size), Config::MAX_BYTES).await? else {
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
        hint: match unbound.reason {
            "layer-differs" | "layers-differ" => {
                "the layers that were pushed are not those of the configuration: do not release this image"
            }
            "layer-urls" => "push the image again, with all its layers and without `urls`",
            "layer-table" => "push the image again, without the layout of eStargz or zstd:chunked",
            "layer-absent" => "push the image again: the registry lacks a part of it",
            _ => "what cannot be compared is not signed: push the image again, uncompressed or with gzip",
        },
    }))
}

/// What this signer said of this manifest before.
enum Earlier {
    /// Nothing; `first` if nobody else attached a bundle either.
    Nothing { first: bool },
    /// The same, in this bundle.
    Same(Box<Attested>, Vec<u8>),
    /// Other content for the same build.
    Contradicts(Digest, Content),
}

fn earlier(found: &Collected, signer: &[(&MaySign, &Trust)], statement: &Statement) -> Earlier {
    // When and in which run is another with each run: what counts is whether it is said.
    let whenever = |statement: &Statement| {
        let mut statement = statement.clone();
        let remarks = &mut statement.build.remarks;
        let said = (remarks.built_at.take().is_some(), remarks.invocation.take().is_some());
        (statement, said)
    };
    let is_bundle = |found: &Descriptor| found.artifact_type.as_deref() == Some(media_type::BUNDLE);
    let mut contradicts =
        Earlier::Nothing { first: found.bundles.is_empty() && !found.others.iter().any(is_bundle) };
    for bytes in &found.bundles {
        let Ok(bundle) = Bundle::parse(bytes) else { continue };
        let Ok(attestation) = verify(&bundle, signer.iter().copied()) else { continue };
        let said = attestation.statement();
        if whenever(said) == whenever(statement) {
            let same = attested(&attestation, bundle.log_index(), None);
            return Earlier::Same(Box::new(same), bytes.clone());
        }
        let build = |s: &Statement| {
            let mut build = s.build.clone();
            build.remarks = Remarks::default();
            build.content = statement.build.content;
            (s.name.clone(), build)
        };
        if said.build.content != statement.build.content && build(said) == build(statement) {
            contradicts = Earlier::Contradicts(attestation.bundle(), said.build.content);
        }
    }
    contradicts
}

fn contradiction(statement: &Statement, manifest: Digest, bundle: Digest, before: Content) -> Difference {
    let now = statement.build.content;
    Difference {
        reason: "equivocation",
        manifest,
        detail: format!(
            "this signer signed another content for this build (bundle {bundle})\n  \
             then: narHash {}, configuration {}\n  now:  narHash {}, configuration {}",
            before.nar_hash, before.config_digest, now.nar_hash, now.config_digest
        ),
        hint: "the build is not reproducible on this builder; signing both would block the release as equivocation",
    }
}

fn attested(attestation: &Attestation, log_index: Option<u64>, attached: Option<Attached>) -> Attested {
    Attested {
        statement: attestation.statement().clone(),
        signer: attestation.signer().clone(),
        bundle: attestation.bundle(),
        log_index,
        time: attestation.earliest(),
        attached,
    }
}
