//! quorate beside programs that nobody here wrote: registries, clients of registries, Nix, the
//! schemas of the image specification, other verifiers of Sigstore bundles.
//!
//! Whatever is needed is looked for as [`peers::Peers`] says; a trial whose peer is absent is
//! reported as ignored, with the reason in brackets before its name.

// Tests talk, and end at the first surprise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod access;
mod actions;
mod assemblers;
mod bundles;
mod clients;
mod conformance;
mod conformance_cli;
mod cosign;
mod fire;
mod fulcio;
mod hardship;
mod image_spec;
mod keyless;
mod manual;
mod model;
mod mutations;
mod nar;
mod nix;
mod peers;
mod process;
mod production;
mod project;
mod proxy;
mod publish;
mod push;
#[path = "../range/mod.rs"]
mod range;
mod registries;
mod release;
mod release_keyless;
mod services;
#[path = "../shop/mod.rs"]
mod shop;
#[path = "../../examples/sigstore_conformance.rs"]
mod sigstore_conformance;
mod stores;
mod votes_at_once;
mod witnesses;

use std::process::ExitCode;

use libtest_mimic::Arguments;

use peers::Peers;

fn main() -> ExitCode {
    // The trials of the conformance suite run this very program as the client.
    if std::env::args().nth(1).as_deref() == Some(conformance_cli::COMMAND) {
        return match sigstore_conformance::main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:?}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments::from_args();
    let peers = Peers::find();
    let mut trials = Vec::new();
    trials.extend(release::trials(&peers));
    trials.extend(fire::trials(&peers));
    trials.extend(production::trials(&peers));
    trials.extend(access::trials(&peers));
    trials.extend(actions::trials(&peers));
    trials.extend(assemblers::trials(&peers));
    trials.extend(stores::trials(&peers));
    trials.extend(votes_at_once::trials(&peers));
    trials.extend(nar::trials(&peers));
    trials.extend(model::trials(&peers));
    trials.extend(nix::trials(&peers));
    trials.extend(manual::trials(&peers));
    trials.extend(publish::trials(&peers));
    trials.extend(push::trials(&peers));
    trials.extend(image_spec::trials(&peers));
    trials.extend(bundles::trials(&peers));
    trials.extend(conformance::trials(&peers));
    trials.extend(keyless::trials(&peers));
    trials.extend(mutations::trials(&peers));
    trials.extend(cosign::trials(&peers));
    trials.extend(witnesses::trials(&peers));
    trials.extend(release_keyless::trials(&peers));
    trials.extend(hardship::trials(&peers));
    trials.extend(conformance_cli::trials(&peers));
    libtest_mimic::run(&arguments, trials).exit_code()
}
