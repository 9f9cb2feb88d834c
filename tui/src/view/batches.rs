//! The last batches: their records, and the durations of their stages.

use forebay_schemas::api::{BatchSpan, BatchTrace};
use forebay_schemas::event::Event;
use forebay_schemas::snapshot::{BatchView, Snapshot};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};

use super::aligned_rows::{Cell, Column, Grid};
use super::fields::fact;
use super::{Canvas, Size, chart, split_columns, split_rows};
use crate::state::{List, StageTimes, batch_took as took, stage_times};
use crate::text;
use crate::theme::{Role, Theme};

/// The maximum length of a bar in a row, in columns.
const MAX_BAR_COLUMNS: usize = 12;

/// Percentiles, histogram and columns of the batches, and their list.
pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let Some(snapshot) = canvas.snapshot().filter(|_| canvas.size >= Size::Reduced) else {
        return list(frame, area, canvas, MAX_BAR_COLUMNS);
    };
    let full = canvas.size == Size::Full;
    let [top, rest] = split_rows(area, [Constraint::Length(if full { 9 } else { 7 }), Constraint::Min(0)]);
    let [left, right] = split_columns(top, [Constraint::Percentage(54), Constraint::Min(0)]);
    canvas.panel(frame, left, "stages: percentiles", |width| stage_lines(&stage_times(snapshot), width, canvas.theme));
    canvas.panel(frame, right, "how long a batch takes", |width| {
        histogram_lines(snapshot, width, usize::from(right.height.saturating_sub(2)), canvas.theme)
    });
    if full && rest.height > 16 {
        let [columns, rest] = split_rows(rest, [Constraint::Length(7), Constraint::Min(0)]);
        canvas.panel(frame, columns, "one column per batch, newest on the right", |width| columns_of(snapshot, width, 5, canvas.theme));
        return list(frame, rest, canvas, 24);
    }
    list(frame, rest, canvas, if full { 24 } else { MAX_BAR_COLUMNS });
}

/// The batches in a frame.
pub(super) fn list(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>, bar: usize) {
    canvas.list(frame, area, List::Batches, |order, _| {
        canvas.snapshot().map_or_else(Grid::default, |snapshot| grid_of(snapshot, order, bar, canvas.theme))
    });
}

/// One line per stage: name, percentiles, and a bar for the p95.
pub(super) fn stage_lines(stages: &[StageTimes], width: usize, theme: &Theme) -> Vec<Line<'static>> {
    if stages.iter().all(|stage| stage.count == 0) {
        return vec![Line::from(Span::styled("no batches yet", theme.style(Role::Muted)))];
    }
    // The bars have the scale of a batch, and a fetch is not part of one.
    let of_batch = |stage: &StageTimes| !["fetch", "produce"].contains(&stage.name.as_str());
    let longest = stages.iter().filter(|stage| of_batch(stage)).map(|stage| stage.p95).max().unwrap_or(0).max(1);
    let bar = width.saturating_sub(11 + 4 * 9);
    let title = format!("{:<11}{:>9}{:>9}{:>9}{:>9}", "", "p50", "p95", "p99", "max");
    let mut lines = vec![Line::from(Span::styled(title, theme.style(Role::Muted)))];
    for stage in stages {
        let (symbol, role) = chart::stage_style(&stage.name, theme);
        let numbers: String =
            [stage.p50, stage.p95, stage.p99, stage.max].into_iter().map(|micros| format!("{:>9}", text::micros(micros))).collect();
        let mut spans = vec![Span::styled(format!("{symbol} {:<9}", text::cut(&stage.name, 9, "")), theme.style(role)), Span::raw(numbers)];
        if bar >= 4 && of_batch(stage) {
            spans.push(Span::raw(" "));
            spans.push(Span::styled(chart::horizontal_bar(stage.p95 as f64 / longest as f64, bar - 1, theme).0, theme.style(role)));
        }
        lines.push(Line::from(spans));
    }
    lines
}

