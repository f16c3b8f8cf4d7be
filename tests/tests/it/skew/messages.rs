//! Messages of queues and events of the bus: what is under way while the code changes.

use holdfast_app::ports::{
    DeliveryHint, DeliveryQueue, EventBus, OutgoingEvent, ParkedRecord, RecordParking, RefreshMessage,
    RefreshQueue, ReplayMessage, ReplayQueue, TimerMessage, TimerQueue,
};
use holdfast_app::view::event_body;
use holdfast_aws::{AwsClients, EventBridgeBus, SqsDeliveries, SqsParking, SqsRefreshes, SqsTimers};
use holdfast_domain::{BookingId, EventId, Patience, WebhookEndpointId, events_since};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use webhook::Incoming;

use super::golden;
use super::profiles::Profiles;
use crate::contract::canned::canned;
use crate::contract::fixtures::{claimed, now, tenant};

fn timer() -> TimerMessage {
    TimerMessage { failures: 3, ..TimerMessage::new(&BookingId::from_bytes([7; 16]), now()) }
}

fn hint() -> DeliveryHint {
    DeliveryHint {
        tenant: tenant().to_string(),
        endpoint_id: WebhookEndpointId::from_bytes([1; 16]).to_string(),
        event_id: EventId::from_bytes([2; 16]).to_string(),
        not_before: now(),
    }
}

fn replay(after: bool) -> ReplayMessage {
    ReplayMessage {
        tenant: tenant().to_string(),
        endpoint_id: WebhookEndpointId::from_bytes([1; 16]).to_string(),
        since: now().minus_ms(86_400_000),
        until: now(),
        only_failed: true,
        requested_at: now(),
        after: after.then(|| (now().minus_ms(1), EventId::from_bytes([2; 16]).to_string())),
    }
}

fn refresh() -> RefreshMessage {
    RefreshMessage {
        provider_id: "demo-clinic".to_owned(),
        location_id: "main-street".to_owned(),
        not_before: now(),
        postponed: 2,
    }
}

fn parked() -> ParkedRecord {
    ParkedRecord {
        booking_id: BookingId::from_bytes([7; 16]).to_string(),
        from_version: Some(2),
        to_version: None,
        reason: "unreadable_image".to_owned(),
    }
}

fn event() -> OutgoingEvent {
    let booking = claimed("golden", Patience::Background).booking;
    let event = events_since(&booking, 0).into_iter().next().unwrap();
    OutgoingEvent {
        event_type: event.event_type.as_str().to_owned(),
        at: event.at,
        tenant: booking.tenant.clone(),
        subject: booking.id.to_string(),
        body: event_body(&booking, &event).unwrap(),
    }
}

