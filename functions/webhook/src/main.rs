//! Wires the function: configuration, clients, run.

use std::sync::Arc;

use holdfast_app::deliveries::Deliveries;
use holdfast_app::feed::FeedAppender;
use holdfast_aws::{AwsClients, EventBridgeBus, SqsDeliveries};
use holdfast_lambda::{RunError, SystemClock, SystemEntropy, batch, config, stores, telemetry};
use holdfast_provider::{SafeClient, WebhookClient};
use webhook::{Service, queue_name};

#[global_allocator]
static ALLOCATOR: holdfast_lambda::Allocator = holdfast_lambda::Allocator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RunError> {
    telemetry::init()?;
    let aws = AwsClients::new(&config::aws()?)?;
    let queues = config::DeliveryQueues::from_env()?;
    let slow_queue_name = queue_name(&queues.slow_delivery_queue_url);
    let client = SafeClient::new(config::AllowedPrivateHosts::from_env()?.0.into_iter().collect())?;
    let (clock, entropy) = (SystemClock, SystemEntropy);
    let feed = FeedAppender::new(stores::feed(&aws)?, clock);
    let deliveries = Deliveries {
        endpoints: stores::settings(&aws)?,
        store: stores::deliveries(&aws)?,
        queue: SqsDeliveries::new(aws.sqs(), queues.delivery_queue_url, queues.slow_delivery_queue_url),
        sender: WebhookClient::new(client, clock),
        bus: EventBridgeBus::new(aws.eventbridge(), config::EventBusName::from_env()?.0),
        clock,
        entropy,
    };
    let service = Arc::new(Service { feed, deliveries, slow_queue_name });
    batch::run_queue(move |message, _| Arc::clone(&service).on_message(message)).await
}
