//! An image that a build left, as it is sent to registries: its manifest, and where its blobs come
//! from. A blob that is sent lies in a scratch file first, whole and checked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, PipeReader, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use ring::digest::{Context, SHA256};
use tempfile::{NamedTempFile, TempPath};
use tokio::process::{Child, Command};

use super::built::{self, Built, Failure, Form};
use super::images::AT_ONCE;
use super::registry::Registry;
use super::{files, store_layer};
use crate::error::Error;
use crate::nix::archive::{ArchiveReader, Archived};
use crate::nix::image::{self, LayerContent};
use crate::nix::layer::StorePath;
use crate::oci::place::{Entry, LayoutReference};
use crate::oci::{Config, Descriptor, Digest, Manifest, Repository, media_type};

/// How much is copied at once.
const CHUNK: usize = 1 << 18;
/// The most bytes of a docker-archive, as it is without compression: 64 GiB.
const MAX_ARCHIVE: u64 = 64 << 30;
/// What a program that prints an image is told of the environment.
const KEPT: [&str; 3] = ["HOME", "PATH", "TMPDIR"];
/// Pinned, as is the compressor (`rust_backend` of flate2): the bytes are the same everywhere.
const LEVEL: Compression = Compression::new(6);

/// An image to be sent.
pub struct Outgoing {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: Config,
    blobs: Vec<(Descriptor, Content)>,
    /// Scratch files that hold blobs.
    scratch: Vec<TempPath>,
}

/// How an image is read.
#[derive(Debug, Clone)]
pub struct How {
    /// The folder that the store lies in.
    pub store_root: PathBuf,
    /// Whether layers are compressed with gzip.
    pub gzip: bool,
    /// Whether a program that prints an image is run.
    pub run: bool,
}

/// Where the bytes of a blob come from.
#[derive(Clone)]
enum Content {
    Bytes(Arc<[u8]>),
    /// From there on in a file.
    Part(PathBuf, u64),
    /// The archive of store paths, which lie below a folder.
    Paths(Arc<[StorePath]>, PathBuf),
}

impl Outgoing {
    /// The image that a build left.
    ///
    /// # Errors
    /// When there is none that can be read strictly, or a layer to be compressed is not the one
    /// that the image names.
    pub async fn of(registry: &Registry, source: &Built, how: &How) -> Result<Self, Error> {
        let (path, form) = match source {
            Built::Layout(reference) => (reference.path.clone(), Form::Layout),
            Built::Path(path) => {
                let form = built::form(path).map_err(|error| unusable(path, error.into()))?;
                (path.clone(), form)
            }
        };
        if matches!(form, Form::Layout) {
            let reference = match source {
                Built::Layout(reference) => reference.clone(),
                Built::Path(_) => LayoutReference { path, entry: Entry::Only },
            };
            if how.gzip {
                return Err(Error::request(format!("`{reference}` is sent as it is, and not compressed"))
                    .hint("leave `--compress` out"));
            }
            return Self::of_layout(registry, &reference).await;
        }
        // Whatever ends this future ends the program.
        let (mut program, printed) = match form {
            Form::Script if how.run => {
                let (program, printed) = started(&path).map_err(|error| unusable(&path, error.into()))?;
                (Some(program), Some(printed))
            }
            Form::Script => {
                return Err(Error::request(format!("`{}` is a program", path.display()))
                    .hint("if it prints an image, as that of `streamLayeredImage` does, `--run` runs it"));
            }
            _ => (None, None),
        };
        let (how, from) = (how.clone(), path.clone());
        let read = tokio::task::spawn_blocking(move || {
            let outgoing = match (form, printed) {
                (_, Some(printed)) => of_archive(printed, None),
                (Form::ImageJson, None) => of_json(&from, &how.store_root),
                (Form::DockerArchive, None) => {
                    built::open(&from).and_then(|file| of_archive(file, Some(&from)))
                }
                (Form::DockerArchiveGzip, None) => {
                    built::open(&from).and_then(|file| built::gzip(file, |from| of_archive(from, None)))
                }
                (Form::DockerArchiveZstd, None) => {
                    built::open(&from).and_then(|file| built::zstd(file, |from| of_archive(from, None)))
                }
                (Form::Script | Form::Layout | Form::Other, None) => {
                    Err("it holds no image that is known here".into())
                }
            };
            let outgoing = outgoing.map_err(|error| unusable(&from, error))?;
            if how.gzip { outgoing.compressed() } else { Ok(outgoing) }
        });
        let outgoing = read.await.map_err(|_| Error::undecided("interrupted"))??;
        if let Some(program) = &mut program {
            let status = program.wait().await.map_err(|error| unusable(&path, error.into()))?;
            if !status.success() {
                return Err(unusable(&path, format!("the program failed: {status}").into()));
            }
        }
        Ok(outgoing)
    }

