//! `[[image]]`: what a release of an image must be.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{PolicyError, name, rule};
use crate::attestation::Provenance;
use crate::oci::{Config, Platform, Repository, System, Tag};
use crate::policy::builder::{Builder, Domain, Domains};
use crate::policy::decide::Purpose;
use crate::policy::moment::{Age, Moment};
use crate::policy::tag::{self, Bar, Feed, Glob, Pattern, TagKind, TagRule};
use crate::policy::voices;

/// What a release of an image must be.
#[derive(Debug, Clone)]
pub struct ImageRule {
    pub(super) pattern: RepositoryPattern,
    names: BTreeSet<Repository>,
    /// Platforms that every release has.
    pub required: BTreeMap<Platform, System>,
    /// Platforms that a release may have besides.
    pub optional: BTreeMap<Platform, System>,
    /// Of the optional ones, those that every release of this sequence or a higher one has.
    pub since: BTreeMap<Platform, u64>,
    /// Whether one image without an index may be judged.
    pub single: bool,
    /// What an image must meet to run: the strictest environment, unless the policy fixes one.
    pub run: Bar,
    /// The quorum of each environment.
    pub environments: BTreeMap<String, NonZeroU32>,
    /// In what n voices must differ from one another, besides the operator.
    pub distinct_by: Domains,
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
    /// Predicate types that count besides ours, for what they say. They bind no content.
    pub types: BTreeSet<&'static str>,
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
    /// The digest of `flake.lock`.
    FlakeLockHash,
    /// The digest of a list of the closure that was built.
    ClosureManifest,
    /// The binary caches that the build could take from.
    Substituters,
    /// The run of the builder.
    Invocation,
}

