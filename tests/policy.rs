//! Rules of the policy on evidence that was really signed: waivers, revocation, time.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs;

use quorate_bed::image;
use serde_json::{Value, json};
use shop::{AMD64, Shop, cell};

const AMD: &str = "linux/amd64";

/// A policy with lines more in its rule, lines more for one builder, and tables at its end.
fn policy(shop: &Shop, rule: &str, builder: (&str, &str), tables: &str) {
    let (name, lines) = builder;
    let name = format!("name = \"{name}\"\n");
    let text = shop
        .policy(2)
        .replace("quorum = 2\n", &format!("quorum = 2\n{rule}\n"))
        .replace(&name, &format!("{name}{lines}\n"));
    shop.write("quorate.toml", text + tables);
}

fn verify(shop: &Shop, image: &str, code: i32) -> Value {
    shop.quorate(&["verify", image, "-o", "json"]).exits(code).json()
}

#[test]
fn a_dissent_is_waived_by_the_digest_that_verify_prints() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let other = format!("sha256:{}", "1".repeat(64));
    shop.attest_as(&release.reference, "basement", AMD64.1, &other, &["--record-dissent"]).exits(0);
    let promote = ["promote", &release.reference, "--tag", "latest", "-o", "json"];

    let writes = shop.bed.registry.writes().len();
    let refused = shop.quorate(&promote).exits(1).json();
    assert_eq!(cell(&refused, AMD, "basement"), "dissent signed-dissent");
    assert_eq!(shop.bed.registry.writes().len(), writes, "nothing is written");
    let row = refused["platforms"].as_array().unwrap().iter().find(|row| row["platform"] == AMD).unwrap();
    let statement = row["cells"][2]["statements"][0].as_str().unwrap();
    let text = shop.quorate(&["verify", &release.reference]).exits(1);
    assert!(text.stdout.contains(&format!("statement       {statement}")), "{}", text.stdout);

    let waiver = |statement: &str, until: &str| {
        format!("[[waive]]\nstatement = \"{statement}\"\nreason = \"a broken disk\"\nuntil = {until}\n")
    };
    policy(&shop, "", ("basement", ""), &waiver(&other, "2100-01-01T00:00:00Z"));
    assert_eq!(verify(&shop, &release.reference, 1)["verdict"], "dissent", "of another statement");
    policy(&shop, "", ("basement", ""), &waiver(statement, "2020-01-01T00:00:00Z"));
    assert_eq!(verify(&shop, &release.reference, 1)["verdict"], "dissent", "the waiver is over");

    policy(&shop, "", ("basement", ""), &waiver(statement, "2100-01-01T00:00:00Z"));
    let moved = shop.quorate(&promote).exits(0).json();
    assert_eq!(cell(&moved, AMD, "basement"), "waived waived");
    assert_eq!(moved["waived"][0]["statement"], statement);
    assert_eq!(shop.named("latest"), Some(release.digest.clone()));
    let text = shop.quorate(&["verify", &release.reference]).exits(0);
    assert!(text.stdout.contains(&format!("waived {statement} of basement: until 2100")), "{}", text.stdout);
    assert!(text.stdout.contains("a broken disk"), "{}", text.stdout);
}

