//! The last lines: the selected row in full, and what keys do.

use ratatui::text::{Line, Span};

use crate::state::{Folded, Model, Panel};
use crate::text;
use crate::theme::{Role, Theme};

/// The hints, the most needed first.
const HINTS: [(&str, &str); 5] = [("q", "leave"), ("?", "help"), ("space", "freeze"), ("tab", "panel"), ("j k", "row")];

/// Two lines: the row under the cursor, and the keys.
pub(crate) fn lines(model: &Model, folded: &Folded, theme: &Theme, width: usize) -> Vec<Line<'static>> {
    let row = selected(model, folded, theme).map(|row| text::cut(&format!(" {row}"), width, theme.signs.cut)).unwrap_or_default();
    let mut spans = Vec::new();
    let mut room = width;
    for (key, what) in HINTS {
        let wide = key.len() + what.len() + 3;
        if wide > room {
            break;
        }
        room -= wide;
        spans.push(Span::styled(format!(" {key}"), theme.style(Role::Title)));
        spans.push(Span::styled(format!(" {what} "), theme.style(Role::Muted)));
    }
    vec![Line::from(row), Line::from(spans)]
}

fn selected(model: &Model, folded: &Folded, theme: &Theme) -> Option<String> {
    let look = folded.newest()?;
    let at = model.cursor(model.focus());
    Some(match model.focus() {
        Panel::Partitions => {
            let view = look.partitions.get(at)?;
            let state = match (view.assigned, view.paused) {
                (_, true) => "paused for want of budget",
                (true, false) => "read by this process",
                (false, false) => "not read by this process",
            };
            format!(
                "partition {} of {}: {} of [{}..{}) not yet written, {state}",
                view.partition,
                look.topic,
                text::count(view.lag()),
                view.begin,
                view.end
            )
        }
        Panel::Actors => {
            let actor = look.actors.get(at)?;
            let note = actor.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
            let exit = actor.last_exit.as_ref().map(|exit| format!("; {} {exit}", theme.signs.restart)).unwrap_or_default();
            format!("{} #{} since {}{note}{exit}", actor.path, actor.incarnation, actor.since.format("%F %T"))
        }
        Panel::Batches => super::batches::sentence(look.batches.get(at)?),
        Panel::Runs => super::runs::sentence(look.runs.get(at)?),
    })
}
