//! Private keys of signers: made, read, used to sign.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Kdf;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

use super::files;
use crate::attestation::PublicKey;
use crate::error::Error;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
const BEGIN_ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END_ENCRYPTED: &str = "-----END ENCRYPTED PRIVATE KEY-----";
/// The most work and memory that opening an encrypted key may take.
const MAX_ITERATIONS: u32 = 10_000_000;
const MAX_SCRYPT_BYTES: u64 = 256 << 20;
const MAX_SCRYPT_LANES: u16 = 16;

/// Where a private key, or another secret, is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file.
    File(PathBuf),
    /// In the environment variable of this name.
    Environment(String),
}

impl KeySource {
    /// Whether this is no place but a JSON web token, given by mistake.
    pub fn is_token(&self) -> bool {
        matches!(self, Self::File(path) if path.to_str().is_some_and(|text| {
            text.starts_with("eyJ") && text.matches('.').count() == 2
        }))
    }

    /// Whether this is no place but a private key, given by mistake.
    pub fn is_key(&self) -> bool {
        matches!(self, Self::File(path) if path.to_string_lossy().contains("-----BEGIN"))
    }

    /// What is kept there. No error shows a part of it.
    pub(super) fn read(&self) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::File(path) => String::from_utf8(files::read(path)?).map_err(|_| "it is not text".into()),
            Self::Environment(name) => {
                std::env::var(name).map_err(|_| format!("the variable `{name}` is not set").into())
            }
        }
    }
}

impl From<OsString> for KeySource {
    /// Reads `env:NAME`, and else a path.
    fn from(text: OsString) -> Self {
        match text.to_str().and_then(|text| text.strip_prefix("env:")) {
            Some(name) => Self::Environment(name.to_owned()),
            None => Self::File(text.into()),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Environment(name) => write!(f, "env:{name}"),
        }
    }
}

/// A key pair: ECDSA P-256, or Ed25519.
pub struct KeyPair {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl KeyPair {
    /// Makes a P-256 key, which every log takes; its PEM (PKCS#8) is returned beside it.
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

    /// Reads PEM with a PKCS#8 `PRIVATE KEY` block, or an `ENCRYPTED PRIVATE KEY` one (PBES2) whose
    /// passphrase the environment variable `passphrase` holds.
    ///
    /// # Errors
    /// When there is no such key, or it cannot be opened. No error shows a part of it.
    pub fn load(source: &KeySource, passphrase: &str) -> Result<Self, Error> {
        if source.is_key() {
            // It is not repeated: it is a secret.
            return Err(Error::request("`--key` was given the key itself")
                .hint("give the file that has it, or `env:NAME`"));
        }
        let text = source
            .read()
            .map_err(|error| Error::request(format!("cannot read the key `{source}`")).because(error))?;
        let refused = |why: &str| {
            Error::request(format!("the key `{source}` cannot be used: {why}"))
                .hint("`quorate key generate` makes one; `openssl pkcs8 -topk8` converts others")
        };
        let pkcs8 = if let Some(encrypted) = block(&text, BEGIN_ENCRYPTED, END_ENCRYPTED) {
            let secret = std::env::var(passphrase).ok().filter(|secret| !secret.is_empty());
            let secret = secret.ok_or_else(|| {
                Error::request(format!("the key `{source}` is encrypted, and `{passphrase}` is not set"))
                    .hint(
                        "put the passphrase into that variable, or name another: `--key-passphrase-env NAME`",
                    )
            })?;
            let der = encrypted.ok_or_else(|| refused("its base64 is broken"))?;
            open(&der, &secret).map_err(refused)?
        } else {
            block(&text, BEGIN, END)
                .ok_or_else(|| match text.as_str() {
                    text if text.contains("ENCRYPTED SIGSTORE PRIVATE KEY") => {
                        refused("it is encrypted in cosign's own way")
                    }
                    text if text.contains("BEGIN EC PRIVATE KEY-----") => refused("it is SEC 1, not PKCS#8"),
                    text if text.contains("BEGIN PUBLIC KEY-----") => refused("it is a public key"),
                    _ => refused("it has no `PRIVATE KEY` block"),
                })?
                .ok_or_else(|| refused("its base64 is broken"))?
        };
        Self::from_pkcs8(&pkcs8).ok_or_else(|| {
            refused("it is neither an ECDSA P-256 key with its public key inside, nor Ed25519")
        })
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new());
        if let Ok(pair) = p256 {
            let public = PublicKey::from_point(pair.public_key().as_ref()).ok()?;
            return Some(Self { pair: Pair::P256(pair), public });
        }
        // OpenSSL writes these keys without the public one, which follows from them.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()?;
        let public = PublicKey::from_ed25519(pair.public_key().as_ref()).ok()?;
        Some(Self { pair: Pair::Ed25519(pair), public })
    }

    /// The public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`, as [`PublicKey::verifies`] takes it.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.pair {
            Pair::P256(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| Error::undecided("cannot sign: the system's random source failed")),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// The bytes between two lines of PEM: `None` without the lines, `Some(None)` if they are no base64.
#[allow(clippy::option_option, reason = "each says another thing to the user")]
fn block(text: &str, begin: &str, end: &str) -> Option<Option<Vec<u8>>> {
    let (base64, _) = text.split_once(begin)?.1.split_once(end)?;
    let base64: String = base64.split_ascii_whitespace().collect();
    Some(STANDARD.decode(base64).ok())
}

/// Opens an encrypted key (PKCS#8, RFC 5958; PBES2, RFC 8018).
fn open(der: &[u8], passphrase: &str) -> Result<Vec<u8>, &'static str> {
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(der)
        .map_err(|_| "it is encrypted in a way that is not known: PBES2 is")?;
    let EncryptionScheme::Pbes2(scheme) = &encrypted.encryption_algorithm else {
        return Err("it is encrypted in a way that is not known: PBES2 is");
    };
    let modest = match &scheme.kdf {
        Kdf::Pbkdf2(work) => work.iteration_count <= MAX_ITERATIONS,
        Kdf::Scrypt(work) => {
            work.cost_parameter.saturating_mul(128 * u64::from(work.block_size)) <= MAX_SCRYPT_BYTES
                && work.parallelization <= MAX_SCRYPT_LANES
        }
        _ => false,
    };
    if !modest {
        return Err("opening it would take too much time or memory");
    }
    let opened = encrypted.decrypt(passphrase).map_err(|_| "the passphrase does not open it")?;
    Ok(opened.as_bytes().to_vec())
}
