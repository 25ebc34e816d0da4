//! narHash of a path: walks the file system, tells the hasher what is there.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::nix::NarHash;
use crate::nix::nar::NarHasher;

/// How much of a file is read at once.
const CHUNK: usize = 1 << 18;
/// Nix itself goes no deeper than a path can be long; this keeps the stack bounded.
const MAX_DEPTH: usize = 1024;
/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

/// What a path such as `result` stands for: links are followed as far as the store, as Nix does. A
/// store path that is itself a link has a narHash of its own.
///
/// # Errors
/// When it leads nowhere.
pub fn store_path(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..MAX_LINKS {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return fs::canonicalize(path);
        };
        let (folder, name) = (fs::canonicalize(folder)?, name.to_owned());
        path = folder.join(&name);
        let stored = folder.ends_with("nix/store") && is_store_name(&name);
        if stored || !fs::symlink_metadata(&path)?.is_symlink() {
            return Ok(path);
        }
        path = folder.join(fs::read_link(&path)?);
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Whether a name in the store is that of a store path: 32 characters of base32, a dash, and more.
fn is_store_name(name: &OsStr) -> bool {
    let (hash, rest) = name.as_encoded_bytes().split_at_checked(32).unwrap_or_default();
    hash.iter().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()) && rest.starts_with(b"-")
}

/// The narHash of a file, directory or symbolic link, as `nix hash path` prints it.
///
/// # Errors
/// When something cannot be read, is neither file, directory nor link, changes while it is read,
/// or is nested more than 1024 deep.
pub fn nar_hash(path: &Path) -> io::Result<NarHash> {
    let mut hasher = NarHasher::default();
    let mut buffer = vec![0; CHUNK];
    node(&mut hasher, path, &mut buffer, 0)?;
    Ok(hasher.finish())
}

fn node(hasher: &mut NarHasher, path: &Path, buffer: &mut [u8], depth: usize) -> io::Result<()> {
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let other = |why: &str| io::Error::other(format!("{}: {why}", path.display()));
    if depth > MAX_DEPTH {
        return Err(other("nested too deep"));
    }
    let metadata = fs::symlink_metadata(path).map_err(at)?;
    let kind = metadata.file_type();
    if kind.is_symlink() {
        hasher.symlink(bytes_of(fs::read_link(path).map_err(at)?.as_os_str()));
    } else if kind.is_dir() {
        let mut names = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>())
            .map_err(at)?;
        names.sort_by(|a, b| bytes_of(a).cmp(bytes_of(b)));
        hasher.directory();
        for name in names {
            hasher.entry(bytes_of(&name));
            node(hasher, &path.join(&name), buffer, depth + 1)?;
            hasher.end_entry();
        }
        hasher.end();
    } else if kind.is_file() {
        let mut file = File::open(path).map_err(at)?;
        let length = metadata.len();
        hasher.file(is_executable(&metadata), length);
        let mut left = length;
        loop {
            let read = file.read(buffer).map_err(at)?;
            if read == 0 {
                break;
            }
            left = left.checked_sub(read as u64).ok_or_else(|| other("grew while it was read"))?;
            hasher.content(&buffer[..read]);
        }
        if left > 0 {
            return Err(other("shrank while it was read"));
        }
        hasher.end_file(length);
    } else {
        return Err(other("is neither a file, a directory nor a symbolic link"));
    }
    Ok(())
}

#[cfg(unix)]
pub(super) fn bytes_of(name: &std::ffi::OsStr) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(name)
}
#[cfg(not(unix))]
pub(super) fn bytes_of(name: &std::ffi::OsStr) -> &[u8] {
    name.as_encoded_bytes()
}

/// Nix looks at the owner's bit alone.
#[cfg(unix)]
fn is_executable(metadata: &Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o100 != 0
}
#[cfg(not(unix))]
fn is_executable(_: &Metadata) -> bool {
    false
}
