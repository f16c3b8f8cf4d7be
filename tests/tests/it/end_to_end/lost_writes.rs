//! The database, the queues and the bus, as the functions see them over a bad connection: answers that are lost after
//! the work was done, requests that never arrive, and answers that are no answers, call by call.
//!
//! The emulator keeps its tables in memory alone, so that one which was killed and started again would know nothing
//! of what it had acknowledged, which DynamoDB never does. What a function sees of a table that dies and comes back
//! is what is done here to its connections; what a lost acknowledgement does to each call of each port, and to
//! a table that is killed and comes back from its file, is in `contract`.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::cases::Case;
use super::killed::calm;
use super::reply::Reply;
use super::sockets::{Ending, Fault};
use super::stack::rough;
use super::world::{Provider, SETTLED, World};

/// As many as the SDK makes of one call.
const ALL_ATTEMPTS: usize = 3;
/// A pause between two bytes with which no answer is complete within an attempt's limit of a second.
const SLOWLY: Duration = Duration::from_millis(20);

/// What a call meets, and how often.
fn faults() -> Vec<(Fault, usize)> {
    let gateway =
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>";
    let lies =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 9\r\n\r\n{\"Attribu";
    vec![
        (Fault::served(Ending::Reset), ALL_ATTEMPTS),
        (Fault::swallowed(Ending::Reset), 1),
        (Fault::swallowed(Ending::Hang), ALL_ATTEMPTS),
        (Fault::served(Ending::Hang), 1),
        (Fault::served(Ending::CloseMidBody), 1),
        (Fault::served(Ending::Drip(SLOWLY)), ALL_ATTEMPTS),
        (Fault::served(Ending::Bytes(gateway.to_vec())), 1),
        (Fault::served(Ending::Bytes(lies.to_vec())), ALL_ATTEMPTS),
    ]
}

/// A call of the functions', as what its request contains.
fn needles(call: &str, case: &Case<'_>) -> Vec<String> {
    let (provider, id): (&Provider<'_>, String) = (&case.provider, case.booking_id());
    match call {
        // The booking's two writes.
        "PutItem" | "UpdateItem" => vec![format!("DynamoDB_20120810.{call}"), format!("BKG#{id}\"")],
        "PutEvents" => vec!["AWSEvents.PutEvents".to_owned(), format!("{}\\\"", provider.id)],
        "SendMessageBatch" => vec!["AmazonSQS.SendMessageBatch".to_owned(), id],
        other => panic!("nobody makes the call {other}"),
    }
}

/// Books with each of the faults at a call, in the request and in the background.
async fn run(call: &str) {
    let world = World::rough();
    let (_calm, consumer) = (calm().await, world.consumer().await);
    let hook = consumer.hook(json!({})).await;
    // Every other one waits for its answer.
    let cases = faults().into_iter().enumerate().map(|(number, fault)| (fault, number % 2 == 0));
    join_all(cases.map(async |((fault, count), in_background)| {
        let case = Case::of(&world, &consumer, "book", in_background).await;
        if call == "SendMessageBatch" {
            // A second attempt needs a timer.
            case.provider.next(1, "book", &json!({"status": 503})).await;
        }
        let needles = needles(call, &case);
        let needles: Vec<&str> = needles.iter().map(String::as_str).collect();
        let mut planned = rough().aws.plan(&needles, count, fault);
        let first = Reply::for_good(case.request(), SETTLED).await;
        planned.met(1, SETTLED).await;
        case.settle(&first).await;
        let calls = case.provider.calls("book").await;
        let sent_again = usize::from(call == "SendMessageBatch");
        assert!(calls.len() <= 1 + sent_again, "it was sent again: {calls:?}");
        if first.status < 300 {
            let types = ["booking.created", "booking.confirmed"];
            hook.until_types(&case.booking_id(), &types, SETTLED).await;
        }
    }))
    .await;
}

#[tokio::test]
async fn a_claim_whose_answer_does_not_come_books_once() {
    run("PutItem").await;
}

#[tokio::test]
async fn an_outcome_whose_writing_is_not_answered_is_kept_or_found_out() {
    run("UpdateItem").await;
}

#[tokio::test]
async fn events_whose_publishing_is_not_answered_are_told() {
    run("PutEvents").await;
}

#[tokio::test]
async fn timers_whose_sending_is_not_answered_are_armed() {
    run("SendMessageBatch").await;
}
