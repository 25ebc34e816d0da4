//! Hostile bundles, each beside the genuine one that it was made from: what an attacker could make
//! of evidence that anybody may read, and what a careless or malicious builder could sign.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]
#![allow(clippy::too_many_lines, reason = "tables")]

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE};
use quorate::attestation::verify::verify;
use quorate::attestation::{
    Attestation, Build, Bundle, Claim, Content, MaySign, PublicKey, Remarks, Statement, Trust, envelope,
};
use quorate::edge::registry::{Options, Registry};
use quorate::edge::service::Service;
use quorate::edge::signer::KeyPair;
use quorate::edge::{log, tsa};
use quorate::nix::NarHash;
use quorate::oci::{Digest, ImageIndex};
use quorate::policy::{Candidate, Evidence, Expected, Outcome, Policy, decide};
use quorate::reason::Reason;
use quorate_bed::image::{self, Image};
use quorate_bed::{Log, Tsa, trusted_root};
use serde_json::{Value, json};

const NAME: &str = "ghcr.io/acme/app";

/// Two logs and two authorities, of which the trust knows one each, and two builders.
struct World {
    log: Log,
    other_log: Log,
    tsa: Tsa,
    other_tsa: Tsa,
    service: Service,
    garnix: KeyPair,
    stranger: KeyPair,
    trust: Trust,
}

/// A signature, and what it is over.
struct Signed {
    payload: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        quorate::init().unwrap();
        tokio::runtime::Runtime::new().unwrap()
    })
}

impl World {
    fn new() -> Self {
        let _entered = runtime().enter();
        let (log, other_log, tsa, other_tsa) = (Log::start(), Log::start(), Tsa::start(), Tsa::start());
        let trust = trust(&trusted_root(&[&log], &[&tsa]));
        let world = Self {
            log,
            other_log,
            tsa,
            other_tsa,
            service: Service::new(&Registry::new(Options::default()).unwrap()),
            garnix: KeyPair::generate().unwrap().0,
            stranger: KeyPair::generate().unwrap().0,
            trust,
        };
        // So that inclusion proofs have something in them.
        for n in 0..5 {
            world.entry(&world.log, &world.sign(&world.stranger, format!("{{\"n\":{n}}}").as_bytes()));
        }
        world
    }

    fn sign(&self, signer: &KeyPair, payload: &[u8]) -> Signed {
        self.sign_message(signer, payload, envelope::pae(payload))
    }

    fn sign_message(&self, signer: &KeyPair, payload: &[u8], message: Vec<u8>) -> Signed {
        let signature = signer.sign(&message).unwrap();
        let _ = self;
        Signed { payload: payload.to_vec(), message, signature }
    }

    fn key_of(&self, signed: &Signed) -> &PublicKey {
        [self.garnix.public(), self.stranger.public()]
            .into_iter()
            .find(|key| key.verifies(&signed.message, &signed.signature))
            .unwrap()
    }

    /// The entry of a log for a signature.
    fn entry(&self, log: &Log, signed: &Signed) -> Value {
        let url = log.url().parse().unwrap();
        let key = self.key_of(signed);
        let by = log::By::Key(key);
        let submitted = log::hashedrekord(&self.service, &url, by, &signed.message, &signed.signature);
        serde_json::to_value(runtime().block_on(submitted).unwrap().unwrap()).unwrap()
    }

    /// The token of an authority for a signature, in base64.
    fn stamp(&self, tsa: &Tsa, signature: &[u8]) -> Value {
        let url = tsa.url().parse().unwrap();
        let stamp = runtime().block_on(tsa::stamp(&self.service, &url, signature)).unwrap();
        json!({ "signedTimestamp": STANDARD.encode(stamp) })
    }

    /// The bundle around a signature, as `quorate attest` makes it.
    fn bundle(&self, signed: &Signed) -> Value {
        let entry = serde_json::from_value(self.entry(&self.log, signed)).unwrap();
        let stamp = self.stamp(&self.tsa, &signed.signature);
        let stamp = STANDARD.decode(stamp["signedTimestamp"].as_str().unwrap()).unwrap();
        let sealed = envelope::seal(signed.payload.clone(), signed.signature.clone());
        let bundle = Bundle::keyed(sealed, self.key_of(signed), vec![entry], vec![stamp]);
        serde_json::from_str(&bundle.to_json().unwrap()).unwrap()
    }

    /// A bundle of that payload, signed by the builder.
    fn says(&self, payload: &[u8]) -> Value {
        self.bundle(&self.sign(&self.garnix, payload))
    }

    fn judge(&self, bytes: &[u8]) -> Result<Attestation, Reason> {
        self.judge_by(bytes, &self.trust)
    }

    fn judge_by(&self, bytes: &[u8], trust: &Trust) -> Result<Attestation, Reason> {
        let bundle = Bundle::parse(bytes).map_err(|(reason, _)| reason)?;
        verify(&bundle, [(&MaySign::Key(self.garnix.public().clone()), trust)])
            .map_err(|rejection| rejection.reason)
    }
}

fn trust(root: &Value) -> Trust {
    quorate::init().unwrap();
    Trust::from_json(root.to_string().as_bytes()).unwrap()
}

fn statement(about: &[u8]) -> Statement {
    Statement {
        name: NAME.parse().unwrap(),
        subject: Digest::of(about),
        claim: Claim::Build,
        build: Build {
            commit: "a".repeat(40).parse().unwrap(),
            system: "x86_64-linux".parse().unwrap(),
            content: Content {
                nar_hash: NarHash::from_bytes(*Digest::of(b"nar").as_bytes()),
                config_digest: Digest::of(b"config"),
            },
            builder: "garnix".to_owned(),
            sequence: 7,
            // Question marks, so that the two alphabets of base64 differ.
            source_uri: Some("git+https://github.com/acme/app?a=???".to_owned()),
            git_ref: None,
            target: None,
            remarks: Remarks::default(),
        },
    }
}

fn payload(about: &[u8]) -> Vec<u8> {
    statement(about).to_payload().unwrap()
}

/// What came out differently than it should, all at once.
#[derive(Default)]
struct Table(Vec<String>);

