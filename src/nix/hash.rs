//! narHashes.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::base32;

/// The SHA-256 of a store path's NAR serialisation. Written as SRI, `sha256-<base64>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NarHash([u8; 32]);

/// A string is not a SHA-256 in a form that Nix prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a narHash: it must be `sha256-<base64>`, or the same hash as `sha256:` with hex or Nix base32"
)]
pub struct NarHashError(String);

impl NarHash {
    /// From the 32 bytes of the hash.
    pub fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// In Nix base32, as Nix names store paths.
    pub fn to_base32(&self) -> String {
        base32::encode(&self.0)
    }
}

impl FromStr for NarHash {
    type Err = NarHashError;

    /// Reads SRI, and hex or Nix base32 with or without `sha256:`.
    fn from_str(s: &str) -> Result<Self, NarHashError> {
        let bytes = if let Some(base64) = s.strip_prefix("sha256-") {
            STANDARD.decode(base64).ok()
        } else {
            let hash = s.strip_prefix("sha256:").unwrap_or(s);
            match hash.len() {
                64 => HEXLOWER_PERMISSIVE.decode(hash.as_bytes()).ok(),
                52 => base32::decode(hash),
                _ => None,
            }
        };
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| NarHashError(s.chars().take(100).collect()))
    }
}

impl fmt::Display for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256-{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::LowerHex for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl Serialize for NarHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NarHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_of_one_hash_are_equal() {
        let sri: NarHash = "sha256-5Kmxn6K2Of3Vf0mOI/23MKpcECZAhY2JlgKBj6vwylw=".parse().unwrap();
        for other in [
            "0p6ay2mqz082js4qv1a04q85raihnzyj73j9gzazsfdnlagv3ag4".to_owned(),
            "sha256:0p6ay2mqz082js4qv1a04q85raihnzyj73j9gzazsfdnlagv3ag4".to_owned(),
            format!("{sri:x}"),
            format!("{sri:x}").to_uppercase(),
            format!("sha256:{sri:x}"),
        ] {
            assert_eq!(other.parse::<NarHash>().unwrap(), sri, "{other}");
        }
        assert_eq!(sri.to_string(), "sha256-5Kmxn6K2Of3Vf0mOI/23MKpcECZAhY2JlgKBj6vwylw=");
        assert_eq!(sri.to_base32(), "0p6ay2mqz082js4qv1a04q85raihnzyj73j9gzazsfdnlagv3ag4");
    }

    #[test]
    fn what_is_not_a_sha256_is_refused() {
        for bad in [
            "",
            "sha256-",
            "sha256-AAAA",
            "sha512-AAAA",
            "sha1:aa",
            "sha256-5Kmxn6K2Of3Vf0mOI/23MKpcECZAhY2JlgKBj6vwylw",
        ] {
            assert!(bad.parse::<NarHash>().is_err(), "{bad}");
        }
    }
}
