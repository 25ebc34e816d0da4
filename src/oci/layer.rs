//! Layers (image-spec, `layer.md`): for which machines the programs in a tar archive are.

use std::collections::BTreeMap;
use std::fmt;

/// A block of a tar archive, in bytes.
const BLOCK: usize = 512;
/// Extended headers (pax, GNU) of more bytes than this are refused.
const MAX_EXTENDED: u64 = 1 << 20;
/// The part of an ELF file that names its machine.
const ELF_HEAD: usize = 20;

/// A machine as the head of an ELF file names it (System V ABI, "ELF Header").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Machine {
    /// `e_machine`.
    pub number: u16,
    /// Whether words have 64 bits.
    pub wide: bool,
    /// Whether the low byte comes first.
    pub little: bool,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.number {
            3 => "386",
            20 => "PowerPC",
            21 => "PowerPC64",
            22 => "S/390",
            40 => "ARM",
            62 => "x86-64",
            183 => "AArch64",
            243 => "RISC-V",
            258 => "LoongArch",
            other => return write!(f, "ELF machine {other}"),
        };
        write!(f, "{name} ({} bits)", if self.wide { 64 } else { 32 })
    }
}

impl Machine {
    /// The machine of an ELF file, from its first bytes.
    fn of(head: &[u8]) -> Option<Self> {
        let [0x7f, b'E', b'L', b'F', class, data, ..] = *head else { return None };
        let number: [u8; 2] = head.get(18..20)?.try_into().ok()?;
        let little = match data {
            1 => true,
            2 => false,
            _ => return None,
        };
        let number = if little { u16::from_le_bytes(number) } else { u16::from_be_bytes(number) };
        Some(Self { number, wide: class == 2, little })
    }
}

