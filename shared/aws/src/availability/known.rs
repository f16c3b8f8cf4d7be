//! Of which places availability is remembered, as this process saw it last: so that a change of a slot costs one
//! write where it is of use. Of which it is not is looked up each time: it may be a moment later, and then a slot
//! that is taken has to be noted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use holdfast_app::ports::Place;
use tokio::time::Instant;

/// For how long a place that is remembered is taken to be. One that is forgotten meanwhile gets notes that
/// nobody reads.
const REMEMBERED_FOR: Duration = Duration::from_mins(1);

/// How many places are known at the most: more than one process books at within a minute.
const MAX_PLACES: usize = 10_000;

/// The places that are remembered, each with the time until which that is believed.
#[derive(Default)]
pub(super) struct KnownPlaces(Mutex<HashMap<Place, Instant>>);

impl KnownPlaces {
    fn with<T>(&self, look: impl FnOnce(&mut HashMap<Place, Instant>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a place is known to be remembered.
    pub(super) fn has(&self, place: &Place) -> bool {
        let now = Instant::now();
        self.with(|places| places.get(place).is_some_and(|until| now < *until))
    }

    pub(super) fn learn(&self, place: &Place) {
        let now = Instant::now();
        self.with(|places| {
            if places.len() >= MAX_PLACES && !places.contains_key(place) {
                places.retain(|_, until| now < *until);
            }
            // With so many that none is over yet, all are looked up again.
            if places.len() >= MAX_PLACES && !places.contains_key(place) {
                places.clear();
            }
            places.insert(place.clone(), now + REMEMBERED_FOR);
        });
    }
}

#[cfg(test)]
mod tests {
    use holdfast_domain::ProviderId;

    use super::*;

    fn place(number: usize) -> Place {
        let provider_id = ProviderId::parse("demo-clinic").unwrap();
        Place { provider_id, location_id: number.to_string() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_of_a_place_is_known_for_a_while() {
        let known = KnownPlaces::default();
        assert!(!known.has(&place(1)));
        known.learn(&place(1));
        tokio::time::advance(REMEMBERED_FOR.saturating_sub(Duration::from_millis(1))).await;
        assert!(known.has(&place(1)) && !known.has(&place(2)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!known.has(&place(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_places_are_known_than_there_is_room_for() {
        let known = KnownPlaces::default();
        for number in 0..MAX_PLACES {
            known.learn(&place(number));
            if number == MAX_PLACES / 2 {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
        }
        // Those that are over make room first.
        tokio::time::advance(REMEMBERED_FOR.saturating_sub(Duration::from_secs(1))).await;
        known.learn(&place(MAX_PLACES));
        assert!(!known.has(&place(0)) && known.has(&place(MAX_PLACES - 1)));
        for number in 0..MAX_PLACES {
            known.learn(&place(number));
        }
        assert!(known.with(|places| places.len()) <= MAX_PLACES);
        assert!(known.has(&place(MAX_PLACES - 1)));
    }
}
