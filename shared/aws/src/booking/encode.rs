//! From a booking to its item.

use holdfast_app::stored::{OperationRecord, StoredBooking};
use holdfast_domain::{
    AttemptError, Booking, BookingId, Cancellation, CancellationReason, Cause, Change, Compensation,
    CompensationRun, ConfirmationMode, HistoryEntry, Notification, NotificationKind, NotificationRoute,
    Operation, OperationKind, Overtaken, Patience, Personal, Phase, Refusal, RefusalReason, Rejection, Slot,
    State, Timestamp, Withdrawal,
};

use super::history::{entry_text, status_letter};
use super::item::{
    BookingItem, CompensationItem, FIRST_FORMAT, MoveItem, NotificationItem, OPERATOR_FORMAT, OperationItem,
    OperationRecordItem, OvertakenItem, PhaseItem, RefusalItem, RejectionItem, RunItem, SlotItem,
    TELLING_FORMAT, UnitItem, WithdrawalItem,
};
use super::list::reference_digest;
use super::overdue::shard_of;
use super::response::pack;
use crate::item::Bytes;

/// What every partition key of a booking begins with; the stream's filter names it too.
pub(super) const PK_PREFIX: &str = "BKG#";

const MS_PER_SECOND: i64 = 1_000;
const MS_PER_DAY: u64 = 24 * 60 * 60 * 1_000;

/// How much longer an item is kept that a later generation of its key has superseded, besides the
/// retention once more, in milliseconds: two years, the farthest ahead that a slot may begin, a year, the
/// longest that it may last, 14 days, the key's retention, and a day. So it outlives its successor, whatever
/// that one books.
const SUPERSEDED_EXTRA_MS: u64 = (3 * 366 + 14 + 1) * MS_PER_DAY;

/// The partition key of a booking.
pub(super) fn partition_key(id: &BookingId) -> String {
    format!("{PK_PREFIX}{id}")
}

/// The item of a booking that is kept for `retention_ms` after its slot.
pub(super) fn item_of(stored: &StoredBooking, retention_ms: u64, nonce: Bytes) -> BookingItem {
    let StoredBooking { booking, create, operations, exclusive_slots, rev } = stored;
    let Booking { id, tenant, request, slot, state, provider_reference, .. } = booking;
    let customer = request.customer.as_ref().map(Personal::expose);
    let due = index_due_at(booking).map(|due_at| (shard_of(id, due_at), due_at.as_unix_ms()));
    let (due_shard, due_at) = due.unzip();
    let response = create.as_ref().and_then(|create| create.response.as_ref());
    BookingItem {
        pk: partition_key(id),
        format: format_of(stored),
        rev: *rev,
        nonce,
        tenant: tenant.to_string(),
        provider_id: request.provider_id.as_str().to_owned(),
        status: status_letter(state.status()).to_string(),
        location_id: slot.location_id.clone(),
        start: slot.start.as_unix_ms(),
        end: slot.end.as_unix_ms(),
        history: booking.history.iter().map(entry_text).collect(),
        operations_begun: booking.operations_begun,
        resource_id: slot.resource_id.clone(),
        service_id: slot.service_id.clone(),
        customer_name: customer.map(|customer| customer.name.clone()),
        customer_email: customer.and_then(|customer| customer.email.clone()),
        customer_phone: customer.and_then(|customer| customer.phone.clone()),
        customer_birth_date: customer.and_then(|customer| customer.birth_date.clone()),
        customer_language: customer.and_then(|customer| customer.language.clone()),
        reference: request.reference.clone(),
        notes: request.notes.as_ref().map(|notes| notes.expose().clone()),
        metadata: request.metadata.clone(),
        units: request
            .units
            .iter()
            .map(|unit| UnitItem { unit_id: unit.unit_id.clone(), quantity: unit.quantity })
            .collect(),
        hold: request.hold,
        availability_id: request.availability_id.clone(),
        expires_at: expires_at(state),
        rejection: rejection(state),
        cancelled_by_system: cancelled_by_system(state),
        withdrawal: withdrawal(state),
        confirmation: mode_name(booking.confirmation).map(str::to_owned),
        is_pulled: booking.route == NotificationRoute::Pull,
        notifications: booking.notifications.iter().map(|told| notification(told, slot)).collect(),
        moves: moves(booking),
        exclusive_slots: *exclusive_slots,
        created_at: Some(booking.created_at().as_unix_ms()),
        reference_digest: request.reference.as_ref().map(|reference| reference_digest(tenant, reference)),
        refusal: booking.refusal.as_ref().map(refusal),
        operation_records: operations.iter().map(operation_record).collect(),
        provider_reference: provider_reference.clone(),
        operation: booking.operation.as_ref().map(operation),
        compensation: compensation(&booking.compensation),
        fingerprint: create.as_ref().map(|create| Bytes(create.fingerprint.0.to_vec())),
        generation: create.as_ref().map_or(0, |create| create.generation),
        superseded_by: create.as_ref().and_then(|create| create.superseded_by),
        response_status: response.map(|response| response.status),
        response_body: response.map(|response| Bytes(pack(&response.body))),
        due_shard,
        due_at,
        ttl: ttl(stored, retention_ms),
    }
}

