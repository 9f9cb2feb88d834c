//! Draws the model, one file per screen. Nothing here changes the model.
//!
//! Guarantees:
//! * Every terminal size is drawn, even an empty one.
//! * When room is short, columns and panels are dropped by rank; what is wrong is dropped last.
//!
//! From 100x28 everything is shown, from 70x20 one or two panels, from 40x12 one table, below that
//! one fact per line.

mod actors;
mod alerts;
pub(crate) mod aligned_rows;
mod batches;
mod chart;
mod dead_letters;
mod detail;
mod dialog;
mod fields;
mod flow;
mod footer;
mod header;
mod help;
mod journal;
mod logs;
mod overview;
mod partitions;
mod records;
mod runs;
mod store_health;
mod topic_lag;

#[cfg(test)]
mod tests;

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Clear};

use forebay_schemas::printable;
use forebay_schemas::snapshot::Snapshot;

pub(crate) use actors::grid as actors;
pub(crate) use batches::grid as batches;
pub(crate) use help::markdown as keys_markdown;
pub(crate) use partitions::grid as partitions;
pub(crate) use runs::grid as runs;

use aligned_rows::Grid;

use crate::state::projection::Projection;
use crate::state::{Link, List, Model, Screen, SnapshotWindow, findings};
use crate::text;
use crate::theme::{Role, Theme};

/// The size class of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Size {
    Minimal,
    Basic,
    Reduced,
    Full,
}

impl Size {
    fn of(area: Rect) -> Self {
        match (area.width, area.height) {
            (100.., 28..) => Self::Full,
            (70.., 20..) => Self::Reduced,
            (40.., 12..) => Self::Basic,
            _ => Self::Minimal,
        }
    }
}

/// What every panel draws from.
pub(crate) struct Canvas<'a> {
    pub(crate) model: &'a Model,
    pub(crate) window: &'a SnapshotWindow,
    pub(crate) projection: &'a Projection,
    pub(crate) link: Link,
    pub(crate) theme: &'a Theme,
    pub(crate) size: Size,
}

/// Draws the model. `now` is only used for the freshness.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model, theme: &Theme, now: Instant) {
    let area = frame.area();
    if area.width == 0 || area.height == 0 {
        return;
    }
    let size = Size::of(area);
    let canvas = Canvas { model, window: model.shown(), projection: model.projection(), link: model.link(now), theme, size };
    if size == Size::Minimal {
        canvas.facts(frame, area);
    } else {
        canvas.screen(frame, area);
    }
    if let Some(scroll) = model.help {
        help::draw(frame, area, &canvas, scroll);
    }
    if let Some(open) = &model.dialog {
        dialog::draw(frame, area, &canvas, open);
    }
    // Widgets drop control characters, but not those that reorder text.
    for cell in &mut frame.buffer_mut().content {
        if printable(cell.symbol()) != cell.symbol() {
            cell.set_char('?');
        }
    }
}

