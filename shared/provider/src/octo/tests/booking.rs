//! Making a booking: reserve, then confirm.

use std::collections::BTreeSet;

use holdfast_app::ports::ProviderGateway;
use holdfast_app::settings::ProviderAuth;
use holdfast_domain::{Mode, Personal};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::octo::answers::SLOT_UNAVAILABLE;
use crate::octo::wire::{SERVICE_ID_MISSING, UNIT_MISSING};
use crate::test_util::{AMPLE_MS, BRIEF_MS, at, being_booked, gateway, raw};

fn being_held() -> Booking {
    let mut booking = being_booked();
    booking.request.hold = true;
    booking
}

fn held() -> AttemptOutcome {
    yes(Some(at("2027-01-01T00:30:00Z")))
}

#[tokio::test]
async fn a_booking_is_reserved_and_confirmed() {
    let mut supplier = Supplier::following([
        (AVAILABILITY, 200, offered()),
        (RESERVE, 200, told("ON_HOLD")),
        (CONFIRM, 200, told("CONFIRMED")),
    ])
    .await;
    supplier.provider.auth = ProviderAuth::Bearer { token: SecretString::from("t".to_owned()) };
    assert_eq!(supplier.attempt(&being_booked(), 1).await, yes(None));
    assert_eq!(
        supplier.body(0),
        json!({
            "productId": "checkup", "optionId": "DEFAULT",
            "localDateStart": "2027-01-14", "localDateEnd": "2027-01-15",
            "units": [{"id": "adult", "quantity": 2}],
        })
    );
    assert_eq!(
        supplier.body(1),
        json!({
            "uuid": UUID, "productId": "checkup", "optionId": "DEFAULT", "availabilityId": "a-1",
            "expirationMinutes": 15, "notes": "window seat",
            "unitItems": [{"unitId": "adult"}, {"unitId": "adult"}],
        })
    );
    assert_eq!(
        supplier.body(2),
        json!({
            "resellerReference": "order-1001", "emailReceipt": false,
            "contact": {
                "fullName": "Ada Lovelace", "firstName": "Ada", "lastName": "Lovelace",
                "emailAddress": "ada@example.com",
            },
        })
    );
    for call in supplier.received.lock().unwrap().iter() {
        assert_eq!(call.headers["authorization"], "Bearer t");
        assert_eq!(call.headers["octo-capabilities"], "");
        assert_eq!(call.headers["octo-env"], "test");
        assert_eq!(call.headers["content-type"], "application/json");
        assert!(!call.headers.contains_key("idempotency-key"));
    }
}

#[tokio::test]
async fn a_live_booking_is_no_test_and_every_message_has_its_own_name() {
    let mut supplier = Supplier::following([
        (GET, 400, no("INVALID_BOOKING_UUID")),
        (AVAILABILITY, 200, offered()),
        (RESERVE, 200, told("CONFIRMED")),
    ])
    .await;
    supplier.provider.mode = Mode::Live;
    supplier.provider.signing_secret = Some(SecretString::from(crate::test_util::SECRET.to_owned()));
    assert_eq!(supplier.attempt(&being_booked(), 2).await, yes(None));
    let calls = supplier.received.lock().unwrap();
    assert!(calls.iter().all(|call| !call.headers.contains_key("octo-env")));
    assert!(!calls[0].headers.contains_key("content-type"), "a look-up has no body");
    let names: BTreeSet<_> = calls.iter().map(|call| &call.headers["webhook-id"]).collect();
    assert_eq!(names.len(), calls.len());
}

#[tokio::test]
async fn a_hold_stops_at_the_reservation() {
    let script = [(AVAILABILITY, 200, offered()), (RESERVE, 200, told("ON_HOLD"))];
    let supplier = Supplier::following(script).await;
    assert_eq!(supplier.attempt(&being_held(), 1).await, held());
}

#[tokio::test]
async fn the_supplier_decides_what_a_reservation_came_to() {
    for (status, outcome) in [
        ("CONFIRMED", yes(None)),
        ("REDEEMED", yes(None)),
        ("PENDING", unknown(AttemptError::AcceptedForLater)),
        ("REJECTED", declined_as("REJECTED")),
        ("EXPIRED", declined_as("EXPIRED")),
        ("CANCELLED", declined_as("CANCELLED")),
        ("NEW", unknown(AttemptError::UnusableAnswer)),
    ] {
        for booking in [being_booked(), being_held()] {
            let script = [(AVAILABILITY, 200, offered()), (RESERVE, 200, told(status))];
            let supplier = Supplier::following(script).await;
            assert_eq!(supplier.attempt(&booking, 1).await, outcome, "{status}");
        }
    }
}

