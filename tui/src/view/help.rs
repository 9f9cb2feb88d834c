//! The help: the keys of a screen as an overlay, and as a table for the documentation.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Canvas, draw_lines, overlay};
use crate::input::{self, Scope};
use crate::state::Screen;
use crate::text;
use crate::theme::Role;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>, scroll: usize) {
    let theme = canvas.theme;
    let screen = canvas.model.screen;
    let mut lines = vec![canvas.styled(text::cut(screen.about(), 90, theme.symbols.cut), Role::Muted), Line::default()];
    for binding in input::bindings(screen, true) {
        let more = if binding.scope == Scope::Operating { "operate: " } else { "" };
        lines.push(Line::from(vec![
            Span::styled(format!("{:<20}", binding.shown), theme.style(Role::Key)),
            Span::raw(format!("{more}{}", binding.what)),
        ]));
    }
    let width = lines.iter().map(Line::width).max().unwrap_or(0) + 4;
    let room = overlay(frame, area, (width, lines.len() + 2));
    let inner = canvas.frame(frame, room, vec![canvas.title(&format!("{}: keys   j k scroll, ? closes", screen.name()), true)]);
    let hidden = lines.len().saturating_sub(usize::from(inner.height));
    lines.drain(..scroll.min(hidden));
    draw_lines(frame, inner, lines);
}

/// The keys of one screen, or those of all screens, as a Markdown table.
pub(crate) fn markdown(screen: Option<Screen>) -> String {
    let rows = input::BINDINGS.iter().filter(|binding| match (binding.scope, screen) {
        (Scope::On(screens), Some(screen)) => screens.contains(&screen),
        (Scope::Everywhere | Scope::Operating, None) => true,
        _ => false,
    });
    let row = |binding: &input::Binding| {
        let keys: Vec<String> = binding.shown.split("  ").map(|key| format!("`{key}`")).collect();
        let more = if binding.scope == Scope::Operating { " (with `--operate`)" } else { "" };
        format!("| {} | {}{more} |\n", keys.join(" "), binding.what)
    };
    rows.map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/MONITOR.md");

    /// The text with every key table replaced by the current one.
    fn with_keys(text: &str) -> String {
        let mut out = String::new();
        let mut inside = false;
        for line in text.lines() {
            inside &= line != "<!-- end -->";
            if !inside {
                out += line;
                out.push('\n');
            }
            if let Some(name) = line.strip_prefix("<!-- keys").and_then(|rest| rest.strip_suffix("-->")) {
                inside = true;
                let screen = Screen::ALL.into_iter().find(|screen| screen.name() == name.trim());
                assert!(screen.is_some() || name.trim().is_empty(), "{name:?} is not a screen");
                let rows = markdown(screen);
                if !rows.is_empty() {
                    out += &format!("| key | what it does |\n| --- | --- |\n{rows}");
                }
            }
        }
        out
    }

    #[test]
    fn the_documentation_has_a_section_per_screen_with_its_keys() {
        let text = std::fs::read_to_string(DOCS).unwrap();
        let expected = with_keys(&text);
        for screen in Screen::ALL {
            assert!(text.contains(&format!("<!-- keys {} -->", screen.name())), "{} has no section", screen.name());
        }
        if std::env::var_os("FOREBAY_WRITE_DOCS").is_some() {
            std::fs::write(DOCS, expected).unwrap();
        } else {
            assert!(text == expected, "docs/MONITOR.md does not match the key table; update it with FOREBAY_WRITE_DOCS=1");
        }
    }
}
