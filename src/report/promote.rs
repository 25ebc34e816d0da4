//! The result of `promote`.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::attest::Attached;
use super::style::Style;
use super::{markdown, merge, verdict};
use crate::error::Error;
use crate::oci::{Digest, Repository, Tag};
use crate::policy::Verdict;
use crate::reason::Reason;
use crate::text::in_line;

/// The media type of the JSON document.
pub const MEDIA_TYPE: &str = "application/vnd.quorate.promote.v1+json";

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The verdict on the image.
    pub verdict: Verdict,
    /// The tags that were asked for, in that order.
    pub tags: Vec<TagReport>,
    /// Whether nothing was to be written.
    pub dry_run: bool,
    /// What was brought from where the image was, if it was elsewhere.
    pub copied: Option<Copied>,
    /// The record of the promotion, if there was to be one.
    pub record: Option<Record>,
    /// What became of the tags of single images that were to be removed.
    pub untagged: Vec<UntagReport>,
    /// Why it could not be finished, if so.
    pub unfinished: Option<Error>,
}

/// What became of one tag.
#[derive(Debug)]
pub struct TagReport {
    /// The tag.
    pub tag: Tag,
    /// What it named before.
    pub before: Option<Digest>,
    /// What it names now; meaningless where that is unknown.
    pub after: Option<Digest>,
    /// What was done.
    pub action: Action,
    /// What the caller had to allow for it: `rollback`, `adopt`.
    pub allowed: Option<&'static str>,
    /// Why it must not move, or is elsewhere, if so.
    pub refusal: Option<(Reason, String)>,
}

/// What was brought from another repository; what was there already is not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// From where.
    pub from: Repository,
    /// Images.
    pub images: usize,
    /// Attestations on them.
    pub attestations: usize,
}

/// The record of a promotion.
#[derive(Debug)]
pub enum Record {
    /// It would be made, were this no dry run.
    Planned,
    /// The same signer has said the same before.
    Already {
        /// The digest of that bundle.
        bundle: Digest,
        /// When it was seen, where that is witnessed.
        time: Option<Timestamp>,
    },
    /// It was signed and attached.
    Attached {
        /// The digest of the bundle.
        bundle: Digest,
        /// When it was seen, where that is witnessed.
        time: Option<Timestamp>,
        /// Where the log has it.
        log_index: Option<u64>,
        /// Where it is attached.
        attached: Attached,
    },
}

/// What was done with a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It names the release now, and named nothing before.
    Created,
    /// It names the release now, and named something else before.
    Moved,
    /// It named the release already.
    Unchanged,
    /// It must not move.
    Refused,
    /// It would be created or moved, but something stood against it.
    Skipped,
    /// It was moved, and put back.
    Restored,
    /// It names neither what it named before nor the release.
    Elsewhere,
    /// A write was tried, and what the tag names now could not be found out.
    Unknown,
}

/// What became of a tag that was to be removed.
#[derive(Debug)]
pub struct UntagReport {
    /// The tag.
    pub tag: Tag,
    /// What became of it.
    pub removal: Removal,
}

/// What became of a tag that was to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It is gone; the image is still there.
    Done,
    /// It would be removed, were this no dry run.
    Planned,
    /// There was none.
    Absent,
    /// It was left alone, and why.
    Kept(String),
}

/// The answer of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// At least one tag moved, and all are right.
    Moved,
    /// All tags were right already, or it was a dry run.
    Unchanged,
    /// The image or a tag was refused; nothing was written.
    Refused,
    /// It could not be finished.
    Undecided,
}

impl Action {
    /// The action in one word, as in output and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Moved => "moved",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Skipped => "skipped",
            Self::Restored => "restored",
            Self::Elsewhere => "elsewhere",
            Self::Unknown => "unknown",
        }
    }
}

impl Outcome {
    /// The outcome in one word, as in output and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Undecided => "undecided",
        }
    }

    /// Whether all tags are right, or would be.
    pub fn is_yes(self) -> bool {
        matches!(self, Self::Moved | Self::Unchanged)
    }
}

