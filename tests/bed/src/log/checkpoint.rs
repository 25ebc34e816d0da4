//! Checkpoints: what a log signs, in the signed-note format.

use ed25519_dalek::pkcs8::EncodePublicKey;
use ed25519_dalek::{Signer as _, SigningKey};

use super::merkle::Hash;
use crate::{base64, sha256};

/// Marks Ed25519 in the key id of a signed note.
const ED25519: u8 = 1;
/// Marks Ed25519 for cosignatures in it.
const COSIGNATURE_V1: u8 = 4;

/// The key of a log, under the log's name.
pub(crate) struct Signer {
    origin: String,
    key: SigningKey,
}

impl Signer {
    pub(crate) fn generate(origin: String) -> Signer {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the system has randomness");
        Signer { origin, key: SigningKey::from_bytes(&seed) }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The whole hash of which a note carries the first four bytes; a trusted root names the log
    /// by it.
    pub(crate) fn key_id(&self) -> Hash {
        let key = self.key.verifying_key();
        sha256(&[self.origin.as_bytes(), b"\n", &[ED25519], &key.as_bytes()[..]].concat())
    }

    /// The public key as a DER `SubjectPublicKeyInfo`.
    pub(crate) fn public_key(&self) -> Vec<u8> {
        self.key.verifying_key().to_public_key_der().expect("an Ed25519 key has a DER form").into_vec()
    }

    /// The checkpoint of a tree of this size with this root.
    pub(crate) fn sign(&self, size: u64, root: &Hash) -> String {
        let body = format!("{}\n{size}\n{}\n", self.origin, base64(root));
        let signature = self.key.sign(body.as_bytes()).to_bytes();
        let signature = base64([&self.key_id()[..4], &signature].concat());
        format!("{body}\n\u{2014} {} {signature}\n", self.origin)
    }

    /// The verifier key of this signer as a witness: name, id and key (C2SP `signed-note`).
    pub(crate) fn witness_key(&self) -> String {
        let id = u32::from_be_bytes(self.witness_id());
        let key = [&[COSIGNATURE_V1], &self.key.verifying_key().as_bytes()[..]].concat();
        format!("{}+{id:08x}+{}", self.origin, base64(key))
    }

    /// The checkpoint with one more line: that this signer saw it at `time`, in seconds since 1970
    /// (C2SP `tlog-cosignature`).
    pub(crate) fn cosign(&self, checkpoint: &str, time: u64) -> String {
        let (body, _) = checkpoint.split_once("\n\n").expect("it is a signed note");
        let message = format!("cosignature/v1\ntime {time}\n{body}\n");
        let signature = self.key.sign(message.as_bytes()).to_bytes();
        let line = base64([&self.witness_id()[..], &time.to_be_bytes(), &signature].concat());
        format!("{checkpoint}\u{2014} {} {line}\n", self.origin)
    }

    fn witness_id(&self) -> [u8; 4] {
        let key = self.key.verifying_key();
        let whole = sha256(&[self.origin.as_bytes(), b"\n", &[COSIGNATURE_V1], &key.as_bytes()[..]].concat());
        [whole[0], whole[1], whole[2], whole[3]]
    }
}
