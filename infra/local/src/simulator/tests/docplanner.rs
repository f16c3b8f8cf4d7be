//! Docplanner's callbacks.

use super::*;

const START: &str = "2026-12-01T09:00:00Z";
const LATER: &str = "2026-12-02T09:00:00Z";

fn end_of(start: &str) -> String {
    start.replace(":00:00Z", ":30:00Z")
}

fn request(start: &str) -> Value {
    json!({
        "booking_at": "2026-11-21T12:00:00Z", "booking_by": "user", "duration": 30,
        "start_at": start, "end_at": end_of(start), "address_service": {"id": "check-up"},
        "patient": {"name": "Ada", "surname": "Lovelace", "email": null},
    })
}

fn booked(id: &str, start: &str) -> Value {
    json!({
        "id": id, "status": "booked", "duration": 30, "start_at": start, "end_at": end_of(start),
        "booked_by": "user", "booked_at": "2026-11-21T12:00:00Z", "canceled_by": "", "address_service": null,
        "patient": {"name": "Ada", "surname": "Lovelace"},
    })
}

fn cancelled(id: &str, start: &str) -> Value {
    let mut visit = booked(id, start);
    visit["status"] = json!("canceled");
    visit["canceled_by"] = json!("user");
    visit["canceled_at"] = json!("2026-11-21T13:00:00Z");
    visit
}

fn envelope(name: &str, visits: &Value) -> Value {
    let mut data = json!({
        "facility": {"id": "p", "name": "The clinic"},
        "doctor": {"id": "dr-house"},
        "address": {"id": "main"},
    });
    for (name, visit) in visits.as_object().unwrap() {
        data[name] = visit.clone();
    }
    json!({"name": name, "data": data, "created_at": "2026-11-21T13:00:00+01:00"})
}

fn moving(id: &str, from: &str, to: &str) -> Value {
    let canceling = json!({
        "id": id, "duration": 30, "start_at": from, "end_at": end_of(from), "booked_by": "user",
        "canceling_by": "user", "booked_at": "2026-11-21T12:00:00Z", "canceling_at": "2026-11-21T13:00:00Z",
        "address_service": null,
    });
    envelope("booking-moving", &json!({"canceling_booking": canceling, "creating_booking": request(to)}))
}

fn slot_booking() -> Value {
    envelope("slot-booking", &json!({"visit_booking_request": request(START)}))
}

fn slot_booked(id: &str) -> Value {
    envelope("slot-booked", &json!({"visit_booking": booked(id, START)}))
}

impl Client {
    async fn send(&self, id: &str, message: &Value) -> (u16, Value) {
        let key = format!("{id}:{}:2", message["name"].as_str().unwrap_or_default());
        let request = self.http.post(self.url("/docplanner/p")).header("idempotency-key", key);
        answer(request.json(message)).await
    }

    async fn booking(&self, id: &str) -> Value {
        let found = self.list(&format!("bookings?booking_id={id}")).await;
        found.first().cloned().unwrap_or_default()
    }
}

#[tokio::test]
async fn a_gate_books_nothing_and_notifications_do() {
    let client = Client::start().await;
    assert_eq!(client.send("bkg_1", &slot_booking()).await, (200, json!({})));
    assert_eq!(client.list("bookings").await.len(), 0);
    for _ in 0..2 {
        assert_eq!(client.send("bkg_1", &slot_booked("bkg_1")).await.0, 200);
    }
    let booking = client.booking("bkg_1").await;
    assert_eq!((&booking["status"], &booking["book_count"]), (&json!("confirmed"), &json!(1)));
    assert_eq!(
        booking["slot"],
        json!({"location_id": "main", "start": START, "end": end_of(START), "resource_id": "dr-house"})
    );

    assert_eq!(client.send("bkg_1", &moving("bkg_1", START, LATER)).await.0, 200);
    assert_eq!(client.booking("bkg_1").await["slot"]["start"], START);
    let visits =
        json!({"old_visit_booking": cancelled("bkg_1", START), "new_visit_booking": booked("bkg_1", LATER)});
    for _ in 0..2 {
        assert_eq!(client.send("bkg_1", &envelope("booking-moved", &visits)).await.0, 200);
    }
    let booking = client.booking("bkg_1").await;
    assert_eq!(
        (&booking["slot"]["start"], &booking["former_slots"][0]["slot"]["start"]),
        (&json!(LATER), &json!(START))
    );
    assert_eq!(client.list("slots?provider_id=p").await.len(), 1);

    let cancel = envelope("booking-canceled", &json!({"visit_booking": cancelled("bkg_1", LATER)}));
    assert_eq!(client.send("bkg_1", &cancel).await.0, 200);
    assert_eq!(client.booking("bkg_1").await["status"], "cancelled");
    assert_eq!(client.list("slots?provider_id=p").await.len(), 0);

    let names: Vec<Value> =
        client.list("calls?provider_id=p").await.iter().map(|call| call["operation"].clone()).collect();
    let expected = [
        "slot_booking",
        "slot_booked",
        "slot_booked",
        "booking_moving",
        "booking_moved",
        "booking_moved",
        "booking_canceled",
    ];
    assert_eq!(names, expected);
    let calls = client.list("calls?operation=slot_booking").await;
    assert_eq!(
        (&calls[0]["booking_id"], &calls[0]["location_id"], &calls[0]["operation_number"]),
        (&json!("bkg_1"), &json!("main"), &json!(2))
    );
    assert!(!json!(client.list("calls").await).to_string().contains("Lovelace"));
}

