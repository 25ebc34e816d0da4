//! A case of the decision, as its `case.toml` says it. The README beside this file explains it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

/// One `case.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What the case shows, in a sentence or two.
    pub(crate) why: String,
    /// The policy's path, from the folder of the case.
    pub(crate) policy: String,
    /// The repository under judgement.
    #[serde(default = "repository")]
    pub(crate) repository: String,
    /// The media type that the registry states for the image.
    #[serde(default = "index_type")]
    pub(crate) media_type: String,
    /// The bytes of the image, where they are not the index of the children; or, of one image without
    /// an index, the manifest of the first.
    pub(crate) bytes: Option<String>,
    /// The clock of the machine that decides.
    #[serde(default = "now")]
    pub(crate) now: String,
    /// `--expect-commit`: one hex digit, which is repeated.
    pub(crate) expect_commit: Option<char>,
    /// `--quorum`.
    pub(crate) quorum: Option<u32>,
    /// `--platform`.
    #[serde(default)]
    pub(crate) platforms: Vec<String>,
    /// What the verdict is for.
    #[serde(default)]
    pub(crate) purpose: Purpose,
    /// The tags to be moved, or the one to be left.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// The children of the index.
    #[serde(default)]
    pub(crate) child: Vec<Child>,
    /// What was proven to be signed.
    #[serde(default)]
    pub(crate) statement: Vec<Statement>,
    /// What was found and proves nothing.
    #[serde(default)]
    pub(crate) rejected: Vec<Rejected>,
    /// What must come out.
    pub(crate) expect: Expect,
}

/// What a verdict is for.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Purpose {
    #[default]
    Verify,
    Promote,
    Leave,
}

/// A child of the index.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Child {
    /// The image, by a name that the case makes up.
    pub(crate) image: String,
    /// Which push of the image: each compresses differently, and so makes another manifest.
    #[serde(default = "first")]
    pub(crate) push: u32,
    /// The platform that the index states.
    pub(crate) platform: Option<String>,
    /// The platform that the configuration states, if another.
    pub(crate) config_platform: Option<String>,
    /// The media type that the index states.
    pub(crate) media_type: Option<String>,
    /// What the registry does not have.
    pub(crate) absent: Option<Absent>,
}

/// A part of an image that the registry does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Absent {
    Manifest,
    Config,
}

/// A signed statement.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statement {
    /// Whose key signed it; `garnix` is the key of `garnix.pub`.
    pub(crate) signer: String,
    /// The predicate type, where it is not one of ours.
    #[serde(rename = "type")]
    pub(crate) kind: Option<Kind>,
    /// Whether the image is approved or disputed.
    #[serde(default)]
    pub(crate) claim: Claim,
    /// The image whose manifest is approved or disputed.
    pub(crate) image: String,
    /// Which push of it.
    #[serde(default = "first")]
    pub(crate) push: u32,
    /// The image that the builder got; by default the one that it speaks of.
    pub(crate) built: Option<String>,
    /// The narHash, by a made-up name, where it is not that of what was built.
    pub(crate) nar_hash: Option<String>,
    /// The configDigest, by a made-up name, where it is not that of what was built.
    pub(crate) config: Option<String>,
    /// The Nix system.
    #[serde(default = "system")]
    pub(crate) system: String,
    /// The commit: one hex digit, which is repeated.
    #[serde(default = "commit")]
    pub(crate) commit: char,
    /// The release order.
    #[serde(default = "sequence")]
    pub(crate) sequence: u64,
    /// `builder.id`; by default the signer.
    pub(crate) builder: Option<String>,
    /// `subject.name`; by default the repository under judgement.
    pub(crate) name: Option<String>,
    /// `sourceUri`.
    pub(crate) source: Option<String>,
    /// `target`.
    pub(crate) target: Option<String>,
    /// `ref`.
    #[serde(rename = "ref")]
    pub(crate) git_ref: Option<String>,
    /// What is stated besides, by the names of the fields.
    #[serde(default)]
    pub(crate) says: Vec<String>,
    /// The verified time.
    #[serde(default = "signed_at")]
    pub(crate) signed_at: String,
    /// A second verified time.
    pub(crate) and_at: Option<String>,
}

