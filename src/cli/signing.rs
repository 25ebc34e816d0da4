//! Options on signing: of `attest`, and of `promote` for its record.

use std::path::PathBuf;

use clap::Args;
use sigstore_crypto::KeyAlgorithm;
use url::Url;

use super::attest::read;
use crate::edge::clock;
use crate::edge::fulcio::Keyless;
use crate::edge::log::{Log, Version};
use crate::edge::oidc::Tokens;
use crate::edge::signer::{KeyPair, KeySource};
use crate::edge::signing_config::Services;
use crate::edge::trust::Instance;
use crate::error::Error;
use crate::ops::sign::Hand;

/// Options that say who certifies and witnesses signatures.
#[derive(Args)]
#[command(next_help_heading = "Signing services [default: those of the instance that is trusted]")]
pub(super) struct SigningArguments {
    /// Without a key: the identity token, in a file, or `env:NAME` for the environment variable
    /// that holds it [default: that of the job of GitHub Actions, GitLab, Buildkite or CircleCI]
    #[arg(long, value_name = "FILE|env:NAME", env = "QUORATE_IDENTITY_TOKEN", hide_env_values = true)]
    identity_token: Option<KeySource>,
    /// The services, as a Sigstore `SigningConfig` (v0.2) names them, in place of the URLs below
    #[arg(long, value_name = "FILE", env = "QUORATE_SIGNING_CONFIG")]
    signing_config: Option<PathBuf>,
    /// Without a key: Fulcio, the certificate authority
    #[arg(long, value_name = "URL", value_parser = address, env = "QUORATE_FULCIO_URL")]
    fulcio_url: Option<Url>,
    /// The Rekor log
    #[arg(long, value_name = "URL", value_parser = address, env = "QUORATE_REKOR_URL")]
    rekor_url: Option<Url>,
    /// The version of its API
    #[arg(long, value_name = "VERSION", value_enum, default_value = "2", env = "QUORATE_REKOR_VERSION")]
    rekor_version: Version,
    /// The RFC 3161 timestamp authority; Rekor 1 can do without
    #[arg(long, value_name = "URL", value_parser = address, env = "QUORATE_TSA_URL")]
    tsa_url: Option<Url>,
}

impl SigningArguments {
    /// Who signs.
    pub(super) fn hand(
        &self,
        key: Option<&KeySource>,
        passphrase: &str,
        services: &Services,
    ) -> Result<Hand, Error> {
        match (key, &self.identity_token) {
            (Some(_), Some(_)) => {
                Err(Error::request("`--key` and `--identity-token` are two ways to sign: give one of them"))
            }
            (Some(key), None) => {
                let pair = KeyPair::load(key, passphrase)?;
                let v2 = services.logs.iter().find(|log| log.version == Version::V2);
                match v2.filter(|_| pair.public().algorithm() == KeyAlgorithm::Ed25519) {
                    None => Ok(Hand::Key(pair)),
                    // It takes Ed25519ph alone, and that no verifier of such bundles.
                    Some(log) => Err(Error::request(format!(
                        "the key `{key}` is Ed25519, and the log {} is a Rekor v2, which takes P-256",
                        log.url
                    ))
                    .hint(
                        "sign with a P-256 key (`quorate key generate`), or name a Rekor v1: `--rekor-url URL \
                         --rekor-version 1`",
                    )),
                }
            }
            (None, token) => {
                if token.as_ref().is_some_and(KeySource::is_token) {
                    // It is not repeated: it was a secret, until it stood in the arguments.
                    return Err(Error::request("`--identity-token` was given the token itself")
                        .hint("others can read arguments: give the file that has it, or `env:NAME`"));
                }
                let fulcio = services.fulcio.clone().ok_or_else(|| {
                    Error::request("there is neither a key nor a certificate authority to sign with")
                        .hint("`--key FILE` signs with a key, `--fulcio-url URL` names an authority")
                })?;
                Ok(Hand::Keyless(Keyless::new(fulcio, token.clone().map_or(Tokens::Job, Tokens::Given))))
            }
        }
    }

    /// The services that are named, all in one place or in the other; or those of the instance that
    /// is trusted.
    pub(super) fn services(
        &self,
        trusted: Option<Instance>,
        plain_http: &[String],
    ) -> Result<Services, Error> {
        let given = self;
        let urls = given.fulcio_url.is_some() || given.rekor_url.is_some() || given.tsa_url.is_some();
        let now = clock::now();
        let services = match (&given.signing_config, urls) {
            (Some(_), true) => {
                return Err(Error::request("`--signing-config` names all services: leave out the URLs"));
            }
            (Some(path), false) => {
                let bytes = read(path)?;
                Services::from_json(&String::from_utf8_lossy(&bytes), now)?
            }
            (None, true) => Services {
                fulcio: given.fulcio_url.clone(),
                logs: given
                    .rekor_url
                    .iter()
                    .map(|url| Log { url: url.clone(), version: given.rekor_version })
                    .collect(),
                tsas: given.tsa_url.iter().cloned().collect(),
            }
            .timed()?,
            (None, false) => match trusted {
                Some(instance) => Services::of(instance, now)?,
                // What is meant for one's own log is not to be published in another.
                None => {
                    return Err(Error::request(
                        "nothing says which services sign, of those that are trusted",
                    )
                    .hint("name them: `--signing-config FILE`, or `--rekor-url URL --tsa-url URL`"));
                }
            },
        };
        let named = services.fulcio.iter().chain(services.logs.iter().map(|log| &log.url));
        for url in named.chain(&services.tsas) {
            secure(url, plain_http)?;
        }
        Ok(services)
    }
}

/// How the address of a service is written.
const WHOLE: &str = "write it whole, such as `https://rekor.example`";

/// The address of a service.
pub(super) fn address(text: &str) -> Result<Url, String> {
    text.parse().map_err(|error| format!("{error}; {WHOLE}"))
}

/// https, or http to this machine or a host that the user named.
pub(super) fn secure(url: &Url, plain_http: &[String]) -> Result<(), Error> {
    if !url.username().is_empty() || url.password().is_some() {
        // It is not repeated: it is a secret.
        return Err(Error::request("the URL of a service has a login in it")
            .hint("leave it out: these services take none"));
    }
    let host = url.host_str().unwrap_or_default();
    let named = || {
        let with_port = url.port().map(|port| format!("{host}:{port}"));
        plain_http.iter().any(|plain| plain == host || Some(plain) == with_port.as_ref())
    };
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if local || named() => Ok(()),
        "http" => Err(Error::request(format!("`{url}` is not https"))
            .hint(format!("`--plain-http {host}` allows plain http to that host"))),
        _ => Err(Error::request(format!("`{url}` is not https")).hint(WHOLE)),
    }
}
