//! How long a warm answer of ten locations takes, as a multiple of a single bare `Query` of the same bytes: the
//! function's own handler over an embedded DynamoDB (a process of its own), the two in turns, so that the ratio
//! does not depend on the machine.
//!
//! ```sh
//! cargo run --release --package holdfast-tests --example bench-availability
//! ```
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "a program for the terminal that reports ratios"
)]

use std::error::Error;
use std::process::Stdio;
use std::time::{Duration, Instant};

use availability::{Route, Service};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use bytes::Bytes;
use futures_util::future::join_all;
use holdfast_app::auth::new_key;
use holdfast_app::availability::Availability;
use holdfast_app::ports::{
    AvailabilityCall, AvailabilityFailure, AvailabilityGateway, AvailabilityStore, Clock, ConfigurationStore,
    KnownAvailability, Place,
};
use holdfast_app::rates::{MAX_REQUESTS_PER_SECOND, RequestRates};
use holdfast_app::settings::{ConsumerSettings, KeyOwner, ProviderSettings};
use holdfast_app::settings_cache::SettingsCache;
use holdfast_aws::{AwsClients, AwsConfig, AwsCredentials, DynamoAvailability, DynamoDb, DynamoSettings};
use holdfast_domain::{AttemptError, ConsumerId, Mode, OpenSlot, ProviderId, Timestamp, Zone};
use holdfast_lambda::http::{Request, Routed};
use holdfast_lambda::{SystemClock, SystemEntropy};
use http::{HeaderMap, HeaderValue, Method};
use secrecy::ExposeSecret;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const AVAILABILITY: &str = "availability";
const CONFIG: &str = "config";

/// The partition that the bare query reads.
const BARE: &str = "BARE";

/// How many answers of each kind are timed.
const ROUNDS: usize = 400;

/// Answers before the first that is timed.
const WARM_UP: usize = 40;

const SLOTS_A_DAY: u64 = 24;
const HALF_AN_HOUR_MS: u64 = 30 * 60 * 1_000;

type Failure = Box<dyn Error>;
type TestService = Service<DynamoAvailability, Nobody, DynamoSettings, SystemClock, SystemEntropy>;

/// A provider that nobody should have to ask.
#[derive(Debug)]
struct Nobody;

impl AvailabilityGateway for Nobody {
    async fn open_slots(&self, _: AvailabilityCall<'_>) -> Result<Vec<OpenSlot>, AvailabilityFailure> {
        Err(AvailabilityFailure { error: AttemptError::TargetRefused, retry_after_ms: None })
    }
}

async fn serve() -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    dynoxide::server::serve_on(listener, dynoxide::Database::memory()?).await;
    Ok(())
}

async fn create_table(client: &DynamoDb, name: &str) -> Result<(), Failure> {
    let mut create = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (attribute, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
        let kind_of_value = ScalarAttributeType::S;
        create = create
            .attribute_definitions(
                AttributeDefinition::builder()
                    .attribute_name(attribute)
                    .attribute_type(kind_of_value)
                    .build()?,
            )
            .key_schema(KeySchemaElement::builder().attribute_name(attribute).key_type(kind).build()?);
    }
    create.send().await?;
    Ok(())
}

fn location(number: usize) -> String {
    format!("street-{number}")
}

/// Three weeks of a location that is open around the clock by the hour, some slots taken.
fn three_weeks(number: usize, as_of: Timestamp) -> Result<KnownAvailability, Failure> {
    let zone = Zone::parse("Europe/Rome")?;
    let window = zone.days(zone.date_at(as_of), 22);
    let seed = u64::try_from(number)?;
    let slots = (0..21 * SLOTS_A_DAY).filter(|slot| (slot * 7 + seed) % 11 != 0).map(|slot| {
        let start = window.from.plus_ms(slot * 2 * HALF_AN_HOUR_MS);
        OpenSlot {
            start,
            end: start.plus_ms(HALF_AN_HOUR_MS),
            resource_id: Some("doctor-1".into()),
            service_id: None,
            capacity: Some(1),
            price: None,
            availability_id: None,
        }
    });
    Ok(KnownAvailability { as_of, window, slots: slots.collect(), zone })
}

struct World {
    service: TestService,
    client: DynamoDb,
    key: String,
    provider_id: ProviderId,
}

impl World {
    async fn new(url: String) -> Result<Self, Failure> {
        let credentials = AwsCredentials {
            access_key_id: "test".to_owned(),
            secret_access_key: "test".into(),
            session_token: None,
        };
        let config = AwsConfig { region: "eu-central-1".to_owned(), endpoint_url: Some(url), credentials };
        let client = AwsClients::new(&config)?.dynamodb;
        for table in [AVAILABILITY, CONFIG] {
            create_table(&client, table).await?;
        }
        let settings = DynamoSettings::new(client.clone(), CONFIG, std::sync::Arc::new(SystemEntropy));
        let provider_id = ProviderId::parse("clinic")?;
        let provider = ProviderSettings::usual(provider_id.clone(), Mode::Test, "http://clinic.invalid");
        settings.put_provider(&provider).await?;
        let consumer_id = ConsumerId::parse("shop")?;
        settings
            .put_consumer(&ConsumerSettings {
                consumer_id: consumer_id.clone(),
                display_name: "Shop".to_owned(),
                requests_per_second: Some(MAX_REQUESTS_PER_SECOND),
            })
            .await?;
        let owner = KeyOwner::Consumer(consumer_id);
        let now = SystemClock.now();
        let (key, record) = new_key(owner, Mode::Test, now, &SystemEntropy);
        settings.put_key(&record).await?;
        let store = DynamoAvailability::new(client.clone(), AVAILABILITY);
        for number in 0..50 {
            let place = Place { provider_id: provider_id.clone(), location_id: location(number) };
            store.replace(&place, &three_weeks(number, now)?).await?;
        }
        let availability = Availability::new(store, Nobody, settings.clone(), SystemClock, SystemEntropy);
        let service = Service {
            availability,
            configuration: settings.clone(),
            settings: SettingsCache::new(settings),
            rates: RequestRates::default(),
            clock: SystemClock,
            entropy: SystemEntropy,
        };
        Ok(Self { service, client, key: key.expose_secret().to_owned(), provider_id })
    }

