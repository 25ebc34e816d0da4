//! Where a build comes from: commit, release order, repository and ref, as far as the CI job and
//! the checkout say.
//!
//! A place is believed for the commit it is at, and for no other: a job that rebuilds somebody
//! else's commit does not lend it its own repository.

use url::Url;

use super::git::{self, Checkout};
use crate::attestation::Commit;
use crate::error::Error;

/// Where a build comes from, as far as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Given {
    /// The commit that was built.
    pub commit: Option<Commit>,
    /// The release order.
    pub sequence: Option<u64>,
    /// The repository that was built.
    pub source_uri: Option<String>,
    /// The git ref that was built.
    pub git_ref: Option<String>,
}

/// Where a build comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The commit that was built.
    pub commit: Commit,
    /// The release order.
    pub sequence: u64,
    /// The repository that was built.
    pub source_uri: Option<String>,
    /// The git ref that was built.
    pub git_ref: Option<String>,
    /// What was taken from where.
    pub notes: Vec<String>,
}

/// What the variables of a CI job say.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Job {
    system: &'static str,
    commit: Option<Commit>,
    source_uri: Option<String>,
    git_ref: Option<String>,
}

/// Completes what was given from the CI job and the checkout around the current folder; from
/// nothing, unless `infer`.
///
/// # Errors
/// When commit or sequence are neither given nor found; when the job and the checkout are at
/// different commits, or the checkout has changes, and `commit` is to be taken from them.
pub async fn complete(given: Given, infer: bool) -> Result<Origin, Error> {
    let whole = given.commit.is_some()
        && given.sequence.is_some()
        && given.source_uri.is_some()
        && given.git_ref.is_some();
    let look = infer && !whole;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let job = look.then(|| job(variable)).flatten();
    let checkout = if look { git::checkout().await } else { Ok(None) };
    let mut notes = Vec::new();

    let commit = if let Some(commit) = given.commit {
        commit
    } else {
        let checkout = checkout.as_ref().map_err(|why| {
            Error::undecided("git could not say what is checked out")
                .because(why.clone())
                .hint("give the commit that was built: `--commit`")
        })?;
        let (commit, whence) = agreed(job.as_ref(), checkout.as_ref())?;
        notes.push(format!("commit {commit}, from {whence}"));
        commit
    };
    let sequence = if let Some(sequence) = given.sequence {
        sequence
    } else {
        let time = if look { git::committed(&commit).await } else { Ok(None) };
        let time = time.map_err(|why| {
            Error::undecided(format!("git could not say when {commit} was committed"))
                .because(why)
                .hint("give the release order: `--sequence`")
        })?;
        let sequence = time.ok_or_else(|| {
            Error::request("`--sequence` must be given")
                .hint("by custom it is what `git show --no-patch --format=%ct COMMIT` prints")
        })?;
        notes.push(format!("sequence {sequence}, the committer time of the commit"));
        sequence
    };

    let job = job.filter(|job| job.commit.as_ref() == Some(&commit));
    let checkout = match checkout {
        Ok(checkout) => checkout.filter(|checkout| checkout.head == commit),
        Err(why) => {
            notes.push(format!("nothing was taken from the checkout: {why}"));
            None
        }
    };
    if checkout.as_ref().is_some_and(|checkout| checkout.changed) {
        notes.push("the checkout has changes that are not in the commit: were they built?".to_owned());
    }
    let mut found = |field: &str, given: Option<String>, job_has: Option<String>, git_has: Option<String>| {
        if given.is_some() {
            return given;
        }
        let system = job.as_ref().map_or("", |job| job.system);
        let (value, whence) =
            job_has.map(|v| (v, system)).or_else(|| git_has.map(|v| (v, "the checkout")))?;
        notes.push(format!("{field} {value}, from {whence}"));
        Some(value)
    };
    let of_job = |field: fn(&Job) -> &Option<String>| job.as_ref().and_then(|job| field(job).clone());
    let origin = checkout.as_ref().and_then(|c| c.origin.as_deref()).and_then(source_uri);
    let source_uri = found("source", given.source_uri, of_job(|job| &job.source_uri), origin);
    let checked_out = checkout.and_then(|checkout| checkout.git_ref);
    let git_ref = found("ref", given.git_ref, of_job(|job| &job.git_ref), checked_out);
    Ok(Origin { commit, sequence, source_uri, git_ref, notes })
}

