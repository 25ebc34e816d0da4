//! What a policy allows that its owner may not have meant.

use std::collections::{BTreeMap, BTreeSet};

use sigstore_crypto::KeyAlgorithm;

use super::builder::{Builder, Claims, Domain};
use super::file::{ImageRule, Policy};
use crate::attestation::{CertificateClaim, Matcher, MaySign, Transparency};

/// Something weak about one rule: allowed, and worth a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeakSpot {
    /// A stable code, in lower case with dashes.
    pub code: &'static str,
    /// The same in words.
    pub detail: String,
}

/// What is weak about `rule`, in a fixed order.
pub fn weak_spots(policy: &Policy, rule: &ImageRule) -> Vec<WeakSpot> {
    let mut spots = Vec::new();
    let mut weak = |code, detail: String| spots.push(WeakSpot { code, detail });
    if rule.run.quorum.get() < 2 {
        weak("quorum-below-two", "one builder alone can have an image run".to_owned());
    }
    if rule.voices < 2 {
        weak("one-voice", "there is a platform for which only one voice can ever agree".to_owned());
    }
    if let Some(strictest) = rule.environments.values().max().filter(|most| **most > rule.run.quorum) {
        let run = rule.run.quorum;
        weak(
            "verify-below-strictest",
            format!("images run with {run}, and an environment asks for {strictest}"),
        );
    }
    if rule.sources.is_empty() {
        weak("no-sources", "builders may agree on a build of any repository".to_owned());
    }
    if !rule.types.is_empty() {
        weak("unbound", "statements count that name a manifest and a commit, and no content".to_owned());
    }
    let builders: Vec<&Builder> = policy.builders().iter().filter(|builder| builder.has_voice()).collect();
    let by_certificate = |builder: &&Builder| builder.credentials.iter().any(|c| c.issuer().is_some());
    let issuer = builders.iter().all(by_certificate).then_some(Domain::Issuer);
    for domain in
        [Domain::Organisation, Domain::Jurisdiction, Domain::Infrastructure].into_iter().chain(issuer)
    {
        let named: Option<BTreeSet<&str>> = builders.iter().map(|builder| builder.domain(domain)).collect();
        if let Some(one) = named.filter(|named| named.len() == 1).and_then(|named| named.first().copied()) {
            weak("one-domain", format!("all builders are of one {}, {one:?}", domain.as_str()));
        }
    }
    for domain in rule.distinct_by.iter() {
        for (one, other) in alike(&builders, domain) {
            weak(
                "alike",
                format!("{one:?} and {other:?} count as two {}s: are they not one?", domain.as_str()),
            );
        }
    }
    for (one, other) in of_one_repository(&builders) {
        weak(
            "one-repository",
            format!(
                "{one} and {other} count as two, and whoever writes to their one repository can sign as both"
            ),
        );
    }
    for builder in builders {
        let name = &builder.name;
        for (matcher, claims) in
            builder.credentials.iter().filter_map(|credential| match &credential.may_sign {
                MaySign::Certificate(matcher) => Some((matcher, credential.claims)),
                MaySign::Key(_) => None,
            })
        {
            if matcher.san.is_uri() && !names_owner(matcher) {
                weak(
                    "no-owner-id",
                    format!(
                        "{name}: whoever gets the name of the repository's owner next can sign: `require` names no id"
                    ),
                );
            }
            let elsewhere = claims == Claims::Source && !is_of(matcher, &rule.sources);
            if rule.refs.is_empty() && (leaves_ref_open(matcher) || elsewhere && !asks_for_ref(matcher)) {
                weak("any-ref", format!("{name}: certificates for more than one ref are taken"));
            }
        }
        let trust = policy.trusts().get(&builder.trust);
        if let Some(Transparency::Rekor { witnesses, .. }) = trust.map(|trust| &trust.transparency) {
            // Which versions of Rekor a trust has, nothing says before there is an entry.
            if builder.credentials.iter().any(|credential| is_ed25519(&credential.may_sign)) {
                weak(
                    "rekor-v1-only",
                    format!(
                        "{name}: no Rekor v2 takes signatures of its Ed25519 key, so none can prove its votes"
                    ),
                );
            }
            if witnesses.may_part() {
                weak(
                    "witnesses-apart",
                    format!(
                        "{name}: {} of {} witnesses: a log can show one history to some, and another to the others",
                        witnesses.wanted(),
                        witnesses.known().len()
                    ),
                );
            }
        } else {
            weak("no-log", format!("{name}: its signatures need not be in any log, so nobody sees them all"));
        }
    }
    spots
}

