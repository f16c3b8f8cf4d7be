//! Wires the availability function.

use std::sync::Arc;

use availability::{Service, router};
use holdfast_app::availability::Availability;
use holdfast_app::rates::RequestRates;
use holdfast_app::settings_cache::SettingsCache;
use holdfast_aws::AwsClients;
use holdfast_lambda::config::{self, AllowedPrivateHosts};
use holdfast_lambda::{RunError, SystemClock, SystemEntropy, http, stores, telemetry};
use holdfast_provider::{AllowedHosts, ProtocolGateway, SafeClient};

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
    let settings = SettingsCache::new(configuration.clone());
    let (clock, entropy) = (SystemClock, SystemEntropy);
    let rates = RequestRates::default();
    let service = Arc::new(Service { availability, configuration, settings, rates, clock, entropy });
    http::run(router()?, move |request, routed| {
        let service = Arc::clone(&service);
        async move { service.handle(request, routed).await }
    })
    .await
}
