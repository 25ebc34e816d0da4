//! quorate beside other clients, on one registry and in one run: `cargo bench --bench peers`.
//!
//! The registries are those of `tests/bed`, behind bearer tokens; they count requests, connections
//! and depth. Each run starts with no token and writes a tag that is absent, or to a registry that
//! is empty. Peers are found as by
//! the tests in `tests/peers`; what is absent is named. Needs bash, and GNU time for the memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark ends where it fails")]
#![allow(clippy::print_stdout, reason = "the tables are its result")]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../../tests/peers/clients.rs"]
mod clients;
#[path = "../../tests/peers/peers.rs"]
mod peers;
#[path = "../../tests/peers/process.rs"]
mod process;
#[path = "../../tests/peers/project.rs"]
mod project;
#[path = "../../tests/peers/proxy.rs"]
mod proxy;
#[path = "../../tests/peers/registries.rs"]
mod registries;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quorate_bed::image::{Image, minimal_elf};
use quorate_bed::{Auth, Registry, RegistryOptions, depth};

use clients::{ASSEMBLERS, Client, Place};
use peers::{Peer, Peers};
use project::{ARCHITECTURES, Build, Project, REPOSITORY, said};

/// The platforms of the images, and how the tags of these end.
const PLATFORMS: [(&str, &str); 8] = [
    ("linux/amd64", "amd64"),
    ("linux/arm64", "arm64"),
    ("linux/386", "386"),
    ("linux/riscv64", "riscv64"),
    ("linux/ppc64le", "ppc64le"),
    ("linux/s390x", "s390x"),
    ("linux/loong64", "loong64"),
    ("linux/arm/v7", "armv7"),
];
/// How much later every answer comes, and how many runs the figures are taken from.
const LATENCIES: [(u64, usize); 2] = [(0, 11), (100, 3)];
/// Bytes of the large layer of a release that is copied.
const LARGE: usize = 64 << 20;

fn main() {
    // `cargo test --all-targets` runs benchmarks too, without this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let peers = Peers::find();
    let [near, far] = LATENCIES.map(|(latency, runs)| (Shop::open(Duration::from_millis(latency)), runs));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores, {}-{}\n", std::env::consts::OS, std::env::consts::ARCH);
    let both = |commands: &dyn Fn(&Shop, &str) -> Vec<Command>| {
        [&near, &far].map(|(shop, runs)| shop.measure(*runs, commands))
    };

    let rows = |peers_of: &[Peer], theirs: &dyn Fn(Peer, &Path) -> [Figures; 2], ours: &[Figures; 2]| {
        for peer in peers_of {
            match peers.get(*peer) {
                Some(program) => row(peer.name(), &theirs(*peer, program), ours),
                None => println!("| {} | absent | | | | | | |", peer.name()),
            }
        }
        println!();
    };

    for count in [2, 8] {
        heading(&format!("assemble, {count} platforms"));
        let quorate = both(&|shop, tag| vec![shop.quorate(tag, count)]);
        row("quorate", &quorate, &quorate);
        let theirs = |peer: Peer, program: &Path| {
            both(&|shop, tag| {
                let images: Vec<_> = shop.images(count).collect();
                let images: Vec<_> = images.iter().map(|(platform, source)| (*platform, &**source)).collect();
                shop.client(peer, program).assemble(&format!("{}:{tag}", shop.project.image()), &images)
            })
        };
        rows(&ASSEMBLERS, &theirs, &quorate);
    }

    heading("bring a release of 2 platforms, one with a layer of 64 MiB, from another registry");
    let bring = |commands: &dyn Fn(&Shop, &str, &str) -> Vec<Command>| {
        [&near, &far].map(|(shop, runs)| shop.bring(*runs, commands))
    };
    let quorate = bring(&|shop, from, to| vec![shop.without_policy(&["assemble", to, from])]);
    row("quorate", &quorate, &quorate);
    let theirs = |peer: Peer, program: &Path| {
        bring(&|shop, from, to| shop.client(peer, program).copy(Place::Registry(from), Place::Registry(to)))
    };
    // Not buildah, which makes an index of its own.
    rows(&[Peer::Crane, Peer::Regctl, Peer::Oras, Peer::Skopeo], &theirs, &quorate);

    heading("list what is attached to one image: 2 votes");
    let quorate = both(&|shop, _| vec![shop.without_policy(&["inspect", &shop.voted])]);
    row("quorate", &quorate, &quorate);
    let verified = both(&|shop, _| vec![shop.project.command(&["inspect", &shop.voted])]);
    row("quorate, each verified", &verified, &quorate);
    let theirs = |peer: Peer, program: &Path| {
        both(&|shop, _| shop.client(peer, program).discover(&shop.voted).into_iter().collect())
    };
    rows(&[Peer::Regctl, Peer::Oras], &theirs, &quorate);

    heading("quorate alone, 2 platforms × 2 votes");
    let [verify, promote] = [
        both(&|shop, _| vec![shop.project.command(&["verify", &shop.release])]),
        both(&|shop, tag| {
            // A policy that says nothing of tags has rules for versions.
            let tags = ["0", "1", "2"].map(|end| format!("{}.0.{end}", tag.trim_start_matches("run-")));
            let tags = tags.join(",");
            vec![shop.project.command(&["promote", &shop.release, "--tag", &tags])]
        }),
    ];
    row("verify by digest", &verify, &verify);
    row("promote to 3 absent tags", &promote, &promote);
    println!();
    heading("what measuring costs");
    let nothing = both(&|_, _| vec![Command::new("true")]);
    row("true", &nothing, &nothing);
}

