//! Manifests and tags (distribution-spec, "Pulling manifests", "Pushing manifests").

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::edge::interrupt::Interrupt;
use crate::oci::{Digest, Reference, Repository, Tag, Target, media_type};

use super::Registry;
use super::error::{Asked, Error};
use super::host::{Access, Host};
use super::retry;
use super::transport::{Answer, Call, Follow, Payload, unexpected};

/// Bytes of a manifest or an index.
pub(super) const MAX_MANIFEST: u64 = 4 * 1024 * 1024;

/// Everything that may be answered, in one header: some registries look at the first line only,
/// and some say 404 to what they would have to convert.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or index as the registry sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// The bytes, unchanged.
    pub bytes: Vec<u8>,
    /// Their digest, computed here.
    pub digest: Digest,
    /// What header and document both say they are.
    pub media_type: String,
}

/// Manifests that are held, each once.
pub type Held = Mutex<BTreeMap<Digest, Arc<RawManifest>>>;

/// Bytes whose digest is right, before anything else is known of them.
pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
    pub(super) content_type: Option<String>,
    asked: Asked,
}

impl Fetched {
    /// Takes them for a manifest, if header and document agree on its media type.
    pub(super) fn into_manifest(self) -> Result<RawManifest, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Stated {
            #[serde(default)]
            media_type: String,
        }
        let malformed = |why: String| Error::Malformed { asked: self.asked.clone(), why };
        let Some(content_type) = self.content_type.clone() else {
            return Err(malformed("it has no Content-Type".to_owned()));
        };
        if !media_type::is_index(&content_type) && !media_type::is_manifest(&content_type) {
            return Err(malformed(format!(
                "its Content-Type is `{}`, not that of a manifest or index",
                super::error::shown(&content_type)
            )));
        }
        let stated: Stated = serde_json::from_slice(&self.bytes)
            .map_err(|error| malformed(format!("not a manifest: {error}")))?;
        if stated.media_type != content_type {
            return Err(malformed(format!(
                "Content-Type is `{content_type}`, the document says `{}`",
                super::error::shown(&stated.media_type)
            )));
        }
        Ok(RawManifest { bytes: self.bytes, digest: self.digest, media_type: content_type })
    }
}

impl Registry {
    /// Fetches a manifest or index, byte for byte. `Ok(None)` only when the registry says 404.
    ///
    /// The digest is computed here and compared with the one asked for, and with the one the
    /// registry names. At most 4 MiB.
    pub async fn manifest(&self, reference: &Reference) -> Result<Option<RawManifest>, Error> {
        self.fetch_manifest(reference, MAX_MANIFEST, false).await?.map(Fetched::into_manifest).transpose()
    }

    /// The same past every cache: what a tag points to now.
    pub async fn manifest_now(&self, reference: &Reference) -> Result<Option<RawManifest>, Error> {
        self.fetch_manifest(reference, MAX_MANIFEST, true).await?.map(Fetched::into_manifest).transpose()
    }

    /// The same where many references may name one manifest: what is `held` is not held, nor
    /// counted, twice.
    pub async fn manifest_once(
        &self,
        reference: &Reference,
        held: &Held,
    ) -> Result<Option<Arc<RawManifest>>, Error> {
        let Some(fetched) = self.look_at_manifest(reference, MAX_MANIFEST, true).await? else {
            return Ok(None);
        };
        let raw = fetched.into_manifest()?;
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = held.get(&raw.digest).filter(|same| same.media_type == raw.media_type) {
            return Ok(Some(same.clone()));
        }
        self.keep(&raw.bytes)?;
        let raw = Arc::new(raw);
        held.insert(raw.digest, raw.clone());
        Ok(Some(raw))
    }

    /// The digest of what stands there now, read whole past every cache; nothing of it is kept.
    pub async fn digest_now(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let found = self.look_at_manifest(reference, MAX_MANIFEST, true).await?;
        found.map(|fetched| Ok(fetched.into_manifest()?.digest)).transpose()
    }

