//! What queues and the bus promise: entry by entry, in order, never early.

use holdfast_app::ports::{
    DeliveryHint, DeliveryQueue, EventBus, OutgoingEvent, ParkedRecord, RecordParking, RefreshMessage,
    RefreshQueue, StoreError, TimerMessage, TimerQueue,
};
use holdfast_app::test_util::{
    Fault, Faults, MemoryBus, MemoryDeliveries, MemoryParking, MemoryRefreshes, MemoryTimers,
};
use holdfast_aws::{EventBridgeBus, SqsDeliveries, SqsParking, SqsRefreshes, SqsTimers, tenant_of_resources};
use holdfast_domain::{BookingId, EventType, Patience};
use serde_json::{Value, json};

use super::canned::canned;
use super::deliveries::delivery;
use super::fixtures::{claimed, now, tenant};

/// Answers a batch: the entries whose body contains a word fail with a code.
fn batch_answer(request: &Value, failing: &[(&str, &str, bool)]) -> (u16, Value) {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for entry in request["Entries"].as_array().unwrap() {
        let body = entry["MessageBody"].as_str().unwrap();
        match failing.iter().find(|(word, _, _)| body.contains(word)) {
            Some((_, code, sender_fault)) => {
                failed.push(json!({"Id": entry["Id"], "Code": code, "SenderFault": sender_fault}));
            }
            None => {
                successful.push(json!({"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "x"}));
            }
        }
    }
    // The order of an answer's entries is not promised.
    successful.reverse();
    (200, json!({"Successful": successful, "Failed": failed}))
}

fn timers(count: u8) -> Vec<TimerMessage> {
    let timer = |number: u8| {
        TimerMessage::new(&BookingId::from_bytes([number; 16]), now().plus_ms(u64::from(number) * 100_000))
    };
    (0..count).map(timer).collect()
}

#[tokio::test]
async fn timers_go_in_batches_and_failed_entries_are_found() {
    let all = timers(23);
    let (refused, throttled) = (all[3].booking_id.clone(), all[14].booking_id.clone());
    let (clients, requests) = canned(move |request| {
        let failing = [
            (refused.as_str(), "InvalidMessageContents", true),
            (throttled.as_str(), "InternalError", false),
        ];
        batch_answer(request, &failing)
    });
    let results = SqsTimers::new(clients.sqs(), "http://queue/timers").arm(&all, now()).await;
    assert_eq!(results.len(), 23);
    for (position, result) in results.iter().enumerate() {
        match position {
            3 => assert!(matches!(result, Err(StoreError::Refused(_))), "{result:?}"),
            14 => assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}"),
            _ => assert_eq!(*result, Ok(()), "{position}"),
        }
    }
    let requests = requests.lock().unwrap();
    let entries: Vec<&Value> =
        requests.iter().flat_map(|request| request["Entries"].as_array().unwrap()).collect();
    assert_eq!((requests.len(), entries.len()), (3, 23));
    for (number, entry) in (0_u64..).zip(&entries) {
        assert_eq!(entry["DelaySeconds"], (number * 100).min(900));
        let message: TimerMessage = serde_json::from_str(entry["MessageBody"].as_str().unwrap()).unwrap();
        assert_eq!(message, all[usize::try_from(number).unwrap()]);
    }
}

fn refreshes(count: u8) -> Vec<RefreshMessage> {
    let refresh = |number: u8| RefreshMessage {
        provider_id: "demo-clinic".to_owned(),
        location_id: format!("street-{number}"),
        not_before: now().plus_ms(u64::from(number) * 60_000),
        postponed: number.into(),
    };
    (0..count).map(refresh).collect()
}

#[tokio::test]
async fn refreshes_go_in_batches_no_earlier_than_they_are_due() {
    let all = refreshes(21);
    let (clients, requests) = canned(|request| {
        batch_answer(request, &[("street-2\"", "InvalidMessageContents", true), ("street-13", "x", false)])
    });
    let results = SqsRefreshes::new(clients.sqs(), "http://queue/refreshes").send(&all, now()).await;
    assert_eq!(results.len(), 21);
    for (position, result) in results.iter().enumerate() {
        match position {
            2 => assert!(matches!(result, Err(StoreError::Refused(_))), "{result:?}"),
            13 => assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}"),
            _ => assert_eq!(*result, Ok(()), "{position}"),
        }
    }
    let requests = requests.lock().unwrap();
    assert!(requests.iter().all(|request| request["QueueUrl"] == "http://queue/refreshes"));
    let entries: Vec<&Value> =
        requests.iter().flat_map(|request| request["Entries"].as_array().unwrap()).collect();
    assert_eq!((requests.len(), entries.len()), (3, 21));
    for (number, entry) in (0_u64..).zip(&entries) {
        assert_eq!(entry["DelaySeconds"], (number * 60).min(900));
        let message: RefreshMessage = serde_json::from_str(entry["MessageBody"].as_str().unwrap()).unwrap();
        assert_eq!(message, all[usize::try_from(number).unwrap()]);
    }
}

#[test]
fn a_refresh_of_the_first_version_was_never_postponed() {
    let body = r#"{"provider_id":"p","location_id":"l","not_before":"2026-11-21T10:47:45.123Z"}"#;
    let message: RefreshMessage = serde_json::from_str(body).unwrap();
    assert_eq!((message.postponed, message.not_before), (0, now()));
}

#[tokio::test]
async fn a_batch_that_fails_fails_for_every_entry() {
    let (clients, requests) =
        canned(|_| (403, json!({"__type": "com.amazonaws.sqs#AccessDeniedException", "message": "Ada"})));
    let results = SqsTimers::new(clients.sqs(), "http://queue/timers").arm(&timers(2), now()).await;
    let refused = Err(StoreError::Refused("SendMessageBatch: AccessDeniedException".to_owned()));
    assert_eq!(results, [refused.clone(), refused]);
    assert_eq!(requests.lock().unwrap().len(), 1, "it is not repeated");
}

#[tokio::test]
async fn an_entry_that_the_answer_forgets_was_not_sent() {
    let (clients, _requests) = canned(|_| (200, json!({"Successful": [], "Failed": []})));
    let results = SqsTimers::new(clients.sqs(), "http://queue/timers").arm(&timers(1), now()).await;
    assert!(matches!(results.as_slice(), [Err(StoreError::Unavailable(_))]), "{results:?}");
    let (clients, requests) = canned(|_| (200, json!({})));
    assert_eq!(SqsTimers::new(clients.sqs(), "http://queue/timers").arm(&[], now()).await, []);
    assert!(requests.lock().unwrap().is_empty(), "nothing to send");
}

#[tokio::test]
async fn slow_endpoints_have_a_queue_of_their_own() {
    let (clients, requests) = canned(|request| batch_answer(request, &[]));
    let queue = SqsDeliveries::new(clients.sqs(), "http://queue/quick", "http://queue/slow");
    let hint = DeliveryHint::new(&delivery(), now());
    assert_eq!(queue.send(std::slice::from_ref(&hint), false, now()).await, [Ok(())]);
    assert_eq!(queue.send(std::slice::from_ref(&hint), true, now()).await, [Ok(())]);
    let urls: Vec<Value> =
        requests.lock().unwrap().iter().map(|request| request["QueueUrl"].clone()).collect();
    assert_eq!(urls, ["http://queue/quick", "http://queue/slow"]);
}

#[tokio::test]
async fn records_are_parked_and_bookings_raised_apart() {
    let (clients, requests) = canned(|_| (200, json!({"MessageId": "m", "MD5OfMessageBody": "x"})));
    let parking = SqsParking::new(clients.sqs(), "http://queue/parked", "http://queue/dead");
    let record = ParkedRecord {
        booking_id: "bkg".to_owned(),
        from_version: Some(1),
        to_version: None,
        reason: "unreadable".to_owned(),
    };
    parking.park(&record).await.unwrap();
    parking.dead_letter(&record).await.unwrap();
    let requests = requests.lock().unwrap();
    for (request, url) in requests.iter().zip(["http://queue/parked", "http://queue/dead"]) {
        assert_eq!(request["QueueUrl"], url);
        let body: ParkedRecord = serde_json::from_str(request["MessageBody"].as_str().unwrap()).unwrap();
        assert_eq!(body, record);
    }
}

fn events(count: u8) -> Vec<OutgoingEvent> {
    let event = |number: u8| OutgoingEvent {
        event_type: EventType::BookingCreated.as_str().to_owned(),
        at: now(),
        tenant: tenant(),
        subject: claimed("key", Patience::Synchronous).booking.id.to_string(),
        body: json!({"number": number}).to_string(),
    };
    (0..count).map(event).collect()
}

#[tokio::test]
async fn events_go_in_batches_and_failed_entries_are_found() {
    let (clients, requests) = canned(|request| {
        let entry = |entry: &Value| match entry["Detail"].as_str().unwrap() {
            r#"{"number":4}"# => json!({"ErrorCode": "ThrottlingException", "ErrorMessage": "later"}),
            r#"{"number":11}"# => json!({"ErrorCode": "MalformedDetail", "ErrorMessage": "never"}),
            _ => json!({"EventId": "e"}),
        };
        let entries: Vec<Value> = request["Entries"].as_array().unwrap().iter().map(entry).collect();
        (200, json!({"FailedEntryCount": 1, "Entries": entries}))
    });
    let all = events(12);
    let results = EventBridgeBus::new(clients.eventbridge(), "bus").publish(&all).await;
    for (position, result) in results.iter().enumerate() {
        match position {
            4 => assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}"),
            11 => assert!(matches!(result, Err(StoreError::Refused(_))), "{result:?}"),
            _ => assert_eq!(*result, Ok(()), "{position}"),
        }
    }
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    let entry = &requests[0]["Entries"][0];
    assert_eq!((&entry["Source"], &entry["EventBusName"]), (&"holdfast".into(), &"bus".into()));
    assert_eq!(
        (&entry["DetailType"], &entry["Detail"]),
        (&"booking.created".into(), &all[0].body.as_str().into())
    );
    let resources = entry["Resources"].as_array().unwrap().iter().filter_map(Value::as_str);
    assert_eq!(tenant_of_resources(resources), Some(tenant()));
    assert_eq!(entry["Resources"][1], format!("urn:holdfast:booking:{}", all[0].subject));
}

