//! quorate beside other clients, on one registry and in one run: `cargo bench --bench peers`.
//!
//! The registries are those of `tests/bed`, behind bearer tokens; they count requests, connections
//! and depth. Each run starts with no token and writes a tag that is absent, or to a registry that
//! is empty. Peers are found as by the tests in `tests/peers`; what is absent is named. Needs bash,
//! and GNU time for the memory.
//!
//! `-- NAME…` makes only the tables whose names begin so, `-- --once` makes one run of each, and
//! `-- --write docs/performance.md` writes the tables there, and the plots into a folder beside it.

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
#[path = "../../tests/peers/services.rs"]
mod services;
mod shop;
mod table;
mod version;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use clients::{ASSEMBLERS, Client, Place};
use peers::{Peer, Peers};
use shop::{Figures, Setting, Shop};
use table::{Measured, Row, Table};

/// The settings of each measurement: near and far, and then the same over TLS.
pub(crate) const SETTINGS: [Setting; 4] = [
    Setting { latency: 0, tls: false, runs: 11 },
    Setting { latency: 100, tls: false, runs: 3 },
    Setting { latency: 0, tls: true, runs: 11 },
    Setting { latency: 100, tls: true, runs: 3 },
];
/// Who votes on the release.
pub(crate) const BUILDERS: [&str; 2] = ["github", "garnix"];

fn main() {
    let (mut once, mut page, mut names, mut wanted) = (false, None, Vec::new(), false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--bench" => wanted = true,
            "--once" => once = true,
            "--write" => page = Some(arguments.next().expect("--write PAGE")),
            _ => names.push(argument),
        }
    }
    // `cargo test --all-targets` runs benchmarks too, without `--bench`.
    if !wanted {
        return;
    }
    let open =
        |setting: Setting| Shop::open(Setting { runs: if once { 1 } else { setting.runs }, ..setting });
    let mut bench = Bench { peers: Peers::find(), shops: SETTINGS.map(open), names, done: Vec::new() };
    let mut text = format!("{}\n", bench.machine());
    println!("{text}");
    bench.assemble(2);
    bench.assemble(8);
    bench.bring();
    bench.verify();
    bench.promote();
    bench.list();
    bench.nothing();
    let [one, five, fifteen] = load();
    let after = format!("After the last run the load was {one}, {five} and {fifteen}.");
    println!("{after}");
    if let Some(page) = page {
        let _ = writeln!(text, "{after}");
        bench.write(&mut text, Path::new(&page));
    }
}

/// The load of the machine over the last 1, 5 and 15 minutes, where it says so.
fn load() -> [String; 3] {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut words = load.split(' ').map(str::to_owned);
    std::array::from_fn(|_| words.next().unwrap_or_else(|| "unknown".to_owned()))
}

/// How a peer does a piece of work in a shop, in the run of a number.
type Work<'a> = &'a dyn Fn(&Shop, Client, usize) -> Vec<Command>;

struct Bench {
    peers: Peers,
    shops: [Shop; SETTINGS.len()],
    /// How the names of the tables begin that are wanted; all, without any.
    names: Vec<String>,
    done: Vec<Table>,
}

impl Bench {
    /// Where and with whom this runs.
    fn machine(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let now = jiff::Timestamp::now().to_string();
        let all: BTreeSet<_> = ASSEMBLERS.into_iter().chain([Peer::Skopeo, Peer::Cosign]).collect();
        let (mut there, mut absent) = (Vec::new(), Vec::new());
        for peer in all {
            match self.peers.get(peer) {
                Some(program) => there.push(format!("{} {}", peer.name(), version::of(program))),
                None => absent.push(peer.name()),
            }
        }
        let absent = if absent.is_empty() { "none".to_owned() } else { absent.join(", ") };
        let [one, five, fifteen] = load();
        let [near, far, ..] = self.shops.each_ref().map(Shop::runs);
        format!(
            "{}, {cores} cores, {}-{}. Runs: {near} at +{} ms, {far} at +{} ms. Load over 1, 5 and 15 minutes \
             before the first run: {one}, {five}, {fifteen}. quorate {} beside {}. Absent: {absent}.",
            now.split('T').next().unwrap_or_default(),
            std::env::consts::OS,
            std::env::consts::ARCH,
            SETTINGS[0].latency,
            SETTINGS[1].latency,
            env!("CARGO_PKG_VERSION"),
            there.join(", "),
        )
    }

