//! The checks of `tests/tests/fuzzing`, for the programs of `cargo fuzz`.

#[path = "../../tests/tests/fuzzing/targets/mod.rs"]
mod targets;

/// Runs the check of a target.
///
/// # Panics
///
/// If what the target promises does not hold, or there is no such target.
pub fn check(target: &str, data: &[u8]) {
    let found = targets::TARGETS.iter().find(|(name, _)| *name == target);
    found.unwrap_or_else(|| panic!("there is no target {target}")).1(data);
}
