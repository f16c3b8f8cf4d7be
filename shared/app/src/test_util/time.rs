//! Time and randomness that tests control.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_domain::Timestamp;
use tokio::time::Instant;

use crate::ports::{Clock, Entropy};

/// A clock that goes with tokio's time, which a test may pause: what sleeps and what reads the clock
/// agree.
#[derive(Clone, Copy, Debug)]
pub struct TestClock {
    base: Timestamp,
    started: Instant,
    skew_ms: i64,
}

impl TestClock {
    /// A clock that shows `base` now.
    pub fn starting_at(base: Timestamp) -> Self {
        Self { base, started: Instant::now(), skew_ms: 0 }
    }

    /// The clock of another machine, which is ahead by so many milliseconds, or behind if negative.
    #[must_use]
    pub fn skewed_by_ms(self, skew_ms: i64) -> Self {
        Self { skew_ms: self.skew_ms.saturating_add(skew_ms), ..self }
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let now = self.base.plus_ms(elapsed_ms);
        if self.skew_ms < 0 {
            now.minus_ms(self.skew_ms.unsigned_abs())
        } else {
            now.plus_ms(self.skew_ms.unsigned_abs())
        }
    }
}

/// Random numbers that are the same in every run with the same seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub struct SeededEntropy(Arc<AtomicU64>);

impl SeededEntropy {
    /// The sequence of a seed. Clones go on with the same sequence.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    fn step(&self) -> u64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.0.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Entropy for SeededEntropy {
    fn bytes16(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.step().to_be_bytes());
        bytes[8..].copy_from_slice(&self.step().to_be_bytes());
        bytes
    }
}
