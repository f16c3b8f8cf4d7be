//! Wires the repair function.

use std::sync::Arc;

use holdfast_app::repair::Repair;
use holdfast_app::settings_cache::SettingsCache;
use holdfast_aws::{AwsClients, EventBridgeBus, SqsDeadLetters, SqsParking, SqsTimers};
use holdfast_lambda::{RunError, SystemClock, SystemEntropy, config, http, stores, telemetry};
use repair::{Service, router};

#[global_allocator]
static ALLOCATOR: holdfast_lambda::Allocator = holdfast_lambda::Allocator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RunError> {
    telemetry::init()?;
    let aws = AwsClients::new(&config::aws()?)?;
    let queues = config::ParkingQueues::from_env()?;
    let letters = config::DeadLetterQueues::from_env()?;
    let settings = stores::settings(&aws)?;
    let sqs = aws.sqs();
    let repair = Repair {
        bookings: stores::bookings(&aws)?,
        audit: settings.clone(),
        letters: SqsDeadLetters::new(sqs.clone(), letters.letters, letters.sources),
        timers: SqsTimers::new(sqs.clone(), config::TimerQueueUrl::from_env()?.0),
        bus: EventBridgeBus::new(aws.eventbridge(), config::EventBusName::from_env()?.0),
        mailbox: stores::mailbox(&aws)?,
        parking: SqsParking::new(sqs, queues.parked_record_queue_url, queues.booking_dead_letter_queue_url),
        clock: SystemClock,
        entropy: SystemEntropy,
    };
    let admins = config::BootstrapAdmins::from_env()?.0;
    let service = Arc::new(Service { settings: SettingsCache::new(settings), admins, repair });
    http::run(router()?, move |request, routed| {
        let service = Arc::clone(&service);
        async move { service.handle(request, routed).await }
    })
    .await
}
