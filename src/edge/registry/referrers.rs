//! The referrers API (distribution-spec, "Listing Referrers").

use reqwest::header::LINK;
use reqwest::{Method, StatusCode};
use url::Url;

use crate::oci::{Descriptor, Digest, ImageIndex, Repository, media_type};

use super::Registry;
use super::error::{Asked, Error};
use super::host::{Access, Host};
use super::manifest::MAX_MANIFEST;
use super::transport::{Answer, Call, Follow, Proof, asked};

/// Pages of one list (contract §8).
const MAX_PAGES: usize = 20;
/// Entries of one list (contract §8).
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
        let first = host.url(path, &format!("referrers/{digest}"))?;
        let mut next = Some(first.clone());
        let mut listed = Vec::new();
        let mut pages = 0;
        while let Some(url) = next {
            if pages == MAX_PAGES {
                return Err(Error::TooMany {
                    what: format!("pages of referrers of {repository}@{digest}"),
                    limit: MAX_PAGES,
                });
            }
            let asked = asked(&host, &Method::GET, &url);
            let answer = self.page(&host, path, url.clone()).await?;
            if pages == 0 && is_unsupported(&answer) {
                host.remember_no_referrers(path);
                return Ok(Referrers::Unsupported);
            }
            if answer.status != StatusCode::OK {
                return Err(self.refusal(&host, path, asked, &answer).await);
            }
            pages += 1;
            next = next_page(&url, &first, &answer, &asked)?;
            listed.extend(read(answer, &asked)?);
            if listed.len() > MAX_ENTRIES {
                return Err(Error::TooMany {
                    what: format!("referrers of {repository}@{digest}"),
                    limit: MAX_ENTRIES,
                });
            }
        }
        Ok(Referrers::Listed(listed))
    }

    async fn page(&self, host: &Host, path: &str, url: Url) -> Result<Answer, Error> {
        self.send(
            host,
            Call {
                method: Method::GET,
                url,
                accept: Some(media_type::INDEX),
                body: None,
                limit: MAX_MANIFEST,
                sink: None,
                follow: Follow::SameOrigin,
                retry: true,
                proof: Proof::Registry { path: path.to_owned(), access: Access::Pull },
                fresh: true,
                led: false,
            },
        )
        .await
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

/// `Link: <…>; rel="next"` (RFC 8288), which must stay with this list.
fn next_page(url: &Url, first: &Url, answer: &Answer, asked: &Asked) -> Result<Option<Url>, Error> {
    let links = answer.headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    for link in links.flat_map(|value| value.split(",<").collect::<Vec<_>>()) {
        let link = link.trim();
        let link = link.strip_prefix('<').unwrap_or(link);
        let Some((target, parameters)) = link.split_once('>') else {
            return Err(Error::Malformed {
                asked: asked.clone(),
                why: "a Link header that is none".to_owned(),
            });
        };
        let is_next = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            name.trim().eq_ignore_ascii_case("rel")
                && value
                    .trim()
                    .trim_matches('"')
                    .split_ascii_whitespace()
                    .any(|rel| rel.eq_ignore_ascii_case("next"))
        });
        if !is_next {
            continue;
        }
        let next = url.join(target).map_err(|_| Error::Malformed {
            asked: asked.clone(),
            why: "the link to the next page is no URL".to_owned(),
        })?;
        if next.origin() != first.origin()
            || next.path() != first.path()
            || !next.username().is_empty()
            || next.password().is_some()
        {
            return Err(Error::Redirect {
                asked: asked.clone(),
                to: format!("{}://{}", next.scheme(), next.host_str().unwrap_or_default()),
                why: "the next page of a list must belong to the same list",
            });
        }
        return Ok(Some(next));
    }
    Ok(None)
}
