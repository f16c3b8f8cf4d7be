//! Consumers: the marketplaces and apps that book.

use holdfast_domain::{ConsumerId, Mode, Tenant, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{check, keys, list, not_found, unusable_name};
use crate::parse::parse_checked;
use crate::ports::{ConfigurationStore, EndpointStore};
use crate::problem::Problem;
use crate::rates::{DEFAULT_REQUESTS_PER_SECOND, MAX_REQUESTS_PER_SECOND};
use crate::settings::{ConsumerSettings, KeyOwner};
use crate::settings_cache::configuration_problem;

const WHAT: &str = "consumer";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsumerBody {
    name: String,
    requests_per_second: Option<u32>,
}

fn view(consumer: &ConsumerSettings) -> Value {
    json!({
        "id": consumer.consumer_id.as_str(),
        "name": consumer.display_name,
        "requests_per_second": consumer.requests_per_second.unwrap_or(DEFAULT_REQUESTS_PER_SECOND),
    })
}

/// Makes a consumer, or replaces what is configured of it.
pub async fn put_consumer(store: &impl ConfigurationStore, id: &str, body: &Value) -> Result<Value, Problem> {
    let consumer_id = ConsumerId::parse(id).map_err(unusable_name)?;
    let (body, mut errors) = parse_checked::<ConsumerBody>(body)?.into_parts();
    let ConsumerBody { name, requests_per_second } = body;
    check::display_name(&mut errors, "/name", &name);
    if let Some(requests) = requests_per_second {
        let most = MAX_REQUESTS_PER_SECOND.into();
        check::range(&mut errors, "/requests_per_second", requests.into(), 1, most);
    }
    errors.finish()?;
    let consumer = ConsumerSettings { consumer_id, display_name: name, requests_per_second };
    store.put_consumer(&consumer).await.map_err(|error| configuration_problem(&error))?;
    Ok(view(&consumer))
}

/// One consumer.
pub async fn consumer(store: &impl ConfigurationStore, id: &str) -> Result<Value, Problem> {
    let id = ConsumerId::parse(id).map_err(|_| not_found(WHAT))?;
    let consumer = store.consumer(&id).await.map_err(|error| configuration_problem(&error))?;
    consumer.as_ref().map(view).ok_or_else(|| not_found(WHAT))
}

/// All consumers.
pub async fn consumers(store: &impl ConfigurationStore) -> Result<Value, Problem> {
    let consumers = store.consumers().await.map_err(|error| configuration_problem(&error))?;
    Ok(list(consumers.iter().map(view)))
}

/// Removes a consumer. Its keys end, and its webhook endpoints with them, so that nothing more is told to
/// somebody who is gone; its bookings stay. If it was broken off half-way, a repetition finishes it.
pub async fn delete_consumer(
    store: &(impl ConfigurationStore + EndpointStore),
    id: &str,
    now: Timestamp,
) -> Result<(), Problem> {
    let id = ConsumerId::parse(id).map_err(|_| not_found(WHAT))?;
    // The consumer goes first: a key that is being made meanwhile finds it gone and is taken back.
    let existed = store.delete_consumer(&id).await.map_err(|error| configuration_problem(&error))?;
    let revoked = keys::revoke_all(store, &KeyOwner::Consumer(id.clone()), now).await?;
    let mut removed_endpoints = 0;
    for mode in [Mode::Live, Mode::Test] {
        let tenant = Tenant { consumer_id: id.clone(), mode };
        for endpoint in store.endpoints(&tenant).await.map_err(|error| configuration_problem(&error))? {
            store
                .delete_endpoint(&tenant, &endpoint.id)
                .await
                .map_err(|error| configuration_problem(&error))?;
            removed_endpoints += 1;
        }
    }
    if existed || revoked > 0 || removed_endpoints > 0 { Ok(()) } else { Err(not_found(WHAT)) }
}
