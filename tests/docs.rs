//! What the documentation says is so: policies load, tables are whole, examples parse, and the
//! command lines do what stands below them.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate::attestation::Statement;
use quorate::oci::handover::Plan;
use quorate::oci::release::Fault;
use quorate::policy::{Glob, Policy};
use quorate::reason::Reason;
use quorate_bed::image::{self, Image};
use quorate_bed::issuer::github_job;
use quorate_bed::{Bed, Fulcio, Issuer, RegistryOptions, keyless_root};
use serde_json::Value;

/// A page that begins anew, with servers of its own.
const FIRST_RELEASE: &str = "docs/first-release.md";

/// The page whose policies are used by the command lines around them: each begins with its name.
const OPERATIONS: &str = "docs/operations.md";

/// Every page, in the order in which their command lines are run.
const PAGES: &[&str] = &[
    "README.md",
    FIRST_RELEASE,
    "docs/push.md",
    "docs/assemble.md",
    "docs/attest.md",
    "docs/promote.md",
    "docs/verify.md",
    "docs/policy.md",
    OPERATIONS,
    "docs/nix.md",
    "docs/rebuilder.md",
    "docs/github-actions.md",
    "docs/forgejo.md",
    "docs/gitlab.md",
    "docs/concepts.md",
    "docs/disagreement.md",
    "docs/threat-model.md",
    "docs/trust.md",
    "docs/interop.md",
    "docs/reasons.md",
    "docs/predicates/build-v1.md",
    "docs/predicates/dissent-v1.md",
];

fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

fn read(of: &str) -> String {
    fs::read_to_string(path(of)).unwrap_or_else(|error| panic!("{of}: {error}"))
}

/// The fenced blocks of a page that are marked with `language`.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = read(page);
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(marked) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if marked == language {
                blocks.push(block.join("\n"));
            }
        }
    }
    blocks
}

/// The rows of the tables in `text` whose first cell is a code, as cells without code marks.
fn rows(text: &str) -> impl Iterator<Item = Vec<String>> {
    text.lines().filter(|line| line.starts_with("| `")).map(|line| {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    })
}

fn code(cell: &str) -> &str {
    cell.trim_matches('`')
}

/// Loads a policy whose key files lie below `policies/`.
fn load(name: &str, text: &str) -> Policy {
    Policy::parse(text, |key| fs::read(path("policies").join(key)).map_err(|error| error.to_string()))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_page_begins_with_the_warning() {
    for page in PAGES {
        let text = read(page);
        let second = text.split("\n\n").nth(1).unwrap_or_default().replace("\n> ", " ");
        assert!(
            second.starts_with("> **First of all: no signature policy may trust a key that votes.**"),
            "{page}"
        );
    }
}

/// A heading as hosts of Markdown make an anchor of it.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading
        .trim_start_matches('#')
        .trim()
        .chars()
        .filter(kept)
        .collect::<String>()
        .to_lowercase()
        .replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    for page in PAGES {
        let text = read(page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let there = if file.is_empty() { path(page) } else { path(page).parent().unwrap().join(file) };
            assert!(there.exists(), "{page}: {link}");
            let headed = |text: &str| text.lines().any(|line| line.starts_with('#') && anchor(line) == place);
            assert!(place.is_empty() || headed(&fs::read_to_string(&there).unwrap()), "{page}: {link}");
        }
    }
}

#[test]
fn tests_that_a_page_names_are_there() {
    let mut named = 0;
    for page in PAGES {
        for link in read(page).split("[`").skip(1) {
            let Some((name, rest)) = link.split_once("`](../tests/") else { continue };
            let file = rest.split(')').next().unwrap();
            assert!(read(&format!("tests/{file}")).contains(&format!("fn {name}(")), "{page}: {name}");
            named += 1;
        }
    }
    assert!(named >= 20, "only {named}");
}

