//! In what two builds differ: JSON documents field by field, archives file by file.

use std::collections::BTreeMap;

use ring::digest::{Context, SHA256};
use serde_json::Value;

use super::Digest;
use super::tar::{Attributes, Entry, Kind, Reader, TarError, Visit};

/// The most files of an archive that are compared.
const MAX_FILES: usize = 50_000;
/// The most bytes of their names.
const MAX_NAMES: usize = 8 << 20;
/// The most fields of two documents that are reported.
const MAX_FIELDS: usize = 20;
/// Characters of a value that are shown.
const MAX_SHOWN: usize = 200;

/// Something that is one thing on our side and another on theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What kind of thing.
    pub cause: Cause,
    /// Where: a field, a layer or a file.
    pub at: String,
    /// What the image has.
    pub ours: String,
    /// What the other side has.
    pub theirs: String,
}

/// What two builds differ in. The graver first: one that is only a matter of form explains nothing
/// where content differs, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A side is not there, or too large to be compared.
    Unknown,
    /// A file holds something else, or is on one side alone.
    Files,
    /// Permissions or owners.
    Permissions,
    /// Fields of the configuration or the manifest.
    Fields,
    /// The narHash alone: the images are one, the store paths are not.
    StorePath,
    /// Times alone.
    Timestamps,
    /// The same files in another order.
    Order,
    /// The same archive with other headers.
    Headers,
    /// The same archive, compressed in another way.
    Compression,
}

impl Cause {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "split-unknown",
            Self::Files => "split-files",
            Self::Permissions => "split-permissions",
            Self::Fields => "split-fields",
            Self::StorePath => "split-store-path",
            Self::Timestamps => "split-timestamps",
            Self::Order => "split-order",
            Self::Headers => "split-headers",
            Self::Compression => "split-compression",
        }
    }

    /// What it means, in one sentence.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unknown => "Something that must be compared could not be read.",
            Self::Files => "A file holds something else, or is on one side alone.",
            Self::Permissions => "Files have other permissions or owners.",
            Self::Fields => "The configuration or the manifest says something else.",
            Self::StorePath => "The images are the same; the store paths they were made from are not.",
            Self::Timestamps => "Times differ, and nothing else.",
            Self::Order => "The same files are in another order.",
            Self::Headers => "The same files have other headers in the archive.",
            Self::Compression => "The same layers are compressed in another way.",
        }
    }
}

/// Text of others in one line, and not too long.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// The fields in which two documents differ, in their order, as JSON pointers (RFC 6901); at most
/// 20.
pub fn fields(what: &str, ours: &Value, theirs: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(what, ours, theirs, &mut found);
    found
}

fn compare(at: &str, ours: &Value, theirs: &Value, found: &mut Vec<Difference>) {
    if ours == theirs || found.len() >= MAX_FIELDS {
        return;
    }
    let below = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
    match (ours, theirs) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let side = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&below(key), &side(one), &side(other), found);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            for index in 0..one.len().max(other.len()) {
                let side = |list: &[Value]| list.get(index).cloned().unwrap_or_default();
                compare(&below(&index.to_string()), &side(one), &side(other), found);
            }
        }
        _ => {
            // `created` of the configuration and of its history (image-spec, `config.md`).
            let time = at.ends_with("/created") || at.ends_with("/org.opencontainers.image.created");
            found.push(Difference {
                cause: if time { Cause::Timestamps } else { Cause::Fields },
                at: shown(at),
                ours: shown(&ours.to_string()),
                theirs: shown(&theirs.to_string()),
            });
        }
    }
}

/// Reads an archive piece by piece, and keeps what each file is and the hash of what it holds.
#[derive(Debug, Default)]
pub struct Contents(Reader<Files>);

impl Contents {
    /// Takes the next piece.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.0.take(bytes)
    }

    /// All files.
    ///
    /// # Errors
    /// As [`Reader::finish`].
    pub fn finish(self) -> Result<Files, TarError> {
        self.0.finish()
    }
}

