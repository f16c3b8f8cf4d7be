//! When an attempt that failed is made again: exponential backoff with full jitter.
//!
//! The random number is handed in, so that the schedule is a function and a simulation can replay it.

/// The longest first delay that a policy may have, in milliseconds.
const MAX_FIRST_DELAY_MS: u64 = 5_000;

/// The longest delay between two attempts that a policy may have, in milliseconds.
const MAX_MAX_DELAY_MS: u64 = 3_600_000;

/// The largest growth from one delay to the next.
const MAX_FACTOR: u32 = 10;

/// How long to wait between attempts. Full jitter, that is a delay drawn evenly from zero to the bound,
/// spreads a crowd of retries best (AWS Architecture Blog, "Exponential Backoff And Jitter").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    first_delay_ms: u64,
    factor: u32,
    max_delay_ms: u64,
}

/// What is wrong with a retry policy's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetryPolicyError {
    /// The first delay is zero or over its limit.
    #[error("first_delay_millisecond must be 1 to {MAX_FIRST_DELAY_MS}")]
    FirstDelay,
    /// The factor is zero or over its limit.
    #[error("factor must be 1 to {MAX_FACTOR}")]
    Factor,
    /// The cap is below the first delay or over its limit.
    #[error("max_delay_millisecond must be first_delay_millisecond to {MAX_MAX_DELAY_MS}")]
    MaxDelay,
}

impl RetryPolicy {
    /// What holds where a provider has no policy of its own: first 5 s, doubling, at most 5 min.
    pub const DEFAULT: Self = Self { first_delay_ms: MAX_FIRST_DELAY_MS, factor: 2, max_delay_ms: 300_000 };

    /// Makes a policy; all delays in milliseconds.
    pub fn new(first_delay_ms: u64, factor: u32, max_delay_ms: u64) -> Result<Self, RetryPolicyError> {
        if !(1..=MAX_FIRST_DELAY_MS).contains(&first_delay_ms) {
            return Err(RetryPolicyError::FirstDelay);
        }
        if !(1..=MAX_FACTOR).contains(&factor) {
            return Err(RetryPolicyError::Factor);
        }
        if !(first_delay_ms..=MAX_MAX_DELAY_MS).contains(&max_delay_ms) {
            return Err(RetryPolicyError::MaxDelay);
        }
        Ok(Self { first_delay_ms, factor, max_delay_ms })
    }

    /// The first delay's bound, in milliseconds.
    pub fn first_delay_ms(&self) -> u64 {
        self.first_delay_ms
    }

    /// By how much the bound grows from one delay to the next.
    pub fn factor(&self) -> u32 {
        self.factor
    }

    /// The largest bound, in milliseconds.
    pub fn max_delay_ms(&self) -> u64 {
        self.max_delay_ms
    }

    /// The bound of the delay after `attempts` attempts (one or more), in milliseconds.
    pub fn delay_bound_ms(&self, attempts: u32) -> u64 {
        let growth = u64::from(self.factor).saturating_pow(attempts.saturating_sub(1));
        self.first_delay_ms.saturating_mul(growth).min(self.max_delay_ms)
    }

    /// The delay after `attempts` attempts, in milliseconds: drawn by `random`, which is evenly
    /// distributed over all 64-bit numbers, from zero to the bound, but never below
    /// `retry_after_ms`, which the provider asked for.
    pub fn delay_ms(&self, attempts: u32, random: u64, retry_after_ms: Option<u64>) -> u64 {
        let bound_ms = self.delay_bound_ms(attempts);
        let jittered_ms = random % bound_ms.saturating_add(1);
        jittered_ms.max(retry_after_ms.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_double_until_the_cap() {
        let bounds: Vec<u64> =
            (1..=8).map(|attempts| RetryPolicy::DEFAULT.delay_bound_ms(attempts)).collect();
        assert_eq!(bounds, [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
    }

    #[test]
    fn a_policy_tells_the_numbers_that_it_was_made_of() {
        let policy = RetryPolicy::new(700, 3, 90_000).unwrap();
        assert_eq!((policy.first_delay_ms(), policy.factor(), policy.max_delay_ms()), (700, 3, 90_000));
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        assert_eq!(RetryPolicy::new(0, 2, 10), Err(RetryPolicyError::FirstDelay));
        assert_eq!(RetryPolicy::new(5_001, 2, 10_000), Err(RetryPolicyError::FirstDelay));
        assert_eq!(RetryPolicy::new(1, 0, 10), Err(RetryPolicyError::Factor));
        assert_eq!(RetryPolicy::new(10, 2, 9), Err(RetryPolicyError::MaxDelay));
    }

    proptest! {
        #[test]
        fn a_delay_keeps_its_bounds(
            first in 1_u64..=MAX_FIRST_DELAY_MS,
            factor in 1_u32..=MAX_FACTOR,
            extra in 0_u64..=1_000_000,
            attempts in any::<u32>(),
            random in any::<u64>(),
            retry_after in proptest::option::of(0_u64..=10_000_000),
        ) {
            let policy = RetryPolicy::new(first, factor, first + extra).unwrap();
            let delay = policy.delay_ms(attempts, random, retry_after);
            prop_assert!(delay >= retry_after.unwrap_or(0));
            prop_assert!(delay <= policy.max_delay_ms().max(retry_after.unwrap_or(0)));
        }
    }
}
