//! The registry, with and without what sets real ones apart.

use std::thread;
use std::time::Duration;

use quorate_bed::client::{Response, get, manifest, put_manifest, send};
use quorate_bed::image::{Image, MANIFEST, digest, minimal_elf};
use quorate_bed::{Auth, Registry, RegistryOptions};
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn image() -> Image {
    let app = minimal_elf("amd64");
    Image::build("linux", "amd64", None, &[("app", &app, 0o755)])
}

fn json_of(response: &Response) -> Value {
    serde_json::from_slice(&response.body).expect("JSON")
}

/// A manifest of the given type that refers to another.
fn referrer(image: &Image, artifact_type: &str, number: usize) -> Vec<u8> {
    let own: Value = serde_json::from_slice(&image.manifest).expect("JSON");
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": artifact_type,
        "config": own["config"],
        "layers": own["layers"],
        "subject": {
            "mediaType": MANIFEST,
            "digest": image.manifest_digest,
            "size": image.manifest.len(),
        },
        "annotations": {"number": number.to_string()},
    })
    .to_string()
    .into_bytes()
}

fn put(host: &str, path: &str, media_type: &str, bytes: &[u8]) -> Response {
    send(host, "PUT", path, &[("Content-Type", media_type)], bytes).expect("an answer")
}

#[test]
fn what_is_pushed_comes_back_byte_for_byte() {
    let registry = Registry::start(RegistryOptions::default());
    let host = registry.host();
    let image = image();
    let pushed = image.push(&host, "team/app", "v1").expect("pushed");
    assert_eq!(pushed, digest(&image.manifest));
    for reference in ["v1", &pushed] {
        let response = manifest(&host, "team/app", reference).expect("an answer");
        assert_eq!(response.status, 200);
        assert_eq!(response.body, image.manifest);
        assert_eq!(response.header("docker-content-digest"), Some(&*pushed));
        assert_eq!(response.header("content-type"), Some(MANIFEST));
    }
    for (digest, bytes) in [(&image.layer_digest, &image.layer), (&image.config_digest, &image.config)] {
        let path = format!("/v2/team/app/blobs/{digest}");
        assert_eq!(get(&host, &path, None).expect("an answer").body, *bytes);
    }
    let compressed = image.gzip(6);
    let pushed = compressed.push(&host, "team/app", &compressed.manifest_digest);
    assert_eq!(pushed.expect("pushed"), compressed.manifest_digest);
}

#[test]
fn an_index_keeps_its_bytes() {
    let registry = Registry::start(RegistryOptions::default());
    let host = registry.host();
    let image = image();
    let child = image.push(&host, "app", "v1-amd64").expect("pushed");
    let index = format!(
        "{{ \"schemaVersion\":2,\n\"mediaType\":\"{INDEX}\",\"manifests\":[{{\"size\":{},\
         \"digest\":\"{child}\",\"mediaType\":\"{MANIFEST}\"}}] }}",
        image.manifest.len()
    );
    let status = put_manifest(&host, "app", "v1", INDEX, index.as_bytes());
    assert_eq!(status.expect("an answer"), 201);
    let response = manifest(&host, "app", "v1").expect("an answer");
    assert_eq!(response.body, index.as_bytes());
    assert_eq!(response.header("content-type"), Some(INDEX));
}

#[test]
fn referrers_are_listed() {
    let registry = Registry::start(RegistryOptions::default());
    let host = registry.host();
    let image = image();
    image.push(&host, "app", "v1").expect("pushed");
    let bytes = referrer(&image, "application/x.test", 1);
    let path = format!("/v2/app/manifests/{}", digest(&bytes));
    let response = put(&host, &path, MANIFEST, &bytes);
    assert_eq!(response.status, 201);
    assert_eq!(response.header("oci-subject"), Some(&*image.manifest_digest));
    let path = format!("/v2/app/referrers/{}", image.manifest_digest);
    let response = get(&host, &path, None).expect("an answer");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some(INDEX));
    let listed = json_of(&response);
    assert_eq!(listed["manifests"][0]["digest"], digest(&bytes));
    assert_eq!(listed["manifests"][0]["artifactType"], "application/x.test");
}

