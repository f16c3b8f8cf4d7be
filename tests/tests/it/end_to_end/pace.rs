//! How many tests are under way at once: as many as the machine keeps up with.
//!
//! Functions wait for Amazon a second at most, as deployed, and the emulator is one process. On a slow machine as
//! many tests as on a fast one would meet time limits that no user meets. Therefore a test begins only while the
//! emulators answer soon, unless few others are under way, and none while they are overloaded; one after the other,
//! so that each is felt before the next. Those who come at once in a test, in a crowd, are let in likewise.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use holdfast_local::stack_file::StackFile;

use super::stack::{rough_if_started, stack, tell};

/// So many tests are always under way, if there are so many, unless the emulator is overloaded.
const FEWEST: usize = 4;
/// How soon an emulator answers that keeps up.
const KEEPS_UP: Duration = Duration::from_millis(75);
/// How late one answers that is overloaded: with a few such answers each request of a function meets its time limit.
/// Whatever began then would fail, and leave behind what keeps the emulator busy for those after it.
const OVERLOADED: Duration = Duration::from_millis(300);
/// How often in all that holds a test back, at most: for some ten minutes.
const MAX_RELIEFS: usize = 3_000;
/// How often emulators are asked, and how often a test looks what they said.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How many times as long as an answer took the next test waits: the slower all is, the later a test is felt.
const FELT_AFTER: u32 = 20;
/// For how long it counts how late an answer was.
const REMEMBERED: Duration = Duration::from_secs(2);
/// How long an answer is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// A test that was held back for longer is told of.
const LONG: Duration = Duration::from_mins(1);

/// So many answers in a row come soon from an emulator that is calm.
const CALM_ANSWERS: usize = 15;
/// For how long nobody is let in at most, and for how long it is waited for calm. What is then too slow fails in the
/// test that asks for it.
const DOOR_LIMIT: Duration = Duration::from_secs(10);
const CALM_LIMIT: Duration = Duration::from_mins(3);

/// Tests that would begin.
static HELD_BACK: AtomicUsize = AtomicUsize::new(0);
/// How often nobody began because the emulator was overloaded.
static RELIEFS: AtomicUsize = AtomicUsize::new(0);
/// Which of them looks.
static NEXT: Mutex<()> = Mutex::new(());

/// Waits until another test may begin. `under_way` says how many are, with those that are held back.
pub(super) fn hold_back(under_way: impl Fn() -> usize) {
    HELD_BACK.fetch_add(1, Ordering::Relaxed);
    let begun = Instant::now();
    let next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    let emulators = emulators();
    loop {
        let others = under_way().saturating_sub(HELD_BACK.load(Ordering::Relaxed));
        let slowest = emulators.slowest();
        if slowest < KEEPS_UP {
            break;
        }
        if others < FEWEST && (slowest < OVERLOADED || RELIEFS.fetch_add(1, Ordering::Relaxed) >= MAX_RELIEFS)
        {
            break;
        }
        thread::sleep(ASK_AGAIN);
    }
    HELD_BACK.fetch_sub(1, Ordering::Relaxed);
    if under_way() > FEWEST {
        thread::sleep(ASK_AGAIN.max(FELT_AFTER * emulators.slowest()).min(REMEMBERED));
    }
    drop(next);
    if begun.elapsed() > LONG {
        tell(&format!(
            "A test was held back for {} s, until the emulator kept up.",
            begun.elapsed().as_secs()
        ));
    }
}

/// Waits until a stack's emulator answers soon, one caller after the other: on a fast machine they come within seconds, on
/// a slow one as fast as it takes them in.
pub(super) async fn let_in(stack: &'static StackFile) {
    static DOOR: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _first = DOOR.lock().await;
    let deadline = Instant::now() + DOOR_LIMIT;
    loop {
        let took = answer_time(stack).await;
        // A caller costs more than the asking.
        tokio::time::sleep((FELT_AFTER * took).min(REMEMBERED)).await;
        if took < KEEPS_UP || Instant::now() > deadline {
            break;
        }
    }
}

/// Waits until a stack has worked off what others have left behind, so that its emulator answers soon for a while.
pub(super) async fn calm(stack: &'static StackFile) {
    let deadline = Instant::now() + CALM_LIMIT;
    let mut in_a_row = 0;
    while in_a_row < CALM_ANSWERS && Instant::now() < deadline {
        in_a_row = if answer_time(stack).await < KEEPS_UP { in_a_row + 1 } else { 0 };
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// How long a stack's emulator takes to answer; if it does not, as long as is waited for it.
async fn answer_time(stack: &'static StackFile) -> Duration {
    let asked = tokio::task::spawn_blocking(|| {
        let begun = Instant::now();
        answer(&stack.aws_endpoint_url).map_or(ANSWER_LIMIT, |()| begun.elapsed())
    });
    asked.await.unwrap()
}

/// What is known of the emulators.
#[derive(Debug, Default)]
struct Emulators {
    /// When an emulator was asked, and what it took; nothing yet if it has not answered.
    asked: Mutex<Vec<(Instant, Option<Duration>)>>,
}

fn emulators() -> &'static Emulators {
    static EMULATORS: OnceLock<Emulators> = OnceLock::new();
    EMULATORS.get_or_init(|| {
        thread::spawn(|| emulators().ask_again_and_again());
        Emulators::default()
    })
}

impl Emulators {
    /// How long an answer has taken of late at most, or has been waited for.
    fn slowest(&self) -> Duration {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().map(|(at, took)| took.unwrap_or_else(|| at.elapsed())).max().unwrap_or_default()
    }

    fn ask_again_and_again(&self) {
        loop {
            for file in [Some(stack()), rough_if_started()].into_iter().flatten() {
                self.ask(file);
            }
            thread::sleep(ASK_AGAIN);
        }
    }

    fn ask(&self, file: &StackFile) {
        let begun = Instant::now();
        {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.retain(|(at, _)| at.elapsed() < REMEMBERED);
            asked.push((begun, None));
        }
        // Whether it answers at all is for tests to find out.
        answer(&file.aws_endpoint_url).ok();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, took)) = asked.last_mut() {
            *took = Some(begun.elapsed());
        }
    }
}

/// Asks an emulator whether it is there, and waits for its whole answer.
fn answer(url: &str) -> std::io::Result<()> {
    let address: SocketAddr = url.trim_start_matches("http://").parse().map_err(std::io::Error::other)?;
    let mut connection = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    connection.set_read_timeout(Some(ANSWER_LIMIT))?;
    let request = format!("GET /_ministack/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    connection.read_to_end(&mut Vec::new())?;
    Ok(())
}
