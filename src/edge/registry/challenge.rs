//! `WWW-Authenticate` (RFC 9110 §11.6.1; the distribution token specification).

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// How a registry wants to be told who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// The URL of the token service, as written.
        realm: String,
        /// What the token service calls this registry.
        service: Option<String>,
    },
}

impl Challenge {
    /// The challenge to answer among all that were sent: Bearer before Basic.
    pub(super) fn choose(headers: &HeaderMap) -> Option<Self> {
        let all: Vec<Self> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(read)
            .collect();
        all.iter().find(|challenge| matches!(challenge, Self::Bearer { .. })).or_else(|| all.first()).cloned()
    }
}

/// The challenges of one header value that are understood.
fn read(value: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        let spaced = after.trim_start_matches([' ', '\t']);
        if let Some(value) = spaced.strip_prefix('=') {
            let (text, after) = parameter(value.trim_start_matches([' ', '\t']));
            if let Some((_, parameters)) = found.last_mut() {
                parameters.push((word.to_ascii_lowercase(), text));
            }
            rest = after;
        } else {
            found.push((word.to_ascii_lowercase(), Vec::new()));
            rest = after;
        }
    }
    found
        .into_iter()
        .filter_map(|(scheme, parameters)| {
            let get = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
            match scheme.as_str() {
                "basic" => Some(Challenge::Basic),
                "bearer" => Some(Challenge::Bearer { realm: get("realm")?, service: get("service") }),
                _ => None,
            }
        })
        .collect()
}

/// A token or quoted string, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::choose(&headers)
    }

    #[allow(clippy::unnecessary_wraps, reason = "compared with what is an option")]
    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
    }

    #[test]
    fn bearer_is_found_wherever_it_stands() {
        let line =
            r#"Bearer realm="https://a.example/token",service="s, \"t\"",scope="repository:x:pull,push""#;
        let read = bearer("https://a.example/token", Some("s, \"t\""));
        assert_eq!(choose(&[line]), read);
        assert_eq!(choose(&[r#"Basic realm="x""#, line]), read);
        assert_eq!(choose(&[&format!(r#"Basic realm="x", {line}"#)]), read);
        assert_eq!(choose(&[&format!(r#"{line}, Basic realm="x""#)]), read);
        assert_eq!(
            choose(&["bearer Realm = https://b.example/t , service=r"]),
            bearer("https://b.example/t", Some("r"))
        );
    }

    #[test]
    fn what_is_not_understood_is_no_challenge() {
        assert_eq!(choose(&[r#"Basic realm="x""#]), Some(Challenge::Basic));
        for bad in ["", "Bearer", "Bearer service=x", "Negotiate abc==", "\"", "=", ",,,"] {
            assert_eq!(choose(&[bad]), None, "{bad:?}");
        }
        assert_eq!(choose(&[r#"Bearer realm="unclosed"#]), bearer("unclosed", None));
    }
}
