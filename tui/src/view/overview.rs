//! The overview: flow, throughput, latency, partitions, actors, runs and batches.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};

use super::{Canvas, Size, actors, batches, chart, draw_lines, flow, halves, partitions, rows, runs, split_rows};
use crate::state::{List, stage_times};
use crate::text;
use crate::theme::{Role, Theme};

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    match canvas.size {
        Size::Full => full(frame, area, canvas),
        _ => reduced(frame, area, canvas),
    }
}

fn full(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let snapshot = canvas.snapshot();
    let partitions = snapshot.map_or(0, |snapshot| snapshot.partitions.len());
    let actors = snapshot.map_or(0, |snapshot| snapshot.actors.len());
    let runs = snapshot.map_or(0, |snapshot| snapshot.runs.len());
    let [path, trends, rest, last] =
        split_rows(area, [Constraint::Length(8), Constraint::Length(5), Constraint::Min(0), Constraint::Length(1)]);
    canvas.panel(frame, path, "path", |width| flow::diagram(canvas.window, canvas.theme, width));
    let [left, right] = halves(trends);
    canvas.panel(frame, left, &format!("records in, rows out, lag: last {} min", canvas.model.minutes()), |width| {
        chart::flow(canvas.window, canvas.theme, width)
    });
    let trigger =
        snapshot.and_then(batches::trigger).map_or_else(String::new, |trigger| format!("; trigger {}", text::whole_micros(trigger)));
    canvas.panel(frame, right, &format!("from produced to readable{trigger}"), |width| latency(canvas, width));
    // The upper tables get at most half of the height, the lower ones the rest.
    let least = rest.height / 2;
    let [left, right] = halves(rest);
    let wanted = |n: usize| rows(n + 3).max(5).min(rest.height.saturating_sub(least.min(7)));
    let [upper, lower] = split_rows(left, [Constraint::Length(wanted(partitions).min(least.max(7))), Constraint::Min(0)]);
    panel(frame, upper, canvas, List::Partitions);
    panel(frame, lower, canvas, List::Batches);
    // The actors need the most rows, so the runs get at most a third.
    let below = rows(runs + 3).max(4).min((rest.height / 3).max(4));
    let [upper, lower] =
        split_rows(right, [Constraint::Length(rows(actors + 3).min(rest.height.saturating_sub(below))), Constraint::Min(0)]);
    panel(frame, upper, canvas, List::Actors);
    panel(frame, lower, canvas, List::Runs);
    draw_lines(frame, last, vec![last_restart(canvas, usize::from(last.width))]);
}

/// The flow in words, charts, and one list at a time.
fn reduced(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let room = usize::from(area.width).saturating_sub(2);
    let roomy = canvas.size == Size::Reduced;
    let mut top = flow::in_words(canvas.window, canvas.theme, room);
    if roomy {
        top.push(flow::totals(canvas.window, canvas.theme, room));
        top.extend(chart::flow(canvas.window, canvas.theme, room));
    }
    top.extend(latency(canvas, room).into_iter().take(1));
    let top: Vec<_> = top.into_iter().map(indented).collect();
    let height = rows(top.len()).min(area.height.saturating_sub(4));
    let [head, rest] = split_rows(area, [Constraint::Length(height), Constraint::Min(0)]);
    draw_lines(frame, head, top);
    let list = canvas.model.list();
    panel(frame, rest, canvas, list);
}

fn indented(mut line: Line<'static>) -> Line<'static> {
    line.spans.insert(0, Span::raw(" "));
    line
}

fn panel(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>, list: List) {
    match list {
        List::Actors => actors::list(frame, area, canvas),
        List::Batches => batches::list(frame, area, canvas, 12),
        List::Runs => runs::list(frame, area, canvas, 10),
        _ => canvas.list(frame, area, List::Partitions, |order, _| partitions::grid_of(canvas.window, order, canvas.theme)),
    }
}

/// The latency with its history, then the stages of a batch in words and as a bar.
pub(super) fn latency(canvas: &Canvas<'_>, width: usize) -> Vec<Line<'static>> {
    let Some(snapshot) = canvas.snapshot() else { return Vec::new() };
    let theme = canvas.theme;
    let known = canvas.model.measured() && snapshot.latency_ms != forebay_schemas::snapshot::Latency::default();
    let first = if known {
        let name = format!("p50 {}  p99 {}  ", text::millis(snapshot.latency_ms.p50), text::millis(snapshot.latency_ms.p99));
        let p99 = canvas.window.history().columns(width.saturating_sub(text::width(&name)), |point| point.p99);
        Line::from(vec![
            Span::styled(name, theme.style(Role::Title)),
            Span::styled(chart::sparkline(&p99, chart::max_of(&p99), theme), theme.style(Role::Lag)),
        ])
    } else if canvas.model.measured() {
        canvas.styled("nothing written recently".to_owned(), Role::Muted)
    } else {
        canvas.unknown()
    };
    let stages: Vec<_> =
        stage_times(snapshot).into_iter().filter(|stage| ["wait", "transform", "write", "commit"].contains(&stage.name.as_str())).collect();
    let parts: Vec<(&str, u64)> = stages.iter().map(|stage| (stage.name.as_str(), stage.p50)).collect();
    let total: u64 = parts.iter().map(|(_, micros)| *micros).fold(0, u64::saturating_add);
    vec![
        first,
        words(&parts, width, theme),
        Line::from(
            chart::stacked_bar(&parts, total, width, theme)
                .into_iter()
                .map(|(piece, role)| Span::styled(piece, theme.style(role)))
                .collect::<Vec<_>>(),
        ),
    ]
}

fn words(parts: &[(&str, u64)], width: usize, theme: &Theme) -> Line<'static> {
    let mut spans = Vec::new();
    let mut room = width;
    for (name, micros) in parts {
        let (symbol, role) = chart::stage_style(name, theme);
        let name = format!("{name} {}  ", text::micros(*micros));
        if text::width(&name) > room {
            break;
        }
        room = room.saturating_sub(text::width(&name) + 2);
        spans.push(Span::styled(format!("{symbol} "), theme.style(role)));
        spans.push(Span::raw(name));
    }
    Line::from(spans)
}

/// The last restart.
fn last_restart(canvas: &Canvas<'_>, width: usize) -> Line<'static> {
    let all = canvas.projection.actual_restarts().count();
    let Some(restart) = canvas.projection.actual_restarts().next_back() else {
        let text = if canvas.projection.seq == 0 { "" } else { " no restart in the events in memory" };
        return canvas.styled(text.to_owned(), Role::Muted);
    };
    let mut line = actors::restart_line(restart, width.saturating_sub(26), canvas.theme);
    line.spans.insert(0, Span::styled(format!(" last of {all}: "), canvas.theme.style(Role::Muted)));
    line
}
