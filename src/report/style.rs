//! How text looks.

/// Whether text may be coloured.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Write ANSI colours.
    pub color: bool,
}

impl Style {
    /// `text` in the colour of the ANSI code, if there are colours.
    pub(super) fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
