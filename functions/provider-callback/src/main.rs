//! Wires the provider-callback function.

use std::sync::Arc;

use holdfast_app::settings_cache::SettingsCache;
use holdfast_aws::{AwsClients, DynamoBookingStore, DynamoSettings};
use holdfast_lambda::config::{self, BookingRetention, BookingTable, ConfigTable};
use holdfast_lambda::{RunError, SystemClock, SystemEntropy, http, telemetry};
use provider_callback::{Service, router};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RunError> {
    telemetry::init()?;
    let aws = AwsClients::new(&config::aws()?);
    let bookings = BookingTable::from_env()?.0;
    let retention_days = BookingRetention::from_env()?.days;
    let store =
        DynamoBookingStore::new(aws.dynamodb.clone(), bookings, retention_days, Arc::new(SystemEntropy));
    let settings = DynamoSettings::new(aws.dynamodb, ConfigTable::from_env()?.0, Arc::new(SystemEntropy));
    let service = Arc::new(Service { store, settings: SettingsCache::new(settings), clock: SystemClock });
    http::run(router()?, move |request, routed| {
        let service = Arc::clone(&service);
        async move { service.handle(request, routed).await }
    })
    .await
}