/// The number of batches that took longer than the trigger, and the histogram with a mark at the
/// trigger.
fn histogram_lines(snapshot: &Snapshot, width: usize, height: usize, theme: &Theme) -> Vec<Line<'static>> {
    if snapshot.batches.is_empty() {
        return vec![Line::from(Span::styled("no batches yet", theme.style(Role::Muted)))];
    }
    let buckets = chart::histogram(snapshot.batches.iter().map(took));
    let Some(trigger) = trigger(snapshot) else { return chart::histogram_lines(&buckets, None, width, height, theme) };
    let longer = snapshot.batches.iter().filter(|batch| took(batch) > trigger).count();
    let (all, time) = (snapshot.batches.len(), text::whole_micros(trigger));
    let long = format!("{longer} of the last {all} took longer than the trigger {time}");
    let summary = if text::width(&long) <= width { long } else { format!("{longer} of {all} over trigger {time}") };
    let room = height.saturating_sub(1);
    let buckets = chart::extend_to(buckets, trigger, room);
    let mut lines = vec![Line::from(Span::styled(text::cut(&summary, width, theme.symbols.cut), theme.style(Role::Title)))];
    lines.extend(chart::histogram_lines(&buckets, Some(trigger), width, room, theme));
    lines
}

/// The trigger of micro-batches in microseconds, if it is known and not zero.
pub(super) fn trigger(snapshot: &Snapshot) -> Option<u64> {
    snapshot.trigger_micros.filter(|&micros| micros > 0)
}

/// One column per batch: its height is the duration, its colours are the stages.
fn columns_of(snapshot: &Snapshot, width: usize, height: usize, theme: &Theme) -> Vec<Line<'static>> {
    let shown: Vec<&BatchView> = snapshot.batches.iter().take(width.saturating_sub(10)).collect();
    let longest = shown.iter().map(|batch| took(batch)).max().unwrap_or(0).max(1);
    let mut columns: Vec<Vec<(String, Role)>> = shown
        .iter()
        .rev()
        .map(|batch| {
            let mut cells: Vec<(String, Role)> = Vec::new();
            for (piece, role) in chart::stacked_bar(&parts(batch), longest, height, theme) {
                cells.extend(piece.chars().map(|symbol| (symbol.to_string(), role)));
            }
            if cells.is_empty() {
                cells.push((theme.symbols.bars[0].to_owned(), Role::Muted));
            }
            cells
        })
        .collect();
    columns.iter_mut().for_each(|column| column.resize(height, (" ".to_owned(), Role::Text)));
    (0..height)
        .rev()
        .map(|row| {
            let scale = if row + 1 == height { text::micros(longest) } else { String::new() };
            let mut spans = vec![Span::styled(format!("{scale:>9} "), theme.style(Role::Muted))];
            spans.extend(columns.iter().map(|column| Span::styled(column[row].0.clone(), theme.style(column[row].1))));
            Line::from(spans)
        })
        .collect()
}

