//! The supervision tree: state, incarnation, last exit and note of each actor.

use forebay_schemas::event::Event;
use forebay_schemas::snapshot::{ActorState, ActorView, EdgeView, Snapshot};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};

use super::aligned_rows::{Cell, Column, Grid};
use super::fields::{fact, wrapped};
use super::{Canvas, Size, chart, rows, split_columns, split_rows};
use crate::state::projection::Restart;
use crate::state::{List, Pressure};
use crate::text;
use crate::theme::{Role, Theme};

/// The tree, with the restarts and the budgets below.
pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let Some(snapshot) = canvas.snapshot() else { return list(frame, area, canvas) };
    if canvas.size < Size::Reduced {
        return list(frame, area, canvas);
    }
    let wanted = rows(snapshot.actors.len() + 3).max(6);
    let below = if canvas.size == Size::Full { 9 } else { 6 };
    let [tree, below] = split_rows(area, [Constraint::Length(wanted.min(area.height.saturating_sub(below))), Constraint::Min(0)]);
    list(frame, tree, canvas);
    let [left, right] = split_columns(below, [Constraint::Percentage(62), Constraint::Min(0)]);
    canvas.panel(frame, left, "restarts, newest first", |width| restarts(canvas, width));
    canvas.panel(frame, right, "budgets", |width| budgets(canvas, width));
}

/// The tree in a frame.
pub(super) fn list(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    canvas.list(frame, area, List::Actors, |order, _| {
        canvas.snapshot().map_or_else(Grid::default, |snapshot| {
            let tree = canvas.model.sort(List::Actors) == crate::state::Sort::default() && canvas.model.filter(List::Actors).is_empty();
            let mut grid = grid(snapshot, canvas.theme);
            grid.rows = order
                .iter()
                .filter_map(|&at| {
                    let mut row = grid.rows.get(at)?.clone();
                    if !tree {
                        let (symbol, role) = symbol(snapshot.actors[at].state, canvas.theme);
                        row[0] = Cell::new(format!("{symbol} "), role).and(snapshot.actors[at].path.clone(), Role::Text);
                    }
                    Some(row)
                })
                .collect();
            grid
        })
    });
}

/// The last restarts: when, which actor, why, and its downtime.
pub(super) fn restarts(canvas: &Canvas<'_>, width: usize) -> Vec<Line<'static>> {
    let theme = canvas.theme;
    let mut lines: Vec<_> = canvas.projection.actual_restarts().rev().take(20).map(|restart| restart_line(restart, width, theme)).collect();
    if lines.is_empty() {
        lines.push(canvas.styled(format!("{} none in the events in memory", theme.symbols.done), Role::Muted));
    }
    lines
}

pub(super) fn restart_line(restart: &Restart, width: usize, theme: &Theme) -> Line<'static> {
    let name = restart.actor.rsplit('/').next().unwrap_or(&restart.actor);
    let (away, role) = match restart.downtime() {
        Some(away) => (format!("back after {}", text::seconds(away.as_seconds_f64())), Role::Good),
        None => ("not back yet".to_owned(), Role::Bad),
    };
    let head = format!("{} {} {name} #{} ", restart.at.format("%H:%M:%S"), theme.symbols.restart, restart.incarnation);
    let room = width.saturating_sub(text::width(&head) + text::width(&away) + 2);
    let why = text::cut(&restart.why, room, theme.symbols.cut);
    Line::from(vec![Span::styled(head, theme.style(Role::Warn)), Span::raw(format!("{why}  ")), Span::styled(away, theme.style(role))])
}

