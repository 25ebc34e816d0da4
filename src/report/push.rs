//! What `push` came to.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::markdown;
use crate::error::Error;
use crate::oci::release::Refusal;
use crate::oci::{Config, Descriptor, Manifest, Repository, System, Tag};

/// The media type of the JSON document.
pub const MEDIA_TYPE: &str = "application/vnd.quorate.push.v1+json";

/// What `push` came to.
pub enum Report {
    /// The image cannot have the tags that were asked for. Nothing was sent.
    Refused(Refusal),
    /// The image was sent, or was to be sent, to every target.
    Pushed(Box<Pushed>),
}

/// An image, and what became of sending it.
pub struct Pushed {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: Config,
    /// The system that it is for, if that can be told.
    pub system: Option<System>,
    /// Where it went.
    pub targets: Vec<Target>,
    /// Whether nothing was to be sent.
    pub dry_run: bool,
}

/// A repository that the image went to.
pub struct Target {
    /// The repository.
    pub repository: Repository,
    /// The tags that it was to have there.
    pub tags: Vec<Tag>,
    /// Whether it is there.
    pub sent: Result<(), Error>,
}

impl Pushed {
    /// The descriptor of the image, with its platform where that can be told.
    pub fn descriptor(&self) -> Descriptor {
        let platform = self.system.map(|system| system.platform());
        Descriptor { platform, ..self.manifest.descriptor() }
    }

    /// The reference by digest in the first target.
    pub fn image(&self) -> String {
        self.targets.first().map_or_else(String::new, |target| self.image_in(target))
    }

    fn image_in(&self, target: &Target) -> String {
        target.repository.at_digest(self.manifest.digest()).to_string()
    }
}

impl Target {
    fn tags(&self) -> String {
        self.tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// The result as text. The first line is the image by digest.
pub fn text(report: &Report) -> String {
    let pushed = match report {
        Report::Refused(refused) => {
            return format!("✗ refused: {}: {}", refused.fault.code(), refused.detail);
        }
        Report::Pushed(pushed) => pushed,
    };
    let mut text = String::new();
    for target in &pushed.targets {
        let image = pushed.image_in(target);
        match &target.sent {
            Ok(()) => text.push_str(&image),
            Err(error) => {
                let _ = write!(text, "✗ {image}: {error}");
            }
        }
        text.push('\n');
        if target.sent.is_ok() && !target.tags.is_empty() {
            let _ = writeln!(text, "  named {}", target.tags());
        }
    }
    let platform = pushed.system.map_or_else(|| pushed.config.platform.clone(), |system| system.platform());
    let _ = write!(text, "platform      {platform}\nconfiguration {}", pushed.config.digest);
    if pushed.dry_run {
        text.push_str("\nnothing was sent");
    }
    text
}

/// The result as JSON.
pub fn json(report: &Report) -> Value {
    let pushed = match report {
        Report::Refused(refused) => {
            return json!({
                "mediaType": MEDIA_TYPE,
                "outcome": "refused",
                "reason": refused.fault.code(),
                "detail": refused.detail,
                "hint": refused.fault.hint(),
            });
        }
        Report::Pushed(pushed) => pushed,
    };
    let outcome = match (pushed.dry_run, pushed.targets.iter().all(|target| target.sent.is_ok())) {
        (true, _) => "dry-run",
        (false, true) => "pushed",
        (false, false) => "failed",
    };
    json!({
        "mediaType": MEDIA_TYPE,
        "outcome": outcome,
        "image": {
            "repository": pushed.targets.first().map(|target| target.repository.to_string()),
            "digest": pushed.manifest.digest(),
        },
        "descriptor": descriptor(pushed),
        "system": pushed.system.map(|system| system.as_str()),
        "configDigest": pushed.config.digest,
        "layers": pushed.manifest.layers.iter().map(|layer| json!({
            "mediaType": layer.media_type,
            "digest": layer.digest,
            "size": layer.size,
        })).collect::<Vec<_>>(),
        "targets": pushed.targets.iter().map(|target| json!({
            "repository": target.repository.to_string(),
            "tags": target.tags.iter().map(Tag::as_str).collect::<Vec<_>>(),
            "error": target.sent.as_ref().err().map(|error| json!({
                "message": error.to_string(),
                "causes": error.causes(),
            })),
        })).collect::<Vec<_>>(),
    })
}

/// The descriptor of the image, as `assemble --descriptor` reads it.
pub fn descriptor(pushed: &Pushed) -> Value {
    let named = pushed.descriptor();
    let mut document = json!({ "mediaType": named.media_type, "digest": named.digest, "size": named.size });
    if let Some(platform) = named.platform {
        document["platform"] = json!({ "architecture": platform.architecture(), "os": platform.os() });
        if let Some(variant) = platform.variant() {
            document["platform"]["variant"] = variant.into();
        }
    }
    document
}

/// A summary in Markdown.
pub fn markdown(report: &Report) -> String {
    match report {
        Report::Refused(refused) => format!(
            "### ✗ Not pushed: `{}`\n\n{}\n\n{}\n",
            refused.fault.code(),
            markdown::escape(&refused.detail),
            markdown::escape(refused.fault.hint())
        ),
        Report::Pushed(pushed) => {
            let verb = if pushed.dry_run { "Would push" } else { "Pushed" };
            let mut text =
                format!("### {verb} `{}`\n\n| to | tags | |\n|---|---|---|\n", pushed.manifest.digest());
            for target in &pushed.targets {
                let sent = match &target.sent {
                    Ok(()) => "✓".to_owned(),
                    Err(error) => format!("✗ {}", markdown::escape(&error.to_string())),
                };
                let _ = writeln!(text, "| `{}` | `{}` | {sent} |", target.repository, target.tags());
            }
            text
        }
    }
}
