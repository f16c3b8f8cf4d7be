//! The use cases of bookings over in-memory ports, in virtual time: what callers and providers have to see
//! ([`use_cases`]), and the simulation of whole worlds in which things go wrong.
//!
//! [`bench`] holds the ports together and plays the parts of stream, queue, timers and sweep; [`checks`] says what
//! has to hold. Nothing here knows HTTP or Amazon.
//!
//! The modules say `cfg(test)` although nothing else is compiled here: clippy takes them for tests by it.

#[cfg(test)]
mod actors;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod checks;
#[cfg(test)]
mod environment;
#[cfg(test)]
mod exhaustive;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod mutants;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod people;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod play;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod shrink;
#[cfg(test)]
mod timers;
#[cfg(test)]
mod use_cases;
