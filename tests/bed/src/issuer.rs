//! An OpenID Connect issuer, such as CI systems run for their jobs.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::Generate;
use serde_json::{Value, json};

use crate::server::answer;
use crate::service::{Serve, Service};

const KEY_ID: &str = "bed";
/// GitHub's tokens live this long.
const LIFETIME: u64 = 300;

/// An issuer with a key of its own. It serves discovery and its keys, and as GitHub does for a
/// job, tokens to whoever knows [`Issuer::REQUEST_TOKEN`].
pub type Issuer = Service<State>;

pub struct State {
    name: String,
    address: SocketAddr,
    key: SigningKey,
    job: Mutex<Option<Value>>,
}

impl Issuer {
    /// What a job proves itself with: `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
    pub const REQUEST_TOKEN: &str = "bed-request-token";

    /// Starts an issuer that its tokens call `name`, whatever its address is.
    pub fn start(name: &str) -> Issuer {
        Self::named(|_| name.to_owned())
    }

    /// Starts an issuer whose name is its URL, so that the discovery document lies where OpenID
    /// Connect Discovery (section 4) looks for it.
    pub fn local() -> Issuer {
        Self::named(|address| format!("http://{address}"))
    }

    fn named(name: impl FnOnce(SocketAddr) -> String) -> Issuer {
        Service::run_at(|address| State {
            name: name(address),
            address,
            key: SigningKey::generate(),
            job: Mutex::default(),
        })
    }

    /// The name: `iss` in the tokens.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Where a job asks for its token: `ACTIONS_ID_TOKEN_REQUEST_URL`.
    pub fn request_url(&self) -> String {
        format!("{}/token?api-version=2.0", self.url())
    }

    /// The claims of the job that asks from now on.
    pub fn set_job(&self, claims: Value) {
        *self.state.job.lock().expect("no token panics") = Some(claims);
    }

    /// A token with these claims; `iss`, `aud` (`sigstore`) and the times are added where missing.
    pub fn token(&self, claims: &Value) -> String {
        self.state.token(claims.clone(), "sigstore")
    }
}

impl Serve for State {
    fn serve(&self, request: &http::Request<Bytes>) -> Response<Bytes> {
        let json = |value: Value| answer(StatusCode::OK, "application/json", value.to_string());
        if request.method() != Method::GET {
            return answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "");
        }
        match request.uri().path() {
            "/.well-known/openid-configuration" => json(json!({
                "issuer": self.name,
                "jwks_uri": format!("http://{}/jwks", self.address),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            })),
            "/jwks" => {
                let point = self.key.verifying_key().to_sec1_point(false);
                let [x, y] = [point.x(), point.y()].map(|c| URL_SAFE_NO_PAD.encode(c.expect("a real point")));
                json(json!({"keys": [
                    {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID, "x": x, "y": y}
                ]}))
            }
            "/token" => {
                let sent = request.headers().get(http::header::AUTHORIZATION).and_then(|v| v.to_str().ok());
                let known = [
                    format!("bearer {}", Issuer::REQUEST_TOKEN),
                    format!("Bearer {}", Issuer::REQUEST_TOKEN),
                ];
                let job = self.job.lock().expect("no token panics").clone();
                let query = request.uri().query().unwrap_or_default();
                let audience = form_urlencoded::parse(query.as_bytes())
                    .find(|(name, _)| name == "audience")
                    .map_or_else(|| "https://github.com/acme".to_owned(), |(_, value)| value.into_owned());
                match job {
                    Some(claims) if known.iter().any(|known| sent == Some(known)) => {
                        let token = self.token(claims, &audience);
                        json(json!({"count": token.len(), "value": token}))
                    }
                    _ => {
                        answer(StatusCode::UNAUTHORIZED, "application/json", "{\"message\":\"unauthorized\"}")
                    }
                }
            }
            _ => answer(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n"),
        }
    }
}

impl State {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn token(&self, mut claims: Value, audience: &str) -> String {
        let now = seconds();
        let given = claims.as_object_mut().expect("claims are an object");
        for (name, value) in [
            ("iss", json!(self.name)),
            ("aud", json!(audience)),
            ("iat", json!(now)),
            ("nbf", json!(now - 5)),
            ("exp", json!(now + LIFETIME)),
        ] {
            given.entry(name).or_insert(value);
        }
        let header = json!({"typ": "JWT", "alg": "ES256", "kid": KEY_ID});
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature: Signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_vec()))
    }

    /// The claims of a token of this issuer for `sigstore`; an error is why it is none.
    pub(crate) fn check(&self, token: &str) -> Result<Value, String> {
        let (signed, signature) = token.rsplit_once('.').ok_or("not a token")?;
        let (_, claims) = signed.split_once('.').ok_or("not a token")?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "not base64url".to_owned());
        let claims: Value = serde_json::from_slice(&decode(claims)?).map_err(|e| e.to_string())?;
        if claims["iss"] != *self.name {
            return Err(format!("unsupported issuer: {}", claims["iss"].as_str().unwrap_or_default()));
        }
        let signature = Signature::from_slice(&decode(signature)?).map_err(|e| e.to_string())?;
        self.key
            .verifying_key()
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| "failed to verify the signature of the token".to_owned())?;
        if claims["aud"] != "sigstore" {
            return Err(format!("expected audience \"sigstore\" got {}", claims["aud"]));
        }
        if claims["exp"].as_u64().is_none_or(|end| end <= seconds()) {
            return Err("token is expired".to_owned());
        }
        Ok(claims)
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_secs()
}

/// The claims of a job of GitHub Actions, in the workflow `.github/workflows/{workflow}`.
pub fn github_job(repository: &str, workflow: &str, git_ref: &str, commit: &str) -> Value {
    let owner = repository.split('/').next().unwrap_or_default();
    let workflow_ref = format!("{repository}/.github/workflows/{workflow}@{git_ref}");
    json!({
        "sub": format!("repo:{repository}:ref:{git_ref}"),
        "repository": repository,
        "repository_id": "100100",
        "repository_owner": owner,
        "repository_owner_id": "200200",
        "repository_visibility": "public",
        "ref": git_ref,
        "sha": commit,
        "workflow": "release",
        "workflow_ref": workflow_ref,
        "workflow_sha": commit,
        "job_workflow_ref": workflow_ref,
        "job_workflow_sha": commit,
        "event_name": "push",
        "runner_environment": "github-hosted",
        "run_id": "42",
        "run_attempt": "1",
    })
}

/// The claims of a job of GitLab CI/CD, of the pipeline `.gitlab-ci.yml`.
pub fn gitlab_job(project: &str, branch: &str, commit: &str) -> Value {
    let namespace = project.rsplit_once('/').map_or("", |(namespace, _)| namespace);
    json!({
        "sub": format!("project_path:{project}:ref_type:branch:ref:{branch}"),
        "project_path": project,
        "project_id": "300300",
        "project_visibility": "public",
        "namespace_path": namespace,
        "namespace_id": "400400",
        "ref": branch,
        "ref_type": "branch",
        "sha": commit,
        "ci_config_ref_uri": format!("gitlab.com/{project}//.gitlab-ci.yml@refs/heads/{branch}"),
        "ci_config_sha": commit,
        "pipeline_source": "push",
        "runner_environment": "gitlab-hosted",
        "job_id": "42",
    })
}
