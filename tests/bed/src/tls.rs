//! TLS with a certificate authority made for the occasion.
//!
//! The handshake is the one place here that shares its cryptography with the code under test:
//! nothing that is decided rests on it.

use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::authority::Authority;

/// The configuration of the server at `host`, and the certificate (PEM) to trust.
pub(crate) fn server(host: &str, http2: bool) -> (ServerConfig, String) {
    let authority = Authority::generate(host);
    let key = PrivatePkcs8KeyDer::from(authority.key_der());
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(vec![CertificateDer::from(authority.der())], key.into())
        })
        .expect("key and certificate belong together");
    let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    (config, authority.root())
}
