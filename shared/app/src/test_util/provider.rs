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
    ConfirmationMode, LookUpOutcome, NotificationKind, ProviderId, Slot, Timestamp,
};
use tokio::time::sleep;

use super::provider_ledger::{Ledger, rejection};
use super::{TestClock, locked};
use crate::bookings::{ProviderAnswer, ProviderVerdict};
use crate::ports::{
    AttemptReport, Clock, CompensationCall, CompensationReport, NotificationCall, NotificationReport,
    ProviderCall, ProviderGateway,
};
use crate::settings::ProviderSettings;

/// What the provider decides about a request, once it is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It books, or makes the change that it is asked for.
    Book,
    /// It holds the slot for this many milliseconds; then the hold lapses by itself.
    Reserve {
        /// How long.
        hold_ms: u64,
    },
    /// It refuses for good.
    Decline,
    /// It fails and keeps nothing.
    Nothing,
}

/// What the caller of a request gets to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// What the ledger says, once the deed is done.
    Truth,
    /// The request is accepted, and the provider will call back (HTTP 202).
    Accepted,
    /// A failure of this HTTP status, whatever was done.
    Status(u16),
    /// The connection breaks, whatever was done.
    Broken,
    /// Nothing, ever.
    Silence,
    /// There is no connection: the request does not arrive.
    NoConnection,
}

/// How the provider treats one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    /// What it decides. Cancels and look-ups ignore it.
    pub deed: Deed,
    /// When the deed is done, in milliseconds after the request.
    pub deed_after_ms: u64,
    /// What the caller sees.
    pub reply: Reply,
    /// When the caller sees it, in milliseconds after the request; the truth not before the deed.
    pub reply_after_ms: u64,
    /// Whether the provider calls back with its decision.
    pub calls_back: bool,
}

impl Script {
    /// All goes well, at once.
    pub const WELL: Self = Self {
        deed: Deed::Book,
        deed_after_ms: 0,
        reply: Reply::Truth,
        reply_after_ms: 0,
        calls_back: false,
    };

    /// The deed, done and answered at once.
    pub fn doing(deed: Deed) -> Self {
        Self { deed, ..Self::WELL }
    }

    /// Books at once, and the caller sees this.
    pub fn replying(reply: Reply) -> Self {
        Self { reply, ..Self::WELL }
    }

    /// Nothing is done, and the caller sees this.
    pub fn failing(reply: Reply) -> Self {
        Self { deed: Deed::Nothing, reply, ..Self::WELL }
    }

    /// The same, with the deed this much later.
    #[must_use]
    pub fn after_ms(self, deed_after_ms: u64) -> Self {
        Self { deed_after_ms, ..self }
    }

    /// The same, and the provider calls back with its decision.
    #[must_use]
    pub fn calling_back(self) -> Self {
        Self { calls_back: true, ..self }
    }
}

/// A kind of request to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Request {
    /// Book, or let through where the provider is a gate.
    Attempt,
    /// Confirm, extend or reschedule.
    Change,
    /// Say what is known of a booking.
    LookUp,
    /// Cancel.
    Cancel,
    /// Hear of a booking.
    Notify,
}

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
    /// The operation's number and the attempt's; zeros for a look-up.
    pub operation: (u32, u32),
    /// When.
    pub at: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    told: Vec<Told>,
    seen: Vec<Seen>,
    scripts: BTreeMap<Request, VecDeque<Script>>,
    defaults: BTreeMap<Request, Script>,
    callbacks: VecDeque<(BookingId, ProviderAnswer)>,
    /// Requests that the provider is still at work on.
    at_work: u32,
    has_no_look_up: bool,
    /// The one provider that the scripts are for; `None`: all of them.
    scripted: Option<ProviderId>,
}

/// A provider in memory.
#[derive(Clone, Debug)]
pub struct MemoryProvider {
    state: Arc<Mutex<State>>,
    clock: TestClock,
}

