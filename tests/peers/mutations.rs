//! Genuine bundles, mutated at random, before quorate and before sigstore-python: what both say of
//! each kind of mutation stands in `mutations/`, a file for each kind of bundle, and nothing else may
//! be said. What quorate takes although the other refuses it comes first there.
//!
//! `QUORATE_SEED` is a number above 0; each makes other mutants.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use libtest_mimic::Trial;
use quorate::attestation::verify::verify;
use quorate::attestation::{Bundle, Identity, Matcher, MaySign, PublicKey, Trust};
use serde_json::{Value, json};

use crate::bundles::{Made, made, script};
use crate::keyless;
use crate::peers::{Peer, Peers};
use crate::project::said;

/// How many different mutants there must be at least of each kind of bundle.
const ENOUGH: usize = 10_000;
/// The kinds of bundles: whether a certificate names the signer, the version of Rekor, and the table.
/// Its rows are a mutation, what quorate says, and what the other says, with ` | ` between them.
const KINDS: [(bool, u8, &str); 4] = [
    (false, 1, "key_in_rekor_v1"),
    (false, 2, "key_in_rekor_v2"),
    (true, 1, "certificate_in_rekor_v1"),
    (true, 2, "certificate_in_rekor_v2"),
];
/// How often each mutation is tried. Some have only one mutant of each genuine bundle.
const TRIES: usize = 120;

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let of = |(keyless, rekor, table)| {
        let name = format!("mutated_bundles_are_refused_where_sigstore_python_refuses::{table}");
        peers.trial(&name, [Peer::PythonSigstore], move |[python]| mutated(python, keyless, rekor, table))
    };
    KINDS.map(of).into()
}

/// xorshift64*: random enough to choose bytes with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap() % end
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Where bytes stand in base64.
const BYTES: [&str; 9] = [
    "/dsseEnvelope/payload",
    "/dsseEnvelope/signatures/0/sig",
    TIMESTAMP,
    CERTIFICATE,
    PROMISE,
    "/verificationMaterial/tlogEntries/0/logId/keyId",
    "/verificationMaterial/tlogEntries/0/canonicalizedBody",
    "/verificationMaterial/tlogEntries/0/inclusionProof/rootHash",
    "/verificationMaterial/tlogEntries/0/inclusionProof/hashes/0",
];
/// Where text stands.
const TEXTS: [&str; 6] = [
    "/mediaType",
    "/verificationMaterial/publicKey/hint",
    "/verificationMaterial/tlogEntries/0/kindVersion/kind",
    "/verificationMaterial/tlogEntries/0/kindVersion/version",
    "/dsseEnvelope/payloadType",
    "/dsseEnvelope/signatures/0/keyid",
];
/// Where numbers stand, as strings.
const NUMBERS: [&str; 4] = [
    "/verificationMaterial/tlogEntries/0/logIndex",
    "/verificationMaterial/tlogEntries/0/integratedTime",
    "/verificationMaterial/tlogEntries/0/inclusionProof/logIndex",
    "/verificationMaterial/tlogEntries/0/inclusionProof/treeSize",
];
/// Where objects and lists stand.
const NODES: [&str; 16] = [
    "/verificationMaterial",
    "/verificationMaterial/publicKey",
    "/verificationMaterial/certificate",
    "/verificationMaterial/timestampVerificationData",
    "/verificationMaterial/timestampVerificationData/rfc3161Timestamps",
    "/verificationMaterial/tlogEntries",
    "/verificationMaterial/tlogEntries/0",
    "/verificationMaterial/tlogEntries/0/logId",
    "/verificationMaterial/tlogEntries/0/kindVersion",
    "/verificationMaterial/tlogEntries/0/inclusionPromise",
    "/verificationMaterial/tlogEntries/0/inclusionProof",
    "/verificationMaterial/tlogEntries/0/inclusionProof/hashes",
    "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint",
    "/dsseEnvelope",
    "/dsseEnvelope/signatures",
    "/dsseEnvelope/signatures/0",
];
const TIMESTAMP: &str = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
const STAMPS: &str = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
const CERTIFICATE: &str = "/verificationMaterial/certificate/rawBytes";
const PROMISE: &str = "/verificationMaterial/tlogEntries/0/inclusionPromise/signedEntryTimestamp";
const CHECKPOINT: &str = "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope";
/// Stands for what JSON values cannot hold, such as a member twice, until the text is written.
const MARK: &str = "@mark@";

