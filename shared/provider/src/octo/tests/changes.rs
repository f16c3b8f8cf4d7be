//! Changing a booking: confirm, extend, reschedule, cancel.

use holdfast_app::ports::Clock;
use holdfast_domain::{State, Withdrawal};

use super::*;
use crate::test_util::{SystemTime, at, booking, changing, compensate, slot};

fn held() -> State {
    State::Reserved { expires_at: at("2027-01-01T00:30:00Z") }
}

#[tokio::test]
async fn a_hold_is_confirmed() {
    let no_longer = || declined("INVALID_BOOKING_UUID");
    let refused = (CONFIRM, 400, no("INVALID_BOOKING_UUID"));
    for (script, outcome) in [
        (vec![(CONFIRM, 200, told("CONFIRMED"))], yes(None)),
        (vec![(CONFIRM, 200, told("PENDING"))], unknown(AttemptError::AcceptedForLater)),
        (vec![(CONFIRM, 200, told("ON_HOLD"))], unknown(AttemptError::UnusableAnswer)),
        (vec![(CONFIRM, 200, told("EXPIRED"))], declined_as("EXPIRED")),
        (vec![(CONFIRM, 202, json!({}))], unknown(AttemptError::AcceptedForLater)),
        (vec![(CONFIRM, 500, json!({}))], unknown(AttemptError::HttpStatus(500))),
        (vec![refused.clone(), (GET, 200, told("CONFIRMED"))], yes(None)),
        (vec![refused.clone(), (GET, 200, told("REDEEMED"))], yes(None)),
        (vec![refused.clone(), (GET, 200, told("ON_HOLD"))], no_longer()),
        (vec![refused.clone(), (GET, 200, told("EXPIRED"))], declined_as("EXPIRED")),
        (vec![refused.clone(), (GET, 400, no("INVALID_BOOKING_UUID"))], no_longer()),
        (vec![refused, (GET, 500, json!({}))], unknown(AttemptError::HttpStatus(500))),
    ] {
        let supplier = Supplier::following(script).await;
        assert_eq!(supplier.attempt(&changing(held(), Change::Confirm), 2).await, outcome);
    }
}

#[tokio::test]
async fn a_hold_is_extended_by_whole_minutes_from_now() {
    let expires_at = SystemTime.now().plus_ms(600_000);
    let extending = changing(held(), Change::Extend { expires_at });
    let granted = yes(Some(at("2027-01-01T00:30:00Z")));
    let mut endless = told("ON_HOLD");
    endless["utcExpiresAt"] = Value::Null;
    for (status, body, outcome) in [
        (200, told("ON_HOLD"), granted),
        (200, endless, yes(Some(expires_at))),
        (200, told("CONFIRMED"), yes(None)),
        (200, told("EXPIRED"), declined_as("EXPIRED")),
        (422, no("UNPROCESSABLE_ENTITY"), declined("UNPROCESSABLE_ENTITY")),
        (503, json!({}), unknown(AttemptError::HttpStatus(503))),
    ] {
        let supplier = Supplier::following([(EXTEND, status, body)]).await;
        assert_eq!(supplier.attempt(&extending, 1).await, outcome);
        assert_eq!(supplier.body(0), json!({"expirationMinutes": 10}));
    }
}

/// A move by a day, and the supplier's word that it was made.
fn moving() -> (Booking, Value) {
    let change = Change::Reschedule(slot("main-street", "2027-01-16T09:00:00Z"));
    let mut moved = told("CONFIRMED");
    moved["availability"]["localDateTimeStart"] = json!("2027-01-16T10:00:00+01:00");
    (changing(State::Confirmed, change), moved)
}

fn offered_later() -> Value {
    json!([availability("a-2", "2027-01-16T09:00:00Z")])
}

#[tokio::test]
async fn a_booking_is_moved_to_another_availability() {
    let (booking, moved) = moving();
    let script = [(AVAILABILITY, 200, offered_later()), (MOVE, 200, moved.clone())];
    let supplier = Supplier::following(script).await;
    assert_eq!(supplier.attempt(&booking, 1).await, yes(None));
    assert_eq!(supplier.body(0)["localDateStart"], "2027-01-15");
    assert_eq!(
        supplier.body(1),
        json!({"productId": "checkup", "optionId": "DEFAULT", "availabilityId": "a-2"})
    );

    // A hold stays one.
    let mut held_there = moved;
    held_there["status"] = json!("ON_HOLD");
    let script = [(AVAILABILITY, 200, offered_later()), (MOVE, 200, held_there)];
    let supplier = Supplier::following(script).await;
    let booking = Booking { state: held(), ..booking };
    assert_eq!(supplier.attempt(&booking, 1).await, yes(Some(at("2027-01-01T00:30:00Z"))));
}

