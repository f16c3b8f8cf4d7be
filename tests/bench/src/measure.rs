//! One run of one function: a new process, warmed up, and what its requests take.

use std::time::Duration;

use serde_json::Value;

use crate::Failure;
use crate::database::Units;
use crate::process::{Circumstances, Process, Subject};
use crate::statistics::{Spread, slope};
use crate::world::World;
use crate::{Options, building::Build};

/// The delays of the database that round trips are counted by, in milliseconds.
pub const DELAYS_MS: [u64; 5] = [0, 5, 10, 20, 50];

/// Requests before anything is measured, so that what is compiled or kept on first use is there.
const WARM_UP: u32 = 300;

/// What a run showed.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// From the start of a process to its first answer, in milliseconds.
    pub cold_ms: Vec<f64>,
    /// Bookings, one after the other, in milliseconds.
    pub booking_ms: Vec<f64>,
    /// Replays of these, in milliseconds.
    pub replay_ms: Vec<f64>,
    /// Processor time of 1000 bookings, in seconds.
    pub booking_cpu_s: f64,
    /// Processor time of 1000 replays, in seconds.
    pub replay_cpu_s: Option<f64>,
    /// The most memory that the process had resident, in megabytes of 10^6 bytes.
    pub peak_memory_mb: f64,
    /// By how much a booking and a replay take longer for each millisecond that the database does.
    pub round_trips: Option<(f64, f64)>,
}

/// Makes one run.
pub async fn run(subject: &Subject, world: &World, options: &Options) -> Result<Run, Failure> {
    let mut run = Run::default();
    let usual = Circumstances::default();
    for _ in 1..options.cold_starts {
        let mut process = Process::start(subject, world, &usual).await?;
        run.cold_ms.push(first(&mut process, subject, world).await?);
        process.kill().await?;
    }
    let mut process = Process::start(subject, world, &usual).await?;
    run.cold_ms.push(first(&mut process, subject, world).await?);
    for key in keys(world, WARM_UP.min(options.bookings)) {
        book(&mut process, subject, world, &key).await?;
        if subject.books {
            replay(&mut process, world, &key).await?;
        }
    }
    let keys = keys(world, options.bookings);
    let thousands = f64::from(options.bookings) / 1e3;
    let before = process.cpu_s()?;
    for key in &keys {
        run.booking_ms.push(book(&mut process, subject, world, key).await?);
    }
    run.booking_cpu_s = (process.cpu_s()? - before) / thousands;
    if subject.books {
        let before = process.cpu_s()?;
        for key in &keys {
            run.replay_ms.push(replay(&mut process, world, key).await?);
        }
        run.replay_cpu_s = Some((process.cpu_s()? - before) / thousands);
    }
    run.peak_memory_mb = process.peak_memory_kb()? as f64 * 1_024.0 / 1e6;
    if subject.books {
        run.round_trips = Some(round_trips(&mut process, subject, world, options.at_each_delay).await?);
    }
    process.kill().await?;
    Ok(run)
}

/// Keys of bookings that are not there yet.
pub fn keys(world: &World, count: u32) -> Vec<String> {
    (0..count).map(|_| world.new_key()).collect()
}

async fn first(process: &mut Process, subject: &Subject, world: &World) -> Result<f64, Failure> {
    let invocation = process.first(world.event(&world.new_key())).await?;
    expect(subject, &invocation.body, false)?;
    Ok(milliseconds(invocation.latency))
}

/// Makes a booking; how long that took, in milliseconds.
pub async fn book(
    process: &mut Process,
    subject: &Subject,
    world: &World,
    key: &str,
) -> Result<f64, Failure> {
    let invocation = process.invoke(world.event(key)).await?;
    expect(subject, &invocation.body, false)?;
    Ok(milliseconds(invocation.latency))
}

/// Repeats one; how long that took, in milliseconds. That the provider hears nothing is looked at elsewhere.
pub async fn replay(process: &mut Process, world: &World, key: &str) -> Result<f64, Failure> {
    let invocation = process.invoke(world.event(key)).await?;
    status_is(&invocation.body, 201)?;
    Ok(milliseconds(invocation.latency))
}

fn expect(subject: &Subject, answer: &[u8], replayed: bool) -> Result<(), Failure> {
    let answer = status_is(answer, if subject.books { 201 } else { 200 })?;
    let said = answer["headers"]["idempotency-replayed"] == "true";
    if said == replayed { Ok(()) } else { Err(format!("not as it should be replayed: {answer}").into()) }
}

