//! Text roles, and the symbols and colours they map to.
//!
//! Guarantees:
//! * Colour only repeats what text and symbols say. Nothing is lost without it.
//! * The default palettes use the 16 colours of the terminal, which fit both dark and light
//!   backgrounds. Fixed colours are used only if the caller selects them.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

/// The colours in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Palette {
    /// No colours: bold, dim and reverse only.
    #[default]
    Mono,
    /// The terminal's 16 colours on a dark background.
    Dark,
    /// The terminal's 16 colours on a light background.
    Light,
    /// Fixed colours for a dark background.
    DarkTrue,
    /// Fixed colours for a light background.
    LightTrue,
}

impl Palette {
    /// The palette named `dark`, `light` or `mono`. It has fixed colours if this one has them.
    pub(crate) fn named(self, name: &str) -> Self {
        let fixed = matches!(self, Self::DarkTrue | Self::LightTrue);
        match (name, fixed) {
            ("mono", _) => Self::Mono,
            ("light", true) => Self::LightTrue,
            ("light", false) => Self::Light,
            (_, true) => Self::DarkTrue,
            (_, false) => Self::Dark,
        }
    }
}

/// Display options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// The palette. The caller derives it from flags, `NO_COLOR` and the terminal.
    pub palette: Palette,
    /// Whether to draw ASCII symbols only.
    pub ascii: bool,
}

/// The meaning of a piece of text.
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
    Lag,
    Fetch,
    Wait,
    Transform,
    Write,
    Commit,
    /// A key in the footer.
    Key,
    /// The current screen.
    Tab,
}

