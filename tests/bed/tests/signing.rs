//! Issuer, certificate authority and Rekor v1: what they give, and what they refuse.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::EncodePublicKey;
use quorate_bed::client::{Response, get, send};
use quorate_bed::issuer::{github_job, gitlab_job};
use quorate_bed::{Fulcio, Issuer, Misissue, RekorV1};
use serde_json::{Value, json};
use x509_cert::Certificate;
use x509_cert::der::{Decode, DecodePem, Encode};

const GITHUB: &str = "https://token.actions.githubusercontent.com";
const COMMIT: &str = "5f1c2d9e8b7a6f5e4d3c2b1a09f8e7d6c5b4a392";

fn post(url: &str, body: &Value) -> Response {
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let headers = [("Content-Type", "application/json")];
    send(host, "POST", &format!("/{path}"), &headers, body.to_string().as_bytes()).expect("an answer")
}

fn pem(key: &SigningKey) -> String {
    let der = key.verifying_key().to_public_key_der().expect("DER");
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_bytes()))
}

fn request(fulcio: &Fulcio, token: &str, key: &SigningKey, challenge: &str) -> Response {
    let proof: DerSignature = key.sign(challenge.as_bytes());
    let pem = pem(key);
    let body = json!({
        "credentials": {"oidcIdentityToken": token},
        "publicKeyRequest": {
            "publicKey": {"algorithm": "ECDSA", "content": pem},
            "proofOfPossession": STANDARD.encode(proof.as_bytes()),
        },
    });
    post(&format!("{}/api/v2/signingCert", fulcio.url()), &body)
}

fn chain(answer: &Response) -> Vec<Certificate> {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let chain = body["signedCertificateEmbeddedSct"]["chain"]["certificates"].as_array().expect("a chain");
    chain
        .iter()
        .map(|pem| Certificate::from_pem(pem.as_str().expect("PEM")).expect("a certificate"))
        .collect()
}

fn claim(certificate: &Certificate, number: u32) -> Option<String> {
    let oid = format!("1.3.6.1.4.1.57264.1.{number}");
    let extensions = certificate.tbs_certificate().extensions().expect("extensions");
    let found = extensions.iter().find(|extension| extension.extn_id.to_string() == oid)?;
    Some(String::from_der(found.extn_value.as_bytes()).expect("a UTF8String"))
}

/// Whether the second certificate signed the first.
fn signed_by(one: &Certificate, other: &Certificate) -> bool {
    let key = other.tbs_certificate().subject_public_key_info().to_der().expect("DER");
    let key = <VerifyingKey as p256::pkcs8::DecodePublicKey>::from_public_key_der(&key).expect("a key");
    let signature = DerSignature::from_bytes(one.signature().raw_bytes()).expect("a signature");
    key.verify(&one.tbs_certificate().to_der().expect("DER"), &signature).is_ok()
}

#[test]
fn a_certificate_says_what_the_token_says() {
    let issuer = Issuer::start(GITHUB);
    let gitlab = Issuer::start("https://gitlab.com");
    let fulcio = Fulcio::start(&[&issuer, &gitlab]);
    let key = SigningKey::generate();

    let job = github_job("acme/app", "build.yml", "refs/heads/main", COMMIT);
    let chain_ = chain(&request(&fulcio, &issuer.token(&job), &key, "repo:acme/app:ref:refs/heads/main"));
    let [leaf, intermediate, root] = &chain_[..] else { panic!("{} certificates", chain_.len()) };
    assert!(signed_by(leaf, intermediate) && signed_by(intermediate, root) && signed_by(root, root));
    assert!(!signed_by(leaf, root));
    let signer = "https://github.com/acme/app/.github/workflows/build.yml@refs/heads/main";
    for (number, value) in [
        (8, Some(GITHUB)),
        (9, Some(signer)),
        (11, Some("github-hosted")),
        (12, Some("https://github.com/acme/app")),
        (13, Some(COMMIT)),
        (14, Some("refs/heads/main")),
        (15, Some("100100")),
        (21, Some("https://github.com/acme/app/actions/runs/42/attempts/1")),
        (23, None),
    ] {
        assert_eq!(claim(leaf, number).as_deref(), value, "{number}");
    }

    let job = gitlab_job("acme/tools/app", "main", COMMIT);
    let subject = "project_path:acme/tools/app:ref_type:branch:ref:main";
    let leaf = &chain(&request(&fulcio, &gitlab.token(&job), &key, subject))[0];
    assert_eq!(claim(leaf, 14).as_deref(), Some("refs/heads/main"));
    assert_eq!(
        claim(leaf, 9).as_deref(),
        Some("https://gitlab.com/acme/tools/app//.gitlab-ci.yml@refs/heads/main")
    );
}

