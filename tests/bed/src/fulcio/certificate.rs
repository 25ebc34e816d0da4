//! The certificates of the authority, and those that it gives out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use der::asn1::{Ia5String, OctetString, UtcTime, Utf8StringRef};
use der::oid::ObjectIdentifier;
use der::{DateTime, Encode};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::{EncodePrivateKey, EncodePublicKey};
use x509_cert::Certificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder, Result};
use x509_cert::certificate::TbsCertificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

use super::Misissue;
use super::identity::{Identity, San};
use crate::sha256;
use crate::tsa::{VALID_FROM, VALID_UNTIL, distinguished_name, key_identifier};

const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
/// The list of log timestamps in a certificate (RFC 6962, section 3.3).
const SCT_LIST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");
const FULCIO: &str = "1.3.6.1.4.1.57264.1";

/// A root, the certificate below it that signs others, and the log of all that is signed.
pub(crate) struct Authority {
    root: Certificate,
    intermediate: Certificate,
    key: SigningKey,
    ct_key: SigningKey,
}

pub(super) fn any_key() -> SigningKey {
    SigningKey::generate()
}

impl Authority {
    pub(super) fn generate(name: &str) -> Authority {
        let (root_key, key) = (any_key(), any_key());
        let root_name = distinguished_name(&format!("{name} root"));
        let fixed = |text: &str| text.parse::<DateTime>().expect("a time as in RFC 3339");
        let issue = |issuer: &SigningKey, subject: &SigningKey, role| {
            let key = spki(subject);
            build(issuer, &key, (fixed(VALID_FROM), fixed(VALID_UNTIL)), &serial(), role)
                .expect("the authority has all a certificate needs")
        };
        Authority {
            root: issue(
                &root_key,
                &root_key,
                Role::Authority { issuer: root_name.clone(), name: root_name.clone() },
            ),
            intermediate: issue(
                &root_key,
                &key,
                Role::Authority { issuer: root_name, name: distinguished_name(name) },
            ),
            key,
            ct_key: any_key(),
        }
    }

    /// The signing certificate and the root above it, in DER.
    pub(crate) fn chain(&self) -> [Vec<u8>; 2] {
        [&self.intermediate, &self.root].map(|c| c.to_der().expect("a certificate has a DER form"))
    }

    /// The key of the signing certificate, as PKCS #8 in DER.
    pub(super) fn key(&self) -> Vec<u8> {
        self.key.to_pkcs8_der().expect("a P-256 key has a DER form").as_bytes().to_vec()
    }

    /// The key of the certificate log as a DER `SubjectPublicKeyInfo`.
    pub(crate) fn ct_key(&self) -> Vec<u8> {
        spki(&self.ct_key)
    }

    /// A certificate for `key` (DER), logged before it is signed for good.
    pub(super) fn issue(
        &self,
        key: &[u8],
        identity: &Identity,
        lifetime: Duration,
        misissue: Option<Misissue>,
    ) -> Certificate {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970");
        let start = match misissue {
            Some(Misissue::Expired) => now - Duration::from_secs(30 * 24 * 60 * 60),
            _ => now,
        };
        let whole = |time: Duration| {
            DateTime::from_unix_duration(Duration::from_secs(time.as_secs())).expect("a time before 2050")
        };
        let validity = (whole(start), whole(start + lifetime));
        let other = any_key();
        let signer = if misissue == Some(Misissue::OtherAuthority) { &other } else { &self.key };
        let log = if misissue == Some(Misissue::OtherLog) { &other } else { &self.ct_key };
        let usage = if misissue == Some(Misissue::OtherUse) { SERVER_AUTH } else { CODE_SIGNING };
        let serial = serial();
        let certificate = |timestamps: Option<Vec<u8>>| {
            let issuer = self.intermediate.tbs_certificate().subject().clone();
            let role = Role::Leaf { issuer, identity, usage, timestamps };
            build(signer, key, validity, &serial, role).expect("the leaf has all a certificate needs")
        };
        let unlogged = certificate(None);
        if misissue == Some(Misissue::NoTimestamp) {
            return unlogged;
        }
        let tbs = unlogged.tbs_certificate().to_der().expect("a certificate has a DER form");
        let time = u64::try_from(now.as_millis()).expect("it is not that late");
        certificate(Some(timestamp_list(log, &sha256(&spki(&self.key)), &tbs, time)))
    }
}

/// The one timestamp of a certificate in a list (RFC 6962, sections 3.2 and 3.3).
fn timestamp_list(log: &SigningKey, issuer_key_hash: &[u8], tbs: &[u8], time: u64) -> Vec<u8> {
    let time = time.to_be_bytes();
    let length = u32::try_from(tbs.len()).expect("a certificate is short").to_be_bytes();
    // version 1, certificate_timestamp, time, precert_entry, no extensions
    let signed = [&[0, 0][..], &time, &[0, 1], issuer_key_hash, &length[1..], tbs, &[0, 0]].concat();
    let signature: DerSignature = log.sign(&signed);
    // SHA-256, ECDSA
    let timestamp =
        [&[0][..], &sha256(&spki(log)), &time, &[0, 0], &[4, 3], &prefixed(signature.as_bytes())].concat();
    prefixed(&prefixed(&timestamp))
}

