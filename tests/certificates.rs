//! Bundles whose signers are named by certificates, and bundles in a Rekor v1: what is proven of
//! them, each beside the hostile or broken ones that differ in one thing.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]
#![allow(clippy::too_many_lines, reason = "tables")]

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate::attestation::signer::SanPattern;
use quorate::attestation::verify::verify;
use quorate::attestation::{
    Attestation, Build, Bundle, CertificateClaim, Claim, Content, Matcher, MaySign, Remarks, San, Signer,
    Statement, Transparency, Trust, Trusts, Witnesses, envelope,
};
use quorate::edge::log::{self, By, Version};
use quorate::edge::registry::{Options, Registry};
use quorate::edge::service::Service;
use quorate::edge::signer::{KeyPair, KeySource};
use quorate::edge::tsa;
use quorate::nix::NarHash;
use quorate::oci::{Digest, ImageIndex};
use quorate::policy::{Candidate, Evidence, Expected, Policy, Verdict, decide, weak_spots};
use quorate::reason::Reason;
use quorate_bed::image::{self, Image};
use quorate_bed::issuer::github_job;
use quorate_bed::{Fulcio, Issuer, Log, Misissue, RekorV1, Tsa, client, keyless_root};
use serde_json::{Value, json};
use sigstore_rekor::entry::LogEntry;
use sigstore_types::{DerCertificate, DerPublicKey, KindVersion};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

const NAME: &str = "ghcr.io/acme/app";
const GITHUB: &str = "https://token.actions.githubusercontent.com";
const SAN: &str = "https://github.com/acme/app/.github/workflows/build.yml@refs/heads/main";
const MAIN: &str = "refs/heads/main";
const ENTRY: &str = "/verificationMaterial/tlogEntries/0";
const STAMPS: &str = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";

/// Two authorities that believe one issuer, of which the trust knows the first; two logs of
/// different kinds; an authority for times.
struct World {
    issuer: Issuer,
    fulcio: Fulcio,
    other_fulcio: Fulcio,
    old: RekorV1,
    new: Log,
    tsa: Tsa,
    service: Service,
}

/// By which witnesses a signature was seen.
#[derive(Clone, Copy, PartialEq)]
enum Seen {
    /// Rekor v1: its time.
    Old,
    /// Rekor v2 and a timestamp.
    New,
    /// Both logs, and a timestamp.
    Both,
    /// A timestamp alone.
    Stamped,
    /// By nobody.
    Nowhere,
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        quorate::init().unwrap();
        tokio::runtime::Runtime::new().unwrap()
    })
}

fn commit() -> String {
    "a".repeat(40)
}

fn job() -> Value {
    github_job("acme/app", "build.yml", MAIN, &commit())
}

impl World {
    fn new() -> Self {
        let _entered = runtime().enter();
        let issuer = Issuer::start(GITHUB);
        let world = Self {
            fulcio: Fulcio::start(&[&issuer]),
            other_fulcio: Fulcio::start(&[&issuer]),
            issuer,
            old: RekorV1::start(),
            new: Log::start(),
            tsa: Tsa::start(),
            service: Service::new(&Registry::new(Options::default()).unwrap()),
        };
        // So that inclusion proofs have something in them.
        for n in 0..3 {
            world.keyed(format!("{{\"n\":{n}}}").as_bytes(), Seen::Both);
        }
        world
    }

    fn root(&self, fulcios: &[&Fulcio]) -> Value {
        keyless_root(&[&self.new], &[&self.old], &[&self.tsa], fulcios)
    }

    fn trust(&self) -> Trust {
        trust(&self.root(&[&self.fulcio]), Transparency::default())
    }

    /// A key and the certificate that Fulcio gives for it.
    fn certified(&self, fulcio: &Fulcio, job: &Value) -> (KeyPair, Vec<u8>) {
        let (pair, _) = KeyPair::generate().unwrap();
        let proof = pair.sign(job["sub"].as_str().unwrap().as_bytes()).unwrap();
        let request = json!({
            "credentials": {"oidcIdentityToken": self.issuer.token(job)},
            "publicKeyRequest": {
                "publicKey": {"algorithm": "ECDSA", "content": pair.public().to_pem()},
                "proofOfPossession": STANDARD.encode(proof),
            },
        });
        let host = fulcio.url().replace("http://", "");
        let headers = [("Content-Type", "application/json")];
        let body = request.to_string();
        let answer = client::send(&host, "POST", "/api/v2/signingCert", &headers, body.as_bytes()).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let pem = answer["signedCertificateEmbeddedSct"]["chain"]["certificates"][0].as_str().unwrap();
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        (pair, STANDARD.decode(base64).unwrap())
    }

    fn bundle(&self, pair: &KeyPair, certificate: Option<&[u8]>, payload: &[u8], seen: Seen) -> Value {
        let signature = pair.sign(&envelope::pae(payload)).unwrap();
        let sealed = envelope::seal(payload.to_vec(), signature.clone());
        let by = certificate.map_or(By::Key(pair.public()), By::Certificate);
        let entry = |url: String, version| {
            let log = log::Log { url: url.parse().unwrap(), version };
            runtime().block_on(log::submit(&self.service, &log, by, &sealed)).unwrap().unwrap()
        };
        let mut entries = Vec::new();
        if matches!(seen, Seen::Old | Seen::Both) {
            entries.push(entry(self.old.url(), Version::V1));
        }
        if matches!(seen, Seen::New | Seen::Both) {
            entries.push(entry(self.new.url(), Version::V2));
        }
        let stamps = if matches!(seen, Seen::Old | Seen::Nowhere) {
            Vec::new()
        } else {
            let url = self.tsa.url().parse().unwrap();
            vec![runtime().block_on(tsa::stamp(&self.service, &url, &signature)).unwrap()]
        };
        // Of a key there is no function for this many witnesses: its bundle has a hint in its place.
        let der = certificate.map_or_else(|| vec![0], <[u8]>::to_vec);
        let bundle = Bundle::certified(sealed, der, entries, stamps).to_json().unwrap();
        let bundle: Value = serde_json::from_str(&bundle).unwrap();
        if certificate.is_none() { of_a_key(&bundle) } else { bundle }
    }

    /// The bundle of a job of the project, which signs `payload`.
    fn says(&self, payload: &[u8], seen: Seen) -> Value {
        let (pair, certificate) = self.certified(&self.fulcio, &job());
        self.bundle(&pair, Some(&certificate), payload, seen)
    }

