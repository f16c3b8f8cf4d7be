//! A notification on its own, apart from its booking's item: with its slot, whatever the booking's is.

use holdfast_domain::Notification;

use super::decode::{CodecError, malformed, notification as read, slot};
use super::encode::{notification as write, slot_item};
use super::item::NotificationItem;

/// Writes a notification with its slot.
pub(crate) fn whole_notification(notification: &Notification) -> NotificationItem {
    let slot = Some(slot_item(&notification.slot));
    NotificationItem { slot, ..write(notification, &notification.slot) }
}

/// Reads a notification that was written with its slot.
pub(crate) fn whole_notification_of(mut item: NotificationItem) -> Result<Notification, CodecError> {
    let own_slot = item.slot.take().ok_or_else(|| malformed("nt"))?;
    read(item, &slot("nt", own_slot)?)
}
