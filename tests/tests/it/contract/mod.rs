//! The contract suite: what every port promises, checked on every implementation alike, and what the
//! adapters to Amazon's services promise beyond.
//!
//! DynamoDB is an embedded server of its own for every test, on a port that the system chose. The answers
//! of SQS and EventBridge are canned.
//!
//! What use cases and the simulation rely on, and where it is held against both kinds of port (`both`), or against
//! the adapters alone, because memory has nothing of the kind (`adapter`):
//!
//! | condition or fault | checked by |
//! |---|---|
//! | a claim or replacement meets its like, an older revision, or nothing | both: `bookings`, `deliveries`, `endpoints`, `booking_keys` |
//! | slots go with the booking's write; a conflict is told before a slot that is taken | both: `slots` |
//! | of many at once one wins | both: `bookings`, `slots`, `breakers`, `limits`, `endpoints`, `mailbox`, `feed` |
//! | the same calls have the same results and leave the same behind | both: `troubled` |
//! | a call that fails before it is done did nothing, one that fails after is done, and its repetition tells the same | both: `troubled`, of every write |
//! | a write whose answer is lost and which the SDK repeats recognises itself (nonce, token) | adapter: `troubled`, of every write; memory never repeats |
//! | a batch fails entry by entry, or as a whole | both: `queues` (`one_of_three_fails`); more kinds of answers, adapter: `queues` |
//! | throttling, server errors and denials, of every call | adapter: `busy`; in memory it is `FailBefore` |
//! | a transaction is cancelled, for each reason; it is under way already | adapter: `busy`, `dynamodb_slots`, and beside the code (`booking::transaction`) |
//! | an index is behind: it names what is gone | adapter: `dynamodb_slots` (lists), `busy` (deliveries); its reads are hints |
//! | an index is sparse, partitions take turns | both: `bookings` (`overdue_…`, `what_an_outage_of_days_left_behind_…`) |
//! | a batch read comes in parts, or never completely | adapter: `dynamodb_settings`, `dynamodb_slots`, `busy` |
//! | messages are delayed, for 15 minutes at the most | memory: `queues`; adapter: `queues`, by `DelaySeconds` |
//! | delays, stops and the order of calls | memory: `faults`; on real processes: `end_to_end::killed` |
//! | a database dies in the midst of a write | adapter: `killed_database` |

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

pub(crate) mod audit;
pub(crate) mod availability;
mod booking_keys;
mod bookings;
mod breakers;
mod busy;
pub(crate) mod canned;
mod configuration;
mod dead_letters;
pub(crate) mod deliveries;
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
pub(crate) mod item_size;
mod killed_database;
mod limits;
mod lists;
mod locations;
pub(crate) mod lossy_proxy;
mod mailbox;
pub(crate) mod metering_proxy;
pub(crate) mod outside;
mod queues;
mod repetitions;
mod requests;
mod scans;
mod scenarios;
mod slots;
mod troubled;
