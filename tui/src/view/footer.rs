//! The footer: selection, scrubber, prompt, message and key hints.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Clear;

use super::{Canvas, Size, draw_lines, rows};
use crate::input;
use crate::state::prompt::{self, Prompt};
use crate::state::{RowId, Screen};
use crate::text;
use crate::theme::{Role, Theme};

/// The scrubber; then the prompt, the message or the selection; then the key hints.
pub(crate) fn lines(canvas: &Canvas<'_>, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let model = canvas.model;
    if model.frozen().is_some() || (model.screen == Screen::Journal && model.timeline().len() > 0) {
        lines.push(scrubber(canvas, width));
    }
    let theme = canvas.theme;
    let message = model.message.as_ref().map(|message| {
        let (symbol, role) = if message.good { (theme.symbols.done, Role::Good) } else { (theme.symbols.ended, Role::Bad) };
        canvas.styled(text::cut(&format!(" {symbol} {}", message.text), width, theme.symbols.cut), role)
    });
    let second = prompt(canvas, width).or(message).or_else(|| {
        let roomy = canvas.size >= Size::Reduced;
        (roomy && model.details.is_empty())
            .then(|| canvas.styled(text::cut(&format!(" {}", summary(canvas)), width, theme.symbols.cut), Role::Text))
    });
    lines.extend(second);
    lines.push(keys(canvas, width));
    lines
}

