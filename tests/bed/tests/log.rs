//! The transparency log, judged by a client that trusts nothing but its trusted root.

use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use der::Encode;
use ed25519_dalek::pkcs8::DecodePublicKey;
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::EncodePublicKey;
use quorate_bed::client::{Response, get, send};
use quorate_bed::{Answer, Fault, FaultAction, Log, trusted_root};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_cert::builder::profile::cabf::Root;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned as SubjectPublicKeyInfo;
use x509_cert::time::Validity;

fn host(log: &Log) -> String {
    log.url().strip_prefix("http://").expect("plain HTTP").to_owned()
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().expect("a string")).expect("base64")
}

fn hashed_rekord(key: &SigningKey, message: &[u8]) -> Value {
    let digest = Sha256::digest(message);
    let signature: DerSignature = key.sign_prehash(&digest).expect("a digest can be signed");
    let public_key = key.verifying_key().to_public_key_der().expect("DER");
    json!({"hashedRekordRequestV002": {
        "digest": base64(digest),
        "signature": {
            "content": base64(signature.as_bytes()),
            "verifier": {
                "publicKey": {"rawBytes": base64(public_key)},
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            },
        },
    }})
}

fn post(log: &Log, request: &Value) -> Response {
    send(
        &host(log),
        "POST",
        "/api/v2/log/entries",
        &[("Content-Type", "application/json")],
        request.to_string().as_bytes(),
    )
    .expect("the log answers")
}

fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).expect("JSON")
}

/// Checks a checkpoint against the trusted root, and returns size and root hash.
fn open_checkpoint(log: &Log, note: &str) -> (u64, Vec<u8>) {
    let trusted = trusted_root(&[log], &[]);
    let trusted = &trusted["tlogs"][0];
    let key = bytes(&trusted["publicKey"]["rawBytes"]);
    let key = VerifyingKey::from_public_key_der(&key).expect("an Ed25519 key");

    let (text, signatures) = note.split_once("\n\n").expect("a blank line");
    let text = format!("{text}\n");
    let signature = signatures
        .strip_prefix(&format!("\u{2014} {} ", log.origin()))
        .and_then(|line| line.strip_suffix('\n'))
        .expect("one signature in the name of the log");
    let signature = STANDARD.decode(signature).expect("base64");
    assert_eq!(signature.len(), 4 + 64);

    let mut named = Sha256::new();
    named.update(log.origin());
    named.update(b"\n\x01");
    named.update(key.as_bytes());
    let id = named.finalize();
    assert_eq!(signature[..4], id[..4], "the note names the key");
    assert_eq!(bytes(&trusted["logId"]["keyId"]), id[..], "so does the root");
    key.verify(text.as_bytes(), &Signature::from_slice(&signature[4..]).expect("64 bytes"))
        .expect("the checkpoint is signed by the log");

    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], log.origin());
    let root = STANDARD.decode(lines[2]).expect("base64");
    (lines[1].parse().expect("a number"), root)
}

/// Verifies an inclusion proof by rebuilding the root from the top: which half of the tree the
/// leaf lies in decides on which side the last hash of the proof stands.
fn climb(index: u64, size: u64, leaf: Vec<u8>, proof: &[Vec<u8>]) -> Vec<u8> {
    if size == 1 {
        assert!(proof.is_empty(), "no hash is left over");
        return leaf;
    }
    let split = 1 << (63 - (size - 1).leading_zeros());
    let (sibling, rest) = proof.split_last().expect("a hash for each level");
    let mut node = vec![1];
    if index < split {
        node.extend(climb(index, split, leaf, rest));
        node.extend(sibling);
    } else {
        node.extend(sibling);
        node.extend(climb(index - split, size - split, leaf, rest));
    }
    Sha256::digest(node).to_vec()
}

