//! Headers of tar entries, to the byte as Go's `archive/tar` writes them for nix2container: ustar
//! where that holds the entry, else pax with a ustar header after it.

use crate::oci::tar::BLOCK;

/// The most bytes of a path, and of where a link leads, in a ustar header.
const NAME: usize = 100;
const PREFIX: usize = 155;
/// The largest number of 11 octal digits: the size of a file in a ustar header.
const MAX_SIZE: u64 = 0o777_7777_7777;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A symbolic link, and where it leads.
    Symlink(Vec<u8>),
}

/// Who may do what with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Permission bits, at most seven octal digits.
    pub mode: u32,
    /// The owner, at most seven octal digits.
    pub uid: u32,
    /// The group, at most seven octal digits.
    pub gid: u32,
    /// The owner's name, ASCII of at most 32 bytes.
    pub uname: String,
    /// The group's name, ASCII of at most 32 bytes.
    pub gname: String,
}

/// The header of an entry, one second after the epoch; its content, padded, comes after it.
pub fn header(path: &[u8], kind: &Kind, rights: &Rights) -> Vec<u8> {
    let (flag, link, size) = match kind {
        Kind::File(size) => (b'0', &[][..], *size),
        Kind::Directory => (b'5', &[][..], 0),
        Kind::Symlink(target) => (b'2', target.as_slice(), 0),
    };
    let split = split(path);
    let plain_path = is_ascii(path) && (path.len() <= NAME || split.is_some());
    let plain_link = is_ascii(link) && link.len() <= NAME;
    let mut block = Block::default();
    let mut bytes = Vec::new();
    if plain_path && plain_link && size <= MAX_SIZE {
        let (prefix, name) = split.unwrap_or((&[], path));
        block.text(0, NAME, name);
        block.text(345, PREFIX, prefix);
        block.text(157, NAME, link);
    } else {
        let mut records = Vec::new();
        if !is_ascii(link) || link.len() > NAME {
            record(&mut records, "linkpath", link);
        }
        if !is_ascii(path) || path.len() > NAME {
            record(&mut records, "path", path);
        }
        if size > MAX_SIZE {
            record(&mut records, "size", size.to_string().as_bytes());
        }
        bytes = extended(path, &records);
        block.text(0, NAME, &ascii(path));
        block.text(157, NAME, &ascii(link));
    }
    block.octal(100, 8, u64::from(rights.mode));
    block.octal(108, 8, u64::from(rights.uid));
    block.octal(116, 8, u64::from(rights.gid));
    block.octal(124, 12, if size > MAX_SIZE { 0 } else { size });
    block.octal(136, 12, 1);
    block.text(156, 1, &[flag]);
    block.text(265, 32, rights.uname.as_bytes());
    block.text(297, 32, rights.gname.as_bytes());
    block.octal(329, 8, 0);
    block.octal(337, 8, 0);
    bytes.extend(block.finish());
    bytes
}

/// The pax header that goes before the entry.
fn extended(path: &[u8], records: &[u8]) -> Vec<u8> {
    let (folder, file) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => path.split_at(at + 1),
        None => (&[][..], path),
    };
    let name = ascii(&[folder, b"PaxHeaders.0/", file].concat());
    let name = name.get(..NAME).unwrap_or(&name);
    let end = name.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let mut block = Block::default();
    block.text(0, NAME, name.get(..end).unwrap_or_default());
    for field in [100, 108, 116] {
        block.octal(field, 8, 0);
    }
    block.octal(124, 12, records.len() as u64);
    block.octal(136, 12, 0);
    block.text(156, 1, b"x");
    let mut bytes = block.finish().to_vec();
    bytes.extend_from_slice(records);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// Writes a pax record: its own length in decimal, a space, `key=value` and an end of line.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() > rest.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend(format!("{length} {key}=").into_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Where a long path comes apart into the two fields of a ustar header.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME || !is_ascii(path) {
        return None;
    }
    let most = path.get(..path.len().min(PREFIX + 1))?;
    let at = most.iter().rposition(|byte| *byte == b'/')?;
    let (prefix, name) = (path.get(..at)?, path.get(at + 1..)?);
    (at > 0 && !name.is_empty() && name.len() <= NAME).then_some((prefix, name))
}