/// Makes a mutant of a bundle, given another one by the same builder; `None` where it cannot.
type Mutate = Box<dyn Fn(&mut Random, &Value, &Value) -> Option<Vec<u8>>>;
/// Changes bytes, given those of another bundle.
type ChangeBytes = fn(&mut Random, Vec<u8>, Vec<u8>) -> Option<Vec<u8>>;
/// Changes a text, given that of another bundle.
type ChangeText = fn(&mut Random, Vec<char>, Option<String>) -> Option<String>;

/// Mutations by name.
#[derive(Default)]
struct Mutations(Vec<(String, Mutate)>);

impl Mutations {
    fn all() -> Self {
        let mut all = Self::default();
        for some in [of_bytes, of_texts, of_numbers, of_members, of_parts, of_checkpoints, of_files] {
            some(&mut all);
        }
        all
    }

    fn add(&mut self, name: String, mutate: Mutate) {
        self.0.push((name, mutate));
    }
}

/// Bytes in base64, and how they are written.
fn of_bytes(all: &mut Mutations) {
    for pointer in BYTES {
        let mut bytes = |what: &str, change: ChangeBytes| {
            all.add(
                format!("{pointer}: {what}"),
                Box::new(move |random, bundle, other| {
                    let [old, other] = [bundle, other].map(|bundle| decoded(bundle, pointer));
                    set(bundle, pointer, STANDARD.encode(change(random, old?, other.unwrap_or_default())?))
                }),
            );
        };
        bytes("bit flipped", |random, mut bytes, _| {
            let idle = idle(&bytes);
            let position = random.below(bytes.len());
            bytes[position] ^= 1 << random.below(8);
            (!idle.contains(&position)).then_some(bytes)
        });
        bytes("byte changed", |random, mut bytes, _| {
            let idle = idle(&bytes);
            let position = random.below(bytes.len());
            bytes[position] = u8::try_from(random.below(256)).unwrap();
            (!idle.contains(&position)).then_some(bytes)
        });
        bytes("byte inserted", |random, mut bytes, _| {
            bytes.insert(random.below(bytes.len()), u8::try_from(random.below(256)).unwrap());
            Some(bytes)
        });
        bytes("cut", |random, mut bytes, _| {
            bytes.truncate(random.below(bytes.len()));
            Some(bytes)
        });
        bytes("longer", |random, mut bytes, _| {
            bytes.push(u8::try_from(random.below(256)).unwrap());
            Some(bytes)
        });
        bytes("of another bundle", |_, _, other| (!other.is_empty()).then_some(other));
        let mut text = |what: &str, encode: fn(&[u8]) -> String| {
            all.add(
                format!("{pointer}: {what}"),
                Box::new(move |_, bundle, _| set(bundle, pointer, encode(&decoded(bundle, pointer)?))),
            );
        };
        text("URL-safe alphabet", |bytes| URL_SAFE.encode(bytes));
        text("without padding", |bytes| STANDARD_NO_PAD.encode(bytes));
        text("line break in base64", |bytes| {
            let mut text = STANDARD.encode(bytes);
            text.insert(4, '\n');
            text
        });
    }
    all.add(
        format!("{TIMESTAMP}: bit flipped in what its signature does not cover"),
        Box::new(|random, bundle, _| {
            let mut bytes = decoded(bundle, TIMESTAMP)?;
            let position = *random.of(&idle(&bytes));
            bytes[position] ^= 1 << random.below(8);
            set(bundle, TIMESTAMP, STANDARD.encode(bytes))
        }),
    );
}

