//! The function over ports in memory, posting over real sockets: from the bus's message to the receiver.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use holdfast_app::deliveries::Deliveries;
use holdfast_app::feed::FeedAppender;
use holdfast_app::ports::Clock;
use holdfast_app::test_util::{
    Fault, Faults, MemoryBus, MemoryDeliveries, MemoryDeliveryStore, MemoryFeed, MemorySettings,
};
use holdfast_app::webhook::{DeliveryState, Speed, WebhookEndpoint};
use holdfast_domain::{EventId, Tenant, Timestamp, WebhookEndpointId};
use holdfast_lambda::batch::{Invocation, QueueMessage, handle_messages};
use holdfast_lambda::{SystemClock, SystemEntropy};
use holdfast_provider::{AllowedHosts, SafeClient, WebhookClient};
use secrecy::ExposeSecret;

use super::Service;

type TestService = Service<
    MemoryFeed,
    MemorySettings,
    MemoryDeliveryStore,
    MemoryDeliveries,
    WebhookClient<SystemClock>,
    MemoryBus,
    SystemClock,
    SystemEntropy,
>;

fn service() -> Arc<TestService> {
    service_with(&Faults::new())
}

fn service_with(faults: &Faults) -> Arc<TestService> {
    let client = SafeClient::new(AllowedHosts::parse("127.0.0.1")).unwrap();
    let deliveries = Deliveries {
        endpoints: MemorySettings::new(),
        store: MemoryDeliveryStore::with_faults(faults.clone()),
        queue: MemoryDeliveries::new(),
        sender: WebhookClient::new(client, SystemClock),
        bus: MemoryBus::new(),
        clock: SystemClock,
        entropy: SystemEntropy,
    };
    let feed = FeedAppender::new(MemoryFeed::with_faults(faults.clone()), SystemClock);
    Arc::new(Service { feed, deliveries, slow_queue_name: "slow".to_owned() })
}

fn endpoint(url: String) -> WebhookEndpoint {
    let tenant = Tenant::parse("test:shop").unwrap();
    let secret = holdfast_app::signing_secret::generate(&SystemEntropy);
    let id = WebhookEndpointId::from_bytes([1; 16]);
    let usual = WebhookEndpoint::new(id, tenant, url, secret, Timestamp::EPOCH);
    WebhookEndpoint { retry_schedule_seconds: vec![0], ..usual }
}

/// A receiver that checks signatures and keeps what it got.
async fn inbox(secret: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    let app = Router::new().fallback(move |request: Request| async move {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 100_000).await.unwrap();
        let verified = standardwebhooks::Webhook::new(&secret).unwrap().verify(&body, &parts.headers);
        kept.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
        if verified.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, received)
}

fn message(id: &str, queue_name: &str, body: String) -> QueueMessage {
    QueueMessage { id: id.to_owned(), body, queue_name: queue_name.to_owned(), receive_count: 1 }
}

/// Works on a batch as Lambda has it. Returns the identifiers of the messages that come again.
async fn invoke(service: &Arc<TestService>, messages: Vec<QueueMessage>) -> Vec<String> {
    let invocation = Invocation::new("request", SystemClock.now().plus_ms(30_000));
    let on_message = |message, _| Arc::clone(service).on_message(message);
    let response = handle_messages(messages, &invocation, &SystemClock, &on_message).await;
    response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
}

#[tokio::test]
async fn an_event_reaches_its_endpoint_signed_and_malformed_messages_fail_alone() {
    let service = service();
    let mut wanting = endpoint(String::new());
    let (url, received) = inbox(wanting.secret.expose_secret().to_owned()).await;
    wanting.url = url;
    service.deliveries.endpoints.add_endpoint(wanting);

    let detail = format!(r#"{{"id": "{}",  "type":"booking.created"}}"#, EventId::from_bytes([2; 16]));
    let event = format!(
        r#"{{"detail-type":"booking.created","source":"holdfast",
        "resources":["urn:holdfast:tenant:test:shop"],"detail":{detail}}}"#
    );
    let batch = vec![
        message("garbage", "events", "not JSON".to_owned()),
        message("event", "events", event),
        message("stranger", "events", r#"{"tenant":"test:shop"}"#.to_owned()),
    ];
    let mut failed = invoke(&service, batch).await;
    failed.sort();
    assert_eq!(failed, ["garbage", "stranger"]);

    let hints = service.deliveries.queue.receive(false, SystemClock.now());
    let [hint] = hints.as_slice() else { panic!("one delivery, one hint") };
    let body = serde_json::to_string(hint).unwrap();
    assert_eq!(invoke(&service, vec![message("hint", "quick", body)]).await, [""; 0]);
    assert_eq!(*received.lock().unwrap(), [detail]);
    let items = service.deliveries.store.items();
    assert!(matches!(items[0].state, DeliveryState::Delivered { .. }), "{items:?}");
}

fn event_message(id: u8) -> QueueMessage {
    let event = format!(
        r#"{{"detail-type":"booking.created","source":"holdfast",
        "resources":["urn:holdfast:tenant:test:shop"],"detail":{{ "id":"{}" }}}}"#,
        EventId::from_bytes([id; 16])
    );
    message(&id.to_string(), "events", event)
}

#[tokio::test]
async fn endpoints_do_not_wait_for_a_feed_that_hangs() {
    let faults = Faults::new();
    let service = service_with(&faults);
    service.deliveries.endpoints.add_endpoint(endpoint("http://127.0.0.1:9".to_owned()));
    faults.on("feed.append", 1, Fault::StopBefore);
    let hanging = tokio::spawn({
        let service = Arc::clone(&service);
        async move { invoke(&service, vec![event_message(1)]).await }
    });
    let made = async {
        while service.deliveries.store.items().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), made).await.expect("the delivery is made");
    assert!(!hanging.is_finished());
    hanging.abort();
}