fn is_ascii(text: &[u8]) -> bool {
    text.iter().all(|byte| *byte < 0x80 && *byte != 0)
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| *byte < 0x80 && *byte != 0).collect()
}

struct Block([u8; BLOCK]);

impl Default for Block {
    fn default() -> Self {
        Self([0; BLOCK])
    }
}

impl Block {
    fn field(&mut self, at: usize, length: usize) -> &mut [u8] {
        self.0.get_mut(at..at + length).unwrap_or_default()
    }

    /// As much of the text as the field takes. A field that ends in a slash would make a directory
    /// of a file: the slash goes.
    fn text(&mut self, at: usize, length: usize, text: &[u8]) {
        let cut = text.get(..length).unwrap_or(text);
        let kept = if text.len() > length && cut.ends_with(b"/") {
            let end = cut.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
            cut.get(..end).unwrap_or_default()
        } else {
            cut
        };
        for (to, from) in self.field(at, length).iter_mut().zip(kept) {
            *to = *from;
        }
    }

    /// Octal digits that fill the field but for a zero byte.
    fn octal(&mut self, at: usize, length: usize, number: u64) {
        let digits = format!("{number:0width$o}", width = length - 1);
        self.text(at, length - 1, digits.as_bytes());
    }

    /// With the magic of ustar, and the sum of all bytes.
    fn finish(mut self) -> [u8; BLOCK] {
        self.text(257, 8, b"ustar\x0000");
        self.text(148, 8, b"        ");
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.text(148, 8, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::tar::{self, Entry, Reader, Visit};

    #[derive(Default)]
    struct Seen(Vec<Entry>);

    impl Visit for Seen {
        fn entry(&mut self, entry: Entry) {
            self.0.push(entry);
        }
        fn content(&mut self, _: &[u8]) {}
        fn end(&mut self) {}
    }

    fn rights() -> Rights {
        let root = "root".to_owned();
        Rights { mode: 0o555, uid: 0, gid: 0, uname: root.clone(), gname: root }
    }

    fn read(bytes: &[u8]) -> Entry {
        let mut reader = Reader::new(Seen::default());
        reader.take(bytes).unwrap();
        reader.visitor().0.first().unwrap().clone()
    }

    #[test]
    fn paths_and_links_are_read_back_however_long() {
        let parts = |length: usize| "abcdefg/".repeat(40)[..length].to_owned();
        let texts = (1..300).map(parts).chain((1..300).map(|length| "n".repeat(length)));
        for text in texts.chain(["ünï".to_owned(), "ü".repeat(60)]) {
            let path = format!("/{}x", text.trim_end_matches('/'));
            let bytes = header(path.as_bytes(), &Kind::File(0), &rights());
            assert_eq!(bytes.len() % BLOCK, 0);
            assert_eq!(read(&bytes).path, path);
            let bytes = header(b"/link", &Kind::Symlink(path.clone().into_bytes()), &rights());
            assert_eq!(read(&bytes).kind, tar::Kind::Symlink(path));
        }
    }

    #[test]
    fn sizes_are_read_back_however_large() {
        for size in [0, 1, 511, 8 << 30, MAX_SIZE, MAX_SIZE + 1, 1 << 50] {
            let entry = read(&header(b"/file", &Kind::File(size), &rights()));
            assert_eq!(entry.size, size);
            assert_eq!(entry.kind, tar::Kind::File { executable: true });
        }
    }

    #[test]
    fn what_a_ustar_header_holds_needs_no_other() {
        let deep = format!("/{}/{}", "d".repeat(150), "f".repeat(100));
        for (path, blocks) in
            [("/a", 1), (deep.as_str(), 1), (&"f".repeat(101), 3), ("/\u{fc}", 3), (&format!("{deep}f"), 3)]
        {
            assert_eq!(header(path.as_bytes(), &Kind::Directory, &rights()).len(), blocks * BLOCK, "{path}");
        }
    }

    #[test]
    fn a_record_states_its_own_length() {
        for length in (0..200).chain([980, 990, 991, 992, 1000]) {
            let mut records = Vec::new();
            record(&mut records, "path", &vec![b'x'; length]);
            let text = String::from_utf8(records).unwrap();
            assert_eq!(text.split_once(' ').unwrap().0, text.len().to_string());
        }
    }
}
