//! The journal of a promotion: a line of JSON for each step, on the disk before the next step.
//!
//! It explains a run that was cut short, and the next one repeats what tags named before. Nothing
//! is decided, written or put back on what it says.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::clock;
use crate::error::Error;
use crate::oci::{Digest, Repository, Tag};
use crate::reason::Reason;
use crate::text::shortened;

/// The media type that each line of a beginning states.
const MEDIA_TYPE: &str = "application/vnd.quorate.journal.v1+json";
/// The most bytes of a journal: 4 MiB.
const MAX_BYTES: u64 = 4 << 20;

/// What tags named before a run that was cut short wrote them.
pub type Earlier = BTreeMap<Tag, Option<Digest>>;

/// What a journal is about: one release, one policy.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Where tags are moved.
    pub repository: &'a Repository,
    /// To what.
    pub digest: Digest,
    /// Under which policy.
    pub policy: Digest,
}

/// A journal under way, or none at all: then nothing is written.
#[derive(Debug, Default)]
pub struct Journal(Option<(PathBuf, File)>);

impl Journal {
    /// Opens or makes a journal, and reads what earlier runs left. What a run did not finish
    /// writing, the last line, is cut off. No other run may have it open.
    ///
    /// # Errors
    /// When it is not a journal, or one about something else; when it cannot be read or written.
    pub fn open(path: &Path, about: About<'_>) -> Result<(Self, Earlier), Error> {
        let shown = path.display();
        let failed = |error: std::io::Error| {
            Error::request(format!("cannot use the journal `{shown}`")).because(error)
        };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                Error::undecided(format!("another run writes the journal `{shown}`")).hint("let it end first")
            }
            TryLockError::Error(error) => failed(error),
        })?;
        let mut bytes = Vec::new();
        (&mut file).take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let refused = |reason: Reason, why: String| {
            Error::request(format!("the journal `{shown}` is refused ({reason}): {why}"))
                .hint("name another file: a journal is for one release under one policy")
        };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(refused(Reason::JournalMalformed, "it is larger than 4 MiB".to_owned()));
        }
        // Whatever this file is, none of its lines is one of ours.
        if whole == 0 && !bytes.is_empty() {
            return Err(refused(Reason::JournalMalformed, "it has no whole line".to_owned()));
        }
        let earlier = read(bytes.get(..whole).unwrap_or_default(), about)
            .map_err(|(reason, why)| refused(reason, why))?;
        file.set_len(whole as u64).map_err(failed)?;
        let mut journal = Self(Some((path.to_owned(), file)));
        let About { repository, digest, policy } = about;
        journal.note(
            "begin",
            json!({
                "mediaType": MEDIA_TYPE,
                "image": { "repository": repository.to_string(), "digest": digest },
                "policy": { "digest": policy },
            }),
        )?;
        Ok((journal, earlier))
    }

    /// Adds a line, and waits until it is on the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&mut self, step: &str, what: Value) -> Result<(), Error> {
        let Some((path, file)) = &mut self.0 else { return Ok(()) };
        let mut line = json!({ "step": step, "time": clock::now().to_string() });
        if let (Value::Object(line), Value::Object(what)) = (&mut line, what) {
            line.extend(what);
        }
        file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data()).map_err(|error| {
            Error::undecided(format!("cannot write the journal `{}`", path.display())).because(error)
        })
    }

    /// Notes what tags name before they are written.
    ///
    /// # Errors
    /// As [`Journal::note`].
    pub fn writing<'a>(
        &mut self,
        tags: impl Iterator<Item = (&'a Tag, Option<Digest>)>,
    ) -> Result<(), Error> {
        let tags: Vec<Value> =
            tags.map(|(tag, before)| json!({ "tag": tag.as_str(), "before": before })).collect();
        if tags.is_empty() { Ok(()) } else { self.note("writing", json!({ "tags": tags })) }
    }
}

