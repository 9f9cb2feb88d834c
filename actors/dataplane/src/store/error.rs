//! What can go wrong between Forebay and its table.

use forebay_schemas::failure::{Class, Classified};
use forebay_schemas::pipeline::SecretError;
use thiserror::Error;

/// Something wrong with the store: which one, what, and what to do about it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The server is away, slow or busy, or refuses for now whatever is written. Whether the write took effect is not known; the same write
    /// may be made again.
    #[error("{server}: {what}")]
    Unavailable {
        /// Which store.
        server: String,
        /// What it said, or did not.
        what: String,
        /// In a word.
        reason: Reason,
    },
    /// The server will never take these very rows, or this very query.
    #[error("{server} refuses it: {what}")]
    Refused {
        /// Which store.
        server: String,
        /// Why.
        what: String,
    },
    /// The server does not know us, or does not let us.
    #[error(
        "{server}: {what}; check cassandra.username, cassandra.password and what the user may do: it needs SELECT and MODIFY on the table, CREATE with create = true"
    )]
    Denied {
        /// Which store.
        server: String,
        /// What it said.
        what: String,
    },
    /// The keyspace or the table is not as the pipeline needs it.
    #[error("{server}: {what}; {remedy}")]
    Schema {
        /// Which store.
        server: String,
        /// What is not as it should be.
        what: String,
        /// What to change.
        remedy: String,
    },
    /// A secret of the pipeline file can't be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Something that trying again won't mend.
    #[error("{server}: {what}")]
    Broken {
        /// Which store.
        server: String,
        /// What happened.
        what: String,
    },
}

/// Why a write is made again, in a word: a bounded set, to be counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The replicas, or the server, did not answer in time.
    WriteTimeout,
    /// Too few replicas are up.
    Unavailable,
    /// The server has too much to do, or the file is in use.
    Overloaded,
    /// There is no connection, or it broke.
    Connection,
    /// A rule of the cluster refuses all writes, or may do.
    Policy,
    /// The disks of the nodes are full.
    DiskFull,
    /// Anything else.
    Other,
}

impl Reason {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::WriteTimeout => "write_timeout",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Connection => "connection",
            Self::Policy => "policy",
            Self::DiskFull => "disk_full",
            Self::Other => "other",
        }
    }
}

impl Classified for StoreError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } => Class::Transient,
            Self::Refused { .. } => Class::Rejected,
            Self::Denied { .. } | Self::Schema { .. } | Self::Secret(_) | Self::Broken { .. } => Class::Fatal,
        }
    }
}

impl StoreError {
    /// Why the same write is to be made again.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unavailable { reason, .. } => *reason,
            _ => Reason::Other,
        }
    }

    /// Why a row was refused by the server, which may quote the row.
    pub(super) fn of_row(&self) -> crate::Reason {
        match self {
            Self::Refused { server, what } => crate::Reason::quoting(what, |what| format!("{server} refuses it: {what}")),
            other => crate::Reason::quoting(&other.to_string(), str::to_owned),
        }
    }
}
