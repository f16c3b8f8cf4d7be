//! An embedded DynamoDB with the deployment's tables, for one test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, TimeToLiveSpecification,
};
use holdfast_app::test_util::{SeededEntropy, TestClock};
use holdfast_aws::{
    AwsClients, AwsConfig, AwsCredentials, AwsHooks, CREATED_INDEX, DynamoAvailability, DynamoBookingStore,
    DynamoDb, DynamoDeliveryStore, DynamoFeed, DynamoMailbox, DynamoSettings, OVERDUE_INDEX, REFERENCE_INDEX,
    TENANT_INDEX,
};

use super::fixtures::now;

pub(crate) const BOOKING_TABLE: &str = "bookings";
pub(crate) const CONFIG_TABLE: &str = "config";
pub(crate) const DELIVERY_TABLE: &str = "deliveries";
pub(crate) const AVAILABILITY_TABLE: &str = "availability";

/// For how many days the tests' bookings are kept.
pub(crate) const RETENTION_DAYS: u32 = 400;

/// The server, its tables and a client. The server ends with the test's runtime.
pub(crate) struct Embedded {
    pub(crate) database: dynoxide::Database,
    pub(crate) address: SocketAddr,
    pub(crate) client: DynamoDb,
    _counted: Counted,
}

/// How many databases there are.
static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// Counts a database for as long as there is one.
#[derive(Debug)]
struct Counted;

impl Counted {
    fn begin() -> Self {
        DATABASES.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        DATABASES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many databases there are: whoever has one keeps a processor busy.
pub(crate) fn databases() -> usize {
    DATABASES.load(Ordering::Relaxed)
}

/// How many times as long as usual tests wait for a database, which shares the processors with all the others.
const PATIENCE: u32 = 20;

/// Clients that call the server at an address, patiently unless the hooks say otherwise, whatever calls of other tests
/// fail.
pub(crate) fn clients_of(address: SocketAddr, hooks: &AwsHooks) -> AwsClients {
    let credentials = AwsCredentials {
        access_key_id: "test".to_owned(),
        secret_access_key: "test".into(),
        session_token: None,
    };
    let endpoint_url = Some(format!("http://{address}"));
    let config = AwsConfig { region: "eu-central-1".to_owned(), endpoint_url, credentials };
    let time_limits_times = hooks.time_limits_times.or(Some(PATIENCE));
    let hooks = AwsHooks { time_limits_times, ..hooks.clone() };
    AwsClients::with_hooks(&config, &hooks).unwrap()
}

/// Random numbers that differ between the stores of one test, as those of two processes do.
pub(crate) fn entropy() -> Arc<SeededEntropy> {
    static SEED: AtomicU64 = AtomicU64::new(1);
    Arc::new(SeededEntropy::new(SEED.fetch_add(1, Ordering::Relaxed) << 32))
}

impl Embedded {
    pub(crate) async fn start() -> Self {
        let counted = Counted::begin();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let database = dynoxide::Database::memory().unwrap();
        tokio::spawn(dynoxide::server::serve_on(listener, database.clone()));
        let client = clients_of(address, &AwsHooks::default()).dynamodb;
        create_tables(&client).await;
        Self { database, address, client, _counted: counted }
    }

    /// Clients of their own, with hooks.
    pub(crate) fn clients(&self, hooks: &AwsHooks) -> AwsClients {
        clients_of(self.address, hooks)
    }

    pub(crate) fn bookings(&self) -> DynamoBookingStore {
        bookings_through(&self.client)
    }

    pub(crate) fn settings(&self) -> DynamoSettings {
        DynamoSettings::new(self.client.clone(), CONFIG_TABLE, entropy())
    }

    pub(crate) fn feed(&self) -> DynamoFeed {
        DynamoFeed::new(self.client.clone(), DELIVERY_TABLE, entropy())
    }

    pub(crate) fn mailbox(&self) -> DynamoMailbox {
        DynamoMailbox::new(self.client.clone(), DELIVERY_TABLE, entropy())
    }

    pub(crate) fn availability(&self) -> DynamoAvailability {
        DynamoAvailability::new(self.client.clone(), AVAILABILITY_TABLE)
    }

    pub(crate) fn deliveries(&self) -> DynamoDeliveryStore {
        DynamoDeliveryStore::new(self.client.clone(), DELIVERY_TABLE, entropy())
    }
}

/// The store of bookings through a client.
pub(crate) fn bookings_through(client: &DynamoDb) -> DynamoBookingStore {
    let clock = Arc::new(TestClock::starting_at(now()));
    DynamoBookingStore::new(client.clone(), BOOKING_TABLE, RETENTION_DAYS, clock, entropy())
}

fn attribute(name: &str, kind: ScalarAttributeType) -> AttributeDefinition {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().unwrap()
}

fn key(name: &str, kind: KeyType) -> KeySchemaElement {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap()
}

fn index(name: &str, hash: &str, range: &str) -> GlobalSecondaryIndex {
    GlobalSecondaryIndex::builder()
        .index_name(name)
        .key_schema(key(hash, KeyType::Hash))
        .key_schema(key(range, KeyType::Range))
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()
        .unwrap()
}

pub(crate) async fn create_tables(client: &DynamoDb) {
    client
        .create_table()
        .table_name(BOOKING_TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("pk", ScalarAttributeType::S))
        .attribute_definitions(attribute("due_shard", ScalarAttributeType::S))
        .attribute_definitions(attribute("due_at", ScalarAttributeType::N))
        .attribute_definitions(attribute("t", ScalarAttributeType::S))
        .attribute_definitions(attribute("fd", ScalarAttributeType::B))
        .attribute_definitions(attribute("ca", ScalarAttributeType::N))
        .key_schema(key("pk", KeyType::Hash))
        .global_secondary_indexes(index(OVERDUE_INDEX, "due_shard", "due_at"))
        .global_secondary_indexes(index(TENANT_INDEX, "t", "ca"))
        .global_secondary_indexes(index(REFERENCE_INDEX, "fd", "ca"))
        .send()
        .await
        .unwrap();
    for table in [CONFIG_TABLE, DELIVERY_TABLE, AVAILABILITY_TABLE] {
        let create = client
            .create_table()
            .table_name(table)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute("pk", ScalarAttributeType::S))
            .attribute_definitions(attribute("sk", ScalarAttributeType::S))
            .key_schema(key("pk", KeyType::Hash))
            .key_schema(key("sk", KeyType::Range));
        let create = match table {
            DELIVERY_TABLE => create
                .attribute_definitions(attribute("ca", ScalarAttributeType::N))
                .global_secondary_indexes(index(CREATED_INDEX, "pk", "ca")),
            _ => create,
        };
        create.send().await.unwrap();
    }
    for table in [BOOKING_TABLE, CONFIG_TABLE, DELIVERY_TABLE, AVAILABILITY_TABLE] {
        let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name("ttl").build().unwrap();
        client.update_time_to_live().table_name(table).time_to_live_specification(ttl).send().await.unwrap();
    }
}
