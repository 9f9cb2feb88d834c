//! Roles of text, and the signs and colours they get.
//!
//! Guarantee: colour only repeats what the text says; without colour nothing is lost. Colours are the 16 of the terminal's own
//! palette, never fixed ones, so that light and dark terminals both work.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

/// How the view may draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether to use colour. The caller decides by flag, `NO_COLOR` and terminal.
    pub colour: bool,
    /// Whether every sign of the view itself is ASCII.
    pub ascii: bool,
}

/// What a piece of text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Text,
    Muted,
    Title,
    Good,
    Warn,
    Bad,
    In,
    Out,
    Wait,
    Transform,
    Write,
}

/// The signs of the view.
#[derive(Debug)]
pub(crate) struct Signs {
    pub(crate) dot: &'static str,
    pub(crate) elsewhere: &'static str,
    pub(crate) waiting: &'static str,
    pub(crate) stuck: &'static str,
    pub(crate) restart: &'static str,
    pub(crate) ended: &'static str,
    pub(crate) done: &'static str,
    pub(crate) line: &'static str,
    pub(crate) head: &'static str,
    pub(crate) to: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) level: &'static str,
    pub(crate) cut: &'static str,
    pub(crate) focus: &'static str,
    pub(crate) branch: &'static str,
    pub(crate) last_branch: &'static str,
    pub(crate) trunk: &'static str,
    pub(crate) stages: [&'static str; 3],
    pub(crate) bars: [&'static str; 8],
}

const UNICODE: Signs = Signs {
    dot: "●",
    elsewhere: "○",
    waiting: "◌",
    stuck: "!",
    restart: "↻",
    ended: "✗",
    done: "✓",
    line: "─",
    head: "▶",
    to: "→",
    up: "↑",
    down: "↓",
    level: "·",
    cut: "…",
    focus: "▸",
    branch: "├ ",
    last_branch: "└ ",
    trunk: "│ ",
    stages: ["░", "▒", "█"],
    bars: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
};

const ASCII: Signs = Signs {
    dot: "*",
    elsewhere: "o",
    waiting: "~",
    stuck: "!",
    restart: "@",
    ended: "x",
    done: "+",
    line: "-",
    head: ">",
    to: "->",
    up: "^",
    down: "v",
    level: "=",
    cut: "..",
    focus: ">",
    branch: "|-",
    last_branch: "`-",
    trunk: "| ",
    stages: [".", "=", "#"],
    bars: [".", ":", "-", "=", "+", "*", "%", "#"],
};

const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// The signs and styles that the options ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Theme {
    colour: bool,
    pub(crate) signs: &'static Signs,
    pub(crate) border: border::Set<'static>,
}

impl Theme {
    pub(crate) fn new(options: Options) -> Self {
        let (signs, border) = if options.ascii { (&ASCII, ASCII_BORDER) } else { (&UNICODE, border::PLAIN) };
        Self { colour: options.colour, signs, border }
    }

    pub(crate) fn style(&self, role: Role) -> Style {
        let style = match role {
            Role::Title | Role::Bad => Style::new().add_modifier(Modifier::BOLD),
            _ => Style::new(),
        };
        let colour = match role {
            Role::Text | Role::Title => return style,
            Role::Muted => return style.add_modifier(Modifier::DIM),
            Role::Good | Role::Out | Role::Write => Color::Green,
            Role::Warn => Color::Yellow,
            Role::Bad => Color::Red,
            Role::In => Color::Blue,
            Role::Transform => Color::Cyan,
            Role::Wait => Color::Magenta,
        };
        if self.colour { style.fg(colour) } else { style }
    }

    /// The row that keys act on.
    pub(crate) fn selected(&self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// `text` as a terminal shows `style`: the escapes of colour, bold, dim and reverse around it, or nothing when there is no style.
pub(crate) fn escaped(text: &str, style: Style) -> String {
    let mut codes = Vec::new();
    for (modifier, code) in [(Modifier::BOLD, "1"), (Modifier::DIM, "2"), (Modifier::REVERSED, "7")] {
        if style.add_modifier.contains(modifier) {
            codes.push(code);
        }
    }
    codes.extend(style.fg.and_then(|colour| match colour {
        Color::Red => Some("31"),
        Color::Green => Some("32"),
        Color::Yellow => Some("33"),
        Color::Blue => Some("34"),
        Color::Magenta => Some("35"),
        Color::Cyan => Some("36"),
        _ => None,
    }));
    if codes.is_empty() || text.trim().is_empty() { text.to_owned() } else { format!("\x1b[{}m{text}\x1b[0m", codes.join(";")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_no_role_has_one() {
        let theme = Theme::new(Options { colour: false, ascii: false });
        for role in [Role::Good, Role::Warn, Role::Bad, Role::In, Role::Out, Role::Wait, Role::Transform, Role::Write, Role::Muted] {
            assert_eq!(theme.style(role).fg, None);
        }
    }

    #[test]
    fn every_ascii_sign_is_ascii() {
        assert!(format!("{ASCII:?}{ASCII_BORDER:?}").is_ascii());
    }

    #[test]
    fn escapes_surround_only_what_has_a_style() {
        let theme = Theme::new(Options { colour: true, ascii: false });
        assert_eq!(escaped("lag", theme.style(Role::Text)), "lag");
        assert_eq!(escaped("lag", theme.style(Role::Bad)), "\x1b[1;31mlag\x1b[0m");
    }
}