#[test]
fn revocation_and_rules_on_time_hold_against_real_timestamps() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let (past, future) = ("2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z");
    let from = |moment: &str| format!("revoked = {{ from = {moment} }}");
    for (rule, lines, told) in [
        ("", String::new(), "counted"),
        ("", from(past), "rejected key-revoked"),
        ("", from(future), "counted"),
        ("", "revoked = \"compromised\"".to_owned(), "rejected key-compromised"),
        ("", "systems = [\"x86_64-linux\", \"aarch64-linux\"]".to_owned(), "counted"),
        (&format!("epoch = {past}"), String::new(), "counted"),
        (&format!("epoch = {future}"), String::new(), "rejected before-epoch"),
        ("min_sequence = 1763700000", String::new(), "counted"),
        ("min_sequence = 1763700001", String::new(), "rejected sequence-too-low"),
        ("max_age = \"1h\"\nverify_max_age = \"1h\"", String::new(), "counted"),
        ("refs = [\"refs/heads/main\"]", String::new(), "rejected ref-not-allowed"),
        ("required_fields = [\"builtAt\"]", String::new(), "rejected field-missing"),
    ] {
        policy(&shop, rule, ("garnix", &lines), "");
        let met = told == "counted";
        let document = verify(&shop, &release.reference, i32::from(!met));
        assert_eq!(document["verdict"], if met { "met" } else { "short" }, "{rule} {lines}");
        assert_eq!(cell(&document, AMD, "garnix"), told, "{rule} {lines}");
        let writes = shop.bed.registry.writes().len();
        shop.quorate(&["promote", &release.reference, "--tag", "latest"]).exits(i32::from(!met));
        assert!(met || shop.bed.registry.writes().len() == writes, "{rule} {lines}: nothing is written");
    }
}

#[test]
fn votes_too_old_to_promote_still_run_and_are_still_left() {
    let shop = Shop::open();
    let old = shop.release("git-1", "one");
    shop.attest_all(&old, &["github", "garnix"]);
    shop.quorate(&["promote", &old.reference, "--tag", "latest"]).exits(0);
    let new = shop.release("git-2", "two");
    let later = ["--commit", shop::OTHER_COMMIT, "--sequence", "1763700001"];
    std::thread::sleep(std::time::Duration::from_secs(6));
    for builder in ["github", "garnix"] {
        for system in [shop::AMD64.1, shop::ARM64.1] {
            shop.attest(&new, builder, system, &later).exits(0);
        }
    }
    policy(&shop, "max_age = \"5s\"", ("github", ""), "");
    let refused = shop.quorate(&["promote", &old.reference, "--tag", "1.0.0", "-o", "json"]).exits(1).json();
    assert_eq!(cell(&refused, AMD, "garnix"), "rejected too-old");
    assert_eq!(shop.named("1.0.0"), None);
    assert_eq!(verify(&shop, &old.reference, 0)["verdict"], "met");

    policy(&shop, "max_age = \"10m\"\nmin_sequence = 1763700001", ("github", ""), "");
    shop.quorate(&["promote", &new.reference, "--tag", "latest"]).exits(0);
    assert_eq!(shop.named("latest"), Some(new.digest));
}

#[test]
fn staging_takes_less_than_production_and_no_option_lowers_either() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github"]);
    let rule = |tag: &str, environment: &str| {
        format!("\n[[image.tag]]\nname = \"{tag}\"\nrule = \"forward\"\nenvironment = \"{environment}\"\n")
    };
    let rules = [rule("staging", "staging"), rule("latest", "production")].concat();
    let text = shop.policy(2).replace("quorum = 2\n", "environments = { staging = 1, production = 2 }\n");
    shop.write("quorate.toml", text.replacen("\n[[builder]]", &format!("{rules}\n[[builder]]"), 1));

    let promote =
        |more: &[&str]| shop.quorate(&[&["promote", &release.reference, "-o", "json"], more].concat());
    let writes = shop.bed.registry.writes().len();
    let both = promote(&["--tag", "staging", "--tag", "latest"]).exits(1).json();
    assert_eq!((&both["verdict"], &both["environment"]), (&"short".into(), &"production".into()));
    promote(&["--tag", "latest", "--environment", "staging"]).exits(2).says("never lower it");
    promote(&["--tag", "latest", "--quorum", "1"]).exits(2).says("lower than the policy's 2");
    let raised = promote(&["--tag", "staging", "--environment", "production"]).exits(1).json();
    assert_eq!((&raised["verdict"], &raised["environment"]), (&"short".into(), &"production".into()));
    promote(&["--tag", "staging", "--environment", "moon"]).exits(2).says("it has production, staging");
    shop.quorate(&["verify", &release.reference, "--environment", "staging"]).exits(2).says("never lower it");
    assert_eq!(verify(&shop, &release.reference, 1)["environment"], "production");
    assert_eq!(shop.bed.registry.writes().len(), writes, "nothing is written");

    let staged = promote(&["--tag", "staging"]).exits(0).json();
    assert_eq!(staged["environment"], "staging");
    assert_eq!((shop.named("staging"), shop.named("latest")), (Some(release.digest.clone()), None));
    shop.attest_all(&release, &["garnix"]);
    promote(&["--tag", "staging", "--tag", "latest"]).exits(0);
    assert_eq!(shop.named("latest"), Some(release.digest.clone()));
    assert_eq!(verify(&shop, &release.reference, 0)["verdict"], "met");

    // Where both ask for the same, a tag of the one is not called one of the other.
    let alike = fs::read_to_string(shop.path("quorate.toml")).unwrap().replace("staging = 1", "staging = 2");
    shop.write("quorate.toml", alike);
    let same = promote(&["--tag", "latest", "--environment", "staging"]).exits(0).json();
    assert_eq!(same["environment"], "production");
}

