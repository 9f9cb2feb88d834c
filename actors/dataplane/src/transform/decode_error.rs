//! Why a record can't be decoded.

use forebay_schemas::json_pointer;

use crate::Reason;

/// The error is boxed: it is rare, and the result of each decoded value stays small.
pub(super) type Result<T> = std::result::Result<T, Box<DecodeError>>;

/// Why a record can't be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DecodeError {
    /// The record is not JSON.
    Syntax(Reason),
    /// A value does not fit the schema. `path` leads to it, innermost step first.
    Invalid { path: Vec<String>, reason: Reason },
}

impl DecodeError {
    /// A value does not fit the schema; `why` quotes nothing of the record.
    pub(super) fn invalid(why: impl Into<String>) -> Box<Self> {
        Self::because(Reason::plain(why))
    }

    /// A value does not fit the schema.
    pub(super) fn because(reason: Reason) -> Box<Self> {
        Box::new(Self::Invalid { path: Vec::new(), reason })
    }

    /// Adds the step from the enclosing object or array to the value.
    pub(super) fn within(mut self: Box<Self>, step: impl Into<String>) -> Box<Self> {
        if let Self::Invalid { path, .. } = &mut *self {
            path.push(step.into());
        }
        self
    }

    /// Adds what to do about it.
    pub(super) fn with_remedy(mut self: Box<Self>, remedy: &str) -> Box<Self> {
        if let Self::Invalid { reason, .. } = &mut *self {
            *reason = reason.clone().within(|why| format!("{why}; {remedy}"));
        }
        self
    }

    /// Returns the reason of the reject.
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Syntax(reason) => reason.within(|why| format!("not JSON: {why}")),
            Self::Invalid { path, reason } if path.is_empty() => reason.within(|why| format!("the record {why}")),
            Self::Invalid { path, reason } => {
                let pointer: String = path.iter().rev().map(|step| format!("/{}", json_pointer::escape(step))).collect();
                reason.within(|why| format!("`{pointer}` {why}"))
            }
        }
    }
}
