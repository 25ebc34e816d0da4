//! `verify --explain-split`: what the images of builders that disagree differ in.
//!
//! It explains a verdict and changes nothing about it: what cannot be read is said to be unknown.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::attestation::Claim;
use crate::edge::contents;
use crate::edge::registry::Registry;
use crate::error::Error;
use crate::oci::difference::{Cause, Difference, archives, fields};
use crate::oci::json::{Shape, parse};
use crate::oci::pack::Parts;
use crate::oci::{Config, Digest, Manifest, Repository};
use crate::policy::{Evidence, PlatformRow, Policy, Verdict};
use crate::report::split::Split;

/// The most other images that are looked at, for one platform.
const MAX_SIDES: usize = 8;

/// What a builder says that it got, where it is not what the index has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Side {
    config: Digest,
    /// The manifest, where it approves one.
    manifest: Option<Digest>,
}

/// An image, as far as it could be read.
struct Build {
    manifest: Option<Manifest>,
    config: Option<(Value, Config)>,
}

/// Explains each split of a verdict, from what the registry has of the other images.
pub(super) async fn explain(
    registry: &Registry,
    repository: &Repository,
    policy: &Policy,
    parts: &Parts,
    evidence: &Evidence,
    verdict: &Verdict,
) -> Vec<Split> {
    let mut splits = Vec::new();
    for row in &verdict.platforms {
        let Some(ours) = row.digest.and_then(|digest| ours(parts, digest)) else { continue };
        let Some((_, config)) = &ours.config else { continue };
        for (side, builders) in
            sides(policy, evidence, verdict, row, config.digest).into_iter().take(MAX_SIDES)
        {
            let differences = compare(registry, repository, &ours, side).await.unwrap_or_else(|error| {
                let why = error.causes().into_iter().next_back().unwrap_or_default();
                vec![unknown("the other image", format!("{error}: {why}"))]
            });
            let platform = row.platform.clone();
            let builders = builders.into_iter().map(str::to_owned).collect();
            splits.push(Split { platform, builders, ours: config.digest, theirs: side.config, differences });
        }
    }
    splits
}

/// The image of one platform, from the parts that were judged.
fn ours(parts: &Parts, digest: Digest) -> Option<Build> {
    let manifest = Manifest::parse(parts.child(digest)?.to_vec()).ok()?;
    let config = read(parts.child(manifest.config.digest)?);
    Some(Build { manifest: Some(manifest), config })
}

fn read(config: &[u8]) -> Option<(Value, Config)> {
    Some((parse(config, &Shape::Any).ok()?, Config::parse(config).ok()?))
}

/// The other images of a platform, each with the builders that got it.
fn sides<'a>(
    policy: &'a Policy,
    evidence: &Evidence,
    verdict: &Verdict,
    row: &PlatformRow,
    config: Digest,
) -> BTreeMap<Side, BTreeSet<&'a str>> {
    let mut sides: BTreeMap<Side, BTreeSet<&str>> = BTreeMap::new();
    for attestation in &evidence.attestations {
        let statement = attestation.statement();
        let told = verdict.group.as_ref().is_some_and(|group| group.is_of(statement));
        let Some(builder) = policy.builder(attestation.signer()).filter(|_| told) else { continue };
        if Some(statement.build.system) != row.system {
            continue;
        }
        let theirs = statement.build.content.config_digest;
        let approved = (statement.claim == Claim::Build).then_some(statement.subject);
        let manifest = approved.filter(|manifest| Some(*manifest) != row.digest);
        let agreed = row.cells.iter().find(|cell| cell.status == crate::policy::Status::Counted);
        let other_path = agreed
            .and_then(|cell| cell.content)
            .is_some_and(|content| content.nar_hash != statement.build.content.nar_hash);
        if theirs != config || manifest.is_some() || other_path {
            sides.entry(Side { config: theirs, manifest }).or_default().insert(&builder.name);
        }
    }
    sides
}