/// A registry with an image of each platform, and a release of two of them that has its votes.
struct Shop {
    options: RegistryOptions,
    registry: Registry,
    project: Project,
    release: String,
    /// Its first image.
    voted: String,
    /// A release with a large layer.
    large: String,
}

impl Shop {
    fn open(latency: Duration) -> Self {
        let options = RegistryOptions {
            latency,
            auth: Auth::Bearer {
                user: "ci".to_owned(),
                password: "secret".to_owned(),
                lifetime: Duration::from_secs(300),
                anonymous_pull: false,
            },
            ..RegistryOptions::default()
        };
        let registry = Registry::start(options.clone());
        let project = Project::new(&registry.host());
        let [release, voted, large] = Default::default();
        let mut shop = Self { options, registry, project, release, voted, large };
        shop.login(&[&shop.registry]);
        for (platform, end) in PLATFORMS {
            let (_, architecture) = platform.split_once('/').unwrap();
            let (architecture, variant) =
                architecture.split_once('/').map_or((architecture, None), |(a, v)| (a, Some(v)));
            // Nothing runs them, so that any program will do.
            let files: [(&str, &[u8], u32); 1] = [("bin/app", &minimal_elf("amd64"), 0o755)];
            shop.push(&Image::build("linux", architecture, variant, &files), end);
        }
        shop.release();
        shop.large();
        shop
    }

