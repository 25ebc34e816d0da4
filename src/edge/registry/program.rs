//! Programs that hand out credentials: docker's helpers, gcloud, 1Password.
//!
//! A secret comes out of them, and none goes in: neither as an argument nor on their input.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::credentials::Login;
use super::secret::Secret;

/// A program that takes longer is ended.
const LIMIT: Duration = Duration::from_secs(20);
/// Bytes read of what it prints.
const MAX_OUTPUT: u64 = 64 * 1024;

/// What a program printed, and whether it succeeded.
struct Printed {
    ok: bool,
    text: Vec<u8>,
}

/// Asks a docker credential helper for the login of `server` (docker-credential-helpers,
/// "Development"). `Ok(None)` when it has none.
pub(super) async fn credential_helper(helper: &str, server: &str) -> Result<Option<Login>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Stored {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{helper}");
    let printed = run(&program, &["get"], server).await?;
    if !printed.ok {
        // The words every helper of docker-credential-helpers uses for "none stored".
        let none = printed.text.windows(21).any(|words| words == b"credentials not found");
        return if none { Ok(None) } else { Err(format!("`{program}` failed")) };
    }
    let stored: Stored =
        serde_json::from_slice(&printed.text).map_err(|_| format!("`{program}` gave a malformed answer"))?;
    let secret = Secret::new(stored.secret);
    Ok(Some(match stored.username.as_str() {
        "<token>" => Login::Identity(secret),
        _ => Login::Password { user: stored.username, password: secret },
    }))
}

/// The one line that a program prints.
pub(in crate::edge) async fn line(program: &str, arguments: &[&str]) -> Result<Secret, String> {
    let shown = format!("{program} {}", arguments.join(" "));
    let printed = run(program, arguments, "").await?;
    if !printed.ok {
        return Err(format!("`{shown}` failed; run it by hand to see why"));
    }
    match std::str::from_utf8(&printed.text).map(str::trim_end) {
        Ok(line) if !line.is_empty() && !line.contains('\n') => Ok(Secret::new(line)),
        _ => Err(format!("`{shown}` did not print one line")),
    }
}

/// Runs a program with `input`. What it says on stderr may hold a secret, and is not shown.
async fn run(program: &str, arguments: &[&str], input: &str) -> Result<Printed, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Ended with this future: at the time limit, and when the run is over before it.
        .kill_on_drop(true)
        .spawn()
        .map_err(|_| format!("`{program}` could not be started"))?;
    let work = async {
        if let Some(mut stdin) = child.stdin.take() {
            // One that asks for nothing may close its input.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let mut text = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_OUTPUT + 1).read_to_end(&mut text).await?;
        }
        let long = text.len() as u64 > MAX_OUTPUT;
        Ok::<_, std::io::Error>(Printed { ok: !long && child.wait().await?.success(), text })
    };
    match tokio::time::timeout(LIMIT, work).await {
        Ok(Ok(printed)) => Ok(printed),
        Ok(Err(error)) => Err(format!("`{program}`: {error}")),
        Err(_) => Err(format!("`{program}` took longer than {} s", LIMIT.as_secs())),
    }
}
