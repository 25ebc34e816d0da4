//! Which addresses a registry may send us to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

use url::{Host, Url};

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// This machine.
    Loopback,
    /// This network: private, carrier-grade or unique-local addresses.
    Private,
    /// This link, where clouds keep their metadata services, or an address that no server has.
    Link,
    /// The internet.
    Global,
}

impl Reach {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, ..] = address.octets();
        if address.is_loopback() {
            Self::Loopback
        } else if address.is_private() || (a == 100 && (64..128).contains(&b)) {
            Self::Private
        } else if address.is_link_local()
            || a == 0
            || address.is_multicast()
            || a >= 240
            || (a == 192 && b == 0 && address.octets()[2] == 0)
        {
            Self::Link
        } else {
            Self::Global
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if let Some(v4) = address.to_ipv4_mapped() {
            return Self::of_v4(v4);
        }
        let segments = address.segments();
        if address.is_loopback() {
            Self::Loopback
        } else if segments[0] & 0xfe00 == 0xfc00 {
            Self::Private
        } else if segments[0] & 0xffc0 == 0xfe80 || address.is_multicast() || address.is_unspecified() {
            Self::Link
        } else if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] || segments[0] == 0x2002 {
            // NAT64 and 6to4 carry an IPv4 address that decides where a packet ends.
            let (high, low) =
                if segments[0] == 0x2002 { (segments[1], segments[2]) } else { (segments[6], segments[7]) };
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        } else {
            Self::Global
        }
    }

    /// The nearest of all addresses of the URL's host; asks the resolver, so it may block.
    /// `Global` for a name that does not resolve: the connection will say so.
    pub(super) fn of_host(url: &Url) -> Self {
        match url.host() {
            Some(Host::Ipv4(address)) => Self::of_v4(address),
            Some(Host::Ipv6(address)) => Self::of_v6(address),
            Some(Host::Domain(name)) => {
                let port = url.port_or_known_default().unwrap_or(443);
                let reaches: Vec<Self> = (name, port)
                    .to_socket_addrs()
                    .map(|addresses| addresses.map(|a| Self::of(a.ip())).collect())
                    .unwrap_or_default();
                [Self::Link, Self::Loopback, Self::Private]
                    .into_iter()
                    .find(|reach| reaches.contains(reach))
                    .unwrap_or(Self::Global)
            }
            None => Self::Global,
        }
    }

    /// Whether a registry that stands at `self` may send us to `target`: outwards or beside
    /// itself, never further in.
    pub(super) fn may_lead_to(self, target: Self) -> bool {
        target == Self::Global || target == self
    }
}

/// Whether a host (`name`, `name:port`, `[v6]:port`) is this machine by its own name.
pub(super) fn is_loopback(host: &str) -> bool {
    match Url::parse(&format!("http://{host}/")).ok().as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_addresses_are_known_in_every_spelling() {
        for (address, reach) in [
            ("127.0.0.1", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("10.1.2.3", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("fd00::1", Reach::Private),
            ("64:ff9b::a00:1", Reach::Private),
            ("169.254.169.254", Reach::Link),
            ("::ffff:169.254.169.254", Reach::Link),
            ("2002:a9fe:a9fe::1", Reach::Link),
            ("fe80::1", Reach::Link),
            ("0.0.0.0", Reach::Link),
            ("::", Reach::Link),
            ("255.255.255.255", Reach::Link),
            ("140.82.112.1", Reach::Global),
            ("2606:50c0::1", Reach::Global),
        ] {
            assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
        }
    }

    #[test]
    fn nobody_is_led_further_in() {
        assert!(Reach::Private.may_lead_to(Reach::Private));
        assert!(Reach::Private.may_lead_to(Reach::Global));
        assert!(!Reach::Private.may_lead_to(Reach::Link));
        assert!(!Reach::Global.may_lead_to(Reach::Private));
        assert!(!Reach::Global.may_lead_to(Reach::Loopback));
    }

    #[test]
    fn only_loopback_hosts_are_loopback() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "127.0.0.1.example", "10.0.0.1", "ghcr.io"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
