//! The cases of `tests/vectors` again, end to end: real images in a registry, real signatures,
//! log entries and timestamps, judged by the real binary.
//!
//! Cases that take a shortcut past the registry cannot run so: bytes, media types or absences
//! that a registry does not give, another clock, evidence that was never signed, and statements
//! about manifests that are not in the index, where nobody looks for them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;
#[allow(dead_code, reason = "evidence that was never signed cannot be attached")]
#[path = "vectors/case.rs"]
mod vector;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use quorate::attestation::{self, Build, Bundle, Content, Remarks, envelope};
use quorate::edge::registry::{Options, Referrers, Registry};
use quorate::edge::service::Service;
use quorate::edge::signer::{KeyPair, KeySource};
use quorate::edge::{log, tsa};
use quorate::nix::NarHash;
use quorate::oci::{Descriptor, Digest, Manifest, Repository, System};
use quorate_bed::image::{self, Image};
use quorate_bed::{RegistryOptions, client};
use serde_json::json;
use shop::Shop;
use vector::{Case, Claim, Foreign};

/// Fewer cases than this, and the rule of what can run has lost some.
const AT_LEAST: usize = 70;

#[test]
fn cases_come_out_the_same_with_real_signatures() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut folders: Vec<_> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    let shops = [true, false].map(|referrers| Shop::new(RegistryOptions { referrers, ..Default::default() }));
    let mut ran = 0;
    for folder in &folders {
        let case: Case = toml::from_str(&fs::read_to_string(folder.join("case.toml")).unwrap()).unwrap();
        let policy = fs::read_to_string(folder.join(&case.policy)).unwrap();
        if can_run(&case, &policy) {
            // In turn on a registry with the referrers API, and on one without.
            run(&shops[ran % 2], folder, &case);
            ran += 1;
        }
    }
    assert!(ran >= AT_LEAST, "only {ran} cases ran");
}

/// The clock here is the real one, each bundle has one time, and each builder one key and slot.
fn can_run(case: &Case, policy: &str) -> bool {
    let beyond = ["_age = ", "[[waive]]", "keys = ["];
    let in_index = |image: &str, push: u32| case.child.iter().any(|c| c.image == image && c.push == push);
    case.bytes.is_none()
        && matches!(case.purpose, vector::Purpose::Verify)
        && !beyond.iter().any(|rule| policy.contains(rule))
        && case.statement.iter().all(|statement| statement.and_at.is_none())
        && case.repository == "ghcr.io/acme/app"
        && case.media_type.ends_with("image.index.v1+json")
        && case.now == "2026-01-02T00:00:00Z"
        && case.rejected.is_empty()
        && case.child.iter().all(|child| child.absent.is_none() && child.media_type.is_none())
        && case.statement.iter().all(|statement| in_index(&statement.image, statement.push))
}

/// One case in a repository of its own.
struct Stage<'a> {
    shop: &'a Shop,
    case: &'a Case,
    repository: Repository,
    name: String,
    images: BTreeMap<(String, String), Image>,
    runtime: &'static tokio::runtime::Runtime,
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        quorate::init().unwrap();
        tokio::runtime::Runtime::new().unwrap()
    })
}

