//! The command line: clap arguments to typed requests, reports to output and exit codes.

mod assemble;
mod attest;
mod build;
mod completions;
mod inspect;
mod key;
mod man;
mod nar_hash;
mod pack;
mod policy;
mod predicate;
mod promote;
mod push;
mod resolve;
mod signing;
mod trust;
mod verify;

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, value_parser};
use serde_json::Value;

use crate::edge::ci::{self, Ci};
use crate::edge::files;
use crate::edge::interrupt::Interrupt;
use crate::edge::output::{Color, Printer};
use crate::edge::registry::{Access, Credentials, Options, Registry, Source};
use crate::error::{Error, Kind};
use crate::oci::Repository;
use crate::policy::{Bar, Policy, Purpose};
use crate::report;

use trust::TrustArguments;

/// Decided, and the answer is no.
const NO: u8 = 1;
/// The request is wrong.
const REQUEST: u8 = 2;
/// It could not be decided or finished.
const UNDECIDED: u8 = 3;
/// Interrupted.
const INTERRUPTED: u8 = 130;

/// The longest that a run can be given, in seconds.
const DAY: u64 = 24 * 60 * 60;

/// Where the passphrase of an encrypted key is looked for.
const PASSPHRASE: &str = "QUORATE_KEY_PASSPHRASE";

/// Promote container releases by a quorum of independent builders
///
/// Per-architecture images become one OCI image index (`assemble`); builders sign what they
/// built (`attest`); tags move only when enough independent builders agree (`promote`); a
/// cluster checks the same again (`verify`).
#[derive(Parser)]
#[command(name = "quorate", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done; the quorum is met
  1    decided, and the answer is no
  2    the request is wrong: arguments, a reference, the policy
  3    could not decide or finish: network, registry, log, trusted root
  101  a bug in quorate
  130  interrupted
Only 0 may let a pipeline go on.

Options can be given as QUORATE_OPTION in the environment: `--trusted-root` is
QUORATE_TRUSTED_ROOT. Where commands have an option of one name for different things, the variable
names the command: `promote --tag` is QUORATE_PROMOTE_TAG.";

/// Options of every command.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// How to print the result on stdout
    #[arg(short, long, global = true, value_enum, default_value_t, env = "QUORATE_OUTPUT")]
    output: Output,
    /// Say less: no progress, no notes; results and errors stay
    #[arg(short, long, global = true, value_parser = BoolishValueParser::new(), env = "QUORATE_QUIET")]
    quiet: bool,
    /// Say more: each request to a registry, on stderr
    #[arg(short, long, global = true, value_parser = BoolishValueParser::new(), env = "QUORATE_VERBOSE")]
    verbose: bool,
    /// When to colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", env = "QUORATE_COLOR")]
    color: Color,
    /// A registry host to ask over plain http; loopback hosts are, unless --tls names them
    #[arg(long, global = true, value_name = "HOST", value_delimiter = ',', env = "QUORATE_PLAIN_HTTP")]
    plain_http: Vec<String>,
    /// A registry host to ask over TLS though it is a loopback host, or named by --plain-http
    #[arg(long, global = true, value_name = "HOST", value_delimiter = ',', env = "QUORATE_TLS")]
    tls: Vec<String>,
    /// Certificates (PEM) to trust besides those of the system
    #[arg(long, global = true, value_name = "FILE", env = "QUORATE_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// A token service to trust besides those of the registry's own site
    #[arg(long, global = true, value_name = "HOST", value_delimiter = ',', env = "QUORATE_TOKEN_REALM")]
    token_realm: Vec<String>,
    /// Take the credentials from this environment variable: `user:password`, or `:TOKEN` for an
    /// identity token. They go to the run's one registry, or to HOST
    #[arg(long, global = true, value_name = "[HOST=]VAR", value_delimiter = ',', env = "QUORATE_CREDS_ENV")]
    creds_env: Vec<String>,
    /// Ask gcloud for the credentials (`gcp`; they go to Google's registries, or to HOST), or
    /// 1Password (`op://VAULT/ITEM`, or `op://USER,op://PASSWORD`). Without this, those of `docker
    /// login` and `podman login` are used, and `GITHUB_TOKEN` for ghcr.io
    #[arg(long, global = true, value_name = "[HOST=]MODE", env = "QUORATE_CREDS")]
    creds: Vec<Source>,
    /// Whether to write step outputs, a summary and annotations for a CI job
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", env = "QUORATE_CI")]
    ci: ci::Setting,
    /// Seconds until the whole run is given up [default: 60; 600 where whole layers may be read or
    /// sent: `push`, `attest`, images from elsewhere]
    #[arg(long, global = true, value_name = "SECONDS", env = "QUORATE_TIMEOUT", value_parser = value_parser!(u64).range(..=DAY))]
    timeout: Option<u64>,
}

