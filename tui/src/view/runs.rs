//! The runs: their state, progress, counts and result.

use forebay_schemas::offset::Partition;
use forebay_schemas::run::{Run, RunState};
use forebay_schemas::snapshot::Snapshot;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use uuid::Uuid;

use super::aligned_rows::{Cell, Column, Grid};
use super::fields::{fact, wrapped};
use super::{Canvas, Size, chart};
use crate::state::{List, progress};
use crate::text;
use crate::theme::{Role, Theme};

/// The runs.
pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let bar = if canvas.size == Size::Full { 20 } else { 10 };
    list(frame, area, canvas, bar);
}

/// The runs in a frame, with a progress bar of `bar` columns.
pub(super) fn list(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>, bar: usize) {
    canvas.list(frame, area, List::Runs, |order, _| {
        canvas.snapshot().map_or_else(Grid::default, |snapshot| grid_of(snapshot, order, bar, canvas.theme))
    });
}

/// One row per run, newest first.
pub(crate) fn grid(snapshot: &Snapshot, theme: &Theme) -> Grid {
    grid_of(snapshot, &(0..snapshot.runs.len()).collect::<Vec<_>>(), 0, theme)
}

fn grid_of(snapshot: &Snapshot, order: &[usize], bar: usize, theme: &Theme) -> Grid {
    let columns = vec![
        Column::left("run", 0),
        Column::right("try", 5),
        Column::left("state", 0),
        Column::right("pages", 6),
        Column::right("fetched", 7),
        Column::right("produced", 2),
        Column::right("rejected", 8),
        Column::right("took", 3),
        Column::left("why", 1),
    ];
    let row = |run: &Run| {
        let took = run.ended_at.unwrap_or(snapshot.at) - run.requested_at;
        vec![
            Cell::from(name(run)),
            Cell::from(run.attempt.to_string()),
            state(run, snapshot, bar, theme),
            Cell::from(text::count(run.counts.pages)),
            Cell::from(text::count(run.counts.fetched)),
            Cell::from(text::count(run.counts.produced)),
            Cell::new(text::count(run.counts.rejected), if run.counts.rejected > 0 { Role::Warn } else { Role::Muted }),
            Cell::from(text::ago(took)),
            why(run),
        ]
    };
    Grid { columns, min_last: 12, rows: order.iter().filter_map(|&at| snapshot.runs.get(at)).map(row).collect() }
}

/// The key of a run, or the start of its identifier if it has none.
fn name(run: &Run) -> String {
    if run.key.is_empty() { format!("{:.8}", run.id.simple().to_string()) } else { run.key.clone() }
}

/// Why a run failed or ended early; otherwise its labels.
fn why(run: &Run) -> Cell {
    if let Some(error) = &run.error {
        return Cell::new(format!("{}: {}", error.stage, error.message), Role::Warn);
    }
    if let Some(stop) = run.cut_short() {
        return Cell::new(stop.to_string(), Role::Warn);
    }
    if let Some(cancelled) = &run.cancelled {
        return Cell::new(format!("by {}: {}", cancelled.by, cancelled.reason), Role::Muted);
    }
    let labels: Vec<String> = run.spec.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Cell::new(labels.join(" "), Role::Muted)
}

fn symbol(run: &Run, theme: &Theme) -> (&'static str, Role) {
    match run.state {
        RunState::Requested => (theme.symbols.waiting, Role::Muted),
        RunState::Running | RunState::Draining => (theme.symbols.head, Role::In),
        RunState::Succeeded => (theme.symbols.done, if run.cut_short().is_some() { Role::Warn } else { Role::Good }),
        RunState::Failed => (theme.symbols.ended, Role::Bad),
        RunState::Cancelled => (theme.symbols.ended, Role::Muted),
    }
}

fn state(run: &Run, snapshot: &Snapshot, bar: usize, theme: &Theme) -> Cell {
    let (symbol, role) = symbol(run, theme);
    let cell = Cell::new(format!("{symbol} {}", text::run_state(run.state)), role);
    let part = if run.terminal { None } else { progress(run, &snapshot.partitions) };
    let Some(part) = part else { return cell };
    let cell = if bar > 0 {
        let (done, rest) = chart::horizontal_bar(part, bar, theme);
        cell.and(" ", Role::Text).and(done, Role::Good).and(rest, Role::Muted)
    } else {
        cell
    };
    cell.and(format!(" {:.0} %", (part * 100.0).floor()), Role::Text)
}

