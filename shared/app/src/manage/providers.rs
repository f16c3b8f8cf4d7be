//! Providers: the clinics, laboratories and tour suppliers that are booked.

use holdfast_domain::{ConfirmationMode, ProviderId, Timestamp};
use serde_json::{Value, json};

use super::check::TargetRules;
use super::provider_body::{ProviderBody, auth_name, read};
use super::{keys, list, locations, not_found, unusable_name};
use crate::parse::parse_checked;
use crate::ports::{AvailabilityStore, ConfigurationStore, LocationStore};
use crate::problem::Problem;
use crate::settings::{KeyOwner, ProviderSettings};
use crate::settings_cache::configuration_problem;

const WHAT: &str = "provider";

const MS_PER_SECOND: u64 = 1_000;

/// Secrets are never shown, only whether there are any. What does not belong to the provider's protocol and
/// mode is null.
fn view(provider: &ProviderSettings) -> Value {
    let asks = provider.confirmation == ConfirmationMode::RealTime;
    let is_told = provider.confirmation.tells() && !provider.pulls();
    let schedule_seconds: Vec<u64> =
        provider.notification_schedule_ms.iter().map(|delay_ms| delay_ms / MS_PER_SECOND).collect();
    json!({
        "id": provider.provider_id.as_str(),
        "name": provider.display_name,
        "mode": provider.mode.as_str(),
        "base_url": provider.base_url,
        "protocol": provider.protocol.as_str(),
        "confirmation": provider.confirmation.as_str(),
        "auth": {"type": auth_name(&provider.auth)},
        "signing_secret_set": provider.signing_secret.is_some(),
        "retry": {
            "first_delay_millisecond": provider.retry.first_delay_ms(),
            "factor": provider.retry.factor(),
            "max_delay_millisecond": provider.retry.max_delay_ms(),
        },
        "attempt_timeout_millisecond": provider.attempt_timeout_ms,
        "real_time_timeout_millisecond": asks.then_some(provider.real_time_timeout_ms),
        "notification_schedule_seconds": is_told.then_some(schedule_seconds),
        "exclusive_slots": provider.exclusive_slots,
        "default_unit_id": provider.default_unit_id,
        "decline_messages": provider.decline_messages,
        "requests_per_second": provider.requests_per_second,
        "max_attempts_in_flight": provider.max_attempts_in_flight,
        "availability": provider.availability.as_str(),
    })
}

/// Makes a provider, or replaces all that is configured of it: secrets that are left out are gone.
pub async fn put_provider(
    store: &impl ConfigurationStore,
    rules: TargetRules,
    id: &str,
    body: &Value,
) -> Result<Value, Problem> {
    let provider_id = ProviderId::parse(id).map_err(unusable_name)?;
    let (body, mut errors) = parse_checked::<ProviderBody>(body)?.into_parts();
    let before = store.provider(&provider_id).await.map_err(|error| configuration_problem(&error))?;
    let provider = read(body, provider_id, rules, &mut errors);
    if before.is_some_and(|before| before.mode != provider.mode) {
        // Its bookings and keys are of that mode.
        errors.push("/mode", "cannot be changed; delete the provider or use another name");
    }
    errors.finish()?;
    store.put_provider(&provider).await.map_err(|error| configuration_problem(&error))?;
    Ok(view(&provider))
}

/// One provider.
pub async fn provider(store: &impl ConfigurationStore, id: &str) -> Result<Value, Problem> {
    let id = ProviderId::parse(id).map_err(|_| not_found(WHAT))?;
    let provider = store.provider(&id).await.map_err(|error| configuration_problem(&error))?;
    provider.as_ref().map(view).ok_or_else(|| not_found(WHAT))
}

/// All providers.
pub async fn providers(store: &impl ConfigurationStore) -> Result<Value, Problem> {
    let providers = store.providers().await.map_err(|error| configuration_problem(&error))?;
    Ok(list(providers.iter().map(view)))
}

/// Removes a provider with its locations and ends its keys; bookings at it stay as they are. If it was broken off half-way,
/// a repetition finishes it.
pub async fn delete_provider(
    store: &(impl ConfigurationStore + LocationStore),
    availability: &impl AvailabilityStore,
    id: &str,
    now: Timestamp,
) -> Result<(), Problem> {
    let id = ProviderId::parse(id).map_err(|_| not_found(WHAT))?;
    // The provider goes first: a key that is being made meanwhile finds it gone and is taken back.
    let existed = store.delete_provider(&id).await.map_err(|error| configuration_problem(&error))?;
    let had_locations = locations::remove_all(store, availability, &id).await?;
    let revoked = keys::revoke_all(store, &KeyOwner::Provider(id), now).await?;
    if existed || had_locations || revoked > 0 { Ok(()) } else { Err(not_found(WHAT)) }
}
