use holdfast_domain::{ConsumerId, Mode};

use super::*;
use crate::ports::{ConfigurationStore, CountedRequests, StoreError};
use crate::settings::ConsumerSettings;
use crate::test_util::{Fault, Faults, MemorySettings};

fn tenant(name: &str) -> Tenant {
    Tenant { consumer_id: ConsumerId::parse(name).unwrap(), mode: Mode::Live }
}

/// The first moment of a window.
fn begin() -> Timestamp {
    Timestamp::parse_rfc3339("2027-01-15T08:00:00Z").unwrap()
}

/// A request as a function makes it; whether it may be made, and how the tenant then stands.
async fn ask(
    rates: &RequestRates,
    counter: &impl RequestCounter,
    tenant: &Tenant,
    now: Timestamp,
) -> Result<Option<RateState>, Problem> {
    let admitted = rates.admit(tenant, now)?;
    Ok(rates.report(counter, admitted, now).await)
}

async fn allow(counter: &MemorySettings, tenant: &Tenant, requests_per_second: u32) {
    let consumer = ConsumerSettings {
        consumer_id: tenant.consumer_id.clone(),
        display_name: "Shop".to_owned(),
        requests_per_second: Some(requests_per_second),
    };
    counter.put_consumer(&consumer).await.unwrap();
}

/// What is let through before the limit is known.
const UNKNOWN: u32 = 10;

#[tokio::test]
async fn a_window_has_its_quota_and_then_a_problem_says_when_to_come_again() {
    let (rates, counter, shop) = (RequestRates::default(), MemorySettings::new(), tenant("shop"));
    allow(&counter, &shop, 1).await;
    for made in 1..=60 {
        let state = ask(&rates, &counter, &shop, begin()).await.unwrap();
        let known = RateState { quota: 60, remaining: 60 - made, reset_s: 60 };
        assert_eq!(state, (made >= UNKNOWN).then_some(known));
    }
    let late = begin().plus_ms(41_200);
    let problem = ask(&rates, &counter, &shop, late).await.unwrap_err();
    assert_eq!((problem.code, problem.retry_after_s), (ProblemCode::RateLimited, Some(19)));
    assert_eq!(problem.rate, Some(RateState { quota: 60, remaining: 0, reset_s: 19 }));
    // The next window has its own.
    let next = ask(&rates, &counter, &shop, begin().plus_ms(60_000)).await.unwrap();
    assert_eq!(next, Some(RateState { quota: 60, remaining: 59, reset_s: 60 }));
}

#[tokio::test]
async fn what_nobody_has_said_is_the_usual() {
    let (rates, counter, shop) = (RequestRates::default(), MemorySettings::new(), tenant("shop"));
    let mut state = None;
    for _ in 0..UNKNOWN {
        state = ask(&rates, &counter, &shop, begin()).await.unwrap();
    }
    assert_eq!(state.unwrap().quota, DEFAULT_REQUESTS_PER_SECOND * WINDOW_S);
}

#[tokio::test]
async fn requests_are_reported_by_the_chunk() {
    let faults = Faults::new();
    let (rates, shop) = (RequestRates::default(), tenant("shop"));
    let counter = MemorySettings::with_faults(faults.clone());
    for _ in 0..105 {
        ask(&rates, &counter, &shop, begin()).await.unwrap();
    }
    assert_eq!(faults.calls().len(), 10);
    assert_eq!(counter.count_requests(&shop, begin(), 0).await.unwrap().total, 100);
}

#[tokio::test]
async fn who_floods_takes_nothing_from_others_and_no_more_than_a_chunk_an_instance_beyond_its_own() {
    const INSTANCES: u32 = 8;
    let counter = MemorySettings::new();
    let instances: Vec<RequestRates> = (0..INSTANCES).map(|_| RequestRates::default()).collect();
    let (flood, quiet) = (tenant("flood"), tenant("quiet"));
    allow(&counter, &flood, 50).await;
    allow(&counter, &quiet, 1).await;
    let mut let_through = 0;
    for second in 0..60_u64 {
        for (number, instance) in (0..).zip(&instances) {
            let now = begin().plus_ms(second * 1_000 + number);
            for _ in 0..40 {
                let_through += u32::from(ask(instance, &counter, &flood, now).await.is_ok());
            }
        }
        let instance = &instances[usize::try_from(second).unwrap() % instances.len()];
        let state = ask(instance, &counter, &quiet, begin().plus_ms(second * 1_000)).await;
        assert!(state.is_ok(), "second {second}: {state:?}");
    }
    // 19,200 were asked for.
    let quota = 50 * WINDOW_S;
    assert!((quota..=quota + INSTANCES * MAX_CHUNK).contains(&let_through), "{let_through}");
}

