//! The functions that a booking passes through, in one process: their own services over the adapters, the tables in
//! an embedded DynamoDB that tells what each call costs, its stream, and queues that come when the clock says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_lambda_events::dynamodb::EventRecord;
use aws_sdk_dynamodb::types::{StreamSpecification, StreamViewType};
use booking::{Route, Service as BookingService};
use bytes::Bytes;
use holdfast_app::bookings::{Breakers, Engine};
use holdfast_app::deliveries::Deliveries;
use holdfast_app::feed::FeedAppender;
use holdfast_app::outbox::Outbox;
use holdfast_app::ports::{Clock, ConfigurationStore, EndpointStore};
use holdfast_app::rates::RequestRates;
use holdfast_app::settings::ProviderSettings;
use holdfast_app::settings_cache::SettingsCache;
use holdfast_app::test_util::SeededEntropy;
use holdfast_app::webhook::WebhookEndpoint;
use holdfast_aws::{
    AwsHooks, DynamoAvailability, DynamoBookingStore, DynamoDeliveryStore, DynamoFeed, DynamoMailbox,
    DynamoSettings, EventBridgeBus, SqsDeliveries, SqsParking, SqsTimers,
};
use holdfast_domain::{Mode, Timestamp};
use holdfast_lambda::http::{Request, Response, Routed};
use http::{HeaderMap, HeaderValue, Method};
use retry::Service as RetryService;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use webhook::Service as WebhookService;

use super::pipes::{DEAD, DELIVERIES, EVENTS, PARKED, Pipes, SLOW_DELIVERIES, TIMERS, url};
use super::work::{Function, Work};
use crate::contract::embedded::{
    AVAILABILITY_TABLE, BOOKING_TABLE, CONFIG_TABLE, DELIVERY_TABLE, Embedded, RETENTION_DAYS, clients_of,
    entropy,
};
use crate::contract::fixtures;
use crate::contract::metering_proxy::{Meter, metering_proxy};
use crate::contract::outside::Outside;

/// More steps than any booking takes.
const MAX_STEPS: usize = 1_000;

/// A clock that stands still until it is told.
#[derive(Clone, Debug)]
pub(super) struct HandClock(Arc<AtomicI64>);

