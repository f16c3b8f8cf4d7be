//! What the answers of the native protocol mean. Pure: an answer in, an outcome out.

use holdfast_app::bookings::{
    DECLINED_BY_PROVIDER, DEFAULT_HOLD_MS, MAX_ID_CHARS, MAX_PROVIDER_CODE_CHARS, MAX_PROVIDER_MESSAGE_CHARS,
};
use holdfast_domain::{
    Acknowledgement, AttemptError, AttemptOutcome, CompensationOutcome, LookUpOutcome, Rejection, Timestamp,
};

use super::wire::{BookingAnswer, ProviderStatus, Refusal};
use crate::text::clean;

/// The provider's code for a cancel that it has carried out before.
const ALREADY_CANCELLED: &str = "already_cancelled";

/// The provider's code for a request whose first one it still works on.
const REQUEST_IN_FLIGHT: &str = "request_in_flight";

/// What a cancel's answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CancelAnswer {
    /// This outcome.
    Means(CancelOutcome),
    /// Either that there is no such booking or that something between here and the provider has no such
    /// path. The look-up tells.
    Ambiguous,
}

/// What came of asking a provider to cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CancelOutcome {
    /// It is cancelled there.
    Done,
    /// The provider knows no such booking.
    NoSuchBooking,
    /// The provider refuses.
    Declined(Rejection),
    /// The request was sent, or may have been, and there is no usable answer.
    Unknown(AttemptError),
}

impl CancelOutcome {
    /// What this says of a consumer's cancel: what the provider does not know of is as good as cancelled.
    pub(super) fn of_attempt(self) -> AttemptOutcome {
        match self {
            Self::Done | Self::NoSuchBooking => AttemptOutcome::Acknowledged(Acknowledgement {
                provider_reference: None,
                reserved_until: None,
            }),
            Self::Declined(rejection) => AttemptOutcome::Declined(rejection),
            Self::Unknown(error) => AttemptOutcome::Unknown(error),
        }
    }

    /// What this says of a compensation.
    pub(super) fn of_compensation(&self) -> CompensationOutcome {
        match self {
            Self::Done => CompensationOutcome::Acknowledged,
            Self::NoSuchBooking => CompensationOutcome::NoSuchBooking,
            Self::Declined(_) => CompensationOutcome::Declined,
            Self::Unknown(error) => CompensationOutcome::Failed(*error),
        }
    }
}

/// How a status that is not 2xx is to be taken.
enum Failed {
    /// A definite no with the provider's code.
    No { code: String, message: Option<String> },
    /// Nothing definite.
    Transient(AttemptError),
}

pub(super) fn attempt(status: u16, body: &[u8], now: Timestamp) -> AttemptOutcome {
    match status {
        200 | 201 => match read(body) {
            Ok(answer) => match acknowledgement(&answer, now) {
                Some(acknowledgement) => AttemptOutcome::Acknowledged(acknowledgement),
                None if answer.status == ProviderStatus::Pending => {
                    AttemptOutcome::Unknown(AttemptError::AcceptedForLater)
                }
                None => AttemptOutcome::Unknown(AttemptError::UnusableAnswer),
            },
            Err(error) => AttemptOutcome::Unknown(error),
        },
        202 => AttemptOutcome::Unknown(AttemptError::AcceptedForLater),
        _ => match failed(status, body) {
            Failed::No { code, message } => AttemptOutcome::Declined(rejection(code, message)),
            Failed::Transient(error) => AttemptOutcome::Unknown(error),
        },
    }
}

fn rejection(provider_code: String, message: Option<String>) -> Rejection {
    Rejection { code: DECLINED_BY_PROVIDER.to_owned(), message, provider_code: Some(provider_code) }
}

pub(super) fn look_up(
    status: u16,
    body: &[u8],
    retry_after_ms: Option<u64>,
    now: Timestamp,
) -> LookUpOutcome {
    match status {
        200 => match read(body) {
            Ok(answer) => match (acknowledgement(&answer, now), answer.status) {
                (Some(acknowledgement), _) => LookUpOutcome::Found(acknowledgement),
                (None, ProviderStatus::Cancelled | ProviderStatus::Expired) => LookUpOutcome::Ended,
                (None, _) => LookUpOutcome::StillPending,
            },
            Err(error) => LookUpOutcome::Unavailable { error, retry_after_ms },
        },
        404 => LookUpOutcome::NotFound,
        _ => LookUpOutcome::Unavailable { error: transient(status), retry_after_ms },
    }
}

