//! What an answer about open slots says, as a digest: so that the same answer is known again.

use holdfast_domain::{OpenSlot, Timestamp};
use sha2::{Digest, Sha256};

use crate::ports::KnownAvailability;

/// The bytes of a digest: no two answers of one location have the same by accident.
const CONTENT_ID_BYTES: usize = 16;

/// A digest of all that is known of a location's availability, but for when it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentId(pub [u8; CONTENT_ID_BYTES]);

impl ContentId {
    pub(crate) fn of(said: &KnownAvailability) -> Self {
        let mut content = Content(Sha256::new());
        content.time(said.window.from);
        content.time(said.window.to);
        content.text(Some(said.zone.name()));
        for slot in &said.slots {
            content.slot(slot);
        }
        let mut id = [0; CONTENT_ID_BYTES];
        id.copy_from_slice(&content.0.finalize()[..CONTENT_ID_BYTES]);
        Self(id)
    }
}

struct Content(Sha256);

impl Content {
    fn time(&mut self, at: Timestamp) {
        self.number(u64::try_from(at.as_unix_ms()).unwrap_or_default());
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    /// Presence and length come first, so that no two slots have the same bytes.
    fn text(&mut self, text: Option<&str>) {
        self.0.update([u8::from(text.is_some())]);
        let text = text.unwrap_or_default();
        self.number(u64::try_from(text.len()).unwrap_or(u64::MAX));
        self.0.update(text);
    }

    fn slot(&mut self, slot: &OpenSlot) {
        self.time(slot.start);
        self.time(slot.end);
        self.text(slot.resource_id.as_deref());
        self.text(slot.service_id.as_deref());
        self.number(slot.capacity.map_or(u64::MAX, u64::from));
        self.text(slot.price.as_ref().map(|price| price.currency.as_ref()));
        self.number(slot.price.as_ref().map_or(0, |price| price.amount_minor));
        self.text(slot.availability_id.as_deref());
    }
}
