//! What `inspect` found: an image as a tree.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::attestation::{Claim, Statement};
use crate::oci::{Descriptor, Digest, Repository};
use crate::reason::Reason;
use crate::text::in_line;

/// The media type of the JSON document.
pub const MEDIA_TYPE: &str = "application/vnd.quorate.inspect.v1+json";

/// An image as the registry has it.
#[derive(Debug)]
pub struct Inspected {
    /// Where.
    pub repository: Repository,
    /// The index, or the one manifest.
    pub root: Node,
}

/// An index or a manifest, and what hangs on it.
#[derive(Debug)]
pub struct Node {
    /// As its parent names it.
    pub descriptor: Descriptor,
    /// What its configuration and manifest say, if it is an image.
    pub image: Option<Image>,
    /// Why it could not be read further.
    pub problem: Option<String>,
    /// The children of an index, in its order.
    pub children: Vec<Node>,
    /// What was signed about it.
    pub evidence: Vec<Seen>,
    /// Its other referrers.
    pub others: Vec<Descriptor>,
}

/// An image of one platform.
#[derive(Debug)]
pub struct Image {
    /// The digest of the configuration.
    pub config: Digest,
    /// The platform that the configuration states.
    pub platform: String,
    /// The commit that a label or annotation names (`org.opencontainers.image.revision`).
    pub revision: Option<String>,
    /// How many layers.
    pub layers: usize,
    /// Their size in bytes, as they are pushed.
    pub size: u64,
}

/// A bundle that hangs on a manifest.
#[derive(Debug)]
pub struct Seen {
    /// The digest of the bundle, or of the manifest that should carry one.
    pub bundle: Digest,
    /// What it says, if it could be read.
    pub statement: Option<Statement>,
    /// What that is worth.
    pub standing: Standing,
}

/// What a statement is worth.
#[derive(Debug)]
pub enum Standing {
    /// Nobody said whom to believe.
    Unverified,
    /// Its signature, log entry and time hold, and a builder of the policy made it.
    Proven {
        /// The builder.
        builder: String,
        /// When a trusted authority first saw it.
        time: Option<Timestamp>,
    },
    /// It proves nothing.
    Rejected {
        /// The stable reason.
        reason: Reason,
        /// In words.
        detail: String,
    },
}

/// The tree.
pub fn text(found: &Inspected) -> String {
    let root = &found.root.descriptor;
    let mut text = format!("{}@{}\n", found.repository, root.digest);
    let _ = writeln!(text, "{}, {} bytes", in_line(&root.media_type), root.size);
    branches(&mut text, "", &found.root);
    text
}

fn branches(text: &mut String, indent: &str, node: &Node) {
    let mut lines: Vec<(String, Option<&Node>)> = Vec::new();
    if let Some(problem) = &node.problem {
        lines.push((format!("✗ {problem}"), None));
    }
    if let Some(image) = &node.image {
        let revision = image.revision.as_deref().unwrap_or("unknown");
        let layers = if image.layers == 1 { "layer" } else { "layers" };
        lines.push((format!("revision {revision}, {} {layers}, {} bytes", image.layers, image.size), None));
        lines.push((format!("configuration {} for {}", image.config, image.platform), None));
    }
    lines.extend(node.evidence.iter().map(|seen| (sentence(seen), None)));
    lines.extend(node.others.iter().map(|other| {
        let kind = other.artifact_type.as_deref().unwrap_or(&other.media_type);
        (format!("{kind}  {}", other.digest), None)
    }));
    for child in &node.children {
        let platform = child.descriptor.platform.as_ref();
        let platform = platform.map_or_else(|| "no platform".to_owned(), ToString::to_string);
        lines.push((format!("{platform}  {}", child.descriptor.digest), Some(child)));
    }
    let last = lines.len().saturating_sub(1);
    for (at, (line, below)) in lines.iter().enumerate() {
        let (branch, trunk) = if at == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        // One line each, whatever others wrote.
        let _ = writeln!(text, "{indent}{branch}{}", in_line(line));
        if let Some(below) = below {
            branches(text, &format!("{indent}{trunk}"), below);
        }
    }
}

fn sentence(seen: &Seen) -> String {
    let says = match &seen.statement {
        None => format!("bundle {}", seen.bundle),
        Some(statement) => {
            let build = &statement.build;
            let verb = match statement.claim {
                Claim::Build => "built",
                Claim::Dissent { .. } => "disputed",
            };
            format!(
                "{verb} by {:?}: commit {}, sequence {}, narHash {}",
                build.builder, build.commit, build.sequence, build.content.nar_hash
            )
        }
    };
    match &seen.standing {
        Standing::Unverified => format!("? {says} (not verified)"),
        Standing::Proven { builder, time } => {
            let time = time.map(|time| format!(", {time}")).unwrap_or_default();
            format!("✓ {says} (signed by {builder}{time})")
        }
        Standing::Rejected { reason, detail } => format!("✗ {says} ({reason}: {detail})"),
    }
}

/// The document of `inspect`.
pub fn json(found: &Inspected) -> Value {
    json!({
        "mediaType": MEDIA_TYPE,
        "image": { "repository": found.repository.to_string(), "digest": found.root.descriptor.digest },
        "root": node(&found.root),
    })
}

fn node(node: &Node) -> Value {
    json!({
        "mediaType": node.descriptor.media_type,
        "digest": node.descriptor.digest,
        "size": node.descriptor.size,
        "platform": node.descriptor.platform.as_ref().map(ToString::to_string),
        "problem": node.problem,
        "image": node.image.as_ref().map(|image| json!({
            "configDigest": image.config,
            "platform": image.platform,
            "revision": image.revision,
            "layers": image.layers,
            "size": image.size,
        })),
        "evidence": node.evidence.iter().map(seen).collect::<Vec<_>>(),
        "referrers": node.others.iter().map(|other| json!({
            "mediaType": other.media_type,
            "artifactType": other.artifact_type,
            "digest": other.digest,
            "size": other.size,
        })).collect::<Vec<_>>(),
        "manifests": node.children.iter().map(self::node).collect::<Vec<_>>(),
    })
}

fn seen(seen: &Seen) -> Value {
    let (standing, builder, time, reason, detail) = match &seen.standing {
        Standing::Unverified => ("unverified", None, None, None, None),
        Standing::Proven { builder, time } => {
            ("proven", Some(builder), time.map(|time| time.to_string()), None, None)
        }
        Standing::Rejected { reason, detail } => ("rejected", None, None, Some(reason.code()), Some(detail)),
    };
    json!({
        "bundle": seen.bundle,
        "standing": standing,
        "builder": builder,
        "time": time,
        "reason": reason,
        "detail": detail,
        "statement": seen.statement.as_ref().map(|statement| json!({
            "name": statement.name.to_string(),
            "predicateType": statement.predicate_type(),
            "system": statement.build.system.as_str(),
            "builder": statement.build.builder,
            "commit": statement.build.commit,
            "sequence": statement.build.sequence,
            "sourceUri": statement.build.source_uri,
            "target": statement.build.target,
            "narHash": statement.build.content.nar_hash,
            "configDigest": statement.build.content.config_digest,
        })),
    })
}
