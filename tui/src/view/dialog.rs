//! What would be done, exactly, and the lines that say why and that it is meant.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Canvas, over, put};
use crate::state::operate::{Dialog, Planned};
use crate::state::prompt::Line as Typed;
use crate::text;
use crate::theme::Role;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>, dialog: &Dialog) {
    let theme = canvas.theme;
    let width = usize::from(area.width).min(86);
    let inside = width.saturating_sub(4);
    let bullet = |text: &str| canvas.styled(text::cut(&format!("{} {text}", theme.signs.level), inside, theme.signs.cut), Role::Text);
    let mut lines = vec![];
    match &dialog.planned {
        Planned::Known => lines.extend(dialog.operation.effects().iter().map(|effect| bullet(effect))),
        Planned::Asked => lines.push(canvas.styled("the plan is being made".to_owned(), Role::Muted)),
        Planned::Failed(why) => lines.push(canvas.styled(text::cut(why, inside, theme.signs.cut), Role::Bad)),
        Planned::Ready(plan) => {
            lines.push(canvas.styled(
                format!("{} records; the plan holds until {}", text::count(plan.records), plan.expires_at.format("%H:%M:%S")),
                Role::Title,
            ));
            lines.extend(plan.effects.iter().take(8).map(|effect| bullet(effect)));
            if plan.effects.len() > 8 {
                lines.push(canvas.styled(format!("and {} more", plan.effects.len() - 8), Role::Muted));
            }
        }
    }
    lines.push(Line::default());
    lines.push(field(canvas, "reason", &dialog.reason, !dialog.at_name, inside));
    if dialog.operation.dangerous() {
        lines.push(field(canvas, &format!("type {}", dialog.pipeline), &dialog.name, dialog.at_name, inside));
    }
    lines.push(Line::default());
    lines.push(match &dialog.trouble {
        Some(why) => canvas.styled(text::cut(why, inside, theme.signs.cut), Role::Bad),
        None => canvas.styled("enter does it, esc leaves it; it stands in the journal with your reason".to_owned(), Role::Muted),
    });
    let room = over(frame, area, (width, lines.len() + 2));
    let inner = canvas.frame(frame, room, vec![canvas.title(&dialog.operation.title(), true)]);
    put(frame, inner, lines);
}

fn field(canvas: &Canvas<'_>, name: &str, line: &Typed, focused: bool, width: usize) -> Line<'static> {
    let theme = canvas.theme;
    let name = format!("{name:<12} ");
    let room = width.saturating_sub(text::width(&name) + 2);
    let (before, after) = line.parts();
    let before: String = before.chars().skip(before.chars().count().saturating_sub(room)).collect();
    let caret = if focused { theme.signs.caret } else { "" };
    Line::from(vec![
        Span::styled(name, theme.style(if focused { Role::Key } else { Role::Muted })),
        Span::raw(before),
        Span::styled(caret, theme.style(Role::Key)),
        Span::raw(after),
    ])
}
