//! Where trusted roots come from: a file, or a TUF repository with a cache (The Update Framework,
//! specification 1.0).
//!
//! Signatures, versions and expiry are the business of `sigstore-tuf`; fetching, its limits and
//! the cache are ours.

use std::path::{Path, PathBuf};

use sigstore_trust_root::SigstoreInstance;
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{FileStore, MetadataStore, Repository, StoreRepository, Updater, UpdaterConfig};
use url::Url;

use super::registry::Registry;
use super::service::{Service, refused};
use super::{clock, files};
use crate::attestation::{Transparency, Trust};
use crate::error::Error;
use crate::oci::Digest;

/// The target that is the trusted root, in every repository of this kind.
const TARGET: &str = "trusted_root.json";
/// The most bytes of a file of a repository: 4 MiB. For most of them TUF has lower bounds.
const MAX_BYTES: u64 = 4 << 20;

/// Where a trusted root comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustSource {
    /// An instance of Sigstore that is built in: its TUF repository, or what is known of it.
    Instance(Instance),
    /// A file.
    File(PathBuf),
    /// The contents of a file.
    Json(Vec<u8>),
    /// A TUF repository, and a root of it from which trust begins.
    Tuf {
        /// Its base URL; metadata lies there, targets in `targets/`.
        url: Url,
        /// The contents of `root.json`, in any version.
        root: Vec<u8>,
    },
}

/// The instances that are built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instance {
    /// The public-good instance of the Sigstore project.
    PublicGood,
    /// Its staging instance, where nothing is to be trusted.
    Staging,
}

impl Instance {
    fn url(self) -> &'static str {
        match self {
            Self::PublicGood => "https://tuf-repo-cdn.sigstore.dev/",
            Self::Staging => "https://tuf-repo-cdn.sigstage.dev/",
        }
    }

    /// The TUF root that trust begins from; later ones are found by its signatures.
    fn root(self) -> &'static [u8] {
        match self {
            Self::PublicGood => include_bytes!("trust/public-good.root.json"),
            Self::Staging => include_bytes!("trust/staging.root.json"),
        }
    }

    /// The trusted root of the day when the `sigstore-*` crates were released.
    fn trusted_root(self) -> &'static str {
        match self {
            Self::PublicGood => SigstoreInstance::PublicGood,
            Self::Staging => SigstoreInstance::Staging,
        }
        .embedded_trusted_root_json()
    }
}

/// Loads trusted roots, with the TLS roots, the proxies and the deadline of a run.
pub struct Roots {
    registry: Registry,
    offline: bool,
    cache: Option<PathBuf>,
}

impl Roots {
    /// If `offline`, no TUF repository is asked.
    pub fn new(registry: &Registry, offline: bool) -> Self {
        Self { registry: registry.clone(), offline, cache: cache() }
    }

    /// Loads a trusted root; `note` is told what the user should know about it.
    ///
    /// # Errors
    /// When it cannot be had, or its metadata does not hold. What was fetched earlier is used if
    /// it still holds and the run is offline, and then nothing else is put in its place.
    pub async fn load(
        &self,
        source: &TrustSource,
        transparency: Transparency,
        note: impl Fn(&str),
    ) -> Result<Trust, Error> {
        let (bytes, from) = self.bytes(source, note).await?;
        Trust::new(&bytes, transparency).map_err(|error| {
            Error::undecided(format!("the trusted root {from} cannot be used")).because(error)
        })
    }

    /// The JSON of a trusted root, and where it is from, in words.
    async fn bytes(&self, source: &TrustSource, note: impl Fn(&str)) -> Result<(Vec<u8>, String), Error> {
        let (url, root) = match source {
            TrustSource::File(path) => {
                let shown = path.display();
                let bytes = files::read(path).map_err(|error| {
                    Error::undecided(format!("cannot read the trusted root `{shown}`")).because(error)
                })?;
                return Ok((bytes, format!("`{shown}`")));
            }
            TrustSource::Json(bytes) => return Ok((bytes.clone(), "of the policy".to_owned())),
            TrustSource::Instance(instance) => (parse(instance.url())?, instance.root().to_vec()),
            TrustSource::Tuf { url, root } => (url.clone(), root.clone()),
        };
        // One folder for each repository as seen from each root.
        let key = Digest::of(&[url.as_str().as_bytes(), &root[..]].concat()).hex();
        let name = format!("{}-{}", url.host_str().unwrap_or_default(), key.get(..16).unwrap_or_default());
        let cache = self.cache.as_deref().map(|folder| Cache::new(&folder.join(name)));
        let kept = cache.as_ref().filter(|cache| cache.is_filled());
        let bytes = match (self.offline, kept, source) {
            (false, ..) => self.fetch(&url, &root, cache.as_ref()).await?,
            (true, Some(cache), _) => read(cache, &root).await?,
            (true, None, TrustSource::Instance(instance)) => {
                note(
                    "nothing of the TUF repository was fetched before: the trusted root that is built in \
                     is used, which knows nothing of keys that were replaced since",
                );
                instance.trusted_root().as_bytes().to_vec()
            }
            (true, None, _) => {
                return Err(Error::undecided(format!("nothing of {url} was fetched before"))
                    .hint("run it once without `--offline`, or give `--trusted-root`"));
            }
        };
        Ok((bytes, format!("of {url}")))
    }

