//! The actions, workflows and templates for CI, run by `act` as a runner would on this machine,
//! against the registry of the test bed; and what checkers of such files say.
//!
//! The workflows that use them are in `actions/`. What is fetched from elsewhere, and Nix, are
//! stand-ins in `actions/stubs/`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use quorate_bed::issuer::github_job;
use quorate_bed::{Auth, Fulcio, Issuer, RegistryOptions, keyless_root};
use serde_json::{Value, json};

use crate::peers::{Peer, Peers};
use crate::project::{said, succeed};
use crate::shop::{self, AMD64, ARM64, Shop};

/// The repository of this project.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Which services certify and witness.
const SERVICES: &str = "repository/signing_config.json";
/// The actions of others that have a stand-in.
const STUBS: [(&str, &str); 3] = [
    ("actions/upload-artifact@", "upload-artifact"),
    ("actions/download-artifact@", "download-artifact"),
    ("cachix/install-nix-action@", "install-nix-action"),
];

/// What is given the path of act.
type Test = fn(&Path);

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let runs: [(&str, Test); 8] = [
        ("a_release_goes_through_the_workflows", a_release),
        ("no_tag_moves_without_the_quorum", no_quorum),
        ("a_key_that_is_missing_is_an_error", no_key),
        ("a_vote_without_a_key_is_that_of_the_caller", keyless),
        ("hostile_inputs_are_text", hostile),
        ("a_job_of_forgejo", forgejo),
        ("a_login_goes_to_the_registry", login),
        ("setup_takes_what_is_there_before_it_builds", setup),
    ];
    let mut trials: Vec<Trial> = runs
        .into_iter()
        .map(|(name, test)| peers.trial(&format!("actions::{name}"), [Peer::Act], move |[act]| test(act)))
        .collect();
    trials.push(peers.trial("actions::zizmor_finds_nothing", [Peer::Zizmor], |[zizmor]| audited(zizmor)));
    let needs = [Peer::CheckJsonschema];
    trials.push(peers.trial("actions::files_are_as_their_schemas_say", needs, |[check]| schemas(check)));
    trials.push(peers.trial("actions::a_pipeline_of_gitlab", needs, |[check]| gitlab(check)));
    trials
}

/// A project in a checkout, with its policy, what its builds come to, and our actions in it.
struct Checkout<'a> {
    act: &'a Path,
    shop: Shop,
    /// Whether our program is on `PATH`.
    installed: bool,
    /// The variables of every job.
    environment: Vec<(&'static str, String)>,
    /// What `vars` has.
    variables: Vec<(&'static str, String)>,
    /// Names, and their values, which are secrets.
    secrets: Vec<(&'static str, String)>,
}

/// The one service of its kind, as a `SigningConfig` has it.
fn service(url: &str, version: u32) -> Value {
    let since = json!({"start": "2020-01-01T00:00:00Z"});
    json!([{"url": url, "majorApiVersion": version, "validFor": since, "operator": "bed"}])
}

/// What a run of a workflow came to.
struct Ran {
    code: i32,
    log: String,
}

impl Ran {
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.log);
        self
    }

    #[track_caller]
    fn says(self, text: &str) -> Self {
        assert!(self.log.contains(text), "{text:?} is not in\n{}", self.log);
        self
    }
}

