//! Credentials: basic, and the token protocol that registries share.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::json;

use crate::server::{OverTls, answer};
use crate::{base64, basic};

/// Which credentials a registry asks for.
#[derive(Clone, Debug)]
pub enum Auth {
    /// None: everyone may do everything.
    None,
    /// A user name and password with every request.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token, given out by the registry's own `/token` for a user name and password.
    Bearer {
        /// The user.
        user: String,
        /// The password.
        password: String,
        /// How long a token is good for.
        lifetime: Duration,
        /// Whether a token to pull is given to anyone.
        anonymous_pull: bool,
    },
}

/// An action on a repository.
type Grant = (String, String);

#[derive(Clone)]
struct Token {
    grants: HashSet<Grant>,
    everything: bool,
    good_until: Instant,
}

pub(super) struct Access {
    auth: Auth,
    tokens: Mutex<HashMap<String, Token>>,
    /// Stands for the user where a token is asked for by POST.
    identity: String,
}

impl Access {
    pub(super) fn new(auth: Auth) -> Access {
        Access { auth, tokens: Mutex::default(), identity: random() }
    }

    /// The identity (refresh) token of the user.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// The challenge to answer with, unless the request may go on.
    pub(super) fn refuse(&self, request: &Request<Bytes>, host: &str) -> Option<Response<Bytes>> {
        let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        match &self.auth {
            Auth::None => None,
            Auth::Basic { user, password } => {
                if sent.is_some_and(|sent| is_basic(sent, user, password)) {
                    return None;
                }
                Some(challenge("Basic realm=\"quorate-bed\""))
            }
            Auth::Bearer { .. } => {
                let needed = needed(request);
                let refusal = match sent.and_then(|sent| sent.strip_prefix("Bearer ")) {
                    None => "",
                    Some(token) => match self.valid(token) {
                        None => ",error=\"invalid_token\"",
                        Some(token) if token.everything => return None,
                        Some(token) if token.grants.is_superset(&split(&needed)) => return None,
                        Some(_) => ",error=\"insufficient_scope\"",
                    },
                };
                let scope = if needed.is_empty() {
                    String::new()
                } else {
                    format!(",scope=\"{}\"", needed.join(" "))
                };
                let realm = realm(request, host);
                Some(challenge(&format!("Bearer realm=\"{realm}\",service=\"{host}\"{scope}{refusal}")))
            }
        }
    }

    /// The token endpoint.
    pub(super) fn token(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let Auth::Bearer { user, password, lifetime, anonymous_pull } = &self.auth else {
            return error(StatusCode::NOT_FOUND, "UNSUPPORTED", "no tokens are needed");
        };
        if request.method() == Method::POST {
            return self.token_for_identity(request, *lifetime);
        }
        let known = match request.headers().get(AUTHORIZATION) {
            None if *anonymous_pull => false,
            Some(sent) if sent.to_str().is_ok_and(|s| is_basic(s, user, password)) => true,
            _ => {
                return error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "wrong user name or password");
            }
        };
        let query = request.uri().query().unwrap_or_default();
        // What may not be granted is left out without a word, as the protocol wants it.
        let grants =
            scopes(query.as_bytes()).into_iter().filter(|(_, action)| known || action == "pull").collect();
        let token = self.issue(grants, false, *lifetime);
        let body = json!({
            "token": token,
            "access_token": token,
            "expires_in": lifetime.as_secs().max(1),
        });
        answer(StatusCode::OK, "application/json", body.to_string())
    }

    /// The OAuth2 form of the same, which calls the token `access_token` alone.
    fn token_for_identity(&self, request: &Request<Bytes>, lifetime: Duration) -> Response<Bytes> {
        let form: HashMap<_, _> = form_urlencoded::parse(request.body()).into_owned().collect();
        let given = |name: &str| form.get(name).map_or("", String::as_str);
        if given("grant_type") != "refresh_token"
            || ["service", "client_id"].iter().any(|n| given(n).is_empty())
        {
            return error(StatusCode::BAD_REQUEST, "UNSUPPORTED", "invalid_request");
        }
        if given("refresh_token") != self.identity {
            return error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "wrong identity token");
        }
        let token = self.issue(scopes(request.body()), false, lifetime);
        let body = json!({
            "access_token": token,
            "refresh_token": self.identity,
            "scope": given("scope"),
            "expires_in": lifetime.as_secs().max(1),
        });
        answer(StatusCode::OK, "application/json", body.to_string())
    }

    /// An `Authorization` value that may do everything.
    pub(super) fn full(&self) -> Option<String> {
        match &self.auth {
            Auth::None => None,
            Auth::Basic { user, password } => Some(basic(user, password)),
            Auth::Bearer { .. } => {
                let hour = Duration::from_secs(3600);
                Some(format!("Bearer {}", self.issue(HashSet::new(), true, hour)))
            }
        }
    }

    pub(super) fn expire(&self) {
        self.tokens.lock().expect("no token panics").clear();
    }

    fn issue(&self, grants: HashSet<Grant>, everything: bool, lifetime: Duration) -> String {
        let name = random();
        let token = Token { grants, everything, good_until: Instant::now() + lifetime };
        let mut tokens = self.tokens.lock().expect("no token panics");
        tokens.insert(name.clone(), token);
        name
    }

    fn valid(&self, name: &str) -> Option<Token> {
        let tokens = self.tokens.lock().expect("no token panics");
        let token = tokens.get(name)?;
        (Instant::now() < token.good_until).then(|| token.clone())
    }
}

