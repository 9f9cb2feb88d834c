//! Why the SQL fails on a record.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use super::MAX_ROWS_PER_RECORD;
use crate::Reason;

/// Why the SQL fails on a record. The record or the SQL is at fault, so a retry fails again.
#[derive(Debug, thiserror::Error)]
pub(super) enum SqlError {
    /// An expression has no value: an impossible cast, a number out of range, a division by zero.
    #[error("{location}: {}", describe(error))]
    Expression {
        /// The expression: a column of the SELECT, or WHERE.
        location: String,
        /// What is wrong. It may quote the record.
        error: DataFusionError,
    },
    /// The SQL exceeds its limit of bytes or steps.
    #[error("{location}: {message}")]
    LimitExceeded {
        /// The expression: a column of the SELECT, or WHERE.
        location: String,
        /// The limit and by what it is exceeded. It quotes nothing.
        message: String,
    },
    /// `unnest` produces too many rows of one record.
    #[error("produces more than {MAX_ROWS_PER_RECORD} rows, the limit per record; unnest a shorter array, or split the record")]
    TooManyRows,
    /// An expression panicked: an error in the library that evaluates it.
    #[error("evaluating the SQL panicked: {0}")]
    Panicked(String),
}

impl From<ArrowError> for SqlError {
    fn from(error: ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        Self::at("the SQL", error)
    }
}

impl SqlError {
    /// The error of an expression at this location.
    pub(super) fn at(location: impl Into<String>, error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(message) => Self::LimitExceeded { location: location.into(), message: message.clone() },
            _ => Self::Expression { location: location.into(), error },
        }
    }

    /// Returns the reason of the reject. A library's message may quote the record, or a value that
    /// the SQL computed from it.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Expression { location, error } => Reason::quoting(&describe(error), |what| format!("{location}: {what}")),
            Self::LimitExceeded { .. } | Self::TooManyRows => Reason::plain(self.to_string()),
            Self::Panicked(what) => Reason::quoting(what, |what| Self::Panicked(what.to_owned()).to_string()),
        }
    }
}

/// Returns the message of a DataFusion error, without the names of DataFusion's own parts.
pub(super) fn describe(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::ArrowError(error, _) => error.to_string(),
        DataFusionError::Execution(text) | DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) => text.clone(),
        DataFusionError::SchemaError(error, _) => error.to_string(),
        other => other.strip_backtrace(),
    };
    let prefixes = ["Cast error: ", "Compute error: ", "Parser error: ", "Invalid argument error: ", "Error during planning: "];
    let text = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(&text).trim_end_matches('.');
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if chars.as_str().starts_with(|c: char| c.is_lowercase() || c == ' ') => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}
