//! What all servers share: the socket, the record of requests, the faults.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Sleep, sleep};
use tokio_rustls::{Accept, TlsAcceptor};

use crate::fault::{Answer, Fault, FaultAction, Faults};
use crate::runtime;
use crate::tls;
use crate::traffic::{Request, Traffic, depth};

type Handled = Pin<Box<dyn Future<Output = Response<Bytes>> + Send>>;
type Handler = dyn Fn(http::Request<Bytes>) -> Handled + Send + Sync;

/// A server on a loopback port of its own; it ends, with its connections, when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<Vec<AbortHandle>>,
}

/// Marks a request that came over TLS.
#[derive(Clone, Copy)]
pub(crate) struct OverTls;

struct Shared {
    handler: Box<Handler>,
    latency: Duration,
    traffic: Arc<Traffic>,
    connections: AtomicUsize,
    faults: Faults,
}

impl Server {
    /// Starts a server. The handler is told the address, because some answers name it.
    pub(crate) fn start<H, F>(latency: Duration, handler: impl FnOnce(SocketAddr) -> H) -> Server
    where
        H: Fn(http::Request<Bytes>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let (listener, address) = bind();
        let handler = handler(address);
        let shared = Arc::new(Shared {
            handler: Box::new(move |request| Box::pin(handler(request))),
            latency,
            traffic: Arc::default(),
            connections: AtomicUsize::new(0),
            faults: Faults::default(),
        });
        let server = Server { address, shared, accepting: Mutex::default() };
        server.listen(listener, None);
        server
    }

    /// Answers on one more port, over TLS: where, and the certificate (PEM) to trust. Offers
    /// HTTP/2 if `http2`, else HTTP/1.1 alone.
    pub(crate) fn listen_tls(&self, name: &str, http2: bool) -> (SocketAddr, String) {
        let (config, ca) = tls::server(name, http2);
        let (listener, address) = bind();
        self.listen(listener, Some(TlsAcceptor::from(Arc::new(config))));
        (address, ca)
    }

    fn listen(&self, listener: std::net::TcpListener, tls: Option<TlsAcceptor>) {
        let _context = runtime::handle().enter();
        let listener = TcpListener::from_std(listener).expect("the socket is non-blocking");
        let accepting = runtime::handle().spawn(accept(listener, self.shared.clone(), tls)).abort_handle();
        self.accepting.lock().expect("no handle panics").push(accepting);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.traffic.requests()
    }

    pub(crate) fn depth(&self) -> usize {
        depth(&self.requests())
    }

    /// How many connections were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn clear_requests(&self) {
        self.shared.traffic.clear();
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    pub(crate) fn clear_faults(&self) {
        self.shared.faults.clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for accepting in self.accepting.lock().expect("no handle panics").iter() {
            accepting.abort();
        }
    }
}

fn bind() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.set_nonblocking(true).expect("a fresh socket can be made non-blocking");
    let address = listener.local_addr().expect("a bound socket has an address");
    (listener, address)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    // Dropped with this future, and takes the open connections along.
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            // Small answers in several packets would otherwise wait for the peer's acknowledgement;
            // a peer that is gone already does not care.
            let _ = stream.set_nodelay(true);
            match &tls {
                None => connections.spawn(converse(stream, shared.clone())),
                Some(tls) => connections.spawn(converse_tls(tls.accept(stream), shared.clone())),
            };
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let reset = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request| {
        let (shared, reset) = (shared.clone(), reset.clone());
        async move {
            shared.answer(request).await.inspect_err(|outcome| {
                reset.store(matches!(outcome, NoAnswer::Reset), Ordering::Relaxed);
            })
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error is what a fault asked for, or a client that left: neither concerns the server.
    let _ = (&mut connection).await;
    if reset.load(Ordering::Relaxed) {
        let stream = connection.into_parts().io.into_inner();
        let _ = stream.set_zero_linger();
    }
}

async fn converse_tls(handshake: Accept<TcpStream>, shared: Arc<Shared>) {
    // A client that does not trust the certificate leaves.
    let Ok(stream) = handshake.await else { return };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        let shared = shared.clone();
        request.extensions_mut().insert(OverTls);
        // With HTTP/1.1 the library itself leaves the body out (RFC 9110, section 9.3.2).
        let bare = http2 && request.method() == http::Method::HEAD;
        async move {
            let response = shared.answer(request).await?;
            Ok::<_, NoAnswer>(if bare { response.map(|_| Sent::new(Bytes::new(), false)) } else { response })
        }
    });
    let io = TokioIo::new(stream);
    let _ = match http2 {
        true => http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await,
        false => http1::Builder::new().serve_connection(io, service).await,
    };
}

