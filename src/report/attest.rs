//! The result of `attest`.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::attestation::{Claim, Signer, Statement};
use crate::oci::Digest;
use crate::text::{in_line, printable};

/// The media type of the JSON document.
pub const MEDIA_TYPE: &str = "application/vnd.quorate.attest.v1+json";

/// What came of it.
#[derive(Debug)]
pub enum Report {
    /// The statement was signed and logged, and attached if that was asked.
    Attested(Attested),
    /// The same had been said before; nothing was signed.
    Already(Attested),
    /// The build differs from what was pushed; nothing was signed.
    Differs(Difference),
}

/// A statement that is attached to a manifest.
#[derive(Debug)]
pub struct Attested {
    /// What was said.
    pub statement: Statement,
    /// Who said it.
    pub signer: Signer,
    /// The digest of the bundle.
    pub bundle: Digest,
    /// Where the log has it.
    pub log_index: Option<u64>,
    /// When the authority saw it.
    pub time: Option<Timestamp>,
    /// Where it is attached, if that was done now.
    pub attached: Option<Attached>,
}

/// Where evidence was put.
#[derive(Debug)]
pub struct Attached {
    /// The manifest that carries the bundle.
    pub manifest: Digest,
    /// `referrers`, or the derived tag.
    pub place: String,
    /// What did not work and does no harm here.
    pub notes: Vec<String>,
}

/// What a builder got, and what was pushed.
#[derive(Debug)]
pub struct Difference {
    /// The stable reason code.
    pub reason: &'static str,
    /// The manifest that was compared.
    pub manifest: Digest,
    /// What differs, with both sides.
    pub detail: String,
    /// The next command.
    pub hint: &'static str,
}

/// The result of `attest`: what came of each build.
pub fn text(reports: &[Report]) -> String {
    reports.iter().map(one_text).collect()
}

fn one_text(report: &Report) -> String {
    let done = |headline: String, attested: &Attested| {
        let build = &attested.statement.build;
        let mut text = format!("{headline}\n");
        let _ = writeln!(text, "  manifest      {}", attested.statement.manifest());
        let _ = writeln!(text, "  system        {}", build.system);
        let _ = writeln!(text, "  builder       {}", in_line(&build.builder));
        let _ = writeln!(text, "  commit        {}, sequence {}", build.commit, build.sequence);
        let _ = writeln!(text, "  narHash       {}", build.content.nar_hash);
        let _ = writeln!(text, "  configuration {}", build.content.config_digest);
        if let Signer::Certificate(identity) = &attested.signer {
            let _ = writeln!(text, "  signer        {}", in_line(&identity.to_string()));
        }
        let _ = writeln!(text, "  bundle        {}", attested.bundle);
        if let Some(index) = attested.log_index {
            let seen = attested.time.map(|time| format!(", seen {time}")).unwrap_or_default();
            let _ = writeln!(text, "  log index     {index}{seen}");
        }
        if let Some(attached) = &attested.attached {
            let _ = writeln!(text, "  attached      {} ({})", attached.manifest, attached.place);
        }
        text
    };
    match report {
        Report::Attested(attested) => {
            let verb = match attested.statement.claim {
                Claim::Build if attested.attached.is_none() => "signed, not attached:",
                Claim::Build => "attested",
                Claim::Dissent { .. } if attested.attached.is_none() => "dissent signed, not attached:",
                Claim::Dissent { .. } => "dissent recorded for",
            };
            done(format!("✓ {verb} {}", attested.statement.name), attested)
        }
        Report::Already(attested) => {
            done(format!("= already attested {}", attested.statement.name), attested)
        }
        Report::Differs(difference) => {
            format!(
                "✗ {}: {}\n  manifest {}\n",
                difference.reason,
                printable(&difference.detail),
                difference.manifest
            )
        }
    }
}

/// The document of `attest`: that of the one build, or one with those of all.
pub fn json(reports: &[Report]) -> Value {
    match reports {
        [report] => one_json(report),
        _ => json!({
            "mediaType": MEDIA_TYPE,
            // They differ, or none does.
            "outcome": reports.iter().map(Report::outcome).max().unwrap_or_default(),
            "builds": reports.iter().map(one_json).collect::<Vec<_>>(),
        }),
    }
}

impl Report {
    /// In one word. In the order of their letters, the last is what is to be said of several.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Already(_) => "already",
            Self::Attested(_) => "attested",
            Self::Differs(_) => "differs",
        }
    }
}

fn one_json(report: &Report) -> Value {
    let done = |attested: &Attested| {
        let build = &attested.statement.build;
        json!({
            "mediaType": MEDIA_TYPE,
            "outcome": report.outcome(),
            "name": attested.statement.name.to_string(),
            "predicateType": attested.statement.predicate_type(),
            "manifest": attested.statement.manifest(),
            "system": build.system.as_str(),
            "builder": build.builder,
            "signer": match &attested.signer {
                Signer::Key(key) => json!({"key": key.fingerprint()}),
                Signer::Certificate(identity) => {
                    json!({"issuer": identity.issuer, "san": identity.san.as_str()})
                }
            },
            "commit": build.commit,
            "sequence": build.sequence,
            "narHash": build.content.nar_hash,
            "configDigest": build.content.config_digest,
            "bundle": attested.bundle,
            "logIndex": attested.log_index,
            "time": attested.time.map(|time| time.to_string()),
            "attached": attested.attached.as_ref().map(|attached| json!({
                "manifest": attached.manifest,
                "place": attached.place,
                "notes": attached.notes,
            })),
        })
    };
    match report {
        Report::Attested(attested) | Report::Already(attested) => done(attested),
        Report::Differs(difference) => json!({
            "mediaType": MEDIA_TYPE,
            "outcome": report.outcome(),
            "manifest": difference.manifest,
            "reason": difference.reason,
            "detail": difference.detail,
        }),
    }
}