/// Bytes after their length in 16 bits.
fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a timestamp is short").to_be_bytes();
    [&length[..], bytes].concat()
}

fn spki(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_public_key_der().expect("a P-256 key has a DER form").into_vec()
}

fn serial() -> [u8; 16] {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).expect("the system has randomness");
    // Positive, and as long as it looks.
    serial[0] = 0x40 | (serial[0] & 0x3f);
    serial
}

fn build(
    issuer: &SigningKey,
    key: &[u8],
    (start, end): (DateTime, DateTime),
    serial: &[u8],
    role: Role<'_>,
) -> Result<Certificate> {
    let time = |time| UtcTime::from_date_time(time).map(Time::UtcTime);
    CertificateBuilder::new(
        role,
        SerialNumber::new(serial)?,
        Validity::new(time(start)?, time(end)?),
        SubjectPublicKeyInfoOwned::try_from(key)?,
    )?
    .build::<_, DerSignature>(issuer)
}

/// What a certificate is for.
enum Role<'a> {
    Authority { issuer: Name, name: Name },
    Leaf { issuer: Name, identity: &'a Identity, usage: ObjectIdentifier, timestamps: Option<Vec<u8>> },
}

impl BuilderProfile for Role<'_> {
    fn get_issuer(&self, _: &Name) -> Name {
        match self {
            Role::Authority { issuer, .. } | Role::Leaf { issuer, .. } => issuer.clone(),
        }
    }

    fn get_subject(&self) -> Name {
        match self {
            Role::Authority { name, .. } => name.clone(),
            Role::Leaf { .. } => Name::default(),
        }
    }

    fn build_extensions(
        &self,
        key: SubjectPublicKeyInfoRef<'_>,
        issuer_key: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> Result<Vec<Extension>> {
        let subject = tbs.subject();
        let key_id = SubjectKeyIdentifier(key_identifier(key)?);
        let authority = AuthorityKeyIdentifier {
            key_identifier: Some(key_identifier(issuer_key)?),
            ..Default::default()
        };
        let mut extensions = Vec::new();
        match self {
            Role::Authority { .. } => {
                let constraints = BasicConstraints { ca: true, path_len_constraint: None };
                let usage = KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign);
                extensions.push((true, &constraints).to_extension(subject, &[])?);
                extensions.push((true, &usage).to_extension(subject, &[])?);
                // An intermediate that is for signing code, as Fulcio's.
                let usage = ExtendedKeyUsage(vec![CODE_SIGNING]);
                if self.get_issuer(subject) != self.get_subject() {
                    extensions.push((false, &usage).to_extension(subject, &[])?);
                }
                extensions.push((false, &key_id).to_extension(subject, &[])?);
                extensions.push((false, &authority).to_extension(subject, &[])?);
            }
            Role::Leaf { identity, usage, timestamps, .. } => {
                let name = match &identity.san {
                    San::Uri(uri) => GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?),
                    San::Email(email) => GeneralName::Rfc822Name(Ia5String::new(email)?),
                };
                extensions
                    .push((true, &KeyUsage(KeyUsages::DigitalSignature.into())).to_extension(subject, &[])?);
                extensions.push((false, &ExtendedKeyUsage(vec![*usage])).to_extension(subject, &[])?);
                extensions.push((false, &key_id).to_extension(subject, &[])?);
                extensions.push((false, &authority).to_extension(subject, &[])?);
                extensions.push((true, &SubjectAltName(vec![name])).to_extension(subject, &[])?);
                // The older form of the issuer is raw text.
                extensions.push(extension(1, identity.issuer.as_bytes().to_vec())?);
                extensions.push(claim(8, &identity.issuer)?);
                for (number, value) in &identity.claims {
                    extensions.push(claim(*number, value)?);
                }
                if let Some(list) = timestamps {
                    let list = OctetString::new(list.as_slice())?.to_der()?;
                    extensions.push(Extension {
                        extn_id: SCT_LIST,
                        critical: false,
                        extn_value: OctetString::new(list)?,
                    });
                }
            }
        }
        Ok(extensions)
    }
}

fn claim(number: u32, value: &str) -> Result<Extension> {
    extension(number, Utf8StringRef::new(value)?.to_der()?)
}

fn extension(number: u32, value: Vec<u8>) -> Result<Extension> {
    let extn_id = format!("{FULCIO}.{number}").parse().expect("an object identifier");
    Ok(Extension { extn_id, critical: false, extn_value: OctetString::new(value)? })
}