/// The symbols that the monitor draws.
#[derive(Debug)]
pub(crate) struct Symbols {
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
    pub(crate) stages: [&'static str; 4],
    pub(crate) bars: [&'static str; 8],
    /// The last cell of a horizontal bar, in eighths.
    pub(crate) parts: [&'static str; 8],
    pub(crate) rest: &'static str,
    pub(crate) shades: [&'static str; 5],
    pub(crate) knob: &'static str,
    pub(crate) pause: &'static str,
    pub(crate) trail: &'static str,
    pub(crate) caret: &'static str,
}

const UNICODE: Symbols = Symbols {
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
    stages: ["░", "▒", "▓", "█"],
    bars: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    parts: ["▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"],
    rest: "·",
    shades: ["·", "░", "▒", "▓", "█"],
    knob: "●",
    pause: "‖",
    trail: "›",
    caret: "▏",
};

const ASCII: Symbols = Symbols {
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
    stages: [".", "=", "#", "+"],
    bars: [".", ":", "-", "=", "+", "*", "%", "#"],
    parts: ["-", "-", "-", "=", "=", "=", "#", "#"],
    rest: ".",
    shades: [".", ":", "+", "*", "#"],
    knob: "O",
    pause: "=",
    trail: ">",
    caret: "_",
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

/// The symbols and styles for the given options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Theme {
    pub(crate) palette: Palette,
    pub(crate) ascii: bool,
    /// Whether colour alone distinguishes the stages in a bar. Otherwise their density does too.
    pub(crate) solid: bool,
    pub(crate) symbols: &'static Symbols,
    pub(crate) border: border::Set<'static>,
}

const fn rgb(hex: u32) -> Color {
    let [_, r, g, b] = hex.to_be_bytes();
    Color::Rgb(r, g, b)
}

impl Theme {
    pub(crate) fn new(options: Options) -> Self {
        let (symbols, border) = if options.ascii { (&ASCII, ASCII_BORDER) } else { (&UNICODE, border::ROUNDED) };
        let solid = options.palette != Palette::Mono && !options.ascii;
        Self { palette: options.palette, ascii: options.ascii, solid, symbols, border }
    }

    /// The same theme with another palette.
    pub(crate) fn with(self, palette: Palette) -> Self {
        Self { palette, solid: palette != Palette::Mono && !self.ascii, ..self }
    }

    pub(crate) fn style(&self, role: Role) -> Style {
        let style = match role {
            Role::Title | Role::Bad | Role::Key => Style::new().add_modifier(Modifier::BOLD),
            Role::Tab => Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
            _ => Style::new(),
        };
        let colour = match self.palette {
            Palette::Mono => None,
            Palette::Dark | Palette::Light => Self::terminal_colour(role, self.palette == Palette::Light),
            Palette::DarkTrue => Self::fixed_colour(role, false),
            Palette::LightTrue => Self::fixed_colour(role, true),
        };
        match (role, colour) {
            // The terminal's own dim fits every background. Fixed palettes use a fixed grey.
            (Role::Muted, None) => style.add_modifier(Modifier::DIM),
            (_, None) => style,
            (_, Some(colour)) => style.fg(colour),
        }
    }

    fn terminal_colour(role: Role, light: bool) -> Option<Color> {
        Some(match role {
            Role::Text | Role::Title | Role::Muted | Role::Tab => return None,
            Role::Good | Role::Out | Role::Write => Color::Green,
            // Yellow is unreadable on white.
            Role::Warn | Role::Lag if light => Color::Magenta,
            Role::Warn | Role::Lag => Color::Yellow,
            Role::Bad => Color::Red,
            Role::In | Role::Fetch => Color::Blue,
            Role::Key if light => Color::Blue,
            Role::Transform | Role::Key => Color::Cyan,
            Role::Wait => Color::Magenta,
            Role::Commit => Color::Blue,
        })
    }

    fn fixed_colour(role: Role, light: bool) -> Option<Color> {
        let (dark, bright) = match role {
            Role::Text | Role::Title | Role::Tab => return None,
            Role::Muted => (0x7d_8a_99, 0x5c_6b_7a),
            Role::Good | Role::Out => (0x5f_d7_a0, 0x0f_7b_4f),
            Role::Warn => (0xf2_c1_4e, 0x9a_62_00),
            Role::Bad => (0xff_6b_6b, 0xc4_1e_2c),
            Role::In => (0x6c_b6_ff, 0x16_5d_b8),
            Role::Lag => (0xf0_a0_5a, 0xa6_4b_00),
            Role::Fetch => (0x8f_a6_ff, 0x3d_4f_c4),
            Role::Wait => (0xb0_8c_e8, 0x72_3f_b8),
            Role::Transform => (0x4f_c8_d8, 0x0b_74_85),
            Role::Write => (0x5f_d7_a0, 0x0f_7b_4f),
            Role::Commit => (0x6c_b6_ff, 0x16_5d_b8),
            Role::Key => (0x4f_c8_d8, 0x0b_74_85),
        };
        Some(rgb(if light { bright } else { dark }))
    }

    /// The style of the selected row.
    pub(crate) fn selected(&self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// The symbol and style of a heat map cell: heat from 0 to 1, or unknown.
    pub(crate) fn heat(&self, part: Option<f64>) -> (&'static str, Style) {
        let Some(part) = part else { return (" ", Style::new()) };
        let part = part.clamp(0.0, 1.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 4")]
        let level = if part <= 0.0 { 0 } else { 1 + ((part * 3.999) as usize) };
        let symbol = self.symbols.shades[level.min(4)];
        let role = [Role::Muted, Role::Good, Role::Good, Role::Warn, Role::Bad][level.min(4)];
        (symbol, self.style(role))
    }
}

/// `text` with the escapes for the colour, bold, dim and reverse of `style`; unchanged if the style
/// is empty.
pub(crate) fn escaped(text: &str, style: Style) -> String {
    let mut codes = Vec::new();
    for (modifier, code) in [(Modifier::BOLD, "1"), (Modifier::DIM, "2"), (Modifier::REVERSED, "7")] {
        if style.add_modifier.contains(modifier) {
            codes.push(code);
        }
    }
    let mut codes: Vec<String> = codes.into_iter().map(str::to_owned).collect();
    codes.extend(style.fg.and_then(|colour| {
        Some(match colour {
            Color::Red => "31".to_owned(),
            Color::Green => "32".to_owned(),
            Color::Yellow => "33".to_owned(),
            Color::Blue => "34".to_owned(),
            Color::Magenta => "35".to_owned(),
            Color::Cyan => "36".to_owned(),
            Color::Rgb(r, g, b) => format!("38;2;{r};{g};{b}"),
            _ => return None,
        })
    }));
    if codes.is_empty() || text.trim().is_empty() { text.to_owned() } else { format!("\x1b[{}m{text}\x1b[0m", codes.join(";")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 16] = [
        Role::Text,
        Role::Muted,
        Role::Title,
        Role::Good,
        Role::Warn,
        Role::Bad,
        Role::In,
        Role::Out,
        Role::Lag,
        Role::Fetch,
        Role::Wait,
        Role::Transform,
        Role::Write,
        Role::Commit,
        Role::Key,
        Role::Tab,
    ];

    fn theme(palette: Palette) -> Theme {
        Theme::new(Options { palette, ascii: false })
    }

    #[test]
    fn without_colour_no_role_has_a_foreground_or_a_background() {
        for role in ROLES {
            assert_eq!(theme(Palette::Mono).style(role).fg, None);
            for palette in [Palette::Mono, Palette::Dark, Palette::Light, Palette::DarkTrue, Palette::LightTrue] {
                let style = theme(palette).style(role);
                assert_eq!(style.bg, None);
                assert!(
                    ![Some(Color::White), Some(Color::Black), Some(Color::DarkGray), Some(Color::Gray)].contains(&style.fg),
                    "{role:?}"
                );
            }
        }
        assert!((0..=10).all(|n| theme(Palette::Mono).heat(Some(f64::from(n) / 10.0)).1.fg.is_none()));
    }

    #[test]
    fn a_light_palette_has_no_yellow_and_only_fixed_palettes_have_fixed_colours() {
        for role in ROLES {
            assert_ne!(theme(Palette::Light).style(role).fg, Some(Color::Yellow));
            for palette in [Palette::Dark, Palette::Light] {
                assert!(!matches!(theme(palette).style(role).fg, Some(Color::Rgb(..) | Color::Indexed(_))));
            }
        }
        assert_eq!(Palette::DarkTrue.named("light"), Palette::LightTrue);
        assert_eq!(Palette::Dark.named("mono"), Palette::Mono);
    }

    #[test]
    fn every_ascii_symbol_is_ascii() {
        assert!(format!("{ASCII:?}{ASCII_BORDER:?}").is_ascii());
    }

    #[test]
    fn escapes_surround_only_styled_text() {
        let theme = theme(Palette::Dark);
        assert_eq!(escaped("lag", theme.style(Role::Text)), "lag");
        assert_eq!(escaped("lag", theme.style(Role::Bad)), "\x1b[1;31mlag\x1b[0m");
    }
}
