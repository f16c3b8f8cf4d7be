//! Wires the retry function.

use std::sync::Arc;

use holdfast_app::bookings::{Breakers, Engine};
use holdfast_aws::{AwsClients, DynamoBookingStore, DynamoSettings, SqsTimers};
use holdfast_lambda::config::{
    self, AllowedPrivateHosts, BookingRetention, BookingTable, ConfigTable, TimerQueueUrl,
};
use holdfast_lambda::{RunError, SystemClock, SystemEntropy, batch, telemetry};
use holdfast_provider::{AllowedHosts, NativeGateway, SafeClient};
use retry::Service;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RunError> {
    telemetry::init()?;
    let aws = AwsClients::new(&config::aws()?);
    let bookings = BookingTable::from_env()?.0;
    let retention_days = BookingRetention::from_env()?.days;
    let store =
        DynamoBookingStore::new(aws.dynamodb.clone(), bookings, retention_days, Arc::new(SystemEntropy));
    let settings = DynamoSettings::new(aws.dynamodb, ConfigTable::from_env()?.0, Arc::new(SystemEntropy));
    let client = SafeClient::new(AllowedHosts::from_iter(AllowedPrivateHosts::from_env()?.0))?;
    let gateway = NativeGateway::new(client, SystemClock);
    let engine = Engine::new(store, gateway, Breakers::new(settings.clone()), SystemClock, SystemEntropy);
    let timers = SqsTimers::new(aws.sqs, TimerQueueUrl::from_env()?.0);
    let service = Arc::new(Service { engine, settings, timers, clock: SystemClock });
    let sweeper = Arc::clone(&service);
    let on_message = move |message: batch::QueueMessage, _| {
        let service = Arc::clone(&service);
        async move { service.on_message(&message.body).await }
    };
    let on_schedule = move |_| {
        let service = Arc::clone(&sweeper);
        async move { service.sweep().await }
    };
    batch::run_queue_and_schedule(on_message, on_schedule).await
}