/// Why bytes are not a tar archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a tar archive: {0}")]
pub struct TarError(&'static str);

/// Reads a tar archive (POSIX ustar and pax, GNU) piece by piece, and keeps of it for which
/// machines its executable ELF files are, with the name of one file each.
#[derive(Debug, Default)]
pub struct Programs {
    found: BTreeMap<Machine, String>,
    state: State,
    /// The bytes of a header, of an extended header, or of the head of a file.
    kept: Vec<u8>,
    /// What an extended header says of the file after it.
    path: Option<String>,
    size: Option<u64>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Header,
    Body {
        kind: Kind,
        left: u64,
        padding: u64,
    },
    End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Executable(String),
    Pax,
    GnuPath,
    Other,
}

impl Kind {
    /// How many of its first bytes are kept.
    fn keeps(&self) -> usize {
        match self {
            Self::Executable(_) => ELF_HEAD,
            Self::Pax | Self::GnuPath => usize::MAX,
            Self::Other => 0,
        }
    }
}

impl Programs {
    /// Takes the next piece.
    ///
    /// # Errors
    /// When a header is none. What follows the end of the archive is left alone, as tar does.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::End => return Ok(()),
                State::Header => {
                    let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.kept.len()));
                    self.kept.extend_from_slice(now);
                    bytes = rest;
                    if self.kept.len() == BLOCK {
                        let header = std::mem::take(&mut self.kept);
                        self.state = self.header(&header)?;
                    }
                }
                State::Body { kind, left, padding } => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let (now, rest) = bytes.split_at(most);
                    let room = kind.keeps().saturating_sub(self.kept.len()).min(now.len());
                    self.kept.extend(now.iter().take(room));
                    *left -= now.len() as u64;
                    bytes = rest;
                    if *left == 0 {
                        let skip = usize::try_from(*padding).unwrap_or(usize::MAX).min(bytes.len());
                        *padding -= skip as u64;
                        bytes = bytes.get(skip..).unwrap_or_default();
                        if *padding == 0 {
                            let kind = std::mem::replace(kind, Kind::Other);
                            self.state = State::Header;
                            self.finish_body(kind)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// For which machines there are programs, each with the name of the first.
    ///
    /// # Errors
    /// When the archive ends in the middle of a file.
    pub fn finish(self) -> Result<BTreeMap<Machine, String>, TarError> {
        match self.state {
            State::Body { left, .. } if left > 0 => Err(TarError("it is cut short")),
            State::Header if !self.kept.is_empty() => Err(TarError("it is cut short")),
            _ => Ok(self.found),
        }
    }

    fn header(&mut self, header: &[u8]) -> Result<State, TarError> {
        if header.iter().all(|byte| *byte == 0) {
            return Ok(State::End);
        }
        let field = |from: usize, to: usize| header.get(from..to).unwrap_or_default();
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
            .sum();
        if octal(field(148, 156)) != Some(sum) {
            return Err(TarError("a header has a wrong checksum"));
        }
        let stated = number(field(124, 136)).ok_or(TarError("a header has no size"))?;
        let kind = header.get(156).copied().unwrap_or_default();
        let extended = matches!(kind, b'x' | b'g' | b'L' | b'K');
        let (path, size) = if extended { (None, None) } else { (self.path.take(), self.size.take()) };
        let size = match kind {
            // Links, devices and directories have no content, whatever their header says.
            b'1'..=b'6' => 0,
            _ => size.unwrap_or(stated),
        };
        if extended && size > MAX_EXTENDED {
            return Err(TarError("an extended header is too large"));
        }
        let runs = octal(field(100, 108)).is_some_and(|mode| mode & 0o111 != 0);
        let kind = match kind {
            b'x' => Kind::Pax,
            b'L' => Kind::GnuPath,
            b'0' | 0 | b'7' if runs => Kind::Executable(path.unwrap_or_else(|| {
                let name = text(field(0, 100));
                let prefix = if field(257, 262) == b"ustar" { text(field(345, 500)) } else { String::new() };
                if prefix.is_empty() { name } else { format!("{prefix}/{name}") }
            })),
            _ => Kind::Other,
        };
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        if size == 0 {
            self.finish_body(kind)?;
            return Ok(State::Header);
        }
        Ok(State::Body { kind, left: size, padding })
    }

    fn finish_body(&mut self, kind: Kind) -> Result<(), TarError> {
        let kept = std::mem::take(&mut self.kept);
        match kind {
            Kind::Other => {}
            Kind::Executable(path) => {
                if let Some(machine) = Machine::of(&kept) {
                    self.found.entry(machine).or_insert(path);
                }
            }
            Kind::GnuPath => self.path = Some(text(&kept)),
            Kind::Pax => self.pax(&kept)?,
        }
        Ok(())
    }

    /// Reads the records of a pax header: `LENGTH KEY=VALUE\n`.
    fn pax(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        const BAD: TarError = TarError("a pax header is malformed");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ').ok_or(BAD)?;
            let length = std::str::from_utf8(bytes.get(..space).unwrap_or_default()).ok();
            let length: usize = length.and_then(|length| length.parse().ok()).ok_or(BAD)?;
            let record = bytes.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n"));
            let record = record.ok_or(BAD)?;
            if let Some(path) = record.strip_prefix(b"path=") {
                self.path = Some(text(path));
            } else if let Some(size) = record.strip_prefix(b"size=") {
                let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok());
                self.size = Some(size.ok_or(TarError("a pax header has a malformed size"))?);
            }
            bytes = bytes.get(length..).unwrap_or_default();
        }
        Ok(())
    }
}

