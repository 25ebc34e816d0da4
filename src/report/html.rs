//! A report as one HTML file: no scripts, nothing fetched, readable on a phone and on paper.
//!
//! Markup is written in literals alone; whatever was computed or written by others goes through
//! `Page::text`, which escapes it. Colour says nothing that a symbol or word does not say too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::promote::{self, TagReport};
use super::split::Split;
use super::verdict::{self, Asked, Verified};
use crate::error::Error;
use crate::oci::Digest;
use crate::policy::{Cell, Outcome, PlatformRow, Status, Verdict};
use crate::text::printable;

const STYLE: &str = "\
:root{color-scheme:light dark;--good:#116329;--bad:#a40e26;--soft:#59636e;--line:#d1d9e0;--back:#f6f8fa}\
@media(prefers-color-scheme:dark){:root{--good:#4ac26b;--bad:#ff938a;--soft:#9198a1;--line:#3d444d;--back:#151b23}}\
body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}\
h1{font-size:1.6rem;margin:.5rem 0}h2{font-size:1.2rem;margin:1.5rem 0 .5rem}h3{font-size:1rem}\
code{font:.875em/1.4 ui-monospace,monospace;overflow-wrap:anywhere}\
.good{color:var(--good)}.bad{color:var(--bad)}.soft{color:var(--soft)}\
.wide{overflow-x:auto}table{border-collapse:collapse;min-width:100%}\
th,td{border:1px solid var(--line);padding:.4rem .6rem;text-align:left;vertical-align:top}th{background:var(--back)}\
pre{background:var(--back);border:1px solid var(--line);padding:.6rem;white-space:pre-wrap;overflow-wrap:anywhere}\
section+section{border-top:1px solid var(--line);margin-top:2rem}li{overflow-wrap:anywhere}\
@media(max-width:40rem){body{font-size:.9rem;padding:.5rem}th,td{padding:.25rem}}";

/// A page while it is written.
struct Page(String);

impl Page {
    /// Markup, from the source of this program.
    fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text as it stands, between tags or in a quoted attribute.
    fn text(&mut self, text: &str) -> &mut Self {
        for c in printable(text).chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        self
    }

    fn code(&mut self, text: &str) -> &mut Self {
        self.markup("<code>").text(text).markup("</code>")
    }

    /// A line of a list: a code, and what it means here.
    fn item(&mut self, code: &str, detail: &str) -> &mut Self {
        self.markup("<li>").code(code).text(" ").text(detail).markup("</li>\n")
    }

