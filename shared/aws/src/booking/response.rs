//! The bytes of a frozen response, packed.
//!
//! A response to a create is JSON of a known shape, most of which a dictionary of such shapes already
//! holds: LZ4 against the dictionary leaves little more than what is particular to the booking. The first
//! byte says how the rest is packed, and a dictionary never changes once items were written with it.

/// The body as it is.
const PLAIN: u8 = 0;

/// LZ4 block, preceded by the size, against [`DICTIONARY_1`].
const LZ4_DICTIONARY_1: u8 = 1;

/// The largest body that is unpacked, in bytes: twice what a request may have, and more than any answer.
const MAX_BODY_BYTES: usize = 131_072;

/// The bytes of the size that precedes an LZ4 block, little-endian.
const SIZE_BYTES: usize = 4;

/// Shapes of answers to a create: problems first and the booking last, because near matches cost less.
const DICTIONARY_1: &[u8] = br#"{"code":"provider_failed","detail":"The provider failed within the time limit.","instance":"/v1/bookings","request_id":"","side_effects":"unknown","status":502,"title":"The provider failed","type":"/problems/provider_failed"}{"booking_id":"bkg_","code":"provider_timeout","detail":"The provider did not answer within the time limit.","instance":"/v1/bookings","request_id":"","side_effects":"unknown","status":504,"title":"The provider did not answer in time","type":"/problems/provider_timeout"}{"booking_id":"bkg_","code":"booking_declined","detail":"The provider declined the booking.","instance":"/v1/bookings","rejection":{"code":"slot_taken","message":"","provider_code":""},"request_id":"","side_effects":"none","status":409,"title":"The provider declined the booking","type":"/problems/booking_declined"},"cancellation":{"by":"system","reason":"provider_timeout","note":null},"operation":{"kind":"book","attempts":1,"next_attempt_at":"2027-","deadline_at":"2027-","last_error":"timed_out"},"version":1,"resource_id":"","service_id":"","status":"reserved","status":"pending","expires_at":"2026-"rejection":{"code":"","message":null,"provider_code":null}{"id":"bkg_","status":"confirmed","provider_id":"","slot":{"location_id":"","start":"2026-11-21T09:00:00Z","end":"2027-01-15T09:30:00Z"},"reference":null,"metadata":{},"provider_reference":null,"provider_reference":"","expires_at":null,"rejection":null,"cancellation":null,"operation":null,"version":2,"created_at":"2026-11-2","updated_at":"2026-11-2"}"#;

/// Packs a body; as it is if packing would not make it smaller.
pub(super) fn pack(body: &[u8]) -> Vec<u8> {
    let compressed = lz4_flex::block::compress_prepend_size_with_dict(body, DICTIONARY_1);
    let (format, content) = if compressed.len() < body.len() && body.len() <= MAX_BODY_BYTES {
        (LZ4_DICTIONARY_1, compressed.as_slice())
    } else {
        (PLAIN, body)
    };
    let mut packed = Vec::with_capacity(content.len().saturating_add(1));
    packed.push(format);
    packed.extend_from_slice(content);
    packed
}

/// Unpacks a body, exactly; `None` if it is not one that this version of the code can unpack.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let (format, content) = packed.split_first()?;
    match *format {
        PLAIN => Some(content.to_vec()),
        LZ4_DICTIONARY_1 => {
            // The size is looked at first, so that a damaged item does not make room for gigabytes.
            let size = u32::from_le_bytes(content.get(..SIZE_BYTES)?.try_into().ok()?);
            if usize::try_from(size).ok()? > MAX_BODY_BYTES {
                return None;
            }
            lz4_flex::block::decompress_size_prepended_with_dict(content, DICTIONARY_1).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = r#"{"id":"bkg_0a1b2c3d4e5f6g7h8i9j0k1l2m","status":"confirmed","provider_id":"demo-clinic","slot":{"location_id":"main-street","start":"2027-01-15T09:00:00Z","end":"2027-01-15T09:30:00Z"},"reference":"order-1001","metadata":{},"provider_reference":"sim-000017","expires_at":null,"rejection":null,"cancellation":null,"operation":null,"version":2,"created_at":"2026-11-21T10:47:45.123Z","updated_at":"2026-11-21T10:47:45.321Z"}"#;

    #[test]
    fn an_ordinary_answer_shrinks_to_less_than_half() {
        let packed = pack(EXAMPLE.as_bytes());
        assert!(packed.len() * 2 < EXAMPLE.len(), "{} of {}", packed.len(), EXAMPLE.len());
        assert_eq!(unpack(&packed).unwrap(), EXAMPLE.as_bytes());
    }

    /// What was packed by the first version stays readable: the dictionary must never change.
    #[test]
    fn the_dictionary_is_the_one_that_items_were_written_with() {
        let sum =
            DICTIONARY_1.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        assert_eq!((DICTIONARY_1.len(), sum), (1_512, 195_823_990));
    }

    #[test]
    fn damage_is_noticed() {
        assert_eq!(unpack(&[]), None);
        assert_eq!(unpack(&[9, 1, 2]), None);
        assert_eq!(unpack(&[LZ4_DICTIONARY_1, 255, 255, 255, 255, 0]), None);
        assert_eq!(unpack(&[LZ4_DICTIONARY_1, 1]), None);
    }

    proptest! {
        #[test]
        fn any_body_comes_back_exactly(body in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert_eq!(unpack(&pack(&body)), Some(body));
        }

        #[test]
        fn any_text_in_an_answer_comes_back_exactly(text in "\\PC{0,200}") {
            let body = EXAMPLE.replace("order-1001", &text).into_bytes();
            prop_assert_eq!(unpack(&pack(&body)), Some(body));
        }

        #[test]
        fn unpacking_is_total(packed in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _body = unpack(&packed);
        }
    }
}