impl Removal {
    /// What was done, in one word, as in output and JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "removed",
            Self::Planned => "planned",
            Self::Absent => "absent",
            Self::Kept(_) => "kept",
        }
    }
}

impl Record {
    /// The record, as in JSON and the journal.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Planned => json!({ "action": "planned" }),
            Self::Already { bundle, time } => {
                json!({ "action": "already", "bundle": bundle, "time": time.map(|time| time.to_string()) })
            }
            Self::Attached { bundle, time, log_index, attached } => json!({
                "action": "attached",
                "bundle": bundle,
                "time": time.map(|time| time.to_string()),
                "logIndex": log_index,
                "manifest": attached.manifest,
                "place": attached.place,
            }),
        }
    }

    /// What did not work and does no harm here.
    pub fn notes(&self) -> &[String] {
        if let Self::Attached { attached, .. } = self { &attached.notes } else { &[] }
    }

    fn text(&self) -> String {
        match self {
            Self::Planned => "- record  would be signed and attached".to_owned(),
            Self::Already { bundle, time } => {
                let seen = time.map(|time| format!(", seen {time}")).unwrap_or_default();
                format!("= record  bundle {bundle} says so already{seen}")
            }
            Self::Attached { bundle, attached, .. } => {
                format!("✓ record  bundle {bundle} attached as {} ({})", attached.manifest, attached.place)
            }
        }
    }
}

impl Copied {
    fn text(&self) -> String {
        let many = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (images, attestations) = (many(self.images, "image"), many(self.attestations, "attestation"));
        format!("copied {images} and {attestations} from {}", self.from)
    }
}

impl TagReport {
    /// The tag, as in JSON and the journal.
    pub fn to_json(&self) -> Value {
        let (reason, detail) = self.refusal.as_ref().map_or((None, None), |(r, d)| (Some(*r), Some(d)));
        json!({
            "tag": self.tag.as_str(),
            "before": self.before,
            "after": self.after,
            "action": self.action.as_str(),
            "allowed": self.allowed,
            "reason": reason,
            "detail": detail,
        })
    }
}

impl Report {
    /// A report on a verdict, before any tag was looked at.
    pub fn new(verdict: Verdict, dry_run: bool) -> Self {
        Self {
            verdict,
            tags: Vec::new(),
            dry_run,
            copied: None,
            record: None,
            untagged: Vec::new(),
            unfinished: None,
        }
    }

    /// The answer, read off the verdict and the tags.
    pub fn outcome(&self) -> Outcome {
        if self.unfinished.is_some() {
            Outcome::Undecided
        } else if self.verdict.approval().is_none()
            || self.tags.iter().any(|tag| tag.action == Action::Refused)
        {
            Outcome::Refused
        } else if self.tags.iter().any(|tag| matches!(tag.action, Action::Created | Action::Moved)) {
            Outcome::Moved
        } else {
            Outcome::Unchanged
        }
    }
}

