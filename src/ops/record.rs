//! The record of a promotion: a verification summary, signed and attached to the index before any
//! tag is written. No decision ever reads one.

use jiff::Timestamp;

use super::attest::slot_of;
use super::sign::{Signing, attach, legacy};
use crate::attestation::summary::SUMMARY_V1;
use crate::attestation::verify::prove;
use crate::attestation::{MaySign, Sealed, Summary, Trust, Verifier};
use crate::edge::clock;
use crate::edge::registry::Registry;
use crate::error::{Error, Kind};
use crate::oci::{Descriptor, Digest};
use crate::policy::{Approval, Builder, Candidate, Policy};
use crate::reason::Reason;
use crate::report::promote::Record;

/// Under which registries without the referrers API keep the record.
const SLOT: &str = "record";

/// Who signs the record, and as whom.
pub struct Recording<'a> {
    /// Who signs, and who witnesses it.
    pub signing: Signing<'a>,
    /// The verifier that the record names.
    pub verifier: Verifier,
}

/// Records what was approved, unless the same signer has said the same before.
///
/// # Errors
/// When it could not be signed, witnessed or attached.
pub(super) async fn record(
    registry: &Registry,
    approval: &Approval,
    release: &Candidate,
    policy: &Policy,
    recording: &Recording<'_>,
    dry_run: bool,
    warn: impl Fn(&str),
) -> Result<Record, Error> {
    let failed = |error: Error| {
        if error.kind() == Kind::Request {
            return error;
        }
        let hint = error.next().unwrap_or("promote again when that is mended").to_owned();
        Error::undecided("the promotion could not be recorded, so no tag was moved").because(error).hint(hint)
    };
    let recorded = async {
        let summary = approval.summary(&recording.verifier, clock::now());
        let subject = Descriptor::of(release.media_type(), release.bytes());
        let slot = slot_of(SLOT)?;
        let repository = approval.repository();
        let collected =
            registry.collect(repository, subject.digest, std::slice::from_ref(&slot), &[SUMMARY_V1]).await?;
        let signing = &recording.signing;
        let signer = signing.pen(None).await?.may_sign();
        gate(policy, &signer)?;
        for bytes in &collected.bundles {
            let Ok(said) = Said::read(bytes, &signer, signing.trust) else { continue };
            if said.summary.says_what(&summary) {
                return Ok(Record::Already { bundle: said.bundle, time: said.time });
            }
        }
        if dry_run {
            return Ok(Record::Planned);
        }
        if collected.bundles.is_empty() && collected.others.is_empty() {
            legacy(registry, repository, subject.digest, &warn).await?;
        }
        let (said, bundle) = signing.sign(summary.to_payload(), Said::read).await?;
        let listed = collected.by_api;
        let attached =
            attach(registry, repository, &subject, listed, &slot, &bundle, SUMMARY_V1, said.time).await?;
        let Said { bundle, time, log_index, .. } = said;
        Ok(Record::Attached { bundle, time, log_index, attached })
    };
    recorded.await.map_err(failed)
}

/// A builder is no gate: whoever signs as one could vote, and be both; and whoever believes the gate's
/// signature alone would believe a vote.
///
/// # Errors
/// When the signer can be a builder of the policy.
pub fn gate(policy: &Policy, signer: &MaySign) -> Result<(), Error> {
    let is = |builder: &&Builder| builder.credentials.iter().any(|own| own.may_sign.meets(signer));
    match policy.builders().iter().find(is) {
        None => Ok(()),
        Some(builder) => {
            Err(Error::request(format!("the record would be signed as the builder `{}`", builder.name))
                .hint("promote in a workflow of its own, or with a key of the gate: `quorate key generate`"))
        }
    }
}

/// A record that is proven.
struct Said {
    summary: Summary,
    bundle: Digest,
    /// When it was first seen, where the trust wants a time.
    time: Option<Timestamp>,
    log_index: Option<u64>,
}

impl Said {
    fn read(bundle: &[u8], signer: &MaySign, trust: &Trust) -> Result<Self, (Reason, String)> {
        let sealed = Sealed::parse(bundle)?;
        let summary = Summary::parse(sealed.payload())?;
        let proven = prove(&sealed, [(signer, trust)]).map_err(|r| (r.reason, r.detail))?;
        let time = proven.times().first().copied();
        Ok(Self { summary, bundle: sealed.digest(), time, log_index: sealed.log_index() })
    }
}