#[test]
fn every_policy_loads() {
    let mut loaded = 0;
    for entry in fs::read_dir(path("policies")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "toml") {
            let name = file.display().to_string();
            let policy = load(&name, &fs::read_to_string(&file).unwrap());
            assert!(!policy.builders().is_empty(), "{name} has builders");
            assert!(
                read("docs/policy.md").contains(file.file_name().unwrap().to_str().unwrap()),
                "{name} is listed"
            );
            loaded += 1;
        }
    }
    assert!(loaded >= 3, "there are examples");
    for block in blocks("docs/policy.md", "toml") {
        load("docs/policy.md", &block);
    }
}

#[test]
fn every_reason_is_listed_with_its_text() {
    let page = read("docs/reasons.md");
    let (verdicts, commands) = page.split_once("\n## Codes of single commands").unwrap();
    let listed: Vec<_> = rows(verdicts).map(|row| (code(&row[0]).to_owned(), row[1].clone())).collect();
    let known: Vec<_> = Reason::ALL.iter().map(|r| (r.code().to_owned(), r.text().to_owned())).collect();
    assert_eq!(listed, known);

    let registry = include_str!("../src/edge/registry/error.rs");
    let service = include_str!("../src/edge/service.rs");
    let sources = [
        registry,
        service,
        include_str!("../src/edge/layers.rs"),
        include_str!("../src/ops/attest.rs"),
        include_str!("../src/oci/pack.rs"),
    ];
    let (_, assemble) = commands.split_once("\n### assemble\n").unwrap();
    let (assemble, commands) = assemble.split_once("\n### ").unwrap();
    let listed: Vec<_> = rows(assemble).map(|row| code(&row[0]).to_owned()).collect();
    let known: Vec<_> = Fault::ALL.iter().map(|fault| fault.code().to_owned()).collect();
    assert_eq!(listed, known);
    let listed: Vec<_> = rows(commands).map(|row| code(&row[0]).to_owned()).collect();
    for code in &listed {
        assert!(sources.iter().any(|source| source.contains(&format!("\"{code}\""))), "{code} is a code");
    }
    let registry = registry.split('"').filter(|text| text.starts_with("registry-"));
    let service = service.split('"').filter(|text| text.starts_with("service-"));
    for code in registry.chain(service) {
        assert!(listed.iter().any(|listed| listed == code), "{code} is listed");
    }
}

#[test]
fn every_cause_of_a_split_is_described() {
    let source = include_str!("../src/oci/difference.rs");
    let known: BTreeSet<&str> = source.split('"').filter(|text| text.starts_with("split-")).collect();
    let page = read("docs/disagreement.md");
    let listed: Vec<_> = rows(&page).map(|row| code(&row[0]).to_owned()).collect();
    assert_eq!(listed.iter().map(String::as_str).collect::<BTreeSet<_>>(), known);
    assert_eq!(listed.len(), known.len(), "each once");
}

#[test]
fn the_plan_is_one() {
    let (repository, tag) = ("ghcr.io/acme/app".parse().unwrap(), CANDIDATE.parse().unwrap());
    let plan = Plan::parse(blocks("docs/assemble.md", "json")[0].as_bytes(), &repository, Some(&tag));
    assert_eq!(plan.unwrap().sources.len(), 2);
}

/// The one example of a predicate's page.
fn example(page: &str) -> Value {
    let blocks = blocks(page, "json");
    assert_eq!(blocks.len(), 1, "{page} has one example");
    let statement =
        Statement::parse(blocks[0].as_bytes()).unwrap_or_else(|error| panic!("{page}: {error:?}"));
    assert!(read(page).contains(&format!("`{}`", statement.predicate_type())), "{page} names its type");
    serde_json::from_str(&blocks[0]).unwrap()
}

#[test]
fn examples_of_predicates_parse_and_tables_say_what_is_required() {
    for page in ["docs/predicates/build-v1.md", "docs/predicates/dissent-v1.md"] {
        let whole = example(page);
        let mut fields = Vec::new();
        for row in rows(&read(page)) {
            // `builder.id` is a field of `builder`.
            let field = code(&row[0]).split('.').next().unwrap().to_owned();
            let mut without = whole.clone();
            let predicate = without["predicate"].as_object_mut().unwrap();
            assert!(predicate.remove(&field).is_some(), "{page}: the example has {field}");
            let read = Statement::parse(without.to_string().as_bytes());
            assert_eq!(read.is_err(), row[2] == "yes", "{page}: {field} is required: {}", row[2]);
            fields.push(field);
        }
        for field in whole["predicate"].as_object().unwrap().keys() {
            assert!(fields.contains(field), "{page}: {field} is described");
        }
    }
}

