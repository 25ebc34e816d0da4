//! What every statement goes through that is signed here: signed, witnessed, verified as others
//! will verify it, and attached to the image that it is about.

use std::sync::Arc;

use futures_util::future::{try_join, try_join_all};
use jiff::Timestamp;
use sigstore_types::DsseEnvelope;

use crate::attestation::bundle::Bundle;
use crate::attestation::envelope::{pae, seal};
use crate::attestation::{MaySign, Signer, Trust};
use crate::edge::fulcio::{Certified, Keyless};
use crate::edge::registry::{Place, Registry};
use crate::edge::service::Service;
use crate::edge::signer::KeyPair;
use crate::edge::signing_config::Services;
use crate::edge::{log, tsa};
use crate::error::Error;
use crate::oci::{Descriptor, Digest, Repository, Slot, Tag};
use crate::reason::Reason;
use crate::report::attest::Attached;

/// How many signatures are made, if the log loses its answers or certificates end too soon.
const SIGNATURES: usize = 3;

/// Who signs, and who must vouch for it.
pub struct Signing<'a> {
    /// The signer.
    pub hand: Hand,
    /// Logs and timestamp authorities.
    pub services: &'a Services,
    /// The way to them.
    pub service: &'a Service,
    /// What the finished bundle is held to.
    pub trust: &'a Trust,
}

/// Who signs.
pub enum Hand {
    /// Who has this key.
    Key(KeyPair),
    /// Whom Fulcio names, by the token of this run.
    Keyless(Keyless),
}

/// What one signature is made with.
pub(super) enum Pen<'a> {
    Key(&'a KeyPair),
    Certified(Arc<Certified>),
}

impl Signing<'_> {
    /// What to sign with: not `spent`, a certificate that has ended.
    pub(super) async fn pen(&self, spent: Option<&Arc<Certified>>) -> Result<Pen<'_>, Error> {
        match &self.hand {
            Hand::Key(pair) => Ok(Pen::Key(pair)),
            Hand::Keyless(keyless) => keyless.certified(self.service, spent).await.map(Pen::Certified),
        }
    }

    /// Signs a payload, and has it witnessed. The finished bundle is read by `read`, as a verifier
    /// reads it; what that makes of it, and the bundle.
    pub(super) async fn sign<T>(
        &self,
        payload: Result<Vec<u8>, serde_json::Error>,
        read: impl Fn(&[u8], &MaySign, &Trust) -> Result<T, (Reason, String)>,
    ) -> Result<(T, Vec<u8>), Error> {
        let payload =
            payload.map_err(|error| Error::undecided("cannot write the statement").because(error))?;
        let message = pae(&payload);
        let (mut spent, mut why) = (None, String::new());
        for _ in 0..SIGNATURES {
            let pen = self.pen(spent.as_ref()).await?;
            let envelope = seal(payload.clone(), pen.pair().sign(&message)?);
            let Some(bundle) = self.witnessed(&pen, envelope).await? else {
                "the log says that it has every new signature already".clone_into(&mut why);
                continue;
            };
            let json = bundle
                .to_json()
                .map_err(|error| Error::undecided("cannot write the bundle").because(error))?;
            // What was sent back is believed when the whole holds, as a verifier sees it.
            let verified = read(json.as_bytes(), &pen.may_sign(), self.trust);
            match (verified, pen) {
                (Ok(read), _) => return Ok((read, json.into_bytes())),
                // It ended while the witnesses took their time.
                (Err((Reason::CertificateTime, detail)), Pen::Certified(certified)) => {
                    why = format!(
                        "the new attestation does not verify ({}): {detail}",
                        Reason::CertificateTime
                    );
                    spent = Some(certified);
                }
                (Err((reason, detail)), _) => {
                    let hint = match reason {
                        // Here there is no leeway for the time of a Rekor v1.
                        Reason::TimeInFuture => "set the clock of this machine; then run the same again",
                        Reason::TimestampInvalid => {
                            "the trusted root must name the timestamp authority, and `docs/trust.md` says which can be read"
                        }
                        _ => "a signing service is not the one that the trusted root names",
                    };
                    return Err(Error::undecided(format!(
                        "the new attestation does not verify ({reason}): {detail}"
                    ))
                    .hint(hint));
                }
            }
        }
        Err(Error::undecided(why).hint("ask who runs the signing services; then run the same again"))
    }

    /// The bundle around an envelope; `None` if a log wants another signature. No witness needs
    /// another's answer.
    async fn witnessed(
        &self,
        pen: &Pen<'_>,
        envelope: DsseEnvelope,
    ) -> Result<Option<sigstore_types::Bundle>, Error> {
        let logs = self.services.logs.iter().map(|log| log::submit(self.service, log, pen.by(), &envelope));
        let signature = envelope.signature.sig.as_bytes();
        let tsas = self.services.tsas.iter().map(|tsa| tsa::stamp(self.service, tsa, signature));
        let (entries, timestamps) = try_join(try_join_all(logs), try_join_all(tsas)).await?;
        let Some(entries) = entries.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        Ok(Some(match pen {
            Pen::Key(pair) => Bundle::keyed(envelope, pair.public(), entries, timestamps),
            Pen::Certified(certified) => {
                Bundle::certified(envelope, certified.certificate.clone(), entries, timestamps)
            }
        }))
    }
}

impl Pen<'_> {
    fn pair(&self) -> &KeyPair {
        match self {
            Self::Key(pair) => pair,
            Self::Certified(certified) => &certified.pair,
        }
    }

    fn by(&self) -> log::By<'_> {
        match self {
            Self::Key(pair) => log::By::Key(pair.public()),
            Self::Certified(certified) => log::By::Certificate(&certified.certificate),
        }
    }

    /// The signer, by whatever key or certificate in other runs.
    pub(super) fn may_sign(&self) -> MaySign {
        match self {
            Self::Key(pair) => pair.public().clone().into(),
            Self::Certified(certified) => (&Signer::Certificate(Box::new(certified.identity.clone()))).into(),
        }
    }
}

/// Attaches a bundle to what it is about.
#[allow(clippy::too_many_arguments, reason = "each says another thing")]
pub(super) async fn attach(
    registry: &Registry,
    repository: &Repository,
    subject: &Descriptor,
    listed: bool,
    slot: &Slot,
    bundle: &[u8],
    predicate_type: &str,
    time: Option<Timestamp>,
) -> Result<Attached, Error> {
    let annotations = [
        ("dev.sigstore.bundle.content".to_owned(), "dsse-envelope".to_owned()),
        ("dev.sigstore.bundle.predicateType".to_owned(), predicate_type.to_owned()),
    ]
    .into_iter()
    .chain(time.map(|time| {
        let time = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        ("org.opencontainers.image.created".to_owned(), time)
    }));
    let attached = registry.attach(listed, repository, subject, slot, bundle, annotations.collect()).await?;
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
    warn: &impl Fn(&str),
) -> Result<(), Error> {
    let tag = |suffix: &str| format!("sha256-{}.{suffix}", subject.hex()).parse::<Tag>();
    let tags = [tag("sig"), tag("att")].into_iter().flatten().map(async |tag| {
        if registry.has(&repository.at_tag(tag.clone())).await? {
            warn(&format!(
                "the tag `{tag}` holds signatures in cosign's older form: where an image has a bundle, \
                 cosign, Kyverno and Flux look at bundles alone, so a policy that asked for those \
                 signatures may refuse it from now on"
            ));
        }
        Ok::<_, Error>(())
    });
    try_join_all(tags).await.map(drop)
}
