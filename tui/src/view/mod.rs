//! What the screen shows. A file a panel; each panel is lines, so that the plain status can print the same.
//!
//! Guarantee: draws at any size, also none. The larger the terminal the more there is; what is wrong is there at every size.

mod actors;
mod batches;
mod footer;
pub(crate) mod grid;
mod header;
mod partitions;
mod path;
mod runs;
mod trend;

#[cfg(test)]
mod tests;

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Clear};

pub(crate) use actors::grid as actors;
pub(crate) use batches::grid as batches;
pub(crate) use partitions::grid as partitions;
pub(crate) use runs::grid as runs;

use crate::state::{Folded, Link, Model, Panel, findings};
use crate::text;
use crate::theme::{Role, Theme};

/// What every panel draws from.
struct Canvas<'a> {
    model: &'a Model,
    folded: &'a Folded,
    link: Link,
    theme: &'a Theme,
}

/// Draws the model. `now` only tells how fresh it is.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &Model, theme: &Theme, now: Instant) {
    let area = frame.area();
    let canvas = Canvas { model, folded: model.shown(), link: model.link(now), theme };
    match (area.width, area.height) {
        (0, _) | (_, 0) => return,
        (100.., 28..) => canvas.full(frame, area),
        (70.., 20..) => canvas.reduced(frame, area),
        (40.., 12..) => canvas.basic(frame, area),
        _ => canvas.facts(frame, area),
    }
    if model.help {
        help(frame, area, theme);
    }
}

impl Canvas<'_> {
    /// Everything at once.
    fn full(&self, frame: &mut Frame<'_>, area: Rect) {
        let wrong = self.findings(usize::from(area.width));
        let wrong_rows = rows(wrong.len().clamp(1, 3));
        let [head, alarm, path, trends, rest, foot] = split(
            area,
            [
                Constraint::Length(1),
                Constraint::Length(wrong_rows),
                Constraint::Length(8),
                Constraint::Length(4),
                Constraint::Min(0),
                Constraint::Length(2),
            ],
        );
        put(frame, head, vec![header::line(self.model, self.folded, &self.link, self.theme, usize::from(head.width))]);
        put(frame, alarm, wrong);
        let inner = self.frame(frame, path, vec![self.title("path", false)]);
        put(frame, inner, path::picture(self.folded, self.theme, usize::from(inner.width)));
        let [left, right] = halves(trends);
        let inner = self.frame(frame, left, vec![self.title("records in, rows out, last 5 min", false)]);
        put(frame, inner, trend::flow(self.folded, self.theme, usize::from(inner.width)));
        let inner = self.frame(frame, right, vec![self.title("produced to written", false)]);
        put(frame, inner, trend::latency(self.folded, self.theme, usize::from(inner.width)));

        let [left, right] = halves(rest);
        let look = self.folded.newest();
        let shorter = |panel: u16| panel.min(rest.height / 2);
        let partitions = rows(look.map_or(0, |look| look.partitions.len()) + 3);
        let [upper, lower] = split_rows(left, [Constraint::Length(shorter(partitions.max(5))), Constraint::Min(0)]);
        self.panel(frame, upper, Panel::Partitions, false);
        self.panel(frame, lower, Panel::Batches, false);
        let actors = rows(look.map_or(0, |look| look.actors.len()) + 3);
        let runs = rest.height.saturating_sub(actors).max(shorter(5));
        let [upper, lower] = split_rows(right, [Constraint::Min(0), Constraint::Length(runs)]);
        self.panel(frame, upper, Panel::Actors, false);
        self.panel(frame, lower, Panel::Runs, false);
        put(frame, foot, footer::lines(self.model, self.folded, self.theme, usize::from(foot.width)));
    }

    /// The path in words, trends of one line, one panel at a time.
    fn reduced(&self, frame: &mut Frame<'_>, area: Rect) {
        let width = usize::from(area.width);
        let mut top = vec![header::line(self.model, self.folded, &self.link, self.theme, width)];
        top.extend(self.findings(width).into_iter().take(2));
        let room = width.saturating_sub(2);
        top.extend(indented(path::words(self.folded, self.theme, room)));
        top.extend(indented(vec![path::totals(self.folded, self.theme, room)]));
        top.extend(indented(trend::flow(self.folded, self.theme, room)));
        top.extend(indented(trend::latency(self.folded, self.theme, room)).take(1));
        self.with_one_panel(frame, area, top, 2);
    }

    /// The path in words, one line of numbers, one panel at a time.
    fn basic(&self, frame: &mut Frame<'_>, area: Rect) {
        let width = usize::from(area.width);
        let mut top = vec![header::line(self.model, self.folded, &self.link, self.theme, width)];
        top.extend(self.findings(width).into_iter().take(1));
        let room = width.saturating_sub(2);
        top.extend(indented(path::words(self.folded, self.theme, room)));
        top.extend(indented(trend::latency(self.folded, self.theme, room)).take(1));
        self.with_one_panel(frame, area, top, 1);
    }

    fn with_one_panel(&self, frame: &mut Frame<'_>, area: Rect, top: Vec<Line<'static>>, foot: u16) {
        let [head, panel, foot] = split(area, [Constraint::Length(rows(top.len())), Constraint::Min(0), Constraint::Length(foot)]);
        put(frame, head, top);
        self.panel(frame, panel, self.model.focus(), true);
        put(
            frame,
            foot,
            footer::lines(self.model, self.folded, self.theme, usize::from(foot.width)).split_off(2 - usize::from(foot.height.min(2))),
        );
    }

    /// A line a fact, the most urgent first.
    fn facts(&self, frame: &mut Frame<'_>, area: Rect) {
        let width = usize::from(area.width);
        let mut lines = vec![header::line(self.model, self.folded, &self.link, self.theme, width)];
        lines.extend(self.findings(width).into_iter().take(1));
        lines.extend(path::facts(self.folded, self.theme));
        put(frame, area, lines);
    }

    /// What is wrong, worst first, or that nothing is.
    fn findings(&self, width: usize) -> Vec<Line<'static>> {
        let found = findings(self.folded, &self.link);
        if found.is_empty() {
            return vec![Line::from(Span::styled(format!(" {} nothing is wrong", self.theme.signs.done), self.theme.style(Role::Good)))];
        }
        let line = |finding: &crate::state::Finding| {
            let (sign, role) = if finding.bad { (self.theme.signs.ended, Role::Bad) } else { (self.theme.signs.stuck, Role::Warn) };
            let text = text::cut(&format!(" {sign} {}", finding.text), width, self.theme.signs.cut);
            Line::from(Span::styled(text, self.theme.style(role)))
        };
        found.iter().map(line).collect()
    }

    /// A panel with rows: those around the cursor.
    fn panel(&self, frame: &mut Frame<'_>, area: Rect, panel: Panel, tabs: bool) {
        let focused = self.model.focus() == panel;
        // The frame takes two rows, the titles of the columns one.
        let (cursor, room) = (self.model.cursor(panel), usize::from(area.height).saturating_sub(3));
        let len = self.folded.newest().map_or(0, |look| panel.len(look));
        let first = first_row(cursor, len, room);
        let part = if len > room && room > 0 { format!(" {}-{} of {len}", first + 1, first + room) } else { String::new() };
        let title = |at: usize, tab: Panel| {
            let name = if tabs { format!("{} {}", at + 1, tab.name()) } else { tab.name().to_owned() };
            self.title(&format!("{name}{}", if tab == panel { part.as_str() } else { "" }), tab == panel && focused)
        };
        let shown = Panel::ALL.into_iter().enumerate().filter(|(_, tab)| tabs || *tab == panel);
        let inner = self.frame(frame, area, shown.map(|(at, tab)| title(at, tab)).collect());
        let Some(look) = self.folded.newest() else { return };
        let grid = match panel {
            Panel::Partitions => partitions(self.folded, self.theme),
            Panel::Actors => actors(look, self.theme),
            Panel::Batches => batches(look, self.theme),
            Panel::Runs => runs(look, self.theme),
        };
        let mut lines = grid.lines(Some(usize::from(inner.width)), self.theme);
        if lines.len() == 1 {
            lines = vec![Line::from(Span::styled(format!("no {} yet", panel.name()), self.theme.style(Role::Muted)))];
            return put(frame, inner, lines);
        }
        if focused && let Some(line) = lines.get_mut(cursor + 1) {
            *line = std::mem::take(line).patch_style(self.theme.selected());
        }
        lines.drain(1..=first);
        put(frame, inner, lines);
    }

    fn title(&self, name: &str, focused: bool) -> Line<'static> {
        let mark = if focused { format!("{} ", self.theme.signs.focus) } else { String::new() };
        Line::from(Span::styled(format!(" {mark}{name} "), self.theme.style(if focused { Role::Title } else { Role::Muted })))
    }

    /// Draws a border and gives the room inside, with a column free on either side.
    fn frame(&self, frame: &mut Frame<'_>, area: Rect, titles: Vec<Line<'static>>) -> Rect {
        let mut block = Block::bordered().border_set(self.theme.border).border_style(self.theme.style(Role::Muted));
        for title in titles {
            block = block.title(title);
        }
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let free = u16::from(inner.width > 2);
        Rect { x: inner.x + free, width: inner.width.saturating_sub(2 * free), ..inner }
    }
}

