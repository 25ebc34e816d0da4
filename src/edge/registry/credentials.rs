//! Where user names, passwords and tokens come from.
//!
//! Files of docker and podman are read when a registry first asks, not before: a run against a
//! public registry starts no credential helper.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::oci::Repository;

use super::program;
use super::secret::Secret;
use super::source::Source;

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
/// In order: the sources that the user named, the files one after the other, then the fallback
/// for a host. In a file the longest key that is a prefix of the repository wins
/// (`host/team/app`, `host/team`, `host`; containers-auth.json(5)).
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    named: Vec<Source>,
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

    /// A source that goes before every file.
    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        self.named.push(source);
        self
    }

    /// A user and password for `host` where nothing else is known.
    #[must_use]
    pub fn with_fallback(mut self, host: &str, user: &str, password: Secret) -> Self {
        self.fallback.insert(host.to_owned(), Login::Password { user: user.to_owned(), password });
        self
    }

    /// Searches; may start a credential helper. `alone`: the run speaks to no other registry.
    pub(super) async fn find(&self, repository: &Repository, alone: bool) -> Found {
        let host = repository.host();
        if let Some(source) =
            self.named.iter().max_by_key(|source| source.fits(host)).filter(|s| s.fits(host).is_some())
        {
            let key = format!("named {host}");
            return match source.proof(alone).await {
                Ok(login) => Found { key, login, problem: None },
                Err(why) => Found { key, login: Login::Anonymous, problem: Some(why) },
            };
        }
        let mut problem = None;
        for file in &self.files {
            match from_file(file, repository).await {
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

/// A configuration; `docker_credential` reads its entries.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    creds_store: Option<String>,
}

async fn from_file(path: &Path, repository: &Repository) -> Result<Option<(String, Login)>, String> {
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err("it is larger than 1 MiB".to_owned());
    }
    // The parser's words would repeat what stands in the file.
    let config: Config =
        serde_json::from_slice(&bytes).map_err(|_| "it is not a configuration file".to_owned())?;
    let Some(key) = best_key(&config, repository) else {
        return Ok(None);
    };
    let helpers = config.cred_helpers.unwrap_or_default();
    let mut helper = helpers.get(&key).cloned().filter(|helper| !helper.is_empty());
    if helper.is_none() {
        let entry = config.auths.and_then(|mut auths| auths.remove(&key));
        if let Some(login) = entry.map(|entry| from_entry(&key, &entry)).transpose()?.flatten() {
            return Ok(Some((key, login)));
        }
        helper = config.creds_store.filter(|store| !store.is_empty());
    }
    let login = match helper {
        Some(helper) => program::credential_helper(&helper, &key).await?,
        None => None,
    };
    Ok(login.map(|login| (key, login)))
}

/// What an entry of `auths` holds; it may hold nothing.
fn from_entry(key: &str, entry: &Value) -> Result<Option<Login>, String> {
    let alone = json!({"auths": {key: entry}}).to_string();
    match docker_credential::get_credential_from_reader(alone.as_bytes(), key) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Some(Login::Password { user, password: Secret::new(password) }))
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok((!token.is_empty()).then(|| Login::Identity(Secret::new(token))))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        Err(_) => Err(format!("the entry `{key}` cannot be read")),
    }
}

/// The key as written under which the file may have credentials for `repository`.
fn best_key(config: &Config, repository: &Repository) -> Option<String> {
    let full = repository.to_string();
    let mut candidate = full.as_str();
    loop {
        let helper = config.cred_helpers.iter().flat_map(BTreeMap::keys);
        let auths = config.auths.iter().flat_map(BTreeMap::keys);
        if let Some(key) = helper.chain(auths).find(|key| plain(key) == candidate) {
            return Some(key.clone());
        }
        match candidate.rsplit_once('/') {
            Some((shorter, _)) => candidate = shorter,
            None => break,
        }
    }
    config.creds_store.as_deref().filter(|s| !s.is_empty())?;
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

    async fn user(repository: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, FILE).unwrap();
        let found = Credentials::none()
            .with_file(dir.path().join("absent.json"))
            .with_file(path)
            .with_fallback("fall.example", "fallback", Secret::new("p9"))
            .with_source(Source::login("given.example", "given", Secret::new("p8")))
            .find(&repository.parse().unwrap(), true)
            .await;
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

    #[tokio::test]
    async fn the_longest_key_wins() {
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
            ("helped.example/app", "`docker-credential-quorate-no-such-helper` could not be started"),
        ] {
            assert_eq!(user(repository).await, expected, "{repository}");
        }
    }
}
