//! The examples in `policies/`, each held to what its first lines say: a release that is met, and
//! beside it one that just fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use quorate_bed::issuer::{github_job, gitlab_job};
use quorate_bed::{Fulcio, Issuer, Log, RegistryOptions, keyless_root};
use serde_json::{Value, json};
use shop::{AMD64, ARM64, COMMIT, GITHUB, GITLAB, MAIN, NAR_HASH, Release, Run, SOURCE, Shop, cell};

/// An example at work: its hosts are the shop's registry, its keys the shop's keys.
struct Works {
    shop: Shop,
    github: Issuer,
    gitlab: Issuer,
    fulcio: Fulcio,
    second_log: Log,
}

/// How a builder signs.
enum By {
    /// With the key of this name.
    Key(&'static str),
    /// As a job of GitHub, in this repository.
    GitHub(&'static str),
    /// The same, whose owner has another number: the name was given to somebody else.
    GitHubOwner(&'static str),
    /// As a pipeline of GitLab, of this project.
    GitLab(&'static str),
}

use By::{GitHub, GitHubOwner, GitLab, Key};

impl Works {
    fn new(example: &str) -> Self {
        let shop = Shop::new(RegistryOptions::default());
        let (github, gitlab) = (Issuer::start(GITHUB), Issuer::start(GITLAB));
        let fulcio = Fulcio::start(&[&github, &gitlab]);
        let second_log = Log::start();
        let root = keyless_root(&[&shop.bed.log, &second_log], &[], &[&shop.bed.tsa], &[&fulcio]);
        shop.write("root.json", root.to_string());
        fs::create_dir(shop.path("keys")).unwrap();
        shop.quorate(&["key", "generate", "gitlab.key"]).exits(0);
        for key in ["github", "gitlab", "garnix", "basement"] {
            fs::rename(shop.path(&format!("{key}.key.pub")), shop.path(&format!("keys/{key}.pub"))).unwrap();
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(example);
        let text = fs::read_to_string(file).unwrap();
        let text = ["ghcr.io", "registry.acme.example"]
            .iter()
            .fold(text, |text, host| text.replace(&format!("\"{host}/"), &format!("\"{}/", shop.host())));
        shop.write("quorate.toml", text);
        shop.quorate(&["policy", "check", "quorate.toml"]).exits(0);
        Self { shop, github, gitlab, fulcio, second_log }
    }

    /// A candidate that nobody has voted for. The policy may govern every tag, so it has none.
    fn release(&self, name: &str) -> Release {
        self.shop.release_unruled(name)
    }

    fn votes(&self, release: &Release, builder: &str, by: &By) -> Run {
        self.votes_with(release, builder, by, &[])
    }

    /// `attest` of both platforms, with more arguments.
    fn votes_with(&self, release: &Release, builder: &str, by: &By, more: &[&str]) -> Run {
        let mut arguments: Vec<String> =
            ["attest", &release.reference, "--builder", builder].map(str::to_owned).to_vec();
        for ((_, system), image) in [AMD64, ARM64].iter().zip(&release.images) {
            arguments.extend(["--config-digest".to_owned(), format!("{system}={}", image.config_digest)]);
            arguments.extend(["--nar-hash".to_owned(), format!("{system}={NAR_HASH}")]);
        }
        let rest =
            ["--commit", COMMIT, "--sequence", "1", "--source-uri", SOURCE, "--ref", MAIN, "--no-infer"];
        arguments.extend(rest.map(str::to_owned));
        let mut command = self.shop.command(&[]);
        let token = match by {
            Key(key) => {
                arguments.extend(["--key".to_owned(), format!("{key}.key")]);
                None
            }
            GitHub(repository) => Some(self.github.token(&github_job(repository, "build.yml", MAIN, COMMIT))),
            GitHubOwner(repository) => {
                let mut job = github_job(repository, "build.yml", MAIN, COMMIT);
                job["repository_owner_id"] = json!("999999");
                Some(self.github.token(&job))
            }
            GitLab(project) => Some(self.gitlab.token(&gitlab_job(project, "main", COMMIT))),
        };
        if let Some(token) = token {
            arguments.extend(["--identity-token", "env:JOB_TOKEN"].map(str::to_owned));
            command.env("JOB_TOKEN", token).env("QUORATE_FULCIO_URL", self.fulcio.url());
        }
        if more.contains(&"--signing-config") {
            command.env_remove("QUORATE_REKOR_URL").env_remove("QUORATE_TSA_URL");
            command.env_remove("QUORATE_FULCIO_URL");
        }
        let output = command
            .args(arguments)
            .args(more)
            // A builder knows nothing of the policy.
            .env_remove("QUORATE_POLICY")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let run = Run {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        run.exits(0)
    }

    #[track_caller]
    fn met(&self, release: &Release) -> Value {
        let verdict = self.shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(0).json();
        assert_eq!(verdict["verdict"], "met");
        verdict
    }

    /// That it is refused, with this verdict, and with this next to it.
    #[track_caller]
    fn refused(&self, release: &Release, verdict: &str, says: &str) -> Value {
        let run = self.shop.quorate(&["verify", &release.reference]).exits(1);
        let text = run.stdout + &run.stderr;
        assert!(text.contains(says), "{says:?} is not in: {text}");
        let document = self.shop.quorate(&["verify", &release.reference, "-o", "json"]).exits(1).json();
        assert_eq!(document["verdict"], verdict);
        document
    }

    #[track_caller]
    fn promote(&self, release: &Release, tag: &str, code: i32) -> Run {
        self.shop.bed.registry.clear_log();
        let run = self.shop.quorate(&["promote", &release.reference, "--tag", tag]).exits(code);
        assert!(code == 0 || self.shop.bed.registry.writes().is_empty(), "nothing is written");
        run
    }
}

#[track_caller]
fn cells(verdict: &Value, builder: &str, expected: &str) {
    for platform in ["linux/amd64", "linux/arm64"] {
        assert_eq!(cell(verdict, platform, builder), expected, "{platform} {builder}");
    }
}

#[test]
fn two_ci_providers_must_agree() {
    let works = Works::new("two-ci-providers.toml");
    let release = works.release("git-1");
    works.votes(&release, "github", &GitHub("acme/app"));
    // A second run of the same job, a fork's job, and one of a new owner of the name.
    works.votes_with(&release, "github", &GitHub("acme/app"), &["--again"]);
    works.votes(&release, "gitlab", &GitLab("mallory/app"));
    works.votes(&release, "gitlab", &GitHub("mallory/app"));
    let short = works.refused(&release, "short", "needs 1 more operator: gitlab");
    cells(&short, "github", "counted");
    cells(&short, "gitlab", "missing");
    works.votes(&release, "gitlab", &GitLab("acme/app"));
    works.met(&release);

    let stolen = works.release("git-2");
    works.votes(&stolen, "github", &GitHubOwner("acme/app"));
    works.votes(&stolen, "gitlab", &GitLab("acme/app"));
    let short = works.refused(&stolen, "short", "needs 1 more operator: github");
    cells(&short, "gitlab", "counted");
}

#[test]
fn ci_and_a_rebuilder_must_agree() {
    let works = Works::new("ci-and-rebuilder.toml");
    let release = works.release("git-1");
    works.votes(&release, "basement", &Key("basement"));
    works.votes(&release, "github", &Key("github"));
    let short = works.refused(&release, "short", "needs 1 more operator: github");
    cells(&short, "basement", "counted");
    works.votes(&release, "github", &GitHub("acme/app"));
    works.met(&release);
    // The rebuilder got something else.
    let other = format!("sha256:{}", "1".repeat(64));
    let again = works.release("git-2");
    works.votes(&again, "github", &GitHub("acme/app"));
    works.shop.attest_as(
        &again.reference,
        "basement",
        AMD64.1,
        &other,
        &["--record-dissent", "--sequence", "1", "--source-uri", SOURCE],
    );
    let dissent = works.refused(&again, "dissent", "signed-dissent");
    assert_eq!(cell(&dissent, "linux/amd64", "basement"), "dissent signed-dissent");
}

#[test]
fn two_jurisdictions_must_agree() {
    let works = Works::new("jurisdictions.toml");
    let release = works.release("git-1");
    works.votes(&release, "github", &Key("github"));
    works.votes(&release, "garnix", &Key("garnix"));
    let short =
        works.refused(&release, "short", "needs 1 more operator, each of another jurisdiction: basement");
    cells(&short, "garnix", "counted");
    works.votes(&release, "basement", &Key("basement"));
    works.met(&release);
}

#[test]
fn production_asks_for_more_than_staging() {
    let works = Works::new("environments.toml");
    let release = works.release("git-1");
    works.promote(&release, "staging", 1);
    works.votes(&release, "garnix", &Key("garnix"));
    works.promote(&release, "latest", 1);
    works.promote(&release, "v1", 1);
    works.promote(&release, "other", 2).says("no rule for the tag");
    works.promote(&release, "staging", 0);
    works.refused(&release, "short", "needs 1 more operator: github");
    works.votes(&release, "github", &Key("github"));
    works.promote(&release, "latest,v1", 0);
    assert_eq!(works.met(&release)["environment"], "production");
}

#[test]
fn innocent_believes_one_builder() {
    let works = Works::new("tier-innocent.toml");
    let release = works.release("git-1");
    works.votes(&release, "github", &GitHub("mallory/app"));
    works.votes(&release, "github", &Key("github"));
    works.refused(&release, "short", "needs 1 more operator: github");
    works.votes(&release, "github", &GitHub("acme/app"));
    works.met(&release);
}

#[test]
fn credulous_believes_two_builders_and_one_log() {
    let works = Works::new("tier-credulous.toml");
    let release = works.release("git-1");
    works.votes(&release, "github", &GitHub("acme/app"));
    works.refused(&release, "short", "needs 1 more operator, each of another organisation: garnix, basement");
    works.votes(&release, "basement", &Key("basement"));
    works.met(&release);
}

#[test]
fn suspicious_believes_no_log_alone() {
    let works = Works::new("tier-suspicious.toml");
    let service = |url: String, operator: &str, version: u32| {
        json!({
            "url": url,
            "majorApiVersion": version,
            "validFor": { "start": "2020-01-01T00:00:00Z" },
            "operator": operator,
        })
    };
    let config = json!({
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": [service(works.fulcio.url(), "one", 1)],
        "oidcUrls": [],
        "rekorTlogUrls": [
            service(works.shop.bed.log.url(), "one", 2),
            service(works.second_log.url(), "two", 2),
        ],
        "tsaUrls": [service(works.shop.bed.tsa.url(), "one", 1)],
        "rekorTlogConfig": { "selector": "ALL" },
        "tsaConfig": { "selector": "ANY" },
    });
    works.shop.write("both.json", config.to_string());
    let both = ["--signing-config", "both.json"];
    let release = works.release("git-1");
    works.votes_with(&release, "github", &GitHub("acme/app"), &both);
    works.votes(&release, "garnix", &Key("garnix"));
    let short = works.refused(&release, "short", "log-too-few");
    cells(&short, "github", "counted");
    cells(&short, "garnix", "rejected log-too-few");
    works.votes_with(&release, "basement", &Key("basement"), &both);
    let met = works.met(&release);
    cells(&met, "garnix", "rejected log-too-few");
}

#[test]
fn a_log_must_be_witnessed() {
    let works = Works::new("witnessed.toml");
    // From here on, the witness of this name cosigns, in the place of the example's.
    let cosigns = |name: &str| {
        let text = fs::read_to_string(works.shop.path("quorate.toml")).unwrap();
        let sample = text.lines().find(|line| line.contains(&format!("{name}+"))).unwrap();
        let key = works.shop.bed.log.add_witness(name);
        works.shop.write("quorate.toml", text.replace(sample, &format!("\"{key}\",")));
    };
    let check = ["policy", "check", "quorate.toml"];
    let said = works.shop.quorate(&check).exits(0).stdout;
    let expected = "entries in 1 log, cosigned by 2 of 3 witnesses \
         (witness.example/one, witness.example/two, witness.example/three)";
    assert!(said.contains(expected) && !said.contains("witnesses-apart"), "{said}");
    let document = works.shop.quorate(&[&check[..], &["-o", "json"]].concat()).exits(0).json();
    assert_eq!(document["trusts"][0]["witnesses"]["need"], 2);
    let text = fs::read_to_string(works.shop.path("quorate.toml")).unwrap();
    works.shop.write("one.toml", text.replace("witnesses = 2", "witnesses = 1"));
    let one = works.shop.quorate(&["policy", "check", "one.toml"]).exits(0);
    assert!(one.stdout.contains("! witnesses-apart: "), "{}", one.stdout);

    let release = works.release("git-1");
    cosigns("witness.example/one");
    works.votes(&release, "github", &Key("github"));
    works.votes(&release, "garnix", &Key("garnix"));
    let short = works.refused(&release, "short", "log-unwitnessed");
    cells(&short, "github", "rejected log-unwitnessed");
    cosigns("witness.example/two");
    works.votes(&release, "basement", &Key("basement"));
    works.refused(&release, "short", "needs 1 more operator: github, garnix");
    // Logged once more, where there is somebody to see it.
    works.votes_with(&release, "github", &Key("github"), &["--again"]);
    let met = works.met(&release);
    cells(&met, "garnix", "rejected log-unwitnessed");
}

#[test]
fn certificates_and_a_key_are_two_of_three() {
    let works = Works::new("keyless.toml");
    let release = works.release("git-1");
    works.votes(&release, "rebuilder", &GitLab("rebuilders/acme"));
    // The right name, and another owner.
    works.votes(&release, "github", &GitHubOwner("acme/app"));
    let short = works.refused(&release, "short", "needs 1 more operator: github, basement");
    cells(&short, "rebuilder", "counted");
    works.votes(&release, "github", &GitHub("acme/app"));
    works.met(&release);
}

#[test]
fn an_organisation_has_one_policy() {
    let works = Works::new("organisation.toml");
    let release = works.release("git-1");
    works.votes(&release, "garnix-ci", &Key("garnix"));
    works.refused(&release, "short", "needs 1 more operator: github, basement");
    works.votes(&release, "basement", &Key("basement"));
    let met = works.met(&release);
    cells(&met, "garnix", "counted");
    works.promote(&release, "1.0.0", 2).says("no rule for the tag");
    works.promote(&release, "v1.0.0,stable-1", 0);
    // The vault has a rule of its own, under which these are votes on another image.
    let vault = format!("{}/acme/vault", works.shop.host());
    let to = ["promote", &release.reference, "--to", &vault, "--tag", "latest", "-o", "json"];
    works.shop.bed.registry.clear_log();
    let short = works.shop.quorate(&to).exits(1).json();
    cells(&short, "garnix", "rejected name-mismatch");
    assert!(works.shop.bed.registry.writes().is_empty());
}

#[test]
fn a_mirror_takes_what_was_said_of_the_original() {
    let works = Works::new("mirror.toml");
    let mirror = format!("{}/mirror/app", works.shop.host());
    let release = works.release("git-1");
    works.votes(&release, "github", &Key("github"));
    let to = ["promote", &release.reference, "--to", &mirror, "--tag", "v1"];
    works.shop.bed.registry.clear_log();
    works.shop.quorate(&to).exits(1);
    assert!(works.shop.bed.registry.writes().is_empty());
    works.votes(&release, "garnix", &Key("garnix"));
    works.shop.quorate(&to).exits(0);
    works.shop.quorate(&["verify", &format!("{mirror}:v1")]).exits(0);
    // The original itself has no rule here.
    works.refused(&release, "refused", "no-rule");
}

#[test]
fn strict_asks_for_everybody_under_two_laws_with_the_key_of_today() {
    let works = Works::new("strict.toml");
    let release = works.release("git-1");
    works.votes(&release, "github", &Key("github"));
    works.promote(&release, "staging", 1);
    works.votes(&release, "basement", &Key("basement"));
    // Two laws, and `garnix` is silent.
    works.refused(&release, "short", "garnix");
    works.votes(&release, "garnix", &Key("garnix"));
    works.met(&release);
    works.promote(&release, "staging,latest,v1", 0);
    // With the key of before it has no voice.
    let other = works.release("git-2");
    works.votes(&other, "garnix", &Key("gitlab"));
    works.votes(&other, "basement", &Key("basement"));
    let short = works.refused(&other, "short", "github");
    cells(&short, "garnix", "rejected key-outside-window");
}

#[test]
fn every_example_is_here() {
    let tests = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies.rs")).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "keys" || tests.contains(&format!("Works::new(\"{name}\")")), "{name}");
    }
}
