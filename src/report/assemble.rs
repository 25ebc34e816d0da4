//! The result of `assemble`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::oci::{Descriptor, ImageIndex, Platform, Reference, Repository, Tag};
use crate::text::printable;

/// The media type of the JSON document.
pub const MEDIA_TYPE: &str = "application/vnd.quorate.assemble.v1+json";

/// What came of it.
#[derive(Debug)]
pub enum Report {
    /// The index is written, or would be.
    Assembled(Assembled),
    /// The sources do not make a release.
    Refused(Refused),
}

/// An index that was put together.
#[derive(Debug)]
pub struct Assembled {
    /// Where it is.
    pub repository: Repository,
    /// What names it.
    pub tag: Option<Tag>,
    /// The index.
    pub index: ImageIndex,
    /// The source of each child, in the index's order.
    pub sources: Vec<Reference>,
    /// Whether nothing was written.
    pub dry_run: bool,
}

/// Why the sources do not make a release.
#[derive(Debug)]
pub struct Refused {
    /// The stable reason code.
    pub reason: &'static str,
    /// The reason in words, naming the source.
    pub detail: String,
}

/// The result of `assemble`: the reference of the index by digest, and its children.
pub fn text(report: &Report) -> String {
    match report {
        Report::Refused(refused) => {
            format!("✗ refused: {}: {}\n", refused.reason, printable(&refused.detail))
        }
        Report::Assembled(done) => {
            let mut text = format!("{}@{}\n", done.repository, done.index.digest());
            for (child, source) in done.index.manifests.iter().zip(&done.sources) {
                let platform = child.platform.as_ref().map(ToString::to_string).unwrap_or_default();
                let _ = writeln!(text, "  {platform}  {}  from {source}", child.digest);
            }
            if let Some(tag) = &done.tag {
                let verb = if done.dry_run { "would be named" } else { "named" };
                let _ = writeln!(text, "  {verb} {tag}");
            }
            text
        }
    }
}

/// The document of `assemble`.
pub fn json(report: &Report) -> Value {
    match report {
        Report::Refused(refused) => json!({
            "mediaType": MEDIA_TYPE,
            "outcome": "refused",
            "reason": refused.reason,
            "detail": refused.detail,
        }),
        Report::Assembled(done) => json!({
            "mediaType": MEDIA_TYPE,
            "outcome": if done.dry_run { "dry-run" } else { "assembled" },
            "image": { "repository": done.repository.to_string(), "digest": done.index.digest() },
            "tag": done.tag.as_ref().map(Tag::as_str),
            "manifests": done.index.manifests.iter().zip(&done.sources).map(|(child, source)| json!({
                "platform": platform(child),
                "digest": child.digest,
                "size": child.size,
                "source": source.to_string(),
            })).collect::<Vec<_>>(),
        }),
    }
}

fn platform(child: &Descriptor) -> Option<String> {
    child.platform.as_ref().map(Platform::to_string)
}
