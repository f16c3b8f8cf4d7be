//! The integration tests, one binary.

#[cfg(test)]
mod contract;
#[cfg(test)]
mod end_to_end;
