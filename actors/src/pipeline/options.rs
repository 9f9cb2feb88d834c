//! How a pipeline is started, and why it may not start.

use crate::api::{Listener, TokenError};
use crate::broker::BrokerError;
use crate::data_dir::{DataDirLock, LockError};
use crate::ledger::LedgerError;
use forebay_kernel::SharedClock;

/// A part of the tree that a process may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Producer and fetcher.
    Ingest,
    /// Writer, transformer, consumer.
    Egress,
    /// The control API.
    Api,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Ingest, Self::Egress, Self::Api];

    /// The word for it on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Egress => "egress",
            Self::Api => "api",
        }
    }
}

/// How a pipeline is started.
pub struct Options {
    /// The parts to run; parts the pipeline does not have are left out.
    pub roles: Vec<Role>,
    /// Fetch once instead of by the file's schedule.
    pub fetch_once: bool,
    /// Where the API listens; bound already, so that a taken port is known.
    pub listener: Option<Listener>,
    /// The clock of every actor.
    pub clock: SharedClock,
    /// For the jitter of restarts.
    pub seed: u64,
    /// The data directory, where the caller holds it already.
    pub held: Option<DataDirLock>,
}

/// Why a pipeline can't start at all. What may yet come, such as a server that is away, is waited for instead.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory can't be locked.
    #[error(transparent)]
    DataDir(#[from] LockError),
    /// The journal can't be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Kafka's properties can't be had.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A token of the API can't be used.
    #[error(transparent)]
    Token(#[from] TokenError),
}
