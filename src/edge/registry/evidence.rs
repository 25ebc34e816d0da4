//! Bundles at an image: attaching one, collecting all.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{try_join, try_join_all};

use crate::oci::{Descriptor, Digest, Manifest, Repository, Slot, Tag, media_type};
use crate::reason::Reason;

use super::Registry;
use super::error::Error;
use super::host::Access;
use super::manifest::{Fetched, MAX_MANIFEST};
use super::referrers::Referrers;
use super::retry;

/// Bytes of one bundle.
const MAX_BUNDLE: u64 = 1024 * 1024;
/// Bytes of a manifest that carries a bundle: the bundle in base64, and room for the rest.
const MAX_CARRIER: u64 = 3 * 1024 * 1024 / 2;
/// Manifests read for one subject.
const MAX_READ: usize = 200;
/// Derived tags of one slot.
const MAX_TAGS: u32 = 100;
/// Where Sigstore's tools say what a bundle is about.
const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";

/// A bundle was attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The manifest that carries it.
    pub manifest: Digest,
    /// How it is found.
    pub place: Place,
    /// What did not work and does no harm here: other tools may not find it.
    pub notes: Vec<String>,
}

/// How an attached bundle is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Through the referrers API.
    Referrers,
    /// Under a derived tag.
    Tag(Tag),
}

/// The bundles found at a subject.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// Their bytes, each once, in the order of their digests. Nothing in them is verified.
    pub bundles: Vec<Vec<u8>>,
    /// What was found and cannot be evidence.
    pub skipped: Vec<Skipped>,
    /// What else is listed: manifests about the same image that can be no evidence of ours.
    pub others: Vec<Descriptor>,
    /// Whether the registry has the referrers API.
    pub by_api: bool,
}

/// Something that stands where evidence stands, and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The manifest.
    pub digest: Digest,
    /// The stable reason.
    pub reason: Reason,
    /// In words.
    pub detail: String,
}

/// One manifest, read.
enum Read {
    Bundle(Digest, Vec<u8>),
    Skipped(Skipped),
    /// Evidence of another kind, or none at all: nothing to report.
    Other,
}

impl Registry {
    /// Attaches a bundle to `subject`, and looks that it can be found. Whether the registry has the
    /// referrers API (`by_api`), whoever looked what is there knows.
    ///
    /// With the API the manifest is pushed by digest. Without it, the first absent derived tag of
    /// the slot is taken, and the shared referrers tag is brought up to date as well as can be.
    /// Attaching the very same manifest again changes nothing.
    pub async fn attach(
        &self,
        by_api: bool,
        repository: &Repository,
        subject: &Descriptor,
        slot: &Slot,
        bundle: &[u8],
        annotations: BTreeMap<String, String>,
    ) -> Result<Attached, Error> {
        if bundle.len() as u64 > MAX_BUNDLE {
            return Err(Error::TooLarge { what: "the bundle".to_owned(), limit: MAX_BUNDLE });
        }
        let mut layer = Descriptor::of(media_type::BUNDLE, bundle);
        layer.data = Some(bundle.to_vec());
        let manifest = Manifest::artifact(media_type::BUNDLE, layer, subject, annotations)
            .map_err(|error| Error::Setup(error.to_string()))?;
        self.announce(repository, Access::Push)?;
        try_join(self.upload_blob(repository, bundle.to_vec()), self.push_blob(repository, b"{}".to_vec()))
            .await?;
        let digest = manifest.digest();
        let by_digest = self.push_manifest(repository, media_type::MANIFEST, manifest.bytes());
        if by_api {
            by_digest.await?;
            self.await_listing(repository, subject.digest, digest).await?;
            return Ok(Attached { manifest: digest, place: Place::Referrers, notes: Vec::new() });
        }
        let (_, tag) =
            try_join(by_digest, self.take_tag(repository, subject.digest, slot, &manifest)).await?;
        let fallback = self.add_to_fallback(repository, subject.digest, &manifest);
        let notes = match fallback.await {
            Ok(()) => Vec::new(),
            Err(why) => vec![format!(
                "the shared referrers tag was not updated, so other tools may not find this attestation: {why}"
            )],
        };
        Ok(Attached { manifest: digest, place: Place::Tag(tag), notes })
    }

