//! in-toto Statement v1 (in-toto/attestation, `spec/v1/statement.md`), read strictly. Its
//! predecessor v0.1 is read as well.

use serde::{Deserialize, Serialize};

use super::predicate::{self, BUILD_V1, Build, DISSENT_V1};
use crate::oci::json::{self, Shape};
use crate::oci::{Digest, Repository};
use crate::reason::Reason;

/// The `_type` of a statement.
pub const TYPE: &str = "https://in-toto.io/Statement/v1";
/// The `_type` before that, which `cosign attest` writes: the same fields, with the same meaning.
const TYPE_V0_1: &str = "https://in-toto.io/Statement/v0.1";
/// The DSSE payload type of a statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

const RESOURCE: Shape =
    Shape::Closed(&[("name", Shape::Any), ("digest", Shape::Closed(&[("sha256", Shape::Any)]))]);
// Every type is read by its own shape, once the type is known.
const ENVELOPE: Shape = Shape::Closed(&[
    ("_type", Shape::Any),
    ("subject", Shape::Any),
    ("predicateType", Shape::Any),
    ("predicate", Shape::Any),
]);
const SUBJECTS: Shape = Shape::List(&RESOURCE);
const DISSENT_SHAPE: Shape = Shape::Closed(&[("build", predicate::BUILD_SHAPE), ("disputes", RESOURCE)]);

/// What a statement says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// "I built this, and the subject is it." The subject is the manifest of one platform.
    Build,
    /// "I built this, and the disputed manifest is not it." The subject is the builder's own
    /// configuration digest, so that no tool mistakes it for approval of the manifest.
    Dissent {
        /// The manifest that is disputed.
        disputes: Digest,
    },
}

/// A statement of one of our two types, about one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The repository it speaks of (`subject[0].name`).
    pub name: Repository,
    /// The subject's SHA-256.
    pub subject: Digest,
    /// What is claimed.
    pub claim: Claim,
    /// The build it is claimed of.
    pub build: Build,
}

impl Statement {
    /// The manifest the statement is about: its subject, or the one it disputes.
    pub fn manifest(&self) -> Digest {
        match self.claim {
            Claim::Build => self.subject,
            Claim::Dissent { disputes } => disputes,
        }
    }

    /// The predicate type.
    pub fn predicate_type(&self) -> &'static str {
        match self.claim {
            Claim::Build => BUILD_V1,
            Claim::Dissent { .. } => DISSENT_V1,
        }
    }

    /// Reads the payload of an envelope.
    ///
    /// # Errors
    /// A reason code and the detail. Nothing but our two types, exactly as documented, passes.
    pub fn parse(payload: &[u8]) -> Result<Self, (Reason, String)> {
        let wire = Envelope::open(payload, &[BUILD_V1, DISSENT_V1])?;
        let (name, subject) = wire.subject()?;
        let bad = |why: String| (Reason::PredicateMalformed, why);
        let (claim, build) = if wire.predicate_type == BUILD_V1 {
            let build: predicate::Wire = reshape(&wire.predicate, &predicate::BUILD_SHAPE).map_err(bad)?;
            (Claim::Build, build)
        } else {
            let dissent: WireDissent = reshape(&wire.predicate, &DISSENT_SHAPE).map_err(bad)?;
            let (disputed, disputes) = dissent.disputes.read().map_err(bad)?;
            if disputed != name {
                return Err(bad("`disputes` names another repository than the subject".to_owned()));
            }
            (Claim::Dissent { disputes }, dissent.build)
        };
        let build = Build::try_from(build).map_err(bad)?;
        if matches!(claim, Claim::Dissent { .. }) && subject != build.content.config_digest {
            return Err(bad("the subject of a dissent must be its own `configDigest`".to_owned()));
        }
        Ok(Self { name, subject, claim, build })
    }

    /// The payload: JSON without white space, keys in a fixed order.
    ///
    /// # Errors
    /// None for values that can be made; the parser's words otherwise.
    pub fn to_payload(&self) -> Result<Vec<u8>, serde_json::Error> {
        let resource = |digest: Digest| WireResource {
            name: self.name.to_string(),
            digest: WireDigestSet { sha256: digest.hex() },
        };
        let build = predicate::Wire::from(&self.build);
        let predicate = match self.claim {
            Claim::Build => serde_json::to_value(build)?,
            Claim::Dissent { disputes } => {
                serde_json::to_value(WireDissent { build, disputes: resource(disputes) })?
            }
        };
        serde_json::to_vec(&Wire {
            kind: TYPE.to_owned(),
            subject: serde_json::to_value([resource(self.subject)])?,
            predicate_type: self.predicate_type().to_owned(),
            predicate,
        })
    }
}

