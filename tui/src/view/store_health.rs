//! The health of the store: inserts, latency, statements in flight, retries by reason, and nodes.

use forebay_schemas::snapshot::{NodeView, Snapshot};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};

use super::aligned_rows::{Cell, Column, Grid};
use super::{Canvas, Size, chart, draw_lines, fields, split_columns, split_rows};
use crate::state::{List, stage_times};
use crate::text;
use crate::theme::Role;

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let Some(snapshot) = canvas.snapshot() else { return };
    if canvas.size < Size::Reduced {
        let [head, rest] = split_rows(area, [Constraint::Length(4.min(area.height)), Constraint::Min(0)]);
        draw_lines(frame, head, facts(canvas, snapshot).into_iter().take(4).collect());
        return nodes(frame, rest, canvas);
    }
    let full = canvas.size == Size::Full;
    let [top, middle, below] =
        split_rows(area, [Constraint::Length(if full { 9 } else { 7 }), Constraint::Length(if full { 9 } else { 0 }), Constraint::Min(0)]);
    let [left, right] = split_columns(top, [Constraint::Percentage(50), Constraint::Min(0)]);
    canvas.panel(frame, left, &format!("table {}", snapshot.table), |_| facts(canvas, snapshot));
    canvas.panel(frame, right, "retries by reason", |width| retries(canvas, snapshot, width));
    if full {
        let [left, right] = split_columns(middle, [Constraint::Percentage(50), Constraint::Min(0)]);
        canvas.panel(frame, left, &format!("rows a second, last {} min", canvas.model.minutes()), |width| inserts(canvas, width, 7));
        canvas.panel(frame, right, "how long a write takes", |width| histogram(canvas, snapshot, width, 7));
    }
    nodes(frame, below, canvas);
}