impl Canvas<'_> {
    /// The newest snapshot that is shown.
    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        self.window.newest()
    }

    /// Draws header, body and footer.
    fn screen(&self, frame: &mut Frame<'_>, area: Rect) {
        let wide = usize::from(area.width);
        let max_findings = match (self.size, self.model.screen) {
            (_, Screen::Alerts) => 0,
            (Size::Full, Screen::Overview) => 3,
            (Size::Full, _) | (Size::Reduced, Screen::Overview) => 2,
            _ => 1,
        };
        let mut top = vec![header::line(self, wide), header::tabs(self, wide)];
        let mut wrong = self.findings(wide);
        let hidden = wrong.len().saturating_sub(max_findings);
        wrong.truncate(max_findings);
        if hidden > 0
            && let Some(last) = wrong.last_mut()
        {
            header::more(last, hidden, wide, self.theme);
        }
        top.extend(wrong);
        let bottom = footer::lines(self, wide);
        let [head, body, foot] =
            split_rows(area, [Constraint::Length(rows(top.len())), Constraint::Min(0), Constraint::Length(rows(bottom.len()))]);
        draw_lines(frame, head, top);
        draw_lines(frame, foot, bottom);
        footer::completions(frame, body, self);
        if let Some(id) = self.model.details.last() {
            return detail::draw(frame, body, self, id);
        }
        match self.model.screen {
            Screen::Overview => overview::draw(frame, body, self),
            Screen::Topics => topic_lag::draw(frame, body, self),
            Screen::Batches => batches::draw(frame, body, self),
            Screen::Store => store_health::draw(frame, body, self),
            Screen::Actors => actors::draw(frame, body, self),
            Screen::Runs => runs::draw(frame, body, self),
            Screen::Records => records::draw(frame, body, self),
            Screen::DeadLetters => dead_letters::draw(frame, body, self),
            Screen::Journal => journal::draw(frame, body, self),
            Screen::Alerts => alerts::draw(frame, body, self),
            Screen::Logs => logs::draw(frame, body, self),
        }
        footer::completions(frame, body, self);
    }

    /// Draws one fact per line, the most important first.
    fn facts(&self, frame: &mut Frame<'_>, area: Rect) {
        let width = usize::from(area.width);
        let mut lines = vec![header::line(self, width)];
        if let Some(line) = footer::prompt(self, width) {
            lines.push(line);
        }
        lines.extend(self.findings(width).into_iter().take(1));
        lines.extend(flow::facts(self.window, self.theme));
        draw_lines(frame, area, lines);
    }

    /// The findings, worst first, or a line that there are none.
    fn findings(&self, width: usize) -> Vec<Line<'static>> {
        let found = findings(self.window, &self.link);
        if found.is_empty() {
            return vec![self.styled(format!(" {} nothing is wrong", self.theme.symbols.done), Role::Good)];
        }
        let line = |finding: &crate::state::Finding| {
            let (symbol, role) = if finding.bad { (self.theme.symbols.ended, Role::Bad) } else { (self.theme.symbols.stuck, Role::Warn) };
            self.styled(text::cut(&format!(" {symbol} {}", finding.text), width, self.theme.symbols.cut), role)
        };
        found.iter().map(line).collect()
    }

    /// A line with one role.
    pub(crate) fn styled(&self, text: String, role: Role) -> Line<'static> {
        Line::from(Span::styled(text, self.theme.style(role)))
    }

    /// Draws a list in a frame, with the rows around the cursor. `aligned_rows` makes the rows at
    /// the given indexes.
    pub(crate) fn list(&self, frame: &mut Frame<'_>, area: Rect, list: List, grid: impl FnOnce(&[usize], usize) -> Grid) {
        let order = self.model.visible_rows(list);
        let (cursor, room) = (self.model.cursor(list), usize::from(area.height).saturating_sub(3));
        let first = first_visible_row(cursor, order.len(), room);
        let inner = self.list_frame(frame, area, list, order.len(), first, room);
        // Only visible rows are made, plus a screen on either side, so that the column widths do
        // not jump while scrolling.
        let begin = first.saturating_sub(room);
        let shown = &order[begin..order.len().min(first + 2 * room)];
        let (cursor, first) = (cursor - begin.min(cursor), first - begin);
        let mut lines = grid(shown, usize::from(inner.width)).lines(Some(usize::from(inner.width)), self.theme);
        if order.is_empty() {
            let none = if self.model.filter(list).is_empty() {
                format!("no {} yet", list.name())
            } else {
                format!("no {} with these words", list.name())
            };
            return draw_lines(frame, inner, vec![self.styled(none, Role::Muted)]);
        }
        if self.model.list() == list
            && let Some(line) = lines.get_mut(cursor + 1)
        {
            *line = selected_line(std::mem::take(line), usize::from(inner.width), self.theme);
        }
        lines.drain(1..=first.min(lines.len().saturating_sub(1)));
        draw_lines(frame, inner, lines);
    }

    /// Draws the frame of a list, with its name, position, order and filter.
    pub(crate) fn list_frame(&self, frame: &mut Frame<'_>, area: Rect, list: List, len: usize, first: usize, room: usize) -> Rect {
        let focused = self.model.list() == list && self.model.screen.lists().len() > 1;
        let mut name = list.name().to_owned();
        if len > room && room > 0 {
            name += &format!(" {}-{} of {len}", first + 1, first + room);
        }
        let sort = self.model.sort(list);
        if sort.by > 0 || sort.reverse {
            name += &format!(" by {}{}", list.sorts()[sort.by], if sort.reverse { ", reversed" } else { "" });
        }
        if !self.model.filter(list).is_empty() {
            name += &format!(" /{}", self.model.filter(list));
        }
        self.frame(frame, area, vec![self.title(&name, focused)])
    }

    pub(crate) fn title(&self, name: &str, focused: bool) -> Line<'static> {
        let mark = if focused { format!("{} ", self.theme.symbols.focus) } else { String::new() };
        self.styled(format!(" {mark}{name} "), if focused { Role::Title } else { Role::Muted })
    }

    /// Draws a border and returns the area inside, with an empty column on either side.
    pub(crate) fn frame(&self, frame: &mut Frame<'_>, area: Rect, titles: Vec<Line<'static>>) -> Rect {
        let mut block = Block::bordered().border_set(self.theme.border).border_style(self.theme.style(Role::Muted));
        for title in titles {
            block = block.title(title);
        }
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let free = u16::from(inner.width > 2);
        Rect { x: inner.x + free, width: inner.width.saturating_sub(2 * free), ..inner }
    }

    /// Draws a panel of lines.
    pub(crate) fn panel(&self, frame: &mut Frame<'_>, area: Rect, name: &str, lines: impl FnOnce(usize) -> Vec<Line<'static>>) {
        let inner = self.frame(frame, area, vec![self.title(name, false)]);
        draw_lines(frame, inner, lines(usize::from(inner.width)));
    }

    /// The line shown where values that events do not contain are unknown.
    pub(crate) fn unknown(&self) -> Line<'static> {
        self.styled("not in the journal: unknown at that time".to_owned(), Role::Muted)
    }
}

