//! The bodies of what changes a booking: by its consumer, and by its provider.

use holdfast_domain::{Change, Mode, OperationKind, Patience, ProviderId, Timestamp, Withdrawal};
use serde::Deserialize;
use serde_json::Value;

use super::MAX_ID_CHARS;
use super::request::{Check, NamedSlot, SlotBody, invalid, key_refused_at, slot_refused_at};
use crate::availability::{BookingKeySecret, KeyFault, KeyedSlot, open_key};
use crate::parse;
use crate::problem::{Problem, ProblemCode};
use crate::text::TextKind;

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
    slot: Option<SlotBody>,
    booking_key: Option<String>,
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

/// What is asked for, as a consumer names it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NamedChange {
    /// The change itself.
    Change(Change),
    /// To a slot by its booking key.
    RescheduleTo(String),
}

/// A change whose form is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadChange {
    change: NamedChange,
    patience: Patience,
    sync_timeout_ms: u64,
    async_timeout_ms: u64,
}

/// What a booking key adds to a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTerms {
    /// The provider that it is for.
    pub provider_id: ProviderId,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// A change that is well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidChange {
    /// What is asked for.
    pub change: Change,
    /// What the booking key says that names its slot, if one does.
    pub key: Option<KeyTerms>,
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
    fn read(self, mut check: Check, change: Option<NamedChange>) -> Result<ReadChange, Problem> {
        let sync_timeout_ms = check.sync_timeout(self.sync_timeout_ms);
        let async_timeout_ms = check.async_timeout(self.async_timeout_ms);
        check.errors.finish()?;
        let change =
            change.ok_or_else(|| Problem::new(ProblemCode::InvalidRequest, "The body is not valid."))?;
        let patience = if self.async_confirmation { Patience::Background } else { Patience::Synchronous };
        Ok(ReadChange { change, patience, sync_timeout_ms, async_timeout_ms })
    }
}

impl ReadChange {
    /// The booking key that it names its slot by, if it does.
    pub fn booking_key(&self) -> Option<&str> {
        match &self.change {
            NamedChange::Change(_) => None,
            NamedChange::RescheduleTo(key) => Some(key),
        }
    }

    /// The change with its slot, given the secrets that booking keys are signed with. A key that has expired still
    /// says which slot it stands for: a repetition has to get its first response.
    pub fn with_slot(self, secrets: &[BookingKeySecret], mode: Mode) -> Result<ValidChange, Problem> {
        let Self { change, patience, sync_timeout_ms, async_timeout_ms } = self;
        let (change, key) = match change {
            NamedChange::Change(change) => (change, None),
            NamedChange::RescheduleTo(key) => {
                let KeyedSlot { slot, provider_id, expires_at, availability_id: _ } =
                    open_key(&key, secrets, mode).map_err(KeyFault::problem)?;
                (Change::Reschedule(slot), Some(KeyTerms { provider_id, expires_at }))
            }
        };
        Ok(ValidChange { change, key, patience, sync_timeout_ms, async_timeout_ms })
    }
}

/// Reads the body of an operation. Every field at fault is named.
///
/// A booking is made by [`read_create`](super::read_create); as a change it has no body.
pub fn read_change(kind: OperationKind, body: &Value) -> Result<ReadChange, Problem> {
    match kind {
        OperationKind::Book | OperationKind::Confirm => read_confirm(body),
        OperationKind::Extend => read_extend(body),
        OperationKind::Cancel => read_cancel(body),
        OperationKind::Reschedule => read_reschedule(body),
    }
}

fn read_confirm(body: &Value) -> Result<ReadChange, Problem> {
    let (body, errors) = parse::parse_checked::<ConfirmBody>(body)?.into_parts();
    let limits = Limits {
        async_confirmation: body.async_confirmation,
        sync_timeout_ms: body.sync_confirmation_timeout_millisecond,
        async_timeout_ms: body.async_confirmation_timeout_millisecond,
    };
    limits.read(Check { errors }, Some(NamedChange::Change(Change::Confirm)))
}

fn read_extend(body: &Value) -> Result<ReadChange, Problem> {
    let (body, errors) = parse::parse_checked::<ExtendBody>(body)?.into_parts();
    let mut check = Check { errors };
    let expires_at = check.time("/expires_at", &body.expires_at);
    let limits = Limits {
        async_confirmation: body.async_confirmation,
        sync_timeout_ms: body.sync_confirmation_timeout_millisecond,
        async_timeout_ms: body.async_confirmation_timeout_millisecond,
    };
    let extend = |expires_at| NamedChange::Change(Change::Extend { expires_at });
    limits.read(check, expires_at.map(extend))
}