impl HandClock {
    fn advance_to(&self, at: Timestamp) {
        self.0.fetch_max(at.as_unix_ms(), Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

type TestBooking = BookingService<
    DynamoBookingStore,
    Outside,
    DynamoSettings,
    DynamoSettings,
    DynamoAvailability,
    HandClock,
    SeededEntropy,
>;
type TestRetry = RetryService<
    DynamoBookingStore,
    Outside,
    DynamoSettings,
    DynamoSettings,
    SqsTimers,
    HandClock,
    SeededEntropy,
>;
type TestOutbox = Outbox<SqsTimers, EventBridgeBus, SqsParking, DynamoMailbox, DynamoAvailability, HandClock>;
type TestWebhook = WebhookService<
    DynamoFeed,
    DynamoSettings,
    DynamoDeliveryStore,
    SqsDeliveries,
    Outside,
    EventBridgeBus,
    HandClock,
    SeededEntropy,
>;

/// Everything that a booking passes through.
pub(super) struct Deployment {
    pub(super) outside: Outside,
    pub(super) embedded: Embedded,
    booking: TestBooking,
    retry: TestRetry,
    outbox: TestOutbox,
    webhook: Arc<TestWebhook>,
    clock: HandClock,
    pipes: Pipes,
    meter: Meter,
    key: String,
    /// Where the stream is read on.
    shard_iterator: String,
    work: Vec<(Function, Work)>,
}

impl Deployment {
    /// One with a consumer, and a provider with these settings.
    pub(super) async fn new(provider: ProviderSettings) -> Self {
        let embedded = Embedded::start().await;
        let shard_iterator = stream(&embedded).await;
        let clock = HandClock(Arc::new(AtomicI64::new(fixtures::now().as_unix_ms())));
        embedded.settings().put_provider(&provider).await.unwrap();
        let owner = fixtures::consumer_owner("demo-marketplace");
        let (key, record) = holdfast_app::auth::new_key(owner, Mode::Test, clock.now(), &*entropy());
        embedded.settings().put_key(&record).await.unwrap();
        let (address, meter) = metering_proxy(embedded.address).await;
        let database = clients_of(address, &AwsHooks::default()).dynamodb;
        let (pipes, outside) = (Pipes::new(clock.clone()), Outside::default());
        let (sqs, bus) = {
            let clients = pipes.clients();
            (clients.sqs(), EventBridgeBus::new(clients.eventbridge(), "bus"))
        };
        let bookings = || {
            let clock = Arc::new(clock.clone());
            DynamoBookingStore::new(database.clone(), BOOKING_TABLE, RETENTION_DAYS, clock, entropy())
        };
        let settings = || DynamoSettings::new(database.clone(), CONFIG_TABLE, entropy());
        let slots = || DynamoAvailability::new(database.clone(), AVAILABILITY_TABLE);
        let random = || SeededEntropy::new(7);
        let engine =
            || Engine::new(bookings(), outside.clone(), Breakers::new(settings()), clock.clone(), random());
        let timers = || SqsTimers::new(sqs.clone(), url(TIMERS));
        Self {
            booking: BookingService {
                engine: engine(),
                settings: SettingsCache::new(settings()),
                availability: slots(),
                rates: RequestRates::default(),
                counter: settings(),
                clock: clock.clone(),
            },
            retry: RetryService {
                engine: engine(),
                settings: settings(),
                timers: timers(),
                clock: clock.clone(),
            },
            outbox: Outbox {
                timers: timers(),
                bus: bus.clone(),
                parking: SqsParking::new(sqs.clone(), url(PARKED), url(DEAD)),
                mailbox: DynamoMailbox::new(database.clone(), DELIVERY_TABLE, entropy()),
                slots: slots(),
                clock: clock.clone(),
            },
            webhook: Arc::new(WebhookService {
                feed: FeedAppender::new(
                    DynamoFeed::new(database.clone(), DELIVERY_TABLE, entropy()),
                    clock.clone(),
                ),
                deliveries: Deliveries {
                    endpoints: settings(),
                    store: DynamoDeliveryStore::new(database.clone(), DELIVERY_TABLE, entropy()),
                    queue: SqsDeliveries::new(sqs.clone(), url(DELIVERIES), url(SLOW_DELIVERIES)),
                    sender: outside.clone(),
                    bus,
                    clock: clock.clone(),
                    entropy: random(),
                },
                slow_queue_name: SLOW_DELIVERIES.to_owned(),
            }),
            key: key.expose_secret().to_owned(),
            outside,
            embedded,
            clock,
            pipes,
            meter,
            shard_iterator,
            work: Vec::new(),
        }
    }

    /// Somebody listens to everything.
    pub(super) async fn listen(&self) {
        let endpoint =
            WebhookEndpoint { event_types: Vec::new(), ..fixtures::endpoint(1, &fixtures::tenant()) };
        self.embedded.settings().put_endpoint(&endpoint, 50).await.unwrap();
    }

    /// Makes a call of the API, and all that comes of it.
    pub(super) async fn call(
        &mut self,
        method: Method,
        path: &str,
        idempotency_key: &str,
        body: &Value,
    ) -> Response {
        let mut headers = HeaderMap::new();
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        headers.insert("authorization", header(&format!("Bearer {}", self.key)));
        headers.insert("content-type", header("application/json"));
        if method == Method::POST {
            headers.insert("idempotency-key", header(idempotency_key));
        }
        let now = self.clock.now();
        let request = Request {
            body: if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) },
            method,
            path: path.to_owned(),
            query: Vec::new(),
            headers,
            request_id: "cost".to_owned(),
            received_at: now,
            deadline: now.plus_ms(29_000),
        };
        let route: Routed<Route> = booking::router().unwrap().find(&request.method, path).unwrap();
        let response = Box::pin(self.booking.handle(request, route)).await.unwrap();
        self.note(Function::Booking, 0);
        self.settle().await;
        response
    }

    /// Follows the stream and the queues until nothing is left to do, at whatever time that is.
    async fn settle(&mut self) {
        for _ in 0..MAX_STEPS {
            if let Some(record) = self.next_record() {
                assert_eq!(dispatch::handle(&self.outbox, vec![record]).await, None);
                self.note(Function::Dispatch, 0);
            } else if let Some((due_at, message)) = self.pipes.next() {
                self.clock.advance_to(due_at);
                let function = match message.queue_name.as_str() {
                    TIMERS => Function::Retry,
                    EVENTS | DELIVERIES | SLOW_DELIVERIES => Function::Webhook,
                    other => panic!("nothing of these ends in {other}: {}", message.body),
                };
                match function {
                    Function::Retry => Box::pin(self.retry.on_message(&message.body)).await.unwrap(),
                    _ => Box::pin(Arc::clone(&self.webhook).on_message(message)).await.unwrap(),
                }
                self.note(function, 1);
            } else {
                return;
            }
        }
        panic!("it never ends");
    }

    /// The time, in seconds since the epoch.
    pub(super) fn now_s(&self) -> u64 {
        self.clock.now().as_unix_ms().unsigned_abs() / 1_000
    }

    /// What was done since the last time, by the functions that did it.
    pub(super) fn take(&mut self) -> Vec<(Function, Work)> {
        std::mem::take(&mut self.work)
    }

    fn note(&mut self, function: Function, messages: u64) {
        let outside = self.outside.take();
        let work = Work::of_invocation(&self.meter.take(), self.pipes.take(), &outside, messages);
        self.work.push((function, work));
    }

    /// The stream's next record about a booking, as the template filters them.
    fn next_record(&mut self) -> Option<EventRecord> {
        loop {
            let request = json!({"ShardIterator": self.shard_iterator, "Limit": 1});
            let answer =
                self.embedded.database.get_records(serde_json::from_value(request).unwrap()).unwrap();
            self.shard_iterator = answer.next_shard_iterator.unwrap();
            let record = serde_json::to_value(answer.records.into_iter().next()?).unwrap();
            let is_of_booking = record["dynamodb"]["Keys"]["pk"]["S"].as_str().unwrap().starts_with("BKG#");
            if is_of_booking && record["eventName"] != "REMOVE" {
                return Some(serde_json::from_value(record).unwrap());
            }
        }
    }
}

/// Switches the booking table's stream on. Returns where it begins.
async fn stream(embedded: &Embedded) -> String {
    let images = StreamViewType::NewAndOldImages;
    let specification =
        StreamSpecification::builder().stream_enabled(true).stream_view_type(images).build().unwrap();
    let update = embedded.client.update_table().table_name(BOOKING_TABLE).stream_specification(specification);
    update.send().await.unwrap();
    let table =
        embedded.client.describe_table().table_name(BOOKING_TABLE).send().await.unwrap().table.unwrap();
    let arn = table.latest_stream_arn.unwrap();
    let request = json!({ "StreamArn": arn });
    let description = embedded.database.describe_stream(serde_json::from_value(request).unwrap()).unwrap();
    let description = serde_json::to_value(description).unwrap();
    let shard = &description["StreamDescription"]["Shards"][0]["ShardId"];
    let request = json!({"StreamArn": arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"});
    let answer = embedded.database.get_shard_iterator(serde_json::from_value(request).unwrap()).unwrap();
    answer.shard_iterator.unwrap()
}
