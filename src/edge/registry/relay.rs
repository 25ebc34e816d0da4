//! Blobs that go from one registry to another while they are read.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use futures_util::future::try_join;
use reqwest::{Method, StatusCode};
use ring::digest::{Context, SHA256};
use tokio::sync::mpsc;

use crate::oci::{Descriptor, Digest, Repository};

use super::Registry;
use super::error::Error;
use super::host::Access;
use super::transport::{Call, Follow, Outlet, Payload};

/// Pieces of one blob that wait to be sent; none is larger than what is read of a connection at
/// once.
const WAITING: usize = 4;

/// The digest and the length of what came.
type Found = (Digest, u64);

/// The bytes of one blob on their way. The last of them are held back until size and digest of the
/// whole are right, so that no registry is given a blob under a digest that is not its own.
pub(super) struct Relay {
    pieces: mpsc::Receiver<Bytes>,
    held: Bytes,
    hash: Context,
    length: u64,
    named: Found,
    ended: bool,
    /// What came instead.
    other: Arc<OnceLock<Found>>,
}

impl Relay {
    fn new(named: &Descriptor, other: Arc<OnceLock<Found>>) -> (mpsc::Sender<Bytes>, Self) {
        let (sender, pieces) = mpsc::channel(WAITING);
        let (held, hash) = (Bytes::new(), Context::new(&SHA256));
        let named = (named.digest, named.size);
        (sender, Self { pieces, held, hash, length: 0, named, ended: false, other })
    }

    /// The next bytes to send. An empty piece says that all were read: a channel that merely ends says
    /// that reading failed, and why that was, is known there. HTTP/2 asks once more after the last
    /// bytes, and sends no end of the body before it is told that there are none.
    ///
    /// # Errors
    /// At the end, when they were not those of the blob.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        loop {
            let piece = self.pieces.recv().await;
            let piece = piece.ok_or_else(|| io::Error::other("the blob was not read to its end"))?;
            if piece.is_empty() {
                break;
            }
            self.hash.update(&piece);
            self.length += piece.len() as u64;
            let before = std::mem::replace(&mut self.held, piece);
            if !before.is_empty() {
                return Ok(Some(before));
            }
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(self.hash.clone().finish().as_ref());
        let found = (Digest::from_bytes(hash), self.length);
        if found != self.named {
            let _ = self.other.set(found);
            return Err(io::Error::other("what was read is not the blob"));
        }
        self.ended = true;
        Ok(Some(std::mem::take(&mut self.held)).filter(|last| !last.is_empty()))
    }
}

impl Registry {
    /// Sends a blob, which is not expected to be there, to a repository of another registry while
    /// it is read: once, and without asking again. `Ok(false)` when that did not go well, for
    /// whatever reason: the blob is to be read whole and uploaded then, which says why if it fails
    /// as well.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`], [`Error::SizeMismatch`] and [`Error::TooLarge`] when the first
    /// registry answers other bytes; the second has not got all of them then.
    pub(in crate::edge) async fn relay_blob(
        &self,
        from: &Repository,
        to: &Repository,
        blob: &Descriptor,
    ) -> Result<bool, Error> {
        let (source, target) = (self.host(from)?, self.host(to)?);
        let call = source.call(Method::GET, from.path(), &format!("blobs/{}", blob.digest), Access::Pull)?;
        let asked = call.asked(&source);
        let other = Arc::new(OnceLock::new());
        let (pieces, relay) = Relay::new(blob, other.clone());
        let outlet = Some(Outlet::Pipe(pieces.clone()));
        let call = Call { limit: blob.size, outlet, follow: Follow::Anywhere, retry: false, ..call };
        let read = async {
            let answer = self.send(&source, call).await?;
            match answer.status {
                StatusCode::OK => {
                    // Whoever takes no more knows why.
                    let _ = pieces.send(Bytes::new()).await;
                    Ok(())
                }
                _ => Err(self.refusal(&source, from.path(), asked.clone(), &answer).await),
            }
        };
        let payload = Payload::Relay(Arc::new(Mutex::new(Some(relay))), blob.size);
        let sent = async {
            self.upload(&target, to.path(), payload, blob.digest).await.map_err(|error| match other.get() {
                Some((found, _)) if *found != blob.digest => {
                    Error::DigestMismatch { asked: asked.clone(), expected: blob.digest, found: *found }
                }
                Some((_, found)) => {
                    Error::SizeMismatch { asked: asked.clone(), expected: blob.size, found: *found }
                }
                None => error,
            })
        };
        match try_join(read, sent).await {
            Ok(_) => Ok(true),
            Err(
                error @ (Error::DigestMismatch { .. } | Error::SizeMismatch { .. } | Error::TooLarge { .. }),
            ) => Err(error),
            Err(error) => {
                tracing::debug!(digest = %blob.digest, error = error.reason(), "not sent while it was read");
                Ok(false)
            }
        }
    }
}
