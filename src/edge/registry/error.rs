//! What can go wrong between here and a registry.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::address::is_loopback;
use crate::oci::Digest;

/// A request as it is named in errors and logs: never its query, which may hold a signature or
/// an upload state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The HTTP method.
    pub method: Box<str>,
    /// The URL without user, password, query and fragment.
    pub url: Box<str>,
    /// The registry's host as it is written in references.
    pub host: Box<str>,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

/// What to do about a certificate that nobody who is trusted vouches for.
pub(in crate::edge) const OWN_AUTHORITY: &str =
    "if it is a server of your own: `--ca-file FILE` trusts the authority of its certificate";

/// Why there is no TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// The peer speaks none.
    Absent,
    /// Nobody who is trusted vouches for its certificate.
    Unknown,
}

/// What the server said: status, and its own code and words where it gave any (distribution-spec,
/// "Error Codes"). At most 300 characters, no control characters, no secret of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The code and message.
    pub text: String,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            write!(f, "{}", self.status)
        } else {
            write!(f, "{} ({})", self.status, self.text)
        }
    }
}

/// Why the registry could not be asked, or its answer not believed.
///
/// None of these means that something is absent: that is `Ok(None)`, and only the registry's own
/// 404 makes it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client could not be made: a CA file, or the TLS roots.
    #[error("cannot prepare for TLS: {0}")]
    Setup(String),
    /// No connection, or it broke, every time.
    #[error("{asked}: no answer after {attempts} attempt(s)")]
    Unreachable {
        /// What was asked.
        asked: Asked,
        /// How many times.
        attempts: u32,
        /// What was wrong with TLS, if it is known.
        tls: Option<Tls>,
        /// What the connection said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A request, or the whole run, took longer than its limit.
    #[error("{asked}: {}", if *.whole_run { "the time limit of the whole run is over" } else { "no complete answer within the time limit of a request" })]
    Timeout {
        /// What was asked.
        asked: Asked,
        /// Whether it was the limit of the whole run.
        whole_run: bool,
    },
    /// 401 or 403.
    #[error("{asked}: the registry denied it: {reply}{}", .lookup.as_deref().map(|l| format!("; {l}")).unwrap_or_default())]
    Denied {
        /// What was asked.
        asked: Asked,
        /// What was answered.
        reply: Reply,
        /// What is known of the credentials that were or were not used; never the secret.
        lookup: Option<String>,
    },
    /// 429, and waiting longer was not possible.
    #[error("{asked}: the registry throttles us: {reply}, {attempts} attempt(s){}", .retry_after.map(|d| format!(", it asks to wait {} s", d.as_secs())).unwrap_or_default())]
    Throttled {
        /// What was asked.
        asked: Asked,
        /// What was answered last.
        reply: Reply,
        /// How many times it was tried.
        attempts: u32,
        /// `Retry-After`, if it was given.
        retry_after: Option<Duration>,
    },
    /// 408 or 5xx, every time.
    #[error("{asked}: the registry failed: {reply}, {attempts} attempt(s)")]
    Server {
        /// What was asked.
        asked: Asked,
        /// What was answered last.
        reply: Reply,
        /// How many times it was tried.
        attempts: u32,
    },
    /// Another status that the specification does not have here.
    #[error("{asked}: the registry refused it: {reply}")]
    Refused {
        /// What was asked.
        asked: Asked,
        /// What was answered.
        reply: Reply,
    },
    /// The answer is not what the specification says.
    #[error("{asked}: malformed answer: {why}")]
    Malformed {
        /// What was asked.
        asked: Asked,
        /// What is wrong with it.
        why: String,
    },
    /// Other bytes than the digest names.
    #[error("{asked}: expected {expected}, the answer is {found}")]
    DigestMismatch {
        /// What was asked.
        asked: Asked,
        /// The digest asked for, or that the registry named.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The right digest, with another length than the descriptor says.
    #[error("{asked}: expected {expected} bytes, the content has {found}")]
    SizeMismatch {
        /// What was asked.
        asked: Asked,
        /// The descriptor's `size`.
        expected: u64,
        /// The length of what came.
        found: u64,
    },
    /// More bytes than the limit for such content.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// A request or a thing.
        what: String,
        /// In bytes.
        limit: u64,
    },
    /// More of something than the limit.
    #[error("{what}: more than the limit of {limit}")]
    TooMany {
        /// Of what.
        what: String,
        /// How many are allowed.
        limit: usize,
    },
    /// A redirect or link that is not followed.
    #[error("{asked}: a redirect to {to} is not followed: {why}")]
    Redirect {
        /// What was asked.
        asked: Asked,
        /// The scheme and host it leads to.
        to: String,
        /// Which rule forbids it.
        why: &'static str,
    },
    /// No credentials may be sent where the registry wants them, or they could not be had.
    #[error("credentials for {host}: {why}")]
    Credentials {
        /// The registry.
        host: String,
        /// What failed.
        why: String,
        /// The host of a token service that was not trusted.
        realm: Option<String>,
    },
}