impl Table {
    fn row(&mut self, what: &str, found: &Result<Attestation, Reason>, expected: Result<(), Reason>) {
        let found = found.as_ref().map(|_| ()).map_err(|reason| *reason);
        if found != expected {
            self.0.push(format!("{what}: expected {expected:?}, found {found:?}"));
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

const ENTRY: &str = "/verificationMaterial/tlogEntries/0";
const PROOF: &str = "/verificationMaterial/tlogEntries/0/inclusionProof";
const STAMPS: &str = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";

/// `good` with the value at `pointer` put in the place of what is there, or added.
fn with(good: &Value, pointer: &str, value: Value) -> Vec<u8> {
    changed(good, |bundle| set(bundle, pointer, value))
}

fn set(bundle: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match bundle.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        object => object[key] = value,
    }
}

fn without(good: &Value, pointer: &str) -> Vec<u8> {
    changed(good, |bundle| remove(bundle, pointer))
}

fn remove(bundle: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match bundle.pointer_mut(parent).unwrap() {
        Value::Array(items) => drop(items.remove(key.parse().unwrap())),
        object => drop(object.as_object_mut().unwrap().remove(key)),
    }
}

fn changed(good: &Value, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut bundle = good.clone();
    change(&mut bundle);
    assert_ne!(bundle, *good, "the change changes nothing");
    serde_json::to_vec(&bundle).unwrap()
}

/// The same bundle with one run of text in the place of another.
fn replaced(good: &Value, from: &str, to: &str) -> Vec<u8> {
    let text = good.to_string();
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1).into_bytes()
}

fn text<'a>(bundle: &'a Value, pointer: &str) -> &'a str {
    bundle.pointer(pointer).unwrap().as_str().unwrap()
}

/// Base64 with one bit of one byte changed.
fn flipped(base64: &str, at: usize) -> Value {
    let mut bytes = STANDARD.decode(base64).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 1;
    STANDARD.encode(bytes).into()
}

#[test]
fn log_entries_must_be_of_this_signature_and_of_a_trusted_log() {
    let world = World::new();
    let signed = world.sign(&world.garnix, &payload(b"one"));
    let good = world.bundle(&signed);
    let other = world.says(&payload(b"two"));
    let mut table = Table::default();
    let mut row = |what: &str, bytes: Vec<u8>, expected| table.row(what, &world.judge(&bytes), expected);
    let entries = "/verificationMaterial/tlogEntries";
    let mine = good.pointer(ENTRY).unwrap().clone();
    let theirs = other.pointer(ENTRY).unwrap().clone();
    row("genuine", serde_json::to_vec(&good).unwrap(), Ok(()));
    row("genuine, the other", serde_json::to_vec(&other).unwrap(), Ok(()));

    row("no entries", with(&good, entries, json!([])), Err(Reason::LogMissing));
    row("no list of entries", without(&good, entries), Err(Reason::LogMissing));
    row("entries null", with(&good, entries, Value::Null), Err(Reason::BundleMalformed));
    row("entry of another bundle", with(&good, ENTRY, theirs.clone()), Err(Reason::LogEntry));
    row("… after the right one", with(&good, entries, json!([mine, theirs])), Err(Reason::LogEntry));
    row("… before the right one", with(&good, entries, json!([theirs, mine])), Err(Reason::LogEntry));
    row("the entry twice", with(&good, entries, json!([mine, mine])), Ok(()));
    row("8 entries", with(&good, entries, vec![mine.clone(); 8].into()), Ok(()));
    row("9 entries", with(&good, entries, vec![mine.clone(); 9].into()), Err(Reason::LogTooMany));
    row("33 nulls", with(&good, entries, vec![Value::Null; 33].into()), Err(Reason::LogTooMany));
    row("an entry null", with(&good, entries, json!([mine, null])), Err(Reason::BundleMalformed));

    let elsewhere = world.entry(&world.other_log, &signed);
    let moved = |change: &dyn Fn(&mut Value)| {
        let mut entry = elsewhere.clone();
        change(&mut entry);
        entry
    };
    let id = mine["logId"].clone();
    let checkpoint = mine["inclusionProof"]["checkpoint"].clone();
    row("entry of an unknown log", with(&good, ENTRY, elsewhere.clone()), Err(Reason::LogUnknown));
    let renamed = moved(&|entry| entry["logId"] = id.clone());
    row("… under the id of the known one", with(&good, ENTRY, renamed), Err(Reason::LogProof));
    let dressed = moved(&|entry| {
        entry["logId"] = id.clone();
        entry["inclusionProof"]["checkpoint"] = checkpoint.clone();
    });
    row("… with its checkpoint too", with(&good, ENTRY, dressed), Err(Reason::LogProof));
    let foreign = elsewhere["inclusionProof"]["checkpoint"].clone();
    let at = format!("{PROOF}/checkpoint");
    row("checkpoint of another log", with(&good, &at, foreign.clone()), Err(Reason::LogProof));
    let id = flipped(text(&good, &format!("{ENTRY}/logId/keyId")), 31);
    row("id of no log", with(&good, &format!("{ENTRY}/logId/keyId"), id), Err(Reason::LogUnknown));
    row("id cut", with(&good, &format!("{ENTRY}/logId/keyId"), json!("AAAA")), Err(Reason::LogUnknown));

    // The same where both logs are trusted: an entry is proven by its own log alone.
    let both = trust(&trusted_root(&[&world.log, &world.other_log], &[&world.tsa]));
    let mut row =
        |what: &str, bytes: Vec<u8>, expected| table.row(what, &world.judge_by(&bytes, &both), expected);
    row("entry of the second log", with(&good, ENTRY, elsewhere.clone()), Ok(()));
    row("an entry of each log", with(&good, entries, json!([mine, elsewhere])), Ok(()));
    let renamed = moved(&|entry| entry["logId"] = mine["logId"].clone());
    row("… under the id of the first", with(&good, ENTRY, renamed), Err(Reason::LogProof));
    row("checkpoint of the second log", with(&good, &at, foreign), Err(Reason::LogProof));
    let id = elsewhere["logId"].clone();
    row("id of the second log", with(&good, &format!("{ENTRY}/logId"), id), Err(Reason::LogProof));
}