/// The bodies that today's code sends to queues, through the adapter.
async fn sent<F: Future<Output = ()>>(send: impl FnOnce(AwsClients) -> F) -> Vec<Value> {
    let (clients, requests) = canned(|request| match request["Entries"].as_array() {
        Some(entries) => {
            let done = |entry: &Value| json!({"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "x"});
            (200, json!({"Successful": entries.iter().map(done).collect::<Vec<_>>(), "Failed": []}))
        }
        None => (200, json!({"MessageId": "m", "MD5OfMessageBody": "x"})),
    });
    send(clients).await;
    let requests = requests.lock().unwrap();
    let bodies = requests.iter().flat_map(|request| match request["Entries"].as_array() {
        Some(entries) => entries.iter().map(|entry| entry["MessageBody"].clone()).collect(),
        None => vec![request["MessageBody"].clone()],
    });
    bodies.map(|body| serde_json::from_str(body.as_str().unwrap()).unwrap()).collect()
}

/// An event as the bus's rule brings it to the queue (EventBridge user guide, "Event structure").
async fn event_message(event: OutgoingEvent) -> String {
    let (clients, requests) =
        canned(|_| (200, json!({"FailedEntryCount": 0, "Entries": [{"EventId": "e"}]})));
    assert_eq!(EventBridgeBus::new(clients.eventbridge(), "bus").publish(&[event]).await, [Ok(())]);
    let requests = requests.lock().unwrap();
    let entry = &requests[0]["Entries"][0];
    let head = json!({
        "version": "0", "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718", "detail-type": entry["DetailType"],
        "source": entry["Source"], "account": "111122223333", "time": "2026-11-21T10:47:45Z",
        "region": "eu-central-1", "resources": entry["Resources"],
    });
    let head = head.to_string();
    format!("{},\"detail\":{}}}", head.strip_suffix('}').unwrap(), entry["Detail"].as_str().unwrap())
}

/// The messages that today's code sends, by the profiles and golden files that they have.
async fn all_sent() -> Vec<(&'static str, &'static str, Value)> {
    const QUEUE: &str = "http://queue/q";
    let one = |bodies: Vec<Value>| bodies.into_iter().next().unwrap();
    let timers = sent(async |clients| {
        SqsTimers::new(clients.sqs(), QUEUE).arm(&[timer()], now()).await;
    });
    let hints = sent(async |clients| {
        SqsDeliveries::new(clients.sqs(), QUEUE, QUEUE).send(&[hint()], false, now()).await;
    });
    let replays = sent(async |clients| {
        let queue = SqsDeliveries::new(clients.sqs(), QUEUE, QUEUE);
        queue.ask(&replay(false), now(), now()).await.unwrap();
        queue.ask(&replay(true), now(), now()).await.unwrap();
    });
    let refreshes = sent(async |clients| {
        SqsRefreshes::new(clients.sqs(), QUEUE).send(&[refresh()], now()).await;
    });
    let records = sent(async |clients| {
        SqsParking::new(clients.sqs(), QUEUE, QUEUE).park(&parked()).await.unwrap();
    });
    let event = serde_json::from_str(&event_message(event()).await).unwrap();
    let [begun, going_on]: [Value; 2] = replays.await.try_into().unwrap();
    vec![
        ("message-timer-v1", "message-timer-v1", one(timers.await)),
        ("message-hint-v1", "message-hint-v1", one(hints.await)),
        ("message-replay-v1", "message-replay-v1", begun),
        ("message-replay-v1", "message-replay-v1-going-on", going_on),
        ("message-refresh-v1", "message-refresh-v1", one(refreshes.await)),
        ("message-parked-v1", "message-parked-v1", one(records.await)),
        ("message-event-v1", "message-event-v1", event),
    ]
}

fn read<T: DeserializeOwned>(file: &str) -> T {
    serde_json::from_str(&golden(&format!("{file}.json"))).unwrap()
}

#[test]
fn every_golden_message_is_read_as_what_it_says() {
    assert_eq!(read::<TimerMessage>("message-timer-v1"), timer());
    assert_eq!(read::<TimerMessage>("message-timer-v1-first"), TimerMessage { failures: 0, ..timer() });
    assert_eq!(read::<RefreshMessage>("message-refresh-v1"), refresh());
    assert_eq!(
        read::<RefreshMessage>("message-refresh-v1-first"),
        RefreshMessage { postponed: 0, ..refresh() }
    );
    assert_eq!(read::<ParkedRecord>("message-parked-v1"), parked());
    let incoming = |file: &str| webhook::read(&golden(&format!("{file}.json")));
    assert_eq!(incoming("message-hint-v1"), Ok(Incoming::Hint(hint())));
    assert_eq!(incoming("message-replay-v1"), Ok(Incoming::Replay(replay(false))));
    assert_eq!(incoming("message-replay-v1-going-on"), Ok(Incoming::Replay(replay(true))));
    let Ok(Incoming::Event(read)) = incoming("message-event-v1") else { panic!("it is an event") };
    let written = event();
    let id: Value = serde_json::from_str(&written.body).unwrap();
    assert_eq!(
        (read.tenant, read.event_type, read.about_endpoint),
        (written.tenant, written.event_type, None)
    );
    assert_eq!((read.id.as_str(), read.body), (id["id"].as_str().unwrap(), written.body));
}

#[tokio::test]
async fn what_is_sent_today_is_what_receivers_of_its_format_expect() {
    let profiles = Profiles::read();
    for (profile, file, body) in all_sent().await {
        profiles.fits(profile, &body);
        profiles.fits(profile, &read(file));
    }
}

#[tokio::test]
async fn members_of_later_versions_are_passed_over() {
    for (_, file, mut body) in all_sent().await {
        body["zz_later"] = json!({"a": [1, null]});
        let later = body.to_string();
        match file {
            "message-timer-v1" => assert_eq!(serde_json::from_str::<TimerMessage>(&later).unwrap(), timer()),
            "message-refresh-v1" => {
                assert_eq!(serde_json::from_str::<RefreshMessage>(&later).unwrap(), refresh());
            }
            "message-parked-v1" => {
                assert_eq!(serde_json::from_str::<ParkedRecord>(&later).unwrap(), parked());
            }
            "message-hint-v1" => assert_eq!(webhook::read(&later), Ok(Incoming::Hint(hint()))),
            "message-replay-v1" => {
                body["replay"]["zz_later"] = json!(1);
                assert_eq!(webhook::read(&body.to_string()), Ok(Incoming::Replay(replay(false))));
            }
            "message-event-v1" | "message-replay-v1-going-on" => assert!(webhook::read(&later).is_ok()),
            other => panic!("{other} is not tried"),
        }
    }
}

/// A kind of message that is not known must not be taken for another: it ends in the dead-letter queue.
#[test]
fn kinds_of_later_versions_are_an_error_and_types_of_events_are_passed_on() {
    for later in [r#"{"purge":{"tenant":"test:shop"}}"#, r#"{"hints":[]}"#, r#"{"replay":{"from":1}}"#] {
        assert!(webhook::read(later).is_err(), "{later}");
        assert!(serde_json::from_str::<TimerMessage>(later).is_err(), "{later}");
        assert!(serde_json::from_str::<RefreshMessage>(later).is_err(), "{later}");
    }
    let later = golden("message-event-v1.json").replace("booking.created", "booking.later");
    let Ok(Incoming::Event(event)) = webhook::read(&later) else { panic!("it is an event all the same") };
    assert_eq!(event.event_type, "booking.later");
}

/// Writes what is missing, for whoever adds a message; the manifest has to be told.
#[tokio::test]
#[ignore = "writes files"]
async fn golden_messages_that_are_missing_are_written() {
    for (_, file, body) in all_sent().await {
        let path = super::folder("golden").join(format!("{file}.json"));
        let text = if file == "message-event-v1" { event_message(event()).await } else { body.to_string() };
        if !path.exists() {
            std::fs::write(path, text).unwrap();
        }
    }
}
