//! Wires the booking function.

use std::sync::Arc;

use booking::{Service, router};
use holdfast_app::bookings::{Breakers, Engine};
use holdfast_app::settings_cache::SettingsCache;
use holdfast_aws::{AwsClients, DynamoBookingStore, DynamoSettings};
use holdfast_lambda::config::{self, AllowedPrivateHosts, BookingRetention, BookingTable, ConfigTable};
use holdfast_lambda::{RunError, SystemClock, SystemEntropy, http, telemetry};
use holdfast_provider::{AllowedHosts, NativeGateway, SafeClient};

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
    let service = Arc::new(Service { engine, settings: SettingsCache::new(settings), clock: SystemClock });
    http::run(router()?, move |request, routed| {
        let service = Arc::clone(&service);
        async move { service.handle(request, routed).await }
    })
    .await
}
