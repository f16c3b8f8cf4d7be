//! A call says the same, whoever makes it: the first attempt is written here, what follows it by the SDK.

use std::sync::{Arc, Mutex};

use holdfast_app::ports::{BookingStore, Claim, Replaced};
use holdfast_aws::AwsHooks;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use super::embedded::{bookings_through, clients_of};
use crate::skew::generated::stored;

/// How many bookings are made up.
const CASES: u32 = 200;

/// What DynamoDB answers, in turns: a failure that passes, and a success.
const ANSWERS: [(u16, &str); 2] = [(500, r#"{"__type":"com.amazonaws#InternalServerError"}"#), (200, "{}")];

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
        let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = Arc::clone(&bodies);
        let hooks = AwsHooks::answered_by(move |_, body| {
            let mut kept = kept.lock().unwrap();
            kept.push(body.to_vec());
            let (status, answer) = ANSWERS[(kept.len() - 1) % ANSWERS.len()];
            (status, answer.to_owned())
        });
        runtime.block_on(async {
            let store = bookings_through(&clients_of(([127, 0, 0, 1], 9).into(), &hooks).dynamodb);
            assert_eq!(store.claim(&stored).await, Ok(Claim::Claimed));
            assert_eq!(store.read(&stored.booking.id).await, Ok(None));
            assert_eq!(store.replace(seen_rev, &stored).await, Ok(Replaced::Done));
        });
        let bodies = bodies.lock().unwrap();
        let read = |body: &Vec<u8>| -> Value { serde_json::from_slice(body).unwrap() };
        let [claim, claim_again, look, look_again, replace, replace_again] = &bodies[..] else {
            panic!("{} requests", bodies.len());
        };
        for (first, again) in [(claim, claim_again), (look, look_again), (replace, replace_again)] {
            prop_assert_eq!(read(first), read(again));
        }
        // The SDK writes members in an order of its own, and repeats its own requests to the letter.
        prop_assert!(claim != claim_again && replace != replace_again, "all were written by the same");
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
