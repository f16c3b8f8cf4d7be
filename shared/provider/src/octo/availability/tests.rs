use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_app::ports::AvailabilityGateway;
use holdfast_app::settings::{Protocol, ProviderSettings};
use holdfast_domain::LocalDate;
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::json;

use super::*;
use crate::test_util::{
    BRIEF_MS, Received, SECRET, at, gateway, json_answer, location, open_slots, provider, serve,
};

const DAY: &str = "2027-01-15";

fn over_octo(provider: ProviderSettings) -> ProviderSettings {
    ProviderSettings { protocol: Protocol::Octo, ..provider }
}

/// What is open of the tour in Rome on 2027-01-15 by this answer.
async fn asked(status: u16, body: Value) -> Result<Vec<OpenSlot>, AvailabilityFailure> {
    let (provider, _received) = serve(move |_: &Received| json_answer(status, &body)).await;
    open_slots(&over_octo(provider), &location(&[("tour", None)]), DAY, 1).await
}

/// An availability at a time of that day, in the words of the specification.
fn offer(id: &str, start: &str) -> Value {
    json!({
        "id": id, "localDateTimeStart": format!("2027-01-15T{start}:00+01:00"),
        "localDateTimeEnd": "2027-01-15T23:00:00+01:00", "allDay": false, "available": true,
        "status": "AVAILABLE", "vacancies": 10, "capacity": 20, "maxUnits": null,
        "utcCutoffAt": "2999-01-01T00:00:00Z", "openingHours": [],
    })
}

fn but(mut offer: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        offer[name] = value.clone();
    }
    offer
}

#[tokio::test]
async fn each_service_is_asked_for_by_the_days_of_its_place() {
    let (provider, received) = serve(|call: &Received| {
        let body = call.json();
        let id = format!("{}/{}", body["productId"].as_str().unwrap(), body["optionId"].as_str().unwrap());
        json_answer(200, &json!([offer(&id, "10:00")]))
    })
    .await;
    let signing_secret = Some(SecretString::from(SECRET.to_owned()));
    let provider = ProviderSettings { signing_secret, ..over_octo(provider) };
    let services = [("tour", None), ("boat", Some("large")), ("boat", Some("small")), ("tour", None)];
    let slots = open_slots(&provider, &location(&services), DAY, 22).await.unwrap();
    let named = |slot: &OpenSlot| {
        let text = |name: &Option<Arc<str>>| name.as_deref().map(str::to_owned);
        (text(&slot.service_id), text(&slot.resource_id), text(&slot.availability_id))
    };
    let own = |service: &str, resource: Option<&str>, id: &str| {
        (Some(service.to_owned()), resource.map(str::to_owned), Some(id.to_owned()))
    };
    let named: Vec<_> = slots.iter().map(named).collect();
    assert_eq!(
        named,
        [
            own("boat", Some("large"), "boat/large"),
            own("boat", Some("small"), "boat/small"),
            own("tour", None, "tour/DEFAULT"),
        ]
    );

    let calls = received.lock().unwrap();
    assert_eq!(calls.len(), 3, "nothing is asked twice");
    let ids: BTreeSet<_> = calls.iter().map(|call| call.headers["webhook-id"].to_str().unwrap()).collect();
    assert_eq!(ids.len(), 3, "each has a signature of its own");
    for call in calls.iter() {
        standardwebhooks::Webhook::new(SECRET).unwrap().verify(&call.body, &call.headers).unwrap();
    }
    let call = &calls[0];
    assert_eq!(
        (call.line().as_str(), &call.headers["octo-env"]),
        ("POST /availability", &"test".parse().unwrap())
    );
    assert_eq!(call.headers["octo-capabilities"], "");
    let days = json!({
        "productId": "tour", "optionId": "DEFAULT", "localDateStart": "2027-01-15",
        "localDateEnd": "2027-02-05",
    });
    assert_eq!(call.json(), days);
}