#[test]
fn without_the_referrers_api_there_is_no_trace_of_it() {
    let registry = Registry::start(RegistryOptions { referrers: false, ..Default::default() });
    let host = registry.host();
    let image = image();
    image.push(&host, "app", "v1").expect("pushed");
    let bytes = referrer(&image, "application/x.test", 1);
    let path = format!("/v2/app/manifests/{}", digest(&bytes));
    let response = put(&host, &path, MANIFEST, &bytes);
    assert_eq!(response.status, 201);
    assert_eq!(response.header("oci-subject"), None);
    let path = format!("/v2/app/referrers/{}", image.manifest_digest);
    let response = get(&host, &path, None).expect("an answer");
    assert_eq!(response.status, 404);
    assert_eq!(response.body, b"404 page not found\n");
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    let head = send(&host, "HEAD", &path, &[], &[]).expect("an answer");
    assert_eq!(head.status, 404);
    // The old way is open: a tag named after the subject.
    let tag = image.manifest_digest.replace(':', "-");
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": digest(&bytes), "size": bytes.len()},
    ]})
    .to_string();
    let status = put_manifest(&host, "app", &tag, INDEX, index.as_bytes());
    assert_eq!(status.expect("an answer"), 201);
}

#[test]
fn referrers_come_in_pages() {
    let registry = Registry::start(RegistryOptions { referrers_page: Some(2), ..Default::default() });
    let host = registry.host();
    let image = image();
    image.push(&host, "app", "v1").expect("pushed");
    let mut expected = Vec::new();
    for number in 0..5 {
        let bytes = referrer(&image, "application/x.test", number);
        let path = format!("/v2/app/manifests/{}", digest(&bytes));
        assert_eq!(put(&host, &path, MANIFEST, &bytes).status, 201);
        expected.push(digest(&bytes));
    }
    let other = referrer(&image, "application/x.other", 9);
    let path = format!("/v2/app/manifests/{}", digest(&other));
    assert_eq!(put(&host, &path, MANIFEST, &other).status, 201);

    let mut next =
        Some(format!("/v2/app/referrers/{}?artifactType=application%2Fx.test", image.manifest_digest));
    let (mut found, mut pages) = (Vec::new(), Vec::new());
    while let Some(path) = next {
        let response = get(&host, &path, None).expect("an answer");
        assert_eq!(response.status, 200);
        assert_eq!(response.header("oci-filters-applied"), Some("artifactType"));
        let page = json_of(&response);
        let page = page["manifests"].as_array().expect("a list");
        pages.push(page.len());
        found.extend(page.iter().map(|m| m["digest"].as_str().map(str::to_owned)));
        next = response.header("link").map(|link| {
            link.strip_prefix('<')
                .and_then(|rest| rest.strip_suffix(">; rel=\"next\""))
                .expect("a link to the next page")
                .to_owned()
        });
    }
    assert_eq!(pages, [2, 2, 1]);
    let mut found: Vec<String> = found.into_iter().flatten().collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_strict_registry_wants_the_media_type_named() {
    let registry = Registry::start(RegistryOptions { strict_accept: true, ..Default::default() });
    let host = registry.host();
    let image = image();
    let child = image.push(&host, "app", "v1-amd64").expect("pushed");
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": child, "size": image.manifest.len()},
    ]})
    .to_string();
    put_manifest(&host, "app", "v1", INDEX, index.as_bytes()).expect("an answer");
    let path = "/v2/app/manifests/v1";
    for accept in [None, Some("*/*"), Some(MANIFEST)] {
        let response = get(&host, path, accept).expect("an answer");
        assert_eq!(response.status, 404, "{accept:?}");
        let error = json_of(&response);
        assert_eq!(error["errors"][0]["code"], "MANIFEST_UNKNOWN");
        assert_eq!(
            error["errors"][0]["message"],
            "OCI index found, but accept header does not support OCI indexes"
        );
    }
    let lines = [("Accept", MANIFEST), ("Accept", INDEX)];
    for method in ["GET", "HEAD"] {
        let several = send(&host, method, path, &lines, &[]).expect("an answer");
        assert_eq!(several.status, 200, "{method}, in a line of its own");
        let none = send(&host, method, path, &[], &[]).expect("an answer");
        assert_eq!(none.status, 404, "{method}");
    }
    let one = format!("{MANIFEST};q=0.5, {INDEX}");
    assert_eq!(get(&host, path, Some(&one)).expect("an answer").status, 200);
    assert_eq!(registry.log().last().expect("a request").accept, [one]);
}

