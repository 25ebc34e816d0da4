//! The log and the timestamp authority of the Sigstore project, as `.ci/run` builds them.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quorate_bed::client;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, free_address};
use crate::project::{Project, succeed};
use crate::registries::Registry;

/// The name in the log's checkpoints, which need not be where it is reached.
pub(crate) const ORIGIN: &str = "rekor.test";
/// Before anything that is signed here.
pub(crate) const START: &str = "start-time=2025-01-01T00:00:00Z";
/// An Ed25519 public key as `SubjectPublicKeyInfo` (RFC 8410), up to the key.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A Rekor v2 and a timestamp authority, with keys of their own, that end when this is dropped.
pub(crate) struct Services {
    folder: TempDir,
    rekor: SocketAddr,
    tsa: SocketAddr,
    /// When they began to start.
    pub(crate) began: Instant,
    command: Command,
    /// The log, while it runs.
    log: Option<Process>,
    _authority: Process,
    // Dropped last: the next ones start when these have ended.
    _turn: fs::File,
}

impl Services {
    /// Starts both, and has cosign write down whom to trust and where to sign.
    pub(crate) fn start(rekor: &Path, tsa: &Path, cosign: &Path) -> Self {
        // The authority serves its metrics on port 2112 of every interface and no other, and ends
        // where that is taken: there can be one of it on a machine at a time.
        let turn = fs::File::create(env::temp_dir().join("quorate-port-2112.lock")).unwrap();
        turn.lock().unwrap();
        let began = Instant::now();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let key = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let public = Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
        fs::write(file("log.key"), pem("PRIVATE KEY", key.as_ref())).unwrap();
        let public = [&SPKI[..], public.public_key().as_ref()].concat();
        fs::write(file("log.pub"), pem("PUBLIC KEY", &public)).unwrap();

        let [http, grpc, metrics] = [(); 3].map(|()| free_address());
        let mut command = Command::new(rekor);
        command.args(["serve", "--hostname", ORIGIN]);
        for (flag, address) in [("http-port", http), ("grpc-port", grpc), ("http-metrics-port", metrics)] {
            command.arg(format!("--{flag}={}", address.port()));
        }
        command.arg("--storage-dir").arg(file("log")).arg("--signer-filepath").arg(file("log.key"));
        // The shortest that there is; ten seconds by default.
        command.args(["--checkpoint-interval=100ms", "--batch-max-age=50ms"]);

        let stamps = free_address();
        let mut authority = Command::new(tsa);
        authority.args([
            "serve",
            "--host=127.0.0.1",
            "--timestamp-signer=memory",
            "--disable-ntp-monitoring",
        ]);
        authority.arg(format!("--port={}", stamps.port()));
        let (authority, chain) = Process::start(&mut authority, &file("tsa.txt"), |_| {
            let answer = client::get(&stamps.to_string(), "/api/v1/timestamp/certchain", None).ok()?;
            (answer.status == 200).then_some(answer.body)
        });
        fs::write(file("tsa.pem"), chain).unwrap();

        let mut services = Self {
            folder,
            rekor: http,
            tsa: stamps,
            began,
            command,
            log: None,
            _authority: authority,
            _turn: turn,
        };
        services.start_log();
        services.configure(cosign, &[], &[]);
        services
    }

    /// Starts the log, or starts it again with what it holds.
    pub(crate) fn start_log(&mut self) {
        let said = self.path("rekor.txt");
        let (log, ()) = Process::start(&mut self.command, &said, |_| {
            let answer = client::get(&self.rekor.to_string(), "/healthz", None).ok()?;
            let health: Value = serde_json::from_slice(&answer.body).ok()?;
            (health["status"] == "SERVING").then_some(())
        });
        self.log = Some(log);
    }

    /// Starts the log anew, with what it holds, so that it asks the witnesses of this policy.
    pub(crate) fn ask(&mut self, policy: &str) {
        self.stop_log();
        let file = self.path("witnesses.txt");
        if !file.exists() {
            self.command.arg("--witness-policy-path").arg(&file);
        }
        fs::write(file, policy).unwrap();
        self.start_log();
    }

