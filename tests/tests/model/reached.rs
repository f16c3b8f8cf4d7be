//! What must really occur, so that what never goes wrong is not only what never happens.

use holdfast_domain::{
    AttemptOutcome, Booking, Cancellation, Cause, Command, Compensation, Operation, Phase, RefusalReason,
    State, Status,
};

use crate::checked::Reached;
use crate::provider::Ask;
use crate::worker::{Purpose, Role, Stage, Worker};
use crate::world::World;

fn of_booking(world: &World, is_so: impl Fn(&Booking) -> bool) -> bool {
    world.item.as_ref().is_some_and(|item| is_so(&item.booking))
}

fn of_operation(world: &World, is_so: impl Fn(&Operation) -> bool) -> bool {
    of_booking(world, |booking| booking.operation.as_ref().is_some_and(&is_so))
}

fn has_cause(booking: &Booking, cause: Cause) -> bool {
    booking.history.iter().any(|entry| entry.cause == cause)
}

fn was_acknowledged(booking: &Booking) -> bool {
    booking.history.iter().any(|entry| matches!(entry.status, Status::Confirmed | Status::Reserved))
}

fn is_cancelled_by_consumer(booking: &Booking) -> bool {
    matches!(booking.state, State::Cancelled(Cancellation::ByConsumer(_)))
}

pub(crate) const CONFIRMED: Reached = ("a booking is confirmed, and all is quiet", |_, world| {
    world.is_quiet() && of_booking(world, |booking| booking.status() == Status::Confirmed)
});

pub(crate) const DECLINED: Reached =
    ("a booking is declined", |_, world| of_booking(world, |booking| booking.status() == Status::Rejected));

pub(crate) const GIVEN_UP_AND_COMPENSATED: Reached =
    ("what the provider made is cancelled there, since its answer was lost", |_, world| {
        world.provider.has_taken()
            && of_booking(world, |booking| {
                !was_acknowledged(booking) && booking.compensation == Compensation::Done
            })
    });

pub(crate) const LATE_YES_COMPENSATED: Reached =
    ("a yes comes when the compensation is over, and is compensated again", |_, world| {
        of_booking(world, |booking| {
            has_cause(booking, Cause::LateAcknowledgement) && booking.compensation == Compensation::Done
        })
    });

pub(crate) const LATE_YES_UNDER_COMPENSATION: Reached =
    ("a yes comes while the compensation is under way", |_, world| {
        world.has_late_yes
            && of_booking(world, |booking| {
                !has_cause(booking, Cause::LateAcknowledgement)
                    && matches!(booking.compensation, Compensation::Underway(_))
            })
    });

pub(crate) const ASKED_AGAIN: Reached =
    ("a booking is asked for twice under its key, and confirmed once", |_, world| {
        world.provider.was_asked_again && of_booking(world, |booking| booking.status() == Status::Confirmed)
    });

pub(crate) const TAKEN_OVER: Reached = ("a frozen worker is taken over", |_, world| {
    world.workers.iter().any(|worker| {
        let claimed = worker.task().and_then(|task| task.operation());
        worker.is_frozen
            && claimed.is_some_and(|claimed| {
                of_operation(world, |operation| {
                    operation.number == claimed.number
                        && operation.attempts > claimed.attempts
                        && matches!(operation.phase, Phase::InFlight { .. })
                })
            })
    })
});

pub(crate) const OVERTAKEN_REPORT: Reached =
    ("a worker that was taken over has a yes to report", |_, world| {
        world.workers.iter().any(|worker| {
            matches!(&worker.stage, Stage::Report { command: Command::RecordAttempt {
                operation: 1, attempt: 1, outcome: AttemptOutcome::Acknowledged(_), .. } }
                if of_operation(world, |operation| operation.number == 1 && operation.attempts > 1))
        })
    });

pub(crate) const REPLAY_ENDS_IT: Reached =
    ("a repetition finds the first request's worker gone", |_, world| {
        world.workers.iter().any(|worker| match &worker.stage {
            Stage::Replay { seen } => {
                let operation = seen.booking.operation.as_ref();
                seen.response.is_none()
                    && operation.is_some_and(|operation| !operation.phase.is_leased(world.now))
            }
            _ => false,
        })
    });

pub(crate) const CONFLICT: Reached = ("two workers want to write what is due", |_, world| {
    let is_deciding = |worker: &&Worker| {
        worker.role == Role::Retry
            && matches!(&worker.stage, Stage::Decide { seen } if seen.rev != world.rev())
    };
    world.workers.iter().any(|worker| is_deciding(&worker))
});

