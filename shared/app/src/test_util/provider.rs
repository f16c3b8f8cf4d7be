//! A provider in memory: it keeps a ledger of what is booked there, which tests hold against what is
//! reported here, and each request to it can be made to go wrong.
//!
//! It goes on working on a request when its caller has hung up, as real ones do. It honours the booking's
//! identifier as its idempotency key: whatever arrives twice is answered from the ledger.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_domain::{
    Acknowledgement, AttemptError, AttemptOutcome, Booking, BookingId, CompensationOutcome, LookUpOutcome,
    OperationKind, Rejection, Timestamp,
};
use tokio::time::sleep;

use super::{TestClock, locked};
use crate::bookings::ProviderAnswer;
use crate::ports::{
    AttemptReport, Clock, CompensationCall, CompensationReport, ProviderCall, ProviderGateway,
};
use crate::settings::ProviderSettings;

/// What the provider decides about a request to book, once it is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It books.
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
    /// Book.
    Attempt,
    /// Say what is known of a booking.
    LookUp,
    /// Cancel.
    Cancel,
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

/// Where a booking stands at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Live(Acknowledgement),
    Declined,
    Cancelled,
}

#[derive(Debug, Default)]
struct State {
    ledger: BTreeMap<BookingId, Entry>,
    /// How often a slot was taken for a booking; more than once is a double booking.
    taken: BTreeMap<BookingId, u32>,
    seen: Vec<Seen>,
    scripts: BTreeMap<Request, VecDeque<Script>>,
    defaults: BTreeMap<Request, Script>,
    callbacks: VecDeque<(BookingId, ProviderAnswer)>,
    /// Requests to book that the provider is still at work on.
    at_work: BTreeMap<BookingId, u32>,
    forgets_cancels: bool,
    has_no_look_up: bool,
    refuses_cancels: bool,
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

    /// From now on all goes well.
    pub fn heal(&self) {
        let mut state = locked(&self.state);
        state.scripts.clear();
        state.defaults.clear();
    }

    /// It does not remember a cancel for a booking that it does not know, as some do not.
    pub fn forget_cancels(&self) {
        locked(&self.state).forgets_cancels = true;
    }

    /// Its protocol has no look-up.
    pub fn remove_look_up(&self) {
        locked(&self.state).has_no_look_up = true;
    }

    /// It refuses to cancel anything.
    pub fn refuse_cancels(&self) {
        locked(&self.state).refuses_cancels = true;
    }

    /// It refuses no more.
    pub fn accept_cancels(&self) {
        locked(&self.state).refuses_cancels = false;
    }

    /// It withdraws a booking on its own account. That it tells of it is the test's part.
    pub fn withdraw(&self, id: &BookingId) {
        locked(&self.state).ledger.insert(id.clone(), Entry::Cancelled);
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
        let now = self.clock.now();
        let state = locked(&self.state);
        let live = state.ledger.iter().filter(|(_, entry)| is_live(entry, now));
        live.map(|(id, _)| id.clone()).collect()
    }

    /// How often it ever took a slot for a booking.
    pub fn times_taken(&self, id: &BookingId) -> u32 {
        locked(&self.state).taken.get(id).copied().unwrap_or(0)
    }

    /// Whether it is still at work on a request to book, perhaps one whose caller has hung up, or wants
    /// to call back.
    pub fn is_at_work(&self) -> bool {
        let state = locked(&self.state);
        !state.at_work.is_empty() || !state.callbacks.is_empty()
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
        let planned = state.scripts.get_mut(&request).and_then(VecDeque::pop_front);
        planned.or_else(|| state.defaults.get(&request).copied()).unwrap_or(Script::WELL)
    }

    /// Works on a request to book, whether or not anybody waits for it.
    fn work(&self, id: BookingId, script: Script) {
        let provider = self.clone();
        *locked(&self.state).at_work.entry(id.clone()).or_default() += 1;
        // A task of its own: what is dropped with the caller is the wait for the answer.
        tokio::spawn(async move {
            sleep(Duration::from_millis(script.deed_after_ms)).await;
            provider.decide(&id, script);
        });
    }

