//! The integration tests, one binary.

mod end_to_end;
