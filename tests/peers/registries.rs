//! Registries that nobody here wrote, each in a process of its own.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quorate_bed::{Authority, TokenOptions, TokenService};
use serde_json::json;
use tempfile::TempDir;

use crate::process::{Process, free_address};
use crate::project::{OWNER, succeed};
use crate::proxy;

/// The name of the registry that has one.
const NAME: &str = "registry.example";
/// The name of every machine for itself.
const LOOPBACK: &str = "localhost";
const USER: &str = OWNER;
const PASSWORD: &str = "secret";
/// The password as `htpasswd -B` writes it.
const HASHED: &str = "$2y$05$hIiYYRJt2SkUmIJv/lOVJevbiJj3b2QkaE7AnWDQFh5xt2MdUFw66";

/// A running registry, empty at first, that ends when this is dropped.
pub(crate) struct Registry {
    host: String,
    folder: TempDir,
    /// Whether it has the referrers API.
    pub(crate) referrers: bool,
    /// The proxy that it is reached through by its name, over TLS.
    pub(crate) proxy: Option<String>,
    /// Whether it asks who is there.
    pub(crate) guarded: bool,
    _process: Process,
}

/// Who may do what with a registry.
pub(crate) enum Access<'a> {
    /// Anyone, over plain http.
    Open,
    /// Anyone, over TLS, on loopback.
    Tls,
    /// One user with a password, over TLS, by a name that only a proxy knows.
    TlsPassword,
    /// Who has a token, over plain http.
    Token(&'a TokenService),
}

impl Registry {
    /// The registry of the distribution project, 2.8 or 3, which has no referrers API.
    pub(crate) fn distribution(program: &Path, access: &Access) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let mut config = "version: 0.1\n\
                          log: {level: info, accesslog: {disabled: true}}\n\
                          storage: {inmemory: {}, delete: {enabled: true}}\n\
                          http:\n  addr: 127.0.0.1:0\n  secret: none\n"
            .to_owned();
        match access {
            Access::Open => {}
            Access::Tls | Access::TlsPassword => {
                let name = if matches!(access, Access::Tls) { LOOPBACK } else { NAME };
                let authority = Authority::generate(name);
                file("trusted/ca.crt", &authority.root());
                let certificate = file("server.crt", &authority.certificate());
                let key = file("server.key", &authority.key());
                let _ = writeln!(config, "  tls: {{certificate: {certificate}, key: {key}}}");
            }
            Access::Token(service) => {
                let (realm, name) = (service.url(), TokenService::NAME);
                let bundle = file("tokens.crt", &service.root());
                let _ = write!(
                    config,
                    "auth:\n  token: {{realm: \"{realm}\", service: {name}, issuer: {name}, \
                     rootcertbundle: {bundle}}}\n"
                );
            }
        }
        if matches!(access, Access::TlsPassword) {
            let users = file("htpasswd", &format!("{USER}:{HASHED}"));
            let _ = writeln!(config, "auth: {{htpasswd: {{realm: test, path: {users}}}}}");
        }
        let config = file("config.yml", &config);
        let mut command = Command::new(program);
        command.args(["serve", &config]).env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        let mut registry = Self::run(folder, &mut command, |log| {
            let address = log.split_once("listening on ")?.1.split_once('"')?.0;
            Some(address.trim_end_matches(", tls").to_owned())
        });
        registry.referrers = false;
        registry.guarded = !matches!(access, Access::Open | Access::Tls);
        if matches!(access, Access::Tls) {
            registry.host = registry.host.replace("127.0.0.1", LOOPBACK);
        }
        if matches!(access, Access::TlsPassword) {
            let address = std::mem::replace(&mut registry.host, NAME.to_owned());
            registry.proxy = Some(format!("http://{}", proxy::to(address.parse().unwrap())));
        }
        registry
    }

    /// olareg, which has the referrers API.
    pub(crate) fn olareg(program: &Path) -> Self {
        // It does not say which port it was given.
        let address = free_address();
        let mut command = Command::new(program);
        command.args(["serve", "--store-type", "mem", "--api-delete", "--addr", "127.0.0.1", "--port"]);
        command.arg(address.port().to_string());
        Self::run(tempfile::tempdir().unwrap(), &mut command, |_| {
            TcpStream::connect(address).ok().map(|_| address.to_string())
        })
    }

    /// That of Gitea, which has no referrers API. Only its one user may write to it.
    pub(crate) fn gitea(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let settings = format!(
            "RUN_MODE = prod\n\
             I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true\n\
             [server]\nHTTP_ADDR = 127.0.0.1\nHTTP_PORT = {}\nROOT_URL = http://{address}/\n\
             OFFLINE_MODE = true\nDISABLE_SSH = true\n\
             [database]\nDB_TYPE = sqlite3\n\
             [security]\nINSTALL_LOCK = true\n\
             [indexer]\nISSUE_INDEXER_TYPE = db\n\
             [cron]\nENABLED = false\n",
            address.port()
        );
        fs::write(folder.path().join("app.ini"), settings).unwrap();
        let gitea = |arguments: &[&str]| {
            let mut command = Command::new(program);
            command.env("HOME", folder.path()).arg("--work-path").arg(folder.path());
            command.arg("--config").arg(folder.path().join("app.ini")).args(arguments);
            command
        };
        succeed(&mut gitea(&["migrate"]));
        let user = ["admin", "user", "create", "--username", USER, "--password", PASSWORD];
        let more = ["--email", "ci@registry.example", "--must-change-password=false"];
        succeed(&mut gitea(&[&user[..], &more].concat()));
        let mut command = gitea(&["web"]);
        let mut registry = Self::run(folder, &mut command, |_| {
            TcpStream::connect(address).ok().map(|_| address.to_string())
        });
        registry.referrers = false;
        registry.guarded = true;
        registry
    }

    /// Starts the program and waits until its address can be told, from its log or otherwise.
    fn run(folder: TempDir, command: &mut Command, host: impl Fn(&str) -> Option<String>) -> Self {
        let (process, host) = Process::start(command, &folder.path().join("log"), host);
        Self { host, folder, referrers: true, proxy: None, guarded: false, _process: process }
    }

    /// Where it is reached: `127.0.0.1:PORT`, or a name.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// What `docker login` writes, for a registry that asks for it.
    pub(crate) fn login(&self) -> String {
        self.login_with(PASSWORD)
    }

    /// The same with another password.
    pub(crate) fn login_with(&self, password: &str) -> String {
        let auth = json!({"auth": STANDARD.encode(format!("{USER}:{password}"))});
        json!({"auths": if self.guarded { json!({&self.host: auth}) } else { json!({}) }}).to_string()
    }

    /// The `Authorization` value of the user, for a registry that asks for one.
    pub(crate) fn authorization(&self) -> Option<String> {
        self.guarded.then(|| format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}"))))
    }

    /// The folder of the certificate to trust, `ca.crt`, where there is one.
    pub(crate) fn trusted(&self) -> Option<PathBuf> {
        Some(self.folder.path().join("trusted")).filter(|folder| folder.exists())
    }
}

/// A token service for the one user. Tokens are good for `lifetime`, and said to be good for
/// `claimed`, in whole seconds.
pub(crate) fn tokens(lifetime: u64, claimed: u64) -> TokenService {
    let [lifetime, claimed_lifetime] = [lifetime, claimed].map(Duration::from_secs);
    let (user, password) = (USER.to_owned(), PASSWORD.to_owned());
    TokenService::start(TokenOptions { user, password, lifetime, claimed_lifetime })
}
