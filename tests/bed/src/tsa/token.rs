//! Timestamp requests and tokens: RFC 3161 in CMS (RFC 5652).

use std::time::SystemTime;

use der::asn1::{Any, GeneralizedTime, Int, OctetString, SetOfVec, Uint};
use der::oid::ObjectIdentifier;
use der::{Decode, Encode, Sequence, ValueOrd};
use p256::ecdsa::DerSignature;
use p256::ecdsa::signature::Signer;
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::ext::Extensions;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::certificate::Chain;
use crate::sha256;

const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
const ECDSA_WITH_SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
/// The policy that Sigstore's timestamp authority claims unless told otherwise.
const POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.2");

#[derive(Sequence)]
struct TimeStampReq {
    version: u8,
    message_imprint: MessageImprint,
    #[asn1(optional = "true")]
    req_policy: Option<ObjectIdentifier>,
    #[asn1(optional = "true")]
    nonce: Option<Int>,
    #[asn1(default = "bool::default")]
    cert_req: bool,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    extensions: Option<Extensions>,
}

#[derive(Sequence)]
struct MessageImprint {
    hash_algorithm: AlgorithmIdentifierOwned,
    hashed_message: OctetString,
}

#[derive(Sequence)]
struct TimeStampResp {
    status: PkiStatusInfo,
    time_stamp_token: ContentInfo,
}

#[derive(Sequence)]
struct PkiStatusInfo {
    status: u8,
}

#[derive(Sequence)]
struct ContentInfo {
    content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    content: SignedData,
}

#[derive(Sequence)]
struct TstInfo {
    version: u8,
    policy: ObjectIdentifier,
    message_imprint: MessageImprint,
    serial_number: Uint,
    gen_time: GeneralizedTime,
    #[asn1(optional = "true")]
    nonce: Option<Int>,
}

#[derive(Sequence)]
struct SignedData {
    version: u8,
    digest_algorithms: SetOfVec<AlgorithmIdentifierOwned>,
    encap_content_info: EncapsulatedContentInfo,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    certificates: Option<SetOfVec<Certificate>>,
    signer_infos: SetOfVec<SignerInfo>,
}

#[derive(Sequence)]
struct EncapsulatedContentInfo {
    content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    content: OctetString,
}

#[derive(Sequence, ValueOrd)]
struct SignerInfo {
    version: u8,
    sid: IssuerAndSerialNumber,
    digest_algorithm: AlgorithmIdentifierOwned,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    signed_attributes: SetOfVec<Attribute>,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: OctetString,
}

#[derive(Sequence, ValueOrd)]
struct IssuerAndSerialNumber {
    issuer: Name,
    serial_number: SerialNumber,
}

#[derive(Sequence)]
struct SigningCertificateV2 {
    certificates: Vec<EssCertIdV2>,
}

/// Without `hashAlgorithm`, whose default is SHA-256.
#[derive(Sequence)]
struct EssCertIdV2 {
    hash: OctetString,
}

/// Answers a DER `TimeStampReq` with a DER `TimeStampResp`; an error is why it cannot.
pub(super) fn respond(
    request: &[u8],
    chain: &Chain,
    serial: u64,
    time: SystemTime,
) -> Result<Vec<u8>, String> {
    let request =
        TimeStampReq::from_der(request).map_err(|error| format!("not a timestamp request: {error}"))?;
    check(&request)?;
    let reply = TimeStampResp {
        status: PkiStatusInfo { status: 0 },
        time_stamp_token: sign(request, chain, serial, time)
            .map_err(|error| format!("this time cannot be certified: {error}"))?,
    };
    Ok(reply.to_der().expect("a token has a DER form"))
}

fn check(request: &TimeStampReq) -> Result<(), String> {
    let imprint = &request.message_imprint;
    let length = match imprint.hash_algorithm.oid {
        SHA_256 => 32,
        SHA_384 => 48,
        SHA_512 => 64,
        other => return Err(format!("unknown hash algorithm {other}")),
    };
    if imprint.hashed_message.as_bytes().len() != length {
        return Err("the imprint has not the length of its algorithm".to_owned());
    }
    if request.version != 1 {
        return Err(format!("unknown version {}", request.version));
    }
    if request.req_policy.is_some_and(|policy| policy != POLICY) {
        return Err("unknown policy".to_owned());
    }
    if request.extensions.is_some() {
        return Err("no extension is known".to_owned());
    }
    Ok(())
}

fn sign(request: TimeStampReq, chain: &Chain, serial: u64, time: SystemTime) -> der::Result<ContentInfo> {
    let info = TstInfo {
        version: 1,
        policy: POLICY,
        message_imprint: request.message_imprint,
        serial_number: Uint::new(&serial.to_be_bytes())?,
        gen_time: GeneralizedTime::from_system_time(time)?,
        nonce: request.nonce,
    }
    .to_der()?;
    let certificate_id = SigningCertificateV2 {
        certificates: vec![EssCertIdV2 { hash: OctetString::new(sha256(&chain.leaf.to_der()?))? }],
    };
    let attributes = SetOfVec::try_from(vec![
        attribute(CONTENT_TYPE, &TST_INFO)?,
        attribute(MESSAGE_DIGEST, &OctetString::new(sha256(&info))?)?,
        attribute(SIGNING_CERTIFICATE_V2, &certificate_id)?,
    ])?;
    // Signed as a SET, though it is sent with a tag of its own (RFC 5652, section 5.4).
    let signature: DerSignature = chain.key.sign(&attributes.to_der()?);
    let leaf = chain.leaf.tbs_certificate();
    let signer = SignerInfo {
        version: 1,
        sid: IssuerAndSerialNumber {
            issuer: leaf.issuer().clone(),
            serial_number: leaf.serial_number().clone(),
        },
        digest_algorithm: algorithm(SHA_256),
        signed_attributes: attributes,
        signature_algorithm: algorithm(ECDSA_WITH_SHA_256),
        signature: OctetString::new(signature.as_bytes())?,
    };
    Ok(ContentInfo {
        content_type: SIGNED_DATA,
        content: SignedData {
            version: 3,
            digest_algorithms: SetOfVec::try_from(vec![algorithm(SHA_256)])?,
            encap_content_info: EncapsulatedContentInfo {
                content_type: TST_INFO,
                content: OctetString::new(info)?,
            },
            certificates: request
                .cert_req
                .then(|| SetOfVec::try_from(vec![chain.leaf.clone()]))
                .transpose()?,
            signer_infos: SetOfVec::try_from(vec![signer])?,
        },
    })
}

fn algorithm(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid, parameters: None }
}

fn attribute(oid: ObjectIdentifier, value: &impl Encode) -> der::Result<Attribute> {
    Ok(Attribute { oid, values: SetOfVec::try_from(vec![Any::from_der(&value.to_der()?)?])? })
}
