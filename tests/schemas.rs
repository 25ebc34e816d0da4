//! The published schemas: every document that a command prints is as one of them says, and the
//! policies that load are those that an editor accepts. What other tests read of `-o json` is held
//! to them as well.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs;
use std::path::Path;

use quorate::policy::Policy;
use quorate_bed::Fault;
use serde_json::Value;
use shop::schema::{BASE, check, file_of, files};
use shop::{AMD64, Shop};

#[test]
fn schemas_are_themselves_well_formed_and_named_as_their_files() {
    let all = files();
    assert!(all.len() > 10, "{} schemas", all.len());
    for (name, schema) in &all {
        assert_eq!(schema["$id"], format!("{BASE}{name}"));
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        // Nothing is valid against all of them; a schema that cannot be read says so.
        if name != "common.v1.json" {
            let why = check(name, &Value::Bool(true)).unwrap_err();
            assert!(why.contains("jsonschema validation failed"), "{name}: {why}");
        }
    }
}

/// `Run::json` checks; here each kind of document stands beside its command.
#[test]
fn every_command_prints_what_its_schema_says() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let of = |arguments: &[&str], code: i32, schema: &str| {
        let mut arguments = arguments.to_vec();
        arguments.extend(["-o", "json"]);
        let document = shop.quorate(&arguments).exits(code).json();
        assert_eq!(file_of(&document), schema, "{arguments:?}");
        // A key more is noticed: the schemas are closed.
        let mut more = document.clone();
        more["another"] = Value::Null;
        assert!(check(schema, &more).is_err(), "{arguments:?}");
        document
    };
    let absent = shop.at("absent");
    let image = &release.reference;

    of(&["verify", image], 1, "verify.v1.json");
    assert_eq!(of(&["promote", image, "--tag", "latest"], 1, "promote.v1.json")["outcome"], "refused");
    shop.attest_all(&release, &["github", "garnix"]);
    let again = shop.attest(&release, "github", AMD64.1, &["-o", "json"]).exits(0).json();
    assert_eq!(again["outcome"], "already");
    shop.attest(&release, "basement", "x86_64-linux", &["--config-digest", &release.digest, "-o", "json"]);
    of(&["verify", image], 0, "verify.v1.json");
    assert!(of(&["verify", &absent], 2, "verify.v1.json")["verdict"].is_null());
    assert_eq!(of(&["promote", image, "--tag", "latest"], 0, "promote.v1.json")["outcome"], "moved");
    assert!(of(&["promote", &absent, "--tag", "latest"], 2, "promote.v1.json")["verdict"].is_null());
    of(&["verify", image, &absent], 2, "verify-list.v1.json");
    of(&["verify", image, image, "--policy", "absent.toml"], 2, "verify-list.v1.json");
    of(&["pack", image, "--out", "pack.json"], 0, "packed.v1.json");
    of(&["pack", &absent, "--out", "pack.json"], 2, "packed.v1.json");
    of(&["inspect", image], 0, "inspect.v1.json");
    of(&["inspect", &absent], 2, "inspect.v1.json");
    of(&["resolve", image], 0, "resolve.v1.json");
    of(&["resolve", &absent], 2, "error.v1.json");
    of(&["policy", "check", "quorate.toml"], 0, "policy-check.v1.json");
    let witnessed = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/witnessed.toml");
    of(&["policy", "check", witnessed], 0, "policy-check.v1.json");
    of(&["policy", "check", "absent.toml"], 2, "policy-check.v1.json");
    of(&["key", "public", "github.key"], 0, "key.v1.json");
    of(&["key", "generate", "github.key"], 2, "error.v1.json");
    of(&["nar-hash", "github.key"], 0, "nar-hash.v1.json");
    assert_eq!(of(&["completions", "fish"], 0, "completions.v1.json")["shell"], "fish");
    assert_eq!(of(&["man"], 0, "man.v1.json")["pages"][0]["file"], "quorate.1");
    assert!(of(&["man", "pages"], 0, "man.v1.json")["pages"].as_array().unwrap().len() > 14);
    of(&["nar-hash", "absent"], 2, "error.v1.json");
    let [amd64, arm64] = ["amd64", "arm64"].map(|name| shop.at(&format!("git-1-{name}")));
    of(&["assemble", image, &amd64, &arm64], 0, "assemble.v1.json");
    of(&["assemble", image, &amd64, &absent], 2, "assemble.v1.json");
    let asked = ["assemble", image, &amd64, "--platforms", "linux/arm64"];
    assert_eq!(of(&asked, 1, "assemble.v1.json")["outcome"], "refused");
    let built = [
        "predicate",
        "--builder",
        "github",
        "--system",
        AMD64.1,
        "--commit",
        shop::COMMIT,
        "--sequence",
        "1",
        "--nar-hash",
        shop::NAR_HASH,
        "--config-digest",
        &release.digest,
        "--no-infer",
    ];
    of(&built, 0, "build-predicate.v1.json");

    shop.bed.registry.fault(Fault::status(503));
    assert!(of(&["verify", image, "--timeout", "1"], 3, "verify.v1.json")["verdict"].is_null());
}

