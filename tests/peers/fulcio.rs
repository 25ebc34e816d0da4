//! The services of the Sigstore project for signers without a key: Fulcio, a certificate
//! transparency log behind it, Rekor, a timestamp authority. The issuer of the tokens is ours.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate_bed::issuer::github_job;
use quorate_bed::{Issuer, client, fulcio_authority};
use serde_json::Value;

use crate::peers::Peer;
use crate::process::{Process, free_address};
use crate::project::{ARCHITECTURES, Build, COMMIT, Project, SEQUENCE};
use crate::registries::Registry;
use crate::services::{START, Services};

/// What [`Keyless::start`] needs, in its order.
pub(crate) const SERVICES: [Peer; 5] =
    [Peer::Fulcio, Peer::CtLog, Peer::RekorServer, Peer::TimestampServer, Peer::Cosign];
/// The source and the ref that the builders build.
const SOURCE: &str = "git+https://github.com/acme/app";
const MAIN: &str = "refs/heads/main";
/// Builders, their operators, the repositories of their workflows, and what says which commit was
/// built: two of them build what others wrote.
const JOBS: [(&str, &str, &str, &str); 3] = [
    ("github", "GitHub", "acme/app", "source"),
    ("garnix", "Garnix", "rebuilders/acme", "workflow"),
    ("basement", "Acme", "basement/acme", "workflow"),
];
/// What Fulcio makes of the claims of GitHub, from its own configuration (`config/identity`).
const CLAIMS: &str = include_str!("fulcio.yaml");

/// All of them, until this is dropped.
pub(crate) struct Keyless {
    /// Rekor and the timestamp authority.
    pub(crate) services: Services,
    /// Who gives the jobs their tokens.
    pub(crate) issuer: Issuer,
    fulcio: SocketAddr,
    _authority: Process,
    /// The log of certificates, while it runs.
    log: Option<Process>,
}

impl Keyless {
    /// Starts all, and has cosign write down whom to trust and where to sign.
    pub(crate) fn start([fulcio, ct_log, rekor, tsa, cosign]: [&Path; 5]) -> Self {
        let services = Services::start(rekor, tsa, cosign);
        let issuer = Issuer::local();
        let file = |name: &str| services.path(name);
        fs::write(file("fulcio.yaml"), CLAIMS.replace("ISSUER", issuer.name())).unwrap();
        let [certificate, root, key] = fulcio_authority("fulcio.test");
        fs::write(file("fulcio.pem"), certificate + &root).unwrap();
        fs::write(file("root.pem"), root).unwrap();
        fs::write(file("fulcio.key"), key).unwrap();
        let [http, grpc, log] = [(); 3].map(|()| free_address());

        let mut command = Command::new(ct_log);
        command.arg(log.to_string()).arg(file("root.pem")).arg(file("ct.pub"));
        let (certificates, ()) = Process::start(&mut command, &file("ct.txt"), |_| {
            let answer = client::get(&log.to_string(), "/test/ct/v1/get-sth", None).ok()?;
            (answer.status == 200).then_some(())
        });

        let mut command = Command::new(fulcio);
        command.args(["serve", "--host=127.0.0.1", "--grpc-host=127.0.0.1", "--ca=fileca"]);
        command.arg(format!("--port={}", http.port())).arg(format!("--grpc-port={}", grpc.port()));
        command.arg("--fileca-cert").arg(file("fulcio.pem")).arg("--fileca-key").arg(file("fulcio.key"));
        // It wants a password, and takes a key without one.
        command.args(["--fileca-key-passwd=none", "--fileca-watch=false"]);
        // Metrics are for every interface, and the socket has one name for all on the machine.
        command.args(["--metrics-port=0", "--legacy-unix-domain-socket"]).arg(file("fulcio.socket"));
        command.arg(format!("--ct-log-url=http://{log}/test"));
        command.arg("--config-path").arg(file("fulcio.yaml"));
        let (authority, ()) = Process::start(&mut command, &file("fulcio.txt"), |_| {
            let answer = client::get(&http.to_string(), "/healthz", None).ok()?;
            (answer.status == 200).then_some(())
        });
        let keyless = Self { services, issuer, fulcio: http, _authority: authority, log: Some(certificates) };
        keyless.configure(cosign, log);
        eprintln!(
            "fulcio, ct-log, rekor, timestamp-authority: up in {:.1?}",
            keyless.services.began.elapsed()
        );
        keyless
    }

