//! The log and the timestamp authority of the Sigstore project, as `.ci/run` builds them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
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
const ORIGIN: &str = "rekor.test";
/// Before anything that is signed here.
const START: &str = "start-time=2025-01-01T00:00:00Z";
/// An Ed25519 public key as `SubjectPublicKeyInfo` (RFC 8410), up to the key.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A Rekor v2 and a timestamp authority, with keys of their own, that end when this is dropped.
pub(crate) struct Services {
    folder: TempDir,
    rekor: SocketAddr,
    tsa: SocketAddr,
    _processes: [Process; 2],
    // Dropped last: the next ones start when these have ended.
    _turn: MutexGuard<'static, ()>,
}

/// The authority serves its metrics on port 2112 and no other: there can be one of it at a time.
static TURN: Mutex<()> = Mutex::new(());

impl Services {
    /// Starts both, and has cosign write down whom to trust and where to sign.
    pub(crate) fn start(rekor: &Path, tsa: &Path, cosign: &Path) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
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
        let (log, ()) = Process::start(&mut command, &file("rekor.txt"), |_| {
            let answer = client::get(&http.to_string(), "/healthz", None).ok()?;
            let health: Value = serde_json::from_slice(&answer.body).ok()?;
            (health["status"] == "SERVING").then_some(())
        });

        let stamps = free_address();
        let mut command = Command::new(tsa);
        command.args(["serve", "--host=127.0.0.1", "--timestamp-signer=memory", "--disable-ntp-monitoring"]);
        command.arg(format!("--port={}", stamps.port()));
        let (authority, chain) = Process::start(&mut command, &file("tsa.txt"), |_| {
            let answer = client::get(&stamps.to_string(), "/api/v1/timestamp/certchain", None).ok()?;
            (answer.status == 200).then_some(answer.body)
        });
        fs::write(file("tsa.pem"), chain).unwrap();

        let services = Self { folder, rekor: http, tsa: stamps, _processes: [log, authority], _turn: turn };
        services.configure(cosign);
        services
    }

    fn configure(&self, cosign: &Path) {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let (rekor, tsa) = (self.rekor_url(), self.tsa_url());
        let key = file("log.pub");
        let mut root = cosign_in(cosign, self.folder.path());
        root.args(["trusted-root", "create", "--rekor"]);
        root.arg(format!("url=http://{ORIGIN},public-key={key},{START},origin={ORIGIN}"));
        root.args(["--tsa", &format!("url={tsa},certificate-chain={}", file("tsa.pem"))]);
        succeed(root.arg("--out").arg(self.trusted_root()));
        let mut config = cosign_in(cosign, self.folder.path());
        config.args(["signing-config", "create", "--rekor-config=ANY", "--tsa-config=ANY"]);
        config.args(["--rekor", &format!("url={rekor},api-version=2,{START},operator=test")]);
        config.args(["--tsa", &format!("url={tsa},api-version=1,{START},operator=test")]);
        succeed(config.arg("--out").arg(self.signing_config()));
    }

    /// A project that signs with them.
    pub(crate) fn project(&self, registry: &Registry) -> Project {
        let mut project = Project::at(registry);
        project.environment.extend([
            ("QUORATE_TRUSTED_ROOT", self.trusted_root().into()),
            ("QUORATE_REKOR_URL", self.rekor_url().into()),
            ("QUORATE_TSA_URL", self.tsa_url().into()),
        ]);
        project
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
        self.folder.path().join("trusted_root.json")
    }

    /// Where they are, for cosign.
    pub(crate) fn signing_config(&self) -> PathBuf {
        self.folder.path().join("signing_config.json")
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
