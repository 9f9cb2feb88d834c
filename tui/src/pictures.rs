//! Renders a recording for the documentation: SVG from the same buffer that a terminal gets, and an
//! asciicast. Used by `tui/examples/pictures.rs`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use chrono::{DateTime, Utc};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use crate::error::SourceError;
use crate::input;
use crate::source::Player;
use crate::state::line_editor::EditKey;
use crate::state::{Model, SourceKind, Update};
use crate::theme::{Options, Palette, Theme};
use crate::view;

/// The width and height of a cell in SVG units.
const CELL: (f64, f64) = (8.4, 18.0);
/// The margin around the picture.
const MARGIN: f64 = 14.0;

/// Plays a recording step by step, with key presses in between.
pub struct Playback {
    player: Player,
    model: Model,
    /// An update that was read but is not due yet.
    next: Option<Update>,
    first: Option<DateTime<Utc>>,
    now: Instant,
    names: Vec<EditKey>,
}

impl std::fmt::Debug for Playback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Playback").finish_non_exhaustive()
    }
}

impl Playback {
    /// Opens a recording.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let model = Model::new(SourceKind::Process, false, false);
        Ok(Self { player: Player::open(path)?, model, next: None, first: None, now: Instant::now(), names: Vec::new() })
    }

    /// Plays until `upto` seconds after the first snapshot. Returns whether there is more.
    pub fn play(&mut self, upto: f64) -> bool {
        loop {
            let Some(update) = self.next.take().or_else(|| self.player.next().ok().flatten()) else { return false };
            let at = match &update {
                Update::Snapshot(snapshot) => Some(snapshot.at),
                Update::Events(events) => events.first().map(|event| event.at),
                _ => None,
            };
            if matches!(update, Update::Snapshot(_)) && self.first.is_none() {
                self.first = at;
            }
            if let (Some(first), Some(at)) = (self.first, at)
                && (at - first).as_seconds_f64() > upto
            {
                self.next = Some(update);
                return true;
            }
            self.model.update(update, self.now);
        }
    }

    /// Presses one key per character: `\n` is enter, `\x1b` escape, `\t` tab.
    pub fn keys(&mut self, keys: &str) {
        for key in keys.chars() {
            let code = match key {
                '\n' => crossterm::event::KeyCode::Enter,
                '\x1b' => crossterm::event::KeyCode::Esc,
                '\t' => crossterm::event::KeyCode::Tab,
                key => crossterm::event::KeyCode::Char(key),
            };
            let event = crossterm::event::Event::Key(code.into());
            if self.model.is_typing() {
                self.names.extend(input::edit_key(&event));
                self.names.drain(..).for_each(|key| self.model.press(key));
            } else if let Some(action) = input::action(&event, self.model.screen) {
                self.model.perform(action);
            }
            drop(self.model.effects());
        }
    }

    /// The batch whose trace is in the recording, if one was opened.
    pub fn traced_batch(&self) -> Option<u64> {
        self.model.api_data.trace.as_ref().filter(|(_, trace)| trace.is_ok()).map(|(id, _)| *id)
    }

    /// The buffer of a terminal of the given size.
    fn buffer(&self, (width, height): (u16, u16), palette: Palette) -> Buffer {
        let theme = Theme::new(Options { palette, ascii: false });
        let mut terminal = match Terminal::new(TestBackend::new(width, height)) {
            Ok(terminal) => terminal,
            Err(never) => match never {},
        };
        match terminal.draw(|frame| view::draw(frame, &self.model, &theme, self.now)) {
            Ok(_) => {}
            Err(never) => match never {},
        }
        terminal.backend().buffer().clone()
    }

    /// Renders an SVG picture.
    pub fn svg(&self, size: (u16, u16), palette: Palette) -> String {
        svg(&self.buffer(size, palette), matches!(palette, Palette::Light | Palette::LightTrue))
    }

    /// The escapes that draw the whole screen on a terminal.
    pub fn escapes(&self, size: (u16, u16), palette: Palette) -> String {
        escapes(&self.buffer(size, palette))
    }
}

/// The key table as Markdown: of the screen with the given name, or of all screens.
pub fn keys_of(screen: Option<&str>) -> String {
    let screen = screen.and_then(|name| crate::state::Screen::ALL.into_iter().find(|screen| screen.name() == name));
    view::keys_markdown(screen)
}

