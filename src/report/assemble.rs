//! The result of `assemble`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::markdown;
use crate::oci::release::Refusal;
use crate::oci::{Descriptor, Digest, ImageIndex, Place, Platform, Store, Tag};
use crate::text::in_line;

/// The media type of the JSON document.
pub const MEDIA_TYPE: &str = "application/vnd.quorate.assemble.v1+json";

/// What came of it.
#[derive(Debug)]
pub enum Report {
    /// The index is written, or would be.
    Assembled(Assembled),
    /// The sources do not make a release.
    Refused(Refusal),
}

/// An index that was put together.
#[derive(Debug)]
pub struct Assembled {
    /// Where it is.
    pub store: Store,
    /// What names it.
    pub tags: Vec<Tag>,
    /// The index.
    pub index: ImageIndex,
    /// The source of each child, in the index's order.
    pub sources: Vec<Place>,
    /// Attestations of BuildKit that were left out.
    pub left_out: Vec<Digest>,
    /// Whether nothing was written.
    pub dry_run: bool,
}

impl Assembled {
    fn children(&self) -> impl Iterator<Item = (String, &Descriptor, &Place)> {
        self.index.manifests.iter().zip(&self.sources).map(|(child, source)| {
            (child.platform.as_ref().map(Platform::to_string).unwrap_or_default(), child, source)
        })
    }

    /// The index by digest.
    pub fn image(&self) -> String {
        format!("{}@{}", self.store, self.index.digest())
    }
}

/// The result of `assemble`: the reference of the index by digest, and its children.
pub fn text(report: &Report) -> String {
    match report {
        Report::Refused(refused) => {
            format!("✗ refused: {}: {}\n", refused.fault.code(), in_line(&refused.detail))
        }
        Report::Assembled(done) => {
            let mut text = format!("{}\n", done.image());
            for (platform, child, source) in done.children() {
                let _ = writeln!(text, "  {platform}  {}  from {source}", child.digest);
            }
            for digest in &done.left_out {
                let _ = writeln!(text, "  left out {digest}, an attestation of BuildKit");
            }
            for tag in &done.tags {
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
            "reason": refused.fault.code(),
            "detail": refused.detail,
            "hint": refused.fault.hint(),
        }),
        Report::Assembled(done) => json!({
            "mediaType": MEDIA_TYPE,
            "outcome": if done.dry_run { "dry-run" } else { "assembled" },
            "image": {
                "repository": done.store.to_string(),
                "digest": done.index.digest(),
            },
            "size": done.index.bytes().len(),
            "tags": done.tags.iter().map(Tag::as_str).collect::<Vec<_>>(),
            "annotations": done.index.annotations,
            "manifests": done.children().map(|(platform, child, source)| json!({
                "platform": platform,
                "mediaType": child.media_type,
                "digest": child.digest,
                "size": child.size,
                "annotations": child.annotations,
                "source": source.to_string(),
            })).collect::<Vec<_>>(),
            "leftOut": done.left_out,
        }),
    }
}

/// A summary in Markdown.
pub fn markdown(report: &Report) -> String {
    match report {
        Report::Refused(refused) => format!(
            "### ✗ Not assembled: `{}`\n\n{}\n\n{}\n",
            refused.fault.code(),
            markdown::escape(&refused.detail),
            markdown::escape(refused.fault.hint())
        ),
        Report::Assembled(done) => {
            let verb = if done.dry_run { "Would assemble" } else { "Assembled" };
            let mut text = format!("### {verb} `{}`\n\n", done.image());
            text.push_str("| platform | digest | source |\n|---|---|---|\n");
            for (platform, child, source) in done.children() {
                let _ = writeln!(text, "| `{platform}` | `{}` | `{source}` |", child.digest);
            }
            if !done.tags.is_empty() {
                let tags: Vec<String> = done.tags.iter().map(|tag| format!("`{tag}`")).collect();
                let _ = writeln!(text, "\nTags: {}", tags.join(", "));
            }
            text
        }
    }
}

/// The metadata file, with the keys of buildx's.
pub fn metadata(done: &Assembled) -> Value {
    let descriptor = done.index.descriptor();
    let names: Vec<String> = done.tags.iter().map(|tag| format!("{}:{tag}", done.store)).collect();
    json!({
        "containerimage.descriptor": {
            "mediaType": descriptor.media_type,
            "digest": descriptor.digest,
            "size": descriptor.size,
        },
        "containerimage.digest": descriptor.digest,
        "image.name": if names.is_empty() { done.store.to_string() } else { names.join(",") },
    })
}
