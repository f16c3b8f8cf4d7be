//! Any booking that an item can say, whether or not one can come to be so.

use holdfast_app::stored::{
    CreateRecord, Fingerprint, FrozenResponse, OperationKey, OperationRecord, StoredBooking,
};
use holdfast_domain::{
    AttemptError, Booking, Cancellation, CancellationReason, Cause, Change, Compensation, CompensationRun,
    ConfirmationMode, Customer, HistoryEntry, Notification, NotificationKind, NotificationRoute, Operation,
    Overtaken, Patience, Personal, Phase, Refusal, RefusalReason, Rejection, Slot, State, Status, Timestamp,
    UnitQuantity, Withdrawal,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::contract::fixtures::{claimed, now};

fn time() -> impl Strategy<Value = Timestamp> {
    (0_u64..4_000_000_000).prop_map(|offset_ms| now().plus_ms(offset_ms))
}

fn word() -> impl Strategy<Value = String> {
    "[a-zŻ0-9 ]{1,9}"
}

/// What people write, on more lines than one.
fn lines() -> impl Strategy<Value = String> {
    "[a-zŻ0-9 \\r\\n\\t\"\\\\/]{1,20}"
}

fn slot() -> impl Strategy<Value = Slot> {
    (word(), time(), 1_u64..9_000_000, option::of(word()), option::of(word())).prop_map(
        |(location_id, start, length_ms, resource_id, service_id)| Slot {
            location_id,
            start,
            end: start.plus_ms(length_ms),
            resource_id,
            service_id,
        },
    )
}

fn error() -> impl Strategy<Value = AttemptError> {
    use AttemptError as E;
    prop_oneof![
        select(vec![
            E::ConnectionFailed,
            E::TargetRefused,
            E::CircuitOpen,
            E::LimitReached,
            E::LeaseOver,
            E::TimedOut,
            E::ConnectionLost,
            E::UnusableAnswer,
            E::AcceptedForLater,
            E::WorkerLost,
        ]),
        (100_u16..600).prop_map(E::HttpStatus),
        (100_u16..600).prop_map(E::Misconfigured),
    ]
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        time().prop_map(|lease_until| Phase::InFlight { lease_until }),
        time().prop_map(|next_attempt_at| Phase::Waiting { next_attempt_at }),
    ]
}

fn withdrawal() -> impl Strategy<Value = Withdrawal> {
    (option::of(word()), option::of(word())).prop_map(|(reason, note)| Withdrawal { reason, note })
}

fn rejection() -> impl Strategy<Value = Rejection> {
    (word(), option::of(word()), option::of(word())).prop_map(|(code, message, provider_code)| Rejection {
        code,
        message,
        provider_code,
    })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => Just(Change::Book),
        2 => withdrawal().prop_map(Change::Cancel),
        1 => Just(Change::Confirm),
        1 => time().prop_map(|expires_at| Change::Extend { expires_at }),
        1 => slot().prop_map(Change::Reschedule),
    ]
}

fn patience() -> impl Strategy<Value = Patience> {
    select(vec![Patience::Synchronous, Patience::Background])
}

prop_compose! {
    fn overtaken()(
        change in change(), number in 1_u32..9, patience in patience(), attempts in 0_u32..9,
        unanswered_send_at in time(),
    ) -> Overtaken {
        Overtaken { change, number, patience, attempts, unanswered_send_at }
    }
}

prop_compose! {
    fn operation()(
        change in change(), number in 1_u32..9, patience in patience(), times in (time(), option::of(time())),
        resolve_until in option::weighted(0.2, time()), attempts in 0_u32..9, last_error in option::of(error()),
        overtaken in option::weighted(0.2, overtaken()), phase in phase(),
    ) -> Operation {
        let (deadline_at, unanswered_send_at) = times;
        Operation {
            change, number, patience, deadline_at, attempts, last_error, unanswered_send_at, resolve_until, overtaken,
            phase,
        }
    }
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Pending),
        time().prop_map(|expires_at| State::Reserved { expires_at }),
        select(vec![State::Confirmed, State::Expired, State::Completed, State::NoShow]),
        rejection().prop_map(State::Rejected),
        select(CancellationReason::ALL.to_vec())
            .prop_map(|reason| State::Cancelled(Cancellation::BySystem(reason))),
        withdrawal().prop_map(|words| State::Cancelled(Cancellation::ByConsumer(words))),
        withdrawal().prop_map(|words| State::Cancelled(Cancellation::ByProvider(words))),
    ]
}

prop_compose! {
    fn run()(
        number in 1_u32..9, give_up_at in time(), attempts in 0_u32..9, unanswered_send_at in time(),
        last_error in option::of(error()), phase in phase(),
    ) -> CompensationRun {
        CompensationRun { number, give_up_at, attempts, unanswered_send_at, last_error, phase }
    }
}

fn compensation() -> impl Strategy<Value = Compensation> {
    prop_oneof![
        4 => Just(Compensation::NotNeeded),
        1 => run().prop_map(Compensation::Underway),
        1 => Just(Compensation::Done),
        1 => Just(Compensation::Failed),
    ]
}