#[test]
fn the_days_are_those_that_the_window_touches() {
    let service = OfferedService { service_id: "tour".to_owned(), resource_id: None };
    let touched = |zone: &Zone, window| {
        let question = Question::new(&service, window, zone);
        (question.local_date_start, question.local_date_end)
    };
    let zone = |name: &str| Zone::parse(name).unwrap();
    let days = |name: &str, first: &str, days: u32| {
        let zone = zone(name);
        touched(&zone, zone.days(LocalDate::parse(first).unwrap(), days))
    };
    let expected = |first: &str, last: &str| (first.to_owned(), last.to_owned());
    // 23 and 25 hours, and a day that has no midnight.
    assert_eq!(days("Europe/Rome", "2027-03-28", 1), expected("2027-03-28", "2027-03-28"));
    assert_eq!(days("Europe/Rome", "2027-10-31", 1), expected("2027-10-31", "2027-10-31"));
    assert_eq!(days("Africa/Cairo", "2024-04-25", 2), expected("2024-04-25", "2024-04-26"));
    assert_eq!(days("America/St_Johns", "2027-03-10", 22), expected("2027-03-10", "2027-03-31"));
    assert_eq!(days("Pacific/Kiritimati", "2026-12-31", 22), expected("2026-12-31", "2027-01-21"));

    let rome = zone("Europe/Rome");
    let window = |from: &str, to: &str| Window { from: at(from), to: at(to) };
    let straddling = window("2027-03-27T22:59:59Z", "2027-03-28T22:00:00.001Z");
    assert_eq!(touched(&rome, straddling), expected("2027-03-27", "2027-03-29"));
    let empty = window("2027-03-27T23:00:00Z", "2027-03-27T23:00:00Z");
    assert_eq!(touched(&rome, empty), expected("2027-03-28", "2027-03-28"));
}

#[tokio::test]
async fn vacancies_and_status_say_how_much_is_open() {
    let slots = asked(
        200,
        json!([
            but(offer("ten", "09:00"), &json!({})),
            but(offer("few", "09:30"), &json!({"status": "LIMITED", "vacancies": 1, "utcCutoffAt": null})),
            but(offer("free", "10:00"), &json!({"status": "FREESALE", "vacancies": 7})),
            but(offer("untold", "10:30"), &json!({"vacancies": null})),
            but(offer("endless", "11:00"), &json!({"vacancies": 5_000_000_000_i64})),
            but(offer("none", "11:30"), &json!({"vacancies": 0})),
            but(offer("oversold", "12:00"), &json!({"vacancies": -2})),
            but(offer("sold", "12:30"), &json!({"status": "SOLD_OUT"})),
            but(offer("closed", "13:00"), &json!({"status": "CLOSED"})),
            but(offer("late", "13:30"), &json!({"utcCutoffAt": "2020-01-01T00:00:00Z"})),
            but(offer("taken", "14:00"), &json!({"available": false, "status": "FREESALE"})),
            {"available": false},
        ]),
    )
    .await
    .unwrap();
    let read: Vec<_> =
        slots.iter().map(|slot| (slot.availability_id.as_deref().unwrap(), slot.capacity)).collect();
    let expected =
        [("ten", Some(10)), ("few", Some(1)), ("free", None), ("untold", None), ("endless", Some(u32::MAX))];
    assert_eq!(read, expected);
    assert_eq!((slots[0].start, slots[0].end), (at("2027-01-15T08:00:00Z"), at("2027-01-15T22:00:00Z")));
    assert!(slots.iter().all(|slot| slot.price.is_none() && slot.resource_id.is_none()));
}

