//! Files that a person names: policies and what they name, bundles, keys.

use std::fs::File;
use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
use std::io::{Read as _, Write as _};
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use crate::attestation::{Rejection, bundle};
use crate::error::Error;
use crate::oci::pack::Parts;
use crate::policy::Policy;
use crate::reason::Reason;

/// The most bytes of a file that is read whole: 4 MiB.
const MAX_BYTES: u64 = 4 << 20;
/// The most bundles of a run, as of an image in a registry.
const MAX_BUNDLES: usize = 200;
/// The most bytes of them: 16 MiB, as of what a registry has.
const MAX_KEPT: usize = 16 << 20;

/// Reads a file whole.
///
/// # Errors
/// When it cannot be read, or is larger than 4 MiB.
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "the file is larger than 4 MiB"));
    }
    Ok(bytes)
}

/// Reads a policy; the key files it names lie beside it.
pub fn policy(path: &Path) -> Result<Policy, Error> {
    let shown = path.display();
    let bytes = read(path).map_err(|error| {
        Error::request(format!("cannot read the policy `{shown}`"))
            .because(error)
            .hint("`--policy FILE` names it, or the variable QUORATE_POLICY")
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|error| Error::request(format!("the policy `{shown}` is not UTF-8")).because(error))?;
    let beside = path.parent().unwrap_or(Path::new(""));
    Policy::parse(&text, |key| read(&beside.join(key)).map_err(|error| error.to_string())).map_err(|error| {
        Error::request(format!("the policy `{shown}` is refused"))
            .because(error)
            .hint("`docs/policy.md` lists every field")
    })
}

/// Bundles from files.
#[derive(Debug, Clone, Default)]
pub struct Bundles {
    /// Their bytes, shared by all images that they may be about. Nothing in them is verified.
    pub bundles: Vec<Arc<[u8]>>,
    /// Those that are larger than a bundle may be.
    pub skipped: Vec<Rejection>,
}

/// Reads bundles: a file is one, of a folder each `.json` file.
///
/// # Errors
/// When one cannot be read, a folder has none, or there are more than 200, or more than 16 MiB.
pub fn bundles(paths: &[PathBuf]) -> Result<Bundles, Error> {
    let too_many = |what: &str| {
        Error::request(format!("`--bundle` gives more than {what}")).hint("give those of the image alone")
    };
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(in_folder(path)?);
        } else {
            files.push(path.clone());
        }
        if files.len() > MAX_BUNDLES {
            return Err(too_many(&format!("{MAX_BUNDLES} bundles")));
        }
    }
    let (mut found, mut kept) = (Bundles::default(), 0);
    for file in files {
        let bytes = read(&file).map_err(|error| cannot(&file, error))?;
        if bytes.len() > bundle::MAX_BYTES {
            let why = format!("`{}` has {} bytes", file.display(), bytes.len());
            found.skipped.push(Rejection::of_bytes(&bytes, (Reason::BundleTooLarge, why)));
            continue;
        }
        kept += bytes.len();
        if kept > MAX_KEPT {
            return Err(too_many(&format!("{} MiB of bundles", MAX_KEPT >> 20)));
        }
        found.bundles.push(bytes.into());
    }
    Ok(found)
}

/// The `.json` files of a folder, as far as they are not too many.
fn in_folder(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|error| cannot(path, error))? {
        let file = entry.map_err(|error| cannot(path, error))?.path();
        if file.extension().is_some_and(|extension| extension == "json") {
            files.push(file);
        }
        if files.len() > MAX_BUNDLES {
            break;
        }
    }
    if files.is_empty() {
        return Err(Error::request(format!("`{}` has no bundle", path.display()))
            .hint("bundles are files whose names end in `.json`"));
    }
    files.sort();
    Ok(files)
}

fn cannot(path: &Path, error: std::io::Error) -> Error {
    Error::request(format!("cannot read `{}`", path.display())).because(error)
}

/// Reads a proof pack.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn pack(path: &Path) -> Result<Parts, Error> {
    let shown = path.display();
    let bytes = read(path)
        .map_err(|error| Error::request(format!("cannot read the proof pack `{shown}`")).because(error))?;
    Parts::unpack(bytes).map_err(|error| {
        let reason = error.reason();
        Error::request(format!("`{shown}` is not a proof pack that can be used ({reason})"))
            .because(error)
            .hint("`quorate pack` makes one")
    })
}

