//! Who may vote: builders, their credentials, and since when a credential is not believed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;

use crate::attestation::{MaySign, Signer};
use crate::oci::{Slot, System};

/// Who may vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    /// The name in output, and the id in statements.
    pub name: String,
    /// The party behind it; the quorum counts parties.
    pub operator: String,
    /// Its identity: at least one key, or kind of certificate.
    pub credentials: Vec<Credential>,
    /// The trust that all of them stand under, by name.
    pub trust: String,
    /// Under which its votes are kept on registries without the referrers API.
    pub slots: Vec<Slot>,
    pub(super) ids: BTreeSet<String>,
    /// For which it may vote; `None`: all.
    pub(super) systems: Option<BTreeSet<System>>,
    /// What it shares with others that are alike, besides the operator.
    pub(super) domains: BTreeMap<Domain, String>,
}

/// In what voices must differ to count as several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// The party behind a builder. In this they must always differ.
    Operator,
    /// Whoever owns or can command the operator.
    Organisation,
    /// Whose law it is under.
    Jurisdiction,
    /// On what it runs: a cloud, a data centre, a kind of machine.
    Infrastructure,
    /// Who names it in its certificates; of a builder with keys alone, itself.
    Issuer,
}

/// All in what voices must differ: the operator always, and what a rule names besides.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "OneOrMore")]
pub struct Domains(BTreeSet<Domain>);

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a domain, or a list of them: operator, organisation, jurisdiction, infrastructure or issuer"
)]
enum OneOrMore {
    One(Domain),
    More(Vec<Domain>),
}

/// What a builder is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// A key, or which certificates.
    pub may_sign: MaySign,
    /// What says which commit was built.
    pub claims: Claims,
    /// Statements of which verified times count.
    pub window: Window,
    /// Since when its statements are not heard.
    pub revoked: Revocation,
}

/// A span of time: `from` is in it, `until` is not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub from: Option<Timestamp>,
    /// The moment after the last.
    pub until: Option<Timestamp>,
}

/// What says which commit was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Claims {
    /// The certificate, which must name the repository, commit and ref of the statement.
    #[default]
    Source,
    /// The statement alone: the certificate is that of a workflow that builds what others wrote.
    Workflow,
}

/// Since when the statements of a credential are not heard. The stricter sorts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revocation {
    /// Somebody else may have had it at any time.
    Compromised,
    /// What was seen before this moment stands.
    From(Timestamp),
    /// It was not revoked.
    Never,
}

impl Builder {
    /// Whether a statement's `builder.id` names this builder.
    pub fn goes_by(&self, id: &str) -> bool {
        self.name == id || self.ids.contains(id)
    }

    /// What the builder is known by where this is its signature.
    pub fn credential(&self, signer: &Signer) -> Option<&Credential> {
        self.credentials.iter().find(|credential| credential.may_sign.is(signer))
    }

    /// Whether it may vote for `system`.
    pub fn builds(&self, system: System) -> bool {
        self.systems.as_ref().is_none_or(|systems| systems.contains(&system))
    }

    /// The party, organisation, … that it belongs to, where the policy says so.
    pub fn domain(&self, domain: Domain) -> Option<&str> {
        match domain {
            Domain::Operator => Some(&self.operator),
            other => self.domains.get(&other).map(String::as_str),
        }
    }

    /// Whether there is a credential that is not compromised.
    pub fn has_voice(&self) -> bool {
        self.credentials.iter().any(|credential| credential.revoked != Revocation::Compromised)
    }
}

impl Credential {
    /// Whether it is believed at some times only, so that a statement must have one.
    pub fn is_timed(&self) -> bool {
        self.window != Window::default() || matches!(self.revoked, Revocation::From(_))
    }

    /// Who names it, where it is known by certificates.
    pub fn issuer(&self) -> Option<&str> {
        match &self.may_sign {
            MaySign::Key(_) => None,
            MaySign::Certificate(matcher) => Some(&matcher.issuer),
        }
    }
}

impl Domain {
    /// The word in a policy and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Organisation => "organisation",
            Self::Jurisdiction => "jurisdiction",
            Self::Infrastructure => "infrastructure",
            Self::Issuer => "issuer",
        }
    }
}

impl TryFrom<OneOrMore> for Domains {
    type Error = &'static str;

    fn try_from(named: OneOrMore) -> Result<Self, Self::Error> {
        let mut domains = Self::default();
        match named {
            OneOrMore::One(domain) => domains.0.extend([domain]),
            OneOrMore::More(list) => {
                if list.is_empty() || list.iter().collect::<BTreeSet<_>>().len() < list.len() {
                    return Err("distinct_by: the list is empty, or names something twice");
                }
                domains.0.extend(list);
            }
        }
        Ok(domains)
    }
}

impl Default for Domains {
    fn default() -> Self {
        Self(BTreeSet::from([Domain::Operator]))
    }
}

impl Domains {
    /// Each of them, the operator first.
    pub fn iter(&self) -> impl Iterator<Item = Domain> {
        self.0.iter().copied()
    }

    /// What is named besides the operator, in words: `jurisdiction and infrastructure`.
    pub fn besides(&self) -> Option<String> {
        let named: Vec<_> = self.iter().skip(1).map(Domain::as_str).collect();
        (!named.is_empty()).then(|| named.join(" and "))
    }
}

impl Window {
    /// Whether both moments lie in it.
    pub fn holds(&self, earliest: Timestamp, latest: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= earliest) && self.until.is_none_or(|until| latest < until)
    }

    /// Whether no moment can lie in it.
    pub(super) fn is_empty(&self) -> bool {
        matches!((self.from, self.until), (Some(from), Some(until)) if from >= until)
    }
}

impl Revocation {
    /// Whether a statement that was seen at `time` is too late.
    pub fn covers(self, time: Timestamp) -> bool {
        match self {
            Self::Compromised => true,
            Self::From(from) => time >= from,
            Self::Never => false,
        }
    }
}
