//! `verify`: judges an image as a cluster does, trusting neither registry nor tag.

use std::num::NonZeroU32;

use super::gather::{gather, resolve};
use crate::attestation::{Commit, Trusts};
use crate::edge::clock;
use crate::edge::registry::Registry;
use crate::error::Error;
use crate::oci::{Reference, Repository};
use crate::policy::{Expected, Policy, Purpose, Verdict, decide};

/// What is asked.
#[derive(Debug)]
pub struct Request {
    /// The image; a tag is resolved once.
    pub image: Reference,
    /// A higher quorum than the policy's.
    pub quorum: Option<NonZeroU32>,
    /// The commit that the image must be of.
    pub commit: Option<Commit>,
}

/// Judges the image.
///
/// # Errors
/// When it could not be found out what the answer is. "No" is a verdict.
pub async fn run(
    registry: &Registry,
    policy: &Policy,
    trusts: &Trusts,
    request: &Request,
) -> Result<Verdict, Error> {
    let expected =
        expected(policy, &request.image.repository, request.quorum, request.commit.clone(), Purpose::Verify)?;
    let image = resolve(registry, &request.image).await?;
    let gathered = gather(registry, &request.image.repository, image, policy, trusts).await?;
    Ok(decide(policy, &gathered.candidate, &gathered.evidence, clock::now(), &expected))
}

/// Holds a raised quorum to the policy: never lower, and never more than there are operators.
pub(super) fn expected(
    policy: &Policy,
    repository: &Repository,
    quorum: Option<NonZeroU32>,
    commit: Option<Commit>,
    purpose: Purpose,
) -> Result<Expected, Error> {
    if let (Some(wanted), Some(rule)) = (quorum, policy.image(repository)) {
        let least = rule.bar(&purpose).quorum;
        if wanted < least {
            return Err(Error::request(format!(
                "`--quorum {wanted}` is lower than the policy's {least} for `{repository}`"
            ))
            .hint("the option can raise the quorum, never lower it"));
        }
        if wanted.get() as usize > rule.voices {
            return Err(Error::request(format!(
                "`--quorum {wanted}` can never be met: the policy's builders have {} operators",
                rule.voices
            )));
        }
    }
    Ok(Expected { commit, quorum, purpose })
}
