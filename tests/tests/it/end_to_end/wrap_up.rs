//! What a run leaves behind in the queues that are there for what failed.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use holdfast_local::stack_file::StackFile;
use serde_json::{Value, json};

use super::stack::{clients, rough_if_started};
use super::world::{World, until};
use super::{permissions, told};

/// Queues that nothing may be left in. A booking's own dead letters are asked for by the tests that make them.
const EMPTY_AT_THE_END: [&str; 7] = [
    "RefreshDeadLetterQueueUrl",
    "TimerDeadLetterQueueUrl",
    "EventDeadLetterQueueUrl",
    "RuleDeadLetterQueueUrl",
    "DeliveryDeadLetterQueueUrl",
    "ParkedRecordQueueUrl",
    "StreamFailureQueueUrl",
];
/// The longest that the other tests take.
const OTHERS_LIMIT: Duration = Duration::from_mins(25);
const POLL: Duration = Duration::from_millis(500);

/// The client of the emulator's queues.
pub(super) fn client(stack: &StackFile) -> Client {
    clients(stack).sqs()
}

/// Waits for a dead letter about a booking. Others' stay where they are.
pub(super) async fn dead_letters_about(world: &World, booking_id: &str, limit: Duration) {
    let (sqs, url) = (client(world.stack), &world.stack.resources["BookingDeadLetterQueueUrl"]);
    until(limit, POLL, "there is a dead letter about the booking", async || {
        let received =
            sqs.receive_message().queue_url(url).max_number_of_messages(10).visibility_timeout(0).send();
        let bodies: Vec<String> =
            received.await.unwrap().messages().iter().filter_map(|message| message.body.clone()).collect();
        assert!(bodies.iter().all(|body| !body.contains("Lovelace")), "{bodies:?}");
        if bodies.iter().any(|body| body.contains(booking_id)) { Ok(()) } else { Err(json!(bodies)) }
    })
    .await;
}

/// Its name sorts last, so that the others have begun; it waits for their end.
#[tokio::test]
async fn when_all_is_over_nothing_has_been_given_up() {
    let world = World::new();
    world.stand_back();
    until(OTHERS_LIMIT, POLL, "the other tests are over", async || match World::count() {
        1 => Ok(()),
        others => Err(json!(others)),
    })
    .await;
    told::every_line_is_structured();
    permissions::what_functions_did_is_what_they_may();
    nothing_was_given_up(world.stack).await;
    if let Some(rough) = rough_if_started() {
        nothing_was_given_up(rough).await;
    }
}

async fn nothing_was_given_up(stack: &StackFile) {
    let sqs = client(stack);
    for name in EMPTY_AT_THE_END {
        let url = &stack.resources[name];
        let asked = sqs
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
            .send();
        let attributes = asked.await.unwrap();
        let count =
            attributes.attributes().and_then(|all| all.get(&QueueAttributeName::ApproximateNumberOfMessages));
        let left = sqs.receive_message().queue_url(url).max_number_of_messages(10).send().await.unwrap();
        let left: Vec<Value> =
            left.messages().iter().filter_map(|message| message.body.clone().map(Value::from)).collect();
        assert_eq!((count.map(String::as_str), left.len()), (Some("0"), 0), "{name}: {left:?}");
    }
}
