//! What a CI job is told: step outputs, a summary, annotations. GitHub Actions, Forgejo and Gitea
//! share these files and commands.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::error::Error;
use crate::text::printable;

/// Whether to tell the CI job anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Setting {
    /// In a job of GitHub Actions, Forgejo or Gitea: step outputs, a summary, `::error::` lines
    #[default]
    Auto,
    /// Nothing
    None,
}

/// The files of one step of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ci {
    outputs: Option<PathBuf>,
    summary: Option<PathBuf>,
}

impl Ci {
    /// The job that this process is part of, if it is part of one.
    pub fn detect(setting: Setting) -> Option<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        // Forgejo and Gitea set it too.
        let job = variable("GITHUB_ACTIONS").is_some_and(|value| value == "true");
        (setting == Setting::Auto && job).then(|| Self {
            outputs: variable("GITHUB_OUTPUT").map(PathBuf::from),
            summary: variable("GITHUB_STEP_SUMMARY").map(PathBuf::from),
        })
    }

    /// Hands over step outputs and a summary in Markdown.
    ///
    /// # Errors
    /// When a file cannot be written: then later steps would miss what they go by.
    pub fn tell(&self, outputs: &[(&str, String)], summary: &str) -> Result<(), Error> {
        if let Some(path) = self.outputs.as_deref().filter(|_| !outputs.is_empty()) {
            append(path, &blocks(outputs, &delimiter()?))?;
        }
        if let Some(path) = self.summary.as_deref().filter(|_| !summary.is_empty()) {
            append(path, &format!("{}\n\n", summary.trim_end()))?;
        }
        Ok(())
    }
}

fn append(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| {
            Error::undecided(format!("cannot tell the CI job: `{}`", path.display()))
                .because(error)
                .hint("`--ci none` tells it nothing")
        })
}

/// No value can end its own block: nobody knows the delimiter beforehand.
fn delimiter() -> Result<String, Error> {
    let mut random = [0; 16];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| Error::undecided("the system's random source failed"))?;
    Ok(format!("quorate-{}", data_encoding::HEXLOWER.encode(&random)))
}

fn blocks(outputs: &[(&str, String)], delimiter: &str) -> String {
    outputs.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = write!(text, "{name}<<{delimiter}\n{value}\n{delimiter}\n");
        text
    })
}

/// An error as an annotation of the job.
pub(super) fn annotation(error: &Error) -> String {
    let mut text = error.to_string();
    for cause in error.causes() {
        let _ = write!(text, "\ncaused by: {cause}");
    }
    if let Some(hint) = error.next() {
        let _ = write!(text, "\nhint: {hint}");
    }
    // The runner undoes these three; the old form of a command may stand anywhere in a line.
    let text = printable(&text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    format!("::error title=quorate::{}", text.replace("##[", "## ["))
}

/// Text that the runner does not read as a command: one begins a line with `::`, after white
/// space, or has `##[` anywhere in it.
pub(super) fn inert(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.replace('\r', "").split('\n') {
        let indent = line.len() - line.trim_start().len();
        let (white, rest) = line.split_at(indent);
        let mark = if rest.starts_with("::") { "·" } else { "" };
        lines.push(format!("{white}{mark}{}", rest.replace("##[", "## [")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_end_its_block() {
        let hostile = "x\nEOF\ndigest=sha256:evil\nquorate-\ndigest<<EOF\nevil".to_owned();
        let (one, two) = (delimiter().unwrap(), delimiter().unwrap());
        assert_ne!(one, two);
        let text = blocks(&[("tags", hostile.clone()), ("digest", "sha256:a".to_owned())], &one);
        assert_eq!(text, format!("tags<<{one}\n{hostile}\n{one}\ndigest<<{one}\nsha256:a\n{one}\n"));
    }

    #[test]
    fn an_annotation_is_one_line() {
        let error =
            Error::no("a%b").because("c\r\n::set-output name=digest::evil\n##[add-path]/tmp").hint("d");
        assert_eq!(
            annotation(&error),
            "::error title=quorate::a%25b%0Acaused by: c%0A::set-output name=digest::evil%0A## [add-path]/tmp%0Ahint: d"
        );
    }

    #[test]
    fn commands_in_text_of_others_are_not_obeyed() {
        let text =
            "plain: a::b\n::set-output name=digest::evil\n \t::stop-commands::x\nx ##[add-path]/tmp\rx\n";
        assert_eq!(
            inert(text),
            "plain: a::b\n·::set-output name=digest::evil\n \t·::stop-commands::x\nx ## [add-path]/tmpx\n"
        );
    }
}
