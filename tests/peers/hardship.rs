//! Hard conditions: a log that is frozen, slow or dead, tokens that run out on the way, registries
//! that die in the middle of a push, a network that is far and loses what it carries. What cannot be
//! finished says so, nothing is allowed that should not be, and the same command, run again,
//! finishes.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use libtest_mimic::Trial;
use quorate_bed::image::{self, Image};
use quorate_bed::{Fault, FaultAction, Registry as Front, client};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fulcio::{Keyless, SERVICES, job};
use crate::peers::{Peer, Peers};
use crate::process::{Process, free_address};
use crate::project::{ARCHITECTURES, Build, Project, REPOSITORY, said};
use crate::proxy;
use crate::registries::Registry;

/// Seconds of a run that something is wrong with.
const HURRIED: &str = "3";

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let [fulcio, ct_log, rekor, tsa, cosign] = SERVICES;
    let mut trials = vec![peers.trial(
        "hardship::signing_services",
        [Peer::Olareg, fulcio, ct_log, rekor, tsa, cosign],
        |[registry, services @ ..]| {
            signing_services(&Registry::olareg(registry), Keyless::start(services));
        },
    )];
    let registries: [(Peer, Store); 2] =
        [(Peer::Olareg, Mortal::olareg), (Peer::DockerRegistry, Mortal::docker_registry)];
    for (registry, store) in registries {
        trials.push(peers.trial(
            &format!("hardship::{}_fails_in_mid_push", registry.name()),
            [registry],
            move |[program]| fails_in_mid_push(&Mortal::start(program, store)),
        ));
        trials.push(peers.trial(
            &format!("hardship::{}_is_far_and_the_network_loses", registry.name()),
            [registry],
            move |[program]| far_and_lossy(&Mortal::start(program, store)),
        ));
    }
    trials
}

/// Runs a command: its exit code, and its document.
fn outcome(command: &mut Command) -> (i32, Value) {
    let output = command.output().unwrap();
    let document = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), document.unwrap_or_else(|_| panic!("{command:?}\n{}", said(&output))))
}

/// Asserts that a run ended without a decision, for this reason, with a hint and without a write.
#[track_caller]
fn undecided(front: &Front, command: &mut Command, reason: &str) {
    front.clear_log();
    let (code, document) = outcome(command);
    let error = &document["error"];
    assert_eq!(code, 3, "{document:#}");
    assert!(error["message"].as_str().unwrap().ends_with(&format!("({reason})")), "{error:#}");
    assert!(error["hint"].is_string(), "{error:#}");
    assert!(front.writes().is_empty(), "{:#?}", front.writes());
}