/// The hex value of a colour on a dark or light background.
fn colour(colour: Color, light: bool) -> String {
    let (dark, bright) = match colour {
        Color::Rgb(r, g, b) => return format!("#{r:02x}{g:02x}{b:02x}"),
        Color::Red => ("#ff6b6b", "#c4202e"),
        Color::Green => ("#5fd7a0", "#0f7b4f"),
        Color::Yellow => ("#f2c14e", "#9a6200"),
        Color::Blue => ("#6cb6ff", "#165db8"),
        Color::Magenta => ("#c79bf2", "#8a2fb0"),
        Color::Cyan => ("#4fc8d8", "#0b7485"),
        _ => ("#d7dde5", "#1f2933"),
    };
    (if light { bright } else { dark }).to_owned()
}

fn background(light: bool) -> &'static str {
    if light { "#fbfbf8" } else { "#11161d" }
}

fn svg(buffer: &Buffer, light: bool) -> String {
    let (columns, lines) = (f64::from(buffer.area.width), f64::from(buffer.area.height));
    let (width, height) = (columns * CELL.0 + 2.0 * MARGIN, lines * CELL.1 + 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{}\"/>\n",
        background(light)
    );
    for (y, row) in buffer.content().chunks(usize::from(buffer.area.width).max(1)).enumerate() {
        line(&mut out, y, row, light);
    }
    out + "</svg>\n"
}

/// Draws one row; neighbouring cells of the same style become one element.
fn line(out: &mut String, y: usize, row: &[Cell], light: bool) {
    let top = MARGIN + y as f64 * CELL.1;
    let mut x = 0;
    while x < row.len() {
        let snapshot = |cell: &Cell| (cell.fg, cell.modifier);
        let end = (x..row.len()).find(|&at| snapshot(&row[at]) != snapshot(&row[x])).unwrap_or(row.len());
        let (fg, modifier) = snapshot(&row[x]);
        let reversed = modifier.contains(Modifier::REVERSED);
        let left = MARGIN + x as f64 * CELL.0;
        if reversed {
            let width = (end - x) as f64 * CELL.0;
            let _ = writeln!(
                out,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                CELL.1,
                colour(fg, light)
            );
        }
        let ink = if reversed { background(light).to_owned() } else { colour(fg, light) };
        let dim = if modifier.contains(Modifier::DIM) { " opacity=\"0.62\"" } else { "" };
        let bold = if modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
        let mut text = String::new();
        let mut shapes = String::new();
        let mut begin = x;
        let flush = |text: &mut String, begin: usize, at: usize, out: &mut String| {
            if !text.trim().is_empty() {
                let from = MARGIN + begin as f64 * CELL.0;
                let long = (at - begin) as f64 * CELL.0;
                let _ = writeln!(
                    out,
                    "<text x=\"{from:.1}\" y=\"{:.1}\" textLength=\"{long:.1}\" lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\" fill=\"{ink}\"{dim}{bold}>{}</text>",
                    top + CELL.1 * 0.74,
                    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
                );
            }
            text.clear();
        };
        for (at, cell) in row.iter().enumerate().take(end).skip(x) {
            if let Some(shape) = shape(cell.symbol(), MARGIN + at as f64 * CELL.0, top, &ink) {
                flush(&mut text, begin, at, out);
                begin = at + 1;
                shapes += &shape;
            } else {
                if text.is_empty() {
                    begin = at;
                }
                text += cell.symbol();
            }
        }
        flush(&mut text, begin, end, out);
        if !shapes.is_empty() {
            let _ = writeln!(out, "<g{dim} shape-rendering=\"crispEdges\">{shapes}</g>");
        }
        x = end;
    }
}

