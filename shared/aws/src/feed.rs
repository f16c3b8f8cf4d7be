//! Feeds in DynamoDB: one partition of the table of deliveries for each tenant, with its events by number and
//! the counter of the numbers.
//!
//! A transaction writes the counter on the condition that it is as it was read, a marker for every event on the
//! condition that there is none, and the entries. So numbers have no gaps, no event has two, and what goes
//! wrong leaves nothing behind. TTL removes entries and markers; the counter stays, for numbers never begin anew.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::{Put, TransactWriteItem, Update};
use holdfast_app::ports::{
    Entropy, EventFeed, FEED_RETENTION_MS, FeedEntry, FeedPage, MAX_APPENDED, NewEntry, StoreError,
};
use holdfast_domain::{EventId, Tenant, Timestamp};
use serde::{Deserialize, Serialize};

use crate::DynamoDb;
use crate::batch::{batch_get, jittered_ms};
use crate::error::{incomplete_request, store_error};
use crate::item::{PK, SK, SdkItem, from_sdk_item, key, number, text, to_sdk_item};
use crate::transact::{self, Transacted, Tried, token, try_transact};

const WHAT: &str = "feed";
const MS_PER_SECOND: i64 = 1_000;

/// For how long items are kept beyond the time for which events are shown, in milliseconds: a day, so that no
/// difference of clocks makes a gap in what is shown.
const EXTRA_MS: u64 = 24 * 60 * 60 * 1_000;

/// The sort key of the counter. It sorts before every number.
const COUNTER_SK: &str = "#LAST";

/// The sort key of markers.
const MARKER_SK: &str = "#";

/// The counter's last number.
const LAST: &str = "last";

/// When the entry of that number was appended.
const LAST_AT: &str = "at";

/// How often a transaction is tried against others who append for the same tenant.
const MAX_TRIES: u32 = 40;

/// The bound of the first pause between two tries, in milliseconds; it doubles, with full jitter.
const FIRST_PAUSE_MS: u64 = 10;

/// How often the bound of the pauses doubles at the most: up to 320 ms.
const MAX_DOUBLINGS: u32 = 5;

#[derive(Serialize, Deserialize)]
struct EntryItem {
    pk: String,
    sk: String,
    event_id: String,
    event_type: String,
    body: String,
    at: i64,
    previous_at: i64,
    ttl: i64,
}

/// Says that an event has a number.
#[derive(Serialize)]
struct MarkerItem {
    pk: String,
    sk: &'static str,
    number: u64,
    ttl: i64,
}

#[derive(Deserialize)]
struct CounterItem {
    last: u64,
    at: i64,
}

/// The last number and when it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counter {
    last: u64,
    at: Timestamp,
}

fn partition_key(tenant: &Tenant) -> String {
    format!("FEED#{tenant}")
}

fn marker_key(tenant: &Tenant, event_id: &EventId) -> String {
    format!("FEEDID#{tenant}#{event_id}")
}

/// A number as a sort key: as many digits as the largest one has.
fn digits(number: u64) -> String {
    format!("{number:020}")
}

fn ttl(at: Timestamp) -> i64 {
    at.plus_ms(FEED_RETENTION_MS).plus_ms(EXTRA_MS).as_unix_ms() / MS_PER_SECOND
}

fn corrupt(attribute: &str) -> StoreError {
    StoreError::Corrupt(format!("{WHAT}: attribute {attribute}"))
}

fn time(attribute: &str, unix_ms: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_unix_ms(unix_ms).map_err(|_| corrupt(attribute))
}

fn counter_of(item: SdkItem) -> Result<Counter, StoreError> {
    let item: CounterItem = from_sdk_item(WHAT, item)?;
    Ok(Counter { last: item.last, at: time(LAST_AT, item.at)? })
}

fn entry_of(item: SdkItem) -> Result<FeedEntry, StoreError> {
    let item: EntryItem = from_sdk_item(WHAT, item)?;
    Ok(FeedEntry {
        number: item.sk.parse().map_err(|_| corrupt(SK))?,
        at: time("at", item.at)?,
        previous_at: time("previous_at", item.previous_at)?,
        event: NewEntry {
            event_id: EventId::parse(&item.event_id).map_err(|_| corrupt("event_id"))?,
            event_type: item.event_type,
            body: item.body,
        },
    })
}

/// What is there before something is appended.
struct Before<'a> {
    counter: Option<Counter>,
    /// The events that have no number yet, each once.
    new: Vec<&'a NewEntry>,
}

/// Feeds in a DynamoDB table.
#[derive(Clone)]
pub struct DynamoFeed {
    client: DynamoDb,
    table: String,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for DynamoFeed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DynamoFeed").field("table", &self.table).finish_non_exhaustive()
    }
}

impl DynamoFeed {
    /// The feeds in `table`.
    pub fn new(client: DynamoDb, table: impl Into<String>, entropy: Arc<dyn Entropy>) -> Self {
        Self { client, table: table.into(), entropy }
    }