#[test]
fn basic_credentials_are_asked_for() {
    let registry = Registry::start(RegistryOptions {
        auth: Auth::Basic { user: "builder".into(), password: "secret".into() },
        ..Default::default()
    });
    let host = registry.host();
    let refused = get(&host, "/v2/", None).expect("an answer");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("www-authenticate"), Some("Basic realm=\"quorate-bed\""));
    assert_eq!(json_of(&refused)["errors"][0]["code"], "UNAUTHORIZED");
    assert!(image().push(&host, "app", "v1").is_err());
    // builder:wrong
    let wrong = [("Authorization", "Basic YnVpbGRlcjp3cm9uZw==")];
    let refused = send(&host, "GET", "/v2/", &wrong, &[]).expect("an answer");
    assert_eq!(refused.status, 401);
    // builder:secret
    let right = "Basic YnVpbGRlcjpzZWNyZXQ=";
    assert_eq!(registry.authorization().as_deref(), Some(right));
    let pushed = image().push_as(Some(right), &host, "app", "v1");
    assert_eq!(pushed.expect("pushed"), image().manifest_digest);
    let log = registry.log();
    assert!(!log[0].authorization && log.last().expect("a request").authorization);
}

fn bearer(lifetime: Duration, anonymous_pull: bool) -> Registry {
    Registry::start(RegistryOptions {
        auth: Auth::Bearer { user: "builder".into(), password: "secret".into(), lifetime, anonymous_pull },
        ..Default::default()
    })
}

fn with_token(host: &str, method: &str, path: &str, token: &str) -> Response {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", MANIFEST)];
    send(host, method, path, &headers, &[]).expect("an answer")
}

fn token(host: &str, query: &str, credentials: Option<&str>) -> Response {
    let headers: Vec<_> = credentials.map(|value| ("Authorization", value)).into_iter().collect();
    send(host, "GET", &format!("/token?{query}"), &headers, &[]).expect("an answer")
}

fn token_of(response: &Response) -> String {
    assert_eq!(response.status, 200);
    let body = json_of(response);
    assert_eq!(body["token"], body["access_token"]);
    body["token"].as_str().expect("a token").to_owned()
}

const CREDENTIALS: &str = "Basic YnVpbGRlcjpzZWNyZXQ=";

#[test]
fn a_challenge_names_what_a_token_must_allow() {
    let registry = bearer(Duration::from_secs(60), false);
    let host = registry.host();
    let challenge = |method: &str, path: &str| {
        let refused = send(&host, method, path, &[], &[]).expect("an answer");
        assert_eq!(refused.status, 401);
        refused.header("www-authenticate").expect("a challenge").to_owned()
    };
    let realm = format!("Bearer realm=\"http://{host}/token\",service=\"{host}\"");
    assert_eq!(challenge("GET", "/v2/"), realm);
    assert_eq!(
        challenge("GET", "/v2/team/app/manifests/v1"),
        format!("{realm},scope=\"repository:team/app:pull\"")
    );
    assert_eq!(
        challenge("PUT", "/v2/team/app/manifests/v1"),
        format!("{realm},scope=\"repository:team/app:pull,push\"")
    );
    assert_eq!(
        challenge("POST", "/v2/app/blobs/uploads/?mount=sha256:00&from=team%2Fapp"),
        format!("{realm},scope=\"repository:app:pull,push repository:team/app:pull\"")
    );
    assert_eq!(
        challenge("DELETE", "/v2/app/manifests/sha256:00"),
        format!("{realm},scope=\"repository:app:delete\"")
    );
}

#[test]
fn a_token_allows_what_it_was_asked_for() {
    let registry = bearer(Duration::from_secs(60), false);
    let host = registry.host();
    let full = registry.authorization();
    image().push_as(full.as_deref(), &host, "team/app", "v1").expect("pushed");
    image().push_as(full.as_deref(), &host, "team/base", "v1").expect("pushed");

    assert_eq!(token(&host, "scope=repository:team/app:pull", None).status, 401);
    let wrong = Some("Basic YnVpbGRlcjp3cm9uZw==");
    assert_eq!(token(&host, "", wrong).status, 401);

    let (app, base) = ("/v2/team/app/manifests/v1", "/v2/team/base/manifests/v1");
    let narrow = token(&host, "service=x&scope=repository%3Ateam%2Fapp%3Apull", Some(CREDENTIALS));
    assert_eq!(json_of(&narrow)["expires_in"], 60);
    let narrow = token_of(&narrow);
    assert_eq!(with_token(&host, "GET", app, &narrow).status, 200);
    for (method, path) in [("GET", base), ("PUT", app)] {
        let refused = with_token(&host, method, path, &narrow);
        assert_eq!(refused.status, 401);
        let challenge = refused.header("www-authenticate").expect("a challenge");
        assert!(challenge.ends_with(",error=\"insufficient_scope\""));
    }
    for query in [
        "scope=repository:team/app:pull,push&scope=repository:team/base:pull",
        "scope=repository:team/app:pull,push+repository:team/base:pull",
    ] {
        let wide = token_of(&token(&host, query, Some(CREDENTIALS)));
        assert_eq!(with_token(&host, "GET", app, &wide).status, 200);
        assert_eq!(with_token(&host, "GET", base, &wide).status, 200);
        assert_ne!(with_token(&host, "PUT", app, &wide).status, 401);
        assert_eq!(with_token(&host, "PUT", base, &wide).status, 401);
    }
}

