//! The books alone, with times handed in.

use serde_json::json;

use super::*;

fn key() -> Key {
    Key { provider_id: "p".to_owned(), booking_id: "bkg_1".to_owned() }
}

fn order(number: u64) -> Order {
    Order { number, slot: slot("2026-12-01T09:00:00Z"), hold: false, details: json!({}) }
}

fn slot(start: &str) -> Value {
    json!({"location_id": "l", "start": start})
}

fn terms() -> Terms {
    Terms::default()
}

fn undecided() -> Terms {
    Terms { undecided: true, ..Terms::default() }
}

fn reserved(ledger: &mut Ledger, life_seconds: u32) {
    let terms = Terms { expires_in_seconds: Some(life_seconds), ..Terms::default() };
    let outcome = ledger.book(&key(), &Order { hold: true, ..order(1) }, &terms, at(0));
    assert_eq!(status(&outcome), (201, Status::Reserved));
}

fn cancel() -> Change {
    Change::Cancel { reason: None }
}

fn change(ledger: &mut Ledger, number: u64, change: &Change, second: i64) -> Outcome {
    ledger.change(&key(), Some(number), change, &terms(), at(second))
}

fn move_to(start: &str) -> Change {
    Change::Reschedule { slot: slot(start) }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn code(outcome: &Outcome) -> (u16, &str) {
    match outcome {
        Outcome::Refused(refusal) => (refusal.status, refusal.code.as_deref().unwrap_or_default()),
        other => panic!("not refused: {other:?}"),
    }
}

/// What the native protocol answers to a yes.
fn status(outcome: &Outcome) -> (u16, Status) {
    match outcome {
        Outcome::Made(view) => (201, view.status),
        Outcome::Done(view) => (200, view.status),
        Outcome::Undecided(view, _) => (202, view.status),
        Outcome::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn found(ledger: &Ledger, second: i64) -> View {
    match ledger.look_up(&key(), at(second)) {
        Outcome::Done(view) => *view,
        other => panic!("not found: {other:?}"),
    }
}

fn book_count(ledger: &Ledger) -> u64 {
    ledger.list(|_| true, at(0))["data"][0]["book_count"].as_u64().unwrap()
}

#[test]
fn a_repeated_booking_answers_the_same_and_books_once() {
    let mut ledger = Ledger::default();
    let first = ledger.book(&key(), &order(1), &terms(), at(0));
    let second = ledger.book(&key(), &order(1), &terms(), at(5));
    assert_eq!(status(&first), (201, Status::Confirmed));
    assert_eq!(first, second);
    assert_eq!(book_count(&ledger), 1);
}

#[test]
fn a_cancel_for_an_unknown_booking_is_remembered() {
    let mut ledger = Ledger::default();
    assert_eq!(code(&change(&mut ledger, 2, &cancel(), 0)), (404, "unknown_booking"));
    assert_eq!(code(&ledger.book(&key(), &order(1), &terms(), at(1))), (409, "booking_cancelled"));
    assert_eq!(code(&ledger.look_up(&key(), at(2))), (404, "unknown_booking"));
    let forgetful = Terms { forget_cancels: true, ..Terms::default() };
    assert_eq!(status(&ledger.book(&key(), &order(1), &forgetful, at(3))).0, 201);
}

#[test]
fn stale_operations_change_nothing() {
    let mut ledger = Ledger::default();
    ledger.book(&key(), &order(3), &terms(), at(0));
    assert_eq!(code(&change(&mut ledger, 2, &cancel(), 1)), (409, "stale_operation"));
    assert_eq!(found(&ledger, 2).status, Status::Confirmed);
    assert_eq!(status(&change(&mut ledger, 4, &cancel(), 3)), (200, Status::Cancelled));
    assert_eq!(status(&change(&mut ledger, 4, &cancel(), 4)).0, 200);
    assert_eq!(status(&change(&mut ledger, 5, &cancel(), 4)).0, 200);
    assert_eq!(code(&ledger.book(&key(), &order(3), &terms(), at(5))), (409, "booking_cancelled"));
}

#[test]
fn another_slot_under_the_same_key_is_refused() {
    let mut ledger = Ledger::default();
    ledger.book(&key(), &order(1), &terms(), at(0));
    let other = Order { slot: json!({"location_id": "elsewhere"}), ..order(1) };
    let outcome = ledger.book(&key(), &other, &terms(), at(1));
    assert_eq!(code(&outcome), (422, "idempotency_key_reused"));
}

#[test]
fn a_provider_that_forgets_keys_books_twice_and_shows_it() {
    let mut ledger = Ledger::default();
    ledger.book(&key(), &order(1), &terms(), at(0));
    ledger.book(&key(), &order(1), &Terms { forget_keys: true, ..Terms::default() }, at(1));
    assert_eq!(book_count(&ledger), 2);
}

#[test]
fn an_undecided_booking_waits_for_its_decision() {
    let mut ledger = Ledger::default();
    assert_eq!(status(&ledger.book(&key(), &order(1), &undecided(), at(0))).0, 202);
    assert_eq!(status(&ledger.book(&key(), &order(1), &terms(), at(1))).0, 202);
    assert_eq!(found(&ledger, 2).status, Status::Pending);
    assert_eq!(code(&change(&mut ledger, 2, &Change::Confirm, 2)), (409, "not_decided"));
    assert!(ledger.decide(&key(), 1, CallbackStatus::Confirmed, &terms(), at(3)).is_some());
    assert!(ledger.decide(&key(), 1, CallbackStatus::Rejected, &terms(), at(4)).is_none());
    assert_eq!(found(&ledger, 5).status, Status::Confirmed);
    assert_eq!(book_count(&ledger), 1);
}

#[test]
fn a_rejected_booking_stays_rejected_and_is_not_found() {
    let mut ledger = Ledger::default();
    ledger.book(&key(), &order(1), &undecided(), at(0));
    ledger.decide(&key(), 1, CallbackStatus::Rejected, &terms(), at(1));
    assert_eq!(code(&ledger.look_up(&key(), at(2))), (404, "unknown_booking"));
    assert_eq!(code(&ledger.book(&key(), &order(1), &terms(), at(3))), (409, "rejected"));
}

#[test]
fn a_hold_runs_out_and_can_neither_be_confirmed_nor_extended_then() {
    let mut ledger = Ledger::default();
    reserved(&mut ledger, 60);
    assert_eq!(found(&ledger, 59).status, Status::Reserved);
    assert_eq!(found(&ledger, 60).status, Status::Expired);
    assert_eq!(code(&change(&mut ledger, 2, &Change::Confirm, 60)), (409, "hold_expired"));
    assert_eq!(
        code(&change(&mut ledger, 3, &Change::Extend { expires_at: at(90) }, 60)),
        (409, "hold_expired")
    );
    assert_eq!(code(&change(&mut ledger, 4, &move_to("2026-12-02T09:00:00Z"), 60)), (409, "hold_expired"));
    assert_eq!(status(&change(&mut ledger, 5, &cancel(), 60)), (200, Status::Cancelled));
}

#[test]
fn a_hold_is_confirmed_once_and_a_repetition_gets_the_first_answer() {
    let mut ledger = Ledger::default();
    assert_eq!(code(&change(&mut ledger, 2, &Change::Confirm, 0)), (404, "unknown_booking"));
    reserved(&mut ledger, 60);
    let first = change(&mut ledger, 2, &Change::Confirm, 1);
    assert_eq!(status(&first), (200, Status::Confirmed));
    assert_eq!(change(&mut ledger, 2, &Change::Confirm, 900), first);
    let view = found(&ledger, 900);
    assert_eq!((view.operation, view.entry.expires_at), (2, None));
    let extension = Change::Extend { expires_at: at(2_000) };
    assert_eq!(code(&change(&mut ledger, 2, &extension, 901)), (422, "idempotency_key_reused"));
    assert_eq!(code(&change(&mut ledger, 3, &Change::Confirm, 901)), (409, "already_confirmed"));
    assert_eq!(code(&change(&mut ledger, 4, &extension, 901)), (409, "not_reserved"));
    // What was refused has been answered too.
    assert_eq!(found(&ledger, 901).operation, 4);
    assert_eq!(code(&change(&mut ledger, 3, &Change::Confirm, 902)), (409, "stale_operation"));
}

#[test]
fn a_refusal_is_repeated_even_if_it_would_be_a_yes_by_now() {
    let mut ledger = Ledger::default();
    ledger.book(&key(), &Order { hold: true, ..order(1) }, &undecided(), at(0));
    assert_eq!(code(&change(&mut ledger, 2, &Change::Confirm, 1)), (409, "not_decided"));
    ledger.decide(&key(), 1, CallbackStatus::Confirmed, &terms(), at(2));
    assert_eq!(code(&change(&mut ledger, 2, &Change::Confirm, 3)), (409, "not_decided"));
    assert_eq!(status(&change(&mut ledger, 3, &Change::Confirm, 4)), (200, Status::Confirmed));
}

#[test]
fn a_hold_lives_longer_and_never_shorter() {
    let mut ledger = Ledger::default();
    reserved(&mut ledger, 60);
    change(&mut ledger, 2, &Change::Extend { expires_at: at(100) }, 1);
    assert_eq!(found(&ledger, 99).entry.expires_at, Some(at(100)));
    change(&mut ledger, 3, &Change::Extend { expires_at: at(50) }, 2);
    assert_eq!(found(&ledger, 99).entry.expires_at, Some(at(100)));
    let passed = change(&mut ledger, 4, &Change::Extend { expires_at: at(3) }, 3);
    assert_eq!(code(&passed), (409, "expires_at_passed"));
    let granted = Terms { expires_in_seconds: Some(300), ..Terms::default() };
    let extension = Change::Extend { expires_at: at(5_000) };
    ledger.change(&key(), Some(5), &extension, &granted, at(10));
    assert_eq!(found(&ledger, 11).entry.expires_at, Some(at(310)));
}

#[test]
fn a_moved_booking_gives_its_old_slot_up_in_the_same_step() {
    let mut ledger = Ledger::default();
    let first = ledger.book(&key(), &order(1), &terms(), at(0));
    let (old, new) = ("2026-12-01T09:00:00Z", "2026-12-02T09:00:00Z");
    let moved = change(&mut ledger, 2, &move_to(new), 1);
    let (Outcome::Made(before), Outcome::Done(after)) = (first, moved) else { panic!() };
    assert_eq!(before.entry.provider_reference, after.entry.provider_reference);
    let other = Key { booking_id: "bkg_2".to_owned(), ..key() };
    assert!(ledger.is_taken(&other, &slot(new), at(2)));
    assert!(!ledger.is_taken(&other, &slot(old), at(2)));
    let shown = ledger.list(|_| true, at(2));
    assert_eq!(shown["data"][0]["former_slots"][0]["slot"], slot(old));
    let held = ledger.held_slots(|_, place| place == "l", at(2));
    assert_eq!(held["data"][0]["slot"], slot(new));
    assert_eq!(held["data"][0]["bookings"], json!([{"booking_id": "bkg_1", "status": "confirmed"}]));
    change(&mut ledger, 3, &cancel(), 3);
    assert_eq!(ledger.held_slots(|_, _| true, at(4))["data"], json!([]));
}

#[test]
fn where_slots_are_exclusive_the_second_booking_is_refused() {
    let mut ledger = Ledger::default();
    let exclusive = Terms { one_per_slot: true, ..Terms::default() };
    ledger.book(&key(), &order(1), &exclusive, at(0));
    let other = Key { booking_id: "bkg_2".to_owned(), ..key() };
    // The same moment, written otherwise.
    let same = Order { slot: slot("2026-12-01T10:00:00+01:00"), ..order(1) };
    assert_eq!(code(&ledger.book(&other, &same, &exclusive, at(1))), (409, "slot_taken"));
    let elsewhere = Key { provider_id: "q".to_owned(), ..key() };
    assert_eq!(status(&ledger.book(&elsewhere, &same, &exclusive, at(1))).0, 201);
    let later = Order { slot: slot("2026-12-01T11:00:00Z"), ..order(1) };
    assert_eq!(status(&ledger.book(&other, &later, &exclusive, at(2))).0, 201);
    let onto = ledger.change(&other, Some(2), &move_to("2026-12-01T09:00:00Z"), &exclusive, at(3));
    assert_eq!(code(&onto), (409, "slot_taken"));
    change(&mut ledger, 2, &cancel(), 4);
    let onto = ledger.change(&other, Some(3), &move_to("2026-12-01T09:00:00Z"), &exclusive, at(5));
    assert_eq!(status(&onto).0, 200);
}

#[test]
fn an_undecided_change_waits_and_leaves_the_booking_as_it_was() {
    let mut ledger = Ledger::default();
    reserved(&mut ledger, 60);
    let asked = ledger.change(&key(), Some(2), &Change::Confirm, &undecided(), at(1));
    assert_eq!(status(&asked), (202, Status::Reserved));
    assert_eq!(status(&change(&mut ledger, 2, &Change::Confirm, 2)).0, 202);
    assert_eq!(found(&ledger, 2).operation, 1);
    let decision = ledger.decide(&key(), 2, CallbackStatus::Confirmed, &terms(), at(3)).unwrap();
    assert_eq!(decision.outcome.unwrap().status, Status::Confirmed);
    assert_eq!(status(&change(&mut ledger, 2, &Change::Confirm, 4)), (200, Status::Confirmed));
    assert_eq!(found(&ledger, 4).operation, 2);

    let new = move_to("2026-12-02T09:00:00Z");
    ledger.change(&key(), Some(3), &new, &undecided(), at(5));
    let decision = ledger.decide(&key(), 3, CallbackStatus::Rejected, &terms(), at(6)).unwrap();
    assert_eq!(decision.outcome.unwrap_err().code.as_deref(), Some("rejected"));
    assert_eq!(code(&change(&mut ledger, 3, &new, 7)), (409, "rejected"));
    assert_eq!(found(&ledger, 7).entry.slot, order(1).slot);
}

#[test]
fn a_cancel_overtakes_what_is_undecided() {
    let mut ledger = Ledger::default();
    reserved(&mut ledger, 60);
    ledger.change(&key(), Some(2), &Change::Confirm, &undecided(), at(1));
    assert_eq!(status(&change(&mut ledger, 3, &cancel(), 2)), (200, Status::Cancelled));
    assert!(ledger.decide(&key(), 2, CallbackStatus::Confirmed, &terms(), at(3)).is_none());
    assert_eq!(found(&ledger, 4).status, Status::Cancelled);
}

#[test]
fn a_confirm_that_is_decided_after_the_hold_ran_out_is_refused() {
    let mut ledger = Ledger::default();
    reserved(&mut ledger, 60);
    ledger.change(&key(), Some(2), &Change::Confirm, &undecided(), at(1));
    let decision = ledger.decide(&key(), 2, CallbackStatus::Confirmed, &terms(), at(61)).unwrap();
    assert_eq!(decision.outcome.unwrap_err().code.as_deref(), Some("hold_expired"));
}

#[test]
fn notices_are_taken_once_and_never_refused() {
    let mut ledger = Ledger::default();
    let (old, new) = (slot("2026-12-01T09:00:00Z"), slot("2026-12-02T09:00:00Z"));
    for _ in 0..2 {
        ledger.tell(&key(), &Notice::Booked { slot: old.clone() }, at(0)).unwrap();
    }
    assert_eq!(book_count(&ledger), 1);
    for _ in 0..2 {
        ledger.tell(&key(), &Notice::Moved { slot: new.clone() }, at(1)).unwrap();
    }
    // Repeated late, it does not move the booking back.
    ledger.tell(&key(), &Notice::Booked { slot: old }, at(2)).unwrap();
    let view = found(&ledger, 2);
    assert_eq!((view.status, &view.entry.slot, view.entry.former_slots.len()), (Status::Confirmed, &new, 1));
    for _ in 0..2 {
        ledger.tell(&key(), &Notice::Cancelled, at(3)).unwrap();
    }
    ledger.tell(&key(), &Notice::Moved { slot: new.clone() }, at(4)).unwrap();
    assert_eq!(found(&ledger, 5).status, Status::Cancelled);

    let unknown = Key { booking_id: "bkg_2".to_owned(), ..key() };
    ledger.tell(&unknown, &Notice::Cancelled, at(6)).unwrap();
    ledger.tell(&unknown, &Notice::Booked { slot: new }, at(7)).unwrap();
    assert_eq!(code(&ledger.look_up(&unknown, at(8))), (404, "unknown_booking"));
}
