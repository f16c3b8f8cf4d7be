//! Instructions of a request, counted by valgrind: the same on a busy machine.
//!
//! A process serves some requests, and another one some more; the difference is what the additional ones took,
//! without the start.

use tokio::process::Command;

use crate::Failure;
use crate::building::workshop;
use crate::measure::{book, keys, replay};
use crate::process::{Circumstances, Process, Subject};
use crate::world::World;

/// Requests of the shorter run and of the longer one.
const REQUESTS: [u32; 2] = [40, 140];

/// What a warm request takes, in thousands of instructions.
#[derive(Clone, Copy, Debug)]
pub struct Instructions {
    /// A booking.
    pub booking_k: f64,
    /// A replay, where there is such a thing.
    pub replay_k: Option<f64>,
}

/// Whether instructions can be counted here.
pub async fn is_there() -> bool {
    Command::new("valgrind").arg("--version").output().await.is_ok_and(|output| output.status.success())
}

/// Counts. If it `keeps` it, the profile of the bookings is left in `target/bench` for `callgrind_annotate`.
pub async fn count(subject: &Subject, world: &World, keeps: bool) -> Result<Instructions, Failure> {
    let few = counted(subject, world, REQUESTS[0], false, false).await?;
    let more = counted(subject, world, REQUESTS[1], false, keeps).await?;
    let additional = f64::from(REQUESTS[1] - REQUESTS[0]) * 1e3;
    let booking_k = (more as f64 - few as f64) / additional;
    let replay_k = if subject.books {
        let replayed = counted(subject, world, REQUESTS[1], true, false).await?;
        Some((replayed as f64 - more as f64) / (f64::from(REQUESTS[1]) * 1e3))
    } else {
        None
    };
    Ok(Instructions { booking_k, replay_k })
}

/// Instructions of a process that makes so many bookings, and then repeats them.
async fn counted(
    subject: &Subject,
    world: &World,
    requests: u32,
    repeats: bool,
    keeps: bool,
) -> Result<u64, Failure> {
    let file = workshop().join(format!("callgrind-{}.out", std::process::id()));
    let output = format!("--callgrind-out-file={}", file.display());
    let wrapper = ["valgrind", "--tool=callgrind", &output].map(str::to_owned).to_vec();
    let circumstances = Circumstances { wrapper, ..Circumstances::default() };
    let mut process = Process::start(subject, world, &circumstances).await?;
    process.first(world.event(&world.new_key())).await?;
    let keys = keys(world, requests);
    for key in &keys {
        book(&mut process, subject, world, key).await?;
    }
    if repeats {
        for key in &keys {
            replay(&mut process, world, key).await?;
        }
    }
    process.terminate().await?;
    let written = std::fs::read_to_string(&file)?;
    if keeps {
        let name: String = subject.name.chars().filter(char::is_ascii_alphabetic).collect();
        std::fs::rename(&file, workshop().join(format!("callgrind-{name}.out")))?;
    } else {
        std::fs::remove_file(&file)?;
    }
    total(&written).ok_or_else(|| "callgrind wrote no total".into())
}

/// The total in callgrind's file.
fn total(written: &str) -> Option<u64> {
    let totals = ["totals:", "summary:"];
    let line = written.lines().rev().find(|line| totals.iter().any(|total| line.starts_with(total)))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_total_is_read() {
        assert_eq!(super::total("version: 1\nsummary: 5\nfn=(1)\ntotals: 1234\n"), Some(1_234));
        assert_eq!(super::total("version: 1\n"), None);
    }
}
