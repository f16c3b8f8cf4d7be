//! What tests look at the log by.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, Once};

use serde_json::Value;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

thread_local! {
    static HERE: RefCell<Sink> = RefCell::default();
}

/// Keeps what this thread logs from now on, whichever tests run beside it.
///
/// All threads have one subscriber: a place in the code that is passed for the first time asks only the subscriber of
/// its own thread whether it is wanted, as long as there is no more than one, and is silent for all others from then on.
pub(crate) fn logged_here() -> Sink {
    static SUBSCRIBED: Once = Once::new();
    SUBSCRIBED.call_once(|| {
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(Level::TRACE)
            .with_writer(|| HERE.with_borrow(Sink::clone))
            .init();
    });
    let sink = Sink::default();
    HERE.set(sink.clone());
    sink
}

/// Keeps what is logged. Copies share it.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let written = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        written.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Sink {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
