//! Measures the cost of the monitor for `benches/monitor.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta};
use forebay_schemas::event::{Event, Recorded};
use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Range, WriteTimestamp};
use forebay_schemas::snapshot::{PartitionView, Snapshot};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::state::{Action, Model, Screen, SourceKind, Update};
use crate::theme::{Options, Palette, Theme};
use crate::view;

/// Folds `events` events over `partitions` partitions and five minutes of snapshots, steps back,
/// and draws every screen. Returns one line per measurement.
pub fn run(events: u64, partitions: i32) -> Vec<String> {
    let mut out = Vec::new();
    let now = Instant::now();
    let mut model = Model::new(SourceKind::Process, false, false);
    let begin = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
    let at = |seq: u64| begin + TimeDelta::milliseconds(i64::try_from(seq).unwrap_or(0) * 10);

    let (mut window, mut made) = (Duration::ZERO, 0);
    while made < events {
        let some: Vec<_> = (0..1_000.min(events - made)).map(|n| Arc::new(event(made + n + 1, at(made + n + 1), partitions))).collect();
        made += some.len() as u64;
        let start = Instant::now();
        model.update(Update::Events(some), now);
        window += start.elapsed();
    }
    out.push(format!(
        "fold          {events} events, {partitions} partitions: {:.2} s, {:.2} µs an event, {} in memory",
        window.as_secs_f64(),
        window.as_secs_f64() * 1e6 / events as f64,
        model.timeline().len()
    ));

    let last = at(events);
    let snapshots = 600;
    let start = Instant::now();
    for n in 0..snapshots {
        model.update(Update::Snapshot(Arc::new(snapshot(last - TimeDelta::milliseconds(500 * (snapshots - n)), partitions, events))), now);
    }
    out.push(format!("snapshots         {snapshots}: {:.0} µs a snapshot", start.elapsed().as_secs_f64() * 1e6 / snapshots as f64));

    let theme = Theme::new(Options { palette: Palette::DarkTrue, ascii: false });
    let mut terminal = match Terminal::new(TestBackend::new(160, 50)) {
        Ok(terminal) => terminal,
        Err(never) => match never {},
    };
    let mut worst = 0.0_f64;
    for screen in Screen::ALL {
        model.perform(Action::Show(screen));
        const FRAMES: u32 = 50;
        let start = Instant::now();
        for _ in 0..FRAMES {
            match terminal.draw(|frame| view::draw(frame, &model, &theme, now)) {
                Ok(_) => {}
                Err(never) => match never {},
            }
        }
        let each = start.elapsed().as_secs_f64() / f64::from(FRAMES);
        worst = worst.max(each);
        out.push(format!(
            "draw          {:<12} {:>7.0} µs a frame, {:.2} % of a core at 10 a second",
            screen.name(),
            each * 1e6,
            each * 1_000.0
        ));
    }
    out.push(format!("draw          the worst screen takes {:.2} % of a core at 10 frames a second", worst * 1_000.0));

    for (name, action, times) in
        [("back", Action::Step(-1), 200_u32), ("forward", Action::Step(1), 200), ("batch back", Action::StepBatch(false), 200)]
    {
        let start = Instant::now();
        (0..times).for_each(|_| model.perform(action));
        out.push(format!("step          {name:<12} {:>7.0} µs", start.elapsed().as_secs_f64() * 1e6 / f64::from(times)));
    }
    out
}

fn event(seq: u64, at: DateTime<chrono::Utc>, partitions: i32) -> Recorded {
    let n = i64::try_from(seq).unwrap_or(0);
    let (from, to) = (Offset(n), Offset(n + 100));
    let partition = i32::try_from(n % i64::from(partitions)).unwrap_or(0);
    let event = if seq.is_multiple_of(2) {
        Event::OffsetsCommitted { offsets: [(partition, from)].into_iter().collect() }
    } else {
        Event::BatchWritten {
            batch: seq,
            ranges: [(partition, Range { from, to })].into_iter().collect(),
            rows: 100,
            rejected: 0,
            wait_micros: 1_000 + seq % 700,
            transform_micros: 400,
            write_micros: 2_000 + seq % 3_000,
            written: [(partition, Checkpoint { offset: to, write_clock: WriteTimestamp::default(), epoch: Epoch::new(1) })]
                .into_iter()
                .collect(),
            runs: Vec::new(),
        }
    };
    Recorded::new(seq, at, event)
}

fn snapshot(at: DateTime<chrono::Utc>, partitions: i32, seq: u64) -> Snapshot {
    let projection = crate::state::projection::Projection::default();
    let ms = at.timestamp_millis();
    let views = (0..partitions).map(|partition| PartitionView {
        partition,
        begin: Offset(0),
        end: Offset(ms),
        written: Offset(ms - 100),
        committed: Offset(ms - 150),
        assigned: true,
        paused: false,
        clamped: 0,
        unkeyed: 0,
        behind_ms: 12,
        held_back: 0,
    });
    Snapshot { at, partitions: views.collect(), seq, ..crate::state::blank(None, &projection) }
}