/// The files of an archive, in its order.
#[derive(Default)]
pub struct Files {
    list: Vec<File>,
    names: usize,
    reading: Option<Context>,
    /// Whether there are more than could be kept.
    cut: bool,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("list", &self.list.len()).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    path: String,
    kind: Kind,
    size: u64,
    attributes: Attributes,
    digest: Option<Digest>,
}

impl Visit for Files {
    fn entry(&mut self, entry: Entry) {
        let leads_to = match &entry.kind {
            Kind::Symlink(to) | Kind::Link(to) => to.len(),
            Kind::File { .. } | Kind::Other => 0,
        };
        self.names += entry.path.len() + leads_to + entry.attributes.mtime.len();
        if self.list.len() == MAX_FILES || self.names > MAX_NAMES {
            self.cut = true;
            return;
        }
        let Entry { path, kind, size, attributes, .. } = entry;
        self.reading = matches!(kind, Kind::File { .. }).then(|| Context::new(&SHA256));
        self.list.push(File { path, kind, size, attributes, digest: None });
    }

    fn content(&mut self, bytes: &[u8]) {
        if let Some(reading) = &mut self.reading {
            reading.update(bytes);
        }
    }

    fn end(&mut self) {
        if let (Some(reading), Some(file)) = (self.reading.take(), self.list.last_mut()) {
            let mut hash = [0; 32];
            hash.copy_from_slice(reading.finish().as_ref());
            file.digest = Some(Digest::from_bytes(hash));
        }
    }
}

impl File {
    fn content(&self) -> String {
        match (&self.kind, self.digest) {
            (Kind::Symlink(target), _) => format!("a link to {}", shown(target)),
            (Kind::Link(target), _) => format!("the file {}", shown(target)),
            (_, Some(digest)) => format!("{} bytes, {digest}", self.size),
            (_, None) => "a folder or device".to_owned(),
        }
    }

    fn permissions(&self) -> String {
        let (user, group) = self.attributes.owner;
        format!("mode {:o}, owner {user}:{group}", self.attributes.mode)
    }
}

/// What one thing about a file is, in words.
type Told = fn(&File) -> String;