/// The first of `len` rows to show in `room` so that the cursor is in the middle, where it can be.
fn first_row(cursor: usize, len: usize, room: usize) -> usize {
    cursor.saturating_sub(room / 2).min(len.saturating_sub(room))
}

fn help(frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
    let lines: Vec<_> = crate::input::HELP
        .iter()
        .map(|(keys, what)| Line::from(vec![Span::styled(format!(" {keys:<16}"), theme.style(Role::Title)), Span::raw((*what).to_owned())]))
        .collect();
    let (width, height) = (area.width.min(74), area.height.min(rows(lines.len() + 2)));
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let block = Block::bordered().border_set(theme.border).title(Span::styled(" help ", theme.style(Role::Title)));
    let inner = block.inner(place);
    frame.render_widget(block, place);
    put(frame, inner, lines);
}

/// A column free before each line, as in a frame.
fn indented(lines: Vec<Line<'static>>) -> impl Iterator<Item = Line<'static>> {
    lines.into_iter().map(|mut line| {
        line.spans.insert(0, Span::raw(" "));
        line
    })
}

/// Puts lines at the top left of an area; what does not fit is not drawn.
fn put(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'static>>) {
    frame.render_widget(Text::from(lines), area);
}

fn rows(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

fn split<const N: usize>(area: Rect, constraints: [Constraint; N]) -> [Rect; N] {
    Layout::vertical(constraints).areas(area)
}

fn split_rows(area: Rect, constraints: [Constraint; 2]) -> [Rect; 2] {
    split(area, constraints)
}

fn halves(area: Rect) -> [Rect; 2] {
    Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area)
}
