//! Every kind of booking survives its item.

use std::collections::BTreeSet;

use holdfast_app::stored::{
    CreateRecord, Fingerprint, FrozenResponse, OperationKey, OperationRecord, StoredBooking,
};
use holdfast_domain::{
    AttemptError, Booking, BookingId, BookingRequest, Cancellation, CancellationReason, Cause, Change,
    Compensation, CompensationRun, ConfirmationMode, ConsumerId, Customer, HistoryEntry, Mode, Notification,
    NotificationKind, NotificationRoute, Operation, Overtaken, Patience, Personal, Phase, ProviderId,
    Refusal, RefusalReason, Rejection, Slot, State, Status, Tenant, Timestamp, UnitQuantity, Withdrawal,
};
use proptest::prelude::*;
use serde_dynamo::{AttributeValue, Item};

use super::calls::RESERVED;
use super::encode::item_of;
use super::item::{ATTRIBUTES, DUE_AT, DUE_SHARD};
use super::{CodecError, ITEM_FORMAT, stored_from_image};
use crate::item::{Bytes, PK, TTL, to_sdk_item};

const DAY_MS: u64 = 86_400_000;
const RETENTION_MS: u64 = 400 * DAY_MS;

fn at(offset_ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(1_795_257_665_123).unwrap().plus_ms(offset_ms)
}

