//! What was said of a location, packed into a few bytes.
//!
//! The slots are written column by column, and in every column as what is different from the row before: most
//! columns are constant or go up by the same amount, and what repeats is what LZ4 takes away. Texts are written
//! once, and named by their place in a table. All numbers are of variable length.
//!
//! The first byte says how the rest is packed, so that a better form gets a new number and old code refuses it;
//! then comes a sum over the rest, for in numbers so dense any damage would be another answer.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use holdfast_app::ports::{KnownAvailability, StoreError};
use holdfast_domain::{OpenSlot, Price, Timestamp, Window, Zone};

use super::WHAT;

/// Columns of differences, LZ4 block preceded by its size.
///
/// Another way of digesting what was said ([`ContentId`](holdfast_app::availability::ContentId)) needs another number
/// too: what cannot be confirmed under its old name has to be written anew.
const FORMAT_1: u8 = 1;

/// The most slots of one location: those of three weeks, twelve hours a day, of 39 doctors with half an hour each.
const MAX_SLOTS: usize = 20_000;

/// The most texts: each slot has four at most.
const MAX_NAMES: usize = 4 * MAX_SLOTS;

/// The most bytes before LZ4: room for as many slots with a name of their own each.
const MAX_PLAIN_BYTES: usize = 4 * 1_024 * 1_024;

/// The most bytes that are kept: what an item may have (400 KiB), less its keys and other attributes.
const MAX_PACKED_BYTES: usize = 400_000;

/// The bytes of the sum: damage goes unnoticed once in four billion times.
const SUM_BYTES: usize = 4;

/// The bytes of the size that precedes an LZ4 block, little-endian.
const SIZE_BYTES: usize = 4;

/// In what times are written, in milliseconds: the coarsest in which they are whole numbers.
const UNITS_MS: [u64; 3] = [60_000, 1_000, 1];

/// The columns of a slot: start, length, resource, service, capacity, currency, amount, name.
const COLUMNS: usize = 8;

/// The bits of a number that a byte holds; the highest one says that there are more.
const BITS: u32 = 7;

fn too_much(what: &str, found: usize, most: usize) -> StoreError {
    StoreError::Refused(format!("{WHAT}: a location with {found} {what}, of at most {most}"))
}

fn unix_ms(at: Timestamp) -> u64 {
    u64::try_from(at.as_unix_ms()).unwrap_or_default()
}

fn sum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..SUM_BYTES]);
    sum
}

/// Packs what was said, but for when.
pub(super) fn pack(said: &KnownAvailability) -> Result<Vec<u8>, StoreError> {
    if said.slots.len() > MAX_SLOTS {
        return Err(too_much("slots", said.slots.len(), MAX_SLOTS));
    }
    let plain = plain(said);
    if plain.len() > MAX_PLAIN_BYTES {
        return Err(too_much("bytes", plain.len(), MAX_PLAIN_BYTES));
    }
    let block = lz4_flex::block::compress_prepend_size(&plain);
    let mut packed = vec![FORMAT_1];
    packed.extend(sum(&block));
    packed.extend(block);
    if packed.len() > MAX_PACKED_BYTES {
        return Err(too_much("bytes when packed", packed.len(), MAX_PACKED_BYTES));
    }
    Ok(packed)
}

/// Unpacks what was said at a time.
pub(super) fn unpack(packed: &[u8], as_of: Timestamp) -> Result<KnownAvailability, StoreError> {
    let damaged = || StoreError::Corrupt(format!("{WHAT}: its content is damaged"));
    let (format, rest) = packed.split_first().ok_or_else(damaged)?;
    if *format != FORMAT_1 {
        return Err(StoreError::Corrupt(format!("{WHAT}: a content of format {format}")));
    }
    let (written_sum, block) = rest.split_first_chunk::<SUM_BYTES>().ok_or_else(damaged)?;
    if *written_sum != sum(block) {
        return Err(damaged());
    }
    let plain = plain_of(block).ok_or_else(damaged)?;
    let mut reader = Reader(&plain);
    let said = said_of(&mut reader, as_of).ok_or_else(damaged)?;
    if reader.0.is_empty() { Ok(said) } else { Err(damaged()) }
}

