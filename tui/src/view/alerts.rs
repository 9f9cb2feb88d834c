//! The alerts of the process, which are also exported as Prometheus rules, and the findings of the
//! monitor.

use forebay_schemas::snapshot::AlertView;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::Line;

use super::aligned_rows::{Cell, Column, Grid};
use super::fields::{fact, wrapped};
use super::{Canvas, rows, split_rows};
use crate::state::List;
use crate::text;
use crate::theme::Role;

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let found = rows(canvas.findings(usize::from(area.width)).len() + 2).min(area.height / 2);
    let [upper, lower] = split_rows(area, [Constraint::Min(0), Constraint::Length(found)]);
    canvas.list(frame, upper, List::Alerts, |order, _| {
        let Some(snapshot) = canvas.snapshot() else { return Grid::default() };
        let columns =
            vec![Column::left("alert", 0), Column::left("severity", 2), Column::right("for", 1), Column::left("what is wrong", 0)];
        let row = |alert: &AlertView| {
            let (symbol, role) = mark(alert, canvas);
            vec![
                Cell::new(format!("{symbol} {}", alert.name), role),
                Cell::new(alert.severity.clone(), role),
                Cell::from(text::ago(snapshot.at - alert.since)),
                Cell::from(alert.summary.clone()),
            ]
        };
        Grid { columns, min_last: 20, rows: order.iter().filter_map(|&at| snapshot.alerts.get(at)).map(row).collect() }
    });
    canvas.panel(frame, lower, "what this view finds, worst first", |width| canvas.findings(width));
}

fn mark(alert: &AlertView, canvas: &Canvas<'_>) -> (&'static str, Role) {
    if alert.severity == "critical" { (canvas.theme.symbols.ended, Role::Bad) } else { (canvas.theme.symbols.stuck, Role::Warn) }
}

/// The detail view of an alert.
pub(super) fn detail(canvas: &Canvas<'_>, name: &str, width: usize) -> Vec<Line<'static>> {
    let Some(alert) = canvas.snapshot().and_then(|snapshot| snapshot.alerts.iter().find(|alert| alert.name == name)) else {
        return vec![canvas.styled(format!("{} resolved", canvas.theme.symbols.done), Role::Good)];
    };
    let (symbol, role) = mark(alert, canvas);
    let mut lines = vec![fact(canvas, "severity", &format!("{symbol} {}", alert.severity), role)];
    lines.extend(wrapped(canvas, "what", &alert.summary, width));
    lines.extend(wrapped(canvas, "what to do", &alert.remedy, width));
    lines.push(fact(canvas, "since", &alert.since.format("%F %T").to_string(), Role::Text));
    lines.push(Line::default());
    lines.push(canvas.styled("t goes to the moment it started".to_owned(), Role::Muted));
    lines
}
