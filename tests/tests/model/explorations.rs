//! The explorations. Each number of worlds is a little less than what was counted, so that a model that has
//! shrunk is noticed.

use holdfast_domain::Patience::{Background, Synchronous};

use crate::bounds::{Bounds, Habits, Wish};
use crate::checked::{Exploration, Reached};
use crate::reached::{
    ASKED_AGAIN, CANCEL_REFUSED, CANCELLED_IN_BACKGROUND, CANCELLED_WHILE_PENDING, CONFIRMED, CONFLICT,
    DECLINED, EXPIRED, FOUND_CONFIRMED, GIVEN_UP_AND_COMPENSATED, GIVEN_UP_WITH_ALARM, HOLD_OUTLIVED,
    LATE_YES_COMPENSATED, LATE_YES_UNDER_COMPENSATION, MIND_CHANGED, NOT_CONFIRMED, OVERTAKEN_BUT_MADE,
    OVERTAKEN_REPORT, REFUSED_AFTER_CANCEL, REPLAY_ENDS_IT, SWEPT, TAKEN_OVER, TAKEN_UP,
    TOO_EARLY_TO_BELIEVE, WITHDRAWN,
};

const MOODY: Habits = Habits { is_moody: true, ..Habits::NATIVE };
const DOWN_FOR_CANCELS: Habits = Habits { is_down_for_cancels: true, ..Habits::NATIVE };
/// A delay that lets a compensation be tried three times in its 24 h, in milliseconds.
const TEN_HOURS_MS: u64 = 10 * 60 * 60 * 1_000;

/// The caller waits for the answer, and may ask twice.
const SYNCHRONOUS: Bounds = Bounds { creates: 2, ..Bounds::book(Synchronous, 2, Habits::NATIVE) };
/// The booking goes on in the background, and its caller may ask twice.
const BACKGROUND: Bounds = Bounds { creates: 2, ..Bounds::book(Background, 2, Habits::NATIVE) };
const SYNCHRONOUS_MOODY: Bounds = Bounds::book(Synchronous, 3, MOODY);
const BACKGROUND_MOODY: Bounds = Bounds::book(Background, 2, MOODY);
const SYNCHRONOUS_FORGETFUL: Bounds = Bounds::book(Synchronous, 3, Habits::FORGETFUL);
const BACKGROUND_FORGETFUL: Bounds = Bounds::book(Background, 2, Habits::FORGETFUL);
const SYNCHRONOUS_CANCEL: Bounds =
    Bounds { wishes: &[Wish::Cancel], ..Bounds::book(Synchronous, 2, Habits::NATIVE) };
const SYNCHRONOUS_CANCEL_FORGETFUL: Bounds =
    Bounds { wishes: &[Wish::Cancel], ..Bounds::book(Synchronous, 2, Habits::FORGETFUL) };
const BACKGROUND_CANCEL: Bounds =
    Bounds { wishes: &[Wish::Cancel], ..Bounds::book(Background, 2, Habits::NATIVE) };
const BACKGROUND_CANCEL_FORGETFUL: Bounds =
    Bounds { wishes: &[Wish::Cancel], ..Bounds::book(Background, 1, Habits::FORGETFUL) };
const CONFIRM: Bounds = Bounds {
    hold: true,
    wishes: &[Wish::Confirm(Synchronous)],
    ..Bounds::book(Synchronous, 2, Habits::NATIVE)
};
const CONFIRM_IN_BACKGROUND: Bounds = Bounds { wishes: &[Wish::Confirm(Background)], ..CONFIRM };
const CONFIRM_FORGETFUL: Bounds = Bounds { habits: Habits::FORGETFUL, ..CONFIRM_IN_BACKGROUND };
const CONFIRM_AND_CANCEL: Bounds =
    Bounds { wishes: &[Wish::Confirm(Synchronous), Wish::Cancel], faults: 1, ..CONFIRM };
const CONFIRM_IN_BACKGROUND_AND_CANCEL: Bounds =
    Bounds { wishes: &[Wish::Confirm(Background), Wish::Cancel], ..CONFIRM };
const COMPENSATION_UNANSWERED: Bounds =
    Bounds { retry_ms: TEN_HOURS_MS, ..Bounds::book(Synchronous, 2, DOWN_FOR_CANCELS) };

fn explore(name: &str, bounds: Bounds, reaches: &'static [Reached], at_least: usize) {
    Exploration { bounds, reaches }.run(name, at_least);
}

#[test]
fn a_booking_whose_caller_waits() {
    let reaches = &[
        CONFIRMED,
        DECLINED,
        GIVEN_UP_AND_COMPENSATED,
        LATE_YES_UNDER_COMPENSATION,
        REPLAY_ENDS_IT,
        CONFLICT,
        REFUSED_AFTER_CANCEL,
        LATE_YES_COMPENSATED,
    ];
    explore("synchronous", SYNCHRONOUS, reaches, 66_000);
}