#[tokio::test]
async fn a_visit_that_moves_to_another_id_is_followed() {
    let client = Client::start().await;
    client.send("v1", &slot_booked("v1")).await;
    let visits =
        json!({"old_visit_booking": cancelled("v1", START), "new_visit_booking": booked("v2", LATER)});
    assert_eq!(client.send("v1", &envelope("booking-moved", &visits)).await.0, 200);
    assert_eq!(client.booking("v1").await["status"], "cancelled");
    assert_eq!(client.booking("v2").await["slot"]["start"], LATER);
}

#[tokio::test]
async fn a_gate_declines_with_its_code_and_notifications_go_on() {
    let client = Client::start().await;
    client.behave(json!({"decline": {"code": 7, "status": 422}})).await;
    assert_eq!(client.send("bkg_1", &slot_booking()).await, (422, json!({"error_code": 7})));
    assert_eq!(client.send("bkg_1", &slot_booked("bkg_1")).await.0, 200);
    client.behave(json!({"decline": {"code": "8"}, "operations": ["booking_moving"]})).await;
    assert_eq!(client.send("bkg_1", &moving("bkg_1", START, LATER)).await, (400, json!({"error_code": 8})));
    assert_eq!(client.send("bkg_1", &slot_booking()).await.0, 200);

    client.next(json!({"count": 2, "behaviour": {"status": 500}, "operation": "slot_booked"})).await;
    assert_eq!(client.send("bkg_2", &slot_booking()).await.0, 200);
    assert_eq!(client.send("bkg_2", &slot_booked("bkg_2")).await.0, 500);
    assert_eq!(client.booking("bkg_2").await, Value::Null);
    assert_eq!(client.send("bkg_2", &slot_booked("bkg_2")).await.0, 500);
    assert_eq!(client.send("bkg_2", &slot_booked("bkg_2")).await.0, 200);
}

#[tokio::test]
async fn a_gate_may_know_that_the_slot_is_taken() {
    let client = Client::start().await;
    client.configure("p", json!({"one_per_slot": true})).await;
    client.send("bkg_1", &slot_booked("bkg_1")).await;
    assert_eq!(client.send("bkg_2", &slot_booking()).await, (409, json!({"error_code": 1})));
    // A booking is not in its own way.
    assert_eq!(client.send("bkg_1", &moving("bkg_1", START, START)).await.0, 200);
    assert_eq!(client.send("bkg_2", &moving("bkg_2", LATER, START)).await.0, 409);
}

#[tokio::test]
async fn what_is_not_as_specified_is_refused_by_its_place() {
    let client = Client::start().await;
    for (path, value) in [
        ("/created_at", json!("yesterday")),
        ("/name", json!("slot-painted")),
        ("/data/facility/name", json!(null)),
        ("/data/doctor", json!({})),
        ("/data/address/id", json!(5)),
        ("/data/visit_booking/id", json!(null)),
        ("/data/visit_booking/status", json!("canceled")),
        ("/data/visit_booking/duration", json!(45)),
        ("/data/visit_booking/start_at", json!("2026-12-01T09:00:00")),
        ("/data/visit_booking/booked_by", json!("nobody")),
        ("/data/visit_booking/canceled_by", json!("user")),
        ("/data/visit_booking/patient", json!("Lovelace")),
    ] {
        let mut message = slot_booked("bkg_1");
        *message.pointer_mut(path).unwrap() = value;
        let (status, body) = client.send("bkg_1", &message).await;
        let reason = body["message"].as_str().unwrap();
        let member = path.rsplit('/').next().unwrap();
        assert!(status == 422 && reason.contains(member), "{path}: {status} {reason}");
        assert!(!reason.contains("Lovelace"), "{path}: {reason}");
    }
    let untyped = client.http.post(client.url("/docplanner/p")).body(slot_booked("bkg_1").to_string());
    assert_eq!(answer(untyped).await.0, 422);
    let mut without_service = slot_booked("bkg_1");
    without_service["data"]["visit_booking"].as_object_mut().unwrap().remove("address_service");
    assert_eq!(client.send("bkg_1", &without_service).await.0, 422);
    assert_eq!(client.list("bookings").await.len(), 0);
}
