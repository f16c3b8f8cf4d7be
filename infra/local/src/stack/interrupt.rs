//! What ends a running stack from outside: Ctrl-C, a request to end, a closed terminal and, where asked for,
//! the end of standard input. Says that it came; ending things is for others.

use std::io::{self, Read};
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Watches for whatever ends the stack.
pub(super) struct Interrupt {
    signals: [Signal; 3],
    /// Ready when standard input has closed; absent where that is to be ignored.
    stdin_closed: Option<oneshot::Receiver<()>>,
}

impl Interrupt {
    pub(super) fn new(until_stdin_closes: bool) -> io::Result<Self> {
        let signals = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ];
        let stdin_closed = until_stdin_closes.then(watch_stdin).transpose()?;
        Ok(Self { signals, stdin_closed })
    }

    /// Waits until the stack is to end.
    pub(super) async fn received(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        let stdin_closed = async {
            match &mut self.stdin_closed {
                // The watcher ends at the end of standard input, whether or not its word arrives.
                Some(closed) => drop(closed.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            () = stdin_closed => {}
        }
    }
}

/// Reads standard input to its end on a thread of its own, which the end of the process does not wait for.
/// The runtime's own standard input would hold up that end until something is typed.
fn watch_stdin() -> io::Result<oneshot::Receiver<()>> {
    let (closed, receiver) = oneshot::channel();
    thread::Builder::new().name("stdin-watch".to_owned()).spawn(move || {
        let mut ignored = [0; 1024];
        let mut stdin = io::stdin().lock();
        // What cannot be read any more is as good as closed.
        while stdin.read(&mut ignored).is_ok_and(|bytes| bytes > 0) {}
        closed.send(()).ok();
    })?;
    Ok(receiver)
}
