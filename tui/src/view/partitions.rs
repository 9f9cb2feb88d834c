//! The partitions of the topic: offsets, lag, rate and state.

use forebay_schemas::offset::Partition;
use forebay_schemas::snapshot::PartitionView;
use ratatui::text::Line;

use super::Canvas;
use super::aligned_rows::{Cell, Column, Grid};
use super::fields::fact;
use crate::state::{SnapshotWindow, span};
use crate::text;
use crate::theme::{Role, Theme};

/// One row per partition.
pub(crate) fn grid(window: &SnapshotWindow, theme: &Theme) -> Grid {
    let partitions = window.newest().map_or(0, |snapshot| snapshot.partitions.len());
    let mut grid = grid_of(window, &(0..partitions).collect::<Vec<_>>(), theme);
    grid.columns.push(Column::left("state", 5));
    if let Some(snapshot) = window.newest() {
        grid.rows.iter_mut().zip(&snapshot.partitions).for_each(|(row, view)| row.push(state(view)));
    }
    grid
}

/// Rows of the partitions at the given indexes.
pub(super) fn grid_of(window: &SnapshotWindow, order: &[usize], _theme: &Theme) -> Grid {
    let columns = vec![
        Column::right("p", 0),
        Column::right("start", 6),
        Column::right("end", 3),
        Column::right("written", 0),
        Column::right("committed", 4),
        Column::right("lag", 0),
        Column::right("behind", 2),
        Column::right("rate", 1),
    ];
    let row = |view: &PartitionView| {
        let lag = view.lag();
        vec![
            Cell::from(view.partition.to_string()),
            Cell::from(text::offset(view.begin)),
            Cell::from(text::offset(view.end)),
            Cell::from(text::offset(view.written)),
            Cell::from(text::offset(view.committed)),
            Cell::new(text::count(lag), if lag > 0 { Role::Title } else { Role::Muted }),
            behind(view, window),
            Cell::from(text::rate(window.partition_rate(view.partition))),
        ]
    };
    let rows =
        window.newest().map_or_else(Vec::new, |snapshot| order.iter().filter_map(|&at| snapshot.partitions.get(at)).map(row).collect());
    Grid { columns, min_last: 8, rows }
}

/// The age of the oldest unwritten record: as the process measured it, else estimated from the
/// rate.
fn behind(view: &PartitionView, window: &SnapshotWindow) -> Cell {
    let seconds = match (view.lag(), view.behind_ms, window.partition_rate(view.partition)) {
        (0, ..) => return Cell::new("-", Role::Muted),
        (_, ms, _) if ms >= 0 => ms as f64 / 1000.0,
        (lag, _, Some(rate)) if rate > 0.0 => lag as f64 / rate,
        _ => return Cell::new("?", Role::Muted),
    };
    Cell::new(text::seconds(seconds), if seconds > 5.0 { Role::Warn } else { Role::Text })
}

/// Whether this process reads the partition.
pub(crate) fn state(view: &PartitionView) -> Cell {
    match (view.assigned, view.paused) {
        (_, true) => Cell::new("paused", Role::Warn),
        (true, false) => Cell::new("reading", Role::Good),
        (false, false) => Cell::new("other", Role::Muted),
    }
}

/// The lag of each partition over the last minutes in `columns` columns; each is the maximum of its
/// seconds.
pub(super) fn heat(canvas: &Canvas<'_>, columns: usize) -> std::collections::BTreeMap<Partition, Vec<Option<f64>>> {
    let mut rows: Vec<(Partition, Vec<Option<f64>>)> = Vec::new();
    let Some(newest) = canvas.model.sampled_snapshots().next_back().map(|snapshot| snapshot.at.timestamp()) else {
        return std::collections::BTreeMap::new();
    };
    let Some(width) = i64::try_from(columns).ok().filter(|&width| width > 0) else { return std::collections::BTreeMap::new() };
    let oldest = canvas.model.sampled_snapshots().next().map_or(newest, |snapshot| snapshot.at.timestamp());
    let each = (span(newest - oldest) + width - 1) / width;
    let last = newest.div_euclid(each);
    for snapshot in canvas.model.sampled_snapshots() {
        let back = usize::try_from(last - snapshot.at.timestamp().div_euclid(each)).unwrap_or(usize::MAX);
        let Some(column) = columns.checked_sub(1).and_then(|end| end.checked_sub(back)) else { continue };
        for (at, view) in snapshot.partitions.iter().enumerate() {
            // Snapshots list partitions in order, so the row is almost always at the same index.
            let row = match rows.get(at) {
                Some((partition, _)) if *partition == view.partition => Some(at),
                _ => rows.iter().position(|(partition, _)| *partition == view.partition),
            };
            let row = row.unwrap_or_else(|| {
                rows.push((view.partition, vec![None; columns]));
                rows.len() - 1
            });
            let lag = view.lag() as f64;
            let cell = &mut rows[row].1[column];
            *cell = Some(cell.map_or(lag, |have| have.max(lag)));
        }
    }
    rows.into_iter().collect()
}

/// One partition in one line.
pub(super) fn summary(view: &PartitionView, topic: &str) -> String {
    let state = match (view.assigned, view.paused) {
        (_, true) => "paused: budget used up",
        (true, false) => "read by this process",
        (false, false) => "not read by this process",
    };
    let counted = |count: u64, what: &str| if count > 0 { format!(", {} {what}", text::count(count)) } else { String::new() };
    let clamped = counted(view.clamped, "ignored timestamps");
    let unkeyed = counted(view.unkeyed, "records without a key");
    format!(
        "partition {} of {topic}: {} of [{}..{}) not yet written, {state}{clamped}{unkeyed}",
        view.partition,
        text::count(view.lag()),
        view.begin,
        view.end
    )
}

/// The detail view of a partition.
pub(super) fn detail(canvas: &Canvas<'_>, partition: Partition, width: usize) -> Vec<Line<'static>> {
    let Some(snapshot) = canvas.snapshot() else { return Vec::new() };
    let Some(view) = snapshot.partitions.iter().find(|view| view.partition == partition) else {
        return vec![canvas.styled("no such partition at this moment".to_owned(), Role::Warn)];
    };
    let mut lines = vec![canvas.styled(summary(view, &snapshot.topic), Role::Text), Line::default()];
    for (name, offset) in [("start", view.begin), ("committed", view.committed), ("written", view.written), ("end", view.end)] {
        lines.push(fact(canvas, name, &text::offset(offset), Role::Text));
    }
    lines.push(fact(canvas, "lag", &text::count(view.lag()), Role::Title));
    lines.push(fact(canvas, "rate", &text::rate(canvas.window.partition_rate(partition)), Role::Text));
    let columns = width.saturating_sub(14);
    if let Some(lags) = heat(canvas, columns).remove(&partition) {
        lines.push(Line::default());
        lines.push(canvas.styled(format!("lag, last {} min", canvas.model.minutes()), Role::Title));
        let scale = super::chart::max_of(&lags);
        lines.extend(super::chart::bar_rows(&lags, scale.max(1.0), 4, canvas.theme).into_iter().map(|row| canvas.styled(row, Role::Lag)));
        lines.push(canvas.styled(format!("max {}", text::count_f64(scale)), Role::Muted));
    }
    lines.push(Line::default());
    lines.push(canvas.styled("last batches".to_owned(), Role::Title));
    let batches = snapshot.batches.iter().filter(|batch| batch.ranges.0.contains_key(&partition)).take(12);
    lines.extend(batches.map(|batch| canvas.styled(super::batches::summary(batch), Role::Text)));
    lines
}
