//! The referrers API (distribution-spec, "Listing Referrers").

use reqwest::{Method, StatusCode};

use crate::oci::{Descriptor, Digest, ImageIndex, Repository, media_type};

use super::Registry;
use super::error::{Asked, Error};
use super::host::Access;
use super::manifest::MAX_MANIFEST;
use super::pages::Pages;
use super::transport::{Answer, Call, Follow};

/// Entries of one list.
pub(super) const MAX_ENTRIES: usize = 1000;

/// What a registry says of the manifests about a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Referrers {
    /// All of them, from all pages, of every type.
    Listed(Vec<Descriptor>),
    /// It does not have this API.
    Unsupported,
}

impl Registry {
    /// Lists the manifests whose `subject` is `digest`.
    ///
    /// 404, 303, HTML, 400, 405 and 501 to the first page mean that the API is not there. Any
    /// other failure is an error, never an empty list.
    pub async fn referrers(&self, repository: &Repository, digest: Digest) -> Result<Referrers, Error> {
        let host = self.host(repository)?;
        let path = repository.path();
        if host.lacks_referrers(path) {
            return Ok(Referrers::Unsupported);
        }
        let what = format!("referrers of {repository}@{digest}");
        let call = Call {
            accept: Some(media_type::INDEX),
            limit: MAX_MANIFEST,
            follow: Follow::SameOrigin,
            fresh: true,
            ..host.call(Method::GET, path, &format!("referrers/{digest}"), Access::Pull)?
        };
        let mut pages = Pages::new(call, what.clone());
        let mut listed = Vec::new();
        while let Some(call) = pages.next()? {
            let asked = call.asked(&host);
            let answer = self.send(&host, call).await?;
            if pages.is_first() && is_unsupported(&answer) {
                host.remember_no_referrers(path);
                return Ok(Referrers::Unsupported);
            }
            if answer.status != StatusCode::OK {
                return Err(self.refusal(&host, path, asked, &answer).await);
            }
            pages.turn(&answer, &asked)?;
            self.keep(&answer.body)?;
            listed.extend(read(answer, &asked)?);
            if listed.len() > MAX_ENTRIES {
                return Err(Error::TooMany { what, limit: MAX_ENTRIES });
            }
        }
        Ok(Referrers::Listed(listed))
    }
}

fn is_unsupported(answer: &Answer) -> bool {
    match answer.status.as_u16() {
        303 | 400 | 404 | 405 | 501 => true,
        200 => {
            answer.content_type().as_deref() == Some("text/html")
                || answer.body.trim_ascii_start().starts_with(b"<")
        }
        _ => false,
    }
}

fn read(answer: Answer, asked: &Asked) -> Result<Vec<Descriptor>, Error> {
    let malformed = |why: String| Error::Malformed { asked: asked.clone(), why };
    let index = ImageIndex::parse(answer.body).map_err(|error| malformed(error.to_string()))?;
    Ok(index.manifests)
}
