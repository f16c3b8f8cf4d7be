//! The booking table's stream: what each change makes happen elsewhere is carried out here.
//!
//! A record that fails for want of a service comes again, and all after it. One that cannot be processed
//! for its own sake is parked, so that it holds up nobody.

use aws_lambda_events::dynamodb::EventRecord;
use holdfast_app::outbox::{Change, Outbox};
use holdfast_app::ports::{
    Clock, EventBus, NotificationMailbox, ParkedRecord, RecordParking, SlotChangeLog, TimerQueue,
};
use holdfast_aws::codec::{UnreadableImage, stored_from_image};
use holdfast_domain::Booking;
use holdfast_lambda::telemetry::note_booking;

/// Carries out the effects of a batch of records. Returns the sequence number of the first record that
/// has to come again.
pub async fn handle<T, B, P, M, O, C>(
    outbox: &Outbox<T, B, P, M, O, C>,
    records: Vec<EventRecord>,
) -> Option<String>
where
    T: TimerQueue,
    B: EventBus,
    P: RecordParking,
    M: NotificationMailbox,
    O: SlotChangeLog,
    C: Clock,
{
    let (numbers, changes): (Vec<String>, Vec<Change>) = records
        .into_iter()
        .filter(|record| !record.change.new_image.is_empty())
        .map(|record| (record.change.sequence_number.clone().unwrap_or_default(), change_of(record)))
        .unzip();
    for change in &changes {
        if let Change::Images { new, .. } = change {
            note_booking(&new.id);
        }
    }
    let results = outbox.carry_out(&changes).await;
    let failed =
        numbers.into_iter().zip(results).filter_map(|(number, result)| Some((number, result.err()?)));
    let mut failed = failed.inspect(|(number, error)| {
        tracing::warn!(record.sequence_number = number, %error, "A record has to come again.");
    });
    failed.next().map(|(number, _)| number)
}

fn change_of(record: EventRecord) -> Change {
    let old_image = record.change.old_image;
    let old = if old_image.is_empty() { Ok(None) } else { image(old_image).map(Some) };
    match (old, image(record.change.new_image)) {
        (Ok(old), Ok(new)) => Change::Images { old, new },
        (Err(unreadable), Ok(new)) => {
            let to_version = Some(new.version());
            Change::Unreadable(parked(&unreadable, unreadable.version, to_version))
        }
        (Ok(old), Err(unreadable)) => {
            let from_version = old.map(|old| old.version());
            Change::Unreadable(parked(&unreadable, from_version, unreadable.version))
        }
        (Err(old), Err(new)) => Change::Unreadable(parked(&new, old.version, new.version)),
    }
}

fn image(item: serde_dynamo::Item) -> Result<Box<Booking>, UnreadableImage> {
    stored_from_image(item).map(|stored| Box::new(stored.booking))
}

/// What somebody needs to process the change after all: the booking, and the versions from the one after
/// `known` to `last`.
fn parked(unreadable: &UnreadableImage, known: Option<u32>, last: Option<u32>) -> ParkedRecord {
    tracing::error!(error = %unreadable.error, "An image in the stream cannot be read.");
    ParkedRecord {
        booking_id: unreadable.booking_id.as_ref().map_or_else(String::new, |id| id.as_str().to_owned()),
        from_version: Some(known.map_or(1, |known| known.saturating_add(1))),
        to_version: last,
        reason: "unreadable_image".to_owned(),
    }
}