#[test]
fn no_certificate_without_a_token_and_the_key() {
    let issuer = Issuer::start(GITHUB);
    let stranger = Issuer::start(GITHUB);
    let unknown = Issuer::start("https://git.example");
    let fulcio = Fulcio::start(&[&issuer]);
    let key = SigningKey::generate();
    let job = github_job("acme/app", "build.yml", "refs/heads/main", COMMIT);
    let subject = "repo:acme/app:ref:refs/heads/main";
    let with = |name: &str, value: Value| {
        let mut job = job.clone();
        job[name] = value;
        issuer.token(&job)
    };
    for (token, challenge, why) in [
        (stranger.token(&job), subject, "verify the signature"),
        (unknown.token(&job), subject, "unsupported issuer"),
        (with("exp", json!(1)), subject, "expired"),
        (with("aud", json!("acme")), subject, "audience"),
        (issuer.token(&job), "repo:acme/app:ref:refs/heads/other", "could not be verified"),
    ] {
        let answer = request(&fulcio, &token, &key, challenge);
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 400, "{said}");
        assert!(said.contains(why), "{said}");
    }
    chain(&request(&fulcio, &issuer.token(&job), &key, subject));
}

#[test]
fn a_certificate_can_be_wrong() {
    let issuer = Issuer::start(GITHUB);
    let fulcio = Fulcio::start(&[&issuer]);
    let key = SigningKey::generate();
    let subject = "repo:acme/app:ref:refs/heads/main";
    let token = issuer.token(&github_job("acme/app", "build.yml", "refs/heads/main", COMMIT));
    let ask = |what| {
        fulcio.misissue(Some(what));
        chain(&request(&fulcio, &token, &key, subject))
    };
    let public = key.verifying_key().to_public_key_der().expect("DER");
    let spki = |certificate: &Certificate| {
        certificate.tbs_certificate().subject_public_key_info().to_der().expect("DER")
    };
    assert_ne!(spki(&ask(Misissue::OtherKey)[0]), public.as_bytes());
    let of_another = ask(Misissue::OtherAuthority);
    assert!(!signed_by(&of_another[0], &of_another[1]));
    let log = |certificates: &[Certificate]| {
        let extensions = certificates[0].tbs_certificate().extensions().expect("extensions").clone();
        let list = extensions.into_iter().find(|e| e.extn_id.to_string() == "1.3.6.1.4.1.11129.2.4.2");
        // Two headers of DER, two lengths and a version stand before the name of the log.
        list.map(|list| list.extn_value.as_bytes()[7..39].to_vec())
    };
    assert_eq!(log(&ask(Misissue::NoTimestamp)), None);
    let other = log(&ask(Misissue::OtherLog));
    fulcio.misissue(None);
    let good = chain(&request(&fulcio, &token, &key, subject));
    assert!(other.is_some() && log(&good).is_some() && log(&good) != other);
    assert_eq!(spki(&good[0]), public.as_bytes());
}

#[test]
fn an_entry_is_taken_once_and_found_again() {
    let log = RekorV1::start();
    let key = SigningKey::generate();
    let pem = pem(&key);
    let entry = |payload: &str, signed: &str| {
        let pae = format!("DSSEv1 4 text {} {signed}", signed.len());
        let signature: DerSignature = key.sign(pae.as_bytes());
        let envelope = json!({
            "payload": STANDARD.encode(payload),
            "payloadType": "text",
            "signatures": [{"sig": STANDARD.encode(signature.as_bytes())}],
        });
        json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {"proposedContent": {
            "envelope": envelope.to_string(),
            "verifiers": [STANDARD.encode(&pem)],
        }}})
    };
    let url = format!("{}/api/v1/log/entries", log.url());
    assert_eq!(post(&url, &entry("one", "another")).status, 400);
    assert_eq!(log.size(), 0);
    let one = entry("one", "one");
    let first = post(&url, &one);
    assert_eq!(first.status, 201);
    assert_eq!(post(&url, &entry("two", "two")).status, 201);
    let again = post(&url, &one);
    assert_eq!((again.status, log.size()), (409, 2));
    assert_eq!(again.header("location"), first.header("location"));

    let host = log.url().replace("http://", "");
    let found = get(&host, again.header("location").expect("a location"), None).expect("an answer");
    assert_eq!(found.status, 200);
    let parse = |answer: &Response| -> Value { serde_json::from_slice(&answer.body).expect("JSON") };
    let inner = |value: Value| value.as_object().expect("an object").values().next().cloned().expect("one");
    let (then, now) = (inner(parse(&first)), inner(parse(&found)));
    assert_eq!(then["body"], now["body"]);
    assert_eq!(then["verification"]["inclusionProof"]["treeSize"], 1);
    assert_eq!(now["verification"]["inclusionProof"]["treeSize"], 2);
    let index = format!("/api/v1/log/entries?logIndex={}", now["logIndex"]);
    assert_eq!(inner(parse(&get(&host, &index, None).expect("an answer"))), now);
    assert_eq!(get(&host, "/api/v1/log/entries?logIndex=1", None).expect("an answer").status, 404);
}
