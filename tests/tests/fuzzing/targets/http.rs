//! Requests as API Gateway brings them, and what holds of every answer.

use data_encoding::BASE64;
use holdfast_app::ports::Clock;
use holdfast_app::problem::{Problem, ProblemCode};
use holdfast_app::test_util::TestClock;
use holdfast_lambda::Context;
use holdfast_lambda::http::{Request, Response, Routed, Router, serve};
use serde_json::{Value, json};

use super::MARKER;

/// The most bytes of a problem: 32 field errors of some hundred bytes each.
const MAX_PROBLEM_BYTES: usize = 65_536;

/// The most field errors of a problem.
const MAX_FIELD_ERRORS: usize = 32;

/// Pointers are cut at so many bytes, less what a character may have.
const CUT_POINTER_BYTES: usize = 253;

/// A request.
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    /// With its query.
    pub(super) path: &'a str,
    pub(super) key: &'a str,
    pub(super) headers: Vec<(&'a str, &'a str)>,
    pub(super) body: &'a [u8],
}

impl<'a> Call<'a> {
    pub(super) fn new(method: &'a str, path: &'a str, key: &'a str, body: &'a [u8]) -> Self {
        Self { method, path, key, headers: Vec::new(), body }
    }

    fn event(&self) -> Value {
        let mut headers = json!({
            "content-type": "application/json",
            "authorization": format!("Bearer {}", self.key),
        });
        for (name, value) in &self.headers {
            headers[*name] = json!(value);
        }
        json!({
            "rawPath": self.path.split('?').next(),
            "rawQueryString": self.path.split_once('?').map_or("", |(_, query)| query),
            "headers": headers,
            "requestContext": {"http": {"method": self.method}, "requestId": "request-1"},
            "body": BASE64.encode(self.body),
            "isBase64Encoded": true,
        })
    }

    /// Makes the call; what holds of every answer is checked.
    pub(super) async fn make<K, F, Fut>(&self, router: &Router<K>, handler: &F, clock: TestClock) -> Answer
    where
        K: Copy,
        F: Fn(Request, Routed<K>) -> Fut,
        Fut: Future<Output = Result<Response, Problem>>,
    {
        let deadline_unix_ms = u64::try_from(clock.now().as_unix_ms()).unwrap_or_default() + 29_000;
        let context = Context { deadline_unix_ms, ..Context::default() };
        let answer = serve(router, handler, self.event().to_string().as_bytes(), &context, &clock).await;
        let answer = serde_json::to_value(answer).expect("an answer is JSON");
        let mut text = answer["body"].as_str().unwrap_or_default().to_owned();
        if answer["isBase64Encoded"] == true {
            text = format!("{} bytes", BASE64.decode(text.as_bytes()).expect("it is base64").len());
        }
        let status = u16::try_from(answer["statusCode"].as_u64().expect("a status")).expect("a status");
        let answer = Answer {
            status,
            headers: answer["headers"].clone(),
            body: serde_json::from_str(&text).unwrap_or_default(),
            text,
        };
        self.judge(&answer);
        answer
    }

    fn judge(&self, answer: &Answer) {
        assert!((200..500).contains(&answer.status), "nothing fails here: {} {}", answer.status, answer.text);
        assert_eq!(answer.headers["x-request-id"], "request-1");
        if answer.status < 400 {
            return;
        }
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert!(answer.text.len() <= MAX_PROBLEM_BYTES, "{} bytes of a problem", answer.text.len());
        let problem = &answer.body;
        let code = problem["code"].as_str().and_then(ProblemCode::parse).expect("a code that is documented");
        assert_eq!(code.status(), answer.status);
        assert_eq!(problem["status"], answer.status);
        assert_eq!(problem["type"], format!("/problems/{}", code.as_str()));
        assert_eq!(problem["title"], code.title());
        assert_eq!(problem["side_effects"], "none", "nothing that fails here was sent");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        // Where everything in a body is optional, so is the body.
        let is_empty = self.body.is_empty();
        let given = if is_empty { Some(json!({})) } else { serde_json::from_slice(self.body).ok() };
        let errors = problem["errors"].as_array().map_or(&[][..], Vec::as_slice);
        assert!(errors.len() <= MAX_FIELD_ERRORS);
        for error in errors {
            let pointer = error["pointer"].as_str().expect("a pointer");
            assert!(error["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
            // Of two members with one name, this reader keeps the last, and the first may have had what is named.
            let is_read_otherwise = error["detail"] == "is there twice";
            if pointer.starts_with('/') && pointer.len() < CUT_POINTER_BYTES && !is_read_otherwise {
                assert!(given.as_ref().is_some_and(|given| names(given, pointer)), "{pointer} is no place");
            }
        }
        let shows_marker = told_besides_the_provider(problem, code, given.as_ref()).contains(MARKER);
        assert!(!shows_marker || self.may_be_repeated(given.as_ref()), "a value is repeated: {problem}");
    }

    /// Names of members and parameters may be repeated, and values of a few parameters; values of a body not.
    fn may_be_repeated(&self, given: Option<&Value>) -> bool {
        self.path.contains(MARKER) || given.is_some_and(names_marker)
    }
}

/// What a problem says but for the one value of a body that may be repeated: the provider that is not known, once.
fn told_besides_the_provider(problem: &Value, code: ProblemCode, given: Option<&Value>) -> String {
    let told = problem.to_string();
    let provider_id = given.and_then(|given| given["provider_id"].as_str());
    match provider_id {
        Some(id) if code == ProblemCode::UnknownProvider => {
            told.replacen(&format!("No provider {id} "), "", 1)
        }
        _ => told,
    }
}

/// Whether the name of a member has the marker.
pub(super) fn names_marker(value: &Value) -> bool {
    match value {
        Value::Object(members) => {
            members.iter().any(|(name, value)| name.contains(MARKER) || names_marker(value))
        }
        Value::Array(items) => items.iter().any(names_marker),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether a pointer names a member that is there, or one that is missing in an object that is there.
fn names(given: &Value, pointer: &str) -> bool {
    if given.pointer(pointer).is_some() {
        return true;
    }
    let above = pointer.rsplit_once('/').map_or("", |(above, _)| above);
    given.pointer(above).is_some_and(Value::is_object)
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Value,
    pub(super) body: Value,
    /// The body's exact bytes.
    pub(super) text: String,
}

impl Answer {
    pub(super) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}
