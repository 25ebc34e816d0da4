//! What is known of one registry during a run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use url::Url;

use super::address::is_loopback;
use super::challenge::Challenge;
use super::clients::Way;
use super::credentials::Found;
use super::error::Error;
use super::secret::Secret;

/// What is done to a repository; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
    /// Read, write and remove.
    Delete,
}

impl Access {
    /// A scope of the distribution token specification.
    pub(super) fn scope(self, path: &str) -> String {
        match self {
            Self::Pull => format!("repository:{path}:pull"),
            Self::Push => format!("repository:{path}:pull,push"),
            Self::Delete => format!("repository:{path}:pull,push,delete"),
        }
    }
}

/// How a registry wants to be asked.
#[derive(Debug, Clone)]
pub(super) enum Manner {
    /// It has answered without credentials so far.
    Open,
    /// It has answered 401.
    Guarded(Challenge),
}

/// A bearer token and what it is good for.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) value: Secret,
    /// The login it was asked for with.
    pub(super) key: String,
    pub(super) grants: BTreeMap<String, Access>,
    pub(super) until: Instant,
}

/// One registry.
pub(super) struct Host {
    /// As written in references.
    pub(super) name: String,
    /// Where its API stands.
    pub(super) api: Url,
    pub(super) way: Way,
    /// Held by the first request, until the registry has said how it wants to be asked.
    pub(super) gate: tokio::sync::Mutex<()>,
    manner: Mutex<Option<Manner>>,
    /// Held while a token is asked for, so that nobody asks for it twice.
    pub(super) tokens: tokio::sync::Mutex<Vec<Token>>,
    expected: Mutex<BTreeMap<String, Access>>,
    pub(super) logins: tokio::sync::Mutex<HashMap<String, Arc<Found>>>,
    without_referrers: Mutex<BTreeSet<String>>,
    /// Every secret sent to it, to be struck out of what it says.
    secrets: Mutex<Vec<Secret>>,
}

/// A panic elsewhere leaves these values whole: each is written in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    /// `tls` and `plain_http` as in [`Options`](super::Options).
    pub(super) fn new(name: &str, tls: &[String], plain_http: &[String]) -> Result<Self, Error> {
        let loopback = is_loopback(name);
        let named = |hosts: &[String]| hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
        let plain = (loopback || named(plain_http)) && !named(tls);
        let scheme = if plain { "http" } else { "https" };
        // Docker Hub's API does not stand where its references say.
        let authority = if name == "docker.io" { "registry-1.docker.io" } else { name };
        let api = Url::parse(&format!("{scheme}://{authority}/"))
            .map_err(|error| Error::Setup(format!("{name}: {error}")))?;
        Ok(Self {
            name: name.to_owned(),
            api,
            way: if loopback { Way::Loopback } else { Way::Named },
            gate: tokio::sync::Mutex::default(),
            manner: Mutex::default(),
            tokens: tokio::sync::Mutex::default(),
            expected: Mutex::default(),
            logins: tokio::sync::Mutex::default(),
            without_referrers: Mutex::default(),
            secrets: Mutex::default(),
        })
    }

    pub(super) fn manner(&self) -> Option<Manner> {
        lock(&self.manner).clone()
    }

    pub(super) fn set_manner(&self, manner: Manner) {
        *lock(&self.manner) = Some(manner);
    }

    pub(super) fn announce(&self, path: &str, access: Access) {
        let mut expected = lock(&self.expected);
        let entry = expected.entry(path.to_owned()).or_insert(access);
        *entry = (*entry).max(access);
    }

    pub(super) fn expected(&self) -> BTreeMap<String, Access> {
        lock(&self.expected).clone()
    }

    pub(super) fn lacks_referrers(&self, path: &str) -> bool {
        lock(&self.without_referrers).contains(path)
    }

    pub(super) fn remember_no_referrers(&self, path: &str) {
        lock(&self.without_referrers).insert(path.to_owned());
    }

    pub(super) fn remember_secret(&self, secret: &Secret) {
        let mut secrets = lock(&self.secrets);
        if !secrets.contains(secret) {
            secrets.push(secret.clone());
        }
    }

    /// `text` with every secret that this registry was sent struck out.
    pub(super) fn redact(&self, mut text: String) -> String {
        for secret in lock(&self.secrets).iter() {
            if secret.expose().len() >= 4 {
                text = text.replace(secret.expose(), "***");
            }
        }
        text
    }
}
