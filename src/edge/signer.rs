//! Private keys of builders: made, read, used to sign.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

use super::files;
use crate::attestation::PublicKey;
use crate::error::Error;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// An ECDSA P-256 key pair.
pub struct Signer {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

impl Signer {
    /// Makes a key; its PEM (PKCS#8) is returned beside it.
    pub fn generate() -> Result<(Self, String), Error> {
        let failed = || Error::undecided("cannot make a key: the system's random source failed");
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| failed())?;
        let signer = Self::from_pkcs8(pkcs8.as_ref()).ok_or_else(failed)?;
        let base64 = STANDARD.encode(pkcs8.as_ref());
        let lines: Vec<&str> =
            // base64 is ASCII, so every cut is a character.
            base64.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        Ok((signer, format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))))
    }

    /// Reads a PEM file with a PKCS#8 `PRIVATE KEY` block.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        let bytes = files::read(path)
            .map_err(|error| Error::request(format!("cannot read the key `{shown}`")).because(error))?;
        let refused = |why: &str| {
            Error::request(format!("the key `{shown}` cannot be used: {why}"))
                .hint("`quorate key generate` makes one; `openssl pkcs8 -topk8 -nocrypt` converts others")
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| refused("it is not PEM"))?;
        let base64: String = text
            .split_once(BEGIN)
            .and_then(|(_, rest)| rest.split_once(END))
            .map(|(base64, _)| base64.split_ascii_whitespace().collect())
            .ok_or_else(|| match text {
                _ if text.contains("ENCRYPTED PRIVATE KEY-----") => refused("it is encrypted"),
                _ if text.contains("BEGIN EC PRIVATE KEY-----") => refused("it is SEC 1, not PKCS#8"),
                _ if text.contains("BEGIN PUBLIC KEY-----") => refused("it is a public key"),
                _ => refused("it has no `PRIVATE KEY` block"),
            })?;
        let pkcs8 = STANDARD.decode(base64).map_err(|_| refused("its base64 is broken"))?;
        Self::from_pkcs8(&pkcs8)
            .ok_or_else(|| refused("it is not an ECDSA P-256 key with its public key inside"))
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new()).ok()?;
        let public = PublicKey::from_point(pair.public_key().as_ref()).ok()?;
        Some(Self { pair, public })
    }

    /// The public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`; the signature is ASN.1 DER.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.pair
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| Error::undecided("cannot sign: the system's random source failed"))
    }
}