/// A registry, a log, a timestamp authority and a folder, as the pages take them for granted.
struct Walk {
    bed: Bed,
    fulcio: Fulcio,
    folder: tempfile::TempDir,
    environment: BTreeMap<String, String>,
}

const CANDIDATE: &str = "git-5f1c2d9";

impl Walk {
    fn start() -> Self {
        let issuer = Issuer::start("https://token.actions.githubusercontent.com");
        let walk = Self {
            bed: Bed::start(RegistryOptions::default()),
            fulcio: Fulcio::start(&[&issuer]),
            folder: tempfile::tempdir().unwrap(),
            environment: BTreeMap::new(),
        };
        for (architecture, system) in [("amd64", "x86_64-linux"), ("arm64", "aarch64-linux")] {
            let pushed = walk.build("result", architecture, system, b"hello");
            pushed
                .push(&walk.bed.registry.host(), "acme/app", &format!("{CANDIDATE}-{architecture}"))
                .unwrap();
            // The rebuild of one builder, pushed as its page says; nothing names it by a release tag.
            let rebuilt = walk.build("rebuild", architecture, system, b"hullo");
            let tag = format!("rebuild-5f1c2d9-{architecture}");
            rebuilt.push(&walk.bed.registry.host(), "acme/app", &tag).unwrap();
        }
        let policy = blocks("README.md", "toml").remove(0);
        fs::write(walk.folder.path().join("quorate.toml"), walk.real(&policy)).unwrap();
        let production = blocks("docs/promote.md", "toml").remove(0);
        fs::write(walk.folder.path().join("production.toml"), walk.real(&production)).unwrap();
        for policy in blocks(OPERATIONS, "toml") {
            let (name, _) = policy.strip_prefix("# ").and_then(|named| named.split_once('\n')).unwrap();
            fs::write(walk.folder.path().join(name), walk.real(&policy)).unwrap();
        }
        let root = keyless_root(&[&walk.bed.log], &[], &[&walk.bed.tsa], &[&walk.fulcio]);
        fs::write(walk.folder.path().join("trusted_root.json"), root.to_string()).unwrap();
        let commit = "5f1c2d9e8b7a6f5e4d3c2b1a09f8e7d6c5b4a392";
        let job = github_job("acme/app", "build.yml", "refs/heads/main", commit);
        fs::write(walk.folder.path().join("job.token"), issuer.token(&job)).unwrap();
        walk
    }

    /// What `nix build` leaves behind, and the image made of it.
    fn build(&self, name: &str, architecture: &str, system: &str, message: &[u8]) -> Image {
        let program = image::minimal_elf(architecture);
        let image = Image::build(
            "linux",
            architecture,
            None,
            &[("bin/app", &program, 0o755), ("message", message, 0o644)],
        );
        fs::write(self.folder.path().join(format!("{name}-{system}")), image.docker_archive()).unwrap();
        image
    }

    /// The servers that the placeholders stand for.
    fn real(&self, text: &str) -> String {
        text.replace("ghcr.io/acme/app", &format!("{}/acme/app", self.bed.registry.host()))
            .replace("https://rekor.example", &self.bed.log.url())
            .replace("https://tsa.example/api/v1/timestamp", &self.bed.tsa.url())
            .replace("https://fulcio.example", &self.fulcio.url())
    }

