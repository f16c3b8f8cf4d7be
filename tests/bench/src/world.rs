//! What all functions are measured in: the database, the provider, who may book, and the events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use holdfast_app::auth::new_key;
use holdfast_app::ports::{ConfigurationStore, Entropy};
use holdfast_app::settings::{ConsumerSettings, KeyOwner, ProviderAuth, ProviderSettings};
use holdfast_aws::{AwsClients, AwsConfig, AwsCredentials, DynamoSettings};
use holdfast_domain::{ConsumerId, Mode, ProviderId, Timestamp};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::Failure;
use crate::database::{CONFIG_TABLE, Database};
use crate::provider::{Provider, TOKEN};
use crate::runtime_api::unix_ms;

/// The region that everything pretends to be in.
pub const REGION: &str = "eu-central-1";

/// The most that a consumer may be allowed, so that the limit is counted and never reached.
const REQUESTS_PER_SECOND: u32 = 10_000;

const PROVIDER_ID: &str = "demo-clinic";
const DAY_MS: u64 = 86_400_000;
const HALF_AN_HOUR_MS: u64 = 1_800_000;

/// The system's random numbers.
struct Chance;

impl Entropy for Chance {
    fn bytes16(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        if let Err(error) = getrandom::fill(&mut bytes) {
            panic!("no random numbers: {error}");
        }
        bytes
    }
}

/// Everything but the function.
#[derive(Debug)]
pub struct World {
    /// DynamoDB.
    pub database: Database,
    /// Who is booked.
    pub provider: Provider,
    key: String,
    body: String,
    next: AtomicU64,
}

impl World {
    /// Starts it, with a consumer and a provider set up as administration does.
    pub async fn start() -> Result<Self, Failure> {
        let (database, provider) = (Database::start().await?, Provider::start().await?);
        let now = Timestamp::from_unix_ms(i64::try_from(unix_ms())?)?;
        let key = seed(&database, &provider, now).await?;
        let body = json!({
            "provider_id": PROVIDER_ID,
            "slot": {
                "location_id": "main-street",
                "start": now.plus_ms(DAY_MS).to_string(),
                "end": now.plus_ms(DAY_MS + HALF_AN_HOUR_MS).to_string(),
            },
            "customer": {"name": "Ada Lovelace", "email": "ada@example.com"},
            "reference": "order-1001",
        });
        Ok(Self { database, provider, key, body: body.to_string(), next: AtomicU64::new(1) })
    }

    /// An idempotency key that was never used.
    pub fn new_key(&self) -> String {
        format!("order-{:08}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The README's first booking as API Gateway brings it (HTTP API, payload version 2.0).
    pub fn event(&self, idempotency_key: &str) -> Bytes {
        let event = json!({
            "version": "2.0",
            "routeKey": "POST /v1/bookings",
            "rawPath": "/v1/bookings",
            "rawQueryString": "",
            "headers": {
                "accept": "*/*",
                "authorization": format!("Bearer {}", self.key),
                "content-length": self.body.len().to_string(),
                "content-type": "application/json",
                "host": "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com",
                "idempotency-key": idempotency_key,
                "user-agent": "curl/8.5.0",
                "x-amzn-trace-id": "Root=1-6743a1b2-0123456789abcdef01234567",
                "x-forwarded-for": "203.0.113.7",
                "x-forwarded-port": "443",
                "x-forwarded-proto": "https",
            },
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "a1b2c3d4e5",
                "domainName": "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com",
                "domainPrefix": "a1b2c3d4e5",
                "http": {
                    "method": "POST",
                    "path": "/v1/bookings",
                    "protocol": "HTTP/1.1",
                    "sourceIp": "203.0.113.7",
                    "userAgent": "curl/8.5.0",
                },
                "requestId": "BmzhGh4AFiAEJ0A=",
                "routeKey": "POST /v1/bookings",
                "stage": "$default",
                "time": "21/Nov/2026:10:47:45 +0000",
                "timeEpoch": unix_ms(),
            },
            "body": self.body,
            "isBase64Encoded": false,
        });
        Bytes::from(event.to_string())
    }
}

/// Puts consumer, provider and key where the function reads them, through the product's own adapter. The key is
/// returned.
async fn seed(database: &Database, provider: &Provider, now: Timestamp) -> Result<String, Failure> {
    let credentials = AwsCredentials {
        access_key_id: "bench".to_owned(),
        secret_access_key: "bench".into(),
        session_token: None,
    };
    let endpoint_url = Some(format!("http://{}", database.address));
    let config = AwsConfig { region: REGION.to_owned(), endpoint_url, credentials };
    let clients = AwsClients::new(&config)?;
    let settings = DynamoSettings::new(clients.dynamodb, CONFIG_TABLE, Arc::new(Chance));
    let consumer_id = ConsumerId::parse("demo-marketplace")?;
    let consumer = ConsumerSettings {
        consumer_id: consumer_id.clone(),
        display_name: "Demo Marketplace".to_owned(),
        requests_per_second: Some(REQUESTS_PER_SECOND),
    };
    settings.put_consumer(&consumer).await?;
    let usual = ProviderSettings::usual(ProviderId::parse(PROVIDER_ID)?, Mode::Test, provider.url.as_str());
    let auth = ProviderAuth::Bearer { token: TOKEN.into() };
    settings.put_provider(&ProviderSettings { auth, ..usual }).await?;
    let (key, record) = new_key(KeyOwner::Consumer(consumer_id), Mode::Test, now, &Chance);
    settings.put_key(&record).await?;
    Ok(key.expose_secret().to_owned())
}
