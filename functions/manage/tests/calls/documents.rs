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
