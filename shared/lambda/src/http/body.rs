//! Bodies of requests as JSON.

use holdfast_app::problem::{Problem, ProblemCode};
use http::header::CONTENT_TYPE;
use serde_json::Value;
use serde_json::error::Category;

use super::Request;

/// The largest body, in bytes: 64 KiB.
pub const MAX_BODY_BYTES: usize = 65_536;

/// The body of a request as JSON. The size is looked at first, then the media type, then the text;
/// nesting beyond 128 levels is malformed.
pub fn json_body(request: &Request) -> Result<Value, Problem> {
    json_body_up_to(request, MAX_BODY_BYTES)
}

/// The same for a call whose bodies may be larger, or have to be smaller.
pub fn json_body_up_to(request: &Request, max_bytes: usize) -> Result<Value, Problem> {
    if request.body.len() > max_bytes {
        let detail = format!("The body has {} bytes; at most {max_bytes} are allowed.", request.body.len());
        return Err(Problem::new(ProblemCode::BodyTooLarge, detail));
    }
    if request.body.is_empty() {
        return Err(Problem::new(ProblemCode::MissingBody, "The request has no body."));
    }
    require_json(request)?;
    let text = std::str::from_utf8(&request.body).map_err(|error| {
        let detail = format!("The body is not UTF-8: the byte at {} cannot be read.", error.valid_up_to());
        Problem::new(ProblemCode::MalformedJson, detail)
    })?;
    serde_json::from_str(text).map_err(|error| malformed(&error))
}

fn require_json(request: &Request) -> Result<(), Problem> {
    let refused = |detail: &str| Problem::new(ProblemCode::UnsupportedMediaType, detail);
    let content_type = request
        .headers
        .get(CONTENT_TYPE)
        .ok_or_else(|| refused("There is no Content-Type; send application/json."))?;
    let content_type = content_type.to_str().map_err(|_| refused("The Content-Type cannot be read."))?;
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"));
    let is_utf8 = parts.filter(|parameter| !parameter.is_empty()).all(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        name.eq_ignore_ascii_case("charset") && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    if is_json && is_utf8 {
        Ok(())
    } else {
        Err(refused("The Content-Type is not application/json, with no charset or with UTF-8."))
    }
}

/// Names the place alone: the parser's message may repeat parts of the body.
fn malformed(error: &serde_json::Error) -> Problem {
    let what = match error.classify() {
        Category::Eof => "ends too early",
        Category::Syntax | Category::Data | Category::Io => "is not JSON",
    };
    let detail = format!("The body {what} at line {}, column {}.", error.line(), error.column());
    Problem::new(ProblemCode::MalformedJson, detail)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::request::tests::request;
    use super::*;

    fn with(content_type: Option<&'static str>, body: impl Into<bytes::Bytes>) -> Result<Value, Problem> {
        let mut request = request("POST", "/v1/x");
        request.body = body.into();
        if let Some(content_type) = content_type {
            request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        json_body(&request)
    }

    fn code(content_type: Option<&'static str>, body: impl Into<bytes::Bytes>) -> ProblemCode {
        with(content_type, body).unwrap_err().code
    }

    #[test]
    fn json_is_read_under_every_spelling_of_its_type() {
        for content_type in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/json;",
        ] {
            assert_eq!(with(Some(content_type), "{\"a\":1}").unwrap()["a"], 1, "{content_type}");
        }
    }

    #[test]
    fn other_types_are_refused() {
        for content_type in [
            None,
            Some("text/plain"),
            Some("application/problem+json"),
            Some("application/json; charset=latin1"),
            Some("application/json; profile=x"),
            Some("application/jsonx"),
        ] {
            assert_eq!(code(content_type, "{}"), ProblemCode::UnsupportedMediaType, "{content_type:?}");
        }
    }

    #[test]
    fn size_comes_first_and_is_exact() {
        let json = Some("application/json");
        let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
        assert!(with(json, text(MAX_BODY_BYTES)).is_ok());
        assert_eq!(code(json, text(MAX_BODY_BYTES + 1)), ProblemCode::BodyTooLarge);
        assert_eq!(code(None, vec![b'{'; MAX_BODY_BYTES + 1]), ProblemCode::BodyTooLarge);
        assert_eq!(code(None, ""), ProblemCode::MissingBody);
    }

    #[test]
    fn malformed_text_is_located_and_not_repeated() {
        let json = Some("application/json");
        let problem = with(json, "{\n  \"customer\": ada\n}").unwrap_err();
        assert_eq!(problem.code, ProblemCode::MalformedJson);
        assert_eq!(problem.detail, "The body is not JSON at line 2, column 15.");
        assert_eq!(with(json, "{").unwrap_err().detail, "The body ends too early at line 1, column 1.");
        assert_eq!(code(json, vec![b'"', 0xff, b'"']), ProblemCode::MalformedJson);
        assert_eq!(code(json, "{} {}"), ProblemCode::MalformedJson);
        assert_eq!(code(json, "[".repeat(1_000) + &"]".repeat(1_000)), ProblemCode::MalformedJson);
        assert_eq!(code(json, " "), ProblemCode::MalformedJson);
    }
}
