//! Asking the supplier for a booking.

use holdfast_app::ports::ProviderGateway;
use holdfast_domain::{Found, State};

use super::*;
use crate::test_util::{AMPLE_MS, at, being_booked, booking, changing, gateway, notify, slot};

async fn look_up(booking: &Booking, status: u16, body: Value) -> LookUpOutcome {
    let supplier = Supplier::following([(GET, status, body)]).await;
    let outcome = gateway("127.0.0.1").look_up(&supplier.provider, booking, AMPLE_MS).await;
    supplier.check();
    outcome
}

fn found(reserved_until: Option<Timestamp>, slot: Slot) -> LookUpOutcome {
    let acknowledgement = Acknowledgement { provider_reference: Some("S-1".to_owned()), reserved_until };
    LookUpOutcome::Found(Found { acknowledgement, slot: Some(slot), operation: None })
}

fn lasts() -> Timestamp {
    at("2027-01-01T00:30:00Z")
}

#[tokio::test]
async fn a_look_up_tells_where_the_booking_stands() {
    let booking = booking();
    let there = || booking.slot.clone();
    let unavailable = |error| LookUpOutcome::Unavailable { error, retry_after_ms: None };
    for (status, body, outcome) in [
        (200, told("CONFIRMED"), found(None, there())),
        (200, told("REDEEMED"), found(None, there())),
        (200, told("ON_HOLD"), found(Some(lasts()), there())),
        (200, told("PENDING"), LookUpOutcome::StillPending),
        (200, told("REJECTED"), LookUpOutcome::Ended),
        (200, told("CANCELLED"), LookUpOutcome::Ended),
        (200, told("EXPIRED"), LookUpOutcome::Ended),
        (200, json!({}), unavailable(AttemptError::UnusableAnswer)),
        (202, json!({}), unavailable(AttemptError::UnusableAnswer)),
        (400, no("INVALID_BOOKING_UUID"), LookUpOutcome::NotFound),
        (404, no("NOT_FOUND"), LookUpOutcome::NotFound),
        (404, json!({}), LookUpOutcome::NotFound),
        (400, no("BAD_REQUEST"), unavailable(AttemptError::HttpStatus(400))),
        (400, no("UNAUTHORIZED"), unavailable(AttemptError::Misconfigured(400))),
        (401, json!({}), unavailable(AttemptError::Misconfigured(401))),
        (500, json!({}), unavailable(AttemptError::HttpStatus(500))),
    ] {
        assert_eq!(look_up(&booking, status, body.clone()).await, outcome, "{status} {body}");
    }
}

#[tokio::test]
async fn a_reservation_is_not_yet_what_was_to_be_booked() {
    assert_eq!(look_up(&being_booked(), 200, told("ON_HOLD")).await, LookUpOutcome::NotFound);
    let confirmed = look_up(&being_booked(), 200, told("CONFIRMED")).await;
    assert_eq!(confirmed, found(None, being_booked().slot));

    let mut being_held = being_booked();
    being_held.request.hold = true;
    assert_eq!(
        look_up(&being_held, 200, told("ON_HOLD")).await,
        found(Some(lasts()), being_held.slot.clone())
    );

    let held = State::Reserved { expires_at: Timestamp::EPOCH };
    let confirming = changing(held, Change::Confirm);
    assert_eq!(
        look_up(&confirming, 200, told("ON_HOLD")).await,
        found(Some(lasts()), confirming.slot.clone())
    );
}

#[tokio::test]
async fn the_slot_is_one_that_holdfast_knows_if_it_can_be() {
    let to = slot("side-street", "2027-01-16T09:00:00Z");
    let moving = changing(State::Confirmed, Change::Reschedule(to.clone()));
    let at_start = |start: &str, end: &str| {
        let mut body = told("CONFIRMED");
        body["availability"]["localDateTimeStart"] = json!(start);
        body["availability"]["localDateTimeEnd"] = json!(end);
        body
    };
    let moved = at_start("2027-01-16T09:00:00Z", "2027-01-16T11:00:00Z");
    assert_eq!(look_up(&moving, 200, moved).await, found(None, to.clone()));
    assert_eq!(look_up(&moving, 200, told("CONFIRMED")).await, found(None, moving.slot.clone()));

    // Somewhere else altogether: what the supplier tells, at the booking's location.
    let elsewhere = at_start("2027-01-17T09:00:00Z", "2027-01-17T11:00:00Z");
    let expected = Slot { end: at("2027-01-17T11:00:00Z"), ..slot("main-street", "2027-01-17T09:00:00Z") };
    assert_eq!(look_up(&moving, 200, elsewhere.clone()).await, found(None, expected.clone()));
    let mut other_option = elsewhere.clone();
    other_option["optionId"] = json!("evening");
    other_option["productId"] = json!("tour");
    let expected =
        Slot { resource_id: Some("evening".to_owned()), service_id: Some("tour".to_owned()), ..expected };
    assert_eq!(look_up(&moving, 200, other_option).await, found(None, expected));
}

#[tokio::test]
async fn a_slot_that_is_not_told_is_not_made_up() {
    let mut body = told("CONFIRMED");
    body["availability"] = Value::Null;
    let LookUpOutcome::Found(found) = look_up(&booking(), 200, body).await else { panic!("it is there") };
    assert_eq!(found.slot, None);
    let mut body = told("CONFIRMED");
    body["availability"]["localDateTimeStart"] = json!("2027-01-15T10:00:00");
    let LookUpOutcome::Found(found) = look_up(&booking(), 200, body).await else { panic!("it is there") };
    assert_eq!(found.slot, None);
}

#[tokio::test]
async fn the_suppliers_reference_comes_before_its_identifier() {
    let mut body = told("CONFIRMED");
    body["supplierReference"] = json!("300SK9");
    let LookUpOutcome::Found(found) = look_up(&booking(), 200, body).await else { panic!("it is there") };
    assert_eq!(found.acknowledgement.provider_reference.as_deref(), Some("300SK9"));
}

#[tokio::test]
async fn a_supplier_cannot_be_told() {
    let supplier = Supplier::following([]).await;
    let kind = holdfast_domain::NotificationKind::Booked;
    let told = notify(&supplier.provider, &booking(), kind, booking().slot).await;
    assert_eq!(told.error, Some(AttemptError::UnusableAnswer));
    supplier.check();
}
