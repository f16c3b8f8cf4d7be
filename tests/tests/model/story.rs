//! A way through the worlds, in words.

use holdfast_domain::{Booking, Compensation, CompensationRun, Operation, Phase, Timestamp};

use crate::actions::Action;
use crate::bounds::{Bounds, beginning};
use crate::steps::Fate;
use crate::worker::{Role, Stage, Worker};
use crate::world::World;

/// One line: when, what, and how the booking stands if it was written.
pub(crate) fn describe(before: &World, action: &Action, after: &World, bounds: &Bounds) -> String {
    let at = since_beginning(before.now);
    let what = match action {
        Action::Pass => format!("the clock goes on to {}", since_beginning(after.now)),
        Action::Create => "a create comes".to_owned(),
        Action::Utter => {
            let wish = bounds.wishes[usize::from(before.wishes_uttered)];
            format!("the consumer asks for {}", wish.kind().as_str())
        }
        Action::Ring(_) => "a timer rings, and the item is read".to_owned(),
        Action::LoseTimer(_) => "FAULT: a timer is late or lost".to_owned(),
        Action::DoubleTimer(_) => "FAULT: a timer rings, and will ring again".to_owned(),
        Action::Sweep => "the sweep finds the booking".to_owned(),
        Action::Step(nth, fate) => step(&before.workers[*nth], *fate),
        Action::Freeze(nth) => {
            let worker = &before.workers[*nth];
            format!("FAULT: {} is frozen before it {}", role(worker), next(&worker.stage))
        }
        Action::Arrive(nth, is_willing) => {
            let request = before.underway[*nth].request;
            let word = if *is_willing { "arrives" } else { "arrives, FAULT: unwelcome" };
            format!("{:?} {} {word}", request.ask, request.number)
        }
        Action::Vanish(_) => "a request never arrives".to_owned(),
        Action::DecideAccepted(is_willing) => format!("the provider decides, willing: {is_willing}"),
        Action::Hear(nth) => format!("the provider calls: {:?}", before.callbacks[*nth].call),
        Action::TellAgain(request) => format!("FAULT: the provider will tell again of {request:?}"),
        Action::ChangeMind => "FAULT: the provider makes what it has declined".to_owned(),
        Action::Withdraw => "FAULT: the provider withdraws".to_owned(),
    };
    let item = after.item.as_ref().filter(|item| item.rev != before.rev());
    let written =
        item.map_or_else(String::new, |item| format!(" -> rev {}: {}", item.rev, standing(&item.booking)));
    format!("{at:>10}  {what}{written}")
}

/// How a story ends.
pub(crate) fn stand(world: &World) -> String {
    let World { provider, workers, timers, underway, callbacks, wrong, .. } = world;
    let booking = world.item.as_ref().map_or_else(String::new, |item| standing(&item.booking));
    let workers: Vec<String> =
        workers.iter().map(|worker| format!("{} that {}", role(worker), next(&worker.stage))).collect();
    format!(
        "  the end: {booking}\n  wrong: {wrong:?}\n  workers: {workers:?}\n  {provider:?}\n  {timers:?}\n  \
         {underway:?}\n  {callbacks:?}"
    )
}

fn since_beginning(at: Timestamp) -> String {
    let ms = beginning().ms_until(at);
    format!("+{}.{:03} s", ms / 1_000, ms % 1_000)
}

fn role(worker: &Worker) -> String {
    match worker.role {
        Role::Create => "a create".to_owned(),
        Role::Change(wish) => format!("a {}", wish.kind().as_str()),
        Role::Retry => "a timer".to_owned(),
    }
}

fn next(stage: &Stage) -> String {
    match stage {
        Stage::Claim { .. } => "writes its claim".to_owned(),
        Stage::Begin { .. } => "writes its beginning".to_owned(),
        Stage::Replay { .. } => "answers from the item".to_owned(),
        Stage::Decide { .. } => "writes what is due".to_owned(),
        Stage::LookUp(_) => "looks up".to_owned(),
        Stage::Send(task) => format!("sends {:?} {}", task.request().ask, task.request().number),
        Stage::Wait { .. } => "gives up waiting".to_owned(),
        Stage::Report { command } => format!("reports {command:?}"),
    }
}

fn step(worker: &Worker, fate: Fate) -> String {
    let went = match fate {
        Fate::Well => String::new(),
        other => format!(", FAULT: {other:?}"),
    };
    let thawed = if worker.is_frozen { " (frozen till now)" } else { "" };
    format!("{}{thawed} {}{went}", role(worker), next(&worker.stage))
}

/// How a booking stands.
fn standing(booking: &Booking) -> String {
    let phase = |phase: Phase| match phase {
        Phase::InFlight { lease_until } => format!("leased until {}", since_beginning(lease_until)),
        Phase::Waiting { next_attempt_at } => format!("due {}", since_beginning(next_attempt_at)),
    };
    let mut words = vec![format!("v{} {}", booking.version(), booking.status().as_str())];
    if let Some(operation) = &booking.operation {
        let Operation { number, attempts, .. } = operation;
        let (kind, phase) = (operation.change.kind().as_str(), phase(operation.phase));
        let sent = operation.unanswered_send_at.map_or("nothing".to_owned(), since_beginning);
        words.push(format!("{kind} {number} attempt {attempts} {phase}, unanswered: {sent}"));
    }
    match &booking.compensation {
        Compensation::Underway(CompensationRun { number, attempts, phase: at, .. }) => {
            words.push(format!("compensation {number} attempt {attempts} {}", phase(*at)));
        }
        Compensation::NotNeeded => {}
        settled @ (Compensation::Done | Compensation::Failed) => {
            words.push(format!("compensation {settled:?}"));
        }
    }
    words.join(", ")
}
