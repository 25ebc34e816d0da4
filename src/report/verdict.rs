//! The verdict, as `verify` prints it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::split::{self, Split};
use super::style::Style;
use super::{markdown, merge, undecided};
use crate::attestation::Content;
use crate::error::{Error, Kind};
use crate::oci::{Reference, Tag};
use crate::policy::{Cell, Outcome, PlatformRow, Status, Verdict};
use crate::reason::Reason;
use crate::text::{in_line, printable};

/// The media type of `verify`'s JSON document.
pub const MEDIA_TYPE: &str = "application/vnd.quorate.verify.v1+json";
/// The media type of the JSON document on several images.
pub const LIST_MEDIA_TYPE: &str = "application/vnd.quorate.verify-list.v1+json";

/// What `verify` says of one image: the verdict, and what is to be known besides.
#[derive(Debug)]
pub struct Verified {
    /// The verdict.
    pub verdict: Verdict,
    /// The tag that was resolved to the image, if it was asked for by one.
    pub tag: Option<Tag>,
    /// What the verdict does not show by itself.
    pub notes: Vec<Note>,
    /// What the images of builders that disagree differ in, if that was asked.
    pub split: Option<Vec<Split>>,
}

/// Something that a verdict does not show by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// All evidence came from a proof pack.
    PackAlone,
    /// All evidence came from files.
    FilesAlone,
    /// Not every platform of the index was asked for.
    SomePlatforms,
    /// The image has no index: it is a release of its own platform.
    Single,
}

impl Note {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::PackAlone => "pack-alone",
            Self::FilesAlone => "files-alone",
            Self::SomePlatforms => "some-platforms",
            Self::Single => "single",
        }
    }

    /// The same in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::PackAlone => {
                "judged by a proof pack alone: it cannot show that no builder disagrees elsewhere"
            }
            Self::FilesAlone => "judged by files alone: they cannot show that no builder disagrees elsewhere",
            Self::SomePlatforms => {
                "judged for the platforms that were asked for: it says nothing of the others"
            }
            Self::Single => "judged as one image without an index: it says nothing of other platforms",
        }
    }
}

/// An image that was asked for, and what came of it.
pub type Asked = (Reference, Result<Verified, Error>);

/// How grave it is: what was decided weighs more than what could not be, for trying again does not
/// mend it.
fn gravity(result: &Result<Verified, Error>) -> u8 {
    match result {
        Ok(verified) if verified.verdict.approval().is_some() => 0,
        Err(error) if matches!(error.kind(), Kind::Undecided | Kind::Interrupted) => 1,
        Err(error) if error.kind() == Kind::Request => 2,
        _ => 3,
    }
}

/// The gravest of several; of equal ones the first.
pub fn gravest(all: &[Asked]) -> Option<&Asked> {
    all.iter().rev().max_by_key(|(_, result)| gravity(result))
}

/// What `verify` says of one image.
pub fn verified(verified: &Verified, style: Style) -> String {
    let mut out = text(&verified.verdict, style);
    if let Some(tag) = &verified.tag {
        // The headline ends with the digest; the tag is what was asked for.
        out = out.replacen('\n', &format!(" (tag {tag})\n"), 1);
    }
    match verified.split.as_deref() {
        Some([]) => out.push_str("split: all builders that were heard got this image\n"),
        Some(splits) => out.push_str(&split::text(splits)),
        None => {}
    }
    for note in &verified.notes {
        let _ = writeln!(out, "note: {}", note.text());
    }
    out
}

