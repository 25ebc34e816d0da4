//! Uploading blobs, by `oci-client` and with our token (distribution-spec, "Pushing blobs").
//!
//! `oci-client` sends no credentials to an upload location on another host. It also panics on a
//! location that is no URL, retries nothing and does not know the run's limits; what it does is
//! therefore done in a task of its own, within a time, and asked again from here.

use std::time::Duration;

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::token_cache::{RegistryOperation, RegistryToken, RegistryTokenType};
use oci_client::{Client, Reference};
use reqwest::Method;
use url::Url;

use crate::oci::{Digest, Repository};

use super::Registry;
use super::clients::roots_are_chosen;
use super::error::{Asked, Error, Reply, shown};
use super::host::{Access, Host, Manner};
use super::retry;
use super::transport::{Call, Follow, MAX_ERROR_BODY, Proof, asked};

impl Registry {
    /// Uploads a blob, unless the repository has it, and returns its digest.
    pub async fn push_blob(&self, repository: &Repository, bytes: Vec<u8>) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        if self.has_blob(repository, digest).await? {
            return Ok(digest);
        }
        self.upload_blob(repository, bytes).await
    }

    /// Uploads a blob that is not expected to be there.
    pub(super) async fn upload_blob(&self, repository: &Repository, bytes: Vec<u8>) -> Result<Digest, Error> {
        let digest = Digest::of(&bytes);
        let host = self.host(repository)?;
        let path = repository.path();
        if host.manner().is_none() {
            // Somebody else is asking the first question; if nobody is, it is asked here.
            drop(host.gate.lock().await);
            if host.manner().is_none() {
                self.has_blob(repository, digest).await?;
            }
        }
        let url = host.url(path, "blobs/uploads/")?;
        let asked = asked(&host, &Method::POST, &url);
        let bytes = bytes::Bytes::from(bytes);
        let mut delays = retry::delays();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match self.upload(&host, path, bytes.clone(), digest, &asked).await {
                Ok(()) => return Ok(digest),
                Err(error) => error,
            };
            let (again, error) = match error {
                Error::Throttled { asked, reply, retry_after, .. } => {
                    (true, Error::Throttled { asked, reply, attempts, retry_after })
                }
                Error::Server { asked, reply, .. } => (true, Error::Server { asked, reply, attempts }),
                Error::Unreachable { asked, not_tls, source, .. } => {
                    (true, Error::Unreachable { asked, attempts, not_tls, source })
                }
                // A token that ran out is renewed once. A registry that everybody may read says
                // only now how it wants to be asked, and not to us.
                error @ Error::Denied { .. } if attempts == 1 => {
                    if matches!(host.manner(), Some(Manner::Open)) {
                        self.ask_to_upload(&host, path, url.clone()).await?;
                    }
                    (true, error)
                }
                error => (false, error),
            };
            let Some(delay) = delays.next().filter(|_| again) else {
                return Err(error);
            };
            if std::time::Instant::now() + delay >= self.deadline {
                return Err(error);
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// Begins an upload, and leaves it, to learn how the registry wants to be asked.
    async fn ask_to_upload(&self, host: &Host, path: &str, url: Url) -> Result<(), Error> {
        let call = Call {
            method: Method::POST,
            url,
            accept: None,
            body: None,
            limit: MAX_ERROR_BODY,
            follow: Follow::Nowhere,
            retry: false,
            proof: Proof::Registry { path: path.to_owned(), access: Access::Push },
            fresh: false,
            led: false,
        };
        self.send(host, call).await.map(drop)
    }

    async fn upload(
        &self,
        host: &Host,
        path: &str,
        bytes: bytes::Bytes,
        digest: Digest,
        asked: &Asked,
    ) -> Result<(), Error> {
        let client = host.uploads.get_or_try_init(|| async { self.upload_client(host) }).await?.clone();
        // The API's own host: `oci-client` would write Docker Hub's name in yet another way.
        let authority = match host.api.port() {
            Some(port) => format!("{}:{port}", host.api.host_str().unwrap_or_default()),
            None => host.api.host_str().unwrap_or_default().to_owned(),
        };
        let target = Reference::with_tag(authority.clone(), path.to_owned(), "none".to_owned());
        let proof = self.prove(host, path, Access::Push).await?;
        let token = match (&proof.basic, &proof.token) {
            (Some((user, password)), _) => {
                Some(RegistryTokenType::Basic(user.clone(), password.expose().to_owned()))
            }
            (None, Some(token)) => {
                Some(RegistryTokenType::Bearer(RegistryToken::Token { token: token.expose().to_owned() }))
            }
            (None, None) => None,
        };
        if let Some(token) = token {
            // Without a stored login the tokens are not looked at, and with none it asks
            // `/v2/` before every request.
            client.store_auth_if_needed(&authority, &RegistryAuth::Anonymous).await;
            client.tokens.insert(&target, RegistryOperation::Push, token).await;
        }
        let task =
            tokio::spawn(
                async move { client.push_blob(&target, bytes, &digest.to_string()).await.map(drop) },
            );
        let abort = task.abort_handle();
        let left = self.deadline.saturating_duration_since(std::time::Instant::now());
        let limit = left.min(self.shared.request_timeout * 2);
        match tokio::time::timeout(limit, task).await {
            Err(_) => {
                abort.abort();
                Err(Error::Timeout { asked: asked.clone(), whole_run: limit == left })
            }
            Ok(Err(_)) => Err(Error::Malformed {
                asked: asked.clone(),
                why: "the upload's Location is no URL".to_owned(),
            }),
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => {
                let error = read(host, asked, error);
                if let (Error::Denied { .. }, Some(token)) = (&error, &proof.token) {
                    self.forget(host, token).await;
                }
                Err(error)
            }
        }
    }

    fn upload_client(&self, host: &Host) -> Result<Client, Error> {
        let setup = |why: String| Error::Setup(why);
        let extra = match &self.shared.ca_file {
            None => Vec::new(),
            Some(path) => vec![Certificate {
                encoding: CertificateEncoding::Pem,
                data: std::fs::read(path).map_err(|error| setup(format!("{}: {error}", path.display())))?,
            }],
        };
        let config = |bundled: bool| ClientConfig {
            protocol: if host.api.scheme() == "http" { ClientProtocol::Http } else { ClientProtocol::Https },
            // Two requests; the chunked way takes three.
            use_monolithic_push: true,
            extra_root_certificates: if bundled { Vec::new() } else { extra.clone() },
            tls_certs_only: if bundled {
                webpki_root_certs::TLS_SERVER_ROOT_CERTS
                    .iter()
                    .map(|der| Certificate { encoding: CertificateEncoding::Der, data: der.to_vec() })
                    .chain(extra.iter().cloned())
                    .collect()
            } else {
                Vec::new()
            },
            connect_timeout: Some(Duration::from_secs(10)),
            read_timeout: Some(self.shared.request_timeout),
            // Whether a token is still good is for us to know.
            default_token_expiration_secs: 24 * 60 * 60,
            user_agent: concat!("quorate/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        // `Client::new` would fall back to a configuration that nobody asked for.
        Client::try_from(config(false))
            .or_else(|error| if roots_are_chosen() { Err(error) } else { Client::try_from(config(true)) })
            .map_err(|error| setup(error.to_string()))
    }
}

/// What `oci-client` says, in our words.
fn read(host: &Host, asked: &Asked, error: OciDistributionError) -> Error {
    let asked = asked.clone();
    let reply = |status: u16, text: String| Reply { status, text: shown(&host.redact(text)) };
    match error {
        OciDistributionError::ServerError { code, message, .. } => {
            let reply = reply(code, message);
            match code {
                401 | 403 => Error::Denied { asked, reply, lookup: None },
                429 => Error::Throttled { asked, reply, attempts: 1, retry_after: None },
                408 | 500..=599 => Error::Server { asked, reply, attempts: 1 },
                _ => Error::Refused { asked, reply },
            }
        }
        OciDistributionError::UnauthorizedError { .. } => {
            Error::Denied { asked, reply: reply(401, String::new()), lookup: None }
        }
        OciDistributionError::RegistryError { envelope, .. } => {
            let throttled = envelope.errors.iter().any(|e| matches!(e.code, OciErrorCode::Toomanyrequests));
            let denied = envelope
                .errors
                .iter()
                .any(|e| matches!(e.code, OciErrorCode::Unauthorized | OciErrorCode::Denied));
            let text = envelope.to_string();
            if throttled {
                Error::Throttled { asked, reply: reply(429, text), attempts: 1, retry_after: None }
            } else if denied {
                Error::Denied { asked, reply: reply(403, text), lookup: None }
            } else {
                Error::Refused { asked, reply: reply(400, text) }
            }
        }
        OciDistributionError::RequestError(error) => {
            Error::Unreachable { asked, attempts: 1, not_tls: false, source: Box::new(error.without_url()) }
        }
        other => Error::Malformed { asked, why: shown(&host.redact(other.to_string())) },
    }
}
