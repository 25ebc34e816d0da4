//! The predicate `https://quorate.dev/predicates/build/v1` (page: `docs/predicates/build-v1.md`).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nix;
use crate::oci::json::Shape;
use crate::oci::{Digest, System};

/// The predicate type of a build statement.
pub const BUILD_V1: &str = "https://quorate.dev/predicates/build/v1";
/// The predicate type of a dissent statement.
pub const DISSENT_V1: &str = "https://quorate.dev/predicates/dissent/v1";

const BUILDER: Shape = Shape::Closed(&[("id", Shape::Any)]);

/// The keys of a build predicate.
pub(super) const BUILD_SHAPE: Shape = Shape::Closed(&[
    ("commit", Shape::Any),
    ("system", Shape::Any),
    ("narHash", Shape::Any),
    ("builder", BUILDER),
    ("configDigest", Shape::Any),
    ("sequence", Shape::Any),
    ("sourceUri", Shape::Any),
    ("ref", Shape::Any),
    ("target", Shape::Any),
    ("flakeLockHash", Shape::Any),
    ("closureManifest", Shape::Any),
    ("substituters", Shape::Any),
    ("builtAt", Shape::Any),
    ("invocation", Shape::Any),
    ("extensions", Shape::Any),
]);

/// A git commit: 40 (SHA-1) or 64 (SHA-256) lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit(String);

/// The SHA-256 of a store path's NAR serialisation. Written as SRI, `sha256-<base64>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NarHash([u8; 32]);

/// What a builder got: the two hashes on which builders must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    /// The narHash of the built image's store path.
    pub nar_hash: NarHash,
    /// The digest of the OCI configuration that the builder computed from its own build.
    pub config_digest: Digest,
}

/// A build predicate. Every field is checked; optional ones are as the page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The commit that was built.
    pub commit: Commit,
    /// The Nix system it was built for.
    pub system: System,
    /// What came out.
    pub content: Content,
    /// The builder's name in the policy, as it claims.
    pub builder: String,
    /// The release order within a channel.
    pub sequence: u64,
    /// The repository that was built.
    pub source_uri: Option<String>,
    /// The git ref that was built.
    pub git_ref: Option<String>,
    /// The flake attribute that was built.
    pub target: Option<String>,
    /// When the build ended, as the builder says. Never used as time.
    pub built_at: Option<jiff::Timestamp>,
}

/// A field of the predicate that cannot be what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Not a commit.
    #[error("`{0}` is not a commit: it must be 40 or 64 lower-case hex digits")]
    Commit(String),
    /// Not a SHA-256 in a form that Nix prints.
    #[error(
        "`{0}` is not a narHash: it must be `sha256-<base64>`, or the same hash as `sha256:` with hex or Nix base32"
    )]
    NarHash(String),
}

