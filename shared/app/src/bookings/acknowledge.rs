//! A provider settles a booking by calling us, at any time.

use holdfast_domain::{
    Acknowledgement, Booking, BookingId, Command, Mode, ProviderId, RefusalReason, Refused, Rejection,
    Status, Timestamp, Withdrawal, transition,
};
use serde::Deserialize;
use serde_json::Value;

use super::{MAX_CONFLICTS, MAX_ID_CHARS, contention_problem, store_problem};
use crate::parse::parse_checked;
use crate::ports::{BookingStore, Clock, Replaced};
use crate::problem::{Problem, ProblemCode, SideEffects};
use crate::stored::{StoredBooking, replace};
use crate::text::{TextKind, judge_characters};

/// For how long a reservation holds if the provider does not say, in milliseconds: 15 min.
pub const DEFAULT_HOLD_MS: u64 = 15 * 60 * 1000;

/// Holdfast's own code for a provider's no; the provider's stands beside it.
pub const DECLINED_BY_PROVIDER: &str = "declined_by_provider";

/// The longest code of a provider that is kept, in characters.
pub const MAX_PROVIDER_CODE_CHARS: usize = 64;

/// The longest message of a provider that is kept, in characters.
pub const MAX_PROVIDER_MESSAGE_CHARS: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerBody {
    status: String,
    provider_reference: Option<String>,
    expires_at: Option<String>,
    rejection: Option<RejectionBody>,
    operation: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RejectionBody {
    code: Option<String>,
    message: Option<String>,
}

/// A provider's definite answer, and what it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderAnswer {
    /// The answer.
    pub verdict: ProviderVerdict,
    /// The number of the operation that it answers; `None` if the provider does not say.
    pub operation: Option<u32>,
}

/// A provider's yes or no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderVerdict {
    /// Yes.
    Yes(Acknowledgement),
    /// No.
    No(Rejection),
}

/// What a provider's answer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The booking as it is now.
    pub booking: Booking,
}

/// Reads the body of a provider's answer. `now` is when it came.
pub fn read_provider_answer(body: &Value, now: Timestamp) -> Result<ProviderAnswer, Problem> {
    let (body, mut errors) = parse_checked::<AnswerBody>(body)?.into_parts();
    let mut check = |pointer: &str, text: Option<&str>, kind: TextKind, max_chars: usize| {
        let Some(text) = text else { return };
        if text.chars().count() > max_chars {
            errors.push(pointer, format!("is longer than {max_chars} characters"));
        }
        if let Err(detail) = judge_characters(text, kind) {
            errors.push(pointer, detail);
        }
    };
    check("/provider_reference", body.provider_reference.as_deref(), TextKind::Line, MAX_ID_CHARS);
    if let Some(rejection) = &body.rejection {
        check("/rejection/code", rejection.code.as_deref(), TextKind::Line, MAX_PROVIDER_CODE_CHARS);
        check("/rejection/message", rejection.message.as_deref(), TextKind::Line, MAX_PROVIDER_MESSAGE_CHARS);
    }
    let expires_at = match body.expires_at.as_deref().map(Timestamp::parse_rfc3339) {
        Some(Err(error)) => {
            errors.push("/expires_at", format!("is {error}"));
            None
        }
        Some(Ok(expires_at)) => Some(expires_at),
        None => None,
    };
    let operation = body.operation;
    let verdict = match body.status.as_str() {
        "confirmed" => Some(ProviderVerdict::Yes(Acknowledgement {
            provider_reference: body.provider_reference,
            reserved_until: None,
        })),
        "reserved" => Some(ProviderVerdict::Yes(Acknowledgement {
            provider_reference: body.provider_reference,
            reserved_until: Some(expires_at.unwrap_or(now.plus_ms(DEFAULT_HOLD_MS))),
        })),
        "rejected" => Some(ProviderVerdict::No(Rejection {
            code: DECLINED_BY_PROVIDER.to_owned(),
            message: body.rejection.as_ref().and_then(|rejection| rejection.message.clone()),
            provider_code: body.rejection.and_then(|rejection| rejection.code),
        })),
        _ => {
            errors.push("/status", "must be confirmed, reserved or rejected");
            None
        }
    };
    errors.finish()?;
    let verdict =
        verdict.ok_or_else(|| Problem::new(ProblemCode::InvalidRequest, "The answer is not valid."))?;
    Ok(ProviderAnswer { verdict, operation })
}

