//! `quorate man`.

use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;
use serde_json::{Value, json};

use super::{Cli, Finished, shown};
use crate::edge::files;
use crate::error::Error;

/// Print the manual page, or write one for every command
#[derive(Args)]
#[command(after_help = "\
Examples:
  quorate man | man -l -
  quorate man ~/.local/share/man/man1")]
pub(super) struct Arguments {
    /// The folder for the pages of all commands, which is made if need be; without it, the page of
    /// `quorate` itself is printed
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(&self) -> Result<Finished, Error> {
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        let Some(folder) = &self.folder else {
            let (name, page) = page(&command)?;
            let text = String::from_utf8_lossy(&page).into_owned();
            let document = document(&[(name, Some(text))]);
            return Ok(Finished { raw: Some(page), ..Finished::yes(String::new(), document) });
        };
        let cannot = |path: &Path, error: std::io::Error| {
            Error::request(format!("cannot write `{}`", shown(path))).because(error)
        };
        std::fs::create_dir_all(folder).map_err(|error| cannot(folder, error))?;
        let mut written = Vec::new();
        let mut rest = vec![&command];
        while let Some(command) = rest.pop() {
            let (name, page) = page(command)?;
            let file = folder.join(name);
            files::write(&file, &page).map_err(|error| cannot(&file, error))?;
            written.push((shown(&file), None));
            rest.extend(command.get_subcommands());
        }
        written.sort();
        let text: Vec<&str> = written.iter().map(|(file, _)| file.as_str()).collect();
        Ok(Finished::yes(text.join("\n"), document(&written)))
    }
}

/// The name and the content of the page of a command that is built.
fn page(command: &Command) -> Result<(String, Vec<u8>), Error> {
    let man =
        // An empty date would be left out, and what follows it taken for the date.
        Man::new(command.clone()).date(" ").source(concat!("quorate ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render(&mut page).map_err(|error| Error::undecided("cannot write the page").because(error))?;
    Ok((man.get_filename(), page))
}

/// Each page by its name, and with what is in it if that is nowhere else.
fn document(pages: &[(String, Option<String>)]) -> Value {
    let pages: Vec<Value> = pages.iter().map(|(file, text)| json!({ "file": file, "text": text })).collect();
    json!({ "mediaType": "application/vnd.quorate.man.v1+json", "pages": pages })
}
