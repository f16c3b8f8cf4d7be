//! A booking and everything that is known of it.

use std::collections::BTreeMap;
use std::fmt;

use crate::{
    AttemptError, BookingId, Cause, ConfirmationMode, Found, HistoryEntry, Judgement, Notification,
    NotificationKind, NotificationRoute, Operation, Personal, Phase, ProviderId, Tenant, Timestamp,
};

/// The most versions that a booking may have.
pub const MAX_VERSIONS: usize = 200;

/// The name of a booking's state, without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// The provider has not decided yet.
    Pending,
    /// A slot is held until a time.
    Reserved,
    /// Booked.
    Confirmed,
    /// The provider said no.
    Rejected,
    /// Somebody withdrew it, or its deadline passed.
    Cancelled,
    /// A hold ran out.
    Expired,
    /// The customer came.
    Completed,
    /// The customer did not come.
    NoShow,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Reserved,
        Self::Confirmed,
        Self::Rejected,
        Self::Cancelled,
        Self::Expired,
        Self::Completed,
        Self::NoShow,
    ];

    /// The name that the API shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Reserved => "reserved",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Completed => "completed",
            Self::NoShow => "no_show",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether nothing may follow.
    pub fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Reserved | Self::Confirmed => false,
            Self::Rejected | Self::Cancelled | Self::Expired | Self::Completed | Self::NoShow => true,
        }
    }

    /// Whether `next` may follow this status.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Pending => {
                matches!(next, Self::Confirmed | Self::Reserved | Self::Rejected | Self::Cancelled)
            }
            Self::Reserved => matches!(next, Self::Confirmed | Self::Cancelled | Self::Expired),
            Self::Confirmed => matches!(next, Self::Cancelled | Self::Completed | Self::NoShow),
            Self::Rejected | Self::Cancelled | Self::Expired | Self::Completed | Self::NoShow => false,
        }
    }
}

/// A booking's state with the data that only this state has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The provider has not decided yet.
    Pending,
    /// The slot is held.
    Reserved {
        /// When the hold lapses by itself.
        expires_at: Timestamp,
    },
    /// Booked.
    Confirmed,
    /// The provider said no.
    Rejected(Rejection),
    /// Withdrawn or given up.
    Cancelled(Cancellation),
    /// The hold ran out.
    Expired,
    /// The customer came.
    Completed,
    /// The customer did not come.
    NoShow,
}

impl State {
    /// The state's name.
    pub fn status(&self) -> Status {
        match self {
            Self::Pending => Status::Pending,
            Self::Reserved { .. } => Status::Reserved,
            Self::Confirmed => Status::Confirmed,
            Self::Rejected(_) => Status::Rejected,
            Self::Cancelled(_) => Status::Cancelled,
            Self::Expired => Status::Expired,
            Self::Completed => Status::Completed,
            Self::NoShow => Status::NoShow,
        }
    }
}

/// A provider's definite no.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rejection {
    /// What kind of no it is, in Holdfast's words.
    pub code: String,
    /// The provider's message for the user.
    pub message: Option<String>,
    /// The provider's own code.
    pub provider_code: Option<String>,
}

/// Who withdrew a booking, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cancellation {
    /// Holdfast itself.
    BySystem(CancellationReason),
    /// The consumer.
    ByConsumer(Withdrawal),
    /// The provider.
    ByProvider(Withdrawal),
}

/// Why somebody withdrew a booking, in their own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Withdrawal {
    /// A code or short text.
    pub reason: Option<String>,
    /// More about it.
    pub note: Option<String>,
}

/// Why an operation left the booking as it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The operation's number.
    pub operation: u32,
    /// Why.
    pub reason: RefusalReason,
}

/// Why an operation changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// The provider said no.
    Declined(Rejection),
    /// The provider was not reached in time, or turned out not to have made the change.
    Failed(AttemptError),
    /// Nobody could find out whether the provider made the change.
    Unresolved,
}

/// Why Holdfast cancelled a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancellationReason {
    /// The background deadline passed.
    ConfirmationTimeout,
    /// The provider was silent until the synchronous limit.
    ProviderTimeout,
    /// The provider failed within the synchronous limit.
    ProviderFailed,
    /// The provider's circuit opened before anything was sent.
    ProviderUnavailable,
    /// Whoever operates the system ended it.
    Operator,
}