impl<'a> Checkout<'a> {
    fn new(act: &'a Path, options: RegistryOptions) -> Self {
        let shop = Shop::new(options);
        let secrets = vec![
            ("KEY_OF_GITHUB", fs::read_to_string(shop.path("github.key")).unwrap()),
            ("KEY_OF_GARNIX", fs::read_to_string(shop.path("garnix.key")).unwrap()),
        ];
        let variables = vec![("REGISTRY", shop.host()), ("KEY", "env:BUILDER_KEY".to_owned())];
        let checkout = Self { act, shop, installed: true, environment: Vec::new(), variables, secrets };
        for folder in ["repository/builds", "artifacts", "seen"] {
            fs::create_dir_all(checkout.path(folder)).unwrap();
        }
        for (architecture, system) in [AMD64, ARM64] {
            let image = shop::build(architecture, "hello").docker_archive();
            checkout.shop.write(&format!("repository/builds/{system}"), image);
        }
        for file in ["quorate.toml", "github.key.pub", "garnix.key.pub", "basement.key.pub"] {
            fs::copy(checkout.path(file), checkout.path("repository").join(file)).unwrap();
        }
        fs::copy(checkout.path("root.json"), checkout.path("repository/trusted_root.json")).unwrap();
        let services = json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "rekorTlogUrls": service(&checkout.shop.bed.log.url(), 2),
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": service(&checkout.shop.bed.tsa.url(), 1),
            "tsaConfig": {"selector": "ANY"},
        });
        checkout.shop.write(SERVICES, services.to_string());
        for folder in [".github/actions", ".github/workflows", ".forgejo"] {
            copy(&Path::new(ROOT).join(folder), &checkout.path("repository").join(folder));
        }
        // A real runner finds ours beside the workflow that names them; act only in the checkout.
        for workflow in ["images.yml", "release.yml"] {
            let file = checkout.path("repository/.github/workflows").join(workflow);
            fs::write(&file, fs::read_to_string(&file).unwrap().replace("$/.github", "./.github")).unwrap();
        }
        checkout.git(&["init", "-q", "-b", "main"]);
        checkout.git(&["remote", "add", "origin", "https://github.com/acme/app"]);
        checkout.git(&["add", "-A"]);
        checkout.git(&["commit", "-q", "-m", "all"]);
        checkout
    }

    fn open(act: &'a Path) -> Self {
        Self::new(act, RegistryOptions::default())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shop.path(name)
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]).args(arguments);
        git.current_dir(self.path("repository")).env("HOME", self.shop.folder());
        String::from_utf8(succeed(&mut git)).unwrap().trim().to_owned()
    }

    /// `PATH`, with our program and the stand-ins first.
    fn programs(&self) -> OsString {
        let binary = Path::new(env!("CARGO_BIN_EXE_quorate")).parent().unwrap();
        let stubs = Path::new(ROOT).join("tests/peers/actions/stubs/bin");
        let path = std::env::var_os("PATH").unwrap();
        let ours = self.installed.then(|| binary.to_owned());
        let folders = ours.into_iter().chain([stubs]).chain(std::env::split_paths(&path));
        std::env::join_paths(folders).unwrap()
    }

    /// The digest that a tag names, in a registry that asks who is there.
    fn tag(&self, tag: &str) -> Option<String> {
        let login = [("LOGIN", "ci:secret")];
        let run = self.shop.quorate_with(&["resolve", &self.shop.at(tag), "--creds-env", "LOGIN"], &login);
        (run.code == 0).then(|| run.stdout.trim().to_owned())
    }

    /// Runs a workflow of `actions/`.
    fn run(&self, workflow: &str) -> Ran {
        let files = Path::new(ROOT).join("tests/peers/actions");
        let binary = Path::new(env!("CARGO_BIN_EXE_quorate"));
        let mut act = Command::new(self.act);
        act.current_dir(self.path("repository"))
            .env_clear()
            .env("PATH", self.programs())
            .env("HOME", self.shop.folder())
            .args([
                "push",
                "--platform",
                "ubuntu-latest=-self-hosted",
                "--action-offline-mode",
                "--no-cache-server",
            ])
            .arg("--workflows")
            .arg(files.join(workflow));
        for (name, stub) in STUBS {
            let pinned = pins().into_iter().find(|pin| pin.starts_with(name)).unwrap();
            let stub = files.join("stubs").join(stub);
            act.arg("--local-repository").arg(format!("{pinned}={}", stub.display()));
        }
        let environment = [
            ("QUORATE_BINARY", binary.display().to_string()),
            ("ARTIFACTS", self.path("artifacts").display().to_string()),
            ("SEEN", self.path("seen").display().to_string()),
            ("ATTIC_SEEN", self.path("attic").display().to_string()),
        ];
        for (name, value) in self.environment.iter().chain(&environment) {
            act.arg("--env").arg(format!("{name}={value}"));
        }
        for (name, value) in &self.variables {
            act.arg("--var").arg(format!("{name}={value}"));
        }
        for (name, value) in &self.secrets {
            act.arg("--secret").arg(name).env(name, value);
        }
        let output = act.output().unwrap();
        Ran { code: output.status.code().unwrap(), log: said(&output) }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The files below a folder, but those of git.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let seen = entries.filter(|path| !path.ends_with(".git"));
    seen.flat_map(|path| if path.is_dir() && !path.is_symlink() { files(&path) } else { vec![path] })
        .collect()
}

