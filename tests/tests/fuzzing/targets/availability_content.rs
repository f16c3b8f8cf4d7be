//! What providers say is open, from their words to the packed content and back.
//!
//! Input: a digit and, for `0`, the JSON of an answer; for `1`, what a content unpacks to; for `2`, a packed content.

use holdfast_app::availability::{MAX_SLOTS, read_answer};
use holdfast_app::ports::{AvailabilityStore, KnownAvailability, Place, StoreError};
use holdfast_aws::DynamoAvailability;
use holdfast_domain::{ProviderId, Window, Zone};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::stored::Table;
use super::{MARKER, choice, now, run};

/// The number of the form in which contents are packed.
const FORMAT: u8 = 1;

/// The longest run of bytes that is written as one literal here, so that its length needs no second byte.
const MAX_LITERAL_BYTES: usize = 269;

pub(super) fn check(data: &[u8]) {
    match choice(data, 3) {
        Some((0, answer)) => said(answer),
        Some((1, plain)) => unpacked(&sealed(&block(&plain[..plain.len().min(MAX_LITERAL_BYTES)]))),
        Some((_, packed)) => {
            unpacked(packed);
            unpacked(&sealed(packed));
        }
        None => unpacked(data),
    }
}

fn place() -> Place {
    Place { provider_id: ProviderId::parse("clinic").expect("a name"), location_id: "main".to_owned() }
}

fn said(answer: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return };
    let window = Window { from: now(), to: now().plus_ms(22 * 86_400_000) };
    match read_answer(&answer, window) {
        Ok(slots) => {
            assert!(slots.len() <= MAX_SLOTS);
            assert!(slots.windows(2).all(|pair| pair[0].order() < pair[1].order()), "in order, none twice");
            for slot in &slots {
                assert!(window.has(slot.start) && slot.end > slot.start && slot.capacity != Some(0));
            }
            let given = answer["slots"].as_array().expect("a list");
            assert!(slots.len() <= given.len(), "nothing is made up");
            kept(&KnownAvailability { as_of: now(), window, zone: Zone::utc(), slots });
        }
        Err(error) => {
            let is_place = error.pointer.is_empty()
                || answer.pointer(&error.pointer).is_some()
                || error.pointer.rsplit_once('/').is_some_and(|(above, _)| answer.pointer(above).is_some());
            assert!(is_place, "{} is no place", error.pointer);
            assert!(!error.detail.contains(MARKER), "a value is repeated: {}", error.detail);
        }
    }
}

fn store() -> (DynamoAvailability, Table) {
    let table = Table::new();
    (DynamoAvailability::new(table.clients.dynamodb.clone(), "availability"), table)
}

/// What is kept is what was said.
fn kept(said: &KnownAvailability) {
    let (store, table) = store();
    run(async {
        match store.replace(&place(), said).await {
            Ok(()) => {}
            Err(StoreError::Refused(_)) => return,
            Err(error) => panic!("{error}"),
        }
        table.find(vec![table.take_written().expect("it was written")]);
        let read = store.read(&place(), now()).await.expect("it was written now");
        assert_eq!(read.availability.as_ref(), Some(said));
    });
}

/// Whatever is found is read as a whole or not at all.
fn unpacked(packed: &[u8]) {
    let (store, table) = store();
    let bytes = |bytes: &[u8]| json!({"B": data_encoding::BASE64.encode(bytes)});
    table.find(vec![json!({
        "pk": {"S": "LOCATION#clinic#main"},
        "sk": {"S": "S"},
        "c": bytes(&[1; 16]),
        "a": {"N": now().as_unix_ms().to_string()},
        "d": bytes(packed),
        "ttl": {"N": "1"},
    })]);
    let read = run(store.read(&place(), now()));
    match read {
        Ok(remembered) => {
            let known = remembered.availability.expect("a content was found");
            assert!(known.slots.len() <= MAX_SLOTS);
            // Only what can be written can be asked to come back.
            if known.slots.iter().all(|slot| slot.start <= slot.end) {
                kept(&known);
            }
        }
        Err(StoreError::Corrupt(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// An LZ4 block that is one literal, preceded by its size.
fn block(plain: &[u8]) -> Vec<u8> {
    let mut block = u32::try_from(plain.len()).expect("it is short").to_le_bytes().to_vec();
    if let Ok(short @ 0..15) = u8::try_from(plain.len()) {
        block.push(short << 4);
    } else {
        block.push(0xf0);
        block.push(u8::try_from(plain.len() - 15).unwrap_or(u8::MAX - 1));
    }
    block.extend_from_slice(plain);
    block
}

/// A block with its format and the sum over it, as if it had been written.
fn sealed(block: &[u8]) -> Vec<u8> {
    [&[FORMAT], &Sha256::digest(block)[..4], block].concat()
}
