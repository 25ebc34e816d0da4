//! Markdown that shows text of others without obeying it.

use std::fmt::Write as _;

use crate::error::Error;
use crate::text::is_hidden;

/// Text as it stands, in one line: no markup, no links, no HTML.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => escaped.push(' '),
            // A backslash takes its meaning from any ASCII punctuation (CommonMark, 2.4).
            c if c.is_ascii_punctuation() => escaped.extend(['\\', c]),
            c if is_hidden(c) => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// An error, its causes, and the next command.
pub fn error(error: &Error) -> String {
    let mut text = format!("### ✗ {}\n\n", escape(&error.to_string()));
    for cause in error.causes() {
        let _ = writeln!(text, "- caused by: {}", escape(&cause));
    }
    if let Some(hint) = error.next() {
        let _ = writeln!(text, "\n{}", escape(hint));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_shown_and_not_obeyed() {
        assert_eq!(
            escape("a|b\n\n# <img\u{202e} src=x>\u{200b} [y](z) `c`\u{1b}[31m"),
            r"a\|b  \# \<img src\=x\> \[y\]\(z\) \`c\`\[31m"
        );
    }
}
