//! The store of availability, and the log of changes beside it.

use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use holdfast_app::availability::ContentId;
use holdfast_app::ports::{
    AvailabilityStore, KnownAvailability, Place, RefreshState, Remembered, SlotChangeLog, StoreError,
};
use holdfast_domain::{ProviderId, SlotChange, Timestamp};
use serde::{Deserialize, Serialize};

use super::changes::{change_item, change_of, claim_key, is_change, since_key};
use super::content::{pack, unpack};
use super::known::KnownPlaces;
use super::{CONTENT_SK, POINTER_SK, WHAT, partition_key, time, ttl};
use crate::DynamoDb;
use crate::error::store_error;
use crate::item::{Bytes, PK, SK, SdkItem, TTL, binary, from_sdk_item, key, number, text, to_sdk_item};

/// How many pages are read at the most; one of them holds some two thousand changes and the content.
const MAX_PAGES: usize = 4;

/// For how long the pointer is kept, in milliseconds: a day, in which it is written many times.
const POINTER_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;

/// For how long the content is kept, in milliseconds: four weeks, when all its slots are over. It is not written
/// again while it stays the same.
const CONTENT_KEPT_MS: u64 = 28 * POINTER_KEPT_MS;

/// Which content the pointer is about, or the content is.
const CONTENT: &str = "c";

/// When it was said.
const AS_OF: &str = "a";

/// Failures since the last success.
const FAILURES: &str = "f";

/// Before when nobody asks again.
const NOT_BEFORE: &str = "nb";

/// When whoever failed last began to ask. What was said at that time or later makes the failure one of the past.
const FAILED_AT: &str = "fa";

#[derive(Serialize, Deserialize)]
struct ContentItem {
    pk: String,
    sk: String,
    /// Which content it is.
    c: Bytes,
    /// When it was said.
    a: i64,
    /// What was said.
    d: Bytes,
    ttl: i64,
}

#[derive(Deserialize)]
struct PointerItem {
    #[serde(default)]
    c: Option<Bytes>,
    #[serde(default)]
    a: Option<i64>,
    #[serde(default)]
    f: u32,
    #[serde(default)]
    nb: Option<i64>,
    #[serde(default)]
    fa: Option<i64>,
}

/// What a query found of a location.
#[derive(Default)]
struct Found {
    changes: Vec<SlotChange>,
    pointer: Option<PointerItem>,
    content: Option<ContentItem>,
}

impl Found {
    fn take(&mut self, place: &Place, item: SdkItem) -> Result<(), StoreError> {
        let sort_key = match item.get(SK) {
            Some(AttributeValue::S(sort_key)) => sort_key.as_str(),
            _ => "",
        };
        if sort_key == POINTER_SK {
            self.pointer = Some(from_sdk_item(WHAT, item)?);
        } else if sort_key == CONTENT_SK {
            self.content = Some(from_sdk_item(WHAT, item)?);
        } else if is_change(sort_key) {
            match change_of(place, item) {
                Ok(change) => self.changes.push(change),
                // It is like one that could not be noted: until the provider is asked again, a slot is shown
                // that is taken, or the other way round.
                Err(error) => {
                    tracing::error!(provider.id = %place.provider_id, %error, "A slot's change is unreadable.");
                }
            }
        }
        Ok(())
    }

    fn remembered(self) -> Result<Remembered, StoreError> {
        let Self { changes, pointer, content } = self;
        let confirmed_at =
            pointer.as_ref().and_then(|pointer| pointer.a).map(|at| time(AS_OF, at)).transpose()?;
        let availability = content.map(|content| {
            let said_at = time(AS_OF, content.a)?;
            let is_confirmed = pointer.as_ref().is_some_and(|pointer| pointer.c.as_ref() == Some(&content.c));
            let as_of = confirmed_at.filter(|_| is_confirmed).map_or(said_at, |at| at.max(said_at));
            unpack(&content.d.0, as_of)
        });
        let availability = availability.transpose()?;
        // A failure is over whatever was said since, confirmed or new.
        let said_at = availability.as_ref().map(|known| known.as_of).max(confirmed_at);
        let refresh =
            pointer.map(|pointer| refresh_state(&pointer, said_at)).transpose()?.unwrap_or_default();
        Ok(Remembered { availability, changes, refresh })
    }
}

