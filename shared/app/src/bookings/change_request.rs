//! The bodies of what changes a booking: by its consumer, and by its provider.

use holdfast_domain::{Change, OperationKind, Patience, Timestamp, Withdrawal};
use serde::Deserialize;
use serde_json::Value;

use super::MAX_ID_CHARS;
use super::request::{Check, SlotBody, invalid, slot_refused_at};
use crate::parse;
use crate::problem::{Problem, ProblemCode};

/// The longest note to a cancellation, in characters.
const MAX_WITHDRAWAL_NOTE_CHARS: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfirmBody {
    #[serde(default)]
    async_confirmation: bool,
    sync_confirmation_timeout_millisecond: Option<u64>,
    async_confirmation_timeout_millisecond: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtendBody {
    expires_at: String,
    #[serde(default)]
    async_confirmation: bool,
    sync_confirmation_timeout_millisecond: Option<u64>,
    async_confirmation_timeout_millisecond: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RescheduleBody {
    slot: SlotBody,
    #[serde(default)]
    async_confirmation: bool,
    sync_confirmation_timeout_millisecond: Option<u64>,
    async_confirmation_timeout_millisecond: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelBody {
    reason: Option<String>,
    note: Option<String>,
    /// Accepted as in every operation; a cancel goes on in the background in any case.
    #[serde(default, rename = "async_confirmation")]
    _async_confirmation: bool,
    sync_confirmation_timeout_millisecond: Option<u64>,
    async_confirmation_timeout_millisecond: Option<u64>,
}

/// A change that is well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidChange {
    /// What is asked for.
    pub change: Change,
    /// Whether it goes on in the background.
    pub patience: Patience,
    /// The synchronous limit, in milliseconds.
    pub sync_timeout_ms: u64,
    /// The background deadline, in milliseconds.
    pub async_timeout_ms: u64,
}

/// The members that every operation takes.
struct Limits {
    async_confirmation: bool,
    sync_timeout_ms: Option<u64>,
    async_timeout_ms: Option<u64>,
}

impl Limits {
    fn valid(self, mut check: Check, change: Option<Change>) -> Result<ValidChange, Problem> {
        let sync_timeout_ms = check.sync_timeout(self.sync_timeout_ms);
        let async_timeout_ms = check.async_timeout(self.async_timeout_ms);
        check.errors.finish()?;
        let change =
            change.ok_or_else(|| Problem::new(ProblemCode::InvalidRequest, "The body is not valid."))?;
        let is_patient = self.async_confirmation || change.kind() == OperationKind::Cancel;
        let patience = if is_patient { Patience::Background } else { Patience::Synchronous };
        Ok(ValidChange { change, patience, sync_timeout_ms, async_timeout_ms })
    }
}

/// Reads the body of an operation. Every field at fault is named.
///
/// A booking is made by [`read_create`](super::read_create); as a change it has no body.
pub fn read_change(kind: OperationKind, body: &Value) -> Result<ValidChange, Problem> {
    match kind {
        OperationKind::Book | OperationKind::Confirm => read_confirm(body),
        OperationKind::Extend => read_extend(body),
        OperationKind::Cancel => read_cancel(body),
        OperationKind::Reschedule => read_reschedule(body),
    }
}

fn read_confirm(body: &Value) -> Result<ValidChange, Problem> {
    let (body, errors) = parse::parse_checked::<ConfirmBody>(body)?.into_parts();
    let limits = Limits {
        async_confirmation: body.async_confirmation,
        sync_timeout_ms: body.sync_confirmation_timeout_millisecond,
        async_timeout_ms: body.async_confirmation_timeout_millisecond,
    };
    limits.valid(Check { errors }, Some(Change::Confirm))
}

fn read_extend(body: &Value) -> Result<ValidChange, Problem> {
    let (body, errors) = parse::parse_checked::<ExtendBody>(body)?.into_parts();
    let mut check = Check { errors };
    let expires_at = check.time("/expires_at", &body.expires_at);
    let limits = Limits {
        async_confirmation: body.async_confirmation,
        sync_timeout_ms: body.sync_confirmation_timeout_millisecond,
        async_timeout_ms: body.async_confirmation_timeout_millisecond,
    };
    limits.valid(check, expires_at.map(|expires_at| Change::Extend { expires_at }))
}

fn read_reschedule(body: &Value) -> Result<ValidChange, Problem> {
    let (body, errors) = parse::parse_checked::<RescheduleBody>(body)?.into_parts();
    let mut check = Check { errors };
    let slot = check.slot(&body.slot);
    let limits = Limits {
        async_confirmation: body.async_confirmation,
        sync_timeout_ms: body.sync_confirmation_timeout_millisecond,
        async_timeout_ms: body.async_confirmation_timeout_millisecond,
    };
    limits.valid(check, slot.map(Change::Reschedule))
}

fn read_cancel(body: &Value) -> Result<ValidChange, Problem> {
    let (body, errors) = parse::parse_checked::<CancelBody>(body)?.into_parts();
    let mut check = Check { errors };
    check.optional("/reason", body.reason.as_deref(), MAX_ID_CHARS);
    check.optional("/note", body.note.as_deref(), MAX_WITHDRAWAL_NOTE_CHARS);
    let limits = Limits {
        async_confirmation: true,
        sync_timeout_ms: body.sync_confirmation_timeout_millisecond,
        async_timeout_ms: body.async_confirmation_timeout_millisecond,
    };
    let withdrawal = Withdrawal { reason: body.reason, note: body.note };
    limits.valid(check, Some(Change::Cancel(withdrawal)))
}

impl ValidChange {
    /// What cannot be asked for at this time although it is well formed: slots in the past or too far
    /// ahead, and holds until a time that has passed.
    pub fn refused_at(&self, now: Timestamp) -> Option<Problem> {
        match &self.change {
            Change::Reschedule(slot) => slot_refused_at(slot, now),
            Change::Extend { expires_at } if *expires_at <= now => {
                Some(invalid("/expires_at", format!("is in the past: it is {now} now")))
            }
            Change::Extend { .. } | Change::Book | Change::Confirm | Change::Cancel(_) => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderCancelBody {
    reason: Option<String>,
}

/// Reads the body with which a provider withdraws a booking.
pub fn read_provider_cancel(body: &Value) -> Result<Withdrawal, Problem> {
    let (body, errors) = parse::parse_checked::<ProviderCancelBody>(body)?.into_parts();
    let mut check = Check { errors };
    check.optional("/reason", body.reason.as_deref(), MAX_ID_CHARS);
    check.errors.finish()?;
    Ok(Withdrawal { reason: body.reason, note: None })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttendanceBody {
    status: String,
}

/// Reads the body with which a provider tells whether the customer came.
pub fn read_attendance(body: &Value) -> Result<bool, Problem> {
    let (body, errors) = parse::parse_checked::<AttendanceBody>(body)?.into_parts();
    let mut check = Check { errors };
    if !matches!(body.status.as_str(), "attended" | "no_show") {
        check.error("/status", "must be attended or no_show");
    }
    check.errors.finish()?;
    Ok(body.status == "attended")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slot() -> Value {
        json!({"location_id": "l", "start": "2027-01-15T09:00:00Z", "end": "2027-01-15T09:30:00Z"})
    }

    fn pointers(kind: OperationKind, body: &Value) -> Vec<String> {
        let problem = read_change(kind, body).unwrap_err();
        problem.errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn a_cancel_alone_always_goes_on_in_the_background() {
        let read = |kind, body| read_change(kind, &body).unwrap().patience;
        assert_eq!(read(OperationKind::Cancel, json!({"async_confirmation": false})), Patience::Background);
        assert_eq!(read(OperationKind::Confirm, json!({})), Patience::Synchronous);
        assert_eq!(
            read(OperationKind::Reschedule, json!({"slot": slot(), "async_confirmation": true})),
            Patience::Background
        );
    }

    #[test]
    fn each_field_at_fault_is_named() {
        assert_eq!(pointers(OperationKind::Extend, &json!({})), ["/expires_at"]);
        assert_eq!(pointers(OperationKind::Extend, &json!({"expires_at": "soon"})), ["/expires_at"]);
        assert_eq!(pointers(OperationKind::Reschedule, &json!({})), ["/slot"]);
        assert_eq!(pointers(OperationKind::Reschedule, &json!({"slot": {}})).len(), 3);
        assert_eq!(pointers(OperationKind::Confirm, &json!({"slot": slot()})), ["/slot"]);
        assert_eq!(
            pointers(OperationKind::Confirm, &json!({"sync_confirmation_timeout_millisecond": 1})),
            ["/sync_confirmation_timeout_millisecond"]
        );
    }

    #[test]
    fn what_lies_in_the_past_is_refused_by_the_clock() {
        let extend = read_change(OperationKind::Extend, &json!({"expires_at": "2027-01-15T09:00:00Z"}));
        let extend = extend.unwrap();
        let at = Timestamp::parse_rfc3339("2027-01-15T09:00:00Z").unwrap();
        assert!(extend.refused_at(at.minus_ms(1)).is_none());
        assert_eq!(extend.refused_at(at).unwrap().errors[0].pointer, "/expires_at");
    }
}
