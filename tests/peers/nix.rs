//! The flake, its library, its module for flake-parts and its recipes, evaluated by Nix and run by
//! just. nixpkgs, flake-parts and nix2container are stand-ins in `nix/`; nothing is built.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use libtest_mimic::Trial;
use quorate::oci::System;
use quorate_bed::RegistryOptions;
use quorate_bed::image::{Image, minimal_elf};
use serde_json::{Value, json};

use crate::peers::{Peer, Peers};
use crate::project::{ARCHITECTURES, quorate, said, succeed};

/// The repository of this project.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// An image for two systems.
const APP: &str = r#"
    settings.quorate.images = {
      enable = true;
      registry = "ghcr.io/acme";
      linuxSystems = [ "x86_64-linux" "aarch64-linux" ];
    };
    perSystem = system: {
      quorate.images.commonPackages = [ "/store/bash" ];
      quorate.images.images.app.packages = [ "/store/app-${system}" ];
    };"#;

/// What is given the path of Nix.
type Test = fn(&Path);

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let tests: [(&str, Test); 11] = [
        ("its_own_tests_hold", own_tests),
        ("it_knows_the_systems_that_the_binary_knows", systems),
        ("refusals_say_why", refusals),
        ("a_plan_is_assembled", plan),
        ("the_outputs_of_the_flake", outputs),
        ("options_have_the_defaults_of_the_documentation", defaults),
        ("images_for_every_system", images),
        ("an_image_upon_another", from_image),
        ("a_module_that_is_not_enabled_makes_nothing", disabled),
        ("recipes_go_to_just_flake_where_it_is", just_flake),
        ("the_flake_of_the_example", example),
    ];
    let mut trials: Vec<Trial> = tests
        .into_iter()
        .map(|(name, test)| peers.trial(&format!("nix::{name}"), [Peer::Nix], move |[nix]| test(nix)))
        .collect();
    let needs = [Peer::Nix, Peer::Just];
    trials.push(peers.trial("nix::recipes_run", needs, |[nix, just]| recipes(nix, just)));
    trials.push(peers.trial("nix::recipes_take_words_as_words", needs, |[nix, just]| words(nix, just)));
    trials
}

/// Nix, with a store of its own below `folder`, and no network.
fn nix(nix: &Path, folder: &Path) -> Command {
    let mut command = Command::new(nix);
    command
        .env("HOME", folder)
        .env("NIX_STORE_DIR", folder.join("store"))
        .env("NIX_STATE_DIR", folder.join("var"))
        .env("NIX_LOG_DIR", folder.join("log"))
        .env("NIX_CONF_DIR", folder.join("conf"))
        .env(
            "NIX_CONFIG",
            "experimental-features = nix-command flakes\nbuild-users-group =\nsubstitute = false\n\
             flake-registry =\n",
        )
        .stdin(Stdio::null());
    command
}

/// What came of evaluating an expression.
fn evaluate(program: &Path, expression: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = nix(program, folder.path());
    command.args(["eval", "--store", "dummy://", "--impure", "--json", "--expr", expression]);
    command.output().unwrap()
}