/// Pads a line to a width, so that its style covers the whole row.
pub(crate) fn pad_line(mut line: Line<'static>, width: usize) -> Line<'static> {
    let pad = width.saturating_sub(line.width());
    line.spans.push(Span::raw(" ".repeat(pad)));
    line
}

/// The selected row: reversed over its whole width, without colours except in bars.
pub(crate) fn selected_line(line: Line<'static>, width: usize, theme: &Theme) -> Line<'static> {
    let mut line = pad_line(line, width);
    for span in &mut line.spans {
        let bar = span.content.chars().any(|c| ('\u{2581}'..='\u{2593}').contains(&c));
        if !bar {
            let bold = span.style.add_modifier & ratatui::style::Modifier::BOLD;
            span.style = theme.selected().add_modifier(bold);
        }
    }
    line
}

/// The first of `len` rows to show, so that the cursor is in the middle if possible.
pub(crate) fn first_visible_row(cursor: usize, len: usize, room: usize) -> usize {
    cursor.saturating_sub(room / 2).min(len.saturating_sub(room))
}

/// Clears a centered area for an overlay.
pub(crate) fn overlay(frame: &mut Frame<'_>, area: Rect, (width, height): (usize, usize)) -> Rect {
    let (width, height) = (rows(width).min(area.width), rows(height).min(area.height));
    let room = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, room);
    room
}

/// Draws lines from the top of an area.
pub(crate) fn draw_lines(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'static>>) {
    frame.render_widget(Text::from(lines), area);
}

pub(crate) fn rows(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

pub(crate) fn split_rows<const N: usize>(area: Rect, constraints: [Constraint; N]) -> [Rect; N] {
    Layout::vertical(constraints).areas(area)
}

pub(crate) fn split_columns<const N: usize>(area: Rect, constraints: [Constraint; N]) -> [Rect; N] {
    Layout::horizontal(constraints).areas(area)
}

pub(crate) fn halves(area: Rect) -> [Rect; 2] {
    split_columns(area, [Constraint::Fill(1), Constraint::Fill(1)])
}
