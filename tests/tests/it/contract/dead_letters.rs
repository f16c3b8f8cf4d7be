//! What the queues of dead letters promise, in memory; and how the adapter asks SQS for it.

use holdfast_app::ports::{DeadLetter, DeadLetterQueue, DeadLetters, StoreError};
use holdfast_app::test_util::MemoryDeadLetters;
use holdfast_aws::SqsDeadLetters;
use serde_json::{Value, json};

use super::canned::canned;

fn urls(kind: &str) -> Vec<(DeadLetterQueue, String)> {
    DeadLetterQueue::ALL.map(|queue| (queue, format!("http://{kind}/{}", queue.as_str()))).to_vec()
}

fn queues(client: aws_sdk_sqs::Client) -> SqsDeadLetters {
    SqsDeadLetters::new(client, urls("dead"), [(DeadLetterQueue::Timers, "http://source/timers".to_owned())])
}

fn letter() -> DeadLetter {
    DeadLetter { body: "{\"a\":1}".to_owned(), receipt: "r-1".to_owned() }
}

#[tokio::test]
async fn what_is_taken_is_nobody_elses_until_it_is_given_back() {
    let letters = MemoryDeadLetters::new();
    for number in 0..12 {
        letters.put(DeadLetterQueue::Timers, &number.to_string());
    }
    assert_eq!(letters.take(DeadLetterQueue::Timers, 100).await.unwrap().len(), 10);
    assert_eq!(letters.take(DeadLetterQueue::Timers, 100).await.unwrap().len(), 2);
    assert_eq!(letters.take(DeadLetterQueue::Timers, 100).await.unwrap(), []);
    assert_eq!(letters.take(DeadLetterQueue::Events, 100).await.unwrap(), []);
    assert_eq!(letters.count(DeadLetterQueue::Timers).await, Ok(12));
    letters.give_back();
    let first = letters.take(DeadLetterQueue::Timers, 1).await.unwrap().remove(0);
    letters.remove(DeadLetterQueue::Timers, &first).await.unwrap();
    assert_eq!(letters.count(DeadLetterQueue::Timers).await, Ok(11));
}

#[tokio::test]
async fn letters_are_asked_for_with_a_wait_so_that_all_servers_are_asked() {
    let (clients, requests) = canned(|_| {
        (200, json!({"Messages": [{"Body": "{\"a\":1}", "ReceiptHandle": "r-1", "MessageId": "m"}]}))
    });
    let taken = queues(clients.sqs()).take(DeadLetterQueue::Deliveries, 100).await.unwrap();
    assert_eq!(taken, [letter()]);
    let request = requests.lock().unwrap().pop().unwrap();
    assert_eq!(request["QueueUrl"], "http://dead/deliveries");
    let asked = (&request["MaxNumberOfMessages"], &request["WaitTimeSeconds"], &request["VisibilityTimeout"]);
    assert_eq!(asked, (&json!(10), &json!(1), &json!(60)));
}

#[tokio::test]
async fn a_letter_goes_to_where_it_failed_and_is_removed_by_its_receipt() {
    let (clients, requests) = canned(|_| (200, json!({"MessageId": "m", "MD5OfMessageBody": "x"})));
    let queues = queues(clients.sqs());
    queues.send_again(DeadLetterQueue::Timers, &letter()).await.unwrap();
    queues.remove(DeadLetterQueue::Timers, &letter()).await.unwrap();
    let requests: Vec<Value> = requests.lock().unwrap().clone();
    assert_eq!(requests[0], json!({"QueueUrl": "http://source/timers", "MessageBody": "{\"a\":1}"}));
    assert_eq!(requests[1], json!({"QueueUrl": "http://dead/timers", "ReceiptHandle": "r-1"}));
    // Nobody is asked to serve what was never a message.
    let refused = queues.send_again(DeadLetterQueue::Bookings, &letter()).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn letters_are_counted() {
    let (clients, _) = canned(|_| (200, json!({"Attributes": {"ApproximateNumberOfMessages": "17"}})));
    assert_eq!(queues(clients.sqs()).count(DeadLetterQueue::Events).await, Ok(17));
    let (clients, _) = canned(|_| (200, json!({"Attributes": {}})));
    let count = queues(clients.sqs()).count(DeadLetterQueue::Events).await;
    assert!(matches!(count, Err(StoreError::Corrupt(_))), "{count:?}");
    let (clients, _) = canned(|_| (403, json!({"__type": "AccessDenied"})));
    let count = queues(clients.sqs()).count(DeadLetterQueue::Events).await;
    assert!(matches!(count, Err(StoreError::Refused(_))), "{count:?}");
}