pub(crate) const SWEPT: Reached =
    ("the sweep finds what a lost timer left behind", |_, world| world.sweeps > 0);

pub(crate) const TOO_EARLY_TO_BELIEVE: Reached =
    ("no such booking is not believed yet, and the request arrives after all", |_, world| {
        world.provider.live(world.now).next().is_some()
            && of_booking(world, |booking| match &booking.compensation {
                Compensation::Underway(run) => {
                    run.attempts > 0 && run.last_error.is_none() && matches!(run.phase, Phase::Waiting { .. })
                }
                Compensation::NotNeeded | Compensation::Done | Compensation::Failed => false,
            })
    });

pub(crate) const REFUSED_AFTER_CANCEL: Reached =
    ("a request arrives after the cancel that the provider remembers", |_, world| {
        world.provider.has_refused(Ask::Book)
            && world.is_quiet()
            && of_booking(world, |booking| {
                booking.compensation == Compensation::Done && !world.provider.has_taken()
            })
    });

pub(crate) const CANCELLED_WHILE_PENDING: Reached =
    ("what was pending is cancelled at once and undone at the provider", |_, world| {
        world.provider.has_taken()
            && of_booking(world, |booking| {
                is_cancelled_by_consumer(booking)
                    && !was_acknowledged(booking)
                    && booking.compensation == Compensation::Done
            })
    });

pub(crate) const CANCEL_REFUSED: Reached = ("a cancel is refused, and the booking stands", |_, world| {
    world.is_quiet()
        && of_booking(world, |booking| {
            booking.status() == Status::Confirmed
                && booking
                    .refusal
                    .as_ref()
                    .is_some_and(|refusal| matches!(refusal.reason, RefusalReason::Declined(_)))
        })
});

pub(crate) const CANCELLED_IN_BACKGROUND: Reached =
    ("a cancel whose answer was lost is asked for again", |_, world| {
        of_booking(world, |booking| {
            is_cancelled_by_consumer(booking) && booking.history.last().is_some_and(|last| last.attempts > 1)
        })
    });

pub(crate) const EXPIRED: Reached =
    ("a hold runs out", |_, world| of_booking(world, |booking| booking.status() == Status::Expired));

pub(crate) const HOLD_OUTLIVED: Reached =
    ("a hold does not run out while its confirmation is unknown", |_, world| {
        of_booking(world, |booking| match booking.state {
            State::Reserved { expires_at } => expires_at < world.now && booking.operation.is_some(),
            _ => false,
        })
    });

pub(crate) const FOUND_CONFIRMED: Reached =
    ("a look-up finds a confirmation that nobody heard of", |_, world| {
        let has_looked = world.workers.iter().any(|worker| match &worker.stage {
            Stage::LookUp(task) => task.purpose == Purpose::Resolve,
            _ => false,
        });
        has_looked && world.provider.has_confirmed()
    });

pub(crate) const NOT_CONFIRMED: Reached = ("a confirmation turns out not to have been made", |_, world| {
    of_booking(world, |booking| has_cause(booking, Cause::OperationGivenUp))
});

pub(crate) const TAKEN_UP: Reached =
    ("a refused cancel leaves a confirmation to be found out", |_, world| {
        of_booking(world, |booking| booking.operations_begun == 3)
            && of_operation(world, |operation| operation.number == 2 && operation.is_resolving())
    });

pub(crate) const OVERTAKEN_BUT_MADE: Reached =
    ("a confirmation that a cancel has overtaken is made after all", |_, world| {
        of_operation(world, |operation| operation.number == 3)
            && of_booking(world, |booking| booking.status() == Status::Confirmed)
    });

pub(crate) const GIVEN_UP_WITH_ALARM: Reached =
    ("a compensation that nobody answers is given up with an alarm", |_, world| {
        world.is_quiet()
            && world.has_alarm
            && of_booking(world, |booking| booking.compensation == Compensation::Failed)
    });

pub(crate) const MIND_CHANGED: Reached =
    ("a provider makes what it had declined, and it is undone", |_, world| {
        of_booking(world, |booking| {
            booking.status() == Status::Rejected && booking.compensation == Compensation::Done
        })
    });

pub(crate) const WITHDRAWN: Reached = ("a provider withdraws what was confirmed", |_, world| {
    of_booking(world, |booking| {
        matches!(booking.state, State::Cancelled(Cancellation::ByProvider(_))) && was_acknowledged(booking)
    })
});
