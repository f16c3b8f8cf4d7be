//! Which bodies of creates are taken.

use serde_json::json;

use super::*;

fn example() -> Value {
    json!({
        "provider_id": "demo-clinic",
        "slot": {
            "location_id": "main-street",
            "start": "2027-01-15T09:00:00Z",
            "end": "2027-01-15T09:30:00Z"
        },
        "customer": {"name": "Ada Lovelace", "email": "ada@example.com"},
        "reference": "order-1001"
    })
}

fn pointers(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut body = example();
    change(&mut body);
    let problem = read_create(&body).unwrap_err();
    assert_eq!(problem.code, ProblemCode::InvalidRequest, "{problem}");
    problem.errors.into_iter().map(|error| error.pointer).collect()
}

#[test]
fn the_example_is_valid_and_has_the_defaults() {
    let create = read_create(&example()).unwrap().with_slot(&[], Mode::Test).unwrap();
    assert_eq!(create.sync_timeout_ms, 2_500);
    assert_eq!(create.async_timeout_ms, 900_000);
    assert_eq!(create.patience, Patience::Synchronous);
    assert!(!create.request.hold);
}

#[test]
fn each_field_at_fault_is_named() {
    assert_eq!(pointers(|body| body["provider_id"] = json!("Demo Clinic")), ["/provider_id"]);
    assert_eq!(pointers(|body| body["slot"]["end"] = json!("2027-01-15T09:00:00Z")), ["/slot/end"]);
    assert_eq!(pointers(|body| body["slot"]["start"] = json!("tomorrow")), ["/slot/start"]);
    assert_eq!(pointers(|body| body["slot"]["start"] = json!(5)), ["/slot/start"]);
    assert_eq!(pointers(|body| body["slot"]["end"] = json!(null)), ["/slot/end"]);
    assert_eq!(pointers(|body| body["customer"]["email"] = json!("ada")), ["/customer/email"]);
    assert_eq!(pointers(|body| body["customer"]["name"] = json!("A\u{0}")), ["/customer/name"]);
    assert_eq!(pointers(|body| body["metadata"] = json!({"a/b": "\u{7}"})), ["/metadata/a~1b"]);
    assert_eq!(
        pointers(|body| body["units"] = json!([{"unit_id": "adult", "quantity": 0}])),
        ["/units/0/quantity"]
    );
    assert_eq!(
        pointers(|body| body["sync_confirmation_timeout_millisecond"] = json!(999)),
        ["/sync_confirmation_timeout_millisecond"]
    );
    assert_eq!(
        pointers(|body| body["async_confirmation_timeout_millisecond"] = json!(172_800_001)),
        ["/async_confirmation_timeout_millisecond"]
    );
    assert_eq!(pointers(|body| body["notes"] = json!("x".repeat(1_001))), ["/notes"]);
}

#[test]
fn several_faults_are_named_together() {
    let errors = pointers(|body| {
        body["provider_id"] = json!("");
        body["slot"]["location_id"] = json!(" ");
        body["customer"]["phone"] = json!("none");
    });
    assert_eq!(errors, ["/provider_id", "/slot/location_id", "/customer/phone"]);
}

#[test]
fn slots_must_be_ahead_but_not_too_far() {
    let create = read_create(&example()).unwrap().with_slot(&[], Mode::Test).unwrap();
    let start = create.slot.start;
    assert!(create.refused_at(start.minus_ms(1)).is_none());
    assert_eq!(create.refused_at(start).unwrap().errors[0].pointer, "/slot/start");
    assert!(create.refused_at(start.minus_ms(MAX_SLOT_AHEAD_MS + 1)).is_some());
}
