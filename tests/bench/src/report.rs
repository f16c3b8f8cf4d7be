//! Measures everything in turns, and writes one table of it.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use crate::bare::BareCalls;
use crate::building::{Build, build, ours, root, with_symbols, workshop, yardsticks};
use crate::callgrind::{self, Instructions};
use crate::measure::{Handshake, Run, WITH_JITTER, WriteUnits, book, handshakes, keys, run, write_units};
use crate::process::{Circumstances, Process, Subject};
use crate::size::{Size, crates, weigh};
use crate::statistics::{Spread, percentile};
use crate::tls;
use crate::world::World;
use crate::{Failure, Options};

/// How many crates are named of what the program is made of.
const NAMED_CRATES: usize = 14;

/// How often a run is tried.
const TRIES: u32 = 3;

/// Where the figures are in docs/benchmarks.md.
const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

/// What was found of one function.
struct Found {
    subject: Subject,
    runs: Vec<Run>,
    instructions: Option<Instructions>,
}

impl Found {
    fn spread(&self, of: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(of))
    }

    /// As multiples of another's in the same round: the machine's speed changes between rounds by more than within one.
    fn multiples(&self, other: &Self, of: fn(&Run) -> Option<f64>) -> Option<Spread> {
        let rounds = self.runs.iter().zip(&other.runs);
        Spread::of(rounds.filter_map(|(mine, theirs)| Some(of(mine)? / of(theirs)?)))
    }
}

/// The program at one opt-level.
struct Level {
    name: &'static str,
    size: Size,
    instructions: Option<Instructions>,
    peak_memory_mb: f64,
}

