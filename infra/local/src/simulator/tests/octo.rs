//! OCTO Core.

use super::*;

const UUID: &str = "0190163d-8694-8abc-9001-f6c48b7e6fc4";
const OTHER_UUID: &str = "0190163d-8694-8abc-9001-f6c48b7e6fc5";
const START: &str = "2026-12-01T09:00:00+02:00";
const LATER: &str = "2026-12-01T11:15:00+02:00";

impl Client {
    /// A supplier two hours ahead of UTC.
    async fn start_octo() -> Self {
        let client = Self::start().await;
        client.configure("p", json!({"utc_offset_minutes": 120})).await;
        client
    }

    async fn octo(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(self.url(&format!("/octo/p/{path}")));
        answer(request.header("octo-capabilities", "").json(body)).await
    }

    async fn octo_look_up(&self, uuid: &str) -> (u16, Value) {
        let request = self.http.get(self.url(&format!("/octo/p/bookings/{uuid}")));
        answer(request.header("octo-capabilities", "")).await
    }

    async fn patch(&self, body: &Value) -> (u16, Value) {
        let request = self.http.patch(self.url(&format!("/octo/p/bookings/{UUID}")));
        answer(request.header("octo-capabilities", "").json(body)).await
    }

    async fn availabilities(&self) -> Vec<Value> {
        let query = json!({
            "productId": "tour", "optionId": "DEFAULT", "localDateStart": "2026-11-30",
            "localDateEnd": "2026-12-02", "units": [{"id": "adult", "quantity": 2}],
        });
        let (status, body) = self.octo("availability", &query).await;
        assert_eq!(status, 200);
        body.as_array().unwrap().clone()
    }

    async fn available_at(&self, start: &str) -> Value {
        let all = self.availabilities().await;
        all.into_iter().find(|one| one["localDateTimeStart"] == start).unwrap()
    }

    async fn reserve(&self, uuid: &str, start: &str) -> (u16, Value) {
        let availability = self.available_at(start).await;
        self.octo("bookings", &reservation(uuid, &availability["id"])).await
    }

    async fn confirm_octo(&self) -> (u16, Value) {
        let contact = json!({"fullName": "Ada Lovelace", "emailAddress": "ada@example.com", "locales": []});
        let body = json!({"resellerReference": "bkg_1", "emailReceipt": false, "contact": contact});
        self.octo(&format!("bookings/{UUID}/confirm"), &body).await
    }
}

fn reservation(uuid: &str, availability_id: &Value) -> Value {
    json!({
        "uuid": uuid, "productId": "tour", "optionId": "DEFAULT", "availabilityId": availability_id,
        "expirationMinutes": 10, "notes": "by the window",
        "unitItems": [{"unitId": "adult"}, {"unitId": "adult"}],
    })
}

#[tokio::test]
async fn any_quarter_of_an_hour_is_available() {
    let client = Client::start_octo().await;
    let all = client.availabilities().await;
    assert_eq!(all.len(), 3 * 24 * 4);
    assert_eq!(all[0]["localDateTimeStart"], "2026-11-30T00:00:00+02:00");
    let one = client.available_at(START).await;
    assert_eq!(one["localDateTimeEnd"], "2026-12-01T09:30:00+02:00");
    assert_eq!((&one["available"], &one["status"]), (&json!(true), &json!("AVAILABLE")));
    let by_id =
        json!({"productId": "tour", "optionId": "DEFAULT", "availabilityIds": [one["id"], "another"]});
    assert_eq!(client.octo("availability", &by_id).await, (200, json!([one])));
    client.behave(json!({"availability_none": true})).await;
    assert_eq!(client.availabilities().await.len(), 0);
    assert_eq!(client.list("calls?operation=availability").await[0]["location_id"], "tour");
}