fn parts(batch: &BatchView) -> [(&'static str, u64); 4] {
    [("wait", batch.wait_micros), ("transform", batch.transform_micros), ("write", batch.write_micros), ("commit", batch.commit_micros)]
}

/// One row per batch, newest first; the bars share one scale.
pub(crate) fn grid(snapshot: &Snapshot, theme: &Theme) -> Grid {
    grid_of(snapshot, &(0..snapshot.batches.len()).collect::<Vec<_>>(), MAX_BAR_COLUMNS, theme)
}

/// Rows of the batches at the given indexes.
fn grid_of(snapshot: &Snapshot, order: &[usize], bar: usize, theme: &Theme) -> Grid {
    // No column if the process does not report ranges.
    let ranges = order.iter().filter_map(|&at| snapshot.batches.get(at)).any(|batch| !batch.ranges.0.is_empty());
    let columns = vec![
        Column::right("batch", 0),
        Column::right("ago", 6),
        Column::left(if ranges { "offsets" } else { "" }, 7),
        Column::right("records", 0),
        Column::right("rows", 5),
        Column::right("rejected", 3),
        Column::right("took", 0),
        Column::left("wait transform write", 1),
    ];
    let longest = order.iter().filter_map(|&at| snapshot.batches.get(at)).map(took).max().unwrap_or(0);
    let row = |batch: &BatchView| {
        vec![
            Cell::from(batch.id.to_string()),
            Cell::from(text::ago(snapshot.at - batch.at)),
            offsets(batch),
            Cell::from(text::count(batch.records)),
            Cell::from(text::count(batch.rows)),
            Cell::new(text::count(batch.rejected), if batch.rejected > 0 { Role::Warn } else { Role::Muted }),
            Cell::from(text::micros(took(batch))),
            stages_bar(batch, longest, bar, theme),
        ]
    };
    Grid { columns, min_last: 20, rows: order.iter().filter_map(|&at| snapshot.batches.get(at)).map(row).collect() }
}

fn offsets(batch: &BatchView) -> Cell {
    let mut ranges = batch.ranges.0.iter();
    match (ranges.next(), ranges.len()) {
        (None, _) => Cell::new("", Role::Muted),
        (Some((partition, range)), 0) => Cell::new(format!("p{partition} {range}"), Role::Muted),
        (Some((partition, range)), more) => Cell::new(format!("p{partition} {range} +{more}"), Role::Muted),
    }
}

/// A bar of the stages, then their numbers.
fn stages_bar(batch: &BatchView, longest: u64, bar: usize, theme: &Theme) -> Cell {
    let pieces = chart::stacked_bar(&parts(batch)[..3], longest, bar, theme);
    let drawn: usize = pieces.iter().map(|(piece, _)| text::width(piece)).sum();
    let cell = pieces.into_iter().fold(Cell::default(), |cell, (piece, role)| cell.and(piece, role));
    let numbers: Vec<_> = parts(batch)[..3].iter().map(|(_, micros)| text::micros(*micros).trim_end_matches(" ms").to_owned()).collect();
    cell.and(format!("{} {}", if drawn == 0 { theme.symbols.level } else { "" }, numbers.join(" ")), Role::Muted)
}

/// One batch in one line.
pub(crate) fn summary(batch: &BatchView) -> String {
    format!(
        "batch {} at {}: {} records, {} rows, {} rejected; wait {}, transform {}, write {}",
        batch.id,
        batch.at.format("%H:%M:%S%.3f"),
        text::count(batch.records),
        text::count(batch.rows),
        text::count(batch.rejected),
        text::micros(batch.wait_micros),
        text::micros(batch.transform_micros),
        text::micros(batch.write_micros),
    )
}

/// The detail view of a batch: the trace of the API, or else what its event says.
pub(super) fn detail(canvas: &Canvas<'_>, id: u64, width: usize) -> Vec<Line<'static>> {
    let snapshot = canvas.snapshot();
    let trace = match &canvas.model.api_data.trace {
        Some((of, Ok(trace))) if *of == id => Some(trace.as_ref()),
        _ => None,
    };
    let Some(batch) =
        trace.map(|trace| &trace.batch).or_else(|| snapshot.and_then(|snapshot| snapshot.batches.iter().find(|batch| batch.id == id)))
    else {
        return vec![canvas.styled("this batch is not in memory".to_owned(), Role::Warn)];
    };
    let theme = canvas.theme;
    let mut lines = vec![canvas.styled(summary(batch), Role::Text)];
    for (partition, range) in &batch.ranges.0 {
        let offsets = format!("{range}  {} offsets", text::count(range.len()));
        lines.push(fact(canvas, &format!("partition {partition}"), &offsets, Role::Text));
    }
    if batch.retries > 0 {
        lines.push(fact(canvas, "retries", &text::count(batch.retries), Role::Warn));
    }
    lines.push(Line::default());
    lines.push(canvas.styled("where its time went".to_owned(), Role::Title));
    lines.extend(waterfall(&spans(batch, trace), width, theme));
    if let Some(trace) = trace {
        if !trace.rejects.is_empty() {
            lines.push(Line::default());
            lines.push(canvas.styled(format!("{} rejected; 8 shows them", text::count(batch.rejected)), Role::Title));
            for reject in &trace.rejects {
                let text = format!("p{} {} at {}: {}", reject.partition, reject.offset, reject.stage, reject.reason);
                lines.push(canvas.styled(text::cut(&text, width, theme.symbols.cut), Role::Warn));
            }
        }
        lines.push(Line::default());
        lines.push(canvas.styled(format!("SQL {}", trace.fingerprint), Role::Title));
        lines.extend(trace.sql.lines().flat_map(|line| text::wrap(line, width)).map(|line| canvas.styled(line, Role::Text)));
        lines.push(Line::default());
        lines.push(canvas.styled("plan".to_owned(), Role::Title));
        lines.extend(trace.plan.lines().map(|line| canvas.styled(text::cut(line, width, theme.symbols.cut), Role::Muted)));
    } else {
        let why = match &canvas.model.api_data.trace {
            _ if !canvas.model.has_api() => "no API to read its plan and rejects from".to_owned(),
            Some((of, Err(why))) if *of == id => format!("no trace from the API: {why}"),
            _ => String::new(),
        };
        lines.push(Line::default());
        lines.push(canvas.styled(text::cut(&why, width, theme.symbols.cut), Role::Muted));
        if !canvas.projection.sql.fingerprint.is_empty() {
            lines.push(canvas.styled(format!("SQL {}", canvas.projection.sql.fingerprint), Role::Title));
            lines.extend(
                canvas.projection.sql.text.lines().flat_map(|line| text::wrap(line, width)).map(|line| canvas.styled(line, Role::Text)),
            );
        }
    }
    lines.push(Line::default());
    lines.push(canvas.styled("events; t goes to them".to_owned(), Role::Title));
    let ranges = batch.ranges.clone();
    lines.extend(super::journal::last(canvas, width, 8, |event| match event {
        Event::BatchWritten { batch, .. } => *batch == id,
        Event::PageProduced { ranges: page, .. } => {
            page.0.iter().any(|(partition, page)| ranges.0.get(partition).is_some_and(|range| page.from < range.to && range.from < page.to))
        }
        _ => false,
    }));
    lines
}

/// The spans of a batch: those of the API, or else the stages one after the other.
fn spans(batch: &BatchView, trace: Option<&BatchTrace>) -> Vec<BatchSpan> {
    if let Some(trace) = trace.filter(|trace| !trace.spans.is_empty()) {
        return trace.spans.clone();
    }
    let mut start_micros = 0_u64;
    let mut out = Vec::new();
    for (stage, micros) in parts(batch) {
        if micros > 0 || stage != "commit" {
            out.push(BatchSpan { stage: stage.to_owned(), start_micros, micros, detail: String::new() });
        }
        start_micros = start_micros.saturating_add(micros);
    }
    out
}

/// One line per span, positioned by its start.
fn waterfall(spans: &[BatchSpan], width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let end = spans.iter().map(|span| span.start_micros.saturating_add(span.micros)).max().unwrap_or(0).max(1);
    let details = spans.iter().map(|span| text::width(&span.detail)).max().unwrap_or(0).min(width / 3);
    let room = width.saturating_sub(11 + 10 + details + 1).clamp(1, 80);
    let line = |span: &BatchSpan| {
        let (symbol, role) = chart::stage_style(&span.stage, theme);
        let column = |micros: u64| usize::try_from(u128::from(micros) * room as u128 / u128::from(end)).unwrap_or(room).min(room);
        let (from, to) = (column(span.start_micros), column(span.start_micros.saturating_add(span.micros)));
        let from = from.min(room - 1);
        let long = to.saturating_sub(from).max(1);
        Line::from(vec![
            Span::styled(format!("{:<11}", span.stage), theme.style(role)),
            Span::styled(theme.symbols.rest.repeat(from), theme.style(Role::Muted)),
            Span::styled(symbol.repeat(long), theme.style(role)),
            Span::styled(theme.symbols.rest.repeat(room.saturating_sub(from + long)), theme.style(Role::Muted)),
            Span::raw(format!("{:>10} ", text::micros(span.micros))),
            Span::styled(text::cut(&span.detail, details, theme.symbols.cut), theme.style(Role::Muted)),
        ])
    };
    spans.iter().map(line).collect()
}
