//! Every call of the function, from API Gateway's event to its answer, over the ports in memory.

mod administration;
mod documents;
mod endpoints;
mod harness;
mod roles;
