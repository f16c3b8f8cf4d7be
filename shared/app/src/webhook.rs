//! Webhook endpoints and the deliveries to them, as values.

use std::collections::BTreeMap;

use holdfast_domain::{EventId, Tenant, Timestamp, WebhookEndpointId};
use secrecy::SecretString;

/// The most endpoints that a consumer may have.
pub const MAX_ENDPOINTS_PER_CONSUMER: usize = 50;

/// The delays before each attempt of a delivery unless the endpoint has its own, in seconds: at once,
/// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h.
pub const DEFAULT_RETRY_SCHEDULE_SECONDS: [u32; 8] = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];

/// Where a consumer wants to hear of events.
#[derive(Clone, Debug)]
pub struct WebhookEndpoint {
    /// Its identifier.
    pub id: WebhookEndpointId,
    /// Whose it is.
    pub tenant: Tenant,
    /// Where deliveries go.
    pub url: String,
    /// Which types of event; empty means all.
    pub event_types: Vec<String>,
    /// Headers that are sent with every delivery.
    pub headers: BTreeMap<String, SecretString>,
    /// The delays before each attempt, in seconds; never empty.
    pub retry_schedule_seconds: Vec<u32>,
    /// Whether anything is delivered.
    pub enabled: bool,
    /// The secret that signs deliveries, `whsec_…`.
    pub secret: SecretString,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when its deliveries go through the slow queue, because it let one time out.
    pub slow_until: Option<Timestamp>,
}

/// One event on its way to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// To which endpoint.
    pub endpoint_id: WebhookEndpointId,
    /// Whose endpoint it is.
    pub tenant: Tenant,
    /// Which event; it is also the `webhook-id`.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: String,
    /// The body, exactly as it is posted every time.
    pub body: String,
    /// When the event was taken up.
    pub created_at: Timestamp,
    /// Attempts begun so far.
    pub attempts: u32,
    /// Where it stands.
    pub state: DeliveryState,
    /// Why the last attempt failed: a short code, never text from outside.
    pub last_error: Option<String>,
    /// Counts the item's writes, from 1.
    pub rev: u64,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// Nobody is at work on it.
    Waiting {
        /// When the next attempt is due.
        next_attempt_at: Timestamp,
    },
    /// A worker holds the lease for an attempt.
    InFlight {
        /// The end of the lease.
        lease_until: Timestamp,
    },
    /// The receiver answered 2xx.
    Delivered {
        /// When.
        at: Timestamp,
    },
    /// The schedule is used up, or the endpoint is gone or disabled.
    Exhausted {
        /// When.
        at: Timestamp,
    },
}
