//! Mailboxes in DynamoDB: one partition of the table of deliveries for each provider that fetches its
//! notifications.
//!
//! What waits, what was fetched, and a receipt for everything that was ever kept are apart from each other by
//! their sort keys. What waits is sorted by when it was first due, what was fetched by when that was: so a pull
//! reads nothing but what it shows, and a release is one small write, after which a range of what was fetched
//! counts as waiting. TTL removes all of it; what is shown is decided by the clock.

use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{Delete, Put, ReturnValuesOnConditionCheckFailure, Select, TransactWriteItem};
use futures_util::{StreamExt, stream};
use holdfast_app::ports::{
    Entropy, FETCHED_KEPT_MS, KeptNotification, NotificationMailbox, Release, ReleaseWindow, StoreError,
    Waiting, fetched_at,
};
use holdfast_domain::{BookingId, FETCH_LIMIT_MS, Notification, ProviderId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::DynamoDb;
use crate::booking::{NotificationItem, whole_notification, whole_notification_of};
use crate::error::{incomplete_request, store_error};
use crate::item::{
    NONCE, PK, SK, SdkItem, TTL, binary, from_sdk_item, key, nonce, number, text, to_sdk_item, written_by,
};
use crate::transact::{self, Transacted, transact};

const WHAT: &str = "mailbox";
const MS_PER_SECOND: i64 = 1_000;

/// For how long an entry is kept beyond the time for which it may be shown, in milliseconds: a day.
const EXTRA_MS: u64 = 24 * 60 * 60 * 1_000;

/// How many more entries are counted at the most.
const MAX_COUNTED: i32 = 1_000;

/// How many pages are read at the most to fill one pull.
const MAX_PAGES: usize = 10;

/// How many entries are marked at once.
const CONCURRENT_MARKS: usize = 10;

/// How often a release is tried that meets another one.
const MAX_RELEASE_TRIES: usize = 4;

/// The sort key of the last release.
const RELEASE_SK: &str = "RELEASE";

/// When the last release was.
const RELEASED_AT: &str = "at";

/// From when on it counts.
const RELEASED_FROM: &str = "from";

/// An entry, waiting or fetched.
#[derive(Serialize, Deserialize)]
struct EntryItem {
    pk: String,
    sk: String,
    booking_id: String,
    notification: NotificationItem,
    ttl: i64,
}

/// Says that a notification was kept, and where it is.
#[derive(Serialize, Deserialize)]
struct ReceiptItem {
    pk: String,
    sk: String,
    /// The sort key of the entry.
    at: String,
    ttl: i64,
}

#[derive(Deserialize)]
struct ReleaseItem {
    at: i64,
    from: i64,
}

fn partition_key(provider_id: &ProviderId) -> String {
    format!("PULL#{provider_id}")
}

/// A time in a sort key: as many digits as the last representable one has.
fn digits(at: Timestamp) -> String {
    format!("{:015}", at.as_unix_ms())
}

fn name(kept: &KeptNotification) -> String {
    format!("{}#{:06}", kept.booking_id, kept.notification.number)
}

fn receipt_key(kept: &KeptNotification) -> String {
    format!("K#{}", name(kept))
}

fn waiting_key(kept: &KeptNotification) -> String {
    format!("W#{}#{}", digits(kept.notification.begun_at), name(kept))
}

fn fetched_key(kept: &KeptNotification, at: Timestamp) -> String {
    format!("F#{}#{}#{}", digits(at), digits(kept.notification.begun_at), name(kept))
}

/// When the entry at a sort key was fetched; `None` if it was not.
fn fetched_at_of(sort_key: &str) -> Option<Timestamp> {
    let (at, _) = sort_key.strip_prefix("F#")?.split_once('#')?;
    Timestamp::from_unix_ms(at.parse().ok()?).ok()
}

fn ttl(shown_until: Timestamp) -> i64 {
    shown_until.plus_ms(EXTRA_MS).as_unix_ms() / MS_PER_SECOND
}

fn corrupt(attribute: &str) -> StoreError {
    StoreError::Corrupt(format!("{WHAT}: attribute {attribute}"))
}

/// A range of sort keys; both ends count.
struct Section {
    from: String,
    to: String,
    is_released: bool,
}

/// The ranges that a pull shows at `now`, in this order.
fn sections(last_release: Option<ReleaseWindow>, now: Timestamp) -> Vec<Section> {
    let released = last_release.filter(|release| release.is_open(now)).map(|release| Section {
        from: format!("F#{}", digits(release.from)),
        // It sorts before whatever was fetched at the time of the release.
        to: format!("F#{}", digits(release.at)),
        is_released: true,
    });
    let oldest = now.minus_ms(FETCH_LIMIT_MS).plus_ms(1);
    // The dollar is what follows on the hash: this sorts behind everything that waits.
    let fresh = Section { from: format!("W#{}", digits(oldest)), to: "W$".to_owned(), is_released: false };
    released.into_iter().chain([fresh]).collect()
}

fn item_of(
    kept: &KeptNotification,
    sort_key: &str,
    shown_until: Timestamp,
) -> Result<[SdkItem; 2], StoreError> {
    let (pk, ttl) = (partition_key(&kept.provider_id), ttl(shown_until));
    let entry = EntryItem {
        pk: pk.clone(),
        sk: sort_key.to_owned(),
        booking_id: kept.booking_id.as_str().to_owned(),
        notification: whole_notification(&kept.notification),
        ttl,
    };
    let receipt = ReceiptItem { pk, sk: receipt_key(kept), at: sort_key.to_owned(), ttl };
    Ok([to_sdk_item(WHAT, &entry)?, to_sdk_item(WHAT, &receipt)?])
}

fn kept_of(item: SdkItem, provider_id: &ProviderId, released: bool) -> Result<KeptNotification, StoreError> {
    let item: EntryItem = from_sdk_item(WHAT, item)?;
    let notification: Notification =
        whole_notification_of(item.notification).map_err(|_| corrupt("notification"))?;
    Ok(KeptNotification {
        provider_id: provider_id.clone(),
        booking_id: BookingId::parse(&item.booking_id).map_err(|_| corrupt("booking_id"))?,
        notification,
        released,
    })
}

fn release_of(item: SdkItem) -> Result<ReleaseWindow, StoreError> {
    let item: ReleaseItem = from_sdk_item(WHAT, item)?;
    let time = |attribute, unix_ms| Timestamp::from_unix_ms(unix_ms).map_err(|_| corrupt(attribute));
    Ok(ReleaseWindow { at: time(RELEASED_AT, item.at)?, from: time(RELEASED_FROM, item.from)? })
}

/// What writing a release found.
enum Wrote {
    Done,
    /// Somebody else's.
    Other(ReleaseWindow),
}

/// Mailboxes in a DynamoDB table.
#[derive(Clone)]
pub struct DynamoMailbox {
    client: DynamoDb,
    table: String,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for DynamoMailbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DynamoMailbox").field("table", &self.table).finish_non_exhaustive()
    }
}

