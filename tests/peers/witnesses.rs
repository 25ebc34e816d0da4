//! A log that asks witnesses, and the witnesses, none of them ours: what they cosign is taken, and
//! what they did not is not.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libtest_mimic::Trial;
use quorate_bed::{Registry, RegistryOptions, client};
use serde_json::{Value, json};

use crate::bundles::{save, script, taken};
use crate::cosign::{self, BUILD};
use crate::peers::{Peer, Peers};
use crate::process::{Process, free_address};
use crate::project::{ARCHITECTURES, Build, Project, said, succeed};
use crate::services::{ORIGIN, Services};

const NOTE: &str = "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope";
const SHORT: &str = "log-unwitnessed";
/// How long the log waits for witnesses: `DefaultWitnessTimeout` of Tessera, which it is made of.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let services = [Peer::RekorServer, Peer::TimestampServer, Peer::Cosign];
    let [rekor, tsa, cosign] = services;
    let needs = [rekor, tsa, cosign, Peer::AicsWitness];
    let [node, modules, python] = [Peer::Node, Peer::NodeSigstore, Peer::PythonSigstore];
    vec![
        peers.trial(
            "what_witnesses_cosigned_is_taken",
            [rekor, tsa, cosign, Peer::AicsWitness, Peer::AicsTlog],
            |[rekor, tsa, cosign, witness, tlog]| {
                cosigned_is_taken(&World::start([rekor, tsa, cosign, witness]), tlog);
            },
        ),
        peers.trial(
            "other_verifiers_take_what_witnesses_cosigned",
            [rekor, tsa, cosign, Peer::AicsWitness, node, modules, python],
            |[rekor, tsa, cosign, witness, node, modules, python]| {
                let world = World::start([rekor, tsa, cosign, witness]);
                others_take_it(&world, cosign, [node, modules, python]);
            },
        ),
        peers.trial("witnesses_cosign_no_fork", needs, |peers| no_fork(World::start(peers))),
        peers.trial("witnesses_that_are_down_are_missed", needs, |peers| down(World::start(peers))),
    ]
}

/// A witness that knows the log.
struct Witness {
    program: PathBuf,
    config: PathBuf,
    address: SocketAddr,
    /// Its verifier key, as it prints it.
    key: String,
    /// It, while it runs.
    running: Option<Process>,
}

impl Witness {
    /// One with a key of its own.
    fn new(program: &Path, services: &Services, file: &str, name: &str) -> Self {
        let (config, address) = (services.path(&format!("{file}.json")), free_address());
        let mut init = Command::new(program);
        init.args(["init", "--name", name, "--listen", &address.to_string(), "--db", &format!("{file}.db")]);
        init.args(["--key-file", &format!("{file}.key"), "--config"]).arg(&config);
        let key = String::from_utf8(succeed(&mut init)).unwrap().trim().to_owned();
        let mut add = Command::new(program);
        add.args(["add-log", "--origin", ORIGIN, "--vkey", &services.log_key(), "--config"]).arg(&config);
        succeed(&mut add);
        Self { program: program.to_owned(), config, address, key, running: None }
    }

    /// Starts it, or starts it again with what it has seen.
    fn start(&mut self) {
        let mut serve = Command::new(&self.program);
        serve.args(["serve", "--config"]).arg(&self.config);
        let (running, ()) = Process::start(&mut serve, &self.config.with_extension("txt"), |_| {
            let answer = client::get(&self.address.to_string(), "/healthz", None).ok()?;
            (answer.status == 200).then_some(())
        });
        self.running = Some(running);
    }

    /// Kills it.
    fn stop(&mut self) {
        self.running = None;
    }

    /// What it has said since it was started.
    fn said(&self) -> String {
        fs::read_to_string(self.config.with_extension("txt")).unwrap()
    }

    /// Why it refused what it keeps as evidence against the log.
    fn evidence(&self) -> Vec<String> {
        let mut evidence = Command::new(&self.program);
        let kept = succeed(evidence.args(["evidence", "--config"]).arg(&self.config));
        let kept: Vec<Value> = serde_json::from_slice(&kept).unwrap();
        kept.iter().map(|kept| kept["reason"].as_str().unwrap().to_owned()).collect()
    }
}

