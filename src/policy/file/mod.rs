//! The policy file (TOML), parsed into types that cannot hold a bad policy.

mod builder;
mod image;
mod trust;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use toml::Spanned;

use super::builder::{Builder, Credential};
use super::moment::Moment;
use crate::attestation::{MaySign, Signer, Transparency, Trust, Trusts};
use crate::oci::{Digest, Repository, Slot};
use crate::text::is_hidden;
use builder::FileBuilder;
pub use image::{Field, ImageRule};
use image::{FileImage, RepositoryPattern};
use trust::FileTrust;
pub use trust::{TrustRule, TrustSource};

/// A policy: which images there are rules for, and who may vote.
#[derive(Debug, Clone)]
pub struct Policy {
    digest: Digest,
    images: Vec<ImageRule>,
    builders: Vec<Builder>,
    trusts: BTreeMap<String, TrustRule>,
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
    trust: BTreeMap<String, Spanned<FileTrust>>,
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

impl Policy {
    /// Reads a policy. `read` gets the contents of a file by the path written in the policy: of a
    /// key, or of a trusted root.
    ///
    /// The digest is the SHA-256 of the text alone where it names no file; otherwise it goes on
    /// over each file that was read, keys before trusted roots, in order: path, a zero byte, the
    /// length in decimal, a zero byte, the contents. So a pinned digest pins them too.
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
        let mut read = |path: &str| {
            let bytes = read(path).map_err(|why| format!("cannot read `{path}`: {why}"))?;
            pinned.extend_from_slice(format!("{path}\0{}\0", bytes.len()).as_bytes());
            pinned.extend_from_slice(&bytes);
            Ok(bytes)
        };
        let mut builders = Vec::new();
        for builder in file.builder {
            let line = line(builder.span().start);
            let builder = builder.into_inner();
            let place = format!("[[builder]] {:?}", builder.name);
            let builder = builder
                .read(&place, |path| {
                    String::from_utf8(read(path)?).map_err(|_| format!("`{path}` is not PEM"))
                })
                .and_then(|builder| {
                    builders.push(builder);
                    builder::check_builders(&builders)
                });
            builder.map_err(|error| error.on(line))?;
        }
        let mut trusts = BTreeMap::new();
        for (name, trust) in file.trust {
            let line = line(trust.span().start);
            let place = format!("[trust.{name}]");
            let trust = trust.into_inner().read(&place, &mut read).map_err(|error| error.on(line))?;
            trusts.insert(name, trust);
        }
        let trusts = believed(trusts, &builders)?;
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
            if image.is_timed()
                && let Some(timeless) = builders.iter().find(|builder| is_timeless(&trusts, builder))
            {
                let why = format!(
                    "[[builder]] {:?} stands under a trust with `transparency = \"none\"`, where no time is \
                     verified, and the rule asks for one",
                    timeless.name
                );
                return Err(rule(&place, why).on(line));
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
        Ok(Self { digest: Digest::of(&pinned), images, builders, trusts, waivers })
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

    /// Every trust that a builder stands under, by name.
    pub fn trusts(&self) -> &BTreeMap<String, TrustRule> {
        &self.trusts
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

/// The trusts that builders stand under, of those that the policy has. The default is there
/// whether it is written or not.
fn believed(
    mut written: BTreeMap<String, TrustRule>,
    builders: &[Builder],
) -> Result<BTreeMap<String, TrustRule>, PolicyError> {
    written.entry(Trusts::DEFAULT.to_owned()).or_default();
    for builder in builders {
        let place = format!("[[builder]] {:?}", builder.name);
        let Some(trust) = written.get(&builder.trust) else {
            return Err(rule(&place, format!("trust: there is no [trust.{}]", builder.trust)));
        };
        if trust.transparency != Transparency::None {
            continue;
        }
        let none = "it stands under `transparency = \"none\"`, where no time is verified";
        if builder.credentials.iter().any(Credential::is_timed) {
            return Err(rule(&place, format!("{none}, and has `from`, `until` or `revoked`")));
        }
        if builder.credentials.iter().any(|credential| credential.issuer().is_some()) {
            return Err(rule(&place, format!("{none}, and a certificate stands for minutes only")));
        }
    }
    written.retain(|name, _| builders.iter().any(|builder| builder.trust == *name));
    Ok(written)
}

fn is_timeless(trusts: &BTreeMap<String, TrustRule>, builder: &Builder) -> bool {
    trusts.get(&builder.trust).is_none_or(|trust| trust.transparency == Transparency::None)
}

/// A name that can stand in output: not empty, short, printable.
fn name(place: &str, what: &str, name: &str) -> Result<(), PolicyError> {
    text(place, what, name, 100)
}

fn text(place: &str, what: &str, text: &str, most: usize) -> Result<(), PolicyError> {
    if text.trim() != text || text.is_empty() || text.len() > most || text.chars().any(is_hidden) {
        return Err(rule(
            place,
            format!("`{what}` must be 1 to {most} printable characters, without space around"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestation::{CertificateClaim, Identity, PublicKey, San, Witnesses};
    use crate::policy::Domain;
    use crate::policy::builder::Revocation;

    const WITNESS: &str = "witness.example/one+0a9da1ee+BHG1hRqns0eH8/jMrzqg86CCCkh5aMnDv6rl2Nw22mM9";

    fn pem(n: u8) -> String {
        PublicKey::from_ed25519(&[n; 32]).unwrap().to_pem()
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
            "{}[[image]]\nrepository = \"ghcr.io/acme/*\"\nplatforms = [\"linux/arm64\"]\nquorum = 1\n\
             [[image]]\nrepository = \"ghcr.io/acme/inner/*\"\nplatforms = [\"linux/arm64\"]\nquorum = 2\n",
            text()
        );
        let policy = parse(&more).unwrap();
        let quorum = |r: &str| policy.image(&r.parse().unwrap()).map(|rule| rule.run.quorum.get());
        assert_eq!(quorum("ghcr.io/acme/app"), Some(2));
        assert_eq!(quorum("ghcr.io/acme/other"), Some(1));
        assert_eq!(quorum("ghcr.io/acme/deep/er"), Some(1));
        assert_eq!(quorum("ghcr.io/acme/inner/app"), Some(2), "the longest path");
        assert_eq!(quorum("ghcr.io/acme-evil/app"), None);
    }

    #[test]
    fn a_path_of_docker_hub_is_taken_as_it_is_written() {
        let below = |path: &str| {
            let policy = parse(&text().replace("ghcr.io/acme/app", path)).unwrap();
            let fits = |r: &&str| policy.image(&r.parse().unwrap()).is_some();
            ["docker.io/acme/app", "docker.io/nginx", "docker.io/library/acme/app"].map(|r| fits(&r))
        };
        assert_eq!(below("docker.io/acme/*"), [true, false, false]);
        assert_eq!(below("index.docker.io/library/*"), [false, true, true]);
        assert!(parse(&text().replace("ghcr.io/acme/app", "docker.io/*")).is_err());
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
            (with_image("distinct_by = \"moon\""), "a domain, or a list of them"),
            (with_image("distinct_by = [\"moon\"]"), "a domain, or a list of them"),
            (with_image("distinct_by = []"), "the list is empty"),
            (with_image("distinct_by = [\"issuer\", \"issuer\"]"), "something twice"),
            (with_image("distinct_by = [\"issuer\", \"jurisdiction\"]"), "\"a\" names no jurisdiction"),
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
            (with_keys("[]"), "there must be `key`, `keys`, `issuer` and `san`, or `identities`"),
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

    /// The policy with builder `b` known by `lines`, and tables after it.
    fn known_by(lines: &str, tables: &str) -> String {
        text().replace(&format!("key = '''{}'''\n", pem(2)), &format!("{lines}\n")) + tables
    }

    const ISSUER: &str = "issuer = \"https://ci.test\"";
    const JOB: &str = "https://git.test/acme/app/.ci/build.yml@refs/heads/main";

    fn identity(org: &str) -> Signer {
        let san = format!("https://git.test/{org}/app/.ci/build.yml@refs/heads/main");
        Signer::Certificate(Box::new(Identity {
            issuer: "https://ci.test".to_owned(),
            san: San::Uri(san),
            claims: [(CertificateClaim::RunnerEnvironment, "hosted".to_owned())].into(),
        }))
    }

    #[test]
    fn a_builder_is_known_by_keys_and_certificates() {
        let name_of = |lines: &str, org: &str| {
            let policy = parse(&known_by(lines, "")).unwrap();
            policy.builder(&identity(org)).map(|builder| builder.name.clone())
        };
        let b = Some("b".to_owned());
        let exact = format!("{ISSUER}\nsan = \"{JOB}\"");
        assert_eq!(name_of(&exact, "acme"), b);
        assert_eq!(name_of(&exact, "acme2"), None);
        assert_eq!(name_of(&exact.replace("ci.test", "ci.test/"), "acme"), None);
        let glob = exact.replace("acme/", "acme*/");
        assert_eq!(name_of(&glob, "acme2"), b);
        assert_eq!(name_of(&format!("{exact}\nrequire = {{ runner_environment = \"hosted\" }}"), "acme"), b);
        assert_eq!(name_of(&format!("{exact}\nrequire = {{ runner_environment = \"own\" }}"), "acme"), None);
        assert_eq!(name_of(&format!("{exact}\nrequire = {{ build_trigger = \"push\" }}"), "acme"), None);
        let several = format!("key = \"c.pub\"\nidentities = [{{ {ISSUER}, san = \"{JOB}\" }}]");
        assert_eq!(name_of(&several, "acme"), b);
        let policy = parse(&known_by(&several, "")).unwrap();
        assert_eq!(policy.builders()[1].credentials.len(), 2);
        assert_eq!(policy.builders()[1].domain(Domain::Issuer), Some("https://ci.test"));
        assert_eq!(policy.builders()[0].domain(Domain::Issuer), Some("a"));
    }

    #[test]
    fn a_trust_has_a_name_a_root_and_what_it_wants() {
        let trust = |tables: &str| {
            let policy = parse(&known_by(&format!("{ISSUER}\nsan = \"{JOB}\"\ntrust = \"own\""), tables));
            policy.unwrap().trusts()["own"].clone()
        };
        let rekor = |logs| Transparency::Rekor {
            logs: std::num::NonZeroUsize::new(logs).unwrap(),
            witnesses: Witnesses::default(),
        };
        let given = trust("[trust.own]\n");
        assert_eq!(given, TrustRule { source: TrustSource::Given, transparency: rekor(1) });
        let file = trust("[trust.own]\ntrusted_root = \"c.pub\"\ntransparency = \"timestamp\"\n");
        assert_eq!(file.source, TrustSource::Json(pem(3).into_bytes()));
        assert_eq!(file.transparency, Transparency::Timestamp);
        let tuf = trust("[trust.own]\ntuf = \"https://tuf.test\"\ntuf_root = \"c.pub\"\nlogs = 2\n");
        let (url, root) = ("https://tuf.test".to_owned(), pem(3).into_bytes());
        assert_eq!(tuf, TrustRule { source: TrustSource::Tuf { url, root }, transparency: rekor(2) });
        let watched = trust(&format!("[trust.own]\nwitnesses = 1\nwitness_keys = [\"{WITNESS}\"]\n"));
        let witnesses = Witnesses::new(std::num::NonZeroUsize::MIN, vec![WITNESS.parse().unwrap()]).unwrap();
        let logs = std::num::NonZeroUsize::MIN;
        assert_eq!(watched.transparency, Transparency::Rekor { logs, witnesses });
        assert_eq!(trust("[trust.own]\ntuf = \"staging\"\n").source, TrustSource::Staging);
        // The default is there only if a builder stands under it.
        assert_eq!(parse(&text()).unwrap().trusts().len(), 1);
    }

    #[test]
    fn identities_and_trusts_that_mean_less_than_they_seem_to_are_refused() {
        let exact = format!("{ISSUER}\nsan = \"{JOB}\"");
        assert!(parse(&known_by(&exact, "")).is_ok());
        let third = |lines: &str| format!("[[builder]]\nname = \"c\"\noperator = \"C\"\n{lines}\n");
        let required = |claim: &str, value: &str| format!("{exact}\nrequire = {{ {claim} = \"{value}\" }}");
        // Claims that differ tell two builders of one workflow apart.
        let apart = required("build_trigger", "push");
        assert!(parse(&known_by(&apart, &third(&required("build_trigger", "schedule")))).is_ok());
        assert!(parse(&known_by(&exact, &third(&exact.replace("acme/", "other/")))).is_ok());
        let none = "[trust.own]\ntransparency = \"none\"\n";
        let under = |lines: &str| known_by(&format!("key = \"c.pub\"\ntrust = \"own\"\n{lines}"), none);
        assert!(parse(&under("")).is_ok());
        assert!(parse(&under("revoked = \"compromised\"").replace("quorum = 2", "quorum = 1")).is_ok());
        let own =
            |table: &str| known_by(&format!("{exact}\ntrust = \"own\""), &format!("[trust.own]\n{table}\n"));
        assert!(parse(&own("")).is_ok());
        let timed = |line: &str| under("").replace("quorum = 2", &format!("quorum = 2\n{line}"));
        for (bad, says) in [
            (known_by("", ""), "there must be `key`"),
            (known_by(ISSUER, ""), "either `issuer` and `san`"),
            (known_by(&format!("san = \"{JOB}\""), ""), "either `issuer` and `san`"),
            (known_by(&format!("{exact}\nidentities = [{{ {ISSUER}, san = \"{JOB}\" }}]"), ""), "or `identities`"),
            (known_by("key = \"c.pub\"\nclaims = \"workflow\"", ""), "or `identities`"),
            (known_by(&exact.replace("https://ci.test", ""), ""), "issuer"),
            (known_by(&exact.replace("ci.test", "*.test"), ""), "no patterns but in `san`"),
            (known_by(&required("build_trigger", "*"), ""), "no patterns but in `san`"),
            (known_by(&required("build_tigger", "push"), ""), "build_tigger"),
            (known_by(&exact.replace("git.test", "*.test"), ""), "host is written out"),
            (known_by(&exact.replace(JOB, "*"), ""), "host is written out"),
            (known_by(&exact.replace(JOB, "somebody"), ""), "host is written out"),
            (known_by(&exact.replace(JOB, "joe@*"), ""), "host is written out"),
            (known_by(&exact.replace(JOB, "joe@acme.test"), ""), "claims = \"workflow\""),
            (known_by(&format!("{exact}\nclaims = \"none\""), ""), "none"),
            (known_by(&exact, &third(&exact)), "is also that of \"b\""),
            (known_by(&exact, &third(&exact.replace("build.yml", "*.yml"))), "is also that of \"b\""),
            (known_by(&exact.replace("acme", "*"), &third(&exact.replace("build", "*"))), "is also that of \"b\""),
            (known_by(&exact, &third(&apart)), "is also that of \"b\""),
            (known_by(&apart, &third(&required("runner_environment", "own"))), "is also that of \"b\""),
            (known_by(&format!("{exact}\ntrust = \"own\""), ""), "there is no [trust.own]"),
            (own("transparency = \"none\""), "a certificate stands for minutes only"),
            (own("logs = 0"), "logs"),
            (own("logs = 9"), "at most 8"),
            (own("logs = 1\ntransparency = \"timestamp\""), "only `transparency = \"rekor\"`"),
            (own("witnesses = 1"), "both, or none"),
            (own("witness_keys = []"), "both, or none"),
            (own("witnesses = 1\nwitness_keys = []"), "1 are wanted, and 0 known"),
            (own(&format!("witness_keys = [\"{WITNESS}\"]")), "both, or none"),
            (own(&format!("witnesses = 0\nwitness_keys = [\"{WITNESS}\"]")), "witnesses"),
            (own(&format!("witnesses = 2\nwitness_keys = [\"{WITNESS}\"]")), "2 are wanted, and 1 known"),
            (own(&format!("witnesses = 2\nwitness_keys = [\"{WITNESS}\", \"{WITNESS}\"]")), "there twice"),
            (own("witnesses = 1\nwitness_keys = [\"witness.test\"]"), "NAME+ID+KEY"),
            (own(&format!("witnesses = 1\nwitness_keys = [\"{WITNESS}\"]\ntransparency = \"timestamp\"")), "only `transparency = \"rekor\"`"),
            (own(&format!("witness_keys = [\"{WITNESS}\"]\ntransparency = \"none\"")), "only `transparency = \"rekor\"`"),
            (own("transparency = \"ct\""), "ct"),
            (own("trusted_root = \"x.json\""), "x.json"),
            (own("trusted_root = \"c.pub\"\ntuf = \"staging\""), "`trusted_root` alone"),
            (own("tuf = \"https://tuf.test\""), "`tuf_root`"),
            (own("tuf = \"moon\""), "`tuf_root`"),
            (own("tuf_root = \"c.pub\""), "`tuf_root`"),
            (under("revoked = { from = 2026-01-01T00:00:00Z }"), "no time is verified"),
            (under("").replace("key = \"c.pub\"", "keys = [{ key = \"c.pub\", from = 2026-01-01T00:00:00Z }]"), "no time is verified"),
            (timed("max_age = \"7d\""), "no time is verified"),
            (timed("verify_max_age = \"7d\""), "no time is verified"),
            (timed("epoch = 2026-01-01T00:00:00Z"), "no time is verified"),
            (
                known_by(&format!("identities = [{{ {ISSUER}, san = \"{JOB}\" }}, {{ issuer = \"https://other.test\", san = \"{JOB}\" }}]"), "")
                    .replace("quorum = 2", "quorum = 2\ndistinct_by = \"issuer\""),
                "has several issuers",
            ),
            (
                known_by(&exact, &third(&exact.replace("acme/", "other/")))
                    .replace("quorum = 2", "quorum = 3\ndistinct_by = \"issuer\""),
                "differ in operator and issuer",
            ),
        ] {
            let error = parse(&bad).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(says), "{says:?} is not in {error:?}");
        }
    }
}
