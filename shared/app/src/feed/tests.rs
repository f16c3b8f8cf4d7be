use data_encoding::BASE64URL_NOPAD;
use holdfast_domain::EventId;

use super::*;
use crate::ports::NewEntry;
use crate::test_util::MemoryFeed;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

fn tenant() -> Tenant {
    Tenant::parse("test:shop").unwrap()
}

fn at(offset_ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(1_795_257_665_123).unwrap().plus_ms(offset_ms)
}

fn event(number: u32) -> NewEntry {
    let event_type = if number.is_multiple_of(2) { "booking.created" } else { "booking.confirmed" };
    NewEntry {
        event_id: EventId::derived("bkg", number, event_type),
        event_type: event_type.to_owned(),
        body: format!("{{\"number\":{number}}}"),
    }
}

async fn filled(count: u32) -> MemoryFeed {
    let store = MemoryFeed::new();
    for number in 1..=count {
        store.append(&tenant(), &[event(number)], at(u64::from(number))).await.unwrap();
    }
    store
}

fn parameters<'a>(
    after: Option<&'a str>,
    limit: Option<&'a str>,
    event_type: Option<&'a str>,
) -> FeedParameters<'a> {
    FeedParameters { after, limit, event_type }
}

async fn ask(store: &MemoryFeed, wanted: &FeedParameters<'_>, now: Timestamp) -> FeedAnswer {
    feed(store, &read_feed(&tenant(), wanted).unwrap(), now).await.unwrap()
}

fn numbers(answer: &FeedAnswer) -> Vec<u32> {
    let number = |body: &String| body["{\"number\":".len()..body.len() - 1].parse().unwrap();
    answer.bodies.iter().map(number).collect()
}

#[tokio::test]
async fn pages_follow_on_each_other_and_the_last_cursor_is_kept() {
    let store = filled(5).await;
    let first = ask(&store, &parameters(None, Some("3"), None), at(100)).await;
    assert_eq!((numbers(&first), first.has_more), (vec![1, 2, 3], true));
    let second = ask(&store, &parameters(Some(&first.next_cursor), Some("3"), None), at(100)).await;
    assert_eq!((numbers(&second), second.has_more), (vec![4, 5], false));
    let none = ask(&store, &parameters(Some(&second.next_cursor), None, None), at(100)).await;
    assert_eq!((numbers(&none), none.has_more), (vec![], false));
    assert_eq!(none.next_cursor, second.next_cursor);
    store.append(&tenant(), &[event(6)], at(200)).await.unwrap();
    assert_eq!(numbers(&ask(&store, &parameters(Some(&none.next_cursor), None, None), at(200)).await), [6]);
}

#[tokio::test]
async fn the_latest_cursor_begins_behind_all_that_is_there() {
    let store = filled(5).await;
    let latest = ask(&store, &parameters(Some("latest"), None, None), at(100)).await;
    assert_eq!((numbers(&latest), latest.has_more), (vec![], false));
    store.append(&tenant(), &[event(6)], at(200)).await.unwrap();
    assert_eq!(numbers(&ask(&store, &parameters(Some(&latest.next_cursor), None, None), at(200)).await), [6]);
    let empty = ask(&MemoryFeed::new(), &parameters(Some("latest"), None, None), at(100)).await;
    assert_eq!(
        empty.next_cursor,
        ask(&MemoryFeed::new(), &FeedParameters::default(), at(100)).await.next_cursor
    );
}

#[tokio::test]
async fn a_type_is_found_among_others_and_the_cursor_passes_them() {
    let store = filled(1_201).await;
    let all = parameters(None, Some("100"), Some("booking.confirmed"));
    let first = ask(&store, &all, at(2_000)).await;
    assert_eq!(numbers(&first), (0..100).map(|n| 2 * n + 1).collect::<Vec<u32>>());
    let rare = NewEntry { event_type: "booking.expired".to_owned(), ..event(5_000) };
    store.append(&tenant(), &[rare], at(2_000)).await.unwrap();
    let mut cursor = None;
    let mut calls = 0;
    loop {
        let answer =
            ask(&store, &parameters(cursor.as_deref(), None, Some("booking.expired")), at(2_000)).await;
        calls += 1;
        if !answer.has_more {
            assert_eq!(numbers(&answer), [5_000]);
            break;
        }
        assert!(answer.bodies.is_empty());
        cursor = Some(answer.next_cursor);
    }
    assert_eq!(calls, 3, "each call looks at 500");
}

#[tokio::test]
async fn what_is_missing_for_a_moment_is_waited_for() {
    let store = filled(6).await;
    // The third is still being written, although those behind it are visible.
    let whole = store.clone();
    let hidden = MemoryFeed::new();
    for entry in whole.entries(&tenant()) {
        hidden.append(&tenant(), &[entry.event], entry.at).await.unwrap();
    }
    hidden.retain(&tenant(), |entry| entry.number != 3);
    let seen = ask(&hidden, &FeedParameters::default(), at(10)).await;
    assert_eq!((numbers(&seen), seen.has_more), (vec![1, 2], false));
    let again = ask(&hidden, &parameters(Some(&seen.next_cursor), None, None), at(10)).await;
    assert_eq!((numbers(&again), &again.next_cursor), (vec![], &seen.next_cursor));
    let later = ask(&whole, &parameters(Some(&seen.next_cursor), None, None), at(10)).await;
    assert_eq!(numbers(&later), [3, 4, 5, 6]);
    // What never comes does not hold up the feed for ever.
    let lost = ask(&hidden, &FeedParameters::default(), at(10 + SETTLE_LIMIT_MS)).await;
    assert_eq!(numbers(&lost), [1, 2, 4, 5, 6]);
}

