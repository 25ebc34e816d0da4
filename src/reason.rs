//! Reason codes: why evidence did not count, or a release was refused.
//!
//! The codes are stable; scripts may match on them. Each has one sentence here, which the
//! reference page `docs/reasons.md` repeats.

use std::fmt;

/// An enumeration of stable codes, each with words that a method gives.
macro_rules! codes {
    (
        $(#[$about:meta])* $codes:ident;
        $(#[$about_words:meta])* $words:ident;
        $($(#[$more:meta])* $name:ident = $code:literal, $text:literal;)*
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $codes {
            $($(#[$more])* #[doc = concat!("\n", $text)] $name,)*
        }

        impl $codes {
            /// All of them, in the order of the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code, in lower case with dashes.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            $(#[$about_words])*
            pub fn $words(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

pub(crate) use codes;

codes! {
    /// Why evidence did not count, or a release or a tag was refused.
    Reason;
    /// What the code means, in one sentence.
    text;

    BundleTooLarge = "bundle-too-large", "The bundle is larger than 1 MiB.";
    BundleManifest = "bundle-manifest", "The manifest that carries the bundle is malformed, or is about another image.";
    BundleMalformed = "bundle-malformed", "The bundle is not strict JSON of the Sigstore bundle format.";
    BundleVersion = "bundle-version", "The bundle is not of version 0.3.";
    BundleContent = "bundle-content", "The bundle does not hold exactly one DSSE envelope with exactly one signature.";
    PayloadType = "payload-type", "The envelope's payload is not of type `application/vnd.in-toto+json`.";
    StatementMalformed = "statement-malformed", "The payload is not a strict in-toto Statement.";
    StatementType = "statement-type", "The statement's `_type` is not in-toto Statement v1 or v0.1.";
    SubjectAmbiguous = "subject-ambiguous", "The statement does not have exactly one subject with exactly one SHA-256 digest.";
    PredicateType = "predicate-type", "The predicate is of a type that does not count.";
    PredicateMalformed = "predicate-malformed", "The predicate lacks a required field, or has one that is malformed or unknown.";
    SignerUnknown = "signer-unknown", "No builder of the policy made this signature.";
    SignerKind = "signer-kind", "The bundle was signed with a certificate, and nobody who may sign has a certificate identity.";
    SignerAmbiguous = "signer-ambiguous", "More than one builder of the policy could have made this signature: it counts for none.";
    CertificateMalformed = "certificate-malformed", "The certificate, or what Fulcio put into it, cannot be read.";
    CertificateIdentity = "certificate-identity", "The certificate does not name exactly one holder and one issuer, or contradicts itself.";
    CertificateClaims = "certificate-claims", "A claim of the certificate is not what the policy asks of the builder with this name.";
    CertificateUntrusted = "certificate-untrusted", "The certificate does not lead to a certificate authority of the trusted root.";
    CertificateTime = "certificate-time", "The certificate, or one above it, was not valid at a verified time.";
    CertificateSct = "certificate-sct", "No certificate transparency log of the trusted root vouches for the certificate.";
    LogMissing = "log-missing", "The bundle has no transparency log entry, and the trust wants one.";
    LogTooFew = "log-too-few", "The bundle has entries of fewer logs than the trust wants.";
    LogTooMany = "log-too-many", "The bundle has more than 8 log entries.";
    LogUnknown = "log-unknown", "The log entry is of a log that the trusted root does not name.";
    LogProof = "log-proof", "The log entry's inclusion proof or checkpoint does not hold.";
    LogEntry = "log-entry", "The log entry speaks of another signature, key or payload.";
    LogUnwitnessed = "log-unwitnessed", "The checkpoint of the log entry lacks cosignatures that the trust wants, or has one that does not hold.";
    LogTime = "log-time", "The log's key was not valid at the verified time.";
    TimestampTooMany = "timestamp-too-many", "The bundle has more than 32 timestamps.";
    TimestampInvalid = "timestamp-invalid", "A timestamp does not hold under the trusted root.";
    NoVerifiedTime = "no-verified-time", "No trusted authority vouches for the time of the signature.";
    TimeInFuture = "time-in-future", "The verified time lies ahead of the clock of this machine.";
    SignatureInvalid = "signature-invalid", "The signature does not hold.";

    NotAnIndex = "not-an-index", "The image is no image index, and the policy judges no others of this repository.";
    IndexMalformed = "index-malformed", "The index is not strict JSON of the image specification.";
    IndexNested = "index-nested", "A child of the index is not the manifest of an image.";
    PlatformMissing = "platform-missing", "A platform that the policy requires is not in the index.";
    PlatformExtra = "platform-extra", "The index holds a platform that the policy does not name.";
    PlatformTwice = "platform-twice", "The index holds a platform twice.";
    ChildAbsent = "child-absent", "The registry does not have a manifest or configuration that the index names.";
    ChildMalformed = "child-malformed", "A child's manifest or configuration is malformed, or not what its descriptor says.";
    ChildPlatform = "child-platform", "A child's configuration states another platform than the index.";
    NoRule = "no-rule", "No rule of the policy is for this image.";

    BuilderClaim = "builder-claim", "The statement names another builder than the one whose key signed it.";
    SystemNotAllowed = "system-not-allowed", "The policy does not let the builder vote for this system.";
    KeyOutsideWindow = "key-outside-window", "The builder's key or certificate does not count at the verified time.";
    KeyRevoked = "key-revoked", "The builder's key or kind of certificate was revoked before the verified time.";
    KeyCompromised = "key-compromised", "The policy says that the builder's key or kind of certificate is compromised.";
    CertificateSource = "certificate-source", "The certificate was issued to a build of another repository, commit or ref than the statement names.";
    Waived = "waived", "The policy waives the statement: it counts for neither side.";
    NameMismatch = "name-mismatch", "The statement speaks of another repository.";
    SystemMismatch = "system-mismatch", "The statement's system is not the platform of the manifest.";
    SourceMissing = "source-missing", "The statement names no source, and the policy lists which are allowed.";
    SourceNotAllowed = "source-not-allowed", "The statement's source is not one that the policy allows.";
    TargetMissing = "target-missing", "The statement names no target, and the policy lists which are allowed.";
    TargetNotAllowed = "target-not-allowed", "The statement's target is not one that the policy allows.";
    RefNotAllowed = "ref-not-allowed", "The statement names no git ref, or not one that the policy allows.";
    FieldMissing = "field-missing", "The statement lacks a field that the policy requires.";
    TooOld = "too-old", "The verified time is longer ago than the policy allows.";
    BeforeEpoch = "before-epoch", "The verified time lies before the policy's epoch.";
    SequenceTooLow = "sequence-too-low", "The sequence is lower than the policy's lowest.";
    CommitUnexpected = "commit-unexpected", "The statement is about another commit than the one expected.";
    SequenceAhead = "sequence-ahead", "The sequence lies more than ten minutes ahead of the verified time.";
    OtherGroup = "other-group", "The statement is about another commit, sequence, source or target than the group that was judged.";
    NothingDisputed = "nothing-disputed", "The statement disputes a manifest that is what it says was built.";
    UnboundAlone = "unbound-alone", "The statement names no content, and no full statement of this build counts that it could add to.";
    UnboundAmbiguous = "unbound-ambiguous", "The statement names too little to tell which of several builds or platforms it is about.";
    OtherManifest = "other-manifest", "The builder approved another manifest, of the same content.";
    ContentDiffers = "content-differs", "The builder got another narHash or configuration digest.";
    BuilderSilent = "builder-silent", "The builder has said nothing of this build, and the policy wants all builders heard.";
    SignedDissent = "signed-dissent", "The builder signed that it disputes this manifest.";
    Equivocation = "equivocation", "The builder signed two different contents for one build.";

    TagImmutable = "tag-immutable", "The tag is immutable and names another image.";
    TagBackwards = "tag-backwards", "The tag only moves forward, and names a release of a higher or equal sequence.";
    TagUnordered = "tag-unordered", "The tag only moves forward, and too few votes state the sequence of the release.";
    TagUnverified = "tag-unverified", "The tag only moves forward, and what it names now cannot be verified.";
    TagFeed = "tag-feed", "The tag takes releases of other git refs or versions.";
    TagUnexpected = "tag-unexpected", "The tag does not name what the caller expects it to name.";
    TagRaced = "tag-raced", "The tag names something else than it did a moment ago, or than was just written.";
    JournalOther = "journal-other", "The journal is of another release, or was written under another policy.";
    JournalMalformed = "journal-malformed", "The file is not a journal of a promotion, or is larger than 4 MiB.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl serde::Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        let codes: std::collections::BTreeSet<&str> =
            Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}
