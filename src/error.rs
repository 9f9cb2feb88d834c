//! The error of a command: its message, its remedy and its exit code.

use std::process::ExitCode;

use forebay_schemas::pipeline::FileError;
use forebay_schemas::run::{Stop, StopReason};
use serde_json::{Value, json};

use crate::output::{Label, Output};

/// The remedy for records that became dead letters.
pub(crate) const FIX_REJECTED: &str = "fix the source, the schema or the SQL, and redrive them";

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) struct CliError {
    code: u8,
    message: String,
    help: String,
    file: Option<Box<FileError>>,
}

impl CliError {
    fn new(code: u8, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: help.into(), file: None }
    }

    /// The operation failed.
    pub(crate) fn failed(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(1, message, help)
    }

    /// The arguments or the pipeline file are wrong.
    pub(crate) fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(2, message, help)
    }

    /// The environment lacks something: a server, a port, a directory.
    pub(crate) fn environment(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(3, message, help)
    }

    /// Everything has been printed already; only the exit code is left.
    pub(crate) fn silent(code: u8) -> Self {
        Self::new(code, "", "")
    }

    /// The run was cancelled.
    pub(crate) fn cancelled(message: impl Into<String>) -> Self {
        Self::new(4, message, "")
    }

    /// The wait timed out; what it waited for continues.
    pub(crate) fn timed_out(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(5, message, help)
    }

    /// The operation succeeded, but more records were rejected than allowed.
    pub(crate) fn rejected(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(6, message, help)
    }

    /// The operation succeeded, but the fetch stopped before the end of the source.
    pub(crate) fn cut_short(stop: &Stop) -> Self {
        let continues = matches!(stop.reason, StopReason::MaxPages | StopReason::EmptyPage);
        let help = if continues { "request another run, which continues where this one ended" } else { "" };
        Self::new(7, format!("the fetch was {stop}"), help)
    }

    /// The error of one of several things, which the text names.
    pub(crate) fn of(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// The supervisor gave up.
    pub(crate) fn escalated(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(70, message, help)
    }

    /// Prints the error, as text on stderr or as an object on stdout, and returns the exit code.
    pub(crate) fn report(&self, output: &Output) -> ExitCode {
        if self.message.is_empty() {
            return ExitCode::from(self.code);
        }
        if output.json() {
            let mut error = json!({ "code": self.code, "message": self.message });
            if let Some(file) = &self.file {
                add_location(&mut error, file);
                if !file.others().is_empty() {
                    error["others"] = file.others().iter().map(of_file).collect();
                }
            }
            if !self.help.is_empty() {
                error["help"] = self.help.clone().into();
            }
            output.print_json(&json!({ "error": error }));
        } else if let Some(file) = &self.file {
            output.report(file.as_ref());
        } else {
            output.labelled(Label::Bad, "error:", &self.message);
            if !self.help.is_empty() {
                output.labelled(Label::Plain, " help:", &self.help);
            }
        }
        ExitCode::from(self.code)
    }
}

/// A further error of a file as an object.
fn of_file(error: &FileError) -> Value {
    let mut object = json!({ "message": error.to_string(), "help": error.remedy() });
    add_location(&mut object, error);
    object
}

/// Adds the file and the line, as far as they are known.
fn add_location(object: &mut Value, error: &FileError) {
    if let (Some(file), Some(line)) = (error.file(), error.line()) {
        object["file"] = file.into();
        object["line"] = line.into();
    }
}

/// The message.
impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<FileError> for CliError {
    fn from(error: FileError) -> Self {
        let help = error.remedy().unwrap_or_default().to_owned();
        Self { code: 2, message: error.to_string(), help, file: Some(Box::new(error)) }
    }
}