fn value(program: &Path, expression: &str) -> Value {
    let output = evaluate(program, expression);
    assert!(output.status.success(), "{expression}\n{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn lib(program: &Path, expression: &str) -> Value {
    value(program, &format!("with import {ROOT}/nix/lib.nix; {expression}"))
}

fn module(program: &Path, settings: &str, expression: &str) -> Value {
    value(program, &with_module(settings, expression))
}

fn with_module(settings: &str, expression: &str) -> String {
    format!("with import {ROOT}/tests/peers/nix/module.nix {{ {settings} }}; {expression}")
}

fn own_tests(program: &Path) {
    let tests = value(program, &format!("import {ROOT}/nix/tests.nix"));
    let tests = tests.as_object().unwrap();
    assert!(tests.len() > 10);
    for (name, test) in tests {
        assert_eq!(test["expr"], test["expected"], "{name}");
    }
}

fn systems(program: &Path) {
    let suffixes = lib(program, "suffixes");
    let suffixes = suffixes.as_object().unwrap();
    for (system, suffix) in suffixes {
        let found = System::from_suffix(suffix.as_str().unwrap()).unwrap();
        assert_eq!(found.as_str(), system);
    }
    let unknown = "none".parse::<System>().unwrap_err().to_string();
    let (_, known) = unknown.split_once("known are ").unwrap();
    let known: BTreeSet<&str> = known.split(", ").collect();
    assert_eq!(known, suffixes.keys().map(String::as_str).collect());
}

fn refusals(program: &Path) {
    let lib = |expression: &str| format!("with import {ROOT}/nix/lib.nix; {expression}");
    let app = |settings: &str, perhaps: &str| {
        let settings = APP
            .replace("registry = \"ghcr.io/acme\";", settings)
            .replace("quorate.images.images.app.packages", perhaps);
        with_module(&settings, "flake")
    };
    for (expression, says) in [
        (lib("suffix \"x86_64-darwin\""), "`x86_64-darwin` is not a system of container images"),
        (lib("checkSystems [ ]"), "`linuxSystems` is empty"),
        (lib("credentials { mode = \"op\"; }"), "`authMode = \"op\"` needs `auth.op.usernameRef`"),
        (app("", "quorate.images.images.app.packages"), "the image `app` has no registry"),
        (
            app("registry = \"ghcr.io/acme\";", "quorate.images.images.\"A b\".packages"),
            "`A b` is no name of an image",
        ),
        (
            APP.replace("/store/app-${system}", "/store/bash"),
            "`app` has packages that are in `commonPackages` already: /store/bash",
        ),
        (
            APP.replace("\"aarch64-linux\" ]", "\"aarch64-darwin\" ]"),
            "`aarch64-darwin` is not a system of container images",
        ),
    ] {
        let expression =
            if expression.starts_with("with") { expression } else { with_module(&expression, "flake") };
        let output = evaluate(program, &expression);
        assert!(!output.status.success(), "{expression}");
        assert!(
            said(&output).contains(&format!("quorate.images: {says}")),
            "{expression}\n{}",
            said(&output)
        );
    }
    // The same, with nothing wrong in it.
    module(program, APP, "flake");
}

/// The plan as a recipe writes it goes through the binary, which looks at the images.
fn plan(program: &Path) {
    let registry = quorate_bed::Registry::start(RegistryOptions::default());
    let settings = APP.replace("ghcr.io/acme", &registry.host());
    let plan = module(program, &settings, "flake.imageManifests.app");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("plan.json"), plan.to_string()).unwrap();
    let target = format!("{}/app:git-1", registry.host());
    let assemble = || {
        let mut command = quorate();
        command.args(["assemble", &target, "--plan", "plan.json", "--dry-run", "-o", "json"]);
        command.current_dir(folder.path()).env("HOME", folder.path()).output().unwrap()
    };
    let push = |tag: &str, architecture: &str| {
        let image =
            Image::build("linux", architecture, None, &[("bin/app", &minimal_elf(architecture), 0o755)]);
        image.push(&registry.host(), "app", tag).unwrap();
        image.manifest_digest
    };
    // Not all is pushed, and then not what the plan says.
    let amd64 = push("git-1-amd64", "amd64");
    let output = assemble();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("there is no image"), "{}", said(&output));
    push("git-1-arm64", "amd64");
    let output = assemble();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("suffix-mismatch"), "{}", said(&output));
    let arm64 = push("git-1-arm64", "arm64");
    registry.clear_log();
    let output = assemble();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let digests: Vec<&Value> =
        report["manifests"].as_array().unwrap().iter().map(|image| &image["digest"]).collect();
    assert_eq!(digests, [&json!(amd64), &json!(arm64)]);
    assert!(registry.writes().is_empty());
}