/// Texts.
fn of_texts(all: &mut Mutations) {
    for pointer in TEXTS {
        let mut text = |what: &str, change: ChangeText| {
            all.add(
                format!("{pointer}: {what}"),
                Box::new(move |random, bundle, other| {
                    let [old, other] = [bundle, other]
                        .map(|bundle| bundle.pointer(pointer).and_then(Value::as_str).map(str::to_owned));
                    set(bundle, pointer, change(random, old?.chars().collect(), other)?)
                }),
            );
        };
        text("character changed", |random, old, _| {
            (!old.is_empty()).then(|| other_character(random, &old.iter().collect::<String>()))
        });
        text("character inserted", |random, mut old, _| {
            old.insert(random.below(old.len() + 1), character(random));
            Some(old.into_iter().collect())
        });
        text("cut", |random, old, _| {
            let end = random.below(old.len().max(1));
            Some(old[..end].iter().collect())
        });
        text("in capitals", |_, old, _| Some(String::from_iter(old).to_uppercase()));
        text("of another bundle", |_, _, other| other);
    }
}

/// Numbers.
fn of_numbers(all: &mut Mutations) {
    for pointer in NUMBERS {
        let mut number = |what: &str, change: fn(&mut Random, i128) -> Option<Value>| {
            all.add(
                format!("{pointer}: {what}"),
                Box::new(move |random, bundle, _| {
                    let old = bundle.pointer(pointer)?.as_str()?.parse().unwrap();
                    set(bundle, pointer, change(random, old)?)
                }),
            );
        };
        number("higher", |random, old| Some((old + 1 + i128::from(random.next() % 1000)).to_string().into()));
        number("lower", |random, old| {
            let lower = old.checked_sub(1 + i128::from(random.next() % 8))?;
            (lower >= 0).then(|| lower.to_string().into())
        });
        number("negative", |random, _| Some(format!("-{}", 1 + random.next() % 1000).into()));
        number("beyond 64 bits", |random, _| {
            Some((i128::from(random.next()) << 65 | 1 << 65).to_string().into())
        });
        number("as a JSON number", |_, old| Some(json!(i64::try_from(old).unwrap())));
        number("with a zero in front", |_, old| Some(format!("0{old}").into()));
    }
}

/// Any member or item.
fn of_members(all: &mut Mutations) {
    for pointer in BYTES.iter().chain(&TEXTS).chain(&NUMBERS).chain(&NODES).chain(&[CHECKPOINT]) {
        let mut member = |what: &str, change: fn(&mut Value, &str) -> Option<()>| {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            all.add(
                format!("{pointer}: {what}"),
                Box::new(move |_, bundle, _| {
                    let mut bundle = bundle.clone();
                    change(bundle.pointer_mut(parent)?, name)?;
                    Some(bundle.to_string().replace(MARK, name).into_bytes())
                }),
            );
        };
        member("removed", |parent, name| match parent {
            Value::Object(members) => members.remove(name).map(drop),
            Value::Array(items) => items.pop().map(drop),
            _ => None,
        });
        member("null", |parent, name| put(parent, name, Value::Null));
        member("empty", |parent, name| {
            let value = at(parent, name)?;
            *value = match value {
                Value::Object(_) => json!({}),
                Value::Array(_) => json!([]),
                _ => json!(""),
            };
            Some(())
        });
        member("of another type", |parent, name| put(parent, name, json!(true)));
        member("twice", |parent, name| match parent {
            Value::Object(members) => {
                let value = members.get(name)?.clone();
                members.insert(MARK.to_owned(), value);
                Some(())
            }
            Value::Array(items) => {
                items.push(items.first()?.clone());
                Some(())
            }
            _ => None,
        });
        member("name in capitals", |parent, name| {
            let members = parent.as_object_mut()?;
            let value = members.remove(name)?;
            members.insert(name.to_uppercase(), value);
            Some(())
        });
        member("with an unknown member", |parent, name| {
            at(parent, name)?.as_object_mut()?.insert("extra".to_owned(), json!("x"));
            Some(())
        });
    }
}

