//! The log lines of the process, with marks at gaps.

use chrono::{DateTime, Utc};
use forebay_schemas::api::{LogLevel, LogLine};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};

use super::fields::{fact, wrapped};
use super::{Canvas, Size, draw_lines, first_visible_row, selected_line, split_rows};
use crate::state::{Gap, List, SourceKind, StoredLine, logs};
use crate::text;
use crate::theme::Role;

/// The height of the panel with the selected line.
const SELECTED_LINE_HEIGHT: u16 = 10;

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let [head, rest] = split_rows(area, [Constraint::Length(1), Constraint::Min(0)]);
    let (text, role) = status(canvas);
    draw_lines(frame, head, vec![canvas.styled(text::cut(&format!(" {text}"), usize::from(area.width), canvas.theme.symbols.cut), role)]);
    let book = &canvas.model.api_data.logs;
    let selected = book.row(canvas.model.cursor(List::Logs)).filter(|_| canvas.size == Size::Full && canvas.model.len(List::Logs) > 0);
    let Some(selected) = selected else { return list(frame, rest, canvas) };
    let [upper, lower] = split_rows(rest, [Constraint::Min(0), Constraint::Length(SELECTED_LINE_HEIGHT)]);
    list(frame, upper, canvas);
    canvas.panel(frame, lower, &selected.id().title(), |width| full(canvas, selected, width));
}

/// What is shown, or why nothing is.
fn status(canvas: &Canvas<'_>) -> (String, Role) {
    let (model, book) = (canvas.model, &canvas.model.api_data.logs);
    match (&book.error, model.kind()) {
        (Some(why), _) => return (why.clone(), Role::Warn),
        (None, SourceKind::Journal) => {
            return ("a journal holds no log lines; they come from a running pipeline or from a recording".to_owned(), Role::Warn);
        }
        (None, SourceKind::Recording(_)) if book.is_empty() => {
            return ("this recording has no log lines up to here".to_owned(), Role::Warn);
        }
        (None, SourceKind::Process) if book.is_empty() && !model.has_api() => {
            return ("log lines are read from the API; this process has none".to_owned(), Role::Warn);
        }
        _ => {}
    }
    let from = match book.level() {
        LogLevel::Info => "info and above",
        LogLevel::Warn => "warnings and errors",
        LogLevel::Error => "errors only",
    };
    let now = match model.until() {
        Some(until) => {
            let later = book.rows(None) - model.len(List::Logs);
            format!("up to {}; {} more since then", until.format("%H:%M:%S%.3f"), text::count(later as u64))
        }
        None if model.follow => "following (f)".to_owned(),
        None => "not following (f)".to_owned(),
    };
    let missing = (0..model.len(List::Logs)).filter_map(|row| book.row(row)).any(|stored| stored.before.is_some());
    let missing = if missing { "; ! marks missing lines" } else { "" };
    (format!("{from} (v); {now}{missing}"), Role::Muted)
}

fn list(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let model = canvas.model;
    let len = model.len(List::Logs);
    let (cursor, room) = (model.cursor(List::Logs), usize::from(area.height).saturating_sub(2));
    let first = first_visible_row(cursor, len, room);
    let inner = canvas.list_frame(frame, area, List::Logs, len, first, room);
    if len == 0 {
        let all = model.filter(List::Logs).is_empty() && model.api_data.logs.level() == LogLevel::Info;
        let none = match (all, model.has_api()) {
            (false, _) => "no log lines of this level with these words",
            (true, true) => "no log lines yet",
            (true, false) => "no log lines",
        };
        return draw_lines(frame, inner, vec![canvas.styled(none.to_owned(), Role::Muted)]);
    }
    let width = usize::from(inner.width);
    let lines = (first..len.min(first + room)).filter_map(|row| {
        let line = line(canvas, model.api_data.logs.row(row)?, width);
        Some(if row == cursor { selected_line(line, width, canvas.theme) } else { line })
    });
    draw_lines(frame, inner, lines.collect());
}

fn role(level: LogLevel) -> Role {
    match level {
        LogLevel::Error => Role::Bad,
        LogLevel::Warn => Role::Warn,
        LogLevel::Info => Role::Muted,
    }
}

fn line(canvas: &Canvas<'_>, stored: &StoredLine, width: usize) -> Line<'static> {
    let (theme, line) = (canvas.theme, &stored.line);
    let mark = if stored.before.is_some() { "!" } else { " " };
    let (at, level) = if width >= 70 { ("%H:%M:%S%.3f", 5) } else { ("%H:%M:%S", 1) };
    let at = format!("{mark}{} ", line.timestamp.format(at));
    let level = format!("{:<level$.level$} ", line.level.as_str().to_uppercase());
    let mut room = width.saturating_sub(text::width(&at) + text::width(&level));
    let message = text::cut(&line.message, room, theme.symbols.cut);
    room = room.saturating_sub(text::width(&message));
    let fields = if line.fields.is_empty() { String::new() } else { format!("  {}", logs::fields(line)) };
    Line::from(vec![
        Span::styled(at, theme.style(if stored.before.is_some() { Role::Warn } else { Role::Muted })),
        Span::styled(level, theme.style(role(line.level))),
        Span::styled(message, theme.style(if line.level == LogLevel::Info { Role::Text } else { role(line.level) })),
        Span::styled(text::cut(&fields, room, theme.symbols.cut), theme.style(Role::Muted)),
    ])
}

/// A log line in one line.
pub(super) fn summary(line: &LogLine) -> String {
    format!("{}  {}", line.message, logs::fields(line))
}

/// The detail view of a log line.
pub(super) fn detail(canvas: &Canvas<'_>, since: DateTime<Utc>, seq: u64, width: usize) -> Vec<Line<'static>> {
    let Some(stored) = canvas.model.api_data.logs.find(since, seq) else {
        return vec![canvas.styled("this line is no longer in memory".to_owned(), Role::Warn)];
    };
    let mut lines = full(canvas, stored, width);
    lines.push(Line::default());
    let hint = match stored.linked_detail() {
        Some(page) => format!("t goes to its moment, enter opens {}", page.title()),
        None => "t goes to its moment".to_owned(),
    };
    lines.extend(text::wrap(&hint, width).into_iter().map(|line| canvas.styled(line, Role::Muted)));
    lines
}

/// A log line in full. Its fields come last, because they may be long.
fn full(canvas: &Canvas<'_>, stored: &StoredLine, width: usize) -> Vec<Line<'static>> {
    let line = &stored.line;
    let mut lines = wrapped(canvas, "message", &line.message, width);
    lines.push(fact(canvas, "level", line.level.as_str(), role(line.level)));
    lines.push(fact(canvas, "at", &line.timestamp.format("%F %T%.6f").to_string(), Role::Text));
    let before = match stored.before {
        Some(Gap::Lost(lost)) => Some(format!("{} lines lost", text::count(lost))),
        Some(Gap::OtherProcess) => Some("another process; a new one starts here".to_owned()),
        None => None,
    };
    lines.extend(before.map(|before| fact(canvas, "before it", &before, Role::Warn)));
    if line.repeated > 0 {
        let times = format!("suppressed {} times since it was last logged", text::count(line.repeated));
        lines.push(fact(canvas, "repeated", &times, Role::Text));
    }
    if line.cut {
        lines.push(fact(canvas, "cut", "it was longer than 4 KiB", Role::Warn));
    }
    lines.extend(line.fields.iter().flat_map(|(name, value)| wrapped(canvas, name, &logs::plain(value), width)));
    lines.extend(wrapped(canvas, "target", &line.target, width));
    lines
}
