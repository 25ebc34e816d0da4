//! What was measured, as Markdown and as a plot.

use std::fmt::Write as _;

use crate::SETTINGS;
use crate::shop::Figures;

/// What it cost in each setting.
pub(crate) type Measured = [Figures; SETTINGS.len()];
/// How one client did, or that it is absent.
pub(crate) type Row = (String, Option<Measured>);

/// One piece of work, and how each client did it; the first one is `quorate`.
pub(crate) struct Table {
    /// Of the file of the plot.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) rows: Vec<Row>,
}

/// A column: its heading, the number to compare, and how that is shown.
struct Column {
    heading: String,
    number: Box<dyn Fn(&Measured) -> u64>,
    show: fn(u64) -> String,
    /// Whether the ratio to the first row is shown.
    ratio: bool,
}

fn columns() -> Vec<Column> {
    let time = |position: usize| {
        let setting = SETTINGS[position];
        Column {
            heading: format!("{}, +{} ms", if setting.tls { "TLS" } else { "http" }, setting.latency),
            number: Box::new(move |figures| figures[position].wall),
            show: |time| format!("{time} ms"),
            ratio: true,
        }
    };
    // Counts are those of the longer latency, where what can overlap does.
    let (cpu, far) = (0, 1);
    let count = |heading: &str, number: fn(&Figures) -> usize, position: usize| Column {
        heading: heading.to_owned(),
        number: Box::new(move |figures| number(&figures[position]) as u64),
        show: |count| count.to_string(),
        ratio: false,
    };
    let mut columns: Vec<_> = (0..SETTINGS.len()).map(time).collect();
    columns.extend([
        Column {
            heading: "CPU".to_owned(),
            number: Box::new(move |figures| figures[cpu].cpu),
            show: |time| format!("{time} ms"),
            ratio: true,
        },
        Column {
            heading: "memory".to_owned(),
            number: Box::new(move |figures| figures[cpu].memory),
            show: |kib| format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024),
            ratio: true,
        },
        count("requests", |figures| figures.requests, far),
        count("depth", |figures| figures.depth, far),
        count("connections", |figures| figures.connections, far),
        count("over TLS", |figures| figures.connections, SETTINGS.len() - 1),
    ]);
    columns
}

#[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
fn ratio(theirs: u64, ours: u64) -> f64 {
    theirs as f64 / ours.max(1) as f64
}

impl Table {
    /// The table, and who is ahead of `quorate` in what.
    pub(crate) fn markdown(&self) -> String {
        let columns = columns();
        let headings: Vec<_> = columns.iter().map(|column| column.heading.as_str()).collect();
        let mut text = format!("| {} | {} |\n|---|", self.title, headings.join(" | "));
        let _ = writeln!(text, "{}", "---|".repeat(columns.len()));
        let Some(ours) = self.rows.first().and_then(|(_, figures)| figures.as_ref()) else { return text };
        let mut ahead = Vec::new();
        for (name, figures) in &self.rows {
            let Some(figures) = figures else {
                let _ = writeln!(text, "| {name} | absent {}|", "| ".repeat(columns.len() - 1));
                continue;
            };
            let mut better = Vec::new();
            let cells = columns.iter().map(|column| {
                let (theirs, ours) = ((column.number)(figures), (column.number)(ours));
                let ratio = ratio(theirs, ours);
                if theirs < ours && (ratio < 0.95 || !column.ratio) {
                    better.push(column.heading.as_str());
                }
                let shown = (column.show)(theirs);
                if column.ratio { format!("{shown} ({ratio:.1})") } else { shown }
            });
            let cells: Vec<_> = cells.collect();
            let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
            if !name.starts_with("quorate") && !better.is_empty() {
                ahead.push(format!("{name} ({})", better.join("; ")));
            }
        }
        match ahead.as_slice() {
            [] if self
                .rows
                .iter()
                .all(|(name, figures)| figures.is_none() || name.starts_with("quorate")) => {}
            [] => text.push_str("\nNobody is ahead of `quorate` here.\n"),
            ahead => {
                let _ = writeln!(text, "\nAhead of `quorate` here: {}.", ahead.join(", "));
            }
        }
        text
    }

