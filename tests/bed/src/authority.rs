//! Certificates for servers.

use std::str::FromStr;
use std::time::Duration;

use der::Encode;
use der::asn1::Ia5String;
use der::oid::ObjectIdentifier;
use p256::ecdsa::{DerSignature, Signature, SigningKey, signature::Signer};
use p256::elliptic_curve::Generate;
use p256::pkcs8::{EncodePrivateKey, EncodePublicKey};
use x509_cert::Certificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder, Result};
use x509_cert::certificate::TbsCertificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::Validity;

use crate::base64;

const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate authority of one day, and the one certificate it gave out, to a server.
pub struct Authority {
    root: Certificate,
    leaf: Certificate,
    key: SigningKey,
}

impl Authority {
    /// New keys and certificates, for the server of this name.
    pub fn generate(server: &str) -> Authority {
        let (root_key, key) = (SigningKey::generate(), SigningKey::generate());
        let root = issue(&root_key, &root_key, Role::Root).expect("the root has all a certificate needs");
        let leaf =
            issue(&root_key, &key, Role::Server(server)).expect("the leaf has all a certificate needs");
        Authority { root, leaf, key }
    }

    /// The certificate of the authority (PEM): what a client must trust.
    pub fn root(&self) -> String {
        pem("CERTIFICATE", &der(&self.root))
    }

    /// The certificate of the server (PEM).
    pub fn certificate(&self) -> String {
        pem("CERTIFICATE", &self.der())
    }

    /// The private key of the server (PKCS #8, PEM).
    pub fn key(&self) -> String {
        pem("PRIVATE KEY", &self.key_der())
    }

    /// The private key of the server (PKCS #8, DER).
    pub(crate) fn key_der(&self) -> Vec<u8> {
        self.key.to_pkcs8_der().expect("a P-256 key has a DER form").as_bytes().to_vec()
    }

    /// The certificate of the server (DER).
    pub(crate) fn der(&self) -> Vec<u8> {
        der(&self.leaf)
    }

    /// An ES256 signature (RFC 7518, section 3.4) by the server's key.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign(message);
        signature.to_vec()
    }
}

fn der(certificate: &Certificate) -> Vec<u8> {
    certificate.to_der().expect("a certificate has a DER form")
}

/// RFC 7468.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn issue(issuer: &SigningKey, subject: &SigningKey, role: Role<'_>) -> Result<Certificate> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).expect("the system has randomness");
    // Positive, and as long as it looks.
    serial[0] = 0x40 | (serial[0] & 0x3f);
    let key = subject.verifying_key().to_public_key_der().expect("a P-256 key has a DER form");
    CertificateBuilder::new(
        role,
        SerialNumber::new(&serial)?,
        Validity::from_now(LIFETIME)?,
        SubjectPublicKeyInfoOwned::try_from(key.as_bytes())?,
    )?
    .build::<_, DerSignature>(issuer)
}

/// What a certificate is for.
enum Role<'a> {
    Root,
    Server(&'a str),
}

impl BuilderProfile for Role<'_> {
    fn get_issuer(&self, _: &Name) -> Name {
        Role::Root.get_subject()
    }

    fn get_subject(&self) -> Name {
        let common_name = match self {
            Role::Root => "quorate-bed root",
            Role::Server(name) => name,
        };
        Name::from_str(&format!("CN={common_name}")).expect("a name without commas")
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> Result<Vec<Extension>> {
        let subject = tbs.subject();
        let (ca, usage) = match self {
            Role::Root => (true, KeyUsages::KeyCertSign.into()),
            Role::Server(_) => (false, KeyUsages::DigitalSignature.into()),
        };
        let constraints = BasicConstraints { ca, path_len_constraint: None };
        let mut extensions = vec![
            (true, &constraints).to_extension(subject, &[])?,
            (true, &KeyUsage(usage)).to_extension(subject, &[])?,
        ];
        if let Role::Server(name) = self {
            let name = GeneralName::DnsName(Ia5String::new(name)?);
            extensions.push((false, &SubjectAltName(vec![name])).to_extension(subject, &[])?);
            extensions.push((false, &ExtendedKeyUsage(vec![SERVER_AUTH])).to_extension(subject, &[])?);
        }
        Ok(extensions)
    }
}
