//! Fulcio: a certificate authority for the identities in tokens.

mod certificate;
mod identity;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use der::{Decode, Encode};
use http::{Method, Response, StatusCode};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::{DecodePublicKey, EncodePublicKey};
use serde::Deserialize;
use serde_json::{Value, json};
use x509_cert::request::CertReq;

use crate::authority::pem;
use crate::issuer::{self, Issuer};
use crate::server::answer;
use crate::service::{self, Serve, Service};

pub(crate) use certificate::Authority;
use identity::Identity;

/// Fulcio's certificates live this long.
const LIFETIME: Duration = Duration::from_secs(600);

/// A certificate authority with its certificate transparency log, as Fulcio 1.8 behaves: the token
/// is checked, the possession of the key is proven, and the certificate carries the identity, the
/// claims, and a timestamp of the log.
pub type Fulcio = Service<State>;

pub struct State {
    name: String,
    authority: Authority,
    issuers: Vec<Arc<issuer::State>>,
    misissue: Mutex<Option<Misissue>>,
    lifetime: Mutex<Duration>,
}

/// What is wrong with the certificates that a [`Fulcio`] gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misissue {
    /// They are for another key.
    OtherKey,
    /// They name another identity than the token.
    OtherIdentity,
    /// They name another issuer than the token.
    OtherIssuer,
    /// They are signed by an authority that nobody trusts.
    OtherAuthority,
    /// Their log timestamp is signed by a log that nobody trusts.
    OtherLog,
    /// They have no log timestamp.
    NoTimestamp,
    /// They have expired long ago.
    Expired,
    /// They are not for signing code.
    OtherUse,
}

impl Fulcio {
    /// Starts an authority that believes these issuers.
    pub fn start(issuers: &[&Issuer]) -> Fulcio {
        let name = service::name("fulcio");
        Service::run(State {
            authority: Authority::generate(&name),
            name,
            issuers: issuers.iter().map(|issuer| issuer.state.clone()).collect(),
            misissue: Mutex::default(),
            lifetime: Mutex::new(LIFETIME),
        })
    }

    /// What is wrong with certificates from now on.
    pub fn misissue(&self, what: Option<Misissue>) {
        *self.state.misissue.lock().expect("no certificate panics") = what;
    }

    /// How long certificates live from now on.
    pub fn set_lifetime(&self, lifetime: Duration) {
        *self.state.lifetime.lock().expect("no certificate panics") = lifetime;
    }

    pub(crate) fn name(&self) -> &str {
        &self.state.name
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.state.authority
    }
}

/// What a Fulcio that runs elsewhere signs with, all of it new and in PEM: its certificate, the root
/// above that, and its private key (PKCS #8).
pub fn fulcio_authority(name: &str) -> [String; 3] {
    let authority = Authority::generate(name);
    let [certificate, root] = authority.chain().map(|der| pem("CERTIFICATE", &der));
    [certificate, root, pem("PRIVATE KEY", &authority.key())]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateRequest {
    credentials: Option<Credentials>,
    public_key_request: Option<PublicKeyRequest>,
    /// A PKCS#10 request in PEM, in base64: the other way to prove the possession of a key.
    certificate_signing_request: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    oidc_identity_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublicKeyRequest {
    public_key: PublicKey,
    proof_of_possession: String,
}

#[derive(Deserialize)]
struct PublicKey {
    content: String,
}

impl PublicKeyRequest {
    /// The key, if whoever asks has it.
    fn key(&self, challenge: &str) -> Result<VerifyingKey, String> {
        let key = key_of(&self.public_key.content)
            .ok_or("The public key supplied in the request could not be parsed")?;
        STANDARD
            .decode(&self.proof_of_possession)
            .ok()
            .and_then(|proof| Signature::from_der(&proof).ok())
            .and_then(|proof| key.verify(challenge.as_bytes(), &proof).ok())
            .ok_or("The signature supplied in the request could not be verified")?;
        Ok(key)
    }
}

/// The key of a certificate signing request that is signed with it.
fn key_of_request(base64: &str) -> Option<VerifyingKey> {
    let pem = String::from_utf8(STANDARD.decode(base64).ok()?).ok()?;
    let request = CertReq::from_der(&from_pem(&pem)?.1).ok()?;
    let key = VerifyingKey::from_public_key_der(&request.info.public_key.to_der().ok()?).ok()?;
    let signature = Signature::from_der(request.signature.as_bytes()?).ok()?;
    key.verify(&request.info.to_der().ok()?, &signature).ok()?;
    Some(key)
}

impl Serve for State {
    fn serve(&self, request: &http::Request<Bytes>) -> Response<Bytes> {
        let ok = |value: Value| answer(StatusCode::OK, "application/json", value.to_string());
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/api/v2/signingCert") => match self.issue(request) {
                Ok(chain) => ok(json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}})),
                Err(message) => {
                    let body = json!({"code": 3, "message": message, "details": []});
                    answer(StatusCode::BAD_REQUEST, "application/json", body.to_string())
                }
            },
            (&Method::GET, "/api/v2/trustBundle") => ok(
                json!({"chains": [{"certificates": self.authority.chain().map(|der| pem("CERTIFICATE", &der))}]}),
            ),
            (&Method::GET, "/api/v2/configuration") => ok(json!({
                "issuers": self.issuers.iter().map(|issuer| json!({
                    "issuerUrl": issuer.name(),
                    "audience": "sigstore",
                    "challengeClaim": "sub",
                    "issuerType": "ci-provider",
                })).collect::<Vec<_>>(),
            })),
            _ => answer(StatusCode::NOT_FOUND, "application/json", "{\"code\":5,\"message\":\"Not Found\"}"),
        }
    }
}