impl MemoryProvider {
    /// A provider at which all goes well.
    pub fn new(clock: TestClock) -> Self {
        Self { state: Arc::default(), clock }
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

    /// A callback was not taken: the provider will repeat it.
    pub fn call_again(&self, id: BookingId, answer: ProviderAnswer) {
        locked(&self.state).callbacks.push_back((id, answer));
    }

    /// The callbacks that it wants to make by now.
    pub fn take_callbacks(&self) -> Vec<(BookingId, ProviderAnswer)> {
        locked(&self.state).callbacks.drain(..).collect()
    }

    fn begin(&self, request: Request, booking: &Booking, operation: (u32, u32)) -> Script {
        let mut state = locked(&self.state);
        let at = self.clock.now();
        state.seen.push(Seen { request, booking_id: booking.id.clone(), operation, at });
        if state.scripted.as_ref().is_some_and(|scripted| *scripted != booking.request.provider_id) {
            return Script::WELL;
        }
        let planned = state.scripts.get_mut(&request).and_then(VecDeque::pop_front);
        planned.or_else(|| state.defaults.get(&request).copied()).unwrap_or(Script::WELL)
    }

    /// Works on a request, whether or not anybody waits for it.
    fn work(&self, booking: &Booking, number: u32, change: Change, script: Script) {
        let provider = self.clone();
        let (id, slot) = (booking.id.clone(), booking.slot.clone());
        locked(&self.state).at_work += 1;
        // A task of its own: what is dropped with the caller is the wait for the answer.
        tokio::spawn(async move {
            sleep(Duration::from_millis(script.deed_after_ms)).await;
            provider.decide(&id, slot, number, &change, script);
        });
    }

    fn decide(&self, id: &BookingId, slot: Slot, number: u32, change: &Change, script: Script) {
        let now = self.clock.now();
        let mut state = locked(&self.state);
        state.at_work -= 1;
        match change {
            Change::Book => state.ledger.book(id, slot, script.deed, now),
            Change::Confirm | Change::Extend { .. } | Change::Reschedule(_) | Change::Cancel(_) => {
                state.ledger.change(id, number, change, script.deed, now);
            }
        }
        if script.calls_back {
            let is_book = *change == Change::Book;
            let answer = if is_book { state.ledger.answer(id) } else { state.ledger.answer_to(id, number) };
            let verdict = match answer {
                AttemptOutcome::Acknowledged(yes) => ProviderVerdict::Yes(yes),
                AttemptOutcome::Declined(no) => ProviderVerdict::No(no),
                // It has decided nothing that it could tell.
                AttemptOutcome::NotSent(_) | AttemptOutcome::Unknown(_) => return,
            };
            let operation = (!is_book).then_some(number);
            state.callbacks.push_back((id.clone(), ProviderAnswer { verdict, operation }));
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

/// Waits as the script says; `None` if the truth is to be told, otherwise what went wrong.
async fn wait(script: Script) -> Option<AttemptError> {
    let reply_after_ms = match script.reply {
        Reply::Truth => script.reply_after_ms.max(script.deed_after_ms),
        Reply::Accepted | Reply::Status(_) | Reply::Broken | Reply::NoConnection => script.reply_after_ms,
        Reply::Silence => return std::future::pending().await,
    };
    sleep(Duration::from_millis(reply_after_ms)).await;
    // The deed of the same moment goes first.
    tokio::task::yield_now().await;
    match script.reply {
        Reply::Truth | Reply::Silence => None,
        Reply::Accepted => Some(AttemptError::AcceptedForLater),
        Reply::Status(status) => Some(AttemptError::HttpStatus(status)),
        Reply::Broken => Some(AttemptError::ConnectionLost),
        Reply::NoConnection => Some(AttemptError::ConnectionFailed),
    }
}

impl MemoryProvider {
    /// A cancel, for a consumer or as a compensation. It is done at once, even if its answer is lost.
    async fn asked_to_cancel(&self, booking: &Booking, operation: (u32, u32)) -> CompensationOutcome {
        let script = self.begin(Request::Cancel, booking, operation);
        let arrives = script.reply != Reply::NoConnection && script.deed != Deed::Nothing;
        let truth = if arrives {
            locked(&self.state).ledger.cancel(&booking.id)
        } else {
            CompensationOutcome::Failed(AttemptError::HttpStatus(500))
        };
        wait(script).await.map_or(truth, CompensationOutcome::Failed)
    }
}

impl ProviderGateway for MemoryProvider {
    async fn attempt(&self, call: ProviderCall<'_>) -> AttemptReport {
        let change =
            call.booking.operation.as_ref().map_or(Change::Book, |operation| operation.change.clone());
        let operation = (call.operation_number, call.attempt);
        if matches!(change, Change::Cancel(_)) {
            let outcome = match self.asked_to_cancel(call.booking, operation).await {
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
            return AttemptReport { outcome, retry_after_ms: None };
        }
        let id = &call.booking.id;
        let request = if change == Change::Book { Request::Attempt } else { Request::Change };
        let script = self.begin(request, call.booking, operation);
        let is_gate = call.booking.confirmation == ConfirmationMode::RealTime;
        if script.reply != Reply::NoConnection && !is_gate {
            self.work(call.booking, call.operation_number, change.clone(), script);
        }
        let outcome = match wait(script).await {
            None if is_gate => let_through(script.deed),
            None if change == Change::Book => locked(&self.state).ledger.answer(id),
            None => locked(&self.state).ledger.answer_to(id, call.operation_number),
            Some(error @ AttemptError::ConnectionFailed) => AttemptOutcome::NotSent(error),
            Some(error) => AttemptOutcome::Unknown(error),
        };
        AttemptReport { outcome, retry_after_ms: None }
    }

    async fn look_up(&self, _: &ProviderSettings, booking: &Booking, _: u64) -> LookUpOutcome {
        let script = self.begin(Request::LookUp, booking, (0, 0));
        match wait(script).await {
            None => self.known(&booking.id),
            Some(AttemptError::AcceptedForLater) => LookUpOutcome::StillPending,
            Some(error) => LookUpOutcome::Unavailable { error, retry_after_ms: None },
        }
    }

    async fn compensate(&self, call: CompensationCall<'_>) -> CompensationReport {
        let operation = (call.operation_number, call.attempt);
        let outcome = self.asked_to_cancel(call.booking, operation).await;
        CompensationReport { outcome, retry_after_ms: None }
    }

    async fn notify(&self, call: NotificationCall<'_>) -> NotificationReport {
        let NotificationCall { booking, notification, .. } = call;
        let script = self.begin(Request::Notify, booking, (notification.number, notification.attempts));
        if script.reply != Reply::NoConnection && script.deed != Deed::Nothing {
            let mut state = locked(&self.state);
            state.told.push(Told {
                booking_id: booking.id.clone(),
                kind: notification.kind.clone(),
                version: notification.version,
                slot: notification.slot.clone(),
            });
            state.ledger.hear(&booking.id, &notification.kind, &notification.slot);
        }
        let failed = (script.deed == Deed::Nothing).then_some(AttemptError::HttpStatus(500));
        NotificationReport { error: wait(script).await.or(failed), retry_after_ms: None }
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
