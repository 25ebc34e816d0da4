//! Credentials that the user names for a run.

use std::str::FromStr;

use crate::oci::Repository;

use super::credentials::Login;
use super::program;
use super::secret::Secret;

/// Where credentials come from, and for which registry they are.
#[derive(Debug, Clone)]
pub struct Source {
    /// As in references; without it the one registry of the run, or Google's for gcloud.
    host: Option<String>,
    origin: Origin,
}

#[derive(Debug, Clone)]
enum Origin {
    Given(Login),
    /// The access token of gcloud.
    Gcloud,
    /// Secret references of 1Password.
    OnePassword {
        user: String,
        password: String,
    },
}

impl Source {
    /// A user and password for `host` (as in references).
    pub fn login(host: &str, user: &str, password: Secret) -> Self {
        let login = Login::Password { user: user.to_owned(), password };
        Self { host: Some(host.to_owned()), origin: Origin::Given(login) }
    }

    /// An environment variable, `[HOST=]VAR`, that holds `user:password`, or `:TOKEN` for an
    /// identity (refresh) token.
    ///
    /// # Errors
    /// In words, without what the variable holds.
    pub fn variable(text: &str) -> Result<Self, String> {
        let (host, name) = split(text)?;
        let value = std::env::var(name).map_err(|_| format!("the variable `{name}` is not set"))?;
        let origin = match value.split_once(':') {
            Some((_, "")) | None => {
                return Err(format!("the variable `{name}` holds neither `user:password` nor `:TOKEN`"));
            }
            Some(("", token)) => Login::Identity(Secret::new(token)),
            Some((user, password)) => {
                Login::Password { user: user.to_owned(), password: Secret::new(password) }
            }
        };
        Ok(Self { host, origin: Origin::Given(origin) })
    }

    /// Whether it is for this registry; what names it goes before what does not.
    pub(super) fn fits(&self, host: &str) -> Option<bool> {
        match (&self.host, &self.origin) {
            (Some(named), _) => (named == host).then_some(true),
            // A Google token is good for all of Google, and nobody else may see it.
            (None, Origin::Gcloud) => is_google(host).then_some(false),
            (None, _) => Some(false),
        }
    }

    /// The login, asked for anew. `alone`: the run speaks to one registry only.
    pub(super) async fn proof(&self, alone: bool) -> Result<Login, String> {
        let unnamed = self.host.is_none() && !matches!(self.origin, Origin::Gcloud);
        if unnamed && !alone {
            return Err("this run speaks to several registries: write HOST= before the source of \
                        credentials to say whose they are"
                .to_owned());
        }
        Ok(match &self.origin {
            Origin::Given(login) => login.clone(),
            Origin::Gcloud => Login::Password {
                user: "oauth2accesstoken".to_owned(),
                password: program::line("gcloud", &["auth", "print-access-token"]).await?,
            },
            Origin::OnePassword { user, password } => Login::Password {
                user: program::line("op", &["read", user]).await?.expose().to_owned(),
                password: program::line("op", &["read", password]).await?,
            },
        })
    }
}

/// `[HOST=]gcp`, `[HOST=]op://VAULT/ITEM` for its fields `username` and `password`, or
/// `[HOST=]op://USER,op://PASSWORD` for others.
impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, mode) = split(text)?;
        let is_reference = |text: &str, parts: &[usize]| {
            text.strip_prefix("op://").is_some_and(|rest| {
                let names: Vec<&str> = rest.split('/').collect();
                parts.contains(&names.len()) && names.iter().all(|name| !name.is_empty())
            })
        };
        let origin = match mode.split_once(',') {
            None if mode == "gcp" => Origin::Gcloud,
            None if is_reference(mode, &[2]) => {
                Origin::OnePassword { user: format!("{mode}/username"), password: format!("{mode}/password") }
            }
            Some((user, password)) if [user, password].iter().all(|one| is_reference(one, &[3, 4])) => {
                Origin::OnePassword { user: user.to_owned(), password: password.to_owned() }
            }
            _ => return Err("it is `gcp`, `op://VAULT/ITEM`, or `op://USER,op://PASSWORD`".to_owned()),
        };
        Ok(Self { host, origin })
    }
}

/// The host before the `=`, normalised, and the rest.
fn split(text: &str) -> Result<(Option<String>, &str), String> {
    match text.split_once('=') {
        Some((host, rest)) if !host.contains('/') => {
            let repository: Repository =
                format!("{host}/any").parse().map_err(|_| format!("`{host}` is no registry host"))?;
            Ok((Some(repository.host().to_owned()), rest))
        }
        _ => Ok((None, text)),
    }
}

fn is_google(host: &str) -> bool {
    host == "gcr.io" || host.ends_with(".gcr.io") || host.ends_with(".pkg.dev")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_for_one_registry() {
        for (source, host, fits) in [
            ("gcp", "gcr.io", Some(false)),
            ("gcp", "eu.gcr.io", Some(false)),
            ("gcp", "europe-docker.pkg.dev", Some(false)),
            ("gcp", "notgcr.io", None),
            ("gcp", "ghcr.io", None),
            ("r.example:5000=gcp", "r.example:5000", Some(true)),
            ("r.example:5000=gcp", "r.example", None),
            ("r.example:5000=gcp", "gcr.io", None),
            ("op://vault/item", "ghcr.io", Some(false)),
            ("ghcr.io=op://vault/item", "quay.io", None),
        ] {
            assert_eq!(source.parse::<Source>().unwrap().fits(host), fits, "{source} {host}");
        }
    }

    #[test]
    fn what_is_no_source_is_refused() {
        for good in ["op://v/i/user,op://v/i/section/pass", "op://My vault/item", "ghcr.io=gcp"] {
            assert!(good.parse::<Source>().is_ok(), "{good}");
        }
        for bad in ["", "GCP", "op", "op://v", "op://v/", "op://v/i/f", "op://v/i/u,p", "ghcr.io=", "a b=gcp"]
        {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
        assert!(Source::variable("QUORATE_TEST_NO_SUCH_VARIABLE").unwrap_err().contains("not set"));
    }
}