    /// A bundle with an `intoto` entry under the verifier in `pem`, in the place of its others.
    fn intoto(&self, bundle: &Value, pem: &str) -> Value {
        let envelope = &bundle["dsseEnvelope"];
        let again = |text: &Value| STANDARD.encode(text.as_str().unwrap());
        let signature =
            json!({"sig": again(&envelope["signatures"][0]["sig"]), "publicKey": STANDARD.encode(pem)});
        let request = json!({"apiVersion": "0.0.2", "kind": "intoto", "spec": {"content": {"envelope": {
            "payload": again(&envelope["payload"]),
            "payloadType": envelope["payloadType"],
            "signatures": [signature],
        }}}});
        let host = self.old.url().replace("http://", "");
        let (headers, body) = ([("Content-Type", "application/json")], request.to_string());
        let answer = client::send(&host, "POST", "/api/v1/log/entries", &headers, body.as_bytes()).unwrap();
        let answer: HashMap<String, LogEntry> = serde_json::from_slice(&answer.body).unwrap();
        let entry = answer.into_values().next().unwrap().to_bundle_entry(KindVersion::IntotoV002).unwrap();
        let mut bundle = bundle.clone();
        bundle["verificationMaterial"]["tlogEntries"] = json!([entry]);
        bundle
    }

    /// A bundle signed with a key, and whoever has it.
    fn keyed(&self, payload: &[u8], seen: Seen) -> (Value, MaySign) {
        let (pair, _) = KeyPair::generate().unwrap();
        (self.bundle(&pair, None, payload, seen), MaySign::Key(pair.public().clone()))
    }
}

/// The same bundle with a hint of a key in the place of its certificate.
fn of_a_key(bundle: &Value) -> Value {
    let mut bundle = bundle.clone();
    let material = bundle["verificationMaterial"].as_object_mut().unwrap();
    material.remove("certificate");
    material.insert("publicKey".to_owned(), json!({"hint": "a key"}));
    bundle
}

/// The Ed25519 key of `tests/keys`.
fn ed25519() -> KeyPair {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys/ed25519.key");
    KeyPair::load(&KeySource::File(file), "").unwrap()
}

fn trust(root: &Value, transparency: Transparency) -> Trust {
    quorate::init().unwrap();
    Trust::new(root.to_string().as_bytes(), transparency).unwrap()
}

fn matcher(san: &str) -> Matcher {
    Matcher { issuer: GITHUB.to_owned(), san: SanPattern::new(san).unwrap(), claims: [].into() }
}

fn github() -> MaySign {
    MaySign::Certificate(matcher(SAN))
}

fn judge(bundle: &Value, may_sign: &[(&MaySign, &Trust)]) -> Result<Attestation, (Reason, String)> {
    let bundle = Bundle::parse(bundle.to_string().as_bytes())?;
    verify(&bundle, may_sign.iter().copied()).map_err(|r| (r.reason, r.detail))
}

/// What came out differently than it should, all at once.
#[derive(Default)]
struct Table(Vec<String>);