/// What `nix flake check` and users find, with stand-ins for the inputs.
fn outputs(program: &Path) {
    let folder = tempfile::tempdir().unwrap();
    // What the flake reads, without what cargo built.
    let flake = folder.path().join("flake");
    fs::create_dir(&flake).unwrap();
    let files = ["flake.nix", "nix", "Cargo.toml", "Cargo.lock"].map(|name| format!("{ROOT}/{name}"));
    succeed(Command::new("cp").arg("-r").args(files).arg(&flake));
    let run = |arguments: &[&str]| {
        let mut command = nix(program, folder.path());
        command.args(arguments).arg("--no-write-lock-file");
        for input in ["nixpkgs", "nix2container"] {
            command.args(["--override-input", input, &format!("path:{ROOT}/tests/peers/nix/{input}")]);
        }
        succeed(&mut command)
    };
    let place = format!("path:{}", flake.display());
    let eval = |attribute: &str, apply: &str| -> Value {
        let of = format!("{place}#{attribute}");
        serde_json::from_slice(&run(&["eval", "--json", &of, "--apply", apply])).unwrap()
    };
    run(&["flake", "check", "--no-build", &place]);

    for system in ["x86_64-linux", "aarch64-linux", "x86_64-darwin", "aarch64-darwin"] {
        let package =
            eval(&format!("packages.{system}.default"), "p: [ p.name p.system p.arguments.doCheck ]");
        assert_eq!(package, json!([format!("quorate-{}", env!("CARGO_PKG_VERSION")), system, false]));
        let checks = eval(&format!("checks.{system}"), "builtins.mapAttrs (_: c: c.type)");
        let names: Vec<&String> = checks.as_object().unwrap().keys().collect();
        assert_eq!(names, ["clippy", "format", "lib", "package", "tests"]);
    }
    let program = eval("apps.x86_64-linux.default", "app: app.program");
    assert!(program.as_str().unwrap().ends_with("/bin/quorate"), "{program}");
    let shell = eval("devShells.x86_64-linux.default", "shell: shell.type");
    assert_eq!(shell, "derivation");
    let overlay = "overlay: (overlay { callPackage = _: _: \"made\"; } { }).quorate";
    assert_eq!(eval("overlays.default", overlay), "made");
    assert_eq!(eval("flakeModules.default", "builtins.isFunction"), true);
    assert_eq!(eval("lib", "lib: lib.suffix \"aarch64-linux\""), "arm64");
}

fn defaults(program: &Path) {
    assert_eq!(
        module(program, "", "options"),
        json!({
            "enable": false, "linuxSystem": null, "linuxSystems": ["x86_64-linux"], "registry": null,
            "labels": {}, "addRevisionLabel": true, "authMode": "ghcr", "policy": "quorate.toml",
            "auth": {"op": {"usernameRef": null, "passwordRef": null}},
        })
    );
    assert_eq!(
        module(program, "perSystem = _: { quorate.images.images.app = { }; };", "perSystem"),
        json!({"commonPackages": [], "images": {"app": {
            "name": "app", "registry": null, "packages": [], "entrypoint": [], "cmd": [], "env": [],
            "workingDir": "/workspace", "user": null, "labels": {}, "tag": "latest", "extraLayers": [],
            "fromImage": null, "skipCommonLayer": false,
        }}})
    );
    // The older form of the option is heard, unless there is the newer one.
    let older = "settings.quorate.images.linuxSystem = \"aarch64-linux\";";
    assert_eq!(module(program, older, "options.linuxSystems"), json!(["aarch64-linux"]));
    let newer = "settings.quorate.images.linuxSystems = [ \"i686-linux\" ];";
    assert_eq!(module(program, &format!("{older}{newer}"), "options.linuxSystems"), json!(["i686-linux"]));
}

