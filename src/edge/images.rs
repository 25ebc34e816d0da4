//! Images in either kind of store: read, and brought from one to another.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use ring::digest::{Context, SHA256};

use super::layout::Layout;
use super::registry::{RawManifest, Registry, Sink};
use crate::error::Error;
use crate::oci::{Descriptor, Digest, Manifest, Place, Store};

/// Blobs of one image that are on their way at the same time.
pub(super) const AT_ONCE: usize = 4;
/// Bytes read at once from a file.
const PIECE: usize = 64 * 1024;

/// Reads the manifest or index that `place` names.
///
/// # Errors
/// When there is none, or that could not be found out.
pub async fn find(registry: &Registry, place: &Place) -> Result<RawManifest, Error> {
    let found = match place {
        Place::Registry(reference) => registry.manifest(reference).await?,
        Place::Layout(reference) => {
            let layout = Layout::open(&reference.path)?;
            match layout.find(&reference.entry)? {
                Some(descriptor) => {
                    layout.manifest(descriptor.digest)?.filter(|raw| descriptor.names(&raw.bytes))
                }
                None => None,
            }
        }
    };
    found.ok_or_else(|| absent(place))
}

/// The error for an image that is not there.
pub fn absent(named: &impl std::fmt::Display) -> Error {
    Error::request(format!("there is no image `{named}`")).hint("check the reference; nothing was changed")
}

/// Reads a manifest or index by its digest. `None` if the store says that it has none.
pub async fn manifest(
    registry: &Registry,
    store: &Store,
    digest: Digest,
) -> Result<Option<RawManifest>, Error> {
    match store {
        Store::Repository(repository) => Ok(registry.manifest(&repository.at_digest(digest)).await?),
        Store::Layout(path) => Layout::open(path)?.manifest(digest),
    }
}

/// Reads a blob of at most `limit` bytes into memory. `None` if the store says that it has none.
///
/// # Errors
/// Also when it is not what its descriptor says.
pub async fn blob(
    registry: &Registry,
    store: &Store,
    named: &Descriptor,
    limit: u64,
) -> Result<Option<Vec<u8>>, Error> {
    match store {
        Store::Repository(repository) => {
            Ok(registry.blob(repository, named.digest, Some(named.size), limit).await?)
        }
        Store::Layout(path) => {
            let found = Layout::open(path)?.content(named.digest, limit)?;
            match found {
                Some(bytes) if bytes.len() as u64 != named.size => Err(Error::request(format!(
                    "the blob {} in `{store}` has {} bytes, its descriptor says {}",
                    named.digest,
                    bytes.len(),
                    named.size
                ))),
                found => Ok(found),
            }
        }
    }
}

/// Reads a blob of at most `limit` bytes into memory, whatever size its descriptor says: that is for
/// the decision, which refuses an image of which it is not true.
pub async fn content(
    registry: &Registry,
    store: &Store,
    digest: Digest,
    limit: u64,
) -> Result<Option<Vec<u8>>, Error> {
    match store {
        Store::Repository(repository) => Ok(registry.blob(repository, digest, None, limit).await?),
        Store::Layout(path) => Layout::open(path)?.content(digest, limit),
    }
}

/// Reads a blob piece by piece: `sink` gets `None` when it begins, anew at each attempt, then
/// every piece. What it holds is for the caller to check. `false` if the store has none.
pub(super) async fn read(
    registry: &Registry,
    store: &Store,
    named: &Descriptor,
    sink: Sink,
) -> Result<bool, Error> {
    match store {
        Store::Repository(repository) => {
            Ok(registry.read_blob(repository, named.digest, named.size, sink).await?)
        }
        Store::Layout(path) => {
            let Some(file) = Layout::open(path)?.reader(named.digest)? else { return Ok(false) };
            // One byte more shows that there are too many.
            let mut file = file.take(named.size.saturating_add(1));
            let reading = blocking(move || {
                let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
                let mut piece = vec![0; PIECE];
                sink(None);
                loop {
                    match file.read(&mut piece)? {
                        0 => return Ok(()),
                        length => sink(Some(piece.get(..length).unwrap_or_default())),
                    }
                }
            });
            reading.await.map_err(|error| {
                Error::undecided(format!("cannot read the blob {} in `{store}`", named.digest)).because(error)
            })?;
            Ok(true)
        }
    }
}

