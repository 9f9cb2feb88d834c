//! The partitions of the topic, with a heat map of each one's lag.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};

use super::aligned_rows::{Cell, Column, Grid};
use super::{Canvas, Size, chart, draw_lines, partitions, rows, split_rows};
use crate::state::{List, Trend};
use crate::text;
use crate::theme::Role;

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let Some(snapshot) = canvas.snapshot().filter(|_| canvas.size >= Size::Reduced) else { return list(frame, area, canvas) };
    let wanted = rows(snapshot.partitions.len() + 3).max(6);
    let [head, table, below] =
        split_rows(area, [Constraint::Length(2), Constraint::Length(wanted.min(area.height.saturating_sub(2))), Constraint::Min(0)]);
    draw_lines(frame, head, facts(canvas));
    list(frame, table, canvas);
    if below.height >= 5 {
        canvas.panel(frame, below, &format!("records in, rows out, lag: last {} min", canvas.model.minutes()), |width| {
            let height = usize::from(below.height.saturating_sub(2));
            tall_flow(canvas, width, height)
        });
    }
}

/// The topic, its group, and the total lag.
fn facts(canvas: &Canvas<'_>) -> Vec<Line<'static>> {
    let Some(snapshot) = canvas.snapshot() else { return Vec::new() };
    let trend = match canvas.window.lag_trend() {
        Trend::Rising => "rising",
        Trend::Steady => "steady",
        Trend::Falling => "falling",
    };
    let behind = match canvas.window.behind() {
        _ if canvas.window.lag() == 0 => "caught up".to_owned(),
        Some(seconds) => format!("{} behind", text::seconds(seconds)),
        None => "not moving".to_owned(),
    };
    let group = if canvas.projection.group.is_empty() { String::new() } else { format!(", read by group {}", canvas.projection.group) };
    let letters = format!("{} dead letters", text::count(snapshot.totals.rejected));
    vec![
        Line::from(vec![
            Span::styled(format!(" {}", snapshot.topic), canvas.theme.style(Role::Title)),
            Span::raw(format!(" at {}: {} partitions{group}", snapshot.kafka, snapshot.partitions.len())),
        ]),
        Line::from(vec![
            Span::styled(format!(" lag {} {trend}, {behind}", text::count(canvas.window.lag())), canvas.theme.style(Role::Title)),
            Span::raw(format!(
                "   in {}   out {}   {letters}",
                text::rate(canvas.window.received()),
                text::rate(canvas.window.rate(|snapshot| snapshot.totals.consumed))
            )),
        ]),
    ]
}

fn list(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    canvas.list(frame, area, List::Partitions, |order, width| {
        let mut grid: Grid = partitions::grid_of(canvas.window, order, canvas.theme);
        let Some(snapshot) = canvas.snapshot() else { return grid };
        grid.columns.push(Column::left("state", 5));
        let room = width.saturating_sub(grid.width() + 12).min(60);
        let heat = partitions::heat(canvas, room);
        let hottest = heat.values().map(|lags| chart::max_of(lags)).fold(0.0, f64::max).max(1.0);
        grid.columns.push(Column::left(if room >= 20 { "lag over that time: light to heavy" } else { "lag" }, 7));
        grid.min_last = 8;
        for (row, &at) in grid.rows.iter_mut().zip(order) {
            let Some(view) = snapshot.partitions.get(at) else { continue };
            row.push(partitions::state(view));
            let lags = heat.get(&view.partition).map_or(&[][..], Vec::as_slice);
            row.push(lags.iter().fold(Cell::default(), |cell, lag| cell.and_styled(canvas.theme.heat(lag.map(|lag| lag / hottest)))));
        }
        grid
    });
}

/// Charts of records in, rows out and lag, several rows high.
fn tall_flow(canvas: &Canvas<'_>, width: usize, height: usize) -> Vec<Line<'static>> {
    let each = (height / 3).clamp(1, 5);
    if each == 1 {
        return chart::flow(canvas.window, canvas.theme, width);
    }
    let history = canvas.window.history();
    let columns = chart::trend_columns(width);
    let (ins, outs, lags) = (
        history.columns(columns, |point| point.received),
        history.columns(columns, |point| point.written),
        history.columns(columns, |point| point.lag),
    );
    let scale = chart::max_of(&ins).max(chart::max_of(&outs));
    let window = canvas.window;
    let rows = [
        ("in", text::rate(window.received()), ins, scale, Role::In),
        ("out", text::rate(window.rate(|snapshot| snapshot.totals.written)), outs, scale, Role::Out),
        ("lag", text::short(window.lag() as f64), lags.clone(), chart::max_of(&lags).max(10.0), Role::Lag),
    ];
    let mut lines = Vec::new();
    for (name, number, columns, scale, role) in rows {
        for (at, row) in chart::bar_rows(&columns, scale, each, canvas.theme).into_iter().enumerate() {
            let head = match at {
                0 => format!("{name:<4}{number:>9}  "),
                at if at + 1 == each => format!("{:>13}  ", format!("of {}", text::short(scale))),
                _ => " ".repeat(15),
            };
            lines.push(Line::from(vec![
                Span::styled(head, canvas.theme.style(if at == 0 { Role::Text } else { Role::Muted })),
                Span::styled(row, canvas.theme.style(role)),
            ]));
        }
    }
    lines
}