/// Parts that come from elsewhere, or are too many.
fn of_parts(all: &mut Mutations) {
    for pointer in NODES[1..].iter().chain(&[CHECKPOINT]) {
        all.add(
            format!("{pointer}: of another bundle"),
            Box::new(|_, bundle, other| set(bundle, pointer, other.pointer(pointer)?.clone())),
        );
    }
    for (what, pointer) in [("signature", BYTES[1]), ("promise", PROMISE)] {
        all.add(
            format!("{what}: the other of two that ECDSA has"),
            Box::new(move |_, bundle, _| {
                set(bundle, pointer, STANDARD.encode(other_s(&decoded(bundle, pointer)?)))
            }),
        );
    }
    all.add(
        "certificate: the other of two signatures that ECDSA has".to_owned(),
        Box::new(|_, bundle, _| {
            let mut bytes = decoded(bundle, CERTIFICATE)?;
            let signed = content(&bytes, content(&bytes, 0).start).end;
            // The signature is the last of three parts, after the byte that counts its unused bits.
            let signature = content(&bytes, content(&bytes, signed).end).start + 1;
            let other = other_s(&bytes[signature..]);
            bytes.truncate(signature);
            bytes[signature - 2] = u8::try_from(other.len() + 1).unwrap();
            bytes.extend(other);
            let length = u16::try_from(bytes.len() - 4).unwrap();
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            set(bundle, CERTIFICATE, STANDARD.encode(bytes))
        }),
    );
    all.add(
        "entries: those of another bundle besides".to_owned(),
        Box::new(|_, bundle, other| {
            let list = "/verificationMaterial/tlogEntries";
            let all = [bundle, other].map(|bundle| bundle.pointer(list).unwrap().as_array().unwrap().clone());
            set(bundle, list, all.concat())
        }),
    );
    all.add(
        "timestamps: those of another bundle besides".to_owned(),
        Box::new(|random, bundle, other| {
            let both = [bundle, other].map(|bundle| bundle.pointer(STAMPS)?.as_array().cloned());
            let [Some(one), Some(other)] = both else { return None };
            let all = if random.below(2) == 0 { [other, one] } else { [one, other] };
            set(bundle, STAMPS, all.concat())
        }),
    );
    for (name, content) in [
        ("publicKey", json!({"hint": ""})),
        ("certificate", json!({"rawBytes": "AAAA"})),
        ("x509CertificateChain", json!({"certificates": []})),
    ] {
        all.add(
            format!("a {name} besides"),
            Box::new(move |_, bundle, _| {
                let mut bundle = bundle.clone();
                let material = bundle["verificationMaterial"].as_object_mut()?;
                material.insert(name.to_owned(), content.clone()).is_none().then(|| bundle.to_string().into())
            }),
        );
    }
    all.add(
        "a message signature besides the envelope".to_owned(),
        Box::new(|_, bundle, _| {
            let mut bundle = bundle.clone();
            bundle["messageSignature"] = json!({"signature": bundle.pointer(BYTES[1])?});
            Some(bundle.to_string().into_bytes())
        }),
    );
}

