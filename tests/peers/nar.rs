//! `quorate nar-hash` against Nix, and against golden data that Nix made.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use quorate_bed::image;
use serde_json::Value;

use crate::peers::{Peer, Peers};
use crate::project::{ARCHITECTURES, COMMIT, SEQUENCE, quorate, succeed};

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let mut trials: Vec<_> = TREES
        .iter()
        .map(|(name, plant)| {
            peers.trial(&format!("nar_hash_equals_nix::{name}"), [Peer::Nix], |[nix]| {
                let folder = tempfile::tempdir().unwrap();
                let tree = folder.path().join("tree");
                plant(&tree);
                assert_eq!(nar_hash(&tree), nix_hash(nix, &tree, folder.path()));
            })
        })
        .collect();
    trials.push(peers.trial("nar_hash_equals_golden_data::store_paths", [Peer::Vectors], |[vectors]| {
        store_paths(&vectors.join("nix2container"));
    }));
    trials.push(peers.trial("nar_hash_equals_golden_data::image_json", [Peer::Vectors], |[vectors]| {
        image_json(&vectors.join("nix2container"));
    }));
    trials.push(peers.trial("config_digest_equals_golden_data::image_json", [Peer::Vectors], |[vectors]| {
        configurations(&vectors.join("nix2container"));
    }));
    trials
}

/// Makes a file, a directory or a link at a path.
type Plant = fn(&Path);

const TREES: [(&str, Plant); 14] = [
    ("file", |tree| fs::write(tree, "content").unwrap()),
    ("empty_file", |tree| fs::write(tree, "").unwrap()),
    ("executable", |tree| {
        fs::write(tree, "#!/bin/sh\n").unwrap();
        mode(tree, 0o755);
    }),
    ("link", |tree| symlink("/etc/passwd", tree).unwrap()),
    ("empty_directory", |tree| fs::create_dir(tree).unwrap()),
    ("nested_directories", |tree| {
        fs::create_dir_all(tree.join("a/b/c/d/e")).unwrap();
        fs::create_dir_all(tree.join("a/b2")).unwrap();
        fs::write(tree.join("a/b/c/file"), "deep").unwrap();
    }),
    ("links", |tree| {
        fs::create_dir(tree).unwrap();
        fs::write(tree.join("file"), "content").unwrap();
        fs::create_dir(tree.join("directory")).unwrap();
        symlink("file", tree.join("to-a-file")).unwrap();
        symlink("directory", tree.join("to-a-directory")).unwrap();
        symlink("nowhere", tree.join("dangling")).unwrap();
        symlink(".", tree.join("to-itself")).unwrap();
        symlink(OsStr::from_bytes(b"\xff\xfe"), tree.join("not-utf-8")).unwrap();
    }),
    ("modes", |tree| {
        fs::create_dir(tree).unwrap();
        // Nix asks whether the owner may execute, and nothing else.
        for bits in [0o400, 0o444, 0o500, 0o600, 0o644, 0o654, 0o645, 0o744, 0o755, 0o777] {
            let file = tree.join(format!("{bits:o}"));
            fs::write(&file, "content").unwrap();
            mode(&file, bits);
        }
    }),
    ("names_sorted_by_bytes", |tree| {
        fs::create_dir(tree).unwrap();
        for name in
            ["a", "A", "B", "a.b", "a-b", "a b", "a0", "ab", "é", "z", "Z", "_", "~", "10", "9", ".hidden"]
        {
            fs::write(tree.join(name), name).unwrap();
        }
        fs::create_dir(tree.join("a!")).unwrap();
        fs::create_dir(tree.join("a+")).unwrap();
    }),
    ("names_not_utf_8", |tree| {
        fs::create_dir(tree).unwrap();
        for name in [&b"\xff"[..], b"\x80a", b"caf\xe9", b"caf\xc3\xa9", b"\x01\n\t", b"\\", b"'\""] {
            fs::write(tree.join(OsStr::from_bytes(name)), name).unwrap();
        }
        fs::create_dir(tree.join(OsStr::from_bytes(b"\xc3\x28"))).unwrap();
    }),
    ("long_names", |tree| {
        fs::create_dir(tree).unwrap();
        fs::write(tree.join("n".repeat(255)), "content").unwrap();
        symlink("t".repeat(1000), tree.join("link")).unwrap();
    }),
    ("sizes_around_the_padding", |tree| {
        fs::create_dir(tree).unwrap();
        for size in (0..=17).chain([4095, 4096, 4097, 65535, 65536, 65537]) {
            fs::write(tree.join(size.to_string()), vec![b'x'; size]).unwrap();
        }
    }),
    ("big_file", |tree| {
        let content: Vec<u8> = (0..=250_u8).cycle().take((1 << 20) + 3).collect();
        fs::write(tree, content).unwrap();
    }),
    ("many_files", |tree| {
        fs::create_dir(tree).unwrap();
        for number in 0..500 {
            fs::write(tree.join(format!("file-{number}")), number.to_string()).unwrap();
        }
    }),
];

fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, Permissions::from_mode(bits)).unwrap();
}

/// The three store paths in `store.tar`.
fn store_paths(golden: &Path) {
    let folder = tempfile::tempdir().unwrap();
    succeed(Command::new("tar").arg("-xf").arg(golden.join("store.tar")).arg("-C").arg(folder.path()));
    let hashes = fs::read_to_string(golden.join("nar/HASHES")).unwrap();
    let mut seen = 0;
    for line in hashes.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [sri, base32, name] = fields[..] else { panic!("{line}") };
        let path = folder.path().join(name);
        assert_eq!(nar_hash(&path), sri, "{name}");
        let document = succeed(quorate().args(["nar-hash", "-o", "json"]).arg(&path));
        let document: Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["narHash"], sri);
        assert_eq!(document["base32"], base32);
        seen += 1;
    }
    assert_eq!(seen, 3);
    // Store paths are read-only, which only root can remove as it is.
    succeed(Command::new("chmod").args(["-R", "u+w"]).arg(folder.path()));
}

/// What `nix build` of an image leaves as `result`.
fn image_json(golden: &Path) {
    for architecture in ["amd64", "arm64"] {
        let folder = golden.join(architecture);
        let expected = fs::read_to_string(folder.join("EXPECTED")).unwrap();
        let sri = expected.split_whitespace().next().unwrap();
        // A copy: the executable bit of the golden file is not part of it.
        let copy = tempfile::NamedTempFile::new().unwrap();
        fs::write(copy.path(), fs::read(folder.join("image.json")).unwrap()).unwrap();
        assert_eq!(nar_hash(copy.path()), sri, "{architecture}");
    }
}

/// The configurations that nix2container pushed for its image JSON.
fn configurations(golden: &Path) {
    for (architecture, system) in ARCHITECTURES {
        let folder = golden.join(architecture);
        let expected = fs::read_to_string(folder.join("EXPECTED")).unwrap();
        let [sri, _, config] = expected.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(image::digest(&fs::read(folder.join("config.json")).unwrap()), config);
        let result = tempfile::NamedTempFile::new().unwrap();
        fs::write(result.path(), fs::read(folder.join("image.json")).unwrap()).unwrap();
        let build = ["--builder", "garnix", "--system", system, "--commit", COMMIT, "--sequence", SEQUENCE];
        let printed = succeed(quorate().arg("predicate").args(build).arg("--result").arg(result.path()));
        let predicate: Value = serde_json::from_slice(&printed).unwrap();
        assert_eq!(predicate["configDigest"], config, "{architecture}");
        assert_eq!(predicate["narHash"], sri, "{architecture}");
    }
}

/// What quorate says.
fn nar_hash(path: &Path) -> String {
    line(succeed(quorate().arg("nar-hash").arg(path)))
}

/// What Nix says; `state` is where it may keep what it likes.
fn nix_hash(nix: &Path, path: &Path, state: &Path) -> String {
    let mut command = Command::new(nix);
    command.args(["--extra-experimental-features", "nix-command", "hash", "path"]).arg(path);
    line(succeed(command.env("HOME", state)))
}

fn line(stdout: Vec<u8>) -> String {
    String::from_utf8(stdout).unwrap().trim_end().to_owned()
}
