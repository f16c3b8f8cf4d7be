//! Temporary.
#[cfg(test)]
#[path = "it/end_to_end/mod.rs"]
mod end_to_end;
