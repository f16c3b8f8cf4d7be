//! The native protocol's changes of a booking: confirm, extend and reschedule.

use super::*;

const LATER: &str = "2026-12-02T09:00:00Z";

fn slot(start: &str) -> Value {
    json!({"location_id": "main", "start": start, "end": "2026-12-02T09:30:00Z"})
}

impl Client {
    async fn reserved(&self, id: &str) -> Value {
        let mut body = book_body(id);
        body["hold"] = json!(true);
        let request = self.http.post(self.url("/providers/p/bookings"));
        let (status, body) = answer(request.header("idempotency-key", id).json(&body)).await;
        assert_eq!((status, &body["status"]), (201, &json!("reserved")));
        body
    }

    async fn confirm(&self, id: &str, operation: u64) -> (u16, Value) {
        answer(self.change(id, "confirm", operation, json!({}))).await
    }

    async fn extend(&self, id: &str, operation: u64, expires_at: &str) -> (u16, Value) {
        answer(self.change(id, "extend", operation, json!({"expires_at": expires_at}))).await
    }

    fn reschedule(&self, id: &str, operation: u64, start: &str) -> reqwest::RequestBuilder {
        self.change(id, "reschedule", operation, json!({"slot": slot(start)}))
    }

    async fn held_starts(&self) -> Vec<Value> {
        let held = self.list("slots?provider_id=p&location_id=main").await;
        held.iter().map(|held| held["slot"]["start"].clone()).collect()
    }
}

#[tokio::test]
async fn a_hold_is_extended_confirmed_and_moved() {
    let client = Client::start().await;
    let held = client.reserved("bkg_1").await;
    assert_eq!(held["operation"], 1);
    let (status, extended) = client.extend("bkg_1", 2, "2126-12-01T09:00:00Z").await;
    assert_eq!((status, &extended["expires_at"]), (200, &json!("2126-12-01T09:00:00Z")));
    let (status, confirmed) = client.confirm("bkg_1", 3).await;
    assert_eq!((status, &confirmed["status"]), (200, &json!("confirmed")));
    assert_eq!(confirmed["expires_at"], Value::Null);
    assert_eq!(client.confirm("bkg_1", 3).await, (200, confirmed.clone()));
    assert_eq!(client.confirm("bkg_1", 4).await.1["code"], "already_confirmed");

    assert_eq!(client.held_starts().await, [held["slot"]["start"].clone()]);
    let (status, moved) = answer(client.reschedule("bkg_1", 5, LATER)).await;
    assert_eq!((status, &moved["slot"]["start"]), (200, &json!(LATER)));
    assert_eq!(moved["provider_reference"], held["provider_reference"]);
    assert_eq!(client.held_starts().await, [LATER]);
    let found = client.look_up("bkg_1").await.1;
    assert_eq!(
        (&found["status"], &found["slot"], &found["operation"]),
        (&json!("confirmed"), &slot(LATER), &json!(5))
    );
    let shown = &client.list("bookings").await[0];
    assert_eq!((&shown["book_count"], &shown["former_slots"][0]["slot"]), (&json!(1), &held["slot"]));
}