/// The lowest format that says everything in an item.
///
/// Older code refuses what has a letter or name that it does not know, but would pass over what is merely
/// beside it, and work on the booking as if its provider had to be asked for it.
fn format_of(stored: &StoredBooking) -> u32 {
    let booking = &stored.booking;
    let is_new_operation = booking.operation.as_ref().is_some_and(|operation| {
        let is_new_change = match operation.change {
            Change::Book | Change::Cancel(_) => false,
            Change::Confirm | Change::Extend { .. } | Change::Reschedule(_) => true,
        };
        is_new_change || operation.resolve_until.is_some() || operation.overtaken.is_some()
    });
    let is_new = booking.confirmation != ConfirmationMode::Confirm
        || booking.route != NotificationRoute::Push
        || !booking.notifications.is_empty()
        || stored.exclusive_slots
        || is_new_operation;
    let operator = State::Cancelled(Cancellation::BySystem(CancellationReason::Operator));
    let is_by_operator =
        |entry: &HistoryEntry| matches!(entry.cause, Cause::CancelledByOperator | Cause::RetriedByOperator);
    if booking.state == operator || booking.history.iter().any(is_by_operator) {
        OPERATOR_FORMAT
    } else if is_new {
        TELLING_FORMAT
    } else {
        FIRST_FORMAT
    }
}

/// The stored name of a mode; that of bookings which the provider confirms is left out.
pub(super) fn mode_name(mode: ConfirmationMode) -> Option<&'static str> {
    match mode {
        ConfirmationMode::Confirm => None,
        ConfirmationMode::Notify => Some("n"),
        ConfirmationMode::RealTime => Some("r"),
    }
}

pub(super) fn slot_item(slot: &Slot) -> SlotItem {
    SlotItem {
        location_id: slot.location_id.clone(),
        start: slot.start.as_unix_ms(),
        end: slot.end.as_unix_ms(),
        resource_id: slot.resource_id.clone(),
        service_id: slot.service_id.clone(),
    }
}

fn moves(booking: &Booking) -> Vec<MoveItem> {
    let versions = (1_u32..).zip(&booking.history);
    let moves = versions.filter_map(|(version, entry)| Some((version, entry.moved_from.as_ref()?)));
    moves.map(|(version, from)| MoveItem { version, from: slot_item(from) }).collect()
}

/// The stored name of a notification that there is a booking.
pub(super) const TELLS_BOOKED: &str = "b";

/// The stored name of a notification that the booking has moved.
pub(super) const TELLS_MOVED: &str = "m";

/// The stored name of a notification that the booking is withdrawn.
pub(super) const TELLS_CANCELLED: &str = "c";

