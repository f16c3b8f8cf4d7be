//! A client of Holdfast, for those who book.
//!
//! It books once, whatever happens to the connection: a call is repeated, byte for byte and under the same idempotency
//! key, until there is an answer that counts, and it ends in time.
//!
//! ```no_run
//! use holdfast_client::{ApiKey, Client, CreateBooking, Customer, IdempotencyKey, Limits, PollSchedule, SlotRequest};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let key_from_the_vault = String::new();
//! let client = Client::new("https://api.example.com", &ApiKey::new(key_from_the_vault)?)?;
//! let slot = SlotRequest::new("main-street", "2028-03-01T09:00:00Z".parse()?, "2028-03-01T09:30:00Z".parse()?);
//! let mut wish = CreateBooking::new("demo-clinic", slot, Customer::new("Ada Lovelace"));
//! wish.limits = Limits::in_background();
//!
//! // Something that is stored with what is booked, before it is booked.
//! let key = IdempotencyKey::new("order-1001")?;
//! let booking = client.create_booking(&key, &wish).await?;
//! let booking = client.wait_until_settled(&booking.id, &PollSchedule::default()).await?;
//! println!("{} is {}", booking.id, booking.status);
//! # Ok(())
//! # }
//! ```
//!
//! # What is repeated
//!
//! - A call without an answer, or with one that is garbage: the connection was lost, or its time was over.
//! - 429, 500, 503 and 409 `request_in_flight`, after `Retry-After` or a pause that doubles, with chance in it; and what
//!   a gateway before Holdfast answers with 408, 425, 429 or 5xx.
//! - Nothing else. 502 `provider_failed` and 504 `provider_timeout` are answers: the provider failed, and what was being
//!   booked is cancelled and undone. To try again is a new wish, with a new key. A first request's answer, repeated by
//!   Holdfast ([`Problem::replayed`]), is final too.
//!
//! What makes an endpoint, a secret, a trial or a replay has no idempotency key, and is repeated only when it was surely
//! not carried out: [`Error::Unanswered`]. [`Error::may_have_acted`] tells whether there is something to find out.
//!
//! # What is not known
//!
//! Statuses, types of events, problems and fields may be added. Words that this version does not know are kept as
//! `Other`; members are passed over.
//!
//! # What is not shown
//!
//! `Debug` and errors show no key, no secret and nothing of a customer.

mod calls;
mod client;
mod error;
mod headers;
mod http;
mod ids;
mod keys;
mod open_enum;
mod problem;
mod retry;
mod types;
mod wait;

pub use calls::{BookingPages, MAX_WAIT_S};
pub use client::{Answered, Client};
pub use error::{Error, Failure, NoAnswer};
pub use headers::{ETag, RateLimit};
pub use http::MAX_ANSWER_BYTES;
pub use ids::{BookingId, EndpointId, EventId, IdError, MAX_ID_CHARS};
pub use keys::{ApiKey, IdempotencyKey, KeyError, MAX_IDEMPOTENCY_KEY_CHARS};
pub use problem::{FieldError, Problem, ProblemCode, SideEffects};
pub use retry::RetryPolicy;
pub use types::*;
pub use wait::{PollSchedule, PollStage};