/// What `verify` says of several images.
pub fn list(all: &[Asked], style: Style) -> String {
    let one = |(asked, result): &Asked| match result {
        Ok(found) => verified(found, style),
        Err(error) => {
            let said = printable(&error.to_string());
            let mut text = format!("{}  {asked}\n{said}\n", style.paint("1;33", "✗ undecided"));
            for cause in error.causes() {
                let _ = writeln!(text, "  caused by: {}", printable(&cause));
            }
            if let Some(hint) = error.next() {
                let _ = writeln!(text, "hint: {}", printable(hint));
            }
            text
        }
    };
    all.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// The JSON document of `verify`.
pub fn json(verified: &Verified) -> Value {
    let mut document = json!({
        "mediaType": MEDIA_TYPE,
        "tag": verified.tag.as_ref().map(Tag::as_str),
        "notes": verified.notes.iter().map(|note| json!({ "code": note.code(), "detail": note.text() }))
            .collect::<Vec<_>>(),
        "split": verified.split.as_deref().map(split::json),
    });
    merge(&mut document, fields(&verified.verdict));
    document
}

/// The JSON document on several images: the gravest verdict, and the document of each.
pub fn list_json(all: &[Asked]) -> Value {
    let word = |result: &Result<Verified, Error>| {
        result.as_ref().ok().map(|verified| verified.verdict.outcome.as_str())
    };
    json!({
        "mediaType": LIST_MEDIA_TYPE,
        "verdict": gravest(all).and_then(|(_, result)| word(result)),
        "images": all.iter().map(|(asked, result)| json!({
            "reference": asked.to_string(),
            "result": match result {
                Ok(verified) => json(verified),
                Err(error) => undecided(MEDIA_TYPE, error),
            },
        })).collect::<Vec<_>>(),
    })
}

/// The verdict: a headline, the matrix of platforms and builders, and why each cell is as it is.
pub fn text(verdict: &Verdict, style: Style) -> String {
    let mut text = String::new();
    let outcome = verdict.outcome.as_str();
    let headline = match verdict.outcome {
        Outcome::Met(_) => style.paint("1;32", &format!("✓ {outcome}")),
        Outcome::Short => style.paint("1;33", &format!("✗ {outcome}")),
        _ => style.paint("1;31", &format!("✗ {outcome}")),
    };
    let _ = writeln!(text, "{headline}  {}@{}", verdict.repository, verdict.digest);
    let _ = writeln!(text, "policy {}", verdict.policy);
    if let Some(environment) = &verdict.environment {
        let _ = writeln!(text, "environment {}", in_line(environment));
    }
    if let Some(group) = &verdict.group {
        let _ = writeln!(text, "{}", in_line(&group.to_string()));
    }
    for refusal in &verdict.refusals {
        let _ = writeln!(text, "✗ {}: {}", refusal.reason, in_line(&refusal.detail));
    }
    if !verdict.platforms.is_empty() {
        text.push('\n');
        matrix(&mut text, verdict, style);
    }
    let mut notes = String::new();
    for row in &verdict.platforms {
        for cell in &row.cells {
            if let Some(reason) = cell.reason {
                let detail = cell.detail.as_deref().map(in_line).unwrap_or_default();
                let _ = writeln!(notes, "{} {}: {reason}: {detail}", row.platform, in_line(&cell.builder));
                contradiction(&mut notes, row, cell);
            } else if let (Status::Counted, Some(note)) = (cell.status, &cell.detail) {
                let _ = writeln!(notes, "{} {}: {}", row.platform, in_line(&cell.builder), in_line(note));
            }
        }
        if let Some(missing) = missing(verdict, row) {
            let _ = writeln!(notes, "{missing}");
        }
    }
    for waived in &verdict.waived {
        let (builder, detail) = (in_line(&waived.builder), in_line(&waived.detail));
        let _ = writeln!(notes, "waived {} of {builder}: {detail}", waived.statement);
    }
    for ignored in &verdict.ignored {
        let detail = in_line(&ignored.detail);
        let _ = writeln!(notes, "ignored {}: {}: {detail}", ignored.bundle, ignored.reason);
    }
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes);
    }
    text
}

/// What stands against each other where a builder disagrees with others or with itself: who said it,
/// and what. Empty for every other cell.
pub(super) fn sides(row: &PlatformRow, cell: &Cell) -> Vec<(String, Content)> {
    let with = |status| row.cells.iter().filter(move |cell| cell.status == status);
    match (cell.status, cell.content) {
        (Status::Equivocation, _) => {
            let mut sides: Vec<(String, Content)> = Vec::new();
            for (number, content) in cell.statements.values().enumerate() {
                let Some(content) = content else { continue };
                if sides.iter().all(|(_, known)| known != content) {
                    sides.push((format!("statement {}", number + 1), *content));
                }
            }
            sides
        }
        (Status::Dissent, Some(content)) => {
            let agreed = with(Status::Counted).find_map(|other| other.content);
            let others = match agreed {
                Some(agreed) => vec![("others".to_owned(), agreed)],
                // Nothing is agreed: each stands against each.
                None => with(Status::Dissent)
                    .filter(|other| other.builder != cell.builder)
                    .filter_map(|other| Some((other.builder.clone(), other.content?)))
                    .collect(),
            };
            [vec![(cell.builder.clone(), content)], others].concat()
        }
        _ => Vec::new(),
    }
}

