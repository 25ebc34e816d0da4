//! Nix archives (NAR): the serialisation whose SHA-256 is a narHash.
//!
//! The writer is told of a tree in order and hashes as it goes; it reads no file itself. The
//! format is that of `nix-store --dump`: strings prefixed by their length as a 64-bit little
//! endian number, padded with zeros to a multiple of eight.

use ring::digest::{Context, SHA256};

use super::NarHash;

/// Hashes a tree as NAR. Calls follow the tree: one node, where a directory's entries come
/// between [`NarHasher::directory`] and [`NarHasher::end`], each after [`NarHasher::entry`].
pub struct NarHasher(Context);

impl Default for NarHasher {
    fn default() -> Self {
        let mut hasher = Self(Context::new(&SHA256));
        hasher.string(b"nix-archive-1");
        hasher
    }
}

impl NarHasher {
    /// A regular file of `length` bytes follows, through [`NarHasher::content`], to be ended by
    /// [`NarHasher::end_file`].
    pub fn file(&mut self, executable: bool, length: u64) {
        self.strings(&[b"(", b"type", b"regular"]);
        if executable {
            self.strings(&[b"executable", b""]);
        }
        self.string(b"contents");
        self.0.update(&length.to_le_bytes());
    }

    /// The next bytes of the file.
    pub fn content(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The file of `length` bytes ends.
    pub fn end_file(&mut self, length: u64) {
        self.pad(length);
        self.string(b")");
    }

    /// A symbolic link to `target`.
    pub fn symlink(&mut self, target: &[u8]) {
        self.strings(&[b"(", b"type", b"symlink", b"target", target, b")"]);
    }

    /// A directory begins.
    pub fn directory(&mut self) {
        self.strings(&[b"(", b"type", b"directory"]);
    }

    /// A directory's entry begins; entries come in the byte order of their names.
    pub fn entry(&mut self, name: &[u8]) {
        self.strings(&[b"entry", b"(", b"name", name, b"node"]);
    }

    /// The entry's node was given.
    pub fn end_entry(&mut self) {
        self.string(b")");
    }

    /// The directory ends.
    pub fn end(&mut self) {
        self.string(b")");
    }

    /// The hash of the whole.
    pub fn finish(self) -> NarHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.finish().as_ref());
        NarHash::from_bytes(hash)
    }

    fn strings(&mut self, strings: &[&[u8]]) {
        for string in strings {
            self.string(string);
        }
    }

    fn string(&mut self, bytes: &[u8]) {
        let length = bytes.len() as u64;
        self.0.update(&length.to_le_bytes());
        self.0.update(bytes);
        self.pad(length);
    }

    fn pad(&mut self, length: u64) {
        let pad = (8 - length % 8) % 8;
        // `pad` is less than eight.
        self.0.update(&[0; 8][..usize::try_from(pad).unwrap_or(0)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_has_the_hash_that_nix_prints() {
        let mut nar = NarHasher::default();
        nar.directory();
        nar.end();
        assert_eq!(nar.finish().to_string(), "sha256-pQpattmS9VmO3ZIQUFn66az8GSmB4IvYhTTCFn6SUmo=");
    }
}
