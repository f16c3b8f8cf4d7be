//! What `cargo fuzz` runs for as long as one likes, run for some seconds: every check over its corpus, over what
//! mutations make of the corpus, and over arbitrary bytes.
//!
//! The corpus is in `fuzz/corpus`, one folder a target. Its files are few and chosen: an ordinary input of each kind,
//! odd ones that are easily misread, and every input that a check ever failed on.

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod mutation;
#[cfg(test)]
mod targets;
