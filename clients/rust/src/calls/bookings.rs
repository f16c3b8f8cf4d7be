//! Bookings.

use reqwest::Method;
use reqwest::header::{HeaderValue, IF_NONE_MATCH};
use serde::Serialize;

use crate::client::{Answered, Client, answered, changed, json};
use crate::error::Error;
use crate::headers::ETag;
use crate::ids::BookingId;
use crate::keys::IdempotencyKey;
use crate::retry::Repeat;
use crate::types::{
    Booking, BookingFilter, BookingVersion, CancelBooking, ConfirmBooking, CreateBooking, Cursor,
    ExtendBooking, Page, PersonalBooking, RescheduleBooking,
};
use crate::wait::{PollSchedule, until_settled};

/// The longest that a read waits for a change, in seconds.
pub const MAX_WAIT_S: u64 = 25;

impl Client {
    /// Books. The answer is confirmed or reserved; or, with `async_confirmation`, perhaps pending: then
    /// [`wait_until_settled`](Self::wait_until_settled). A provider's no is [`Error::Refused`] with
    /// `booking_declined`.
    ///
    /// The key stands for this wish for 14 days, in this process and in every other: whoever sends it again gets the
    /// first answer, and nothing is booked twice.
    pub async fn create_booking(
        &self,
        key: &IdempotencyKey,
        wish: &CreateBooking,
    ) -> Result<Answered<Booking>, Error> {
        let request = self.keyed(&["v1", "bookings"], key, wish)?;
        self.call(Repeat::Safely, &request, answered).await
    }

    /// A booking as it is, with the customer's data.
    pub async fn get_booking(&self, id: &BookingId) -> Result<Answered<PersonalBooking>, Error> {
        let request = self.request(Method::GET, &["v1", "bookings", id.as_str()], &[])?;
        self.call(Repeat::Safely, &request, answered).await
    }

    /// A booking as soon as it is no more as `known` says; `None` if it still is after `wait_s` seconds, at most
    /// [`MAX_WAIT_S`]. Without `known` the answer comes as soon as it is not pending, or when the time is over.
    pub async fn get_changed_booking(
        &self,
        id: &BookingId,
        known: Option<&ETag>,
        wait_s: u64,
    ) -> Result<Option<Answered<PersonalBooking>>, Error> {
        let query = [("wait", Some(wait_s.min(MAX_WAIT_S).to_string()))];
        let mut request = self.request(Method::GET, &["v1", "bookings", id.as_str()], &query)?;
        if let Some(known) = known {
            request = request.with_header(IF_NONE_MATCH, tag(known)?);
        }
        self.call(Repeat::Safely, &request, changed).await
    }

    /// A booking once nothing of it is in flight, or as it is at the end of a schedule: see whether it
    /// [is settled](Booking::is_settled).
    pub async fn wait_until_settled(
        &self,
        id: &BookingId,
        schedule: &PollSchedule,
    ) -> Result<Answered<PersonalBooking>, Error> {
        let first = self.get_booking(id).await?;
        let look = |known: Option<ETag>, wait_s: Option<u64>| async move {
            match wait_s {
                Some(wait_s) => self.get_changed_booking(id, known.as_ref(), wait_s).await,
                None => self.get_booking(id).await.map(Some),
            }
        };
        until_settled(schedule, first, look).await
    }

    /// A page of your own bookings, the newest first.
    pub async fn list_bookings(
        &self,
        filter: &BookingFilter,
        cursor: Option<&Cursor>,
    ) -> Result<Page<Booking>, Error> {
        let query = [
            ("reference", filter.reference.clone()),
            ("status", filter.status.as_ref().map(ToString::to_string)),
            ("provider_id", filter.provider_id.clone()),
            ("created_after", filter.created_after.map(|time| time.to_string())),
            ("limit", filter.limit.map(|limit| limit.to_string())),
            ("cursor", cursor.map(|cursor| cursor.as_str().to_owned())),
        ];
        let request = self.request(Method::GET, &["v1", "bookings"], &query)?;
        self.call(Repeat::Safely, &request, json).await
    }