/// Names that differ in case, spaces or punctuation alone, in pairs.
fn alike<'a>(builders: &[&'a Builder], domain: Domain) -> Vec<(&'a str, &'a str)> {
    let plain = |name: &str| -> String {
        let kept = |c: &char| !c.is_whitespace() && !matches!(c, '-' | '_' | '.' | ',');
        name.chars().filter(kept).flat_map(char::to_lowercase).collect()
    };
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    let names: BTreeSet<&str> = builders.iter().filter_map(|builder| builder.domain(domain)).collect();
    names.into_iter().filter_map(|name| Some((seen.insert(plain(name), name)?, name))).collect()
}

/// Builders of different operators of which the workflows lie in one repository, in pairs.
fn of_one_repository<'a>(builders: &[&'a Builder]) -> BTreeSet<(&'a str, &'a str)> {
    let mut seen: BTreeMap<(&str, &str), &Builder> = BTreeMap::new();
    let mut pairs = BTreeSet::new();
    for builder in builders {
        for credential in &builder.credentials {
            let MaySign::Certificate(matcher) = &credential.may_sign else { continue };
            // GitHub and Forgejo keep workflows in a folder with a dot, GitLab in a file with one.
            let Some((repository, _)) = matcher.san.glob().as_str().split_once("/.") else { continue };
            let first = *seen.entry((&matcher.issuer, repository)).or_insert(builder);
            if first.operator != builder.operator {
                pairs.insert((first.name.as_str(), builder.name.as_str()));
            }
        }
    }
    pairs
}

fn is_ed25519(may_sign: &MaySign) -> bool {
    matches!(may_sign, MaySign::Key(key) if key.algorithm() == KeyAlgorithm::Ed25519)
}

/// Whether an id is asked for that stays when a name is given up and taken by somebody else.
fn names_owner(matcher: &Matcher) -> bool {
    [CertificateClaim::SourceRepositoryOwnerIdentifier, CertificateClaim::SourceRepositoryIdentifier]
        .iter()
        .any(|claim| matcher.claims.contains_key(claim))
}

/// Whether the ref is neither in the name, after its `@`, nor asked for.
fn leaves_ref_open(matcher: &Matcher) -> bool {
    let pattern = matcher.san.glob();
    let written = pattern.as_str().rsplit_once('@').is_some_and(|(_, git_ref)| !git_ref.contains('*'));
    matcher.san.is_uri() && !pattern.is_exact() && !written && !asks_for_ref(matcher)
}

fn asks_for_ref(matcher: &Matcher) -> bool {
    matcher.claims.contains_key(&CertificateClaim::SourceRepositoryRef)
}

/// Whether the workflow that the name is of lies in one of the sources, if there are any. Of one that
/// others call, the name has the ref of the workflow, and not of what was built.
fn is_of(matcher: &Matcher, sources: &BTreeSet<String>) -> bool {
    let name = matcher.san.glob();
    let within = |source: &String| {
        let source = source.strip_prefix("git+").unwrap_or(source);
        name.as_str().strip_prefix(source).is_some_and(|rest| rest.starts_with('/'))
    };
    !matcher.san.is_uri() || sources.is_empty() || sources.iter().any(within)
}
