//! How long a start takes to read a journal of a million events, with the snapshot of each segment
//! and without any.
//!
//! `make bench` prints events/s for both, and for the appends that wrote the journal. It asserts
//! only what the program promises: a start under two seconds.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails with unwrap and prints")]

use std::time::{Duration, Instant};

use forebay_actors::journal::{RealDisk, Settings};
use forebay_actors::ledger::{Command, Ledger, fold};
use forebay_kernel::SystemClock;
use forebay_schemas::event::{Event, Start, StartOrigin};
use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Range, Ranges, WriteTimestamp};
use forebay_schemas::run::RunSpec;

/// Events in the journal.
const EVENTS: u64 = 1_000_000;
/// How long a start may take.
const MAX_START: Duration = Duration::from_secs(2);

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let settings = || Settings { pipeline: "users".into(), segment_bytes: 16 << 20, keep_bytes: u64::MAX };
    let open = || Ledger::open(dir.path(), RealDisk, settings(), SystemClock::shared()).unwrap();
    let ledger = open();
    let starts = (0..4).map(|partition| {
        (
            partition,
            Start {
                checkpoint: Checkpoint { offset: Offset(0), write_clock: WriteTimestamp::default(), epoch: Epoch::new(7) },
                origin: StartOrigin::Earliest,
            },
        )
    });
    ledger.submit(Command::AssignPartitions { starts: starts.collect() }).unwrap();
    let began = Instant::now();
    for n in 1..EVENTS {
        ledger.record(event(i64::try_from(n).unwrap()));
        // Some runs, so that the state is not trivial.
        if n % 1_000 == 0 {
            let run = ledger.request(&format!("run-{n}"), 1, RunSpec::default()).unwrap().id();
            ledger.submit(Command::StartRun { run }).unwrap();
            ledger.submit(Command::RunProduced { run, stop: None }).unwrap();
        }
    }
    let live = ledger.state();
    drop(ledger);
    let took = began.elapsed();
    let bytes: u64 = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    println!("appended {} events, {} MB: {:.0} events/s", live.seq, bytes / 1_000_000, live.seq as f64 / took.as_secs_f64());

    let began = Instant::now();
    let ledger = open();
    let start = began.elapsed();
    assert_eq!(ledger.state(), live);
    drop(ledger);
    println!("start with snapshots: {:.0} ms", start.as_secs_f64() * 1e3);
    assert!(start < MAX_START, "a start of a million events takes {start:?}");

    for entry in std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|extension| extension == "snap") {
            std::fs::remove_file(entry).unwrap();
        }
    }
    let began = Instant::now();
    let state = fold(dir.path(), u64::MAX).unwrap();
    let took = began.elapsed();
    assert_eq!(state, live);
    println!("start without snapshots: {:.0} ms, {:.0} events/s", took.as_secs_f64() * 1e3, live.seq as f64 / took.as_secs_f64());
}

/// The journal event of a batch.
fn event(n: i64) -> Event {
    let (partition, from, to) = (i32::try_from(n % 4).unwrap(), Offset(n), Offset(n + 50));
    let mut ranges = Ranges::default();
    ranges.add(partition, Range { from, to });
    let checkpoint =
        Checkpoint { offset: to, write_clock: WriteTimestamp::from_micros(1_700_000_000_000_000 + n * 16), epoch: Epoch::new(7) };
    Event::BatchWritten {
        batch: n.unsigned_abs(),
        ranges,
        rows: 50,
        rejected: 0,
        wait_micros: 120,
        transform_micros: 400,
        write_micros: 3_200,
        written: [(partition, checkpoint)].into_iter().collect(),
        runs: Vec::new(),
    }
}
