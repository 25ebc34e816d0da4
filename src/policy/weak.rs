//! What a policy allows that its owner may not have meant.

use std::collections::BTreeSet;

use super::builder::{Builder, Domain};
use super::file::{ImageRule, Policy};

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
    let builders: Vec<&Builder> = policy.builders().iter().filter(|builder| builder.has_voice()).collect();
    for domain in [Domain::Organisation, Domain::Jurisdiction, Domain::Infrastructure] {
        let named: Option<BTreeSet<&str>> = builders.iter().map(|builder| builder.domain(domain)).collect();
        if let Some(one) = named.filter(|named| named.len() == 1).and_then(|named| named.first().copied()) {
            weak("one-domain", format!("all builders are of one {}, {one:?}", domain.as_str()));
        }
    }
    spots
}
