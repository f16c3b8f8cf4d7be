//! A tenant's bookings, the newest first, a page at a time.
//!
//! The store knows order, reference and time; status and provider are looked at here, over as many of the
//! store's pages as one call may look at. A cursor says where the next page begins and nothing else: whose
//! bookings are listed is decided by the caller's key alone.

use holdfast_domain::{Booking, BookingId, ProviderId, Status, Tenant, Timestamp};

use super::request::MAX_ID_CHARS;
use super::store_problem;
use crate::paging::{Cursors, invalid_parameters, read_limit};
use crate::ports::{BookingQuery, BookingStore, ListPlace};
use crate::problem::{FieldError, Problem, SideEffects};

/// The most bookings of one page.
pub const MAX_LIST_LIMIT: usize = 100;

/// The bookings of a page unless asked otherwise.
pub const DEFAULT_LIST_LIMIT: usize = 20;

/// How many bookings one call looks at to find those that are wanted. What is left is for the next page.
pub const MAX_LOOKED_AT: usize = 500;

/// How many bookings are asked for at once while status or provider sort some out.
const LOOK_AT_ONCE: usize = 100;

/// The query's parameters as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListParameters<'a> {
    /// The consumer's own reference.
    pub reference: Option<&'a str>,
    /// The name of a status.
    pub status: Option<&'a str>,
    /// The provider.
    pub provider_id: Option<&'a str>,
    /// A time, RFC 3339; bookings made later alone.
    pub created_after: Option<&'a str>,
    /// How many bookings a page has, from 1 to [`MAX_LIST_LIMIT`].
    pub limit: Option<&'a str>,
    /// Where the page before this one ended.
    pub cursor: Option<&'a str>,
}

impl ListParameters<'_> {
    /// The parameters' names.
    pub const NAMES: [&'static str; 6] =
        ["reference", "status", "provider_id", "created_after", "limit", "cursor"];
}

/// A list that can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidList {
    tenant: Tenant,
    filters: Filters,
    limit: usize,
    after: Option<ListPlace>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filters {
    reference: Option<String>,
    status: Option<Status>,
    provider_id: Option<ProviderId>,
    created_after: Option<Timestamp>,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The bookings, the newest first.
    pub bookings: Vec<Booking>,
    /// Where the next page begins; `None` after the last. A page may be short, or empty, and have a next
    /// one all the same.
    pub next_cursor: Option<String>,
}

/// Reads the parameters of a list of `tenant`'s bookings; a problem names each that is at fault.
pub fn read_list(tenant: &Tenant, parameters: &ListParameters<'_>) -> Result<ValidList, Problem> {
    let mut errors = Vec::new();
    let filters = Filters {
        reference: parameters.reference.and_then(|text| {
            let fits = (1..=MAX_ID_CHARS).contains(&text.chars().count());
            let detail = format!("must have 1 to {MAX_ID_CHARS} characters");
            valid(&mut errors, "reference", fits.then(|| text.to_owned()), detail)
        }),
        status: parameters.status.and_then(|text| {
            let detail = format!("must be one of {}", Status::ALL.map(Status::as_str).join(", "));
            valid(&mut errors, "status", Status::parse(text), detail)
        }),
        provider_id: parameters.provider_id.and_then(|text| {
            let read = ProviderId::parse(text);
            let detail = read.as_ref().err().map_or_else(String::new, ToString::to_string);
            valid(&mut errors, "provider_id", read.ok(), detail)
        }),
        created_after: parameters.created_after.and_then(|text| {
            let detail = "must be a time in RFC 3339 form, such as 2027-01-15T09:00:00Z".to_owned();
            valid(&mut errors, "created_after", Timestamp::parse_rfc3339(text).ok(), detail)
        }),
    };
    let limit = read_limit(&mut errors, parameters.limit, DEFAULT_LIST_LIMIT, MAX_LIST_LIMIT);
    // A cursor is checked against the filters, so that there have to be some.
    let after = parameters.cursor.filter(|_| errors.is_empty()).and_then(|text| {
        let detail = "must be the next_cursor of a page of this very list, with the same filters".to_owned();
        valid(&mut errors, "cursor", place_of(text, tenant, &filters), detail)
    });
    match limit {
        Some(limit) if errors.is_empty() => Ok(ValidList { tenant: tenant.clone(), filters, limit, after }),
        _ => Err(invalid_parameters(errors)),
    }
}

