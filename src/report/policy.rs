//! `policy check`: what a policy asks for, and where it is weak.

use std::fmt::Write as _;

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::attestation::{MaySign, Transparency, Witnesses};
use crate::glob::Glob;
use crate::oci::Digest;
use crate::policy::builder::{Credential, Revocation};
use crate::policy::{Builder, Domain, ImageRule, Policy, TrustRule, TrustSource, WeakSpot, weak_spots};
use crate::text::in_line;

/// The media type of `policy check`'s JSON document.
pub const MEDIA_TYPE: &str = "application/vnd.quorate.policy-check.v1+json";

/// The policy, its rules with what is weak about each, and its builders.
pub fn text(policy: &Policy, rules: &[&ImageRule]) -> String {
    let mut text = format!("policy {}\n", policy.digest());
    for rule in rules {
        let _ = writeln!(text, "\n{}", rule.repository());
        for (name, value) in asked(rule) {
            let _ = writeln!(text, "  {name:<13} {}", in_line(&value));
        }
        for WeakSpot { code, detail } in weak_spots(policy, rule) {
            let _ = writeln!(text, "  ! {code}: {}", in_line(&detail));
        }
    }
    text.push_str("\nbuilders\n");
    for builder in policy.builders() {
        let _ = writeln!(text, "  {}", in_line(&described(builder)));
    }
    let written: Vec<_> = policy.trusts().iter().filter(|(_, rule)| **rule != TrustRule::default()).collect();
    if !written.is_empty() {
        text.push_str("\ntrust\n");
        for (name, rule) in written {
            let _ = writeln!(text, "  {name}: {}", in_line(&wanted(rule)));
        }
    }
    for waiver in policy.waivers() {
        let (statement, until) = (waiver.statement, waiver.until);
        let _ = writeln!(text, "waived until {until}: {statement}: {}", in_line(&waiver.reason));
    }
    text
}

