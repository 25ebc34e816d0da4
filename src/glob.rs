//! Patterns over whole texts, as a policy writes them.

/// A pattern over a whole text, case-sensitive; `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glob(String);

impl Glob {
    /// A pattern as it is written in a policy.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else {
            return self.0 == text;
        };
        let Some(mut text) = text.strip_prefix(first) else {
            return false;
        };
        let mut parts: Vec<&str> = rest.split('*').collect();
        // What follows the last star must end the text; the others match as early as they can.
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            match text.find(part) {
                Some(at) => text = &text[at + part.len()..],
                None => return false,
            }
        }
        text.ends_with(last)
    }

    /// Whether it matches one text alone: itself.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether it matches every text that the other does. A star of the other is one more character to
    /// it, which only a star of its own can take in, and whatever that stands for with it.
    pub fn covers(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is a text that both match.
    pub fn meets(&self, other: &Self) -> bool {
        let (one, two): (Vec<char>, Vec<char>) = (self.0.chars().collect(), other.0.chars().collect());
        // `row[j]`: whether what is left of `one` and `two[j..]` meet. From the ends of both.
        let mut below: Vec<bool> = Vec::new();
        for i in (0..=one.len()).rev() {
            let mut row = vec![false; two.len() + 1];
            for j in (0..=two.len()).rev() {
                let down = below.get(j).copied().unwrap_or(false);
                let right = row.get(j + 1).copied().unwrap_or(false);
                let both = below.get(j + 1).copied().unwrap_or(false);
                let meet = match (one.get(i), two.get(j)) {
                    (None, None) => true,
                    // The star stands for nothing more, or for one more of the other.
                    (Some('*'), None) => down,
                    (None, Some('*')) => right,
                    (Some('*'), Some(_)) | (Some(_), Some('*')) => down || right,
                    (Some(a), Some(b)) => a == b && both,
                    (None, Some(_)) | (Some(_), None) => false,
                };
                if let Some(cell) = row.get_mut(j) {
                    *cell = meet;
                }
            }
            below = row;
        }
        below.first().copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_strings() {
        for (pattern, yes, no) in [
            ("latest", vec!["latest"], vec!["latest2", "Latest", ""]),
            ("v*", vec!["v", "v1", "v1.2"], vec!["V1", "xv1"]),
            ("*-rc*", vec!["1-rc", "1-rc2"], vec!["1rc", "-r"]),
            ("a*b*b", vec!["abb", "axbyb"], vec!["ab", "abbx"]),
            ("*", vec!["", "anything"], vec![]),
        ] {
            let glob = Glob::new(pattern);
            assert!(yes.iter().all(|t| glob.matches(t)), "{pattern} {yes:?}");
            assert!(!no.iter().any(|t| glob.matches(t)), "{pattern} {no:?}");
        }
    }

    #[test]
    fn a_glob_covers_what_matches_no_more() {
        for (wide, narrow, covers) in [
            ("*", "v*", true),
            ("*", "", true),
            ("v*", "v*", true),
            ("v*", "v1.*", true),
            ("v*", "v1", true),
            ("*-*", "a-*-b", true),
            ("v1", "v1", true),
            ("v1", "v*", false),
            ("v1.*", "v*", false),
            ("v*", "*", false),
            ("a*a", "a", false),
            ("a*b", "a*", false),
            ("*b", "a*", false),
        ] {
            assert_eq!(Glob::new(wide).covers(&Glob::new(narrow)), covers, "{wide} {narrow}");
        }
    }

    #[test]
    fn two_globs_meet_where_one_text_matches_both() {
        for (one, two, meet) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "ab", false),
            ("", "*", true),
            ("a*", "*b", true),
            ("a*", "b*", false),
            ("a*c", "ab*", true),
            ("*a", "*b", false),
            ("a@*", "*@b", true),
            ("build-*.yml@main", "build-x.yml@*", true),
            ("build-*.yml@main", "build-x.yml@next", false),
            ("a*b*c", "a*d", false),
        ] {
            assert_eq!(Glob::new(one).meets(&Glob::new(two)), meet, "{one} {two}");
            assert_eq!(Glob::new(two).meets(&Glob::new(one)), meet, "{two} {one}");
        }
    }
}