/// Text for people, or JSON for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    /// For people
    #[default]
    Text,
    /// One JSON document with a versioned `mediaType`
    Json,
}

#[derive(Subcommand)]
enum Command {
    Push(push::Arguments),
    Assemble(assemble::Arguments),
    Attest(attest::Arguments),
    Promote(promote::Arguments),
    Verify(verify::Arguments),
    Pack(pack::Arguments),
    Inspect(inspect::Arguments),
    Resolve(resolve::Arguments),
    Key(key::Arguments),
    Policy(policy::Arguments),
    NarHash(nar_hash::Arguments),
    Predicate(predicate::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// The most repositories in which evidence is read besides that of the image.
const MAX_PLACES: usize = 8;

/// The policy and whom to believe: options of `promote` and `verify`.
#[derive(Args)]
struct Judgement {
    /// The policy (TOML)
    #[arg(long, value_name = "FILE", env = "QUORATE_POLICY")]
    policy: PathBuf,
    /// Refuse any other policy than the one with this SHA-256
    #[arg(long, value_name = "DIGEST", default_value = ANY, env = "QUORATE_POLICY_DIGEST")]
    policy_digest: Wanted<crate::oci::Digest>,
    #[command(flatten)]
    trust: TrustArguments,
    /// Read evidence in this repository, too: where `attest --attach-to` put it. May be repeated; a
    /// place to look and no more
    #[arg(long, value_name = "REPOSITORY", value_delimiter = ',', env = "QUORATE_EVIDENCE_FROM")]
    evidence_from: Vec<Repository>,
    /// Require more operators than the policy does; never fewer
    #[arg(long, value_name = "N", default_value = ANY, env = "QUORATE_QUORUM")]
    quorum: Wanted<NonZeroU32>,
    /// Judge as for this environment of the policy; never one that asks for less than the tags, or
    /// for `verify` the policy, ask for
    #[arg(long, value_name = "NAME", env = "QUORATE_ENVIRONMENT")]
    environment: Option<String>,
    /// The commit that the release must be of
    #[arg(long, value_name = "COMMIT", default_value = ANY, env = "QUORATE_EXPECT_COMMIT")]
    expect_commit: Wanted<crate::attestation::Commit>,
}

/// How to say that nothing is wanted.
const ANY: &str = "any";

/// What is wanted beyond the policy, if anything is. Only `any` stands for nothing: what a CI job
/// meant to fill in and left empty is a wrong request, and asks for no less.
#[derive(Debug, Clone)]
struct Wanted<T>(Option<T>);

impl<T: FromStr> FromStr for Wanted<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == ANY { Ok(Self(None)) } else { text.parse().map(|wanted| Self(Some(wanted))) }
    }
}

impl Judgement {
    fn policy(&self) -> Result<Policy, Error> {
        let policy = files::policy(&self.policy)?;
        if let Wanted(Some(pinned)) = self.policy_digest
            && pinned != policy.digest()
        {
            let shown = self.policy.display();
            return Err(Error::request(format!(
                "the policy `{shown}` has the digest {}, not the pinned {pinned}",
                policy.digest()
            ))
            .hint("somebody changed the policy or a key file; look before you pin the new digest"));
        }
        Ok(policy)
    }

    /// Where evidence is read besides; this run will pull from there.
    fn evidence_from(&self, registry: &Registry) -> Result<Vec<Repository>, Error> {
        if self.evidence_from.len() > MAX_PLACES {
            return Err(Error::request(format!(
                "`--evidence-from` names more than {MAX_PLACES} repositories"
            )));
        }
        for place in &self.evidence_from {
            registry.announce(place, Access::Pull)?;
        }
        Ok(self.evidence_from.clone())
    }

    /// What the options ask for: what `--environment` does, or a higher `--quorum`.
    fn raised(
        &self,
        policy: &Policy,
        repository: &Repository,
        purpose: &Purpose,
    ) -> Result<Option<Bar>, Error> {
        let (Some(name), Some(rule)) = (&self.environment, policy.image(repository)) else {
            return Ok(self.quorum.0.map(|quorum| Bar { quorum, environment: None }));
        };
        let Some(quorum) = rule.environments.get(name) else {
            let known: Vec<&str> = rule.environments.keys().map(String::as_str).collect();
            return Err(Error::request(format!("the policy has no environment `{name}` for `{repository}`"))
                .hint(if known.is_empty() {
                    "it has none".to_owned()
                } else {
                    format!("it has {}", known.join(", "))
                }));
        };
        let least = rule.bar(purpose).quorum;
        if *quorum < least {
            return Err(Error::request(format!(
                "`--environment {name}` asks for {quorum}, and the policy for {least}, of `{repository}`"
            ))
            .hint("the option can raise the quorum, never lower it"));
        }
        let quorum = self.quorum.0.map_or(*quorum, |raised| raised.max(*quorum));
        Ok(Some(Bar { quorum, environment: Some(name.clone()) }))
    }
}

