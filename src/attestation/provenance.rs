//! Statements of other predicate types, read for what they say: which manifest a builder made of
//! which commit. None of them names a configuration digest or a sequence.
//!
//! - SLSA provenance v1 (slsa.dev/spec/v1.0/provenance) of GitHub's build type, as
//!   `actions/attest-build-provenance` writes it.
//! - The predicates of nix-seed, under each of the names that it had.

use serde::Deserialize;
use serde_json::Value;

use super::predicate::Commit;
use super::statement::{Envelope, reshape};
use crate::nix::NarHash;
use crate::oci::json::Shape;
use crate::oci::{Digest, Repository, System};
use crate::reason::Reason;
use crate::text::is_hidden;

/// The predicate type of SLSA provenance.
pub const SLSA_V1: &str = "https://slsa.dev/provenance/v1";
/// The one build type that is read: a workflow of GitHub Actions.
pub const GITHUB_WORKFLOW: &str = "https://actions.github.io/buildtypes/workflow/v1";

/// The most bytes of a text in a predicate.
const MAX_TEXT: usize = 1024;

const WORKFLOW: Shape = Shape::Open(&[("ref", Shape::Any), ("repository", Shape::Any)]);
const DEPENDENCY: Shape =
    Shape::Open(&[("uri", Shape::Any), ("digest", Shape::Open(&[("gitCommit", Shape::Any)]))]);
const SLSA: Shape = Shape::Open(&[
    (
        "buildDefinition",
        Shape::Open(&[
            ("buildType", Shape::Any),
            ("externalParameters", Shape::Open(&[("workflow", WORKFLOW)])),
            ("resolvedDependencies", Shape::List(&DEPENDENCY)),
        ]),
    ),
    ("runDetails", Shape::Open(&[("builder", Shape::Open(&[("id", Shape::Any)]))])),
]);
const SEED: Shape = Shape::Open(&[
    ("predicateType", Shape::Any),
    ("commit", Shape::Any),
    ("gitHash", Shape::Any),
    ("system", Shape::Any),
    ("narHash", Shape::Any),
    ("imageHash", Shape::Any),
    ("builder", Shape::Open(&[("identity", Shape::Any)])),
]);

/// What a statement of another type says of one manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Its predicate type, one of [`Provenance::TYPES`].
    pub predicate_type: &'static str,
    /// The repository it speaks of (`subject[0].name`).
    pub name: Repository,
    /// The manifest that was made.
    pub manifest: Digest,
    /// The commit that it was made of.
    pub commit: Commit,
    /// The repository of that commit, as a `sourceUri`.
    pub source_uri: Option<String>,
    /// The git ref that was built.
    pub git_ref: Option<String>,
    /// The Nix system it was built for.
    pub system: Option<System>,
    /// The narHash of the store path that was built.
    pub nar_hash: Option<NarHash>,
    /// The builder, as it claims.
    pub builder: String,
}

type Refused = (Reason, String);

impl Provenance {
    /// The predicate types that can be read.
    pub const TYPES: &'static [&'static str] = &[
        SLSA_V1,
        "nix-seed/provenance",
        "https://github.com/0compute/nix-seed",
        "https://github.com/roundtablelove/nix-seed",
    ];

    /// Whether statements of a type name the repository of their commit.
    pub fn names_source(predicate_type: &str) -> bool {
        predicate_type == SLSA_V1
    }

    /// Reads the payload of an envelope.
    ///
    /// # Errors
    /// A reason code and the detail.
    pub fn parse(payload: &[u8]) -> Result<Self, Refused> {
        let envelope = Envelope::open(payload, Self::TYPES)?;
        let (name, manifest) = envelope.subject()?;
        let said = if envelope.predicate_type == SLSA_V1 {
            slsa(&envelope.predicate)
        } else {
            seed(&envelope.predicate, envelope.predicate_type, manifest)
        };
        let Said { commit, source_uri, git_ref, system, nar_hash, builder } =
            said.map_err(|why| (Reason::PredicateMalformed, why))?;
        let predicate_type = envelope.predicate_type;
        Ok(Self { predicate_type, name, manifest, commit, source_uri, git_ref, system, nar_hash, builder })
    }
}