    /// Logs in to these registries.
    fn login(&self, registries: &[&Registry]) {
        // "ci:secret" in base64.
        let logins: Vec<_> = registries
            .iter()
            .map(|registry| format!(r#""{}":{{"auth":"Y2k6c2VjcmV0"}}"#, registry.host()))
            .collect();
        fs::write(self.project.login(), format!(r#"{{"auths":{{{}}}}}"#, logins.join(","))).unwrap();
    }

    /// Pushes an image under the tag of a platform.
    fn push(&self, image: &Image, end: &str) {
        let authorization = self.registry.authorization();
        image
            .push_as(authorization.as_deref(), &self.registry.host(), REPOSITORY, &format!("git-1-{end}"))
            .unwrap();
    }

    /// Assembles and attests the release.
    fn release(&mut self) {
        let builds = ARCHITECTURES.map(|(architecture, system)| {
            (architecture, system, Build::new(&self.project.path(""), architecture, "hello"))
        });
        for (architecture, _, build) in &builds {
            self.push(&build.image, architecture);
        }
        let sources: Vec<_> = self.images(builds.len()).map(|(_, source)| source).collect();
        let report = self.project.json(0, &["assemble", &self.project.image(), &sources[0], &sources[1]]);
        let digest = report["image"]["digest"].as_str().unwrap();
        self.release = format!("{}@{digest}", self.project.image());
        self.voted = format!("{}@{}", self.project.image(), builds[0].2.image.manifest_digest);
        for (_, system, build) in &builds {
            for builder in ["github", "garnix"] {
                self.project.attest(0, &self.release, builder, system, build, &[]);
            }
        }
    }

    /// Assembles a release with a large layer.
    fn large(&mut self) {
        let content = vec![b'x'; LARGE];
        let files: [(&str, &[u8], u32); 1] = [("data", &content, 0o644)];
        self.push(&Image::build("linux", "amd64", None, &files), "large");
        self.large = format!("{}:large", self.project.image());
        let [large, small] =
            ["git-1-large", "git-1-arm64"].map(|tag| format!("{}:{tag}", self.project.image()));
        self.project.json(0, &["assemble", &self.large, &large, &small]);
    }

    fn client(&self, peer: Peer, program: &Path) -> Client {
        Client::new(peer, program, &self.project.path(""))
    }

    /// quorate for images that no policy speaks of, or that are not to be judged.
    fn without_policy(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(arguments);
        command.env_remove("QUORATE_POLICY").env_remove("QUORATE_TRUSTED_ROOT");
        command
    }

    /// Platform and reference of the first images.
    fn images(&self, count: usize) -> impl Iterator<Item = (&'static str, String)> {
        let image = self.project.image();
        PLATFORMS.iter().take(count).map(move |(platform, end)| (*platform, format!("{image}:git-1-{end}")))
    }

    fn quorate(&self, tag: &str, count: usize) -> Command {
        let mut command = self.without_policy(&["assemble", &format!("{}:{tag}", self.project.image())]);
        command.args(self.images(count).map(|(_, source)| source));
        command
    }

    /// Runs the commands for a fresh tag, several times.
    fn measure(&self, runs: usize, commands: &dyn Fn(&Self, &str) -> Vec<Command>) -> Figures {
        let one = |_| {
            // No version, and never used before: the policy rules neither out nor in.
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let tag = format!("run-{}", COUNT.fetch_add(1, Ordering::Relaxed));
            self.once(&[&self.registry], &commands(self, &tag))
        };
        Figures::typical((0..runs).map(one).collect())
    }

    /// Runs the commands from the large release to an empty registry, several times.
    fn bring(&self, runs: usize, commands: &dyn Fn(&Self, &str, &str) -> Vec<Command>) -> Figures {
        let one = |_| {
            let there = Registry::start(self.options.clone());
            self.login(&[&self.registry, &there]);
            let target = format!("{}/{REPOSITORY}:large", there.host());
            let figures = self.once(&[&self.registry, &there], &commands(self, &self.large, &target));
            assert!(there.writes().iter().any(|r| r.path.ends_with("/manifests/large")));
            figures
        };
        Figures::typical((0..runs).map(one).collect())
    }

    /// Runs the commands of one run, and asks these registries what it cost.
    fn once(&self, registries: &[&Registry], commands: &[Command]) -> Figures {
        for registry in registries {
            registry.clear_log();
        }
        let connections = || registries.iter().map(|registry| registry.connections()).sum::<usize>();
        let before = connections();
        let mut figures = Figures::default();
        for command in commands {
            figures.add(run(command, &self.project.path("memory")));
        }
        let log: Vec<_> = registries.iter().flat_map(|registry| registry.log()).collect();
        figures.requests = log.len();
        figures.depth = depth(&log);
        figures.connections = connections() - before;
        figures
    }
}

/// What a run cost: milliseconds, kibibytes, counts.
#[derive(Default)]
struct Figures {
    wall: u64,
    cpu: u64,
    memory: u64,
    requests: usize,
    depth: usize,
    connections: usize,
}

impl Figures {
    /// The median of times, the most of everything else.
    fn typical(mut all: Vec<Self>) -> Self {
        let mut median = |key: fn(&Self) -> u64| {
            all.sort_by_key(key);
            key(&all[all.len() / 2])
        };
        let (wall, cpu) = (median(|figures| figures.wall), median(|figures| figures.cpu));
        let most = |key: fn(&Self) -> usize| all.iter().map(key).max().unwrap();
        Self {
            wall,
            cpu,
            memory: all.iter().map(|figures| figures.memory).max().unwrap(),
            requests: most(|figures| figures.requests),
            depth: most(|figures| figures.depth),
            connections: most(|figures| figures.connections),
        }
    }

    /// Another process of the same run.
    fn add(&mut self, (wall, cpu, memory): (u64, u64, u64)) {
        self.wall += wall;
        self.cpu += cpu;
        self.memory = self.memory.max(memory);
    }
}

/// Runs a command; its wall and processor time in milliseconds, and its peak memory in KiB.
fn run(command: &Command, memory: &Path) -> (u64, u64, u64) {
    // bash counts milliseconds, GNU time hundredths of a second, but only the latter knows memory.
    const SCRIPT: &str = r#"TIMEFORMAT='%R %U %S'; time /usr/bin/time -f %M -o "$0" "$@""#;
    let mut measured = Command::new("bash");
    measured.args(["-c", SCRIPT]).arg(memory).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => measured.env(name, value),
            None => measured.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        measured.current_dir(folder);
    }
    let output = measured.stdin(Stdio::null()).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", said(&output));
    let times = String::from_utf8_lossy(&output.stderr);
    let times = times.lines().last().unwrap().split(' ');
    let times: Vec<u64> = times.map(|seconds| seconds.replace('.', "").parse().unwrap()).collect();
    let memory = fs::read_to_string(memory).unwrap().trim().parse().unwrap();
    (times[0], times[1] + times[2], memory)
}

fn heading(work: &str) {
    let [(near, _), (far, _)] = LATENCIES;
    println!(
        "| {work} | time, +{near} ms | time, +{far} ms | CPU | memory | requests | depth | connections |"
    );
    println!("|---|---|---|---|---|---|---|---|");
}

/// A line of a table: counts as they were with the longer latency, where what can overlap does.
#[allow(clippy::cast_precision_loss, reason = "milliseconds and kibibytes, shown with two digits")]
fn row(name: &str, [near, far]: &[Figures; 2], [our_near, our_far]: &[Figures; 2]) {
    let beside = |shown: String, theirs: u64, ours: u64| {
        format!("{shown} ({:.1})", theirs as f64 / ours.max(1) as f64)
    };
    println!(
        "| {name} | {} | {} | {} | {} | {} | {} | {} |",
        beside(format!("{} ms", near.wall), near.wall, our_near.wall),
        beside(format!("{} ms", far.wall), far.wall, our_far.wall),
        beside(format!("{} ms", near.cpu), near.cpu, our_near.cpu),
        beside(format!("{:.1} MiB", near.memory as f64 / 1024.0), near.memory, our_near.memory),
        far.requests,
        far.depth,
        far.connections,
    );
}
