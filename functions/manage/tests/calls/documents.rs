//! What is open to all.

use serde_json::json;

use crate::harness::Harness;

#[tokio::test(start_paused = true)]
async fn health_needs_no_key() {
    let answer = Harness::new().call("GET", "/health", None, None).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"status": "ok"})));
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["x-request-id"], "request-1");
}

#[tokio::test(start_paused = true)]
async fn every_problem_has_a_page_and_a_document() {
    let harness = Harness::new();
    let list = harness.call("GET", "/problems", None, None).await;
    let problems = list.body["data"].as_array().unwrap().clone();
    assert!(problems.len() > 20);
    for problem in problems {
        let path = problem["type"].as_str().unwrap();
        let document = harness.call("GET", path, None, None).await;
        assert_eq!((document.status, &document.body), (200, &problem));
        assert_eq!(document.headers["content-type"], "application/json");
        let browser = json!({"accept": "text/html,*/*;q=0.8"});
        let page = harness.call_with("GET", path, &browser, None).await;
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
        assert!(page.text.contains(problem["code"].as_str().unwrap()), "{}", page.text);
        assert_eq!(page.headers["vary"], "Accept");
    }
    let page = harness.call_with("GET", "/problems", &json!({"accept": "text/html"}), None).await;
    assert!(page.text.starts_with("<!doctype html>"));
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_is_a_problem_document() {
    let harness = Harness::new();
    for (method, path, status, code) in [
        ("GET", "/problems/nothing", 404, "not_found"),
        ("GET", "/nowhere", 404, "route_not_found"),
        ("GET", "/v1/admin/consumers/", 404, "route_not_found"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("PATCH", "/v1/admin/consumers/a", 405, "method_not_allowed"),
    ] {
        let answer = harness.call(method, path, None, None).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{method} {path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.body["request_id"], "request-1");
    }
    let answer = harness.call("PATCH", "/v1/admin/consumers/a", None, None).await;
    assert_eq!(answer.headers["allow"], "DELETE, GET, HEAD, PUT");
}

#[tokio::test(start_paused = true)]
async fn the_page_of_the_api_has_all_its_parts_here() {
    let harness = Harness::new();
    let page = harness.call("GET", "/docs", None, None).await;
    assert_eq!((page.status, &page.headers["content-type"]), (200, &json!("text/html; charset=utf-8")));
    let policy = page.headers["content-security-policy"].as_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    let named = |text: &str| {
        let parts = text.split('"').filter(|part| part.contains('/') && !part.contains(['<', ' ']));
        parts.map(|part| format!("/{part}")).collect::<Vec<_>>()
    };
    let mut parts = named(&page.text);
    assert_eq!(parts.len(), 4, "{parts:?}");
    parts.extend(named(&harness.call("GET", "/docs/start.js", None, None).await.text));
    assert_eq!(parts.len(), 5, "{parts:?}");
    for part in parts {
        let plain = harness.call("GET", &part, None, None).await;
        assert_eq!(
            (plain.status, &plain.headers["cache-control"]),
            (200, &json!("public, max-age=3600")),
            "{part}"
        );
        assert!(!plain.text.is_empty() && plain.headers.get("content-encoding").is_none(), "{part}");
    }
    let packed = json!({"accept-encoding": "gzip"});
    let packed = harness.call_with("GET", "/docs/swagger-ui-bundle.js", &packed, None).await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let missing = harness.call("GET", "/docs/elsewhere.js", None, None).await;
    assert_eq!((missing.status, missing.code()), (404, "not_found"));
}

#[tokio::test(start_paused = true)]
async fn the_description_is_json() {
    let description = Harness::new().call("GET", "/v1/openapi.json", None, None).await;
    assert_eq!(description.headers["content-type"], "application/json");
    assert_eq!(description.body["openapi"], "3.1.0");
    assert!(description.body["paths"]["/v1/bookings"]["post"].is_object());
}