    /// A page around what `body` writes.
    fn whole(title: &str, body: impl FnOnce(&mut Self)) -> String {
        let mut page = Self(String::new());
        // Nothing runs and nothing is fetched, whatever the page holds.
        page.markup("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
            .markup("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-")
            .text(&STANDARD.encode(Digest::of(STYLE.as_bytes()).as_bytes()))
            .markup("'; base-uri 'none'; form-action 'none'\">\n")
            .markup("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
            .markup("<meta name=\"referrer\" content=\"no-referrer\">\n<title>")
            .text(title)
            .markup("</title>\n<style>")
            .markup(STYLE)
            .markup("</style>\n</head>\n<body>\n<main>\n");
        body(&mut page);
        page.markup("</main>\n<footer class=\"soft\"><p>Written by quorate ")
            .text(env!("CARGO_PKG_VERSION"))
            .markup(". This page proves nothing by itself: run the command again to know.</p></footer>\n");
        page.markup("</body>\n</html>\n");
        page.0
    }
}

/// The report of `verify`.
pub fn verify(all: &[Asked]) -> String {
    let title = match all {
        [(_, Ok(one))] => title(&one.verdict),
        _ => format!("quorate: {} images", all.len()),
    };
    Page::whole(&title, |page| {
        for (asked, result) in all {
            match result {
                Ok(verified) => image(page, verified),
                Err(error) => {
                    page.markup("<section>\n");
                    failure(page, Some(&asked.to_string()), error);
                    page.markup("</section>\n");
                }
            }
        }
    })
}

/// The report of `promote`.
pub fn promote(report: &promote::Report) -> String {
    Page::whole(&title(&report.verdict), |page| {
        page.markup("<section>\n");
        verdict(page, &report.verdict, None);
        page.markup("<h2>Tags: ").text(report.outcome().as_str());
        page.markup(if report.dry_run { " (dry run)</h2>\n" } else { "</h2>\n" });
        tags(page, report);
        if let Some(error) = &report.unfinished {
            failure(page, None, error);
        }
        page.markup("</section>\n");
    })
}

/// The report of a run that came to no result.
pub fn undecided(error: &Error) -> String {
    Page::whole("quorate: undecided", |page| failure(page, None, error))
}

fn title(verdict: &Verdict) -> String {
    format!("quorate: {} {}", verdict.outcome.as_str(), verdict.repository)
}

fn failure(page: &mut Page, of: Option<&str>, error: &Error) {
    page.markup("<h1 class=\"bad\">✗ undecided</h1>\n<p>");
    if let Some(of) = of {
        page.code(of).markup("<br>");
    }
    page.text(&error.to_string()).markup("</p>\n<ul>\n");
    for cause in error.causes() {
        page.markup("<li>caused by: ").text(&cause).markup("</li>\n");
    }
    page.markup("</ul>\n");
    if let Some(hint) = error.next() {
        page.markup("<p><strong>Next:</strong> ").text(hint).markup("</p>\n");
    }
}

fn image(page: &mut Page, verified: &Verified) {
    page.markup("<section>\n");
    verdict(page, &verified.verdict, verified.tag.as_ref().map(ToString::to_string).as_deref());
    verified.split.iter().flatten().for_each(|found| split(page, found));
    for note in &verified.notes {
        page.markup("<p>Note: ").text(note.text()).markup("</p>\n");
    }
    page.markup("</section>\n");
}

fn verdict(page: &mut Page, verdict: &Verdict, tag: Option<&str>) {
    page.markup(match verdict.outcome {
        Outcome::Met(_) => "<h1 class=\"good\">✓ ",
        _ => "<h1 class=\"bad\">✗ ",
    });
    page.text(verdict.outcome.as_str()).markup("</h1>\n<p>");
    page.code(&format!("{}@{}", verdict.repository, verdict.digest));
    if let Some(tag) = tag {
        page.text(" (tag ").code(tag).text(")");
    }
    page.markup("<br>Policy ").code(&verdict.policy.to_string());
    if let Some(environment) = &verdict.environment {
        page.markup("<br>Environment ").text(environment);
    }
    if let Some(group) = &verdict.group {
        page.markup("<br>").text(&group.to_string());
    }
    page.markup("</p>\n");
    if let Some((what, hint)) = verdict::next(verdict) {
        page.markup("<p><strong>").text(what).markup(".</strong> Next: ").text(hint).markup("</p>\n");
    }
    if !verdict.refusals.is_empty() {
        page.markup("<h2>Refused because</h2>\n<ul>\n");
        for refusal in &verdict.refusals {
            page.item(refusal.reason.code(), &refusal.detail);
        }
        page.markup("</ul>\n");
    }
    matrix(page, verdict);
    verdict.platforms.iter().for_each(|row| dissent(page, row));
    verdict.platforms.iter().for_each(|row| shortfall(page, verdict, row));
    if !verdict.waived.is_empty() {
        page.markup("<h2>Waived by the policy</h2>\n<ul>\n");
        for waived in &verdict.waived {
            page.item(&waived.statement.to_string(), &format!("of {}: {}", waived.builder, waived.detail));
        }
        page.markup("</ul>\n");
    }
    if !verdict.ignored.is_empty() {
        page.markup("<h2>Ignored</h2>\n<ul>\n");
        for ignored in &verdict.ignored {
            page.item(ignored.reason.code(), &format!("{}: {}", ignored.bundle, ignored.detail));
        }
        page.markup("</ul>\n");
    }
}

fn matrix(page: &mut Page, verdict: &Verdict) {
    let Some(first) = verdict.platforms.first() else { return };
    page.markup("<h2>Votes</h2>\n<div class=\"wide\" tabindex=\"0\"><table>\n<thead><tr>")
        .markup("<th scope=\"col\">Platform</th><th scope=\"col\">Quorum</th>");
    for cell in &first.cells {
        page.markup("<th scope=\"col\">").text(&cell.builder).markup("<br><span class=\"soft\">");
        page.text(&cell.operator).markup("</span></th>");
    }
    page.markup("</tr></thead>\n<tbody>\n");
    for row in &verdict.platforms {
        page.markup("<tr><th scope=\"row\">").text(&row.platform.to_string()).markup("</th><td>");
        page.text(&format!("{} of {}", row.have, row.need)).markup("</td>");
        for cell in &row.cells {
            page.markup(match cell.status {
                Status::Counted => "<td class=\"good\">",
                Status::Missing | Status::Waived => "<td class=\"soft\">",
                Status::Rejected | Status::Dissent | Status::Equivocation => "<td class=\"bad\">",
            });
            page.text(&verdict::shown(cell));
            if let Some(reason) = cell.reason {
                page.markup("<br>").code(reason.code());
            }
            page.markup("</td>");
        }
        page.markup("</tr>\n");
    }
    page.markup("</tbody></table></div>\n");
    let reasons = verdict.platforms.iter().flat_map(|row| row.cells.iter().map(move |cell| (row, cell)));
    let reasons: Vec<_> = reasons.filter(|(_, cell)| cell.reason.is_some()).collect();
    if !reasons.is_empty() {
        page.markup("<ul>\n");
        for (row, cell) in reasons {
            let why = cell.detail.as_deref().unwrap_or_default();
            page.item(&format!("{} {}", row.platform, cell.builder), why);
        }
        page.markup("</ul>\n");
    }
}

/// What a platform still needs, and the command for each builder that can mend it.
fn shortfall(page: &mut Page, verdict: &Verdict, row: &PlatformRow) {
    let Some(missing) = verdict::missing(verdict, row) else { return };
    let what = if row.have < row.need { " is short" } else { " is not heard to the end" };
    page.markup("<h2>").text(&row.platform.to_string()).markup(what).markup("</h2>\n<p>");
    page.text(&missing).markup("</p>\n");
    let (Some(system), Some(digest)) = (row.system, row.digest) else { return };
    // A command is to be copied: only names that a shell takes as they stand.
    let plain =
        |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let silent =
        row.cells.iter().filter(|cell| cell.able && cell.status == Status::Missing && plain(&cell.builder));
    let silent: Vec<&Cell> = silent.collect();
    if !silent.is_empty() {
        page.markup("<p>Each of them, where it built the commit, as its CI job or with <code>--key FILE</code>:</p>\n");
        for cell in silent {
            page.markup("<pre>").text(&format!(
                "quorate attest {}@{digest} --builder {} --system {system} --result ./result",
                verdict.repository, cell.builder
            ));
            page.markup("</pre>\n");
        }
    }
}

/// Both contents side by side, for each builder that disagrees with others or with itself.
fn dissent(page: &mut Page, row: &PlatformRow) {
    for cell in &row.cells {
        let sides = verdict::sides(row, cell);
        if sides.is_empty() {
            continue;
        }
        page.markup("<h2>").text(&format!("{}: {}", row.platform, cell.builder)).markup(match cell.status {
            Status::Equivocation => " contradicts itself</h2>\n",
            _ => " disagrees</h2>\n",
        });
        page.markup("<div class=\"wide\" tabindex=\"0\"><table>\n<thead><tr><td></td>");
        for (who, _) in &sides {
            page.markup("<th scope=\"col\">").text(who).markup("</th>");
        }
        page.markup("</tr></thead>\n<tbody>\n");
        for (name, differs, values) in verdict::compared(&sides) {
            page.markup("<tr><th scope=\"row\">").text(name);
            page.markup(if differs { " <span class=\"bad\">≠ differs</span></th>" } else { "</th>" });
            for value in values {
                page.markup("<td>").code(&value).markup("</td>");
            }
            page.markup("</tr>\n");
        }
        page.markup("</tbody></table></div>\n<ul>\n");
        for (number, statement) in cell.statements.keys().enumerate() {
            page.markup("<li>").text(&format!("statement {} ", number + 1)).code(&statement.to_string());
            page.markup("</li>\n");
        }
        page.markup("</ul>\n");
    }
}

/// What two images differ in.
fn split(page: &mut Page, split: &Split) {
    page.markup("<h2>").text(&format!("{}: what {} got differs", split.platform, split.who()));
    page.markup("</h2>\n<p>").code(split.cause().code()).text(" ").text(split.cause().text());
    page.markup("</p>\n<div class=\"wide\" tabindex=\"0\"><table>\n<thead><tr><th scope=\"col\">Where</th>")
        .markup("<th scope=\"col\">This image</th><th scope=\"col\">Theirs</th></tr></thead>\n<tbody>\n");
    for difference in &split.differences {
        page.markup("<tr><th scope=\"row\">")
            .text(&difference.at)
            .markup("<br>")
            .code(difference.cause.code());
        page.markup("</th><td>").code(&difference.ours).markup("</td><td>").code(&difference.theirs);
        page.markup("</td></tr>\n");
    }
    page.markup("</tbody></table></div>\n");
}

fn tags(page: &mut Page, report: &promote::Report) {
    page.markup("<div class=\"wide\" tabindex=\"0\"><table>\n<thead><tr><th scope=\"col\">Tag</th>")
        .markup("<th scope=\"col\">Done</th><th scope=\"col\">Before</th><th scope=\"col\">Now</th></tr></thead>\n<tbody>\n");
    for tag in &report.tags {
        let TagReport { action, refusal, allowed, .. } = tag;
        page.markup("<tr><th scope=\"row\">").text(&tag.tag.to_string()).markup("</th><td>");
        page.text(action.as_str());
        if let Some(allowed) = allowed {
            page.text(&format!(" (allowed: {allowed})"));
        }
        if let Some((reason, detail)) = refusal {
            page.markup("<br>").code(reason.code()).text(" ").text(detail);
        }
        for digest in [tag.before, tag.after] {
            page.markup("</td><td>");
            match digest {
                _ if *action == promote::Action::Unknown => page.text("not known"),
                Some(digest) => page.code(&digest.to_string()),
                None => page.text("nothing"),
            };
        }
        page.markup("</td></tr>\n");
    }
    for removed in &report.untagged {
        page.markup("<tr><th scope=\"row\">").text(&removed.tag.to_string()).markup("</th><td>");
        page.text(removed.removal.as_str()).markup("</td><td></td><td></td></tr>\n");
    }
    page.markup("</tbody></table></div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_shown_and_not_obeyed() {
        let mut page = Page(String::new());
        page.text("<script>alert('1')</script> & \"x\"\u{202e}\u{1b}[31m");
        assert_eq!(page.0, "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &quot;x&quot;[31m");
    }

    #[test]
    fn a_page_allows_its_own_style_and_nothing_else() {
        let page = undecided(&Error::undecided("<b>").because("<i>").hint("<u>"));
        let hash = STANDARD.encode(Digest::of(STYLE.as_bytes()).as_bytes());
        assert!(page.contains(&format!("content=\"default-src 'none'; style-src 'sha256-{hash}';")));
        // A browser hashes what stands between the tags.
        let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
        assert_eq!(style, STYLE);
        for sign in ["<b>", "<i>", "<u>", "<script", "style=", "http:", "https:", "url("] {
            assert!(!page.contains(sign), "{sign}");
        }
    }
}
