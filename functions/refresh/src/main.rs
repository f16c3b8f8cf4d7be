//! Wires the refresh function.

use std::sync::Arc;

use holdfast_app::availability::Availability;
use holdfast_app::settings_cache::SettingsCache;
use holdfast_aws::{AwsClients, SqsRefreshes};
use holdfast_lambda::config::{self, AllowedPrivateHosts, RefreshQueueUrl};
use holdfast_lambda::{RunError, SystemClock, SystemEntropy, batch, stores, telemetry};
use holdfast_provider::{AllowedHosts, ProtocolGateway, SafeClient};
use refresh::Service;

#[global_allocator]
static ALLOCATOR: holdfast_lambda::Allocator = holdfast_lambda::Allocator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RunError> {
    telemetry::init()?;
    let aws = AwsClients::new(&config::aws()?)?;
    let (store, configuration) = (stores::availability(&aws)?, stores::settings(&aws)?);
    let client = SafeClient::new(AllowedHosts::from_iter(AllowedPrivateHosts::from_env()?.0))?;
    let gateway = ProtocolGateway::new(client, SystemClock);
    let availability = Availability::new(store, gateway, configuration.clone(), SystemClock, SystemEntropy);
    let refreshes = SqsRefreshes::new(aws.sqs(), RefreshQueueUrl::from_env()?.0);
    let settings = SettingsCache::new(configuration.clone());
    let service = Arc::new(Service { availability, configuration, settings, refreshes, clock: SystemClock });
    let planner = Arc::clone(&service);
    let on_message = move |message: batch::QueueMessage, _| {
        let service = Arc::clone(&service);
        async move { service.on_message(&message.body).await }
    };
    let on_schedule = move |time, _| {
        let service = Arc::clone(&planner);
        async move { service.plan(time).await }
    };
    batch::run_queue_and_schedule(on_message, on_schedule).await
}
