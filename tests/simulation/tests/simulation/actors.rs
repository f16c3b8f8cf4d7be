//! Those who act in a world: workers, consumers, the function that drains the stream. One that dies or stands
//! still does so as a whole, whatever it was waiting for at that moment.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::task_local;
use tokio::time::{Sleep, sleep};

task_local! {
    static CURRENT: Actor;
}

#[derive(Debug)]
struct Fate {
    is_dead: AtomicBool,
    frozen_for_ms: AtomicU64,
}

/// One that acts: a process with one piece of work.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    name: Arc<str>,
    fate: Arc<Fate>,
}

impl Actor {
    pub(crate) fn new(name: impl Into<Arc<str>>) -> Self {
        let fate = Fate { is_dead: AtomicBool::new(false), frozen_for_ms: AtomicU64::new(0) };
        Self { name: name.into(), fate: Arc::new(fate) }
    }

    /// The one whose work makes this call.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// It will not go on.
    pub(crate) fn die(&self) {
        self.fate.is_dead.store(true, Ordering::Relaxed);
    }

    /// It stands still for so long, its own time limits included.
    pub(crate) fn freeze(&self, for_ms: u64) {
        self.fate.frozen_for_ms.store(for_ms, Ordering::Relaxed);
    }

    /// Does its work; `None` if it died.
    pub(crate) async fn live<T>(self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(CURRENT.scope(self.clone(), work));
        let mut thaw: Option<std::pin::Pin<Box<Sleep>>> = None;
        std::future::poll_fn(|context| {
            loop {
                if let Some(frozen) = &mut thaw {
                    if frozen.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    thaw = None;
                }
                if let Poll::Ready(done) = work.as_mut().poll(context) {
                    return Poll::Ready(Some(done));
                }
                if self.fate.is_dead.load(Ordering::Relaxed) {
                    return Poll::Ready(None);
                }
                let for_ms = self.fate.frozen_for_ms.swap(0, Ordering::Relaxed);
                if for_ms == 0 {
                    return Poll::Pending;
                }
                thaw = Some(Box::pin(sleep(Duration::from_millis(for_ms))));
            }
        })
        .await
    }
}
