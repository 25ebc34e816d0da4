//! What real registries do that the specification does not say.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LINK};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::RegistryOptions;
use crate::server::answer;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The answer to a request that must not reach the registry.
pub(super) fn before<B>(request: &Request<B>, options: &RegistryOptions) -> Option<Response<Bytes>> {
    (!options.referrers && is_referrers(request)).then(|| {
        // Not a JSON error: the router of distribution 2.8.2 has no such route.
        answer(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
    })
}

/// Changes the registry's answer into that of a registry with these options.
pub(super) fn after(
    request: &Request<()>,
    mut response: Response<Bytes>,
    options: &RegistryOptions,
) -> Response<Bytes> {
    if !options.referrers {
        response.headers_mut().remove("oci-subject");
    }
    if options.strict_accept
        && let Some(refusal) = unacceptable(request, &response)
    {
        return refusal;
    }
    if let Some(size) = options.referrers_page
        && is_referrers(request)
        && response.status() == StatusCode::OK
    {
        return page(request, response, size);
    }
    response
}

fn is_referrers<B>(request: &Request<B>) -> bool {
    request.uri().path().contains("/referrers/")
}

fn unacceptable(request: &Request<()>, response: &Response<Bytes>) -> Option<Response<Bytes>> {
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !read || !request.uri().path().contains("/manifests/") || !response.status().is_success() {
        return None;
    }
    let media_type = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    let message = match media_type {
        OCI_INDEX => "OCI index found, but accept header does not support OCI indexes",
        OCI_MANIFEST => "OCI manifest found, but accept header does not support OCI manifests",
        _ => return None,
    };
    let accepted = request
        .headers()
        .get_all(ACCEPT)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        // A wildcard is not a match there.
        .any(|range| range.split(';').next().unwrap_or_default().trim() == media_type);
    let body = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": message}]});
    (!accepted).then(|| answer(StatusCode::NOT_FOUND, "application/json; charset=utf-8", body.to_string()))
}

fn page(request: &Request<()>, response: Response<Bytes>, size: usize) -> Response<Bytes> {
    let (mut head, body) = response.into_parts();
    let mut index: Value = serde_json::from_slice(&body).expect("a referrers answer is an index");
    let all = index["manifests"].as_array().cloned().unwrap_or_default();
    let query = request.uri().query().unwrap_or_default();
    let mut others = form_urlencoded::Serializer::new(String::new());
    let mut start = 0;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "start" => start = value.parse().unwrap_or(0),
            _ => {
                others.append_pair(&name, &value);
            }
        }
    }
    let end = (start + size).min(all.len());
    index["manifests"] = all.get(start..end).unwrap_or_default().into();
    if end < all.len() {
        others.append_pair("start", &end.to_string());
        let next = format!("<{}?{}>; rel=\"next\"", request.uri().path(), others.finish());
        let next = HeaderValue::from_str(&next).expect("an encoded query is a header value");
        head.headers.insert(LINK, next);
    }
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, index.to_string().into())
}
