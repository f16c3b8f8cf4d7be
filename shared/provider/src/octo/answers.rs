//! What the answers of OCTO mean. Pure: an answer in, an outcome out.

use holdfast_app::bookings::{MAX_ID_CHARS, MAX_PROVIDER_CODE_CHARS, MAX_PROVIDER_MESSAGE_CHARS};
use holdfast_app::settings::ProviderSettings;
use holdfast_domain::{
    Acknowledgement, AttemptError, AttemptOutcome, Booking, Change, Found, LookUpOutcome, Rejection, Slot,
    State, Timestamp,
};
use serde::de::DeserializeOwned;

use super::wire::{Availability, BookingAnswer, Order, Refusal, Status, option_id};
use crate::calling::{error_of, is_never_definite, transient};
use crate::outcomes::{own_rejection, rejection};
use crate::safe_client::Failure;
use crate::text::clean;

/// The code of the no to a slot that the supplier does not have, or not any more.
pub(super) const SLOT_UNAVAILABLE: &str = "slot_unavailable";

/// The supplier's code for a `uuid` that it does not know, that is used already, or whose reservation has
/// run out: what it means is only told by asking for the booking.
pub(super) const INVALID_BOOKING_UUID: &str = "INVALID_BOOKING_UUID";

/// The supplier's code for an `availabilityId` that it does not know, or does not know any more.
pub(super) const INVALID_AVAILABILITY_ID: &str = "INVALID_AVAILABILITY_ID";

/// The supplier's codes that say that Holdfast is not let in. They come with status 400 too.
const LOCKED_OUT: [&str; 2] = ["UNAUTHORIZED", "FORBIDDEN"];

/// The supplier's code for a fault of its own. It comes with status 400 too.
const INTERNAL_SERVER_ERROR: &str = "INTERNAL_SERVER_ERROR";

/// The supplier's codes for an order that it cannot make sense of, so that no booking can have come of it.
const SENSELESS: [&str; 3] = ["INVALID_PRODUCT_ID", "INVALID_OPTION_ID", "INVALID_UNIT_ID"];

/// What came of one request.
#[derive(Clone, Debug)]
pub(super) enum Reply<T> {
    /// A 200 or 201 with what was asked for.
    Yes(T),
    /// The supplier took it and has not decided.
    Later,
    /// A definite no.
    No(No),
    /// No byte of it was written.
    NotSent(AttemptError),
    /// It was or may have been sent, and there is no usable answer.
    Unknown(AttemptError),
}

/// A definite no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct No {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: Option<String>,
}

impl No {
    pub(super) fn rejection(self, provider: &ProviderSettings) -> Rejection {
        rejection(provider, self.code, self.message)
    }

    /// Whether the order makes no sense to the supplier, so that it surely booked nothing.
    pub(super) fn is_senseless(&self) -> bool {
        SENSELESS.contains(&self.code.as_str())
    }
}

/// What the supplier knows of a booking.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// This.
    Booking(BookingAnswer),
    /// Nothing.
    Nothing,
    /// It could not be asked.
    Failed(AttemptError),
}

impl<T: DeserializeOwned> Reply<T> {
    pub(super) fn read(status: u16, body: &[u8]) -> Self {
        match status {
            // The parser's words may quote the body, so they are dropped.
            200 | 201 => {
                serde_json::from_slice(body).map_or(Self::Unknown(AttemptError::UnusableAnswer), Self::Yes)
            }
            202 => Self::Later,
            _ => Self::failed(status, body),
        }
    }