#[tokio::test]
async fn numbers_and_keys_of_changes_are_checked() {
    let client = Client::start().await;
    assert_eq!(client.confirm("bkg_1", 2).await.1["code"], "unknown_booking");
    client.reserved("bkg_1").await;
    assert_eq!(client.confirm("bkg_1", 3).await.0, 200);
    assert_eq!(client.extend("bkg_1", 2, "2126-12-01T09:00:00Z").await.1["code"], "stale_operation");
    assert_eq!(client.extend("bkg_1", 3, "2126-12-01T09:00:00Z").await.0, 422);
    assert_eq!(client.extend("bkg_1", 4, "soon").await.1["code"], "invalid_request");
    let without_slot = client.change("bkg_1", "reschedule", 4, json!({}));
    assert_eq!(answer(without_slot).await.1["code"], "invalid_request");
    let elsewhere = client.change("bkg_1", "confirm", 4, json!({"booking_id": "bkg_2"}));
    assert_eq!(answer(elsewhere).await.1["code"], "invalid_request");
    let keyless = client.http.post(client.url("/providers/p/bookings/bkg_1/confirm"));
    assert_eq!(answer(keyless.json(&json!({"operation": 4}))).await.1["code"], "wrong_idempotency_key");
    let calls = client.list("calls?operation=extend").await;
    assert_eq!((&calls[0]["operation_number"], &calls[0]["operation_name"]), (&json!(2), &json!("extend")));
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_found_done_and_repeated_as_it_was() {
    let client = Client::start().await;
    client.reserved("bkg_1").await;
    client.next(json!({"behaviour": {"drop_answer": true}, "operation": "confirm"})).await;
    assert!(client.change("bkg_1", "confirm", 2, json!({})).send().await.is_err());
    let found = client.look_up("bkg_1").await.1;
    assert_eq!((&found["status"], &found["operation"]), (&json!("confirmed"), &json!(2)));
    assert_eq!(client.confirm("bkg_1", 2).await.0, 200);

    client.next(json!({"behaviour": {"status": 503}, "operation": "reschedule"})).await;
    assert_eq!(answer(client.reschedule("bkg_1", 3, LATER)).await.0, 503);
    let decline = json!({"code": "too_late", "message": "Too late to move."});
    client.next(json!({"behaviour": {"decline": decline}, "operation": "reschedule"})).await;
    // Neither a look-up nor a cancel uses it up.
    assert_eq!(client.look_up("bkg_1").await.1["operation"], 2);
    for _ in 0..2 {
        assert_eq!(answer(client.reschedule("bkg_1", 3, LATER)).await, (409, decline.clone()));
    }
    let found = client.look_up("bkg_1").await.1;
    assert_eq!(found["operation"], 3);
    assert_ne!(found["slot"]["start"], LATER);
    client.next(json!({"behaviour": {"garbage": true}, "operation": "reschedule"})).await;
    assert_eq!(answer(client.reschedule("bkg_1", 4, LATER)).await, (200, Value::Null));
    assert_eq!(client.look_up("bkg_1").await.1["slot"]["start"], LATER);
}

#[tokio::test]
async fn a_late_change_happens_although_the_caller_has_hung_up() {
    let client = Client::start().await;
    client.reserved("bkg_1").await;
    client.behave(json!({"process_after_ms": 100, "hang": true, "operations": ["reschedule"]})).await;
    let given_up = client.reschedule("bkg_1", 2, LATER).timeout(Duration::from_millis(50)).send().await;
    assert!(given_up.unwrap_err().is_timeout());
    let deadline = Instant::now() + POLL_LIMIT;
    while client.look_up("bkg_1").await.1["operation"] != 2 {
        assert!(Instant::now() < deadline, "the booking did not move");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    assert_eq!(client.held_starts().await, [LATER]);
}

#[tokio::test]
async fn a_change_that_is_put_off_is_called_back_with_its_number() {
    let (client, mut received) = start_with_api().await;
    client.reserved("bkg_1").await;
    let late = |status: &str| {
        let operations = ["confirm", "extend", "reschedule"];
        json!({"accept_202": true, "callback_after_ms": 50, "callback_status": status, "operations": operations})
    };
    client.behave(late("confirmed")).await;
    let (status, body) = client.extend("bkg_1", 2, "2126-12-01T09:00:00Z").await;
    assert_eq!((status, &body["status"], &body["operation"]), (202, &json!("reserved"), &json!(1)));
    let (id, _, body) = next_callback(&mut received).await;
    assert_eq!((id.as_str(), &body["status"], &body["operation"]), ("bkg_1", &json!("reserved"), &json!(2)));
    assert_eq!(body["expires_at"], "2126-12-01T09:00:00Z");
    assert_eq!(client.look_up("bkg_1").await.1["operation"], 2);

    assert_eq!(client.confirm("bkg_1", 3).await.0, 202);
    let (_, _, body) = next_callback(&mut received).await;
    assert_eq!((&body["status"], &body["operation"]), (&json!("confirmed"), &json!(3)));

    client.behave(late("rejected")).await;
    assert_eq!(answer(client.reschedule("bkg_1", 4, LATER)).await.0, 202);
    let (_, _, body) = next_callback(&mut received).await;
    assert_eq!((&body["status"], &body["operation"]), (&json!("rejected"), &json!(4)));
    assert_eq!(body["rejection"]["code"], "rejected");
    let found = client.look_up("bkg_1").await.1;
    assert_eq!((&found["status"], &found["operation"]), (&json!("confirmed"), &json!(4)));
    assert_ne!(found["slot"]["start"], LATER);
    let callbacks = client.list("callbacks?booking_id=bkg_1").await;
    let numbers: Vec<Value> = callbacks.iter().map(|shown| shown["operation_number"].clone()).collect();
    assert_eq!(numbers, [2, 3, 4]);
}

#[tokio::test]
async fn a_provider_may_refuse_slots_that_others_have() {
    let client = Client::start().await;
    client.configure("p", json!({"one_per_slot": true})).await;
    client.booked("bkg_1").await;
    assert_eq!(client.booked("bkg_2").await.1["code"], "slot_taken");
    assert_eq!(client.cancel("bkg_1", 2).await.0, 200);
    assert_eq!(client.booked("bkg_2").await.0, 201);
}
