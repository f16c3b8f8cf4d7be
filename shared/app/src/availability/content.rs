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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use holdfast_domain::{Price, Window, Zone};

    use super::*;
    use crate::test_util::open_slot;

    fn at(ms: u64) -> Timestamp {
        Timestamp::EPOCH.plus_ms(1_800_000_000_000 + ms)
    }

    fn said() -> KnownAvailability {
        let price = Price { amount_minor: 4_500, currency: Arc::from("EUR") };
        let slot = OpenSlot {
            resource_id: Some(Arc::from("dr-a")),
            service_id: Some(Arc::from("checkup")),
            capacity: Some(3),
            price: Some(price),
            availability_id: Some(Arc::from("av-1")),
            ..open_slot(at(0))
        };
        let window = Window { from: at(0), to: at(1_000) };
        KnownAvailability { as_of: at(5), window, zone: Zone::utc(), slots: vec![slot] }
    }

    fn with(change: impl FnOnce(&mut KnownAvailability)) -> ContentId {
        let mut other = said();
        change(&mut other);
        ContentId::of(&other)
    }

    /// What is remembered is kept under its digest: two answers that differ in anything must not share one.
    #[test]
    fn whatever_differs_makes_another_digest_but_the_time_of_the_answer() {
        assert_eq!(ContentId::of(&said()), with(|said| said.as_of = at(6)));
        let mut all = vec![
            ContentId::of(&said()),
            with(|said| said.window.from = at(1)),
            with(|said| said.window.to = at(1_001)),
            with(|said| said.zone = Zone::parse("Europe/Rome").unwrap()),
            with(|said| said.slots.clear()),
            with(|said| said.slots.push(open_slot(at(1)))),
            with(|said| said.slots[0].start = at(1)),
            with(|said| said.slots[0].end = at(1)),
            with(|said| said.slots[0].resource_id = Some(Arc::from("dr-b"))),
            with(|said| said.slots[0].resource_id = None),
            with(|said| said.slots[0].service_id = None),
            with(|said| {
                (said.slots[0].resource_id, said.slots[0].service_id) =
                    (Some(Arc::from("dr-ac")), Some(Arc::from("heckup")));
            }),
            with(|said| said.slots[0].capacity = Some(2)),
            with(|said| said.slots[0].capacity = None),
            with(|said| said.slots[0].price = None),
            with(|said| said.slots[0].price.as_mut().unwrap().amount_minor = 4_501),
            with(|said| said.slots[0].price.as_mut().unwrap().currency = Arc::from("CHF")),
            with(|said| said.slots[0].availability_id = Some(Arc::from("av-2"))),
        ];
        let count = all.len();
        all.sort_by_key(|id| id.0);
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