#[test]
fn anyone_may_be_allowed_to_pull() {
    let registry = bearer(Duration::from_secs(60), true);
    let host = registry.host();
    let full = registry.authorization();
    image().push_as(full.as_deref(), &host, "app", "v1").expect("pushed");
    let path = "/v2/app/manifests/v1";
    assert_eq!(get(&host, path, None).expect("an answer").status, 401);
    let anonymous = token_of(&token(&host, "scope=repository:app:pull,push", None));
    assert_eq!(with_token(&host, "GET", path, &anonymous).status, 200);
    assert_eq!(with_token(&host, "PUT", path, &anonymous).status, 401);
}

#[test]
fn a_token_expires() {
    let registry = bearer(Duration::from_secs(1), false);
    let host = registry.host();
    let scope = "scope=repository:app:pull";
    let path = "/v2/app/tags/list";
    let short = token_of(&token(&host, scope, Some(CREDENTIALS)));
    assert_eq!(with_token(&host, "GET", path, &short).status, 200);
    thread::sleep(Duration::from_millis(1050));
    let refused = with_token(&host, "GET", path, &short);
    assert_eq!(refused.status, 401);
    let challenge = refused.header("www-authenticate").expect("a challenge");
    assert!(challenge.ends_with(",error=\"invalid_token\""));
    let fresh = token_of(&token(&host, scope, Some(CREDENTIALS)));
    assert_eq!(with_token(&host, "GET", path, &fresh).status, 200);
    registry.expire_tokens();
    assert_eq!(with_token(&host, "GET", path, &fresh).status, 401);
}

#[test]
fn requests_are_remembered_in_order() {
    let registry = Registry::start(RegistryOptions::default());
    let host = registry.host();
    image().push(&host, "app", "v1").expect("pushed");
    assert_eq!(registry.writes().len(), 5, "two blobs and a manifest");
    assert_eq!(registry.writes()[4].path, "/v2/app/manifests/v1");
    assert_eq!(registry.writes()[4].status, Some(201));
    registry.clear_log();
    assert!(registry.log().is_empty());

    get(&host, "/v2/app/tags/list?n=5", Some("text/plain")).expect("an answer");
    send(&host, "HEAD", "/v2/app/manifests/none", &[], &[]).expect("an answer");
    let log = registry.log();
    let seen: Vec<_> =
        log.iter().map(|r| (r.method.as_str(), r.path.as_str(), r.query.as_deref(), r.status)).collect();
    assert_eq!(
        seen,
        [
            ("GET", "/v2/app/tags/list", Some("n=5"), Some(200)),
            ("HEAD", "/v2/app/manifests/none", None, Some(404)),
        ]
    );
    assert_eq!(log[0].accept, ["text/plain"]);
    assert!(log[0].ended.expect("answered") <= log[1].started);
    assert!(registry.writes().is_empty());
}

#[test]
fn depth_counts_what_a_client_waits_for() {
    let registry =
        Registry::start(RegistryOptions { latency: Duration::from_millis(300), ..Default::default() });
    let host = registry.host();
    assert_eq!(registry.depth(), 0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| get(&host, "/v2/", None).expect("an answer"));
        }
    });
    assert_eq!(registry.log().len(), 3);
    assert_eq!(registry.depth(), 1);
    registry.clear_log();
    for _ in 0..3 {
        get(&host, "/v2/", None).expect("an answer");
    }
    assert_eq!(registry.depth(), 3);
    let spent = registry.log()[0].started.elapsed();
    assert!(spent >= Duration::from_millis(900), "{spent:?}");
}

#[test]
fn a_registry_ends_when_it_is_dropped() {
    let registry = Registry::start(RegistryOptions::default());
    let host = registry.host();
    assert_eq!(get(&host, "/v2/", None).expect("an answer").status, 200);
    drop(registry);
    let gone = (0..50).any(|_| {
        thread::sleep(Duration::from_millis(20));
        get(&host, "/v2/", None).is_err()
    });
    assert!(gone);
}
