//! Where lines of log go: to standard output, those of one piece of work together when it is done; of a request,
//! when its answer has been taken (`runtime`).
//!
//! Each write wakes whoever reads the log (infra/decisions/0015-log-lines-are-written-together.md). A warning or an error
//! is written at once, with what came before it, so that nothing of what led to it is missing if the process ends there.

use std::cell::RefCell;
use std::io::{self, Write};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How much is kept before the work is done, in bytes; with more it is written.
const MAX_KEPT_BYTES: usize = 16 * 1_024;

/// Room for what most requests say, in bytes.
const USUAL_BYTES: usize = 2 * 1_024;

tokio::task_local! {
    static KEPT: Kept;
}

type Sink = fn(&[u8]) -> io::Result<()>;

/// The lines of a piece of work. What is left of them is written when it ends, whichever way.
struct Kept {
    lines: RefCell<Vec<u8>>,
    sink: Sink,
}

impl Kept {
    fn until_written_to(sink: Sink) -> Self {
        Self { lines: RefCell::default(), sink }
    }

    fn push(&self, lines: &[u8], is_urgent: bool) -> io::Result<()> {
        // It is borrowed if the sink says something.
        let Ok(mut kept) = self.lines.try_borrow_mut() else { return (self.sink)(lines) };
        if kept.is_empty() {
            kept.reserve(USUAL_BYTES);
        }
        kept.extend_from_slice(lines);
        if !is_urgent && kept.len() <= MAX_KEPT_BYTES {
            return Ok(());
        }
        let written = (self.sink)(&kept);
        kept.clear();
        written
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let lines = self.lines.get_mut();
        if !lines.is_empty()
            && let Err(error) = (self.sink)(lines)
        {
            // The log is what cannot be written. That this can be neither has nobody left to be told.
            writeln!(io::stderr(), "Log lines and metrics could not be written: {error}").ok();
        }
    }
}

fn to_stdout(lines: &[u8]) -> io::Result<()> {
    #[cfg(test)]
    tests::WRITTEN_HERE.with_borrow_mut(|written| written.extend_from_slice(lines));
    io::stdout().lock().write_all(lines)
}

/// Does a piece of work; what it says meanwhile is written when it is done, or dropped.
pub(crate) fn together<F: Future>(doing: F) -> impl Future<Output = F::Output> {
    KEPT.scope(Kept::until_written_to(to_stdout), doing)
}

/// Writes whole lines: with those of the current piece of work, or at once where there is none.
pub(crate) fn write_lines(lines: &[u8]) -> io::Result<()> {
    output(lines, false)
}

fn output(lines: &[u8], is_urgent: bool) -> io::Result<()> {
    KEPT.try_with(|kept| kept.push(lines, is_urgent)).unwrap_or_else(|_| to_stdout(lines))
}

/// Takes up the lines of `tracing`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOutput;

/// Takes up one line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineOutput {
    is_urgent: bool,
}

impl MakeWriter<'_> for LogOutput {
    type Writer = LineOutput;

    fn make_writer(&self) -> LineOutput {
        LineOutput { is_urgent: true }
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> LineOutput {
        LineOutput { is_urgent: *metadata.level() <= Level::WARN }
    }
}

impl Write for LineOutput {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        output(line, self.is_urgent)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    thread_local! {
        /// What was written to standard output on this thread.
        pub(crate) static WRITTEN_HERE: RefCell<Vec<u8>> = RefCell::default();
    }

    /// What is written by one test at a time.
    static WRITTEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[expect(clippy::unnecessary_wraps, reason = "a sink may fail")]
    fn to_list(lines: &[u8]) -> io::Result<()> {
        let text = String::from_utf8(lines.to_vec()).unwrap();
        WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        Ok(())
    }

    fn written() -> Vec<String> {
        WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// All of it in one test, since what is written is shared.
    #[tokio::test]
    async fn lines_of_one_piece_of_work_are_written_together() {
        let keeping = |doing| KEPT.scope(Kept::until_written_to(to_list), doing);
        let say = |line: &str, level: Level| {
            let mut output = LineOutput { is_urgent: level <= Level::WARN };
            output.write_all(line.as_bytes()).unwrap();
        };

        keeping(Box::pin(async {
            say("begun\n", Level::INFO);
            tokio::task::yield_now().await;
            write_lines(b"measured\n").unwrap();
            assert!(written().is_empty(), "before it is done");
        }) as std::pin::Pin<Box<dyn Future<Output = ()>>>)
        .await;
        assert_eq!(written(), ["begun\nmeasured\n"], "once");

        keeping(Box::pin(async {
            say("begun\n", Level::DEBUG);
            say("wrong\n", Level::ERROR);
            assert_eq!(written(), ["begun\nwrong\n"], "at once, with what led to it");
            say("odd\n", Level::WARN);
            assert_eq!(written(), ["odd\n"]);
        }))
        .await;
        assert!(written().is_empty(), "nothing is left");

        let line = "x".repeat(MAX_KEPT_BYTES);
        keeping(Box::pin(async {
            say(&line, Level::INFO);
            assert!(written().is_empty());
            say("more\n", Level::INFO);
            assert_eq!(written().concat().len(), line.len() + 5, "too much to keep");
        }))
        .await;

        let mut broken_off = Box::pin(keeping(Box::pin(async {
            say("begun\n", Level::INFO);
            std::future::pending::<()>().await;
        })));
        assert!(futures_util::poll!(&mut broken_off).is_pending());
        assert!(written().is_empty());
        drop(broken_off);
        assert_eq!(written(), ["begun\n"], "what was dropped has said it nevertheless");
    }

    #[test]
    fn warnings_and_errors_are_urgent() {
        let subscriber = tracing_subscriber::fmt().with_max_level(Level::TRACE).finish();
        tracing::subscriber::with_default(subscriber, || {
            let urgent = |span: tracing::Span| LogOutput.make_writer_for(span.metadata().unwrap()).is_urgent;
            assert!(urgent(tracing::error_span!("a")) && urgent(tracing::warn_span!("b")));
            assert!(!urgent(tracing::info_span!("c")) && !urgent(tracing::debug_span!("d")));
        });
    }
}
