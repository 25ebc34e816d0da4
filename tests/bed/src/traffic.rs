//! What was asked of a server.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::header::{ACCEPT, AUTHORIZATION};

/// A request as a server saw it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: Option<String>,
    /// Each `Accept` line as it was sent.
    pub accept: Vec<String>,
    /// Whether an `Authorization` header came with it.
    pub authorization: bool,
    /// Whether it came over HTTP/2.
    pub http2: bool,
    /// The status of the answer; `None` where none was given.
    pub status: Option<u16>,
    /// When the head of the request had been read.
    pub started: Instant,
    /// When the answer was ready to be sent, or the client was gone; `None` until then.
    pub ended: Option<Instant>,
}

impl Request {
    /// Whether the method asks for a change.
    pub fn is_write(&self) -> bool {
        matches!(self.method.as_str(), "PUT" | "POST" | "PATCH" | "DELETE")
    }
}

/// All requests to one server, in order of arrival.
#[derive(Default)]
pub(crate) struct Traffic(Mutex<Requests>);

#[derive(Default)]
struct Requests {
    seen: Vec<(u64, Request)>,
    next: u64,
}

impl Traffic {
    pub(crate) fn open(self: &Arc<Self>, head: &http::request::Parts) -> Open {
        let request = Request {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            accept: head
                .headers
                .get_all(ACCEPT)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect(),
            authorization: head.headers.contains_key(AUTHORIZATION),
            http2: head.version == http::Version::HTTP_2,
            status: None,
            started: Instant::now(),
            ended: None,
        };
        let mut requests = self.0.lock().expect("recording never panics");
        let id = requests.next;
        requests.next += 1;
        requests.seen.push((id, request));
        Open { traffic: self.clone(), id, status: None }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        let requests = self.0.lock().expect("recording never panics");
        requests.seen.iter().map(|(_, r)| r.clone()).collect()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().expect("recording never panics").seen.clear();
    }
}

/// A request under way. It ends when this is dropped, which also happens when the client leaves.
pub(crate) struct Open {
    traffic: Arc<Traffic>,
    id: u64,
    status: Option<u16>,
}

impl Open {
    pub(crate) fn answered(mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut requests = self.traffic.0.lock().expect("recording never panics");
        if let Some((_, request)) = requests.seen.iter_mut().find(|(id, _)| *id == self.id) {
            request.status = self.status;
            request.ended = Some(Instant::now());
        }
    }
}

/// The longest chain of requests of which each began after the one before had ended: the number
/// of round trips that no concurrency has hidden.
pub fn depth(requests: &[Request]) -> usize {
    let mut spans: Vec<_> = requests.iter().filter_map(|r| Some((r.ended?, r.started))).collect();
    spans.sort();
    let mut depth = 0;
    let mut last_end = None;
    for (ended, started) in spans {
        if last_end.is_none_or(|end| end <= started) {
            depth += 1;
            last_end = Some(ended);
        }
    }
    depth
}