    /// All pages of your own bookings, one after the other.
    pub fn all_bookings(&self, filter: BookingFilter) -> BookingPages {
        BookingPages { client: self.clone(), filter, next: Next::First }
    }

    /// Every version of a booking, the first first.
    pub async fn get_booking_history(&self, id: &BookingId) -> Result<Vec<BookingVersion>, Error> {
        let request = self.request(Method::GET, &["v1", "bookings", id.as_str(), "events"], &[])?;
        let page: Page<BookingVersion> = self.call(Repeat::Safely, &request, json).await?;
        Ok(page.data)
    }

    /// Makes a booking of a hold.
    pub async fn confirm_booking(
        &self,
        id: &BookingId,
        key: &IdempotencyKey,
        wish: &ConfirmBooking,
    ) -> Result<Answered<Booking>, Error> {
        self.change(id, "confirm", key, wish).await
    }

    /// Lets a hold live longer. The provider may grant less: `expires_at` of the answer says how long.
    pub async fn extend_booking(
        &self,
        id: &BookingId,
        key: &IdempotencyKey,
        wish: &ExtendBooking,
    ) -> Result<Answered<Booking>, Error> {
        self.change(id, "extend", key, wish).await
    }

    /// Moves a booking. The old slot stays until the provider has taken the new one.
    pub async fn reschedule_booking(
        &self,
        id: &BookingId,
        key: &IdempotencyKey,
        wish: &RescheduleBooking,
    ) -> Result<Answered<Booking>, Error> {
        self.change(id, "reschedule", key, wish).await
    }

    /// Withdraws a booking, also while it is pending or another change is in flight. A provider may refuse; if it is
    /// silent, the cancel goes on in the background and is not given up.
    pub async fn cancel_booking(
        &self,
        id: &BookingId,
        key: &IdempotencyKey,
        wish: &CancelBooking,
    ) -> Result<Answered<Booking>, Error> {
        self.change(id, "cancel", key, wish).await
    }

    /// Erases the customer's data and the notes, for good; the rest stays.
    pub async fn erase_customer(&self, id: &BookingId) -> Result<(), Error> {
        let request = self.request(Method::DELETE, &["v1", "bookings", id.as_str(), "customer"], &[])?;
        // What is erased already is no error, so that it can be repeated; a booking that is not there is one.
        self.call(Repeat::Safely, &request, |_| Ok(())).await
    }

    async fn change(
        &self,
        id: &BookingId,
        operation: &str,
        key: &IdempotencyKey,
        wish: &impl Serialize,
    ) -> Result<Answered<Booking>, Error> {
        let request = self.keyed(&["v1", "bookings", id.as_str(), operation], key, wish)?;
        self.call(Repeat::Safely, &request, answered).await
    }
}

/// The value of `If-None-Match`.
pub(super) fn tag(known: &ETag) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(known.as_str()).map_err(|error| Error::Request(Box::new(error)))
}

/// The pages of a list, one after the other.
#[derive(Debug)]
pub struct BookingPages {
    client: Client,
    filter: BookingFilter,
    next: Next,
}

#[derive(Debug)]
enum Next {
    First,
    At(Cursor),
    Over,
}

impl BookingPages {
    /// The bookings of the next page, of which there may be none although more follow; `None` after the last. After
    /// an error the same page is asked for again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Booking>>, Error> {
        let cursor = match &self.next {
            Next::First => None,
            Next::At(cursor) => Some(cursor),
            Next::Over => return Ok(None),
        };
        let page = self.client.list_bookings(&self.filter, cursor).await?;
        self.next = page.next_cursor.map_or(Next::Over, Next::At);
        Ok(Some(page.data))
    }
}
