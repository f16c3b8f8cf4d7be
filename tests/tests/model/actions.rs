//! What may happen next, and what it does.

use holdfast_domain::Step;

use crate::bounds::{Bounds, REDELIVERY_MS};
use crate::provider::{Request, Word};
use crate::rules::{self, Wrong};
use crate::steps::Fate;
use crate::worker::{Role, Stage, Worker};
use crate::world::{Call, CallBack, Lateness, World, due};

/// Something that may happen. The numbers are places in the world's lists.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Nothing is left to do now, and the clock goes on to the next moment that matters.
    Pass,
    /// A request comes under the create's key.
    Create,
    /// The consumer asks for the next change.
    Utter,
    /// A timer rings, and somebody reads the item.
    Ring(usize),
    /// A timer is late, or lost.
    LoseTimer(usize),
    /// A timer rings, and its message will come again.
    DoubleTimer(usize),
    /// The sweep finds the booking.
    Sweep,
    /// A worker does what it does next.
    Step(usize, Fate),
    /// A worker is frozen, perhaps for good.
    Freeze(usize),
    /// A request arrives whose sender does not hear the answer, and the provider is willing or not.
    Arrive(usize, bool),
    /// A request does not arrive at all.
    Vanish(usize),
    /// The provider decides on what it has accepted.
    DecideAccepted(bool),
    /// The provider's call is taken.
    Hear(usize),
    /// The provider tells again what it has said to a request.
    TellAgain(Request),
    /// The provider makes a booking that it has declined, and will say so.
    ChangeMind,
    /// The provider withdraws the booking, and will say so.
    Withdraw,
}

/// The places in a list at which something stands that was not there before: of equal things one is enough.
fn places<T: PartialEq>(list: &[T]) -> impl Iterator<Item = (usize, &T)> {
    list.iter().enumerate().filter(|(nth, element)| *nth == 0 || list[nth - 1] != **element)
}

impl World {
    /// What may happen next.
    pub(crate) fn actions(&self, bounds: &Bounds, actions: &mut Vec<Action>) {
        if self.wrong.is_some() {
            return;
        }
        if !self.is_busy() && self.next_moment().is_some() {
            actions.push(Action::Pass);
        }
        if self.creates_left > 0 {
            actions.push(Action::Create);
        }
        if self.item.is_some() && usize::from(self.wishes_uttered) < bounds.wishes.len() {
            actions.push(Action::Utter);
        }
        self.worker_actions(bounds, actions);
        self.timer_actions(actions);
        self.provider_actions(bounds, actions);
    }

    fn worker_actions(&self, bounds: &Bounds, actions: &mut Vec<Action>) {
        for (nth, worker) in places(&self.workers).filter(|(_, worker)| worker.is_ready(self.now)) {
            actions.extend(self.fates(worker, bounds).into_iter().map(|fate| Action::Step(nth, fate)));
            if self.faults_left > 0 && !worker.is_frozen {
                actions.push(Action::Freeze(nth));
            }
        }
    }

    fn timer_actions(&self, actions: &mut Vec<Action>) {
        for (nth, timer) in places(&self.timers) {
            if timer.not_before <= self.now && self.has_free_worker() {
                actions.push(Action::Ring(nth));
                if self.faults_left > 0 {
                    actions.push(Action::DoubleTimer(nth));
                }
            }
            let is_due = timer.not_before <= self.now;
            if self.faults_left > 0 && timer.lateness == Lateness::OnTime && is_due {
                actions.push(Action::LoseTimer(nth));
            }
        }
        if self.sweep_at().is_some_and(|at| at <= self.now) {
            actions.push(Action::Sweep);
        }
    }

    fn provider_actions(&self, bounds: &Bounds, actions: &mut Vec<Action>) {
        let can_fail = self.faults_left > 0;
        for (nth, underway) in places(&self.underway) {
            actions.push(Action::Arrive(nth, true));
            if can_fail {
                actions.push(Action::Arrive(nth, false));
            }
            if underway.lateness == Lateness::Until(self.now) {
                actions.push(Action::Vanish(nth));
            }
        }
        if self.provider.undecided.is_some() {
            actions.push(Action::DecideAccepted(true));
            if can_fail {
                actions.push(Action::DecideAccepted(false));
            }
        }
        actions.extend(places(&self.callbacks).map(|(nth, _)| Action::Hear(nth)));
        if !can_fail {
            return;
        }
        actions.extend(self.provider.decided().map(|(request, _)| Action::TellAgain(request)));
        if bounds.habits.is_moody {
            actions.extend([Action::ChangeMind, Action::Withdraw]);
        }
    }

