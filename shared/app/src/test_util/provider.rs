//! A provider in memory: it keeps a ledger of what is booked there, which tests hold against what is
//! reported here, and each request to it can be made to go wrong.
//!
//! It goes on working on a request when its caller has hung up, as real ones do. It honours the booking's
//! identifier as its idempotency key: whatever arrives twice is answered from the ledger.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_domain::{
    Acknowledgement, AttemptError, AttemptOutcome, Booking, BookingId, Change, CompensationOutcome,
    ConfirmationMode, LookUpOutcome, Notification, NotificationKind, OperationKind, ProviderId, Slot,
    Timestamp,
};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::provider_ledger::{Ledger, acknowledgement, rejection};
use super::provider_script::{Calls, Deed, Reply, Request, Script, wait};
use super::{Faults, TestClock, locked};
use crate::bookings::{ProviderAnswer, ProviderVerdict};
use crate::ports::{
    AttemptReport, Clock, CompensationCall, CompensationReport, NotificationCall, NotificationReport,
    ProviderCall, ProviderGateway,
};
use crate::settings::ProviderSettings;

/// What the provider was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Of which booking.
    pub booking_id: BookingId,
    /// What.
    pub kind: NotificationKind,
    /// The version that it tells of.
    pub version: u32,
    /// The slot that it names.
    pub slot: Slot,
}

/// A request that arrived, or was meant to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its kind.
    pub request: Request,
    /// The booking.
    pub booking_id: BookingId,
    /// The operation's number and the attempt's; of a look-up those of the attempt that it is made for.
    pub operation: (u32, u32),
    /// The slot that it is about.
    pub slot: Slot,
    /// Whether it arrived.
    pub arrived: bool,
    /// When.
    pub at: Timestamp,
    /// How many calls of all ports had begun, where faults are planned for the provider's too.
    pub after_calls: usize,
}

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    told: Vec<Told>,
    seen: Vec<Seen>,
    /// The requests that go a way of their own, by place (from 1).
    by_place: BTreeMap<usize, Script>,
    scripts: BTreeMap<Request, VecDeque<Script>>,
    defaults: BTreeMap<Request, Script>,
    callbacks: VecDeque<(BookingId, ProviderAnswer)>,
    /// Requests that the provider is still at work on.
    at_work: u32,
    has_no_look_up: bool,
    /// The one provider that the scripts are for; `None`: all of them.
    scripted: Option<ProviderId>,
}

impl State {
    fn script(&mut self, request: Request, place: usize) -> Script {
        if let Some(script) = self.by_place.get(&place) {
            return *script;
        }
        let planned = self.scripts.get_mut(&request).and_then(VecDeque::pop_front);
        planned.or_else(|| self.defaults.get(&request).copied()).unwrap_or(Script::WELL)
    }
}

/// A provider in memory.
#[derive(Clone, Debug)]
pub struct MemoryProvider {
    state: Arc<Mutex<State>>,
    clock: TestClock,
    /// What becomes of those who call it.
    faults: Option<Faults>,
    /// Told whenever something has been done there.
    done: Arc<Notify>,
}

impl MemoryProvider {
    /// A provider at which all goes well.
    pub fn new(clock: TestClock) -> Self {
        Self { state: Arc::default(), clock, faults: None, done: Arc::default() }
    }

    /// The same; its callers may die or stand still as planned. Its calls are `provider.book`,
    /// `provider.change`, `provider.cancel`, `provider.look_up` and `provider.notify`.
    pub fn with_faults(clock: TestClock, faults: Faults) -> Self {
        Self { faults: Some(faults), ..Self::new(clock) }
    }

    /// Is told whenever something has been done here.
    pub fn done(&self) -> Arc<Notify> {
        Arc::clone(&self.done)
    }

    /// Plans the `nth` request (from 1) of all.
    pub fn on_request(&self, nth: usize, script: Script) {
        locked(&self.state).by_place.insert(nth, script);
    }

    /// How many requests there were so far.
    pub fn count(&self) -> usize {
        locked(&self.state).seen.len()
    }

    /// Plans the next request of a kind after those that are planned already.
    pub fn plan(&self, request: Request, script: Script) {
        locked(&self.state).scripts.entry(request).or_default().push_back(script);
    }

    /// From now on every request of a kind that no plan is for goes this way.
    pub fn always(&self, request: Request, script: Script) {
        locked(&self.state).defaults.insert(request, script);
    }

