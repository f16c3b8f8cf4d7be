use holdfast_domain::{
    AttemptError, Booking, Cause, Command, CompensationOutcome, CompensationRecord, EventId, State, Status,
    Timestamp, transition,
};
use serde_json::{Value, json};

use super::*;
use crate::ports::{BookingStore, DeadLetterQueue, ParkedRecord};
use crate::test_util::{
    self, Fault, Faults, MemoryAudit, MemoryBookingStore, MemoryBus, MemoryDeadLetters, MemoryMailbox,
    MemoryParking, MemoryTimers, SeededEntropy, TestClock,
};

mod period;

const MINUTE_MS: u64 = 60_000;

type Repairs = Repair<
    MemoryBookingStore,
    MemoryAudit,
    MemoryDeadLetters,
    MemoryTimers,
    MemoryBus,
    MemoryMailbox,
    MemoryParking,
    TestClock,
    SeededEntropy,
>;

fn at() -> Timestamp {
    Timestamp::EPOCH.plus_ms(1_800_000_000_000)
}

fn id() -> BookingId {
    BookingId::from_bytes([1; 16])
}

fn operator() -> Operator {
    Operator { key_id: "ops1".to_owned() }
}

fn because() -> Value {
    json!({ "reason": "ticket 17" })
}

/// Repairs over memory, where everything goes by one plan of faults.
fn repairs(faults: &Faults) -> Repairs {
    Repair {
        bookings: MemoryBookingStore::with_faults(faults.clone()),
        audit: MemoryAudit::with_faults(faults.clone()),
        letters: MemoryDeadLetters::with_faults(faults.clone()),
        timers: MemoryTimers::with_faults(faults.clone()),
        bus: MemoryBus::with_faults(faults.clone()),
        mailbox: MemoryMailbox::with_faults(faults.clone()),
        parking: MemoryParking::with_faults(faults.clone()),
        clock: TestClock::starting_at(at()),
        entropy: SeededEntropy::new(7),
    }
}

fn put(repairs: &Repairs, booking: Booking) {
    repairs.bookings.put(&test_util::stored(booking));
}

fn after(booking: &Booking, command: Command, now: Timestamp) -> Booking {
    transition(booking, command, now).unwrap().booking
}

/// A booking that waits for its next attempt.
fn waiting() -> Booking {
    let booking = test_util::pending(id(), at().minus_ms(MINUTE_MS));
    let failed = Command::RecordAttempt {
        operation: 1,
        attempt: 1,
        outcome: holdfast_domain::AttemptOutcome::Unknown(AttemptError::TimedOut),
        retry_delay_ms: 300_000,
    };
    after(&booking, failed, at().minus_ms(1))
}

/// A booking whose compensation the provider refused.
fn given_up() -> Booking {
    let ended = after(&waiting(), Command::CancelByOperator, at().minus_ms(900));
    let claim = Command::ClaimCompensation { lease_until: at() };
    let claimed = after(&ended, claim, at().minus_ms(800));
    let record = CompensationRecord {
        number: 2,
        attempt: 1,
        asked_at: at().minus_ms(800),
        outcome: CompensationOutcome::Declined,
        retry_delay_ms: 0,
        settle_window_ms: 0,
    };
    after(&claimed, Command::RecordCompensation(record), at().minus_ms(700))
}

async fn booking_of(repairs: &Repairs) -> Booking {
    repairs.bookings.read(&id()).await.unwrap().unwrap().booking
}

async fn log_of(repairs: &Repairs) -> Vec<(String, String, String)> {
    let page = repairs.audit_log(&AuditParameters::default()).await.unwrap();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let entries = page["data"].as_array().unwrap().iter();
    entries.map(|entry| (text(entry, "key_id"), text(entry, "action"), text(entry, "reason"))).collect()
}

#[tokio::test]
async fn what_waits_is_due_at_once_and_the_log_says_who_and_why() {
    let repairs = repairs(&Faults::new());
    put(&repairs, waiting());
    let answer = repairs.retry(&operator(), id().as_str(), &because()).await.unwrap();
    assert_eq!((&answer["changed"], &answer["booking"]["next_step"]), (&json!(true), &json!("attempt")));
    let again = repairs.retry(&operator(), id().as_str(), &because()).await.unwrap();
    assert_eq!(again["changed"], false);
    let entry = ("ops1".to_owned(), "retry".to_owned(), "ticket 17".to_owned());
    assert_eq!(log_of(&repairs).await, [entry.clone(), entry]);
}

