//! What every statement goes through that is signed here: signed, witnessed, verified as others
//! will verify it, and attached to the image that it is about.

use futures_util::future::try_join;
use sigstore_types::TransparencyLogEntry;
use url::Url;

use crate::attestation::envelope::{pae, seal};
use crate::attestation::verify::verify;
use crate::attestation::{Attestation, Bundle, Payload, Trust};
use crate::edge::registry::{Place, Registry};
use crate::edge::service::Service;
use crate::edge::signer::Signer;
use crate::edge::{log, tsa};
use crate::error::Error;
use crate::oci::{Descriptor, Digest, Repository, Slot, Tag};
use crate::report::attest::Attached;

/// How many signatures are made, if the log loses its answers.
const SIGNATURES: usize = 3;

/// Who signs, and who witnesses it.
pub struct Signing {
    /// The way to the witnesses.
    pub service: Service,
    /// Whose signature it is.
    pub signer: Signer,
    /// The Rekor v2 log.
    pub rekor: Url,
    /// The timestamp authority.
    pub tsa: Url,
}

/// Signs; the attestation, its place in the log, and the bundle that proves it.
pub(super) async fn sign<P: Payload>(
    signing: &Signing,
    trust: &Trust,
    statement: &P,
) -> Result<(Attestation<P>, Option<u64>, Vec<u8>), Error> {
    let key = signing.signer.public();
    let payload = statement
        .to_payload()
        .map_err(|error| Error::undecided("cannot write the statement").because(error))?;
    let message = pae(&payload);
    let (signature, entry, timestamp) = witnessed(signing, &message).await?;
    let log_index = entry.log_index.get();
    let bundle = Bundle::keyed(seal(payload, signature), key, entry, timestamp);
    let json =
        bundle.to_json().map_err(|error| Error::undecided("cannot write the bundle").because(error))?;
    // What a log or an authority sent back is believed when the whole holds, as a verifier sees it.
    let attestation = Bundle::read(json.as_bytes())
        .and_then(|bundle| verify(&bundle, [(key, trust)]).map_err(|r| (r.reason, r.detail)))
        .map_err(|(reason, detail)| {
            Error::undecided(format!("the new attestation does not verify ({reason}): {detail}"))
                .hint("the log or the timestamp authority is not the one that the trusted root names")
        })?;
    Ok((attestation, Some(log_index), json.into_bytes()))
}

/// Signs, and has the signature logged and timestamped.
async fn witnessed(
    signing: &Signing,
    message: &[u8],
) -> Result<(Vec<u8>, TransparencyLogEntry, Vec<u8>), Error> {
    let Signing { service, signer, rekor, tsa } = signing;
    for _ in 0..SIGNATURES {
        let signature = signer.sign(message)?;
        // Neither witness needs the other's answer.
        let (entry, timestamp) = try_join(
            log::submit(service, rekor, signer.public(), message, &signature),
            tsa::stamp(service, tsa, &signature),
        )
        .await?;
        if let Some(entry) = entry {
            return Ok((signature, entry, timestamp));
        }
    }
    Err(Error::undecided(format!("{rekor} says that it has every new signature already")))
}

/// Attaches a bundle to the manifest that it is about.
pub(super) async fn attach<P: Payload>(
    registry: &Registry,
    repository: &Repository,
    attestation: &Attestation<P>,
    subject: &Descriptor,
    slot: &Slot,
    bundle: &[u8],
) -> Result<Attached, Error> {
    let annotations = [
        ("dev.sigstore.bundle.content".to_owned(), "dsse-envelope".to_owned()),
        ("dev.sigstore.bundle.predicateType".to_owned(), attestation.statement().predicate_type().to_owned()),
        (
            "org.opencontainers.image.created".to_owned(),
            attestation.earliest().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        ),
    ];
    let attached = registry.attach(repository, subject, slot, bundle, annotations.into()).await?;
    Ok(Attached {
        manifest: attached.manifest,
        place: match attached.place {
            Place::Referrers => "referrers".to_owned(),
            Place::Tag(tag) => tag.to_string(),
        },
        notes: attached.notes,
    })
}

/// Warns of signatures in cosign's older form, which nobody looks at once a bundle is there.
pub(super) async fn legacy(
    registry: &Registry,
    repository: &Repository,
    subject: Digest,
    warn: impl Fn(&str),
) -> Result<(), Error> {
    let tag = |suffix: &str| format!("sha256-{}.{suffix}", subject.hex()).parse::<Tag>();
    for tag in [tag("sig"), tag("att")].into_iter().flatten() {
        if registry.has(&repository.at_tag(tag.clone())).await? {
            warn(&format!(
                "the tag `{tag}` holds signatures in cosign's older form: where an image has a bundle, \
                 cosign, Kyverno and Flux look at bundles alone, so a policy that asked for those \
                 signatures may refuse it from now on"
            ));
        }
    }
    Ok(())
}