impl DynamoMailbox {
    /// The mailboxes in `table`.
    pub fn new(client: DynamoDb, table: impl Into<String>, entropy: Arc<dyn Entropy>) -> Self {
        Self { client, table: table.into(), entropy }
    }

    async fn get(&self, provider_id: &ProviderId, sk: &str) -> Result<Option<SdkItem>, StoreError> {
        let key = key(partition_key(provider_id), sk);
        let get = self.client.get_item().table_name(&self.table).set_key(Some(key)).consistent_read(true);
        Ok(get.send().await.map_err(|error| store_error("GetItem", &error))?.item)
    }

    async fn last_release(&self, provider_id: &ProviderId) -> Result<Option<ReleaseWindow>, StoreError> {
        self.get(provider_id, RELEASE_SK).await?.map(release_of).transpose()
    }

    fn put(&self, item: SdkItem, only_if_new: bool) -> Result<TransactWriteItem, StoreError> {
        let mut put = Put::builder().table_name(&self.table).set_item(Some(item));
        if only_if_new {
            put = put.condition_expression("attribute_not_exists(#pk)").expression_attribute_names("#pk", PK);
        }
        let put = put.build().map_err(|_| incomplete_request(transact::CALL))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    fn delete(&self, provider_id: &ProviderId, sk: &str) -> Result<TransactWriteItem, StoreError> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(key(partition_key(provider_id), sk)))
            .condition_expression("attribute_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .build()
            .map_err(|_| incomplete_request(transact::CALL))?;
        Ok(TransactWriteItem::builder().delete(delete).build())
    }

