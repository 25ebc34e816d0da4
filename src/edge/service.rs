//! HTTP to the services around a signature: logs, timestamp authorities, TUF repositories.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use reqwest::{Client, RequestBuilder};
use url::Url;

use super::registry::Registry;
use crate::error::Error;

/// Rekor v2 answers when the entry is in a checkpoint, which can take ten seconds and more.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of an answer to a POST: 1 MiB.
const MAX_BYTES: usize = 1 << 20;
/// How often a request is tried.
const TRIES: usize = 3;

/// The way to witnesses, with the TLS roots and proxies of the run.
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
    /// The body.
    pub bytes: Vec<u8>,
}

impl Service {
    /// Uses the clients of `registry`, which follow no redirect by themselves.
    pub fn new(registry: &Registry) -> Self {
        Self(registry.clone())
    }

    /// POSTs, and tries again after a lost connection or an answer of 429 or 5xx.
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
        self.ask(url, MAX_BYTES, request).await
    }

    /// GETs no more than `limit` bytes; tries again as [`post`](Self::post) does.
    ///
    /// # Errors
    /// When no answer came, or one beyond the limit. Any other status is an answer.
    pub async fn get(&self, url: &Url, limit: usize) -> Result<Answer, Error> {
        self.ask(url, limit, |client| client.get(url.clone())).await
    }

    async fn ask(
        &self,
        url: &Url,
        limit: usize,
        request: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Answer, Error> {
        let tries = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(300))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(TRIES - 1)
            .with_jitter();
        let client = self.0.client(url).await?;
        let tried = (|| once(request(&client), url, limit)).retry(tries).when(|failure| failure.again).await;
        tried.map_err(|failure| failure.error)
    }
}

async fn once(request: RequestBuilder, url: &Url, limit: usize) -> Result<Answer, Failure> {
    let failed = |error: Error| Failure { error, again: true };
    let mut response = request.timeout(TIMEOUT).send().await.map_err(|error| {
        failed(Error::undecided(format!("no answer from {url}")).because(error.without_url()))
    })?;
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| {
        failed(Error::undecided(format!("the answer from {url} broke off")).because(error.without_url()))
    })? {
        if bytes.len() + chunk.len() > limit {
            let error = Error::undecided(format!("the answer from {url} is larger than {limit} bytes"));
            return Err(Failure { error, again: false });
        }
        bytes.extend_from_slice(&chunk);
    }
    if matches!(status, 408 | 429 | 500..) {
        return Err(failed(refused(url, status, &bytes)));
    }
    Ok(Answer { status, bytes })
}

struct Failure {
    error: Error,
    again: bool,
}

/// The error for an answer that is not what was asked for.
pub fn refused(url: &Url, status: u16, body: &[u8]) -> Error {
    let said: String = String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(300).collect();
    Error::undecided(format!("{url} answered {status}: {}", said.trim()))
}
