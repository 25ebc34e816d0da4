//! Who else saw a log grow: cosignatures of its checkpoints (C2SP `tlog-cosignature`).

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sigstore_types::Checkpoint;

use super::PublicKey;
use crate::oci::Digest;

/// The most witnesses that a trust may know.
const MAX_KNOWN: usize = 32;
/// What kind of key signs cosignatures with Ed25519 (C2SP `tlog-cosignature`).
const COSIGNATURE_V1: u8 = 4;
/// The length of a key id in a signed note.
const ID: usize = 4;
/// The length of the time that a cosignature begins with: seconds since 1970, highest byte first.
const TIME: usize = 8;

/// A witness: its name, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    name: String,
    id: [u8; ID],
    key: PublicKey,
}

/// Which witnesses are known, and how many of them must have cosigned a checkpoint. The default is
/// none of none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Witnesses {
    wanted: usize,
    known: Vec<Witness>,
}

/// Why a text is no witness's key, or witnesses cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessError {
    /// Not the three parts.
    #[error("not a verifier key `NAME+ID+KEY`, where ID has 8 hex digits and KEY is base64")]
    Malformed,
    /// A key of another kind, such as a log's.
    #[error("a verifier key of kind {0:#04x}: that of a witness is 0x04, Ed25519 for cosignatures")]
    Kind(u8),
    /// The id is of another name or key.
    #[error("the id in the verifier key of `{0}` is not that of the name and the key")]
    Id(String),
    /// A key under which anybody can sign.
    #[error("the key of `{0}`: {1}")]
    Key(String, super::key::PublicKeyError),
    /// Two with one name or one key.
    #[error("`{0}` is there twice, by its name or by its key")]
    Twice(String),
    /// More are wanted than known.
    #[error("{wanted} are wanted, and {known} known")]
    TooFew {
        /// How many must have cosigned.
        wanted: usize,
        /// How many could.
        known: usize,
    },
    /// More than can be checked for each entry.
    #[error("there are more than {MAX_KNOWN}")]
    TooMany,
}

impl FromStr for Witness {
    type Err = WitnessError;

    /// Reads a verifier key (C2SP `signed-note`): `NAME+ID+KEY`, as witnesses publish theirs.
    fn from_str(text: &str) -> Result<Self, WitnessError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(WitnessError::Malformed);
        };
        let hidden = |c: char| c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > 200 || name.contains(hidden) || id.len() != 2 * ID {
            return Err(WitnessError::Malformed);
        }
        let id = u32::from_str_radix(id, 16).map_err(|_| WitnessError::Malformed)?.to_be_bytes();
        let key = STANDARD.decode(key).map_err(|_| WitnessError::Malformed)?;
        let Some((&kind, point)) = key.split_first() else { return Err(WitnessError::Malformed) };
        if kind != COSIGNATURE_V1 {
            return Err(WitnessError::Kind(kind));
        }
        let whole = Digest::of(&[name.as_bytes(), b"\n", &key].concat());
        if !whole.as_bytes().starts_with(&id) {
            return Err(WitnessError::Id(name.to_owned()));
        }
        let key =
            PublicKey::from_ed25519(point).map_err(|error| WitnessError::Key(name.to_owned(), error))?;
        Ok(Self { name: name.to_owned(), id, key })
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Witness {
    /// Its key.
    pub(super) fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether all its lines in this checkpoint hold; `None` without any. When it signed them is not
    /// looked at: its word is that it has seen no other history of the log, whatever its clock says.
    fn cosigned(&self, checkpoint: &Checkpoint) -> Option<bool> {
        // A line that is there twice is one.
        let its_own: BTreeSet<&[u8]> = checkpoint
            .signatures()
            .iter()
            .filter(|line| line.name == self.name && line.key_id.as_bytes()[..] == self.id)
            .map(|line| line.signature.as_bytes())
            .collect();
        let holds = |signature: &[u8]| {
            let Some((time, signature)) = signature.split_first_chunk::<TIME>() else { return false };
            let header = format!("cosignature/v1\ntime {}\n", u64::from_be_bytes(*time));
            self.key.verifies(&[header.as_bytes(), checkpoint.signed_data()].concat(), signature)
        };
        (!its_own.is_empty()).then(|| its_own.into_iter().all(holds))
    }
}

impl Witnesses {
    /// `wanted` of those in `known`, of whom no two may have one name or one key.
    ///
    /// # Errors
    /// When that could never be met, or would count somebody twice.
    pub fn new(wanted: NonZeroUsize, known: Vec<Witness>) -> Result<Self, WitnessError> {
        if known.len() > MAX_KNOWN {
            return Err(WitnessError::TooMany);
        }
        let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
        if let Some(twice) = known.iter().find(|one| !names.insert(&one.name) || !keys.insert(&one.key)) {
            return Err(WitnessError::Twice(twice.name.clone()));
        }
        let wanted = wanted.get();
        if wanted > known.len() {
            return Err(WitnessError::TooFew { wanted, known: known.len() });
        }
        Ok(Self { wanted, known })
    }

    /// How many must have cosigned: 0 if nobody is asked.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// All who may.
    pub fn known(&self) -> &[Witness] {
        &self.known
    }