/// The checkpoint, which is a signed note.
fn of_checkpoints(all: &mut Mutations) {
    let mut note = |what: &str, change: fn(&mut Random, [&str; 3]) -> String| {
        all.add(
            format!("{CHECKPOINT}: {what}"),
            Box::new(move |random, bundle, _| {
                let note = bundle.pointer(CHECKPOINT)?.as_str()?;
                let (text, line) = note.split_once("\n\n\u{2014} ")?;
                let (name, signature) = line.trim_end().split_once(' ')?;
                set(bundle, CHECKPOINT, change(random, [text, name, signature]))
            }),
        );
    };
    note("character of the text changed", |random, [text, name, signature]| {
        format!("{}\n\n\u{2014} {name} {signature}\n", other_character(random, text))
    });
    note("character of the signer's name changed", |random, [text, name, signature]| {
        format!("{text}\n\n\u{2014} {} {signature}\n", other_character(random, name).replace(' ', "_"))
    });
    note("character of the signature changed", |random, [text, name, signature]| {
        format!("{text}\n\n\u{2014} {name} {}\n", other_character(random, signature))
    });
    note("cut", |random, [text, name, signature]| {
        let note = format!("{text}\n\n\u{2014} {name} {signature}");
        let end = note.char_indices().nth(random.below(note.chars().count())).unwrap().0;
        note[..end].to_owned()
    });
    note("without the last line break", |_, [text, name, signature]| {
        format!("{text}\n\n\u{2014} {name} {signature}")
    });
    note("a signature by an unknown witness besides", |random, [text, name, signature]| {
        let bytes: Vec<_> = (0..68).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        let witness = STANDARD.encode(bytes);
        format!("{text}\n\n\u{2014} {name} {signature}\n\u{2014} witness.test {witness}\n")
    });
    note("a line of text more", |random, [text, name, signature]| {
        format!("{text}\nmore {}\n\n\u{2014} {name} {signature}\n", random.next())
    });
    note("with the signature twice", |_, [text, name, signature]| {
        format!("{text}\n\n\u{2014} {name} {signature}\n\u{2014} {name} {signature}\n")
    });
}

/// The text of the JSON.
fn of_files(all: &mut Mutations) {
    all.add(
        "space where JSON allows it".to_owned(),
        Box::new(|random, bundle, _| {
            let text = serde_json::to_string_pretty(bundle).unwrap();
            let lines: Vec<_> = text.match_indices('\n').map(|(position, _)| position).collect();
            let at = *random.of(&lines);
            Some(format!("{}{}{}", &text[..at], " ".repeat(1 + random.below(9)), &text[at..]).into_bytes())
        }),
    );
    all.add(
        "characters written as escapes".to_owned(),
        Box::new(|random, bundle, _| {
            let mut text = bundle.to_string();
            let letters: Vec<_> =
                text.char_indices().filter(|(_, c)| c.is_ascii_uppercase()).map(|(at, _)| at).collect();
            let at = *random.of(&letters);
            let escape = format!("\\u{:04x}", text.as_bytes()[at]);
            text.replace_range(at..=at, &escape);
            Some(text.into_bytes())
        }),
    );
    let mut file = |what: &str, change: fn(&mut Random, Vec<u8>) -> Vec<u8>| {
        all.add(
            format!("file: {what}"),
            Box::new(move |random, bundle, _| Some(change(random, bundle.to_string().into_bytes()))),
        );
    };
    file("cut", |random, mut text| {
        text.truncate(random.below(text.len()));
        text
    });
    file("more after its end", |random, mut text| {
        text.extend(format!("{{{}", random.next()).bytes());
        text
    });
}

fn character(random: &mut Random) -> char {
    char::from(u8::try_from(32 + random.below(95)).unwrap())
}

/// The text with another character in one place.
fn other_character(random: &mut Random, text: &str) -> String {
    let mut all: Vec<_> = text.chars().collect();
    let position = random.below(all.len());
    all[position] = character(random);
    all.into_iter().collect()
}

fn at<'a>(parent: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    match parent {
        Value::Object(members) => members.get_mut(name),
        Value::Array(items) => items.get_mut(name.parse::<usize>().ok()?),
        _ => None,
    }
}

