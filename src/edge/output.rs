//! The terminal: data on stdout, talk on stderr. Nothing else prints.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use super::ci;
use crate::error::Error;
use crate::text::printable;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Color {
    /// Where a person reads: on a terminal, without `NO_COLOR`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Prints for one run.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Printer {
    quiet: bool,
    out: bool,
    err: bool,
    ci: bool,
}

impl Printer {
    /// A printer; `quiet` drops talk, never data or errors. In a `ci` job nothing that is printed
    /// is taken for a command but the annotations of errors.
    pub fn new(color: Color, quiet: bool, ci: bool) -> Self {
        let wanted = |terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        Self {
            quiet,
            out: wanted(std::io::stdout().is_terminal()),
            err: wanted(std::io::stderr().is_terminal()),
            ci,
        }
    }

    /// Writes what is traced to stderr from here on, each request to a registry among it.
    pub fn trace(&self) {
        let _ = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(self.err)
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .try_init();
    }

    /// Whether data may be coloured.
    pub fn colors(&self) -> bool {
        self.out
    }

    /// Prints data, with an end of line.
    ///
    /// # Errors
    /// When stdout is gone; then the run has failed, whatever it found.
    pub fn data(&self, text: &str) -> std::io::Result<()> {
        let mut text = self.inert(text);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        self.bytes(text.as_bytes())
    }

    /// Prints data as it is, to the byte.
    ///
    /// # Errors
    /// As [`Printer::data`].
    #[allow(clippy::unused_self, reason = "only a printer prints")]
    pub fn bytes(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    fn inert(self, text: &str) -> String {
        if self.ci { ci::inert(text) } else { text.to_owned() }
    }

    /// Says what is going on.
    pub fn talk(&self, text: &str) {
        if !self.quiet {
            say(&self.inert(text));
        }
    }

    /// Reports an error: what failed, its causes, the next command.
    pub fn error(&self, error: &Error) {
        let bold = |word: &str| if self.err { format!("\x1b[1;31m{word}\x1b[0m") } else { word.to_owned() };
        let mut text = format!("{} {}", bold("error:"), printable(&error.to_string()));
        for cause in error.causes() {
            let _ = write!(text, "\n  caused by: {}", printable(&cause));
        }
        if let Some(hint) = error.next() {
            let _ = write!(text, "\n\nhint: {}", printable(hint));
        }
        say(&self.inert(&text));
        if self.ci {
            say(&ci::annotation(error));
        }
    }
}

fn say(text: &str) {
    // Nobody left to tell if stderr is gone.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