#[tokio::test]
async fn a_reservation_is_confirmed_extended_moved_and_cancelled() {
    let client = Client::start_octo().await;
    let (status, held) = client.reserve(UUID, START).await;
    assert_eq!((status, &held["status"], &held["uuid"]), (200, &json!("ON_HOLD"), &json!(UUID)));
    assert_eq!(held["availability"]["localDateTimeStart"], START);
    assert_eq!(held["unitItems"].as_array().unwrap().len(), 2);
    assert_eq!(client.reserve(UUID, START).await, (200, held.clone()));

    let (_, extended) =
        client.octo(&format!("bookings/{UUID}/extend"), &json!({"expirationMinutes": 60})).await;
    assert_eq!(extended["status"], "ON_HOLD");
    assert!(extended["utcExpiresAt"].as_str().unwrap() > held["utcExpiresAt"].as_str().unwrap());

    let (status, confirmed) = client.confirm_octo().await;
    assert_eq!((status, &confirmed["status"]), (200, &json!("CONFIRMED")));
    assert_eq!(
        (&confirmed["resellerReference"], &confirmed["utcExpiresAt"]),
        (&json!("bkg_1"), &Value::Null)
    );
    assert_eq!(client.confirm_octo().await, (200, confirmed.clone()));
    assert_eq!(client.octo_look_up(UUID).await, (200, confirmed.clone()));
    let (status, late) =
        client.octo(&format!("bookings/{UUID}/extend"), &json!({"expirationMinutes": 60})).await;
    assert_eq!((status, &late["error"]), (400, &json!("UNPROCESSABLE_ENTITY")));

    let id = client.available_at(LATER).await["id"].clone();
    let (status, moved) = client.patch(&json!({"availabilityId": id, "resellerReference": "bkg_1b"})).await;
    assert_eq!((status, &moved["availability"]["localDateTimeStart"]), (200, &json!(LATER)));
    assert_eq!((&moved["id"], &moved["resellerReference"]), (&confirmed["id"], &json!("bkg_1b")));
    assert_eq!(moved["unitItems"].as_array().unwrap().len(), 2);
    let fewer = client.patch(&json!({"unitItems": [{"unitId": "child"}]})).await.1;
    assert_eq!((&fewer["unitItems"][0]["unitId"], &fewer["availabilityId"]), (&json!("child"), &id));

    let shown = &client.list("bookings?provider_id=p").await[0];
    assert_eq!((&shown["booking_id"], &shown["book_count"]), (&json!(UUID), &json!(1)));
    assert_eq!(shown["details"]["reseller_reference"], "bkg_1b");
    assert_eq!(shown["slot"]["start"], "2026-12-01T09:15:00Z");
    assert!(!json!([shown, client.list("calls").await]).to_string().contains("Lovelace"));

    let cancel = json!({"reason": "rain", "force": false});
    let (status, cancelled) = client.octo(&format!("bookings/{UUID}/cancel"), &cancel).await;
    assert_eq!((status, &cancelled["status"]), (200, &json!("CANCELLED")));
    assert_eq!(cancelled["cancellation"]["reason"], "rain");
    let (status, again) = client.octo(&format!("bookings/{UUID}/cancel"), &cancel).await;
    assert_eq!((status, &again["error"]), (400, &json!("UNPROCESSABLE_ENTITY")));
    assert_eq!(client.list("slots?provider_id=p").await.len(), 0);
}

#[tokio::test]
async fn an_unknown_booking_is_not_remembered_as_cancelled() {
    let client = Client::start_octo().await;
    for (path, body) in [("cancel", json!({})), ("extend", json!({"expirationMinutes": 5}))] {
        let (status, error) = client.octo(&format!("bookings/{UUID}/{path}"), &body).await;
        assert_eq!((status, &error["error"]), (400, &json!("INVALID_BOOKING_UUID")));
        assert!(error["errorMessage"].is_string());
    }
    assert_eq!(client.confirm_octo().await.1["error"], "INVALID_BOOKING_UUID");
    assert_eq!(client.octo_look_up(UUID).await.1["error"], "INVALID_BOOKING_UUID");
    assert_eq!(client.patch(&json!({})).await.1["error"], "INVALID_BOOKING_UUID");
    assert_eq!(client.reserve(UUID, START).await.1["status"], "ON_HOLD");
}

#[tokio::test]
async fn suppliers_differ_about_a_repeated_uuid() {
    let client = Client::start_octo().await;
    client.behave(json!({"repeated_uuid_error": true})).await;
    assert_eq!(client.reserve(UUID, START).await.0, 200);
    let (status, error) = client.reserve(UUID, START).await;
    assert_eq!((status, &error["error"]), (400, &json!("INVALID_BOOKING_UUID")));
    assert_eq!(client.octo_look_up(UUID).await.1["status"], "ON_HOLD");
    assert_eq!(client.reserve(OTHER_UUID, START).await.0, 200);
}

#[tokio::test]
async fn a_hold_runs_out() {
    let client = Client::start_octo().await;
    client.behave(json!({"expires_in_seconds": 0})).await;
    client.reserve(UUID, START).await;
    assert_eq!(client.octo_look_up(UUID).await.1["status"], "EXPIRED");
    assert_eq!(client.confirm_octo().await.1["error"], "INVALID_BOOKING_UUID");
}