    /// Waits until the referrers API lists `manifest`.
    async fn await_listing(
        &self,
        repository: &Repository,
        subject: Digest,
        manifest: Digest,
    ) -> Result<(), Error> {
        let mut delays = retry::delays();
        loop {
            match self.referrers(repository, subject).await? {
                Referrers::Listed(listed) if listed.iter().any(|e| e.digest == manifest) => {
                    return Ok(());
                }
                _ => {}
            }
            let Some(delay) = delays.next() else {
                return Err(Error::Malformed {
                    asked: super::Asked {
                        method: "GET".into(),
                        url: format!("the referrers of {repository}@{subject}").into(),
                        host: repository.host().into(),
                    },
                    why: format!("{manifest} was pushed and is not listed"),
                });
            };
            tokio::time::sleep(delay).await;
        }
    }

    /// Writes the first absent derived tag of the slot and reads it back.
    async fn take_tag(
        &self,
        repository: &Repository,
        subject: Digest,
        slot: &Slot,
        manifest: &Manifest,
    ) -> Result<Tag, Error> {
        let digest_at = async |tag: &Tag| {
            let reference = repository.at_tag(tag.clone());
            let found = self.fetch_manifest(&reference, MAX_MANIFEST, true).await?;
            Ok::<_, Error>(found.map(|found| found.digest))
        };
        for k in 0..MAX_TAGS {
            let tag = derived_tag(subject, slot, k)?;
            let mut now = digest_at(&tag).await?;
            if now.is_none() {
                self.put_tag(repository, &tag, media_type::MANIFEST, manifest.bytes()).await?;
                let mut delays = retry::delays();
                loop {
                    now = digest_at(&tag).await?;
                    match (now, delays.next()) {
                        // A read may lag behind the write.
                        (None, Some(delay)) => tokio::time::sleep(delay).await,
                        _ => break,
                    }
                }
            }
            if now == Some(manifest.digest()) {
                return Ok(tag);
            }
        }
        Err(Error::TooMany {
            what: format!("derived tags of the slot {slot} at {repository}@{subject}"),
            limit: MAX_TAGS as usize,
        })
    }

    /// Collects the bundles at `subject`: what the referrers API lists; without it, what stands
    /// under the derived tags of `slots` and in the shared referrers tag.
    ///
    /// Bundles that say they are about a predicate type not in `predicate_types` are left out.
    ///
    /// # Errors
    /// Whenever it could not be found out what is there. An empty result means that the registry
    /// said, for every place asked, that there is nothing.
    pub async fn collect(
        &self,
        repository: &Repository,
        subject: Digest,
        slots: &[Slot],
        predicate_types: &[&str],
    ) -> Result<Collected, Error> {
        let slots: BTreeSet<&Slot> = slots.iter().collect();
        let (by_api, listed, tagged) = match self.referrers(repository, subject).await? {
            Referrers::Listed(listed) => (true, listed, Vec::new()),
            Referrers::Unsupported => {
                let tags = slots.iter().map(|slot| self.slot_tags(repository, subject, slot));
                let (tagged, listed) =
                    try_join(try_join_all(tags), self.fallback_entries(repository, subject)).await?;
                (false, listed, tagged.into_iter().flatten().collect())
            }
        };
        let mut seen: BTreeSet<Digest> = BTreeSet::new();
        let mut reads = Vec::new();
        let (mut skipped, mut others) = (Vec::new(), Vec::new());
        for found in tagged {
            match found {
                Tagged::Found(fetched) => {
                    if seen.insert(fetched.digest) {
                        reads.push(Source::Fetched(fetched));
                    }
                }
                Tagged::TooLarge(found) => skipped.push(found),
            }
        }
        for entry in listed {
            if !seen.insert(entry.digest) {
                continue;
            }
            if !may_be_bundle(&entry, predicate_types) {
                others.push(entry);
            } else if entry.size > MAX_CARRIER {
                skipped.push(too_large(entry.digest));
            } else {
                reads.push(Source::Listed(entry));
            }
        }
        if reads.len() > MAX_READ {
            return Err(Error::TooMany {
                what: format!("attestations of {repository}@{subject}"),
                limit: MAX_READ,
            });
        }
        let reads = reads.into_iter().map(|source| self.read(repository, subject, source, predicate_types));
        let mut bundles = BTreeMap::new();
        for read in try_join_all(reads).await? {
            match read {
                Read::Bundle(digest, bytes) => {
                    bundles.insert(digest, bytes);
                }
                Read::Skipped(one) => skipped.push(one),
                Read::Other => {}
            }
        }
        skipped.sort_by_key(|one| one.digest);
        Ok(Collected { bundles: bundles.into_values().collect(), skipped, others, by_api })
    }