fn plain_of(block: &[u8]) -> Option<Vec<u8>> {
    // The size is looked at first, so that a damaged item does not make room for gigabytes.
    let size = u32::from_le_bytes(block.get(..SIZE_BYTES)?.try_into().ok()?);
    if usize::try_from(size).ok()? > MAX_PLAIN_BYTES {
        return None;
    }
    lz4_flex::block::decompress_size_prepended(block).ok()
}

/// Texts, each once.
#[derive(Default)]
struct Names<'a> {
    in_order: Vec<&'a str>,
    places: HashMap<&'a str, u64>,
}

impl<'a> Names<'a> {
    /// The number of a text: zero for none, otherwise its place from 1 on.
    fn number(&mut self, name: Option<&'a Arc<str>>) -> u64 {
        let Some(name) = name else { return 0 };
        let Self { in_order, places } = self;
        *places.entry(name).or_insert_with(|| {
            in_order.push(name);
            u64::try_from(in_order.len()).unwrap_or(u64::MAX)
        })
    }
}

/// The coarsest unit in which all times are whole numbers.
fn unit_ms(slots: &[OpenSlot]) -> u64 {
    let is_whole = |unit_ms: u64| {
        let mut times = slots.iter().flat_map(|slot| [slot.start, slot.end]);
        times.all(|at| unix_ms(at).is_multiple_of(unit_ms))
    };
    UNITS_MS.into_iter().find(|unit_ms| is_whole(*unit_ms)).unwrap_or(1)
}

fn plain(said: &KnownAvailability) -> Vec<u8> {
    let unit_ms = unit_ms(&said.slots);
    let mut names = Names::default();
    let mut columns: [Vec<u64>; COLUMNS] = Default::default();
    for slot in &said.slots {
        let start = unix_ms(slot.start) / unit_ms;
        let row = [
            start,
            (unix_ms(slot.end) / unit_ms).wrapping_sub(start),
            names.number(slot.resource_id.as_ref()),
            names.number(slot.service_id.as_ref()),
            slot.capacity.map_or(0, |capacity| u64::from(capacity).saturating_add(1)),
            names.number(slot.price.as_ref().map(|price| &price.currency)),
            slot.price.as_ref().map_or(0, |price| price.amount_minor),
            names.number(slot.availability_id.as_ref()),
        ];
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value);
        }
    }
    let mut writer = Writer::default();
    writer.number(unix_ms(said.window.from));
    writer.number(unix_ms(said.window.to));
    writer.text(said.zone.name());
    writer.count(names.in_order.len());
    for name in names.in_order {
        writer.text(name);
    }
    writer.count(said.slots.len());
    writer.number(unit_ms);
    for column in &columns {
        writer.column(column);
    }
    writer.0
}

fn said_of(reader: &mut Reader<'_>, as_of: Timestamp) -> Option<KnownAvailability> {
    let window = Window { from: reader.time()?, to: reader.time()? };
    let zone = Zone::parse(reader.text()?).ok()?;
    let names = reader.count(MAX_NAMES)?;
    let names: Vec<Arc<str>> = (0..names).map(|_| reader.text().map(Arc::from)).collect::<Option<_>>()?;
    let slots = reader.count(MAX_SLOTS)?;
    let unit_ms = reader.number()?;
    let mut columns: [Vec<u64>; COLUMNS] = Default::default();
    for column in &mut columns {
        *column = reader.column(slots)?;
    }
    let [starts, lengths, resources, services, capacities, currencies, amounts, ids] = columns;
    let time = |value: u64| timestamp(value.checked_mul(unit_ms)?);
    let slots = (0..slots).map(|row| {
        let start = *starts.get(row)?;
        let currency = name(&names, *currencies.get(row)?)?;
        let amount_minor = *amounts.get(row)?;
        Some(OpenSlot {
            start: time(start)?,
            end: time(start.wrapping_add(*lengths.get(row)?))?,
            resource_id: name(&names, *resources.get(row)?)?,
            service_id: name(&names, *services.get(row)?)?,
            capacity: capacities.get(row)?.checked_sub(1).map(u32::try_from).transpose().ok()?,
            price: currency.map(|currency| Price { amount_minor, currency }),
            availability_id: name(&names, *ids.get(row)?)?,
        })
    });
    let slots = slots.collect::<Option<Vec<_>>>()?;
    Some(KnownAvailability { as_of, window, zone, slots })
}

