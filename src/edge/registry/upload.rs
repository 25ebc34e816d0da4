//! Uploading blobs: POST, then PUT (distribution-spec, "POST then PUT").

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::LOCATION;
use url::Url;

use crate::oci::{Digest, Repository};

use super::Registry;
use super::error::{Asked, Error};
use super::host::{Access, Host};
use super::retry;
use super::transport::{Call, Follow, MAX_ERROR_BODY, Proof, asked};

impl Registry {
    /// Uploads a blob, unless the repository has it, and returns its digest.
    pub async fn push_blob(&self, repository: &Repository, bytes: Vec<u8>) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        if self.has_blob(repository, digest).await? {
            return Ok(digest);
        }
        self.upload_blob(repository, bytes).await
    }

    /// Uploads a blob that is not expected to be there.
    pub(super) async fn upload_blob(&self, repository: &Repository, bytes: Vec<u8>) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        let bytes = Bytes::from(bytes);
        let host = self.host(repository)?;
        let mut delays = retry::delays();
        loop {
            // A PUT that failed may have used up its session: both are done again.
            let error = match self.upload(&host, repository.path(), bytes.clone(), digest).await {
                Ok(()) => return Ok(digest),
                Err(error @ (Error::Server { .. } | Error::Throttled { .. } | Error::Unreachable { .. })) => {
                    error
                }
                Err(error) => return Err(error),
            };
            let Some(delay) = delays.next() else {
                return Err(error);
            };
            let delay = match &error {
                Error::Throttled { retry_after: Some(wait), .. } => delay.max(*wait),
                _ => delay,
            };
            if std::time::Instant::now() + delay >= self.deadline {
                return Err(error);
            }
            tokio::time::sleep(delay).await;
        }
    }

    async fn upload(&self, host: &Host, path: &str, bytes: Bytes, digest: Digest) -> Result<(), Error> {
        let begin = host.url(path, "blobs/uploads/")?;
        let named = asked(host, &Method::POST, &begin);
        let ours = Proof::Registry { path: path.to_owned(), access: Access::Push };
        let call = |method, url, body, proof, led| Call {
            method,
            url,
            accept: None,
            body,
            limit: MAX_ERROR_BODY,
            sink: None,
            follow: Follow::Nowhere,
            retry: false,
            proof,
            fresh: false,
            led,
        };
        let answer = self.send(host, call(Method::POST, begin.clone(), None, ours.clone(), false)).await?;
        match answer.status.as_u16() {
            201 => return Ok(()),
            202 => {}
            _ => return Err(self.refusal(host, path, named, &answer).await),
        }
        let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.and_then(|value| begin.join(value).ok());
        let mut url = location.ok_or_else(|| Error::Malformed {
            asked: named.clone(),
            why: "the upload's Location is no URL".to_owned(),
        })?;
        // A store on another host may take the bytes; it learns nothing of us.
        let foreign = url.origin() != host.api.origin();
        if foreign {
            check_location(&url, host, &named)?;
        }
        let proof = if foreign { Proof::Given(None) } else { ours };
        url.set_fragment(None);
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let named = asked(host, &Method::PUT, &url);
        let body = Some(("application/octet-stream".to_owned(), bytes));
        let answer = self.send(host, call(Method::PUT, url, body, proof, foreign)).await?;
        match answer.status.as_u16() {
            200 | 201 | 202 | 204 => Ok(()),
            _ => Err(self.refusal(host, path, named, &answer).await),
        }
    }
}

/// Whether bytes may go to another host; where that host stands is for the transport to check.
fn check_location(url: &Url, host: &Host, asked: &Asked) -> Result<(), Error> {
    let why = if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        "it is no web address"
    } else if host.api.scheme() == "https" && url.scheme() == "http" {
        "it leaves https"
    } else if !url.username().is_empty() || url.password().is_some() {
        "it holds a user or password"
    } else {
        return Ok(());
    };
    Err(Error::Redirect {
        asked: asked.clone(),
        to: format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()),
        why,
    })
}