impl Statement {
    /// A value for a field, if it is stated.
    pub(crate) fn says(&self, field: &str) -> Option<String> {
        self.says.iter().any(|said| said == field).then(|| format!("a {field}"))
    }
}

/// A predicate type that is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Provenance of GitHub's build type: it names no system, and no content.
    Slsa,
    /// The predicate of nix-seed: it names a system and a narHash.
    NixSeed,
}

impl Kind {
    /// The predicate type.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Slsa => "https://slsa.dev/provenance/v1",
            Self::NixSeed => "nix-seed/provenance",
        }
    }
}

/// A statement of one of those types.
pub(crate) struct Foreign<'a> {
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
    /// SHA-256 in hex.
    pub(crate) manifest: String,
    pub(crate) commit: String,
    /// A web address.
    pub(crate) source: &'a str,
    pub(crate) git_ref: &'a str,
    pub(crate) system: &'a str,
    pub(crate) nar_hash: String,
    pub(crate) builder: &'a str,
}

impl Foreign<'_> {
    /// The statement as JSON.
    pub(crate) fn payload(&self) -> String {
        let predicate = if self.kind == Kind::Slsa.as_str() {
            json!({
                "buildDefinition": {
                    "buildType": "https://actions.github.io/buildtypes/workflow/v1",
                    "externalParameters": { "workflow": { "ref": self.git_ref, "repository": self.source } },
                    "resolvedDependencies": [{
                        "uri": format!("git+{}@{}", self.source, self.git_ref),
                        "digest": { "gitCommit": self.commit },
                    }],
                },
                "runDetails": { "builder": { "id": self.builder } },
            })
        } else {
            json!({
                "predicateType": self.kind,
                "gitHash": self.commit,
                "system": self.system,
                "narHash": self.nar_hash,
                "builder": { "identity": self.builder },
            })
        };
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{ "name": self.name, "digest": { "sha256": self.manifest } }],
            "predicateType": self.kind,
            "predicate": predicate,
        })
        .to_string()
    }
}

/// What a statement says of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Claim {
    #[default]
    Build,
    Dissent,
}

/// Evidence that proves nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rejected {
    /// Whose signature it bears, if that much holds.
    pub(crate) signer: Option<String>,
    /// The image that it is about, if that could be read.
    pub(crate) image: Option<String>,
    /// The reason code.
    pub(crate) reason: String,
}

/// What must come out, all of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    /// The verdict in one word.
    pub(crate) verdict: String,
    /// What refuses the image, as reason codes.
    #[serde(default)]
    pub(crate) refusals: Vec<String>,
    /// The commit of the group that was judged, if one was.
    pub(crate) commit: Option<char>,
    /// The sequence of that group.
    pub(crate) sequence: Option<u64>,
    /// The rows of the matrix.
    #[serde(default)]
    pub(crate) platform: BTreeMap<String, Row>,
    /// Whose statements were waived.
    #[serde(default)]
    pub(crate) waived: Vec<String>,
    /// Of `tags`, those that may move, where the case says so.
    pub(crate) permits: Option<Vec<String>>,
    /// Why evidence was ignored, as reason codes.
    #[serde(default)]
    pub(crate) ignored: Vec<String>,
}

/// A row of the matrix.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    /// How many operators agree, of how many that must: `"1 of 2"`.
    pub(crate) votes: String,
    /// By builder: the status, and the reason code if there is one.
    pub(crate) cells: BTreeMap<String, String>,
}

fn repository() -> String {
    "ghcr.io/acme/app".to_owned()
}

fn index_type() -> String {
    "application/vnd.oci.image.index.v1+json".to_owned()
}

fn now() -> String {
    "2026-01-02T00:00:00Z".to_owned()
}

fn signed_at() -> String {
    "2026-01-01T12:00:00Z".to_owned()
}

fn first() -> u32 {
    1
}

fn system() -> String {
    "x86_64-linux".to_owned()
}

fn commit() -> char {
    'a'
}

fn sequence() -> u64 {
    1
}