/// Why a request gets no answer.
#[derive(Debug)]
enum NoAnswer {
    Reset,
    ClientLeft,
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no answer is given")
    }
}

impl std::error::Error for NoAnswer {}

impl Shared {
    async fn answer(&self, request: http::Request<Incoming>) -> Result<Response<Sent>, NoAnswer> {
        let (head, body) = request.into_parts();
        let open = self.traffic.open(&head);
        let target = head.uri.path_and_query().map_or_else(String::new, |p| p.to_string());
        let action = self.faults.next(head.method.as_str(), &target);
        let body = body.collect().await.map_err(|_| NoAnswer::ClientLeft)?.to_bytes();
        sleep(self.latency).await;

        let real = (self.handler)(http::Request::from_parts(head, body));
        let mut cut = false;
        let response = match action {
            None => real.await,
            Some(FaultAction::Status(answer)) => made_up(&answer),
            Some(FaultAction::Html) => made_up(&Answer::status(200).body(
                "text/html; charset=utf-8",
                "<!DOCTYPE html><title>Sign in</title><p>Sign in to continue.</p>\n",
            )),
            Some(FaultAction::Hang) => pending().await,
            Some(FaultAction::Reset) => return Err(NoAnswer::Reset),
            Some(FaultAction::Delay(duration)) => {
                sleep(duration).await;
                real.await
            }
            Some(FaultAction::AfterWriteStatus(answer)) => {
                real.await;
                made_up(&answer)
            }
            Some(FaultAction::AfterWriteHang) => {
                real.await;
                pending().await
            }
            Some(FaultAction::Replace(bytes)) => with_body(real.await, bytes.into()),
            Some(FaultAction::Truncate) => {
                let response = real.await;
                let half = response.body().slice(..response.body().len() / 2);
                with_body(response, half)
            }
            Some(FaultAction::HalfBody) => {
                cut = true;
                real.await
            }
        };
        open.answered(response.status().as_u16());
        Ok(response.map(|bytes| Sent::new(bytes, cut)))
    }
}

fn made_up(answer: &Answer) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(answer.body.clone()));
    *response.status_mut() = StatusCode::from_u16(answer.code).expect("a fault has a real status");
    let headers = response.headers_mut();
    if let Some(content_type) = &answer.content_type {
        let value = HeaderValue::from_str(content_type).expect("a media type is a header value");
        headers.insert(CONTENT_TYPE, value);
    }
    for (name, value) in &answer.headers {
        headers.append(
            HeaderName::try_from(name).expect("a fault has real header names"),
            HeaderValue::from_str(value).expect("a fault has real header values"),
        );
    }
    response
}

fn with_body(mut response: Response<Bytes>, body: Bytes) -> Response<Bytes> {
    response.headers_mut().remove(CONTENT_LENGTH);
    response.map(|_| body)
}

/// A body in memory that may break off in the middle.
struct Sent {
    rest: Option<Bytes>,
    length: u64,
    cut: Option<Pin<Box<Sleep>>>,
}

impl Sent {
    fn new(bytes: Bytes, cut: bool) -> Sent {
        Sent {
            length: bytes.len() as u64,
            rest: Some(if cut { bytes.slice(..bytes.len() / 2) } else { bytes }),
            // The pause lets the first half reach the wire: an error right after it would throw
            // away what has not been flushed.
            cut: cut.then(|| Box::pin(sleep(Duration::from_millis(20)))),
        }
    }
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = NoAnswer;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, NoAnswer>>> {
        if let Some(bytes) = self.rest.take().filter(|bytes| !bytes.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match &mut self.cut {
            None => Poll::Ready(None),
            Some(pause) => pause.as_mut().poll(context).map(|()| Some(Err(NoAnswer::Reset))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.cut.is_none() && self.rest.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.length)
    }
}

/// An answer with a body of the given type.
pub(crate) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Runs an infallible service on a request that is already in memory.
pub(crate) async fn call<S, B>(service: S, request: http::Request<Bytes>) -> Response<Bytes>
where
    S: tower::Service<http::Request<axum::body::Body>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    let request = request.map(axum::body::Body::from);
    let Ok(response) = tower::ServiceExt::oneshot(service, request).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("the body is held in memory");
    Response::from_parts(head, body.to_bytes())
}
