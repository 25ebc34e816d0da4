//! Results as text for people. Symbols carry the meaning; colour only repeats it.

use std::fmt::Write as _;

use crate::policy::{Cell, Outcome, Status, Verdict};

#[cfg(feature = "cli")]
use crate::ops::{assemble, attest, promote};

/// Whether text may be coloured.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Write ANSI colours.
    pub color: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The verdict: a headline, the matrix of platforms and builders, and why each cell is as it is.
pub fn verdict(verdict: &Verdict, style: Style) -> String {
    let mut text = String::new();
    let outcome = verdict.outcome.as_str();
    let headline = match verdict.outcome {
        Outcome::Met(_) => style.paint("1;32", &format!("✓ {outcome}")),
        Outcome::Short => style.paint("1;33", &format!("✗ {outcome}")),
        _ => style.paint("1;31", &format!("✗ {outcome}")),
    };
    let _ = writeln!(text, "{headline}  {}@{}", verdict.repository, verdict.digest);
    let _ = writeln!(text, "policy {}", verdict.policy);
    if let Some(group) = &verdict.group {
        let _ = writeln!(text, "{}", printable(&group.to_string()));
    }
    for refusal in &verdict.refusals {
        let _ = writeln!(text, "✗ {}: {}", refusal.reason, printable(&refusal.detail));
    }
    if !verdict.platforms.is_empty() {
        text.push('\n');
        matrix(&mut text, verdict, style);
    }
    let mut notes = String::new();
    for row in &verdict.platforms {
        for cell in &row.cells {
            if let Some(reason) = cell.reason {
                let detail = cell.detail.as_deref().map(printable).unwrap_or_default();
                let _ = writeln!(notes, "{} {}: {reason}: {detail}", row.platform, printable(&cell.builder));
                if let (Status::Dissent | Status::Equivocation, Some(content)) = (cell.status, cell.content) {
                    let _ = writeln!(
                        notes,
                        "    got narHash {}, configuration {}",
                        content.nar_hash, content.config_digest
                    );
                }
            }
        }
        if let Some(missing) = missing(row) {
            let _ = writeln!(notes, "{missing}");
        }
    }
    for ignored in &verdict.ignored {
        let detail = printable(&ignored.detail);
        let _ = writeln!(notes, "ignored {}: {}: {detail}", ignored.bundle, ignored.reason);
    }
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes);
    }
    text
}

/// What a platform needs next, if votes can still mend it.
fn missing(row: &crate::policy::PlatformRow) -> Option<String> {
    row.digest?;
    if row.have >= row.need {
        return None;
    }
    let counted: Vec<&str> =
        row.cells.iter().filter(|c| c.status == Status::Counted).map(|c| c.operator.as_str()).collect();
    let silent: Vec<String> = row
        .cells
        .iter()
        .filter(|cell| matches!(cell.status, Status::Missing | Status::Rejected))
        .filter(|cell| !counted.contains(&cell.operator.as_str()))
        .map(|cell| printable(&cell.builder))
        .collect();
    let lacking = row.need - row.have;
    let operators = if lacking == 1 { "operator" } else { "operators" };
    let from = if silent.is_empty() { String::new() } else { format!(": {} can", silent.join(", ")) };
    Some(format!("{} needs {lacking} more {operators}{from}", row.platform))
}

fn matrix(text: &mut String, verdict: &Verdict, style: Style) {
    let Some(first) = verdict.platforms.first() else { return };
    let mut header = vec!["platform".to_owned(), "quorum".to_owned()];
    header.extend(first.cells.iter().map(|cell| printable(&cell.builder)));
    let mut lines = vec![header];
    for row in &verdict.platforms {
        let mut line = vec![row.platform.to_string(), format!("{} of {}", row.have, row.need)];
        line.extend(row.cells.iter().map(shown));
        lines.push(line);
    }
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max().unwrap_or(0))
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

fn shown(cell: &Cell) -> String {
    let symbol = match cell.status {
        Status::Counted => "✓",
        Status::Missing => "·",
        Status::Rejected | Status::Dissent => "✗",
        Status::Equivocation => "!",
    };
    format!("{symbol} {}", cell.status.as_str())
}

