//! The fence of the architecture: the pure rooms name nothing that does I/O.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

use std::fs;
use std::path::{Path, PathBuf};

const PURE: [&str; 8] = [
    "src/oci",
    "src/nix",
    "src/attestation",
    "src/policy",
    "src/report",
    "src/reason.rs",
    "src/error.rs",
    "src/text.rs",
];

/// What no line of a pure room may name.
const FORBIDDEN: [&str; 16] = [
    "crate::edge",
    "crate::ops",
    "crate::cli",
    "super::super::edge",
    "tokio",
    "reqwest",
    "oci_client",
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "SystemRandom",
];

/// Further fences: a room, and the rooms it must not name.
const ONE_WAY: [(&str, &[&str]); 3] = [
    ("src/oci", &["crate::attestation", "crate::policy", "crate::nix", "crate::report"]),
    ("src/nix", &["crate::attestation", "crate::policy", "crate::report"]),
    ("src/attestation", &["crate::policy", "crate::report"]),
];

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut all: Vec<PathBuf> =
        fs::read_dir(path).unwrap().flat_map(|entry| files(&entry.unwrap().path())).collect();
    all.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    all
}

/// Code lines with their numbers, without comments and without what is for tests alone. An item ends
/// with a line that starts with its brace, or that ends with a semicolon and is not indented.
fn code(text: &str) -> Vec<(usize, &str)> {
    let mut of_tests = false;
    let mut code = Vec::new();
    for (number, line) in text.lines().enumerate() {
        of_tests |= line.starts_with("#[cfg(test)]");
        if !of_tests && !line.trim_start().starts_with("//") {
            code.push((number + 1, line));
        }
        let outermost = !line.starts_with(char::is_whitespace);
        of_tests &= !(line.starts_with('}') || outermost && line.ends_with(';'));
    }
    code
}

fn breaches(room: &str, forbidden: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = files(&root.join(room));
    assert!(!found.is_empty(), "{room} has no files");
    let mut breaches = Vec::new();
    for file in found {
        // Test modules of their own may read files.
        if ["model.rs", "vectors.rs", "props.rs"].iter().any(|name| file.ends_with(name)) {
            continue;
        }
        for (number, line) in code(&fs::read_to_string(&file).unwrap()) {
            for name in forbidden {
                if line.contains(name) {
                    breaches.push(format!("{}:{number}: {name}", file.strip_prefix(root).unwrap().display()));
                }
            }
        }
    }
    breaches
}

#[test]
fn pure_rooms_do_no_io() {
    let all: Vec<String> = PURE.iter().flat_map(|room| breaches(room, &FORBIDDEN)).collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn data_flows_one_way() {
    let all: Vec<String> = ONE_WAY.iter().flat_map(|(room, names)| breaches(room, names)).collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn only_the_tag_writer_writes_tags() {
    let writers: Vec<String> = ["src/ops", "src/cli", "src/edge", "src/policy"]
        .iter()
        .flat_map(|room| breaches(room, &[".put_tag(", ".move_tag("]))
        .filter(|breach| !breach.starts_with("src/edge/tags.rs") && !breach.starts_with("src/edge/registry/"))
        .collect();
    assert!(writers.is_empty(), "{}", writers.join("\n"));
    // Approvals are made by the decision alone.
    let makers: Vec<String> = ["src"]
        .iter()
        .flat_map(|room| breaches(room, &["Approval {"]))
        .filter(|breach| {
            !breach.starts_with("src/policy/decide.rs") && !breach.starts_with("src/policy/verdict.rs")
        })
        .collect();
    assert!(makers.is_empty(), "{}", makers.join("\n"));
}

#[test]
fn the_fence_finds_a_breach() {
    assert!(!breaches("src/edge", &["tokio"]).is_empty());
    let text = "use a;\n// std::fs\n#[cfg(test)]\nimpl A {\n    std::fs;\n}\n\nstd::env\n#[cfg(test)]\nmod b;\n\
                std::net\n\n#[cfg(test)]\nmod tests {\n    std::fs;\n}\n";
    let said: Vec<_> = code(text).into_iter().filter(|(_, line)| line.contains("std::")).collect();
    assert_eq!(said, [(8, "std::env"), (11, "std::net")], "what follows an item for tests is looked at");
}
