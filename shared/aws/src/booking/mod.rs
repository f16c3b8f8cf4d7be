//! Bookings in DynamoDB: one item each, written by conditional writes alone.

mod decode;
mod encode;
mod history;
mod item;
mod overdue;
mod response;
mod store;

pub use decode::{CodecError, UnreadableImage, stored_from_image};
pub use item::ITEM_FORMAT;
pub use overdue::OVERDUE_INDEX;
pub use store::DynamoBookingStore;

#[cfg(test)]
mod tests;