    fn failed(status: u16, body: &[u8]) -> Self {
        // A refusal that is not in the protocol's form comes from something between here and the supplier.
        let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
        let code = refusal.error.as_deref().and_then(|code| clean(code, MAX_PROVIDER_CODE_CHARS));
        match code {
            Some(code) if (400..500).contains(&status) && LOCKED_OUT.contains(&code.as_str()) => {
                Self::Unknown(AttemptError::Misconfigured(status))
            }
            Some(code) if !is_never_definite(status) && code != INTERNAL_SERVER_ERROR => {
                let message = refusal.error_message.as_deref();
                let message = message.and_then(|text| clean(text, MAX_PROVIDER_MESSAGE_CHARS));
                Self::No(No { status, code, message })
            }
            Some(_) | None => Self::Unknown(transient(status)),
        }
    }
}

impl<T> From<Failure> for Reply<T> {
    fn from(failure: Failure) -> Self {
        let error = error_of(failure);
        if failure.may_be_sent { Self::Unknown(error) } else { Self::NotSent(error) }
    }
}

impl From<Reply<BookingAnswer>> for Known {
    fn from(reply: Reply<BookingAnswer>) -> Self {
        match reply {
            Reply::Yes(answer) => Self::Booking(answer),
            Reply::No(no) if no.code == INVALID_BOOKING_UUID || no.status == 404 => Self::Nothing,
            Reply::Unknown(AttemptError::HttpStatus(404)) => Self::Nothing,
            Reply::No(no) => Self::Failed(AttemptError::HttpStatus(no.status)),
            Reply::Later => Self::Failed(AttemptError::UnusableAnswer),
            Reply::NotSent(error) | Reply::Unknown(error) => Self::Failed(error),
        }
    }
}

/// The availability that an order can be booked by.
pub(super) fn available(order: &Order<'_>, offered: Vec<Availability>) -> Result<String, AttemptOutcome> {
    let mut unreadable = false;
    for availability in offered {
        match Timestamp::parse_rfc3339(&availability.local_date_time_start) {
            Ok(start) if start == order.start && availability.available => return Ok(availability.id),
            Ok(_) => {}
            Err(_) => unreadable = true,
        }
    }
    Err(if unreadable {
        // What could not be read may have been it.
        AttemptOutcome::NotSent(AttemptError::UnusableAnswer)
    } else {
        AttemptOutcome::Declined(own_rejection(SLOT_UNAVAILABLE, "The provider does not offer this slot."))
    })
}

impl BookingAnswer {
    /// Whether the supplier will not bring the booking back.
    pub(super) fn is_ended(&self) -> bool {
        match self.status {
            Status::Rejected | Status::Cancelled | Status::Expired => true,
            Status::OnHold | Status::Pending | Status::Confirmed | Status::Redeemed => false,
        }
    }

    /// Whether it is what was ordered. What the answer does not tell counts as right, its start excepted.
    pub(super) fn is_at(&self, order: &Order<'_>) -> bool {
        let same = |told: Option<&str>, ordered: &str| told.is_none_or(|told| told == ordered);
        self.start() == Some(order.start)
            && same(self.product_id.as_deref(), order.product_id)
            && same(self.option_id.as_deref(), order.option_id)
    }

    fn start(&self) -> Option<Timestamp> {
        let text = self.availability.as_ref()?.local_date_time_start.as_deref()?;
        Timestamp::parse_rfc3339(text).ok()
    }

    fn end(&self) -> Option<Timestamp> {
        let text = self.availability.as_ref()?.local_date_time_end.as_deref()?;
        Timestamp::parse_rfc3339(text).ok()
    }

    fn yes(&self, reserved_until: Option<Timestamp>) -> Acknowledgement {
        let reference = self.supplier_reference.as_deref().or(self.id.as_deref());
        let provider_reference = reference.and_then(|reference| clean(reference, MAX_ID_CHARS));
        Acknowledgement { provider_reference, reserved_until }
    }