    /// Runs one block: commands after `$`, each followed by what it prints, where `…` stands for
    /// anything, and by its exit code where that is not 0.
    fn run(&mut self, page: &str, block: &str) -> usize {
        let block = self.real(block).replace(" \\\n", " ");
        let mut run = 0;
        for step in format!("\n{block}").split("\n$ ").skip(1) {
            let (command, shown) = step.split_once('\n').unwrap_or((step, ""));
            let (codes, shown): (Vec<&str>, Vec<&str>) =
                shown.lines().partition(|line| line.starts_with("# exit code "));
            let code = codes.first().map_or(0, |line| line["# exit code ".len()..].parse().unwrap());
            let mut words = command.split_whitespace();
            match words.next() {
                Some("export") => {
                    let (name, value) = words.next().unwrap().split_once('=').unwrap();
                    self.environment.insert(name.to_owned(), value.to_owned());
                }
                Some("quorate") => {
                    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
                        .args(words)
                        .env_clear()
                        .envs(&self.environment)
                        .current_dir(self.folder.path())
                        .output()
                        .unwrap();
                    let printed =
                        [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap()).concat();
                    assert_eq!(output.status.code(), Some(code), "{page}: {command}\n{printed}");
                    let pattern = shown.join("\n").replace('…', "*");
                    let fits = pattern.trim().is_empty() || Glob::new(pattern.trim()).matches(printed.trim());
                    assert!(fits, "{page}: {command}\nprints\n{printed}\nand not\n{pattern}");
                    run += 1;
                }
                other => panic!("{page}: `{other:?}` is not a command that can be run"),
            }
        }
        run
    }
}

#[test]
fn command_lines_do_what_the_pages_say() {
    let mut walk = Walk::start();
    let mut run = 0;
    for page in PAGES.iter().filter(|page| **page != FIRST_RELEASE) {
        for block in blocks(page, "console") {
            run += walk.run(page, &block);
        }
    }
    assert!(run >= 15, "only {run} command lines were run");
}

#[test]
fn the_first_release_goes_as_its_page_says() {
    let mut walk = Walk::start();
    let old = walk.build("old", "amd64", "x86_64-linux", b"from before");
    old.push(&walk.bed.registry.host(), "acme/app", "latest").unwrap();
    let run: usize =
        blocks(FIRST_RELEASE, "console").iter().map(|block| walk.run(FIRST_RELEASE, block)).sum();
    assert!(run >= 11, "only {run} command lines were run");
}

/// The script for a job that deploys, with a stand-in for `kubectl` that notes what it is told.
#[cfg(unix)]
#[test]
fn the_script_that_deploys_starts_what_was_judged_and_nothing_else() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let mut walk = Walk::start();
    for block in blocks("README.md", "console") {
        walk.run("README.md", &block);
    }
    let folder = walk.folder.path().to_owned();
    let script = blocks("docs/verify.md", "sh").into_iter().find(|block| block.contains("kubectl")).unwrap();
    fs::write(folder.join("deploy"), walk.real(&script)).unwrap();
    fs::create_dir(folder.join("bin")).unwrap();
    symlink(env!("CARGO_BIN_EXE_quorate"), folder.join("bin/quorate")).unwrap();
    fs::write(folder.join("bin/kubectl"), "#!/bin/sh\necho \"$*\" >> \"$STARTED\"\n").unwrap();
    fs::set_permissions(folder.join("bin/kubectl"), fs::Permissions::from_mode(0o755)).unwrap();
    let deploy = |walk: &Walk| {
        let started = folder.join("started");
        let _ = fs::remove_file(&started);
        let output = Command::new("/bin/sh")
            .arg("deploy")
            .env_clear()
            .envs(&walk.environment)
            .env("PATH", folder.join("bin"))
            .env("STARTED", &started)
            .current_dir(&folder)
            .output()
            .unwrap();
        (output.status.code(), fs::read_to_string(started).ok())
    };
    let repository = walk.real("ghcr.io/acme/app");
    let (code, started) = deploy(&walk);
    assert_eq!(code, Some(0));
    let started = started.unwrap();
    let image = format!("set image deployment/app app={repository}@sha256:ebe18d87");
    assert!(started.starts_with(&image) && started.lines().count() == 1, "{started}");

    for block in blocks("docs/disagreement.md", "console") {
        walk.run("docs/disagreement.md", &block);
    }
    assert_eq!(deploy(&walk), (Some(1), None));
}