#[tokio::test]
async fn what_the_request_lacks_is_refused_without_a_call() {
    let supplier = Supplier::following([]).await;
    let mut without_service = being_booked();
    without_service.slot.service_id = None;
    let mut without_units = being_booked();
    without_units.request.units.clear();
    for (booking, code) in [(without_service, SERVICE_ID_MISSING), (without_units, UNIT_MISSING)] {
        let outcome = supplier.attempt(&booking, 1).await;
        let AttemptOutcome::Declined(rejection) = outcome else { panic!("{outcome:?}") };
        assert_eq!(rejection.code, code);
    }
}

#[tokio::test]
async fn a_resource_is_an_option_and_units_have_a_default() {
    let mut supplier =
        Supplier::following([(AVAILABILITY, 200, offered()), (RESERVE, 200, told("CONFIRMED"))]).await;
    supplier.provider.default_unit_id = Some("person".to_owned());
    let mut booking = being_booked();
    booking.slot.resource_id = Some("morning".to_owned());
    booking.request.units.clear();
    assert_eq!(supplier.attempt(&booking, 1).await, yes(None));
    assert_eq!(supplier.body(0)["units"], json!([{"id": "person", "quantity": 1}]));
    assert_eq!(supplier.body(1)["optionId"], "morning");
    assert_eq!(supplier.body(1)["unitItems"], json!([{"unitId": "person"}]));
}

#[tokio::test]
async fn a_slot_is_found_by_its_instant_or_not_at_all() {
    let unavailable = |outcome: AttemptOutcome| {
        let AttemptOutcome::Declined(rejection) = outcome else { panic!("{outcome:?}") };
        assert_eq!(rejection.code, SLOT_UNAVAILABLE);
    };
    let mut sold_out = availability("a-1", "2027-01-15T09:00:00Z");
    sold_out["available"] = json!(false);
    for offer in [json!([]), json!([sold_out]), json!([availability("a-1", "2027-01-15T09:00:00+01:00")])] {
        let supplier = Supplier::following([(AVAILABILITY, 200, offer)]).await;
        unavailable(supplier.attempt(&being_booked(), 1).await);
    }
}

#[tokio::test]
async fn an_availability_check_that_failed_changed_nothing() {
    let local_time = json!([availability("a-1", "2027-01-15T10:00:00")]);
    for (status, body, outcome) in [
        (200, local_time, AttemptOutcome::NotSent(AttemptError::UnusableAnswer)),
        (200, json!({}), AttemptOutcome::NotSent(AttemptError::UnusableAnswer)),
        (202, json!([]), AttemptOutcome::NotSent(AttemptError::UnusableAnswer)),
        (429, json!({}), AttemptOutcome::NotSent(AttemptError::HttpStatus(429))),
        (503, json!({}), AttemptOutcome::NotSent(AttemptError::HttpStatus(503))),
        (403, json!({}), AttemptOutcome::NotSent(AttemptError::Misconfigured(403))),
        (400, no("UNAUTHORIZED"), AttemptOutcome::NotSent(AttemptError::Misconfigured(400))),
        (400, no("FORBIDDEN"), AttemptOutcome::NotSent(AttemptError::Misconfigured(400))),
        (400, no("INTERNAL_SERVER_ERROR"), AttemptOutcome::NotSent(AttemptError::HttpStatus(400))),
        (400, no("INVALID_PRODUCT_ID"), declined("INVALID_PRODUCT_ID")),
        (422, no("UNPROCESSABLE_ENTITY"), declined("UNPROCESSABLE_ENTITY")),
        (400, json!({"message": "uncoded"}), AttemptOutcome::NotSent(AttemptError::HttpStatus(400))),
    ] {
        let supplier = Supplier::following([(AVAILABILITY, status, body.clone())]).await;
        assert_eq!(supplier.attempt(&being_booked(), 1).await, outcome, "{status} {body}");
    }
}

