//! Playing a plan: the actors act, things go wrong and stop going wrong, the world comes to rest, and everything
//! is checked.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once, PoisonError};

use holdfast_app::ports::Clock;
use holdfast_app::test_util::{Fault, Request, Script, SeededEntropy};
use holdfast_domain::{Cause, ConfirmationMode, Timestamp};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::bench::{Bench, Terms};
use crate::checks::Allowances;
use crate::people::{Told, act_by_plan, drain_mailbox};
use crate::plan::{Fate, Plan, Trouble};
use crate::timers::Mishap;

/// The largest skew of a clock, in milliseconds.
pub(crate) const MAX_SKEW_MS: u64 = 300_000;
/// How late after faults or its deadline something may end, in milliseconds: a worker that died is found when
/// its message comes again after a quarter of an hour, or by the sweep; a clock may be off by five minutes.
const LATENESS_MS: u64 = 1_800_000;

/// For how long a world goes on whose provider fetches, before it fetches to the end, in milliseconds.
const LOOK_AROUND_MS: u64 = 60_000;
/// After which time a world is given up, in milliseconds: sixty days.
const GIVE_UP_MS: u64 = 60 * 24 * 60 * 60 * 1_000;

/// How much happened in a world: where something could go wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sites {
    /// The calls, in order.
    pub(crate) calls: Vec<&'static str>,
    /// The requests to the provider, and how many calls there were when each came.
    pub(crate) requests: Vec<(Request, usize)>,
    /// How many calls there were when each message was armed.
    pub(crate) messages: Vec<usize>,
    pub(crate) records: usize,
}

/// A plan that went wrong.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What did not hold.
    pub(crate) message: String,
    /// What happened, if it was to be written down.
    pub(crate) lines: Vec<String>,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub(crate) struct Played {
    /// What there was before the subject.
    pub(crate) before: Sites,
    pub(crate) all: Sites,
    pub(crate) lines: Vec<String>,
}

#[derive(Debug, Default)]
enum Panic {
    /// None is played: a panic is somebody else's.
    #[default]
    NotPlaying,
    /// Nothing has gone wrong so far.
    NotYet,
    /// The first panic.
    Kept(String),
}

thread_local! {
    /// What became of the world that this thread plays.
    static PANIC: RefCell<Panic> = const { RefCell::new(Panic::NotPlaying) };
}

/// Panics of plays are kept for their report, instead of being printed.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_kept = PANIC.with(|panic| {
                let mut panic = panic.borrow_mut();
                if let Panic::NotYet = *panic {
                    let place = info.location().map(ToString::to_string).unwrap_or_default();
                    let text = info.payload_as_str().unwrap_or("it panicked");
                    *panic = Panic::Kept(format!("{place}: {text}"));
                }
                matches!(*panic, Panic::Kept(_))
            });
            if !is_kept {
                print(info);
            }
        }));
    });
}

/// Plays a plan in a runtime of its own.
pub(crate) fn run(plan: &Plan, is_written: bool) -> Result<Played, Failure> {
    keep_panics();
    PANIC.set(Panic::NotYet);
    let world: Mutex<Option<Arc<Bench>>> = Mutex::new(None);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let limit = std::time::Duration::from_millis(GIVE_UP_MS);
            let played = tokio::time::timeout(limit, Box::pin(play(plan, is_written, &world))).await;
            played.expect("somebody waits for ever")
        })
    }));
    let panic = PANIC.take();
    let world = world.into_inner().unwrap_or_else(PoisonError::into_inner);
    let lines = world.map(|world| world.journal.lines()).unwrap_or_default();
    match (outcome, panic) {
        (Ok((before, all)), Panic::NotYet | Panic::NotPlaying) => Ok(Played { before, all, lines }),
        (_, Panic::Kept(message)) => Err(Failure { message, lines }),
        (Err(_), Panic::NotYet | Panic::NotPlaying) => Err(Failure { message: String::new(), lines }),
    }
}

async fn play(plan: &Plan, is_written: bool, world: &Mutex<Option<Arc<Bench>>>) -> (Sites, Sites) {
    let terms = Terms {
        seed: plan.seed,
        function_skews_ms: &plan.world.function_skews_ms,
        worker_skews_ms: &plan.world.worker_skews_ms,
        has_provider_faults: true,
        is_written,
    };
    let bench = Bench::on(&terms, |provider| {
        provider.confirmation = plan.world.confirmation;
        provider.exclusive_slots = plan.world.exclusive_slots;
        if plan.world.pulls {
            provider.base_url = None;
        }
    });
    bench.is_quiet.store(!is_written, std::sync::atomic::Ordering::Relaxed);
    *world.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&bench));
    prepare(plan, &bench);
    let told = Arc::new(Mutex::new(Told::default()));
    let mut actors = JoinSet::new();
    for actor in &plan.actors {
        actors.spawn(act_by_plan(Arc::clone(&bench), actor.clone(), Arc::clone(&told)));
    }
    if plan.faults_last_ms > 0 {
        bench.run_for_ms(plan.faults_last_ms).await;
        heal(plan, &bench);
    }
    while let Some(acted) = next_done(&mut actors, &bench).await {
        acted.unwrap();
    }
    let healed_at = bench.clock.now();
    let all = if plan.world.pulls {
        // It waits for days to be fetched.
        bench.run_for_ms(LOOK_AROUND_MS).await;
        let all = sites(&bench);
        heal(plan, &bench);
        drain_mailbox(&bench, &told).await;
        bench.run_until_quiet().await;
        all
    } else {
        bench.run_until_quiet().await;
        let all = sites(&bench);
        heal(plan, &bench);
        all
    };
    Box::pin(conclude(plan, &bench, &told, healed_at)).await;
    let before = told.lock().unwrap_or_else(PoisonError::into_inner).before.clone();
    (before, all)
}

