//! One request and its answer: limits, redirects, retries.

use std::fs::File;
use std::io::Seek as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::stream;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap,
    HeaderValue, LOCATION,
};
use reqwest::{Method, RequestBuilder, StatusCode};
use rustls::CertificateError::{BadSignature, UnknownIssuer};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use url::Url;

use super::Registry;
use super::address::Reach;
use super::auth::learn;
use super::clients::Way;
use super::error::{Asked, Error, Reply, Tls, shown};
use super::host::{Access, Host};
use super::relay::Relay;
use super::retry;

/// Redirects followed for one request.
const MAX_REDIRECTS: usize = 3;
/// Bytes read of an answer that is no success, and of a token.
pub(super) const MAX_ERROR_BODY: u64 = 64 * 1024;
const MIB: u64 = 1024 * 1024;
/// A body of no more than this is read without a share of the memory below.
const SMALL_BODY: u64 = 64 * 1024;
/// Bytes read of a file at once.
const PIECE: usize = 256 * 1024;
/// What all larger bodies on their way to us may take together, in MiB.
pub(super) const MEMORY_MIB: usize = 8;

/// Where redirects may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// Nowhere; the 3xx is the answer.
    Nowhere,
    /// To another path of the same server.
    SameOrigin,
    /// To other hosts as well, without credentials: what a digest vouches for.
    Anywhere,
}

/// How a request proves who asks.
#[derive(Clone)]
pub(super) enum Proof {
    /// As the registry wants it, for this access to this repository.
    Registry { path: String, access: Access },
    /// This header, or none.
    Given(Option<HeaderValue>),
}

/// Takes the body of a success as it comes: `None` when one begins, then its pieces.
pub(in crate::edge) type Sink = Arc<Mutex<dyn FnMut(Option<&[u8]>) + Send>>;

/// Where the body of a success goes, if not into the answer.
#[derive(Clone)]
pub(super) enum Outlet {
    Sink(Sink),
    /// To whoever takes the pieces of one body, no faster than they are taken. None is empty.
    Pipe(mpsc::Sender<Bytes>),
}

/// What a request carries.
#[derive(Clone)]
pub(super) enum Payload {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A file and its length. The time limit is that of the run, for it may be large.
    File(Arc<File>, u64),
    /// What is read meanwhile, and its length. It can be sent once. The same time limit.
    Relay(Arc<Mutex<Option<Relay>>>, u64),
}

impl Payload {
    fn attach(&self, request: RequestBuilder) -> std::io::Result<RequestBuilder> {
        Ok(match self {
            Self::Bytes(bytes) => request.body(bytes.clone()),
            Self::File(file, length) => {
                let mut file = file.try_clone()?;
                file.rewind()?;
                let pieces = stream::try_unfold(tokio::fs::File::from_std(file), |mut file| async {
                    let mut piece = Vec::with_capacity(PIECE);
                    let read = file.read_buf(&mut piece).await?;
                    Ok::<_, std::io::Error>((read > 0).then_some((piece, file)))
                });
                request.header(CONTENT_LENGTH, *length).body(reqwest::Body::wrap_stream(pieces))
            }
            Self::Relay(relay, length) => {
                let relay = relay.lock().unwrap_or_else(PoisonError::into_inner).take();
                let relay = relay.ok_or_else(|| std::io::Error::other("it was sent already"))?;
                let pieces = stream::try_unfold(relay, |mut relay| async {
                    Ok::<_, std::io::Error>(relay.next().await?.map(|piece| (piece, relay)))
                });
                request.header(CONTENT_LENGTH, *length).body(reqwest::Body::wrap_stream(pieces))
            }
        })
    }
}

/// A request.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: Option<&'static str>,
    /// Its media type, and the bytes.
    pub(super) body: Option<(String, Payload)>,
    /// Bytes allowed in the body of a success.
    pub(super) limit: u64,
    /// Where the body of a success goes, if not into the answer. Its time limit is that of the
    /// run, for it may be large.
    pub(super) outlet: Option<Outlet>,
    pub(super) follow: Follow,
    /// Whether asking twice does no harm.
    pub(super) retry: bool,
    pub(super) proof: Proof,
    /// Whether caches on the way must ask the registry again.
    pub(super) fresh: bool,
    /// Goes to a host that the registry named.
    pub(super) led: bool,
}

impl Call {
    /// A request without a body, to which no more than a few words are expected; no redirect is
    /// followed, and only what reads is asked again.
    pub(super) fn new(method: Method, url: Url, proof: Proof) -> Self {
        Self {
            accept: None,
            body: None,
            limit: MAX_ERROR_BODY,
            outlet: None,
            follow: Follow::Nowhere,
            retry: method == Method::GET || method == Method::HEAD,
            proof,
            fresh: false,
            led: false,
            method,
            url,
        }
    }