async fn compare(
    registry: &Registry,
    repository: &Repository,
    ours: &Build,
    side: Side,
) -> Result<Vec<Difference>, Error> {
    let Some((our_document, our_config)) = &ours.config else { return Ok(Vec::new()) };
    let manifest = match side.manifest {
        Some(digest) => registry.manifest(&repository.at_digest(digest)).await?,
        None => None,
    };
    let manifest = manifest.and_then(|raw| Manifest::parse(raw.bytes).ok());
    if side.config == our_config.digest {
        return Ok(match &manifest {
            Some(theirs) => forms(ours, theirs),
            None if side.manifest.is_some() => vec![absent("manifest", side.manifest)],
            None => vec![Difference {
                cause: Cause::StorePath,
                at: "narHash".to_owned(),
                ours: "the same configuration".to_owned(),
                theirs: "the same configuration".to_owned(),
            }],
        });
    }
    let bytes = contents::config(registry, repository, side.config).await?;
    let Some(bytes) = bytes else { return Ok(vec![absent("configuration", Some(side.config))]) };
    let Some((document, config)) = read(&bytes) else {
        return Ok(vec![unknown("the other configuration", "it cannot be read strictly".to_owned())]);
    };
    let mut found = fields("config", our_document, &document);
    // Of layers, what is in them is said.
    found.retain(|difference| !difference.at.starts_with("config/rootfs/"));
    if our_config.diff_ids.len() != config.diff_ids.len() {
        found.push(Difference {
            cause: Cause::Files,
            at: "layers".to_owned(),
            ours: our_config.diff_ids.len().to_string(),
            theirs: config.diff_ids.len().to_string(),
        });
    }
    let theirs = Build { manifest, config: None };
    let mut pairs = our_config.diff_ids.iter().zip(&config.diff_ids).enumerate();
    if let Some((at, (one, other))) = pairs.find(|(_, (one, other))| one != other) {
        let (one, other) = (layer(ours, at, *one), layer(&theirs, at, *other));
        let count = our_config.diff_ids.len();
        found
            .extend(layers(registry, repository, &format!("layer {} of {count}", at + 1), one, other).await?);
    }
    Ok(found)
}

/// The blob of a layer: what the manifest names, or else the archive itself, which stands under its
/// own digest where it is not compressed.
fn layer(build: &Build, at: usize, diff_id: Digest) -> Digest {
    let named = build.manifest.as_ref().and_then(|manifest| manifest.layers.get(at));
    named.map_or(diff_id, |layer| layer.digest)
}

/// What differs in two layers.
async fn layers(
    registry: &Registry,
    repository: &Repository,
    what: &str,
    ours: Digest,
    theirs: Digest,
) -> Result<Vec<Difference>, Error> {
    let whole =
        |cause| Difference { cause, at: what.to_owned(), ours: ours.to_string(), theirs: theirs.to_string() };
    let one = contents::files(registry, repository, ours).await?;
    let other = contents::files(registry, repository, theirs).await?;
    let (Some(one), Some(other)) = (one, other) else {
        let missing =
            Difference { theirs: format!("{theirs}, which is not in the registry"), ..whole(Cause::Unknown) };
        return Ok(vec![missing]);
    };
    let file = archives(&one, &other);
    let cause = file.cause;
    let at = if file.at.is_empty() { what.to_owned() } else { format!("{what}: {}", file.at) };
    Ok(vec![whole(cause), Difference { at, ..file }])
}

/// What differs in two manifests of one configuration.
fn forms(ours: &Build, theirs: &Manifest) -> Vec<Difference> {
    let Some(manifest) = &ours.manifest else { return Vec::new() };
    let pairs = manifest.layers.iter().zip(&theirs.layers).enumerate();
    let layers = pairs.filter(|(_, (one, other))| one.digest != other.digest).map(|(at, (one, other))| {
        let shown = |layer: &crate::oci::Descriptor| {
            format!("{}, {} bytes, {}", layer.digest, layer.size, layer.media_type)
        };
        let at = format!("layer {} of {}", at + 1, manifest.layers.len());
        Difference { cause: Cause::Compression, at, ours: shown(one), theirs: shown(other) }
    });
    let found: Vec<Difference> = layers.collect();
    if !found.is_empty() {
        return found;
    }
    let document = |manifest: &Manifest| parse(manifest.bytes(), &Shape::Any).unwrap_or_default();
    fields("manifest", &document(manifest), &document(theirs))
}

fn absent(what: &str, digest: Option<Digest>) -> Difference {
    let named = digest.map(|digest| digest.to_string()).unwrap_or_default();
    unknown(what, format!("{named} is not in the registry: let the builder push what it built there"))
}

fn unknown(what: &str, why: String) -> Difference {
    Difference { cause: Cause::Unknown, at: what.to_owned(), ours: "read".to_owned(), theirs: why }
}