/// Fulcio, Rekor and the authority are needed to sign, and for nothing else.
fn signing_services(registry: &Registry, mut keyless: Keyless) {
    let front = Front::before(registry.host());
    let project = keyless.settle(Project::new(&front.host()));
    let image = format!("{}:one", project.image());
    let builds = ARCHITECTURES.map(|(architecture, _)| {
        let build = Build::new(&project.path(""), architecture, "one");
        build.image.push(registry.host(), REPOSITORY, &format!("one-{architecture}")).unwrap();
        build
    });
    let sources = ARCHITECTURES.map(|(architecture, _)| format!("{image}-{architecture}"));
    project.json(0, &["assemble", &image, &sources[0], &sources[1]]);
    let [amd64, arm64] = [0, 1];
    let attest = |keyless: &Keyless, builder: &str, at: usize| {
        keyless.attesting(&project, &image, builder, ARCHITECTURES[at].1, &builds[at])
    };
    let attested = |mut command: Command| {
        let (code, document) = outcome(&mut command);
        assert_eq!((code, &document["outcome"]), (0, &json!("attested")), "{document:#}");
    };
    let hurried = |mut command: Command| {
        command.args(["--timeout", HURRIED]);
        command
    };

    keyless.services.log().signal("STOP");
    undecided(&front, &mut hurried(attest(&keyless, "github", amd64)), "service-timeout");
    keyless.services.log().signal("CONT");
    attested(attest(&keyless, "github", amd64));

    // Too slow for one run, and not for another. What was logged for nothing does no harm.
    let slow = Front::before(&keyless.services.rekor().to_string());
    let slowly = |mut command: Command| {
        command.env("QUORATE_REKOR_URL", format!("http://{}", slow.host()));
        command
    };
    slow.fault(Fault::new(FaultAction::Delay(Duration::from_secs(6))).times(1));
    undecided(&front, &mut hurried(slowly(attest(&keyless, "github", arm64))), "service-timeout");
    slow.clear_faults();
    slow.fault(Fault::new(FaultAction::Delay(Duration::from_secs(6))).times(1));
    attested(slowly(attest(&keyless, "github", arm64)));

    // The token is good when it is sent, and not when it arrives.
    let far = Front::before(&keyless.fulcio().to_string());
    far.fault(Fault::new(FaultAction::Delay(Duration::from_secs(9))).times(1));
    let mut command = attest(&keyless, "garnix", amd64);
    command.env("QUORATE_FULCIO_URL", format!("http://{}", far.host()));
    let ends = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 8;
    let mut claims = job("garnix");
    claims["exp"] = ends.into();
    fs::write(project.path("garnix.token"), keyless.issuer.token(&claims)).unwrap();
    undecided(&front, &mut command, "service-refused");
    attested(attest(&keyless, "garnix", amd64));

    // Without a log nothing is signed; what was signed is judged all the same.
    keyless.services.stop_log();
    undecided(&front, &mut attest(&keyless, "garnix", arm64), "service-unreachable");
    let promote = ["promote", &image, "--tag", "1.0.0"];
    let short = project.json(1, &promote);
    assert_eq!((&short["verdict"], &short["outcome"]), (&json!("short"), &json!("refused")));
    assert!(front.writes().is_empty(), "nothing was promoted");
    keyless.services.start_log();
    attested(attest(&keyless, "garnix", arm64));
    // Fulcio waits for the log of its certificates, and gives none without.
    keyless.stop_certificate_log();
    undecided(&front, &mut hurried(attest(&keyless, "basement", arm64)), "service-timeout");
    keyless.services.stop_log();
    let met = project.json(0, &promote);
    assert_eq!((&met["verdict"], &met["outcome"]), (&json!("met"), &json!("moved")));
    for row in met["platforms"].as_array().unwrap() {
        assert_eq!((&row["have"], &row["need"]), (&json!(2), &json!(2)), "no vote was lost or came twice");
    }
}

/// The arguments with which a registry keeps what it is given in a folder, and listens.
type Store = fn(&Path, &Path, SocketAddr) -> Command;

/// A registry on disk that can be killed, and started again with what it has; a wire leads to it.
struct Mortal {
    address: SocketAddr,
    folder: TempDir,
    command: Mutex<Command>,
    process: Mutex<Option<Process>>,
}

impl Mortal {
    fn start(program: &Path, store: Store) -> Arc<Self> {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        let command = Mutex::new(store(program, folder.path(), address));
        let mortal = Arc::new(Self { address, folder, command, process: Mutex::default() });
        mortal.rise();
        mortal
    }

    fn olareg(program: &Path, folder: &Path, address: SocketAddr) -> Command {
        let mut command = Command::new(program);
        command.args(["serve", "--store-type", "dir", "--dir"]).arg(folder.join("store"));
        command.args(["--addr", "127.0.0.1", "--port"]).arg(address.port().to_string());
        command
    }

    fn docker_registry(program: &Path, folder: &Path, address: SocketAddr) -> Command {
        let store = folder.join("store");
        let config = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\", secret: none}}\n",
            store.display()
        );
        let file = folder.join("config.yml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.arg("serve").arg(file).env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        command
    }

    /// Runs it, with what it has.
    fn rise(&self) {
        let (process, ()) =
            Process::start(&mut self.command.lock().unwrap(), &self.folder.path().join("log"), |_| {
                TcpStream::connect(self.address).ok().map(drop)
            });
        *self.process.lock().unwrap() = Some(process);
    }

    /// Kills it, without a chance to finish anything.
    fn die(&self) {
        *self.process.lock().unwrap() = None;
    }

    /// Sends it a signal.
    fn signal(&self, name: &str) {
        self.process.lock().unwrap().as_ref().unwrap().signal(name);
    }

    /// Asserts that the registry has every byte of the image, under its tag.
    #[track_caller]
    fn has(&self, image: &Image, tag: &str) {
        let host = self.address.to_string();
        let manifest = client::manifest(&host, REPOSITORY, tag).unwrap();
        assert_eq!(image::digest(&manifest.body), image.manifest_digest);
        for blob in [&image.config, &image.layer] {
            let path = format!("/v2/{REPOSITORY}/blobs/{}", image::digest(blob));
            assert!(client::get(&host, &path, None).unwrap().body == *blob, "{path}");
        }
    }