impl Commit {
    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Commit {
    type Err = FieldError;

    fn from_str(s: &str) -> Result<Self, FieldError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if matches!(s.len(), 40 | 64) && s.bytes().all(hex) {
            Ok(Self(s.to_owned()))
        } else {
            Err(FieldError::Commit(s.chars().take(100).collect()))
        }
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl NarHash {
    /// From the 32 bytes of the hash.
    pub fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl FromStr for NarHash {
    type Err = FieldError;

    /// Reads SRI, and hex or Nix base32 with or without `sha256:`.
    fn from_str(s: &str) -> Result<Self, FieldError> {
        let bytes = if let Some(base64) = s.strip_prefix("sha256-") {
            STANDARD.decode(base64).ok()
        } else {
            let hash = s.strip_prefix("sha256:").unwrap_or(s);
            match hash.len() {
                64 => HEXLOWER_PERMISSIVE.decode(hash.as_bytes()).ok(),
                52 => nix::base32::decode(hash),
                _ => None,
            }
        };
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| FieldError::NarHash(s.chars().take(100).collect()))
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

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(Commit, NarHash);

/// A build predicate as it is written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire {
    commit: Commit,
    system: String,
    nar_hash: NarHash,
    builder: WireBuilder,
    config_digest: Digest,
    sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_uri: Option<String>,
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    git_ref: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    built_at: Option<jiff::Timestamp>,
    // Read for their types only: nothing is decided on them.
    #[serde(default, skip_serializing)]
    #[allow(dead_code)]
    flake_lock_hash: Option<String>,
    #[serde(default, skip_serializing)]
    #[allow(dead_code)]
    closure_manifest: Option<String>,
    #[serde(default, skip_serializing)]
    #[allow(dead_code)]
    substituters: Option<Vec<String>>,
    #[serde(default, skip_serializing)]
    #[allow(dead_code)]
    invocation: Option<String>,
    #[serde(default, skip_serializing)]
    #[allow(dead_code)]
    extensions: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Serialize, Deserialize)]
struct WireBuilder {
    id: String,
}

impl TryFrom<Wire> for Build {
    type Error = String;

    fn try_from(wire: Wire) -> Result<Self, String> {
        let printable = |name: &str, text: Option<String>| match text {
            Some(text)
                if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) =>
            {
                Err(format!(
                    "`{name}` is empty, too long, or has control characters"
                ))
            }
            text => Ok(text),
        };
        let builder = printable("builder.id", Some(wire.builder.id))?.unwrap_or_default();
        Ok(Self {
            commit: wire.commit,
            system: wire
                .system
                .parse()
                .map_err(|error: crate::oci::platform::PlatformError| error.to_string())?,
            content: Content {
                nar_hash: wire.nar_hash,
                config_digest: wire.config_digest,
            },
            builder,
            sequence: wire.sequence,
            source_uri: printable("sourceUri", wire.source_uri)?,
            git_ref: printable("ref", wire.git_ref)?,
            target: printable("target", wire.target)?,
            built_at: wire.built_at,
        })
    }
}

impl From<&Build> for Wire {
    fn from(build: &Build) -> Self {
        Self {
            commit: build.commit.clone(),
            system: build.system.to_string(),
            nar_hash: build.content.nar_hash,
            builder: WireBuilder {
                id: build.builder.clone(),
            },
            config_digest: build.content.config_digest,
            sequence: build.sequence,
            source_uri: build.source_uri.clone(),
            git_ref: build.git_ref.clone(),
            target: build.target.clone(),
            built_at: build.built_at,
            flake_lock_hash: None,
            closure_manifest: None,
            substituters: None,
            invocation: None,
            extensions: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_of_one_hash_are_equal() {
        // From the golden data: SRI, Nix base32 and hex of one store path.
        let sri: NarHash = "sha256-5Kmxn6K2Of3Vf0mOI/23MKpcECZAhY2JlgKBj6vwylw="
            .parse()
            .unwrap();
        for other in [
            "0p6ay2mqz082js4qv1a04q85raihnzyj73j9gzazsfdnlagv3ag4".to_owned(),
            "sha256:0p6ay2mqz082js4qv1a04q85raihnzyj73j9gzazsfdnlagv3ag4".to_owned(),
            format!("{sri:x}"),
            format!("sha256:{sri:x}")
                .to_uppercase()
                .replace("SHA256", "sha256"),
        ] {
            assert_eq!(other.parse::<NarHash>().unwrap(), sri, "{other}");
        }
        assert_eq!(
            sri.to_string(),
            "sha256-5Kmxn6K2Of3Vf0mOI/23MKpcECZAhY2JlgKBj6vwylw="
        );
    }

    #[test]
    fn malformed_hashes_and_commits_are_refused() {
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
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert!(commit.parse::<Commit>().is_ok());
        for bad in [
            "",
            "HEAD",
            &commit[1..],
            &commit.to_uppercase(),
            &format!("{commit}\n"),
        ] {
            assert!(bad.parse::<Commit>().is_err(), "{bad}");
        }
    }
}