#[test]
fn weak_spots_are_shown_and_refused_only_if_asked() {
    let shop = Shop::open();
    let weak = |code: i32, more: &[&str]| -> Vec<String> {
        let arguments = [&["policy", "check", "quorate.toml", "-o", "json"], more].concat();
        let document = shop.quorate(&arguments).exits(code).json();
        let spots = document["images"][0]["weak"].as_array().unwrap().clone();
        spots.iter().map(|spot| spot["code"].as_str().unwrap().to_owned()).collect()
    };
    let sources = "sources = [\"git+https://github.com/acme/app\"]";
    assert_eq!(weak(0, &[]), ["no-sources"]);
    assert_eq!(weak(1, &["--strict"]), ["no-sources"]);
    policy(&shop, sources, ("github", ""), "");
    assert_eq!(weak(0, &["--strict"]), Vec::<String>::new());

    let one = shop.policy(1).replace("operator = ", "jurisdiction = \"CH\"\noperator = ");
    shop.write("quorate.toml", one);
    assert_eq!(weak(0, &[]), ["quorum-below-two", "no-sources", "one-domain"]);
    let alone = shop.policy(1).replace("\"Garnix\"", "\"Acme\"").replace("\"GitHub\"", "\"Acme\"");
    shop.write("quorate.toml", alone);
    assert_eq!(weak(0, &[]), ["quorum-below-two", "one-voice", "no-sources"]);
    shop.write("quorate.toml", shop.policy(2).replace("\"Garnix\"", "\"Github\""));
    assert_eq!(weak(0, &[]), ["no-sources", "alike"]);
    let staged = "environments = { staging = 2, production = 3 }\nverify = \"staging\"\n";
    shop.write("quorate.toml", shop.policy(2).replace("quorum = 2\n", staged));
    assert_eq!(weak(0, &[]), ["verify-below-strictest", "no-sources"]);

    // A party by two spellings of its name.
    let spelled = shop.policy(2).replace("\"Garnix\"", "\"git-hub\"");
    shop.write("quorate.toml", &spelled);
    assert_eq!(weak(0, &[]), ["no-sources", "alike"]);
    let says = "! alike: \"GitHub\" and \"git-hub\" count as two operators: are they not one?";
    assert!(shop.quorate(&["policy", "check", "quorate.toml"]).stdout.contains(says));
    let laws = |one: &str, other: &str| {
        let text = shop.policy(2).replace("operator = ", "jurisdiction = \"CH\"\noperator = ");
        text.replacen("\"CH\"", one, 1).replacen("\"CH\"", other, 1)
    };
    shop.write("quorate.toml", laws("\"US\"", "\"us\""));
    assert_eq!(weak(0, &[]), ["no-sources"], "nothing is counted by it");
    let by_law = |text: String| text.replace("quorum = 2\n", "quorum = 2\ndistinct_by = \"jurisdiction\"\n");
    shop.write("quorate.toml", by_law(laws("\"US\"", "\"us\"")));
    assert_eq!(weak(0, &[]), ["no-sources", "alike"]);
    shop.write("quorate.toml", by_law(laws("\"US\"", "\"DE\"")));
    assert_eq!(weak(0, &[]), ["no-sources"]);

    // Two workflows, and one repository.
    let workflows = |repository: &str, operator: &str| {
        let job = |repository: &str, workflow: &str| {
            format!(
                "issuer = \"https://token.actions.githubusercontent.com\"\n\
                 san = \"https://github.com/{repository}/.github/workflows/{workflow}.yml@refs/heads/main\"\n\
                 require = {{ source_repository_owner_identifier = \"200200\" }}\n"
            )
        };
        let text = shop.policy(2).replace("\"Garnix\"", operator);
        text.replace("key = \"github.key.pub\"\n", &job("acme/app", "build"))
            .replace("key = \"garnix.key.pub\"\n", &job(repository, "again"))
    };
    shop.write("quorate.toml", workflows("acme/app", "\"Garnix\""));
    assert_eq!(weak(0, &[]), ["no-sources", "one-repository"]);
    for (repository, operator) in [("acme/rebuilds", "\"Garnix\""), ("acme/app", "\"GitHub\"")] {
        shop.write("quorate.toml", workflows(repository, operator));
        assert_eq!(weak(0, &[]), ["no-sources"], "{repository} {operator}");
    }

    shop.write("quorate.toml", shop.policy(4));
    let refused = shop.quorate(&["policy", "check", "quorate.toml"]).exits(2);
    refused.says("line 3: [[image]]");
    shop.write("quorate.toml", shop.policy(2));
    let (ours, other) = (shop.repository(), format!("{}/acme/other", shop.host()));
    shop.quorate(&["policy", "check", "quorate.toml", "--image", &ours]).exits(0);
    shop.quorate(&["policy", "check", "quorate.toml", "--image", &other]).exits(1).says("no-rule");
}