#[tokio::test]
async fn a_booking_is_ended_once() {
    let repairs = repairs(&Faults::new());
    put(&repairs, waiting());
    let answer = repairs.cancel(&operator(), id().as_str(), &because()).await.unwrap();
    assert_eq!((&answer["changed"], &answer["booking"]["status"]), (&json!(true), &json!("cancelled")));
    assert_eq!(answer["booking"]["compensation"]["status"], "underway");
    let again = repairs.cancel(&operator(), id().as_str(), &because()).await.unwrap();
    assert_eq!(again["changed"], false);
    let declined = Booking { state: State::Completed, operation: None, ..booking_of(&repairs).await };
    put(&repairs, declined);
    let problem = repairs.cancel(&operator(), id().as_str(), &because()).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::StatusConflict);
}

/// What is not in the log is not done.
#[tokio::test]
async fn nothing_is_done_that_cannot_be_written_down() {
    let faults = Faults::new();
    let repairs = repairs(&faults);
    put(&repairs, waiting());
    repairs.letters.put(DeadLetterQueue::Timers, "{}");
    faults.always("audit.add", Fault::FailBefore);
    for outcome in [
        repairs.retry(&operator(), id().as_str(), &because()).await,
        repairs.cancel(&operator(), id().as_str(), &because()).await,
        repairs.emit_again(&operator(), id().as_str(), &because()).await,
        repairs.redrive(&operator(), &json!({"queue": "timers", "reason": "x"})).await,
    ] {
        assert_eq!(outcome.unwrap_err().code, ProblemCode::StoreUnavailable);
    }
    assert_eq!(booking_of(&repairs).await, waiting());
    assert_eq!((repairs.bus.events().len(), repairs.letters.sent_again().len()), (0, 0));
}

#[tokio::test]
async fn a_repair_says_why_and_what_is_wrong_with_it() {
    let repairs = repairs(&Faults::new());
    put(&repairs, waiting());
    for (body, pointer) in [
        (json!({}), "/reason"),
        (json!({"reason": " "}), "/reason"),
        (json!({"reason": "a\nb"}), "/reason"),
        (json!({"reason": "x".repeat(501)}), "/reason"),
        (json!({"reason": "x", "force": true}), "/force"),
    ] {
        let problem = repairs.retry(&operator(), id().as_str(), &body).await.unwrap_err();
        assert_eq!(problem.errors[0].pointer, pointer, "{body}");
    }
    for (body, pointer) in [
        (json!({"queue": "stream_failures", "reason": "x"}), "/queue"),
        (json!({"queue": "timers", "reason": "x", "limit": 101}), "/limit"),
        (json!({"queue": "timers", "reason": "x", "limit": 0}), "/limit"),
    ] {
        let problem = repairs.redrive(&operator(), &body).await.unwrap_err();
        assert_eq!(problem.errors[0].pointer, pointer, "{body}");
    }
    let unknown = repairs.retry(&operator(), "bkg_1", &because()).await.unwrap_err();
    assert_eq!(unknown.code, ProblemCode::NotFound);
    assert_eq!(log_of(&repairs).await, [], "nothing was about to be done");
}

#[tokio::test]
async fn events_are_emitted_again_as_they_were() {
    let repairs = repairs(&Faults::new());
    let booking = given_up();
    put(&repairs, booking.clone());
    let answer = repairs.emit_again(&operator(), id().as_str(), &because()).await.unwrap();
    let events = repairs.bus.events();
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["booking.created", "booking.cancelled", "booking.compensation_failed"]);
    assert_eq!(answer["events"], 3);
    let body: Value = serde_json::from_str(&events[1].body).unwrap();
    let id_then = EventId::derived(id().as_str(), 2, "booking.cancelled");
    assert_eq!((&body["id"], &body["data"]["version"]), (&json!(id_then.as_str()), &json!(2)));
    assert_eq!(repairs.parking.dead_letters(), [], "nobody is called a second time");
    let later = json!({"reason": "x", "from_version": 3});
    assert_eq!(repairs.emit_again(&operator(), id().as_str(), &later).await.unwrap()["events"], 1);
    let never = json!({"reason": "x", "from_version": 0});
    let problem = repairs.emit_again(&operator(), id().as_str(), &never).await.unwrap_err();
    assert_eq!(problem.errors[0].pointer, "/from_version");
}

