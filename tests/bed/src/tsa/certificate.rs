//! The two certificates of an authority.

use std::str::FromStr;

use der::asn1::{OctetString, UtcTime};
use der::oid::ObjectIdentifier;
use der::{DateTime, Encode};
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::EncodePublicKey;
use x509_cert::Certificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder, Result};
use x509_cert::certificate::TbsCertificate;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

use crate::sha256;

/// When everything in a trusted root begins to be valid: long ago, so that tests can go back.
pub(crate) const VALID_FROM: &str = "2020-01-01T00:00:00Z";
pub(crate) const VALID_UNTIL: &str = "2049-12-31T23:59:59Z";

const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");

/// A root, and the certificate below it that signs timestamps.
pub(super) struct Chain {
    root: Certificate,
    pub(super) leaf: Certificate,
    pub(super) key: SigningKey,
}

impl Chain {
    pub(super) fn generate(name: &str) -> Chain {
        let root_key = SigningKey::generate();
        let key = SigningKey::generate();
        let root_name = distinguished_name(&format!("{name} root"));
        let root = issue(&root_key, &root_key, Role::Root(root_name.clone()));
        let leaf = issue(&root_key, &key, Role::Leaf(root_name, distinguished_name(name)));
        Chain {
            root: root.expect("the root has all a certificate needs"),
            leaf: leaf.expect("the leaf has all a certificate needs"),
            key,
        }
    }

    /// Leaf and root.
    pub(super) fn der(&self) -> [Vec<u8>; 2] {
        [&self.leaf, &self.root].map(|c| c.to_der().expect("a certificate has a DER form"))
    }
}

pub(crate) fn distinguished_name(common_name: &str) -> Name {
    Name::from_str(&format!("CN={common_name},O=quorate-bed")).expect("a name without commas")
}

fn issue(issuer: &SigningKey, subject: &SigningKey, role: Role) -> Result<Certificate> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).expect("the system has randomness");
    // Positive, and as long as it looks.
    serial[0] = 0x40 | (serial[0] & 0x3f);
    let time = |text| DateTime::from_str(text).expect("a time as in RFC 3339");
    let validity = Validity::new(
        Time::UtcTime(UtcTime::from_date_time(time(VALID_FROM))?),
        Time::UtcTime(UtcTime::from_date_time(time(VALID_UNTIL))?),
    );
    let key = subject.verifying_key().to_public_key_der().expect("a P-256 key has a DER form");
    CertificateBuilder::new(
        role,
        SerialNumber::new(&serial)?,
        validity,
        SubjectPublicKeyInfoOwned::try_from(key.as_bytes())?,
    )?
    .build::<_, DerSignature>(issuer)
}

/// What a certificate is for.
enum Role {
    Root(Name),
    Leaf(Name, Name),
}

impl BuilderProfile for Role {
    fn get_issuer(&self, subject: &Name) -> Name {
        match self {
            Role::Root(_) => subject.clone(),
            Role::Leaf(issuer, _) => issuer.clone(),
        }
    }

    fn get_subject(&self) -> Name {
        match self {
            Role::Root(name) | Role::Leaf(_, name) => name.clone(),
        }
    }

    fn build_extensions(
        &self,
        key: SubjectPublicKeyInfoRef<'_>,
        issuer_key: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> Result<Vec<Extension>> {
        let (ca, usage) = match self {
            Role::Root(_) => (true, KeyUsages::KeyCertSign | KeyUsages::CRLSign),
            Role::Leaf(..) => (false, KeyUsages::DigitalSignature.into()),
        };
        let constraints = BasicConstraints { ca, path_len_constraint: None };
        let authority = AuthorityKeyIdentifier {
            key_identifier: Some(key_identifier(issuer_key)?),
            ..Default::default()
        };
        let subject = tbs.subject();
        let mut extensions = vec![
            (true, &constraints).to_extension(subject, &[])?,
            (true, &KeyUsage(usage)).to_extension(subject, &[])?,
            (false, &SubjectKeyIdentifier(key_identifier(key)?)).to_extension(subject, &[])?,
            (false, &authority).to_extension(subject, &[])?,
        ];
        if !ca {
            // RFC 3161 wants it critical and alone.
            let usage = ExtendedKeyUsage(vec![TIME_STAMPING]);
            extensions.push((true, &usage).to_extension(subject, &[])?);
        }
        Ok(extensions)
    }
}

/// The leftmost 160 bits of the key's SHA-256, as RFC 7093 has it.
pub(crate) fn key_identifier(key: SubjectPublicKeyInfoRef<'_>) -> Result<OctetString> {
    Ok(OctetString::new(&sha256(key.subject_public_key.raw_bytes())[..20])?)
}