    /// The digest that a tag names.
    fn named(&self, tag: &str) -> Option<String> {
        let answer = client::manifest(&self.address.to_string(), REPOSITORY, tag).unwrap();
        (answer.status == 200).then(|| image::digest(&answer.body))
    }
}

/// A release of one platform that two builders vote for.
struct Release<'a> {
    project: &'a Project,
    /// The tag of the candidate.
    name: String,
    /// The tag that it is promoted to.
    tag: String,
    build: Build,
}

/// The steps of a release, in their order.
const STEPS: [&str; 5] = ["push", "assemble", "github", "garnix", "promote"];

impl<'a> Release<'a> {
    /// A new one, with this much in its layer.
    fn new(project: &'a Project, name: &str, tag: &str, kilobytes: u32) -> Self {
        let mut build = Build::new(&project.path(""), "amd64", name);
        // Each kilobyte is another.
        let parts: Vec<u8> = (0..kilobytes).flat_map(|part| part.to_be_bytes().repeat(256)).collect();
        build.image = Image::build("linux", "amd64", None, &[(name, &parts, 0o644)]);
        build.layout(&project.path(name));
        Self { project, name: name.to_owned(), tag: tag.to_owned(), build }
    }

    fn at(&self, suffix: &str) -> String {
        format!("{}:{}{suffix}", self.project.image(), self.name)
    }

    /// The command of a step.
    fn command(&self, step: &str) -> Command {
        let (pushed, index) = (self.at("-amd64"), self.at(""));
        let mut command = match step {
            "push" => self.project.command(&["push", &self.name, &pushed]),
            "assemble" => self.project.command(&["assemble", &index, &pushed]),
            "verify" => self.project.command(&["verify", &index]),
            "promote" => self.project.command(&["promote", &index, "--tag", &self.tag]),
            builder => self.project.attesting(&index, builder, ARCHITECTURES[0].1, &self.build),
        };
        command.args(["-o", "json"]);
        command
    }

    /// Asserts that the step is done, and is not to be done again.
    #[track_caller]
    fn done(&self, mortal: &Mortal, step: &str) {
        let (code, document) = outcome(&mut self.command(step));
        assert_eq!(code, 0, "{step}: {document:#}");
        match step {
            "push" => mortal.has(&self.build.image, &format!("{}-amd64", self.name)),
            "assemble" => {
                assert_eq!(mortal.named(&self.name).as_deref(), document["image"]["digest"].as_str());
            }
            "promote" => assert_eq!(mortal.named(&self.tag), mortal.named(&self.name)),
            _ => assert_eq!(outcome(&mut self.command(step)).1["outcome"], "already", "{step}"),
        }
    }
}

/// A project on that registry with one platform.
fn project(host: &str) -> Project {
    let project = Project::new(host);
    let policy = fs::read_to_string(project.path("quorate.toml")).unwrap();
    fs::write(project.path("quorate.toml"), policy.replace(", \"linux/arm64\"", "")).unwrap();
    project
}

