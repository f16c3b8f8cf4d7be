//! Wires the provider-callback function.

use std::sync::Arc;

use holdfast_app::settings_cache::SettingsCache;
use holdfast_aws::AwsClients;
use holdfast_lambda::{RunError, SystemClock, config, http, stores, telemetry};
use provider_callback::{Service, router};

#[global_allocator]
static ALLOCATOR: holdfast_lambda::Allocator = holdfast_lambda::Allocator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RunError> {
    telemetry::init()?;
    let aws = AwsClients::new(&config::aws()?)?;
    let (store, settings) = (stores::bookings(&aws)?, stores::settings(&aws)?);
    let mailbox = stores::mailbox(&aws)?;
    let availability = stores::availability(&aws)?;
    let (settings, locations) = (SettingsCache::new(settings.clone()), settings);
    let service = Arc::new(Service { store, mailbox, availability, settings, locations, clock: SystemClock });
    http::run(router()?, move |request, routed| {
        let service = Arc::clone(&service);
        async move { service.handle(request, routed).await }
    })
    .await
}
