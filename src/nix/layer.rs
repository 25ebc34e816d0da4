//! Layers of nix2container: the tar archive that it makes of store paths (`nix/tar.go` and
//! `nix/graph.go` there), to the byte. This is the order and the form of the entries; what the
//! files hold is for others to read.

use std::collections::BTreeMap;

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use super::header::{Kind, Rights, header};

/// The most entries of a layer.
const MAX_ENTRIES: usize = 1_000_000;
/// The most bytes of a compiled regular expression.
const MAX_REGEX: usize = 1 << 20;
/// The most bytes of a path in an image: what Linux takes.
const MAX_PLACE: usize = 4096;
/// What Nix adds to names that differ in their case alone, where the disk does not tell them apart.
const CASE_HACK: &[u8] = b"~nix~case~hack~";

/// Why store paths do not make a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    /// The options of a path are malformed, or ask for what is not known here.
    #[error("the options of `{path}`: {why}")]
    Options {
        /// The store path.
        path: String,
        /// The parser's words.
        why: String,
    },
    /// Two files would have one place.
    #[error("`{0}` would be there twice, and differ")]
    Twice(String),
    /// A rewritten path has a part that none has.
    #[error("`{0}` is no path of an entry")]
    Path(String),
    /// More than a layer holds.
    #[error("it has more than {MAX_ENTRIES} entries")]
    TooMany,
}

/// A store path of a layer, and what becomes of the files in it.
#[derive(Debug, Clone)]
pub struct StorePath {
    /// The path, such as `/nix/store/…`.
    pub path: String,
    rewrite: Option<(Regex, String)>,
    rights: Vec<Right>,
}

#[derive(Debug, Clone)]
struct Right {
    regex: Regex,
    wire: WirePerm,
    mode: Option<u32>,
}