    /// Whether something stands there, whatever it is.
    pub async fn has(&self, reference: &Reference) -> Result<bool, Error> {
        match self.look_at_manifest(reference, MAX_MANIFEST, true).await {
            Ok(found) => Ok(found.is_some()),
            Err(Error::TooLarge { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn fetch_manifest(
        &self,
        reference: &Reference,
        limit: u64,
        fresh: bool,
    ) -> Result<Option<Fetched>, Error> {
        let found = self.look_at_manifest(reference, limit, fresh).await?;
        if let Some(fetched) = &found {
            self.keep(&fetched.bytes)?;
        }
        Ok(found)
    }

    /// The same for bytes that the caller does not keep.
    async fn look_at_manifest(
        &self,
        reference: &Reference,
        limit: u64,
        fresh: bool,
    ) -> Result<Option<Fetched>, Error> {
        let repository = &reference.repository;
        let host = self.host(repository)?;
        let path = repository.path();
        let rest = format!("manifests/{}", reference.target);
        let call = host.call(Method::GET, path, &rest, Access::Pull)?;
        let asked = call.asked(&host);
        let call = Call { accept: Some(ACCEPT), limit, follow: Follow::SameOrigin, fresh, ..call };
        let answer = self.send(&host, call).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.refusal(&host, path, asked, &answer).await),
        }
        let found = Digest::of(&answer.body);
        let wanted = match reference.target {
            Target::Digest(digest) => Some(digest),
            Target::Tag(_) => None,
        };
        let named = named_digest(&answer, &asked)?;
        if let Some(expected) = [wanted, named].into_iter().flatten().find(|expected| *expected != found) {
            return Err(Error::DigestMismatch { asked, expected, found });
        }
        Ok(Some(Fetched { content_type: answer.content_type(), bytes: answer.body, digest: found, asked }))
    }

    /// Pushes a manifest or index by digest. Asking twice does no harm, so it is retried.
    pub async fn push_manifest(
        &self,
        repository: &Repository,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        self.put(repository, &digest.to_string(), media_type, bytes, true).await?;
        Ok(digest)
    }

    /// Pushes a manifest by digest and names `tags` in the same request (distribution-spec,
    /// "Pushing Manifests", the query parameter `tag`). Only the tags that the registry confirms
    /// in `OCI-Tag` are set: one that does not know the parameter passes over it.
    pub(in crate::edge) async fn push_tagged(
        &self,
        repository: &Repository,
        tags: &[&Tag],
        media_type: &str,
        bytes: &[u8],
    ) -> Result<BTreeSet<Tag>, Error> {
        let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
        let target = format!("{}?{}", Digest::of(bytes), query.join("&"));
        let answer = self.put(repository, &target, media_type, bytes, false).await?;
        let confirmed = answer.headers.get_all("oci-tag").iter().filter_map(|value| value.to_str().ok());
        let confirmed =
            confirmed.flat_map(|value| value.split(',')).filter_map(|tag| tag.trim().parse().ok());
        Ok(confirmed.filter(|tag| tags.contains(&tag)).collect())
    }

    /// Points a tag at a manifest. After a failure the tag is read before it is written again:
    /// the first write may have arrived, and somebody else may have written since.
    pub(crate) async fn put_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let unasked = Interrupt::default();
        self.put_tag_after(OnceLock::new(), repository, tag, media_type, bytes, &unasked).await
    }

    /// The same for a tag that named `before` until now. If it names anything else after a
    /// failure, somebody else moved it, and it is left alone. After an interrupt a write that
    /// failed is not tried again.
    pub(in crate::edge) async fn move_tag(
        &self,
        before: Option<Digest>,
        repository: &Repository,
        tag: &Tag,
        media_type: &str,
        bytes: &[u8],
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        self.put_tag_after(OnceLock::from(before), repository, tag, media_type, bytes, interrupt).await
    }

    async fn put_tag_after(
        &self,
        before: OnceLock<Option<Digest>>,
        repository: &Repository,
        tag: &Tag,
        media_type: &str,
        bytes: &[u8],
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        let target = tag.as_str();
        let reference = repository.at_tag(tag.clone());
        for delay in retry::delays() {
            let error = match self.put(repository, target, media_type, bytes, false).await {
                Ok(_) => return Ok(()),
                Err(
                    error @ (Error::Unreachable { .. }
                    | Error::Throttled { .. }
                    | Error::Server { .. }
                    | Error::Timeout { whole_run: false, .. }),
                ) => error,
                Err(error) => return Err(error),
            };
            let wait = match &error {
                Error::Throttled { retry_after: Some(wait), .. } => delay.max(*wait),
                _ => delay,
            };
            if std::time::Instant::now() + wait >= self.deadline {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
            let now =
                self.look_at_manifest(&reference, MAX_MANIFEST, true).await?.map(|fetched| fetched.digest);
            if now == Some(Digest::of(bytes)) {
                return Ok(());
            }
            // A tag that changes between two of our attempts is being moved by somebody else; and
            // after an interrupt, no further write begins.
            if *before.get_or_init(|| now) != now || interrupt.came() {
                return Err(error);
            }
        }
        self.put(repository, target, media_type, bytes, false).await?;
        Ok(())
    }

    /// PUTs a manifest to `manifests/<target>`.
    async fn put(
        &self,
        repository: &Repository,
        target: &str,
        media_type: &str,
        bytes: &[u8],
        retry: bool,
    ) -> Result<Answer, Error> {
        let host = self.host(repository)?;
        let path = repository.path();
        let call = host.call(Method::PUT, path, &format!("manifests/{target}"), Access::Push)?;
        let asked = call.asked(&host);
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(Error::TooLarge { what: asked.to_string(), limit: MAX_MANIFEST });
        }
        let body = Some((media_type.to_owned(), Payload::Bytes(Bytes::copy_from_slice(bytes))));
        let answer = self.send(&host, Call { body, retry, ..call }).await?;
        if !matches!(answer.status.as_u16(), 200..=202 | 204) {
            return Err(self.refusal(&host, path, asked, &answer).await);
        }
        let found = Digest::of(bytes);
        match named_digest(&answer, &asked)? {
            Some(named) if named != found => {
                Err(Error::DigestMismatch { asked, expected: found, found: named })
            }
            _ => Ok(answer),
        }
    }

    /// The error for an answer that is neither a success nor an absence.
    pub(super) async fn refusal(&self, host: &Host, path: &str, asked: Asked, answer: &Answer) -> Error {
        let lookup = if matches!(answer.status.as_u16(), 401 | 403) {
            self.lookup_note(host, path).await
        } else {
            None
        };
        unexpected(asked, host, answer, lookup)
    }
}

/// `Docker-Content-Digest`, which must be one if it is there.
pub(super) fn named_digest(answer: &Answer, asked: &Asked) -> Result<Option<Digest>, Error> {
    answer
        .headers
        .get("docker-content-digest")
        .map(|value| {
            value.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| Error::Malformed {
                asked: asked.clone(),
                why: "Docker-Content-Digest is no SHA-256 digest".to_owned(),
            })
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_bed::{Answer, Fault, FaultAction, Registry as Bed, RegistryOptions};

    use super::*;
    use crate::edge::registry::Options;

    /// A tag that may only be written through a permission is tested in here.
    struct Case {
        bed: Bed,
        registry: Registry,
        repository: Repository,
        one: Vec<u8>,
        two: Vec<u8>,
    }

    fn case() -> Case {
        crate::init().unwrap();
        let bed = Bed::start(RegistryOptions::default());
        let repository: Repository = format!("{}/acme/app", bed.host()).parse().unwrap();
        let registry =
            Registry::new(Options { deadline: Duration::from_secs(20), ..Options::default() }).unwrap();
        let index = |name: &str| {
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[],"annotations":{{"a":"{name}"}}}}"#,
                media_type::INDEX
            )
            .into_bytes()
        };
        Case { bed, registry, repository, one: index("one"), two: index("two") }
    }

    fn tag() -> Tag {
        "latest".parse().unwrap()
    }

    impl Case {
        async fn put(&self, bytes: &[u8]) -> Result<(), Error> {
            self.registry.put_tag(&self.repository, &tag(), media_type::INDEX, bytes).await
        }

        async fn now(&self) -> Option<Vec<u8>> {
            let reference = self.repository.at_tag(tag());
            let found = self.registry.manifest_now(&reference).await.unwrap();
            found.map(|raw| raw.bytes)
        }

        fn requests(&self) -> Vec<String> {
            self.bed.log().into_iter().map(|r| r.method).collect()
        }
    }

    #[tokio::test]
    async fn a_tag_write_is_one_request() {
        let case = case();
        case.put(&case.one).await.unwrap();
        assert_eq!(case.requests(), ["PUT"]);
        assert_eq!(case.now().await.unwrap(), case.one);
    }

    #[tokio::test]
    async fn a_write_that_arrived_is_not_repeated() {
        let case = case();
        for action in [
            FaultAction::AfterWriteStatus(Answer::status(500)),
            FaultAction::AfterWriteStatus(Answer::status(429)),
        ] {
            case.bed.clear_log();
            case.bed.fault(Fault::new(action).method("PUT").times(1));
            case.put(&case.one).await.unwrap();
            assert_eq!(case.requests(), ["PUT", "GET"]);
            case.put(&case.two).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_write_that_did_not_arrive_is_repeated_after_a_look() {
        let case = case();
        case.put(&case.one).await.unwrap();
        for action in [FaultAction::Reset, FaultAction::Status(Answer::status(503))] {
            case.put(&case.one).await.unwrap();
            case.bed.clear_log();
            case.bed.fault(Fault::new(action).method("PUT").times(1));
            case.put(&case.two).await.unwrap();
            assert_eq!(case.requests(), ["PUT", "GET", "PUT"]);
            assert_eq!(case.now().await.unwrap(), case.two);
        }
        case.bed.clear_log();
        let refuse = Fault::new(FaultAction::Status(Answer::status(403)));
        case.bed.fault(refuse.method("PUT"));
        assert_eq!(case.put(&case.one).await.unwrap_err().reason(), "registry-denied");
        assert_eq!(case.requests(), ["PUT"]);
        assert_eq!(case.now().await.unwrap(), case.two);
    }

    #[tokio::test]
    async fn a_write_is_not_repeated_blindly() {
        let case = case();
        case.put(&case.one).await.unwrap();
        case.bed.clear_log();
        for method in ["PUT", "GET"] {
            let fail = Fault::new(FaultAction::Status(Answer::status(500)));
            case.bed.fault(fail.method(method));
        }
        assert_eq!(case.put(&case.two).await.unwrap_err().reason(), "registry-server-error");
        let puts = case.requests().iter().filter(|m| *m == "PUT").count();
        assert_eq!(puts, 1);
    }
}
