//! Listing and removing tags (distribution-spec, "Listing Tags", "Deleting Tags").

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::oci::{Digest, Repository, Tag};

use super::Registry;
use super::error::{Error, Reply, shown};
use super::host::Access;
use super::manifest::MAX_MANIFEST;
use super::pages::Pages;
use super::transport::{Call, Follow, reply};

/// Tags asked for in one page.
const PAGE: usize = 1000;
/// Tags of one list.
const MAX_TAGS: usize = 10_000;

/// What became of removing a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untagged {
    /// The tag is gone; what it named is still there.
    Done,
    /// There was no such tag.
    Absent,
    /// It names something else; it was left alone.
    Elsewhere(Digest),
    /// This registry does not remove tags; nothing was changed.
    Cannot(Reply),
}

/// A page of tags. `null` stands for none in some registries.
#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

impl Registry {
    /// Lists the tags of a repository. `Ok(None)` only when the registry says 404: it does not
    /// know the repository.
    ///
    /// # Errors
    /// [`Error::TooMany`] after 20 pages or 10,000 tags; [`Error::Malformed`] where a page
    /// repeats a tag: such a list may have no end.
    pub async fn tags(&self, repository: &Repository) -> Result<Option<BTreeSet<Tag>>, Error> {
        let host = self.host(repository)?;
        let path = repository.path();
        let what = format!("tags of {repository}");
        let first = Call {
            accept: Some("application/json"),
            limit: MAX_MANIFEST,
            follow: Follow::SameOrigin,
            fresh: true,
            ..host.call(Method::GET, path, &format!("tags/list?n={PAGE}"), Access::Pull)?
        };
        let mut pages = Pages::new(first, what.clone());
        let mut listed = BTreeSet::new();
        while let Some(call) = pages.next()? {
            let asked = call.asked(&host);
            let answer = self.send(&host, call).await?;
            match answer.status {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND if pages.is_first() => return Ok(None),
                _ => return Err(self.refusal(&host, path, asked, &answer).await),
            }
            pages.turn(&answer, &asked)?;
            let malformed = |why: String| Error::Malformed { asked: asked.clone(), why };
            let page: Page = serde_json::from_slice(&answer.body)
                .map_err(|error| malformed(format!("not a list of tags: {error}")))?;
            for tag in page.tags.unwrap_or_default() {
                let tag: Tag = tag.parse().map_err(|_| malformed(format!("`{}` is no tag", shown(&tag))))?;
                if listed.contains(&tag) {
                    return Err(malformed(format!("it lists `{tag}` twice")));
                }
                if listed.len() == MAX_TAGS {
                    return Err(Error::TooMany { what, limit: MAX_TAGS });
                }
                listed.insert(tag);
            }
        }
        Ok(Some(listed))
    }

    /// Removes a tag that names `digest`, and looks that the manifest has stayed. Nothing is
    /// ever deleted by digest.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the tag stands after the registry said that it is gone, or when
    /// the manifest went with it.
    pub(in crate::edge) async fn untag(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: Digest,
    ) -> Result<Untagged, Error> {
        let host = self.host(repository)?;
        let path = repository.path();
        host.announce(path, Access::Delete);
        let reference = repository.at_tag(tag.clone());
        let held = match self.fetch_manifest(&reference, MAX_MANIFEST, true).await? {
            None => return Ok(Untagged::Absent),
            Some(now) if now.digest != digest => return Ok(Untagged::Elsewhere(now.digest)),
            Some(held) => held.into_manifest()?,
        };
        // Gitea keeps a manifest for each name that it was pushed by, and removes it with the name:
        // from now on it has one by its digest, too.
        self.push_manifest(repository, &held.media_type, &held.bytes).await?;
        let call = host.call(Method::DELETE, path, &format!("manifests/{tag}"), Access::Delete)?;
        let asked = call.asked(&host);
        let answer = self.send(&host, call).await?;
        match answer.status.as_u16() {
            200 | 202 | 204 => {}
            // distribution 2.8 says 400 or 405, others 404 or 501.
            400 | 404 | 405 | 501 => return Ok(Untagged::Cannot(reply(&host, &answer))),
            _ => return Err(self.refusal(&host, path, asked, &answer).await),
        }
        let malformed = |why: &str| Err(Error::Malformed { asked: asked.clone(), why: why.to_owned() });
        if self.has(&reference).await? {
            return malformed("the registry said that the tag is gone, and it still stands");
        }
        if !self.has(&repository.at_digest(digest)).await? {
            return malformed("the registry removed the manifest with its tag");
        }
        Ok(Untagged::Done)
    }
}
