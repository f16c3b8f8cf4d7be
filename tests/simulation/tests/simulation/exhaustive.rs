//! Every fault at every place of every operation, alone and by twos.
//!
//! A scenario is one operation in one mode. It is played without faults; then once for everything that can go
//! wrong at each call, request, message and record that it was seen to make; and each of these worlds once more
//! for everything that can go wrong after that.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_app::test_util::Fault;
use holdfast_domain::{ConfirmationMode, OperationKind};

use crate::environment::fails_fast;
use crate::faults::{after, all_of};
use crate::plan::{Act, ActorPlan, Plan, Step, Trouble, Wish, World};
use crate::play::run;
use crate::shrink::report;

/// After how long the operation follows on what came before, in milliseconds.
const LATER_MS: u64 = 10_000;
/// How long a provider holds what it reserves, in milliseconds.
const HOLD_MS: u64 = 900_000;

/// How many worlds that fail are listed at the most.
const MAX_LISTED: usize = 60;

#[derive(Clone, Debug)]
struct Scenario {
    name: String,
    plan: Plan,
}

fn scenario(name: impl Into<String>, world: World, actors: Vec<ActorPlan>) -> Scenario {
    let plan = Plan { seed: 0, world, actors, troubles: Vec::new(), faults_last_ms: 0 };
    Scenario { name: name.into(), plan }
}

fn consumer(steps: Vec<Step>) -> ActorPlan {
    ActorPlan { name: "consumer", steps }
}

fn book(in_background: bool) -> Act {
    Act::Create { key: 0, wish: Wish::new(in_background) }
}

fn change(kind: OperationKind, in_background: bool) -> Act {
    Act::Change { of: 0, kind, key: u64::from(!in_background) }
}

/// The operations that a mode has, with what comes before.
fn operations(mode: ConfirmationMode, in_background: bool) -> Vec<(&'static str, Option<Wish>, Act)> {
    let hold = Wish { hold: true, ..Wish::new(false) };
    let booked = Some(Wish::new(false));
    let mut operations = vec![
        ("book", None, book(in_background)),
        ("cancel", booked, change(OperationKind::Cancel, in_background)),
        ("reschedule", booked, change(OperationKind::Reschedule, in_background)),
    ];
    if mode == ConfirmationMode::Confirm {
        operations.extend([
            ("hold", None, Act::Create { key: 0, wish: Wish { hold: true, ..Wish::new(in_background) } }),
            ("confirm", Some(hold), change(OperationKind::Confirm, in_background)),
            ("extend", Some(hold), change(OperationKind::Extend, in_background)),
            ("cancel a hold", Some(hold), change(OperationKind::Cancel, in_background)),
        ]);
    }
    operations
}

fn scenarios() -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    let modes = [
        ("confirm", ConfirmationMode::Confirm, false),
        ("notify", ConfirmationMode::Notify, false),
        ("notify, fetched", ConfirmationMode::Notify, true),
        ("real_time", ConfirmationMode::RealTime, false),
    ];
    for (mode_name, mode, pulls) in modes {
        for exclusive_slots in [false, true] {
            for in_background in [false, true] {
                // What is accepted at once is the same for both.
                if mode == ConfirmationMode::Notify && in_background {
                    continue;
                }
                for (name, before, act) in operations(mode, in_background) {
                    let is_hold = name == "hold" || before.is_some_and(|wish| wish.hold);
                    let world = World {
                        pulls,
                        exclusive_slots,
                        hold_ms: is_hold.then_some(HOLD_MS),
                        // Half of the worlds have a provider that does not remember what it did not know.
                        forgets_cancels: exclusive_slots,
                        ..World::usual(mode)
                    };
                    scenarios.push(one(mode_name, name, in_background, world, before, act));
                }
            }
        }
    }
    scenarios.extend(crowds());
    scenarios
}

fn one(
    mode: &str,
    name: &str,
    in_background: bool,
    world: World,
    before: Option<Wish>,
    act: Act,
) -> Scenario {
    let patience = if in_background { "in the background" } else { "at once" };
    let slots = if world.exclusive_slots { ", exclusive slots" } else { "" };
    let name = format!("{mode}{slots}: {name} {patience}");
    let mut steps: Vec<Step> = Vec::new();
    if let Some(wish) = before {
        steps.push(Step::new(0, Act::Create { key: 0, wish }));
    }
    if world.pulls && before.is_some() {
        steps.push(Step::new(LATER_MS, Act::Fetch));
    }
    steps.push(Step::new(LATER_MS, act).being_subject());
    if world.pulls {
        steps.push(Step { tries: 3, ..Step::new(LATER_MS, Act::Fetch) });
    }
    scenario(name, world, vec![consumer(steps)])
}