impl ProviderAnswer {
    fn command(&self) -> Command {
        let operation = self.operation;
        match self.verdict.clone() {
            ProviderVerdict::Yes(acknowledgement) => Command::Acknowledge { acknowledgement, operation },
            ProviderVerdict::No(rejection) => Command::Decline { rejection, operation },
        }
    }

    /// Whether a booking that was settled before was settled as this answer says.
    fn agrees_with(&self, booking: &Booking) -> bool {
        match (&self.verdict, booking.status()) {
            // It repeats its answer to an operation that is over.
            (ProviderVerdict::No(_), Status::Reserved | Status::Confirmed) => {
                booking.refusal.as_ref().is_some_and(|refusal| {
                    Some(refusal.operation) == self.operation
                        && matches!(refusal.reason, RefusalReason::Declined(_))
                })
            }
            (ProviderVerdict::Yes(yes), Status::Reserved) => yes.reserved_until.is_some(),
            (ProviderVerdict::Yes(yes), Status::Confirmed | Status::Completed | Status::NoShow) => {
                yes.reserved_until.is_none()
            }
            // A no to a booking that has ended asks for nothing more. A yes to one that was withdrawn is
            // taken, and undone at the provider.
            (ProviderVerdict::No(_), Status::Rejected) | (_, Status::Cancelled | Status::Expired) => true,
            (ProviderVerdict::Yes(_), Status::Pending | Status::Rejected)
            | (ProviderVerdict::No(_), Status::Pending | Status::Completed | Status::NoShow) => false,
        }
    }
}

/// Takes a provider's answer to one of its bookings. The first definite answer wins; one that agrees
/// changes nothing; one that contradicts is refused; a yes after the end is compensated.
pub async fn acknowledge(
    store: &impl BookingStore,
    clock: &impl Clock,
    caller: &ProviderCaller,
    id: &BookingId,
    answer: &ProviderAnswer,
) -> Result<Acknowledged, Problem> {
    for _ in 0..MAX_CONFLICTS {
        let seen = its_booking(store, caller, id).await?;
        let status_before = seen.booking.status();
        let agrees = answer.agrees_with(&seen.booking);
        let changed = match transition(&seen.booking, answer.command(), clock.now()) {
            Ok(transition) => transition.booking,
            Err(refused @ Refused::TooManyVersions) => return Err(refusal(&seen.booking, refused)),
            Err(_) if agrees => return Ok(Acknowledged { booking: seen.booking }),
            Err(_) => return Err(contradiction(status_before)),
        };
        let next = seen.with_booking(changed);
        match replace(store, &seen, &next).await {
            Ok(Replaced::Done) if !status_before.is_final() || agrees => {
                tracing::info!(
                    booking.id = %id,
                    booking.status = next.booking.status().as_str(),
                    provider.id = %caller.provider_id,
                    "A provider called back."
                );
                return Ok(Acknowledged { booking: next.booking });
            }
            // It said no, and now yes: the no stands, and what it may hold is undone.
            Ok(Replaced::Done) => return Err(contradiction(status_before)),
            Ok(Replaced::Conflict(_)) => {}
            // What a provider tells takes no slot.
            Ok(Replaced::Gone | Replaced::SlotTaken) => return Err(not_found()),
            Err(error) => return Err(store_problem(&error, SideEffects::None)),
        }
    }
    Err(contention_problem(SideEffects::None))
}