#[test]
fn an_image_of_an_index_is_judged_by_its_own_digest_where_the_policy_says_so() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let alone = format!("{}@{}", shop.repository(), release.images[0].manifest_digest);

    shop.bed.registry.clear_log();
    let run = shop.quorate(&["verify", &alone, "-o", "json"]).exits(1).says("`single = true`");
    let refused = run.json();
    assert_eq!(
        (&refused["verdict"], &refused["refusals"][0]["reason"]),
        (&"refused".into(), &"not-an-index".into())
    );
    let asked = shop.bed.registry.log();
    assert!(
        asked.iter().all(|request| !request.path.contains("referrers")),
        "no evidence was fetched: {asked:?}"
    );

    policy(&shop, "single = true", ("basement", ""), "");
    let met = verify(&shop, &alone, 0);
    assert_eq!((&met["verdict"], &met["notes"][0]["code"]), (&"met".into(), &"single".into()));
    let rows = met["platforms"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["platform"]), (1, &AMD.into()));
    assert_eq!(
        (cell(&met, AMD, "github").as_str(), cell(&met, AMD, "basement").as_str()),
        ("counted", "missing")
    );
    // The index is judged as ever, and needs both.
    assert_eq!(verify(&shop, &release.reference, 0)["platforms"].as_array().unwrap().len(), 2);
    let absent = shop.quorate(&["verify", &alone, "--platform", "linux/arm64", "-o", "json"]).exits(1).json();
    assert_eq!(absent["refusals"][0]["reason"], "platform-missing");

    // A pack of it says the same without a network.
    shop.quorate(&["pack", &alone, "--out", "alone.json"]).exits(0);
    let packed = shop.quorate(&["verify", &alone, "--pack", "alone.json", "-o", "json"]).exits(0).json();
    assert_eq!(packed["platforms"], met["platforms"]);
    let tree = shop.quorate(&["inspect", &alone]).exits(0).stdout;
    assert!(tree.contains("✓ built by \"github\""), "{tree}");

    // One platform of two is no release.
    let writes = shop.bed.registry.writes().len();
    let refused = shop.quorate(&["promote", &alone, "--tag", "latest", "-o", "json"]).exits(1).json();
    assert_eq!(refused["refusals"][0]["reason"], "platform-missing");
    assert_eq!(shop.bed.registry.writes().len(), writes, "nothing is written");

    let other = shop::build("amd64", "something else").config_digest;
    shop.attest_as(&alone, "basement", AMD64.1, &other, &["--record-dissent"]).exits(0);
    assert_eq!(cell(&verify(&shop, &alone, 1), AMD, "basement"), "dissent signed-dissent");
}