#[test]
fn proofs_and_checkpoints_must_hold() {
    let world = World::new();
    let good = world.says(&payload(b"one"));
    let mut table = Table::default();
    let mut row = |what: &str, bytes: Vec<u8>, expected| table.row(what, &world.judge(&bytes), expected);
    row("genuine", serde_json::to_vec(&good).unwrap(), Ok(()));

    row("no proof", without(&good, PROOF), Err(Reason::LogProof));
    row("proof null", with(&good, PROOF, Value::Null), Err(Reason::LogProof));
    row("no checkpoint", without(&good, &format!("{PROOF}/checkpoint")), Err(Reason::LogProof));
    let note = format!("{PROOF}/checkpoint/envelope");
    row("empty checkpoint", with(&good, &note, json!("")), Err(Reason::LogProof));
    let hashes = format!("{PROOF}/hashes");
    let first = flipped(text(&good, &format!("{hashes}/0")), 0);
    row("a hash altered", with(&good, &format!("{hashes}/0"), first), Err(Reason::LogProof));
    row("a hash gone", without(&good, &format!("{hashes}/0")), Err(Reason::LogProof));
    row("no hashes", with(&good, &hashes, json!([])), Err(Reason::LogProof));
    row("hashes absent", without(&good, &hashes), Err(Reason::LogProof));
    row("a hash of 31 bytes", with(&good, &hashes, json!(["AAAA"])), Err(Reason::BundleMalformed));
    let many = vec![STANDARD.encode([0; 32]); 10_000];
    row("10,000 hashes", with(&good, &hashes, many.into()), Err(Reason::LogProof));

    // The index that counts is the entry's; the numbers in the proof repeat the checkpoint's.
    let index = format!("{ENTRY}/logIndex");
    for (number, reason) in [
        ("0", Reason::LogProof),
        ("4", Reason::LogProof),
        ("6", Reason::LogProof),
        ("9223372036854775807", Reason::LogProof),
        ("9223372036854775808", Reason::BundleMalformed),
        ("18446744073709551616", Reason::BundleMalformed),
        ("-1", Reason::BundleMalformed),
        ("1e3", Reason::BundleMalformed),
        ("", Reason::BundleMalformed),
        ("five", Reason::BundleMalformed),
    ] {
        row(&format!("logIndex {number:?}"), with(&good, &index, json!(number)), Err(reason));
    }
    row("logIndex absent", without(&good, &index), Err(Reason::LogProof));
    for (what, number) in [("a fraction", json!(5.5)), ("a list", json!(["5"])), ("-1", json!(-1))] {
        row(&format!("logIndex {what}"), with(&good, &index, number), Err(Reason::BundleMalformed));
    }
    for number in ["-1", "1e3", "18446744073709551616"] {
        let size = with(&good, &format!("{PROOF}/treeSize"), json!(number));
        row(&format!("treeSize {number:?}"), size, Err(Reason::BundleMalformed));
    }

    let lines: Vec<&str> = text(&good, &note).lines().collect();
    let [origin, size, root, "", signature] = lines[..] else { panic!("{lines:?}") };
    let (_, base64) = signature.rsplit_once(' ').unwrap();
    let mut noted = |what: &str, lines: [&str; 5], reason| {
        let envelope = lines.join("\n") + "\n";
        row(what, with(&good, &note, json!(envelope)), Err(reason));
    };
    let line = |base64: &str| format!("\u{2014} {origin} {base64}");
    for at in [4, 20, 67] {
        let forged = line(flipped(base64, at).as_str().unwrap());
        noted("signature altered", [origin, size, root, "", &forged], Reason::LogProof);
    }
    let hint = line(flipped(base64, 0).as_str().unwrap());
    noted("signature of another key id", [origin, size, root, "", &hint], Reason::LogProof);
    noted("cut signature", [origin, size, root, "", &line(&base64[..16])], Reason::LogProof);
    let flipped_root = flipped(root, 3);
    noted("another root", [origin, size, flipped_root.as_str().unwrap(), "", signature], Reason::LogProof);
    for size in ["0", "1", "7", "18446744073709551615"] {
        noted(&format!("size {size}"), [origin, size, root, "", signature], Reason::LogProof);
    }
    for size in ["-1", "1e3", "18446744073709551616"] {
        noted(&format!("size {size}"), [origin, size, root, "", signature], Reason::BundleMalformed);
    }
    for other in [".*", "(", "log", &origin[..origin.len() - 1], &format!("{origin}.evil.test")] {
        noted(&format!("origin {other}"), [other, size, root, "", signature], Reason::LogProof);
    }

    let body = format!("{ENTRY}/canonicalizedBody");
    let told = String::from_utf8(STANDARD.decode(text(&good, &body)).unwrap()).unwrap();
    for (from, to) in [
        ("PKIX_ECDSA_P256_SHA_256", "PKIX_ECDSA_P384_SHA_384"),
        ("SHA2_256", "SHA2_512"),
        ("0.0.2", "0.0.1"),
        ("{", "{ "),
    ] {
        let altered = told.replacen(from, to, 1);
        assert_ne!(altered, told);
        let bytes = with(&good, &body, STANDARD.encode(altered).into());
        row(&format!("body with {to}"), bytes, Err(Reason::LogProof));
    }
    row("empty body", with(&good, &body, json!("")), Err(Reason::LogProof));
    row("no body", without(&good, &body), Err(Reason::BundleMalformed));

    let kind = format!("{ENTRY}/kindVersion");
    for (name, version, reason) in [
        ("hashedrekord", "0.0.1", Reason::LogEntry),
        ("dsse", "0.0.1", Reason::LogProof),
        ("intoto", "0.0.2", Reason::LogProof),
        ("hashedrekord", "0.0.3", Reason::BundleMalformed),
        ("dsse", "0.0.2", Reason::BundleMalformed),
        ("HashedRekord", "0.0.2", Reason::BundleMalformed),
        ("", "", Reason::BundleMalformed),
    ] {
        let bytes = with(&good, &kind, json!({ "kind": name, "version": version }));
        row(&format!("kind {name} {version}"), bytes, Err(reason));
    }
    let promise = json!({ "signedEntryTimestamp": STANDARD.encode([0x30; 70]) });
    row(
        "a promise that nobody made",
        with(&good, &format!("{ENTRY}/inclusionPromise"), promise),
        Err(Reason::LogProof),
    );
    row("promise null", with(&good, &format!("{ENTRY}/inclusionPromise"), Value::Null), Ok(()));
}

