//! Where user names, passwords and tokens come from.
//!
//! Files of docker and podman are read when a registry first asks, not before: a run against a
//! public registry starts no credential helper.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;

use crate::oci::Repository;

use super::secret::Secret;

/// A configuration file of more bytes than this is not read.
const MAX_FILE: u64 = 1024 * 1024;

/// Who we are to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// Nobody.
    Anonymous,
    /// A user with a password.
    Password { user: String, password: Secret },
    /// An identity (refresh) token, good for the token service only.
    Identity(Secret),
}

/// What a search for credentials found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Names the entry, so that two repositories with one login are known to share it.
    pub(super) key: String,
    pub(super) login: Login,
    /// Why an entry that exists could not be used; no secret in it.
    pub(super) problem: Option<String>,
}

/// The credentials a run may use.
///
/// In order: logins given for a host, the files one after the other, then the fallback for a
/// host. In a file the longest key that is a prefix of the repository wins
/// (`host/team/app`, `host/team`, `host`; containers-auth.json(5)).
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    given: BTreeMap<String, Login>,
    files: Vec<PathBuf>,
    fallback: BTreeMap<String, Login>,
}

impl Credentials {
    /// No credentials: everything is asked anonymously.
    pub fn none() -> Self {
        Self::default()
    }

    /// What docker, podman and GitHub Actions leave in the environment: `REGISTRY_AUTH_FILE` or
    /// else docker's `config.json` and podman's `auth.json`; `GITHUB_TOKEN` with `GITHUB_ACTOR`
    /// for ghcr.io, where the files have nothing.
    pub fn from_environment() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path("HOME");
        let mut credentials = Self::default();
        if let Some(file) = path("REGISTRY_AUTH_FILE") {
            credentials.files.push(file);
        } else {
            let docker = path("DOCKER_CONFIG").or_else(|| home.as_ref().map(|h| h.join(".docker")));
            let podman = [
                path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
                path("XDG_CONFIG_HOME")
                    .or_else(|| home.map(|h| h.join(".config")))
                    .map(|dir| dir.join("containers/auth.json")),
            ];
            credentials.files.extend(docker.map(|dir| dir.join("config.json")));
            credentials.files.extend(podman.into_iter().flatten());
        }
        if let Ok(token) = std::env::var("GITHUB_TOKEN")
            && !token.is_empty()
        {
            // GitHub looks at the token alone, but wants some user name beside it.
            let actor = std::env::var("GITHUB_ACTOR").unwrap_or_default();
            let actor = if actor.is_empty() { "token" } else { &actor };
            credentials = credentials.with_fallback("ghcr.io", actor, Secret::new(token));
        }
        credentials
    }

    /// Adds a docker or podman configuration file, after those already there.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// A user and password for `host` (as in references) that go before every file.
    #[must_use]
    pub fn with_login(mut self, host: &str, user: &str, password: Secret) -> Self {
        self.given.insert(host.to_owned(), Login::Password { user: user.to_owned(), password });
        self
    }

    /// A user and password for `host` where nothing else is known.
    #[must_use]
    pub fn with_fallback(mut self, host: &str, user: &str, password: Secret) -> Self {
        self.fallback.insert(host.to_owned(), Login::Password { user: user.to_owned(), password });
        self
    }

    /// Searches. Blocks: it reads files and may start a credential helper.
    pub(super) fn find(&self, repository: &Repository) -> Found {
        let host = repository.host();
        if let Some(login) = self.given.get(host) {
            return Found { key: format!("given {host}"), login: login.clone(), problem: None };
        }
        let mut problem = None;
        for file in &self.files {
            match from_file(file, repository) {
                Ok(Some((key, login))) => {
                    return Found { key: format!("{} {key}", file.display()), login, problem: None };
                }
                Ok(None) => {}
                Err(why) => problem = Some(format!("{}: {why}", file.display())),
            }
        }
        Found {
            key: format!("fallback {host}"),
            login: self.fallback.get(host).cloned().unwrap_or(Login::Anonymous),
            problem,
        }
    }
}

/// The keys of a configuration; `docker_credential` reads the rest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default)]
    auths: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    creds_store: Option<String>,
}