    /// Its name for errors and logs.
    pub(super) fn asked(&self, host: &Host) -> Asked {
        asked(host, &self.method, &self.url)
    }
}

impl Host {
    /// A request for `/v2/<path>/<rest>`, with what this access wants for proof.
    pub(super) fn call(&self, method: Method, path: &str, rest: &str, access: Access) -> Result<Call, Error> {
        // Repository, tag and digest hold no character that a URL would read otherwise.
        let url = self
            .api
            .join(&format!("v2/{path}/{rest}"))
            .map_err(|error| Error::Setup(format!("{}/{path}: {error}", self.name)))?;
        Ok(Call::new(method, url, Proof::Registry { path: path.to_owned(), access }))
    }
}

/// An answer, its body read in full.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// Whether it came from another server than the registry.
    pub(super) foreign: bool,
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The media type without parameters.
    pub(super) fn content_type(&self) -> Option<String> {
        let value = self.headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let media_type = value.split(';').next().unwrap_or_default().trim();
        Some(media_type.to_ascii_lowercase())
    }
}

/// One attempt's failure.
enum Failure {
    /// Asking again will not help.
    Final(Error),
    /// The connection broke.
    Broken { source: reqwest::Error },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Registry {
    /// Asks, and asks again where that is allowed and may help. Every status but the transient
    /// ones is an answer; 401 only when credentials did not help.
    pub(super) async fn send(&self, host: &Host, call: Call) -> Result<Answer, Error> {
        let asked = call.asked(host);
        let mut delays = retry::delays();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let outcome = tokio::time::timeout_at(self.deadline.into(), async {
                match &call.proof {
                    Proof::Given(header) => self.once(host, &call, header.as_ref()).await,
                    // Boxed, for it is large, and everything that asks holds a place for it.
                    Proof::Registry { path, access } => {
                        Box::pin(self.proven(host, &call, path, *access)).await
                    }
                }
            })
            .await
            .unwrap_or_else(|_| {
                Err(Failure::Final(Error::Timeout { asked: asked.clone(), whole_run: true }))
            });
            let (wait, error) = match outcome {
                Ok(answer) if retry::is_transient(answer.status) => {
                    let wait = retry::retry_after(&answer.headers, SystemTime::now());
                    (wait, transient(asked.clone(), host, &answer, attempts, wait))
                }
                Ok(answer) => {
                    tracing::debug!(method = %call.method, path = call.url.path(), host = %host.name, status = answer.status.as_u16(), attempts, "answered");
                    return Ok(answer);
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Broken { source }) => {
                    let hopeless = is_hopeless(&source);
                    let error = Error::Unreachable {
                        asked: asked.clone(),
                        attempts,
                        tls: trouble(&source),
                        source: Box::new(source.without_url()),
                    };
                    if hopeless {
                        return Err(error);
                    }
                    (None, error)
                }
            };
            let Some(delay) = delays.next().filter(|_| call.retry) else {
                return Err(error);
            };
            let delay = wait.map_or(delay, |wait| wait.max(delay));
            if Instant::now() + delay >= self.deadline {
                return Err(error);
            }
            tracing::debug!(method = %call.method, path = call.url.path(), host = %host.name, error = error.reason(), ?delay, "asking again");
            tokio::time::sleep(delay).await;
        }
    }

    /// With the credentials the registry wants; a token that it no longer takes is renewed once.
    async fn proven(&self, host: &Host, call: &Call, path: &str, access: Access) -> Result<Answer, Failure> {
        let (mut challenged, mut renewed) = (false, false);
        loop {
            // The first request goes alone: a cold start with many costs one 401, not many.
            let mut gate = None;
            if host.manner().is_none() {
                gate = Some(host.gate.lock().await);
                if host.manner().is_some() {
                    gate = None;
                }
            }
            let proof = self.prove(host, path, access).await?;
            let answer = self.once(host, call, proof.header.as_ref()).await?;
            if answer.status == StatusCode::UNAUTHORIZED && !answer.foreign {
                let known = learn(host, &answer);
                drop(gate);
                if known && proof.header.is_none() && !challenged {
                    challenged = true;
                    continue;
                }
                if let Some(token) = proof.token
                    && !renewed
                {
                    renewed = true;
                    self.forget(host, &token).await;
                    continue;
                }
            } else if host.manner().is_none() {
                host.set_manner(super::host::Manner::Open);
            }
            return Ok(answer);
        }
    }

