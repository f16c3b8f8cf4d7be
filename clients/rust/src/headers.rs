//! What the headers of an answer say.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{AGE, DATE, ETAG, HeaderMap, HeaderValue, RETRY_AFTER};
use serde::{Deserialize, Serialize};
use sfv::{List, ListEntry, Parameters, Parser, StringRef};

/// An HTTP-date has the form that RFC 2822 gives, with the zone `GMT`.
static HTTP_DATE: DateTimeParser = DateTimeParser::new();

/// Names a state of something, so that one can ask whether it is still so.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(pub(crate) String);

impl ETag {
    /// The tag, as it stands in the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How much may still be asked, as the last answer said (draft-ietf-httpapi-ratelimit-headers).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// Which limit it is.
    pub policy: String,
    /// How many requests may still be made until it begins anew.
    pub remaining: u64,
    /// When it begins anew, from the answer on.
    pub reset_after: Option<Duration>,
    /// How many requests there may be in a window.
    pub quota: Option<u64>,
    /// How long a window is.
    pub window: Option<Duration>,
}

impl RateLimit {
    /// The tightest of the limits that an answer tells. What cannot be read tells nothing.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let policies = items(headers, "ratelimit-policy");
        let limits = items(headers, "ratelimit").into_iter().filter_map(|(policy, told)| {
            let of_policy = policies.iter().find(|(name, _)| *name == policy).map(|(_, told)| told);
            Some(Self {
                remaining: number(&told, "r")?,
                reset_after: number(&told, "t").map(Duration::from_secs),
                quota: of_policy.and_then(|told| number(told, "q")),
                window: of_policy.and_then(|told| number(told, "w")).map(Duration::from_secs),
                policy,
            })
        });
        limits.min_by_key(|limit| limit.remaining)
    }
}

/// The members of a list: named strings with parameters.
fn items(headers: &HeaderMap, name: &str) -> Vec<(String, Parameters)> {
    // A field that comes more than once is one list (RFC 9651, section 3.1).
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let list: List = Parser::new(&lines.join(&b","[..])).parse().unwrap_or_default();
    let named = list.into_iter().filter_map(|entry| {
        let ListEntry::Item(item) = entry else { return None };
        // A string; a token in older drafts.
        let string = item.bare_item.as_string().map(StringRef::as_str);
        let name = string.or_else(|| Some(item.bare_item.as_token()?.as_str()))?.to_owned();
        Some((name, item.params))
    });
    named.collect()
}

fn number(parameters: &Parameters, name: &str) -> Option<u64> {
    u64::try_from(i64::from(parameters.get(name)?.as_integer()?)).ok()
}

/// How long the answer asks to be left alone: seconds, or a date, which counts from the answer's own, so that
/// no clock of this machine is needed. `None` if it does not ask in a form that can be understood.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long time.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = HTTP_DATE.parse_timestamp(text).ok()?;
    let now = HTTP_DATE.parse_timestamp(headers.get(DATE)?.to_str().ok()?.trim()).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

pub(crate) fn etag(headers: &HeaderMap) -> Option<ETag> {
    Some(ETag(headers.get(ETAG)?.to_str().ok()?.to_owned()))
}

pub(crate) fn age(headers: &HeaderMap) -> Option<Duration> {
    Some(Duration::from_secs(headers.get(AGE)?.to_str().ok()?.trim().parse().ok()?))
}

pub(crate) fn request_id(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("x-request-id")?.to_str().ok()?.to_owned())
}

/// Whether it is the answer that the first request with this key got.
pub(crate) fn is_replayed(headers: &HeaderMap) -> bool {
    headers.get("idempotency-replayed").is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |value: &str| retry_after(&headers(&[("retry-after", value)]));
        assert_eq!(read("0"), Some(Duration::ZERO));
        assert_eq!(read(" 120 "), Some(Duration::from_mins(2)));
        assert_eq!(read("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for nonsense in ["", "soon", "-1", "1.5", "12 s", "Fri, 15 Jan 2027 09:02:00 GMT"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
        let dated = |retry_after_at: &str| {
            let lines = [("retry-after", retry_after_at), ("date", "Fri, 15 Jan 2027 09:00:00 GMT")];
            retry_after(&headers(&lines))
        };
        assert_eq!(dated("Fri, 15 Jan 2027 09:02:00 GMT"), Some(Duration::from_mins(2)));
        assert_eq!(dated("Fri, 15 Jan 2027 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(dated("Fri, 32 Jan 2027 09:02:00 GMT"), None);
    }

    #[test]
    fn the_tightest_limit_counts() {
        let limit = RateLimit::read(&headers(&[
            ("ratelimit-policy", r#""burst";q=100;w=1, "consumer";q=3000;w=60;qu="requests""#),
            ("ratelimit", r#""consumer";r=2990;t=42, "burst";r=7;t=1"#),
        ]));
        let burst = RateLimit {
            policy: "burst".to_owned(),
            remaining: 7,
            reset_after: Some(Duration::from_secs(1)),
            quota: Some(100),
            window: Some(Duration::from_secs(1)),
        };
        assert_eq!(limit, Some(burst));
    }

    #[test]
    fn a_limit_in_another_form_says_nothing() {
        for other in ["", "limit=100, remaining=50", r#""consumer";r=-1"#, r#""consumer";t=4"#, "\"", "(1 2)"]
        {
            assert_eq!(RateLimit::read(&headers(&[("ratelimit", other)])), None, "{other}");
        }
        for plain in [r#""consumer";r=5"#, "consumer;r=5;pk=:c2VjcmV0:"] {
            let plain = RateLimit::read(&headers(&[("ratelimit", plain)])).unwrap();
            assert_eq!((plain.policy.as_str(), plain.remaining, plain.reset_after), ("consumer", 5, None));
        }
    }
}