/// The prompt.
pub(crate) fn prompt(canvas: &Canvas<'_>, width: usize) -> Option<Line<'static>> {
    let theme = canvas.theme;
    let (symbol, line) = match canvas.model.prompt.as_ref()? {
        Prompt::Filter(line) => ("/", line),
        Prompt::Palette(line, _) => (":", line),
    };
    let (before, after) = line.parts();
    let room = width.saturating_sub(4);
    let from = before.chars().count().saturating_sub(room);
    let before: String = before.chars().skip(from).collect();
    Some(Line::from(vec![
        Span::styled(format!(" {symbol}"), theme.style(Role::Key)),
        Span::raw(before),
        Span::styled(theme.symbols.caret, theme.style(Role::Key)),
        Span::raw(after),
    ]))
}

/// The completions of the palette, over the last rows of the body.
pub(crate) fn completions(frame: &mut Frame<'_>, body: Rect, canvas: &Canvas<'_>) {
    let Some(Prompt::Palette(line, chosen)) = &canvas.model.prompt else { return };
    let completions = prompt::complete(&line.text(), &canvas.model.known_names());
    let height = rows(completions.len()).min(body.height);
    let area = Rect { y: body.y + body.height - height, height, ..body };
    frame.render_widget(Clear, area);
    let width = usize::from(body.width);
    let lines = completions.iter().enumerate().map(|(at, (text, what))| {
        let text = text::cut(&format!("  {text:<24} {what}"), width, canvas.theme.symbols.cut);
        let line = canvas.styled(text, Role::Muted);
        if *chosen == Some(at) { super::selected_line(line, width, canvas.theme) } else { line }
    });
    draw_lines(frame, area, lines.collect());
}

/// The position in the journal, as a slider, and the event at it.
fn scrubber(canvas: &Canvas<'_>, width: usize) -> Line<'static> {
    let (theme, model) = (canvas.theme, canvas.model);
    let len = model.timeline().len();
    let index = model.shown_index().unwrap_or(0);
    let bar = if width >= 100 { 40 } else { width / 3 };
    let last = bar.saturating_sub(1);
    let knob = index.saturating_mul(last).checked_div(len.saturating_sub(1)).unwrap_or(last).min(last);
    let event = model.frozen().and_then(|frozen| frozen.event.clone()).or_else(|| model.timeline().get(index).cloned());
    let description = event.map_or_else(
        || "no journal, only this moment".to_owned(),
        |event| {
            format!(
                "{} of {}  {}  {} {}",
                text::count(event.seq),
                text::count(model.timeline().head().seq),
                event.at.format("%H:%M:%S%.3f"),
                event.event.kind(),
                event.event
            )
        },
    );
    let line = theme.symbols.line;
    let head = if model.frozen().is_some() { Role::Warn } else { Role::Good };
    let mut spans = vec![
        Span::styled(" { < ", theme.style(Role::Key)),
        Span::styled(line.repeat(knob), theme.style(Role::Muted)),
        Span::styled(theme.symbols.knob, theme.style(head)),
        Span::styled(line.repeat(last.saturating_sub(knob)), theme.style(Role::Muted)),
        Span::styled(" > }  ", theme.style(Role::Key)),
    ];
    let room = width.saturating_sub(spans.iter().map(Span::width).sum());
    spans.push(Span::raw(text::cut(&description, room, theme.symbols.cut)));
    Line::from(spans)
}

fn keys(canvas: &Canvas<'_>, width: usize) -> Line<'static> {
    let (theme, model) = (canvas.theme, canvas.model);
    let mut spans = Vec::new();
    let mut room = width;
    let mut hint = |key: &str, what: &str, theme: &Theme| {
        let wide = text::width(key) + text::width(what) + 3;
        if wide <= room {
            room -= wide;
            spans.push(Span::styled(format!(" {key}"), theme.style(Role::Key)));
            spans.push(Span::styled(format!(" {what} "), theme.style(Role::Muted)));
        }
    };
    if model.dialog.is_some() || model.prompt.is_some() {
        hint("enter", "apply", theme);
        hint("esc", "cancel", theme);
        if matches!(model.prompt, Some(Prompt::Palette(..))) {
            hint("tab", "complete", theme);
        }
        return Line::from(spans);
    }
    if model.frozen().is_some() {
        hint("\\", "live", theme);
    }
    if !model.details.is_empty() {
        hint("esc", "back", theme);
    }
    for binding in input::bindings(model.screen, model.permission().operate).filter(|binding| !binding.hint.is_empty()) {
        let open = model.details.is_empty() || !["open", "sort", "filter", "follow"].contains(&binding.hint);
        match binding.hint.rsplit_once(' ') {
            _ if !open => {}
            Some((keys, what)) => hint(keys, what, theme),
            None if binding.hint == "freeze" && model.frozen().is_some() => {}
            None => hint(binding.shown.split("  ").next().unwrap_or_default(), binding.hint, theme),
        }
    }
    Line::from(spans)
}

/// The selected item in one line.
fn summary(canvas: &Canvas<'_>) -> String {
    let Some(snapshot) = canvas.snapshot() else { return String::new() };
    let text = match canvas.model.selected() {
        Some(RowId::Partition(partition)) => snapshot
            .partitions
            .iter()
            .find(|view| view.partition == partition)
            .map(|view| super::partitions::summary(view, &snapshot.topic)),
        Some(RowId::Actor(path)) => {
            snapshot.actors.iter().find(|actor| actor.path == path).map(|actor| super::actors::summary(actor, canvas.theme))
        }
        Some(RowId::Batch(id)) => snapshot.batches.iter().find(|batch| batch.id == id).map(super::batches::summary),
        Some(RowId::Run(id)) => snapshot.runs.iter().find(|run| run.id == id).map(super::runs::summary),
        Some(RowId::Event(seq)) => {
            canvas.model.timeline().index_of(seq).and_then(|index| canvas.model.timeline().get(index)).map(|event| event.event.to_string())
        }
        Some(RowId::Alert(name)) => {
            snapshot.alerts.iter().find(|alert| alert.name == name).map(|alert| format!("{}: {}", alert.name, alert.remedy))
        }
        Some(RowId::Log(since, seq)) => canvas.model.api_data.logs.find(since, seq).map(|stored| super::logs::summary(&stored.line)),
        Some(RowId::Node(address)) => Some(format!("node {address}; enter shows details")),
        Some(RowId::Record(partition, offset)) => {
            Some(format!("record {offset} of partition {partition}; enter shows its path from page to row"))
        }
        Some(RowId::DeadLetter(partition, offset)) => {
            let letter =
                canvas.model.dead_letters().iter().find(|letter| (letter.record.partition, letter.record.offset) == (partition, offset));
            letter.map(|letter| format!("found at {}: {}", letter.stage, letter.reason))
        }
        None => None,
    };
    text.unwrap_or_default()
}