/// The fields of a content: what each is called, and whether they differ between sides.
pub(super) fn compared(sides: &[(String, Content)]) -> [(&'static str, bool, Vec<String>); 2] {
    let field = |name, value: fn(&Content) -> String| {
        let values: Vec<String> = sides.iter().map(|(_, content)| value(content)).collect();
        (name, values.windows(2).any(|pair| pair.first() != pair.last()), values)
    };
    [
        field("narHash", |content| content.nar_hash.to_string()),
        field("configuration", |content| content.config_digest.to_string()),
    ]
}

/// Both contents, one below the other, and the statements that hold them.
fn contradiction(notes: &mut String, row: &PlatformRow, cell: &Cell) {
    let sides = sides(row, cell);
    if sides.is_empty() {
        return;
    }
    let width = sides.iter().map(|(who, _)| who.chars().count()).max().unwrap_or(0);
    for (name, differs, values) in compared(&sides) {
        let mut label = name;
        for ((who, _), value) in sides.iter().zip(values) {
            let _ = match (differs, sides.as_slice()) {
                (true, _) | (_, [_]) => {
                    let sign = if differs { "≠" } else { " " };
                    writeln!(notes, "    {label:<13} {sign} {:<width$}  {value}", in_line(who))
                }
                _ if label.is_empty() => Ok(()),
                _ => writeln!(notes, "    {label:<13} = {:<width$}  {value}", "all"),
            };
            label = "";
        }
    }
    for (number, statement) in cell.statements.keys().enumerate() {
        let label = format!("statement {}", number + 1);
        let label = if cell.statements.len() == 1 { "statement" } else { &label };
        let _ = writeln!(notes, "    {label:<13}   {statement}");
    }
}

/// What all platforms need next, in one line.
pub fn lacking(verdict: &Verdict) -> String {
    let missing: Vec<String> = verdict.platforms.iter().filter_map(|row| missing(verdict, row)).collect();
    // Who has spoken of another build, or is waived there, is silent too.
    if missing.is_empty() { "the policy wants every builder heard".to_owned() } else { missing.join("; ") }
}

/// What a verdict that is not met comes to, and the next step; `None` if it is met.
pub fn next(verdict: &Verdict) -> Option<(&'static str, &'static str)> {
    Some(match verdict.outcome {
        Outcome::Met(_) => return None,
        Outcome::Refused => ("refused", mend(verdict)),
        Outcome::Equivocation => (
            "a builder contradicts itself",
            "find out why one builder signed two contents for one build, before anybody trusts it again",
        ),
        Outcome::Dissent => {
            ("a builder disagrees", "compare the builds: one of them is not what the commit says it is")
        }
        Outcome::Short if verdict.group.is_none() => {
            let rejected = |row: &PlatformRow| row.cells.iter().any(|cell| cell.status == Status::Rejected);
            let hint = if verdict.platforms.iter().any(rejected) {
                "mend what keeps the attestations from counting: the report has the reason of each"
            } else {
                "nobody whom the policy names attested this image: is it the one you mean?"
            };
            ("the quorum is not met", hint)
        }
        Outcome::Short if verdict.platforms.iter().any(|row| without(verdict, row)) => (
            "the quorum is not met",
            "assemble an index of the platforms that the policy names; with more votes this one is refused",
        ),
        Outcome::Short if verdict.platforms.iter().all(|row| row.have >= row.need) => (
            "the quorum is not met",
            "the policy wants every builder heard: let those that are silent attest this build, too",
        ),
        Outcome::Short => {
            ("the quorum is not met", "let more builders attest the platforms that are short, then try again")
        }
    })
}

/// What is behind it, in a word or two: the code of a refusal, or who disagrees.
pub fn why(verdict: &Verdict) -> Option<String> {
    if let Some(refusal) = verdict.refusals.first() {
        return Some(refusal.reason.to_string());
    }
    let status = match verdict.outcome {
        Outcome::Equivocation => Status::Equivocation,
        _ => Status::Dissent,
    };
    let cells = verdict.platforms.iter().flat_map(|row| &row.cells).filter(|cell| cell.status == status);
    let names: BTreeSet<String> = cells.map(|cell| in_line(&cell.builder)).collect();
    (!names.is_empty()).then(|| names.into_iter().collect::<Vec<_>>().join(", "))
}

/// What mends a refusal; no vote does.
fn mend(verdict: &Verdict) -> &'static str {
    match verdict.refusals.first().map(|refusal| refusal.reason) {
        Some(Reason::NoRule) => {
            "is it the image that you mean? If so, the policy needs an `[[image]]` for its repository"
        }
        Some(Reason::NotAnIndex) => {
            "name the index that holds the image; or let the policy judge images alone: `single = true`"
        }
        Some(Reason::PlatformMissing | Reason::PlatformExtra | Reason::PlatformTwice) => {
            "assemble an index of the platforms that the policy names; no vote can mend this one"
        }
        _ => "assemble the index anew, from the images as they were pushed; no vote can mend this one",
    }
}

