//! HTTP to the services around a signature: issuers of tokens, certificate authorities, logs,
//! timestamp authorities, TUF repositories.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Client, RequestBuilder};
use url::Url;

use super::registry::{OWN_AUTHORITY, Registry, Secret, is_distrusted};
use crate::error::Error;

/// Rekor v2 answers when the entry is in a checkpoint, which can take ten seconds and more.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of an answer, where nothing else is asked for: 1 MiB.
const MAX_BYTES: usize = 1 << 20;
/// How often a request is tried.
const TRIES: usize = 3;

/// The way to these services, with the TLS roots and proxies of the run.
#[derive(Clone)]
pub struct Service(Registry);

/// A request body, and what it is.
pub struct Body {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Accept`.
    pub accept: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// An answer: its status, and a bounded body.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Location`, as sent.
    pub location: Option<String>,
    /// The body.
    pub bytes: Vec<u8>,
}

impl Service {
    /// Uses the clients of `registry`, which follow no redirect by themselves.
    pub fn new(registry: &Registry) -> Self {
        Self(registry.clone())
    }

    /// POSTs, and tries again after a lost connection or an answer of 408, 429 or 5xx.
    ///
    /// # Errors
    /// When no answer came, or one beyond the limit. Any other status is an answer.
    pub async fn post(&self, url: &Url, body: &Body) -> Result<Answer, Error> {
        let request = |client: &Client| {
            client
                .post(url.clone())
                .header("Content-Type", body.content_type)
                .header("Accept", body.accept)
                .body(body.bytes.clone())
        };
        self.ask(url, MAX_BYTES, request).await.map_err(|failure| failure.error)
    }

    /// GETs no more than `limit` bytes; tries again as [`post`](Self::post) does.
    ///
    /// # Errors
    /// When no answer came, or one beyond the limit. Any other status is an answer.
    pub async fn fetch(&self, url: &Url, limit: usize) -> Result<Answer, Error> {
        let request = |client: &Client| client.get(url.clone());
        self.ask(url, limit, request).await.map_err(|failure| failure.error)
    }

    /// GETs JSON, with a bearer token where one is given; tries again as [`post`](Self::post) does.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub async fn get(&self, url: &Url, bearer: Option<&Secret>) -> Result<Answer, Error> {
        let authorization = bearer
            .map(|token| {
                let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                    .map_err(|_| Error::request("the bearer token has bytes that no header can carry"))?;
                value.set_sensitive(true);
                Ok::<_, Error>(value)
            })
            .transpose()?;
        let request = |client: &Client| {
            let request = client.get(url.clone()).header("Accept", "application/json");
            match &authorization {
                Some(value) => request.header(AUTHORIZATION, value.clone()),
                None => request,
            }
        };
        self.ask(url, MAX_BYTES, request).await.map_err(|failure| match bearer {
            None => failure.error,
            // Who answers may repeat what was sent.
            Some(_) => failure.trouble.with(format!("no answer from {} that can be used", shown(url))),
        })
    }

    async fn ask(
        &self,
        url: &Url,
        limit: usize,
        request: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Answer, Failure> {
        let tries = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(300))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(TRIES - 1)
            .with_jitter();
        let client = self
            .0
            .client(url)
            .await
            .map_err(|error| Failure { trouble: Trouble::Unreachable, error: error.into() })?;
        let tried = (|| once(request(&client), url, limit))
            .retry(tries)
            .when(|failure| !matches!(failure.trouble, Trouble::TooLarge));
        tokio::time::timeout(self.0.time_left(), tried).await.unwrap_or_else(|_| {
            let message = format!("no answer from {}: the time of the run is over", shown(url));
            Err(Failure { trouble: Trouble::Timeout, error: Trouble::Timeout.with(message) })
        })
    }
}

async fn once(request: RequestBuilder, url: &Url, limit: usize) -> Result<Answer, Failure> {
    let named = shown(url);
    let broken = |message: String, error: reqwest::Error| {
        let trouble = if error.is_timeout() { Trouble::Timeout } else { Trouble::Unreachable };
        let said = trouble.with(message);
        let said = if is_distrusted(&error) { said.hint(OWN_AUTHORITY) } else { said };
        Failure { trouble, error: said.because(error.without_url()) }
    };
    let sent = request.timeout(TIMEOUT).send().await;
    let mut response = sent.map_err(|error| broken(format!("no answer from {named}"), error))?;
    let status = response.status().as_u16();
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut bytes = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| broken(format!("the answer from {named} broke off"), error))?
    {
        if bytes.len() + chunk.len() > limit {
            let (trouble, message) =
                (Trouble::TooLarge, format!("the answer from {named} is larger than {limit} bytes"));
            return Err(Failure { trouble, error: trouble.with(message) });
        }
        bytes.extend_from_slice(&chunk);
    }
    if matches!(Trouble::of(status), Trouble::Server) {
        return Err(Failure { trouble: Trouble::Server, error: refused(url, status, &bytes) });
    }
    Ok(Answer { status, location, bytes })
}

struct Failure {
    trouble: Trouble,
    error: Error,
}

/// The error for an answer that is not what was asked for.
pub fn refused(url: &Url, status: u16, body: &[u8]) -> Error {
    let said: String = String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(300).collect();
    let said = match said.trim() {
        "" => String::new(),
        words => format!(": {words}"),
    };
    Trouble::of(status).with(format!("{} answered {status}{said}", shown(url)))
}

/// What is the matter with a service. The codes are stable, and stand in the message as those of
/// registries do.
#[derive(Debug, Clone, Copy)]
pub enum Trouble {
    /// No connection, or it broke every time.
    Unreachable,
    /// No complete answer in time.
    Timeout,
    /// 408, 429 or 5xx, every time.
    Server,
    /// Another status.
    Refused,
    /// An answer that is not what the service's API says.
    Malformed,
    /// More bytes than the limit.
    TooLarge,
}

impl Trouble {
    /// That of an answer with this status, where another was asked for.
    pub fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Malformed,
            408 | 429 | 500.. => Self::Server,
            _ => Self::Refused,
        }
    }

    /// The error: `message`, the code, and what to do next.
    pub fn with(self, message: impl std::fmt::Display) -> Error {
        let (code, hint) = match self {
            Self::Unreachable => {
                ("service-unreachable", "check the URL and the network; then run the same again")
            }
            Self::Timeout => ("service-timeout", "run the same again, with a longer `--timeout` if need be"),
            Self::Server => ("service-server-error", "try again later"),
            Self::Refused => ("service-refused", "read the service's words in the message"),
            Self::Malformed => ("service-malformed", "a proxy or a portal may have answered; check the URL"),
            Self::TooLarge => ("service-too-large", "a proxy or a portal may have answered; check the URL"),
        };
        Error::undecided(format!("{message} ({code})")).hint(hint)
    }
}

/// `path` below `base`, whether or not `base` ends with a slash.
///
/// # Errors
/// When the two make no URL.
pub fn below(base: &Url, path: &str) -> Result<Url, Error> {
    format!("{}/{path}", base.as_str().trim_end_matches('/'))
        .parse()
        .map_err(|error: url::ParseError| Error::request(format!("`{base}` has no `{path}`")).because(error))
}

/// A URL without its query, which may be long, and without a login.
fn shown(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    // Neither fails on a URL that has a host, and others are not asked.
    let _ = (url.set_username(""), url.set_password(None));
    url
}