    fn decide(&self, id: &BookingId, script: Script) {
        let now = self.clock.now();
        let mut state = locked(&self.state);
        if let Some(at_work) = state.at_work.get_mut(id) {
            *at_work -= 1;
            if *at_work == 0 {
                state.at_work.remove(id);
            }
        }
        if !state.ledger.contains_key(id) {
            let entry = match script.deed {
                Deed::Nothing => return,
                Deed::Decline => Entry::Declined,
                Deed::Book => Entry::Live(acknowledgement(id, None)),
                Deed::Reserve { hold_ms } => Entry::Live(acknowledgement(id, Some(now.plus_ms(hold_ms)))),
            };
            if matches!(entry, Entry::Live(_)) {
                *state.taken.entry(id.clone()).or_default() += 1;
            }
            state.ledger.insert(id.clone(), entry);
        }
        if script.calls_back {
            let answer = match state.ledger.get(id) {
                Some(Entry::Live(yes)) => ProviderAnswer::Yes(yes.clone()),
                Some(Entry::Declined | Entry::Cancelled) | None => ProviderAnswer::No(rejection()),
            };
            state.callbacks.push_back((id.clone(), answer));
        }
    }

    fn outcome(&self, id: &BookingId) -> AttemptOutcome {
        match locked(&self.state).ledger.get(id) {
            Some(Entry::Live(yes)) => AttemptOutcome::Acknowledged(yes.clone()),
            Some(Entry::Declined | Entry::Cancelled) => AttemptOutcome::Declined(rejection()),
            None => AttemptOutcome::Unknown(AttemptError::HttpStatus(500)),
        }
    }

    fn cancel(&self, id: &BookingId) -> CompensationOutcome {
        let mut state = locked(&self.state);
        if state.refuses_cancels {
            return CompensationOutcome::Declined;
        }
        let forgets = state.forgets_cancels;
        match state.ledger.get_mut(id) {
            Some(entry @ (Entry::Live(_) | Entry::Cancelled)) => {
                *entry = Entry::Cancelled;
                CompensationOutcome::Acknowledged
            }
            Some(Entry::Declined) => CompensationOutcome::NoSuchBooking,
            None => {
                if !forgets {
                    state.ledger.insert(id.clone(), Entry::Cancelled);
                }
                CompensationOutcome::NoSuchBooking
            }
        }
    }

    fn known(&self, id: &BookingId) -> LookUpOutcome {
        let now = self.clock.now();
        let state = locked(&self.state);
        if state.has_no_look_up {
            return LookUpOutcome::Unsupported;
        }
        match state.ledger.get(id) {
            Some(Entry::Live(yes)) if is_live(&Entry::Live(yes.clone()), now) => {
                LookUpOutcome::Found(yes.clone())
            }
            Some(Entry::Live(_) | Entry::Cancelled) => LookUpOutcome::Ended,
            Some(Entry::Declined) | None => LookUpOutcome::NotFound,
        }
    }
}

fn acknowledgement(id: &BookingId, reserved_until: Option<Timestamp>) -> Acknowledgement {
    Acknowledgement { provider_reference: Some(format!("at-provider-{id}")), reserved_until }
}

fn rejection() -> Rejection {
    Rejection {
        code: "declined_by_provider".to_owned(),
        message: Some("The slot is taken.".to_owned()),
        provider_code: Some("slot_taken".to_owned()),
    }
}

fn is_live(entry: &Entry, now: Timestamp) -> bool {
    match entry {
        Entry::Live(yes) => yes.reserved_until.is_none_or(|reserved_until| reserved_until > now),
        Entry::Declined | Entry::Cancelled => false,
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
            self.cancel(&booking.id)
        } else {
            CompensationOutcome::Failed(AttemptError::HttpStatus(500))
        };
        wait(script).await.map_or(truth, CompensationOutcome::Failed)
    }
}

impl ProviderGateway for MemoryProvider {
    async fn attempt(&self, call: ProviderCall<'_>) -> AttemptReport {
        let asked_for = call.booking.operation.as_ref().map(|operation| operation.change.kind());
        if asked_for == Some(OperationKind::Cancel) {
            let cancelled = self.asked_to_cancel(call.booking, (call.operation_number, call.attempt)).await;
            let outcome = match cancelled {
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
        let script = self.begin(Request::Attempt, call.booking, (call.operation_number, call.attempt));
        if script.reply != Reply::NoConnection {
            self.work(id.clone(), script);
        }
        let outcome = match wait(script).await {
            None => self.outcome(id),
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
}
