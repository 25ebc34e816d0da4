//! The record of a promotion: a verification summary, signed and attached to the index before any
//! tag is written. No decision ever reads one.

use super::attest::slot_of;
use super::sign::{Signing, attach, legacy, sign};
use crate::attestation::summary::SUMMARY_V1;
use crate::attestation::verify::verify;
use crate::attestation::{Bundle, Summary, Trust, Verifier};
use crate::edge::clock;
use crate::edge::registry::Registry;
use crate::error::Error;
use crate::oci::{Descriptor, ImageIndex};
use crate::policy::Approval;
use crate::report::promote::Record;

/// Under which registries without the referrers API keep the record.
const SLOT: &str = "record";

/// Who signs the record, and as whom.
pub struct Recording {
    /// Who signs, and who witnesses it.
    pub signing: Signing,
    /// The verifier that the record names.
    pub verifier: Verifier,
}

/// Records what was approved, unless the same signer has said the same before.
///
/// # Errors
/// When it could not be signed, witnessed or attached.
pub(super) async fn record(
    registry: &Registry,
    trust: &Trust,
    approval: &Approval,
    index: &ImageIndex,
    recording: &Recording,
    dry_run: bool,
    warn: impl Fn(&str),
) -> Result<Record, Error> {
    let failed = |error: Error| {
        let hint = error.next().unwrap_or("promote again when that is mended").to_owned();
        Error::undecided("the promotion could not be recorded, so no tag was moved").because(error).hint(hint)
    };
    let recorded = async {
        let summary = approval.summary(&recording.verifier, clock::now());
        let subject = Descriptor::of(&index.media_type, index.bytes());
        let slot = slot_of(SLOT)?;
        let repository = approval.repository();
        let collected =
            registry.collect(repository, subject.digest, std::slice::from_ref(&slot), &[SUMMARY_V1]).await?;
        let key = recording.signing.signer.public();
        for bytes in &collected.bundles {
            let Ok(bundle) = Bundle::<Summary>::read(bytes) else { continue };
            let Ok(said) = verify(&bundle, [(key, trust)]) else { continue };
            if said.statement().says_what(&summary) {
                return Ok(Record::Already { bundle: said.bundle(), time: said.earliest() });
            }
        }
        if dry_run {
            return Ok(Record::Planned);
        }
        if collected.bundles.is_empty() && collected.others.is_empty() {
            legacy(registry, repository, subject.digest, warn).await?;
        }
        let (said, log_index, bundle) = sign(&recording.signing, trust, &summary).await?;
        let attached = attach(registry, repository, &said, &subject, &slot, &bundle).await?;
        Ok(Record::Attached { bundle: said.bundle(), time: said.earliest(), log_index, attached })
    };
    recorded.await.map_err(failed)
}