fn refresh_state(pointer: &PointerItem, said_at: Option<Timestamp>) -> Result<RefreshState, StoreError> {
    let Some(failed_at) = pointer.fa else {
        return Ok(RefreshState::default());
    };
    let failed_at = time(FAILED_AT, failed_at)?;
    if said_at.is_some_and(|said_at| failed_at <= said_at) {
        return Ok(RefreshState::default());
    }
    let not_before = pointer.nb.map(|at| time(NOT_BEFORE, at)).transpose()?;
    Ok(RefreshState { failures: pointer.f, not_before })
}

/// Availability in a DynamoDB table.
#[derive(Clone)]
pub struct DynamoAvailability {
    client: DynamoDb,
    table: String,
    known: Arc<KnownPlaces>,
}

impl fmt::Debug for DynamoAvailability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DynamoAvailability").field("table", &self.table).finish_non_exhaustive()
    }
}

impl DynamoAvailability {
    /// The availability in `table`.
    pub fn new(client: DynamoDb, table: impl Into<String>) -> Self {
        Self { client, table: table.into(), known: Arc::default() }
    }

    /// Reads the items of a place whose sort keys are between two, both included.
    fn query(&self, place: &Place, from: impl Into<String>, to: impl Into<String>) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk AND #sk BETWEEN :from AND :to")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK)
            .expression_attribute_values(":pk", text(partition_key(place)))
            .expression_attribute_values(":from", text(from))
            .expression_attribute_values(":to", text(to))
    }

    /// Whether anything is remembered of a place: it has a pointer or a content.
    async fn is_remembered(&self, place: &Place) -> Result<bool, StoreError> {
        if self.known.has(place) {
            return Ok(true);
        }
        // One item is enough, and the pointer, which is small, comes first.
        let query = self.query(place, POINTER_SK, CONTENT_SK).select(Select::Count).limit(1);
        let answer = Box::pin(query.send()).await.map_err(|error| store_error("Query", &error))?;
        let is_remembered = answer.count > 0;
        if is_remembered {
            self.known.learn(place);
        }
        Ok(is_remembered)
    }

    fn update_pointer(&self, place: &Place, kept_from: Timestamp) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(partition_key(place), POINTER_SK)))
            .expression_attribute_names("#ttl", TTL)
            .expression_attribute_values(":ttl", number(ttl(kept_from, POINTER_KEPT_MS)))
    }

    async fn delete(&self, place: &Place, sk: &str) -> Result<(), StoreError> {
        let key = key(partition_key(place), sk);
        let delete = self.client.delete_item().table_name(&self.table).set_key(Some(key));
        Box::pin(delete.send()).await.map_err(|error| store_error("DeleteItem", &error))?;
        Ok(())
    }
}

/// Makes an update; one whose condition fails was overtaken by a later one, and is done.
async fn update(builder: UpdateItemFluentBuilder) -> Result<(), StoreError> {
    match Box::pin(builder.send()).await {
        Ok(_) => Ok(()),
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(()),
            _ => Err(store_error("UpdateItem", &error)),
        },
    }
}

impl AvailabilityStore for DynamoAvailability {
    async fn read(&self, place: &Place, since: Timestamp) -> Result<Remembered, StoreError> {
        let mut found = Found::default();
        let mut start = None;
        for _ in 0..MAX_PAGES {
            let query = self.query(place, since_key(since), CONTENT_SK).set_exclusive_start_key(start);
            let answer = Box::pin(query.send()).await.map_err(|error| store_error("Query", &error))?;
            for item in answer.items.unwrap_or_default() {
                found.take(place, item)?;
            }
            start = answer.last_evaluated_key;
            if start.is_none() {
                return found.remembered();
            }
        }
        Err(StoreError::Refused(format!("{WHAT}: more changes of slots than {MAX_PAGES} pages hold")))
    }