#[tokio::test]
async fn other_days_and_other_offsets_are_told_apart_by_the_moment() {
    let at = |id: &str, start: &str, end: &str| {
        but(offer(id, "00:00"), &json!({"localDateTimeStart": start, "localDateTimeEnd": end}))
    };
    let body = json!([
        at("eve", "2027-01-14T23:59:59+01:00", "2027-01-15T01:00:00+01:00"),
        at("far", "2027-01-14T18:00:00-05:00", "2027-01-14T19:00:00-05:00"),
        at("day", "2027-01-15T00:00:00+01:00", "2027-01-16T00:00:00+01:00"),
        at("last", "2027-01-15T23:30:00+01:00", "2027-01-16T00:30:00+01:00"),
        at("after", "2027-01-16T00:00:00+01:00", "2027-01-16T01:00:00+01:00"),
    ]);
    let slots = asked(200, body).await.unwrap();
    let ids: Vec<_> = slots.iter().map(|slot| slot.availability_id.as_deref().unwrap()).collect();
    assert_eq!(ids, ["far", "day", "last"]);
}

#[test]
fn what_cannot_be_used_is_named_in_the_words_of_the_supplier() {
    let service = OfferedService { service_id: "tour".to_owned(), resource_id: None };
    let window = Window { from: at("2027-01-15T00:00:00Z"), to: at("2027-01-16T00:00:00Z") };
    let fault = |changes: Value| {
        let list = json!([offer("good", "09:00"), but(offer("ada@example.com", "10:00"), &changes)]);
        let error = open(&list, &service, window, at("2027-01-01T00:00:00Z")).unwrap_err();
        assert!(!error.detail.contains("ada@"), "{error:?}");
        error.pointer
    };
    let ada = "ada@example.com";
    assert_eq!(fault(json!({"localDateTimeStart": ada})), "/1/localDateTimeStart");
    assert_eq!(fault(json!({"localDateTimeStart": "2027-01-15T10:00:00"})), "/1/localDateTimeStart");
    assert_eq!(fault(json!({"localDateTimeStart": null})), "/1/localDateTimeStart");
    assert_eq!(fault(json!({"localDateTimeEnd": "2027-01-15T10:00:00+01:00"})), "/1/localDateTimeEnd");
    assert_eq!(fault(json!({"localDateTimeEnd": null})), "/1/localDateTimeEnd");
    assert_eq!(fault(json!({"id": ""})), "/1/id");
    assert_eq!(fault(json!({"id": null})), "/1/id");
    assert_eq!(fault(json!({"id": 7})), "/1/id");
    assert_eq!(fault(json!({"utcCutoffAt": ada})), "/1/utcCutoffAt");
    assert_eq!(fault(json!({"vacancies": ada})), "/1/vacancies");
    assert_eq!(fault(json!({"available": ada})), "/1/available");
    assert_eq!(fault(json!({"localDateTimeStart": "2027-01-15T09:00:00+01:00"})), "/1");
    let too_many = json!(vec![json!({"available": false}); MAX_SLOTS + 1]);
    let error = open(&too_many, &service, window, at("2027-01-01T00:00:00Z")).unwrap_err();
    assert_eq!(error.detail, "has 20001 entries; at most 20000 are allowed");
}

#[tokio::test]
async fn one_service_that_does_not_answer_fails_all() {
    let busy = |call: &Received| {
        if call.json()["productId"] == "boat" {
            let status = axum::http::StatusCode::TOO_MANY_REQUESTS;
            return axum::response::IntoResponse::into_response((status, [("retry-after", "7")], ""));
        }
        json_answer(200, &json!([offer("a", "10:00")]))
    };
    let (provider, received) = serve(busy).await;
    let services = location(&[("tour", None), ("boat", None), ("bus", None)]);
    let failure = open_slots(&over_octo(provider), &services, DAY, 1).await.unwrap_err();
    let expected = AvailabilityFailure { error: AttemptError::HttpStatus(429), retry_after_ms: Some(7_000) };
    assert_eq!(failure, expected);
    assert_eq!(received.lock().unwrap().len(), 2, "the rest is not asked for any more");
}

