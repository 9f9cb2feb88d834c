//! Why a command is rejected, and why a journal can't be opened.

use forebay_schemas::event::Undecodable;
use forebay_schemas::run::RunState;
use uuid::Uuid;

use super::runs::{KEY_MOST, OPEN_MOST};
use crate::journal::JournalError;

/// A command the state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is no such run.
    #[error("no run has the id {0}; `GET /v1/runs` lists them")]
    Unknown(Uuid),
    /// It has ended.
    #[error("run {0} has ended as {1:?}")]
    Ended(Uuid, RunState),
    /// It is not in a state for this.
    #[error("run {0} is {1:?}; that can't be said of it now")]
    OutOfTurn(Uuid, RunState),
    /// Too many are open.
    #[error("{OPEN_MOST} runs are open already; try again when some have ended")]
    TooMany,
    /// The key is empty or too long, or the attempt is 0.
    #[error("a run's key has 1 to {KEY_MOST} characters, and attempts count from 1")]
    BadKey,
    /// The key and attempt mean a run that was asked for with something else.
    #[error("run {0} was asked for with other params, labels, lease, read or max_rejected")]
    Mismatch(Uuid),
    /// The pipeline is meant to fetch nothing.
    #[error("the pipeline is {0}")]
    Paused(&'static str),
}

/// Why the state can't be had from a journal.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The journal can't be read, or can't be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An event is of a version, or a type, that is not known here.
    #[error(transparent)]
    Event(#[from] Undecodable),
    /// The events before the first one there is are not in a snapshot either.
    #[error(
        "the journal in {folder} begins with event {first}, and no snapshot holds what was before it; restore its *.snap files, or move the folder away to begin a new journal"
    )]
    NoBegin {
        /// The folder.
        folder: String,
        /// The first event there is.
        first: u64,
    },
    /// A snapshot is ahead of the events.
    #[error(
        "the journal in {folder} ends with event {last}, and a snapshot is of event {snapshot}; restore its *.log files, or move the folder away to begin a new journal"
    )]
    NoEnd {
        /// The folder.
        folder: String,
        /// The last event there is.
        last: u64,
        /// The snapshot's.
        snapshot: u64,
    },
}