    /// What it says of an attempt to bring it about. `hold_end` is when a reservation ends whose answer does
    /// not say; `None` if a reservation is no answer.
    pub(super) fn outcome(&self, provider: &ProviderSettings, hold_end: Option<Timestamp>) -> AttemptOutcome {
        match (self.status, hold_end) {
            (Status::Confirmed | Status::Redeemed, _) => AttemptOutcome::Acknowledged(self.yes(None)),
            (Status::OnHold, Some(hold_end)) => {
                AttemptOutcome::Acknowledged(self.yes(Some(self.expires_at().unwrap_or(hold_end))))
            }
            (Status::OnHold, None) => AttemptOutcome::Unknown(AttemptError::UnusableAnswer),
            (Status::Pending, _) => AttemptOutcome::Unknown(AttemptError::AcceptedForLater),
            (Status::Rejected, _) => ended(provider, "REJECTED"),
            (Status::Cancelled, _) => ended(provider, "CANCELLED"),
            (Status::Expired, _) => ended(provider, "EXPIRED"),
        }
    }

    fn expires_at(&self) -> Option<Timestamp> {
        Timestamp::parse_rfc3339(self.utc_expires_at.as_deref()?).ok()
    }

    /// Where the booking is: a slot that Holdfast knows if it starts when that does, else what the supplier
    /// tells, at the booking's location, since OCTO has none.
    fn slot(&self, booking: &Booking) -> Option<Slot> {
        let start = self.start()?;
        let asked_for = booking.operation.as_ref().and_then(|operation| match &operation.change {
            Change::Reschedule(slot) => Some(slot),
            Change::Book | Change::Confirm | Change::Extend { .. } | Change::Cancel(_) => None,
        });
        let same = |told: Option<&str>, known: Option<&str>| told.is_none() || told == known;
        let mut known = asked_for.into_iter().chain([&booking.slot]);
        let found = known.find(|slot| {
            slot.start == start
                && same(self.product_id.as_deref(), slot.service_id.as_deref())
                && same(self.option_id.as_deref(), Some(option_id(slot)))
        });
        if let Some(slot) = found {
            return Some(slot.clone());
        }
        let told = |text: Option<&str>| text.and_then(|text| clean(text, MAX_ID_CHARS));
        let resource_id = match &booking.slot.resource_id {
            None if self.option_id.as_deref() == Some(option_id(&booking.slot)) => None,
            known => told(self.option_id.as_deref()).or_else(|| known.clone()),
        };
        Some(Slot {
            location_id: booking.slot.location_id.clone(),
            start,
            end: self.end().filter(|end| *end > start)?,
            resource_id,
            service_id: told(self.product_id.as_deref()).or_else(|| booking.slot.service_id.clone()),
        })
    }
}

fn ended(provider: &ProviderSettings, status: &str) -> AttemptOutcome {
    AttemptOutcome::Declined(rejection(provider, status.to_owned(), None))
}

/// What a look-up found. `hold_end` is when a reservation ends whose answer does not say.
pub(super) fn look_up(
    known: Known,
    booking: &Booking,
    hold_end: Timestamp,
    retry_after_ms: Option<u64>,
) -> LookUpOutcome {
    let answer = match known {
        Known::Booking(answer) => answer,
        Known::Nothing => return LookUpOutcome::NotFound,
        Known::Failed(error) => return LookUpOutcome::Unavailable { error, retry_after_ms },
    };
    let reserved_until = match answer.status {
        Status::Pending => return LookUpOutcome::StillPending,
        Status::Rejected | Status::Cancelled | Status::Expired => return LookUpOutcome::Ended,
        // Half of what was asked for is not it: the next attempt finds the reservation and confirms it.
        Status::OnHold if is_half_booked(booking) => return LookUpOutcome::NotFound,
        Status::OnHold => Some(answer.expires_at().unwrap_or(hold_end)),
        Status::Confirmed | Status::Redeemed => None,
    };
    let slot = answer.slot(booking);
    LookUpOutcome::Found(Found { acknowledgement: answer.yes(reserved_until), slot, operation: None })
}

/// Whether a reservation at the supplier is but a step towards what was asked for.
fn is_half_booked(booking: &Booking) -> bool {
    booking.state == State::Pending && !booking.request.hold
}
