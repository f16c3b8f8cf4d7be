//! What followed from the changes of a stretch of time, over all bookings.

use std::collections::BTreeMap;

use holdfast_domain::HistoryEntry;

use super::*;

/// An hour and a day, in milliseconds.
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

fn numbered(number: u16) -> BookingId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    BookingId::from_bytes(bytes)
}

/// When the first of many bookings was made, which are there by now.
fn begin() -> Timestamp {
    at().minus_ms(3_000 * MINUTE_MS)
}

/// As many bookings, each made a minute after the one before it, for which nothing is due any more.
fn put_minutes(repairs: &Repairs, count: u16) {
    for number in 0..count {
        let mut booking =
            test_util::pending(numbered(number), begin().plus_ms(u64::from(number) * MINUTE_MS));
        booking.operation = None;
        booking.state = State::Expired;
        put(repairs, booking);
    }
}

fn period(from: Timestamp, to: Timestamp) -> Value {
    json!({ "from": from, "to": to, "reason": "dispatch was down" })
}

/// The events of each booking, by their types.
fn published(repairs: &Repairs) -> BTreeMap<String, Vec<String>> {
    let mut published: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in repairs.bus.events() {
        published.entry(event.subject).or_default().push(event.event_type);
    }
    published
}

#[tokio::test]
async fn what_changed_within_the_period_is_told_and_nothing_else() {
    let repairs = repairs(&Faults::new());
    put_minutes(&repairs, 10);
    let body = period(begin().plus_ms(3 * MINUTE_MS), begin().plus_ms(6 * MINUTE_MS));
    let answer = repairs.emit_period_again(&operator(), &body).await.unwrap();
    assert_eq!(answer, json!({"bookings": 3, "events": 3, "failed": 0, "next_cursor": null}));
    let expected = (3..6).map(|number| (numbered(number).to_string(), vec!["booking.created".to_owned()]));
    assert_eq!(published(&repairs), expected.collect());
    let log = log_of(&repairs).await;
    assert_eq!(log, [("ops1".to_owned(), "re_emit".to_owned(), "dispatch was down".to_owned())]);
    let page = repairs.audit_log(&AuditParameters::default()).await.unwrap();
    let subject = format!("{}/{}", body["from"].as_str().unwrap(), body["to"].as_str().unwrap());
    assert_eq!(page["data"][0]["subject"], subject);
}

/// Of a booking that changed before and after too, what followed from the changes of the time alone.
#[tokio::test]
async fn of_a_booking_the_versions_of_the_period_are_told() {
    let repairs = repairs(&Faults::new());
    let mut booking = given_up();
    let times = [begin(), begin().plus_ms(HOUR_MS), begin().plus_ms(2 * HOUR_MS)];
    for (entry, time) in booking.history.iter_mut().zip(times) {
        let moved = HistoryEntry { at: time, ..entry.clone() };
        *entry = moved;
    }
    put(&repairs, booking);
    let types = |repairs: &Repairs| published(repairs).into_values().flatten().collect::<Vec<_>>();
    let second = period(begin().plus_ms(1), begin().plus_ms(2 * HOUR_MS));
    repairs.emit_period_again(&operator(), &second).await.unwrap();
    assert_eq!(types(&repairs), ["booking.cancelled"]);
    assert_eq!(repairs.parking.dead_letters(), []);
    let last = period(begin().plus_ms(2 * HOUR_MS), begin().plus_ms(2 * HOUR_MS + 1));
    repairs.emit_period_again(&operator(), &last).await.unwrap();
    assert_eq!(types(&repairs), ["booking.cancelled", "booking.compensation_failed"]);
    assert_eq!(repairs.parking.dead_letters().len(), 1, "that somebody has to look may never have been said");
}

#[tokio::test]
async fn what_waits_is_armed() {
    let repairs = repairs(&Faults::new());
    put(&repairs, waiting());
    let all = period(at().minus_ms(HOUR_MS), at());
    let answer = repairs.emit_period_again(&operator(), &all).await.unwrap();
    assert_eq!((&answer["bookings"], &answer["events"]), (&json!(1), &json!(1)));
    assert_eq!(repairs.timers.waiting().len(), 1);
}

/// Calls until all is looked at: how many bookings each of them had.
async fn all_calls(repairs: &Repairs, mut body: Value) -> Vec<u64> {
    let mut sizes = Vec::new();
    loop {
        let begun_at = tokio::time::Instant::now();
        let answer = repairs.emit_period_again(&operator(), &body).await.unwrap();
        assert!(begun_at.elapsed() < std::time::Duration::from_secs(28), "the gateway has given up by now");
        sizes.push(answer["bookings"].as_u64().unwrap());
        if answer["next_cursor"].is_null() {
            return sizes;
        }
        body["cursor"] = answer["next_cursor"].clone();
    }
}

fn assert_each_is_told_once(repairs: &Repairs, count: usize) {
    let published = published(repairs);
    assert_eq!(published.len(), count);
    assert!(published.values().all(|types| *types == ["booking.created"]));
}