#[tokio::test]
async fn what_the_supplier_decides_later_is_pending() {
    let client = Client::start_octo().await;
    client.behave(json!({"accept_202": true, "process_after_ms": 200, "operations": ["confirm"]})).await;
    client.reserve(UUID, START).await;
    let (status, pending) = client.confirm_octo().await;
    assert_eq!((status, &pending["status"]), (200, &json!("PENDING")));
    let deadline = Instant::now() + POLL_LIMIT;
    while client.octo_look_up(UUID).await.1["status"] != "CONFIRMED" {
        assert!(Instant::now() < deadline, "the booking stayed pending");
        tokio::time::sleep(POLL_INTERVAL).await;
    }

    client.behave(json!({"accept_202": true, "process_after_ms": 50, "callback_status": "rejected"})).await;
    assert_eq!(client.reserve(OTHER_UUID, START).await.1["status"], "PENDING");
    while client.octo_look_up(OTHER_UUID).await.1["status"] != "REJECTED" {
        assert!(Instant::now() < deadline, "the booking stayed pending");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

#[tokio::test]
async fn what_is_taken_is_sold_out() {
    let client = Client::start_octo().await;
    client.configure("p", json!({"one_per_slot": true})).await;
    let id = client.available_at(START).await["id"].clone();
    client.reserve(UUID, START).await;
    let taken = client.available_at(START).await;
    assert_eq!((&taken["available"], &taken["status"]), (&json!(false), &json!("SOLD_OUT")));
    let (status, error) = client.octo("bookings", &reservation(OTHER_UUID, &id)).await;
    assert_eq!((status, &error["error"]), (400, &json!("UNPROCESSABLE_ENTITY")));
}

#[tokio::test]
async fn declines_and_failures_are_in_octos_words() {
    let client = Client::start_octo().await;
    let decline = json!({"code": "UNPROCESSABLE_ENTITY", "message": "Sold out."});
    client.next(json!({"behaviour": {"decline": decline}})).await;
    // Availability does not use it up.
    let declined = client.reserve(UUID, START).await;
    assert_eq!(declined, (400, json!({"error": "UNPROCESSABLE_ENTITY", "errorMessage": "Sold out."})));
    client.next(json!({"behaviour": {"drop_answer": true}, "operation": "book"})).await;
    let id = client.available_at(START).await["id"].clone();
    let request = client.http.post(client.url("/octo/p/bookings")).header("octo-capabilities", "");
    assert!(request.json(&reservation(UUID, &id)).send().await.is_err());
    assert_eq!(client.octo_look_up(UUID).await.1["status"], "ON_HOLD");
}

#[tokio::test]
async fn what_is_not_as_specified_is_refused() {
    let client = Client::start_octo().await;
    let id = client.available_at(START).await["id"].clone();
    for (member, value, code) in [
        ("uuid", json!("bkg_1"), "INVALID_BOOKING_UUID"),
        ("uuid", Value::Null, "BAD_REQUEST"),
        ("productId", json!("another"), "INVALID_AVAILABILITY_ID"),
        ("optionId", Value::Null, "BAD_REQUEST"),
        ("availabilityId", json!(START), "INVALID_AVAILABILITY_ID"),
        ("expirationMinutes", json!(0), "BAD_REQUEST"),
        ("unitItems", json!([]), "BAD_REQUEST"),
        ("unitItems", json!([{"id": "adult"}]), "BAD_REQUEST"),
    ] {
        let mut body = reservation(UUID, &id);
        body[member] = value;
        let (status, error) = client.octo("bookings", &body).await;
        assert_eq!((status, &error["error"]), (400, &json!(code)), "{member}");
    }
    for query in [
        json!({"productId": "tour", "optionId": "DEFAULT"}),
        json!({"productId": "tour", "optionId": "DEFAULT", "localDateStart": "2026-12-01"}),
        json!({"productId": "tour", "optionId": "DEFAULT", "localDate": "2026-12-01T00:00:00Z"}),
        json!({"optionId": "DEFAULT", "localDate": "2026-12-01"}),
        json!({"productId": "tour", "optionId": "DEFAULT", "localDateStart": "2026-12-01", "localDateEnd": "2027-12-01"}),
    ] {
        let (status, error) = client.octo("availability", &query).await;
        assert_eq!((status, &error["error"]), (400, &json!("BAD_REQUEST")), "{query}");
    }
    client.reserve(UUID, START).await;
    let (_, error) = client.octo(&format!("bookings/{UUID}/confirm"), &json!({})).await;
    assert_eq!(error["error"], "BAD_REQUEST");
    let incapable = client.http.get(client.url(&format!("/octo/p/bookings/{UUID}")));
    assert_eq!(answer(incapable).await.1["error"], "BAD_REQUEST");
}