/// Every action of others that ours use, as it is pinned. Where each pin was read is written down.
fn pins() -> Vec<String> {
    let root = Path::new(ROOT);
    let read = |file: &Path| fs::read_to_string(file).unwrap();
    let written = read(&root.join(".github/actions/PINS.md"));
    let ours = [".github", ".forgejo", "examples/forgejo"].map(|folder| files(&root.join(folder)));
    let mut pins = Vec::new();
    for file in ours.iter().flatten() {
        let text = read(file);
        let lines = text.lines().map(|line| line.trim_start().trim_start_matches("- "));
        let used = lines.filter_map(|line| line.strip_prefix("uses: "));
        for used in used.filter(|used| !used.starts_with("$/") && !used.contains("OWNER/quorate/")) {
            let (action, version) = used.split_once(" # ").expect("a version beside the pin");
            let (name, commit) = action.split_once('@').unwrap();
            assert!(written.contains(&format!("| `{name}` {version} | `{commit}` |")), "{used}");
            pins.push(action.to_owned());
        }
    }
    pins
}

fn a_release(act: &Path) {
    let mut checkout = Checkout::open(act);
    checkout.variables.extend([("CANDIDATE", "candidate".into()), ("REBUILT", "yes".into())]);
    // A branch may have such a name. It is said of the build as it is.
    let branch = "it's-$(touch${IFS}planted)-`touch${IFS}planted`-\"&";
    checkout.git(&["branch", "-m", branch]);
    let ran = checkout.run("pipeline.yml").exits(0);
    assert!(!files(checkout.shop.folder()).iter().any(|file| file.ends_with("planted")), "{}", ran.log);
    let commit = checkout.git(&["rev-parse", "HEAD"]);
    let shop = &checkout.shop;
    let released = shop.named("latest").expect("latest names the release");
    for tag in ["1.4.2", &format!("git-{commit}")] {
        assert_eq!(shop.named(tag), Some(released.clone()), "{tag}");
    }
    for (architecture, _) in [AMD64, ARM64] {
        let pushed = shop.named(&format!("git-{commit}-{architecture}")).unwrap();
        assert_eq!(shop.named(&format!("candidate-{architecture}")), Some(pushed), "{architecture}");
    }
    let name = format!("{}@{released}", shop.repository());
    ran.says(&format!("may run {name}, and the release is {name}"))
        .says(&format!("note: ref refs/heads/{branch}, from "));
    let verdict = shop.quorate(&["verify", &shop.at("1.4.2"), "--expect-commit", &commit, "-o", "json"]);
    let verdict = verdict.exits(0).json();
    for platform in ["linux/amd64", "linux/arm64"] {
        assert_eq!(shop::cell(&verdict, platform, "github"), "counted");
        assert_eq!(shop::cell(&verdict, platform, "garnix"), "counted");
    }
}

