//! Cursors of lists and of the feed: only what was issued for this very list is taken.
//!
//! Input: a digit (`0` bookings, `1` feed; `2` and `3` the same by edits) and a text; or the number of a cursor that
//! was issued, then pairs of a place and a character.

use std::collections::BTreeMap;

use holdfast_app::bookings::{ListParameters, list, read_list};
use holdfast_app::feed::{FeedParameters, feed, read_feed};
use holdfast_app::ports::{BookingStore, EventFeed, NewEntry};
use holdfast_app::stored::StoredBooking;
use holdfast_app::test_util::{MemoryBookingStore, MemoryFeed};
use holdfast_domain::{
    Booking, BookingId, BookingRequest, EventId, NotificationRoute, ProviderId, Slot, Tenant,
};

use super::{MARKER, choice, now, run};

/// How many bookings and events there are.
const COUNT: u8 = 4;

fn tenant() -> Tenant {
    Tenant::parse("test:shop").expect("a tenant")
}

fn booking(number: u8) -> StoredBooking {
    let request = BookingRequest {
        provider_id: ProviderId::parse("clinic").expect("a name"),
        customer: None,
        reference: None,
        notes: None,
        metadata: BTreeMap::new(),
        units: Vec::new(),
        hold: false,
        availability_id: None,
    };
    let start = now().plus_ms(86_400_000);
    let (location_id, end) = ("main".to_owned(), start.plus_ms(1_800_000));
    let slot = Slot { location_id, start, end, resource_id: None, service_id: None };
    let (id, made_at) = (BookingId::from_bytes([number; 16]), now().plus_ms(number.into()));
    let booking = Booking::accepted(id, tenant(), request, slot, NotificationRoute::Push, made_at);
    StoredBooking { booking, create: None, operations: Vec::new(), exclusive_slots: false, rev: 1 }
}

/// A list's cursors, each with what its page has.
struct Issued(Vec<(String, Vec<String>)>);

impl Issued {
    fn edited(&self, edits: &[u8]) -> String {
        let Some((which, edits)) = edits.split_first() else { return String::new() };
        let mut cursor = self.0[usize::from(*which) % self.0.len()].0.clone().into_bytes();
        for edit in edits.chunks_exact(2) {
            let place = usize::from(edit[0]) % cursor.len();
            match edit[1] {
                0 => cursor.truncate(place.max(1)),
                character => cursor[place] = character & 0x7f,
            }
        }
        String::from_utf8_lossy(&cursor).into_owned()
    }

    /// The page that a cursor leads to, if it was issued.
    fn page(&self, cursor: &str) -> Option<&Vec<String>> {
        self.0.iter().find(|(issued, _)| issued == cursor).map(|(_, page)| page)
    }
}

pub(super) fn check(data: &[u8]) {
    let Some((which, rest)) = choice(data, 4) else { return };
    run(async {
        let text = String::from_utf8_lossy(rest);
        match which {
            0 => judge_list(&list_cursors().await, &text).await,
            1 => judge_feed(&feed_cursors().await, &text).await,
            2 => {
                let issued = list_cursors().await;
                judge_list(&issued, &issued.edited(rest)).await;
            }
            _ => {
                let issued = feed_cursors().await;
                judge_feed(&issued, &issued.edited(rest)).await;
            }
        }
    });
}

async fn bookings() -> MemoryBookingStore {
    let store = MemoryBookingStore::new();
    for number in 0..COUNT {
        store.claim(&booking(number)).await.expect("nothing fails");
    }
    store
}

async fn list_page(cursor: Option<&str>) -> Option<(Vec<String>, Option<String>)> {
    let parameters = ListParameters { limit: Some("1"), cursor, ..ListParameters::default() };
    let wanted = match read_list(&tenant(), &parameters) {
        Ok(wanted) => wanted,
        Err(problem) => {
            assert_eq!((problem.code.status(), problem.errors[0].pointer.as_str()), (400, "cursor"));
            assert!(!problem.body("/", "r").to_string().contains(MARKER), "a value is repeated");
            return None;
        }
    };
    // Whose list it is decides as well: another tenant's cursor is none.
    let other = Tenant::parse("live:shop").expect("a tenant");
    assert!(cursor.is_none() || read_list(&other, &parameters).is_err());
    let listed = list(&bookings().await, &wanted).await.expect("nothing fails");
    Some((listed.bookings.iter().map(|booking| booking.id.to_string()).collect(), listed.next_cursor))
}

async fn list_cursors() -> Issued {
    let (mut issued, mut cursor) = (Vec::new(), None);
    while let Some((_, Some(next))) = list_page(cursor.as_deref()).await {
        let (page, _) = list_page(Some(&next)).await.expect("it was issued");
        issued.push((next.clone(), page));
        cursor = Some(next);
    }
    Issued(issued)
}

async fn judge_list(issued: &Issued, cursor: &str) {
    let page = list_page(Some(cursor)).await.map(|(page, _)| page);
    assert_eq!(page.as_ref(), issued.page(cursor), "{cursor:?}");
}

async fn events() -> MemoryFeed {
    let feed = MemoryFeed::new();
    for number in 0..COUNT {
        let event_id = EventId::from_bytes([number; 16]);
        let (event_type, body) = ("booking.created".to_owned(), format!("{{\"n\":{number}}}"));
        feed.append(&tenant(), &[NewEntry { event_id, event_type, body }], now())
            .await
            .expect("nothing fails");
    }
    feed
}

async fn feed_page(after: Option<&str>) -> Option<(Vec<String>, String)> {
    let parameters = FeedParameters { after, limit: Some("1"), event_type: None };
    let wanted = match read_feed(&tenant(), &parameters) {
        Ok(wanted) => wanted,
        Err(problem) => {
            assert_eq!((problem.code.status(), problem.errors[0].pointer.as_str()), (400, "after"));
            assert!(!problem.body("/", "r").to_string().contains(MARKER), "a value is repeated");
            return None;
        }
    };
    let page = feed(&events().await, &wanted, now()).await.expect("nothing fails");
    Some((page.bodies, page.next_cursor))
}

async fn feed_cursors() -> Issued {
    let mut issued = Vec::new();
    let (_, mut cursor) = feed_page(None).await.expect("the first page");
    while issued.len() < usize::from(COUNT) {
        let (page, next) = feed_page(Some(&cursor)).await.expect("it was issued");
        issued.push((cursor, page));
        cursor = next;
    }
    Issued(issued)
}

async fn judge_feed(issued: &Issued, cursor: &str) {
    let page = feed_page(Some(cursor)).await.map(|(page, _)| page);
    let nothing = Vec::new();
    let expected = if cursor == "latest" { Some(&nothing) } else { issued.page(cursor) };
    assert_eq!(page.as_ref(), expected, "{cursor:?}");
}