/// Draws blocks and lines as shapes, so that they join in every font.
fn shape(symbol: &str, x: f64, y: f64, ink: &str) -> Option<String> {
    let (w, h) = CELL;
    let rect = |x: f64, y: f64, w: f64, h: f64, opacity: f64| {
        let opacity = if opacity < 1.0 { format!(" opacity=\"{opacity}\"") } else { String::new() };
        format!("<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{w:.2}\" height=\"{h:.2}\" fill=\"{ink}\"{opacity}/>")
    };
    let path = |d: String| format!("<path d=\"{d}\" fill=\"none\" key=\"{ink}\" shape-rendering=\"auto\"/>");
    let (cx, cy, right, bottom) = (x + w / 2.0, y + h / 2.0, x + w, y + h);
    let upright = "▁▂▃▄▅▆▇█";
    let lying = "▏▎▍▌▋▊▉";
    let c = symbol.chars().next().filter(|_| symbol.chars().count() == 1)?;
    if let Some(level) = upright.chars().position(|block| block == c) {
        let part = (level + 1) as f64 / 8.0;
        // A small gap between bars, as between rows of text.
        return Some(rect(x, bottom - h * part, w + 0.05, h * part, 1.0));
    }
    if let Some(level) = lying.chars().position(|block| block == c) {
        return Some(rect(x, y, w * (level + 1) as f64 / 8.0, h, 1.0));
    }
    Some(match c {
        '░' => rect(x, y, w, h, 0.3),
        '▒' => rect(x, y, w, h, 0.55),
        '▓' => rect(x, y, w, h, 0.8),
        '─' => path(format!("M{x:.1} {cy:.1}H{right:.1}")),
        '│' => path(format!("M{cx:.1} {y:.1}V{bottom:.1}")),
        '╭' => path(format!("M{cx:.1} {bottom:.1}V{:.1}Q{cx:.1} {cy:.1} {right:.1} {cy:.1}", cy + 4.0)),
        '╮' => path(format!("M{x:.1} {cy:.1}Q{cx:.1} {cy:.1} {cx:.1} {:.1}V{bottom:.1}", cy + 4.0)),
        '╰' => path(format!("M{cx:.1} {y:.1}V{:.1}Q{cx:.1} {cy:.1} {right:.1} {cy:.1}", cy - 4.0)),
        '╯' => path(format!("M{x:.1} {cy:.1}Q{cx:.1} {cy:.1} {cx:.1} {:.1}V{y:.1}", cy - 4.0)),
        '├' => path(format!("M{cx:.1} {y:.1}V{bottom:.1}M{cx:.1} {cy:.1}H{right:.1}")),
        '└' => path(format!("M{cx:.1} {y:.1}V{cy:.1}H{right:.1}")),
        _ => return None,
    })
}

/// The escapes that draw a whole buffer, starting at the top left.
fn escapes(buffer: &Buffer) -> String {
    let mut out = String::new();
    for (y, row) in buffer.content().chunks(usize::from(buffer.area.width).max(1)).enumerate() {
        let _ = write!(out, "\x1b[{};1H", y + 1);
        let mut before = None;
        for cell in row {
            let snapshot = (cell.fg, cell.modifier);
            if before != Some(snapshot) {
                out += "\x1b[0";
                for (modifier, code) in [(Modifier::BOLD, ";1"), (Modifier::DIM, ";2"), (Modifier::REVERSED, ";7")] {
                    out += if cell.modifier.contains(modifier) { code } else { "" };
                }
                let _ = match cell.fg {
                    Color::Rgb(r, g, b) => write!(out, ";38;2;{r};{g};{b}m"),
                    Color::Red => write!(out, ";31m"),
                    Color::Green => write!(out, ";32m"),
                    Color::Yellow => write!(out, ";33m"),
                    Color::Blue => write!(out, ";34m"),
                    Color::Magenta => write!(out, ";35m"),
                    Color::Cyan => write!(out, ";36m"),
                    _ => write!(out, "m"),
                };
                before = Some(snapshot);
            }
            out += cell.symbol();
        }
    }
    out + "\x1b[0m"
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    #[test]
    fn text_stays_text_and_blocks_become_shapes() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 12, 1));
        buffer.set_string(0, 0, "lag <3 ▄█ ─│", Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
        let picture = svg(&buffer, false);
        assert!(
            picture.contains(">lag &lt;3 </text>") && picture.contains("font-weight=\"bold\"") && picture.contains("#ff6b6b"),
            "{picture}"
        );
        assert_eq!(picture.matches("<path").count(), 2);
        assert_eq!(escapes(&buffer), "\x1b[1;1H\x1b[0;1;31mlag <3 ▄█ ─│\x1b[0m");
    }
}
