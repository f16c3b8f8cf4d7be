//! Random worlds: providers in every mode, consumers with second thoughts, strangers, and anything that can go wrong
//! anywhere. Everything about a world follows from its seed.
//!
//! `SEED=42 cargo test -p holdfast-simulation -- --ignored one_seed --nocapture` tells what happens in one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use holdfast_app::ports::Entropy;
use holdfast_app::test_util::{Calls, Deed, Fault, Reply, Script, SeededEntropy};
use holdfast_domain::{ConfirmationMode, OperationKind};

use crate::environment::{fails_fast, number};
use crate::plan::{Act, ActorPlan, Fate, Plan, Step, Trouble, Wish, World};
use crate::play::{Failure, MAX_SKEW_MS, run};
use crate::shrink::report;
use crate::timers::Mishap;

/// How many seeds are played with every test run.
const SEEDS: u64 = 20_000;
/// How many keys a world's consumers use at the most.
const MAX_KEYS: u64 = 4;
/// How many second thoughts they have, less one at the most.
const MAX_REGRETS: u64 = 10;
/// For how long things go wrong at the most, in milliseconds.
const MAX_FAULTS_LAST_MS: u64 = 300_000;
/// How long a provider that remembers no cancel may go on with a request after its caller hung up, in
/// milliseconds. "No such booking" is believed a minute after the last send.
const MAX_LATE_DEED_MS: u64 = 55_000;
/// How long a provider that remembers may take, in milliseconds.
const MAX_LATER_DEED_MS: u64 = 300_000;
/// How late a message comes at the most, in milliseconds.
const MAX_LATE_MESSAGE_MS: u64 = 7_200_000;
/// Among how many calls and other places troubles are strewn.
const MAX_CALLS: u64 = 200;
const MAX_PLACES: u64 = 20;

struct Dice(SeededEntropy);

impl Dice {
    fn below(&self, bound: u64) -> u64 {
        self.0.u64() % bound
    }

    fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn size(&self, bound: u64) -> usize {
        usize::try_from(self.below(bound)).unwrap_or(0)
    }

    fn skew_ms(&self) -> i64 {
        let skew_ms = i64::try_from(self.below(MAX_SKEW_MS)).unwrap_or(0);
        if self.percent(50) { skew_ms } else { -skew_ms }
    }

    fn world(&self) -> World {
        let confirmation = match self.below(10) {
            0 | 1 => ConfirmationMode::Notify,
            2 | 3 => ConfirmationMode::RealTime,
            _ => ConfirmationMode::Confirm,
        };
        let mut world = World {
            pulls: confirmation == ConfirmationMode::Notify && self.percent(40),
            exclusive_slots: self.percent(30),
            refuses_cancels: self.percent(5),
            hold_ms: (confirmation == ConfirmationMode::Confirm && self.percent(30))
                .then(|| 60_000 + self.below(1_800_000)),
            pace_ms: if self.percent(50) { 1 + self.below(30) } else { 0 },
            ..World::usual(confirmation)
        };
        match self.below(4) {
            0 => world.forgets_cancels = true,
            1 => world.worker_skews_ms = vec![0, self.skew_ms(), self.skew_ms()],
            _ => {}
        }
        world
    }

    fn script(&self, world: &World) -> Script {
        let deed = match self.below(10) {
            0 => Deed::Decline,
            1 if world.hold_ms.is_some() => Deed::Reserve { hold_ms: self.below(900_000) },
            2 | 3 => Deed::Nothing,
            _ => Deed::Book,
        };
        let reply = match self.below(11) {
            0 => Reply::Accepted,
            1 => Reply::Status(503),
            2 => Reply::Broken,
            3 | 4 => Reply::Silence,
            5 => Reply::NoConnection,
            6 => Reply::Garbage,
            _ => Reply::Truth,
        };
        let latest_ms = if world.forgets_cancels { MAX_LATE_DEED_MS } else { MAX_LATER_DEED_MS };
        let deed_after_ms = if self.percent(50) { self.below(3_000) } else { self.below(latest_ms) };
        let calls = match self.below(12) {
            0 => Calls::Twice,
            1 => Calls::Once,
            _ if reply == Reply::Accepted => Calls::Once,
            _ => Calls::Never,
        };
        Script {
            deed,
            deed_after_ms,
            reply,
            reply_after_ms: self.below(4_000),
            from_limit_ms: self.percent(10).then(|| i64::try_from(self.below(3)).unwrap_or(0) - 1),
            calls,
            calls_after_ms: self.below(5_000),
        }
    }

    fn fault(&self, world: &World) -> Fault {
        match self.below(12) {
            0 => Fault::FailBefore,
            1 => Fault::FailAfter,
            2 => Fault::DelayBefore(self.below(8_000)),
            3 => Fault::DelayAfter(self.below(8_000)),
            4 | 5 => Fault::StopBefore,
            6 => Fault::StopAfter,
            7 => Fault::StopHalfWay,
            8 => Fault::FailEntry(self.size(3)),
            9 => Fault::Overtaken,
            // What is sent after a freeze needs a provider that remembers cancels.
            10 if !world.forgets_cancels && world.clocks_agree() => Fault::FreezeBefore(self.below(120_000)),
            10 => Fault::Stale,
            _ => Fault::FreezeAfter(self.below(120_000)),
        }
    }

    fn mishap(&self) -> Mishap {
        match self.below(4) {
            0 => Mishap::Lost,
            1 => Mishap::Late(self.below(MAX_LATE_MESSAGE_MS)),
            2 => Mishap::Twice(self.below(60_000)),
            _ => Mishap::Early,
        }
    }

