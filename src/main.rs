//! Parse, run, exit.

use std::panic;
use std::process::{self, ExitCode};

/// The exit code of a bug.
const BUG: i32 = 101;

fn main() -> ExitCode {
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |bug| {
        say(bug);
        end();
    }));
    quorate::cli::main(std::env::args_os())
}

#[allow(clippy::exit, reason = "without unwinding, a panic would end in a signal")]
fn end() -> ! {
    process::exit(BUG)
}
