//! Booking what was shown: by its key, and where the provider said what is open.

use std::time::Duration;

use holdfast_app::availability::{
    BOOKING_KEY_SECRET_BYTES, BookingKeySecret, KeyMaker, SlotWord, key_expiry,
};
use holdfast_app::bookings::{CreateCall, Created, OperationCall, read_change, read_create};
use holdfast_app::idempotency::{IdempotencyKey, fingerprint};
use holdfast_app::ports::{AvailabilityStore, Clock, KnownAvailability, Place};
use holdfast_app::problem::{Problem, ProblemCode};
use holdfast_app::settings_cache::SettingsCache;
use holdfast_app::test_util::{Fault, open_slot};
use holdfast_domain::{BookingId, ConfirmationMode, Mode, OpenSlot, OperationKind, Status, Timestamp, Zone};
use serde_json::{Value, json};
use tokio::time::advance;

use crate::bench::{Bench, provider_id, tenant};

fn secrets() -> Vec<BookingKeySecret> {
    vec![BookingKeySecret { id: 1, key: [7; BOOKING_KEY_SECRET_BYTES], created_at: Timestamp::EPOCH }]
}

/// The key of a slot of tomorrow, as it is shown now.
fn key(bench: &Bench, slot: &OpenSlot) -> String {
    let (secrets, provider) = (secrets(), provider_id());
    let expires_at = key_expiry(bench.clock.now());
    let maker = KeyMaker::new(&secrets[0], Mode::Test, &provider, "main", expires_at).unwrap();
    maker.key(slot).unwrap()
}

fn tomorrow(bench: &Bench) -> OpenSlot {
    OpenSlot {
        availability_id: Some("supplier-7".into()),
        ..open_slot(bench.clock.now().plus_ms(86_400_000))
    }
}

async fn book(
    bench: &Bench,
    idempotency_key: &str,
    booking_key: &str,
    slot_word: SlotWord,
) -> Result<Created, Problem> {
    let body = json!({
        "provider_id": "clinic", "booking_key": booking_key, "customer": {"name": "Ada Lovelace"},
    });
    let call = CreateCall {
        tenant: tenant("shop"),
        key: Some(IdempotencyKey::parse("Idempotency-Key", idempotency_key).unwrap()),
        fingerprint: fingerprint(&body).unwrap(),
        prefer_wait_s: None,
        create: read_create(&body).unwrap().with_slot(&secrets(), Mode::Test)?,
        slot_word,
        provider: Some(&bench.provider_settings),
        received_at: bench.clock.now(),
        path: "/v1/bookings",
        request_id: "request",
    };
    bench.engine.create(call).await
}

async fn moved(bench: &Bench, id: &BookingId, key: &str, body: &Value) -> Result<u16, Problem> {
    let key = IdempotencyKey::parse("Idempotency-Key", key).unwrap();
    let call = OperationCall {
        tenant: tenant("shop"),
        booking_id: id.clone(),
        key: Some(key.operation_key(OperationKind::Reschedule)),
        fingerprint: fingerprint(body).unwrap(),
        prefer_wait_s: None,
        wish: read_change(OperationKind::Reschedule, body).unwrap().with_slot(&secrets(), Mode::Test)?,
        received_at: bench.clock.now(),
        path: "/v1/bookings/the-booking/reschedule",
        request_id: "request",
    };
    let settings = SettingsCache::new(bench.settings.clone());
    bench.engine.operate(call, &settings, &bench.availability).await.map(|operated| operated.answer.status)
}