    /// Follows redirects as far as the call allows.
    async fn once(
        &self,
        host: &Host,
        call: &Call,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        let asked = call.asked(host);
        let mut url = call.url.clone();
        let mut way = if call.led { self.way_to(host, &url, &asked).await? } else { host.way };
        let mut foreign = false;
        for _ in 0..=MAX_REDIRECTS {
            let header = authorization.filter(|_| !foreign);
            let mut answer = self.exchange(&asked, call, &url, way, header).await?;
            answer.foreign = foreign;
            let follows = match answer.status.as_u16() {
                301 | 302 | 307 | 308 => call.follow != Follow::Nowhere,
                // "See other" is another resource; only a digest makes it the same.
                303 => call.follow == Follow::Anywhere,
                _ => false,
            };
            if !follows {
                return Ok(answer);
            }
            let location = answer
                .headers
                .get(LOCATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| url.join(value).ok())
                .ok_or_else(|| Error::Malformed {
                    asked: asked.clone(),
                    why: "a redirect without a valid Location".to_owned(),
                })?;
            let refuse = |why| Error::Redirect { asked: asked.clone(), to: origin(&location), why };
            if !matches!(location.scheme(), "http" | "https") || !location.has_host() {
                return Err(refuse("it is no web address").into());
            }
            if url.scheme() == "https" && location.scheme() == "http" {
                return Err(refuse("it leaves https").into());
            }
            if !location.username().is_empty() || location.password().is_some() {
                return Err(refuse("it holds a user or password").into());
            }
            if location.origin() != url.origin() || foreign {
                if call.follow != Follow::Anywhere {
                    return Err(refuse("it leads to another host").into());
                }
                foreign = true;
                way = self.way_to(host, &location, &asked).await?;
            }
            url = location;
        }
        Err(Error::Redirect { asked, to: origin(&url), why: "there were 3 before it" }.into())
    }

    /// How to reach a server that the registry named, if it may name it at all.
    async fn way_to(&self, host: &Host, target: &Url, asked: &Asked) -> Result<Way, Error> {
        let (api, to) = (host.api.clone(), target.clone());
        let (from, to) = tokio::task::spawn_blocking(move || (Reach::of_host(&api), Reach::of_host(&to)))
            .await
            .unwrap_or((Reach::Global, Reach::Link));
        if !from.may_lead_to(to) {
            return Err(Error::Redirect {
                asked: asked.clone(),
                to: origin(target),
                why: "a registry may not lead to an inner address",
            });
        }
        Ok(match (from, to) {
            (_, Reach::Loopback) => Way::Loopback,
            // What is asked for on the internet must be found there, whatever a second look at
            // the name server says.
            (Reach::Global, _) => Way::Led,
            _ => Way::Named,
        })
    }

    /// One request, one answer, within the limits of time and size.
    async fn exchange(
        &self,
        asked: &Asked,
        call: &Call,
        url: &Url,
        way: Way,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        let client = self.shared.clients.get(way).await?;
        let mut request = client.request(call.method.clone(), url.clone());
        if let Some(accept) = call.accept {
            request = request.header(ACCEPT, accept);
        }
        if call.fresh {
            request = request.header(CACHE_CONTROL, "no-cache");
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if let Some((content_type, body)) = &call.body {
            request = body
                .attach(request.header(CONTENT_TYPE, content_type))
                .map_err(|error| Error::Setup(format!("cannot read what is to be sent: {error}")))?;
        } else if call.method == Method::POST {
            // Some registries want a length on every POST.
            request = request.header(CONTENT_LENGTH, "0");
        }
        let limit = match (&call.outlet, &call.body) {
            (Some(_), _) | (_, Some((_, Payload::File(..) | Payload::Relay(..)))) => {
                self.deadline.saturating_duration_since(Instant::now())
            }
            _ => self.shared.request_timeout,
        };
        match tokio::time::timeout(limit, self.receive(request, call, asked)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { asked: asked.clone(), whole_run: false }.into()),
        }
    }