    /// The world after `action`; `None` if it cannot happen.
    pub(crate) fn after(&self, action: &Action, bounds: &Bounds) -> Option<Self> {
        let mut next = self.clone();
        next.act(action, bounds)?;
        next.sort();
        let standing = |world: &Self| (world.now, world.rev());
        let goes_on = standing(&next) > standing(self)
            || (standing(&next) == standing(self) && next.left_to_do() < self.left_to_do());
        if !goes_on {
            next.blame(Wrong::InCircles);
        }
        Some(next)
    }

    fn spend(&mut self, cost: u8) -> Option<()> {
        self.faults_left = self.faults_left.checked_sub(cost)?;
        Some(())
    }

    fn act(&mut self, action: &Action, bounds: &Bounds) -> Option<()> {
        match action {
            Action::Pass => self.now = self.next_moment()?,
            Action::Create => {
                self.creates_left = self.creates_left.checked_sub(1)?;
                self.workers.push(Worker::new(Role::Create, Stage::Claim { received_at: self.now }));
            }
            Action::Utter => {
                let wish = bounds.wishes.get(usize::from(self.wishes_uttered))?;
                self.wishes_uttered += 1;
                self.workers.push(Worker::new(Role::Change(*wish), Stage::Begin { received_at: self.now }));
            }
            Action::Ring(nth) => {
                self.timers.remove(*nth);
                self.ring()?;
            }
            Action::DoubleTimer(nth) => {
                self.spend(1)?;
                self.timers[*nth].lateness = Lateness::Any;
                self.ring()?;
            }
            Action::LoseTimer(nth) => {
                self.spend(1)?;
                self.timers[*nth].lateness = self.lateness_of_a_lost_timer(self.timers[*nth].not_before);
            }
            Action::Sweep => {
                if let Some(wrong) = rules::of_sweep(self) {
                    self.blame(wrong);
                }
                self.sweeps += 1;
                self.arm(self.now);
            }
            Action::Step(nth, fate) => {
                self.spend(fate.cost())?;
                let worker = self.workers.remove(*nth);
                self.step(worker, *fate, bounds);
            }
            Action::Freeze(nth) => self.freeze(*nth)?,
            Action::Arrive(nth, is_willing) => {
                self.spend(u8::from(!is_willing))?;
                let underway = self.underway.remove(*nth);
                self.arrive(underway, *is_willing, bounds);
            }
            Action::Vanish(nth) => {
                self.underway.remove(*nth);
            }
            Action::DecideAccepted(is_willing) => {
                self.spend(u8::from(!is_willing))?;
                self.decide_accepted(*is_willing, bounds);
            }
            Action::Hear(nth) => {
                let callback = self.callbacks.remove(*nth);
                self.hear(callback.call);
            }
            Action::TellAgain(request) => {
                self.spend(1)?;
                let (request, word) = self.provider.decided().find(|(decided, _)| decided == request)?;
                self.call(Call::Answer(request, word), Lateness::Any);
            }
            Action::ChangeMind => {
                self.spend(1)?;
                let request = self.provider.change_its_mind()?;
                let word = Word::Yes(None);
                self.call(Call::Answer(request, word), Lateness::Until(self.now.plus_ms(REDELIVERY_MS)));
            }
            Action::Withdraw => {
                self.spend(1)?;
                self.provider.withdraw(self.now).then_some(())?;
                self.call(Call::Withdrawal, Lateness::Until(self.now.plus_ms(REDELIVERY_MS)));
            }
        }
        Some(())
    }

    fn call(&mut self, call: Call, lateness: Lateness) {
        self.callbacks.push(CallBack { call, lateness });
    }

    /// Somebody reads the item. If nothing is due, that is all.
    fn ring(&mut self) -> Option<()> {
        let seen = self.item.clone()?;
        if matches!(due(&seen, self.now), Step::Nothing | Step::WaitUntil(_)) {
            return Some(());
        }
        self.workers.push(Worker::new(Role::Retry, Stage::Decide { seen }));
        Some(())
    }

    /// The message of a worker that is frozen before its first write is handed out again, where nothing else
    /// would find the booking. Elsewhere the queue is given no credit for that.
    fn freeze(&mut self, nth: usize) -> Option<()> {
        self.spend(1)?;
        self.workers[nth].is_frozen = true;
        let is_unwritten = matches!(self.workers[nth].stage, Stage::Decide { .. });
        if is_unwritten && !self.is_indexed() {
            self.arm(self.now.plus_ms(REDELIVERY_MS));
        }
        Some(())
    }
}