/// What the provider says now is open.
async fn say(bench: &Bench, slots: Vec<OpenSlot>) {
    let now = bench.clock.now();
    let (zone, place) = (Zone::utc(), Place { provider_id: provider_id(), location_id: "main".to_owned() });
    let window = zone.days(zone.date_at(now), 22);
    let said = KnownAvailability { as_of: now, window, zone, slots };
    bench.availability.replace(&place, &said).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_books_its_slot_and_a_repetition_gets_the_first_answer_long_after_the_key_expired() {
    let bench = Bench::new();
    let slot = tomorrow(&bench);
    let key = key(&bench, &slot);
    let first = book(&bench, "k", &key, SlotWord::Unknown).await.unwrap();
    assert_eq!(first.answer.status, 201);
    let booking = bench.only_booking();
    assert_eq!((booking.slot.start, booking.slot.end), (slot.start, slot.end));
    assert_eq!(booking.request.availability_id.as_deref(), Some("supplier-7"));
    advance(Duration::from_hours(2)).await;
    let again = book(&bench, "k", &key, SlotWord::Unknown).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.answer.body, first.answer.body);
    let refused = book(&bench, "other", &key, SlotWord::Unknown).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::BookingKeyExpired);
    assert_eq!(refused.errors[0].pointer, "/booking_key");
    assert_eq!(bench.store.items().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_move_by_a_key_is_repeated_and_refused_alike() {
    let bench = Bench::new();
    let first = book(&bench, "k", &key(&bench, &tomorrow(&bench)), SlotWord::Unknown).await.unwrap();
    let later = open_slot(bench.clock.now().plus_ms(2 * 86_400_000));
    let body = json!({"booking_key": key(&bench, &later)});
    assert_eq!(moved(&bench, &first.booking_id, "m", &body).await, Ok(200));
    assert_eq!(bench.booking(&first.booking_id).slot.start, later.start);
    advance(Duration::from_hours(2)).await;
    assert_eq!(moved(&bench, &first.booking_id, "m", &body).await, Ok(200), "a repetition");
    let refused = moved(&bench, &first.booking_id, "n", &body).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::BookingKeyExpired);
    bench.run_until_quiet().await;
    bench.check();
}

fn telling(provider: &mut holdfast_app::settings::ProviderSettings) {
    provider.confirmation = ConfirmationMode::Notify;
}

#[tokio::test(start_paused = true)]
async fn what_the_provider_said_is_not_open_is_not_accepted_but_a_repetition_is_answered() {
    let bench = Bench::with_provider(0, &[0], telling);
    let key = key(&bench, &tomorrow(&bench));
    let first = book(&bench, "k", &key, SlotWord::Open).await.unwrap();
    assert_eq!(first.answer.status, 201);
    let again = book(&bench, "k", &key, SlotWord::Gone).await.unwrap();
    assert_eq!((again.replayed, again.answer.body), (true, first.answer.body));
    let refused = book(&bench, "other", &key, SlotWord::Gone).await.unwrap_err();
    assert_eq!((refused.code, refused.code.status()), (ProblemCode::SlotUnavailable, 409));
    assert_eq!(bench.store.items().len(), 1);
    bench.run_until_quiet().await;
    assert_eq!(bench.only_booking().status(), Status::Confirmed);
}

#[tokio::test(start_paused = true)]
async fn a_move_looks_at_what_was_said_within_fifteen_minutes() {
    let bench = Bench::with_provider(0, &[0], telling);
    let first = book(&bench, "k", &key(&bench, &tomorrow(&bench)), SlotWord::Unknown).await.unwrap();
    let later = open_slot(bench.clock.now().plus_ms(2 * 86_400_000));
    let to = |slot: &OpenSlot| {
        json!({"slot": {
            "location_id": "main", "start": slot.start.to_string(), "end": slot.end.to_string(),
        }})
    };
    say(&bench, Vec::new()).await;
    let refused = moved(&bench, &first.booking_id, "a", &to(&later)).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.booking_id.as_ref()),
        (ProblemCode::SlotUnavailable, Some(&first.booking_id))
    );
    // Nothing is known of it if it takes too long to find out, or is too old.
    bench.availability.faults().next("availability.read", Fault::DelayBefore(300));
    assert_eq!(moved(&bench, &first.booking_id, "b", &to(&later)).await, Ok(200));
    let third = open_slot(later.start.plus_ms(86_400_000));
    assert!(moved(&bench, &first.booking_id, "c", &to(&third)).await.is_err());
    advance(Duration::from_mins(15)).await;
    assert_eq!(moved(&bench, &first.booking_id, "d", &to(&third)).await, Ok(200));
    say(&bench, Vec::new()).await;
    assert_eq!(moved(&bench, &first.booking_id, "d", &to(&third)).await, Ok(200), "a repetition");
    say(&bench, vec![later.clone()]).await;
    assert_eq!(moved(&bench, &first.booking_id, "e", &to(&later)).await, Ok(200));
    bench.run_until_quiet().await;
    bench.check();
}