impl Table {
    fn row(
        &mut self,
        what: &str,
        found: Result<Attestation, (Reason, String)>,
        expected: Result<(), Reason>,
    ) {
        let code = found.as_ref().map(|_| ()).map_err(|(reason, _)| *reason);
        if code != expected {
            self.0.push(format!("{what}: expected {expected:?}, found {:?}", found.map(|_| ())));
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{:#?}", self.0);
        }
    }
}

fn with(good: &Value, pointer: &str, value: Value) -> Value {
    let mut bundle = good.clone();
    *bundle.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    assert_ne!(bundle, *good, "the change changes nothing");
    bundle
}

fn without(good: &Value, pointer: &str) -> Value {
    let mut bundle = good.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    bundle.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    bundle
}

fn flipped(good: &Value, pointer: &str, at: usize) -> Value {
    let mut bytes = STANDARD.decode(good.pointer(pointer).unwrap().as_str().unwrap()).unwrap();
    bytes[at] ^= 1;
    with(good, pointer, STANDARD.encode(bytes).into())
}

fn statement(about: &[u8]) -> Statement {
    Statement {
        name: NAME.parse().unwrap(),
        subject: Digest::of(about),
        claim: Claim::Build,
        build: Build {
            commit: commit().parse().unwrap(),
            system: "x86_64-linux".parse().unwrap(),
            content: Content {
                nar_hash: NarHash::from_bytes(*Digest::of(b"nar").as_bytes()),
                config_digest: Digest::of(b"config"),
            },
            builder: "github".to_owned(),
            sequence: 7,
            source_uri: Some("git+https://github.com/acme/app".to_owned()),
            git_ref: Some(MAIN.to_owned()),
            target: None,
            remarks: Remarks::default(),
        },
    }
}

fn payload(about: &[u8]) -> Vec<u8> {
    statement(about).to_payload().unwrap()
}

/// How far the times of some tests are from now.
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn certificates_say_who_signed_where_all_of_it_holds() {
    let world = World::new();
    let trust = world.trust();
    for seen in [Seen::Old, Seen::New, Seen::Both] {
        let proven = judge(&world.says(&payload(b"one"), seen), &[(&github(), &trust)]).unwrap();
        let Signer::Certificate(identity) = proven.signer() else { panic!("{:?}", proven.signer()) };
        assert_eq!((identity.issuer.as_str(), &identity.san), (GITHUB, &San::Uri(SAN.to_owned())));
        for (claim, value) in [
            (CertificateClaim::SourceRepositoryDigest, commit().as_str()),
            (CertificateClaim::SourceRepositoryOwnerIdentifier, "200200"),
            (CertificateClaim::RunnerEnvironment, "github-hosted"),
        ] {
            assert_eq!(identity.claim(claim), Some(value));
        }
        assert_eq!(identity.claim(CertificateClaim::DeploymentEnvironment), None);
        assert!(proven.earliest().is_some());
    }

    let mut table = Table::default();
    let mut row = |what: &str, bundle: &Value, expected| {
        table.row(what, judge(bundle, &[(&github(), &trust)]), expected);
    };
    for (misissue, reason) in [
        (Misissue::OtherAuthority, Reason::CertificateUntrusted),
        (Misissue::OtherUse, Reason::CertificateUntrusted),
        (Misissue::OtherLog, Reason::CertificateSct),
        (Misissue::NoTimestamp, Reason::CertificateSct),
        (Misissue::Expired, Reason::CertificateTime),
        (Misissue::OtherIssuer, Reason::SignerUnknown),
        (Misissue::OtherIdentity, Reason::SignerUnknown),
    ] {
        world.fulcio.misissue(Some(misissue));
        for seen in [Seen::Old, Seen::New] {
            row(&format!("{misissue:?}"), &world.says(&payload(b"one"), seen), Err(reason));
        }
        world.fulcio.misissue(None);
    }

    // Seen before the certificate began, and after it ended.
    for (what, time) in
        [("before", Some(SystemTime::now() - HOUR)), ("after", Some(SystemTime::now() + HOUR))]
    {
        world.tsa.set_time(time);
        row(
            &format!("stamped {what}"),
            &world.says(&payload(b"one"), Seen::New),
            Err(Reason::CertificateTime),
        );
        // Of several times, each must do.
        row(
            &format!("… and logged in time, {what}"),
            &world.says(&payload(b"one"), Seen::Both),
            Err(Reason::CertificateTime),
        );
        world.tsa.set_time(None);
    }
    world.old.set_time(Some(SystemTime::now() - HOUR));
    row("logged before", &world.says(&payload(b"one"), Seen::Old), Err(Reason::CertificateTime));
    row("… and stamped in time", &world.says(&payload(b"one"), Seen::Both), Err(Reason::CertificateTime));
    world.old.set_time(None);

    let (pair, certificate) = world.certified(&world.fulcio, &job());
    let good = world.bundle(&pair, Some(&certificate), &payload(b"one"), Seen::New);
    row("genuine", &good, Ok(()));
    let at = "/verificationMaterial/certificate/rawBytes";
    let (_, another) = world.certified(&world.fulcio, &job());
    row(
        "another certificate of the same job",
        &with(&good, at, STANDARD.encode(&another).into()),
        Err(Reason::SignatureInvalid),
    );
    // The certificate's own signature is its end; the other places are what it covers.
    row(
        "a certificate altered at its end",
        &flipped(&good, at, certificate.len() - 1),
        Err(Reason::CertificateUntrusted),
    );
    let noise = with(&good, at, STANDARD.encode(b"no certificate").into());
    row("no certificate", &noise, Err(Reason::CertificateMalformed));
    row(
        "a cut certificate",
        &with(&good, at, STANDARD.encode(&certificate[..200]).into()),
        Err(Reason::CertificateMalformed),
    );
    let place = certificate.windows(SAN.len()).position(|window| window == SAN.as_bytes()).unwrap();
    let mut renamed = certificate.clone();
    renamed[place + SAN.len() - 1] = b'm';
    let renamed = with(&good, at, STANDARD.encode(&renamed).into());
    row("a certificate renamed", &renamed, Err(Reason::SignerUnknown));
    let all = MaySign::Certificate(matcher("https://github.com/*@*"));
    table.row(
        "… and anybody believed",
        judge(&renamed, &[(&all, &trust)]),
        Err(Reason::CertificateUntrusted),
    );
}

#[test]
fn a_private_authority_speaks_for_its_own_builders_only() {
    let world = World::new();
    let (public, private) =
        (world.trust(), trust(&world.root(&[&world.other_fulcio]), Transparency::default()));
    let (pair, certificate) = world.certified(&world.other_fulcio, &job());
    let forged = world.bundle(&pair, Some(&certificate), &payload(b"one"), Seen::New);
    let genuine = world.says(&payload(b"one"), Seen::New);
    let (job, lab) = (github(), MaySign::Certificate(matcher("https://github.com/lab/*@*")));
    let may_sign = [(&job, &public), (&lab, &private)];
    let mut table = Table::default();
    table.row("genuine", judge(&genuine, &may_sign), Ok(()));
    table.row("of the private one", judge(&forged, &may_sign), Err(Reason::CertificateUntrusted));
    table.row("… where it is believed", judge(&forged, &[(&job, &private)]), Ok(()));
    table.row(
        "genuine, where it is not",
        judge(&genuine, &[(&job, &private)]),
        Err(Reason::CertificateUntrusted),
    );

    // Whom nothing tells apart is nobody.
    let wide = MaySign::Certificate(matcher("https://github.com/acme/*@*"));
    table.row("two", judge(&genuine, &[(&job, &public), (&wide, &public)]), Err(Reason::SignerAmbiguous));
    table.row(
        "two trusts",
        judge(&genuine, &[(&job, &public), (&wide, &private)]),
        Err(Reason::SignerAmbiguous),
    );
    table.row("another", judge(&genuine, &[(&lab, &public)]), Err(Reason::SignerUnknown));
    let (keyed, key) = world.keyed(&payload(b"one"), Seen::New);
    table.row("keys alone", judge(&genuine, &[(&key, &public)]), Err(Reason::SignerKind));
    table.row("a key", judge(&keyed, &[(&key, &public), (&job, &public)]), Ok(()));
    table.row("a key of nobody", judge(&keyed, &[(&job, &public)]), Err(Reason::SignerUnknown));
    for (claim, value, expected) in [
        (CertificateClaim::RunnerEnvironment, "github-hosted", Ok(())),
        (CertificateClaim::RunnerEnvironment, "self-hosted", Err(Reason::CertificateClaims)),
        (CertificateClaim::SourceRepositoryOwnerIdentifier, "200200", Ok(())),
        (CertificateClaim::SourceRepositoryOwnerIdentifier, "200201", Err(Reason::CertificateClaims)),
        (CertificateClaim::DeploymentEnvironment, "production", Err(Reason::CertificateClaims)),
    ] {
        let claims = [(claim, value.to_owned())].into();
        let asked = MaySign::Certificate(Matcher { claims, ..matcher(SAN) });
        table.row(value, judge(&genuine, &[(&asked, &public)]), expected);
    }

    // The window of the authority is that of its certificates, and no more than the root says.
    let mut narrow = world.root(&[&world.fulcio]);
    narrow["certificateAuthorities"][0]["validFor"]["end"] = "2020-01-01T00:00:00Z".into();
    let ended = trust(&narrow, Transparency::default());
    table.row("an authority that ended", judge(&genuine, &[(&job, &ended)]), Err(Reason::CertificateTime));
    let mut unlogged = world.root(&[&world.fulcio]);
    unlogged["ctlogs"] = json!([]);
    let unlogged = trust(&unlogged, Transparency::default());
    table.row("no certificate log", judge(&genuine, &[(&job, &unlogged)]), Err(Reason::CertificateSct));
}

#[test]
fn entries_of_rekor_v1_must_be_proven() {
    let world = World::new();
    let trust = world.trust();
    let certified =
        (world.says(&payload(b"one"), Seen::Old), world.says(&payload(b"one"), Seen::Both), github());
    let (pair, _) = KeyPair::generate().unwrap();
    let keyed = (
        world.bundle(&pair, None, &payload(b"one"), Seen::Old),
        world.bundle(&pair, None, &payload(b"one"), Seen::Both),
        MaySign::Key(pair.public().clone()),
    );
    for (good, both, may_sign) in [certified, keyed] {
        let mut table = Table::default();
        let mut row = |what: &str, bundle: &Value, expected| {
            table.row(what, judge(bundle, &[(&may_sign, &trust)]), expected);
        };
        row("genuine", &good, Ok(()));
        row("genuine, in both logs", &both, Ok(()));
        row(
            "no entries",
            &with(&good, "/verificationMaterial/tlogEntries", json!([])),
            Err(Reason::LogMissing),
        );
        row("a promise alone", &without(&good, &format!("{ENTRY}/inclusionProof")), Err(Reason::LogProof));
        // Without its promise, the log's time is a number that anybody may write.
        let promise = format!("{ENTRY}/inclusionPromise");
        row("no promise", &without(&good, &promise), Err(Reason::NoVerifiedTime));
        row("no promise, but a timestamp", &without(&both, &promise), Ok(()));
        let signed = format!("{promise}/signedEntryTimestamp");
        row("a promise altered", &flipped(&good, &signed, 40), Err(Reason::LogProof));
        row("… beside a timestamp", &flipped(&both, &signed, 40), Err(Reason::LogProof));
        let time = format!("{ENTRY}/integratedTime");
        row("another time", &with(&good, &time, json!("1700000000")), Err(Reason::LogProof));
        // Of a certificate the times are gathered first, of a key the promise is checked first.
        let timeless =
            if matches!(may_sign, MaySign::Key(_)) { Reason::LogProof } else { Reason::NoVerifiedTime };
        row("no time", &without(&good, &time), Err(timeless));
        row("another index", &with(&good, &format!("{ENTRY}/logIndex"), json!("7")), Err(Reason::LogProof));

        let proof = format!("{ENTRY}/inclusionProof");
        let size: u64 =
            good.pointer(&format!("{proof}/treeSize")).unwrap().as_str().unwrap().parse().unwrap();
        for (what, size) in [("a smaller tree", size - 1), ("a larger tree", size + 1)] {
            let size = json!(size.to_string());
            row(what, &with(&good, &format!("{proof}/treeSize"), size), Err(Reason::LogProof));
        }
        row("another root", &flipped(&good, &format!("{proof}/rootHash"), 3), Err(Reason::LogProof));
        row("a hash altered", &flipped(&good, &format!("{proof}/hashes/0"), 3), Err(Reason::LogProof));
        let note = format!("{proof}/checkpoint/envelope");
        let text = good.pointer(&note).unwrap().as_str().unwrap();
        for (from, to) in [(" - ", " + "), ("rekor-", "Rekor-"), (".bed.test - ", ".bed.test.evil.test - ")] {
            row(
                &format!("origin with {to}"),
                &with(&good, &note, json!(text.replacen(from, to, 1))),
                Err(Reason::LogProof),
            );
        }
        let elsewhere =
            both.pointer("/verificationMaterial/tlogEntries/1/inclusionProof/checkpoint").unwrap();
        row(
            "checkpoint of the other log",
            &with(&good, &format!("{proof}/checkpoint"), elsewhere.clone()),
            Err(Reason::LogProof),
        );
        let id = both.pointer("/verificationMaterial/tlogEntries/1/logId").unwrap();
        row(
            "id of the other log",
            &with(&good, &format!("{ENTRY}/logId"), id.clone()),
            Err(Reason::LogProof),
        );

        let other = world.says(&payload(b"two"), Seen::Old);
        row(
            "entry of another bundle",
            &with(&good, ENTRY, other.pointer(ENTRY).unwrap().clone()),
            Err(Reason::LogEntry),
        );
        let first = both.pointer(ENTRY).unwrap().clone();
        row("entry of another signature", &with(&good, ENTRY, first), Err(Reason::LogEntry));
        for (kind, version) in [("hashedrekord", "0.0.1"), ("intoto", "0.0.2")] {
            let kind = json!({"kind": kind, "version": version});
            row("another kind", &with(&good, &format!("{ENTRY}/kindVersion"), kind), Err(Reason::LogEntry));
        }
        let kind = json!({"kind": "hashedrekord", "version": "0.0.2"});
        row("a kind of v2", &with(&good, &format!("{ENTRY}/kindVersion"), kind), Err(Reason::LogProof));
    }

    // The same signature, logged under its key alone: the entry does not say whose it is.
    let (pair, certificate) = world.certified(&world.fulcio, &job());
    for seen in [Seen::Old, Seen::New] {
        let good = world.bundle(&pair, Some(&certificate), &payload(b"one"), seen);
        assert!(judge(&good, &[(&github(), &trust)]).is_ok());
        let bare = world.bundle(&pair, None, &payload(b"one"), seen);
        let mut dressed = bare.clone();
        dressed["verificationMaterial"].as_object_mut().unwrap().remove("publicKey");
        dressed["verificationMaterial"]["certificate"] = good["verificationMaterial"]["certificate"].clone();
        let found = judge(&dressed, &[(&github(), &trust)]).unwrap_err();
        assert_eq!(found.0, Reason::LogEntry, "{found:?}");
        // And the other way round.
        let key = MaySign::Key(pair.public().clone());
        assert!(judge(&bare, &[(&key, &trust)]).is_ok());
        let undressed = of_a_key(&good);
        let found = judge(&undressed, &[(&key, &trust)]).unwrap_err();
        assert_eq!(found.0, Reason::LogEntry, "{found:?}");
    }
}

#[test]
fn a_trust_says_what_must_vouch() {
    let world = World::new();
    let root = world.root(&[&world.fulcio]);
    let logs =
        |n| Transparency::Rekor { logs: NonZeroUsize::new(n).unwrap(), witnesses: Witnesses::default() };
    let (one, two) = (trust(&root, logs(1)), trust(&root, logs(2)));
    let (timestamp, none) = (trust(&root, Transparency::Timestamp), trust(&root, Transparency::None));
    let job = github();
    let mut table = Table::default();
    for (seen, expected) in [
        (
            Seen::Old,
            [Ok(()), Err(Reason::LogTooFew), Err(Reason::NoVerifiedTime), Err(Reason::NoVerifiedTime)],
        ),
        (Seen::New, [Ok(()), Err(Reason::LogTooFew), Ok(()), Err(Reason::NoVerifiedTime)]),
        (Seen::Both, [Ok(()), Ok(()), Ok(()), Err(Reason::NoVerifiedTime)]),
        (
            Seen::Stamped,
            [Err(Reason::LogMissing), Err(Reason::LogMissing), Ok(()), Err(Reason::NoVerifiedTime)],
        ),
        (
            Seen::Nowhere,
            [
                Err(Reason::LogMissing),
                Err(Reason::LogMissing),
                Err(Reason::NoVerifiedTime),
                Err(Reason::NoVerifiedTime),
            ],
        ),
    ] {
        let certified = world.says(&payload(b"one"), seen);
        let (keyed, key) = world.keyed(&payload(b"one"), seen);
        for (number, (trust, expected)) in
            [&one, &two, &timestamp, &none].into_iter().zip(expected).enumerate()
        {
            table.row(&format!("certificate, trust {number}"), judge(&certified, &[(&job, trust)]), expected);
            // A key needs nobody to vouch for it, and then nobody says when.
            let expected = if number == 3 { Ok(()) } else { expected };
            table.row(&format!("key, trust {number}"), judge(&keyed, &[(&key, trust)]), expected);
        }
        if seen == Seen::Nowhere {
            assert_eq!(judge(&keyed, &[(&key, &none)]).unwrap().earliest(), None);
        }
    }
    // Two entries of one log are one log's word.
    let mut twice = world.says(&payload(b"one"), Seen::New);
    let entry = twice.pointer(ENTRY).unwrap().clone();
    twice["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().push(entry);
    table.row("one log twice", judge(&twice, &[(&job, &two)]), Err(Reason::LogTooFew));
    // Nor are two ids of one key two logs.
    let mut renamed = root.clone();
    let mut log = renamed["tlogs"][0].clone();
    let mut id = STANDARD.decode(log["logId"]["keyId"].as_str().unwrap()).unwrap();
    *id.last_mut().unwrap() ^= 1;
    log["logId"]["keyId"] = STANDARD.encode(&id).into();
    renamed["tlogs"].as_array_mut().unwrap().push(log);
    let with_ids = trust(&renamed, logs(2));
    let entries = "/verificationMaterial/tlogEntries";
    twice = with(&twice, &format!("{entries}/1/logId/keyId"), STANDARD.encode(&id).into());
    table.row("one key under an id", judge(&twice, &[(&job, &trust(&renamed, logs(1)))]), Ok(()));
    table.row("one key under two ids", judge(&twice, &[(&job, &with_ids)]), Err(Reason::LogTooFew));
    let both = world.says(&payload(b"one"), Seen::Both);
    table.row("two keys", judge(&both, &[(&job, &with_ids)]), Ok(()));
    renamed["tlogs"].as_array_mut().unwrap().remove(1);
    Trust::new(renamed.to_string().as_bytes(), logs(1)).unwrap();
    let refused = Trust::new(renamed.to_string().as_bytes(), logs(2)).unwrap_err();
    assert!(refused.to_string().contains("so many transparency logs"), "{refused}");
    // What is not asked for is not looked at; what is asked for must hold.
    let good = world.says(&payload(b"one"), Seen::New);
    let broken = flipped(&good, &format!("{ENTRY}/canonicalizedBody"), 5);
    table.row("a broken entry", judge(&broken, &[(&job, &one)]), Err(Reason::LogProof));
    table.row("… that nobody asks for", judge(&broken, &[(&job, &timestamp)]), Ok(()));
    let stamp = format!("{STAMPS}/0/signedTimestamp");
    let stamp = with(&good, &stamp, world.says(&payload(b"two"), Seen::New).pointer(&stamp).unwrap().clone());
    table.row(
        "a stamp of another signature",
        judge(&stamp, &[(&job, &timestamp)]),
        Err(Reason::TimestampInvalid),
    );
    // A private authority may do without certificate transparency where it does without a log.
    let mut private = root.clone();
    private["ctlogs"] = json!([]);
    let private = trust(&private, Transparency::Timestamp);
    world.fulcio.misissue(Some(Misissue::NoTimestamp));
    let unlogged = world.says(&payload(b"one"), Seen::New);
    table.row(
        "a certificate in no log",
        judge(&unlogged, &[(&job, &timestamp)]),
        Err(Reason::CertificateSct),
    );
    table.row("… where there is none", judge(&unlogged, &[(&job, &private)]), Ok(()));
    world.fulcio.misissue(Some(Misissue::OtherAuthority));
    let forged = world.says(&payload(b"one"), Seen::New);
    table.row(
        "… of another authority",
        judge(&forged, &[(&job, &private)]),
        Err(Reason::CertificateUntrusted),
    );
}

#[test]
fn a_trust_may_want_witnesses() {
    let world = World::new();
    let before = world.says(&payload(b"before there were any"), Seen::New);
    let keys: Vec<String> = ["one", "two", "three"]
        .iter()
        .map(|name| world.new.add_witness(&format!("witness.test/{name}")))
        .collect();
    let stranger = Log::start().add_witness("witness.test/one");
    let root = world.root(&[&world.fulcio]);
    let of = |wanted: usize, keys: &[&String]| {
        let known = keys.iter().map(|key| key.parse().unwrap()).collect();
        let witnesses = Witnesses::new(NonZeroUsize::new(wanted).unwrap(), known).unwrap();
        trust(&root, Transparency::Rekor { logs: NonZeroUsize::MIN, witnesses })
    };
    let job = github();
    let good = world.says(&payload(b"one"), Seen::New);
    let mut table = Table::default();
    let mut row = |what: &str, bundle: &Value, trust: &Trust, expected| {
        table.row(what, judge(bundle, &[(&job, trust)]), expected);
    };
    let all: Vec<&String> = keys.iter().collect();
    let (short, holds) = (Err(Reason::LogUnwitnessed), Ok(()));
    row("nobody asks", &good, &trust(&root, Transparency::default()), holds);
    row("3 of 3", &good, &of(3, &all), holds);
    row("1 of another key with one name", &good, &of(1, &[&stranger]), short);
    row("2 of one that did and one that did not", &good, &of(2, &[&keys[1], &stranger]), short);
    row("1 of them", &good, &of(1, &[&keys[1], &stranger]), holds);
    row("no witness yet", &before, &of(1, &all), short);

    let note = format!("{ENTRY}/inclusionProof/checkpoint/envelope");
    let text = good.pointer(&note).unwrap().as_str().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let [_, size, head, "", log, one, two, three] = lines[..] else { panic!("{lines:?}") };
    let noted = |signatures: &[&str]| {
        let note_text = format!("{}\n{size}\n{head}\n\n{}\n", lines[0], signatures.join("\n"));
        with(&good, &note, note_text.into())
    };
    let (one_of, two_of, three_of) = (of(1, &all), of(2, &all), of(3, &all));
    row("in another order", &noted(&[three, one, log, two]), &three_of, holds);
    row("beside junk", &noted(&[log, &one.replace("/one", "/four"), two, three]), &two_of, holds);
    row("one line gone", &noted(&[log, one, two]), &three_of, short);
    row("… is enough for two", &noted(&[log, one, two]), &two_of, holds);
    row("one line thrice", &noted(&[log, one, one, one]), &two_of, short);
    row("under another's name", &noted(&[log, one, &one.replace("/one", "/two")]), &two_of, short);
    // Where the key id, the time, the signature and the last byte lie.
    let (dash, base64) = two.rsplit_once(' ').unwrap();
    let bytes = STANDARD.decode(base64).unwrap();
    assert_eq!(bytes.len(), 4 + 8 + 64);
    let as_line = |bytes: &[u8]| format!("{dash} {}", STANDARD.encode(bytes));
    for at in [0, 3, 4, 11, 12, 40, 75] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        row(&format!("byte {at} changed"), &noted(&[log, one, &as_line(&changed)]), &two_of, short);
        // Under another key id, it is the line of somebody else.
        let spoilt = if at < 4 { holds } else { short };
        let beside = noted(&[log, one, &as_line(&changed), two]);
        row(&format!("… beside the genuine line, {at}"), &beside, &two_of, spoilt);
        row(
            &format!("… where one is enough, {at}"),
            &noted(&[log, one, &as_line(&changed)]),
            &one_of,
            spoilt,
        );
    }
    for length in [5, 11, 12, 75] {
        row(&format!("{length} bytes"), &noted(&[log, one, &as_line(&bytes[..length])]), &two_of, short);
    }
    row("a byte more", &noted(&[log, one, &as_line(&[&bytes[..], &[0]].concat())]), &two_of, short);
    // The log's own line is no cosignature, and a cosignature is not the log's.
    row("without the log", &noted(&[one, two, three]), &three_of, Err(Reason::LogProof));
    // Cosignatures are of one tree head.
    let later = world.says(&payload(b"two"), Seen::New);
    let later: Vec<&str> = later.pointer(&note).unwrap().as_str().unwrap().lines().collect();
    row("of another tree head", &noted(&[log, later[5], later[6]]), &two_of, short);
    row(
        "more lines than there may be",
        &noted(&[&[log][..], &[one; 96]].concat()),
        &two_of,
        Err(Reason::LogProof),
    );
    row("as many as there may be", &noted(&[&[log, two][..], &[one; 94]].concat()), &two_of, holds);

    // Every log that is asked must be witnessed, whatever else holds.
    let both = world.says(&payload(b"one"), Seen::Both);
    row("a second log without any", &both, &of(1, &all), short);

    // A log is not its own witness.
    let witness = world.new.self_witness();
    let witnesses = Witnesses::new(NonZeroUsize::MIN, vec![witness.parse().unwrap()]).unwrap();
    let own = Transparency::Rekor { logs: NonZeroUsize::MIN, witnesses };
    let refused = Trust::new(root.to_string().as_bytes(), own).unwrap_err();
    assert!(refused.to_string().contains("has the key of a log"), "{refused}");
}

#[test]
fn ed25519_keys_are_proven_by_all_but_rekor_v2() {
    let world = World::new();
    let root = world.root(&[]);
    let [log, stamp, none] = [Transparency::default(), Transparency::Timestamp, Transparency::None]
        .map(|transparency| trust(&root, transparency));
    let (pair, p256) = (ed25519(), KeyPair::generate().unwrap().0);
    let [key, other] = [&pair, &p256].map(|pair| MaySign::Key(pair.public().clone()));
    let mut table = Table::default();
    for (what, seen, trust, expected) in [
        ("in Rekor v1", Seen::Old, &log, Ok(())),
        ("stamped", Seen::Stamped, &stamp, Ok(())),
        ("stamped, where a log is wanted", Seen::Stamped, &log, Err(Reason::LogMissing)),
        ("seen by nobody", Seen::Nowhere, &none, Ok(())),
        ("seen by nobody, where a time is wanted", Seen::Nowhere, &stamp, Err(Reason::NoVerifiedTime)),
    ] {
        let bundle = world.bundle(&pair, None, &payload(b"one"), seen);
        table.row(what, judge(&bundle, &[(&other, trust), (&key, trust)]), expected);
        table.row("another key", judge(&bundle, &[(&other, trust)]), Err(Reason::SignerUnknown));
    }
    let good = world.bundle(&pair, None, &payload(b"one"), Seen::Old);
    let signature = "/dsseEnvelope/signatures/0/sig";
    let bytes = STANDARD.decode(good.pointer(signature).unwrap().as_str().unwrap()).unwrap();
    assert_eq!(bytes.len(), 64);
    for (what, bytes) in [("short", bytes[..63].to_vec()), ("long", [&bytes[..], &[0]].concat())] {
        let cut = with(&good, signature, STANDARD.encode(bytes).into());
        table.row(what, judge(&cut, &[(&key, &log)]), Err(Reason::SignerUnknown));
    }
    table.row("altered", judge(&flipped(&good, signature, 40), &[(&key, &log)]), Err(Reason::SignerUnknown));

    // A log that checks nothing, or lies, has it as a signature with P-256.
    world.new.believe_everything();
    for (seen, about) in [(Seen::New, b"two"), (Seen::Both, b"six")] {
        let bundle = world.bundle(&pair, None, &payload(about), seen);
        table.row("in Rekor v2", judge(&bundle, &[(&key, &log)]), Err(Reason::LogEntry));
        let bundle = world.bundle(&p256, None, &payload(about), seen);
        table.row("P-256 in Rekor v2", judge(&bundle, &[(&other, &log)]), Ok(()));
    }
}

#[test]
fn an_intoto_entry_is_under_what_the_bundle_is_signed_with() {
    let world = World::new();
    let trust = world.trust();
    let mut table = Table::default();
    let (pair, certificate) = world.certified(&world.fulcio, &job());
    let bare = Certificate::from_der(&certificate).unwrap().tbs_certificate.subject_public_key_info;
    let bare = DerPublicKey::new(bare.to_der().unwrap()).to_pem();
    let certified = world.bundle(&pair, Some(&certificate), &payload(b"one"), Seen::Nowhere);
    let logged = world.intoto(&certified, &DerCertificate::new(certificate).to_pem());
    table.row("under its certificate", judge(&logged, &[(&github(), &trust)]), Ok(()));
    // Whoever watches the log for the name in the certificate would not find it.
    let hidden = world.intoto(&certified, &bare);
    let found = judge(&hidden, &[(&github(), &trust)]);
    table.row("under the bare key of its certificate", found, Err(Reason::LogEntry));

    let keyed = world.bundle(&pair, None, &payload(b"two"), Seen::Nowhere);
    let key = MaySign::Key(pair.public().clone());
    let good = world.intoto(&keyed, &bare);
    table.row("under the key", judge(&good, &[(&key, &trust)]), Ok(()));
    let named = of_a_key(&logged);
    table.row("under a certificate of the key", judge(&named, &[(&key, &trust)]), Err(Reason::LogEntry));
    let other = with(&good, ENTRY, hidden.pointer(ENTRY).unwrap().clone());
    table.row("of another statement", judge(&other, &[(&key, &trust)]), Err(Reason::LogEntry));
    let ed25519 = ed25519();
    let keyed = world.bundle(&ed25519, None, &payload(b"two"), Seen::Nowhere);
    let key = MaySign::Key(ed25519.public().clone());
    let good = world.intoto(&keyed, &ed25519.public().to_pem());
    table.row("under an Ed25519 key", judge(&good, &[(&key, &trust)]), Ok(()));
}

/// Every text in a document, by its place.
fn leaves(value: &Value, at: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, v)| leaves(v, &format!("{at}/{key}"), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| leaves(item, &format!("{at}/{n}"), found));
        }
        Value::String(text) => found.push((at.to_owned(), text.clone())),
        _ => {}
    }
}