pub(super) fn cancel(status: u16, body: &[u8]) -> CancelAnswer {
    CancelAnswer::Means(match status {
        200 | 201 | 204 => CancelOutcome::Done,
        202 => CancelOutcome::Unknown(AttemptError::AcceptedForLater),
        _ => match failed(status, body) {
            Failed::No { code, .. } if code == ALREADY_CANCELLED => CancelOutcome::Done,
            Failed::No { .. } if matches!(status, 404 | 410) => CancelOutcome::NoSuchBooking,
            Failed::No { code, message } => CancelOutcome::Declined(rejection(code, message)),
            Failed::Transient(_) if status == 404 => return CancelAnswer::Ambiguous,
            Failed::Transient(error) => CancelOutcome::Unknown(error),
        },
    })
}

fn failed(status: u16, body: &[u8]) -> Failed {
    let never_definite =
        !(400..500).contains(&status) || matches!(status, 401 | 403 | 405 | 408 | 415 | 425 | 429);
    if never_definite {
        return Failed::Transient(transient(status));
    }
    // A refusal that is not in the protocol's form comes from something between here and the provider.
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    match refusal.code.as_deref().and_then(|code| clean(code, MAX_PROVIDER_CODE_CHARS)) {
        Some(code) if !(status == 409 && code == REQUEST_IN_FLIGHT) => {
            let message =
                refusal.message.as_deref().and_then(|message| clean(message, MAX_PROVIDER_MESSAGE_CHARS));
            Failed::No { code, message }
        }
        Some(_) | None => Failed::Transient(transient(status)),
    }
}

fn transient(status: u16) -> AttemptError {
    match status {
        401 | 403 | 405 | 415 => AttemptError::Misconfigured(status),
        // A 2xx that the protocol does not know, and redirects, which are not followed.
        0..=399 => AttemptError::UnusableAnswer,
        _ => AttemptError::HttpStatus(status),
    }
}

fn read(body: &[u8]) -> Result<BookingAnswer, AttemptError> {
    // The parser's words may quote the body, so they are dropped.
    serde_json::from_slice(body).map_err(|_| AttemptError::UnusableAnswer)
}

