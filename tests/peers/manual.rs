//! The manual pages and the completions, as those see them who read them.

use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;

use crate::peers::{Peer, Peers};
use crate::project::{quorate, succeed};

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    vec![
        peers.trial("manual::pages_have_no_error", [Peer::Mandoc], |[mandoc]| pages(mandoc)),
        peers.trial("manual::bash_completes_words", [Peer::Bash], |[bash]| bash_completes(bash)),
    ]
}

fn pages(mandoc: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let listed = succeed(quorate().arg("man").arg(folder.path()));
    let files: Vec<&str> = std::str::from_utf8(&listed).unwrap().lines().collect();
    assert!(files.len() > 15, "{files:?}");
    assert_eq!(succeed(Command::new(mandoc).args(["-T", "lint", "-W", "error"]).args(&files)), b"");
    let page = succeed(Command::new(mandoc).args(["-T", "utf8", "-O", "width=100"]).arg(files[0]));
    // The version is at the left of the last line, where one looks for it.
    let page = String::from_utf8(page).unwrap();
    let last = page.trim_end().lines().next_back().unwrap();
    assert!(last.starts_with(concat!("quorate ", env!("CARGO_PKG_VERSION"))), "{last}");
}

fn bash_completes(bash: &Path) {
    let script = String::from_utf8(succeed(quorate().args(["completions", "bash"]))).unwrap();
    for (typed, offered) in [
        (&["quorate", "pro"][..], "promote"),
        (&["quorate", "key", "gen"], "generate"),
        (&["quorate", "promote", "--allow-r"], "--allow-rollback"),
        (&["quorate", "verify", "--color", "al"], "always"),
    ] {
        let (last, before) = typed.split_last().unwrap();
        let words = typed.join(" ");
        let run = format!(
            "{script}\nCOMP_WORDS=({words}) COMP_CWORD={} COMPREPLY=()\n_quorate quorate {last} {}\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            before.len(),
            before[before.len() - 1],
        );
        let replied = succeed(Command::new(bash).args(["--norc", "-c", &run]));
        assert_eq!(String::from_utf8(replied).unwrap(), format!("{offered}\n"), "{words}");
    }
}
