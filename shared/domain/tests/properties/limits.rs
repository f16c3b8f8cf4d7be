//! Nothing panics, whatever the numbers; and a booking's number of versions is bounded.

use holdfast_domain::{
    Acknowledgement, AttemptError, AttemptOutcome, Booking, CLOCK_SKEW_MS, COMPENSATION_LIMIT_MS, Change,
    ChangeRequest, Command, Compensation, CompensationOutcome, CompensationRecord, ConfirmationMode,
    FETCH_LIMIT_MS, MAX_VERSIONS, MIN_SETTLE_WINDOW_MS, NotificationRecord, Patience, RESOLUTION_LIMIT_MS,
    Refused, Status, Step, Timestamp, UnchangedRecord, Withdrawal, effects, next_step, transition,
};
use proptest::prelude::*;

use crate::beginning::slot;
use crate::moves::{
    Beginning, Move, SLOTS, Wish, any_beginning, any_compensation_outcome, any_error, any_moves,
    any_patience, any_told_beginning, no, yes,
};
use crate::world::World;

/// The last representable instant, in milliseconds since the Unix epoch.
const LAST_UNIX_MS: u64 = 253_402_300_799_999;

/// The most slots that a booking has or wants: its own, that of a move, and that of one that was overtaken.
const MAX_SLOTS: usize = 3;

fn any_time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        Just(Timestamp::EPOCH),
        Just(Timestamp::EPOCH.plus_ms(LAST_UNIX_MS)),
        any::<u64>().prop_map(|unix_ms| Timestamp::EPOCH.plus_ms(unix_ms)),
        (0..=LAST_UNIX_MS).prop_map(|unix_ms| Timestamp::EPOCH.plus_ms(unix_ms)),
        (0_u64..200_000_000).prop_map(|ms| Timestamp::EPOCH.plus_ms(1_800_000_000_000 + ms)),
    ]
}

fn any_delay_ms() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), 0_u64..100_000]
}

fn any_number() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..6, Just(u32::MAX), any::<u32>()]
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Book),
        Just(Change::Confirm),
        any_time().prop_map(|expires_at| Change::Extend { expires_at }),
        Just(Change::Cancel(Withdrawal::default())),
        (0..SLOTS).prop_map(|number| Change::Reschedule(slot(number))),
    ]
}

/// Any command at all, whether or not it makes sense.
fn any_command() -> impl Strategy<Value = Command> {
    let outcome = (any_time(), any_error(), 0_u8..5).prop_map(|(time, error, kind)| match kind {
        0 => AttemptOutcome::Acknowledged(yes(time, None)),
        1 => AttemptOutcome::Acknowledged(yes(time, Some(0))),
        2 => AttemptOutcome::Declined(no()),
        3 => AttemptOutcome::NotSent(error),
        _ => AttemptOutcome::Unknown(error),
    });
    prop_oneof![
        any_time().prop_map(|lease_until| Command::ClaimAttempt { lease_until }),
        any_time().prop_map(|until| Command::Postpone { until, error: AttemptError::CircuitOpen }),
        (any_number(), any_number(), outcome, any_delay_ms()).prop_map(
            |(operation, attempt, outcome, retry_delay_ms)| {
                Command::RecordAttempt { operation, attempt, outcome, retry_delay_ms }
            }
        ),
        (any_time(), any::<bool>(), prop::option::of(any_number())).prop_map(|(time, hold, operation)| {
            Command::Acknowledge { acknowledgement: yes(time, hold.then_some(0)), operation }
        }),
        prop::option::of(any_number()).prop_map(|operation| Command::Decline { rejection: no(), operation }),
        (any_number(), any_number(), any_time(), any::<bool>(), any_delay_ms()).prop_map(
            |(operation, attempt, asked_at, decided, settle_window_ms)| {
                Command::AdoptUnchanged(UnchangedRecord {
                    operation,
                    attempt,
                    asked_at,
                    decided,
                    settle_window_ms,
                })
            }
        ),
        any_time().prop_map(|lease_until| Command::ClaimNotification { lease_until }),
        (any_number(), any_number(), prop::option::of(any_error()), prop::option::of(any_time())).prop_map(
            |(number, attempt, error, retry_at)| {
                Command::RecordNotification(NotificationRecord { number, attempt, error, retry_at })
            }
        ),
        (prop::option::of(any_time()), any_error(), any::<bool>()).prop_map(|(until, error, is_skipped)| {
            Command::PostponeNotification { until, error, is_skipped }
        }),
        Just(Command::GiveUpNotification),
        any_number().prop_map(|number| Command::AcknowledgeNotification { number }),
        any_number().prop_map(|attempt| Command::AdoptEnded { attempt }),
        Just(Command::GiveUp),
        any_time().prop_map(|lease_until| Command::ClaimCompensation { lease_until }),
        (any_number(), any_number(), any_time(), any_compensation_outcome(), any_delay_ms(), any_delay_ms())
            .prop_map(|(number, attempt, asked_at, outcome, retry_delay_ms, settle_window_ms)| {
                Command::RecordCompensation(CompensationRecord {
                    number,
                    attempt,
                    asked_at,
                    outcome,
                    retry_delay_ms,
                    settle_window_ms,
                })
            }),
        Just(Command::GiveUpCompensation),
        Just(Command::ExpireHold),
        (any_change(), any_patience(), any_time(), any_time()).prop_map(
            |(change, patience, lease_until, deadline_at)| {
                Command::Begin(ChangeRequest { change, patience, lease_until, deadline_at })
            }
        ),
        Just(Command::CancelByProvider(Withdrawal::default())),
        any::<bool>().prop_map(|attended| Command::TellAttendance { attended }),
        Just(Command::EraseCustomer),
    ]
}

