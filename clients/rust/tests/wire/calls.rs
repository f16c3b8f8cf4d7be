//! Calls over connections that go wrong.

use std::time::Duration;

use holdfast_client::{
    ApiKey, BookingId, CancelBooking, Client, CreateBooking, Customer, EndpointId, Error, IdempotencyKey,
    NewWebhookEndpoint, ProblemCode, RetryPolicy, SlotRequest,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::net::TcpListener;

use crate::desk::{Desk, Turn};

/// How many scripts are tried. Each takes as long as its attempts hang.
const SCRIPTS: u32 = 40;

/// Attempts that are cut off soon, so that what hangs costs little.
fn impatient() -> RetryPolicy {
    RetryPolicy {
        attempt_limit: Duration::from_millis(250),
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(4),
        give_up_after: Duration::from_mins(2),
    }
}

/// Attempts that are not cut off, however busy the machine is.
fn patient() -> RetryPolicy {
    RetryPolicy { attempt_limit: Duration::from_mins(1), ..impatient() }
}

fn client(url: &str, policy: RetryPolicy) -> Client {
    Client::new(url, &ApiKey::new("hf_test_consumer_k1_secret").unwrap()).unwrap().with_retry(policy)
}

fn wish() -> CreateBooking {
    let time = |text: &str| text.parse().unwrap();
    let slot = SlotRequest::new("main-street", time("2028-03-01T09:00:00Z"), time("2028-03-01T09:30:00Z"));
    let mut wish = CreateBooking::new("demo-clinic", slot, Customer::new("Ada Lovelace"));
    wish.metadata =
        [("b", "2"), ("a", "1"), ("c", "3")].map(|(key, value)| (key.into(), value.into())).into();
    wish
}

fn turn() -> impl Strategy<Value = Turn> {
    prop::sample::select(vec![
        Turn::ResetUnread,
        Turn::ResetBefore,
        Turn::ResetAfter,
        Turn::CutShort,
        Turn::HangBefore,
        Turn::HangAfter,
        Turn::Garbage,
        Turn::Busy,
        Turn::TooMany,
        Turn::FailedAfter,
        Turn::InFlight,
        Turn::GatewayAfter,
    ])
}

async fn books_once(script: &[Turn]) {
    let desk = Desk::open(script).await;
    let key = IdempotencyKey::new("order-1001").unwrap();
    let booking = client(&desk.url, impatient()).create_booking(&key, &wish()).await.unwrap();
    assert_eq!((booking.id.as_str(), desk.made()), ("bkg_1", 1), "{script:?}");
    let seen = desk.seen();
    let read = script.iter().filter(|turn| **turn != Turn::ResetUnread).count();
    assert!(seen.len() > read, "{script:?}");
    assert!(seen.iter().all(|one| *one == seen[0]), "what is sent is always the same: {seen:#?}");
    assert_eq!(seen[0].line, "POST /v1/bookings HTTP/1.1");
    assert_eq!(seen[0].headers["idempotency-key"], "\"order-1001\"");
    assert_eq!(seen[0].headers["authorization"], "Bearer hf_test_consumer_k1_secret");
    assert_eq!(seen[0].body, serde_json::to_vec(&wish()).unwrap());
}

#[test]
fn whatever_goes_wrong_one_booking_is_made_by_one_key_and_the_same_bytes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner =
        TestRunner::new(ProptestConfig { cases: SCRIPTS, failure_persistence: None, ..Default::default() });
    let scripts = prop::collection::vec(turn(), 0..6);
    runner
        .run(&scripts, |script| {
            runtime.block_on(books_once(&script));
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn everything_that_can_go_wrong_does() {
    let all = [
        Turn::ResetUnread,
        Turn::HangBefore,
        Turn::ResetBefore,
        Turn::Busy,
        Turn::GatewayAfter,
        Turn::InFlight,
        Turn::HangAfter,
        Turn::ResetAfter,
        Turn::CutShort,
        Turn::TooMany,
        Turn::Garbage,
        Turn::FailedAfter,
    ];
    books_once(&all).await;
}

#[tokio::test]
async fn a_provider_that_was_silent_is_not_asked_again() {
    let desk = Desk::open(&[Turn::ProviderTimeout]).await;
    let key = IdempotencyKey::new("order-1001").unwrap();
    let error = client(&desk.url, patient()).create_booking(&key, &wish()).await.unwrap_err();
    assert_eq!((error.code(), desk.seen().len()), (Some(&ProblemCode::ProviderTimeout), 1));
}

#[tokio::test]
async fn a_change_is_made_under_its_own_key() {
    let desk = Desk::open(&[Turn::ResetAfter, Turn::FailedAfter]).await;
    let (id, key) = (BookingId::new("bkg_1").unwrap(), IdempotencyKey::new("cancel-1001").unwrap());
    let cancelled =
        client(&desk.url, patient()).cancel_booking(&id, &key, &CancelBooking::default()).await.unwrap();
    assert!(cancelled.replayed && desk.made() == 1);
    let seen = desk.seen();
    assert_eq!((seen.len(), seen[0].line.as_str()), (3, "POST /v1/bookings/bkg_1/cancel HTTP/1.1"));
    assert!(seen.iter().all(|one| *one == seen[0] && one.headers["idempotency-key"] == "\"cancel-1001\""));
}

#[tokio::test]
async fn what_has_no_key_is_sent_once_if_its_answer_is_lost() {
    for lost in [Turn::ResetAfter, Turn::CutShort, Turn::Garbage, Turn::GatewayAfter, Turn::FailedAfter] {
        let desk = Desk::open(&[lost]).await;
        let endpoint = NewWebhookEndpoint::new("https://shop.example.com");
        let error = client(&desk.url, patient()).create_webhook_endpoint(&endpoint).await.unwrap_err();
        assert!(error.may_have_acted() && desk.seen().len() == 1 && desk.made() == 1, "{lost:?}: {error:?}");
    }
}

#[tokio::test]
async fn what_is_gone_after_a_lost_answer_is_removed() {
    let id = EndpointId::new("whe_1").unwrap();
    let desk = Desk::open(&[Turn::ResetAfter, Turn::NotFound]).await;
    client(&desk.url, patient()).delete_webhook_endpoint(&id).await.unwrap();
    let desk = Desk::open(&[Turn::NotFound]).await;
    let error = client(&desk.url, patient()).delete_webhook_endpoint(&id).await.unwrap_err();
    assert_eq!(error.code(), Some(&ProblemCode::NotFound));
    // A booking that is not there is an error, whatever was lost before.
    let desk = Desk::open(&[Turn::ResetBefore, Turn::NotFound]).await;
    let booking = BookingId::new("bkg_1").unwrap();
    let error = client(&desk.url, patient()).erase_customer(&booking).await.unwrap_err();
    assert_eq!(error.code(), Some(&ProblemCode::NotFound));
}

#[tokio::test]
async fn who_cannot_be_reached_was_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    // The first pause outlasts the call, so that there is one attempt, which is refused at once.
    let policy = RetryPolicy { first_pause: Duration::from_hours(1), ..patient() };
    let key = IdempotencyKey::new("order-1001").unwrap();
    let error = client(&url, policy.clone()).create_booking(&key, &wish()).await.unwrap_err();
    assert!(matches!(error, Error::GaveUp { attempts: 1, .. }) && !error.may_have_acted(), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("secret"));
    let endpoint = NewWebhookEndpoint::new("https://shop.example.com");
    let error = client(&url, policy).create_webhook_endpoint(&endpoint).await.unwrap_err();
    assert!(matches!(error, Error::GaveUp { attempts: 1, .. }) && !error.may_have_acted(), "{error:?}");
}
