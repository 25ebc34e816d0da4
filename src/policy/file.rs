//! The policy file (TOML), parsed into types that cannot hold a bad policy.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use serde::Deserialize;

use super::tag::{self, Glob, Pattern, TagKind, TagRule};
use crate::attestation::PublicKey;
use crate::oci::{Digest, Platform, Repository, Slot, System, Tag};
use crate::text::is_hidden;

/// A policy: which images there are rules for, and who may vote.
#[derive(Debug, Clone)]
pub struct Policy {
    digest: Digest,
    images: Vec<ImageRule>,
    builders: Vec<Builder>,
}

/// What a release of an image must be.
#[derive(Debug, Clone)]
pub struct ImageRule {
    pattern: RepositoryPattern,
    names: BTreeSet<Repository>,
    /// Platforms that every release has.
    pub required: BTreeMap<Platform, System>,
    /// Platforms that a release may have besides.
    pub optional: BTreeMap<Platform, System>,
    /// How many operators must agree, for every platform.
    pub quorum: NonZeroU32,
    /// The sources that a build may be of; empty: any.
    pub sources: BTreeSet<String>,
    tags: Vec<TagRule>,
}

/// Who may vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    /// The name in output, and the id in statements.
    pub name: String,
    /// The party behind it; the quorum counts parties.
    pub operator: String,
    /// Its identity.
    pub key: PublicKey,
    /// Under which its votes are kept on registries without the referrers API.
    pub slots: Vec<Slot>,
    ids: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum RepositoryPattern {
    Exact(Repository),
    /// Every repository below this path; it ends with a slash.
    Below(String),
}

