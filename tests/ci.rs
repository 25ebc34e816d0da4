//! What a CI job is told: step outputs, a summary, annotations; and what it is not tricked into.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::collections::BTreeMap;
use std::fs;

use quorate_bed::{Answer, Fault, FaultAction};
use serde_json::Value;
use shop::{Run, Shop};

/// Runs as a step of a job, and reads what it told the job.
fn step(shop: &Shop, arguments: &[&str]) -> (Run, BTreeMap<String, String>, String) {
    for file in ["output", "summary"] {
        shop.write(file, "");
    }
    let (output, summary) = (shop.path("output"), shop.path("summary"));
    let environment = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_OUTPUT", output.to_str().unwrap()),
        ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap()),
    ];
    let run = shop.quorate_with(arguments, &environment);
    (run, outputs(&fs::read_to_string(&output).unwrap()), fs::read_to_string(&summary).unwrap())
}

/// Reads the file as the runner does: `name=value`, or `name<<delimiter` and lines up to it.
fn outputs(text: &str) -> BTreeMap<String, String> {
    let mut outputs = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (name, delimiter) = line.split_once("<<").expect("every value is a block");
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != delimiter).collect();
        assert!(outputs.insert(name.to_owned(), value.join("\n")).is_none(), "{name} twice");
    }
    outputs
}

/// The lines that the runner would take for commands, except annotations of errors.
fn commands(run: &Run) -> Vec<String> {
    let lines = run.stdout.lines().chain(run.stderr.lines());
    let command = |line: &&str| line.trim_start().starts_with("::") || line.contains("##[");
    let ours = |line: &&str| line.starts_with("::error title=quorate::");
    lines.filter(command).filter(|line| !ours(line)).map(str::to_owned).collect()
}

fn names(outputs: &BTreeMap<String, String>) -> Vec<&str> {
    outputs.keys().map(String::as_str).collect()
}

#[test]
fn each_verb_tells_the_job_what_it_came_to() {
    let shop = Shop::open();
    for architecture in ["amd64", "arm64"] {
        shop.push(&format!("git-1-{architecture}"), architecture, "hello");
    }
    let (target, amd64, arm64) = (shop.at("git-1"), shop.at("git-1-amd64"), shop.at("git-1-arm64"));
    let (run, told, summary) = step(&shop, &["assemble", &target, &amd64, &arm64, "--tag", "pr-7"]);
    let run = run.exits(0);
    let digest = shop.named("git-1").unwrap();
    let image = format!("{}@{digest}", shop.repository());
    assert_eq!(run.stdout.lines().next(), Some(image.as_str()));
    assert!(!run.stderr.contains("::"), "{}", run.stderr);
    assert_eq!(names(&told), ["digest", "image", "json", "tags"]);
    assert_eq!((&told["digest"], &told["image"], told["tags"].as_str()), (&digest, &image, "git-1\npr-7"));
    let json: Value = serde_json::from_str(&told["json"]).unwrap();
    assert_eq!(json["image"]["digest"], digest.as_str());
    assert!(summary.contains(&image) && summary.contains("| `linux/arm64` |"), "{summary}");

    let (run, told, summary) = step(&shop, &["verify", &target]);
    let run = run.exits(1);
    assert_eq!(names(&told), ["json", "verdict"], "an image that is not to be run is not handed on");
    assert_eq!(told["verdict"], "short");
    assert!(summary.contains("### ✗ short"), "{summary}");
    let annotation = format!("::error title=quorate::the quorum is not met: `{image}`%0Ahint: ");
    assert_eq!(run.stderr.lines().filter(|line| line.starts_with(&annotation)).count(), 1, "{}", run.stderr);

    let release = shop::Release {
        reference: target.clone(),
        digest: digest.clone(),
        images: ["amd64", "arm64"].map(|architecture| shop::build(architecture, "hello")),
    };
    shop.attest_all(&release, &["github", "garnix"]);
    let (run, told, summary) = step(&shop, &["promote", &target, "--tag", "latest"]);
    run.exits(0);
    assert_eq!(names(&told), ["digest", "image", "json", "outcome", "verdict"]);
    assert_eq!(
        (told["outcome"].as_str(), told["verdict"].as_str(), &told["digest"]),
        ("moved", "met", &digest)
    );
    assert!(summary.contains("| `linux/amd64` | 2 of 2 | ✓ counted | ✓ counted | · missing |"), "{summary}");
    assert!(summary.contains(&format!("| `latest` | created | `{digest}` |")), "{summary}");
    let (run, told, _) = step(&shop, &["verify", &target]);
    run.exits(0);
    assert_eq!((told["verdict"].as_str(), &told["image"]), ("met", &image));
}