/// `slot` is the booking's, which is left out.
pub(super) fn notification(notification: &Notification, slot: &Slot) -> NotificationItem {
    let (kind, from) = match &notification.kind {
        NotificationKind::Booked => (TELLS_BOOKED, None),
        NotificationKind::Moved { from } => (TELLS_MOVED, Some(slot_item(from))),
        NotificationKind::Cancelled => (TELLS_CANCELLED, None),
    };
    NotificationItem {
        kind: kind.to_owned(),
        from,
        slot: (notification.slot != *slot).then(|| slot_item(&notification.slot)),
        version: notification.version,
        number: notification.number,
        begun_at: notification.begun_at.as_unix_ms(),
        attempts: notification.attempts,
        skipped: notification.skipped,
        last_error: notification.last_error.map(AttemptError::code),
        phase: phase(notification.phase),
    }
}

fn refusal(refusal: &Refusal) -> RefusalItem {
    let (rejection, error) = match &refusal.reason {
        RefusalReason::Declined(rejection) => (Some(rejection_item(rejection)), None),
        RefusalReason::Failed(error) => (None, Some(error.code())),
        RefusalReason::Unresolved => (None, None),
    };
    let unresolved = refusal.reason == RefusalReason::Unresolved;
    RefusalItem { operation: refusal.operation, rejection, error, unresolved }
}

/// When the booking is due, as the sparse index shows it. While the request that made it is still at work
/// it is not in the index, so that the hot path pays for no index write.
fn index_due_at(booking: &Booking) -> Option<Timestamp> {
    if booking.is_within_its_request() { None } else { booking.due_at() }
}

/// Until when a booking is kept, and whom it is for.
pub(super) fn kept_until(stored: &StoredBooking, retention_ms: u64) -> Timestamp {
    let booking = &stored.booking;
    let last_operation = stored.operations.iter().map(|record| record.at).max();
    let over_at = booking.created_at().max(booking.slot.end).max(last_operation.unwrap_or(Timestamp::EPOCH));
    over_at.plus_ms(retention_ms)
}

fn ttl(stored: &StoredBooking, retention_ms: u64) -> i64 {
    let kept_until = kept_until(stored, retention_ms);
    let superseded = stored.create.as_ref().is_some_and(|create| create.superseded_by.is_some());
    let kept_until = if superseded {
        kept_until.plus_ms(retention_ms.saturating_add(SUPERSEDED_EXTRA_MS))
    } else {
        kept_until
    };
    kept_until.as_unix_ms() / MS_PER_SECOND
}

fn expires_at(state: &State) -> Option<i64> {
    match state {
        State::Reserved { expires_at } => Some(expires_at.as_unix_ms()),
        State::Pending
        | State::Confirmed
        | State::Rejected(_)
        | State::Cancelled(_)
        | State::Expired
        | State::Completed
        | State::NoShow => None,
    }
}

fn rejection(state: &State) -> Option<RejectionItem> {
    match state {
        State::Rejected(rejection) => Some(rejection_item(rejection)),
        State::Pending
        | State::Reserved { .. }
        | State::Confirmed
        | State::Cancelled(_)
        | State::Expired
        | State::Completed
        | State::NoShow => None,
    }
}

fn rejection_item(rejection: &Rejection) -> RejectionItem {
    let Rejection { code, message, provider_code } = rejection.clone();
    RejectionItem { code, message, provider_code }
}

/// The stored name of the consumer as the one who withdrew.
pub(super) const BY_CONSUMER: &str = "c";

/// The stored name of the provider as the one who withdrew.
pub(super) const BY_PROVIDER: &str = "p";

fn withdrawal(state: &State) -> Option<WithdrawalItem> {
    match state {
        State::Cancelled(Cancellation::ByConsumer(words)) => Some(withdrawal_item(BY_CONSUMER, words)),
        State::Cancelled(Cancellation::ByProvider(words)) => Some(withdrawal_item(BY_PROVIDER, words)),
        State::Cancelled(Cancellation::BySystem(_))
        | State::Pending
        | State::Reserved { .. }
        | State::Confirmed
        | State::Rejected(_)
        | State::Expired
        | State::Completed
        | State::NoShow => None,
    }
}

fn withdrawal_item(by: &str, words: &Withdrawal) -> WithdrawalItem {
    let Withdrawal { reason, note } = words.clone();
    WithdrawalItem { by: by.to_owned(), reason, note }
}

