//! The single requests of OCTO about one booking, within one deadline. In which order they are made, and
//! why, is in [`super`].

use bytes::Bytes;
use holdfast_app::ports::Clock;
use holdfast_app::settings::ProviderSettings;
use holdfast_domain::{AttemptError, AttemptOutcome, Booking, Mode, Timestamp};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answers::{Known, Reply, available};
use super::wire::{
    AvailabilityBody, BookingAnswer, CancelBody, ConfirmBody, ExtendBody, MoveBody, Order, ReserveBody, uuid,
};
use crate::calling::{Call, Caller, Deadline, alarm_locked_out, is_locked_out, json};
use crate::outcomes::{cancel_reason, hold_end};
use crate::request::Unsendable;
use crate::safe_client::Answer;

/// Which extensions of OCTO an answer shall have: none. The header must be there all the same.
const CAPABILITIES: HeaderName = HeaderName::from_static("octo-capabilities");

/// Marks what is booked with a supplier's live credentials as a test, where the supplier knows of it.
const ENVIRONMENT: HeaderName = HeaderName::from_static("octo-env");

/// A talk with a supplier about one booking.
pub(super) struct Talk<'a, C> {
    caller: &'a Caller<C>,
    pub(super) provider: &'a ProviderSettings,
    pub(super) booking: &'a Booking,
    deadline: Deadline,
    /// Begins the identifiers of the talk's signed messages.
    message_id: String,
    /// Requests made so far.
    requests: u32,
    /// What the last answer asks for, in milliseconds.
    pub(super) retry_after_ms: Option<u64>,
}

impl<'a, C: Clock> Talk<'a, C> {
    pub(super) fn new(
        caller: &'a Caller<C>,
        provider: &'a ProviderSettings,
        booking: &'a Booking,
        message_id: String,
        limit_ms: u64,
    ) -> Self {
        let deadline = Deadline::within(limit_ms);
        Self { caller, provider, booking, deadline, message_id, requests: 0, retry_after_ms: None }
    }

    /// When the booking's reservation ends if the supplier does not say.
    pub(super) fn hold_end(&self) -> Timestamp {
        hold_end(self.booking, self.caller.now())
    }

    /// Which availability the order can be booked by. The request changes nothing, so that everything which
    /// is neither a yes nor a no counts as not sent.
    pub(super) async fn find_availability(&mut self, order: &Order<'_>) -> Result<String, AttemptOutcome> {
        let body = json(&AvailabilityBody::new(order));
        match self.ask(Method::POST, "/availability".to_owned(), body).await {
            Reply::Yes(offered) => available(order, offered),
            Reply::No(no) => Err(AttemptOutcome::Declined(no.rejection(self.provider))),
            Reply::Later => Err(AttemptOutcome::NotSent(AttemptError::UnusableAnswer)),
            Reply::NotSent(error) | Reply::Unknown(error) => Err(AttemptOutcome::NotSent(error)),
        }
    }

    pub(super) async fn reserve(&mut self, order: &Order<'_>, availability_id: &str) -> Reply<BookingAnswer> {
        let body =
            self.uuid().and_then(|uuid| json(&ReserveBody::new(&uuid, order, self.booking, availability_id)));
        self.ask(Method::POST, "/bookings".to_owned(), body).await
    }

    pub(super) async fn confirm(&mut self) -> Reply<BookingAnswer> {
        self.act("/confirm", &ConfirmBody::new(self.booking)).await
    }

    pub(super) async fn extend(&mut self, expires_at: Timestamp) -> Reply<BookingAnswer> {
        self.act("/extend", &ExtendBody::new(self.caller.now(), expires_at)).await
    }

    pub(super) async fn cancel(&mut self) -> Reply<BookingAnswer> {
        self.act("/cancel", &CancelBody { reason: cancel_reason(self.booking) }).await
    }

    pub(super) async fn reschedule(
        &mut self,
        order: &Order<'_>,
        availability_id: &str,
    ) -> Reply<BookingAnswer> {
        let body = json(&MoveBody::new(order, availability_id));
        self.about(Method::PATCH, "", body).await
    }

    /// What the supplier knows of the booking.
    pub(super) async fn get(&mut self) -> Known {
        self.about(Method::GET, "", Ok(Bytes::new())).await.into()
    }

    async fn act(&mut self, action: &str, body: &impl Serialize) -> Reply<BookingAnswer> {
        let body = json(body);
        self.about(Method::POST, action, body).await
    }

    async fn about(
        &mut self,
        method: Method,
        action: &str,
        body: Result<Bytes, Unsendable>,
    ) -> Reply<BookingAnswer> {
        match self.uuid() {
            Ok(uuid) => self.ask(method, format!("/bookings/{uuid}{action}"), body).await,
            Err(error) => self.ask(method, String::new(), Err(error)).await,
        }
    }

    fn uuid(&self) -> Result<String, Unsendable> {
        uuid(&self.booking.id).ok_or(Unsendable::Body)
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: String,
        body: Result<Bytes, Unsendable>,
    ) -> Reply<T> {
        self.requests = self.requests.saturating_add(1);
        self.retry_after_ms = None;
        let call = Call {
            provider: self.provider,
            method,
            path,
            idempotency_key: None,
            headers: headers(self.provider),
            message_id: format!("{}:{}", self.message_id, self.requests),
            body,
        };
        let answer = match self.caller.send(call, self.deadline).await {
            Ok(answer) => answer,
            Err(failure) => return failure.into(),
        };
        self.retry_after_ms = self.caller.retry_after_ms(&answer);
        read_reply(self.provider, &answer)
    }
}

/// What OCTO adds to the headers that every call has.
pub(super) fn headers(provider: &ProviderSettings) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(CAPABILITIES, HeaderValue::from_static(""))]);
    if provider.mode == Mode::Test {
        headers.insert(ENVIRONMENT, HeaderValue::from_static("test"));
    }
    headers
}

/// What an answer says. Suppliers that do not let Holdfast in say so by more than the status.
pub(super) fn read_reply<T: DeserializeOwned>(provider: &ProviderSettings, answer: &Answer) -> Reply<T> {
    let status = answer.head.status;
    let reply = Reply::read(status, &answer.body);
    if matches!(reply, Reply::Unknown(AttemptError::Misconfigured(_))) && !is_locked_out(status) {
        alarm_locked_out(provider, status);
    }
    reply
}
