//! The integration tests, one binary.
//!
//! The modules say `cfg(test)` although nothing else is compiled here: clippy takes them for tests by it.

#[cfg(test)]
mod access;
#[cfg(test)]
mod alarms;
#[cfg(test)]
mod availability_cost;
#[cfg(test)]
mod booking_cost;
#[cfg(test)]
mod client;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod dependencies;
#[cfg(test)]
mod deploying;
#[cfg(test)]
mod described;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod encryption;
#[cfg(test)]
mod end_to_end;
#[cfg(test)]
mod event_schemas;
#[cfg(test)]
mod hot_path;
#[cfg(test)]
mod observability;
#[cfg(test)]
mod receivers;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod skew;
