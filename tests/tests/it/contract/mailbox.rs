//! What every mailbox promises to providers that fetch their notifications.

use std::collections::HashMap;
use std::slice;

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join_all;
use holdfast_app::ports::{KeptNotification, NotificationMailbox, RELEASE_PAUSE_MS, Release};
use holdfast_app::test_util::MemoryMailbox;
use holdfast_domain::{
    AttemptError, BookingId, FETCH_LIMIT_MS, Notification, NotificationKind, Phase, ProviderId, Slot,
    Timestamp,
};

use super::embedded::{DELIVERY_TABLE, Embedded};
use super::fixtures::{now, provider_id};

on_both!(
    MemoryMailbox::new(), mailbox;
    what_has_waited_longest_comes_first,
    every_notification_survives,
    keeping_again_changes_nothing,
    one_of_many_pulls_gets_a_notification,
    what_is_too_old_is_not_shown,
    what_was_fetched_waits_again_once_an_hour,
    what_is_released_comes_first_and_is_fetched_once,
    a_clock_that_is_behind_fetches_what_was_released_once,
    one_of_many_releases_is_done,
    long_queues_are_shown_in_parts,
);

const ALL: usize = 100;

fn booking(seed: u8) -> BookingId {
    BookingId::from_bytes([seed; 16])
}

fn slot(location_id: &str) -> Slot {
    Slot {
        location_id: location_id.to_owned(),
        start: now().plus_ms(86_400_000),
        end: now().plus_ms(90_000_000),
        resource_id: Some("dr-grey".to_owned()),
        service_id: None,
    }
}

pub(crate) fn kept(seed: u8, number: u32, begun_at: Timestamp) -> KeptNotification {
    KeptNotification {
        provider_id: provider_id(),
        booking_id: booking(seed),
        notification: Notification {
            kind: NotificationKind::Booked,
            slot: slot("main-street"),
            version: 2,
            number,
            begun_at,
            attempts: 0,
            skipped: 0,
            last_error: None,
            phase: Phase::Waiting { next_attempt_at: begun_at.plus_ms(FETCH_LIMIT_MS) },
        },
        released: false,
    }
}

fn released(kept: &KeptNotification) -> KeptNotification {
    KeptNotification { released: true, ..kept.clone() }
}

async fn shown(mailbox: &impl NotificationMailbox, at: Timestamp) -> Vec<KeptNotification> {
    let waiting = mailbox.waiting(&provider_id(), ALL, at).await.unwrap();
    assert_eq!(waiting.remaining, 0);
    waiting.notifications
}

/// Takes all that waits.
async fn fetch(mailbox: &impl NotificationMailbox, at: Timestamp) -> Vec<KeptNotification> {
    let waiting = shown(mailbox, at).await;
    let marked = mailbox.mark_fetched(&waiting, at).await;
    assert!(marked.into_iter().all(|marked| marked == Ok(true)));
    waiting
}

async fn what_has_waited_longest_comes_first(mailbox: &impl NotificationMailbox) {
    let [first, second, third, fourth] = [
        kept(9, 1, now()),
        kept(1, 1, now().plus_ms(1)),
        kept(1, 2, now().plus_ms(1)),
        kept(2, 1, now().plus_ms(1)),
    ];
    for entry in [&fourth, &second, &third, &first] {
        mailbox.keep(entry).await.unwrap();
    }
    let other = KeptNotification { provider_id: ProviderId::parse("other").unwrap(), ..first.clone() };
    mailbox.keep(&other).await.unwrap();
    let part = mailbox.waiting(&provider_id(), 3, now().plus_ms(2)).await.unwrap();
    assert_eq!(part.notifications, [first.clone(), second.clone(), third.clone()]);
    assert_eq!(part.remaining, 1);
    assert_eq!(shown(mailbox, now().plus_ms(2)).await, [first, second, third, fourth]);
    let none = mailbox.waiting(&provider_id(), 0, now().plus_ms(2)).await.unwrap();
    assert_eq!((none.notifications.len(), none.remaining), (0, 4));
    let nobody = mailbox.waiting(&ProviderId::parse("nobody").unwrap(), ALL, now()).await.unwrap();
    assert_eq!((nobody.notifications.len(), nobody.remaining), (0, 0));
}