#[test]
fn tags_move_to_an_image_without_an_index_that_is_the_whole_release() {
    let shop = Shop::open();
    let image = shop.push("git-1", "amd64", "hello");
    let (reference, digest) = (shop.at("git-1"), image.manifest_digest.clone());
    shop.write(
        "quorate.toml",
        shop.policy(2)
            .replace(", \"linux/arm64\"]", "]")
            .replace("quorum = 2\n", "quorum = 2\nsingle = true\n"),
    );
    let promote = ["promote", &reference, "--tag", "latest", "--tag", "1.0.0", "-o", "json"];
    let attest =
        |builder: &str| shop.attest_as(&reference, builder, AMD64.1, &image.config_digest, &[]).exits(0);
    attest("github");
    let writes = shop.bed.registry.writes().len();
    assert_eq!(shop.quorate(&promote).exits(1).json()["verdict"], "short");
    assert_eq!(shop.bed.registry.writes().len(), writes, "nothing is written");
    attest("garnix");
    let moved = shop.quorate(&promote).exits(0).json();
    assert_eq!((&moved["outcome"], &moved["image"]["digest"]), (&"moved".into(), &digest.clone().into()));
    for tag in ["latest", "1.0.0"] {
        assert_eq!(shop.named(tag), Some(digest.clone()));
    }
    assert_eq!(shop.quorate(&promote).exits(0).json()["outcome"], "unchanged");
    assert_eq!(verify(&shop, &shop.at("latest"), 0)["tag"], "latest");
}

#[test]
fn who_is_silent_and_must_be_heard_is_named() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    policy(&shop, "hear_all = true", ("github", ""), "");
    let says = "linux/amd64 must hear basement as well";
    let run = shop.quorate(&["verify", &release.reference]).exits(1).says("let those that are silent attest");
    assert!(run.stdout.contains(says), "{}", run.stdout);
    let writes = shop.bed.registry.writes().len();
    let promote = ["promote", &release.reference, "--tag", "latest", "--wait", "2s"];
    let run = shop.quorate(&promote).exits(1);
    assert!(run.stderr.contains(&format!("waiting: {says}")), "{}", run.stderr);
    assert_eq!(shop.bed.registry.writes().len(), writes, "nothing is written");
    // A word on another build is none on this one.
    for (_, system) in [AMD64, shop::ARM64] {
        shop.attest(&release, "basement", system, &["--commit", shop::OTHER_COMMIT]).exits(0);
    }
    let run = shop.quorate(&promote).exits(1);
    assert!(run.stderr.contains("waiting: the policy wants every builder heard"), "{}", run.stderr);
    shop.attest_all(&release, &["basement"]);
    let run = shop.quorate(&promote).exits(0);
    assert!(!run.stdout.contains("must hear") && !run.stderr.contains("waiting"), "{}", run.stdout);
}

