//! Why an incarnation ended.
//!
//! Guarantee: an exit carries text only, so it can be kept, sent and written down. Not guaranteed: a backtrace.

use std::any::Any;
use std::fmt;

/// Why an incarnation of an actor ended. What follows from it is the supervisor's decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// Its work is done.
    Normal,
    /// It was asked to stop, and did.
    Shutdown,
    /// Who it sends to has gone: the consequence of another exit, never a cause.
    DownstreamClosed,
    /// It can't go on as it is; a new incarnation may.
    Failed(String),
    /// Its code panicked, in a handler, a future, a computation or a thread.
    Panicked(String),
    /// No incarnation can go on until a person changes something: bad credentials, a missing table. Never restarted; it goes up to the root.
    Fatal(String),
}

impl Exit {
    /// The exit of an incarnation that panicked with `payload`, which keeps the message when it is text.
    pub(super) fn from_panic(payload: &(dyn Any + Send)) -> Self {
        let message = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| payload.downcast_ref::<String>().cloned());
        Self::Panicked(message.unwrap_or_else(|| "a panic without a message".to_owned()))
    }

    /// Whether it is the consequence of another exit or of a stop, and so does not count against the limit of restarts.
    pub fn is_collateral(&self) -> bool {
        matches!(self, Self::Shutdown | Self::DownstreamClosed)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("done"),
            Self::Shutdown => f.write_str("stopped"),
            Self::DownstreamClosed => f.write_str("downstream closed"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Panicked(why) => write!(f, "panicked: {why}"),
            Self::Fatal(why) => write!(f, "fatal: {why}"),
        }
    }
}
