//! Setting partitions back while they are read: a question to the consumer that reads them, and its answer.
//!
//! Guarantee: at most one question lies open; a consumer that takes it answers it, or ends, which is an answer too; one that nobody takes in
//! [`TAKEN_WITHIN`] is withdrawn, and nothing comes of it. Not guaranteed: that a consumer is there to take it.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::offset::{Offset, Partition};
use tokio::sync::oneshot::{Sender, channel};
use tokio::time::timeout;

/// How long a question waits for a consumer that reads.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);
/// How long a consumer may take to answer: it waits for what is in flight, for two commits and for the journal.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// Where partitions are to be read from again, who says so, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBack {
    /// The offset that each partition is to be read from. One that is not before what was read changes nothing.
    pub to: BTreeMap<Partition, Offset>,
    /// For the journal.
    pub by: String,
    /// For the journal.
    pub reason: String,
}

/// Why partitions were not set back. All but [`NotSetBack::Unsure`] have moved nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSetBack {
    /// Nobody takes the question.
    #[error("the consumer does not read now")]
    NotReading,
    /// Another member of the group has the partitions, or none has.
    #[error("not all of the partitions are read by this process: {} not", partitions(.0))]
    Elsewhere(Vec<Partition>),
    /// The table, or the group, is slow or away.
    #[error("what was read before is not written and committed yet")]
    InFlight,
    /// Kafka has removed what was to be read.
    #[error("of partition {partition} kafka holds nothing before offset {begin} any more")]
    Removed {
        /// The partition.
        partition: Partition,
        /// The first offset that Kafka holds.
        begin: Offset,
    },
    /// Kafka can't be asked.
    #[error("{0}")]
    Unanswered(String),
    /// The journal does not keep it.
    #[error("{0}")]
    Journal(String),
    /// Kafka did not confirm it; the consumer asks the group, and goes on where that says.
    #[error("kafka did not confirm it: {0}")]
    Unsure(String),
}

fn partitions(all: &[Partition]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A question, and where its answer goes.
pub(super) struct Question {
    pub(super) set_back: SetBack,
    pub(super) answer: Sender<Result<usize, NotSetBack>>,
}

/// Where questions are laid down and taken up. Clones share it.
#[derive(Clone, Default)]
pub struct Desk(Arc<Mutex<Option<Question>>>);

impl Desk {
    /// Asks the consumer that reads now, and says how many partitions were set back. Only one may ask at a time.
    ///
    /// # Errors
    /// When it can't, or nobody does; see [`NotSetBack`].
    pub async fn ask(&self, set_back: SetBack) -> Result<usize, NotSetBack> {
        let (answer, mut answered) = channel();
        *self.0.lock() = Some(Question { set_back, answer });
        let end = match timeout(TAKEN_WITHIN, &mut answered).await {
            Ok(end) => end,
            Err(_) if self.take().is_some() => return Err(NotSetBack::NotReading),
            Err(_) => match timeout(ANSWERED_WITHIN, answered).await {
                Ok(end) => end,
                Err(_) => return Err(NotSetBack::Unsure(format!("the consumer did not answer in {ANSWERED_WITHIN:?}"))),
            },
        };
        end.unwrap_or_else(|_| Err(NotSetBack::Unsure("the consumer ended over it".to_owned())))
    }

    /// The question that lies open, for whoever can answer it.
    pub(super) fn take(&self) -> Option<Question> {
        self.0.lock().take()
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("open", &self.0.lock().is_some()).finish()
    }
}