impl CancellationReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::ConfirmationTimeout,
        Self::ProviderTimeout,
        Self::ProviderFailed,
        Self::ProviderUnavailable,
        Self::Operator,
    ];

    /// The name that the API shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfirmationTimeout => "confirmation_timeout",
            Self::ProviderTimeout => "provider_timeout",
            Self::ProviderFailed => "provider_failed",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::Operator => "operator",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// What is booked: a time at a place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The provider's location.
    pub location_id: String,
    /// When it begins.
    pub start: Timestamp,
    /// When it ends; later than `start`.
    pub end: Timestamp,
    /// The doctor, room, boat or product option, where the provider has such.
    pub resource_id: Option<String>,
    /// The treatment, test or product, where the provider has such.
    pub service_id: Option<String>,
}

/// How many of which unit (adult, child, sample) are booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitQuantity {
    /// The provider's unit.
    pub unit_id: String,
    /// One or more.
    pub quantity: u32,
}

/// For whom it is booked. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Customer {
    /// Full name.
    pub name: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Telephone number.
    pub phone: Option<String>,
    /// Date of birth, `YYYY-MM-DD`.
    pub birth_date: Option<String>,
    /// Preferred language, a BCP 47 tag.
    pub language: Option<String>,
}

impl fmt::Debug for Customer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[personal data]")
    }
}

/// What the consumer asked for, as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookingRequest {
    /// Whom to book.
    pub provider_id: ProviderId,
    /// For whom; `None` once the consumer had it erased.
    pub customer: Option<Personal<Customer>>,
    /// The consumer's own reference.
    pub reference: Option<String>,
    /// Free text for the provider. It may hold personal data.
    pub notes: Option<Personal<String>>,
    /// The consumer's own labels.
    pub metadata: BTreeMap<String, String>,
    /// What is booked besides the time.
    pub units: Vec<UnitQuantity>,
    /// Only reserve.
    pub hold: bool,
    /// The provider's own name for the slot, if it was booked by a key that holds one. It may have become worthless
    /// since it was shown.
    pub availability_id: Option<String>,
}

impl BookingRequest {
    /// How many units of a slot are wanted: one, unless it says which and how many.
    pub fn units_wanted(&self) -> u32 {
        self.units.iter().map(|unit| unit.quantity).fold(0, u32::saturating_add).max(1)
    }
}

/// The compensating cancel: what makes sure that nothing stays booked at the provider by a booking that
/// ended otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Compensation {
    /// The provider surely holds nothing, or rightly holds the booking.
    NotNeeded,
    /// The provider is being asked to cancel.
    Underway(CompensationRun),
    /// The provider cancelled, or knows no such booking.
    Done,
    /// The provider refused, or could not be reached in time. Somebody has to look.
    Failed,
}

/// A compensation that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CompensationRun {
    /// Its operation number.
    pub number: u32,
    /// When it is given up and raised as an alarm.
    pub give_up_at: Timestamp,
    /// Attempts begun so far.
    pub attempts: u32,
    /// The latest moment at which a booking request may have been sent, or the provider told of the
    /// booking. "No such booking" counts only if asked long enough after it.
    pub unanswered_send_at: Timestamp,
    /// Why the last attempt failed.
    pub last_error: Option<AttemptError>,
    /// What goes on with it now.
    pub phase: Phase,
}

/// A booking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// Its identifier.
    pub id: BookingId,
    /// Who owns it.
    pub tenant: Tenant,
    /// What was asked for.
    pub request: BookingRequest,
    /// When it counts as confirmed.
    pub confirmation: ConfirmationMode,
    /// How its provider is told of it, where it is told.
    pub route: NotificationRoute,
    /// What is or will be booked.
    pub slot: Slot,
    /// Where it stands.
    pub state: State,
    /// The provider's own name for it.
    pub provider_reference: Option<String>,
    /// The change in flight.
    pub operation: Option<Operation>,
    /// Why the last change that came to nothing did so.
    pub refusal: Option<Refusal>,
    /// Whether something has to be undone at the provider.
    pub compensation: Compensation,
    /// What the provider has still to be told, in this order.
    pub notifications: Vec<Notification>,
    /// The number of the operation begun last.
    pub operations_begun: u32,
    /// One entry a version, the first first; never empty. A version's number is its place, from 1, so
    /// that versions have no gaps by construction.
    pub history: Vec<HistoryEntry>,
}

impl Booking {
    /// A booking as it is claimed: pending, the first attempt leased to the request that made it.
    ///
    /// `lease_until` must be at least the synchronous limit; `deadline_at` is the background deadline
    /// and is used only with [`Patience::Background`](crate::Patience::Background).
    pub fn claimed(
        id: BookingId,
        tenant: Tenant,
        request: BookingRequest,
        slot: Slot,
        operation: Operation,
        at: Timestamp,
    ) -> Self {
        let attempts = operation.attempts;
        Self {
            id,
            tenant,
            request,
            confirmation: ConfirmationMode::Confirm,
            route: NotificationRoute::Push,
            slot,
            state: State::Pending,
            provider_reference: None,
            operations_begun: operation.number,
            operation: Some(operation),
            refusal: None,
            compensation: Compensation::NotNeeded,
            notifications: Vec::new(),
            history: vec![HistoryEntry::new(Status::Pending, at, Cause::Created, attempts)],
        }
    }