/// A policy as an editor sees it: JSON, where a date and time is a string.
fn as_json(text: &str) -> Value {
    fn plain(value: toml::Value) -> Value {
        match value {
            toml::Value::Datetime(moment) => moment.to_string().into(),
            toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, plain(value))).collect(),
            toml::Value::Array(list) => list.into_iter().map(plain).collect(),
            other => serde_json::to_value(other).unwrap(),
        }
    }
    plain(toml::Value::Table(text.parse().unwrap()))
}

fn accepted(text: &str) -> Result<(), String> {
    check("policy.v1.json", &as_json(text))
}

/// The TOML files below a folder.
fn policies(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = entries.flat_map(|path| {
        if path.is_dir() {
            policies(&path)
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            vec![fs::read_to_string(path).unwrap()]
        } else {
            Vec::new()
        }
    });
    below.filter(|text| text.starts_with("version") || text.contains("\nversion")).collect()
}

#[test]
fn policies_that_load_are_accepted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = policies(&root.join("policies"));
    assert!(all.len() >= 6);
    all.extend(policies(&root.join("tests/vectors")));
    for page in ["README.md", "docs/policy.md"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        let blocks = text.split("\n```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
        all.extend(blocks.filter(|block| block.starts_with("version")).map(str::to_owned));
    }
    for text in all {
        // The vectors name statements by their place in the case.
        let digest = format!("\"sha256:{}\"", "0".repeat(64));
        let text = (0..9).fold(text, |text, n| text.replace(&format!("\"sha256:statement-{n}\""), &digest));
        accepted(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    }
}

#[test]
fn policies_of_a_wrong_shape_are_refused() {
    let good = "version = 1\n[[image]]\nrepository = \"ghcr.io/acme/app\"\nplatforms = [\"linux/amd64\"]\n\
                quorum = 2\n[[builder]]\nname = \"a\"\noperator = \"A\"\nkey = \"a.pub\"\n";
    accepted(good).unwrap();
    let image = |line: &str| good.replace("quorum = 2", &format!("quorum = 2\n{line}"));
    let builder = |line: &str| good.replace("name = \"a\"", &format!("name = \"a\"\n{line}"));
    accepted(&image("distinct_by = \"issuer\"\nsince = { \"linux/arm64\" = 1 }\nsingle = true")).unwrap();
    accepted(&image("distinct_by = [\"jurisdiction\", \"infrastructure\"]")).unwrap();
    accepted(&image("epoch = 2026-01-01T00:00:00Z\nmax_age = \"7d\"")).unwrap();
    accepted(&builder("revoked = { from = 2025-06-01T02:00:00+02:00 }")).unwrap();
    // An editor says no sooner than the command does.
    let loads = |text: &str| {
        let key = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/keys/github.pub")).unwrap();
        Policy::parse(&text.replace("quorum = 2", "quorum = 1"), |_| Ok(key.clone())).is_ok()
    };
    let job = "issuer = \"https://ci.example\"\nsan = \"https://ci.example/app/job\"";
    let platforms = |list: &str| good.replace("\"linux/amd64\"", list);
    for text in [
        good.to_owned(),
        platforms("\"linux/amd64/v1\", \"linux/arm64/v8\", \"linux/arm\", \"linux/arm/v6\", \"linux/386\""),
        platforms(
            "\"linux/riscv64\", \"linux/ppc64le\", \"linux/s390x\", \"linux/loong64\", \"linux/arm/7\"",
        ),
        good.replace("quorum = 2", "environments = { staging = 1 }\nverify = \"staging\""),
        good.replace("name = \"a\"", "name = \"GitHub Actions\"\nslots = [\"github\"]"),
        builder("systems = [\"x86_64-linux\"]"),
        builder(&format!("{job}\nrequire = {{ build_trigger = \"push\" }}")),
        good.replace("name = \"a\"", "name = \"a\"\ntrust = \"t\"")
            + "[trust.t]\ntransparency = \"timestamp\"\n",
        format!("{good}[trust.default]\nlogs = 2\n"),
    ] {
        accepted(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
        assert!(loads(&text), "{text}");
    }
    for bad in [
        platforms("\"linux/x86_64\""),
        platforms("\"linux/amd64/v2\""),
        platforms("\"linux/arm/v5\""),
        platforms("\"darwin/arm64\""),
        platforms("\"Linux/amd64\""),
        image("optional = [\"linux/aarch64\"]"),
        image("verify = \"production\""),
        good.replace("name = \"a\"", "name = \"GitHub Actions\""),
        builder("systems = [\"aarch64-darwin\"]"),
        builder(&format!(
            "{job}\nidentities = [{{ issuer = \"https://a.example\", san = \"https://a.example/b\" }}]"
        )),
        builder(&job.replace("https://ci.example\"\n", "https://*.example\"\n")),
        builder(&format!("{job}\nrequire = {{ build_trigger = \"*\" }}")),
        format!("{good}[trust.default]\ntransparency = \"timestamp\"\nlogs = 2\n"),
        good.replace("version = 1", "version = 2"),
        good.replace("version = 1\n", ""),
        good.replace("quorum = 2", "quorum = 0"),
        good.replace("quorum = 2", "quorum = 1.5"),
        good.replace("quorum = 2", "quorum = \"2\""),
        good.replace("quorum = 2\n", ""),
        good.replace("quorum = 2", "quorom = 2"),
        good.replace("[\"linux/amd64\"]", "[]"),
        good.replace("linux/amd64", "linux"),
        good.replace("operator = \"A\"\n", ""),
        good.replace("name = \"a\"", "name = \"\""),
        good.replace("key = \"a.pub\"\n", ""),
        image("environments = { staging = 1 }"),
        image("distinct_by = \"moon\""),
        image("distinct_by = []"),
        image("distinct_by = [\"issuer\", \"issuer\"]"),
        image("epoch = 2026-01-01"),
        image("epoch = 2026-01-01T00:00:00"),
        image("max_age = \"7\""),
        image("max_age = \"0d\""),
        image("max_age = 7"),
        image("min_sequence = -1"),
        image("required_fields = [\"flake\"]"),
        image("since = [\"linux/arm64\"]"),
        image("since = { \"linux/arm64\" = -1 }"),
        image("since = { arm64 = 1 }"),
        image("single = \"yes\""),
        image("types = [\"https://slsa.dev/provenance/v1\"]"),
        image("types = [\"https://spdx.dev/Document\"]\nunbound = true"),
        image("[[image.tag]]\nname = \"v1\"\nrule = \"forward\"\nversions = 1"),
        image("[[image.tag]]\nname = \"v1\"\nrule = \"forward\"\nrefs = \"refs/tags/v1\""),
        image("[[image.tag]]\nname = \"v*\""),
        image("[[image.tag]]\nname = \"v 1\"\nrule = \"forward\""),
        image("[[image.tag]]\nname = \"-rc*\"\nrule = \"forward\""),
        builder("systems = []"),
        builder("revoked = \"yes\""),
        builder("revoked = { from = 2026-01-01 }"),
        builder("keys = [{ key = \"c.pub\" }]"),
        builder("slots = [\"A\"]"),
        format!("{good}[[waive]]\nreason = \"r\"\nuntil = 2026-01-01T00:00:00Z\n"),
    ] {
        assert!(accepted(&bad).is_err(), "{bad}");
        assert!(!loads(&bad), "{bad}");
    }
}
