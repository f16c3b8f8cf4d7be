//! What every feed of events promises to those who poll it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join_all;
use holdfast_app::feed::{FeedParameters, feed, read_feed};
use holdfast_app::ports::{EventFeed, FEED_RETENTION_MS, MAX_APPENDED, NewEntry, StoreError};
use holdfast_app::test_util::MemoryFeed;
use holdfast_aws::{AwsHooks, DynamoFeed};
use holdfast_domain::{EventId, Tenant, Timestamp};
use serde_json::Value;

use super::embedded::{DELIVERY_TABLE, Embedded, clients_of, entropy};
use super::fixtures::{now, tenant};
use super::lossy_proxy::lossy_proxy;

on_both!(
    MemoryFeed::new(), feed;
    events_are_numbered_as_they_come,
    an_event_has_one_number,
    time_never_goes_back,
    tenants_have_feeds_of_their_own,
    a_reader_misses_nothing_while_many_write,
);

const ALL: usize = 1_000;

pub(crate) fn event(number: u32) -> NewEntry {
    let event_id = EventId::derived("bkg", number, "booking.created");
    NewEntry {
        body: format!(r#"{{ "id":"{event_id}",  "n": 1.00, "text": "Zoë \u00e9" }}"#),
        event_id,
        event_type: "booking.created".to_owned(),
    }
}

async fn shown(feed: &impl EventFeed, tenant: &Tenant) -> Vec<(u64, NewEntry)> {
    let mut found = Vec::new();
    loop {
        let after = found.last().map_or(0, |(number, _)| *number);
        let page = feed.read(tenant, after, ALL).await.unwrap();
        found.extend(page.entries.into_iter().map(|entry| (entry.number, entry.event)));
        if !page.has_more {
            return found;
        }
    }
}

async fn events_are_numbered_as_they_come(feed: &impl EventFeed) {
    assert_eq!(feed.last_number(&tenant()).await, Ok(0));
    assert_eq!(feed.read(&tenant(), 0, ALL).await.unwrap().entries, []);
    feed.append(&tenant(), &[event(1), event(2)], now()).await.unwrap();
    feed.append(&tenant(), &[], now()).await.unwrap();
    let many: Vec<NewEntry> = (3..).map(event).take(MAX_APPENDED).collect();
    feed.append(&tenant(), &many, now().plus_ms(5)).await.unwrap();
    let expected: Vec<(u64, NewEntry)> = (1..).zip((1..=12).map(event)).collect();
    assert_eq!(shown(feed, &tenant()).await, expected);
    assert_eq!(feed.last_number(&tenant()).await, Ok(12));
    let part = feed.read(&tenant(), 2, 3).await.unwrap();
    assert_eq!(part.entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), [3, 4, 5]);
    assert!(part.has_more);
    assert_eq!((part.entries[0].at, part.entries[0].previous_at), (now().plus_ms(5), now()));
    assert_eq!((part.entries[1].at, part.entries[1].previous_at), (now().plus_ms(5), now().plus_ms(5)));
}

async fn an_event_has_one_number(feed: &impl EventFeed) {
    feed.append(&tenant(), &[event(1), event(1), event(2)], now()).await.unwrap();
    feed.append(&tenant(), &[event(2), event(3), event(1)], now().plus_ms(FEED_RETENTION_MS)).await.unwrap();
    feed.append(&tenant(), &[event(1)], now()).await.unwrap();
    assert_eq!(shown(feed, &tenant()).await, (1..).zip((1..=3).map(event)).collect::<Vec<_>>());
    // What it says the second time does not matter.
    let other = NewEntry { body: "{}".to_owned(), ..event(3) };
    feed.append(&tenant(), &[other], now()).await.unwrap();
    assert_eq!(shown(feed, &tenant()).await[2], (3, event(3)));
}

async fn time_never_goes_back(feed: &impl EventFeed) {
    for (number, offset_ms) in [(1, 60_000), (2, 0), (3, 60_001)] {
        feed.append(&tenant(), &[event(number)], now().plus_ms(offset_ms)).await.unwrap();
    }
    let entries = feed.read(&tenant(), 0, ALL).await.unwrap().entries;
    let times: Vec<(Timestamp, Timestamp)> =
        entries.iter().map(|entry| (entry.previous_at, entry.at)).collect();
    let [first, last] = [60_000, 60_001].map(|offset_ms| now().plus_ms(offset_ms));
    assert_eq!(times, [(first, first), (first, first), (first, last)]);
}