/// What a rule asks for, line by line; what it does not ask for is left out.
fn asked(rule: &ImageRule) -> Vec<(&'static str, String)> {
    let list = |items: Vec<String>| items.join(", ");
    let strings = |set: &std::collections::BTreeSet<String>| list(set.iter().cloned().collect());
    let platforms = |map: &std::collections::BTreeMap<_, _>| {
        list(map.keys().map(|platform: &crate::oci::Platform| platform.to_string()).collect())
    };
    let optional = rule.optional.keys().map(|platform| match rule.since.get(platform) {
        Some(since) => format!("{platform} (required from the sequence {since} on)"),
        None => platform.to_string(),
    });
    let optional = list(optional.collect());
    let fed = rule.tag_rules().iter().filter(|tag| !tag.feed.is_open());
    let fed = list(fed.map(|tag| format!("{} from {}", tag.tags, tag.feed)).collect());
    let age = |age: Option<SignedDuration>| age.map(|age| format!("{age:#}")).unwrap_or_default();
    let apart = rule.distinct_by.besides().map(|also| format!(", each of another {also}"));
    let apart = format!("operators{}", apart.unwrap_or_default());
    let environments = rule.environments.iter().map(|(name, quorum)| format!("{name} {quorum}")).collect();
    let run = rule.run.environment.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let lines = [
        ("platforms", platforms(&rule.required)),
        ("optional", optional),
        ("single", if rule.single { "one image without an index will do".to_owned() } else { String::new() }),
        ("quorum", format!("{} of {} {apart}, to run{run}", rule.run.quorum, rule.voices)),
        ("environments", list(environments)),
        ("hear all", if rule.hear_all { "every builder".to_owned() } else { String::new() }),
        ("sources", strings(&rule.sources)),
        ("targets", strings(&rule.targets)),
        ("refs", strings(&rule.refs)),
        ("must state", list(rule.required_fields.iter().map(|field| field.as_str().to_owned()).collect())),
        ("types", list(rule.types.iter().map(|kind| format!("{kind} (unbound)")).collect())),
        ("tags", fed),
        ("to promote", age(rule.max_age)),
        ("to verify", age(rule.verify_max_age)),
        ("epoch", rule.epoch.map(|epoch| epoch.to_string()).unwrap_or_default()),
        ("sequence from", if rule.min_sequence == 0 { String::new() } else { rule.min_sequence.to_string() }),
    ];
    lines.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

fn described(builder: &Builder) -> String {
    let known_by: Vec<String> = builder.credentials.iter().map(credential).collect();
    format!("{} ({}): {}", builder.name, builder.operator, known_by.join(", "))
}

/// Whom a trust believes, and what they must vouch for.
fn wanted(rule: &TrustRule) -> String {
    let root = root(&rule.source);
    let vouched = match &rule.transparency {
        Transparency::Rekor { logs, witnesses } => {
            let mut text = format!("entries in {logs} log{}", if logs.get() == 1 { "" } else { "s" });
            if witnesses.wanted() > 0 {
                let names: Vec<String> = witnesses.known().iter().map(ToString::to_string).collect();
                let _ = write!(
                    text,
                    ", cosigned by {} of {} witnesses ({})",
                    witnesses.wanted(),
                    names.len(),
                    names.join(", ")
                );
            }
            text
        }
        Transparency::Timestamp => "a timestamp, no log".to_owned(),
        Transparency::None => "no log, no time".to_owned(),
    };
    format!("{root}; {vouched}")
}

/// Where a trusted root is from, in words.
fn root(source: &TrustSource) -> String {
    match source {
        TrustSource::Given => "the trusted root that the command is given".to_owned(),
        TrustSource::PublicGood => "public-good Sigstore".to_owned(),
        TrustSource::Staging => "staging Sigstore".to_owned(),
        TrustSource::Json(bytes) => format!("the trusted root {}", Digest::of(bytes)),
        TrustSource::Tuf { url, .. } => format!("the TUF repository {url}"),
    }
}

fn credential(credential: &Credential) -> String {
    let mut text = match &credential.may_sign {
        MaySign::Key(key) => format!("{key:?}"),
        MaySign::Certificate(matcher) => format!("certificates of {matcher}"),
    };
    if let Some(from) = credential.window.from {
        let _ = write!(text, " from {from}");
    }
    if let Some(until) = credential.window.until {
        let _ = write!(text, " until {until}");
    }
    match credential.revoked {
        Revocation::Compromised => text.push_str(" compromised"),
        Revocation::From(from) => {
            let _ = write!(text, " revoked from {from}");
        }
        Revocation::Never => {}
    }
    text
}

/// The JSON document.
pub fn json(policy: &Policy, rules: &[&ImageRule]) -> Value {
    json!({
        "mediaType": MEDIA_TYPE,
        "policy": { "digest": policy.digest() },
        "images": rules.iter().map(|rule| json!({
            "repository": rule.repository(),
            "platforms": rule.required.keys().map(ToString::to_string).collect::<Vec<_>>(),
            "optional": rule.optional.keys().map(ToString::to_string).collect::<Vec<_>>(),
            "since": rule.since.iter().map(|(platform, sequence)| (platform.to_string(), (*sequence).into()))
                .collect::<serde_json::Map<_, _>>(),
            "single": rule.single,
            "requiredFields": rule.required_fields.iter().map(|field| field.as_str()).collect::<Vec<_>>(),
            "types": rule.types.iter().map(|kind| json!({ "type": kind, "unbound": true })).collect::<Vec<_>>(),
            "tags": rule.tag_rules().iter().map(|tag| json!({
                "tags": tag.tags.to_string(),
                "rule": tag.kind.as_str(),
                "quorum": tag.bar.quorum,
                "refs": tag.feed.refs.iter().map(Glob::as_str).collect::<Vec<_>>(),
                "versions": tag.feed.versions.as_ref().map(ToString::to_string),
            })).collect::<Vec<_>>(),
            "quorum": rule.run.quorum,
            "voices": rule.voices,
            "distinctBy": rule.distinct_by.iter().map(Domain::as_str).collect::<Vec<_>>(),
            "environments": rule.environments,
            "weak": weak_spots(policy, rule).iter().map(|spot| json!({
                "code": spot.code,
                "detail": spot.detail,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "builders": policy.builders().iter().map(|builder| json!({
            "name": builder.name,
            "operator": builder.operator,
            "trust": builder.trust,
            "keys": builder.credentials.iter().filter_map(|credential| match &credential.may_sign {
                MaySign::Key(key) => Some(key.fingerprint()),
                MaySign::Certificate(_) => None,
            }).collect::<Vec<_>>(),
            "certificates": builder.credentials.iter().filter_map(|credential| match &credential.may_sign {
                MaySign::Certificate(matcher) => Some(json!({
                    "issuer": matcher.issuer,
                    "san": matcher.san.glob().as_str(),
                })),
                MaySign::Key(_) => None,
            }).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "trusts": policy.trusts().iter().map(|(name, rule)| {
            let (transparency, logs, witnesses) = match &rule.transparency {
                Transparency::Rekor { logs, witnesses } => ("rekor", logs.get(), Some(witnesses)),
                Transparency::Timestamp => ("timestamp", 0, None),
                Transparency::None => ("none", 0, None),
            };
            json!({
                "name": name,
                "root": root(&rule.source),
                "transparency": transparency,
                "logs": logs,
                "witnesses": {
                    "need": witnesses.map_or(0, Witnesses::wanted),
                    "known": witnesses.map_or(&[][..], Witnesses::known)
                        .iter().map(ToString::to_string).collect::<Vec<_>>(),
                },
            })
        }).collect::<Vec<_>>(),
    })
}
