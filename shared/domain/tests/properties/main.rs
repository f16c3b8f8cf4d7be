//! Properties of the pure core, over bookings that commands can really lead to.
//!
//! [`world`] plays random moves on a booking and remembers what truly happened to each attempt; the other
//! modules say what has to hold whatever the moves were. Nothing here knows storage or providers.

#[cfg(test)]
mod beginning;
#[cfg(test)]
mod compensation;
#[cfg(test)]
mod edges;
#[cfg(test)]
mod effects;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod history;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod moves;
#[cfg(test)]
mod names;
#[cfg(test)]
mod notifications;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod provider;
#[cfg(test)]
mod settled;
#[cfg(test)]
mod slots;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod truth;
#[cfg(test)]
mod world;
