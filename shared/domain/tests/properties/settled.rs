//! Once everything has settled, what Holdfast reports is what the provider holds, or a dead letter says
//! otherwise, whatever was lost on the way.

use holdfast_domain::{Cause, Compensation, ConfirmationMode, MAX_VERSIONS, State};
use proptest::prelude::*;

use crate::moves::{Wish, any_beginning, any_patience, any_wish};
use crate::provider::{Habits, Held};
use crate::truth::{Fate, MAX_UNDERWAY_MS, Opening, Truth, Turn};

const CASES: u32 = 3_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

fn any_fate() -> impl Strategy<Value = Fate> {
    let arrival = || prop::option::weighted(0.7, prop_oneof![Just(0), 0..=MAX_UNDERWAY_MS]);
    prop_oneof![
        3 => Just(Fate::Answered),
        3 => arrival().prop_map(|arrives_after_ms| Fate::Lost { arrives_after_ms }),
        1 => Just(Fate::NotSent),
        2 => arrival().prop_map(|arrives_after_ms| Fate::Dead { arrives_after_ms }),
        2 => prop_oneof![2 => 1_u64..10_000, 1 => 1_u64..2 * DAY_MS].prop_map(|reports_after_ms| Fate::Frozen { reports_after_ms }),
    ]
}

fn any_turn() -> impl Strategy<Value = Turn> {
    let willing = || prop::bool::weighted(0.75);
    let wait = prop_oneof![4 => 0_u64..100_000, 1 => 0_u64..2 * DAY_MS];
    prop_oneof![
        3 => wait.prop_map(Turn::Wait),
        8 => (any_fate(), willing(), prop::bool::weighted(0.8))
            .prop_map(|(fate, willing, reachable)| Turn::Due { fate, willing, reachable }),
        6 => (any_wish(), any_patience(), any_fate(), willing())
            .prop_map(|(wish, patience, fate, willing)| Turn::Begin { wish, patience, fate, willing }),
        2 => any::<bool>().prop_map(|named| Turn::CallBack { named }),
        1 => prop::bool::weighted(0.3).prop_map(|ends| if ends { Turn::EndByOperator } else { Turn::RetryNow }),
        1 => prop::bool::weighted(0.3)
            .prop_map(|withdraws| if withdraws { Turn::Withdraw } else { Turn::CallBack { named: true } }),
    ]
}

fn any_pause_ms() -> impl Strategy<Value = u64> {
    prop_oneof![2 => 0_u64..5_000, 1 => 0_u64..100_000]
}

/// A change whose answer may be lost, and what the provider tells of itself or is asked soon after.
fn any_doubt() -> impl Strategy<Value = Vec<Turn>> {
    (any_wish(), any_patience(), any_fate(), any_pause_ms(), any::<bool>()).prop_map(
        |(wish, patience, fate, wait_ms, named)| {
            vec![
                Turn::Begin { wish, patience, fate, willing: true },
                Turn::Wait(wait_ms),
                Turn::CallBack { named },
                Turn::Due { fate, willing: true, reachable: true },
            ]
        },
    )
}

/// A change whose answer is lost, and a cancel that overtakes it and may be refused.
fn any_overtaking() -> impl Strategy<Value = Vec<Turn>> {
    let begin = |wish, patience, fate, willing| Turn::Begin { wish, patience, fate, willing };
    (any_wish(), any_patience(), any_fate(), any_pause_ms(), any_fate(), prop::bool::weighted(0.4)).prop_map(
        move |(wish, patience, fate, wait_ms, cancel_fate, willing)| {
            vec![
                begin(wish, patience, fate, true),
                Turn::Wait(wait_ms),
                begin(Wish::Cancel, patience, cancel_fate, willing),
            ]
        },
    )
}

fn any_turns() -> impl Strategy<Value = Vec<Turn>> {
    let scene =
        prop_oneof![6 => any_turn().prop_map(|turn| vec![turn]), 1 => any_overtaking(), 1 => any_doubt()];
    prop::collection::vec(scene, 0..20).prop_map(|scenes| scenes.concat())
}

fn any_opening() -> impl Strategy<Value = Opening> {
    let fate = prop_oneof![2 => Just(Fate::Answered), 1 => any_fate()];
    (any_beginning(), any::<bool>(), fate, prop::bool::weighted(0.9), any::<bool>(), any::<bool>()).prop_map(
        |(beginning, hold, fate, willing, tells_operation, remembers_cancels)| Opening {
            beginning,
            hold,
            fate,
            willing,
            habits: Habits { tells_operation, remembers_cancels },
        },
    )
}

/// Whether somebody was called to look.
fn is_alarmed(truth: &Truth) -> bool {
    truth.booking.history.iter().any(|entry| {
        matches!(
            entry.cause,
            Cause::CompensationFailed | Cause::OperationUnresolved | Cause::NotificationFailed
        )
    })
}

fn check_agreement(truth: &Truth) -> Result<(), TestCaseError> {
    prop_assert_eq!(&truth.wrongs, &Vec::<String>::new());
    prop_assert!(truth.booking.history.len() <= MAX_VERSIONS);
    if is_alarmed(truth) {
        return Ok(());
    }
    let holds = truth.provider.holds(truth.now).filter(|(held, _)| *held != Held::Ended);
    let reported = match truth.booking.state {
        State::Confirmed => Some(Held::Confirmed),
        State::Reserved { expires_at } => Some(Held::Reserved(expires_at)),
        _ => None,
    };
    let reported = reported.map(|held| (held, truth.booking.slot.clone()));
    prop_assert_eq!(reported, holds, "{:?}", truth.booking.history);
    Ok(())
}

proptest! {
    // Most of what can go wrong here takes several things at once; a case is short.
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn what_is_reported_is_what_the_provider_holds(
        opening in any_opening(),
        turns in any_turns(),
        willing in any::<bool>(),
    ) {
        let mut truth = Truth::new(&opening);
        for turn in &turns {
            truth.play(turn);
            prop_assert_eq!(&truth.wrongs, &Vec::<String>::new());
        }
        if !truth.settle(willing) {
            check_agreement(&truth)?;
            // A hold stands; it runs out on both sides.
            truth.play(&Turn::Due { fate: Fate::Answered, willing, reachable: true });
            prop_assert!(truth.settle(willing));
        }
        check_agreement(&truth)?;
        if truth.booking.confirmation != ConfirmationMode::Confirm {
            prop_assert_eq!(&truth.booking.compensation, &Compensation::NotNeeded);
        }
    }

    /// Whatever had to be given up: once its provider answers, and an operator has ended it and has what failed done
    /// again, nothing is left of a booking.
    #[test]
    fn an_operator_leaves_nothing_behind(opening in any_opening(), turns in any_turns(), willing in any::<bool>()) {
        let mut truth = Truth::new(&opening);
        for turn in &turns {
            truth.play(turn);
        }
        truth.play(&Turn::EndByOperator);
        prop_assert!(truth.settle(willing));
        truth.play(&Turn::RetryNow);
        prop_assert!(truth.settle(true));
        let told = truth.booking.confirmation != ConfirmationMode::Confirm;
        if matches!(truth.booking.state, State::Rejected(_) | State::Cancelled(_)) && !told {
            let holds = truth.provider.holds(truth.now).filter(|(held, _)| *held != Held::Ended);
            prop_assert_eq!(holds, None, "{:?}", truth.booking.history);
        }
    }
}