/// The result of `promote`: the verdict, then the tags.
#[cfg(feature = "cli")]
pub fn promote(report: &promote::Report, style: Style) -> String {
    let mut text = verdict(&report.verdict, style);
    if !report.tags.is_empty() {
        text.push('\n');
    }
    for tag in &report.tags {
        let digest = |digest: Option<crate::oci::Digest>| digest.map_or("nothing".to_owned(), |d| d.to_string());
        let line = match tag.action {
            promote::Action::Created if report.dry_run => format!("would be created as {}", digest(Some(report.verdict.digest))),
            promote::Action::Moved if report.dry_run => {
                format!("would move from {} to {}", digest(tag.before), digest(Some(report.verdict.digest)))
            }
            promote::Action::Created => format!("created as {}", digest(tag.after)),
            promote::Action::Moved => format!("moved from {} to {}", digest(tag.before), digest(tag.after)),
            promote::Action::Unchanged => format!("unchanged, names {}", digest(tag.after)),
            promote::Action::Restored => format!("put back to {}", digest(tag.after)),
            promote::Action::Skipped => format!("not moved, names {}", digest(tag.after)),
            promote::Action::Unknown => format!("written; names {} now", digest(tag.after)),
            promote::Action::Refused => match &tag.refusal {
                Some((reason, detail)) => format!("not moved: {reason}: {}", printable(detail)),
                None => "not moved".to_owned(),
            },
        };
        let symbol = match tag.action {
            promote::Action::Created | promote::Action::Moved => style.paint("32", "✓"),
            promote::Action::Unchanged => "=".to_owned(),
            _ => style.paint("31", "✗"),
        };
        let _ = writeln!(text, "{symbol} {}  {line}", tag.tag);
    }
    text
}

/// The result of `assemble`: the reference of the index by digest, and its children.
#[cfg(feature = "cli")]
pub fn assemble(report: &assemble::Report) -> String {
    match report {
        assemble::Report::Refused(refused) => format!("✗ refused: {}: {}\n", refused.reason, printable(&refused.detail)),
        assemble::Report::Assembled(done) => {
            let mut text = format!("{}@{}\n", done.repository, done.index.digest());
            for (child, source) in done.index.manifests.iter().zip(&done.sources) {
                let platform = child.platform.as_ref().map(ToString::to_string).unwrap_or_default();
                let _ = writeln!(text, "  {platform}  {}  from {source}", child.digest);
            }
            if let Some(tag) = &done.tag {
                let verb = if done.dry_run { "would be named" } else { "named" };
                let _ = writeln!(text, "  {verb} {}", tag.tag());
            }
            text
        }
    }
}

/// The result of `attest`.
#[cfg(feature = "cli")]
pub fn attest(report: &attest::Report) -> String {
    let done = |headline: String, attested: &attest::Attested| {
        let build = &attested.statement.build;
        let mut text = format!("{headline}\n");
        let _ = writeln!(text, "  manifest      {}", attested.statement.manifest());
        let _ = writeln!(text, "  system        {}", build.system);
        let _ = writeln!(text, "  builder       {}", printable(&build.builder));
        let _ = writeln!(text, "  commit        {}, sequence {}", build.commit, build.sequence);
        let _ = writeln!(text, "  narHash       {}", build.content.nar_hash);
        let _ = writeln!(text, "  configuration {}", build.content.config_digest);
        let _ = writeln!(text, "  bundle        {}", attested.bundle);
        if let Some(index) = attested.log_index {
            let _ = writeln!(text, "  log index     {index}, seen {}", attested.time);
        }
        if let Some(attached) = &attested.attached {
            let _ = writeln!(text, "  attached      {} ({})", attached.manifest, super::json::place(&attached.place));
        }
        text
    };
    match report {
        attest::Report::Attested(attested) => {
            let verb = match attested.statement.claim {
                crate::attestation::Claim::Build => "attested",
                crate::attestation::Claim::Dissent { .. } => "dissent recorded for",
            };
            done(format!("✓ {verb} {}", attested.statement.name), attested)
        }
        attest::Report::Already(attested) => {
            done(format!("= already attested {}", attested.statement.name), attested)
        }
        attest::Report::Differs(difference) => {
            format!("✗ {}: {}\n  manifest {}\n", difference.reason, printable(&difference.detail), difference.manifest)
        }
    }
}

/// Text of others, safe for a terminal: line ends stay, other control characters are dropped.
fn printable(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}
