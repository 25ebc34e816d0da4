//! Image references (distribution-spec, "Pulling manifests"), written out in full.
//!
//! Nothing is defaulted: no host, no `latest`. That is what a gate needs, and narrower than what
//! Docker's tools accept.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use super::Digest;

/// A repository on a named registry, such as `ghcr.io/acme/app`.
///
/// The host is lower-case, without the default port; the names of Docker Hub become `docker.io`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    host: String,
    path: String,
}

/// A tag: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// What a reference points at inside its repository.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A name that can move.
    Tag(Tag),
    /// The content itself.
    Digest(Digest),
}

/// A repository with a tag or a digest. `repo:tag@digest` is read as `repo@digest`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Where.
    pub repository: Repository,
    /// What.
    pub target: Target,
}

/// Why a string is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The first part names no registry.
    #[error("`{0}` names no registry host: write it out, for example `ghcr.io/acme/app:1.4.2`")]
    NoHost(String),
    /// The host has characters or a port that no host has.
    #[error("`{0}` is not a registry host")]
    Host(String),
    /// The path is not a repository name.
    #[error(
        "`{0}` is not a repository name: lower-case letters, digits and single separators (`.`, `_`, `__`, `-`), parts divided by `/`, 255 characters at most"
    )]
    Path(String),
    /// Neither a tag nor a digest follows.
    #[error("`{0}` has no tag or digest: write it out, for example `{0}:1.4.2`; `latest` is never assumed")]
    NoTarget(String),
    /// The tag has other characters, or is too long.
    #[error("`{0}` is not a tag: it must match [A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}")]
    Tag(String),
    /// The digest is not one.
    #[error(transparent)]
    Digest(#[from] super::digest::DigestError),
}

/// At most this many characters of the input are repeated in an error.
fn shown(s: &str) -> String {
    s.chars().take(200).collect()
}

impl Repository {
    /// The registry's host, with a port if it is not the default one.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository's name below the host.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// This repository at `tag`.
    pub fn at_tag(&self, tag: Tag) -> Reference {
        Reference { repository: self.clone(), target: Target::Tag(tag) }
    }

    /// This repository at `digest`.
    pub fn at_digest(&self, digest: Digest) -> Reference {
        Reference { repository: self.clone(), target: Target::Digest(digest) }
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(s: &str) -> Result<Self, ReferenceError> {
        let (host, path) = s.split_once('/').ok_or_else(|| ReferenceError::NoHost(shown(s)))?;
        let host = normal_host(host).ok_or_else(|| {
            if host.contains(['.', ':']) {
                ReferenceError::Host(shown(host))
            } else {
                ReferenceError::NoHost(shown(s))
            }
        })?;
        let path = if host == "docker.io" && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if path.len() > 255 || !path.split('/').all(is_path_component) {
            return Err(ReferenceError::Path(shown(&path)));
        }
        Ok(Self { host, path })
    }
}

/// Lower case, an IPv6 address in its one form (RFC 5952), default port dropped, Docker Hub's names
/// made one; `None` if it is not a host.
fn normal_host(s: &str) -> Option<String> {
    let s = s.to_ascii_lowercase();
    let (name, port) = match s.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            let address = address.parse::<Ipv6Addr>().ok()?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':')?),
            };
            (format!("[{address}]"), port)
        }
        None => match s.split_once(':') {
            Some((name, port)) => (name.to_owned(), Some(port)),
            None => (s.clone(), None),
        },
    };
    if let Some(port) = port
        && (port.is_empty()
            || !port.bytes().all(|b| b.is_ascii_digit())
            || port.starts_with('0')
            || port.parse::<u16>().is_err())
    {
        return None;
    }
    if !name.starts_with('[') {
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !name.split('.').all(label) || name.len() > 253 {
            return None;
        }
        // URLs take a host that ends in a number for an IPv4 address, in many spellings: one is enough.
        let last = name.rsplit('.').next().unwrap_or_default();
        let number = last.strip_prefix("0x").map_or_else(
            || last.bytes().all(|b| b.is_ascii_digit()),
            |hex| hex.bytes().all(|b| b.is_ascii_hexdigit()),
        );
        if number && name.parse::<Ipv4Addr>().is_err() {
            return None;
        }
        // `acme/app` is a path, not a host: only these forms can be one.
        if !name.contains('.') && port.is_none() && name != "localhost" {
            return None;
        }
    }
    let name = match name.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => name,
    };
    // This machine is asked over plain http, of which 443 is not the default port.
    let is_default = |port: &str| port == "443" && !is_loopback(&name);
    Some(match port.filter(|port| !is_default(port)) {
        None => name,
        Some(port) => format!("{name}:{port}"),
    })
}

