//! How a tag may move, given what it names now. Pure; the writing is elsewhere.

use super::tag::TagKind;
use super::verdict::Approval;
use crate::attestation::Commit;
use crate::oci::{Digest, Tag};
use crate::reason::Reason;

/// What a tag names now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Absent,
    /// The approved digest already.
    Same,
    /// A release that the same policy verifies.
    Release {
        /// What it names.
        digest: Digest,
        /// The release's order.
        sequence: u64,
        /// The release's commit.
        commit: Commit,
    },
    /// Something that the policy does not verify, or was not asked to.
    Other {
        /// What it names.
        digest: Digest,
    },
}

/// What the caller allows beyond the rules.
#[derive(Debug, Clone, Default)]
pub struct Allowances {
    /// Moving a forward-only tag back.
    pub rollback: bool,
    /// A digest, not verifiable, that a forward-only tag may be moved away from.
    pub adopt: Option<Digest>,
}

/// What the caller expects a tag to name until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Old {
    /// Whatever the rules allow.
    #[default]
    Any,
    /// Nothing.
    Absent,
    /// This.
    Is(Digest),
}

/// What is to be done with a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// It does not exist, and will name the digest.
    Create,
    /// It names another digest, and will name this one.
    Replace,
    /// The same, back to an older release, because the caller allows it.
    Rollback,
    /// The same, away from what cannot be verified, because the caller names it.
    Adopt,
    /// It names the digest already.
    Keep,
}

impl Move {
    /// What the caller had to allow for it, in one word, as in output and JSON.
    pub fn allowed(self) -> Option<&'static str> {
        match self {
            Self::Rollback => Some("rollback"),
            Self::Adopt => Some("adopt"),
            Self::Create | Self::Replace | Self::Keep => None,
        }
    }
}

impl Before {
    /// What the tag names, if it is not the approved digest already.
    fn digest(&self) -> Option<Digest> {
        match self {
            Self::Absent | Self::Same => None,
            Self::Release { digest, .. } | Self::Other { digest } => Some(*digest),
        }
    }
}