/// A log, two witnesses, and a builder that is enough alone.
struct World {
    services: Services,
    one: Witness,
    two: Witness,
    program: PathBuf,
    registry: Registry,
    project: Project,
    policy: String,
}

impl World {
    fn start([rekor, tsa, cosign, program]: [&Path; 4]) -> Self {
        let services = Services::start(rekor, tsa, cosign);
        let [mut one, mut two] =
            ["one", "two"].map(|name| Witness::new(program, &services, name, &format!("{name}.test")));
        one.start();
        two.start();
        let registry = Registry::start(RegistryOptions::default());
        let mut project = Project::new(&registry.host());
        project.environment.extend(services.environment());
        let policy = fs::read_to_string(project.path("quorate.toml")).unwrap();
        let policy = policy.replace(", \"linux/arm64\"]\nquorum = 2", "]\nquorum = 1");
        let program = program.to_owned();
        let mut world = Self { services, one, two, program, registry, project, policy };
        fs::write(world.project.path("quorate.toml"), &world.policy).unwrap();
        world.ask("all");
        world
    }

    /// Has the log ask both, and wait for that many.
    fn ask(&mut self, quorum: &str) {
        let [one, two] =
            [&self.one, &self.two].map(|witness| format!("{} http://{}", witness.key, witness.address));
        self.services.ask(&format!(
            "witness one {one}\nwitness two {two}\ngroup both {quorum} one two\nquorum both\n"
        ));
    }

    /// Has the policy want that many of those.
    fn want(&self, wanted: usize, of: &[&str]) {
        let trust =
            format!("{}\n[trust.default]\nwitnesses = {wanted}\nwitness_keys = {of:?}\n", self.policy);
        fs::write(self.project.path("quorate.toml"), trust).unwrap();
    }

    /// The verifier keys of both.
    fn keys(&self) -> [&str; 2] {
        [&self.one.key, &self.two.key]
    }

    /// Attests it; the bundle.
    fn attest(&self, (build, image): &(Build, String), more: &[&str]) -> Value {
        let (_, system) = ARCHITECTURES[0];
        let more = [&["--bundle-out", "bundle.json"], more].concat();
        self.project.attest(0, image, "github", system, build, &more);
        serde_json::from_slice(&fs::read(self.project.path("bundle.json")).unwrap()).unwrap()
    }

    /// What `verify` makes of the vote.
    fn judged(&self, image: &str, holds: bool) {
        let found = self.project.json(i32::from(!holds), &["verify", image]);
        let cell = &found["platforms"][0]["cells"][0];
        let expected =
            if holds { ("met", "counted", Value::Null) } else { ("short", "rejected", SHORT.into()) };
        assert_eq!(
            (&found["verdict"], &cell["status"], &cell["reason"]),
            (&expected.0.into(), &expected.1.into(), &expected.2),
            "{found:#}"
        );
    }

    /// Has a bundle attached, which must be refused, and nothing be written.
    fn refused(&self, what: &str, image: &str, bundle: &Value) {
        save(&self.project, "judged.json", bundle);
        self.registry.clear_log();
        let mut attach = self.project.command(&["attest", image, "--bundle", "judged.json"]);
        let output = attach.output().unwrap();
        assert!(
            output.status.code() == Some(1) && said(&output).contains(&format!("({SHORT})")),
            "{what}: {}",
            said(&output)
        );
        assert!(self.registry.writes().is_empty(), "{what}");
    }
}

/// The lines of the checkpoint in a bundle: the origin, the size, the root, an empty one, and the
/// signatures of the log and of witnesses.
fn lines(bundle: &Value) -> Vec<String> {
    bundle.pointer(NOTE).unwrap().as_str().unwrap().lines().map(str::to_owned).collect()
}