fn operation_record(record: &OperationRecord) -> OperationRecordItem {
    OperationRecordItem {
        key: Bytes(record.key.0.to_vec()),
        fingerprint: Bytes(record.fingerprint.0.to_vec()),
        number: record.number,
        at: record.at.as_unix_ms(),
        response_status: record.response.as_ref().map(|response| response.status),
        response_body: record.response.as_ref().map(|response| Bytes(pack(&response.body))),
    }
}

fn cancelled_by_system(state: &State) -> Option<String> {
    match state {
        State::Cancelled(Cancellation::BySystem(reason)) => Some(reason.as_str().to_owned()),
        State::Cancelled(Cancellation::ByConsumer(_) | Cancellation::ByProvider(_))
        | State::Pending
        | State::Reserved { .. }
        | State::Confirmed
        | State::Rejected(_)
        | State::Expired
        | State::Completed
        | State::NoShow => None,
    }
}

/// The stored name of a kind of operation.
pub(super) fn kind_name(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::Book => "b",
        OperationKind::Cancel => "c",
        OperationKind::Confirm => "f",
        OperationKind::Extend => "x",
        OperationKind::Reschedule => "r",
    }
}

/// What only one kind of change has: the words to a cancel, the end of a hold, the slot of a reschedule.
fn change_parts(change: &Change) -> (Option<WithdrawalItem>, Option<i64>, Option<SlotItem>) {
    match change {
        Change::Book | Change::Confirm => (None, None, None),
        Change::Cancel(words) => (Some(withdrawal_item(BY_CONSUMER, words)), None, None),
        Change::Extend { expires_at } => (None, Some(expires_at.as_unix_ms()), None),
        Change::Reschedule(slot) => (None, None, Some(slot_item(slot))),
    }
}

fn overtaken(overtaken: &Overtaken) -> OvertakenItem {
    let (withdrawal, expires_at, slot) = change_parts(&overtaken.change);
    OvertakenItem {
        kind: kind_name(overtaken.change.kind()).to_owned(),
        withdrawal,
        expires_at,
        slot,
        number: overtaken.number,
        background: overtaken.patience == Patience::Background,
        attempts: overtaken.attempts,
        unanswered_send_at: overtaken.unanswered_send_at.as_unix_ms(),
    }
}

fn operation(operation: &Operation) -> OperationItem {
    let (withdrawal, expires_at, slot) = change_parts(&operation.change);
    OperationItem {
        kind: kind_name(operation.change.kind()).to_owned(),
        withdrawal,
        expires_at,
        slot,
        number: operation.number,
        background: operation.patience == Patience::Background,
        deadline_at: operation.deadline_at.as_unix_ms(),
        attempts: operation.attempts,
        last_error: operation.last_error.map(AttemptError::code),
        unanswered_send_at: operation.unanswered_send_at.map(Timestamp::as_unix_ms),
        resolve_until: operation.resolve_until.map(Timestamp::as_unix_ms),
        overtaken: operation.overtaken.as_ref().map(overtaken),
        phase: phase(operation.phase),
    }
}

fn phase(phase: Phase) -> PhaseItem {
    match phase {
        Phase::InFlight { lease_until } => PhaseItem::InFlight(lease_until.as_unix_ms()),
        Phase::Waiting { next_attempt_at } => PhaseItem::Waiting(next_attempt_at.as_unix_ms()),
    }
}

fn compensation(compensation: &Compensation) -> Option<CompensationItem> {
    match compensation {
        Compensation::NotNeeded => None,
        Compensation::Underway(run) => Some(CompensationItem::Underway(run_item(run))),
        Compensation::Done => Some(CompensationItem::Done),
        Compensation::Failed => Some(CompensationItem::Failed),
    }
}

fn run_item(run: &CompensationRun) -> RunItem {
    RunItem {
        number: run.number,
        give_up_at: run.give_up_at.as_unix_ms(),
        attempts: run.attempts,
        unanswered_send_at: run.unanswered_send_at.as_unix_ms(),
        last_error: run.last_error.map(AttemptError::code),
        phase: phase(run.phase),
    }
}
