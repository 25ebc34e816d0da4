//! What another registry client, the crate `oci-client`, makes of what was written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use quorate_bed::RegistryOptions;
use shop::{AMD64, Shop};

#[test]
fn another_client_reads_the_index_and_finds_the_evidence() {
    quorate::init().unwrap();
    for referrers in [true, false] {
        let shop = Shop::new(RegistryOptions { referrers, ..Default::default() });
        let release = shop.release("git-1", "hello");
        shop.attest(&release, "github", AMD64.1, &[]).exits(0);
        shop.attest(&release, "garnix", AMD64.1, &[]).exits(0);
        let config = ClientConfig { protocol: ClientProtocol::Http, ..Default::default() };
        let client = Client::try_from(config).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let index: Reference = release.reference.parse().unwrap();
        let (bytes, digest) = runtime
            .block_on(client.pull_manifest_raw(
                &index,
                &RegistryAuth::Anonymous,
                &["application/vnd.oci.image.index.v1+json"],
            ))
            .unwrap();
        assert_eq!(digest, release.digest);
        let index: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), 2);

        let image = &release.images[0].manifest_digest;
        let subject: Reference = format!("{}@{image}", shop.repository()).parse().unwrap();
        let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
        let found = runtime.block_on(client.pull_referrers(&subject, Some(bundle))).unwrap();
        assert_eq!(found.manifests.len(), 2, "referrers API: {referrers}");
        for entry in &found.manifests {
            assert_eq!(entry.artifact_type.as_deref(), Some(bundle));
            let annotations = entry.annotations.as_ref().unwrap();
            assert_eq!(
                annotations["dev.sigstore.bundle.predicateType"],
                "https://quorate.dev/predicates/build/v1"
            );
        }
    }
}