fn put(parent: &mut Value, name: &str, value: Value) -> Option<()> {
    *at(parent, name)? = value;
    Some(())
}

fn set(bundle: &Value, pointer: &str, value: impl Into<Value>) -> Option<Vec<u8>> {
    let mut bundle = bundle.clone();
    *bundle.pointer_mut(pointer)? = value.into();
    Some(bundle.to_string().into_bytes())
}

fn decoded(bundle: &Value, pointer: &str) -> Option<Vec<u8>> {
    Some(STANDARD.decode(bundle.pointer(pointer)?.as_str()?).unwrap())
}

/// Where a `TimeStampResp` of the test's authority (RFC 3161, section 2.4.2) says what its signature
/// does not cover, and what one does not need who knows the authority's certificate: the status,
/// versions, certificates, names of algorithms. Nowhere in other bytes.
fn idle(bytes: &[u8]) -> Vec<usize> {
    const SIGNED_DATA: [u8; 11] = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
    const ECDSA_SHA256: [u8; 10] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    if !bytes.get(13..).is_some_and(|rest| rest.starts_with(&SIGNED_DATA)) {
        return Vec::new();
    }
    let (status, version, algorithms) = (8, 34, 35);
    let content_info = content(bytes, algorithms).end;
    let octet_string = content_info + 17;
    let certificates = content(bytes, content_info).end;
    let signer_version = content(bytes, certificates).end + 10;
    let algorithm = bytes.windows(10).rposition(|window| window == ECDSA_SHA256).unwrap();
    [status, version, octet_string, signer_version]
        .into_iter()
        .chain(algorithms..content_info)
        .chain(content(bytes, certificates))
        .chain(algorithm..algorithm + 10)
        .collect()
}

/// Where the content of the DER element lies that begins there.
fn content(bytes: &[u8], element: usize) -> Range<usize> {
    let first = usize::from(bytes[element + 1]);
    let more = first.saturating_sub(0x80);
    let start = element + 2 + more;
    let long = bytes[element + 2..start].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    start..start + if more == 0 { first } else { long }
}

/// The DER of an ECDSA signature on P-256 with n - s for s: it holds as well.
fn other_s(der: &[u8]) -> Vec<u8> {
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let r_end = 4 + usize::from(der[3]);
    let (r, s) = (&der[2..r_end], &der[r_end + 2..]);
    let mut wide = [0; 32];
    let s = &s[s.len().saturating_sub(32)..];
    wide[32 - s.len()..].copy_from_slice(s);
    let mut borrow = 0;
    for position in (0..32).rev() {
        let difference = 256 + i32::from(N[position]) - i32::from(wide[position]) - borrow;
        borrow = i32::from(difference < 256);
        wide[position] = u8::try_from(difference % 256).unwrap();
    }
    let digits = wide.iter().position(|byte| *byte != 0).unwrap();
    let sign = wide[digits] & 0x80 != 0;
    let s: Vec<u8> = sign.then_some(0).into_iter().chain(wide[digits..].iter().copied()).collect();
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    let integers = [r, &[2, length(&s)], &s].concat();
    [&[0x30, length(&integers)], &integers[..]].concat()
}