#[tokio::test]
async fn a_move_is_made_refused_or_open() {
    let (booking, moved) = moving();
    let refused = (MOVE, 422, no("UNPROCESSABLE_ENTITY"));
    let stays = declined("UNPROCESSABLE_ENTITY");
    for (rest, outcome) in [
        (vec![(MOVE, 200, told("CONFIRMED"))], unknown(AttemptError::UnusableAnswer)),
        (vec![(MOVE, 200, told("CANCELLED"))], declined_as("CANCELLED")),
        (vec![(MOVE, 200, json!({}))], unknown(AttemptError::UnusableAnswer)),
        (vec![(MOVE, 504, json!({}))], unknown(AttemptError::HttpStatus(504))),
        (vec![refused.clone(), (GET, 200, moved.clone())], yes(None)),
        (vec![refused.clone(), (GET, 200, told("CONFIRMED"))], stays.clone()),
        (vec![refused.clone(), (GET, 400, no("INVALID_BOOKING_UUID"))], stays),
        (vec![refused, (GET, 500, json!({}))], unknown(AttemptError::HttpStatus(500))),
    ] {
        let offer = [(AVAILABILITY, 200, offered_later())];
        let supplier = Supplier::following(offer.into_iter().chain(rest)).await;
        assert_eq!(supplier.attempt(&booking, 1).await, outcome);
    }
}

#[tokio::test]
async fn a_repeated_move_is_not_made_twice() {
    let (booking, moved) = moving();
    let supplier = Supplier::following([(GET, 200, moved.clone())]).await;
    assert_eq!(supplier.attempt(&booking, 2).await, yes(None));

    let script =
        [(GET, 200, told("CONFIRMED")), (AVAILABILITY, 200, offered_later()), (MOVE, 200, moved.clone())];
    let supplier = Supplier::following(script).await;
    assert_eq!(supplier.attempt(&booking, 2).await, yes(None));

    let supplier = Supplier::following([(GET, 500, json!({}))]).await;
    let unasked = AttemptOutcome::NotSent(AttemptError::HttpStatus(500));
    assert_eq!(supplier.attempt(&booking, 2).await, unasked);

    let supplier = Supplier::following([(AVAILABILITY, 200, json!([]))]).await;
    let outcome = supplier.attempt(&booking, 1).await;
    assert!(matches!(outcome, AttemptOutcome::Declined(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_cancel_is_done_unknown_to_the_supplier_refused_or_open() {
    let fault = || CancelOutcome::Unknown(AttemptError::HttpStatus(500));
    let contradiction = || CancelOutcome::Unknown(AttemptError::UnusableAnswer);
    let AttemptOutcome::Declined(rejection) = declined("UNPROCESSABLE_ENTITY") else { panic!("it is one") };
    let refused = (CANCEL, 422, no("UNPROCESSABLE_ENTITY"));
    let unheard_of = (CANCEL, 400, no("INVALID_BOOKING_UUID"));
    for (script, outcome) in [
        (vec![(CANCEL, 200, told("CANCELLED"))], CancelOutcome::Done),
        (vec![(CANCEL, 200, told("EXPIRED"))], CancelOutcome::Done),
        (vec![(CANCEL, 202, json!({}))], CancelOutcome::Unknown(AttemptError::AcceptedForLater)),
        (vec![(CANCEL, 500, json!({}))], fault()),
        (vec![(CANCEL, 401, json!({}))], CancelOutcome::Unknown(AttemptError::Misconfigured(401))),
        (vec![(CANCEL, 200, json!({})), (GET, 200, told("CANCELLED"))], CancelOutcome::Done),
        (vec![(CANCEL, 200, told("CONFIRMED")), (GET, 200, told("CONFIRMED"))], contradiction()),
        (vec![refused.clone(), (GET, 200, told("CANCELLED"))], CancelOutcome::Done),
        (vec![refused.clone(), (GET, 200, told("REDEEMED"))], CancelOutcome::Declined(rejection)),
        (vec![refused.clone(), (GET, 404, json!({}))], CancelOutcome::NoSuchBooking),
        (vec![refused, (GET, 500, json!({}))], fault()),
        (vec![unheard_of.clone(), (GET, 400, no("INVALID_BOOKING_UUID"))], CancelOutcome::NoSuchBooking),
        (vec![unheard_of.clone(), (GET, 200, told("EXPIRED"))], CancelOutcome::Done),
        (vec![unheard_of, (GET, 200, told("CONFIRMED"))], contradiction()),
        (vec![(CANCEL, 404, json!({})), (GET, 404, json!({}))], CancelOutcome::NoSuchBooking),
    ] {
        let supplier = Supplier::following(script.clone()).await;
        let compensated = compensate(&supplier.provider, &booking()).await;
        supplier.check();
        assert_eq!(compensated.outcome, outcome.of_compensation(), "{script:?}");
        assert_eq!(supplier.body(0), json!({"reason": "provider_timeout"}));

        let supplier = Supplier::following(script.clone()).await;
        let withdrawal = Withdrawal { reason: Some("ill".to_owned()), note: Some("private".to_owned()) };
        let cancelling = changing(State::Confirmed, Change::Cancel(withdrawal));
        assert_eq!(supplier.attempt(&cancelling, 1).await, outcome.of_attempt(), "{script:?}");
        assert_eq!(supplier.body(0), json!({"reason": "ill"}));
    }
}

#[tokio::test]
async fn a_cancel_that_could_not_be_sent_says_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let provider = over_octo(crate::test_util::provider(base_url));
    let failed = AttemptError::ConnectionFailed;
    assert_eq!(compensate(&provider, &booking()).await.outcome, CompensationOutcome::Failed(failed));
    for change in [Change::Cancel(Withdrawal::default()), Change::Confirm] {
        let report = crate::test_util::attempt(&provider, &changing(held(), change), 1).await;
        assert_eq!(report.outcome, AttemptOutcome::NotSent(failed));
    }
}
