//! Layers and configurations, read to compare them with others. Nothing is judged by what is found.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::write::GzDecoder;
use ring::digest::{Context, SHA256};

use super::images;
use super::registry::Registry;
use super::zstd::{self, ZstdDecoder};
use crate::error::Error;
use crate::oci::difference::{Contents, Files};
use crate::oci::tar::TarError;
use crate::oci::{Config, Descriptor, Digest, Repository, Store};

/// The most bytes of a layer that are read, compressed or not: 8 GiB.
const MAX_LAYER: u64 = 8 << 30;

/// The files of a layer, decoded by what its first bytes say; `None` if the registry has no such
/// layer.
///
/// # Errors
/// When it cannot be read, or is no archive.
pub async fn files(
    registry: &Registry,
    repository: &Repository,
    layer: Digest,
) -> Result<Option<Files>, Error> {
    // Only its first bytes tell whether it is one of zstd.
    let _turn = zstd::turn().await?;
    let reading = Arc::new(Mutex::new(Reading::new()));
    let sink = {
        let reading = reading.clone();
        move |piece: Option<&[u8]>| {
            let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
            match piece {
                None => *reading = Reading::new(),
                Some(bytes) => reading.take(bytes),
            }
        }
    };
    let store = Store::Repository(repository.clone());
    let named = Descriptor { digest: layer, size: MAX_LAYER, ..Descriptor::of("", b"") };
    if !images::read(registry, &store, &named, Arc::new(Mutex::new(sink))).await? {
        return Ok(None);
    }
    let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
    let (reading, found) = std::mem::replace(&mut *reading, Reading::new()).finish();
    if found != layer {
        return Err(Error::undecided(format!("other bytes were answered than the layer {layer}")));
    }
    reading
        .map(Some)
        .map_err(|error| Error::undecided(format!("the layer {layer} cannot be compared")).because(error))
}

/// A configuration of which only the digest is known; `None` if the registry has none.
///
/// # Errors
/// When it cannot be read, is larger than 4 MiB, or is not what its digest says.
pub async fn config(
    registry: &Registry,
    repository: &Repository,
    digest: Digest,
) -> Result<Option<Vec<u8>>, Error> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let kept = kept.clone();
        move |piece: Option<&[u8]>| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            match piece {
                None => kept.clear(),
                Some(bytes) => kept.extend_from_slice(bytes),
            }
        }
    };
    let store = Store::Repository(repository.clone());
    let named = Descriptor { digest, size: Config::MAX_BYTES, ..Descriptor::of("", b"") };
    if !images::read(registry, &store, &named, Arc::new(Mutex::new(sink))).await? {
        return Ok(None);
    }
    let bytes = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
    if Digest::of(&bytes) != digest {
        return Err(Error::undecided(format!("other bytes were answered than the configuration {digest}")));
    }
    Ok(Some(bytes))
}

/// A layer while it comes in.
struct Reading {
    digest: Context,
    /// The first bytes, until they tell what it is.
    head: Vec<u8>,
    state: State,
}

enum State {
    Empty,
    Plain(Archive),
    Gzip(Box<GzDecoder<Archive>>),
    Zstd(Box<ZstdDecoder<Archive>>),
    Failed(io::Error),
}

impl Reading {
    fn new() -> Self {
        Self { digest: Context::new(&SHA256), head: Vec::new(), state: State::Empty }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        if matches!(self.state, State::Empty) {
            self.head.extend_from_slice(bytes);
            if self.head.len() >= zstd::MAGIC.len() {
                self.begin();
            }
        } else {
            self.write(bytes);
        }
    }

    /// Tells from the first bytes what it is, and takes them in.
    fn begin(&mut self) {
        let head = std::mem::take(&mut self.head);
        // The first byte of gzip (RFC 1952) begins no archive.
        self.state = match head.first() {
            // It began before, or there is nothing.
            None => return,
            Some(0x1f) => State::Gzip(Box::new(GzDecoder::new(Archive::default()))),
            Some(_) if head.starts_with(&zstd::MAGIC) => {
                State::Zstd(Box::new(ZstdDecoder::new(Archive::default())))
            }
            Some(_) => State::Plain(Archive::default()),
        };
        self.write(&head);
    }

    fn write(&mut self, bytes: &[u8]) {
        let written = match &mut self.state {
            State::Plain(archive) => archive.write_all(bytes),
            State::Gzip(decoder) => decoder.write_all(bytes),
            State::Zstd(decoder) => decoder.write_all(bytes),
            State::Empty | State::Failed(_) => Ok(()),
        };
        if let Err(error) = written {
            self.state = State::Failed(error);
        }
    }

    /// The files, and the digest of what was read.
    fn finish(mut self) -> (io::Result<Files>, Digest) {
        self.begin();
        let archive = match self.state {
            State::Empty => Ok(Archive::default()),
            State::Plain(archive) => Ok(archive),
            State::Gzip(decoder) => decoder.finish(),
            State::Zstd(decoder) => decoder.finish(),
            State::Failed(error) => Err(error),
        };
        let files = archive.and_then(|archive| archive.contents.finish().map_err(io::Error::other));
        let mut hash = [0; 32];
        hash.copy_from_slice(self.digest.finish().as_ref());
        (files, Digest::from_bytes(hash))
    }
}

/// The archive in a layer.
#[derive(Default)]
struct Archive {
    contents: Contents,
    length: u64,
}

impl Write for Archive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.length += bytes.len() as u64;
        if self.length > MAX_LAYER {
            return Err(io::Error::other(format!("it holds more than {MAX_LAYER} bytes")));
        }
        self.contents.take(bytes).map_err(|error: TarError| io::Error::other(error))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    /// What a layer is, its first bytes say, in whatever pieces they come.
    #[test]
    fn a_layer_is_told_by_its_first_bytes() {
        // An archive of nothing: two blocks of zeros.
        let plain = vec![0; 1024];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&plain).unwrap();
        let compressed = compress_to_vec(plain.as_slice(), CompressionLevel::Fastest);
        let read = |bytes: &[u8], piece: usize| {
            let mut reading = Reading::new();
            bytes.chunks(piece).for_each(|piece| reading.take(piece));
            let (files, digest) = reading.finish();
            assert_eq!(digest, Digest::of(bytes));
            files
        };
        let gzip = gzip.finish().unwrap();
        for piece in [1, 3, 4, 5, 512, 4096] {
            assert!(read(&plain, piece).is_ok(), "in pieces of {piece}");
            for layer in [&gzip, &compressed] {
                assert!(read(layer, piece).is_ok(), "in pieces of {piece}");
                assert!(read(&layer[..layer.len() - 1], piece).is_err(), "cut short, in pieces of {piece}");
            }
        }
        assert!(read(&zstd::MAGIC[..3], 1).is_err());
    }
}