fn valid<T>(errors: &mut Vec<FieldError>, name: &'static str, value: Option<T>, detail: String) -> Option<T> {
    if value.is_none() {
        errors.push(FieldError::new(name, detail));
    }
    value
}

/// A page of a tenant's bookings.
pub async fn list(store: &impl BookingStore, list: &ValidList) -> Result<Listed, Problem> {
    let filters = &list.filters;
    let sorts_out = filters.status.is_some() || filters.provider_id.is_some();
    let mut bookings: Vec<Booking> = Vec::new();
    let mut after = list.after.clone();
    let mut looked_at: usize = 0;
    loop {
        let missing = list.limit.saturating_sub(bookings.len());
        let limit = if sorts_out { LOOK_AT_ONCE } else { missing };
        let limit = limit.min(MAX_LOOKED_AT.saturating_sub(looked_at));
        let query = BookingQuery {
            reference: filters.reference.clone(),
            created_after: filters.created_after,
            after,
            limit,
        };
        let page = store.list(&list.tenant, &query).await;
        let page = page.map_err(|error| store_problem(&error, SideEffects::None))?;
        looked_at = looked_at.saturating_add(limit);
        let mut found = page.bookings.into_iter();
        while let Some(booking) = found.next() {
            if !filters.want(&booking) {
                continue;
            }
            let place = ListPlace { created_at: booking.created_at(), booking_id: booking.id.clone() };
            bookings.push(booking);
            if bookings.len() == list.limit {
                let is_more = found.len() > 0 || page.next.is_some();
                return Ok(list.page(bookings, Some(place).filter(|_| is_more)));
            }
        }
        if page.next.is_none() || looked_at >= MAX_LOOKED_AT {
            return Ok(list.page(bookings, page.next));
        }
        after = page.next;
    }
}

impl ValidList {
    fn page(&self, bookings: Vec<Booking>, next: Option<ListPlace>) -> Listed {
        let next_cursor = next.map(|place| cursor_of(&place, &self.tenant, &self.filters));
        Listed { bookings, next_cursor }
    }
}

impl Filters {
    fn want(&self, booking: &Booking) -> bool {
        self.status.is_none_or(|status| booking.status() == status)
            && self.provider_id.as_ref().is_none_or(|wanted| booking.request.provider_id == *wanted)
    }
}

/// Form, time, identifier and check, in base64url.
fn cursors(tenant: &Tenant, filters: &Filters) -> Cursors {
    let created_after = filters.created_after.map(|at| at.as_unix_ms().to_string());
    Cursors::of(&[
        Some("holdfast/list-cursor"),
        Some(tenant.mode.as_str()),
        Some(tenant.consumer_id.as_str()),
        filters.reference.as_deref(),
        filters.status.map(Status::as_str),
        filters.provider_id.as_ref().map(ProviderId::as_str),
        created_after.as_deref(),
    ])
}

fn cursor_of(place: &ListPlace, tenant: &Tenant, filters: &Filters) -> String {
    cursors(tenant, filters).cursor(&format!("{}/{}", place.created_at.as_unix_ms(), place.booking_id))
}

