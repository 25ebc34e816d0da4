//! What a decision needs, fetched with as few round trips in sequence as can be:
//! index → manifests and lists of evidence → configurations and evidence.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::{join_all, try_join, try_join_all};
use jiff::Timestamp;

use crate::attestation::predicate::{BUILD_V1, DISSENT_V1};
use crate::attestation::verify::{verify, verify_provenance};
use crate::attestation::{Attestation, Bundle, Provenance, Rejection, Sealed, Signer, Trusts};
use crate::edge::images::{self, absent};
use crate::edge::registry::{Collected, RawManifest, Registry};
use crate::error::Error;
use crate::oci::pack::{Part, Parts};
use crate::oci::{
    Config, Descriptor, Digest, ImageIndex, Manifest, Reference, Repository, Slot, Store, media_type,
};
use crate::policy::{Candidate, Evidence, Policy};
use crate::reason::Reason;

/// The most children of an index that are fetched. No policy can name more platforms.
pub(super) const MAX_CHILDREN: usize = 64;

/// The predicate types that can be votes.
pub(super) const PREDICATE_TYPES: [&str; 2] = [BUILD_V1, DISSENT_V1];

/// An image as it is in the registry, and all that was found about it.
pub(super) struct Gathered {
    pub candidate: Candidate,
    pub evidence: Evidence,
    /// The bundles whose attestations are in the evidence.
    pub proven: Vec<Proven>,
}

/// An attestation, and the bundle that proves it.
pub(super) struct Proven {
    /// The image that it is about.
    pub child: Descriptor,
    pub attestation: Proof,
    pub bundle: Arc<[u8]>,
}

/// An attestation of any type that can count.
#[derive(Clone)]
pub(super) enum Proof {
    Statement(Attestation),
    Provenance(Attestation<Provenance>),
}

impl Proof {
    pub(super) fn manifest(&self) -> Digest {
        match self {
            Self::Statement(proven) => proven.statement().manifest(),
            Self::Provenance(proven) => proven.statement().manifest,
        }
    }

    pub(super) fn predicate_type(&self) -> &'static str {
        match self {
            Self::Statement(proven) => proven.statement().predicate_type(),
            Self::Provenance(proven) => proven.statement().predicate_type,
        }
    }

    /// The builder, as it claims.
    pub(super) fn builder(&self) -> &str {
        match self {
            Self::Statement(proven) => &proven.statement().build.builder,
            Self::Provenance(proven) => &proven.statement().builder,
        }
    }

    /// What was said, and who said it: the same in every bundle.
    pub(super) fn said(&self) -> (Digest, &Signer) {
        match self {
            Self::Statement(proven) => (proven.payload(), proven.signer()),
            Self::Provenance(proven) => (proven.payload(), proven.signer()),
        }
    }

    /// When it was seen first and last. What is signed again is seen later.
    pub(super) fn seen(&self) -> Option<(Timestamp, Timestamp)> {
        match self {
            Self::Statement(proven) => proven.earliest().zip(proven.latest()),
            Self::Provenance(proven) => proven.earliest().zip(proven.latest()),
        }
    }
}

/// Resolves `reference` once; from then on the bytes are held.
pub(crate) async fn resolve(registry: &Registry, reference: &Reference) -> Result<RawManifest, Error> {
    registry.manifest(reference).await?.ok_or_else(|| absent(reference))
}

/// Fetches what is needed to judge `image`. Evidence is read beside it, and in the repositories
/// `also`.
pub(super) async fn gather(
    registry: &Registry,
    repository: &Repository,
    image: RawManifest,
    policy: &Policy,
    trusts: &Trusts,
    also: &[Repository],
) -> Result<Gathered, Error> {
    gather_for(registry, repository, repository, image, policy, trusts, also).await
}

/// The same for an image that is in `repository`, and is to be judged as one of `place`.
pub(super) async fn gather_for(
    registry: &Registry,
    repository: &Repository,
    place: &Repository,
    image: RawManifest,
    policy: &Policy,
    trusts: &Trusts,
    also: &[Repository],
) -> Result<Gathered, Error> {
    let (parts, skipped) = fetch(registry, repository, place, image, policy, also).await?;
    Ok(assess(place, &parts, skipped, policy, trusts))
}

/// Fetches the parts of `image` and what hangs on it, as the rule for `place` wants them; besides,
/// what cannot be evidence.
pub(super) async fn fetch(
    registry: &Registry,
    repository: &Repository,
    place: &Repository,
    image: RawManifest,
    policy: &Policy,
    also: &[Repository],
) -> Result<(Parts, Vec<Rejection>), Error> {
    let mut parts = Parts::of(&image.media_type, image.bytes);
    let children = children(&parts, policy, place);
    let types = predicate_types(policy, place);
    let (slots, store) = (policy.slots(), Store::Repository(repository.clone()));
    let places: BTreeSet<&Repository> = also.iter().chain([repository]).collect();
    let found = try_join_all(children.iter().map(|child| {
        let evidence = places.iter().map(|place| evidence(registry, place, child, &slots, &types));
        try_join(content(registry, &store, &parts, child), try_join_all(evidence))
    }))
    .await?;
    let mut skipped = Vec::new();
    for (child, (content, everywhere)) in children.iter().zip(found) {
        for part in content {
            parts.add_child(part);
        }
        for collected in everywhere {
            for bundle in collected.bundles {
                parts.add_bundle(bundle);
            }
            skipped.extend(collected.skipped.into_iter().map(|skipped| Rejection {
                bundle: skipped.digest,
                reason: skipped.reason,
                detail: skipped.detail,
                signer: None,
                manifest: Some(child.digest),
            }));
        }
    }
    Ok((parts, skipped))
}

