//! How many signatures are checked for a bundle that somebody made as large as it may be. Whoever
//! copies a vote can give it as many log entries and timestamps as there may be in one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

use std::cell::Cell;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate::attestation::provider::RING;
use quorate::attestation::verify::verify;
use quorate::attestation::{Bundle, MaySign, PublicKey, Trust};
use quorate::reason::Reason;
use serde_json::{Value, json};
use sigstore_crypto::{CryptoProvider, HashContext, Result, SigningScheme};
use sigstore_types::HashAlgorithm;

/// ring, which counts the signatures that each thread has checked.
#[derive(Debug)]
struct Counter;

static COUNTER: Counter = Counter;

thread_local! {
    static CHECKED: Cell<usize> = const { Cell::new(0) };
}

impl CryptoProvider for Counter {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>> {
        RING.hash(algorithm)
    }

    fn verify_raw(&self, scheme: SigningScheme, key: &[u8], data: &[u8], signature: &[u8]) -> Result<()> {
        CHECKED.set(CHECKED.get() + 1);
        RING.verify_raw(scheme, key, data, signature)
    }

    fn verify_prehashed(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        digest: &[u8],
        signature: &[u8],
    ) -> Result<()> {
        CHECKED.set(CHECKED.get() + 1);
        RING.verify_prehashed(scheme, key, digest, signature)
    }
}

#[test]
fn entries_and_timestamps_add_and_do_not_multiply() {
    assert!(sigstore_crypto::install_default_provider(&COUNTER).is_ok());
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let read = |name: &str| fs::read(fuzz.join(name)).unwrap();
    let genuine: Value = serde_json::from_slice(&read("seeds/bundle/genuine.json")).unwrap();
    let key = PublicKey::from_pem(&String::from_utf8(read("data/builder.pub")).unwrap()).unwrap();
    let (key, trust) = (MaySign::Key(key), Trust::from_json(&read("data/trusted_root.json")).unwrap());

    let sized = |entries: usize, stamps: usize| {
        let mut bundle = genuine.clone();
        let material = &mut bundle["verificationMaterial"];
        material["tlogEntries"] = vec![material["tlogEntries"][0].clone(); entries].into();
        let times = &mut material["timestampVerificationData"]["rfc3161Timestamps"];
        *times = vec![times[0].clone(); stamps].into();
        bundle
    };
    let checks = |bundle: &Value, expected: Option<Reason>| {
        CHECKED.set(0);
        let bundle = Bundle::parse(&serde_json::to_vec(bundle).unwrap()).unwrap();
        let judged = verify(&bundle, [(&key, &trust)]);
        assert_eq!(judged.err().map(|rejection| rejection.reason), expected);
        CHECKED.get()
    };
    let one = checks(&sized(1, 1), None);
    let (entries, stamps) = (checks(&sized(8, 1), None), checks(&sized(1, 32), None));
    assert!(one > 0 && entries > one && stamps > entries, "{one}, {entries}, {stamps}");
    let both = checks(&sized(8, 32), None);
    assert!(
        both <= entries + stamps,
        "{both} of 8 entries and 32 timestamps, {entries} and {stamps} of each"
    );

    // Nor is any of them checked where nobody known made the signature, whatever the hint says.
    let mut foreign = sized(8, 32);
    foreign["dsseEnvelope"]["payload"] = json!(STANDARD.encode(read("data/statement.json")));
    foreign["dsseEnvelope"]["signatures"][0]["sig"] = json!(STANDARD.encode([0; 70]));
    let none = checks(&foreign, Some(Reason::SignerUnknown));
    assert!(none <= 1, "{none} for a signature that is none");
}