#[tokio::test]
async fn an_answer_with_too_few_entries_says_nothing_of_the_others() {
    let (clients, _requests) =
        canned(|_| (200, json!({"FailedEntryCount": 0, "Entries": [{"EventId": "e"}]})));
    let results = EventBridgeBus::new(clients.eventbridge(), "bus").publish(&events(2)).await;
    assert!(matches!(results.as_slice(), [Ok(()), Err(StoreError::Unavailable(_))]), "{results:?}");
}

/// Which of three entries is reported failed.
async fn one_of_three_fails(
    timers_of: &impl TimerQueue,
    refreshes_of: &impl RefreshQueue,
    hints_of: &impl DeliveryQueue,
    bus: &impl EventBus,
) -> [Vec<bool>; 4] {
    let failed = |results: Vec<Result<(), StoreError>>| -> Vec<bool> {
        let is_passing = |result: &Result<(), StoreError>| !matches!(result, Err(StoreError::Refused(_)));
        assert!(results.iter().all(is_passing), "{results:?}");
        results.iter().map(Result::is_err).collect()
    };
    [
        failed(timers_of.arm(&timers(3), now()).await),
        failed(refreshes_of.send(&refreshes(3), now()).await),
        failed(hints_of.send(&[(); 3].map(|()| DeliveryHint::new(&delivery(), now())), false, now()).await),
        failed(bus.publish(&events(3)).await),
    ]
}

