//! Wires the function: configuration, clients, run.

use std::sync::Arc;

use holdfast_app::deliveries::Deliveries;
use holdfast_aws::{AwsClients, DynamoDeliveryStore, DynamoSettings, SqsDeliveries};
use holdfast_lambda::{RunError, SystemClock, SystemEntropy, batch, config, telemetry};
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
    let (db, random) = (aws.dynamodb, Arc::new(entropy));
    let deliveries = Deliveries {
        endpoints: DynamoSettings::new(db.clone(), config::ConfigTable::from_env()?.0, random.clone()),
        store: DynamoDeliveryStore::new(db, config::DeliveryTable::from_env()?.0, random),
        queue: SqsDeliveries::new(aws.sqs, queues.delivery_queue_url, queues.slow_delivery_queue_url),
        sender: WebhookClient::new(client, clock),
        clock,
        entropy,
    };
    let service = Arc::new(Service { deliveries, slow_queue_name });
    batch::run_queue(move |message, _| Arc::clone(&service).on_message(message)).await
}
