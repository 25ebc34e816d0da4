//! The fuzz targets (`fuzz/README.md`) on their seeds, which hold what each target takes, and what
//! it once stumbled on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a library of its own, there")]
mod targets;

type Target = fn(&[u8]) -> bool;

const TARGETS: [(&str, Target); 10] = [
    ("bundle", targets::bundle),
    ("certificate", targets::certificate),
    ("config", targets::config),
    ("docker_archive", targets::docker_archive),
    ("image_json", targets::image_json),
    ("index", targets::index),
    ("layer", targets::layer),
    ("manifest", targets::manifest),
    ("policy", targets::policy),
    ("statement", targets::statement),
];

#[test]
fn every_target_takes_what_is_genuine_and_stands_the_rest() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |folder: &str| {
        let mut names: Vec<_> = fs::read_dir(fuzz.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let known: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        (names("seeds"), names("fuzz_targets")),
        (
            known.clone().into_iter().map(str::to_owned).collect(),
            known.into_iter().map(str::to_owned).collect()
        )
    );
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
fn the_policies_of_the_project_are_taken() {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    for entry in fs::read_dir(policies).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            assert!(targets::policy(&fs::read(&path).unwrap()), "{}", path.display());
        }
    }
}