/// The times that are promised outside, written a second time: whoever changes one changes a promise.
#[test]
fn times_are_as_long_as_they_are_promised() {
    const MINUTE_MS: u64 = 60_000;
    const HOUR_MS: u64 = 3_600_000;
    assert_eq!(COMPENSATION_LIMIT_MS, 24 * HOUR_MS, "an undoing is tried, and then an alarm raised");
    assert_eq!(RESOLUTION_LIMIT_MS, 24 * HOUR_MS, "what became of a change is looked up");
    assert_eq!(FETCH_LIMIT_MS, 72 * HOUR_MS, "a notification is kept for its provider");
    assert_eq!(MIN_SETTLE_WINDOW_MS, MINUTE_MS, "a request may be under way");
    assert_eq!(CLOCK_SKEW_MS, 10 * MINUTE_MS, "two clocks differ, each five minutes off");
}

proptest! {
    #[test]
    fn nothing_panics(
        beginning in any_beginning(),
        moves in any_moves(),
        commands in prop::collection::vec((any_command(), any_time()), 0..40),
    ) {
        let mut booking = World::after(&beginning, &moves).booking;
        for (command, now) in commands {
            let _step = next_step(&booking, now);
            if let Ok(transition) = transition(&booking, command, now) {
                let effects = effects(Some(&booking), &transition.booking);
                prop_assert!(transition.events.len() <= 1 && effects.len() <= 4 + MAX_SLOTS);
                let (from, to) = (booking.status(), transition.booking.status());
                prop_assert!(from == to || from.may_become(to));
                booking = transition.booking;
            }
        }
    }
}

/// Whether a command begins something, or tells what nobody asked for: that may come once too often.
fn may_be_too_much(before: &Booking, command: &Command) -> bool {
    match command {
        Command::Begin(request) => {
            before.status() != Status::Pending || !matches!(request.change, Change::Cancel(_))
        }
        Command::Acknowledge { .. }
        | Command::RecordAttempt { operation: 1, outcome: AttemptOutcome::Acknowledged(_), .. } => {
            before.status().is_final()
        }
        Command::CancelByOperator => before.status() != Status::Pending,
        Command::RetryNow => true,
        _ => false,
    }
}

/// Plays the moves on a booking that has room for few more versions.
fn check_room(beginning: &Beginning, room: usize, moves: &[Move]) -> Result<(), TestCaseError> {
    let mut world = World::new(beginning);
    fill(&mut world, room);
    for applied in moves.iter().filter_map(|next| world.play(next)) {
        if let Err(Refused::TooManyVersions) = applied.result {
            prop_assert!(may_be_too_much(&applied.before, &applied.command), "{:?}", applied.command);
        }
    }
    prop_assert!(world.booking.history.len() <= MAX_VERSIONS);
    Ok(())
}

