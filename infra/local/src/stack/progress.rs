//! What the user sees while the stack starts: one line per step, with the time since the start.

use std::io::{self, Write};
use std::time::Instant;

/// Prints steps to standard output.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Says what is done next.
    pub(super) fn step(&self, what: &str) {
        let elapsed = self.start.elapsed();
        say(&format!("[{:>4}.{} s] {what}", elapsed.as_secs(), elapsed.subsec_millis() / 100));
    }
}

/// Prints one piece of text and a line end.
pub(super) fn say(text: &str) {
    let mut out = io::stdout().lock();
    // Nobody may be reading any more (a closed pipe); the stack itself does not depend on it.
    writeln!(out, "{text}").and_then(|()| out.flush()).ok();
}