#[test]
fn entries_are_proven_by_what_the_log_answers() {
    let log = Log::start();
    let key = SigningKey::generate();
    for count in 0..9_u64 {
        let request = hashed_rekord(&key, &count.to_be_bytes());
        let response = post(&log, &request);
        assert_eq!(response.status, 201);
        let entry = body(&response);
        assert_eq!(entry["logIndex"], count.to_string());
        assert_eq!(entry["kindVersion"]["kind"], "hashedrekord");
        assert_eq!(entry["kindVersion"]["version"], "0.0.2");
        assert_eq!(entry["integratedTime"], "0");
        let root = trusted_root(&[&log], &[]);
        assert_eq!(entry["logId"], root["tlogs"][0]["logId"]);

        let proof = &entry["inclusionProof"];
        assert_eq!(proof["logIndex"], count.to_string());
        assert_eq!(proof["treeSize"], (count + 1).to_string());
        let note = proof["checkpoint"]["envelope"].as_str().expect("a note");
        let (size, root) = open_checkpoint(&log, note);
        assert_eq!(size, count + 1);
        assert_eq!(bytes(&proof["rootHash"]), root);
        let hashes: Vec<Vec<u8>> =
            proof["hashes"].as_array().expect("a list, even when empty").iter().map(bytes).collect();
        let canonical = bytes(&entry["canonicalizedBody"]);
        let leaf = Sha256::digest([&[0], &canonical[..]].concat()).to_vec();
        assert_eq!(climb(count, size, leaf, &hashes), root);
        assert_eq!(log.size(), count + 1);
    }
    assert_eq!(log.request_count(), 9);
}

#[test]
fn the_body_is_canonical_and_holds_what_was_sent() {
    let log = Log::start();
    let request = hashed_rekord(&SigningKey::generate(), b"payload");
    let entry = body(&post(&log, &request));
    let sent = &request["hashedRekordRequestV002"];
    let verifier = &sent["signature"]["verifier"];
    let expected = format!(
        concat!(
            r#"{{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{{"hashedRekordV002":{{"#,
            r#""data":{{"algorithm":"SHA2_256","digest":{}}},"#,
            r#""signature":{{"content":{},"verifier":{{"#,
            r#""keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{{"rawBytes":{}}}}}}}}}}}}}"#,
        ),
        sent["digest"], sent["signature"]["content"], verifier["publicKey"]["rawBytes"],
    );
    let canonical = bytes(&entry["canonicalizedBody"]);
    assert_eq!(String::from_utf8(canonical).expect("text"), expected);
}

/// A certificate that the key signed for itself.
fn certificate(key: &SigningKey) -> Vec<u8> {
    let name = Name::from_str("CN=signer,O=quorate-bed,C=DE").expect("a name");
    let public_key = key.verifying_key().to_public_key_der().expect("DER");
    CertificateBuilder::new(
        Root::new(false, name).expect("a name for a root"),
        SerialNumber::new(&[1]).expect("a number"),
        Validity::from_now(Duration::from_secs(60)).expect("a time"),
        SubjectPublicKeyInfo::try_from(public_key.as_bytes()).expect("a key"),
    )
    .and_then(|builder| builder.build::<_, DerSignature>(key))
    .and_then(|certificate| Ok(certificate.to_der()?))
    .expect("a certificate")
}

#[test]
fn a_certificate_stands_for_its_key() {
    let log = Log::start();
    let key = SigningKey::generate();
    let mut request = hashed_rekord(&key, b"payload");
    let mut with = |certificate: Vec<u8>| {
        let verifier = json!({
            "x509Certificate": {"rawBytes": base64(certificate)},
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
        });
        request["hashedRekordRequestV002"]["signature"]["verifier"] = verifier.clone();
        (post(&log, &request), verifier)
    };
    let (refused, _) = with(certificate(&SigningKey::generate()));
    assert_eq!(refused.status, 400);
    assert_eq!(body(&refused)["message"], "invalid hashedrekord request: the signature does not verify");
    let (logged, verifier) = with(certificate(&key));
    assert_eq!(logged.status, 201);
    let canonical = bytes(&body(&logged)["canonicalizedBody"]);
    let canonical: Value = serde_json::from_slice(&canonical).expect("JSON");
    let signature = &canonical["spec"]["hashedRekordV002"]["signature"];
    assert_eq!(signature["verifier"], verifier);
}

#[test]
fn an_entry_is_logged_once() {
    let log = Log::start();
    let key = SigningKey::generate();
    let first = hashed_rekord(&key, b"first");
    let second = hashed_rekord(&key, b"second");
    assert_eq!(post(&log, &first).status, 201);
    assert_eq!(post(&log, &second).status, 201);
    let again = post(&log, &second);
    assert_eq!(again.status, 409);
    assert_eq!(again.header("x-log-index"), Some("1"));
    assert_eq!(body(&again)["code"], 6);
    assert_eq!(log.size(), 2);
}