impl Field {
    /// Its name in a statement and in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceUri => "sourceUri",
            Self::Ref => "ref",
            Self::Target => "target",
            Self::BuiltAt => "builtAt",
            Self::FlakeLockHash => "flakeLockHash",
            Self::ClosureManifest => "closureManifest",
            Self::Substituters => "substituters",
            Self::Invocation => "invocation",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RepositoryPattern {
    Exact(Repository),
    /// Every repository below this path; it ends with a slash.
    Below(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileImage {
    pub(super) repository: String,
    platforms: Vec<String>,
    #[serde(default)]
    optional: Vec<String>,
    #[serde(default)]
    since: BTreeMap<String, u64>,
    #[serde(default)]
    single: bool,
    quorum: Option<NonZeroU32>,
    environments: Option<BTreeMap<String, NonZeroU32>>,
    verify: Option<String>,
    #[serde(default)]
    distinct_by: Domains,
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
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    unbound: bool,
    tag: Option<Vec<FileTag>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTag {
    name: String,
    rule: FileTagKind,
    environment: Option<String>,
    #[serde(default)]
    refs: Vec<String>,
    versions: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileTagKind {
    Immutable,
    Forward,
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

    /// The platform of one image without an index: of those that the rule names the one that the
    /// configuration leaves open, else the one that it states.
    ///
    /// # Errors
    /// Two that the rule names, and the configuration leaves open.
    pub(in crate::policy) fn platform_of(&self, config: &Config) -> Result<Platform, [&Platform; 2]> {
        let mut fits = self.platforms().map(|(platform, _)| platform).filter(|p| config.fits(p));
        match (fits.next(), fits.next()) {
            (Some(one), Some(other)) => Err([one, other]),
            (Some(one), None) => Ok(one.clone()),
            (None, _) => Ok(config.platform.clone()),
        }
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

    /// Whether a vote must have a verified time.
    pub(super) fn is_timed(&self) -> bool {
        self.max_age.is_some() || self.verify_max_age.is_some() || self.epoch.is_some()
    }

    /// The rules for its tags, in their order: the first that matches a tag holds.
    pub fn tag_rules(&self) -> &[TagRule] {
        &self.tags
    }
}

/// How many distinct voices there can be for the platform; an error if the quorum is higher.
fn voices(
    place: &str,
    platform: &Platform,
    system: System,
    distinct_by: &Domains,
    quorum: NonZeroU32,
    builders: &[Builder],
) -> Result<usize, PolicyError> {
    let eligible = || builders.iter().filter(|builder| builder.has_voice() && builder.builds(system));
    for (builder, domain) in eligible().flat_map(|one| distinct_by.iter().map(move |domain| (one, domain))) {
        if builder.domain(domain).is_none() {
            let (by, name) = (domain.as_str(), &builder.name);
            let lacks = match domain {
                Domain::Issuer => "has several issuers".to_owned(),
                _ => format!("names no {by}"),
            };
            return Err(rule(place, format!("distinct_by: {by}, but [[builder]] {name:?} {lacks}")));
        }
    }
    if distinct_by.iter().count() > 2 && eligible().count() > voices::MOST_TRIED {
        return Err(rule(
            place,
            format!("distinct_by names several, which is for at most {} builders", voices::MOST_TRIED),
        ));
    }
    let most = voices::most(eligible(), distinct_by);
    if most < quorum.get() as usize {
        let s = if most == 1 { "" } else { "s" };
        let apart = distinct_by.besides().map(|also| format!(" that differ in operator and {also}"));
        let apart = apart.unwrap_or_default();
        return Err(rule(
            place,
            format!("quorum = {quorum}, but {platform} has builders of {most} operator{s}{apart}"),
        ));
    }
    Ok(most)
}

/// Platforms, none of which was `seen` before, each with the system that builds for it.
fn platforms(
    place: &str,
    list: &[String],
    seen: &mut BTreeSet<Platform>,
) -> Result<BTreeMap<Platform, System>, PolicyError> {
    let mut map = BTreeMap::new();
    for text in list {
        let platform: Platform = text
            .parse()
            .map_err(|e: crate::oci::platform::PlatformError| rule(place, format!("platforms: {e}")))?;
        let system = System::for_platform(&platform)
            .ok_or_else(|| rule(place, format!("platforms: no Nix system builds for {platform}")))?;
        if !seen.insert(platform.clone()) {
            return Err(rule(place, format!("platforms: {platform} is listed twice")));
        }
        map.insert(platform, system);
    }
    Ok(map)
}

impl FileImage {
    pub(super) fn read(self, place: &str, builders: &[Builder]) -> Result<ImageRule, PolicyError> {
        let types = self.types(place)?;
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
        let required = platforms(place, &self.platforms, &mut seen)?;
        let mut optional = platforms(place, &self.optional, &mut seen)?;
        let mut since = BTreeMap::new();
        for (text, sequence) in &self.since {
            let named = platforms(place, std::slice::from_ref(text), &mut seen)?;
            since.extend(named.keys().map(|platform| (platform.clone(), *sequence)));
            optional.extend(named);
        }
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
            let most = voices(place, platform, *system, &self.distinct_by, strictest.quorum, builders)?;
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
        idle(&tags, &self.refs).map_or(Ok(()), |why| Err(rule(place, format!("tag: {why}"))))?;
        Ok(ImageRule {
            pattern,
            names,
            required,
            optional,
            since,
            single: self.single,
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
            types,
            tags,
        })
    }
}

impl FileImage {
    /// The types that are accepted besides ours. What says neither its content nor its place in order
    /// cannot be held to rules on either.
    fn types(&self, place: &str) -> Result<BTreeSet<&'static str>, PolicyError> {
        let known = |text: &String| {
            let known = Provenance::TYPES.iter().find(|known| *known == text);
            known.copied().ok_or_else(|| {
                let all = Provenance::TYPES.join(", ");
                rule(
                    place,
                    format!("types: {text:?} is none that can be accepted besides quorate's own: {all}"),
                )
            })
        };
        let types = self.types.iter().map(known).collect::<Result<BTreeSet<_>, _>>()?;
        let sourced = types.iter().all(|kind| Provenance::names_source(kind));
        let whole = self.hear_all || self.min_sequence > 0 || !self.since.is_empty();
        let why = match (types.is_empty(), self.unbound) {
            (true, true) => "unbound: there are no `types` that it is for",
            (false, false) => "types: they name no `configDigest`, and count only with `unbound = true`",
            (false, true) if whole => {
                "unbound: with `hear_all`, `min_sequence` or `since` every vote must name its content and sequence"
            }
            (false, true) if !sourced && self.sources.is_empty() => {
                "types: a statement of nix-seed names no source, so `sources` must list those that count"
            }
            (true, false) | (false, true) => return Ok(types),
        };
        Err(rule(place, why))
    }
}

/// Why one of the rules for tags does nothing, if one does.
fn idle(tags: &[TagRule], refs: &[String]) -> Option<String> {
    tags.iter().enumerate().find_map(|(at, TagRule { tags: pattern, feed, .. })| {
        if let Some(before) = tags.iter().take(at).find(|before| before.tags.covers(pattern)) {
            let wide = &before.tags;
            return Some(format!(
                "the rule for `{pattern}` never holds: that for `{wide}` stands before it, and has all its tags"
            ));
        }
        let fed = refs.is_empty() || feed.is_open() || refs.iter().any(|git_ref| feed.takes(Some(git_ref)));
        (!fed).then(|| format!("`{pattern}` takes releases of {feed}, and `refs` of the image has none of them"))
    })
}

impl FileTag {
    fn read(self, place: &str, bar: Bar) -> Result<TagRule, PolicyError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'*');
        let begins = !self.name.is_empty() && !self.name.starts_with(['.', '-']);
        if !begins || !self.name.bytes().all(allowed) {
            return Err(rule(place, format!("tag: {:?} can match no tag", self.name)));
        }
        let kind = match self.rule {
            FileTagKind::Immutable => TagKind::Immutable,
            FileTagKind::Forward => TagKind::Forward,
        };
        for git_ref in &self.refs {
            name(place, "tag: refs", git_ref)?;
        }
        let versions = self.versions.map(|range| {
            let bad = |why| rule(place, format!("tag: versions: {range:?} is no range of versions: {why}"));
            range.parse().map_err(|why: semver::Error| bad(why))
        });
        let refs = self.refs.iter().map(|git_ref| Glob::new(git_ref)).collect();
        let feed = Feed { refs, versions: versions.transpose()? };
        Ok(TagRule { tags: Pattern::Glob(Glob::new(&self.name)), kind, bar, feed })
    }
}

impl RepositoryPattern {
    fn parse(text: &str) -> Result<Self, String> {
        let exact = |text: &str| text.parse::<Repository>().map_err(|error| format!("repository: {error}"));
        match text.strip_suffix("/*") {
            Some(above) => {
                let repository = exact(above)?;
                // As written: what is below a path of Docker Hub is not below its `library`.
                let path = above.split_once('/').map_or("", |(_, path)| path);
                Ok(Self::Below(format!("{}/{path}/", repository.host())))
            }
            None => Ok(Self::Exact(exact(text)?)),
        }
    }

    pub(super) fn shown(&self) -> String {
        match self {
            Self::Exact(repository) => repository.to_string(),
            Self::Below(path) => format!("{path}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::{Policy, PolicyError};

    /// A policy of two builders, with lines more in its rule.
    fn parse(lines: &str) -> Result<Policy, PolicyError> {
        let builder = |name: &str| {
            format!("[[builder]]\nname = \"{name}\"\noperator = \"{name}\"\nkey = \"{name}.pub\"\n")
        };
        let text = format!(
            "version = 1\n[[image]]\nrepository = \"ghcr.io/acme/app\"\nplatforms = [\"linux/amd64\"]\n\
             quorum = 2\n{lines}\n{}{}",
            builder("a"),
            builder("b")
        );
        Policy::parse(&text, |path| {
            Ok(crate::policy::vectors::key(path.trim_end_matches(".pub")).to_pem().into_bytes())
        })
    }

    const SLSA: &str = "types = [\"https://slsa.dev/provenance/v1\"]";

    #[test]
    fn rules_that_mean_less_than_they_seem_to_are_refused() {
        let unbound = |more: &str| format!("{SLSA}\nunbound = true\n{more}");
        let tag = |line: &str| format!("[[image.tag]]\nname = \"latest\"\nrule = \"forward\"\n{line}");
        let heads = "refs = [\"refs/heads/main\", \"refs/heads/next\"]";
        for good in [
            "since = { \"linux/arm64\" = 5 }".to_owned(),
            "single = true".to_owned(),
            unbound(""),
            unbound("sources = [\"git+https://git.example/app\"]")
                .replace("https://slsa.dev/provenance/v1", "nix-seed/provenance"),
            tag("refs = [\"refs/tags/v*\"]"),
            tag("versions = \">=1, <2\""),
            format!("{}\n{}", tag("").replace("latest", "v*"), tag("").replace("latest", "*")),
            format!("{heads}\n{}", tag("refs = [\"refs/heads/n*\"]")),
        ] {
            assert!(parse(&good).is_ok(), "{good}");
        }
        for (bad, says) in [
            ("since = { \"linux/amd64\" = 5 }".to_owned(), "twice"),
            ("since = { \"linux/arm64\" = 5, \"linux/arm64/v8\" = 6 }".to_owned(), "twice"),
            ("since = { \"plan9/amd64\" = 5 }".to_owned(), "no Nix system"),
            ("since = { \"linux/arm64\" = -5 }".to_owned(), "since"),
            ("since = [\"linux/arm64\"]".to_owned(), "since"),
            ("single = \"yes\"".to_owned(), "single"),
            (SLSA.to_owned(), "unbound = true"),
            ("unbound = true".to_owned(), "no `types`"),
            (unbound("").replace("v1", "v0.2"), "none that can be accepted"),
            (unbound("").replace("slsa.dev/provenance", "quorate.dev/predicates/build"), "none that can be"),
            (unbound("hear_all = true"), "content and sequence"),
            (unbound("").replace("https://slsa.dev/provenance/v1", "nix-seed/provenance"), "`sources` must"),
            (unbound("min_sequence = 1"), "content and sequence"),
            (unbound("since = { \"linux/arm64\" = 5 }"), "content and sequence"),
            (tag("refs = [\"\"]"), "tag: refs"),
            (tag("versions = \"one\""), "no range of versions"),
            (tag("versions = \"\""), "no range of versions"),
            (tag("version = \"1\""), "unknown field"),
            (tag("").replace("latest", "-rc*"), "can match no tag"),
            (tag("").replace("latest", "v 1"), "can match no tag"),
            (format!("{}\n{}", tag(""), tag("")), "never holds"),
            (
                format!("{}\n{}", tag("").replace("latest", "*"), tag("").replace("latest", "v*")),
                "the rule for `v*` never holds: that for `*` stands before it",
            ),
            (format!("{heads}\n{}", tag("refs = [\"refs/tags/v*\"]")), "`refs` of the image has none"),
            (format!("{heads}\n{}", tag("versions = \"^1\"")), "`refs` of the image has none"),
        ] {
            let error = parse(&bad).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(says), "{says:?} is not in {error:?}");
        }
    }
}