/// Places that nothing vouches for, and on which nothing is decided.
fn is_neutral(place: &str) -> bool {
    let proof = "/inclusionProof/";
    [
        "/publicKey/hint",
        // The name beside a signature: the key id and the signature are what holds.
        "/checkpoint/envelope",
        // Parts of the token that its signature does not cover; the time is compared.
        "/signedTimestamp",
    ]
    .iter()
    .any(|end| place.ends_with(end))
        // Of Rekor v2, these repeat the checkpoint and are not used.
        || (place.contains("/tlogEntries/1/") && place.contains(proof) && !place.contains("/hashes/"))
}

#[test]
fn no_place_in_a_bundle_can_be_changed() {
    let world = World::new();
    let trust = world.trust();
    let good = world.says(&payload(b"one"), Seen::Both);
    let genuine = judge(&good, &[(&github(), &trust)]).unwrap();
    let mut places = Vec::new();
    leaves(&good, "", &mut places);
    assert!(places.len() > 20, "{places:?}");
    let mut proven = Vec::new();
    for (place, text) in &places {
        // Every character in turn would take minutes: some of each text, its ends among them.
        let step = (text.len() / 24).max(1);
        for at in (0..text.len()).step_by(step).chain([text.len() - 1]) {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = match bytes[at] {
                b'A' => b'B',
                b'0' => b'1',
                _ if text.bytes().all(|b| b.is_ascii_digit()) => b'0',
                _ => b'A',
            };
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let Ok(bundle) = Bundle::parse(with(&good, place, changed.into()).to_string().as_bytes()) else {
                continue;
            };
            if let Ok(found) = verify(&bundle, [(&github(), &trust)]) {
                assert_eq!(found.statement(), genuine.statement(), "{place}");
                assert_eq!(
                    (found.signer(), found.earliest()),
                    (genuine.signer(), genuine.earliest()),
                    "{place}"
                );
                proven.push((place, at));
            }
        }
    }
    proven.retain(|(place, _)| !is_neutral(place));
    assert!(proven.is_empty(), "{proven:?}");
}

