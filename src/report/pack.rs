//! The result of `pack`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::style::Style;
use super::verdict;
use crate::oci::{Digest, Tag};
use crate::policy::Verdict;

/// The media type of the JSON document.
pub const MEDIA_TYPE: &str = "application/vnd.quorate.packed.v1+json";

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The verdict on what the pack holds.
    pub verdict: Verdict,
    /// The pack, if the quorum is met.
    pub packed: Option<Packed>,
}

/// A proof pack.
#[derive(Debug)]
pub struct Packed {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: usize,
    /// The bundles in it.
    pub bundles: usize,
    /// Under which tag it is attached, if it is.
    pub tag: Option<Tag>,
}

/// The pack, or the verdict that stands against it.
pub fn text(report: &Report, style: Style) -> String {
    let Some(packed) = &report.packed else { return verdict::text(&report.verdict, style) };
    let image = format!("{}@{}", report.verdict.repository, report.verdict.digest);
    let mut text = format!("{} {image}\n", style.paint("1;32", "✓ packed"));
    let _ = writeln!(text, "  pack    {}, {} bytes", packed.digest, packed.size);
    let _ = writeln!(text, "  bundles {}", packed.bundles);
    if let Some(tag) = &packed.tag {
        let _ = writeln!(text, "  tag     {tag}");
    }
    text
}

/// The document of `pack`.
pub fn json(report: &Report) -> Value {
    let Report { verdict, packed } = report;
    json!({
        "mediaType": MEDIA_TYPE,
        "outcome": if packed.is_some() { "packed" } else { "refused" },
        "verdict": verdict.outcome.as_str(),
        "image": { "repository": verdict.repository.to_string(), "digest": verdict.digest },
        "policy": { "digest": verdict.policy },
        "pack": packed.as_ref().map(|packed| json!({
            "digest": packed.digest,
            "size": packed.size,
            "bundles": packed.bundles,
            "tag": packed.tag.as_ref().map(Tag::as_str),
        })),
    })
}
