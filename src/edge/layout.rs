//! Images in a folder: OCI image layouts (image-spec, `image-layout.md`).

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::files;
use super::registry::RawManifest;
use crate::error::Error;
use crate::oci::json::{Shape, parse};
use crate::oci::place::{Entry, LAYOUT_SCHEME};
use crate::oci::{Descriptor, Digest, ImageIndex, Tag, media_type};

/// Names an entry of `index.json` (image-spec, `annotations.md`).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The most bytes of a manifest or an index: 4 MiB.
const MAX_MANIFEST: u64 = 4 << 20;
const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LAYOUT_SCHEME}{}", self.root.display())
    }
}

impl Layout {
    /// Opens a layout to read from it.
    ///
    /// # Errors
    /// When the folder is none.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let layout = Self { root: root.to_owned() };
        let none = || {
            Error::request(format!("`{}` is not an OCI image layout", root.display()))
                .hint("a layout is a folder with `oci-layout`, `index.json` and `blobs/`, as `skopeo copy … oci:PATH` writes it")
        };
        let marker = layout.read("oci-layout", 4096).map_err(|error| none().because(error))?;
        let version: Value = serde_json::from_slice(&marker).map_err(|error| none().because(error))?;
        if version["imageLayoutVersion"] != "1.0.0" {
            return Err(none().because(format!("its version is {}", version["imageLayoutVersion"])));
        }
        Ok(layout)
    }

    /// Opens a layout to write to it, and makes it if there is none.
    ///
    /// # Errors
    /// When it cannot be made, or the folder holds something else.
    pub fn create(root: &Path) -> Result<Self, Error> {
        let layout = Self { root: root.to_owned() };
        let cannot = |error: io::Error| {
            Error::request(format!("cannot write to the layout `{}`", root.display())).because(error)
        };
        if !layout.root.join("oci-layout").exists() {
            if fs::read_dir(root).is_ok_and(|mut found| found.next().is_some()) {
                return Err(Error::request(format!("`{}` is neither a layout nor empty", root.display())));
            }
            fs::create_dir_all(root.join("blobs/sha256")).map_err(cannot)?;
            layout.write("oci-layout", VERSION.as_bytes()).map_err(cannot)?;
        }
        Self::open(root)
    }

    /// The descriptor of an image in it, if it is there.
    ///
    /// # Errors
    /// When `index.json` is malformed, or holds several that could be meant.
    pub fn find(&self, entry: &Entry) -> Result<Option<Descriptor>, Error> {
        let listed = self.listed()?.manifests;
        let mut found: Vec<Descriptor> = match entry {
            Entry::Only => listed,
            Entry::Named(name) => listed
                .into_iter()
                .filter(|d| d.annotations.get(REF_NAME).is_some_and(|found| found == name.as_str()))
                .collect(),
            Entry::Digest(digest) => {
                let Some(bytes) = self.content(*digest, MAX_MANIFEST)? else { return Ok(None) };
                let kind = stated(&bytes).ok_or_else(|| self.malformed(*digest, "states no media type"))?;
                vec![Descriptor::of(&kind, &bytes)]
            }
        };
        if found.len() > 1 {
            return Err(Error::request(format!("`{self}` holds {} images that could be meant", found.len()))
                .hint("name one: `oci:PATH:NAME` or `oci:PATH@DIGEST`"));
        }
        Ok(found.pop())
    }

    /// Reads a manifest or index, its digest checked. `None` if the layout does not have it.
    ///
    /// # Errors
    /// When it cannot be read, is too large, or is not what its name says.
    pub fn manifest(&self, digest: Digest) -> Result<Option<RawManifest>, Error> {
        let Some(bytes) = self.content(digest, MAX_MANIFEST)? else { return Ok(None) };
        let media_type = stated(&bytes).ok_or_else(|| self.malformed(digest, "states no media type"))?;
        if !media_type::is_index(&media_type) && !media_type::is_manifest(&media_type) {
            return Err(self.malformed(digest, "is neither a manifest nor an index"));
        }
        Ok(Some(RawManifest { bytes, digest, media_type }))
    }

    /// Reads a blob of at most `limit` bytes, its digest checked. `None` if it is not there.
    ///
    /// # Errors
    /// When it cannot be read, is too large, or is not what its name says.
    pub fn content(&self, digest: Digest, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let bytes = match self.read(&blob(digest), limit) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.malformed(digest, "cannot be read").because(error)),
        };
        if Digest::of(&bytes) != digest {
            return Err(self.malformed(digest, "holds other bytes"));
        }
        Ok(Some(bytes))
    }

    /// Opens a blob to read it piece by piece. What it holds is for the reader to check.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub fn reader(&self, digest: Digest) -> Result<Option<File>, Error> {
        match open_file(&self.root.join(blob(digest))) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.malformed(digest, "cannot be read").because(error)),
        }
    }

    /// Writes a blob, unless it is there.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write_blob(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if self.content(digest, u64::MAX).ok().flatten().is_none() {
            self.write(&blob(digest), bytes).map_err(|error| self.unwritten(error))?;
        }
        Ok(digest)
    }

    /// Whether a blob of that size is there. What it holds is for its readers to check.
    pub fn has(&self, named: &Descriptor) -> bool {
        fs::symlink_metadata(self.root.join(blob(named.digest)))
            .is_ok_and(|found| found.is_file() && found.len() == named.size)
    }

    /// Takes over the content of a file that was checked to be the blob.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn adopt(&self, mut content: File, digest: Digest) -> io::Result<()> {
        content.rewind()?;
        self.write_with(&blob(digest), |file| io::copy(&mut content, file).map(|_| ()))
    }

    /// Lists an image in `index.json`, under `name` if there is one; what had that name loses it.
    ///
    /// # Errors
    /// When `index.json` is malformed, or cannot be written.
    pub fn list(&self, image: &Descriptor, name: Option<&Tag>) -> Result<(), Error> {
        let mut index = self.index()?;
        let mut entry = json!({ "mediaType": image.media_type, "digest": image.digest, "size": image.size });
        if let Some(name) = name {
            entry["annotations"] = json!({ REF_NAME: name.as_str() });
        }
        let entries = index["manifests"].as_array().cloned().unwrap_or_default();
        let kept = entries.into_iter().filter(|other| match name {
            Some(name) => other["annotations"][REF_NAME] != name.as_str(),
            None => other["digest"] != entry["digest"],
        });
        index["manifests"] = kept.chain([entry.clone()]).collect();
        self.write("index.json", index.to_string().as_bytes()).map_err(|error| self.unwritten(error))
    }

    fn listed(&self) -> Result<ImageIndex, Error> {
        let index = self.index()?;
        ImageIndex::parse(index.to_string().into_bytes())
            .map_err(|error| Error::request(format!("`{self}` has a malformed `index.json`")).because(error))
    }

    /// `index.json`; without one, an empty index. Its media type may be left out.
    fn index(&self) -> Result<Value, Error> {
        let malformed = || Error::request(format!("`{self}` has a malformed `index.json`"));
        let mut index = match self.read("index.json", MAX_MANIFEST) {
            Ok(bytes) => parse(&bytes, &Shape::Any).map_err(|error| malformed().because(error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                json!({ "schemaVersion": 2, "manifests": [] })
            }
            Err(error) => return Err(malformed().because(error)),
        };
        let Some(object) = index.as_object_mut() else { return Err(malformed()) };
        object.entry("mediaType").or_insert_with(|| media_type::INDEX.into());
        Ok(index)
    }

    fn malformed(&self, digest: Digest, why: &str) -> Error {
        Error::request(format!("the blob {digest} in `{self}` {why}"))
    }

    fn unwritten(&self, error: io::Error) -> Error {
        Error::undecided(format!("cannot write to the layout `{self}`")).because(error)
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        open_file(&self.root.join(name))?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it has more than {limit} bytes"),
            ));
        }
        Ok(bytes)
    }

    /// Writes a file whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_with(name, |file| file.write_all(bytes))
    }

    fn write_with(&self, name: &str, content: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let path = self.root.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        files::replace(&path, content)
    }
}

