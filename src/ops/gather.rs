//! What a decision needs, fetched with as few round trips in sequence as can be:
//! index → manifests and lists of evidence → configurations and evidence.

use futures_util::future::{join_all, try_join, try_join_all};

use crate::attestation::predicate::{BUILD_V1, DISSENT_V1};
use crate::attestation::{Attestation, Bundle, Rejection, Trusts, verify::verify};
use crate::edge::images::absent;
use crate::edge::registry::{RawManifest, Registry};
use crate::error::Error;
use crate::oci::{Config, Descriptor, Manifest, Reference, Repository, Slot};
use crate::policy::{Candidate, Evidence, Policy};

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
    /// What it is attached to.
    pub child: Descriptor,
    pub attestation: Attestation,
    pub bundle: Vec<u8>,
}

/// Resolves `reference` once; from then on the bytes are held.
pub(crate) async fn resolve(registry: &Registry, reference: &Reference) -> Result<RawManifest, Error> {
    registry.manifest(reference).await?.ok_or_else(|| absent(reference))
}

/// Fetches what is needed to judge `image`.
pub(super) async fn gather(
    registry: &Registry,
    repository: &Repository,
    image: RawManifest,
    policy: &Policy,
    trusts: &Trusts,
) -> Result<Gathered, Error> {
    gather_for(registry, repository, repository, image, policy, trusts).await
}

/// The same for an image that is in `repository`, and is to be judged as one of `place`.
pub(super) async fn gather_for(
    registry: &Registry,
    repository: &Repository,
    place: &Repository,
    image: RawManifest,
    policy: &Policy,
    trusts: &Trusts,
) -> Result<Gathered, Error> {
    let mut candidate = Candidate::read(place.clone(), &image.media_type, image.bytes);
    // More children than platforms are refused by the decision, whatever they hold.
    let children: Vec<Descriptor> = candidate.manifests().iter().take(MAX_CHILDREN).cloned().collect();
    let slots = policy.slots();
    let found = try_join_all(children.iter().map(|child| async {
        try_join(
            content(registry, repository, child),
            evidence(registry, repository, child, &slots, policy, trusts),
        )
        .await
    }))
    .await?;
    let mut all = Evidence::default();
    let mut proven = Vec::new();
    for (child, ((manifest, config), (evidence, bundles))) in children.iter().zip(found) {
        candidate.add_manifest(child, manifest);
        candidate.add_config(child, config.as_deref());
        all.attestations.extend(evidence.attestations);
        all.rejections.extend(evidence.rejections);
        proven.extend(bundles);
    }
    Ok(Gathered { candidate, evidence: all, proven })
}

/// The manifest and configuration of a child, as far as the registry has them.
async fn content(
    registry: &Registry,
    repository: &Repository,
    child: &Descriptor,
) -> Result<(Option<Vec<u8>>, Option<Vec<u8>>), Error> {
    let Some(manifest) = registry.manifest(&repository.at_digest(child.digest)).await? else {
        return Ok((None, None));
    };
    let config = match Manifest::parse(manifest.bytes.clone()) {
        // A larger one is refused by the decision, and never fetched.
        Ok(read) if read.config.size <= Config::MAX_BYTES => {
            registry.blob(repository, read.config.digest, read.config.size, Config::MAX_BYTES).await?
        }
        _ => None,
    };
    Ok((Some(manifest.bytes), config))
}

/// Everything that is attached to a child, proven or not.
pub(super) async fn evidence(
    registry: &Registry,
    repository: &Repository,
    child: &Descriptor,
    slots: &[Slot],
    policy: &Policy,
    trusts: &Trusts,
) -> Result<(Evidence, Vec<Proven>), Error> {
    let collected = registry.collect(repository, child.digest, slots, &PREDICATE_TYPES).await?;
    let mut evidence = Evidence::default();
    let mut proven = Vec::new();
    for bytes in collected.bundles {
        match Bundle::parse(&bytes)
            .map_err(|why| Box::new(Rejection::of_bytes(&bytes, why)))
            .and_then(|b| verify(&b, policy.may_sign(trusts)))
        {
            Ok(attestation) => {
                evidence.attestations.push(attestation.clone());
                proven.push(Proven { child: child.clone(), attestation, bundle: bytes });
            }
            Err(rejection) => evidence.rejections.push(*rejection),
        }
    }
    evidence.rejections.extend(collected.skipped.into_iter().map(|skipped| Rejection {
        bundle: skipped.digest,
        reason: skipped.reason,
        detail: skipped.detail,
        signer: None,
        manifest: Some(child.digest),
    }));
    Ok((evidence, proven))
}

/// Runs all, so that one failure does not hide what another found out.
pub(super) async fn all<T>(work: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    join_all(work).await
}