async fn tenants_have_feeds_of_their_own(feed: &impl EventFeed) {
    let tenants = ["test:shop", "live:shop", "test:shop2"].map(|name| Tenant::parse(name).unwrap());
    for tenant in &tenants {
        feed.append(tenant, &[event(1)], now()).await.unwrap();
    }
    feed.append(&tenants[1], &[event(2)], now()).await.unwrap();
    for (tenant, count) in tenants.iter().zip([1, 2, 1]) {
        assert_eq!(shown(feed, tenant).await.len(), count);
    }
}

/// Twenty writers, every event written by two of them and in two orders, and a reader that never rests.
async fn a_reader_misses_nothing_while_many_write(feed: &impl EventFeed) {
    const WRITERS: u32 = 20;
    const EVENTS: u32 = 120;
    let done = AtomicUsize::new(0);
    let writers = join_all((0..WRITERS).map(|writer| {
        let done = &done;
        async move {
            // The second ten go backwards over what the first ten write.
            let (mine, backwards) = (writer % 10, writer >= 10);
            let mut numbers: Vec<u32> = (0..EVENTS).filter(|number| number % 10 == mine).collect();
            if backwards {
                numbers.reverse();
            }
            for batch in numbers.chunks(3) {
                let events: Vec<NewEntry> = batch.iter().map(|number| event(*number)).collect();
                // One that gives up comes again, as its messages do.
                while feed.append(&tenant(), &events, now()).await.is_err() {}
            }
            done.fetch_add(1, Ordering::SeqCst);
        }
    }));
    let (_, seen) = tokio::join!(writers, poll(feed, || done.load(Ordering::SeqCst) == 20));
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "an event is shown once");
    assert_eq!(seen.len(), usize::try_from(EVENTS).unwrap(), "none is missed");
    let numbers: Vec<u64> = shown(feed, &tenant()).await.into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, (1..=u64::from(EVENTS)).collect::<Vec<_>>());
}

/// Pages through the feed until a page that was begun after the writers were done is the last.
async fn poll(store: &impl EventFeed, is_done: impl Fn() -> bool) -> Vec<String> {
    let mut seen = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let is_last = is_done();
        let parameters = FeedParameters { after: cursor.as_deref(), limit: Some("7"), event_type: None };
        let answer = feed(store, &read_feed(&tenant(), &parameters).unwrap(), now()).await.unwrap();
        for body in &answer.bodies {
            let body: Value = serde_json::from_str(body).unwrap();
            seen.push(body["id"].as_str().unwrap().to_owned());
        }
        if is_last && !answer.has_more {
            return seen;
        }
        cursor = Some(answer.next_cursor);
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_was_lost_is_not_done_twice() {
    let database = Embedded::start().await;
    for lost in 1..=8 {
        let number = u32::try_from(lost).unwrap();
        let clients = clients_of(lossy_proxy(database.address, lost).await, &AwsHooks::default());
        let feed = DynamoFeed::new(clients.dynamodb, DELIVERY_TABLE, entropy());
        let first = feed.append(&tenant(), &[event(number)], now()).await;
        // A few lost answers are asked for again at once; with more, the event's message comes again.
        match lost {
            1 => assert_eq!(first, Ok(())),
            8 => assert!(matches!(first, Err(StoreError::Unavailable(_))), "{first:?}"),
            _ => {}
        }
        database.feed().append(&tenant(), &[event(number)], now()).await.unwrap();
    }
    assert_eq!(shown(&database.feed(), &tenant()).await, (1..).zip((1..=8).map(event)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_at_once_are_refused() {
    let database = Embedded::start().await;
    let many: Vec<NewEntry> = (0..).map(event).take(MAX_APPENDED + 1).collect();
    assert!(database.feed().append(&tenant(), &many, now()).await.is_err());
    assert_eq!(database.feed().last_number(&tenant()).await, Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_and_markers_go_by_themselves_and_the_counter_stays() {
    const DAY_S: i64 = 24 * 60 * 60;
    let database = Embedded::start().await;
    database.feed().append(&tenant(), &[event(1)], now()).await.unwrap();
    let items = database.client.scan().table_name(DELIVERY_TABLE).send().await.unwrap().items.unwrap();
    let ttl = |item: &std::collections::HashMap<String, AttributeValue>| -> Option<i64> {
        item.get("ttl").map(|ttl| ttl.as_n().unwrap().parse().unwrap())
    };
    let mut ttls: Vec<Option<i64>> = items.iter().map(ttl).collect();
    ttls.sort_unstable();
    let gone = Some(now().as_unix_ms() / 1_000 + 31 * DAY_S);
    assert_eq!(ttls, [None, gone, gone]);
}