    /// A plot of the times, as SVG: a panel for each latency, and in it a pair of bars a client.
    pub(crate) fn plot(&self) -> String {
        const NAMES: usize = 190;
        const PANEL: usize = 300;
        const VALUE: usize = 70;
        const TOP: usize = 64;
        const ROW: usize = 34;
        const BAR: usize = 12;
        let (width, height) = (NAMES + 2 * PANEL, TOP + ROW * self.rows.len() + 8);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
             <title>{title}</title>\n<style>\n\
             text {{ fill: #1f2328 }} .http {{ fill: #8c959f }} .tls {{ fill: #57606a }}\n\
             .ours.http {{ fill: #54aeff }} .ours.tls {{ fill: #0969da }}\n\
             @media (prefers-color-scheme: dark) {{\n\
             text {{ fill: #e6edf3 }} .http {{ fill: #6e7681 }} .tls {{ fill: #b1bac4 }}\n\
             .ours.http {{ fill: #1f6feb }} .ours.tls {{ fill: #79c0ff }}\n}}\n</style>\n\
             <text x=\"0\" y=\"16\" font-size=\"14\" font-weight=\"600\">{title}</text>\n\
             <rect class=\"http\" x=\"0\" y=\"36\" width=\"12\" height=\"12\"/>\
             <text x=\"18\" y=\"46\">http</text>\n\
             <rect class=\"tls\" x=\"58\" y=\"36\" width=\"12\" height=\"12\"/>\
             <text x=\"76\" y=\"46\">TLS</text>\n",
            title = escaped(&self.title)
        );
        let mut latencies: Vec<_> = SETTINGS.iter().map(|setting| setting.latency).collect();
        latencies.sort_unstable_by(|a, b| b.cmp(a));
        latencies.dedup();
        for (panel, latency) in latencies.iter().enumerate() {
            let left = NAMES + panel * PANEL;
            let _ = writeln!(svg, "<text x=\"{left}\" y=\"46\">+{latency} ms an answer</text>");
            let shown: Vec<_> =
                (0..SETTINGS.len()).filter(|position| SETTINGS[*position].latency == *latency).collect();
            let walls =
                |figures: &Measured| shown.iter().map(|position| figures[*position].wall).max().unwrap_or(0);
            let most = self.rows.iter().filter_map(|(_, figures)| figures.as_ref().map(walls));
            let most = most.max().unwrap_or(0).max(1);
            for (row, (name, figures)) in self.rows.iter().enumerate() {
                let top = TOP + row * ROW;
                let middle = top + BAR + 4;
                if panel == 0 {
                    let _ = writeln!(svg, "<text x=\"0\" y=\"{middle}\">{}</text>", escaped(name));
                }
                let Some(figures) = figures else {
                    let _ = writeln!(svg, "<text x=\"{left}\" y=\"{middle}\" font-size=\"11\">absent</text>");
                    continue;
                };
                let ours = if name.starts_with("quorate") { "ours " } else { "" };
                for (bar, position) in shown.iter().enumerate() {
                    let time = figures[*position].wall;
                    let length = usize::try_from(time * (PANEL - VALUE) as u64 / most).unwrap_or(0).max(1);
                    let class = if SETTINGS[*position].tls { "tls" } else { "http" };
                    let y = top + bar * (BAR + 1);
                    let _ = writeln!(
                        svg,
                        "<rect class=\"{ours}{class}\" x=\"{left}\" y=\"{y}\" width=\"{length}\" \
                         height=\"{BAR}\"/><text x=\"{}\" y=\"{}\" font-size=\"11\">{time} ms</text>",
                        left + length + 5,
                        y + BAR - 2
                    );
                }
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