/// Brings images from their stores to another: what is there already stays, what the registry can
/// take from a neighbouring repository does not pass through here, and manifests come last.
///
/// # Errors
/// When a part is absent, is not what its digest says, or could not be read or written.
pub async fn bring(registry: &Registry, images: &[(Store, &Manifest)], to: &Store) -> Result<(), Error> {
    // Layers that images share are one blob.
    let blobs: BTreeMap<Digest, (&Store, &Descriptor)> = images
        .iter()
        .flat_map(|(from, image)| image.layers.iter().chain([&image.config]).map(move |blob| (from, blob)))
        .map(|(from, blob)| (blob.digest, (from, blob)))
        .collect();
    stream::iter(blobs.into_values().map(|(from, blob)| bring_blob(registry, from, to, blob)))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    match to {
        Store::Repository(repository) => {
            let pushes = images
                .iter()
                .map(|(_, image)| registry.push_manifest(repository, &image.media_type, image.bytes()));
            try_join_all(pushes).await?;
        }
        Store::Layout(path) => {
            let layout = Layout::create(path)?;
            images.iter().try_for_each(|(_, image)| layout.write_blob(image.bytes()).map(|_| ()))?;
        }
    }
    Ok(())
}

async fn bring_blob(registry: &Registry, from: &Store, to: &Store, blob: &Descriptor) -> Result<(), Error> {
    match (from, to) {
        (Store::Repository(from), Store::Repository(to))
            if registry.mount_blob(to, from, blob.digest).await? =>
        {
            return Ok(());
        }
        (_, Store::Repository(to)) if registry.has_blob(to, blob.digest).await? => return Ok(()),
        (_, Store::Layout(path)) if Layout::create(path)?.has(blob) => return Ok(()),
        _ => {}
    }
    if let (Store::Repository(from), Store::Repository(to)) = (from, to)
        && from.host() != to.host()
        && registry.relay_blob(from, to, blob).await?
    {
        return Ok(());
    }
    let file = fetch(registry, from, blob).await?;
    match to {
        Store::Repository(to) => registry.upload_file(to, file, blob.size, blob.digest).await?,
        Store::Layout(path) => {
            let (layout, digest) = (Layout::create(path)?, blob.digest);
            blocking(move || layout.adopt(file, digest)).await.map_err(|error| {
                Error::undecided(format!("cannot write the blob {digest} to `{to}`")).because(error)
            })?;
        }
    }
    Ok(())
}

/// A blob in a file without a name, its size and digest checked.
async fn fetch(registry: &Registry, from: &Store, blob: &Descriptor) -> Result<File, Error> {
    let failed = |error: io::Error| {
        Error::undecided(format!("cannot keep the blob {} in a file", blob.digest)).because(error)
    };
    let spool = Arc::new(Mutex::new(Spool::new().map_err(failed)?));
    let sink = {
        let spool = spool.clone();
        move |piece: Option<&[u8]>| spool.lock().unwrap_or_else(PoisonError::into_inner).take(piece)
    };
    if !read(registry, from, blob, Arc::new(Mutex::new(sink))).await? {
        return Err(Error::request(format!("`{from}` does not have the blob {}", blob.digest))
            .hint("push the image there again"));
    }
    let mut spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
    let spool = std::mem::replace(&mut *spool, Spool::new().map_err(failed)?);
    let (length, digest) = (spool.length, spool.digest());
    if length != blob.size || digest != blob.digest {
        return Err(Error::undecided(format!(
            "`{from}` answered {length} bytes of digest {digest} for the blob {} of {} bytes",
            blob.digest, blob.size
        )));
    }
    spool.file.map_err(failed)
}

/// A file without a name, and the digest of what was written to it.
struct Spool {
    file: io::Result<File>,
    hash: Context,
    length: u64,
}

impl Spool {
    fn new() -> io::Result<Self> {
        Ok(Self { file: Ok(tempfile::tempfile()?), hash: Context::new(&SHA256), length: 0 })
    }

    fn take(&mut self, piece: Option<&[u8]>) {
        let Ok(file) = &mut self.file else { return };
        let taken = match piece {
            None => {
                (self.hash, self.length) = (Context::new(&SHA256), 0);
                file.set_len(0).and_then(|()| file.rewind())
            }
            Some(bytes) => {
                self.hash.update(bytes);
                self.length += bytes.len() as u64;
                file.write_all(bytes)
            }
        };
        if let Err(error) = taken {
            self.file = Err(error);
        }
    }

    fn digest(&self) -> Digest {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.hash.clone().finish().as_ref());
        Digest::from_bytes(hash)
    }
}

/// Runs what waits for the disk where nothing else waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::Error::other("interrupted")))
}