    /// Plans and scripts concern the provider of this name alone: at all others all goes well.
    pub fn script_only(&self, provider_id: ProviderId) {
        locked(&self.state).scripted = Some(provider_id);
    }

    /// From now on all goes well.
    pub fn heal(&self) {
        let mut state = locked(&self.state);
        state.by_place.clear();
        state.scripts.clear();
        state.defaults.clear();
    }

    /// It does not remember a cancel for a booking that it does not know, as some do not.
    pub fn forget_cancels(&self) {
        locked(&self.state).ledger.forgets_cancels = true;
    }

    /// Its protocol has no look-up.
    pub fn remove_look_up(&self) {
        locked(&self.state).has_no_look_up = true;
    }

    /// It refuses to cancel anything.
    pub fn refuse_cancels(&self) {
        locked(&self.state).ledger.refuses_cancels = true;
    }

    /// It refuses no more.
    pub fn accept_cancels(&self) {
        locked(&self.state).ledger.refuses_cancels = false;
    }

    /// It withdraws a booking on its own account. That it tells of it is the test's part.
    pub fn withdraw(&self, id: &BookingId) {
        locked(&self.state).ledger.withdraw(id);
    }

    /// The requests so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.state).seen.clone()
    }

    /// The kinds of the requests so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.state).seen.iter().map(|seen| seen.request).collect()
    }

    /// The bookings that are booked or held there now.
    pub fn live(&self) -> Vec<BookingId> {
        locked(&self.state).ledger.live(self.clock.now())
    }

    /// The slot that is booked or held there for a booking now, and the end of the hold if it is one.
    pub fn holds(&self, id: &BookingId) -> Option<(Slot, Option<Timestamp>)> {
        locked(&self.state).ledger.holds(id, self.clock.now())
    }

    /// What it was told so far, in order.
    pub fn told(&self) -> Vec<Told> {
        locked(&self.state).told.clone()
    }

    /// It hears of a booking in another way than by a request, as one does that fetches what it is told.
    pub fn hear(&self, id: &BookingId, notification: &Notification) {
        let mut state = locked(&self.state);
        state.told.push(Told {
            booking_id: id.clone(),
            kind: notification.kind.clone(),
            version: notification.version,
            slot: notification.slot.clone(),
        });
        state.ledger.hear(id, notification);
    }

    /// How often it ever took a slot for a booking.
    pub fn times_taken(&self, id: &BookingId) -> u32 {
        locked(&self.state).ledger.times_taken(id)
    }

    /// Whether it is still at work on a request, perhaps one whose caller has hung up, or wants
    /// to call back.
    pub fn is_at_work(&self) -> bool {
        let state = locked(&self.state);
        state.at_work > 0 || !state.callbacks.is_empty()
    }

    /// A callback was not taken: the provider will repeat it, before it makes any other.
    pub fn call_again(&self, id: BookingId, answer: ProviderAnswer) {
        locked(&self.state).callbacks.push_front((id, answer));
    }

    /// The first of the callbacks that it wants to make by now.
    pub fn take_callback(&self) -> Option<(BookingId, ProviderAnswer)> {
        locked(&self.state).callbacks.pop_front()
    }

    fn begin(&self, request: Request, booking: &Booking, slot: &Slot, call: (u32, u32, u64)) -> Script {
        let (number, attempt, limit_ms) = call;
        let script = {
            let mut state = locked(&self.state);
            let place = state.seen.len().saturating_add(1);
            let is_scripted = state.scripted.as_ref().is_none_or(|id| *id == booking.request.provider_id);
            let script = if is_scripted { state.script(request, place) } else { Script::WELL };
            state.seen.push(Seen {
                request,
                booking_id: booking.id.clone(),
                operation: (number, attempt),
                slot: slot.clone(),
                arrived: script.reply != Reply::NoConnection,
                at: self.clock.now(),
                after_calls: self.faults.as_ref().map_or(0, Faults::count),
            });
            script.within(limit_ms)
        };
        self.tell(&|| {
            let Script { deed, deed_after_ms, reply, reply_after_ms, calls, .. } = script;
            format!(
                "hears {request:?} of {id} (operation {number}, attempt {attempt}): will {deed:?} after \
                 {deed_after_ms} ms and reply {reply:?} after {reply_after_ms} ms; calls back: {calls:?}",
                id = booking.id,
            )
        });
        script
    }

    fn tell(&self, tell: &dyn Fn() -> String) {
        if let Some(faults) = &self.faults {
            faults.tell("provider", tell);
        }
    }

    /// Works on a request, whether or not anybody waits for it.
    fn work(&self, booking: &Booking, number: u32, change: Change, script: Script) {
        let provider = self.clone();
        let (id, slot) = (booking.id.clone(), booking.slot.clone());
        locked(&self.state).at_work += 1;
        // A task of its own: what is dropped with the caller is the wait for the answer.
        tokio::spawn(async move {
            sleep(Duration::from_millis(script.deed_after_ms)).await;
            let answer = provider.decide(&id, slot, number, &change, script);
            provider.call_back(&id, answer, script).await;
            locked(&provider.state).at_work -= 1;
            provider.done.notify_one();
        });
    }

    /// Decides, and returns what it would call back with.
    fn decide(
        &self,
        id: &BookingId,
        slot: Slot,
        number: u32,
        change: &Change,
        script: Script,
    ) -> Option<ProviderAnswer> {
        let now = self.clock.now();
        let is_book = *change == Change::Book;
        let answer = {
            let mut state = locked(&self.state);
            if is_book {
                state.ledger.book(id, slot, script.deed, now);
                state.ledger.answer(id)
            } else {
                state.ledger.change(id, number, change, script.deed, now);
                state.ledger.answer_to(id, number)
            }
        };
        self.tell(&|| {
            let holds = match self.holds(id) {
                Some((slot, Some(until))) => format!("holds {} until {until}", slot.start),
                Some((slot, None)) => format!("has booked {}", slot.start),
                None => "holds nothing".to_owned(),
            };
            format!("is done with operation {number} of {id} and {holds}")
        });
        let verdict = match answer {
            AttemptOutcome::Acknowledged(yes) => ProviderVerdict::Yes(yes),
            AttemptOutcome::Declined(no) => ProviderVerdict::No(no),
            // It has decided nothing that it could tell.
            AttemptOutcome::NotSent(_) | AttemptOutcome::Unknown(_) => return None,
        };
        Some(ProviderAnswer { verdict, operation: (!is_book).then_some(number) })
    }

    async fn call_back(&self, id: &BookingId, answer: Option<ProviderAnswer>, script: Script) {
        let Some(answer) = answer else { return };
        let contrary = match answer.verdict {
            ProviderVerdict::Yes(_) => ProviderVerdict::No(rejection()),
            ProviderVerdict::No(_) => ProviderVerdict::Yes(acknowledgement(id, None)),
        };
        let contrary = ProviderAnswer { verdict: contrary, operation: answer.operation };
        let no = ProviderAnswer { verdict: ProviderVerdict::No(rejection()), operation: answer.operation };
        let answers = match script.calls {
            Calls::Never => return,
            Calls::Once => vec![answer],
            Calls::Twice => vec![answer.clone(), answer],
            Calls::ThenContradicts => vec![answer, contrary],
            Calls::AfterNo => vec![no, answer],
        };
        for answer in answers {
            sleep(Duration::from_millis(script.calls_after_ms)).await;
            locked(&self.state).callbacks.push_back((id.clone(), answer));
            self.done.notify_one();
        }
    }

    fn known(&self, id: &BookingId) -> LookUpOutcome {
        let state = locked(&self.state);
        if state.has_no_look_up {
            return LookUpOutcome::Unsupported;
        }
        state.ledger.look_up(id, self.clock.now())
    }
}

