//! The `sigstore-*` crates that quorate stands on, behind the command line of the public suite
//! sigstore-conformance: exit code 0 if a bundle holds, 1 if it does not.
//!
//! ```sh
//! cargo run --release --example sigstore_conformance -- verify-bundle --bundle FILE \
//!     --certificate-identity IDENTITY --certificate-oidc-issuer URL FILE_OR_DIGEST
//! ```
//!
//! It asks no network: without `--trusted-root`, that of the public-good instance that is built
//! into the crates is used, or with `--staging` that of the staging instance.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Parser;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use quorate::attestation::provider::RING;
use sigstore_crypto::{CryptoProvider, HashContext, SigningScheme};
use sigstore_trust_root::{SigstoreInstance, TrustedRoot};
use sigstore_types::{Artifact, Bundle, DerPublicKey, HashAlgorithm, Sha256Hash};
use sigstore_verify::{Policy, PublicKeyVerificationPolicy, VerificationPolicy, Verifier};

#[derive(Parser)]
enum Command {
    VerifyBundle(VerifyBundle),
}

/// Options as the suite's protocol has them.
#[derive(Parser)]
struct VerifyBundle {
    #[arg(long)]
    staging: bool,
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    #[arg(long, value_name = "IDENTITY", requires = "certificate_oidc_issuer")]
    certificate_identity: Option<String>,
    #[arg(long, value_name = "URL", requires = "certificate_identity")]
    certificate_oidc_issuer: Option<String>,
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "certificate_identity",
        conflicts_with = "certificate_identity"
    )]
    key: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    #[arg(value_name = "FILE_OR_DIGEST")]
    artifact: String,
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let Command::VerifyBundle(arguments) = Command::parse();
    if sigstore_crypto::install_default_provider(&RING_AND_P256).is_err() {
        return Err("another provider is installed".into());
    }
    arguments.run()
}

impl VerifyBundle {
    fn run(&self) -> Result<(), Box<dyn Error>> {
        let root = match &self.trusted_root {
            Some(path) => TrustedRoot::from_file(path)?,
            None if self.staging => TrustedRoot::from_embedded(SigstoreInstance::Staging)?,
            None => TrustedRoot::from_embedded(SigstoreInstance::PublicGood)?,
        };
        let policy: Box<dyn Policy> =
            match (&self.key, &self.certificate_identity, &self.certificate_oidc_issuer) {
                (Some(path), ..) => {
                    let key = DerPublicKey::from_pem(&std::fs::read_to_string(path)?)?;
                    Box::new(PublicKeyVerificationPolicy::new(key))
                }
                (None, Some(identity), Some(issuer)) => {
                    Box::new(VerificationPolicy::new(identity.as_str(), issuer.as_str()))
                }
                _ => return Err("neither a key nor an identity".into()),
            };
        let bundle = Bundle::from_json(&std::fs::read_to_string(&self.bundle)?)?;
        let bytes;
        let artifact = if let Some(digest) = digest(&self.artifact) {
            Artifact::from_digest(digest)
        } else {
            bytes = std::fs::read(&self.artifact)?;
            Artifact::from(&bytes[..])
        };
        let result = Verifier::new(&root)?.verify(artifact, &bundle, policy.as_ref())?;
        if result.tlog_verified() { Ok(()) } else { Err("the log entry was not verified".into()) }
    }
}

/// A digest, unless it is the path of a file.
fn digest(text: &str) -> Option<Sha256Hash> {
    let hex = text.strip_prefix("sha256:").filter(|_| !Path::new(text).exists())?;
    Sha256Hash::from_hex(hex).ok()
}

/// ring, and for a signature over a digest, which ring does not verify, the crate `p256`. Statements
/// need no such thing, and so quorate goes without.
#[derive(Debug)]
struct RingAndP256;

static RING_AND_P256: RingAndP256 = RingAndP256;

impl CryptoProvider for RingAndP256 {
    fn hash(&self, algorithm: HashAlgorithm) -> sigstore_crypto::Result<Box<dyn HashContext>> {
        RING.hash(algorithm)
    }

    fn verify_raw(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        data: &[u8],
        signature: &[u8],
    ) -> sigstore_crypto::Result<()> {
        RING.verify_raw(scheme, key, data, signature)
    }

    fn verify_prehashed(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        digest: &[u8],
        signature: &[u8],
    ) -> sigstore_crypto::Result<()> {
        if scheme != SigningScheme::EcdsaP256Sha256 {
            return RING.verify_prehashed(scheme, key, digest, signature);
        }
        let failed = |error| sigstore_crypto::Error::Verification(format!("P-256: {error}"));
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(key).map_err(failed)?;
        let signature = p256::ecdsa::Signature::from_der(signature).map_err(failed)?;
        key.verify_prehash(digest, &signature).map_err(failed)
    }
}
