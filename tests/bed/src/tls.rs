//! TLS with a certificate authority made for the occasion.
//!
//! The handshake is the one place here that shares its cryptography with the code under test:
//! nothing that is decided rests on it.

use std::sync::Arc;

use der::EncodePem;
use der::pem::LineEnding;
use p256::pkcs8::EncodePrivateKey;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::tsa::certificate::Chain;

/// The configuration of the server at `host`, and the certificate (PEM) to trust.
pub(crate) fn server(host: &str, http2: bool) -> (ServerConfig, String) {
    let chain = Chain::for_server(host);
    let [leaf, _] = chain.der();
    let key = chain.key.to_pkcs8_der().expect("a P-256 key has a PKCS#8 form");
    let key = PrivatePkcs8KeyDer::from(key.as_bytes().to_vec());
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder.with_no_client_auth().with_single_cert(vec![CertificateDer::from(leaf)], key.into())
        })
        .expect("key and certificate belong together");
    let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    (config, chain.root.to_pem(LineEnding::LF).expect("a certificate has a PEM form"))
}