/// In the middle of each step the registry is killed, early and late, or freezes; the run says that
/// it did not finish, or has; and run again, it does.
fn fails_in_mid_push(mortal: &Arc<Mortal>) {
    let (pieces, fatal) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
    let freezes = Arc::new(AtomicBool::new(false));
    let host = {
        let (pieces, fatal, freezes) = (pieces.clone(), fatal.clone(), freezes.clone());
        // The wire lasts longer than the trial; the registry must not.
        let registry = Arc::downgrade(mortal);
        proxy::wire(mortal.address, move || {
            if pieces.fetch_add(1, Ordering::SeqCst) != fatal.load(Ordering::SeqCst) {
                return true;
            }
            let frozen = freezes.load(Ordering::SeqCst);
            match registry.upgrade() {
                Some(mortal) if frozen => mortal.signal("STOP"),
                Some(mortal) => mortal.die(),
                None => {}
            }
            frozen
        })
    };
    let project = project(&host.to_string());
    let first = Release::new(&project, "first", "0.0.1", 512);
    let mut undone = 0;
    for (number, step) in STEPS.iter().enumerate() {
        pieces.store(0, Ordering::SeqCst);
        assert_eq!(outcome(&mut first.command(step)).0, 0, "{step}");
        let whole = pieces.load(Ordering::SeqCst);
        first.done(mortal, step);
        for (case, (part, frozen)) in [(1, false), (4, true), (8, false)].into_iter().enumerate() {
            let release =
                Release::new(&project, &format!("{step}-{case}"), &format!("1.{number}.{case}"), 512);
            for before in &STEPS[..number] {
                release.done(mortal, before);
            }
            pieces.store(0, Ordering::SeqCst);
            freezes.store(frozen, Ordering::SeqCst);
            fatal.store(whole * part / 10, Ordering::SeqCst);
            let (code, document) = outcome(release.command(step).args(["--timeout", HURRIED]));
            let hit = pieces.load(Ordering::SeqCst) > fatal.swap(usize::MAX, Ordering::SeqCst);
            let what = format!("{step} at {part} of 10 of {whole}: {code}: {document:#}");
            assert!(hit, "the registry should have failed: {what}");
            let (unknown, dead) = outcome(release.command("verify").args(["--timeout", HURRIED]));
            assert_eq!(unknown, 3, "{dead:#}");
            let message = dead["error"]["message"].as_str().unwrap();
            let reason = if frozen { "(registry-timeout)" } else { "(registry-unreachable)" };
            assert!(message.ends_with(reason), "{dead:#}");
            if frozen {
                mortal.signal("CONT");
            } else {
                mortal.rise();
            }
            match code {
                0 => {}
                3 => {
                    undone += 1;
                    let named = mortal.named(&release.tag);
                    assert!(named.is_none() || named == mortal.named(&release.name), "{what}");
                }
                _ => panic!("{what}"),
            }
            for step in &STEPS[number..] {
                release.done(mortal, step);
            }
            let met = project.json(0, &["verify", &release.at("")]);
            assert_eq!((&met["verdict"], &met["platforms"][0]["have"]), (&json!("met"), &json!(2)), "{what}");
        }
    }
    assert!(undone > STEPS.len(), "{undone} runs were left undone");
}

/// Every piece takes 20 ms, and every twentieth is lost for good with its connection, on the way to
/// the registry, the log and the authority. (A kernel could delay and drop packets, if it has netem;
/// those of many CI machines do not.)
fn far_and_lossy(mortal: &Arc<Mortal>) {
    let carried = Arc::new(AtomicUsize::new(0));
    let far = |server: SocketAddr| {
        let carried = carried.clone();
        proxy::wire(server, move || {
            sleep(Duration::from_millis(20));
            carried.fetch_add(1, Ordering::SeqCst) % 20 != 19
        })
    };
    let mut project = project(&far(mortal.address).to_string());
    let by_wire = |url: String| {
        let server = url.split('/').nth(2).unwrap();
        url.replace(server, &far(server.parse().unwrap()).to_string()).into()
    };
    project.environment = vec![
        ("QUORATE_REKOR_URL", by_wire(project.log.url())),
        ("QUORATE_TSA_URL", by_wire(project.tsa.url())),
    ];
    let release = Release::new(&project, "one", "1.0.0", 64);
    // A job that is run again until it has an answer.
    let decided = |step: &str| {
        for _ in 0..10 {
            let (code, document) = outcome(&mut release.command(step));
            if code != 3 {
                return (code, document);
            }
            assert!(document["error"]["hint"].is_string() || !document["tags"].is_null(), "{document:#}");
        }
        panic!("{step}: no answer in ten runs");
    };
    for step in &STEPS[..3] {
        let (code, document) = decided(step);
        assert_eq!(code, 0, "{step}: {document:#}");
    }
    let (code, short) = decided("promote");
    assert_eq!((code, &short["verdict"], &short["outcome"]), (1, &json!("short"), &json!("refused")));
    assert_eq!(mortal.named("1.0.0"), None, "nothing was promoted");
    for step in &STEPS[3..] {
        let (code, document) = decided(step);
        assert_eq!(code, 0, "{step}: {document:#}");
    }
    mortal.has(&release.build.image, "one-amd64");
    assert_eq!(mortal.named("1.0.0"), mortal.named("one"));
    assert!(mortal.named("1.0.0").is_some());
    assert!(carried.load(Ordering::SeqCst) > 100, "much was carried, and some of it lost");
}
