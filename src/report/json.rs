//! Results as JSON documents, each with a versioned `mediaType`.

use serde_json::{Value, json};

use crate::error::Error;
use crate::oci::{Descriptor, Platform};
use crate::policy::{Cell, PlatformRow, Verdict};
use crate::reason::Reason;

#[cfg(feature = "cli")]
use crate::ops::{assemble, attest, promote};

/// The media type of `verify`'s document.
pub const VERIFY: &str = "application/vnd.quorate.verify.v1+json";
/// The media type of `promote`'s document.
pub const PROMOTE: &str = "application/vnd.quorate.promote.v1+json";
/// The media type of `assemble`'s document.
pub const ASSEMBLE: &str = "application/vnd.quorate.assemble.v1+json";
/// The media type of `attest`'s document.
pub const ATTEST: &str = "application/vnd.quorate.attest.v1+json";
/// The media type of the document that stands for a result there is none of.
pub const ERROR: &str = "application/vnd.quorate.error.v1+json";

/// The document of `verify`.
pub fn verify(verdict: &Verdict) -> Value {
    let mut document = json!({ "mediaType": VERIFY });
    merge(&mut document, verdict_fields(verdict));
    document
}

/// The document of a run that came to no result: `verdict` is null, where there would be one.
pub fn error(media_type: &str, error: &Error) -> Value {
    let mut document = json!({
        "mediaType": media_type,
        "error": { "message": error.to_string(), "causes": error.causes(), "hint": error.next() },
    });
    if media_type == VERIFY || media_type == PROMOTE {
        merge(&mut document, json!({ "verdict": null }));
    }
    if media_type == PROMOTE {
        merge(&mut document, json!({ "outcome": "undecided", "tags": [] }));
    }
    document
}

/// The document of `promote`.
#[cfg(feature = "cli")]
pub fn promote(report: &promote::Report) -> Value {
    let mut document = json!({ "mediaType": PROMOTE });
    merge(&mut document, verdict_fields(&report.verdict));
    let tags: Vec<Value> = report
        .tags
        .iter()
        .map(|tag| {
            let (reason, detail) = tag.refusal.as_ref().map_or((None, None), |(r, d)| (Some(*r), Some(d)));
            json!({
                "tag": tag.tag.as_str(),
                "before": tag.before,
                "after": tag.after,
                "action": tag.action.as_str(),
                "reason": reason,
                "detail": detail,
            })
        })
        .collect();
    merge(
        &mut document,
        json!({ "outcome": report.outcome().as_str(), "dryRun": report.dry_run, "tags": tags }),
    );
    if let Some(unfinished) = &report.unfinished {
        merge(&mut document, json!({ "error": error(PROMOTE, unfinished)["error"] }));
    }
    document
}

/// The document of `assemble`.
#[cfg(feature = "cli")]
pub fn assemble(report: &assemble::Report) -> Value {
    match report {
        assemble::Report::Refused(refused) => json!({
            "mediaType": ASSEMBLE,
            "outcome": "refused",
            "reason": refused.reason,
            "detail": refused.detail,
        }),
        assemble::Report::Assembled(done) => json!({
            "mediaType": ASSEMBLE,
            "outcome": if done.dry_run { "dry-run" } else { "assembled" },
            "image": { "repository": done.repository.to_string(), "digest": done.index.digest() },
            "tag": done.tag.as_ref().map(|tag| tag.tag().as_str()),
            "manifests": done.index.manifests.iter().zip(&done.sources).map(|(child, source)| json!({
                "platform": platform(child),
                "digest": child.digest,
                "size": child.size,
                "source": source.to_string(),
            })).collect::<Vec<_>>(),
        }),
    }
}

/// The document of `attest`.
#[cfg(feature = "cli")]
pub fn attest(report: &attest::Report) -> Value {
    let done = |outcome: &str, attested: &attest::Attested| {
        let build = &attested.statement.build;
        json!({
            "mediaType": ATTEST,
            "outcome": outcome,
            "name": attested.statement.name.to_string(),
            "predicateType": attested.statement.predicate_type(),
            "manifest": attested.statement.manifest(),
            "system": build.system.as_str(),
            "builder": build.builder,
            "commit": build.commit,
            "sequence": build.sequence,
            "narHash": build.content.nar_hash,
            "configDigest": build.content.config_digest,
            "bundle": attested.bundle,
            "logIndex": attested.log_index,
            "time": attested.time.to_string(),
            "attached": attested.attached.as_ref().map(|attached| json!({
                "manifest": attached.manifest,
                "place": place(&attached.place),
                "notes": attached.notes,
            })),
        })
    };
    match report {
        attest::Report::Attested(attested) => done("attested", attested),
        attest::Report::Already(attested) => done("already", attested),
        attest::Report::Differs(difference) => json!({
            "mediaType": ATTEST,
            "outcome": "differs",
            "manifest": difference.manifest,
            "reason": difference.reason,
            "detail": difference.detail,
        }),
    }
}

/// Where evidence stands: `referrers`, or the tag.
#[cfg(feature = "cli")]
pub(super) fn place(place: &crate::edge::registry::Place) -> String {
    match place {
        crate::edge::registry::Place::Referrers => "referrers".to_owned(),
        crate::edge::registry::Place::Tag(tag) => tag.to_string(),
    }
}

fn platform(child: &Descriptor) -> Option<String> {
    child.platform.as_ref().map(Platform::to_string)
}

fn verdict_fields(verdict: &Verdict) -> Value {
    json!({
        "verdict": verdict.outcome.as_str(),
        "image": { "repository": verdict.repository.to_string(), "digest": verdict.digest },
        "policy": { "digest": verdict.policy },
        "refusals": verdict.refusals.iter().map(|refusal| json!({
            "reason": refusal.reason,
            "detail": refusal.detail,
        })).collect::<Vec<_>>(),
        "group": verdict.group.as_ref().map(|group| json!({
            "name": group.name.to_string(),
            "commit": group.commit,
            "sequence": group.sequence,
            "source": group.source,
            "target": group.target,
        })),
        "platforms": verdict.platforms.iter().map(row).collect::<Vec<_>>(),
        "ignored": verdict.ignored.iter().map(|ignored| json!({
            "bundle": ignored.bundle,
            "manifest": ignored.manifest,
            "reason": ignored.reason,
            "detail": ignored.detail,
        })).collect::<Vec<_>>(),
    })
}

fn row(row: &PlatformRow) -> Value {
    json!({
        "platform": row.platform.to_string(),
        "system": row.system.map(|system| system.as_str()),
        "digest": row.digest,
        "have": row.have,
        "need": row.need,
        "cells": row.cells.iter().map(cell).collect::<Vec<_>>(),
    })
}

fn cell(cell: &Cell) -> Value {
    json!({
        "builder": cell.builder,
        "operator": cell.operator,
        "status": cell.status.as_str(),
        "reason": cell.reason.map(Reason::code),
        "detail": cell.detail,
        "narHash": cell.content.map(|content| content.nar_hash),
        "configDigest": cell.content.map(|content| content.config_digest),
    })
}

fn merge(document: &mut Value, more: Value) {
    if let (Value::Object(document), Value::Object(more)) = (document, more) {
        document.extend(more);
    }
}
