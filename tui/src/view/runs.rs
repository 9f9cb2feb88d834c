//! The runs: who asked, how far it is, how it ended.

use forebay_schemas::run::{Run, RunState};
use forebay_schemas::snapshot::Snapshot;

use super::grid::{Cell, Column, Grid};
use crate::state::progress;
use crate::text;
use crate::theme::{Role, Theme};

/// A row a run, newest first.
pub(crate) fn grid(look: &Snapshot, theme: &Theme) -> Grid {
    let columns = vec![
        Column::left("run", 0),
        Column::right("try", 4),
        Column::left("state", 0),
        Column::right("produced", 2),
        Column::right("took", 3),
        Column::left("why", 1),
    ];
    let row = |run: &Run| {
        let took = run.ended_at.unwrap_or(look.at) - run.requested_at;
        let why = run.error.as_ref().map(|error| format!("{}: {}", error.stage, error.message)).unwrap_or_default();
        vec![
            Cell::from(run.key.clone()),
            Cell::from(run.attempt.to_string()),
            state(run, look, theme),
            Cell::from(text::count(run.counts.produced)),
            Cell::from(text::ago(took)),
            Cell::new(why, Role::Warn),
        ]
    };
    Grid { columns, least: 12, rows: look.runs.iter().map(row).collect() }
}

fn state(run: &Run, look: &Snapshot, theme: &Theme) -> Cell {
    let (sign, word, role) = match run.state {
        RunState::Requested => (theme.signs.waiting, "requested", Role::Muted),
        RunState::Running => (theme.signs.head, "running", Role::Text),
        RunState::Draining => (theme.signs.head, "draining", Role::Text),
        RunState::Succeeded => (theme.signs.done, "succeeded", Role::Good),
        RunState::Failed => (theme.signs.ended, "FAILED", Role::Bad),
        RunState::Cancelled => (theme.signs.ended, "cancelled", Role::Muted),
    };
    let part = if run.terminal { None } else { progress(run, &look.partitions) };
    let part = part.map(|part| format!(" {:.0} %", (part * 100.0).floor())).unwrap_or_default();
    Cell::new(format!("{sign} {word}{part}"), role)
}

/// One run in a sentence.
pub(crate) fn sentence(run: &Run) -> String {
    let ranges: Vec<_> = run.ranges.0.iter().map(|(partition, range)| format!("p{partition} {range}")).collect();
    let ranges = if ranges.is_empty() { String::new() } else { format!("; {}", ranges.join(" ")) };
    let why = run.error.as_ref().map(|error| format!("; {}: {}", error.stage, error.message)).unwrap_or_default();
    format!(
        "run {} {}: {} pages, {} fetched, {} produced, {} rejected{ranges}{why}",
        run.key,
        run.id,
        run.counts.pages,
        text::count(run.counts.fetched),
        text::count(run.counts.produced),
        text::count(run.counts.rejected),
    )
}