/// What runs wrote since the last one that ended well.
fn read(bytes: &[u8], about: About<'_>) -> Result<Earlier, (Reason, String)> {
    let mut earlier = Earlier::new();
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for (number, line) in lines.enumerate() {
        let malformed = || (Reason::JournalMalformed, format!("line {} is not one of a journal", number + 1));
        let line: Value = serde_json::from_slice(line).map_err(|_| malformed())?;
        let text = |pointer: &str| line.pointer(pointer).and_then(Value::as_str);
        match text("/step").ok_or_else(malformed)? {
            "begin" => {
                if text("/mediaType") != Some(MEDIA_TYPE) {
                    return Err(malformed());
                }
                for (pointer, ours) in [
                    ("/image/repository", about.repository.to_string()),
                    ("/image/digest", about.digest.to_string()),
                    ("/policy/digest", about.policy.to_string()),
                ] {
                    let theirs = text(pointer).ok_or_else(malformed)?;
                    if theirs != ours {
                        let detail = format!("it is not of {ours}, but of {theirs:?}");
                        return Err((Reason::JournalOther, shortened(detail)));
                    }
                }
            }
            "writing" => {
                for entry in line.pointer("/tags").and_then(Value::as_array).ok_or_else(malformed)? {
                    let tag = entry.get("tag").and_then(Value::as_str).and_then(|tag| tag.parse().ok());
                    let before = match entry.get("before") {
                        Some(Value::Null) => Some(None),
                        Some(Value::String(digest)) => digest.parse().ok().map(Some),
                        _ => None,
                    };
                    let (tag, before) = tag.zip(before).ok_or_else(malformed)?;
                    earlier.insert(tag, before);
                }
            }
            // What is right is not put back by a later run.
            "written" if line.get("right") == Some(&Value::Bool(true)) => earlier.clear(),
            "end" if matches!(text("/outcome"), Some("moved" | "unchanged")) => earlier.clear(),
            _ => {}
        }
        if number == 0 && text("/step") != Some("begin") {
            return Err(malformed());
        }
    }
    Ok(earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        folder: tempfile::TempDir,
        repository: Repository,
    }

    impl Case {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), repository: "ghcr.io/acme/app".parse().unwrap() }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("journal")
        }

        fn open(&self, release: &[u8], policy: &[u8]) -> Result<(Journal, Earlier), Error> {
            let (digest, policy) = (Digest::of(release), Digest::of(policy));
            Journal::open(&self.path(), About { repository: &self.repository, digest, policy })
        }

        fn writes(journal: &mut Journal, before: Option<Digest>) {
            let tags = json!([{ "tag": "latest", "before": before }]);
            journal.note("writing", json!({ "tags": tags })).unwrap();
        }
    }

    #[test]
    fn what_was_cut_short_is_known_until_a_run_ends_well() {
        let case = Case::new();
        let old = Some(Digest::of(b"old"));
        let (mut journal, earlier) = case.open(b"new", b"policy").unwrap();
        assert!(earlier.is_empty());
        Case::writes(&mut journal, old);
        assert!(case.open(b"new", b"policy").unwrap_err().to_string().contains("another run"));
        drop(journal);
        let latest: Tag = "latest".parse().unwrap();
        for outcome in ["refused", "undecided", "moved"] {
            let (mut journal, earlier) = case.open(b"new", b"policy").unwrap();
            assert_eq!(earlier, Earlier::from([(latest.clone(), old)]), "{outcome}");
            journal.note("end", json!({ "outcome": outcome })).unwrap();
        }
        assert!(case.open(b"new", b"policy").unwrap().1.is_empty());
    }

    #[test]
    fn a_line_that_was_cut_short_is_forgotten() {
        let case = Case::new();
        let (mut journal, _) = case.open(b"new", b"policy").unwrap();
        Case::writes(&mut journal, None);
        drop(journal);
        let whole = std::fs::read(case.path()).unwrap();
        std::fs::write(case.path(), [&whole[..], b"{\"step\":\"wri"].concat()).unwrap();
        assert_eq!(case.open(b"new", b"policy").unwrap().1.len(), 1);
        let text = std::fs::read_to_string(case.path()).unwrap();
        assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{text}");
    }

    #[test]
    fn a_journal_of_something_else_is_refused() {
        let case = Case::new();
        drop(case.open(b"new", b"policy").unwrap());
        for (release, policy) in [(&b"other"[..], &b"policy"[..]), (b"new", b"other")] {
            let error = case.open(release, policy).unwrap_err();
            assert!(error.to_string().contains("journal-other"), "{error}");
        }
        let begin = std::fs::read_to_string(case.path()).unwrap();
        let long = begin.replace("ghcr.io", &"x".repeat(100_000));
        std::fs::write(case.path(), &long).unwrap();
        let error = case.open(b"new", b"policy").unwrap_err().to_string();
        assert!(error.contains("journal-other") && error.len() < 2_000, "{} bytes", error.len());
        for text in
            ["no journal", "{\"step\":\"begin\"", "no journal\n", "{}\n", "{\"step\":\"end\"}\n", "[]\n"]
        {
            std::fs::write(case.path(), text).unwrap();
            let error = case.open(b"new", b"policy").unwrap_err();
            assert!(error.to_string().contains("journal-malformed"), "{text}: {error}");
            assert_eq!(std::fs::read_to_string(case.path()).unwrap(), text, "it is left alone");
        }
    }
}