fn random() -> String {
    let mut random = [0; 24];
    getrandom::fill(&mut random).expect("the system has randomness");
    base64(random)
}

/// The scopes of a query or form; one parameter may hold several.
fn scopes(parameters: &[u8]) -> HashSet<Grant> {
    let scopes: Vec<String> = form_urlencoded::parse(parameters)
        .filter(|(name, _)| name == "scope")
        .flat_map(|(_, value)| value.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    split(&scopes)
}

fn is_basic(sent: &str, user: &str, password: &str) -> bool {
    sent == basic(user, password)
}

/// Where tokens are: where the registry was asked, if that was over TLS.
fn realm(request: &Request<Bytes>, host: &str) -> String {
    if request.extensions().get::<OverTls>().is_none() {
        return format!("http://{host}/token");
    }
    // HTTP/2 names the host in the target, HTTP/1.1 in a header.
    let named = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let host = request.uri().authority().map(|authority| authority.as_str()).or(named).unwrap_or(host);
    format!("https://{host}/token")
}

/// The scopes a request needs, as they are written in a challenge.
fn needed(request: &Request<Bytes>) -> Vec<String> {
    let Some(repository) = repository(request.uri().path()) else {
        return Vec::new();
    };
    let actions = match *request.method() {
        Method::GET | Method::HEAD => "pull",
        Method::DELETE => "delete",
        _ => "pull,push",
    };
    let mut scopes = vec![format!("repository:{repository}:{actions}")];
    let query = request.uri().query().unwrap_or_default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        // A blob is mounted from a repository one may read.
        if name == "from" {
            scopes.push(format!("repository:{value}:pull"));
        }
    }
    scopes
}

fn repository(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/v2/")?;
    let end =
        ["/manifests/", "/blobs/", "/tags/list", "/referrers/"].iter().find_map(|part| rest.rfind(part))?;
    Some(&rest[..end])
}

fn split(scopes: &[String]) -> HashSet<Grant> {
    let mut grants = HashSet::new();
    for scope in scopes {
        // The name of a repository may hold a colon: a registry's port.
        let Some((resource, actions)) = scope.rsplit_once(':') else {
            continue;
        };
        for action in actions.split(',') {
            grants.insert((resource.to_owned(), action.to_owned()));
        }
    }
    grants
}

fn challenge(value: &str) -> Response<Bytes> {
    let mut response = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
    let value = HeaderValue::from_str(value).expect("a challenge is a header value");
    response.headers_mut().insert(WWW_AUTHENTICATE, value);
    response
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Bytes> {
    let body = json!({"errors": [{"code": code, "message": message, "detail": null}]});
    answer(status, "application/json", body.to_string())
}
