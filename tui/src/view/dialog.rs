//! The dialog of an operation: its effects, and the fields for reason and confirmation.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Canvas, draw_lines, overlay};
use crate::state::line_editor::LineEditor;
use crate::state::operation_dialog::{Dialog, PlanStatus};
use crate::text;
use crate::theme::Role;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>, dialog: &Dialog) {
    let theme = canvas.theme;
    let width = usize::from(area.width).min(86);
    let inside = width.saturating_sub(4);
    // Below the effects: two empty lines, the fields, and the line about enter and esc.
    let below = if dialog.operation.needs_confirmation() { 5 } else { 4 };
    let room = |above: usize| usize::from(area.height).saturating_sub(2 + above + below);
    let mut lines = vec![];
    match &dialog.plan {
        PlanStatus::NotNeeded => lines = bullets(canvas, &dialog.operation.effects(), inside, room(0)),
        PlanStatus::Requested => lines.push(canvas.styled("waiting for the plan".to_owned(), Role::Muted)),
        PlanStatus::Failed(why) => lines.push(canvas.styled(text::cut(why, inside, theme.symbols.cut), Role::Bad)),
        PlanStatus::Ready(plan) => {
            lines.push(canvas.styled(
                format!("{} records; the plan is valid until {}", text::count(plan.records), plan.expires_at.format("%H:%M:%S")),
                Role::Title,
            ));
            lines.extend(bullets(canvas, &plan.effects, inside, room(1)));
        }
    }
    lines.push(Line::default());
    lines.push(field(canvas, "reason", &dialog.reason, !dialog.name_focused, inside));
    if dialog.operation.needs_confirmation() {
        lines.push(field(canvas, &format!("type {}", dialog.pipeline), &dialog.name, dialog.name_focused, inside));
    }
    lines.push(Line::default());
    lines.push(match &dialog.error {
        Some(why) => canvas.styled(text::cut(why, inside, theme.symbols.cut), Role::Bad),
        None => canvas.styled("enter applies, esc cancels; the journal records it with your reason".to_owned(), Role::Muted),
    });
    let room = overlay(frame, area, (width, lines.len() + 2));
    let inner = canvas.frame(frame, room, vec![canvas.title(&dialog.operation.title(), true)]);
    draw_lines(frame, inner, lines);
}

/// The effects, wrapped. Those that do not fit are counted.
fn bullets(canvas: &Canvas<'_>, effects: &[String], width: usize, room: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (at, effect) in effects.iter().enumerate() {
        let wrapped = text::wrap(effect, width.saturating_sub(2));
        // The line with that count needs room too.
        let more = usize::from(at + 1 < effects.len());
        if lines.len() + wrapped.len() + more > room {
            lines.push(canvas.styled(format!("and {} more", effects.len() - at), Role::Muted));
            break;
        }
        for (nth, line) in wrapped.into_iter().enumerate() {
            let symbol = if nth == 0 { canvas.theme.symbols.level } else { " " };
            lines.push(canvas.styled(format!("{symbol} {line}"), Role::Text));
        }
    }
    lines
}

fn field(canvas: &Canvas<'_>, name: &str, line: &LineEditor, focused: bool, width: usize) -> Line<'static> {
    let theme = canvas.theme;
    let name = format!("{name:<12} ");
    let room = width.saturating_sub(text::width(&name) + 2);
    let (before, after) = line.parts();
    let before: String = before.chars().skip(before.chars().count().saturating_sub(room)).collect();
    let caret = if focused { theme.symbols.caret } else { "" };
    Line::from(vec![
        Span::styled(name, theme.style(if focused { Role::Key } else { Role::Muted })),
        Span::raw(before),
        Span::styled(caret, theme.style(Role::Key)),
        Span::raw(after),
    ])
}
