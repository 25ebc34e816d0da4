//! What the clients work on: a registry with images, a release and its votes, and what a run costs.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quorate_bed::image::{Image, minimal_elf};
use quorate_bed::{Auth, Registry, RegistryOptions, depth};

use crate::clients::Client;
use crate::peers::Peer;
use crate::project::{ARCHITECTURES, Build, Project, REPOSITORY, said};
use crate::services::cosign_in;
use crate::{BUILDERS, proxy};

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
/// How the names of registries end that are reached over TLS.
const DOMAIN: &str = ".registry.example";
/// Bytes of the large layer of a release that is copied.
const LARGE: usize = 64 << 20;
/// The predicate type of votes.
const BUILD: &str = "https://quorate.dev/predicates/build/v1";

/// How the registry is reached.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    /// How much later every answer comes, in milliseconds.
    pub(crate) latency: u64,
    /// TLS and HTTP/2, or else plain http.
    pub(crate) tls: bool,
    /// How many runs the figures are taken from.
    pub(crate) runs: usize,
}

/// A registry with an image of each platform, and a release of two of them that has its votes.
pub(crate) struct Shop {
    setting: Setting,
    options: RegistryOptions,
    registry: Registry,
    pub(crate) project: Project,
    /// The release, by digest.
    pub(crate) release: String,
    /// Its images, by digest.
    pub(crate) images: Vec<String>,
    /// A release with a large layer.
    pub(crate) large: String,
}