    /// Puts as many bytes as the items of so many locations have into the partition of the bare query.
    async fn put_bare(&self, locations: usize) -> Result<usize, Failure> {
        let mut bytes = 0;
        for number in 0..locations {
            let pk = self.client.scan().table_name(AVAILABILITY).send().await?;
            let own = |item: &std::collections::HashMap<String, AttributeValue>| {
                let key = item.get("pk").and_then(|pk| pk.as_s().ok());
                key.is_some_and(|key| key.ends_with(&format!("#{}", location(number))))
            };
            for item in pk.items().iter().filter(|item| own(item)) {
                bytes += item.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>();
            }
        }
        let item = self.client.put_item().table_name(AVAILABILITY);
        item.item("pk", AttributeValue::S(BARE.to_owned()))
            .item("sk", AttributeValue::S("S".to_owned()))
            .item("bytes", AttributeValue::B(Blob::new(vec![7; bytes])))
            .send()
            .await?;
        Ok(bytes)
    }

    async fn bare(&self) -> Result<(), Failure> {
        let query = self.client.query().table_name(AVAILABILITY).key_condition_expression("pk = :pk");
        let found =
            query.expression_attribute_values(":pk", AttributeValue::S(BARE.to_owned())).send().await?;
        if found.count == 1 { Ok(()) } else { Err("the bare item is gone".into()) }
    }

    async fn whole(&self, locations: usize) -> Result<usize, Failure> {
        let now = SystemClock.now();
        let names: Vec<String> = (0..locations).map(location).collect();
        let query = [
            ("provider_id", self.provider_id.as_str()),
            ("location_ids", &names.join(",")),
            ("days", "21"),
            ("allow_stale", "true"),
        ];
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {}", self.key))?);
        let request = Request {
            method: Method::GET,
            path: "/v1/availability".to_owned(),
            query: query.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            headers,
            body: Bytes::new(),
            request_id: "bench".to_owned(),
            received_at: now,
            deadline: now.plus_ms(29_000),
        };
        let routed =
            Routed { key: Route::Availability, template: "/v1/availability", parameters: Vec::new() };
        let answer = self.service.handle(request, routed).await?;
        if answer.status.as_u16() == 200 { Ok(answer.body.len()) } else { Err(answer.status.as_str().into()) }
    }
}

fn size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
        AttributeValue::B(blob) => blob.as_ref().len(),
        _ => 0,
    }
}

async fn timed<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<Duration, Failure> {
    let begun = Instant::now();
    work.await?;
    Ok(begun.elapsed())
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_mul(percent) / 100).copied().unwrap_or_default()
}

async fn compare(world: &World, locations: usize) -> Result<(), Failure> {
    let bytes = world.put_bare(locations).await?;
    let body = world.whole(locations).await?;
    for _ in 0..WARM_UP {
        world.bare().await?;
        world.whole(locations).await?;
    }
    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(timed(world.bare()).await?);
        whole.push(timed(world.whole(locations)).await?);
    }
    println!("{locations} locations: {bytes} bytes stored, an answer of {body} bytes");
    for percent in [50, 99] {
        let (bare, whole) = (percentile(&mut bare, percent), percentile(&mut whole, percent));
        println!(
            "  p{percent}: a bare query {:>6.2} ms, the answer {:>6.2} ms: {:.1} times",
            bare.as_secs_f64() * 1e3,
            whole.as_secs_f64() * 1e3,
            whole.as_secs_f64() / bare.as_secs_f64()
        );
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return serve().await;
    }
    let mut database = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let printed = database.stdout.take().ok_or("the database prints nowhere")?;
    let url = BufReader::new(printed).lines().next_line().await?.ok_or("the database ended")?;
    let world = World::new(url).await?;
    for locations in [1, 10, 50] {
        Box::pin(compare(&world, locations)).await?;
    }
    // Beside it, ten bare queries at once, as the answer of ten locations makes them.
    world.put_bare(1).await?;
    let mut ten = Vec::new();
    for _ in 0..ROUNDS {
        ten.push(
            timed(async {
                join_all((0..10).map(|_| world.bare())).await.into_iter().collect::<Result<Vec<_>, _>>()
            })
            .await?,
        );
    }
    let ten = percentile(&mut ten, 50);
    println!("ten bare queries at once of one location's bytes: p50 {:.2} ms", ten.as_secs_f64() * 1e3);
    Ok(())
}