/// What a predicate says.
struct Said {
    commit: Commit,
    source_uri: Option<String>,
    git_ref: Option<String>,
    system: Option<System>,
    nar_hash: Option<NarHash>,
    builder: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slsa {
    build_definition: BuildDefinition,
    run_details: RunDetails,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition {
    build_type: String,
    external_parameters: ExternalParameters,
    resolved_dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct ExternalParameters {
    workflow: Workflow,
}

#[derive(Deserialize)]
struct Workflow {
    #[serde(rename = "ref")]
    git_ref: String,
    repository: String,
}

#[derive(Deserialize)]
struct Dependency {
    uri: String,
    #[serde(default)]
    digest: GitDigest,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GitDigest {
    git_commit: Option<Commit>,
}

#[derive(Deserialize)]
struct RunDetails {
    builder: SlsaBuilder,
}

#[derive(Deserialize)]
struct SlsaBuilder {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seed {
    predicate_type: Option<String>,
    commit: Option<Commit>,
    git_hash: Option<Commit>,
    system: String,
    nar_hash: NarHash,
    image_hash: Option<String>,
    builder: SeedBuilder,
}

#[derive(Deserialize)]
struct SeedBuilder {
    identity: String,
}

/// The commit is that of the one dependency from git, and it must be the workflow's own repository
/// and ref: of several, nothing says which was built.
fn slsa(predicate: &Value) -> Result<Said, String> {
    let Slsa { build_definition, run_details } = reshape(predicate, &SLSA)?;
    let BuildDefinition { build_type, external_parameters, resolved_dependencies } = build_definition;
    if build_type != GITHUB_WORKFLOW {
        return Err("`buildType` is not that of a workflow of GitHub Actions".to_owned());
    }
    let Workflow { git_ref, repository } = external_parameters.workflow;
    let (repository, git_ref) = (text("workflow.repository", repository)?, text("workflow.ref", git_ref)?);
    let mut commits =
        resolved_dependencies.into_iter().filter_map(|one| Some((one.digest.git_commit?, one.uri)));
    let (Some((commit, uri)), None) = (commits.next(), commits.next()) else {
        return Err("there must be one `gitCommit` in `resolvedDependencies`".to_owned());
    };
    let source_uri = format!("git+{repository}");
    if uri != format!("{source_uri}@{git_ref}") {
        return Err("the `gitCommit` is of another repository or ref than the workflow".to_owned());
    }
    Ok(Said {
        commit,
        source_uri: Some(source_uri),
        git_ref: Some(git_ref),
        system: None,
        nar_hash: None,
        builder: text("builder.id", run_details.builder.id)?,
    })
}

fn seed(predicate: &Value, kind: &str, manifest: Digest) -> Result<Said, String> {
    let seed: Seed = reshape(predicate, &SEED)?;
    if seed.predicate_type.is_some_and(|stated| stated != kind) {
        return Err("`predicateType` is another than that of the statement".to_owned());
    }
    // The script writes `gitHash`, its page `commit`.
    let commit = match (seed.commit, seed.git_hash) {
        (Some(commit), None) | (None, Some(commit)) => commit,
        (Some(one), Some(other)) if one == other => one,
        _ => return Err("there must be one commit: `commit` or `gitHash`".to_owned()),
    };
    if let Some(image) = &seed.image_hash
        && image.rsplit_once('@').map_or(image.as_str(), |(_, digest)| digest) != manifest.to_string()
    {
        return Err("`imageHash` is another manifest than the subject".to_owned());
    }
    let system =
        seed.system.parse().map_err(|error: crate::oci::platform::PlatformError| error.to_string())?;
    Ok(Said {
        commit,
        source_uri: None,
        git_ref: None,
        system: Some(system),
        nar_hash: Some(seed.nar_hash),
        builder: text("builder.identity", seed.builder.identity)?,
    })
}

fn text(name: &str, text: String) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(is_hidden) {
        return Err(format!("`{name}` is empty, too long, or has control characters"));
    }
    Ok(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn statement(kind: &str, predicate: &Value) -> String {
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{
                "name": "ghcr.io/acme/app", "digest": { "sha256": Digest::of(b"manifest").hex() },
            }],
            "predicateType": kind,
            "predicate": predicate,
        })
        .to_string()
    }

    /// As `actions/attest-build-provenance` writes it.
    fn slsa() -> String {
        let predicate = json!({
            "buildDefinition": {
                "buildType": GITHUB_WORKFLOW,
                "externalParameters": { "workflow": {
                    "ref": "refs/heads/main",
                    "repository": "https://github.com/acme/app",
                    "path": ".github/workflows/build.yml",
                } },
                "internalParameters": { "github": { "event_name": "push", "repository_id": "1" } },
                "resolvedDependencies": [{
                    "uri": "git+https://github.com/acme/app@refs/heads/main",
                    "digest": { "gitCommit": COMMIT },
                }],
            },
            "runDetails": {
                "builder": { "id": "https://github.com/acme/app/.github/workflows/build.yml@refs/heads/main" },
                "metadata": { "invocationId": "https://github.com/acme/app/actions/runs/1/attempts/1" },
            },
        });
        statement(SLSA_V1, &predicate)
    }

    fn seed() -> String {
        let predicate = json!({
            "schemaVersion": 1,
            "predicateType": "nix-seed/provenance",
            "timestamp": "2026-01-01T00:00:00Z",
            "system": "x86_64-linux",
            "gitHash": COMMIT,
            "narHash": "sha256-5Kmxn6K2Of3Vf0mOI/23MKpcECZAhY2JlgKBj6vwylw=",
            "imageHash": format!("ghcr.io/acme/app@{}", Digest::of(b"manifest")),
            "registry": "ghcr.io",
            "layerHashes": ["a"],
            "tags": [],
            "builder": { "identity": "github", "actor": "acme", "runId": "1" },
        });
        statement("nix-seed/provenance", &predicate)
    }

    #[test]
    fn each_type_is_read_for_what_it_says() {
        let read = |text: String| Provenance::parse(text.as_bytes()).unwrap();
        let said = read(slsa());
        assert_eq!(said.manifest, Digest::of(b"manifest"));
        assert_eq!(said.commit.as_str(), COMMIT);
        assert_eq!(said.source_uri.as_deref(), Some("git+https://github.com/acme/app"));
        assert_eq!(said.git_ref.as_deref(), Some("refs/heads/main"));
        assert_eq!((said.system, said.nar_hash), (None, None));
        let said = read(seed());
        assert_eq!((said.commit.as_str(), said.builder.as_str()), (COMMIT, "github"));
        assert_eq!(said.system.map(|system| system.to_string()).as_deref(), Some("x86_64-linux"));
        assert!(said.nar_hash.is_some() && said.source_uri.is_none() && said.git_ref.is_none());
        assert_eq!(read(seed().replace("gitHash", "commit")), said);
        let renamed = seed().replace("nix-seed/provenance", "https://github.com/0compute/nix-seed");
        assert_eq!(read(renamed).predicate_type, "https://github.com/0compute/nix-seed");
    }

    #[test]
    fn each_departure_has_its_reason() {
        let twice = format!("\"gitHash\":\"{COMMIT}\",\"commit\":\"{}\"", COMMIT.replace('0', "1"));
        let own = format!("\"gitHash\":\"{COMMIT}\"");
        let dependency = "\"resolvedDependencies\":[";
        let second =
            format!("{dependency}{{\"uri\":\"git+https://x\",\"digest\":{{\"gitCommit\":\"{COMMIT}\"}}}},");
        for (good, from, to, reason) in [
            (slsa(), "provenance/v1", "provenance/v0.2", Reason::PredicateType),
            (
                slsa(),
                "\"subject\":[",
                "\"subject\":[{\"name\":\"a/b\",\"digest\":{\"sha256\":\"0\"}},",
                Reason::SubjectAmbiguous,
            ),
            (slsa(), "ghcr.io/acme/app", "app.tar", Reason::StatementMalformed),
            (slsa(), "buildtypes/workflow/v1", "buildtypes/other/v1", Reason::PredicateMalformed),
            (slsa(), "gitCommit", "sha1", Reason::PredicateMalformed),
            (slsa(), "gitCommit", "gitcommit", Reason::PredicateMalformed),
            (slsa(), COMMIT, "main", Reason::PredicateMalformed),
            (slsa(), "app@refs/heads/main", "app@refs/heads/next", Reason::PredicateMalformed),
            (
                slsa(),
                "git+https://github.com/acme",
                "git+https://github.com/evil",
                Reason::PredicateMalformed,
            ),
            (slsa(), dependency, &second, Reason::PredicateMalformed),
            (slsa(), "\"builder\":{\"id\"", "\"builder\":{\"name\"", Reason::PredicateMalformed),
            (slsa(), "\"buildType\"", "\"BuildType\":\"x\",\"buildType\"", Reason::PredicateMalformed),
            (seed(), &own, &twice, Reason::PredicateMalformed),
            (seed(), "gitHash", "hash", Reason::PredicateMalformed),
            (seed(), "narHash", "hash", Reason::PredicateMalformed),
            (seed(), "x86_64-linux", "x86_64-darwin", Reason::PredicateMalformed),
            (seed(), "app@sha256:", "app@sha256:00", Reason::PredicateMalformed),
            (
                seed(),
                "\"predicateType\":\"nix-seed/provenance\",\"registry\"",
                "\"predicateType\":\"x\",\"registry\"",
                Reason::PredicateMalformed,
            ),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from} is not in the sample");
            assert_eq!(Provenance::parse(bad.as_bytes()).map_err(|(r, _)| r), Err(reason), "{from} -> {to}");
        }
    }
}