fn images(program: &Path) {
    let flake = module(program, &format!("{APP} self.rev = \"1234\";"), "flake");
    let image = |system: &str| {
        let common = json!({"copyToRoot": "/store/common-1"});
        json!({
            "name": "app",
            "tag": "latest",
            "system": system,
            "layers": [common, {"copyToRoot": format!("/store/app-{system}"), "layers": [common]}],
            "config": {
                "Env": ["SSL_CERT_FILE=/store/cacert/etc/ssl/certs/ca-bundle.crt"],
                "WorkingDir": "/workspace",
                "Labels": {"org.opencontainers.image.revision": "1234"},
            },
        })
    };
    let (amd64, arm64) = (image("x86_64-linux"), image("aarch64-linux"));
    assert_eq!(flake["images"], json!({"app": amd64, "app-aarch64": arm64}));
    assert_eq!(
        flake["imagesBySystem"],
        json!({"x86_64-linux": {"app": amd64}, "aarch64-linux": {"app": arm64}})
    );
    assert_eq!(
        flake["imageManifests"],
        json!({"app": {"version": 1, "repository": "ghcr.io/acme/app", "images": [
            {"system": "x86_64-linux", "suffix": "amd64"},
            {"system": "aarch64-linux", "suffix": "arm64"},
        ]}})
    );
    // The same as packages, where a job that builds `packages.SYSTEM.NAME` finds them; of systems that
    // images are built for alone.
    let packages = "map (system: removeAttrs (packages system) [ \"images-just\" ]) \
                    [ \"x86_64-linux\" \"aarch64-linux\" \"aarch64-darwin\" ]";
    assert_eq!(
        module(program, &format!("{APP} self.rev = \"1234\";"), packages),
        json!([{"app-image": amd64}, {"app-image": arm64}, {}])
    );
    // A tree with changes says so, and none says nothing.
    for (about, labels) in [
        ("self.dirtyRev = \"1234-dirty\";", json!({"org.opencontainers.image.revision": "1234-dirty"})),
        ("", Value::Null),
    ] {
        let config = module(program, &format!("{APP}{about}"), "flake.images.app.config");
        assert_eq!(config["Labels"], labels);
    }
}

fn from_image(program: &Path) {
    let settings = APP.replace(
        "quorate.images.images.app.packages",
        "quorate.images.images.app.fromImage = \"/store/base\"; quorate.images.images.app.packages",
    );
    let image = module(program, &settings, "flake.images.app");
    assert_eq!(image["fromImage"], "/store/base");
    // The base has its own basis.
    assert_eq!(image["layers"], json!([{"copyToRoot": "/store/app-x86_64-linux", "layers": []}]));
    assert_eq!(module(program, APP, "flake.images.app ? fromImage"), false);
}

fn disabled(program: &Path) {
    let settings = APP.replace("enable = true;", "");
    assert_eq!(module(program, &settings, "{ inherit flake made; }"), json!({"flake": {}, "made": {}}));
}

fn just_flake(program: &Path) {
    let made = module(program, &format!("{APP} justFlake = true;"), "made");
    assert_eq!(made["just-flake"]["features"]["images"]["enable"], true);
    assert_eq!(made["just-flake"]["features"]["images"]["justfile"], made["packages"]["images-just"]);
    assert!(module(program, APP, "made").get("just-flake").is_none());
}

