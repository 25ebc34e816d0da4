//! The timestamp authority, judged with other definitions of its formats than its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cms::cert::CertificateChoices;
use cms::cert::x509::Certificate;
use cms::cert::x509::der::asn1::{Int, ObjectIdentifier, OctetString};
use cms::cert::x509::der::{Decode, Encode};
use cms::cert::x509::ext::pkix::{BasicConstraints, ExtendedKeyUsage};
use cms::cert::x509::spki::AlgorithmIdentifierOwned;
use cms::signed_data::{SignedData, SignerIdentifier};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use quorate_bed::client::{Response, send};
use quorate_bed::{Fault, Tsa, trusted_root};
use sha2::{Digest, Sha256};
use x509_tsp::{MessageImprint, TimeStampReq, TimeStampResp, TspVersion, TstInfo};

const SHA_256: &str = "2.16.840.1.101.3.4.2.1";
const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";
const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SIGNING_CERTIFICATE_V2: &str = "1.2.840.113549.1.9.16.2.47";

fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new(text).expect("an object identifier")
}

fn query(message: &[u8], nonce: &[u8], cert_req: bool) -> TimeStampReq {
    TimeStampReq {
        version: TspVersion::V1,
        message_imprint: MessageImprint {
            hash_algorithm: AlgorithmIdentifierOwned { oid: oid(SHA_256), parameters: None },
            hashed_message: OctetString::new(Sha256::digest(message).to_vec()).expect("32 bytes"),
        },
        req_policy: None,
        nonce: Some(Int::new(nonce).expect("a number")),
        cert_req,
        extensions: None,
    }
}

fn post(tsa: &Tsa, body: &[u8]) -> Response {
    let url = tsa.url();
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let headers = [("Content-Type", "application/timestamp-query")];
    send(host, "POST", &format!("/{path}"), &headers, body).expect("the authority answers")
}

struct Token {
    info: TstInfo,
    info_der: Vec<u8>,
    signed: SignedData,
}

fn ask(tsa: &Tsa, query: &TimeStampReq) -> Token {
    let response = post(tsa, &query.to_der().expect("DER"));
    assert!((200..300).contains(&response.status));
    assert_eq!(response.header("content-type"), Some("application/timestamp-reply"));
    let reply = TimeStampResp::from_der(&response.body).expect("a timestamp reply");
    let token = reply.time_stamp_token.expect("a token");
    let signed = token.content.to_der().expect("DER");
    let signed = SignedData::from_der(&signed).expect("signed data");
    assert_eq!(signed.encap_content_info.econtent_type, oid(TST_INFO));
    let content = signed.encap_content_info.econtent.as_ref();
    let info_der = content.expect("content").value().to_vec();
    Token { info: TstInfo::from_der(&info_der).expect("timestamp info"), info_der, signed }
}

fn verifies(certificate: &Certificate, message: &[u8], signature: &[u8]) -> bool {
    let key = &certificate.tbs_certificate.subject_public_key_info;
    let key = VerifyingKey::from_public_key_der(&key.to_der().expect("DER")).expect("P-256");
    Signature::from_der(signature).is_ok_and(|s| key.verify(message, &s).is_ok())
}

#[test]
fn the_token_is_about_the_query_and_signed_by_the_leaf() {
    let tsa = Tsa::start();
    let query = query(b"a signature", &[0x12, 0x34, 0x56], true);
    let before = SystemTime::now();
    let token = ask(&tsa, &query);

    assert_eq!(token.info.message_imprint, query.message_imprint);
    assert_eq!(token.info.nonce, query.nonce);
    let time = token.info.gen_time.to_system_time();
    let age = before.duration_since(time).unwrap_or_default();
    assert!(age < Duration::from_secs(2), "{age:?}");

    let leaf = Certificate::from_der(&tsa.chain()[0]).expect("a certificate");
    let [signer] = token.signed.signer_infos.0.as_slice() else {
        panic!("one signer");
    };
    let SignerIdentifier::IssuerAndSerialNumber(id) = &signer.sid else {
        panic!("named by issuer and serial number");
    };
    assert_eq!(id.issuer, leaf.tbs_certificate.issuer);
    assert_eq!(id.serial_number, leaf.tbs_certificate.serial_number);

    let attributes = signer.signed_attrs.as_ref().expect("signed attributes");
    let value = |name| {
        let attribute = attributes.iter().find(|a| a.oid == oid(name));
        let values = &attribute.expect("the attribute is there").values;
        assert_eq!(values.len(), 1);
        values.get(0).expect("one value").to_der().expect("DER")
    };
    assert_eq!(ObjectIdentifier::from_der(&value(CONTENT_TYPE)), Ok(oid(TST_INFO)));
    let digest = OctetString::from_der(&value(MESSAGE_DIGEST)).expect("a digest");
    assert_eq!(digest.as_bytes(), &Sha256::digest(&token.info_der)[..]);
    // Three sequences and an octet string: the digest of the certificate ends it.
    let certificate_id = value(SIGNING_CERTIFICATE_V2);
    assert_eq!(certificate_id[..6], [0x30, 38, 0x30, 36, 0x30, 34]);
    assert!(certificate_id.ends_with(&Sha256::digest(&tsa.chain()[0])));

    let mut message = attributes.to_der().expect("DER");
    assert_eq!(message[0], 0x31, "signed as a set");
    let signature = signer.signature.as_bytes();
    assert!(verifies(&leaf, &message, signature));
    *message.last_mut().expect("not empty") ^= 1;
    assert!(!verifies(&leaf, &message, signature));
}

