//! SLSA verification summaries (slsa.dev, `verification_summary/v1`): what a promotion found, in a
//! form that tools can check which can ask for one signature only.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::statement::TYPE;
use crate::oci::json::{self, Shape};
use crate::oci::{Digest, Repository};
use crate::reason::Reason;
use crate::text::is_hidden;

/// The predicate type of a verification summary.
pub const SUMMARY_V1: &str = "https://slsa.dev/verification_summary/v1";

/// Who verified, if nothing else is said. Whose run it was, the signature says.
const VERIFIER: &str = "https://quorate.dev/promote";
/// How many operators agreed; custom levels must not begin with `SLSA_`.
const LEVEL: &str = "QUORATE_QUORUM_";
/// The most bytes of a verifier's URI.
const MAX_URI: usize = 1024;

const DIGEST: Shape = Shape::Closed(&[("sha256", Shape::Any)]);
const RESOURCE: Shape = Shape::Closed(&[("name", Shape::Any), ("uri", Shape::Any), ("digest", DIGEST)]);
const SHAPE: Shape = Shape::Closed(&[
    ("_type", Shape::Any),
    ("subject", Shape::List(&RESOURCE)),
    ("predicateType", Shape::Any),
    (
        "predicate",
        Shape::Closed(&[
            ("verifier", Shape::Closed(&[("id", Shape::Any)])),
            ("timeVerified", Shape::Any),
            ("resourceUri", Shape::Any),
            ("policy", RESOURCE),
            ("inputAttestations", Shape::List(&RESOURCE)),
            ("verificationResult", Shape::Any),
            ("verifiedLevels", Shape::Any),
        ]),
    ),
]);

/// The URI of who verified (`verifier.id`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier(String);

/// A text is not the URI of a verifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write an absolute URI, such as https://example.org/release-gate")]
pub struct VerifierError;

/// A statement that was counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Input {
    /// The manifest that it is about, and to which it is attached.
    pub manifest: Digest,
    /// The builder that made it.
    pub builder: String,
    /// The SHA-256 of the statement's bytes as they were signed.
    pub statement: Digest,
}

/// A summary of a verification that passed; there are no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The repository whose tags may move.
    pub name: Repository,
    /// The index that was judged.
    pub index: Digest,
    /// Who judged it.
    pub verifier: Verifier,
    /// When.
    pub time: Timestamp,
    /// The SHA-256 of the policy.
    pub policy: Digest,
    /// How many operators had to agree, and did.
    pub quorum: u32,
    /// Every statement that was counted.
    pub inputs: BTreeSet<Input>,
}