fn place_of(cursor: &str, tenant: &Tenant, filters: &Filters) -> Option<ListPlace> {
    let place = cursors(tenant, filters).place(cursor)?;
    let (created_at, booking_id) = place.split_once('/')?;
    Some(ListPlace {
        created_at: Timestamp::from_unix_ms(created_at.parse().ok()?).ok()?,
        booking_id: BookingId::parse(booking_id).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use holdfast_domain::{BookingRequest, NotificationRoute, Slot};

    use super::*;
    use crate::ports::Claim;
    use crate::problem::ProblemCode;
    use crate::stored::StoredBooking;
    use crate::test_util::{Fault, Faults, MemoryBookingStore};
    use data_encoding::BASE64URL_NOPAD;

    fn tenant() -> Tenant {
        Tenant::parse("test:shop").unwrap()
    }

    fn at(offset_ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(1_795_257_665_123).unwrap().plus_ms(offset_ms)
    }

    fn booking(tenant: &Tenant, number: u64, provider: &str) -> StoredBooking {
        let request = BookingRequest {
            provider_id: ProviderId::parse(provider).unwrap(),
            customer: None,
            reference: (number == 7).then(|| "order-7".to_owned()),
            notes: None,
            metadata: BTreeMap::new(),
            units: Vec::new(),
            hold: false,
            availability_id: None,
        };
        let slot = Slot {
            location_id: "main".to_owned(),
            start: at(86_400_000),
            end: at(88_000_000),
            resource_id: None,
            service_id: None,
        };
        let id = BookingId::derived(tenant, &number.to_string(), 0);
        let made_at = at(number * 1_000);
        let booking = Booking::accepted(id, tenant.clone(), request, slot, NotificationRoute::Push, made_at);
        StoredBooking { booking, create: None, operations: Vec::new(), exclusive_slots: false, rev: 1 }
    }

    /// So many bookings, every tenth at the clinic, the others at the spa; and one of another tenant.
    async fn store(count: u64) -> MemoryBookingStore {
        let store = MemoryBookingStore::new();
        for number in 0..count {
            let provider = if number % 10 == 0 { "clinic" } else { "spa" };
            let claim = store.claim(&booking(&tenant(), number, provider)).await.unwrap();
            assert_eq!(claim, Claim::Claimed);
        }
        store.claim(&booking(&Tenant::parse("live:shop").unwrap(), 3, "clinic")).await.unwrap();
        store
    }

    fn parameters<'a>(pairs: &[(&str, &'a str)]) -> ListParameters<'a> {
        let value = |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        ListParameters {
            reference: value("reference"),
            status: value("status"),
            provider_id: value("provider_id"),
            created_after: value("created_after"),
            limit: value("limit"),
            cursor: value("cursor"),
        }
    }

    async fn page(store: &MemoryBookingStore, pairs: &[(&str, &str)]) -> Listed {
        list(store, &read_list(&tenant(), &parameters(pairs)).unwrap()).await.unwrap()
    }

    fn numbers(listed: &Listed) -> Vec<i64> {
        let number = |booking: &Booking| (booking.created_at().as_unix_ms() - at(0).as_unix_ms()) / 1_000;
        listed.bookings.iter().map(number).collect()
    }

    fn refused(pairs: &[(&str, &str)]) -> Vec<String> {
        let problem = read_list(&tenant(), &parameters(pairs)).unwrap_err();
        assert_eq!(problem.code, ProblemCode::InvalidParameter);
        problem.errors.into_iter().map(|error| error.pointer).collect()
    }

    #[tokio::test]
    async fn pages_follow_on_one_another() {
        let store = store(45).await;
        let first = page(&store, &[]).await;
        assert_eq!(numbers(&first), (25..45).rev().collect::<Vec<_>>());
        let cursor = first.next_cursor.unwrap();
        let second = page(&store, &[("cursor", &cursor), ("limit", "25")]).await;
        assert_eq!(numbers(&second), (0..25).rev().collect::<Vec<_>>());
        assert_eq!(second.next_cursor, None, "there is no more");
    }

    #[tokio::test]
    async fn filters_are_looked_for_over_many_bookings_but_not_too_many() {
        let store = store(1_200).await;
        let filters = [("provider_id", "clinic"), ("status", "confirmed"), ("limit", "100")];
        let first = page(&store, &filters).await;
        assert_eq!(numbers(&first), (70..120).rev().map(|tens| tens * 10).collect::<Vec<_>>());
        let calls = store.faults().calls();
        let lists = calls.iter().filter(|call| **call == "bookings.list").count();
        assert_eq!(lists, MAX_LOOKED_AT / LOOK_AT_ONCE);
        let cursor = first.next_cursor.unwrap();
        let second = page(&store, &[&filters[..], &[("cursor", &cursor)]].concat()).await;
        assert_eq!(numbers(&second), (20..70).rev().map(|tens| tens * 10).collect::<Vec<_>>());
        // A page that is full in the middle of what was looked at goes on right there.
        let mut cursor = None;
        let mut all = Vec::new();
        loop {
            let mut pairs = vec![("provider_id", "clinic"), ("limit", "7")];
            pairs.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page = page(&store, &pairs).await;
            all.extend(numbers(&page));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(all, (0..120).rev().map(|tens| tens * 10).collect::<Vec<_>>());
        // Nothing fits, but there is more to look at.
        let none = page(&store, &[("status", "no_show")]).await;
        assert!(none.bookings.is_empty() && none.next_cursor.is_some());
    }

    #[tokio::test]
    async fn reference_and_time_narrow_the_list() {
        let store = store(30).await;
        assert_eq!(numbers(&page(&store, &[("reference", "order-7")]).await), [7]);
        assert_eq!(numbers(&page(&store, &[("reference", "order-8")]).await), [0_i64; 0]);
        let after = at(27_000).to_string();
        assert_eq!(numbers(&page(&store, &[("created_after", &after)]).await), [29, 28]);
    }

    #[test]
    fn every_parameter_at_fault_is_named() {
        let long = "x".repeat(MAX_ID_CHARS + 1);
        assert_eq!(refused(&[("reference", "")]), ["reference"]);
        assert_eq!(refused(&[("reference", &long)]), ["reference"]);
        for limit in ["0", "101", "-1", "1.5", "", "many"] {
            assert_eq!(refused(&[("limit", limit)]), ["limit"], "{limit}");
        }
        let all = [("status", "done"), ("provider_id", "No"), ("created_after", "yesterday"), ("limit", "0")];
        assert_eq!(refused(&all), ["status", "provider_id", "created_after", "limit"]);
    }

    #[tokio::test]
    async fn a_cursor_is_good_for_its_own_list_alone() {
        let store = store(45).await;
        let cursor = page(&store, &[("status", "confirmed")]).await.next_cursor.unwrap();
        assert_eq!(refused(&[("cursor", &cursor)]), ["cursor"]);
        assert_eq!(refused(&[("cursor", &cursor), ("status", "pending")]), ["cursor"]);
        assert_eq!(
            refused(&[("cursor", &cursor), ("status", "confirmed"), ("provider_id", "spa")]),
            ["cursor"]
        );
        let good = parameters(&[("cursor", &cursor), ("status", "confirmed")]);
        assert!(read_list(&tenant(), &good).is_ok());
        assert!(read_list(&Tenant::parse("live:shop").unwrap(), &good).is_err());
    }

    #[tokio::test]
    async fn an_altered_cursor_is_refused() {
        let store = store(45).await;
        let cursor = page(&store, &[]).await.next_cursor.unwrap();
        let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).unwrap();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[position] ^= 1 << bit;
                assert_eq!(refused(&[("cursor", &BASE64URL_NOPAD.encode(&altered))]), ["cursor"]);
            }
            assert_eq!(refused(&[("cursor", &BASE64URL_NOPAD.encode(&bytes[..position]))]), ["cursor"]);
        }
        for cursor in ["", "!", "äöü", &format!("{cursor}="), &format!("{cursor}{cursor}")] {
            assert_eq!(refused(&[("cursor", cursor)]), ["cursor"], "{cursor}");
        }
    }

    #[tokio::test]
    async fn a_store_that_is_not_available_is_told_as_such() {
        let faults = Faults::default();
        let store = MemoryBookingStore::with_faults(faults.clone());
        faults.next("bookings.list", Fault::FailBefore);
        let problem = list(&store, &read_list(&tenant(), &parameters(&[])).unwrap()).await.unwrap_err();
        assert_eq!(problem.code, ProblemCode::StoreUnavailable);
    }
}
