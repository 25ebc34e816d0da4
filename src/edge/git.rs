//! What git says of the checkout that a build was made from.
//!
//! Only by running `git`, without a shell, for a bounded time: it knows of worktrees, submodules,
//! replaced objects and ownership what a reader of `.git` would get wrong.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::attestation::Commit;

/// A `git` that takes longer is ended.
const LIMIT: Duration = Duration::from_secs(20);
/// Bytes read of what it prints.
const MAX_OUTPUT: u64 = 64 * 1024;

/// The checkout around the current folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// What is checked out.
    pub head: Commit,
    /// Whether files that git tracks differ from it.
    pub changed: bool,
    /// The branch, as a full ref; `None` if none is checked out.
    pub git_ref: Option<String>,
    /// The URL of the remote `origin`.
    pub origin: Option<String>,
}

/// The checkout around the current folder; `None` without `git`, or outside of one.
///
/// # Errors
/// In words, when it could not be found out.
pub async fn checkout() -> Result<Option<Checkout>, String> {
    let Some(inside) = run(&["rev-parse", "--is-inside-work-tree"]).await? else { return Ok(None) };
    if !inside.ok {
        // Anything else, such as a folder of somebody else, is not an answer.
        return if inside.errors.contains("not a git repository") { Ok(None) } else { Err(inside.why()) };
    }
    if inside.line()? != "true" {
        return Ok(None);
    }
    let head = text(&["rev-parse", "--verify", "HEAD^{commit}"]).await?;
    let status = ["status", "--porcelain", "--untracked-files=no", "--ignore-submodules=untracked"];
    let status = ask(&status).await?;
    if !status.ok {
        return Err(status.why());
    }
    let optional = async |arguments: &[&str]| {
        let printed = ask(arguments).await?;
        if printed.ok { printed.line().map(Some) } else { Ok(None) }
    };
    Ok(Some(Checkout {
        head: head.parse().map_err(|error: crate::attestation::predicate::CommitError| error.to_string())?,
        changed: !status.text.is_empty(),
        git_ref: optional(&["symbolic-ref", "--quiet", "HEAD"]).await?,
        origin: optional(&["config", "--get", "remote.origin.url"]).await?,
    }))
}

/// The committer time of a commit, in seconds since 1970; `None` if git does not have it.
///
/// # Errors
/// In words, when it could not be found out.
pub async fn committed(commit: &Commit) -> Result<Option<u64>, String> {
    let commit = format!("{commit}^{{commit}}");
    let Some(printed) = run(&["show", "--no-patch", "--format=%ct", "--end-of-options", &commit]).await?
    else {
        return Ok(None);
    };
    if !printed.ok {
        return Ok(None);
    }
    printed.line()?.parse().map(Some).map_err(|_| "`git show` printed no time".to_owned())
}

/// What `git` printed, and whether it succeeded.
struct Printed {
    ok: bool,
    text: String,
    errors: String,
}

impl Printed {
    fn line(&self) -> Result<String, String> {
        match self.text.trim_end_matches(['\r', '\n']) {
            line if !line.is_empty() && !line.contains('\n') => Ok(line.to_owned()),
            _ => Err("`git` did not print one line".to_owned()),
        }
    }

    /// Its own words, as far as they fit.
    fn why(&self) -> String {
        let words: String = self.errors.lines().next().unwrap_or_default().chars().take(300).collect();
        format!("`git` failed: {words}")
    }
}

async fn ask(arguments: &[&str]) -> Result<Printed, String> {
    run(arguments).await?.ok_or_else(|| "`git` is gone".to_owned())
}

async fn text(arguments: &[&str]) -> Result<String, String> {
    let printed = ask(arguments).await?;
    if printed.ok { printed.line() } else { Err(printed.why()) }
}

/// Runs `git`; `None` if there is none.
async fn run(arguments: &[&str]) -> Result<Option<Printed>, String> {
    let started = Command::new("git")
        // No pager, no monitor, no checks of signatures; and no other commit in the place of one.
        .args(["--no-optional-locks", "--no-replace-objects", "--no-pager"])
        .args(["-c", "core.fsmonitor=false", "-c", "log.showSignature=false"])
        .args(arguments)
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("`git` could not be started: {error}")),
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (mut text, mut errors) = (Vec::new(), Vec::new());
        let read = async {
            if let Some(stdout) = stdout {
                stdout.take(MAX_OUTPUT).read_to_end(&mut text).await?;
            }
            Ok::<_, io::Error>(())
        };
        let complain = async {
            if let Some(stderr) = stderr {
                stderr.take(MAX_OUTPUT).read_to_end(&mut errors).await?;
            }
            Ok::<_, io::Error>(())
        };
        futures_util::future::try_join(read, complain).await?;
        let long = text.len() as u64 == MAX_OUTPUT;
        // One that still prints is ended here; what it printed is enough to know of changes.
        let ok = long || child.wait().await?.success();
        Ok::<_, io::Error>(Printed {
            ok,
            text: String::from_utf8_lossy(&text).into_owned(),
            errors: String::from_utf8_lossy(&errors).into_owned(),
        })
    };
    match tokio::time::timeout(LIMIT, work).await {
        Ok(Ok(printed)) => Ok(Some(printed)),
        Ok(Err(error)) => Err(format!("`git`: {error}")),
        Err(_) => Err(format!("`git` took longer than {} s", LIMIT.as_secs())),
    }
}
