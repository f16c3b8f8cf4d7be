//! The stores that several functions share, over the tables that the environment names.
//!
//! What only one function uses is wired in its own `main`.

use std::sync::Arc;

use holdfast_aws::{
    AwsClients, DynamoAvailability, DynamoBookingStore, DynamoDeliveryStore, DynamoFeed, DynamoMailbox,
    DynamoSettings,
};

use crate::config::{
    AvailabilityTable, BookingRetention, BookingTable, ConfigError, ConfigTable, DeliveryTable,
};
use crate::{SystemClock, SystemEntropy};

/// The store of bookings (`BOOKING_TABLE`, `BOOKING_RETENTION_DAYS`).
pub fn bookings(aws: &AwsClients) -> Result<DynamoBookingStore, ConfigError> {
    let table = BookingTable::from_env()?.0;
    let retention_days = BookingRetention::from_env()?.days;
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    Ok(DynamoBookingStore::new(aws.dynamodb.clone(), table, retention_days, clock, entropy))
}

/// Keys, consumers, providers, locations, breakers and webhook endpoints (`CONFIG_TABLE`).
pub fn settings(aws: &AwsClients) -> Result<DynamoSettings, ConfigError> {
    let table = ConfigTable::from_env()?.0;
    Ok(DynamoSettings::new(aws.dynamodb.clone(), table, Arc::new(SystemEntropy)))
}

/// The feeds of events (`DELIVERY_TABLE`).
pub fn feed(aws: &AwsClients) -> Result<DynamoFeed, ConfigError> {
    let table = DeliveryTable::from_env()?.0;
    Ok(DynamoFeed::new(aws.dynamodb.clone(), table, Arc::new(SystemEntropy)))
}

/// The mailboxes of providers that fetch their notifications (`DELIVERY_TABLE`).
pub fn mailbox(aws: &AwsClients) -> Result<DynamoMailbox, ConfigError> {
    let table = DeliveryTable::from_env()?.0;
    Ok(DynamoMailbox::new(aws.dynamodb.clone(), table, Arc::new(SystemEntropy)))
}

/// Webhook deliveries and the log of attempts (`DELIVERY_TABLE`).
pub fn deliveries(aws: &AwsClients) -> Result<DynamoDeliveryStore, ConfigError> {
    let table = DeliveryTable::from_env()?.0;
    Ok(DynamoDeliveryStore::new(aws.dynamodb.clone(), table, Arc::new(SystemEntropy)))
}

/// What is open at providers' locations, and the slots that changed hands there (`AVAILABILITY_TABLE`).
pub fn availability(aws: &AwsClients) -> Result<DynamoAvailability, ConfigError> {
    Ok(DynamoAvailability::new(aws.dynamodb.clone(), AvailabilityTable::from_env()?.0))
}
