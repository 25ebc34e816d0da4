//! Which services certify and witness signatures: a Sigstore `SigningConfig` v0.2
//! (sigstore/protobuf-specs, `sigstore_trustroot.proto`).

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use jiff::Timestamp;
use sigstore_trust_root::{
    SIGSTORE_PRODUCTION_SIGNING_CONFIG, ServiceConfiguration, ServiceEndpoint, ServiceSelector, SigningConfig,
};
use url::Url;

use super::log::{Log, Version};
use crate::error::Error;

/// The most logs and authorities of each kind that are asked: as many entries as a bundle may have.
const MAX_SERVICES: usize = 8;

/// The services of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    /// The certificate authority, where there is one.
    pub fulcio: Option<Url>,
    /// The logs; there is one at least.
    pub logs: Vec<Log>,
    /// The timestamp authorities; one at least where no log gives a time.
    pub tsas: Vec<Url>,
}

/// How many of the services that fit are asked.
enum Wanted {
    One,
    All,
    Just(NonZeroUsize),
}

impl Services {
    /// Those of the public-good instance of Sigstore, as known when this was built.
    ///
    /// # Errors
    /// When there is none at `now`.
    pub fn public_good(now: Timestamp) -> Result<Self, Error> {
        Self::from_json(SIGSTORE_PRODUCTION_SIGNING_CONFIG, now)
    }

    /// Picks from a `SigningConfig` what is valid at `now`, of the highest API version that is
    /// known here, the newest of each operator, and as many as its selectors say.
    ///
    /// # Errors
    /// When it is malformed, or does not have what its selectors ask for.
    pub fn from_json(text: &str, now: Timestamp) -> Result<Self, Error> {
        let unfit = |why: String| {
            Error::request(format!("the signing configuration cannot be used: {why}"))
                .hint("it must be a Sigstore SigningConfig of version 0.2")
        };
        let config = SigningConfig::from_json(text).map_err(|error| unfit(error.to_string()))?;
        let pick = |what, services: &[ServiceEndpoint], versions: &[u32], config: &ServiceConfiguration| {
            select(services, versions, &wanted(config)?, now).map_err(|why| format!("{what}: {why}"))
        };
        let logs = pick("rekorTlogUrls", &config.rekor_tlog_urls, &[2, 1], &config.rekor_tlog_config)
            .map_err(unfit)?;
        let logs = logs
            .into_iter()
            .map(|(url, version)| Log { url, version: if version == 1 { Version::V1 } else { Version::V2 } })
            .collect();
        let tsas = if config.tsa_urls.is_empty() {
            Vec::new()
        } else {
            pick("tsaUrls", &config.tsa_urls, &[1], &config.tsa_config).map_err(unfit)?
        };
        let fulcio = if config.ca_urls.is_empty() {
            None
        } else {
            let found = select(&config.ca_urls, &[1], &Wanted::One, now);
            found.map_err(|why| unfit(format!("caUrls: {why}")))?.into_iter().next().map(|(url, _)| url)
        };
        Self { fulcio, logs, tsas: tsas.into_iter().map(|(url, _)| url).collect() }.timed()
    }

    /// These, if there is a log, and somebody to say when.
    ///
    /// # Errors
    /// When there is none: no signature could be believed.
    pub fn timed(self) -> Result<Self, Error> {
        if self.logs.is_empty() {
            return Err(Error::request("no transparency log is named").hint("`--rekor-url URL` names one"));
        }
        if self.tsas.is_empty() && self.logs.iter().all(|log| log.version == Version::V2) {
            return Err(Error::request(
                "nobody would say when the signature was made: Rekor v2 has no times",
            )
            .hint("name a timestamp authority: `--tsa-url URL`"));
        }
        Ok(self)
    }
}

fn wanted(config: &ServiceConfiguration) -> Result<Wanted, String> {
    match (config.selector, config.count) {
        (ServiceSelector::Any, _) => Ok(Wanted::One),
        (ServiceSelector::All, _) => Ok(Wanted::All),
        (ServiceSelector::Exact, count) => usize::try_from(count.unwrap_or_default())
            .ok()
            .and_then(NonZeroUsize::new)
            .map(Wanted::Just)
            .ok_or_else(|| "the selector is EXACT, and `count` is not a number above 0".to_owned()),
        _ => Err("the selector is not one of ALL, ANY and EXACT".to_owned()),
    }
}