impl MemoryProvider {
    /// A cancel, for a consumer or as a compensation. It is done at once, even if its answer is lost.
    async fn asked_to_cancel(&self, booking: &Booking, call: (u32, u32, u64)) -> CompensationOutcome {
        let script = self.begin(Request::Cancel, booking, &booking.slot, call);
        let arrives = script.reply != Reply::NoConnection && script.deed != Deed::Nothing;
        let truth = if arrives {
            let refuses = script.deed == Deed::Decline;
            locked(&self.state).ledger.cancel(&booking.id, call.0, refuses)
        } else {
            CompensationOutcome::Failed(AttemptError::HttpStatus(500))
        };
        wait(script).await.map_or(truth, CompensationOutcome::Failed)
    }

    async fn asked(&self, call: ProviderCall<'_>) -> AttemptOutcome {
        let change =
            call.booking.operation.as_ref().map_or(Change::Book, |operation| operation.change.clone());
        let named = (call.operation_number, call.attempt, call.limit_ms);
        if matches!(change, Change::Cancel(_)) {
            return match self.asked_to_cancel(call.booking, named).await {
                CompensationOutcome::Acknowledged | CompensationOutcome::NoSuchBooking => {
                    AttemptOutcome::Acknowledged(Acknowledgement {
                        provider_reference: None,
                        reserved_until: None,
                    })
                }
                CompensationOutcome::Declined => AttemptOutcome::Declined(rejection()),
                CompensationOutcome::Failed(error @ AttemptError::ConnectionFailed) => {
                    AttemptOutcome::NotSent(error)
                }
                CompensationOutcome::Failed(error) => AttemptOutcome::Unknown(error),
            };
        }
        let id = &call.booking.id;
        let request = if change == Change::Book { Request::Attempt } else { Request::Change };
        let slot = match &change {
            Change::Reschedule(slot) => slot,
            _ => &call.booking.slot,
        };
        let script = self.begin(request, call.booking, slot, named);
        let is_gate = call.booking.confirmation == ConfirmationMode::RealTime;
        if script.reply != Reply::NoConnection && !is_gate {
            self.work(call.booking, call.operation_number, change.clone(), script);
        }
        match wait(script).await {
            None if is_gate => let_through(script.deed),
            None if change == Change::Book => locked(&self.state).ledger.answer(id),
            None => locked(&self.state).ledger.answer_to(id, call.operation_number),
            Some(error @ AttemptError::ConnectionFailed) => AttemptOutcome::NotSent(error),
            Some(error) => AttemptOutcome::Unknown(error),
        }
    }

