//! `pack`: an image and the votes that release it, as one file that proves itself.

use super::gather::{assess, fetch, prove, resolve};
use super::verify::expected;
use crate::attestation::{Commit, Trusts};
use crate::edge::clock;
use crate::edge::registry::Registry;
use crate::error::Error;
use crate::oci::{Manifest, Reference, Repository};
use crate::policy::{Bar, Outcome, Policy, Purpose, decide};
use crate::report::pack::{Packed, Report};

/// What is asked.
#[derive(Debug)]
pub struct Request {
    /// The image; a tag is resolved once.
    pub image: Reference,
    /// Repositories in which evidence is read, besides its own.
    pub evidence_from: Vec<Repository>,
    /// A higher bar than the policy's.
    pub raised: Option<Bar>,
    /// The commit that the image must be of.
    pub commit: Option<Commit>,
    /// Whether the pack is attached to the image.
    pub attach: bool,
}

/// Makes the pack, if the quorum is met by what is in it. `keep` is given its bytes before anything
/// is written to the registry.
///
/// # Errors
/// When nothing was decided, the pack is too large, or it could not be kept or attached.
pub async fn run(
    registry: &Registry,
    policy: &Policy,
    trusts: &Trusts,
    request: &Request,
    keep: impl FnOnce(&[u8]) -> Result<(), Error>,
) -> Result<Report, Error> {
    let repository = &request.image.repository;
    let expected = expected(
        policy,
        &request.image.repository,
        request.raised.as_ref(),
        request.commit.clone(),
        Purpose::Verify,
    )?;
    let image = resolve(registry, &request.image).await?;
    let (mut parts, _) =
        fetch(registry, repository, repository, image, policy, &request.evidence_from).await?;
    // What strangers attached decides nothing, and could fill the pack.
    parts.bundles.retain(|_, bytes| match prove(bytes, policy, trusts) {
        Ok(_) => true,
        Err(rejection) => rejection.signer.is_some(),
    });
    let gathered = assess(repository, &parts, Vec::new(), policy, trusts);
    let verdict = decide(policy, &gathered.candidate, &gathered.evidence, clock::now(), &expected);
    if !matches!(verdict.outcome, Outcome::Met(_)) {
        return Ok(Report { verdict, packed: None });
    }
    let pack: Manifest = parts.pack().map_err(|error| {
        let reason = error.reason();
        Error::no(format!("`{}@{}` does not fit into a pack ({reason})", repository, verdict.digest))
            .because(error)
            .hint("verify it from its registry")
    })?;
    keep(pack.bytes())?;
    let tag = if request.attach {
        Some(registry.attach_pack(repository, verdict.digest, &pack).await?)
    } else {
        None
    };
    let packed =
        Packed { digest: pack.digest(), size: pack.bytes().len(), bundles: parts.bundles.len(), tag };
    Ok(Report { verdict, packed: Some(packed) })
}