#[test]
fn a_platform_is_required_from_a_sequence_on() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let since = |sequence: u64| {
        let rule = format!("since = {{ \"linux/riscv64\" = {sequence} }}");
        policy(&shop, &rule, ("basement", ""), "");
    };
    since(1_763_700_001);
    assert_eq!(verify(&shop, &release.reference, 0)["verdict"], "met");
    since(1_763_700_000);
    let refused = verify(&shop, &release.reference, 1);
    assert_eq!(refused["refusals"][0]["reason"], "platform-missing");
    let detail = refused["refusals"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("from the sequence 1763700000 on"), "{detail}");

    // One voice does not say which release it is. What the image lacks is told all the same.
    let young = shop.release("git-2", "other");
    shop.attest_all(&young, &["github"]);
    assert_eq!(verify(&shop, &young.reference, 1)["verdict"], "short");
    let shown = shop.quorate(&["verify", &young.reference]).exits(1);
    let lacks = "linux/riscv64: a release of this sequence must have it, and the image has not";
    assert!(shown.stdout.contains(lacks), "{}", shown.stdout);
    assert!(shown.stderr.contains("with more votes this one is refused"), "{}", shown.stderr);
}

#[test]
fn a_tag_moves_only_to_releases_of_the_refs_that_feed_it() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let tags = "[[image.tag]]\nname = \"latest\"\nrule = \"forward\"\nrefs = [\"refs/tags/v*\"]\n\
                [[image.tag]]\nname = \"v1\"\nrule = \"forward\"\nversions = \"^1\"\n\
                [[image.tag]]\nname = \"edge\"\nrule = \"forward\"\n";
    policy(&shop, tags, ("basement", ""), "");
    let attest = |git_ref: &str| {
        for builder in ["github", "garnix"] {
            for (_, system) in [AMD64, shop::ARM64] {
                shop.attest(&release, builder, system, &["--ref", git_ref]).exits(0);
            }
        }
    };
    let promote = |tag: &str, code: i32| {
        let run =
            shop.quorate(&["promote", &release.reference, "--tag", tag, "--allow-rollback", "-o", "json"]);
        let run = run.exits(code);
        assert_eq!(code == 1, run.stderr.contains("hint: promote a release of such a ref"), "{}", run.stderr);
        run.json()
    };
    attest("refs/heads/main");
    let writes = shop.bed.registry.writes().len();
    for tag in ["latest", "v1"] {
        let refused = promote(tag, 1);
        assert_eq!((&refused["verdict"], &refused["outcome"]), (&"met".into(), &"refused".into()));
        assert_eq!(refused["tags"][0]["reason"], "tag-feed");
    }
    assert_eq!(shop.bed.registry.writes().len(), writes, "nothing is written");
    assert_eq!(promote("edge", 0)["outcome"], "moved");
    attest("refs/tags/v2.0.0");
    assert_eq!(promote("latest", 0)["outcome"], "moved");
    assert_eq!(promote("v1", 1)["tags"][0]["reason"], "tag-feed");
    attest("refs/tags/v1.0.0");
    assert_eq!(promote("v1", 0)["outcome"], "moved");

    let check = shop.quorate(&["policy", "check", "quorate.toml"]).exits(0).stdout;
    assert!(check.contains("latest from refs/tags/v*, v1 from git tags of the versions ^1"), "{check}");
    let check = shop.quorate(&["policy", "check", "quorate.toml", "-o", "json"]).exits(0).json();
    let rules = check["images"][0]["tags"].as_array().unwrap();
    let rule = |tags: &str| rules.iter().find(|rule| rule["tags"] == tags).unwrap();
    assert_eq!(
        (&rule("latest")["refs"], &rule("latest")["versions"]),
        (&json!(["refs/tags/v*"]), &Value::Null)
    );
    assert_eq!((&rule("v1")["refs"], &rule("v1")["versions"]), (&json!([]), &json!("^1")));
}

#[test]
fn policy_check_tells_what_a_rule_takes_and_asks_for() {
    let shop = Shop::open();
    let image = || {
        shop.quorate(&["policy", "check", "quorate.toml", "-o", "json"]).exits(0).json()["images"][0].clone()
    };
    let plain = image();
    assert_eq!((&plain["since"], &plain["single"]), (&json!({}), &json!(false)));
    assert_eq!((&plain["types"], &plain["requiredFields"]), (&json!([]), &json!([])));
    let slsa = "https://slsa.dev/provenance/v1";
    let rule =
        format!("single = true\ntypes = [\"{slsa}\"]\nunbound = true\nrequired_fields = [\"invocation\"]");
    policy(&shop, &rule, ("github", ""), "");
    let image_of_types = image();
    assert_eq!(image_of_types["types"], json!([{ "type": slsa, "unbound": true }]));
    assert_eq!(image_of_types["requiredFields"], json!(["invocation"]));
    assert_eq!(image_of_types["single"], true);
    policy(&shop, "since = { \"linux/riscv64\" = 7 }", ("github", ""), "");
    assert_eq!(image()["since"], json!({ "linux/riscv64": 7 }));
}