fn run(shop: &Shop, folder: &Path, case: &Case) {
    let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let repository = format!("{}/{name}/acme/app", shop.host());
    let mut stage = Stage {
        shop,
        case,
        repository: repository.parse().unwrap(),
        name: name.clone(),
        images: BTreeMap::new(),
        runtime: runtime(),
    };
    let policy = fs::read_to_string(folder.join(&case.policy)).unwrap();
    for line in policy.lines().filter_map(|line| line.strip_prefix("key = \"")) {
        stage.signer(line.trim_end_matches(".pub\""));
    }
    shop.write(
        "case.toml",
        policy.replace("ghcr.io/", &format!("{}/{name}/", shop.host())).replace(".pub\"", ".key.pub\""),
    );
    stage.push_index();
    for statement in &case.statement {
        stage.attest(statement);
    }
    let image = format!("{repository}:candidate");
    let mut arguments =
        vec!["verify".to_owned(), image, "--policy".into(), "case.toml".into(), "-ojson".into()];
    if let Some(digit) = case.expect_commit {
        arguments.extend(["--expect-commit".into(), digit.to_string().repeat(40)]);
    }
    if let Some(quorum) = case.quorum {
        arguments.extend(["--quorum".into(), quorum.to_string()]);
    }
    if !case.platforms.is_empty() {
        arguments.extend(["--platform".into(), case.platforms.join(",")]);
    }
    let run = shop.quorate(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    // A lower quorum than the policy's is refused before anything is judged.
    if run.code == 2 {
        assert!(run.stderr.contains("lower than the policy's"), "{name}: {}", run.stderr);
        return;
    }
    let (want, got) = (expected(case), told(&run.json()));
    assert_eq!(got, want, "{name}: {}", case.why);
    assert_eq!(run.code, i32::from(case.expect.verdict != "met"), "{name}");
}

impl Stage<'_> {
    fn path(&self) -> &str {
        self.repository.path()
    }

    fn signer(&self, nickname: &str) -> KeyPair {
        let key = format!("{nickname}.key");
        if !self.shop.path(&key).exists() {
            self.shop.quorate(&["key", "generate", &key]).exits(0);
        }
        KeyPair::load(&KeySource::File(self.shop.path(&key)), "").unwrap()
    }

    /// The image of that name: for the platform that the index has it under, or the system's.
    fn image(&mut self, name: &str, push: u32, system: &str) -> Image {
        let child = self.case.child.iter().find(|child| child.image == name);
        let platform = match child.and_then(|c| c.config_platform.as_ref().or(c.platform.as_ref())) {
            Some(platform) => platform.clone(),
            None => system.parse::<System>().unwrap().platform().to_string(),
        };
        let image = self.images.entry((name.to_owned(), platform.clone())).or_insert_with(|| {
            let mut parts = platform.splitn(3, '/');
            let (os, architecture) = (parts.next().unwrap(), parts.next().unwrap());
            Image::build(os, architecture, parts.next(), &[("name", name.as_bytes(), 0o644)])
        });
        if push == 1 { image.clone() } else { image.gzip(push) }
    }

    fn push_index(&mut self) {
        let (host, path) = (self.shop.host(), self.path().to_owned());
        let mut children = Vec::new();
        for child in &self.case.child {
            let image = self.image(&child.image, child.push, "x86_64-linux");
            image.push(&host, &path, &image.manifest_digest).unwrap();
            let mut entry = json!({
                "mediaType": image::MANIFEST,
                "digest": image.manifest_digest,
                "size": image.manifest.len(),
            });
            if let Some(platform) = &child.platform {
                let mut parts = platform.splitn(3, '/');
                entry["platform"] = json!({ "os": parts.next(), "architecture": parts.next() });
                if let Some(variant) = parts.next() {
                    entry["platform"]["variant"] = variant.into();
                }
            }
            children.push(entry);
        }
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": children });
        let put =
            client::put_manifest(&host, &path, "candidate", kind, index.to_string().as_bytes()).unwrap();
        assert_eq!(put, 201, "{}", self.name);
    }

    /// Signs, logs, stamps and attaches, without the comparisons of `quorate attest`.
    fn attest(&mut self, said: &vector::Statement) {
        let about = self.image(&said.image, said.push, &said.system);
        let built = said.built.clone().unwrap_or_else(|| said.image.clone());
        let config_digest: Digest = match &said.config {
            Some(name) => Digest::of(name.as_bytes()),
            None => self.image(&built, 1, &said.system).config_digest.parse().unwrap(),
        };
        let nar_hash = Digest::of(said.nar_hash.as_ref().unwrap_or(&built).as_bytes());
        let disputes: Digest = about.manifest_digest.parse().unwrap();
        let (claim, subject) = match said.claim {
            Claim::Build => (attestation::Claim::Build, disputes),
            Claim::Dissent => (attestation::Claim::Dissent { disputes }, config_digest),
        };
        let own = "ghcr.io/acme/app".to_owned();
        let name = said.name.as_ref().unwrap_or(&own);
        let name = name.replace("ghcr.io/", &format!("{}/{}/", self.shop.host(), self.name));
        let statement = attestation::Statement {
            name: name.parse().unwrap(),
            subject,
            claim,
            build: Build {
                commit: said.commit.to_string().repeat(40).parse().unwrap(),
                system: said.system.parse().unwrap(),
                content: Content { nar_hash: NarHash::from_bytes(*nar_hash.as_bytes()), config_digest },
                builder: said.builder.clone().unwrap_or_else(|| said.signer.clone()),
                sequence: said.sequence,
                source_uri: said.source.clone(),
                git_ref: said.git_ref.clone(),
                target: said.target.clone(),
                remarks: Remarks {
                    built_at: said.says("builtAt").map(|_| said.signed_at.parse().unwrap()),
                    flake_lock_hash: said.says("flakeLockHash"),
                    closure_manifest: said.says("closureManifest"),
                    substituters: said.says("substituters").map(|cache| vec![cache]),
                    invocation: said.says("invocation"),
                },
            },
        };
        let kind = said.kind.map_or(statement.predicate_type(), vector::Kind::as_str);
        let payload = if said.kind.is_none() {
            statement.to_payload().unwrap()
        } else {
            let foreign = Foreign {
                kind,
                name: &name,
                manifest: disputes.hex(),
                commit: statement.build.commit.to_string(),
                source: said.source.as_deref().unwrap_or("https://git.example/app"),
                git_ref: said.git_ref.as_deref().unwrap_or("refs/heads/main"),
                system: &said.system,
                nar_hash: statement.build.content.nar_hash.to_string(),
                builder: &statement.build.builder,
            };
            foreign.payload().into_bytes()
        };
        let signed_at: jiff::Timestamp = said.signed_at.parse().unwrap();
        let seconds = u64::try_from(signed_at.as_second()).unwrap();
        self.shop.bed.tsa.set_time(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)));
        let signer = self.signer(&said.signer);
        let registry = Registry::new(Options::default()).unwrap();
        let service = Service::new(&registry);
        // What says that it is of a type that the policy does not name is not even fetched.
        let unsaid = said.kind.is_some() && self.case.expect.ignored.iter().any(|r| r == "predicate-type");
        let annotation = ("dev.sigstore.bundle.predicateType".to_owned(), kind.to_owned());
        let annotations: BTreeMap<_, _> = (!unsaid).then_some(annotation).into_iter().collect();
        let subject: Descriptor = Manifest::parse(about.manifest).unwrap().descriptor();
        let slot = said.signer.parse().unwrap_or_else(|_| "stranger".parse().unwrap());
        let (rekor, stamps) = (self.shop.bed.log.url(), self.shop.bed.tsa.url());
        self.runtime.block_on(async {
            let message = envelope::pae(&payload);
            let signature = signer.sign(&message).unwrap();
            let by = log::By::Key(signer.public());
            let entry = log::hashedrekord(&service, &rekor.parse().unwrap(), by, &message, &signature)
                .await
                .unwrap()
                .unwrap();
            let stamp = tsa::stamp(&service, &stamps.parse().unwrap(), &signature).await.unwrap();
            let bundle =
                Bundle::keyed(envelope::seal(payload, signature), signer.public(), vec![entry], vec![stamp]);
            let json = bundle.to_json().unwrap();
            let by_api = registry.referrers(&self.repository, subject.digest).await.unwrap();
            let by_api = matches!(by_api, Referrers::Listed(_));
            registry
                .attach(by_api, &self.repository, &subject, &slot, json.as_bytes(), annotations)
                .await
                .unwrap();
        });
    }
}

