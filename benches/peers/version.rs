//! Which version of a peer is measured.

use std::path::Path;
use std::process::Command;
use std::{fs, str};

use crate::project::said;

/// The version, in the words of the program or of the Go toolchain that built it.
pub(crate) fn of(program: &Path) -> String {
    let binary = fs::read(program).unwrap();
    built(&binary).unwrap_or_else(|| {
        let output = Command::new(program).arg("--version").output().unwrap();
        let said = said(&output);
        let words = said.split([' ', ',', '\n']);
        let mut numbers = words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        numbers.next().unwrap_or("unknown").to_owned()
    })
}

/// What `go version -m` shows of the main module.
fn built(binary: &[u8]) -> Option<String> {
    const LINE: &[u8] = b"\nmod\t";
    binary.windows(LINE.len()).enumerate().filter(|(_, window)| *window == LINE).find_map(|(at, _)| {
        let line = binary[at + LINE.len()..].split(|byte| *byte == b'\n').next()?;
        let version = str::from_utf8(line).ok()?.split('\t').nth(1)?;
        version.starts_with('v').then(|| version.trim_start_matches('v').to_owned())
    })
}
