//! What is open, over the native protocol and OCTO.

use super::*;

const DAY: &str = "from=2026-12-01T00:00:00Z&to=2026-12-02T00:00:00Z";

impl Client {
    async fn ask(&self, location_id: &str, window: &str) -> (u16, Value) {
        let path = format!("/providers/p/availability?location_id={location_id}&{window}");
        answer(self.http.get(self.url(&path))).await
    }

    async fn open(&self, location_id: &str, window: &str) -> Vec<Value> {
        let (status, body) = self.ask(location_id, window).await;
        assert_eq!(status, 200, "{body}");
        body["slots"].as_array().unwrap().clone()
    }

    /// How many units are open at nine, which is when the test's bookings are.
    async fn open_at_nine(&self, location_id: &str) -> Option<u64> {
        let slots = self.open(location_id, DAY).await;
        slots.iter().find(|slot| slot["start"] == "2026-12-01T09:00:00Z")?["capacity"].as_u64()
    }

    async fn book_with(&self, id: &str, changes: Value) {
        let mut body = book_body(id);
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        let request = self.http.post(self.url("/providers/p/bookings")).header("idempotency-key", id);
        assert_eq!(answer(request.json(&body)).await.0, 201);
    }

    async fn vacancies(&self, product_id: &str) -> Vec<(Value, Value)> {
        let query = json!({
            "productId": product_id, "optionId": "DEFAULT", "localDateStart": "2026-12-01",
            "localDateEnd": "2026-12-01",
        });
        let request = self.http.post(self.url("/octo/p/availability")).header("octo-capabilities", "");
        let (status, body) = answer(request.json(&query)).await;
        assert_eq!(status, 200, "{body}");
        let all = body.as_array().unwrap().iter();
        all.map(|one| (one["localDateTimeStart"].clone(), one["vacancies"].clone())).collect()
    }
}

