//! Fulcio: a certificate for a key of this run, in exchange for an identity token
//! (sigstore/fulcio, `fulcio.proto`, API v2).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use sigstore_crypto::parse_certificate_info;
use sigstore_types::DerCertificate;
use tokio::sync::Mutex;
use url::Url;

use super::clock;
use super::oidc::{Token, Tokens};
use super::service::{Body, Service, Trouble, below, refused};
use super::signer::KeyPair;
use crate::attestation::Identity;
use crate::error::Error;

/// A certificate that ends sooner is not begun with: a signature must be logged before.
const LEAST: SignedDuration = SignedDuration::from_secs(60);
/// So many bytes of a token in the words of a service are no coincidence.
const PART: usize = 16;
/// The clocks of two machines differ.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A signer without a key of its own: each run makes one, and has it certified.
pub struct Keyless {
    fulcio: Url,
    tokens: Tokens,
    current: Mutex<Option<Arc<Certified>>>,
}

/// A key, and the certificate that says whose it is.
pub struct Certified {
    /// The key. It never leaves this process.
    pub pair: KeyPair,
    /// The certificate, in DER.
    pub certificate: Vec<u8>,
    /// Whom it names.
    pub identity: Identity,
    not_after: Timestamp,
}

impl Keyless {
    /// Nothing is asked yet.
    pub fn new(fulcio: Url, tokens: Tokens) -> Self {
        Self { fulcio, tokens, current: Mutex::default() }
    }

    /// A key with a certificate that is good for a minute, or for as long as this Fulcio's are. The
    /// signatures of a run share it. It is not `spent`, which turned out to be of no use any more.
    ///
    /// # Errors
    /// When there is no token, or Fulcio refuses it, cannot be reached, or answers something else.
    pub async fn certified(
        &self,
        service: &Service,
        spent: Option<&Arc<Certified>>,
    ) -> Result<Arc<Certified>, Error> {
        let mut current = self.current.lock().await;
        if let Some(certified) = current.as_ref()
            && spent.is_none_or(|spent| !Arc::ptr_eq(spent, certified))
            && certified.not_after.duration_since(clock::now()) > LEAST
        {
            return Ok(certified.clone());
        }
        let token = self.tokens.get(service).await?;
        let certified = Arc::new(certify(service, &self.fulcio, &token).await?);
        *current = Some(certified.clone());
        Ok(certified)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    signed_certificate_embedded_sct: Option<Chain>,
}

#[derive(Deserialize)]
struct Chain {
    chain: Certificates,
}

#[derive(Deserialize)]
struct Certificates {
    certificates: Vec<String>,
}

/// Makes a key and has it certified.
///
/// Checked here, before anything is signed: that the certificate is for this key, names the bearer
/// of the token, and is valid now. That it leads to an authority and was logged is proven with the
/// finished bundle, before that is used.
async fn certify(service: &Service, fulcio: &Url, token: &Token) -> Result<Certified, Error> {
    let (pair, _) = KeyPair::generate()?;
    let proof = pair.sign(token.challenge().as_bytes())?;
    let request = json!({
        "credentials": {"oidcIdentityToken": token.expose()},
        "publicKeyRequest": {
            "publicKey": {"algorithm": "ECDSA", "content": pair.public().to_pem()},
            "proofOfPossession": STANDARD.encode(proof),
        },
    });
    let url = below(fulcio, "api/v2/signingCert")?;
    let bytes = request.to_string().into_bytes();
    let body = Body { content_type: "application/json", accept: "application/json", bytes };
    let answer = service.post(&url, &body).await.map_err(|error| without(token, &url, error))?;
    if !matches!(answer.status, 200 | 201) {
        let issuer = token.issuer();
        return Err(without(token, &url, refused(&url, answer.status, &answer.bytes)).hint(format!(
            "the token is of the issuer `{issuer}`; if this Fulcio does not know it, `--key FILE` signs with a key"
        )));
    }
    let wrong = |why: String| {
        Trouble::Malformed
            .with(format!("the certificate that {fulcio} gave cannot be used: {why}"))
            .hint("ask who runs this Fulcio; `--key FILE` signs with a key")
    };
    let issued: Issued = serde_json::from_slice(&answer.bytes)
        .map_err(|_| wrong("the answer has no certificate".to_owned()))?;
    let pem = issued
        .signed_certificate_embedded_sct
        .and_then(|issued| issued.chain.certificates.into_iter().next());
    let pem = pem.ok_or_else(|| wrong("it does not say where it was logged".to_owned()))?;
    let certificate = DerCertificate::from_pem(&pem).map_err(|error| wrong(error.to_string()))?;
    let info = parse_certificate_info(&certificate).map_err(|error| wrong(error.to_string()))?;
    if info.public_key.as_bytes() != pair.public().to_der() {
        return Err(wrong("it is for another key".to_owned()));
    }
    let identity = Identity::from_der(certificate.as_bytes())
        .map_err(|(reason, detail)| wrong(format!("{detail} ({})", reason.code())))?;
    if !token.is(&identity) {
        return Err(wrong(format!("it names {identity}, and not the bearer of the token")));
    }
    let now = clock::now();
    if now.duration_since(info.not_after) > SKEW || info.not_before.duration_since(now) > SKEW {
        let (start, end) = (info.not_before, info.not_after);
        return Err(wrong(format!("it is valid from {start} to {end}, and it is {now}")));
    }
    Ok(Certified { pair, certificate: certificate.as_bytes().to_vec(), identity, not_after: info.not_after })
}

/// The error, unless the service sent a part of the token back.
fn without(token: &Token, url: &Url, error: Error) -> Error {
    let (said, token) = (error.to_string(), token.expose().as_bytes());
    let told = said.as_bytes().windows(PART).any(|part| token.windows(PART).any(|other| other == part));
    if told {
        return Error::undecided(format!("{url} refused, and its words are not shown: the token is in them"));
    }
    error
}