/// What a builder says otherwise.
type Change<'a> = &'a dyn Fn(&mut Build);

/// An image of one platform, and what the policy makes of what was said of it.
struct Judged {
    built: Image,
    candidate: Candidate,
}

impl Judged {
    fn new() -> Self {
        let built = Image::build("linux", "amd64", None, &[("app", b"hello", 0o755)]);
        let manifests = json!([{
            "mediaType": image::MANIFEST, "digest": built.manifest_digest, "size": built.manifest.len(),
            "platform": { "os": "linux", "architecture": "amd64" },
        }]);
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": manifests }).to_string();
        let mut candidate = Candidate::read(NAME.parse().unwrap(), kind, index.clone().into_bytes());
        let child = ImageIndex::parse(index.into_bytes()).unwrap().manifests.remove(0);
        candidate.add_manifest(&child, Some(built.manifest.clone()));
        candidate.add_config(&child, Some(&built.config));
        Self { built, candidate }
    }

    fn statement(&self) -> Statement {
        let mut statement = statement(&self.built.manifest);
        statement.build.content.config_digest = self.built.config_digest.parse().unwrap();
        statement
    }

    fn verdict(&self, policy: &Policy, trusts: &Trusts, bundles: &[Value]) -> Verdict {
        let mut evidence = Evidence::default();
        for bundle in bundles {
            let bundle = Bundle::parse(bundle.to_string().as_bytes()).unwrap();
            match verify(&bundle, policy.may_sign(trusts)) {
                Ok(attestation) => evidence.attestations.push(attestation),
                Err(rejection) => evidence.rejections.push(*rejection),
            }
        }
        decide(policy, &self.candidate, &evidence, jiff::Timestamp::now(), &Expected::default())
    }
}

