//! A call says the same, whoever makes it: the first attempt is written here, what follows it by the SDK.

use std::sync::{Arc, Mutex};

use holdfast_app::ports::{
    BookingStore, Claim, ConfigurationStore, CountedRequests, Replaced, RequestCounter, SettingsReader,
    Wanted,
};
use holdfast_aws::{AwsHooks, DynamoSettings};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use super::embedded::{CONFIG_TABLE, bookings_through, clients_of, entropy};
use crate::skew::generated::stored;

/// How many bookings are made up.
const CASES: u32 = 200;

/// What DynamoDB answers to what it is told for the first time: a failure that passes.
const FAILURE: (u16, &str) = (500, r#"{"__type":"com.amazonaws#InternalServerError"}"#);
/// What it answers to what it was told before.
const SUCCESS: (u16, &str) = (200, r#"{"Attributes":{"requests":{"N":"7"}}}"#);

fn read(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

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
    let outcome = runner.run(&(stored(), 1_u64..1_000, 1_u32..20), |(stored, seen_rev, requests)| {
        let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = Arc::clone(&bodies);
        let hooks = AwsHooks::answered_by(move |_, body| {
            let mut kept = kept.lock().unwrap();
            let is_known = kept.iter().any(|earlier| read(earlier) == read(body));
            kept.push(body.to_vec());
            let (status, answer) = if is_known { SUCCESS } else { FAILURE };
            (status, answer.to_owned())
        });
        runtime.block_on(async {
            let client = clients_of(([127, 0, 0, 1], 9).into(), &hooks).dynamodb;
            let store = bookings_through(&client);
            assert_eq!(store.claim(&stored).await, Ok(Claim::Claimed));
            assert_eq!(store.read(&stored.booking.id).await, Ok(None));
            assert_eq!(store.replace(seen_rev, &stored).await, Ok(Replaced::Done));
            let settings = DynamoSettings::new(client, CONFIG_TABLE, entropy());
            let tenant = &stored.booking.tenant;
            let provider_id = Some(stored.booking.request.provider_id.clone());
            let wanted = Wanted { provider_id, booking_key_secrets: true, ..Wanted::default() };
            assert!(settings.load(&wanted).await.unwrap().provider.is_none());
            assert_eq!(settings.consumer(&tenant.consumer_id).await, Ok(None));
            // The consumer's limits are read beside the report, as they were just now.
            let counted = settings.count_requests(tenant, stored.booking.created_at(), requests).await;
            assert_eq!(counted, Ok(CountedRequests { total: 7, requests_per_second: None }));
        });
        let bodies = bodies.lock().unwrap();
        let [
            claim,
            claim_again,
            look,
            look_again,
            replace,
            replace_again,
            load,
            load_again,
            consumer,
            consumer_again,
            report,
            _,
            report_again,
        ] = &bodies[..]
        else {
            panic!("{} requests", bodies.len());
        };
        let pairs = [
            (claim, claim_again),
            (look, look_again),
            (replace, replace_again),
            (load, load_again),
            (consumer, consumer_again),
            (report, report_again),
        ];
        for (first, again) in pairs {
            prop_assert_eq!(read(first), read(again));
        }
        // The SDK writes members in an order of its own, and repeats its own requests to the letter.
        for (first, again) in [(claim, claim_again), (replace, replace_again), (report, report_again)] {
            prop_assert!(first != again, "all were written by the same");
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