    fn configure(&self, cosign: &Path, log: SocketAddr) {
        let file = |name: &str| self.services.path(name).display().to_string();
        let fulcio = self.fulcio_url();
        let trusted = [
            "--fulcio".to_owned(),
            format!("url={fulcio},certificate-chain={}", file("fulcio.pem")),
            "--ctfe".to_owned(),
            format!("url=http://{log}/test,public-key={},{START}", file("ct.pub")),
        ];
        let named = [
            "--fulcio".to_owned(),
            format!("url={fulcio},api-version=1,{START},operator=test"),
            "--oidc-provider".to_owned(),
            format!("url={},api-version=1,{START},operator=test", self.issuer.url()),
        ];
        self.services.configure(cosign, &trusted, &named);
    }

    /// Kills the log of certificates. It cannot come back: its key was its own.
    pub(crate) fn stop_certificate_log(&mut self) {
        self.log = None;
    }

    /// Where Fulcio listens.
    pub(crate) fn fulcio(&self) -> SocketAddr {
        self.fulcio
    }

    /// The base URL of Fulcio.
    fn fulcio_url(&self) -> String {
        format!("http://{}", self.fulcio)
    }

    /// A project whose builders are workflows.
    pub(crate) fn project(&self, registry: &Registry) -> Project {
        self.settle(Project::at(registry))
    }

    /// Makes the builders of a project workflows, which sign with these services.
    pub(crate) fn settle(&self, mut project: Project) -> Project {
        project.environment.extend(self.services.environment());
        project.environment.push(("QUORATE_FULCIO_URL", self.fulcio_url().into()));
        let policy = policy(&project, san, self.issuer.name());
        fs::write(project.path("quorate.toml"), policy).unwrap();
        project
    }

    /// A new token of a builder's job, in a file.
    pub(crate) fn token(&self, project: &Project, builder: &str) -> PathBuf {
        let file = project.path(&format!("{builder}.token"));
        fs::write(&file, self.issuer.token(&job(builder))).unwrap();
        file
    }

    /// The command by which a builder attests what it built for one system.
    pub(crate) fn attesting(
        &self,
        project: &Project,
        image: &str,
        builder: &str,
        system: &str,
        built: &Build,
    ) -> Command {
        let mut command = project.command(&["attest", image, "--builder", builder, "-o", "json"]);
        command.args(said_of(built, system)).arg("--result").arg(&built.result);
        command.arg("--identity-token").arg(self.token(project, builder));
        command
    }
}

/// The policy of a project, with builders that these names and this issuer make.
pub(crate) fn policy(project: &Project, san: impl Fn(&str) -> String, issuer: &str) -> String {
    let policy = fs::read_to_string(project.path("quorate.toml")).unwrap();
    let mut policy = policy.split("\n[[builder]]").next().unwrap().to_owned();
    for (builder, operator, _, claims) in JOBS {
        let san = san(builder);
        let _ = write!(
            policy,
            "\n[[builder]]\nname = \"{builder}\"\noperator = \"{operator}\"\nissuer = \"{issuer}\"\n\
             san = \"{san}\"\nclaims = \"{claims}\"\n"
        );
    }
    policy
}

/// What a builder says of a build, but for the result.
pub(crate) fn said_of<'a>(built: &'a Build, system: &'a str) -> [&'a str; 13] {
    let config = &built.image.config_digest;
    #[rustfmt::skip]
    let said = [
        "--no-infer", "--system", system, "--commit", COMMIT, "--sequence", SEQUENCE,
        "--config-digest", config, "--source-uri", SOURCE, "--ref", MAIN,
    ];
    said
}

/// The name in a builder's certificates.
pub(crate) fn san(builder: &str) -> String {
    format!("https://github.com/{}/.github/workflows/build.yml@{MAIN}", repository(builder))
}

/// The claims of a builder's job.
pub(crate) fn job(builder: &str) -> Value {
    github_job(repository(builder), "build.yml", MAIN, COMMIT)
}

fn repository(builder: &str) -> &'static str {
    JOBS.iter().find(|(name, ..)| *name == builder).unwrap().2
}

/// The builders.
pub(crate) fn builders() -> [&'static str; 3] {
    JOBS.map(|(builder, ..)| builder)
}

/// Every system with each builder.
pub(crate) fn everyone() -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    let systems = ARCHITECTURES.iter().enumerate();
    systems.flat_map(|(at, (_, system))| builders().map(|builder| (at, *system, builder)))
}
