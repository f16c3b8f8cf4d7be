//! What the commands that are told to people let them choose.

/// A number from the environment.
#[allow(clippy::disallowed_methods, reason = "the one place where the simulation reads it")]
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}