/// Whether a host without its port is this machine.
fn is_loopback(name: &str) -> bool {
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` of the distribution specification.
fn is_path_component(s: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = s.as_bytes();
    if !bytes.first().copied().is_some_and(word) || !bytes.last().copied().is_some_and(word) {
        return false;
    }
    bytes
        .split(|b| word(*b))
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(s: &str) -> Result<Self, ReferenceError> {
        let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let rest = |b: u8| first(b) || b == b'.' || b == b'-';
        let bytes = s.as_bytes();
        if bytes.len() <= 128 && bytes.first().copied().is_some_and(first) && bytes.iter().copied().all(rest)
        {
            Ok(Self(s.to_owned()))
        } else {
            Err(ReferenceError::Tag(shown(s)))
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(s: &str) -> Result<Self, ReferenceError> {
        let (name, digest) = match s.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>()?)),
            None => (s, None),
        };
        // A colon after the last slash divides a tag; one before it, a port.
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') && repository.contains('/') => {
                (repository, Some(tag.parse::<Tag>()?))
            }
            _ => (name, None),
        };
        let repository: Repository = repository.parse()?;
        let target = match (digest, tag) {
            (Some(digest), _) => Target::Digest(digest),
            (None, Some(tag)) => Target::Tag(tag),
            (None, None) => return Err(ReferenceError::NoTarget(shown(s))),
        };
        Ok(Self { repository, target })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Target {
    /// As it stands in `/v2/<name>/manifests/<target>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            Target::Digest(digest) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

macro_rules! debug_as_display {
    ($($type:ty),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
debug_as_display!(Repository, Tag, Target, Reference);

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(s: &str) -> String {
        s.parse::<Reference>().map_or_else(|e| format!("error: {e}"), |r| r.to_string())
    }

    #[test]
    fn names_are_normalised_once() {
        for (written, read) in [
            ("ghcr.io/acme/app:1.4.2", "ghcr.io/acme/app:1.4.2"),
            ("GHCR.IO/acme/app:1.4.2", "ghcr.io/acme/app:1.4.2"),
            ("ghcr.io:443/acme/app:V1", "ghcr.io/acme/app:V1"),
            ("localhost/app:1", "localhost/app:1"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            ("[::1]:5000/app:1", "[::1]:5000/app:1"),
            ("[0:0::0001]:5000/app:1", "[::1]:5000/app:1"),
            ("[2001:DB8:0:0::5]:443/app:1", "[2001:db8::5]/app:1"),
            // Where plain http is spoken, it is no default.
            ("localhost:443/app:1", "localhost:443/app:1"),
            ("127.0.0.1:443/app:1", "127.0.0.1:443/app:1"),
            ("[::1]:443/app:1", "[::1]:443/app:1"),
            ("docker.io/nginx:1", "docker.io/library/nginx:1"),
            ("index.docker.io/acme/app:1", "docker.io/acme/app:1"),
            ("r.example/a__b/c-d.e/f--g:1", "r.example/a__b/c-d.e/f--g:1"),
        ] {
            assert_eq!(reference(written), read);
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag_beside_it() {
        let digest = Digest::of(b"x");
        assert_eq!(reference(&format!("r.example/app:1@{digest}")), format!("r.example/app@{digest}"));
    }

    #[test]
    fn nothing_is_defaulted() {
        assert_eq!("nginx:1".parse::<Reference>(), Err(ReferenceError::NoHost("nginx:1".into())));
        assert_eq!("acme/app:1".parse::<Reference>(), Err(ReferenceError::NoHost("acme/app".into())));
        assert_eq!(
            "r.example/app".parse::<Reference>(),
            Err(ReferenceError::NoTarget("r.example/app".into()))
        );
    }

    #[test]
    fn malformed_parts_are_named() {
        for bad in [
            "",
            "/",
            "r.example/:1",
            "r.example/App:1",
            "r.example/a//b:1",
            "r.example/a..b:1",
            "r.example/../b:1",
            "r.example/a___b:1",
            "r.example/-a:1",
            "r.example/a-:1",
            "r.example/app:",
            "r.example/app:-x",
            "r.example/app:a b",
            "r.example/app:latest\n",
            "r.example/app@md5:aa",
            "r.example/app@sha256:aa",
            "user@r.example/app:1",
            "r.example?x/app:1",
            "r.example:0/app:1",
            "r.example:99999/app:1",
            "r_x.example/app:1",
            "127.1/app:1",
            "0x7f.0.0.1/app:1",
            "127.0.0.0x1:443/app:1",
            "127.0.0.01/app:1",
            "2130706433:5000/app:1",
            "[::1/app:1",
            "[::1]x/app:1",
            "http://r.example/app:1",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?} was read as {}", reference(bad));
        }
        let long = "a".repeat(129);
        assert!(long.parse::<Tag>().is_err());
        assert!(long[..128].parse::<Tag>().is_ok());
        assert!(format!("r.example/{}:1", "a".repeat(256)).parse::<Reference>().is_err());
    }
}