impl Default for Verifier {
    fn default() -> Self {
        Self(VERIFIER.to_owned())
    }
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let (scheme, rest) = text.split_once(':').ok_or(VerifierError)?;
        let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let rest_fits = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic());
        if scheme_fits && rest_fits && text.len() <= MAX_URI {
            Ok(Self(text.to_owned()))
        } else {
            Err(VerifierError)
        }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Summary {
    /// Whether both say the same, whenever each was made.
    pub fn says_what(&self, other: &Self) -> bool {
        *self == Self { time: self.time, ..other.clone() }
    }

    fn to_value(&self) -> Value {
        let set = |digest: Digest| json!({ "sha256": digest.hex() });
        let resource = |digest: Digest| format!("{}@{digest}", self.name);
        let inputs: Vec<Value> = self
            .inputs
            .iter()
            .map(|input| {
                json!({
                    "name": input.builder,
                    "uri": resource(input.manifest),
                    "digest": set(input.statement),
                })
            })
            .collect();
        json!({
            "_type": TYPE,
            "subject": [{ "name": self.name.to_string(), "digest": set(self.index) }],
            "predicateType": SUMMARY_V1,
            "predicate": {
                "verifier": { "id": self.verifier.to_string() },
                "timeVerified": self.time.to_string(),
                "resourceUri": resource(self.index),
                // A name that follows from the content (RFC 6920): files may lie anywhere.
                "policy": {
                    "uri": format!("ni:///sha-256;{}", URL_SAFE_NO_PAD.encode(self.policy.as_bytes())),
                    "digest": set(self.policy),
                },
                "inputAttestations": inputs,
                "verificationResult": "PASSED",
                "verifiedLevels": [format!("{LEVEL}{}", self.quorum)],
            },
        })
    }

    /// What a value says, where it has the fields; whether it says nothing else is for the caller.
    fn from_value(value: &Value) -> Option<Self> {
        let text = |pointer: &str| value.pointer(pointer)?.as_str();
        let sha256 = |value: &Value| Digest::from_hex(value.pointer("/digest/sha256")?.as_str()?).ok();
        let inputs = value.pointer("/predicate/inputAttestations")?.as_array()?.iter().map(|input| {
            let (_, manifest) = input.get("uri")?.as_str()?.rsplit_once('@')?;
            let builder = input.get("name")?.as_str().filter(|name| !name.chars().any(is_hidden))?;
            Some(Input {
                manifest: manifest.parse().ok()?,
                builder: builder.to_owned(),
                statement: sha256(input)?,
            })
        });
        Some(Self {
            name: text("/subject/0/name")?.parse().ok()?,
            index: sha256(value.pointer("/subject/0")?)?,
            verifier: text("/predicate/verifier/id")?.parse().ok()?,
            time: text("/predicate/timeVerified")?.parse().ok()?,
            policy: sha256(value.pointer("/predicate/policy")?)?,
            quorum: text("/predicate/verifiedLevels/0")?.strip_prefix(LEVEL)?.parse().ok()?,
            inputs: inputs.collect::<Option<_>>()?,
        })
    }

    /// Reads the payload of an envelope.
    ///
    /// # Errors
    /// A reason code and the detail. Nothing but what [`Summary::to_payload`] writes passes.
    pub fn parse(payload: &[u8]) -> Result<Self, (Reason, String)> {
        let value =
            json::parse(payload, &SHAPE).map_err(|error| (Reason::StatementMalformed, error.to_string()))?;
        Self::from_value(&value).filter(|summary| summary.to_value() == value).ok_or_else(|| {
            (Reason::PredicateMalformed, "it is no verification summary that `promote` writes".to_owned())
        })
    }

    /// The payload: JSON without white space.
    ///
    /// # Errors
    /// None for values that can be made; the parser's words otherwise.
    pub fn to_payload(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.to_value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestation::Statement;

    fn summary() -> Summary {
        let input = |builder: &str| Input {
            manifest: Digest::of(b"amd64"),
            builder: builder.to_owned(),
            statement: Digest::of(builder.as_bytes()),
        };
        Summary {
            name: "ghcr.io/acme/app".parse().unwrap(),
            index: Digest::of(b"index"),
            verifier: Verifier::default(),
            time: "2026-01-02T03:04:05Z".parse().unwrap(),
            policy: Digest::of(b"policy"),
            quorum: 2,
            inputs: [input("garnix"), input("github")].into(),
        }
    }

    #[test]
    fn it_reads_back_and_is_no_vote() {
        let payload = summary().to_payload().unwrap();
        assert_eq!(Summary::parse(&payload), Ok(summary()));
        assert_eq!(Statement::parse(&payload).unwrap_err().0, Reason::PredicateType);
    }

    #[test]
    fn nothing_else_is_one() {
        let good = String::from_utf8(summary().to_payload().unwrap()).unwrap();
        for (from, to) in [
            ("PASSED", "FAILED"),
            ("QUORATE_QUORUM_2", "SLSA_BUILD_LEVEL_3"),
            ("QUORATE_QUORUM_2", "QUORATE_QUORUM_02"),
            ("Statement/v1", "Statement/v0.1"),
            ("verification_summary/v1", "verification_summary/v2"),
            ("\"resourceUri\":\"ghcr.io/acme/app@", "\"resourceUri\":\"ghcr.io/acme/other@"),
            ("ni:///sha-256;", "ni:///sha-512;"),
            ("\"subject\":[", "\"subject\":[],\"x\":["),
            ("\"verifier\":{", "\"slsaVersion\":\"1.1\",\"verifier\":{"),
            ("\"name\":\"garnix\"", "\"name\":\"gar\\nnix\""),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from} is not in the sample");
            assert!(Summary::parse(bad.as_bytes()).is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn the_time_alone_is_nothing_new() {
        let (summary, mut other) = (summary(), summary());
        other.time = "2027-01-02T03:04:05Z".parse().unwrap();
        assert!(summary.says_what(&other));
        other.quorum = 3;
        assert!(!summary.says_what(&other));
    }

    #[test]
    fn a_verifier_is_a_uri() {
        for good in ["https://example.org/gate", "urn:example:gate", "spiffe://example.org/gate"] {
            assert!(good.parse::<Verifier>().is_ok(), "{good}");
        }
        for bad in ["", "gate", ":", "https:", "https://a b", "1s://x", "https://x\n", "https://ä"] {
            assert!(bad.parse::<Verifier>().is_err(), "{bad}");
        }
    }
}
