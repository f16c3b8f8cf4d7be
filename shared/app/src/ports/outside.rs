//! The outside: providers, and the endpoints of consumers.

use std::future::Future;

use holdfast_domain::{
    AttemptError, AttemptOutcome, Booking, CompensationOutcome, LookUpOutcome, Notification,
};
use secrecy::SecretString;

use crate::settings::ProviderSettings;

/// One attempt of a booking's operation.
#[derive(Clone, Copy, Debug)]
pub struct ProviderCall<'a> {
    /// Whom to call.
    pub provider: &'a ProviderSettings,
    /// The booking, its operation in flight.
    pub booking: &'a Booking,
    /// The operation's number.
    pub operation_number: u32,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How long it may take altogether, in milliseconds, connecting included.
    pub limit_ms: u64,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptReport {
    /// The outcome.
    pub outcome: AttemptOutcome,
    /// How long the provider asks to be left alone, in milliseconds (`Retry-After`).
    pub retry_after_ms: Option<u64>,
}

/// One compensating cancel.
#[derive(Clone, Copy, Debug)]
pub struct CompensationCall<'a> {
    /// Whom to call.
    pub provider: &'a ProviderSettings,
    /// The booking that has to be undone.
    pub booking: &'a Booking,
    /// The compensation's operation number.
    pub operation_number: u32,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How long it may take altogether, in milliseconds.
    pub limit_ms: u64,
}

/// What came of a compensating cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompensationReport {
    /// The outcome.
    pub outcome: CompensationOutcome,
    /// How long the provider asks to be left alone, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

/// One attempt to tell a provider of a booking.
#[derive(Clone, Copy, Debug)]
pub struct NotificationCall<'a> {
    /// Whom to tell.
    pub provider: &'a ProviderSettings,
    /// The booking, with whom it is for. Its slot may be a later one than the notification's.
    pub booking: &'a Booking,
    /// What to say.
    pub notification: &'a Notification,
    /// How long it may take altogether, in milliseconds.
    pub limit_ms: u64,
}

/// What came of telling a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotificationReport {
    /// Why it failed; `None` if the provider was told, which only a 2xx says.
    pub error: Option<AttemptError>,
    /// How long the provider asks to be left alone, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

/// Speaks a provider's protocol.
///
/// An implementation MUST NOT repeat a request by itself once a byte of it was written, MUST end every
/// call within its limit, and MUST report [`AttemptOutcome::NotSent`] only if no byte was written, or if what
/// was written cannot have had an effect (a gate); when in doubt the outcome is
/// [`AttemptOutcome::Unknown`]. It follows no redirect and reaches no address that the deployment does not
/// allow.
pub trait ProviderGateway: Send + Sync {
    /// Makes one attempt.
    fn attempt(&self, call: ProviderCall<'_>) -> impl Future<Output = AttemptReport> + Send;

    /// Asks what the provider knows of a booking, within `limit_ms` milliseconds.
    fn look_up(
        &self,
        provider: &ProviderSettings,
        booking: &Booking,
        limit_ms: u64,
    ) -> impl Future<Output = LookUpOutcome> + Send;

    /// Asks the provider to cancel a booking that has ended here.
    fn compensate(&self, call: CompensationCall<'_>) -> impl Future<Output = CompensationReport> + Send;

    /// Tells the provider of a booking that is confirmed without it.
    fn notify(&self, call: NotificationCall<'_>) -> impl Future<Output = NotificationReport> + Send;
}

/// One delivery to be posted.
#[derive(Clone, Copy, Debug)]
pub struct WebhookPost<'a> {
    /// Where to.
    pub url: &'a str,
    /// The endpoint's own headers.
    pub headers: &'a std::collections::BTreeMap<String, SecretString>,
    /// Each of them signs it, the newest first.
    pub secrets: &'a [&'a SecretString],
    /// The `webhook-id`.
    pub message_id: &'a str,
    /// The `webhook-timestamp`, seconds since the Unix epoch.
    pub timestamp_unix_s: i64,
    /// The body.
    pub body: &'a str,
    /// How long it may take altogether, in milliseconds.
    pub limit_ms: u64,
}

/// What came of posting a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostOutcome {
    /// The receiver answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, in milliseconds.
        retry_after_ms: Option<u64>,
        /// The beginning of the body, at most 1 KiB, as text that can be shown; empty if there is none.
        body: String,
    },
    /// No answer within the limit.
    TimedOut,
    /// No connection, or it broke.
    ConnectionFailed,
    /// The target is an address that the deployment does not allow.
    TargetRefused,
}

/// Posts deliveries, signed as Standard Webhooks says. Follows no redirect, and reads no more of an answer
/// than it reports.
pub trait WebhookSender: Send + Sync {
    /// Posts one.
    fn post(&self, post: WebhookPost<'_>) -> impl Future<Output = PostOutcome> + Send;
}
