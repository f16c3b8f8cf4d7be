//! What can go wrong at each place of a world.

use holdfast_app::test_util::{Calls, Deed, Fault, Reply, Request, Script};

use crate::plan::{Fate, Trouble, World};
use crate::play::Sites;
use crate::timers::Mishap;

/// For how long a worker stands still that is frozen, in milliseconds: past the end of every lease.
const FREEZE_MS: u64 = 60_000;
/// How late something is that is hours late, in milliseconds.
const HOURS_MS: u64 = 7_200_000;
/// How long after its caller hung up a provider finishes, in milliseconds.
const AFTER_HANG_UP_MS: i64 = 40_000;

/// What can go wrong with a call.
pub(crate) fn of_call(operation: &str, world: &World) -> Vec<Fault> {
    let freeze = Fault::FreezeAfter(FREEZE_MS);
    match operation {
        "bookings.claim" => {
            vec![Fault::FailBefore, Fault::FailAfter, Fault::StopBefore, Fault::StopAfter, freeze]
        }
        "bookings.replace" => vec![
            Fault::FailBefore,
            Fault::FailAfter,
            Fault::StopBefore,
            Fault::StopAfter,
            freeze,
            Fault::Overtaken,
        ],
        "bookings.overdue" => vec![Fault::FailBefore, Fault::Stale],
        "bus.publish" | "timers.arm" | "mailbox.mark_fetched" => vec![
            Fault::FailBefore,
            Fault::FailAfter,
            Fault::FailEntry(0),
            Fault::StopHalfWay,
            Fault::StopAfter,
        ],
        "mailbox.keep" | "parking.park" | "parking.dead_letter" => {
            vec![Fault::FailBefore, Fault::FailAfter, Fault::StopAfter]
        }
        "bookings.read" | "mailbox.waiting" => vec![Fault::FailBefore, Fault::StopBefore, freeze],
        operation if operation.starts_with("provider.") => {
            let mut faults = vec![Fault::StopBefore, Fault::StopAfter, freeze];
            // What is sent after a freeze needs a provider that remembers cancels.
            if !world.forgets_cancels && world.clocks_agree() {
                faults.push(Fault::FreezeBefore(FREEZE_MS));
            }
            faults
        }
        // What only protects: settings, breakers, limits, what is noted of open slots.
        _ => vec![Fault::FailBefore, Fault::StopBefore],
    }
}

/// What a provider can do with a request.
pub(crate) fn of_request(request: Request) -> Vec<Script> {
    let well = Script::WELL;
    let lost = |reply| Script::replying(reply);
    let never = |reply| Script::failing(reply);
    let at_limit = |from_limit_ms| Script { from_limit_ms: Some(from_limit_ms), ..well };
    let accepted = |deed_after_ms, calls| Script {
        reply: Reply::Accepted,
        deed_after_ms,
        calls,
        calls_after_ms: 1_000,
        ..well
    };
    let mut scripts = vec![
        never(Reply::NoConnection),
        never(Reply::Status(503)),
        never(Reply::Silence),
        lost(Reply::Status(500)),
        lost(Reply::Broken),
        lost(Reply::Garbage),
        lost(Reply::Silence),
    ];
    match request {
        Request::LookUp => {
            scripts.truncate(3);
            scripts.extend([lost(Reply::Garbage), lost(Reply::Accepted)]);
        }
        Request::Notify => {}
        Request::Cancel => scripts.push(Script::doing(Deed::Decline)),
        Request::Attempt | Request::Change => {
            scripts.extend([
                Script::doing(Deed::Decline),
                never(Reply::Broken),
                at_limit(-1),
                at_limit(0),
                at_limit(1),
                at_limit(AFTER_HANG_UP_MS),
                accepted(1_000, Calls::Once),
                accepted(1_000, Calls::Twice),
                accepted(1_000, Calls::ThenContradicts),
                accepted(0, Calls::Never),
                Script { deed_after_ms: 20_000, ..lost(Reply::Silence) },
            ]);
            // Of a change the first answer counts, and one that lies about it cannot be told from the truth.
            if request == Request::Attempt {
                scripts.push(accepted(HOURS_MS, Calls::Once));
                scripts.push(accepted(1_000, Calls::AfterNo));
            }
        }
    }
    scripts
}

/// What can go wrong with a message.
pub(crate) const MISHAPS: [Mishap; 4] =
    [Mishap::Lost, Mishap::Late(HOURS_MS), Mishap::Twice(30_000), Mishap::Early];

/// Where a trouble comes: behind how many calls, and of equal ones in which order.
fn place(trouble: &Trouble, sites: &Sites) -> (usize, usize, usize) {
    match *trouble {
        Trouble::Call { nth, .. } => (nth, 1, nth),
        Trouble::Request { nth, .. } => (sites.requests.get(nth - 1).map_or(0, |site| site.1), 2, nth),
        Trouble::Message { nth, .. } => (sites.messages.get(nth - 1).copied().unwrap_or(0), 3, nth),
        // It is known before anything else happens.
        Trouble::Record { nth, .. } => (0, 0, nth),
    }
}

/// Everything that can go wrong once, in a world in which so much happens after `before`.
pub(crate) fn all_of(world: &World, before: &Sites, all: &Sites) -> Vec<Trouble> {
    let calls = all.calls.iter().zip(1..).skip(before.calls.len());
    let calls = calls.flat_map(|(operation, nth)| {
        of_call(operation, world).into_iter().map(move |fault| Trouble::Call { nth, fault })
    });
    let requests = all.requests.iter().zip(1..).skip(before.requests.len());
    let requests = requests.flat_map(|((request, _), nth)| {
        of_request(*request).into_iter().map(move |script| Trouble::Request { nth, script })
    });
    let messages = (1..=all.messages.len()).skip(before.messages.len());
    let messages =
        messages.flat_map(|nth| MISHAPS.into_iter().map(move |mishap| Trouble::Message { nth, mishap }));
    let records = (1..=all.records).skip(before.records);
    let records =
        records.flat_map(|nth| [Fate::Unreadable, Fate::GivenUp].map(|fate| Trouble::Record { nth, fate }));
    calls.chain(requests).chain(messages).chain(records).collect()
}

/// Everything that can go wrong after `first` did, at a place behind it.
pub(crate) fn after(first: &Trouble, world: &World, before: &Sites, all: &Sites) -> Vec<Trouble> {
    let begin = place(first, all);
    let mut later = all_of(world, before, all);
    later.retain(|trouble| place(trouble, all) > begin);
    later
}
