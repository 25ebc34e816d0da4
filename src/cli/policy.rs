//! `quorate policy`.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};

use super::{Finished, shown};
use crate::edge::files;
use crate::error::Error;
use crate::oci::Repository;
use crate::policy::{ImageRule, weak_spots};
use crate::report::policy as report;

/// Look at a policy
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what a policy asks for, and where it is weak
    ///
    /// A policy that cannot be is refused with exit code 2, as every command refuses it. What is
    /// weak is allowed, and marked with `!`.
    #[command(after_help = "Example:\n  quorate policy check quorate.toml --strict")]
    Check {
        /// The policy (TOML)
        #[arg(env = "QUORATE_POLICY")]
        file: PathBuf,
        /// Only the rule for this repository, `host/repository`
        #[arg(long, value_name = "REPOSITORY", env = "QUORATE_IMAGE")]
        image: Option<Repository>,
        /// Exit with 1 if anything is weak
        #[arg(long, value_parser = BoolishValueParser::new(), env = "QUORATE_STRICT")]
        strict: bool,
    },
}

impl Arguments {
    pub(super) fn run(&self) -> Result<Finished, Error> {
        let Command::Check { file, image, strict } = &self.command;
        let policy = files::policy(file)?;
        let rules: Vec<&ImageRule> = match image {
            None => policy.images().iter().collect(),
            Some(image) => vec![policy.image(image).ok_or_else(|| {
                Error::no(format!("the policy `{}` has no rule for `{image}`", shown(file)))
                    .hint("every release of it would be refused (no-rule); add an `[[image]]`")
            })?],
        };
        let (text, json) = (report::text(&policy, &rules), report::json(&policy, &rules));
        let weak: usize = rules.iter().map(|rule| weak_spots(&policy, rule).len()).sum();
        if *strict && weak > 0 {
            let s = if weak == 1 { "" } else { "s" };
            let error = Error::no(format!("the policy `{}` has {weak} weak spot{s}", shown(file)))
                .hint("`docs/policy.md` says what each means; without `--strict` they are only shown");
            return Ok(Finished::no(text, json, error));
        }
        Ok(Finished::yes(text, json))
    }
}
