//! The DSSE bundles of the public conformance suite of Sigstore, made by its production, its
//! staging and its testers, judged as evidence is: on ring, under the trusted root of each case.
//!
//! What they say is no vote, so that the bundle is proven first and its statement read after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use libtest_mimic::Trial;
use quorate::attestation::identity::{CertificateClaim, San};
use quorate::attestation::signer::SanPattern;
use quorate::attestation::verify::{Proven, prove};
use quorate::attestation::{Bundle, Matcher, MaySign, Sealed, Signer, Trust};
use quorate::reason::Reason;
use serde_json::Value;

use crate::peers::{Peer, Peers};

const ISSUER: &str = "https://token.actions.githubusercontent.com";
const SAN: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";

/// Every DSSE bundle of the suite, and what it comes to.
const CASES: [(&str, Result<(), Reason>); 15] = [
    // Rekor v1, `dsse`, of the public-good instance.
    ("happy-path-intoto-in-dsse-v3", Ok(())),
    ("dsse-invalid-sig_fail", Err(Reason::SignatureInvalid)),
    ("dsse-mismatch-envelope_fail", Err(Reason::LogEntry)),
    ("dsse-mismatch-sig_fail", Err(Reason::LogEntry)),
    // Rekor v2, of staging.
    ("rekor2-dsse-happy-path", Ok(())),
    ("rekor2-dsse-invalid-sig_fail", Err(Reason::SignatureInvalid)),
    ("rekor2-dsse-mismatch-envelope_fail", Err(Reason::LogEntry)),
    ("rekor2-dsse-mismatch-sig_fail", Err(Reason::LogEntry)),
    // Bundles of version 0.2 are none of ours, whatever else they are.
    ("intoto-with-custom-trust-root", Err(Reason::BundleVersion)),
    ("intoto-expired-certificate_fail", Err(Reason::BundleVersion)),
    ("intoto-log-entry-mismatch_fail", Err(Reason::BundleVersion)),
    ("intoto-missing-inclusion-proof_fail", Err(Reason::BundleVersion)),
    ("intoto-set-outside-signing-cert-validity_fail", Err(Reason::BundleVersion)),
    ("intoto-tsa-timestamp-outside-cert-validity_fail", Err(Reason::BundleVersion)),
    ("bundle-malformed-json_fail", Err(Reason::BundleMalformed)),
];

/// Those of version 0.2 in the dress of 0.3: Rekor v1, `intoto`.
const AS_0_3: [(&str, Result<(), Reason>); 6] = [
    ("intoto-with-custom-trust-root", Ok(())),
    ("intoto-expired-certificate_fail", Err(Reason::CertificateTime)),
    ("intoto-log-entry-mismatch_fail", Err(Reason::LogEntry)),
    ("intoto-missing-inclusion-proof_fail", Err(Reason::LogProof)),
    ("intoto-set-outside-signing-cert-validity_fail", Err(Reason::CertificateTime)),
    ("intoto-tsa-timestamp-outside-cert-validity_fail", Err(Reason::CertificateTime)),
];

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    vec![
        peers.trial("dsse_bundles_of_the_conformance_suite", [Peer::Vectors], |[vectors]| {
            let suite = vectors.join("sigstore-conformance");
            table(&CASES, |name| judge(&suite, name, <[u8]>::to_vec));
            // Those of signed files are refused for that alone; no DSSE case is left out.
            let listed: BTreeSet<&str> = CASES.iter().map(|(name, _)| *name).collect();
            let mut others = 0;
            for entry in fs::read_dir(&suite).unwrap() {
                let folder = entry.unwrap();
                let name = folder.file_name().into_string().unwrap();
                if !folder.path().is_dir() || listed.contains(name.as_str()) {
                    continue;
                }
                let bytes = fs::read(folder.path().join("bundle.sigstore.json")).unwrap();
                let bundle: Value = serde_json::from_slice(&bytes).unwrap();
                assert!(bundle.get("dsseEnvelope").is_none(), "{name} is not in the table");
                assert!(Sealed::parse(&bytes).is_err(), "{name}");
                others += 1;
            }
            eprintln!("{} DSSE bundles judged, {others} of signed files refused", CASES.len());
        }),
        peers.trial("older_bundles_of_the_conformance_suite_as_0_3", [Peer::Vectors], |[vectors]| {
            let suite = vectors.join("sigstore-conformance");
            table(&AS_0_3, |name| judge(&suite, name, modern));
        }),
        peers.trial("another_trust_proves_no_conformance_case", [Peer::Vectors], |[vectors]| {
            let suite = vectors.join("sigstore-conformance");
            let case = |name: &str| fs::read(suite.join(name).join("bundle.sigstore.json")).unwrap();
            let staging = root(&suite, "rekor2-dsse-happy-path");
            let public_good = root(&suite, "happy-path-intoto-in-dsse-v3");
            for (name, trust, reason) in [
                ("happy-path-intoto-in-dsse-v3", &staging, Reason::LogUnknown),
                ("rekor2-dsse-happy-path", &public_good, Reason::LogUnknown),
            ] {
                let found = proven(&case(name), trust, &anybody()).map(|_| ());
                assert_eq!(found.map_err(|(reason, _)| reason), Err(reason), "{name}");
            }
        }),
    ]
}