/// A folder where the recipes find a Nix, a git and a quorate that write down how they are called.
fn workplace(program: &Path, settings: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let justfile = module(program, settings, "made.packages.images-just");
    let quorate = folder.path().join("quorate");
    let justfile = justfile
        .as_str()
        .unwrap()
        .replace("/store/quorate-x86_64-linux/bin/quorate", quorate.to_str().unwrap());
    fs::write(folder.path().join("justfile"), justfile).unwrap();
    for (name, says) in [("nix", "{}"), ("git", "0123456789abcdef"), ("quorate", "")] {
        let script = format!(
            "#!/bin/sh\n{{ printf %s {name}; for word; do printf ' [%s]' \"$word\"; done; echo; }} >> calls\n\
             case \"$*\" in *fail*) exit 1;; esac\necho '{says}'\n"
        );
        fs::write(folder.path().join(name), script).unwrap();
        fs::set_permissions(folder.path().join(name), Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

/// Runs a recipe: whether it succeeded, and what it called.
fn run(just: &Path, folder: &Path, words: &[&str]) -> (bool, Vec<String>) {
    let calls = folder.join("calls");
    let _ = fs::remove_file(&calls);
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let output = Command::new(just).args(words).current_dir(folder).env("PATH", path).output().unwrap();
    let calls = fs::read_to_string(&calls).unwrap_or_default();
    let calls = calls.lines().map(|call| call.replace(&format!("{}/", folder.display()), "")).collect();
    (output.status.success(), calls)
}

fn verify(policy: &str, tag: &str) -> String {
    format!("quorate [verify] [--policy] [{policy}] [ghcr.io/acme/app:{tag}]")
}

fn recipes(program: &Path, just: &Path) {
    let folder = workplace(program, APP);
    let build =
        |system: &str| format!("nix [build] [.#imagesBySystem.{system}.app] [--out-link] [result-{system}]");
    let push = |system: &str, tag: &str| {
        format!(
            "quorate [push] [--system] [{system}] [--suffix] [arch] [result-{system}] [ghcr.io/acme/app:{tag}]"
        )
    };
    let head = "git [rev-parse] [--verify] [HEAD]".to_owned();
    let candidate = "ghcr.io/acme/app:git-0123456789abcdef";
    let both =
        |of: &dyn Fn(&str) -> String| ARCHITECTURES.map(|(_, system)| [build(system), of(system)]).concat();
    for (words, calls) in [
        (vec!["image-build", "app"], ARCHITECTURES.map(|(_, system)| build(system)).to_vec()),
        (
            vec!["image-digest", "app"],
            both(&|system| format!("quorate [push] [--dry-run] [result-{system}] [ghcr.io/acme/app]")),
        ),
        (vec!["image-push", "app", "pr-7"], both(&|system| push(system, "pr-7"))),
        (
            vec!["image-push", "app"],
            [vec![head.clone()], both(&|system| push(system, "git-0123456789abcdef"))].concat(),
        ),
        (vec!["image-push-all", "pr-7"], both(&|system| push(system, "pr-7"))),
        (
            vec!["image-attest", "app", "aarch64-linux"],
            vec![
                head.clone(),
                build("aarch64-linux"),
                format!(
                    "quorate [attest] [{candidate}] [--system] [aarch64-linux] [--target] [app-image] \
                     [--result] [result-aarch64-linux]"
                ),
            ],
        ),
        (
            vec!["image-promote", "app", "1.4.2"],
            vec![
                head.clone(),
                format!("quorate [promote] [--policy] [quorate.toml] [{candidate}] [--tag] [1.4.2]"),
            ],
        ),
        (vec!["image-verify", "app"], vec![verify("quorate.toml", "latest")]),
    ] {
        assert_eq!(run(just, folder.path(), &words), (true, calls), "{words:?}");
    }
    let (done, calls) = run(just, folder.path(), &["image-assemble", "app", "pr-7"]);
    assert!(done);
    assert_eq!(calls[0], "nix [eval] [--json] [.#imageManifests.app]");
    let (call, plan) = calls[1].rsplit_once(" [").unwrap();
    assert_eq!(call, "quorate [assemble] [ghcr.io/acme/app:pr-7] [--plan]");
    assert!(!Path::new(plan.trim_end_matches(']')).exists(), "the plan is left behind: {plan}");

    // The policy that is named.
    let named = APP.replace("enable = true;", "enable = true; policy = \"ci/our policy's.toml\";");
    let folder = workplace(program, &named);
    let calls = run(just, folder.path(), &["image-verify", "app"]).1;
    assert_eq!(calls, [verify("ci/our policy's.toml", "latest")]);

    // The login of each mode.
    for (mode, words) in [
        ("authMode = \"gcp\";", "[--creds] [gcp] "),
        ("authMode = \"raw\";", "[--creds-env] [CREDS] "),
        (
            "authMode = \"op\"; auth.op = { usernameRef = \"op://v/i/u\"; passwordRef = \"op://v/i/p\"; };",
            "[--creds] [op://v/i/u,op://v/i/p] ",
        ),
    ] {
        let settings = APP.replace("enable = true;", &format!("enable = true; {mode}"));
        let folder = workplace(program, &settings);
        let calls = run(just, folder.path(), &["image-verify", "app"]).1;
        assert_eq!(
            calls,
            [verify("quorate.toml", "latest").replace("[verify] ", &format!("[verify] {words}"))]
        );
        // Nobody is asked who we are to tell a digest.
        let calls = run(just, folder.path(), &["image-digest", "app"]).1;
        assert_eq!(calls[1], "quorate [push] [--dry-run] [result-x86_64-linux] [ghcr.io/acme/app]");
    }
}

fn words(program: &Path, just: &Path) {
    let folder = workplace(program, APP);
    let none: Vec<String> = Vec::new();
    for name in ["web", "", "app\"; touch made; \"", "$(touch made)", "a*", "app'"] {
        for recipe in ["image-build", "image-push", "image-verify"] {
            assert_eq!(run(just, folder.path(), &[recipe, name]), (false, none.clone()), "{recipe} {name:?}");
        }
    }
    for tag in ["a b", "$(touch made)", "`touch made`", "'\"; touch made; #", "{{arch()}}"] {
        let called = run(just, folder.path(), &["image-verify", "app", tag]).1;
        assert_eq!(called, [verify("quorate.toml", tag)]);
    }
    assert!(!folder.path().join("made").exists());
    // One that fails fails the recipe; where all are tried, after the others.
    assert!(!run(just, folder.path(), &["image-verify", "app", "fail"]).0);
    assert!(!run(just, folder.path(), &["image-push-all", "fail"]).0);
}

/// `examples/jackpkgs`: a flake as a user writes it.
fn example(program: &Path) {
    let example = format!("import {ROOT}/tests/peers/nix/example.nix {ROOT}/examples/jackpkgs/flake.nix");
    let all = value(
        program,
        &format!(
            "with {example}; {{ names = builtins.attrNames flake.images; plans = flake.imageManifests; \
             image = flake.images.klotho-aarch64; recipes = made.just-flake.features.images.justfile; }}"
        ),
    );
    assert_eq!(all["names"], json!(["klotho", "klotho-aarch64", "poseidon", "poseidon-aarch64"]));
    assert_eq!(all["image"]["system"], "aarch64-linux");
    assert_eq!(all["image"]["config"]["Entrypoint"], json!(["/bin/klotho"]));
    let plan = json!({
        "version": 1,
        "repository": "us-east1-docker.pkg.dev/addendalabs/yard/poseidon",
        "images": [
            {"system": "x86_64-linux", "suffix": "amd64"},
            {"system": "aarch64-linux", "suffix": "arm64"},
        ],
    });
    assert_eq!(all["plans"]["poseidon"], plan);
    let recipes = all["recipes"].as_str().unwrap();
    assert!(recipes.contains("'promote' '--creds' 'gcp'"), "{recipes}");
    let policy = fs::read_to_string(format!("{ROOT}/examples/jackpkgs/quorate.toml")).unwrap();
    let rule = policy.lines().find_map(|line| line.strip_prefix("repository = \"")?.strip_suffix("/*\""));
    assert_eq!(rule, all["plans"]["klotho"]["repository"].as_str().unwrap().strip_suffix("/klotho"));
}