fn budgets(canvas: &Canvas<'_>, width: usize) -> Vec<Line<'static>> {
    let Some(snapshot) = canvas.snapshot() else { return Vec::new() };
    if snapshot.edges.is_empty() {
        return vec![if canvas.model.measured() { canvas.styled("none".to_owned(), Role::Muted) } else { canvas.unknown() }];
    }
    let theme = canvas.theme;
    let line = |edge: &EdgeView| {
        let pressure = canvas.window.pressure(&edge.name);
        let role = match pressure {
            Pressure::Ok => Role::Good,
            Pressure::Low => Role::Warn,
            Pressure::High => Role::Bad,
        };
        let part = if edge.budget_bytes == 0 { 0.0 } else { edge.used_bytes as f64 / edge.budget_bytes as f64 };
        let (bar, rest) = chart::horizontal_bar(part, 10, theme);
        let name = text::cut(&edge.name.replace("->", theme.symbols.to), width.saturating_sub(28), theme.symbols.cut);
        let pad = width.saturating_sub(28 + text::width(&name));
        Line::from(vec![
            Span::raw(format!("{name}{} ", " ".repeat(pad))),
            Span::styled(bar, theme.style(role)),
            Span::styled(rest, theme.style(Role::Muted)),
            Span::raw(format!(" {:>5} ", text::percent(edge.used_bytes, edge.budget_bytes))),
            Span::styled(format!("{:<4}", pressure.as_str()), theme.style(role)),
        ])
    };
    snapshot.edges.iter().map(line).collect()
}

/// One actor in one line.
pub(super) fn summary(actor: &ActorView, theme: &Theme) -> String {
    let note = actor.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
    let exit = actor.last_exit.as_ref().map(|exit| format!("; {} {exit}", theme.symbols.restart)).unwrap_or_default();
    format!("{} #{} since {}{note}{exit}", actor.path, actor.incarnation, actor.since.format("%F %T"))
}

/// The detail view of an actor.
pub(super) fn detail(canvas: &Canvas<'_>, path: &str, width: usize) -> Vec<Line<'static>> {
    let Some(snapshot) = canvas.snapshot() else { return Vec::new() };
    let mut lines = Vec::new();
    match snapshot.actors.iter().find(|actor| actor.path == path) {
        None => lines.push(canvas.styled("no such actor at this moment".to_owned(), Role::Warn)),
        Some(actor) => {
            let (symbol, role) = symbol(actor.state, canvas.theme);
            lines.push(fact(canvas, "state", &format!("{symbol} {}", text::actor_state(actor.state)), role));
            lines.push(fact(
                canvas,
                "incarnation",
                &format!(
                    "#{} since {}, for {}",
                    actor.incarnation,
                    actor.since.format("%F %T%.3f"),
                    text::clock(snapshot.at - actor.since)
                ),
                Role::Text,
            ));
            lines.push(fact(canvas, "restarts", &actor.restarts.max(actor.incarnation.saturating_sub(1)).to_string(), Role::Text));
            lines.push(fact(canvas, "mailbox", &format!("{} messages waiting", actor.mailbox), Role::Text));
            for (name, text) in [("note", &actor.note), ("last exit", &actor.last_exit)] {
                if let Some(text) = text {
                    lines.extend(wrapped(canvas, name, text, width));
                }
            }
        }
    }
    lines.push(Line::default());
    lines.push(canvas.styled("restarts".to_owned(), Role::Title));
    let mine: Vec<_> = canvas
        .projection
        .actual_restarts()
        .rev()
        .filter(|restart| restart.actor == path)
        .take(20)
        .map(|restart| restart_line(restart, width, canvas.theme))
        .collect();
    if mine.is_empty() {
        lines.push(canvas.styled("none in the events in memory".to_owned(), Role::Muted));
    }
    lines.extend(mine);
    lines.push(Line::default());
    lines.push(canvas.styled("last events; t goes to the newest".to_owned(), Role::Title));
    lines.extend(super::journal::last(canvas, width, 12, |event| names_actor(event, path)));
    lines
}

/// Whether an event is about an actor.
fn names_actor(event: &Event, path: &str) -> bool {
    match event {
        Event::ChildStarted { actor, .. }
        | Event::ChildExited { actor, .. }
        | Event::ChildStuck { actor, .. }
        | Event::IntensityExceeded { actor, .. }
        | Event::ActorRestartRequested { actor, .. }
        | Event::Escalated { actor, .. } => actor == path,
        Event::RestartScheduled { actor, affected, .. } => {
            actor == path
                || affected.iter().any(|name| path.strip_prefix(actor.as_str()).and_then(|rest| rest.strip_prefix('/')) == Some(name))
        }
        _ => false,
    }
}

/// One row per actor, indented as a tree.
pub(crate) fn grid(snapshot: &Snapshot, theme: &Theme) -> Grid {
    let columns = vec![
        Column::left("actor", 0),
        Column::left("state", 0),
        Column::right("#", 1),
        Column::right("for", 3),
        Column::right("restarts", 4),
        Column::right("mailbox", 5),
        Column::left("why", 2),
    ];
    let row = |(at, actor): (usize, &ActorView)| {
        let (symbol, role) = symbol(actor.state, theme);
        let name = actor.path.rsplit('/').next().unwrap_or(&actor.path);
        let restarts = actor.restarts.max(actor.incarnation.saturating_sub(1));
        vec![
            Cell::new(indent(&snapshot.actors, at, theme), Role::Muted).and(format!("{symbol} "), role).and(name, Role::Text),
            Cell::new(text::actor_state(actor.state), role),
            Cell::from(format!("#{}", actor.incarnation)),
            Cell::from(text::clock(snapshot.at - actor.since)),
            Cell::new(restarts.to_string(), if restarts > 0 { Role::Warn } else { Role::Muted }),
            Cell::new(text::count(actor.mailbox), if actor.mailbox > 0 { Role::Text } else { Role::Muted }),
            why(actor, theme),
        ]
    };
    Grid { columns, min_last: 12, rows: snapshot.actors.iter().enumerate().map(row).collect() }
}

/// The note of an actor, then its last exit.
fn why(actor: &ActorView, theme: &Theme) -> Cell {
    let mut cell = Cell::default();
    if let Some(note) = &actor.note {
        cell = cell.and(note.clone(), if actor.state == ActorState::Up { Role::Text } else { Role::Warn });
    }
    if let Some(exit) = &actor.last_exit {
        let gap = if actor.note.is_some() { "  " } else { "" };
        cell = cell.and(format!("{gap}{} {exit}", theme.symbols.restart), Role::Muted);
    }
    cell
}

/// The branches of the tree before an actor.
fn indent(actors: &[ActorView], at: usize, theme: &Theme) -> String {
    let parts: Vec<_> = actors[at].path.split('/').collect();
    let mut out = String::new();
    for depth in 1..parts.len() {
        // Whether the same parent has another child below.
        let continues = actors[at + 1..].iter().map_while(|later| {
            let mut later = later.path.split('/');
            parts[..depth].iter().all(|part| later.next() == Some(part)).then(|| later.next())
        });
        let continues = continues.flatten().any(|name| name != parts[depth]);
        out.push_str(match (depth + 1 == parts.len(), continues) {
            (true, true) => theme.symbols.branch,
            (true, false) => theme.symbols.last_branch,
            (false, true) => theme.symbols.trunk,
            (false, false) => "  ",
        });
    }
    out
}

pub(super) fn symbol(state: ActorState, theme: &Theme) -> (&'static str, Role) {
    match state {
        ActorState::Up => (theme.symbols.dot, Role::Good),
        ActorState::Waiting => (theme.symbols.waiting, Role::Warn),
        ActorState::Stuck => (theme.symbols.stuck, Role::Bad),
        ActorState::Restarting => (theme.symbols.restart, Role::Bad),
        ActorState::Ended => (theme.symbols.ended, Role::Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data;
    use crate::theme::Options;

    #[test]
    fn each_child_has_a_branch_and_a_trunk_if_more_children_follow() {
        let (snapshot, theme) = (test_data::busy(), Theme::new(Options::default()));
        let drawn: Vec<_> = (0..snapshot.actors.len())
            .map(|at| indent(&snapshot.actors, at, &theme) + snapshot.actors[at].path.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(
            drawn,
            [
                "root",
                "├ ledger",
                "├ broker",
                "├ ingest",
                "│ ├ producer",
                "│ └ fetchers",
                "│   └ fetcher",
                "├ egress",
                "│ ├ writer",
                "│ ├ transformer",
                "│ └ consumer",
                "└ observers",
                "  └ api"
            ]
        );
    }
}
