//! The contract suite: what every port promises, checked on every implementation alike, and what the
//! adapters to Amazon's services promise beyond.
//!
//! DynamoDB is an embedded server of its own for every test, on a port that the system chose. The answers
//! of SQS and EventBridge are canned.

#![cfg(test)]

/// Runs each case on the ports in memory and on the adapters over an embedded DynamoDB.
macro_rules! on_both {
    ($memory:expr, $dynamodb:ident; $($case:ident),+ $(,)?) => {
        mod memory {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                super::$case(&$memory).await;
            })+
        }

        mod dynamodb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let database = crate::contract::embedded::Embedded::start().await;
                super::$case(&database.$dynamodb()).await;
            })+
        }
    };
}

pub(crate) mod availability;
mod booking_keys;
mod bookings;
mod breakers;
pub(crate) mod canned;
mod configuration;
mod deliveries;
mod dynamodb_availability;
mod dynamodb_bookings;
mod dynamodb_settings;
mod dynamodb_slots;
pub(crate) mod embedded;
mod endpoints;
mod faults;
mod feed;
pub(crate) mod fixtures;
mod golden;
mod limits;
mod lists;
mod locations;
pub(crate) mod lossy_proxy;
mod mailbox;
pub(crate) mod metering_proxy;
mod queues;
mod slots;
