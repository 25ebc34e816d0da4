//! The HTTP clients: TLS roots, proxies, and name resolution that leads nowhere inside.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client};
use tokio::sync::OnceCell;
use url::Url;

use super::address::Reach;
use super::error::Error;

/// Which way a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To this machine: never through a proxy.
    Loopback,
    /// To a host that the user named: through the proxy of the environment, if there is one.
    Named,
    /// To a host that a registry named: the same, but to addresses of the internet only.
    Led,
}

/// One client each way, made when it is first needed.
pub(super) struct Clients {
    extra: Vec<Certificate>,
    connect_timeout: Duration,
    loopback: OnceCell<Client>,
    named: OnceCell<Client>,
    led: OnceCell<Client>,
}

impl Clients {
    /// Reads the CA file, if one is given (PEM, one or more certificates).
    pub(super) fn new(ca_file: Option<&Path>, connect_timeout: Duration) -> Result<Self, Error> {
        let extra = match ca_file {
            None => Vec::new(),
            Some(path) => {
                let fail = |why: String| Error::Setup(format!("{}: {why}", path.display()));
                let pem = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
                let certificates =
                    Certificate::from_pem_bundle(&pem).map_err(|error| fail(error.to_string()))?;
                if certificates.is_empty() {
                    return Err(fail("it holds no certificate".to_owned()));
                }
                certificates
            }
        };
        Ok(Self {
            extra,
            connect_timeout,
            loopback: OnceCell::new(),
            named: OnceCell::new(),
            led: OnceCell::new(),
        })
    }

    pub(super) async fn get(&self, way: Way) -> Result<&Client, Error> {
        let cell = match way {
            Way::Loopback => &self.loopback,
            Way::Named => &self.named,
            Way::Led => &self.led,
        };
        cell.get_or_try_init(|| async { self.build(way) }).await
    }

    fn build(&self, way: Way) -> Result<Client, Error> {
        let with = |bundled: bool| {
            let mut builder = Client::builder()
                .redirect(Policy::none())
                .referer(false)
                .connect_timeout(self.connect_timeout)
                .user_agent(concat!("quorate/", env!("CARGO_PKG_VERSION")));
            match way {
                Way::Loopback => builder = builder.no_proxy(),
                Way::Named => {}
                Way::Led => builder = builder.dns_resolver(Outward::from_environment()),
            }
            if bundled {
                let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS
                    .iter()
                    .filter_map(|der| Certificate::from_der(der).ok())
                    .chain(self.extra.iter().cloned());
                builder.tls_certs_only(roots).build()
            } else {
                builder.tls_certs_merge(self.extra.iter().cloned()).build()
            }
        };
        match with(false) {
            Ok(client) => Ok(client),
            Err(error) if roots_are_chosen() => Err(Error::Setup(format!(
                "{}; SSL_CERT_FILE or SSL_CERT_DIR is set, and names no certificates",
                chain(&error)
            ))),
            Err(_) => with(true).map_err(|error| Error::Setup(chain(&error))),
        }
    }
}

/// Whether the user named the TLS roots. A system without CA files (a scratch or Nix image) gets
/// the bundled roots; one whose user chose does not get others behind the user's back.
fn roots_are_chosen() -> bool {
    ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some())
}

/// The words of an error and of all that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Resolves names to addresses of the internet only; what is looked up is what is connected to.
struct Outward {
    /// Proxies of the environment: named by the user, wherever they stand.
    proxies: Vec<String>,
}

impl Outward {
    fn from_environment() -> Self {
        let proxies = ["http_proxy", "https_proxy", "all_proxy"]
            .iter()
            .flat_map(|name| [(*name).to_owned(), name.to_uppercase()])
            .filter_map(|name| std::env::var(name).ok())
            .filter_map(|value| {
                let url = Url::parse(&value)
                    .ok()
                    .filter(Url::has_host)
                    .or_else(|| Url::parse(&format!("http://{value}")).ok())?;
                url.host_str().map(str::to_owned)
            })
            .collect();
        Self { proxies }
    }
}

impl Resolve for Outward {
    fn resolve(&self, name: Name) -> Resolving {
        let exempt = self.proxies.iter().any(|proxy| proxy == name.as_str());
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found =
                tokio::task::spawn_blocking(move || (host.as_str(), 0).to_socket_addrs().map(Vec::from_iter))
                    .await??;
            let allowed: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| exempt || Reach::of(address.ip()) == Reach::Global)
                .collect();
            if allowed.is_empty() {
                return Err("the name leads to no address of the internet".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
