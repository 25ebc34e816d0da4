//! Text that others wrote, as it may be shown.

/// Text of others, safe for a terminal: line ends stay; other control characters, and those that
/// are not seen but change how text is shown, are dropped.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !is_hidden(*c)).collect()
}

/// The same in one line: what stands in a line of its own is ours.
pub(crate) fn in_line(text: &str) -> String {
    printable(text).replace('\n', " ")
}

/// The most characters of an explanation, which may repeat text of others.
const MAX_SHOWN: usize = 1_000;

/// An explanation, as far as anybody reads on.
pub(crate) fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Whether a character is a control, or reorders, joins or hides others (Unicode category Cf, as
/// far as text can be turned around or made to look like another).
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_explanations_end() {
        assert_eq!(shortened("é".repeat(1_000)), "é".repeat(1_000));
        assert_eq!(shortened("é".repeat(1_001)), format!("{}…", "é".repeat(1_000)));
    }

    #[test]
    fn text_of_others_moves_nothing_on_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c\u{200b}\r\nd\u{9b}é✓"), "a[2Jbc\ndé✓");
    }
}