    async fn fetch(&self, url: &Url, root: &[u8], cache: Option<&Cache>) -> Result<Vec<u8>, Error> {
        let failed = || Error::undecided(format!("cannot get the trusted root from {url}"));
        let hint = "`--offline` uses what was fetched last, as long as it is valid; `--trusted-root` a file";
        let remote = Remote { service: Service::new(&self.registry), base: directory(url)? };
        let work = async {
            let updater = updater(remote, root)?;
            target(match cache {
                Some(cache) => updater.with_store(cache.clone()),
                None => updater,
            })
            .await
        };
        // Each request ends with the time of the run.
        work.await.map_err(|error| failed().because(error).hint(hint))
    }
}

/// Reads a trusted root from what was fetched earlier. All of it is verified again: others may
/// write to a cache.
async fn read(cache: &Cache, root: &[u8]) -> Result<Vec<u8>, Error> {
    let work =
        async { target(updater(StoreRepository::new(cache.clone()), root)?.with_store(cache.clone())).await };
    work.await.map_err(|error| {
        Error::undecided(format!("what was fetched before does not hold: `{}`", cache.folder.display()))
            .because(error)
            .hint("run it once without `--offline`; if it is not out of date, ask who changed the folder")
    })
}

fn updater(repository: impl Repository + 'static, root: &[u8]) -> sigstore_tuf::Result<Updater> {
    let mut config = UpdaterConfig::default();
    config.target_max_length = MAX_BYTES;
    Ok(Updater::new(repository, root)?.with_config(config))
}

async fn target(mut updater: Updater) -> sigstore_tuf::Result<Vec<u8>> {
    let now = clock::now();
    updater.refresh(now).await?;
    updater.get_target(TARGET, now).await
}

/// A TUF repository on the network.
struct Remote {
    service: Service,
    base: Url,
}

impl Remote {
    async fn get(&self, path: &str, max: u64) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        let url = self.base.join(path).map_err(|error| {
            sigstore_tuf::Error::transport_with_source(format!("no URL for {path:?}"), error)
        })?;
        let limit = usize::try_from(max.min(MAX_BYTES)).unwrap_or(usize::MAX);
        let answer = self.service.fetch(&url, limit).await.map_err(|error| {
            sigstore_tuf::Error::transport_with_source(format!("no {path} of the repository"), error)
        })?;
        match answer.status {
            200 => Ok(Some(answer.bytes)),
            // Object stores say 403 of what is not there.
            403 | 404 => Ok(None),
            status => Err(sigstore_tuf::Error::transport(refused(&url, status, &answer.bytes).to_string())),
        }
    }
}

impl Repository for Remote {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(self.get(name, max_length))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { self.get(&format!("targets/{path}"), max_length).await })
    }
}

/// What was fetched from one TUF repository. Reading is bounded.
#[derive(Debug, Clone)]
struct Cache {
    folder: PathBuf,
    files: FileStore,
}

impl Cache {
    fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), files: FileStore::new(folder) }
    }

    /// Whether anything was ever fetched, as far as can be told: a part of it, or what cannot be
    /// looked at, is not nothing.
    fn is_filled(&self) -> bool {
        ["timestamp.json", "snapshot.json", "targets.json", "targets"]
            .iter()
            .any(|name| !matches!(self.folder.join(name).try_exists(), Ok(false)))
    }
}

impl MetadataStore for Cache {
    fn load(&self, name: &str) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        match files::read(&self.folder.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(sigstore_tuf::Error::io(format!("reading {name}"), error)),
        }
    }

    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::Result<()> {
        self.files.store(name, bytes)
    }
}

/// The folder for what can be fetched again (XDG base directory specification).
fn cache() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(caches.join("quorate/tuf"))
}

fn parse(url: &str) -> Result<Url, Error> {
    Url::parse(url).map_err(|error| Error::request(format!("`{url}` is not a URL")).because(error))
}

/// With a slash at its end, so that names are joined below it.
fn directory(url: &Url) -> Result<Url, Error> {
    if url.path().ends_with('/') { Ok(url.clone()) } else { parse(&format!("{url}/")) }
}

#[cfg(test)]
mod tests {
    use sigstore_tuf::TrustedMetadataSet;

    use super::*;

    #[test]
    fn what_is_built_in_holds() {
        crate::init().unwrap();
        for instance in [Instance::PublicGood, Instance::Staging] {
            let metadata = TrustedMetadataSet::from_root(instance.root()).unwrap();
            assert!(metadata.root().consistent_snapshot);
            Trust::from_json(instance.trusted_root().as_bytes()).unwrap();
            assert!(parse(instance.url()).unwrap().path().ends_with('/'));
        }
    }
}
