//! Proofs of logs, on ring: the public vectors of transparency-dev/merkle (RFC 6962, section 2.1),
//! which the crate `sigstore-merkle` carries along.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sigstore_merkle::{verify_consistency_proof, verify_inclusion_proof};
use sigstore_types::Sha256Hash;

/// The one case that is judged otherwise: any tree grew from the empty one, and the crate takes
/// that without a proof. quorate asks for no proof of growth.
const FROM_EMPTY: &str = "size1 is zero and does not equal size2";

#[test]
fn proofs_hold_where_the_vectors_say_so() {
    quorate::init().unwrap();
    let vectors = vectors();
    let inclusion = judge(&vectors.join("inclusion"), |case| {
        let leaf = hash(&case["leafHash"])?;
        let (index, size) = (case["leafIdx"].as_u64()?, case["treeSize"].as_u64()?);
        verify_inclusion_proof(&leaf, index, size, &proof(case)?, &hash(&case["root"])?).ok()
    });
    let consistency = judge(&vectors.join("consistency"), |case| {
        let (old, new) = (case["size1"].as_u64()?, case["size2"].as_u64()?);
        let (from, to) = (hash(&case["root1"])?, hash(&case["root2"])?);
        verify_consistency_proof(old, new, &proof(case)?, &from, &to).ok()
    });
    assert_eq!((inclusion, consistency), ([6, 92], [8, 89]), "those that hold, and those that do not");
}

/// How many cases hold, and how many do not, each as it should.
fn judge(folder: &Path, holds: impl Fn(&Value) -> Option<()>) -> [usize; 2] {
    let mut count = [0, 0];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let case: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let refused = case["wantErr"].as_bool().unwrap() && case["desc"] != FROM_EMPTY;
            count[usize::from(refused)] += 1;
            assert_eq!(holds(&case).is_none(), refused, "{}: {}", path.display(), case["desc"]);
        }
    }
    count
}

fn proof(case: &Value) -> Option<Vec<Sha256Hash>> {
    case["proof"].as_array().map_or(Some(Vec::new()), |proof| proof.iter().map(hash).collect())
}

/// A hash; `don't care 1` and the like stand for any, as long as they differ.
fn hash(value: &Value) -> Option<Sha256Hash> {
    let text = value.as_str()?;
    let any = |bytes: Vec<u8>| bytes.starts_with(b"don't care").then(|| sigstore_crypto::sha256(&bytes));
    Sha256Hash::from_base64(text).ok().or_else(|| STANDARD.decode(text).ok().and_then(any))
}

/// The vectors, where cargo unpacked the crate.
fn vectors() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let merkle = packages.iter().find(|package| package["name"] == "sigstore-merkle").unwrap();
    Path::new(merkle["manifest_path"].as_str().unwrap()).with_file_name("test-data/merkle/testdata")
}
