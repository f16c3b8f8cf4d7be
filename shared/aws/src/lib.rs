//! Adapters of the ports to Amazon's services: DynamoDB tables and their items, SQS queues, the
//! EventBridge bus.
//!
//! Nothing here decides anything about bookings, and nothing here reads the environment: configuration
//! is handed in. What Amazon reports becomes a [`StoreError`](holdfast_app::ports::StoreError) in one
//! place, without the service's own text, which may repeat what was written.
//!
//! A call of the SDK is a future of several kilobytes. It goes onto the heap where it is made (`Box::pin`), so that
//! the futures of whoever calls, which contain it and one another, stay small: they are moved, and moving them once
//! took a tenth of a booking's time.

mod availability;
mod batch;
mod booking;
mod bus;
mod calls;
mod clients;
mod dead_letters;
mod delivery;
mod digest;
mod direct;
mod error;
mod feed;
mod http;
mod item;
mod json;
mod mailbox;
mod queues;
mod reading;
mod settings;
mod signing;
mod trace;
mod transact;
mod user_agent;

pub mod codec {
    //! Bookings as items, for whoever reads the table's stream.

    pub use crate::booking::{CodecError, ITEM_FORMAT, UnreadableImage, stored_from_image};
}

pub use availability::DynamoAvailability;
pub use booking::{DynamoBookingStore, OVERDUE_INDEX, REFERENCE_INDEX, TENANT_INDEX};
pub use bus::{
    EVENT_SOURCE, EventBridgeBus, booking_of_resources, endpoint_of_resources, tenant_of_resources,
};
pub use calls::CallLog;
pub use clients::{AwsClients, AwsConfig, AwsCredentials, AwsHooks, ClientError};
pub use dead_letters::SqsDeadLetters;
pub use delivery::{CREATED_INDEX, DynamoDeliveryStore};
pub use direct::DynamoDb;
pub use feed::DynamoFeed;
pub use mailbox::DynamoMailbox;
pub use queues::{SqsDeliveries, SqsParking, SqsRefreshes, SqsReplays, SqsTimers};
pub use settings::DynamoSettings;
pub use trace::within_trace;
