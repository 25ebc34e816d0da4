//! Docker archives, as dockerTools writes them and `docker load` reads them: a tar archive with
//! `manifest.json`, a configuration, and layers.

use std::collections::{BTreeMap, BTreeSet};

use ring::digest::{Context, SHA256};
use serde::Deserialize;

use crate::oci::json::{self, JsonError, Shape};
use crate::oci::tar::{Entry, Kind, Reader, TarError, Visit};
use crate::oci::{Config, Digest, manifest::ManifestError};

/// The most bytes of all JSON documents in an archive.
const MAX_DOCUMENTS: usize = 8 << 20;
/// The most entries: an image has 127 layers at most, each with a few entries around it.
const MAX_ENTRIES: usize = 10_000;
/// The most bytes of a path, or of where a link leads.
const MAX_PATH: usize = 4096;
const SHAPE: Shape =
    Shape::List(&Shape::Open(&[("Config", Shape::Any), ("RepoTags", Shape::Any), ("Layers", Shape::Any)]));

/// Why an archive is not that of one image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Not a tar archive.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// More than an image has.
    #[error("the archive has more than {limit} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: usize,
    },
    /// An entry stands there twice, and readers disagree on which counts.
    #[error("the archive has `{0}` twice")]
    Twice(String),
    /// Something is named and is not there.
    #[error("the archive has no `{0}`")]
    Absent(String),
    /// `manifest.json` is not strict JSON.
    #[error("`manifest.json`: {0}")]
    Json(#[from] JsonError),
    /// `manifest.json` has another form.
    #[error("`manifest.json` is malformed: {0}")]
    Malformed(String),
    /// Not one image.
    #[error("the archive holds {0} images, not one")]
    Images(usize),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ManifestError),
    /// The layers are not those of the configuration.
    #[error("the archive has {layers} layers, its configuration {diff_ids} diff_ids")]
    Layers {
        /// In `manifest.json`.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// A layer is not that of the configuration.
    #[error("the layer `{path}` has the digest {found}, the configuration says {wanted}")]
    Layer {
        /// Its path.
        path: String,
        /// What was read.
        found: Digest,
        /// What the configuration says.
        wanted: Digest,
    },
}

/// Reads an archive piece by piece. Layers are hashed and not kept.
#[derive(Default)]
pub struct ArchiveReader(Reader<Content>);

/// The one image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Its configuration.
    pub config: Config,
    /// The bytes of that.
    pub config_bytes: Vec<u8>,
    /// Its layers, not compressed, base first.
    pub layers: Vec<ArchivedLayer>,
}

/// A layer in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchivedLayer {
    /// The digest of what was read.
    pub digest: Digest,
    /// Where it begins, in bytes from the start of the archive.
    pub offset: u64,
    /// How many bytes it has.
    pub size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    layers: Vec<String>,
}

impl ArchiveReader {
    /// Takes the next piece.
    ///
    /// # Errors
    /// When it is no archive, or holds more than an image does.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.0.take(bytes)?;
        self.0.visitor().failed.clone().map_or(Ok(()), Err)
    }

    /// The one image, when all was read.
    ///
    /// # Errors
    /// When the archive is cut short, does not hold one image, or a layer is not what the
    /// configuration says.
    pub fn finish(self) -> Result<Archived, ArchiveError> {
        let content = self.0.finish()?;
        let manifest = content.document("manifest.json")?;
        let items: Vec<Item> = serde_json::from_value(json::parse(manifest, &SHAPE)?)
            .map_err(|error| ArchiveError::Malformed(error.to_string()))?;
        let [item] = <[Item; 1]>::try_from(items).map_err(|all| ArchiveError::Images(all.len()))?;
        let config_bytes = content.document(&item.config)?.to_vec();
        let config = Config::parse(&config_bytes)?;
        if item.layers.len() != config.diff_ids.len() {
            let (layers, diff_ids) = (item.layers.len(), config.diff_ids.len());
            return Err(ArchiveError::Layers { layers, diff_ids });
        }
        let mut layers = Vec::new();
        for (path, wanted) in item.layers.into_iter().zip(&config.diff_ids) {
            let (layer, wanted) = (content.layer(&path)?, *wanted);
            if layer.digest != wanted {
                return Err(ArchiveError::Layer { path: shown(&path), found: layer.digest, wanted });
            }
            layers.push(layer);
        }
        Ok(Archived { config, config_bytes, layers })
    }
}

