//! The limits on calls to providers. What is taken is taken by one conditional update; when it is refused,
//! the item that comes back decides what is tried next, a few times at the most.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use holdfast_app::ports::{LimitStore, MAX_WINDOW_LEAD_S, PlaceLease, StoreError, TakenCalls, WantedCalls};
use holdfast_domain::{ProviderId, Timestamp};
use serde::Deserialize;

use super::records::limit_pk;
use super::{DynamoSettings, Updated, update};
use crate::item::{Bytes, NONCE, SdkItem, binary, from_sdk_item, key, nonce, number, written_by};

/// The sort key of the item that counts calls.
const CALLS_SK: &str = "CALLS";

/// The sort key of the item of places.
const PLACES_SK: &str = "PLACES";

/// The attribute of the window, in seconds since the Unix epoch.
const WINDOW: &str = "w";

/// The attribute of how many of the window's calls are taken.
const TAKEN: &str = "taken";

/// The attribute of the leases, each with its end in milliseconds since the Unix epoch.
const LEASES: &str = "leases";

/// How often taking calls is tried, where others take some in between. Whoever gets none by then is refused:
/// there is hardly anything left.
const MAX_CALL_ATTEMPTS: usize = 6;

/// How often taking a place is tried, where others take and give back in between.
const MAX_PLACE_ATTEMPTS: usize = 5;

/// What is known of the item that counts calls.
#[derive(Clone, Copy, Default, Deserialize)]
struct CallsItem {
    #[serde(default)]
    w: i64,
    #[serde(default)]
    taken: u32,
}

/// One way to take calls.
#[derive(Clone, Copy)]
enum Take {
    /// Begins the window, unless it is begun.
    Begin { window_s: i64, calls: u32 },
    /// Begins the window in place of one that cannot be.
    Replace { impossible_s: i64, window_s: i64, calls: u32 },
    /// Takes more of a window that is begun.
    More { window_s: i64, calls: u32 },
}

impl Take {
    fn done(self) -> TakenCalls {
        let (Self::Begin { window_s, calls }
        | Self::Replace { window_s, calls, .. }
        | Self::More { window_s, calls }) = self;
        TakenCalls { window_s, taken: calls }
    }

    /// What to try while nothing is known of the item.
    fn first(wanted: &WantedCalls) -> Self {
        let (window_s, calls) = (wanted.window_s, wanted.calls.min(wanted.capacity));
        if wanted.is_begun { Self::More { window_s, calls } } else { Self::Begin { window_s, calls } }
    }

    /// What to try on this item. `Err` is the window that has no more.
    fn on(item: CallsItem, wanted: &WantedCalls) -> Result<Self, i64> {
        let WantedCalls { window_s, capacity, .. } = *wanted;
        let calls = wanted.calls.min(capacity);
        if item.w < window_s {
            return Ok(Self::Begin { window_s, calls });
        }
        if item.w > window_s.saturating_add(MAX_WINDOW_LEAD_S) {
            return Ok(Self::Replace { impossible_s: item.w, window_s, calls });
        }
        match calls.min(capacity.saturating_sub(item.taken)) {
            0 => Err(item.w),
            calls => Ok(Self::More { window_s: item.w, calls }),
        }
    }
}

