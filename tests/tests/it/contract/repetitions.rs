//! A call says the same, whoever makes it: the first attempt is written here, what follows it by the SDK.

use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_app::ports::{BookingStore, Claim, Replaced};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::canned::canned;
use super::embedded::bookings_through;
use crate::skew::generated::stored;

/// How many bookings are made up.
const CASES: u32 = 200;

#[test]
fn a_repetition_says_what_the_first_attempt_said() {
    // Pauses between attempts take no time.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&(stored(), 1_u64..1_000), |(stored, seen_rev)| {
        let count = AtomicUsize::new(0);
        let (clients, requests) = canned(move |_| match count.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => (500, json!({"__type": "com.amazonaws#InternalServerError"})),
            _ => (200, json!({})),
        });
        runtime.block_on(async {
            let store = bookings_through(&clients.dynamodb);
            assert_eq!(store.claim(&stored).await, Ok(Claim::Claimed));
            assert_eq!(store.read(&stored.booking.id).await, Ok(None));
            assert_eq!(store.replace(seen_rev, &stored).await, Ok(Replaced::Done));
        });
        let requests = requests.lock().unwrap();
        prop_assert_eq!(requests.len(), 6);
        for pair in requests.chunks(2) {
            prop_assert_eq!(&pair[0], &pair[1]);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