    fn wanted(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| name.starts_with(wanted))
    }

    /// Measures in every shop.
    fn each(&self, figures: impl Fn(&Shop) -> Figures) -> Measured {
        self.shops.each_ref().map(figures)
    }

    /// A row for each peer.
    fn rows(&self, peers: &[Peer], work: Work) -> Vec<Row> {
        let measured = |peer: &Peer| {
            let figures = self.peers.get(*peer).map(|program| {
                self.each(|shop| shop.measure(&|run| work(shop, shop.client(*peer, program), run)))
            });
            (peer.name().to_owned(), figures)
        };
        peers.iter().map(measured).collect()
    }

    /// A row for a command of quorate.
    fn ours(&self, name: &str, command: impl Fn(&Shop, usize) -> Command) -> Row {
        (name.to_owned(), Some(self.each(|shop| shop.measure(&|run| vec![command(shop, run)]))))
    }

    fn table(&mut self, name: &str, title: &str, rows: Vec<Row>) {
        let table = Table { name: name.to_owned(), title: title.to_owned(), rows };
        println!("{}", table.markdown());
        self.done.push(table);
    }

    fn assemble(&mut self, count: usize) {
        let name = format!("assemble-{count}");
        if !self.wanted(&name) {
            return;
        }
        let target = |shop: &Shop, run: usize| format!("{}:run-{run}", shop.project.image());
        let mut rows = vec![self.ours("quorate", |shop, run| {
            let mut command = shop.without_policy(&["assemble", &target(shop, run)]);
            command.args(shop.sources(count).map(|(_, source)| source));
            command
        })];
        rows.extend(self.rows(&ASSEMBLERS, &|shop, client, run| {
            let sources: Vec<_> = shop.sources(count).collect();
            let sources: Vec<_> = sources.iter().map(|(platform, source)| (*platform, &**source)).collect();
            client.assemble(&target(shop, run), &sources)
        }));
        self.table(&name, &format!("assemble, {count} platforms"), rows);
    }

    fn bring(&mut self) {
        if !self.wanted("copy") {
            return;
        }
        let ours = |shop: &Shop| shop.bring(&|to| vec![shop.without_policy(&["assemble", to, &shop.large])]);
        let mut rows: Vec<Row> = vec![("quorate".to_owned(), Some(self.each(ours)))];
        // Not buildah, which makes an index of its own.
        for peer in [Peer::Crane, Peer::Regctl, Peer::Oras, Peer::Skopeo] {
            let figures = self.peers.get(peer).map(|program| {
                let from = |shop: &Shop, to: &str| {
                    shop.client(peer, program).copy(Place::Registry(&shop.large), Place::Registry(to))
                };
                self.each(|shop| shop.bring(&|to| from(shop, to)))
            });
            rows.push((peer.name().to_owned(), figures));
        }
        let title = "bring a release of 2 platforms, one with a layer of 64 MiB, from another registry";
        self.table("copy", title, rows);
    }

    fn verify(&mut self) {
        if !self.wanted("verify") {
            return;
        }
        let mut rows = vec![
            self.ours("quorate", |shop, _| shop.project.command(&["verify", &shop.release])),
            self.ours("quorate, from the pack", |shop, _| {
                shop.project.command(&["verify", &shop.release, "--evidence", "pack"])
            }),
        ];
        let cosign = self
            .peers
            .get(Peer::Cosign)
            .map(|program| self.each(|shop| shop.measure(&|_| shop.cosign(program))));
        rows.push(("cosign, once a vote".to_owned(), cosign));
        self.table("verify", "verify, 2 platforms × 2 votes, by digest", rows);
    }

    fn promote(&mut self) {
        if !self.wanted("promote") {
            return;
        }
        let tags = |run: usize| ["0", "1", "2"].map(|end| format!("{run}.0.{end}"));
        let mut rows = vec![self.ours("quorate", |shop, run| {
            shop.project.command(&["promote", &shop.release, "--tag", &tags(run).join(",")])
        })];
        let peers = [Peer::Crane, Peer::Regctl, Peer::Oras, Peer::Buildx, Peer::Skopeo];
        rows.extend(self.rows(&peers, &|shop, client, run| {
            client.tag(&shop.release, &tags(run).each_ref().map(String::as_str))
        }));
        self.table("promote", "3 absent tags on a release, 2 platforms × 2 votes", rows);
    }

    fn list(&mut self) {
        if !self.wanted("list") {
            return;
        }
        let mut rows = vec![
            self.ours("quorate", |shop, _| shop.without_policy(&["inspect", &shop.images[0]])),
            self.ours("quorate, each verified", |shop, _| {
                shop.project.command(&["inspect", &shop.images[0]])
            }),
        ];
        rows.extend(self.rows(&[Peer::Regctl, Peer::Oras], &|shop, client, _| {
            client.discover(&shop.images[0]).into_iter().collect()
        }));
        self.table("list", "list what is attached to one image: 2 votes", rows);
    }

    fn nothing(&mut self) {
        if !self.wanted("nothing") {
            return;
        }
        let rows = vec![self.ours("true", |_, _| Command::new("true"))];
        self.table("nothing", "what measuring costs", rows);
    }

    /// Writes the tables into the section of a page that is theirs, and the plots into the folder
    /// of its name.
    fn write(&self, text: &mut String, page: &Path) {
        const BEGIN: &str = "## As measured\n";
        let folder = page.with_extension("");
        fs::create_dir_all(&folder).unwrap();
        let folder_name = folder.file_name().unwrap().display().to_string();
        for table in &self.done {
            let _ = write!(text, "\n{}", table.markdown());
            if table.rows.len() > 1 {
                fs::write(folder.join(&table.name).with_extension("svg"), table.plot()).unwrap();
                let _ = writeln!(text, "\n![{}: times]({folder_name}/{}.svg)", table.title, table.name);
            }
        }
        let whole = fs::read_to_string(page).unwrap();
        let (before, rest) = whole.split_once(BEGIN).unwrap();
        let after = rest.find("\n## ").map_or("", |end| &rest[end..]);
        fs::write(page, format!("{before}{BEGIN}\n{text}{after}")).unwrap();
    }
}
