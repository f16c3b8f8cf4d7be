//! What followed from the changes of a stretch of time, over all bookings.

use std::collections::BTreeMap;

use holdfast_domain::HistoryEntry;

use super::*;

/// When the others' changes were.
const HOUR_MS: u64 = 60 * MINUTE_MS;

fn numbered(number: u16) -> BookingId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    BookingId::from_bytes(bytes)
}

/// As many bookings, each made a minute after the one before it, from `at()` on.
fn put_minutes(repairs: &Repairs, count: u16) {
    for number in 0..count {
        let created_at = at().plus_ms(u64::from(number) * MINUTE_MS);
        put(repairs, test_util::pending(numbered(number), created_at));
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
    let body = period(at().plus_ms(3 * MINUTE_MS), at().plus_ms(6 * MINUTE_MS));
    let answer = repairs.emit_period_again(&operator(), &body).await.unwrap();
    assert_eq!(answer, json!({"bookings": 3, "events": 3, "unreadable": 0, "next_cursor": null}));
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
    let times = [at(), at().plus_ms(HOUR_MS), at().plus_ms(2 * HOUR_MS)];
    for (entry, time) in booking.history.iter_mut().zip(times) {
        let moved = HistoryEntry { at: time, ..entry.clone() };
        *entry = moved;
    }
    put(&repairs, booking);
    let types = |repairs: &Repairs| published(repairs).into_values().flatten().collect::<Vec<_>>();
    let second = period(at().plus_ms(1), at().plus_ms(2 * HOUR_MS));
    repairs.emit_period_again(&operator(), &second).await.unwrap();
    assert_eq!(types(&repairs), ["booking.cancelled"]);
    assert_eq!(repairs.parking.dead_letters(), []);
    let last = period(at().plus_ms(2 * HOUR_MS), at().plus_ms(2 * HOUR_MS + 1));
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

/// However slow the store is, an answer comes, and the calls after it look at the rest: each booking once.
#[tokio::test(start_paused = true)]
async fn a_call_goes_on_where_the_one_before_it_ended() {
    let faults = Faults::new();
    let repairs = repairs(&faults);
    put_minutes(&repairs, 1_000);
    faults.always("bookings.scan", Fault::DelayAfter(9_000));
    let mut body = period(at(), at().plus_ms(1_000 * MINUTE_MS));
    let mut sizes = Vec::new();
    loop {
        let answer = repairs.emit_period_again(&operator(), &body).await.unwrap();
        sizes.push(answer["bookings"].as_u64().unwrap());
        if answer["next_cursor"].is_null() {
            break;
        }
        body["cursor"] = answer["next_cursor"].clone();
    }
    assert_eq!(sizes, [400, 400, 200]);
    let published = published(&repairs);
    assert_eq!(published.len(), 1_000);
    assert!(published.values().all(|types| *types == ["booking.created"]));
    // The cursor is of this period alone.
    body["to"] = json!(at().plus_ms(MINUTE_MS));
    let problem = repairs.emit_period_again(&operator(), &body).await.unwrap_err();
    assert_eq!(problem.errors[0].pointer, "/cursor");
}

/// A failure of any call is told of, and the repetition leaves nothing out.
#[tokio::test]
async fn nothing_is_passed_over_when_something_fails() {
    for call in ["audit.add", "bookings.scan", "bookings.read", "bus.publish", "timers.arm"] {
        let faults = Faults::new();
        let repairs = repairs(&faults);
        put_minutes(&repairs, 5);
        let body = period(at(), at().plus_ms(HOUR_MS));
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
    let week_ms = 7 * 24 * HOUR_MS;
    assert!(repairs.emit_period_again(&operator(), &period(at(), at().plus_ms(week_ms))).await.is_ok());
    for (body, pointer) in [
        (period(at(), at()), "/to"),
        (period(at(), at().plus_ms(week_ms + 1)), "/to"),
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