#[test]
fn timestamps_must_hold_and_one_must_be_there() {
    let world = World::new();
    let signed = world.sign(&world.garnix, &payload(b"one"));
    let good = world.bundle(&signed);
    let mut table = Table::default();
    let mut row = |what: &str, bytes: Vec<u8>, expected| table.row(what, &world.judge(&bytes), expected);
    row("genuine", serde_json::to_vec(&good).unwrap(), Ok(()));

    let data = "/verificationMaterial/timestampVerificationData";
    row("none", with(&good, STAMPS, json!([])), Err(Reason::NoVerifiedTime));
    row("no list", without(&good, STAMPS), Err(Reason::NoVerifiedTime));
    row("no data", without(&good, data), Err(Reason::NoVerifiedTime));
    row("data null", with(&good, data, Value::Null), Err(Reason::NoVerifiedTime));

    let mine = good.pointer(STAMPS).unwrap()[0].clone();
    let other = world.stamp(&world.tsa, b"another signature");
    let stranger = world.stamp(&world.other_tsa, &signed.signature);
    let invalid = Err(Reason::TimestampInvalid);
    row("of another signature", with(&good, STAMPS, json!([other])), invalid);
    row("… beside the right one", with(&good, STAMPS, json!([mine, other])), invalid);
    row("… before the right one", with(&good, STAMPS, json!([other, mine])), invalid);
    row("of another authority", with(&good, STAMPS, json!([stranger])), invalid);
    row("… beside the right one", with(&good, STAMPS, json!([mine, stranger])), invalid);
    row("twice", with(&good, STAMPS, json!([mine, mine])), Ok(()));
    row("32", with(&good, STAMPS, vec![mine.clone(); 32].into()), Ok(()));
    row("33", with(&good, STAMPS, vec![mine.clone(); 33].into()), Err(Reason::TimestampTooMany));
    let token = text(&mine, "/signedTimestamp");
    let length = STANDARD.decode(token).unwrap().len();
    for at in [length - 1, length - 20] {
        let tampered = json!([{ "signedTimestamp": flipped(token, at) }]);
        row(&format!("byte {at} of {length} altered"), with(&good, STAMPS, tampered), invalid);
    }
    for (what, token) in [("empty", ""), ("no DER", "AAAA"), ("a cut length", "MIIF/w==")] {
        let broken = json!([{ "signedTimestamp": token }]);
        row(what, with(&good, STAMPS, broken), invalid);
    }

    let at = |seconds: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    // Before and after what the authority's certificates and the trusted root say of it.
    for (what, seconds) in [("1970", 0), ("2015", 1_420_070_400), ("2060", 2_840_140_800)] {
        world.tsa.set_time(at(seconds));
        let stamp = json!([world.stamp(&world.tsa, &signed.signature)]);
        row(what, with(&good, STAMPS, stamp), invalid);
    }
    world.tsa.set_time(at(1_600_000_000));
    let old = world.stamp(&world.tsa, &signed.signature);
    row("2020", with(&good, STAMPS, json!([old])), Ok(()));
    // A time is when a signature existed, not when it was made: anybody can have it stamped again.
    let both = world.judge(&with(&good, STAMPS, json!([mine, old]))).unwrap();
    assert_eq!(both.earliest().unwrap().as_second(), 1_600_000_000);
    let again = world.judge(&serde_json::to_vec(&good).unwrap()).unwrap();
    assert_eq!(both.latest(), again.latest());
    world.tsa.set_time(None);

    // The windows of the trusted root.
    let window = |part: &str, end: &str| {
        let mut root = trusted_root(&[&world.log], &[&world.tsa]);
        match part {
            "log" => root["tlogs"][0]["publicKey"]["validFor"]["end"] = end.into(),
            _ => root["timestampAuthorities"][0]["validFor"]["end"] = end.into(),
        }
        trust(&root)
    };
    let bytes = with(&good, STAMPS, json!([old]));
    for (what, part, end, expected) in [
        ("authority, until the second", "tsa", "2020-09-13T12:26:40Z", Ok(())),
        ("authority, until the second before", "tsa", "2020-09-13T12:26:39Z", invalid),
        ("log, until the second", "log", "2020-09-13T12:26:40Z", Ok(())),
        ("log, until the second before", "log", "2020-09-13T12:26:39Z", Err(Reason::LogTime)),
    ] {
        table.row(what, &world.judge_by(&bytes, &window(part, end)), expected);
    }
    // With several entries too, each timestamp must lie in the time of their log.
    let entry = good.pointer(ENTRY).unwrap();
    let several = with(&good, "/verificationMaterial/tlogEntries", json!([entry, entry]));
    let several: Value = serde_json::from_slice(&several).unwrap();
    let bytes = with(&several, STAMPS, json!([old, mine]));
    for (end, expected) in [("2049-01-01T00:00:00Z", Ok(())), ("2020-09-13T12:26:40Z", Err(Reason::LogTime))]
    {
        table.row("two entries, two times", &world.judge_by(&bytes, &window("log", end)), expected);
    }
}

/// Of several entries each is proven with the first timestamp alone, and all timestamps once.
#[test]
fn every_timestamp_counts_beside_several_entries() {
    let world = World::new();
    let good = world.says(&payload(b"one"));
    let (entry, stamp) = (good.pointer(ENTRY).unwrap(), &good.pointer(STAMPS).unwrap()[0]);
    let entries = vec![entry.clone(); 8];
    let stamped = |stamps: Vec<Value>, entries: &[Value]| {
        let mut bundle = good.clone();
        set(&mut bundle, STAMPS, stamps.into());
        set(&mut bundle, "/verificationMaterial/tlogEntries", entries.into());
        serde_json::to_vec(&bundle).unwrap()
    };
    let mut bad = stamp.clone();
    bad["signedTimestamp"] = flipped(stamp["signedTimestamp"].as_str().unwrap(), 100);
    for entries in [&entries[..1], &entries] {
        let stamps = vec![stamp.clone(), bad.clone()];
        assert_eq!(world.judge(&stamped(stamps, entries)), Err(Reason::TimestampInvalid));
    }
}

