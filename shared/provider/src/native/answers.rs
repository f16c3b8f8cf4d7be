//! What the answers of the native protocol mean. Pure: an answer in, an outcome out.

use holdfast_app::bookings::{MAX_ID_CHARS, MAX_PROVIDER_CODE_CHARS, MAX_PROVIDER_MESSAGE_CHARS};
use holdfast_app::settings::ProviderSettings;
use holdfast_domain::{
    Acknowledgement, AttemptError, AttemptOutcome, Found, LookUpOutcome, OperationKind, Slot, Timestamp,
};

use serde::de::DeserializeOwned;

use super::wire::{BookingAnswer, LookUpAnswer, ProviderStatus, Refusal, SlotAnswer};
use crate::calling::{is_never_definite, transient};
use crate::outcomes::{CancelOutcome, rejection};
use crate::text::{clean, is_clean};

/// The provider's code for a cancel that it has carried out before.
const ALREADY_CANCELLED: &str = "already_cancelled";

/// The provider's code for a confirm of what an earlier operation has confirmed.
const ALREADY_CONFIRMED: &str = "already_confirmed";

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

/// How a status that is not 2xx is to be taken.
enum Failed {
    /// A definite no with the provider's code.
    No { code: String, message: Option<String> },
    /// Nothing definite.
    Transient(AttemptError),
}

/// What the answer to an attempt means. `hold_end` is when a reservation ends whose answer does not say.
pub(super) fn attempt(
    provider: &ProviderSettings,
    status: u16,
    body: &[u8],
    asked: OperationKind,
    hold_end: Timestamp,
) -> AttemptOutcome {
    match status {
        200 | 201 => match read(body) {
            Ok(answer) => yes(&answer, asked, hold_end),
            Err(error) => AttemptOutcome::Unknown(error),
        },
        202 => AttemptOutcome::Unknown(AttemptError::AcceptedForLater),
        _ => match failed(status, body) {
            // It stands as it was asked for, whoever did it. Its reference is known from then.
            Failed::No { code, .. } if asked == OperationKind::Confirm && code == ALREADY_CONFIRMED => {
                AttemptOutcome::Acknowledged(Acknowledgement {
                    provider_reference: None,
                    reserved_until: None,
                })
            }
            Failed::No { code, message } => AttemptOutcome::Declined(rejection(provider, code, message)),
            Failed::Transient(error) => AttemptOutcome::Unknown(error),
        },
    }
}

fn yes(answer: &BookingAnswer, asked: OperationKind, hold_end: Timestamp) -> AttemptOutcome {
    match acknowledgement(answer, hold_end) {
        // What is still held is no answer to a confirm.
        Some(yes) if asked == OperationKind::Confirm && yes.reserved_until.is_some() => {
            AttemptOutcome::Unknown(AttemptError::UnusableAnswer)
        }
        Some(yes) => AttemptOutcome::Acknowledged(yes),
        None if answer.status == ProviderStatus::Pending => {
            AttemptOutcome::Unknown(AttemptError::AcceptedForLater)
        }
        None => AttemptOutcome::Unknown(AttemptError::UnusableAnswer),
    }
}

/// What the answer to a look-up means. `hold_end` is when a reservation ends whose answer does not say.
pub(super) fn look_up(
    status: u16,
    body: &[u8],
    retry_after_ms: Option<u64>,
    hold_end: Timestamp,
) -> LookUpOutcome {
    match status {
        200 => match read(body).and_then(|answer| known(answer, hold_end)) {
            Ok(outcome) => outcome,
            Err(error) => LookUpOutcome::Unavailable { error, retry_after_ms },
        },
        404 => LookUpOutcome::NotFound,
        _ => LookUpOutcome::Unavailable { error: transient(status), retry_after_ms },
    }
}

fn known(answer: LookUpAnswer, hold_end: Timestamp) -> Result<LookUpOutcome, AttemptError> {
    match (acknowledgement(&answer.booking, hold_end), answer.booking.status) {
        (Some(acknowledgement), _) => {
            let slot = answer.slot.map(slot).transpose()?;
            Ok(LookUpOutcome::Found(Found { acknowledgement, slot, operation: answer.operation }))
        }
        (None, ProviderStatus::Cancelled | ProviderStatus::Expired) => Ok(LookUpOutcome::Ended),
        (None, _) => Ok(LookUpOutcome::StillPending),
    }
}

/// A slot may become the booking's own, so that it has to be fit to be stored.
fn slot(answer: SlotAnswer) -> Result<Slot, AttemptError> {
    let SlotAnswer { location_id, start, end, resource_id, service_id } = answer;
    let names = [Some(&location_id), resource_id.as_ref(), service_id.as_ref()];
    let is_fit = end > start && names.into_iter().flatten().all(|name| is_clean(name, MAX_ID_CHARS));
    if is_fit {
        Ok(Slot { location_id, start, end, resource_id, service_id })
    } else {
        Err(AttemptError::UnusableAnswer)
    }
}