/// What may be done with `tag`. One that names the approved digest already is right, whatever it
/// was `expected` to name: so a promotion that was cut short can be run again.
///
/// # Errors
/// A reason and its detail when the tag must not move.
pub fn plan(
    approval: &Approval,
    tag: &Tag,
    kind: TagKind,
    before: &Before,
    expected: Old,
    allow: &Allowances,
) -> Result<Move, (Reason, String)> {
    let expected = match expected {
        Old::Any => before.digest(),
        Old::Absent => None,
        Old::Is(digest) => Some(digest),
    };
    let unfed = approval.is_not_fed(tag);
    match (kind, before) {
        (_, Before::Same) => Ok(Move::Keep),
        _ if unfed.is_some() => {
            let takes = unfed.map(ToString::to_string).unwrap_or_default();
            Err((
                Reason::TagFeed,
                format!("`{tag}` takes releases of {takes}, and too few votes state such a `ref`"),
            ))
        }
        _ if before.digest() != expected => {
            let shown = |digest: Option<Digest>| digest.map_or("nothing".to_owned(), |d| d.to_string());
            let (now, expected) = (shown(before.digest()), shown(expected));
            Err((Reason::TagUnexpected, format!("`{tag}` names {now}, and was expected to name {expected}")))
        }
        (_, Before::Absent) => Ok(Move::Create),
        (TagKind::Immutable, Before::Release { digest, .. } | Before::Other { digest }) => {
            Err((Reason::TagImmutable, format!("`{tag}` names {digest}")))
        }
        (TagKind::Forward, Before::Release { digest, sequence, commit }) => {
            let newer = approval.is_ordered() && approval.sequence() > *sequence;
            let forward = newer || approval.commit() == commit;
            if forward {
                Ok(Move::Replace)
            } else if allow.rollback {
                Ok(Move::Rollback)
            } else if !approval.is_ordered() {
                Err((
                    Reason::TagUnordered,
                    format!(
                        "`{tag}` names {digest} of sequence {sequence}; too few votes state that of this release"
                    ),
                ))
            } else {
                let ours = approval.sequence();
                Err((
                    Reason::TagBackwards,
                    format!("`{tag}` names {digest} of sequence {sequence}; this release has {ours}"),
                ))
            }
        }
        (TagKind::Forward, Before::Other { digest }) => {
            if allow.adopt == Some(*digest) {
                Ok(Move::Adopt)
            } else {
                Err((Reason::TagUnverified, format!("`{tag}` names {digest}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Bar;

    fn approval() -> Approval {
        Approval {
            repository: "ghcr.io/acme/app".parse().unwrap(),
            digest: Digest::of(b"new"),
            policy: Digest::of(b"policy"),
            commit: "a".repeat(40).parse().unwrap(),
            sequence: 10,
            ordered: true,
            bar: Bar { quorum: std::num::NonZeroU32::MIN, environment: None },
            tags: Vec::new(),
            counted: std::collections::BTreeSet::new(),
        }
    }

    fn moved(kind: TagKind, before: &Before, allow: &Allowances) -> Result<Move, Reason> {
        expecting(Old::Any, kind, before, allow)
    }

    fn expecting(old: Old, kind: TagKind, before: &Before, allow: &Allowances) -> Result<Move, Reason> {
        plan(&approval(), &"x".parse().unwrap(), kind, before, old, allow).map_err(|(reason, _)| reason)
    }

    fn release(sequence: u64, commit: &str) -> Before {
        Before::Release { digest: Digest::of(b"old"), sequence, commit: commit.repeat(40).parse().unwrap() }
    }

    #[test]
    fn absent_and_equal_tags_are_no_question() {
        for kind in [TagKind::Immutable, TagKind::Forward] {
            assert_eq!(moved(kind, &Before::Absent, &Allowances::default()), Ok(Move::Create));
            assert_eq!(moved(kind, &Before::Same, &Allowances::default()), Ok(Move::Keep));
        }
    }

    #[test]
    fn an_immutable_tag_never_moves() {
        let all = Allowances { rollback: true, adopt: Some(Digest::of(b"old")) };
        for before in [release(1, "b"), Before::Other { digest: Digest::of(b"old") }] {
            assert_eq!(moved(TagKind::Immutable, &before, &all), Err(Reason::TagImmutable));
        }
    }

    #[test]
    fn a_forward_tag_moves_forward() {
        let none = Allowances::default();
        assert_eq!(moved(TagKind::Forward, &release(9, "b"), &none), Ok(Move::Replace));
        assert_eq!(moved(TagKind::Forward, &release(10, "b"), &none), Err(Reason::TagBackwards));
        assert_eq!(moved(TagKind::Forward, &release(11, "b"), &none), Err(Reason::TagBackwards));
        assert_eq!(moved(TagKind::Forward, &release(11, "a"), &none), Ok(Move::Replace));
        let back = Allowances { rollback: true, adopt: None };
        assert_eq!(moved(TagKind::Forward, &release(11, "b"), &back), Ok(Move::Rollback));
        assert_eq!(moved(TagKind::Forward, &release(9, "b"), &back), Ok(Move::Replace), "nothing was used");
    }

    #[test]
    fn a_release_of_no_certain_order_moves_no_tag_forward() {
        let approval = Approval { ordered: false, ..approval() };
        let moved = |kind, before: &Before, allow: &Allowances| {
            let tag = "latest".parse().unwrap();
            plan(&approval, &tag, kind, before, Old::Any, allow).map_err(|(reason, _)| reason)
        };
        let none = Allowances::default();
        assert_eq!(moved(TagKind::Forward, &release(9, "b"), &none), Err(Reason::TagUnordered));
        assert_eq!(moved(TagKind::Forward, &release(9, "a"), &none), Ok(Move::Replace), "the same commit");
        assert_eq!(moved(TagKind::Forward, &Before::Absent, &none), Ok(Move::Create));
        assert_eq!(moved(TagKind::Immutable, &Before::Absent, &none), Ok(Move::Create));
        let back = Allowances { rollback: true, adopt: None };
        assert_eq!(moved(TagKind::Forward, &release(9, "b"), &back), Ok(Move::Rollback));
    }

    #[test]
    fn a_tag_must_name_what_is_expected_or_be_right_already() {
        let none = Allowances::default();
        let (old, other) = (Old::Is(Digest::of(b"old")), Old::Is(Digest::of(b"other")));
        let forward = |old, before: &Before| expecting(old, TagKind::Forward, before, &none);
        assert_eq!(forward(old, &release(9, "b")), Ok(Move::Replace));
        assert_eq!(forward(other, &release(9, "b")), Err(Reason::TagUnexpected));
        assert_eq!(forward(Old::Absent, &release(9, "b")), Err(Reason::TagUnexpected));
        assert_eq!(forward(Old::Absent, &Before::Absent), Ok(Move::Create));
        assert_eq!(forward(old, &Before::Absent), Err(Reason::TagUnexpected));
        for expected in [old, Old::Absent] {
            assert_eq!(forward(expected, &Before::Same), Ok(Move::Keep));
        }
        // An expectation that holds allows nothing.
        assert_eq!(forward(old, &release(11, "b")), Err(Reason::TagBackwards));
        assert_eq!(forward(old, &Before::Other { digest: Digest::of(b"old") }), Err(Reason::TagUnverified));
        assert_eq!(expecting(old, TagKind::Immutable, &release(9, "b"), &none), Err(Reason::TagImmutable));
    }

    #[test]
    fn what_cannot_be_verified_is_left_only_by_name() {
        let before = Before::Other { digest: Digest::of(b"old") };
        let adopt = |digest| Allowances { rollback: true, adopt: digest };
        assert_eq!(moved(TagKind::Forward, &before, &adopt(None)), Err(Reason::TagUnverified));
        assert_eq!(
            moved(TagKind::Forward, &before, &adopt(Some(Digest::of(b"x")))),
            Err(Reason::TagUnverified)
        );
        assert_eq!(moved(TagKind::Forward, &before, &adopt(Some(Digest::of(b"old")))), Ok(Move::Adopt));
    }
}
