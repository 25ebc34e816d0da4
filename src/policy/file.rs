//! The policy file (TOML), parsed into types that cannot hold a bad policy.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use toml::Spanned;

use super::builder::{Builder, Claims, Credential, Domain, Revocation, Window};
use super::decide::Purpose;
use super::moment::{Age, Moment};
use super::tag::{self, Bar, Glob, Pattern, TagKind, TagRule};
use super::voices;
use crate::attestation::{MaySign, PublicKey, Signer, Trust, Trusts};
use crate::oci::{Digest, Platform, Repository, Slot, System, Tag};
use crate::text::is_hidden;

/// A policy: which images there are rules for, and who may vote.
#[derive(Debug, Clone)]
pub struct Policy {
    digest: Digest,
    images: Vec<ImageRule>,
    builders: Vec<Builder>,
    waivers: Vec<Waiver>,
}

/// A statement that counts for neither side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// The SHA-256 of the statement's bytes as they were signed.
    pub statement: Digest,
    /// Why, for those who read the verdict.
    pub reason: String,
    /// The moment from which on the statement is heard again.
    pub until: Timestamp,
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
    /// What an image must meet to run: the strictest environment, unless the policy fixes one.
    pub run: Bar,
    /// The quorum of each environment.
    pub environments: BTreeMap<String, NonZeroU32>,
    /// In what n voices must differ from one another, besides the operator.
    pub distinct_by: Domain,
    /// Whether every builder of a platform must have spoken.
    pub hear_all: bool,
    /// How many voices there can be, for every required platform.
    pub voices: usize,
    /// The sources that a build may be of; empty: any.
    pub sources: BTreeSet<String>,
    /// The flake attributes that a build may be of; empty: any.
    pub targets: BTreeSet<String>,
    /// The git refs that a vote may name; empty: any.
    pub refs: BTreeSet<String>,
    /// What a vote must state besides.
    pub required_fields: BTreeSet<Field>,
    /// How old a vote may be when tags move.
    pub max_age: Option<SignedDuration>,
    /// How old a vote may be when the image is verified.
    pub verify_max_age: Option<SignedDuration>,
    /// Votes from before this moment do not count.
    pub epoch: Option<Timestamp>,
    /// Votes of a lower sequence do not count.
    pub min_sequence: u64,
    tags: Vec<TagRule>,
}