/// Reads the parts of `image` from a store; no evidence.
pub(super) async fn fetch_content(
    registry: &Registry,
    store: &Store,
    place: &Repository,
    image: RawManifest,
    policy: &Policy,
) -> Result<Parts, Error> {
    let mut parts = Parts::of(&image.media_type, image.bytes);
    let children = children(&parts, policy, place);
    let found = try_join_all(children.iter().map(|child| content(registry, store, &parts, child))).await?;
    for part in found.into_iter().flatten() {
        parts.add_child(part);
    }
    Ok(parts)
}

/// What the parts come to: the candidate, and each bundle proven or not.
pub(super) fn assess(
    repository: &Repository,
    parts: &Parts,
    skipped: Vec<Rejection>,
    policy: &Policy,
    trusts: &Trusts,
) -> Gathered {
    let root = &parts.root;
    let mut candidate = Candidate::read(repository.clone(), &root.media_type, root.bytes.clone());
    let children = children(parts, policy, repository);
    for child in &children {
        let config = candidate.add_manifest(child, parts.child(child.digest).map(<[u8]>::to_vec));
        if let Some(config) = config {
            candidate.add_config(child, parts.child(config.digest));
        }
    }
    let mut evidence = Evidence { rejections: skipped, ..Evidence::default() };
    let mut proven = Vec::new();
    for bytes in parts.bundles.values() {
        match prove(bytes, policy, trusts) {
            Ok(attestation) => {
                let about = attestation.manifest();
                if let Some(child) = children.iter().find(|child| child.digest == about) {
                    let (child, bundle) = (child.clone(), bytes.clone());
                    proven.push(Proven { child, attestation: attestation.clone(), bundle });
                }
                match attestation {
                    Proof::Statement(proven) => evidence.attestations.push(proven),
                    Proof::Provenance(proven) => evidence.provenances.push(proven),
                }
            }
            Err(rejection) => evidence.rejections.push(*rejection),
        }
    }
    Gathered { candidate, evidence, proven }
}

/// The children whose content is wanted. More of them than platforms are refused by the decision,
/// whatever they hold. One image without an index stands for itself, where the rule judges such.
fn children(parts: &Parts, policy: &Policy, place: &Repository) -> Vec<Descriptor> {
    let Part { media_type, bytes } = &parts.root;
    if media_type::is_manifest(media_type) && policy.image(place).is_some_and(|rule| rule.single) {
        return vec![Descriptor::of(media_type, bytes)];
    }
    let index = media_type::is_index(media_type).then(|| ImageIndex::parse(bytes.clone()).ok()).flatten();
    index.into_iter().flat_map(|index| index.manifests).take(MAX_CHILDREN).collect()
}

/// The manifest and configuration of a child, as far as the store has them.
async fn content(
    registry: &Registry,
    store: &Store,
    parts: &Parts,
    child: &Descriptor,
) -> Result<Vec<Part>, Error> {
    let manifest = if let Some(bytes) = parts.child(child.digest) {
        Part { media_type: child.media_type.clone(), bytes: bytes.to_vec() }
    } else {
        let Some(raw) = images::manifest(registry, store, child.digest).await? else {
            return Ok(Vec::new());
        };
        Part { media_type: raw.media_type, bytes: raw.bytes }
    };
    let config = match Manifest::parse(manifest.bytes.clone()) {
        // A larger one is refused by the decision, and never fetched.
        Ok(read) if read.config.size <= Config::MAX_BYTES => {
            images::content(registry, store, read.config.digest, Config::MAX_BYTES)
                .await?
                .map(|bytes| Part { media_type: read.config.media_type, bytes })
        }
        _ => None,
    };
    Ok([manifest].into_iter().chain(config).collect())
}

/// The predicate types that can be votes on an image of `place`.
pub(super) fn predicate_types(policy: &Policy, place: &Repository) -> Vec<&'static str> {
    let accepted = policy.image(place).into_iter().flat_map(|rule| rule.types.iter().copied());
    PREDICATE_TYPES.into_iter().chain(accepted).collect()
}

/// Everything that is attached to a child in one repository.
async fn evidence(
    registry: &Registry,
    repository: &Repository,
    child: &Descriptor,
    slots: &[Slot],
    types: &[&str],
) -> Result<Collected, Error> {
    Ok(registry.collect(repository, child.digest, slots, types).await?)
}

/// Proves one bundle.
pub(super) fn prove(bytes: &[u8], policy: &Policy, trusts: &Trusts) -> Result<Proof, Box<Rejection>> {
    let rejected = |why| Box::new(Rejection::of_bytes(bytes, why));
    match Bundle::parse(bytes) {
        Ok(bundle) => verify(&bundle, policy.may_sign(trusts)).map(Proof::Statement),
        Err((Reason::PredicateType, _)) => {
            let sealed = Sealed::parse(bytes).map_err(rejected)?;
            verify_provenance(&sealed, policy.may_sign(trusts)).map(Proof::Provenance)
        }
        Err(why) => Err(rejected(why)),
    }
}

/// Runs all, so that one failure does not hide what another found out.
pub(super) async fn all<T>(work: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    join_all(work).await
}