#[tokio::test]
async fn a_reservation_without_a_usable_answer_is_unknown() {
    for (status, body, error) in [
        (200, json!("?"), AttemptError::UnusableAnswer),
        (202, json!({}), AttemptError::AcceptedForLater),
        (204, json!({}), AttemptError::UnusableAnswer),
        (302, json!({}), AttemptError::UnusableAnswer),
        (404, json!({}), AttemptError::HttpStatus(404)),
        (409, json!({}), AttemptError::HttpStatus(409)),
        (429, no("BAD_REQUEST"), AttemptError::HttpStatus(429)),
        (400, no("INTERNAL_SERVER_ERROR"), AttemptError::HttpStatus(400)),
        (500, no("BAD_REQUEST"), AttemptError::HttpStatus(500)),
        (401, json!({}), AttemptError::Misconfigured(401)),
    ] {
        let script = [(AVAILABILITY, 200, offered()), (RESERVE, status, body)];
        let supplier = Supplier::following(script).await;
        assert_eq!(supplier.attempt(&being_booked(), 1).await, unknown(error), "{status}");
    }
}

#[tokio::test]
async fn all_requests_together_keep_the_limit() {
    let limited = async |provider: &ProviderSettings| {
        let (booking, limit_ms) = (&being_booked(), BRIEF_MS);
        let call = ProviderCall { provider, booking, operation_number: 1, attempt: 1, limit_ms };
        let begun = tokio::time::Instant::now();
        let report = gateway("127.0.0.1").attempt(call).await;
        assert!(begun.elapsed().as_millis() < u128::from(AMPLE_MS));
        report.outcome
    };
    let silent_at_once = over_octo(raw("http", Vec::new(), true).await);
    assert_eq!(limited(&silent_at_once).await, AttemptOutcome::NotSent(AttemptError::TimedOut));
    let body = offered().to_string();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let silent_later = over_octo(raw("http", answer.into_bytes(), true).await);
    assert_eq!(limited(&silent_later).await, unknown(AttemptError::TimedOut));
}

#[tokio::test]
async fn a_repeated_attempt_goes_on_where_an_earlier_one_stopped() {
    let supplier = Supplier::following([(GET, 200, told("CONFIRMED"))]).await;
    assert_eq!(supplier.attempt(&being_booked(), 2).await, yes(None));

    let script = [(GET, 200, told("ON_HOLD")), (CONFIRM, 200, told("CONFIRMED"))];
    let supplier = Supplier::following(script).await;
    assert_eq!(supplier.attempt(&being_booked(), 2).await, yes(None));

    let supplier = Supplier::following([(GET, 200, told("ON_HOLD"))]).await;
    assert_eq!(supplier.attempt(&being_held(), 2).await, held());

    let supplier = Supplier::following([(GET, 200, told("EXPIRED"))]).await;
    assert_eq!(supplier.attempt(&being_booked(), 2).await, declined_as("EXPIRED"));

    let supplier = Supplier::following([(GET, 503, json!({}))]).await;
    let unasked = AttemptOutcome::NotSent(AttemptError::HttpStatus(503));
    assert_eq!(supplier.attempt(&being_booked(), 2).await, unasked);
}

#[tokio::test]
async fn a_uuid_that_is_used_already_is_settled_by_asking() {
    for (status, code) in [
        (400, "INVALID_BOOKING_UUID"),
        (422, "UNPROCESSABLE_ENTITY"),
        (409, "CONFLICT"),
        (400, "BAD_REQUEST"),
    ] {
        let refused = [(AVAILABILITY, 200, offered()), (RESERVE, status, no(code))];
        let on_hold = [(GET, 200, told("ON_HOLD")), (CONFIRM, 200, told("CONFIRMED"))];
        let supplier = Supplier::following(refused.clone().into_iter().chain(on_hold)).await;
        assert_eq!(supplier.attempt(&being_booked(), 1).await, yes(None), "{code}");

        for (found, outcome) in [
            ((GET, 200, told("CONFIRMED")), yes(None)),
            ((GET, 400, no("INVALID_BOOKING_UUID")), declined(code)),
            ((GET, 404, json!({})), declined(code)),
            ((GET, 500, json!({})), unknown(AttemptError::HttpStatus(500))),
        ] {
            let supplier = Supplier::following(refused.clone().into_iter().chain([found])).await;
            assert_eq!(supplier.attempt(&being_booked(), 1).await, outcome, "{code}");
        }
    }
    let script = [(AVAILABILITY, 200, offered()), (RESERVE, 400, no("INVALID_UNIT_ID"))];
    let supplier = Supplier::following(script).await;
    assert_eq!(supplier.attempt(&being_booked(), 1).await, declined("INVALID_UNIT_ID"));
}