/// Whether the release that was judged must have a platform, and the image has not. That is a refusal
/// as soon as a quorum says that it is this release.
fn without(verdict: &Verdict, row: &PlatformRow) -> bool {
    row.digest.is_none() && matches!(verdict.outcome, Outcome::Short)
}

/// What a platform needs next, if votes can still mend it.
pub(super) fn missing(verdict: &Verdict, row: &PlatformRow) -> Option<String> {
    if without(verdict, row) {
        return Some(format!(
            "{}: a release of this sequence must have it, and the image has not",
            row.platform
        ));
    }
    row.digest?;
    if matches!(verdict.outcome, Outcome::Refused) {
        return None;
    }
    if row.have >= row.need {
        if !matches!(verdict.outcome, Outcome::Short) {
            return None;
        }
        let silent = row.cells.iter().filter(|cell| cell.reason == Some(Reason::BuilderSilent));
        let silent: Vec<String> = silent.map(|cell| in_line(&cell.builder)).collect();
        return (!silent.is_empty())
            .then(|| format!("{} must hear {} as well", row.platform, silent.join(", ")));
    }
    let counted: Vec<&str> =
        row.cells.iter().filter(|c| c.status == Status::Counted).map(|c| c.operator.as_str()).collect();
    let silent: Vec<String> = row
        .cells
        .iter()
        .filter(|cell| matches!(cell.status, Status::Missing | Status::Rejected | Status::Waived))
        .filter(|cell| cell.able && cell.reason != Some(Reason::KeyRevoked))
        .filter(|cell| !counted.contains(&cell.operator.as_str()))
        .map(|cell| in_line(&cell.builder))
        .collect();
    let lacking = row.need - row.have;
    let operators = if lacking == 1 { "operator" } else { "operators" };
    let from = if silent.is_empty() { String::new() } else { format!(": {} can", silent.join(", ")) };
    let apart = verdict.distinct_by.besides().map(|also| format!(", each of another {also}"));
    let apart = apart.unwrap_or_default();
    Some(format!("{} needs {lacking} more {operators}{apart}{from}", row.platform))
}

fn matrix(text: &mut String, verdict: &Verdict, style: Style) {
    let Some(first) = verdict.platforms.first() else { return };
    let mut header = vec!["platform".to_owned(), "quorum".to_owned()];
    header.extend(first.cells.iter().map(|cell| in_line(&cell.builder)));
    let mut lines = vec![header];
    for row in &verdict.platforms {
        let mut line = vec![row.platform.to_string(), format!("{} of {}", row.have, row.need)];
        line.extend(row.cells.iter().map(shown));
        lines.push(line);
    }
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            lines.iter().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for (number, line) in lines.iter().enumerate() {
        let mut out = String::new();
        for (column, field) in line.iter().enumerate() {
            let pad = widths.get(column).map_or(0, |width| width.saturating_sub(field.chars().count()));
            let painted = if number == 0 {
                style.paint("1", field)
            } else {
                match field.chars().next() {
                    Some('✓') => style.paint("32", field),
                    Some('✗' | '!') => style.paint("31", field),
                    _ => field.clone(),
                }
            };
            out.push_str(&painted);
            out.push_str(&" ".repeat(pad + 2));
        }
        let _ = writeln!(text, "{}", out.trim_end());
    }
}

pub(super) fn shown(cell: &Cell) -> String {
    let symbol = match cell.status {
        Status::Counted => "✓",
        Status::Missing | Status::Waived => "·",
        Status::Rejected | Status::Dissent => "✗",
        Status::Equivocation => "!",
    };
    format!("{symbol} {}", cell.status.as_str())
}

