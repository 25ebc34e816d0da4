//! `inspect`: an image, and everything that hangs on it, as the registry tells it.

use futures_util::future::{try_join, try_join_all};

use super::gather::{MAX_CHILDREN, PREDICATE_TYPES, predicate_types, prove, resolve};
use crate::attestation::{Bundle, Rejection, Trusts};
use crate::edge::registry::{Collected, RawManifest, Referrers, Registry};
use crate::error::Error;
use crate::oci::{Config, Descriptor, Digest, ImageIndex, Manifest, Reference, Repository, Slot, media_type};
use crate::policy::Policy;
use crate::report::inspect::{Image, Inspected, Node, Seen, Standing};

/// Where image tools write the commit (image-spec, `annotations.md`).
const REVISION: &str = "org.opencontainers.image.revision";

/// What is asked.
#[derive(Debug)]
pub struct Request {
    /// The image; a tag is resolved once.
    pub image: Reference,
    /// Who the builders are: also says where evidence is kept without a referrers API.
    pub policy: Option<Policy>,
    /// Whom to believe. Statements are verified where there are both.
    pub trusts: Option<Trusts>,
}

/// Reads the image.
///
/// # Errors
/// When it could not be found out what there is.
pub async fn run(registry: &Registry, request: &Request) -> Result<Inspected, Error> {
    let raw = resolve(registry, &request.image).await?;
    let repository = &request.image.repository;
    let slots = match &request.policy {
        Some(policy) => policy.slots(),
        // Only a list of all tags tells where evidence is, if the registry does not.
        None => match registry.referrers(repository, raw.digest).await? {
            Referrers::Listed(_) => Vec::new(),
            Referrers::Unsupported => registry.listed_slots(repository).await?,
        },
    };
    let judge = request.policy.as_ref().zip(request.trusts.as_ref());
    let asked = Asked { registry, repository, judge, slots };
    let descriptor = Descriptor::of(&raw.media_type, &raw.bytes);
    let root = if media_type::is_index(&raw.media_type) {
        let (mut root, evidence) = match ImageIndex::parse(raw.bytes) {
            Err(error) => (Node { problem: Some(error.to_string()), ..bare(descriptor) }, Vec::new()),
            Ok(index) => {
                let children = index.manifests.iter().take(MAX_CHILDREN).map(|child| asked.child(child));
                let (children, collected) =
                    try_join(try_join_all(children), asked.collect(&descriptor)).await?;
                let left = index.manifests.len().saturating_sub(MAX_CHILDREN);
                let problem = (left > 0).then(|| format!("{left} more manifests are not shown"));
                let root = Node { children, others: collected.others.clone(), problem, ..bare(descriptor) };
                (root, asked.evidence(collected))
            }
        };
        root.evidence = evidence;
        root
    } else {
        asked.manifest(descriptor, raw).await?
    };
    Ok(Inspected { repository: request.image.repository.clone(), root })
}

struct Asked<'a> {
    registry: &'a Registry,
    repository: &'a Repository,
    judge: Option<(&'a Policy, &'a Trusts)>,
    slots: Vec<Slot>,
}

fn bare(descriptor: Descriptor) -> Node {
    Node {
        descriptor,
        image: None,
        problem: None,
        children: Vec::new(),
        evidence: Vec::new(),
        others: Vec::new(),
    }
}

impl Asked<'_> {
    async fn child(&self, child: &Descriptor) -> Result<Node, Error> {
        let problem = |what: &str| Ok(Node { problem: Some(what.to_owned()), ..bare(child.clone()) });
        if media_type::is_index(&child.media_type) {
            return problem("an index inside an index is not looked into");
        }
        if !media_type::is_manifest(&child.media_type) {
            return problem("not the manifest of an image");
        }
        match self.registry.manifest(&self.repository.at_digest(child.digest)).await? {
            Some(raw) => self.manifest(child.clone(), raw).await,
            None => problem("the registry does not have it"),
        }
    }

    async fn manifest(&self, descriptor: Descriptor, raw: RawManifest) -> Result<Node, Error> {
        let manifest = match Manifest::parse(raw.bytes) {
            Ok(manifest) => manifest,
            Err(error) => return Ok(Node { problem: Some(error.to_string()), ..bare(descriptor) }),
        };
        let (image, collected) = try_join(self.image(&manifest), self.collect(&descriptor)).await?;
        let (image, problem) = match image {
            Ok(image) => (image, None),
            Err(problem) => (None, Some(problem)),
        };
        let others = collected.others.clone();
        Ok(Node { image, problem, others, evidence: self.evidence(collected), ..bare(descriptor) })
    }

    /// What the configuration says; `None` of an artifact that has none.
    async fn image(&self, manifest: &Manifest) -> Result<Result<Option<Image>, String>, Error> {
        let named = &manifest.config;
        if !media_type::is_config(&named.media_type) {
            return Ok(Ok(None));
        }
        if named.size > Config::MAX_BYTES {
            return Ok(Err(format!("the configuration {} has {} bytes", named.digest, named.size)));
        }
        let found =
            self.registry.blob(self.repository, named.digest, Some(named.size), Config::MAX_BYTES).await?;
        let Some(bytes) = found else {
            return Ok(Err(format!("the registry does not have the configuration {}", named.digest)));
        };
        Ok(match Config::parse(&bytes) {
            Err(error) => Err(error.to_string()),
            Ok(config) => Ok(Some(Image {
                config: config.digest,
                platform: config.platform.to_string(),
                revision: config.labels.get(REVISION).or(manifest.annotations.get(REVISION)).cloned(),
                layers: manifest.layers.len(),
                size: manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add),
            })),
        })
    }

    async fn collect(&self, of: &Descriptor) -> Result<Collected, Error> {
        let types = match self.judge {
            Some((policy, _)) => predicate_types(policy, self.repository),
            None => PREDICATE_TYPES.to_vec(),
        };
        Ok(self.registry.collect(self.repository, of.digest, &self.slots, &types).await?)
    }

    fn evidence(&self, collected: Collected) -> Vec<Seen> {
        let rejected = |rejection: Rejection, statement| Seen {
            bundle: rejection.bundle,
            statement,
            standing: Standing::Rejected { reason: rejection.reason, detail: rejection.detail },
        };
        let mut seen: Vec<Seen> = collected
            .bundles
            .iter()
            .map(|bytes| {
                let read = Bundle::parse(bytes);
                let statement = read.as_ref().ok().map(|bundle| bundle.statement().clone());
                let bundle = Digest::of(bytes);
                match (self.judge, read) {
                    (None, Err(why)) => rejected(Rejection::of_bytes(bytes, why), None),
                    (None, Ok(_)) => Seen { bundle, statement, standing: Standing::Unverified },
                    (Some((policy, trusts)), _) => match prove(bytes, policy, trusts) {
                        Err(rejection) => rejected(*rejection, statement),
                        Ok(proven) => {
                            let builder = policy.builder(proven.said().1);
                            let builder = builder.map(|builder| builder.name.clone()).unwrap_or_default();
                            let time = proven.seen().map(|(first, _)| first);
                            Seen { bundle, statement, standing: Standing::Proven { builder, time } }
                        }
                    },
                }
            })
            .collect();
        seen.extend(collected.skipped.into_iter().map(|skipped| Seen {
            bundle: skipped.digest,
            statement: None,
            standing: Standing::Rejected { reason: skipped.reason, detail: skipped.detail },
        }));
        seen
    }
}
