//! Errors of the store, and how each is handled.

use forebay_schemas::error_class::{Class, Classified};
use forebay_schemas::pipeline::{FileError, SecretError};
use thiserror::Error;

/// A failure of the store: which server, what failed, and the remedy.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The server is unreachable, slow or overloaded, or refuses all writes for now. The write may
    /// have taken effect. It is safe to retry.
    #[error("{server}: {message}")]
    Unavailable {
        /// The store.
        server: String,
        /// The message of the server or of the driver.
        message: String,
        /// The reason that retries are counted by.
        reason: RetryReason,
    },
    /// The server will never accept these rows or this query.
    #[error("{server} refused the request: {message}")]
    Refused {
        /// The store.
        server: String,
        /// The reason.
        message: String,
    },
    /// Authentication failed, or the user lacks a permission.
    #[error(
        "{server}: {message}; check cassandra.username, cassandra.password and the permissions of the user, who needs SELECT and MODIFY on the table, and CREATE with create = true"
    )]
    Denied {
        /// The store.
        server: String,
        /// The server's message.
        message: String,
    },
    /// The keyspace or the table does not match the pipeline.
    #[error("{server}: {message}; {remedy}")]
    Schema {
        /// The store.
        server: String,
        /// The difference.
        message: String,
        /// What to change.
        remedy: String,
    },
    /// A secret that the pipeline file refers to can't be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A certificate or key that the pipeline file names can't be used.
    #[error("{_0}; {}", _0.remedy().unwrap_or_default())]
    File(#[from] FileError),
    /// Another failure that a retry can't fix.
    #[error("{server}: {message}")]
    Unrecoverable {
        /// The store.
        server: String,
        /// What failed.
        message: String,
    },
}

/// Why a write is retried. Retries are counted by it, so the set is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// The replicas or the server did not answer in time.
    WriteTimeout,
    /// Too few replicas are up.
    Unavailable,
    /// The server is overloaded, or another process has locked the file.
    Overloaded,
    /// No connection, or a broken one.
    Connection,
    /// The cluster refuses, or may refuse, all writes, for example by a guardrail.
    Policy,
    /// The disk is full.
    DiskFull,
    /// Anything else.
    Other,
}

impl RetryReason {
    /// Returns the value of the metric's label.
    pub fn as_str(self) -> &'static str {
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
            Self::Denied { .. } | Self::Schema { .. } | Self::Secret(_) | Self::File(_) | Self::Unrecoverable { .. } => Class::Fatal,
        }
    }
}

impl StoreError {
    /// Returns why the write is retried.
    pub fn reason(&self) -> RetryReason {
        match self {
            Self::Unavailable { reason, .. } => *reason,
            _ => RetryReason::Other,
        }
    }

    /// Returns the reason for rejecting a row. The server's message may quote the row.
    pub(super) fn row_reason(&self) -> crate::Reason {
        match self {
            Self::Refused { server, message } => crate::Reason::quoting(message, |message| format!("{server} refused the row: {message}")),
            other => crate::Reason::quoting(&other.to_string(), str::to_owned),
        }
    }
}