#[tokio::test]
async fn the_feed_has_every_event_of_a_batch_once_whatever_fails() {
    let faults = Faults::new();
    let service = service_with(&faults);
    let tenant = Tenant::parse("test:shop").unwrap();
    service.deliveries.endpoints.add_endpoint(endpoint("http://127.0.0.1:9".to_owned()));
    let batch = || (1..=10).map(event_message).collect::<Vec<_>>();

    // The feed fails, and the endpoints have their deliveries all the same.
    faults.on("feed.append", 1, Fault::FailBefore);
    assert_eq!(invoke(&service, batch()).await.len(), 10, "all come again");
    assert_eq!(service.deliveries.store.items().len(), 10);
    // It has done its work, but nobody heard of it.
    faults.on("feed.append", 2, Fault::FailAfter);
    assert_eq!(invoke(&service, batch()).await.len(), 10);
    // A delivery cannot be made; its event alone comes again.
    faults.next("deliveries.create", Fault::FailBefore);
    assert_eq!(invoke(&service, batch()).await.len(), 1);
    assert!(invoke(&service, batch()).await.is_empty());

    assert_eq!(faults.calls().iter().filter(|call| **call == "feed.append").count(), 4, "one call a batch");
    let entries = service.feed.store().entries(&tenant);
    assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    let first = format!(r#"{{ "id":"{}" }}"#, EventId::from_bytes([1; 16]));
    assert_eq!((&entries[0].event.body, entries[0].event.event_type.as_str()), (&first, "booking.created"));
}

#[tokio::test]
async fn hints_of_a_slow_endpoint_stay_in_the_slow_queue() {
    let service = service();
    let mut slow = endpoint(String::new());
    let (url, received) = inbox(slow.secret.expose_secret().to_owned()).await;
    let slow_until = Some(SystemClock.now().plus_ms(60_000));
    (slow.url, slow.speed) = (url, Speed { slow_until, hung_until: None });
    service.deliveries.endpoints.add_endpoint(slow);
    let event = format!(
        r#"{{"detail-type":"booking.created","source":"holdfast",
        "resources":["urn:holdfast:tenant:test:shop"],"detail":{{"id":"{}"}}}}"#,
        EventId::from_bytes([2; 16])
    );
    assert!(invoke(&service, vec![message("event", "events", event)]).await.is_empty());
    let hints = service.deliveries.queue.receive(true, SystemClock.now());
    let body = serde_json::to_string(&hints[0]).unwrap();

    // A hint that was in the quick queue already moves over.
    assert!(invoke(&service, vec![message("quick", "quick", body.clone())]).await.is_empty());
    assert_eq!(received.lock().unwrap().len(), 0);
    assert_eq!(service.deliveries.queue.waiting(true).len(), 1);

    assert!(invoke(&service, vec![message("slow", "slow", body)]).await.is_empty());
    assert_eq!(received.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_replay_sends_what_was_sent_and_an_exhausted_delivery_is_told() {
    let service = service();
    let mut wanting = endpoint(String::new());
    let (url, received) = inbox(wanting.secret.expose_secret().to_owned()).await;
    wanting.url = url;
    let (tenant, id) = (wanting.tenant.clone(), wanting.id.clone());
    service.deliveries.endpoints.add_endpoint(wanting.clone());
    let detail = format!(r#"{{"id":"{}",  "type":"booking.created"}}"#, EventId::from_bytes([2; 16]));
    let event = format!(
        r#"{{"detail-type":"booking.created","source":"holdfast",
        "resources":["urn:holdfast:tenant:test:shop"],"detail":{detail}}}"#
    );
    // The receiver does not take what another secret has signed.
    service.deliveries.endpoints.add_endpoint(WebhookEndpoint {
        secret: holdfast_app::signing_secret::generate(&SystemEntropy),
        ..wanting.clone()
    });
    assert!(invoke(&service, vec![message("event", "events", event)]).await.is_empty());
    let hints = service.deliveries.queue.receive(false, SystemClock.now());
    let hint = serde_json::to_string(&hints[0]).unwrap();
    assert!(invoke(&service, vec![message("hint", "quick", hint)]).await.is_empty());
    let told = service.deliveries.bus.events();
    assert_eq!((told.len(), told[0].event_type.as_str()), (1, "webhook.exhausted"));
    assert_eq!(service.deliveries.store.log()[0].status, Some(401));

    service.deliveries.endpoints.add_endpoint(wanting);
    let (since, now) = (Timestamp::EPOCH, SystemClock.now().plus_ms(1_000));
    let replay = format!(
        r#"{{"replay":{{"tenant":"{tenant}","endpoint_id":"{id}","since":"{since}","until":"{now}",
        "only_failed":true,"requested_at":"{now}","after":null}}}}"#
    );
    assert!(invoke(&service, vec![message("replay", "slow", replay)]).await.is_empty());
    let hints = service.deliveries.queue.receive(true, SystemClock.now());
    let hint = serde_json::to_string(&hints[0]).unwrap();
    assert!(invoke(&service, vec![message("hint", "slow", hint)]).await.is_empty());
    assert_eq!(*received.lock().unwrap(), [detail.clone(), detail]);
    assert!(matches!(service.deliveries.store.items()[0].state, DeliveryState::Delivered { .. }));
}