    /// Whether two groups of them with nobody in common are each enough, so that a log can show one
    /// history to the one and another to the other.
    pub fn may_part(&self) -> bool {
        self.wanted > 0 && 2 * self.wanted <= self.known.len()
    }

    /// Why `checkpoint` is not cosigned by enough of them. One line of theirs that does not hold spoils
    /// it, as C2SP `signed-note` advises; lines of others are not looked at.
    pub(super) fn lacking(&self, checkpoint: Option<&Checkpoint>) -> Option<String> {
        let mut missing = Vec::new();
        for witness in &self.known {
            match checkpoint.and_then(|checkpoint| witness.cosigned(checkpoint)) {
                Some(true) => {}
                Some(false) => return Some(format!("the cosignature of {witness} does not hold")),
                None => missing.push(witness.name.as_str()),
            }
        }
        let found = self.known.len() - missing.len();
        (found < self.wanted).then(|| format!("it lacks: {}", missing.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "witness.test/one";

    /// The verifier key of `point`, with another first byte or id where those are given.
    fn key(name: &str, kind: u8, point: &[u8], id: Option<&str>) -> String {
        let key = [&[kind], point].concat();
        let whole = Digest::of(&[name.as_bytes(), b"\n", &key].concat());
        format!("{name}+{}+{}", id.unwrap_or(&whole.hex()[..2 * ID]), STANDARD.encode(key))
    }

    /// The base point of the curve (RFC 8032, section 5.1): a key like others.
    fn point() -> [u8; 32] {
        let mut point = [0x66; 32];
        point[0] = 0x58;
        point
    }

    #[test]
    fn a_verifier_key_is_a_name_its_id_and_a_key() {
        let good = key(NAME, COSIGNATURE_V1, &point(), None);
        let witness: Witness = good.parse().unwrap();
        assert_eq!(
            (witness.to_string().as_str(), witness.key()),
            (NAME, &PublicKey::from_ed25519(&point()).unwrap())
        );
        // Base64 may hold a plus.
        let mut plus = point();
        plus[2..5].copy_from_slice(&[0xfb, 0xef, 0xbe]);
        let plus = key(NAME, COSIGNATURE_V1, &plus, None);
        assert!(plus.ends_with('m') && plus.contains("++++") && plus.parse::<Witness>().is_ok(), "{plus}");

        let id = Some("00000000");
        for (bad, why) in [
            (String::new(), WitnessError::Malformed),
            (NAME.to_owned(), WitnessError::Malformed),
            (good.replacen('+', " ", 1), WitnessError::Malformed),
            (good.replace(NAME, ""), WitnessError::Malformed),
            (good.replace(NAME, "witness test"), WitnessError::Malformed),
            (good.replace(NAME, &"w".repeat(201)), WitnessError::Malformed),
            (good.clone() + "=", WitnessError::Malformed),
            (good.clone() + "\n", WitnessError::Malformed),
            (key(NAME, COSIGNATURE_V1, &point(), Some("0000000")), WitnessError::Malformed),
            (key(NAME, COSIGNATURE_V1, &point(), Some("0000000g")), WitnessError::Malformed),
            (key(NAME, COSIGNATURE_V1, &point(), id), WitnessError::Id(NAME.to_owned())),
            (good.replace("/one", "/two"), WitnessError::Id("witness.test/two".to_owned())),
            // A log's key, and ML-DSA-44.
            (key(NAME, 1, &point(), None), WitnessError::Kind(1)),
            (key(NAME, 6, &point(), None), WitnessError::Kind(6)),
        ] {
            assert_eq!(bad.parse::<Witness>(), Err(why), "{bad:?}");
        }
        for (what, weak) in [("of order 1", [&[1][..], &[0; 31]].concat()), ("too short", vec![9; 31])] {
            let found = key(NAME, COSIGNATURE_V1, &weak, None).parse::<Witness>();
            assert!(matches!(found, Err(WitnessError::Key(..))), "{what}: {found:?}");
        }
    }

    #[test]
    fn nobody_is_counted_twice_and_no_more_are_wanted_than_there_are() {
        let witness = |name: &str, first: u8| {
            let mut point = point();
            point[0] = first;
            key(name, COSIGNATURE_V1, &point, None).parse::<Witness>().unwrap()
        };
        let new = |wanted, known: Vec<Witness>| Witnesses::new(NonZeroUsize::new(wanted).unwrap(), known);
        let (one, two) = (witness("one", 1), witness("two", 2));
        assert!(!new(2, vec![one.clone(), two.clone()]).unwrap().may_part());
        assert!(new(1, vec![one.clone(), two.clone()]).unwrap().may_part());
        assert!(!Witnesses::default().may_part());
        for (known, why) in [
            (vec![], WitnessError::TooFew { wanted: 2, known: 0 }),
            (vec![one.clone()], WitnessError::TooFew { wanted: 2, known: 1 }),
            (vec![one.clone(), witness("one", 2)], WitnessError::Twice("one".to_owned())),
            (vec![one.clone(), witness("two", 1)], WitnessError::Twice("two".to_owned())),
            ((0..33).map(|n| witness(&n.to_string(), n)).collect(), WitnessError::TooMany),
        ] {
            assert_eq!(new(2, known), Err(why));
        }
    }
}
