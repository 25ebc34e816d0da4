//! Which tags a policy governs, and how they may move.

use std::num::NonZeroU32;

pub use crate::glob::Glob;
use crate::oci::Tag;

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
