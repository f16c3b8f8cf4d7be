//! The same promise, a booking made once however often it is asked for, kept in other ways: what their writes cost.
//!
//! Only what differs is counted: the calls of the tables around the provider's. Lists, events and webhooks would need
//! the same indexes and the same functions.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, Put, ScalarAttributeType,
    TransactWriteItem, Update,
};
use holdfast_aws::AwsHooks;
use holdfast_aws::DynamoDb;

use super::pipes::Sent;
use super::work::{DATABASE_CALL_MS, Function, Work, float, prices};
use crate::contract::embedded::{Embedded, clients_of};
use crate::contract::metering_proxy::{Meter, metering_proxy};

const TABLE: &str = "alternative";
/// About what the README's first booking takes, and its answer, in bytes.
const BOOKING_BYTES: usize = 600;
const ANSWER_BYTES: usize = 600;

/// What one request takes of the tables themselves, on average.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    pub(super) read_units: f64,
    pub(super) write_units: f64,
    pub(super) calls: f64,
}

impl Cost {
    /// What a function did in so many invocations, for one. What it waited for is not counted.
    pub(super) fn of(work: &Work, times: u64) -> Self {
        let for_one = |of_all: u64| float(of_all) / float(times);
        Self {
            read_units: for_one(work.read_half_units) / 2.0,
            write_units: for_one(work.table_write_half_units) / 2.0,
            calls: for_one(work.database_calls),
        }
    }

    /// Of a million, with what Lambda costs while it waits for them.
    pub(super) fn usd_a_million(&self) -> f64 {
        let seconds = self.calls * float(DATABASE_CALL_MS) / 1_000.0;
        self.write_units * prices::WRITE_UNIT
            + self.read_units * prices::READ_UNIT
            + seconds * Function::Booking.memory_gb() * prices::GB_SECOND
    }
}

/// A way to do it.
pub(super) struct Alternative {
    pub(super) name: &'static str,
    /// A booking that is confirmed at once.
    pub(super) confirmed: Cost,
    /// The same request again.
    pub(super) again: Cost,
    /// What Holdfast's cost for the same.
    ours: (Cost, Cost),
}

impl Alternative {
    /// What it costs more than Holdfast for a million bookings and what follows them. Each write of a booking's status
    /// costs as much more as the first and the last of a confirmed one.
    pub(super) fn usd_a_million_more(&self, mix: &[(&str, f64)]) -> f64 {
        let (ours, ours_again) = self.ours;
        let more = self.confirmed.usd_a_million() - ours.usd_a_million();
        let more_again = self.again.usd_a_million() - ours_again.usd_a_million();
        let of = |(what, share): &(&str, f64)| match *what {
            super::READ => 0.0,
            super::REPLAYED => more_again * share,
            _ => more * share,
        };
        mix.iter().map(of).sum()
    }
}

/// A table and its meter.
struct Counted {
    client: DynamoDb,
    meter: Meter,
    _embedded: Embedded,
}

impl Counted {
    async fn new() -> Self {
        let embedded = Embedded::start().await;
        let key = KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash).build().unwrap();
        let attribute = AttributeDefinition::builder().attribute_name("pk");
        let attribute = attribute.attribute_type(ScalarAttributeType::S).build().unwrap();
        let create =
            embedded.client.create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
        create.key_schema(key).attribute_definitions(attribute).send().await.unwrap();
        let (address, meter) = metering_proxy(embedded.address).await;
        let client = clients_of(address, &AwsHooks::default()).dynamodb;
        Self { client, meter, _embedded: embedded }
    }

    fn take(&self) -> Cost {
        Cost::of(&Work::of_invocation(&self.meter.take(), Sent::default(), &[], 0), 1)
    }

    /// Makes one item for the first time. Whether it was made.
    async fn make(&self, pk: &str, bytes: usize) -> bool {
        let put = self.client.put_item().table_name(TABLE).item("pk", text(pk)).item("d", filler(bytes));
        put.condition_expression("attribute_not_exists(pk)").send().await.is_ok()
    }

    async fn change(&self, pk: &str, attribute: &str, bytes: usize) {
        let update = self.client.update_item().table_name(TABLE).key("pk", text(pk));
        let update = update.condition_expression("attribute_exists(pk)");
        let update = update.update_expression("SET #a = :a").expression_attribute_names("#a", attribute);
        update.expression_attribute_values(":a", filler(bytes)).send().await.unwrap();
    }

    async fn make_two(&self) {
        let put = |pk: &str, bytes| {
            let put = Put::builder().table_name(TABLE).item("pk", text(pk)).item("d", filler(bytes));
            let put = put.condition_expression("attribute_not_exists(pk)").build().unwrap();
            TransactWriteItem::builder().put(put).build()
        };
        let both = self.client.transact_write_items();
        both.transact_items(put("key", 64))
            .transact_items(put("booking", BOOKING_BYTES))
            .send()
            .await
            .unwrap();
    }

    async fn change_two(&self) {
        let update = |pk: &str, bytes| {
            let update =
                Update::builder().table_name(TABLE).key("pk", text(pk)).update_expression("SET s = :s");
            let update = update.condition_expression("attribute_exists(pk)");
            let update = update.expression_attribute_values(":s", filler(bytes)).build().unwrap();
            TransactWriteItem::builder().update(update).build()
        };
        let both = self.client.transact_write_items();
        both.transact_items(update("key", ANSWER_BYTES))
            .transact_items(update("booking", 64))
            .send()
            .await
            .unwrap();
    }

    /// Reads what is sure to be the last that was written.
    async fn read(&self, pk: &str) {
        let get = self.client.get_item().table_name(TABLE).key("pk", text(pk)).consistent_read(true);
        get.send().await.unwrap().item.unwrap();
    }
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn filler(bytes: usize) -> AttributeValue {
    AttributeValue::S("x".repeat(bytes))
}

/// A record of the request and the booking, made and changed together; whoever repeats a request is told by the record.
async fn two_item_transactions() -> (Cost, Cost) {
    let table = Counted::new().await;
    table.make_two().await;
    table.change_two().await;
    let confirmed = table.take();
    table.read("key").await;
    (confirmed, table.take())
}

/// Powertools for AWS Lambda, as the yardsticks of tests/bench use it: its record is made before the handler and changed
/// after it ("Idempotency", persistence layer for DynamoDB); the handler makes a booking and changes it. Whoever repeats
/// a request is refused the record, and is answered with it.
async fn powertools() -> (Cost, Cost) {
    let table = Counted::new().await;
    assert!(table.make("record", 64).await);
    assert!(table.make("booking", BOOKING_BYTES).await);
    table.change("booking", "status", 64).await;
    table.change("record", "data", ANSWER_BYTES).await;
    let confirmed = table.take();
    assert!(!table.make("record", 64).await);
    (confirmed, table.take())
}

/// Holdfast, which takes this for a booking and for its repetition, and the others.
pub(super) async fn beside(ours: (Cost, Cost)) -> Vec<Alternative> {
    let named = |name, (confirmed, again)| Alternative { name, confirmed, again, ours };
    vec![
        named("Holdfast: one item", ours),
        named("two-item transactions", two_item_transactions().await),
        named("Powertools idempotency and a table", powertools().await),
    ]
}