    fn query(&self, provider_id: &ProviderId, section: &Section) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#pk = :pk AND #sk BETWEEN :from AND :to")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK)
            .expression_attribute_values(":pk", text(partition_key(provider_id)))
            .expression_attribute_values(":from", text(&section.from))
            .expression_attribute_values(":to", text(&section.to))
    }

    /// How many entries a section has from `start` on, up to [`MAX_COUNTED`].
    async fn count(
        &self,
        provider_id: &ProviderId,
        section: &Section,
        start: Option<SdkItem>,
    ) -> Result<usize, StoreError> {
        let query = self.query(provider_id, section).select(Select::Count).limit(MAX_COUNTED);
        let answer = query.set_exclusive_start_key(start).send().await;
        let answer = answer.map_err(|error| store_error("Query", &error))?;
        Ok(usize::try_from(answer.count).unwrap_or_default())
    }

    /// Fills `found` up to `limit` from a section. Returns how many more it has.
    async fn fill(
        &self,
        provider_id: &ProviderId,
        section: &Section,
        found: &mut Vec<KeptNotification>,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let mut start = None;
        let mut is_begun = false;
        for _ in 0..MAX_PAGES {
            let wanted = limit.saturating_sub(found.len());
            if wanted == 0 || (is_begun && start.is_none()) {
                break;
            }
            let page = self.query(provider_id, section).limit(i32::try_from(wanted).unwrap_or(i32::MAX));
            let answer = page.set_exclusive_start_key(start).send().await;
            let answer = answer.map_err(|error| store_error("Query", &error))?;
            for item in answer.items.unwrap_or_default() {
                match kept_of(item, provider_id, section.is_released) {
                    Ok(kept) => found.push(kept),
                    Err(error) => {
                        tracing::error!(provider.id = %provider_id, %error, "A notification is unreadable.");
                    }
                }
            }
            (start, is_begun) = (answer.last_evaluated_key, true);
        }
        if is_begun && start.is_none() { Ok(0) } else { self.count(provider_id, section, start).await }
    }

    /// Where an entry is that was shown as `kept`; `None` if it does not wait any more.
    async fn location(
        &self,
        kept: &KeptNotification,
        last_release: Option<ReleaseWindow>,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        if !kept.released {
            return Ok(Some(waiting_key(kept)));
        }
        let Some(receipt) = self.get(&kept.provider_id, &receipt_key(kept)).await? else {
            return Ok(None);
        };
        let receipt: ReceiptItem = from_sdk_item(WHAT, receipt)?;
        let waits = fetched_at_of(&receipt.at)
            .zip(last_release)
            .is_some_and(|(fetched_at, release)| release.covers(fetched_at, now));
        Ok(waits.then_some(receipt.at))
    }

    async fn mark(
        &self,
        kept: &KeptNotification,
        last_release: Option<ReleaseWindow>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(location) = self.location(kept, last_release, now).await? else {
            return Ok(false);
        };
        let at = fetched_at(last_release, now);
        let [entry, receipt] = item_of(kept, &fetched_key(kept, at), at.plus_ms(FETCHED_KEPT_MS))?;
        let actions = vec![
            self.delete(&kept.provider_id, &location)?,
            self.put(entry, false)?,
            self.put(receipt, false)?,
        ];
        Ok(transact(&self.client, self.entropy.as_ref(), actions).await? == Transacted::Done)
    }

    /// Writes `next` if the last release is still `seen`.
    async fn write_release(
        &self,
        provider_id: &ProviderId,
        seen: Option<ReleaseWindow>,
        next: ReleaseWindow,
    ) -> Result<Wrote, StoreError> {
        let nonce = nonce(self.entropy.as_ref());
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(partition_key(provider_id), RELEASE_SK)))
            .update_expression("SET #at = :at, #from = :from, #nonce = :nonce, #ttl = :ttl")
            .expression_attribute_names("#at", RELEASED_AT)
            .expression_attribute_names("#from", RELEASED_FROM)
            .expression_attribute_names("#nonce", NONCE)
            .expression_attribute_names("#ttl", TTL)
            .expression_attribute_values(":at", number(next.at.as_unix_ms()))
            .expression_attribute_values(":from", number(next.from.as_unix_ms()))
            .expression_attribute_values(":nonce", binary(&nonce))
            .expression_attribute_values(":ttl", number(ttl(next.at.plus_ms(FETCH_LIMIT_MS))))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let update = match seen {
            None => update.condition_expression("attribute_not_exists(#at)"),
            Some(seen) => update
                .condition_expression("#at = :seen")
                .expression_attribute_values(":seen", number(seen.at.as_unix_ms())),
        };
        let Err(error) = update.send().await else {
            return Ok(Wrote::Done);
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failure)) => match failure.item() {
                // Its answer was lost, and the SDK asked again.
                Some(found) if written_by(found, &nonce) => Ok(Wrote::Done),
                Some(found) => release_of(found.clone()).map(Wrote::Other),
                None => Err(StoreError::Unavailable("UpdateItem: no word on an item".to_owned())),
            },
            _ => Err(store_error("UpdateItem", &error)),
        }
    }
}