fn mutated(python: &Path, keyless: bool, rekor: u8, table: &str) {
    let Made { project, bundles, .. } = if keyless { keyless::made(rekor) } else { made(rekor) };
    let seed = env::var("QUORATE_SEED").map_or_else(|_| 1, |seed| seed.parse().unwrap());
    eprintln!("QUORATE_SEED={seed}");
    let mut random = Random(seed);
    let genuine: HashSet<_> = bundles.iter().map(|bundle| bundle.to_string().into_bytes()).collect();
    let mutations = Mutations::all().0;
    let mut mutants = Vec::new();
    for (name, mutate) in &mutations {
        let mut seen = HashSet::new();
        // There, the same mutation can have many outcomes, and some of them are rare.
        let often =
            [BYTES[0], TIMESTAMP, CERTIFICATE].iter().any(|part| name.starts_with(&format!("{part}: b")));
        for _ in 0..if often || name.ends_with("longer") { 5 * TRIES } else { TRIES } {
            // The first has no hashes in its proof.
            let (bundle, other) = (random.of(&bundles[1..]), random.of(&bundles[1..]));
            if bundle != other
                && let Some(mutant) = mutate(&mut random, bundle, other)
                && !genuine.contains(&mutant)
                && seen.insert(mutant.clone())
            {
                mutants.push((name, mutant));
            }
        }
    }
    let root = project.path("trusted_root.json");
    let lines: String = mutants.iter().map(|(_, mutant)| STANDARD.encode(mutant) + "\n").collect();
    fs::write(project.path("mutants"), lines).unwrap();
    // To a file, for a pipe would be full long before it is read.
    let answers = project.path("answers");
    let mut peer = Command::new(python);
    peer.args(["-I", "-W", "ignore"]);
    if keyless {
        peer.arg(script("keyless.py")).arg("verify").arg(&root).args([keyless::SAN, keyless::ISSUER]);
    } else {
        peer.arg(script("verify.py")).args([&root, &project.path("github.key.pub")]);
    }
    let peer = peer
        .stdin(fs::File::open(project.path("mutants")).unwrap())
        .stdout(fs::File::create(&answers).unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    quorate::init().unwrap();
    let trust = Trust::from_json(&fs::read(root).unwrap()).unwrap();
    let signer = if keyless {
        let identity = Identity::from_der(&decoded(&bundles[0], CERTIFICATE).unwrap()).unwrap();
        MaySign::Certificate(Matcher::named(&identity))
    } else {
        let key = fs::read_to_string(project.path("github.key.pub")).unwrap();
        MaySign::Key(PublicKey::from_pem(&key).unwrap())
    };
    let ours = |bytes: &[u8]| match Bundle::parse(bytes) {
        Err((reason, _)) => reason.code(),
        Ok(bundle) => verify(&bundle, [(&signer, &trust)]).map_or_else(|no| no.reason.code(), |_| "holds"),
    };
    assert!(genuine.iter().all(|bundle| ours(bundle) == "holds"));
    let ours: Vec<_> = mutants.iter().map(|(_, mutant)| ours(mutant)).collect();

    let answered = peer.wait_with_output().unwrap();
    assert!(answered.status.success(), "{}", said(&answered));
    let answers = fs::read_to_string(answers).unwrap();
    let theirs: Vec<_> =
        answers.lines().map(|line| if line == "holds" { "holds" } else { "refused" }).collect();
    assert_eq!(theirs.len(), mutants.len());

    let mut seen = BTreeSet::new();
    for ((name, _), (ours, theirs)) in mutants.iter().zip(ours.iter().zip(&theirs)) {
        seen.insert(format!("{name} | {ours} | {theirs}"));
    }
    let both = ours.iter().zip(&theirs).filter(|pair| *pair == (&"holds", &"holds")).count();
    eprintln!("{table}: {} mutants, {both} hold for both", mutants.len());
    assert!(mutants.len() >= ENOUGH);
    assert!(both >= 100);
    let table = format!("tests/peers/mutations/{table}.txt");
    let rows = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&table)).unwrap();
    let (always, rare) = rows.split_once("\n# So rare").unwrap();
    let [always, rare] = [always, rare].map(|rows| {
        rows.lines().filter(|line| line.contains(" | ")).map(str::to_owned).collect::<BTreeSet<_>>()
    });
    let unknown: Vec<_> = seen.difference(&always).filter(|row| !rare.contains(*row)).collect();
    let unseen: Vec<_> = always.difference(&seen).collect();
    assert!(unknown.is_empty() && unseen.is_empty(), "not in {table}: {unknown:#?}\nonly there: {unseen:#?}");
}