#[test]
fn what_does_not_verify_is_not_logged() {
    let log = Log::start();
    let key = SigningKey::generate();
    let good = hashed_rekord(&key, b"payload");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut request = good.clone();
        change(&mut request["hashedRekordRequestV002"]);
        request
    };
    let foreign = SigningKey::generate().verifying_key().to_public_key_der();
    let foreign = base64(foreign.expect("DER"));
    let cases = [
        (
            with(&|r| r["digest"] = base64(Sha256::digest(b"other")).into()),
            "invalid hashedrekord request: the signature does not verify",
        ),
        (
            with(&|r| {
                r["signature"]["verifier"]["publicKey"]["rawBytes"] = foreign.clone().into();
            }),
            "invalid hashedrekord request: the signature does not verify",
        ),
        (
            with(&|r| r["digest"] = base64(b"short").into()),
            "invalid hashedrekord request: the digest is not a SHA-256 digest",
        ),
        (
            with(&|r| r["signature"]["content"] = base64(b"no signature").into()),
            "invalid hashedrekord request: the signature is not an ECDSA signature",
        ),
        (
            with(&|r| r["signature"]["verifier"]["keyDetails"] = "PKIX_ED25519".into()),
            "invalid hashedrekord request: unsupported key details",
        ),
        (
            with(&|r| r["signature"]["verifier"]["publicKey"] = Value::Null),
            "invalid hashedrekord request: exactly one of public key and certificate is needed",
        ),
        (json!({"dsseRequestV002": {"envelope": {}, "verifiers": []}}), "invalid type, must be hashedrekord"),
    ];
    for (request, message) in cases {
        let response = post(&log, &request);
        assert_eq!(response.status, 400, "{message}");
        let error = body(&response);
        assert_eq!(error["message"], message);
        assert_eq!(error["code"], 3);
        assert_eq!(log.size(), 0);
    }
    assert_eq!(post(&log, &good).status, 201);
    assert_eq!(log.size(), 1);
}

#[test]
fn the_checkpoint_follows_the_tree() {
    let log = Log::start();
    let fetch = || {
        let response = get(&host(&log), "/api/v2/checkpoint", None).expect("an answer");
        assert_eq!(response.status, 200);
        String::from_utf8(response.body).expect("text")
    };
    let (size, root) = open_checkpoint(&log, &fetch());
    assert_eq!((size, root), (0, Sha256::digest(b"").to_vec()));
    post(&log, &hashed_rekord(&SigningKey::generate(), b"payload"));
    let note = fetch();
    assert_eq!(open_checkpoint(&log, &note).0, 1);
    assert_eq!(note, log.checkpoint());
}

#[test]
fn logs_are_told_apart() {
    let (one, other) = (Log::start(), Log::start());
    assert_ne!(one.origin(), other.origin());
    assert_ne!(one.url(), other.url());
    let root = trusted_root(&[&one, &other], &[]);
    assert_eq!(root["tlogs"].as_array().map(Vec::len), Some(2));
    assert_ne!(root["tlogs"][0]["publicKey"]["rawBytes"], root["tlogs"][1]["publicKey"]["rawBytes"]);
    assert_eq!(root["tlogs"][0]["baseUrl"], format!("http://{}", one.origin()));
}

#[test]
fn a_fault_can_hide_a_write_that_succeeded() {
    let log = Log::start();
    log.fault(Fault::new(FaultAction::AfterWriteStatus(Answer::status(503))).method("POST").times(1));
    let request = hashed_rekord(&SigningKey::generate(), b"payload");
    assert_eq!(post(&log, &request).status, 503);
    assert_eq!(log.size(), 1);
    assert_eq!(post(&log, &request).status, 409);
    assert_eq!(log.request_count(), 2);
}

#[test]
fn a_fault_in_the_place_of_an_answer_writes_nothing() {
    let log = Log::start();
    log.fault(Fault::status(503).method("POST").times(1));
    let request = hashed_rekord(&SigningKey::generate(), b"payload");
    assert_eq!((post(&log, &request).status, log.size()), (503, 0));
    assert_eq!((post(&log, &request).status, log.size()), (201, 1));
}
