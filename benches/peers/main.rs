//! quorate beside other clients, on one registry and in one run: `cargo bench --bench peers`.
//!
//! The registry is the one of `tests/bed`, behind bearer tokens; it counts requests, connections
//! and depth. Each run starts with no token and writes a tag that is absent. Peers are found as by
//! the tests in `tests/peers`; what is absent is named. Needs bash, and GNU time for the memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark ends where it fails")]
#![allow(clippy::print_stdout, reason = "the tables are its result")]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../../tests/peers/clients.rs"]
mod clients;
#[path = "../../tests/peers/peers.rs"]
mod peers;
#[path = "../../tests/peers/project.rs"]
mod project;
#[path = "../../tests/peers/proxy.rs"]
mod proxy;
#[path = "../../tests/peers/registries.rs"]
mod registries;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use quorate_bed::image::{Image, minimal_elf};
use quorate_bed::{Auth, Registry, RegistryOptions};

use clients::{ASSEMBLERS, Client};
use peers::Peers;
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

    for count in [2, 8] {
        heading(&format!("assemble, {count} platforms"));
        let quorate = both(&|shop, tag| vec![shop.quorate(tag, count)]);
        row("quorate", &quorate, &quorate);
        for peer in ASSEMBLERS {
            let Some(program) = peers.get(peer) else {
                println!("| {} | absent | | | | | | |", peer.name());
                continue;
            };
            let theirs = both(&|shop, tag| {
                let client = Client::new(peer, program, &shop.project.path(""));
                let images: Vec<_> = shop.images(count).collect();
                let images: Vec<_> = images.iter().map(|(platform, source)| (*platform, &**source)).collect();
                client.assemble(&format!("{}:{tag}", shop.project.image()), &images)
            });
            row(peer.name(), &theirs, &quorate);
        }
        println!();
    }

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
    registry: Registry,
    project: Project,
    release: String,
}

impl Shop {
    fn open(latency: Duration) -> Self {
        let registry = Registry::start(RegistryOptions {
            latency,
            auth: Auth::Bearer {
                user: "ci".to_owned(),
                password: "secret".to_owned(),
                lifetime: Duration::from_secs(300),
                anonymous_pull: false,
            },
            ..RegistryOptions::default()
        });
        let project = Project::new(&registry.host());
        // "ci:secret" in base64.
        let login = format!(r#"{{"auths":{{"{}":{{"auth":"Y2k6c2VjcmV0"}}}}}}"#, registry.host());
        fs::write(project.login(), login).unwrap();
        let mut shop = Self { registry, project, release: String::new() };
        for (platform, end) in PLATFORMS {
            let (_, architecture) = platform.split_once('/').unwrap();
            let (architecture, variant) =
                architecture.split_once('/').map_or((architecture, None), |(a, v)| (a, Some(v)));
            // Nothing runs them, so that any program will do.
            let files: [(&str, &[u8], u32); 1] = [("bin/app", &minimal_elf("amd64"), 0o755)];
            shop.push(&Image::build("linux", architecture, variant, &files), end);
        }
        shop.release();
        shop
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
        for (_, system, build) in &builds {
            for builder in ["github", "garnix"] {
                self.project.attest(0, &self.release, builder, system, build, &[]);
            }
        }
    }

    /// Platform and reference of the first images.
    fn images(&self, count: usize) -> impl Iterator<Item = (&'static str, String)> {
        let image = self.project.image();
        PLATFORMS.iter().take(count).map(move |(platform, end)| (*platform, format!("{image}:git-1-{end}")))
    }

    fn quorate(&self, tag: &str, count: usize) -> Command {
        let mut command = self.project.command(&["assemble", &format!("{}:{tag}", self.project.image())]);
        command.args(self.images(count).map(|(_, source)| source));
        command
    }

    /// Runs the commands for a fresh tag, several times.
    fn measure(&self, runs: usize, commands: &dyn Fn(&Self, &str) -> Vec<Command>) -> Figures {
        let mut all: Vec<_> = (0..runs)
            .map(|_| {
                // No version, and never used before: the policy rules neither out nor in.
                static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
                let tag = format!("run-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
                self.registry.clear_log();
                let connections = self.registry.connections();
                let mut figures = Figures::default();
                for command in commands(self, &tag) {
                    figures.add(run(&command, &self.project.path("memory")));
                }
                figures.requests = self.registry.log().len();
                figures.depth = self.registry.depth();
                figures.connections = self.registry.connections() - connections;
                figures
            })
            .collect();
        let mut median = |key: fn(&Figures) -> u64| {
            all.sort_by_key(key);
            key(&all[all.len() / 2])
        };
        let (wall, cpu) = (median(|figures| figures.wall), median(|figures| figures.cpu));
        let most = |key: fn(&Figures) -> usize| all.iter().map(key).max().unwrap();
        Figures {
            wall,
            cpu,
            memory: all.iter().map(|figures| figures.memory).max().unwrap(),
            requests: most(|figures| figures.requests),
            depth: most(|figures| figures.depth),
            connections: most(|figures| figures.connections),
        }
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
