//! What a booking costs in calls to Amazon: two writes in sequence when it is confirmed, one for a replay,
//! nothing else in sequence when the process is warm.
//!
//! The function's own service runs here over the DynamoDB adapters and an embedded DynamoDB, with a log of
//! every call.

use booking::{Route, Service};
use bytes::Bytes;
use holdfast_app::bookings::{Breakers, Engine};
use holdfast_app::ports::ConfigurationStore;
use holdfast_app::rates::RequestRates;
use holdfast_app::settings::KeyOwner;
use holdfast_app::settings_cache::SettingsCache;
use holdfast_app::test_util::MemoryAvailability;
use holdfast_aws::{AwsHooks, CallLog, DynamoBookingStore, DynamoSettings};
use holdfast_domain::{ConsumerId, Mode};
use holdfast_lambda::http::{Request, Response, Routed};
use holdfast_lambda::{SystemClock, SystemEntropy};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use secrecy::ExposeSecret;

use crate::contract::embedded::{CONFIG_TABLE, Embedded, bookings_through, entropy};
use crate::contract::fixtures;
use crate::contract::outside::Outside;

type TestEngine = Engine<DynamoBookingStore, Outside, DynamoSettings, SystemClock, SystemEntropy>;
type TestService = Service<
    DynamoBookingStore,
    Outside,
    DynamoSettings,
    DynamoSettings,
    MemoryAvailability,
    SystemClock,
    SystemEntropy,
>;

struct World {
    service: TestService,
    log: CallLog,
    client: holdfast_aws::DynamoDb,
    key: String,
    _embedded: Embedded,
}

/// An engine that knows nothing of breakers yet.
fn engine(client: &holdfast_aws::DynamoDb) -> TestEngine {
    let breakers = Breakers::new(DynamoSettings::new(client.clone(), CONFIG_TABLE, entropy()));
    Engine::new(bookings_through(client), Outside::default(), breakers, SystemClock, SystemEntropy)
}

impl World {
    async fn new() -> Self {
        let embedded = Embedded::start().await;
        let settings = embedded.settings();
        settings.put_provider(&fixtures::provider("demo-clinic")).await.unwrap();
        let owner = KeyOwner::Consumer(ConsumerId::parse("demo-marketplace").unwrap());
        let (key, record) = holdfast_app::auth::new_key(owner, Mode::Test, fixtures::now(), &SystemEntropy);
        settings.put_key(&record).await.unwrap();
        let log = CallLog::new();
        let hooks = AwsHooks { call_log: Some(log.clone()), ..AwsHooks::default() };
        let client = embedded.clients(&hooks).dynamodb;
        let settings = DynamoSettings::new(client.clone(), CONFIG_TABLE, entropy());
        let engine = engine(&client);
        let (availability, rates) = (MemoryAvailability::new(), RequestRates::default());
        let (settings, counter) = (SettingsCache::new(settings.clone()), settings);
        let service = Service { engine, settings, availability, rates, counter, clock: SystemClock };
        Self { service, log, client, key: key.expose_secret().to_owned(), _embedded: embedded }
    }

    async fn book(&self, idempotency_key: &str) -> Response {
        let now = holdfast_app::ports::Clock::now(&SystemClock);
        let mut headers = HeaderMap::new();
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        headers.insert(AUTHORIZATION, header(&format!("Bearer {}", self.key)));
        headers.insert(CONTENT_TYPE, header("application/json"));
        headers.insert("idempotency-key", header(idempotency_key));
        let body = serde_json::json!({
            "provider_id": "demo-clinic",
            "slot": {
                "location_id": "main-street",
                "start": now.plus_ms(86_400_000).to_string(),
                "end": now.plus_ms(88_200_000).to_string(),
            },
            "customer": {"name": "Ada Lovelace", "email": "ada@example.com"},
            "reference": "order-1001",
        });
        // The body must be the same for every repetition; the first one's is kept.
        let body = BODY.get_or_init(|| body.to_string()).clone();
        let request = Request {
            method: Method::POST,
            path: "/v1/bookings".to_owned(),
            query: Vec::new(),
            headers,
            body: Bytes::from(body),
            request_id: "hot-path".to_owned(),
            received_at: now,
            deadline: now.plus_ms(29_000),
        };
        let routed = Routed { key: Route::Create, template: "/v1/bookings", parameters: Vec::new() };
        self.service.handle(request, routed).await.unwrap()
    }
}

static BODY: std::sync::OnceLock<String> = std::sync::OnceLock::new();

#[tokio::test]
async fn a_cold_process_reads_once_and_then_writes_twice() {
    let world = World::new().await;
    assert_eq!(world.book("first").await.status, 201);
    assert_eq!(world.log.in_sequence(), 3);
    assert_eq!(world.log.take(), ["BatchGetItem", "PutItem", "UpdateItem"]);
}

#[tokio::test]
async fn a_warm_process_writes_twice_and_once_for_a_replay() {
    let world = World::new().await;
    world.book("warms-up").await;
    world.log.take();
    let first = world.book("key").await;
    assert_eq!(first.status, 201);
    assert_eq!(world.log.in_sequence(), 2);
    assert_eq!(world.log.take(), ["PutItem", "UpdateItem"]);
    let replay = world.book("key").await;
    assert_eq!(world.log.in_sequence(), 1);
    assert_eq!(world.log.take(), ["PutItem"]);
    assert_eq!((replay.status, replay.body), (first.status, first.body));
    assert_eq!(replay.headers["idempotency-replayed"], "true");
}

#[tokio::test]
async fn requests_are_counted_ten_at_a_time_and_nobody_waits_for_it() {
    const REQUESTS: usize = 40;
    let world = World::new().await;
    world.book("warms-up").await;
    world.log.take();
    let mut calls = Vec::new();
    for number in 0..REQUESTS {
        assert_eq!(world.book(&format!("key-{number}")).await.status, 201);
        assert_eq!(world.log.in_sequence(), 2);
        calls.extend(world.log.take());
    }
    // A minute that ends meanwhile leaves a chunk unreported.
    let reports = calls.iter().filter(|call| **call == "UpdateItem").count() - REQUESTS;
    assert!((REQUESTS / 10 - 1..=REQUESTS / 10).contains(&reports), "{calls:?}");
}

#[tokio::test]
async fn an_old_breaker_state_is_refreshed_beside_the_first_write() {
    let mut world = World::new().await;
    world.book("warms-up").await;
    // Keys and providers stay warm; what was known of the breaker is forgotten.
    world.service.engine = engine(&world.client);
    world.log.take();
    assert_eq!(world.book("key").await.status, 201);
    assert_eq!(world.log.in_sequence(), 2, "the refresh runs beside the write");
    let mut calls = world.log.take();
    calls.sort();
    assert_eq!(calls, ["GetItem", "PutItem", "UpdateItem"]);
}