/// What a command came to.
#[derive(Default)]
struct Finished {
    /// The result as text; its end of line is added.
    text: String,
    /// The result as JSON.
    json: Value,
    /// Whether the answer is yes.
    yes: bool,
    /// What to say on stderr about an answer of no, or about what is unfinished.
    error: Option<Error>,
    /// Notes for stderr.
    notes: Vec<String>,
    /// The result to the byte, in the place of text.
    raw: Option<Vec<u8>>,
    /// Step outputs for a CI job.
    outputs: Vec<(&'static str, String)>,
    /// A summary for a CI job, in Markdown.
    summary: String,
    /// The report as HTML, for the file that was asked for.
    page: String,
}

impl Finished {
    fn yes(text: String, json: Value) -> Self {
        Self { text, json, yes: true, ..Self::default() }
    }

    fn no(text: String, json: Value, error: Error) -> Self {
        Self { text, json, error: Some(error), ..Self::default() }
    }

    /// The step outputs: those of the command, and the whole document.
    fn outputs(&self) -> Vec<(&'static str, String)> {
        let mut outputs = self.outputs.clone();
        outputs.push(("json", self.json.to_string()));
        outputs
    }

    /// The summary, or what is to be said of the error.
    fn summary(&self) -> String {
        match &self.error {
            Some(error) if self.summary.is_empty() => report::markdown::error(error),
            _ => self.summary.clone(),
        }
    }

    /// The exit code: read off the answer, and for want of one, off the error.
    fn code(&self) -> u8 {
        match &self.error {
            _ if self.yes => 0,
            Some(error) => match error.kind() {
                Kind::No => NO,
                Kind::Request => REQUEST,
                Kind::Undecided => UNDECIDED,
                Kind::Interrupted => INTERRUPTED,
            },
            None => NO,
        }
    }
}

/// Runs the command line and says with which code to exit.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = Cli::command().try_get_matches_from(arguments);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(mut error) => {
            // Help and version are data.
            return if error.exit_code() == 0 {
                error.print().map_or(ExitCode::from(UNDECIDED), |()| ExitCode::SUCCESS)
            } else {
                name_the_policy(&mut error);
                wrong(&error);
                ExitCode::from(REQUEST)
            };
        }
    };
    let ci = Ci::detect(cli.global.ci);
    let printer = Printer::new(cli.global.color, cli.global.quiet, ci.is_some());
    if cli.global.verbose {
        printer.trace();
    }
    let media_type = cli.command.media_type();
    // Whatever becomes of this run, the file must not go on saying what an earlier one found; and
    // one that cannot be written is found out before a tag moves.
    let begun = cli.command.report().map_or(Ok(()), |file| {
        let unknown = Error::undecided("the run that writes this report has not ended, or was killed");
        keep(file, &report::html::undecided(&unknown.hint("run the same command again")))
    });
    let report = cli.command.report().filter(|_| begun.is_ok());
    let result = begun.and_then(|()| crate::init()).and_then(|()| run(&cli, printer));
    let finished = result.unwrap_or_else(|error| Finished {
        json: report::undecided(media_type, &error),
        page: report::html::undecided(&error),
        error: Some(error),
        ..Finished::default()
    });
    let printed = match (cli.global.output, &finished.raw) {
        (Output::Json, _) => printer.data(&pretty(&finished.json)),
        (Output::Text, Some(bytes)) => printer.bytes(bytes),
        (Output::Text, None) if finished.text.is_empty() => Ok(()),
        (Output::Text, None) => printer.data(&finished.text),
    };
    for note in &finished.notes {
        printer.talk(&format!("note: {note}"));
    }
    if let Some(error) = &finished.error {
        printer.error(error);
    }
    let kept = report.map_or(Ok(()), |file| keep(file, &finished.page));
    if let Err(error) = &kept {
        printer.error(error);
    }
    let told = ci.map_or(Ok(()), |ci| ci.tell(&finished.outputs(), &finished.summary()));
    if let Err(error) = &told {
        printer.error(error);
    }
    let printed = printed.map_err(|error| {
        printer.error(&Error::undecided("cannot write the result to stdout").because(error));
    });
    match finished.code() {
        // A "yes" that nobody could read is none.
        0 if printed.is_err() || kept.is_err() || told.is_err() => ExitCode::from(UNDECIDED),
        code => ExitCode::from(code),
    }
}

