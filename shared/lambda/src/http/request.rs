//! A request, free of Lambda's types.

use std::fmt;

use bytes::Bytes;
use holdfast_app::problem::{FieldError, Problem, ProblemCode};
use holdfast_domain::Timestamp;
use http::{HeaderMap, Method};

/// A request.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, as it was sent: percent-encoded.
    pub path: String,
    /// The query's pairs, decoded, in order. Names may repeat.
    pub query: Vec<(String, String)>,
    /// The headers. Each name occurs once; repeated ones are joined by commas.
    pub headers: HeaderMap,
    /// The body; empty if there is none.
    pub body: Bytes,
    /// Under which the request is logged, and which the caller is told.
    pub request_id: String,
    /// When it arrived at the API, as far as that is credible.
    pub received_at: Timestamp,
    /// When an answer has to be there: the end of the invocation less a margin for sending it.
    pub deadline: Timestamp,
}

/// How much of an unknown parameter's name an answer repeats, in characters.
const MAX_NAME_SHOWN_CHARS: usize = 64;

impl fmt::Debug for Request {
    /// Shows neither query nor headers nor body, which hold personal data and keys.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Request({} {})", self.method, self.request_id)
    }
}

impl Request {
    /// A header's value; `None` if it is absent, a problem if it is not visible ASCII.
    pub fn header(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        self.headers
            .get(name)
            .map(|value| value.to_str().map_err(|_| invalid(name, "must be visible ASCII")))
            .transpose()
    }

    /// A query parameter's value; `None` if it is absent, a problem if it is there twice.
    pub fn query_value(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let mut values =
            self.query.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() { Err(invalid(name, "must not be given twice")) } else { Ok(first) }
    }

    /// A problem if the query has a parameter that is not among `known`.
    pub fn only_query(&self, known: &[&str]) -> Result<(), Problem> {
        match self.query.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(_) if known.is_empty() => {
                Err(Problem::new(ProblemCode::InvalidParameter, "This call has no query parameters."))
            }
            Some((name, _)) => {
                let detail = format!("is not a known query parameter; known are {}", known.join(", "));
                let shown: String = name
                    .chars()
                    .filter(|character| !character.is_control())
                    .take(MAX_NAME_SHOWN_CHARS)
                    .collect();
                Err(Problem::new(ProblemCode::InvalidParameter, format!("{shown} {detail}."))
                    .with_errors(vec![FieldError::new(shown, detail)]))
            }
        }
    }

    /// Whether an answer of this media type is what the caller asks for by name.
    pub fn accepts(&self, media_type: &str) -> bool {
        self.headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| {
            accept
                .split(',')
                .filter_map(|range| range.split(';').next())
                .any(|range| range.trim().eq_ignore_ascii_case(media_type))
        })
    }

    /// Whether the method is safe (RFC 9110, section 9.2.1): nothing changes by it.
    pub fn is_safe(&self) -> bool {
        self.method.is_safe()
    }
}

fn invalid(name: &str, what: &str) -> Problem {
    Problem::new(ProblemCode::InvalidParameter, format!("{name} {what}."))
        .with_errors(vec![FieldError::new(name, what)])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::http) fn request(method: &str, path: &str) -> Request {
        Request {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            request_id: "r-1".to_owned(),
            received_at: Timestamp::EPOCH,
            deadline: Timestamp::EPOCH.plus_ms(29_000),
        }
    }

    #[test]
    fn media_types_are_accepted_by_name() {
        let mut request = request("GET", "/");
        assert!(!request.accepts("text/html"));
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        request.headers.insert(http::header::ACCEPT, browser.parse().unwrap());
        assert!(request.accepts("text/html"));
        assert!(!request.accepts("application/json"));
    }

    #[test]
    fn unknown_query_parameters_are_named() {
        let mut request = request("GET", "/");
        assert!(request.only_query(&[]).is_ok());
        request.query.push(("wiat".into(), "5".into()));
        let problem = request.only_query(&["wait"]).unwrap_err();
        assert_eq!(problem.detail, "wiat is not a known query parameter; known are wait.");
        assert_eq!(problem.errors[0].pointer, "wiat");
    }
}
