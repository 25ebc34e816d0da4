//! A token service for registries that leave it to another server who may do what.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::authority::Authority;
use crate::server::answer;
use crate::service::{Serve, Service};
use crate::{base64, basic};

/// How long after its `exp` a registry of the distribution project takes a token, to allow for
/// clocks that differ.
const LEEWAY: u64 = 60;

/// A service that gives out the JSON web tokens of the distribution token specification
/// (`token/jwt`): everything to one user, nothing to anybody else.
pub type TokenService = Service<State>;

pub struct State {
    authority: Authority,
    options: TokenOptions,
}

/// What a token service tells, and whom.
#[derive(Clone, Debug)]
pub struct TokenOptions {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
    /// How long a token is good for, in whole seconds; up to one less, for they end with a second.
    pub lifetime: Duration,
    /// What `expires_in` says.
    pub claimed_lifetime: Duration,
}

impl TokenService {
    /// The issuer of the tokens, and the service they are for.
    pub const NAME: &str = "quorate-bed";

    /// Starts a service with a key of its own.
    pub fn start(options: TokenOptions) -> TokenService {
        Service::run(State { authority: Authority::generate(Self::NAME), options })
    }

    /// The certificate (PEM) that the tokens rest on.
    pub fn root(&self) -> String {
        self.state.authority.root()
    }
}

impl Serve for State {
    const PATH: &'static str = "/token";

    fn serve(&self, request: &http::Request<Bytes>) -> Response<Bytes> {
        let State { authority, options } = self;
        let sent = request.headers().get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if sent != Some(&basic(&options.user, &options.password)) {
            return answer(StatusCode::UNAUTHORIZED, "text/plain", "wrong user name or password");
        }
        let query = request.uri().query().unwrap_or_default();
        let access: Vec<Value> = form_urlencoded::parse(query.as_bytes())
            .filter(|(name, _)| name == "scope")
            .flat_map(|(_, scopes)| scopes.split(' ').filter_map(granted).collect::<Vec<_>>())
            .collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_secs();
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [base64(authority.der())]});
        let claims = json!({
            "iss": TokenService::NAME,
            "aud": TokenService::NAME,
            "sub": options.user,
            "jti": "1",
            "iat": now - LEEWAY,
            "nbf": now - LEEWAY,
            "exp": now - LEEWAY + options.lifetime.as_secs(),
            "access": access,
        });
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = URL_SAFE_NO_PAD.encode(authority.sign(signed.as_bytes()));
        let body = json!({"token": format!("{signed}.{signature}"), "expires_in": options.claimed_lifetime.as_secs()});
        answer(StatusCode::OK, "application/json", body.to_string())
    }
}

/// An entry of a token's `access`: `repository:acme/app:pull,push`, taken apart.
fn granted(scope: &str) -> Option<Value> {
    let (resource, actions) = scope.rsplit_once(':')?;
    let (kind, name) = resource.split_once(':')?;
    Some(json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}))
}