/// Writes a new file; one that exists is left alone.
///
/// # Errors
/// When it exists, or cannot be written. `secret` makes it readable by its owner alone.
pub fn write_new(path: &Path, bytes: &[u8], secret: bool) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(if secret { 0o600 } else { 0o644 });
    }
    #[cfg(not(unix))]
    let _ = secret;
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes a file whole or not at all, in the place of one that is there; a link leads to it as before,
/// and it is of the same owner and mode. What is no file is written to as it stands: a pipe, a standard
/// stream wherever that leads. So is a file that nothing can be put in the place of.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let Some(place) = place(path) else { return std::fs::write(path, bytes) };
    match replace(&place, |file| file.write_all(bytes)) {
        // Such as a file that is mounted alone into a container, or is somebody else's.
        Err(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | ResourceBusy) => {
            std::fs::write(path, bytes)
        }
        done => done,
    }
}

/// The file, through all links, that another can be put in the place of.
fn place(path: &Path) -> Option<PathBuf> {
    if path.starts_with("/dev") || path.starts_with("/proc") {
        return None;
    }
    match std::fs::canonicalize(path) {
        Ok(file) => file.is_file().then_some(file),
        // A link to what is not there yet.
        Err(_) if path.is_symlink() => None,
        Err(_) => Some(path.to_owned()),
    }
}

/// Puts a file beside another, and then in its place.
pub(super) fn replace(
    path: &Path,
    content: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut part = part_in(folder.unwrap_or(Path::new(".")))?;
    if let Ok(before) = std::fs::metadata(path) {
        #[cfg(unix)]
        std::os::unix::fs::fchown(part.as_file(), Some(before.uid()), Some(before.gid()))?;
        part.as_file().set_permissions(before.permissions())?;
    }
    content(part.as_file_mut())?;
    part.as_file().sync_all()?;
    part.persist(path)?;
    Ok(())
}

/// A file of its own, that goes if it is not kept, for all that the umask lets read it.
fn part_in(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut part = tempfile::Builder::new();
    #[cfg(unix)]
    part.permissions(std::fs::Permissions::from_mode(0o666));
    part.prefix(".part-").tempfile_in(folder)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let listed = || std::fs::read_dir(folder.path()).unwrap().count();
        std::fs::write(at("report.html"), "before").unwrap();
        std::os::unix::fs::symlink(at("report.html"), at("link")).unwrap();
        // Who has it open sees what it was, whole.
        let mut open = File::open(at("report.html")).unwrap();
        write(&at("link"), b"after").unwrap();
        let mut seen = String::new();
        open.read_to_string(&mut seen).unwrap();
        assert_eq!(
            (seen.as_str(), std::fs::read(at("report.html")).unwrap().as_slice()),
            ("before", &b"after"[..])
        );
        assert!(at("link").is_symlink());
        write(&at("new"), b"new").unwrap();
        assert_eq!(listed(), 3);
        // As anybody would have made it.
        std::fs::write(at("plain"), "").unwrap();
        let mode = |name: &str| std::fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("new"), mode("plain"));
        std::fs::remove_file(at("plain")).unwrap();
        std::fs::set_permissions(at("new"), std::fs::Permissions::from_mode(0o600)).unwrap();
        write(&at("new"), b"new").unwrap();
        assert_eq!(mode("new"), 0o600);
        // A link to what is not there yet leads there afterwards.
        std::os::unix::fs::symlink(at("later"), at("early")).unwrap();
        write(&at("early"), b"late").unwrap();
        assert!(at("early").is_symlink());
        assert_eq!(std::fs::read(at("later")).unwrap(), b"late");
        std::fs::remove_file(at("early")).unwrap();
        std::fs::remove_file(at("later")).unwrap();

        let failed = replace(&at("new"), |_| Err(std::io::Error::other("no space")));
        assert_eq!(failed.unwrap_err().to_string(), "no space");
        assert_eq!((std::fs::read(at("new")).unwrap().as_slice(), listed()), (&b"new"[..], 3));
        assert!(write(&at("absent/new"), b"").is_err());
        write(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }
}