/// However slow the store is, an answer comes in time, and the calls after it look at the rest.
#[tokio::test(start_paused = true)]
async fn a_call_goes_on_where_the_one_before_it_ended() {
    for (call, delay_ms, count, calls) in [
        ("bookings.scan", 9_000, 2_500, 3),
        ("bookings.scan", 20_000, 20, 3),
        ("bus.publish", 2_400, 600, 11),
        ("bookings.read", 9_000, 600, 38),
    ] {
        let faults = Faults::new();
        let repairs = repairs(&faults);
        put_minutes(&repairs, count);
        faults.always(call, Fault::DelayAfter(delay_ms));
        let sizes = all_calls(&repairs, period(begin(), at())).await;
        assert_eq!((sizes.len(), sizes.iter().sum::<u64>()), (calls, u64::from(count)), "{call}: {sizes:?}");
        assert_each_is_told_once(&repairs, usize::from(count));
    }
}

/// What is done when the store falls silent is not done again.
#[tokio::test]
async fn a_call_that_is_broken_off_says_how_far_it_came() {
    let faults = Faults::new();
    let repairs = repairs(&faults);
    put_minutes(&repairs, 20);
    faults.on("bookings.read", 10, Fault::FailBefore);
    let mut body = period(begin(), at());
    let answer = repairs.emit_period_again(&operator(), &body).await.unwrap();
    assert_eq!((&answer["bookings"], &answer["failed"]), (&json!(8), &json!(0)));
    body["cursor"] = answer["next_cursor"].clone();
    // The cursor is of this period alone.
    let mut other = body.clone();
    other["to"] = json!(at().minus_ms(1));
    let problem = repairs.emit_period_again(&operator(), &other).await.unwrap_err();
    assert_eq!(problem.errors[0].pointer, "/cursor");
    let answer = repairs.emit_period_again(&operator(), &body).await.unwrap();
    assert_eq!((&answer["bookings"], &answer["next_cursor"]), (&json!(12), &Value::Null));
    assert_eq!(published(&repairs).len(), 20);
}

/// Not every change makes a version: the next notification begins when the one before it was taken.
#[tokio::test]
async fn what_is_due_is_armed_and_kept_whenever_it_began() {
    let repairs = repairs(&Faults::new());
    let mut booking = test_util::pending(id(), at().minus_ms(10 * HOUR_MS));
    booking.operation = None;
    booking.state = State::Confirmed;
    booking.route = holdfast_domain::NotificationRoute::Pull;
    booking.notifications = vec![holdfast_domain::Notification {
        kind: holdfast_domain::NotificationKind::Cancelled,
        slot: booking.slot.clone(),
        version: 1,
        number: 2,
        begun_at: at().minus_ms(5 * MINUTE_MS),
        attempts: 0,
        skipped: 0,
        last_error: None,
        phase: holdfast_domain::Phase::Waiting { next_attempt_at: at().plus_ms(HOUR_MS) },
    }];
    put(&repairs, booking.clone());
    let answer = repairs.emit_period_again(&operator(), &period(at().minus_ms(HOUR_MS), at())).await.unwrap();
    assert_eq!((&answer["bookings"], &answer["events"]), (&json!(1), &json!(0)));
    assert_eq!(repairs.timers.waiting().len(), 1);
    let kept = repairs.mailbox.entries(&booking.request.provider_id);
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].notification.number, 2);
}

/// A failure of any call is told of, and the repetition leaves nothing out.
#[tokio::test]
async fn nothing_is_passed_over_when_something_fails() {
    for call in ["audit.add", "bookings.scan", "bookings.read", "bus.publish"] {
        let faults = Faults::new();
        let repairs = repairs(&faults);
        put_minutes(&repairs, 5);
        let body = period(begin(), at());
        faults.next(call, Fault::FailBefore);
        let problem = repairs.emit_period_again(&operator(), &body).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::StoreUnavailable, "{call}");
        if call == "audit.add" {
            assert!(repairs.bus.events().is_empty(), "what is not written down is not done");
        }
        let answer = repairs.emit_period_again(&operator(), &body).await.unwrap();
        assert_eq!(answer["bookings"], 5, "{call}");
        assert_eq!(published(&repairs).len(), 5, "{call}");
    }
}

#[tokio::test]
async fn a_period_has_an_end_and_is_a_week_at_the_most() {
    let repairs = repairs(&Faults::new());
    let week_ms = 7 * DAY_MS;
    assert!(repairs.emit_period_again(&operator(), &period(at().minus_ms(week_ms), at())).await.is_ok());
    for (body, pointer) in [
        (period(at(), at()), "/to"),
        (period(at().minus_ms(week_ms + 1), at()), "/to"),
        (period(at().minus_ms(30 * DAY_MS + 1), at().minus_ms(29 * DAY_MS)), "/from"),
        (json!({"from": "yesterday", "to": at(), "reason": "x"}), "/from"),
        (json!({"from": at().minus_ms(1), "to": at(), "reason": ""}), "/reason"),
        (json!({"from": at().minus_ms(1), "to": at(), "reason": "x", "cursor": "AQIDBA"}), "/cursor"),
        (json!({"from": at().minus_ms(1), "to": at(), "reason": "x", "until": at()}), "/until"),
    ] {
        let problem = repairs.emit_period_again(&operator(), &body).await.unwrap_err();
        let pointers: Vec<&str> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!((problem.code, pointers), (ProblemCode::InvalidRequest, vec![pointer]), "{body}");
    }
    assert_eq!(log_of(&repairs).await.len(), 1, "what is refused is not done, and not written down");
}