#[tokio::test]
async fn an_event_that_is_not_taken_is_told_of() {
    let faults = Faults::new();
    let repairs = repairs(&faults);
    put(&repairs, given_up());
    faults.next("bus.publish", Fault::FailEntry(1));
    let problem = repairs.emit_again(&operator(), id().as_str(), &because()).await.unwrap_err();
    assert_eq!(problem.code, ProblemCode::StoreUnavailable);
}

#[tokio::test]
async fn messages_go_back_to_where_they_failed() {
    let repairs = repairs(&Faults::new());
    for number in 0..25 {
        repairs.letters.put(DeadLetterQueue::Deliveries, &number.to_string());
    }
    repairs.letters.put(DeadLetterQueue::Events, "other");
    let some = json!({"queue": "deliveries", "limit": 12, "reason": "mended"});
    let answer = repairs.redrive(&operator(), &some).await.unwrap();
    let expected = json!({"queue": "deliveries", "redriven": 12, "kept": 0, "waiting": 13});
    assert_eq!(answer, expected);
    let rest = json!({"queue": "deliveries", "reason": "mended"});
    assert_eq!(repairs.redrive(&operator(), &rest).await.unwrap()["redriven"], 13);
    let sent: Vec<(DeadLetterQueue, String)> = repairs.letters.sent_again();
    let expected = (0..25).map(|number| (DeadLetterQueue::Deliveries, number.to_string()));
    assert_eq!(sent, expected.collect::<Vec<_>>());
    assert_eq!(repairs.redrive(&operator(), &rest).await.unwrap()["redriven"], 0);
}

/// A letter is removed only when what it stands for was done: lost calls lose none.
#[tokio::test]
async fn a_letter_that_could_not_be_served_stays() {
    let faults = Faults::new();
    let repairs = repairs(&faults);
    let body = json!({"queue": "timers", "reason": "x"});
    repairs.letters.put(DeadLetterQueue::Timers, "{}");
    for call in ["letters.take", "letters.send_again", "letters.remove"] {
        faults.next(call, Fault::FailBefore);
        assert!(repairs.redrive(&operator(), &body).await.is_err(), "{call}");
        assert_eq!(repairs.letters.waiting(DeadLetterQueue::Timers).len(), 1, "{call}");
        repairs.letters.give_back();
    }
    assert_eq!(repairs.redrive(&operator(), &body).await.unwrap()["redriven"], 1);
    assert_eq!(repairs.letters.sent_again().len(), 2, "the one whose removal failed came twice");
}

fn letter(booking_id: &str, from_version: Option<u32>) -> String {
    let record = ParkedRecord {
        booking_id: booking_id.to_owned(),
        from_version,
        to_version: from_version,
        reason: "unreadable".to_owned(),
    };
    serde_json::to_string(&record).unwrap()
}

#[tokio::test]
async fn what_was_parked_is_told_from_its_version_on() {
    let repairs = repairs(&Faults::new());
    put(&repairs, given_up());
    repairs.letters.put(DeadLetterQueue::ParkedRecords, &letter(id().as_str(), Some(3)));
    let gone = BookingId::from_bytes([9; 16]);
    repairs.letters.put(DeadLetterQueue::ParkedRecords, &letter(gone.as_str(), None));
    repairs.letters.put(DeadLetterQueue::ParkedRecords, "no record");
    repairs.letters.put(DeadLetterQueue::ParkedRecords, &letter("", None));
    let body = json!({"queue": "parked_records", "reason": "the new version reads it"});
    let answer = repairs.redrive(&operator(), &body).await.unwrap();
    let expected = json!({"queue": "parked_records", "redriven": 2, "kept": 2, "waiting": 2});
    assert_eq!(answer, expected);
    let events = repairs.bus.events();
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["booking.compensation_failed"]);
    assert_eq!(repairs.parking.dead_letters().len(), 1, "that somebody has to look was never said");
}

