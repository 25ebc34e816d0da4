//! What needs no network, beside the cryptography that it cannot do without, in one run:
//! `cargo bench --bench local`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark ends where it fails")]
#![allow(clippy::print_stdout, reason = "the table is its result")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use quorate::attestation::provider::RING;
use quorate::attestation::verify::verify;
use quorate::attestation::{
    Build, Bundle, Claim, Content, MaySign, PublicKey, Remarks, Statement, Transparency, Trust, envelope,
};
use quorate::edge::signer::KeyPair;
use quorate::edge::tree::nar_hash;
use quorate::nix::NarHash;
use quorate::oci::{Descriptor, Digest, ImageIndex, Manifest, Repository, media_type};
use quorate::policy::{Candidate, Evidence, Expected, Policy, decide};
use ring::digest::{Context, SHA256};
use sigstore_crypto::{CryptoProvider, HashContext, SigningScheme};
use sigstore_types::HashAlgorithm;

/// Bytes of the file whose narHash is computed, and bytes read of it at once.
const FILE: usize = 256 << 20;
const PIECE: usize = 256 << 10;

fn main() {
    // `cargo test --all-targets` runs benchmarks too, without this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("| | all of it | the cryptography alone | all / alone |");
    println!("|---|---|---|---|");
    bundle();
    tree();
    println!();
    println!("| the decision alone | it takes | a vote |");
    println!("|---|---|---|");
    for votes in [100, 1_000, 10_000] {
        decision(votes);
    }
}

/// Every signature that is checked, once it is asked for.
#[derive(Debug)]
struct Witness(Mutex<Option<Vec<Check>>>);

type Check = (SigningScheme, Vec<u8>, Vec<u8>, Vec<u8>);

static WITNESS: Witness = Witness(Mutex::new(None));

impl CryptoProvider for Witness {
    fn hash(&self, algorithm: HashAlgorithm) -> sigstore_crypto::Result<Box<dyn HashContext>> {
        RING.hash(algorithm)
    }

    fn verify_raw(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        data: &[u8],
        signature: &[u8],
    ) -> sigstore_crypto::Result<()> {
        if let Some(checks) = self.0.lock().unwrap().as_mut() {
            let check = (scheme, key.to_vec(), data.to_vec(), signature.to_vec());
            if !checks.contains(&check) {
                checks.push(check);
            }
        }
        RING.verify_raw(scheme, key, data, signature)
    }

    fn verify_prehashed(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        digest: &[u8],
        signature: &[u8],
    ) -> sigstore_crypto::Result<()> {
        RING.verify_prehashed(scheme, key, digest, signature)
    }
}

/// A vote: its bundle parsed and verified, beside each of its signatures checked once.
fn bundle() {
    assert!(sigstore_crypto::install_default_provider(&WITNESS).is_ok());
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let read = |name: &str| std::fs::read(fuzz.join(name)).unwrap();
    let bytes = read("seeds/bundle/genuine.json");
    let key = PublicKey::from_pem(&String::from_utf8(read("data/builder.pub")).unwrap()).unwrap();
    let key = MaySign::Key(key);
    let trust = Trust::from_json(&read("data/trusted_root.json")).unwrap();
    let whole = || verify(&Bundle::parse(&bytes).unwrap(), [(&key, &trust)]).unwrap();

    *WITNESS.0.lock().unwrap() = Some(Vec::new());
    whole();
    let checks = WITNESS.0.lock().unwrap().take().unwrap();
    let alone = || {
        for (scheme, key, data, signature) in &checks {
            RING.verify_raw(*scheme, key, data, signature).unwrap();
        }
    };
    let parsed = Bundle::parse(&bytes).unwrap();
    let verified = || drop(black_box(verify(&parsed, [(&key, &trust)]).unwrap()));
    row(&format!("one vote in memory, verified; its {} signatures", checks.len()), 200, verified, alone);
    row("the same, parsed first", 200, || drop(black_box(whole())), alone);
}

/// The narHash of a large file, beside its SHA-256 alone. The file is read before.
fn tree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let mut file = File::create(&path).unwrap();
    let piece: Vec<u8> = (0..=250_u8).cycle().take(PIECE).collect();
    (0..FILE / PIECE).for_each(|_| file.write_all(&piece).unwrap());
    file.sync_all().unwrap();
    let alone = || {
        let (mut file, mut context) = (File::open(&path).unwrap(), Context::new(&SHA256));
        let mut buffer = vec![0; PIECE];
        loop {
            match file.read(&mut buffer).unwrap() {
                0 => break,
                read => context.update(&buffer[..read]),
            }
        }
        black_box(context.finish());
    };
    row(
        &format!("narHash of one file of {} MiB; its SHA-256", FILE >> 20),
        1,
        || _ = black_box(nar_hash(&path).unwrap()),
        alone,
    );
}