fn policy(lines: &str) -> Policy {
    let text = format!(
        "version = 1\n[[image]]\nrepository = \"{NAME}\"\nplatforms = [\"linux/amd64\"]\nquorum = 1\n\
         [[builder]]\nname = \"github\"\noperator = \"GitHub\"\nissuer = \"{GITHUB}\"\n{lines}\n"
    );
    Policy::parse(&text, |_| Err("inline".to_owned())).unwrap()
}

#[test]
fn a_certificate_must_be_of_a_job_on_what_was_built() {
    let (world, judged) = (World::new(), Judged::new());
    let trusts = Trusts::only(world.trust());
    let cell = |lines: &str, change: &dyn Fn(&mut Build), job: &Value| {
        let mut statement = judged.statement();
        change(&mut statement.build);
        let (pair, certificate) = world.certified(&world.fulcio, job);
        let bundle = world.bundle(&pair, Some(&certificate), &statement.to_payload().unwrap(), Seen::New);
        let verdict = judged.verdict(&policy(lines), &trusts, &[bundle]);
        let cell = verdict.platforms[0].cells[0].clone();
        let code = cell.reason.map_or("", Reason::code);
        (verdict.outcome.as_str(), format!("{} {code}", cell.status.as_str()), cell.detail)
    };
    let same = |_: &mut Build| {};
    let source = format!("san = \"{SAN}\"");
    let workflow = format!("{source}\nclaims = \"workflow\"");
    let (outcome, status, detail) = cell(&source, &same, &job());
    assert_eq!((outcome, status.as_str(), detail), ("met", "counted ", None));
    let changes: [(&str, Change); 5] = [
        ("another commit", &|build| build.commit = "b".repeat(40).parse().unwrap()),
        ("another source", &|build| build.source_uri = Some("git+https://github.com/acme/fork".to_owned())),
        ("no source", &|build| build.source_uri = None),
        ("another ref", &|build| build.git_ref = Some("refs/heads/next".to_owned())),
        ("no ref", &|build| build.git_ref = None),
    ];
    for (what, change) in changes {
        let (outcome, status, detail) = cell(&source, change, &job());
        assert_eq!(
            (outcome, status.as_str()),
            ("short", "rejected certificate-source"),
            "{what}: {detail:?}"
        );
        // Whoever builds what others wrote says it on its own word, and the cell says so.
        let (outcome, status, detail) = cell(&workflow, change, &job());
        assert_eq!((outcome, status.as_str()), ("met", "counted "), "{what}: {detail:?}");
        assert_eq!(detail.as_deref(), Some("the commit rests on the statement alone"), "{what}");
    }

    // Certificates of other jobs are nobody's; what `require` asks for is told.
    let fork = github_job("mallory/app", "build.yml", MAIN, &commit());
    assert_eq!(cell(&source, &same, &fork).1, "missing ");
    let branch = github_job("acme/app", "build.yml", "refs/heads/next", &commit());
    assert_eq!(cell(&source, &same, &branch).1, "missing ");
    let glob = "san = \"https://github.com/acme/app/.github/workflows/build.yml@refs/heads/*\"";
    let on_next = |build: &mut Build| build.git_ref = Some("refs/heads/next".to_owned());
    assert_eq!(cell(glob, &on_next, &branch).0, "met");
    assert_eq!(cell(glob, &same, &fork).1, "missing ");

    // Windows and revocation, as of keys.
    let identity = |more: &str| format!("identities = [{{ issuer = \"{GITHUB}\", san = \"{SAN}\"{more} }}]");
    let told = |more: &str| {
        let bundle = world.says(&judged.statement().to_payload().unwrap(), Seen::New);
        let text = format!(
            "version = 1\n[[image]]\nrepository = \"{NAME}\"\nplatforms = [\"linux/amd64\"]\nquorum = 1\n\
             [[builder]]\nname = \"github\"\noperator = \"GitHub\"\n{}\n\
             [[builder]]\nname = \"spare\"\noperator = \"Spare\"\nkey = '''{}'''\n",
            identity(more),
            KeyPair::generate().unwrap().0.public().to_pem()
        );
        let policy = Policy::parse(&text, |_| Err("inline".to_owned())).unwrap();
        let verdict = judged.verdict(&policy, &trusts, &[bundle]);
        verdict.platforms[0].cells[0].reason
    };
    assert_eq!(told(""), None);
    assert_eq!(told(", from = 2020-01-01T00:00:00Z"), None);
    assert_eq!(told(", until = 2020-01-01T00:00:00Z"), Some(Reason::KeyOutsideWindow));
    assert_eq!(told(", revoked = { from = 2020-01-01T00:00:00Z }"), Some(Reason::KeyRevoked));
    assert_eq!(told(", revoked = \"compromised\""), Some(Reason::KeyCompromised));
}

