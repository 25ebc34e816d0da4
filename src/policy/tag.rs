//! Which tags a policy governs, and how they may move.

use std::num::NonZeroU32;

use crate::oci::Tag;

/// A pattern over whole tags, case-sensitive; `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glob(String);

/// How a tag may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagKind {
    /// Once set, it names the same image for ever.
    Immutable,
    /// It moves to releases of a higher sequence only.
    Forward,
}

/// A pattern and how the tags under it may move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRule {
    /// Which tags.
    pub tags: Pattern,
    /// How they may move.
    pub kind: TagKind,
    /// What a release must meet before it may have them.
    pub bar: Bar,
}

/// How many must agree, and for which environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bar {
    /// How many voices.
    pub quorum: NonZeroU32,
    /// The environment, where the rule has any.
    pub environment: Option<String>,
}

/// Which tags a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Those that a glob of the policy matches.
    Glob(Glob),
    /// Those that look like a version: a digit first, or `v` and a digit.
    Version,
}

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
}

impl Pattern {
    fn matches(&self, tag: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.matches(tag),
            Self::Version => {
                tag.strip_prefix('v').unwrap_or(tag).bytes().next().is_some_and(|b| b.is_ascii_digit())
            }
        }
    }
}

/// The rules of an image whose policy lists none: `latest` moves forward, versions never move.
pub(super) fn default_rules(bar: &Bar) -> Vec<TagRule> {
    let rule = |tags, kind| TagRule { tags, kind, bar: bar.clone() };
    vec![
        rule(Pattern::Glob(Glob::new("latest")), TagKind::Forward),
        rule(Pattern::Version, TagKind::Immutable),
    ]
}

/// The first of `rules` that matches `tag`, if one does.
pub(super) fn find<'a>(rules: &'a [TagRule], tag: &Tag) -> Option<&'a TagRule> {
    rules.iter().find(|rule| rule.tags.matches(tag.as_str()))
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
    fn without_rules_latest_moves_forward_and_versions_stay() {
        let rules = default_rules(&Bar { quorum: NonZeroU32::MIN, environment: None });
        let kind = |tag: &str| find(&rules, &tag.parse().unwrap()).map(|rule| rule.kind);
        assert_eq!(kind("latest"), Some(TagKind::Forward));
        assert_eq!(kind("1.0.0"), Some(TagKind::Immutable));
        assert_eq!(kind("v2"), Some(TagKind::Immutable));
        assert_eq!(kind("git-0123"), None);
        assert_eq!(kind("vnext"), None);
    }
}