async fn every_notification_survives(mailbox: &impl NotificationMailbox) {
    let mut moved = kept(1, 3, now());
    moved.notification.kind = NotificationKind::Moved { from: slot("old-street") };
    moved.notification.version = 7;
    let mut cancelled = kept(2, 4, now());
    cancelled.notification.kind = NotificationKind::Cancelled;
    cancelled.notification.slot.resource_id = None;
    cancelled.notification.attempts = 2;
    cancelled.notification.last_error = Some(AttemptError::HttpStatus(500));
    cancelled.notification.phase = Phase::InFlight { lease_until: now() };
    for entry in [&moved, &cancelled] {
        mailbox.keep(entry).await.unwrap();
    }
    assert_eq!(fetch(mailbox, now()).await, [moved.clone(), cancelled.clone()]);
    mailbox.release(&provider_id(), now().plus_ms(1)).await.unwrap();
    assert_eq!(shown(mailbox, now().plus_ms(1)).await, [released(&moved), released(&cancelled)]);
}

async fn keeping_again_changes_nothing(mailbox: &impl NotificationMailbox) {
    let entry = kept(1, 1, now());
    mailbox.keep(&entry).await.unwrap();
    mailbox.keep(&entry).await.unwrap();
    assert_eq!(fetch(mailbox, now()).await, slice::from_ref(&entry));
    mailbox.keep(&entry).await.unwrap();
    assert_eq!(shown(mailbox, now()).await, []);
    mailbox.release(&provider_id(), now().plus_ms(1)).await.unwrap();
    mailbox.keep(&entry).await.unwrap();
    assert_eq!(shown(mailbox, now().plus_ms(1)).await, [released(&entry)]);
}

async fn one_of_many_pulls_gets_a_notification(mailbox: &impl NotificationMailbox) {
    let entries: Vec<KeptNotification> = (1..=3).map(|seed| kept(seed, 1, now())).collect();
    for entry in &entries {
        mailbox.keep(entry).await.unwrap();
    }
    let counts = |results: Vec<Vec<Result<bool, _>>>| -> Vec<usize> {
        let won = |place: usize| results.iter().filter(|result| result[place] == Ok(true)).count();
        (0..3).map(won).collect()
    };
    let pulls = (0..6).map(|pull| mailbox.mark_fetched(&entries, now().plus_ms(pull)));
    assert_eq!(counts(join_all(pulls).await), [1, 1, 1]);
    assert_eq!(shown(mailbox, now().plus_ms(9)).await, []);
    // The same goes for what was released.
    mailbox.release(&provider_id(), now().plus_ms(10)).await.unwrap();
    let again = shown(mailbox, now().plus_ms(10)).await;
    assert_eq!(again.len(), 3);
    let pulls = (0..6).map(|pull| mailbox.mark_fetched(&again, now().plus_ms(10 + pull)));
    assert_eq!(counts(join_all(pulls).await), [1, 1, 1]);
    assert_eq!(shown(mailbox, now().plus_ms(20)).await, []);
    // What was never kept cannot be fetched.
    let unknown = [kept(9, 1, now()), released(&kept(9, 1, now()))];
    assert_eq!(mailbox.mark_fetched(&unknown, now()).await, [Ok(false), Ok(false)]);
}

async fn what_is_too_old_is_not_shown(mailbox: &impl NotificationMailbox) {
    let entry = kept(1, 1, now());
    mailbox.keep(&entry).await.unwrap();
    let over = now().plus_ms(FETCH_LIMIT_MS);
    assert_eq!(shown(mailbox, over.minus_ms(1)).await, slice::from_ref(&entry));
    assert_eq!(shown(mailbox, over).await, []);
    // What was fetched may be released for as long, and then waits as long once more.
    let fetched_at = over.minus_ms(1);
    assert_eq!(fetch(mailbox, fetched_at).await.len(), 1);
    let released_at = fetched_at.plus_ms(FETCH_LIMIT_MS);
    assert_eq!(mailbox.release(&provider_id(), released_at).await, Ok(Release::Done(1)));
    let over = released_at.plus_ms(FETCH_LIMIT_MS);
    assert_eq!(shown(mailbox, over.minus_ms(1)).await, [released(&entry)]);
    assert_eq!(shown(mailbox, over).await, []);
    assert_eq!(mailbox.mark_fetched(&[released(&entry)], over).await, [Ok(false)]);
    assert_eq!(mailbox.release(&provider_id(), over).await, Ok(Release::Done(0)));
}