#[tokio::test]
async fn a_cursor_older_than_the_retention_begins_at_the_oldest_kept() {
    let store = MemoryFeed::new();
    for number in 1..=300 {
        store.append(&tenant(), &[event(number)], at(u64::from(number) * DAY_MS)).await.unwrap();
    }
    let begin = read_feed(&tenant(), &FeedParameters::default()).unwrap();
    let cursor = feed(&store, &begin, at(DAY_MS)).await.unwrap().next_cursor;
    let now = at(300 * DAY_MS);
    for after in [None, Some(cursor.as_str())] {
        let page = ask(&store, &parameters(after, Some("100"), None), now).await;
        assert_eq!(numbers(&page), (270..=300).collect::<Vec<_>>(), "nothing is removed yet");
    }
    store.retain(&tenant(), |entry| entry.number >= 265);
    for after in [None, Some(cursor.as_str())] {
        let page = ask(&store, &parameters(after, Some("5"), None), now).await;
        assert_eq!(numbers(&page), [270, 271, 272, 273, 274], "some is removed");
    }
    // All is gone, and something new comes at once.
    store.retain(&tenant(), |entry| entry.number == 300);
    let page = ask(&store, &FeedParameters::default(), at(329 * DAY_MS)).await;
    assert_eq!(numbers(&page), [300]);
    // An end of the feed that is too old moves nothing but the cursor.
    let gone = ask(&store, &FeedParameters::default(), at(331 * DAY_MS)).await;
    assert_eq!((numbers(&gone), gone.has_more), (vec![], false));
}

#[tokio::test]
async fn what_is_missing_for_exactly_as_long_as_it_is_kept_is_waited_for() {
    let written_at = at(0);
    let store = MemoryFeed::new();
    for number in 1..=3 {
        store.append(&tenant(), &[event(number)], written_at).await.unwrap();
    }
    store.retain(&tenant(), |entry| entry.number != 2);
    let shown = |now| {
        let store = &store;
        async move { numbers(&ask(store, &FeedParameters::default(), now).await) }
    };
    assert_eq!(shown(written_at.plus_ms(SETTLE_LIMIT_MS - 1)).await, [1]);
    assert_eq!(shown(written_at.plus_ms(SETTLE_LIMIT_MS)).await, [1, 3]);
}

#[tokio::test]
async fn a_page_is_full_before_an_answer_is_too_large() {
    let store = MemoryFeed::new();
    for number in 1..=30 {
        let large = NewEntry { body: "x".repeat(60_000), ..event(number) };
        store.append(&tenant(), &[large], at(1)).await.unwrap();
    }
    let page = ask(&store, &parameters(None, Some("100"), None), at(2)).await;
    assert_eq!((page.bodies.len(), page.has_more), (18, true));
    let rest = ask(&store, &parameters(Some(&page.next_cursor), Some("100"), None), at(2)).await;
    assert_eq!((rest.bodies.len(), rest.has_more), (12, false));
}

#[tokio::test]
async fn what_is_at_fault_is_named() {
    let store = filled(1).await;
    let cursor = ask(&store, &FeedParameters::default(), at(2)).await.next_cursor;
    let other_tenant = Tenant::parse("live:shop").unwrap();
    assert!(read_feed(&other_tenant, &parameters(Some(&cursor), None, None)).is_err());
    let mut altered = BASE64URL_NOPAD.decode(cursor.as_bytes()).unwrap();
    for position in 0..altered.len() {
        altered[position] ^= 1;
        let text = BASE64URL_NOPAD.encode(&altered);
        let problem = read_feed(&tenant(), &parameters(Some(&text), None, None)).unwrap_err();
        assert_eq!((problem.errors.len(), problem.errors[0].pointer.as_str()), (1, "after"));
        altered[position] ^= 1;
    }
    for text in ["", "0", "now", &cursor[1..], &format!("{cursor}A")] {
        assert!(read_feed(&tenant(), &parameters(Some(text), None, None)).is_err(), "{text}");
    }
    let problem = read_feed(&tenant(), &parameters(Some("x"), Some("101"), Some("booking"))).unwrap_err();
    let pointers: Vec<&str> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["after", "limit", "type"]);
    let problem = read_feed(&tenant(), &parameters(None, None, Some("booking"))).unwrap_err();
    assert_eq!((problem.errors.len(), problem.errors[0].pointer.as_str()), (1, "type"));
    for event_type in ["booking.no_show", "webhook.exhausted"] {
        assert!(read_feed(&tenant(), &parameters(None, Some("1"), Some(event_type))).is_ok());
    }
}
