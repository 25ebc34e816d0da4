//! What is to be judged: an index, with the manifests and configurations of its children; or the
//! manifest of one image, where the rule allows that.

use std::collections::BTreeMap;

use super::file::ImageRule;
use crate::oci::{Config, Descriptor, Digest, ImageIndex, Manifest, Platform, Repository, media_type};
use crate::reason::Reason;
use crate::text::shortened;

/// Something about the image itself that no vote can mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason code.
    pub reason: Reason,
    /// The same in words, with what was found.
    pub detail: String,
}

/// The image under judgement. It is filled as content is fetched; whatever is not there when the
/// decision is made counts as absent, and refuses it.
#[derive(Debug, Clone)]
pub struct Candidate {
    repository: Repository,
    media_type: String,
    bytes: Vec<u8>,
    digest: Digest,
    form: Result<Form, Refusal>,
    children: BTreeMap<Digest, Child>,
}

/// What the image is.
#[derive(Debug, Clone)]
enum Form {
    Index(ImageIndex),
    /// One image without an index; the descriptor is that of the image itself.
    Single(Descriptor),
}

/// What is known of one child of the index.
#[derive(Debug, Clone, Default)]
struct Child {
    manifest: Option<Result<Manifest, Refusal>>,
    config: Option<Result<Config, Refusal>>,
}

/// A child that holds together: descriptor, manifest and configuration say the same.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub platform: Platform,
    pub digest: Digest,
    pub config_digest: Digest,
}

impl Refusal {
    pub(super) fn shortened(self) -> Self {
        Self { detail: shortened(self.detail), ..self }
    }
}

fn refuse<T>(reason: Reason, detail: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { reason, detail: detail.into() })
}

impl Candidate {
    /// Reads what the registry gave for the image: `bytes` of the stated media type.
    pub fn read(repository: Repository, stated_type: &str, bytes: Vec<u8>) -> Self {
        let digest = Digest::of(&bytes);
        let form = if media_type::is_index(stated_type) {
            ImageIndex::parse(bytes.clone())
                .map_err(|error| error.to_string())
                .and_then(|index| {
                    let own = &index.media_type;
                    if own == stated_type {
                        return Ok(Form::Index(index));
                    }
                    Err(format!("the registry says `{stated_type}`, the index `{own}`"))
                })
                .map_err(|detail| Refusal { reason: Reason::IndexMalformed, detail })
        } else if media_type::is_manifest(stated_type) {
            Ok(Form::Single(Descriptor::of(stated_type, &bytes)))
        } else {
            let shown: String = stated_type.chars().filter(|c| !c.is_control()).take(100).collect();
            refuse(Reason::NotAnIndex, format!("the image is of type `{shown}`"))
        };
        let media_type = stated_type.to_owned();
        Self { repository, media_type, bytes, digest, form, children: BTreeMap::new() }
    }

    /// Where the image is.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The digest of the bytes under judgement.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The media type that the registry states for those bytes.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The bytes under judgement, as they were read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it is a well-formed index.
    pub(super) fn is_index(&self) -> bool {
        matches!(self.form, Ok(Form::Index(_)))
    }

    /// Whether it is one image without an index.
    pub fn is_single(&self) -> bool {
        matches!(self.form, Ok(Form::Single(_)))
    }

    /// The children whose manifests are to be fetched: of one image without an index, itself.
    pub fn manifests(&self) -> &[Descriptor] {
        match &self.form {
            Ok(Form::Index(index)) => &index.manifests,
            Ok(Form::Single(itself)) => std::slice::from_ref(itself),
            Err(_) => &[],
        }
    }

    /// The manifests of the children, as far as they were added and are well-formed.
    pub fn children(&self) -> impl Iterator<Item = &Manifest> {
        self.children.values().filter_map(|child| child.manifest.as_ref()?.as_ref().ok())
    }

    /// Adds the manifest of a child, `None` if the registry does not have it. Returns the
    /// configuration to be fetched next, if the manifest is one.
    pub fn add_manifest(&mut self, of: &Descriptor, bytes: Option<Vec<u8>>) -> Option<Descriptor> {
        let manifest = match bytes {
            None => refuse(Reason::ChildAbsent, format!("there is no manifest {}", of.digest)),
            Some(bytes) if !of.names(&bytes) => refuse(
                Reason::ChildMalformed,
                format!("the manifest {} has another size or digest than its descriptor", of.digest),
            ),
            Some(bytes) => Manifest::parse(bytes).map_err(|error| Refusal {
                reason: Reason::ChildMalformed,
                detail: format!("the manifest {}: {error}", of.digest),
            }),
        };
        let config = manifest.as_ref().ok().map(|manifest| manifest.config.clone());
        self.children.entry(of.digest).or_default().manifest = Some(manifest);
        config
    }