pub(super) fn cancel(provider: &ProviderSettings, status: u16, body: &[u8]) -> CancelAnswer {
    CancelAnswer::Means(match status {
        200 | 201 | 204 => CancelOutcome::Done,
        202 => CancelOutcome::Unknown(AttemptError::AcceptedForLater),
        _ => match failed(status, body) {
            Failed::No { code, .. } if code == ALREADY_CANCELLED => CancelOutcome::Done,
            Failed::No { .. } if matches!(status, 404 | 410) => CancelOutcome::NoSuchBooking,
            Failed::No { code, message } => CancelOutcome::Declined(rejection(provider, code, message)),
            Failed::Transient(_) if status == 404 => return CancelAnswer::Ambiguous,
            Failed::Transient(error) => CancelOutcome::Unknown(error),
        },
    })
}

fn failed(status: u16, body: &[u8]) -> Failed {
    if is_never_definite(status) {
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

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, AttemptError> {
    // The parser's words may quote the body, so they are dropped.
    serde_json::from_slice(body).map_err(|_| AttemptError::UnusableAnswer)
}

/// The yes that an answer holds, if it is one.
fn acknowledgement(answer: &BookingAnswer, hold_end: Timestamp) -> Option<Acknowledgement> {
    let reserved_until = match answer.status {
        ProviderStatus::Confirmed => None,
        ProviderStatus::Reserved => Some(answer.expires_at.unwrap_or(hold_end)),
        ProviderStatus::Pending | ProviderStatus::Cancelled | ProviderStatus::Expired => return None,
    };
    let reference = answer.provider_reference.as_deref();
    let provider_reference = reference.and_then(|reference| clean(reference, MAX_ID_CHARS));
    Some(Acknowledgement { provider_reference, reserved_until })
}

#[cfg(test)]
mod tests {
    use holdfast_app::bookings::DECLINED_BY_PROVIDER;
    use holdfast_domain::{CompensationOutcome, Rejection};

    use super::*;
    use crate::test_util::{at, provider, slot};

    fn hold_end() -> Timestamp {
        at("2027-01-01T00:15:00Z")
    }

    fn book(status: u16, body: &[u8]) -> AttemptOutcome {
        attempt(&provider("http://127.0.0.1:1"), status, body, OperationKind::Book, hold_end())
    }

    fn confirmed(reference: Option<&str>) -> Acknowledgement {
        Acknowledgement { provider_reference: reference.map(str::to_owned), reserved_until: None }
    }

    #[test]
    fn a_yes_is_confirmed_or_reserved() {
        let yes = |body: &str| book(201, body.as_bytes());
        assert_eq!(
            yes(r#"{"status":"confirmed","provider_reference":" R\n1 ","extra":{}}"#),
            AttemptOutcome::Acknowledged(confirmed(Some("R1")))
        );
        assert_eq!(
            yes(r#"{"status":"reserved","provider_reference":null,"expires_at":"2027-01-01T01:00:00Z"}"#),
            AttemptOutcome::Acknowledged(Acknowledgement {
                provider_reference: None,
                reserved_until: Some(at("2027-01-01T01:00:00Z"))
            })
        );
        assert_eq!(
            yes(r#"{"status":"reserved"}"#),
            AttemptOutcome::Acknowledged(Acknowledgement {
                provider_reference: None,
                reserved_until: Some(hold_end())
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
            let outcome = book(200, body.as_bytes());
            assert_eq!(outcome, AttemptOutcome::Unknown(AttemptError::UnusableAnswer), "{body}");
        }
        let later = AttemptOutcome::Unknown(AttemptError::AcceptedForLater);
        assert_eq!(book(202, b""), later);
        assert_eq!(book(200, br#"{"status":"pending"}"#), later);
    }

    #[test]
    fn a_no_needs_a_code() {
        let body = br#"{"code":"slot_taken","message":"Fully booked\u0007"}"#;
        for status in [400, 402, 404, 409, 410, 422, 451] {
            assert_eq!(
                book(status, body),
                AttemptOutcome::Declined(Rejection {
                    code: DECLINED_BY_PROVIDER.to_owned(),
                    message: Some("Fully booked".to_owned()),
                    provider_code: Some("slot_taken".to_owned())
                }),
                "{status}"
            );
            for uncoded in ["", "<html>", "{}", r#"{"message":"x"}"#, r#"{"code":""}"#, r#"{"code":5}"#] {
                let outcome = book(status, uncoded.as_bytes());
                assert_eq!(outcome, AttemptOutcome::Unknown(AttemptError::HttpStatus(status)), "{uncoded}");
            }
        }
    }

    #[test]
    fn some_statuses_are_never_a_no() {
        let body = br#"{"code":"x","message":"y"}"#;
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            let expected = AttemptOutcome::Unknown(AttemptError::HttpStatus(status));
            assert_eq!(book(status, body), expected);
        }
        for status in [401, 403, 405, 415] {
            let expected = AttemptOutcome::Unknown(AttemptError::Misconfigured(status));
            assert_eq!(book(status, body), expected);
        }
        for status in [203, 204, 301, 302, 307, 308] {
            let expected = AttemptOutcome::Unknown(AttemptError::UnusableAnswer);
            assert_eq!(book(status, body), expected);
        }
        let in_flight = br#"{"code":"request_in_flight","message":"y"}"#;
        assert_eq!(book(409, in_flight), AttemptOutcome::Unknown(AttemptError::HttpStatus(409)));
    }

    #[test]
    fn texts_of_a_provider_are_limited() {
        let body = format!(r#"{{"code":"{}","message":"{}"}}"#, "c".repeat(9_999), "m".repeat(9_999));
        let AttemptOutcome::Declined(rejection) = book(422, body.as_bytes()) else {
            panic!("a coded 422 is a no");
        };
        assert_eq!(rejection.provider_code.unwrap().len(), MAX_PROVIDER_CODE_CHARS);
        assert_eq!(rejection.message.unwrap().len(), MAX_PROVIDER_MESSAGE_CHARS);
    }

    #[test]
    fn a_look_up_tells_where_the_booking_stands() {
        let ask = |status: u16, body: &str| look_up(status, body.as_bytes(), Some(7_000), hold_end());
        let found = |acknowledgement, slot, operation| {
            LookUpOutcome::Found(Found { acknowledgement, slot, operation })
        };
        assert_eq!(ask(200, r#"{"status":"confirmed"}"#), found(confirmed(None), None, None));
        let body = r#"{"status":"reserved","operation":4,"slot":{"location_id":"main-street",
            "start":"2027-01-15T10:00:00+01:00","end":"2027-01-15T09:30:00Z","service_id":"checkup"}}"#;
        let held = Acknowledgement { provider_reference: None, reserved_until: Some(hold_end()) };
        let expected = found(held, Some(slot("main-street", "2027-01-15T09:00:00Z")), Some(4));
        assert_eq!(ask(200, body), expected);
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
    fn a_slot_that_cannot_be_stored_is_no_answer() {
        for (key, value) in [
            ("location_id", r#""""#),
            ("location_id", r#"" main-street""#),
            ("location_id", "7"),
            ("resource_id", r#""ro\nom""#),
            ("start", r#""2027-01-15T09:30:00Z""#),
            ("end", r#""soon""#),
        ] {
            let mut slot = serde_json::json!({
                "location_id": "main-street", "start": "2027-01-15T09:00:00Z", "end": "2027-01-15T09:30:00Z",
            });
            slot[key] = serde_json::from_str(value).unwrap();
            let body = serde_json::json!({"status": "confirmed", "slot": slot}).to_string();
            let error = AttemptError::UnusableAnswer;
            assert_eq!(
                look_up(200, body.as_bytes(), None, hold_end()),
                LookUpOutcome::Unavailable { error, retry_after_ms: None },
                "{key} {value}"
            );
        }
    }

    #[test]
    fn a_confirm_is_answered_by_what_is_confirmed_alone() {
        let provider = provider("http://127.0.0.1:1");
        let ask = |asked, body: &[u8]| attempt(&provider, 200, body, asked, hold_end());
        let (held, yes) = (br#"{"status":"reserved"}"#, br#"{"status":"confirmed"}"#);
        let unusable = AttemptOutcome::Unknown(AttemptError::UnusableAnswer);
        assert_eq!(ask(OperationKind::Confirm, held), unusable);
        assert_eq!(ask(OperationKind::Confirm, yes), AttemptOutcome::Acknowledged(confirmed(None)));
        let twice =
            attempt(&provider, 409, br#"{"code":"already_confirmed"}"#, OperationKind::Confirm, hold_end());
        assert_eq!(twice, AttemptOutcome::Acknowledged(confirmed(None)));
        let reserved = Acknowledgement { provider_reference: None, reserved_until: Some(hold_end()) };
        for asked in [OperationKind::Extend, OperationKind::Reschedule] {
            assert_eq!(ask(asked, held), AttemptOutcome::Acknowledged(reserved.clone()));
            assert_eq!(ask(asked, yes), AttemptOutcome::Acknowledged(confirmed(None)));
        }
    }

    #[test]
    fn the_configured_words_for_a_code_come_first() {
        let mut provider = provider("http://127.0.0.1:1");
        provider.decline_messages.insert("full".to_owned(), "Please choose another day.".to_owned());
        let body = br#"{"code":"full","message":"E-17"}"#;
        let outcome = attempt(&provider, 422, body, OperationKind::Book, hold_end());
        let AttemptOutcome::Declined(rejection) = outcome else { panic!("{outcome:?}") };
        assert_eq!(rejection.message.as_deref(), Some("Please choose another day."));
        assert_eq!(rejection.provider_code.as_deref(), Some("full"));
    }

    #[test]
    fn a_cancel_is_done_unknown_to_the_provider_refused_or_open() {
        let (provider, coded) = (provider("http://127.0.0.1:1"), r#"{"code":"nope"}"#);
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
            let CancelAnswer::Means(outcome) = cancel(&provider, status, body.as_bytes()) else {
                panic!("{status} {body} is ambiguous");
            };
            assert_eq!(outcome.of_compensation(), expected, "{status} {body}");
        }
        assert_eq!(cancel(&provider, 404, b"Not Found"), CancelAnswer::Ambiguous);
    }
}