#[tokio::test]
async fn live_and_test_are_counted_apart() {
    let (rates, counter, live) = (RequestRates::default(), MemorySettings::new(), tenant("shop"));
    allow(&counter, &live, 1).await;
    while ask(&rates, &counter, &live, begin()).await.is_ok() {}
    let test = Tenant { mode: Mode::Test, ..live };
    assert!(ask(&rates, &counter, &test, begin()).await.is_ok());
}

#[tokio::test]
async fn what_could_not_be_reported_is_reported_when_there_is_twice_as_much() {
    let faults = Faults::new();
    let (rates, shop) = (RequestRates::default(), tenant("shop"));
    let counter = MemorySettings::with_faults(faults.clone());
    allow(&counter, &shop, 1).await;
    faults.always("requests.count", Fault::FailBefore);
    for _ in 0..100 {
        assert!(ask(&rates, &counter, &shop, begin()).await.is_ok(), "a limit that nobody knows bars nobody");
    }
    let reports = faults.calls().iter().filter(|call| **call == "requests.count").count();
    assert_eq!(reports, 4, "with 10, 20, 40 and 80 requests");
    faults.heal();
    for _ in 100..160 {
        assert_eq!(counter.count_requests(&shop, begin(), 0).await.unwrap().total, 0);
        ask(&rates, &counter, &shop, begin()).await.unwrap();
    }
    assert_eq!(counter.count_requests(&shop, begin(), 0).await.unwrap().total, 160);
    let problem = ask(&rates, &counter, &shop, begin()).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::RateLimited);
}

/// A counter that never answers.
struct Silent;

impl RequestCounter for Silent {
    async fn count_requests(&self, _: &Tenant, _: Timestamp, _: u32) -> Result<CountedRequests, StoreError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_counter_that_is_silent_holds_nobody_up_for_long() {
    let (rates, shop) = (RequestRates::default(), tenant("shop"));
    let begun = tokio::time::Instant::now();
    for _ in 0..UNKNOWN {
        ask(&rates, &Silent, &shop, begin()).await.unwrap();
    }
    assert_eq!(begun.elapsed(), REPORT_LIMIT);
}

#[tokio::test]
async fn a_request_that_is_given_up_leaves_its_report_to_the_next() {
    let (rates, counter, shop) = (RequestRates::default(), MemorySettings::new(), tenant("shop"));
    for _ in 1..UNKNOWN {
        ask(&rates, &counter, &shop, begin()).await.unwrap();
    }
    let given_up = rates.admit(&shop, begin()).unwrap();
    // While it is under way nobody else reports.
    ask(&rates, &counter, &shop, begin()).await.unwrap();
    assert_eq!(counter.count_requests(&shop, begin(), 0).await.unwrap().total, 0);
    drop(given_up);
    ask(&rates, &counter, &shop, begin()).await.unwrap();
    assert_eq!(counter.count_requests(&shop, begin(), 0).await.unwrap().total, UNKNOWN + 2);
}

#[tokio::test]
async fn a_limit_that_is_changed_holds_from_the_next_report_on() {
    let (rates, counter, shop) = (RequestRates::default(), MemorySettings::new(), tenant("shop"));
    allow(&counter, &shop, 1).await;
    while ask(&rates, &counter, &shop, begin()).await.is_ok() {}
    allow(&counter, &shop, 2).await;
    let next = begin().plus_ms(60_000);
    let state = ask(&rates, &counter, &shop, next).await.unwrap();
    assert_eq!(state.unwrap().quota, 120);
}

#[tokio::test]
async fn a_clock_that_goes_back_opens_no_window_again() {
    let (rates, counter, shop) = (RequestRates::default(), MemorySettings::new(), tenant("shop"));
    allow(&counter, &shop, 1).await;
    let late = begin().plus_ms(60_000);
    while ask(&rates, &counter, &shop, late).await.is_ok() {}
    assert!(ask(&rates, &counter, &shop, begin()).await.is_err());
}
