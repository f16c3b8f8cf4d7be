//! Wires the retry function.

use std::sync::Arc;

use holdfast_app::bookings::{Breakers, Engine};
use holdfast_aws::{AwsClients, SqsTimers};
use holdfast_lambda::config::{self, AllowedPrivateHosts, TimerQueueUrl};
use holdfast_lambda::{RunError, SystemClock, SystemEntropy, batch, stores, telemetry};
use holdfast_provider::{AllowedHosts, ProtocolGateway, SafeClient};
use retry::Service;

#[global_allocator]
static ALLOCATOR: holdfast_lambda::Allocator = holdfast_lambda::Allocator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RunError> {
    telemetry::init()?;
    let aws = AwsClients::new(&config::aws()?)?;
    let (store, settings) = (stores::bookings(&aws)?, stores::settings(&aws)?);
    let client = SafeClient::new(AllowedHosts::from_iter(AllowedPrivateHosts::from_env()?.0))?;
    let gateway = ProtocolGateway::new(client, SystemClock);
    let engine = Engine::new(store, gateway, Breakers::new(settings.clone()), SystemClock, SystemEntropy);
    let timers = SqsTimers::new(aws.sqs(), TimerQueueUrl::from_env()?.0);
    let service = Arc::new(Service { engine, settings, timers, clock: SystemClock });
    let sweeper = Arc::clone(&service);
    let on_message = move |message: batch::QueueMessage, _| {
        let service = Arc::clone(&service);
        async move { service.on_message(&message.body).await }
    };
    let on_schedule = move |_, _| {
        let service = Arc::clone(&sweeper);
        async move { service.sweep().await }
    };
    batch::run_queue_and_schedule(on_message, on_schedule).await
}
