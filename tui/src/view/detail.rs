//! The detail view of one item; it scrolls.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::fields::fact;
use super::{Canvas, actors, alerts, batches, dead_letters, draw_lines, journal, logs, partitions, records, runs};
use crate::state::RowId;
use crate::text;
use crate::theme::Role;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>, id: &RowId) {
    let width = usize::from(area.width.saturating_sub(4));
    let mut lines = match id {
        RowId::Partition(partition) => partitions::detail(canvas, *partition, width),
        RowId::Actor(path) => actors::detail(canvas, path, width),
        RowId::Run(id) => runs::detail(canvas, *id, width),
        RowId::Batch(id) => batches::detail(canvas, *id, width),
        RowId::Record(partition, offset) => records::detail(canvas, *partition, *offset, width),
        RowId::DeadLetter(partition, offset) => dead_letters::detail(canvas, *partition, *offset, width),
        RowId::Event(seq) => journal::detail(canvas, *seq, width),
        RowId::Log(since, seq) => logs::detail(canvas, *since, *seq, width),
        RowId::Alert(name) => alerts::detail(canvas, name, width),
        RowId::Node(address) => node(canvas, address),
    };
    let room = usize::from(area.height.saturating_sub(2));
    let hidden = lines.len().saturating_sub(room);
    let scroll = canvas.model.scroll.min(hidden);
    let part = if hidden > 0 { format!("  lines {}-{} of {}", scroll + 1, scroll + room, lines.len()) } else { String::new() };
    let inner = canvas.frame(frame, area, vec![canvas.title(&format!("{}{part}", id.title()), true)]);
    lines.drain(..scroll);
    draw_lines(frame, inner, lines);
}

fn node(canvas: &Canvas<'_>, address: &str) -> Vec<Line<'static>> {
    let node = canvas
        .snapshot()
        .and_then(|snapshot| snapshot.store.as_ref())
        .and_then(|store| store.nodes.iter().find(|node| node.address == address));
    let Some(node) = node else { return vec![canvas.styled("no such node at this moment".to_owned(), Role::Warn)] };
    vec![
        fact(canvas, "state", if node.up { "up" } else { "DOWN" }, if node.up { Role::Good } else { Role::Bad }),
        fact(canvas, "datacenter", &node.datacenter, Role::Text),
        fact(canvas, "rack", &node.rack, Role::Text),
        fact(canvas, "connections", &text::count(node.connections), Role::Text),
    ]
}