/// Lets the world go on until an actor is done.
async fn next_done(
    actors: &mut JoinSet<()>,
    bench: &Arc<Bench>,
) -> Option<Result<(), tokio::task::JoinError>> {
    loop {
        if let Some(done) = actors.try_join_next() {
            return Some(done);
        }
        if actors.is_empty() {
            return None;
        }
        bench.run_for_ms(500).await;
    }
}

fn prepare(plan: &Plan, bench: &Bench) {
    let world = &plan.world;
    if world.forgets_cancels {
        bench.provider.forget_cancels();
    }
    if world.refuses_cancels {
        bench.provider.refuse_cancels();
    }
    if world.has_no_look_up {
        bench.provider.remove_look_up();
    }
    bench.provider.always(Request::Attempt, world.adapt(Script::WELL));
    if world.pace_ms > 0 {
        bench.faults.pace(SeededEntropy::new(plan.seed ^ 0x5eed), world.pace_ms);
    }
    let mut fates = bench.fates.lock().unwrap_or_else(PoisonError::into_inner);
    for trouble in &plan.troubles {
        match *trouble {
            Trouble::Call { nth, fault } => bench.faults.on_call(nth, fault),
            Trouble::Request { nth, script } => {
                let books = plan.world.confirmation == ConfirmationMode::Confirm;
                let script = if books { world.adapt(script) } else { script };
                bench.provider.on_request(nth, script);
            }
            Trouble::Message { nth, mishap } => bench.timers.mishap(nth, mishap),
            Trouble::Record { nth, fate } => {
                fates.insert(nth, fate);
            }
        }
    }
}

fn heal(plan: &Plan, bench: &Bench) {
    bench.journal.say(&|| "nothing goes wrong any more".to_owned());
    bench.heal();
    bench.provider.always(Request::Attempt, plan.world.adapt(Script::WELL));
}

pub(crate) fn sites(bench: &Bench) -> Sites {
    Sites {
        calls: bench.faults.calls(),
        requests: bench.provider.seen().iter().map(|seen| (seen.request, seen.after_calls)).collect(),
        messages: bench.timers.armed_after(),
        records: bench.store.changes_made(),
    }
}

/// Everything is held against what was promised.
async fn conclude(plan: &Plan, bench: &Arc<Bench>, told: &Mutex<Told>, healed_at: Timestamp) {
    let mut heard = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    let before = heard.before.clone();
    heard.ask_again(bench).await;
    *told.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    if plan.world.pulls {
        drain_mailbox(bench, told).await;
    }
    let heard = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    told.lock().unwrap_or_else(PoisonError::into_inner).before = before;
    // A hold that a clock which was ahead took for expired lapses at the provider by itself.
    bench.run_until_quiet().await;
    if !plan.world.clocks_agree() {
        bench.run_for_ms(2 * MAX_SKEW_MS).await;
    }
    bench.run_until_quiet().await;
    bench.redrive_parked().await;
    bench.run_until_quiet().await;
    let latest = plan.troubles.iter().map(|trouble| match trouble {
        Trouble::Message { mishap: Mishap::Late(by_ms), .. } => *by_ms,
        _ => 0,
    });
    bench.check_strictly(Allowances {
        clocks_agree: plan.world.clocks_agree(),
        healed_at,
        lateness_ms: LATENESS_MS + latest.max().unwrap_or(0),
    });
    // Who fetches to the end misses only what was in a record that nobody can read.
    let is_unreadable = |trouble: &Trouble| matches!(trouble, Trouble::Record { fate: Fate::Unreadable, .. });
    let is_all_kept = !plan.troubles.iter().any(is_unreadable);
    let missed = bench
        .store
        .any(|item| item.booking.history.iter().any(|entry| entry.cause == Cause::NotificationFailed));
    assert!(!(plan.world.pulls && is_all_kept && missed), "a notification was never in its mailbox");
    let hands_out_once = !plan.troubles.iter().any(is_uncertain);
    Box::pin(heard.check(bench, hands_out_once)).await;
}

/// Whether a worker may not know what became of its own write. It hands out what it may have taken: twice is better
/// than never.
fn is_uncertain(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Call { fault: Fault::FailBefore | Fault::FailAfter, .. })
}