/// A provider withdraws one of its bookings. What is withdrawn already stays so.
pub async fn cancel_by_provider(
    store: &impl BookingStore,
    clock: &impl Clock,
    caller: &ProviderCaller,
    id: &BookingId,
    withdrawal: &Withdrawal,
) -> Result<Acknowledged, Problem> {
    tell(store, clock, caller, id, &Command::CancelByProvider(withdrawal.clone())).await
}

/// A provider tells whether the customer of one of its bookings came. The first word stands.
pub async fn tell_attendance(
    store: &impl BookingStore,
    clock: &impl Clock,
    caller: &ProviderCaller,
    id: &BookingId,
    attended: bool,
) -> Result<Acknowledged, Problem> {
    tell(store, clock, caller, id, &Command::TellAttendance { attended }).await
}

/// Who calls: a provider in one mode, from the verified key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderCaller {
    /// The provider.
    pub provider_id: ProviderId,
    /// The key's mode.
    pub mode: Mode,
}

/// Applies what a provider tells of a booking; what is so already is no error.
async fn tell(
    store: &impl BookingStore,
    clock: &impl Clock,
    caller: &ProviderCaller,
    id: &BookingId,
    command: &Command,
) -> Result<Acknowledged, Problem> {
    for _ in 0..MAX_CONFLICTS {
        let seen = its_booking(store, caller, id).await?;
        let changed = match transition(&seen.booking, command.clone(), clock.now()) {
            Ok(transition) => transition.booking,
            Err(Refused::NothingToChange) => return Ok(Acknowledged { booking: seen.booking }),
            Err(refused) => return Err(refusal(&seen.booking, refused)),
        };
        let next = seen.with_booking(changed);
        match replace(store, &seen, &next).await {
            Ok(Replaced::Done) => {
                tracing::info!(
                    booking.id = %id,
                    booking.status = next.booking.status().as_str(),
                    provider.id = %caller.provider_id,
                    "A provider changed a booking."
                );
                return Ok(Acknowledged { booking: next.booking });
            }
            Ok(Replaced::Conflict(_)) => {}
            // What a provider tells takes no slot.
            Ok(Replaced::Gone | Replaced::SlotTaken) => return Err(not_found()),
            Err(error) => return Err(store_problem(&error, SideEffects::None)),
        }
    }
    Err(contention_problem(SideEffects::None))
}

/// A booking of the calling provider; another's is told like one that does not exist.
async fn its_booking(
    store: &impl BookingStore,
    caller: &ProviderCaller,
    id: &BookingId,
) -> Result<StoredBooking, Problem> {
    let is_its = |seen: &StoredBooking| {
        seen.booking.request.provider_id == caller.provider_id && seen.booking.tenant.mode == caller.mode
    };
    match store.read(id).await {
        Ok(Some(seen)) if is_its(&seen) => Ok(seen),
        Ok(_) => Err(not_found()),
        Err(error) => Err(store_problem(&error, SideEffects::None)),
    }
}

fn refusal(booking: &Booking, refused: Refused) -> Problem {
    let problem = match refused {
        Refused::TooManyVersions => {
            let detail = "The booking has too many versions to take one more.";
            Problem::new(ProblemCode::TooManyChanges, detail)
        }
        Refused::OperationInFlight => {
            Problem::new(ProblemCode::OperationInFlight, "A change of the booking is in flight.")
                .retry_after_s(1)
        }
        _ => {
            let detail =
                format!("The booking is {}; this does not follow from it.", booking.status().as_str());
            Problem::new(ProblemCode::StatusConflict, detail)
        }
    };
    problem.about(&booking.id)
}

fn not_found() -> Problem {
    Problem::new(ProblemCode::NotFound, "There is no such booking at this provider.")
}

