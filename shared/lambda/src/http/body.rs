//! Bodies of requests as JSON.

use holdfast_app::parse::MAX_POINTER_BYTES;
use holdfast_app::problem::{FieldError, Problem, ProblemCode};
use http::header::CONTENT_TYPE;
use serde_json::Value;
use serde_json::error::Category;

use super::Request;
use super::json::{self, JsonError};

/// The largest body, in bytes: 64 KiB.
pub const MAX_BODY_BYTES: usize = 65_536;

/// The body of a request as JSON. The size is looked at first, then the media type, then the text;
/// nesting beyond 127 levels is malformed. A member that is there twice is refused.
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
    json::read(text).map_err(|error| match error {
        JsonError::Malformed(error) => malformed(&error),
        JsonError::Repeated(pointer) => repeated(&pointer),
    })
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
    // These two are well formed, and limits of ours.
    let told = error.to_string();
    let what = match error.classify() {
        Category::Eof => "ends too early",
        _ if told.starts_with("number out of range") => "has a number beyond the range of a double",
        _ if told.starts_with("recursion limit exceeded") => "is nested more than 127 levels deep",
        Category::Syntax | Category::Data | Category::Io => "is not JSON",
    };
    let detail = format!("The body {what} at line {}, column {}.", error.line(), error.column());
    Problem::new(ProblemCode::MalformedJson, detail)
}

/// Names the member, as far as a pointer may be long.
fn repeated(pointer: &str) -> Problem {
    let end = pointer.char_indices().map(|(end, _)| end).take_while(|end| *end <= MAX_POINTER_BYTES).last();
    let pointer =
        if pointer.len() > MAX_POINTER_BYTES { &pointer[..end.unwrap_or_default()] } else { pointer };
    let error = FieldError::new(pointer, "is there twice");
    Problem::new(ProblemCode::InvalidRequest, format!("{} {}.", error.pointer, error.detail))
        .with_errors(vec![error])
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
        assert_eq!(code(json, "\u{feff}{}"), ProblemCode::MalformedJson, "a byte order mark is no JSON");
    }

    #[test]
    fn what_is_json_but_too_much_is_told_as_such() {
        let told = |body: String| with(Some("application/json"), body).unwrap_err().detail;
        assert_eq!(
            told("{\"a\": 1e400}".to_owned()),
            "The body has a number beyond the range of a double at line 1, column 11."
        );
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert_eq!(told(deep), "The body is nested more than 127 levels deep at line 1, column 128.");
    }

    #[test]
    fn a_member_that_is_there_twice_is_named() {
        let problem =
            with(Some("application/json"), "{\"customer\": {\"name\": \"a\", \"name\": \"b\"}}").unwrap_err();
        assert_eq!(problem.code, ProblemCode::InvalidRequest);
        assert_eq!(problem.errors, [FieldError::new("/customer/name", "is there twice")]);
        let long = "é".repeat(1_000);
        let problem =
            with(Some("application/json"), format!("{{\"{long}\": 1, \"{long}\": 2}}")).unwrap_err();
        assert!(problem.errors[0].pointer.len() <= MAX_POINTER_BYTES);
    }
}
