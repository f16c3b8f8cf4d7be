//! Wires the dispatch function.

use std::sync::Arc;

use holdfast_app::outbox::Outbox;
use holdfast_aws::{AwsClients, EventBridgeBus, SqsParking, SqsTimers};
use holdfast_lambda::config::{self, EventBusName, ParkingQueues, TimerQueueUrl};
use holdfast_lambda::{RunError, SystemClock, batch, stores, telemetry};

#[global_allocator]
static ALLOCATOR: holdfast_lambda::Allocator = holdfast_lambda::Allocator;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RunError> {
    telemetry::init()?;
    let aws = AwsClients::new(&config::aws()?)?;
    let queues = ParkingQueues::from_env()?;
    let mailbox = stores::mailbox(&aws)?;
    let slots = stores::availability(&aws)?;
    let sqs = aws.sqs();
    let outbox = Arc::new(Outbox {
        timers: SqsTimers::new(sqs.clone(), TimerQueueUrl::from_env()?.0),
        bus: EventBridgeBus::new(aws.eventbridge(), EventBusName::from_env()?.0),
        parking: SqsParking::new(sqs, queues.parked_record_queue_url, queues.booking_dead_letter_queue_url),
        mailbox,
        slots,
        clock: SystemClock,
    });
    batch::run_stream(move |records, _| {
        let outbox = Arc::clone(&outbox);
        async move { dispatch::handle(&outbox, records).await }
    })
    .await
}