/// What was found in an archive, by normalised path.
#[derive(Default)]
struct Content {
    names: BTreeSet<String>,
    documents: BTreeMap<String, Vec<u8>>,
    files: BTreeMap<String, ArchivedLayer>,
    /// Where links lead: layers that are the same are written once.
    links: BTreeMap<String, String>,
    kept: usize,
    reading: Option<Reading>,
    failed: Option<ArchiveError>,
}

/// The file that is being read.
struct Reading {
    path: String,
    size: u64,
    offset: u64,
    digest: Context,
    begun: bool,
    document: Option<Vec<u8>>,
}

impl Content {
    fn fail(&mut self, error: ArchiveError) {
        self.failed.get_or_insert(error);
    }

    fn too_much(&mut self, what: &'static str, limit: usize) {
        self.fail(ArchiveError::TooMuch { what, limit });
    }

    fn document(&self, path: &str) -> Result<&[u8], ArchiveError> {
        let found = self.documents.get(&normal(path)).map(Vec::as_slice);
        found.ok_or_else(|| ArchiveError::Absent(shown(path)))
    }

    /// A layer, if need be by way of one link.
    fn layer(&self, path: &str) -> Result<ArchivedLayer, ArchiveError> {
        let normal = normal(path);
        let target = self.links.get(&normal).unwrap_or(&normal);
        let found = self.files.get(target).copied();
        found.ok_or_else(|| ArchiveError::Absent(shown(path)))
    }
}

impl Visit for Content {
    fn entry(&mut self, entry: Entry) {
        let path = normal(&entry.path);
        let target = match entry.kind {
            Kind::Other => return,
            Kind::File { .. } => None,
            Kind::Symlink(target) => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                Some(normal(&format!("{folder}/{target}")))
            }
            Kind::Link(target) => Some(normal(&target)),
        };
        if path.len().max(target.as_ref().map_or(0, String::len)) > MAX_PATH {
            return self.too_much("bytes in a path", MAX_PATH);
        }
        if self.names.len() == MAX_ENTRIES {
            return self.too_much("entries", MAX_ENTRIES);
        }
        if !self.names.insert(path.clone()) {
            return self.fail(ArchiveError::Twice(shown(&path)));
        }
        if let Some(target) = target {
            self.links.insert(path, target);
        } else {
            let digest = Context::new(&SHA256);
            let (size, offset) = (entry.size, entry.offset);
            self.reading = Some(Reading { path, size, offset, digest, begun: false, document: None });
        }
    }

    fn content(&mut self, bytes: &[u8]) {
        let Some(reading) = &mut self.reading else { return };
        reading.digest.update(bytes);
        // A layer begins with the name of a file, a document with a bracket.
        if !reading.begun && reading.size <= Config::MAX_BYTES && matches!(bytes, [b'{' | b'[', ..]) {
            reading.document = Some(Vec::new());
        }
        reading.begun = true;
        if let Some(document) = &mut reading.document {
            document.extend_from_slice(bytes);
            self.kept += bytes.len();
            if self.kept > MAX_DOCUMENTS {
                self.too_much("bytes of JSON", MAX_DOCUMENTS);
            }
        }
    }

    fn end(&mut self) {
        let Some(Reading { path, size, offset, digest, document, .. }) = self.reading.take() else { return };
        let mut hash = [0; 32];
        hash.copy_from_slice(digest.finish().as_ref());
        let digest = Digest::from_bytes(hash);
        self.files.insert(path.clone(), ArchivedLayer { digest, offset, size });
        self.documents.extend(document.map(|document| (path, document)));
    }
}

