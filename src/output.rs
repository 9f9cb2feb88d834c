//! Output of a command: results on stdout, messages on stderr, colour only where it is wanted.
//!
//! Guarantees:
//! * A line of text has no control characters but the colour that is added here: what a record, a
//!   server or a client sent is made [`printable`].
//! * JSON is exact, one value per line.

use std::io::{IsTerminal, Write};

use forebay_schemas::printable;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use serde::Serialize;

/// The message after a dry run.
pub(crate) const DRY_RUN: &str = "dry run: nothing was changed; apply it with --reason and --yes";

/// Prints results and messages.
#[derive(Clone)]
pub(crate) struct Output {
    json: bool,
    colour: bool,
}

/// The style of a label.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Label {
    /// A failure.
    Bad,
    /// Success.
    Good,
    /// Neither.
    Plain,
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

    /// Prints a line of a result on stdout.
    pub(crate) fn print(&self, line: &str) {
        self.print_verbatim(&printable(line));
    }

    /// Prints a result on stdout as JSON, or as the line that `line` makes of it.
    pub(crate) fn print_as<T: Serialize>(&self, value: &T, line: impl FnOnce(&T) -> String) {
        if self.json { self.print_json(value) } else { self.print(&line(value)) }
    }

    /// Prints a result on stdout as JSON on one line, or indented for a person.
    pub(crate) fn print_object(&self, value: &impl Serialize) {
        if self.json {
            return self.print_json(value);
        }
        let text = serde_json::to_string_pretty(value).expect("results have text keys");
        text.lines().for_each(|line| self.print(line));
    }

    /// Prints a result on stdout as JSON on one line.
    pub(crate) fn print_json(&self, value: &impl Serialize) {
        self.print_verbatim(&serde_json::to_string(value).expect("results have text keys"));
    }

    /// Prints a result on stdout as it is: JSON, a script, or lines that are printable already.
    /// When the reader has closed the pipe (`| head`), ends the program with success.
    pub(crate) fn print_verbatim(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// Prints a message on stderr, on one line.
    pub(crate) fn message(&self, line: &str) {
        self.message_verbatim(&printable(line));
    }

    /// Prints a message that begins with a label on stderr, on one line.
    pub(crate) fn labelled(&self, style: Label, label: &str, line: &str) {
        let style = match style {
            _ if !self.colour => return self.message(&format!("{label} {line}")),
            Label::Bad => "1;31",
            Label::Good => "32",
            Label::Plain => "1",
        };
        self.message_verbatim(&format!("\x1b[{style}m{label}\x1b[0m {}", printable(line)));
    }

    /// Prints an error and its location in a file on stderr. The colours are left out when the file
    /// has characters that are not printable.
    pub(crate) fn report(&self, error: &dyn Diagnostic) {
        let render = |theme| {
            let mut text = String::new();
            let handler = GraphicalReportHandler::new_themed(theme).with_context_lines(1);
            handler.render_report(&mut text, error).map_or_else(|_| error.to_string(), |()| text)
        };
        let plain = render(GraphicalTheme::unicode_nocolor());
        if self.colour && plain.lines().all(|line| printable(line) == line) {
            return self.message_verbatim(render(GraphicalTheme::unicode()).trim_end());
        }
        plain.trim_end().lines().for_each(|line| self.message(line));
    }

    fn message_verbatim(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}

/// Whether the environment allows colour: <https://no-color.org>.
pub(crate) fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
