//! Who gets in, and how far, for every call of the API: keys, roles, modes and tenants.
//!
//! The four functions that answer the API run here in one process, over the DynamoDB adapters and an embedded
//! DynamoDB whose every call is noted and whose tables are compared, byte by byte. The calls are taken from the
//! description ([`calls`]): one that is added there is not let through until it is said here who may make it and
//! whose things it names.

#![cfg(test)]

mod calls;
mod counting;
mod doors;
mod process;
mod tenants;
mod world;