/// As in an image JSON. An unknown option would make another layer: it is refused.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WirePath {
    path: String,
    options: Option<WireOptions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WireOptions {
    rewrite: WireRewrite,
    perms: Vec<WirePerm>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WireRewrite {
    regex: String,
    repl: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePerm {
    regex: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    uname: String,
    #[serde(default)]
    gname: String,
}

impl TryFrom<WirePath> for StorePath {
    type Error = LayerError;

    fn try_from(wire: WirePath) -> Result<Self, LayerError> {
        let WireOptions { rewrite, perms } = wire.options.unwrap_or_default();
        let wrong = |why: String| LayerError::Options { path: wire.path.clone(), why };
        let compile = |regex: &str| {
            let mut builder = RegexBuilder::new(regex);
            let compiled = builder.unicode(false).size_limit(MAX_REGEX).build();
            compiled.map_err(|error| wrong(format!("`{regex}` is no regular expression: {error}")))
        };
        if !wire.path.starts_with('/') {
            return Err(wrong("it is not absolute".to_owned()));
        }
        let rewrite = match rewrite.regex.as_str() {
            "" => None,
            regex => Some((compile(regex)?, rewrite.repl)),
        };
        let rights = perms.into_iter().map(|perm| {
            let small = |number: u32| number <= 0o777_7777;
            let short = |name: &str| name.is_ascii() && name.len() <= 32;
            let mode = match perm.mode.as_str() {
                "" => None,
                digits => {
                    Some(u32::from_str_radix(digits, 8).map_err(|_| wrong(format!("the mode `{digits}`")))?)
                }
            };
            if !small(perm.uid) || !small(perm.gid) || !mode.is_none_or(small) {
                return Err(wrong("a mode, user or group is too large".to_owned()));
            }
            if !short(&perm.uname) || !short(&perm.gname) {
                return Err(wrong("the name of a user or group is too long, or not ASCII".to_owned()));
            }
            Ok(Right { regex: compile(&perm.regex)?, mode, wire: perm })
        });
        let rights = rights.collect::<Result<_, _>>()?;
        Ok(Self { rewrite, rights, path: wire.path })
    }
}

impl StorePath {
    /// Where a file in it comes to lie; empty if nowhere.
    fn place(&self, source: &[u8]) -> Vec<u8> {
        match &self.rewrite {
            Some((regex, to)) => regex.replace_all(source, to.as_bytes()).into_owned(),
            None => source.to_vec(),
        }
    }

    fn rights(&self, source: &[u8], kind: &Kind, mode: u32) -> Rights {
        let root = || "root".to_owned();
        let mode = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { mode };
        let mut rights = Rights { mode, uid: 0, gid: 0, uname: root(), gname: root() };
        for right in self.rights.iter().filter(|right| right.regex.is_match(source)) {
            (rights.uid, rights.gid) = (right.wire.uid, right.wire.gid);
            for (name, given) in
                [(&mut rights.uname, &right.wire.uname), (&mut rights.gname, &right.wire.gname)]
            {
                if !given.is_empty() {
                    name.clone_from(given);
                }
            }
            rights.mode = right.mode.unwrap_or(rights.mode);
        }
        rights
    }
}

/// The entries of a layer, which come from everywhere and are written in order.
#[derive(Debug, Default)]
pub struct Entries {
    root: Node,
    count: usize,
}

#[derive(Debug, Default)]
struct Node {
    /// What was found; a directory that nobody named has nothing.
    found: Option<Found>,
    children: BTreeMap<Vec<u8>, Node>,
}

/// A file that was found.
#[derive(Debug)]
struct Found {
    /// Where its content is read, as it was given.
    source: Vec<u8>,
    kind: Kind,
    mode: u32,
    rights: Rights,
    perms: Vec<WirePerm>,
}

impl Entries {
    /// Adds a file that was found at `source`, with its permission bits.
    ///
    /// # Errors
    /// When something else has its place.
    pub fn add(&mut self, from: &StorePath, source: &[u8], kind: Kind, mode: u32) -> Result<(), LayerError> {
        let place = from.place(source);
        if place.is_empty() {
            return Ok(());
        }
        if place.len() > MAX_PLACE {
            return Err(LayerError::Path(format!("{} bytes long", place.len())));
        }
        let shown = || String::from_utf8_lossy(&place).into_owned();
        let mut node = &mut self.root;
        for (number, part) in place.split(|byte| *byte == b'/').enumerate() {
            if (part.is_empty() && number > 0) || part == b"." || part == b".." {
                return Err(LayerError::Path(shown()));
            }
            let hacked = part.windows(CASE_HACK.len()).rposition(|window| window == CASE_HACK);
            let part = part.get(..hacked.unwrap_or(part.len())).unwrap_or(part);
            node = node.children.entry(part.to_vec()).or_insert_with(|| {
                self.count += 1;
                Node::default()
            });
        }
        if self.count > MAX_ENTRIES {
            return Err(LayerError::TooMany);
        }
        let perms: Vec<_> = from.rights.iter().map(|right| right.wire.clone()).collect();
        let twice = node.found.as_ref().is_some_and(|other| {
            let same = match (&other.kind, &kind) {
                (Kind::Symlink(_), Kind::Symlink(_)) => true,
                (one, another) => one == another,
            };
            !same || other.mode != mode || other.perms != perms
        });
        if twice {
            return Err(LayerError::Twice(shown()));
        }
        let rights = from.rights(source, &kind, mode);
        node.found = Some(Found { source: source.to_vec(), kind, mode, rights, perms });
        Ok(())
    }

    /// Tells of every entry in order: its header, and where its content comes from and how many
    /// bytes that has, if it has any.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn write<E>(
        &self,
        write: &mut impl FnMut(&[u8], Option<(&[u8], u64)>) -> Result<(), E>,
    ) -> Result<(), E> {
        descend(&self.root, &[], write)
    }
}

fn descend<E>(
    node: &Node,
    base: &[u8],
    write: &mut impl FnMut(&[u8], Option<(&[u8], u64)>) -> Result<(), E>,
) -> Result<(), E> {
    for (name, child) in &node.children {
        let path = match (base, name.as_slice()) {
            (_, b"") => b"/".to_vec(),
            (b"" | b"/", name) => [base, name].concat(),
            (base, name) => [base, b"/", name].concat(),
        };
        if let Some(Found { source, kind, rights, .. }) = &child.found {
            let content = match kind {
                Kind::File(size) => Some((source.as_slice(), *size)),
                _ => None,
            };
            write(&header(&path, kind, rights), content)?;
        } else {
            let root = "root".to_owned();
            let rights = Rights { mode: 0o755, uid: 0, gid: 0, uname: root.clone(), gname: root };
            write(&header(&path, &Kind::Directory, &rights), None)?;
        }
        descend(child, &path, write)?;
    }
    Ok(())
}