async fn what_was_fetched_waits_again_once_an_hour(mailbox: &impl NotificationMailbox) {
    assert_eq!(mailbox.release(&provider_id(), now()).await, Ok(Release::Done(0)));
    let entry = kept(1, 1, now().plus_ms(1));
    mailbox.keep(&entry).await.unwrap();
    fetch(mailbox, now().plus_ms(2)).await;
    let again_at = now().plus_ms(RELEASE_PAUSE_MS);
    let too_soon = Ok(Release::TooSoon { again_at });
    assert_eq!(mailbox.release(&provider_id(), again_at.minus_ms(1)).await, too_soon);
    assert_eq!(mailbox.release(&provider_id(), now().minus_ms(5)).await, too_soon);
    assert_eq!(shown(mailbox, again_at.minus_ms(1)).await, []);
    // Another provider's hour is its own.
    let other = ProviderId::parse("other").unwrap();
    assert_eq!(mailbox.release(&other, now().plus_ms(3)).await, Ok(Release::Done(0)));
    assert_eq!(mailbox.release(&provider_id(), again_at).await, Ok(Release::Done(1)));
    assert_eq!(shown(mailbox, again_at).await, [released(&entry)]);
}

async fn what_is_released_comes_first_and_is_fetched_once(mailbox: &impl NotificationMailbox) {
    let entries = [kept(3, 1, now()), kept(2, 1, now().plus_ms(1)), kept(1, 1, now().plus_ms(2))];
    for entry in &entries {
        mailbox.keep(entry).await.unwrap();
    }
    // Fetched one by one, in this order.
    for (after_ms, entry) in (10..).zip(&entries) {
        let marked = mailbox.mark_fetched(slice::from_ref(entry), now().plus_ms(after_ms)).await;
        assert_eq!(marked, [Ok(true)]);
    }
    let fresh = kept(4, 1, now().plus_ms(3));
    mailbox.keep(&fresh).await.unwrap();
    let released_at = now().plus_ms(20);
    assert_eq!(mailbox.release(&provider_id(), released_at).await, Ok(Release::Done(3)));
    let [first, second, third] = &entries;
    let part = mailbox.waiting(&provider_id(), 2, released_at).await.unwrap();
    assert_eq!(part.notifications, [released(first), released(second)]);
    assert_eq!(part.remaining, 2);
    let marked = mailbox.mark_fetched(&part.notifications, released_at.plus_ms(1)).await;
    assert_eq!(marked, [Ok(true), Ok(true)]);
    let rest = shown(mailbox, released_at.plus_ms(2)).await;
    assert_eq!(rest, [released(third), fresh.clone()]);
    // What still waits by the first release waits by the second one too.
    let later = released_at.plus_ms(FETCH_LIMIT_MS).minus_ms(1);
    assert_eq!(mailbox.release(&provider_id(), later).await, Ok(Release::Done(3)));
    let names: Vec<BookingId> =
        shown(mailbox, later).await.into_iter().map(|entry| entry.booking_id).collect();
    assert_eq!(names, [booking(1), booking(3), booking(2)]);
}

async fn a_clock_that_is_behind_fetches_what_was_released_once(mailbox: &impl NotificationMailbox) {
    for entry in [kept(1, 1, now()), kept(2, 1, now())] {
        mailbox.keep(&entry).await.unwrap();
    }
    let entry = shown(mailbox, now()).await.remove(0);
    assert_eq!(mailbox.mark_fetched(&[entry], now().plus_ms(1)).await, [Ok(true)]);
    mailbox.release(&provider_id(), now().plus_ms(5)).await.unwrap();
    assert_eq!(fetch(mailbox, now().plus_ms(3)).await.len(), 2);
    assert_eq!(shown(mailbox, now().plus_ms(3)).await, []);
    assert_eq!(shown(mailbox, now().plus_ms(6)).await, []);
}

