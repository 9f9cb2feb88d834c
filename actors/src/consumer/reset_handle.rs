//! How the API requests an offset reset from the consumer that reads the partitions.
//!
//! Guarantees:
//! * At most one request is pending.
//! * A consumer that accepts a request answers it. When it ends instead, the caller gets
//!   [`ResetError::Unconfirmed`].
//! * A request that no consumer accepts within [`ACCEPT_TIMEOUT`] is withdrawn and has no effect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::offset::{Offset, Partition};
use parking_lot::Mutex;
use tokio::sync::oneshot::{Sender, channel};
use tokio::time::timeout;

/// How long a request waits for a consumer that reads.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a consumer may take to answer. It waits for what is in flight, for two commits and for
/// the journal.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The offsets that partitions are to be read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetRequest {
    /// The offset of each partition. An offset that is not before what was read changes nothing.
    pub to: BTreeMap<Partition, Offset>,
    /// Who requested it, for the journal.
    pub by: String,
    /// Why, for the journal.
    pub reason: String,
}

/// Why offsets were not reset. Only [`ResetError::Unconfirmed`] may have changed something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResetError {
    /// No consumer accepts the request.
    #[error("the consumer is not reading")]
    NotReading,
    /// Other members of the group read the partitions, or nobody does.
    #[error("this process does not read all of the partitions; not assigned: {}", list(.0))]
    NotAssigned(Vec<Partition>),
    /// The table or the group is slow or unavailable.
    #[error("what was read before is not yet written and committed")]
    InFlight,
    /// Kafka has removed the records.
    #[error("kafka no longer holds the offset: partition {partition} starts at {start_offset}")]
    Removed {
        /// The partition.
        partition: Partition,
        /// The first offset that Kafka holds.
        start_offset: Offset,
    },
    /// Kafka does not answer.
    #[error("{0}")]
    Unanswered(String),
    /// The journal can't store the reset.
    #[error("{0}")]
    Journal(String),
    /// Kafka did not confirm the commit. The consumer restarts and continues at the group's
    /// offsets.
    #[error("kafka did not confirm the reset: {0}")]
    Unconfirmed(String),
}

fn list(partitions: &[Partition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A request, and where its answer goes.
pub(super) struct PendingReset {
    pub(super) request: ResetRequest,
    pub(super) answer: Sender<Result<usize, ResetError>>,
}

/// Passes requests to the consumer. Clones share the pending request.
#[derive(Clone, Default)]
pub struct ResetHandle(Arc<Mutex<Option<PendingReset>>>);

impl ResetHandle {
    /// Requests a reset and returns how many partitions were reset. Callers must not overlap.
    ///
    /// # Errors
    /// When the offsets were not reset, or it is not known whether they were.
    pub async fn ask(&self, request: ResetRequest) -> Result<usize, ResetError> {
        let (answer, mut answered) = channel();
        *self.0.lock() = Some(PendingReset { request, answer });
        let end = match timeout(ACCEPT_TIMEOUT, &mut answered).await {
            Ok(end) => end,
            Err(_) if self.take().is_some() => return Err(ResetError::NotReading),
            Err(_) => match timeout(ANSWER_TIMEOUT, answered).await {
                Ok(end) => end,
                Err(_) => return Err(ResetError::Unconfirmed(format!("no answer from the consumer within {ANSWER_TIMEOUT:?}"))),
            },
        };
        end.unwrap_or_else(|_| Err(ResetError::Unconfirmed("the consumer stopped".to_owned())))
    }

    /// Accepts the pending request.
    pub(super) fn take(&self) -> Option<PendingReset> {
        self.0.lock().take()
    }
}

impl std::fmt::Debug for ResetHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResetHandle").field("pending", &self.0.lock().is_some()).finish()
    }
}