    /// Sends and reads the body up to its limit, whatever `Content-Length` promises.
    async fn receive(&self, request: RequestBuilder, call: &Call, asked: &Asked) -> Result<Answer, Failure> {
        let broken = |source| Failure::Broken { source };
        let mut response = request.send().await.map_err(broken)?;
        let status = response.status();
        let headers = response.headers().clone();
        let encoded = headers.get_all(CONTENT_ENCODING).iter().any(|value| value.as_bytes() != b"identity");
        if encoded && status.is_success() {
            return Err(Error::Malformed {
                asked: asked.clone(),
                why: "the body is compressed, which was not asked for".to_owned(),
            }
            .into());
        }
        let (limit, cut) = if status.is_success() { (call.limit, false) } else { (MAX_ERROR_BODY, true) };
        let too_large = || Failure::Final(Error::TooLarge { what: asked.to_string(), limit });
        let announced = response.content_length().unwrap_or(0);
        if announced > limit && !cut && &*asked.method != "HEAD" {
            return Err(too_large());
        }
        // The whole share at once, so that no two bodies wait for each other's half.
        let share = u32::try_from(limit.div_ceil(MIB).clamp(1, MEMORY_MIB as u64)).unwrap_or(1);
        let mut memory = None;
        let mut body = Vec::new();
        let outlet = call.outlet.as_ref().filter(|_| status.is_success());
        let feed = |sink: &Sink, piece: Option<&[u8]>| {
            (sink.lock().unwrap_or_else(PoisonError::into_inner))(piece);
        };
        if let Some(Outlet::Sink(sink)) = outlet {
            feed(sink, None);
        }
        let mut length = 0;
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            length += chunk.len() as u64;
            if length > limit {
                if cut {
                    break;
                }
                return Err(too_large());
            }
            match outlet {
                Some(Outlet::Sink(sink)) => {
                    feed(sink, Some(&chunk));
                    continue;
                }
                Some(Outlet::Pipe(_)) if chunk.is_empty() => continue,
                // Whoever takes no more knows why.
                Some(Outlet::Pipe(pipe)) if pipe.send(chunk.clone()).await.is_err() => break,
                Some(Outlet::Pipe(_)) => continue,
                None => {}
            }
            if memory.is_none() && length.max(announced.min(limit)) > SMALL_BODY {
                memory = Some(self.shared.memory.acquire_many(share).await);
                body.reserve(usize::try_from(announced.min(limit)).unwrap_or(0));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body, foreign: false })
    }
}

fn asked(host: &Host, method: &Method, url: &Url) -> Asked {
    Asked {
        method: method.as_str().into(),
        url: format!("{}{}", origin(url), url.path()).into(),
        host: host.name.as_str().into(),
    }
}

/// Scheme, host and port.
fn origin(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

/// What an answer that is no success says, fit to be shown.
pub(super) fn reply(host: &Host, answer: &Answer) -> Reply {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Errors>(&answer.body) {
        Ok(errors) => errors
            .errors
            .iter()
            .take(3)
            .map(|e| match (e.code.as_str(), e.message.as_str()) {
                (code, "") => code.to_owned(),
                ("", message) => message.to_owned(),
                (code, message) => format!("{code}: {message}"),
            })
            .collect::<Vec<_>>()
            .join("; "),
        // A page of HTML says nothing that fits a line.
        Err(_) if answer.body.trim_ascii_start().starts_with(b"<") => String::new(),
        Err(_) => String::from_utf8_lossy(&answer.body).into_owned(),
    };
    Reply { status: answer.status.as_u16(), text: shown(&host.redact(text)) }
}

/// The error for a status that tells nothing a caller could use.
pub(super) fn unexpected(asked: Asked, host: &Host, answer: &Answer, lookup: Option<String>) -> Error {
    let reply = reply(host, answer);
    match answer.status.as_u16() {
        401 | 403 => Error::Denied { asked, reply, lookup },
        300..=399 => Error::Redirect {
            to: answer
                .header("location")
                .and_then(|l| Url::parse(l).ok())
                .map_or_else(|| "another path".to_owned(), |l| origin(&l)),
            asked,
            why: "this request follows none",
        },
        429 => Error::Throttled { asked, reply, attempts: 1, retry_after: None },
        408 | 500..=599 => Error::Server { asked, reply, attempts: 1 },
        _ => Error::Refused { asked, reply },
    }
}

fn transient(
    asked: Asked,
    host: &Host,
    answer: &Answer,
    attempts: u32,
    retry_after: Option<Duration>,
) -> Error {
    let reply = reply(host, answer);
    if answer.status == StatusCode::TOO_MANY_REQUESTS {
        Error::Throttled { asked, reply, attempts, retry_after }
    } else {
        Error::Server { asked, reply, attempts }
    }
}

/// The TLS error in a chain of causes.
fn tls<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // `source` of an I/O error skips the error it wraps.
        if let Some(found) = inner
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|wrapped| tls(wrapped))
        {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

/// A wrong name or certificate is the same a second later.
fn is_hopeless(error: &reqwest::Error) -> bool {
    error.is_builder() || error.is_dns() || tls(error).is_some()
}

/// Whether nobody who is trusted vouches for the peer's certificate.
pub(in crate::edge) fn is_distrusted(error: &reqwest::Error) -> bool {
    trouble(error) == Some(Tls::Unknown)
}

fn trouble(error: &reqwest::Error) -> Option<Tls> {
    match tls(error)? {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => Some(Tls::Absent),
        // Another authority of the same name signed otherwise.
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) => Some(Tls::Unknown),
        _ => None,
    }
}