#[tokio::test]
async fn all_services_share_one_limit() {
    const PAUSE_MS: u64 = BRIEF_MS * 2 / 5;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let supplier = axum::Router::new().fallback(async move || {
        counted.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(std::time::Duration::from_millis(PAUSE_MS)).await;
        json_answer(200, &json!([]))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = over_octo(provider(format!("http://{}", listener.local_addr().unwrap())));
    tokio::spawn(async move { axum::serve(listener, supplier).await });

    let services = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| (name, None));
    let location = location(&services);
    let window = location.zone.days(LocalDate::parse(DAY).unwrap(), 1);
    let call = AvailabilityCall { provider: &provider, location: &location, window, limit_ms: BRIEF_MS };
    let failure = gateway("127.0.0.1").open_slots(call).await.unwrap_err();
    assert_eq!(failure, AvailabilityFailure { error: AttemptError::TimedOut, retry_after_ms: None });
    assert!(asked.load(Ordering::Relaxed) <= 3, "there is no time for more");
}

#[tokio::test]
async fn a_refusal_is_a_failure() {
    let no = |code: &str| json!({"error": code, "errorMessage": "No."});
    for (status, body, error) in [
        (400, no("INVALID_PRODUCT_ID"), AttemptError::HttpStatus(400)),
        (400, no("UNAUTHORIZED"), AttemptError::Misconfigured(400)),
        (202, json!([]), AttemptError::UnusableAnswer),
        (200, json!({}), AttemptError::UnusableAnswer),
    ] {
        let failure = AvailabilityFailure { error, retry_after_ms: None };
        assert_eq!(asked(status, body.clone()).await, Err(failure), "{status} {body}");
    }
}

#[tokio::test]
async fn more_slots_than_may_be_are_refused_over_all_services() {
    // Short, since an answer has a limit of its own.
    let many = |_: &Received| {
        let one = |minute: usize| {
            let day = 1 + minute / 1_440 % 28;
            let (month, hour, minute) = (1 + minute / 40_320, minute / 60 % 24, minute % 60);
            let start = format!("2027-{month:02}-{day:02}T{hour:02}:{minute:02}:00Z");
            json!({"available": true, "id": "a", "localDateTimeStart": start,
                "localDateTimeEnd": "2027-12-31T00:00:00Z"})
        };
        json_answer(200, &Value::Array((0..8_000).map(one).collect()))
    };
    let (provider, _received) = serve(many).await;
    let provider = over_octo(provider);
    let two = location(&[("a", None), ("b", None)]);
    assert_eq!(open_slots(&provider, &two, "2026-12-31", 60).await.unwrap().len(), 16_000);
    let three = location(&[("a", None), ("b", None), ("c", None)]);
    let failure = AvailabilityFailure { error: AttemptError::UnusableAnswer, retry_after_ms: None };
    assert_eq!(open_slots(&provider, &three, "2026-12-31", 60).await, Err(failure));
}

proptest! {
    #[test]
    fn reading_is_total(
        members in prop::collection::vec((
            prop::sample::select(vec![
                "id", "localDateTimeStart", "localDateTimeEnd", "available", "status", "vacancies", "utcCutoffAt",
            ]),
            prop_oneof![
                Just(json!(null)), any::<bool>().prop_map(|flag| json!(flag)),
                any::<i64>().prop_map(|number| json!(number)), "\\PC{0,12}".prop_map(|text| json!(text)),
                Just(json!("2027-01-15T09:00:00+14:00")), Just(json!("FREESALE")),
            ],
        ), 0..4),
    ) {
        let service = OfferedService { service_id: "tour".to_owned(), resource_id: None };
        let window = Window { from: at("2027-01-14T00:00:00Z"), to: at("2027-01-16T00:00:00Z") };
        let mut one = offer("a", "10:00");
        for (name, value) in members {
            one[name] = value;
        }
        if let Ok(slots) = open(&json!([one]), &service, window, at("2027-01-01T00:00:00Z")) {
            prop_assert!(slots.iter().all(|slot| window.has(slot.start) && slot.end > slot.start));
            prop_assert!(slots.iter().all(|slot| slot.capacity != Some(0)));
        }
    }
}