fn table(cases: &[(&str, Result<(), Reason>)], judge: impl Fn(&str) -> Result<(), (Reason, String)>) {
    let mut wrong = Vec::new();
    for (name, expected) in cases {
        let found = judge(name);
        let code = found.as_ref().copied().map_err(|(reason, _)| *reason);
        // What ring cannot do would pass for a refusal.
        let cannot = found.as_ref().is_err_and(|(_, why)| why.to_lowercase().contains("unsupported"));
        if code != *expected || cannot {
            wrong.push(format!("{name}: expected {expected:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// One case, under its own trusted root and for the one identity of the suite; where it is proven,
/// that its statement is no vote.
fn judge(suite: &Path, name: &str, dress: impl Fn(&[u8]) -> Vec<u8>) -> Result<(), (Reason, String)> {
    let bytes = dress(&fs::read(suite.join(name).join("bundle.sigstore.json")).unwrap());
    let proven = proven(&bytes, &root(suite, name), &anybody())?;
    assert!(!proven.times().is_empty(), "{name}");
    let Signer::Certificate(identity) = proven.signer() else { panic!("{name}: {:?}", proven.signer()) };
    assert_eq!((identity.issuer.as_str(), &identity.san), (ISSUER, &San::Uri(SAN.to_owned())), "{name}");
    let reference = identity.claim(CertificateClaim::SourceRepositoryRef);
    assert!(reference.is_none_or(|reference| reference == "refs/heads/main"), "{name}: {reference:?}");
    assert_eq!(Bundle::parse(&bytes).unwrap_err().0, Reason::PredicateType, "{name}");
    Ok(())
}

fn proven(bytes: &[u8], trust: &Trust, may_sign: &MaySign) -> Result<Proven, (Reason, String)> {
    let sealed = Sealed::parse(bytes)?;
    prove(&sealed, [(may_sign, trust)]).map_err(|rejection| (rejection.reason, rejection.detail))
}

fn anybody() -> MaySign {
    let san = SanPattern::new(SAN).unwrap();
    MaySign::Certificate(Matcher { issuer: ISSUER.to_owned(), san, claims: [].into() })
}

fn root(suite: &Path, name: &str) -> Trust {
    quorate::init().unwrap();
    let own = suite.join(name).join("trusted_root.json");
    let file = if own.exists() { own } else { suite.join("public_good_trusted_root.json") };
    Trust::from_json(&fs::read(file).unwrap()).unwrap()
}

/// The same bundle with the version, and the one certificate, of 0.3.
fn modern(bytes: &[u8]) -> Vec<u8> {
    let mut bundle: Value = serde_json::from_slice(bytes).unwrap();
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.3+json".into();
    let material = bundle["verificationMaterial"].as_object_mut().unwrap();
    let chain = material.remove("x509CertificateChain").unwrap();
    material.insert("certificate".to_owned(), chain["certificates"][0].clone());
    serde_json::to_vec(&bundle).unwrap()
}
