//! The protocol of one booking, explored exhaustively: every order of events within stated bounds.
//!
//! What changes the booking is the domain's own code: `transition`, `next_step`, `effects`, `Booking::judge` and
//! the rest run here as they run live. The model adds the world around them ([`world`]): the store with its
//! conditional writes, timers and the sweep, a provider that keeps the contract ([`provider`]), and workers that
//! take the steps of the engine's use cases one by one ([`steps`], [`worker`]).
//!
//! **Bounds.** One booking in `confirm` mode; one or two creates under one idempotency key; up to two changes
//! (a confirmation of a hold, a cancel), each at any moment; two timers worked on at once; and two or three
//! **faults**, which are: a worker frozen at any of its steps, for a while or for good (one that crashed there, or
//! whose write or answer was lost); a timer late, lost, or doubled; a request that is not sent, whose answer is
//! lost, that arrives when its sender has given up, or never; a decline; a request that is accepted and decided
//! later; a look-up that fails; an open circuit; a provider that tells again what it has said, changes its mind,
//! or withdraws. Every way in which that many of them can happen is explored.
//!
//! **Time** goes from one moment that matters to the next ([`world::World::next_moment`]): the ends of leases,
//! limits, delays, windows and holds. It stands still while anything that is on time has still to be done.
//!
//! **Not modelled**: clocks that differ; `notify` and `real_time`; `extend` and `reschedule`; idempotency records
//! of changes, and the bytes of responses; exclusive slots; breakers and limits, except that an attempt may be put
//! off; more than one booking; a store that loses what it has acknowledged. The seeded simulation beside this
//! (`use_cases::simulation`) runs the real use cases through those.
//!
//! A property that does not hold is told with the shortest story that was found to break it. What is counted and
//! how long it took is shown by `--nocapture`. One fault more takes many minutes:
//! `cargo test -p holdfast-tests --test model -- --ignored --nocapture`.

#[cfg(test)]
mod actions;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod checked;
#[cfg(test)]
mod explorations;
#[cfg(test)]
mod item;
#[cfg(test)]
mod provider;
#[cfg(test)]
mod reached;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod story;
#[cfg(test)]
mod worker;
#[cfg(test)]
mod world;
