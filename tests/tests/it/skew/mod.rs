//! Old and new code side by side: everything that one version writes and another one reads.
//!
//! - **Backward**: `tests/golden` holds what versions of the code have written. The files are only ever added to
//!   ([`manifest`]); each is read by today's reader and says exactly the value that stands here.
//! - **Forward**: `tests/profiles` says, for each kind of item and message and each of its formats, what a reader of
//!   that format requires and understands, as a JSON Schema over the raw form. What today's writers write has to fit.
//!   A profile is as little changed as a golden file: a writer that needs more needs another format, or has to come
//!   after its readers.
//! - What a version does not know (attributes, letters, kinds, formats) is passed over where that is harmless, and
//!   otherwise an error: never something else.

#![cfg(test)]

mod bookings;
mod cases;
pub(crate) mod generated;
mod items;
mod manifest;
mod messages;
mod profiles;
mod tokens;

use std::path::PathBuf;

/// The folder of files that tests read.
fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn golden(file: &str) -> String {
    let path = folder("golden").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