    /// Kills the log.
    pub(crate) fn stop_log(&mut self) {
        self.log = None;
    }

    /// The log, while it runs.
    pub(crate) fn log(&self) -> &Process {
        self.log.as_ref().unwrap()
    }

    /// Has cosign write the trusted root and the signing configuration, with `trusted` and `named`
    /// in them besides the log and the authority.
    pub(crate) fn configure(&self, cosign: &Path, trusted: &[String], named: &[String]) {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let (rekor, tsa) = (self.rekor_url(), self.tsa_url());
        let key = file("log.pub");
        let mut root = cosign_in(cosign, self.folder.path());
        root.args(["trusted-root", "create", "--rekor"]);
        root.arg(format!("url=http://{ORIGIN},public-key={key},{START},origin={ORIGIN}"));
        root.args(["--tsa", &format!("url={tsa},certificate-chain={}", file("tsa.pem"))]);
        succeed(root.args(trusted).arg("--out").arg(self.trusted_root()));
        let mut config = cosign_in(cosign, self.folder.path());
        config.args(["signing-config", "create", "--rekor-config=ANY", "--tsa-config=ANY"]);
        config.args(["--rekor", &format!("url={rekor},api-version=2,{START},operator=test")]);
        config.args(["--tsa", &format!("url={tsa},api-version=1,{START},operator=test")]);
        succeed(config.args(named).arg("--out").arg(self.signing_config()));
    }

    /// A project that signs with them.
    pub(crate) fn project(&self, registry: &Registry) -> Project {
        let mut project = Project::at(registry);
        project.environment.extend(self.environment());
        project
    }

    /// What `quorate` must be told to sign with them.
    pub(crate) fn environment(&self) -> [(&'static str, OsString); 3] {
        [
            ("QUORATE_TRUSTED_ROOT", self.trusted_root().into()),
            ("QUORATE_REKOR_URL", self.rekor_url().into()),
            ("QUORATE_TSA_URL", self.tsa_url().into()),
        ]
    }

    /// The log's verifier key (C2SP `signed-note`), of what the trusted root says of it.
    pub(crate) fn log_key(&self) -> String {
        let root: Value = serde_json::from_slice(&fs::read(self.trusted_root()).unwrap()).unwrap();
        let bytes = |pointer: &str| {
            STANDARD.decode(root["tlogs"][0].pointer(pointer).unwrap().as_str().unwrap()).unwrap()
        };
        let (id, key) = (bytes("/logId/keyId"), bytes("/publicKey/rawBytes"));
        let id = u32::from_be_bytes(id[..4].try_into().unwrap());
        // 1 is Ed25519.
        format!("{ORIGIN}+{id:08x}+{}", STANDARD.encode([&[1], &key[SPKI.len()..]].concat()))
    }

    /// A file of theirs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the log listens.
    pub(crate) fn rekor(&self) -> SocketAddr {
        self.rekor
    }

    /// The base URL of the log.
    fn rekor_url(&self) -> String {
        format!("http://{}", self.rekor)
    }

    /// Where the authority takes requests.
    fn tsa_url(&self) -> String {
        format!("http://{}/api/v1/timestamp", self.tsa)
    }

    /// The trusted root for both.
    pub(crate) fn trusted_root(&self) -> PathBuf {
        self.path("trusted_root.json")
    }

    /// Where they are, for cosign.
    pub(crate) fn signing_config(&self) -> PathBuf {
        self.path("signing_config.json")
    }
}

/// cosign without any setting of this machine: what it keeps is in `home`.
pub(crate) fn cosign_in(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    let foreign =
        |name: &str| ["COSIGN_", "SIGSTORE_", "TUF_", "REKOR_"].iter().any(|of| name.starts_with(of));
    for (name, _) in env::vars_os().filter(|(name, _)| foreign(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command.env("HOME", home).env("DOCKER_CONFIG", home).env("COSIGN_PASSWORD", "").current_dir(home);
    command
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}
