//! Adapters to the outside: the providers' protocols, the posting of webhooks, and the HTTP client that
//! reaches nothing that it must not.
//!
//! Nothing here stores, retries or decides: each call is made once, within its limit, and its outcome is
//! reported. What a customer said goes into a request's body and nowhere else.

mod calling;
mod docplanner;
mod gateway;
mod mailbox;
mod native;
mod octo;
mod open_slots;
mod outcomes;
mod request;
mod retry_after;
mod safe_client;
mod signing;
mod targets;
#[cfg(test)]
mod test_util;
mod text;
mod webhook;

pub use gateway::ProtocolGateway;
pub use mailbox::notification_body;
pub use retry_after::MAX_RETRY_AFTER_MS;
pub use safe_client::{ClientError, MAX_ANSWER_BYTES, SafeClient};
pub use signing::SigningKey;
pub use targets::AllowedHosts;
pub use webhook::WebhookClient;
