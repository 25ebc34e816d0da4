//! The HTTP clients of a run, lent to the other services that the user names.

use std::time::{Duration, Instant};

use url::{Host, Url};

use super::Registry;
use super::clients::Way;
use super::error::Error;

impl Registry {
    /// A client with this run's TLS roots and proxies for a URL that the user gave.
    pub(in crate::edge) async fn client(&self, url: &Url) -> Result<reqwest::Client, Error> {
        let loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let way = if loopback { Way::Loopback } else { Way::Named };
        self.shared.clients.get(way).await.cloned()
    }

    /// What is left of the time of this run.
    pub(crate) fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