impl DynamoSettings {
    fn update_calls(&self, provider_id: &ProviderId, nonce: &Bytes) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(limit_pk(provider_id), CALLS_SK)))
            .expression_attribute_names("#window", WINDOW)
            .expression_attribute_names("#taken", TAKEN)
            .expression_attribute_names("#nonce", NONCE)
            .expression_attribute_values(":nonce", binary(nonce))
    }

    fn take(
        &self,
        provider_id: &ProviderId,
        take: Take,
        capacity: u32,
        nonce: &Bytes,
    ) -> UpdateItemFluentBuilder {
        const BEGIN: &str = "SET #window = :window, #taken = :calls, #nonce = :nonce";
        let update = self.update_calls(provider_id, nonce);
        match take {
            Take::Begin { window_s, calls } => update
                .update_expression(BEGIN)
                .condition_expression("attribute_not_exists(#window) OR #window < :window")
                .expression_attribute_values(":window", number(window_s))
                .expression_attribute_values(":calls", number(calls)),
            Take::Replace { impossible_s, window_s, calls } => update
                .update_expression(BEGIN)
                .condition_expression("#window = :impossible")
                .expression_attribute_values(":impossible", number(impossible_s))
                .expression_attribute_values(":window", number(window_s))
                .expression_attribute_values(":calls", number(calls)),
            // The nonce keeps a repetition of this very update from taking twice.
            Take::More { window_s, calls } => update
                .update_expression("SET #nonce = :nonce ADD #taken :calls")
                .condition_expression("#window = :window AND #taken <= :most AND #nonce <> :nonce")
                .expression_attribute_values(":window", number(window_s))
                .expression_attribute_values(":calls", number(calls))
                .expression_attribute_values(":most", number(capacity.saturating_sub(calls))),
        }
    }

    fn update_places(&self, provider_id: &ProviderId) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(limit_pk(provider_id), PLACES_SK)))
            .expression_attribute_names("#leases", LEASES)
    }

    /// Takes the first place of a provider that has had none yet.
    fn take_first_place(&self, provider_id: &ProviderId, lease: &PlaceLease) -> UpdateItemFluentBuilder {
        let leases = HashMap::from([(lease.id.clone(), number(lease.until.as_unix_ms()))]);
        self.update_places(provider_id)
            .update_expression("SET #leases = :leases")
            .condition_expression("attribute_not_exists(#leases)")
            .expression_attribute_values(":leases", AttributeValue::M(leases))
    }

    fn take_a_place(
        &self,
        provider_id: &ProviderId,
        lease: &PlaceLease,
        places: u32,
    ) -> UpdateItemFluentBuilder {
        self.update_places(provider_id)
            .update_expression("SET #leases.#id = :until")
            .condition_expression("attribute_exists(#leases) AND size(#leases) < :places")
            .expression_attribute_names("#id", &lease.id)
            .expression_attribute_values(":until", number(lease.until.as_unix_ms()))
            .expression_attribute_values(":places", number(places))
    }

    /// Removes leases that are over. An identifier is never used again, so that nobody's new lease is hit.
    async fn purge(&self, provider_id: &ProviderId, over: &[String]) -> Result<(), StoreError> {
        let mut purge = self.update_places(provider_id).condition_expression("attribute_exists(#leases)");
        let mut paths = Vec::with_capacity(over.len());
        for (index, id) in over.iter().enumerate() {
            purge = purge.expression_attribute_names(format!("#l{index}"), id);
            paths.push(format!("#leases.#l{index}"));
        }
        match update(purge.update_expression(format!("REMOVE {}", paths.join(", ")))).await? {
            Updated::Done(_) | Updated::Refused(_) => Ok(()),
        }
    }
}

/// The leases of an item; `None` if it has none, nor a place for them.
fn leases_of(item: &SdkItem) -> Option<&HashMap<String, AttributeValue>> {
    item.get(LEASES).and_then(|leases| leases.as_m().ok())
}

/// The leases that are over. One whose end cannot be read never ends by itself and is as good as over.
fn over_at(leases: &HashMap<String, AttributeValue>, now: Timestamp) -> Vec<String> {
    let is_over = |until: &AttributeValue| {
        let until_ms = until.as_n().ok().and_then(|text| text.parse::<i64>().ok());
        until_ms.is_none_or(|until_ms| until_ms <= now.as_unix_ms())
    };
    leases.iter().filter(|(_, until)| is_over(until)).map(|(id, _)| id.clone()).collect()
}

impl LimitStore for DynamoSettings {
    /// Calls whose taking was reported lost and overwritten by others' since may be taken twice: the window
    /// then lets through fewer.
    async fn take_calls(
        &self,
        provider_id: &ProviderId,
        wanted: &WantedCalls,
    ) -> Result<TakenCalls, StoreError> {
        let mut next = Take::first(wanted);
        for _ in 0..MAX_CALL_ATTEMPTS {
            let nonce = nonce(self.entropy.as_ref());
            let found = match update(self.take(provider_id, next, wanted.capacity, &nonce)).await? {
                Updated::Done(_) => return Ok(next.done()),
                Updated::Refused(found) if written_by(&found, &nonce) => return Ok(next.done()),
                Updated::Refused(found) => from_sdk_item("limit on calls", found)?,
            };
            next = match Take::on(found, wanted) {
                Ok(next) => next,
                Err(window_s) => return Ok(TakenCalls { window_s, taken: 0 }),
            };
        }
        Ok(TakenCalls { window_s: next.done().window_s, taken: 0 })
    }

    async fn take_place(
        &self,
        provider_id: &ProviderId,
        lease: &PlaceLease,
        places: u32,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut may_purge = true;
        let mut take = self.take_a_place(provider_id, lease, places);
        for _ in 0..MAX_PLACE_ATTEMPTS {
            let Updated::Refused(found) = update(take).await? else { return Ok(true) };
            let Some(leases) = leases_of(&found) else {
                take = self.take_first_place(provider_id, lease);
                continue;
            };
            if leases.contains_key(&lease.id) {
                return Ok(true);
            }
            if leases.len() >= places as usize {
                let over = over_at(leases, now);
                if over.is_empty() || !may_purge {
                    return Ok(false);
                }
                self.purge(provider_id, &over).await?;
                may_purge = false;
            }
            take = self.take_a_place(provider_id, lease, places);
        }
        Ok(false)
    }

    async fn give_place_back(&self, provider_id: &ProviderId, lease_id: &str) -> Result<(), StoreError> {
        let give = self
            .update_places(provider_id)
            .update_expression("REMOVE #leases.#id")
            .condition_expression("attribute_exists(#leases.#id)")
            .expression_attribute_names("#id", lease_id);
        match update(give).await? {
            // A lease that is over may have been removed by somebody else.
            Updated::Done(_) | Updated::Refused(_) => Ok(()),
        }
    }
}
