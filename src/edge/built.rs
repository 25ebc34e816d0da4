//! The image that a build left on disk, and the digest of its configuration.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use flate2::bufread::GzDecoder;
use ruzstd::decoding::StreamingDecoder;

use super::files;
use super::layers::{self, Depth};
use super::layout::Layout;
use super::registry::Registry;
use super::zstd::MAX_WINDOW;
use crate::error::Error;
use crate::nix::archive::ArchiveReader;
use crate::nix::image;
use crate::oci::place::{Entry, LAYOUT_SCHEME, LayoutReference};
use crate::oci::{Config, Digest, ImageIndex, Manifest, Store, System, media_type};

/// How much of a file is read at once.
const CHUNK: usize = 1 << 18;
/// Enough to tell what a file is: a block of a tar archive.
const HEAD: u64 = 512;
const FORMS: &str =
    "the image JSON of nix2container, a docker-archive (plain, gzip or zstd), or an OCI layout";

/// Where a build left its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Built {
    /// A path; what it holds is looked at.
    Path(PathBuf),
    /// An image in an OCI layout.
    Layout(LayoutReference),
}

impl FromStr for Built {
    type Err = String;

    /// Reads `oci:PATH`, `oci:PATH:NAME`, `oci:PATH@DIGEST`, and else a path.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with(LAYOUT_SCHEME) {
            text.parse().map(Self::Layout)
        } else {
            Ok(Self::Path(text.into()))
        }
    }
}

/// What a path holds, by its first bytes.
pub(super) enum Form {
    ImageJson,
    DockerArchive,
    DockerArchiveGzip,
    DockerArchiveZstd,
    Layout,
    /// A program, such as one that prints an image when it is run.
    Script,
    Other,
}

impl Built {
    /// The digest of the configuration of the image for `system`, computed from the build alone.
    /// `None` if the path holds no image in a form that is known.
    ///
    /// # Errors
    /// When the image cannot be read strictly, its layers are not what its configuration says, or
    /// it is for another platform.
    pub async fn config_digest(&self, registry: &Registry, system: System) -> Result<Option<Digest>, Error> {
        let (shown, config) = match self {
            Self::Layout(reference) => {
                (reference.to_string(), in_layout(registry, reference, Some(system)).await?.1)
            }
            Self::Path(path) => {
                let shown = path.display().to_string();
                let malformed = |error: Box<dyn std::error::Error + Send + Sync>| {
                    Error::request(format!("the image in `{shown}` cannot be used"))
                        .because(error)
                        .hint(format!("it must be {FORMS}"))
                };
                let config = match form(path).map_err(|error| malformed(error.into()))? {
                    Form::ImageJson => files::read(path)
                        .map_err(Into::into)
                        .and_then(|bytes| image::config(&bytes).map_err(Into::into))
                        .map_err(malformed)?,
                    Form::DockerArchive => open(path).and_then(archive).map_err(malformed)?,
                    Form::DockerArchiveGzip => {
                        open(path).and_then(|file| gzip(file, |from| archive(from))).map_err(malformed)?
                    }
                    Form::DockerArchiveZstd => {
                        open(path).and_then(|file| zstd(file, |from| archive(from))).map_err(malformed)?
                    }
                    Form::Layout => {
                        let only = LayoutReference { path: path.clone(), entry: Entry::Only };
                        in_layout(registry, &only, Some(system)).await?.1
                    }
                    Form::Script | Form::Other => return Ok(None),
                };
                (shown, config)
            }
        };
        if !config.fits(&system.platform()) {
            return Err(Error::request(format!(
                "the image in `{shown}` is for {}, and `--system {system}` is {}",
                config.platform,
                system.platform()
            )));
        }
        Ok(Some(config.digest))
    }