/// The decision over this many votes, each really signed and proven: ten builders that agree on one
/// release, run again and again. Medians of 11 runs.
fn decision(votes: u32) {
    const BUILDERS: u32 = 10;
    const REPOSITORY: &str = "ghcr.io/acme/app";
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let layers = Vec::new();
    let manifest = Manifest::image(Descriptor::of(media_type::CONFIG, config), layers).unwrap();
    let child = Descriptor { platform: Some("linux/amd64".parse().unwrap()), ..manifest.descriptor() };
    let index = ImageIndex::assemble(vec![child.clone()], BTreeMap::new()).unwrap();
    let repository: Repository = REPOSITORY.parse().unwrap();
    let mut candidate = Candidate::read(repository.clone(), media_type::INDEX, index.bytes().to_vec());
    candidate.add_manifest(&child, Some(manifest.bytes().to_vec()));
    candidate.add_config(&child, Some(config));

    let keys: Vec<KeyPair> = (0..BUILDERS).map(|_| KeyPair::generate().unwrap().0).collect();
    let mut policy = format!(
        "version = 1\n[trust.default]\ntransparency = \"none\"\n[[image]]\nrepository = \"{REPOSITORY}\"\n\
         platforms = [\"linux/amd64\"]\nquorum = {BUILDERS}\n"
    );
    for (n, key) in keys.iter().enumerate() {
        let pem = key.public().to_pem();
        let _ = write!(policy, "[[builder]]\nname = \"b{n}\"\noperator = \"o{n}\"\nkey = '''{pem}'''\n");
    }
    let policy = Policy::parse(&policy, |_| Err("inline".to_owned())).unwrap();
    let root =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/data/trusted_root.json")).unwrap();
    let trust = Trust::new(&root, Transparency::None).unwrap();
    let statement = |n: u32| Statement {
        name: repository.clone(),
        subject: manifest.digest(),
        claim: Claim::Build,
        build: Build {
            commit: "a".repeat(40).parse().unwrap(),
            system: "x86_64-linux".parse().unwrap(),
            content: Content { nar_hash: NarHash::from_bytes([1; 32]), config_digest: Digest::of(config) },
            builder: format!("b{}", n % BUILDERS),
            sequence: 1,
            source_uri: None,
            // Each run is another statement.
            git_ref: Some(format!("refs/heads/run-{n}")),
            target: None,
            remarks: Remarks::default(),
        },
    };
    let attestations = (0..votes).map(|n| {
        let (key, payload) = (&keys[(n % BUILDERS) as usize], statement(n).to_payload().unwrap());
        let signature = key.sign(&envelope::pae(&payload)).unwrap();
        let bundle = Bundle::keyed(envelope::seal(payload, signature), key.public(), vec![], vec![]);
        let may_sign = MaySign::Key(key.public().clone());
        verify(&Bundle::parse(bundle.to_json().unwrap().as_bytes()).unwrap(), [(&may_sign, &trust)]).unwrap()
    });
    let evidence = Evidence { attestations: attestations.collect(), ..Evidence::default() };
    let now = jiff::Timestamp::now();
    let time = || {
        let start = Instant::now();
        let verdict = black_box(decide(&policy, &candidate, &evidence, now, &Expected::default()));
        assert!(verdict.approval().is_some(), "{verdict:?}");
        start.elapsed()
    };
    let mut times: Vec<_> = (0..11).map(|_| time()).collect();
    times.sort();
    let each = times[5].as_secs_f64() / f64::from(votes);
    println!("| {votes} votes of {BUILDERS} builders | {} | {:.1} µs |", shown(times[5]), each * 1e6);
}

/// Medians of 11 runs, one of each after the other.
fn row(what: &str, times: u32, all: impl Fn(), alone: impl Fn()) {
    let time = |work: &dyn Fn()| {
        let start = Instant::now();
        (0..times).for_each(|_| work());
        start.elapsed() / times
    };
    time(&all);
    let (mut with, mut without): (Vec<_>, Vec<_>) = (0..11).map(|_| (time(&all), time(&alone))).unzip();
    with.sort();
    without.sort();
    let (with, without) = (with[5], without[5]);
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    println!("| {what} | {} | {} | {ratio:.2} |", shown(with), shown(without));
}

fn shown(time: Duration) -> String {
    match time.as_micros() {
        micros @ ..10_000 => format!("{micros} µs"),
        micros => format!("{} ms", micros / 1000),
    }
}
