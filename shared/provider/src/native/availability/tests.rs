use holdfast_app::ports::AvailabilityFailure;
use holdfast_app::settings::ProviderAuth;
use holdfast_domain::{AttemptError, Price};
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::test_util::{Received, SECRET, at, json_answer, location, open_slots, serve};

/// What is open in Rome on 2027-01-15 by this answer.
async fn asked(status: u16, body: Value) -> Result<Vec<OpenSlot>, AvailabilityFailure> {
    let (provider, received) = serve(move |_: &Received| json_answer(status, &body)).await;
    let slots = open_slots(&provider, &location(&[]), "2027-01-15", 1).await;
    assert_eq!(received.lock().unwrap().len(), 1, "nothing is repeated");
    slots
}

fn slot(start: &str, end: &str) -> Value {
    json!({"start": start, "end": end})
}

#[tokio::test]
async fn the_question_names_location_and_window_and_is_signed() {
    let (mut provider, received) = serve(|_: &Received| json_answer(200, &json!({"slots": []}))).await;
    provider.signing_secret = Some(SecretString::from(SECRET.to_owned()));
    provider.auth = ProviderAuth::Bearer { token: SecretString::from("t".to_owned()) };
    assert_eq!(open_slots(&provider, &location(&[]), "2027-01-15", 22).await, Ok(Vec::new()));

    let calls = received.lock().unwrap();
    let [call] = calls.as_slice() else { panic!("one call was made") };
    assert_eq!(call.line(), "GET /availability");
    let query = "location_id=main-street&from=2027-01-14T23:00:00Z&to=2027-02-05T23:00:00Z";
    assert_eq!(call.query.as_deref(), Some(query));
    assert_eq!(call.headers["authorization"], "Bearer t");
    assert!(call.headers["webhook-id"].to_str().unwrap().starts_with("availability:main-street:"));
    standardwebhooks::Webhook::new(SECRET).unwrap().verify(&call.body, &call.headers).unwrap();
    assert!(call.body.is_empty() && !call.headers.contains_key("idempotency-key"));
}

#[tokio::test]
async fn every_name_of_a_location_arrives_as_it_is() {
    let (provider, received) = serve(|_: &Received| json_answer(200, &json!({"slots": []}))).await;
    let name = "a-b._~:@9";
    let mut location = location(&[]);
    location.location_id = holdfast_domain::LocationId::parse(name).unwrap();
    open_slots(&provider, &location, "2027-01-15", 1).await.unwrap();
    let calls = received.lock().unwrap();
    let url = format!("http://x/?{}", calls[0].query.as_deref().unwrap());
    let url = url::Url::parse(&url).unwrap();
    let pairs: Vec<_> = url.query_pairs().into_owned().collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let times = [pair("from", "2027-01-14T23:00:00Z"), pair("to", "2027-01-15T23:00:00Z")];
    assert_eq!(pairs, [vec![pair("location_id", name)], times.to_vec()].concat());
}

#[tokio::test]
async fn what_is_open_is_read_in_its_order() {
    let body = json!({"title": "Main Street", "slots": [
        slot("2027-01-15T12:00:00+01:00", "2027-01-15T11:30:00Z"),
        {
            "start": "2027-01-15T09:00:00Z", "end": "2027-01-15T09:30:00Z", "resource_id": "dr-a",
            "service_id": "checkup", "capacity": null, "price": {"amount_minor": 4500, "currency": "EUR"},
            "colour": "green",
        },
        {"start": "2027-01-15T10:00:00Z", "end": "2027-01-15T10:30:00Z", "capacity": 0},
        // A provider may think in days of its own.
        slot("2027-01-14T22:30:00Z", "2027-01-14T23:30:00Z"),
        slot("2027-01-15T23:00:00Z", "2027-01-15T23:30:00Z"),
    ]});
    let slots = asked(200, body).await.unwrap();
    let [first, second] = slots.as_slice() else { panic!("{slots:?}") };
    assert_eq!((first.start, first.end), (at("2027-01-15T09:00:00Z"), at("2027-01-15T09:30:00Z")));
    assert_eq!((first.resource_id.as_deref(), first.service_id.as_deref()), (Some("dr-a"), Some("checkup")));
    assert_eq!(first.price, Some(Price { amount_minor: 4_500, currency: "EUR".into() }));
    assert_eq!((first.capacity, second.capacity), (None, Some(1)));
    assert_eq!((second.start, &second.resource_id), (at("2027-01-15T11:00:00Z"), &None));
}

#[tokio::test]
async fn a_part_that_cannot_be_used_spoils_the_whole() {
    let good = slot("2027-01-15T09:00:00Z", "2027-01-15T09:30:00Z");
    for bad in [
        slot("2027-01-15T09:00:00Z", "2027-01-15T09:00:00Z"),
        slot("2027-01-15T09:00:00", "2027-01-15T09:30:00Z"),
        slot("2027-05-15T10:00:00Z", "2027-05-15T09:00:00Z"),
        json!({"start": "2027-01-15T09:00:00Z"}),
        json!(null),
    ] {
        let body = json!({"slots": [good.clone(), bad.clone()]});
        let failure = AvailabilityFailure { error: AttemptError::UnusableAnswer, retry_after_ms: None };
        assert_eq!(asked(200, body).await, Err(failure), "{bad}");
    }
}

proptest! {
    #[test]
    fn reading_is_total(body in prop::collection::vec(any::<u8>(), 0..200), cut in 0..120_usize) {
        let window = Window { from: at("2027-01-15T00:00:00Z"), to: at("2027-01-16T00:00:00Z") };
        let whole = br#"{"slots":[{"start":"2027-01-15T09:00:00Z","end":"2027-01-15T09:30:00Z","capacity":2}]}"#;
        prop_assert!(read(&body, window).is_err());
        let spoilt = [&whole[..cut.min(whole.len() - 1)], body.as_slice()].concat();
        if let Ok(slots) = read(&spoilt, window) {
            prop_assert!(slots.len() <= 1);
        }
        prop_assert_eq!(read(whole, window).map(|slots| slots.len()), Ok(1));
    }
}
