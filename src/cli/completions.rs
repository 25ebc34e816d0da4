//! `quorate completions`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use serde_json::json;

use super::{Cli, Finished};

/// Print the completions for a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  quorate completions bash > ~/.local/share/bash-completion/completions/quorate
  quorate completions fish > ~/.config/fish/completions/quorate.fish
  quorate completions zsh > ~/.zfunc/_quorate      # with ~/.zfunc in $fpath")]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

impl Arguments {
    pub(super) fn run(&self) -> Finished {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "quorate", &mut script);
        let document = json!({
            "mediaType": "application/vnd.quorate.completions.v1+json",
            "shell": self.shell.to_string(),
            "script": String::from_utf8_lossy(&script),
        });
        Finished { raw: Some(script), ..Finished::yes(String::new(), document) }
    }
}
