//! Of which places availability is remembered, as this process saw it last: so that a change of a slot costs one
//! write where it is of use, and nothing where it is not.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use holdfast_app::ports::Place;
use tokio::time::Instant;

/// For how long a place that is remembered is taken to be. One that is forgotten meanwhile gets notes that
/// nobody reads.
const REMEMBERED_FOR: Duration = Duration::from_mins(1);

/// For how long a place that is not remembered is taken not to be. It may be remembered meanwhile, and its slots
/// be taken without a note.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);

/// How many places are known at the most: more than one process books at within a minute.
const MAX_PLACES: usize = 10_000;

struct Known {
    is_remembered: bool,
    until: Instant,
}

/// What is known of places.
#[derive(Default)]
pub(super) struct KnownPlaces(Mutex<HashMap<Place, Known>>);

impl KnownPlaces {
    fn with<T>(&self, look: impl FnOnce(&mut HashMap<Place, Known>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a place is remembered; `None` if that has to be looked up.
    pub(super) fn recall(&self, place: &Place) -> Option<bool> {
        let now = Instant::now();
        self.with(|places| {
            places.get(place).filter(|known| now < known.until).map(|known| known.is_remembered)
        })
    }

    pub(super) fn learn(&self, place: &Place, is_remembered: bool) {
        let now = Instant::now();
        let until = now + if is_remembered { REMEMBERED_FOR } else { UNKNOWN_FOR };
        self.with(|places| {
            if places.len() >= MAX_PLACES && !places.contains_key(place) {
                places.retain(|_, known| now < known.until);
            }
            // With so many that none is over yet, all are looked up again.
            if places.len() >= MAX_PLACES && !places.contains_key(place) {
                places.clear();
            }
            places.insert(place.clone(), Known { is_remembered, until });
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
        assert_eq!(known.recall(&place(1)), None);
        known.learn(&place(1), true);
        known.learn(&place(2), false);
        tokio::time::advance(UNKNOWN_FOR.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!((known.recall(&place(1)), known.recall(&place(2))), (Some(true), Some(false)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((known.recall(&place(1)), known.recall(&place(2))), (Some(true), None));
        tokio::time::advance(REMEMBERED_FOR.saturating_sub(UNKNOWN_FOR)).await;
        assert_eq!(known.recall(&place(1)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_places_are_known_than_there_is_room_for() {
        let known = KnownPlaces::default();
        for number in 0..MAX_PLACES {
            known.learn(&place(number), number % 2 == 0);
        }
        // Those that are over make room first.
        tokio::time::advance(UNKNOWN_FOR).await;
        known.learn(&place(MAX_PLACES), true);
        assert_eq!((known.recall(&place(0)), known.recall(&place(1))), (Some(true), None));
        for number in 0..MAX_PLACES {
            known.learn(&place(number), true);
        }
        assert!(known.with(|places| places.len()) <= MAX_PLACES);
        assert_eq!(known.recall(&place(MAX_PLACES - 1)), Some(true));
    }
}
