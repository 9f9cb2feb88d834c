//! What the program says: data on stdout, talk on stderr, logs by `tracing` on stderr; colour only where it is wanted.

use std::io::{IsTerminal, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::logging::{Json, Keep, Repeats};

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Says things to whoever called the program.
#[derive(Clone)]
pub(crate) struct Talk {
    json: bool,
    colour: bool,
}

impl Talk {
    /// `json`: results go out as JSON. Colour follows `NO_COLOR`, `TERM=dumb` and whether stderr is a terminal.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, colour: colour_wanted() && std::io::stderr().is_terminal() }
    }

    /// Whether results go out as JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether talk may be coloured.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// Data, on stdout. A reader who has gone away (`| head`) ends the program quietly.
    pub(crate) fn data(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// Talk, on stderr.
    pub(crate) fn say(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Talk that must not stand out.
    pub(crate) fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    /// Talk about something wrong.
    pub(crate) fn red(&self, text: &str) -> String {
        self.styled("1;31", text)
    }

    /// Talk about something right.
    pub(crate) fn green(&self, text: &str) -> String {
        self.styled("32", text)
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whether the environment wants colour: <https://no-color.org>.
pub(crate) fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Starts logging: on stderr Forebay's own lines from `level` on, and no other crate's, unless `FOREBAY_LOG` says otherwise. Those from `info` on are
/// kept for who asks later, whatever stderr gets.
pub(crate) fn start_logging(format: LogFormat, level: &str) {
    let filter = std::env::var("FOREBAY_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(format!("forebay={level},forebay_actors={level}")));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let own = Targets::new().with_target("forebay", LevelFilter::INFO);
    let registry = tracing_subscriber::registry().with(Keep::default().with_filter(own));
    // A second start in one process keeps the first: that is fine.
    let _ = match format {
        LogFormat::Json => registry.with(lines.event_format(Json).with_filter(Repeats::default()).with_filter(filter)).try_init(),
        LogFormat::Text => {
            let colour = colour_wanted() && std::io::stderr().is_terminal();
            let lines = lines.with_ansi(colour).with_target(false).compact();
            registry.with(lines.with_filter(Repeats::default()).with_filter(filter)).try_init()
        }
    };
}