/// A path without `.`, `..` and empty parts.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::tar::Attributes;
    use quorate_bed::image::{Image, archive};

    fn image() -> Image {
        Image::build("linux", "arm64", None, &[("bin/app", b"app", 0o755)])
    }

    fn read(tar: &[u8], piece: usize) -> Result<Digest, ArchiveError> {
        let mut reader = ArchiveReader::default();
        tar.chunks(piece).try_for_each(|piece| reader.take(piece))?;
        reader.finish().map(|image| image.config.digest)
    }

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let files: Vec<_> = files.iter().map(|(path, content)| (*path, *content, 0o644)).collect();
        archive(&files)
    }

    const MANIFEST: &str = r#"[{"Config":"c.json","RepoTags":["app:latest"],"Layers":["a/layer.tar"]}]"#;

    #[test]
    fn the_configuration_is_that_of_the_archive_however_it_comes() {
        let image = image();
        for piece in [1, 511, 512, 1 << 20] {
            assert_eq!(read(&image.docker_archive(), piece).unwrap().to_string(), image.config_digest);
        }
        let tar = image.docker_archive();
        let mut reader = ArchiveReader::default();
        tar.chunks(1000).try_for_each(|piece| reader.take(piece)).unwrap();
        let [layer] = reader.finish().unwrap().layers.try_into().unwrap();
        let (from, size) = (usize::try_from(layer.offset).unwrap(), usize::try_from(layer.size).unwrap());
        assert_eq!(tar[from..from + size], image.layer);
    }

    #[test]
    fn archives_that_are_not_of_one_image_are_refused() {
        let image = image();
        let (config, layer) = (image.config.as_slice(), image.layer.as_slice());
        let with = |manifest: &str| {
            packed(&[("./c.json", config), ("a/layer.tar", layer), ("manifest.json", manifest.as_bytes())])
        };
        assert_eq!(read(&with(MANIFEST), 1000).unwrap().to_string(), image.config_digest);
        let two = format!("[{0},{0}]", &MANIFEST[1..MANIFEST.len() - 1]);
        let twice = [("c.json", config), ("./c.json", config), ("manifest.json", MANIFEST.as_bytes())];
        let other = [("c.json", config), ("a/layer.tar", b"other"), ("manifest.json", MANIFEST.as_bytes())];
        let large = vec![b'{'; 3 << 20];
        let large = ["a.json", "b.json", "c.json"].map(|name| (name, large.as_slice()));
        for (what, tar, says) in [
            ("two images", with(&two), "holds 2 images"),
            ("no image", with("[]"), "holds 0 images"),
            ("an object", with("{}"), "malformed"),
            ("a look-alike", with(&MANIFEST.replace("\"Config", "\"config")), "differs from `Config`"),
            ("another configuration", with(&MANIFEST.replace("c.json", "d.json")), "no `d.json`"),
            ("an absent layer", with(&MANIFEST.replace("a/layer", "b/layer")), "no `b/layer.tar`"),
            ("a layer too few", with(&MANIFEST.replace("\"a/layer.tar\"", "")), "0 layers"),
            ("a configuration twice", packed(&twice), "`c.json` twice"),
            ("another layer", packed(&other), "the configuration says"),
            ("much JSON", packed(&large), "bytes of JSON"),
            ("no manifest", packed(&[("c.json", config)]), "no `manifest.json`"),
            ("an empty archive", packed(&[]), "no `manifest.json`"),
            ("half an archive", with(MANIFEST)[..700].to_vec(), "cut short"),
        ] {
            let error = read(&tar, 4096).expect_err(what).to_string();
            assert!(error.contains(says), "{what}: {error}");
        }
    }

    #[test]
    fn layers_that_are_the_same_may_be_links() {
        for (path, target, leads) in [
            ("b/layer.tar", "../a/layer.tar", Kind::Symlink as fn(String) -> Kind),
            ("b/layer.tar", "./a/layer.tar", Kind::Link),
        ] {
            let mut content = Content::default();
            let path = path.to_owned();
            let attributes = Attributes::default();
            content.entry(Entry {
                path: path.clone(),
                kind: leads(target.to_owned()),
                size: 0,
                offset: 0,
                attributes,
            });
            content.end();
            assert!(content.layer(&path).is_err(), "it leads nowhere yet");
            let kind = Kind::File { executable: false };
            let attributes = Attributes::default();
            content.entry(Entry { path: "a/layer.tar".to_owned(), kind, size: 1, offset: 512, attributes });
            content.content(b"x");
            content.end();
            let layer = ArchivedLayer { digest: Digest::of(b"x"), offset: 512, size: 1 };
            assert_eq!(content.layer(&path), Ok(layer));
        }
    }
}
