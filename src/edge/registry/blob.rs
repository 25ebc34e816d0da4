//! Reading blobs (distribution-spec, "Pulling blobs").

use reqwest::{Method, StatusCode};

use crate::oci::{Digest, Repository};

use super::Registry;
use super::error::Error;
use super::host::Access;
use super::transport::{Call, Follow, Outlet, Sink};

impl Registry {
    /// Fetches a blob into memory, of `size` bytes where that is known. `Ok(None)` only when the
    /// registry says 404.
    ///
    /// # Errors
    /// [`Error::TooLarge`] before anything is asked when `size` is over `limit` (bytes), and when
    /// more than `limit` bytes come; [`Error::DigestMismatch`]; [`Error::SizeMismatch`] when the
    /// digest is right and the size is not.
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: Digest,
        size: Option<u64>,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let host = self.host(repository)?;
        let path = repository.path();
        let call = host.call(Method::GET, path, &format!("blobs/{digest}"), Access::Pull)?;
        let asked = call.asked(&host);
        if size.is_some_and(|size| size > limit) {
            return Err(Error::TooLarge { what: asked.to_string(), limit });
        }
        let answer = self.send(&host, Call { limit, follow: Follow::Anywhere, ..call }).await?;
        match answer.status {
            StatusCode::OK => {}
            // Only the registry itself can say that it has no such blob.
            StatusCode::NOT_FOUND if !answer.foreign => return Ok(None),
            _ => return Err(self.refusal(&host, path, asked, &answer).await),
        }
        let found = Digest::of(&answer.body);
        if found != digest {
            return Err(Error::DigestMismatch { asked, expected: digest, found });
        }
        let length = answer.body.len() as u64;
        if let Some(expected) = size.filter(|size| *size != length) {
            return Err(Error::SizeMismatch { asked, expected, found: length });
        }
        self.keep(&answer.body)?;
        Ok(Some(answer.body))
    }

    /// Reads a blob of `size` bytes piece by piece: `sink` gets `None` when the body begins, anew
    /// at each attempt, then every piece. Whether the bytes are those of `digest` is for the
    /// caller to check at the end. `Ok(false)` only when the registry says 404.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when more than `size` bytes come.
    pub(in crate::edge) async fn read_blob(
        &self,
        repository: &Repository,
        digest: Digest,
        size: u64,
        sink: Sink,
    ) -> Result<bool, Error> {
        let host = self.host(repository)?;
        let path = repository.path();
        let call = host.call(Method::GET, path, &format!("blobs/{digest}"), Access::Pull)?;
        let asked = call.asked(&host);
        let call = Call { limit: size, outlet: Some(Outlet::Sink(sink)), follow: Follow::Anywhere, ..call };
        let answer = self.send(&host, call).await?;
        match answer.status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND if !answer.foreign => Ok(false),
            _ => Err(self.refusal(&host, path, asked, &answer).await),
        }
    }

    /// Whether the repository holds a blob. A registry that errs here wrongly makes a later push
    /// of a manifest fail, nothing else; nothing is decided on it.
    pub(in crate::edge) async fn has_blob(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> Result<bool, Error> {
        let host = self.host(repository)?;
        let path = repository.path();
        let call = host.call(Method::HEAD, path, &format!("blobs/{digest}"), Access::Push)?;
        let asked = call.asked(&host);
        let answer = self.send(&host, call).await?;
        match answer.status.as_u16() {
            // A redirect leads to the store that has it.
            200 | 301 | 302 | 303 | 307 | 308 => Ok(true),
            404 => Ok(false),
            _ => Err(self.refusal(&host, path, asked, &answer).await),
        }
    }
}
