//! A booking and its slots in one transaction, and what a transaction that was cancelled tells.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{CancellationReason, TransactWriteItem};
use data_encoding::HEXLOWER;
use holdfast_app::ports::{Entropy, SlotExchange, StoreError};
use holdfast_domain::BookingId;
use tokio::time::Instant;

use super::slots::exchange_of;
use crate::batch::jittered_ms;
use crate::item::{Bytes, SdkItem};
use crate::transact::{CALL, CONDITION_FAILED, PASSING_REASONS, Reply, send};

/// How often a write is tried that meets another one's transaction.
const MAX_TRIES: u32 = 8;

/// For how long after the first try others may begin, in milliseconds.
const TRIES_WINDOW_MS: u64 = 1_500;

/// The bound of the delay before the second try, in milliseconds; it doubles, with full jitter. All bounds
/// together stay within the window.
const FIRST_PAUSE_MS: u64 = 10;

/// The reason of an entry that is not to blame.
const NOT_TO_BLAME: &str = "None";

/// The tries of one write.
#[derive(Debug)]
pub(super) struct Tries {
    begun: Instant,
    made: u32,
}

impl Tries {
    /// Begins with the first try.
    pub(super) fn begin() -> Self {
        Self { begun: Instant::now(), made: 1 }
    }

    /// Waits for the next try; `false` if there have been enough.
    pub(super) async fn again(&mut self, entropy: &dyn Entropy) -> bool {
        let pause_ms = jittered_ms(entropy, FIRST_PAUSE_MS, self.made.saturating_sub(1));
        let (pause, window) = (Duration::from_millis(pause_ms), Duration::from_millis(TRIES_WINDOW_MS));
        if self.made >= MAX_TRIES || self.begun.elapsed().saturating_add(pause) > window {
            return false;
        }
        self.made = self.made.saturating_add(1);
        tokio::time::sleep(pause).await;
        true
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Written {
    /// It is written.
    Done,
    /// The booking's condition failed, and this is its item now; empty if there is none.
    Unmet(SdkItem),
    /// Another booking has a slot that was to be taken.
    SlotTaken,
}

/// A booking's write with the slots that change hands with it.
pub(super) struct SlotWrite<'a> {
    /// The client.
    pub(super) client: &'a Client,
    /// The table of bookings.
    pub(super) table: &'a str,
    /// For the delays between two tries.
    pub(super) entropy: &'a dyn Entropy,
    /// How long items are kept.
    pub(super) retention_ms: u64,
    /// The conditional write of the booking.
    pub(super) booking: TransactWriteItem,
    /// Which booking.
    pub(super) id: &'a BookingId,
    /// The write's nonce.
    pub(super) nonce: &'a Bytes,
}

/// What the reasons of a cancelled transaction come to.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    /// It is over.
    Written(Written),
    /// Others were in the way, or the table is throttled.
    Again,
    /// These slots that were to be given up, by their places, are another booking's.
    NotOurs(Vec<usize>),
    /// It will never do.
    Refused(StoreError),
}

impl SlotWrite<'_> {
    /// Writes the booking and exchanges slots: all of it or nothing. A slot that was to be given up and is
    /// another booking's stays as it is.
    pub(super) async fn write(&self, mut exchange: SlotExchange) -> Result<Written, StoreError> {
        let mut tries = Tries::begin();
        loop {
            let verdict = self.try_once(&exchange).await?;
            match verdict {
                Verdict::Written(written) => return Ok(written),
                Verdict::Refused(error) => return Err(error),
                // They are fewer each time.
                Verdict::NotOurs(places) => {
                    let slots = exchange.free.into_iter().enumerate();
                    exchange.free =
                        slots.filter(|(place, _)| !places.contains(place)).map(|(_, slot)| slot).collect();
                }
                Verdict::Again => {
                    if !tries.again(self.entropy).await {
                        return Err(StoreError::Unavailable(format!("{CALL}: others are in the way")));
                    }
                }
            }
        }
    }

    async fn try_once(&self, exchange: &SlotExchange) -> Result<Verdict, StoreError> {
        let slots = exchange_of(self.table, exchange, self.id, self.retention_ms)?;
        // The token stands for the very same request, and so for what it gives up.
        let token = format!("{}-{}", HEXLOWER.encode(&self.nonce.0), exchange.free.len());
        let actions = std::iter::once(self.booking.clone()).chain(slots).collect();
        Ok(match send(self.client, token, actions).await? {
            Reply::Done => Verdict::Written(Written::Done),
            Reply::InProgress => Verdict::Again,
            Reply::Cancelled(reasons) => verdict(&reasons, exchange.take.len()),
        })
    }
}