/// The commit that was built, if nothing speaks against it.
fn agreed(job: Option<&Job>, checkout: Option<&Checkout>) -> Result<(Commit, String), Error> {
    let of_job = job.and_then(|job| job.commit.as_ref().map(|commit| (commit, job.system)));
    match (of_job, checkout) {
        (Some((commit, system)), Some(checkout)) if *commit != checkout.head => Err(Error::request(format!(
            "{system} says that this job is for {commit}, but {} is checked out",
            checkout.head
        ))
        .hint("give the one that was built: `--commit`")),
        (_, Some(checkout)) if checkout.changed => {
            Err(Error::request(format!("the checkout has changes that are not in {}", checkout.head)).hint(
                "undo or commit them, and build again; if the build was not made from them, give `--commit`",
            ))
        }
        (Some((commit, system)), Some(_)) => Ok((commit.clone(), format!("{system} and the checkout"))),
        (Some((commit, system)), None) => Ok((commit.clone(), system.to_owned())),
        (None, Some(checkout)) => Ok((checkout.head.clone(), "the checkout".to_owned())),
        (None, None) => Err(Error::request("`--commit` must be given")
            .hint("without it, run `quorate` in the checkout that was built, or in its CI job")),
    }
}

/// The CI job that the variables are of. Of two jobs in one environment, neither is believed.
fn job(variable: impl Fn(&str) -> Option<String>) -> Option<Job> {
    let is = |name: &str| variable(name).is_some_and(|value| value == "true");
    let full = |prefix: &str, name: &str| variable(name).map(|value| format!("{prefix}{value}"));
    let system = match (is("GITHUB_ACTIONS"), is("GITLAB_CI"), is("BUILDKITE"), is("CIRCLECI")) {
        (true, false, false, false) if variable("FORGEJO_ACTIONS").is_some() => "Forgejo Actions",
        (true, false, false, false) if variable("GITEA_ACTIONS").is_some() => "Gitea Actions",
        (true, false, false, false) => "GitHub Actions",
        (false, true, false, false) => "GitLab CI",
        (false, false, true, false) => "Buildkite",
        (false, false, false, true) => "CircleCI",
        _ => return None,
    };
    let (commit, repository, git_ref) = match system {
        "GitLab CI" => (
            "CI_COMMIT_SHA",
            variable("CI_PROJECT_URL"),
            full("refs/tags/", "CI_COMMIT_TAG")
                .or_else(|| variable("CI_MERGE_REQUEST_REF_PATH"))
                .or_else(|| full("refs/heads/", "CI_COMMIT_BRANCH")),
        ),
        "Buildkite" => (
            "BUILDKITE_COMMIT",
            variable("BUILDKITE_REPO"),
            // The branch of a pull request may be one of a fork.
            full("refs/tags/", "BUILDKITE_TAG").or_else(|| {
                full("refs/heads/", "BUILDKITE_BRANCH")
                    .filter(|_| variable("BUILDKITE_PULL_REQUEST").is_none_or(|number| number == "false"))
            }),
        ),
        "CircleCI" => (
            "CIRCLE_SHA1",
            variable("CIRCLE_REPOSITORY_URL"),
            full("refs/tags/", "CIRCLE_TAG").or_else(|| {
                full("refs/heads/", "CIRCLE_BRANCH").filter(|_| variable("CIRCLE_PULL_REQUEST").is_none())
            }),
        ),
        // GitHub's variables, which Forgejo and Gitea set too.
        _ => (
            "GITHUB_SHA",
            variable("GITHUB_SERVER_URL")
                .zip(variable("GITHUB_REPOSITORY"))
                .map(|(server, name)| format!("{server}/{name}")),
            variable("GITHUB_REF"),
        ),
    };
    Some(Job {
        system,
        commit: variable(commit).and_then(|commit| commit.parse().ok()),
        source_uri: repository.as_deref().and_then(source_uri),
        git_ref: git_ref.filter(|name| name.starts_with("refs/")),
    })
}