#[tokio::test]
async fn what_is_held_and_not_confirmed_is_given_back() {
    let refused = [
        (AVAILABILITY, 200, offered()),
        (RESERVE, 200, told("ON_HOLD")),
        (CONFIRM, 422, no("UNPROCESSABLE_ENTITY")),
    ];
    let no_longer = declined("UNPROCESSABLE_ENTITY");
    let fault = unknown(AttemptError::HttpStatus(500));
    for (rest, outcome) in [
        (vec![(GET, 200, told("CONFIRMED"))], yes(None)),
        (vec![(GET, 200, told("PENDING"))], unknown(AttemptError::AcceptedForLater)),
        (vec![(GET, 400, no("INVALID_BOOKING_UUID"))], no_longer.clone()),
        (vec![(GET, 500, json!({}))], fault.clone()),
        (vec![(GET, 200, told("ON_HOLD")), (CANCEL, 200, told("EXPIRED"))], no_longer),
        (vec![(GET, 200, told("ON_HOLD")), (CANCEL, 500, json!({}))], fault),
        (
            vec![(GET, 200, told("ON_HOLD")), (CANCEL, 400, no("BAD_REQUEST")), (GET, 200, told("ON_HOLD"))],
            unknown(AttemptError::HttpStatus(422)),
        ),
    ] {
        let supplier = Supplier::following(refused.clone().into_iter().chain(rest)).await;
        assert_eq!(supplier.attempt(&being_booked(), 1).await, outcome);
    }
}

#[tokio::test]
async fn once_something_is_held_nothing_counts_as_not_sent() {
    for (status, body, outcome) in [
        (500, json!({}), unknown(AttemptError::HttpStatus(500))),
        (202, json!({}), unknown(AttemptError::AcceptedForLater)),
        (200, told("PENDING"), unknown(AttemptError::AcceptedForLater)),
        (200, told("ON_HOLD"), unknown(AttemptError::UnusableAnswer)),
        (200, told("REJECTED"), declined_as("REJECTED")),
    ] {
        let script =
            [(AVAILABILITY, 200, offered()), (RESERVE, 200, told("ON_HOLD")), (CONFIRM, status, body)];
        let supplier = Supplier::following(script).await;
        assert_eq!(supplier.attempt(&being_booked(), 1).await, outcome, "{status}");
    }
}

#[tokio::test]
async fn an_erased_customer_is_nobody() {
    let script =
        [(AVAILABILITY, 200, offered()), (RESERVE, 200, told("ON_HOLD")), (CONFIRM, 200, told("CONFIRMED"))];
    let supplier = Supplier::following(script).await;
    let mut booking = being_booked();
    booking.request.customer = None;
    booking.request.notes = None;
    booking.request.reference = None;
    assert_eq!(supplier.attempt(&booking, 1).await, yes(None));
    assert!(!supplier.body(1).as_object().unwrap().contains_key("notes"));
    assert_eq!(
        supplier.body(2),
        json!({"resellerReference": booking.id.as_str(), "emailReceipt": false, "contact": {}})
    );
}

#[tokio::test]
async fn the_whole_contact_is_told() {
    let script =
        [(AVAILABILITY, 200, offered()), (RESERVE, 200, told("ON_HOLD")), (CONFIRM, 200, told("CONFIRMED"))];
    let supplier = Supplier::following(script).await;
    let mut booking = being_booked();
    let mut customer = booking.request.customer.take().unwrap().expose().clone();
    customer.name = "Plato".to_owned();
    customer.phone = Some("+30123456789".to_owned());
    customer.language = Some("el".to_owned());
    booking.request.customer = Some(Personal::new(customer));
    assert_eq!(supplier.attempt(&booking, 1).await, yes(None));
    assert_eq!(
        supplier.body(2)["contact"],
        json!({
            "fullName": "Plato", "firstName": "Plato", "emailAddress": "ada@example.com",
            "phoneNumber": "+30123456789", "locales": ["el"],
        })
    );
}

#[tokio::test]
async fn a_connection_that_breaks_tells_nothing_of_a_reservation() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let body = offered().to_string();
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        for answer in [head + &body, String::new()] {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _count = socket.read(&mut request).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let provider = over_octo(crate::test_util::provider(base_url));
    let report = crate::test_util::attempt(&provider, &being_booked(), 1).await;
    assert_eq!(report.outcome, unknown(AttemptError::ConnectionLost));
}
