//! The clock and the random numbers of the machine: the one place for each.

use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_app::ports::{Clock, Entropy};
use holdfast_domain::Timestamp;

/// The machine's time of day.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// Now. A clock set before 1970 or after 9999 gives the epoch: every lease and deadline then lies
    /// ahead, so that nothing is sent or given up on the word of a broken clock.
    fn now(&self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis())
            .ok()
            .and_then(|unix_ms| Timestamp::from_unix_ms(unix_ms).ok())
            .unwrap_or(Timestamp::EPOCH)
    }
}

/// The operating system's random numbers, fit for keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// Sixteen random bytes.
    ///
    /// # Panics
    ///
    /// If the operating system has none. No identifier or key may be made then, and the runner of every
    /// function answers a panic as an internal failure.
    fn bytes16(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        if let Err(error) = getrandom::fill(&mut bytes) {
            tracing::error!(%error, "The operating system gives no random numbers.");
            panic!("no random numbers");
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_right_to_the_century_and_numbers_differ() {
        assert!(SystemClock.now() > Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap());
        assert_ne!(SystemEntropy.bytes16(), SystemEntropy.bytes16());
    }
}
