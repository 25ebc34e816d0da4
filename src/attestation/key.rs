//! Public keys of builders.

use std::fmt;

use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use sigstore_crypto::KeyAlgorithm;
use sigstore_types::DerPublicKey;

use super::curve;
use crate::oci::Digest;

/// What a P-256 `SubjectPublicKeyInfo` with an uncompressed point begins with (RFC 5480).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// What an Ed25519 `SubjectPublicKeyInfo` begins with (RFC 8410).
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The length of an uncompressed P-256 point (SEC 1, section 2.3.3).
const P256_POINT: usize = 65;
/// The length of an encoded Ed25519 point (RFC 8032, section 5.1.2).
const ED25519_POINT: usize = 32;

/// The public key of a builder: ECDSA P-256 or Ed25519. Equal keys are equal values, whatever file
/// they came from: of each there is one encoding, the DER of a `SubjectPublicKeyInfo`, of P-256 with
/// an uncompressed point.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(Point);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Point {
    P256([u8; P256_POINT]),
    Ed25519([u8; ED25519_POINT]),
}

/// Why a file is not a builder's public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// No PEM block.
    #[error("not PEM: a public key file begins with `-----BEGIN PUBLIC KEY-----`")]
    NotPem,
    /// More than one PEM block, of which a reader would see one.
    #[error("more than one PEM block: a file holds one public key")]
    Several,
    /// A private key where a public one belongs.
    #[error("this is a private key; `quorate key public` prints the public one")]
    Private,
    /// Some other key or encoding.
    #[error("neither an ECDSA P-256 public key with an uncompressed point, nor an Ed25519 one")]
    Unsupported,
    /// A P-256 point that is not on the curve, as of a file that was damaged.
    #[error("an ECDSA P-256 public key whose point is not on the curve: no key pair has it")]
    OffCurve,
    /// An Ed25519 point under which anybody can sign, or a second encoding of another.
    #[error("an Ed25519 public key of small order, or not in its one encoding: no key pair has it")]
    Weak,
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
        if text.matches("-----BEGIN ").count() > 1 {
            return Err(PublicKeyError::Several);
        }
        let der = DerPublicKey::from_pem(text).map_err(|_| PublicKeyError::NotPem)?;
        if let Some(point) = der.as_bytes().strip_prefix(&P256_PREFIX[..]) {
            return Self::from_point(point);
        }
        Self::from_ed25519(der.as_bytes().strip_prefix(&ED25519_PREFIX[..]).unwrap_or_default())
    }

    /// A P-256 key from an uncompressed point: `0x04`, X, Y.
    pub fn from_point(point: &[u8]) -> Result<Self, PublicKeyError> {
        match (<[u8; P256_POINT]>::try_from(point), point) {
            (Ok(whole), [4, coordinates @ ..]) => {
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                if curve::has(x, y) { Ok(Self(Point::P256(whole))) } else { Err(PublicKeyError::OffCurve) }
            }
            _ => Err(PublicKeyError::Unsupported),
        }
    }

    /// An Ed25519 key from its 32 bytes.
    ///
    /// ring takes any point of the curve. Under one of small order everybody can make signatures
    /// that hold, and a number above the field's is a second encoding: neither is taken here.
    pub fn from_ed25519(point: &[u8]) -> Result<Self, PublicKeyError> {
        let point = <[u8; ED25519_POINT]>::try_from(point).map_err(|_| PublicKeyError::Unsupported)?;
        if is_weak(point) { Err(PublicKeyError::Weak) } else { Ok(Self(Point::Ed25519(point))) }
    }

    /// What kind of key it is.
    pub fn algorithm(&self) -> KeyAlgorithm {
        match self.0 {
            Point::P256(_) => KeyAlgorithm::EcdsaP256,
            Point::Ed25519(_) => KeyAlgorithm::Ed25519,
        }
    }

    /// The DER `SubjectPublicKeyInfo`.
    pub fn to_der(&self) -> Vec<u8> {
        match &self.0 {
            Point::P256(point) => [&P256_PREFIX[..], point].concat(),
            Point::Ed25519(point) => [&ED25519_PREFIX[..], point].concat(),
        }
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

    /// Whether `signature` by this key covers `message`: of P-256 ASN.1 DER over its SHA-256, of
    /// Ed25519 the 64 bytes of RFC 8032.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Point::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature)
            }
            Point::Ed25519(point) => UnparsedPublicKey::new(&ED25519, point).verify(message, signature),
        }
        .is_ok()
    }
}