    /// Why there is no digest, where [`Built::config_digest`] found none.
    pub fn unknown(&self) -> Error {
        let (shown, script) = match self {
            Self::Layout(reference) => (reference.to_string(), false),
            Self::Path(path) => (path.display().to_string(), matches!(form(path), Ok(Form::Script))),
        };
        let error = Error::request(format!("`{shown}` holds no image whose configuration could be read"));
        if script {
            return error.hint(
                "it is a program: if it prints an image, run it into a file and name that with `--built-image`",
            );
        }
        error.hint(format!(
            "`--built-image` names {FORMS}; `--config-digest` gives the digest that you computed yourself"
        ))
    }
}

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(super) fn form(path: &Path) -> io::Result<Form> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Ok(if path.join("oci-layout").exists() { Form::Layout } else { Form::Other });
    }
    if !metadata.is_file() {
        return Ok(Form::Other);
    }
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => Form::DockerArchiveGzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Form::DockerArchiveZstd,
        [b'#', b'!', ..] => Form::Script,
        [b'{', ..] => Form::ImageJson,
        head if head.get(257..262) == Some(b"ustar") => Form::DockerArchive,
        _ => Form::Other,
    })
}

pub(super) fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    Ok(BufReader::with_capacity(CHUNK, File::open(path)?))
}

fn archive(mut from: impl Read) -> Result<Config, Failure> {
    let mut reader = ArchiveReader::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(reader.finish()?.config);
        }
        reader.take(buffer.get(..read).unwrap_or_default())?;
    }
}

/// Reads what one gzip stream holds (RFC 1952), and that nothing follows it.
pub(super) fn gzip<T>(
    from: BufReader<File>,
    read: impl FnOnce(&mut dyn Read) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut decoder = GzDecoder::new(from);
    let found = read(&mut decoder)?;
    if !decoder.into_inner().fill_buf()?.is_empty() {
        return Err("more follows the gzip stream".into());
    }
    Ok(found)
}

/// Reads what one zstd frame holds (RFC 8878, section 3.1.1), and that nothing follows it. Its
/// checksum is not looked at: every layer has a digest.
pub(super) fn zstd<T>(
    mut from: BufReader<File>,
    read: impl FnOnce(&mut dyn Read) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut decoder = StreamingDecoder::new_with_max_window_size(&mut from, MAX_WINDOW)?;
    let found = read(&mut decoder)?;
    drop(decoder);
    if !from.fill_buf()?.is_empty() {
        return Err("more follows the zstd frame".into());
    }
    Ok(found)
}

/// The image in a layout and its configuration, to which its layers are bound. From an index, it is
/// the one for `system`.
pub(super) async fn in_layout(
    registry: &Registry,
    reference: &LayoutReference,
    system: Option<System>,
) -> Result<(Manifest, Config), Error> {
    let layout = Layout::open(&reference.path)?;
    let malformed = |error: &dyn std::fmt::Display| {
        Error::request(format!("the image `{reference}` cannot be used: {error}"))
    };
    let found = layout.find(&reference.entry)?.ok_or_else(|| malformed(&"the layout does not have it"))?;
    let absent = |digest| malformed(&format!("the layout does not have {digest}"));
    let mut raw = layout.manifest(found.digest)?.ok_or_else(|| absent(found.digest))?;
    if media_type::is_index(&raw.media_type) {
        let index = ImageIndex::parse(raw.bytes).map_err(|error| malformed(&error))?;
        let system = system.ok_or_else(|| {
            malformed(&"it is an index, not one image")
                .hint("`quorate assemble` brings the images of an index over")
        })?;
        let child = index.child(&system.platform()).map_err(|error| malformed(&error))?.digest;
        raw = layout.manifest(child)?.ok_or_else(|| absent(child))?;
    }
    let manifest = Manifest::parse(raw.bytes).map_err(|error| malformed(&error))?;
    let named = &manifest.config;
    if !media_type::is_config(&named.media_type) {
        return Err(malformed(&"it is an artifact, not an image"));
    }
    let bytes = layout.content(named.digest, Config::MAX_BYTES)?.ok_or_else(|| absent(named.digest))?;
    let config = Config::parse(&bytes).map_err(|error| malformed(&error))?;
    let store = Store::Layout(reference.path.clone());
    match layers::bind(registry, &store, &manifest, &config, Depth::Bind).await? {
        Ok(_) => Ok((manifest, config)),
        Err(unbound) => Err(malformed(&format!("{} ({})", unbound.detail, unbound.reason))),
    }
}
