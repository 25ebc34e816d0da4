//! Proving who asks: basic credentials and bearer tokens (distribution token specification,
//! `token/scope`, `token/oauth`).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::Registry;
use super::challenge::Challenge;
use super::credentials::{Found, Login};
use super::error::Error;
use super::host::{Access, Host, Manner, Token};
use super::realm;
use super::secret::Secret;
use super::transport::{Answer, Call, Payload, Proof, unexpected};

/// What `expires_in` means when it is not there.
const DEFAULT_LIFETIME: u64 = 60;
/// No token is kept for longer than this, whatever is claimed.
const MAX_LIFETIME: u64 = 24 * 60 * 60;

/// What goes into the `Authorization` header.
pub(super) struct Proven {
    pub(super) header: Option<HeaderValue>,
    /// The token, if it is one that can be renewed.
    pub(super) token: Option<Secret>,
}

/// What a token service answers.
#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Takes in what a 401 says; whether it said anything.
pub(super) fn learn(host: &Host, answer: &Answer) -> bool {
    match Challenge::choose(&answer.headers) {
        Some(challenge) => {
            host.set_manner(Manner::Guarded(challenge));
            true
        }
        None => false,
    }
}

impl Registry {
    /// The proof the registry wants, as far as it is known by now.
    pub(super) async fn prove(&self, host: &Host, path: &str, access: Access) -> Result<Proven, Error> {
        let none = Proven { header: None, token: None };
        match host.manner() {
            None | Some(Manner::Open) => Ok(none),
            Some(Manner::Guarded(Challenge::Basic)) => match &self.login(host, path).await.login {
                Login::Password { user, password } => {
                    Ok(Proven { header: Some(basic(host, user, password)?), token: None })
                }
                Login::Anonymous | Login::Identity(_) => Ok(none),
            },
            Some(Manner::Guarded(Challenge::Bearer { realm, service })) => {
                let token = self.token(host, path, access, &realm, service.as_deref()).await?;
                Ok(Proven {
                    header: Some(secret_header(&format!("Bearer {}", token.expose())).ok_or_else(|| {
                        Error::Credentials {
                            host: host.name.clone(),
                            why: "the token service gave a token that no header can hold".to_owned(),
                            realm: None,
                        }
                    })?),
                    token: Some(token),
                })
            }
        }
    }

    /// Drops a token that the registry no longer takes.
    pub(super) async fn forget(&self, host: &Host, token: &Secret) {
        host.tokens.lock().await.retain(|t| t.value != *token);
    }

    /// What is known of our credentials, for an error after a 401 or 403.
    pub(super) async fn lookup_note(&self, host: &Host, path: &str) -> Option<String> {
        note(&*self.login(host, path).await)
    }

    /// The credentials for a repository, looked up once.
    async fn login(&self, host: &Host, path: &str) -> Arc<Found> {
        let mut logins = host.logins.lock().await;
        if let Some(found) = logins.get(path) {
            return found.clone();
        }
        let found = match format!("{}/{path}", host.name).parse() {
            Err(_) => Found {
                key: "nobody".to_owned(),
                login: Login::Anonymous,
                problem: Some("the repository's name cannot be looked up".to_owned()),
            },
            Ok(repository) => {
                let alone = self.shared.hosts.lock().unwrap_or_else(PoisonError::into_inner).len() == 1;
                self.shared.credentials.find(&repository, alone).await
            }
        };
        if let Login::Password { password: secret, .. } | Login::Identity(secret) = &found.login {
            host.remember_secret(secret);
        }
        let found = Arc::new(found);
        logins.insert(path.to_owned(), found.clone());
        found
    }

    /// A token for at least this access, from the store or from the token service.
    async fn token(
        &self,
        host: &Host,
        path: &str,
        access: Access,
        realm: &str,
        service: Option<&str>,
    ) -> Result<Secret, Error> {
        let found = self.login(host, path).await;
        let mut tokens = host.tokens.lock().await;
        let now = Instant::now();
        tokens.retain(|token| token.until > now);
        if let Some(token) = tokens.iter().find(|token| {
            token.key == found.key && token.grants.get(path).is_some_and(|held| *held >= access)
        }) {
            return Ok(token.value.clone());
        }
        let realm = self.trusted_realm(host, realm)?;
        let need = BTreeMap::from([(path.to_owned(), access)]);
        // Everything this run will want, in one request.
        let mut grants = need.clone();
        for (other, access) in host.expected() {
            if self.login(host, &other).await.key == found.key {
                let entry = grants.entry(other).or_insert(access);
                *entry = (*entry).max(access);
            }
        }
        let wider = grants.len() > need.len() || grants.get(path) > need.get(path);
        let first = self.ask_token(host, &realm, service, &found, &grants).await;
        let (value, lifetime) = match first {
            // A service that grants all or nothing may still grant what is needed now.
            Err(Error::Denied { .. }) if wider => {
                grants = need;
                self.ask_token(host, &realm, service, &found, &grants).await?
            }
            other => other?,
        };
        host.remember_secret(&value);
        // A little early, so that it does not run out on its way.
        let until = now + lifetime.saturating_sub((lifetime / 10).min(Duration::from_secs(10)));
        tokens.push(Token { value: value.clone(), key: found.key.clone(), grants, until });
        Ok(value)
    }

