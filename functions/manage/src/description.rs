//! The API's description (`GET /v1/openapi.json`) and the page that shows it (`GET /docs`).
//!
//! Everything comes from this function: the page loads nothing from elsewhere.

use std::io::Read;

use flate2::read::GzDecoder;
use holdfast_app::problem::{Problem, ProblemCode};
use holdfast_lambda::http::{Codings, Request, Response};
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, VARY};
use http::{HeaderValue, StatusCode};

use crate::documents::CACHE_AN_HOUR;

/// The page runs what comes from here, and calls the API that it was loaded from. Swagger UI sets styles on elements
/// and has its pictures inline.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

const DESCRIPTION: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"));
const BUNDLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz"));
const STYLES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"));

// Addresses are relative, so that the page works behind a path too.
const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Holdfast API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"><p>This page needs JavaScript. What it shows is <a href="v1/openapi.json">v1/openapi.json</a>.</p></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"#;

// Keys are not kept: a page that is left open shall not hold one for whoever comes next.
const START: &str = r##"SwaggerUIBundle({
  url: "v1/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  docExpansion: "list",
  persistAuthorization: false,
  validatorUrl: null,
});
"##;

/// The description as JSON.
pub(crate) fn description(request: &Request) -> Result<Response, Problem> {
    packed(request, JSON, DESCRIPTION)
}

/// The page.
pub(crate) fn page() -> Response {
    kept(Response::empty(StatusCode::OK).with_body(HTML, PAGE))
        .with_header(CONTENT_SECURITY_POLICY, PAGE_POLICY)
}

/// A part of the page.
pub(crate) fn asset(request: &Request, name: &str) -> Result<Response, Problem> {
    match name {
        "start.js" => Ok(kept(Response::empty(StatusCode::OK).with_body(JAVASCRIPT, START))),
        "swagger-ui-bundle.js" => packed(request, JAVASCRIPT, BUNDLE),
        "swagger-ui.css" => packed(request, CSS, STYLES),
        _ => Err(Problem::new(ProblemCode::NotFound, "The page has no such part.")),
    }
}

fn kept(response: Response) -> Response {
    response.with_header(CACHE_CONTROL, CACHE_AN_HOUR)
}

/// What is stored compressed, as the caller takes it.
fn packed(request: &Request, content_type: HeaderValue, bytes: &'static [u8]) -> Result<Response, Problem> {
    let response = kept(Response::empty(StatusCode::OK)).with_header(VARY, ACCEPT_ENCODING.as_str());
    if Codings::of(request.header(ACCEPT_ENCODING.as_str())?) == Codings::Gzip {
        return Ok(response.with_body(content_type, bytes).with_header(CONTENT_ENCODING, "gzip"));
    }
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).map_err(|error| {
        tracing::error!(%error, "A part of the documentation cannot be unpacked.");
        Problem::new(ProblemCode::Internal, "The request could not be completed.")
    })?;
    Ok(response.with_body(content_type, plain))
}