/// `reasons` are of the booking, of as many slots as were to be `taken`, and of those to be given up, in
/// this order. The booking's own comes before all else, so that nobody who was overtaken is told of slots.
fn verdict(reasons: &[CancellationReason], taken: usize) -> Verdict {
    let code = |reason: &CancellationReason| reason.code().unwrap_or(NOT_TO_BLAME).to_owned();
    let Some((booking, slots)) = reasons.split_first() else {
        return Verdict::Refused(StoreError::Refused(format!("{CALL}: no reasons")));
    };
    if code(booking) == CONDITION_FAILED {
        return Verdict::Written(Written::Unmet(booking.item().cloned().unwrap_or_default()));
    }
    if PASSING_REASONS.contains(&code(booking).as_str()) {
        return Verdict::Again;
    }
    let (to_take, to_free) = slots.split_at(taken.min(slots.len()));
    if to_take.iter().any(|reason| code(reason) == CONDITION_FAILED) {
        return Verdict::Written(Written::SlotTaken);
    }
    let others = reasons.iter().map(code);
    let mut others = others.filter(|code| code != NOT_TO_BLAME && code != CONDITION_FAILED);
    match others.next() {
        Some(code) if PASSING_REASONS.contains(&code.as_str()) => Verdict::Again,
        Some(code) => Verdict::Refused(StoreError::Refused(format!("{CALL}: {code}"))),
        None => {
            let to_free = to_free.iter().enumerate();
            let not_ours = to_free.filter(|(_, reason)| code(reason) == CONDITION_FAILED);
            let places: Vec<usize> = not_ours.map(|(place, _)| place).collect();
            if places.is_empty() {
                return Verdict::Refused(StoreError::Refused(format!("{CALL}: no reasons")));
            }
            Verdict::NotOurs(places)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::text;

    /// The same number over and over.
    #[derive(Debug)]
    struct Same;

    impl Entropy for Same {
        fn bytes16(&self) -> [u8; 16] {
            [0xff; 16]
        }
    }

    fn reasons(codes: &[&str]) -> Vec<CancellationReason> {
        codes.iter().map(|code| CancellationReason::builder().code(*code).build()).collect()
    }

    #[test]
    fn the_bookings_own_reason_comes_first() {
        let found = SdkItem::from([("rev".to_owned(), text("7"))]);
        let unmet =
            CancellationReason::builder().code(CONDITION_FAILED).set_item(Some(found.clone())).build();
        let slot = CancellationReason::builder().code(CONDITION_FAILED).build();
        assert_eq!(verdict(&[unmet, slot], 1), Verdict::Written(Written::Unmet(found)));
        assert_eq!(
            verdict(&reasons(&[CONDITION_FAILED, "TransactionConflict"]), 1),
            Verdict::Written(Written::Unmet(SdkItem::new()))
        );
        // Whether the booking's condition holds is not known while others are writing it.
        assert_eq!(verdict(&reasons(&["TransactionConflict", CONDITION_FAILED]), 1), Verdict::Again);
    }

    #[test]
    fn slots_are_told_apart() {
        let taken = Verdict::Written(Written::SlotTaken);
        assert_eq!(verdict(&reasons(&["None", "None", CONDITION_FAILED]), 2), taken);
        assert_eq!(verdict(&reasons(&["None", "ThrottlingError", CONDITION_FAILED]), 2), taken);
        assert_eq!(
            verdict(&reasons(&["None", "None", CONDITION_FAILED, "None", CONDITION_FAILED]), 1),
            Verdict::NotOurs(vec![0, 2])
        );
        for passing in PASSING_REASONS {
            assert_eq!(verdict(&reasons(&["None", passing]), 1), Verdict::Again);
        }
    }

    #[test]
    fn what_will_never_do_is_refused() {
        for codes in [&["None", "ValidationError"][..], &["ValidationError", "None"], &["None", "None"], &[]]
        {
            assert!(matches!(verdict(&reasons(codes), 1), Verdict::Refused(_)), "{codes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tries_are_bounded_in_number_and_time() {
        let begun = Instant::now();
        let mut tries = Tries::begin();
        let mut made = 1;
        while tries.again(&Same).await {
            made += 1;
        }
        assert_eq!(made, MAX_TRIES);
        assert!(begun.elapsed() <= Duration::from_millis(TRIES_WINDOW_MS));
        // What takes long by itself is not tried as often.
        let mut tries = Tries::begin();
        tokio::time::advance(Duration::from_millis(TRIES_WINDOW_MS)).await;
        assert!(!tries.again(&Same).await);
    }
}