fn from_file(path: &Path, repository: &Repository) -> Result<Option<(String, Login)>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err("it is larger than 1 MiB".to_owned());
    }
    // The parser's words would repeat what stands in the file.
    let keys: Keys =
        serde_json::from_slice(&bytes).map_err(|_| "it is not a configuration file".to_owned())?;
    let Some(key) = best_key(&keys, repository) else {
        return Ok(None);
    };
    match docker_credential::get_credential_from_reader(bytes.as_slice(), &key) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Some((key, Login::Password { user, password: Secret::new(password) })))
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok((!token.is_empty()).then(|| (key, Login::Identity(Secret::new(token)))))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // The words every helper of docker-credential-helpers uses for "none stored".
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("credentials not found") =>
        {
            Ok(None)
        }
        // What a helper printed may hold a secret, and is not repeated.
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => {
            Err(format!("the credential helper {helper} failed"))
        }
        Err(CredentialRetrievalError::HelperCommunicationError) => {
            Err("its credential helper could not be started".to_owned())
        }
        Err(CredentialRetrievalError::MalformedHelperResponse) => {
            Err("its credential helper gave a malformed answer".to_owned())
        }
        Err(_) => Err(format!("the entry `{key}` cannot be read")),
    }
}

/// The key as written under which the file may have credentials for `repository`.
fn best_key(keys: &Keys, repository: &Repository) -> Option<String> {
    let full = repository.to_string();
    let mut candidate = full.as_str();
    loop {
        let helper = keys.cred_helpers.iter().flat_map(BTreeMap::keys);
        let auths = keys.auths.iter().flat_map(BTreeMap::keys);
        if let Some(key) = helper.chain(auths).find(|key| plain(key) == candidate) {
            return Some(key.clone());
        }
        match candidate.rsplit_once('/') {
            Some((shorter, _)) => candidate = shorter,
            None => break,
        }
    }
    keys.creds_store.as_deref().filter(|s| !s.is_empty())?;
    Some(match repository.host() {
        "docker.io" => "https://index.docker.io/v1/".to_owned(),
        host => host.to_owned(),
    })
}

/// A key without scheme and API version, Docker Hub's names made one.
fn plain(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let host = host.to_ascii_lowercase();
    let host = match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other.strip_suffix(":443").unwrap_or(other),
    };
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"auths":{
        "r.example":{"auth":"aG9zdDpwMA=="},
        "r.example/team":{"auth":"dGVhbTpwMQ=="},
        "r.example/team/app":{"auth":"YXBwOnAy"},
        "id.example":{"identitytoken":"p3"},
        "broken.example":{"auth":"!!!"},
        "https://index.docker.io/v1/":{"auth":"aHViOnA0"}
      },"credHelpers":{"helped.example":"quorate-no-such-helper"}}"#;

    fn user(repository: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, FILE).unwrap();
        let found = Credentials::none()
            .with_file(dir.path().join("absent.json"))
            .with_file(path)
            .with_fallback("fall.example", "fallback", Secret::new("p9"))
            .with_login("given.example", "given", Secret::new("p8"))
            .find(&repository.parse().unwrap());
        let shown = format!("{found:?}");
        for secret in ["p0", "p1", "p2", "p3", "p4", "p8", "p9"] {
            assert!(!shown.contains(&format!("\"{secret}\"")), "{shown}");
        }
        match (found.login, found.problem) {
            (_, Some(problem)) => problem.rsplit_once(": ").unwrap().1.to_owned(),
            (Login::Anonymous, None) => "-".to_owned(),
            (Login::Identity(_), None) => "<identity>".to_owned(),
            (Login::Password { user, .. }, None) => user,
        }
    }

    #[test]
    fn the_longest_key_wins() {
        for (repository, expected) in [
            ("r.example/team/app", "app"),
            ("r.example/team/other", "team"),
            ("r.example/team/app/deeper", "app"),
            ("r.example/teammate/app", "host"),
            ("r.example/other", "host"),
            ("r.example:5000/team/app", "-"),
            ("docker.io/library/nginx", "hub"),
            ("id.example/app", "<identity>"),
            ("fall.example/app", "fallback"),
            ("given.example/app", "given"),
            ("unknown.example/app", "-"),
            ("broken.example/app", "the entry `broken.example` cannot be read"),
            ("helped.example/app", "its credential helper could not be started"),
        ] {
            assert_eq!(user(repository), expected, "{repository}");
        }
    }
}
