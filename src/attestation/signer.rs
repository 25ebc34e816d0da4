//! Who signed, and who may have.

use std::collections::BTreeMap;
use std::fmt;

use super::identity::{CertificateClaim, Identity, San};
use super::key::PublicKey;
use crate::glob::Glob;

/// Who made a signature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signer {
    /// Whoever has this key.
    Key(PublicKey),
    /// Whom a certificate names.
    Certificate(Box<Identity>),
}

/// Who may have made a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaySign {
    /// Whoever has this key.
    Key(PublicKey),
    /// Whoever has a certificate like this.
    Certificate(Matcher),
}

/// Which certificates are one signer's. Every part must hold, over the whole text, in one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    /// The issuer.
    pub issuer: String,
    /// The subject alternative name.
    pub san: SanPattern,
    /// Claims that the certificate must make.
    pub claims: BTreeMap<CertificateClaim, String>,
}

/// A pattern over names of one kind, so that no mail address passes for a URI. Its stars stand for
/// no `@`: the ref stands behind one, and a branch may be called `x@refs/heads/main`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SanPattern {
    /// Mail addresses.
    Email(Glob),
    /// URIs.
    Uri(Glob),
}

/// How far a certificate is like a matcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Likeness {
    /// In all.
    Whole,
    /// Issuer and name are alike, and this claim is not.
    But(CertificateClaim),
    /// Not at all.
    None,
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "{key:?}"),
            Self::Certificate(identity) => identity.fmt(f),
        }
    }
}

impl From<PublicKey> for Signer {
    fn from(key: PublicKey) -> Self {
        Self::Key(key)
    }
}

impl From<PublicKey> for MaySign {
    fn from(key: PublicKey) -> Self {
        Self::Key(key)
    }
}

impl From<&Signer> for MaySign {
    /// This signer; of a certificate, also with another that says the same of it, in whatever run.
    fn from(signer: &Signer) -> Self {
        match signer {
            Signer::Key(key) => Self::Key(key.clone()),
            Signer::Certificate(identity) => {
                let mut claims = identity.claims.clone();
                claims.remove(&CertificateClaim::RunInvocationUri);
                Self::Certificate(Matcher { claims, ..Matcher::named(identity) })
            }
        }
    }
}

impl MaySign {
    /// Whether it is this signer.
    pub fn is(&self, signer: &Signer) -> bool {
        match (self, signer) {
            (Self::Key(one), Signer::Key(other)) => one == other,
            (Self::Certificate(matcher), Signer::Certificate(identity)) => {
                matcher.likeness(identity) == Likeness::Whole
            }
            _ => false,
        }
    }

    /// Whether there can be a signer that is both.
    pub fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(one), Self::Key(other)) => one == other,
            (Self::Certificate(one), Self::Certificate(other)) => one.meets(other),
            _ => false,
        }
    }
}

impl Matcher {
    /// What every certificate with this issuer and name is like, whatever else it claims.
    pub fn named(identity: &Identity) -> Self {
        Self {
            issuer: identity.issuer.clone(),
            san: match &identity.san {
                San::Email(name) => SanPattern::Email(Glob::new(name)),
                San::Uri(name) => SanPattern::Uri(Glob::new(name)),
            },
            claims: BTreeMap::new(),
        }
    }

    /// How far a certificate is like this.
    pub fn likeness(&self, identity: &Identity) -> Likeness {
        if self.issuer != identity.issuer || !self.san.matches(&identity.san) {
            return Likeness::None;
        }
        let other = self.claims.iter().find(|(claim, value)| identity.claim(**claim) != Some(value));
        other.map_or(Likeness::Whole, |(claim, _)| Likeness::But(*claim))
    }