/// A number of a header: octal digits, or GNU's base 256.
fn number(field: &[u8]) -> Option<u64> {
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            rest.iter().try_fold(u64::from(first & 0x7f), |sum, byte| {
                sum.checked_mul(256)?.checked_add(u64::from(*byte))
            })
        }
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// Text up to the first zero byte.
fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86_64: Machine = Machine { number: 62, wide: true, little: true };
    const AARCH64: Machine = Machine { number: 183, wide: true, little: true };

    fn entry(name: &str, kind: u8, mode: u32, content: &[u8]) -> Vec<u8> {
        let mut header = vec![0; BLOCK];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(124, &format!("{:011o}", content.len()));
        put(148, "        ");
        put(257, "ustar\x0000");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header.extend(content);
        header.resize(header.len().next_multiple_of(BLOCK), 0);
        header
    }

    fn elf(architecture: &str) -> Vec<u8> {
        quorate_bed::image::minimal_elf(architecture)
    }

    fn read(tar: &[u8], piece: usize) -> Result<Vec<(Machine, String)>, TarError> {
        let mut programs = Programs::default();
        tar.chunks(piece).try_for_each(|piece| programs.take(piece))?;
        Ok(programs.finish()?.into_iter().collect())
    }

    fn pax(records: &[(&str, &str)]) -> Vec<u8> {
        let mut body = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            // The length counts its own digits, of which there are two or three here.
            let length = [2, 3].map(|digits| digits + rest.len());
            let length = length.iter().find(|n| n.to_string().len() + rest.len() == **n).unwrap();
            body = [body, length.to_string(), rest].concat();
        }
        entry("pax", b'x', 0o644, body.as_bytes())
    }

    #[test]
    fn programs_are_found_however_the_archive_comes() {
        let long = "nix/store/".to_owned() + &"a".repeat(150);
        let tar = [
            entry("bin/", b'5', 0o755, &[]),
            entry("bin/link", b'2', 0o777, &[]),
            entry("script", b'0', 0o755, b"#!/bin/sh\n"),
            entry("data", b'0', 0o644, &elf("arm64")),
            pax(&[("mtime", "1"), ("path", &long)]),
            entry("short", b'0', 0o755, &elf("amd64")),
            entry("empty", b'0', 0o755, &[]),
            entry("bin/second", b'0', 0o755, &elf("amd64")),
            vec![0; 2 * BLOCK],
            b"what follows".to_vec(),
        ]
        .concat();
        for piece in [1, 7, 511, 512, 513, 1 << 20] {
            assert_eq!(read(&tar, piece).unwrap(), [(X86_64, long.clone())], "in pieces of {piece}");
        }
        let gnu = [
            entry("@LongLink", b'L', 0, format!("{long}\0").as_bytes()),
            entry("short", b'0', 0o755, &elf("arm64")),
        ];
        assert_eq!(read(&gnu.concat(), 100).unwrap(), [(AARCH64, long)]);
    }

    #[test]
    fn the_size_of_a_pax_header_counts() {
        // The header says nothing; without the pax record its content would be read as headers.
        let mut file = entry("app", b'0', 0o755, &elf("amd64"));
        file[124..135].copy_from_slice(b"00000000000");
        file[148..156].copy_from_slice(b"        ");
        let sum: u32 = file[..BLOCK].iter().map(|byte| u32::from(*byte)).sum();
        file[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let size = elf("amd64").len().to_string();
        let tar = [pax(&[("size", &size)]), file.clone()].concat();
        assert_eq!(read(&tar, 64).unwrap(), [(X86_64, "app".to_owned())]);
        assert!(read(&file, 64).is_err());
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let good = entry("app", b'0', 0o755, &elf("amd64"));
        assert!(read(&good, 100).is_ok());
        let mut damaged = good.clone();
        damaged[0] ^= 1;
        for (what, bad) in [
            ("a wrong checksum", damaged),
            ("text", vec![b'x'; 2000]),
            ("half a header", good[..300].to_vec()),
            ("half a file", good[..BLOCK + 10].to_vec()),
            ("a pax record without end", entry("pax", b'x', 0, b"99 path=x\n")),
            ("a pax record of nothing", entry("pax", b'x', 0, b"0 \n")),
            ("a pax size that is none", pax(&[("size", "-1")])),
        ] {
            assert!(read(&bad, 100).is_err(), "{what}");
        }
    }

    #[test]
    fn machines_are_told_apart() {
        assert_eq!(Machine::of(&elf("amd64")), Some(X86_64));
        let mut big = elf("amd64");
        big[5] = 2;
        big[18..20].copy_from_slice(&[0, 22]);
        assert_eq!(Machine::of(&big), Some(Machine { number: 22, wide: true, little: false }));
        assert_eq!(Machine::of(&elf("amd64")[..19]), None);
        assert_eq!(Machine::of(b"#!/bin/sh"), None);
    }
}