/// Why a policy is refused at load.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, an unknown field, or a field of the wrong type; the message shows the place.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A rule that cannot be, named.
    #[error("{place}: {why}")]
    Rule {
        /// The table, such as `[[builder]] garnix`.
        place: String,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    image: Vec<FileImage>,
    #[serde(default)]
    builder: Vec<FileBuilder>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileImage {
    repository: String,
    platforms: Vec<String>,
    #[serde(default)]
    optional: Vec<String>,
    quorum: NonZeroU32,
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    names: Vec<String>,
    tag: Option<Vec<FileTag>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTag {
    name: String,
    rule: FileTagKind,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileTagKind {
    Immutable,
    Forward,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileBuilder {
    name: String,
    operator: String,
    key: String,
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    slots: Vec<String>,
}

impl Policy {
    /// Reads a policy. `read` gets the contents of a key file by the path written in the policy.
    ///
    /// The digest is the SHA-256 of the text alone where all keys are written inline; otherwise
    /// it goes on over each file that was read, in order: path, a zero byte, the length in
    /// decimal, a zero byte, the contents. So a pinned digest pins the keys too.
    ///
    /// # Errors
    /// Whatever could make the rule mean less than it seems to: see the reference page.
    pub fn parse(
        text: &str,
        mut read: impl FnMut(&str) -> Result<Vec<u8>, String>,
    ) -> Result<Self, PolicyError> {
        let file: File = toml::from_str(text)?;
        if file.version != 1 {
            return Err(rule(
                "version",
                format!("{} is not a version that is known; known is 1", file.version),
            ));
        }
        let mut pinned = text.as_bytes().to_vec();
        let mut builders = Vec::new();
        for builder in file.builder {
            let place = format!("[[builder]] {:?}", builder.name);
            let pem = if builder.key.contains("-----BEGIN") {
                builder.key.clone()
            } else {
                let bytes = read(&builder.key)
                    .map_err(|why| rule(&place, format!("cannot read `{}`: {why}", builder.key)))?;
                pinned.extend_from_slice(format!("{}\0{}\0", builder.key, bytes.len()).as_bytes());
                pinned.extend_from_slice(&bytes);
                String::from_utf8(bytes).map_err(|_| rule(&place, format!("`{}` is not PEM", builder.key)))?
            };
            let key = PublicKey::from_pem(&pem).map_err(|error| rule(&place, format!("key: {error}")))?;
            builders.push(builder.read(&place, key)?);
        }
        check_builders(&builders)?;
        let operators: BTreeSet<&str> = builders.iter().map(|b| b.operator.as_str()).collect();
        let mut images = Vec::new();
        for image in file.image {
            let place = format!("[[image]] {:?}", image.repository);
            let image = image.read(&place)?;
            if operators.len() < image.quorum.get() as usize {
                let (have, want) = (operators.len(), image.quorum);
                let s = if have == 1 { "" } else { "s" };
                return Err(rule(
                    &place,
                    format!("quorum = {want}, but the builders have {have} operator{s}"),
                ));
            }
            images.push(image);
        }
        let mut patterns = BTreeSet::new();
        for image in &images {
            if !patterns.insert(image.pattern.clone()) {
                return Err(rule("[[image]]", format!("two rules are for {}", image.pattern.shown())));
            }
        }
        Ok(Self { digest: Digest::of(&pinned), images, builders })
    }

    /// The SHA-256 that names this policy in every verdict.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Who may vote, in the order of the file.
    pub fn builders(&self) -> &[Builder] {
        &self.builders
    }

    /// The rule for `repository`: the exact one, else that of the longest path above it.
    pub fn image(&self, repository: &Repository) -> Option<&ImageRule> {
        let text = repository.to_string();
        let fits = |rule: &&ImageRule| match &rule.pattern {
            RepositoryPattern::Exact(exact) => exact == repository,
            RepositoryPattern::Below(path) => text.starts_with(path.as_str()),
        };
        let weight = |rule: &&ImageRule| match &rule.pattern {
            RepositoryPattern::Exact(_) => usize::MAX,
            RepositoryPattern::Below(path) => path.len(),
        };
        self.images.iter().filter(fits).max_by_key(weight)
    }

    /// The builder whose key this is.
    pub fn builder(&self, key: &PublicKey) -> Option<&Builder> {
        self.builders.iter().find(|builder| builder.key == *key)
    }

    /// Every slot under which a builder's votes may be kept.
    pub fn slots(&self) -> Vec<Slot> {
        self.builders.iter().flat_map(|builder| builder.slots.iter().cloned()).collect()
    }

    /// How many distinct operators the builders have: no quorum can be higher.
    pub fn operators(&self) -> usize {
        self.builders.iter().map(|b| b.operator.as_str()).collect::<BTreeSet<_>>().len()
    }
}

impl Builder {
    /// Whether a statement's `builder.id` names this builder.
    pub fn goes_by(&self, id: &str) -> bool {
        self.name == id || self.ids.contains(id)
    }
}

impl ImageRule {
    /// Whether a statement about `name` is about `repository`, for which this rule is.
    pub fn speaks_of(&self, name: &Repository, repository: &Repository) -> bool {
        if self.names.is_empty() { name == repository } else { self.names.contains(name) }
    }

    /// The platforms a release may have: required and optional.
    pub fn platforms(&self) -> impl Iterator<Item = (&Platform, System)> {
        self.required.iter().chain(&self.optional).map(|(platform, system)| (platform, *system))
    }

    /// How the policy lets `tag` move; `None` if it does not govern the tag.
    pub fn tag(&self, tag: &Tag) -> Option<TagKind> {
        tag::kind(&self.tags, tag)
    }

    pub(super) fn tag_rules(&self) -> &[TagRule] {
        &self.tags
    }
}

fn rule(place: &str, why: impl Into<String>) -> PolicyError {
    PolicyError::Rule { place: place.to_owned(), why: why.into() }
}

/// Names, keys, ids and slots must each lead to one builder.
fn check_builders(builders: &[Builder]) -> Result<(), PolicyError> {
    let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
    let mut keys: BTreeMap<&PublicKey, &str> = BTreeMap::new();
    let mut slots: BTreeMap<&Slot, &str> = BTreeMap::new();
    for builder in builders {
        let place = format!("[[builder]] {:?}", builder.name);
        let twice = |what: String, other: &str| rule(&place, format!("{what} is also that of {other:?}"));
        for id in std::iter::once(&builder.name).chain(&builder.ids) {
            if let Some(other) = ids.insert(id, &builder.name) {
                return Err(twice(format!("the name or id {id:?}"), other));
            }
        }
        if let Some(other) = keys.insert(&builder.key, &builder.name) {
            return Err(twice(format!("the {:?}", builder.key), other));
        }
        for slot in &builder.slots {
            if let Some(other) = slots.insert(slot, &builder.name) {
                return Err(twice(format!("the slot {:?}", slot.as_str()), other));
            }
        }
    }
    Ok(())
}

/// A name that can stand in output: not empty, short, printable.
fn name(place: &str, what: &str, text: &str) -> Result<(), PolicyError> {
    if text.trim() != text || text.is_empty() || text.len() > 100 || text.chars().any(is_hidden) {
        return Err(rule(
            place,
            format!("`{what}` must be 1 to 100 printable characters, without space around"),
        ));
    }
    Ok(())
}

impl FileBuilder {
    fn read(self, place: &str, key: PublicKey) -> Result<Builder, PolicyError> {
        name(place, "name", &self.name)?;
        name(place, "operator", &self.operator)?;
        for id in &self.ids {
            name(place, "ids", id)?;
        }
        // The name is the default slot, where it can be one.
        let slots = if self.slots.is_empty() { vec![self.name.clone()] } else { self.slots };
        let slots = slots
            .iter()
            .map(|slot| {
                slot.parse()
                    .map_err(|error: crate::oci::slot::SlotError| rule(place, format!("slots: {error}")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Builder {
            name: self.name,
            operator: self.operator,
            key,
            slots,
            ids: self.ids.into_iter().collect(),
        })
    }
}

impl FileImage {
    fn read(self, place: &str) -> Result<ImageRule, PolicyError> {
        let pattern = RepositoryPattern::parse(&self.repository).map_err(|why| rule(place, why))?;
        let names = self
            .names
            .iter()
            .map(|name| {
                name.parse()
                    .map_err(|e: crate::oci::reference::ReferenceError| rule(place, format!("names: {e}")))
            })
            .collect::<Result<_, _>>()?;
        if matches!(pattern, RepositoryPattern::Below(_)) && !self.names.is_empty() {
            return Err(rule(place, "names: one name cannot stand for every repository below a path"));
        }
        let mut seen = BTreeSet::new();
        let mut platforms = |list: &[String]| -> Result<BTreeMap<Platform, System>, PolicyError> {
            let mut map = BTreeMap::new();
            for text in list {
                let platform: Platform = text.parse().map_err(|e: crate::oci::platform::PlatformError| {
                    rule(place, format!("platforms: {e}"))
                })?;
                let system = System::for_platform(&platform)
                    .ok_or_else(|| rule(place, format!("platforms: no Nix system builds for {platform}")))?;
                if !seen.insert(platform.clone()) {
                    return Err(rule(place, format!("platforms: {platform} is listed twice")));
                }
                map.insert(platform, system);
            }
            Ok(map)
        };
        let required = platforms(&self.platforms)?;
        let optional = platforms(&self.optional)?;
        if required.is_empty() {
            return Err(rule(place, "platforms: at least one platform must be required"));
        }
        for source in &self.sources {
            name(place, "sources", source)?;
        }
        let tags = match self.tag {
            None => tag::default_rules(),
            Some(tags) => tags.into_iter().map(|tag| tag.read(place)).collect::<Result<_, _>>()?,
        };
        Ok(ImageRule {
            pattern,
            names,
            required,
            optional,
            quorum: self.quorum,
            sources: self.sources.into_iter().collect(),
            tags,
        })
    }
}

impl FileTag {
    fn read(self, place: &str) -> Result<TagRule, PolicyError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'*');
        if self.name.is_empty() || !self.name.bytes().all(allowed) {
            return Err(rule(place, format!("tag: {:?} can match no tag", self.name)));
        }
        let kind = match self.rule {
            FileTagKind::Immutable => TagKind::Immutable,
            FileTagKind::Forward => TagKind::Forward,
        };
        Ok(TagRule { tags: Pattern::Glob(Glob::new(&self.name)), kind })
    }
}

impl RepositoryPattern {
    fn parse(text: &str) -> Result<Self, String> {
        let exact = |text: &str| text.parse::<Repository>().map_err(|error| format!("repository: {error}"));
        match text.strip_suffix("/*") {
            Some(above) => Ok(Self::Below(format!("{}/", exact(above)?))),
            None => Ok(Self::Exact(exact(text)?)),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Exact(repository) => repository.to_string(),
            Self::Below(path) => format!("{path}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(n: u8) -> String {
        let mut point = [n; 65];
        point[0] = 4;
        PublicKey::from_point(&point).unwrap().to_pem()
    }

    fn text() -> String {
        format!(
            "version = 1\n\
             [[image]]\nrepository = \"ghcr.io/acme/app\"\nplatforms = [\"linux/amd64\"]\nquorum = 2\n\
             [[builder]]\nname = \"a\"\noperator = \"A\"\nkey = '''{}'''\n\
             [[builder]]\nname = \"b\"\noperator = \"B\"\nkey = '''{}'''\n",
            pem(1),
            pem(2)
        )
    }

    fn parse(text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text, |path| match path {
            "c.pub" => Ok(pem(3).into_bytes()),
            _ => Err("no such file".to_owned()),
        })
    }

    #[test]
    fn a_whole_policy_fits_on_one_screen() {
        let policy = parse(&text()).unwrap();
        assert_eq!(policy.builders().len(), 2);
        assert_eq!(policy.digest(), Digest::of(text().as_bytes()));
        let rule = policy.image(&"ghcr.io/acme/app".parse().unwrap()).unwrap();
        assert_eq!(rule.quorum.get(), 2);
        assert!(policy.image(&"ghcr.io/acme/app2".parse().unwrap()).is_none());
        assert!(policy.image(&"ghcr.io/acme/app/x".parse().unwrap()).is_none());
    }

    #[test]
    fn a_pinned_digest_pins_the_key_files() {
        let file = format!("{}[[builder]]\nname = \"c\"\noperator = \"C\"\nkey = \"c.pub\"\n", text());
        let one = Policy::parse(&file, |_| Ok(pem(3).into_bytes())).unwrap();
        let two = Policy::parse(&file, |_| Ok(pem(4).into_bytes())).unwrap();
        assert_ne!(one.digest(), two.digest());
    }

    #[test]
    fn the_exact_rule_wins_over_one_for_all_below() {
        let more = format!(
            "{}[[image]]\nrepository = \"ghcr.io/acme/*\"\nplatforms = [\"linux/arm64\"]\nquorum = 1\n",
            text()
        );
        let policy = parse(&more).unwrap();
        let quorum = |r: &str| policy.image(&r.parse().unwrap()).map(|rule| rule.quorum.get());
        assert_eq!(quorum("ghcr.io/acme/app"), Some(2));
        assert_eq!(quorum("ghcr.io/acme/other"), Some(1));
        assert_eq!(quorum("ghcr.io/acme/deep/er"), Some(1));
        assert_eq!(quorum("ghcr.io/acme-evil/app"), None);
    }

    #[test]
    fn bad_policies_are_refused_at_load() {
        let good = text();
        assert!(parse(&good).is_ok());
        let image = &good[good.find("[[image]]").unwrap()..good.find("[[builder]]").unwrap()];
        let again = format!("{good}{image}");
        let mirrored = "ghcr.io/acme/*\"\nnames = [\"r.example/app\"]\nx = \"";
        for (bad, says) in [
            (good.replace("version = 1", "version = 2"), "version"),
            (good.replace("version = 1\n", ""), "version"),
            (good.replace("quorum = 2", "quorum = 0"), "quorum"),
            (good.replace("quorum = 2", "quorum = -1"), "quorum"),
            (good.replace("quorum = 2", "quorum = 1.5"), "quorum"),
            (good.replace("quorum = 2\n", ""), "quorum"),
            (good.replace("quorum = 2", "quorum = 3"), "2 operators"),
            (good.replace("quorum = 2", "quorom = 2"), "quorom"),
            (good.replace("operator = \"B\"", "operator = \"A\""), "1 operator"),
            (good.replace("name = \"b\"", "name = \"a\""), "also that of"),
            (good.replace("name = \"b\"", "name = \"b\"\nids = [\"a\"]"), "also that of"),
            (good.replace("name = \"b\"", "name = \"b\"\nslots = [\"a\"]"), "also that of"),
            (good.replace("name = \"b\"", "name = \"B b\""), "slot"),
            (good.replace("name = \"b\"", "name = \"\""), "name"),
            (good.replace(&pem(2), &pem(1)), "also that of"),
            (good.replace(&pem(2), "x.pub"), "x.pub"),
            (good.replace("operator = \"B\"\n", ""), "operator"),
            (good.replace("linux/amd64", "linux"), "platform"),
            (good.replace("linux/amd64", "plan9/amd64"), "platform"),
            (good.replace("[\"linux/amd64\"]", "[]"), "platform"),
            (good.replace("[\"linux/amd64\"]", "[\"linux/amd64\", \"linux/amd64/v1\"]"), "twice"),
            (good.replace("ghcr.io/acme/app", "acme/app"), "host"),
            (good.replace("ghcr.io/acme/app", "ghcr.io/*/app"), "repository"),
            (again, "two rules"),
            (good.replace("ghcr.io/acme/app", mirrored).replace("x = \"\"\n", ""), "names"),
            ("x = ".to_owned(), "TOML"),
        ] {
            let error = parse(&bad).unwrap_err().to_string();
            assert!(error.contains(says), "{says:?} is not in {error:?}");
        }
    }
}
