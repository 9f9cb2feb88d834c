//! Named values for the detail views.

use ratatui::text::{Line, Span};

use super::Canvas;
use crate::text;
use crate::theme::Role;

/// A named value on one line.
pub(super) fn fact(canvas: &Canvas<'_>, name: &str, value: &str, role: Role) -> Line<'static> {
    Line::from(vec![
        Span::styled(format!("{name:<13} "), canvas.theme.style(Role::Muted)),
        Span::styled(value.to_owned(), canvas.theme.style(role)),
    ])
}

/// A named value, wrapped.
pub(super) fn wrapped(canvas: &Canvas<'_>, name: &str, value: &str, width: usize) -> Vec<Line<'static>> {
    let lines = text::wrap(value, width.saturating_sub(14)).into_iter().enumerate();
    lines.map(|(at, line)| fact(canvas, if at == 0 { name } else { "" }, &line, Role::Text)).collect()
}