#[test]
fn envelopes_are_read_in_one_way_only() {
    let world = World::new();
    let signed = world.sign(&world.garnix, &payload(b"one"));
    let good = world.bundle(&signed);
    let mut table = Table::default();
    let mut row = |what: &str, bytes: Vec<u8>, expected| table.row(what, &world.judge(&bytes), expected);
    row("genuine", serde_json::to_vec(&good).unwrap(), Ok(()));

    let signatures = "/dsseEnvelope/signatures";
    let mine = good.pointer(signatures).unwrap()[0].clone();
    let bogus = json!({ "sig": STANDARD.encode([0x30; 70]) });
    let content = Err(Reason::BundleContent);
    row("no signature", with(&good, signatures, json!([])), content);
    row("no signatures", without(&good, signatures), content);
    row("signatures null", with(&good, signatures, Value::Null), content);
    row("the signature twice", with(&good, signatures, json!([mine, mine])), content);
    row("a bogus one after", with(&good, signatures, json!([mine, bogus])), content);
    row("a bogus one before", with(&good, signatures, json!([bogus, mine])), content);
    row("a bogus one alone", with(&good, signatures, json!([bogus])), Err(Reason::SignerUnknown));
    row("empty", with(&good, &format!("{signatures}/0/sig"), json!("")), Err(Reason::SignerUnknown));
    row("a hint", with(&good, &format!("{signatures}/0/keyid"), json!("somebody")), Ok(()));
    row("another hint", with(&good, "/verificationMaterial/publicKey/hint", json!("x")), Ok(()));

    let at = "/dsseEnvelope/payload";
    let bytes = STANDARD.decode(text(&good, at)).unwrap();
    // Protobuf's JSON allows it, and the bytes are the same.
    row("url-safe", with(&good, at, URL_SAFE.encode(&bytes).into()), Ok(()));
    let later = String::from_utf8(bytes.clone()).unwrap().replace("\"sequence\":7", "\"sequence\":8");
    row("payload altered", with(&good, at, STANDARD.encode(later).into()), Err(Reason::SignerUnknown));
    row(
        "payload with a space",
        with(&good, at, STANDARD.encode([&bytes[..], b" "].concat()).into()),
        Err(Reason::SignerUnknown),
    );
    row("no base64", with(&good, at, json!("{}")), Err(Reason::BundleMalformed));
    row("no payload", without(&good, at), Err(Reason::BundleMalformed));

    for kind in [
        "application/json",
        "application/vnd.in-toto+json;v=1",
        "application/vnd.in-toto+json ",
        "APPLICATION/VND.IN-TOTO+JSON",
        "",
    ] {
        row(
            &format!("payload type {kind:?}"),
            with(&good, "/dsseEnvelope/payloadType", json!(kind)),
            Err(Reason::PayloadType),
        );
    }
    for kind in [
        json!("application/vnd.dev.sigstore.bundle.v0.3+JSON"),
        json!("application/vnd.dev.sigstore.bundle+json;version=0.3"),
        json!("application/vnd.dev.sigstore.bundle+json;version=0.1"),
        json!("application/vnd.dev.sigstore.bundle.v0.4+json"),
        json!(""),
        Value::Null,
        json!(3),
    ] {
        row(&format!("media type {kind}"), with(&good, "/mediaType", kind), Err(Reason::BundleVersion));
    }
    row("no media type", without(&good, "/mediaType"), Err(Reason::BundleVersion));

    let digest = json!({ "algorithm": "SHA2_256", "digest": STANDARD.encode([0; 32]) });
    let message = json!({ "messageDigest": digest, "signature": STANDARD.encode(&signed.signature) });
    row("a message signature too", with(&good, "/messageSignature", message.clone()), content);
    row("a message signature, null", with(&good, "/messageSignature", Value::Null), content);
    let only = changed(&good, |bundle| {
        remove(bundle, "/dsseEnvelope");
        set(bundle, "/messageSignature", message);
    });
    row("a message signature alone", only, content);
    row("no envelope", without(&good, "/dsseEnvelope"), content);
    row("envelope null", with(&good, "/dsseEnvelope", Value::Null), content);

    let key = "/verificationMaterial/publicKey";
    let der = STANDARD.encode(&world.tsa.chain()[0]);
    let certificate = json!({ "rawBytes": der });
    let instead = |name: &str, value: &Value| {
        changed(&good, |bundle| {
            remove(bundle, key);
            set(bundle, &format!("/verificationMaterial/{name}"), value.clone());
        })
    };
    row("a certificate of nobody", instead("certificate", &certificate), Err(Reason::CertificateIdentity));
    let chain = json!({ "certificates": [certificate] });
    row("a chain", instead("x509CertificateChain", &chain), Err(Reason::BundleMalformed));
    let beside = with(&good, "/verificationMaterial/certificate", certificate);
    row("a certificate beside the key", beside, Err(Reason::BundleMalformed));
    row("neither", without(&good, key), Err(Reason::BundleMalformed));
    row("key null", with(&good, key, Value::Null), Err(Reason::BundleMalformed));

    // Signed by a key that nobody named, whatever the hint says.
    let theirs = world.bundle(&world.sign(&world.stranger, &payload(b"one")));
    let hint = good.pointer(&format!("{key}/hint")).unwrap().clone();
    row("a stranger", serde_json::to_vec(&theirs).unwrap(), Err(Reason::SignerUnknown));
    row(
        "… with the hint of the builder",
        with(&theirs, &format!("{key}/hint"), hint),
        Err(Reason::SignerUnknown),
    );
    // What was signed must be the encoding of payload and type, its lengths in bytes.
    let about = payload(b"one");
    let wide: Vec<u8> = String::from_utf8(about.clone()).unwrap().replace("\"garnix\"", "\"gärnix\"").into();
    let characters = String::from_utf8(wide.clone()).unwrap().chars().count();
    let counted = format!("DSSEv1 28 application/vnd.in-toto+json {characters} ").into_bytes();
    for (what, payload, message) in [
        ("the payload itself", &about, about.clone()),
        ("its base64", &about, STANDARD.encode(&about).into_bytes()),
        ("another type", &about, quorate_pae("application/json", &about)),
        ("lengths in characters", &wide, [&counted[..], &wide[..]].concat()),
    ] {
        let bundle = world.bundle(&world.sign_message(&world.garnix, payload, message));
        row(what, serde_json::to_vec(&bundle).unwrap(), Err(Reason::SignerUnknown));
    }
    row("lengths in bytes", serde_json::to_vec(&world.says(&wide)).unwrap(), Ok(()));
}