/// The detail view of a run.
pub(super) fn detail(canvas: &Canvas<'_>, id: Uuid, width: usize) -> Vec<Line<'static>> {
    let Some(snapshot) = canvas.snapshot() else { return Vec::new() };
    let Some(run) = snapshot.runs.iter().find(|run| run.id == id) else {
        return vec![canvas.styled("no such run at this moment".to_owned(), Role::Warn)];
    };
    let (symbol, role) = symbol(run, canvas.theme);
    let mut lines = vec![
        fact(canvas, "key", &name(run), Role::Title),
        fact(canvas, "identifier", &run.id.to_string(), Role::Text),
        fact(canvas, "state", &format!("{symbol} {}, attempt {}", text::run_state(run.state), run.attempt), role),
        fact(canvas, "requested", &run.requested_at.format("%F %T%.3f").to_string(), Role::Text),
    ];
    let took = run.ended_at.unwrap_or(snapshot.at) - run.requested_at;
    lines.push(fact(canvas, if run.terminal { "took" } else { "since" }, &text::ago(took), Role::Text));
    lines.extend(wrapped(canvas, "counts", &counts(run), width));
    for reject in run.rejects.iter() {
        lines.extend(wrapped(canvas, "rejected", &format!("{reject}; forebay dlq shows them"), width));
    }
    for (name, pairs) in [("labels", &run.spec.labels), ("params", &run.spec.params)] {
        if !pairs.is_empty() {
            let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            lines.extend(wrapped(canvas, name, &pairs.join("  "), width));
        }
    }
    if let Some(window) = &run.spec.window {
        lines.push(fact(canvas, "window", &window.to_string(), Role::Text));
    }
    if let Some(stop) = &run.stop {
        lines.extend(wrapped(canvas, "stopped", &stop.to_string(), width));
        let cursor = stop.cursor.as_ref().map(|cursor| wrapped(canvas, "next cursor", cursor, width));
        lines.extend(cursor.into_iter().flatten());
    }
    if let Some(error) = &run.error {
        lines.extend(wrapped(canvas, "failed at", &format!("{}: {}", error.stage, error.message), width));
    }
    if let Some(cancelled) = &run.cancelled {
        lines.extend(wrapped(canvas, "cancelled", &format!("by {}: {}", cancelled.by, cancelled.reason), width));
    }
    lines.push(Line::default());
    lines.push(canvas.styled("partitions: how much is readable".to_owned(), Role::Title));
    lines.extend(run.ranges.0.keys().map(|&partition| of_partition(canvas, run, snapshot, partition, width)));
    if run.ranges.0.is_empty() {
        lines.push(canvas.styled("nothing produced yet".to_owned(), Role::Muted));
    }
    lines.push(Line::default());
    lines.push(canvas.styled("its events; t goes to the newest".to_owned(), Role::Title));
    lines.extend(super::journal::last(canvas, width, 16, |event| event.run() == Some(id)));
    lines
}

fn of_partition(canvas: &Canvas<'_>, run: &Run, snapshot: &Snapshot, partition: Partition, width: usize) -> Line<'static> {
    let mut alone = run.clone();
    alone.ranges.0.retain(|of, _| *of == partition);
    let part = progress(&alone, &snapshot.partitions).unwrap_or(0.0);
    let range = run.ranges.0.get(&partition).map(ToString::to_string).unwrap_or_default();
    let (done, rest) = chart::horizontal_bar(part, width.saturating_sub(44).clamp(4, 40), canvas.theme);
    Line::from(vec![
        Span::styled(format!("p{partition:<4} {range:<26} "), canvas.theme.style(Role::Muted)),
        Span::styled(done, canvas.theme.style(Role::Good)),
        Span::styled(rest, canvas.theme.style(Role::Muted)),
        Span::raw(format!(" {:>3.0} %", (part * 100.0).floor())),
    ])
}

/// The record counts of a run.
fn counts(run: &Run) -> String {
    let of = &run.counts;
    let always =
        [(of.fetched, "fetched"), (of.produced, "produced"), (of.filtered, "filtered"), (of.rejected, "rejected"), (of.written, "written")];
    let seldom = [(of.elsewhere, "counted elsewhere"), (of.again, "produced again")].into_iter().filter(|(count, _)| *count > 0);
    let each = always.into_iter().chain(seldom).map(|(count, what)| format!(", {} {what}", text::count(count)));
    format!("{} pages{}", of.pages, each.collect::<String>())
}

/// One run in one line.
pub(crate) fn summary(run: &Run) -> String {
    let ranges: Vec<_> = run.ranges.0.iter().map(|(partition, range)| format!("p{partition} {range}")).collect();
    let ranges = if ranges.is_empty() { String::new() } else { format!("; {}", ranges.join(" ")) };
    let error = run.error.as_ref().map(|error| format!("; {}: {}", error.stage, error.message));
    let why = error.or_else(|| run.stop.as_ref().map(|stop| format!("; stopped: {stop}"))).unwrap_or_default();
    format!("run {} {}: {}{ranges}{why}", name(run), run.id, counts(run))
}
