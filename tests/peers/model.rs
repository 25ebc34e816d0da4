//! The decision, beside a second model of it in another language, written from docs/policy.md and
//! docs/concepts.md alone, without a look at src/policy: `model/decide.py` judges random cases that
//! the crate's own tests write.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::peers::{Peer, Peers};

/// How many streams of cases, and how many cases in each.
const SEEDS: [u64; 2] = [1, 2];
const CASES: usize = 50_000;

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    vec![
        peers.trial("a_second_model_of_the_decision_holds_to_the_docs", [Peer::Python], |[python]| {
            let judged = Command::new(python).arg("-B").arg(script("test_decide.py")).output().unwrap();
            assert!(judged.status.success(), "{}", said(&judged));
        }),
        peers.trial("decisions_equal_those_of_a_second_model", [Peer::Python], |[python]| {
            let writer = unit_tests();
            std::thread::scope(|scope| {
                for seed in SEEDS {
                    let writer = &writer;
                    scope.spawn(move || compare(python, writer, seed));
                }
            });
        }),
    ]
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/model").join(name)
}

/// One program writes the cases into a pipe, the other reads them.
fn compare(python: &Path, writer: &Path, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("cases");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let writing = Command::new(writer)
        .args(["policy::model::random_cases_are_judged_and_written", "--exact"])
        .env("QUORATE_MODEL_CASES", &pipe)
        .env("QUORATE_MODEL_COUNT", CASES.to_string())
        .env("QUORATE_MODEL_SEED", seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let judged = Command::new(python).arg("-B").arg(script("decide.py")).arg(&pipe).output().unwrap();
    let written = writing.wait_with_output().unwrap();
    let said = said(&judged);
    assert!(judged.status.success(), "seed {seed}: {said}");
    assert!(written.status.success(), "seed {seed}: {}", self::said(&written));
    assert!(said.contains(&format!("judged {CASES}, agreed {CASES}")), "seed {seed}: {said}");
    eprintln!("seed {seed}: {}", said.trim());
}

fn said(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    texts.concat()
}

/// The crate's unit tests, as cargo built them.
fn unit_tests() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["test", "--package", "quorate", "--lib", "--no-run", "--message-format=json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let messages = String::from_utf8(built.stdout).unwrap();
    let executable = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executable.expect("cargo builds the unit tests")
}
