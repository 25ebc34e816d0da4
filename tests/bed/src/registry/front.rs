//! Passing requests on to a registry that runs elsewhere.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{Method, Response, StatusCode};

use crate::client::{self, send};

/// Sends the request to the registry `to`, which is told that it is reached as `front`.
pub(super) async fn pass(
    to: Arc<String>,
    front: Arc<String>,
    request: http::Request<Bytes>,
) -> Response<Bytes> {
    let asked_head = request.method() == Method::HEAD;
    let passed = tokio::task::spawn_blocking(move || {
        let mut headers = vec![("X-Forwarded-Host", front.as_str()), ("X-Forwarded-Proto", "http")];
        for name in [ACCEPT, AUTHORIZATION, CONTENT_TYPE] {
            let values = request.headers().get_all(&name).iter();
            let shown = match name {
                ACCEPT => "Accept",
                AUTHORIZATION => "Authorization",
                _ => "Content-Type",
            };
            headers.extend(values.filter_map(|value| Some((shown, value.to_str().ok()?))));
        }
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        send(&to, request.method().as_str(), path, &headers, request.body())
    });
    match passed.await.expect("the client does not panic") {
        Ok(answer) => answered(&answer, asked_head),
        Err(_) => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

fn answered(answer: &client::Response, asked_head: bool) -> Response<Bytes> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        let ours = [CONNECTION, TRANSFER_ENCODING].iter().any(|header| header.as_str() == name)
            || (*name == CONTENT_LENGTH.as_str() && !asked_head);
        if !ours {
            response = response.header(name, value);
        }
    }
    response.body(answer.body.clone().into()).expect("what came as an answer is one")
}