    fn trusted_realm(&self, host: &Host, realm: &str) -> Result<Url, Error> {
        let refuse = |why: &str, realm: Option<String>| Error::Credentials {
            host: host.name.clone(),
            why: why.to_owned(),
            realm,
        };
        let url = Url::parse(realm)
            .map_err(|_| refuse("the registry names a token service that is no URL", None))?;
        realm::check(&host.name, &host.api, &url, &self.shared.token_realms).map_err(|why| {
            let named = match (url.host_str(), url.port()) {
                (Some(name), Some(port)) => format!("{name}:{port}"),
                (Some(name), None) => name.to_owned(),
                (None, _) => String::new(),
            };
            refuse(
                &format!("the registry names a token service that is not trusted, {named}: {why}"),
                (url.scheme() == "https" && !named.is_empty()).then_some(named),
            )
        })?;
        Ok(url)
    }

    /// One request to the token service: a GET for a user or nobody, a POST for an identity.
    async fn ask_token(
        &self,
        host: &Host,
        realm: &Url,
        service: Option<&str>,
        found: &Found,
        grants: &BTreeMap<String, Access>,
    ) -> Result<(Secret, Duration), Error> {
        let scopes: Vec<String> = grants.iter().map(|(p, a)| a.scope(p)).collect();
        let mut url = realm.clone();
        url.set_fragment(None);
        let (method, header, body) = if let Login::Identity(token) = &found.login {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token")
                .append_pair("client_id", "quorate")
                .append_pair("scope", &scopes.join(" "))
                .append_pair("refresh_token", token.expose());
            if let Some(service) = service {
                form.append_pair("service", service);
            }
            let body = Payload::Bytes(form.finish().into());
            let content_type = "application/x-www-form-urlencoded".to_owned();
            (Method::POST, None, Some((content_type, body)))
        } else {
            {
                let mut query = url.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                for scope in &scopes {
                    query.append_pair("scope", scope);
                }
            }
            let header = match &found.login {
                Login::Password { user, password } => Some(basic(host, user, password)?),
                _ => None,
            };
            (Method::GET, header, None)
        };
        let call = Call {
            accept: Some("application/json"),
            body,
            retry: true,
            led: url.host() != host.api.host(),
            ..Call::new(method, url, Proof::Given(header))
        };
        let named = call.asked(host);
        // Boxed, for sending asks for tokens and asking for tokens sends.
        let answer = Box::pin(self.send(host, call)).await?;
        if answer.status != StatusCode::OK {
            let lookup = note(found).or_else(|| Some("these credentials were not taken".to_owned()));
            return Err(unexpected(named, host, &answer, lookup));
        }
        // The parser's words could repeat the token.
        let granted: Granted = serde_json::from_slice(&answer.body).map_err(|_| Error::Malformed {
            asked: named.clone(),
            why: "not the JSON of a token".to_owned(),
        })?;
        let value = [granted.token, granted.access_token]
            .into_iter()
            .flatten()
            .find(|token| !token.is_empty())
            .ok_or_else(|| Error::Malformed { asked: named, why: "it holds no token".to_owned() })?;
        let lifetime = granted.expires_in.unwrap_or(DEFAULT_LIFETIME).min(MAX_LIFETIME);
        Ok((Secret::new(value), Duration::from_secs(lifetime)))
    }
}

/// What is known of credentials that were not enough; never the secret.
fn note(found: &Found) -> Option<String> {
    match (&found.problem, &found.login) {
        (Some(problem), _) => Some(problem.clone()),
        (None, Login::Anonymous) => Some("asked without credentials, none are configured".to_owned()),
        _ => None,
    }
}

fn basic(host: &Host, user: &str, password: &Secret) -> Result<HeaderValue, Error> {
    let encoded = Secret::new(STANDARD.encode(format!("{user}:{}", password.expose())));
    host.remember_secret(&encoded);
    secret_header(&format!("Basic {}", encoded.expose())).ok_or_else(|| Error::Credentials {
        host: host.name.clone(),
        why: "no header can hold these credentials".to_owned(),
        realm: None,
    })
}

fn secret_header(value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(value).ok()?;
    header.set_sensitive(true);
    Some(header)
}
