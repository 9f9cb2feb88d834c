//! Output of a command: results on stdout, messages on stderr, colour only where it is wanted.

use std::io::{IsTerminal, Write};

/// The message after a dry run.
pub(crate) const DRY_RUN: &str = "dry run: nothing was changed; apply it with --reason and --yes";

/// Prints results and messages.
#[derive(Clone)]
pub(crate) struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    /// `json` prints results as JSON. Colour follows `NO_COLOR`, `TERM=dumb` and whether stderr is
    /// a terminal.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, colour: colour_wanted() && std::io::stderr().is_terminal() }
    }

    /// Whether results are printed as JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether messages may be coloured.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// Prints a result on stdout. When the reader has closed the pipe (`| head`), ends the program
    /// with success.
    pub(crate) fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// Prints a message on stderr.
    pub(crate) fn message(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Text in bold.
    pub(crate) fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    /// Text in the colour of failures.
    pub(crate) fn red(&self, text: &str) -> String {
        self.styled("1;31", text)
    }

    /// Text in the colour of success.
    pub(crate) fn green(&self, text: &str) -> String {
        self.styled("32", text)
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whether the environment allows colour: <https://no-color.org>.
pub(crate) fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
