//! Items written by this and by earlier versions of the code stay readable: the files are added to, never
//! changed.

use holdfast_app::stored::StoredBooking;
use holdfast_aws::codec::{CodecError, stored_from_image};
use holdfast_domain::{
    AttemptError, Cause, Change, ConfirmationMode, HistoryEntry, Notification, NotificationKind,
    NotificationRoute, Operation, Overtaken, Patience, Phase, Refusal, RefusalReason, Slot, State, Status,
    Withdrawal,
};
use serde_json::Value;

use super::fixtures::{claimed, now};

fn golden(json: &str) -> StoredBooking {
    let image: serde_dynamo::Item = serde_json::from_str(json).unwrap();
    let mut later = image.clone();
    later.insert("v".to_owned(), serde_dynamo::AttributeValue::N("99".to_owned()));
    let unreadable = stored_from_image(later).unwrap_err();
    assert_eq!(unreadable.error, CodecError::LaterFormat(99));
    let stored = stored_from_image(image).unwrap();
    assert_eq!(unreadable.booking_id.as_ref(), Some(&stored.booking.id));
    stored
}

#[test]
fn the_first_items_are_read_back() {
    let claim = golden(include_str!("../../golden/booking-v1-claimed.json"));
    assert_eq!(claim, claimed("golden", Patience::Background));
    let settled = golden(include_str!("../../golden/booking-v1-confirmed.json"));
    assert_eq!((settled.booking.status(), settled.booking.version(), settled.rev), (Status::Confirmed, 2, 2));
    assert_eq!(settled.booking.id, claim.booking.id);
    let response = settled.create.unwrap().response.unwrap();
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!((response.status, &body["id"]), (201, &Value::from(claim.booking.id.as_str())));
    let superseded = golden(include_str!("../../golden/booking-v1-superseded.json"));
    assert_eq!(superseded.create.unwrap().superseded_by, Some(1));
    let operation = superseded.booking.operation.unwrap();
    assert_eq!(operation.last_error, Some(AttemptError::TimedOut));
    assert_eq!(operation.phase, Phase::Waiting { next_attempt_at: now().plus_ms(5_000) });
}

fn elsewhere() -> Slot {
    let slot = claimed("golden", Patience::Background).booking.slot;
    Slot {
        location_id: "side-street".to_owned(),
        start: slot.start.plus_ms(86_400_000),
        end: slot.end.plus_ms(86_400_000),
        resource_id: Some("room-1".to_owned()),
        service_id: Some("first-visit".to_owned()),
    }
}

/// A booking that its provider is told of, which has moved, and has its slot to itself.
fn told() -> StoredBooking {
    let mut stored = claimed("golden-told", Patience::Background);
    let booking = &mut stored.booking;
    booking.confirmation = ConfirmationMode::Notify;
    booking.route = NotificationRoute::Pull;
    booking.state = State::Confirmed;
    booking.operation = None;
    booking.operations_begun = 3;
    let told = |number, kind, slot: &Slot| Notification {
        kind,
        slot: slot.clone(),
        version: number + 1,
        number,
        begun_at: now().plus_ms(number.into()),
        attempts: 2 - number,
        skipped: 0,
        last_error: (number == 1).then_some(AttemptError::HttpStatus(503)),
        phase: Phase::Waiting { next_attempt_at: now().plus_ms(60_000) },
    };
    booking.notifications = vec![
        told(1, NotificationKind::Booked, &elsewhere()),
        told(2, NotificationKind::Moved { from: elsewhere() }, &booking.slot),
    ];
    let mut moved = HistoryEntry::new(Status::Confirmed, now().plus_ms(2), Cause::Rescheduled, 0);
    moved.moved_from = Some(elsewhere());
    let entry = |cause, offset_ms| HistoryEntry::new(Status::Confirmed, now().plus_ms(offset_ms), cause, 0);
    booking.history.extend([entry(Cause::Accepted, 1), moved, entry(Cause::NotificationFailed, 3)]);
    stored.exclusive_slots = true;
    stored.rev = 7;
    stored
}

fn confirmed_with(key: &str, operation: Operation) -> StoredBooking {
    let mut stored = claimed(key, Patience::Background);
    let booking = &mut stored.booking;
    booking.state = State::Confirmed;
    booking.operations_begun = operation.number;
    booking.operation = Some(operation);
    let entry = |cause, offset_ms| HistoryEntry::new(Status::Confirmed, now().plus_ms(offset_ms), cause, 1);
    booking.history.extend([entry(Cause::ProviderAcknowledged, 1), entry(Cause::OperationBegun, 2)]);
    stored.rev = 3;
    stored
}

/// A move whose outcome is being found out.
fn resolving() -> StoredBooking {
    let mut stored = confirmed_with(
        "golden-resolving",
        Operation {
            change: Change::Reschedule(elsewhere()),
            number: 4,
            patience: Patience::Synchronous,
            deadline_at: now().plus_ms(2_750),
            attempts: 3,
            last_error: Some(AttemptError::ConnectionLost),
            unanswered_send_at: Some(now().plus_ms(2_000)),
            resolve_until: Some(now().plus_ms(86_400_000)),
            overtaken: None,
            phase: Phase::Waiting { next_attempt_at: now().plus_ms(62_000) },
        },
    );
    stored.booking.refusal =
        Some(Refusal { operation: 3, reason: RefusalReason::Failed(AttemptError::TimedOut) });
    stored.booking.history.extend(
        [Cause::OperationGivenUp, Cause::OperationUnresolved]
            .map(|cause| HistoryEntry::new(Status::Confirmed, now().plus_ms(3), cause, 2)),
    );
    stored
}

/// A cancel that overtook an extension.
fn overtaking() -> StoredBooking {
    let mut stored = confirmed_with(
        "golden-overtaking",
        Operation {
            change: Change::Cancel(Withdrawal { reason: Some("changed_mind".to_owned()), note: None }),
            number: 3,
            patience: Patience::Background,
            deadline_at: now().plus_ms(900_000),
            attempts: 1,
            last_error: None,
            unanswered_send_at: None,
            resolve_until: None,
            overtaken: Some(Overtaken {
                change: Change::Extend { expires_at: now().plus_ms(1_800_000) },
                number: 2,
                patience: Patience::Synchronous,
                attempts: 0,
                unanswered_send_at: now().plus_ms(2_000),
            }),
            phase: Phase::InFlight { lease_until: now().plus_ms(5_000) },
        },
    );
    stored.booking.confirmation = ConfirmationMode::RealTime;
    stored
}

#[test]
fn the_items_of_the_second_format_are_read_back() {
    let told_item = golden(include_str!("../../golden/booking-v2-told.json"));
    assert_eq!(told_item, told());
    assert_eq!(told_item.booking.slot_at(2), &elsewhere());
    assert_eq!(golden(include_str!("../../golden/booking-v2-resolving.json")), resolving());
    assert_eq!(golden(include_str!("../../golden/booking-v2-overtaking.json")), overtaking());
}