/// Where there is no policy, says what it is for and who names it.
fn name_the_policy(error: &mut clap::Error) {
    let missing = error.get(ContextKind::InvalidArg);
    if let Some(ContextValue::Strings(missing)) = missing
        && missing.iter().any(|argument| argument.starts_with("--policy "))
    {
        let tip = "the policy says who may vote: name it by `--policy`, or in the variable QUORATE_POLICY";
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
}

/// Says what is wrong with the arguments. It repeats them, so a CI job is told through the printer:
/// a branch or an input may be named like a command to the runner.
fn wrong(error: &clap::Error) {
    if Ci::detect(ci::Setting::Auto).is_some() {
        let text = error.render().to_string();
        let text = text.trim_start_matches("error: ").trim_end();
        Printer::new(Color::Never, false, true).error(&Error::request(text));
    } else {
        let _ = error.print();
    }
}

fn run(cli: &Cli, printer: Printer) -> Result<Finished, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .map_err(|error| Error::undecided("cannot start").because(error))?;
    let interrupt = Arc::new(Interrupt::default());
    interrupt.listen(printer).map_err(|error| Error::undecided("cannot start").because(error))?;
    let work = async {
        match &cli.command {
            Command::Push(arguments) => Box::pin(arguments.run(&cli.global)).await,
            Command::Assemble(arguments) => arguments.run(&cli.global).await,
            Command::Attest(arguments) => Box::pin(arguments.run(&cli.global, printer)).await,
            Command::Promote(arguments) => arguments.run(&cli.global, printer, &interrupt).await,
            Command::Verify(arguments) => Box::pin(arguments.run(&cli.global, printer)).await,
            Command::Pack(arguments) => arguments.run(&cli.global, printer).await,
            Command::Inspect(arguments) => arguments.run(&cli.global, printer).await,
            Command::Resolve(arguments) => arguments.run(&cli.global).await,
            Command::Key(arguments) => arguments.run(),
            Command::Policy(arguments) => arguments.run(),
            Command::NarHash(arguments) => arguments.run(),
            Command::Predicate(arguments) => Box::pin(arguments.run(&cli.global, printer)).await,
            Command::Completions(arguments) => Ok(arguments.run()),
            Command::Man(arguments) => arguments.run(),
        }
    };
    let result = runtime.block_on(interrupt.run(work));
    // What still waits for a disk or a name has a moment to clean up, and nobody waits for its answer.
    runtime.shutdown_timeout(Duration::from_millis(250));
    result
}

fn keep(file: &Path, page: &str) -> Result<(), Error> {
    files::write(file, page.as_bytes()).map_err(|error| {
        Error::undecided(format!("cannot write the report `{}`", shown(file))).because(error)
    })
}

impl Command {
    /// Where a report in HTML is wanted.
    fn report(&self) -> Option<&Path> {
        match self {
            Self::Verify(arguments) => arguments.report.as_deref(),
            Self::Promote(arguments) => arguments.report.as_deref(),
            _ => None,
        }
    }

    fn media_type(&self) -> &'static str {
        match self {
            Self::Push(_) => report::push::MEDIA_TYPE,
            Self::Assemble(_) => report::assemble::MEDIA_TYPE,
            Self::Attest(_) => report::attest::MEDIA_TYPE,
            Self::Promote(_) => report::promote::MEDIA_TYPE,
            Self::Verify(arguments) => arguments.media_type(),
            Self::Pack(_) => report::pack::MEDIA_TYPE,
            Self::Inspect(_) => report::inspect::MEDIA_TYPE,
            Self::Policy(_) => report::policy::MEDIA_TYPE,
            Self::Key(_)
            | Self::NarHash(_)
            | Self::Predicate(_)
            | Self::Resolve(_)
            | Self::Completions(_)
            | Self::Man(_) => "application/vnd.quorate.error.v1+json",
        }
    }
}

impl Global {
    /// The registries of a run that takes `seconds` at most, if nothing else is asked for.
    fn registry(&self, seconds: u64) -> Result<Registry, Error> {
        let mut credentials = Credentials::from_environment();
        for variable in &self.creds_env {
            let source = Source::variable(variable).map_err(|why| {
                Error::request(format!("`--creds-env`: {why}"))
                    .hint("it must hold `user:password`, or `:TOKEN` for an identity token, and be exported")
            })?;
            credentials = credentials.with_source(source);
        }
        for source in &self.creds {
            credentials = credentials.with_source(source.clone());
        }
        Ok(Registry::new(Options {
            plain_http: self.plain_http.clone(),
            tls: self.tls.clone(),
            token_realms: self.token_realm.clone(),
            credentials,
            deadline: Duration::from_secs(self.timeout.unwrap_or(seconds)),
            ca_file: self.ca_file.clone(),
            ..Options::default()
        })?)
    }
}

/// JSON as it is printed. CI runners take `##[` for a command wherever it stands in a line; it can
/// only stand in a string, where it may as well be escaped.
fn pretty(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string());
    text.replace("##[", "#\\u0023[")
}

/// A file name as it is shown.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