fn contradiction(status: Status) -> Problem {
    let detail = format!("The booking is {}; the first definite answer stands.", status.as_str());
    Problem::new(ProblemCode::Contradiction, detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::EPOCH.plus_ms(1_800_000_000_000)
    }

    fn read(body: &Value) -> Result<ProviderVerdict, Vec<String>> {
        match read_provider_answer(body, now()) {
            Ok(answer) => Ok(answer.verdict),
            Err(problem) => Err(problem.errors.into_iter().map(|error| error.pointer).collect()),
        }
    }

    fn yes(reserved_until: Option<Timestamp>) -> ProviderVerdict {
        ProviderVerdict::Yes(Acknowledgement { provider_reference: Some("P-1".to_owned()), reserved_until })
    }

    #[test]
    fn each_answer_is_read() {
        let body = |status: &str| json!({"status": status, "provider_reference": "P-1"});
        assert_eq!(read(&body("confirmed")), Ok(yes(None)));
        assert_eq!(
            read(&body("reserved")),
            Ok(yes(Some(now().plus_ms(15 * 60_000)))),
            "15 minutes if it is not said"
        );
        let mut reserved = body("reserved");
        reserved["expires_at"] = json!(now());
        assert_eq!(read(&reserved), Ok(yes(Some(now()))));
        let rejected = json!({"status": "rejected", "rejection": {"code": "full", "message": "No room"}});
        let no = Rejection {
            code: DECLINED_BY_PROVIDER.to_owned(),
            message: Some("No room".to_owned()),
            provider_code: Some("full".to_owned()),
        };
        assert_eq!(read(&rejected), Ok(ProviderVerdict::No(no)));
        assert_eq!(read(&body("perhaps")), Err(vec!["/status".to_owned()]));
    }

    #[test]
    fn a_no_that_is_repeated_agrees_with_the_refusal_of_the_change_that_it_names() {
        let mut booking = crate::test_util::pending(BookingId::from_bytes([1; 16]), now());
        (booking.state, booking.operation) = (holdfast_domain::State::Confirmed, None);
        let rejection = Rejection { code: "c".to_owned(), message: None, provider_code: None };
        let no = |operation| ProviderAnswer { verdict: ProviderVerdict::No(rejection.clone()), operation };
        assert!(!no(Some(2)).agrees_with(&booking), "nothing was refused");
        for (reason, agrees) in
            [(RefusalReason::Declined(rejection.clone()), true), (RefusalReason::Unresolved, false)]
        {
            booking.refusal = Some(holdfast_domain::Refusal { operation: 2, reason });
            assert_eq!(no(Some(2)).agrees_with(&booking), agrees);
            assert!(!no(Some(3)).agrees_with(&booking) && !no(None).agrees_with(&booking));
        }
    }

    #[test]
    fn what_is_refused_is_told_by_its_own_code() {
        let booking = crate::test_util::pending(BookingId::from_bytes([1; 16]), now());
        for (refused, code) in [
            (Refused::TooManyVersions, ProblemCode::TooManyChanges),
            (Refused::OperationInFlight, ProblemCode::OperationInFlight),
            (Refused::DeadlinePassed, ProblemCode::StatusConflict),
        ] {
            assert_eq!(refusal(&booking, refused).code, code);
        }
    }

    #[test]
    fn texts_of_a_provider_have_a_length_and_no_control_characters() {
        let body = |reference: &str, code: &str, message: &str| {
            let rejection = json!({"code": code, "message": message});
            json!({"status": "rejected", "provider_reference": reference, "rejection": rejection})
        };
        // Characters, not bytes.
        let long = |chars: usize| "\u{e9}".repeat(chars);
        let [reference, code, message] = [MAX_ID_CHARS, MAX_PROVIDER_CODE_CHARS, MAX_PROVIDER_MESSAGE_CHARS];
        assert!(read(&body(&long(reference), &long(code), &long(message))).is_ok());
        let all = ["/provider_reference", "/rejection/code", "/rejection/message"];
        let too_long = body(&long(reference + 1), &long(code + 1), &long(message + 1));
        assert_eq!(read(&too_long).unwrap_err(), all);
        assert_eq!(read(&body("a\nb", "a\nb", "a\nb")).unwrap_err(), all);
    }
}