/// An optional field of a statement that a policy may require.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Field {
    /// The repository that was built.
    SourceUri,
    /// The git ref that was built.
    Ref,
    /// The flake attribute that was built.
    Target,
    /// When the build ended, as the builder says.
    BuiltAt,
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
    #[error("{}{place}: {why}", .line.map(|line| format!("line {line}: ")).unwrap_or_default())]
    Rule {
        /// The line on which the table begins, from 1.
        line: Option<usize>,
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
    image: Vec<Spanned<FileImage>>,
    #[serde(default)]
    builder: Vec<Spanned<FileBuilder>>,
    #[serde(default)]
    waive: Vec<Spanned<FileWaiver>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileWaiver {
    statement: Digest,
    reason: String,
    until: Moment,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileImage {
    repository: String,
    platforms: Vec<String>,
    #[serde(default)]
    optional: Vec<String>,
    quorum: Option<NonZeroU32>,
    environments: Option<BTreeMap<String, NonZeroU32>>,
    verify: Option<String>,
    #[serde(default)]
    distinct_by: Domain,
    #[serde(default)]
    hear_all: bool,
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    refs: Vec<String>,
    #[serde(default)]
    required_fields: BTreeSet<Field>,
    #[serde(default)]
    names: Vec<String>,
    max_age: Option<Age>,
    verify_max_age: Option<Age>,
    epoch: Option<Moment>,
    #[serde(default)]
    min_sequence: u64,
    tag: Option<Vec<FileTag>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTag {
    name: String,
    rule: FileTagKind,
    environment: Option<String>,
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
    key: Option<String>,
    #[serde(default)]
    keys: Vec<FileKey>,
    revoked: Option<FileRevoked>,
    systems: Option<Vec<String>>,
    organisation: Option<String>,
    jurisdiction: Option<String>,
    infrastructure: Option<String>,
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    slots: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    key: String,
    from: Option<Moment>,
    until: Option<Moment>,
    revoked: Option<FileRevoked>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileRevoked {
    From(Moment),
    Compromised,
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
        let line = |at: usize| text.get(..at).map(|before| before.matches('\n').count() + 1);
        let mut pinned = text.as_bytes().to_vec();
        let mut builders = Vec::new();
        for builder in file.builder {
            let line = line(builder.span().start);
            let builder = builder.into_inner();
            let place = format!("[[builder]] {:?}", builder.name);
            let builder = builder
                .read(&place, |path| {
                    let bytes = read(path).map_err(|why| format!("cannot read `{path}`: {why}"))?;
                    pinned.extend_from_slice(format!("{path}\0{}\0", bytes.len()).as_bytes());
                    pinned.extend_from_slice(&bytes);
                    String::from_utf8(bytes).map_err(|_| format!("`{path}` is not PEM"))
                })
                .and_then(|builder| {
                    builders.push(builder);
                    check_builders(&builders)
                });
            builder.map_err(|error| error.on(line))?;
        }
        let mut images: Vec<ImageRule> = Vec::new();
        for image in file.image {
            let line = line(image.span().start);
            let image = image.into_inner();
            let place = format!("[[image]] {:?}", image.repository);
            let image = image.read(&place, &builders).map_err(|error| error.on(line))?;
            if images.iter().any(|other| other.pattern == image.pattern) {
                let two = rule("[[image]]", format!("two rules are for {}", image.pattern.shown()));
                return Err(two.on(line));
            }
            images.push(image);
        }
        let mut waivers: Vec<Waiver> = Vec::new();
        for waiver in file.waive {
            let line = line(waiver.span().start);
            let FileWaiver { statement, reason, until } = waiver.into_inner();
            let place = format!("[[waive]] {statement}");
            name(&place, "reason", &reason).map_err(|error| error.on(line))?;
            if waivers.iter().any(|other| other.statement == statement) {
                return Err(rule(&place, "the statement is waived twice").on(line));
            }
            waivers.push(Waiver { statement, reason, until: until.0 });
        }
        Ok(Self { digest: Digest::of(&pinned), images, builders, waivers })
    }

    /// The SHA-256 that names this policy in every verdict.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Who may vote, in the order of the file.
    pub fn builders(&self) -> &[Builder] {
        &self.builders
    }

    /// The rules, in the order of the file.
    pub fn images(&self) -> &[ImageRule] {
        &self.images
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

    /// The builder whose signature this is.
    pub fn builder(&self, signer: &Signer) -> Option<&Builder> {
        self.builders.iter().find(|builder| builder.credential(signer).is_some())
    }

    /// Who may sign for a builder, under the trust that the builder names.
    pub fn may_sign<'a>(&'a self, trusts: &'a Trusts) -> impl Iterator<Item = (&'a MaySign, &'a Trust)> {
        self.builders
            .iter()
            .filter_map(|builder| Some((builder, trusts.get(&builder.trust)?)))
            .flat_map(|(builder, trust)| builder.credentials.iter().map(move |c| (&c.may_sign, trust)))
    }

    /// Every slot under which a builder's votes may be kept.
    pub fn slots(&self) -> Vec<Slot> {
        self.builders.iter().flat_map(|builder| builder.slots.iter().cloned()).collect()
    }

    /// The waiver of the statement with this SHA-256, as long as it holds.
    pub fn waiver(&self, statement: Digest, now: Timestamp) -> Option<&Waiver> {
        self.waivers.iter().find(|waiver| waiver.statement == statement && now < waiver.until)
    }

    /// The waivers, in the order of the file.
    pub fn waivers(&self) -> &[Waiver] {
        &self.waivers
    }
}

impl ImageRule {
    /// The repository or path that it is for, as the policy writes it.
    pub fn repository(&self) -> String {
        self.pattern.shown()
    }

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
        tag::find(&self.tags, tag).map(|rule| rule.kind)
    }

    /// What a release must meet for `purpose`: of several tags, what the strictest asks; for a tag
    /// without a rule, what running it asks.
    pub fn bar(&self, purpose: &Purpose) -> &Bar {
        let of = |tag: &Tag| tag::find(&self.tags, tag).map_or(&self.run, |rule| &rule.bar);
        match purpose {
            Purpose::Verify => &self.run,
            Purpose::Promote(tags) => tags.iter().map(of).max().unwrap_or(&self.run),
            Purpose::Leave(tag) => of(tag),
        }
    }

    pub(super) fn tag_rules(&self) -> &[TagRule] {
        &self.tags
    }
}

fn rule(place: &str, why: impl Into<String>) -> PolicyError {
    PolicyError::Rule { line: None, place: place.to_owned(), why: why.into() }
}

impl PolicyError {
    /// The same, with the line of the table that it is about.
    fn on(self, at: Option<usize>) -> Self {
        match self {
            Self::Rule { place, why, .. } => Self::Rule { line: at, place, why },
            toml @ Self::Toml(_) => toml,
        }
    }
}

/// How many distinct voices there can be for the platform; an error if the quorum is higher.
fn voices(
    place: &str,
    platform: &Platform,
    system: System,
    distinct_by: Domain,
    quorum: NonZeroU32,
    builders: &[Builder],
) -> Result<usize, PolicyError> {
    let mut eligible = BTreeSet::new();
    for builder in builders.iter().filter(|builder| builder.has_voice() && builder.builds(system)) {
        let domain = builder.domain(distinct_by).ok_or_else(|| {
            let (by, name) = (distinct_by.as_str(), &builder.name);
            rule(place, format!("distinct_by = {by:?}, but [[builder]] {name:?} names no {by}"))
        })?;
        eligible.insert((builder.operator.as_str(), domain));
    }
    let most = voices::most(&eligible);
    if most < quorum.get() as usize {
        let s = if most == 1 { "" } else { "s" };
        let apart = match distinct_by {
            Domain::Operator => String::new(),
            other => format!(" that differ in operator and {}", other.as_str()),
        };
        return Err(rule(
            place,
            format!("quorum = {quorum}, but {platform} has builders of {most} operator{s}{apart}"),
        ));
    }
    Ok(most)
}

/// Names, keys, ids and slots must each lead to one builder.
fn check_builders(builders: &[Builder]) -> Result<(), PolicyError> {
    let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
    let mut credentials: Vec<(&MaySign, &str)> = Vec::new();
    let mut slots: BTreeMap<&Slot, &str> = BTreeMap::new();
    for builder in builders {
        let place = format!("[[builder]] {:?}", builder.name);
        let twice = |what: String, other: &str| rule(&place, format!("{what} is also that of {other:?}"));
        for id in std::iter::once(&builder.name).chain(&builder.ids) {
            if let Some(other) = ids.insert(id, &builder.name) {
                return Err(twice(format!("the name or id {id:?}"), other));
            }
        }
        for Credential { may_sign, .. } in &builder.credentials {
            if let Some((_, other)) = credentials.iter().find(|(other, _)| other.meets(may_sign)) {
                let what = match may_sign {
                    MaySign::Key(key) => format!("the {key:?}"),
                    MaySign::Certificate(matcher) => format!("some certificate of {matcher}"),
                };
                return Err(twice(what, other));
            }
            credentials.push((may_sign, &builder.name));
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
    /// `read` gets the text of a key file.
    fn read(
        self,
        place: &str,
        mut read: impl FnMut(&str) -> Result<String, String>,
    ) -> Result<Builder, PolicyError> {
        name(place, "name", &self.name)?;
        name(place, "operator", &self.operator)?;
        for id in &self.ids {
            name(place, "ids", id)?;
        }
        let written = match (self.key, self.keys) {
            (Some(key), keys) if keys.is_empty() => {
                vec![FileKey { key, from: None, until: None, revoked: None }]
            }
            (None, keys) if !keys.is_empty() => keys,
            _ => return Err(rule(place, "there must be either `key`, or `keys` with at least one")),
        };
        let of_all = Revocation::from(self.revoked);
        let mut credentials = Vec::new();
        for key in written {
            let window = Window { from: key.from.map(|m| m.0), until: key.until.map(|m| m.0) };
            if window.is_empty() {
                return Err(rule(place, format!("key `{}`: `from` is not before `until`", key.key)));
            }
            let inline = key.key.contains("-----BEGIN");
            let pem = if inline { key.key } else { read(&key.key).map_err(|why| rule(place, why))? };
            let public = PublicKey::from_pem(&pem).map_err(|error| rule(place, format!("key: {error}")))?;
            let revoked = of_all.min(key.revoked.into());
            let may_sign = MaySign::Key(public);
            credentials.push(Credential { may_sign, claims: Claims::default(), window, revoked });
        }
        let systems = match self.systems {
            Some(systems) if systems.is_empty() => {
                return Err(rule(place, "systems: without one it could never vote"));
            }
            systems => systems
                .map(|systems| systems.iter().map(|system| system.parse()).collect::<Result<_, _>>())
                .transpose()
                .map_err(|e: crate::oci::platform::PlatformError| rule(place, format!("systems: {e}")))?,
        };
        let domains = [
            (Domain::Organisation, self.organisation),
            (Domain::Jurisdiction, self.jurisdiction),
            (Domain::Infrastructure, self.infrastructure),
        ];
        let domains: BTreeMap<Domain, String> =
            domains.into_iter().filter_map(|(domain, text)| Some((domain, text?))).collect();
        for (domain, text) in &domains {
            name(place, domain.as_str(), text)?;
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
            credentials,
            trust: Trusts::DEFAULT.to_owned(),
            slots,
            ids: self.ids.into_iter().collect(),
            systems,
            domains,
        })
    }
}

impl From<Option<FileRevoked>> for Revocation {
    fn from(written: Option<FileRevoked>) -> Self {
        match written {
            None => Self::Never,
            Some(FileRevoked::From(moment)) => Self::From(moment.0),
            Some(FileRevoked::Compromised) => Self::Compromised,
        }
    }
}

impl FileImage {
    fn read(self, place: &str, builders: &[Builder]) -> Result<ImageRule, PolicyError> {
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
        let (strictest, environments) = match (self.quorum, self.environments) {
            (Some(quorum), None) => (Bar { quorum, environment: None }, BTreeMap::new()),
            (None, Some(environments)) if !environments.is_empty() => {
                environments.keys().try_for_each(|text| name(place, "environments", text))?;
                let strictest = environments.iter().max_by_key(|(_, quorum)| **quorum);
                let bar =
                    strictest.map(|(name, quorum)| Bar { quorum: *quorum, environment: Some(name.clone()) });
                (bar.ok_or_else(|| rule(place, "environments: there is none"))?, environments)
            }
            _ => {
                return Err(rule(
                    place,
                    "there must be either `quorum`, or `environments` with at least one",
                ));
            }
        };
        let bar = |what: &str, environment: Option<String>| match environment {
            None => Ok(strictest.clone()),
            Some(name) => environments
                .get(&name)
                .map(|quorum| Bar { quorum: *quorum, environment: Some(name.clone()) })
                .ok_or_else(|| rule(place, format!("{what}: {name:?} is not one of its environments"))),
        };
        let run = bar("verify", self.verify)?;
        let mut fewest = usize::MAX;
        for (platform, system) in required.iter().chain(&optional) {
            let most = voices(place, platform, *system, self.distinct_by, strictest.quorum, builders)?;
            if required.contains_key(platform) {
                fewest = fewest.min(most);
            }
        }
        for (what, list) in [("sources", &self.sources), ("targets", &self.targets), ("refs", &self.refs)] {
            list.iter().try_for_each(|text| name(place, what, text))?;
        }
        let tags = match self.tag {
            None => tag::default_rules(&strictest),
            Some(tags) => tags
                .into_iter()
                .map(|tag| {
                    let bar = bar("tag", tag.environment.clone())?;
                    tag.read(place, bar)
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(ImageRule {
            pattern,
            names,
            required,
            optional,
            run,
            environments,
            distinct_by: self.distinct_by,
            hear_all: self.hear_all,
            voices: fewest,
            sources: self.sources.into_iter().collect(),
            targets: self.targets.into_iter().collect(),
            refs: self.refs.into_iter().collect(),
            required_fields: self.required_fields,
            max_age: self.max_age.map(|age| age.0),
            verify_max_age: self.verify_max_age.map(|age| age.0),
            epoch: self.epoch.map(|moment| moment.0),
            min_sequence: self.min_sequence,
            tags,
        })
    }
}

impl FileTag {
    fn read(self, place: &str, bar: Bar) -> Result<TagRule, PolicyError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'*');
        if self.name.is_empty() || !self.name.bytes().all(allowed) {
            return Err(rule(place, format!("tag: {:?} can match no tag", self.name)));
        }
        let kind = match self.rule {
            FileTagKind::Immutable => TagKind::Immutable,
            FileTagKind::Forward => TagKind::Forward,
        };
        Ok(TagRule { tags: Pattern::Glob(Glob::new(&self.name)), kind, bar })
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
        assert_eq!(rule.run.quorum.get(), 2);
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
        let quorum = |r: &str| policy.image(&r.parse().unwrap()).map(|rule| rule.run.quorum.get());
        assert_eq!(quorum("ghcr.io/acme/app"), Some(2));
        assert_eq!(quorum("ghcr.io/acme/other"), Some(1));
        assert_eq!(quorum("ghcr.io/acme/deep/er"), Some(1));
        assert_eq!(quorum("ghcr.io/acme-evil/app"), None);
    }

    #[test]
    fn a_refusal_names_the_line_of_its_table() {
        let line = |text: &str, of: &str| text.lines().position(|line| line == of).unwrap() + 1;
        let image = text().replace("quorum = 2", "quorum = 3");
        let says = parse(&image).unwrap_err().to_string();
        assert!(says.starts_with(&format!("line {}: ", line(&image, "[[image]]"))), "{says}");
        let builder = text().replace("name = \"a\"", "name = \"\"");
        let says = parse(&builder).unwrap_err().to_string();
        assert!(says.starts_with(&format!("line {}: ", line(&builder, "[[builder]]"))), "{says}");
        let unknown = text().replace("quorum = 2", "quorum = 2\nquorom = 3");
        let says = parse(&unknown).unwrap_err().to_string();
        assert!(says.contains(&format!("line {}", line(&unknown, "quorom = 3"))), "{says}");
    }

    #[test]
    fn the_stricter_revocation_of_a_key_and_of_its_builder_holds() {
        let keys = "[{ key = \"c.pub\", revoked = { from = 2026-01-01T00:00:00Z } }]";
        let one = text().replace(&format!("key = '''{}'''", pem(2)), &format!("keys = {keys}"));
        let from = |text: &str| parse(text).unwrap().builders()[1].credentials[0].revoked;
        let early = Revocation::From("2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(from(&one), early);
        let later =
            one.replace("operator = \"B\"", "operator = \"B\"\nrevoked = { from = 2027-01-01T00:00:00Z }");
        assert_eq!(from(&later), early);
        let earlier = "operator = \"B\"\nrevoked = { from = 2025-06-01T02:00:00+02:00 }";
        let earlier = from(&one.replace("operator = \"B\"", earlier));
        assert_eq!(earlier, Revocation::From("2025-06-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn bad_policies_are_refused_at_load() {
        let good = text();
        assert!(parse(&good).is_ok());
        let image = &good[good.find("[[image]]").unwrap()..good.find("[[builder]]").unwrap()];
        let again = format!("{good}{image}");
        let staged =
            |all: &str, line: &str| good.replace("quorum = 2", &format!("environments = {all}\n{line}"));
        let tag = "[[image.tag]]\nname = \"v*\"\nrule = \"immutable\"\nenvironment = \"production\"";
        assert!(parse(&staged("{ staging = 1, production = 2 }", tag)).is_ok());
        let digest = Digest::of(b"statement");
        let waived =
            format!("[[waive]]\nstatement = \"{digest}\"\nreason = \"r\"\nuntil = 2026-01-01T00:00:00Z\n");
        assert_eq!(parse(&format!("{good}{waived}")).unwrap().waivers().len(), 1);
        let with_image = |line: &str| good.replace("quorum = 2", &format!("quorum = 2\n{line}"));
        let with_builder = |line: &str| good.replace("name = \"b\"", &format!("name = \"b\"\n{line}"));
        let with_keys =
            |keys: &str| good.replace(&format!("key = '''{}'''", pem(2)), &format!("keys = {keys}"));
        let mirrored = "ghcr.io/acme/*\"\nnames = [\"r.example/app\"]\nx = \"";
        for (bad, says) in [
            (good.replace("version = 1", "version = 2"), "version"),
            (good.replace("version = 1\n", ""), "version"),
            (good.replace("quorum = 2", "quorum = 0"), "quorum"),
            (good.replace("quorum = 2", "quorum = -1"), "quorum"),
            (good.replace("quorum = 2", "quorum = 1.5"), "quorum"),
            (good.replace("quorum = 2\n", ""), "quorum"),
            (good.replace("quorum = 2", "quorum = 3"), "of 2 operators"),
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
            (with_image("environments = { staging = 1 }"), "either `quorum`, or"),
            (staged("{}", ""), "either `quorum`, or"),
            (staged("{ staging = 0 }", ""), "environments"),
            (staged("{ staging = 1, production = 3 }", ""), "quorum = 3"),
            (staged("{ staging = 1 }", "verify = \"production\""), "not one of its environments"),
            (staged("{ staging = 1 }", tag), "not one of its environments"),
            (with_image("verify = \"production\""), "not one of its environments"),
            (with_image("distinct_by = \"moon\""), "moon"),
            (with_image("distinct_by = \"jurisdiction\""), "\"a\" names no jurisdiction"),
            (
                with_image("distinct_by = \"jurisdiction\"")
                    .replace("operator =", "jurisdiction = \"CH\"\noperator ="),
                "differ in operator and jurisdiction",
            ),
            (with_builder("jurisdiction = \"\""), "jurisdiction"),
            (format!("{good}[[waive]]\nreason = \"r\"\nuntil = 2026-01-01T00:00:00Z\n"), "statement"),
            (format!("{good}{}", waived.replace("sha256:", "sha512:")), "sha512"),
            (format!("{good}{}", waived.replace("\"r\"", "\"\"")), "reason"),
            (format!("{good}{}", waived.replace("until", "from")), "from"),
            (format!("{good}{waived}{waived}"), "waived twice"),
            (with_image("max_age = \"7\""), "7d or 4w"),
            (with_image("max_age = 7"), "max_age"),
            (with_image("epoch = 2026-01-01"), "offset"),
            (with_image("epoch = 2026-01-01T00:00:00"), "offset"),
            (with_image("min_sequence = -1"), "min_sequence"),
            (with_image("required_fields = [\"flake\"]"), "flake"),
            (with_builder("systems = []"), "systems"),
            (with_builder("systems = [\"x86_64\"]"), "systems"),
            (with_builder("systems = [\"aarch64-linux\"]"), "linux/amd64 has builders of 1 operator"),
            (with_builder("revoked = \"compromised\""), "linux/amd64 has builders of 1 operator"),
            (with_builder("revoked = \"yes\""), "yes"),
            (with_builder("revoked = { from = 2026-01-01 }"), "offset"),
            (with_builder("keys = [{ key = \"c.pub\" }]"), "either `key`, or `keys`"),
            (with_keys("[]"), "either `key`, or `keys`"),
            (with_keys("[{ key = \"c.pub\" }, { key = \"c.pub\" }]"), "also that of"),
            (
                with_keys("[{ key = \"c.pub\", from = 2026-01-02T00:00:00Z, until = 2026-01-02T00:00:00Z }]"),
                "not before",
            ),
            (good.replace("ghcr.io/acme/app", mirrored).replace("x = \"\"\n", ""), "names"),
            ("x = ".to_owned(), "TOML"),
        ] {
            let error = parse(&bad).unwrap_err().to_string();
            assert!(error.contains(says), "{says:?} is not in {error:?}");
        }
    }
}