/// Whether the number that encodes an Ed25519 point is not below 2^255 - 19, or is that of one of
/// the eight points whose order divides 8. The top bit, the sign of the other coordinate, makes no
/// difference to either.
fn is_weak(mut point: [u8; ED25519_POINT]) -> bool {
    point[ED25519_POINT - 1] &= 0x7f;
    // From the highest byte on, as numbers are compared.
    point.reverse();
    point >= FIELD_LESS_ONE || SMALL_ORDER.contains(&point)
}

/// 2^255 - 20: less one in the field, and the point of order 2. The highest byte first.
const FIELD_LESS_ONE: [u8; ED25519_POINT] = {
    let mut bytes = [0xff; ED25519_POINT];
    bytes[0] = 0x7f;
    bytes[ED25519_POINT - 1] = 0xec;
    bytes
};
/// The other points of small order: of order 4, of order 1, and the two of order 8.
const SMALL_ORDER: [[u8; ED25519_POINT]; 4] = [
    [0; ED25519_POINT],
    {
        let mut one = [0; ED25519_POINT];
        one[ED25519_POINT - 1] = 1;
        one
    },
    [
        0x7a, 0x03, 0xac, 0x92, 0x77, 0xfd, 0xc7, 0x4e, 0xc6, 0xcc, 0x39, 0x2c, 0xfa, 0x53, 0x20, 0x2a, 0x0f,
        0x67, 0x10, 0x0d, 0x76, 0x0b, 0x3c, 0xba, 0x4f, 0xd8, 0x4d, 0x3d, 0x70, 0x6a, 0x17, 0xc7,
    ],
    [
        0x05, 0xfc, 0x53, 0x6d, 0x88, 0x02, 0x38, 0xb1, 0x39, 0x33, 0xc6, 0xd3, 0x05, 0xac, 0xdf, 0xd5, 0xf0,
        0x98, 0xef, 0xf2, 0x89, 0xf4, 0xc3, 0x45, 0xb0, 0x27, 0xb2, 0xc2, 0x8f, 0x95, 0xe8, 0x26,
    ],
];

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
        assert!(PublicKey::from_pem(&format!("of garnix\n{PEM}")).is_ok());
        assert_eq!(PublicKey::from_pem(&format!("{PEM}\n{ED25519_PEM}")), Err(PublicKeyError::Several));
        assert_eq!(PublicKey::from_pem(""), Err(PublicKeyError::NotPem));
        assert_eq!(PublicKey::from_pem(&PEM.replace("PUBLIC", "PRIVATE")), Err(PublicKeyError::Private));
        assert_eq!(PublicKey::from_pem(&PEM.replace("MFkw", "MFkx")), Err(PublicKeyError::Unsupported));
        assert_eq!(PublicKey::from_pem(&PEM.replace("QgAE", "QgAC")), Err(PublicKeyError::Unsupported));
        assert_eq!(PublicKey::from_point(&[4; 64]), Err(PublicKeyError::Unsupported));
    }

    #[test]
    fn a_p256_point_must_be_on_the_curve() {
        let generator = PublicKey::from_pem(PEM).unwrap().to_der()[P256_PREFIX.len()..].to_vec();
        assert!(PublicKey::from_point(&generator).is_ok());
        for at in 1..P256_POINT {
            let mut damaged = generator.clone();
            damaged[at] ^= 1;
            assert_eq!(PublicKey::from_point(&damaged), Err(PublicKeyError::OffCurve), "byte {at}");
        }
        assert_eq!(PublicKey::from_pem(&PEM.replace("9Q==", "9A==")), Err(PublicKeyError::OffCurve));
        // The point with x = 5, and the same with the field's prime added to it: a second encoding.
        let y = "459243b9aa581806fe913bce99817ade11ca503c64d9a3c533415c083248fbcc";
        let five = "0000000000000000000000000000000000000000000000000000000000000005";
        let again = "ffffffff00000001000000000000000000000001000000000000000000000004";
        for (x, expected) in [(five, Ok(())), (again, Err(PublicKeyError::OffCurve))] {
            let point = data_encoding::HEXLOWER.decode(format!("04{x}{y}").as_bytes()).unwrap();
            assert_eq!(PublicKey::from_point(&point).map(drop), expected, "{x}");
        }
        for ends in [[0; 32], [0xff; 32]] {
            let point = [&[4], &ends[..], &ends].concat();
            assert_eq!(PublicKey::from_point(&point), Err(PublicKeyError::OffCurve));
        }
    }

    /// The key of RFC 8410, section 10.1.
    const ED25519_PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn an_ed25519_key_is_another_kind_of_key() {
        let key = PublicKey::from_pem(ED25519_PEM).unwrap();
        assert_eq!(key.algorithm(), KeyAlgorithm::Ed25519);
        assert_eq!(key.to_pem(), ED25519_PEM);
        assert_eq!(PublicKey::from_ed25519(&key.to_der()[12..]), Ok(key));
        for (was, is) in [("MCow", "MCox"), ("K2Vw", "K2Vx"), ("AyEA", "AyEB")] {
            let other = PublicKey::from_pem(&ED25519_PEM.replace(was, is));
            assert_eq!(other, Err(PublicKeyError::Unsupported), "{is}");
        }
        assert_eq!(PublicKey::from_ed25519(&[9; 31]), Err(PublicKeyError::Unsupported));
        assert_eq!(PublicKey::from_ed25519(&[9; 33]), Err(PublicKeyError::Unsupported));
    }

    /// All points of small order with both signs, and numbers that the field does not have.
    #[test]
    fn ed25519_points_that_are_nobodys_key_are_refused() {
        let mut weak: Vec<[u8; 32]> = SMALL_ORDER.to_vec();
        weak.push(FIELD_LESS_ONE);
        let field_and = |more: u8| {
            let mut bytes = FIELD_LESS_ONE;
            bytes[31] += 1 + more;
            bytes
        };
        weak.extend((0..19).map(field_and));
        for mut point in weak {
            point.reverse();
            for sign in [0, 0x80] {
                point[31] |= sign;
                assert_eq!(PublicKey::from_ed25519(&point), Err(PublicKeyError::Weak), "{point:02x?}");
            }
        }
        let mut last = FIELD_LESS_ONE;
        last[31] -= 1;
        last.reverse();
        assert!(PublicKey::from_ed25519(&last).is_ok());
    }

    /// What they are refused for: with R the base point (RFC 8032, section 5.1) and S one, a signature
    /// holds for every message that hashes to a multiple of the order, at most 8.
    #[test]
    fn under_each_of_them_anybody_could_sign() {
        let mut signature = [0; 64];
        signature[..32].fill(0x66);
        (signature[0], signature[32]) = (0x58, 1);
        for mut point in SMALL_ORDER.into_iter().chain([FIELD_LESS_ONE]) {
            point.reverse();
            let taken = PublicKey(Point::Ed25519(point));
            assert!((0..200_u8).any(|n| taken.verifies(&[n], &signature)), "{point:02x?}");
        }
        let sound = PublicKey::from_pem(ED25519_PEM).unwrap();
        assert!(!(0..200_u8).any(|n| sound.verifies(&[n], &signature)));
    }
}