    fn troubles(&self, world: &World) -> Vec<Trouble> {
        let place = |bound| 1 + self.size(bound);
        let calls = self.size(12);
        let requests = self.size(12);
        let messages = self.size(8);
        let mut troubles = Vec::new();
        troubles
            .extend((0..calls).map(|_| Trouble::Call { nth: place(MAX_CALLS), fault: self.fault(world) }));
        troubles.extend(
            (0..requests).map(|_| Trouble::Request { nth: place(MAX_PLACES), script: self.script(world) }),
        );
        troubles.extend(
            (0..messages).map(|_| Trouble::Message { nth: place(MAX_PLACES), mishap: self.mishap() }),
        );
        for fate in [Fate::Unreadable, Fate::GivenUp] {
            if self.percent(10) {
                troubles.push(Trouble::Record { nth: place(MAX_PLACES), fate });
            }
        }
        troubles
    }

    fn step(&self, act: Act, longest_pause_ms: u64) -> Step {
        Step {
            tries: 1 + u32::try_from(self.below(4)).unwrap_or(0),
            life_ms: if self.percent(20) { self.below(4_000) } else { 29_000 },
            prefer_wait_s: self.percent(30).then(|| self.below(11)),
            is_cold: self.percent(30),
            ..Step::new(self.below(longest_pause_ms), act)
        }
    }

    /// A consumer that asks under one key, again and again, and sometimes for something else.
    fn consumer(&self, key: u64, world: &World) -> ActorPlan {
        let hold = world.hold_ms.is_some() && self.percent(70);
        let wish = Wish { hold, ..Wish::new(self.percent(60)) };
        let other = Wish { day: 20, ..wish };
        let steps = (0..=self.below(4)).map(|_| {
            let wish = if self.percent(5) { other } else { wish };
            self.step(Act::Create { key, wish }, 6_000)
        });
        ActorPlan { name: "consumer", steps: steps.collect() }
    }

    fn second_thought(&self, keys: u64, world: &World) -> Act {
        let of = self.below(keys);
        let kind = match self.below(10) {
            0..=2 => OperationKind::Cancel,
            3..=5 => OperationKind::Reschedule,
            6 | 7 => OperationKind::Extend,
            _ => OperationKind::Confirm,
        };
        match self.below(20) {
            0 => Act::Erase { of },
            1 => Act::Spy { of },
            2 => Act::Withdraw { of },
            3..=6 if world.pulls => Act::Fetch,
            _ => Act::Change { of, kind, key: self.below(3) },
        }
    }

    fn plan(&self, seed: u64) -> Plan {
        let world = self.world();
        // Most worlds are small: more of them are played.
        let keys = if self.percent(60) { 1 } else { 1 + self.below(MAX_KEYS) };
        let mut actors: Vec<ActorPlan> = (0..keys).map(|key| self.consumer(key, &world)).collect();
        if self.percent(70) {
            let steps = (0..self.below(MAX_REGRETS)).map(|_| {
                let act = self.second_thought(keys, &world);
                let step = self.step(act, 30_000);
                // A provider tells of what it withdrew until it is heard.
                if matches!(act, Act::Withdraw { .. }) {
                    Step { tries: 30, life_ms: 10_000, ..step }
                } else {
                    step
                }
            });
            actors.push(ActorPlan { name: "second thoughts", steps: steps.collect() });
        }
        let faults_last_ms = 20_000 + self.below(MAX_FAULTS_LAST_MS);
        Plan { seed, troubles: self.troubles(&world), world, actors, faults_last_ms }
    }
}

/// The world of a seed.
fn plan_of(seed: u64) -> Plan {
    Dice(SeededEntropy::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))).plan(seed)
}

/// Plays so many seeds on all processors, and reports the first that fails.
fn play_seeds(first: u64, count: u64) {
    let begun = Instant::now();
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_enough = fails_fast() && !failed.lock().unwrap().is_empty();
                    if is_enough || seed >= first.saturating_add(count) {
                        return;
                    }
                    if run(&plan_of(seed), false).is_err() {
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    println!("{count} seeds from {first} in {} s: {} a second", ms / 1_000, count.saturating_mul(1_000) / ms);
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    if let Some(seed) = failed.first() {
        assert!(!fails_fast(), "seed {seed} fails");
        let shown = &failed[..failed.len().min(50)];
        panic!(
            "{} seeds fail: {shown:?}\n\n{}",
            failed.len(),
            report(&format!("seed {seed}"), &plan_of(*seed))
        );
    }
}

#[test]
fn whatever_goes_wrong_in_the_end_all_is_as_reported() {
    play_seeds(0, number("TEST_SEEDS").unwrap_or(SEEDS));
}

#[test]
fn a_seed_gives_the_same_world_every_time() {
    for seed in 0..50 {
        let play = || run(&plan_of(seed), true).map_or_else(|failure| failure.lines, |played| played.lines);
        assert_eq!(play(), play(), "seed {seed}");
    }
}

/// `SEEDS=1000000 FIRST_SEED=0 cargo test --release -p holdfast-simulation -- --ignored many_seeds --nocapture`
#[test]
#[ignore = "as many as somebody asks for"]
fn many_seeds() {
    play_seeds(number("FIRST_SEED").unwrap_or(SEEDS), number("SEEDS").unwrap_or(100_000));
}

/// `SEED=42 cargo test -p holdfast-simulation -- --ignored one_seed --nocapture`
#[test]
#[ignore = "tells what happens in one world"]
fn one_seed() {
    let seed = number("SEED").unwrap_or(0);
    let plan = plan_of(seed);
    match run(&plan, true) {
        Ok(played) => {
            println!("{plan:#?}\n{}\nseed {seed}: all is as it is reported", played.lines.join("\n"));
        }
        Err(Failure { .. }) => panic!("{}", report(&format!("seed {seed}"), &plan)),
    }
}
