//! Whether the layers that were pushed are those that the configuration names.
//!
//! A layer whose digest is its `diff_id` is bound by name. A compressed one is read whole: its
//! size and digest are checked, it is decoded strictly, and what comes out is hashed.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::write::GzDecoder;
use futures_util::future::try_join_all;
use ring::digest::{Context, SHA256};

use super::images;
use super::registry::Registry;
use super::zstd::{self, ZstdDecoder};
use crate::error::Error;
use crate::oci::layer::{Machine, Programs};
use crate::oci::tar::TarError;
use crate::oci::{Config, Descriptor, Digest, Manifest, Store, media_type};

/// Annotations by which lazy pullers find files without reading the layer: the digest of a table
/// of contents that nothing here checks.
const TABLES: [&str; 3] = [
    "containerd.io/snapshot/stargz/toc.digest",
    "io.github.containers.zstd-chunked.manifest-checksum",
    "io.github.containers.zstd-chunked.manifest-position",
];

/// A layer that is not what the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbound {
    /// The stable reason code.
    pub reason: &'static str,
    /// Which layer, and both sides.
    pub detail: String,
}

/// How a layer is written (image-spec, `layer.md`; Docker has no type for zstd).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Gzip,
    Zstd,
}

impl Form {
    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            media_type::LAYER | "application/vnd.docker.image.rootfs.diff.tar" => Some(Self::Plain),
            media_type::LAYER_GZIP | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Some(Self::Gzip),
            media_type::LAYER_ZSTD => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// How much of the layers is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What must be, to bind them to the configuration.
    Bind,
    /// Everything, and for which machines the programs in it are.
    Read,
}

/// For which machines the programs in some layers are, with the name of one program each.
pub type Machines = BTreeMap<Machine, String>;

/// Binds every layer of `manifest` to the `diff_ids` of `config`; the first that does not hold.
/// With [`Depth::Read`], also says for which machines there are programs.
///
/// # Errors
/// When a layer could not be read.
pub async fn bind(
    registry: &Registry,
    store: &Store,
    manifest: &Manifest,
    config: &Config,
    depth: Depth,
) -> Result<Result<Machines, Unbound>, Error> {
    if manifest.layers.len() != config.diff_ids.len() {
        return Ok(Err(Unbound {
            reason: "layers-differ",
            detail: format!(
                "the manifest has {} layers, the configuration {} diff_ids",
                manifest.layers.len(),
                config.diff_ids.len()
            ),
        }));
    }
    let layers = manifest.layers.iter().zip(&config.diff_ids);
    let checked =
        try_join_all(layers.map(|(layer, diff_id)| check(registry, store, layer, *diff_id, depth))).await?;
    let mut machines = Machines::new();
    for layer in checked {
        match layer {
            Ok(found) => {
                for (machine, program) in found {
                    machines.entry(machine).or_insert(program);
                }
            }
            Err(unbound) => return Ok(Err(unbound)),
        }
    }
    Ok(Ok(machines))
}

async fn check(
    registry: &Registry,
    store: &Store,
    layer: &Descriptor,
    diff_id: Digest,
    depth: Depth,
) -> Result<Result<Machines, Unbound>, Error> {
    let unbound = |reason, why: String| {
        Ok(Err(Unbound { reason, detail: format!("the layer {} of diff_id {diff_id} {why}", layer.digest) }))
    };
    if layer.has_urls {
        return unbound("layer-urls", "sends readers to other addresses (`urls`)".to_owned());
    }
    if let Some(table) = TABLES.iter().find(|table| layer.annotations.contains_key(**table)) {
        return unbound(
            "layer-table",
            format!("has the annotation `{table}`, which lazy pullers would believe"),
        );
    }
    let Some(form) = Form::of(&layer.media_type) else {
        return unbound("layer-type", format!("is of type `{}`, which cannot be compared", layer.media_type));
    };
    if form == Form::Plain {
        if layer.digest != diff_id {
            return unbound("layer-differs", "is not compressed, and has another digest".to_owned());
        }
        if depth == Depth::Bind {
            return Ok(Ok(Machines::new()));
        }
    }
    let _turn = if form == Form::Zstd { Some(zstd::turn().await?) } else { None };
    let reading = Arc::new(Mutex::new(Reading::new(form, depth)));
    let found = {
        let reading = reading.clone();
        let sink = move |piece: Option<&[u8]>| {
            let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
            match piece {
                None => *reading = Reading::new(form, depth),
                Some(bytes) => reading.take(bytes),
            }
        };
        images::read(registry, store, layer, Arc::new(Mutex::new(sink))).await?
    };
    if !found {
        return unbound("layer-absent", "is absent".to_owned());
    }
    let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
    let read = std::mem::replace(&mut *reading, Reading::new(form, depth)).finish();
    if read.length != layer.size {
        let length = read.length;
        return unbound("layer-malformed", format!("has {length} bytes, its descriptor says {}", layer.size));
    }
    if read.digest != layer.digest {
        return Err(Error::undecided(format!("other bytes were answered than the layer {}", layer.digest)));
    }
    match read.content {
        Err(error) => {
            let one = if form == Form::Zstd { "zstd frame" } else { "gzip stream" };
            unbound("layer-malformed", format!("is not one {one}: {error}"))
        }
        Ok(content) if content.diff_id != diff_id => {
            unbound("layer-differs", format!("holds {}", content.diff_id))
        }
        Ok(content) => match content.machines {
            Err(error) => unbound("layer-malformed", format!("is {error}")),
            Ok(machines) => Ok(Ok(machines)),
        },
    }
}

