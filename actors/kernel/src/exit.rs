//! Why an incarnation ended.
//!
//! Guarantee: an exit holds only text, so it can be stored, sent and logged.
//!
//! Does not guarantee a backtrace.

use std::any::Any;
use std::fmt::{self, Display};

use forebay_schemas::error_class::{Class, Classified};

/// Why an incarnation of an actor ended. The supervisor decides what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// Its work is done.
    Normal,
    /// It stopped on request.
    Shutdown,
    /// The actor it sends to has ended: always the consequence of another exit, never a cause.
    DownstreamClosed,
    /// It can't continue; a new incarnation may.
    Failed(String),
    /// Its code panicked, in a handler, a future, a computation or a thread.
    Panicked(String),
    /// No incarnation can continue until a person changes something, such as wrong credentials or a
    /// missing table. It is never restarted; the exit escalates to the root.
    Fatal(String),
}

impl Exit {
    /// The exit of an incarnation that panicked with `payload`. Keeps the message if it is text.
    pub(super) fn from_panic(payload: &(dyn Any + Send)) -> Self {
        let message = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| payload.downcast_ref::<String>().cloned());
        Self::Panicked(message.unwrap_or_else(|| "a panic without a message".to_owned()))
    }

    /// Whether it follows from another exit or from a stop, and so does not count against the
    /// restart limit.
    pub fn is_collateral(&self) -> bool {
        matches!(self, Self::Shutdown | Self::DownstreamClosed)
    }
}

/// A fatal error is a fatal exit. Any other may not recur in the next incarnation.
impl<E: Classified + Display> From<E> for Exit {
    fn from(error: E) -> Self {
        match error.class() {
            Class::Fatal => Self::Fatal(error.to_string()),
            Class::Transient | Class::Rejected => Self::Failed(error.to_string()),
        }
    }
}

impl Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("done"),
            Self::Shutdown => f.write_str("stopped"),
            Self::DownstreamClosed => f.write_str("downstream closed"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::Panicked(reason) => write!(f, "panicked: {reason}"),
            Self::Fatal(reason) => write!(f, "fatal: {reason}"),
        }
    }
}
