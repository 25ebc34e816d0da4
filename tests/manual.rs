//! The manual pages and the completions: every command and every option is in them.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

fn quorate(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate")).args(words).env_clear().output().unwrap()
}

fn printed(words: &[&str]) -> String {
    let output = quorate(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What the help says is below a command.
fn subcommands(of: &[String]) -> Vec<String> {
    let words: Vec<&str> = of.iter().map(String::as_str).chain(["--help"]).collect();
    let help = printed(&words);
    let Some((_, listed)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let named = listed.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    named
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(Into::into)
        .collect()
}

/// Every command, with its words; the tool itself has none.
fn commands() -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut next = 0;
    while let Some(command) = all.get(next).cloned() {
        all.extend(subcommands(&command).into_iter().map(|name| [&command[..], &[name]].concat()));
        next += 1;
    }
    all
}

/// The options that the help of a command lists.
fn options(of: &[String]) -> BTreeSet<String> {
    let words: Vec<&str> = of.iter().map(String::as_str).chain(["--help"]).collect();
    let help = printed(&words);
    // What is said of an option is indented by more.
    let entries = help.lines().filter(|line| line.starts_with("  -") || line.starts_with("      -"));
    let long = entries.filter_map(|line| line.split([' ', ',']).find(|word| word.starts_with("--")));
    long.map(Into::into).collect()
}

fn name(command: &[String]) -> String {
    [&["quorate".to_owned()], command].concat().join("-")
}

#[test]
fn every_command_has_a_page_and_every_option_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let listed = printed(&["man", pages.to_str().unwrap()]);
    let commands = commands();
    assert!(commands.len() > 15, "{commands:?}");
    let files: BTreeSet<String> = commands
        .iter()
        .map(|command| pages.join(format!("{}.1", name(command))).display().to_string())
        .collect();
    assert_eq!(listed.lines().map(Into::into).collect::<BTreeSet<String>>(), files);
    for command in &commands {
        let page = fs::read_to_string(pages.join(format!("{}.1", name(command)))).unwrap();
        assert!(page.contains(&format!(".TH {} 1 ", name(command))), "{page}");
        let options = options(command);
        assert!(options.len() > 9, "{command:?}: {options:?}");
        for option in options {
            assert!(page.contains(&option.replace('-', "\\-")), "{command:?} {option}");
        }
    }
    assert_eq!(printed(&["man"]), fs::read_to_string(pages.join("quorate.1")).unwrap());
}

#[test]
fn a_folder_that_cannot_be_made_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let output = quorate(&["man", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: cannot write `"));
}

#[test]
fn every_command_and_option_is_completed() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&["completions", shell]);
        for command in commands() {
            let last = command.last().map_or("quorate", String::as_str);
            assert!(script.contains(last), "{shell}: {last}");
            for option in options(&command) {
                // fish writes `-l option`.
                assert!(script.contains(option.trim_start_matches('-')), "{shell}: {command:?} {option}");
            }
        }
    }
    assert_eq!(quorate(&["completions", "tcsh"]).status.code(), Some(2));
}