/// The result of `promote`: the verdict, then the tags.
pub fn text(report: &Report, style: Style) -> String {
    let mut text = verdict::text(&report.verdict, style);
    if !report.tags.is_empty() || report.copied.is_some() {
        text.push('\n');
    }
    if let Some(copied) = &report.copied {
        let _ = writeln!(text, "{}", copied.text());
    }
    if let Some(record) = &report.record {
        let _ = writeln!(text, "{}", record.text());
    }
    for tag in &report.tags {
        let digest = |digest: Option<Digest>| digest.map_or("nothing".to_owned(), |d| d.to_string());
        let line = match tag.action {
            Action::Created if report.dry_run => {
                format!("would be created as {}", digest(Some(report.verdict.digest)))
            }
            Action::Moved if report.dry_run => {
                format!("would move from {} to {}", digest(tag.before), digest(Some(report.verdict.digest)))
            }
            Action::Created => format!("created as {}", digest(tag.after)),
            Action::Moved => format!("moved from {} to {}", digest(tag.before), digest(tag.after)),
            Action::Unchanged => format!("unchanged, names {}", digest(tag.after)),
            Action::Restored => format!("put back to {}", digest(tag.after)),
            Action::Skipped => format!("not moved, names {}", digest(tag.after)),
            Action::Unknown => "not known: the registry does not say what it names now".to_owned(),
            Action::Elsewhere | Action::Refused => match &tag.refusal {
                Some((reason, detail)) => format!("not moved: {reason}: {}", in_line(detail)),
                None => "not moved".to_owned(),
            },
        };
        let symbol = match tag.action {
            Action::Created | Action::Moved => style.paint("32", "✓"),
            Action::Unchanged => "=".to_owned(),
            _ => style.paint("31", "✗"),
        };
        let allowed = tag.allowed.map(|allowed| format!(" (allowed: {allowed})")).unwrap_or_default();
        let _ = writeln!(text, "{symbol} {}  {line}{allowed}", tag.tag);
    }
    for UntagReport { tag, removal } in &report.untagged {
        let line = match removal {
            Removal::Done => "removed".to_owned(),
            Removal::Planned => "would be removed".to_owned(),
            Removal::Absent => "absent already".to_owned(),
            Removal::Kept(why) => format!("not removed: {}", in_line(why)),
        };
        let _ = writeln!(text, "- {tag}  {line}");
    }
    text
}

/// A summary in Markdown: that of the verdict, and the tags.
pub fn markdown(report: &Report) -> String {
    let mut text = verdict::markdown(&report.verdict);
    text.push_str("\n| tag | | names now |\n|---|---|---|\n");
    for tag in &report.tags {
        let planned = if report.dry_run { " (dry run)" } else { "" };
        let after = match tag.after {
            _ if tag.action == Action::Unknown => "?".to_owned(),
            Some(digest) => format!("`{digest}`"),
            None => "nothing".to_owned(),
        };
        let reason = tag.refusal.as_ref().map(|(reason, _)| format!(" `{reason}`")).unwrap_or_default();
        let allowed = tag.allowed.map(|allowed| format!(" (allowed: {allowed})")).unwrap_or_default();
        let _ =
            writeln!(text, "| `{}` | {}{planned}{allowed}{reason} | {after} |", tag.tag, tag.action.as_str());
    }
    for UntagReport { tag, removal } in &report.untagged {
        let _ = writeln!(text, "| `{tag}` | {} | |", removal.as_str());
    }
    let copied = report.copied.as_ref().map(Copied::text);
    for line in copied.into_iter().chain(report.record.as_ref().map(Record::text)) {
        let _ = writeln!(text, "\n{line}");
    }
    if let Some(error) = &report.unfinished {
        let _ = writeln!(text, "\n{}", markdown::error(error));
    }
    text
}

/// The document of `promote`.
pub fn json(report: &Report) -> Value {
    let mut document = json!({ "mediaType": MEDIA_TYPE });
    merge(&mut document, verdict::fields(&report.verdict));
    let tags: Vec<Value> = report.tags.iter().map(TagReport::to_json).collect();
    let untagged: Vec<Value> = report
        .untagged
        .iter()
        .map(|UntagReport { tag, removal }| {
            let detail = if let Removal::Kept(why) = removal { Some(why) } else { None };
            json!({ "tag": tag.as_str(), "action": removal.as_str(), "detail": detail })
        })
        .collect();
    merge(
        &mut document,
        json!({
            "outcome": report.outcome().as_str(),
            "dryRun": report.dry_run,
            "tags": tags,
            "untagged": untagged,
            "record": report.record.as_ref().map(Record::to_json),
            "copied": report.copied.as_ref().map(|copied| json!({
                "from": copied.from.to_string(),
                "images": copied.images,
                "attestations": copied.attestations,
            })),
        }),
    );
    if let Some(unfinished) = &report.unfinished {
        merge(&mut document, json!({ "error": super::error_fields(unfinished) }));
    }
    document
}