#[test]
fn the_certificates_are_fit_for_timestamps_and_nothing_else() {
    let tsa = Tsa::start();
    let [leaf, root] = tsa.chain();
    let root = Certificate::from_der(&root).expect("a certificate");
    let leaf = Certificate::from_der(&leaf).expect("a certificate");
    for certificate in [&root, &leaf] {
        let signed = certificate.tbs_certificate.to_der().expect("DER");
        assert!(verifies(&root, &signed, certificate.signature.raw_bytes()));
        assert_eq!(certificate.tbs_certificate.issuer, root.tbs_certificate.subject);
        let validity = &certificate.tbs_certificate.validity;
        let year = |time: cms::cert::x509::time::Time| time.to_date_time().year();
        assert_eq!(year(validity.not_before), 2020);
        assert_eq!(year(validity.not_after), 2049);
    }
    let (critical, constraints) =
        root.tbs_certificate.get::<BasicConstraints>().expect("DER").expect("there");
    assert!(critical && constraints.ca);
    let (critical, usage) = leaf.tbs_certificate.get::<ExtendedKeyUsage>().expect("DER").expect("there");
    assert!(critical);
    assert_eq!(usage.0, [oid("1.3.6.1.5.5.7.3.8")]);

    let trusted = trusted_root(&[], &[&tsa]);
    let chain = &trusted["timestampAuthorities"][0]["certChain"]["certificates"];
    assert_eq!(chain.as_array().map(Vec::len), Some(2));
}

#[test]
fn the_certificate_comes_when_asked_for() {
    let tsa = Tsa::start();
    let with = ask(&tsa, &query(b"x", &[1], true)).signed.certificates;
    let with = with.expect("certificates");
    let [CertificateChoices::Certificate(embedded)] = with.0.as_slice() else {
        panic!("one certificate");
    };
    assert_eq!(embedded.to_der().expect("DER"), tsa.chain()[0]);
    let without = ask(&tsa, &query(b"x", &[1], false)).signed.certificates;
    assert!(without.is_none());
}

#[test]
fn serial_numbers_differ_and_nonces_are_optional() {
    let tsa = Tsa::start();
    let mut query = query(b"x", &[1], true);
    query.nonce = None;
    let (first, second) = (ask(&tsa, &query).info, ask(&tsa, &query).info);
    assert_ne!(first.serial_number, second.serial_number);
    assert_eq!(first.nonce, None);
    assert_eq!(tsa.request_count(), 2);
}

#[test]
fn another_time_can_be_certified() {
    let tsa = Tsa::start();
    let past = UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    tsa.set_time(Some(past));
    let info = ask(&tsa, &query(b"x", &[1], true)).info;
    assert_eq!(info.gen_time.to_system_time(), past);
    tsa.set_time(None);
    let info = ask(&tsa, &query(b"x", &[1], true)).info;
    assert!(info.gen_time.to_system_time() > past + Duration::from_secs(3600));
}

#[test]
fn what_is_no_query_is_refused() {
    let tsa = Tsa::start();
    assert_eq!(post(&tsa, b"{}").status, 400);
    let mut short = query(b"x", &[1], true);
    short.message_imprint.hashed_message = OctetString::new(*b"short").expect("bytes");
    assert_eq!(post(&tsa, &short.to_der().expect("DER")).status, 400);
    let mut unknown = query(b"x", &[1], true);
    unknown.message_imprint.hash_algorithm.oid = oid("1.3.14.3.2.26");
    assert_eq!(post(&tsa, &unknown.to_der().expect("DER")).status, 400);
    tsa.fault(Fault::status(503).times(1));
    let good = query(b"x", &[1], true).to_der().expect("DER");
    assert_eq!(post(&tsa, &good).status, 503);
    assert_eq!(post(&tsa, &good).status, 201);
}
