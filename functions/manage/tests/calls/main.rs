//! Every call of the function, from API Gateway's event to its answer, over the ports in memory.

mod administration;
mod documents;
#[cfg(test)]
mod endpoint_life;
mod endpoints;
#[cfg(test)]
mod feed;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod locations;
#[cfg(test)]
mod providers;
mod roles;