/// Several at once: a cancel over what is in flight, two who want one slot, two who fetch at once, another body
/// under the same key, and clocks that differ.
fn crowds() -> Vec<Scenario> {
    let create = |key, wish| Step::new(LATER_MS, Act::Create { key, wish }).being_subject();
    let cancel = |after_ms| Step {
        tries: 4,
        ..Step::new(after_ms, Act::Change { of: 0, kind: OperationKind::Cancel, key: 0 })
    };
    let usual = || World::usual(ConfirmationMode::Confirm);
    let exclusive = || World { exclusive_slots: true, ..usual() };
    let (sync, background) = (Wish::new(false), Wish::new(true));
    let mover = vec![
        Step::new(0, Act::Create { key: 0, wish: sync }),
        Step::new(LATER_MS, change(OperationKind::Reschedule, true)).being_subject(),
    ];
    let second = |name, steps| ActorPlan { name, steps };
    let after_mover = 2 * LATER_MS + 1;
    let skewed = |skew_ms| World { worker_skews_ms: vec![skew_ms], ..usual() };
    vec![
        scenario(
            "a cancel of what is being booked",
            usual(),
            vec![consumer(vec![create(0, background)]), second("regret", vec![cancel(LATER_MS + 1)])],
        ),
        scenario(
            "a cancel over a move in flight",
            exclusive(),
            vec![consumer(mover), second("regret", vec![cancel(after_mover)])],
        ),
        scenario(
            "two who want one slot",
            exclusive(),
            vec![consumer(vec![create(0, sync)]), second("rival", vec![create(1, background)])],
        ),
        scenario(
            "another body under the same key",
            usual(),
            vec![
                consumer(vec![create(0, sync)]),
                second("other body", vec![create(0, Wish { day: 20, ..sync })]),
            ],
        ),
        scenario(
            "two who fetch at once",
            World { pulls: true, ..World::usual(ConfirmationMode::Notify) },
            vec![
                consumer(vec![create(0, sync), Step { tries: 3, ..Step::new(LATER_MS, Act::Fetch) }]),
                second("fetcher", vec![Step { tries: 3, ..Step::new(2 * LATER_MS, Act::Fetch) }]),
            ],
        ),
        scenario(
            "a move of what nobody was told of yet",
            World::usual(ConfirmationMode::Notify),
            vec![consumer(vec![
                create(0, sync),
                Step { tries: 4, ..Step::new(1, change(OperationKind::Reschedule, false)) },
            ])],
        ),
        scenario("a worker ahead of time", skewed(300_000), vec![consumer(vec![create(0, background)])]),
        scenario("a worker behind time", skewed(-300_000), vec![consumer(vec![create(0, background)])]),
        scenario(
            "no look-up",
            World { has_no_look_up: true, ..usual() },
            vec![consumer(vec![create(0, background)])],
        ),
    ]
}

/// A line about a world that fails.
fn brief(name: &str, plan: &Plan) -> String {
    let failure = run(plan, false).err();
    let message = failure.map(|failure| failure.message).unwrap_or_default();
    let message: String = message.chars().take(160).collect();
    format!("{name}: {:?}: {}", plan.troubles, message.replace('\n', " "))
}

/// What was played.
#[derive(Debug, Default)]
struct Count {
    singles: AtomicUsize,
    doubles: AtomicUsize,
}

/// Plays a scenario under one trouble and, if asked, under every second one after it. Returns the plan that
/// failed, if one did.
///
/// Who loses a race writes its outcome all the same, so that the provider is asked for nothing more than the
/// `requests` that it is asked for without faults.
fn play_with(
    scenario: &Scenario,
    first: Trouble,
    requests: usize,
    is_double: bool,
    count: &Count,
) -> Result<(), Box<Plan>> {
    let plan = Plan { troubles: vec![first], ..scenario.plan.clone() };
    let Ok(played) = run(&plan, false) else { return Err(Box::new(plan)) };
    count.singles.fetch_add(1, Ordering::Relaxed);
    if let Trouble::Call { fault: Fault::Overtaken, .. } = first
        && played.all.requests.len() != requests
    {
        return Err(Box::new(plan));
    }
    if !is_double {
        return Ok(());
    }
    for second in after(&first, &plan.world, &played.before, &played.all) {
        let plan = Plan { troubles: vec![first, second], ..scenario.plan.clone() };
        if run(&plan, false).is_err() {
            return Err(Box::new(plan));
        }
        count.doubles.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Plays all scenarios on all processors; reports those that fail, each made as small as can be.
fn play_all(is_double: bool) -> Count {
    let mut tasks: Vec<(Scenario, Trouble, usize)> = Vec::new();
    for scenario in scenarios() {
        let played = run(&scenario.plan, false);
        assert!(played.is_ok() || !fails_fast(), "{} fails", scenario.name);
        let played = played.unwrap_or_else(|_| panic!("{}", report(&scenario.name, &scenario.plan)));
        let troubles = all_of(&scenario.plan.world, &played.before, &played.all);
        let requests = played.all.requests.len();
        tasks.extend(troubles.into_iter().map(|trouble| (scenario.clone(), trouble, requests)));
    }
    let (count, next, failed) = (Count::default(), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((scenario, first, requests)) = tasks.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    if fails_fast() && !failed.lock().unwrap().is_empty() {
                        return;
                    }
                    if let Err(plan) = play_with(scenario, *first, *requests, is_double, &count) {
                        failed.lock().unwrap().push((scenario.name.clone(), plan));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    if let Some((name, plan)) = failed.first() {
        assert!(!fails_fast(), "{name} fails");
        let list: Vec<String> =
            failed.iter().take(MAX_LISTED).map(|(name, plan)| brief(name, plan)).collect();
        let list = list.join("\n");
        panic!("{} worlds fail:\n{list}\n\nThe first:\n{}", failed.len(), report(name, plan));
    }
    count
}

#[test]
fn every_fault_and_every_two_faults_at_every_place_of_every_operation() {
    let begun = std::time::Instant::now();
    let is_double = crate::environment::number("DOUBLE_FAULTS").unwrap_or(1) > 0;
    let Count { singles, doubles } = play_all(is_double);
    let (singles, doubles) = (singles.into_inner(), doubles.into_inner());
    println!("{singles} single and {doubles} double faults in {} s", begun.elapsed().as_secs());
    assert!(singles > 2_000, "only {singles}: places are not found any more");
}
