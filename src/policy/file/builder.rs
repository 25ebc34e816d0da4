//! `[[builder]]`: who may vote, and by what it is known.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{PolicyError, name, rule, text};
use crate::attestation::signer::SanPattern;
use crate::attestation::{CertificateClaim, Matcher, MaySign, PublicKey, Trusts};
use crate::oci::Slot;
use crate::policy::builder::{Builder, Claims, Credential, Domain, Revocation, Window};
use crate::policy::moment::Moment;

/// The most bytes of a name or claim in a certificate.
const MAX_CLAIM: usize = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileBuilder {
    pub(super) name: String,
    operator: String,
    key: Option<String>,
    #[serde(default)]
    keys: Vec<FileKey>,
    issuer: Option<String>,
    san: Option<String>,
    claims: Option<Claims>,
    require: Option<BTreeMap<CertificateClaim, String>>,
    #[serde(default)]
    identities: Vec<FileIdentity>,
    trust: Option<String>,
    revoked: Option<FileRevoked>,
    systems: Option<Vec<String>>,
    organisation: Option<String>,
    jurisdiction: Option<String>,
    infrastructure: Option<String>,
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    slots: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    key: String,
    from: Option<Moment>,
    until: Option<Moment>,
    revoked: Option<FileRevoked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileIdentity {
    issuer: String,
    san: String,
    #[serde(default)]
    claims: Claims,
    #[serde(default)]
    require: BTreeMap<CertificateClaim, String>,
    from: Option<Moment>,
    until: Option<Moment>,
    revoked: Option<FileRevoked>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileRevoked {
    From(Moment),
    Compromised,
}

/// Names, ids, keys, certificates and slots must each lead to one builder.
pub(super) fn check_builders(builders: &[Builder]) -> Result<(), PolicyError> {
    let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
    let mut credentials: Vec<(&MaySign, &str)> = Vec::new();
    let mut slots: BTreeMap<&Slot, &str> = BTreeMap::new();
    for builder in builders {
        let place = format!("[[builder]] {:?}", builder.name);
        let twice = |what: String, other: &str| rule(&place, format!("{what} is also that of {other:?}"));
        for id in std::iter::once(&builder.name).chain(&builder.ids) {
            if let Some(other) = ids.insert(id, &builder.name) {
                return Err(twice(format!("the name or id {id:?}"), other));
            }
        }
        for Credential { may_sign, .. } in &builder.credentials {
            if let Some((_, other)) = credentials.iter().find(|(other, _)| other.meets(may_sign)) {
                let what = match may_sign {
                    MaySign::Key(key) => format!("the {key:?}"),
                    MaySign::Certificate(matcher) => format!("some certificate of {matcher}"),
                };
                return Err(twice(what, other));
            }
            credentials.push((may_sign, &builder.name));
        }
        for slot in &builder.slots {
            if let Some(other) = slots.insert(slot, &builder.name) {
                return Err(twice(format!("the slot {:?}", slot.as_str()), other));
            }
        }
    }
    Ok(())
}

impl FileBuilder {
    /// `read` gets the text of a key file.
    pub(super) fn read(
        self,
        place: &str,
        mut read: impl FnMut(&str) -> Result<String, String>,
    ) -> Result<Builder, PolicyError> {
        name(place, "name", &self.name)?;
        name(place, "operator", &self.operator)?;
        for id in &self.ids {
            name(place, "ids", id)?;
        }
        let keys = match (self.key, self.keys) {
            (Some(key), keys) if keys.is_empty() => {
                vec![FileKey { key, from: None, until: None, revoked: None }]
            }
            (None, keys) => keys,
            _ => return Err(rule(place, "there must be either `key`, or `keys`")),
        };
        let identities = match (self.issuer, self.san, self.identities) {
            (Some(issuer), Some(san), identities) if identities.is_empty() => {
                let (claims, require) = (self.claims.unwrap_or_default(), self.require.unwrap_or_default());
                vec![FileIdentity { issuer, san, claims, require, from: None, until: None, revoked: None }]
            }
            (None, None, identities) if self.claims.is_none() && self.require.is_none() => identities,
            _ => {
                return Err(rule(
                    place,
                    "there must be either `issuer` and `san`, with `claims` and `require`, or `identities`",
                ));
            }
        };
        let of_all = Revocation::from(self.revoked);
        let mut credentials = Vec::new();
        for key in keys {
            let (may_sign, at) = (key.read(place, &mut read)?, format!("key `{}`", key.key));
            let window = window(place, &at, key.from, key.until)?;
            let revoked = of_all.min(key.revoked.into());
            credentials.push(Credential { may_sign, claims: Claims::Workflow, window, revoked });
        }
        for identity in identities {
            let (matcher, at) = (identity.read(place)?, format!("san `{}`", identity.san));
            let window = window(place, &at, identity.from, identity.until)?;
            let revoked = of_all.min(identity.revoked.into());
            let may_sign = MaySign::Certificate(matcher);
            credentials.push(Credential { may_sign, claims: identity.claims, window, revoked });
        }
        if credentials.is_empty() {
            return Err(rule(place, "there must be `key`, `keys`, `issuer` and `san`, or `identities`"));
        }
        let systems = match self.systems {
            Some(systems) if systems.is_empty() => {
                return Err(rule(place, "systems: without one it could never vote"));
            }
            systems => systems
                .map(|systems| systems.iter().map(|system| system.parse()).collect::<Result<_, _>>())
                .transpose()
                .map_err(|e: crate::oci::platform::PlatformError| rule(place, format!("systems: {e}")))?,
        };
        let domains = [
            (Domain::Organisation, self.organisation),
            (Domain::Jurisdiction, self.jurisdiction),
            (Domain::Infrastructure, self.infrastructure),
        ];
        let mut domains: BTreeMap<Domain, String> =
            domains.into_iter().filter_map(|(domain, text)| Some((domain, text?))).collect();
        for (domain, text) in &domains {
            name(place, domain.as_str(), text)?;
        }
        let issuers: BTreeSet<&str> = credentials.iter().filter_map(Credential::issuer).collect();
        let issuer = match issuers.first() {
            // Whoever has keys alone is named by nobody else.
            None => Some(self.name.clone()),
            Some(one) => (issuers.len() == 1).then(|| (*one).to_owned()),
        };
        domains.extend(issuer.map(|issuer| (Domain::Issuer, issuer)));
        // The name is the default slot, where it can be one.
        let slots = if self.slots.is_empty() { vec![self.name.clone()] } else { self.slots };
        let slots = slots
            .iter()
            .map(|slot| {
                slot.parse()
                    .map_err(|error: crate::oci::slot::SlotError| rule(place, format!("slots: {error}")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Builder {
            name: self.name,
            operator: self.operator,
            credentials,
            trust: self.trust.unwrap_or_else(|| Trusts::DEFAULT.to_owned()),
            slots,
            ids: self.ids.into_iter().collect(),
            systems,
            domains,
        })
    }
}

impl From<Option<FileRevoked>> for Revocation {
    fn from(written: Option<FileRevoked>) -> Self {
        match written {
            None => Self::Never,
            Some(FileRevoked::From(moment)) => Self::From(moment.0),
            Some(FileRevoked::Compromised) => Self::Compromised,
        }
    }
}

impl FileKey {
    fn read(
        &self,
        place: &str,
        read: &mut impl FnMut(&str) -> Result<String, String>,
    ) -> Result<MaySign, PolicyError> {
        let file;
        let pem = if self.key.contains("-----BEGIN") {
            &self.key
        } else {
            file = read(&self.key).map_err(|why| rule(place, why))?;
            &file
        };
        let public = PublicKey::from_pem(pem).map_err(|error| rule(place, format!("key: {error}")))?;
        Ok(MaySign::Key(public))
    }
}

impl FileIdentity {
    fn read(&self, place: &str) -> Result<Matcher, PolicyError> {
        text(place, "issuer", &self.issuer, MAX_CLAIM)?;
        text(place, "san", &self.san, MAX_CLAIM)?;
        for (claim, value) in &self.require {
            text(place, claim.as_str(), value, MAX_CLAIM)?;
            if value.contains('*') {
                return Err(rule(place, format!("{}: there are no patterns but in `san`", claim.as_str())));
            }
        }
        if self.issuer.contains('*') {
            return Err(rule(place, "issuer: there are no patterns but in `san`"));
        }
        let san = SanPattern::new(&self.san).ok_or_else(|| {
            rule(place, "san: it must be a URI or a mail address, of which the host is written out")
        })?;
        // Nothing in such a certificate says what was built.
        if matches!(san, SanPattern::Email(_)) && self.claims == Claims::Source {
            return Err(rule(place, "san: a mail address names no source: it needs `claims = \"workflow\"`"));
        }
        Ok(Matcher { issuer: self.issuer.clone(), san, claims: self.require.clone() })
    }
}

fn window(place: &str, of: &str, from: Option<Moment>, until: Option<Moment>) -> Result<Window, PolicyError> {
    let window = Window { from: from.map(|m| m.0), until: until.map(|m| m.0) };
    if window.is_empty() {
        return Err(rule(place, format!("{of}: `from` is not before `until`")));
    }
    Ok(window)
}
