//! A provider tells by itself what is open at one of its locations.

use holdfast_domain::{LocationId, OpenSlot, Timestamp};

use super::ask::place_of;
use super::memory::{Learned, MAX_AGE_MS, learn, recall, remembered_window};
use super::slots::Push;
use crate::ports::{AvailabilityStore, KnownAvailability, LocationStore};
use crate::problem::{FieldError, Problem, ProblemCode};
use crate::settings::ProviderSettings;
use crate::settings_cache::configuration_problem;

/// What became of what a provider told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldAvailability {
    /// Whether it was something new.
    pub learned: Learned,
    /// The location's time zone, by name.
    pub time_zone: String,
    /// When it was so.
    pub as_of: Timestamp,
    /// How many slots are remembered: those of the next 22 days.
    pub remembered: usize,
}

/// Remembers what `provider` tells of one of its locations: all that is open there in the next 22 days, as it was when
/// the provider says, or else when it came. What lies beyond, or has begun, is left out.
pub async fn tell_availability(
    store: &impl AvailabilityStore,
    locations: &impl LocationStore,
    provider: &ProviderSettings,
    push: Push,
    received_at: Timestamp,
) -> Result<ToldAvailability, Problem> {
    let unknown = || {
        let detail = "No location of this name is configured for the provider.";
        Problem::new(ProblemCode::UnknownLocation, detail)
    };
    let Push { location_id, as_of, slots } = push;
    // A clock that is ahead makes nothing younger.
    let told_at = as_of.map_or(received_at, |as_of| as_of.min(received_at));
    if told_at.ms_until(received_at) >= MAX_AGE_MS {
        let error = FieldError::new("/as_of", "is 15 minutes ago or more");
        return Err(Problem::new(
            ProblemCode::InvalidRequest,
            format!("{} {}.", error.pointer, error.detail),
        )
        .with_errors(vec![error]));
    }
    let id = LocationId::parse(&location_id).map_err(|_| unknown())?;
    let found = locations.locations_named(&provider.provider_id, &[id]).await;
    let location = found.map_err(|error| configuration_problem(&error))?.pop().ok_or_else(unknown)?;
    let window = remembered_window(&location.zone, told_at);
    let is_kept = |slot: &OpenSlot| window.has(slot.start) && slot.start > told_at;
    let slots: Vec<OpenSlot> = slots.into_iter().filter(is_kept).collect();
    let remembered = slots.len();
    let said = KnownAvailability { as_of: told_at, window, zone: location.zone.clone(), slots };
    let place = place_of(provider, &location);
    let known = recall(store, &place, told_at).await.map_err(|error| configuration_problem(&error))?;
    let learned = learn(store, &place, known.availability.as_ref(), &said).await;
    let learned = learned.map_err(|error| configuration_problem(&error))?;
    Ok(ToldAvailability { learned, time_zone: location.zone.name().to_owned(), as_of: told_at, remembered })
}
