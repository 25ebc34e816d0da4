//! Proof packs beside the image that they are of, under a tag that follows from its
//! digest on every registry.

use futures_util::future::try_join_all;

use crate::oci::reference::ReferenceError;
use crate::oci::{Digest, Manifest, Repository, Tag};

use super::error::{Asked, Error};
use super::host::Access;
use super::manifest::MAX_MANIFEST;
use super::{Registry, retry};

impl Registry {
    /// The pack that is attached to an image, as the registry sends it. `Ok(None)` only when the
    /// registry says 404.
    pub async fn pack(&self, repository: &Repository, image: Digest) -> Result<Option<Vec<u8>>, Error> {
        let reference = repository.at_tag(pack_tag(image)?);
        Ok(self.fetch_manifest(&reference, MAX_MANIFEST, true).await?.map(|fetched| fetched.bytes))
    }

    /// Attaches a pack to its image, in the place of an older one, and reads it back.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the tag names something else after it was written.
    pub async fn attach_pack(
        &self,
        repository: &Repository,
        image: Digest,
        pack: &Manifest,
    ) -> Result<Tag, Error> {
        let tag = pack_tag(image)?;
        self.announce(repository, Access::Push)?;
        // Registries want what a manifest names, inlined or not.
        let parts = pack.layers.iter().chain([&pack.config]).filter_map(|part| part.data.clone());
        try_join_all(parts.map(|bytes| self.push_blob(repository, bytes))).await?;
        self.put_tag(repository, &tag, &pack.media_type, pack.bytes()).await?;
        let mut delays = retry::delays();
        loop {
            let reference = repository.at_tag(tag.clone());
            let now = self.fetch_manifest(&reference, MAX_MANIFEST, true).await?.map(|found| found.digest);
            if now == Some(pack.digest()) {
                return Ok(tag);
            }
            let Some(delay) = delays.next() else {
                let url = format!("{repository}:{tag}");
                let asked = Asked { method: "GET".into(), url: url.into(), host: repository.host().into() };
                let why = "it does not name the pack that was written; somebody else writes it".to_owned();
                return Err(Error::Malformed { asked, why });
            };
            tokio::time::sleep(delay).await;
        }
    }
}

/// `sha256-<hex>.q-pack`.
fn pack_tag(image: Digest) -> Result<Tag, Error> {
    format!("sha256-{}.q-pack", image.hex())
        .parse()
        .map_err(|error: ReferenceError| Error::Setup(error.to_string()))
}
