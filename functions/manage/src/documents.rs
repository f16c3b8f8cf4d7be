//! What is open to all: health, the page of every problem, and the API's description.

use holdfast_app::problem::{Problem, ProblemCode};
use holdfast_lambda::http::{Request, Response, Routed};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, VARY};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::description;
use crate::routes::{Open, Route};

/// Pages change with a deployment alone.
pub(crate) const CACHE_AN_HOUR: &str = "public, max-age=3600";

/// A page loads nothing and runs nothing.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

const STYLE: &str = "body{font-family:system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;\
    line-height:1.5}code{background:#8882;padding:.1rem .3rem;border-radius:.2rem}";

pub(crate) fn answer(call: Open, request: &Request, routed: &Routed<Route>) -> Result<Response, Problem> {
    match call {
        Open::Health => Ok(Response::json(StatusCode::OK, &json!({"status": "ok"}))),
        Open::Problems => {
            let all: Vec<Value> = ProblemCode::ALL.iter().map(|code| described(*code)).collect();
            Ok(document(request, &json!({"data": all, "next_cursor": null}), list_page))
        }
        Open::Problem => {
            let code = ProblemCode::parse(routed.parameter("code"))
                .ok_or_else(|| Problem::new(ProblemCode::NotFound, "There is no problem of this code."))?;
            Ok(document(request, &described(code), || problem_page(code)))
        }
        Open::Description => description::description(request),
        Open::Page => Ok(description::page()),
        Open::PageAsset => description::asset(request, routed.parameter("asset")),
    }
}

/// A document as a page for those who ask for one, as JSON for all others.
fn document(request: &Request, json: &Value, page: impl FnOnce() -> String) -> Response {
    let response = if request.accepts("text/html") {
        Response::empty(StatusCode::OK)
            .with_body(HTML, page())
            .with_header(CONTENT_SECURITY_POLICY, PAGE_POLICY)
    } else {
        Response::json(StatusCode::OK, json)
    };
    response.with_header(CACHE_CONTROL, CACHE_AN_HOUR).with_header(VARY, "Accept")
}

fn described(code: ProblemCode) -> Value {
    json!({
        "type": format!("/problems/{}", code.as_str()),
        "code": code.as_str(),
        "status": code.status(),
        "title": code.title(),
        "description": code.about(),
    })
}

fn problem_page(code: ProblemCode) -> String {
    let body = format!(
        "<h1>{}</h1>\n<p><code>{}</code>, HTTP status {}</p>\n<p>{}</p>\n<p><a href=\"/problems\">All problems</a></p>",
        escaped(code.title()),
        code.as_str(),
        code.status(),
        escaped(code.about()),
    );
    page(code.title(), &body)
}

fn list_page() -> String {
    let items: Vec<String> = ProblemCode::ALL
        .iter()
        .map(|code| {
            let (name, title) = (code.as_str(), escaped(code.title()));
            format!(
                "<li>{} <a href=\"/problems/{name}\"><code>{name}</code></a>: {title}</li>",
                code.status()
            )
        })
        .collect();
    page("Problems", &format!("<h1>Problems</h1>\n<ul>\n{}\n</ul>", items.join("\n")))
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{} - Holdfast</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n",
        escaped(title)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