/// The yes that an answer holds, if it is one.
fn acknowledgement(answer: &BookingAnswer, now: Timestamp) -> Option<Acknowledgement> {
    let reserved_until = match answer.status {
        ProviderStatus::Confirmed => None,
        ProviderStatus::Reserved => Some(answer.expires_at.unwrap_or_else(|| now.plus_ms(DEFAULT_HOLD_MS))),
        ProviderStatus::Pending | ProviderStatus::Cancelled | ProviderStatus::Expired => return None,
    };
    let reference = answer.provider_reference.as_deref();
    let provider_reference = reference.and_then(|reference| clean(reference, MAX_ID_CHARS));
    Some(Acknowledgement { provider_reference, reserved_until })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn confirmed(reference: Option<&str>) -> Acknowledgement {
        Acknowledgement { provider_reference: reference.map(str::to_owned), reserved_until: None }
    }

    #[test]
    fn a_yes_is_confirmed_or_reserved() {
        let yes = |body: &str| attempt(201, body.as_bytes(), NOW);
        assert_eq!(
            yes(r#"{"status":"confirmed","provider_reference":" R\n1 ","extra":{}}"#),
            AttemptOutcome::Acknowledged(confirmed(Some("R1")))
        );
        let expires_at = NOW.plus_ms(3_600_000);
        assert_eq!(
            yes(r#"{"status":"reserved","provider_reference":null,"expires_at":"1970-01-01T01:00:00Z"}"#),
            AttemptOutcome::Acknowledged(Acknowledgement {
                provider_reference: None,
                reserved_until: Some(expires_at)
            })
        );
        assert_eq!(
            yes(r#"{"status":"reserved"}"#),
            AttemptOutcome::Acknowledged(Acknowledgement {
                provider_reference: None,
                reserved_until: Some(NOW.plus_ms(DEFAULT_HOLD_MS))
            })
        );
    }

    #[test]
    fn what_is_not_a_usable_yes_is_unknown() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            "null",
            r#"{"status":"ok"}"#,
            r#"{"status":"cancelled"}"#,
            r#"{"status":"reserved","expires_at":"soon"}"#,
            r#"{"status":"confirmed","provider_reference":7}"#,
        ] {
            let outcome = attempt(200, body.as_bytes(), NOW);
            assert_eq!(outcome, AttemptOutcome::Unknown(AttemptError::UnusableAnswer), "{body}");
        }
        let later = AttemptOutcome::Unknown(AttemptError::AcceptedForLater);
        assert_eq!(attempt(202, b"", NOW), later);
        assert_eq!(attempt(200, br#"{"status":"pending"}"#, NOW), later);
    }

    #[test]
    fn a_no_needs_a_code() {
        let body = br#"{"code":"slot_taken","message":"Fully booked\u0007"}"#;
        for status in [400, 402, 404, 409, 410, 422, 451] {
            assert_eq!(
                attempt(status, body, NOW),
                AttemptOutcome::Declined(Rejection {
                    code: DECLINED_BY_PROVIDER.to_owned(),
                    message: Some("Fully booked".to_owned()),
                    provider_code: Some("slot_taken".to_owned())
                }),
                "{status}"
            );
            for uncoded in ["", "<html>", "{}", r#"{"message":"x"}"#, r#"{"code":""}"#, r#"{"code":5}"#] {
                let outcome = attempt(status, uncoded.as_bytes(), NOW);
                assert_eq!(outcome, AttemptOutcome::Unknown(AttemptError::HttpStatus(status)), "{uncoded}");
            }
        }
    }

    #[test]
    fn some_statuses_are_never_a_no() {
        let body = br#"{"code":"x","message":"y"}"#;
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            let expected = AttemptOutcome::Unknown(AttemptError::HttpStatus(status));
            assert_eq!(attempt(status, body, NOW), expected);
        }
        for status in [401, 403, 405, 415] {
            let expected = AttemptOutcome::Unknown(AttemptError::Misconfigured(status));
            assert_eq!(attempt(status, body, NOW), expected);
        }
        for status in [203, 204, 301, 302, 307, 308] {
            let expected = AttemptOutcome::Unknown(AttemptError::UnusableAnswer);
            assert_eq!(attempt(status, body, NOW), expected);
        }
        let in_flight = br#"{"code":"request_in_flight","message":"y"}"#;
        assert_eq!(attempt(409, in_flight, NOW), AttemptOutcome::Unknown(AttemptError::HttpStatus(409)));
    }

    #[test]
    fn texts_of_a_provider_are_limited() {
        let body = format!(r#"{{"code":"{}","message":"{}"}}"#, "c".repeat(9_999), "m".repeat(9_999));
        let AttemptOutcome::Declined(rejection) = attempt(422, body.as_bytes(), NOW) else {
            panic!("a coded 422 is a no");
        };
        assert_eq!(rejection.provider_code.unwrap().len(), MAX_PROVIDER_CODE_CHARS);
        assert_eq!(rejection.message.unwrap().len(), MAX_PROVIDER_MESSAGE_CHARS);
    }

    #[test]
    fn a_look_up_tells_where_the_booking_stands() {
        let ask = |status: u16, body: &str| look_up(status, body.as_bytes(), Some(7_000), NOW);
        assert_eq!(ask(200, r#"{"status":"confirmed"}"#), LookUpOutcome::Found(confirmed(None)));
        assert_eq!(ask(200, r#"{"status":"pending"}"#), LookUpOutcome::StillPending);
        assert_eq!(ask(200, r#"{"status":"cancelled"}"#), LookUpOutcome::Ended);
        assert_eq!(ask(200, r#"{"status":"expired"}"#), LookUpOutcome::Ended);
        assert_eq!(ask(404, ""), LookUpOutcome::NotFound);
        for (status, error) in [
            (200, AttemptError::UnusableAnswer),
            (302, AttemptError::UnusableAnswer),
            (401, AttemptError::Misconfigured(401)),
            (410, AttemptError::HttpStatus(410)),
            (500, AttemptError::HttpStatus(500)),
        ] {
            assert_eq!(ask(status, ""), LookUpOutcome::Unavailable { error, retry_after_ms: Some(7_000) });
        }
    }

    #[test]
    fn a_cancel_is_done_unknown_to_the_provider_refused_or_open() {
        let coded = r#"{"code":"nope"}"#;
        for (status, body, expected) in [
            (200, "", CompensationOutcome::Acknowledged),
            (204, "", CompensationOutcome::Acknowledged),
            (409, r#"{"code":"already_cancelled"}"#, CompensationOutcome::Acknowledged),
            (404, coded, CompensationOutcome::NoSuchBooking),
            (410, coded, CompensationOutcome::NoSuchBooking),
            (422, coded, CompensationOutcome::Declined),
            (202, "", CompensationOutcome::Failed(AttemptError::AcceptedForLater)),
            (
                409,
                r#"{"code":"request_in_flight"}"#,
                CompensationOutcome::Failed(AttemptError::HttpStatus(409)),
            ),
            (422, "", CompensationOutcome::Failed(AttemptError::HttpStatus(422))),
            (410, "", CompensationOutcome::Failed(AttemptError::HttpStatus(410))),
            (403, coded, CompensationOutcome::Failed(AttemptError::Misconfigured(403))),
            (429, coded, CompensationOutcome::Failed(AttemptError::HttpStatus(429))),
            (301, "", CompensationOutcome::Failed(AttemptError::UnusableAnswer)),
            (503, coded, CompensationOutcome::Failed(AttemptError::HttpStatus(503))),
        ] {
            let CancelAnswer::Means(outcome) = cancel(status, body.as_bytes()) else {
                panic!("{status} {body} is ambiguous");
            };
            assert_eq!(outcome.of_compensation(), expected, "{status} {body}");
        }
        assert_eq!(cancel(404, b"Not Found"), CancelAnswer::Ambiguous);
    }
}