proptest! {
    #[test]
    fn no_end_is_refused_for_want_of_versions(
        beginning in any_beginning(),
        room in 4_usize..12,
        moves in any_moves(),
    ) {
        check_room(&beginning, room, &moves)?;
    }

    #[test]
    fn no_end_of_a_told_booking_is_refused_for_want_of_versions(
        beginning in any_told_beginning(),
        room in 4_usize..10,
        moves in any_moves(),
    ) {
        check_room(&beginning, room, &moves)?;
    }
}

#[test]
fn a_provider_that_says_yes_for_ever_is_stopped_and_leaves_nothing_open() {
    let beginning = Beginning::confirmed_by_provider(Patience::Synchronous, 60_000);
    let mut world = World::new(&beginning);
    let mut refused = None;
    for _ in 0..MAX_VERSIONS {
        while let Some(command) = world.due_command(1_000) {
            assert!(world.apply(command.clone()).result.is_ok(), "{command:?}");
            if let Command::ClaimCompensation { .. } = command {
                acknowledge_cancel(&mut world);
            }
        }
        refused = world.apply(called(yes(world.now, None))).result.err();
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused, Some(Refused::TooManyVersions));
    assert_eq!(world.booking.compensation, Compensation::Done);
    assert_eq!(next_step(&world.booking, world.now), Step::Nothing);
    assert!(world.booking.history.len() <= MAX_VERSIONS);
}

fn called(acknowledgement: Acknowledgement) -> Command {
    Command::Acknowledge { acknowledgement, operation: None }
}

fn cancel(world: &World) -> Command {
    world.begin(Wish::Cancel, Patience::Background, 1_000, 60_000)
}

fn acknowledge_cancel(world: &mut World) {
    let Compensation::Underway(run) = world.booking.compensation.clone() else { return };
    let applied = world.apply(Command::RecordCompensation(CompensationRecord {
        number: run.number,
        attempt: run.attempts,
        asked_at: world.now,
        outcome: CompensationOutcome::Acknowledged,
        retry_delay_ms: 0,
        settle_window_ms: 0,
    }));
    assert!(applied.result.is_ok());
}

/// A booking of which a hold or a confirmation stands, and whose consumer wants to cancel it for ever.
fn refused_for_ever(hold_ms: Option<u64>) -> World {
    let beginning = Beginning::confirmed_by_provider(Patience::Background, 60_000);
    let mut world = World::new(&beginning);
    assert!(world.apply(called(yes(world.now, hold_ms))).result.is_ok());
    for number in 2..=u32::try_from(MAX_VERSIONS).unwrap() {
        if let Err(refused) = world.apply(cancel(&world)).result {
            assert_eq!(refused, Refused::TooManyVersions);
            return world;
        }
        let outcome = AttemptOutcome::Declined(no());
        let report = Command::RecordAttempt { operation: number, attempt: 1, outcome, retry_delay_ms: 0 };
        assert!(world.apply(report).result.is_ok());
    }
    panic!("never stopped");
}

/// What must still be possible has room: the end of a hold, a provider's word, and the erasure.
#[test]
fn refused_changes_never_use_up_the_room_of_an_end() {
    let mut world = refused_for_ever(Some(3_600_000));
    assert!(world.apply(Command::EraseCustomer).result.is_ok());
    let expire = world.due_command(1_000).unwrap();
    assert_eq!(expire, Command::ExpireHold);
    assert!(world.apply(expire).result.is_ok());
    assert_eq!(world.booking.status(), Status::Expired);
    for told in [
        Command::CancelByProvider(Withdrawal::default()),
        Command::TellAttendance { attended: true },
        Command::TellAttendance { attended: false },
    ] {
        let mut world = refused_for_ever(None);
        assert!(world.apply(told).result.is_ok());
        assert!(world.apply(Command::EraseCustomer).result.is_ok());
        assert!(world.booking.history.len() <= MAX_VERSIONS);
    }
}

/// A cancel that is begun with the last room there is comes to its end, and so does its compensation.
#[test]
fn the_last_cancel_ends_whatever_comes_of_it() {
    let mut world = refused_for_ever(None);
    world.booking.history.truncate(MAX_VERSIONS - 4);
    assert!(world.apply(cancel(&world)).result.is_ok());
    while let Some(command) = world.due_command(1_000) {
        assert!(world.apply(command.clone()).result.is_ok(), "{command:?}");
        if let Command::ClaimCompensation { .. } = command {
            acknowledge_cancel(&mut world);
        }
    }
    assert_eq!(
        (world.booking.status(), &world.booking.compensation),
        (Status::Cancelled, &Compensation::Done)
    );
    assert!(world.apply(Command::EraseCustomer).result.is_ok());
    assert_eq!(world.booking.history.len(), MAX_VERSIONS);
}

