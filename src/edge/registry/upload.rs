//! Uploading blobs: POST, then PUT (distribution-spec, "POST then PUT").

use std::fs::File;
use std::sync::Arc;

use reqwest::Method;
use reqwest::header::LOCATION;
use url::Url;

use crate::oci::{Digest, Repository};

use super::Registry;
use super::error::{Asked, Error};
use super::host::{Access, Host};
use super::manifest::named_digest;
use super::retry;
use super::transport::{Call, Payload, Proof};

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
        self.upload_payload(repository, Payload::Bytes(bytes.into()), digest).await?;
        Ok(digest)
    }

    /// Uploads the content of a file of `length` bytes, which is not expected to be there.
    pub(in crate::edge) async fn upload_file(
        &self,
        repository: &Repository,
        file: File,
        length: u64,
        digest: Digest,
    ) -> Result<(), Error> {
        self.upload_payload(repository, Payload::File(Arc::new(file), length), digest).await
    }

    async fn upload_payload(
        &self,
        repository: &Repository,
        payload: Payload,
        digest: Digest,
    ) -> Result<(), Error> {
        let host = self.host(repository)?;
        let mut delays = retry::delays();
        loop {
            // A PUT that failed may have used up its session: both are done again.
            let error = match self.upload(&host, repository.path(), payload.clone(), digest).await {
                Ok(()) => return Ok(()),
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

    /// Has the registry take a blob of another of its repositories into this one, without its
    /// bytes passing through here (distribution-spec, "Mounting a blob from another repository").
    /// `Ok(false)` where it did not, for whatever reason: the blob is to be uploaded then, and
    /// if that is not allowed either, the upload says why.
    ///
    /// # Errors
    /// When it could not be found out whether the blob was mounted.
    pub async fn mount_blob(
        &self,
        into: &Repository,
        from: &Repository,
        digest: Digest,
    ) -> Result<bool, Error> {
        if into.host() != from.host() {
            return Ok(false);
        }
        let host = self.host(into)?;
        // The token must cover both repositories.
        host.announce(into.path(), Access::Push);
        host.announce(from.path(), Access::Pull);
        let rest = format!("blobs/uploads/?mount={digest}&from={}", from.path());
        let call = host.call(Method::POST, into.path(), &rest, Access::Push)?;
        let asked = call.asked(&host);
        // A mount that is done twice is done once.
        let answer = self.send(&host, Call { retry: true, ..call }).await?;
        match answer.status.as_u16() {
            201 => match named_digest(&answer, &asked)? {
                Some(found) if found != digest => {
                    Err(Error::DigestMismatch { asked, expected: digest, found })
                }
                _ => Ok(true),
            },
            202 | 400..=499 => Ok(false),
            _ => Err(self.refusal(&host, into.path(), asked, &answer).await),
        }
    }

    /// One upload, which is not begun again.
    pub(super) async fn upload(
        &self,
        host: &Host,
        path: &str,
        payload: Payload,
        digest: Digest,
    ) -> Result<(), Error> {
        let call = host.call(Method::POST, path, "blobs/uploads/", Access::Push)?;
        let (begin, ours, named) = (call.url.clone(), call.proof.clone(), call.asked(host));
        let answer = self.send(host, call).await?;
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
        let body = Some(("application/octet-stream".to_owned(), payload));
        let call = Call { body, led: foreign, ..Call::new(Method::PUT, url, proof) };
        let named = call.asked(host);
        let answer = self.send(host, call).await?;
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
