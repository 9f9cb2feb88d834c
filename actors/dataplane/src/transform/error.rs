//! Why the SQL fails on a record.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use super::MAX_ROWS_PER_RECORD;
use crate::Reason;

/// Why the SQL fails. All of them are the record's fault or the SQL's, so trying again gives the same.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransformError {
    /// An expression has no value: a cast that can't be made, a number out of range, a division by zero.
    #[error("{place}: {}", reason(cause))]
    Expression {
        /// Which expression: a column of the SELECT, or WHERE.
        place: String,
        /// What is wrong; it may quote the record.
        cause: DataFusionError,
    },
    /// The SQL makes more than it may, or takes longer than it may.
    #[error("{place}: {said}")]
    TooMuch {
        /// Which expression: a column of the SELECT, or WHERE.
        place: String,
        /// What is too much, with the sizes; it quotes nothing.
        said: String,
    },
    /// `unnest` made more rows of one record than there are write timestamps for.
    #[error("makes more than {MAX_ROWS_PER_RECORD} rows of one record, which is the most; unnest a shorter array, or split the record")]
    TooManyRows,
    /// An expression panicked, which is an error of the library that evaluates it.
    #[error("evaluating the SQL panicked: {0}")]
    Panicked(String),
}

impl From<ArrowError> for TransformError {
    fn from(error: ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl From<DataFusionError> for TransformError {
    fn from(cause: DataFusionError) -> Self {
        Self::at("the SQL", cause)
    }
}

impl TransformError {
    /// What went wrong in an expression.
    pub(super) fn at(place: impl Into<String>, cause: DataFusionError) -> Self {
        match cause.find_root() {
            DataFusionError::ResourcesExhausted(said) => Self::TooMuch { place: place.into(), said: said.clone() },
            _ => Self::Expression { place: place.into(), cause },
        }
    }

    /// Why the record at fault has no row. What a library says of it may quote the record, or what the SQL has made of it.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Expression { place, cause } => Reason::quoting(&reason(cause), |said| format!("{place}: {said}")),
            Self::TooMuch { .. } | Self::TooManyRows => Reason::plain(self.to_string()),
            Self::Panicked(said) => Reason::quoting(said, |said| Self::Panicked(said.to_owned()).to_string()),
        }
    }
}

/// What DataFusion says, without the names of its own parts.
pub(super) fn reason(error: &DataFusionError) -> String {
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