/// Whoever is let begin a change with the last room there is can still cancel, however both end.
#[test]
fn the_last_change_leaves_room_for_a_cancel_and_whatever_comes_of_it() {
    let mut begun = 0;
    for room in 0..16 {
        let mut world = World::new(&Beginning::confirmed_by_provider(Patience::Background, 60_000));
        assert!(world.apply(called(yes(world.now, None))).result.is_ok());
        fill(&mut world, room);
        let change = world.begin(Wish::Reschedule { to: 1 }, Patience::Background, 1_000, 60_000);
        if world.apply(change).result.is_err() {
            continue;
        }
        begun += 1;
        assert!(world.apply(cancel(&world)).result.is_ok(), "with room for {room}");
        while let Some(command) = world.due_command(1_000) {
            assert!(world.apply(command.clone()).result.is_ok(), "{command:?} with room for {room}");
            if let Command::ClaimCompensation { .. } = command {
                acknowledge_cancel(&mut world);
            }
        }
        assert_eq!(world.booking.compensation, Compensation::Done);
        assert!(world.apply(Command::EraseCustomer).result.is_ok(), "with room for {room}");
    }
    assert!(begun > 0, "nothing was begun");
}

/// The same of a cancel that is refused, so that what became of the change has to be found out after it.
#[test]
fn the_last_cancel_leaves_room_for_the_end_of_the_change_that_it_overtook() {
    let mut begun = 0;
    for room in 0..16 {
        let mut world = World::new(&Beginning::confirmed_by_provider(Patience::Background, 60_000));
        assert!(world.apply(called(yes(world.now, None))).result.is_ok());
        let change = world.begin(Wish::Reschedule { to: 1 }, Patience::Background, 1_000, 60_000);
        assert!(world.apply(change).result.is_ok());
        fill(&mut world, room);
        if world.apply(cancel(&world)).result.is_err() {
            continue;
        }
        begun += 1;
        let report =
            |operation, outcome| Command::RecordAttempt { operation, attempt: 1, outcome, retry_delay_ms: 0 };
        let made = report(2, AttemptOutcome::Acknowledged(yes(world.now, None)));
        for command in [made, report(3, AttemptOutcome::Declined(no())), Command::EraseCustomer] {
            assert!(world.apply(command.clone()).result.is_ok(), "{command:?} with room for {room}");
        }
        assert_eq!(world.booking.slot, slot(1));
    }
    assert!(begun > 0, "nothing was begun");
}

/// A provider that is told hears of a change once it has let it through, and may fail to.
#[test]
fn the_last_change_of_a_told_booking_leaves_room_for_its_notification_to_fail() {
    let mut begun = 0;
    for room in 0..16 {
        let usual = Beginning::confirmed_by_provider(Patience::Background, 60_000);
        let mut world = World::new(&Beginning { mode: ConfirmationMode::RealTime, ..usual });
        assert!(world.apply(called(yes(world.now, None))).result.is_ok());
        world.booking.notifications.clear();
        fill(&mut world, room);
        let change = world.begin(Wish::Reschedule { to: 1 }, Patience::Background, 1_000, 60_000);
        if world.apply(change).result.is_err() {
            continue;
        }
        begun += 1;
        let outcome = AttemptOutcome::Acknowledged(yes(world.now, None));
        let let_through = Command::RecordAttempt { operation: 3, attempt: 1, outcome, retry_delay_ms: 0 };
        for command in [
            let_through,
            Command::PostponeNotification { until: None, error: AttemptError::TimedOut, is_skipped: false },
            Command::EraseCustomer,
        ] {
            assert!(world.apply(command.clone()).result.is_ok(), "{command:?} with room for {room}");
        }
    }
    assert!(begun > 0, "nothing was begun");
}

/// Lengthens a booking's history until there is room for so many versions more.
fn fill(world: &mut World, room: usize) {
    let filler = world.booking.history[0].clone();
    let missing = MAX_VERSIONS - room - world.booking.history.len();
    world.booking.history.splice(0..0, std::iter::repeat_n(filler, missing));
}
