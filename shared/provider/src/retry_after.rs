//! The header `Retry-After` (RFC 9110, section 10.2.3).

use holdfast_domain::Timestamp;
use http::HeaderMap;
use http::header::RETRY_AFTER;
use jiff::fmt::rfc2822::DateTimeParser;

/// The longest that a receiver can put off the next attempt, in milliseconds: an hour. Whoever asks for
/// more is tried again after this.
pub const MAX_RETRY_AFTER_MS: u64 = 3_600_000;

/// An HTTP-date has the form that RFC 2822 gives, with the zone `GMT`.
static HTTP_DATE: DateTimeParser = DateTimeParser::new();

/// How long the answer asks to be left alone, in milliseconds, at most [`MAX_RETRY_AFTER_MS`]. `None` if it
/// does not ask, or not in a form that can be understood.
pub(crate) fn retry_after_ms(headers: &HeaderMap, now: Timestamp) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait_ms = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long time.
        text.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(1_000)
    } else {
        let at = HTTP_DATE.parse_timestamp(text).ok()?;
        now.ms_until(Timestamp::from_unix_ms(at.as_millisecond()).ok()?)
    };
    Some(wait_ms.min(MAX_RETRY_AFTER_MS))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(value: &str) -> Option<u64> {
        let now = Timestamp::parse_rfc3339("2027-01-15T09:00:00Z").unwrap();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]);
        retry_after_ms(&headers, now)
    }

    #[test]
    fn reads_seconds_and_dates() {
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("120"), Some(120_000));
        assert_eq!(read("Fri, 15 Jan 2027 09:02:00 GMT"), Some(120_000));
        assert_eq!(read("Fri, 15 Jan 2027 08:00:00 GMT"), Some(0));
    }

    #[test]
    fn is_capped() {
        assert_eq!(read("86400"), Some(MAX_RETRY_AFTER_MS));
        assert_eq!(read("99999999999999999999999"), Some(MAX_RETRY_AFTER_MS));
        assert_eq!(read("Sat, 15 Jan 2028 09:00:00 GMT"), Some(MAX_RETRY_AFTER_MS));
    }

    #[test]
    fn nonsense_is_ignored() {
        for value in ["", "soon", "-1", "1.5", "12 s", "Fri, 32 Jan 2027 09:02:00 GMT"] {
            assert_eq!(read(value), None, "{value}");
        }
        assert_eq!(retry_after_ms(&HeaderMap::new(), Timestamp::EPOCH), None);
    }
}