#[test]
fn a_statement_that_its_own_certificate_disproves_is_no_veto() {
    let (world, judged) = (World::new(), Judged::new());
    let trusts = Trusts::only(world.trust());
    let (pair, _) = KeyPair::generate().unwrap();
    let spare = format!(
        "[[builder]]\nname = \"spare\"\noperator = \"Spare\"\nkey = '''{}'''",
        pair.public().to_pem()
    );
    let source = policy(&format!("san = \"{SAN}\"\n{spare}"));
    let workflow = policy(&format!("san = \"{SAN}\"\nclaims = \"workflow\"\n{spare}"));
    let mut vote = judged.statement();
    vote.build.builder = "spare".to_owned();
    let vote = world.bundle(&pair, None, &vote.to_payload().unwrap(), Seen::New);
    // The job on the main branch signs what differs from the vote.
    let verdict = |policy: &Policy, change: &dyn Fn(&mut Statement)| {
        let mut said = judged.statement();
        said.build.content.config_digest = Digest::of(b"another");
        change(&mut said);
        let said = world.says(&said.to_payload().unwrap(), Seen::New);
        let verdict = judged.verdict(policy, &trusts, &[vote.clone(), said]);
        let cell = &verdict.platforms[0].cells[0];
        let code = cell.reason.map_or("", Reason::code);
        format!("{}: {} {code}", verdict.outcome.as_str(), cell.status.as_str())
    };
    let next = Some("refs/heads/next".to_owned());
    let dissent = |statement: &mut Statement| {
        statement.claim = Claim::Dissent { disputes: statement.subject };
        statement.subject = statement.build.content.config_digest;
    };
    for (what, dissents) in [("other content", false), ("a dissent", true)] {
        let change = |git_ref: Option<String>| {
            move |statement: &mut Statement| {
                if dissents {
                    dissent(statement);
                }
                statement.build.git_ref = git_ref.clone();
            }
        };
        let heard = verdict(&source, &change(Some(MAIN.to_owned())));
        assert!(heard.starts_with("dissent: dissent "), "{what}: {heard}");
        for git_ref in [next.clone(), None] {
            let told = verdict(&source, &change(git_ref.clone()));
            assert_eq!(told, "met: rejected certificate-source", "{what}: {git_ref:?}");
            // Who builds what others wrote is not disproved by its certificate.
            assert_eq!(verdict(&workflow, &change(git_ref)), heard, "{what}");
        }
    }
}

#[test]
fn what_is_weak_about_certificates_is_said() {
    let codes = |lines: &str| {
        let policy = policy(lines);
        let spots = weak_spots(&policy, &policy.images()[0]);
        spots
            .into_iter()
            .map(|spot| spot.code)
            .filter(|code| !matches!(*code, "quorum-below-two" | "one-voice" | "no-sources" | "one-domain"))
            .collect::<Vec<_>>()
    };
    let exact = format!("san = \"{SAN}\"");
    let open = "san = \"https://github.com/acme/app/.github/workflows/build.yml@*\"";
    let owner = "require = { source_repository_owner_identifier = \"200200\" }";
    assert_eq!(codes(&exact), ["no-owner-id"]);
    assert_eq!(codes(&format!("{exact}\n{owner}")), [""; 0]);
    assert_eq!(codes(&format!("{open}\n{owner}")), ["any-ref"]);
    assert_eq!(
        codes(&format!("{exact}\n{owner}\ntrust = \"t\"\n[trust.t]\ntransparency = \"timestamp\"")),
        ["no-log"]
    );
}