/// What was found altogether.
struct Findings {
    found: Vec<Found>,
    missing: Vec<String>,
    /// The three calls of a booking by themselves, in milliseconds, one list a round.
    bare_ms: Vec<Vec<f64>>,
    units: WriteUnits,
    handshakes: Vec<(&'static str, Handshake)>,
    levels: Vec<Level>,
    crates: Vec<(String, u64)>,
    load: [String; 2],
}

/// Builds, measures, prints and writes.
pub async fn measure_and_report(options: &Options) -> Result<(), Failure> {
    let findings = measure(options).await?;
    let report = written(&findings, options)?;
    println!("{report}");
    fs::create_dir_all(workshop())?;
    fs::write(workshop().join("report.md"), &report)?;
    if options.record {
        let page = root().join("docs/benchmarks.md");
        let text = fs::read_to_string(&page)?;
        let (before, rest) = text.split_once(BEGIN).ok_or("docs/benchmarks.md has no place for figures")?;
        let (_, after) = rest.split_once(END).ok_or("docs/benchmarks.md has no end of figures")?;
        fs::write(page, format!("{before}{BEGIN}\n{report}{END}{after}"))?;
    }
    Ok(())
}

async fn measure(options: &Options) -> Result<Findings, Failure> {
    let ours = ours(options).await?;
    let (mut others, mut missing) = yardsticks().await?;
    if options.rust_only {
        others.retain(|subject| !matches!(subject.name, "Python" | "JavaScript"));
        missing.clear();
    }
    let world = World::start().await?;
    let units = write_units(&ours, &world).await?;
    let bare = BareCalls::record(&ours, &world).await?;
    let subjects = std::iter::once(ours.clone()).chain(others);
    let found = |subject| Found { subject, runs: Vec::new(), instructions: None };
    let mut found: Vec<Found> = subjects.map(found).collect();
    let (mut bare_ms, before) = (Vec::new(), load()?);
    for round in 0..options.rounds {
        // What comes after a program that is busy on all processors finds the machine otherwise than what comes after
        // another, so that chance decides who follows whom.
        for place in shuffled(found.len())? {
            let one = &mut found[place];
            println!("round {} of {}: {}", round + 1, options.rounds, one.subject.name);
            one.runs.push(persistently(&one.subject, &world, options).await?);
            if one.subject.name == ours.name {
                // At once after ours: the machine's speed changes from one minute to the next.
                bare_ms.push(bare.measure(&world.database, options.bookings).await?);
            }
        }
    }
    let load = [before, load()?];
    if callgrind::is_there().await {
        for one in &mut found {
            if !matches!(one.subject.name, "Python" | "JavaScript") {
                println!("instructions: {}", one.subject.name);
                one.instructions = Some(counted(&one.subject, &world, options.keep_callgrind).await?);
            }
        }
    }
    let (handshakes, levels, crates) = variants(&ours, &world, options).await?;
    Ok(Findings { found, missing, bare_ms, units, handshakes, levels, crates, load })
}

/// The places of a list in an order that chance decides.
fn shuffled(length: usize) -> Result<Vec<usize>, Failure> {
    let mut weighted = Vec::with_capacity(length);
    for place in 0..length {
        weighted.push((getrandom::u64().map_err(|error| error.to_string())?, place));
    }
    weighted.sort_unstable();
    Ok(weighted.into_iter().map(|(_, place)| place).collect())
}

/// Makes a run, and makes it again if it fails: on a busy machine a time limit may pass.
async fn persistently(subject: &Subject, world: &World, options: &Options) -> Result<Run, Failure> {
    for _ in 1..TRIES {
        match run(subject, world, options).await {
            Ok(run) => return Ok(run),
            Err(error) => println!("this run counts for nothing: {error}"),
        }
        world.database.set_delay(Duration::ZERO);
    }
    run(subject, world, options).await
}

/// Counts instructions, and counts them again if that fails: a program is slower by fifty times then, and time limits may
/// pass.
async fn counted(subject: &Subject, world: &World, keeps: bool) -> Result<Instructions, Failure> {
    for _ in 1..TRIES {
        match callgrind::count(subject, world, keeps).await {
            Ok(instructions) => return Ok(instructions),
            Err(error) => println!("this count counts for nothing: {error}"),
        }
    }
    callgrind::count(subject, world, keeps).await
}

type Variants = (Vec<(&'static str, Handshake)>, Vec<Level>, Vec<(String, u64)>);

/// What needs other builds of ours, and what is seen of the usual one alone.
async fn variants(ours: &Subject, world: &World, options: &Options) -> Result<Variants, Failure> {
    let (acceptor, certificate) = tls::self_signed()?;
    let address = world.database.serve_tls(acceptor).await?;
    let over_tls = Circumstances {
        endpoint_url: Some(format!("https://{}:{}", tls::NAME, address.port())),
        certificates: Some(certificate.clone()),
        ..Circumstances::default()
    };
    let count = options.cold_starts * options.rounds;
    let mut found = vec![("as packaged", handshakes(ours, world, &over_tls, count).await?)];
    let mut levels = vec![level("3, as packaged", ours, world, options).await?];
    let mut made_of = Vec::new();
    if !options.without_variants {
        let program = build(WITH_JITTER).await?;
        let jitter = Subject { program, ..ours.clone() };
        found.push(("entropy by jitter", handshakes(&jitter, world, &over_tls, count).await?));
        for (name, variant) in [("2", "opt-2"), ("s", "opt-s")] {
            let environment = [("CARGO_PROFILE_RELEASE_OPT_LEVEL", name)];
            let program = build(Build { package: "booking", variant, environment: &environment }).await?;
            levels.push(level(name, &Subject { program, ..ours.clone() }, world, options).await?);
        }
        made_of = crates(&with_symbols().await?).await?;
    }
    fs::remove_file(certificate)?;
    Ok((found, levels, made_of))
}

async fn level(
    name: &'static str,
    subject: &Subject,
    world: &World,
    options: &Options,
) -> Result<Level, Failure> {
    let mut process = Process::start(subject, world, &Circumstances::default()).await?;
    process.first(world.event(&world.new_key())).await?;
    for key in keys(world, options.bookings) {
        book(&mut process, subject, world, &key).await?;
    }
    let peak_memory_mb = process.peak_memory_kb()? as f64 * 1_024.0 / 1e6;
    process.kill().await?;
    let is_counted = callgrind::is_there().await;
    let instructions = if is_counted { Some(counted(subject, world, false).await?) } else { None };
    Ok(Level { name, size: weigh(&subject.program)?, instructions, peak_memory_mb })
}

/// How busy the machine is: processes that run or want to, over the last minute.
fn load() -> Result<String, Failure> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().next().unwrap_or("unknown").to_owned())
}

fn shown(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |Spread { median, least, greatest }| {
            format!("{median:.digits$} ({least:.digits$}–{greatest:.digits$})")
        },
    )
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// What a percentile of a run lies above the median of the bare calls of the same round.
fn above_bare(found: &Found, bare_ms: &[Vec<f64>], percent: f64) -> Option<Spread> {
    let rounds = found.runs.iter().zip(bare_ms);
    Spread::of(rounds.filter_map(|(run, bare)| {
        Some(percentile(&sorted(&run.booking_ms), percent)? - percentile(&sorted(bare), 50.0)?)
    }))
}

fn written(findings: &Findings, options: &Options) -> Result<String, Failure> {
    let mut text = String::new();
    let Options { rounds, bookings, cold_starts, .. } = options;
    writeln!(
        text,
        "Medians of {rounds} runs, with the least and the greatest; in each run {bookings} bookings, as many replays \
         and {cold_starts} cold starts of each function, in turns. The machine's load was {} when it began and {} when \
         it ended; the measuring itself is about 1.\n",
        findings.load[0], findings.load[1]
    )?;
    table(&mut text, findings)?;
    for missing in &findings.missing {
        writeln!(text, "\n{missing}.")?;
    }
    let units = &findings.units;
    writeln!(
        text,
        "\nWrite units of the README's first booking: **{:.2}** on the table and {:.2} on its indexes; of its replay \
         **{:.2}** and {:.2}. The three calls of a booking by themselves take {} ms.",
        units.booking.table,
        units.booking.indexes,
        units.replay.table,
        units.replay.indexes,
        shown(Spread::of(findings.bare_ms.iter().filter_map(|ms| percentile(&sorted(ms), 50.0))), 2)
    )?;
    rest(&mut text, findings)?;
    Ok(text)
}

fn table(text: &mut String, findings: &Findings) -> Result<(), Failure> {
    let names: Vec<&str> = findings.found.iter().map(|found| found.subject.name).collect();
    writeln!(text, "| | {} |", names.join(" | "))?;
    writeln!(text, "|---|{}", "---:|".repeat(names.len()))?;
    let mut row = |name: &str, cell: &dyn Fn(&Found) -> String| -> Result<(), Failure> {
        let cells: Vec<String> = findings.found.iter().map(cell).collect();
        writeln!(text, "| {name} | {} |", cells.join(" | "))?;
        Ok(())
    };
    let plain = findings.found.iter().find(|found| found.subject.name == "plain Rust");
    let multiple = |found: &Found, of: fn(&Run) -> Option<f64>| {
        shown(plain.and_then(|plain| found.multiples(plain, of)), 2)
    };
    let of_ours = |found: &Found, of: fn(&Run) -> Option<f64>| {
        shown(findings.found.first().and_then(|ours| found.multiples(ours, of)), 2)
    };
    let booking_cpu: fn(&Run) -> Option<f64> = |run| Some(run.booking_cpu_s);
    let cold: fn(&Run) -> Option<f64> = |run| percentile(&sorted(&run.cold_ms), 50.0);
    let memory: fn(&Run) -> Option<f64> = |run| Some(run.peak_memory_mb);
    let latency = |percent: f64, replays: bool| {
        move |found: &Found| {
            let of = |run: &Run| {
                percentile(&sorted(if replays { &run.replay_ms } else { &run.booking_ms }), percent)
            };
            shown(found.spread(of), 2)
        }
    };
    row("round trips of a booking", &|found| {
        shown(found.spread(|run| run.round_trips.map(|trips| trips.0)), 3)
    })?;
    row("round trips of a replay", &|found| {
        shown(found.spread(|run| run.round_trips.map(|trips| trips.1)), 3)
    })?;
    row("booking, p50, ms", &latency(50.0, false))?;
    row("booking, p99, ms", &latency(99.0, false))?;
    row("replay, p50, ms", &latency(50.0, true))?;
    row("booking above bare calls, p50, ms", &|found| {
        if found.subject.books {
            shown(above_bare(found, &findings.bare_ms, 50.0), 2)
        } else {
            "–".to_owned()
        }
    })?;
    row("booking above bare calls, p99, ms", &|found| {
        if found.subject.books {
            shown(above_bare(found, &findings.bare_ms, 99.0), 2)
        } else {
            "–".to_owned()
        }
    })?;
    row("CPU of 1 000 bookings, s", &|found| shown(found.spread(booking_cpu), 3))?;
    row("… as a multiple of plain Rust", &|found| multiple(found, booking_cpu))?;
    row("… as a multiple of Holdfast", &|found| of_ours(found, booking_cpu))?;
    row("CPU of 1 000 replays, s", &|found| shown(found.spread(|run| run.replay_cpu_s), 3))?;
    row("cold start, ms", &|found| shown(found.spread(cold), 1))?;
    row("… as a multiple of plain Rust", &|found| multiple(found, cold))?;
    row("peak memory, MB", &|found| shown(found.spread(memory), 1))?;
    row("… as a multiple of plain Rust", &|found| multiple(found, memory))?;
    let thousands =
        |instructions: Option<f64>| instructions.map_or_else(|| "–".to_owned(), |k| format!("{k:.0}"));
    row("instructions of a booking, thousands", &|found| {
        thousands(found.instructions.map(|instructions| instructions.booking_k))
    })?;
    row("instructions of a replay, thousands", &|found| {
        thousands(found.instructions.and_then(|instructions| instructions.replay_k))
    })
}

fn rest(text: &mut String, findings: &Findings) -> Result<(), Failure> {
    writeln!(text, "\n| first call over TLS | handshake, ms | cold start, ms |\n|---|---:|---:|")?;
    for (name, Handshake { cold_ms, handshake_ms }) in &findings.handshakes {
        let of = |values: &[f64]| shown(Spread::of(values.iter().copied()), 1);
        writeln!(text, "| {name} | {} | {} |", of(handshake_ms), of(cold_ms))?;
    }
    writeln!(
        text,
        "\n| opt-level | size, MB | zipped, MB | memory, MB | instructions of a booking, thousands |"
    )?;
    writeln!(text, "|---|---:|---:|---:|---:|")?;
    for Level { name, size, instructions, peak_memory_mb } in &findings.levels {
        let (program_mb, package_mb) = (size.program as f64 / 1e6, size.package as f64 / 1e6);
        let counted = instructions.map_or("–".to_owned(), |counted| format!("{:.0}", counted.booking_k));
        writeln!(text, "| {name} | {program_mb:.2} | {package_mb:.2} | {peak_memory_mb:.1} | {counted} |")?;
    }
    if !findings.crates.is_empty() {
        let all: u64 = findings.crates.iter().map(|(_, bytes)| bytes).sum();
        let named = findings.crates.iter().take(NAMED_CRATES);
        let named: Vec<String> = named.map(|(name, bytes)| format!("{name} {}", bytes / 1_000)).collect();
        writeln!(text, "\nCode by crate, kB of {}: {}.", all / 1_000, named.join(", "))?;
    }
    Ok(())
}
