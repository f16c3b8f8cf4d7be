//! What the answers to Docplanner's callbacks mean. Pure: an answer in, an outcome out.

use holdfast_app::bookings::{DECLINED_BY_PROVIDER, MAX_PROVIDER_CODE_CHARS, MAX_PROVIDER_MESSAGE_CHARS};
use holdfast_app::settings::ProviderSettings;
use holdfast_domain::{Acknowledgement, AttemptOutcome, Rejection};
use serde::Deserialize;

use crate::calling::{is_never_definite, transient};
use crate::outcomes::rejection;
use crate::text::clean;

/// A no. Both members may be missing.
#[derive(Default, Deserialize)]
struct Denial {
    error_code: Option<ErrorCode>,
    /// Docplanner's callbacks have no such member, but some systems say it.
    message: Option<String>,
}

/// The specification has a number; some systems send it as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorCode {
    Number(i64),
    Text(String),
}

impl ErrorCode {
    fn text(self) -> Option<String> {
        match self {
            Self::Number(number) => Some(number.to_string()),
            Self::Text(text) => clean(&text, MAX_PROVIDER_CODE_CHARS),
        }
    }
}

/// What a gate's answer means. A 2xx lets the booking through. A 4xx denies it, unless it says nothing of
/// the booking but that Holdfast is locked out, too early or too often here. Everything else is a failure,
/// and since a gate books nothing, it is as if nothing had been sent.
pub(super) fn gate(provider: &ProviderSettings, status: u16, body: &[u8]) -> AttemptOutcome {
    if (200..300).contains(&status) {
        return AttemptOutcome::Acknowledged(Acknowledgement {
            provider_reference: None,
            reserved_until: None,
        });
    }
    // The parser's words may quote the body, so they are dropped.
    let denial: Denial = serde_json::from_slice(body).unwrap_or_default();
    let message = denial.message.as_deref().and_then(|text| clean(text, MAX_PROVIDER_MESSAGE_CHARS));
    let code = denial.error_code.and_then(ErrorCode::text);
    match code {
        Some(code) if (400..500).contains(&status) => {
            AttemptOutcome::Declined(rejection(provider, code, message))
        }
        None if !is_never_definite(status) => AttemptOutcome::Declined(Rejection {
            code: DECLINED_BY_PROVIDER.to_owned(),
            message,
            provider_code: None,
        }),
        Some(_) | None => AttemptOutcome::NotSent(transient(status)),
    }
}

#[cfg(test)]
mod tests {
    use holdfast_domain::{AttemptError, Mode, ProviderId};

    use super::*;

    fn provider() -> ProviderSettings {
        let mut provider =
            ProviderSettings::usual(ProviderId::parse("clinic").unwrap(), Mode::Test, "http://127.0.0.1:1");
        provider.decline_messages.insert("7".to_owned(), "Please call the clinic.".to_owned());
        provider
    }

    fn declined(message: Option<&str>, provider_code: Option<&str>) -> AttemptOutcome {
        AttemptOutcome::Declined(Rejection {
            code: DECLINED_BY_PROVIDER.to_owned(),
            message: message.map(str::to_owned),
            provider_code: provider_code.map(str::to_owned),
        })
    }

    #[test]
    fn only_a_2xx_lets_a_booking_through() {
        for status in [200, 201, 202, 204, 299] {
            for body in ["", "{}", r#"{"error_code":7}"#, "<html>"] {
                let outcome = gate(&provider(), status, body.as_bytes());
                assert!(matches!(outcome, AttemptOutcome::Acknowledged(_)), "{status} {body}");
            }
        }
    }

    #[test]
    fn a_no_is_told_in_the_words_that_are_configured_for_its_code() {
        for (status, body, outcome) in [
            (400, r#"{"error_code":7}"#, declined(Some("Please call the clinic."), Some("7"))),
            (422, r#"{"error_code":"7"}"#, declined(Some("Please call the clinic."), Some("7"))),
            (400, r#"{"error_code":8}"#, declined(None, Some("8"))),
            (400, r#"{"error_code":8,"message":" Taken.\n"}"#, declined(Some("Taken."), Some("8"))),
            (401, r#"{"error_code":-1}"#, declined(None, Some("-1"))),
            (429, r#"{"error_code":8}"#, declined(None, Some("8"))),
            (400, "", declined(None, None)),
            (404, "<html>", declined(None, None)),
            (409, r#"{"error_code":1.5}"#, declined(None, None)),
            (410, r#"{"error_code":null,"message":"Gone."}"#, declined(Some("Gone."), None)),
        ] {
            assert_eq!(gate(&provider(), status, body.as_bytes()), outcome, "{status} {body}");
        }
    }

    #[test]
    fn what_is_neither_yes_nor_no_was_not_sent() {
        for (status, error) in [
            (401, AttemptError::Misconfigured(401)),
            (403, AttemptError::Misconfigured(403)),
            (405, AttemptError::Misconfigured(405)),
            (415, AttemptError::Misconfigured(415)),
            (408, AttemptError::HttpStatus(408)),
            (425, AttemptError::HttpStatus(425)),
            (429, AttemptError::HttpStatus(429)),
            (500, AttemptError::HttpStatus(500)),
            (503, AttemptError::HttpStatus(503)),
            (302, AttemptError::UnusableAnswer),
        ] {
            assert_eq!(gate(&provider(), status, b"{}"), AttemptOutcome::NotSent(error), "{status}");
            let coded = br#"{"error_code":7}"#;
            if !(400..500).contains(&status) {
                assert_eq!(gate(&provider(), status, coded), AttemptOutcome::NotSent(error), "{status}");
            }
        }
    }
}