#[test]
fn what_a_policy_may_ask_for_attest_can_state() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix", "basement"]);
    shop.write("flake.lock", "{}");
    shop.write("closure.json", "[]");
    let besides = [
        ("builtAt", "--built-at", "2026-01-02T03:04:05Z"),
        ("flakeLockHash", "--flake-lock", "flake.lock"),
        ("closureManifest", "--closure-manifest", "x86_64-linux=closure.json"),
        ("substituters", "--substituters", "https://cache.nixos.org https://acme.cachix.org"),
        ("invocation", "--invocation", "https://ci.example/4711"),
    ];
    let platform = ["--platform", AMD];
    let told = |code: i32| {
        let run = shop.quorate(&[&["verify", &release.reference, "-o", "json"], &platform[..]].concat());
        cell(&run.exits(code).json(), AMD, "garnix")
    };
    for (field, _, _) in besides {
        policy(&shop, &format!("required_fields = [\"{field}\"]"), ("github", ""), "");
        assert_eq!(told(1), "rejected field-missing", "{field}");
    }

    let all: Vec<&str> = besides.iter().flat_map(|(_, option, value)| [*option, *value]).collect();
    let attest =
        |more: &[&str]| shop.attest(&release, "garnix", AMD64.1, &[&all[..], more].concat()).exits(0);
    attest(&["--bundle-out", "bundle.json"]);
    shop.attest(&release, "github", AMD64.1, &all).exits(0);
    let names: Vec<_> = besides.iter().map(|(field, _, _)| format!("\"{field}\"")).collect();
    policy(&shop, &format!("required_fields = [{}]", names.join(", ")), ("github", ""), "");
    assert_eq!(told(0), "counted");

    let bundle = quorate::attestation::Bundle::parse(&fs::read(shop.path("bundle.json")).unwrap()).unwrap();
    let said = bundle.statement().build.to_predicate().unwrap();
    assert_eq!(said["builtAt"], "2026-01-02T03:04:05Z");
    assert_eq!(said["flakeLockHash"], image::digest(b"{}"));
    assert_eq!(said["closureManifest"], image::digest(b"[]"));
    assert_eq!(said["substituters"], json!(["https://cache.nixos.org", "https://acme.cachix.org"]));
    assert_eq!(said["invocation"], "https://ci.example/4711");

    // The next run says the same, and signs nothing; one that had another lock file says something else.
    let outcome = |all: &[&str]| {
        let run = shop.attest(&release, "garnix", AMD64.1, &[all, &["-o", "json"]].concat());
        run.exits(0).json()["outcome"].clone()
    };
    let mut next = all.clone();
    (next[1], next[9]) = ("2026-01-03T00:00:00Z", "https://ci.example/4712");
    let writes = shop.bed.registry.writes().len();
    assert_eq!(outcome(&next), "already");
    assert_eq!(shop.bed.registry.writes().len(), writes, "nothing is written");
    shop.write("flake.lock", "{ }");
    assert_eq!(outcome(&next), "attested");
    assert_eq!(told(0), "counted", "no equivocation: the content is the same");

    let bad =
        |option: &str, value: &str| shop.attest(&release, "basement", AMD64.1, &[option, value]).exits(2);
    bad("--invocation", "").says("`invocation` is empty");
    bad("--flake-lock", "absent.lock").says("absent.lock");
    bad("--built-at", "yesterday").says("--built-at");
}
