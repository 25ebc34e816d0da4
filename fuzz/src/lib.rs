//! What is fuzzed: every parser that reads what a stranger wrote. Each target says whether it took
//! its input, and panics where something holds that must never hold.
//!
//! `tests/fuzz.rs` runs all of them on the seeds, with the toolchain of the project.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a finding is a panic")]

use std::sync::OnceLock;

use quorate::attestation::verify::verify;
use quorate::attestation::{Bundle, Identity, MaySign, Provenance, PublicKey, Statement, Trust};
use quorate::nix::archive::ArchiveReader;
use quorate::oci::layer::Programs;
use quorate::oci::{Config, Digest, ImageIndex, Manifest};
use quorate::policy::Policy;

const KEY: &str = include_str!("../data/builder.pub");
const TRUSTED_ROOT: &[u8] = include_bytes!("../data/trusted_root.json");
/// The statement of the seed `bundle/genuine.json`, as it was signed.
const SIGNED: &[u8] = include_bytes!("../data/statement.json");

fn believed() -> &'static (MaySign, Trust) {
    static BELIEVED: OnceLock<(MaySign, Trust)> = OnceLock::new();
    BELIEVED.get_or_init(|| {
        quorate::init().unwrap();
        (PublicKey::from_pem(KEY).unwrap().into(), Trust::from_json(TRUSTED_ROOT).unwrap())
    })
}

/// A bundle. Whatever is done to a genuine one, nothing is proven but what was signed.
pub fn bundle(bytes: &[u8]) -> bool {
    let (signer, trust) = believed();
    let Ok(bundle) = Bundle::parse(bytes) else { return false };
    let Ok(attestation) = verify(&bundle, [(signer, trust)]) else { return false };
    assert_eq!(attestation.payload(), Digest::of(SIGNED), "another statement is proven");
    assert_eq!(attestation.statement(), &Statement::parse(SIGNED).unwrap());
    true
}

/// The payload of an envelope. What is read is written and read as the same.
pub fn statement(bytes: &[u8]) -> bool {
    let Ok(statement) = Statement::parse(bytes) else { return false };
    let written = statement.to_payload().unwrap();
    assert_eq!(Statement::parse(&written).unwrap(), statement);
    true
}

/// The payload of an envelope of another type. It is about one manifest, made of one commit.
pub fn provenance(bytes: &[u8]) -> bool {
    let Ok(said) = Provenance::parse(bytes) else { return false };
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(Provenance::TYPES.contains(&said.predicate_type));
    assert!(!said.builder.is_empty() && !said.builder.contains(char::is_control), "{:?}", said.builder);
    // Where nothing is escaped, what it says is there as it was written.
    assert!(
        text.contains('\\') || text.contains(said.commit.as_str()) && text.contains(&said.manifest.hex())
    );
    true
}

/// What a certificate says of its holder.
pub fn certificate(bytes: &[u8]) -> bool {
    Identity::from_der(bytes).is_ok()
}

/// The image JSON of nix2container.
pub fn image_json(bytes: &[u8]) -> bool {
    quorate::nix::image::config(bytes).is_ok()
}

/// A docker archive. It is the same in whatever pieces it comes.
pub fn docker_archive(bytes: &[u8]) -> bool {
    in_pieces(bytes, |pieces| {
        let mut reader = ArchiveReader::default();
        pieces.iter().try_for_each(|piece| reader.take(piece)).ok()?;
        reader.finish().ok().map(|archived| archived.config.digest)
    })
}

/// A layer. It is the same in whatever pieces it comes.
pub fn layer(bytes: &[u8]) -> bool {
    in_pieces(bytes, |pieces| {
        let mut programs = Programs::default();
        pieces.iter().try_for_each(|piece| programs.take(piece)).ok()?;
        programs.finish().ok()
    })
}

fn in_pieces<T: PartialEq + std::fmt::Debug>(bytes: &[u8], read: impl Fn(&[&[u8]]) -> Option<T>) -> bool {
    let whole = read(&[bytes]);
    let (one, other) = bytes.split_at(bytes.len() / 3);
    assert_eq!(read(&[one, other]), whole);
    whole.is_some()
}

/// An image index. Its bytes are kept, and one that is put together of what it has is read back.
pub fn index(bytes: &[u8]) -> bool {
    let Ok(index) = ImageIndex::parse(bytes.to_vec()) else { return false };
    assert_eq!((index.bytes(), index.digest()), (bytes, Digest::of(bytes)));
    if let Ok(made) = ImageIndex::assemble(index.manifests, index.annotations) {
        let read = ImageIndex::parse(made.bytes().to_vec()).unwrap();
        assert_eq!(read.manifests, made.manifests);
    }
    true
}

/// A manifest. Its bytes are kept.
pub fn manifest(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::parse(bytes.to_vec()) else { return false };
    assert_eq!((manifest.bytes(), manifest.digest()), (bytes, Digest::of(bytes)));
    true
}

/// An image configuration.
pub fn config(bytes: &[u8]) -> bool {
    Config::parse(bytes).is_ok_and(|config| config.digest == Digest::of(bytes))
}

/// A policy; every file that it names holds a key of its own. No rule that is taken asks for more
/// voices than there are.
pub fn policy(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let key = |path: &str| {
        let key = PublicKey::from_ed25519(Digest::of(path.as_bytes()).as_bytes());
        key.map(|key| key.to_pem().into_bytes()).map_err(|error| error.to_string())
    };
    let Ok(policy) = Policy::parse(text, key) else { return false };
    for rule in policy.images() {
        let quorum = rule.bar(&quorate::policy::Purpose::Verify).quorum.get() as usize;
        assert!(quorum <= rule.voices, "{quorum} of {}", rule.voices);
    }
    true
}