/// A regular file: a pipe could keep us waiting, and a link could lead out of the layout.
fn open_file(path: &Path) -> io::Result<File> {
    if !fs::symlink_metadata(path)?.is_file() {
        let why = "it is not a regular file; `cp -RL` makes a copy of a layout without links";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    File::open(path)
}

fn blob(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn stated(bytes: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    value["mediaType"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::place::LayoutReference;

    fn index(name: &str) -> Vec<u8> {
        json!({ "schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [], "annotations": { "a": name } })
            .to_string()
            .into_bytes()
    }

    fn at(path: &Path, rest: &str) -> LayoutReference {
        format!("oci:{}{rest}", path.display()).parse().unwrap()
    }

    #[test]
    fn what_is_written_is_found_by_name_and_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layout");
        let layout = Layout::create(&path).unwrap();
        let (one, two) = (index("one"), index("two"));
        let name: Tag = "app".parse().unwrap();
        for bytes in [&one, &two] {
            layout.write_blob(bytes).unwrap();
            layout.list(&Descriptor::of(media_type::INDEX, bytes), Some(&name)).unwrap();
        }
        let layout = Layout::open(&path).unwrap();
        let find = |rest: &str| layout.find(&at(&path, rest).entry);
        assert_eq!(find(":app").unwrap().unwrap().digest, Digest::of(&two));
        assert_eq!(find("").unwrap().unwrap().digest, Digest::of(&two));
        assert_eq!(find(&format!("@{}", Digest::of(&one))).unwrap().unwrap().digest, Digest::of(&one));
        assert_eq!(find(":other").unwrap(), None);
        assert_eq!(layout.manifest(Digest::of(&one)).unwrap().unwrap().bytes, one);
        assert_eq!(layout.manifest(Digest::of(b"absent")).unwrap(), None);
        layout.list(&Descriptor::of(media_type::INDEX, &one), None).unwrap();
        assert!(find("").unwrap_err().to_string().contains("holds 2 images"));
    }

    #[test]
    fn an_index_without_media_type_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let bytes = index("one");
        layout.write_blob(&bytes).unwrap();
        let entry =
            json!({ "mediaType": media_type::INDEX, "digest": Digest::of(&bytes), "size": bytes.len() });
        let listed = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
        fs::write(folder.path().join("index.json"), listed).unwrap();
        assert_eq!(layout.find(&Entry::Only).unwrap().unwrap().digest, Digest::of(&bytes));
    }

    #[test]
    fn folders_that_are_no_layouts_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Layout::open(folder.path()).is_err());
        fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        assert!(Layout::create(folder.path()).is_err(), "a folder with other things in it is left alone");
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
        assert!(Layout::open(folder.path()).is_err());
        fs::write(folder.path().join("oci-layout"), VERSION).unwrap();
        assert!(Layout::open(folder.path()).is_ok());
    }

    #[test]
    fn blobs_that_are_not_what_they_are_named_for_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let bytes = index("one");
        let digest = layout.write_blob(&bytes).unwrap();
        assert!(layout.manifest(digest).unwrap().is_some());
        fs::write(layout.root.join(blob(digest)), index("two")).unwrap();
        assert!(layout.manifest(digest).unwrap_err().to_string().contains("holds other bytes"));
        fs::write(layout.root.join(blob(digest)), vec![b' '; 5 << 20]).unwrap();
        assert!(layout.manifest(digest).unwrap_err().to_string().contains("cannot be read"));
        let path = layout.root.join(blob(digest));
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        fs::write(folder.path().join("elsewhere"), &bytes).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
            assert!(layout.manifest(digest).unwrap_err().to_string().contains("cannot be read"));
            fs::remove_file(&path).unwrap();
        }
        fs::rename(folder.path().join("elsewhere"), &path).unwrap();
        assert!(layout.manifest(digest).unwrap().is_some());
        fs::write(folder.path().join("index.json"), r#"{"manifests":1,"manifests":2}"#).unwrap();
        assert!(layout.find(&Entry::Only).is_err());
    }
}