fn quorate_pae(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[test]
fn what_is_no_strict_json_is_no_bundle() {
    let world = World::new();
    let good = world.says(&payload(b"one"));
    let bytes = serde_json::to_vec(&good).unwrap();
    let mut table = Table::default();
    let mut row = |what: &str, bytes: Vec<u8>, expected| table.row(what, &world.judge(&bytes), expected);
    let malformed = Err(Reason::BundleMalformed);
    row("genuine", bytes.clone(), Ok(()));
    row("pretty", serde_json::to_vec_pretty(&good).unwrap(), Ok(()));

    for key in ["extra", "MediaType", "dsseenvelope", "dſseEnvelope"] {
        row(key, with(&good, &format!("/{key}"), json!(1)), malformed);
    }
    for (from, to) in [
        ("\"mediaType\":", "\"mediaType\":\"x\",\"mediaType\":"),
        ("\"dsseEnvelope\":", "\"dsseEnvelope\":{},\"dsseEnvelope\":"),
        ("\"sig\":", "\"sig\":\"\",\"sig\":"),
        ("\"payload\":", "\"payload\":\"\",\"payload\":"),
        ("\"keyId\":", "\"keyId\":\"\",\"keyId\":"),
        ("\"sig\":", "\"Sig\":\"\",\"sig\":"),
        ("\"envelope\":", "\"note\":\"\",\"envelope\":"),
        ("\"signedTimestamp\":", "\"time\":\"\",\"signedTimestamp\":"),
    ] {
        row(to, replaced(&good, from, to), malformed);
    }
    let space = " ".repeat((1 << 20) - bytes.len());
    row("1 MiB", [&bytes[..], space.as_bytes()].concat(), Ok(()));
    row("more", [&bytes[..], space.as_bytes(), b" "].concat(), Err(Reason::BundleTooLarge));
    row("far more", vec![b'['; 5 << 20], Err(Reason::BundleTooLarge));
    for (what, bad) in [
        ("nothing", Vec::new()),
        ("a byte order mark", [b"\xef\xbb\xbf", &bytes[..]].concat()),
        ("a document after", [&bytes[..], b"{}"].concat()),
        ("a NUL after", [&bytes[..], b"\0"].concat()),
        ("cut", bytes[..bytes.len() - 1].to_vec()),
        ("100,000 lists", vec![b'['; 100_000]),
        ("100,000 objects", b"{\"a\":".repeat(100_000)),
        ("invalid UTF-8", replaced_bytes(&bytes, b"0.0.2", b"0.0.\xff")),
        ("half a surrogate", replaced_bytes(&bytes, b"0.0.2", b"\\ud800")),
        ("UTF-16", bytes.iter().flat_map(|b| [*b, 0]).collect()),
    ] {
        row(what, bad, malformed);
    }
    for other in ["null", "[]", "{}", "0", "\"\"", "true"] {
        assert!(world.judge(other.as_bytes()).is_err(), "{other}");
    }
}

fn replaced_bytes(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn signed_statements_must_be_what_the_page_says() {
    let world = World::new();
    let good = String::from_utf8(payload(b"one")).unwrap();
    let subject = Digest::of(b"one").hex();
    let digest = format!("\"sha256\":\"{subject}\"");
    let resource = format!("{{\"digest\":{{{digest}}},\"name\":\"{NAME}\"}}");
    let written = if good.contains(&resource) {
        resource
    } else {
        format!("{{\"name\":\"{NAME}\",\"digest\":{{{digest}}}}}")
    };
    let mut table = Table::default();
    table.row("genuine", &world.judge(&serde_json::to_vec(&world.says(good.as_bytes())).unwrap()), Ok(()));
    // As `cosign attest` writes it.
    let older = world.says(good.replacen("Statement/v1", "Statement/v0.1", 1).as_bytes());
    table.row("Statement/v0.1", &world.judge(&serde_json::to_vec(&older).unwrap()), Ok(()));
    let build = "https://quorate.dev/predicates/build/v1";
    let dissent = "https://quorate.dev/predicates/dissent/v1";
    let config = Digest::of(b"config");
    for (from, to, reason) in [
        ("Statement/v1", "Statement/v0.2", Reason::StatementType),
        ("Statement/v1", "Statement/v1/", Reason::StatementType),
        ("https://in-toto.io", "http://in-toto.io", Reason::StatementType),
        (&*written, &*format!("{written},{written}"), Reason::SubjectAmbiguous),
        (&written, "", Reason::SubjectAmbiguous),
        (&digest, &format!("{digest},\"sha512\":\"{}\"", "0".repeat(128)), Reason::SubjectAmbiguous),
        (&digest, "\"sha512\":\"00\"", Reason::SubjectAmbiguous),
        (&digest, "", Reason::SubjectAmbiguous),
        (&digest, &digest.to_uppercase().replace("SHA256", "sha256"), Reason::StatementMalformed),
        (&digest, &format!("{digest},{digest}"), Reason::StatementMalformed),
        (build, "https://quorate.dev/predicates/build/v1/", Reason::PredicateType),
        (build, "https://quorate.dev/predicates/Build/v1", Reason::PredicateType),
        (build, "https://quorate.dev/predicates/build/v10", Reason::PredicateType),
        (build, "https://slsa.dev/provenance/v1", Reason::PredicateType),
        (build, "", Reason::PredicateType),
        (build, dissent, Reason::PredicateMalformed),
        ("\"sequence\":7", "\"sequence\":7,\"approved\":true", Reason::PredicateMalformed),
        ("\"sequence\":7", "\"sequence\":-7", Reason::PredicateMalformed),
        ("\"sequence\":7", "\"sequence\":\"7\"", Reason::PredicateMalformed),
        ("\"sequence\":7", "\"sequence\":18446744073709551616", Reason::PredicateMalformed),
        ("\"sequence\":7", "\"sequence\":7,\"sequence\":8", Reason::StatementMalformed),
        ("\"configDigest\"", "\"configdigest\"", Reason::PredicateMalformed),
        (&format!("\"configDigest\":\"{config}\","), "", Reason::PredicateMalformed),
        (&format!("\"{config}\""), "null", Reason::PredicateMalformed),
        ("\"sequence\":7", "\"sequence\":7,\"target\":null", Reason::PredicateMalformed),
        ("x86_64-linux", "x86_64-darwin", Reason::PredicateMalformed),
        ("\"garnix\"", "null", Reason::PredicateMalformed),
        ("\"garnix\"", "\"\"", Reason::PredicateMalformed),
        ("\"predicate\":{", "\"predicate\":null,\"more\":{", Reason::StatementMalformed),
        (NAME, "acme/app", Reason::StatementMalformed),
        (NAME, "ghcr.io/acme/app:latest", Reason::StatementMalformed),
    ] {
        assert!(good.contains(from), "{from} is not in {good}");
        let bundle = world.says(good.replacen(from, to, 1).as_bytes());
        table.row(
            &format!("{from} → {to}"),
            &world.judge(&serde_json::to_vec(&bundle).unwrap()),
            Err(reason),
        );
    }
    for (what, payload) in [
        ("nothing", ""),
        ("null", "null"),
        ("a list", "[]"),
        ("no statement", "{}"),
        ("text", "\"x\""),
        ("a byte order mark", "\u{feff}{}"),
    ] {
        let bundle = serde_json::to_vec(&world.says(payload.as_bytes())).unwrap();
        table.row(what, &world.judge(&bundle), Err(Reason::StatementMalformed));
    }
    let long = good.replacen("\"garnix\"", &format!("\"{}\"", "x".repeat(500_000)), 1);
    let long = serde_json::to_vec(&world.says(long.as_bytes())).unwrap();
    table.row("a long name", &world.judge(&long), Err(Reason::PredicateMalformed));

    // A dissent, and one that could be taken for approval.
    let mut disputed = statement(b"one");
    disputed.claim = Claim::Dissent { disputes: disputed.subject };
    let mut mistaken = disputed.clone();
    disputed.subject = disputed.build.content.config_digest;
    let other = Digest::of(b"other").hex();
    mistaken.subject = Digest::from_hex(&other).unwrap();
    for (what, statement, expected) in [
        ("a dissent", &disputed, Ok(())),
        ("a dissent on what it disputes", &mistaken, Err(Reason::PredicateMalformed)),
    ] {
        let bundle = world.says(&statement.to_payload().unwrap());
        table.row(what, &world.judge(&serde_json::to_vec(&bundle).unwrap()), expected);
    }
}

/// What both witnesses and the builder vouch for, in the places of objects: lists that some
/// parsers read by position.
#[test]
fn lists_are_not_objects() {
    let world = World::new();
    let good = world.says(&payload(b"one"));
    let mut table = Table::default();
    let mut row = |what: &str, bytes: Vec<u8>, expected| table.row(what, &world.judge(&bytes), expected);
    let malformed = Err(Reason::BundleMalformed);
    let stamp = good.pointer(STAMPS).unwrap()[0].clone();
    let data = "/verificationMaterial/timestampVerificationData";
    row("the timestamps", with(&good, data, json!([[stamp]])), malformed);
    row("33 timestamps", with(&good, data, json!([vec![stamp.clone(); 33]])), malformed);
    row("a timestamp", with(&good, &format!("{STAMPS}/0"), json!([stamp["signedTimestamp"]])), malformed);
    let entry = good.pointer(ENTRY).unwrap().clone();
    row("a log id", with(&good, &format!("{ENTRY}/logId"), json!([entry["logId"]["keyId"]])), malformed);
    let kind = json!(["hashedrekord", "0.0.2"]);
    row("a kind", with(&good, &format!("{ENTRY}/kindVersion"), kind), malformed);
    let proof = &entry["inclusionProof"];
    let parts = json!([
        proof["logIndex"],
        proof["rootHash"],
        proof["treeSize"],
        proof["hashes"],
        proof["checkpoint"],
    ]);
    row("a proof", with(&good, PROOF, parts), malformed);
    row("a hint", with(&good, "/verificationMaterial/publicKey", json!(["x"])), malformed);
    let signature = good.pointer("/dsseEnvelope/signatures/0/sig").unwrap().clone();
    row("a signature", with(&good, "/dsseEnvelope/signatures/0", json!([signature])), malformed);

    let text = String::from_utf8(payload(b"one")).unwrap();
    let told: Value = serde_json::from_str(&text).unwrap();
    let predicate = &told["predicate"];
    let [commit, system, nar, id, config] =
        ["commit", "system", "narHash", "builder", "configDigest"].map(|key| predicate[key].clone());
    for (what, pointer, list, reason) in [
        ("a builder", "/predicate/builder", json!([id["id"]]), Reason::PredicateMalformed),
        (
            "a predicate",
            "/predicate",
            json!([commit, system, nar, id, config, 7]),
            Reason::PredicateMalformed,
        ),
        ("a subject", "/subject/0", json!([NAME, told["subject"][0]["digest"]]), Reason::SubjectAmbiguous),
        (
            "a digest",
            "/subject/0/digest",
            json!([told["subject"][0]["digest"]["sha256"]]),
            Reason::SubjectAmbiguous,
        ),
    ] {
        row(what, serde_json::to_vec(&world.says(&with(&told, pointer, list))).unwrap(), Err(reason));
    }
    let all = json!([told["_type"], told["subject"], told["predicateType"], told["predicate"]]);
    let bundle = world.says(all.to_string().as_bytes());
    row("a statement", serde_json::to_vec(&bundle).unwrap(), Err(Reason::StatementMalformed));
}

/// The order of P-256 (SEC 2, section 2.4.2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
    0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The other signature that holds where (r, s) does: (r, n − s).
fn malleated(signature: &[u8]) -> Vec<u8> {
    let r = usize::from(signature[3]);
    let s = &signature[4 + r + 2..];
    let s = s.strip_prefix(&[0]).unwrap_or(s);
    let mut number = [0; 32];
    number[32 - s.len()..].copy_from_slice(s);
    let mut borrow = 0;
    let mut rest = Vec::new();
    for at in (0..32).rev() {
        let digit = i32::from(ORDER[at]) - i32::from(number[at]) - borrow;
        borrow = i32::from(digit < 0);
        rest.insert(0, u8::try_from(digit + borrow * 256).unwrap());
    }
    let zeros = rest.iter().take_while(|byte| **byte == 0).count();
    rest.drain(..zeros);
    if rest[0] >= 0x80 {
        rest.insert(0, 0);
    }
    let body = [&signature[2..4 + r], &[2, u8::try_from(rest.len()).unwrap()], &rest[..]].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}

/// Whatever is made of one builder's statement, it stays one vote.
#[test]
fn copies_of_a_vote_are_one_vote() {
    let world = World::new();
    let built = Image::build("linux", "amd64", None, &[("app", b"hello", 0o755)]);
    let mut said = statement(&built.manifest);
    said.build.content.config_digest = built.config_digest.parse().unwrap();
    let signed = world.sign(&world.garnix, &said.to_payload().unwrap());
    let good = world.bundle(&signed);
    let bytes = serde_json::to_vec(&good).unwrap();

    // The malleated signature holds, but what the witnesses saw is the other one.
    let other = Signed {
        signature: malleated(&signed.signature),
        payload: signed.payload.clone(),
        message: signed.message.clone(),
    };
    assert!(world.garnix.public().verifies(&other.message, &other.signature));
    let swapped = with(&good, "/dsseEnvelope/signatures/0/sig", STANDARD.encode(&other.signature).into());
    assert!(matches!(world.judge(&swapped), Err(Reason::LogEntry | Reason::TimestampInvalid)));
    // Anybody can have it witnessed, and it is the same vote.
    let mut bundles = vec![bytes.clone(), serde_json::to_vec(&world.bundle(&other)).unwrap()];
    bundles.push(serde_json::to_vec_pretty(&good).unwrap());
    let entry = good.pointer(ENTRY).unwrap().clone();
    bundles.push(with(&good, "/verificationMaterial/tlogEntries", json!([entry, entry])));
    let payload = URL_SAFE.encode(&signed.payload);
    bundles.push(replaced(&good, &STANDARD.encode(&signed.payload), &payload));
    bundles.push(serde_json::to_vec(&world.says(&signed.payload)).unwrap());
    let attestations: Vec<Attestation> = bundles.iter().map(|bytes| world.judge(bytes).unwrap()).collect();

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
    let policy = |quorum: u32| {
        let builder = |name: &str, key: &PublicKey| {
            format!("[[builder]]\nname = {name:?}\noperator = {name:?}\nkey = '''{}'''\n", key.to_pem())
        };
        let text = format!(
            "version = 1\n[[image]]\nrepository = \"{NAME}\"\nplatforms = [\"linux/amd64\"]\nquorum = {quorum}\n{}{}",
            builder("garnix", world.garnix.public()),
            builder("other", world.stranger.public()),
        );
        Policy::parse(&text, |_| Err("inline".to_owned())).unwrap()
    };
    let evidence = Evidence { attestations, ..Evidence::default() };
    let now = jiff::Timestamp::now();
    let judged = |quorum| decide(&policy(quorum), &candidate, &evidence, now, &Expected::default());
    assert!(matches!(judged(1).outcome, Outcome::Met(_)), "{:?}", judged(1));
    let two = judged(2);
    assert!(matches!(two.outcome, Outcome::Short), "{two:?}");
    assert_eq!(two.platforms[0].have, 1);
}

/// Places that nothing vouches for, and on which nothing is decided.
const NEUTRAL: &[&str] = &[
    "/verificationMaterial/publicKey/hint",
    "/verificationMaterial/tlogEntries/0/inclusionProof/logIndex",
    "/verificationMaterial/tlogEntries/0/inclusionProof/rootHash",
    "/verificationMaterial/tlogEntries/0/inclusionProof/treeSize",
    // The name beside the signature: the key id and the signature are what holds.
    "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope",
    // Parts of the token that its signature does not cover; the time is compared.
    "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp",
];

/// Every place in a document, and what it says there.
fn leaves(value: &Value, at: &str, found: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(k, v)| leaves(v, &format!("{at}/{k}"), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, v)| leaves(v, &format!("{at}/{i}"), found));
        }
        leaf => drop(found.insert((at.to_owned(), meaning(leaf)))),
    }
}

