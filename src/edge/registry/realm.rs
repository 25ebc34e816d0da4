//! Which token services may be asked on behalf of a registry.
//!
//! A registry names its token service itself, in its first 401. A hostile one could name any
//! host there, and would be sent the user's password, or have us ask hosts that only we reach.

use url::{Host, Url};

use super::address::is_loopback;

/// Token services of registries that stand on another site than their registry.
const KNOWN: &[(&str, &str)] = &[
    ("docker.io", "auth.docker.io"),
    ("ghcr.io", "ghcr.io"),
    ("quay.io", "quay.io"),
    ("registry.gitlab.com", "gitlab.com"),
    ("registry.redhat.io", "registry.redhat.io"),
    ("registry.connect.redhat.com", "sso.redhat.com"),
    ("registry.access.redhat.com", "sso.redhat.com"),
];

/// Domains below which hosts belong to different owners: a neighbour is nobody's token service.
const SHARED: &[&str] = &[
    "amazonaws.com",
    "azure.com",
    "azurecr.cn",
    "azurecr.io",
    "azurewebsites.net",
    "blogspot.com",
    "cloudapp.net",
    "cloudflare.net",
    "cloudfront.net",
    "digitaloceanspaces.com",
    "duckdns.org",
    "firebaseapp.com",
    "fly.dev",
    "fly.io",
    "gcr.io",
    "github.io",
    "githubusercontent.com",
    "gitlab.io",
    "googleapis.com",
    "googleusercontent.com",
    "herokuapp.com",
    "jfrog.io",
    "netlify.app",
    "ngrok.app",
    "ngrok.io",
    "ngrok-free.app",
    "onrender.com",
    "pages.dev",
    "pkg.dev",
    "r2.dev",
    "railway.app",
    "run.app",
    "scw.cloud",
    "sslip.io",
    "nip.io",
    "trycloudflare.com",
    "ts.net",
    "vercel.app",
    "web.app",
    "windows.net",
    "workers.dev",
];

/// Whether `realm` may be asked for a token, and given the credentials, of the registry `host`
/// (as written in references) that is reached at `api`. `named` are the realms the user trusts,
/// as `host` or `host:port`.
///
/// # Errors
/// The rule that forbids it, in words.
pub(super) fn check(host: &str, api: &Url, realm: &Url, named: &[String]) -> Result<(), &'static str> {
    if !realm.username().is_empty() || realm.password().is_some() {
        return Err("its URL holds a user or password");
    }
    let (Some(api_host), Some(realm_host)) = (api.host(), realm.host()) else {
        return Err("it names no host");
    };
    let same_host = api_host == realm_host;
    let same_port = api.port_or_known_default() == realm.port_or_known_default();
    // A registry reached over plain http has shown everything to the network already.
    if !matches!((api.scheme(), realm.scheme()), (_, "https") | ("http", "http")) {
        return Err("it is not reached over https, as the registry is");
    }
    if same_host && (same_port || is_loopback(host)) {
        return Ok(());
    }
    let written = match realm.port() {
        Some(port) => format!("{realm_host}:{port}"),
        None => realm_host.to_string(),
    };
    if named.iter().any(|n| n.eq_ignore_ascii_case(&written)) {
        return Ok(());
    }
    if api.scheme() == "http" || realm.port().is_some() {
        return Err("it is another host or port than the registry");
    }
    if KNOWN.iter().any(|(registry, service)| *registry == host && *service == written) {
        return Ok(());
    }
    match (api_host, realm_host) {
        _ if same_host => Ok(()),
        (Host::Domain(api), Host::Domain(realm)) if same_site(api, realm) => Ok(()),
        _ => Err("it belongs to another site than the registry"),
    }
}

/// Whether `realm` is the domain right above `registry`, or stands below that domain.
fn same_site(registry: &str, realm: &str) -> bool {
    let Some((_, site)) = registry.split_once('.') else {
        return false;
    };
    let below = |name: &str, domain: &str| {
        name == domain || name.strip_suffix(domain).is_some_and(|front| front.ends_with('.'))
    };
    let labels: Vec<&str> = site.split('.').collect();
    // `co.uk` and its like: a short second level below a country is no one's own.
    let public_suffix = matches!(labels[..], [second, top] if top.len() == 2 && second.len() <= 3);
    labels.len() >= 2
        && !public_suffix
        && !SHARED.iter().any(|shared| below(site, shared))
        && below(realm, site)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(host: &str, api: &str, realm: &str) -> bool {
        check(host, &api.parse().unwrap(), &realm.parse().unwrap(), &["auth.named.example:5001".to_owned()])
            .is_ok()
    }

    #[test]
    fn the_registries_of_the_field_work() {
        for (host, api, realm) in [
            ("docker.io", "https://registry-1.docker.io/", "https://auth.docker.io/token"),
            ("ghcr.io", "https://ghcr.io/", "https://ghcr.io/token"),
            ("quay.io", "https://quay.io/", "https://quay.io/v2/auth"),
            ("registry.gitlab.com", "https://registry.gitlab.com/", "https://gitlab.com/jwt/auth"),
            ("acme.azurecr.io", "https://acme.azurecr.io/", "https://acme.azurecr.io/oauth2/token"),
            ("registry.acme.co.uk", "https://registry.acme.co.uk/", "https://auth.acme.co.uk/t"),
            ("r.example:5000", "https://r.example:5000/", "https://r.example:5000/token"),
            ("r.example:5000", "https://r.example:5000/", "https://r.example/token"),
            ("r.example", "https://r.example/", "https://auth.named.example:5001/token"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/", "http://127.0.0.1:5001/token"),
            ("plain.example:5000", "http://plain.example:5000/", "http://plain.example:5000/token"),
        ] {
            assert!(allowed(host, api, realm), "{host} {realm}");
        }
    }

    #[test]
    fn strangers_are_not_asked() {
        for (host, api, realm) in [
            ("ghcr.io", "https://ghcr.io/", "https://evil.example/token"),
            ("ghcr.io", "https://ghcr.io/", "http://ghcr.io/token"),
            ("ghcr.io", "https://ghcr.io/", "https://ghcr.io:8443/token"),
            ("ghcr.io", "https://ghcr.io/", "https://user@ghcr.io/token"),
            ("ghcr.io", "https://ghcr.io/", "https://notghcr.io/token"),
            ("ghcr.io", "https://ghcr.io/", "https://evil.io/token"),
            ("r.acme.example", "https://r.acme.example/", "https://evilacme.example/"),
            ("r.acme.example", "https://r.acme.example/", "https://acme.example.evil.test/"),
            ("acme.azurecr.io", "https://acme.azurecr.io/", "https://evil.azurecr.io/token"),
            ("a.s3.amazonaws.com", "https://a.s3.amazonaws.com/", "https://b.s3.amazonaws.com/"),
            ("acme.co.uk", "https://acme.co.uk/", "https://evil.co.uk/token"),
            ("ghcr.io", "https://ghcr.io/", "https://169.254.169.254/token"),
            ("10.0.0.1:5000", "http://10.0.0.1:5000/", "http://10.0.0.1:5001/token"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/", "https://10.0.0.2/token"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/", "http://localhost:5001/token"),
            ("ghcr.io", "https://ghcr.io/", "ftp://ghcr.io/token"),
        ] {
            assert!(!allowed(host, api, realm), "{host} {realm}");
        }
    }
}