fn read_reschedule(body: &Value) -> Result<ReadChange, Problem> {
    let (body, errors) = parse::parse_checked::<RescheduleBody>(body)?.into_parts();
    let mut check = Check { errors };
    let slot = check.named_slot(body.slot.as_ref(), body.booking_key);
    let limits = Limits {
        async_confirmation: body.async_confirmation,
        sync_timeout_ms: body.sync_confirmation_timeout_millisecond,
        async_timeout_ms: body.async_confirmation_timeout_millisecond,
    };
    let to = |slot| match slot {
        NamedSlot::Slot(slot) => NamedChange::Change(Change::Reschedule(slot)),
        NamedSlot::Key(key) => NamedChange::RescheduleTo(key),
    };
    limits.read(check, slot.map(to))
}

fn read_cancel(body: &Value) -> Result<ReadChange, Problem> {
    let (body, errors) = parse::parse_checked::<CancelBody>(body)?.into_parts();
    let mut check = Check { errors };
    check.name("/reason", body.reason.as_deref(), MAX_ID_CHARS);
    if let Some(note) = &body.note {
        check.text("/note", note, TextKind::Line, MAX_WITHDRAWAL_NOTE_CHARS);
    }
    let limits = Limits {
        // It always goes on.
        async_confirmation: true,
        sync_timeout_ms: body.sync_confirmation_timeout_millisecond,
        async_timeout_ms: body.async_confirmation_timeout_millisecond,
    };
    let withdrawal = Withdrawal { reason: body.reason, note: body.note };
    limits.read(check, Some(NamedChange::Change(Change::Cancel(withdrawal))))
}

impl ValidChange {
    /// What cannot be asked for at this time although it is well formed: slots in the past or too far
    /// ahead, and holds until a time that has passed.
    pub fn refused_at(&self, now: Timestamp) -> Option<Problem> {
        match &self.change {
            Change::Reschedule(slot) => {
                let expires_at = self.key.as_ref().map(|key| key.expires_at);
                key_refused_at(expires_at, now).or_else(|| slot_refused_at(slot, now))
            }
            Change::Extend { expires_at } if *expires_at <= now => {
                Some(invalid("/expires_at", format!("is in the past: it is {now} now")))
            }
            Change::Extend { .. } | Change::Book | Change::Confirm | Change::Cancel(_) => None,
        }
    }

    /// What cannot be asked for at this provider: slots that a booking key of another one stands for.
    pub fn refused_by(&self, provider_id: &ProviderId) -> Option<Problem> {
        let is_elsewhere = self.key.as_ref().is_some_and(|key| key.provider_id != *provider_id);
        is_elsewhere.then(|| KeyFault::Elsewhere.problem())
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
    check.name("/reason", body.reason.as_deref(), MAX_ID_CHARS);
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
    fn a_slot_is_named_by_itself_or_by_a_key() {
        let named = |body| read_change(OperationKind::Reschedule, &body).unwrap();
        assert_eq!(named(json!({"slot": slot()})).booking_key(), None);
        assert_eq!(named(json!({"booking_key": "bk_1"})).booking_key(), Some("bk_1"));
    }

    #[test]
    fn a_key_of_another_provider_is_refused() {
        let id = |name| ProviderId::parse(name).unwrap();
        let key = KeyTerms { provider_id: id("clinic"), expires_at: Timestamp::EPOCH };
        let confirm = read_change(OperationKind::Confirm, &json!({})).unwrap();
        let confirm = confirm.with_slot(&[], Mode::Test).unwrap();
        assert!(confirm.refused_by(&id("clinic")).is_none());
        let keyed = ValidChange { key: Some(key), ..confirm };
        assert!(keyed.refused_by(&id("clinic")).is_none());
        assert_eq!(keyed.refused_by(&id("harbour")).unwrap().errors[0].pointer, "/booking_key");
    }

    #[test]
    fn what_a_provider_tells_of_a_booking_is_read() {
        let withdrawal = read_provider_cancel(&json!({"reason": "ill"})).unwrap();
        assert_eq!(withdrawal, Withdrawal { reason: Some("ill".to_owned()), note: None });
        assert!(read_provider_cancel(&json!({"reason": "x".repeat(MAX_ID_CHARS + 1)})).is_err());
        let attendance = |status: &str| read_attendance(&json!({"status": status}));
        assert_eq!((attendance("attended"), attendance("no_show")), (Ok(true), Ok(false)));
        assert_eq!(attendance("late").unwrap_err().errors[0].pointer, "/status");
    }

    #[test]
    fn what_lies_in_the_past_is_refused_by_the_clock() {
        let extend = read_change(OperationKind::Extend, &json!({"expires_at": "2027-01-15T09:00:00Z"}));
        let extend = extend.unwrap().with_slot(&[], Mode::Test).unwrap();
        let at = Timestamp::parse_rfc3339("2027-01-15T09:00:00Z").unwrap();
        assert!(extend.refused_at(at.minus_ms(1)).is_none());
        assert_eq!(extend.refused_at(at).unwrap().errors[0].pointer, "/expires_at");
    }
}