/// A statement whose predicate is not read yet.
pub(super) struct Envelope {
    subject: serde_json::Value,
    pub predicate_type: &'static str,
    pub predicate: serde_json::Value,
}

impl Envelope {
    /// Reads the payload of an envelope, of one of these predicate types.
    pub(super) fn open(payload: &[u8], types: &[&'static str]) -> Result<Self, (Reason, String)> {
        let malformed = |why: String| (Reason::StatementMalformed, why);
        let value = json::parse(payload, &ENVELOPE).map_err(|e| malformed(e.to_string()))?;
        let wire: Wire = serde_json::from_value(value).map_err(|e| malformed(e.to_string()))?;
        if wire.kind != TYPE && wire.kind != TYPE_V0_1 {
            return Err((Reason::StatementType, format!("`_type` is `{}`", shown(&wire.kind))));
        }
        let Some(predicate_type) = types.iter().find(|kind| **kind == wire.predicate_type) else {
            return Err((
                Reason::PredicateType,
                format!("`predicateType` is `{}`", shown(&wire.predicate_type)),
            ));
        };
        Ok(Self { subject: wire.subject, predicate_type, predicate: wire.predicate })
    }

    /// The one subject.
    pub(super) fn subject(&self) -> Result<(Repository, Digest), (Reason, String)> {
        let ambiguous = |why: String| (Reason::SubjectAmbiguous, why);
        let subjects: Vec<WireResource> = reshape(&self.subject, &SUBJECTS).map_err(ambiguous)?;
        let [subject] = <[WireResource; 1]>::try_from(subjects)
            .map_err(|all| ambiguous(format!("the statement has {} subjects", all.len())))?;
        subject.read().map_err(|why| (Reason::StatementMalformed, why))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(rename = "_type")]
    kind: String,
    subject: serde_json::Value,
    predicate_type: String,
    predicate: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
struct WireResource {
    name: String,
    digest: WireDigestSet,
}

#[derive(Serialize, Deserialize)]
struct WireDigestSet {
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct WireDissent {
    build: predicate::Wire,
    disputes: WireResource,
}

impl WireResource {
    fn read(&self) -> Result<(Repository, Digest), String> {
        let name: Repository =
            self.name.parse().map_err(|e: crate::oci::reference::ReferenceError| e.to_string())?;
        let digest = Digest::from_hex(&self.digest.sha256).map_err(|e| e.to_string())?;
        Ok((name, digest))
    }
}

/// Holds a part that was already parsed to the shape of its type, then reads it.
pub(super) fn reshape<T: serde::de::DeserializeOwned>(
    value: &serde_json::Value,
    shape: &Shape,
) -> Result<T, String> {
    json::check(value, shape).map_err(|e| e.to_string())?;
    T::deserialize(value).map_err(|e| e.to_string())
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(claim: Claim) -> Statement {
        let config_digest = Digest::of(b"config");
        let subject = match claim {
            Claim::Build => Digest::of(b"manifest"),
            Claim::Dissent { .. } => config_digest,
        };
        Statement {
            name: "ghcr.io/acme/app".parse().unwrap(),
            subject,
            claim,
            build: Build {
                commit: "0123456789abcdef0123456789abcdef01234567".parse().unwrap(),
                system: "x86_64-linux".parse().unwrap(),
                content: predicate::Content {
                    nar_hash: "sha256-5Kmxn6K2Of3Vf0mOI/23MKpcECZAhY2JlgKBj6vwylw=".parse().unwrap(),
                    config_digest,
                },
                builder: "garnix".to_owned(),
                sequence: 7,
                source_uri: Some("git+https://github.com/acme/app".to_owned()),
                git_ref: None,
                target: None,
                remarks: predicate::Remarks::default(),
            },
        }
    }

    fn payload() -> String {
        String::from_utf8(statement(Claim::Build).to_payload().unwrap()).unwrap()
    }

    #[test]
    fn both_types_read_back() {
        for claim in [Claim::Build, Claim::Dissent { disputes: Digest::of(b"manifest") }] {
            let statement = statement(claim);
            assert_eq!(Statement::parse(&statement.to_payload().unwrap()), Ok(statement));
        }
    }

    #[test]
    fn the_older_type_says_the_same() {
        let older = payload().replace("Statement/v1", "Statement/v0.1");
        assert_eq!(Statement::parse(older.as_bytes()), Ok(statement(Claim::Build)));
    }

    #[test]
    fn each_departure_has_its_reason() {
        let good = payload();
        assert!(Statement::parse(good.as_bytes()).is_ok());
        let sha = Digest::of(b"manifest").hex();
        for (from, to, reason) in [
            ("Statement/v1", "Statement/v0.2", Reason::StatementType),
            ("build/v1", "build/v1/", Reason::PredicateType),
            ("build/v1", "Build/v1", Reason::PredicateType),
            ("build/v1", "build/v10", Reason::PredicateType),
            ("\"subject\":[", "\"Subject\":[],\"subject\":[", Reason::StatementMalformed),
            (
                "\"subject\":[",
                "\"subject\":[{\"name\":\"r.example/a\",\"digest\":{\"sha256\":\"00\"}},",
                Reason::SubjectAmbiguous,
            ),
            ("\"sha256\":", "\"sha512\":\"00\",\"sha256\":", Reason::SubjectAmbiguous),
            ("\"subject\":[", "\"subject\":[],\"x\":[", Reason::StatementMalformed),
            (sha.as_str(), "00", Reason::StatementMalformed),
            ("ghcr.io/acme/app", "acme/app", Reason::StatementMalformed),
            ("\"sequence\":7", "\"sequence\":-7", Reason::PredicateMalformed),
            ("\"sequence\":7", "\"sequence\":7.0", Reason::PredicateMalformed),
            (",\"sequence\":7", "", Reason::PredicateMalformed),
            ("\"sequence\":7", "\"sequence\":7,\"more\":1", Reason::PredicateMalformed),
            ("\"sequence\":7", "\"sequence\":7,\"Commit\":1", Reason::PredicateMalformed),
            ("\"sequence\":7", "\"sequence\":7,\"commit\":\"0\"", Reason::StatementMalformed),
            ("x86_64-linux", "x86_64-darwin", Reason::PredicateMalformed),
            ("0123456789abcdef0123456789abcdef01234567", "main", Reason::PredicateMalformed),
            ("sha256-5K", "sha256-", Reason::PredicateMalformed),
            ("garnix", "gar\\nnix", Reason::PredicateMalformed),
            ("\"predicate\":{", "\"predicate\":null,\"x\":{", Reason::StatementMalformed),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from} is not in the sample");
            assert_eq!(Statement::parse(bad.as_bytes()).map_err(|(r, _)| r), Err(reason), "{from} -> {to}");
        }
        for bad in ["", "null", "[]", "{}", "\"x\"", "{\"_type\":1}"] {
            assert_eq!(Statement::parse(bad.as_bytes()).unwrap_err().0, Reason::StatementMalformed, "{bad}");
        }
    }

    #[test]
    fn a_dissent_never_has_the_manifest_as_its_subject() {
        let mut dissent = statement(Claim::Dissent { disputes: Digest::of(b"manifest") });
        dissent.subject = Digest::of(b"manifest");
        assert_eq!(
            Statement::parse(&dissent.to_payload().unwrap()).unwrap_err().0,
            Reason::PredicateMalformed
        );
    }

    #[test]
    fn documented_optional_fields_and_extensions_are_read() {
        let more = payload().replace(
            "\"sequence\":7",
            r#""sequence":7,"flakeLockHash":"x","closureManifest":"y","substituters":["z"],"invocation":"i","builtAt":"2026-01-02T03:04:05Z","extensions":{"any":{"thing":1}}"#,
        );
        let read = Statement::parse(more.as_bytes()).unwrap();
        let remarks = predicate::Remarks {
            built_at: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            flake_lock_hash: Some("x".to_owned()),
            closure_manifest: Some("y".to_owned()),
            substituters: Some(vec!["z".to_owned()]),
            invocation: Some("i".to_owned()),
        };
        assert_eq!(read.build.remarks, remarks);
        assert_eq!(Statement::parse(&read.to_payload().unwrap()).unwrap(), read);
    }

    #[test]
    fn null_is_not_the_absence_of_a_field() {
        for (field, value) in [
            ("sourceUri", "\"u\""),
            ("ref", "\"refs/heads/main\""),
            ("target", "\"image\""),
            ("builtAt", "\"2026-01-02T03:04:05Z\""),
            ("flakeLockHash", "\"x\""),
            ("closureManifest", "\"x\""),
            ("substituters", "[]"),
            ("invocation", "\"x\""),
            ("extensions", "{}"),
        ] {
            let plain = payload().replace(",\"sourceUri\":\"git+https://github.com/acme/app\"", "");
            let with =
                |value: &str| plain.replace("\"sequence\":7", &format!("\"sequence\":7,\"{field}\":{value}"));
            assert!(Statement::parse(with(value).as_bytes()).is_ok(), "{field}");
            let (reason, _) = Statement::parse(with("null").as_bytes()).unwrap_err();
            assert_eq!(reason, Reason::PredicateMalformed, "{field}");
        }
    }
}