async fn one_of_many_releases_is_done(mailbox: &impl NotificationMailbox) {
    mailbox.keep(&kept(1, 1, now())).await.unwrap();
    fetch(mailbox, now()).await;
    let provider_id = provider_id();
    for hours in 1..3 {
        let at = now().plus_ms(hours * RELEASE_PAUSE_MS);
        let releases = (0..8).map(|_| mailbox.release(&provider_id, at));
        let results = join_all(releases).await;
        let done = results.iter().filter(|result| **result == Ok(Release::Done(1))).count();
        let again_at = at.plus_ms(RELEASE_PAUSE_MS);
        let too_soon = results.iter().filter(|result| **result == Ok(Release::TooSoon { again_at })).count();
        assert_eq!((done, too_soon), (1, 7), "{results:?}");
    }
}

async fn long_queues_are_shown_in_parts(mailbox: &impl NotificationMailbox) {
    for number in 1..=130 {
        mailbox.keep(&kept(1, number, now().plus_ms(number.into()))).await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        let part = mailbox.waiting(&provider_id(), 60, now().plus_ms(200)).await.unwrap();
        seen.extend(part.notifications.iter().map(|entry| entry.notification.number));
        assert_eq!(part.remaining, 130_usize.saturating_sub(seen.len()));
        mailbox.mark_fetched(&part.notifications, now().plus_ms(200)).await;
    }
    assert_eq!(seen, (1..=130).collect::<Vec<_>>());
}

/// A later version of the code may have written it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_cannot_be_read_holds_up_nobody() {
    let database = Embedded::start().await;
    let mailbox = database.mailbox();
    let (early, late) = (kept(1, 1, now()), kept(2, 1, now().plus_ms(1)));
    for entry in [&early, &late] {
        mailbox.keep(entry).await.unwrap();
    }
    let sort_key = format!("W#{:015}#{}#000001", now().as_unix_ms(), booking(1));
    let update = database.client.update_item().table_name(DELIVERY_TABLE);
    update
        .key("pk", AttributeValue::S("PULL#demo-clinic".to_owned()))
        .key("sk", AttributeValue::S(sort_key))
        .update_expression("SET #notification.#kind = :new")
        .expression_attribute_names("#notification", "notification")
        .expression_attribute_names("#kind", "k")
        .expression_attribute_values(":new", AttributeValue::S("later".to_owned()))
        .send()
        .await
        .unwrap();
    let waiting = mailbox.waiting(&provider_id(), 1, now().plus_ms(2)).await.unwrap();
    assert_eq!((waiting.notifications, waiting.remaining), (vec![late], 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_go_by_themselves_after_they_can_be_shown() {
    const DAY_S: i64 = 24 * 60 * 60;
    let database = Embedded::start().await;
    let mailbox = database.mailbox();
    mailbox.keep(&kept(1, 1, now())).await.unwrap();
    let now_s = now().as_unix_ms() / 1_000;
    assert_eq!(ttls(&database).await, [now_s + 4 * DAY_S; 2]);
    fetch(&mailbox, now()).await;
    // It may be released for three days, and then waits for three.
    assert_eq!(ttls(&database).await, [now_s + 7 * DAY_S; 2]);
    mailbox.release(&provider_id(), now().plus_ms(1_000)).await.unwrap();
    assert_eq!(ttls(&database).await, [now_s + 1 + 4 * DAY_S, now_s + 7 * DAY_S, now_s + 7 * DAY_S]);
}

async fn ttls(database: &Embedded) -> Vec<i64> {
    let items = database.client.scan().table_name(DELIVERY_TABLE).send().await.unwrap().items.unwrap();
    let ttl = |item: &HashMap<String, AttributeValue>| item["ttl"].as_n().unwrap().parse().unwrap();
    let mut ttls: Vec<i64> = items.iter().map(ttl).collect();
    ttls.sort_unstable();
    ttls
}
