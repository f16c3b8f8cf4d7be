//! The event feed.

use holdfast_app::ports::{Clock, EventFeed, NewEntry};
use holdfast_domain::{EventId, Tenant};
use serde_json::json;

use crate::harness::{Answer, Harness};

const PATH: &str = "/v1/events";

/// The body of an event, in a form that no serialiser of ours would write.
fn body(number: u32) -> String {
    format!(r#"{{ "id":"{}",  "n": {number}.00, "text": "\u00e9 é" }}"#, id(number))
}

fn id(number: u32) -> EventId {
    EventId::derived("bkg", number, "booking.created")
}

async fn append(harness: &Harness, tenant: &str, number: u32) {
    let event =
        NewEntry { event_id: id(number), event_type: "booking.created".to_owned(), body: body(number) };
    let tenant = Tenant::parse(tenant).unwrap();
    harness.feed.append(&tenant, &[event], harness.clock.now()).await.unwrap();
}

fn cursor(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["next_cursor"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn events_are_shown_as_they_are_and_the_cursor_goes_on() {
    let harness = Harness::new();
    let key = harness.consumer_key("shop", "live").await;
    let get = async |query: &str| harness.call("GET", &format!("{PATH}{query}"), Some(&key), None).await;
    let latest = cursor(&get("?after=latest").await);
    for number in 1..=3 {
        append(&harness, "live:shop", number).await;
    }
    let first = get("?limit=2").await;
    assert!(first.text.contains(&format!("{},{}", body(1), body(2))), "{}", first.text);
    assert_eq!((&first.body["has_more"], first.body["data"].as_array().unwrap().len()), (&json!(true), 2));
    assert_eq!(first.headers["content-type"], "application/json");
    assert_eq!(first.headers["cache-control"], "no-store");
    let second = get(&format!("?after={}", cursor(&first))).await;
    assert_eq!(second.body["data"].as_array().unwrap().len(), 1);
    assert_eq!(second.body["has_more"], json!(false));
    let none = get(&format!("?after={}&type=booking.created", cursor(&second))).await;
    assert_eq!((&none.body["data"], cursor(&none)), (&json!([]), cursor(&second)));
    assert_eq!(get(&format!("?after={latest}")).await.body["data"].as_array().unwrap().len(), 3);
    assert_eq!(get("?type=booking.confirmed").await.body["data"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn feeds_of_other_tenants_are_not_shown() {
    let harness = Harness::new();
    append(&harness, "live:shop", 1).await;
    let live = harness.consumer_key("shop", "live").await;
    let seen = harness.call("GET", PATH, Some(&live), None).await;
    assert_eq!(seen.body["data"].as_array().unwrap().len(), 1);
    for other in [harness.consumer_key("shop", "test").await, harness.consumer_key("rival", "live").await] {
        assert_eq!(harness.call("GET", PATH, Some(&other), None).await.body["data"], json!([]));
        let stolen = format!("{PATH}?after={}", cursor(&seen));
        let answer = harness.call("GET", &stolen, Some(&other), None).await;
        assert_eq!((answer.status, answer.pointers()), (400, vec!["after"]));
    }
    assert_eq!(harness.admin("GET", PATH, None).await.status, 403);
    assert_eq!(harness.call("GET", PATH, None, None).await.status, 401);
    assert_eq!(harness.call("POST", PATH, Some(&live), None).await.status, 405);
}

#[tokio::test(start_paused = true)]
async fn what_is_at_fault_is_named() {
    let harness = Harness::new();
    let key = harness.consumer_key("shop", "live").await;
    let query = "?after=altered&limit=0&type=booking.imagined";
    let answer = harness.call("GET", &format!("{PATH}{query}"), Some(&key), None).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_parameter"));
    assert_eq!(answer.pointers(), ["after", "limit", "type"]);
    let unknown = harness.call("GET", &format!("{PATH}?cursor=x"), Some(&key), None).await;
    assert_eq!((unknown.status, unknown.pointers()), (400, vec!["cursor"]));
}