fn timestamp(unix_ms: u64) -> Option<Timestamp> {
    Timestamp::from_unix_ms(i64::try_from(unix_ms).ok()?).ok()
}

/// The text of a number; `None` if there is no such, and `Some(None)` if the number stands for none.
#[expect(clippy::option_option, reason = "damage and absence are two things")]
fn name(names: &[Arc<str>], number: u64) -> Option<Option<Arc<str>>> {
    let Some(place) = number.checked_sub(1) else { return Some(None) };
    names.get(usize::try_from(place).ok()?).cloned().map(Some)
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    /// Seven bits a byte, the lowest first.
    fn number(&mut self, mut number: u64) {
        while let rest @ 1.. = number >> BITS {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number = rest;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn count(&mut self, count: usize) {
        self.number(u64::try_from(count).unwrap_or(u64::MAX));
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend(text.as_bytes());
    }

    /// The first value, and by what each of the others differs from the one before: small numbers of either
    /// sign are small.
    fn column(&mut self, values: &[u64]) {
        let mut before = 0_u64;
        for value in values {
            let difference = value.wrapping_sub(before).cast_signed();
            self.number(((difference << 1) ^ (difference >> 63)).cast_unsigned());
            before = *value;
        }
    }
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        let mut shift = 0;
        loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits.checked_shl(shift)?;
            if shifted >> shift != bits {
                return None;
            }
            number |= shifted;
            if byte & 0x80 == 0 {
                return Some(number);
            }
            shift += BITS;
        }
    }

    fn count(&mut self, most: usize) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= most)
    }

    fn time(&mut self) -> Option<Timestamp> {
        timestamp(self.number()?)
    }

    fn text(&mut self) -> Option<&'a str> {
        let bytes = self.count(self.0.len())?;
        let (text, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn column(&mut self, rows: usize) -> Option<Vec<u64>> {
        let mut values = Vec::with_capacity(rows);
        let mut before = 0_u64;
        for _ in 0..rows {
            let number = self.number()?;
            let difference = (number >> 1) ^ (number & 1).wrapping_neg();
            before = before.wrapping_add(difference);
            values.push(before);
        }
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    const HALF_AN_HOUR_MS: u64 = 1_800_000;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    fn said(slots: Vec<OpenSlot>) -> KnownAvailability {
        let window = Window { from: at("2026-11-20T23:00:00Z"), to: at("2026-12-12T23:00:00Z") };
        let zone = Zone::parse("Europe/Rome").unwrap();
        KnownAvailability { as_of: at("2026-11-21T10:47:45.123Z"), window, zone, slots }
    }

    fn slot(number: u64) -> OpenSlot {
        let start = at("2026-11-21T08:00:00Z").plus_ms(number * HALF_AN_HOUR_MS);
        OpenSlot {
            start,
            end: start.plus_ms(HALF_AN_HOUR_MS),
            resource_id: None,
            service_id: None,
            capacity: None,
            price: None,
            availability_id: None,
        }
    }

    /// A slot with all there is.
    fn full(number: u64) -> OpenSlot {
        OpenSlot {
            resource_id: Some("dr-grey".into()),
            service_id: Some("first-visit".into()),
            capacity: Some(3),
            price: Some(Price { amount_minor: 4_950, currency: "EUR".into() }),
            availability_id: Some(format!("slot-{number}").into()),
            ..slot(number)
        }
    }

    fn unpacked(packed: &[u8]) -> Result<KnownAvailability, StoreError> {
        unpack(packed, said(Vec::new()).as_of)
    }

    fn is_corrupt(packed: &[u8]) -> bool {
        matches!(unpacked(packed), Err(StoreError::Corrupt(_)))
    }

    /// Packs bytes that are not what was said.
    fn sealed(plain: &[u8]) -> Vec<u8> {
        let block = lz4_flex::block::compress_prepend_size(plain);
        [&[FORMAT_1], sum(&block).as_slice(), &block].concat()
    }

    /// What was packed by the first version stays readable.
    #[test]
    fn the_first_format_is_read_back() {
        let packed = concat!(
            "0130376a4561000000f05280d3c0d99f3480a3f0e3a6340b4575726f70652f526f6d65050764722d677265790b666972",
            "73742d76697369740345555206736c6f742d3006736c6f742d3203e0d403c0b8c41c3c3c3c0000020102040304080708",
            "060506ac4dab4dac4d08070a",
        );
        let expected = said(vec![full(0), slot(1), full(2)]);
        assert_eq!(HEXLOWER.encode(&pack(&expected).unwrap()), packed);
        assert_eq!(unpacked(&HEXLOWER.decode(packed.as_bytes()).unwrap()), Ok(expected));
    }

    #[test]
    fn three_weeks_of_half_hours_take_a_few_bytes() {
        let packed = pack(&said((0..504).map(slot).collect())).unwrap();
        assert!(packed.len() < 100, "{} bytes", packed.len());
    }

    #[test]
    fn another_format_is_not_guessed_at() {
        let mut packed = pack(&said(vec![slot(1)])).unwrap();
        packed[0] = 2;
        let expected = "availability: a content of format 2".to_owned();
        assert_eq!(unpacked(&packed), Err(StoreError::Corrupt(expected)));
        assert!(is_corrupt(&[]));
    }

    #[test]
    fn a_block_of_gigabytes_is_not_unpacked() {
        let block = [255, 255, 255, 255, 0];
        assert!(is_corrupt(&[&[FORMAT_1], sum(&block).as_slice(), &block].concat()));
        let zeros = |bytes| lz4_flex::block::compress_prepend_size(&vec![0; bytes]);
        assert_eq!(plain_of(&zeros(MAX_PLAIN_BYTES)).map(|plain| plain.len()), Some(MAX_PLAIN_BYTES));
        assert_eq!(plain_of(&zeros(MAX_PLAIN_BYTES + 1)), None);
    }

    #[test]
    fn what_the_sum_lets_through_is_checked_all_the_same() {
        let whole = plain(&said(vec![full(1), slot(2)]));
        assert_eq!(unpacked(&sealed(&whole)), Ok(said(vec![full(1), slot(2)])));
        for end in 0..whole.len() {
            assert!(is_corrupt(&sealed(&whole[..end])), "{end}");
        }
        assert!(is_corrupt(&sealed(&[whole.as_slice(), &[0]].concat())), "something follows");
        let mut writer = Writer::default();
        for time in [0, 1] {
            writer.number(time);
        }
        writer.text("UTC");
        let head = writer.0;
        for rest in [
            // More texts than bytes, more slots than any location has, a text that there is not.
            [255_u8, 255, 3].as_slice(),
            &[0, 255, 255, 255, 15, 1],
            &[0, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0],
        ] {
            assert!(is_corrupt(&sealed(&[head.as_slice(), rest].concat())), "{rest:?}");
        }
        let nameless = [head.as_slice(), &[129, 241, 4], &vec![0; MAX_NAMES + 1], &[0, 1]].concat();
        assert!(is_corrupt(&sealed(&nameless)), "no location has so many texts");
        let zoneless = [&[0, 1, 4], b"Rome".as_slice(), &[0, 0, 1]].concat();
        assert!(is_corrupt(&sealed(&zoneless)), "the zone is unknown");
    }

    #[test]
    fn numbers_have_64_bits() {
        let number = |last: &[u8]| Reader(&[[255; 9].as_slice(), last].concat()).number();
        assert_eq!(number(&[1]), Some(u64::MAX));
        for last in [[2].as_slice(), &[127], &[129, 0], &[129, 1], &[]] {
            assert_eq!(number(last), None, "{last:?}");
        }
    }

    #[test]
    fn more_than_can_be_kept_is_refused() {
        let most = u64::try_from(MAX_SLOTS).unwrap();
        assert!(pack(&said((0..most).map(slot).collect())).is_ok());
        let expected = "availability: a location with 20001 slots, of at most 20000".to_owned();
        assert_eq!(pack(&said((0..=most).map(slot).collect())), Err(StoreError::Refused(expected)));
        // Names in which nothing repeats do not become smaller.
        let name = |number: u64| HEXLOWER.encode(digest(&SHA256, &number.to_be_bytes()).as_ref());
        let named = |number| OpenSlot { availability_id: Some(name(number).as_str().into()), ..slot(number) };
        let refused = pack(&said((0..most).map(named).collect()));
        assert!(
            matches!(&refused, Err(StoreError::Refused(text)) if text.contains("when packed")),
            "{refused:?}"
        );
        let long = |number: u64| OpenSlot {
            availability_id: Some(format!("{number:0300}").as_str().into()),
            ..slot(number)
        };
        let refused = pack(&said((0..most).map(long).collect()));
        assert!(matches!(&refused, Err(StoreError::Refused(text)) if text.contains("bytes")), "{refused:?}");
    }

    fn any_name() -> impl Strategy<Value = Option<Arc<str>>> {
        prop::option::of("[a-c]{0,2}|\\PC{0,12}".prop_map(Arc::from))
    }

    prop_compose! {
        fn any_slot()(
            // Whole minutes, whole seconds, neither, and one of both.
            times in prop_oneof![
                (0..4_000_000_u64, 0..600_u64).prop_map(|(start, length)| (start * 60_000, length * 60_000)),
                (0..4_000_000_u64, 0..600_u64).prop_map(|(start, length)| (start * 1_000, length * 1_000)),
                (0..253_402_300_799_999_u64, 0..600_u64),
                (0..4_000_000_u64, 0..600_u64).prop_map(|(start, length)| (start * 60_000, length)),
            ],
            names in (any_name(), any_name(), any_name()),
            capacity in prop::option::of(any::<u32>()),
            price in prop::option::of((any::<u64>(), "[A-Z]{3}")),
        ) -> OpenSlot {
            let start = Timestamp::EPOCH.plus_ms(times.0);
            OpenSlot {
                start,
                end: start.plus_ms(times.1),
                resource_id: names.0,
                service_id: names.1,
                capacity,
                price: price.map(|(amount_minor, currency)| Price { amount_minor, currency: currency.into() }),
                availability_id: names.2,
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_is_said_comes_back_exactly(slots in prop::collection::vec(any_slot(), 0..40)) {
            let said = said(slots);
            prop_assert_eq!(unpacked(&pack(&said).unwrap()), Ok(said));
        }

        #[test]
        fn any_damage_is_noticed(position in 0..60_usize, difference in 1..=u8::MAX) {
            let mut packed = pack(&said(vec![full(1), slot(2)])).unwrap();
            let position = position % packed.len();
            packed[position] ^= difference;
            prop_assert!(is_corrupt(&packed));
        }

        #[test]
        fn unpacking_is_total(plain in prop::collection::vec(any::<u8>(), 0..300)) {
            let _outcome = (unpacked(&plain), unpacked(&sealed(&plain)));
            let mut numbers = Reader(&plain);
            while numbers.number().is_some() {}
        }
    }
}