/// The same, and the second builder does not vote.
fn no_quorum(act: &Path) {
    let mut checkout = Checkout::open(act);
    checkout.variables.push(("CANDIDATE", "candidate".into()));
    let ran = checkout.run("pipeline.yml").exits(1);
    ran.says("::set-output:: verdict=short").says("linux/arm64 needs 1 more operator");
    let commit = checkout.git(&["rev-parse", "HEAD"]);
    assert!(checkout.shop.named(&format!("git-{commit}")).is_some(), "the candidate is there");
    for tag in ["latest", "1.4.2"] {
        assert_eq!(checkout.shop.named(tag), None, "{tag}");
    }
}

/// The job was to sign with a key, and its secret is not there: it does not sign as somebody else.
fn no_key(act: &Path) {
    let mut checkout = Checkout::open(act);
    checkout.variables.push(("CANDIDATE", "candidate".into()));
    checkout.secrets.clear();
    checkout.run("pipeline.yml").exits(1).says("BUILDER_KEY");
    assert_eq!(checkout.shop.bed.log.size(), 0, "nothing is signed");
    assert_eq!(checkout.shop.named("latest"), None);
}

/// The certificate names the workflow that was called, which is the same for all who call it.
fn keyless(act: &Path) {
    let called = "acme-tools/quorate/.github/workflows/images.yml@refs/tags/v1";
    for (caller, code) in [("acme/app", 0), ("stranger/app", 1)] {
        let mut checkout = Checkout::open(act);
        let issuer = Issuer::start("https://token.actions.githubusercontent.com");
        let (fulcio, bed) = (Fulcio::start(&[&issuer]), &checkout.shop.bed);
        let root = keyless_root(&[&bed.log], &[], &[&bed.tsa], &[&fulcio]);
        checkout.shop.write("repository/trusted_root.json", root.to_string());
        let mut services: Value =
            serde_json::from_slice(&fs::read(checkout.path(SERVICES)).unwrap()).unwrap();
        services["caUrls"] = service(&fulcio.url(), 1);
        checkout.shop.write(SERVICES, services.to_string());
        let policy = format!(
            "version = 1\n\n[[image]]\nrepository = \"{}\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
             quorum = 1\nsources = [\"git+https://github.com/acme/app\"]\n\n\
             [[builder]]\nname = \"github\"\noperator = \"GitHub\"\nissuer = \"{}\"\n\
             san = \"https://github.com/acme-tools/quorate/.github/workflows/images.yml@*\"\n",
            checkout.shop.repository(),
            issuer.name(),
        );
        checkout.shop.write("repository/quorate.toml", policy);
        checkout.git(&["remote", "set-url", "origin", &format!("https://github.com/{caller}")]);
        checkout.git(&["commit", "-q", "-a", "-m", "without keys"]);
        let mut job =
            github_job(caller, "release.yml", "refs/heads/main", &checkout.git(&["rev-parse", "HEAD"]));
        job["job_workflow_ref"] = called.into();
        issuer.set_job(job);
        checkout.environment.extend([
            ("ACTIONS_ID_TOKEN_REQUEST_URL", issuer.request_url()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", Issuer::REQUEST_TOKEN.to_owned()),
        ]);
        checkout.variables.extend([("CANDIDATE", "candidate".into()), ("KEY", String::new())]);
        let ran = checkout.run("pipeline.yml").exits(code);
        assert_eq!(checkout.shop.bed.log.size(), 2, "both platforms are signed\n{}", ran.log);
        assert_eq!(checkout.shop.named("latest").is_some(), code == 0, "{caller}\n{}", ran.log);
        if code != 0 {
            ran.says("github: source-not-allowed");
        }
    }
}

fn hostile(act: &Path) {
    let mut checkout = Checkout::open(act);
    let planted = checkout.path("planted").display().to_string();
    let commands = "::set-output name=digest::evil\n::add-path::/evil\n##[set-output name=digest]evil";
    let texts = [
        format!("$(touch {planted})"),
        format!("`touch {planted}`"),
        format!("'; touch {planted}; '"),
        format!("\"; touch {planted}; \""),
        format!("a\ntouch {planted}\n"),
        format!("x'\"${{IFS}}$(touch {planted})"),
        format!("a\n{commands}"),
        commands.to_owned(),
        "--policy=/dev/null".to_owned(),
        "../../..".to_owned(),
        "* ? [a-z] ~".to_owned(),
        "digest<<EOF\nevil\nEOF".to_owned(),
    ];
    checkout.variables.push(("TEXTS", json!(texts).to_string()));
    let ran = checkout.run("hostile.yml").exits(0);
    assert!(!Path::new(&planted).exists(), "nothing of a text is run\n{}", ran.log);
    let writes = checkout.shop.bed.registry.writes();
    assert!(writes.is_empty(), "{writes:#?}\n{}", ran.log);
    let mut jobs = 0;
    for file in files(&checkout.path("seen")) {
        let steps: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let named = |step: &str| step.parse::<u8>().is_err();
        for (step, came) in steps.as_object().unwrap().iter().filter(|(step, _)| named(step)) {
            assert_eq!(came["outcome"], "failure", "{step}: {steps:#}\n{}", ran.log);
            let outputs = came["outputs"].as_object().unwrap();
            assert!(outputs.values().all(|value| value != "evil"), "{step}: {outputs:#?}");
            assert_eq!(outputs.get("digest").filter(|value| *value != ""), None, "{step}: {outputs:#?}");
        }
        jobs += 1;
    }
    assert_eq!(jobs, texts.len(), "{}", ran.log);
    assert!(!ran.log.contains("::set-output:: digest=evil"), "{}", ran.log);
}

fn forgejo(act: &Path) {
    let mut checkout = Checkout::open(act);
    checkout.secrets.extend([("ATTIC_TOKEN", "to.ken".into()), ("PASSWORD", "secret".into())]);
    checkout.variables.extend([("USERNAME", "ci".into()), ("BUILDER", "github".into())]);
    let ran = checkout.run("forgejo.yml").exits(0);
    let pushed = checkout.shop.named("main-amd64").expect("it is pushed");
    ran.says(&format!("pushed {}@{pushed}", checkout.shop.repository()));
    let seen = fs::read_to_string(checkout.path("attic")).unwrap();
    let seen: Vec<&str> = seen.lines().collect();
    assert_eq!(seen[..3], ["push", "--", "ci:ci"]);
    assert_eq!(seen[4..], ["[servers.ci]", "endpoint = 'https://cache.example'", "token = 'to.ken'", "600"]);
    assert!(!files(checkout.shop.folder()).iter().any(|file| file.ends_with("attic/config.toml")));
    let image = format!("{}@{pushed}", checkout.shop.repository());
    let inspected = checkout.shop.quorate(&["inspect", &image, "-o", "json"]).exits(0);
    assert!(inspected.stdout.contains("\"github\""), "{}", inspected.stdout);

    // Neither a cache nor a builder: no more is done.
    let mut checkout = Checkout::open(act);
    checkout.secrets.push(("PASSWORD", "secret".into()));
    checkout.variables.push(("USERNAME", "ci".into()));
    checkout.run("forgejo.yml").exits(0);
    assert!(checkout.shop.named("main-amd64").is_some());
    assert!(!checkout.path("attic").exists());
    assert!(checkout.shop.bed.log.size() == 0, "nothing is signed");
}

/// The registry asks who is there; the password is right, then wrong.
fn login(act: &Path) {
    for (password, code) in [("secret", 0), ("not-the-one", 1)] {
        let auth = Auth::Basic { user: "ci".into(), password: "secret".into() };
        let mut checkout = Checkout::new(act, RegistryOptions { auth, ..RegistryOptions::default() });
        checkout.secrets.push(("PASSWORD", password.into()));
        checkout.variables.push(("USERNAME", "ci".into()));
        let ran = checkout.run("forgejo.yml").exits(code);
        if code != 0 {
            ran.says("(registry-denied)");
            assert_eq!(checkout.tag("main-amd64"), None);
        } else {
            assert!(checkout.tag("main-amd64").is_some());
        }
    }
}

fn setup(act: &Path) {
    let mut checkout = Checkout::open(act);
    let folder = Path::new(env!("CARGO_BIN_EXE_quorate")).parent().unwrap().display().to_string();
    checkout.run("setup.yml").exits(0).says(&format!("found {folder}/quorate"));
    // A folder that is given goes before PATH.
    let given = checkout.path("given");
    fs::create_dir(&given).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_quorate"), given.join("quorate")).unwrap();
    checkout.variables.push(("FOLDER", given.display().to_string()));
    checkout.run("setup.yml").exits(0).says(&format!("found {}/quorate", given.display()));
    checkout.variables.push(("FOLDER", checkout.path("absent").display().to_string()));
    checkout.run("setup.yml").exits(1).says("there is no program in the folder");

    let mut checkout = Checkout::open(act);
    checkout.installed = false;
    checkout.run("setup.yml").exits(1).says("build-with is neither nix nor cargo");
    checkout.variables.push(("BUILD_WITH", "nix".into()));
    // The job that says nothing of it has it built by cargo.
    checkout.run("setup.yml").exits(0).says("/quorate/bin/quorate").says("cargo in ");

    // What the caller's checkout says of Rust is not asked.
    let source = checkout.path("repository");
    let mut script = Command::new("bash");
    script
        .arg(source.join(".github/actions/setup/setup.sh"))
        .current_dir(checkout.shop.folder())
        .env_clear()
        .env("PATH", checkout.programs())
        .env("QUORATE_BINARY", env!("CARGO_BIN_EXE_quorate"))
        .envs([("FOLDER", ""), ("BUILD_WITH", "cargo"), ("SOURCE", "repository")])
        .env("BUILT", checkout.path("built"))
        .env("GITHUB_PATH", checkout.path("path"));
    let said = String::from_utf8(succeed(&mut script)).unwrap();
    let source = source.canonicalize().unwrap();
    assert!(said.contains(&format!("cargo in {}\n", source.display())), "{said}");
    assert_eq!(
        fs::read_to_string(checkout.path("path")).unwrap().trim(),
        checkout.path("built/bin").canonicalize().unwrap().to_str().unwrap()
    );
}

fn audited(zizmor: &Path) {
    // What others may call is held to more than what is the default.
    let ours =
        [".github/actions", ".github/workflows/images.yml", ".github/workflows/release.yml", ".forgejo"];
    for (persona, places) in [("regular", &["."][..]), ("pedantic", &ours)] {
        let mut command = Command::new(zizmor);
        command.args(["--offline", "--no-progress", "--color=never", "--persona", persona]).args(places);
        succeed(command.current_dir(ROOT));
    }
    // One that pastes an input into a script is found.
    let folder = tempfile::tempdir().unwrap();
    let action = fs::read_to_string(Path::new(ROOT).join(".github/actions/verify/action.yml")).unwrap();
    let pasted = action.replace("-- \"$IMAGE\"", "-- \"${{ inputs.image }}\"");
    assert_ne!(action, pasted);
    fs::write(folder.path().join("action.yml"), pasted).unwrap();
    let output =
        Command::new(zizmor).args(["--offline", "--no-progress"]).arg(folder.path()).output().unwrap();
    assert!(!output.status.success() && said(&output).contains("template-injection"), "{}", said(&output));
}

/// `check-jsonschema` of a schema that it has.
fn schema(check: &Path, name: &str) -> Command {
    let mut command = Command::new(check);
    command.args(["--builtin-schema", &format!("vendor.{name}")]).current_dir(ROOT);
    command
}

fn schemas(check: &Path) {
    let below = |folder: &str, end: &str| {
        let found = files(&Path::new(ROOT).join(folder)).into_iter();
        let found: Vec<_> = found.filter(|file| file.to_str().unwrap().ends_with(end)).collect();
        assert!(!found.is_empty(), "{folder}");
        found
    };
    let actions = [".github/actions", ".forgejo", "tests/peers/actions/stubs"];
    succeed(schema(check, "github-actions").args(actions.iter().flat_map(|it| below(it, "/action.yml"))));
    let workflows = fs::read_dir(Path::new(ROOT).join("tests/peers/actions")).unwrap();
    let workflows = workflows.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    succeed(schema(check, "github-workflows").args(workflows).args(below(".github/workflows", ".yml")));

    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(Path::new(ROOT).join(GITLAB)).unwrap();
    for (part, text) in text.split("\n---\n").enumerate() {
        let file = folder.path().join(format!("{part}.yml"));
        fs::write(&file, text).unwrap();
        succeed(schema(check, "gitlab-ci").args(["--data-transform", "gitlab-ci"]).arg(&file));
    }
    // One that says nothing of what is run is found.
    let file = folder.path().join("action.yml");
    fs::write(&file, "name: a\ndescription: b\n").unwrap();
    let output = schema(check, "github-actions").arg(&file).output().unwrap();
    assert!(!output.status.success() && said(&output).contains("'runs' is a required property"));
}

/// The component of GitLab.
const GITLAB: &str = "templates/quorate/template.yml";

/// Puts a value for every `$[[ inputs.NAME ]]`.
fn fill(part: &mut Value, value: &dyn Fn(&str) -> Value) {
    match part {
        Value::Array(parts) => parts.iter_mut().for_each(|part| fill(part, value)),
        Value::Object(parts) => parts.values_mut().for_each(|part| fill(part, value)),
        Value::String(text) => {
            let input = text.strip_prefix("$[[ inputs.").and_then(|text| text.strip_suffix(" ]]"));
            if let Some(input) = input {
                *part = value(input);
            } else {
                assert!(!text.contains("$[["), "an input alone makes a value: {text}");
            }
        }
        _ => {}
    }
}

/// The jobs of the component, as GitLab puts inputs into them.
fn jobs(check: &Path, inputs: &Value) -> Value {
    let script = "import json, sys; from ruamel.yaml import YAML; \
                  print(json.dumps(list(YAML(typ='safe').load_all(open(sys.argv[1])))))";
    let mut python = Command::new(check.with_file_name("python"));
    let parts = succeed(python.args(["-c", script, GITLAB]).current_dir(ROOT));
    let mut parts: Value = serde_json::from_slice(&parts).unwrap();
    let declared = parts[0]["spec"]["inputs"].as_object().unwrap().clone();
    fill(&mut parts[1], &|input| {
        let value = inputs.get(input).or(declared[input].get("default"));
        value.unwrap_or_else(|| panic!("the input {input} is missing")).clone()
    });
    parts[1].take()
}

/// A pipeline of GitLab, job after job, each in a checkout of its own with the artifacts of those
/// before it. The code is that of the job that failed.
fn pipeline(checkout: &Checkout, check: &Path, inputs: &Value) -> Result<(), (i32, String)> {
    let commit = checkout.git(&["rev-parse", "HEAD"]);
    let host = checkout.shop.host();
    let predefined = [
        ("GITLAB_CI", "true"),
        ("CI_COMMIT_SHA", &commit),
        ("CI_COMMIT_BRANCH", "main"),
        ("CI_PROJECT_URL", "https://gitlab.example/acme/app"),
        ("CI_REGISTRY", &host),
        ("CI_REGISTRY_IMAGE", &checkout.shop.repository()),
        ("CI_REGISTRY_USER", "ci"),
        ("CI_REGISTRY_PASSWORD", "secret"),
        // These are the project's own.
        ("BUILDER_KEY", &checkout.secrets[0].1),
        ("QUORATE_TRUSTED_ROOT", "trusted_root.json"),
        ("QUORATE_SIGNING_CONFIG", "signing_config.json"),
    ];
    // From the last to the first: some names begin as others do.
    let expanded = |text: &str| {
        predefined
            .iter()
            .rev()
            .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value))
    };
    let jobs = jobs(check, inputs);
    let kept = tempfile::tempdir().unwrap();
    let systems = jobs["quorate:image"]["parallel"]["matrix"][0]["SYSTEM"].as_array().unwrap();
    let builds = systems.iter().map(|system| ("quorate:image", system.as_str().unwrap()));
    for (name, system) in builds.chain([("quorate:assemble", ""), ("quorate:promote", "")]) {
        let job = &jobs[name];
        let folder = tempfile::tempdir().unwrap();
        checkout.git(&["clone", "-q", ".", folder.path().to_str().unwrap()]);
        copy(kept.path(), folder.path());
        let script: Vec<&str> =
            job["script"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        let mut command = Command::new("bash");
        command
            .args(["-e", "-o", "pipefail", "-c", &script.join("\n")])
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", checkout.programs())
            .env("HOME", checkout.shop.folder())
            .envs(predefined)
            .env("SYSTEM", system);
        for (name, value) in job["variables"].as_object().unwrap() {
            match value["value"].as_str() {
                Some(text) => {
                    assert_eq!(value["expand"], false, "{name}");
                    command.env(name, text)
                }
                None => command.env(name, expanded(value.as_str().unwrap())),
            };
        }
        let output = command.output().unwrap();
        if !output.status.success() {
            return Err((output.status.code().unwrap(), format!("{name}: {}", said(&output))));
        }
        for path in job["artifacts"]["paths"].as_array().into_iter().flatten() {
            let path = path.as_str().unwrap();
            let from = folder.path().join(path);
            if from.is_dir() {
                copy(&from, &kept.path().join(path));
            } else {
                fs::copy(&from, kept.path().join(path)).unwrap();
            }
        }
    }
    Ok(())
}

fn gitlab(check: &Path) {
    let auth = Auth::Basic { user: "ci".into(), password: "secret".into() };
    let checkout = Checkout::new(check, RegistryOptions { auth, ..RegistryOptions::default() });
    let policy = checkout.path("repository/quorate.toml");
    fs::write(&policy, checkout.shop.policy(1)).unwrap();
    checkout.git(&["commit", "-q", "-a", "-m", "one builder is enough"]);
    let inputs = json!({
        "job-image": "registry.example/nix", "package-name": "app-image", "builder": "github",
        "key": "env:BUILDER_KEY", "tags": "latest,1.4.2", "wait": "1s", "promote-if": "$CI_COMMIT_TAG",
    });
    let with = |name: &str, value: &str| {
        let mut inputs = inputs.clone();
        inputs[name] = value.into();
        inputs
    };
    // What is refused: nothing is run, and no tag moves.
    let planted = checkout.path("planted").display().to_string();
    for (name, value, says) in [
        ("policy-digest", format!("sha256:{}", "0".repeat(64)), "not the pinned"),
        ("policy-digest", String::new(), "--policy-digest"),
        ("tags", format!("$(touch {planted})"), "is not a tag"),
        ("tags", "--allow-rollback".to_owned(), "is not a tag"),
        ("wait", format!("`touch {planted}`"), "--wait"),
        ("policy", format!("\"; touch {planted}; \""), "cannot read"),
        ("builder", format!("'; touch {planted}; '"), "cannot be a slot"),
    ] {
        let (code, said) = pipeline(&checkout, check, &with(name, &value)).unwrap_err();
        assert_eq!(code, 2, "{name}: {said}");
        assert!(said.contains(says), "{name}: {said}");
        assert!(!Path::new(&planted).exists(), "{name}: {said}");
        assert_eq!(checkout.tag("latest"), None, "{name}");
    }
    pipeline(&checkout, check, &inputs).unwrap();
    let commit = checkout.git(&["rev-parse", "HEAD"]);
    let released = checkout.tag("latest").expect("latest names the release");
    for tag in ["1.4.2", &format!("git-{commit}")] {
        assert_eq!(checkout.tag(tag), Some(released.clone()), "{tag}");
    }
}
