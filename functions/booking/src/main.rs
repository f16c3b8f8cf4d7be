//! Wires the booking function.

use std::sync::Arc;

use booking::{Service, router};
use holdfast_app::bookings::{Breakers, Engine};
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
    let (store, settings) = (stores::bookings(&aws)?, stores::settings(&aws)?);
    let client = SafeClient::new(AllowedHosts::from_iter(AllowedPrivateHosts::from_env()?.0))?;
    let gateway = ProtocolGateway::new(client, SystemClock);
    let engine = Engine::new(store, gateway, Breakers::new(settings.clone()), SystemClock, SystemEntropy);
    let counter = settings.clone();
    let (settings, availability) = (SettingsCache::new(settings), stores::availability(&aws)?);
    let rates = RequestRates::default();
    let service = Arc::new(Service { engine, settings, availability, rates, counter, clock: SystemClock });
    http::run(router()?, move |request, routed| {
        let service = Arc::clone(&service);
        async move { service.handle(request, routed).await }
    })
    .await
}
