//! Wires the function: configuration once, clients once, run.

use std::sync::Arc;

use holdfast_app::manage::TargetRules;
use holdfast_aws::{AwsClients, SqsReplays};
use holdfast_lambda::{RunError, SystemClock, SystemEntropy, config, http, stores, telemetry};
use holdfast_provider::{SafeClient, WebhookClient};
use manage::{Manage, Stores, Webhooks, router};

#[global_allocator]
static ALLOCATOR: holdfast_lambda::Allocator = holdfast_lambda::Allocator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RunError> {
    telemetry::init()?;
    let clients = AwsClients::new(&config::aws()?)?;
    let stores = Stores {
        settings: stores::settings(&clients)?,
        availability: stores::availability(&clients)?,
        feed: stores::feed(&clients)?,
    };
    let client = SafeClient::new(config::AllowedPrivateHosts::from_env()?.0.into_iter().collect())?;
    let webhooks = Webhooks {
        log: stores::deliveries(&clients)?,
        replays: SqsReplays::new(clients.sqs(), config::SlowDeliveryQueueUrl::from_env()?.0),
        sender: WebhookClient::new(client, SystemClock),
    };
    let admins = config::BootstrapAdmins::from_env()?.0;
    let rules = TargetRules { allow_plain_http: config::AllowPlainHttpTargets::from_env()?.0 };
    let manage = Arc::new(Manage::new(stores, webhooks, admins, rules, SystemClock, SystemEntropy));
    http::run(router()?, move |request, routed| {
        let manage = Arc::clone(&manage);
        async move { manage.handle(request, routed).await }
    })
    .await
}