impl State {
    /// The certificate and those above it, in PEM.
    fn issue(&self, http: &http::Request<Bytes>) -> Result<Vec<String>, String> {
        let request: CertificateRequest =
            serde_json::from_slice(http.body()).map_err(|error| format!("invalid request: {error}"))?;
        let bearer = || http.headers().get("authorization")?.to_str().ok()?.strip_prefix("Bearer ");
        let token = request.credentials.as_ref().map(|credentials| &*credentials.oidc_identity_token);
        let token = token.or_else(bearer).ok_or("There is no identity token")?;
        let issuer = self.issuer(token)?;
        let claims = issuer
            .check(token)
            .map_err(|why| format!("There was an error processing the identity token: {why}"))?;
        let mut identity = Identity::of(&claims)?;

        let mut key = match (&request.public_key_request, &request.certificate_signing_request) {
            (Some(request), None) => request.key(&identity.challenge)?,
            (None, Some(request)) => key_of_request(request)
                .ok_or("The certificate signing request could not be parsed or verified")?,
            _ => return Err("There must be one of public key and certificate signing request".to_owned()),
        };
        let misissue = *self.misissue.lock().expect("no certificate panics");
        match misissue {
            Some(Misissue::OtherKey) => key = *certificate::any_key().verifying_key(),
            Some(Misissue::OtherIdentity) => {
                identity =
                    Identity::of(&issuer::github_job("evil/app", "build.yml", "refs/heads/main", "00"))?
                        .issued_by(issuer.name());
            }
            Some(Misissue::OtherIssuer) => identity = identity.issued_by("https://issuer.evil.test"),
            _ => {}
        }
        let key = key.to_public_key_der().expect("a P-256 key has a DER form");
        let lifetime = *self.lifetime.lock().expect("no certificate panics");
        let leaf = self.authority.issue(key.as_bytes(), &identity, lifetime, misissue);
        let leaf = leaf.to_der().expect("a certificate has a DER form");
        let chain = self.authority.chain();
        Ok([leaf].iter().chain(&chain).map(|der| pem("CERTIFICATE", der)).collect())
    }

    /// The issuer that a token names.
    fn issuer(&self, token: &str) -> Result<&issuer::State, String> {
        let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims: Option<Value> = claims.and_then(|json| serde_json::from_slice(&json).ok());
        let named = claims.as_ref().and_then(|claims| claims["iss"].as_str()).unwrap_or_default();
        self.issuers.iter().find(|issuer| issuer.name() == named).map(AsRef::as_ref).ok_or_else(|| {
            format!("There was an error processing the identity token: unsupported issuer: {named}")
        })
    }
}

/// The bytes of a PEM block, whatever its label.
fn from_pem(text: &str) -> Option<(&str, Vec<u8>)> {
    let (label, rest) = text.trim().strip_prefix("-----BEGIN ")?.split_once("-----")?;
    let (base64, _) = rest.split_once("-----END ")?;
    let base64: String = base64.split_ascii_whitespace().collect();
    Some((label, STANDARD.decode(base64).ok()?))
}

/// The public key of a certificate or of itself, from PEM.
pub(crate) fn key_of(pem: &str) -> Option<VerifyingKey> {
    let der = match from_pem(pem)? {
        ("CERTIFICATE", der) => x509_cert::Certificate::from_der(&der)
            .ok()?
            .tbs_certificate()
            .subject_public_key_info()
            .to_der()
            .ok()?,
        ("PUBLIC KEY", der) => der,
        _ => return None,
    };
    VerifyingKey::from_public_key_der(&der).ok()
}