impl NotificationMailbox for DynamoMailbox {
    async fn keep(&self, kept: &KeptNotification) -> Result<(), StoreError> {
        let shown_until = kept.notification.begun_at.plus_ms(FETCH_LIMIT_MS);
        let [entry, receipt] = item_of(kept, &waiting_key(kept), shown_until)?;
        let actions = vec![self.put(receipt, true)?, self.put(entry, false)?];
        match transact(&self.client, self.entropy.as_ref(), actions).await? {
            // There is a receipt: it was kept before, whatever became of it.
            Transacted::Done | Transacted::Refused(_) => Ok(()),
        }
    }

    async fn waiting(
        &self,
        provider_id: &ProviderId,
        limit: usize,
        now: Timestamp,
    ) -> Result<Waiting, StoreError> {
        let last_release = self.last_release(provider_id).await?;
        let mut waiting = Waiting::default();
        for section in sections(last_release, now) {
            let more = self.fill(provider_id, &section, &mut waiting.notifications, limit).await?;
            waiting.remaining = waiting.remaining.saturating_add(more);
        }
        Ok(waiting)
    }

    async fn mark_fetched(&self, kept: &[KeptNotification], now: Timestamp) -> Vec<Result<bool, StoreError>> {
        let Some(first) = kept.first() else {
            return Vec::new();
        };
        let last_release = match self.last_release(&first.provider_id).await {
            Ok(last_release) => last_release,
            Err(error) => return vec![Err(error); kept.len()],
        };
        let marks: Vec<_> = kept.iter().map(|kept| self.mark(kept, last_release, now)).collect();
        stream::iter(marks).buffered(CONCURRENT_MARKS).collect().await
    }

    async fn release(&self, provider_id: &ProviderId, now: Timestamp) -> Result<Release, StoreError> {
        let mut seen = self.last_release(provider_id).await?;
        for _ in 0..MAX_RELEASE_TRIES {
            let next = match ReleaseWindow::following(seen, now) {
                Ok(next) => next,
                Err(again_at) => return Ok(Release::TooSoon { again_at }),
            };
            let released = sections(Some(next), now).into_iter().find(|section| section.is_released);
            let released = match released {
                Some(section) => self.count(provider_id, &section, None).await?,
                None => 0,
            };
            match self.write_release(provider_id, seen, next).await? {
                Wrote::Done => return Ok(Release::Done(released)),
                Wrote::Other(found) => seen = Some(found),
            }
        }
        Err(StoreError::Unavailable("releases follow on each other".to_owned()))
    }
}
