//! Where images are: in a repository of a registry, or in a layout on disk.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{Digest, Reference, Repository, Tag};

/// What stands before the path in a reference to a layout, as in skopeo's.
pub const LAYOUT_SCHEME: &str = "oci:";

/// What holds images.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    /// A repository of a registry.
    Repository(Repository),
    /// An OCI image layout in this folder (image-spec, `image-layout.md`).
    Layout(PathBuf),
}

/// One image in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a registry.
    Registry(Reference),
    /// In a layout.
    Layout(LayoutReference),
}

impl Place {
    /// What holds it.
    pub fn store(&self) -> Store {
        match self {
            Self::Registry(reference) => Store::Repository(reference.repository.clone()),
            Self::Layout(reference) => Store::Layout(reference.path.clone()),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with(LAYOUT_SCHEME) {
            return Ok(Self::Layout(text.parse()?));
        }
        text.parse().map(Self::Registry).map_err(|error: super::reference::ReferenceError| error.to_string())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout(reference) => reference.fmt(f),
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(repository) => repository.fmt(f),
            Self::Layout(path) => write!(f, "{LAYOUT_SCHEME}{}", path.display()),
        }
    }
}

/// An image in a layout, written `oci:PATH`, `oci:PATH:NAME` or `oci:PATH@DIGEST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutReference {
    /// The layout's folder.
    pub path: PathBuf,
    /// Which image.
    pub entry: Entry,
}

/// Which image of a layout is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The only one.
    Only,
    /// The one with this name.
    Named(Tag),
    /// The one with this digest, whether `index.json` lists it or not.
    Digest(Digest),
}

impl FromStr for LayoutReference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest =
            text.strip_prefix(LAYOUT_SCHEME).ok_or_else(|| format!("`{text}` does not begin with `oci:`"))?;
        let (path, entry) = if let Some((path, digest)) = rest.split_once('@') {
            (
                path,
                Entry::Digest(digest.parse().map_err(|error: super::digest::DigestError| error.to_string())?),
            )
        } else if let Some((path, name)) = rest.split_once(':') {
            let name = name.parse().map_err(|error: super::reference::ReferenceError| error.to_string())?;
            (path, Entry::Named(name))
        } else {
            (rest, Entry::Only)
        };
        if path.is_empty() {
            return Err(format!("`{text}` names no folder: write `oci:PATH` or `oci:PATH:NAME`"));
        }
        Ok(Self { path: path.into(), entry })
    }
}

impl fmt::Display for LayoutReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LAYOUT_SCHEME}{}", self.path.display())?;
        match &self.entry {
            Entry::Only => Ok(()),
            Entry::Named(name) => write!(f, ":{name}"),
            Entry::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_skopeo_writes_them() {
        let parse = |text: &str| text.parse::<LayoutReference>();
        let named = parse("oci:/tmp/a:1.0").unwrap();
        assert_eq!((named.path, named.entry), ("/tmp/a".into(), Entry::Named("1.0".parse().unwrap())));
        assert_eq!(parse("oci:a").unwrap().entry, Entry::Only);
        for text in ["oci:a", "oci:a:b", &format!("oci:a@{}", Digest::of(b""))] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        for bad in ["oci:", "a", "oci::b", "oci:a:", "oci:a:b:c", "oci:a@sha256:1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
