//! Wires the function: configuration, clients, run.

use std::sync::Arc;

use holdfast_app::deliveries::Deliveries;
use holdfast_app::feed::FeedAppender;
use holdfast_aws::{AwsClients, DynamoDeliveryStore, SqsDeliveries};
use holdfast_lambda::{RunError, SystemClock, SystemEntropy, batch, config, stores, telemetry};
use holdfast_provider::{SafeClient, WebhookClient};
use webhook::{Service, queue_name};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RunError> {
    telemetry::init()?;
    let aws = AwsClients::new(&config::aws()?);
    let queues = config::DeliveryQueues::from_env()?;
    let slow_queue_name = queue_name(&queues.slow_delivery_queue_url);
    let client = SafeClient::new(config::AllowedPrivateHosts::from_env()?.0.into_iter().collect())?;
    let (clock, entropy) = (SystemClock, SystemEntropy);
    let feed = FeedAppender::new(stores::feed(&aws)?, clock);
    let deliveries = Deliveries {
        endpoints: stores::settings(&aws)?,
        store: DynamoDeliveryStore::new(
            aws.dynamodb,
            config::DeliveryTable::from_env()?.0,
            Arc::new(entropy),
        ),
        queue: SqsDeliveries::new(aws.sqs, queues.delivery_queue_url, queues.slow_delivery_queue_url),
        sender: WebhookClient::new(client, clock),
        clock,
        entropy,
    };
    let service = Arc::new(Service { feed, deliveries, slow_queue_name });
    batch::run_queue(move |message, _| Arc::clone(&service).on_message(message)).await
}
