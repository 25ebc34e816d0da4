//! What the specification lets a registry do, and the one below does not: mounting blobs, several
//! tags in one push, removing a tag by its name.

use std::collections::HashSet;
use std::sync::Mutex;

use axum::Router;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use serde_json::{Value, json};

use super::RegistryOptions;
use crate::server::{answer, call};

/// The paths `/v2/<name>/manifests/<tag>` that were removed.
#[derive(Default)]
pub(super) struct Extras(Mutex<HashSet<String>>);

impl Extras {
    pub(super) async fn answer(
        &self,
        router: &Router,
        options: &RegistryOptions,
        request: Request<Bytes>,
    ) -> Response<Bytes> {
        let path = request.uri().path().to_owned();
        let parameters = |wanted: &str| {
            let query = request.uri().query().unwrap_or_default();
            let all = form_urlencoded::parse(query.as_bytes());
            all.filter(|(name, _)| name == wanted).map(|(_, value)| value.into_owned()).collect::<Vec<_>>()
        };
        if *request.method() == Method::POST
            && let Some((repository, digest)) = parameters("from").first().zip(parameters("mount").first())
            && options.mount
        {
            let blob = format!("/v2/{repository}/blobs/{digest}");
            if call(router.clone(), bare(Method::HEAD, &blob)).await.status() == StatusCode::OK {
                // The store below is one for all repositories.
                let mut response = answer(StatusCode::CREATED, "text/plain", "");
                let here = path.replace("uploads/", digest);
                response.headers_mut().insert(LOCATION, value(&here));
                response.headers_mut().insert("docker-content-digest", value(digest));
                return response;
            }
        }
        let tags = parameters("tag");
        if *request.method() == Method::PUT && options.tag_parameters && !tags.is_empty() {
            let mut response = call(router.clone(), at(&request, &path)).await;
            if response.status() == StatusCode::CREATED {
                let (manifests, _) = path.rsplit_once('/').expect("a manifest has a path");
                for tag in tags {
                    let path = format!("{manifests}/{tag}");
                    call(router.clone(), at(&request, &path)).await;
                    self.removed().remove(&path);
                    response.headers_mut().append("oci-tag", value(&tag));
                }
            }
            return response;
        }
        let is_tag = path.contains("/manifests/") && !path.contains("/manifests/sha256:");
        if is_tag && *request.method() == Method::PUT {
            self.removed().remove(&path);
        }
        if is_tag && self.removed().contains(&path) {
            return unknown();
        }
        if is_tag && *request.method() == Method::DELETE && options.tag_deletion {
            let found = call(router.clone(), bare(Method::GET, &path)).await.status().is_success();
            if !found {
                return unknown();
            }
            self.removed().insert(path);
            return answer(StatusCode::ACCEPTED, "text/plain", "");
        }
        let mut response = call(router.clone(), request).await;
        if let Some(repository) = path.strip_suffix("/tags/list")
            && response.status() == StatusCode::OK
        {
            self.hide_removed(&format!("{repository}/manifests"), &mut response);
        }
        response
    }

    fn hide_removed(&self, manifests: &str, response: &mut Response<Bytes>) {
        let mut list: Value = serde_json::from_slice(response.body()).expect("a list of tags is JSON");
        if let Some(tags) = list["tags"].as_array_mut() {
            let removed = self.removed();
            tags.retain(|tag| {
                !removed.contains(&format!("{manifests}/{}", tag.as_str().unwrap_or_default()))
            });
        }
        response.headers_mut().remove(CONTENT_LENGTH);
        *response.body_mut() = list.to_string().into();
    }

    fn removed(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().expect("no path panics")
    }
}

/// The same request for another path, without a query.
fn at(request: &Request<Bytes>, path: &str) -> Request<Bytes> {
    let mut request = request.clone();
    *request.uri_mut() = path.parse::<Uri>().expect("a path is a URI");
    request
}

fn bare(method: Method, path: &str) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().expect("a path is a URI");
    request
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a path, digest or tag is a header value")
}

fn unknown() -> Response<Bytes> {
    let body = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]});
    answer(StatusCode::NOT_FOUND, "application/json", body.to_string())
}