/// Who cosigned the checkpoint in a bundle.
fn cosigners(bundle: &Value) -> Vec<String> {
    let mut names: Vec<_> =
        lines(bundle)[5..].iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Under every policy, and with every change of the cosignatures but one, quorate and aics-tlog say the
/// same.
fn cosigned_is_taken(world: &World, tlog: &Path) {
    let pushed = world.project.pushed("app");
    let bundle = world.attest(&pushed, &["--no-attach"]);
    assert_eq!(cosigners(&bundle), ["one.test", "two.test"]);
    let image = &pushed.1;
    let [one, two] = world.keys();
    // Two of whom nobody asks: the one has a name of its own, the other that of the first.
    let [three, namesake] = [("three", "three.test"), ("namesake", "one.test")]
        .map(|(file, name)| Witness::new(&world.program, &world.services, file, name).key);

    let theirs = |note: &str, wanted: usize, of: &[&str]| {
        let file = world.project.path("checkpoint");
        fs::write(&file, note).unwrap();
        let mut verify = Command::new(tlog);
        verify.args(["verify-checkpoint", "--log-key", &world.services.log_key(), "--origin", ORIGIN]);
        verify.args(of.iter().flat_map(|key| ["--witness-key", key]));
        verify.args(["--quorum", &wanted.to_string(), "--note"]).arg(file).output().unwrap()
    };
    let judge = |what: &str, bundle: &Value, wanted: usize, of: &[&str], holds: bool| {
        let output = theirs(bundle.pointer(NOTE).unwrap().as_str().unwrap(), wanted, of);
        assert_eq!(output.status.success(), holds, "{what}: {}", said(&output));
        world.want(wanted, of);
        if holds {
            save(&world.project, "judged.json", bundle);
            world.project.json(0, &["attest", image, "--bundle", "judged.json"]);
            world.judged(image, true);
        } else {
            world.refused(what, image, bundle);
        }
    };

    let all = lines(&bundle);
    let (note, log) = (&all[..4], &all[4]);
    let cosigned = |signatures: &[&str]| {
        let mut bundle = bundle.clone();
        let text = [note, &signatures.iter().map(|&line| line.to_owned()).collect::<Vec<_>>()].concat();
        *bundle.pointer_mut(NOTE).unwrap() = (text.join("\n") + "\n").into();
        bundle
    };
    let (first, second) = (all[5].as_str(), all[6].as_str());
    let changed = |at: usize| {
        let (name, base64) = second.rsplit_once(' ').unwrap();
        let mut bytes = STANDARD.decode(base64).unwrap();
        assert_eq!(bytes.len(), 4 + 8 + 64);
        bytes[at] ^= 1;
        format!("{name} {}", STANDARD.encode(bytes))
    };
    // Where the time and the two halves of the signature lie.
    for at in [4, 11, 12, 44, 75] {
        let line = changed(at);
        let instead = cosigned(&[log, first, &line]);
        judge(&format!("byte {at} changed"), &instead, 2, &[one, two], false);
        judge(&format!("… where one is enough, {at}"), &instead, 1, &[one, two], false);
        let beside = cosigned(&[log, first, second, &line]);
        judge(&format!("… beside the genuine line, {at}"), &beside, 2, &[one, two], false);
    }
    // Nobody's key has that id.
    let stranger = changed(0);
    judge("another key id", &cosigned(&[log, first, &stranger]), 2, &[one, two], false);
    judge("a line gone", &cosigned(&[log, first]), 2, &[one, two], false);
    judge("the other line gone", &cosigned(&[log, second]), 2, &[one, two], false);
    judge("both lines gone", &cosigned(&[log]), 1, &[one, two], false);
    judge("another's key", &bundle, 1, &[&three], false);
    judge("another's key under that name", &bundle, 2, &[&namesake, two], false);
    judge("one of two", &bundle, 2, &[one, &three], false);
    // Nothing is attached so far; this attaches it, and from here on the vote is there.
    judge("as it is", &bundle, 2, &[one, two], true);
    judge("one of them", &bundle, 1, &[one, &three], true);
    judge("the other of them", &bundle, 1, &[&three, two], true);
    judge("beside a stranger's", &cosigned(&[log, first, second, &stranger]), 2, &[one, two], true);
    judge("the lines in another order", &cosigned(&[log, second, first]), 2, &[one, two], true);
    // The specification says nothing of one line twice.
    let twice = cosigned(&[log, first, second, second]);
    let output = theirs(taken(&twice, NOTE).as_str().unwrap(), 2, &[one, two]);
    assert!(!output.status.success() && said(&output).contains("duplicate"), "{}", said(&output));
    save(&world.project, "judged.json", &twice);
    world.want(2, &[one, two]);
    world.project.json(0, &["attest", image, "--bundle", "judged.json"]);
    for (wanted, of) in [(1, &[&three[..]][..]), (2, &[one, &three]), (2, &[&namesake, two])] {
        world.want(wanted, of);
        world.judged(image, false);
    }
}

/// The lines of witnesses do not disturb those who do not look at them.
fn others_take_it(world: &World, cosign: &Path, [node, modules, python]: [&Path; 3]) {
    let pushed = world.project.pushed("app");
    let bundle = world.attest(&pushed, &[]);
    assert_eq!(cosigners(&bundle), ["one.test", "two.test"]);
    world.want(2, &world.keys());
    world.judged(&pushed.1, true);

    let mut root: Value = serde_json::from_slice(&fs::read(world.services.trusted_root()).unwrap()).unwrap();
    // sigstore-python wants these, even if they are empty.
    for empty in ["certificateAuthorities", "ctlogs"] {
        root[empty] = json!([]);
    }
    let (root, key) = (save(&world.project, "root.json", &root), world.project.path("github.key.pub"));
    let manifest = format!("{}@{}", world.project.image(), pushed.0.image.manifest_digest);
    for (name, holds) in [("github", true), ("garnix", false)] {
        let key = format!("{name}.key.pub");
        let theirs = cosign::verify(cosign, &world.project, &root, &key, BUILD, &manifest).output().unwrap();
        assert_eq!(theirs.status.success(), holds, "cosign, {key}: {}", said(&theirs));
    }
    let mut unsigned = bundle.clone();
    let own = lines(&bundle)[4].clone() + "\n";
    *unsigned.pointer_mut(NOTE).unwrap() = taken(&bundle, NOTE).as_str().unwrap().replace(&own, "").into();
    let files =
        [save(&world.project, "whole.json", &bundle), save(&world.project, "unsigned.json", &unsigned)];
    let mut js = Command::new(node);
    js.arg(script("verify.cjs")).arg(modules);
    let mut py = Command::new(python);
    py.args(["-I", "-W", "ignore"]).arg(script("verify.py"));
    for mut verifier in [js, py] {
        let lines = String::from_utf8(succeed(verifier.args([&root, &key]).args(&files))).unwrap();
        let [whole, unsigned] = &lines.lines().collect::<Vec<_>>()[..] else { panic!("{lines}") };
        assert_eq!(*whole, "holds");
        assert_ne!(*unsigned, "holds", "without the line of the log");
    }
}

/// The log is given another tree under its name and key: whoever asks for witnesses does not take
/// what it answers then, and whoever does not, does.
fn no_fork(mut world: World) {
    let [one, two] = world.keys().map(str::to_owned);
    let want = |world: &World| world.want(2, &[&one, &two]);
    for name in ["first", "second"] {
        let pushed = world.project.pushed(name);
        world.attest(&pushed, &[]);
        want(&world);
        world.judged(&pushed.1, true);
    }
    world.services.stop_log();
    let (tree, aside) = (world.services.path("log"), world.services.path("log.aside"));
    fs::rename(&tree, &aside).unwrap();
    world.services.start_log();
    // Smaller than what the witnesses saw; as large; larger.
    for (name, size) in [("third", "1"), ("fourth", "2"), ("fifth", "3")] {
        let pushed = world.project.pushed(name);
        let bundle = world.attest(&pushed, &["--no-attach"]);
        assert_eq!((cosigners(&bundle).len(), lines(&bundle)[1].as_str()), (0, size));
        want(&world);
        world.refused(name, &pushed.1, &bundle);
        fs::write(world.project.path("quorate.toml"), &world.policy).unwrap();
        world.project.json(0, &["attest", &pushed.1, "--bundle", "judged.json"]);
        world.project.json(0, &["verify", &pushed.1]);
        want(&world);
        world.judged(&pushed.1, false);
    }
    for witness in [&world.one, &world.two] {
        let said = witness.said();
        assert!(said.contains("refused (409)") && said.contains("refused (422)"), "{said}");
        assert_eq!(
            witness.evidence(),
            [
                "same size, different root (old size mismatch)",
                "same tree size as the latest cosigned checkpoint but a different root hash",
                "consistency proof from size 2 to 3 does not verify",
            ]
        );
    }

    world.services.stop_log();
    fs::remove_dir_all(&tree).unwrap();
    fs::rename(&aside, &tree).unwrap();
    world.services.start_log();
    let pushed = world.project.pushed("sixth");
    let bundle = world.attest(&pushed, &[]);
    assert_eq!((cosigners(&bundle).len(), lines(&bundle)[1].as_str()), (2, "3"));
    world.judged(&pushed.1, true);
}

/// The log answers without the witnesses that it cannot reach, and does not wait for more than it
/// needs.
fn down(mut world: World) {
    let [one, two] = world.keys().map(str::to_owned);
    let both = [&one[..], &two];
    let judged = |world: &World, image: &str, wanted: usize, holds: bool| {
        world.want(wanted, &both);
        world.judged(image, holds);
    };
    // One is enough for the log: it does not wait for the other, though both are well.
    world.ask("any");
    let pushed = world.project.pushed("any");
    assert_eq!(cosigners(&world.attest(&pushed, &[])).len(), 1);
    judged(&world, &pushed.1, 1, true);
    judged(&world, &pushed.1, 2, false);

    world.two.stop();
    let pushed = world.project.pushed("any-of-one");
    assert_eq!(cosigners(&world.attest(&pushed, &[])), ["one.test"]);
    judged(&world, &pushed.1, 1, true);
    judged(&world, &pushed.1, 2, false);

    // It asks for both, and answers with one.
    world.ask("all");
    let stopped = world.project.pushed("stopped");
    assert_eq!(cosigners(&world.attest(&stopped, &[])), ["one.test"]);
    judged(&world, &stopped.1, 1, true);
    judged(&world, &stopped.1, 2, false);
    let found = world.project.json(1, &["verify", &stopped.1]);
    assert!(found["platforms"][0]["cells"][0]["detail"].as_str().unwrap().ends_with("it lacks: two.test"));

    world.two.start();
    world.two.running.as_ref().unwrap().signal("STOP");
    let frozen = world.project.pushed("frozen");
    let began = Instant::now();
    assert_eq!(cosigners(&world.attest(&frozen, &[])), ["one.test"]);
    assert!(began.elapsed() >= PATIENCE, "{:?}", began.elapsed());
    judged(&world, &frozen.1, 1, true);
    judged(&world, &frozen.1, 2, false);
    world.two.running.as_ref().unwrap().signal("CONT");

    world.one.stop();
    world.two.stop();
    let nobody = world.project.pushed("nobody");
    assert!(cosigners(&world.attest(&nobody, &[])).is_empty());
    judged(&world, &nobody.1, 1, false);
    // Who signs first, and attaches by the policy, attaches nothing.
    let held = world.project.pushed("held");
    let bundle = world.attest(&held, &["--no-attach"]);
    world.refused("nobody cosigned", &held.1, &bundle);

    // Once they are back, what was said is not said again unasked.
    world.one.start();
    world.two.start();
    for pushed in [&stopped, &frozen, &nobody] {
        world.registry.clear_log();
        world.attest(pushed, &[]);
        assert!(world.registry.writes().is_empty());
        judged(&world, &pushed.1, 2, false);
        assert_eq!(cosigners(&world.attest(pushed, &["--again"])).len(), 2);
        judged(&world, &pushed.1, 2, true);
    }
    world.want(1, &both);
    save(&world.project, "judged.json", &world.attest(&held, &["--no-attach"]));
    world.project.json(0, &["attest", &held.1, "--bundle", "judged.json"]);
    judged(&world, &held.1, 2, true);
}