#[tokio::test]
async fn a_batch_of_which_one_entry_fails_is_told_alike() {
    let plan = Faults::new();
    for operation in ["timers.arm", "refreshes.send", "delivery_queue.send", "bus.publish"] {
        plan.next(operation, Fault::FailEntry(1));
    }
    let (queue, refreshes, hints, bus) = (
        MemoryTimers::with_faults(plan.clone()),
        MemoryRefreshes::with_faults(plan.clone()),
        MemoryDeliveries::with_faults(plan.clone()),
        MemoryBus::with_faults(plan),
    );
    let memory = one_of_three_fails(&queue, &refreshes, &hints, &bus).await;
    assert_eq!(memory, [(); 4].map(|()| vec![false, true, false]));
    let kept =
        (queue.waiting().len(), refreshes.take().len(), hints.waiting(false).len(), bus.events().len());
    assert_eq!(kept, (2, 2, 2, 2), "the others are sent");

    let (clients, _) = canned(|request| {
        let entries = request["Entries"].as_array().unwrap();
        let is_event = request["Entries"][0].get("Detail").is_some();
        let event = |place: usize| match place {
            1 => json!({"ErrorCode": "InternalFailure", "ErrorMessage": "later"}),
            _ => json!({"EventId": "e"}),
        };
        if is_event {
            let entries: Vec<Value> = (0..entries.len()).map(event).collect();
            return (200, json!({"FailedEntryCount": 1, "Entries": entries}));
        }
        let of = |place: usize| entries[place]["Id"].clone();
        let sent = |place: usize| json!({"Id": of(place), "MessageId": "m", "MD5OfMessageBody": "x"});
        let failed = json!({"Id": of(1), "Code": "InternalError", "SenderFault": false});
        (200, json!({"Successful": [sent(2), sent(0)], "Failed": [failed]}))
    });
    let amazon = one_of_three_fails(
        &SqsTimers::new(clients.sqs(), "http://queue/timers"),
        &SqsRefreshes::new(clients.sqs(), "http://queue/refreshes"),
        &SqsDeliveries::new(clients.sqs(), "http://queue/quick", "http://queue/slow"),
        &EventBridgeBus::new(clients.eventbridge(), "bus"),
    )
    .await;
    assert_eq!(amazon, memory);
}