/// What the file expects, in the words of [`told`].
fn expected(case: &Case) -> Vec<String> {
    let expect = &case.expect;
    let mut lines = vec![format!("verdict {}", expect.verdict)];
    lines.extend(expect.refusals.iter().map(|reason| format!("refused {reason}")));
    lines.extend(expect.ignored.iter().map(|reason| format!("ignored {reason}")));
    if let (Some(digit), Some(sequence)) = (expect.commit, expect.sequence) {
        lines.push(format!("group {} {sequence}", digit.to_string().repeat(40)));
    }
    for (platform, row) in &expect.platform {
        lines.push(format!("{platform} {}", row.votes));
        lines.extend(row.cells.iter().map(|(builder, cell)| format!("{platform} {builder} {cell}")));
    }
    lines.sort();
    lines
}

fn told(document: &serde_json::Value) -> Vec<String> {
    let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![format!("verdict {}", text(&document["verdict"]))];
    lines.extend(list("refusals").iter().map(|refusal| format!("refused {}", text(&refusal["reason"]))));
    lines.extend(list("ignored").iter().map(|ignored| format!("ignored {}", text(&ignored["reason"]))));
    if let Some(group) = document["group"].as_object() {
        lines.push(format!("group {} {}", text(&group["commit"]), group["sequence"]));
    }
    for row in list("platforms") {
        let platform = text(&row["platform"]);
        lines.push(format!("{platform} {} of {}", row["have"], row["need"]));
        for cell in row["cells"].as_array().unwrap() {
            let builder = text(&cell["builder"]);
            lines.push(format!("{platform} {builder} {}", shop::cell(document, &platform, &builder)));
        }
    }
    lines.sort();
    lines
}

