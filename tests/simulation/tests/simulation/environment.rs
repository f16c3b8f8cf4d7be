//! What the commands that are told to people let them choose.

/// A number from the environment.
#[allow(clippy::disallowed_methods, reason = "the one place where the simulation reads it")]
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// Whether the first world that fails is enough to know, untold: that is so of mutants.
pub(crate) fn fails_fast() -> bool {
    number("FAIL_FAST").is_some_and(|wish| wish > 0)
}
