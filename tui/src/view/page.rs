//! One thing alone: a batch, a run, an actor, a record, an event. Lines that scroll.

use forebay_schemas::event::Event;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Canvas, actors, alerts, batches, journal, letters, logs, partitions, put, records, runs};
use crate::state::RowId;
use crate::text;
use crate::theme::Role;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>, id: &RowId) {
    let width = usize::from(area.width.saturating_sub(4));
    let mut lines = match id {
        RowId::Partition(partition) => partitions::page(canvas, *partition, width),
        RowId::Actor(path) => actors::page(canvas, path, width),
        RowId::Run(id) => runs::page(canvas, *id, width),
        RowId::Batch(id) => batches::page(canvas, *id, width),
        RowId::Record(partition, offset) => records::page(canvas, *partition, *offset, width),
        RowId::Letter(partition, offset) => letters::page(canvas, *partition, *offset, width),
        RowId::Event(seq) => journal::page(canvas, *seq, width),
        RowId::Log(since, seq) => logs::page(canvas, *since, *seq, width),
        RowId::Alert(name) => alerts::page(canvas, name, width),
        RowId::Node(address) => node(canvas, address),
    };
    let room = usize::from(area.height.saturating_sub(2));
    let hidden = lines.len().saturating_sub(room);
    let scroll = canvas.model.scroll.min(hidden);
    let part = if hidden > 0 { format!("  lines {}-{} of {}", scroll + 1, scroll + room, lines.len()) } else { String::new() };
    let inner = canvas.frame(frame, area, vec![canvas.title(&format!("{}{part}", id.title()), true)]);
    lines.drain(..scroll);
    put(frame, inner, lines);
}

fn node(canvas: &Canvas<'_>, address: &str) -> Vec<Line<'static>> {
    let node = canvas.look().and_then(|look| look.store.as_ref()).and_then(|store| store.nodes.iter().find(|node| node.address == address));
    let Some(node) = node else { return vec![canvas.styled("there is no such node at this moment".to_owned(), Role::Warn)] };
    vec![
        fact(canvas, "state", if node.up { "up" } else { "DOWN" }, if node.up { Role::Good } else { Role::Bad }),
        fact(canvas, "datacenter", &node.datacenter, Role::Text),
        fact(canvas, "rack", &node.rack, Role::Text),
        fact(canvas, "connections", &text::count(node.connections), Role::Text),
    ]
}

/// A named value.
pub(super) fn fact(canvas: &Canvas<'_>, name: &str, value: &str, role: Role) -> Line<'static> {
    Line::from(vec![
        Span::styled(format!("{name:<13} "), canvas.theme.style(Role::Muted)),
        Span::styled(value.to_owned(), canvas.theme.style(role)),
    ])
}

/// A named value over as many lines as it takes.
pub(super) fn wrapped(canvas: &Canvas<'_>, name: &str, value: &str, width: usize) -> Vec<Line<'static>> {
    let lines = text::wrap(value, width.saturating_sub(14)).into_iter().enumerate();
    lines.map(|(at, line)| fact(canvas, if at == 0 { name } else { "" }, &line, Role::Text)).collect()
}

/// The last events for which something holds, up to what is shown.
pub(super) fn events(canvas: &Canvas<'_>, width: usize, most: usize, wanted: impl Fn(&Event) -> bool) -> Vec<Line<'static>> {
    journal::last(canvas, width, most, wanted)
}

/// Whether an event is one of an actor.
pub(super) fn names_actor(event: &Event, path: &str) -> bool {
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