/// As a batch in memory that fails before or after it is done: nobody knows of any entry.
#[tokio::test(start_paused = true)]
async fn a_batch_whose_answer_is_lost_is_told_alike() {
    for fault in [Fault::FailBefore, Fault::FailAfter] {
        let plan = Faults::new();
        for operation in ["timers.arm", "refreshes.send", "delivery_queue.send", "bus.publish"] {
            plan.next(operation, fault);
        }
        let (queue, bus) = (MemoryTimers::with_faults(plan.clone()), MemoryBus::with_faults(plan.clone()));
        let (refreshes, hints) =
            (MemoryRefreshes::with_faults(plan.clone()), MemoryDeliveries::with_faults(plan));
        let memory = one_of_three_fails(&queue, &refreshes, &hints, &bus).await;
        let (clients, _) = canned(|_| (503, json!({"__type": "ServiceUnavailable"})));
        let amazon = one_of_three_fails(
            &SqsTimers::new(clients.sqs(), "http://queue/timers"),
            &SqsRefreshes::new(clients.sqs(), "http://queue/refreshes"),
            &SqsDeliveries::new(clients.sqs(), "http://queue/quick", "http://queue/slow"),
            &EventBridgeBus::new(clients.eventbridge(), "bus"),
        )
        .await;
        assert_eq!(memory, [(); 4].map(|()| vec![true; 3]));
        assert_eq!(amazon, memory);
        let done = if fault == Fault::FailAfter { 3 } else { 0 };
        assert_eq!((queue.waiting().len(), bus.events().len()), (done, done), "{fault:?}");
    }
}

#[tokio::test]
async fn queues_in_memory_delay_and_fail_alike() {
    let queue = MemoryTimers::new();
    let all = timers(12);
    assert!(queue.arm(&all, now()).await.iter().all(Result::is_ok));
    assert_eq!(queue.receive(now()), all[..1]);
    assert_eq!(queue.next_at(), Some(now().plus_ms(100_000)));
    // The queue's longest delay is 15 minutes: later messages come then, to be passed on.
    assert_eq!(queue.receive(now().plus_ms(900_000)).len(), 11);
    let faulty = MemoryBus::new();
    assert_eq!(faulty.publish(&events(2)).await, [Ok(()), Ok(())]);
    let plan = Faults::new();
    let bus = MemoryBus::with_faults(plan.clone());
    plan.next("bus.publish", Fault::FailEntry(1));
    let results = bus.publish(&events(3)).await;
    assert!(matches!(results.as_slice(), [Ok(()), Err(_), Ok(())]));
    assert_eq!(bus.events().len(), 2);
    plan.next("bus.publish", Fault::FailAfter);
    assert!(bus.publish(&events(1)).await[0].is_err());
    assert_eq!(bus.events().len(), 3);
    let hints = MemoryDeliveries::new();
    hints.send(&[DeliveryHint::new(&delivery(), now())], true, now()).await;
    assert_eq!((hints.receive(false, now()).len(), hints.receive(true, now()).len()), (0, 1));
    assert_eq!(MemoryParking::new().records(), []);
    plan.next("refreshes.send", Fault::FailEntry(1));
    let queue = MemoryRefreshes::with_faults(plan.clone());
    let all = refreshes(3);
    assert!(matches!(queue.send(&all, now()).await.as_slice(), [Ok(()), Err(_), Ok(())]));
    assert_eq!(queue.take(), [all[0].clone(), all[2].clone()]);
}
