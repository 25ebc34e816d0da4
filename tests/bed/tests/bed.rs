//! All three servers together.

use quorate_bed::client::get;
use quorate_bed::{Bed, RegistryOptions, trusted_root};

#[test]
fn the_trusted_root_is_that_of_the_servers() {
    let bed = Bed::start(RegistryOptions::default());
    let answer = get(&bed.registry.host(), "/v2/", None).expect("an answer");
    assert_eq!(answer.status, 200);
    let root = bed.trusted_root();
    assert_eq!(root, trusted_root(&[&bed.log], &[&bed.tsa]));
    assert_eq!(root["mediaType"], "application/vnd.dev.sigstore.trustedroot+json;version=0.1");
    assert_eq!(root["timestampAuthorities"][0]["uri"], bed.tsa.url());
    assert!(bed.tsa.url().ends_with("/api/v1/timestamp"));
    for start in [
        &root["tlogs"][0]["publicKey"]["validFor"]["start"],
        &root["timestampAuthorities"][0]["validFor"]["start"],
    ] {
        assert_eq!(start, "2020-01-01T00:00:00Z");
    }
    let other = Bed::start(RegistryOptions::default());
    assert_ne!(root, other.trusted_root());
}