/// A summary in Markdown: the headline, the next step, the matrix, and why each cell is as it is.
pub fn markdown(verdict: &Verdict) -> String {
    let symbol = if matches!(verdict.outcome, Outcome::Met(_)) { "✓" } else { "✗" };
    let image = format!("{}@{}", verdict.repository, verdict.digest);
    let mut text = format!("### {symbol} {}\n\n`{image}`\n\n", verdict.outcome.as_str());
    if let Some((what, hint)) = next(verdict) {
        let _ = writeln!(text, "**{what}.** Next: {hint}\n");
    }
    for refusal in &verdict.refusals {
        let _ = writeln!(text, "- `{}` {}", refusal.reason, markdown::escape(&refusal.detail));
    }
    if let Some(first) = verdict.platforms.first() {
        let builders = first.cells.iter().map(|cell| markdown::escape(&cell.builder));
        let header: Vec<String> =
            ["platform".to_owned(), "quorum".to_owned()].into_iter().chain(builders).collect();
        let _ = writeln!(text, "\n| {} |\n|{}", header.join(" | "), "---|".repeat(header.len()));
        for row in &verdict.platforms {
            let _ = write!(text, "| `{}` | {} of {} |", row.platform, row.have, row.need);
            for cell in &row.cells {
                let reason = cell.reason.map(|reason| format!(" `{reason}`")).unwrap_or_default();
                let _ = write!(text, " {}{reason} |", shown(cell));
            }
            text.push('\n');
        }
    }
    text.push('\n');
    for row in &verdict.platforms {
        for cell in row.cells.iter().filter(|cell| cell.reason.is_some()) {
            let detail = cell.detail.as_deref().map(markdown::escape).unwrap_or_default();
            let _ = writeln!(text, "- `{}` {}: {detail}", row.platform, markdown::escape(&cell.builder));
        }
        if let Some(missing) = missing(verdict, row) {
            let _ = writeln!(text, "- {}", markdown::escape(&missing));
        }
    }
    for row in &verdict.platforms {
        for cell in &row.cells {
            let sides = sides(row, cell);
            if sides.is_empty() {
                continue;
            }
            let who: Vec<String> = sides.iter().map(|(who, _)| markdown::escape(who)).collect();
            let head = format!("`{}` {}", row.platform, markdown::escape(&cell.builder));
            let _ = writeln!(text, "\n| {head} | {} |\n|{}", who.join(" | "), "---|".repeat(who.len() + 1));
            for (name, differs, values) in compared(&sides) {
                let sign = if differs { "≠" } else { "=" };
                let _ = writeln!(text, "| {name} {sign} | `{}` |", values.join("` | `"));
            }
        }
    }
    if let Some(group) = &verdict.group {
        let _ = writeln!(text, "\n{}", markdown::escape(&group.to_string()));
    }
    let _ = writeln!(text, "\nPolicy `{}`", verdict.policy);
    text
}

/// The fields that `verify` and `promote` have in common.
pub(super) fn fields(verdict: &Verdict) -> Value {
    json!({
        "verdict": verdict.outcome.as_str(),
        "image": { "repository": verdict.repository.to_string(), "digest": verdict.digest },
        "policy": { "digest": verdict.policy },
        "environment": verdict.environment,
        "refusals": verdict.refusals.iter().map(|refusal| json!({
            "reason": refusal.reason,
            "detail": refusal.detail,
        })).collect::<Vec<_>>(),
        "group": verdict.group.as_ref().map(|group| json!({
            "name": group.name.to_string(),
            "commit": group.commit,
            "sequence": group.sequence,
            "source": group.source,
            "target": group.target,
        })),
        "platforms": verdict.platforms.iter().map(row_json).collect::<Vec<_>>(),
        "waived": verdict.waived.iter().map(|waived| json!({
            "statement": waived.statement,
            "builder": waived.builder,
            "manifest": waived.manifest,
            "detail": waived.detail,
        })).collect::<Vec<_>>(),
        "ignored": verdict.ignored.iter().map(|ignored| json!({
            "bundle": ignored.bundle,
            "manifest": ignored.manifest,
            "reason": ignored.reason,
            "detail": ignored.detail,
        })).collect::<Vec<_>>(),
    })
}

fn row_json(row: &PlatformRow) -> Value {
    json!({
        "platform": row.platform.to_string(),
        "system": row.system.map(|system| system.as_str()),
        "digest": row.digest,
        "have": row.have,
        "need": row.need,
        "cells": row.cells.iter().map(cell_json).collect::<Vec<_>>(),
    })
}

fn cell_json(cell: &Cell) -> Value {
    json!({
        "builder": cell.builder,
        "operator": cell.operator,
        "status": cell.status.as_str(),
        "reason": cell.reason.map(Reason::code),
        "detail": cell.detail,
        "statements": cell.statements.keys().collect::<Vec<_>>(),
        "said": cell.statements.iter().filter_map(|(statement, content)| content.map(|content| json!({
            "statement": statement,
            "narHash": content.nar_hash,
            "configDigest": content.config_digest,
        }))).collect::<Vec<_>>(),
        "narHash": cell.content.map(|content| content.nar_hash),
        "configDigest": cell.content.map(|content| content.config_digest),
    })
}