    async fn looked_up(&self, booking: &Booking, limit_ms: u64) -> LookUpOutcome {
        let operation = booking.operation.as_ref();
        let (number, attempt) = operation.map_or((0, 0), |operation| (operation.number, operation.attempts));
        let script = self.begin(Request::LookUp, booking, &booking.slot, (number, attempt, limit_ms));
        match wait(script).await {
            None => self.known(&booking.id),
            Some(AttemptError::AcceptedForLater) => LookUpOutcome::StillPending,
            Some(error) => LookUpOutcome::Unavailable { error, retry_after_ms: None },
        }
    }

    async fn told_of(&self, call: NotificationCall<'_>) -> NotificationReport {
        let NotificationCall { booking, notification, .. } = call;
        let named = (notification.number, notification.attempts, call.limit_ms);
        let script = self.begin(Request::Notify, booking, &notification.slot, named);
        if script.reply != Reply::NoConnection && script.deed != Deed::Nothing {
            self.hear(&booking.id, notification);
        }
        let failed = (script.deed == Deed::Nothing).then_some(AttemptError::HttpStatus(500));
        NotificationReport { error: wait(script).await.or(failed), retry_after_ms: None }
    }

    /// Lets the caller meet what is planned for it.
    async fn meet<T>(&self, operation: &'static str, work: impl Future<Output = T>) -> T {
        match &self.faults {
            Some(faults) => faults.around(operation, work).await,
            None => work.await,
        }
    }
}

impl ProviderGateway for MemoryProvider {
    async fn attempt(&self, call: ProviderCall<'_>) -> AttemptReport {
        let operation = match call.booking.operation.as_ref().map(|operation| operation.change.kind()) {
            None | Some(OperationKind::Book) => "provider.book",
            Some(OperationKind::Cancel) => "provider.cancel",
            Some(OperationKind::Confirm | OperationKind::Extend | OperationKind::Reschedule) => {
                "provider.change"
            }
        };
        let outcome = self.meet(operation, self.asked(call)).await;
        AttemptReport { outcome, retry_after_ms: None }
    }

    async fn look_up(&self, _: &ProviderSettings, booking: &Booking, limit_ms: u64) -> LookUpOutcome {
        self.meet("provider.look_up", self.looked_up(booking, limit_ms)).await
    }

    async fn compensate(&self, call: CompensationCall<'_>) -> CompensationReport {
        let named = (call.operation_number, call.attempt, call.limit_ms);
        let outcome = self.meet("provider.cancel", self.asked_to_cancel(call.booking, named)).await;
        CompensationReport { outcome, retry_after_ms: None }
    }

    async fn notify(&self, call: NotificationCall<'_>) -> NotificationReport {
        self.meet("provider.notify", self.told_of(call)).await
    }
}

/// What a gate says.
fn let_through(deed: Deed) -> AttemptOutcome {
    match deed {
        Deed::Book | Deed::Reserve { .. } => {
            AttemptOutcome::Acknowledged(Acknowledgement { provider_reference: None, reserved_until: None })
        }
        Deed::Decline => AttemptOutcome::Declined(rejection()),
        Deed::Nothing => AttemptOutcome::Unknown(AttemptError::HttpStatus(500)),
    }
}
