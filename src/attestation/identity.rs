//! Who a Fulcio certificate was issued to, and what it says of the build
//! (sigstore/fulcio, `docs/oid-info.md`).

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::Utf8StringRef;
use x509_cert::der::oid::AssociatedOid as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::reason::Reason;

/// The arc of Fulcio's extensions, with the dot after it.
const ARC: &str = "1.3.6.1.4.1.57264.1.";
/// The issuer as a bare string, deprecated, and as a DER `UTF8String`.
const ISSUERS: (u8, u8) = (1, 8);
/// The most bytes a name or claim may have.
const MAX_TEXT: usize = 1024;

/// What a certificate says of its holder. It is a claim until the certificate is proven; inside an
/// [`Attestation`](super::Attestation) it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The OIDC issuer that named the holder to Fulcio.
    pub issuer: String,
    /// The one subject alternative name.
    pub san: San,
    /// What else the issuer said of the holder.
    pub claims: BTreeMap<CertificateClaim, String>,
}

/// A subject alternative name, of one of the two kinds that Fulcio issues.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum San {
    /// An `rfc822Name`: a person, or a service account.
    Email(String),
    /// A `uniformResourceIdentifier`: a workload, such as a CI job.
    Uri(String),
}

macro_rules! claims {
    ($($name:ident = $number:literal, $field:literal, $doc:literal;)*) => {
        /// A claim that Fulcio takes over from the token of a CI job, by its extension
        /// `1.3.6.1.4.1.57264.1.N`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        pub enum CertificateClaim {
            $(#[doc = $doc] #[serde(rename = $field)] $name,)*
        }

        impl CertificateClaim {
            /// The claim in the extension `N`.
            fn numbered(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// Its name in a policy and in output, after Fulcio's own.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $field,)* }
            }
        }
    };
}

claims! {
    BuildSignerUri = 9, "build_signer_uri", "The workflow that asked for the signature, with its ref.";
    BuildSignerDigest = 10, "build_signer_digest", "The commit of that workflow.";
    RunnerEnvironment = 11, "runner_environment", "On what kind of runner, such as `github-hosted`.";
    SourceRepositoryUri = 12, "source_repository_uri", "The repository that was built.";
    SourceRepositoryDigest = 13, "source_repository_digest", "The commit that was built.";
    SourceRepositoryRef = 14, "source_repository_ref", "The git ref that was built.";
    SourceRepositoryIdentifier = 15, "source_repository_identifier", "The repository's id, which no rename changes.";
    SourceRepositoryOwnerUri = 16, "source_repository_owner_uri", "The owner of the repository.";
    SourceRepositoryOwnerIdentifier = 17, "source_repository_owner_identifier", "The owner's id, which no rename changes.";
    BuildConfigUri = 18, "build_config_uri", "The workflow that ran first, with its ref.";
    BuildConfigDigest = 19, "build_config_digest", "The commit of that workflow.";
    BuildTrigger = 20, "build_trigger", "What began the build, such as `push`.";
    RunInvocationUri = 21, "run_invocation_uri", "The run.";
    SourceRepositoryVisibilityAtSigning = 22, "source_repository_visibility_at_signing", "Who could see the repository.";
    DeploymentEnvironment = 23, "deployment_environment", "For what the job was cleared, such as `production`.";
    TokenSubject = 24, "token_subject", "The `sub` of the token.";
}

impl San {
    /// The name, of whatever kind.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Email(name) | Self::Uri(name) => name,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.san.as_str(), self.issuer)
    }
}

impl Identity {
    /// A claim, where the certificate makes it.
    pub fn claim(&self, claim: CertificateClaim) -> Option<&str> {
        self.claims.get(&claim).map(String::as_str)
    }

