//! The predicate `https://quorate.dev/predicates/build/v1` (page: `docs/predicates/build-v1.md`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nix::NarHash;
use crate::oci::json::Shape;
use crate::oci::{Digest, System};
use crate::text::is_hidden;

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
    /// What it says besides.
    pub remarks: Remarks,
}

/// What a build predicate may say besides. A policy can ask for it to be there, and nothing is
/// decided on what it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// When the build ended, as the builder says. Never used as time.
    pub built_at: Option<jiff::Timestamp>,
    /// The digest of `flake.lock`.
    pub flake_lock_hash: Option<String>,
    /// The digest of a list of the closure that was built.
    pub closure_manifest: Option<String>,
    /// The binary caches that the build could take from.
    pub substituters: Option<Vec<String>>,
    /// The run of the builder, such as the address of the CI job.
    pub invocation: Option<String>,
}

impl Build {
    /// The predicate, as it stands in a statement.
    ///
    /// # Errors
    /// When a text is empty, longer than 1024 bytes, or has control characters.
    pub fn to_predicate(&self) -> Result<serde_json::Value, String> {
        let Remarks { built_at: _, flake_lock_hash, closure_manifest, substituters, invocation } =
            &self.remarks;
        let texts = [
            ("flakeLockHash", flake_lock_hash),
            ("closureManifest", closure_manifest),
            ("invocation", invocation),
        ];
        all_printable(&texts)?;
        substituters.iter().flatten().try_for_each(|text| printable("substituters", text))?;
        let value = serde_json::to_value(Wire::from(self)).map_err(|error| error.to_string())?;
        let wire = Wire::deserialize(&value).map_err(|error| error.to_string())?;
        Self::try_from(wire)?;
        Ok(value)
    }
}

/// A string is not a commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a commit: it must be 40 or 64 lower-case hex digits")]
pub struct CommitError(String);

impl Commit {
    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Commit {
    type Err = CommitError;

    fn from_str(s: &str) -> Result<Self, CommitError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if matches!(s.len(), 40 | 64) && s.bytes().all(hex) {
            Ok(Self(s.to_owned()))
        } else {
            Err(CommitError(s.chars().take(100).collect()))
        }
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Commit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Commit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

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
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    source_uri: Option<String>,
    #[serde(default, deserialize_with = "present", rename = "ref", skip_serializing_if = "Option::is_none")]
    git_ref: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    built_at: Option<jiff::Timestamp>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    flake_lock_hash: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    closure_manifest: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    substituters: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    invocation: Option<String>,
    // Read for its type only.
    #[serde(default, deserialize_with = "present", skip_serializing)]
    #[allow(dead_code)]
    extensions: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Reads what may be left out and is there: `null` is another type, and absent for some readers alone.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[derive(Serialize, Deserialize)]
struct WireBuilder {
    id: String,
}

fn printable(name: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 1024 || text.chars().any(is_hidden) {
        return Err(format!("`{name}` is empty, too long, or has control characters"));
    }
    Ok(())
}

fn all_printable(texts: &[(&str, &Option<String>)]) -> Result<(), String> {
    texts.iter().try_for_each(|(name, text)| text.as_deref().map_or(Ok(()), |text| printable(name, text)))
}

impl TryFrom<Wire> for Build {
    type Error = String;

    fn try_from(wire: Wire) -> Result<Self, String> {
        printable("builder.id", &wire.builder.id)?;
        let texts = [("sourceUri", &wire.source_uri), ("ref", &wire.git_ref), ("target", &wire.target)];
        all_printable(&texts)?;
        Ok(Self {
            commit: wire.commit,
            system: wire
                .system
                .parse()
                .map_err(|error: crate::oci::platform::PlatformError| error.to_string())?,
            content: Content { nar_hash: wire.nar_hash, config_digest: wire.config_digest },
            builder: wire.builder.id,
            sequence: wire.sequence,
            source_uri: wire.source_uri,
            git_ref: wire.git_ref,
            target: wire.target,
            remarks: Remarks {
                built_at: wire.built_at,
                flake_lock_hash: wire.flake_lock_hash,
                closure_manifest: wire.closure_manifest,
                substituters: wire.substituters,
                invocation: wire.invocation,
            },
        })
    }
}

impl From<&Build> for Wire {
    fn from(build: &Build) -> Self {
        let remarks = build.remarks.clone();
        Self {
            commit: build.commit.clone(),
            system: build.system.to_string(),
            nar_hash: build.content.nar_hash,
            builder: WireBuilder { id: build.builder.clone() },
            config_digest: build.content.config_digest,
            sequence: build.sequence,
            source_uri: build.source_uri.clone(),
            git_ref: build.git_ref.clone(),
            target: build.target.clone(),
            built_at: remarks.built_at,
            flake_lock_hash: remarks.flake_lock_hash,
            closure_manifest: remarks.closure_manifest,
            substituters: remarks.substituters,
            invocation: remarks.invocation,
            extensions: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_commits_are_refused() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert!(commit.parse::<Commit>().is_ok());
        for bad in ["", "HEAD", &commit[1..], &commit.to_uppercase(), &format!("{commit}\n")] {
            assert!(bad.parse::<Commit>().is_err(), "{bad}");
        }
    }
}