/// A git URL as builders write it in `sourceUri`, the same however each of them cloned: over
/// https, without user, password and `.git`. `None` where that could be another repository.
fn source_uri(url: &str) -> Option<String> {
    let scp = |url: &str| {
        let (host, path) = url.split_once(':')?;
        (!host.contains('/') && !path.starts_with('/')).then(|| format!("ssh://{host}/{path}"))
    };
    let url = if url.contains("://") { Url::parse(url).ok()? } else { Url::parse(&scp(url)?).ok()? };
    let scheme = match (url.scheme(), url.port()) {
        ("https", _) | ("ssh", None | Some(22)) => "https",
        ("http", _) => "http",
        _ => return None,
    };
    let host = url.host_str().filter(|host| !host.is_empty())?.to_ascii_lowercase();
    let port =
        url.port().filter(|_| url.scheme() != "ssh").map(|port| format!(":{port}")).unwrap_or_default();
    let path = url.path().trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let plain = url.query().is_none() && url.fragment().is_none() && !path.is_empty() && !path.contains("//");
    plain.then(|| format!("git+{scheme}://{host}{port}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "5f1c2d9e8b7a6f5e4d3c2b1a09f8e7d6c5b4a392";

    #[test]
    fn one_repository_has_one_source_however_it_was_cloned() {
        for url in [
            "https://github.com/acme/app",
            "https://github.com/acme/app.git",
            "https://x-access-token:secret@GitHub.com/acme/app.git/",
            "git@github.com:acme/app.git",
            "ssh://git@github.com/acme/app",
            "ssh://git@github.com:22/acme/app.git",
        ] {
            assert_eq!(source_uri(url).as_deref(), Some("git+https://github.com/acme/app"), "{url}");
        }
        let own = source_uri("http://forge.example:3000/acme/app");
        assert_eq!(own.as_deref(), Some("git+http://forge.example:3000/acme/app"));
        for url in [
            "",
            "/srv/git/app.git",
            "../app",
            "file:///srv/git/app.git",
            "git@host:/srv/git/app.git",
            "ssh://git@forge.example:2222/acme/app",
            "https://github.com/",
            "https://forge.example/?p=app.git",
        ] {
            assert_eq!(source_uri(url), None, "{url}");
        }
    }

    fn of(variables: &[(&str, &str)]) -> Option<Job> {
        job(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn each_ci_system_names_commit_source_and_ref() {
        let github = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SHA", COMMIT),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "acme/app"),
            ("GITHUB_REF", "refs/heads/main"),
        ];
        let gitlab = [
            ("GITLAB_CI", "true"),
            ("CI_COMMIT_SHA", COMMIT),
            ("CI_PROJECT_URL", "https://github.com/acme/app"),
            ("CI_COMMIT_BRANCH", "main"),
        ];
        let buildkite = [
            ("BUILDKITE", "true"),
            ("BUILDKITE_COMMIT", COMMIT),
            ("BUILDKITE_REPO", "git@github.com:acme/app.git"),
            ("BUILDKITE_BRANCH", "main"),
            ("BUILDKITE_PULL_REQUEST", "false"),
        ];
        let circle = [
            ("CIRCLECI", "true"),
            ("CIRCLE_SHA1", COMMIT),
            ("CIRCLE_REPOSITORY_URL", "git@github.com:acme/app.git"),
            ("CIRCLE_BRANCH", "main"),
        ];
        let forgejo = [&github[..], &[("FORGEJO_ACTIONS", "true")]].concat();
        for (variables, system) in [
            (&github[..], "GitHub Actions"),
            (&gitlab, "GitLab CI"),
            (&buildkite, "Buildkite"),
            (&circle, "CircleCI"),
            (&forgejo, "Forgejo Actions"),
        ] {
            let expected = Job {
                system,
                commit: Some(COMMIT.parse().unwrap()),
                source_uri: Some("git+https://github.com/acme/app".to_owned()),
                git_ref: Some("refs/heads/main".to_owned()),
            };
            assert_eq!(of(variables), Some(expected));
        }
        assert_eq!(of(&[&github[..], &circle].concat()), None, "two jobs at once");
        assert_eq!(of(&[("GITHUB_SHA", COMMIT)]), None, "no job");
        let fork = [&buildkite[..4], &[("BUILDKITE_PULL_REQUEST", "7")]].concat();
        assert_eq!(of(&fork).unwrap().git_ref, None, "a pull request");
        let head = [("BUILDKITE", "true"), ("BUILDKITE_COMMIT", "HEAD")];
        assert_eq!(of(&head).unwrap().commit, None, "not a commit");
        let tag = [&gitlab[..], &[("CI_COMMIT_TAG", "v1")]].concat();
        assert_eq!(of(&tag).unwrap().git_ref.as_deref(), Some("refs/tags/v1"));
    }
}
