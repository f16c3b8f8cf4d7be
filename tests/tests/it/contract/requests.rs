//! What every counter of consumers' requests promises.

use futures_util::{StreamExt, stream};
use holdfast_app::ports::{ConfigurationStore, CountedRequests, RequestCounter};
use holdfast_app::settings::ConsumerSettings;
use holdfast_app::test_util::MemorySettings;
use holdfast_domain::{ConsumerId, Mode, Tenant};

use super::fixtures::now;

/// How many report at once.
const RACERS: usize = 12;
/// A window's length, in milliseconds.
const WINDOW_MS: u64 = 60_000;

on_both!(
    MemorySettings::new(), settings;
    requests_are_added_up_in_their_window,
    tenants_are_counted_by_themselves,
    of_many_at_once_none_is_lost,
    what_a_consumer_may_do_is_told_with_the_count,
);

fn tenant(name: &str, mode: Mode) -> Tenant {
    Tenant { consumer_id: ConsumerId::parse(name).unwrap(), mode }
}

fn shop() -> Tenant {
    tenant("shop", Mode::Test)
}

fn counted(total: u32) -> CountedRequests {
    CountedRequests { total, requests_per_second: None }
}

async fn requests_are_added_up_in_their_window(counter: &impl RequestCounter) {
    assert_eq!(counter.count_requests(&shop(), now(), 1).await.unwrap(), counted(1));
    assert_eq!(counter.count_requests(&shop(), now(), 10).await.unwrap(), counted(11));
    let next = now().plus_ms(WINDOW_MS);
    assert_eq!(counter.count_requests(&shop(), next, 3).await.unwrap(), counted(3));
    assert_eq!(counter.count_requests(&shop(), now(), 1).await.unwrap(), counted(12));
}

async fn tenants_are_counted_by_themselves(counter: &impl RequestCounter) {
    counter.count_requests(&shop(), now(), 5).await.unwrap();
    for other in [tenant("shop", Mode::Live), tenant("shop-2", Mode::Test)] {
        assert_eq!(counter.count_requests(&other, now(), 1).await.unwrap(), counted(1));
    }
}

async fn of_many_at_once_none_is_lost(counter: &impl RequestCounter) {
    let tenant = shop();
    let reports = (0..50).map(|_| counter.count_requests(&tenant, now(), 2));
    let totals: Vec<_> = stream::iter(reports).buffer_unordered(RACERS).collect().await;
    let mut totals: Vec<u32> = totals.into_iter().map(|counted| counted.unwrap().total).collect();
    totals.sort_unstable();
    assert_eq!(totals, (1..=50).map(|report| report * 2).collect::<Vec<_>>());
}

async fn what_a_consumer_may_do_is_told_with_the_count(store: &(impl RequestCounter + ConfigurationStore)) {
    let consumer = ConsumerSettings {
        consumer_id: shop().consumer_id,
        display_name: "Shop".to_owned(),
        requests_per_second: Some(7),
    };
    store.put_consumer(&consumer).await.unwrap();
    let told = store.count_requests(&shop(), now(), 4).await.unwrap();
    assert_eq!(told, CountedRequests { total: 4, requests_per_second: Some(7) });
    let said = ConsumerSettings { requests_per_second: None, ..consumer };
    store.put_consumer(&said).await.unwrap();
    assert_eq!(store.count_requests(&shop(), now(), 1).await.unwrap(), counted(5));
}