    async fn of_layout(registry: &Registry, reference: &LayoutReference) -> Result<Self, Error> {
        let (manifest, config) = built::in_layout(registry, reference, None).await?;
        let folder = reference.path.join("blobs/sha256");
        let blobs = manifest.layers.iter().chain([&manifest.config]);
        let blobs = blobs.map(|blob| (blob.clone(), Content::Part(folder.join(blob.digest.hex()), 0)));
        Ok(Self { blobs: blobs.collect(), manifest, config, scratch: Vec::new() })
    }

    /// With layers that were not compressed until now compressed with gzip.
    fn compressed(mut self) -> Result<Self, Error> {
        let mut blobs = Vec::new();
        for (blob, content) in std::mem::take(&mut self.blobs) {
            if blob.media_type != media_type::LAYER {
                blobs.push((blob, content));
                continue;
            }
            let kept = |error: io::Error| unreadable(blob.digest, error);
            let file = NamedTempFile::new().map_err(kept)?;
            let hashing = Hashing::new(file.as_file());
            let mut encoder = GzEncoder::new(hashing, LEVEL);
            content.checked(&blob, &mut encoder)?;
            let (digest, size) = encoder.finish().map_err(kept)?.finish();
            let named = Descriptor { digest, size, ..Descriptor::of(media_type::LAYER_GZIP, b"") };
            let path = file.into_temp_path();
            blobs.push((named, Content::Part(path.to_path_buf(), 0)));
            self.scratch.push(path);
        }
        let (config, layers) = split(&blobs)?;
        self.manifest = Manifest::image(config, layers)
            .map_err(|error| Error::undecided("the compressed layers make no manifest").because(error))?;
        Ok(Self { blobs, ..self })
    }

    /// Sends the blobs to a repository: what is there already stays, and what one of the `held`
    /// repositories of the same registry has is mounted from there.
    ///
    /// # Errors
    /// When a blob is not what the image names, or could not be read or sent.
    pub async fn send_blobs(
        &self,
        registry: &Registry,
        to: &Repository,
        held: &[Repository],
    ) -> Result<(), Error> {
        // A layer that is there twice is one blob.
        let blobs: BTreeMap<Digest, _> = self.blobs.iter().map(|part| (part.0.digest, part)).collect();
        stream::iter(blobs.into_values().map(|(blob, content)| send(registry, blob, content, to, held)))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }
}

async fn send(
    registry: &Registry,
    blob: &Descriptor,
    content: &Content,
    to: &Repository,
    held: &[Repository],
) -> Result<(), Error> {
    for from in held.iter().filter(|from| from.host() == to.host()) {
        if registry.mount_blob(to, from, blob.digest).await? {
            return Ok(());
        }
    }
    if registry.has_blob(to, blob.digest).await? {
        return Ok(());
    }
    let (named, content) = (blob.clone(), content.clone());
    let file = tokio::task::spawn_blocking(move || {
        let file = tempfile::tempfile().map_err(|error| unreadable(named.digest, error))?;
        content.checked(&named, &mut &file)?;
        Ok::<_, Error>(file)
    });
    let file = file.await.map_err(|_| Error::undecided("interrupted"))??;
    registry.upload_file(to, file, blob.size, blob.digest).await?;
    Ok(())
}

impl Content {
    /// Writes the content, which must be what the descriptor says.
    fn checked(&self, named: &Descriptor, to: &mut impl Write) -> Result<(), Error> {
        let mut hashing = Hashing::new(to);
        let written = match self {
            Self::Bytes(bytes) => hashing.write_all(bytes),
            Self::Part(path, offset) => part(path, *offset, named.size, &mut hashing),
            Self::Paths(paths, root) => store_layer::write(paths, root, &mut hashing),
        };
        written.map_err(|error| unreadable(named.digest, error))?;
        let (digest, length) = hashing.finish();
        if (digest, length) != (named.digest, named.size) {
            return Err(Error::no("a layer is not the one that the image names (layer-differs)")
                .because(format!(
                    "{digest} of {length} bytes, and the image names {} of {} bytes",
                    named.digest, named.size
                ))
                .hint(
                    "the store paths are not those that the image was built from, or another version of \
                     nix2container wrote them down: build the image again, on this machine",
                ));
        }
        Ok(())
    }
}

fn part(path: &Path, offset: u64, length: u64, to: &mut impl Write) -> io::Result<()> {
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(at)?;
    file.seek(SeekFrom::Start(offset)).map_err(at)?;
    io::copy(&mut BufReader::with_capacity(CHUNK, file.take(length)), to).map(|_| ())
}