    /// Whether one certificate can be like both: the names meet, and no claim is asked for twice
    /// with different values.
    fn meets(&self, other: &Self) -> bool {
        let apart = |(claim, value): (&CertificateClaim, &String)| {
            other.claims.get(claim).is_some_and(|theirs| theirs != value)
        };
        self.issuer == other.issuer && self.san.meets(&other.san) && !self.claims.iter().any(apart)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.san.glob().as_str(), self.issuer)?;
        for (claim, value) in &self.claims {
            write!(f, ", {} {value:?}", claim.as_str())?;
        }
        Ok(())
    }
}

impl SanPattern {
    /// A pattern as a policy writes it: of URIs if it has a scheme, of mail addresses if it has an
    /// `@` and none. Scheme and host must be written out; of anything else there is no pattern.
    pub fn new(pattern: &str) -> Option<Self> {
        let fixed = |text: &str| !text.is_empty() && !text.contains('*');
        let glob = Glob::new(pattern);
        if let Some((scheme, rest)) = pattern.split_once("://") {
            let host = rest.split_once('/').map_or(rest, |(host, _)| host);
            (fixed(scheme) && fixed(host)).then_some(Self::Uri(glob))
        } else {
            let host = pattern.rsplit_once('@').map(|(_, host)| host);
            host.is_some_and(fixed).then_some(Self::Email(glob))
        }
    }

    /// The pattern, of whatever kind.
    pub fn glob(&self) -> &Glob {
        match self {
            Self::Email(glob) | Self::Uri(glob) => glob,
        }
    }

    /// Whether it is of URIs.
    pub fn is_uri(&self) -> bool {
        matches!(self, Self::Uri(_))
    }

    fn matches(&self, san: &San) -> bool {
        match (self, san) {
            (Self::Email(glob), San::Email(name)) | (Self::Uri(glob), San::Uri(name)) => {
                let ats = |text: &str| text.matches('@').count();
                ats(glob.as_str()) == ats(name) && glob.matches(name)
            }
            _ => false,
        }
    }

    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Email(one), Self::Email(other)) | (Self::Uri(one), Self::Uri(other)) => one.meets(other),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "https://git.test/acme/app/build.yml@refs/heads/main";

    #[test]
    fn names_match_whole_and_in_kind() {
        let uri = |name: &str| San::Uri(name.to_owned());
        let email = |name: &str| San::Email(name.to_owned());
        for (pattern, yes, no) in [
            (
                JOB,
                vec![uri(JOB)],
                vec![email(JOB), uri(&JOB[1..]), uri(&format!("{JOB}/x")), uri(&JOB.to_uppercase())],
            ),
            (
                "https://git.test/acme/*@refs/heads/main",
                vec![uri(JOB)],
                vec![
                    uri("https://git.test/acme2/app/build.yml@refs/heads/main"),
                    // A branch of that name is another ref.
                    uri("https://git.test/acme/app/build.yml@refs/heads/x@refs/heads/main"),
                ],
            ),
            (
                "https://git.test/acme/app/build.yml@refs/tags/v*",
                vec![uri("https://git.test/acme/app/build.yml@refs/tags/v1")],
                vec![uri(JOB), uri("https://git.test/acme/app/build.yml@refs/tags/v1@x")],
            ),
            (
                "joe@acme.test",
                vec![email("joe@acme.test")],
                vec![uri("joe@acme.test"), email("joe@acme.test.evil")],
            ),
            (
                "*@acme.test",
                vec![email("joe@acme.test")],
                vec![email("joe@evil@acme.test"), email("joe@other.test")],
            ),
        ] {
            let read = SanPattern::new(pattern).unwrap();
            assert!(yes.iter().all(|san| read.matches(san)), "{pattern} {yes:?}");
            assert!(!no.iter().any(|san| read.matches(san)), "{pattern} {no:?}");
        }
        for bad in
            ["", "*", "joe", "https://", "https://*/x", "https://git*/x", "*://git.test/x", "joe@*", "@"]
        {
            assert_eq!(SanPattern::new(bad), None, "{bad}");
        }
    }
}