impl Error {
    /// The stable reason code.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Setup(_) => "registry-setup",
            Self::Unreachable { .. } => "registry-unreachable",
            Self::Timeout { .. } => "registry-timeout",
            Self::Denied { .. } => "registry-denied",
            Self::Throttled { .. } => "registry-throttled",
            Self::Server { .. } => "registry-server-error",
            Self::Refused { .. } => "registry-refused",
            Self::Malformed { .. } => "registry-malformed",
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => "registry-digest-mismatch",
            Self::TooLarge { .. } => "registry-too-large",
            Self::TooMany { .. } => "registry-too-many",
            Self::Redirect { .. } => "registry-redirect",
            Self::Credentials { .. } => "registry-credentials",
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Denied { asked, .. } => format!("docker login {}", asked.host),
            Self::Unreachable { asked, tls: Some(Tls::Absent), .. } if is_loopback(&asked.host) => {
                format!("the server speaks no TLS; leave out --tls {}", asked.host)
            }
            Self::Unreachable { asked, tls: Some(Tls::Absent), .. } => {
                format!("the server speaks no TLS; if that is meant: --plain-http {}", asked.host)
            }
            Self::Unreachable { tls: Some(Tls::Unknown), .. } => OWN_AUTHORITY.to_owned(),
            Self::Unreachable { asked, .. } => {
                format!("check the name `{}` and the network; then run the same again", asked.host)
            }
            // What servers written in Go say to plain http.
            Self::Refused { asked, reply }
                if asked.url.starts_with("http://") && reply.text.contains("HTTPS server") =>
            {
                format!("the server wants TLS: --tls {}", asked.host)
            }
            Self::Credentials { realm: Some(realm), .. } => {
                format!("if {realm} is the registry's token service: --token-realm {realm}")
            }
            Self::Credentials { host, .. } => format!("docker login {host}"),
            Self::Throttled { .. } | Self::Server { .. } => "try again later".to_owned(),
            Self::Setup(_) => "check `--ca-file`".to_owned(),
            Self::Timeout { .. } => "run the same again, with a longer `--timeout` if need be".to_owned(),
            Self::Malformed { .. } => "a proxy or a portal may have answered".to_owned(),
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => {
                "do not trust this registry or proxy until it is explained".to_owned()
            }
            Self::TooLarge { .. } => "look what was pushed there".to_owned(),
            Self::TooMany { .. } => "somebody may be flooding the repository".to_owned(),
            Self::Refused { .. } | Self::Redirect { .. } => "ask who runs the registry".to_owned(),
        }
    }
}

/// Server text made fit to be shown: one line, no control or direction characters, short.
pub(super) fn shown(text: &str) -> String {
    let mut clean = String::new();
    for c in text.chars() {
        // Bidirectional and zero-width controls could make a terminal show other words.
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if c.is_whitespace() || c.is_control() {
            if !clean.ends_with(' ') {
                clean.push(' ');
            }
        } else if !hidden {
            clean.push(c);
        }
    }
    let clean = clean.trim();
    if clean.chars().count() > 300 {
        clean.chars().take(299).chain(['…']).collect()
    } else {
        clean.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn server_text_cannot_play_with_the_terminal() {
        assert_eq!(shown("a\u{1b}[31mb\r\n\n c\u{202e}d\u{0}"), "a [31mb cd");
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), 300);
    }
}
