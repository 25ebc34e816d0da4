//! The referrers tag (distribution-spec, "Referrers Tag Schema"): one index, shared by all tools
//! and written by all of them, on registries without the referrers API.
//!
//! Two writers at once lose one another's entry, whatever each does, since no registry compares
//! before it swaps. `quorate` therefore keeps its evidence under derived tags, and writes here
//! only for the sake of other tools.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::oci::json::{Shape, parse};
use crate::oci::{Descriptor, Digest, ImageIndex, Manifest, Repository, Tag, media_type};

use super::Registry;
use super::error::Error;
use super::manifest::{MAX_MANIFEST, RawManifest};
use super::referrers::MAX_ENTRIES;
use super::retry;

/// The tag `sha256-<hex>`.
pub(super) fn tag(subject: Digest) -> Option<Tag> {
    format!("sha256-{}", subject.hex()).parse().ok()
}

impl Registry {
    /// What the referrers tag lists: hints only, for anybody writes there.
    ///
    /// Absent, or pointing at the subject itself (as on GitLab, where such a tag is an alias):
    /// nothing. Anything else that is no index, or cannot be read, is an error.
    pub(super) async fn fallback_entries(
        &self,
        repository: &Repository,
        subject: Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        let Some(raw) = self.fallback(repository, subject).await? else {
            return Ok(Vec::new());
        };
        let what = format!("the referrers tag of {repository}@{subject}");
        let index = ImageIndex::parse(raw.bytes).map_err(|error| Error::Malformed {
            asked: super::Asked {
                method: "GET".into(),
                url: what.as_str().into(),
                host: repository.host().into(),
            },
            why: error.to_string(),
        })?;
        if index.manifests.len() > MAX_ENTRIES {
            return Err(Error::TooMany { what, limit: MAX_ENTRIES });
        }
        Ok(index.manifests)
    }

    async fn fallback(&self, repository: &Repository, subject: Digest) -> Result<Option<RawManifest>, Error> {
        let Some(tag) = tag(subject) else {
            return Ok(None);
        };
        let found = self.manifest_now(&repository.at_tag(tag)).await?;
        Ok(found.filter(|raw| raw.digest != subject))
    }

    /// Adds `manifest` to the referrers tag, keeping every entry that is there.
    ///
    /// # Errors
    /// In words, for a note: what failed is a courtesy to other tools.
    pub(super) async fn add_to_fallback(
        &self,
        repository: &Repository,
        subject: Digest,
        manifest: &Manifest,
    ) -> Result<(), String> {
        let tag = tag(subject).ok_or_else(|| "it makes no tag".to_owned())?;
        let words = |error: Error| error.to_string();
        for delay in retry::delays() {
            let now = self.manifest_now(&repository.at_tag(tag.clone())).await;
            let now = match now.map_err(words)? {
                Some(raw) if raw.digest == subject => {
                    return Err("the tag is another name of the image itself".to_owned());
                }
                now => now,
            };
            let Some(bytes) = merged(now.as_ref(), manifest)? else {
                return Ok(());
            };
            self.put_tag(repository, &tag, media_type::INDEX, &bytes).await.map_err(words)?;
            // The wait lets a writer who read before us overwrite us first, so that we see it.
            tokio::time::sleep(delay).await;
        }
        let now = self.manifest_now(&repository.at_tag(tag)).await.map_err(words)?;
        match merged(now.as_ref(), manifest)? {
            None => Ok(()),
            Some(_) => Err("others write to it at the same time".to_owned()),
        }
    }
}

/// The index with `manifest` in it, or `None` if it is there already.
fn merged(now: Option<&RawManifest>, manifest: &Manifest) -> Result<Option<Vec<u8>>, String> {
    let mut index = match now {
        None => json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": []}),
        Some(raw) if raw.media_type == media_type::INDEX => {
            parse(&raw.bytes, &Shape::Any).map_err(|error| error.to_string())?
        }
        Some(raw) => return Err(format!("it is a {}, not an index", raw.media_type)),
    };
    let digest = manifest.digest().to_string();
    let entries = index
        .get_mut("manifests")
        .and_then(Value::as_array_mut)
        .ok_or_else(|| "it lists no manifests".to_owned())?;
    if entries.iter().any(|entry| entry.get("digest").and_then(Value::as_str) == Some(&digest)) {
        return Ok(None);
    }
    if entries.len() >= MAX_ENTRIES {
        return Err(format!("it is full: {MAX_ENTRIES} entries"));
    }
    let annotations: &BTreeMap<String, String> = &manifest.annotations;
    entries.push(json!({
        "mediaType": manifest.media_type,
        "digest": digest,
        "size": manifest.bytes().len(),
        "artifactType": manifest.artifact_type,
        "annotations": annotations,
    }));
    let bytes = serde_json::to_vec(&index).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err("it would be larger than 4 MiB".to_owned());
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_what_others_wrote() {
        let subject = Descriptor::of(media_type::MANIFEST, b"subject");
        let annotations = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let ours = Manifest::artifact(
            media_type::BUNDLE,
            Descriptor::of(media_type::BUNDLE, b"{}"),
            &subject,
            annotations,
        )
        .unwrap();
        let raw = |text: &str| RawManifest {
            bytes: text.as_bytes().to_vec(),
            digest: Digest::of(text.as_bytes()),
            media_type: media_type::INDEX.to_owned(),
        };
        let theirs = raw(
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"x/y","digest":"sha512:00","size":1,"new":true}],"annotations":{"a":"b"}}"#,
        );
        let bytes = merged(Some(&theirs), &ours).unwrap().unwrap();
        let index: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(index["annotations"]["a"], "b");
        assert_eq!(index["manifests"][0]["new"], true);
        assert_eq!(index["manifests"][1]["artifactType"], media_type::BUNDLE);
        assert_eq!(index["manifests"][1]["annotations"]["k"], "v");
        let again = raw(std::str::from_utf8(&bytes).unwrap());
        assert_eq!(merged(Some(&again), &ours), Ok(None));
        let bytes = merged(None, &ours).unwrap().unwrap();
        assert_eq!(ImageIndex::parse(bytes).unwrap().manifests.len(), 1);
        assert!(merged(Some(&raw(r#"{"layers":[]}"#)), &ours).is_err());
    }
}