impl Shop {
    /// With TLS, through a proxy that leads `r1234.registry.example` to port 1234 of this machine.
    pub(crate) fn open(setting: Setting) -> Self {
        let options = RegistryOptions {
            latency: Duration::from_millis(setting.latency),
            auth: Auth::Bearer {
                user: "ci".to_owned(),
                password: "secret".to_owned(),
                lifetime: Duration::from_secs(300),
                anonymous_pull: false,
            },
            ..RegistryOptions::default()
        };
        let registry = Registry::start(options.clone());
        let (host, authority) = reached(&registry, setting);
        let mut project = Project::new(&host);
        fs::write(project.path("ca.pem"), authority).unwrap();
        if setting.tls {
            let port = |name: &str| name.strip_prefix('r')?.strip_suffix(DOMAIN)?.parse().ok();
            let proxy =
                proxy::by_name(move |name| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port(name)?))));
            project.environment.push(("SSL_CERT_FILE", project.path("ca.pem").into()));
            project.environment.push(("HTTPS_PROXY", OsString::from(format!("http://{proxy}"))));
        }
        let (release, images, large) = Default::default();
        let mut shop = Self { setting, options, registry, project, release, images, large };
        shop.login(&[&host]);
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

    /// How many runs the figures are taken from.
    pub(crate) fn runs(&self) -> usize {
        self.setting.runs
    }

    /// Logs in to these registries.
    fn login(&self, hosts: &[&str]) {
        // "ci:secret" in base64.
        let logins: Vec<_> =
            hosts.iter().map(|host| format!(r#""{host}":{{"auth":"Y2k6c2VjcmV0"}}"#)).collect();
        fs::write(self.project.login(), format!(r#"{{"auths":{{{}}}}}"#, logins.join(","))).unwrap();
    }

    /// Pushes an image under the tag of a platform.
    fn push(&self, image: &Image, end: &str) {
        let authorization = self.registry.authorization();
        image
            .push_as(authorization.as_deref(), &self.registry.host(), REPOSITORY, &format!("git-1-{end}"))
            .unwrap();
    }

    /// Assembles and attests the release, and attaches its pack.
    fn release(&mut self) {
        let builds = ARCHITECTURES.map(|(architecture, system)| {
            (architecture, system, Build::new(&self.project.path(""), architecture, "hello"))
        });
        for (architecture, _, build) in &builds {
            self.push(&build.image, architecture);
        }
        let sources: Vec<_> = self.sources(builds.len()).map(|(_, source)| source).collect();
        let report = self.project.json(0, &["assemble", &self.project.image(), &sources[0], &sources[1]]);
        let digest = report["image"]["digest"].as_str().unwrap();
        self.release = format!("{}@{digest}", self.project.image());
        for (_, system, build) in &builds {
            self.images.push(format!("{}@{}", self.project.image(), build.image.manifest_digest));
            for builder in BUILDERS {
                self.project.attest(0, &self.release, builder, system, build, &[]);
            }
        }
        self.project.run(0, &["pack", &self.release, "--attach"]);
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

    /// A peer that is logged in.
    pub(crate) fn client(&self, peer: Peer, program: &Path) -> Client {
        let client = Client::new(peer, program, &self.project.path(""));
        if self.setting.tls { client.over_tls() } else { client }
    }

    /// quorate for images that no policy speaks of, or that are not to be judged.
    pub(crate) fn without_policy(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(arguments);
        command.env_remove("QUORATE_POLICY").env_remove("QUORATE_TRUSTED_ROOT");
        command
    }

    /// `cosign verify-attestation` for each vote of the release.
    pub(crate) fn cosign(&self, program: &Path) -> Vec<Command> {
        let each = self.images.iter().flat_map(|image| BUILDERS.map(|builder| (image, builder)));
        each.map(|(image, builder)| {
            let mut command = cosign_in(program, &self.project.path(""));
            command.args(["verify-attestation", "--type", BUILD, "--trusted-root", "trusted_root.json"]);
            command.args(["--key", &format!("{builder}.key.pub")]);
            command.args((!self.setting.tls).then_some("--allow-http-registry")).arg(image);
            command
        })
        .collect()
    }

    /// Platform and reference of the first images.
    pub(crate) fn sources(&self, count: usize) -> impl Iterator<Item = (&'static str, String)> {
        let image = self.project.image();
        PLATFORMS.iter().take(count).map(move |(platform, end)| (*platform, format!("{image}:git-1-{end}")))
    }

    /// Runs the commands for the number of a run that was never made before, several times.
    pub(crate) fn measure(&self, commands: &dyn Fn(usize) -> Vec<Command>) -> Figures {
        let one = |_| {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            self.once(&[&self.registry], &commands(COUNT.fetch_add(1, Ordering::Relaxed)))
        };
        Figures::typical((0..self.setting.runs).map(one).collect())
    }

    /// Runs the commands for a reference in a registry that is empty, several times.
    pub(crate) fn bring(&self, commands: &dyn Fn(&str) -> Vec<Command>) -> Figures {
        let ours = fs::read_to_string(self.project.path("ca.pem")).unwrap();
        let one = |_| {
            let there = Registry::start(self.options.clone());
            let (host, authority) = reached(&there, self.setting);
            fs::write(self.project.path("ca.pem"), format!("{ours}{authority}")).unwrap();
            let here = self.project.image();
            self.login(&[here.split('/').next().unwrap(), &host]);
            let figures =
                self.once(&[&self.registry, &there], &commands(&format!("{host}/{REPOSITORY}:large")));
            assert!(there.writes().iter().any(|r| r.path.ends_with("/manifests/large")));
            figures
        };
        let figures = Figures::typical((0..self.setting.runs).map(one).collect());
        fs::write(self.project.path("ca.pem"), ours).unwrap();
        figures
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
            figures.add(self.run(command));
        }
        let log: Vec<_> = registries.iter().flat_map(|registry| registry.log()).collect();
        figures.requests = log.len();
        figures.depth = depth(&log);
        figures.connections = connections() - before;
        figures
    }

    /// Runs a command; its wall and processor time in milliseconds, and its peak memory in KiB.
    fn run(&self, command: &Command) -> (u64, u64, u64) {
        // bash counts milliseconds, GNU time hundredths of a second, but only the latter knows memory.
        const SCRIPT: &str = r#"TIMEFORMAT='%R %U %S'; time /usr/bin/time -f %M -o "$0" "$@""#;
        let memory = self.project.path("memory");
        let mut measured = Command::new("bash");
        measured.args(["-c", SCRIPT]).arg(&memory).arg(command.get_program()).args(command.get_args());
        measured.envs(self.project.environment.iter().map(|(name, value)| (name, value)));
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
}

/// Where a registry is reached, and the certificate (PEM) to trust there.
fn reached(registry: &Registry, setting: Setting) -> (String, String) {
    if !setting.tls {
        return (registry.host(), String::new());
    }
    // The certificate names the host, whose name tells the port, which is known only afterwards.
    let (address, authority) = registry.listen_tls(&format!("*{DOMAIN}"), true);
    (format!("r{}{DOMAIN}", address.port()), authority)
}

/// What a run cost: milliseconds, kibibytes, counts.
#[derive(Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) wall: u64,
    pub(crate) cpu: u64,
    pub(crate) memory: u64,
    pub(crate) requests: usize,
    pub(crate) depth: usize,
    pub(crate) connections: usize,
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
