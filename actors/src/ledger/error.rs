//! Why a command is rejected, and why a journal can't be opened.

use forebay_schemas::event::Undecodable;
use forebay_schemas::run::RunState;
use uuid::Uuid;

use crate::journal::JournalError;

/// The number of runs that may be open.
pub(super) const MAX_OPEN_RUNS: usize = 1_000;
/// The length of the longest key, in characters.
pub(super) const MAX_KEY_CHARS: usize = 512;

/// A command that the state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The run does not exist.
    #[error("no run has the id {0}; `GET /v1/runs` lists them")]
    Unknown(Uuid),
    /// The run has ended.
    #[error("run {0} has ended as {1:?}")]
    Ended(Uuid, RunState),
    /// The run's state does not allow it.
    #[error("command not valid for run {0} in state {1:?}")]
    InvalidState(Uuid, RunState),
    /// Too many runs are open.
    #[error("{MAX_OPEN_RUNS} runs are open, which is the limit; retry when some have ended")]
    TooMany,
    /// The key is empty or too long, or the attempt is 0.
    #[error("a run's key has 1 to {MAX_KEY_CHARS} characters, and attempts count from 1")]
    BadKey,
    /// The key and attempt name a run that was requested with another spec.
    #[error("run {0} was requested with other params, window, labels, lease, read or max_rejected")]
    Mismatch(Uuid),
    /// The pipeline is paused or drained.
    #[error("the pipeline is {0}")]
    Paused(&'static str),
}

/// Why a journal can't be opened or folded.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The journal can't be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The version or type of an event is unknown.
    #[error(transparent)]
    Event(#[from] Undecodable),
    /// The first events are missing, and no snapshot covers them.
    #[error(
        "the journal in {folder} begins with event {first}, and no snapshot covers the events before it; restore its *.snap files, or \
         move the folder away to start a new journal"
    )]
    MissingStart {
        /// The folder.
        folder: String,
        /// The first event.
        first: u64,
    },
    /// The events end before the one that a snapshot is of.
    #[error(
        "the journal in {folder} ends with event {last}, but a snapshot is of event {snapshot}; restore its *.log files, or move the \
         folder away to start a new journal"
    )]
    MissingEnd {
        /// The folder.
        folder: String,
        /// The last event.
        last: u64,
        /// The event of the snapshot.
        snapshot: u64,
    },
}