/// A leaf as its reader takes it: base64 by its bytes, in either alphabet and however it is padded.
fn meaning(leaf: &Value) -> String {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    leaf.as_str()
        .filter(|text| text.len() >= 40)
        .and_then(|text| {
            let text = text.replace('-', "+").replace('_', "/");
            GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(text).ok()
        })
        .map_or_else(|| leaf.to_string(), |bytes| format!("{bytes:x?}"))
}

fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    if !at.is_empty() {
        found.push(at.to_owned());
    }
    match value {
        Value::Object(object) => object.iter().for_each(|(k, v)| places(v, &format!("{at}/{k}"), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, v)| places(v, &format!("{at}/{i}"), found));
        }
        _ => {}
    }
}

#[test]
fn no_mutation_says_something_else() {
    let world = World::new();
    let good = world.says(&payload(b"one"));
    let bytes = serde_json::to_vec(&good).unwrap();
    let genuine = world.judge(&bytes).unwrap();
    let mut before = BTreeSet::new();
    leaves(&good, "", &mut before);
    let mut survived = BTreeSet::new();
    let mut judge = |mutant: &[u8]| {
        let Ok(found) = world.judge(mutant) else { return };
        assert_eq!(found.statement(), genuine.statement());
        assert_eq!(found.signer(), genuine.signer());
        assert_eq!((found.earliest(), found.latest()), (genuine.earliest(), genuine.latest()));
        let mut after = BTreeSet::new();
        leaves(&serde_json::from_slice(mutant).unwrap(), "", &mut after);
        for (place, _) in before.symmetric_difference(&after) {
            assert!(NEUTRAL.contains(&place.as_str()), "a change of {place} verifies");
            survived.insert(place.clone());
        }
    };
    let mut everywhere = Vec::new();
    places(&good, "", &mut everywhere);
    for place in &everywhere {
        judge(&without(&good, place));
        for other in [json!(null), json!([]), json!({}), json!(""), json!(-1), json!(true)] {
            if good.pointer(place) != Some(&other) {
                judge(&with(&good, place, other));
            }
        }
    }
    // xorshift64, so that a failure comes again.
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for _ in 0..2000 {
        let mut mutant = bytes.clone();
        let at = random(mutant.len());
        match random(4) {
            0 => mutant[at] ^= 1 << random(8),
            1 => mutant[at] = b"0123456789ABCDEFabcdef+/=\"{}[],:\\ "[random(34)],
            2 => drop(mutant.remove(at)),
            _ => mutant.insert(at, mutant[random(bytes.len())]),
        }
        judge(&mutant);
    }
    println!("neutral: {survived:#?}");
}
