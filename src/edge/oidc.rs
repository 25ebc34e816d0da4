//! Identity tokens of CI jobs (OpenID Connect Core, section 2), for Fulcio.
//!
//! A token is a secret for as long as it lives: no error, no log line and no argument has it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use super::clock;
use super::registry::{Secret, program};
use super::service::{Service, Trouble};
use super::signer::KeySource;
use crate::attestation::{Identity, San};
use crate::error::Error;

/// Whom the tokens are for.
const AUDIENCE: &str = "sigstore";
/// The most bytes of a token: real ones have 1 to 3 KiB.
const MAX_BYTES: usize = 16 * 1024;
/// Less than this may be used up on the way to Fulcio.
const LEAST: Duration = Duration::from_secs(5);
const WITH_A_KEY: &str = "`--key FILE` signs with a key instead";

/// Where tokens come from.
#[derive(Debug, Clone)]
pub enum Tokens {
    /// A file, or an environment variable.
    Given(KeySource),
    /// The CI job that this process is part of.
    Job,
}

/// A token for Fulcio. Nothing in it is verified: that is Fulcio's work.
pub struct Token {
    text: Secret,
    claims: Claims,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    exp: i64,
    aud: Audience,
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    email: Option<String>,
    /// The workflow of a job of GitHub Actions, such as `acme/app/.github/workflows/a.yml@REF`.
    #[serde(default)]
    job_workflow_ref: Option<String>,
    /// The pipeline of a job of GitLab, such as `gitlab.com/acme/app//.gitlab-ci.yml@REF`.
    #[serde(default)]
    ci_config_ref_uri: Option<String>,
    /// Where an issuer hands on what another said (Sigstore's own).
    #[serde(default, rename = "federated_claims")]
    federated: Option<Federated>,
}