    /// The slots that derived tags of a repository name, for who has no policy to tell them.
    ///
    /// # Errors
    /// Those of [`Registry::tags`]: a repository may have too many tags to list.
    pub async fn listed_slots(&self, repository: &Repository) -> Result<Vec<Slot>, Error> {
        let tags = self.tags(repository).await?.unwrap_or_default();
        let slots: BTreeSet<Slot> = tags.iter().filter_map(slot_of).collect();
        Ok(slots.into_iter().collect())
    }

    /// The manifests under the derived tags of one slot, two tags at a time.
    async fn slot_tags(
        &self,
        repository: &Repository,
        subject: Digest,
        slot: &Slot,
    ) -> Result<Vec<Tagged>, Error> {
        let mut found = Vec::new();
        for k in (0..MAX_TAGS).step_by(2) {
            let pair = try_join(
                self.tagged(repository, derived_tag(subject, slot, k)?),
                self.tagged(repository, derived_tag(subject, slot, k + 1)?),
            )
            .await?;
            let last = pair.1.is_none();
            found.extend([pair.0, pair.1].into_iter().flatten());
            if last {
                return Ok(found);
            }
        }
        Err(Error::TooMany {
            what: format!("derived tags of the slot {slot} at {repository}@{subject}"),
            limit: MAX_TAGS as usize,
        })
    }

    async fn tagged(&self, repository: &Repository, tag: Tag) -> Result<Option<Tagged>, Error> {
        let fetched = self.fetch_manifest(&repository.at_tag(tag), MAX_MANIFEST, true).await?;
        let Some(fetched) = fetched else {
            return Ok(None);
        };
        if fetched.bytes.len() as u64 > MAX_CARRIER {
            return Ok(Some(Tagged::TooLarge(too_large(fetched.digest))));
        }
        // What is no manifest at all was not put there by anybody: a proxy or a portal answers.
        let is_manifest = fetched
            .content_type
            .as_deref()
            .is_some_and(|t| media_type::is_manifest(t) || media_type::is_index(t));
        if !is_manifest {
            fetched.into_manifest()?;
            return Ok(None);
        }
        Ok(Some(Tagged::Found(fetched)))
    }

