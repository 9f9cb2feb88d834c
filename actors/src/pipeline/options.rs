//! The options of a start, and why it may fail.

use forebay_schemas::pipeline::FileError;

use crate::api::{Listener, TokenError};
use crate::broker::BrokerError;
use crate::data_dir::{DataDirLock, LockError};
use crate::ledger::LedgerError;
use forebay_kernel::SharedClock;

/// A part of the tree that a process can run.
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

    /// Its name on the command line.
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
    /// The parts to run. Parts that the pipeline does not have are ignored.
    pub roles: Vec<Role>,
    /// Fetch once, whatever the file's schedule.
    pub fetch_once: bool,
    /// The bound socket of the API.
    pub listener: Option<Listener>,
    /// The clock of every actor.
    pub clock: SharedClock,
    /// Seeds the jitter of restarts.
    pub seed: u64,
    /// The lock of the data directory, if the caller has it already.
    pub lock: Option<DataDirLock>,
}

/// Why a pipeline can't start. An unavailable server is no such error: the actors wait for it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory can't be locked.
    #[error(transparent)]
    DataDir(#[from] LockError),
    /// The journal can't be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The properties of Kafka can't be read.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A file of `[api] tls` is unusable.
    #[error(transparent)]
    Tls(#[from] FileError),
    /// A token of the API is unusable.
    #[error(transparent)]
    Token(#[from] TokenError),
}