    /// Adds the configuration of the child `of`, `None` if the registry does not have it.
    pub fn add_config(&mut self, of: &Descriptor, bytes: Option<&[u8]>) {
        let child = self.children.entry(of.digest).or_default();
        let Some(Ok(manifest)) = &child.manifest else { return };
        let config = match bytes {
            None => {
                refuse(Reason::ChildAbsent, format!("there is no configuration {}", manifest.config.digest))
            }
            Some(bytes) if !manifest.config.names(bytes) => refuse(
                Reason::ChildMalformed,
                format!("the configuration {} has another size or digest", manifest.config.digest),
            ),
            Some(bytes) => Config::parse(bytes).map_err(|error| Refusal {
                reason: Reason::ChildMalformed,
                detail: format!("the configuration of {}: {error}", of.digest),
            }),
        };
        child.config = Some(config);
    }

    /// The children that hold together, by platform, and whatever refuses the image.
    pub(super) fn images(&self, rule: Option<&ImageRule>) -> (BTreeMap<Platform, Image>, Vec<Refusal>) {
        let mut images = BTreeMap::new();
        let mut refusals = Vec::new();
        let lone = rule.filter(|rule| rule.single && self.is_single());
        match &self.form {
            Err(refusal) => refusals.push(refusal.clone()),
            Ok(Form::Single(_)) if lone.is_none() => refusals.push(Refusal {
                reason: Reason::NotAnIndex,
                detail: "it is one image without an index, and the policy has no `single = true` for it"
                    .to_owned(),
            }),
            Ok(_) => {
                for descriptor in self.manifests() {
                    match self.image(descriptor, lone) {
                        Err(refusal) => refusals.push(refusal),
                        Ok(image) => {
                            if let Some(other) = images.insert(image.platform.clone(), image) {
                                let why = format!("{} stands twice in the index", other.platform);
                                refusals.push(Refusal { reason: Reason::PlatformTwice, detail: why });
                            }
                        }
                    }
                }
            }
        }
        (images, refusals)
    }