    /// Reads one manifest, and its bundle.
    async fn read(
        &self,
        repository: &Repository,
        subject: Digest,
        source: Source,
        predicate_types: &[&str],
    ) -> Result<Read, Error> {
        let (digest, hinted, fetched) = match source {
            Source::Fetched(fetched) => (fetched.digest, true, Some(fetched)),
            Source::Listed(entry) => {
                let reference = repository.at_digest(entry.digest);
                let fetched = match self.fetch_manifest(&reference, MAX_CARRIER, false).await {
                    Err(Error::TooLarge { .. }) => {
                        return Ok(Read::Skipped(too_large(entry.digest)));
                    }
                    other => other?,
                };
                let hinted = entry.artifact_type.as_deref() == Some(media_type::BUNDLE);
                (entry.digest, hinted, fetched)
            }
        };
        let skip =
            |detail: String| Ok(Read::Skipped(Skipped { digest, reason: Reason::BundleManifest, detail }));
        let Some(fetched) = fetched else {
            return skip("the registry lists it and does not have it".to_owned());
        };
        let manifest = match Manifest::parse(fetched.bytes) {
            Ok(manifest) => manifest,
            // An entry without a type may be anything, such as a child of a foreign index.
            Err(_) if !hinted => return Ok(Read::Other),
            Err(error) => return skip(error.to_string()),
        };
        if manifest.artifact_type.as_deref() != Some(media_type::BUNDLE) {
            return if hinted {
                skip("its artifact type is not that of a bundle".to_owned())
            } else {
                Ok(Read::Other)
            };
        }
        if manifest.subject.as_ref().map(|s| s.digest) != Some(subject) {
            return skip("it is about another image".to_owned());
        }
        if manifest.annotations.get(PREDICATE_TYPE).is_some_and(|t| !predicate_types.contains(&t.as_str())) {
            return Ok(Read::Other);
        }
        let [layer] = manifest.layers.as_slice() else {
            return skip(format!("it has {} layers, not one", manifest.layers.len()));
        };
        if layer.media_type != media_type::BUNDLE || layer.has_urls {
            return skip("its layer is not a bundle".to_owned());
        }
        if layer.size > MAX_BUNDLE {
            return Ok(Read::Skipped(too_large(digest)));
        }
        if let Some(data) = &layer.data {
            return Ok(Read::Bundle(layer.digest, data.clone()));
        }
        match self.blob(repository, layer.digest, Some(layer.size), MAX_BUNDLE).await {
            Ok(Some(bytes)) => Ok(Read::Bundle(layer.digest, bytes)),
            Ok(None) => skip("the registry does not have its bundle".to_owned()),
            Err(Error::TooLarge { .. }) => Ok(Read::Skipped(too_large(digest))),
            Err(Error::SizeMismatch { .. }) => skip("its bundle has another size than it says".to_owned()),
            Err(error) => Err(error),
        }
    }
}

/// The slot that a derived tag names.
fn slot_of(tag: &Tag) -> Option<Slot> {
    let (hex, rest) = tag.as_str().strip_prefix("sha256-")?.split_once(".q-")?;
    let (slot, k) = rest.rsplit_once('.')?;
    Digest::from_hex(hex).ok()?;
    k.parse::<u32>().ok()?;
    slot.parse().ok()
}

/// Where a manifest comes from.
enum Source {
    Fetched(Fetched),
    Listed(Descriptor),
}

/// What stands under a derived tag.
enum Tagged {
    Found(Fetched),
    TooLarge(Skipped),
}

fn too_large(digest: Digest) -> Skipped {
    Skipped { digest, reason: Reason::BundleTooLarge, detail: format!("more than {MAX_BUNDLE} bytes") }
}

/// `sha256-<hex>.q-<slot>.<k>`.
fn derived_tag(subject: Digest, slot: &Slot, k: u32) -> Result<Tag, Error> {
    format!("sha256-{}.q-{slot}.{k}", subject.hex())
        .parse()
        .map_err(|error: crate::oci::reference::ReferenceError| Error::Setup(error.to_string()))
}

/// Whether an entry is worth fetching. Its own words can only rule it out.
fn may_be_bundle(entry: &Descriptor, predicate_types: &[&str]) -> bool {
    let kind = match entry.artifact_type.as_deref() {
        None | Some("" | media_type::EMPTY | media_type::BUNDLE) => true,
        Some(_) => false,
    };
    let about = entry.annotations.get(PREDICATE_TYPE).is_none_or(|t| predicate_types.contains(&t.as_str()));
    kind && about && media_type::is_manifest(&entry.media_type)
}
