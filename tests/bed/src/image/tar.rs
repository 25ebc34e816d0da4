//! Archives in the ustar format, with nothing in them that depends on when or by whom.

use std::collections::BTreeSet;

const BLOCK: usize = 512;

/// An archive of these files (path, content, mode), preceded by the directories above them.
pub fn archive(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut tar = Vec::new();
    let mut directories = BTreeSet::new();
    for (path, content, mode) in files {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            let directory = &path[..=end];
            if directories.insert(directory) {
                entry(&mut tar, directory, b'5', 0o755, &[]);
            }
        }
        entry(&mut tar, path, b'0', *mode, content);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    tar
}

fn entry(tar: &mut Vec<u8>, path: &str, kind: u8, mode: u32, content: &[u8]) {
    assert!(path.len() < 100, "{path} is too long for a plain header");
    let mut header = [0; BLOCK];
    let mut field = |offset: usize, text: &str| {
        header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    };
    field(0, path);
    field(100, &format!("{mode:07o}"));
    field(108, "0000000"); // user
    field(116, "0000000"); // group
    field(124, &format!("{:011o}", content.len()));
    field(136, "00000000000"); // modified at the epoch
    field(148, "        "); // the checksum counts as spaces
    field(156, &char::from(kind).to_string());
    field(257, "ustar\0");
    field(263, "00");
    let checksum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());
    tar.extend(header);
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}