fn starts(slots: &[Value]) -> Vec<&str> {
    slots.iter().map(|slot| slot["start"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_day_is_open_from_nine_to_five() {
    let client = Client::start().await;
    let day = client.open("main", DAY).await;
    assert_eq!(day.len(), 16);
    let first = json!({"start": "2026-12-01T09:00:00Z", "end": "2026-12-01T09:30:00Z", "capacity": 1});
    assert_eq!((&day[0], &day[15]["start"]), (&first, &json!("2026-12-01T16:30:00Z")));
    assert_eq!(client.open("any", DAY).await, day, "whatever the location");
    let weeks = client.open("main", "from=2026-12-01T00:00:00Z&to=2026-12-23T00:00:00Z").await;
    assert_eq!(weeks.len(), 22 * 16);

    let within = client.open("main", "from=2026-12-01T09:30:00Z&to=2026-12-01T10:30:00Z").await;
    assert_eq!(starts(&within), ["2026-12-01T09:30:00Z", "2026-12-01T10:00:00Z"]);
    let beside =
        client.open("main", "from=2026-12-01T10:30:00.001%2B01:00&to=2026-12-01T10:00:00.001Z").await;
    assert_eq!(starts(&beside), ["2026-12-01T10:00:00Z"]);
    assert_eq!(
        client.open("main", "from=2026-12-02T09:00:00Z&to=2026-12-01T17:00:00Z").await,
        [] as [Value; 0]
    );
}

#[tokio::test]
async fn a_provider_has_hours_clocks_and_room_of_its_own() {
    let client = Client::start().await;
    let settings = json!({"utc_offset_minutes": 120, "opens_at_hour": 8, "closes_at_hour": 9, "capacity": 4});
    client.configure("p", settings).await;
    let expected = |start: &str, end: &str| json!({"start": start, "end": end, "capacity": 4});
    let day = client.open("main", DAY).await;
    assert_eq!(
        day,
        [
            expected("2026-12-01T06:00:00Z", "2026-12-01T06:30:00Z"),
            expected("2026-12-01T06:30:00Z", "2026-12-01T07:00:00Z"),
        ]
    );
    let tour = client.vacancies("tour").await;
    let local: Vec<_> = tour.iter().map(|(start, _)| start.as_str().unwrap()).collect();
    assert_eq!(tour.len(), 4);
    assert_eq!((local[0], local[3]), ("2026-12-01T08:00:00+02:00", "2026-12-01T08:45:00+02:00"));
    assert!(tour.iter().all(|(_, vacancies)| vacancies == 4));

    let odd = client.http.put(client.url("/control/providers/p")).json(&json!({"closes_at_hour": 25}));
    assert_eq!(answer(odd).await.0, 422);
}

#[tokio::test]
async fn what_is_booked_is_open_no_more() {
    let client = Client::start().await;
    assert_eq!(client.open_at_nine("main").await, Some(1));
    client.book_with("bkg_1", json!({"hold": true})).await;
    assert_eq!(client.open_at_nine("main").await, None);
    assert_eq!(client.open("main", DAY).await.len(), 15);
    assert_eq!(client.open_at_nine("other").await, Some(1));
    assert_eq!(client.cancel("bkg_1", 2).await.0, 200);
    assert_eq!(client.open_at_nine("main").await, Some(1));

    client.configure("p", json!({"capacity": 5})).await;
    client
        .book_with(
            "bkg_2",
            json!({"units": [{"unit_id": "a", "quantity": 2}, {"unit_id": "b", "quantity": 1}]}),
        )
        .await;
    assert_eq!(client.open_at_nine("main").await, Some(2));
    let with_doctor = json!({
        "location_id": "main", "start": "2026-12-01T10:00:00+01:00", "end": "2026-12-01T09:30:00Z",
        "resource_id": "dr-a",
    });
    client.book_with("bkg_3", json!({"slot": with_doctor})).await;
    assert_eq!(client.open_at_nine("main").await, Some(2), "a slot of the doctor's is another one");
    client.behave(json!({"accept_202": true})).await;
    assert_eq!(client.booked("bkg_4").await.0, 202);
    assert_eq!(client.open_at_nine("main").await, Some(1), "what is not decided is kept free");
    client.configure("p", json!({"one_per_slot": true})).await;
    assert_eq!(client.open_at_nine("main").await, None);
}

#[tokio::test]
async fn octo_counts_the_units_that_are_booked() {
    let client = Client::start().await;
    let at_nine = async || {
        let tour = client.vacancies("tour").await;
        assert_eq!(tour.len(), 96);
        tour.into_iter().find(|(start, _)| start == "2026-12-01T09:00:00+00:00").unwrap().1
    };
    assert_eq!(at_nine().await, 100);
    let uuid = "0190163d-8694-8abc-9001-f6c48b7e6fc4";
    let body = json!({
        "uuid": uuid, "productId": "tour", "optionId": "DEFAULT",
        "availabilityId": "avl:tour:DEFAULT:1796115600", "unitItems": [{"unitId": "a"}, {"unitId": "b"}],
    });
    let request = client.http.post(client.url("/octo/p/bookings")).header("octo-capabilities", "");
    assert_eq!(answer(request.json(&body)).await.0, 200);
    assert_eq!(at_nine().await, 98);
    client.configure("p", json!({"capacity": 2})).await;
    assert_eq!(at_nine().await, 0);
    assert_eq!(client.vacancies("boat").await.len(), 96);
    assert!(client.vacancies("boat").await.iter().all(|(_, vacancies)| vacancies == 2));
}

#[tokio::test]
async fn one_location_fails_and_its_calls_are_counted() {
    let client = Client::start().await;
    let location = client.url("/control/locations/main/behaviour");
    let broken = json!({"status": 500, "operations": ["availability"]});
    assert_eq!(answer(client.http.put(&location).json(&broken)).await.0, 200);
    assert_eq!(client.ask("main", DAY).await.0, 500);
    assert_eq!(client.open("other", DAY).await.len(), 16);
    assert_eq!(client.booked("bkg_1").await.0, 201, "bookings there go on");
    client.http.delete(&location).send().await.unwrap();
    assert_eq!(client.open("main", DAY).await.len(), 15);

    let next = json!({"location_id": "main", "operation": "availability", "behaviour": {"garbage": true}});
    client.next(next).await;
    assert_eq!(client.open("other", DAY).await.len(), 16);
    assert_eq!(client.ask("main", DAY).await, (200, Value::Null));
    client.next(json!({"operation": "availability", "behaviour": {"retry_after_seconds": 9}})).await;
    assert_eq!(client.ask("main", DAY).await.0, 503);
    client.next(json!({"operation": "availability", "behaviour": {"drop_answer": true}})).await;
    let lost = client.http.get(client.url(&format!("/providers/p/availability?location_id=main&{DAY}")));
    assert!(lost.send().await.is_err());
    client.next(json!({"operation": "availability", "behaviour": {"availability_none": true}})).await;
    assert_eq!(client.open("main", DAY).await.len(), 0);

    let asked = async |location: &str| {
        let calls = client.list(&format!("calls?operation=availability&location_id={location}")).await;
        calls.iter().map(|call| call["answered_status"].clone()).collect::<Vec<_>>()
    };
    let statuses = [json!(500), json!(200), json!(200), json!(503), Value::Null, json!(200)];
    assert_eq!(asked("main").await, statuses);
    assert_eq!(asked("other").await.len(), 2);
    assert_eq!(client.list("calls?provider_id=q&operation=availability").await.len(), 0);
    assert_eq!(client.list("calls").await.len(), 9);
}

#[tokio::test]
async fn a_question_that_says_too_little_is_refused() {
    let client = Client::start().await;
    for query in [
        "",
        "?location_id=main",
        "?location_id=main&from=2026-12-01T00:00:00Z",
        "?location_id=main&from=2026-12-01&to=2026-12-02",
        "?location_id=&from=2026-12-01T00:00:00Z&to=2026-12-02T00:00:00Z",
        "?location_id=main&from=2026-12-01T00:00:00Z&to=2027-03-02T00:00:00Z",
    ] {
        let request = client.http.get(client.url(&format!("/providers/p/availability{query}")));
        let (status, body) = answer(request).await;
        assert_eq!((status, &body["code"]), (400, &json!("invalid_request")), "{query}");
    }
}

#[tokio::test]
async fn a_wrong_signature_is_refused_and_none_is_taken() {
    let client = Client::start().await;
    client.configure("p", json!({"signing_secret": SECRET})).await;
    assert_eq!(client.ask("main", DAY).await.0, 200);
    let request = client.http.get(client.url(&format!("/providers/p/availability?location_id=main&{DAY}")));
    let forged = request
        .header("webhook-id", "msg_1")
        .header("webhook-timestamp", crate::clock::now().as_second())
        .header("webhook-signature", "v1,AAAA");
    assert_eq!(answer(forged).await.1["code"], "invalid_signature");
}