/// Of the image JSON of nix2container.
fn of_json(path: &Path, root: &Path) -> Result<Outgoing, Failure> {
    let read = image::image(&files::read(path)?)?;
    let mut blobs = Vec::new();
    for layer in read.layers {
        let (content, size) = match layer.content {
            LayerContent::Paths(paths) => {
                let size = layer.size.ok_or_else(|| format!("the layer {} has no size", layer.digest))?;
                (Content::Paths(paths.into(), root.to_owned()), size)
            }
            LayerContent::File(file) => {
                let file = store_layer::below(root, Path::new(&file));
                let metadata =
                    std::fs::metadata(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                if !metadata.is_file() {
                    return Err(format!("{} is not a file", file.display()).into());
                }
                (Content::Part(file, 0), layer.size.unwrap_or(metadata.len()))
            }
        };
        let named = Descriptor { digest: layer.digest, size, ..Descriptor::of(&layer.media_type, b"") };
        blobs.push((named, content));
    }
    whole(read.config, read.config_bytes, blobs, None)
}

/// Of a docker-archive that can be read twice, or else from a scratch file that it goes to.
fn of_archive(mut from: impl Read, path: Option<&Path>) -> Result<Outgoing, Failure> {
    let scratch = if path.is_none() { Some(NamedTempFile::new()?) } else { None };
    let mut reader = ArchiveReader::default();
    let mut buffer = vec![0; CHUNK];
    let mut length = 0;
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        length += read as u64;
        if length > MAX_ARCHIVE {
            return Err("the archive has more than 64 GiB".into());
        }
        let piece = buffer.get(..read).unwrap_or_default();
        reader.take(piece)?;
        if let Some(scratch) = &scratch {
            scratch.as_file().write_all(piece)?;
        }
    }
    let Archived { config, config_bytes, layers } = reader.finish()?;
    let scratch = scratch.map(NamedTempFile::into_temp_path);
    let place = match (&scratch, path) {
        (Some(scratch), _) => scratch.to_path_buf(),
        (None, Some(path)) => path.to_owned(),
        (None, None) => return Err("the archive lies nowhere".into()),
    };
    let blobs = layers.into_iter().map(|layer| {
        let named =
            Descriptor { digest: layer.digest, size: layer.size, ..Descriptor::of(media_type::LAYER, b"") };
        (named, Content::Part(place.clone(), layer.offset))
    });
    let blobs = blobs.collect();
    whole(config, config_bytes, blobs, scratch)
}

/// Starts a program that prints a docker-archive, as `streamLayeredImage` leaves it. Logins and the
/// like, which the environment may hold, are not for it.
fn started(path: &Path) -> io::Result<(Child, PipeReader)> {
    let kept = KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let (printed, output) = io::pipe()?;
    // What has no slash would be looked for in `PATH`.
    let mut program = Command::new(std::path::absolute(path)?);
    program.env_clear().envs(kept).stdin(Stdio::null()).stdout(output).kill_on_drop(true);
    Ok((program.spawn()?, printed))
}

/// With the manifest that follows from the blobs.
fn whole(
    config: Config,
    config_bytes: Vec<u8>,
    mut blobs: Vec<(Descriptor, Content)>,
    scratch: Option<TempPath>,
) -> Result<Outgoing, Failure> {
    let named = Descriptor::of(media_type::CONFIG, &config_bytes);
    let layers = blobs.iter().map(|(layer, _)| layer.clone()).collect();
    let manifest = Manifest::image(named.clone(), layers)?;
    blobs.push((named, Content::Bytes(config_bytes.into())));
    Ok(Outgoing { manifest, config, blobs, scratch: scratch.into_iter().collect() })
}

/// The configuration, which comes last, and the layers.
fn split(blobs: &[(Descriptor, Content)]) -> Result<(Descriptor, Vec<Descriptor>), Error> {
    let mut blobs: Vec<Descriptor> = blobs.iter().map(|(blob, _)| blob.clone()).collect();
    let config = blobs.pop().ok_or_else(|| Error::request("the image has no configuration"))?;
    Ok((config, blobs))
}

fn unusable(path: &Path, why: Failure) -> Error {
    Error::request(format!("the image in `{}` cannot be used", path.display())).because(why).hint(
        "it must be the image JSON of nix2container, a docker-archive (plain, gzip or zstd), a program that prints \
         one, or an OCI layout",
    )
}

fn unreadable(digest: Digest, error: io::Error) -> Error {
    Error::request(format!("the blob {digest} of the image cannot be read")).because(error).hint(
        "`nix build` brings the store paths of the image here; `--store-root` says where the store is, if not \
         at `/`",
    )
}

/// Hashes what goes through.
struct Hashing<W> {
    to: W,
    hash: Context,
    length: u64,
}

impl<W: Write> Hashing<W> {
    fn new(to: W) -> Self {
        Self { to, hash: Context::new(&SHA256), length: 0 }
    }

    fn finish(self) -> (Digest, u64) {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.hash.finish().as_ref());
        (Digest::from_bytes(hash), self.length)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write_all(bytes)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
