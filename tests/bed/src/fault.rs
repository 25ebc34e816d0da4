//! How a server is told to misbehave.

use std::sync::Mutex;
use std::time::Duration;

/// A rule that makes a server misbehave on the requests it matches.
///
/// Rules are tried in the order they were added; the first that matches and is not used up acts.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The method to match; any when `None`.
    pub method: Option<String>,
    /// What path and query must contain; the empty string matches all.
    pub path_contains: String,
    /// How many matching requests pass unharmed first.
    pub skip: usize,
    /// How many requests the rule then acts on; all when `None`.
    pub times: Option<usize>,
    /// What happens to them.
    pub action: FaultAction,
}

/// What a [`Fault`] does to a request.
#[derive(Clone, Debug)]
pub enum FaultAction {
    /// Answer this, and do nothing.
    Status(Answer),
    /// The real answer announces its whole length, and the connection ends in the middle.
    HalfBody,
    /// The first half of the real body, with a length to match: only a digest can tell.
    Truncate,
    /// The real status and headers with another body.
    Replace(Vec<u8>),
    /// Never answer.
    Hang,
    /// Reset the connection without an answer.
    Reset,
    /// Answer as usual, but later.
    Delay(Duration),
    /// Do what was asked, then answer this: the write that succeeded and was never confirmed.
    AfterWriteStatus(Answer),
    /// Do what was asked, and never answer.
    AfterWriteHang,
    /// A page of HTML with status 200, as a captive portal or a misrouted proxy sends.
    Html,
}

/// An answer made up by a [`Fault`].
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// Further headers, such as `Retry-After`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The `Content-Type`, if any.
    pub content_type: Option<String>,
}

impl Answer {
    /// An answer with no body.
    pub fn status(code: u16) -> Answer {
        Answer { code, headers: Vec::new(), body: Vec::new(), content_type: None }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body and its type.
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.content_type = Some(content_type.to_owned());
        self.body = body.into();
        self
    }
}

impl Fault {
    /// A rule that acts on every request.
    pub fn new(action: FaultAction) -> Fault {
        Fault { method: None, path_contains: String::new(), skip: 0, times: None, action }
    }

    /// Answers this status with no body to every request.
    pub fn status(code: u16) -> Fault {
        Fault::new(FaultAction::Status(Answer::status(code)))
    }

    /// Only requests with this method.
    pub fn method(mut self, method: &str) -> Fault {
        self.method = Some(method.to_owned());
        self
    }

    /// Only requests whose path and query contain this.
    pub fn path(mut self, part: &str) -> Fault {
        self.path_contains = part.to_owned();
        self
    }

    /// Lets this many matching requests pass first.
    pub fn skip(mut self, count: usize) -> Fault {
        self.skip = count;
        self
    }

    /// Acts this many times, then no more.
    pub fn times(mut self, count: usize) -> Fault {
        self.times = Some(count);
        self
    }

    fn matches(&self, method: &str, path_and_query: &str) -> bool {
        self.method.as_deref().is_none_or(|m| m == method) && path_and_query.contains(&self.path_contains)
    }
}

/// The rules of one server, with what is left of their counts.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(crate) fn add(&self, fault: Fault) {
        self.0.lock().expect("no rule panics").push(fault);
    }

    pub(crate) fn clear(&self) {
        self.0.lock().expect("no rule panics").clear();
    }

    pub(crate) fn next(&self, method: &str, path_and_query: &str) -> Option<FaultAction> {
        for fault in self.0.lock().expect("no rule panics").iter_mut() {
            if fault.times == Some(0) || !fault.matches(method, path_and_query) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times = fault.times.map(|times| times - 1);
            return Some(fault.action.clone());
        }
        None
    }
}