#[derive(Deserialize)]
struct Federated {
    connector_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Tokens {
    /// A token that is good for some seconds more.
    ///
    /// # Errors
    /// When there is none, or it is expired or for somebody else.
    pub async fn get(&self, service: &Service) -> Result<Token, Error> {
        let (from, text) = match self {
            Self::Given(source) => {
                let text = source.read().map_err(|error| {
                    Error::request(format!("cannot read the identity token `{source}`")).because(error)
                })?;
                (source.to_string(), Secret::new(text.trim()))
            }
            Self::Job => job(service).await?,
        };
        Token::read(text, clock::now()).map_err(|why| {
            Error::request(format!("the identity token from {from} cannot be used: {why}"))
                .hint(format!("ask for a new one with the audience `{AUDIENCE}`; {WITH_A_KEY}"))
        })
    }
}

impl Token {
    fn read(text: Secret, now: Timestamp) -> Result<Self, String> {
        let token = text.expose();
        if token.len() > MAX_BYTES {
            return Err(format!("it has more than {MAX_BYTES} bytes"));
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [_, claims, _] = parts[..] else {
            return Err("it is not a signed JSON web token".to_owned());
        };
        // No cause is shown: a parser's error may quote what it parsed.
        let claims: Claims = URL_SAFE_NO_PAD
            .decode(claims)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or("its claims cannot be read")?;
        let audience = match &claims.aud {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::Many(many) => many,
        };
        if !audience.iter().any(|name| name == AUDIENCE) {
            return Err(format!("it is for {audience:?}, not for `{AUDIENCE}`"));
        }
        let end = Timestamp::from_second(claims.exp).map_err(|_| "its end is no time".to_owned())?;
        if now.saturating_add(LEAST).is_ok_and(|soon| soon >= end) {
            return Err(format!("it ends at {end}"));
        }
        let token = Self { text, claims };
        if token.challenge().is_empty() {
            return Err("it names no subject".to_owned());
        }
        Ok(token)
    }

    /// The token itself, for the one request it goes into.
    pub(super) fn expose(&self) -> &str {
        self.text.expose()
    }

    /// The issuer, as it calls itself.
    pub fn issuer(&self) -> &str {
        &self.claims.iss
    }

    /// What the bearer signs to prove that a key is theirs: the mail address, or else the subject.
    pub fn challenge(&self) -> &str {
        self.claims.email.as_deref().or(self.claims.sub.as_deref()).unwrap_or_default()
    }

    /// Whether a certificate names the bearer of this token, as far as can be told: the names of
    /// other issuers are made by Fulcio's own rules.
    pub fn is(&self, identity: &Identity) -> bool {
        let claims = &self.claims;
        let connector = claims.federated.as_ref().and_then(|other| other.connector_id.as_ref());
        let issuer = identity.issuer == claims.iss || Some(&identity.issuer) == connector;
        let name = match (&identity.san, &claims.email) {
            (San::Email(name), Some(email)) => name == email,
            (San::Uri(name), None) => {
                if let Some(workflow) = &claims.job_workflow_ref {
                    name.strip_suffix(workflow.as_str()).is_some_and(|before| before.ends_with('/'))
                } else if let Some(pipeline) = &claims.ci_config_ref_uri {
                    name.strip_prefix("https://") == Some(pipeline)
                } else {
                    true
                }
            }
            _ => false,
        };
        issuer && name
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What the job is given, and from where.
async fn job(service: &Service) -> Result<(String, Secret), Error> {
    let none = |why: &str, hint: &str| Error::request(why).hint(format!("{hint}; {WITH_A_KEY}"));
    if let Some(token) = variable("SIGSTORE_ID_TOKEN") {
        return Ok(("`SIGSTORE_ID_TOKEN`".to_owned(), Secret::new(token.trim())));
    }
    match (variable("ACTIONS_ID_TOKEN_REQUEST_URL"), variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN")) {
        (Some(url), Some(bearer)) => return actions(service, &url, &Secret::new(bearer)).await,
        _ if variable("FORGEJO_ACTIONS").or(variable("GITEA_ACTIONS")).is_some() => {
            return Err(none(
                "this runner gives the job no identity token",
                "few Fulcios know the issuer of a Forgejo or Gitea",
            ));
        }
        _ if variable("GITHUB_ACTIONS").is_some() => {
            return Err(none(
                "this job may not ask for an identity token",
                "`permissions: {id-token: write}` lets it",
            ));
        }
        _ => {}
    }
    if variable("GITLAB_CI").is_some() {
        return Err(none(
            "this job has no identity token in `SIGSTORE_ID_TOKEN`",
            "`id_tokens: {SIGSTORE_ID_TOKEN: {aud: sigstore}}` in `.gitlab-ci.yml` gives it one",
        ));
    }
    let printed = async |program: &'static str, arguments: &[&str]| {
        let token = program::line(program, arguments).await.map_err(|why| {
            Error::undecided("this job got no identity token").because(why).hint(WITH_A_KEY)
        })?;
        Ok((format!("`{program}`"), token))
    };
    if variable("BUILDKITE").is_some() {
        return printed("buildkite-agent", &["oidc", "request-token", "--audience", AUDIENCE]).await;
    }
    if let Some(token) = variable("CIRCLE_OIDC_TOKEN_V2") {
        // It is for the organisation, unless the job was set up otherwise.
        let token = Secret::new(token.trim());
        if Token::read(token.clone(), clock::now()).is_ok() {
            return Ok(("`CIRCLE_OIDC_TOKEN_V2`".to_owned(), token));
        }
        let claims = format!(r#"{{"aud":"{AUDIENCE}"}}"#);
        return printed("circleci", &["run", "oidc", "get", "--claims", &claims]).await;
    }
    Err(none(
        "there is neither a key nor an identity token to sign with",
        "in a job of GitHub Actions, GitLab, Buildkite or CircleCI the token is found; elsewhere give \
         `--identity-token FILE`",
    ))
}

/// Asks the runner of GitHub Actions, or another of its kind.
async fn actions(service: &Service, url: &str, bearer: &Secret) -> Result<(String, Secret), Error> {
    #[derive(Deserialize)]
    struct Given {
        value: String,
    }
    let from = "`ACTIONS_ID_TOKEN_REQUEST_URL`";
    let mut url: Url =
        url.parse().map_err(|error| Error::request(format!("{from} is not a URL")).because(error))?;
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    };
    if url.scheme() != "https" && !loopback {
        return Err(Error::request(format!("{from} is not https, and a secret goes there")));
    }
    url.query_pairs_mut().append_pair("audience", AUDIENCE);
    let answer = service.get(&url, Some(bearer)).await?;
    // What was answered may be a token, and is not shown.
    let given = serde_json::from_slice::<Given>(&answer.bytes).ok().filter(|_| answer.status == 200);
    let given = given.ok_or_else(|| {
        let status = answer.status;
        Trouble::of(status)
            .with(format!("the runner gave no identity token: {from} answered {status}"))
            .hint(WITH_A_KEY)
    })?;
    Ok((from.to_owned(), Secret::new(given.value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(claims: &str) -> Result<Token, String> {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let text = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        Token::read(Secret::new(text), now)
    }

    #[test]
    fn what_cannot_be_used_is_told_before_it_is_sent() {
        let good = r#"{"iss":"https://i","sub":"s","aud":["x","sigstore"],"exp":1767225700}"#;
        assert_eq!(read(good).ok().unwrap().challenge(), "s");
        for (from, to, why) in [
            ("sigstore", "acme", "not for `sigstore`"),
            ("1767225700", "1767225603", "it ends at 2026-01-01T00:00:03Z"),
            (r#""sub":"s","#, "", "no subject"),
            (r#""iss":"https://i","#, "", "cannot be read"),
        ] {
            let error = read(&good.replace(from, to)).err().unwrap();
            assert!(error.contains(why), "{error}");
        }
        let mail = good.replace(r#""sub":"s""#, r#""sub":"s","email":"a@b.test""#);
        assert_eq!(read(&mail).ok().unwrap().challenge(), "a@b.test");
    }
}