fn facts(canvas: &Canvas<'_>, snapshot: &Snapshot) -> Vec<Line<'static>> {
    let fact = |name: &str, value: String, role| fields::fact(canvas, name, &value, role);
    let batches = snapshot.batches.len().max(1) as u64;
    let rows = snapshot.batches.iter().map(|batch| batch.rows).fold(0, u64::saturating_add) / batches;
    let write = stage_times(snapshot).into_iter().find(|stage| stage.name == "write");
    let statements = canvas.window.rate(|snapshot| snapshot.store.as_ref().map_or(0, |store| store.statements));
    let mut lines = vec![fact(
        "inserts",
        format!(
            "{} rows, {} in all",
            text::rate(canvas.window.rate(|snapshot| snapshot.totals.written)),
            text::count(snapshot.totals.written)
        ),
        Role::Title,
    )];
    if let Some(write) = write {
        let numbers = format!("p50 {}  p95 {}  p99 {}", text::micros(write.p50), text::micros(write.p95), text::micros(write.p99));
        lines.push(fact("write", numbers, Role::Text));
    }
    lines.push(fact("a batch", format!("{} rows on average", text::count(rows)), Role::Text));
    match &snapshot.store {
        Some(store) => {
            let consistency = if store.consistency.is_empty() { String::new() } else { format!(", consistency {}", store.consistency) };
            lines.push(fact("store", format!("{}{consistency}", store.kind), Role::Text));
            lines.push(fact(
                "statements",
                format!("{} in flight, {}, {} in all", store.in_flight, text::rate(statements), text::count(store.statements)),
                Role::Text,
            ));
        }
        None if canvas.model.measured() => lines.push(fact("store", snapshot.cassandra.clone(), Role::Text)),
        None => lines.push(canvas.unknown()),
    }
    let retries = snapshot.totals.write_retries;
    lines.push(fact("retries", text::count(retries), if retries > 0 { Role::Warn } else { Role::Muted }));
    lines
}

fn retries(canvas: &Canvas<'_>, snapshot: &Snapshot, width: usize) -> Vec<Line<'static>> {
    let Some(store) = &snapshot.store else {
        let text = if canvas.model.measured() { "this process does not report reasons".to_owned() } else { String::new() };
        return vec![if text.is_empty() { canvas.unknown() } else { canvas.styled(text, Role::Muted) }];
    };
    let max = store.retries.values().max().copied().unwrap_or(0).max(1);
    let line = |(reason, n): (&String, &u64)| {
        let (bar, _) = chart::horizontal_bar(*n as f64 / max as f64, width.saturating_sub(28), canvas.theme);
        let role = if *n > 0 { Role::Warn } else { Role::Muted };
        Line::from(vec![
            Span::styled(format!("{reason:<15}"), canvas.theme.style(Role::Muted)),
            Span::styled(bar, canvas.theme.style(role)),
            Span::styled(format!(" {}", text::count(*n)), canvas.theme.style(role)),
        ])
    };
    if store.retries.values().all(|n| *n == 0) {
        return vec![canvas.styled(format!("{} none", canvas.theme.symbols.done), Role::Good)];
    }
    store.retries.iter().map(line).collect()
}

fn inserts(canvas: &Canvas<'_>, width: usize, height: usize) -> Vec<Line<'static>> {
    let columns = canvas.window.history().columns(width.saturating_sub(10), |point| point.written);
    let scale = chart::max_of(&columns).max(1.0);
    let rows = chart::bar_rows(&columns, scale, height, canvas.theme).into_iter().enumerate();
    let line = |(at, row): (usize, String)| {
        let head = if at == 0 { text::short(scale) } else { String::new() };
        Line::from(vec![
            Span::styled(format!("{head:>9} "), canvas.theme.style(Role::Muted)),
            Span::styled(row, canvas.theme.style(Role::Out)),
        ])
    };
    rows.map(line).collect()
}

/// The measured histogram since the start, or else that of the batches in memory.
fn histogram(canvas: &Canvas<'_>, snapshot: &Snapshot, width: usize, height: usize) -> Vec<Line<'static>> {
    let measured = snapshot.stages.iter().find(|stage| stage.stage == "write").filter(|stage| !stage.buckets.is_empty());
    let buckets: Vec<(u64, u64)> = match measured {
        Some(stage) => {
            let mut before = 0;
            let alone = stage.buckets.iter().map(|&(upto, n)| {
                let here = n.saturating_sub(before);
                before = n;
                (upto, here)
            });
            let all: Vec<_> = alone.collect();
            let (first, last) = (all.iter().position(|(_, n)| *n > 0), all.iter().rposition(|(_, n)| *n > 0));
            first.zip(last).map_or_else(Vec::new, |(first, last)| all[first..=last].to_vec())
        }
        None => chart::histogram(snapshot.batches.iter().map(|batch| batch.write_micros)),
    };
    if buckets.is_empty() {
        return vec![canvas.styled("nothing written yet".to_owned(), Role::Muted)];
    }
    chart::histogram_lines(&buckets, None, width, height, canvas.theme)
}

fn nodes(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    canvas.list(frame, area, List::Nodes, |order, _| {
        let columns = vec![
            Column::left("node", 0),
            Column::left("state", 0),
            Column::left("datacenter", 2),
            Column::left("rack", 3),
            Column::right("connections", 1),
        ];
        let row = |node: &NodeView| {
            let (symbol, word, role) =
                if node.up { (canvas.theme.symbols.dot, "up", Role::Good) } else { (canvas.theme.symbols.ended, "DOWN", Role::Bad) };
            vec![
                Cell::from(node.address.clone()),
                Cell::new(format!("{symbol} {word}"), role),
                Cell::from(node.datacenter.clone()),
                Cell::from(node.rack.clone()),
                Cell::from(text::count(node.connections)),
            ]
        };
        let nodes = canvas.snapshot().and_then(|snapshot| snapshot.store.as_ref()).map_or(&[][..], |store| &store.nodes);
        Grid { columns, min_last: 4, rows: order.iter().filter_map(|&at| nodes.get(at)).map(row).collect() }
    });
}