    async fn replace(&self, place: &Place, said: &KnownAvailability) -> Result<(), StoreError> {
        let item = ContentItem {
            pk: partition_key(place),
            sk: CONTENT_SK.to_owned(),
            c: Bytes(said.content_id().0.to_vec()),
            a: said.as_of.as_unix_ms(),
            d: Bytes(pack(said)?),
            ttl: ttl(said.as_of, CONTENT_KEPT_MS),
        };
        // The pointer stays as it is: what it says of another content, and of failures before, does not count.
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(to_sdk_item(WHAT, &item)?))
            .condition_expression("attribute_not_exists(#as_of) OR #as_of <= :as_of")
            .expression_attribute_names("#as_of", AS_OF)
            .expression_attribute_values(":as_of", number(said.as_of.as_unix_ms()));
        if let Err(error) = Box::pin(put.send()).await {
            match error.as_service_error() {
                // What was said later stays.
                Some(PutItemError::ConditionalCheckFailedException(_)) => {}
                _ => return Err(store_error("PutItem", &error)),
            }
        }
        self.known.learn(place);
        Ok(())
    }

    async fn confirm(&self, place: &Place, content: ContentId, as_of: Timestamp) -> Result<(), StoreError> {
        let confirm = self
            .update_pointer(place, as_of)
            .update_expression("SET #content = :content, #as_of = :as_of, #ttl = :ttl")
            .condition_expression("attribute_not_exists(#as_of) OR #as_of <= :as_of")
            .expression_attribute_names("#content", CONTENT)
            .expression_attribute_names("#as_of", AS_OF)
            .expression_attribute_values(":content", binary(&Bytes(content.0.to_vec())))
            .expression_attribute_values(":as_of", number(as_of.as_unix_ms()));
        update(confirm).await?;
        self.known.learn(place);
        Ok(())
    }

    async fn record_failure(
        &self,
        place: &Place,
        state: RefreshState,
        asked_at: Timestamp,
    ) -> Result<(), StoreError> {
        const SET: &str = "SET #failures = :failures, #failed_at = :failed_at, #ttl = :ttl";
        let failure = self
            .update_pointer(place, asked_at)
            .condition_expression("attribute_not_exists(#failed_at) OR #failed_at <= :failed_at")
            .expression_attribute_names("#failures", FAILURES)
            .expression_attribute_names("#failed_at", FAILED_AT)
            .expression_attribute_names("#not_before", NOT_BEFORE)
            .expression_attribute_values(":failures", number(state.failures))
            .expression_attribute_values(":failed_at", number(asked_at.as_unix_ms()));
        let failure = match state.not_before {
            Some(not_before) => failure
                .update_expression(format!("{SET}, #not_before = :not_before"))
                .expression_attribute_values(":not_before", number(not_before.as_unix_ms())),
            None => failure.update_expression(format!("{SET} REMOVE #not_before")),
        };
        update(failure).await?;
        self.known.learn(place);
        Ok(())
    }

    async fn forget(&self, place: &Place) -> Result<(), StoreError> {
        // The pointer goes last: by itself it says nothing, and is soon gone anyway.
        self.delete(place, CONTENT_SK).await?;
        self.delete(place, POINTER_SK).await
    }
}

/// Changes are noted where anything is remembered of the location. Whether it is, is looked up, and then taken
/// to be so for a while: for a minute if it is, for ten seconds if it is not. So a slot that is taken while the
/// provider is asked for the first time, or within ten seconds after, may be shown until it is asked again.
impl SlotChangeLog for DynamoAvailability {
    async fn note(&self, provider_id: &ProviderId, change: &SlotChange) -> Result<(), StoreError> {
        let place = Place { provider_id: provider_id.clone(), location_id: change.slot.location_id.clone() };
        if !self.is_remembered(&place).await? {
            return Ok(());
        }
        // The claim goes first: were it left behind, the slot would be hidden for days, whereas without what settles it
        // the slot is shown for minutes.
        if change.settles {
            self.delete(&place, &claim_key(change)).await?;
        }
        // The same change has the same name and says the same, so that writing it again changes nothing.
        let put = self.client.put_item().table_name(&self.table).set_item(Some(change_item(&place, change)?));
        Box::pin(put.send()).await.map_err(|error| store_error("PutItem", &error))?;
        Ok(())
    }
}