#[test]
fn nothing_is_handed_on_after_a_refusal_or_a_dry_run() {
    let shop = Shop::open();
    shop.push("git-1-amd64", "amd64", "hello");
    let source = shop.at("git-1-amd64");
    let assemble = |more: &[&str]| {
        let (run, told, summary) = step(&shop, &[&["assemble", &shop.at("git-1"), &source], more].concat());
        assert_eq!(names(&told), ["json"], "{more:?}");
        (run, summary)
    };
    let (run, summary) = assemble(&[]);
    run.exits(1).says("platform-missing");
    assert!(summary.contains("### ✗ Not assembled: `platform-missing`"), "{summary}");
    let (run, summary) = assemble(&["--platforms", "linux/amd64", "--dry-run"]);
    run.exits(0);
    assert!(summary.contains("Would assemble"), "{summary}");
    let (run, summary) = assemble(&["--tag", "latest"]);
    run.exits(2).says("does not write the tag");
    assert!(summary.contains("does not write the tag"), "{summary}");
}

#[test]
fn only_a_job_is_told() {
    let shop = Shop::open();
    shop.push("git-1-amd64", "amd64", "hello");
    let (source, target) = (shop.at("git-1-amd64"), shop.at("git-1"));
    let arguments = ["assemble", &target, &source];
    let (run, told, summary) = step(&shop, &[&arguments[..], &["--ci", "none"]].concat());
    assert!(!run.exits(1).stderr.contains("::error"));
    assert!(told.is_empty() && summary.is_empty());
    let output = shop.path("output");
    let environment = [("GITHUB_OUTPUT", output.to_str().unwrap())];
    shop.quorate_with(&arguments, &environment).exits(1);
    assert_eq!(fs::read_to_string(&output).unwrap(), "");
    // A job that has no such files is told by annotations alone.
    let run = shop.quorate_with(&arguments, &[("GITHUB_ACTIONS", "true")]).exits(1);
    assert!(run.stderr.contains("\n::error title=quorate::"), "{}", run.stderr);
}

