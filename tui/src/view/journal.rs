//! The journal: every event, and what it changed.

use forebay_schemas::event::{Event, Recorded};
use forebay_schemas::printable;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};

use super::{Canvas, Size, draw_lines, first_visible_row, selected_line, split_columns};
use crate::state::List;
use crate::text;
use crate::theme::Role;

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    if canvas.size == Size::Full {
        let [left, right] = split_columns(area, [Constraint::Min(0), Constraint::Percentage(38)]);
        list(frame, left, canvas);
        let model = canvas.model;
        let seq = model.event_row(model.cursor(List::Events)).map(|event| event.seq);
        let title = seq.map_or_else(|| "event".to_owned(), |seq| format!("event {}", text::count(seq)));
        return canvas.panel(frame, right, &title, |width| seq.map_or_else(Vec::new, |seq| self::detail(canvas, seq, width)));
    }
    list(frame, area, canvas);
}

fn list(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let model = canvas.model;
    let len = model.len(List::Events);
    let (cursor, room) = (model.cursor(List::Events), usize::from(area.height).saturating_sub(2));
    let first = first_visible_row(cursor, len, room);
    let inner = canvas.list_frame(frame, area, List::Events, len, first, room);
    if len == 0 {
        let none =
            if model.filter(List::Events).is_empty() { "no events yet: they come from the journal" } else { "no events with these words" };
        return draw_lines(frame, inner, vec![canvas.styled(none.to_owned(), Role::Muted)]);
    }
    let width = usize::from(inner.width);
    let now = model.frozen().map(|frozen| frozen.seq);
    let lines = (first..len.min(first + room)).filter_map(|row| {
        let event = model.event_row(row)?;
        let line = line(canvas, event, width, now == Some(event.seq));
        Some(if row == cursor { selected_line(line, width, canvas.theme) } else { line })
    });
    draw_lines(frame, inner, lines.collect());
}

/// The role of an event's kind: failures stand out, routine events do not.
pub(super) fn role(event: &Event) -> Role {
    match event {
        Event::RunFailed { .. }
        | Event::ChildExited { .. }
        | Event::ChildStuck { .. }
        | Event::IntensityExceeded { .. }
        | Event::Escalated { .. }
        | Event::RangeLost { .. } => Role::Bad,
        Event::RestartScheduled { .. }
        | Event::SourceThrottled { .. }
        | Event::TimestampClamped { .. }
        | Event::RunCancelled { .. }
        | Event::OffsetsReset { .. } => Role::Warn,
        Event::StateDesired { .. } | Event::ActorRestartRequested { .. } | Event::LettersRedriven { .. } | Event::LettersDropped { .. } => {
            Role::Key
        }
        Event::BatchWritten { .. } => Role::Write,
        Event::OffsetsCommitted { .. } => Role::Commit,
        Event::PageFetched { .. } | Event::PageProduced { .. } => Role::Fetch,
        Event::RunSucceeded { .. } | Event::ChildStarted { .. } => Role::Good,
        _ => Role::Text,
    }
}

pub(super) fn line(canvas: &Canvas<'_>, event: &Recorded, width: usize, now: bool) -> Line<'static> {
    let theme = canvas.theme;
    let mark = if now {
        theme.symbols.head
    } else if canvas.model.marker == Some(event.seq) {
        "'"
    } else {
        " "
    };
    let head = if width >= 70 {
        format!("{mark}{:>8} {}  ", event.seq, event.at.format("%H:%M:%S%.3f"))
    } else {
        format!("{mark}{:>6} {} ", event.seq, event.at.format("%H:%M:%S"))
    };
    let kind = if width >= 60 { format!("{:<18} ", event.event.kind()) } else { String::new() };
    let room = width.saturating_sub(text::width(&head) + text::width(&kind));
    let role = role(&event.event);
    let text = text::cut(&event.event.to_string(), room, theme.symbols.cut);
    let (kind_role, text_role) = if kind.is_empty() { (role, role) } else { (role, Role::Text) };
    Line::from(vec![
        Span::styled(head, theme.style(if now { Role::Warn } else { Role::Muted })),
        Span::styled(kind, theme.style(kind_role)),
        Span::styled(text, theme.style(text_role)),
    ])
}

/// The detail view of an event: its text, what it changed, and its JSON.
pub(super) fn detail(canvas: &Canvas<'_>, seq: u64, width: usize) -> Vec<Line<'static>> {
    let timeline = canvas.model.timeline();
    let Some((index, event)) =
        timeline.index_of(seq).and_then(|index| Some((index, timeline.get(index)?))).filter(|(_, event)| event.seq == seq)
    else {
        return vec![canvas.styled("this event is no longer in memory".to_owned(), Role::Warn)];
    };
    let mut lines = vec![canvas.styled(event.event.kind().to_owned(), role(&event.event))];
    lines.push(canvas.styled(event.at.format("%F %T%.6f").to_string(), Role::Muted));
    lines.extend(text::wrap(&printable(&event.event.to_string()), width).into_iter().map(|line| canvas.styled(line, Role::Text)));
    lines.push(Line::default());
    let marked = canvas.model.marker.filter(|&marker| marker != seq).and_then(|marker| timeline.index_of(marker));
    let before = match (marked, index.checked_sub(1)) {
        (Some(marked), _) => timeline.projection_at(marked),
        (None, Some(before)) => timeline.projection_at(before),
        (None, None) => crate::state::projection::Projection::default(),
    };
    let after = match marked {
        Some(_) => timeline.projection_at(index),
        None => {
            let mut after = before.clone();
            after.apply(event);
            after
        }
    };
    let changes = if marked.is_some_and(|marked| marked > index) { after.diff(&before) } else { before.diff(&after) };
    let title = if marked.is_some() { "changes between this and the marked event" } else { "changes" };
    lines.push(canvas.styled(format!("{title}: {}", changes.len()), Role::Title));
    for (name, before, after) in changes.iter().take(100) {
        let change = format!("{before} {} {after}", canvas.theme.symbols.to);
        lines.push(Line::from(vec![
            Span::styled(format!("{} ", text::cut(name, width / 2, canvas.theme.symbols.cut)), canvas.theme.style(Role::Muted)),
            Span::raw(text::cut(&change, width.saturating_sub(text::width(name).min(width / 2) + 1), canvas.theme.symbols.cut)),
        ]));
    }
    lines.push(Line::default());
    lines.push(canvas.styled("t goes there, enter opens its subject, m marks it".to_owned(), Role::Muted));
    lines.push(Line::default());
    if let Ok(value) = serde_json::to_value(event.as_ref()) {
        lines.extend(super::records::pretty(canvas, &value, width));
    }
    lines
}

/// The last events that satisfy a condition, oldest first.
pub(super) fn last(canvas: &Canvas<'_>, width: usize, max: usize, condition: impl Fn(&Event) -> bool) -> Vec<Line<'static>> {
    let timeline = canvas.model.timeline();
    let mut from = canvas.model.shown_index().map_or(0, |index| index + 1);
    let mut found = Vec::new();
    while found.len() < max
        && let Some(index) = timeline.find(from, false, &condition)
    {
        found.extend(timeline.get(index));
        from = index;
    }
    found.reverse();
    if found.is_empty() {
        return vec![canvas.styled("none in memory".to_owned(), Role::Muted)];
    }
    found.into_iter().map(|event| line(canvas, event, width, false)).collect()
}