    /// The booking, to be confirmed in this mode.
    #[must_use]
    pub fn in_mode(mut self, confirmation: ConfirmationMode) -> Self {
        self.confirmation = confirmation;
        self
    }

    /// A booking that is confirmed as it is made; its provider is told of it ([`ConfirmationMode::Notify`]).
    /// It has two versions from the beginning: that it was asked for, and that it is confirmed.
    pub fn accepted(
        id: BookingId,
        tenant: Tenant,
        request: BookingRequest,
        slot: Slot,
        route: NotificationRoute,
        at: Timestamp,
    ) -> Self {
        let mut booking = Self {
            id,
            tenant,
            request,
            confirmation: ConfirmationMode::Notify,
            route,
            slot,
            state: State::Confirmed,
            provider_reference: None,
            operations_begun: 0,
            operation: None,
            refusal: None,
            compensation: Compensation::NotNeeded,
            notifications: Vec::new(),
            history: vec![
                HistoryEntry::new(Status::Pending, at, Cause::Created, 0),
                HistoryEntry::new(Status::Confirmed, at, Cause::Accepted, 0),
            ],
        };
        booking.tell(NotificationKind::Booked, at);
        booking
    }

    /// Adds what the provider has to hear of the current version.
    pub(crate) fn tell(&mut self, kind: NotificationKind, now: Timestamp) {
        self.operations_begun = self.operations_begun.saturating_add(1);
        self.notifications.push(Notification {
            kind,
            slot: self.slot.clone(),
            version: self.version(),
            number: self.operations_begun,
            begun_at: now,
            attempts: 0,
            skipped: 0,
            last_error: None,
            phase: self.route.first_phase(now),
        });
    }

    /// The state's name.
    pub fn status(&self) -> Status {
        self.state.status()
    }

    /// The number of the current version, from 1.
    pub fn version(&self) -> u32 {
        u32::try_from(self.history.len()).unwrap_or(u32::MAX)
    }

    /// How many units of its slot it takes: one, unless it says which and how many.
    pub fn units(&self) -> u32 {
        self.request.units_wanted()
    }

    /// When it was made.
    pub fn created_at(&self) -> Timestamp {
        self.history.first().map_or(Timestamp::EPOCH, |entry| entry.at)
    }

    /// When its current version came to be.
    pub fn updated_at(&self) -> Timestamp {
        self.history.last().map_or(Timestamp::EPOCH, |entry| entry.at)
    }

    /// When something has to be done with it if nothing happens before; `None` if nothing has to.
    pub fn due_at(&self) -> Option<Timestamp> {
        let operation = self.operation.as_ref().map(|operation| operation.phase.due_at());
        let compensation = match &self.compensation {
            Compensation::Underway(run) => Some(run.phase.due_at()),
            Compensation::NotNeeded | Compensation::Done | Compensation::Failed => None,
        };
        let hold = match self.state {
            // A hold does not run out while the provider is being asked for a change of it.
            State::Reserved { expires_at } if self.operation.is_none() => Some(expires_at),
            State::Pending
            | State::Reserved { .. }
            | State::Confirmed
            | State::Rejected(_)
            | State::Cancelled(_)
            | State::Expired
            | State::Completed
            | State::NoShow => None,
        };
        // The others wait for the first.
        let notification = self.notifications.first().map(|notification| notification.phase.due_at());
        [operation, compensation, notification, hold].into_iter().flatten().min()
    }

    /// What a provider that holds the booking as `found` says of `operation`.
    pub fn judge(&self, operation: &Operation, found: &Found) -> Judgement {
        let expires_at = match self.state {
            State::Reserved { expires_at } => Some(expires_at),
            _ => None,
        };
        operation.judge(&self.slot, expires_at, found)
    }

    /// The slot at `version`, from 1.
    pub fn slot_at(&self, version: u32) -> &Slot {
        let later = usize::try_from(version).unwrap_or(usize::MAX);
        self.history.iter().skip(later).find_map(|entry| entry.moved_from.as_ref()).unwrap_or(&self.slot)
    }

    /// Whether the request that made it is still at work on its first attempt.
    pub fn is_within_its_request(&self) -> bool {
        self.operation.as_ref().is_some_and(|operation| {
            operation.number == 1
                && operation.attempts == 1
                // A first attempt in the background follows on a circuit that was open, which is an error.
                && operation.last_error.is_none()
                && matches!(operation.phase, Phase::InFlight { .. })
        })
    }
}