/// A booking with everything that a booking can have, and a pending state.
fn full() -> StoredBooking {
    let operation = Operation {
        change: Change::Book,
        number: 1,
        patience: Patience::Background,
        deadline_at: at(900_000),
        attempts: 2,
        last_error: Some(AttemptError::HttpStatus(503)),
        unanswered_send_at: Some(at(7)),
        resolve_until: None,
        overtaken: None,
        phase: Phase::Waiting { next_attempt_at: at(5_000) },
    };
    let booking = Booking {
        id: BookingId::from_bytes([7; 16]),
        tenant: Tenant { consumer_id: ConsumerId::parse("shop").unwrap(), mode: Mode::Live },
        request: BookingRequest {
            provider_id: ProviderId::parse("clinic").unwrap(),
            customer: Some(Personal::new(Customer {
                name: "Ada Lovelace".into(),
                email: Some("ada@example.com".into()),
                phone: Some("+44 20 7946 0000".into()),
                birth_date: Some("1815-12-10".into()),
                language: Some("en-GB".into()),
            })),
            reference: Some("order-1001".into()),
            notes: Some(Personal::new("first visit".into())),
            metadata: [("campaign".to_owned(), "spring".to_owned())].into(),
            units: vec![UnitQuantity { unit_id: "adult".into(), quantity: 2 }],
            hold: true,
            availability_id: Some("2027-01-15T09:00:00+01:00".into()),
        },
        confirmation: ConfirmationMode::Confirm,
        route: NotificationRoute::Push,
        slot: Slot {
            location_id: "main-street".into(),
            start: at(DAY_MS),
            end: at(DAY_MS + 1_800_000),
            resource_id: Some("room-4".into()),
            service_id: Some("first-visit".into()),
        },
        state: State::Pending,
        provider_reference: Some("sim-17".into()),
        operation: Some(operation),
        refusal: Some(Refusal {
            operation: 7,
            reason: RefusalReason::Declined(Rejection {
                code: "declined_by_provider".into(),
                message: None,
                provider_code: Some("too_late".into()),
            }),
        }),
        compensation: Compensation::Underway(CompensationRun {
            number: 2,
            give_up_at: at(DAY_MS),
            attempts: 3,
            unanswered_send_at: at(9),
            last_error: Some(AttemptError::TimedOut),
            phase: Phase::InFlight { lease_until: at(60_000) },
        }),
        notifications: Vec::new(),
        operations_begun: 2,
        history: vec![HistoryEntry::new(Status::Pending, at(0), Cause::Created, 1)],
    };
    let create = CreateRecord {
        fingerprint: Fingerprint([3; 32]),
        generation: 4,
        superseded_by: Some(5),
        response: Some(FrozenResponse { status: 202, body: br#"{"id":"x"}"#.to_vec() }),
    };
    let record = |seed: u8, response| OperationRecord {
        key: OperationKey([seed; 16]),
        fingerprint: Fingerprint([seed; 32]),
        number: seed.into(),
        at: at(seed.into()),
        response,
    };
    let answered = FrozenResponse { status: 409, body: br#"{"code":"operation_declined"}"#.to_vec() };
    let operations = vec![record(3, Some(answered)), record(4, None)];
    StoredBooking { booking, create: Some(create), operations, exclusive_slots: false, rev: 9 }
}

/// Another slot than the booking's.
fn elsewhere(resource_id: Option<&str>) -> Slot {
    Slot {
        location_id: "side-street".into(),
        start: at(9 * DAY_MS),
        end: at(9 * DAY_MS + 900_000),
        resource_id: resource_id.map(str::to_owned),
        service_id: None,
    }
}

/// A booking that its provider is told of, with everything that only such a booking can have.
fn told() -> StoredBooking {
    let mut stored = full();
    let booking = &mut stored.booking;
    let told = |kind, slot: &Slot, version, attempts| Notification {
        kind,
        slot: slot.clone(),
        version,
        number: version + 10,
        begun_at: at(version.into()),
        attempts,
        skipped: 0,
        last_error: (attempts > 0).then_some(AttemptError::HttpStatus(500)),
        phase: Phase::Waiting { next_attempt_at: at(60_000) },
    };
    let former = elsewhere(Some("room-1"));
    booking.confirmation = ConfirmationMode::Notify;
    booking.route = NotificationRoute::Pull;
    booking.state = State::Confirmed;
    booking.operation = None;
    booking.notifications = vec![
        told(NotificationKind::Booked, &former, 2, 3),
        told(NotificationKind::Moved { from: former.clone() }, &booking.slot, 3, 0),
        told(NotificationKind::Cancelled, &booking.slot, 4, 0),
    ];
    let mut moved = HistoryEntry::new(Status::Confirmed, at(2), Cause::Rescheduled, 0);
    moved.moved_from = Some(former);
    booking.history.extend([
        HistoryEntry::new(Status::Confirmed, at(1), Cause::Accepted, 0),
        moved,
        HistoryEntry::new(Status::Confirmed, at(3), Cause::NotificationFailed, 4),
    ]);
    stored.exclusive_slots = true;
    stored
}

fn words() -> Withdrawal {
    Withdrawal { reason: Some("changed_mind".into()), note: Some("Sorry".into()) }
}

fn image(stored: &StoredBooking) -> Item {
    to_sdk_item("booking", &item_of(stored, RETENTION_MS, Bytes(vec![1; 8]))).unwrap().into()
}

#[test]
fn every_state_survives() {
    let rejection = Rejection {
        code: "slot_taken".into(),
        message: Some("Sorry".into()),
        provider_code: Some("17".into()),
    };
    let reasons = CancellationReason::ALL.map(|reason| State::Cancelled(Cancellation::BySystem(reason)));
    let states = [
        State::Pending,
        State::Reserved { expires_at: at(60_000) },
        State::Confirmed,
        State::Rejected(rejection),
        State::Cancelled(Cancellation::ByConsumer(words())),
        State::Cancelled(Cancellation::ByProvider(Withdrawal::default())),
        State::Expired,
        State::Completed,
        State::NoShow,
    ];
    for state in states.into_iter().chain(reasons) {
        let mut stored = full();
        stored.booking.state = state;
        assert_eq!(stored_from_image(image(&stored)).unwrap(), stored);
    }
}

#[test]
fn what_is_absent_survives() {
    let mut stored = full();
    stored.create = None;
    stored.operations.clear();
    let booking = &mut stored.booking;
    booking.operation = None;
    booking.refusal = None;
    booking.request.customer = None;
    booking.provider_reference = None;
    booking.slot.resource_id = None;
    booking.slot.service_id = None;
    booking.request.reference = None;
    booking.request.notes = None;
    booking.request.metadata.clear();
    booking.request.units.clear();
    booking.request.hold = false;
    booking.request.availability_id = None;
    for compensation in [Compensation::NotNeeded, Compensation::Done, Compensation::Failed] {
        stored.booking.compensation = compensation;
        assert_eq!(stored_from_image(image(&stored)).unwrap(), stored);
    }
}

#[test]
fn every_change_in_flight_survives() {
    for change in changes() {
        let mut stored = full();
        if let Some(operation) = &mut stored.booking.operation {
            operation.change = change;
        }
        assert_eq!(stored_from_image(image(&stored)).unwrap(), stored);
    }
}

fn changes() -> Vec<Change> {
    vec![
        Change::Book,
        Change::Confirm,
        Change::Extend { expires_at: at(90_000) },
        Change::Cancel(words()),
        Change::Cancel(Withdrawal::default()),
        Change::Reschedule(elsewhere(None)),
        Change::Reschedule(elsewhere(Some("room-2"))),
    ]
}

#[test]
fn a_change_that_is_resolved_and_one_that_was_overtaken_survive() {
    for change in changes() {
        let mut stored = full();
        if let Some(operation) = &mut stored.booking.operation {
            operation.resolve_until = Some(at(5 * 60_000));
            operation.overtaken = Some(Overtaken {
                change,
                number: 3,
                patience: Patience::Background,
                attempts: 2,
                unanswered_send_at: at(77),
            });
        }
        assert_eq!(stored_from_image(image(&stored)).unwrap(), stored);
    }
}

#[test]
fn every_refusal_survives() {
    for error in [AttemptError::TimedOut, AttemptError::HttpStatus(502), AttemptError::LimitReached] {
        let mut stored = full();
        stored.booking.refusal = Some(Refusal { operation: 3, reason: RefusalReason::Failed(error) });
        assert_eq!(stored_from_image(image(&stored)).unwrap(), stored);
    }
}

#[test]
fn what_a_provider_is_told_survives() {
    let stored = told();
    let read = stored_from_image(image(&stored)).unwrap();
    assert_eq!(read, stored);
    assert_eq!(read.booking.slot_at(2), &elsewhere(Some("room-1")));
    for (mode, route) in [
        (ConfirmationMode::RealTime, NotificationRoute::Push),
        (ConfirmationMode::Notify, NotificationRoute::Push),
    ] {
        let mut stored = told();
        (stored.booking.confirmation, stored.booking.route) = (mode, route);
        assert_eq!(stored_from_image(image(&stored)).unwrap(), stored);
    }
}

/// Older code reads an item of the first format as a booking that its provider is asked for, and drops what
/// it does not know inside of an operation.
#[test]
fn what_older_code_would_misunderstand_has_a_format_that_it_refuses() {
    let format = |stored: &StoredBooking| image(stored)["v"].clone();
    let (first, later) = (AttributeValue::N("1".into()), AttributeValue::N("2".into()));
    assert_eq!(format(&full()), first);
    for change in changes() {
        let mut stored = full();
        let is_old = matches!(change, Change::Book | Change::Cancel(_));
        stored.booking.operation.as_mut().unwrap().change = change;
        assert_eq!(format(&stored), if is_old { first.clone() } else { later.clone() });
    }
    let with = |change: &dyn Fn(&mut StoredBooking)| {
        let mut stored = full();
        change(&mut stored);
        format(&stored)
    };
    let overtaken = Overtaken {
        change: Change::Confirm,
        number: 3,
        patience: Patience::Synchronous,
        attempts: 1,
        unanswered_send_at: at(77),
    };
    let all: [&dyn Fn(&mut StoredBooking); 6] = [
        &|stored| stored.booking.confirmation = ConfirmationMode::RealTime,
        &|stored| stored.booking.route = NotificationRoute::Pull,
        &|stored| stored.booking.notifications = told().booking.notifications,
        &|stored| stored.exclusive_slots = true,
        &|stored| stored.booking.operation.as_mut().unwrap().resolve_until = Some(at(1)),
        &|stored| stored.booking.operation.as_mut().unwrap().overtaken = Some(overtaken.clone()),
    ];
    for change in all {
        assert_eq!(with(change), later);
    }
    for cause in [Cause::CancelledByOperator, Cause::RetriedByOperator] {
        let entry = HistoryEntry::new(Status::Cancelled, at(5), cause, 0);
        let by_operator = with(&|stored| stored.booking.history.push(entry.clone()));
        assert_eq!(by_operator, AttributeValue::N("3".into()));
    }
}

#[test]
fn the_lists_indexes_hold_what_never_changes() {
    let stored = full();
    let item = image(&stored);
    assert_eq!(item["ca"], AttributeValue::N(at(0).as_unix_ms().to_string()));
    assert!(matches!(&item["fd"], AttributeValue::B(digest) if digest.len() == 16));
    let mut later = told();
    later.rev = 10;
    assert_eq!((&image(&later)["ca"], &image(&later)["fd"]), (&item["ca"], &item["fd"]));
    let mut other = full();
    other.booking.tenant.mode = Mode::Test;
    assert_ne!(image(&other)["fd"], item["fd"], "another tenant's");
    other.booking.request.reference = None;
    assert!(image(&other).get("fd").is_none());
}

proptest! {
    #[test]
    fn any_history_with_moves_survives(
        versions in prop::collection::vec((0_usize..8, 0_usize..20, 0_u64..1_000_000, 0_u32..50, any::<bool>()), 1..30),
        resource_id in prop::option::of("[a-z]{0,8}"),
    ) {
        let mut stored = told();
        stored.booking.history = versions
            .into_iter()
            .map(|(status, cause, offset_ms, attempts, is_moved)| {
                let (status, cause) = (Status::ALL[status], Cause::ALL[cause]);
                let mut entry = HistoryEntry::new(status, at(offset_ms), cause, attempts);
                entry.moved_from = is_moved.then(|| elsewhere(resource_id.as_deref()));
                entry
            })
            .collect();
        prop_assert_eq!(stored_from_image(image(&stored)).unwrap(), stored);
    }
}

#[test]
fn a_replacement_knows_every_attribute() {
    let mut written = BTreeSet::new();
    for state in [
        State::Reserved { expires_at: at(1) },
        State::Rejected(Rejection { code: "no".into(), message: None, provider_code: None }),
        State::Cancelled(Cancellation::BySystem(CancellationReason::ProviderFailed)),
        State::Cancelled(Cancellation::ByConsumer(words())),
    ] {
        let mut stored = full();
        stored.booking.state = state;
        written.extend(image(&stored).keys().cloned());
    }
    written.extend(image(&told()).keys().cloned());
    let known: BTreeSet<String> = ATTRIBUTES.into_iter().chain([PK]).map(str::to_owned).collect();
    assert_eq!(written, known);
    // A name for a name that is not used would be refused.
    assert!(RESERVED.iter().all(|name| known.contains(*name)));
}

#[test]
fn the_index_holds_what_is_due_after_its_request() {
    let mut stored = full();
    stored.booking.compensation = Compensation::NotNeeded;
    assert_eq!(image(&stored)[DUE_AT], AttributeValue::N(at(5_000).as_unix_ms().to_string()));
    assert!(matches!(&image(&stored)[DUE_SHARD], AttributeValue::S(shard) if shard.ends_with("#498682")));
    if let Some(operation) = &mut stored.booking.operation {
        operation.attempts = 1;
        operation.last_error = None;
        operation.phase = Phase::InFlight { lease_until: at(2_500) };
    }
    assert!(image(&stored).get(DUE_SHARD).is_none(), "within its request");
    stored.booking.operation = None;
    stored.booking.state = State::Confirmed;
    assert!(image(&stored).get(DUE_AT).is_none(), "nothing is due");
}

#[test]
fn a_superseded_item_outlives_its_successor() {
    let ttl = |stored: &StoredBooking| match &image(stored)[TTL] {
        AttributeValue::N(seconds) => seconds.parse::<u64>().unwrap(),
        other => panic!("{other:?}"),
    };
    let superseded = full();
    let mut current = full();
    current.create.as_mut().unwrap().superseded_by = None;
    let slot_end_s = u64::try_from(current.booking.slot.end.as_unix_ms() / 1_000).unwrap();
    assert_eq!(ttl(&current), slot_end_s + RETENTION_MS / 1_000);
    // The latest that a successor can be made is when its predecessor is removed; its slot begins two years
    // ahead and lasts a year.
    let latest_successor = ttl(&current) + (3 * 366 * DAY_MS + RETENTION_MS) / 1_000;
    assert!(ttl(&superseded) > latest_successor);
}

/// An operation's key stands for its request for 14 days, even if the slot is long over.
#[test]
fn an_item_outlives_the_keys_of_its_operations() {
    let mut stored = full();
    stored.create = None;
    let used_at = stored.booking.slot.end.plus_ms(10 * DAY_MS);
    stored.operations[0].at = used_at;
    let expected = used_at.plus_ms(RETENTION_MS).as_unix_ms() / 1_000;
    assert_eq!(image(&stored)[TTL], AttributeValue::N(expected.to_string()));
}

fn slot_map() -> std::collections::HashMap<String, AttributeValue> {
    let number = |at: Timestamp| AttributeValue::N(at.as_unix_ms().to_string());
    [
        ("l".to_owned(), AttributeValue::S("Ada".into())),
        ("a".to_owned(), number(at(0))),
        ("e".to_owned(), number(at(1))),
    ]
    .into()
}

#[test]
fn what_cannot_be_read_is_named_without_its_value() {
    let refused = |change: &dyn Fn(&mut Item)| {
        let mut image = image(&full());
        change(&mut image);
        stored_from_image(image).unwrap_err()
    };
    let later = refused(&|image| {
        image.insert("v".into(), AttributeValue::N((ITEM_FORMAT + 1).to_string()));
    });
    assert_eq!(later.error, CodecError::LaterFormat(ITEM_FORMAT + 1));
    assert_eq!((later.booking_id, later.version), (Some(full().booking.id), Some(1)));
    let attributes = ["t", "p", "s", "a", "y", "fp", "rb", "op", "cp", "cn", "rev", "u"];
    for attribute in attributes.into_iter().chain(["cm", "pl", "nt", "mv", "xs", "ca", "fd", "rf"]) {
        let unreadable = refused(&|image| {
            image.insert(attribute.into(), AttributeValue::Ss(vec!["Ada".into()]));
        });
        assert_eq!(unreadable.error, CodecError::Attribute(attribute.into()));
    }
    let no_such_version = refused(&|image| {
        let moves = AttributeValue::L(vec![AttributeValue::M(
            [
                ("v".to_owned(), AttributeValue::N("9".into())),
                ("f".to_owned(), AttributeValue::M(slot_map())),
            ]
            .into(),
        )]);
        image.insert("mv".into(), moves);
    });
    assert_eq!(no_such_version.error, CodecError::Attribute("mv".into()));
    let missing = refused(&|image| {
        image.remove("t");
    });
    assert_eq!(missing.error, CodecError::Attribute("t".into()));
    assert_eq!(refused(&|image| image.clear()).booking_id, None);
}