#[test]
fn a_booking_in_the_background() {
    let reaches = &[
        CONFIRMED,
        DECLINED,
        GIVEN_UP_AND_COMPENSATED,
        ASKED_AGAIN,
        TAKEN_OVER,
        OVERTAKEN_REPORT,
        CONFLICT,
        SWEPT,
    ];
    explore("background", BACKGROUND, reaches, 180_000);
}

#[test]
fn a_provider_that_changes_its_mind_or_withdraws() {
    let reaches = &[MIND_CHANGED, WITHDRAWN, LATE_YES_COMPENSATED, SWEPT];
    explore("synchronous, moody", SYNCHRONOUS_MOODY, reaches, 290_000);
    explore("background, moody", BACKGROUND_MOODY, &[MIND_CHANGED, WITHDRAWN, TAKEN_OVER], 37_000);
}

#[test]
fn a_provider_that_does_not_remember_cancels() {
    let reaches = &[TOO_EARLY_TO_BELIEVE, GIVEN_UP_AND_COMPENSATED, LATE_YES_COMPENSATED];
    explore("synchronous, forgetful", SYNCHRONOUS_FORGETFUL, reaches, 270_000);
    explore("background, forgetful", BACKGROUND_FORGETFUL, &[ASKED_AGAIN, TAKEN_OVER], 28_000);
}

#[test]
fn a_cancel_of_a_booking_whose_caller_waits() {
    let reaches = &[CANCELLED_WHILE_PENDING, CANCEL_REFUSED, CANCELLED_IN_BACKGROUND, REFUSED_AFTER_CANCEL];
    explore("synchronous, cancel", SYNCHRONOUS_CANCEL, reaches, 60_000);
    let reaches = &[CANCELLED_WHILE_PENDING, TOO_EARLY_TO_BELIEVE];
    explore("synchronous, cancel, forgetful", SYNCHRONOUS_CANCEL_FORGETFUL, reaches, 63_000);
}

#[test]
fn a_cancel_of_a_booking_in_the_background() {
    let reaches =
        &[CANCELLED_WHILE_PENDING, CANCEL_REFUSED, CANCELLED_IN_BACKGROUND, TAKEN_OVER, ASKED_AGAIN];
    explore("background, cancel", BACKGROUND_CANCEL, reaches, 480_000);
    explore("background, cancel, forgetful", BACKGROUND_CANCEL_FORGETFUL, &[CANCELLED_WHILE_PENDING], 7_600);
}

#[test]
fn a_hold_and_its_confirmation() {
    let reaches = &[CONFIRMED, EXPIRED, HOLD_OUTLIVED, FOUND_CONFIRMED, NOT_CONFIRMED];
    explore("hold, confirm", CONFIRM, reaches, 120_000);
    let reaches = &[CONFIRMED, EXPIRED, HOLD_OUTLIVED, TAKEN_OVER];
    explore("hold, confirm in background", CONFIRM_IN_BACKGROUND, reaches, 53_000);
    explore("hold, confirm in background, forgetful", CONFIRM_FORGETFUL, reaches, 59_000);
}

#[test]
fn a_cancel_that_overtakes_a_confirmation() {
    let reaches = &[OVERTAKEN_BUT_MADE, TAKEN_OVER];
    explore("hold, confirm, cancel", CONFIRM_AND_CANCEL, reaches, 27_000);
    let reaches = &[TAKEN_UP, OVERTAKEN_BUT_MADE, TAKEN_OVER, CANCELLED_IN_BACKGROUND];
    explore("hold, confirm in background, cancel", CONFIRM_IN_BACKGROUND_AND_CANCEL, reaches, 600_000);
}

#[test]
fn a_compensation_that_nobody_answers() {
    explore("compensation unanswered", COMPENSATION_UNANSWERED, &[GIVEN_UP_WITH_ALARM], 74_000);
}

/// With one fault more, where that does not fill more than a few gigabytes.
#[test]
#[ignore = "takes many minutes and several gigabytes of memory"]
fn with_one_fault_more() {
    let all = [
        SYNCHRONOUS,
        BACKGROUND_MOODY,
        BACKGROUND_FORGETFUL,
        SYNCHRONOUS_CANCEL,
        SYNCHRONOUS_CANCEL_FORGETFUL,
        BACKGROUND_CANCEL_FORGETFUL,
        CONFIRM,
        CONFIRM_IN_BACKGROUND,
        CONFIRM_FORGETFUL,
        CONFIRM_AND_CANCEL,
    ];
    for bounds in all {
        let bounds = Bounds { faults: bounds.faults + 1, ..bounds };
        explore(&format!("{bounds:?}"), bounds, &[CONFIRMED], 1);
    }
}
