//! `quorate predicate`.

use clap::Args;

use super::build::BuildArguments;
use super::{Finished, Global};
use crate::edge::output::Printer;
use crate::error::Error;

/// Print what a builder would sign, for another signer
///
/// The predicate alone, of type `https://quorate.dev/predicates/build/v1`: the signer puts it into
/// an in-toto statement whose one subject is the manifest of the platform, by the name of its
/// repository without a tag. No image is compared with it.
#[derive(Args)]
#[command(after_help = "\
Example:
  quorate predicate --builder garnix --system x86_64-linux --result ./result > predicate.json")]
pub(super) struct Arguments {
    #[command(flatten)]
    build: BuildArguments,
}

impl Arguments {
    pub(super) async fn run(&self, global: &Global, printer: Printer) -> Result<Finished, Error> {
        let build = self.build.build(&global.registry(600)?, printer).await?;
        let json = build
            .to_predicate()
            .map_err(|why| Error::request(format!("these values make no predicate: {why}")))?;
        Ok(Finished::yes(super::pretty(&json), json))
    }
}
