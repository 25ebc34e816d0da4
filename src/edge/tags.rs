//! Tags are written here and nowhere else, each with a permission of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;

use super::interrupt::Interrupt;
use super::registry::{RawManifest, Registry, Untagged};
use crate::error::Error;
use crate::oci::{Digest, Repository, Tag};
use crate::policy::{Approval, Candidate, ImageRule};

/// Permission to name an image or index by a tag that no release stands under.
#[derive(Debug, Clone)]
pub struct CandidateTag(Tag);

/// Permission to put a tag back to what it named before.
#[derive(Debug, Clone)]
pub struct Restore {
    repository: Repository,
    tag: Tag,
    before: Arc<RawManifest>,
    ours: Digest,
}

/// What became of putting a tag back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// It names what it named before.
    Back,
    /// It names this: it did not name what we wrote and was left alone, or it could not be put
    /// back.
    Elsewhere(Option<Digest>),
}

impl CandidateTag {
    /// A tag that `assemble` and `push` may write: not `latest`, none that the image's rule governs, and none
    /// that evidence may be kept under.
    pub fn new(tag: Tag, rule: Option<&ImageRule>) -> Result<Self, Error> {
        let why = if rule.is_some_and(|rule| rule.tag(&tag).is_some()) {
            Some("the policy governs it")
        } else if tag.as_str() == "latest" {
            Some("`latest` names releases")
        } else if is_of_evidence(&tag) {
            Some("evidence is kept under such tags")
        } else {
            None
        };
        if let Some(why) = why {
            return Err(Error::request(format!("this command does not write the tag `{tag}`: {why}"))
                .hint("write a candidate tag such as `git-<commit>`, then `quorate promote` the index"));
        }
        Ok(Self(tag))
    }

    /// The tag.
    pub fn tag(&self) -> &Tag {
        &self.0
    }
}

/// Whether evidence may be kept under a tag: no image is named by it, whatever a policy's pattern takes in.
pub fn is_of_evidence(tag: &Tag) -> bool {
    tag.as_str().starts_with("sha256-")
}

/// Names a new image or index by candidate tags: in one request where the registry can, and one by one
/// where it cannot. What became of each, in their order.
pub async fn write_candidates(
    registry: &Registry,
    repository: &Repository,
    tags: &[CandidateTag],
    media_type: &str,
    bytes: &[u8],
) -> Vec<Result<(), Error>> {
    let names: Vec<&Tag> = tags.iter().map(|tag| &tag.0).collect();
    let written = match names.as_slice() {
        [] | [_] => BTreeSet::new(),
        // What failed here fails again below, or it concerns this way of writing only.
        several => registry.push_tagged(repository, several, media_type, bytes).await.unwrap_or_default(),
    };
    join_all(tags.iter().map(|tag| async {
        if !written.contains(&tag.0) {
            registry.put_tag(repository, &tag.0, media_type, bytes).await?;
        }
        Ok(())
    }))
    .await
}

/// Removes a candidate tag that names `digest`; the manifest stays.
pub async fn remove_candidate(
    registry: &Registry,
    repository: &Repository,
    tag: &CandidateTag,
    digest: Digest,
) -> Result<Untagged, Error> {
    Ok(registry.untag(repository, &tag.0, digest).await?)
}

/// Names the approved image by `tag`, which named `before` until now. The bytes written are the
/// bytes that were judged. An interrupt ends the trying.
pub async fn write_approved(
    registry: &Registry,
    approval: &Approval,
    tag: &Tag,
    before: Option<Digest>,
    image: &Candidate,
    interrupt: &Interrupt,
) -> Result<(), Error> {
    if approval.permits(tag).is_none() || image.digest() != approval.digest() {
        return Err(Error::request(format!("the approval of {} is not for `{tag}`", approval.digest())));
    }
    let (repository, media_type) = (approval.repository(), image.media_type());
    registry.move_tag(before, repository, tag, media_type, image.bytes(), interrupt).await?;
    Ok(())
}

impl Restore {
    /// To be made before the tag is moved to `ours`, from what it named until then.
    pub fn new(repository: &Repository, tag: &Tag, before: Arc<RawManifest>, ours: Digest) -> Self {
        Self { repository: repository.clone(), tag: tag.clone(), before, ours }
    }

    /// The tag.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// Puts the tag back if it still names what we wrote, and reads it back.
    pub async fn put_back(&self, registry: &Registry) -> Result<Restored, Error> {
        let reference = self.repository.at_tag(self.tag.clone());
        let now = registry.digest_now(&reference).await?;
        if now != Some(self.ours) {
            return Ok(Restored::Elsewhere(now));
        }
        // Whether or not it went well, what counts is what the tag names then.
        // An interrupt is no reason to try less.
        let (before, unasked) = (&self.before, Interrupt::default());
        let (media_type, bytes) = (&before.media_type, &before.bytes);
        let _ = registry.move_tag(now, &self.repository, &self.tag, media_type, bytes, &unasked).await;
        let now = registry.digest_now(&reference).await?;
        Ok(if now == Some(self.before.digest) { Restored::Back } else { Restored::Elsewhere(now) })
    }
}