prop_compose! {
    fn notification()(
        kind in prop_oneof![
            Just(NotificationKind::Booked),
            slot().prop_map(|from| NotificationKind::Moved { from }),
            Just(NotificationKind::Cancelled),
        ],
        slot in slot(), numbers in (1_u32..9, 1_u32..9, 0_u32..5, 0_u32..5), begun_at in time(),
        last_error in option::of(error()), phase in phase(),
    ) -> Notification {
        let (version, number, attempts, skipped) = numbers;
        Notification { kind, slot, version, number, begun_at, attempts, skipped, last_error, phase }
    }
}

prop_compose! {
    fn entry()(
        status in select(Status::ALL.to_vec()), at in time(), cause in select(Cause::ALL.to_vec()),
        attempts in 0_u32..9, moved_from in option::weighted(0.2, slot()),
    ) -> HistoryEntry {
        let mut entry = HistoryEntry::new(status, at, cause, attempts);
        entry.moved_from = moved_from;
        entry
    }
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let reason = prop_oneof![
        rejection().prop_map(RefusalReason::Declined),
        error().prop_map(RefusalReason::Failed),
        Just(RefusalReason::Unresolved),
    ];
    (1_u32..9, reason).prop_map(|(operation, reason)| Refusal { operation, reason })
}

fn response() -> impl Strategy<Value = FrozenResponse> {
    let body = prop_oneof![vec(any::<u8>(), 0..40), Just(br#"{"id":"bkg_","status":"confirmed"}"#.to_vec())];
    (200_u16..600, body).prop_map(|(status, body)| FrozenResponse { status, body })
}

prop_compose! {
    fn record()(
        key in any::<[u8; 16]>(), fingerprint in any::<[u8; 32]>(), number in 1_u32..9, at in time(),
        response in option::of(response()),
    ) -> OperationRecord {
        OperationRecord { key: OperationKey(key), fingerprint: Fingerprint(fingerprint), number, at, response }
    }
}

prop_compose! {
    fn create()(
        fingerprint in any::<[u8; 32]>(), generation in 0_u32..3, superseded_by in option::of(1_u32..4),
        response in option::of(response()),
    ) -> CreateRecord {
        CreateRecord { fingerprint: Fingerprint(fingerprint), generation, superseded_by, response }
    }
}

prop_compose! {
    fn customer()(
        name in word(), email in option::of(word()), phone in option::of(word()), birth_date in option::of(word()),
        language in option::of(word()),
    ) -> Customer {
        Customer { name, email, phone, birth_date, language }
    }
}

prop_compose! {
    fn confirmation()(
        confirmation in select(vec![
            ConfirmationMode::Confirm, ConfirmationMode::Confirm, ConfirmationMode::Notify, ConfirmationMode::RealTime,
        ]),
        is_pulled in prop::bool::weighted(0.1),
        notifications in prop_oneof![3 => Just(Vec::new()), 1 => vec(notification(), 1..3)],
        exclusive_slots in prop::bool::weighted(0.2),
    ) -> (ConfirmationMode, NotificationRoute, Vec<Notification>, bool) {
        let route = if is_pulled { NotificationRoute::Pull } else { NotificationRoute::Push };
        (confirmation, route, notifications, exclusive_slots)
    }
}

prop_compose! {
    fn request()(
        customer in option::of(customer()), reference in option::of(word()), notes in option::of(lines()),
        metadata in btree_map("[a-z]{1,5}", word(), 0..3),
        units in vec((word(), 1_u32..9).prop_map(|(unit_id, quantity)| UnitQuantity { unit_id, quantity }), 0..3),
        hold in any::<bool>(), availability_id in option::of(word()),
    ) -> holdfast_domain::BookingRequest {
        let mut request = claimed("generated", Patience::Background).booking.request;
        request.customer = customer.map(Personal::new);
        request.notes = notes.map(Personal::new);
        (request.reference, request.metadata, request.units) = (reference, metadata, units);
        (request.hold, request.availability_id) = (hold, availability_id);
        request
    }
}

prop_compose! {
    /// A booking with its records.
    pub(crate) fn stored()(
        request in request(), slot in slot(), state in state(), told in confirmation(),
        operation in option::of(operation()), refusal in option::of(refusal()), compensation in compensation(),
        history in vec(entry(), 1..5), records in vec(record(), 0..3), create in option::of(create()),
        rest in (option::of(word()), 0_u32..9, 1_u64..99),
    ) -> StoredBooking {
        let (confirmation, route, notifications, exclusive_slots) = told;
        let (provider_reference, operations_begun, rev) = rest;
        let booking = claimed("generated", Patience::Background).booking;
        let booking = Booking {
            request, confirmation, route, slot, state, provider_reference, operation, refusal, compensation,
            notifications, operations_begun, history, ..booking
        };
        StoredBooking { booking, create, operations: records, exclusive_slots, rev }
    }
}