fn status_is(answer: &[u8], expected: u16) -> Result<Value, Failure> {
    let answer: Value = serde_json::from_slice(answer)?;
    if answer["statusCode"] == expected { Ok(answer) } else { Err(format!("answered {answer}").into()) }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The slopes of bookings and replays over the database's delay: medians at each delay, least squares over them.
/// What counts is for how long requests were really held up.
async fn round_trips(
    process: &mut Process,
    subject: &Subject,
    world: &World,
    count: u32,
) -> Result<(f64, f64), Failure> {
    let (mut bookings, mut replays) = (Vec::new(), Vec::new());
    for delay_ms in DELAYS_MS {
        world.database.set_delay(Duration::from_millis(delay_ms));
        let keys = keys(world, count);
        world.database.record(false);
        let mut took = Vec::new();
        for key in &keys {
            took.push(book(process, subject, world, key).await?);
        }
        bookings.push(point(world, took)?);
        world.database.record(false);
        let mut took = Vec::new();
        for key in &keys {
            took.push(replay(process, world, key).await?);
        }
        replays.push(point(world, took)?);
    }
    world.database.set_delay(Duration::ZERO);
    let of = |points: &[(f64, f64)]| slope(points).ok_or("no slope");
    Ok((of(&bookings)?, of(&replays)?))
}

fn point(world: &World, took: Vec<f64>) -> Result<(f64, f64), Failure> {
    let delayed = world.database.recorded().into_iter().map(|call| milliseconds(call.delayed));
    let delayed = Spread::of(delayed).ok_or("no calls")?.median;
    Ok((delayed, Spread::of(took).ok_or("no requests")?.median))
}

/// Write units of a booking and of a replay, each by one request, and of the calls that only some requests make.
#[derive(Clone, Debug)]
pub struct WriteUnits {
    /// Of the bookings' table and its indexes, when one is confirmed.
    pub booking: Units,
    /// The same of a replay.
    pub replay: Units,
}

/// Asks the database what a booking and a replay cost. The provider hears of the booking alone.
pub async fn write_units(subject: &Subject, world: &World) -> Result<WriteUnits, Failure> {
    let mut process = Process::start(subject, world, &Circumstances::default()).await?;
    first(&mut process, subject, world).await?;
    let (key, told) = (world.new_key(), world.provider.calls());
    world.database.record(true);
    let first_answer = process.invoke(world.event(&key)).await?.body;
    let booking = spent(world)?;
    world.database.record(true);
    let replayed = process.invoke(world.event(&key)).await?.body;
    let replay = spent(world)?;
    process.kill().await?;
    expect(subject, &first_answer, false)?;
    expect(subject, &replayed, true)?;
    let body = |answer: &[u8]| -> Result<Value, Failure> { Ok(status_is(answer, 201)?["body"].take()) };
    if body(&first_answer)? != body(&replayed)? {
        return Err("a replay has another body".into());
    }
    if world.provider.calls() != told + 1 {
        return Err("the provider was not told once".into());
    }
    Ok(WriteUnits { booking, replay })
}

/// What the calls to the bookings' table have cost together.
fn spent(world: &World) -> Result<Units, Failure> {
    let mut sum = Units::default();
    for call in world.database.recorded() {
        let body: Value = serde_json::from_slice(call.request.body())?;
        if body["TableName"] == crate::database::BOOKING_TABLE {
            // A condition that fails costs what the write would have; nothing says so but the documentation.
            let units = call.units.unwrap_or(Units { table: 1.0, indexes: 0.0 });
            sum.table += units.table;
            sum.indexes += units.indexes;
        }
    }
    Ok(sum)
}

/// The first answer over TLS, for one build.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// From the start of the process to the first answer, in milliseconds.
    pub cold_ms: Vec<f64>,
    /// The handshake alone, from the connection on, in milliseconds.
    pub handshake_ms: Vec<f64>,
}

/// Starts processes that call DynamoDB over TLS.
pub async fn handshakes(
    subject: &Subject,
    world: &World,
    circumstances: &Circumstances,
    count: u32,
) -> Result<Handshake, Failure> {
    let mut found = Handshake { cold_ms: Vec::new(), handshake_ms: Vec::new() };
    for _ in 0..count {
        world.database.take_handshakes();
        let mut process = Process::start(subject, world, circumstances).await?;
        found.cold_ms.push(first(&mut process, subject, world).await?);
        process.kill().await?;
        let handshakes = world.database.take_handshakes();
        let handshake = handshakes.first().ok_or("there was no handshake")?;
        found.handshake_ms.push(milliseconds(*handshake));
    }
    Ok(found)
}

/// The build of ours in which AWS-LC gathers entropy by jitter, as it does unless it is told otherwise.
pub const WITH_JITTER: Build<'static> =
    Build { package: "booking", variant: "jitter", environment: &[("AWS_LC_SYS_NO_JITTER_ENTROPY", "0")] };