/// In what the files of two archives that are not equal differ: the gravest, at the first file that
/// has it.
pub fn archives(ours: &Files, theirs: &Files) -> Difference {
    let by_path = |files: &Files| -> BTreeMap<String, File> {
        files.list.iter().map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (one, other) = (by_path(ours), by_path(theirs));
    let all = one.keys().chain(other.keys().filter(|path| !one.contains_key(*path)));
    let of = |cause: Cause, told: Told| {
        let tell = |file: Option<&File>| file.map_or_else(|| "no such file".to_owned(), told);
        let mut differ = all.clone().filter_map(|path| {
            let (ours, theirs) = (tell(one.get(path)), tell(other.get(path)));
            (ours != theirs).then_some((path, ours, theirs))
        });
        let (path, ours, theirs) = differ.next()?;
        let more = differ.count();
        let at = if more == 0 { shown(path) } else { format!("{} and {more} more", shown(path)) };
        Some(Difference { cause, at, ours, theirs })
    };
    // Of an archive that was not read to its end, nothing is known for certain but what was found.
    let cut = ours.cut || theirs.cut;
    let found = of(Cause::Files, File::content)
        .or_else(|| of(Cause::Permissions, File::permissions))
        .or_else(|| of(Cause::Timestamps, |file| format!("mtime {}", shown(&file.attributes.mtime))))
        .filter(|found| !cut || found.cause == Cause::Files);
    found.unwrap_or_else(|| {
        if cut {
            let limit = format!("more than {MAX_FILES} files");
            return Difference {
                cause: Cause::Unknown,
                at: String::new(),
                ours: limit.clone(),
                theirs: limit,
            };
        }
        let first = ours.list.iter().zip(&theirs.list).find(|(one, other)| one.path != other.path);
        let (cause, ours, theirs) = match first {
            Some((one, other)) => (Cause::Order, shown(&one.path), shown(&other.path)),
            None => (Cause::Headers, String::new(), String::new()),
        };
        Difference { cause, at: String::new(), ours, theirs }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(path: &str, content: &str, mtime: u64, mode: u64) -> (Entry, Vec<u8>) {
        let attributes = Attributes { mode, owner: (0, 0), mtime: mtime.to_string() };
        let kind = Kind::File { executable: false };
        let size = content.len() as u64;
        (Entry { path: path.to_owned(), kind, size, offset: 0, attributes }, content.as_bytes().to_vec())
    }

    fn files(entries: &[(Entry, Vec<u8>)]) -> Files {
        let mut files = Files::default();
        for (entry, content) in entries {
            files.entry(entry.clone());
            files.content(content);
            files.end();
        }
        files
    }

    #[test]
    fn the_gravest_cause_is_named_at_its_first_file() {
        let base = [file("a", "1", 0, 0o644), file("b", "2", 0, 0o644), file("c", "3", 0, 0o644)];
        let [a, b, c] = base.clone();
        let with = |entries: &[&(Entry, Vec<u8>)]| {
            let entries: Vec<_> = entries.iter().map(|entry| (*entry).clone()).collect();
            let found = archives(&files(&base), &files(&entries));
            (found.cause, found.at)
        };
        let (late, open, other) =
            (file("b", "2", 9, 0o644), file("b", "2", 9, 0o755), file("b", "4", 9, 0o755));
        assert_eq!(with(&[&a, &b, &c]), (Cause::Headers, String::new()));
        assert_eq!(with(&[&b, &a, &c]), (Cause::Order, String::new()));
        assert_eq!(with(&[&late, &a, &c]), (Cause::Timestamps, "b".to_owned()));
        assert_eq!(with(&[&a, &open, &c]), (Cause::Permissions, "b".to_owned()));
        assert_eq!(with(&[&a, &other, &c]), (Cause::Files, "b".to_owned()));
        assert_eq!(with(&[&a, &other]), (Cause::Files, "b and 1 more".to_owned()));
        assert_eq!(with(&[&a, &b, &c, &file("d", "", 0, 0)]), (Cause::Files, "d".to_owned()));
    }

    #[test]
    fn an_archive_that_is_too_large_is_not_called_equal() {
        let many: Vec<_> = (0..=MAX_FILES).map(|n| file(&n.to_string(), "", 0, 0)).collect();
        let mut late = many.clone();
        late[MAX_FILES] = file("late", "x", 0, 0);
        assert_eq!(archives(&files(&many), &files(&late)).cause, Cause::Unknown);
        late[7] = file("7", "x", 0, 0);
        assert_eq!(archives(&files(&many), &files(&late)).cause, Cause::Files);
    }

    #[test]
    fn fields_are_named_by_their_pointers() {
        let ours = json!({ "created": "1", "config": { "Env": ["A=1", "B=2"], "a/b": 1 }, "os": "linux" });
        let theirs = json!({ "created": "2", "config": { "Env": ["A=1", "B=3"] }, "os": "linux" });
        let found: Vec<_> = fields("config", &ours, &theirs)
            .into_iter()
            .map(|found| (found.cause, found.at, found.ours, found.theirs))
            .collect();
        let owned = |cause, texts: [&str; 3]| {
            let [at, ours, theirs] = texts.map(str::to_owned);
            (cause, at, ours, theirs)
        };
        assert_eq!(
            found,
            [
                owned(Cause::Fields, ["config/config/Env/1", "\"B=2\"", "\"B=3\""]),
                owned(Cause::Fields, ["config/config/a~1b", "1", "null"]),
                owned(Cause::Timestamps, ["config/created", "\"1\"", "\"2\""]),
            ]
        );
        let long = json!((0..100).collect::<Vec<_>>());
        assert_eq!(fields("", &long, &json!([])).len(), MAX_FIELDS);
    }
}
