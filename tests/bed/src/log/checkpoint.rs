//! Checkpoints: what a log signs, in the signed-note format.

use ed25519_dalek::pkcs8::EncodePublicKey;
use ed25519_dalek::{Signer as _, SigningKey};

use super::merkle::Hash;
use crate::{base64, sha256};

/// Marks Ed25519 in the key id of a signed note.
const ED25519: u8 = 1;

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
}
