//! Slots: where a builder's evidence stands on a registry without the referrers API.

use std::fmt;
use std::str::FromStr;

/// The part of a derived tag that belongs to one builder: `[a-z0-9-]{1,32}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(String);

/// A string is not a slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a slot: 1 to 32 characters of a-z, 0-9 and -")]
pub struct SlotError(String);

impl Slot {
    /// The slot as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Slot {
    type Err = SlotError;

    fn from_str(s: &str) -> Result<Self, SlotError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=32).contains(&s.len()) && s.bytes().all(allowed) {
            Ok(Self(s.to_owned()))
        } else {
            Err(SlotError(s.chars().take(100).collect()))
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits_a_tag_is_a_slot() {
        for good in ["a", "github", "9-x", &"a".repeat(32)] {
            assert_eq!(good.parse::<Slot>().unwrap().as_str(), good);
        }
        for bad in ["", "A", "a.b", "a_b", "a b", "a\n", "é", &"a".repeat(33)] {
            assert!(bad.parse::<Slot>().is_err(), "{bad:?} was accepted");
        }
    }
}
