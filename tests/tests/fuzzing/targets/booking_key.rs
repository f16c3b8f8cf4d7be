//! Booking keys: what was altered or made up opens nothing.
//!
//! Input: `0` and a text; or `1` and edits of a key that was issued (its number, then pairs of a place and a
//! character); or `2` and the names of a slot, one a line, for which a key is issued.

use holdfast_app::availability::{
    BOOKING_KEY_SECRET_BYTES, BookingKeySecret, KeyFault, KeyMaker, MAX_BOOKING_KEY_CHARS, key_expiry,
    open_key,
};
use holdfast_app::test_util::open_slot;
use holdfast_domain::{Mode, OpenSlot, ProviderId};

use super::{choice, now};

/// The most characters of a name that a slot may have.
const MAX_NAME_CHARS: usize = 128;

fn secrets() -> [BookingKeySecret; 2] {
    [3_u8, 7].map(|id| {
        let key = [id; BOOKING_KEY_SECRET_BYTES];
        BookingKeySecret { id: id.into(), key, created_at: now() }
    })
}

fn provider() -> ProviderId {
    ProviderId::parse("clinic").expect("a name")
}

fn issued(slot: &OpenSlot, location_id: &str, mode: Mode, secret: usize) -> String {
    let provider = provider();
    let maker = KeyMaker::new(&secrets()[secret], mode, &provider, location_id, key_expiry(now()));
    maker.and_then(|maker| maker.key(slot)).expect("every slot has a key")
}

fn slots() -> [OpenSlot; 2] {
    let plain = open_slot(now().plus_ms(86_400_000));
    let named = OpenSlot {
        resource_id: Some("dr-grey".into()),
        service_id: Some("first-visit".into()),
        availability_id: Some("a-1".into()),
        ..plain.clone()
    };
    [plain, named]
}

fn all_issued() -> Vec<String> {
    let slots = slots();
    let each = slots.iter().flat_map(|slot| [(slot, 0), (slot, 1)]);
    each.map(|(slot, secret)| issued(slot, "main", Mode::Test, secret)).collect()
}

pub(super) fn check(data: &[u8]) {
    match choice(data, 3) {
        Some((0, text)) => judge(&String::from_utf8_lossy(text)),
        Some((1, edits)) => edited(edits),
        Some((_, names)) => round_trip(&String::from_utf8_lossy(names)),
        None => judge(""),
    }
}

/// What was not issued is refused; what was, says what it was issued for.
fn judge(text: &str) {
    let issued = all_issued();
    let opened = open_key(text, &secrets(), Mode::Test);
    match issued.iter().position(|key| key == text) {
        Some(place) => {
            let opened = opened.clone().expect("it was issued");
            let slot = &slots()[place / 2];
            assert_eq!((opened.provider_id, opened.expires_at), (provider(), key_expiry(now())));
            assert_eq!(
                (opened.slot.location_id.as_str(), opened.slot.start, opened.slot.end),
                ("main", slot.start, slot.end)
            );
            assert_eq!(opened.availability_id.as_deref(), slot.availability_id.as_deref());
            assert_eq!(open_key(text, &secrets(), Mode::Live), Err(KeyFault::Elsewhere));
            assert_eq!(open_key(text, &[], Mode::Test), Err(KeyFault::UnknownSecret));
        }
        None => assert!(
            matches!(opened, Err(KeyFault::Forged | KeyFault::UnknownSecret)),
            "{text:?} was never issued: {opened:?}"
        ),
    }
    if let Err(fault) = opened {
        let problem = fault.problem();
        assert_eq!(problem.code.status(), 422);
        assert_eq!(problem.errors[0].pointer, "/booking_key");
    }
}

fn edited(edits: &[u8]) {
    let issued = all_issued();
    let Some((which, edits)) = edits.split_first() else { return };
    let mut key = issued[usize::from(*which) % issued.len()].clone().into_bytes();
    for edit in edits.chunks_exact(2) {
        let place = usize::from(edit[0]) % key.len();
        match edit[1] {
            0 => key.truncate(place.max(1)),
            character => key[place] = character & 0x7f,
        }
    }
    judge(&String::from_utf8_lossy(&key));
}

fn round_trip(names: &str) {
    let mut lines = names.split('\n').filter(|name| name.chars().count() <= MAX_NAME_CHARS);
    let location_id = lines.next().unwrap_or_default().to_owned();
    let slot = OpenSlot {
        resource_id: lines.next().map(Into::into),
        service_id: lines.next().map(Into::into),
        availability_id: lines.next().map(Into::into),
        ..open_slot(now().plus_ms(names.len() as u64))
    };
    let key = issued(&slot, &location_id, Mode::Live, 0);
    assert!(key.len() <= MAX_BOOKING_KEY_CHARS, "{} characters", key.len());
    let opened = open_key(&key, &secrets(), Mode::Live).expect("it was issued");
    assert_eq!(opened.slot.location_id, location_id);
    assert_eq!(opened.slot.resource_id.as_deref(), slot.resource_id.as_deref());
    assert_eq!(opened.slot.service_id.as_deref(), slot.service_id.as_deref());
    assert_eq!(opened.availability_id.as_deref(), slot.availability_id.as_deref());
    assert_eq!((opened.slot.start, opened.slot.end), (slot.start, slot.end));
}