    /// Reads a certificate. Nothing in it is proven.
    ///
    /// # Errors
    /// `certificate-malformed` where it, or what Fulcio put into it, cannot be read;
    /// `certificate-identity` where it does not name exactly one holder and issuer, or its
    /// deprecated extensions say something else than those that took their place.
    pub fn from_der(certificate: &[u8]) -> Result<Self, (Reason, String)> {
        let malformed = |why: String| (Reason::CertificateMalformed, why);
        let unclear = |why: String| (Reason::CertificateIdentity, why);
        let certificate = Certificate::from_der(certificate).map_err(|error| malformed(error.to_string()))?;
        let extensions = certificate.tbs_certificate.extensions.unwrap_or_default();
        let mut sans = None;
        let mut fulcio: BTreeMap<u8, &[u8]> = BTreeMap::new();
        for (at, extension) in extensions.iter().enumerate() {
            let id = extension.extn_id;
            // A reader that takes the first and one that takes the last would see two identities.
            if extensions.iter().skip(at + 1).any(|other| other.extn_id == id) {
                return Err(malformed(format!("the extension {id} is there twice")));
            }
            let value = extension.extn_value.as_bytes();
            if id == SubjectAltName::OID {
                let read = SubjectAltName::from_der(value);
                sans =
                    Some(read.map_err(|error| malformed(format!("the subject alternative name: {error}")))?);
            } else if let Some(number) = id.to_string().strip_prefix(ARC).and_then(|n| n.parse().ok()) {
                fulcio.insert(number, value);
            }
        }
        let san = match sans.as_ref().map(|sans| sans.0.as_slice()) {
            Some([GeneralName::Rfc822Name(name)]) => San::Email(bounded(name.as_str()).map_err(malformed)?),
            Some([GeneralName::UniformResourceIdentifier(name)]) => {
                San::Uri(bounded(name.as_str()).map_err(malformed)?)
            }
            Some([_]) => return Err(unclear("the holder is neither a mail address nor a URI".to_owned())),
            names => {
                return Err(unclear(format!("it names {} holders", names.map_or(0, <[GeneralName]>::len))));
            }
        };
        let text = |number: u8| {
            let Some(value) = fulcio.get(&number) else { return Ok(None) };
            let read = if number < ISSUERS.1 {
                std::str::from_utf8(value).map_err(|error| error.to_string())
            } else {
                Utf8StringRef::from_der(value).map(|text| text.as_str()).map_err(|error| error.to_string())
            };
            read.and_then(bounded)
                .map(Some)
                .map_err(|error| malformed(format!("the extension {ARC}{number}: {error}")))
        };
        let mut claims = BTreeMap::new();
        for number in fulcio.keys() {
            if let (Some(claim), Some(value)) = (CertificateClaim::numbered(*number), text(*number)?) {
                claims.insert(claim, value);
            }
        }
        let (old, new) = (text(ISSUERS.0)?, text(ISSUERS.1)?);
        if let (Some(old), Some(new)) = (&old, &new)
            && old != new
        {
            return Err(unclear(format!("it names two issuers, {old:?} and {new:?}")));
        }
        let issuer = new.or(old).ok_or_else(|| unclear("it names no issuer".to_owned()))?;
        let identity = Self { issuer, san, claims };
        for (number, claim) in [
            (2, CertificateClaim::BuildTrigger),
            (3, CertificateClaim::SourceRepositoryDigest),
            (5, CertificateClaim::SourceRepositoryUri),
            (6, CertificateClaim::SourceRepositoryRef),
        ] {
            let (Some(old), Some(new)) = (text(number)?, identity.claim(claim)) else { continue };
            // The deprecated one is `owner/repository`, the other the whole address.
            let same = match claim {
                CertificateClaim::SourceRepositoryUri => {
                    new.strip_suffix(old.as_str()).is_some_and(|before| before.ends_with('/'))
                }
                _ => new == old,
            };
            if !same {
                return Err(unclear(format!("{} is {new:?}, and its older form {old:?}", claim.as_str())));
            }
        }
        Ok(identity)
    }
}

fn bounded(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_TEXT {
        return Err(format!("a text of {} bytes", text.len()));
    }
    Ok(text.to_owned())
}