#[tokio::test]
async fn what_was_parked_is_looked_at_when_it_is_due() {
    let repairs = repairs(&Faults::new());
    put(&repairs, waiting());
    repairs.letters.put(DeadLetterQueue::ParkedRecords, &letter(id().as_str(), None));
    let body = json!({"queue": "parked_records", "reason": "x"});
    repairs.redrive(&operator(), &body).await.unwrap();
    assert_eq!(repairs.bus.events().len(), 1);
    assert_eq!(repairs.timers.waiting().len(), 1);
}

#[tokio::test]
async fn bookings_that_somebody_looked_at_are_retried() {
    let repairs = repairs(&Faults::new());
    put(&repairs, given_up());
    repairs.letters.put(DeadLetterQueue::Bookings, &letter(id().as_str(), Some(3)));
    let body = json!({"queue": "bookings", "reason": "the provider is mended"});
    assert_eq!(repairs.redrive(&operator(), &body).await.unwrap()["redriven"], 1);
    let booking = booking_of(&repairs).await;
    assert_eq!(booking.history.last().unwrap().cause, Cause::RetriedByOperator);
    // A second letter about it finds it under way.
    repairs.letters.put(DeadLetterQueue::Bookings, &letter(id().as_str(), Some(3)));
    assert_eq!(repairs.redrive(&operator(), &body).await.unwrap()["redriven"], 1);
    assert_eq!(booking_of(&repairs).await, booking);
}

#[tokio::test]
async fn what_is_due_for_long_is_stuck_and_letters_are_counted() {
    let repairs = repairs(&Faults::new());
    let mut late = waiting();
    late.operation.as_mut().unwrap().phase =
        holdfast_domain::Phase::Waiting { next_attempt_at: at().minus_ms(700_000) };
    put(&repairs, late);
    repairs.letters.put(DeadLetterQueue::StreamFailures, "{}");
    let stuck = repairs.stuck(&StuckParameters::default()).await.unwrap();
    assert_eq!((&stuck["bookings"][0]["id"], &stuck["has_more"]), (&json!(id().as_str()), &json!(false)));
    assert_eq!(stuck["bookings"][0]["overdue_seconds"], 700);
    let count = |queue: &str| {
        let queues = stuck["dead_letters"].as_array().unwrap();
        queues.iter().find(|entry| entry["queue"] == queue).unwrap()["messages"].clone()
    };
    assert_eq!((count("stream_failures"), count("timers")), (json!(1), json!(0)));
    let longer = StuckParameters { overdue_seconds: Some("701"), limit: None };
    assert_eq!(repairs.stuck(&longer).await.unwrap()["bookings"], json!([]));
    for (overdue_seconds, limit) in [(Some("9"), None), (Some("x"), None), (None, Some("101"))] {
        let problem = repairs.stuck(&StuckParameters { overdue_seconds, limit }).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::InvalidParameter);
    }
}

#[tokio::test]
async fn nothing_that_people_wrote_is_shown() {
    let repairs = repairs(&Faults::new());
    let mut booking = waiting();
    booking.request.metadata = [("note".to_owned(), "MARKED".to_owned())].into();
    booking.request.reference = Some("MARKED".to_owned());
    booking.request.notes = Some(holdfast_domain::Personal::new("MARKED".to_owned()));
    put(&repairs, booking);
    let shown = repairs.booking(id().as_str()).await.unwrap();
    assert_eq!(shown["status"], Status::Pending.as_str());
    assert!(!shown.to_string().contains("MARKED"), "{shown}");
}

#[tokio::test]
async fn the_log_is_read_a_page_at_a_time() {
    let repairs = repairs(&Faults::new());
    put(&repairs, waiting());
    for number in 0..5 {
        let body = json!({"reason": number.to_string()});
        repairs.retry(&operator(), id().as_str(), &body).await.unwrap();
    }
    let mut reasons = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let parameters = AuditParameters { limit: Some("2"), cursor: cursor.as_deref() };
        let page = repairs.audit_log(&parameters).await.unwrap();
        let entries = page["data"].as_array().unwrap();
        assert!(entries.len() <= 2);
        reasons.extend(entries.iter().map(|entry| entry["reason"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    reasons.sort();
    assert_eq!(reasons, ["0", "1", "2", "3", "4"]);
    let altered = AuditParameters { limit: None, cursor: Some("AQIDBA") };
    let problem = repairs.audit_log(&altered).await.unwrap_err();
    assert_eq!(problem.errors[0].pointer, "cursor");
}