/// A layer while it comes in.
struct Reading {
    digest: Context,
    length: u64,
    decoder: Decoder,
    failed: Option<io::Error>,
}

enum Decoder {
    Plain(Content),
    Gzip(Box<GzDecoder<Content>>),
    Zstd(Box<ZstdDecoder<Content>>),
}

/// A layer that was read.
struct Read {
    digest: Digest,
    length: u64,
    content: io::Result<Archive>,
}

/// The archive in a layer.
struct Archive {
    diff_id: Digest,
    machines: Result<Machines, TarError>,
}

impl Reading {
    fn new(form: Form, depth: Depth) -> Self {
        let content = Content {
            digest: Context::new(&SHA256),
            programs: Ok((depth == Depth::Read).then(Programs::default)),
        };
        let decoder = match form {
            Form::Plain => Decoder::Plain(content),
            Form::Gzip => Decoder::Gzip(Box::new(GzDecoder::new(content))),
            Form::Zstd => Decoder::Zstd(Box::new(ZstdDecoder::new(content))),
        };
        Self { digest: Context::new(&SHA256), length: 0, decoder, failed: None }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        if self.failed.is_some() {
            return;
        }
        let written = match &mut self.decoder {
            Decoder::Plain(content) => content.write_all(bytes),
            // After the end of the stream the decoder takes nothing more, and `write_all` says so:
            // a second member or a tail, which other decoders might read. What DEFLATE holds is at
            // most 1032 times as large.
            Decoder::Gzip(decoder) => decoder.write_all(bytes),
            Decoder::Zstd(decoder) => decoder.write_all(bytes),
        };
        self.failed = written.err();
    }

    fn finish(self) -> Read {
        let content = match (self.failed, self.decoder) {
            (Some(error), _) => Err(error),
            (None, Decoder::Plain(content)) => Ok(content),
            (None, Decoder::Gzip(decoder)) => decoder.finish(),
            (None, Decoder::Zstd(decoder)) => decoder.finish(),
        };
        Read { digest: digest(self.digest), length: self.length, content: content.map(Content::finish) }
    }
}

/// Hashes what is written to it, and looks for programs if it was asked to.
struct Content {
    digest: Context,
    programs: Result<Option<Programs>, TarError>,
}

impl Content {
    fn finish(self) -> Archive {
        let machines = match self.programs {
            Ok(Some(programs)) => programs.finish(),
            Ok(None) => Ok(Machines::new()),
            Err(error) => Err(error),
        };
        Archive { diff_id: digest(self.digest), machines }
    }
}

impl Write for Content {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.digest.update(bytes);
        if let Ok(Some(programs)) = &mut self.programs
            && let Err(error) = programs.take(bytes)
        {
            self.programs = Err(error);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn digest(context: Context) -> Digest {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    Digest::from_bytes(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn read(form: Form, bytes: &[u8], piece: usize) -> io::Result<Digest> {
        let mut reading = Reading::new(form, Depth::Bind);
        bytes.chunks(piece).for_each(|piece| reading.take(piece));
        let read = reading.finish();
        assert_eq!((read.length, read.digest), (bytes.len() as u64, Digest::of(bytes)));
        read.content.map(|archive| archive.diff_id)
    }

    #[test]
    fn a_layer_is_its_content_however_it_comes() {
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for (form, bytes) in
            [(Form::Plain, content.clone()), (Form::Gzip, gzip(&content)), (Form::Zstd, zstd(&content))]
        {
            for piece in [1, 7, 4096, 1 << 20] {
                assert_eq!(read(form, &bytes, piece).unwrap(), Digest::of(&content));
            }
        }
    }

    #[test]
    fn what_decoders_could_read_in_two_ways_is_refused() {
        // Of zstd, its decoder tests it.
        let good = gzip(b"layer");
        let mut damaged = good.clone();
        let middle = damaged.len() - 6;
        damaged[middle] ^= 1;
        for (what, bad) in [
            ("two members", [good.clone(), gzip(b"more")].concat()),
            ("a tail of zeros", [good.clone(), vec![0; 8]].concat()),
            ("a tail", [&good[..], b"tail"].concat()),
            ("cut short", good[..good.len() - 1].to_vec()),
            ("a wrong checksum", damaged),
            ("no gzip", b"layer".to_vec()),
            ("another form", zstd(b"layer")),
            ("nothing", Vec::new()),
        ] {
            for piece in [1, 1 << 20] {
                assert!(read(Form::Gzip, &bad, piece).is_err(), "{what}, in pieces of {piece}");
            }
        }
    }
}
