//! The terminal: data on stdout, talk on stderr. Nothing else prints.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

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
pub struct Printer {
    quiet: bool,
    out: bool,
    err: bool,
}

impl Printer {
    /// A printer; `quiet` drops talk, never data or errors.
    pub fn new(color: Color, quiet: bool) -> Self {
        let wanted = |terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        Self {
            quiet,
            out: wanted(std::io::stdout().is_terminal()),
            err: wanted(std::io::stderr().is_terminal()),
        }
    }

    /// Whether data may be coloured.
    pub fn colors(&self) -> bool {
        self.out
    }

    /// Prints data.
    ///
    /// # Errors
    /// When stdout is gone; then the run has failed, whatever it found.
    pub fn data(&self, text: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Says what is going on.
    pub fn talk(&self, text: &str) {
        if !self.quiet {
            say(text);
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
        say(&text);
    }
}

fn say(text: &str) {
    // Nobody left to tell if stderr is gone.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes what is traced to stderr, each request to a registry among it.
pub fn trace() {
    let level = tracing_subscriber::filter::LevelFilter::DEBUG;
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).try_init();
}
