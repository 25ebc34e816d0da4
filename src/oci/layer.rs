//! Layers (image-spec, `layer.md`): for which machines the programs in a tar archive are.

use std::collections::BTreeMap;
use std::fmt;

use super::tar::{Entry, Kind, Reader, TarError, Visit};

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

/// Reads a tar archive piece by piece, and keeps of it for which machines its executable ELF files
/// are, with the name of one file each.
#[derive(Debug, Default)]
pub struct Programs(Reader<Found>);

impl Programs {
    /// Takes the next piece.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.0.take(bytes)
    }

    /// For which machines there are programs, each with the name of the first.
    ///
    /// # Errors
    /// As [`Reader::finish`].
    pub fn finish(self) -> Result<BTreeMap<Machine, String>, TarError> {
        Ok(self.0.finish()?.machines)
    }
}

#[derive(Debug, Default)]
struct Found {
    machines: BTreeMap<Machine, String>,
    /// The executable file that is being read, and its first bytes.
    reading: Option<(String, Vec<u8>)>,
}

impl Visit for Found {
    fn entry(&mut self, entry: Entry) {
        self.reading = (entry.kind == Kind::File { executable: true }).then(|| (entry.path, Vec::new()));
    }

    fn content(&mut self, bytes: &[u8]) {
        if let Some((_, head)) = &mut self.reading {
            let room = ELF_HEAD.saturating_sub(head.len());
            head.extend(bytes.iter().take(room));
        }
    }

    fn end(&mut self) {
        if let Some((path, head)) = self.reading.take()
            && let Some(machine) = Machine::of(&head)
        {
            self.machines.entry(machine).or_insert(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tar::BLOCK;
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