#[test]
fn an_answer_that_the_job_cannot_be_given_is_none() {
    let shop = Shop::open();
    shop.push("git-1-amd64", "amd64", "hello");
    let arguments = ["assemble", &shop.at("git-1"), &shop.at("git-1-amd64"), "--platforms", "linux/amd64"];
    let folder = shop.folder().to_str().unwrap();
    let run = shop.quorate_with(&arguments, &[("GITHUB_ACTIONS", "true"), ("GITHUB_OUTPUT", folder)]);
    run.exits(3).says("cannot tell the CI job");
    shop.quorate(&arguments).exits(0);
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_nobody_can_read_is_none_and_says_so() {
    let shop = Shop::open();
    let release = shop.agreed("git-1", "1");
    let mut command = shop.command(&["verify", &release.reference]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("error: cannot write the result to stdout"), "{said}");
    shop.quorate(&["verify", &release.reference]).exits(0);
}

#[test]
fn text_of_others_is_no_command() {
    let shop = Shop::open();
    let hostile = "x\r\n::set-output name=digest::evil\n  ::stop-commands::x\n##[set-output name=digest]evil";
    let body = serde_json::json!({"errors": [{"code": "DENIED", "message": hostile}]}).to_string();
    let answer = Answer::status(403).body("application/json", body);
    shop.bed.registry.fault(Fault::new(FaultAction::Status(answer)).path("manifests/hostile"));
    let target = shop.at("hostile");
    for more in [&[][..], &["-o", "json"]] {
        let (run, told, summary) = step(&shop, &[&["verify", &target], more].concat());
        let run = run.exits(3).says("evil");
        assert_eq!(commands(&run), Vec::<String>::new());
        assert_eq!(names(&told), ["json"]);
        assert!(!summary.contains("\n::"), "{summary}");
    }
    // An argument, which is repeated in a refusal before anything is run.
    for arguments in [&["verify", hostile][..], &["promote", &target, "--tag", hostile], &[hostile]] {
        let (run, told, summary) = step(&shop, arguments);
        let run = run.exits(2).says("evil");
        assert_eq!(commands(&run), Vec::<String>::new(), "{}", run.stderr);
        assert!(run.stderr.contains("\n::error title=quorate::"), "{}", run.stderr);
        assert!(told.is_empty() && summary.is_empty());
    }
    // A label, which is repeated in a refusal.
    let mut image = shop::build("amd64", "hello");
    let mut config: Value = serde_json::from_slice(&image.config).unwrap();
    config["config"]["Labels"] = serde_json::json!({"org.opencontainers.image.revision": hostile});
    let old = (image.config_digest.clone(), image.config.len());
    image.config = config.to_string().into_bytes();
    image.config_digest = quorate_bed::image::digest(&image.config);
    let manifest = String::from_utf8(image.manifest).unwrap();
    image.manifest = manifest
        .replace(&old.0, &image.config_digest)
        .replace(&format!("\"size\":{}", old.1), &format!("\"size\":{}", image.config.len()))
        .into_bytes();
    image.push(&shop.host(), "acme/app", "labelled").unwrap();
    let labelled = shop.at("labelled");
    let arguments =
        ["assemble", &shop.at("x"), &labelled, "--platforms", "linux/amd64", "--commit", shop::COMMIT];
    for more in [&[][..], &["-o", "json"]] {
        let (run, told, summary) = step(&shop, &[&arguments[..], more].concat());
        let run = run.exits(1).says("revision-mismatch");
        assert_eq!(commands(&run), Vec::<String>::new(), "{}{}", run.stdout, run.stderr);
        assert_eq!(names(&told), ["json"]);
        assert!(!summary.contains("::stop") && summary.contains(r"\:\:stop"), "{summary}");
        if !more.is_empty() {
            assert!(run.json()["detail"].as_str().unwrap().contains(hostile), "JSON says what it said");
        }
    }
}

#[test]
fn what_promote_says_of_tags_and_files_is_no_command() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    // An operator, and a file, by whose names somebody would command the runner.
    let hostile = "##[add-path]/tmp ::set-output name=digest::evil";
    let policy = shop.policy(3).replace("operator = \"Garnix\"", &format!("operator = \"{hostile}\""));
    shop.write("quorate.toml", policy);
    shop.attest_all(&release, &["github", "garnix"]);
    for more in [&[][..], &["-o", "json"]] {
        let arguments = [&["promote", &release.reference, "--tag", "latest,1.0.0"], more].concat();
        let (run, told, summary) = step(&shop, &arguments);
        assert_eq!(commands(&run.exits(1)), Vec::<String>::new());
        assert_eq!(names(&told), ["json", "outcome", "verdict"], "an image that is refused is not handed on");
        assert_eq!((told["outcome"].as_str(), told["verdict"].as_str()), ("refused", "short"));
        assert!(!summary.contains("\n::") && !summary.contains("##["), "{summary}");

        let file = "x\n::stop-commands::x\n##[add-path]tmp";
        shop.write(file.replace('/', "_").as_str(), "no journal\n");
        let arguments = [&arguments[..], &["--journal", file]].concat();
        let (run, told, summary) = step(&shop, &arguments);
        let run = run.exits(2);
        assert!(run.stderr.contains("journal-malformed"), "{}", run.stderr);
        assert_eq!(commands(&run), Vec::<String>::new(), "{}", run.stderr);
        assert_eq!(names(&told), ["json"]);
        assert!(!summary.contains("\n::") && !summary.contains("##["), "{summary}");
    }
    // A tag that must not move: its reason is in the summary and in the outputs, and nothing else is.
    shop.write("quorate.toml", shop.policy(2));
    let (run, told, summary) = step(&shop, &["promote", &release.reference, "--tag", "latest,1.0.0"]);
    run.exits(0);
    assert_eq!(told["image"], format!("{}@{}", shop.repository(), release.digest));
    assert!(summary.contains("| `1.0.0` | created |"), "{summary}");
    let other = shop.release("git-2", "other");
    shop.attest_all(&other, &["github", "garnix"]);
    let (run, told, summary) = step(&shop, &["promote", &other.reference, "--tag", "1.0.0"]);
    let run = run.exits(1);
    assert!(run.stderr.contains("\n::error title=quorate::the tag `1.0.0` must not move (tag-immutable)"));
    assert_eq!(names(&told), ["json", "outcome", "verdict"]);
    assert!(summary.contains("| `1.0.0` | refused `tag-immutable` |"), "{summary}");
}
