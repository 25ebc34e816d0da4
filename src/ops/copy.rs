//! Brings a release from one repository to another, with what builders said of it. Nothing is
//! named there: tags move after the release was judged again from what its new place holds.

use futures_util::future::{try_join, try_join_all};

use super::attest::slot_of;
use super::gather::{Gathered, Proof, Proven, predicate_types, prove};
use super::moving::Rules;
use super::sign::attach;
use crate::edge::images;
use crate::edge::registry::Registry;
use crate::error::Error;
use crate::oci::{Manifest, Repository, Slot, Store};
use crate::report::promote::Copied;

/// Brings the images of a release, every attestation of builders of the policy on them, whatever
/// it says, and then the index. What is there already stays.
///
/// # Errors
/// When a part could not be read or written.
pub(super) async fn bring(
    registry: &Registry,
    rules: Rules<'_>,
    from: &Repository,
    to: &Repository,
    release: &Gathered,
) -> Result<Copied, Error> {
    let brought = try_join_all(release.candidate.children().map(|child| async move {
        let proven: Vec<&Proven> =
            release.proven.iter().filter(|proven| proven.child.digest == child.digest()).collect();
        Box::pin(bring_child(registry, rules, from, to, child, &proven)).await
    }))
    .await?;
    let image = &release.candidate;
    let known = registry.has(&to.at_digest(image.digest())).await?;
    if !known {
        registry.push_manifest(to, image.media_type(), image.bytes()).await?;
    }
    Ok(Copied {
        from: from.clone(),
        images: brought.iter().filter(|(image, _)| *image).count(),
        attestations: brought.iter().map(|(_, attestations)| attestations).sum(),
    })
}

/// Whether the image was brought, and how many attestations.
async fn bring_child(
    registry: &Registry,
    rules: Rules<'_>,
    from: &Repository,
    to: &Repository,
    child: &Manifest,
    proven: &[&Proven],
) -> Result<(bool, usize), Error> {
    let slots = rules.policy.slots();
    let (known, there) =
        try_join(async { Ok::<_, Error>(registry.has(&to.at_digest(child.digest())).await?) }, async {
            let types = predicate_types(rules.policy, to);
            Ok(registry.collect(to, child.digest(), &slots, &types).await?)
        })
        .await?;
    if !known {
        let source = Store::Repository(from.clone());
        images::bring(registry, &[(source, child)], &Store::Repository(to.clone())).await?;
    }
    let listed = there.by_api;
    let there: Vec<_> =
        there.bundles.iter().filter_map(|bytes| prove(bytes, rules.policy, rules.trusts).ok()).collect();
    let mut brought = Vec::new();
    let mut due = Vec::new();
    for Proven { child, attestation, bundle } in proven {
        // The same that was seen at another time may count where this does not.
        let said = (attestation.said(), attestation.seen());
        if !there.iter().any(|there| (there.said(), there.seen()) == said) && !brought.contains(&said) {
            let slot = slot(rules, attestation)?;
            let (kind, time) = (attestation.predicate_type(), attestation.seen().map(|(first, _)| first));
            due.push(async move { attach(registry, to, child, listed, &slot, bundle, kind, time).await });
            brought.push(said);
        }
    }
    if listed {
        try_join_all(due).await?;
    } else {
        // They share a tag, for other tools.
        for attach in due {
            attach.await?;
        }
    }
    Ok((!known, brought.len()))
}

/// Where the policy looks for what the builder says.
fn slot(rules: Rules<'_>, attestation: &Proof) -> Result<Slot, Error> {
    let builder = rules.policy.builder(attestation.said().1);
    match builder.and_then(|builder| builder.slots.first()) {
        Some(slot) => Ok(slot.clone()),
        None => slot_of(attestation.builder()),
    }
}