/// URL and API version of what fits, best first. `versions` are those known here, highest first.
fn select(
    services: &[ServiceEndpoint],
    versions: &[u32],
    wanted: &Wanted,
    now: Timestamp,
) -> Result<Vec<(Url, u32)>, String> {
    let mut fit: Vec<&ServiceEndpoint> = services
        .iter()
        .filter(|service| service.valid_for.contains(now) && versions.contains(&service.major_api_version))
        .collect();
    fit.sort_by_key(|service| std::cmp::Reverse((service.major_api_version, service.valid_for.start)));
    let mut operators = BTreeSet::new();
    fit.retain(|service| service.operator.is_none() || operators.insert(service.operator.as_deref()));
    let count = match wanted {
        Wanted::One => 1,
        Wanted::All => fit.len().max(1),
        Wanted::Just(count) => count.get(),
    };
    if count > fit.len() {
        let found = fit.len();
        return Err(format!("{count} must be asked, and {found} fit (valid now, API version {versions:?})"));
    }
    if count > MAX_SERVICES {
        return Err(format!("{count} must be asked, and more than {MAX_SERVICES} are not"));
    }
    let url = |service: &ServiceEndpoint| {
        let url = service.url.parse().map_err(|error| format!("`{}`: {error}", service.url))?;
        Ok((url, service.major_api_version))
    };
    fit.into_iter().take(count).map(url).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(url: &str, version: u32, start: &str, operator: &str) -> Value {
        json!({"url": url, "majorApiVersion": version, "validFor": {"start": start}, "operator": operator})
    }

    fn services(change: impl FnOnce(&mut Value)) -> Result<Services, Error> {
        let mut config = json!({
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [service("https://ca", 1, "2025-01-01T00:00:00Z", "a")],
            "oidcUrls": [],
            "rekorTlogUrls": [
                service("https://a-v1", 1, "2025-06-01T00:00:00Z", "a"),
                service("https://a-old", 2, "2025-01-01T00:00:00Z", "a"),
                service("https://a-new", 2, "2025-07-01T00:00:00Z", "a"),
                service("https://a-next", 2, "2027-01-01T00:00:00Z", "a"),
                service("https://a-v9", 9, "2025-01-01T00:00:00Z", "a"),
                service("https://b", 2, "2025-02-01T00:00:00Z", "b"),
            ],
            "tsaUrls": [service("https://tsa", 1, "2025-01-01T00:00:00Z", "a")],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaConfig": {"selector": "ANY"},
        });
        change(&mut config);
        Services::from_json(&config.to_string(), "2026-01-01T00:00:00Z".parse().unwrap())
    }

    fn logs(config: Value) -> Result<Vec<String>, String> {
        let services =
            services(|json| json["rekorTlogConfig"] = config).map_err(|error| error.to_string())?;
        Ok(services.logs.iter().map(|log| log.url.host_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn the_newest_valid_service_of_the_highest_version_and_one_of_each_operator() {
        assert_eq!(logs(json!({"selector": "ANY"})).unwrap(), ["a-new"]);
        assert_eq!(logs(json!({"selector": "ALL"})).unwrap(), ["a-new", "b"]);
        assert_eq!(logs(json!({"selector": "EXACT", "count": 2})).unwrap(), ["a-new", "b"]);
        assert_eq!(logs(json!({"selector": "EXACT", "count": 1})).unwrap(), ["a-new"]);
        let error = logs(json!({"selector": "EXACT", "count": 3})).unwrap_err();
        assert!(error.contains("3 must be asked, and 2 fit"), "{error}");
        assert!(logs(json!({"selector": "EXACT"})).unwrap_err().contains("count"));
        assert!(logs(json!({"selector": "SERVICE_SELECTOR_UNDEFINED"})).unwrap_err().contains("not one of"));
    }

    #[test]
    fn without_a_time_there_are_no_services() {
        assert!(services(|_| {}).is_ok());
        assert!(
            services(|json| json["tsaUrls"] = json!([]))
                .unwrap_err()
                .to_string()
                .contains("nobody would say")
        );
        let old = |json: &mut Value| {
            json["tsaUrls"] = json!([]);
            json["rekorTlogUrls"] = json!([service("https://v1", 1, "2025-01-01T00:00:00Z", "a")]);
        };
        assert_eq!(services(old).unwrap().logs[0].version, Version::V1);
        assert!(services(|json| json["rekorTlogUrls"] = json!([])).is_err());
        assert!(services(|json| json["mediaType"] = json!("x")).is_err());
    }

    #[test]
    fn the_public_good_instance_can_be_used() {
        let services = Services::public_good("2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
        assert_eq!(services.fulcio.unwrap().as_str(), "https://fulcio.sigstore.dev/");
        assert!(!services.logs.is_empty());
    }
}
