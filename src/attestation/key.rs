//! Public keys of builders.

use std::fmt;

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use sigstore_types::DerPublicKey;

use crate::oci::Digest;

/// What a P-256 `SubjectPublicKeyInfo` with an uncompressed point begins with (RFC 5480).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The length of an uncompressed P-256 point (SEC 1, section 2.3.3).
const POINT: usize = 65;

/// An ECDSA P-256 public key. Equal keys are equal values, whatever file they came from: there
/// is one encoding, the DER of a `SubjectPublicKeyInfo` with an uncompressed point.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; POINT]);

/// Why a file is not a builder's public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// No PEM block.
    #[error("not PEM: a public key file begins with `-----BEGIN PUBLIC KEY-----`")]
    NotPem,
    /// A private key where a public one belongs.
    #[error("this is a private key; `quorate key public` prints the public one")]
    Private,
    /// Some other key or encoding.
    #[error("not an ECDSA P-256 public key with an uncompressed point")]
    Unsupported,
}

impl PublicKey {
    /// Reads a PEM `PUBLIC KEY` block (RFC 7468). Text around it and line ends do not matter.
    pub fn from_pem(text: &str) -> Result<Self, PublicKeyError> {
        if text.contains("PRIVATE KEY-----") {
            return Err(PublicKeyError::Private);
        }
        if !text.contains("-----BEGIN PUBLIC KEY-----") {
            return Err(PublicKeyError::NotPem);
        }
        let der = DerPublicKey::from_pem(text).map_err(|_| PublicKeyError::NotPem)?;
        let point = der.as_bytes().strip_prefix(&SPKI_PREFIX[..]).ok_or(PublicKeyError::Unsupported)?;
        Self::from_point(point)
    }

    /// From an uncompressed point: `0x04`, X, Y.
    pub fn from_point(point: &[u8]) -> Result<Self, PublicKeyError> {
        match <[u8; POINT]>::try_from(point) {
            Ok(point) if point[0] == 4 => Ok(Self(point)),
            _ => Err(PublicKeyError::Unsupported),
        }
    }

    /// The DER `SubjectPublicKeyInfo`.
    pub fn to_der(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.0[..]].concat()
    }

    /// The PEM block (RFC 7468), with line feeds alone, so that no tool that converts line ends
    /// changes the file.
    pub fn to_pem(&self) -> String {
        DerPublicKey::new(self.to_der()).to_pem().replace("\r\n", "\n").trim_end().to_owned() + "\n"
    }

    /// The SHA-256 of the DER encoding, by which a key is named in output.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.to_der())
    }

    /// Whether `signature` (ASN.1 DER) by this key covers `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.0[..]).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The P-256 generator, a valid point that everybody can look up (SEC 2, section 2.4.2).
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n-----END PUBLIC KEY-----\n";

    #[test]
    fn one_key_in_two_files_is_one_key() {
        let key = PublicKey::from_pem(PEM).unwrap();
        assert_eq!(PublicKey::from_pem(&PEM.replace('\n', "\r\n")).unwrap(), key);
        assert_eq!(PublicKey::from_pem(&key.to_pem()).unwrap(), key);
    }

    #[test]
    fn other_files_are_refused_by_name() {
        assert_eq!(PublicKey::from_pem(""), Err(PublicKeyError::NotPem));
        assert_eq!(PublicKey::from_pem(&PEM.replace("PUBLIC", "PRIVATE")), Err(PublicKeyError::Private));
        assert_eq!(PublicKey::from_pem(&PEM.replace("MFkw", "MFkx")), Err(PublicKeyError::Unsupported));
        assert_eq!(PublicKey::from_pem(&PEM.replace("QgAE", "QgAC")), Err(PublicKeyError::Unsupported));
        assert_eq!(PublicKey::from_point(&[4; 64]), Err(PublicKeyError::Unsupported));
    }
}
