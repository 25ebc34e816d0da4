//! Which tags a policy governs, and how they may move.

use std::fmt;
use std::num::NonZeroU32;

use semver::{Version, VersionReq};

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

impl TagKind {
    /// Its name in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Immutable => "immutable",
            Self::Forward => "forward",
        }
    }
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
    /// Of which git refs such a release must be.
    pub feed: Feed,
}

/// The git refs whose releases a tag takes; the default is any, and none at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Feed {
    /// One of these must match; empty: any.
    pub refs: Vec<Glob>,
    /// The ref must be a git tag that is a version, with or without a `v`, in this range.
    pub versions: Option<VersionReq>,
}

impl TagRule {
    /// Whether the rule is for `tag`.
    pub fn matches(&self, tag: &Tag) -> bool {
        self.tags.matches(tag.as_str())
    }
}

impl Feed {
    /// Whether releases of every ref will do, and those that name none.
    pub fn is_open(&self) -> bool {
        self.refs.is_empty() && self.versions.is_none()
    }

    /// Whether a vote with this `ref` feeds the tag.
    pub fn takes(&self, git_ref: Option<&str>) -> bool {
        let Some(git_ref) = git_ref else { return self.is_open() };
        let version = || {
            let tag = git_ref.strip_prefix("refs/tags/")?;
            Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
        };
        (self.refs.is_empty() || self.refs.iter().any(|glob| glob.matches(git_ref)))
            && self.versions.as_ref().is_none_or(|range| version().is_some_and(|v| range.matches(&v)))
    }
}

impl fmt::Display for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refs: Vec<&str> = self.refs.iter().map(Glob::as_str).collect();
        match (&refs[..], &self.versions) {
            ([], None) => f.write_str("any ref"),
            ([], Some(range)) => write!(f, "git tags of the versions {range}"),
            (_, None) => f.write_str(&refs.join(", ")),
            (_, Some(range)) => write!(f, "{}, of the versions {range}", refs.join(", ")),
        }
    }
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

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Glob(glob) => glob.as_str(),
            Self::Version => "versions",
        })
    }
}

impl Pattern {
    /// Whether it is for every tag that the other is for.
    pub(super) fn covers(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Glob(wide), Self::Glob(narrow)) if wide.covers(narrow))
    }

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
    let rule = |tags, kind| TagRule { tags, kind, bar: bar.clone(), feed: Feed::default() };
    vec![
        rule(Pattern::Glob(Glob::new("latest")), TagKind::Forward),
        rule(Pattern::Version, TagKind::Immutable),
    ]
}

/// The first of `rules` that matches `tag`, if one does.
pub(super) fn find<'a>(rules: &'a [TagRule], tag: &Tag) -> Option<&'a TagRule> {
    rules.iter().find(|rule| rule.matches(tag))
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

    #[test]
    fn a_feed_takes_refs_and_versions() {
        let feed = |refs: &[&str], versions: &str| Feed {
            refs: refs.iter().map(|glob| Glob::new(glob)).collect(),
            versions: (!versions.is_empty()).then(|| versions.parse().unwrap()),
        };
        for (feed, yes, no) in [
            (feed(&[], ""), vec![None, Some("refs/heads/main")], vec![]),
            (
                feed(&["refs/tags/v*"], ""),
                vec![Some("refs/tags/v1"), Some("refs/tags/vnext")],
                vec![None, Some(""), Some("refs/tags/1"), Some("x/refs/tags/v1"), Some("refs/heads/v1")],
            ),
            (
                feed(&[], ">=1, <2"),
                vec![Some("refs/tags/v1.0.0"), Some("refs/tags/1.9.3"), Some("refs/tags/v1.2.3+build")],
                vec![
                    None,
                    Some("refs/tags/v2.0.0"),
                    Some("refs/tags/v0.9.9"),
                    Some("refs/tags/v1.5"),
                    Some("refs/tags/vv1.5.0"),
                    Some("refs/tags/v1.5.0-rc.1"),
                    Some("refs/heads/v1.5.0"),
                    Some("v1.5.0"),
                ],
            ),
            (
                feed(&["refs/tags/v*"], "^1"),
                vec![Some("refs/tags/v1.0.0")],
                vec![Some("refs/tags/1.0.0"), Some("refs/tags/v2.0.0")],
            ),
        ] {
            for git_ref in yes {
                assert!(feed.takes(git_ref), "{feed} {git_ref:?}");
            }
            for git_ref in no {
                assert!(!feed.takes(git_ref), "{feed} {git_ref:?}");
            }
        }
    }
}