/// What names no sequence is no proof that a release is newer.
#[test]
fn a_release_that_provenance_completes_moves_no_tag_forward() {
    let shop = Shop::new(RegistryOptions::default());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/unbound");
    let case: Case = toml::from_str(&fs::read_to_string(folder.join("case.toml")).unwrap()).unwrap();
    let release = |commit: char, sequence: u64, provenance: bool| {
        let mut case = case.clone();
        let image = format!("app-{commit}");
        case.child[0].image.clone_from(&image);
        for said in &mut case.statement {
            said.image.clone_from(&image);
            (said.commit, said.sequence) = (commit, sequence);
            if !provenance {
                (said.kind, said.source) = (None, Some("git+https://git.example/app".to_owned()));
            }
        }
        (case.expect.commit, case.expect.sequence) = (Some(commit), Some(sequence));
        run(&shop, &folder, &case);
    };
    let image = format!("{}/unbound/acme/app:candidate", shop.host());
    let promote = |more: &[&str], code: i32| {
        let arguments = [&["promote", &image, "--policy", "case.toml", "-ojson", "--tag"], more].concat();
        shop.quorate(&arguments).exits(code).json()
    };
    let refused = |more: &[&str], reason: &str| {
        let writes = shop.bed.registry.writes().len();
        assert_eq!(promote(more, 1)["tags"][0]["reason"], reason);
        assert_eq!(shop.bed.registry.writes().len(), writes, "nothing is written");
    };
    release('a', 1, false);
    assert_eq!(promote(&["latest"], 0)["outcome"], "moved");
    release('b', 2, true);
    refused(&["latest"], "tag-unordered");
    let said = shop.quorate(&["promote", &image, "--policy", "case.toml", "--tag", "latest"]).exits(1).stderr;
    assert!(said.contains("hint: let as many builders as the quorum asks attest"), "{said}");
    assert_eq!(promote(&["1.0.0"], 0)["outcome"], "moved");
    shop.quorate(&["pack", &image, "--policy", "case.toml", "--out", "pack.json"]).exits(0);
    let digest = shop.quorate(&["resolve", &image]).exits(0).stdout;
    let packed = format!("{}/unbound/acme/app@{}", shop.host(), digest.trim());
    let verified =
        shop.quorate(&["verify", &packed, "--policy", "case.toml", "--pack", "pack.json", "-ojson"]);
    assert_eq!(shop::cell(&verified.exits(0).json(), "linux/amd64", "github"), "counted");
    let said = shop.quorate(&["verify", &image, "--policy", "case.toml"]).exits(0).stdout;
    assert!(said.contains("github: unbound: it vouches for the manifest and the commit alone"), "{said}");
    assert_eq!(promote(&["latest", "--allow-rollback"], 0)["tags"][0]["allowed"], "rollback");
    // Nor does it say that what comes after it is.
    release('c', 3, false);
    refused(&["latest"], "tag-unverified");
}
