//! The fuzz targets (`fuzz/README.md`) on their seeds, which hold what each target takes and what it
//! once stumbled on, and on the corpora that fuzzing left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

use std::fs;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a library of its own, there")]
mod targets;

type Target = fn(&[u8]) -> bool;

const TARGETS: [(&str, Target); 11] = [
    ("bundle", targets::bundle),
    ("certificate", targets::certificate),
    ("config", targets::config),
    ("docker_archive", targets::docker_archive),
    ("image_json", targets::image_json),
    ("index", targets::index),
    ("layer", targets::layer),
    ("manifest", targets::manifest),
    ("policy", targets::policy),
    ("provenance", targets::provenance),
    ("statement", targets::statement),
];

#[test]
fn every_target_takes_what_is_genuine_and_stands_the_rest() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |folder: &str| {
        let mut names: Vec<_> = fs::read_dir(fuzz.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| name.split('.').next().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let known: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    for folder in ["seeds", "corpus", "fuzz_targets"] {
        assert_eq!(names(folder), known, "{folder}");
    }
    for (name, target) in TARGETS {
        let seeds = fs::read_dir(fuzz.join("seeds").join(name)).unwrap();
        let seeds: Vec<_> = seeds.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(seeds.iter().filter(|seed| target(seed)).count() > 0, "{name} takes none of its seeds");
        for seed in &seeds {
            // Cut, and with one bit turned, all over.
            for at in (0..seed.len()).step_by(seed.len() / 400 + 1) {
                target(&seed[..at]);
                let mut turned = seed.clone();
                turned[at] ^= 1 << (at % 8);
                target(&turned);
            }
        }
    }
}

#[test]
fn every_target_stands_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let archive = fs::File::open(corpus.join(format!("{name}.tar.gz"))).unwrap();
        let mut tar = Vec::new();
        GzDecoder::new(archive).read_to_end(&mut tar).unwrap();
        let inputs = files(&tar);
        assert!(inputs.len() >= 50, "{name} has a corpus of {}", inputs.len());
        for input in inputs {
            target(input);
        }
    }
}

/// The contents of the regular files of a tar archive.
fn files(mut tar: &[u8]) -> Vec<&[u8]> {
    let mut files = Vec::new();
    while let Some((header, rest)) = tar.split_at_checked(512).filter(|(header, _)| header[0] != 0) {
        let size = std::str::from_utf8(&header[124..135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        if header[156] == b'0' {
            files.push(&rest[..size]);
        }
        tar = &rest[size.next_multiple_of(512)..];
    }
    files
}

#[test]
fn the_policies_of_the_project_are_taken() {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    for entry in fs::read_dir(policies).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            assert!(targets::policy(&fs::read(&path).unwrap()), "{}", path.display());
        }
    }
}
