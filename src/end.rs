//! How a command ends when it does not end well: what is said, and the exit code.

use std::fmt::Write as _;
use std::process::ExitCode;

use forebay_schemas::pipeline::FileError;
use forebay_schemas::run::{Stop, StopReason};
use serde_json::json;

use crate::talk::Talk;

/// An end that is not success.
#[derive(Debug)]
pub(crate) struct End {
    code: u8,
    message: String,
    help: String,
    file: Option<Box<FileError>>,
}

impl End {
    fn new(code: u8, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: help.into(), file: None }
    }

    /// What was asked for failed.
    pub(crate) fn failed(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(1, message, help)
    }

    /// What was asked for can't be: a wrong word, a wrong pipeline file.
    pub(crate) fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(2, message, help)
    }

    /// Something outside is missing: a server, a port, a folder.
    pub(crate) fn environment(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(3, message, help)
    }

    /// All is said already; only the exit code is left.
    pub(crate) fn silent(code: u8) -> Self {
        Self::new(code, "", "")
    }

    /// The run was cancelled.
    pub(crate) fn cancelled(message: impl Into<String>) -> Self {
        Self::new(4, message, "")
    }

    /// The wait timed out; what was waited for goes on.
    pub(crate) fn timed_out(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(5, message, help)
    }

    /// All went its way, and more records were rejected than may be.
    pub(crate) fn rejected(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(6, message, help)
    }

    /// It was done, and the source has more than was read.
    pub(crate) fn cut_short(stop: &Stop) -> Self {
        let goes_on = matches!(stop.reason, StopReason::MaxPages | StopReason::EmptyPage);
        Self::new(7, format!("the fetch was {stop}"), if goes_on { "ask for another run, which goes on where this one ended" } else { "" })
    }

    /// The supervisor gave up.
    pub(crate) fn escalated(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(70, message, help)
    }

    /// Says it, as text on stderr or as an object on stdout, and gives the exit code.
    pub(crate) fn report(&self, talk: &Talk) -> ExitCode {
        if self.message.is_empty() {
            return ExitCode::from(self.code);
        }
        if talk.json() {
            let mut error = json!({ "code": self.code, "message": self.message });
            if let Some(line) = self.file.as_ref().and_then(|file| file.line()) {
                error["line"] = line.into();
            }
            if !self.help.is_empty() {
                error["help"] = self.help.clone().into();
            }
            talk.data(&json!({ "error": error }).to_string());
        } else if let Some(file) = &self.file {
            let mut text = String::new();
            let theme = if talk.colour() { miette::GraphicalTheme::unicode() } else { miette::GraphicalTheme::unicode_nocolor() };
            let handler = miette::GraphicalReportHandler::new_themed(theme).with_context_lines(1);
            match handler.render_report(&mut text, file.as_ref()) {
                Ok(()) => talk.say(text.trim_end()),
                Err(_) => talk.say(&self.message),
            }
        } else {
            let mut text = format!("{} {}", talk.red("error:"), self.message);
            if !self.help.is_empty() {
                let _ = write!(text, "\n{} {}", talk.bold(" help:"), self.help);
            }
            talk.say(&text);
        }
        ExitCode::from(self.code)
    }
}

impl From<FileError> for End {
    fn from(error: FileError) -> Self {
        let help = error.remedy().unwrap_or_default().to_owned();
        Self { code: 2, message: error.to_string(), help, file: Some(Box::new(error)) }
    }
}
