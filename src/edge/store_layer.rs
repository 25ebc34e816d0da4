//! The layer that nix2container makes of store paths: walks them, and writes the archive.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use super::tree::bytes_of;
use crate::nix::header::Kind;
use crate::nix::layer::{Entries, StorePath};

/// How much of a file is read at once.
const CHUNK: usize = 1 << 18;
/// As deep as a path can be long; this keeps the stack bounded.
const MAX_DEPTH: usize = 1024;
/// A block of an archive, and what stands at its end.
const BLOCK: u64 = 512;
const END: [u8; 1024] = [0; 1024];

/// Writes the archive. The store lies below `root`.
///
/// # Errors
/// When something cannot be read or written, changes while it is read, or makes no layer.
pub(super) fn write(paths: &[StorePath], root: &Path, to: &mut impl Write) -> io::Result<()> {
    let mut entries = Entries::default();
    for path in paths {
        collect(&mut entries, path, root, Path::new(&path.path), 0)?;
    }
    let mut buffer = vec![0; CHUNK];
    entries.write(&mut |header, content| {
        to.write_all(header)?;
        let Some((source, size)) = content else { return Ok(()) };
        let source = below(root, &path_of(source));
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", source.display()));
        let mut file = File::open(&source).map_err(at)?;
        let mut left = size;
        loop {
            let read = file.read(&mut buffer).map_err(at)?;
            if read == 0 {
                break;
            }
            left = left
                .checked_sub(read as u64)
                .ok_or_else(|| at(io::Error::other("grew while it was read")))?;
            to.write_all(buffer.get(..read).unwrap_or_default())?;
        }
        if left > 0 {
            return Err(at(io::Error::other("shrank while it was read")));
        }
        let padding = usize::try_from((BLOCK - size % BLOCK) % BLOCK).unwrap_or(0);
        to.write_all(END.get(..padding).unwrap_or_default())
    })?;
    to.write_all(&END)
}

fn collect(
    entries: &mut Entries,
    from: &StorePath,
    root: &Path,
    path: &Path,
    depth: usize,
) -> io::Result<()> {
    let real = below(root, path);
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", real.display()));
    if depth > MAX_DEPTH {
        return Err(at(io::Error::other("nested too deep")));
    }
    let metadata = fs::symlink_metadata(&real).map_err(at)?;
    let kind = metadata.file_type();
    let is_dir = kind.is_dir();
    let kind = if kind.is_symlink() {
        Kind::Symlink(bytes_of(fs::read_link(&real).map_err(at)?.as_os_str()).to_vec())
    } else if is_dir {
        Kind::Directory
    } else if kind.is_file() {
        Kind::File(metadata.len())
    } else {
        return Err(at(io::Error::other("is neither a file, a directory nor a symbolic link")));
    };
    entries
        .add(from, bytes_of(path.as_os_str()), kind, mode(&metadata))
        .map_err(|error| at(io::Error::other(error)))?;
    if is_dir {
        for entry in fs::read_dir(&real).map_err(at)? {
            collect(entries, from, root, &path.join(entry.map_err(at)?.file_name()), depth + 1)?;
        }
    }
    Ok(())
}

/// An absolute path, seen from outside of `root`.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> PathBuf {
    Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes)).to_owned()
}
#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> PathBuf {
    String::from_utf8_lossy(bytes).into_owned().into()
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777
}
/// Nix gives files no other rights.
#[cfg(not(unix))]
fn mode(metadata: &Metadata) -> u32 {
    if metadata.is_dir() { 0o555 } else { 0o444 }
}
