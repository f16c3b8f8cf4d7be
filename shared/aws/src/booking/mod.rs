//! Bookings in DynamoDB: one item each, written by conditional writes alone. An exclusive slot is an item
//! beside them, and changes hands in the transaction that writes its booking.

mod calls;
mod decode;
mod encode;
mod history;
mod item;
mod list;
mod overdue;
mod response;
mod scan;
mod slots;
mod store;
mod told;
mod transaction;

pub use decode::{CodecError, UnreadableImage, stored_from_image};
pub use item::ITEM_FORMAT;
pub(crate) use item::NotificationItem;
pub use list::{REFERENCE_INDEX, TENANT_INDEX};
pub use overdue::OVERDUE_INDEX;
pub use store::DynamoBookingStore;
pub(crate) use told::{whole_notification, whole_notification_of};

#[cfg(test)]
mod tests;