    /// `lone` is the rule for one image without an index, of which no descriptor says the platform.
    fn image(&self, descriptor: &Descriptor, lone: Option<&ImageRule>) -> Result<Image, Refusal> {
        let digest = descriptor.digest;
        if !media_type::is_manifest(&descriptor.media_type) {
            return refuse(Reason::IndexNested, format!("{digest} is of type `{}`", descriptor.media_type));
        }
        if descriptor.has_urls {
            return refuse(
                Reason::ChildMalformed,
                format!("{digest} sends readers to other addresses (`urls`)"),
            );
        }
        if descriptor.platform.is_none() && lone.is_none() {
            return refuse(Reason::ChildPlatform, format!("{digest} has no platform in the index"));
        }
        let child = self.children.get(&digest);
        let absent = || Refusal { reason: Reason::ChildAbsent, detail: format!("{digest} was not found") };
        let manifest =
            child.and_then(|c| c.manifest.as_ref()).ok_or_else(absent)?.as_ref().map_err(Clone::clone)?;
        if manifest.media_type != descriptor.media_type {
            let stated = &manifest.media_type;
            return refuse(Reason::ChildMalformed, format!("{digest} states another type, `{stated}`"));
        }
        if manifest.artifact_type.is_some() || !media_type::is_config(&manifest.config.media_type) {
            let reason = if lone.is_some() { Reason::NotAnIndex } else { Reason::IndexNested };
            return refuse(reason, format!("{digest} is an artifact, not an image"));
        }
        if let Some(part) = manifest.layers.iter().chain([&manifest.config]).find(|part| part.has_urls) {
            return refuse(Reason::ChildMalformed, format!("{} in {digest} has `urls`", part.digest));
        }
        if manifest.config.size > Config::MAX_BYTES {
            let size = manifest.config.size;
            return refuse(Reason::ChildMalformed, format!("the configuration of {digest} has {size} bytes"));
        }
        let config =
            child.and_then(|c| c.config.as_ref()).ok_or_else(absent)?.as_ref().map_err(Clone::clone)?;
        let platform = match (&descriptor.platform, lone) {
            (Some(stated), _) => stated.clone(),
            (None, Some(rule)) => rule.platform_of(config).or_else(|[one, other]| {
                refuse(
                    Reason::ChildPlatform,
                    format!("the configuration of {digest} fits {one} and {other}; give it a variant, or put it into an index"),
                )
            })?,
            (None, None) => config.platform.clone(),
        };
        if !config.fits(&platform) {
            let stated = &config.platform;
            return refuse(
                Reason::ChildPlatform,
                format!("the configuration of {digest} states {stated}, the index {platform}"),
            );
        }
        if config.diff_ids.len() != manifest.layers.len() {
            return refuse(
                Reason::ChildMalformed,
                format!(
                    "{digest} has {} layers and {} diff_ids",
                    manifest.layers.len(),
                    config.diff_ids.len()
                ),
            );
        }
        Ok(Image { platform, digest, config_digest: config.digest })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::vectors::{Pushed, descriptor, index, platform};

    type Change<'a> = &'a dyn Fn(&mut Value);

    /// What refuses an index of one image, where its manifest, and its entry in the index, are changed.
    fn refused(manifest: impl Fn(&mut Value), entry: impl Fn(&mut Value)) -> Vec<Reason> {
        let pushed = Pushed::new("app", 1, "linux/amd64");
        let mut document: Value = serde_json::from_slice(&pushed.manifest).unwrap();
        manifest(&mut document);
        let bytes = serde_json::to_vec(&document).unwrap();
        let mut named = descriptor(media_type::MANIFEST, &bytes);
        named["platform"] = platform("linux/amd64");
        entry(&mut named);
        judged(media_type::INDEX, &[named], &bytes, &pushed.config)
    }

    fn judged(stated: &str, entries: &[Value], manifest: &[u8], config: &[u8]) -> Vec<Reason> {
        let bytes = index(entries);
        let mut candidate = Candidate::read("ghcr.io/acme/app".parse().unwrap(), stated, bytes);
        if let [child] = candidate.manifests().to_vec().as_slice()
            && candidate.add_manifest(child, Some(manifest.to_vec())).is_some()
        {
            candidate.add_config(child, Some(config));
        }
        candidate.images(None).1.into_iter().map(|refusal| refusal.reason).collect()
    }

    #[test]
    fn a_child_that_does_not_hold_together_is_refused() {
        let same = |_: &mut Value| {};
        assert_eq!(refused(same, same), []);
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let malformed: [(&str, Change<'_>, Change<'_>); 7] = [
            ("fewer layers than diff_ids", &|m| m["layers"] = json!([]), &same),
            ("a layer elsewhere", &|m| m["layers"][0]["urls"] = json!(["https://a.example"]), &same),
            ("a configuration elsewhere", &|m| m["config"]["urls"] = json!(["https://a.example"]), &same),
            ("a configuration of 4 MiB and a byte", &|m| m["config"]["size"] = json!((4 << 20) + 1), &same),
            ("a configuration of another size", &|m| m["config"]["size"] = json!(1), &same),
            ("a manifest elsewhere", &same, &|e| e["urls"] = json!(["https://a.example"])),
            ("a manifest of another type", &same, &|e| e["mediaType"] = json!(docker)),
        ];
        for (what, manifest, entry) in malformed {
            assert_eq!(refused(manifest, entry), [Reason::ChildMalformed], "{what}");
        }
        assert_eq!(refused(same, |e| e["size"] = json!(1)), [Reason::ChildMalformed], "another size");
        let artifacts: [Change<'_>; 2] = [&|m| m["artifactType"] = json!("application/vnd.example"), &|m| {
            m["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json");
        }];
        for artifact in artifacts {
            assert_eq!(refused(artifact, same), [Reason::IndexNested]);
        }
    }

    #[test]
    fn the_bytes_are_those_that_are_named_and_of_the_type_that_is_stated() {
        let (pushed, other) = (Pushed::new("app", 1, "linux/amd64"), Pushed::new("other", 1, "linux/amd64"));
        let mut entry = descriptor(media_type::MANIFEST, &pushed.manifest);
        entry["platform"] = platform("linux/amd64");
        let entries = [entry];
        let of = |stated: &str, manifest: &[u8], config: &[u8]| judged(stated, &entries, manifest, config);
        assert_eq!(of(media_type::INDEX, &pushed.manifest, &pushed.config), []);
        assert_eq!(of(media_type::INDEX, &other.manifest, &other.config), [Reason::ChildMalformed]);
        assert_eq!(of(media_type::INDEX, &pushed.manifest, &other.config), [Reason::ChildMalformed]);
        let list = "application/vnd.docker.distribution.manifest.list.v2+json";
        assert_eq!(of(list, &pushed.manifest, &pushed.config), [Reason::IndexMalformed]);
    }
}
