//! Lists that come in pages (RFC 8288; distribution-spec, "Listing Tags", "Listing Referrers").

use std::collections::HashSet;

use reqwest::header::LINK;
use url::Url;

use super::error::{Asked, Error};
use super::transport::{Answer, Call};

/// Pages of one list.
const MAX_PAGES: usize = 20;

/// Walks from page to page of one list, and nowhere else.
pub(super) struct Pages {
    /// The request for the first page.
    first: Call,
    /// What is listed, for errors.
    what: String,
    next: Option<Url>,
    asked: HashSet<Url>,
}

impl Pages {
    pub(super) fn new(first: Call, what: String) -> Self {
        Self { next: Some(first.url.clone()), first, what, asked: HashSet::new() }
    }

    /// The request for the next page, if there is one.
    ///
    /// # Errors
    /// [`Error::TooMany`] after the last page that is read of any list.
    pub(super) fn next(&mut self) -> Result<Option<Call>, Error> {
        let Some(url) = self.next.take() else {
            return Ok(None);
        };
        if self.asked.len() == MAX_PAGES {
            return Err(Error::TooMany { what: format!("pages of {}", self.what), limit: MAX_PAGES });
        }
        self.asked.insert(url.clone());
        Ok(Some(Call { url, ..self.first.clone() }))
    }

    /// Whether no more than one page was asked for.
    pub(super) fn is_first(&self) -> bool {
        self.asked.len() == 1
    }

    /// Reads from the answer where the list goes on.
    pub(super) fn turn(&mut self, answer: &Answer, asked: &Asked) -> Result<(), Error> {
        self.next = next_page(&self.first.url, answer, asked)?;
        match &self.next {
            Some(url) if self.asked.contains(url) => Err(Error::Malformed {
                asked: asked.clone(),
                why: "the link to the next page leads back to one that was read".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// The target of each link of a header value, and its parameters with their names; `None` where it is
/// malformed. A comma may stand in a target, and all but a quote in a quoted parameter.
fn links(mut text: &str) -> Option<Vec<(&str, Vec<&str>)>> {
    let mut links = Vec::new();
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        if text.is_empty() {
            return Some(links);
        }
        let (target, rest) = text.strip_prefix('<')?.split_once('>')?;
        let (mut parameters, mut from, mut end) = (Vec::new(), 0, rest.len());
        let (mut quoted, mut escaped) = (false, false);
        for (at, c) in rest.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                ';' | ',' if !quoted => {
                    parameters.push(&rest[from..at]);
                    from = at + 1;
                    if c == ',' {
                        end = at;
                        break;
                    }
                }
                _ => {}
            }
        }
        if quoted {
            return None;
        }
        if end == rest.len() {
            parameters.push(&rest[from..]);
        }
        links.push((target, parameters));
        text = &rest[end..];
    }
}

/// `Link: <…>; rel="next"` (RFC 8288), which must stay with this list.
fn next_page(first: &Url, answer: &Answer, asked: &Asked) -> Result<Option<Url>, Error> {
    let none = || Error::Malformed { asked: asked.clone(), why: "a Link header that is none".to_owned() };
    let values = answer.headers.get_all(LINK).iter().map(|value| value.to_str().ok().and_then(links));
    for (target, parameters) in values.collect::<Option<Vec<_>>>().ok_or_else(none)?.concat() {
        let is_next = parameters.iter().any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((*parameter, ""));
            name.trim().eq_ignore_ascii_case("rel")
                && value
                    .trim()
                    .trim_matches('"')
                    .split_ascii_whitespace()
                    .any(|rel| rel.eq_ignore_ascii_case("next"))
        });
        if !is_next {
            continue;
        }
        let next = first.join(target).map_err(|_| Error::Malformed {
            asked: asked.clone(),
            why: "the link to the next page is no URL".to_owned(),
        })?;
        if next.origin() != first.origin()
            || next.path() != first.path()
            || !next.username().is_empty()
            || next.password().is_some()
        {
            return Err(Error::Redirect {
                asked: asked.clone(),
                to: format!("{}://{}", next.scheme(), next.host_str().unwrap_or_default()),
                why: "the next page of a list must belong to the same list",
            });
        }
        return Ok(Some(next));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::links;

    #[test]
    fn links_are_told_apart_however_they_are_written() {
        let two = Some(vec![("/a?x=1,2", vec!["", " rel=\"last\""]), ("/b", vec!["", " rel=next"])]);
        for written in [
            "</a?x=1,2>; rel=\"last\",</b>; rel=next",
            "</a?x=1,2>; rel=\"last\", </b>; rel=next",
            ", </a?x=1,2>; rel=\"last\",\t</b>; rel=next,",
        ] {
            assert_eq!(links(written), two, "{written}");
        }
        // What is quoted is no parameter, and no link.
        for title in ["title=\"b, <c>; rel=next\"", r#"title="b\", <c>; rel=next""#] {
            let titled = format!("</a>; {title}; rel=prev");
            let parameter = format!(" {title}");
            let read = links(&titled).unwrap();
            assert_eq!(read, [("/a", vec!["", &parameter, " rel=prev"])]);
        }
        assert_eq!(links(""), Some(Vec::new()));
        for bad in [
            "rel=next",
            "/a>; rel=next",
            "</a; rel=next",
            "</a>; rel=prev, rel=next",
            "</a>; title=\"b, </c>; rel=next",
        ] {
            assert_eq!(links(bad), None, "{bad}");
        }
    }
}