    async fn before<'a>(&self, tenant: &Tenant, events: &'a [NewEntry]) -> Result<Before<'a>, StoreError> {
        let mut wanted = BTreeSet::new();
        let mut new: Vec<&NewEntry> =
            events.iter().filter(|event| wanted.insert(marker_key(tenant, &event.event_id))).collect();
        let mut keys = vec![key(partition_key(tenant), COUNTER_SK)];
        keys.extend(wanted.iter().map(|marker| key(marker, MARKER_SK)));
        let found = batch_get(&self.client, &self.table, self.entropy.as_ref(), keys).await?;
        let mut counter = None;
        for item in found {
            if item.get(SK) == Some(&text(COUNTER_SK)) {
                counter = Some(counter_of(item)?);
            } else {
                let is_marked =
                    |event: &NewEntry| item.get(PK) == Some(&text(marker_key(tenant, &event.event_id)));
                new.retain(|event| !is_marked(event));
            }
        }
        Ok(Before { counter, new })
    }

    /// Counts up to `next` if nobody else has counted since.
    fn count(
        &self,
        tenant: &Tenant,
        seen: Option<Counter>,
        next: Counter,
    ) -> Result<TransactWriteItem, StoreError> {
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(partition_key(tenant), COUNTER_SK)))
            .update_expression("SET #last = :last, #at = :at")
            .expression_attribute_names("#last", LAST)
            .expression_attribute_names("#at", LAST_AT)
            .expression_attribute_values(":last", number(next.last))
            .expression_attribute_values(":at", number(next.at.as_unix_ms()));
        let update = match seen {
            None => update.condition_expression("attribute_not_exists(#last)"),
            Some(seen) => update
                .condition_expression("#last = :seen")
                .expression_attribute_values(":seen", number(seen.last)),
        };
        let update = update.build().map_err(|_| incomplete_request(transact::CALL))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// Writes an item that must not be there yet.
    fn put(&self, item: SdkItem) -> Result<TransactWriteItem, StoreError> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .build()
            .map_err(|_| incomplete_request(transact::CALL))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    fn actions(
        &self,
        tenant: &Tenant,
        before: &Before<'_>,
        now: Timestamp,
    ) -> Result<Vec<TransactWriteItem>, StoreError> {
        // A clock that is behind must not put an event before its predecessor: what is too old to be shown is
        // always at the beginning.
        let at = before.counter.map_or(now, |counter| now.max(counter.at));
        let mut last = before.counter.unwrap_or(Counter { last: 0, at });
        let mut actions = Vec::new();
        for event in &before.new {
            let next = Counter { last: last.last.saturating_add(1), at };
            let entry = EntryItem {
                pk: partition_key(tenant),
                sk: digits(next.last),
                event_id: event.event_id.as_str().to_owned(),
                event_type: event.event_type.clone(),
                body: event.body.clone(),
                at: at.as_unix_ms(),
                previous_at: last.at.as_unix_ms(),
                ttl: ttl(at),
            };
            let marker = MarkerItem {
                pk: marker_key(tenant, &event.event_id),
                sk: MARKER_SK,
                number: next.last,
                ttl: ttl(at),
            };
            actions.push(self.put(to_sdk_item(WHAT, &entry)?)?);
            actions.push(self.put(to_sdk_item(WHAT, &marker)?)?);
            last = next;
        }
        actions.push(self.count(tenant, before.counter, last)?);
        Ok(actions)
    }

    async fn counter(&self, tenant: &Tenant) -> Result<Option<Counter>, StoreError> {
        let key = key(partition_key(tenant), COUNTER_SK);
        let get = self.client.get_item().table_name(&self.table).set_key(Some(key)).consistent_read(true);
        let answer = get.send().await.map_err(|error| store_error("GetItem", &error))?;
        answer.item.map(counter_of).transpose()
    }
}

impl EventFeed for DynamoFeed {
    async fn append(&self, tenant: &Tenant, events: &[NewEntry], now: Timestamp) -> Result<(), StoreError> {
        if events.len() > MAX_APPENDED {
            return Err(StoreError::Refused(format!("{WHAT}: more than {MAX_APPENDED} events at once")));
        }
        for tried in 0..MAX_TRIES {
            let before = self.before(tenant, events).await?;
            if before.new.is_empty() {
                return Ok(());
            }
            let actions = self.actions(tenant, &before, now)?;
            match try_transact(&self.client, &token(self.entropy.as_ref()), actions).await? {
                Tried::Over(Transacted::Done) => return Ok(()),
                // Somebody else was faster. What is there now decides.
                Tried::Over(Transacted::Refused(_)) | Tried::Busy => {
                    let doublings = tried.min(MAX_DOUBLINGS);
                    let pause_ms = jittered_ms(self.entropy.as_ref(), FIRST_PAUSE_MS, doublings);
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
            }
        }
        Err(StoreError::Unavailable(format!("{WHAT}: too many others append for this tenant")))
    }

    async fn read(&self, tenant: &Tenant, after: u64, limit: usize) -> Result<FeedPage, StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#pk = :pk AND #sk > :after")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK)
            .expression_attribute_values(":pk", text(partition_key(tenant)))
            .expression_attribute_values(":after", text(digits(after)))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = query.send().await.map_err(|error| store_error("Query", &error))?;
        let has_more = answer.last_evaluated_key.is_some();
        let entries = answer.items.unwrap_or_default().into_iter().map(entry_of).collect::<Result<_, _>>()?;
        Ok(FeedPage { entries, has_more })
    }

    async fn last_number(&self, tenant: &Tenant) -> Result<u64, StoreError> {
        Ok(self.counter(tenant).await?.map_or(0, |counter| counter.last))
    }
}
