//! narHash against another implementation of the NAR format, on generated trees.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use proptest::prelude::*;
use quorate::edge::tree::nar_hash;
use quorate::nix::NarHash;
use quorate::oci::Digest;

/// A tree as it is to be made.
#[derive(Debug, Clone)]
enum Node {
    File { content: Vec<u8>, executable: bool },
    Link(String),
    Directory(Vec<(String, Node)>),
}

fn name() -> impl Strategy<Value = String> {
    // Names whose order differs between bytes and letters, and odd ones.
    prop_oneof!["[a-zA-Z0-9._-]{1,12}", "[~äßé ()+]{1,6}"].prop_filter("a name", |n| n != "." && n != "..")
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        (prop::collection::vec(any::<u8>(), 0..40), any::<bool>())
            .prop_map(|(content, executable)| Node::File { content, executable }),
        "[a-z/.]{1,20}".prop_map(Node::Link),
        Just(Node::Directory(Vec::new())),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop::collection::btree_map(name(), inner, 0..6)
            .prop_map(|entries| Node::Directory(entries.into_iter().collect()))
    })
}

fn make(path: &Path, node: &Node) {
    match node {
        Node::File { content, executable } => {
            fs::write(path, content).unwrap();
            let mode = if *executable { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Node::Link(target) => symlink(target, path).unwrap(),
        Node::Directory(entries) => {
            fs::create_dir(path).unwrap();
            for (name, node) in entries {
                make(&path.join(name), node);
            }
        }
    }
}

/// The hash of what the other implementation writes.
fn by_the_other(path: &Path) -> NarHash {
    let mut nar = nix_nar::Encoder::new(path).unwrap();
    let mut bytes = Vec::new();
    std::io::copy(&mut nar, &mut bytes).unwrap();
    NarHash::from_bytes(*Digest::of(&bytes).as_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_implementations_agree(node in node()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tree");
        make(&path, &node);
        prop_assert_eq!(nar_hash(&path).unwrap(), by_the_other(&path));
    }
}

#[test]
fn padding_is_right_around_eight() {
    let folder = tempfile::tempdir().unwrap();
    for length in [0, 1, 7, 8, 9, 15, 16, 17, (1 << 18) - 1, 1 << 18, (1 << 18) + 1] {
        let path = folder.path().join(length.to_string());
        fs::write(&path, vec![7; length]).unwrap();
        assert_eq!(nar_hash(&path).unwrap(), by_the_other(&path), "{length} bytes");
    }
}

#[test]
fn what_nix_cannot_hold_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(nar_hash(&socket).unwrap_err().to_string().contains("neither a file"));
    assert!(nar_hash(&folder.path().join("absent")).unwrap_err().to_string().contains("absent"));
}

#[test]
fn names_that_are_not_utf8_are_hashed_by_their_bytes() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for name in [&b"\xff\xfe"[..], b"\x80", b"z", "ä".as_bytes()] {
        fs::write(tree.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    // As `nix-store --dump | sha256sum` of Nix 2.8 has it; layer 1 asks Nix itself.
    assert_eq!(nar_hash(&tree).unwrap().to_string(), "sha256-rPiJNffRtwZ69r6C2KJM/HnJPS8CPBS0KHeYtHKb/F0=");
}
